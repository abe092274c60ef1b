//! Folding what listings of forward tables show and do not show.
//!
//! An entry is ours when its mark names a live allocation and all five of its tuple are those of one of its items,
//! whatever the generation. Every other entry is a stray: marked, it stands for nothing and will be decided stale;
//! unmarked, it is somebody else's and only its place is noted.

use crate::machine::at::At;
use crate::machine::event::seen;
use crate::machine::identity::{AllocationId, EntryId, Generation, Mark, TableId, Tuple, protocol_of};
use crate::machine::intent::{Held, Intent};
use crate::machine::state::{Entry, Listed, RefusedClass, State, Stray, Subject, Timer};

/// How long after an unanswered creation, or a change of leader, an effect may still show up (design.md §2.5).
pub const LATE_EFFECT_HORIZON_MS: u64 = 15 * 60 * 1_000;

/// How far apart two listings must be that prove the absence of what was not acknowledged as deleted (design.md §5).
pub const ABSENCE_INTERVAL_MS: u64 = 60 * 1_000;

/// Status numbers of [`seen::EntrySeen`].
const STATUS_AVAILABLE: u8 = 1;

impl State {
    /// The entries that listings of a table show, with what each is to us.
    pub fn listed(&self, table: &TableId) -> impl Iterator<Item = (&EntryId, &Listed)> {
        self.tables.get(table).into_iter().flat_map(|table| table.entries.scan())
    }

    /// Until when a table is to be listed often.
    #[must_use]
    pub fn watch_until_ms(&self, table: &TableId) -> u64 {
        self.tables.get(table).map_or(0, |table| table.watch_until_ms)
    }

    /// Whether a listing begun then tells somebody something, beyond differences: an entry of ours waits for it, or a stray
    /// is still there long after its deletion was acknowledged.
    #[must_use]
    pub fn is_awaited(&self, table: &TableId, began_ms: u64) -> bool {
        let Some(table) = self.tables.get(table) else { return false };
        let overdue = |id: &EntryId| table.stray(Some(id)).is_some_and(|stray| is_overdue(stray, began_ms));
        !table.awaited.is_empty() || table.strays_going.iter().any(overdue)
    }

    pub(super) fn entry_seen(&mut self, body: &seen::EntrySeen) {
        let (table, id) = (TableId::from(body.table.as_str()), EntryId::from(body.entry.as_str()));
        let mark = Mark::parse(&body.name).filter(|mark| self.settings.as_ref().is_some_and(|s| mark.is_of(s.cluster)));
        if let Some(mark) = &mark {
            self.meet_stamp(mark.allocation.stamp(), self.allocations_decided);
            self.meet_stamp(mark.generation.stamp(), self.generations_decided);
        }
        let item = match &mark {
            Some(mark) => self.item_of(mark, &table, body),
            None => self.adopted_item(&table, &id, plain_tuple(body)),
        };
        let known = self.tables.or_default(table.clone()).entries.remove_entry(&id);
        let (id, before) = known.map_or((id, None), |(id, listed)| (id, Some(listed)));
        match (before, item) {
            (Some(Listed::Ours(generation)), Some(now)) if generation == now.1 => {
                self.tables.or_default(table).entries.insert(id.clone(), Listed::Ours(generation));
                self.show(now, id, body.status);
            }
            (before, now) => {
                match before {
                    Some(Listed::Ours(generation)) => self.lose(generation),
                    Some(Listed::Stray(stray)) => self.drop_stray(&table, &id, *stray),
                    None => {}
                }
                match now {
                    Some(now) => {
                        self.tables.or_default(table).entries.insert(id.clone(), Listed::Ours(now.1));
                        self.show(now, id, body.status);
                    }
                    None => self.add_stray(&table, &id, body, mark.is_some()),
                }
            }
        }
    }

    fn item_of(&self, mark: &Mark, table: &TableId, body: &seen::EntrySeen) -> Option<(AllocationId, Generation)> {
        let allocation = self.allocations.get(&mark.allocation)?;
        let tuple = plain_tuple(body)?;
        // What lands late on an address that was left is nobody's: somebody else may have the address by now.
        let ours = allocation.table == *table && mark.is_for(&allocation.pod) && !allocation.has_left();
        let item = allocation.items.iter().find(|item| ours && allocation.tuple(item) == tuple)?;
        Some((mark.allocation, item.generation))
    }

