//! Manifests: which documents a simulated cluster takes, and what is wrong with the others.
//!
//! Read are Deployment and StatefulSet of `apps/v1`, and Pod, Namespace and List of `v1`. A Namespace says nothing, for
//! namespaces are implied. Fields that natgw cannot notice are not looked at; those that it can are checked as an API
//! server checks them. Every fault is reported, each with its place, its value, the reason and the remedy.

mod field;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use self::field::{Faults, Field};
use super::pods::PodSpec;
use super::workloads::{WorkloadKey, WorkloadKind, letters};
use crate::machine::identity::{PodKey, Protocol};

/// The most pods of one workload: several times the largest cluster that the model is meant for.
const REPLICAS_MAX: u64 = 100_000;

/// terminationGracePeriodSeconds of a pod that does not say.
const GRACE_SECONDS: u32 = 30;

/// How deep Lists may lie in each other.
const DEPTH_MAX: usize = 8;

/// The IANA number of SCTP, which a container may declare and nobody can map.
const SCTP: u8 = 132;

/// A document.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    /// Where it comes from, as people call it: `pods.yaml, document 2`.
    pub source: String,
    /// What it says. An empty document (`null`) says nothing.
    pub document: Value,
}

/// Why a document is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{source_name}: {path}: {value}: {reason}; {remedy}")]
pub struct ManifestError {
    /// Where the document comes from.
    pub source_name: String,
    /// The field.
    pub path: String,
    /// Its value, bounded.
    pub value: String,
    /// What is wrong.
    pub reason: String,
    /// What to do.
    pub remedy: String,
}

/// What a workload asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Wanted {
    /// How many pods.
    pub(super) replicas: u32,
    /// The template, in ten letters: of a bare pod its specification alone, for its metadata can change in place.
    pub(super) hash: String,
    /// Annotations of each pod.
    pub(super) annotations: BTreeMap<String, String>,
    /// Specification of each pod.
    pub(super) spec: PodSpec,
}

/// Reads all documents, or says everything that is wrong with them.
pub(super) fn read_all(
    manifests: &[Manifest],
    ending: &BTreeSet<String>,
) -> Result<BTreeMap<WorkloadKey, Wanted>, Vec<ManifestError>> {
    let mut reader = Reader { wanted: BTreeMap::new(), faults: Faults::default(), ending };
    for manifest in manifests.iter().filter(|manifest| !manifest.document.is_null()) {
        reader.read(&Field::root(&manifest.source, &manifest.document), 0);
    }
    let faults = reader.faults.take();
    if faults.is_empty() { Ok(reader.wanted) } else { Err(faults) }
}

struct Reader<'a> {
    wanted: BTreeMap<WorkloadKey, Wanted>,
    faults: Faults,
    ending: &'a BTreeSet<String>,
}

