//! How fast pods become reachable, against the time that the cloud itself takes (design.md §9, [converge]).
//!
//! The whole controller — step, executor, both ports — over the models of cluster and cloud, in virtual time: what is
//! measured is waiting, not computing, so every run gives the same figures on every machine. A call to the cloud takes 50 ms,
//! an entry is Pending for 500 ms, a call to the API server or the journal takes 1 ms.
//!
//! Two shapes: a table that takes eight calls at once, and eight tables that take one each and refuse a second. A first
//! batch teaches the lanes and is told apart; then 500 pods come at once.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "what cannot be measured is a failure")]

#[path = "../tests/cloud_runs/stage.rs"]
mod stage;

use std::collections::BTreeMap;

use natgw::sandbox::vpc::{Behaviour, Faults, LedgerLine, RequestLine};

use self::stage::{CALL_MS, Stage};

const PENDING_MS: u64 = 500;
/// What teaches the lanes, for each table.
const FIRST: u32 = 64;

/// A cloud, and what it is asked for.
struct Shape {
    name: &'static str,
    gateways: u8,
    /// Calls at once on one table.
    at_once: u64,
    behaviour: Behaviour,
    /// Calls an entry at most.
    calls_reach: f64,
}

fn shapes() -> [Shape; 2] {
    let quiet = Behaviour { entry_quota: 10_000, pending_ms: PENDING_MS, ..Behaviour::default() };
    [
        Shape { name: "one", gateways: 1, at_once: 8, behaviour: quiet.clone(), calls_reach: 1.1 },
        // A second creation on a gateway while one is under way is refused.
        Shape {
            name: "eight",
            gateways: 8,
            at_once: 1,
            behaviour: Behaviour { create_conflict_ms: CALL_MS - 1, ..quiet },
            calls_reach: 1.4,
        },
    ]
}

/// How many calls of each action, and how many were refused.
fn calls(requests: &[RequestLine]) -> String {
    let mut counts: BTreeMap<&str, (u32, u32)> = BTreeMap::new();
    for request in requests {
        let (all, refused) = counts.entry(&request.action).or_default();
        *all += 1;
        *refused += u32::from(request.reply.as_ref().is_none_or(|said| said.code.is_some()));
    }
    let words = counts.into_iter().map(|(action, (all, refused))| format!("{action} {all} ({refused} refused)"));
    words.collect::<Vec<_>>().join(", ")
}

/// Lets so many pods stand and waits until all are mapped; how long it took and what was asked of the cloud meanwhile.
fn scale(stage: &mut Stage, pods: u32) -> (u64, Vec<RequestLine>) {
    stage.take_ledger();
    let began_ms = stage.now_ms();
    stage.scale(pods);
    let wanted = usize::try_from(pods).unwrap();
    stage.run_until(|stage| stage.mapped() == wanted);
    let requests = stage.take_ledger().into_iter().filter_map(|line| match line {
        LedgerLine::Request(request) => Some(request),
        LedgerLine::Effect(_) => None,
    });
    (stage.now_ms() - began_ms, requests.collect())
}

fn fullest(stage: &Stage) -> u64 {
    let vpc = stage.vpc.borrow();
    let counts = vpc.world().gateways.iter().map(|gateway| vpc.entries(&gateway.table).count());
    u64::try_from(counts.max().unwrap()).unwrap()
}

fn measure(shape: &Shape, pods: u32) -> [String; 2] {
    let mut stage = Stage::new(shape.gateways, shape.behaviour.clone(), Faults::none(), 1);
    let first = FIRST * u32::from(shape.gateways);
    let (ramp_ms, ramp) = scale(&mut stage, first);
    stage.settle();
    println!("{}: the ramp: {first} pods in {ramp_ms} ms: {}", shape.name, calls(&ramp));
    let before = fullest(&stage);
    let (took_ms, requests) = scale(&mut stage, first + pods);
    let fullest = fullest(&stage) - before;
    let yardstick_ms = fullest * CALL_MS / shape.at_once + PENDING_MS + 2 * CALL_MS;
    #[expect(clippy::cast_precision_loss, reason = "milliseconds of a minute and a thousand calls")]
    let (ratio, calls_an_entry) = (took_ms as f64 / yardstick_ms as f64, requests.len() as f64 / f64::from(pods));
    println!("{}: {pods} pods in {took_ms} ms, the cloud alone {yardstick_ms} ms: {}", shape.name, calls(&requests));
    let word = |value: f64, reach: f64| if value <= reach { "ok" } else { "short" };
    [
        format!("figure converge.{} {took_ms} ms yardstick {yardstick_ms} reach 1.1 {}", shape.name, word(ratio, 1.1)),
        format!(
            "figure converge.{}-calls {calls_an_entry:.3} calls/entry yardstick - reach {} {}",
            shape.name,
            shape.calls_reach,
            word(calls_an_entry, shape.calls_reach)
        ),
    ]
}

fn main() {
    // In test mode it only has to be shown that it can measure.
    let pods = if std::env::args().any(|argument| argument == "--test") { 40 } else { 500 };
    let figures = shapes().map(|shape| measure(&shape, pods));
    for figure in figures.into_iter().flatten() {
        println!("{figure}");
    }
}
