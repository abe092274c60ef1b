//! What must hold after every event, as data.
//!
//! | invariant | sentence | why |
//! | --- | --- | --- |
//! | `OneOwner` | no two allocations hold one external tuple, and each holds its own | two pods behind one port is the worst that can happen |
//! | `OneTarget` | no two live allocations send to one internal address | the cloud refuses it, and it means that a pod's traffic reaches another |
//! | `OneName` | a name has one allocation, and it is the one found by name | a PodDNAT is named as its pod |
//! | `InRange` | every given port is in the range that was configured when it was given, and port 0 never | the security group was opened for the range |
//! | `NotFree` | a held port is not free in the bitmaps, a port that nobody holds is | a port given twice, or leaked |
//! | `Ordered` | who waits stands in one queue, at its arrival | first come, first served |
//! | `Agenda` | the agenda kept up event by event equals the one computed anew | an intent that is missed is a mapping that never comes |
//! | `Digest` | the digest kept up event by event equals the one computed anew | replay is judged by it |
//! | `Partial` | a table knows the allocations of which it took a part | they go before who waits for its room |
//! | `Committed` | a table's count of entries equals what is there | whole pods wait by it |
//! | `Restored` | a snapshot of the state gives the same state again, in everything | what stands before a snapshot is pruned |

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::machine::event::{Event, codec};
use crate::machine::identity::AllocationId;
use crate::machine::state::{Entry, Listed, Phase, Restoring, Standing, State};

/// A broken invariant with its evidence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The invariant's name in the table above.
    pub invariant: &'static str,
    /// What was found.
    pub evidence: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant, self.evidence)
    }
}

/// Checks everything. Costs the size of the state.
#[must_use]
pub fn all(state: &State) -> Vec<Violation> {
    let mut found = Vec::new();
    for (id, _) in state.allocations.iter() {
        found.extend(allocation(state, *id));
    }
    targets(state, &mut found);
    bitmaps(state, &mut found);
    queues(state, &mut found);
    derived(state, &mut found);
    committed(state, &mut found);
    found.extend(restored(state));
    found
}

/// Checks that a snapshot, written and read, gives the same state again. Costs the size of the state.
#[must_use]
pub fn restored(state: &State) -> Option<Violation> {
    let violated = |evidence: String| Some(Violation { invariant: "Restored", evidence });
    let mut restoring = Restoring::new();
    for record in state.snapshot() {
        let read = codec::encode(&record).and_then(|bytes| codec::decode(record.seq, &bytes));
        match read {
            Err(error) => return violated(error.to_string()),
            Ok(read) => {
                if let Err(illegal) = restoring.take(&read) {
                    return violated(illegal.to_string());
                }
            }
        }
    }
    match restoring.finish() {
        Err(illegal) => violated(illegal.to_string()),
        Ok(again) => difference(&state.image(), &again.image()).and_then(violated),
    }
}

/// Where two texts part, with what is around.
fn difference(before: &str, after: &str) -> Option<String> {
    /// Bytes shown before and after the place.
    const AROUND: usize = 100;
    if before == after {
        return None;
    }
    let at = before.bytes().zip(after.bytes()).take_while(|(before, after)| before == after).count();
    let around = |text: &str| {
        let bytes = text.as_bytes().get(at.saturating_sub(AROUND)..).unwrap_or_default();
        String::from_utf8_lossy(bytes.get(..bytes.len().min(2 * AROUND)).unwrap_or_default()).into_owned()
    };
    Some(format!("…{}… was restored as …{}…", around(before), around(after)))
}

/// Checks what an event touched. Costs what the event touched.
#[must_use]
pub fn touched(state: &State, event: &Event) -> Vec<Violation> {
    let ids = match event {
        Event::Allocated(body) | Event::Recovered(body) | Event::Adopted(body) => vec![body.allocation],
        Event::Regenerated(body) => vec![body.allocation],
        Event::ItemMoved(body) => vec![body.allocation],
        Event::ItemsChanged(body) => vec![body.allocation],
        Event::EntryCreated(body) => vec![body.allocation],
        Event::ReleaseDecided(body) => vec![body.allocation],
        Event::RebindDecided(body) => vec![body.allocation],
        Event::Reserved(body) => vec![body.allocation],
        Event::FixedBound(body) => vec![body.allocation],
        Event::FixedMoved(body) => vec![body.from],
        _ => Vec::new(),
    };
    ids.into_iter().flat_map(|id| allocation(state, AllocationId::from(id))).collect()
}

