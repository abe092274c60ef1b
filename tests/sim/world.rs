//! One world from one plan: production machine, step and executor between the pure models of cloud and cluster, as often
//! as there are replicas, each on a volume of its own. No runtime, no clock, no I/O.
//!
//! One step is one thing that happens: a call gets one suspension point further, a group becomes durable, a watch shows
//! something, time passes, a user wants something, or something goes wrong.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::Poll;

use natgw::controller::keeping::{Keep, Kept, Policy};
use natgw::controller::lease::{Answer, Call as LeaseCall};
use natgw::controller::step::{Controller, Head, Identity, Input, Output, Stop};
use natgw::executor;
use natgw::machine::demand::WaitReason;
use natgw::machine::event::{Event, Record};
use natgw::machine::identity::PodKey;
use natgw::machine::state::State;
use natgw::ports::cluster::Lease as _;
use natgw::ports::effect::Effect;
use natgw::sandbox::cluster::{Change, Model, Settings, SimulatedCluster};
use natgw::sandbox::vpc::{FaultKind, Faults as CloudFaults, LedgerLine, SimulatedCloud, Vpc, World as CloudWorld};

use crate::dice::Dice;
use crate::disk::{Image, Trip};
use crate::faults::{Fault, Faults};
use crate::invariants::{Checker, Happening};
use crate::mutants::Mutant;
use crate::plan::{Plan, TIMING, configuration};
use crate::replica::{Clock, Flight, Kind, Process, Replica, Watch};
use crate::volume::{Broken, Opened, Volume};
use crate::wire::{Call, Outside, Wire};
use crate::workload::{Wish, Wishes};

/// A journal whose records are all kept: only the room on its volume is looked at.
const KEEPING: Policy = Policy { retention_ms: u64::MAX / 2, records_min: u64::MAX };

/// Room that a volume should have.
const ROOM_BYTES: u64 = 64 << 20;

/// What is left on one that is short: too little for a snapshot, which takes room before it gives any.
const SHORT_BYTES: u64 = 8 << 20;

/// The world.
pub struct World {
    pub plan: Plan,
    pub dice: Dice,
    pub now: Rc<Cell<u64>>,
    pub vpc: Rc<RefCell<Vpc>>,
    pub model: Rc<RefCell<Model>>,
    pub outside: Rc<Outside>,
    pub replicas: Vec<Replica>,
    pub checker: Checker,
    pub wishes: Wishes,
    /// What was wished, and when.
    pub wished: Vec<(u64, Wish)>,
    /// Writes to pods and PodDNATs, in order.
    pub history: Vec<Change>,
    pub ledger: Vec<LedgerLine>,
    pub calls: Vec<Call>,
    pub trace: blake3::Hasher,
    pub steps: u64,
    pub lives: u64,
    /// Calls of earlier lives that are still on their way.
    pub late: Vec<Flight>,
    /// Time does not pass beyond this moment by itself.
    pub not_beyond: u64,
    /// What handling inputs cost since this was last reset.
    pub cost: Cost,
    /// Nothing goes wrong any more.
    pub calm: bool,
    /// Since when.
    pub calm_ms: u64,
    /// What happened, in words, and every record that was folded: kept only where somebody wants to read it.
    pub story: Vec<String>,
    pub records: Vec<(usize, Record)>,
    pub(crate) seen_version: u64,
    /// An earlier image of each volume.
    pub(crate) images: Vec<Image>,
    pub(crate) backup: Option<Box<Model>>,
    /// PodDNATs that another controller made at run time, and when it takes each away.
    pub(crate) rivals: Vec<(PodKey, u64)>,
}

/// Records made, look-ups plus entries iterated in the state, and heap allocations.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    pub records: u64,
    pub touched: u64,
    pub allocations: u64,
}

/// A journal's identity, records and head, and why history is not continuous.
type Journal = ([u8; 16], Vec<Record>, Head, Option<String>);

/// How long a journal is idle before it is settled, as the driver's thread has it.
const SETTLE_MS: u64 = 100;

/// Calls of earlier lives that are kept on their way, at most.
const LATE_MAX: usize = 32;

