//! A failing seed made smaller: fewer steps, fewer faults, fewer wishes, as long as it fails in the same way.

use crate::faults::Fault;
use crate::plan::Plan;
use crate::run::{End, run};

/// Runs that shrinking may take.
const RUNS_MAX: u32 = 120;

/// The smallest plan found that still breaks the same invariant, and how it ends.
pub fn shrink(plan: &Plan, invariant: &str) -> (Plan, End) {
    let mut runs = 0;
    let mut fails = |plan: &Plan| {
        runs += 1;
        let end = run(Plan { told: true, ..plan.clone() });
        let same = end.violations.first().is_some_and(|violation| violation.invariant == invariant);
        (runs < RUNS_MAX && same).then_some(end)
    };
    let mut best = Plan { told: true, ..plan.clone() };
    let mut end = run(best.clone());
    let broken = end.violations.first().map_or(best.steps, |violation| violation.step);
    let mut attempt = |candidate: Plan, best: &mut Plan, end: &mut End| {
        let Some(shorter) = fails(&candidate) else { return false };
        (*best, *end) = (candidate, shorter);
        true
    };
    // What breaks in the calm may need less of the time before.
    let mut cut = best.steps.min(broken);
    while cut > 0 {
        let steps = best.steps.saturating_sub(cut);
        if steps == best.steps || !attempt(Plan { steps, ..best.clone() }, &mut best, &mut end) {
            cut /= 2;
        }
    }
    for fault in Fault::ALL {
        if !best.without.contains(fault) && end.fired[*fault as usize] > 0 {
            let mut without = best.without.clone();
            without.push(*fault);
            attempt(Plan { without, ..best.clone() }, &mut best, &mut end);
        }
    }
    let mut until = best.wishes_until.min(best.steps);
    while until > 0 {
        until /= 2;
        if !attempt(Plan { wishes_until: until, ..best.clone() }, &mut best, &mut end) {
            break;
        }
    }
    (best, end)
}

/// The one command that repeats a plan.
pub fn command(plan: &Plan) -> String {
    let ids: Vec<&str> = plan.without.iter().map(|fault| fault.id()).collect();
    format!(
        "NATGW_SEED={} NATGW_STEPS={} NATGW_WISHES={} NATGW_WITHOUT={} cargo test --no-default-features --test sim one_seed -- --nocapture",
        plan.seed,
        plan.steps,
        plan.wishes_until,
        ids.join(",")
    )
}
