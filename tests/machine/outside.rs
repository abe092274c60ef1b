//! An outside without faults: it carries out every intent at once.

use std::net::Ipv4Addr;

use natgw::machine::check;
use natgw::machine::event::{Event, Record, control, outcome, seen};
use natgw::machine::identity::{EntryId, Mark, TableId};
use natgw::machine::intent::Intent;
use natgw::machine::state::State;

/// The machine with its time, and what happened since it was last asked.
pub struct Outside {
    pub state: State,
    pub now_ms: u64,
    pub happened: Vec<Event>,
    entries: u32,
}

/// Intents carried out between two lines of a story: more means that they do not end.
const ROUNDS_MAX: u32 = 10_000;

impl Outside {
    pub fn new() -> Self {
        let mut outside = Self { state: State::default(), now_ms: 0, happened: Vec::new(), entries: 0 };
        outside.record(Event::TermStarted(control::TermStarted { term: 1, holder: "a".into(), predecessor: None }));
        outside
    }

    /// A fact, folded.
    pub fn record(&mut self, event: Event) {
        let term = 1;
        let record = Record { seq: self.state.seq() + 1, term, machine_ms: self.now_ms, wall_ms: 0, event };
        self.state.apply(&record).unwrap_or_else(|error| panic!("{error}"));
        self.happened.push(record.event);
    }

    /// Decides and carries out until nothing is left to do.
    pub fn settle(&mut self) {
        for _ in 0..ROUNDS_MAX {
            if let Some(event) = self.state.decide(self.now_ms) {
                self.record(event);
                continue;
            }
            drop(self.state.take_agenda_changes());
            let first = self.state.agenda().iter().map(|(intent, _)| intent.clone()).next();
            let Some(intent) = first else {
                assert_eq!(check::all(&self.state), [], "every invariant holds at rest");
                return;
            };
            self.carry_out(&intent);
        }
        panic!("it does not come to rest: {:?}", self.state.agenda().iter().next());
    }

    fn carry_out(&mut self, intent: &Intent) {
        match intent {
            Intent::Locate { ip, .. } => self.record(Event::AddressSeen(address(*ip))),
            Intent::WriteClaim { allocation, revision } => {
                let (allocation, revision, uid) = ((*allocation).into(), *revision, format!("claim-{allocation}"));
                self.record(Event::ClaimWritten(outcome::ClaimWritten { allocation, revision, uid }));
            }
            Intent::Bind { table, allocation, generation } => {
                self.entries += 1;
                let entry = format!("fwd-{}", self.entries);
                let (id, made) = ((*allocation).into(), (*generation).into());
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
            Intent::Observe { table } => {
                let (began_seq, began_ms) = (self.state.seq(), self.now_ms);
                self.record(Event::TableListed(seen::TableListed {
                    table: table.as_str().into(),
                    began_seq,
                    began_ms,
                    entries: 0,
                }));
            }
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
                let (namespace, name) = (key.namespace.as_ref().into(), key.name.as_ref().into());
                self.record(Event::ClaimGone(seen::ClaimGone { namespace, name, uid: uid.as_ref().into() }));
            }
            Intent::MarkPod { pod, note } => {
                let note = (note.phase.number(), note.reason, note.allocation.into(), note.content);
                self.record(Event::PodMarked(outcome::PodMarked { pod: pod.as_str().into(), note }));
            }
        }
    }

    /// Deleted, and at once absent from a complete listing.
    fn delete(&mut self, table: &TableId, entry: &EntryId) {
        let ours = self.state.owner_of(table, entry).is_some();
        let (table_name, entry_name): (String, String) = (table.as_str().into(), entry.as_str().into());
        self.record(Event::EntryDeleted(outcome::EntryDeleted {
            table: table_name.clone(),
            entry: entry_name.clone(),
        }));
        if !ours {
            return self.record(Event::EntryVanished(seen::EntryVanished { table: table_name, entry: entry_name }));
        }
        let missing = [entry.clone()];
        let absent = self.state.absence_matters(table, &missing, self.state.seq(), self.now_ms);
        let generations =
            absent.into_iter().filter(|(_, id)| id.as_ref() == Some(entry)).map(|(generation, _)| generation.into());
        let (generations, began_ms) = (generations.collect(), self.now_ms);
        self.record(Event::EntriesMissed(seen::EntriesMissed { table: table_name, began_ms, generations }));
    }
}

/// The second octet tells the zone: 172.16 is j, 172.17 is k.
fn address(ip: Ipv4Addr) -> seen::AddressSeen {
    let zone = if ip.octets()[1] == 17 { "k" } else { "j" };
    let (eni, vswitch) = (format!("eni-{zone}"), format!("vsw-{zone}"));
    seen::AddressSeen { ip, eni, vswitch, zone: format!("zone-{zone}") }
}
