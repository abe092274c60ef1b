//! What an object of ours shows, held against the claim in its annotation.
//!
//! The annotation does not repeat EIP, address and place: these count as the spec has them, and the machine compares them
//! with what it decided. Nor does it name the entries: the machine, which knows them, compares their ids.

use super::{ClaimAnnotation, ClaimItem, Entry, Kept, PodDnat, PortMapping, READY, Spec, Status};
use crate::machine::event::seen::{EDITED_SPEC, EDITED_STATUS, LACKS_SPEC, LACKS_STATUS};

/// What the object does not show though the served definition keeps it, as one that was written under a definition that
/// did not, and what it shows otherwise than its claim: a sum of the numbers of `ClaimSeen::lacks`.
pub(super) fn lacks(object: &PodDnat, claim: &ClaimAnnotation, kept: Kept) -> u8 {
    of_spec(&object.spec, claim, kept) | of_status(object, claim, kept)
}

fn of_spec(spec: &Spec, claim: &ClaimAnnotation, kept: Kept) -> u8 {
    let meant = meant(spec, claim);
    let unnamed = |port: &PortMapping, meant: &PortMapping| port.protocol.is_none() && meant.protocol.is_some();
    let same = |port: &PortMapping, meant: &PortMapping| {
        let ports = (&port.external_port, &port.internal_port) == (&meant.external_port, &meant.internal_port);
        ports && (port.protocol == meant.protocol || unnamed(port, meant))
    };
    let pairs = || spec.port_mapping.iter().zip(&meant.port_mapping);
    let ports = spec.port_mapping.len() == meant.port_mapping.len() && pairs().all(|(port, meant)| same(port, meant));
    let others = |spec: &Spec| Spec { port_mapping: Vec::new(), ..spec.clone() };
    let edited = !ports || others(spec) != others(&meant) || claim.term != claim.term_of_items();
    let lacks = kept.port_protocol && pairs().any(|(port, meant)| unnamed(port, meant));
    (if lacks { LACKS_SPEC } else { 0 }) | (if edited { EDITED_SPEC } else { 0 })
}

/// A status without entries says nothing of any.
fn of_status(object: &PodDnat, claim: &ClaimAnnotation, kept: Kept) -> u8 {
    let PodDnat { spec, status: Status { conditions, entries, external_address, .. }, .. } = object;
    if entries.is_empty() {
        return 0;
    }
    let ready = conditions.iter().find(|condition| condition.r#type == READY);
    let lacks = (kept.conditions && ready.is_none()) || (kept.external_address && external_address.is_none());
    let ports: Vec<_> = claim.items.iter().map(|item| format!("{}/{}", item.external, item.protocol)).collect();
    let address = format!("{}:{}", spec.external_ip, ports.join(","));
    let edited = external_address.as_ref().is_some_and(|shown| *shown != address)
        || ready.is_some_and(|ready| ready.status != "True")
        || entries.len() != claim.items.len()
        || !entries.iter().zip(&claim.items).all(|(entry, item)| is_of(entry, item, spec));
    (if lacks { LACKS_STATUS } else { 0 }) | (if edited { EDITED_STATUS } else { 0 })
}

/// The spec that the claim stands for.
fn meant(spec: &Spec, claim: &ClaimAnnotation) -> Spec {
    let protocol = claim.items.first().map(|item| item.protocol);
    let port = |item: &ClaimItem| PortMapping {
        external_port: item.external.to_string(),
        internal_port: item.internal.to_string(),
        protocol: (Some(item.protocol) != protocol).then(|| item.protocol.to_string()),
    };
    let Spec { eni, external_ip, internal_ip, vswitch, zone_id, .. } = spec.clone();
    Spec {
        eni,
        external_ip,
        internal_ip,
        vswitch,
        zone_id,
        port_mapping: claim.items.iter().map(port).collect(),
        protocol: protocol.map(|protocol| protocol.to_string()).unwrap_or_default(),
        table_id: claim.gateway.clone(),
        ..Spec::default()
    }
}

/// Whether an entry of the status is that of an item.
fn is_of(entry: &Entry, item: &ClaimItem, spec: &Spec) -> bool {
    let shown = [&entry.external_port, &entry.internal_port, &entry.ip_protocol];
    let meant = [item.external.to_string(), item.internal.to_string(), item.protocol.to_string()];
    shown.into_iter().eq(&meant)
        && (&entry.external_ip, &entry.internal_ip) == (&spec.external_ip, &spec.internal_ip)
        && !entry.forward_entry_id.is_empty()
}
