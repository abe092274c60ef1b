//! [memory], and how long the machine thinks about crowds.

use std::time::Instant;

use natgw::machine::state::State;

use crate::LAYOUT;
use crate::report::{Reach, figure};
use crate::world::{COOLDOWN_MS, Cost, Layout, World, mapped};

const BYTES_MAX: f64 = 1_024.0;

/// What the heap gets back when the state goes.
pub fn memory(pods: u32) -> String {
    let freed = |state: State| -allocation_counter::measure(|| drop(state)).bytes_current;
    let bare = freed(World::new(LAYOUT, None).state);
    let all = freed(mapped(pods, None).state);
    println!("memory: {pods} pods of 2 ports: {all} bytes, of which {bare} are there without any pod");
    figure("memory", all as f64 / f64::from(pods), "bytes/pod", None, &Reach::AtMost(BYTES_MAX))
}

/// So many pods at once: until each has its ports.
pub fn arrival(pods: u32) -> String {
    let mut world = World::new(LAYOUT, None);
    let began = Instant::now();
    for n in 0..pods {
        world.come(n);
    }
    let seen = began.elapsed();
    while let Some(event) = world.decide() {
        world.record(event);
    }
    let took = began.elapsed();
    assert_eq!(world.state.allocations().count(), pods as usize);
    world.settle();
    println!(
        "{pods} pods arrive: seen in {seen:.2?}, all decided after {took:.2?}, all mapped after {:.2?}",
        began.elapsed()
    );
    figure("crowds.arrival", took.as_secs_f64() * 1e6 / f64::from(pods), "us/pod", None, &Reach::Told)
}

/// So many pods wait for the ports of as many that are mapped, which then all go at once.
pub fn storm(waiters: u32) -> String {
    let ports = u16::try_from(waiters.div_ceil(10).max(4) * 2).unwrap();
    let full = Layout { gateways: 2, eips: 5, ports };
    let mut world = World::new(full, None);
    let fits = u32::from(full.gateways) * u32::from(full.eips) * u32::from(full.ports) / 2;
    for n in 0..fits + waiters {
        world.come(n);
    }
    world.settle();
    assert_eq!(world.state.allocations().count(), fits as usize);
    (world.cost, world.now_ms) = (Cost::default(), world.now_ms + COOLDOWN_MS);
    let began = Instant::now();
    for n in 0..fits {
        world.go(n);
    }
    world.settle();
    world.now_ms += COOLDOWN_MS;
    while let Some(event) = world.decide() {
        world.record(event);
    }
    let took = began.elapsed();
    assert_eq!(world.state.allocations().count(), waiters.min(fits) as usize);
    println!(
        "{fits} pods go while {waiters} wait: all that waited have ports after {took:.2?}; {} events, {:.1} look-ups each",
        world.cost.events,
        world.cost.touched as f64 / world.cost.events as f64
    );
    figure("crowds.storm", took.as_secs_f64() * 1e6 / f64::from(waiters), "us/waiter", None, &Reach::Told)
}
