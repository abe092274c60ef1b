//! Who gets which EIP and ports, and who waits for what.

use std::net::Ipv4Addr;

use crate::machine::decide::{refusal, wait};
use crate::machine::demand::{Demand, RefusalReason, WaitReason, Want};
use crate::machine::event::{Event, decided};
use crate::machine::identity::{GatewayId, PodKey, PodUid, TableId};
use crate::machine::pool::{self, Choice, Eips};
use crate::machine::state::{Address, Gateway, Place, Pod, PortBreak, Standing, State, Table};

/// PortBreak concerns ports above this one (aliyun-api.md §2).
const PORT_BREAK_ABOVE: u16 = 1_024;

impl State {
    pub(super) fn decide_demand(&self, uid: &PodUid, pod: &Pod, wants: &[Want], fixed: bool) -> Option<Event> {
        let ip = pod.ip.filter(|_| pod.ended.is_none() && pod.grace_ends_ms.is_none())?;
        let claim = self.claims.get(&pod.key).filter(|strange| self.rebuilding && !strange.ghost);
        let unread = claim.and_then(|strange| strange.claim.as_ref()).is_some_and(|claim| self.awaits_entries(claim));
        if unread || (self.has_remnant(&pod.key) && !self.is_missing(ip)) {
            // Its entries may be there already: it is not told to wait.
            return None;
        }
        let fixed = fixed && self.may_be_fixed(pod);
        let reservation = self.reservation(&pod.key);
        let reservation = reservation.filter(|(_, known)| (fixed || known.kept) && known.is_over());
        if let Some(reason) = self.obstacle(uid, pod, ip, reservation.is_some()) {
            return Some(wait(uid, reason, None, wants.len()));
        }
        let place = match self.addresses.get(&ip) {
            Some(Address::Known(place)) => place.as_ref(),
            Some(Address::Missing) => return Some(wait(uid, WaitReason::NotYetVisible, None, wants.len())),
            // It is being asked for; the answer brings the pod back.
            None => return None,
        };
        let moves = match reservation {
            None => None,
            Some((id, allocation)) => match self.homeless_at(allocation, place) {
                Some(why) => Some((id, why)),
                None => return self.decide_bound((uid, pod, ip, place), (id, allocation), wants),
            },
        };
        let (gateway_id, gateway) = match self.gateway_for(place, wants) {
            Ok(found) => found,
            Err(why) => return self.no_gateway(uid, pod, &why, wants),
        };
        let table_id = gateway.table.as_ref()?;
        let table = self.tables.get(table_id)?;
        if !pool::could_fit(&gateway.eips, wants) {
            return Some(refusal(uid, RefusalReason::NeverFits, &format!("{} entries", wants.len())));
        }
        match (self.admit(table, &gateway.eips, wants), is_first(table, pod.arrival()?), moves) {
            (Ok(_), true, Some((from, why))) => Some(self.move_to_next(from, why)),
            (Ok(choice), true, None) => {
                let target = Target { uid, key: &pod.key, ip, place, wants, fixed };
                Some(Event::Allocated(self.plan(&target, (gateway_id, table_id), &choice)))
            }
            // Others came first: they have the next room, and what they wait for is what this one waits for.
            (Ok(_), false, _) => Some(wait(uid, self.head_waits_for(table), Some(table_id), wants.len())),
            (Err(reason), _, _) => Some(wait(uid, reason, Some(table_id), wants.len())),
        }
    }

    pub(super) fn no_gateway(&self, uid: &PodUid, pod: &Pod, why: &NoGateway, wants: &[Want]) -> Option<Event> {
        match why {
            // It keeps its place until the table is read again.
            NoGateway::NotRead if matches!(pod.standing, Standing::Waiting { queue: Some(_), .. }) => None,
            NoGateway::NotRead => Some(wait(uid, WaitReason::GatewayNotRead, None, wants.len())),
            NoGateway::NoneOnRoute => Some(refusal(uid, RefusalReason::NoGatewayOnRoute, "")),
            NoGateway::NoUsableEip => Some(wait(uid, WaitReason::NoUsableEip, None, wants.len())),
        }
    }

