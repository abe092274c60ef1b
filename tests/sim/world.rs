//! One world from one seed: the production step, machine and executor between the pure models of cloud and cluster, on a
//! journal that loses what was not synced. No runtime, no clock, no I/O.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use natgw::controller::lease::{Answer, Call, Timing};
use natgw::controller::step::{Configuration, Controller, Head, Identity, Input, Now, Output, Seen, Stop};
use natgw::executor;
use natgw::machine::event::{Record, codec, control};
use natgw::machine::identity::PodKey;
use natgw::machine::state::State;
use natgw::ports::cluster::Lease as _;
use natgw::ports::effect::Effect;
use natgw::sandbox::cluster::{Change, Faults as ClusterFaults, Manifest, Model, Settings, SimulatedCluster};
use natgw::sandbox::vpc::{
    Behaviour, FaultKind, Faults, LedgerLine, NewEntry, SimulatedCloud, Vpc, World as CloudWorld,
};

use crate::invariants::Checker;
use crate::mutants::{Mutant, MutantCloud};

/// A call under way, and whether it may still land when its caller has died: one request to the cloud.
type Flight = (Pin<Box<dyn Future<Output = Input>>>, bool);

/// A draw from the seed (SplitMix64, Steele et al. 2014).
pub struct Dice(pub u64);

impl Dice {
    pub fn draw(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (bits ^ (bits >> 31)) % below.max(1)
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.draw(n) == 0
    }
}

pub struct World {
    pub dice: Dice,
    pub clock: Rc<Cell<u64>>,
    pub vpc: Rc<RefCell<Vpc>>,
    pub model: Rc<RefCell<Model>>,
    pub controller: Controller,
    /// Records that would survive a power cut now.
    pub durable: Vec<Record>,
    pub ledger: Vec<LedgerLine>,
    pub mutant: Mutant,
    pub trace: blake3::Hasher,
    pub lives: u64,
    handed: Vec<Record>,
    cluster: SimulatedCluster,
    flights: Vec<Flight>,
    /// Calls of earlier lives that are still on their way.
    stale: Vec<Flight>,
    watched: u64,
    manifests: Vec<Option<Manifest>>,
    faulty: bool,
    configuration: Configuration,
    /// What handling inputs cost since this was last reset.
    pub cost: Cost,
}

/// Records made, look-ups plus entries iterated in the state, and heap allocations.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    pub records: u64,
    pub touched: u64,
    pub allocations: u64,
}

impl World {
    pub fn new(seed: u64, mutant: Mutant, pods: usize) -> Self {
        let mut dice = Dice(seed);
        let behaviour = Behaviour { entry_quota: if dice.one_in(4) { 9 } else { 1_000 }, ..Behaviour::default() };
        let mut faults = Faults::none();
        for kind in [
            FaultKind::LostReply,
            FaultKind::LostRequest,
            FaultKind::LateEffect,
            FaultKind::Throttling,
            FaultKind::Conflict,
            FaultKind::InternalError,
        ] {
            faults.set(kind, dice.draw(60) as f64 / 1_000.0);
        }
        let clock = Rc::new(Cell::new(0));
        let vpc = Rc::new(RefCell::new(Vpc::new(CloudWorld::default(), behaviour, faults, seed)));
        let model = Rc::new(RefCell::new(Model::new(Settings::new("c1"))));
        let rate = |dice: &mut Dice| u32::try_from(dice.draw(50_000)).unwrap_or(0);
        let cluster_faults = ClusterFaults {
            lost_request: rate(&mut dice),
            lost_reply: rate(&mut dice),
            busy: rate(&mut dice),
            conflict: rate(&mut dice),
        };
        let cluster = SimulatedCluster::with_faults(model.clone(), clock.clone(), cluster_faults, seed);
        let controller = Controller::new(identity(0), State::default(), Head { seq: 0, hash: [0; 32] });
        let configuration = configuration(&mut dice);
        let mut world = Self {
            configuration: configuration.clone(),
            dice,
            clock,
            vpc,
            model,
            controller,
            cluster,
            mutant,
            durable: Vec::new(),
            handed: Vec::new(),
            ledger: Vec::new(),
            flights: Vec::new(),
            stale: Vec::new(),
            watched: 0,
            manifests: vec![None; pods],
            faulty: true,
            lives: 0,
            trace: blake3::Hasher::new(),
            cost: Cost::default(),
        };
        world.input(Input::Configured(Box::new(configuration)));
        world
    }

