//! Every business choice. `decide` reads the state and the time, and answers with at most one decision about one
//! subject; folding the decision brings the subject back until nothing is left to decide.
//!
//! Nothing is decided before pods and claims have been read in this term, and nothing about a table before that table
//! has been (the barrier, design.md §6).

mod admission;
mod fixed;
mod others;
mod recovery;
mod repair;

use crate::machine::decide::others::decide_contest;
use crate::machine::decide::recovery::Remnant;
use crate::machine::demand::{Demand, RefusalReason, ReleaseReason, WaitReason, bounded};
use crate::machine::event::{Event, decided, timer};
use crate::machine::identity::{AllocationId, EntryId, PodKey, PodUid, Stamp, TableId};
use crate::machine::state::{Listed, Phase, Pod, Standing, State, Subject, Timer};

impl State {
    /// The next decision that is due, if any. The caller makes it a record, folds it, and asks again.
    ///
    /// A subject about which nothing is to be decided leaves the work list.
    pub fn decide(&mut self, now_ms: u64) -> Option<Event> {
        if let Some((due, timer)) = self.timers.first()
            && *due <= now_ms
        {
            return Some(expiry(timer));
        }
        if !self.cluster_read || self.settings.is_none() {
            return None;
        }
        if let Some(event) = self.decide_halt() {
            return Some(event);
        }
        if self.halted.is_some() {
            return self.decide_halted();
        }
        while let Some(subject) = self.worklist.first().cloned() {
            if let Some(event) = self.decide_about(&subject) {
                return Some(event);
            }
            self.worklist.remove(&subject);
        }
        None
    }

    /// Whether a decision may be due now.
    #[must_use]
    pub fn is_undecided(&self, now_ms: u64) -> bool {
        let timer = self.timers.first().is_some_and(|(due, _)| *due <= now_ms);
        let left = if self.halted.is_some() { self.waits_to_be_told() } else { !self.worklist.is_empty() };
        timer || (self.cluster_read && self.settings.is_some() && left)
    }

    fn decide_about(&self, subject: &Subject) -> Option<Event> {
        match subject {
            Subject::Claim(key) => self.decide_claim(key),
            Subject::Allocation(id) => self.decide_allocation(*id),
            Subject::Stray(table, entry) => self.decide_stray(table, entry),
            Subject::Queue(table) => self.decide_queue(table),
            Subject::Pod(_, uid) => self.decide_pod(uid),
        }
    }

    /// A claim that belongs to no allocation: without history it gives the state back, otherwise it is a left-over. One
    /// whose annotation cannot be read is a left-over where natgw wrote it; any other is somebody else's and stays.
    fn decide_claim(&self, key: &PodKey) -> Option<Event> {
        let strange = self.claims.get(key).filter(|strange| !strange.ghost)?;
        let ghost = || {
            Event::GhostDecided(decided::GhostDecided {
                namespace: key.namespace().to_owned(),
                name: key.name().to_owned(),
                uid: strange.uid.as_ref().to_owned(),
            })
        };
        let Some(claim) = &strange.claim else {
            if self.adopts()
                && let Some(event) = self.decide_original(key, strange)
            {
                return Some(event);
            }
            // Its table may show that what it names is there.
            let unread = self.adopts() && self.rebuilding && !self.is_readable(strange);
            if unread {
                return None;
            }
            if self.is_anothers(key, strange) {
                // Who wrote it is no longer there to take its finalizer off.
                let left = self.adopts() && strange.deleting && !self.intruders.contains(key);
                return (left && self.is_readable(strange)).then(ghost);
            }
            // What entries of it are left may be its pod's mapping, and the claim is then that one's.
            return (!self.has_remnant(key)).then(ghost);
        };
        if self.rebuilding {
            if self.awaits_entries(claim) || self.is_contradicted(claim) {
                return None;
            }
            if let Some(recovered) = self.recover(key, strange) {
                return Some(Event::Recovered(recovered));
            }
            // What cannot be believed may yet be: another table can show its entries.
            if !self.is_all_read() {
                return None;
            }
        }
        let held_by_us = self.by_name.get(key).is_some_and(|id| <(u64, u64)>::from(*id) == claim.allocation);
        (!held_by_us).then(ghost)
    }

    fn decide_allocation(&self, id: AllocationId) -> Option<Event> {
        let allocation = self.allocations.get(&id)?;
        match allocation.phase {
            Phase::Releasing { .. } => return self.decide_successor(allocation),
            Phase::Reserved { .. } => return self.decide_reserved(id, allocation),
            Phase::Live | Phase::Rebinding { .. } => {}
        }
        let release = |reason| Some(release(id, reason));
        let Some(pod) = self.pods.get(&allocation.pod) else {
            return Some(self.reserve_or_release(id, allocation, ReleaseReason::PodGone));
        };
        if let Some(reason) = pod.ended {
            return Some(self.reserve_or_release(id, allocation, reason));
        }
        match &pod.demand {
            Demand::Off => return release(ReleaseReason::Disabled),
            // A typing mistake must not cut players off: what is mapped stays until it is switched off.
            Demand::Kept | Demand::Refused(_) | Demand::On { .. } => {}
        }
        if allocation.claim_deleting && pod.grace_ends_ms.is_none() {
            return release(ReleaseReason::ClaimDeleted);
        }
        if (self.homeless.contains(&id) || matches!(allocation.phase, Phase::Rebinding { .. }))
            && let Some(event) = self.decide_homeless(id, allocation, pod)
        {
            return Some(event);
        }
        if let Phase::Rebinding { .. } = allocation.phase {
            return self.rebind(id, allocation, pod);
        }
        if let Some(ip) = pod.ip.filter(|ip| *ip != allocation.ip) {
            return Some(Event::RebindDecided(decided::RebindDecided { allocation: id.into(), ip }));
        }
        if let Some(event) = decide_contest(id, allocation) {
            return Some(event);
        }
        if !self.is_open(&allocation.table) {
            return None;
        }
        self.decide_items(id, allocation, pod)
    }

