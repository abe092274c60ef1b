//! Questions that the step asks: what is known already, and what an intent needs to be carried out.

use crate::machine::at::At;
use crate::machine::event::seen;
use crate::machine::identity::Protocol;
use crate::machine::identity::{AllocationId, GatewayId, Generation, PodKey, PodUid, TableId, Tuple, VSwitchId};
use crate::machine::state::mapping::SHOWS_ANOTHER_ENTRY;
use crate::machine::state::{Allocation, Entry, Gateway, Pod, Settings, Standing, State, Stray, Table};

impl State {
    /// Whether an observation of a gateway says nothing new at that machine time.
    #[must_use]
    pub fn knows_gateway(&self, seen: &seen::GatewaySeen, now_ms: u64) -> bool {
        let id = GatewayId::from(seen.gateway.as_str());
        !self.would_confirm(&id, now_ms)
            && self.gateways.get(&id).is_some_and(|gateway| {
                gateway.table.as_ref().map(TableId::as_str) == seen.table.as_deref()
                    && gateway.zone.as_ref().map(crate::machine::identity::ZoneId::as_str) == seen.zone.as_deref()
                    && gateway.available == seen.available
                    && gateway.bound == seen.eips
            })
    }

    /// The gateways that have been seen and are not known to be gone.
    #[must_use]
    pub fn gateways_known(&self) -> Vec<GatewayId> {
        let known = self.gateways.iter().filter(|(_, gateway)| gateway.available || !gateway.bound.is_empty());
        known.map(|(id, _)| id.clone()).collect()
    }

    /// The configured gateways, each once, in order.
    #[must_use]
    pub fn gateways_configured(&self) -> Vec<GatewayId> {
        let mut ids: Vec<GatewayId> = Vec::new();
        for entry in &self.pools {
            if !ids.contains(&entry.gateway) {
                ids.push(entry.gateway.clone());
            }
        }
        ids
    }

    /// The next hops of a vSwitch's default route.
    #[must_use]
    pub fn route(&self, vswitch: &VSwitchId) -> Option<&Vec<GatewayId>> {
        self.routes.get(vswitch)
    }

    /// vSwitches whose route is known.
    #[must_use]
    pub fn vswitches_known(&self) -> Vec<VSwitchId> {
        self.routes.iter().map(|(vswitch, _)| vswitch.clone()).collect()
    }

    /// The tables that must be read in each term: those of configured gateways, and those that an allocation names.
    #[must_use]
    pub fn tables_needed(&self) -> Vec<TableId> {
        let configured = self.gateways_configured();
        let of_gateway = |id: &GatewayId| self.gateways.get(id).and_then(|gateway| gateway.table.clone());
        let mut tables: Vec<TableId> = configured.iter().filter_map(of_gateway).collect();
        for (id, table) in self.tables.iter() {
            if table.committed > 0 && !tables.contains(id) {
                tables.push(id.clone());
            }
        }
        tables
    }

    /// PodDNATs that were known at an event: name and UID.
    pub fn claims_known(&self, at: u64) -> impl Iterator<Item = (&PodKey, &str)> {
        let ours = self.allocations.iter().filter_map(move |(_, allocation)| {
            let (uid, since) = allocation.claim_uid.as_ref()?;
            (*since <= at).then_some((&allocation.key, uid.as_ref()))
        });
        let strange = self.claims.iter().filter(move |(_, claim)| claim.since <= at);
        ours.chain(strange.map(|(key, claim)| (key, claim.uid.as_ref())))
    }

    /// Pods that were known at an event and have not been seen since.
    pub fn pods_known(&self, at: u64) -> impl Iterator<Item = &PodUid> {
        self.pods.iter().filter(move |(_, pod)| pod.seen_at <= at).map(|(uid, _)| uid)
    }