    /// A listing shows the entry of an item.
    fn show(&mut self, (allocation, generation): (AllocationId, Generation), id: EntryId, status: u8) {
        let Some(item) = self.allocations.get(&allocation).and_then(|allocation| allocation.item(generation)) else {
            return;
        };
        let available = status == STATUS_AVAILABLE;
        let entry = match &item.entry {
            Entry::Present { since, verified, .. } => {
                Entry::Present { id, since: *since, available, verified: *verified, missed_ms: None }
            }
            Entry::Deleting { since, since_ms, acknowledged, .. } => {
                Entry::Deleting { id, since: *since, since_ms: *since_ms, acknowledged: *acknowledged, missed_ms: None }
            }
            Entry::Planned | Entry::Unknown { .. } | Entry::Refused { .. } | Entry::Gone => {
                Entry::Present { id, since: self.seq, available, verified: false, missed_ms: None }
            }
        };
        self.put_entry(allocation, generation, entry);
        self.refresh_allocation(allocation);
        self.worklist.insert(Subject::Allocation(allocation));
    }

    /// The entry of an item is there no more, or is no more what it was.
    pub(super) fn lose(&mut self, generation: Generation) {
        let Some(allocation) = self.by_generation.get(&generation).copied() else { return };
        self.put_entry(allocation, generation, Entry::Gone);
        self.refresh_allocation(allocation);
        self.worklist.insert(Subject::Allocation(allocation));
    }

    fn add_stray(&mut self, table: &TableId, id: &EntryId, body: &seen::EntrySeen, marked: bool) {
        let stray = Stray {
            name: body.name.as_str().into(),
            external_ip: body.external_ip,
            external_ports: body.external_ports,
            internal_ip: body.internal_ip,
            internal_ports: body.internal_ports,
            protocol: protocol_of(body.protocol),
            status: body.status,
            marked,
            stale: false,
            deleted: false,
            deleted_ms: 0,
            held: Held::default(),
        };
        self.put_stray(table, id, stray);
    }

    pub(super) fn put_stray(&mut self, table_id: &TableId, id: &EntryId, stray: Stray) {
        self.index_stray(&stray, table_id, id, true);
        let table = self.tables.or_default(table_id.clone());
        table.committed = table.committed.saturating_add(1);
        for external in stray.external() {
            table.strays_external.insert(external, id.clone());
        }
        if let Some(internal) = stray.internal() {
            table.strays_internal.insert(internal, id.clone());
        }
        let externals = stray.external();
        for external in &externals {
            self.change_hold(*external, |hold| hold.strangers = hold.strangers.saturating_add(1));
        }
        if stray.is_any() {
            self.occupy(stray.external_ip, id, true);
        }
        if let Some(table) = self.tables.get_mut(table_id) {
            table.entries.insert(id.clone(), Listed::Stray(Box::new(stray)));
        }
        self.refresh_stray(table_id, id);
        self.worklist.insert(Subject::Stray(table_id.clone(), id.clone()));
        self.wake_claimed_at(&externals);
    }

    fn drop_stray(&mut self, table_id: &TableId, id: &EntryId, mut stray: Stray) {
        self.agenda.replace(&mut stray.held, Vec::new(), self.seq);
        self.index_stray(&stray, table_id, id, false);
        self.remnants.remove(&(table_id.clone(), id.clone()));
        let table = self.tables.or_default(table_id.clone());
        table.committed = table.committed.saturating_sub(1);
        table.strays_going.remove(id);
        for external in stray.external() {
            // Another entry may have taken its place.
            if table.strays_external.get(&external) == Some(id) {
                table.strays_external.remove(&external);
            }
        }
        if let Some(internal) = stray.internal()
            && table.strays_internal.get(&internal) == Some(id)
        {
            table.strays_internal.remove(&internal);
        }
        for external in stray.external() {
            let owner = self.owners.get(&external).copied();
            if stray.marked && owner.is_none() {
                // It was a pod's until now: players may still knock.
                self.disown(external, true);
            }
            self.change_hold(external, |hold| hold.strangers = hold.strangers.saturating_sub(1));
            self.worklist.extend(owner.map(Subject::Allocation));
        }
        for owner in self.by_ip.get(&stray.internal_ip).cloned().unwrap_or_default() {
            self.worklist.insert(Subject::Allocation(owner));
        }
        if stray.is_any() {
            self.occupy(stray.external_ip, id, false);
        }
        self.worklist.insert(Subject::Queue(table_id.clone()));
        self.refresh_table(table_id);
    }

