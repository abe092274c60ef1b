//! The cluster port over a real API server: writing.
//!
//! Every write is over what was read or shown (resourceVersion), carries natgw's field manager, and leaves out what would
//! change nothing: one that is late, of an earlier leader's, changes nothing that was written since. Fields of others stay
//! as they are found.

use http::Method;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use super::api::{Content, Failure};
use super::client::{KubeCluster, claim_path, claims_path, pod_path};
use super::pod::{PodStatus, READINESS_GATE, STATUS_ANNOTATION};
use super::poddnat::{self, API_VERSION, FIELD_MANAGER, FINALIZER, KIND, PodDnat, encode_status};
use super::timestamp;
use super::wire::{ClaimObject, PodCondition, PodObject, Watched as _};
use crate::machine::event::seen::{ClaimSeen, PodSeen};
use crate::machine::identity::PodKey;
use crate::ports::cluster::{ClaimFound, Cluster, ClusterError, ClusterErrorClass, Mapping, PodMark, Publication};

/// The API server's limit on an Event's message.
const NOTE_CHARS_MAX: usize = 1_024;

impl Cluster for KubeCluster {
    async fn list_pods(&self) -> Result<Vec<PodSeen>, ClusterError> {
        self.list_all_pods().await.map_err(|failure| failure.of("list_pods"))
    }

    async fn list_claims(&self) -> Result<Vec<ClaimSeen>, ClusterError> {
        self.list_all_claims().await.map_err(|failure| failure.of("list_claims"))
    }

    async fn read_claim(&self, key: &PodKey) -> Result<Option<ClaimFound>, ClusterError> {
        let object = self.read_object(key).await.map_err(|failure| failure.of("read_claim"))?;
        Ok(object.as_ref().map(poddnat::found))
    }

    async fn create_claim(&self, mapping: &Mapping) -> Result<ClaimFound, ClusterError> {
        self.create(mapping).await.map_err(|failure| failure.of("create_claim"))
    }

    async fn replace_claim(&self, mapping: &Mapping, found: &ClaimFound) -> Result<ClaimFound, ClusterError> {
        self.replace(mapping, found).await.map_err(|failure| failure.of("replace_claim"))
    }

    async fn write_status(&self, publication: &Publication, found: &ClaimFound) -> Result<(), ClusterError> {
        self.put_status(publication, found).await.map_err(|failure| failure.of("write_status"))
    }

    async fn delete_claim(&self, key: &PodKey, uid: &str) -> Result<(), ClusterError> {
        let options = json!({ "apiVersion": "v1", "kind": "DeleteOptions", "preconditions": { "uid": uid } });
        match self.api.delete(&claim_path(key), &options).await {
            Ok(()) => Ok(()),
            // It has gone, or the one of that name is another.
            Err(failure) if matches!(failure.class, ClusterErrorClass::Gone | ClusterErrorClass::Conflict) => Ok(()),
            Err(failure) => Err(failure.of("delete_claim")),
        }
    }

    async fn strip_finalizer(&self, key: &PodKey, found: &ClaimFound) -> Result<(), ClusterError> {
        self.strip(key, found).await.map_err(|failure| failure.of("strip_finalizer"))
    }

    async fn mark_pod(&self, mark: &PodMark) -> Result<(), ClusterError> {
        self.mark(mark).await.map_err(|failure| another_pod(failure).of("mark_pod"))
    }

    async fn announce(&self, mark: &PodMark) -> Result<(), ClusterError> {
        self.tell(mark).await.map_err(|failure| failure.of("announce"))
    }
}

impl KubeCluster {
    async fn create(&self, mapping: &Mapping) -> Result<ClaimFound, Failure> {
        let mut object = poddnat::encode(mapping, poddnat::owner_of(mapping));
        self.fit(&mut object);
        let path = claims_path(&mapping.key);
        let created: ClaimObject = self.api.write(Method::POST, &path, Content::Json, &object).await?;
        Ok(self.taken(&mapping.key, created))
    }

    async fn replace(&self, mapping: &Mapping, found: &ClaimFound) -> Result<ClaimFound, Failure> {
        let before = self.standing(&mapping.key, &found.uid, &found.resource_version).await?;
        let mut object = before.clone();
        poddnat::rewrite(&mut object, mapping, poddnat::owner_of(mapping));
        self.fit(&mut object);
        if object == before {
            self.written(&mapping.key, before);
            return Ok(found.clone());
        }
        let written = self.put(&claim_path(&mapping.key), object).await?;
        Ok(self.taken(&mapping.key, written))
    }

