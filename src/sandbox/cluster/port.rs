//! The model behind the cluster port, for a simulator that polls its futures itself.
//!
//! A call is one suspension, as in the simulated cloud's port. **First poll**: the request is sent and takes effect at
//! once, and the future returns `Pending`. **Second poll**: the reply is received. A future dropped before its first poll
//! sent nothing; one dropped between the two lost a reply whose effect stands. The waker is called before `Pending` is
//! returned, so that a real runtime polls again; a simulator polls when it likes and so decides how long a call takes.
//!
//! Lists are consistent reads: each shows the cluster as it is at the first poll. Stale lists are not modelled, for the
//! port promises none.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use super::Model;
use super::claims::refused;
use crate::machine::event::seen::{ClaimSeen, PodSeen};
use crate::machine::identity::PodKey;
use crate::ports::cluster::{
    ClaimFound, Cluster, ClusterError, ClusterErrorClass, Lease, LeaseRecord, Mapping, PodMark, Publication,
};
use crate::sandbox::vpc::rng::Rng;

/// How often calls go wrong, each in a million. All zero by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// The request never arrives: `Unknown`, and nothing happened.
    pub lost_request: u32,
    /// The reply never arrives: `Unknown`, and it happened.
    pub lost_reply: u32,
    /// The API server has no time: `Busy`, and nothing happened.
    pub busy: u32,
    /// Somebody else writes the object just before a write over what was found, so that it meets a true `Conflict`.
    pub conflict: u32,
}

/// The cluster port, and the lease port, over a shared model and a shared clock. Clones share the faults, too.
#[derive(Clone, Debug)]
pub struct SimulatedCluster {
    model: Rc<RefCell<Model>>,
    now_ms: Rc<Cell<u64>>,
    faults: Rc<Cell<Faults>>,
    rng: Rc<RefCell<Rng>>,
}

/// The annotation that a conflicting writer counts in.
const RIVAL: &str = "example.com/edited";

impl SimulatedCluster {
    /// A port to that model, without faults. The clock is read when a request is sent, and the model is advanced to it.
    #[must_use]
    pub fn new(model: Rc<RefCell<Model>>, now_ms: Rc<Cell<u64>>) -> Self {
        Self::with_faults(model, now_ms, Faults::default(), 0)
    }

    /// A port to that model with faults that follow from the seed and the order of calls.
    #[must_use]
    pub fn with_faults(model: Rc<RefCell<Model>>, now_ms: Rc<Cell<u64>>, faults: Faults, seed: u64) -> Self {
        Self { model, now_ms, faults: Rc::new(Cell::new(faults)), rng: Rc::new(RefCell::new(Rng::new(seed))) }
    }

    /// Changes how often calls go wrong from now on, for all clones.
    pub fn set_faults(&self, faults: Faults) {
        self.faults.set(faults);
    }

