//! The whole controller over the models of cluster and cloud, in virtual time and without a runtime: whoever owns the stage
//! says what happens, and every run of one seed is the same. Shared by a test and a bench.
#![allow(dead_code, unreachable_pub, reason = "each who shares it takes what it needs")]

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use natgw::controller::keeping::{Keep, Kept, Policy};
use natgw::controller::lease;
use natgw::controller::step::{Configuration, Controller, Head, Identity, Input, Now, Output, Seen};
use natgw::executor;
use natgw::machine::event::{Record, control};
use natgw::machine::state::State;
use natgw::ports::cluster::Lease as _;
use natgw::ports::effect::{Effect, ListRequest};
use natgw::sandbox::cluster::{Change, Manifest, Model, Settings, SimulatedCluster};
use natgw::sandbox::vpc::{Behaviour, Faults, LedgerLine, SimulatedCloud, Vpc, World};

/// One call to the cloud.
pub const CALL_MS: u64 = 50;
/// One call to the API server, and one group of the journal.
pub const NEAR_MS: u64 = 1;
/// More virtual time than anything here takes.
const PATIENCE_MS: u64 = 24 * 60 * 60 * 1_000;

/// What makes records durable and looks after them, in its own time.
pub trait Volume {
    /// Makes a group durable.
    fn append(&mut self, group: &[Record]) -> Head;
    /// Begins what is asked.
    fn keep(&mut self, keep: Keep);
    /// How the journal stands, once what was asked is done.
    fn kept(&mut self) -> Option<Kept>;
}

type Flight = Pin<Box<dyn Future<Output = Input>>>;

enum Event {
    /// A call is answered.
    Answered(Flight, u64),
    Appended(Head),
}

/// A controller, and what it works on.
pub struct Stage {
    now: Rc<Cell<u64>>,
    pub vpc: Rc<RefCell<Vpc>>,
    pub model: Rc<RefCell<Model>>,
    cloud: SimulatedCloud,
    cluster: SimulatedCluster,
    pub controller: Controller,
    /// What the journal was given.
    pub records: Vec<Record>,
    volume: Option<Box<dyn Volume>>,
    events: BTreeMap<(u64, u64), Event>,
    count: u64,
    shown: u64,
    appended_ms: u64,
}

impl Stage {
    /// A cluster without pods and an account with so many gateways of three EIPs.
    pub fn new(gateways: u8, behaviour: Behaviour, faults: Faults, seed: u64) -> Self {
        Self::made(World::new(gateways, 3), behaviour, faults, seed, None)
    }

    /// A cluster without pods in an account as it is given; the gateways that have EIPs are configured.
    pub fn within(world: World) -> Self {
        Self::made(world, Behaviour::default(), Faults::none(), 1, None)
    }

    /// The same with a journal that is kept.
    pub fn on(volume: Box<dyn Volume>, policy: Policy, gateways: u8) -> Self {
        Self::made(World::new(gateways, 3), Behaviour::default(), Faults::none(), 1, Some((volume, policy)))
    }

    fn made(
        world: World,
        behaviour: Behaviour,
        faults: Faults,
        seed: u64,
        volume: Option<(Box<dyn Volume>, Policy)>,
    ) -> Self {
        let now = Rc::new(Cell::new(0));
        let configured = world.gateways.iter().filter(|gateway| !gateway.eips.is_empty());
        let zones: Vec<(String, String)> =
            configured.map(|gateway| (gateway.id.to_string(), gateway.zone.to_string())).collect();
        let blocks = world.vswitches.iter().map(|vswitch| vswitch.cidr).collect();
        let vpc = Rc::new(RefCell::new(Vpc::new(world, behaviour, faults, seed)));
        let settings = Settings { blocks, start_ms: 0, warm_up_ms: 0, ..Settings::new("bench") };
        let model = Rc::new(RefCell::new(Model::new(settings)));
        let timing = lease::Timing { lease_duration_ms: 15_000, renew_deadline_ms: 10_000, retry_period_ms: 2_000 };
        let (volume, keeping) = volume.map_or((None, None), |(volume, policy)| (Some(volume), Some(policy)));
        let identity = identity("bench", timing, keeping);
        let controller = Controller::new(identity, State::default(), Head { seq: 0, hash: [0; 32] });
        let mut stage = Self {
            cloud: SimulatedCloud::new(Rc::clone(&vpc), Rc::clone(&now)),
            cluster: SimulatedCluster::new(Rc::clone(&model), Rc::clone(&now)),
            now,
            vpc,
            model,
            controller,
            records: Vec::new(),
            volume,
            events: BTreeMap::new(),
            count: 0,
            shown: 0,
            appended_ms: 0,
        };
        stage.input(Input::Configured(Box::new(configuration(&zones))));
        stage
    }

