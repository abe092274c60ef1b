//! Pods: how they come, become ready and go.
//!
//! A pod that is asked to go keeps its object: the containers end after `stop_ms` (at the end of the grace period with a
//! preStop hook), then the address is free, and after `removal_ms` the object goes. As on an API server, a pod that never
//! got an address, has finished, or is asked with a grace period of 0 goes at once.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use super::claims::refused;
use super::watch::Change;
use super::workloads::WorkloadKey;
use super::{Due, Model};
use crate::cluster::pod::{PodStatus, READINESS_GATE, STATUS_ANNOTATION, asking_annotations, declared_ports};
use crate::machine::event::seen::{PodGone, PodSeen};
use crate::machine::identity::PodKey;
use crate::ports::cluster::{ClusterError, ClusterErrorClass, PodMark};

/// What of a pod's specification matters here. It never changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodSpec {
    /// Declared container ports: port, IANA protocol number.
    pub ports: Vec<(u16, u8)>,
    /// The pod uses its node's network.
    pub host_network: bool,
    /// The pod runs on a virtual node.
    pub virtual_node: bool,
    /// Types of the readiness gates.
    pub gates: Vec<String>,
    /// terminationGracePeriodSeconds.
    pub grace_seconds: u32,
    /// A container has a preStop hook.
    pub pre_stop: bool,
}

/// The phase of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// It has no address yet.
    Pending,
    /// Its containers run.
    Running,
    /// Its containers ended well and for good.
    Succeeded,
    /// Its containers ended badly and for good.
    Failed,
}

/// The controller of a pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// API version.
    pub api_version: String,
    /// Kind.
    pub kind: String,
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
}

/// A condition that somebody set on a pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// It holds.
    pub status: bool,
    /// One word.
    pub reason: String,
    /// A sentence.
    pub message: String,
}

/// A pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pod {
    /// Namespace and name.
    pub key: PodKey,
    /// UID.
    pub uid: String,
    /// resourceVersion.
    pub version: u64,
    /// When it was created, machine time.
    pub created_ms: u64,
    /// Annotations, whoever set them.
    pub annotations: BTreeMap<String, String>,
    /// The specification.
    pub spec: PodSpec,
    /// The controller; none of a bare pod.
    pub owner: Option<Owner>,
    /// The address, also after it was given back.
    pub ip: Option<Ipv4Addr>,
    /// The phase.
    pub phase: Phase,
    /// All containers are ready.
    pub containers_ready: bool,
    /// The conditions that others set, by type.
    pub conditions: BTreeMap<String, Condition>,
    /// The grace period in milliseconds, once a deletion was asked for.
    pub deleting: Option<u64>,
    /// No container runs any more.
    pub containers_terminated: bool,
    /// Its place in the order of creation.
    pub(super) number: u64,
    /// The address is this pod's alone and has not been given back.
    pub holds_address: bool,
    /// What made it, and from which template.
    pub(super) workload: (WorkloadKey, String),
}

impl Pod {
    /// Ready: its containers are, and every readiness gate is satisfied.
    #[must_use]
    pub fn ready(&self) -> bool {
        let open = |gate: &String| self.conditions.get(gate).is_some_and(|condition| condition.status);
        self.phase == Phase::Running && self.containers_ready && self.spec.gates.iter().all(open)
    }

    /// Phase is Succeeded or Failed.
    #[must_use]
    pub const fn finished(&self) -> bool {
        matches!(self.phase, Phase::Succeeded | Phase::Failed)
    }

    /// Its workload counts on it: it is neither on its way out nor finished.
    #[must_use]
    pub const fn active(&self) -> bool {
        self.deleting.is_none() && !self.finished()
    }
}

/// What a pod is made from.
pub(super) struct Birth<'a> {
    pub(super) key: PodKey,
    pub(super) annotations: &'a BTreeMap<String, String>,
    pub(super) spec: &'a PodSpec,
    pub(super) owner: Option<Owner>,
    pub(super) workload: (WorkloadKey, String),
}

impl Model {
    /// Says on a pod how its mapping stands: annotation and, where asked, condition, two writes. What is there already is
    /// not written again.
    ///
    /// # Errors
    /// `Gone` if there is no pod of that name with that UID.
    pub fn mark_pod(&mut self, mark: &PodMark) -> Result<(), ClusterError> {
        let status = PodStatus::of(mark).map(|status| status.to_json());
        let condition = mark.ready.map(|status| Condition {
            status,
            reason: mark.reason.to_owned(),
            message: mark.message.clone(),
        });
        let Some(pod) = self.pods.get_mut(&mark.key).filter(|pod| pod.uid == mark.pod.as_str()) else {
            let message = format!("pod {} with UID {} does not exist", mark.key, mark.pod);
            return Err(refused("mark_pod", ClusterErrorClass::Gone, message));
        };
        let before = match status.clone() {
            Some(status) => pod.annotations.insert(STATUS_ANNOTATION.to_owned(), status),
            None => pod.annotations.remove(STATUS_ANNOTATION),
        };
        let annotated = before != status;
        if annotated {
            self.pod_written(&mark.key);
        }
        if let Some(condition) = condition
            && let Some(pod) = self.pods.get_mut(&mark.key)
            && pod.conditions.get(READINESS_GATE) != Some(&condition)
        {
            pod.conditions.insert(READINESS_GATE.to_owned(), condition);
            self.pod_written(&mark.key);
        }
        Ok(())
    }

