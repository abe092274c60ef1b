//! Frozen bodies of kinds 10-39: what the cluster and the cloud showed.

use std::net::Ipv4Addr;

use bincode::{Decode, Encode};
use serde::Serialize;

use crate::machine::event::codec;

/// Kind 10, version 1.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct PodSeen {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// The IPv4 address, once there is one.
    pub ip: Option<Ipv4Addr>,
    /// Our annotations (both prefixes), sorted by key.
    pub annotations: Vec<(String, String)>,
    /// An annotation was longer than the journal takes; its value was left out.
    pub oversized: bool,
    /// Declared container ports and their protocols, in order of declaration.
    pub ports: Vec<(u16, u8)>,
    /// The pod uses its node's network.
    pub host_network: bool,
    /// The pod runs on a virtual node (ECI).
    pub virtual_node: bool,
    /// Phase is Succeeded or Failed.
    pub terminal: bool,
    /// A deletion was asked for; its grace period.
    pub terminating_grace_ms: Option<u64>,
    /// The pod runs no container any more.
    pub containers_terminated: bool,
    /// The pod's namespace is being deleted.
    pub namespace_terminating: bool,
    /// The pod's controller: API version, kind, name, UID.
    pub owner: Option<(String, String, String, String)>,
    /// The pod lists our readiness gate.
    pub gate: bool,
    /// Creation, milliseconds since 1970-01-01 UTC.
    pub created_wall_ms: i64,
}

/// Kind 11, version 1.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct PodGone {
    /// UID.
    pub uid: String,
}

/// [`ClaimSeen::manager`]: the object does not tell.
pub const MANAGER_NOT_TOLD: u8 = 0;

/// [`ClaimSeen::manager`]: natgw wrote it.
pub const MANAGER_NATGW: u8 = 1;

/// [`ClaimSeen::manager`]: only others wrote it.
pub const MANAGER_ANOTHER: u8 = 2;

/// [`ClaimSeen::lacks`]: the status lists entries without what we publish beside them.
pub const LACKS_STATUS: u8 = 1;

/// [`ClaimSeen::lacks`]: the spec does not name the protocol of each port.
pub const LACKS_SPEC: u8 = 2;

/// [`ClaimSeen::lacks`]: the spec, or the term in the annotation, says otherwise than the claim: somebody edited it.
pub const EDITED_SPEC: u8 = 4;

/// [`ClaimSeen::lacks`]: the status lists entries, and says otherwise than the claim: somebody edited it, or it is of an
/// earlier content.
pub const EDITED_STATUS: u8 = 8;

/// Kind 12, version 5.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct ClaimSeen {
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
    pub claim: Option<Box<Claim>>,
    /// Status lists entries.
    pub published: bool,
    /// The first owner that is not a pod: API version, kind, name, UID.
    pub owner: Option<(String, String, String, String)>,
    /// Who wrote the object, by its managedFields.
    pub manager: u8,
    /// What an object without a claim annotation maps.
    pub shown: Option<Box<Shown>>,
    /// What of ours an object with a claim annotation does not show though the served definition takes it, or shows
    /// otherwise: a sum of [`LACKS_STATUS`], [`LACKS_SPEC`], [`EDITED_SPEC`] and [`EDITED_STATUS`].
    pub lacks: u8,
    /// Which entries the status names, by [`ids_shown`]; 0 where it names none, and in records of before version 5.
    pub ids: u64,
}

/// What [`ClaimSeen::ids`] says of the ids of a status's entries, in their order: the first eight bytes of the BLAKE3
/// hash of the ids, each with a line feed behind it. A journal keeps these numbers: they must not change. 0 where there
/// are no entries.
#[must_use]
pub fn ids_shown<'a>(ids: impl IntoIterator<Item = &'a str>) -> u64 {
    let mut ids = ids.into_iter().peekable();
    if ids.peek().is_none() {
        return 0;
    }
    let mut hasher = blake3::Hasher::new();
    for id in ids {
        hasher.update(id.as_bytes());
        hasher.update(b"\n");
    }
    let mut first = [0; 8];
    hasher.finalize_xof().fill(&mut first);
    u64::from_be_bytes(first)
}

/// Items with which a claim that has neither owner nor anything releasing fits a record, however long its names are.
const SURELY_FIT: usize = 32;

impl ClaimSeen {
    /// What of it the journal takes. Only an annotation that nobody of us wrote is larger: then it does not count.
    #[must_use]
    pub fn bounded(self) -> Self {
        let few =
            |claim: &Claim| claim.releasing.is_empty() && claim.entries.is_empty() && claim.items.len() <= SURELY_FIT;
        let surely = self.owner.is_none() && self.shown.is_none() && self.claim.as_deref().is_none_or(few);
        let mut bytes = Vec::new();
        if surely || (codec::encode_body(&self, &mut bytes).is_ok() && bytes.len() <= codec::BODY_BYTES_MAX) {
            return self;
        }
        Self { claim: None, owner: None, shown: None, ..self }
    }
}

