//! Folding the configuration and what the cloud shows of gateways, EIPs, routes and addresses.

use std::net::Ipv4Addr;

use crate::machine::event::{control, seen};
use crate::machine::identity::{EntryId, GatewayId, Protocol, TableId, UidHash, VSwitchId};
use crate::machine::pool::{Eip, Eips, Range};
use crate::machine::state::{Address, Place, PoolEntry, PortBreak, Settings, State, Subject};

impl State {
    pub(super) fn pool_configured(&mut self, body: &control::PoolConfigured) {
        self.pools_announced.push(PoolEntry {
            gateway: body.gateway.as_str().into(),
            zone: body.zone.as_str().into(),
            eips: body.eips.clone(),
            range: Range { first: body.first.max(1), last: body.last, excluded: body.excluded.clone() },
        });
    }

    pub(super) fn configured(&mut self, body: &control::Configured) {
        let adopted_before = self.adopts();
        self.settings = Some(Settings {
            cluster_uid: body.cluster_uid.as_str().into(),
            cluster: UidHash::of(&body.cluster_uid),
            cooldown_ms: body.cooldown_ms,
            resync_ms: body.resync_ms,
            port_break: match body.port_break {
                1 => PortBreak::Always,
                2 => PortBreak::Never,
                _ => PortBreak::Auto,
            },
            repair: body.repair,
            adopt: body.adopt,
            fixed_retention_ms: body.fixed_retention_ms,
            stateful_kinds: body.stateful_kinds.iter().map(|kind| kind.as_str().into()).collect(),
        });
        self.pools = std::mem::take(&mut self.pools_announced);
        for gateway in self.gateways.iter().map(|(id, _)| id.clone()).collect::<Vec<_>>() {
            self.lay_out(&gateway);
        }
        for id in self.allocations.iter().map(|(id, _)| *id).collect::<Vec<_>>() {
            self.consider_moving(id);
        }
        if body.adopt && !adopted_before {
            self.judge_others_anew();
        }
        self.wake_originals();
        self.follow_all_fixed();
        self.wake_undecided();
    }

    /// The configured pool entries, in order.
    #[must_use]
    pub fn pools(&self) -> &[PoolEntry] {
        &self.pools
    }

    pub(super) fn gateway_seen(&mut self, body: &seen::GatewaySeen) {
        let id = GatewayId::from(body.gateway.as_str());
        let gateway = self.gateways.or_default(id.clone());
        gateway.table = body.table.as_deref().map(TableId::from);
        gateway.zone = body.zone.as_deref().map(Into::into);
        gateway.available = body.available;
        let before = std::mem::replace(&mut gateway.bound, body.eips.clone());
        if let Some(table) = gateway.table.clone() {
            self.tables.or_default(table).gateway = Some(id.clone());
        }
        self.lay_out(&id);
        self.judge_eips(&id, &before);
        self.wake_originals();
        self.wake_undecided();
        self.end_rebuild();
    }

    pub(super) fn gateway_gone(&mut self, id: &GatewayId) {
        let Some(gateway) = self.gateways.get_mut(id) else { return };
        gateway.available = false;
        let before = std::mem::take(&mut gateway.bound);
        self.lay_out(id);
        self.judge_eips(id, &before);
        self.wake_undecided();
    }

    pub(super) fn route_seen(&mut self, body: &seen::RouteSeen) {
        let gateways = body.gateways.iter().map(|gateway| gateway.as_str().into()).collect();
        let vswitch = VSwitchId::from(body.vswitch.as_str());
        self.routes.insert(vswitch.clone(), gateways);
        self.consider_moving_in(&vswitch);
        self.wake_undecided();
    }

    pub(super) fn address_seen(&mut self, body: &seen::AddressSeen) {
        let place = Place {
            eni: body.eni.as_str().into(),
            vswitch: body.vswitch.as_str().into(),
            zone: body.zone.as_str().into(),
        };
        let place = self.places.share(place);
        self.locate(body.ip, Address::Known(place));
    }

    pub(super) fn address_missing(&mut self, ip: Ipv4Addr) {
        self.locate(ip, Address::Missing);
    }

    fn locate(&mut self, ip: Ipv4Addr, address: Address) {
        if self.pods_by_ip.contains_key(&ip) {
            self.addresses.insert(ip, address);
        }
        for uid in self.pods_by_ip.get(&ip).cloned().unwrap_or_default() {
            self.refresh_pod(&uid);
        }
        self.wake_ip(ip);
    }

    /// An `Any` entry took the whole of an address, or left it.
    pub(super) fn occupy(&mut self, address: Ipv4Addr, entry: &EntryId, occupied: bool) {
        if occupied {
            self.occupied.insert((address, entry.clone()));
        } else {
            self.occupied.remove(&(address, entry.clone()));
        }
        if let Some(id) = self.gateway_by_eip.get(&address).cloned() {
            self.lay_out(&id);
        }
    }

    /// Sets out the EIPs of a gateway that the pools cover, in configured order, with the ports that are free on each.
    /// An EIP whose range is unchanged keeps its bitmaps.
    pub(super) fn lay_out(&mut self, id: &GatewayId) {
        let Some(gateway) = self.gateways.get_mut(id) else { return };
        let before = std::mem::take(&mut gateway.eips);
        let mut eips: Vec<Eip> = Vec::new();
        let mut fresh = Vec::new();
        for entry in self.pools.iter().filter(|entry| entry.gateway == *id) {
            let bound = gateway.bound.clone();
            let named = |address: &Ipv4Addr| entry.eips.is_empty() || entry.eips.contains(address);
            let mut covered: Vec<_> = bound.into_iter().filter(|(address, _, _)| named(address)).collect();
            covered.sort_by_key(|(address, _, _)| entry.eips.iter().position(|eip| eip == address));
            for (address, usable, snat) in covered {
                let usable = usable && !self.occupied.iter().any(|(occupied, _)| *occupied == address);
                if eips.iter().any(|eip| eip.address == address) {
                    continue;
                }
                match before.iter().find(|eip| eip.address == address && eip.range == entry.range) {
                    Some(eip) => eips.push(eip.clone().with(usable, snat)),
                    None => {
                        fresh.push(address);
                        eips.push(Eip::new(address, usable, snat, entry.range.clone()));
                    }
                }
            }
        }
        for eip in eips.iter_mut().filter(|eip| fresh.contains(&eip.address)) {
            for protocol in Protocol::ALL {
                let all = (eip.address, protocol, u16::MIN)..=(eip.address, protocol, u16::MAX);
                let owned = self.owners.range(all.clone()).map(|((_, _, port), _)| *port);
                for port in owned.chain(self.holds.range(all).map(|((_, _, port), _)| *port)) {
                    eip.take(protocol, port);
                }
            }
        }
        for eip in before.iter() {
            // It may have been bound to another gateway meanwhile.
            if self.gateway_by_eip.get(&eip.address) == Some(id) {
                self.gateway_by_eip.remove(&eip.address);
            }
        }
        for eip in &eips {
            self.gateway_by_eip.insert(eip.address, id.clone());
        }
        gateway.eips = Eips::new(eips);
        if let Some(table) = gateway.table.clone() {
            self.worklist.insert(Subject::Queue(table));
        }
        self.worklist.extend(self.lacking.iter().copied().map(Subject::Allocation));
    }
}
