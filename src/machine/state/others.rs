//! Another controller: its PodDNATs, what was taken over from it, and what it undoes.
//!
//! A PodDNAT without our annotation that natgw did not write is another controller's. One that was there when this term
//! read the cluster is one of the `originals`; one that came later is one of the `intruders`. Once adoption is switched
//! on, and at the beginning of each term, all of them are judged alike again.
//!
//! An adopted entry carries no mark: it is ours by its id and all five of its tuple, for as long as its item keeps the
//! generation under which it was adopted.

use crate::machine::demand::{Demand, HaltReason};
use crate::machine::event::{decided, seen};
use crate::machine::identity::{AllocationId, EntryId, Generation, Mark, PodKey, PodUid, TableId, Tuple, protocol_of};
use crate::machine::state::{Claim, Standing, State, StrangeClaim, Stray, Subject, Timer};

/// Heals of one allocation after which it is left alone (design.md §6).
pub(crate) const HEALS_MAX: usize = 3;

/// Within what time they must be, and for how long it is then left alone (design.md §6).
pub(crate) const CONTEST_MS: u64 = 10 * 60 * 1_000;

impl State {
    /// Why nothing is decided, if that is so.
    #[must_use]
    pub const fn halted(&self) -> Option<HaltReason> {
        self.halted
    }

    /// PodDNATs of another controller that are known and not adopted.
    #[must_use]
    pub fn others_claims(&self) -> usize {
        self.originals.len().saturating_add(self.intruders.len())
    }

    /// PodDNATs of another controller that are left alone, with their UIDs.
    pub fn claims_of_others(&self) -> impl Iterator<Item = (&PodKey, &str)> {
        let keys = self.originals.iter().chain(&self.intruders);
        let known = keys.filter_map(|key| Some((key, self.claims.get(key)?)));
        known.filter(|(key, strange)| self.is_anothers(key, strange)).map(|(key, strange)| (key, strange.uid.as_ref()))
    }

    /// The allocation that adopted an entry, by the entry's id.
    #[must_use]
    pub fn adopter_of(&self, table: &TableId, entry: &EntryId) -> Option<AllocationId> {
        if self.adopted.is_empty() {
            return None;
        }
        self.adopted.get(&(table.clone(), entry.clone())).map(|(id, _)| *id)
    }

    /// Whether adoption is switched on.
    pub(crate) fn adopts(&self) -> bool {
        self.settings.as_ref().is_some_and(|settings| settings.adopt)
    }

    /// Whether a pod of that name asks, or has what it asked for.
    pub(crate) fn serves(&self, key: &PodKey) -> bool {
        let asks = |uid: &PodUid| {
            self.pods.get(uid).is_some_and(|pod| pod.ended.is_none() && matches!(pod.demand, Demand::On { .. }))
        };
        self.by_name.contains_key(key) || self.pods_by_name.get(key).is_some_and(|uids| uids.iter().any(asks))
    }

    /// Whether a PodDNAT without our annotation is another controller's: natgw did not write it, and no entry with our mark
    /// carries its pod's UID.
    pub(crate) fn is_anothers(&self, key: &PodKey, strange: &StrangeClaim) -> bool {
        strange.claim.is_none() && !strange.written_by_us && !strange.ghost && !self.has_marked_entry(key, strange)
    }

    fn has_marked_entry(&self, key: &PodKey, strange: &StrangeClaim) -> bool {
        let named = self.pods_by_name.get(key).into_iter().flatten();
        let pods = named.filter_map(|uid| Some((uid.clone(), self.pods.get(uid)?.ip?)));
        let shown = strange.shown.as_ref().and_then(|shown| Some((PodUid::from(shown.pod.as_deref()?), shown.ip)));
        pods.chain(shown).any(|(uid, ip)| {
            let of_it = |stray: &Stray| stray.marked && Mark::parse(&stray.name).is_some_and(|mark| mark.is_for(&uid));
            self.strays_to(ip).any(|(_, _, stray)| of_it(stray))
        })
    }

    /// The entry of another controller that is an item's of what its PodDNAT shows: by its id and all five.
    pub(crate) fn entry_shown(&self, table: &TableId, id: &str, tuple: Tuple) -> bool {
        let id = EntryId::from(id);
        let stray = self.tables.get(table).and_then(|table| table.stray(Some(&id)));
        stray.is_some_and(|stray| !stray.marked && stray.tuple() == Some(tuple))
    }

