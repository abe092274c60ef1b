//! The whole controller in worlds in which everything goes wrong: see README.md beside this file.

#![expect(clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]
#![expect(unreachable_pub, reason = "the modules of one test program")]

mod campaign;
mod chaos;
mod cost;
mod crash_points;
mod dice;
mod disk;
mod faults;
mod invariants;
mod liveness;
mod mutants;
mod oracles;
mod original;
mod plan;
#[allow(dead_code, reason = "shared by the suites that have a simulated cloud")]
#[path = "../policy/mod.rs"]
mod policy;
mod replica;
mod report;
mod run;
mod scenarios;
mod shrink;
mod volume;
mod wire;
mod workload;
mod world;

use std::path::PathBuf;
use std::time::Duration;

use natgw::sandbox::vpc::Trouble;

use campaign::{Budget, Report, campaign};
use crash_points::{Beside, enumerate};
use faults::Fault;
use mutants::Mutant;
use plan::Plan;
use run::run;

/// Seeds of `cargo test`; in the fuller tier more, and as many as there is time for.
const SEEDS: u64 = 100;
const SEEDS_IN_CI: u64 = 300;

/// Seeds that once failed, each with what it found: they are run first, for good.
const CORPUS: &str = include_str!("seeds.txt");

/// What the caller asks for: how much is to be done, and which seed.
#[expect(clippy::disallowed_methods, reason = "how much is to be done is the caller's")]
fn asked(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn number(name: &str) -> Option<u64> {
    asked(name).map(|value| value.parse().unwrap_or_else(|_| panic!("{name}={value} is no number")))
}

/// The fuller tier: `.ci/run` and `tests/sim/long` ask for it.
fn in_ci() -> bool {
    asked("NATGW_TIER").is_some_and(|tier| tier == "ci")
}

/// The plan that the environment describes: a seed, and what shrinking took away.
fn asked_plan() -> Plan {
    let plan = Plan::of(number("NATGW_SEED").unwrap_or(0));
    let plan = match asked("NATGW_SETTING") {
        None => plan,
        Some(name) => {
            let setting = oracles::Setting::ALL.into_iter().find(|(known, _)| *known == name);
            setting.unwrap_or_else(|| panic!("there is no setting {name}")).1.of(plan)
        }
    };
    let mut without = plan.without.clone();
    for id in asked("NATGW_WITHOUT").iter().flat_map(|ids| ids.split(',')) {
        let fault = Fault::ALL.iter().find(|fault| fault.id() == id);
        without.push(*fault.unwrap_or_else(|| panic!("there is no fault {id}")));
    }
    let steps = number("NATGW_STEPS").unwrap_or(plan.steps);
    Plan { steps, wishes_until: number("NATGW_WISHES").unwrap_or(plan.wishes_until), without, told: true, ..plan }
}

/// Where what is left of a failure goes.
fn folder(seed: u64) -> PathBuf {
    let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    asked("NATGW_OUT").map_or_else(|| target.join(format!("sim-seed-{seed}")), PathBuf::from)
}

/// Makes the first failing seed smaller, writes down what happened, and says how to repeat it.
fn explain(report: &Report) {
    let Some((seed, violation)) = report.failed.first() else { return };
    let (plan, end) = shrink::shrink(&Plan::of(*seed), violation.invariant);
    let dir = folder(*seed);
    match report::write(&dir, &end) {
        Ok(()) => println!("everything about it is in {}", dir.display()),
        Err(error) => println!("what is left of it could not be written to {}: {error}", dir.display()),
    }
    println!("repeat with: {}", shrink::command(&plan));
}

#[test]
fn one_seed() {
    let plan = asked_plan();
    let seed = plan.seed;
    let end = run(plan);
    println!("seed {seed}: {} steps, {} lives, trace {}, {:?}", end.steps, end.lives, end.trace, end.figures);
    for (fault, fired) in Fault::ALL.iter().zip(&end.fired).filter(|(_, fired)| **fired > 0) {
        println!("{:>6} {fired:>6}  {}", fault.id(), fault.sentence());
    }
    if asked("NATGW_OUT").is_some() || !end.violations.is_empty() {
        report::write(&folder(seed), &end).expect("the folder can be written");
        println!("everything about it is in {}", folder(seed).display());
    }
    assert!(end.violations.is_empty(), "{:#?}", end.violations);
}

#[test]
fn no_seed_breaks_an_invariant() {
    let minutes = number("NATGW_MINUTES").unwrap_or(0);
    let seeds = number("NATGW_SEEDS").unwrap_or_else(|| if in_ci() { SEEDS_IN_CI } else { SEEDS });
    let first = number("NATGW_FIRST_SEED").unwrap_or(0);
    let report = campaign(Budget { first, seeds, time: Duration::from_secs(60 * minutes) }, Mutant::None);
    report.print();
    explain(&report);
    assert!(report.failed.is_empty(), "{} seeds failed", report.failed.len());
    assert!(report.torn.is_empty(), "these seeds gave two traces: {:?}", report.torn);
    if report.seeds >= SEEDS_IN_CI {
        assert!(report.never().is_empty(), "faults that never struck: {:?}", report.never());
    }
}

#[test]
fn no_seed_that_once_failed_does_so_again() {
    for line in CORPUS.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let seed = line.split_whitespace().next().and_then(|seed| seed.parse().ok());
        let seed: u64 = seed.unwrap_or_else(|| panic!("{line:?} does not begin with a seed"));
        let end = run(Plan::of(seed));
        assert!(end.violations.is_empty(), "{line}: {:#?}", end.violations.first());
    }
}