    async fn put_status(&self, publication: &Publication, found: &ClaimFound) -> Result<(), Failure> {
        let key = &publication.key;
        let before = self.standing(key, &found.uid, &found.resource_version).await?;
        let mut object = before.clone();
        object.status = encode_status(publication, &before.status, &self.now());
        self.fit(&mut object);
        if object == before {
            self.written(key, before);
            return Ok(());
        }
        let mut path = claim_path(key);
        if self.view.borrow().definition.status_subresource {
            path.push_str("/status");
        }
        let written = self.put(&path, object).await?;
        self.taken(key, written);
        Ok(())
    }

    async fn strip(&self, key: &PodKey, found: &ClaimFound) -> Result<(), Failure> {
        let mut object = self.standing(key, &found.uid, &found.resource_version).await?;
        object.metadata.finalizers.retain(|finalizer| finalizer != FINALIZER);
        // With its last finalizer the object is gone, and this answer the last that is said of it.
        self.put(&claim_path(key), object).await.map(drop)
    }

    async fn put(&self, path: &str, mut object: PodDnat) -> Result<ClaimObject, Failure> {
        (object.api_version, object.kind) = (API_VERSION.to_owned(), KIND.to_owned());
        self.api.write(Method::PUT, path, Content::Json, &object).await
    }

    /// Leaves out what of ours the served definition does not take. What the original documents is never left out.
    fn fit(&self, object: &mut PodDnat) {
        let kept = self.view.borrow().definition.kept();
        if !kept.conditions {
            object.status.conditions.clear();
        }
        if !kept.external_address {
            object.status.external_address = None;
        }
        if !kept.port_protocol {
            object.spec.port_mapping.iter_mut().for_each(|port| port.protocol = None);
        }
    }

    fn taken(&self, key: &PodKey, object: ClaimObject) -> ClaimFound {
        let object = PodDnat::from(object);
        let found = poddnat::found(&object);
        self.written(key, object);
        found
    }

    async fn mark(&self, mark: &PodMark) -> Result<(), Failure> {
        let said = PodStatus::of(mark).map(|status| status.to_json());
        let (uid, annotations) = (mark.pod.as_str(), json!({ STATUS_ANNOTATION: said }));
        let metadata = match self.view.borrow().pods.version_of(uid) {
            Some(version) => json!({ "uid": uid, "resourceVersion": version.to_string(), "annotations": annotations }),
            // A pod that nothing has shown yet is bound by its UID alone.
            None => json!({ "uid": uid, "annotations": annotations }),
        };
        let (path, annotations) = (pod_path(&mark.key), json!({ "metadata": metadata }));
        let pod: PodObject = self.api.write(Method::PATCH, &path, Content::MergePatch, &annotations).await?;
        self.view.borrow_mut().pods.note_written(pod.meta());
        let Some(ready) = mark.ready else { return Ok(()) };
        let before = pod.status.conditions.iter().find(|condition| condition.r#type == READINESS_GATE);
        let Some(condition) = condition(mark, ready, before, &self.now()) else { return Ok(()) };
        let metadata = json!({ "uid": uid, "resourceVersion": pod.metadata.resource_version });
        let status = json!({ "metadata": metadata, "status": { "conditions": [condition] } });
        let path = format!("{path}/status");
        let pod: PodObject = self.api.write(Method::PATCH, &path, Content::StrategicPatch, &status).await?;
        self.view.borrow_mut().pods.note_written(pod.meta());
        Ok(())
    }

    /// Records an Event. Equal ones have one name and are counted.
    async fn tell(&self, mark: &PodMark) -> Result<(), Failure> {
        let event = event(mark, &self.now());
        let path = format!("/api/v1/namespaces/{}/events", mark.key.namespace());
        match self.api.write::<IgnoredAny>(Method::POST, &path, Content::Json, &event).await {
            Ok(_) => Ok(()),
            Err(failure) if failure.class == ClusterErrorClass::AlreadyExists => {
                let path = format!("{path}/{}", event_name(mark));
                let before: CountedEvent = self.api.get(&path).await?;
                let counted = json!({ "count": before.count.saturating_add(1), "lastTimestamp": self.now() });
                self.api.write::<IgnoredAny>(Method::PATCH, &path, Content::MergePatch, &counted).await.map(drop)
            }
            Err(failure) => Err(failure),
        }
    }

    fn now(&self) -> String {
        let since = (self.clock)().duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap_or_default();
        timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }
}

#[derive(Deserialize)]
struct CountedEvent {
    #[serde(default)]
    count: u32,
}

/// The condition as it has to be written; `None` where it is there already.
fn condition(mark: &PodMark, ready: bool, before: Option<&PodCondition>, now: &str) -> Option<Value> {
    let status = if ready { "True" } else { "False" };
    let said = |before: &PodCondition| {
        before.status == status && before.reason == mark.reason && before.message == mark.message
    };
    if before.is_some_and(said) {
        return None;
    }
    let since = before.filter(|before| before.status == status).and_then(|before| before.last_transition_time.clone());
    Some(json!({
        "type": READINESS_GATE,
        "status": status,
        "reason": mark.reason,
        "message": mark.message,
        "lastTransitionTime": since.as_deref().unwrap_or(now),
    }))
}

/// The pod of that name is another: the API server refuses a patch that would change a UID, as invalid.
fn another_pod(mut failure: Failure) -> Failure {
    let details = failure.status.as_ref().and_then(|status| status.details.as_ref());
    let causes = details.into_iter().flat_map(|details| &details.causes);
    let uid = causes.into_iter().any(|cause| cause.field == "metadata.uid");
    let precondition = failure.status.as_ref().is_some_and(|status| status.message.contains("UID in precondition"));
    if uid || precondition {
        failure.class = ClusterErrorClass::Gone;
    }
    failure
}

fn event(mark: &PodMark, now: &str) -> Value {
    let message: String = mark.message.chars().take(NOTE_CHARS_MAX).collect();
    json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": { "namespace": mark.key.namespace(), "name": event_name(mark) },
        "involvedObject": {
            "apiVersion": "v1",
            "kind": "Pod",
            "namespace": mark.key.namespace(),
            "name": mark.key.name(),
            "uid": mark.pod.as_str(),
        },
        "type": if mark.warning { "Warning" } else { "Normal" },
        "reason": mark.reason,
        "message": message,
        "source": { "component": FIELD_MANAGER },
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    })
}

