//! What people do to an account behind the controller's back. Each change is in effect at once and, where it touches
//! entries, in the ledger. The cloud's own rules still hold: two entries never share a tuple.

use std::net::Ipv4Addr;

use super::refusal::Refusal;
use super::request::NewEntry;
use super::table::{Entry, EntryStatus};
use super::world::{DEFAULT_ROUTE, Hop, Route};
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

    /// Gives an entry another name and nothing else.
    ///
    /// # Errors
    /// There is none of this id, or the name breaks the documented rule.
    pub fn rename_entry(&mut self, now_ms: u64, id: &EntryId, name: impl Into<String>) -> Result<(), Refusal> {
        let (_, entry) = self.forwarding.find(id).ok_or_else(Refusal::entry_not_found)?;
        let spec = NewEntry { name: name.into(), ..entry.spec.clone() };
        self.edit_entry(now_ms, id, spec)
    }

    /// Makes a Pending entry `Available`, however long it was to stay so.
    ///
    /// # Errors
    /// There is none of this id that is Pending.
    pub fn lift_pending(&mut self, now_ms: u64, id: &EntryId) -> Result<(), Refusal> {
        self.advance(now_ms);
        let found = self.forwarding.find(id).filter(|(_, entry)| entry.status == EntryStatus::Pending);
        let (seq, entry) = found.ok_or_else(Refusal::entry_not_found)?;
        let entry = Entry { status: EntryStatus::Available, ..entry.clone() };
        self.forwarding.set_status(seq, EntryStatus::Available, self.now_ms);
        self.write(Effect::Available, &entry, None);
        Ok(())
    }

    /// Makes every Pending entry `Available` that has been so for longer than is usual. Returns how many there were.
    pub fn lift_all_pending(&mut self, now_ms: u64) -> usize {
        self.advance(now_ms);
        let usual_ms = self.now_ms.saturating_add(self.behaviour.pending_ms);
        let stuck: Vec<EntryId> = self.forwarding.pending_beyond(usual_ms).map(|entry| entry.id.clone()).collect();
        stuck.iter().filter(|id| self.lift_pending(now_ms, id).is_ok()).count()
    }

    /// From now on nothing goes wrong: faults and troubles end, and entries that are stuck become `Available`. Effects
    /// that are late still land; what was done by hand stays.
    pub fn calm(&mut self, now_ms: u64) {
        self.faults.stop();
        self.lift_all_pending(now_ms);
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
