//! Frozen bodies of kinds 80-99: machine time passed a point that the state had set.

use std::net::Ipv4Addr;

use bincode::{Decode, Encode};
use serde::Serialize;

/// Kind 80, version 1.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct CooldownEnded {
    /// The EIP.
    pub eip: Ipv4Addr,
    /// IANA protocol number.
    pub protocol: u8,
    /// The port.
    pub port: u16,
}

/// Kind 81, version 1.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct GraceEnded {
    /// The pod.
    pub pod: String,
}

/// Kind 82, version 1.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct RetryDue {
    /// The allocation.
    pub allocation: (u64, u64),
}

/// Kind 83, version 1.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct ProbeDue {
    /// The table.
    pub table: String,
}

/// Kind 84, version 1.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct RetentionEnded {
    /// The allocation.
    pub allocation: (u64, u64),
}

/// Kind 85, version 1.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct TableRested {
    /// The table.
    pub table: String,
}

/// Kind 86, version 1.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct ContestEnded {
    /// The allocation.
    pub allocation: (u64, u64),
}
