//! What becomes of the items of an allocation: refused, lost, in somebody's way, no longer or newly asked for.

use crate::machine::decide::admission::is_first;
use crate::machine::demand::{Demand, ReleaseReason, Want};
use crate::machine::event::{Event, decided};
use crate::machine::identity::{AllocationId, Protocol};
use crate::machine::state::{Address, Allocation, Entry, Item, Place, Pod, RefusedClass, State, Table};

/// Why entries are created anew, as numbers of [`decided::Regenerated`].
const LOST: u8 = decided::REGENERATED_LOST;
const ADDRESS_CHANGED: u8 = 2;
const REFUSED: u8 = 3;

/// Who stands where an item's entry should be.
enum Obstacle {
    /// A stranger's entry has the external tuple.
    External,
    /// A stranger's entry has the internal tuple, or one of ours that is going has either: wait.
    Wait,
}

impl State {
    pub(super) fn decide_items(&self, id: AllocationId, allocation: &Allocation, pod: &Pod) -> Option<Event> {
        let table = self.tables.get(&allocation.table)?;
        if let Some(event) = self.decide_quota(id, allocation, table) {
            return Some(event);
        }
        if let Some(event) = self.decide_changed(id, allocation, pod) {
            return Some(event);
        }
        let mut renewed = Vec::new();
        for item in allocation.items.iter().filter(|item| !item.is_leaving()) {
            let due = match &item.entry {
                // What somebody takes away again and again is left alone for a while.
                Entry::Gone if allocation.unusual.contest_ms.is_some() => continue,
                Entry::Gone => true,
                Entry::Refused { class: RefusedClass::Duplicate, looked: true, .. } => false,
                Entry::Planned
                | Entry::Unknown { .. }
                | Entry::Refused { .. }
                | Entry::Present { .. }
                | Entry::Deleting { .. } => continue,
            };
            match self.obstacle_of(allocation, item, table) {
                // Other ports are given when they have rested.
                Some(Obstacle::External) if table.rests_ms.is_some() => {}
                Some(Obstacle::External) => return Some(self.move_item(id, allocation, item)),
                Some(Obstacle::Wait) => {}
                None if due => {
                    let generation = self.next_generation(renewed.len());
                    renewed.push((item.want.internal, item.want.protocol.number(), generation));
                }
                // The pause after a refusal decides.
                None => {}
            }
        }
        let reason = if allocation.unusual.retries == 0 { LOST } else { REFUSED };
        (!renewed.is_empty()).then(|| regenerate(id, allocation, reason, &allocation.place, renewed))
    }

    /// A table that took only a part: its limit is learned. The first pod of which it took some keeps these and its place;
    /// later ones give way.
    fn decide_quota(&self, id: AllocationId, allocation: &Allocation, table: &Table) -> Option<Event> {
        let entries = u32::try_from(table.entries.len()).unwrap_or(u32::MAX);
        let release = || {
            let reason = ReleaseReason::TableFull.number();
            Event::ReleaseDecided(decided::ReleaseDecided { allocation: id.into(), reason })
        };
        let learned = |entries| {
            let table = allocation.table.as_str().to_owned();
            Event::QuotaLearned(decided::QuotaLearned { table, entries })
        };
        let refused = allocation.items.iter().filter_map(|item| match item.entry {
            Entry::Refused { since, class: RefusedClass::Quota, .. } => Some(since),
            Entry::Refused { .. }
            | Entry::Planned
            | Entry::Unknown { .. }
            | Entry::Present { .. }
            | Entry::Deleting { .. }
            | Entry::Gone => None,
        });
        if let Some(since) = refused.max() {
            if since > table.limit_since && table.limit != Some(entries) {
                return Some(learned(Some(entries)));
            }
            if !self.keeps_its_place(id, allocation, table) {
                return Some(drop_refused(id, allocation).unwrap_or_else(release));
            }
            if table.limit.is_some_and(|limit| entries > limit) {
                return Some(learned(None));
            }
            return self.try_again(id, allocation, table);
        }
        let limit = table.limit?;
        let present = |item: &Item| matches!(item.entry, Entry::Present { .. });
        if allocation.items.iter().all(present) && entries > limit {
            return Some(learned(None));
        }
        let unsent = allocation.items.iter().all(|item| item.entry == Entry::Planned && !item.touched);
        let count = u32::try_from(allocation.items.len()).unwrap_or(u32::MAX);
        (unsent && !allocation.probe && table.committed > limit && entries.saturating_add(count) > limit).then(release)
    }

