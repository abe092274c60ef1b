//! What happened, for oracles and for people: one line a request and one line an effect, in order.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::faults::FaultKind;
use super::request::NewEntry;
use super::trouble::Trouble;
use crate::machine::identity::EntryId;

/// One line. `at_ms` is model time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "kebab-case")]
pub enum LedgerLine {
    /// A request arrived (or was lost before it did).
    Request(RequestLine),
    /// An entry came, changed or went. The lines of what a request did at once follow the request's own.
    Effect(EffectLine),
}

/// One request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestLine {
    /// When it arrived.
    pub at_ms: u64,
    /// RequestId.
    pub request_id: String,
    /// Action.
    pub action: String,
    /// Its own parameters by the wire's names; the common ones are left out.
    pub parameters: BTreeMap<String, String>,
    /// ClientToken.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub token: Option<String>,
    /// What was done about it.
    pub outcome: Outcome,
    /// What the caller was told; absent where no answer arrived.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reply: Option<Said>,
    /// What was made to go wrong.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub fault: Option<FaultKind>,
    /// What lasted and struck it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub trouble: Option<Trouble>,
}

/// What was done about a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Outcome {
    /// It was done.
    Done {
        /// The entry that was created, or that is to go.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        entry: Option<EntryId>,
    },
    /// Its token was known: the first answer was given again, and nothing was done.
    Repeated {
        /// The entry of the first answer.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        entry: Option<EntryId>,
    },
    /// It was refused, and nothing was done.
    Refused {
        /// Code.
        code: String,
        /// Message.
        message: String,
    },
    /// It will be done, or refused, later; the caller hears nothing.
    Deferred {
        /// When.
        until_ms: u64,
    },
    /// It never arrived.
    Lost,
}

/// What the caller was told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// HTTP status.
    pub status: u16,
    /// Code of an error.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub code: Option<String>,
}

/// One effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EffectLine {
    /// When it happened.
    pub at_ms: u64,
    /// What happened.
    pub effect: Effect,
    /// The entry; absent where none came to be.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub entry: Option<EntryId>,
    /// What the entry maps (or would have), with its table and name.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub spec: Option<NewEntry>,
    /// The ClientToken of the entry's creation.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub token: Option<String>,
    /// The request that caused it; absent for what was done by hand.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub request_id: Option<String>,
}

/// What happens to entries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Effect {
    /// It is in the table, `Pending`.
    Created,
    /// It is in effect.
    Available,
    /// Its deletion was accepted.
    Deleting,
    /// It is no longer in the table.
    Gone,
    /// A request that was late was refused when it landed.
    LateRefused {
        /// Code.
        code: String,
    },
    /// A request that was late landed, but its token was known by then: nothing was done.
    LateRepeated,
    /// Somebody created it behind the controller's back.
    InsertedByHand,
    /// Somebody changed it behind the controller's back.
    EditedByHand,
    /// Somebody removed it behind the controller's back.
    RemovedByHand,
}
