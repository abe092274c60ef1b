//! Frozen bodies of kinds 40-59: what was chosen, once. Replay never chooses again.

use std::net::Ipv4Addr;

use bincode::{Decode, Encode};
use serde::Serialize;

/// One mapped port of an allocation. Frozen with kinds 12, 40, 41, 42 and 49, version 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct Item {
    /// The pod's port.
    pub internal: u16,
    /// The public port.
    pub external: u16,
    /// IANA protocol number.
    pub protocol: u8,
    /// The creation.
    pub generation: (u64, u64),
    /// PortBreak is set.
    pub port_break: bool,
}

/// Kinds 40, 41 and 42, version 1.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct Allocated {
    /// The pod.
    pub pod: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The allocation.
    pub allocation: (u64, u64),
    /// The gateway.
    pub gateway: String,
    /// Its forward table.
    pub table: String,
    /// The EIP.
    pub eip: Ipv4Addr,
    /// The pod's address.
    pub ip: Ipv4Addr,
    /// The address's interface.
    pub eni: String,
    /// The interface's vSwitch.
    pub vswitch: String,
    /// The interface's zone.
    pub zone: String,
    /// The mapping is fixed.
    pub fixed: bool,
    /// The mapped ports, in the order asked.
    pub items: Vec<Item>,
    /// EIPs that were passed over and why: 1 not usable, 2 fewer free ports, 3 no room, 4 as many free
    /// ports and configured later.
    pub passed_over: Vec<(Ipv4Addr, u8)>,
}

/// Kind 43, version 1.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct Waited {
    /// The pod.
    pub pod: String,
    /// The table in whose queue it stands, where the reason is room.
    pub table: Option<String>,
    /// [`crate::machine::demand::WaitReason`] as a number.
    pub reason: u8,
    /// Entries that it needs.
    pub entries: u16,
}

/// Kind 44, version 1.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct Refused {
    /// The pod.
    pub pod: String,
    /// [`crate::machine::demand::RefusalReason`] as a number.
    pub reason: u8,
    /// The field and the value, bounded.
    pub detail: String,
}

/// Kind 45, version 1.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct ReleaseDecided {
    /// The allocation.
    pub allocation: (u64, u64),
    /// [`crate::machine::demand::ReleaseReason`] as a number.
    pub reason: u8,
}

/// Kind 46, version 1.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct RebindDecided {
    /// The allocation.
    pub allocation: (u64, u64),
    /// The pod's new address.
    pub ip: Ipv4Addr,
}

/// [`Regenerated::reason`]: the entry was lost.
pub const REGENERATED_LOST: u8 = 1;

/// Kind 47, version 1.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct Regenerated {
    /// The allocation.
    pub allocation: (u64, u64),
    /// 1 the entry was lost, 2 the pod's address changed, 3 retry after a refusal.
    pub reason: u8,
    /// The pod's address.
    pub ip: Ipv4Addr,
    /// The address's interface, vSwitch and zone.
    pub place: (String, String, String),
    /// Internal port, protocol, new generation.
    pub items: Vec<(u16, u8, (u64, u64))>,
}

/// Kind 48, version 1.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct ItemMoved {
    /// The allocation.
    pub allocation: (u64, u64),
    /// The item as it is now: its internal port and protocol name it.
    pub item: Item,
    /// The external port that somebody else holds.
    pub from: u16,
}

/// Kind 49, version 1.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct ItemsChanged {
    /// The allocation.
    pub allocation: (u64, u64),
    /// Items that go down: internal port, protocol.
    pub dropped: Vec<(u16, u8)>,
    /// Items that come.
    pub added: Vec<Item>,
}

/// Kind 50, version 1.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct StaleDecided {
    /// The table.
    pub table: String,
    /// The entry.
    pub entry: String,
}

/// Kind 51, version 1.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct GhostDecided {
    /// Namespace of the claim.
    pub namespace: String,
    /// Name of the claim.
    pub name: String,
    /// UID of the PodDNAT.
    pub uid: String,
}

/// Kind 52, version 1.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct QuotaLearned {
    /// The table.
    pub table: String,
    /// Entries that it takes; none means that the limit is not known any more.
    pub entries: Option<u32>,
}

/// Kind 53, version 1.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct Reserved {
    /// The allocation.
    pub allocation: (u64, u64),
    /// Wall time since which no pod of the name exists.
    pub absent_since_wall_ms: i64,
}

/// Kind 54, version 1.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct FixedBound {
    /// The allocation.
    pub allocation: (u64, u64),
    /// The new pod.
    pub pod: String,
    /// Its address.
    pub ip: Ipv4Addr,
    /// The address's interface, vSwitch and zone.
    pub place: (String, String, String),
    /// Internal port, protocol, new generation.
    pub items: Vec<(u16, u8, (u64, u64))>,
}

/// Kind 55, version 1.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct FixedMoved {
    /// The allocation that goes.
    pub from: (u64, u64),
    /// The allocation that comes.
    pub to: (u64, u64),
    /// 1 another gateway, 2 the EIP is not usable, 3 left the pool.
    pub reason: u8,
}

/// Kind 56, version 1.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct Superseded {
    /// The allocation that loses.
    pub allocation: (u64, u64),
    /// The claim that won: UID of the PodDNAT.
    pub winner: String,
}

/// Kind 57, version 1.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct Halted {
    /// [`crate::machine::demand::HaltReason`] as a number.
    pub reason: u8,
    /// Namespace of the PodDNAT that is in the way, the first of them in order of their names.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// Kind 58, version 1.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct Resumed {
    /// [`crate::machine::demand::HaltReason`] as a number, as it was when decisions stopped.
    pub reason: u8,
}

/// Kind 59, version 1.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct Contested {
    /// The allocation.
    pub allocation: (u64, u64),
    /// How often it was healed.
    pub heals: u8,
}
