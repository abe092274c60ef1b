//! One seed from its beginning to its end: a time in which everything may go wrong, then calm, then nothing is wanted.

use std::collections::{BTreeMap, BTreeSet};

use natgw::machine::identity::{AllocationId, Mark, PodKey, Protocol, TableId};
use natgw::sandbox::vpc::Incident;

use crate::faults::Fault;
use crate::invariants::Violation;
use crate::plan::{Plan, RESYNC_MS};
use crate::policy;
use crate::wire::{Call, What};
use crate::world::World;

/// How a seed ended.
pub struct End {
    pub violations: Vec<Violation>,
    pub trace: blake3::Hash,
    pub steps: u64,
    pub lives: u64,
    pub fired: Vec<u64>,
    pub figures: BTreeMap<&'static str, u64>,
    pub world: World,
}

/// Late effects may land for 15 minutes after the last fault, and three resyncs find what they did.
const LATE_MS: u64 = 15 * 60_000;

/// While something may still be late, every table is listed every 15 seconds.
const LISTED_MS: u64 = 20_000;

/// L1: simulated time from calm to convergence. Beside what is late: three resyncs, and for every open intent the bound of
/// its call, its listings and its retries.
const CONVERGENCE_MS: u64 = LATE_MS + 3 * RESYNC_MS + 10 * 60_000;

/// L1: a reservation begins by one replica's wall clock and ends by another's, each up to an hour wrong.
const RETENTION_MAX_MS: u64 = crate::plan::RETENTION_MS + 2 * 60 * 60_000;

/// L1, L2: how long a converged world is watched: nothing changes any more.
const QUIET_MS: u64 = 10 * RESYNC_MS;

/// L2: probes of a table for whose room somebody waits, in that time: one a resync by a clock that is a tenth too fast.
const PROBES_MAX: usize = 12;

/// Steps in which all of that must be over: a world that takes more does not get on.
pub const STEPS_MAX: u64 = 400_000;

/// Runs a plan to its end, or to its first violation.
pub fn run(plan: Plan) -> End {
    let mut world = World::new(plan);
    while world.steps < world.plan.steps && world.checker.violations.is_empty() {
        world.step();
    }
    world.become_calm();
    for want_nothing in [false, true] {
        if want_nothing {
            let model = world.model.clone();
            world.wishes.want_nothing(&mut model.borrow_mut());
        }
        converge(&mut world);
        let_ports_rest(&mut world);
        stay(&mut world);
    }
    nothing_left(&mut world);
    policy::kept(policy::called(&world.ledger));
    count(&mut world);
    let fired = world.outside.faults.borrow().counts().to_vec();
    End {
        violations: world.checker.violations.clone(),
        trace: world.trace.finalize(),
        steps: world.steps,
        lives: world.lives,
        fired,
        figures: world.checker.figures(),
        world,
    }
}

/// L1: a calm world comes to rest, in time. Late effects may still come, and the next resync
/// finds them: rest is only rest afterwards.
pub fn converge(world: &mut World) {
    converge_within(world, LATE_MS + RESYNC_MS, CONVERGENCE_MS);
}

/// L1 in a world in which nothing is late any more: what came late is found by the next listing of its table.
pub fn converge_soon(world: &mut World) {
    converge_within(world, LISTED_MS, CONVERGENCE_MS - LATE_MS);
}

fn converge_within(world: &mut World, from_ms: u64, within_ms: u64) {
    let began_ms = world.now.get();
    let earliest_ms = began_ms + from_ms;
    let from = world.steps;
    // When a reservation was last still to end by itself: what follows from its end takes its time.
    let mut expired_ms = began_ms;
    while world.checker.violations.is_empty() {
        let now = world.now.get();
        let expires = crate::liveness::expires(world);
        if now >= earliest_ms && world.is_quiet() && !expires {
            return rest(world);
        }
        expired_ms = if expires { now } else { expired_ms };
        let bound_ms = if expires { began_ms + RETENTION_MAX_MS } else { expired_ms } + within_ms;
        if now > bound_ms || world.steps > from + STEPS_MAX {
            return endless(world);
        }
        world.step();
    }
}

/// L1 is broken: the world does not come to rest.
pub fn endless(world: &mut World) {
    let evidence = format!("no rest at {} ms, calm since {}; {}", world.now.get(), world.calm_ms, world.unrest());
    let mut checker = std::mem::take(&mut world.checker);
    checker.violated(world, "L1", evidence);
    world.checker = checker;
}

