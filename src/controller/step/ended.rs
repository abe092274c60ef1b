//! How effects ended, as events; what was not carried out is put off without leaving a record.

use crate::controller::step::{Controller, EffectId, Now};
use crate::machine::event::{Event, outcome};
use crate::machine::identity::{AllocationId, Generation, TableId};
use crate::machine::intent::Intent;
use crate::ports::cloud::ErrorClass;
use crate::ports::effect::{Ended, Refusal, Why};

/// The pause before a claim that was dropped is looked at again: by then the watch has told.
const DROPPED_MS: u64 = 5_000;

/// The pause after a refusal that only somebody else can lift.
const DENIED_MS: u64 = 30_000;

impl Controller {
    pub(super) fn effect_ended(&mut self, now: Now, id: EffectId, ended: Ended) {
        let Some(intent) = self.flights.remove(&id) else { return };
        self.release(&intent);
        match &intent {
            Intent::Bind { table, allocation, generation } => {
                self.creation_ended(now, &intent, (table, *allocation, *generation), ended);
            }
            Intent::Unbind { table, entry } => self.deletion_ended(now, &intent, table, entry.as_str(), ended),
            Intent::WriteClaim { .. }
            | Intent::Publish { .. }
            | Intent::Withdraw { .. }
            | Intent::ReleaseClaim { .. }
            | Intent::DropClaim { .. }
            | Intent::MarkPod { .. } => self.write_ended(now, intent, ended),
            Intent::Forgo { .. } | Intent::Locate { .. } | Intent::Observe { .. } => {}
        }
    }

    fn creation_ended(
        &mut self,
        now: Now,
        intent: &Intent,
        (table, allocation, generation): (&TableId, AllocationId, Generation),
        ended: Ended,
    ) {
        let machine_ms = self.machine(now);
        let (allocation, generation) = (allocation.into(), generation.into());
        let mut pause = None;
        match ended {
            Ended::Created(entry) => {
                let entry = entry.as_str().to_owned();
                self.emit(now, Event::EntryCreated(outcome::EntryCreated { allocation, generation, entry }));
            }
            Ended::Refused(Refusal { why, code, message }) => {
                let class = class_number(why);
                let body = outcome::EntryRefused { allocation, generation, class, code, message };
                self.emit(now, Event::EntryRefused(body));
            }
            Ended::Unknown { code } => {
                pause = Some(None);
                self.emit(now, Event::EntryUnknown(outcome::EntryUnknown { allocation, generation, code }));
            }
            Ended::Again { after_ms, .. } => pause = Some(after_ms),
            Ended::Done | Ended::Claimed { .. } => {}
        }
        self.barrier.written(table);
        self.lanes.ended(table, machine_ms, pause);
        self.push_again(now, intent);
    }

    fn deletion_ended(&mut self, now: Now, intent: &Intent, table: &TableId, entry: &str, ended: Ended) {
        let machine_ms = self.machine(now);
        let (table_name, entry) = (table.as_str().to_owned(), entry.to_owned());
        let mut pause = None;
        match ended {
            Ended::Done | Ended::Refused(Refusal { why: Why::Cloud(ErrorClass::Gone) | Why::Gone, .. }) => {
                self.emit(now, Event::EntryDeleted(outcome::EntryDeleted { table: table_name, entry }));
            }
            Ended::Unknown { code } => {
                pause = Some(None);
                self.emit(now, Event::DeleteUnknown(outcome::DeleteUnknown { table: table_name, entry, code }));
            }
            Ended::Refused(_) => {
                // Only somebody else can lift it, and the table's other entries need not wait for that.
                self.barrier.written(table);
                self.lanes.ended(table, machine_ms, None);
                return self.again.put_off(intent.clone(), machine_ms, Some(DENIED_MS));
            }
            Ended::Again { after_ms, .. } => pause = Some(after_ms),
            Ended::Created(_) | Ended::Claimed { .. } => {}
        }
        self.barrier.written(table);
        self.lanes.ended(table, machine_ms, pause);
        self.push_again(now, intent);
    }

