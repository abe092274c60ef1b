//! What follows from the facts and is not yet so: the intents of one subject, recomputed whenever a fact touches it.
//!
//! The order of effects of design.md §5 is this file. Up: claim, entries, status, note on the pod. Down: status and note
//! withdrawn, each entry seen once more and deleted by id, its absence proven, then the claim.

use crate::machine::demand::{Demand, Note, Phase as NotePhase, Remark, WaitReason, Want};
use crate::machine::event::seen::{EDITED_SPEC, EDITED_STATUS, LACKS_SPEC, LACKS_STATUS};
use crate::machine::identity::{AllocationId, PodKey, PodUid, TableId, UidHash};
use crate::machine::intent::Intent;
use crate::machine::state::mapping::SHOWS_ANOTHER_ENTRY;
use crate::machine::state::{
    Allocation, Claim, Entry, Item, Phase, Pod, Published, RefusedClass, Standing, State, StrangeClaim, Table,
};

impl State {
    /// Recomputes what is wanted of an allocation, and what of it the next listing must tell.
    pub(super) fn refresh_allocation(&mut self, id: AllocationId) {
        if self.is_concluded(id) {
            return self.end_allocation(id);
        }
        let Some(allocation) = self.allocations.get(&id) else { return };
        let pod = self.pods.get(&allocation.pod);
        let (quiet, clear) = (self.is_quiet_to(pod, id, allocation), self.is_clear(allocation));
        let lacking = pod.is_some_and(|pod| lacks(allocation, pod));
        let wanted = intents_of(id, allocation, quiet, clear);
        let waits = |item: &Item| (item.generation, awaits(allocation, item, quiet), needs_whole(allocation, item));
        let awaited: Vec<_> = allocation.items.iter().map(waits).collect();
        let (table_id, pod) = (allocation.table.clone(), allocation.pod.clone());
        let awaits_any = awaited.iter().any(|(_, awaits, _)| *awaits);
        let hashed = self.hash_of(id, allocation);
        let partial = allocation.is_partial();
        let Some(allocation) = self.allocations.get_mut(&id) else { return };
        self.digest.replace(allocation.hashed, hashed);
        allocation.hashed = hashed;
        self.agenda.replace(&mut allocation.held, wanted, self.seq);
        // What is missing without being wanted yet waits for a decision.
        let whole = allocation.items_staying().all(|item| matches!(item.entry, Entry::Present { .. }));
        let reserved = matches!(allocation.phase, Phase::Reserved { .. }) && allocation.is_over();
        let done = reserved || (whole && allocation.phase == Phase::Live);
        if allocation.held.is_empty() && !awaits_any && done {
            self.unsettled.remove(&id);
        } else {
            self.unsettled.insert(id);
        }
        let table = self.tables.or_default(table_id.clone());
        if partial {
            table.partial.insert(id);
        } else {
            table.partial.remove(&id);
        }
        for (generation, awaits, whole) in awaited {
            table.put_awaited((id, generation), awaits, whole, self.seq);
        }
        if lacking {
            self.lacking.insert(id);
        } else {
            self.lacking.remove(&id);
        }
        self.refresh_table(&table_id);
        self.refresh_pod(&pod);
        self.refresh_strays_of(id);
        let left = self.allocations.get(&id).filter(|allocation| allocation.has_left());
        if let Some((ip, key)) = left.map(|allocation| (allocation.ip, allocation.key.clone())) {
            self.wake_ip(ip);
            if reserved {
                self.consider_moving(id);
                self.wake_name(&key);
            }
        }
        self.refresh_successor(id);
        // What its predecessors may do depends on what its status shows.
        for predecessor in self.allocations.get(&id).map(|a| a.unusual.predecessors.clone()).unwrap_or_default() {
            self.refresh_allocation(predecessor);
        }
    }

    /// Entries of a successor wait for those that are in their way.
    fn refresh_successor(&mut self, id: AllocationId) {
        let Some(successor) = self.allocations.get(&id).and_then(|allocation| allocation.unusual.successor) else {
            return;
        };
        let Some(allocation) = self.allocations.get(&successor) else { return };
        let (quiet, clear) = (self.is_quiet(successor, allocation), self.is_clear(allocation));
        let wanted = intents_of(successor, allocation, quiet, clear);
        if let Some(allocation) = self.allocations.get_mut(&successor) {
            self.agenda.replace(&mut allocation.held, wanted, self.seq);
        }
    }