/// What is said of one pod in the same words has the same name: the pod's, and a hash as client-go makes one of a time.
fn event_name(mark: &PodMark) -> String {
    let mut hash = blake3::Hasher::new();
    for part in [mark.pod.as_str(), mark.reason, mark.message.as_str()] {
        hash.update(part.as_bytes()).update(&[0]);
    }
    let hash = hash.finalize().to_hex();
    let name: String = mark.key.name().chars().take(EVENT_POD_CHARS_MAX).collect();
    format!("{name}.{}", hash.get(..16).unwrap_or_default())
}

/// An Event's name has at most 253 characters, like a pod's.
const EVENT_POD_CHARS_MAX: usize = 253 - 17;

#[cfg(test)]
mod tests {
    use super::*;

    fn mark() -> PodMark {
        PodMark {
            key: PodKey::new("default", "a"),
            pod: "u".into(),
            phase: Some("Ready"),
            reason: "Mapped",
            message: "players reach the pod".to_owned(),
            address: None,
            ready: Some(true),
            warning: false,
        }
    }

    #[test]
    fn a_condition_is_written_once_and_keeps_its_time_while_its_status_stays() {
        let first = condition(&mark(), true, None, "now").unwrap();
        assert_eq!((&first["status"], &first["lastTransitionTime"]), (&json!("True"), &json!("now")));
        let there: PodCondition = serde_json::from_value(first).unwrap();
        assert_eq!(condition(&mark(), true, Some(&there), "later"), None);
        let reworded = PodMark { reason: "Kept", ..mark() };
        assert_eq!(condition(&reworded, true, Some(&there), "later").unwrap()["lastTransitionTime"], "now");
        assert_eq!(condition(&mark(), false, Some(&there), "later").unwrap()["lastTransitionTime"], "later");
    }

    #[test]
    fn a_patch_of_another_pod_is_gone_and_other_refusals_are_not() {
        let class = |field: &str, message: &str| {
            let status = json!({
                "code": 422, "reason": "Invalid", "message": message,
                "details": { "name": "a", "causes": [{ "field": field, "reason": "FieldValueInvalid" }] },
            });
            let mut failure = Failure::new(ClusterErrorClass::Refused, "");
            failure.status = Some(serde_json::from_value(status).unwrap());
            another_pod(failure).class
        };
        assert_eq!(class("metadata.uid", "field is immutable"), ClusterErrorClass::Gone);
        assert_eq!(class("", "Precondition failed: UID in precondition: u"), ClusterErrorClass::Gone);
        assert_eq!(class("metadata.annotations", "too long"), ClusterErrorClass::Refused);
    }

    #[test]
    fn equal_events_have_one_name_and_a_name_always_fits() {
        assert_eq!(event_name(&mark()), event_name(&mark()));
        let other = PodMark { pod: "v".into(), ..mark() };
        assert_ne!(event_name(&mark()), event_name(&other));
        let long = PodMark { key: PodKey::new("default", "x".repeat(253)), ..mark() };
        assert_eq!(event_name(&long).len(), 253);
        assert_eq!(event(&mark(), "now")["type"], "Normal");
    }
}
