//! What a PodDNAT without our annotation maps, as the original controller writes it (ack-pod-dnat.txt).
//!
//! Spec says what is mapped and status which entries do it. `tableId` is the gateway's id. What does not hold together
//! maps nothing: half a mapping is worse than none.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use super::claim::NAME_BYTES_MAX;
use super::{Entry, POD, PodDnat, PortMapping, Spec};
use crate::machine::demand::ENTRIES_MAX;
use crate::machine::event::seen::Shown;
use crate::machine::identity::Protocol;

/// What the object maps, if it says so.
pub(super) fn of(object: &PodDnat) -> Option<Box<Shown>> {
    let PodDnat { metadata, spec, status, .. } = object;
    let names = [&spec.table_id, &spec.eni, &spec.vswitch, &spec.zone_id];
    if spec.table_id.is_empty() || names.iter().any(|name| name.len() > NAME_BYTES_MAX) {
        return None;
    }
    let (eip, ip) = (spec.external_ip.parse().ok()?, spec.internal_ip.parse().ok()?);
    let ports = ports(spec)?;
    let item = |(internal, external, protocol): (u16, u16, Protocol)| {
        let named = status.entries.iter().find(|entry| is_of(entry, (eip, external), (ip, internal), protocol));
        let id = named.map(|entry| &entry.forward_entry_id).filter(|id| !id.is_empty() && id.len() <= NAME_BYTES_MAX);
        let id = id.cloned().or_else(|| only_entry(spec, status.entries.is_empty()));
        (internal, external, protocol.number(), id)
    };
    let pod = metadata.owner_references.iter().find(|owner| owner.kind == POD).map(|owner| owner.uid.clone());
    Some(Box::new(Shown {
        pod: pod.filter(|uid| !uid.is_empty() && uid.len() <= NAME_BYTES_MAX),
        gateway: spec.table_id.clone(),
        eip,
        ip,
        place: (spec.eni.clone(), spec.vswitch.clone(), spec.zone_id.clone()),
        items: ports.into_iter().map(item).collect(),
    }))
}

/// Internal port, external port and protocol of each mapped port; `None` where one cannot be read or is there twice.
fn ports(spec: &Spec) -> Option<Vec<(u16, u16, Protocol)>> {
    let default = protocol(&spec.protocol)?;
    // Of the time when a pod had one port.
    let only = spec.external_port.as_ref().zip(spec.internal_port.as_ref()).map(|(external, internal)| PortMapping {
        external_port: external.clone(),
        internal_port: internal.clone(),
        protocol: None,
    });
    let listed = if spec.port_mapping.is_empty() { only.as_slice() } else { &spec.port_mapping };
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port != 0);
    let read = |mapped: &PortMapping| {
        let protocol = mapped.protocol.as_deref().map_or(Some(default), protocol)?;
        Some((port(&mapped.internal_port)?, port(&mapped.external_port)?, protocol))
    };
    let ports = listed.iter().map(read).collect::<Option<Vec<_>>>()?;
    let inside: BTreeSet<_> = ports.iter().map(|(internal, _, protocol)| (*internal, *protocol)).collect();
    let outside: BTreeSet<_> = ports.iter().map(|(_, external, protocol)| (*external, *protocol)).collect();
    let distinct = inside.len() == ports.len() && outside.len() == ports.len();
    (distinct && !ports.is_empty() && ports.len() <= ENTRIES_MAX).then_some(ports)
}

fn protocol(text: &str) -> Option<Protocol> {
    match text.to_ascii_lowercase().as_str() {
        "" | "tcp" => Some(Protocol::Tcp),
        "udp" => Some(Protocol::Udp),
        _ => None,
    }
}

fn is_of(entry: &Entry, outside: (Ipv4Addr, u16), inside: (Ipv4Addr, u16), wanted: Protocol) -> bool {
    entry.external_ip.parse() == Ok(outside.0)
        && entry.external_port.parse() == Ok(outside.1)
        && entry.internal_ip.parse() == Ok(inside.0)
        && entry.internal_port.parse() == Ok(inside.1)
        && protocol(&entry.ip_protocol) == Some(wanted)
}

fn only_entry(spec: &Spec, none_listed: bool) -> Option<String> {
    let old = spec.port_mapping.is_empty() && none_listed;
    spec.entry_id.clone().filter(|id| old && !id.is_empty() && id.len() <= NAME_BYTES_MAX)
}
