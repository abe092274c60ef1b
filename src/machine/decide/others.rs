//! What another controller left or does: whether anything is decided at all, what is taken over, and what is left alone.
//!
//! Adoption makes no call: entries that are there stay as they are, and only the PodDNAT gets our annotation.

use crate::machine::decide::wait;
use crate::machine::demand::{Demand, HaltReason, WaitReason};
use crate::machine::event::{Event, decided, seen};
use crate::machine::identity::{AllocationId, GatewayId, PodKey, PodUid, Protocol, TableId, Tuple, protocol_of};
use crate::machine::state::others::HEALS_MAX;
use crate::machine::state::{Allocation, Pod, State, StrangeClaim, Subject};

impl State {
    /// Whether decisions stop here, or go on again.
    pub(super) fn decide_halt(&self) -> Option<Event> {
        let halt = self.halt();
        match (self.halted, halt) {
            (None, Some((reason, key))) => Some(Event::Halted(decided::Halted {
                reason: reason.number(),
                namespace: key.namespace().to_owned(),
                name: key.name().to_owned(),
            })),
            (Some(before), None) => Some(Event::Resumed(decided::Resumed { reason: before.number() })),
            // The reason may have changed meanwhile; what stops decisions has not.
            (Some(_), Some(_)) | (None, None) => None,
        }
    }

    /// What stops every decision, if anything does. Without adoption any PodDNAT that another controller left before this
    /// term began; whatever is configured, one that it made since for a pod that is served.
    fn halt(&self) -> Option<(HaltReason, &PodKey)> {
        let anothers = |key: &&PodKey| self.claims.get(*key).is_some_and(|strange| self.is_anothers(key, strange));
        if !self.adopts()
            && let Some(key) = self.originals.iter().find(anothers)
        {
            return Some((HaltReason::OriginalFound, key));
        }
        let made = self.intruders.iter().filter(|key| self.serves(key)).find(anothers);
        made.map(|key| (HaltReason::OtherWriter, key))
    }

    /// While nothing is decided, pods that ask are told why; everything else waits.
    pub(super) fn decide_halted(&mut self) -> Option<Event> {
        while let Some(subject) = self.first_to_tell() {
            if let Subject::Pod(_, uid) = &subject
                && let Some(pod) = self.pods.get(uid)
                && let Demand::On { wants, .. } = &pod.demand
                && pod.is_served()
                && !matches!(pod.standing, crate::machine::state::Standing::Allocated(_))
            {
                let event = wait(uid, WaitReason::OtherController, None, wants.len());
                if !super::says_again(pod, &event) {
                    return Some(event);
                }
            }
            self.worklist.remove(&subject);
        }
        None
    }

    /// Whether a pod has still to be told that nothing is decided.
    pub(super) fn waits_to_be_told(&self) -> bool {
        self.first_to_tell().is_some()
    }

    fn first_to_tell(&self) -> Option<Subject> {
        let pods = self.worklist.range(Subject::Pod(0, PodUid::from(""))..);
        pods.take_while(|subject| matches!(subject, Subject::Pod(..))).next().cloned()
    }

    /// Whether everything that it may rest on has been read, whether what another controller left can be adopted.
    pub(super) fn is_readable(&self, strange: &StrangeClaim) -> bool {
        let gateway = strange.shown.as_ref().map(|shown| GatewayId::from(shown.gateway.as_str()));
        let configured = gateway.filter(|id| self.pools.iter().any(|pool| pool.gateway == *id));
        configured.is_none_or(|id| {
            let table = self.gateways.get(&id).and_then(|gateway| gateway.table.as_ref());
            table.is_some_and(|table| self.is_open(table)) || self.is_all_read()
        })
    }

    /// What another controller left becomes an allocation, if its tuples lie in a configured pool and nobody has them. What
    /// natgw wrote and lost its annotation is taken over alike where an entry that it names is there as it says.
    pub(super) fn decide_original(&self, key: &PodKey, strange: &StrangeClaim) -> Option<Event> {
        if self.intruders.contains(key) || self.by_name.contains_key(key) || self.has_remnant(key) {
            return None;
        }
        let shown = strange.shown.as_deref()?;
        let gateway_id = GatewayId::from(shown.gateway.as_str());
        let table_id = self.gateways.get(&gateway_id)?.table.clone().filter(|table| self.is_open(table))?;
        let whole = self.is_in_pool(&gateway_id, shown)
            && shown.items.iter().all(|item| self.may_be_adopted(&table_id, shown, item));
        let adopted = |item: &Shown| {
            item.3.as_deref().zip(tuple(shown, item)).is_some_and(|(id, five)| self.entry_shown(&table_id, id, five))
        };
        let known = self.is_anothers(key, strange) || shown.items.iter().any(adopted);
        (whole && known && self.is_free_inside(shown)).then(|| self.adopt(key, &strange.uid, shown, &table_id))
    }

