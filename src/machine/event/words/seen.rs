//! Sentences of kinds 10-39.

use super::phrase::{count, endpoint, list, port, ports, seconds, stamp};
use crate::machine::event::seen::{
    AddressMissing, AddressSeen, ClaimGone, ClaimSeen, EDITED_SPEC, EDITED_STATUS, EntriesMissed, EntrySeen,
    EntryVanished, GatewayGone, GatewaySeen, LACKS_SPEC, LACKS_STATUS, PodGone, PodSeen, RoomSeen, RouteSeen,
    TableGone, TableListed,
};
use crate::machine::identity::Mark;

pub(super) fn pod_seen(body: &PodSeen) -> String {
    let address = body.ip.map_or_else(|| "no IP yet".to_owned(), |ip| format!("IP {ip}"));
    let annotations = list(body.annotations.iter().map(|(key, value)| format!("{key}={value:?}")));
    let mut words = format!(
        "pod {}/{} (UID {}) was seen with {address}, annotations: {annotations}",
        body.namespace, body.name, body.uid
    );
    if !body.ports.is_empty() {
        words.push_str(&format!(
            ", declared ports: {}",
            list(body.ports.iter().map(|(internal, protocol)| port(*internal, *protocol)))
        ));
    }
    if let Some((_, kind, name, _)) = &body.owner {
        words.push_str(&format!(", owned by {kind} {name}"));
    }
    if let Some(grace) = body.terminating_grace_ms {
        words.push_str(&format!(", being deleted with {} of grace", seconds(grace)));
    }
    let traits = [
        (body.oversized, "an annotation too long to keep"),
        (body.host_network, "its node's network"),
        (body.virtual_node, "a virtual node"),
        (body.terminal, "a final phase"),
        (body.containers_terminated, "no container running any more"),
        (body.namespace_terminating, "its namespace being deleted"),
        (body.gate, "our readiness gate"),
    ];
    for (_, what) in traits.iter().filter(|(holds, _)| *holds) {
        words.push_str(", with ");
        words.push_str(what);
    }
    words
}

pub(super) fn pod_gone(body: &PodGone) -> String {
    format!("the pod with UID {} is gone", body.uid)
}

pub(super) fn claim_seen(body: &ClaimSeen) -> String {
    let claim = body.claim.as_ref().map_or_else(
        || "no claim that can be read".to_owned(),
        |claim| {
            let eip = claim.eip.map_or_else(|| "no EIP".to_owned(), |eip| eip.to_string());
            let items = list(claim.items.iter().map(|item| {
                let external = port(item.external, item.protocol);
                format!("{external} -> {} (generation {})", item.internal, stamp(item.generation))
            }));
            let fixed = if claim.fixed { "fixed " } else { "" };
            format!(
                "a claim of {fixed}allocation {} for the pod with UID {}: {eip} of NAT gateway {}, table {}, ports {items}",
                stamp(claim.allocation),
                claim.pod,
                claim.gateway,
                claim.table
            )
        },
    );
    let mut words = format!("PodDNAT {}/{} (UID {}) was seen with {claim}", body.namespace, body.name, body.uid);
    let published = if body.published { "its status lists entries" } else { "its status lists none" };
    let finalizer = if body.finalizer { "our finalizer is set" } else { "our finalizer is not set" };
    words.push_str(&format!("; {published}, {finalizer}"));
    let lacks = |what| body.lacks & what != 0;
    if lacks(LACKS_STATUS) {
        words.push_str(", its status lacks what the served definition keeps");
    }
    if lacks(LACKS_SPEC) {
        words.push_str(", its spec does not name the protocol of each port");
    }
    if lacks(EDITED_STATUS) {
        words.push_str(", its status says otherwise than its claim");
    }
    if lacks(EDITED_SPEC) {
        words.push_str(", its spec says otherwise than its claim");
    }
    if body.ids != 0 {
        words.push_str(&format!(", the ids of its entries have the digest {:016x}", body.ids));
    }
    if body.deleting {
        words.push_str(", and it is being deleted");
    }
    words
}