    /// An entry with our mark that stands for nothing goes. With `repairPolicy: observe` it stays while its allocation
    /// lives, and is only reported.
    fn decide_stray(&self, table_id: &TableId, entry: &EntryId) -> Option<Event> {
        let table = self.tables.get(table_id).filter(|table| table.open)?;
        let Some(Listed::Stray(stray)) = table.entries.get(entry) else { return None };
        if self.remnants.contains(&(table_id.clone(), entry.clone())) {
            match self.decide_remnant(table_id, stray) {
                Remnant::Recovered(recovered) => return Some(Event::Recovered(*recovered)),
                Remnant::Open => return None,
                Remnant::Nobodys => {}
            }
        }
        let repair = self.settings.as_ref().is_some_and(|settings| settings.repair);
        let lives = || {
            let mark = crate::machine::identity::Mark::parse(&stray.name);
            mark.is_some_and(|mark| self.allocations.contains_key(&mark.allocation))
        };
        (stray.marked && !stray.stale && (repair || !lives())).then(|| {
            Event::StaleDecided(decided::StaleDecided {
                table: table_id.as_str().to_owned(),
                entry: entry.as_str().to_owned(),
            })
        })
    }

    fn decide_pod(&self, uid: &PodUid) -> Option<Event> {
        let pod = self.pods.get(uid)?;
        let event = match (&pod.standing, &pod.demand, pod.barred) {
            (Standing::Allocated(_), _, _) => None,
            (_, _, Some(reason)) if matches!(pod.demand, Demand::On { .. }) => Some(refusal(uid, reason, "")),
            (_, Demand::Refused(refused), _) => Some(refusal(uid, refused.reason, &refused.detail)),
            (_, Demand::On { wants, fixed }, _) => self.decide_demand(uid, pod, wants, *fixed),
            (_, Demand::Off | Demand::Kept, _) => None,
        };
        event.filter(|event| !says_again(pod, event))
    }

    pub(super) fn next_allocation(&self) -> AllocationId {
        Stamp { term: self.term, n: self.allocations_decided.saturating_add(1) }.into()
    }

    /// The n-th generation from now, from 0.
    pub(super) fn next_generation(&self, ahead: usize) -> (u64, u64) {
        let ahead = u64::try_from(ahead).unwrap_or(u64::MAX).saturating_add(1);
        (self.term, self.generations_decided.saturating_add(ahead))
    }
}

fn expiry(timer: &Timer) -> Event {
    match timer {
        Timer::Cooldown(eip, protocol, port) => {
            Event::CooldownEnded(timer::CooldownEnded { eip: *eip, protocol: protocol.number(), port: *port })
        }
        Timer::Grace(pod) => Event::GraceEnded(timer::GraceEnded { pod: pod.as_str().to_owned() }),
        Timer::Retry(allocation) => Event::RetryDue(timer::RetryDue { allocation: (*allocation).into() }),
        Timer::Probe(table) => Event::ProbeDue(timer::ProbeDue { table: table.as_str().to_owned() }),
        Timer::Retention(allocation) => {
            Event::RetentionEnded(timer::RetentionEnded { allocation: (*allocation).into() })
        }
        Timer::Contest(allocation) => Event::ContestEnded(timer::ContestEnded { allocation: (*allocation).into() }),
        Timer::Rest(table) => Event::TableRested(timer::TableRested { table: table.as_str().to_owned() }),
    }
}

fn release(id: AllocationId, reason: ReleaseReason) -> Event {
    Event::ReleaseDecided(decided::ReleaseDecided { allocation: id.into(), reason: reason.number() })
}

fn refusal(uid: &PodUid, reason: RefusalReason, detail: &str) -> Event {
    let (pod, detail) = (uid.as_str().to_owned(), bounded(detail));
    Event::Refused(decided::Refused { pod, reason: reason.number(), detail })
}

fn wait(uid: &PodUid, reason: WaitReason, queue: Option<&TableId>, entries: usize) -> Event {
    Event::Waited(decided::Waited {
        pod: uid.as_str().to_owned(),
        table: queue.map(|table| table.as_str().to_owned()),
        reason: reason.number(),
        entries: u16::try_from(entries).unwrap_or(u16::MAX),
    })
}

/// Whether a decision would only repeat how the pod stands.
fn says_again(pod: &Pod, event: &Event) -> bool {
    match (&pod.standing, event) {
        (Standing::Waiting { reason, queue }, Event::Waited(body)) => {
            body.reason == reason.number() && body.table.as_deref() == queue.as_ref().map(TableId::as_str)
        }
        (Standing::Refused(reason), Event::Refused(body)) => body.reason == reason.number(),
        _ => false,
    }
}
