//! A snapshot's records made a state again: the inverse of [`State::snapshot`].
//!
//! Facts are put where they were, and what follows from them is derived: indices, timers, bitmaps, digest. Nothing is
//! decided and nothing is woken. A stream that is not whole, speaks of what it did not bring, or arrives at another digest
//! is no snapshot.

mod parts;

use self::parts::{allocation, demand, intent, item, note, place, standing, work};
use crate::machine::at::At;
use crate::machine::demand::{HaltReason, RefusalReason, ReleaseReason};
use crate::machine::event::kept::{
    AllocationKept, ClaimKept, EipKept, FrameKept, IntentKept, ItemsKept, Kept, PodKept, RestsKept, StrayKept,
    TableKept, WantedKept,
};
use crate::machine::event::{Event, Record, seen};
use crate::machine::identity::{AllocationId, EntryId, GatewayId, PodKey, PodUid, TableId, protocol_of};
use crate::machine::intent::Held;
use crate::machine::pool::Eips;
use crate::machine::state::{
    Address, Controller, Entry, Gateway, IllegalEvent, Listed, Pod, Standing, State, StrangeClaim, Stray, Suspect,
    Table, Timer,
};

/// A state that is being restored from the records of a snapshot.
#[derive(Debug, Default)]
pub struct Restoring {
    state: State,
    /// Records taken.
    taken: u64,
    /// The last record that the snapshot stands for, once it has begun.
    through: Option<u64>,
    ended: bool,
    /// Which gateway has which EIP.
    eips: Vec<(std::net::Ipv4Addr, GatewayId)>,
    /// The observation that the next record completes.
    entry: Option<seen::EntrySeen>,
    claim: Option<seen::ClaimSeen>,
}

impl Restoring {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next record.
    ///
    /// # Errors
    /// Fails when the record does not follow or belongs to no snapshot. Nothing comes of it then.
    pub fn take(&mut self, record: &Record) -> Result<(), IllegalEvent> {
        let illegal = |reason| IllegalEvent { seq: record.seq, name: record.event.name(), reason };
        self.frame(record).and_then(|()| self.put(&record.event)).map_err(illegal)
    }

    /// The state.
    ///
    /// # Errors
    /// Fails when the snapshot has not ended.
    pub fn finish(self) -> Result<State, IllegalEvent> {
        let reason = "the snapshot ends before its end";
        if self.ended { Ok(self.state) } else { Err(IllegalEvent { seq: self.taken, name: "SnapshotEnded", reason }) }
    }

    fn frame(&mut self, record: &Record) -> Result<(), &'static str> {
        self.taken = self.taken.saturating_add(1);
        if self.taken != record.seq || self.ended {
            return Err("its number does not follow");
        }
        let times = (record.term, record.machine_ms, record.wall_ms);
        match (&record.event, self.through) {
            (Event::SnapshotBegun(begun), None) => {
                self.through = Some(begun.through);
                self.state.seq = begun.through;
                (self.state.term, self.state.machine_ms, self.state.wall_ms) = times;
                Ok(())
            }
            (_, None) => Err("the snapshot has not begun"),
            (_, Some(_)) if times != (self.state.term, self.state.machine_ms, self.state.wall_ms) => {
                Err("it is of another moment")
            }
            (_, Some(_)) => Ok(()),
        }
    }

    fn put(&mut self, event: &Event) -> Result<(), &'static str> {
        let state = &mut self.state;
        match event {
            Event::SnapshotBegun(_) if self.taken == 1 => {}
            Event::Kept(Kept::Frame(body)) => state.put_frame(body)?,
            Event::PoolConfigured(body) => state.pool_configured(body),
            Event::Configured(body) => state.configured(body),
            Event::GatewaySeen(body) => state.put_gateway(body),
            Event::Kept(Kept::Eip(body)) => {
                self.eips.extend(body.gateway.as_deref().map(|gateway| (body.eip, gateway.into())));
                state.put_suspect(body);
            }
            Event::RouteSeen(body) => {
                let gateways = body.gateways.iter().map(|gateway| gateway.as_str().into()).collect();
                state.routes.insert(body.vswitch.as_str().into(), gateways);
            }
            Event::AddressSeen(body) => {
                let place = state.places.share(place((&body.eni, &body.vswitch, &body.zone)));
                state.addresses.insert(body.ip, Address::Known(place));
            }
            Event::AddressMissing(body) => drop(state.addresses.insert(body.ip, Address::Missing)),
            Event::Kept(Kept::Table(body)) => state.put_table(body),
            Event::Kept(Kept::Pod(body)) => state.put_pod(body)?,
            Event::Kept(Kept::Allocation(body)) => state.put_allocation(body)?,
            Event::Kept(Kept::Items(body)) => state.put_items(body)?,
            Event::EntrySeen(body) => self.entry = Some(body.clone()),
            Event::Kept(Kept::Stray(body)) => {
                let seen = self.entry.take().filter(|seen| (&seen.table, &seen.entry) == (&body.table, &body.entry));
                state.restored_stray(&seen.ok_or("its entry did not come before it")?, body)?;
            }
            Event::Kept(Kept::Rests(body)) => state.put_rests(body)?,
            Event::ClaimSeen(body) => self.claim = Some(body.clone()),
            Event::Kept(Kept::Claim(body)) => {
                let same = |seen: &seen::ClaimSeen| (&seen.namespace, &seen.name) == (&body.namespace, &body.name);
                let seen = self.claim.take().filter(same).ok_or("its claim did not come before it")?;
                state.restored_claim(seen, body);
            }
            Event::Kept(Kept::Intent(body)) => state.put_intent(body)?,
            Event::Kept(Kept::Work(body)) => drop(state.worklist.insert(work(body))),
            Event::SnapshotEnded(body) => {
                if Some(body.through) != self.through {
                    return Err("it ends another snapshot");
                }
                state.derive(&self.eips);
                if state.digest() != body.digest {
                    return Err("its digest is not the state's");
                }
                self.ended = true;
            }
            _ => return Err("it belongs to no snapshot"),
        }
        Ok(())
    }
}

