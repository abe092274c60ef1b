//! One replica: a process that comes and goes, and the volume that stays.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use natgw::controller::step::{Controller, Head, Input, Now, Seen};
use natgw::machine::event::Record;
use natgw::machine::event::seen::{ClaimGone, PodGone};
use natgw::sandbox::cluster::Change;

use crate::volume::Volume;

/// What is under way for a process.
pub struct Flight {
    pub call: Pin<Box<dyn Future<Output = Input>>>,
    pub kind: Kind,
    /// It has been polled: its first call is sent.
    pub sent: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One mutating call to the cloud.
    Cloud,
    /// Calls to the API server, the first of which may change something.
    Cluster,
    List,
    Lease,
}

impl Flight {
    pub fn new(kind: Kind, call: impl Future<Output = Input> + 'static) -> Self {
        Self { call: Box::pin(call), kind, sent: false }
    }

    /// One suspension point further.
    pub fn poll(&mut self) -> Poll<Input> {
        self.sent = true;
        self.call.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    }
}

/// The clocks of one life.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    pub boot_ms: u64,
    /// Local milliseconds in a million true ones.
    pub rate: u64,
    pub wall_offset_ms: i64,
}

impl Clock {
    pub fn now(&self, true_ms: u64) -> Now {
        let wall_ms = i64::try_from(true_ms).expect("a simulated time") + self.wall_offset_ms;
        Now { monotonic_ms: (true_ms - self.boot_ms) * self.rate / 1_000_000, wall_ms }
    }

    /// The first true moment at which the local clock shows that time.
    pub fn at(&self, monotonic_ms: u64) -> u64 {
        let elapsed = u128::from(monotonic_ms) * 1_000_000;
        self.boot_ms + u64::try_from(elapsed.div_ceil(u128::from(self.rate))).expect("a simulated time")
    }
}

/// A process.
pub struct Process {
    /// Lives of all replicas are counted together, from 1.
    pub life: u64,
    pub controller: Controller,
    pub clock: Clock,
    pub flights: Vec<Flight>,
    pub watch: Watch,
    /// The group that the journal's thread has, and when it will be done with it.
    pub handed: Option<(Vec<Record>, u64)>,
    /// Groups that are durable and of which the step has not been told.
    pub written: Option<Head>,
    /// When the journal has been idle for long enough to be settled.
    pub settles_ms: Option<u64>,
    /// It does nothing until then.
    pub paused_until: u64,
    /// The last answer of the cloud is not journaled yet: the journal's head it waits for.
    pub answered: Option<u64>,
}

impl Process {
    pub fn is_awake(&self, now_ms: u64) -> bool {
        self.paused_until <= now_ms
    }

    /// When it has to be woken, in true time.
    pub fn due_ms(&self) -> Option<u64> {
        self.controller.poll_timeout().map(|at| self.clock.at(at).max(self.paused_until))
    }
}

/// A replica.
pub struct Replica {
    pub volume: Volume,
    pub process: Option<Process>,
    /// Volume and anchor were put back together: of that only the lock may tell.
    pub rolled_back: bool,
    /// When the process begins again.
    pub starts_ms: u64,
    /// It never begins again.
    pub dead: bool,
    /// Its volume has too little room until then.
    pub short_until: u64,
    /// Crashes that still follow at once.
    pub storm: u64,
    /// Records that the journal's thread has confirmed, in this journal: what must never be lost.
    pub acknowledged: u64,
    /// Starts since it last led, or since the world became calm.
    pub fruitless: u64,
}

/// What a watch has shown and will show.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    /// How far in the world's history pods have been shown, and PodDNATs.
    pub pods_at: usize,
    pub claims_at: usize,
    /// Nothing is shown until then.
    pub silent_until: u64,
    /// What is shown is at least this many changes old, until then.
    pub behind: (usize, u64),
    /// What exists as far as was shown.
    pods: BTreeSet<String>,
    claims: BTreeMap<String, (String, String)>,
}

impl Watch {
    /// What a change shows.
    pub fn show(&mut self, change: &Change) -> Seen {
        match change.clone() {
            Change::Pod(pod) => {
                self.pods.insert(pod.uid.clone());
                Seen::Pod(Box::new(pod))
            }
            Change::PodGone(gone) => {
                self.pods.remove(&gone.uid);
                Seen::PodGone(gone)
            }
            Change::Claim(claim) => {
                self.claims.insert(claim.uid.clone(), (claim.namespace.clone(), claim.name.clone()));
                Seen::Claim(Box::new(claim))
            }
            Change::ClaimGone(gone) => {
                self.claims.remove(&gone.uid);
                Seen::ClaimGone(gone)
            }
        }
    }

    /// What a watch shows that begins anew from a list: what is there no more has gone, the rest is shown again.
    pub fn begin_anew(&mut self, model: &natgw::sandbox::cluster::Model, at: usize) -> Vec<Seen> {
        let (pods, claims) = (std::mem::take(&mut self.pods), std::mem::take(&mut self.claims));
        (self.pods_at, self.claims_at) = (at, at);
        let there: Vec<Seen> = model
            .list_claims()
            .into_iter()
            .map(Change::Claim)
            .chain(model.list_pods().into_iter().map(Change::Pod))
            .map(|change| self.show(&change))
            .collect();
        let gone = pods.into_iter().filter(|uid| !self.pods.contains(uid));
        let mut seen: Vec<Seen> = gone.map(|uid| Seen::PodGone(PodGone { uid })).collect();
        let gone = claims.into_iter().filter(|(uid, _)| !self.claims.contains_key(uid));
        seen.extend(gone.map(|(uid, (namespace, name))| Seen::ClaimGone(ClaimGone { namespace, name, uid })));
        seen.extend(there);
        seen
    }
}