    pub(super) fn halted_at(&mut self, body: &decided::Halted) -> Result<(), &'static str> {
        let reason = HaltReason::from_number(body.reason).ok_or("its reason is unknown")?;
        self.halted = Some(reason);
        self.wake_all_pods();
        Ok(())
    }

    pub(super) fn resumed(&mut self) -> Result<(), &'static str> {
        self.halted.take().ok_or("decisions did not stop")?;
        self.wake_all_pods();
        Ok(())
    }

    fn wake_all_pods(&mut self) {
        let open = |pod: &super::Pod| !matches!(pod.standing, Standing::Allocated(_));
        let uids: Vec<PodUid> = self.pods.iter().filter(|(_, pod)| open(pod)).map(|(uid, _)| uid.clone()).collect();
        for uid in uids {
            self.wake_pod(&uid);
        }
    }

    /// A PodDNAT that belongs to no allocation came, or is another than before. `original`: it was one of the originals.
    pub(super) fn note_others_claim(&mut self, key: &PodKey, seen: &seen::ClaimSeen, original: bool) {
        if seen.claim.is_some() || seen.manager == seen::MANAGER_NATGW {
            return;
        }
        if self.cluster_read && !original {
            self.intruders.insert(key.clone());
        } else {
            self.originals.insert(key.clone());
        }
    }

    /// From now on they are judged as if they had been there when this term began.
    pub(super) fn judge_others_anew(&mut self) {
        let intruders = std::mem::take(&mut self.intruders);
        self.originals.extend(intruders);
    }

    /// Something changed on which it may depend whether what others left can be adopted.
    pub(super) fn wake_originals(&mut self) {
        self.worklist.extend(self.originals.iter().cloned().map(Subject::Claim));
    }

    /// The same, of an external tuple alone.
    pub(super) fn wake_originals_at(&mut self, tuple: (std::net::Ipv4Addr, crate::machine::identity::Protocol, u16)) {
        if !self.originals.is_empty()
            && let Some(keys) = self.strange_at.get(&tuple)
        {
            self.worklist.extend(keys.iter().cloned().map(Subject::Claim));
        }
    }

    /// An entry came at these tuples.
    pub(super) fn wake_claimed_at(&mut self, tuples: &[(std::net::Ipv4Addr, crate::machine::identity::Protocol, u16)]) {
        if !self.originals.is_empty() {
            tuples.iter().for_each(|tuple| self.wake_originals_at(*tuple));
        }
    }

    /// Whether what is taken over is a reservation of another controller's.
    pub(super) fn is_kept(
        &self,
        body: &decided::Allocated,
        origin: super::allocations::Origin,
        strange: Option<&StrangeClaim>,
    ) -> bool {
        use super::allocations::Origin;
        match origin {
            Origin::Decided => false,
            Origin::Claimed => strange.and_then(|strange| strange.claim.as_ref()).is_some_and(|claim| claim.kept),
            Origin::Adopted => !self.pods.contains_key(&PodUid::from(body.pod.as_str())),
        }
    }

    /// Notes which entries an allocation takes over: those that its PodDNAT names, as they are there or may be found.
    pub(super) fn take_over(&mut self, id: AllocationId, entries: Vec<(Generation, EntryId)>) {
        let Some(allocation) = self.allocations.get_mut(&id) else { return };
        let table = allocation.table.clone();
        for (generation, entry) in entries {
            if self.adopted.contains_key(&(table.clone(), entry.clone())) {
                continue;
            }
            allocation.unusual.change(|unusual| unusual.adopted.push((generation, entry.clone())));
            self.adopted.insert((table.clone(), entry), (id, generation));
        }
    }

    /// The entry that was adopted for an item is not its entry any more.
    pub(super) fn forget_adopted(&mut self, id: AllocationId, generation: Generation) {
        let Some(allocation) = self.allocations.get_mut(&id) else { return };
        let Some(at) = allocation.unusual.adopted.iter().position(|(adopted, _)| *adopted == generation) else {
            return;
        };
        let (_, entry) = allocation.unusual.change(|unusual| unusual.adopted.remove(at));
        self.adopted.remove(&(allocation.table.clone(), entry));
    }

    /// The item of an entry without a mark, if that was adopted and all five are what they were.
    pub(super) fn adopted_item(
        &self,
        table: &TableId,
        entry: &EntryId,
        tuple: Option<Tuple>,
    ) -> Option<(AllocationId, Generation)> {
        if self.adopted.is_empty() {
            return None;
        }
        let (id, generation) = *self.adopted.get(&(table.clone(), entry.clone()))?;
        let allocation = self.allocations.get(&id).filter(|allocation| !allocation.has_left())?;
        let item = allocation.item(generation)?;
        (tuple == Some(allocation.tuple(item))).then_some((id, generation))
    }

    /// What a PodDNAT says of the entries of an allocation that was read from it: of our annotation it counts only where
    /// adoption is switched on, for anybody can write one.
    pub(super) fn entries_named(
        &self,
        body: &decided::Allocated,
        strange: &StrangeClaim,
    ) -> Vec<(Generation, EntryId)> {
        let ids: Vec<Option<&str>> = match (&strange.claim, &strange.shown) {
            (Some(claim), _) if self.adopts() && claim.entries.len() == body.items.len() => {
                claim.entries.iter().map(|id| Some(id.as_str())).collect()
            }
            (None, Some(shown)) => body.items.iter().map(|item| shown.entry_of(item)).collect(),
            (Some(_) | None, _) => Vec::new(),
        };
        let named = body.items.iter().zip(ids).filter_map(|(item, id)| Some((item, id.filter(|id| !id.is_empty())?)));
        let table = TableId::from(body.table.as_str());
        let there = |item: &decided::Item, id: &str| {
            let protocol = protocol_of(item.protocol);
            let tuple = protocol.map(|protocol| Tuple {
                external_ip: body.eip,
                external_port: item.external,
                internal_ip: body.ip,
                internal_port: item.internal,
                protocol,
            });
            // What the original names must be there as it says; what we wrote may still have to be listed.
            strange.claim.is_some() || tuple.is_some_and(|tuple| self.entry_shown(&table, id, tuple))
        };
        named.filter(|(item, id)| there(item, id)).map(|(item, id)| (item.generation.into(), id.into())).collect()
    }

    /// Somebody undid what was written of an allocation, and it was written again.
    pub(super) fn healed(&mut self, id: AllocationId) {
        let now = self.machine_ms;
        let Some(allocation) = self.allocations.get_mut(&id) else { return };
        allocation.unusual.change(|unusual| {
            unusual.heals.retain(|at| at.saturating_add(CONTEST_MS) > now);
            unusual.heals.push(now);
        });
        self.worklist.insert(Subject::Allocation(id));
    }

    pub(super) fn contested(&mut self, body: &decided::Contested) -> Result<(), &'static str> {
        let id = AllocationId::from(body.allocation);
        let due = self.machine_ms.saturating_add(CONTEST_MS);
        let allocation = self.allocations.get_mut(&id).ok_or("the allocation is not known")?;
        let before = allocation.unusual.change(|unusual| {
            unusual.heals.clear();
            unusual.contest_ms.replace(due)
        });
        if let Some(before) = before {
            self.timers.remove(&(before, Timer::Contest(id)));
        }
        self.timers.insert((due, Timer::Contest(id)));
        self.refresh_allocation(id);
        Ok(())
    }

    pub(super) fn contest_ended(&mut self, id: AllocationId) {
        let Some(allocation) = self.allocations.get_mut(&id) else { return };
        if let Some(due) = allocation.unusual.change(|unusual| unusual.contest_ms.take()) {
            self.timers.remove(&(due, Timer::Contest(id)));
        }
        self.refresh_allocation(id);
        self.worklist.insert(Subject::Allocation(id));
    }

    /// A PodDNAT that was edited says again what was written.
    pub(super) fn restore_claim(&mut self, id: AllocationId, seen: &seen::ClaimSeen) {
        let Some(allocation) = self.allocations.get_mut(&id) else { return };
        if allocation.edited && !seen.deleting && !allocation.differs(id, seen) {
            allocation.edited = false;
            allocation.claim = Claim::Written(allocation.claim_revision);
        }
    }
}

impl seen::Shown {
    /// The entry that is named for an item.
    pub(crate) fn entry_of(&self, item: &decided::Item) -> Option<&str> {
        let of_it = |(internal, external, protocol, _): &&(u16, u16, u8, Option<String>)| {
            (*internal, *external, *protocol) == (item.internal, item.external, item.protocol)
        };
        self.items.iter().find(of_it).and_then(|(_, _, _, id)| id.as_deref())
    }
}
