//! What a leader without history takes over: the allocations that claims describe, and those of which only entries are
//! left (design.md §6).
//!
//! A claim counts if it can be believed. Of two claims to one external tuple the one counts whose entry is there, else
//! the one of the higher term. An entry with our mark and without a claim is the allocation of the pod whose UID, address
//! and port it carries, if that pod is served; else it stands for nothing.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use crate::machine::demand::{Demand, Want};
use crate::machine::event::{decided, seen};
use crate::machine::identity::{AllocationId, EntryId, Generation, Mark, PodKey, PodUid, TableId, protocol_of};
use crate::machine::state::{Address, Listed, Pod, Standing, State, StrangeClaim, Stray, TERM_LEAD_MAX};

/// What becomes of an entry that was there when its table was first read without history.
pub(super) enum Remnant {
    /// It is a served pod's allocation.
    Recovered(Box<decided::Allocated>),
    /// That cannot be told yet.
    Open,
    /// It stands for nothing.
    Nobodys,
}

impl State {
    /// The allocation that a claim describes, if it can be believed and none describes it better.
    pub(super) fn recover(&self, key: &PodKey, strange: &StrangeClaim) -> Option<decided::Allocated> {
        let claim = strange.claim.as_ref().filter(|claim| self.is_believed(key, claim))?;
        if self.is_outranked(key, claim) {
            return None;
        }
        let (eni, vswitch, zone) = claim.place.clone();
        Some(decided::Allocated {
            pod: claim.pod.clone(),
            namespace: key.namespace().to_owned(),
            name: key.name().to_owned(),
            allocation: claim.allocation,
            gateway: claim.gateway.clone(),
            table: claim.table.clone(),
            eip: claim.eip?,
            ip: claim.ip?,
            eni,
            vswitch,
            zone,
            fixed: claim.fixed,
            items: claim.items.iter().map(|item| self.as_entry_says(claim, item)).collect(),
            passed_over: Vec::new(),
        })
    }

    /// An item as its entry is: what is there with the mark of the allocation counts for more than what the claim says of
    /// the external port.
    fn as_entry_says(&self, claim: &seen::Claim, item: &decided::Item) -> decided::Item {
        let (Some(eip), Some(ip), Some(protocol)) = (claim.eip, claim.ip, protocol_of(item.protocol)) else {
            return *item;
        };
        if self.is_marked(claim, eip, item) {
            return *item;
        }
        let (want, table) = (Want { internal: item.internal, protocol }, TableId::from(claim.table.as_str()));
        let places = self.strays_of.get(&AllocationId::from(claim.allocation)).into_iter().flatten();
        let found = places.filter(|(other, _)| *other == table).filter_map(|(table, entry)| {
            let stray = self.tables.get(table)?.stray(Some(entry))?;
            let mark = Mark::parse(&stray.name).filter(|mark| mark.is_for(&PodUid::from(claim.pod.as_str())))?;
            let (inside, external) = stray.ports()?;
            let alive = !stray.stale && !stray.deleted && stray.external_ip == eip && stray.internal_ip == ip;
            let owned = self.owners.contains_key(&(eip, protocol, external));
            let said = claim.items.iter().any(|other| (other.external, other.protocol) == (external, item.protocol));
            let new = !self.by_generation.contains_key(&mark.generation);
            (inside == want && alive && new && !owned && !said).then_some((mark.generation, external))
        });
        let Some((generation, external)) = found.max() else { return *item };
        decided::Item { external, generation: generation.into(), ..*item }
    }

