//! What the driver is about to do or has just been told, in words that tests and people can wait for.

use std::fmt;

use crate::ports::effect::{Effect, ListRequest};

/// A moment in the life of a controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// The journal is about to be opened.
    Open,
    /// The journal has been folded.
    Replayed,
    /// The lease was won.
    Leading,
    /// A group is about to be handed to the journal.
    Append,
    /// The journal says that a group is durable.
    Appended,
    /// An effect is about to start.
    EffectStart(&'static str),
    /// An effect has ended, and the step does not know yet.
    EffectEnded(&'static str),
    /// A reading is about to start.
    List(&'static str),
    /// A reading has ended, and the step does not know yet.
    ListEnded(&'static str),
    /// Nothing is left to do.
    Settled,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open => f.write_str("open"),
            Self::Replayed => f.write_str("replayed"),
            Self::Leading => f.write_str("leading"),
            Self::Append => f.write_str("append"),
            Self::Appended => f.write_str("appended"),
            Self::EffectStart(word) => write!(f, "effect-start {word}"),
            Self::EffectEnded(word) => write!(f, "effect-ended {word}"),
            Self::List(word) => write!(f, "list {word}"),
            Self::ListEnded(word) => write!(f, "list-ended {word}"),
            Self::Settled => f.write_str("settled"),
        }
    }
}

/// The kind of an effect.
#[must_use]
pub const fn effect_word(effect: &Effect) -> &'static str {
    match effect {
        Effect::WriteClaim(..) => "claim",
        Effect::WriteStatus(_) => "status",
        Effect::ReleaseClaim { .. } => "release",
        Effect::DropClaim { .. } => "drop",
        Effect::MarkPod(_) => "mark",
        Effect::Create(_) => "create",
        Effect::Delete(_) => "delete",
    }
}

/// What is read.
#[must_use]
pub const fn list_word(request: &ListRequest) -> &'static str {
    match request {
        ListRequest::Cluster => "cluster",
        ListRequest::Gateways | ListRequest::Eips(_) | ListRequest::RouteTables | ListRequest::Routes(_) => "survey",
        ListRequest::Interfaces(_) => "interfaces",
        ListRequest::Table(_) => "table",
    }
}
