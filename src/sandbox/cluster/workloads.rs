//! Workloads: what the manifests ask for, and the controllers that keep pods at it.
//!
//! Applying takes effect as a whole or not at all. Scaling down takes pods without address first, then unready ones,
//! then the youngest, then by name, as a ReplicaSet ranks them; a StatefulSet loses its highest ordinals. A changed
//! template replaces pods: of a Deployment each new one before its old one, of a StatefulSet or a bare pod under the same
//! name as soon as the old one has gone. Changed annotations of a bare pod change it in place.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::manifest::{self, Manifest, ManifestError, Wanted};
use super::pods::{Birth, Owner, Phase, Pod};
use super::{Due, Model};
use crate::machine::identity::PodKey;

/// Letters and digits of generated names: Kubernetes' own, which spell no words.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// The longest base of a generated name: 63 less five characters. What is longer is cut, as the API server does.
const BASE_BYTES_MAX: usize = 58;

/// The kind of a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum WorkloadKind {
    /// apps/v1 Deployment.
    Deployment,
    /// v1 Pod.
    Pod,
    /// apps/v1 StatefulSet.
    StatefulSet,
}

/// Kind, namespace and name of a workload.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct WorkloadKey {
    /// The kind.
    pub kind: WorkloadKind,
    /// Namespace and name.
    pub name: PodKey,
}

impl fmt::Display for WorkloadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            WorkloadKind::Deployment => "deployment.apps",
            WorkloadKind::Pod => "pod",
            WorkloadKind::StatefulSet => "statefulset.apps",
        };
        write!(f, "{kind} {}", self.name)
    }
}

/// What applying did to a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It is new.
    Created,
    /// It changed.
    Configured,
    /// It left the manifests.
    Deleted,
}

/// A workload as it stands.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Workload {
    wanted: Wanted,
    uid: String,
    /// UIDs of the ReplicaSets that a Deployment has had, by the hash of their template.
    replica_sets: BTreeMap<String, String>,
    /// Pods that count: neither on their way out nor finished.
    active: BTreeSet<PodKey>,
    /// A bare pod is to be created as soon as its name is free.
    due: bool,
}

impl Model {
    /// Makes the manifests the desired state: creates, scales, replaces what changed, and removes what is not in them.
    /// Answers what changed, in order of kind, namespace and name.
    ///
    /// # Errors
    /// Fails when any document cannot be taken, with every reason found; then nothing has changed.
    pub fn apply_manifests(
        &mut self,
        manifests: &[Manifest],
        now_ms: u64,
    ) -> Result<Vec<(WorkloadKey, Action)>, Vec<ManifestError>> {
        self.advance(now_ms);
        let wanted = manifest::read_all(manifests, &self.ending)?;
        let gone: Vec<_> = self.workloads.keys().filter(|key| !wanted.contains_key(*key)).cloned().collect();
        let mut actions = BTreeMap::new();
        for key in gone {
            self.remove_workload(&key);
            actions.insert(key, Action::Deleted);
        }
        for (key, wanted) in wanted {
            let action = match self.workloads.get(&key) {
                None => Some(Action::Created),
                Some(before) if before.wanted != wanted => Some(Action::Configured),
                Some(_) => None,
            };
            self.keep_workload(&key, wanted);
            if let Some(action) = action {
                actions.insert(key, action);
            }
        }
        Ok(actions.into_iter().collect())
    }

    pub(super) fn remove_workload(&mut self, key: &WorkloadKey) {
        let Some(workload) = self.workloads.remove(key) else { return };
        for uid in workload.replica_sets.into_values().chain([workload.uid]) {
            self.controllers.remove(&uid);
            self.owner_gone(&uid);
        }
        for pod in workload.active {
            self.ask_pod_to_go(&pod, None);
        }
    }

    /// A pod of a workload is on its way out or has finished: a Deployment makes another at once.
    pub(super) fn member_left(&mut self, key: &PodKey) {
        let Some((owner, _)) = self.pods.get(key).map(|pod| pod.workload.clone()) else { return };
        let Some(workload) = self.workloads.get_mut(&owner) else { return };
        workload.active.remove(key);
        if owner.kind == WorkloadKind::Deployment {
            self.top_up(&owner);
        }
    }

