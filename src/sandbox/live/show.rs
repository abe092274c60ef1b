//! The mappings, for people and for scripts.

use comfy_table::Table;
use comfy_table::presets::NOTHING;
use serde_json::Value;

use crate::cluster::pod::{PodStatus, STATUS_ANNOTATION};
use crate::sandbox::cluster::Model;

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

/// The PodDNATs of the cluster, ending in a line break.
pub(super) fn render(model: &Model, format: Format) -> Result<String, Error> {
    match format {
        Format::Table => Ok(table(model)),
        Format::Yaml => Ok(format!("---\n{}", serde_saphyr::to_string(&list(model)?)?)),
        Format::Json => Ok(format!("{}\n", serde_json::to_string_pretty(&list(model)?)?)),
    }
}

fn list(model: &Model) -> Result<Value, Error> {
    Ok(model.poddnat_list()?)
}

/// Pods that carry a word of ours, with it.
fn table(model: &Model) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(["POD", "STATE", "EXTERNAL", "INTERNAL", "GATEWAY", "REASON"]);
    let mut claims: std::collections::BTreeMap<_, _> =
        model.poddnats().map(|claim| ((&*claim.metadata.namespace, &*claim.metadata.name), claim)).collect();
    for pod in model.pods() {
        let status = pod.annotations.get(STATUS_ANNOTATION);
        let Some(status) = status.and_then(|text| serde_json::from_str::<PodStatus>(text).ok()) else { continue };
        let claim = claims.remove(&(&*pod.key.namespace, &*pod.key.name));
        let ip = pod.ip.map_or_else(String::new, |ip| ip.to_string());
        let ports = claim.map_or_else(String::new, |claim| ports(&claim.spec));
        table.add_row([
            pod.key.to_string(),
            status.phase,
            status.external_address.unwrap_or_default(),
            format!("{ip}{ports}"),
            claim.map_or_else(String::new, |claim| claim.spec.table_id.clone()),
            status.reason,
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
