//! How fast pods become reachable, against the time that the cloud itself takes (design.md §9, [converge]).
//!
//! The whole controller — step, executor, both ports — over the models of cluster and cloud, in virtual time: what is
//! measured is waiting, not computing, so every run gives the same figures on every machine. A call to the cloud takes 50 ms,
//! an entry is Pending for 500 ms, a call to the API server or the journal takes 1 ms.
//!
//! Two shapes: a table that takes eight calls at once, and eight tables that take one each and refuse a second. A first
//! batch teaches the lanes and is told apart; then 500 pods come at once.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "what cannot be measured is a failure")]

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use natgw::controller::lease;
use natgw::controller::step::{Configuration, Controller, Head, Identity, Input, Now, Output, Seen};
use natgw::executor;
use natgw::machine::event::control;
use natgw::machine::state::State;
use natgw::ports::cluster::Lease as _;
use natgw::ports::effect::{Effect, ListRequest};
use natgw::sandbox::cluster::{Change, Manifest, Model, Settings, SimulatedCluster};
use natgw::sandbox::vpc::{Behaviour, Cidr, Faults, LedgerLine, RequestLine, SimulatedCloud, Vpc, World};

/// L: one call to the cloud.
const CALL_MS: u64 = 50;
/// One call to the API server, and one group of the journal.
const NEAR_MS: u64 = 1;
const PENDING_MS: u64 = 500;
/// What teaches the lanes, for each table.
const FIRST: u32 = 64;
/// More virtual time than anything here takes.
const PATIENCE_MS: u64 = 60 * 60 * 1_000;

/// A cloud, and what it is asked for.
struct Shape {
    name: &'static str,
    gateways: u8,
    /// Calls at once on one table.
    at_once: u64,
    behaviour: Behaviour,
    /// Calls an entry at most.
    calls_reach: f64,
}

fn shapes() -> [Shape; 2] {
    let quiet = Behaviour { entry_quota: 10_000, pending_ms: PENDING_MS, ..Behaviour::default() };
    [
        Shape { name: "one", gateways: 1, at_once: 8, behaviour: quiet.clone(), calls_reach: 1.1 },
        // A second creation on a gateway while one is under way is refused.
        Shape {
            name: "eight",
            gateways: 8,
            at_once: 1,
            behaviour: Behaviour { create_conflict_ms: CALL_MS - 1, ..quiet },
            calls_reach: 1.4,
        },
    ]
}

type Flight = Pin<Box<dyn Future<Output = Input>>>;

enum Event {
    /// A call is answered.
    Answered(Flight, u64),
    Appended(Head),
}

/// A controller, and what it works on.
struct Stage {
    now: Rc<Cell<u64>>,
    vpc: Rc<RefCell<Vpc>>,
    model: Rc<RefCell<Model>>,
    cloud: SimulatedCloud,
    cluster: SimulatedCluster,
    controller: Controller,
    events: BTreeMap<(u64, u64), Event>,
    count: u64,
    shown: u64,
    appended_ms: u64,
}