impl Reader<'_> {
    /// `None` means that a fault was noted, or that there is nothing to do.
    fn read(&mut self, object: &Field<'_>, depth: usize) -> Option<()> {
        let faults = &mut self.faults;
        let kind = object.required("kind", faults)?;
        let api_version = object.required("apiVersion", faults)?;
        let (kind_text, api_text) = (kind.text(faults)?, api_version.text(faults)?);
        let workload = match (api_text, kind_text) {
            ("v1", "List") => return self.read_list(object, depth),
            ("v1", "Namespace") => return None,
            ("apps/v1", "Deployment") => WorkloadKind::Deployment,
            ("apps/v1", "StatefulSet") => WorkloadKind::StatefulSet,
            ("v1", "Pod") => WorkloadKind::Pod,
            (_, "Deployment" | "StatefulSet" | "Pod" | "List" | "Namespace") => {
                let right = if matches!(kind_text, "Deployment" | "StatefulSet") { "apps/v1" } else { "v1" };
                faults.note(
                    &api_version,
                    format!("{kind_text} is not of this API version"),
                    format!("write {right:?}"),
                );
                return None;
            }
            _ => {
                let reason = "the simulated cluster takes Deployment, StatefulSet, Pod, Namespace and List only";
                faults.note(&kind, reason, "take the document out");
                return None;
            }
        };
        let name = self.name(object)?;
        let wanted = match workload {
            WorkloadKind::Pod => bare(object, &mut self.faults),
            WorkloadKind::Deployment | WorkloadKind::StatefulSet => templated(object, &mut self.faults),
        }?;
        let key = WorkloadKey { kind: workload, name };
        if self.wanted.contains_key(&key) {
            let place = object.field("metadata").and_then(|metadata| metadata.field("name"));
            self.faults.note(&place?, format!("{key} is there twice"), "take one of the two out, or rename it");
            return None;
        }
        self.wanted.insert(key, wanted);
        Some(())
    }

    fn read_list(&mut self, list: &Field<'_>, depth: usize) -> Option<()> {
        if depth >= DEPTH_MAX {
            self.faults.note(list, format!("Lists lie more than {DEPTH_MAX} deep in each other"), "flatten the List");
            return None;
        }
        for item in list.field("items")?.items(&mut self.faults)? {
            self.read(&item, depth.saturating_add(1));
        }
        Some(())
    }

    fn name(&mut self, object: &Field<'_>) -> Option<PodKey> {
        let faults = &mut self.faults;
        let metadata = object.required("metadata", faults)?;
        let name = metadata.required("name", faults)?;
        let text = name.text(faults)?;
        if !dns_name(text, SUBDOMAIN_BYTES_MAX, true) {
            let reason = "a name has lower case letters, digits, '-' and '.', begins and ends with a letter or digit, and has at most 253 characters";
            faults.note(&name, reason, "rename the object");
            return None;
        }
        let namespace = metadata.field("namespace");
        let space = namespace.as_ref().map_or(Some("default"), |namespace| namespace.text(faults))?;
        // Where no namespace is written, the name is the place to point at.
        let place = namespace.unwrap_or(name);
        if !dns_name(space, LABEL_BYTES_MAX, false) {
            let reason = "a namespace has lower case letters, digits and '-', begins and ends with a letter or digit, and has at most 63 characters";
            faults.note(&place, reason, "correct the namespace");
            return None;
        }
        if self.ending.contains(space) {
            let reason = format!("the namespace {space:?} is being terminated");
            faults.note(&place, reason, "apply again when it has gone");
            return None;
        }
        Some(PodKey::new(space, text))
    }
}

/// Lengths of RFC 1123 names, as the API server takes them.
const SUBDOMAIN_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;

fn dns_name(name: &str, longest: usize, dots: bool) -> bool {
    let plain = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let part = |part: &str| {
        let bytes = part.as_bytes();
        bytes.first().is_some_and(plain)
            && bytes.last().is_some_and(plain)
            && bytes.iter().all(|byte| plain(byte) || *byte == b'-')
    };
    name.len() <= longest && if dots { name.split('.').all(part) } else { part(name) }
}

fn bare(object: &Field<'_>, faults: &mut Faults) -> Option<Wanted> {
    let spec_field = object.required("spec", faults)?;
    let labels = strings(object, "labels", faults)?;
    let annotations = strings(object, "annotations", faults)?;
    let spec = pod_spec(&spec_field, &labels, faults)?;
    Some(Wanted { replicas: 1, hash: hash(spec_field.value), annotations, spec })
}

fn templated(object: &Field<'_>, faults: &mut Faults) -> Option<Wanted> {
    let spec = object.required("spec", faults)?;
    let replicas = match spec.field("replicas") {
        Some(replicas) => replicas.integer(0, REPLICAS_MAX, faults)?,
        None => 1,
    };
    let template = spec.required("template", faults)?;
    let labels = strings(&template, "labels", faults)?;
    let annotations = strings(&template, "annotations", faults)?;
    let selector = spec.required("selector", faults)?;
    let chosen = text_map(&selector, "matchLabels", faults)?;
    if chosen.is_empty() && selector.field("matchExpressions").is_none() {
        faults.note(&selector, "the selector chooses nothing", "list the template's labels under matchLabels");
        return None;
    }
    if chosen.iter().any(|(label, value)| labels.get(label) != Some(value)) {
        let reason = "the selector does not match the template's labels";
        faults.note(&selector, reason, "give the template the labels that matchLabels lists");
        return None;
    }
    let pod = pod_spec(&template.required("spec", faults)?, &labels, faults)?;
    Some(Wanted { replicas: u32::try_from(replicas).ok()?, hash: hash(template.value), annotations, spec: pod })
}

