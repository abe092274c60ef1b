//! Fixed mappings: what is reserved, for whom, and when a name moves to another EIP.
//!
//! A move is two records: `FixedMoved` takes name and claim from the allocation that goes, and the `Allocated` that
//! follows gives them to the one that comes. Where the second is missing — a power cut between the two — it is decided
//! when the first is looked at again, or the name starts anew once everything earlier is gone.

use std::net::Ipv4Addr;

use crate::machine::decide::admission::{Target, is_first};
use crate::machine::decide::{release, wait};
use crate::machine::demand::{Demand, ReleaseReason, WaitReason, Want};
use crate::machine::event::{Event, decided};
use crate::machine::identity::{AllocationId, PodUid};
use crate::machine::state::eips::Homeless;
use crate::machine::state::{Address, Allocation, Entry, Place, Pod, State};

impl State {
    /// The pod of an allocation is absent: a fixed one waits for the next of that name, all others end. What somebody
    /// deleted ends with its pod.
    pub(super) fn reserve_or_release(&self, id: AllocationId, allocation: &Allocation, reason: ReleaseReason) -> Event {
        if !allocation.fixed || allocation.claim_deleting {
            return release(id, reason);
        }
        // A leader without history goes on counting where the claim says that its predecessor began.
        let absent_since_wall_ms = allocation.unusual.absent_since_wall_ms.unwrap_or(self.wall_ms);
        Event::Reserved(decided::Reserved { allocation: id.into(), absent_since_wall_ms })
    }

    /// A reservation ends when its claim is deleted, when its time is over, or when the pod of its name does not want it.
    pub(super) fn decide_reserved(&self, id: AllocationId, allocation: &Allocation) -> Option<Event> {
        if allocation.claim_deleting {
            return Some(release(id, ReleaseReason::ClaimDeleted));
        }
        if allocation.kept {
            return None;
        }
        let namesakes = self.pods_by_name.get(&allocation.key).into_iter().flatten();
        let pods: Vec<&Pod> =
            namesakes.filter_map(|uid| self.pods.get(uid)).filter(|pod| pod.ended.is_none()).collect();
        let unwanted = |pod: &Pod| match pod.demand {
            Demand::Off => Some(ReleaseReason::Disabled),
            Demand::On { .. } => (self.wants_fixed(pod) == Some(false)).then_some(ReleaseReason::FixedEnded),
            Demand::Kept | Demand::Refused(_) => None,
        };
        if let Some(reason) = pods.iter().copied().find_map(unwanted) {
            return Some(release(id, reason));
        }
        if !pods.is_empty() {
            // The pod decides by its own place, and binds it in time.
            return None;
        }
        if allocation.expired {
            return Some(release(id, ReleaseReason::RetentionOver));
        }
        let why = self.homeless_at(allocation, &allocation.place).filter(|_| self.homeless.contains(&id))?;
        self.can_move(allocation).then(|| self.move_to_next(id, why))
    }

    /// A pod of a reserved name gets what is reserved, as soon as the table takes its entries.
    pub(super) fn decide_bound(
        &self,
        (uid, pod, ip, place): (&PodUid, &Pod, Ipv4Addr, &Place),
        (id, allocation): (AllocationId, &Allocation),
        wants: &[Want],
    ) -> Option<Event> {
        if self.routes.get(&place.vswitch).is_none() || !self.is_open(&allocation.table) {
            return Some(wait(uid, WaitReason::GatewayNotRead, None, wants.len()));
        }
        let gateway = self.gateways.get(&allocation.gateway)?;
        let usable = |(eip, usable, _): &(Ipv4Addr, bool, bool)| *eip == allocation.eip && *usable;
        if !gateway.available || !gateway.bound.iter().any(usable) {
            return Some(wait(uid, WaitReason::NoUsableEip, None, wants.len()));
        }
        let kept: Vec<_> = allocation.items.iter().filter(|item| wants.contains(&item.want)).collect();
        let table = self.tables.get(&allocation.table)?;
        let queue = Some(&allocation.table);
        if self.is_full(table, kept.len()) {
            return Some(wait(uid, WaitReason::TableFull, queue, kept.len()));
        }
        // On a short disk nobody new is served: whoever comes back to its ports overtakes nobody.
        if !self.short && !is_first(table, pod.arrival()?) {
            return Some(wait(uid, self.head_waits_for(table), queue, kept.len()));
        }
        let renewed = kept
            .iter()
            .enumerate()
            .map(|(position, item)| (item.want.internal, item.want.protocol.number(), self.next_generation(position)));
        let (eni, vswitch, zone) = (place.eni.as_str(), place.vswitch.as_str(), place.zone.as_str());
        Some(Event::FixedBound(decided::FixedBound {
            allocation: id.into(),
            pod: uid.as_str().to_owned(),
            ip,
            place: (eni.to_owned(), vswitch.to_owned(), zone.to_owned()),
            items: renewed.collect(),
        }))
    }

