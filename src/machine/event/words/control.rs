//! Sentences of kinds 1-9.

use super::phrase::{count, hex, list, ports, seconds};
use crate::machine::event::control::{
    ClusterRead, Configured, DigestTaken, PoolConfigured, Rebased, SnapshotBegun, SnapshotEnded, TableOpened,
    TermStarted,
};

pub(super) fn configured(body: &Configured) -> String {
    let repair = if body.repair { "repaired" } else { "only reported" };
    let adopt = if body.adopt { "may" } else { "may not" };
    let retention = body.fixed_retention_ms.map_or_else(|| "for ever".to_owned(), |ms| format!("for {}", seconds(ms)));
    let port_break = match body.port_break {
        0 => "auto".to_owned(),
        1 => "always".to_owned(),
        2 => "never".to_owned(),
        number => format!("setting {number}, which this build does not know"),
    };
    format!(
        "configuration with {} takes effect in cluster {}: freed ports rest {}, everything is read again each {}, \
         deviations are {repair}, mappings of the original controller {adopt} be taken over, fixed mappings are kept \
         {retention}, PortBreak {port_break}, stateful kinds beside StatefulSet: {}",
        count(body.pools, "pool", "pools"),
        body.cluster_uid,
        seconds(body.cooldown_ms),
        seconds(body.resync_ms),
        list(&body.stateful_kinds),
    )
}

pub(super) fn pool_configured(body: &PoolConfigured) -> String {
    let eips = if body.eips.is_empty() { "all EIPs of it".to_owned() } else { list(&body.eips) };
    let excluded = match body.excluded.as_slice() {
        [] => String::new(),
        excluded => format!(", except {}", list(excluded.iter().map(|range| ports(*range)))),
    };
    format!(
        "pool {} is NAT gateway {} in zone {}: ports {} to {}{excluded} on {eips}; the next configuration commits it",
        body.index, body.gateway, body.zone, body.first, body.last
    )
}

pub(super) fn term_started(body: &TermStarted) -> String {
    let predecessor = body.predecessor.as_ref().map_or_else(
        || "the Lease named no earlier journal".to_owned(),
        |(id, seq, _)| format!("the Lease last named journal {} at entry {seq}", hex(id)),
    );
    format!("term {} started with {} as the leader; {predecessor}", body.term, body.holder)
}

pub(super) fn rebased(body: &Rebased) -> String {
    format!("the history before this point is not continuous ({:?}), and what follows rebuilds the state", body.reason)
}

pub(super) fn cluster_read(body: &ClusterRead) -> String {
    format!(
        "the cluster has been read in this term: {} and {}",
        count(body.pods, "pod", "pods"),
        count(body.claims, "PodDNAT", "PodDNATs")
    )
}

pub(super) fn table_opened(body: &TableOpened) -> String {
    format!(
        "forward table {} has been read in this term ({}), and decisions about it may begin",
        body.table,
        count(body.entries, "entry", "entries")
    )
}

pub(super) fn digest_taken(body: &DigestTaken) -> String {
    format!("the digest (version {}) of the state is {}", body.version, hex(&body.digest))
}

pub(super) fn snapshot_begun(body: &SnapshotBegun) -> String {
    format!("a snapshot of the state through entry {} begins", body.through)
}

pub(super) fn snapshot_ended(body: &SnapshotEnded) -> String {
    format!("the snapshot of the state through entry {} ends with digest {}", body.through, hex(&body.digest))
}