    /// Whether a claim can be true: its term, its place in a configured pool or its entries, and no other allocation on
    /// its tuples.
    fn is_believed(&self, key: &PodKey, claim: &seen::Claim) -> bool {
        let (Some(eip), Some(_)) = (claim.eip, claim.ip) else { return false };
        let pool = self.pools.iter().find(|entry| entry.gateway.as_str() == claim.gateway);
        let within = |item: &decided::Item| {
            pool.is_some_and(|pool| pool.range.contains(item.external)) || self.is_marked(claim, eip, item)
        };
        let free = |item: &decided::Item| {
            protocol_of(item.protocol)
                .is_some_and(|protocol| !self.owners.contains_key(&(eip, protocol, item.external)))
        };
        let unused = |item: &decided::Item| !self.by_generation.contains_key(&item.generation.into());
        let pod = self.pods.get(&PodUid::from(claim.pod.as_str()));
        claim.allocation.0 <= self.term.saturating_add(TERM_LEAD_MAX)
            && pod.is_none_or(|pod| pod.key == *key)
            && !claim.items.is_empty()
            && claim.items.iter().all(|item| within(item) && free(item) && unused(item))
            && !self.by_name.contains_key(key)
            && !self.allocations.contains_key(&AllocationId::from(claim.allocation))
    }

    /// Whether what a claim says cannot be held against its table's entries yet. A table that belongs to no configured
    /// gateway is read only once something is known to be in it.
    pub(super) fn awaits_entries(&self, claim: &seen::Claim) -> bool {
        let configured = self.pools.iter().any(|pool| pool.gateway.as_str() == claim.gateway);
        configured && !self.is_open(&TableId::from(claim.table.as_str())) && !self.is_all_read()
    }

    /// Whether an entry tells otherwise: on a tuple of the claim stands another allocation of its pod, which is served. It
    /// is decided first.
    pub(super) fn is_contradicted(&self, claim: &seen::Claim) -> bool {
        let (uid, table_id) = (PodUid::from(claim.pod.as_str()), TableId::from(claim.table.as_str()));
        let served = self.pods.get(&uid).is_some_and(Pod::is_served);
        let Some((table, eip)) = self.tables.get(&table_id).zip(claim.eip).filter(|_| served) else { return false };
        let other = |mark: &Mark| mark.is_for(&uid) && <(u64, u64)>::from(mark.allocation) != claim.allocation;
        claim.items.iter().filter_map(|item| Some((eip, protocol_of(item.protocol)?, item.external))).any(|tuple| {
            let entry = table.strays_external.get(&tuple);
            let left = entry.filter(|entry| self.remnants.contains(&(table_id.clone(), (*entry).clone())));
            table.stray(left).and_then(|stray| Mark::parse(&stray.name)).is_some_and(|mark| other(&mark))
        })
    }

    /// Whether another claim that can be believed has a better right to a tuple of this one. As long as the table has not
    /// been read nobody knows.
    fn is_outranked(&self, key: &PodKey, claim: &seen::Claim) -> bool {
        let read = self.is_open(&TableId::from(claim.table.as_str())) || self.is_all_read();
        claim.items.iter().any(|item| {
            let tuple = claim.eip.zip(protocol_of(item.protocol)).map(|(eip, protocol)| (eip, protocol, item.external));
            let rivals = tuple.and_then(|tuple| self.strange_at.get(&tuple)).into_iter().flatten();
            rivals.filter(|other| *other != key).any(|other| {
                let strange = self.claims.get(other).filter(|strange| !strange.ghost);
                let rival = strange.and_then(|strange| strange.claim.as_ref());
                rival.filter(|rival| self.is_believed(other, rival)).is_some_and(|rival| {
                    !read
                        || (self.rank(rival, item), std::cmp::Reverse(other))
                            > (self.rank(claim, item), std::cmp::Reverse(key))
                })
            })
        })
    }

    /// Whether a claim goes because the allocation of another name has one of its tuples.
    pub(super) fn is_superseded(&self, key: &PodKey, strange: &StrangeClaim) -> bool {
        let Some((claim, eip)) = strange.claim.as_deref().and_then(|claim| Some((claim, claim.eip?))) else {
            return false;
        };
        strange.ghost
            && claim.items.iter().any(|item| {
                let tuple = protocol_of(item.protocol).map(|protocol| (eip, protocol, item.external));
                let owner = tuple.and_then(|tuple| self.owners.get(&tuple).copied());
                owner.and_then(|id| self.allocations.get(&id)).is_some_and(|other| other.key != *key)
            })
    }

