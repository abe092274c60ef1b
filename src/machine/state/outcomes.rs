//! Folding how effects ended. An outcome that speaks of something that is over is no fault: it came late.

use crate::machine::at::At;
use crate::machine::event::outcome;
use crate::machine::event::seen::{EDITED_SPEC, EDITED_STATUS, LACKS_SPEC, LACKS_STATUS};
use crate::machine::identity::{AllocationId, EntryId, Generation, TableId};
use crate::machine::state::mapping::SHOWS_ANOTHER_ENTRY;
use crate::machine::state::tables::LATE_EFFECT_HORIZON_MS;
use crate::machine::state::{Claim, Entry, Listed, Phase, Published, RefusedClass, State, Subject, Timer};

/// The first pause before something refused is decided again; it doubles with each refusal in a row.
const RETRY_FIRST_MS: u64 = 5_000;

/// The longest such pause: one default resync.
const RETRY_LAST_MS: u64 = 300_000;

impl State {
    pub(super) fn claim_written(&mut self, body: &outcome::ClaimWritten) {
        let id = AllocationId::from(body.allocation);
        if let Some(allocation) = self.allocations.get_mut(&id) {
            allocation.claim = Claim::Written(body.revision);
            allocation.lacks &= !(LACKS_SPEC | EDITED_SPEC);
            allocation.claimed = Some(At::new(body.revision));
            allocation.claim_uid = Some((body.uid.as_str().into(), self.seq));
            if std::mem::take(&mut allocation.edited) {
                self.healed(id);
            }
        }
        self.refresh_allocation(id);
        self.worklist.insert(Subject::Allocation(id));
    }

    pub(super) fn claim_refused(&mut self, id: AllocationId) {
        if let Some(allocation) = self.allocations.get_mut(&id) {
            allocation.claim = Claim::Refused;
        }
        self.arm_retry(id);
        self.refresh_allocation(id);
        self.worklist.insert(Subject::Allocation(id));
    }

