//! What must hold after every event, as data: [`INVARIANTS`]. Each has a mutant in the tests that it catches.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::machine::event::{Event, codec};
use crate::machine::identity::AllocationId;
use crate::machine::state::{Entry, Item, Listed, Phase, Restoring, Standing, State, Timer};

/// Something that must hold after every event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Invariant {
    /// By this name it is told that it does not hold.
    pub name: &'static str,
    /// What holds.
    pub sentence: &'static str,
    /// Why it matters.
    pub why: &'static str,
}

macro_rules! invariants {
    ($($name:literal: $sentence:literal because $why:literal,)*) => {
        /// All of them.
        pub const INVARIANTS: &[Invariant] = &[$(Invariant { name: $name, sentence: $sentence, why: $why },)*];
    };
}

invariants! {
    "OneOwner": "no two allocations hold one external tuple, and each holds its own"
        because "two pods behind one port is the worst that can happen",
    "OneTarget": "no two live allocations send to one internal address and port"
        because "the cloud refuses it, and it means that a pod's traffic reaches another",
    "OneName": "a name has one allocation, and it is the one found by name; a generation likewise"
        because "a PodDNAT is named as its pod, an entry by its generation",
    "InRange": "a port that is given is in the range configured for its EIP, and port 0 never"
        because "the security group was opened for the range",
    "NotFree": "a held port is not free in the bitmaps, a port in range that nobody holds is"
        because "a port given twice, or leaked",
    "Ordered": "who waits for a table's room stands in its queue, at its arrival, and nobody else does"
        because "first come, first served",
    "Agenda": "the agenda kept up event by event equals the one computed anew"
        because "an intent that is missed is a mapping that never comes",
    "Digest": "the digest kept up event by event equals the one computed anew"
        because "replay is judged by it",
    "Partial": "a table knows the allocations of which it took a part"
        because "they go before who waits for its room",
    "Committed": "a table's count of entries equals what is there"
        because "whole pods wait by it",
    "Pending": "the items noted as Pending are those whose entries are there and not in effect"
        because "deletions wait by it",
    "Adopted": "an entry without a mark is an item's exactly where that item's allocation adopted it"
        because "it is deleted by id alone once its pod has gone",
    "Others": "another controller's PodDNATs are known by their names as long as they belong to no allocation"
        because "they decide whether anything is decided",
    "Indexed": "what is found by address, vSwitch or name is what is there"
        because "who is not found is not woken, and what is not taken out is a leak",
    "Timed": "a timer is that of its subject, and a subject that waits for a moment has one"
        because "a rest without a timer is a port that never comes back",
    "Restored": "a snapshot of the state gives the same state again, in everything"
        because "what stands before a snapshot is pruned",
}

/// A broken invariant with its evidence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The invariant's name in [`INVARIANTS`].
    pub invariant: &'static str,
    /// What was found.
    pub evidence: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant, self.evidence)
    }
}

/// Checks all of them but `Restored`, which costs many times as much: [`restored`]. Costs the size of the state.
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
    pending(state, &mut found);
    indexed(state, &mut found);
    timed(state, &mut found);
    adopted(state, &mut found);
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
    let of_allocations = ids.into_iter().flat_map(|id| allocation(state, AllocationId::from(id)));
    of_allocations.chain(outside_the_range(state, event)).collect()
}

/// What was chosen just now is in the range of its EIP. What was read from a claim may have been given before the range
/// changed.
fn outside_the_range(state: &State, event: &Event) -> Vec<Violation> {
    let (id, items) = match event {
        Event::Allocated(body) => (body.allocation, body.items.as_slice()),
        Event::ItemMoved(body) => (body.allocation, std::slice::from_ref(&body.item)),
        Event::ItemsChanged(body) => (body.allocation, body.added.as_slice()),
        _ => return Vec::new(),
    };
    let Some(allocation) = state.allocations.get(&id.into()) else { return Vec::new() };
    let eip = state.gateways.get(&allocation.gateway).and_then(|gateway| gateway.eips.find(allocation.eip));
    let outside = items.iter().filter(|item| eip.is_none_or(|eip| !eip.range.contains(item.external)));
    let told = outside.map(|item| {
        let evidence = format!("{} was given {}:{}", allocation.key, allocation.eip, item.external);
        Violation { invariant: "InRange", evidence }
    });
    told.collect()
}