    /// The right of a claim to the tuple of an item: its entry is there, then its term.
    fn rank(&self, claim: &seen::Claim, item: &decided::Item) -> (bool, (u64, u64)) {
        (claim.eip.is_some_and(|eip| self.is_marked(claim, eip, item)), claim.allocation)
    }

    /// Whether a claimed item has an entry with the mark of its allocation: what is there counts, in a pool or not.
    fn is_marked(&self, claim: &seen::Claim, eip: Ipv4Addr, item: &decided::Item) -> bool {
        let Some(table) = self.tables.get(&TableId::from(claim.table.as_str())) else { return false };
        let Some(protocol) = protocol_of(item.protocol) else { return false };
        let entry = table.strays_external.get(&(eip, protocol, item.external)).and_then(|id| table.entries.get(id));
        let Some(Listed::Stray(stray)) = entry else { return false };
        let mark = Mark::parse(&stray.name).filter(|_| stray.marked);
        mark.is_some_and(|mark| <(u64, u64)>::from(mark.allocation) == claim.allocation)
    }

    /// What becomes of an entry with our mark that a leader without history found.
    pub(super) fn decide_remnant(&self, table: &TableId, stray: &Stray) -> Remnant {
        let Some(mark) = Mark::parse(&stray.name) else { return Remnant::Nobodys };
        if self.allocations.contains_key(&mark.allocation)
            || mark.allocation.stamp().term > self.term.saturating_add(TERM_LEAD_MAX)
        {
            return Remnant::Nobodys;
        }
        let undecided = |key: &PodKey| self.claims.get(key).is_some_and(|claim| !claim.ghost);
        if self.strange_of.get(&mark.allocation).is_some_and(|keys| keys.iter().any(undecided)) {
            return Remnant::Open;
        }
        let Some((uid, pod)) = self.pod_of(&mark, stray) else { return Remnant::Nobodys };
        let serves = pod.is_served() && pod.barred.is_none() && !matches!(pod.standing, Standing::Allocated(_));
        if !serves || self.by_name.contains_key(&pod.key) {
            return Remnant::Nobodys;
        }
        let told = |strange: &StrangeClaim| strange.claim.as_ref().is_some_and(|claim| !self.is_contradicted(claim));
        if self.claims.get(&pod.key).is_some_and(|strange| strange.ghost || told(strange)) {
            return Remnant::Open;
        }
        self.remnant_of(table, &mark, uid, pod)
    }

    /// The pod whose UID and address an entry carries.
    fn pod_of(&self, mark: &Mark, stray: &Stray) -> Option<(&PodUid, &Pod)> {
        let uid = self.pods_by_ip.get(&stray.internal_ip)?.iter().find(|uid| mark.is_for(uid))?;
        Some((uid, self.pods.get(uid)?))
    }

    /// Whether an entry may yet turn out to be the mapping of a pod of that name.
    pub(super) fn has_remnant(&self, key: &PodKey) -> bool {
        if self.remnants.is_empty() {
            return false;
        }
        let mut pods =
            self.pods_by_name.get(key).into_iter().flatten().filter_map(|uid| Some((uid, self.pods.get(uid)?.ip?)));
        pods.any(|(uid, ip)| {
            self.strays_to(ip).any(|(table, entry, stray)| {
                self.remnants.contains(&(table.clone(), entry.clone()))
                    && Mark::parse(&stray.name).is_some_and(|mark| mark.is_for(uid))
            })
        })
    }

