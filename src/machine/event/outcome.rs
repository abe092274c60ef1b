//! Frozen bodies of kinds 60-79: how effects ended. What may be sent again unchanged leaves no record.

use bincode::{Decode, Encode};
use serde::Serialize;

/// Kind 60, version 1.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct ClaimWritten {
    /// The allocation.
    pub allocation: (u64, u64),
    /// Which content was written: the sequence number of the decision that made it.
    pub revision: u64,
    /// UID of the PodDNAT.
    pub uid: String,
}

/// Kind 61, version 1.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct ClaimRefused {
    /// The allocation.
    pub allocation: (u64, u64),
    /// 1 another object of that name exists, 2 the pod is gone, 3 refused by the API server.
    pub reason: u8,
    /// The API server's words, bounded.
    pub detail: String,
}

/// Kind 62, version 1.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct ClaimReleased {
    /// The allocation.
    pub allocation: (u64, u64),
}

/// Kind 63, version 1.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct StatusWritten {
    /// The allocation.
    pub allocation: (u64, u64),
    /// Which content was written.
    pub revision: u64,
}

/// Kind 64, version 1.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct StatusWithdrawn {
    /// The allocation.
    pub allocation: (u64, u64),
}

/// Kind 65, version 1.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct PodMarked {
    /// The pod.
    pub pod: String,
    /// [`crate::machine::demand::Note`] as numbers: phase, reason, allocation, content.
    pub note: (u8, u8, (u64, u64), u64),
}

/// Kind 66, version 1.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct EntryCreated {
    /// The allocation.
    pub allocation: (u64, u64),
    /// The creation.
    pub generation: (u64, u64),
    /// The entry.
    pub entry: String,
}

/// Kind 67, version 1.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct EntryRefused {
    /// The allocation.
    pub allocation: (u64, u64),
    /// The creation.
    pub generation: (u64, u64),
    /// 1 duplicate, 2 quota, 3 gone, 4 denied, 5 malformed.
    pub class: u8,
    /// The cloud's code.
    pub code: String,
    /// The cloud's words, bounded.
    pub message: String,
}

/// Kind 68, version 1.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct EntryUnknown {
    /// The allocation.
    pub allocation: (u64, u64),
    /// The creation.
    pub generation: (u64, u64),
    /// What came instead of an answer.
    pub code: String,
}

/// Kind 69, version 1.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct EntryNeverSent {
    /// The allocation.
    pub allocation: (u64, u64),
    /// The creation.
    pub generation: (u64, u64),
}

/// Kind 70, version 1.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct EntryDeleted {
    /// The table.
    pub table: String,
    /// The entry.
    pub entry: String,
}

/// Kind 71, version 1.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct DeleteUnknown {
    /// The table.
    pub table: String,
    /// The entry.
    pub entry: String,
    /// What came instead of an answer.
    pub code: String,
}

/// Kind 72, version 1.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct StatusUnknown {
    /// The allocation.
    pub allocation: (u64, u64),
}

/// Kind 73, version 1.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct MarkUnknown {
    /// The pod.
    pub pod: String,
}