    /// A pod has gone, so its name is free: whoever wants the name takes it.
    pub(super) fn member_removed(&mut self, pod: &Pod) {
        let (owner, _) = &pod.workload;
        if let Some(workload) = self.workloads.get_mut(owner) {
            workload.active.remove(&pod.key);
        }
        if owner.kind == WorkloadKind::Deployment {
            self.top_up(owner);
        }
        self.create_bare(&WorkloadKey { kind: WorkloadKind::Pod, name: pod.key.clone() });
        if let Some((set, ordinal)) = ordinal_of(&pod.key) {
            self.create_ordinal(&WorkloadKey { kind: WorkloadKind::StatefulSet, name: set }, ordinal);
        }
    }

    fn keep_workload(&mut self, key: &WorkloadKey, wanted: Wanted) {
        if !self.workloads.contains_key(key) {
            let uid = self.next_uid();
            let workload = Workload {
                wanted: wanted.clone(),
                uid: uid.clone(),
                replica_sets: BTreeMap::new(),
                active: BTreeSet::new(),
                due: false,
            };
            self.workloads.insert(key.clone(), workload);
            if key.kind == WorkloadKind::StatefulSet {
                self.controllers.insert(uid);
            }
        }
        let Some(workload) = self.workloads.get_mut(key) else { return };
        let before = std::mem::replace(&mut workload.wanted, wanted);
        match key.kind {
            WorkloadKind::Deployment => self.keep_deployment(key),
            WorkloadKind::StatefulSet => self.keep_stateful_set(key),
            WorkloadKind::Pod => self.keep_bare(key, &before),
        }
    }

    fn keep_deployment(&mut self, key: &WorkloadKey) {
        let Some(workload) = self.workloads.get(key) else { return };
        let (replicas, hash) = (workload.wanted.replicas, workload.wanted.hash.clone());
        if !workload.replica_sets.contains_key(&hash) {
            let uid = self.next_uid();
            self.controllers.insert(uid.clone());
            if let Some(workload) = self.workloads.get_mut(key) {
                workload.replica_sets.insert(hash.clone(), uid);
            }
        }
        let (current, outdated): (Vec<_>, Vec<_>) =
            self.ranked(key).into_iter().partition(|pod| self.template_of(pod) == Some(hash.as_str()));
        let mut missing = usize::try_from(replicas).unwrap_or(usize::MAX).saturating_sub(current.len());
        for pod in outdated {
            if missing > 0 {
                missing -= 1;
                self.create_replica(key);
            }
            self.ask_pod_to_go(&pod, None);
        }
        let surplus = current.len().saturating_sub(usize::try_from(replicas).unwrap_or(usize::MAX));
        for pod in current.into_iter().take(surplus) {
            self.ask_pod_to_go(&pod, None);
        }
        self.top_up(key);
    }

    fn keep_stateful_set(&mut self, key: &WorkloadKey) {
        let Some(workload) = self.workloads.get(key) else { return };
        let (replicas, hash) = (workload.wanted.replicas, workload.wanted.hash.clone());
        let (mut leaving, mut present) = (Vec::new(), BTreeSet::new());
        for pod in &workload.active {
            let ordinal = ordinal_of(pod).map(|(_, ordinal)| ordinal);
            match ordinal {
                Some(ordinal) if ordinal < replicas && self.template_of(pod) == Some(hash.as_str()) => {
                    present.insert(ordinal);
                }
                Some(_) | None => leaving.push((Reverse(ordinal), pod.clone())),
            }
        }
        leaving.sort();
        for (_, pod) in leaving {
            self.ask_pod_to_go(&pod, None);
        }
        for ordinal in (0..replicas).filter(|ordinal| !present.contains(ordinal)) {
            self.create_ordinal(key, ordinal);
        }
    }

    fn keep_bare(&mut self, key: &WorkloadKey, before: &Wanted) {
        let Some(workload) = self.workloads.get_mut(key) else { return };
        let wanted = workload.wanted.clone();
        let standing = self.pods.get_mut(&key.name).filter(|pod| pod.workload.0 == *key && pod.deleting.is_none());
        match standing {
            Some(pod) if pod.workload.1 == wanted.hash => {
                let mut annotations = pod.annotations.clone();
                annotations.retain(|name, _| !before.annotations.contains_key(name));
                annotations.extend(wanted.annotations);
                if annotations != pod.annotations {
                    pod.annotations = annotations;
                    self.pod_written(&key.name);
                }
            }
            Some(_) => {
                workload.due = true;
                self.ask_pod_to_go(&key.name, None);
            }
            None => {
                workload.due = true;
                self.create_bare(key);
            }
        }
    }

    fn create_bare(&mut self, key: &WorkloadKey) {
        let Some(workload) = self.workloads.get(key).filter(|workload| workload.due) else { return };
        let wanted = workload.wanted.clone();
        let created = self.bear(key, key.name.clone(), &wanted, None);
        if let Some(workload) = self.workloads.get_mut(key) {
            workload.due = !created;
        }
    }

