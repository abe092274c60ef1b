//! What goes wrong in the cloud: gateways, EIPs, and entries that other people make, edit and delete.

use natgw::machine::identity::{EntryId, GatewayId, Mark, Protocol, Tuple};
use natgw::sandbox::vpc::{GatewayStatus, LedgerLine, NewEntry, Ports, Spell, Trouble};

use super::AWAY_MS;
use crate::faults::Fault;
use crate::world::World;

impl World {
    pub(super) fn disturb_cloud(&mut self) {
        if self.strikes(Fault::TupleTaken) {
            self.insert_foreign();
        }
        for fault in [Fault::EntryRemoved, Fault::EntryEdited, Fault::EntryRenamed] {
            if self.strikes(fault)
                && let Some(entry) = self.some_entry(fault)
            {
                self.harm_entry(fault, &entry);
            }
        }
        let zone = |world: &mut Self, fault| if world.chance(fault, 2) == 0 { "j" } else { "k" };
        if self.strikes(Fault::RouteMoved) {
            let (from, to) = (zone(self, Fault::RouteMoved), zone(self, Fault::RouteMoved));
            let nowhere = self.chance(Fault::RouteMoved, 3) == 0;
            let gateway = (!nowhere).then(|| format!("ngw-sandbox-{to}").as_str().into());
            self.vpc.borrow_mut().set_default_route(&format!("vtb-sandbox-{from}"), gateway);
        }
        for fault in [Fault::EipLocked, Fault::EipShared] {
            if self.strikes(fault) {
                let addresses = self.eips();
                let address = addresses[self.place(fault, addresses.len())];
                if let Some(eip) = self.vpc.borrow_mut().eip_mut(address) {
                    let changed = if fault == Fault::EipLocked { &mut eip.locked } else { &mut eip.snat };
                    *changed = !*changed;
                }
            }
        }
        self.disturb_gateways();
    }

    pub(super) fn disturb_gateways(&mut self) {
        let now = self.now.get();
        let gateway = |world: &mut Self, fault| {
            let zone = if world.chance(fault, 2) == 0 { "j" } else { "k" };
            GatewayId::from(format!("ngw-sandbox-{zone}").as_str())
        };
        if self.strikes(Fault::GatewayGone) {
            let id = gateway(self, Fault::GatewayGone);
            let hidden = self.chance(Fault::GatewayGone, 3) == 0;
            self.vpc.borrow_mut().hide_gateway(now, &id, hidden);
        }
        if self.strikes(Fault::GatewayAway) {
            let id = gateway(self, Fault::GatewayAway);
            let states = [GatewayStatus::Modifying, GatewayStatus::Creating, GatewayStatus::Available];
            let status = states[self.place(Fault::GatewayAway, states.len())];
            self.vpc.borrow_mut().set_gateway_status(&id, status);
        }
        if self.strikes(Fault::CredentialsExpired) {
            let until = now + self.chance(Fault::CredentialsExpired, 120_000);
            let troubles = [Trouble::ExpiredToken, Trouble::UnknownKey, Trouble::BadSignature, Trouble::Forbidden];
            let trouble = troubles[self.place(Fault::CredentialsExpired, troubles.len())];
            self.vpc.borrow_mut().faults_mut().trouble(Spell::of_all(trouble, now, until));
        }
        if self.strikes(Fault::CloudOutage) {
            let until = now + self.chance(Fault::CloudOutage, AWAY_MS);
            let troubles = [Trouble::Silence, Trouble::Unavailable, Trouble::Throttled];
            let trouble = troubles[self.place(Fault::CloudOutage, troubles.len())];
            self.vpc.borrow_mut().faults_mut().trouble(Spell::of_all(trouble, now, until));
        }
        if self.strikes(Fault::GatewayOutage) {
            let (id, until) = (gateway(self, Fault::GatewayOutage), now + self.chance(Fault::GatewayOutage, AWAY_MS));
            let troubles = [Trouble::Silence, Trouble::Unavailable, Trouble::Busy];
            let trouble = troubles[self.place(Fault::GatewayOutage, troubles.len())];
            self.vpc.borrow_mut().faults_mut().trouble(Spell::of_gateway(trouble, id, now, until));
        }
    }

    pub(super) fn eips(&self) -> Vec<std::net::Ipv4Addr> {
        let vpc = self.vpc.borrow();
        let bound = vpc.world().gateways.iter().flat_map(|gateway| gateway.eips.iter().map(|eip| eip.address));
        let bound: Vec<_> = bound.collect();
        if bound.is_empty() { vec![[203, 0, 113, 1].into()] } else { bound }
    }

    /// Somebody else creates an entry on a port, or to an address, that might be ours.
    pub(super) fn insert_foreign(&mut self) {
        let Some(gateway) = self.vpc.borrow().world().gateways.first().cloned() else { return };
        let to_a_pod = self.chance(Fault::TupleTaken, 3) == 0;
        let pods: Vec<_> = self.model.borrow().pods().filter_map(|pod| pod.ip).collect();
        let internal_ip = if to_a_pod && !pods.is_empty() {
            pods[self.place(Fault::TupleTaken, pods.len())]
        } else {
            let last = 1 + u8::try_from(self.chance(Fault::TupleTaken, 200)).expect("below 200");
            [172, 16, 200, last].into()
        };
        let tuple = Tuple {
            external_ip: gateway.eips[self.place(Fault::TupleTaken, gateway.eips.len())].address,
            external_port: 512 + u16::try_from(self.chance(Fault::TupleTaken, 12)).expect("below 12"),
            internal_ip,
            internal_port: if to_a_pod { 80 } else { 22 },
            protocol: Protocol::Tcp,
        };
        let now = self.now.get();
        drop(self.vpc.borrow_mut().insert_entry(now, NewEntry::of(gateway.table, tuple, "somebody")));
    }

    /// Some entry that has our mark.
    pub(super) fn some_entry(&mut self, fault: Fault) -> Option<EntryId> {
        let ours = |line: &LedgerLine| match line {
            LedgerLine::Effect(line) => {
                line.entry.clone().filter(|_| line.spec.as_ref().is_some_and(|spec| Mark::parse(&spec.name).is_some()))
            }
            LedgerLine::Request(_) => None,
        };
        let entries: Vec<EntryId> = self.ledger.iter().rev().filter_map(ours).take(16).collect();
        (!entries.is_empty()).then(|| entries[self.place(fault, entries.len())].clone())
    }

    pub(super) fn harm_entry(&mut self, fault: Fault, entry: &EntryId) {
        let now = self.now.get();
        let how = self.chance(fault, 3);
        let mut vpc = self.vpc.borrow_mut();
        let Some(mut spec) = vpc.entry(entry).map(|entry| entry.spec.clone()) else { return };
        match fault {
            Fault::EntryRemoved => return drop(vpc.remove_entry(now, entry)),
            Fault::EntryRenamed => spec.name = if how == 0 { String::new() } else { "mine-now".to_owned() },
            _ => match how {
                0 => spec.internal_port = Ports::One(9_999),
                1 => spec.external_port = Ports::One(600),
                _ => spec.internal_ip = [172, 16, 201, 7].into(),
            },
        }
        drop(vpc.edit_entry(now, entry, spec));
    }
}
