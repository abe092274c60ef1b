//! An outside without faults: it carries out every intent at once.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use natgw::machine::check;
use natgw::machine::event::{Event, Record, control, decided, outcome, seen};
use natgw::machine::identity::{AllocationId, EntryId, Mark, TableId};
use natgw::machine::intent::Intent;
use natgw::machine::state::{Allocation, Item, State};

/// The machine with its time, and what happened since it was last asked.
pub struct Outside {
    pub state: State,
    pub now_ms: u64,
    pub happened: Vec<Event>,
    /// Kinds of intents that are not carried out for now.
    pub held: BTreeSet<String>,
    pub term: u64,
    entries: u32,
    /// What is there: pods by UID, gateways, routes, and the entries of all tables.
    pods: BTreeMap<String, seen::PodSeen>,
    gateways: BTreeMap<String, seen::GatewaySeen>,
    routes: BTreeMap<String, seen::RouteSeen>,
    there: BTreeMap<(String, String), seen::EntrySeen>,
    /// How many entries a table takes, where that is limited.
    pub quota: BTreeMap<TableId, usize>,
    /// When each table was listed last, and after which record: it says nothing new before something happens.
    looked: BTreeMap<TableId, (u64, u64)>,
    configuration: Vec<Event>,
    /// PodDNATs without our annotation, by name.
    others: BTreeMap<String, seen::ClaimSeen>,
    /// After each so many records the state is taken through a snapshot, which costs its size.
    pub restored_each: u64,
}

/// The class of a refusal for want of room.
const QUOTA: u8 = 2;

/// Intents carried out between two lines of a story: more means that they do not end.
const ROUNDS_MAX: u32 = 10_000;

impl Outside {
    pub fn new() -> Self {
        let mut outside = Self {
            state: State::default(),
            now_ms: 0,
            happened: Vec::new(),
            held: BTreeSet::new(),
            term: 1,
            entries: 0,
            pods: BTreeMap::new(),
            gateways: BTreeMap::new(),
            routes: BTreeMap::new(),
            there: BTreeMap::new(),
            quota: BTreeMap::new(),
            looked: BTreeMap::new(),
            configuration: Vec::new(),
            others: BTreeMap::new(),
            restored_each: 1,
        };
        outside.record(Event::TermStarted(control::TermStarted { term: 1, holder: "a".into(), predecessor: None }));
        outside
    }

    /// A fact, folded.
    pub fn record(&mut self, event: Event) {
        self.remember(&event);
        let (term, machine_ms) = (self.term, self.now_ms);
        let wall_ms = i64::try_from(machine_ms).expect("a story is short");
        let record = Record { seq: self.state.seq() + 1, term, machine_ms, wall_ms, event };
        self.state.apply(&record).unwrap_or_else(|error| panic!("{error}"));
        if record.seq.is_multiple_of(self.restored_each) {
            assert_eq!(check::restored(&self.state), None, "after {:?}", record.event);
        }
        self.happened.push(record.event);
    }

    fn remember(&mut self, event: &Event) {
        match event.clone() {
            Event::PodSeen(pod) => drop(self.pods.insert(pod.uid.clone(), pod)),
            Event::PodGone(gone) => drop(self.pods.remove(&gone.uid)),
            Event::GatewaySeen(gateway) => drop(self.gateways.insert(gateway.gateway.clone(), gateway)),
            Event::RouteSeen(route) => drop(self.routes.insert(route.vswitch.clone(), route)),
            Event::EntrySeen(entry) => drop(self.there.insert((entry.table.clone(), entry.entry.clone()), entry)),
            Event::ClaimSeen(claim) if claim.claim.is_none() => drop(self.others.insert(claim.name.clone(), claim)),
            Event::ClaimGone(gone) => drop(self.others.remove(&gone.name)),
            Event::EntryVanished(gone) => drop(self.there.remove(&(gone.table, gone.entry))),
            Event::PoolConfigured(pool) => {
                if matches!(self.configuration.last(), Some(Event::Configured(_))) {
                    self.configuration.clear();
                }
                self.configuration.push(Event::PoolConfigured(pool));
            }
            Event::Configured(settings) => self.configuration.push(Event::Configured(settings)),
            _ => {}
        }
    }

