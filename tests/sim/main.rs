#![expect(clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]
#![expect(unreachable_pub, reason = "the modules of one test program")]

mod campaign;
mod chaos;
mod cost;
mod dice;
mod disk;
mod faults;
mod invariants;
mod liveness;
mod mutants;
mod plan;
mod replica;
mod report;
mod run;
mod volume;
mod wire;
mod workload;
mod world;

use std::time::Duration;

use campaign::{Budget, campaign};
use faults::Fault;
use mutants::Mutant;
use plan::Plan;
use run::{End, run};

fn seed(seed: u64, mutant: Mutant) -> End {
    run(Plan { mutant, ..Plan::of(seed) })
}

#[test]
#[expect(clippy::disallowed_methods, reason = "which seed is the caller's")]
fn one_seed() {
    let number = std::env::var("NATGW_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0);
    let end = run(Plan { told: true, ..Plan::of(number) });
    if let Some(dir) = std::env::var_os("NATGW_OUT") {
        report::write(std::path::Path::new(&dir), &end).expect("the folder can be written");
    }
    println!("seed {number}: {} steps, {} lives, trace {}, {:?}", end.steps, end.lives, end.trace, end.figures);
    for (fault, fired) in Fault::ALL.iter().zip(&end.fired) {
        if *fired > 0 {
            println!("{} {fired}", fault.id());
        }
    }
    assert!(end.violations.is_empty(), "{:#?}", end.violations);
}

/// A number from the environment: how much is to be done is the caller's choice.
#[expect(clippy::disallowed_methods, reason = "how much is to be done is the caller's")]
fn asked(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{name}={value} is no number")))
}

#[test]
fn no_seed_breaks_an_invariant() {
    let first = asked("NATGW_FIRST_SEED").unwrap_or(0);
    let time = Duration::from_secs(60 * asked("NATGW_MINUTES").unwrap_or(0));
    let report = campaign(Budget { first, seeds: asked("NATGW_SEEDS").unwrap_or(100), time }, Mutant::None);
    report.print();
    assert!(report.failed.is_empty(), "{} seeds failed", report.failed.len());
    assert!(report.torn.is_empty(), "these seeds gave two traces: {:?}", report.torn);
    assert!(report.never().is_empty(), "faults that never struck: {:?}", report.never());
}
