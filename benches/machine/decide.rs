//! [decide]: the decisions of a pair in a cluster of 1,000 pods and in one of 100,000.

use std::time::Instant;

use natgw::machine::event::Event;

use crate::Size;
use crate::allocate::Arm;
use crate::report::{Reach, figure, ns, percentile};
use crate::slots::{Dice, Ours, Shape};
use crate::world::{COOLDOWN_MS, Cost, World, mapped};

const P99_US: f64 = 10.0;
const DEARER_MAX: f64 = 1.3;

/// Runs of one churn. They do the same from the first event to the last, so that what one of them took longer than
/// another for the same pair was not the machine's doing: the least of each is told beside the p99 of a run.
const RUNS: usize = 5;

/// What the churn costs in a cluster of so many pods: an event in look-ups and heap allocations, and the decisions of
/// each pair in microseconds.
struct Churned {
    cost: Cost,
    pairs: Vec<f64>,
    event_ns: f64,
}

/// The churn several times over: of each pair the least, beside the p99 of each run alone.
fn repeated(pods: u32, count: u32) -> (Churned, Vec<f64>) {
    let mut least = churn(pods, count);
    let mut alone = vec![percentile(&least.pairs, 99)];
    for _ in 1..RUNS {
        let again = churn(pods, count);
        assert_eq!(again.cost, least.cost, "every run does the same");
        alone.push(percentile(&again.pairs, 99));
        least.event_ns = least.event_ns.min(again.event_ns);
        for (least, again) in least.pairs.iter_mut().zip(again.pairs) {
            *least = least.min(again);
        }
    }
    (least, alone)
}

fn churn(pods: u32, churn: u32) -> Churned {
    let mut world = mapped(pods, None);
    let mut dice = Dice(3);
    world.cost = Cost::default();
    let (mut pairs, mut there) = (Vec::new(), (0..pods).collect::<Vec<_>>());
    let began = Instant::now();
    for n in pods..pods + churn {
        let place = dice.below(there.len());
        world.go(there[place]);
        let release = decided(&mut world, |event| matches!(event, Event::ReleaseDecided(_)));
        world.settle();
        world.now_ms += COOLDOWN_MS;
        world.settle();
        there[place] = n;
        world.come(n);
        let allocation = decided(&mut world, |event| matches!(event, Event::Allocated(_)));
        world.settle();
        pairs.push(release + allocation);
    }
    let event_ns = ns(began.elapsed()) / world.cost.events as f64;
    Churned { cost: world.cost, pairs, event_ns }
}

/// Decides and applies, which is timed, and is the decision that is expected; in microseconds. A profiler finds it by name.
#[inline(never)]
fn decided(world: &mut World, expected: impl Fn(&Event) -> bool) -> f64 {
    let began = Instant::now();
    let event = world.state.decide(world.now_ms).unwrap();
    let deciding = began.elapsed();
    assert!(expected(&event), "{event:?}");
    let record = world.next(event);
    let began = Instant::now();
    world.state.apply(&record).unwrap();
    ns(deciding + began.elapsed()) / 1_000.0
}

pub fn decide(size: &Size) -> Vec<String> {
    let [(small, _), (large, alone)] = size.pods.map(|pods| repeated(pods, size.churn));
    let shape = Shape { eips: 100, ports: 10_000 };
    let mut bare = Arm::new(Box::new(Ours::new(shape)), size.pods[1] as usize * 2, 1);
    let bare: Vec<f64> = (0..size.churn).map(|_| bare.pairs(1) / 1_000.0).collect();
    let an_event = |churned: &Churned, count: u64| count as f64 / churned.cost.events as f64;
    for (pods, churned) in size.pods.into_iter().zip([&small, &large]) {
        println!(
            "decide: {pods} pods: the decisions of a pair {:.2} us, p99 {:.2} us; an event {:.0} ns, {:.1} look-ups, {:.1} heap \
             allocations ({} events)",
            percentile(&churned.pairs, 50),
            percentile(&churned.pairs, 99),
            churned.event_ns,
            an_event(churned, churned.cost.touched),
            an_event(churned, churned.cost.allocations),
            churned.cost.events
        );
    }
    println!("decide: p99 of each run alone, with what else this computer did: {alone:.2?} us");
    println!("decide: the bare allocator {:.2} us, p99 {:.2} us", percentile(&bare, 50), percentile(&bare, 99));
    let dearer = |count: fn(&Cost) -> u64| an_event(&large, count(&large.cost)) / an_event(&small, count(&small.cost));
    let p99 = percentile(&large.pairs, 99);
    vec![
        figure("decide.p99", percentile(&alone, 50), "us", Some(percentile(&bare, 99)), &Reach::AtMost(P99_US)),
        figure("decide.p99.least", p99, "us", None, &Reach::Told),
        figure("decide.median", percentile(&large.pairs, 50), "us", Some(percentile(&bare, 50)), &Reach::Told),
        figure("decide.lookups", dearer(|cost| cost.touched), "times", None, &Reach::AtMost(DEARER_MAX)),
        figure("decide.allocations", dearer(|cost| cost.allocations), "times", None, &Reach::AtMost(DEARER_MAX)),
    ]
}
