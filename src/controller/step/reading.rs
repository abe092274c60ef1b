//! Readings: what is due, and what their answers say.

use crate::controller::barrier::ListKey;
use crate::controller::lanes::Draw;
use crate::controller::relist::{self, Began, Suspicion};
use crate::controller::step::{Controller, ListId, Now, Output};
use crate::controller::survey::Part;
use crate::machine::event::{Event, control, seen};
use crate::machine::identity::{EntryId, GatewayId, Generation, TableId};
use crate::machine::intent::Intent;
use crate::ports::cloud::{ADDRESSES_MAX, ListedEntry, Reading};
use crate::ports::effect::{ListError, ListRequest, Listing};

impl Controller {
    /// Readings and changes: where the account takes few calls, whoever is behind comes first.
    pub(super) fn call_what_is_due(&mut self, now: Now) {
        if self.lanes.reads_first() {
            self.read_what_is_due(now);
            self.start_what_is_due(now);
        } else {
            self.start_what_is_due(now);
            self.read_what_is_due(now);
        }
    }

    fn read_what_is_due(&mut self, now: Now) {
        let machine_ms = self.machine(now);
        for key in self.barrier.due(&self.state, &self.lanes, machine_ms, self.addresses.due_ms()) {
            let draw = self.barrier.draw(&key);
            let Some(last) = self.lanes.read(machine_ms, draw) else { continue };
            let request = match &key {
                ListKey::Cluster => ListRequest::Cluster,
                ListKey::Survey(part) => part.request(),
                ListKey::Interfaces => {
                    let addresses = self.addresses.take_due(machine_ms, ADDRESSES_MAX);
                    if addresses.is_empty() {
                        self.lanes.was_read(Reading::Interfaces, 0, 1);
                        continue;
                    }
                    ListRequest::Interfaces(addresses)
                }
                ListKey::Table(table) => ListRequest::Table(table.clone()),
            };
            match key {
                ListKey::Survey(part) => {
                    let met = self.vswitches_met.iter().cloned();
                    let vswitches = || met.chain(self.state.vswitches_known()).collect();
                    self.barrier.begin_part(&self.state, (part, last), machine_ms, vswitches);
                }
                key => self.barrier.begin(key, last),
            }
            self.list(now, request, draw);
        }
    }

    fn list(&mut self, now: Now, request: ListRequest, draw: Option<Draw>) {
        let began = Began { seq: self.state.seq(), machine_ms: self.machine(now) };
        let id = ListId(self.next_id());
        self.lists.insert(id, (request.clone(), began, draw));
        if request == ListRequest::Cluster {
            self.departed.listing_begins();
        }
        if let ListRequest::Table(table) = &request {
            self.writes_since.insert(table.clone(), self.flights.values().cloned().collect());
        }
        self.outbox.push_back(Output::List(id, request));
    }

