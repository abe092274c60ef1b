//! A pure model of a Kubernetes cluster: an API server with its rules, the controllers behind workloads and garbage
//! collection, and a kubelet on every node, as far as natgw can notice them.
//!
//! Synchronous and deterministic: no clock, no I/O, no chance. Time is an argument and never goes back; equal calls in
//! equal order give equal answers. Where a real cluster may do one of two things, the model does the one that is harder
//! to live with: an address is free for the next pod as soon as the containers have stopped, while its old pod can still
//! be seen; garbage collection comes late; a write against a stale version is refused; a watch that fell behind must list
//! again.
//!
//! Serialised, it is the whole cluster but the past that watches read: a watch begun before a restart must list again.
//!
//! Deliberately absent: ReplicaSets and StatefulSets as objects, ordered start and stop of StatefulSets (all their pods
//! come and go in parallel), rolling updates that wait for readiness (each new pod is created just before its old one is
//! deleted), probes, restarts, scheduling, admission webhooks, field ownership, and foreground deletion.

mod address;
mod claims;
mod hand;
mod lease;
mod manifest;
mod pods;
mod port;
mod said;
mod watch;
mod workloads;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use self::manifest::{Manifest, ManifestError};
pub use self::pods::{Condition, Owner, Phase, Pod, PodSpec};
pub use self::port::{Faults, SimulatedCluster};
pub use self::said::PodEvent;
pub use self::watch::{Change, Changes, TooOld};
pub use self::workloads::{Action, WorkloadKey, WorkloadKind};

use self::address::Addresses;
use self::lease::StoredLease;
use self::said::Said;
use self::watch::History;
use self::workloads::Workload;
use crate::cluster::poddnat::{Kept, PodDnat, claim_of};
use crate::machine::event::seen::{ClaimSeen, PodSeen};
use crate::machine::identity::PodKey;
use crate::sandbox::as_list;
use crate::sandbox::vpc::Cidr;

/// What a cluster is made with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// UID of the namespace kube-system: every other UID is derived from it.
    pub cluster_uid: String,
    /// Wall time at machine time 0, milliseconds since 1970-01-01 UTC. Only for creationTimestamp and its like.
    pub epoch_wall_ms: i64,
    /// The blocks that pods take addresses from, in turn. A host-network pod has the last host address of its block.
    pub blocks: Vec<Cidr>,
    /// From a pod's creation to its address, in milliseconds.
    pub start_ms: u64,
    /// From its address to the readiness of its containers.
    pub warm_up_ms: u64,
    /// From the request to delete a pod to the end of its containers, unless a preStop hook is declared (then the whole
    /// grace period) or the grace period is shorter: containers that stop at once, as most do on SIGTERM.
    pub stop_ms: u64,
    /// From the end of the containers to the end of the pod object. The address is free as soon as the containers ended.
    pub removal_ms: u64,
    /// From the end of an owner to the request to delete what it owned.
    pub collection_ms: u64,
}

impl Settings {
    /// Two zones as in the simulated VPC, pods that take half a second to come and two seconds to go.
    #[must_use]
    pub fn new(cluster_uid: impl Into<String>) -> Self {
        Self {
            cluster_uid: cluster_uid.into(),
            epoch_wall_ms: 0,
            blocks: vec![Cidr::new([172, 16, 0, 0].into(), 16), Cidr::new([172, 17, 0, 0].into(), 16)],
            start_ms: 200,
            warm_up_ms: 300,
            stop_ms: 1_000,
            removal_ms: 1_000,
            collection_ms: 500,
        }
    }
}

/// The cluster.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Model {
    settings: Settings,
    now_ms: u64,
    /// The resourceVersion of the last write, whatever it wrote.
    version: u64,
    /// Objects ever created: the counter behind UIDs and generated names.
    created: u64,
    #[serde(with = "as_list")]
    pods: BTreeMap<PodKey, Pod>,
    names: BTreeMap<String, PodKey>,
    #[serde(with = "as_list")]
    claims: BTreeMap<PodKey, PodDnat>,
    /// PodDNATs by the UID of each owner that they name.
    owned: BTreeMap<String, BTreeSet<PodKey>>,
    #[serde(with = "as_list")]
    workloads: BTreeMap<WorkloadKey, Workload>,
    /// UIDs of what owns pods: StatefulSets and ReplicaSets.
    controllers: BTreeSet<String>,
    addresses: Addresses,
    /// Pods that found no free address, in order of creation.
    addressless: BTreeSet<(u64, String)>,
    /// Namespaces that are being deleted.
    ending: BTreeSet<String>,
    #[serde(with = "as_list")]
    due: BTreeMap<(u64, u64), Due>,
    scheduled: u64,
    lease: Option<StoredLease>,
    said: Said,
    history: History,
}

/// What happens by itself, when its time has come. Each names its object by UID: what has gone by then is passed over.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Due {
    /// A pod gets its address and runs.
    Start(String),
    /// Its containers are ready.
    WarmUp(String),
    /// Its containers have ended.
    Stop(String),
    /// Its object goes.
    Remove(String),
    /// The owners of a PodDNAT are looked at.
    Collect(PodKey, String),
}

