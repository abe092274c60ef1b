//! What people do to an account behind the controller's back. Each change is in effect at once and, where it touches
//! entries, in the ledger. The cloud's own rules still hold: two entries never share a tuple.

use std::net::Ipv4Addr;

use super::refusal::Refusal;
use super::request::NewEntry;
use super::table::{Entry, EntryStatus};
use super::world::{DEFAULT_ROUTE, Eip, EipStatus, GatewayStatus, Hop, Route};
use super::{Effect, Vpc, admission};
use crate::machine::identity::{EntryId, GatewayId};

impl Vpc {
    /// Creates an entry that is `Available` at once.
    ///
    /// # Errors
    /// Where the cloud would refuse it.
    pub fn insert_entry(&mut self, now_ms: u64, spec: NewEntry) -> Result<EntryId, Refusal> {
        self.advance(now_ms);
        admission::check_creation(&self.world, &self.forwarding, &self.behaviour, &spec)?;
        let entry = Entry {
            id: self.next_entry_id(),
            spec,
            token: None,
            status: EntryStatus::Available,
            created_ms: self.now_ms,
            available_ms: self.now_ms,
            deleting_ms: None,
        };
        let id = entry.id.clone();
        self.write(Effect::InsertedByHand, &entry, None);
        self.forwarding.insert(entry);
        Ok(id)
    }

    /// Removes an entry, whatever its status.
    ///
    /// # Errors
    /// There is none of this id.
    pub fn remove_entry(&mut self, now_ms: u64, id: &EntryId) -> Result<(), Refusal> {
        self.advance(now_ms);
        let (seq, _) = self.forwarding.find(id).ok_or_else(Refusal::entry_not_found)?;
        let view_ms = self.view_ms();
        if let Some(entry) = self.forwarding.remove(seq, self.now_ms, view_ms) {
            self.write(Effect::RemovedByHand, &entry, None);
        }
        Ok(())
    }

    /// Changes what an entry maps and how it is named. It stays in its table and keeps its id.
    ///
    /// # Errors
    /// There is none of this id, or the cloud would refuse the change.
    pub fn edit_entry(&mut self, now_ms: u64, id: &EntryId, spec: NewEntry) -> Result<(), Refusal> {
        self.advance(now_ms);
        let (seq, entry) = self.forwarding.find(id).ok_or_else(Refusal::entry_not_found)?;
        let spec = NewEntry { table: entry.spec.table.clone(), ..spec };
        admission::check_change(&self.world, &self.forwarding, &spec, seq)?;
        self.forwarding.change(seq, spec);
        if let Some(entry) = self.forwarding.get(seq).cloned() {
            self.write(Effect::EditedByHand, &entry, None);
        }
        Ok(())
    }

    /// Binds a new EIP to a gateway; whether there is such a gateway, and no such EIP yet.
    pub fn add_eip(&mut self, gateway: &GatewayId, address: Ipv4Addr) -> bool {
        if self.eip_mut(address).is_some() {
            return false;
        }
        let Some(gateway) = self.world.gateways.iter_mut().find(|found| found.id == *gateway) else { return false };
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
        for gateway in &mut self.world.gateways {
            if let Some(place) = gateway.eips.iter().position(|eip| eip.address == address) {
                let eip = gateway.eips.remove(place);
                self.world.spare_eips.push(Eip { status: EipStatus::Available, snat: false, ..eip });
                return Ok(());
            }
        }
        Err(Refusal::eip_not_found())
    }

    /// One EIP of the account, to lock it, to share it with SNAT, or to change its status.
    pub fn eip_mut(&mut self, address: Ipv4Addr) -> Option<&mut Eip> {
        let bound = self.world.gateways.iter_mut().flat_map(|gateway| &mut gateway.eips);
        bound.chain(&mut self.world.spare_eips).find(|eip| eip.address == address)
    }

    /// Changes a gateway's status; whether there is such a gateway.
    pub fn set_gateway_status(&mut self, gateway: &GatewayId, status: GatewayStatus) -> bool {
        let found = self.world.gateways.iter_mut().find(|found| found.id == *gateway);
        found.map(|found| found.status = status).is_some()
    }

    /// Deletes a gateway with its table and all entries; its EIPs stay in the account. Whether there was one.
    pub fn remove_gateway(&mut self, now_ms: u64, gateway: &GatewayId) -> bool {
        self.advance(now_ms);
        let Some(place) = self.world.gateways.iter().position(|found| found.id == *gateway) else { return false };
        let removed = self.world.gateways.remove(place);
        let ids: Vec<EntryId> = self.forwarding.entries(&removed.table).map(|entry| entry.id.clone()).collect();
        for id in ids {
            // Each was listed a moment ago, so that none can be missing.
            drop(self.remove_entry(now_ms, &id));
        }
        let spare = |eip| Eip { status: EipStatus::Available, snat: false, ..eip };
        self.world.spare_eips.extend(removed.eips.into_iter().map(spare));
        true
    }

    /// Points the default route of a route table at a gateway, or takes it away; whether there is such a table.
    pub fn set_default_route(&mut self, route_table: &str, gateway: Option<GatewayId>) -> bool {
        let Some(table) = self.world.route_tables.iter_mut().find(|table| table.id == route_table) else {
            return false;
        };
        table.routes.retain(|route| route.destination != DEFAULT_ROUTE);
        table.routes.extend(gateway.map(|gateway| Route {
            destination: DEFAULT_ROUTE.to_owned(),
            available: true,
            hop: Hop::NatGateway(gateway),
        }));
        true
    }

    /// Lets an address belong to no interface, or to one again.
    pub fn hide_address(&mut self, address: Ipv4Addr, hidden: bool) {
        if hidden {
            self.world.hidden.insert(address);
        } else {
            self.world.hidden.remove(&address);
        }
    }
}
