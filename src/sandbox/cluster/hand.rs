//! What people and other programs do by hand, and what befalls pods: not natgw's calls, and nothing that it sees coming.

use super::pods::Phase;
use super::workloads::{WorkloadKey, WorkloadKind};
use super::{Due, Model};
use crate::cluster::poddnat::{ManagedFields, PodDnat};
use crate::machine::identity::PodKey;

impl Model {
    /// Deletes a pod, with the grace period given in milliseconds or its own. Says whether there was one.
    pub fn delete_pod(&mut self, key: &PodKey, grace_ms: Option<u64>) -> bool {
        let there = self.pods.contains_key(key);
        self.ask_pod_to_go(key, grace_ms);
        there
    }

    /// Sets an annotation of a pod, or removes it. Says whether there was a pod.
    pub fn annotate_pod(&mut self, key: &PodKey, name: &str, value: Option<&str>) -> bool {
        let Some(pod) = self.pods.get_mut(key) else { return false };
        let before = match value {
            Some(value) => pod.annotations.insert(name.to_owned(), value.to_owned()),
            None => pod.annotations.remove(name),
        };
        if before.as_deref() != value {
            self.pod_written(key);
        }
        true
    }

    /// Ends a pod's containers for good: phase Succeeded or Failed, and the address is free. The object
    /// stays and a Deployment makes another pod; a StatefulSet's pod goes and comes again under its name. Says whether there was a running pod.
    pub fn finish_pod(&mut self, key: &PodKey, well: bool) -> bool {
        let Some(pod) = self.pods.get_mut(key).filter(|pod| pod.phase == Phase::Running) else { return false };
        pod.phase = if well { Phase::Succeeded } else { Phase::Failed };
        pod.containers_ready = false;
        pod.containers_terminated = true;
        let (uid, kind, goes) = (pod.uid.clone(), pod.workload.0.kind, pod.deleting.is_some());
        self.give_address_back(key);
        self.pod_written(key);
        self.member_left(key);
        if kind == WorkloadKind::StatefulSet || goes {
            self.schedule(0, Due::Remove(uid));
        }
        true
    }

    /// Gives a running pod another address, as when its sandbox is made anew: the old one is free at once. Says whether
    /// it has a new one.
    pub fn move_pod(&mut self, key: &PodKey) -> bool {
        let holds = |pod: &&mut super::Pod| pod.phase == Phase::Running && pod.holds_address;
        let Some(pod) = self.pods.get_mut(key).filter(holds) else { return false };
        let Some(address) = self.addresses.take() else { return false };
        let old = pod.ip.replace(address);
        old.into_iter().for_each(|address| self.addresses.release(address));
        if let Some((_, uid)) = self.addressless.pop_first() {
            self.schedule(0, Due::Start(uid));
        }
        self.pod_written(key);
        true
    }

    /// Edits a PodDNAT, as `kubectl edit` or a program without care for others would. Metadata of the API server's own
    /// stay as they are. Says whether there was one.
    pub fn edit_claim(&mut self, key: &PodKey, edit: impl FnOnce(&mut PodDnat)) -> bool {
        let Some(before) = self.claims.get(key) else { return false };
        let mut object = before.clone();
        edit(&mut object);
        let (mine, kept) = (&mut object.metadata, &before.metadata);
        mine.namespace.clone_from(&kept.namespace);
        mine.name.clone_from(&kept.name);
        mine.uid.clone_from(&kept.uid);
        mine.generation = kept.generation;
        mine.managed_fields.clone_from(&kept.managed_fields);
        mine.resource_version.clone_from(&kept.resource_version);
        mine.creation_timestamp.clone_from(&kept.creation_timestamp);
        mine.deletion_timestamp.clone_from(&kept.deletion_timestamp);
        mine.deletion_grace_period_seconds = kept.deletion_grace_period_seconds;
        self.update(key, object);
        true
    }

    /// Another program creates a PodDNAT, status and all, under its own name as the manager. Says whether it could: there
    /// is none of that name, and the namespace is not being deleted.
    pub fn insert_claim(&mut self, manager: &str, object: PodDnat) -> bool {
        let key = PodKey::new(object.metadata.namespace.as_str(), object.metadata.name.as_str());
        if self.claims.contains_key(&key) || self.ending.contains(key.namespace()) {
            return false;
        }
        let mut object = object;
        object.metadata.uid = self.next_uid();
        object.metadata.generation = 1;
        object.metadata.creation_timestamp = Some(self.wall_text());
        object.metadata.managed_fields =
            vec![ManagedFields { manager: manager.to_owned(), ..ManagedFields::default() }];
        self.write(&key, object);
        true
    }

    /// Puts the cluster back to what it was in a backup, as when etcd is restored: versions go back, what came since is
    /// gone, and what went is there again. Time does not go back, UIDs are not given twice, and watches begun before must
    /// list again.
    pub fn restore(&mut self, backup: &Self) {
        let (now_ms, created, scheduled) = (self.now_ms, self.created, self.scheduled);
        self.clone_from(backup);
        (self.now_ms, self.created, self.scheduled) = (self.now_ms.max(now_ms), created, scheduled);
        self.history.forget(self.version);
        for namespace in self.ending.clone() {
            self.finish_namespace(&namespace);
        }
    }

    /// Deletes a namespace: its workloads go, its pods and PodDNATs are asked to go, and nothing can be created in it
    /// until its last object has gone.
    pub fn delete_namespace(&mut self, namespace: &str) {
        self.ending.insert(namespace.to_owned());
        let first = PodKey::new(namespace, "");
        let pods = self.pods.range(&first..).map(|(key, _)| key);
        let pods: Vec<_> = pods.take_while(|key| *key.namespace() == *namespace).cloned().collect();
        for key in &pods {
            self.pod_written(key);
        }
        let workloads: Vec<WorkloadKey> =
            self.workloads.keys().filter(|key| *key.name.namespace() == *namespace).cloned().collect();
        for key in workloads {
            self.remove_workload(&key);
        }
        for key in pods {
            self.ask_pod_to_go(&key, None);
        }
        let claims = self.claims.range(&first..).take_while(|(key, _)| *key.namespace() == *namespace);
        let claims: Vec<_> = claims.map(|(key, claim)| (key.clone(), claim.metadata.uid.clone())).collect();
        for (key, uid) in claims {
            self.delete_claim(&key, &uid);
        }
        self.finish_namespace(namespace);
    }
}
