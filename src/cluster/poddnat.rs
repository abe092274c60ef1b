//! The PodDNAT: what is published for people and OKG, and the claim that a leader without history starts from.
//!
//! The documented fields are those of ack-pod-dnat.txt, every leaf of spec and status a string. Ours beside them
//! (design.md §5): the claim annotation, `portMapping[].protocol` where it differs from `spec.protocol`,
//! `status.conditions` and `status.externalAddress`. Fields are declared in the order of their names, so that an object
//! is written in one order whether or not it passed through a sorted map.
//!
//! Decoding is lenient about what is not ours and strict about the claim: an annotation that does not hold together is
//! no claim.

mod claim;
mod compared;
mod shown;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use self::claim::{CLAIM_BYTES_MAX, ClaimAnnotation, ClaimError, ClaimItem, ReleasingItem};
use crate::machine::event::seen::{ClaimSeen, MANAGER_ANOTHER, MANAGER_NATGW, MANAGER_NOT_TOLD, ids_shown};
use crate::machine::identity::{AllocationId, EntryId, Protocol};
use crate::machine::state::Controller;
use crate::ports::cluster::{ClaimFound, MappedPort, Mapping, Publication};

/// The group and version that natgw speaks; it is also the stored one.
pub const API_VERSION: &str = "alibabacloud.com/v1beta1";

/// The kind.
pub const KIND: &str = "PodDNAT";

/// Our finalizer: while it is set, entries may still exist.
pub const FINALIZER: &str = "natgw-controller";

/// The field manager of everything that natgw writes: managedFields name it.
pub const FIELD_MANAGER: &str = "natgw";

/// The annotation that makes a PodDNAT a claim.
pub const CLAIM_ANNOTATION: &str = "k8s.aliyun.com/pod-dnat-claim";

/// The kind of an owner that is a pod.
const POD: &str = "Pod";

/// The longest part of an owner's name that is kept: names of objects have at most 253 characters, and the observation
/// must fit one record of the journal.
const OWNER_BYTES_MAX: usize = 253;

/// The type of the condition that says whether all entries are available.
pub const READY: &str = "Ready";

/// A PodDNAT as the API server keeps it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodDnat {
    /// [`API_VERSION`], or `alibabacloud.com/v1` where another client wrote it.
    pub api_version: String,
    /// [`KIND`].
    pub kind: String,
    /// Object metadata.
    pub metadata: Metadata,
    /// The mapping.
    #[serde(default)]
    pub spec: Spec,
    /// How it stands.
    #[serde(default, skip_serializing_if = "Status::is_empty")]
    pub status: Status,
}

/// The object metadata that a PodDNAT uses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Metadata {
    /// Annotations.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// RFC 3339; the API server's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub creation_timestamp: Option<String>,
    /// Seconds; 0 once a deletion was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion_grace_period_seconds: Option<i64>,
    /// RFC 3339; set once a deletion was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion_timestamp: Option<String>,
    /// Who must act before the object may vanish.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub finalizers: Vec<String>,
    /// Counts changes of the spec; the API server's.
    #[serde(skip_serializing_if = "is_zero")]
    pub generation: u64,
    /// Labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Who wrote which fields; the API server's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub managed_fields: Vec<ManagedFields>,
    /// Name, the pod's.
    pub name: String,
    /// Namespace, the pod's.
    pub namespace: String,
    /// The objects without which this one is collected.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub owner_references: Vec<OwnerReference>,
    /// The API server's.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource_version: String,
    /// The API server's.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
}

/// One writer of an object's fields. What is not looked at passes through as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ManagedFields {
    /// The writer's name.
    pub manager: String,
    /// Operation, time, fields.
    #[serde(flatten)]
    pub rest: BTreeMap<String, serde_json::Value>,
}

