//! The one way in: a record is legal here or history has been tampered with.

use crate::machine::demand::ReleaseReason;
use crate::machine::event::{Event, Record, decided, timer};
use crate::machine::identity::{PodUid, TERM_MAX, TableId, protocol_of};
use crate::machine::state::{Claim, Entry, Item, Phase, Published, RefusedClass, State, Subject, Timer};

/// Why a history does not take what a snapshot holds.
const OF_A_SNAPSHOT: &str = "it belongs to a snapshot";

/// A record that the machine could not have produced here. The history is not ours or not whole: stop.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("event {seq} ({name}) is illegal here, so nothing after it can be trusted: {reason}")]
pub struct IllegalEvent {
    /// The record.
    pub seq: u64,
    /// The event.
    pub name: &'static str,
    /// What is wrong.
    pub reason: &'static str,
}

impl State {
    /// Folds one record.
    ///
    /// # Errors
    /// Fails when the record does not follow: its number, term or time, or what it speaks of. The state is then void.
    pub fn apply(&mut self, record: &Record) -> Result<(), IllegalEvent> {
        let illegal = |reason| IllegalEvent { seq: record.seq, name: record.event.name(), reason };
        self.frame(record).map_err(illegal)?;
        self.fold(&record.event).map_err(illegal)
    }

