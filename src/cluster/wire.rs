//! What is decoded of the objects of others: the fields that something here depends on, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};

use super::pod::{READINESS_GATE, asking_annotations, declared_ports};
use super::poddnat::{Metadata, PodDnat, Spec, Status};
use crate::machine::event::seen::PodSeen;
use crate::machine::identity::PodKey;

/// The annotation by which a virtual node says which ECI instance runs a pod.
const ECI_INSTANCE: &str = "k8s.aliyun.com/eci-instance-id";

/// An object that is listed and watched.
pub(super) trait Watched: serde::de::DeserializeOwned + Clone + Send + 'static {
    /// Its metadata.
    fn meta(&self) -> Meta<'_>;
}

/// What tells one version of one object from others.
#[derive(Clone, Copy, Debug)]
pub(super) struct Meta<'a> {
    pub(super) namespace: &'a str,
    pub(super) name: &'a str,
    pub(super) uid: &'a str,
    pub(super) version: &'a str,
}

impl Meta<'_> {
    pub(super) fn key(&self) -> PodKey {
        PodKey::new(self.namespace, self.name)
    }

    /// Versions are compared only where both are numbers, as they are on every API server since 1.35 by promise and
    /// before that in fact.
    pub(super) fn number(&self) -> Option<u64> {
        self.version.parse().ok()
    }
}

/// One page of a list.
#[derive(Debug, Deserialize)]
pub(super) struct Page<T> {
    #[serde(default)]
    pub(super) metadata: PageMetadata,
    /// A list without objects may say `null`.
    items: Option<Vec<T>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct PageMetadata {
    pub(super) resource_version: String,
    pub(super) r#continue: String,
}

impl<T> Page<T> {
    pub(super) fn into_items(self) -> Vec<T> {
        self.items.unwrap_or_default()
    }
}

/// A pod.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PodObject {
    pub(super) metadata: ObjectMetadata,
    spec: PodSpec,
    pub(super) status: PodStatus,
}

/// A Namespace or a Node: only its name and whether it is being deleted.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct NamedObject {
    pub(super) metadata: ObjectMetadata,
}

/// The definition of the PodDNAT, as it is.
#[derive(Clone, Debug, Deserialize)]
#[serde(transparent)]
pub(super) struct DefinitionObject(pub(super) serde_json::Value);