    pub(super) fn entry_vanished(&mut self, table: &TableId, id: &EntryId) {
        match self.tables.or_default(table.clone()).entries.remove(id) {
            Some(Listed::Ours(generation)) => self.lose(generation),
            Some(Listed::Stray(stray)) => self.drop_stray(table, id, *stray),
            None => {}
        }
    }

    pub(super) fn stale_decided(&mut self, table: &TableId, id: &EntryId) -> Result<(), &'static str> {
        let entries = &mut self.tables.get_mut(table).ok_or("the table is not known")?.entries;
        match entries.get_mut(id) {
            Some(Listed::Stray(stray)) if stray.marked => {
                stray.stale = true;
                let ip = stray.internal_ip;
                self.end_remnant(table, id, ip);
            }
            Some(Listed::Stray(_)) => return Err("the entry does not carry our mark"),
            Some(Listed::Ours(..)) | None => return Err("the entry is not a stray"),
        }
        self.refresh_stray(table, id);
        Ok(())
    }

    pub(super) fn entries_missed(&mut self, body: &seen::EntriesMissed) {
        for generation in body.generations.iter().copied().map(Generation::from) {
            let Some(id) = self.by_generation.get(&generation).copied() else { continue };
            let Some(allocation) = self.allocations.get(&id) else { continue };
            let Some(item) = allocation.item(generation) else { continue };
            let entry = missed(&item.entry, allocation.removal(item).is_some(), body.began_ms);
            self.put_entry(id, generation, entry);
            self.refresh_allocation(id);
            self.worklist.insert(Subject::Allocation(id));
        }
    }

    pub(super) fn table_listed(&mut self, body: &seen::TableListed) {
        let table = TableId::from(body.table.as_str());
        let awaited = self.tables.get(&table).map(|table| table.awaited.clone()).unwrap_or_default();
        for (id, generation) in awaited {
            let Some(allocation) = self.allocations.get(&id) else { continue };
            let Some(item) = allocation.item(generation) else { continue };
            let removal = allocation.removal(item);
            if let Some(entry) = looked_at(&item.entry, removal, body.began_seq, body.began_ms) {
                self.put_entry(id, generation, entry);
                self.refresh_allocation(id);
                self.worklist.insert(Subject::Allocation(id));
            }
        }
        for id in self.tables.get(&table).map(|table| table.strays_going.clone()).unwrap_or_default() {
            let listed = self.tables.get_mut(&table).and_then(|table| table.entries.get_mut(&id));
            if let Some(Listed::Stray(stray)) = listed
                && is_overdue(stray, body.began_ms)
            {
                // Acknowledged, and not carried out for a long time: again.
                stray.deleted = false;
            }
            self.refresh_stray(&table, &id);
        }
    }

    pub(super) fn table_opened(&mut self, id: &TableId) {
        let due = self.machine_ms.saturating_add(self.settings.as_ref().map_or(0, |settings| settings.cooldown_ms));
        let watch_until_ms = self.machine_ms.saturating_add(LATE_EFFECT_HORIZON_MS);
        let forgetful = self.forgetful;
        let table = self.tables.or_default(id.clone());
        table.open = true;
        // Also where the term began without knowing the table.
        table.watch_until_ms = table.watch_until_ms.max(watch_until_ms);
        if forgetful && !std::mem::replace(&mut table.rested, true) {
            // What is free may have been somebody's until a moment ago.
            table.rests_ms = Some(due);
            self.timers.insert((due, Timer::Rest(id.clone())));
        }
        let strays = table.entries.iter().filter_map(|(entry, listed)| match listed {
            Listed::Stray(stray) => Some((entry.clone(), stray.marked && !stray.stale)),
            Listed::Ours(..) => None,
        });
        for (entry, marked) in strays.collect::<Vec<_>>() {
            if marked && self.rebuilding {
                self.remnants.insert((id.clone(), entry.clone()));
            }
            self.worklist.insert(Subject::Stray(id.clone(), entry));
        }
        self.wake_originals();
        if self.rebuilding {
            // Of two claims to one tuple the entries tell which counts.
            self.worklist.extend(self.claims.iter().map(|(key, _)| Subject::Claim(key.clone())));
        }
        self.worklist.extend(self.unsettled.iter().copied().map(Subject::Allocation));
        self.wake_undecided();
        self.end_rebuild();
    }

    pub(super) fn table_rested(&mut self, id: &TableId) {
        let Some(table) = self.tables.get_mut(id) else { return };
        if let Some(due) = table.rests_ms.take() {
            self.timers.remove(&(due, Timer::Rest(id.clone())));
        }
        self.worklist.extend(self.unsettled.iter().chain(&self.lacking).copied().map(Subject::Allocation));
        self.wake_undecided();
    }

    /// The state is rebuilt when everything has been read and each claim that names an allocation has its allocation. A
    /// term that ends before leaves the rebuild to the next one.
    pub(super) fn end_rebuild(&mut self) {
        if !self.rebuilding || !self.is_all_read() {
            return;
        }
        let claimed = |claim: &super::StrangeClaim| claim.claim.is_some() && !claim.ghost;
        let left = self.claims.iter().filter(|(_, claim)| claimed(claim)).map(|(key, _)| Subject::Claim(key.clone()));
        let left: Vec<_> = left.collect();
        self.rebuilding = !left.is_empty();
        self.worklist.extend(left);
    }

    /// Whether everything that this term must read has been: the cluster, the gateways, each table that is needed.
    pub(crate) fn is_all_read(&self) -> bool {
        let open = |table: &TableId| self.tables.get(table).is_some_and(|table| table.open);
        self.cluster_read
            && !self.gateways_configured().is_empty()
            && self.gateways_configured().iter().all(|id| self.gateways.contains_key(id))
            && self.tables_needed().iter().all(open)
    }

    pub(super) fn table_gone(&mut self, id: &TableId) {
        let Some(table) = self.tables.get(id) else { return };
        let entries: Vec<EntryId> = table.entries.iter().map(|(entry, _)| entry.clone()).collect();
        for entry in entries {
            self.entry_vanished(id, &entry);
        }
        let allocations = self.allocations.iter().filter(|(_, allocation)| allocation.table == *id);
        for allocation in allocations.map(|(allocation, _)| *allocation).collect::<Vec<_>>() {
            let generations =
                self.allocations.get(&allocation).map(|a| a.items.iter().map(|i| i.generation).collect::<Vec<_>>());
            for generation in generations.unwrap_or_default() {
                self.put_entry(allocation, generation, Entry::Gone);
            }
            self.refresh_allocation(allocation);
            self.worklist.insert(Subject::Allocation(allocation));
        }
    }

    /// Whether a stray is to be deleted now.
    pub(super) fn may_stray_go(&self, stray: &Stray) -> bool {
        stray.stale && !stray.deleted && !self.is_told(stray)
    }

    /// Recomputes what is wanted of a stray.
    pub(super) fn refresh_stray(&mut self, table_id: &TableId, id: &EntryId) {
        let listed = self.tables.get(table_id).and_then(|table| table.stray(Some(id)));
        let goes = listed.is_some_and(|stray| self.may_stray_go(stray));
        let Some(table) = self.tables.get_mut(table_id) else { return };
        let Some(Listed::Stray(stray)) = table.entries.get_mut(id) else { return };
        let intent = || Intent::Unbind { table: table_id.clone(), entry: id.clone() };
        let wanted: Vec<Intent> = goes.then(intent).into_iter().collect();
        if stray.deleted {
            if table.strays_going.insert(id.clone()) {
                table.awaited_at = self.seq;
            }
        } else {
            table.strays_going.remove(id);
        }
        self.agenda.replace(&mut stray.held, wanted, self.seq);
        self.refresh_table(table_id);
    }
}