    fn frame(&mut self, record: &Record) -> Result<(), &'static str> {
        if self.seq.checked_add(1) != Some(record.seq) {
            return Err("its number does not follow");
        }
        if record.machine_ms < self.machine_ms {
            return Err("its machine time goes back");
        }
        match &record.event {
            Event::TermStarted(started) if started.term != record.term || record.term <= self.term => {
                return Err("its term does not rise");
            }
            Event::TermStarted(_) if record.term > TERM_MAX => return Err("its term is too high to be counted"),
            Event::TermStarted(_) => {}
            _ if record.term != self.term => return Err("its term is not the current one"),
            _ => {}
        }
        self.seq = record.seq;
        self.machine_ms = record.machine_ms;
        self.wall_ms = record.wall_ms;
        Ok(())
    }

    fn fold(&mut self, event: &Event) -> Result<(), &'static str> {
        match event {
            Event::Configured(body) => self.configured(body),
            Event::PoolConfigured(body) => self.pool_configured(body),
            Event::TermStarted(body) => self.term_started(body.term),
            Event::Rebased(body) => self.rebased(body.anew),
            Event::ClusterRead(_) => self.cluster_read(),
            Event::TableOpened(body) => self.table_opened(&body.table.as_str().into()),
            Event::DigestTaken(body) if body.version != super::DIGEST_VERSION => {}
            Event::DigestTaken(body) => self.compare(&body.digest)?,
            Event::SnapshotBegun(_) | Event::SnapshotEnded(_) | Event::Kept(_) => return Err(OF_A_SNAPSHOT),

            Event::PodSeen(body) => self.pod_seen(body),
            Event::PodGone(body) => self.pod_gone(&body.uid.as_str().into()),
            Event::ClaimSeen(body) => self.claim_seen(body),
            Event::ClaimGone(body) => self.claim_gone(body),
            Event::GatewaySeen(body) => self.gateway_seen(body),
            Event::GatewayGone(body) => self.gateway_gone(&body.gateway.as_str().into()),
            Event::RouteSeen(body) => self.route_seen(body),
            Event::AddressSeen(body) => self.address_seen(body),
            Event::AddressMissing(body) => self.address_missing(body.ip),
            Event::EntrySeen(body) => self.entry_seen(body),
            Event::EntryVanished(body) => self.entry_vanished(&body.table.as_str().into(), &body.entry.as_str().into()),
            Event::EntriesMissed(body) => self.entries_missed(body),
            Event::TableListed(body) => self.table_listed(body),
            Event::TableGone(body) => self.table_gone(&body.table.as_str().into()),
            Event::RoomSeen(body) => self.room_seen(body.short),

            Event::Allocated(body) => self.allocated(body, super::allocations::Origin::Decided)?,
            Event::Recovered(body) => self.allocated(body, super::allocations::Origin::Claimed)?,
            Event::Adopted(body) => self.allocated(body, super::allocations::Origin::Adopted)?,
            Event::Waited(body) => self.waited(body)?,
            Event::Refused(body) => self.refused(body)?,
            Event::ReleaseDecided(body) => self.release(body)?,
            Event::RebindDecided(body) => self.rebind_decided(body.allocation.into())?,
            Event::Regenerated(body) => self.regenerated(body)?,
            Event::ItemMoved(body) => self.item_moved(body)?,
            Event::ItemsChanged(body) => self.items_changed(body)?,
            Event::StaleDecided(body) => {
                self.stale_decided(&body.table.as_str().into(), &body.entry.as_str().into())?
            }
            Event::GhostDecided(body) => self.ghost_decided(body)?,
            Event::QuotaLearned(body) => self.quota_learned(&body.table.as_str().into(), body.entries),
            Event::Reserved(body) => self.reserved(body)?,
            Event::FixedBound(body) => self.fixed_bound(body)?,
            Event::FixedMoved(body) => self.fixed_moved(body)?,
            Event::Superseded(_) => return Err("this build does not decide it; use a newer natgw"),
            Event::Halted(_)
            | Event::Resumed(_)
            | Event::Contested(_)
            | Event::ClaimWritten(_)
            | Event::ClaimRefused(_)
            | Event::ClaimReleased(_)
            | Event::StatusWritten(_)
            | Event::StatusWithdrawn(_)
            | Event::StatusUnknown(_)
            | Event::PodMarked(_)
            | Event::MarkUnknown(_)
            | Event::EntryCreated(_)
            | Event::EntryRefused(_)
            | Event::EntryUnknown(_)
            | Event::EntryNeverSent(_)
            | Event::EntryDeleted(_)
            | Event::DeleteUnknown(_)
            | Event::CooldownEnded(_)
            | Event::GraceEnded(_)
            | Event::RetryDue(_)
            | Event::ProbeDue(_)
            | Event::RetentionEnded(_)
            | Event::TableRested(_)
            | Event::ContestEnded(_) => self.fold_outcome(event)?,
        }
        Ok(())
    }

    fn release(&mut self, body: &decided::ReleaseDecided) -> Result<(), &'static str> {
        let reason = ReleaseReason::from_number(body.reason).ok_or("its reason is unknown")?;
        self.release_decided(body.allocation.into(), reason)
    }

    /// With room again everybody who waits for it is looked at.
    fn room_seen(&mut self, short: bool) {
        if std::mem::replace(&mut self.short, short) && !short {
            self.worklist.extend(self.tables.iter().map(|(id, _)| Subject::Queue(id.clone())));
            self.worklist.extend(self.lacking.iter().copied().map(Subject::Allocation));
            self.wake_undecided();
        }
    }

    fn compare(&self, digest: &[u8; 32]) -> Result<(), &'static str> {
        if *digest == self.digest() { Ok(()) } else { Err("its digest is not the state's") }
    }

    fn fold_outcome(&mut self, event: &Event) -> Result<(), &'static str> {
        match event {
            Event::Halted(body) => self.halted_at(body)?,
            Event::Resumed(_) => self.resumed()?,
            Event::Contested(body) => self.contested(body)?,
            Event::ClaimWritten(body) => self.claim_written(body),
            Event::ClaimRefused(body) => self.claim_refused(body.allocation.into()),
            Event::ClaimReleased(body) => self.claim_released(body.allocation.into())?,
            Event::StatusWritten(body) => self.published(body.allocation.into(), Published::Content(body.revision)),
            Event::StatusWithdrawn(body) => self.published(body.allocation.into(), Published::Nothing),
            Event::StatusUnknown(body) => self.published(body.allocation.into(), Published::Unknown),
            Event::PodMarked(body) => self.pod_marked(body)?,
            Event::MarkUnknown(body) => self.mark_unknown(&body.pod.as_str().into()),
            Event::EntryCreated(body) => self.entry_created(body),
            Event::EntryRefused(body) => self.entry_refused(body)?,
            Event::EntryUnknown(body) => self.entry_unknown(body),
            Event::EntryNeverSent(body) => self.entry_never_sent(body.allocation.into(), body.generation.into()),
            Event::EntryDeleted(body) => {
                self.delete_ended(&body.table.as_str().into(), &body.entry.as_str().into(), true);
            }
            Event::DeleteUnknown(body) => {
                self.delete_ended(&body.table.as_str().into(), &body.entry.as_str().into(), false);
            }
            Event::CooldownEnded(body) => self.cooldown_ended(body)?,
            Event::GraceEnded(body) => self.grace_ended(&body.pod.as_str().into()),
            Event::RetryDue(body) => self.retry_due(body.allocation.into()),
            Event::ProbeDue(body) => self.probe_due(&body.table.as_str().into()),
            Event::RetentionEnded(body) => self.retention_ended(body.allocation.into()),
            Event::TableRested(body) => self.table_rested(&body.table.as_str().into()),
            Event::ContestEnded(body) => self.contest_ended(body.allocation.into()),
            _ => return Err("it is not an outcome, a timer or a stop"),
        }
        Ok(())
    }

    fn cluster_read(&mut self) {
        self.cluster_read = true;
        self.wake_originals();
        self.end_rebuild();
    }

    /// What this journal knew is not what became of it: others decided meanwhile. Only the frame stays; everything else
    /// is read anew and rebuilt from claims and entries (design.md §6).
    fn rebased(&mut self, anew: bool) {
        if !anew {
            self.rebuilding = true;
            return;
        }
        let before = std::mem::take(self);
        let Self { seq, term, machine_ms, wall_ms, term_seen, mut agenda, .. } = before;
        agenda.clear();
        *self = Self { seq, term, machine_ms, wall_ms, term_seen, agenda, ..Self::default() };
        (self.rebuilding, self.forgetful) = (true, true);
    }

    fn term_started(&mut self, term: u64) {
        self.term = term;
        self.term_seen = self.term_seen.max(term);
        self.cluster_read = false;
        self.judge_others_anew();
        self.pools_announced.clear();
        self.allocations_decided = 0;
        self.generations_decided = 0;
        for table in self.tables.values_mut() {
            table.open = false;
            table.watch_until_ms = self.machine_ms.saturating_add(super::tables::LATE_EFFECT_HORIZON_MS);
        }
        // What the leader before us had decided and not seen settled may have been sent, and may yet land.
        for id in std::mem::take(&mut self.unsettled) {
            let seq = self.seq;
            if let Some(allocation) = self.allocations.get_mut(&id) {
                let sent = allocation.may_have_sent();
                for item in &mut allocation.items {
                    if sent && item.entry == Entry::Planned {
                        item.touched = true;
                        item.entry = Entry::Unknown { since: seq, looked: false, missed_ms: None };
                    }
                }
                if allocation.published == Published::Nothing && !allocation.is_succeeded() {
                    allocation.published = Published::Unknown;
                }
            }
            self.refresh_allocation(id);
        }
        for pod in self.marking.clone() {
            self.mark_unknown(&pod);
        }
        // Wall time went on while nobody led.
        for id in self.reserved.clone() {
            self.arm_retention(id);
        }
    }

    fn cooldown_ended(&mut self, body: &timer::CooldownEnded) -> Result<(), &'static str> {
        let protocol = protocol_of(body.protocol).ok_or("its protocol is unknown")?;
        let tuple = (body.eip, protocol, body.port);
        let due = self.holds.get(&tuple).and_then(|hold| hold.resting_ms).ok_or("the port does not rest")?;
        self.timers.remove(&(due, Timer::Cooldown(body.eip, protocol, body.port)));
        self.change_hold(tuple, |hold| hold.resting_ms = None);
        Ok(())
    }

    fn grace_ended(&mut self, uid: &PodUid) {
        let Some(pod) = self.pods.get_mut(uid) else { return };
        if let Some(due) = pod.grace_ends_ms() {
            self.timers.remove(&(due, Timer::Grace(uid.clone())));
        }
        pod.ended = pod.ended.or(Some(ReleaseReason::GraceOver));
        self.reconsider_pod(uid);
    }

    fn retry_due(&mut self, id: crate::machine::identity::AllocationId) {
        let Some(allocation) = self.allocations.get_mut(&id) else { return };
        if let Some(due) = allocation.unusual.change(|unusual| unusual.retry_ms.take()) {
            self.timers.remove(&(due, Timer::Retry(id)));
        }
        if allocation.claim == Claim::Refused {
            allocation.claim = Claim::Absent;
        }
        let live = allocation.phase == Phase::Live;
        // What a full table refused waits for room, not for a time.
        let again = |item: &&Item| match item.entry {
            Entry::Refused { class, .. } => live && class != RefusedClass::Quota,
            Entry::Planned | Entry::Unknown { .. } | Entry::Present { .. } | Entry::Deleting { .. } | Entry::Gone => {
                false
            }
        };
        let refused = allocation.items.iter().filter(again);
        for generation in refused.map(|item| item.generation).collect::<Vec<_>>() {
            self.put_entry(id, generation, Entry::Gone);
        }
        self.refresh_allocation(id);
        self.worklist.insert(Subject::Allocation(id));
    }

    fn probe_due(&mut self, id: &TableId) {
        let again = self.machine_ms.saturating_add(self.settings.as_ref().map_or(0, |settings| settings.resync_ms));
        let Some(table) = self.tables.get_mut(id) else { return };
        if let Some(due) = table.probe_ms.take() {
            self.timers.remove(&(due, Timer::Probe(id.clone())));
        }
        if table.limit.is_some() {
            table.probing = true;
            table.probe_ms = Some(again);
            self.timers.insert((again, Timer::Probe(id.clone())));
            self.worklist.insert(Subject::Queue(id.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::event::control::TermStarted;

    fn begun(seq: u64, term: u64) -> Record {
        let started = TermStarted { term, holder: "leader".to_owned(), predecessor: None };
        Record { seq, term, machine_ms: 0, wall_ms: 0, event: Event::TermStarted(started) }
    }

    #[test]
    fn the_last_term_that_can_be_counted_begins_and_the_next_does_not() {
        let mut state = State::default();
        state.apply(&begun(1, TERM_MAX)).unwrap();
        let refused = state.apply(&begun(2, TERM_MAX + 1)).unwrap_err();
        assert_eq!((refused.seq, refused.reason), (2, "its term is too high to be counted"));
    }
}