impl Stage {
    fn new(shape: &Shape) -> Self {
        let now = Rc::new(Cell::new(0));
        let world = World::new(shape.gateways, 3);
        let zones: Vec<(String, String)> =
            world.gateways.iter().map(|gateway| (gateway.id.to_string(), gateway.zone.to_string())).collect();
        let vpc = Rc::new(RefCell::new(Vpc::new(world, shape.behaviour.clone(), Faults::none(), 1)));
        let blocks = (0..shape.gateways).map(|n| Cidr::new([172, 16 + n, 0, 0].into(), 16)).collect();
        let settings = Settings { blocks, start_ms: 0, warm_up_ms: 0, ..Settings::new("bench") };
        let model = Rc::new(RefCell::new(Model::new(settings)));
        let timing = lease::Timing { lease_duration_ms: 15_000, renew_deadline_ms: 10_000, retry_period_ms: 2_000 };
        let identity = Identity { holder: "bench".to_owned(), journal: [1; 16], rebased: None, timing, speed: 1 };
        let controller = Controller::new(identity, State::default(), Head { seq: 0, hash: [0; 32] });
        let mut stage = Self {
            cloud: SimulatedCloud::new(Rc::clone(&vpc), Rc::clone(&now)),
            cluster: SimulatedCluster::new(Rc::clone(&model), Rc::clone(&now)),
            now,
            vpc,
            model,
            controller,
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
                let head = Head { seq: group.last().unwrap().seq, hash: [0; 32] };
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

    /// Goes on to the next moment at which something happens.
    fn step(&mut self) {
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
        let event_ms = self.events.first_key_value().map(|((at_ms, _), _)| *at_ms);
        let model_ms = self.model.borrow().next_due();
        let due = [event_ms, model_ms, self.controller.poll_timeout()];
        let next_ms = due.into_iter().flatten().min().unwrap().max(self.now.get());
        assert!(next_ms < PATIENCE_MS, "it does not converge");
        self.now.set(next_ms);
        self.model.borrow_mut().advance(next_ms);
        match self.events.first_entry().filter(|first| first.key().0 <= next_ms).map(|first| first.remove()) {
            Some(Event::Appended(head)) => self.input(Input::Appended(head)),
            Some(Event::Answered(flight, call_ms)) => self.fly(flight, call_ms),
            None => self.input(Input::Woke),
        }
    }

    /// Lets so many pods stand and waits until all are mapped; how long it took and what was asked of the cloud meanwhile.
    fn scale(&mut self, pods: u32) -> (u64, Vec<RequestLine>) {
        self.vpc.borrow_mut().take_ledger();
        let began_ms = self.now.get();
        self.model.borrow_mut().apply_manifests(&[deployment(pods)], began_ms).unwrap();
        let wanted = usize::try_from(pods).unwrap();
        let mut looked_ms = began_ms;
        loop {
            self.step();
            if self.now.get() == looked_ms {
                continue;
            }
            looked_ms = self.now.get();
            if self.model.borrow().list_claims().iter().filter(|claim| claim.published).count() == wanted {
                break;
            }
        }
        let lines = self.vpc.borrow_mut().take_ledger().into_iter();
        let requests = lines.filter_map(|line| match line {
            LedgerLine::Request(request) => Some(request),
            LedgerLine::Effect(_) => None,
        });
        (self.now.get() - began_ms, requests.collect())
    }

    /// Lets nothing be under way any more.
    fn settle(&mut self) {
        while !self.controller.is_settled() {
            self.step();
        }
    }

    fn fullest(&self) -> u64 {
        let vpc = self.vpc.borrow();
        let counts = vpc.world().gateways.iter().map(|gateway| vpc.entries(&gateway.table).count());
        u64::try_from(counts.max().unwrap()).unwrap()
    }
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
        resync_ms: 3_600_000,
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

/// How many calls of each action, and how many were refused.
fn calls(requests: &[RequestLine]) -> String {
    let mut counts: BTreeMap<&str, (u32, u32)> = BTreeMap::new();
    for request in requests {
        let (all, refused) = counts.entry(&request.action).or_default();
        *all += 1;
        *refused += u32::from(request.reply.as_ref().is_none_or(|said| said.code.is_some()));
    }
    let words = counts.into_iter().map(|(action, (all, refused))| format!("{action} {all} ({refused} refused)"));
    words.collect::<Vec<_>>().join(", ")
}

fn measure(shape: &Shape, pods: u32) -> [String; 2] {
    let mut stage = Stage::new(shape);
    let first = FIRST * u32::from(shape.gateways);
    let (ramp_ms, ramp) = stage.scale(first);
    stage.settle();
    println!("{}: the ramp: {first} pods in {ramp_ms} ms: {}", shape.name, calls(&ramp));
    let before = stage.fullest();
    let (took_ms, requests) = stage.scale(first + pods);
    let fullest = stage.fullest() - before;
    let yardstick_ms = fullest * CALL_MS / shape.at_once + PENDING_MS + 2 * CALL_MS;
    #[expect(clippy::cast_precision_loss, reason = "milliseconds of a minute and a thousand calls")]
    let (ratio, calls_an_entry) = (took_ms as f64 / yardstick_ms as f64, requests.len() as f64 / f64::from(pods));
    println!("{}: {pods} pods in {took_ms} ms, the cloud alone {yardstick_ms} ms: {}", shape.name, calls(&requests));
    let word = |value: f64, reach: f64| if value <= reach { "ok" } else { "short" };
    [
        format!("figure converge.{} {took_ms} ms yardstick {yardstick_ms} reach 1.1 {}", shape.name, word(ratio, 1.1)),
        format!(
            "figure converge.{}-calls {calls_an_entry:.3} calls/entry yardstick - reach {} {}",
            shape.name,
            shape.calls_reach,
            word(calls_an_entry, shape.calls_reach)
        ),
    ]
}

fn main() {
    // In test mode it only has to be shown that it can measure.
    let pods = if std::env::args().any(|argument| argument == "--test") { 40 } else { 500 };
    let figures = shapes().map(|shape| measure(&shape, pods));
    for figure in figures.into_iter().flatten() {
        println!("{figure}");
    }
}