    /// Nobody is told of the mapping any more: the status does not show it and the pod's note does not say ready.
    fn is_quiet(&self, id: AllocationId, allocation: &Allocation) -> bool {
        self.is_quiet_to(self.pods.get(&allocation.pod), id, allocation)
    }

    /// The same, with its pod, if that is there.
    fn is_quiet_to(&self, pod: Option<&Pod>, id: AllocationId, allocation: &Allocation) -> bool {
        let says_ready = |pod: &Pod| matches!(pod.noted.phase, NotePhase::Ready | NotePhase::Kept);
        let told = |pod: &Pod| pod.noted_unsure || (says_ready(pod) && pod.noted.allocation == id);
        let shown = match allocation.unusual.successor {
            // The status is the successor's, and shows the earlier entries until it was written or withdrawn.
            Some(successor) => self.allocations.get(&successor).is_some_and(|a| a.published == Published::Unknown),
            None => allocation.published != Published::Nothing,
        };
        !shown && !pod.is_some_and(told)
    }

    /// No earlier entry of the same name may still send to the same address through the same table, where the cloud
    /// would refuse a second one.
    fn is_clear(&self, allocation: &Allocation) -> bool {
        let in_the_way = |earlier: &Allocation| earlier.table == allocation.table && earlier.ip == allocation.ip;
        !allocation.unusual.predecessors.iter().any(|id| self.allocations.get(id).is_some_and(in_the_way))
    }

    pub(super) fn refresh_table(&mut self, id: &TableId) {
        let Some(table) = self.tables.get_mut(id) else { return };
        let wanted = observe(id, table);
        self.agenda.replace(&mut table.held, wanted, self.seq);
    }

    pub(super) fn refresh_claim(&mut self, key: &PodKey) {
        let Some(claim) = self.claims.get_mut(key) else { return };
        let wanted = drop_ghost(key, claim);
        self.agenda.replace(&mut claim.held, wanted, self.seq);
    }

    pub(super) fn refresh_pod(&mut self, uid: &PodUid) {
        let Some(pod) = self.pods.get(uid) else { return };
        let wanted = self.intents_of_pod(uid, pod);
        if wanted == *pod.held {
            return;
        }
        if wanted.iter().any(|intent| matches!(intent, Intent::MarkPod { .. })) {
            self.marking.insert(uid.clone());
        } else {
            self.marking.remove(uid);
        }
        let Some(pod) = self.pods.get_mut(uid) else { return };
        self.agenda.replace(&mut pod.held, wanted, self.seq);
    }

    fn intents_of_pod(&self, uid: &PodUid, pod: &Pod) -> Vec<Intent> {
        let mut wanted = Vec::new();
        let asks = matches!(pod.demand, Demand::On { .. }) && pod.barred.is_none() && pod.grace_ends_ms.is_none();
        // What is mapped moves with its pod, also while the pod asks for something that cannot be.
        let mapped = matches!(pod.standing, Standing::Allocated(_)) && !matches!(pod.demand, Demand::Off);
        if let (Some(ip), true) = (pod.ip, (asks || mapped) && pod.ended.is_none())
            && !matches!(self.addresses.get(&ip), Some(super::Address::Known(_)))
        {
            wanted.push(Intent::Locate { ip, pod: uid.clone() });
        }
        let note = self.note_of(pod);
        if pod.noted_unsure || note != pod.noted {
            wanted.push(Intent::MarkPod { pod: uid.clone(), note });
        }
        wanted
    }

    /// What the pod should say. What was never said is not begun for a passing state.
    fn note_of(&self, pod: &Pod) -> Note {
        let silent = pod.noted == Note::SILENT && !pod.noted_unsure;
        match &pod.standing {
            Standing::Allocated(id) => {
                let allocation = self.allocations.get(id);
                let ready = allocation.is_some_and(|allocation| {
                    allocation.phase == Phase::Live && allocation.published == Published::Content(allocation.revision)
                });
                if allocation.is_some_and(Allocation::is_partial) {
                    return Note { reason: WaitReason::TableFull.number(), ..Note::of(NotePhase::Waiting) };
                }
                let phase = match (ready, &pod.demand) {
                    (true, Demand::Kept | Demand::Refused(_)) => NotePhase::Kept,
                    (true, Demand::On { .. } | Demand::Off) => NotePhase::Ready,
                    (false, _) if silent => return Note::SILENT,
                    (false, _) => NotePhase::Pending,
                };
                let content = allocation.filter(|_| ready).map_or(0, |allocation| allocation.revision);
                let remark = allocation.filter(|_| phase == NotePhase::Ready).and_then(|a| self.remark(pod, a));
                let reason = remark.map_or(0, Remark::number);
                Note { reason, allocation: *id, content, ..Note::of(phase) }
            }
            Standing::Waiting { reason: WaitReason::GatewayNotRead, .. } if silent => Note::SILENT,
            Standing::Waiting { reason, .. } => Note { reason: reason.number(), ..Note::of(NotePhase::Waiting) },
            Standing::Refused(reason) => {
                let content = match &pod.demand {
                    Demand::Refused(refusal) => UidHash::of(&refusal.detail).number(),
                    Demand::Off | Demand::Kept | Demand::On { .. } => 0,
                };
                Note { reason: reason.number(), content, ..Note::of(NotePhase::Refused) }
            }
            Standing::Open if pod.gate && matches!(pod.demand, Demand::Off) => Note::of(NotePhase::NotRequested),
            Standing::Open if silent => Note::SILENT,
            Standing::Open if matches!(pod.demand, Demand::Off) => Note::SILENT,
            Standing::Open => Note::of(NotePhase::Pending),
        }
    }
}