#[test]
fn each_mutant_is_caught_by_its_invariant() {
    println!("\n| mutant | caught by | seed |\n| --- | --- | --- |");
    for (mutant, invariants) in mutants::ALL {
        // In a world that does what it must not, more than one thing breaks: one seed must break what the mutant is for.
        let found = mutants::hunt(*mutant, invariants);
        let named = found.iter().find(|(_, broken)| invariants.contains(broken));
        println!("| {mutant:?} | {} | {} |", named.map_or("-", |(_, by)| by), named.map_or(0, |(seed, _)| *seed));
        assert!(named.is_some(), "{mutant:?}: {found:?}, none of them {invariants:?}");
    }
}

/// A fault that is planted in one seed of a hundred is reported as one: who finds nothing must be able to find something.
#[test]
fn the_canary_sings() {
    let report = campaign(Budget { first: 90, seeds: 20, time: Duration::ZERO }, Mutant::Canary);
    let failed: Vec<_> = report.failed.iter().map(|(seed, violation)| (*seed, violation.invariant)).collect();
    assert_eq!(failed, [(99, "Canary")]);
}

#[test]
fn a_crash_at_any_point_is_survived() {
    let every = if in_ci() { 1 } else { 16 };
    let tally = enumerate(every, Beside::Nothing);
    println!("{} crash points of {} workloads, {} steps", tally.points, crash_points::WORKLOADS.len(), tally.steps);
    assert!(tally.failed.is_empty(), "{:#?}", &tally.failed[..tally.failed.len().min(3)]);
    let pairs = number("NATGW_PAIRS_EVERY").unwrap_or_else(|| if in_ci() { 8 } else { 64 });
    for beside in [Beside::LostReplies, Beside::StaleReads] {
        let tally = enumerate(pairs, beside);
        println!("{} crash points beside {beside:?}, {} steps", tally.points, tally.steps);
        assert!(tally.failed.is_empty(), "{:#?}", &tally.failed[..tally.failed.len().min(3)]);
    }
}

#[test]
fn faults_do_not_change_the_end() {
    let seeds = if in_ci() { 60 } else { 15 };
    let (same, different): (Vec<_>, Vec<_>) = (0..seeds).map(oracles::differential).partition(Result::is_ok);
    assert!(different.is_empty(), "{different:#?}");
    let compared: usize = same.into_iter().flatten().sum();
    println!("{compared} pods of {seeds} seeds compared");
    assert!(compared >= seeds as usize, "{compared} pods of {seeds} seeds are too few to say anything");
}

#[test]
fn what_takes_no_mapping_away_makes_none_again() {
    let seeds = if in_ci() { 60 } else { 15 };
    let (once, again): (Vec<_>, Vec<_>) = (0..seeds).map(oracles::made_once).partition(Result::is_ok);
    assert!(again.is_empty(), "{again:#?}");
    let made: usize = once.into_iter().flatten().sum();
    println!("{made} creations in {seeds} seeds, none of them a second one");
    assert!(made >= 10 * seeds as usize, "{made} creations in {seeds} seeds are too few to say anything");
}

#[test]
fn the_end_does_not_depend_on_the_way() {
    let walks = if in_ci() { 200 } else { 40 };
    let different: Vec<String> = (0..walks).filter_map(|seed| oracles::walk(seed).err()).collect();
    assert!(different.is_empty(), "{different:#?}");
}

#[test]
fn a_stuck_gateway_delays_no_other() {
    for trouble in [Trouble::Silence, Trouble::Busy, Trouble::Unavailable] {
        let took: Vec<u64> =
            (0..10).map(|seed| scenarios::stuck_gateway(seed, trouble).expect("mapped in time")).collect();
        println!("{trouble:?}: mapped within {} ms of simulated time", took.iter().max().expect("some"));
    }
}

#[test]
fn another_leader_is_at_work_in_time() {
    let took: Vec<u64> = (0..40).map(|seed| scenarios::failover(seed).expect("in time")).collect();
    println!("the first effect within {} ms of simulated time", took.iter().max().expect("some"));
}

#[test]
fn a_seed_run_twice_gives_one_trace() {
    let mut all = blake3::Hasher::new();
    for seed in 0..20 {
        let (one, two) = (run(Plan::of(seed)).trace, run(Plan::of(seed)).trace);
        assert_eq!(one, two, "seed {seed}");
        all.update(one.as_bytes());
    }
    // `.ci/run` compares this line between the profiles.
    println!("\ntraces {}", all.finalize());
}
