//! What the page leaves open or what differs by account and by time, as numbers and switches.

use serde::{Deserialize, Serialize};

/// How the model behaves when nothing goes wrong. Times are milliseconds of model time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Behaviour {
    /// Entries that one forward table holds; those being deleted count until they are gone.
    pub entry_quota: u32,
    /// From the acknowledged creation to `Available`.
    pub pending_ms: u64,
    /// From the acknowledged deletion until the entry is gone.
    pub deleting_ms: u64,
    /// How old every listing of entries is.
    pub read_lag_ms: u64,
    /// A table with a Pending entry takes no other (documented until 2024, aliyun-api.md §2).
    pub table_serialised: bool,
    /// A second creation on one gateway within this time of the first is refused with 409 `OperationConflict`; 0: never.
    pub create_conflict_ms: u64,
    /// A table with a Pending entry deletes none (documented in 2026, aliyun-api.md §2).
    pub delete_blocked_by_pending: bool,
    /// How long the answer to a ClientToken is kept. No page says it (aliyun-api.md §1.10).
    pub token_lifetime_ms: u64,
    /// The longest delay of [`super::FaultKind::LateEffect`].
    pub late_effect_max_ms: u64,
    /// The oldest state that [`super::FaultKind::ReadLag`] and [`super::FaultKind::PatchyView`] show.
    pub read_lag_max_ms: u64,
    /// The longest time for which [`super::FaultKind::LongPending`] keeps an entry Pending.
    pub pending_max_ms: u64,
    /// What a refusal for flow control says of when to come again (aliyun-api.md §1; the unit is documented nowhere, so the
    /// number is small enough to be waited for in every unit).
    pub throttle_hint_ms: Option<u64>,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            entry_quota: 100,
            pending_ms: 500,
            deleting_ms: 500,
            read_lag_ms: 0,
            table_serialised: false,
            create_conflict_ms: 0,
            delete_blocked_by_pending: true,
            token_lifetime_ms: 30 * 60 * 1000,
            late_effect_max_ms: 15 * 60 * 1000,
            read_lag_max_ms: 60_000,
            pending_max_ms: 10 * 60 * 1000,
            throttle_hint_ms: Some(5),
        }
    }
}
