//! Readings: what is due, and what their answers say.

use crate::controller::barrier::ListKey;
use crate::controller::relist::{self, Began, Suspicion};
use crate::controller::step::{Controller, ListId, Now, Output};
use crate::machine::event::{Event, control, seen};
use crate::machine::identity::{EntryId, Generation, TableId};
use crate::machine::intent::Intent;
use crate::ports::cloud::{ADDRESSES_MAX, ListedEntry};
use crate::ports::effect::{ListError, ListRequest, Listing};

impl Controller {
    pub(super) fn read_what_is_due(&mut self, now: Now) {
        let machine_ms = self.machine(now);
        let survey = || ListRequest::Survey {
            vswitches: self.vswitches_met.iter().cloned().chain(self.state.vswitches_known()).collect(),
            gateways: self.state.gateways_configured(),
        };
        for request in self.barrier.due(&self.state, &mut self.lanes, machine_ms, survey) {
            self.list(now, request);
        }
        let locating = self.lists.values().any(|(request, _)| matches!(request, ListRequest::Interfaces(_)));
        if !locating {
            let addresses = self.addresses.take_due(machine_ms, ADDRESSES_MAX);
            if !addresses.is_empty() {
                self.list(now, ListRequest::Interfaces(addresses));
            }
        }
    }

    pub(super) fn addresses_due(&self) -> Option<u64> {
        let locating = self.lists.values().any(|(request, _)| matches!(request, ListRequest::Interfaces(_)));
        self.addresses.due_ms().filter(|_| !locating)
    }

    fn list(&mut self, now: Now, request: ListRequest) {
        let began = Began { seq: self.state.seq(), machine_ms: self.machine(now) };
        let id = ListId(self.next_id());
        self.lists.insert(id, (request.clone(), began));
        if request == ListRequest::Cluster {
            self.departed.listing_begins();
        }
        if let ListRequest::Table(table) = &request {
            self.writes_since.insert(table.clone(), self.flights.values().cloned().collect());
        }
        self.outbox.push_back(Output::List(id, request));
    }

    pub(super) fn list_ended(&mut self, now: Now, id: ListId, listing: Result<Listing, ListError>) {
        let Some((request, began)) = self.lists.remove(&id) else { return };
        let machine_ms = self.machine(now);
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
            (ListRequest::Survey { .. }, Ok(Listing::Survey { gateways, eips, routes })) => {
                for event in relist::survey(&self.state, began.machine_ms, &gateways, &eips, &routes) {
                    self.emit(now, event);
                }
                self.barrier.read(&self.state, ListKey::Survey, machine_ms);
            }
            (ListRequest::Interfaces(addresses), Ok(Listing::Interfaces(interfaces))) => {
                for event in relist::interfaces(&request, &interfaces) {
                    self.located(now, event);
                }
                for ip in addresses {
                    self.addresses.ask_again(*ip, machine_ms);
                }
            }
            (ListRequest::Table(table), Ok(Listing::Table(entries))) => {
                self.lanes.listed();
                self.table_listed(now, table, &entries, began);
                self.barrier.looked(table, machine_ms, began.seq, entries.len());
                self.barrier.read(&self.state, ListKey::Table(table.clone()), machine_ms);
            }
            (ListRequest::Table(table), Ok(Listing::Moved(entries))) if self.state.is_open(table) => {
                self.lanes.listed();
                self.writes_since.remove(table);
                for event in relist::glimpse(&self.state, table, &entries) {
                    self.emit(now, event);
                }
                self.barrier.looked(table, machine_ms, began.seq, entries.len());
                self.barrier.moved(&self.state, table, machine_ms);
            }
            (request, Ok(_)) => self.list_failed(now, request, None),
            (request, Err(error)) => {
                if let Some(flow) = error.flow {
                    let of_table = matches!(request, ListRequest::Table(_));
                    self.lanes.list_throttled(machine_ms, flow, of_table, error.after_ms);
                }
                self.list_failed(now, request, error.after_ms);
            }
        }
    }

    fn list_failed(&mut self, now: Now, request: &ListRequest, after_ms: Option<u64>) {
        let machine_ms = self.machine(now);
        match request {
            ListRequest::Cluster => {
                self.departed.listing_ends();
                self.barrier.failed(ListKey::Cluster, machine_ms, after_ms);
            }
            ListRequest::Survey { .. } => self.barrier.failed(ListKey::Survey, machine_ms, after_ms),
            ListRequest::Table(table) => {
                self.writes_since.remove(table);
                self.barrier.failed(ListKey::Table(table.clone()), machine_ms, after_ms);
            }
            ListRequest::Interfaces(addresses) => {
                for ip in addresses {
                    self.addresses.ask_again(*ip, machine_ms);
                }
            }
        }
    }

    /// An address was found, or again not. What is known already is not said again.
    fn located(&mut self, now: Now, event: Event) {
        match &event {
            Event::AddressSeen(seen) => {
                let vswitch = seen.vswitch.as_str().into();
                if self.state.route(&vswitch).is_none() && self.vswitches_met.insert(vswitch) {
                    self.barrier.survey_soon();
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
