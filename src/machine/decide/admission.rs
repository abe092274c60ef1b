//! Who gets which EIP and ports, and who waits for what.

use std::net::Ipv4Addr;

use crate::machine::decide::{refusal, wait};
use crate::machine::demand::{Demand, RefusalReason, WaitReason, Want};
use crate::machine::event::{Event, decided};
use crate::machine::identity::{GatewayId, PodUid, TableId};
use crate::machine::pool::{self, Choice, Eip};
use crate::machine::state::{Address, Gateway, Place, Pod, PortBreak, Standing, State, Table};

/// PortBreak concerns ports above this one (aliyun-api.md §2).
const PORT_BREAK_ABOVE: u16 = 1_024;

impl State {
    pub(super) fn decide_demand(&self, uid: &PodUid, pod: &Pod, wants: &[Want], fixed: bool) -> Option<Event> {
        let ip = pod.ip.filter(|_| pod.ended.is_none() && pod.grace_ends_ms.is_none())?;
        if let Some(reason) = self.obstacle(uid, pod, ip) {
            return Some(wait(uid, reason, None, wants.len()));
        }
        let place = match self.addresses.get(&ip) {
            Some(Address::Known(place)) => place,
            Some(Address::Missing) => return Some(wait(uid, WaitReason::NotYetVisible, None, wants.len())),
            // It is being asked for; the answer brings the pod back.
            None => return None,
        };
        let (gateway_id, gateway) = match self.gateway_for(place, wants) {
            Ok(found) => found,
            // It keeps its place until the table is read again.
            Err(NoGateway::NotRead) if matches!(pod.standing, Standing::Waiting { queue: Some(_), .. }) => return None,
            Err(NoGateway::NotRead) => return Some(wait(uid, WaitReason::GatewayNotRead, None, wants.len())),
            Err(NoGateway::NoneOnRoute) => return Some(refusal(uid, RefusalReason::NoGatewayOnRoute, "")),
            Err(NoGateway::NoUsableEip) => return Some(wait(uid, WaitReason::NoUsableEip, None, wants.len())),
        };
        let table_id = gateway.table.as_ref()?;
        let table = self.tables.get(table_id)?;
        if !pool::could_fit(&gateway.eips, wants) {
            return Some(refusal(uid, RefusalReason::NeverFits, &format!("{} entries", wants.len())));
        }
        let arrival = pod.arrival?;
        let first = table.queue.first_key_value().is_none_or(|(first, _)| *first >= arrival);
        match self.admit(table, &gateway.eips, wants) {
            Ok(choice) if first => {
                Some(Event::Allocated(self.plan(uid, pod, (gateway_id, table_id), (ip, place), (wants, fixed), choice)))
            }
            // Others came first: they have the next room, and what they wait for is what this one waits for.
            Ok(_) => Some(wait(uid, self.head_waits_for(table), Some(table_id), wants.len())),
            Err(reason) => Some(wait(uid, reason, Some(table_id), wants.len())),
        }
    }

    /// The head of a queue gets room when there is some. It holds back all behind it.
    pub(super) fn decide_queue(&self, id: &TableId) -> Option<Event> {
        let table = self.tables.get(id).filter(|table| table.open)?;
        let (_, uid) = table.queue.first_key_value()?;
        let pod = self.pods.get(uid)?;
        let Demand::On { wants, fixed } = &pod.demand else { return None };
        let event = self.decide_demand(uid, pod, wants, *fixed)?;
        (!super::says_again(pod, &event)).then_some(event)
    }

    fn head_waits_for(&self, table: &Table) -> WaitReason {
        let head = table.queue.first_key_value().and_then(|(_, uid)| self.pods.get(uid));
        match head.map(|pod| &pod.standing) {
            Some(Standing::Waiting { reason, .. }) => *reason,
            Some(Standing::Open | Standing::Refused(_) | Standing::Allocated(_)) | None => WaitReason::NoFreePorts,
        }
    }

