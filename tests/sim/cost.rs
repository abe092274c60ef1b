//! The cost of a record follows the change, not the cluster: the same churn in a small and in a large cluster.

use crate::world::{Cost, World};

/// Pods that go and come again in each cluster.
const CHURN: usize = 50;

/// How much dearer a record may be with a hundred times the pods (issue: at most 1.3 times).
const DEARER_MAX: f64 = 1.3;

/// Steps between two looks at whether the world is quiet; the look itself costs the size of the cluster.
const LOOK_EVERY: u64 = 256;

fn until_quiet(world: &mut World) {
    for step in 0..20_000_000_u64 {
        world.step();
        if step.is_multiple_of(LOOK_EVERY) && world.is_quiet() {
            return;
        }
    }
    panic!("no rest: {}", world.unrest());
}

/// What the churn costs when that many pods are mapped.
fn churn(pods: u32) -> Cost {
    let mut world = World::roomy(pods);
    until_quiet(&mut world);
    let mapped = world.model.borrow().poddnats().filter(|object| object.status.entries.len() == 1).count();
    assert_eq!(mapped, pods as usize, "every pod is mapped before the churn");
    let every = mapped / CHURN;
    let keys: Vec<_> = world
        .state()
        .expect("somebody leads")
        .pods()
        .map(|(_, pod)| pod.key().clone())
        .step_by(every)
        .take(CHURN)
        .collect();
    world.cost = Cost::default();
    for key in &keys {
        world.model.borrow_mut().delete_pod(key, Some(0));
    }
    until_quiet(&mut world);
    world.cost
}

#[test]
fn a_record_costs_the_same_in_a_large_cluster() {
    let (small, large) = (churn(100), churn(10_000));
    let per = |count: u64, cost: Cost| count as f64 / cost.records as f64;
    let touched = per(large.touched, large) / per(small.touched, small);
    let allocations = per(large.allocations, large) / per(small.allocations, small);
    println!("100 pods: {small:?}\n10,000 pods: {large:?}");
    println!("a record: look-ups {touched:.2} times, heap allocations {allocations:.2} times");
    assert!(small.records > 100 && large.records > 100, "the churn leaves records");
    assert!(touched <= DEARER_MAX, "look-ups a record: {touched:.2} times");
    assert!(allocations <= DEARER_MAX, "heap allocations a record: {allocations:.2} times");
}
