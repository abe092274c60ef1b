//! The CustomResourceDefinition of the PodDNAT: generated from the wire types, and compared with the one that is served.
//!
//! * `v1` and `v1beta1` are served with one schema; `v1beta1` is stored, so that OKG's own CRD, which knows no other
//!   version, can be applied over it (design.md §5).
//! * The schema takes all that the original controller wrote, its deprecated fields included: nothing of it is required,
//!   and no field has a default, for a default would be written into objects of others.
//! * [`examine`] says what a served CRD, whoever applied it, would prune or refuse of what is written here.
//!
//! Deliberately absent: applying the CRD. A controller that may write CRDs may change those of others.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use schemars::{JsonSchema, Schema};
use serde_json::{Value, json};

use super::poddnat::{KIND, Kept, READY, Spec, Status};

/// The API group.
pub const GROUP: &str = "alibabacloud.com";

/// The plural, as in URLs.
pub const PLURAL: &str = "poddnats";

/// The stored version, which natgw speaks.
pub const STORED: &str = "v1beta1";

/// The documented version (ack-pod-dnat.txt), which is served, too.
pub const DOCUMENTED: &str = "v1";

/// Fields that only the original controller wrote: it does not matter whether they are kept.
const DEPRECATED: [&str; 4] = ["spec.entryId", "spec.externalPort", "spec.internalPort", "status.created"];

/// Keywords that a structural schema must not have, or that would change objects of others.
const LEFT_OUT: [&str; 4] = ["$schema", "default", "nullable", "title"];

/// A served CRD in which PodDNATs cannot be written at all.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "NATGW-CRD: the served CRD of {PLURAL}.{GROUP} does not serve version {STORED}, so no PodDNAT can be read or written; \
     apply the output of `natgw crd`"
)]
pub struct NotServed;

/// What a served CRD does with what is written here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Examined {
    /// Fields that it drops silently, such as `status.conditions` or `spec.portMapping[].protocol`. Nothing is named
    /// below what is named. The empty path is everything: it has no schema.
    pub pruned: BTreeSet<String>,
    /// Fields that it has with another type: an object with one of them is refused.
    pub refused: BTreeSet<String>,
    /// The status is written through a subresource. Without one it is part of the object.
    pub status_subresource: bool,
}

impl Examined {
    /// Whether a field, and all around it, can be written. Paths are those of [`Examined::pruned`].
    #[must_use]
    pub fn keeps(&self, path: &str) -> bool {
        let around = |lost: &String| {
            let rest = path.strip_prefix(lost.as_str());
            lost.is_empty()
                || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.') || rest.starts_with("[]"))
        };
        !self.pruned.iter().chain(&self.refused).any(around)
    }

    /// What of ours it keeps.
    #[must_use]
    pub fn kept(&self) -> Kept {
        Kept {
            conditions: self.keeps("status.conditions"),
            external_address: self.keeps("status.externalAddress"),
            port_protocol: self.keeps("spec.portMapping[].protocol"),
        }
    }
}

/// The CRD as an API server takes it (`apiextensions.k8s.io/v1`).
#[must_use]
pub fn definition() -> Value {
    let version = |name: &str| {
        json!({
            "name": name,
            "served": true,
            "storage": name == STORED,
            "subresources": {"status": {}},
            "additionalPrinterColumns": columns(),
            "schema": {"openAPIV3Schema": *SCHEMA},
        })
    };
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{PLURAL}.{GROUP}")},
        "spec": {
            "group": GROUP,
            "names": {
                "kind": KIND,
                "listKind": format!("{KIND}List"),
                "plural": PLURAL,
                "shortNames": ["pdnat"],
                "singular": "poddnat",
            },
            "scope": "Namespaced",
            "versions": [version(DOCUMENTED), version(STORED)],
        },
    })
}

/// [`definition`] as YAML.
///
/// # Errors
/// Fails when the definition cannot be written as YAML, which nothing in it could cause.
pub fn yaml() -> Result<String, serde_saphyr::ser_error::Error> {
    serde_saphyr::to_string(&definition())
}

/// What the served CRD (the object as the API server gives it) does with what is written here.
///
/// # Errors
/// Fails when [`STORED`] is not served.
pub fn examine(served: &Value) -> Result<Examined, NotServed> {
    let versions = served.pointer("/spec/versions").and_then(Value::as_array).into_iter().flatten();
    let mut spoken = versions.filter(|version| version["name"] == STORED && version["served"] == true);
    let version = spoken.next().ok_or(NotServed)?;
    let mut examined =
        Examined { status_subresource: version.pointer("/subresources/status").is_some(), ..Examined::default() };
    // Before pruning became the rule an object kept all that it was given.
    if served.pointer("/spec/preserveUnknownFields") != Some(&Value::Bool(true)) {
        compare(&SCHEMA, version.pointer("/schema/openAPIV3Schema"), "", &mut examined);
    }
    Ok(examined)
}

static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
    json!({
        "description": "A pod's address on the public Internet: EIP and ports of a NAT gateway. It has the pod's name.",
        "type": "object",
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": schema_of::<Spec>(),
            "status": schema_of::<Status>(),
        },
    })
});

/// A structural schema: no references, and nothing of [`LEFT_OUT`].
fn schema_of<T: JsonSchema>() -> Schema {
    let structural = |schema: &mut Schema| {
        for keyword in LEFT_OUT {
            schema.remove(keyword);
        }
    };
    let mut settings = SchemaSettings::openapi3().with_transform(RecursiveTransform(structural));
    settings.inline_subschemas = true;
    let mut schema = settings.into_generator().into_root_schema_for::<T>();
    schema.remove("components");
    schema
}

fn columns() -> Value {
    let condition = |field: &str| format!(".status.conditions[?(@.type==\"{READY}\")].{field}");
    json!([
        {"name": "External", "type": "string", "jsonPath": ".status.externalAddress",
         "description": "Where players knock."},
        {"name": "Ready", "type": "string", "jsonPath": condition("status"),
         "description": "Whether all entries are in effect."},
        {"name": "Reason", "type": "string", "jsonPath": condition("reason")},
        {"name": "Pod IP", "type": "string", "jsonPath": ".spec.internalIP"},
        {"name": "Gateway", "type": "string", "jsonPath": ".spec.tableId", "priority": 1},
        {"name": "Zone", "type": "string", "jsonPath": ".spec.zoneID", "priority": 1},
        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    ])
}

/// Walks our schema beside the served one. What is missing is told once, not field by field below it.
fn compare(ours: &Value, theirs: Option<&Value>, path: &str, examined: &mut Examined) {
    if DEPRECATED.contains(&path) {
        return;
    }
    let Some(theirs) = theirs else {
        examined.pruned.insert(path.to_owned());
        return;
    };
    // A type that is not given takes anything; `x-kubernetes-int-or-string` takes our strings.
    if theirs.get("type").is_some_and(|kind| *kind != ours["type"]) {
        examined.refused.insert(path.to_owned());
        return;
    }
    let keeps_unknown = theirs.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true));
    for (name, field) in ours.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let field_path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let theirs = theirs.get("properties").and_then(|properties| properties.get(name));
        let of_the_server = matches!(field_path.as_str(), "apiVersion" | "kind" | "metadata");
        if !of_the_server && (theirs.is_some() || !keeps_unknown) {
            compare(field, theirs, &field_path, examined);
        }
    }
    if let Some(items) = ours.get("items") {
        compare(items, theirs.get("items"), &format!("{path}[]"), examined);
    }
}

#[cfg(test)]
mod tests;
