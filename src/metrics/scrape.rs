//! The numbers of one moment, read from the controller.
//!
//! One pass over pods and allocations, which names nothing: counts by word. The rest is as long as there are gateways,
//! EIPs and tables.

use std::collections::BTreeMap;

use super::Sources;
use super::encode::{Family, Kind, Sample, Value};
use super::tally::{APPEND_BUCKETS_MS, Flights, Tally};
use crate::cloud::meter::{BUCKETS_MS, Series, Snapshot};
use crate::controller::step::Controller;
use crate::machine::demand::{HaltReason, WaitReason};
use crate::machine::identity::Protocol;
use crate::machine::pool::{Eip, Range};
use crate::machine::state::{Allocation, Standing, State};

/// The word for an allocation all of whose entries are published.
const READY: &str = "Ready";

/// Families without the journal's size, which is measured where the text is made.
#[derive(Debug)]
pub(super) struct Scrape(Vec<Family>);

impl Scrape {
    pub(super) fn of(controller: &Controller, tally: &Tally, sources: &Sources) -> Self {
        let state = controller.state();
        let mut families = standing(controller, sources);
        // Another replica's journal ends where it led last: its numbers would be added to the leader's, and be wrong.
        if controller.leads() {
            families.extend(kept(controller, sources));
            families.extend(capacity(state));
            families.extend(tables(state));
            families.extend(pods(state));
            families.extend(allocations(state, tally));
        }
        families.extend(flights(tally));
        families.extend(calls(&sources.calls.snapshot()));
        families.extend(journal(state, tally));
        Self(families)
    }

    pub(super) fn families(self) -> Vec<Family> {
        self.0
    }
}

fn standing(controller: &Controller, sources: &Sources) -> Vec<Family> {
    let Sources { clock, timing, .. } = sources;
    // What may start ends a call's time before the deadline, which is counted from the last renewal.
    let renewed = controller
        .acts_until_ms()
        .map(|until| until.saturating_add(timing.call_timeout_ms()).saturating_sub(timing.renew_deadline_ms));
    let age = renewed.map(|renewed| seconds(clock.elapsed_ms().saturating_sub(renewed)));
    let version = Sample::of([("version", env!("CARGO_PKG_VERSION"))], Value::Number(1.0));
    vec![
        Family { samples: vec![version], ..Family::gauge("natgw_build_info") },
        Family::gauge("natgw_leader").one(flag(controller.leads())),
        Family::gauge("natgw_term").one(number(controller.state().term())),
        Family::gauge("natgw_lease_renew_age_seconds").maybe(age),
        Family::gauge("natgw_settled").one(flag(controller.is_settled())),
    ]
}

fn capacity(state: &State) -> Vec<Family> {
    let mut ports = Family::gauge("natgw_ports");
    let mut free = Family::gauge("natgw_ports_free");
    let mut usable = Family::gauge("natgw_eip_usable");
    let mut available = Family::gauge("natgw_gateway_available");
    for (id, gateway) in state.gateways() {
        available.push([("gateway", id.as_str())], flag(gateway.is_available()));
        for eip in gateway.eips() {
            let address = eip.address.to_string();
            usable.push([("gateway", id.as_str()), ("eip", &address)], flag(eip.usable));
            for protocol in Protocol::ALL {
                let labels = [("gateway", id.as_str()), ("eip", &address), ("protocol", protocol.as_str())];
                ports.push(labels, f64::from(size(&eip.range)));
                free.push(labels, f64::from(free_ports(eip, protocol)));
            }
        }
    }
    vec![ports, free, usable, available]
}

/// Ports of an EIP that cannot be used are not to be had.
const fn free_ports(eip: &Eip, protocol: Protocol) -> u32 {
    if eip.usable { eip.ports(protocol).free() } else { 0 }
}

