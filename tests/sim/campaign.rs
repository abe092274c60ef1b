//! Many seeds, as fast as the machine allows, and what came of them.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::faults::{Fault, NOT_MODELLED};
use crate::invariants::Violation;
use crate::mutants::Mutant;
use crate::plan::Plan;
use crate::run::{End, run};

/// How many seeds to run.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    pub first: u64,
    /// At least so many, also when time is over.
    pub seeds: u64,
    /// And more of them until then.
    pub time: Duration,
}

/// What came of a campaign.
#[derive(Default)]
pub struct Report {
    pub seeds: u64,
    pub steps: u64,
    pub lives: u64,
    pub fired: Vec<u64>,
    pub figures: BTreeMap<&'static str, u64>,
    /// The failing seeds with their first violation.
    pub failed: Vec<(u64, Violation)>,
    /// Seeds run twice, and those whose traces differed.
    pub twice: u64,
    pub torn: Vec<u64>,
    pub took: Duration,
    pub threads: usize,
}

/// One seed in so many is run twice.
const TWICE_EVERY: u64 = 10;

/// Failing seeds after which a campaign stops.
const FAILED_MAX: usize = 12;

/// Runs seeds on all cores until the budget is spent or something fails.
#[expect(clippy::disallowed_methods, reason = "a campaign is given a time; no world reads a clock")]
pub fn campaign(budget: Budget, mutant: Mutant) -> Report {
    let began = Instant::now();
    let next = AtomicU64::new(budget.first);
    let enough = AtomicBool::new(false);
    let report = Mutex::new(Report { fired: vec![0; Fault::ALL.len()], ..Report::default() });
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !enough.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= budget.first + budget.seeds && began.elapsed() >= budget.time {
                        break;
                    }
                    let plan = || Plan { mutant, ..Plan::of(seed) };
                    // A panic is a finding like any other, and its seed is what matters.
                    let Ok(end) = catch_unwind(AssertUnwindSafe(|| run(plan()))) else {
                        let mut report = report.lock().unwrap_or_else(PoisonError::into_inner);
                        report.panicked(seed);
                        continue;
                    };
                    let again = seed.is_multiple_of(TWICE_EVERY).then(|| run(plan()).trace);
                    let mut report = report.lock().unwrap_or_else(PoisonError::into_inner);
                    report.take(seed, end, again);
                    enough.store(report.failed.len() >= FAILED_MAX, Ordering::Relaxed);
                }
            });
        }
    });
    let mut report = report.into_inner().unwrap_or_else(PoisonError::into_inner);
    report.failed.sort_by_key(|(seed, _)| *seed);
    (report.took, report.threads) = (began.elapsed(), threads);
    report
}

impl Report {
    fn take(&mut self, seed: u64, end: End, again: Option<blake3::Hash>) {
        self.seeds += 1;
        self.steps += end.steps;
        self.lives += end.lives;
        for (all, fired) in self.fired.iter_mut().zip(&end.fired) {
            *all += fired;
        }
        for (name, figure) in end.figures {
            let longest = self.figures.entry(name).or_default();
            *longest = figure.max(*longest);
        }
        if let Some(again) = again {
            self.twice += 1;
            self.steps += end.steps;
            if again != end.trace {
                self.torn.push(seed);
            }
        }
        self.failed.extend(end.violations.into_iter().next().map(|violation| (seed, violation)));
    }

    fn panicked(&mut self, seed: u64) {
        let evidence = "it panicked: the message is above".to_owned();
        self.seeds += 1;
        self.failed.push((seed, Violation { invariant: "Panic", evidence, step: 0, at_ms: 0 }));
    }

    /// Faults that never struck.
    pub fn never(&self) -> Vec<Fault> {
        Fault::ALL.iter().zip(&self.fired).filter(|(_, fired)| **fired == 0).map(|(fault, _)| *fault).collect()
    }

    /// For people.
    pub fn print(&self) {
        println!("\n{:>6} {:>10}  fault", "id", "fired");
        for (fault, fired) in Fault::ALL.iter().zip(&self.fired) {
            println!("{:>6} {fired:>10}  {}", fault.id(), fault.sentence());
        }
        for (id, reason) in NOT_MODELLED {
            println!("{id:>6} {:>10}  not modelled: {reason}", "-");
        }
        for (name, figure) in &self.figures {
            println!("{name}: {figure}");
        }
        println!("never struck: {:?}", self.never());
        let seconds = self.took.as_secs_f64();
        println!(
            "{} seeds ({} of them twice), {} steps, {} lives in {seconds:.1} s on {} threads: {:.0} steps a second and core",
            self.seeds,
            self.twice,
            self.steps,
            self.lives,
            self.threads,
            self.steps as f64 / seconds / self.threads as f64
        );
        for (seed, violation) in &self.failed {
            let evidence: String = violation.evidence.chars().take(2_000).collect();
            println!(
                "seed {seed}, step {}, {} ms: {}: {evidence}",
                violation.step, violation.at_ms, violation.invariant
            );
            println!(
                "repeat with: NATGW_SEED={seed} cargo test --no-default-features --test sim one_seed -- --nocapture"
            );
        }
    }
}
