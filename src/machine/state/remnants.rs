//! Entries that a leader without history found: they are looked at again whenever something about their pods, addresses
//! or claims becomes known, until it is decided whose they are.

use std::net::Ipv4Addr;

use crate::machine::identity::{AllocationId, EntryId, TableId};
use crate::machine::state::{State, Subject};

impl State {
    /// Something about a pod with that address became known.
    pub(super) fn wake_remnants_to(&mut self, ip: Ipv4Addr) {
        if self.remnants.is_empty() {
            return;
        }
        let to: Vec<_> = self.strays_to(ip).map(|(table, entry, _)| (table.clone(), entry.clone())).collect();
        self.wake_remnants(to);
    }

    /// What an entry's mark names was decided.
    pub(super) fn wake_remnants_of(&mut self, id: AllocationId) {
        if self.remnants.is_empty() {
            return;
        }
        let of: Vec<_> = self.strays_of.get(&id).into_iter().flatten().cloned().collect();
        self.wake_remnants(of);
    }

    fn wake_remnants(&mut self, places: Vec<(TableId, EntryId)>) {
        let left = places.into_iter().filter(|place| self.remnants.contains(place));
        self.worklist.extend(left.map(|(table, entry)| Subject::Stray(table, entry)));
    }

    /// An entry stands for nothing: claims and pods that waited for it are looked at again.
    pub(super) fn end_remnant(&mut self, table: &TableId, entry: &EntryId, ip: Ipv4Addr) {
        if !self.remnants.remove(&(table.clone(), entry.clone())) {
            return;
        }
        let pods: Vec<_> = self.pods_by_ip.get(&ip).into_iter().flatten().cloned().collect();
        for uid in pods {
            let key = self.pods.get(&uid).map(|pod| pod.key.clone());
            self.worklist.extend(key.map(Subject::Claim));
            self.wake_pod(&uid);
        }
    }
}