/// A reference to an owner. There is no controller flag: the pod does not control its PodDNAT.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OwnerReference {
    /// API version of the owner.
    pub api_version: String,
    /// A foreground deletion of the owner waits for this object.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub block_owner_deletion: bool,
    /// Kind of the owner.
    pub kind: String,
    /// Name of the owner.
    pub name: String,
    /// UID of the owner.
    pub uid: String,
}

/// The documented spec.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "adapters", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Spec {
    /// The interface that carries the pod's address.
    pub eni: String,
    /// Deprecated: the original controller's, of the time when a pod had one port. Never written here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entry_id: Option<String>,
    /// The EIP.
    #[serde(rename = "externalIP")]
    pub external_ip: String,
    /// Deprecated: the original controller's, of the time when a pod had one port. Never written here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_port: Option<String>,
    /// The pod's address.
    #[serde(rename = "internalIP")]
    pub internal_ip: String,
    /// Deprecated: the original controller's, of the time when a pod had one port. Never written here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub internal_port: Option<String>,
    /// The ports, in the order asked.
    pub port_mapping: Vec<PortMapping>,
    /// The protocol of the first port, and of every one that names none.
    pub protocol: String,
    /// The gateway's id, as the documented sample has it.
    pub table_id: String,
    /// The vSwitch.
    pub vswitch: String,
    /// The zone.
    #[serde(rename = "zoneID")]
    pub zone_id: String,
}

/// One port of the spec.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "adapters", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct PortMapping {
    /// The public port.
    pub external_port: String,
    /// The pod's port.
    pub internal_port: String,
    /// The protocol, where it is not `spec.protocol`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
}

/// The status.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "adapters", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    /// Conditions, one a type.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(
        feature = "adapters",
        schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))
    )]
    pub conditions: Vec<Condition>,
    /// Deprecated: the original controller's. Left as it is found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// One entry for each port, or absent: OKG counts them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub entries: Vec<Entry>,
    /// `EIP:512/tcp,513/udp`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_address: Option<String>,
}

/// A condition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "adapters", derive(schemars::JsonSchema), schemars(extend("required" = ["status", "type"])))]
#[serde(rename_all = "camelCase", default)]
pub struct Condition {
    /// RFC 3339: when `status` changed last.
    pub last_transition_time: String,
    /// A sentence.
    pub message: String,
    /// One word.
    pub reason: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// The type.
    pub r#type: String,
}

/// One entry of the status.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "adapters", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Entry {
    /// The EIP.
    #[serde(rename = "externalIP")]
    pub external_ip: String,
    /// The public port.
    pub external_port: String,
    /// The DNAT entry's id.
    pub forward_entry_id: String,
    /// The pod's address.
    #[serde(rename = "internalIP")]
    pub internal_ip: String,
    /// The pod's port.
    pub internal_port: String,
    /// The protocol.
    pub ip_protocol: String,
}

/// The PodDNAT of a mapping as it is created: finalizer, owner, spec and claim, and no status.
#[must_use]
pub fn encode(mapping: &Mapping, owner: Option<OwnerReference>) -> PodDnat {
    let mut object = PodDnat { api_version: API_VERSION.to_owned(), kind: KIND.to_owned(), ..PodDnat::default() };
    (object.metadata.namespace, object.metadata.name) =
        (mapping.key.namespace().to_string(), mapping.key.name().to_string());
    rewrite(&mut object, mapping, owner);
    object
}

/// Puts a mapping in the place of what the object says: spec, claim, owner, and the finalizer where it is missing. What
/// others wrote beside these, and the status, stay.
pub fn rewrite(object: &mut PodDnat, mapping: &Mapping, owner: Option<OwnerReference>) {
    let metadata = &mut object.metadata;
    metadata.annotations.insert(CLAIM_ANNOTATION.to_owned(), ClaimAnnotation::of(mapping).to_json());
    if !metadata.finalizers.iter().any(|finalizer| finalizer == FINALIZER) {
        metadata.finalizers.push(FINALIZER.to_owned());
    }
    metadata.owner_references = owner.into_iter().collect();
    object.spec = encode_spec(mapping);
}