impl State {
    /// What people should know of a mapping that is ready.
    fn remark(&self, pod: &Pod, allocation: &Allocation) -> Option<Remark> {
        let ignored = matches!(pod.demand, Demand::On { fixed: true, .. }) && !self.may_be_fixed(pod);
        match (ignored, allocation.relocated) {
            (true, _) => Some(Remark::FixedIgnored),
            (false, true) => Some(Remark::FixedMoved),
            (false, false) => None,
        }
    }
}

/// The pod asks for ports that the allocation does not have.
fn lacks(allocation: &Allocation, pod: &Pod) -> bool {
    let has = |want: &Want| allocation.items.iter().any(|item| item.want == *want);
    match &pod.demand {
        Demand::On { wants, .. } => !wants.iter().all(has),
        Demand::Off | Demand::Kept | Demand::Refused(_) => false,
    }
}

/// The intents of an allocation. `quiet`: nobody is told of it any more; `clear`: nothing of its name is in the way.
pub(crate) fn intents_of(id: AllocationId, allocation: &Allocation, quiet: bool, clear: bool) -> Vec<Intent> {
    let mut wanted = Vec::new();
    let claimed = allocation.is_claimed();
    let (live, reserved) = (allocation.phase == Phase::Live, matches!(allocation.phase, Phase::Reserved { .. }));
    let written = allocation.claim == Claim::Written(allocation.claim_revision);
    // Whoever undoes it again and again is left alone for a while.
    let may_write = allocation.claim != Claim::Refused && !allocation.claim_deleting && !allocation.yields();
    // A definition that keeps more than the one under which it was written has come, or somebody edited it.
    let otherwise = allocation.lacks & (LACKS_SPEC | EDITED_SPEC) != 0;
    if (live || reserved) && (!written || otherwise) && may_write {
        wanted.push(Intent::WriteClaim { allocation: id, revision: allocation.claim_revision });
    }
    let complete = live && allocation.all_available();
    let content = Published::Content(allocation.revision);
    // What a new leader has not looked for yet may be there: players are not sent away for not knowing.
    let unseen = |item: &&Item| !item.is_leaving() && matches!(item.entry, Entry::Unknown { looked: false, .. });
    let in_doubt = live && allocation.items.iter().any(|item| unseen(&item));
    let shown =
        allocation.published == content && allocation.lacks & (LACKS_STATUS | EDITED_STATUS | SHOWS_ANOTHER_ENTRY) == 0;
    // What the last look did not show may be gone: nobody is told of it anew before the next one.
    let missed = |item: &Item| matches!(item.entry, Entry::Present { missed_ms: Some(_), .. });
    let certain = !allocation.items_staying().any(missed);
    match (complete, allocation.published) {
        (true, _) if claimed && certain && !shown => {
            wanted.push(Intent::Publish { allocation: id, revision: allocation.revision });
        }
        (false, Published::Content(_) | Published::Unknown) if !in_doubt => {
            wanted.push(Intent::Withdraw { allocation: id });
        }
        (true, _) | (false, _) => {}
    }
    for item in &allocation.items {
        wanted.extend(intent_of(id, allocation, item, claimed && clear, quiet));
    }
    let over = allocation.is_over() && allocation.unusual.predecessors.is_empty() && !allocation.is_succeeded();
    if matches!(allocation.phase, Phase::Releasing { .. }) && over && allocation.published == Published::Nothing {
        wanted.push(Intent::ReleaseClaim { allocation: id });
    }
    wanted
}