/// The claim annotation as far as the machine needs it. Frozen with kind 12, versions 3 to 5.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct Claim {
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
    pub items: Vec<super::decided::Item>,
    /// Wall time since which no pod of the name exists; a fixed mapping only.
    pub absent_since_wall_ms: Option<i64>,
    /// Earlier allocations of the name whose entries may still exist.
    pub releasing: Vec<Releasing>,
    /// The entries that were adopted, item by item, empty where an item's was not; none where none was.
    pub entries: Vec<String>,
    /// A reservation of the original controller's: only its deletion frees it.
    pub kept: bool,
}

/// An allocation that goes while its successor has the claim. Frozen with kind 12, version 2.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct Releasing {
    /// The allocation.
    pub allocation: (u64, u64),
    /// Its pod.
    pub pod: String,
    /// Its gateway.
    pub gateway: String,
    /// Its forward table.
    pub table: String,
    /// Its EIP.
    pub eip: Ipv4Addr,
    /// The address to which it sends.
    pub ip: Ipv4Addr,
    /// Its items.
    pub items: Vec<super::decided::Item>,
}

/// What a PodDNAT without our annotation maps. Frozen with kind 12, version 2.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct Shown {
    /// The pod that owns the object, where one does.
    pub pod: Option<String>,
    /// The gateway.
    pub gateway: String,
    /// The EIP.
    pub eip: Ipv4Addr,
    /// The pod's address.
    pub ip: Ipv4Addr,
    /// ENI, vSwitch and zone of the address.
    pub place: (String, String, String),
    /// Internal port, external port, IANA protocol number, and the entry that the status names.
    pub items: Vec<(u16, u16, u8, Option<String>)>,
}

/// Kind 13, version 1.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct ClaimGone {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID of the PodDNAT.
    pub uid: String,
}

/// Kind 20, version 1.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct GatewaySeen {
    /// The gateway.
    pub gateway: String,
    /// Its forward table.
    pub table: Option<String>,
    /// Its zone.
    pub zone: Option<String>,
    /// It is Available and faces the Internet.
    pub available: bool,
    /// Its EIPs: address, usable, used by SNAT.
    pub eips: Vec<(Ipv4Addr, bool, bool)>,
}

/// Kind 21, version 1.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct GatewayGone {
    /// The gateway.
    pub gateway: String,
}

/// Kind 22, version 1.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct RouteSeen {
    /// The vSwitch.
    pub vswitch: String,
    /// NAT gateways that are next hop of `0.0.0.0/0`.
    pub gateways: Vec<String>,
}

/// Kind 23, version 1.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct AddressSeen {
    /// The private IP.
    pub ip: Ipv4Addr,
    /// Its interface.
    pub eni: String,
    /// The interface's vSwitch.
    pub vswitch: String,
    /// The interface's zone.
    pub zone: String,
}

/// Kind 24, version 1.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct AddressMissing {
    /// The private IP.
    pub ip: Ipv4Addr,
}

/// Kind 25, version 1.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct EntrySeen {
    /// The table.
    pub table: String,
    /// The entry.
    pub entry: String,
    /// ForwardEntryName.
    pub name: String,
    /// ExternalIp.
    pub external_ip: Ipv4Addr,
    /// ExternalPort, both ends; (0, 0) is `Any`.
    pub external_ports: (u16, u16),
    /// InternalIp.
    pub internal_ip: Ipv4Addr,
    /// InternalPort, both ends; (0, 0) is `Any`.
    pub internal_ports: (u16, u16),
    /// IANA protocol number; 0 is any.
    pub protocol: u8,
    /// 0 pending, 1 available, 2 deleting, 3 a status that no page names.
    pub status: u8,
}

/// Kind 26, version 1.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct EntryVanished {
    /// The table.
    pub table: String,
    /// The entry.
    pub entry: String,
}

/// Kind 27, version 1.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct EntriesMissed {
    /// The table.
    pub table: String,
    /// Machine time at which the listing began.
    pub began_ms: u64,
    /// Generations of the items that it does not show.
    pub generations: Vec<(u64, u64)>,
}

/// Kind 28, version 1.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct TableListed {
    /// The table.
    pub table: String,
    /// The last event that was folded when the listing began.
    pub began_seq: u64,
    /// Machine time at which the listing began.
    pub began_ms: u64,
    /// Entries in the listing.
    pub entries: u32,
}

/// Kind 29, version 1.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct TableGone {
    /// The table.
    pub table: String,
}

/// Kind 30, version 1.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct RoomSeen {
    /// Bytes that the journal's disk can still take.
    pub free: u64,
    /// Bytes that should be free.
    pub floor: u64,
    /// Less is free than should be, and nothing new is allocated; otherwise there is room again.
    pub short: bool,
}