    pub(super) fn list_ended(&mut self, now: Now, id: ListId, listing: Result<Listing, ListError>) {
        let Some((request, began, drawn)) = self.lists.remove(&id) else { return };
        let machine_ms = self.machine(now);
        let key = key_of(&request);
        match &listing {
            Ok(listing) => self.settle(&key, listing, drawn),
            Err(error) => {
                if let Some((reading, flow)) = request.reading().zip(error.flow) {
                    self.lanes.read_throttled(machine_ms, reading, flow, error.after_ms);
                }
            }
        }
        if let ListKey::Survey(part) = &key {
            return self.part_read(now, part, listing);
        }
        match (&request, listing) {
            (ListRequest::Cluster, Ok(Listing::Cluster { pods, claims })) => {
                let gone = self.departed.listing_ends();
                let events = relist::cluster(&self.state, &pods, &claims, began, &gone);
                let shown = pods.iter().map(|pod| &*pod.uid).chain(claims.iter().map(|claim| &*claim.uid));
                let shown = shown.filter(|uid| !gone.contains(*uid));
                self.departed.listed(machine_ms, shown, events.iter().filter_map(relist::gone));
                for event in events {
                    self.emit(now, event);
                }
                if !self.state.is_cluster_read() {
                    let count = |items: usize| u32::try_from(items).unwrap_or(u32::MAX);
                    let read =
                        control::ClusterRead { pods: count(self.state.pods().count()), claims: count(claims.len()) };
                    self.emit(now, Event::ClusterRead(read));
                }
                self.barrier.read(&self.state, ListKey::Cluster, machine_ms);
            }
            (ListRequest::Interfaces(addresses), Ok(Listing::Interfaces(interfaces))) => {
                for event in relist::interfaces(&request, &interfaces) {
                    self.located(now, event);
                }
                for ip in addresses {
                    self.addresses.ask_again(*ip, machine_ms, None);
                }
                self.barrier.read(&self.state, ListKey::Interfaces, machine_ms);
            }
            (ListRequest::Table(table), Ok(Listing::Table(entries))) => {
                self.table_listed(now, table, &entries, began);
                self.barrier.looked(table, machine_ms, began.seq, entries.len());
                self.barrier.read(&self.state, ListKey::Table(table.clone()), machine_ms);
            }
            (ListRequest::Table(table), Ok(Listing::Moved(entries))) if self.state.is_open(table) => {
                self.writes_since.remove(table);
                for event in relist::glimpse(&self.state, table, &entries) {
                    self.emit(now, event);
                }
                self.barrier.looked(table, machine_ms, began.seq, entries.len());
                self.barrier.moved(&self.state, table, machine_ms);
            }
            (request, Ok(_)) => self.list_failed(now, request, None),
            (request, Err(error)) => self.list_failed(now, request, error.after_ms),
        }
    }

    /// Tells the budgets how many calls a reading made.
    fn settle(&mut self, key: &ListKey, listing: &Listing, drawn: Option<Draw>) {
        if let Some(((reading, drawn), made)) = drawn.zip(calls_made(listing)) {
            self.lanes.was_read(reading, made, drawn);
            self.barrier.made(key, (reading, made));
        }
    }

    /// A part of the survey ended; with the last one all of it is taken over.
    fn part_read(&mut self, now: Now, part: &Part, listing: Result<Listing, ListError>) {
        let machine_ms = self.machine(now);
        let configured = self.state.gateways_configured();
        let failed = match listing.map(|listing| self.barrier.part_read(part, listing, &configured)) {
            Ok(true) => None,
            Ok(false) => Some((None, false)),
            Err(error) => Some((error.after_ms, error.flow.is_some())),
        };
        if let Some((after_ms, paced)) = failed {
            self.barrier.part_failed(part, machine_ms, after_ms, paced);
        }
        let Some((gateways, routes)) = self.barrier.take_survey() else { return };
        let whole = gateways.is_some();
        let mut events = gateways.map_or_else(Vec::new, |(gateways, eips, began_ms)| {
            relist::gateways(&self.state, began_ms, &gateways, &eips)
        });
        events.extend(relist::routes(&self.state, &routes));
        for event in events {
            self.emit(now, event);
        }
        if whole {
            self.barrier.surveyed(&self.state, machine_ms);
            return;
        }
        let known = self.state.gateways_known();
        let news = |hop: &GatewayId| configured.contains(hop) && !known.contains(hop);
        if routes.iter().any(|(_, hops)| hops.iter().any(news)) {
            self.barrier.survey_soon();
        }
    }

    fn list_failed(&mut self, now: Now, request: &ListRequest, after_ms: Option<u64>) {
        let machine_ms = self.machine(now);
        match request {
            ListRequest::Cluster => {
                self.departed.listing_ends();
                self.barrier.failed(ListKey::Cluster, machine_ms, after_ms);
            }
            ListRequest::Gateways | ListRequest::Eips(_) | ListRequest::RouteTables | ListRequest::Routes(_) => {}
            ListRequest::Table(table) => {
                self.writes_since.remove(table);
                self.barrier.failed(ListKey::Table(table.clone()), machine_ms, after_ms);
            }
            ListRequest::Interfaces(addresses) => {
                for ip in addresses {
                    self.addresses.ask_again(*ip, machine_ms, after_ms);
                }
                self.barrier.failed(ListKey::Interfaces, machine_ms, after_ms);
            }
        }
    }