    fn at(&self) -> Now {
        let ms = self.now.get();
        Now { monotonic_ms: ms, wall_ms: i64::try_from(ms).unwrap() }
    }

    fn input(&mut self, input: Input) {
        self.controller.handle(self.at(), input);
        while let Some(output) = self.controller.poll_output() {
            self.carry_out(output);
        }
    }

    fn carry_out(&mut self, output: Output) {
        let (cloud, cluster) = (self.cloud.clone(), self.cluster.clone());
        match output {
            Output::Append(group) => {
                // One group after the other.
                self.appended_ms = self.appended_ms.max(self.now.get()) + NEAR_MS;
                let head = match &mut self.volume {
                    Some(volume) => volume.append(&group),
                    None => Head { seq: group.last().unwrap().seq, hash: [0; 32] },
                };
                if self.volume.is_none() {
                    self.records.extend(group);
                }
                self.push(self.appended_ms, Event::Appended(head));
            }
            Output::Start(id, effect) => {
                let far = matches!(effect, Effect::Create(_) | Effect::Delete(_));
                let call = async move { Input::EffectEnded(id, executor::execute(&cluster, &cloud, &effect).await) };
                self.fly(Box::pin(call), if far { CALL_MS } else { NEAR_MS });
            }
            Output::List(id, request) => {
                let far = !matches!(request, ListRequest::Cluster);
                let call = async move { Input::ListEnded(id, executor::list(&cluster, &cloud, &request).await) };
                self.fly(Box::pin(call), if far { CALL_MS } else { NEAR_MS });
            }
            Output::CallLease(call) => {
                let call = async move {
                    Input::LeaseAnswered(match call {
                        lease::Call::Read => cluster.read_lease().await.map_err(|error| error.class),
                        lease::Call::Write(record) => cluster.write_lease(&record).await.map_err(|error| error.class),
                    })
                };
                self.fly(Box::pin(call), NEAR_MS);
            }
            Output::Keep(keep) => self.volume.as_mut().unwrap().keep(keep),
            Output::Stop(stop) => panic!("the controller ended: {stop}"),
        }
    }