impl World {
    pub fn new(plan: Plan) -> Self {
        let faults = match plan.only {
            Some(fault) => Faults::only(plan.seed, fault),
            None => Faults::of(plan.seed, &plan.without),
        };
        let now = Rc::new(Cell::new(0));
        let vpc = Vpc::new(CloudWorld::default(), plan.behaviour.clone(), cloud_faults(&faults), plan.seed);
        let (vpc, model) = (Rc::new(RefCell::new(vpc)), Rc::new(RefCell::new(Model::new(Settings::new("c1")))));
        let outside = Rc::new(Outside {
            now: now.clone(),
            model: model.clone(),
            cluster: SimulatedCluster::new(model.clone(), now.clone()),
            cloud: SimulatedCloud::new(vpc.clone(), now.clone()).paging_by(plan.page),
            faults: RefCell::new(faults),
            calls: RefCell::default(),
            outage_until: Cell::new(0),
            cut_until: RefCell::new(vec![0; plan.replicas]),
            forbidden: Cell::new(("", 0)),
            stale: RefCell::default(),
        });
        let mut dice = Dice::new(plan.seed, "volumes");
        let replica = |_| Replica {
            volume: Volume::new({
                let sled = dice.one_in(2);
                plan.sled.unwrap_or(sled)
            }),
            rolled_back: false,
            process: None,
            starts_ms: 0,
            dead: false,
            storm: 0,
            short_until: 0,
            acknowledged: 0,
            fruitless: 0,
        };
        let mut world = Self {
            dice: Dice::new(plan.seed, "world"),
            now,
            vpc,
            model,
            outside,
            replicas: (0..plan.replicas).map(replica).collect(),
            checker: Checker::new(),
            wishes: Wishes::new(plan.pods),
            wished: Vec::new(),
            history: Vec::new(),
            ledger: Vec::new(),
            calls: Vec::new(),
            trace: blake3::Hasher::new(),
            steps: 0,
            lives: 0,
            late: Vec::new(),
            not_beyond: u64::MAX,
            cost: Cost::default(),
            calm: plan.steps == 0,
            calm_ms: 0,
            story: Vec::new(),
            records: Vec::new(),
            seen_version: 0,
            images: vec![Image::default(); plan.replicas],
            backup: None,
            rivals: Vec::new(),
            plan,
        };
        world.leave_originals();
        for at in 0..world.replicas.len() {
            world.start(at);
        }
        world
    }

    /// A world in which nothing goes wrong and one Deployment has that many pods, with room for all of them.
    pub fn roomy(pods: u32) -> Self {
        let mut world = Self::new(Plan { configuration: configuration(65_535), ..Plan::calm() });
        world.checker.sleep();
        world.wish(Wish::Scale { replicas: pods });
        world
    }

    /// One thing happens.
    pub fn step(&mut self) {
        self.steps += 1;
        if self.calm {
            match self.dice.draw(70) {
                0..40 => self.poll_some(),
                40..52 => self.sync_some(),
                52..60 => self.watch_some(),
                _ => self.pass_time(),
            }
        } else {
            self.disturb();
            self.adopt_from_now();
            // What a fault made a controller put out leaves before time passes.
            self.collect();
            match self.dice.draw(100) {
                0..40 => self.poll_some(),
                40..55 => self.sync_some(),
                55..65 => self.watch_some(),
                65..88 => self.pass_time(),
                88..96 if self.steps <= self.plan.wishes_until => {
                    let wish = self.wishes.draw(&mut self.dice, self.plan.many);
                    self.wish(wish);
                }
                96..98 if !self.late.is_empty() => self.land_some(),
                _ => self.pass_time(),
            }
        }
        self.collect();
        self.judge(Vec::new());
        if self.plan.mutant == Mutant::Canary && self.plan.seed % 100 == 99 && self.steps == 500 {
            let mut checker = std::mem::take(&mut self.checker);
            checker.violated(self, "Canary", "it sings".to_owned());
            self.checker = checker;
        }
    }

    /// Somebody wants something.
    pub fn wish(&mut self, wish: Wish) {
        self.model.borrow_mut().advance(self.now.get());
        self.wishes.make(&mut self.model.borrow_mut(), &wish);
        self.wished.push((self.now.get(), wish));
    }

    /// The replica that leads and is awake, if there is just one.
    pub fn leader(&self) -> Option<usize> {
        let leads = |replica: &Replica| replica.process.as_ref().is_some_and(|process| process.controller.leads());
        let mut leaders = (0..self.replicas.len()).filter(|at| leads(&self.replicas[*at]));
        leaders.next().filter(|_| leaders.next().is_none())
    }

