//! What people do to gateways and EIPs behind the controller's back. The cloud's own rules hold, unless it is said that
//! they do not.

use std::net::Ipv4Addr;

use super::Vpc;
use super::refusal::Refusal;
use super::world::{Eip, EipStatus, GatewayStatus, NatGateway, World};
use crate::machine::identity::{EntryId, GatewayId, TableId};

impl Vpc {
    /// Binds a new EIP to a gateway; whether there is such a gateway, and no such EIP yet.
    pub fn add_eip(&mut self, gateway: &GatewayId, address: Ipv4Addr) -> bool {
        let hidden = self.world.vanished.iter().flat_map(|gateway| &gateway.eips).any(|eip| eip.address == address);
        if hidden || self.eip_mut(address).is_some() {
            return false;
        }
        let Some(gateway) = self.gateway_mut(gateway) else { return false };
        gateway.eips.push(Eip::bound(format!("eip-sandbox-{address}").replace('.', "-"), address));
        true
    }

    /// Unbinds an EIP from its gateway. It stays in the account.
    ///
    /// # Errors
    /// It is bound to no gateway, or has entries (aliyun-api.md §2).
    pub fn remove_eip(&mut self, address: Ipv4Addr) -> Result<(), Refusal> {
        if self.forwarding.uses(address) {
            return Err(Refusal::eip_has_entries());
        }
        let eip = self.take_bound(address).ok_or_else(Refusal::eip_not_found)?;
        self.world.spare_eips.push(unbound(eip));
        Ok(())
    }

    /// Binds an EIP of the account that no gateway has.
    ///
    /// # Errors
    /// There is no such spare EIP, or no such gateway.
    pub fn bind_eip(&mut self, gateway: &GatewayId, address: Ipv4Addr) -> Result<(), Refusal> {
        let place = self.world.spare_eips.iter().position(|eip| eip.address == address);
        let place = place.ok_or_else(Refusal::eip_not_found)?;
        let found = self.world.gateways.iter_mut().find(|found| found.id == *gateway);
        let found = found.ok_or_else(Refusal::gateway_not_found)?;
        found.eips.push(Eip { status: EipStatus::InUse, ..self.world.spare_eips.remove(place) });
        Ok(())
    }

    /// Unbinds an EIP and binds it to another gateway.
    ///
    /// # Errors
    /// As [`Vpc::remove_eip`] and [`Vpc::bind_eip`]. Then nothing was changed.
    pub fn move_eip(&mut self, address: Ipv4Addr, gateway: &GatewayId) -> Result<(), Refusal> {
        self.gateway_mut(gateway).ok_or_else(Refusal::gateway_not_found)?;
        self.remove_eip(address)?;
        self.bind_eip(gateway, address)
    }

    /// Releases an EIP with all its entries, as the cloud does where it is not paid for. Returns whether there was one.
    pub fn release_eip(&mut self, now_ms: u64, address: Ipv4Addr) -> bool {
        self.advance(now_ms);
        let entries = self.forwarding.all().filter(|entry| entry.spec.external_ip == address);
        let entries: Vec<EntryId> = entries.map(|entry| entry.id.clone()).collect();
        self.remove_listed(now_ms, &entries);
        let spare = self.world.spare_eips.iter().position(|eip| eip.address == address);
        self.take_bound(address).or_else(|| Some(self.world.spare_eips.remove(spare?))).is_some()
    }

    /// One EIP of the account, to lock it, to share it with SNAT, or to change its status.
    pub fn eip_mut(&mut self, address: Ipv4Addr) -> Option<&mut Eip> {
        let bound = self.world.gateways.iter_mut().flat_map(|gateway| &mut gateway.eips);
        bound.chain(&mut self.world.spare_eips).find(|eip| eip.address == address)
    }

    /// Changes a gateway's status; whether there is such a gateway.
    pub fn set_gateway_status(&mut self, gateway: &GatewayId, status: GatewayStatus) -> bool {
        self.gateway_mut(gateway).map(|found| found.status = status).is_some()
    }

    /// Deletes a gateway with its table and all entries; its EIPs stay in the account. Whether there was one.
    pub fn remove_gateway(&mut self, now_ms: u64, gateway: &GatewayId) -> bool {
        self.advance(now_ms);
        let Some(place) = self.world.gateways.iter().position(|found| found.id == *gateway) else { return false };
        let removed = self.world.gateways.remove(place);
        let entries: Vec<EntryId> = self.forwarding.entries(&removed.table).map(|entry| entry.id.clone()).collect();
        self.remove_listed(now_ms, &entries);
        self.world.spare_eips.extend(removed.eips.into_iter().map(unbound));
        true
    }

    /// Adds a gateway, with the EIPs that it brings; whether neither it nor its table was there.
    pub fn add_gateway(&mut self, gateway: NatGateway) -> bool {
        let mut all = self.world.gateways.iter().chain(&self.world.vanished);
        if all.any(|found| found.id == gateway.id || found.table == gateway.table) {
            return false;
        }
        self.world.gateways.push(gateway);
        true
    }

    /// Shows nobody a gateway, its table and its EIPs, although they and the entries live on; or shows them again. Calls
    /// that name the table hear that there is none. Whether anything changed.
    pub fn hide_gateway(&mut self, now_ms: u64, gateway: &GatewayId, hidden: bool) -> bool {
        self.advance(now_ms);
        let World { gateways, vanished, .. } = &mut self.world;
        let (from, to) = if hidden { (gateways, vanished) } else { (vanished, gateways) };
        let Some(place) = from.iter().position(|found| found.id == *gateway) else { return false };
        let moved = from.remove(place);
        let place = to.partition_point(|found| found.id < moved.id);
        to.insert(place, moved);
        true
    }

    /// The table of a gateway, shown or not.
    #[must_use]
    pub fn table_of(&self, gateway: &GatewayId) -> Option<&TableId> {
        let mut all = self.world.gateways.iter().chain(&self.world.vanished);
        all.find(|found| found.id == *gateway).map(|found| &found.table)
    }

    fn gateway_mut(&mut self, gateway: &GatewayId) -> Option<&mut NatGateway> {
        self.world.gateways.iter_mut().find(|found| found.id == *gateway)
    }

    fn take_bound(&mut self, address: Ipv4Addr) -> Option<Eip> {
        self.world.gateways.iter_mut().find_map(|gateway| {
            let place = gateway.eips.iter().position(|eip| eip.address == address)?;
            Some(gateway.eips.remove(place))
        })
    }

    fn remove_listed(&mut self, now_ms: u64, entries: &[EntryId]) {
        for id in entries {
            // Each was listed a moment ago, so that none can be missing.
            drop(self.remove_entry(now_ms, id));
        }
    }
}

fn unbound(eip: Eip) -> Eip {
    Eip { status: EipStatus::Available, snat: false, ..eip }
}
