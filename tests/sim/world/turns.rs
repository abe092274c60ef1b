//! What a process does in one step: an input, a suspension point of a call, a group that becomes durable.

use std::task::Poll;

use natgw::controller::keeping::{Keep, Kept};
use natgw::controller::lease::{Answer, Call as LeaseCall};
use natgw::controller::step::{Head, Input, Output, Stop};
use natgw::executor;
use natgw::machine::demand::WaitReason;
use natgw::machine::event::{Event, Record};
use natgw::ports::cluster::Lease as _;
use natgw::ports::effect::Effect;

use crate::disk::Trip;
use crate::faults::Fault;
use crate::invariants::Happening;
use crate::mutants::Mutant;
use crate::replica::{Flight, Kind, Process};
use crate::volume::Broken;
use crate::wire::Wire;
use crate::world::World;

/// How long a journal is idle before it is settled, as the driver's thread has it.
const SETTLE_MS: u64 = 100;

/// Room that a volume should have.
const ROOM_BYTES: u64 = 64 << 20;

/// What is left on one that is short: too little for a snapshot, which takes room before it gives any.
const SHORT_BYTES: u64 = 8 << 20;

impl World {
    /// Hands something to a replica's step.
    pub fn input(&mut self, at: usize, input: Input) {
        let now_ms = self.now.get();
        let Some(process) = &mut self.replicas[at].process else { return };
        let controller = &mut process.controller;
        let (seq, touched) = (controller.state().seq(), controller.state().touched());
        let now = process.clock.now(now_ms);
        let spent = allocation_counter::measure(|| controller.handle(now, input));
        self.cost.records += controller.state().seq() - seq;
        self.cost.touched += controller.state().touched().saturating_sub(touched);
        self.cost.allocations += spent.count_total;
    }

    pub(super) fn awake(&self) -> Vec<usize> {
        let now = self.now.get();
        let awake = |at: &usize| self.replicas[*at].process.as_ref().is_some_and(|process| process.is_awake(now));
        (0..self.replicas.len()).filter(awake).collect()
    }

    /// Some call gets one suspension point further.
    pub(super) fn poll_some(&mut self) {
        let awake: Vec<usize> = self.awake();
        let busy: Vec<usize> = awake.into_iter().filter(|at| !self.process(*at).flights.is_empty()).collect();
        if busy.is_empty() {
            return self.pass_time();
        }
        let at = *self.dice.pick(&busy);
        let flights = self.process(at).flights.len();
        let flight = self.dice.index(flights);
        self.poll(at, flight);
    }

    /// That call of that replica gets one suspension point further.
    pub fn poll(&mut self, at: usize, flight: usize) {
        let flights = &mut self.process(at).flights;
        let Poll::Ready(input) = flights[flight].poll() else { return };
        let kind = flights.swap_remove(flight).kind;
        self.input(at, input);
        let process = self.process(at);
        if kind == Kind::Cloud {
            process.answered = Some(process.controller.state().seq());
        }
    }

    /// Some group becomes durable, or the step is told of one that is.
    pub(super) fn sync_some(&mut self) {
        let awake = self.awake();
        let busy: Vec<usize> = awake
            .into_iter()
            .filter(|at| self.process(*at).handed.is_some() || self.process(*at).written.is_some())
            .collect();
        if busy.is_empty() {
            return self.pass_time();
        }
        let at = *self.dice.pick(&busy);
        self.sync(at);
    }

    /// The journal's thread of a replica gets on.
    pub fn sync(&mut self, at: usize) {
        let now_ms = self.now.get();
        if let Some(head) = self.process(at).written.take() {
            self.replicas[at].acknowledged = head.seq;
            let process = self.process(at);
            if process.answered.is_some_and(|seq| seq <= head.seq) {
                process.answered = None;
            }
            return self.input(at, Input::Appended(head));
        }
        let Some((group, done_ms)) = self.process(at).handed.take() else { return };
        if done_ms > now_ms {
            self.process(at).handed = Some((group, done_ms));
            return;
        }
        let mut faults = self.outside.faults.borrow_mut();
        let disk = &self.replicas[at].volume.disk;
        for (fault, trip, operations) in [
            (Fault::CrashInAppend, Trip::Power, 8),
            (Fault::DiskFull, Trip::Full, 2),
            (Fault::WriteError, Trip::Write, 2),
            (Fault::SyncError, Trip::Sync, 1),
        ] {
            if faults.strikes(fault) {
                disk.trip_after(faults.draw(fault, operations), trip);
            }
        }
        drop(faults);
        match self.replicas[at].volume.append(&group) {
            Ok(head) => {
                self.replicas[at].volume.disk.mend();
                let process = self.process(at);
                process.written = Some(head);
                process.settles_ms = Some(now_ms + SETTLE_MS);
                // What was acknowledged is judged by what would survive.
                if self.replicas[at].volume.disk.is_synced() {
                    self.judge(vec![Happening::Durable { replica: at, records: group }]);
                }
            }
            Err(broken) => self.crash(at, broken == Broken::Power),
        }
    }