fn plain_tuple(body: &seen::EntrySeen) -> Option<Tuple> {
    let one = |(first, last): (u16, u16)| (first == last && first != 0).then_some(first);
    Some(Tuple {
        external_ip: body.external_ip,
        external_port: one(body.external_ports)?,
        internal_ip: body.internal_ip,
        internal_port: one(body.internal_ports)?,
        protocol: protocol_of(body.protocol)?,
    })
}

/// Whether a deletion that was acknowledged should have been carried out when a listing began.
fn is_overdue(stray: &Stray, began_ms: u64) -> bool {
    stray.deleted && began_ms >= stray.deleted_ms.saturating_add(ABSENCE_INTERVAL_MS)
}

/// What is known of an entry that a complete listing does not show.
fn missed(entry: &Entry, going: bool, began_ms: u64) -> Entry {
    let long_ago = |first: At| began_ms >= first.number().saturating_add(ABSENCE_INTERVAL_MS);
    let proven = |first: &Option<At>| first.is_some_and(long_ago);
    let first = |first: &Option<At>| Some(first.unwrap_or(At::new(began_ms)));
    match entry {
        Entry::Unknown { missed_ms, .. } if going && proven(missed_ms) => Entry::Gone,
        Entry::Unknown { since, missed_ms, .. } => {
            Entry::Unknown { since: *since, looked: true, missed_ms: first(missed_ms) }
        }
        Entry::Refused { since, class, .. } => Entry::Refused { since: *since, class: *class, looked: true },
        Entry::Present { missed_ms, .. } if proven(missed_ms) => Entry::Gone,
        Entry::Present { id, since, available, verified, missed_ms } => Entry::Present {
            id: id.clone(),
            since: *since,
            available: *available,
            verified: *verified,
            missed_ms: first(missed_ms),
        },
        Entry::Deleting { acknowledged: true, .. } => Entry::Gone,
        Entry::Deleting { missed_ms, .. } if proven(missed_ms) => Entry::Gone,
        Entry::Deleting { id, since, since_ms, acknowledged, missed_ms } => Entry::Deleting {
            id: id.clone(),
            since: *since,
            since_ms: *since_ms,
            acknowledged: *acknowledged,
            missed_ms: first(missed_ms),
        },
        Entry::Planned | Entry::Gone => entry.clone(),
    }
}