    /// The head of a queue gets room when there is some. It holds back all behind it.
    pub(super) fn decide_queue(&self, id: &TableId) -> Option<Event> {
        let table = self.tables.get(id).filter(|table| table.open)?;
        for id in &table.partial {
            if let Some(event) = self.decide_allocation(*id) {
                return Some(event);
            }
        }
        let (_, uid) = table.queue.first_key_value()?;
        let pod = self.pods.get(uid)?;
        let Demand::On { wants, fixed } = &pod.demand else { return None };
        let event = self.decide_demand(uid, pod, wants, *fixed)?;
        (!super::says_again(pod, &event)).then_some(event)
    }

    pub(super) fn head_waits_for(&self, table: &Table) -> WaitReason {
        let head = table.queue.first_key_value().and_then(|(_, uid)| self.pods.get(uid));
        match head.map(|pod| &pod.standing) {
            Some(Standing::Waiting { reason, .. }) => *reason,
            Some(Standing::Open | Standing::Refused(_) | Standing::Allocated(_)) | None => WaitReason::NoFreePorts,
        }
    }

    /// What stands in the way of any allocation, whatever room there is. `reserved`: the name's allocation waits for the pod.
    fn obstacle(&self, uid: &PodUid, pod: &Pod, ip: Ipv4Addr, reserved: bool) -> Option<WaitReason> {
        if !reserved && self.by_name.contains_key(&pod.key) {
            return Some(WaitReason::PreviousMappingReleasing);
        }
        if let Some(strange) = self.claims.get(&pod.key) {
            return Some(match (self.is_anothers(&pod.key, strange), self.is_readable(strange)) {
                (false, _) if self.is_superseded(&pod.key, strange) => WaitReason::ClaimSuperseded,
                (false, _) => WaitReason::PreviousMappingReleasing,
                (true, true) => WaitReason::NotAdopted,
                (true, false) => WaitReason::GatewayNotRead,
            });
        }
        let namesakes = self.pods_by_name.get(&pod.key)?;
        let earlier = namesakes
            .iter()
            .filter(|other| *other != uid)
            .any(|other| self.pods.get(other).is_some_and(|other| matches!(other.standing, Standing::Allocated(_))));
        if earlier {
            return Some(WaitReason::PreviousMappingReleasing);
        }
        let mapped = self.by_ip.get(&ip).is_some_and(|others| others.iter().any(|other| self.occupies(*other)));
        mapped.then_some(WaitReason::AddressStillMapped)
    }

    /// The gateway of the pod's default route: of several, the one in the ENI's zone, then the one with most room.
    pub(super) fn gateway_for(&self, place: &Place, wants: &[Want]) -> Result<(&GatewayId, &Gateway), NoGateway> {
        let hops = self.routes.get(&place.vswitch).ok_or(NoGateway::NotRead)?;
        let configured = |id: &GatewayId| self.pools.iter().any(|entry| entry.gateway == *id);
        let mut candidates = hops.iter().filter(|id| configured(id)).peekable();
        if candidates.peek().is_none() {
            return Err(NoGateway::NoneOnRoute);
        }
        let open =
            |gateway: &Gateway| gateway.available && gateway.table.as_ref().is_some_and(|table| self.is_open(table));
        let known = |id| self.gateways.get(id).filter(|gateway| open(gateway)).map(|gateway| (id, gateway));
        let mut read = candidates.filter_map(known).peekable();
        if read.peek().is_none() {
            return Err(NoGateway::NotRead);
        }
        let protocol = wants.first().map(|want| want.protocol);
        let room = |gateway: &Gateway| protocol.map_or(0, |protocol| gateway.eips.most_free(protocol));
        let near = |gateway: &Gateway| gateway.zone.as_ref() == Some(&place.zone);
        let usable = read.filter(|(_, gateway)| gateway.eips.iter().any(|eip| eip.usable));
        usable
            .min_by_key(|(id, gateway)| (!near(gateway), std::cmp::Reverse(room(gateway)), *id))
            .ok_or(NoGateway::NoUsableEip)
    }