fn allocation(state: &State, id: AllocationId) -> Vec<Violation> {
    let mut found = Vec::new();
    let Some(allocation) = state.allocations.get(&id) else { return found };
    let mut violated = |invariant, evidence| found.push(Violation { invariant, evidence });
    for item in &allocation.items {
        let tuple = (allocation.eip, item.want.protocol, item.external);
        let owner = state.owners.get(&tuple).copied();
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
        for eip in layout.eips.iter() {
            for protocol in crate::machine::identity::Protocol::ALL {
                for port in eip.range.first..=eip.range.last {
                    let tuple = (eip.address, protocol, port);
                    let held = state.owners.contains_key(&tuple)
                        || state.holds.contains_key(&tuple)
                        || !eip.range.contains(port);
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
                pod.arrival() == Some(*arrival)
                    && matches!(&pod.standing, Standing::Waiting { queue: Some(queue), .. } if queue == table)
            });
            if !stands || !queued.insert(uid) {
                let evidence = format!("pod {uid} stands at {arrival} in the queue of {table}, and does not know it");
                found.push(Violation { invariant: "Ordered", evidence });
            }
        }
    }
    for (uid, pod) in state.pods.iter() {
        if matches!(pod.standing, Standing::Waiting { queue: Some(_), .. }) && !queued.contains(uid) {
            let evidence = format!("pod {uid} waits for room and stands in no queue");
            found.push(Violation { invariant: "Ordered", evidence });
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

fn indexed(state: &State, found: &mut Vec<Violation>) {
    let mut expect = |what: &str, holds: bool| {
        if !holds {
            found.push(Violation { invariant: "Indexed", evidence: what.to_owned() });
        }
    };
    for (id, allocation) in state.allocations.iter() {
        let on = state.by_ip.get(&allocation.ip).is_some_and(|others| others.iter().any(|other| other == id));
        expect(&format!("allocation {id} is not found on {}", allocation.ip), on);
        let within = state.by_vswitch.get(&allocation.place.vswitch).is_some_and(|others| others.contains(id));
        expect(&format!("allocation {id} is not found in {}", allocation.place.vswitch), within);
    }
    for (uid, pod) in state.pods.iter() {
        let named = state.pods_by_name.get(&pod.key).is_some_and(|others| others.iter().any(|other| other == uid));
        expect(&format!("pod {uid} is not found as {}", pod.key), named);
        let on = |ip| state.pods_by_ip.get(&ip).is_some_and(|others| others.iter().any(|other| other == uid));
        expect(&format!("pod {uid} is not found on {:?}", pod.ip), pod.ip.is_none_or(on));
    }
    // All are found; as many as are there means that nobody else is.
    let allocations = state.allocations.len();
    let names = state.allocations.iter().filter(|(_, allocation)| !allocation.is_succeeded()).count();
    let generations: usize = state.allocations.iter().map(|(_, allocation)| allocation.items.len()).sum();
    let addressed = state.pods.iter().filter(|(_, pod)| pod.ip.is_some()).count();
    let count = |sizes: &mut dyn Iterator<Item = usize>| sizes.sum::<usize>();
    for (what, indexed, there) in [
        ("allocations on addresses", count(&mut state.by_ip.iter().map(|(_, ids)| ids.iter().count())), allocations),
        ("allocations in vSwitches", count(&mut state.by_vswitch.iter().map(|(_, ids)| ids.len())), allocations),
        ("names of allocations", state.by_name.len(), names),
        ("generations", state.by_generation.len(), generations),
        ("names of pods", count(&mut state.pods_by_name.iter().map(|(_, uids)| uids.iter().count())), state.pods.len()),
        ("pods on addresses", count(&mut state.pods_by_ip.iter().map(|(_, uids)| uids.iter().count())), addressed),
    ] {
        expect(&format!("{indexed} {what} are indexed, {there} are there"), indexed == there);
    }
    let located = state.addresses.iter().all(|(ip, _)| state.pods_by_ip.contains_key(ip));
    expect("it is known where an address is that no pod has", located);
    let ids = [&state.unsettled, &state.lacking, &state.reserved, &state.homeless];
    let known = ids.into_iter().flatten().all(|id| state.allocations.contains_key(id));
    expect("an allocation is noted that is not there", known);
    let known = state.marking.iter().chain(&state.undecided).all(|uid| state.pods.contains_key(uid));
    expect("a pod is noted that is not there", known);
}

fn timed(state: &State, found: &mut Vec<Violation>) {
    let due_of = |timer: &Timer| match timer {
        Timer::Cooldown(eip, protocol, port) => state.holds.get(&(*eip, *protocol, *port))?.resting_ms,
        Timer::Grace(uid) => state.pods.get(uid)?.grace_ends_ms(),
        Timer::Retry(id) => state.allocations.get(id)?.unusual.retry_ms,
        Timer::Probe(id) => state.tables.get(id)?.probe_ms,
        Timer::Retention(id) => state.allocations.get(id)?.unusual.retention_ms,
        Timer::Rest(id) => state.tables.get(id)?.rests_ms,
        Timer::Contest(id) => state.allocations.get(id)?.unusual.contest_ms,
    };
    let wrong = state.timers.iter().filter(|(due, timer)| due_of(timer) != Some(*due));
    found.extend(wrong.map(|(due, timer)| Violation { invariant: "Timed", evidence: format!("{timer:?} at {due}") }));
    for ((eip, protocol, port), hold) in state.holds.iter() {
        let timer = |due| state.timers.contains(&(due, Timer::Cooldown(*eip, *protocol, *port)));
        if hold.resting_ms.is_some_and(|due| !timer(due)) {
            let evidence = format!("{eip}:{port}/{protocol} rests without end");
            found.push(Violation { invariant: "Timed", evidence });
        }
    }
}

fn pending(state: &State, found: &mut Vec<Violation>) {
    let noted = state.tables.iter().flat_map(|(id, table)| table.pending.iter().map(move |item| (id.clone(), *item)));
    let noted: BTreeSet<_> = noted.collect();
    let is = state.allocations.iter().flat_map(|(id, allocation)| {
        let there = |item: &&Item| matches!(item.entry, Entry::Present { available: false, .. });
        let items = allocation.items.iter().filter(there);
        items.map(move |item| (allocation.table.clone(), (*id, item.generation)))
    });
    for (table, (id, generation)) in noted.symmetric_difference(&is.collect()) {
        let evidence = format!("generation {generation} of allocation {id} is noted as Pending in {table}, or is not");
        found.push(Violation { invariant: "Pending", evidence });
    }
}

fn adopted(state: &State, found: &mut Vec<Violation>) {
    let mut told = BTreeMap::new();
    for (id, allocation) in state.allocations.iter() {
        for (generation, entry) in &allocation.unusual.adopted {
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

#[cfg(test)]
mod tests;