    /// The allocation of which these entries of a served pod are left.
    fn remnant_of(&self, table_id: &TableId, mark: &Mark, uid: &PodUid, pod: &Pod) -> Remnant {
        let (Demand::On { wants, fixed }, Some(ip)) = (&pod.demand, pod.ip) else { return Remnant::Nobodys };
        let Some(Address::Known(place)) = self.addresses.get(&ip) else { return Remnant::Open };
        let Some(gateway) = self.tables.get(table_id).and_then(|table| table.gateway.as_ref()) else {
            return Remnant::Nobodys;
        };
        let Some((eip, items)) = self.items_left(table_id, mark, uid, ip, wants) else { return Remnant::Nobodys };
        Remnant::Recovered(Box::new(decided::Allocated {
            pod: uid.as_str().to_owned(),
            namespace: pod.key.namespace().to_owned(),
            name: pod.key.name().to_owned(),
            allocation: mark.allocation.into(),
            gateway: gateway.as_str().to_owned(),
            table: table_id.as_str().to_owned(),
            eip,
            ip,
            eni: place.eni.as_str().to_owned(),
            vswitch: place.vswitch.as_str().to_owned(),
            zone: place.zone.as_str().to_owned(),
            fixed: *fixed && self.may_be_fixed(pod),
            items,
            passed_over: Vec::new(),
        }))
    }

    /// The EIP and the items of an allocation as its entries show them, those that the pod asks for. Of two entries for one
    /// port the later made one counts.
    fn items_left(
        &self,
        table_id: &TableId,
        mark: &Mark,
        uid: &PodUid,
        ip: Ipv4Addr,
        wants: &[Want],
    ) -> Option<(Ipv4Addr, Vec<decided::Item>)> {
        let table = self.tables.get(table_id)?;
        let entries = self.strays_of.get(&mark.allocation)?.iter().filter(|(other, _)| other == table_id);
        let strays: Vec<_> = entries.filter_map(|(_, entry)| table.stray(Some(entry))).collect();
        let alive = |stray: &&&Stray| !stray.stale && !stray.deleted && stray.internal_ip == ip;
        let eip = strays.iter().find(alive)?.external_ip;
        let mut found: BTreeMap<Want, (Generation, u16)> = BTreeMap::new();
        for stray in strays.iter().filter(alive).filter(|stray| stray.external_ip == eip) {
            let Some(other) = Mark::parse(&stray.name).filter(|other| other.is_for(uid)) else { continue };
            let Some((want, external)) = stray.ports() else { continue };
            let possible = wants.contains(&want)
                && !self.by_generation.contains_key(&other.generation)
                && !self.owners.contains_key(&(eip, want.protocol, external));
            if possible && found.get(&want).is_none_or(|(before, _)| *before < other.generation) {
                found.insert(want, (other.generation, external));
            }
        }
        let snat = self
            .gateways
            .iter()
            .flat_map(|(_, gateway)| gateway.eips.iter())
            .any(|known| known.address == eip && known.snat);
        let item = |want: &Want| {
            let (generation, external) = found.get(want)?;
            Some(decided::Item {
                internal: want.internal,
                external: *external,
                protocol: want.protocol.number(),
                generation: (*generation).into(),
                port_break: self.port_break(snat, *external),
            })
        };
        let items: Vec<_> = wants.iter().filter_map(item).collect();
        (!items.is_empty()).then_some((eip, items))
    }

    /// Entries that are bound to no item and send to an address.
    pub(crate) fn strays_to(&self, ip: Ipv4Addr) -> impl Iterator<Item = (&TableId, &EntryId, &Stray)> {
        use crate::machine::identity::Protocol;
        let all = (ip, Protocol::Tcp, u16::MIN)..=(ip, Protocol::Udp, u16::MAX);
        self.tables.iter().flat_map(move |(id, table)| {
            let to = table.strays_internal.range(all.clone());
            to.filter_map(move |(_, entry)| Some((id, entry, table.stray(Some(entry))?)))
        })
    }
}