    /// A call whose intent still stands, on the same event as before, goes back into its lane.
    fn push_again(&mut self, now: Now, intent: &Intent) {
        if let Some(rests_on) = self.state.agenda().rests_on(intent)
            && rests_on <= self.durable.seq
        {
            self.make_ready(now, rests_on, intent.clone());
        }
    }

    fn write_ended(&mut self, now: Now, intent: Intent, ended: Ended) {
        let machine_ms = self.machine(now);
        let event = match (&intent, &ended) {
            (Intent::WriteClaim { allocation, revision }, Ended::Claimed { uid }) => {
                let (allocation, revision, uid) = ((*allocation).into(), *revision, uid.clone());
                Some(Event::ClaimWritten(outcome::ClaimWritten { allocation, revision, uid }))
            }
            (Intent::WriteClaim { allocation, .. }, Ended::Refused(Refusal { why, message, .. })) => {
                let (allocation, detail) = ((*allocation).into(), message.clone());
                Some(Event::ClaimRefused(outcome::ClaimRefused { allocation, reason: claim_reason(*why), detail }))
            }
            (Intent::Publish { allocation, revision }, Ended::Done) => {
                let (allocation, revision) = ((*allocation).into(), *revision);
                Some(Event::StatusWritten(outcome::StatusWritten { allocation, revision }))
            }
            (Intent::Publish { allocation, .. }, Ended::Unknown { .. }) => {
                Some(Event::StatusUnknown(outcome::StatusUnknown { allocation: (*allocation).into() }))
            }
            (Intent::Withdraw { allocation }, Ended::Done) => {
                Some(Event::StatusWithdrawn(outcome::StatusWithdrawn { allocation: (*allocation).into() }))
            }
            (Intent::ReleaseClaim { allocation }, Ended::Done) => {
                Some(Event::ClaimReleased(outcome::ClaimReleased { allocation: (*allocation).into() }))
            }
            (Intent::MarkPod { pod, note }, Ended::Done) => {
                let note = (note.phase.number(), note.reason, note.allocation.into(), note.content);
                Some(Event::PodMarked(outcome::PodMarked { pod: pod.as_str().to_owned(), note }))
            }
            (Intent::MarkPod { pod, .. }, Ended::Unknown { .. }) => {
                Some(Event::MarkUnknown(outcome::MarkUnknown { pod: pod.as_str().to_owned() }))
            }
            _ => None,
        };
        if let Some(event) = event {
            self.emit(now, event);
        }
        if self.state.agenda().rests_on(&intent).is_some_and(|rests_on| rests_on <= self.durable.seq) {
            self.again.put_off(intent, machine_ms, hint(&ended));
        } else {
            self.again.forget(&intent);
        }
    }
}

fn hint(ended: &Ended) -> Option<u64> {
    match ended {
        Ended::Again { after_ms, .. } => *after_ms,
        Ended::Done => Some(DROPPED_MS),
        Ended::Refused(_) => Some(DENIED_MS),
        Ended::Unknown { .. } | Ended::Claimed { .. } | Ended::Created(_) => None,
    }
}

/// The number of a refusal in [`outcome::EntryRefused`].
const fn class_number(why: Why) -> u8 {
    match why {
        Why::Cloud(ErrorClass::Duplicate) => 1,
        Why::Cloud(ErrorClass::Quota) => 2,
        Why::Cloud(ErrorClass::Gone) | Why::Gone => 3,
        Why::Cloud(ErrorClass::Denied) | Why::Denied => 4,
        Why::Cloud(
            ErrorClass::Malformed
            | ErrorClass::RetryNow
            | ErrorClass::RetryLater
            | ErrorClass::Throttled { .. }
            | ErrorClass::Conflict
            | ErrorClass::Unknown,
        )
        | Why::Taken => 5,
    }
}

/// The number of a refusal in [`outcome::ClaimRefused`].
const fn claim_reason(why: Why) -> u8 {
    match why {
        Why::Taken => 1,
        Why::Gone => 2,
        Why::Denied | Why::Cloud(_) => 3,
    }
}