    pub(super) fn process(&mut self, at: usize) -> &mut Process {
        self.replicas[at].process.as_mut().expect("a replica that runs")
    }

    /// Takes what the controllers put out.
    pub(super) fn collect(&mut self) {
        for at in 0..self.replicas.len() {
            while let Some(output) =
                self.replicas[at].process.as_mut().and_then(|process| process.controller.poll_output())
            {
                self.trace.update(format!("{} {at} {output:?}", self.now.get()).as_bytes());
                self.carry_out(at, output);
            }
        }
    }

    pub(super) fn carry_out(&mut self, at: usize, output: Output) {
        let now_ms = self.now.get();
        let mutant = self.plan.mutant;
        let life = self.process(at).life;
        let wire = Wire { outside: self.outside.clone(), replica: at, life, mutant };
        match output {
            Output::Append(group) => self.hand_over(at, group),
            Output::Start(id, effect) => {
                let kind =
                    if matches!(effect, Effect::Create(_) | Effect::Delete(_)) { Kind::Cloud } else { Kind::Cluster };
                let process = self.process(at);
                let lease_until = process.controller.acts_until_ms().map(|until| process.clock.at(until + 1) - 1);
                let started = Happening::Started { replica: at, life, effect: effect.clone(), lease_until };
                let call = async move { Input::EffectEnded(id, executor::execute(&wire, &wire, &effect).await) };
                process.flights.push(Flight::new(kind, call));
                self.judge(vec![started]);
            }
            Output::List(id, request) => {
                let call = async move { Input::ListEnded(id, executor::list(&wire, &wire, &request).await) };
                self.process(at).flights.push(Flight::new(Kind::List, call));
            }
            Output::CallLease(call) => {
                let call = async move {
                    let answer: Answer = match call {
                        LeaseCall::Read => wire.read_lease().await.map_err(|error| error.class),
                        LeaseCall::Write(record) => wire.write_lease(&record).await.map_err(|error| error.class),
                    };
                    Input::LeaseAnswered(answer)
                };
                self.process(at).flights.push(Flight::new(Kind::Lease, call));
            }
            Output::Keep(keep) => {
                let kept = self.look_after(at, keep);
                self.input(at, Input::Kept(kept));
            }
            Output::Stop(stop) => {
                self.judge(vec![Happening::Stopped { replica: at, life, stop: stop.clone() }]);
                self.crash(at, false);
                // Whoever starts a process that ended by itself waits a little, and then longer.
                let pause_ms = if matches!(stop, Stop::LeaseLost) { 1_000 } else { 5_000 };
                self.replicas[at].starts_ms = now_ms + pause_ms;
            }
        }
    }

    /// How the journal of a replica stands. Nothing is kept of it here but the room on its volume.
    pub(super) fn look_after(&mut self, at: usize, keep: Keep) -> Kept {
        assert_eq!(keep, Keep::Look, "no snapshot is ever due here");
        let now_ms = self.now.get();
        let mut faults = self.outside.faults.borrow_mut();
        if faults.strikes(Fault::JournalShort) {
            self.replicas[at].short_until = now_ms + 1_000 + faults.draw(Fault::JournalShort, 600_000);
        }
        drop(faults);
        let short = !self.calm && now_ms < self.replicas[at].short_until;
        Kept { first: 1, room: Some((if short { SHORT_BYTES } else { 2 * ROOM_BYTES }, ROOM_BYTES)), ..Kept::default() }
    }

    pub(super) fn hand_over(&mut self, at: usize, group: Vec<Record>) {
        let now_ms = self.now.get();
        let mut faults = self.outside.faults.borrow_mut();
        let slow = if faults.strikes(Fault::SlowSync) { 1_000 + faults.draw(Fault::SlowSync, 29_000) } else { 0 };
        drop(faults);
        let seq = group.last().map_or(0, |record| record.seq);
        let full = |record: &&Record| match &record.event {
            Event::Waited(body) => body.reason == WaitReason::NoFreePorts.number(),
            _ => false,
        };
        let full = u64::try_from(group.iter().filter(full).count()).expect("few");
        self.outside.faults.borrow_mut().happened(Fault::PortsExhausted, full);
        if group.iter().any(|record| matches!(record.event, Event::TermStarted(_))) {
            self.replicas[at].fruitless = 0;
        }
        self.judge(vec![Happening::Handed { replica: at, records: group.clone() }]);
        self.process(at).handed = Some((group, now_ms + slow));
        if self.plan.mutant == Mutant::ForgottenSync {
            self.input(at, Input::Appended(Head { seq, hash: [0; 32] }));
        }
    }
}