/// Ports of a range without what is excluded, which may overlap.
pub(super) fn size(range: &Range) -> u32 {
    let (mut next, mut size) = (u32::from(range.first), 0);
    let mut excluded = range.excluded.clone();
    excluded.retain(|(first, last)| first <= last);
    excluded.sort_unstable();
    let end = u32::from(range.last).saturating_add(1);
    for (first, last) in excluded {
        let (first, past) = (u32::from(first).clamp(next, end.max(next)), u32::from(last).saturating_add(1).min(end));
        size += first.saturating_sub(next);
        next = next.max(past);
    }
    size + end.saturating_sub(next)
}

fn tables(state: &State) -> Vec<Family> {
    let mut entries = Family::gauge("natgw_table_entries");
    let mut limit = Family::gauge("natgw_table_limit");
    let mut queue = Family::gauge("natgw_table_queue");
    let mut open = Family::gauge("natgw_table_open");
    for (id, table) in state.tables() {
        let labels = [("table", id.as_str())];
        entries.push(labels, f64::from(table.entries()));
        if let Some(most) = table.limit() {
            limit.push(labels, f64::from(most));
        }
        queue.push(labels, count(table.queue_length()));
        open.push(labels, flag(table.is_open()));
    }
    vec![entries, limit, queue, open]
}

fn pods(state: &State) -> Vec<Family> {
    let mut standings: BTreeMap<&str, u64> = ["allocated", "open", "refused", "waiting"].map(|word| (word, 0)).into();
    let (mut waiting, mut refused) = (BTreeMap::new(), BTreeMap::new());
    for (_, pod) in state.pods().filter(|(_, pod)| pod.has_asked()) {
        let word = match pod.standing() {
            Standing::Allocated(_) => "allocated",
            Standing::Open => "open",
            Standing::Refused(reason) => {
                add(refused.entry(reason.word()).or_default());
                "refused"
            }
            Standing::Waiting { reason, .. } => {
                add(waiting.entry(reason.word()).or_default());
                "waiting"
            }
        };
        add(standings.entry(word).or_default());
    }
    let by_others = [WaitReason::OtherController, WaitReason::NotAdopted];
    let others = by_others.iter().filter_map(|reason| waiting.get(reason.word())).sum();
    let halted = HaltReason::ALL.iter().map(|reason| (reason.word(), u64::from(state.halted() == Some(*reason))));
    vec![
        Family::gauge("natgw_pods").by("standing", &standings),
        Family::gauge("natgw_pods_waiting").by("reason", &waiting),
        Family::gauge("natgw_pods_refused").by("reason", &refused),
        Family::gauge("natgw_other_controller_pods").one(number(others)),
        Family::gauge("natgw_decisions_halted").by("reason", &halted.collect::<BTreeMap<_, _>>()),
    ]
}

fn allocations(state: &State, tally: &Tally) -> Vec<Family> {
    let mut states: BTreeMap<&str, u64> = [(READY, 0)].into();
    let mut contested = 0;
    for (_, allocation) in state.allocations() {
        if allocation.is_contested() {
            add(&mut contested);
        }
        add(states.entry(word(allocation)).or_default());
    }
    vec![
        Family::gauge("natgw_allocations").by("state", &states),
        Family::gauge("natgw_contested_allocations").one(number(contested)),
        Family::gauge("natgw_intents").one(count(state.agenda().len())),
        Family::gauge("natgw_exposed_allocations").one(count(tally.exposure.exposed())),
        Family::gauge("natgw_exposure_bound_seconds").one(seconds(tally.exposure.longest_ms())),
    ]
}

/// What people read of an allocation.
pub(super) fn word(allocation: &Allocation) -> &'static str {
    if allocation.is_live() && allocation.is_published() { READY } else { allocation.words().0 }
}