/// What a complete listing tells of an awaited entry that it did not miss; `None` if nothing new.
fn looked_at(entry: &Entry, removal: Option<u64>, began_seq: u64, began_ms: u64) -> Option<Entry> {
    match entry {
        Entry::Refused { since, class: RefusedClass::Duplicate, looked: false } if *since <= began_seq => {
            Some(Entry::Refused { since: *since, class: RefusedClass::Duplicate, looked: true })
        }
        Entry::Present { id, since, available, verified: false, missed_ms: None }
            if *since <= began_seq && removal.is_some_and(|removal| removal <= began_seq) =>
        {
            Some(Entry::Present {
                id: id.clone(),
                since: *since,
                available: *available,
                verified: true,
                missed_ms: None,
            })
        }
        // Still shown: an unanswered deletion did not happen, an acknowledged one was not carried out for a long time.
        Entry::Deleting { id, since, since_ms, acknowledged, missed_ms: None }
            if *since <= began_seq && (!acknowledged || began_ms >= since_ms.saturating_add(ABSENCE_INTERVAL_MS)) =>
        {
            Some(Entry::Present { id: id.clone(), since: *since, available: false, verified: true, missed_ms: None })
        }
        Entry::Planned
        | Entry::Unknown { .. }
        | Entry::Refused { .. }
        | Entry::Present { .. }
        | Entry::Deleting { .. }
        | Entry::Gone => None,
    }
}

impl State {
    /// The generations of a table whose absence from a complete listing tells something: those that wait for a listing, and
    /// those of the entries that it does not show.
    ///
    /// A listing speaks only of what was last written before it began.
    pub fn absence_matters(
        &self,
        table: &TableId,
        missing: &[EntryId],
        began_seq: u64,
        began_ms: u64,
    ) -> Vec<(Generation, Option<EntryId>)> {
        let Some(table) = self.tables.get(table) else { return Vec::new() };
        let known = missing.iter().filter_map(|entry| match table.entries.get(entry) {
            Some(Listed::Ours(generation)) => Some((self.by_generation.get(generation).copied()?, *generation)),
            Some(Listed::Stray(_)) | None => None,
        });
        let candidates: std::collections::BTreeSet<_> = known.chain(table.awaited.iter().copied()).collect();
        candidates
            .into_iter()
            .filter_map(|(id, generation)| self.would_tell(id, generation, began_seq, began_ms))
            .collect()
    }

    fn would_tell(
        &self,
        id: AllocationId,
        generation: Generation,
        began_seq: u64,
        began_ms: u64,
    ) -> Option<(Generation, Option<EntryId>)> {
        let allocation = self.allocations.get(&id)?;
        let item = allocation.item(generation)?;
        let long_ago = |first: At| began_ms >= first.number().saturating_add(ABSENCE_INTERVAL_MS);
        let again = |missed: &Option<At>| missed.is_none_or(long_ago);
        let removal = allocation.removal(item).is_some();
        let (since, tells, entry) = match &item.entry {
            Entry::Unknown { since, looked, missed_ms } => (*since, !looked || (removal && again(missed_ms)), None),
            Entry::Refused { since, looked, .. } => (*since, !looked, None),
            Entry::Present { id, since, missed_ms, .. } => (*since, again(missed_ms), Some(id.clone())),
            Entry::Deleting { id, since, acknowledged, missed_ms, .. } => {
                (*since, *acknowledged || again(missed_ms), Some(id.clone()))
            }
            Entry::Planned | Entry::Gone => return None,
        };
        (since <= began_seq && tells).then_some((generation, entry))
    }
}