    fn create_ordinal(&mut self, key: &WorkloadKey, ordinal: u32) {
        let Some(workload) = self.workloads.get(key).filter(|workload| ordinal < workload.wanted.replicas) else {
            return;
        };
        let (wanted, uid) = (workload.wanted.clone(), workload.uid.clone());
        let owner = Owner {
            api_version: "apps/v1".to_owned(),
            kind: "StatefulSet".to_owned(),
            name: key.name.name().to_string(),
            uid,
        };
        let name = format!("{}-{ordinal}", key.name.name());
        self.bear(key, PodKey::new(key.name.namespace(), name), &wanted, Some(owner));
    }

    fn create_replica(&mut self, key: &WorkloadKey) -> bool {
        let Some(workload) = self.workloads.get(key) else { return false };
        let wanted = workload.wanted.clone();
        let Some(uid) = workload.replica_sets.get(&wanted.hash).cloned() else { return false };
        let set = format!("{}-{}", key.name.name(), wanted.hash);
        let owner = Owner {
            api_version: "apps/v1".to_owned(),
            kind: "ReplicaSet".to_owned(),
            name: set.clone(),
            uid: uid.clone(),
        };
        let base: String = format!("{set}-").chars().take(BASE_BYTES_MAX).collect();
        let mut attempt = 0_u64;
        let name = loop {
            let suffix = letters(&format!("{uid}/{}/{attempt}", self.created), 5);
            let name = PodKey::new(key.name.namespace(), format!("{base}{suffix}"));
            if !self.pods.contains_key(&name) {
                break name;
            }
            attempt = attempt.saturating_add(1);
        };
        self.bear(key, name, &wanted, Some(owner))
    }

    fn top_up(&mut self, key: &WorkloadKey) {
        while let Some(workload) = self.workloads.get(key) {
            let full = usize::try_from(workload.wanted.replicas).is_ok_and(|want| workload.active.len() >= want);
            if full || !self.create_replica(key) {
                break;
            }
        }
    }

    fn bear(&mut self, key: &WorkloadKey, name: PodKey, wanted: &Wanted, owner: Option<Owner>) -> bool {
        let created = self.create_pod(Birth {
            key: name.clone(),
            annotations: &wanted.annotations,
            spec: &wanted.spec,
            owner,
            workload: (key.clone(), wanted.hash.clone()),
        });
        if let Some(workload) = self.workloads.get_mut(key).filter(|_| created) {
            workload.active.insert(name);
        }
        created
    }

    /// The pods of a workload that count, the first to go first.
    fn ranked(&self, key: &WorkloadKey) -> Vec<PodKey> {
        let active = self.workloads.get(key).into_iter().flat_map(|workload| &workload.active);
        let mut ranked: Vec<_> = active.filter_map(|pod| self.pods.get(pod)).collect();
        ranked.sort_by_key(|pod| (pod.phase != Phase::Pending, pod.ready(), Reverse(pod.created_ms), &pod.key));
        ranked.into_iter().map(|pod| pod.key.clone()).collect()
    }

    fn template_of(&self, pod: &PodKey) -> Option<&str> {
        self.pods.get(pod).map(|pod| pod.workload.1.as_str())
    }

    /// An owner has gone: what names it is looked at, later.
    pub(super) fn owner_gone(&mut self, uid: &str) {
        let owned: Vec<_> = self.owned.get(uid).into_iter().flatten().cloned().collect();
        for key in owned {
            if let Some(uid) = self.claims.get(&key).map(|claim| claim.metadata.uid.clone()) {
                self.schedule(self.settings.collection_ms, Due::Collect(key, uid));
            }
        }
    }
}

/// Letters that follow from a text alone.
pub(super) fn letters(text: &str, count: usize) -> String {
    let hash = blake3::hash(text.as_bytes());
    let letter = |byte: &u8| ALPHABET.get(usize::from(*byte) % ALPHABET.len()).copied().map(char::from);
    hash.as_bytes().iter().filter_map(letter).take(count).collect()
}

/// The StatefulSet and the ordinal that a pod's name may belong to.
fn ordinal_of(key: &PodKey) -> Option<(PodKey, u32)> {
    let (set, ordinal) = key.name().rsplit_once('-')?;
    let number: u32 = ordinal.parse().ok()?;
    (number.to_string() == ordinal).then(|| (PodKey::new(key.namespace(), set), number))
}