    /// Whether an observation of a PodDNAT says nothing new.
    #[must_use]
    pub fn knows_claim(&self, seen: &seen::ClaimSeen) -> bool {
        let key = PodKey::new(seen.namespace.as_str(), seen.name.as_str());
        let strange = self.claims.get(&key);
        let same = strange.is_some_and(|claim| {
            *claim.uid == *seen.uid
                && claim.claim == seen.claim
                && claim.published == seen.published
                && claim.shown == seen.shown
                && claim.deleting == seen.deleting
                && claim.written_by_us == (seen.manager == seen::MANAGER_NATGW)
        });
        let ours = self.by_name.get(&key).and_then(|id| Some((*id, self.allocations.get(id)?)));
        same || ours.is_some_and(|(id, allocation)| {
            let named = seen.claim.as_ref().is_some_and(|claim| AllocationId::from(claim.allocation) == id);
            let uid = allocation.claim_uid.as_ref().is_some_and(|(uid, _)| **uid == *seen.uid);
            let status = !allocation.is_shown_otherwise(seen.published);
            let restored = allocation.edited && !allocation.differs(id, seen);
            let as_written = !restored && !allocation.is_edited(id, seen);
            let whole =
                allocation.lacks & !SHOWS_ANOTHER_ENTRY == seen.lacks && allocation.claim_deleting == seen.deleting;
            let shows_another = allocation.lacks & SHOWS_ANOTHER_ENTRY != 0;
            let entries = allocation.names_its_entries(seen).is_none_or(|its_own| its_own != shows_another);
            named && uid && status && as_written && whole && entries
        })
    }

    /// Whether a PodDNAT that went was known.
    #[must_use]
    pub fn has_claim(&self, gone: &seen::ClaimGone) -> bool {
        let key = PodKey::new(gone.namespace.as_str(), gone.name.as_str());
        let strange = self.claims.get(&key).is_some_and(|claim| *claim.uid == *gone.uid);
        let ours = self.by_name.get(&key).and_then(|id| self.allocations.get(id));
        strange
            || ours.is_some_and(|allocation| allocation.claim_uid.as_ref().is_some_and(|(uid, _)| **uid == *gone.uid))
    }

    /// Whether some pod still needs to know where an address is.
    #[must_use]
    pub fn is_sought(&self, ip: std::net::Ipv4Addr) -> bool {
        let seeks = |uid| {
            let intent = crate::machine::intent::Intent::Locate { ip, pod: PodUid::clone(uid) };
            self.agenda.rests_on(&intent).is_some()
        };
        self.pods_by_ip.get(&ip).is_some_and(|uids| uids.iter().any(seeks))
    }

    /// Whether an observation of an address says nothing new, or concerns nobody.
    #[must_use]
    pub fn knows_address(&self, seen: &seen::AddressSeen) -> bool {
        let same = |address: &super::Address| match address {
            super::Address::Known(place) => {
                place.eni.as_str() == seen.eni
                    && place.vswitch.as_str() == seen.vswitch
                    && place.zone.as_str() == seen.zone
            }
            super::Address::Missing => false,
        };
        !self.pods_by_ip.contains_key(&seen.ip) || self.addresses.get(&seen.ip).is_some_and(same)
    }

    /// Whether an address is known to belong to no interface.
    #[must_use]
    pub fn is_missing(&self, ip: std::net::Ipv4Addr) -> bool {
        matches!(self.addresses.get(&ip), Some(super::Address::Missing))
    }

    /// The five of the item that a generation creates.
    #[must_use]
    pub fn tuple_of(&self, generation: Generation) -> Option<Tuple> {
        let allocation = self.allocations.get(self.by_generation.get(&generation)?)?;
        allocation.item(generation).map(|item| allocation.tuple(item))
    }