    async fn call<T>(
        &self,
        call: &'static str,
        over: Option<&PodKey>,
        act: impl FnOnce(&mut Model) -> Result<T, ClusterError>,
    ) -> Result<T, ClusterError> {
        let mut request = Some(act);
        let mut reply = None;
        poll_fn(|context| {
            if let Some(act) = request.take() {
                reply = Some(self.send(call, over, act));
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            reply.take().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    fn send<T>(
        &self,
        call: &'static str,
        over: Option<&PodKey>,
        act: impl FnOnce(&mut Model) -> Result<T, ClusterError>,
    ) -> Result<T, ClusterError> {
        let mut model = self.model.borrow_mut();
        model.advance(self.now_ms.get());
        let (faults, mut rng) = (self.faults.get(), self.rng.borrow_mut());
        // Every draw is made on every call, so that one fault more or less does not move the others.
        let [lost_request, lost_reply, busy, conflict] =
            [faults.lost_request, faults.lost_reply, faults.busy, faults.conflict].map(|rate| rng.happens(rate));
        let unknown = || refused(call, ClusterErrorClass::Unknown, "no answer arrived in time".to_owned());
        if lost_request {
            return Err(unknown());
        }
        if busy {
            let message = "the API server is overloaded (429 TooManyRequests)".to_owned();
            return Err(refused(call, ClusterErrorClass::Busy, message));
        }
        if let Some(key) = over.filter(|_| conflict) {
            let version = model.version().to_string();
            model.edit_claim(key, |object| {
                object.metadata.annotations.insert(RIVAL.to_owned(), version);
            });
        }
        let reply = act(&mut model);
        if lost_reply { Err(unknown()) } else { reply }
    }
}

impl Cluster for SimulatedCluster {
    async fn list_pods(&self) -> Result<Vec<PodSeen>, ClusterError> {
        self.call("list_pods", None, |model| Ok(model.list_pods())).await
    }

    async fn list_claims(&self) -> Result<Vec<ClaimSeen>, ClusterError> {
        self.call("list_claims", None, |model| Ok(model.list_claims())).await
    }

    async fn read_claim(&self, key: &PodKey) -> Result<Option<ClaimFound>, ClusterError> {
        self.call("read_claim", None, |model| Ok(model.read_claim(key))).await
    }

    async fn create_claim(&self, mapping: &Mapping) -> Result<ClaimFound, ClusterError> {
        self.call("create_claim", None, |model| model.create_claim(mapping)).await
    }

    async fn replace_claim(&self, mapping: &Mapping, found: &ClaimFound) -> Result<ClaimFound, ClusterError> {
        self.call("replace_claim", Some(&mapping.key), |model| model.replace_claim(mapping, found)).await
    }

    async fn write_status(&self, publication: &Publication, found: &ClaimFound) -> Result<(), ClusterError> {
        self.call("write_status", Some(&publication.key), |model| model.write_status(publication, found)).await
    }

    async fn delete_claim(&self, key: &PodKey, uid: &str) -> Result<(), ClusterError> {
        self.call("delete_claim", None, |model| {
            model.delete_claim(key, uid);
            Ok(())
        })
        .await
    }

    async fn strip_finalizer(&self, key: &PodKey, found: &ClaimFound) -> Result<(), ClusterError> {
        self.call("strip_finalizer", Some(key), |model| model.strip_finalizer(key, found)).await
    }

    async fn mark_pod(&self, mark: &PodMark) -> Result<(), ClusterError> {
        self.call("mark_pod", None, |model| model.mark_pod(mark)).await
    }

    async fn announce(&self, mark: &PodMark) -> Result<(), ClusterError> {
        self.call("announce", None, |model| {
            model.announce(mark);
            Ok(())
        })
        .await
    }
}

impl Lease for SimulatedCluster {
    async fn read_lease(&self) -> Result<LeaseRecord, ClusterError> {
        self.call("read_lease", None, |model| Ok(model.read_lease())).await
    }

    async fn write_lease(&self, record: &LeaseRecord) -> Result<LeaseRecord, ClusterError> {
        self.call("write_lease", None, |model| model.write_lease(record)).await
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;
    use crate::sandbox::cluster::Settings;

    const ALWAYS: u32 = 1_000_000;

    fn port() -> SimulatedCluster {
        let model = Model::new(Settings::new("cluster"));
        SimulatedCluster::new(Rc::new(RefCell::new(model)), Rc::new(Cell::new(0)))
    }

    /// Polls to the end and says how many polls it took.
    fn finish<T>(future: impl Future<Output = T>) -> (T, u32) {
        let (mut future, mut context) = (pin!(future), Context::from_waker(Waker::noop()));
        let mut polls = 0;
        loop {
            polls += 1;
            assert!(polls < 10, "the future does not end");
            if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
                return (value, polls);
            }
        }
    }

    fn record(term: u64, over: &LeaseRecord) -> LeaseRecord {
        LeaseRecord { term, ..over.clone() }
    }

    #[test]
    fn the_effect_comes_with_the_first_poll_and_the_reply_with_the_second() {
        let port = port();
        let empty = LeaseRecord::default();
        let first = record(1, &empty);
        drop(port.write_lease(&first));
        assert_eq!(port.model.borrow().read_lease(), empty, "a future that was never polled sent nothing");
        {
            let mut future = pin!(port.write_lease(&first));
            let mut context = Context::from_waker(Waker::noop());
            assert!(future.as_mut().poll(&mut context).is_pending());
        }
        assert_eq!(port.model.borrow().read_lease().term, 1, "the reply is lost and the effect stands");
        let (read, polls) = finish(port.read_lease());
        assert_eq!((read.unwrap().term, polls), (1, 2));
    }

    #[test]
    fn the_clock_is_read_when_the_request_is_sent() {
        let port = port();
        port.now_ms.set(77);
        finish(port.list_pods()).0.unwrap();
        assert_eq!(port.model.borrow().now_ms(), 77);
    }

    #[test]
    fn lost_and_busy_calls_say_what_may_be_concluded_and_no_more() {
        let port = port();
        let empty = LeaseRecord::default();
        let ended = |faults, term| {
            port.clone().set_faults(faults);
            let over = port.model.borrow().read_lease();
            let class = finish(port.write_lease(&record(term, &over))).0.map_err(|error| error.class);
            (class.err(), port.model.borrow().read_lease().term)
        };
        let none = Faults::default();
        assert_eq!(ended(Faults { lost_request: ALWAYS, ..none }, 1), (Some(ClusterErrorClass::Unknown), empty.term));
        assert_eq!(ended(Faults { busy: ALWAYS, ..none }, 2), (Some(ClusterErrorClass::Busy), empty.term));
        assert_eq!(ended(Faults { lost_reply: ALWAYS, ..none }, 3), (Some(ClusterErrorClass::Unknown), 3));
        assert_eq!(ended(none, 4), (None, 4));
    }

    #[test]
    fn a_conflict_is_a_true_one() {
        let port = port();
        let mapping = Mapping {
            key: PodKey::new("default", "a"),
            pod: "u".into(),
            allocation: (1, 1).into(),
            fixed: true,
            gateway: "ngw-1".into(),
            table: "ftb-1".into(),
            eip: [203, 0, 113, 1].into(),
            ip: [172, 16, 0, 1].into(),
            eni: "e".into(),
            vswitch: "v".into(),
            zone: "z".into(),
            items: Vec::new(),
            owner: None,
            absent_since_wall_ms: None,
            adopted: crate::ports::cluster::Adopted::default(),
            releasing: Vec::new(),
        };
        let found = finish(port.create_claim(&mapping)).0.unwrap();
        port.set_faults(Faults { conflict: ALWAYS, ..Faults::default() });
        let refused = finish(port.strip_finalizer(&mapping.key, &found)).0.unwrap_err();
        assert_eq!(refused.class, ClusterErrorClass::Conflict);
        port.set_faults(Faults::default());
        let again = finish(port.read_claim(&mapping.key)).0.unwrap().unwrap();
        assert_ne!(again.resource_version, found.resource_version, "somebody wrote");
        finish(port.strip_finalizer(&mapping.key, &again)).0.unwrap();
    }

    #[test]
    fn one_seed_gives_one_run() {
        let run = |seed| {
            let faults = Faults { lost_reply: ALWAYS / 2, busy: ALWAYS / 4, ..Faults::default() };
            let port = SimulatedCluster { rng: Rc::new(RefCell::new(Rng::new(seed))), ..port() };
            port.set_faults(faults);
            (0..64).map(|_| finish(port.list_claims()).0.map_err(|error| error.class)).collect::<Vec<_>>()
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
    }
}