    pub(super) fn admit<'a>(&self, table: &Table, eips: &'a Eips, wants: &[Want]) -> Result<Choice<'a>, WaitReason> {
        if self.short {
            return Err(WaitReason::JournalShort);
        }
        if self.is_full(table, wants.len()) {
            return Err(WaitReason::TableFull);
        }
        if table.rests_ms.is_some() {
            return Err(WaitReason::NoFreePorts);
        }
        eips.choose(wants).ok_or(WaitReason::NoFreePorts)
    }

    /// Whether a table takes no more entries, as far as that is known. One pod may try whether that still holds: the one
    /// of which the table took a part, if there is one.
    pub(super) fn is_full(&self, table: &Table, entries: usize) -> bool {
        let needed = u32::try_from(entries).unwrap_or(u32::MAX);
        let probes = table.probing && table.partial.is_empty();
        table.limit.is_some_and(|limit| table.committed.saturating_add(needed) > limit) && !probes
    }

    pub(super) fn plan(
        &self,
        target: &Target<'_>,
        (gateway, table): (&GatewayId, &TableId),
        choice: &Choice<'_>,
    ) -> decided::Allocated {
        let Target { uid, key, ip, place, wants, fixed } = *target;
        let item = |(position, (want, external)): (usize, (&Want, u16))| decided::Item {
            internal: want.internal,
            external,
            protocol: want.protocol.number(),
            generation: self.next_generation(position),
            port_break: self.port_break(choice.eip().snat, external),
        };
        let mut passed_over = Vec::with_capacity(choice.others().min(PASSED_OVER_MAX));
        passed_over.extend(choice.passed_over().take(PASSED_OVER_MAX).map(|(eip, why)| (eip, why as u8)));
        decided::Allocated {
            pod: uid.as_str().to_owned(),
            namespace: key.namespace().to_owned(),
            name: key.name().to_owned(),
            allocation: self.next_allocation().into(),
            gateway: gateway.as_str().to_owned(),
            table: table.as_str().to_owned(),
            eip: choice.eip().address,
            ip,
            eni: place.eni.as_str().to_owned(),
            vswitch: place.vswitch.as_str().to_owned(),
            zone: place.zone.as_str().to_owned(),
            fixed,
            items: wants.iter().zip(choice.ports().iter().copied()).enumerate().map(item).collect(),
            passed_over,
        }
    }

    pub(super) fn port_break(&self, snat: bool, external: u16) -> bool {
        match self.settings.as_ref().map_or(PortBreak::Auto, |settings| settings.port_break) {
            PortBreak::Auto => snat && external > PORT_BREAK_ABOVE,
            PortBreak::Always => true,
            PortBreak::Never => false,
        }
    }
}

/// EIPs named in one decision as passed over: a gateway has at most 50 (aliyun-api.md §4).
const PASSED_OVER_MAX: usize = 50;

/// For whom an allocation is planned.
#[derive(Clone, Copy)]
pub(super) struct Target<'a> {
    pub(super) uid: &'a PodUid,
    pub(super) key: &'a PodKey,
    pub(super) ip: Ipv4Addr,
    pub(super) place: &'a Place,
    pub(super) wants: &'a [Want],
    pub(super) fixed: bool,
}

/// Nobody who came earlier waits for the table's room.
pub(super) fn is_first(table: &Table, arrival: u64) -> bool {
    table.queue.first_key_value().is_none_or(|(first, _)| *first >= arrival)
}

pub(super) enum NoGateway {
    /// The route, the gateway or its table has not been read.
    NotRead,
    /// The route leads to no configured gateway.
    NoneOnRoute,
    /// The gateway has no EIP that can be used.
    NoUsableEip,
}