fn flights(tally: &Tally) -> Vec<Family> {
    let started = |flights: &BTreeMap<&'static str, Flights>| -> BTreeMap<&'static str, u64> {
        flights.iter().map(|(word, flights)| (*word, flights.started)).collect()
    };
    let under_way = |flights: &BTreeMap<&'static str, Flights>| -> BTreeMap<&'static str, u64> {
        flights.iter().map(|(word, flights)| (*word, flights.started.saturating_sub(flights.ended))).collect()
    };
    vec![
        Family::counter("natgw_effects").by("kind", &started(&tally.effects)),
        Family::gauge("natgw_effects_in_flight").by("kind", &under_way(&tally.effects)),
        Family::counter("natgw_listings").by("what", &started(&tally.listings)),
        Family::gauge("natgw_listings_in_flight").by("what", &under_way(&tally.listings)),
    ]
}

fn calls(snapshot: &Snapshot) -> Vec<Family> {
    let mut total = Family::counter("natgw_cloud_calls");
    let mut took = Family { kind: Kind::Histogram, ..Family::gauge("natgw_cloud_call_seconds") };
    for ((action, class), series) in snapshot {
        let labels = [("action", *action), ("class", *class)];
        let Series { count, total: sum, buckets } = series;
        total.push(labels, number(*count));
        let value =
            Value::Histogram { sum: sum.as_secs_f64(), count: *count, buckets: with_bounds(&BUCKETS_MS, buckets) };
        took.samples.push(Sample::of(labels, value));
    }
    vec![total, took]
}

fn journal(state: &State, tally: &Tally) -> Vec<Family> {
    let appends = &tally.appends;
    let took = Value::Histogram {
        sum: appends.seconds,
        count: appends.count,
        buckets: with_bounds(&APPEND_BUCKETS_MS, &appends.buckets),
    };
    vec![
        Family::counter("natgw_records").by("event", &tally.records),
        Family::counter("natgw_rebased").one(number(tally.rebased)),
        Family::gauge("natgw_journal_head").one(number(tally.head.unwrap_or_else(|| state.seq()))),
        Family {
            kind: Kind::Histogram,
            samples: vec![Sample::of([], took)],
            ..Family::gauge("natgw_journal_append_seconds")
        },
    ]
}

/// How the journal is kept, as it was when it was last looked at.
fn kept(controller: &Controller, sources: &Sources) -> Vec<Family> {
    let Some((keeping, kept)) = controller.keeping().and_then(|keeping| Some((keeping, keeping.kept()?))) else {
        return Vec::new();
    };
    let newest = kept.snapshots.last();
    let age_ms = newest.map(|newest| sources.clock.now().wall_ms.saturating_sub(newest.wall_ms));
    let age = age_ms.map(|ms| seconds(u64::try_from(ms).unwrap_or(0)));
    vec![
        Family::gauge("natgw_journal_snapshot_age_seconds").maybe(age),
        Family::gauge("natgw_journal_snapshots").one(count(kept.snapshots.len())),
        Family::gauge("natgw_journal_pruned_records").one(number(kept.first.saturating_sub(1))),
        Family::gauge("natgw_journal_free_bytes").maybe(kept.room.map(|(free, _)| number(free))),
        Family::gauge("natgw_journal_floor_bytes").maybe(kept.room.map(|(_, floor)| number(floor))),
        Family::gauge("natgw_journal_short").one(flag(controller.state().is_short())),
        Family::counter("natgw_journal_keep_failures").one(number(keeping.failures())),
    ]
}

fn with_bounds(bounds_ms: &[u64], buckets: &[u64]) -> Vec<(f64, u64)> {
    let bounds = bounds_ms.iter().map(|bound| seconds(*bound)).chain([f64::INFINITY]);
    bounds.zip(buckets.iter().copied()).collect()
}

const fn add(count: &mut u64) {
    *count = count.saturating_add(1);
}

const fn flag(is_set: bool) -> f64 {
    if is_set { 1.0 } else { 0.0 }
}

#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53, and a number for people beyond")]
pub(super) const fn number(value: u64) -> f64 {
    value as f64
}

#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53, and a number for people beyond")]
const fn count(value: usize) -> f64 {
    value as f64
}

fn seconds(ms: u64) -> f64 {
    number(ms) / 1_000.0
}