/// A PodDNAT, whoever wrote it. What of spec and status is not as documented is as if it were absent: then the claim does
/// not count, and its object is still seen.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ClaimObject {
    api_version: String,
    kind: String,
    metadata: Metadata,
    #[serde(deserialize_with = "lenient")]
    spec: Spec,
    #[serde(deserialize_with = "lenient")]
    status: Status,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ObjectMetadata {
    pub(super) annotations: Option<BTreeMap<String, String>>,
    creation_timestamp: Option<String>,
    deletion_grace_period_seconds: Option<u64>,
    pub(super) deletion_timestamp: Option<String>,
    pub(super) name: String,
    pub(super) namespace: String,
    owner_references: Vec<Owner>,
    pub(super) resource_version: String,
    pub(super) uid: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Owner {
    api_version: String,
    controller: bool,
    kind: String,
    name: String,
    uid: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodSpec {
    containers: Vec<Container>,
    host_network: bool,
    init_containers: Vec<Container>,
    node_name: String,
    readiness_gates: Vec<Gate>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Container {
    ports: Vec<ContainerPort>,
    restart_policy: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ContainerPort {
    container_port: u16,
    protocol: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Gate {
    condition_type: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct PodStatus {
    pub(super) conditions: Vec<PodCondition>,
    container_statuses: Vec<ContainerStatus>,
    init_container_statuses: Vec<ContainerStatus>,
    phase: String,
    #[serde(rename = "podIP")]
    ip: String,
    #[serde(rename = "podIPs")]
    ips: Vec<PodIp>,
}

/// A condition of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct PodCondition {
    pub(super) last_transition_time: Option<String>,
    pub(super) message: String,
    pub(super) reason: String,
    pub(super) status: String,
    pub(super) r#type: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct ContainerStatus {
    state: ContainerState,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct ContainerState {
    terminated: Option<IgnoredAny>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct PodIp {
    ip: String,
}

/// What a pod's place says of it, beside the pod: names of Namespaces that are being deleted and of virtual nodes.
#[derive(Clone, Debug, Default)]
pub(super) struct Places {
    pub(super) terminating: BTreeSet<String>,
    pub(super) virtual_nodes: BTreeSet<String>,
}

impl PodObject {
    /// What the machine keeps of it.
    pub(super) fn observe(&self, places: &Places) -> PodSeen {
        let ObjectMetadata { name, namespace, uid, .. } = &self.metadata;
        let annotations = self.metadata.annotations.iter().flatten();
        let texts = annotations.map(|(key, value)| (key.as_str(), value.as_str()));
        let (annotations, oversized) = asking_annotations(texts);
        PodSeen {
            namespace: namespace.clone(),
            name: name.clone(),
            uid: uid.clone(),
            ip: self.ip(),
            annotations,
            oversized,
            ports: declared_ports(self.ports()),
            host_network: self.spec.host_network,
            virtual_node: self.is_on_virtual_node(places),
            terminal: matches!(self.status.phase.as_str(), "Succeeded" | "Failed"),
            terminating_grace_ms: self.metadata.grace_ms(),
            containers_terminated: self.has_stopped(),
            namespace_terminating: places.terminating.contains(namespace),
            owner: self.controller(),
            gate: self.spec.readiness_gates.iter().any(|gate| gate.condition_type == READINESS_GATE),
            created_wall_ms: self.metadata.created_wall_ms(),
        }
    }

    /// The controller of the pod: API version, kind, name, UID.
    pub(super) fn controller(&self) -> Option<(String, String, String, String)> {
        let owner = self.metadata.owner_references.iter().find(|owner| owner.controller)?;
        let Owner { api_version, kind, name, uid, .. } = owner.clone();
        Some((api_version, kind, name, uid))
    }

    pub(super) fn ip(&self) -> Option<Ipv4Addr> {
        let all = std::iter::once(&self.status.ip).chain(self.status.ips.iter().map(|ip| &ip.ip));
        all.filter_map(|text| text.parse().ok()).next()
    }

    /// Ports of the containers that run beside each other: the ordinary ones and, before them, sidecars.
    fn ports(&self) -> impl Iterator<Item = (u16, u8)> {
        let sidecars = self.spec.init_containers.iter().filter(|container| container.restart_policy == "Always");
        let ports = self.spec.containers.iter().chain(sidecars).flat_map(|container| &container.ports);
        ports.map(|port| (port.container_port, protocol_number(&port.protocol)))
    }

    fn is_on_virtual_node(&self, places: &Places) -> bool {
        let instance = self.metadata.annotations.as_ref().and_then(|annotations| annotations.get(ECI_INSTANCE));
        instance.is_some_and(|instance| !instance.is_empty()) || places.virtual_nodes.contains(&self.spec.node_name)
    }

    /// No container runs and none will: of a pod that is not being deleted one that ended may be started again.
    fn has_stopped(&self) -> bool {
        let PodStatus { container_statuses, init_container_statuses, .. } = &self.status;
        let mut all = container_statuses.iter().chain(init_container_statuses);
        let ended = all.all(|container| container.state.terminated.is_some());
        self.metadata.deletion_timestamp.is_some() && !container_statuses.is_empty() && ended
    }
}

impl ObjectMetadata {
    pub(super) const fn is_deleting(&self) -> bool {
        self.deletion_timestamp.is_some()
    }

    fn grace_ms(&self) -> Option<u64> {
        self.is_deleting().then(|| self.deletion_grace_period_seconds.unwrap_or(0).saturating_mul(1_000))
    }

    fn created_wall_ms(&self) -> i64 {
        let created = self.creation_timestamp.as_deref().and_then(|text| text.parse::<jiff::Timestamp>().ok());
        created.map_or(0, jiff::Timestamp::as_millisecond)
    }

    fn meta(&self) -> Meta<'_> {
        Meta { namespace: &self.namespace, name: &self.name, uid: &self.uid, version: &self.resource_version }
    }
}

impl Watched for PodObject {
    fn meta(&self) -> Meta<'_> {
        self.metadata.meta()
    }
}

impl Watched for NamedObject {
    fn meta(&self) -> Meta<'_> {
        self.metadata.meta()
    }
}

impl Watched for DefinitionObject {
    fn meta(&self) -> Meta<'_> {
        let field = |path| self.0.pointer(path).and_then(serde_json::Value::as_str).unwrap_or_default();
        let version = field("/metadata/resourceVersion");
        Meta { namespace: "", name: field("/metadata/name"), uid: field("/metadata/uid"), version }
    }
}

impl Watched for ClaimObject {
    fn meta(&self) -> Meta<'_> {
        let Metadata { namespace, name, uid, resource_version, .. } = &self.metadata;
        Meta { namespace, name, uid, version: resource_version }
    }
}

impl From<ClaimObject> for PodDnat {
    fn from(object: ClaimObject) -> Self {
        let ClaimObject { api_version, kind, metadata, spec, status } = object;
        Self { api_version, kind, metadata, spec, status }
    }
}

/// IANA's numbers. A protocol that is not named is TCP; one that no page of Kubernetes names is none of ours.
fn protocol_number(protocol: &str) -> u8 {
    match protocol {
        "" | "TCP" => 6,
        "UDP" => 17,
        "SCTP" => 132,
        _ => 255,
    }
}

fn lenient<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Lenient<T> {
        Documented(T),
        Other(IgnoredAny),
    }
    Ok(match Lenient::deserialize(deserializer)? {
        Lenient::Documented(value) => value,
        Lenient::Other(_) => T::default(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::cluster::poddnat::{CLAIM_ANNOTATION, Kept, claim_of};

    /// A pod as an API server gives it, much of it of no concern.
    fn running() -> Value {
        json!({
            "metadata": {
                "name": "game-0", "namespace": "default", "uid": "u-1", "resourceVersion": "42", "generation": 1,
                "creationTimestamp": "2023-09-20T03:26:44Z",
                "labels": { "app": "game" },
                "annotations": { "k8s.aliyun.com/pod-dnat": "", "example.com/other": "x" },
                "ownerReferences": [
                    { "apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u-n" },
                    { "apiVersion": "apps/v1", "kind": "StatefulSet", "name": "game", "uid": "u-s", "controller": true },
                ],
                "managedFields": [{ "manager": "kube-controller-manager" }],
            },
            "spec": {
                "nodeName": "node-j",
                "readinessGates": [{ "conditionType": "k8s.aliyun.com/pod-dnat-ready" }],
                "initContainers": [
                    { "name": "once", "ports": [{ "containerPort": 1 }] },
                    { "name": "beside", "restartPolicy": "Always", "ports": [{ "containerPort": 9, "protocol": "SCTP" }] },
                ],
                "containers": [
                    { "name": "a", "image": "i", "ports": [{ "containerPort": 80, "protocol": "TCP" }] },
                    { "name": "b", "ports": [{ "containerPort": 53, "protocol": "UDP", "name": "dns" }] },
                ],
            },
            "status": {
                "phase": "Running", "podIP": "fd00::1", "podIPs": [{ "ip": "fd00::1" }, { "ip": "172.16.0.9" }],
                "containerStatuses": [{ "name": "a", "state": { "running": {} } }, { "name": "b", "state": { "running": {} } }],
            },
        })
    }

    fn seen(pod: Value, places: &Places) -> PodSeen {
        serde_json::from_value::<PodObject>(pod).unwrap().observe(places)
    }

    #[test]
    fn of_a_pod_only_what_the_machine_needs_is_kept() {
        let seen = seen(running(), &Places::default());
        let owner = ["apps/v1", "StatefulSet", "game", "u-s"].map(str::to_owned);
        let expected = PodSeen {
            namespace: "default".to_owned(),
            name: "game-0".to_owned(),
            uid: "u-1".to_owned(),
            ip: Some([172, 16, 0, 9].into()),
            annotations: vec![("k8s.aliyun.com/pod-dnat".to_owned(), String::new())],
            ports: vec![(80, 6), (53, 17), (9, 132)],
            owner: Some(owner.into()),
            gate: true,
            created_wall_ms: 1_695_180_404_000,
            ..PodSeen::default()
        };
        assert_eq!(seen, expected);
    }

    #[test]
    fn a_pod_of_nothing_but_a_name_can_be_seen() {
        let bare = json!({ "metadata": { "name": "a", "namespace": "b", "uid": "u", "annotations": null } });
        let expected =
            PodSeen { namespace: "b".to_owned(), name: "a".to_owned(), uid: "u".to_owned(), ..PodSeen::default() };
        assert_eq!(seen(bare, &Places::default()), expected);
    }

    #[test]
    fn containers_have_stopped_for_good_only_where_the_pod_is_being_deleted() {
        let ended = json!([{ "state": { "terminated": { "exitCode": 0 } } }, { "state": { "terminated": {} } }]);
        let mut pod = running();
        pod["status"]["containerStatuses"] = ended;
        assert!(!seen(pod.clone(), &Places::default()).containers_terminated, "they may be started again");
        pod["metadata"]["deletionTimestamp"] = json!("2023-09-20T04:00:00Z");
        pod["metadata"]["deletionGracePeriodSeconds"] = json!(30);
        let seen_ended = seen(pod.clone(), &Places::default());
        assert_eq!((seen_ended.containers_terminated, seen_ended.terminating_grace_ms), (true, Some(30_000)));
        pod["status"]["initContainerStatuses"] = json!([{ "state": { "running": {} } }]);
        assert!(!seen(pod.clone(), &Places::default()).containers_terminated, "a sidecar still runs");
        pod["status"] = json!({});
        assert!(!seen(pod, &Places::default()).containers_terminated, "nothing is known of any container");
    }

    #[test]
    fn places_say_what_a_pod_does_not() {
        let of = |name: &str| std::iter::once(name.to_owned()).collect();
        let places = Places { terminating: of("default"), virtual_nodes: of("node-j") };
        let there = seen(running(), &places);
        assert!(there.namespace_terminating && there.virtual_node);
        let elsewhere = Places { terminating: of("other"), virtual_nodes: of("node-k") };
        let here = seen(running(), &elsewhere);
        assert!(!here.namespace_terminating && !here.virtual_node);
        let mut pod = running();
        pod["metadata"]["annotations"][ECI_INSTANCE] = json!("eci-1");
        assert!(seen(pod, &elsewhere).virtual_node);
    }

    #[test]
    fn phases_that_end_are_terminal() {
        for (phase, terminal) in [("Pending", false), ("Running", false), ("Succeeded", true), ("Failed", true)] {
            let mut pod = running();
            pod["status"]["phase"] = json!(phase);
            assert_eq!(seen(pod, &Places::default()).terminal, terminal, "{phase}");
        }
    }

    #[test]
    fn a_poddnat_that_is_not_as_documented_is_still_seen() {
        let strange = json!({
            "metadata": { "name": "a", "namespace": "b", "uid": "u", "resourceVersion": "7",
                          "annotations": { CLAIM_ANNOTATION: "{}" }, "finalizers": ["natgw-controller"] },
            "spec": { "portMapping": "none", "eni": 7 },
            "status": ["?"],
        });
        let seen = claim_of(&serde_json::from_value::<ClaimObject>(strange).unwrap().into(), Kept::ALL);
        assert_eq!((seen.name.as_str(), seen.uid.as_str(), seen.finalizer), ("a", "u", true));
        assert_eq!((seen.claim, seen.published), (None, false));
        let published = json!({ "metadata": {}, "status": { "entries": [{ "externalIP": "1.2.3.4" }] } });
        assert!(claim_of(&serde_json::from_value::<ClaimObject>(published).unwrap().into(), Kept::ALL).published);
    }

    #[test]
    fn a_page_without_objects_may_say_null() {
        let page: Page<PodObject> = serde_json::from_value(json!({ "items": null })).unwrap();
        assert_eq!(page.into_items().len(), 0);
        let page: Page<PodObject> =
            serde_json::from_value(json!({ "metadata": { "resourceVersion": "9", "continue": "t" } })).unwrap();
        assert_eq!((page.metadata.resource_version.as_str(), page.metadata.r#continue.as_str()), ("9", "t"));
    }
}