    /// Whether all that a PodDNAT maps is in a configured pool.
    fn is_in_pool(&self, gateway_id: &GatewayId, shown: &seen::Shown) -> bool {
        let Some(gateway) = self.gateways.get(gateway_id) else { return false };
        let eip = gateway.eips.iter().find(|eip| eip.address == shown.eip);
        !shown.items.is_empty()
            && eip.is_some_and(|eip| shown.items.iter().all(|(_, external, ..)| eip.range.contains(*external)))
    }

    /// Whether nobody has the external tuple of an item, and what is there in its place is what the PodDNAT names. An
    /// entry that has all five and that it does not name may be named a moment later.
    fn may_be_adopted(&self, table: &TableId, shown: &seen::Shown, item: &Shown) -> bool {
        let Some(five) = tuple(shown, item) else { return false };
        let outside = (five.external_ip, five.protocol, five.external_port);
        let free = !self.owners.contains_key(&outside);
        let named = item.3.as_deref();
        let there = self.tables.get(table).and_then(|table| {
            let id = table.strays_external.get(&outside)?;
            Some((id, table.stray(Some(id))?))
        });
        let unnamed = there.is_some_and(|(id, stray)| stray.tuple() == Some(five) && named != Some(id.as_str()));
        free && !unnamed
    }

    /// Whether no allocation sends to the ports of the pod's address.
    fn is_free_inside(&self, shown: &seen::Shown) -> bool {
        let others = self.by_ip.get(&shown.ip).into_iter().flatten().filter(|id| self.occupies(**id));
        others.filter_map(|id| self.allocations.get(id)).all(|other| {
            let same = |(internal, _, protocol, _): &Shown| {
                let want = |item: &crate::machine::state::Item| (item.want.internal, item.want.protocol.number());
                other.items.iter().any(|item| want(item) == (*internal, *protocol))
            };
            !shown.items.iter().any(same)
        })
    }

    /// `claim`: UID of the PodDNAT.
    fn adopt(&self, key: &PodKey, claim: &str, shown: &seen::Shown, table: &TableId) -> Event {
        let named = self.pods_by_name.get(key).into_iter().flatten();
        let there: Vec<(&PodUid, &Pod)> = named.filter_map(|uid| Some((uid, self.pods.get(uid)?))).collect();
        let owner = shown.pod.as_deref().map(PodUid::from);
        let same = |(uid, pod): &&(&PodUid, &Pod)| match &owner {
            Some(owner) => owner == *uid,
            // A fixed PodDNAT is not its pod's: the one that has its address is it.
            None => pod.ip == Some(shown.ip),
        };
        let pod = there.iter().find(same);
        let eip = self.gateways.iter().find_map(|(_, gateway)| gateway.eips.find(shown.eip));
        let snat = eip.is_some_and(|eip| eip.snat);
        let item = |(position, (internal, external, protocol, _)): (usize, &Shown)| decided::Item {
            internal: *internal,
            external: *external,
            protocol: *protocol,
            generation: self.next_generation(position),
            port_break: self.port_break(snat, *external),
        };
        let (eni, vswitch, zone) = shown.place.clone();
        Event::Adopted(decided::Allocated {
            // Where nobody is named nobody has the UID of the PodDNAT.
            pod: pod.map(|(uid, _)| uid.to_string()).or_else(|| shown.pod.clone()).unwrap_or_else(|| claim.to_owned()),
            namespace: key.namespace().to_owned(),
            name: key.name().to_owned(),
            allocation: self.next_allocation().into(),
            gateway: shown.gateway.clone(),
            table: table.as_str().to_owned(),
            eip: shown.eip,
            ip: shown.ip,
            eni,
            vswitch,
            zone,
            // What has no pod is reserved, and of a pod that is there its annotations say.
            fixed: pod.is_none_or(|(_, pod)| self.wants_fixed(pod).unwrap_or_else(|| shown.pod.is_none())),
            items: shown.items.iter().enumerate().map(item).collect(),
            passed_over: Vec::new(),
        })
    }
}

/// Internal port, external port, protocol, entry.
type Shown = (u16, u16, u8, Option<String>);

fn tuple(shown: &seen::Shown, (internal, external, protocol, _): &Shown) -> Option<Tuple> {
    let protocol: Protocol = protocol_of(*protocol)?;
    Some(Tuple {
        external_ip: shown.eip,
        external_port: *external,
        internal_ip: shown.ip,
        internal_port: *internal,
        protocol,
    })
}

/// What was healed too often of late is left alone for a while.
pub(super) fn decide_contest(id: AllocationId, allocation: &Allocation) -> Option<Event> {
    (allocation.unusual.contest_ms.is_none() && allocation.unusual.heals.len() >= HEALS_MAX).then(|| {
        let heals = u8::try_from(allocation.unusual.heals.len()).unwrap_or(u8::MAX);
        Event::Contested(decided::Contested { allocation: id.into(), heals })
    })
}