    /// Sends a call's next request; its answer comes after so long.
    fn fly(&mut self, mut flight: Flight, call_ms: u64) {
        match flight.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(input) => self.input(input),
            Poll::Pending => self.push(self.now.get() + call_ms, Event::Answered(flight, call_ms)),
        }
    }

    fn push(&mut self, at_ms: u64, event: Event) {
        self.count += 1;
        self.events.insert((at_ms, self.count), event);
    }

    /// When something happens next.
    fn next_ms(&self) -> u64 {
        let event_ms = self.events.first_key_value().map(|((at_ms, _), _)| *at_ms);
        let model_ms = self.model.borrow().next_due();
        let unseen = (self.model.borrow().version() > self.shown).then_some(0);
        let due = [event_ms, model_ms, unseen, self.controller.poll_timeout()];
        due.into_iter().flatten().min().unwrap().max(self.now.get())
    }

    /// Goes on to the next moment at which something happens.
    pub fn step(&mut self) {
        let changes = self.model.borrow().changes_since(self.shown).unwrap();
        self.shown = changes.through;
        for change in changes.changes {
            self.input(Input::Seen(match change {
                Change::Pod(pod) => Seen::Pod(Box::new(pod)),
                Change::PodGone(gone) => Seen::PodGone(gone),
                Change::Claim(claim) => Seen::Claim(Box::new(claim)),
                Change::ClaimGone(gone) => Seen::ClaimGone(gone),
            }));
        }
        if let Some(kept) = self.volume.as_mut().and_then(|volume| volume.kept()) {
            self.input(Input::Kept(kept));
        }
        let next_ms = self.next_ms();
        assert!(next_ms < PATIENCE_MS, "it does not converge");
        self.now.set(next_ms);
        self.model.borrow_mut().advance(next_ms);
        match self.events.first_entry().filter(|first| first.key().0 <= next_ms).map(|first| first.remove()) {
            Some(Event::Appended(head)) => self.input(Input::Appended(head)),
            Some(Event::Answered(flight, call_ms)) => self.fly(flight, call_ms),
            None => self.input(Input::Woke),
        }
    }

    /// The process ends: what its journal has stays.
    pub fn forget_volume(&mut self) {
        self.volume = None;
    }

    /// Another leader begins on the volume, with what it replayed; the one before has vanished.
    pub fn restart(&mut self, volume: Box<dyn Volume>, policy: Policy, state: State, head: Head) {
        self.volume = Some(volume);
        self.events.clear();
        let timing = lease::Timing { lease_duration_ms: 15_000, renew_deadline_ms: 10_000, retry_period_ms: 2_000 };
        self.count += 1;
        let identity = identity(&format!("bench-{}", self.count), timing, Some(policy));
        let zones: Vec<(String, String)> = {
            let vpc = self.vpc.borrow();
            let gateways = vpc.world().gateways.iter();
            gateways.map(|gateway| (gateway.id.to_string(), gateway.zone.to_string())).collect()
        };
        self.controller = Controller::new(identity, state, head);
        self.input(Input::Configured(Box::new(configuration(&zones))));
    }

    /// Machine time.
    pub fn now_ms(&self) -> u64 {
        self.now.get()
    }

    /// Lets so many pods stand.
    pub fn scale(&self, pods: u32) {
        self.model.borrow_mut().apply_manifests(&[deployment(pods)], self.now.get()).unwrap();
    }

    /// How many pods are mapped.
    pub fn mapped(&self) -> usize {
        self.model.borrow().list_claims().iter().filter(|claim| claim.published).count()
    }

    /// Goes on until something is so; it is looked at once a moment.
    pub fn run_until(&mut self, is_so: impl Fn(&Self) -> bool) {
        let mut looked_ms = None;
        while looked_ms == Some(self.now.get()) || !is_so(self) {
            looked_ms = Some(self.now.get());
            self.step();
        }
    }

    /// Goes on until that time.
    pub fn run_to(&mut self, at_ms: u64) {
        while self.next_ms() <= at_ms {
            self.step();
        }
        self.now.set(self.now.get().max(at_ms));
        self.model.borrow_mut().advance(self.now.get());
    }

    /// Lets nothing be under way any more.
    pub fn settle(&mut self) {
        while !self.controller.is_settled() {
            self.step();
        }
    }

    /// The ledger since it was last taken.
    pub fn take_ledger(&self) -> Vec<LedgerLine> {
        self.vpc.borrow_mut().take_ledger()
    }
}

fn identity(holder: &str, timing: lease::Timing, keeping: Option<Policy>) -> Identity {
    Identity { holder: holder.to_owned(), journal: [1; 16], rebased: None, timing, speed: 1, keeping }
}

fn configuration(zones: &[(String, String)]) -> Configuration {
    let pool = |(index, (gateway, zone)): (u16, &(String, String))| control::PoolConfigured {
        index,
        gateway: gateway.clone(),
        zone: zone.clone(),
        first: 512,
        last: 1_024,
        eips: Vec::new(),
        excluded: Vec::new(),
    };
    let pools: Vec<_> = (0..).zip(zones).map(pool).collect();
    let settings = control::Configured {
        cluster_uid: "bench".to_owned(),
        pools: u16::try_from(pools.len()).unwrap(),
        cooldown_ms: 30_000,
        fixed_retention_ms: None,
        resync_ms: 60_000,
        repair: true,
        adopt: false,
        port_break: 0,
        stateful_kinds: Vec::new(),
    };
    Configuration { pools, settings }
}

fn deployment(replicas: u32) -> Manifest {
    let document = serde_json::json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": { "name": "game" },
        "spec": {
            "replicas": replicas,
            "selector": { "matchLabels": { "app": "game" } },
            "template": {
                "metadata": {
                    "labels": { "app": "game" },
                    "annotations": {
                        "k8s.aliyun.com/pod-dnat": "true",
                        "k8s.aliyun.com/pod-dnat-expose-port": "80",
                    },
                },
                "spec": { "containers": [{ "name": "game", "image": "game" }] },
            },
        },
    });
    Manifest { source: "bench".to_owned(), document }
}
