//! One world from one plan: production machine, step and executor between the pure models of cloud and cluster, as often
//! as there are replicas, each on a volume of its own. No runtime, no clock, no I/O.
//!
//! One step is one thing that happens: a call gets one suspension point further, a group becomes durable, a watch shows
//! something, time passes, a user wants something, or something goes wrong.

mod lives;
mod passing;
mod told;
mod turns;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use natgw::machine::event::Record;
use natgw::machine::identity::PodKey;
use natgw::machine::state::State;
use natgw::sandbox::cluster::{Change, Model, Settings, SimulatedCluster};
use natgw::sandbox::vpc::{FaultKind, Faults as CloudFaults, LedgerLine, SimulatedCloud, Vpc, World as CloudWorld};

use crate::dice::Dice;
use crate::disk::Image;
use crate::faults::{Fault, Faults};
use crate::invariants::Checker;
use crate::mutants::Mutant;
use crate::plan::{Plan, configuration};
use crate::replica::{Flight, Kind, Process, Replica};
use crate::volume::Volume;
use crate::wire::{Call, Outside};
use crate::workload::{Wish, Wishes};

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

    /// A world in which nothing goes wrong and one Deployment has that many pods, with room for all of them. It has no resync:
    /// that reads the whole cluster, so it costs its size, and whether it falls into what is measured is chance.
    pub fn roomy(pods: u32) -> Self {
        let mut configuration = configuration(65_535);
        configuration.settings.resync_ms = u64::from(u32::MAX);
        let mut world = Self::new(Plan { configuration, ..Plan::calm() });
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