    /// Whether an entry of a listing is what is known of an item: its five, and its status.
    #[must_use]
    pub fn shows(&self, id: AllocationId, generation: Generation, tuple: Option<Tuple>, status: u8) -> bool {
        let Some(allocation) = self.allocations.peek(&id) else { return false };
        let Some(item) = allocation.item(generation) else { return false };
        let as_known = match &item.entry {
            Entry::Present { available, missed_ms: None, .. } => *available == (status == 1),
            Entry::Deleting { missed_ms: None, .. } => true,
            Entry::Present { .. } | Entry::Deleting { .. } => false,
            Entry::Planned | Entry::Unknown { .. } | Entry::Refused { .. } | Entry::Gone => false,
        };
        as_known && tuple == Some(allocation.tuple(item))
    }

    /// Whether entries may send to an allocation's address: not while it moves and the entries on its earlier address
    /// are gone. Two pods that exchange their addresses would wait for each other otherwise.
    #[must_use]
    pub fn occupies(&self, id: AllocationId) -> bool {
        self.allocations.get(&id).is_some_and(|allocation| !allocation.has_left())
    }

    /// Whether an allocation waits until somebody takes away an entry that is not ours and sends to its pod's address.
    #[must_use]
    pub fn waits_for_others(&self, id: AllocationId) -> bool {
        let Some(allocation) = self.allocations.get(&id) else { return false };
        allocation.items_staying().any(|item| {
            let stray = self.stray_to(allocation.ip, item.want.protocol, item.want.internal);
            stray.is_some_and(|stray| !stray.marked)
        })
    }

    /// Whether an allocation waits until its table, which took only a part of it, takes more.
    #[must_use]
    pub fn waits_for_room(&self, id: AllocationId) -> bool {
        self.allocations.get(&id).is_some_and(Allocation::is_partial)
    }

    /// The stray that sends to an address and port, in whichever table: the cloud takes no second one in the whole VPC
    /// (aliyun-api.md §2).
    pub(crate) fn stray_to(&self, ip: std::net::Ipv4Addr, protocol: Protocol, port: u16) -> Option<&Stray> {
        self.tables.iter().find_map(|(_, table)| table.stray(table.strays_internal.get(&(ip, protocol, port))))
    }

    /// An allocation.
    #[must_use]
    pub fn allocation(&self, id: AllocationId) -> Option<&Allocation> {
        self.allocations.get(&id)
    }

    /// The allocation of which a generation is part.
    #[must_use]
    pub fn allocation_of(&self, generation: Generation) -> Option<AllocationId> {
        self.by_generation.get(&generation).copied()
    }

    /// The allocation to which a listed entry belongs.
    #[must_use]
    pub fn owner_of(&self, table: &TableId, entry: &crate::machine::identity::EntryId) -> Option<AllocationId> {
        match self.tables.get(table)?.entries.get(entry)? {
            super::Listed::Ours(generation) => self.by_generation.get(generation).copied(),
            super::Listed::Stray(_) => None,
        }
    }

    /// Whether our deletion of a listed entry was acknowledged.
    #[must_use]
    pub fn is_going(&self, table: &TableId, entry: &crate::machine::identity::EntryId) -> bool {
        match self.tables.get(table).and_then(|table| table.entries.get(entry)) {
            Some(super::Listed::Stray(stray)) => stray.deleted,
            Some(super::Listed::Ours(generation)) => {
                let allocation = self.by_generation.get(generation).and_then(|id| self.allocations.get(id));
                let item = allocation.and_then(|allocation| allocation.item(*generation));
                item.is_some_and(|item| matches!(item.entry, Entry::Deleting { acknowledged: true, .. }))
            }
            None => false,
        }
    }

    /// Whether a listed entry is bound to no item.
    #[must_use]
    pub fn is_stray(&self, table: &TableId, entry: &crate::machine::identity::EntryId) -> bool {
        let listed = self.tables.get(table).and_then(|table| table.entries.get(entry));
        matches!(listed, Some(super::Listed::Stray(_)))
    }

