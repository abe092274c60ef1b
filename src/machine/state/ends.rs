//! What an allocation leaves behind when it leaves a place, or ends.

use crate::machine::event::seen;
use crate::machine::identity::{AllocationId, EntryId, Mark, Protocol, TableId, UidHash, VSwitchId};
use crate::machine::intent::Held;
use crate::machine::state::{Allocation, Entry, Standing, State, Stray, Subject, Timer};

impl State {
    /// Its pod is somewhere else than before.
    pub(super) fn change_place(&mut self, id: AllocationId, ip_before: std::net::Ipv4Addr, before: &VSwitchId) {
        let Some(allocation) = self.allocations.get(&id) else { return };
        let (ip, vswitch) = (allocation.ip, allocation.place.vswitch.clone());
        if ip != ip_before {
            self.leave_ip(id, ip_before);
            self.by_ip.or_default(ip).insert(id);
        }
        if vswitch != *before {
            self.leave_vswitch(id, before);
            self.by_vswitch.or_default(vswitch).insert(id);
        }
    }

    fn leave_vswitch(&mut self, id: AllocationId, vswitch: &VSwitchId) {
        let others = self.by_vswitch.or_default(vswitch.clone());
        others.remove(&id);
        if others.is_empty() {
            self.by_vswitch.remove(vswitch);
        }
    }

    fn leave_ip(&mut self, id: AllocationId, ip: std::net::Ipv4Addr) {
        let others = self.by_ip.or_default(ip);
        others.remove(&id);
        if others.is_empty() {
            self.by_ip.remove(&ip);
        }
        self.wake_ip(ip);
        self.wake_originals();
    }

    /// The allocation is over: its ports rest, its name and address are free.
    pub(super) fn end_allocation(&mut self, id: AllocationId) {
        self.end_reservation(id);
        let Some(mut allocation) = self.allocations.remove(&id) else { return };
        self.agenda.replace(&mut allocation.held, Vec::new(), self.seq);
        self.digest.remove(allocation.hashed);
        self.unsettled.remove(&id);
        self.lacking.remove(&id);
        if let Some(due) = allocation.unusual.retry_ms {
            self.timers.remove(&(due, Timer::Retry(id)));
        }
        if let Some(due) = allocation.unusual.contest_ms {
            self.timers.remove(&(due, Timer::Contest(id)));
        }
        for (_, entry) in &allocation.unusual.adopted {
            self.adopted.remove(&(allocation.table.clone(), entry.clone()));
        }
        self.homeless.remove(&id);
        if self.by_name.get(&allocation.key) == Some(&id) {
            self.by_name.remove(&allocation.key);
        }
        self.leave_ip(id, allocation.ip);
        self.leave_vswitch(id, &allocation.place.vswitch);
        self.tables.or_default(allocation.table.clone()).partial.remove(&id);
        for item in &allocation.items {
            self.by_generation.remove(&item.generation);
            self.disown((allocation.eip, item.want.protocol, item.external), item.touched);
            let table = self.tables.or_default(allocation.table.clone());
            table.forget_awaited((id, item.generation));
            table.pending.remove(&(id, item.generation));
            if item.entry != Entry::Gone {
                table.committed = table.committed.saturating_sub(1);
            }
        }
        self.strand(id, &allocation);
        // What was left alone for its sake goes now.
        let strays = self.strays_of.get(&id).into_iter().flatten();
        self.worklist.extend(strays.map(|(table, entry)| Subject::Stray(table.clone(), entry.clone())));
        self.refresh_strays_of(id);
        if let Some(pod) = self.pods.get_mut(&allocation.pod)
            && pod.standing == Standing::Allocated(id)
        {
            pod.standing = Standing::Open;
            self.reconsider_pod(&allocation.pod);
        }
        if let Some(successor) = allocation.unusual.successor {
            self.tell_successor(id, successor);
        }
        self.wake_name(&allocation.key);
        self.refresh_table(&allocation.table);
    }

    /// Entries of an allocation that ended nevertheless stand for nothing from now on.
    fn strand(&mut self, id: AllocationId, allocation: &Allocation) {
        let cluster = self.settings.as_ref().map_or_else(|| UidHash::of(""), |settings| settings.cluster);
        for item in &allocation.items {
            let (Entry::Present { id: entry, .. } | Entry::Deleting { id: entry, .. }) = &item.entry else { continue };
            self.tables.or_default(allocation.table.clone()).entries.remove(entry);
            let one = |port: u16| (port, port);
            let mark = Mark::new(cluster, &allocation.pod, id, item.generation);
            // What carries no mark was only adopted: it is somebody else's again, and the next listing tells its name.
            let marked = !allocation.unusual.adopted.iter().any(|(_, adopted)| adopted == entry);
            let stray = Stray {
                name: if marked { mark.to_string().into() } else { Box::default() },
                external_ip: allocation.eip,
                external_ports: one(item.external),
                internal_ip: allocation.ip,
                internal_ports: one(item.want.internal),
                protocol: Some(item.want.protocol),
                status: 0,
                marked,
                stale: false,
                deleted: false,
                deleted_ms: 0,
                held: Held::default(),
            };
            self.put_stray(&allocation.table, entry, stray);
        }
    }
}

impl Stray {
    /// The observation that made it.
    pub(super) fn observation(&self, table: &TableId, entry: &EntryId) -> seen::EntrySeen {
        seen::EntrySeen {
            table: table.as_str().to_owned(),
            entry: entry.as_str().to_owned(),
            name: self.name.as_ref().to_owned(),
            external_ip: self.external_ip,
            external_ports: self.external_ports,
            internal_ip: self.internal_ip,
            internal_ports: self.internal_ports,
            protocol: self.protocol.map_or(0, Protocol::number),
            status: self.status,
        }
    }
}
