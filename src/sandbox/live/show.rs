//! The mappings, for people and for scripts.

use comfy_table::Table;
use comfy_table::presets::NOTHING;
use std::net::Ipv4Addr;

use serde_json::{Value, json};

use crate::cluster::pod::{PodStatus, STATUS_ANNOTATION};
use crate::cluster::poddnat::PodDnat;
use crate::machine::identity::PodKey;
use crate::sandbox::cluster::{Model, Pod};

/// How mappings are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// A line for each pod that asks.
    #[default]
    Table,
    /// The PodDNATs as a v1 List.
    Yaml,
    /// The same, as JSON.
    Json,
}

/// Why mappings could not be put into words.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("the PodDNATs are no JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error("the PodDNATs are no YAML: {0}")]
    Yaml(#[from] serde_saphyr::ser_error::Error),
}

/// What is printed of a cluster.
#[derive(Debug)]
pub(super) struct Mapped {
    /// Pods that carry a word of ours, with address and word.
    pub(super) pods: Vec<(PodKey, Option<Ipv4Addr>, PodStatus)>,
    /// The PodDNATs.
    pub(super) claims: Vec<PodDnat>,
    /// Of which version the list is, where it is of one.
    pub(super) version: String,
}

impl Mapped {
    /// What is printed of the simulated cluster.
    pub(super) fn of_model(model: &Model) -> Self {
        let said = |pod: &Pod| {
            let status = pod.annotations.get(STATUS_ANNOTATION)?;
            Some((pod.key.clone(), pod.ip, serde_json::from_str(status).ok()?))
        };
        let (pods, claims) = (model.pods().filter_map(said).collect(), model.poddnats().map(shown).collect());
        Self { pods, claims, version: model.version().to_string() }
    }
}

/// The PodDNATs of a cluster, ending in a line break.
pub(super) fn render(mapped: &Mapped, format: Format) -> Result<String, Error> {
    match format {
        Format::Table => Ok(table(mapped)),
        Format::Yaml => Ok(format!("---\n{}", serde_saphyr::to_string(&list(mapped)?)?)),
        Format::Json => Ok(format!("{}\n", serde_json::to_string_pretty(&list(mapped)?)?)),
    }
}

/// A PodDNAT as kubectl shows it: who wrote which field is left out.
fn shown(object: &PodDnat) -> PodDnat {
    let mut object = object.clone();
    object.metadata.managed_fields.clear();
    object
}

/// One v1 List, as `kubectl get poddnats -A -o json` prints it.
fn list(mapped: &Mapped) -> Result<Value, Error> {
    let items = mapped.claims.iter().map(serde_json::to_value).collect::<Result<Vec<_>, _>>()?;
    let metadata = json!({ "resourceVersion": mapped.version });
    Ok(json!({ "apiVersion": "v1", "kind": "List", "items": items, "metadata": metadata }))
}

fn table(mapped: &Mapped) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(["POD", "STATE", "EXTERNAL", "INTERNAL", "GATEWAY", "REASON"]);
    let mut claims: std::collections::BTreeMap<_, _> =
        mapped.claims.iter().map(|claim| ((&*claim.metadata.namespace, &*claim.metadata.name), claim)).collect();
    for (key, ip, status) in &mapped.pods {
        let claim = claims.remove(&(key.namespace(), key.name()));
        let ip = ip.map_or_else(String::new, |ip| ip.to_string());
        let ports = claim.map_or_else(String::new, |claim| ports(&claim.spec));
        table.add_row([
            key.to_string(),
            status.phase.clone(),
            status.external_address.clone().unwrap_or_default(),
            format!("{ip}{ports}"),
            claim.map_or_else(String::new, |claim| claim.spec.table_id.clone()),
            status.reason.clone(),
        ]);
    }
    for ((namespace, name), claim) in claims {
        let address = claim.status.external_address.clone().unwrap_or_default();
        let internal = format!("{}{}", claim.spec.internal_ip, ports(&claim.spec));
        let reason = claim.status.conditions.first().map(|condition| condition.reason.clone()).unwrap_or_default();
        let state = if claim.metadata.deletion_timestamp.is_some() { "Releasing" } else { "Pending" };
        table.add_row([
            format!("{namespace}/{name}"),
            state.to_owned(),
            address,
            internal,
            claim.spec.table_id.clone(),
            reason,
        ]);
    }
    let lines = table.lines().map(|line| format!("{}\n", line.trim_end()));
    lines.collect()
}

fn ports(spec: &crate::cluster::poddnat::Spec) -> String {
    let ports: Vec<_> = spec.port_mapping.iter().map(|port| port.internal_port.as_str()).collect();
    format!(":{}", ports.join(","))
}