fn intent_of(id: AllocationId, allocation: &Allocation, item: &Item, may_come: bool, quiet: bool) -> Option<Intent> {
    let table = || allocation.table.clone();
    let generation = item.generation;
    if allocation.removal(item).is_none() {
        let send = matches!(item.entry, Entry::Planned | Entry::Unknown { looked: true, .. });
        return (send && may_come).then(|| Intent::Bind { table: table(), allocation: id, generation });
    }
    match &item.entry {
        Entry::Planned => Some(Intent::Forgo { allocation: id, generation }),
        Entry::Present { id: entry, verified: true, .. } if may_go(allocation, item, quiet) => {
            Some(Intent::Unbind { table: table(), entry: entry.clone() })
        }
        Entry::Unknown { .. }
        | Entry::Refused { .. }
        | Entry::Present { .. }
        | Entry::Deleting { .. }
        | Entry::Gone => None,
    }
}

/// An entry goes only when nobody is told of it any more. An item that the pod dropped is told of until the status
/// shows the content without it.
fn may_go(allocation: &Allocation, item: &Item, quiet: bool) -> bool {
    match allocation.phase {
        Phase::Live => {
            let content = Published::Content(allocation.revision);
            item.is_leaving() && (allocation.published == Published::Nothing || allocation.published == content)
        }
        Phase::Rebinding { .. } | Phase::Reserved { .. } | Phase::Releasing { .. } => quiet,
    }
}

/// Whether the next listing must tell something about an item.
pub(crate) fn awaits(allocation: &Allocation, item: &Item, quiet: bool) -> bool {
    let going = allocation.removal(item).is_some();
    match &item.entry {
        Entry::Unknown { looked, .. } => !looked || going,
        Entry::Refused { class: RefusedClass::Duplicate, looked, .. } => !looked,
        // The cloud deletes nothing that is not in effect yet.
        Entry::Present { verified, available, .. } if going => {
            (!verified || !available) && may_go(allocation, item, quiet)
        }
        Entry::Present { available, missed_ms, .. } => !available || missed_ms.is_some(),
        Entry::Deleting { .. } => true,
        Entry::Planned | Entry::Refused { .. } | Entry::Gone => false,
    }
}

/// Whether only a complete listing tells what is awaited of an item. That an entry is in effect any listing tells.
pub(crate) fn needs_whole(allocation: &Allocation, item: &Item) -> bool {
    let going = allocation.removal(item).is_some();
    match &item.entry {
        Entry::Present { verified, missed_ms, .. } => missed_ms.is_some() || (going && !verified),
        Entry::Unknown { .. } | Entry::Refused { .. } | Entry::Deleting { .. } | Entry::Planned | Entry::Gone => true,
    }
}

/// The intents of a table.
pub(crate) fn observe(id: &TableId, table: &Table) -> Vec<Intent> {
    let unclear = !table.awaited.is_empty() || !table.strays_going.is_empty();
    if unclear { vec![Intent::Observe { table: id.clone() }] } else { Vec::new() }
}

/// The intents of a claim that is not ours.
pub(crate) fn drop_ghost(key: &PodKey, claim: &StrangeClaim) -> Vec<Intent> {
    if claim.ghost { vec![Intent::DropClaim { key: key.clone(), uid: claim.uid.clone() }] } else { Vec::new() }
}

impl State {
    /// The agenda as it would be if it were computed anew, without the events on which the intents rest.
    #[must_use]
    pub fn agenda_recomputed(&self) -> std::collections::BTreeSet<Intent> {
        let allocations = self.allocations.iter().flat_map(|(id, allocation)| {
            intents_of(*id, allocation, self.is_quiet(*id, allocation), self.is_clear(allocation))
        });
        let pods = self.pods.iter().flat_map(|(uid, pod)| self.intents_of_pod(uid, pod));
        let tables = self.tables.iter().flat_map(|(id, table)| observe(id, table));
        let claims = self.claims.iter().flat_map(|(key, claim)| drop_ghost(key, claim));
        let strays = self.tables.iter().flat_map(|(id, table)| {
            table.entries.iter().filter_map(|(entry, listed)| match listed {
                super::Listed::Stray(stray) if self.may_stray_go(stray) => {
                    Some(Intent::Unbind { table: id.clone(), entry: entry.clone() })
                }
                super::Listed::Stray(_) | super::Listed::Ours(..) => None,
            })
        });
        allocations.chain(pods).chain(tables).chain(claims).chain(strays).collect()
    }
}