    /// A live mapping cannot stay where it is: a fixed one moves as soon as there is room, another ends unless players
    /// still have it.
    pub(super) fn decide_homeless(&self, id: AllocationId, allocation: &Allocation, pod: &Pod) -> Option<Event> {
        if pod.grace_ends_ms.is_some() {
            return None;
        }
        let why = self.homeless_at(allocation, self.place_of(allocation, pod))?;
        if allocation.fixed {
            return self.can_move(allocation).then(|| self.move_to_next(id, why));
        }
        let present = |item: &crate::machine::state::Item| matches!(item.entry, Entry::Present { .. });
        match why {
            Homeless::Route => Some(release(id, ReleaseReason::RouteMoved)),
            Homeless::EipLost if !allocation.items.iter().any(present) => Some(release(id, ReleaseReason::EipLost)),
            Homeless::EipLost | Homeless::LeftPool => None,
        }
    }

    /// The allocation that follows one that moved.
    pub(super) fn decide_successor(&self, allocation: &Allocation) -> Option<Event> {
        if !allocation.moved || allocation.is_succeeded() {
            return None;
        }
        self.next_of(allocation).map(Event::Allocated)
    }

    pub(super) fn move_to_next(&self, from: AllocationId, why: Homeless) -> Event {
        let to = self.next_allocation().into();
        Event::FixedMoved(decided::FixedMoved { from: from.into(), to, reason: why as u8 })
    }

    /// Whether there is room elsewhere for an allocation that moves, and nobody came earlier.
    fn can_move(&self, allocation: &Allocation) -> bool {
        let Some(next) = self.next_of(allocation) else { return false };
        let arrival = self.pods.get(&allocation.pod).and_then(Pod::arrival).unwrap_or(u64::MAX);
        self.tables.get(&next.table.as_str().into()).is_some_and(|table| is_first(table, arrival))
    }

    fn next_of(&self, allocation: &Allocation) -> Option<decided::Allocated> {
        let namesakes = self.pods_by_name.get(&allocation.key).into_iter().flatten();
        let pods = namesakes.filter_map(|uid| Some((uid, self.pods.get(uid)?))).filter(|(_, pod)| pod.ended.is_none());
        let pods: Vec<_> = pods.collect();
        let served = pods.iter().copied().find(|(_, pod)| pod.is_served());
        if served.is_none() && !pods.is_empty() {
            // A pod that is on its way, or on its way out, is not decided for.
            return None;
        }
        let wanted: Vec<Want>;
        let (uid, ip, place) = match served {
            Some((uid, pod)) => {
                let ip = pod.ip?;
                let Some(Address::Known(place)) = self.addresses.get(&ip) else { return None };
                (uid, ip, place)
            }
            None => (&allocation.pod, allocation.ip, &allocation.place),
        };
        let others = self.by_ip.get(&ip).into_iter().flatten().filter_map(|id| self.allocations.get(id));
        if others.filter(|other| other.key != allocation.key).any(|other| !other.has_left()) {
            return None;
        }
        let wants = match served.map(|(_, pod)| &pod.demand) {
            Some(Demand::On { wants, .. }) => wants.as_ref(),
            Some(Demand::Off | Demand::Kept | Demand::Refused(_)) | None => {
                wanted = allocation.items.iter().filter(|item| !item.is_leaving()).map(|item| item.want).collect();
                &wanted
            }
        };
        let (gateway_id, gateway) = self.gateway_for(place, wants).ok()?;
        let table_id = gateway.table.as_ref()?;
        let choice = self.admit(self.tables.get(table_id)?, &gateway.eips, wants).ok()?;
        let target = Target { uid, key: &allocation.key, ip, place, wants, fixed: true };
        Some(self.plan(&target, (gateway_id, table_id), &choice))
    }

    /// Where the pod of an allocation is, as far as that is known.
    fn place_of<'a>(&'a self, allocation: &'a Allocation, pod: &Pod) -> &'a Place {
        match pod.ip.and_then(|ip| self.addresses.get(&ip)) {
            Some(Address::Known(place)) => place,
            Some(Address::Missing) | None => &allocation.place,
        }
    }
}