fn allocation(state: &State, id: AllocationId) -> Vec<Violation> {
    let mut found = Vec::new();
    let Some(allocation) = state.allocations.get(&id) else { return found };
    let mut violated = |invariant, evidence| found.push(Violation { invariant, evidence });
    for item in &allocation.items {
        let tuple = (allocation.eip, item.want.protocol, item.external);
        let owner = state.holds.get(&tuple).and_then(|hold| hold.owner);
        if owner != Some(id) {
            violated("OneOwner", format!("{} of allocation {id} is held by {owner:?}", allocation.tuple(item)));
        }
        if item.external == 0 {
            violated("InRange", format!("allocation {id} was given port 0"));
        }
        if state.by_generation.get(&item.generation) != Some(&id) {
            violated("OneName", format!("generation {} of allocation {id} is not found by itself", item.generation));
        }
    }
    if !allocation.is_succeeded() && state.by_name.get(&allocation.key) != Some(&id) {
        violated("OneName", format!("{} is not found as allocation {id}", allocation.key));
    }
    found
}

fn targets(state: &State, found: &mut Vec<Violation>) {
    let mut seen = BTreeMap::new();
    let live = state.allocations.iter().filter(|(_, allocation)| allocation.phase == Phase::Live);
    for (id, allocation) in live {
        for item in allocation.items.iter().filter(|item| item.entry != Entry::Gone) {
            if let Some(other) = seen.insert((allocation.ip, item.want), id) {
                let evidence = format!("{} is the target of allocations {other} and {id}", allocation.tuple(item));
                found.push(Violation { invariant: "OneTarget", evidence });
            }
        }
    }
}

fn bitmaps(state: &State, found: &mut Vec<Violation>) {
    for (gateway, layout) in state.gateways.iter() {
        for eip in &layout.eips {
            for protocol in crate::machine::identity::Protocol::ALL {
                for port in eip.range.first..=eip.range.last {
                    let held = state.holds.contains_key(&(eip.address, protocol, port)) || !eip.range.contains(port);
                    if eip.ports(protocol).is_free(port) == held {
                        let evidence =
                            format!("{gateway} {}:{port}/{protocol} held {held}, free {}", eip.address, !held);
                        found.push(Violation { invariant: "NotFree", evidence });
                    }
                }
            }
        }
    }
}

fn queues(state: &State, found: &mut Vec<Violation>) {
    let mut queued = BTreeSet::new();
    for (table, body) in state.tables.iter() {
        for (arrival, uid) in &body.queue {
            let pod = state.pods.get(uid);
            let stands = pod.is_some_and(|pod| {
                pod.arrival == Some(*arrival)
                    && matches!(&pod.standing, Standing::Waiting { queue: Some(queue), .. } if queue == table)
            });
            if !stands || !queued.insert(uid) {
                let evidence = format!("pod {uid} stands at {arrival} in the queue of {table}, and does not know it");
                found.push(Violation { invariant: "Ordered", evidence });
            }
        }
    }
}

fn derived(state: &State, found: &mut Vec<Violation>) {
    let kept: BTreeSet<_> = state.agenda.iter().map(|(intent, _)| intent.clone()).collect();
    let anew = state.agenda_recomputed();
    for intent in kept.symmetric_difference(&anew) {
        let evidence =
            format!("{intent:?} is {}", if kept.contains(intent) { "there for no reason" } else { "missing" });
        found.push(Violation { invariant: "Agenda", evidence });
    }
    if state.digest() != state.digest_recomputed() {
        let evidence = "the digest kept up differs from the one computed anew".to_owned();
        found.push(Violation { invariant: "Digest", evidence });
    }
}

fn committed(state: &State, found: &mut Vec<Violation>) {
    let mut expected: BTreeMap<_, u32> = state.tables.iter().map(|(id, _)| (id.clone(), 0)).collect();
    for (_, allocation) in state.allocations.iter() {
        let there = allocation.items.iter().filter(|item| item.entry != Entry::Gone).count();
        *expected.entry(allocation.table.clone()).or_default() += u32::try_from(there).unwrap_or(u32::MAX);
    }
    for (id, table) in state.tables.iter() {
        let parts = state.allocations.iter().filter(|(_, known)| known.table == *id && known.is_partial());
        let parts: BTreeSet<AllocationId> = parts.map(|(known, _)| *known).collect();
        if table.partial != parts {
            let evidence = format!("{id} took a part of {:?}, it is {parts:?}", table.partial);
            found.push(Violation { invariant: "Partial", evidence });
        }
        let strays = table.entries.iter().filter(|(_, listed)| matches!(listed, Listed::Stray(_))).count();
        let expected = expected.get(id).copied().unwrap_or(0).saturating_add(u32::try_from(strays).unwrap_or(u32::MAX));
        if table.committed != expected {
            let evidence = format!("{id} counts {} entries, there are {expected}", table.committed);
            found.push(Violation { invariant: "Committed", evidence });
        }
    }
}