    /// Whether a pod is the first of those of which a full table took a part: nobody who came earlier waits for it.
    fn keeps_its_place(&self, id: AllocationId, allocation: &Allocation, table: &Table) -> bool {
        let arrival =
            |allocation: &Allocation| self.pods.get(&allocation.pod).and_then(Pod::arrival).unwrap_or(u64::MAX);
        let mine = (arrival(allocation), id);
        let mut others = table.partial.iter().filter_map(|other| Some((arrival(self.allocations.get(other)?), *other)));
        allocation.is_partial() && is_first(table, mine.0) && others.all(|other| other >= mine)
    }

    /// Where a full table has room again, or may be probed, what it refused is asked for again: as much as there is room
    /// for, or one.
    fn try_again(&self, id: AllocationId, allocation: &Allocation, table: &Table) -> Option<Event> {
        let refused: Vec<_> = allocation
            .items
            .iter()
            .filter(|item| matches!(item.entry, Entry::Refused { class: RefusedClass::Quota, .. }))
            .collect();
        let count = u32::try_from(refused.len()).unwrap_or(u32::MAX);
        let taken = table.committed.saturating_sub(count);
        let room = table.limit.map_or(count, |limit| limit.saturating_sub(taken)).max(u32::from(table.probing));
        let renewed: Vec<_> = refused
            .iter()
            .take(usize::try_from(room).unwrap_or(usize::MAX))
            .enumerate()
            .map(|(position, item)| (item.want.internal, item.want.protocol.number(), self.next_generation(position)))
            .collect();
        (!renewed.is_empty()).then(|| regenerate(id, allocation, REFUSED, &allocation.place, renewed))
    }

    /// The pod asks for other ports than before: what stays keeps its numbers.
    fn decide_changed(&self, id: AllocationId, allocation: &Allocation, pod: &Pod) -> Option<Event> {
        let Demand::On { wants, .. } = &pod.demand else { return None };
        let has = |want: &Want| allocation.items.iter().any(|item| item.want == *want);
        let dropped: Vec<_> = allocation
            .items
            .iter()
            .filter(|item| !item.is_leaving() && !wants.contains(&item.want))
            .map(|item| item.want)
            .collect();
        let missing: Vec<Want> = wants.iter().filter(|want| !has(want)).copied().collect();
        let added = self.added(allocation, &missing).unwrap_or_default();
        let stays = allocation.items.iter().any(|item| !item.is_leaving() && wants.contains(&item.want));
        if !stays && added.is_empty() {
            let reason = ReleaseReason::PortsChanged.number();
            return Some(Event::ReleaseDecided(decided::ReleaseDecided { allocation: id.into(), reason }));
        }
        (!dropped.is_empty() || !added.is_empty()).then(|| {
            let named = |want: &Want| (want.internal, want.protocol.number());
            let dropped = dropped.iter().map(named).collect();
            Event::ItemsChanged(decided::ItemsChanged { allocation: id.into(), dropped, added })
        })
    }

    /// New ports of a live pod, on its own EIP; `None` while there is no room, in the table or on the journal's disk.
    fn added(&self, allocation: &Allocation, missing: &[Want]) -> Option<Vec<decided::Item>> {
        if self.short {
            return None;
        }
        let eips = &self.gateways.get(&allocation.gateway)?.eips;
        let eip = eips.find(allocation.eip).filter(|eip| eip.usable)?;
        let table = self.tables.get(&allocation.table)?;
        let needed = u32::try_from(missing.len()).unwrap_or(u32::MAX);
        if table.limit.is_some_and(|limit| table.committed.saturating_add(needed) > limit) || table.rests_ms.is_some() {
            return None;
        }
        let ports = eip.pick(missing)?;
        let item = |(position, (want, external)): (usize, (&Want, u16))| decided::Item {
            internal: want.internal,
            external,
            protocol: want.protocol.number(),
            generation: self.next_generation(position),
            port_break: self.port_break(eip.snat, external),
        };
        Some(missing.iter().zip(ports).enumerate().map(item).collect())
    }

