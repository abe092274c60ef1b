//! Bodies of versions that are no longer written, and what each becomes. Frozen like all others.

use bincode::{Decode, Encode};
use serde::Serialize;

use crate::machine::event::control;

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