impl State {
    fn put_frame(&mut self, body: &FrameKept) -> Result<(), &'static str> {
        let reason = |number| HaltReason::from_number(number).ok_or("a number in it is unknown");
        self.term_seen = body.term_seen;
        self.cluster_read = body.cluster_read;
        self.rebuilding = body.rebuilding;
        self.forgetful = body.forgetful;
        self.short = body.short;
        self.allocations_decided = body.allocations_decided;
        self.generations_decided = body.generations_decided;
        self.halted = body.halted.map(reason).transpose()?;
        Ok(())
    }

    fn put_gateway(&mut self, body: &seen::GatewaySeen) {
        let gateway = Gateway {
            table: body.table.as_deref().map(Into::into),
            zone: body.zone.as_deref().map(Into::into),
            available: body.available,
            bound: body.eips.clone(),
            eips: Eips::default(),
        };
        self.gateways.insert(body.gateway.as_str().into(), gateway);
    }

    fn put_suspect(&mut self, body: &EipKept) {
        if let Some((gateway, since_ms, lost)) = &body.suspect {
            let suspect = Suspect { gateway: gateway.as_str().into(), since_ms: *since_ms, lost: *lost };
            self.suspects.insert(body.eip, suspect);
        }
    }

    fn put_table(&mut self, body: &TableKept) {
        let id = TableId::from(body.table.as_str());
        self.timers.extend(body.probe_ms.map(|due| (due, Timer::Probe(id.clone()))));
        self.timers.extend(body.rests_ms.map(|due| (due, Timer::Rest(id.clone()))));
        let table = Table {
            gateway: body.gateway.as_deref().map(Into::into),
            open: body.open,
            committed: body.committed,
            limit: body.limit,
            probing: body.probing,
            probe_ms: body.probe_ms,
            rested: body.rested,
            rests_ms: body.rests_ms,
            watch_until_ms: body.watch_until_ms,
            limit_since: body.limit_since,
            awaited_at: body.awaited_at,
            ..Table::default()
        };
        self.tables.insert(id, table);
    }

    fn put_pod(&mut self, body: &PodKept) -> Result<(), &'static str> {
        let uid = PodUid::from(body.uid.as_str());
        let number = "a number in it is unknown";
        let barred = body.barred.map(|barred| RefusalReason::from_number(barred).ok_or(number)).transpose()?;
        let ended = body.ended.map(|ended| ReleaseReason::from_number(ended).ok_or(number)).transpose()?;
        let pod = Pod {
            key: PodKey::new(body.namespace.as_str(), body.name.as_str()),
            seen: body.seen,
            seen_at: body.seen_at,
            ip: body.ip,
            demand: demand(&body.demand).ok_or(number)?,
            barred,
            ended,
            grace_ends_ms: body.grace_ends_ms.map(At::new),
            gate: body.gate,
            owner: body.owner.as_ref().map(|owner| self.controllers.share(Controller::of(owner))),
            arrival: body.arrival.map(At::new),
            standing: standing(&body.standing).ok_or(number)?,
            noted: note(body.noted).ok_or(number)?,
            noted_unsure: body.noted_unsure,
            held: Held::default(),
        };
        self.pods_by_name.or_default(pod.key.clone()).insert(uid.clone());
        if let Some(ip) = pod.ip {
            self.pods_by_ip.or_default(ip).insert(uid.clone());
        }
        if let (Standing::Waiting { queue: Some(table), .. }, Some(arrival)) = (&pod.standing, pod.arrival()) {
            let table = self.tables.get_mut(table).ok_or("the table of its queue is not there")?;
            table.queue.insert(arrival, uid.clone());
        }
        let armed = body.grace_ends_ms.filter(|_| body.grace_armed);
        self.timers.extend(armed.map(|due| (due, Timer::Grace(uid.clone()))));
        self.marking.extend(body.marking.then(|| uid.clone()));
        self.undecided.extend(body.undecided.then(|| uid.clone()));
        self.pods.insert(uid, pod);
        Ok(())
    }

    fn put_allocation(&mut self, body: &AllocationKept) -> Result<(), &'static str> {
        let id = AllocationId::from(body.allocation);
        let (eni, vswitch, zone) = &body.place;
        let place = self.places.share(place((eni, vswitch, zone)));
        let owner = body.owner.as_ref().map(|owner| self.controllers.share(Controller::of(owner)));
        let allocation = allocation(body, place, owner).ok_or("a number in it is unknown")?;
        if body.named {
            self.by_name.insert(allocation.key.clone(), id);
        }
        self.by_ip.or_default(allocation.ip).insert(id);
        self.by_vswitch.or_default(allocation.place.vswitch.clone()).insert(id);
        self.timers.extend(body.retry_ms.map(|due| (due, Timer::Retry(id))));
        self.timers.extend(body.retention_ms.map(|due| (due, Timer::Retention(id))));
        self.timers.extend(body.contest_ms.map(|due| (due, Timer::Contest(id))));
        let (unsettled, lacking, reserved, homeless) = body.among;
        self.unsettled.extend(unsettled.then_some(id));
        self.lacking.extend(lacking.then_some(id));
        self.reserved.extend(reserved.then_some(id));
        self.homeless.extend(homeless.then_some(id));
        self.allocations.insert(id, allocation);
        Ok(())
    }

    fn put_items(&mut self, body: &ItemsKept) -> Result<(), &'static str> {
        let id = AllocationId::from(body.allocation);
        let allocation = self.allocations.get_mut(&id).ok_or("its allocation did not come before it")?;
        let table = self.tables.get_mut(&allocation.table).ok_or("the allocation's table is not there")?;
        allocation.items.reserve_exact(body.items.len());
        for kept in &body.items {
            let item = item(kept).ok_or("a number in it is unknown")?;
            let tuple = (allocation.eip, item.want.protocol, item.external);
            if self.owners.insert(tuple, id).is_some() {
                return Err("a port of it belongs to another allocation");
            }
            self.by_generation.insert(item.generation, id);
            let of_it = (id, item.generation);
            table.awaited.extend(kept.awaited.then_some(of_it));
            table.awaited_whole.extend(kept.awaited_whole.then_some(of_it));
            table.pending.extend(matches!(item.entry, Entry::Present { available: false, .. }).then_some(of_it));
            if let Some(entry) = kept.adopted.as_deref().map(EntryId::from) {
                allocation.unusual.change(|unusual| unusual.adopted.push((item.generation, entry.clone())));
                self.adopted.insert((allocation.table.clone(), entry), of_it);
            }
            if let Entry::Present { id: entry, .. } | Entry::Deleting { id: entry, .. } = &item.entry {
                table.entries.insert(entry.clone(), Listed::Ours(item.generation));
            }
            allocation.items.push(item);
        }
        Ok(())
    }

    fn restored_stray(&mut self, seen: &seen::EntrySeen, body: &StrayKept) -> Result<(), &'static str> {
        let (table_id, id) = (TableId::from(body.table.as_str()), EntryId::from(body.entry.as_str()));
        let stray = Stray {
            name: seen.name.as_str().into(),
            external_ip: seen.external_ip,
            external_ports: seen.external_ports,
            internal_ip: seen.internal_ip,
            internal_ports: seen.internal_ports,
            protocol: protocol_of(seen.protocol),
            status: seen.status,
            marked: body.marked,
            stale: body.stale,
            deleted: body.deleted,
            deleted_ms: body.deleted_ms,
            held: Held::default(),
        };
        self.index_stray(&stray, &table_id, &id, true);
        let table = self.tables.get_mut(&table_id).ok_or("its table is not there")?;
        for external in stray.external() {
            table.strays_external.insert(external, id.clone());
            let hold = self.holds.or_default(external);
            hold.strangers = hold.strangers.saturating_add(1);
        }
        if let Some(internal) = stray.internal() {
            table.strays_internal.insert(internal, id.clone());
        }
        table.strays_going.extend(body.deleted.then(|| id.clone()));
        self.occupied.extend(stray.is_any().then(|| (stray.external_ip, id.clone())));
        self.remnants.extend(body.remnant.then(|| (table_id, id.clone())));
        table.entries.insert(id, Listed::Stray(Box::new(stray)));
        Ok(())
    }

    fn put_rests(&mut self, body: &RestsKept) -> Result<(), &'static str> {
        for (eip, protocol, port, due) in &body.rests {
            let protocol = protocol_of(*protocol).ok_or("a protocol of it is unknown")?;
            self.holds.or_default((*eip, protocol, *port)).resting_ms = Some(*due);
            self.timers.insert((*due, Timer::Cooldown(*eip, protocol, *port)));
        }
        Ok(())
    }

    fn restored_claim(&mut self, seen: seen::ClaimSeen, body: &ClaimKept) {
        let claim = StrangeClaim {
            uid: seen.uid.into(),
            since: body.since,
            claim: seen.claim,
            shown: seen.shown,
            deleting: seen.deleting,
            owner: seen.owner.as_ref().map(|owner| self.controllers.share(Controller::of(owner))),
            published: seen.published,
            written_by_us: seen.manager == seen::MANAGER_NATGW,
            ghost: body.ghost,
            held: Held::default(),
        };
        let key = PodKey::new(seen.namespace, seen.name);
        self.index_claim(&key, claim);
        self.originals.extend(body.original.then(|| key.clone()));
        self.intruders.extend(body.intruder.then_some(key));
    }

    /// Puts an intent back to its subject, and into the agenda.
    fn put_intent(&mut self, body: &IntentKept) -> Result<(), &'static str> {
        let intent = intent(&body.wanted).ok_or("a number in it is unknown")?;
        let held = match &body.wanted {
            WantedKept::Locate(_, pod) | WantedKept::MarkPod(pod, _) => {
                self.pods.get_mut(&PodUid::from(pod.as_str())).map(|pod| &mut pod.held)
            }
            WantedKept::Observe(table) => {
                self.tables.get_mut(&TableId::from(table.as_str())).map(|table| &mut table.held)
            }
            WantedKept::DropClaim(namespace, name, _) => {
                self.claims.get_mut(&PodKey::new(namespace.as_str(), name.as_str())).map(|claim| &mut claim.held)
            }
            WantedKept::Unbind(table, entry, None) => {
                let table = self.tables.get_mut(&TableId::from(table.as_str()));
                match table.and_then(|table| table.entries.get_mut(&EntryId::from(entry.as_str()))) {
                    Some(Listed::Stray(stray)) => Some(&mut stray.held),
                    Some(Listed::Ours(..)) | None => None,
                }
            }
            WantedKept::Unbind(_, _, Some(id))
            | WantedKept::WriteClaim(id, _)
            | WantedKept::Bind(_, id, _)
            | WantedKept::Forgo(id, _)
            | WantedKept::Publish(id, _)
            | WantedKept::Withdraw(id)
            | WantedKept::ReleaseClaim(id) => {
                self.allocations.get_mut(&AllocationId::from(*id)).map(|allocation| &mut allocation.held)
            }
        };
        held.ok_or("whose it is did not come before it")?.change(|held| held.push(intent.clone()));
        self.agenda.restore(intent, body.rests_on);
        Ok(())
    }

    /// What follows from the facts: bitmaps and digest. What is to be decided is known already.
    fn derive(&mut self, eips: &[(std::net::Ipv4Addr, GatewayId)]) {
        let worklist = std::mem::take(&mut self.worklist);
        for gateway in self.gateways.scan().map(|(id, _)| id.clone()).collect::<Vec<_>>() {
            self.lay_out(&gateway);
        }
        for (eip, gateway) in eips {
            self.gateway_by_eip.insert(*eip, gateway.clone());
        }
        self.worklist = worklist;
        let partial: Vec<_> =
            self.allocations.scan().filter(|(_, a)| a.is_partial()).map(|(id, a)| (*id, a.table.clone())).collect();
        for (id, table) in partial {
            self.tables.or_default(table).partial.insert(id);
        }
        let hashes: Vec<_> = self.allocations.scan().map(|(id, a)| (*id, self.hash_of(*id, a))).collect();
        for (id, hash) in hashes {
            if let Some(allocation) = self.allocations.get_mut(&id) {
                allocation.hashed = hash;
                self.digest.replace([0; 4], hash);
            }
        }
    }
}

#[cfg(test)]
mod tests;
