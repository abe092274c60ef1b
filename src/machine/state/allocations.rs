//! Folding decisions about allocations. What was chosen is taken as it stands; only its legality is checked.

use crate::machine::at::At;
use crate::machine::demand::{ReleaseReason, Want};
use crate::machine::event::{decided, seen};
use crate::machine::identity::{AllocationId, Generation, PodKey, PodUid, Stamp, TableId, protocol_of};
use crate::machine::intent::Held;
use crate::machine::seldom::{Seldom, Usual};
use crate::machine::state::mapping::SHOWS_ANOTHER_ENTRY;
use crate::machine::state::{
    Allocation, Claim, Entry, Item, Listed, Phase, Place, Published, RefusedClass, State, StrangeClaim, Subject, Timer,
    Unusual,
};

/// Where an allocation comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// It was chosen just now: nothing outside knows of it.
    Decided,
    /// It was read from a claim: its entries may exist.
    Claimed,
    /// It was taken over from another controller: what is there of it has been listed.
    Adopted,
}

impl State {
    pub(super) fn allocated(&mut self, body: &decided::Allocated, origin: Origin) -> Result<(), &'static str> {
        let id = AllocationId::from(body.allocation);
        let uid = PodUid::from(body.pod.as_str());
        let uid = self.pods.key(&uid).cloned().unwrap_or(uid);
        let key = PodKey::new(body.namespace.as_str(), body.name.as_str());
        let key = self.pods_by_name.key(&key).cloned().unwrap_or(key);
        if self.allocations.contains_key(&id) {
            return Err("the allocation exists");
        }
        let predecessor = self.by_name.get(&key).copied();
        let moves = |id: &AllocationId| self.allocations.get(id).is_some_and(|earlier| earlier.moved);
        if predecessor.is_some_and(|id| !moves(&id)) {
            return Err("the name has an allocation");
        }
        self.count_decided(id, &body.items);
        let items = body.items.iter().map(|item| self.new_item(item, origin)).collect::<Option<Vec<_>>>();
        let items = items.ok_or("an item's protocol is unknown")?;
        let strange = if origin == Origin::Decided { None } else { self.take_claim(&key) };
        if let Some(mut strange) = strange.clone() {
            self.agenda.replace(&mut strange.held, Vec::new(), self.seq);
        }
        let allocation = self.new_allocation(body, (uid.clone(), key.clone()), items, origin, strange.as_ref());
        let (gateway, table) = (allocation.gateway.clone(), allocation.table.clone());
        self.insert_allocation(id, allocation)?;
        if let Some(strange) = &strange {
            let entries = self.entries_named(body, strange);
            self.take_over(id, entries);
        }
        self.by_name.insert(key, id);
        if let Some(from) = predecessor {
            self.succeed(from, id);
        }
        self.stand_allocated(&uid, id);
        self.follow_fixed(&uid);
        self.worklist.insert(Subject::Queue(table));
        self.worklist.insert(Subject::Allocation(id));
        if origin != Origin::Decided {
            self.adopt_strays(id);
            self.wake_remnants_of(id);
            let releasing = strange.and_then(|strange| strange.claim).map(|claim| claim.releasing).unwrap_or_default();
            self.recover_releasing(id, &releasing);
            self.end_rebuild();
        }
        self.judge_eip(&gateway, body.eip);
        self.consider_moving(id);
        self.refresh_allocation(id);
        Ok(())
    }

    /// An allocation as it begins. One that was taken from outside has been shown, as far as we know.
    fn new_allocation(
        &mut self,
        body: &decided::Allocated,
        (pod, key): (PodUid, PodKey),
        items: Vec<Item>,
        origin: Origin,
        strange: Option<&StrangeClaim>,
    ) -> Allocation {
        let claimed = origin == Origin::Claimed;
        let absent_since_wall_ms = strange.and_then(|strange| strange.claim.as_ref()?.absent_since_wall_ms);
        // A pod that is there, as after a restored backup, is not absent whatever the claim says.
        let there = absent_since_wall_ms.is_some() && self.is_there(&pod);
        // Of what only entries are left no claim says anything.
        let says = |claim: &seen::Claim| claim.allocation == body.allocation && claim.items == body.items;
        let said = strange.is_some_and(|strange| strange.claim.as_deref().is_some_and(says));
        let claim = if claimed && said && !there { Claim::Written(self.seq) } else { Claim::Absent };
        let (gateway, table) = (body.gateway.as_str().into(), TableId::from(body.table.as_str()));
        let probe = self.tables.get(&table).is_some_and(|table| table.probing);
        let place = Place {
            eni: body.eni.as_str().into(),
            vswitch: body.vswitch.as_str().into(),
            zone: body.zone.as_str().into(),
        };
        Allocation {
            pod,
            key,
            gateway: self.gateways.key(&gateway).cloned().unwrap_or(gateway),
            table: self.tables.key(&table).cloned().unwrap_or(table),
            eip: body.eip,
            ip: body.ip,
            place: self.places.share(place),
            fixed: body.fixed,
            items,
            phase: Phase::Live,
            claim,
            claimed: claimed.then_some(At::new(self.seq)),
            claim_uid: strange.map(|strange| (strange.uid.clone(), self.seq)),
            claim_deleting: origin == Origin::Adopted && strange.is_some_and(|strange| strange.deleting),
            revision: self.seq,
            claim_revision: self.seq,
            published: if origin == Origin::Decided { Published::Nothing } else { Published::Unknown },
            lacks: 0,
            established: origin != Origin::Decided,
            probe,
            owner: strange.filter(|_| body.fixed).and_then(|strange| strange.owner.clone()),
            expired: false,
            moved: false,
            relocated: false,
            kept: self.is_kept(body, origin, strange),
            edited: false,
            unusual: Seldom::new(Unusual {
                absent_since_wall_ms: absent_since_wall_ms.filter(|_| !there),
                ..Unusual::USUAL.clone()
            }),
            held: Held::default(),
            hashed: [0; 4],
        }
    }

    pub(super) fn insert_allocation(
        &mut self,
        id: AllocationId,
        mut allocation: Allocation,
    ) -> Result<(), &'static str> {
        allocation.items.shrink_to_fit();
        for item in &allocation.items {
            self.own((allocation.eip, item.want.protocol, item.external), id)?;
            self.by_generation.insert(item.generation, id);
        }
        let table = self.tables.or_default(allocation.table.clone());
        table.probing = false;
        table.committed = table.committed.saturating_add(u32::try_from(allocation.items.len()).unwrap_or(u32::MAX));
        self.by_ip.or_default(allocation.ip).insert(id);
        self.by_vswitch.or_default(allocation.place.vswitch.clone()).insert(id);
        self.allocations.insert(id, allocation);
        Ok(())
    }

    fn count_decided(&mut self, id: AllocationId, items: &[decided::Item]) {
        let Stamp { term, n } = id.stamp();
        if term == self.term {
            self.allocations_decided = self.allocations_decided.max(n);
        }
        self.count_generations(items.iter().map(|item| item.generation));
    }

    pub(super) fn count_generations(&mut self, generations: impl Iterator<Item = (u64, u64)>) {
        let of_term = generations.filter(|(term, _)| *term == self.term).map(|(_, n)| n);
        self.generations_decided = of_term.fold(self.generations_decided, u64::max);
    }

    pub(super) fn new_item(&self, item: &decided::Item, origin: Origin) -> Option<Item> {
        let claimed = origin == Origin::Claimed;
        Some(Item {
            want: Want { internal: item.internal, protocol: protocol_of(item.protocol)? },
            external: item.external,
            generation: item.generation.into(),
            port_break: item.port_break,
            leaving: None,
            touched: claimed,
            entry: match origin {
                Origin::Decided | Origin::Adopted => Entry::Planned,
                Origin::Claimed => Entry::Unknown { since: self.seq, looked: false, missed_ms: None },
            },
        })
    }

    /// Entries that were listed before the allocation was read from its claim.
    pub(super) fn adopt_strays(&mut self, id: AllocationId) {
        let Some(allocation) = self.allocations.get(&id) else { return };
        let table_id = allocation.table.clone();
        let Some(table) = self.tables.get(&table_id) else { return };
        let external = |item: &Item| (allocation.eip, item.want.protocol, item.external);
        let found: Vec<_> =
            allocation.items.iter().filter_map(|i| table.strays_external.get(&external(i)).cloned()).collect();
        for entry in found {
            let Some(Listed::Stray(stray)) = self.tables.get(&table_id).and_then(|t| t.entries.get(&entry)) else {
                continue;
            };
            let body = stray.observation(&table_id, &entry);
            self.entry_seen(&body);
        }
    }

    pub(super) fn release_decided(&mut self, id: AllocationId, reason: ReleaseReason) -> Result<(), &'static str> {
        let seq = self.seq;
        let allocation = self.allocations.get_mut(&id).ok_or("the allocation is not known")?;
        if matches!(allocation.phase, Phase::Releasing { .. }) {
            return Err("the allocation is being released already");
        }
        let unsent = !allocation.may_have_sent();
        allocation.phase = Phase::Releasing { since: seq, reason };
        self.end_reservation(id);
        self.homeless.remove(&id);
        self.settle_unsent(id, unsent);
        Ok(())
    }

    pub(super) fn rebind_decided(&mut self, id: AllocationId) -> Result<(), &'static str> {
        let seq = self.seq;
        let allocation = self.allocations.get_mut(&id).ok_or("the allocation is not known")?;
        if allocation.phase != Phase::Live {
            return Err("the allocation is not live");
        }
        let unsent = !allocation.may_have_sent();
        allocation.phase = Phase::Rebinding { since: seq };
        self.settle_unsent(id, unsent);
        Ok(())
    }

    /// What cannot have been sent, or was refused without a trace, is gone at once when its removal is decided; what was
    /// refused may still have an earlier request on the way.
    pub(super) fn settle_unsent(&mut self, id: AllocationId, unsent: bool) {
        let Some(allocation) = self.allocations.get(&id) else { return };
        let unknown = Entry::Unknown { since: self.seq, looked: false, missed_ms: None };
        let becomes = |item: &Item| match item.entry {
            Entry::Planned if unsent => Some(Entry::Gone),
            Entry::Refused { class, .. } if class != RefusedClass::Duplicate && !item.touched => Some(Entry::Gone),
            Entry::Refused { .. } => Some(unknown.clone()),
            Entry::Planned | Entry::Unknown { .. } | Entry::Present { .. } | Entry::Deleting { .. } | Entry::Gone => {
                None
            }
        };
        let settled = allocation.items.iter().filter_map(|item| Some((item.generation, becomes(item)?)));
        for (generation, entry) in settled.collect::<Vec<_>>() {
            self.put_entry(id, generation, entry);
        }
        self.refresh_allocation(id);
        self.worklist.insert(Subject::Allocation(id));
    }

    pub(super) fn regenerated(&mut self, body: &decided::Regenerated) -> Result<(), &'static str> {
        let id = AllocationId::from(body.allocation);
        let allocation = self.allocations.get_mut(&id).ok_or("the allocation is not known")?;
        if matches!(allocation.phase, Phase::Releasing { .. } | Phase::Reserved { .. }) {
            return Err("the allocation is not live");
        }
        let (ip_before, vswitch_before) = (allocation.ip, allocation.place.vswitch.clone());
        allocation.phase = Phase::Live;
        allocation.ip = body.ip;
        let (eni, vswitch, zone) = &body.place;
        let place = Place { eni: eni.as_str().into(), vswitch: vswitch.as_str().into(), zone: zone.as_str().into() };
        allocation.place = self.places.share(place);
        (allocation.revision, allocation.claim_revision) = (self.seq, self.seq);
        self.count_generations(body.items.iter().map(|(_, _, generation)| *generation));
        self.change_place(id, ip_before, &vswitch_before);
        for (internal, protocol, generation) in &body.items {
            let want = Want { internal: *internal, protocol: protocol_of(*protocol).ok_or("a protocol is unknown")? };
            self.renew(id, want, (*generation).into())?;
        }
        if body.reason == decided::REGENERATED_LOST {
            self.healed(id);
        }
        self.refresh_allocation(id);
        self.worklist.insert(Subject::Allocation(id));
        Ok(())
    }

    pub(super) fn renew(&mut self, id: AllocationId, want: Want, generation: Generation) -> Result<(), &'static str> {
        let allocation = self.allocations.get_mut(&id).ok_or("the allocation is not known")?;
        let item = allocation.items.iter_mut().find(|item| item.want == want).ok_or("the item is not known")?;
        // What a full table refused was never there, and is tried again when there is room.
        let refused = matches!(item.entry, Entry::Refused { class: RefusedClass::Quota, .. });
        if item.entry != Entry::Gone && !refused {
            return Err("the item's earlier entry is not known to be gone");
        }
        if refused {
            self.tables.or_default(allocation.table.clone()).probing = false;
        }
        let before = std::mem::replace(&mut item.generation, generation);
        self.by_generation.remove(&before);
        self.forget_adopted(id, before);
        self.by_generation.insert(generation, id);
        self.put_entry(id, generation, Entry::Planned);
        Ok(())
    }

    pub(super) fn item_moved(&mut self, body: &decided::ItemMoved) -> Result<(), &'static str> {
        let id = AllocationId::from(body.allocation);
        let protocol = protocol_of(body.item.protocol).ok_or("its protocol is unknown")?;
        let want = Want { internal: body.item.internal, protocol };
        let allocation = self.allocations.get_mut(&id).ok_or("the allocation is not known")?;
        let eip = allocation.eip;
        let item = allocation.items.iter_mut().find(|item| item.want == want).ok_or("the item is not known")?;
        if item.external != body.from {
            return Err("the item does not have that port");
        }
        item.external = body.item.external;
        item.port_break = body.item.port_break;
        let generation = item.generation;
        (allocation.revision, allocation.claim_revision) = (self.seq, self.seq);
        self.own((eip, protocol, body.item.external), id)?;
        self.disown((eip, protocol, body.from), false);
        self.put_entry(id, generation, Entry::Gone);
        self.count_generations(std::iter::once(body.item.generation));
        self.renew(id, want, body.item.generation.into())?;
        self.refresh_allocation(id);
        self.worklist.insert(Subject::Allocation(id));
        Ok(())
    }

    pub(super) fn items_changed(&mut self, body: &decided::ItemsChanged) -> Result<(), &'static str> {
        let (id, seq) = (AllocationId::from(body.allocation), self.seq);
        let added = body.added.iter().map(|item| self.new_item(item, Origin::Decided)).collect::<Option<Vec<_>>>();
        let added = added.ok_or("an item's protocol is unknown")?;
        let allocation = self.allocations.get_mut(&id).ok_or("the allocation is not known")?;
        let sent = allocation.may_have_sent();
        let mut gone = Vec::new();
        for item in &mut allocation.items {
            let named = |(internal, protocol): &(u16, u8)| {
                item.want.internal == *internal && protocol_of(*protocol) == Some(item.want.protocol)
            };
            if body.dropped.iter().any(named) {
                item.leaving = Some(At::new(seq));
                let unknown = Entry::Unknown { since: seq, looked: false, missed_ms: None };
                match item.entry {
                    Entry::Planned if !sent => gone.push((item.generation, Entry::Gone)),
                    Entry::Refused { class, .. } if class != RefusedClass::Duplicate && !item.touched => {
                        gone.push((item.generation, Entry::Gone));
                    }
                    Entry::Refused { .. } => gone.push((item.generation, unknown)),
                    Entry::Gone => gone.push((item.generation, Entry::Gone)),
                    Entry::Planned | Entry::Unknown { .. } | Entry::Present { .. } | Entry::Deleting { .. } => {}
                }
            }
        }
        (allocation.revision, allocation.claim_revision) = (seq, seq);
        let (eip, table) = (allocation.eip, allocation.table.clone());
        self.count_generations(body.added.iter().map(|item| item.generation));
        for item in added {
            self.own((eip, item.want.protocol, item.external), id)?;
            self.by_generation.insert(item.generation, id);
            let table = self.tables.or_default(table.clone());
            table.committed = table.committed.saturating_add(1);
            if let Some(allocation) = self.allocations.get_mut(&id) {
                allocation.items.push(item);
            }
        }
        for (generation, entry) in gone {
            self.put_entry(id, generation, entry);
        }
        self.refresh_allocation(id);
        self.worklist.insert(Subject::Allocation(id));
        Ok(())
    }

    pub(super) fn quota_learned(&mut self, id: &TableId, limit: Option<u32>) {
        let due = self.machine_ms.saturating_add(self.settings.as_ref().map_or(0, |settings| settings.resync_ms));
        let table = self.tables.or_default(id.clone());
        (table.limit, table.limit_since) = (limit, self.seq);
        table.probing = false;
        if let Some(before) = table.probe_ms.take() {
            self.timers.remove(&(before, Timer::Probe(id.clone())));
        }
        if limit.is_some() {
            table.probe_ms = Some(due);
            self.timers.insert((due, Timer::Probe(id.clone())));
        }
        let unsettled = self.unsettled.iter().copied().map(Subject::Allocation);
        self.worklist.extend(unsettled);
        self.wake_undecided();
    }

    /// Sets what is known of an item's entry, with everything that is counted by it. A leaving item that is gone leaves.
    pub(super) fn put_entry(&mut self, id: AllocationId, generation: Generation, entry: Entry) {
        let Some(allocation) = self.allocations.get_mut(&id) else { return };
        let (table_id, phase) = (allocation.table.clone(), allocation.phase);
        let Some(item) = allocation.item_mut(generation) else { return };
        let listed = |entry: &Entry| match entry {
            Entry::Present { id, .. } | Entry::Deleting { id, .. } => Some(id.clone()),
            Entry::Planned | Entry::Unknown { .. } | Entry::Refused { .. } | Entry::Gone => None,
        };
        let (was_gone, was_listed) = (item.entry == Entry::Gone, listed(&item.entry));
        let pending = matches!(entry, Entry::Present { available: false, .. });
        item.touched |= !matches!(entry, Entry::Planned | Entry::Gone | Entry::Refused { .. });
        item.entry = entry;
        let (gone, now_listed, leaving) = (item.entry == Entry::Gone, listed(&item.entry), item.is_leaving());
        // A late repetition may make an entry again that somebody removed: the status still names the first.
        if was_listed.is_some() && now_listed.is_some() && was_listed != now_listed {
            allocation.lacks |= SHOWS_ANOTHER_ENTRY;
        }
        let table = self.tables.or_default(table_id.clone());
        table.forget_awaited((id, generation));
        if pending {
            table.pending.insert((id, generation));
        } else {
            table.pending.remove(&(id, generation));
        }
        match (was_gone, gone) {
            (false, true) => {
                table.committed = table.committed.saturating_sub(1);
                self.worklist.insert(Subject::Queue(table_id));
            }
            (true, false) => table.committed = table.committed.saturating_add(1),
            (true, true) | (false, false) => {}
        }
        if was_listed != now_listed {
            if let Some(entry) = was_listed {
                table.entries.remove(&entry);
            }
            if let Some(entry) = now_listed {
                table.entries.insert(entry, Listed::Ours(generation));
            }
        }
        if gone && leaving && matches!(phase, Phase::Live | Phase::Reserved { .. }) {
            self.drop_item(id, generation);
        }
    }

    fn drop_item(&mut self, id: AllocationId, generation: Generation) {
        let Some(allocation) = self.allocations.get_mut(&id) else { return };
        let Some(position) = allocation.items.iter().position(|item| item.generation == generation) else { return };
        let item = allocation.items.remove(position);
        let tuple = (allocation.eip, item.want.protocol, item.external);
        self.by_generation.remove(&generation);
        self.forget_adopted(id, generation);
        self.disown(tuple, item.touched);
    }
}
