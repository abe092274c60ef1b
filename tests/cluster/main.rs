//! natgw on a real Kubernetes: etcd, API server, controllers, scheduler and simulated nodes, started here and ended here.
//!
//! `cargo test --test cluster` runs the short tier, `NATGW_TIER=ci` everything. A case has a control plane for itself
//! while it runs; the fuller tier, most of which waits, has several of them. README.md beside this file says what is needed
//! and how to look at a failure.

#![cfg(feature = "adapters")]
#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "what is missing is a failed test")]
#![allow(clippy::disallowed_methods, reason = "tests wait for what others do, by the clock, as the tester asks")]
#![allow(missing_docs, unreachable_pub, reason = "the modules of one test program")]

mod api;
mod asked;
mod children;
mod contract;
mod control_plane;
#[path = "../sandbox/evidence.rs"]
#[allow(dead_code, reason = "the sandbox's tests use the rest")]
mod evidence;
mod exposure;
mod faults;
mod judge;
mod leaders;
mod mappings;
mod migration;
mod okg;
mod on_itself;
mod programs;
mod proxy;
mod rbac;
mod sandbox;
mod workloads;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use libtest_mimic::{Arguments, Completion, Failed, Trial};

use self::control_plane::ControlPlane;
use self::programs::{Missing, Programs};

/// How much is run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// In every `cargo test`.
    Short,
    /// In CI.
    Full,
}

/// What a case needs of the control plane.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// An API server.
    Server,
    /// Deployments that become running pods.
    Controllers,
    /// Controllers, and an API server that may be killed.
    Ours,
}

/// One test.
#[derive(Clone, Copy)]
pub struct Case {
    pub name: &'static str,
    pub tier: Tier,
    pub needs: Needs,
    pub run: fn(&ControlPlane),
}

/// Control planes of the fuller tier, side by side: two cores do not carry more.
const PLANES: usize = 2;

/// What cases run on: a control plane for each that runs at the time, kept for the next. None is started before it is needed.
#[derive(Default)]
struct Stage {
    programs: Mutex<Option<Result<Programs, Absent>>>,
    idle: Mutex<Vec<ControlPlane>>,
}

/// A control plane that a case has for itself. One whose case failed is not used again.
struct Lent<'s> {
    stage: &'s Stage,
    plane: Option<ControlPlane>,
}

/// Why there is no control plane.
#[derive(Clone)]
enum Absent {
    Skip(String),
    Fail(String),
}

fn main() -> ExitCode {
    if let Some(ended) = children::become_one() {
        return ended;
    }
    if let Some(ended) = on_itself::parent() {
        return ended;
    }
    let mut arguments = Arguments::from_args();
    let tier = tier();
    let given = std::env::var_os("NATGW_TEST_KUBECONFIG").is_some_and(|value| !value.is_empty());
    arguments.test_threads = Some(if tier == Tier::Full && !given { PLANES } else { 1 });
    let stage = Arc::new(Stage::default());
    let cases = [
        on_itself::CASES,
        mappings::CASES,
        okg::CASES,
        leaders::CASES,
        asked::CASES,
        faults::CASES,
        rbac::CASES,
        contract::CASES,
        migration::CASES,
        sandbox::CASES,
    ]
    .concat();
    let trials = cases.into_iter().map(|case| {
        let stage = Arc::clone(&stage);
        let trial = Trial::ignorable_test(case.name, move || stage.run(&case));
        trial.with_ignored_flag(case.tier > tier)
    });
    let simulated = Trial::test("contract::simulated", || {
        contract::simulated();
        Ok(())
    });
    let conclusion = libtest_mimic::run(&arguments, trials.chain([simulated]).collect());
    drop(stage);
    conclusion.exit_code()
}

/// A number that the tester gave.
pub fn asked_number(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok().filter(|value| !value.is_empty())?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name}={value} is no number")))
}

/// The fuller tier is `.ci/run`'s.
pub fn tier() -> Tier {
    if std::env::var("NATGW_TIER").is_ok_and(|tier| tier == "ci") { Tier::Full } else { Tier::Short }
}

/// Nothing may be passed over.
fn in_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| value == "true")
}

impl Stage {
    fn run(&self, case: &Case) -> Result<Completion, Failed> {
        let lent = match self.lend() {
            Ok(lent) => lent,
            Err(Absent::Skip(why)) => return Ok(Completion::ignored_with(why)),
            Err(Absent::Fail(why)) => return Err(why.into()),
        };
        let Some(plane) = &lent.plane else { return Err("there is no control plane".into()) };
        match case.needs {
            Needs::Controllers | Needs::Ours if !plane.has_controllers() => {
                return Ok(Completion::ignored_with("this control plane runs no controllers"));
            }
            Needs::Ours if !plane.is_ours() => {
                return Ok(Completion::ignored_with("this control plane is not ours to break"));
            }
            Needs::Server | Needs::Controllers | Needs::Ours => {}
        }
        let began = Instant::now();
        (case.run)(plane);
        println!("{}: {:.1} s", case.name, began.elapsed().as_secs_f64());
        Ok(Completion::Completed)
    }

    fn lend(&self) -> Result<Lent<'_>, Absent> {
        let idle = self.idle.lock().unwrap().pop();
        let plane = match idle {
            Some(plane) => plane,
            None => start(self.programs.lock().unwrap().get_or_insert_with(programs).clone()?)?,
        };
        Ok(Lent { stage: self, plane: Some(plane) })
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        if let Some(plane) = self.plane.take().filter(|_| !std::thread::panicking()) {
            self.stage.idle.lock().unwrap_or_else(PoisonError::into_inner).push(plane);
        }
    }
}

fn programs() -> Result<Programs, Absent> {
    Programs::get().map_err(|missing| match missing {
        Missing::NoGo(how) if !in_ci() => {
            eprintln!("\n!! NOTHING IS TESTED AGAINST A REAL KUBERNETES\n{how}\n");
            Absent::Skip("no Go: see above".to_owned())
        }
        Missing::NoGo(why) | Missing::Broken(why) => Absent::Fail(why),
    })
}

fn start(programs: Programs) -> Result<ControlPlane, Absent> {
    let plane = catch_unwind(AssertUnwindSafe(|| ControlPlane::start(programs))).map_err(|panic| {
        let why = panic.downcast_ref::<String>().cloned();
        Absent::Fail(format!("the control plane does not start: {}", why.unwrap_or_default()))
    })?;
    let (answers, nodes) = plane.started;
    println!(
        "control plane: answers after {:.1} s, takes pods after {:.1} s",
        answers.as_secs_f64(),
        nodes.as_secs_f64()
    );
    Ok(plane)
}