    /// Creates a pod, unless there is one of that name or its namespace is being deleted: then its workload tries again
    /// when that has gone.
    pub(super) fn create_pod(&mut self, birth: Birth<'_>) -> bool {
        let Birth { key, annotations, spec, owner, workload } = birth;
        if self.pods.contains_key(&key) || self.ending.contains(key.namespace()) {
            return false;
        }
        let uid = self.next_uid();
        let pod = Pod {
            key: key.clone(),
            uid: uid.clone(),
            version: 0,
            created_ms: self.now_ms,
            annotations: annotations.clone(),
            spec: spec.clone(),
            owner,
            ip: None,
            phase: Phase::Pending,
            containers_ready: false,
            conditions: BTreeMap::new(),
            deleting: None,
            containers_terminated: false,
            number: self.created,
            holds_address: false,
            workload,
        };
        self.pods.insert(key.clone(), pod);
        self.names.insert(uid.clone(), key.clone());
        self.pod_written(&key);
        self.schedule(self.settings.start_ms, Due::Start(uid));
        true
    }

    /// Asks a pod to go, with the grace period given or its own. One that goes already is only hurried by a shorter one.
    pub(super) fn ask_pod_to_go(&mut self, key: &PodKey, grace_ms: Option<u64>) {
        let Some(pod) = self.pods.get_mut(key) else { return };
        let grace_ms = grace_ms.unwrap_or_else(|| u64::from(pod.spec.grace_seconds).saturating_mul(1000));
        let uid = pod.uid.clone();
        if grace_ms == 0 || pod.phase == Phase::Pending || pod.finished() {
            self.remove_pod(&uid);
            return;
        }
        if pod.deleting.is_some_and(|before| before <= grace_ms) {
            return;
        }
        pod.deleting = Some(grace_ms);
        let stop_ms = if pod.spec.pre_stop { grace_ms } else { grace_ms.min(self.settings.stop_ms) };
        self.pod_written(key);
        self.schedule(stop_ms, Due::Stop(uid));
        self.member_left(key);
    }

    pub(super) fn start_pod(&mut self, uid: &str) {
        let Some(key) = self.names.get(uid).cloned() else { return };
        let Some(pod) = self.pods.get_mut(&key).filter(|pod| pod.phase == Phase::Pending) else { return };
        let address = if pod.spec.host_network { self.addresses.node() } else { self.addresses.take() };
        let Some(address) = address else {
            self.addressless.insert((pod.number, uid.to_owned()));
            return;
        };
        pod.ip = Some(address);
        pod.holds_address = !pod.spec.host_network;
        pod.phase = Phase::Running;
        self.pod_written(&key);
        self.schedule(self.settings.warm_up_ms, Due::WarmUp(uid.to_owned()));
    }

    pub(super) fn warm_pod(&mut self, uid: &str) {
        let Some(key) = self.names.get(uid).cloned() else { return };
        let Some(pod) = self.pods.get_mut(&key) else { return };
        if pod.phase == Phase::Running && !pod.containers_terminated {
            pod.containers_ready = true;
            self.pod_written(&key);
        }
    }

    pub(super) fn stop_pod(&mut self, uid: &str) {
        let Some(key) = self.names.get(uid).cloned() else { return };
        let Some(pod) = self.pods.get_mut(&key).filter(|pod| !pod.containers_terminated) else { return };
        pod.containers_terminated = true;
        pod.containers_ready = false;
        self.give_address_back(&key);
        self.pod_written(&key);
        self.schedule(self.settings.removal_ms, Due::Remove(uid.to_owned()));
    }

    pub(super) fn remove_pod(&mut self, uid: &str) {
        let Some(key) = self.names.remove(uid) else { return };
        self.give_address_back(&key);
        let Some(pod) = self.pods.remove(&key) else { return };
        self.addressless.remove(&(pod.number, pod.uid.clone()));
        let version = self.next_version();
        self.history.record(version, Change::PodGone(PodGone { uid: pod.uid.clone() }));
        self.owner_gone(&pod.uid);
        self.member_removed(&pod);
        self.finish_namespace(key.namespace());
    }

    /// Gives back the address that a pod holds alone. Whoever waits longest for one starts next.
    pub(super) fn give_address_back(&mut self, key: &PodKey) {
        let Some(pod) = self.pods.get_mut(key).filter(|pod| pod.holds_address) else { return };
        pod.holds_address = false;
        if let Some(address) = pod.ip {
            self.addresses.release(address);
        }
        if let Some((_, uid)) = self.addressless.pop_first() {
            self.schedule(0, Due::Start(uid));
        }
    }

    /// A pod was written: it has a new version, and watches see it.
    pub(super) fn pod_written(&mut self, key: &PodKey) {
        let version = self.next_version();
        if let Some(pod) = self.pods.get_mut(key) {
            pod.version = version;
        }
        if let Some(seen) = self.pods.get(key).map(|pod| self.observe(pod)) {
            self.history.record(version, Change::Pod(seen));
        }
    }

    pub(super) fn observe(&self, pod: &Pod) -> PodSeen {
        let texts = pod.annotations.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        let (annotations, oversized) = asking_annotations(texts);
        let owner = pod.owner.clone();
        PodSeen {
            namespace: pod.key.namespace().to_string(),
            name: pod.key.name().to_string(),
            uid: pod.uid.clone(),
            ip: pod.ip,
            annotations,
            oversized,
            ports: declared_ports(pod.spec.ports.iter().copied()),
            host_network: pod.spec.host_network,
            virtual_node: pod.spec.virtual_node,
            terminal: pod.finished(),
            terminating_grace_ms: pod.deleting,
            containers_terminated: pod.containers_terminated,
            namespace_terminating: self.ending.contains(pod.key.namespace()),
            owner: owner.map(|Owner { api_version, kind, name, uid }| (api_version, kind, name, uid)),
            gate: pod.spec.gates.iter().any(|gate| gate == READINESS_GATE),
            created_wall_ms: self.wall_ms(pod.created_ms).div_euclid(1000).saturating_mul(1000),
        }
    }
}