    /// Whether somebody waits for what only a complete listing of a table tells.
    #[must_use]
    pub fn needs_whole(&self, table: &TableId) -> bool {
        let needs = |table: &Table| !table.open || !table.awaited_whole.is_empty() || !table.strays_going.is_empty();
        self.tables.get(table).is_none_or(needs)
    }

    /// The event that last added to what a listing of a table must tell.
    #[must_use]
    pub fn awaited_at(&self, table: &TableId) -> u64 {
        self.tables.get(table).map_or(0, |table| table.awaited_at)
    }

    /// How many entries of items of a table are there and not yet in effect, as last seen.
    #[must_use]
    pub fn pending(&self, table: &TableId) -> usize {
        self.tables.get(table).map_or(0, |table| table.pending.len())
    }

    /// A pod.
    #[must_use]
    pub fn pod(&self, uid: &PodUid) -> Option<&Pod> {
        self.pods.get(uid)
    }

    /// All pods.
    pub fn pods(&self) -> impl Iterator<Item = (&PodUid, &Pod)> {
        self.pods.iter()
    }

    /// The allocations whose entries are for an address.
    pub fn allocations_on(&self, ip: std::net::Ipv4Addr) -> impl Iterator<Item = AllocationId> {
        self.by_ip.peek(&ip).into_iter().flatten().copied()
    }

    /// The pods that have an address and have not ended.
    pub fn pods_on(&self, ip: std::net::Ipv4Addr) -> impl Iterator<Item = &PodUid> {
        let uids = self.pods_by_ip.peek(&ip).into_iter().flatten();
        uids.filter(|uid| self.pods.peek(*uid).is_some_and(|pod| pod.ended.is_none()))
    }

    /// Pods after one in order of UID, all of them without one.
    pub fn pods_after(&self, uid: Option<&PodUid>) -> impl Iterator<Item = (&PodUid, &Pod)> {
        use std::ops::Bound::{Excluded, Unbounded};
        self.pods.range((uid.cloned().map_or(Unbounded, Excluded), Unbounded))
    }

    /// Allocations after one in order, all of them without one.
    pub fn allocations_after(&self, id: Option<AllocationId>) -> impl Iterator<Item = (&AllocationId, &Allocation)> {
        use std::ops::Bound::{Excluded, Unbounded};
        self.allocations.range((id.map_or(Unbounded, Excluded), Unbounded))
    }

    /// The gateways that were seen or are configured, with what of them the pools cover.
    pub fn gateways(&self) -> impl Iterator<Item = (&GatewayId, &Gateway)> {
        self.gateways.scan()
    }

    /// The forward tables.
    pub fn tables(&self) -> impl Iterator<Item = (&TableId, &Table)> {
        self.tables.scan()
    }

    /// All allocations.
    pub fn allocations(&self) -> impl Iterator<Item = (&AllocationId, &Allocation)> {
        self.allocations.iter()
    }

    /// The settings, once there are any.
    #[must_use]
    pub const fn settings(&self) -> Option<&Settings> {
        self.settings.as_ref()
    }

    /// Whether pods and claims have been read in this term.
    #[must_use]
    pub const fn is_cluster_read(&self) -> bool {
        self.cluster_read
    }
}

impl Settings {
    /// UID of the kube-system namespace.
    #[must_use]
    pub fn cluster_uid(&self) -> &str {
        &self.cluster_uid
    }

    /// Its hash, as marks carry it.
    #[must_use]
    pub const fn cluster(&self) -> crate::machine::identity::UidHash {
        self.cluster
    }

    /// How often everything is read again.
    #[must_use]
    pub const fn resync_ms(&self) -> u64 {
        self.resync_ms
    }
}

impl Pod {
    /// What exactly was refused, where the annotations were.
    #[must_use]
    pub fn refusal_detail(&self) -> Option<&str> {
        match &self.demand {
            crate::machine::demand::Demand::Refused(refusal) => Some(&refusal.detail),
            crate::machine::demand::Demand::Off
            | crate::machine::demand::Demand::Kept
            | crate::machine::demand::Demand::On { .. } => None,
        }
    }

