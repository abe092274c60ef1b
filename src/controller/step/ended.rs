//! How effects ended, as events; what was not carried out is put off without leaving a record.

use crate::controller::lanes::Said;
use crate::controller::step::{Controller, EffectId, Now};
use crate::machine::event::{Event, outcome};
use crate::machine::identity::{AllocationId, Generation, TableId};
use crate::machine::intent::Intent;
use crate::machine::state::Allocation;
use crate::ports::cloud::{ErrorClass, flow_control, is_about_entry, is_about_pending};
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
        let said = said(&ended, false);
        self.lanes.ended(table, intent, machine_ms, said);
        self.barrier.written(table, machine_ms);
        match ended {
            Ended::Created(entry) => {
                let entry = entry.as_str().to_owned();
                self.emit(now, Event::EntryCreated(outcome::EntryCreated { allocation, generation, entry }));
            }
            Ended::Refused(Refusal { why, code, message }) => {
                let class = class_number(why);
                let body = outcome::EntryRefused { allocation, generation, class, code, message };
                if why == Why::Cloud(ErrorClass::Quota) {
                    self.lanes.full(table, true);
                    self.refused_full.entry(table.clone()).or_default().push(body);
                } else {
                    self.emit(now, Event::EntryRefused(body));
                    self.push_again(now, intent);
                }
            }
            Ended::Unknown { code } => {
                self.emit(now, Event::EntryUnknown(outcome::EntryUnknown { allocation, generation, code }));
                self.push_again(now, intent);
            }
            Ended::Again { .. } | Ended::Done | Ended::Claimed { .. } => self.push_again(now, intent),
        }
        self.tell_of_full(now, table);
    }

    /// Creations that a full table refused are told when all that were under way beside them have ended, in order of their
    /// pods: how many entries it takes is what it has then.
    fn tell_of_full(&mut self, now: Now, table: &TableId) {
        if self.lanes.is_creating(table) {
            return;
        }
        let Some(mut refused) = self.refused_full.remove(table) else { return };
        self.lanes.full(table, false);
        refused.sort_by_key(|body| (body.allocation, body.generation));
        for body in refused {
            self.emit(now, Event::EntryRefused(body));
        }
    }

    fn deletion_ended(&mut self, now: Now, intent: &Intent, table: &TableId, entry: &str, ended: Ended) {
        let machine_ms = self.machine(now);
        let (table_name, entry) = (table.as_str().to_owned(), entry.to_owned());
        let said = said(&ended, true);
        self.lanes.ended(table, intent, machine_ms, said);
        self.barrier.written(table, machine_ms);
        match ended {
            Ended::Done | Ended::Refused(Refusal { why: Why::Cloud(ErrorClass::Gone) | Why::Gone, .. }) => {
                self.emit(now, Event::EntryDeleted(outcome::EntryDeleted { table: table_name, entry }));
            }
            Ended::Unknown { code } => {
                self.emit(now, Event::DeleteUnknown(outcome::DeleteUnknown { table: table_name, entry, code }));
            }
            // Only somebody else can lift it, and the table's other entries need not wait for that.
            Ended::Refused(_) => return self.again.put_off(intent.clone(), machine_ms, Some(DENIED_MS)),
            Ended::Again { code, .. } if is_about_entry(&code) => {
                return self.again.put_off(intent.clone(), machine_ms, None);
            }
            Ended::Again { .. } | Ended::Created(_) | Ended::Claimed { .. } => {}
        }
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
                if let Some(uid) = self.state.allocation(*allocation).and_then(Allocation::claim_uid) {
                    self.departed.released(machine_ms, uid);
                }
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

/// What the end of a call to a table says to its lane.
fn said(ended: &Ended, deletion: bool) -> Said {
    match ended {
        Ended::Done | Ended::Claimed { .. } | Ended::Created(_) | Ended::Refused(_) => Said::Well,
        Ended::Unknown { .. } => Said::Busy,
        Ended::Again { code, .. } if deletion && is_about_pending(code) => Said::Pending,
        Ended::Again { code, .. } if deletion && is_about_entry(code) => Said::Well,
        Ended::Again { after_ms, code, .. } => match (flow_control(code), after_ms) {
            (Some(flow), after_ms) => Said::Throttled(flow, *after_ms),
            (None, Some(_)) => Said::Running,
            (None, None) => Said::Busy,
        },
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
