//! The first simulator: seeds, crashes at every suspension point, lost replies, late effects, stale callers.
//!
//! `NATGW_SEED=n cargo test --test sim one_seed -- --nocapture` repeats one seed and prints how it ended; with
//! `NATGW_RECORD=FILE` it also writes its records, each with its length before it (tests/fixtures were made so).

#![expect(clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]
#![expect(unreachable_pub, reason = "the modules of one test program")]

mod cost;
mod invariants;
mod mutants;
mod world;

use std::collections::BTreeSet;

use natgw::machine::event::{Record, codec};

use invariants::{Checker, converged};
use mutants::Mutant;
use world::World;

const SEEDS: u64 = 200;
const STEPS: u64 = 1_500;
const PODS: usize = 6;

/// Steps in which a calm world must come to rest: twice the late-effect horizon of listings every 15 s, and the pods.
const STEPS_TO_REST: u64 = 60_000;

struct End {
    /// The records until the calm world first came to rest: what is wanted is mapped.
    records: Vec<Record>,
    violations: Vec<(&'static str, String)>,
    trace: blake3::Hash,
    lives: u64,
    steps: u64,
}

fn run(seed: u64, mutant: Mutant) -> End {
    let mut world = World::new(seed, mutant, PODS);
    let mut checker = Checker::default();
    let mut steps = 0;
    while steps < STEPS && checker.violations.is_empty() {
        world.step(&mut checker);
        steps += 1;
    }
    let mut records = Vec::new();
    for want_nothing in [false, true] {
        world.calm();
        if want_nothing {
            world.want_nothing();
        }
        steps += rest(&mut world, &mut checker);
        if !want_nothing {
            records = world.durable.clone();
        }
    }
    let left: Vec<String> = world.model.borrow().poddnats().map(|object| format!("{:?}", object.metadata)).collect();
    if checker.violations.is_empty() && !left.is_empty() {
        checker.violated("NothingLeft", format!("PodDNATs are left when no pod is: {left:#?}"));
    }
    End { records, violations: checker.violations, trace: world.trace.finalize(), lives: world.lives, steps }
}

fn rest(world: &mut World, checker: &mut Checker) -> u64 {
    // Late effects of the time before may still land for 15 minutes, and a resync finds them within 5 more.
    let horizon = world.clock.get() + 21 * 60 * 1_000;
    for step in 0..STEPS_TO_REST {
        if !checker.violations.is_empty() {
            return step;
        }
        if world.is_quiet() && world.clock.get() > horizon {
            converged(world, checker);
            return step;
        }
        world.step(checker);
    }
    let agenda: Vec<_> = world.controller.state().agenda().iter().map(|(intent, _)| format!("{intent:?}")).collect();
    let state = world.controller.state();
    let pods: Vec<_> =
        state.pods().map(|(_, pod)| format!("{} {:?} served {}", pod.key(), pod.standing(), pod.is_served())).collect();
    let unrest = world.unrest();
    let evidence = format!("no rest after {STEPS_TO_REST} steps; {unrest}, agenda {agenda:?}, pods {pods:#?}");
    checker.violated("Converges", evidence);
    STEPS_TO_REST
}

/// The bytes of a fixture: each record with its length in four bytes, little endian, before it.
fn recorded(records: &[Record]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for record in records {
        let record = codec::encode(record).expect("it was encoded before");
        bytes.extend_from_slice(&u32::try_from(record.len()).expect("a record is small").to_le_bytes());
        bytes.extend_from_slice(&record);
    }
    bytes
}

fn assert_clean(seed: u64, end: &End) {
    let again = format!("NATGW_SEED={seed} cargo test --test sim one_seed -- --nocapture");
    assert!(end.violations.is_empty(), "seed {seed}: {:#?}\nrepeat with: {again}", end.violations);
}

#[test]
fn no_seed_breaks_an_invariant() {
    let (mut lives, mut steps) = (0, 0);
    for seed in 0..SEEDS {
        let end = run(seed, Mutant::None);
        assert_clean(seed, &end);
        lives += end.lives;
        steps += end.steps;
    }
    println!("{SEEDS} seeds, {steps} steps, {lives} crashes");
    assert!(lives > SEEDS, "crashes are what this is about: {lives}");
}

#[test]
#[expect(clippy::disallowed_methods, reason = "which seed, and where to, is the caller's")]
fn one_seed() {
    let seed = std::env::var("NATGW_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0);
    let end = run(seed, Mutant::None);
    let kinds: BTreeSet<u16> = end.records.iter().map(|record| record.event.kind()).collect();
    let (steps, records) = (end.steps, end.records.len());
    println!(
        "seed {seed}: {steps} steps, {} crashes, {records} records of {} kinds, trace {}",
        end.lives,
        kinds.len(),
        end.trace
    );
    if let Some(file) = std::env::var_os("NATGW_RECORD") {
        std::fs::write(file, recorded(&end.records)).expect("the file can be written");
    }
    assert_clean(seed, &end);
}

#[test]
fn each_mutant_is_caught_by_its_invariant() {
    for (mutant, invariant) in mutants::ALL {
        let found = (0..SEEDS).find_map(|seed| {
            let end = run(seed, mutant);
            end.violations.first().map(|(name, _)| (seed, *name))
        });
        println!("{mutant:?}: {found:?}");
        assert_eq!(found.map(|(_, name)| name), Some(invariant), "{mutant:?}");
    }
}

#[test]
fn a_seed_run_twice_gives_one_trace() {
    let mut all = blake3::Hasher::new();
    for seed in 0..20 {
        let (one, two) = (run(seed, Mutant::None).trace, run(seed, Mutant::None).trace);
        assert_eq!(one, two, "seed {seed}");
        all.update(one.as_bytes());
    }
    // `.ci/run` compares this line between the profiles.
    println!("\ntraces {}", all.finalize());
}