    fn obstacle_of(&self, allocation: &Allocation, item: &Item, table: &Table) -> Option<Obstacle> {
        let protocol: Protocol = item.want.protocol;
        let outside = table.stray(table.strays_external.get(&(allocation.eip, protocol, item.external)));
        let inside = self.stray_to(allocation.ip, protocol, item.want.internal);
        match (outside.map(|stray| stray.marked), inside) {
            (_, Some(_)) | (Some(true), None) => Some(Obstacle::Wait),
            (Some(false), None) => Some(Obstacle::External),
            (None, None) => None,
        }
    }

    /// The item gets another port of its EIP; without room there the whole pod looks for another EIP, or waits.
    fn move_item(&self, id: AllocationId, allocation: &Allocation, item: &Item) -> Event {
        self.moved(id, allocation, item).unwrap_or_else(|| {
            let reason = ReleaseReason::PortTaken.number();
            Event::ReleaseDecided(decided::ReleaseDecided { allocation: id.into(), reason })
        })
    }

    fn moved(&self, id: AllocationId, allocation: &Allocation, item: &Item) -> Option<Event> {
        let eips = &self.gateways.get(&allocation.gateway)?.eips;
        let eip = eips.find(allocation.eip).filter(|eip| eip.usable)?;
        let external = eip.pick(&[item.want])?.first().copied()?;
        let moved = decided::Item {
            internal: item.want.internal,
            external,
            protocol: item.want.protocol.number(),
            generation: self.next_generation(0),
            port_break: self.port_break(eip.snat, external),
        };
        Some(Event::ItemMoved(decided::ItemMoved { allocation: id.into(), item: moved, from: item.external }))
    }

    /// All entries on the earlier address are gone: they come back on the new one, once it is known where that is.
    pub(super) fn rebind(&self, id: AllocationId, allocation: &Allocation, pod: &Pod) -> Option<Event> {
        let gone = allocation.items.iter().all(|item| item.entry == Entry::Gone);
        let ip = pod.ip.filter(|_| gone)?;
        let others =
            self.by_ip.get(&ip).is_some_and(|others| others.iter().any(|other| *other != id && self.occupies(*other)));
        let Some(Address::Known(place)) = self.addresses.get(&ip).filter(|_| !others) else { return None };
        let renewed =
            allocation.items.iter().enumerate().map(|(position, item)| {
                (item.want.internal, item.want.protocol.number(), self.next_generation(position))
            });
        let event = regenerate(id, allocation, ADDRESS_CHANGED, place, renewed.collect());
        match event {
            Event::Regenerated(body) => Some(Event::Regenerated(decided::Regenerated { ip, ..body })),
            other => Some(other),
        }
    }
}

/// A mapping that players know keeps what it has: only the entries that the table did not take go, and wait for room.
fn drop_refused(id: AllocationId, allocation: &Allocation) -> Option<Event> {
    let refused = |item: &&Item| matches!(item.entry, Entry::Refused { class: RefusedClass::Quota, .. });
    let stays = allocation.items.iter().any(|item| !item.is_leaving() && matches!(item.entry, Entry::Present { .. }));
    (allocation.established && stays).then(|| {
        let dropped =
            allocation.items.iter().filter(refused).map(|item| (item.want.internal, item.want.protocol.number()));
        let (dropped, added) = (dropped.collect(), Vec::new());
        Event::ItemsChanged(decided::ItemsChanged { allocation: id.into(), dropped, added })
    })
}

fn regenerate(
    id: AllocationId,
    allocation: &Allocation,
    reason: u8,
    place: &Place,
    items: Vec<(u16, u8, (u64, u64))>,
) -> Event {
    let place = (place.eni.as_str().to_owned(), place.vswitch.as_str().to_owned(), place.zone.as_str().to_owned());
    Event::Regenerated(decided::Regenerated { allocation: id.into(), reason, ip: allocation.ip, place, items })
}