    /// A leader without history takes over: it reads pods, claims and tables, and goes on from there.
    pub fn lose_history(&mut self, claims: Vec<seen::ClaimSeen>) {
        let claims: Vec<Event> = claims.into_iter().map(Event::ClaimSeen).collect();
        self.state = State::default();
        self.looked.clear();
        self.term += 1;
        let (term, holder) = (self.term, "b".to_owned());
        self.record(Event::TermStarted(control::TermStarted { term, holder, predecessor: None }));
        self.record(Event::Rebased(control::Rebased { reason: "AnchorLost".into(), anew: true }));
        let pods: Vec<Event> = self.pods.values().cloned().map(Event::PodSeen).collect();
        let count = |items: usize| u32::try_from(items).expect("few");
        let read = Event::ClusterRead(control::ClusterRead { pods: count(pods.len()), claims: count(claims.len()) });
        let gateways: Vec<Event> = self.gateways.values().cloned().map(Event::GatewaySeen).collect();
        let routes = self.routes.values().cloned().map(Event::RouteSeen);
        let entries = self.there.values().cloned().map(Event::EntrySeen);
        let tables = self.gateways.values().filter_map(|gateway| gateway.table.clone());
        let opened = tables.map(|table| Event::TableOpened(control::TableOpened { table, entries: 0 }));
        let facts = gateways.into_iter().chain(routes).chain(entries).chain(opened);
        let all = self.configuration.clone().into_iter().chain(claims).chain(pods).chain([read]).chain(facts);
        for event in all.collect::<Vec<_>>() {
            self.record(event);
        }
    }

    /// Another leader goes on from the same journal: it reads everything again.
    pub fn next_leader(&mut self) {
        let tables: Vec<TableId> = self.state.tables_needed();
        self.looked.clear();
        self.term += 1;
        let (term, holder) = (self.term, "b".to_owned());
        self.record(Event::TermStarted(control::TermStarted { term, holder, predecessor: None }));
        for event in self.configuration.clone() {
            self.record(event);
        }
        self.record(Event::ClusterRead(control::ClusterRead { pods: 0, claims: 0 }));
        for table in tables {
            self.observe(&table);
            let table = table.as_str().to_owned();
            self.record(Event::TableOpened(control::TableOpened { table, entries: 0 }));
        }
    }

    /// It is known where an address is.
    pub fn locate(&mut self, ip: Ipv4Addr) {
        self.record(Event::AddressSeen(address(ip)));
    }

    /// A table is confirmed gone, with all that was in it.
    pub fn lose_table(&mut self, table: &str) {
        self.there.retain(|(other, _), _| other != table);
        self.record(Event::TableGone(seen::TableGone { table: table.to_owned() }));
    }

    /// The PodDNATs as they were written.
    pub fn claims(&self) -> Vec<seen::ClaimSeen> {
        let named = self.state.allocations().filter(|(_, known)| known.claim_uid().is_some());
        let ours: Vec<_> = named.map(|(id, known)| self.claim(*id, known)).collect();
        let others = self.others.values().filter(|other| !ours.iter().any(|claim| claim.name == other.name));
        others.cloned().chain(ours.clone()).collect()
    }

    fn claim(&self, id: AllocationId, known: &Allocation) -> seen::ClaimSeen {
        let place = known.place();
        let releasing = self.state.predecessors(id).map(|(id, earlier)| seen::Releasing {
            allocation: id.into(),
            pod: earlier.pod().as_str().into(),
            gateway: earlier.gateway().as_str().into(),
            table: earlier.table().as_str().into(),
            eip: earlier.eip(),
            ip: earlier.ip(),
            items: earlier.items().iter().map(item).collect(),
        });
        let claim = seen::Claim {
            allocation: id.into(),
            pod: known.pod().as_str().into(),
            fixed: known.is_fixed(),
            gateway: known.gateway().as_str().into(),
            table: known.table().as_str().into(),
            eip: Some(known.eip()),
            ip: Some(known.ip()),
            place: (place.eni().as_str().into(), place.vswitch().as_str().into(), place.zone().as_str().into()),
            items: known.items_staying().map(item).collect(),
            absent_since_wall_ms: known.absent_since_wall_ms(),
            releasing: releasing.collect(),
            entries: known.adopted_entries().iter().map(|id| id.map_or("", EntryId::as_str).to_owned()).collect(),
            kept: known.is_kept(),
        };
        let owner = known.owner().cloned();
        seen::ClaimSeen {
            namespace: known.key().namespace().into(),
            name: known.key().name().into(),
            uid: known.claim_uid().unwrap_or_default().into(),
            finalizer: true,
            claim: Some(Box::new(claim)),
            published: known.is_published(),
            owner: owner.map(|owner| (owner.api_version, owner.kind, owner.name, owner.uid)),
            manager: 1,
            ..seen::ClaimSeen::default()
        }
    }