    /// The leader's state.
    pub fn state(&self) -> Option<&State> {
        let leader = self.leader()?;
        self.replicas[leader].process.as_ref().map(|process| process.controller.state())
    }

    /// Everything is as it should be and nothing is on its way, but calls to the lock.
    pub fn is_quiet(&self) -> bool {
        let idle = |process: &Process| {
            process.flights.iter().all(|flight| flight.kind == Kind::Lease)
                && process.handed.is_none()
                && process.written.is_none()
                && process.watch.pods_at == self.history.len()
                && process.watch.claims_at == self.history.len()
        };
        let settled = |at: usize| {
            let process = self.replicas[at].process.as_ref();
            process.is_some_and(|process| process.controller.is_settled() && idle(process))
        };
        // What was written a moment ago has been seen by nobody yet.
        self.seen_version == self.model.borrow().version()
            && self.wishes.is_asked()
            && self.model.borrow().next_due().is_none()
            && self.vpc.borrow().next_due().is_none()
            && self.leader().is_some_and(settled)
    }

    /// What keeps the world from being quiet, for people.
    pub fn unrest(&self) -> String {
        let replicas: Vec<String> = self.replicas.iter().map(unrest_of).collect();
        format!(
            "clock {}, asked {}, written {}, cluster due {:?}, cloud due {:?}, replicas {replicas:#?}",
            self.now.get(),
            self.wishes.is_asked(),
            self.history.len(),
            self.model.borrow().next_due(),
            self.vpc.borrow().next_due()
        )
    }