    /// An address was found, or again not. What is known already is not said again.
    fn located(&mut self, now: Now, event: Event) {
        match &event {
            Event::AddressSeen(seen) => {
                let vswitch = seen.vswitch.as_str().into();
                if self.state.route(&vswitch).is_none() && self.vswitches_met.insert(vswitch) {
                    self.barrier.ask_for_routes();
                }
                if !self.state.knows_address(seen) {
                    self.emit(now, event);
                }
            }
            Event::AddressMissing(seen::AddressMissing { ip }) if !self.state.is_missing(*ip) => self.emit(now, event),
            _ => {}
        }
    }

    fn table_listed(&mut self, now: Now, table: &TableId, entries: &[ListedEntry], began: Began) {
        let during = self.writes_since.remove(table).unwrap_or_default();
        let written = |generation: Generation, entry: Option<&EntryId>| {
            let concerns = |intent: &Intent| match intent {
                Intent::Bind { generation: other, .. } => *other == generation,
                Intent::Unbind { entry: other, .. } => Some(other) == entry,
                Intent::Locate { .. }
                | Intent::WriteClaim { .. }
                | Intent::Forgo { .. }
                | Intent::Observe { .. }
                | Intent::Publish { .. }
                | Intent::Withdraw { .. }
                | Intent::ReleaseClaim { .. }
                | Intent::DropClaim { .. }
                | Intent::MarkPod { .. } => false,
            };
            during.iter().any(concerns)
        };
        let mut suspicion: Suspicion = self.suspicions.remove(table).unwrap_or_default();
        let (events, believed) = relist::table(&self.state, table, entries, began, &mut suspicion, &written);
        self.suspicions.insert(table.clone(), suspicion);
        for event in events {
            self.emit(now, event);
        }
        if !believed {
            return;
        }
        let count = u32::try_from(entries.len()).unwrap_or(u32::MAX);
        if self.state.is_awaited(table, began.machine_ms) {
            let (table, began_seq, began_ms) = (table.as_str().to_owned(), began.seq, began.machine_ms);
            self.emit(now, Event::TableListed(seen::TableListed { table, began_seq, began_ms, entries: count }));
        }
        if !self.state.is_open(table) {
            let table = table.as_str().to_owned();
            self.emit(now, Event::TableOpened(control::TableOpened { table, entries: count }));
            self.unblock();
        }
    }

    /// A call to a table began: listings under way say nothing about what it concerns.
    pub(super) fn note_write(&mut self, table: &TableId, intent: &Intent) {
        if let Some(during) = self.writes_since.get_mut(table) {
            during.push(intent.clone());
        }
    }
}

fn key_of(request: &ListRequest) -> ListKey {
    match request {
        ListRequest::Cluster => ListKey::Cluster,
        ListRequest::Gateways => ListKey::Survey(Part::Gateways),
        ListRequest::Eips(gateway) => ListKey::Survey(Part::Eips(gateway.clone())),
        ListRequest::RouteTables => ListKey::Survey(Part::RouteTables),
        ListRequest::Routes(table) => ListKey::Survey(Part::Routes(table.clone())),
        ListRequest::Interfaces(_) => ListKey::Interfaces,
        ListRequest::Table(table) => ListKey::Table(table.clone()),
    }
}

/// The calls to the cloud that a reading made, by how much it shows.
fn calls_made(listing: &Listing) -> Option<u32> {
    let (reading, items) = match listing {
        Listing::Cluster { .. } => return None,
        Listing::Gateways(gateways) => (Reading::Gateways, gateways.len()),
        Listing::Eips(eips) => (Reading::Eips, eips.len()),
        Listing::RouteTables(tables) => (Reading::RouteTables, tables.len()),
        Listing::Routes(hops) => (Reading::Routes, hops.len()),
        Listing::Interfaces(interfaces) => (Reading::Interfaces, interfaces.len()),
        Listing::Table(entries) | Listing::Moved(entries) => (Reading::Entries, entries.len()),
    };
    Some(u32::try_from(items.div_ceil(reading.page_items()).max(1)).unwrap_or(u32::MAX))
}
