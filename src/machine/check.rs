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
//! | `Adopted` | an entry without a mark is an item's exactly where that item's allocation adopted it | it is deleted by id alone once its pod has gone |
//! | `Others` | another controller's PodDNATs are known by their names as long as they belong to no allocation | they decide whether anything is decided |
//! | `Committed` | a table's count of entries equals what is there | whole pods wait by it |

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::machine::event::Event;
use crate::machine::identity::AllocationId;
use crate::machine::state::{Entry, Listed, Phase, Standing, State};

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
    adopted(state, &mut found);
    found
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
        let strays = table.entries.iter().filter(|(_, listed)| matches!(listed, Listed::Stray(_))).count();
        let expected = expected.get(id).copied().unwrap_or(0).saturating_add(u32::try_from(strays).unwrap_or(u32::MAX));
        if table.committed != expected {
            let evidence = format!("{id} counts {} entries, there are {expected}", table.committed);
            found.push(Violation { invariant: "Committed", evidence });
        }
    }
}

fn adopted(state: &State, found: &mut Vec<Violation>) {
    let mut told = BTreeMap::new();
    for (id, allocation) in state.allocations.iter() {
        for (generation, entry) in &allocation.adopted {
            told.insert((allocation.table.clone(), entry.clone()), (*id, *generation));
            if allocation.item(*generation).is_none() {
                let evidence = format!("allocation {id} adopted {entry} for {generation}, which is no item's");
                found.push(Violation { invariant: "Adopted", evidence });
            }
        }
    }
    let kept: BTreeMap<_, _> = state.adopted.iter().map(|(place, item)| (place.clone(), *item)).collect();
    if kept != told {
        found.push(Violation { invariant: "Adopted", evidence: format!("{kept:?} are kept, {told:?} are adopted") });
    }
    for key in state.originals.iter().chain(&state.intruders) {
        let known = state.claims.get(key).is_some_and(|strange| strange.claim.is_none() && !strange.written_by_us);
        if !known || (state.originals.contains(key) && state.intruders.contains(key)) {
            let evidence = format!("{key} counts as another controller's, and is not");
            found.push(Violation { invariant: "Others", evidence });
        }
    }
}
