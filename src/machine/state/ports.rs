//! Who or what keeps an external tuple from being free, and the bitmaps that follow from it.

use std::net::Ipv4Addr;

use crate::machine::identity::{AllocationId, Protocol, TableId};
use crate::machine::state::{Hold, State, Subject, Timer};

type External = (Ipv4Addr, Protocol, u16);

impl State {
    /// Changes what holds a tuple beside its owner.
    pub(super) fn change_hold(&mut self, tuple: External, change: impl FnOnce(&mut Hold)) {
        let hold = self.holds.or_default(tuple);
        change(hold);
        if *hold == Hold::default() {
            self.holds.remove(&tuple);
        }
        self.mark_port(tuple);
    }

    /// Brings the bitmap of an EIP up to date after a change of who has a tuple or what holds it.
    fn mark_port(&mut self, tuple: External) {
        let free = !self.owners.contains_key(&tuple) && !self.holds.contains_key(&tuple);
        let (address, protocol, port) = tuple;
        let Some(id) = self.gateway_by_eip.get(&address) else { return };
        let Some(gateway) = self.gateways.get_mut(id) else { return };
        if !free {
            gateway.eips.take(address, protocol, port);
            return;
        }
        gateway.eips.give(address, protocol, port);
        let table = gateway.table.clone();
        self.wake_originals_at(tuple);
        if let Some(table) = table {
            self.worklist.insert(Subject::Queue(table));
            self.worklist.extend(self.lacking.iter().copied().map(Subject::Allocation));
            self.wake_homeless();
        }
    }

    pub(super) fn own(&mut self, tuple: External, owner: AllocationId) -> Result<(), &'static str> {
        if self.owners.insert(tuple, owner).is_some_and(|other| other != owner) {
            return Err("the external tuple belongs to another allocation");
        }
        self.mark_port(tuple);
        Ok(())
    }

    /// Ends an ownership. A port that may have been in the table rests first.
    pub(super) fn disown(&mut self, tuple: External, rests: bool) {
        let due = self.machine_ms.saturating_add(self.settings.as_ref().map_or(0, |settings| settings.cooldown_ms));
        let (address, protocol, port) = tuple;
        let timer = Timer::Cooldown(address, protocol, port);
        self.owners.remove(&tuple);
        if !rests || due == self.machine_ms {
            return self.mark_port(tuple);
        }
        if let Some(before) = self.holds.get(&tuple).and_then(|hold| hold.resting_ms) {
            self.timers.remove(&(before, timer.clone()));
        }
        self.timers.insert((due, timer));
        self.change_hold(tuple, |hold| hold.resting_ms = Some(due));
    }

    /// Whether a table has been read in this term, so that what concerns it may be decided and sent.
    #[must_use]
    pub fn is_open(&self, table: &TableId) -> bool {
        self.tables.get(table).is_some_and(|table| table.open)
    }
}