    /// The event of its last observation.
    #[must_use]
    pub const fn seen_at(&self) -> u64 {
        self.seen_at
    }

    /// It lists our readiness gate.
    #[must_use]
    pub const fn has_gate(&self) -> bool {
        self.gate
    }

    /// It asks for a mapping, or has asked.
    #[must_use]
    pub const fn has_asked(&self) -> bool {
        self.arrival.is_some()
    }

    /// Its name.
    #[must_use]
    pub const fn key(&self) -> &PodKey {
        &self.key
    }

    /// The note that it carries, as far as we know.
    #[must_use]
    pub const fn noted(&self) -> crate::machine::demand::Note {
        self.noted
    }

    /// How it stands.
    #[must_use]
    pub const fn standing(&self) -> &Standing {
        &self.standing
    }

    /// It asks for a mapping and can have one: it has an address and its end has not begun.
    #[must_use]
    pub const fn is_served(&self) -> bool {
        matches!(self.demand, crate::machine::demand::Demand::On { .. })
            && self.ip.is_some()
            && self.ended.is_none()
            && self.grace_ends_ms.is_none()
    }

    /// Order of arrival: the event with which it first asked.
    pub(crate) fn arrival(&self) -> Option<u64> {
        self.arrival.map(At::number)
    }

    /// Machine time at which its grace period ends.
    pub(crate) fn grace_ends_ms(&self) -> Option<u64> {
        self.grace_ends_ms.map(At::number)
    }
}

impl Table {
    /// Notes whether the next listing must tell something of an item, and whether only a complete one can.
    pub(crate) fn put_awaited(&mut self, item: (AllocationId, Generation), awaits: bool, whole: bool, seq: u64) {
        if awaits && self.awaited.insert(item) {
            self.awaited_at = seq;
        }
        if !awaits {
            self.awaited.remove(&item);
        }
        if awaits && whole {
            self.awaited_whole.insert(item);
        } else {
            self.awaited_whole.remove(&item);
        }
    }

    /// Nothing of an item is awaited any more.
    pub(crate) fn forget_awaited(&mut self, item: (AllocationId, Generation)) {
        self.awaited.remove(&item);
        self.awaited_whole.remove(&item);
    }

    /// The stray of that id.
    pub(crate) fn stray(&self, id: Option<&crate::machine::identity::EntryId>) -> Option<&Stray> {
        match self.entries.get(id?)? {
            super::Listed::Stray(stray) => Some(stray),
            super::Listed::Ours(..) => None,
        }
    }
}

impl Stray {
    /// It carries a mark of this cluster.
    #[must_use]
    pub const fn is_marked(&self) -> bool {
        self.marked
    }

    /// It was decided that it stands for nothing.
    #[must_use]
    pub const fn is_stale(&self) -> bool {
        self.stale
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Public and private side in words.
    #[must_use]
    pub fn endpoints(&self) -> String {
        let ports = |(first, last): (u16, u16)| match (first, last) {
            (0, 0) => "any".to_owned(),
            (first, last) if first == last => first.to_string(),
            (first, last) => format!("{first}/{last}"),
        };
        let protocol = self.protocol.map_or("any", Protocol::as_str);
        let (outside, inside) = (ports(self.external_ports), ports(self.internal_ports));
        format!("{}:{outside}/{protocol} -> {}:{inside}", self.external_ip, self.internal_ip)
    }

    /// Whether an observation says what is known. What state somebody else's entry is in makes no difference.
    #[must_use]
    pub fn says_the_same(&self, seen: &seen::EntrySeen) -> bool {
        *self.name == *seen.name
            && self.external_ip == seen.external_ip
            && self.external_ports == seen.external_ports
            && self.internal_ip == seen.internal_ip
            && self.internal_ports == seen.internal_ports
            && self.protocol == crate::machine::identity::protocol_of(seen.protocol)
    }
}
