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