    /// Decides and carries out until nothing is left to do.
    pub fn settle(&mut self) {
        for _ in 0..ROUNDS_MAX {
            if let Some(event) = self.state.decide(self.now_ms) {
                self.record(event);
                continue;
            }
            drop(self.state.take_agenda_changes());
            let first =
                self.state.agenda().iter().map(|(intent, _)| intent).find(|intent| !self.holds(intent)).cloned();
            let Some(intent) = first else {
                assert_eq!(check::all(&self.state), [], "every invariant holds at rest");
                return;
            };
            self.carry_out(&intent);
        }
        panic!("it does not come to rest: {:?}", self.state.agenda().iter().next());
    }

    fn holds(&self, intent: &Intent) -> bool {
        let in_vain = match intent {
            Intent::Observe { table } => self.looked.get(table) == Some(&(self.now_ms, self.state.seq())),
            _ => false,
        };
        in_vain || self.held.contains(intent_words(intent).split(' ').next().unwrap_or_default())
    }

    fn carry_out(&mut self, intent: &Intent) {
        match intent {
            Intent::Locate { ip, .. } => self.record(Event::AddressSeen(address(*ip))),
            Intent::WriteClaim { allocation, revision } => {
                let known = self.state.allocation(*allocation).and_then(Allocation::claim_uid).map(str::to_owned);
                let uid = known.unwrap_or_else(|| format!("claim-{allocation}"));
                let (allocation, revision) = ((*allocation).into(), *revision);
                self.record(Event::ClaimWritten(outcome::ClaimWritten { allocation, revision, uid }));
            }
            Intent::Bind { table, allocation, generation } => {
                let (id, made) = ((*allocation).into(), (*generation).into());
                let taken = self.there.keys().filter(|(other, _)| *other == *table.as_str()).count();
                if self.quota.get(table).is_some_and(|quota| taken >= *quota) {
                    let (class, code) = (QUOTA, "QuotaExceeded.ForwardEntry".to_owned());
                    let refused =
                        outcome::EntryRefused { allocation: id, generation: made, class, code, message: String::new() };
                    return self.record(Event::EntryRefused(refused));
                }
                self.entries += 1;
                let entry = format!("fwd-{}", self.entries);
                self.record(Event::EntryCreated(outcome::EntryCreated {
                    allocation: id,
                    generation: made,
                    entry: entry.clone(),
                }));
                let known = self.state.allocation(*allocation).expect("it is wanted");
                let item = known.items().iter().find(|item| item.generation() == *generation).expect("it is wanted");
                let tuple = known.tuple(item);
                let cluster = self.state.settings().expect("it is configured").cluster();
                let name = Mark::new(cluster, known.pod(), *allocation, *generation).to_string();
                self.record(Event::EntrySeen(seen::EntrySeen {
                    table: table.as_str().into(),
                    entry,
                    name,
                    external_ip: tuple.external_ip,
                    external_ports: (tuple.external_port, tuple.external_port),
                    internal_ip: tuple.internal_ip,
                    internal_ports: (tuple.internal_port, tuple.internal_port),
                    protocol: tuple.protocol.number(),
                    status: 1,
                }));
            }
            Intent::Forgo { allocation, generation } => {
                let (allocation, generation) = ((*allocation).into(), (*generation).into());
                self.record(Event::EntryNeverSent(outcome::EntryNeverSent { allocation, generation }));
            }
            Intent::Unbind { table, entry } => self.delete(table, entry),
            Intent::Observe { table } => self.observe(table),
            Intent::Publish { allocation, revision } => {
                let (allocation, revision) = ((*allocation).into(), *revision);
                self.record(Event::StatusWritten(outcome::StatusWritten { allocation, revision }));
            }
            Intent::Withdraw { allocation } => {
                self.record(Event::StatusWithdrawn(outcome::StatusWithdrawn { allocation: (*allocation).into() }));
            }
            Intent::ReleaseClaim { allocation } => {
                self.record(Event::ClaimReleased(outcome::ClaimReleased { allocation: (*allocation).into() }));
            }
            Intent::DropClaim { key, uid } => {
                let (namespace, name) = (key.namespace().into(), key.name().into());
                self.record(Event::ClaimGone(seen::ClaimGone { namespace, name, uid: uid.as_ref().into() }));
            }
            Intent::MarkPod { pod, note } => {
                let note = (note.phase.number(), note.reason, note.allocation.into(), note.content);
                self.record(Event::PodMarked(outcome::PodMarked { pod: pod.as_str().into(), note }));
            }
        }
    }