    pub(super) fn claim_released(&mut self, id: AllocationId) -> Result<(), &'static str> {
        let Some(allocation) = self.allocations.get(&id) else { return Ok(()) };
        // An entry that landed late, while the finalizer was being taken off, becomes a stray that stands for nothing.
        if !matches!(allocation.phase, Phase::Releasing { .. }) {
            return Err("the allocation is not being released");
        }
        self.end_allocation(id);
        Ok(())
    }

    pub(super) fn published(&mut self, id: AllocationId, published: Published) {
        if let Some(allocation) = self.allocations.get_mut(&id) {
            allocation.published = published;
            allocation.lacks &= !(LACKS_STATUS | EDITED_STATUS | SHOWS_ANOTHER_ENTRY);
            allocation.established |= matches!(published, Published::Content(_));
            let pod = allocation.pod.clone();
            self.refresh_pod(&pod);
        }
        self.refresh_allocation(id);
        self.worklist.insert(Subject::Allocation(id));
    }

    pub(super) fn entry_created(&mut self, body: &outcome::EntryCreated) {
        let (id, generation) = (AllocationId::from(body.allocation), Generation::from(body.generation));
        let entry = EntryId::from(body.entry.as_str());
        let Some(allocation) = self.allocations.get(&id) else { return };
        let table = allocation.table.clone();
        let Some(item) = allocation.item(generation) else { return };
        match item.entry {
            // A listing was faster and knows more.
            Entry::Present { .. } | Entry::Deleting { .. } => {}
            // The answer to an earlier request, given again: what it made is something else by now.
            Entry::Planned | Entry::Unknown { .. } | Entry::Refused { .. } | Entry::Gone
                if self.is_stray(&table, &entry) =>
            {
                self.put_entry(id, generation, Entry::Gone);
            }
            Entry::Planned | Entry::Unknown { .. } | Entry::Refused { .. } | Entry::Gone => {
                let present =
                    Entry::Present { id: entry, since: self.seq, available: false, verified: false, missed_ms: None };
                self.put_entry(id, generation, present);
            }
        }
        if let Some(allocation) = self.allocations.get_mut(&id) {
            allocation.unusual.change(|unusual| unusual.retries = 0);
        }
        self.refresh_allocation(id);
        self.worklist.insert(Subject::Allocation(id));
    }

    pub(super) fn entry_refused(&mut self, body: &outcome::EntryRefused) -> Result<(), &'static str> {
        let (id, generation) = (AllocationId::from(body.allocation), Generation::from(body.generation));
        let class = RefusedClass::from_number(body.class).ok_or("its class is unknown")?;
        let Some(allocation) = self.allocations.get(&id) else { return Ok(()) };
        let Some(item) = allocation.item(generation) else { return Ok(()) };
        let going = allocation.removal(item).is_some();
        let (touched, duplicate) = (item.touched, class == RefusedClass::Duplicate);
        match item.entry {
            // The entry was seen meanwhile: an earlier request had made it.
            Entry::Present { .. } | Entry::Deleting { .. } | Entry::Gone => {}
            // An earlier request may still land, whatever became of this one.
            Entry::Planned | Entry::Unknown { .. } | Entry::Refused { .. } if going => {
                let unknown = Entry::Unknown { since: self.seq, looked: false, missed_ms: None };
                self.put_entry(id, generation, if touched || duplicate { unknown } else { Entry::Gone });
            }
            Entry::Planned | Entry::Unknown { .. } | Entry::Refused { .. } => {
                let table = self.tables.or_default(allocation.table.clone());
                if class == RefusedClass::Quota && table.limit == u32::try_from(table.entries.len()).ok() {
                    // What is known of its room still holds.
                    table.limit_since = self.seq;
                }
                self.put_entry(id, generation, Entry::Refused { since: self.seq, class, looked: false });
                self.arm_retry(id);
            }
        }
        self.refresh_allocation(id);
        self.worklist.insert(Subject::Allocation(id));
        Ok(())
    }

    pub(super) fn entry_unknown(&mut self, body: &outcome::EntryUnknown) {
        let (id, generation) = (AllocationId::from(body.allocation), Generation::from(body.generation));
        let Some(allocation) = self.allocations.get(&id) else { return };
        let table = allocation.table.clone();
        match allocation.item(generation).map(|item| &item.entry) {
            Some(Entry::Present { .. } | Entry::Deleting { .. }) | None => {}
            Some(Entry::Planned | Entry::Unknown { .. } | Entry::Refused { .. } | Entry::Gone) => {
                let unknown = Entry::Unknown { since: self.seq, looked: false, missed_ms: None };
                self.put_entry(id, generation, unknown);
            }
        }
        let until = self.machine_ms.saturating_add(LATE_EFFECT_HORIZON_MS);
        self.tables.or_default(table).watch_until_ms = until;
        self.refresh_allocation(id);
        self.worklist.insert(Subject::Allocation(id));
    }

    pub(super) fn entry_never_sent(&mut self, id: AllocationId, generation: Generation) {
        let planned = self.allocations.get(&id).and_then(|allocation| allocation.item(generation));
        if planned.is_some_and(|item| item.entry == Entry::Planned) {
            self.put_entry(id, generation, Entry::Gone);
            self.refresh_allocation(id);
            self.worklist.insert(Subject::Allocation(id));
        }
    }

    pub(super) fn delete_ended(&mut self, table: &TableId, entry: &EntryId, acknowledged: bool) {
        let listed = self.tables.get_mut(table).and_then(|table| table.entries.get_mut(entry));
        match listed {
            Some(Listed::Stray(stray)) => {
                stray.deleted = acknowledged;
                stray.deleted_ms = self.machine_ms;
                self.refresh_stray(table, entry);
            }
            Some(Listed::Ours(generation)) => {
                let (generation, since_ms) = (*generation, self.machine_ms);
                let Some(id) = self.by_generation.get(&generation).copied() else { return };
                let deleting =
                    Entry::Deleting { id: entry.clone(), since: self.seq, since_ms, acknowledged, missed_ms: None };
                self.put_entry(id, generation, deleting);
                self.refresh_allocation(id);
            }
            None => {}
        }
    }

    /// Sets the pause after which what was refused may be decided again.
    fn arm_retry(&mut self, id: AllocationId) {
        let Some(allocation) = self.allocations.get_mut(&id) else { return };
        if allocation.unusual.retry_ms.is_some() {
            return;
        }
        let pause = RETRY_FIRST_MS.saturating_mul(1 << allocation.unusual.retries.min(6)).min(RETRY_LAST_MS);
        let due = self.machine_ms.saturating_add(pause);
        allocation.unusual.change(|unusual| {
            unusual.retries = unusual.retries.saturating_add(1);
            unusual.retry_ms = Some(due);
        });
        self.timers.insert((due, Timer::Retry(id)));
    }
}