    /// A world without faults in which one Deployment has that many pods, with room for all of them.
    pub fn roomy(pods: u32) -> Self {
        let mut world = Self::new(1, Mutant::None, 0);
        world.calm();
        world.vpc.borrow_mut().behaviour_mut().entry_quota = 100_000;
        for pool in &mut world.configuration.pools {
            pool.last = 65_535;
        }
        world.input(Input::Configured(Box::new(world.configuration.clone())));
        world.manifests = vec![Some(deployment(pods))];
        world.apply();
        world
    }

    /// One thing happens.
    pub fn step(&mut self, checker: &mut Checker) {
        let action = self.dice.draw(if self.faulty { 100 } else { 70 });
        match action {
            0..45 if !self.flights.is_empty() => {
                let at = usize::try_from(self.dice.draw(self.flights.len() as u64)).unwrap_or(0);
                self.poll(at);
            }
            45..60 if !self.handed.is_empty() => self.sync(),
            0..65 => self.watch(),
            65..88 => self.pass_time(),
            88..96 => self.user(),
            96..98 if !self.stale.is_empty() => {
                let at = usize::try_from(self.dice.draw(self.stale.len() as u64)).unwrap_or(0);
                if poll_once(&mut self.stale[at]).is_ready() {
                    drop(self.stale.swap_remove(at));
                }
            }
            98 if self.dice.one_in(4) => self.crash(checker),
            _ => self.pass_time(),
        }
        self.collect(checker);
    }

    /// From now on nothing goes wrong, and nobody wants anything else.
    pub fn calm(&mut self) {
        self.faulty = false;
        self.vpc.borrow_mut().faults_mut().stop();
        self.cluster.set_faults(ClusterFaults::default());
    }

    pub fn want_nothing(&mut self) {
        self.manifests.iter_mut().for_each(|manifest| *manifest = None);
        self.apply();
    }

    /// Everything is as it should be and nothing is on its way.
    pub fn is_quiet(&self) -> bool {
        let idle = self.flights.is_empty() && self.handed.is_empty() && self.model.borrow().next_due().is_none();
        self.controller.is_settled() && idle && self.watched == self.model.borrow().version()
    }

    /// What keeps the world from being quiet, for people.
    pub fn unrest(&self) -> String {
        let (clock, due) = (self.clock.get(), self.model.borrow().next_due());
        let (settled, calls) = (self.controller.is_settled(), self.flights.len());
        format!(
            "settled {settled}, calls under way {calls}, clock {clock}, cluster due {due:?}, crashes {}",
            self.lives
        )
    }

    /// A crash at any suspension point: what was not synced may be lost, what was on its way may still arrive.
    pub fn crash(&mut self, checker: &mut Checker) {
        self.lives += 1;
        if self.dice.one_in(2) {
            // The group reached the disk, its acknowledgement did not reach us.
            self.durable.append(&mut self.handed);
        }
        self.handed.clear();
        let on_their_way = std::mem::take(&mut self.flights);
        self.stale.extend(on_their_way.into_iter().filter(|(_, may_land)| *may_land));
        self.stale.truncate(32);
        let mut state = State::default();
        for record in &self.durable {
            let bytes = codec::encode(record).expect("it was encoded before");
            let read = codec::decode(record.seq, &bytes).expect("it decodes");
            state.apply(&read).unwrap_or_else(|error| panic!("replay: {error}"));
        }
        checker.replayed(self, &state);
        if self.dice.one_in(2) {
            self.model.borrow_mut().drop_lease_holder();
        }
        let head = Head { seq: state.seq(), hash: [0; 32] };
        self.controller = Controller::new(identity(self.lives), state, head);
        self.watched = self.model.borrow().version();
        self.input(Input::Configured(Box::new(self.configuration.clone())));
    }

    fn input(&mut self, input: Input) {
        let now = Now { monotonic_ms: self.clock.get(), wall_ms: i64::try_from(self.clock.get()).unwrap_or(0) };
        let (seq, touched) = (self.controller.state().seq(), self.controller.state().touched());
        let spent = allocation_counter::measure(|| self.controller.handle(now, input));
        self.cost.records += self.controller.state().seq() - seq;
        self.cost.touched += self.controller.state().touched() - touched;
        self.cost.allocations += spent.count_total;
    }