/// The reference by which a PodDNAT goes when its pod has gone.
#[must_use]
pub fn owned_by_pod(mapping: &Mapping) -> OwnerReference {
    OwnerReference {
        api_version: "v1".to_owned(),
        block_owner_deletion: true,
        kind: POD.to_owned(),
        name: mapping.key.name().to_string(),
        uid: mapping.pod.to_string(),
    }
}

/// The reference of a fixed claim: the pod's controller, which outlives the pod. None for a bare pod: its claim outlives
/// everything but its own deletion.
#[must_use]
pub fn owned_by_controller(controller: Option<&Controller>) -> Option<OwnerReference> {
    let Controller { api_version, kind, name, uid } = controller.cloned()?;
    Some(OwnerReference { api_version, block_owner_deletion: false, kind, name, uid })
}

/// The object that a PodDNAT belongs to: its pod, or for a fixed mapping the pod's controller.
#[must_use]
pub fn owner_of(mapping: &Mapping) -> Option<OwnerReference> {
    if mapping.fixed { owned_by_controller(mapping.owner.as_ref()) } else { Some(owned_by_pod(mapping)) }
}

/// The status of a publication. A condition keeps the time of its last transition while its status stays the same;
/// conditions of other types stay.
#[must_use]
pub fn encode_status(publication: &Publication, before: &Status, now: &str) -> Status {
    let (reason, message) = publication.reason;
    let ready = if publication.mapping.is_some() { "True" } else { "False" };
    let (same, others): (Vec<_>, Vec<_>) =
        before.conditions.iter().cloned().partition(|condition| condition.r#type == READY);
    let since = same.into_iter().find(|condition| condition.status == ready);
    let mut conditions = others;
    conditions.push(Condition {
        last_transition_time: since.map_or_else(|| now.to_owned(), |condition| condition.last_transition_time),
        message: message.to_owned(),
        reason: reason.to_owned(),
        status: ready.to_owned(),
        r#type: READY.to_owned(),
    });
    let published = publication.mapping.as_ref();
    Status {
        conditions,
        created: before.created.clone(),
        entries: published.map(|(mapping, entries)| encode_entries(mapping, entries)).unwrap_or_default(),
        external_address: published.map(|(mapping, _)| external_address(mapping)),
    }
}

/// Where players knock, in one line: `EIP:512/tcp,513/udp`.
#[must_use]
pub fn external_address(mapping: &Mapping) -> String {
    let ports: Vec<_> = mapping.items.iter().map(|item| format!("{}/{}", item.external, item.protocol)).collect();
    format!("{}:{}", mapping.eip, ports.join(","))
}

/// What of ours beside the documented fields the served definition keeps: the rest is not published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// `status.conditions`.
    pub conditions: bool,
    /// `status.externalAddress`.
    pub external_address: bool,
    /// `spec.portMapping[].protocol`.
    pub port_protocol: bool,
}

impl Kept {
    /// Everything, as in the definition of [`super::crd`].
    pub const ALL: Self = Self { conditions: true, external_address: true, port_protocol: true };
}

/// What the machine keeps of a PodDNAT. EIP, address and place are the spec's: the annotation does not repeat them. What the
/// object lacks is told only as far as it could be there.
#[must_use]
pub fn claim_of(object: &PodDnat, kept: Kept) -> ClaimSeen {
    let PodDnat { metadata, spec, status, .. } = object;
    let annotation = annotation_of(object);
    let lacks = annotation.as_ref().map_or(0, |annotation| compared::lacks(object, annotation, kept));
    let claim = annotation.map(|annotation| Box::new(annotation.claim(spec)));
    let annotated = claim.is_some();
    ClaimSeen {
        namespace: metadata.namespace.clone(),
        name: metadata.name.clone(),
        uid: metadata.uid.clone(),
        resource_version: metadata.resource_version.clone(),
        deleting: metadata.deletion_timestamp.is_some(),
        finalizer: has_finalizer(metadata),
        claim,
        published: !status.entries.is_empty(),
        owner: controller_of(metadata),
        manager: manager_of(metadata),
        shown: if annotated { None } else { shown::of(object) },
        lacks,
        ids: ids_shown(status.entries.iter().map(|entry| entry.forward_entry_id.as_str())),
    }
}