fn rest(world: &mut World) {
    let mut checker = std::mem::take(&mut world.checker);
    checker.rest(world);
    for (id, evidence) in crate::liveness::at_rest(world, &checker.facts) {
        checker.violated(world, id, evidence);
    }
    world.checker = checker;
}

/// What a reservation held when it ended by itself rests first, and then goes to who waits for it.
fn let_ports_rest(world: &mut World) {
    let until = world.now.get() + 2 * world.plan.configuration.settings.cooldown_ms;
    while world.now.get() < until && world.checker.violations.is_empty() {
        world.step();
    }
    converge(world);
}

/// L2: in ten resyncs nothing is changed any more, neither in the cloud nor in the cluster. But where a pod waits for
/// room in a table, one pod is tried there in each resync (design.md §4), with its claim.
pub fn stay(world: &mut World) {
    let (until, from) = (world.now.get() + QUIET_MS, world.calls.len());
    let waiting = crate::liveness::waiting_for_quota(world);
    while world.now.get() < until && world.checker.violations.is_empty() {
        world.step();
        let calls = &world.calls[from..];
        let odd = calls.iter().find(|call| call.what.mutates() && !is_of_probe(&call.what, &waiting));
        let probes = |table| probes_of(calls, table);
        let many = waiting.values().find(|table| probes(table) > PROBES_MAX);
        let evidence = odd.map(|call| format!("at rest, and yet {call:?}"));
        let evidence = evidence.or_else(|| many.map(|table| format!("{table} is probed {} times", probes(table))));
        if let Some(evidence) = evidence {
            let mut checker = std::mem::take(&mut world.checker);
            checker.violated(world, "L2", evidence);
            world.checker = checker;
        }
    }
}

/// Whether a call tries if there is room for who waits, or says that there is not.
fn is_of_probe(what: &What, waiting: &BTreeMap<PodKey, TableId>) -> bool {
    match what {
        What::Create(request) => waiting.values().any(|table| *table == request.table),
        What::CreateClaim(mapping) | What::ReplaceClaim(mapping) => waiting.contains_key(&mapping.key),
        What::Publish(publication) => publication.mapping.is_none() && waiting.contains_key(&publication.key),
        What::DeleteClaim(key, _) | What::StripFinalizer(key) => waiting.contains_key(key),
        What::MarkPod(mark) => waiting.contains_key(&mark.key),
        What::Announce => !waiting.is_empty(),
        What::Delete(_)
        | What::Listed(..)
        | What::PodsListed
        | What::ClaimsListed
        | What::WroteOver(..)
        | What::WroteLease(..) => false,
    }
}

/// How often somebody tried whether a table has room: where several entries of one pod are tried, it is one probe.
fn probes_of(calls: &[Call], table: &TableId) -> usize {
    let mut tried: BTreeMap<AllocationId, (usize, BTreeSet<(u16, Protocol)>)> = BTreeMap::new();
    for call in calls {
        let What::Create(request) = &call.what else { continue };
        let Some(mark) = Mark::parse(&request.name).filter(|_| request.table == *table) else { continue };
        let (times, ports) = tried.entry(mark.allocation).or_default();
        *times += 1;
        ports.insert((request.tuple.internal_port, request.tuple.protocol));
    }
    tried.values().map(|(times, ports)| times.div_ceil(ports.len())).sum()
}

/// L7: when nothing is wanted, nothing of ours is left.
pub fn nothing_left(world: &mut World) {
    let left: Vec<String> = crate::liveness::left(world);
    if world.checker.violations.is_empty() && !left.is_empty() {
        let mut checker = std::mem::take(&mut world.checker);
        checker.violated(world, "L7", format!("nothing is wanted, and there is {left:#?}"));
        world.checker = checker;
    }
}

/// What the cloud's model did by itself, and what followed from the rest.
fn count(world: &mut World) {
    let vpc = world.vpc.borrow();
    let mut faults = world.outside.faults.borrow_mut();
    for (kind, fault) in crate::world::CLOUD_FAULTS {
        faults.happened(fault, vpc.faults().fired(kind));
    }
    faults.happened(Fault::QuotaReached, vpc.happened(Incident::QuotaRefused));
    faults.happened(Fault::TokenMismatch, vpc.happened(Incident::TokenMismatched));
    faults.happened(Fault::TokenForgotten, vpc.happened(Incident::SecondExecution));
}