    /// Takes what the controller put out.
    fn collect(&mut self, checker: &mut Checker) {
        while let Some(output) = self.controller.poll_output() {
            self.trace.update(format!("{} {output:?}", self.clock.get()).as_bytes());
            let (cluster, cloud) = (self.cluster.clone(), MutantCloud::new(self.cloud(), self.mutant, self.lives));
            match output {
                Output::Append(group) => {
                    self.handed = group;
                    if self.mutant == Mutant::ForgottenSync {
                        let through = self.handed.last().map_or(0, |record| record.seq);
                        self.input(Input::Appended(Head { seq: through, hash: [0; 32] }));
                    }
                }
                Output::Start(id, effect) => {
                    let may_land = matches!(effect, Effect::Create(_) | Effect::Delete(_));
                    let call =
                        async move { Input::EffectEnded(id, executor::execute(&cluster, &cloud, &effect).await) };
                    self.flights.push((Box::pin(call), may_land));
                }
                Output::List(id, request) => {
                    let call = async move { Input::ListEnded(id, executor::list(&cluster, &cloud, &request).await) };
                    self.flights.push((Box::pin(call), false));
                }
                Output::CallLease(call) => self.flights.push((
                    Box::pin(async move {
                        let answer: Answer = match call {
                            Call::Read => cluster.read_lease().await.map_err(|error| error.class),
                            Call::Write(record) => cluster.write_lease(&record).await.map_err(|error| error.class),
                        };
                        Input::LeaseAnswered(answer)
                    }),
                    false,
                )),
                Output::Stop(stop @ (Stop::Machine { .. } | Stop::JournalStalled { .. })) => {
                    checker.violated("Stop", format!("{stop}"));
                    self.crash(checker);
                }
                Output::Stop(_) => self.crash(checker),
            }
        }
        let lines = self.vpc.borrow_mut().take_ledger();
        checker.check(self, &lines);
        self.ledger.extend(lines);
    }

    fn cloud(&self) -> SimulatedCloud {
        SimulatedCloud::new(self.vpc.clone(), self.clock.clone())
    }

    fn poll(&mut self, at: usize) {
        if let Poll::Ready(input) = poll_once(&mut self.flights[at]) {
            drop(self.flights.swap_remove(at));
            // A listing never comes before what the watch showed until then.
            self.watch();
            self.input(input);
        }
    }

    fn sync(&mut self) {
        self.durable.append(&mut self.handed);
        let seq = self.durable.last().map_or(0, |record| record.seq);
        self.input(Input::Appended(Head { seq, hash: [0; 32] }));
    }

    fn watch(&mut self) {
        let changes = self.model.borrow().changes_since(self.watched).expect("the watch is kept up");
        self.watched = changes.through;
        for change in changes.changes {
            self.input(Input::Seen(match change {
                Change::Pod(pod) => Seen::Pod(Box::new(pod)),
                Change::PodGone(gone) => Seen::PodGone(gone),
                Change::Claim(claim) => Seen::Claim(Box::new(claim)),
                Change::ClaimGone(gone) => Seen::ClaimGone(gone),
            }));
        }
    }

    fn pass_time(&mut self) {
        let now = self.clock.get();
        let due = [self.controller.poll_timeout(), self.model.borrow().next_due(), self.vpc.borrow().next_due()];
        let next = due.into_iter().flatten().min().unwrap_or(now + 1_000).min(now + 60_000);
        // With calls on their way time goes slowly, or every lease would be lost.
        let most = if self.flights.is_empty() && self.handed.is_empty() {
            next.max(now + 1)
        } else {
            now + 1 + self.dice.draw(40)
        };
        self.clock.set(most);
        self.vpc.borrow_mut().advance(most);
        self.model.borrow_mut().advance(most);
        self.input(Input::Woke);
    }

