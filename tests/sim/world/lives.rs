//! How a process begins, with what its volume gives, and how it ends.

use natgw::controller::keeping::Policy;
use natgw::controller::step::{Controller, Head, Identity, Input};
use natgw::machine::event::Record;
use natgw::machine::state::State;

use crate::disk::Trip;
use crate::faults::Fault;
use crate::invariants::Happening;
use crate::mutants::Mutant;
use crate::plan::TIMING;
use crate::replica::{Clock, Kind, Process, Watch};
use crate::volume::{Opened, Volume};
use crate::world::World;

/// A journal whose records are all kept: only the room on its volume is looked at.
const KEEPING: Policy = Policy { retention_ms: u64::MAX / 2, records_min: u64::MAX };

/// A journal's identity, records and head, and why history is not continuous.
type Journal = ([u8; 16], Vec<Record>, Head, Option<String>);

/// Calls of earlier lives that are kept on their way, at most.
const LATE_MAX: usize = 32;

impl World {
    /// A process of a replica begins: it looks at the lock, opens its journal, replays it.
    pub fn start(&mut self, at: usize) {
        let now_ms = self.now.get();
        self.lives += 1;
        let life = self.lives;
        let Some((journal, records, head, rebased)) = self.read_journal(at, life) else { return };
        let Some(state) = self.replay(at, &records) else { return };
        self.replicas[at].fruitless += 1;
        let opened = Happening::Opened { replica: at, life, journal, records, rebased: rebased.clone() };
        self.judge(vec![opened]);
        self.replicas[at].rolled_back = false;
        let mut faults = self.outside.faults.borrow_mut();
        if faults.strikes(Fault::CrashInReplay) {
            self.replicas[at].starts_ms = now_ms + 1 + faults.draw(Fault::CrashInReplay, 5_000);
            return;
        }
        let skew = if faults.is_on(Fault::ClockSkewed) { faults.draw(Fault::ClockSkewed, 200_001) } else { 100_000 };
        faults.happened(Fault::ClockSkewed, u64::from(skew != 100_000));
        drop(faults);
        let clock = Clock { boot_ms: now_ms, rate: 900_000 + skew, wall_offset_ms: 0 };
        let identity = Identity {
            holder: format!("natgw-{at}-{life}"),
            journal,
            rebased,
            timing: TIMING,
            speed: 1,
            keeping: Some(KEEPING),
        };
        let mut watch = Watch::default();
        // What a watch that begins now shows first is what is there.
        drop(watch.begin_anew(&self.model.borrow(), self.history.len()));
        self.replicas[at].process = Some(Process {
            life,
            controller: Controller::new(identity, state, head),
            clock,
            flights: Vec::new(),
            watch,
            handed: None,
            written: None,
            settles_ms: None,
            paused_until: 0,
            answered: None,
        });
        let configuration = self.plan.configuration.clone();
        self.input(at, Input::Configured(Box::new(configuration)));
    }

    /// The journal of a replica with its records and head, and why history is not continuous, if it is not. A damaged one
    /// is set aside, and a new one begun.
    pub(super) fn read_journal(&mut self, at: usize, life: u64) -> Option<Journal> {
        let (lease, claims) = {
            let model = self.model.borrow();
            (model.read_lease(), model.poddnats().count())
        };
        let led = lease.term > 0 || claims > 0;
        let hash = blake3::hash(format!("{} journal {life}", self.plan.seed).as_bytes());
        let fresh: [u8; 16] = *hash.as_bytes().first_chunk().expect("sixteen of thirty-two bytes");
        let replica = &mut self.replicas[at];
        replica.volume.disk.lies.set(self.plan.mutant == Mutant::SyncWithoutEffect);
        let opened = match replica.volume.open(fresh, &lease.heads) {
            Ok(Opened::Damaged(reason)) => {
                replica.volume = Volume::new(replica.volume.is_sled());
                replica.volume.open(fresh, &[]).map(|opened| (opened, Some(reason)))
            }
            opened => opened.map(|opened| (opened, None)),
        };
        let journal = match opened {
            Ok((Opened::Continued(journal, mut records, head), reason)) => {
                if self.plan.mutant == Mutant::ShorterHistory {
                    records.truncate(records.len() - records.len().min(2));
                }
                (journal, records, head, reason)
            }
            Ok((Opened::Fresh(journal, head), reason)) => {
                let begun = led.then(|| format!("the journal is new, but the Lease is at term {}", lease.term));
                (journal, Vec::new(), head, reason.or(begun))
            }
            Ok((Opened::Damaged(_), _)) | Err(_) => {
                replica.starts_ms = self.now.get() + 1_000;
                return None;
            }
        };
        self.images[at] = replica.volume.image();
        Some(journal)
    }

    pub(super) fn replay(&mut self, at: usize, records: &[Record]) -> Option<State> {
        let mut state = State::default();
        for record in records {
            if let Err(error) = state.apply(record) {
                let mut checker = std::mem::take(&mut self.checker);
                checker.violated(self, "S8", format!("replica {at}: {error}"));
                self.checker = checker;
                return None;
            }
            drop(state.take_agenda_changes());
        }
        Some(state)
    }

    /// A process ends at once. What was on its way may still arrive; without power, what was not synced may be lost.
    pub fn crash(&mut self, at: usize, power: bool) {
        let Some(process) = self.replicas[at].process.take() else { return };
        self.count_crash(&process);
        let unsent = process.flights.into_iter().filter(|flight| !flight.sent && flight.kind != Kind::List);
        self.late.extend(unsent);
        self.late.truncate(LATE_MAX);
        let mut faults = self.outside.faults.borrow_mut();
        let replica = &mut self.replicas[at];
        if let Some((group, _)) = process.handed
            && self.plan.mutant != Mutant::ForgottenSync
        {
            // The journal's thread was somewhere in it.
            replica.volume.disk.trip_after(faults.draw(Fault::Crash, 8), Trip::Power);
            let _ = replica.volume.append(&group);
        }
        if power {
            let keeps_length = faults.strikes(Fault::ZeroedTail);
            let cut = replica.volume.power_cut(faults.dice(Fault::PowerCut), keeps_length);
            faults.happened(Fault::TornGroup, u64::from(cut.torn));
        } else {
            replica.volume.abandon();
        }
        let pause_ms = if replica.storm > 0 { 100 } else { 5_000 };
        replica.storm = replica.storm.saturating_sub(1);
        replica.starts_ms = self.now.get() + 1 + faults.draw(Fault::Crash, pause_ms);
    }

    pub(super) fn count_crash(&mut self, process: &Process) {
        let mut faults = self.outside.faults.borrow_mut();
        let controller = &process.controller;
        let any =
            |kind: Kind, sent: bool| process.flights.iter().any(|flight| flight.kind == kind && flight.sent == sent);
        let marks = [
            (Fault::CrashBeforeAppend, controller.has_unwritten()),
            (Fault::CrashBeforeWrite, process.handed.is_some()),
            (Fault::CrashAfterSync, process.written.is_some()),
            (Fault::CrashAwaitingReply, any(Kind::Cloud, true)),
            (Fault::CrashBeforeSend, any(Kind::Cloud, false)),
            (Fault::CrashBeforeJournaling, process.answered.is_some()),
            (
                Fault::CrashBeforeStatus,
                controller
                    .state()
                    .agenda()
                    .iter()
                    .any(|(intent, _)| matches!(intent, natgw::machine::intent::Intent::Publish { .. })),
            ),
            (Fault::CrashInLease, any(Kind::Lease, true)),
        ];
        for (fault, happened) in marks {
            faults.happened(fault, u64::from(happened));
        }
    }
}