/// Who wrote the object, as numbers of [`ClaimSeen`]: we as soon as one of the writers is natgw.
fn manager_of(metadata: &Metadata) -> u8 {
    match metadata.managed_fields.as_slice() {
        [] => MANAGER_NOT_TOLD,
        writers if writers.iter().any(|writer| writer.manager == FIELD_MANAGER) => MANAGER_NATGW,
        _ => MANAGER_ANOTHER,
    }
}

/// What the executor needs of a PodDNAT that it read.
#[must_use]
pub fn found(object: &PodDnat) -> ClaimFound {
    let metadata = &object.metadata;
    ClaimFound {
        uid: metadata.uid.clone(),
        resource_version: metadata.resource_version.clone(),
        deleting: metadata.deletion_timestamp.is_some(),
        finalizer: has_finalizer(metadata),
        allocation: annotation_of(object).map(|annotation| AllocationId::from(annotation.allocation)),
    }
}

impl Status {
    /// Nothing is said.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.conditions.is_empty()
            && self.created.is_none()
            && self.entries.is_empty()
            && self.external_address.is_none()
    }
}

fn annotation_of(object: &PodDnat) -> Option<ClaimAnnotation> {
    object.metadata.annotations.get(CLAIM_ANNOTATION).and_then(|text| ClaimAnnotation::parse(text).ok())
}

/// The owner that is no pod, if its names are as short as names are.
fn controller_of(metadata: &Metadata) -> Option<(String, String, String, String)> {
    let owner = metadata.owner_references.iter().find(|owner| owner.kind != POD)?;
    let OwnerReference { api_version, kind, name, uid, .. } = owner.clone();
    let short = [&api_version, &kind, &name, &uid].iter().all(|name| name.len() <= OWNER_BYTES_MAX);
    short.then_some((api_version, kind, name, uid))
}

fn has_finalizer(metadata: &Metadata) -> bool {
    metadata.finalizers.iter().any(|finalizer| finalizer == FINALIZER)
}

fn encode_spec(mapping: &Mapping) -> Spec {
    let protocol = mapping.items.first().map_or(Protocol::Tcp, |item| item.protocol);
    let port = |item: &MappedPort| PortMapping {
        external_port: item.external.to_string(),
        internal_port: item.internal.to_string(),
        protocol: (item.protocol != protocol).then(|| item.protocol.to_string()),
    };
    Spec {
        eni: mapping.eni.to_string(),
        external_ip: mapping.eip.to_string(),
        internal_ip: mapping.ip.to_string(),
        port_mapping: mapping.items.iter().map(port).collect(),
        protocol: protocol.to_string(),
        table_id: mapping.gateway.to_string(),
        vswitch: mapping.vswitch.to_string(),
        zone_id: mapping.zone.to_string(),
        ..Spec::default()
    }
}

/// All entries or none: a list that is short of an id is not published at all.
fn encode_entries(mapping: &Mapping, entries: &[EntryId]) -> Vec<Entry> {
    if entries.len() != mapping.items.len() {
        return Vec::new();
    }
    let pairs = mapping.items.iter().zip(entries);
    let entry = |(item, id): (&MappedPort, &EntryId)| Entry {
        external_ip: mapping.eip.to_string(),
        external_port: item.external.to_string(),
        forward_entry_id: id.to_string(),
        internal_ip: mapping.ip.to_string(),
        internal_port: item.internal.to_string(),
        ip_protocol: item.protocol.to_string(),
    };
    pairs.map(entry).collect()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests;