    /// What stands in the way of any allocation, whatever room there is.
    fn obstacle(&self, uid: &PodUid, pod: &Pod, ip: Ipv4Addr) -> Option<WaitReason> {
        if self.by_name.contains_key(&pod.key) {
            return Some(WaitReason::PreviousMappingReleasing);
        }
        if let Some(strange) = self.claims.get(&pod.key) {
            let ours = strange.claim.is_some();
            return Some(if ours { WaitReason::PreviousMappingReleasing } else { WaitReason::OtherController });
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
    fn gateway_for(&self, place: &Place, wants: &[Want]) -> Result<(&GatewayId, &Gateway), NoGateway> {
        let hops = self.routes.get(&place.vswitch).ok_or(NoGateway::NotRead)?;
        let configured = |id: &GatewayId| self.pools.iter().any(|entry| entry.gateway == *id);
        let mut candidates: Vec<_> = hops.iter().filter(|id| configured(id)).collect();
        if candidates.is_empty() {
            return Err(NoGateway::NoneOnRoute);
        }
        candidates.retain(|id| self.gateways.contains_key(*id));
        let open =
            |gateway: &Gateway| gateway.available && gateway.table.as_ref().is_some_and(|table| self.is_open(table));
        let read: Vec<_> = candidates
            .into_iter()
            .filter_map(|id| self.gateways.get(id).filter(|gateway| open(gateway)).map(|gateway| (id, gateway)))
            .collect();
        if read.is_empty() {
            return Err(NoGateway::NotRead);
        }
        let protocol = wants.first().map(|want| want.protocol);
        let room = |gateway: &Gateway| {
            let free = |eip: &Eip| protocol.map_or(0, |protocol| eip.ports(protocol).free());
            gateway.eips.iter().filter(|eip| eip.usable).map(free).max().unwrap_or(0)
        };
        let near = |gateway: &Gateway| gateway.zone.as_ref() == Some(&place.zone);
        let usable = read.into_iter().filter(|(_, gateway)| gateway.eips.iter().any(|eip| eip.usable));
        usable
            .min_by_key(|(id, gateway)| (!near(gateway), std::cmp::Reverse(room(gateway)), *id))
            .ok_or(NoGateway::NoUsableEip)
    }

    fn admit(&self, table: &Table, eips: &[Eip], wants: &[Want]) -> Result<Choice, WaitReason> {
        let needed = u32::try_from(wants.len()).unwrap_or(u32::MAX);
        let full = table.limit.is_some_and(|limit| table.committed.saturating_add(needed) > limit);
        if full && !table.probing {
            return Err(WaitReason::TableFull);
        }
        pool::choose(eips, wants).ok_or(WaitReason::NoFreePorts)
    }

    fn plan(
        &self,
        uid: &PodUid,
        pod: &Pod,
        (gateway, table): (&GatewayId, &TableId),
        (ip, place): (Ipv4Addr, &Place),
        (wants, fixed): (&[Want], bool),
        choice: Choice,
    ) -> decided::Allocated {
        let item = |(position, (want, external)): (usize, (&Want, u16))| decided::Item {
            internal: want.internal,
            external,
            protocol: want.protocol.number(),
            generation: self.next_generation(position),
            port_break: self.port_break(choice.snat, external),
        };
        decided::Allocated {
            pod: uid.as_str().to_owned(),
            namespace: pod.key.namespace.as_ref().to_owned(),
            name: pod.key.name.as_ref().to_owned(),
            allocation: self.next_allocation().into(),
            gateway: gateway.as_str().to_owned(),
            table: table.as_str().to_owned(),
            eip: choice.eip,
            ip,
            eni: place.eni.as_str().to_owned(),
            vswitch: place.vswitch.as_str().to_owned(),
            zone: place.zone.as_str().to_owned(),
            fixed,
            items: wants.iter().zip(choice.ports.iter().copied()).enumerate().map(item).collect(),
            passed_over: choice.passed_over.iter().take(PASSED_OVER_MAX).map(|(eip, why)| (*eip, *why as u8)).collect(),
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

enum NoGateway {
    /// The route, the gateway or its table has not been read.
    NotRead,
    /// The route leads to no configured gateway.
    NoneOnRoute,
    /// The gateway has no EIP that can be used.
    NoUsableEip,
}