    /// A complete listing, begun and ended now.
    fn observe(&mut self, table: &TableId) {
        let (began_seq, began_ms, name) = (self.state.seq(), self.now_ms, table.as_str().to_owned());
        let known: Vec<EntryId> = self.state.listed(table).map(|(id, _)| id.clone()).collect();
        let there = |id: &EntryId| self.there.contains_key(&(name.clone(), id.as_str().to_owned()));
        let missing: Vec<EntryId> = known.into_iter().filter(|id| !there(id)).collect();
        let absent = self.state.absence_matters(table, &missing, began_seq, began_ms);
        let absent = absent.into_iter().filter(|(_, id)| id.as_ref().is_none_or(|id| missing.contains(id)));
        let generations: Vec<(u64, u64)> = absent.map(|(generation, _)| generation.into()).collect();
        let strays: Vec<EntryId> = missing.into_iter().filter(|id| self.state.is_stray(table, id)).collect();
        for id in strays {
            let (table, entry) = (name.clone(), id.as_str().to_owned());
            self.record(Event::EntryVanished(seen::EntryVanished { table, entry }));
        }
        if !generations.is_empty() {
            self.record(Event::EntriesMissed(seen::EntriesMissed { table: name.clone(), began_ms, generations }));
        }
        let entries = 0;
        self.record(Event::TableListed(seen::TableListed { table: name, began_seq, began_ms, entries }));
        self.looked.insert(table.clone(), (self.now_ms, self.state.seq()));
    }

    /// A complete listing that does not show an entry which is there.
    pub fn pass_over(&mut self, table: &str, entry: &str) {
        let (id, began_ms) = (EntryId::from(entry), self.now_ms);
        let absent = self.state.absence_matters(&table.into(), std::slice::from_ref(&id), self.state.seq(), began_ms);
        let absent = absent.into_iter().filter(|(_, of)| of.as_ref() == Some(&id));
        let generations: Vec<(u64, u64)> = absent.map(|(generation, _)| generation.into()).collect();
        assert!(!generations.is_empty(), "that {entry} is missing says nothing");
        self.record(Event::EntriesMissed(seen::EntriesMissed { table: table.to_owned(), began_ms, generations }));
    }

    /// Deleted, and the next listing does not show it.
    fn delete(&mut self, table: &TableId, entry: &EntryId) {
        let (table_name, entry_name): (String, String) = (table.as_str().into(), entry.as_str().into());
        self.there.remove(&(table_name.clone(), entry_name.clone()));
        self.record(Event::EntryDeleted(outcome::EntryDeleted { table: table_name, entry: entry_name }));
    }
}

fn item(item: &Item) -> decided::Item {
    decided::Item {
        internal: item.want().internal,
        external: item.external(),
        protocol: item.want().protocol.number(),
        generation: item.generation().into(),
        port_break: item.port_break(),
    }
}

/// The second octet tells the zone: 172.16 is j, 172.17 is k.
fn address(ip: Ipv4Addr) -> seen::AddressSeen {
    let zone = if ip.octets()[1] == 17 { "k" } else { "j" };
    let (eni, vswitch) = (format!("eni-{zone}"), format!("vsw-{zone}"));
    seen::AddressSeen { ip, eni, vswitch, zone: format!("zone-{zone}") }
}

/// An intent as a story tells it: its kind first.
pub fn intent_words(intent: &Intent) -> String {
    match intent {
        Intent::Locate { ip, .. } => format!("Locate {ip}"),
        Intent::WriteClaim { allocation, .. } => format!("WriteClaim {allocation}"),
        Intent::Bind { allocation, generation, .. } => format!("Bind {allocation} {generation}"),
        Intent::Forgo { allocation, generation } => format!("Forgo {allocation} {generation}"),
        Intent::Unbind { table, entry } => format!("Unbind {table} {entry}"),
        Intent::Observe { table } => format!("Observe {table}"),
        Intent::Publish { allocation, .. } => format!("Publish {allocation}"),
        Intent::Withdraw { allocation } => format!("Withdraw {allocation}"),
        Intent::ReleaseClaim { allocation } => format!("ReleaseClaim {allocation}"),
        Intent::DropClaim { key, .. } => format!("DropClaim {}", key.name()),
        Intent::MarkPod { pod, note } => format!("MarkPod {pod} {}", note.words().0),
    }
}
