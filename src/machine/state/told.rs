//! What people are still told of entries that stand for nothing: such an entry goes only when no PodDNAT shows it any
//! more (design.md §5, order of effects).

use std::net::Ipv4Addr;

use crate::machine::identity::{AllocationId, EntryId, Mark, PodKey, Protocol, TableId, protocol_of};
use crate::machine::state::{Published, State, StrangeClaim, Stray};

impl State {
    /// Whether a PodDNAT may still show an entry with the mark of a stray: the allocation's own, while it is not known to
    /// show what is current or nothing; or one that stands for nothing itself.
    pub(super) fn is_told(&self, stray: &Stray) -> bool {
        let Some(mark) = Mark::parse(&stray.name) else { return false };
        let by_allocation = self.allocations.get(&mark.allocation).is_some_and(|allocation| {
            allocation.published != Published::Nothing
                && allocation.published != Published::Content(allocation.revision)
        });
        let by_claim = self
            .strange_of
            .get(&mark.allocation)
            .is_some_and(|keys| keys.iter().any(|key| self.claims.get(key).is_some_and(|claim| claim.published)));
        by_allocation || by_claim
    }

    /// A marked stray came or went.
    pub(super) fn index_stray(&mut self, stray: &Stray, table: &TableId, id: &EntryId, there: bool) {
        let Some(mark) = Mark::parse(&stray.name).filter(|_| stray.marked) else { return };
        let place = (table.clone(), id.clone());
        let strays = self.strays_of.or_default(mark.allocation);
        if there {
            strays.insert(place);
        } else {
            strays.remove(&place);
        }
        if strays.is_empty() {
            self.strays_of.remove(&mark.allocation);
        }
    }

    /// What people are told of an allocation changed.
    pub(super) fn refresh_strays_of(&mut self, id: AllocationId) {
        for (table, entry) in self.strays_of.get(&id).cloned().unwrap_or_default() {
            self.refresh_stray(&table, &entry);
        }
    }

    /// A claim that belongs to no allocation is known.
    pub(super) fn put_claim(&mut self, key: &PodKey, claim: StrangeClaim) {
        let named = claim.claim.as_ref().map(|claim| AllocationId::from(claim.allocation));
        self.index_claim(key, claim);
        if let Some(id) = named {
            self.refresh_strays_of(id);
        }
    }

    /// Puts a claim where it is found by name, by allocation and by tuple.
    pub(super) fn index_claim(&mut self, key: &PodKey, claim: StrangeClaim) {
        for tuple in claimed(&claim) {
            self.strange_at.or_default(tuple).insert(key.clone());
        }
        if let Some(id) = claim.claim.as_ref().map(|claim| AllocationId::from(claim.allocation)) {
            self.strange_of.or_default(id).insert(key.clone());
        }
        self.claims.insert(key.clone(), claim);
    }

    /// It is known no more.
    pub(super) fn take_claim(&mut self, key: &PodKey) -> Option<StrangeClaim> {
        let claim = self.claims.remove(key)?;
        self.originals.remove(key);
        self.intruders.remove(key);
        for tuple in claimed(&claim) {
            let keys = self.strange_at.or_default(tuple);
            keys.remove(key);
            if keys.is_empty() {
                self.strange_at.remove(&tuple);
            }
        }
        if let Some(id) = claim.claim.as_ref().map(|claim| AllocationId::from(claim.allocation)) {
            let keys = self.strange_of.or_default(id);
            keys.remove(key);
            if keys.is_empty() {
                self.strange_of.remove(&id);
            }
            self.refresh_strays_of(id);
            // Where the claim said another allocation, or says it no more, what it left waits for nobody.
            self.wake_remnants_of(id);
        }
        Some(claim)
    }
}

/// The external tuples that a claim names.
fn claimed(strange: &StrangeClaim) -> Vec<(Ipv4Addr, Protocol, u16)> {
    if let Some((claim, eip)) = strange.claim.as_ref().and_then(|claim| Some((claim, claim.eip?))) {
        return claim.items.iter().filter_map(|item| Some((eip, protocol_of(item.protocol)?, item.external))).collect();
    }
    let Some(shown) = strange.shown.as_ref() else { return Vec::new() };
    let items = shown.items.iter();
    items.filter_map(|(_, external, protocol, _)| Some((shown.eip, protocol_of(*protocol)?, *external))).collect()
}