impl Model {
    /// An empty cluster at machine time 0.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let addresses = Addresses::new(&settings.blocks);
        Self {
            settings,
            now_ms: 0,
            version: 0,
            created: 0,
            pods: BTreeMap::new(),
            names: BTreeMap::new(),
            claims: BTreeMap::new(),
            owned: BTreeMap::new(),
            workloads: BTreeMap::new(),
            controllers: BTreeSet::new(),
            addresses,
            addressless: BTreeSet::new(),
            ending: BTreeSet::new(),
            due: BTreeMap::new(),
            scheduled: 0,
            lease: None,
            said: Said::default(),
            history: History::default(),
        }
    }

    /// UID of the namespace kube-system.
    #[must_use]
    pub fn cluster_uid(&self) -> &str {
        &self.settings.cluster_uid
    }

    /// The last moment that it was told of.
    #[must_use]
    pub const fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// Lets time pass: what is due by then happens, in order of time. A moment that has passed already changes nothing.
    pub fn advance(&mut self, now_ms: u64) {
        while let Some(entry) = self.due.first_entry() {
            let (due_ms, _) = *entry.key();
            if due_ms > now_ms {
                break;
            }
            let due = entry.remove();
            self.now_ms = self.now_ms.max(due_ms);
            match due {
                Due::Start(uid) => self.start_pod(&uid),
                Due::WarmUp(uid) => self.warm_pod(&uid),
                Due::Stop(uid) => self.stop_pod(&uid),
                Due::Remove(uid) => self.remove_pod(&uid),
                Due::Collect(key, uid) => self.collect(&key, &uid),
            }
        }
        self.now_ms = self.now_ms.max(now_ms);
    }

    /// When something happens by itself next; `None` where everything waits for somebody.
    #[must_use]
    pub fn next_due(&self) -> Option<u64> {
        self.due.first_key_value().map(|((due_ms, _), _)| *due_ms)
    }

    /// The resourceVersion of the last write: where a watch begins that follows a list made now.
    #[must_use]
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// What was written to pods and PodDNATs after a version, in order, every write once: as a watch shows them, also
    /// those that show nothing new. Costs what it answers.
    ///
    /// # Errors
    /// Fails when that version is too far back, or was never given out: the caller must list again.
    pub fn changes_since(&self, version: u64) -> Result<Changes, TooOld> {
        self.history.since(version, self.version)
    }

    /// All pods, by namespace and name.
    #[must_use]
    pub fn list_pods(&self) -> Vec<PodSeen> {
        self.pods.values().map(|pod| self.observe(pod)).collect()
    }

    /// All PodDNATs, by namespace and name.
    #[must_use]
    pub fn list_claims(&self) -> Vec<ClaimSeen> {
        self.claims.values().map(|object| claim_of(object, Kept::ALL)).collect()
    }

    /// All pods as objects, by namespace and name.
    pub fn pods(&self) -> impl Iterator<Item = &Pod> {
        self.pods.values()
    }

    /// One pod.
    #[must_use]
    pub fn pod(&self, key: &PodKey) -> Option<&Pod> {
        self.pods.get(key)
    }

    /// All PodDNATs as objects, by namespace and name.
    pub fn poddnats(&self) -> impl Iterator<Item = &PodDnat> {
        self.claims.values()
    }

    /// The Events on pods that have not expired, the oldest first.
    pub fn pod_events(&self) -> impl Iterator<Item = &PodEvent> {
        self.said.all()
    }

    fn next_version(&mut self) -> u64 {
        self.version = self.version.saturating_add(1);
        self.version
    }

    fn next_uid(&mut self) -> String {
        self.created = self.created.saturating_add(1);
        let cluster = &self.settings.cluster_uid;
        let namespace =
            Uuid::try_parse(cluster).unwrap_or_else(|_| Uuid::new_v5(&Uuid::NAMESPACE_OID, cluster.as_bytes()));
        Uuid::new_v5(&namespace, self.created.to_string().as_bytes()).to_string()
    }

    fn wall_ms(&self, machine_ms: u64) -> i64 {
        self.settings.epoch_wall_ms.saturating_add(i64::try_from(machine_ms).unwrap_or(i64::MAX))
    }

    fn wall_text(&self) -> String {
        crate::cluster::timestamp(self.wall_ms(self.now_ms))
    }

    fn schedule(&mut self, after_ms: u64, due: Due) {
        self.scheduled = self.scheduled.saturating_add(1);
        self.due.insert((self.now_ms.saturating_add(after_ms), self.scheduled), due);
    }

    /// A namespace that is being deleted ends with its last object.
    fn finish_namespace(&mut self, namespace: &str) {
        if !self.ending.contains(namespace) {
            return;
        }
        let first = PodKey::new(namespace, "");
        let pods = self.pods.range(&first..).next().is_some_and(|(key, _)| *key.namespace() == *namespace);
        let claims = self.claims.range(&first..).next().is_some_and(|(key, _)| *key.namespace() == *namespace);
        if !pods && !claims {
            self.ending.remove(namespace);
        }
    }
}

#[cfg(test)]
mod tests;
