//! Frozen bodies of kinds 1-9: what frames a history.

use std::net::Ipv4Addr;

use bincode::{Decode, Encode};
use serde::Serialize;

/// Kind 1, version 1.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct Configured {
    /// UID of the kube-system namespace: the cluster's identity.
    pub cluster_uid: String,
    /// How many `PoolConfigured` precede this and are committed by it.
    pub pools: u16,
    /// A freed port's rest.
    pub cooldown_ms: u64,
    /// How long the reservation of a bare pod is kept; none keeps it for ever.
    pub fixed_retention_ms: Option<u64>,
    /// How often everything is read again, and full tables are probed.
    pub resync_ms: u64,
    /// Deviations are repaired; otherwise only reported.
    pub repair: bool,
    /// Claims of the original controller may be taken over.
    pub adopt: bool,
    /// 0 auto, 1 always, 2 never.
    pub port_break: u8,
    /// Workload kinds, beside StatefulSet, whose pods may have fixed mappings.
    pub stateful_kinds: Vec<String>,
}

/// Kind 2, version 1.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct PoolConfigured {
    /// Position in the configuration, from 0.
    pub index: u16,
    /// The gateway.
    pub gateway: String,
    /// The zone.
    pub zone: String,
    /// First port, inclusive.
    pub first: u16,
    /// Last port, inclusive.
    pub last: u16,
    /// The EIPs to use; empty means all that the gateway has.
    pub eips: Vec<Ipv4Addr>,
    /// Port ranges, both ends inclusive, that are never given.
    pub excluded: Vec<(u16, u16)>,
}

/// Kind 3, version 1.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct TermStarted {
    /// The new term.
    pub term: u64,
    /// Who leads.
    pub holder: String,
    /// Identity, head and hash of the journal that the Lease named last.
    pub predecessor: Option<([u8; 16], u64, [u8; 32])>,
}

/// Kind 4, version 2.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct Rebased {
    /// Why history is not continuous.
    pub reason: String,
    /// Nothing that was known before counts any more.
    pub anew: bool,
}

/// Kind 5, version 1.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct ClusterRead {
    /// Pods in the listing that ask or have a claim.
    pub pods: u32,
    /// Claims in the listing.
    pub claims: u32,
}

/// Kind 6, version 1.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct TableOpened {
    /// The table.
    pub table: String,
    /// Entries in the listing.
    pub entries: u32,
}

/// Kind 7, version 1.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct DigestTaken {
    /// Which projection of the state was hashed.
    pub version: u8,
    /// The digest of the state before this event.
    pub digest: [u8; 32],
}

/// Kind 8, version 1.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct SnapshotBegun {
    /// The last event that the snapshot covers.
    pub through: u64,
}

/// Kind 9, version 1.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct SnapshotEnded {
    /// The last event that the snapshot covers.
    pub through: u64,
    /// The digest of the state that the stream gives.
    pub digest: [u8; 32],
}