fn pod_spec(spec: &Field<'_>, labels: &BTreeMap<String, String>, faults: &mut Faults) -> Option<PodSpec> {
    let containers = spec.required("containers", faults)?;
    let list = containers.items(faults)?;
    if list.is_empty() {
        faults.note(&containers, "a pod has at least one container", "add a container with a name and an image");
        return None;
    }
    let (mut ports, mut pre_stop, mut names) = (Vec::new(), false, BTreeSet::new());
    for container in &list {
        let name = container.required("name", faults)?;
        if !names.insert(name.text(faults)?.to_owned()) {
            faults.note(&name, "two containers have one name", "rename one of them");
            return None;
        }
        for port in container.field("ports").map_or(Some(Vec::new()), |ports| ports.items(faults))? {
            ports.push(declared(&port, faults)?);
        }
        pre_stop |= container.field("lifecycle").is_some_and(|lifecycle| lifecycle.field("preStop").is_some());
    }
    let grace = match spec.field("terminationGracePeriodSeconds") {
        Some(seconds) => u32::try_from(seconds.integer(0, u64::from(u32::MAX), faults)?).ok()?,
        None => GRACE_SECONDS,
    };
    let mut gates = Vec::new();
    for gate in spec.field("readinessGates").map_or(Some(Vec::new()), |gates| gates.items(faults))? {
        gates.push(gate.required("conditionType", faults)?.text(faults)?.to_owned());
    }
    let host_network = spec.field("hostNetwork").map_or(Some(false), |flag| flag.boolean(faults))?;
    let virtual_node = on_virtual_node(spec, labels);
    Some(PodSpec { ports, host_network, virtual_node, gates, grace_seconds: grace, pre_stop })
}

fn declared(port: &Field<'_>, faults: &mut Faults) -> Option<(u16, u8)> {
    let number = port.required("containerPort", faults)?.integer(1, u64::from(u16::MAX), faults)?;
    let Some(protocol) = port.field("protocol") else {
        return Some((u16::try_from(number).ok()?, Protocol::Tcp.number()));
    };
    let protocol = match protocol.text(faults)? {
        "TCP" => Protocol::Tcp.number(),
        "UDP" => Protocol::Udp.number(),
        "SCTP" => SCTP,
        _ => {
            faults.note(&protocol, "a container port's protocol is TCP, UDP or SCTP", "write one of them in capitals");
            return None;
        }
    };
    Some((u16::try_from(number).ok()?, protocol))
}

/// How ACK sends a pod to ECI: a label, or a virtual node by selector or by name.
fn on_virtual_node(spec: &Field<'_>, labels: &BTreeMap<String, String>) -> bool {
    let text = |field: Option<Field<'_>>| field.and_then(|field| field.value.as_str().map(str::to_owned));
    let selected = text(spec.field("nodeSelector").and_then(|selector| selector.field("type")));
    let node = text(spec.field("nodeName"));
    labels.get("alibabacloud.com/eci").is_some_and(|value| value == "true")
        || selected.is_some_and(|kind| kind == "virtual-kubelet")
        || node.is_some_and(|name| name.starts_with("virtual-kubelet"))
}

fn strings(object: &Field<'_>, name: &'static str, faults: &mut Faults) -> Option<BTreeMap<String, String>> {
    object.field("metadata").map_or_else(|| Some(BTreeMap::new()), |metadata| text_map(&metadata, name, faults))
}

fn text_map(object: &Field<'_>, name: &'static str, faults: &mut Faults) -> Option<BTreeMap<String, String>> {
    let Some(map) = object.field(name) else { return Some(BTreeMap::new()) };
    let mut texts = BTreeMap::new();
    for (key, value) in map.entries(faults)? {
        let Some(text) = value.value.as_str() else {
            let remedy = format!("write it in quotes: {key}: \"{}\"", value.value.to_string().trim_matches('"'));
            faults.note(&value, format!("{name} have strings as values"), remedy);
            return None;
        };
        texts.insert(key.to_owned(), text.to_owned());
    }
    Some(texts)
}

fn hash(template: &Value) -> String {
    letters(&template.to_string(), 10)
}

#[cfg(test)]
mod tests;