    fn user(&mut self) {
        let at = usize::try_from(self.dice.draw(self.manifests.len() as u64)).unwrap_or(0);
        let key = PodKey::new("default", format!("p{at}"));
        match self.dice.draw(12) {
            0..4 => {
                let ports = ["80", "80,443", "53/udp,53/tcp", "7,8,9"][usize::try_from(self.dice.draw(4)).unwrap_or(0)];
                self.manifests[at] = Some(pod(at, ports));
                self.apply();
            }
            4 | 5 => {
                self.manifests[at] = None;
                self.apply();
            }
            6 | 7 => drop(self.model.borrow_mut().delete_pod(&key, Some(self.dice.draw(3) * 1_000))),
            8 => drop(self.model.borrow_mut().move_pod(&key)),
            9 => {
                let entry = self.ledger.iter().rev().find_map(|line| match line {
                    LedgerLine::Effect(line) => line.entry.clone(),
                    LedgerLine::Request(_) => None,
                });
                let now = self.clock.get();
                entry.map(|entry| self.vpc.borrow_mut().remove_entry(now, &entry));
            }
            10 => self.insert_foreign(),
            _ => {
                let value = if self.dice.one_in(2) { Some("false") } else { None };
                self.model.borrow_mut().annotate_pod(&key, "k8s.aliyun.com/pod-dnat", value);
            }
        }
    }

    fn insert_foreign(&mut self) {
        let gateway = self.vpc.borrow().world().gateways[0].clone();
        let tuple = natgw::machine::identity::Tuple {
            external_ip: gateway.eips[0].address,
            external_port: 512 + u16::try_from(self.dice.draw(12)).unwrap_or(0),
            internal_ip: [172, 16, 200, 1 + u8::try_from(self.dice.draw(200)).unwrap_or(0)].into(),
            internal_port: 22,
            protocol: natgw::machine::identity::Protocol::Tcp,
        };
        let now = self.clock.get();
        let _ = self.vpc.borrow_mut().insert_entry(now, NewEntry::of(gateway.table, tuple, "somebody"));
    }

    fn apply(&mut self) {
        let manifests: Vec<Manifest> = self.manifests.iter().flatten().cloned().collect();
        self.model.borrow_mut().apply_manifests(&manifests, self.clock.get()).expect("they are well-formed");
    }
}

fn poll_once(flight: &mut Flight) -> Poll<Input> {
    flight.0.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

fn identity(life: u64) -> Identity {
    let timing = Timing { lease_duration_ms: 15_000, renew_deadline_ms: 10_000, retry_period_ms: 2_000 };
    Identity { holder: format!("natgw-{life}"), journal: [1; 16], rebased: None, timing, speed: 1 }
}

/// Both gateways of the default world; sometimes with so few ports that pods must wait.
fn configuration(dice: &mut Dice) -> Configuration {
    let last = if dice.one_in(2) { 515 } else { 560 };
    let pool = |(index, zone): (u16, &str)| control::PoolConfigured {
        index,
        gateway: format!("ngw-sandbox-{zone}"),
        zone: format!("cn-hangzhou-{zone}"),
        first: 512,
        last,
        eips: Vec::new(),
        excluded: vec![(514, 514)],
    };
    let settings = control::Configured {
        cluster_uid: "c1".to_owned(),
        pools: 2,
        cooldown_ms: 30_000,
        fixed_retention_ms: None,
        resync_ms: 300_000,
        repair: true,
        adopt: false,
        port_break: 0,
        stateful_kinds: Vec::new(),
    };
    Configuration { pools: [(0, "j"), (1, "k")].map(pool).into(), settings }
}

fn pod(at: usize, ports: &str) -> Manifest {
    let document = serde_json::json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": format!("p{at}"), "namespace": "default", "annotations": {
            "k8s.aliyun.com/pod-dnat": "", "k8s.aliyun.com/pod-dnat-expose-port": ports } },
        "spec": { "containers": [{ "name": "game", "image": "game" }] },
    });
    Manifest { source: "sim".to_owned(), document }
}

fn deployment(replicas: u32) -> Manifest {
    let annotations = serde_json::json!({ "k8s.aliyun.com/pod-dnat": "", "k8s.aliyun.com/pod-dnat-expose-port": "80" });
    let document = serde_json::json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": "game", "namespace": "default" },
        "spec": { "replicas": replicas, "selector": { "matchLabels": { "app": "game" } }, "template": {
            "metadata": { "labels": { "app": "game" }, "annotations": annotations },
            "spec": { "containers": [{ "name": "game", "image": "game" }] } } },
    });
    Manifest { source: "sim".to_owned(), document }
}