pub(super) fn claim_gone(body: &ClaimGone) -> String {
    format!("PodDNAT {}/{} (UID {}) is gone", body.namespace, body.name, body.uid)
}

pub(super) fn gateway_seen(body: &GatewaySeen) -> String {
    let table = body.table.as_deref().map_or_else(|| "no forward table".to_owned(), |id| format!("forward table {id}"));
    let zone = body.zone.as_deref().map_or_else(|| "no zone".to_owned(), |id| format!("zone {id}"));
    let available = if body.available { "available" } else { "not available" };
    let eips = list(body.eips.iter().map(|(eip, usable, snat)| match (usable, snat) {
        (true, false) => eip.to_string(),
        (true, true) => format!("{eip} (SNAT uses it)"),
        (false, false) => format!("{eip} (not usable)"),
        (false, true) => format!("{eip} (not usable, SNAT uses it)"),
    }));
    format!("NAT gateway {} was seen: {available}, {zone}, {table}, EIPs: {eips}", body.gateway)
}

pub(super) fn gateway_gone(body: &GatewayGone) -> String {
    format!("NAT gateway {} is no longer listed", body.gateway)
}

pub(super) fn route_seen(body: &RouteSeen) -> String {
    match body.gateways.as_slice() {
        [] => format!("the default route of vSwitch {} leads to no NAT gateway", body.vswitch),
        gateways => format!("the default route of vSwitch {} leads to NAT gateway {}", body.vswitch, list(gateways)),
    }
}

pub(super) fn address_seen(body: &AddressSeen) -> String {
    let AddressSeen { ip, eni, vswitch, zone } = body;
    format!("address {ip} belongs to network interface {eni} in vSwitch {vswitch}, zone {zone}")
}

pub(super) fn address_missing(body: &AddressMissing) -> String {
    format!("address {} belongs to no network interface yet", body.ip)
}

pub(super) fn entry_seen(body: &EntrySeen) -> String {
    let status = match body.status {
        0 => "pending".to_owned(),
        1 => "available".to_owned(),
        2 => "being deleted".to_owned(),
        3 => "in a status that no page names".to_owned(),
        number => format!("in status {number}, which this build does not know"),
    };
    let name = Mark::parse(&body.name).map_or_else(
        || format!("its name {:?} is no mark of ours", body.name),
        |mark| format!("marked for allocation {}, generation {}", mark.allocation, mark.generation),
    );
    format!(
        "entry {} of table {} was seen {status}: {} -> {}:{}, {name}",
        body.entry,
        body.table,
        endpoint(body.external_ip, body.external_ports, body.protocol),
        body.internal_ip,
        ports(body.internal_ports)
    )
}

pub(super) fn entry_vanished(body: &EntryVanished) -> String {
    format!("entry {} of table {} is no longer listed", body.entry, body.table)
}

pub(super) fn entries_missed(body: &EntriesMissed) -> String {
    format!(
        "a complete listing of table {}, begun at {} of machine time, shows no entry of generation {}",
        body.table,
        seconds(body.began_ms),
        list(body.generations.iter().copied().map(stamp))
    )
}

pub(super) fn table_listed(body: &TableListed) -> String {
    format!(
        "a complete listing of table {}, begun after entry {} of this journal, ended with {}",
        body.table,
        body.began_seq,
        count(body.entries, "entry", "entries")
    )
}

pub(super) fn table_gone(body: &TableGone) -> String {
    format!("forward table {} does not exist any more, confirmed", body.table)
}

pub(super) fn room_seen(body: &RoomSeen) -> String {
    let RoomSeen { free, floor, short } = body;
    let follows = if *short { "so nothing new is allocated" } else { "so there is room again" };
    format!("the journal's disk has {free} bytes free where {floor} should be, {follows}")
}