    /// From now on nothing goes wrong, nothing is late, and nobody wants anything else.
    pub fn become_calm(&mut self) {
        (self.calm, self.calm_ms) = (true, self.now.get());
        self.outside.faults.borrow_mut().calm();
        self.vpc.borrow_mut().calm(self.now.get());
        self.outside.outage_until.set(0);
        self.outside.forbidden.set(("", 0));
        self.outside.cut_until.borrow_mut().fill(0);
        let now = self.now.get();
        for replica in &mut self.replicas {
            (replica.storm, replica.fruitless) = (0, 0);
            replica.starts_ms = replica.starts_ms.min(now);
            if let Some(process) = &mut replica.process {
                process.paused_until = process.paused_until.min(now);
                (process.watch.silent_until, process.watch.behind) = (0, (0, 0));
                if let Some((_, done_ms)) = &mut process.handed {
                    *done_ms = (*done_ms).min(now);
                }
            }
        }
        self.mend_outside();
        self.end_originals();
    }

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
    fn read_journal(&mut self, at: usize, life: u64) -> Option<Journal> {
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

    fn replay(&mut self, at: usize, records: &[Record]) -> Option<State> {
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

    fn awake(&self) -> Vec<usize> {
        let now = self.now.get();
        let awake = |at: &usize| self.replicas[*at].process.as_ref().is_some_and(|process| process.is_awake(now));
        (0..self.replicas.len()).filter(awake).collect()
    }

    /// Some call gets one suspension point further.
    fn poll_some(&mut self) {
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
    fn sync_some(&mut self) {
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

    fn process(&mut self, at: usize) -> &mut Process {
        self.replicas[at].process.as_mut().expect("a replica that runs")
    }

    /// Takes what the controllers put out.
    fn collect(&mut self) {
        for at in 0..self.replicas.len() {
            while let Some(output) =
                self.replicas[at].process.as_mut().and_then(|process| process.controller.poll_output())
            {
                self.trace.update(format!("{} {at} {output:?}", self.now.get()).as_bytes());
                self.carry_out(at, output);
            }
        }
    }

    fn carry_out(&mut self, at: usize, output: Output) {
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
    fn look_after(&mut self, at: usize, keep: Keep) -> Kept {
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

    fn hand_over(&mut self, at: usize, group: Vec<Record>) {
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

    /// Lets the checker look at what happened.
    pub fn judge(&mut self, happened: Vec<Happening>) {
        let lines = self.vpc.borrow_mut().take_ledger();
        let calls = std::mem::take(&mut *self.outside.calls.borrow_mut());
        let before = self.history.len();
        self.remember_changes();
        if self.plan.told {
            self.tell(&happened, &lines, &calls, before);
        }
        let mut checker = std::mem::take(&mut self.checker);
        checker.look(self, &happened, &lines, &calls);
        self.checker = checker;
        self.ledger.extend(lines);
        self.calls.extend(calls);
    }

    /// Notes what happened, in words.
    fn tell(&mut self, happened: &[Happening], lines: &[LedgerLine], calls: &[Call], before: usize) {
        let at = format!("{:>6} {:>8}", self.steps, self.now.get());
        for change in &self.history[before..] {
            self.story.push(format!("{at} cluster: {change:?}"));
        }
        for happening in happened {
            match happening {
                Happening::Opened { replica, life, records, rebased, .. } => {
                    let count = records.len();
                    self.story.push(format!(
                        "{at} replica {replica}: life {life} opens {count} records, rebased {rebased:?}"
                    ));
                }
                Happening::Handed { replica, records } => {
                    self.records.extend(records.iter().map(|record| (*replica, record.clone())));
                    let told = records
                        .iter()
                        .map(|record| format!("{at} replica {replica}: record {} {:?}", record.seq, record.event));
                    self.story.extend(told);
                }
                Happening::Durable { replica, records } => {
                    let last = records.last().map_or(0, |record| record.seq);
                    self.story.push(format!("{at} replica {replica}: durable through {last}"));
                }
                Happening::Started { replica, effect, .. } => {
                    self.story.push(format!("{at} replica {replica}: starts {effect:?}"));
                }
                Happening::Stopped { replica, stop, .. } => self.story.push(format!("{at} replica {replica}: {stop}")),
            }
        }
        let told =
            calls.iter().map(|call| format!("{at} replica {} life {}: calls {:?}", call.replica, call.life, call.what));
        self.story.extend(told);
        self.story.extend(lines.iter().map(|line| format!("{at} cloud: {line:?}")));
    }

    /// Takes over what was written to pods and PodDNATs.
    fn remember_changes(&mut self) {
        let model = self.model.borrow();
        if let Ok(changes) = model.changes_since(self.seen_version) {
            self.history.extend(changes.changes);
            self.seen_version = changes.through;
        }
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

    fn count_crash(&mut self, process: &Process) {
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

    /// Time passes, until the next thing that is due at the latest.
    pub fn pass_time(&mut self) {
        let now = self.now.get();
        let due = [self.model.borrow().next_due(), self.vpc.borrow().next_due()];
        let processes = self.replicas.iter().filter_map(|replica| replica.process.as_ref());
        let woken = processes.filter_map(|process| process.due_ms());
        let starts = self.replicas.iter().filter(|replica| replica.process.is_none() && !replica.dead);
        let starts: Vec<u64> = starts.map(|replica| replica.starts_ms).collect();
        let next = due.into_iter().flatten().chain(woken).chain(starts).min().unwrap_or(now + 1_000).min(now + 60_000);
        let busy = self.replicas.iter().filter_map(|replica| replica.process.as_ref()).any(|process| {
            process.is_awake(now)
                && (!process.flights.is_empty() || process.handed.is_some() || process.written.is_some())
        });
        // With calls on their way time goes slowly, or every lease would be lost.
        let then = if busy { now + 1 + self.dice.draw(40) } else { next.max(now + 1) };
        self.pass_until(then.min(self.not_beyond.max(now)));
    }

    /// It is that time: what is due happens, who is to be woken is woken.
    pub fn pass_until(&mut self, then: u64) {
        self.now.set(then);
        self.vpc.borrow_mut().advance(then);
        self.model.borrow_mut().advance(then);
        self.wishes.insist(&mut self.model.borrow_mut());
        for at in 0..self.replicas.len() {
            let replica = &self.replicas[at];
            match &replica.process {
                Some(process) => {
                    if process.is_awake(then) && process.due_ms().is_some_and(|due| due <= then) {
                        self.input(at, Input::Woke);
                    }
                    self.settle(at);
                }
                None if !replica.dead && replica.starts_ms <= then => self.start(at),
                None => {}
            }
        }
    }

    /// A journal that has been idle for a while is settled.
    fn settle(&mut self, at: usize) {
        let now = self.now.get();
        let process = self.process(at);
        let idle = process.handed.is_none() && process.settles_ms.is_some_and(|due| due <= now);
        if idle && process.is_awake(now) {
            process.settles_ms = None;
            if let Err(broken) = self.replicas[at].volume.settle() {
                self.crash(at, broken == Broken::Power);
            }
        }
    }

    /// Some watch shows something.
    fn watch_some(&mut self) {
        let awake = self.awake();
        if awake.is_empty() {
            return self.pass_time();
        }
        let at = *self.dice.pick(&awake);
        self.watch(at);
    }

    /// A replica's watch shows what there is to show.
    pub fn watch(&mut self, at: usize) {
        let now = self.now.get();
        self.remember_changes();
        let end = self.history.len();
        let cut = self.outside.cut_until.borrow()[at] > now || self.outside.outage_until.get() > now;
        let watch = &self.process(at).watch;
        if cut || watch.silent_until > now {
            return;
        }
        let (behind, until) = watch.behind;
        let end = if until > now { end.saturating_sub(behind) } else { end };
        for seen in self.shown(at, end) {
            self.input(at, Input::Seen(seen));
        }
    }

    /// Every call of earlier lives arrives.
    pub fn land_all(&mut self) {
        while !self.late.is_empty() {
            self.land_some();
        }
        self.judge(Vec::new());
    }

    /// A call of an earlier life arrives.
    fn land_some(&mut self) {
        let at = self.dice.index(self.late.len());
        let mut flight = self.late.swap_remove(at);
        self.outside.faults.borrow_mut().happened(Fault::LateCall, 1);
        // What it would do with the answer died with its process.
        let _ = flight.poll();
    }
}

fn unrest_of(replica: &Replica) -> String {
    let Some(process) = &replica.process else {
        return format!("down until {}, dead {}", replica.starts_ms, replica.dead);
    };
    let controller = &process.controller;
    let agenda: Vec<_> = controller.state().agenda().iter().take(8).map(|(intent, _)| format!("{intent:?}")).collect();
    let pods: Vec<_> = controller
        .state()
        .pods()
        .map(|(uid, pod)| {
            let published = match pod.standing() {
                natgw::machine::state::Standing::Allocated(id) => controller
                    .state()
                    .allocation(*id)
                    .map(|allocation| (allocation.is_published(), allocation.items().to_vec())),
                _ => None,
            };
            format!("{} {uid} {:?} served {} published {published:?}", pod.key(), pod.standing(), pod.is_served())
        })
        .collect();
    let kinds: Vec<_> = process.flights.iter().map(|flight| flight.kind).collect();
    format!(
        "life {}, watched {}/{}, leads {}, settled {}, calls {kinds:?}, agenda {agenda:?}, pods {pods:#?}",
        process.life,
        process.watch.pods_at,
        process.watch.claims_at,
        controller.leads(),
        controller.is_settled()
    )
}

/// The faults of the cloud's model at the rates of the matrix.
fn cloud_faults(faults: &Faults) -> CloudFaults {
    let mut cloud = CloudFaults::none();
    for (kind, fault) in CLOUD_FAULTS {
        cloud.set(kind, faults.rate(fault));
    }
    cloud
}

/// What the cloud's model does by itself.
pub const CLOUD_FAULTS: [(FaultKind, Fault); 17] = [
    (FaultKind::LostRequest, Fault::RequestLost),
    (FaultKind::LostReply, Fault::ReplyLost),
    (FaultKind::InternalError, Fault::ReplyLost),
    (FaultKind::LateEffect, Fault::LateEffect),
    (FaultKind::Throttling, Fault::Throttled),
    (FaultKind::Conflict, Fault::GatewayBusy),
    (FaultKind::ReadLag, Fault::ReadLag),
    (FaultKind::ForgottenToken, Fault::TokenForgotten),
    (FaultKind::StillRunning, Fault::StillRunning),
    (FaultKind::TokenMismatch, Fault::TokenMismatch),
    (FaultKind::LongPending, Fault::PendingLong),
    (FaultKind::StuckPending, Fault::PendingStuck),
    (FaultKind::PatchyView, Fault::PatchyView),
    (FaultKind::ShiftedPage, Fault::ShiftedPage),
    (FaultKind::UnknownStatus, Fault::UnknownStatus),
    (FaultKind::UnknownGatewayStatus, Fault::UnknownEstate),
    (FaultKind::UnknownError, Fault::UnknownError),
];
