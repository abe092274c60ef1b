//! Bodies of versions that are no longer written, and what each becomes. Frozen like all others.

use std::net::Ipv4Addr;

use bincode::{Decode, Encode};
use serde::Serialize;

use crate::machine::event::{control, decided, seen};

/// Kind 4, version 1: what the journal knew before stayed, beside what was read.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct RebasedV1 {
    /// Why history is not continuous.
    pub reason: String,
}

impl From<RebasedV1> for control::Rebased {
    fn from(RebasedV1 { reason }: RebasedV1) -> Self {
        Self { reason, anew: false }
    }
}

/// Kind 12, version 1: before reservations, moves and other writers were told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct ClaimSeenV1 {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID of the PodDNAT.
    pub uid: String,
    /// resourceVersion.
    pub resource_version: String,
    /// A deletion was asked for.
    pub deleting: bool,
    /// Our finalizer is set.
    pub finalizer: bool,
    /// The claim annotation, where there is one that parses.
    pub claim: Option<ClaimV1>,
    /// Status lists entries.
    pub published: bool,
}

/// The claim annotation as far as the machine needs it. Frozen with kind 12, version 1.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct ClaimV1 {
    /// The allocation.
    pub allocation: (u64, u64),
    /// The pod.
    pub pod: String,
    /// The mapping is fixed.
    pub fixed: bool,
    /// The gateway.
    pub gateway: String,
    /// The forward table.
    pub table: String,
    /// The EIP.
    pub eip: Option<Ipv4Addr>,
    /// The pod's address.
    pub ip: Option<Ipv4Addr>,
    /// ENI, vSwitch and zone of the address.
    pub place: (String, String, String),
    /// The items.
    pub items: Vec<decided::Item>,
}

impl From<ClaimSeenV1> for seen::ClaimSeen {
    fn from(body: ClaimSeenV1) -> Self {
        let ClaimSeenV1 { namespace, name, uid, resource_version, deleting, finalizer, claim, published } = body;
        let claim = claim.map(|claim| Box::new(claim.into()));
        Self {
            namespace,
            name,
            uid,
            resource_version,
            deleting,
            finalizer,
            claim,
            published,
            ..Self::default()
        }
    }
}

impl From<ClaimV1> for seen::Claim {
    fn from(body: ClaimV1) -> Self {
        let ClaimV1 { allocation, pod, fixed, gateway, table, eip, ip, place, items } = body;
        Self { allocation, pod, fixed, gateway, table, eip, ip, place, items, ..Self::default() }
    }
}

/// Kind 12, version 2: before what was adopted was told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct ClaimSeenV2 {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID of the PodDNAT.
    pub uid: String,
    /// resourceVersion.
    pub resource_version: String,
    /// A deletion was asked for.
    pub deleting: bool,
    /// Our finalizer is set.
    pub finalizer: bool,
    /// The claim annotation, where there is one that parses.
    pub claim: Option<Box<ClaimV2>>,
    /// Status lists entries.
    pub published: bool,
    /// The first owner that is not a pod: API version, kind, name, UID.
    pub owner: Option<(String, String, String, String)>,
    /// Who wrote the object, by its managedFields.
    pub manager: u8,
    /// What an object without a claim annotation maps.
    pub shown: Option<Box<seen::Shown>>,
}

/// The claim annotation as far as the machine needs it. Frozen with kind 12, version 2.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct ClaimV2 {
    /// The allocation.
    pub allocation: (u64, u64),
    /// The pod.
    pub pod: String,
    /// The mapping is fixed.
    pub fixed: bool,
    /// The gateway.
    pub gateway: String,
    /// The forward table.
    pub table: String,
    /// The EIP.
    pub eip: Option<Ipv4Addr>,
    /// The pod's address.
    pub ip: Option<Ipv4Addr>,
    /// ENI, vSwitch and zone of the address.
    pub place: (String, String, String),
    /// The items.
    pub items: Vec<decided::Item>,
    /// Wall time since which no pod of the name exists; a fixed mapping only.
    pub absent_since_wall_ms: Option<i64>,
    /// Earlier allocations of the name whose entries may still exist.
    pub releasing: Vec<seen::Releasing>,
}

impl From<ClaimSeenV2> for seen::ClaimSeen {
    fn from(body: ClaimSeenV2) -> Self {
        let ClaimSeenV2 { namespace, name, uid, resource_version, deleting, finalizer, .. } = body;
        let ClaimSeenV2 { claim, published, owner, manager, shown, .. } = body;
        let claim = claim.map(|claim| Box::new((*claim).into()));
        Self {
            namespace,
            name,
            uid,
            resource_version,
            deleting,
            finalizer,
            claim,
            published,
            owner,
            manager,
            shown,
        }
    }
}

impl From<ClaimV2> for seen::Claim {
    fn from(body: ClaimV2) -> Self {
        let ClaimV2 { allocation, pod, fixed, gateway, table, eip, ip, place, items, .. } = body;
        let ClaimV2 { absent_since_wall_ms, releasing, .. } = body;
        Self {
            allocation,
            pod,
            fixed,
            gateway,
            table,
            eip,
            ip,
            place,
            items,
            absent_since_wall_ms,
            releasing,
            ..Self::default()
        }
    }
}
