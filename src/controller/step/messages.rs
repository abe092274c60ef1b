//! What goes in and what comes out.

use crate::controller::keeping::{Keep, Kept};
use crate::controller::lease;
use crate::machine::event::{Record, control, seen};
use crate::ports::effect::{Effect, Ended, ListError, ListRequest, Listing};

/// The time of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Monotonic milliseconds since the process began; the lease counts in these.
    pub monotonic_ms: u64,
    /// Milliseconds since 1970-01-01 UTC, for display and for retention.
    pub wall_ms: i64,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The configuration.
    Configured(Box<Configuration>),
    /// The watch shows something.
    Seen(Seen),
    /// A reading ended.
    ListEnded(ListId, Result<Listing, ListError>),
    /// The journal holds all records up to this one, durably.
    Appended(Head),
    /// An effect ended.
    EffectEnded(EffectId, Ended),
    /// The call to the lock ended.
    LeaseAnswered(lease::Answer),
    /// What was asked of the journal was done, or failed.
    Kept(Kept),
    /// Time passed.
    Woke,
}

/// What the watch shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// A pod.
    Pod(Box<seen::PodSeen>),
    /// A pod was deleted, on a stream begun from a consistent list.
    PodGone(seen::PodGone),
    /// A PodDNAT.
    Claim(Box<seen::ClaimSeen>),
    /// A PodDNAT was deleted.
    ClaimGone(seen::ClaimGone),
}

/// The settings as events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configuration {
    /// The pool entries, in order.
    pub pools: Vec<control::PoolConfigured>,
    /// The rest.
    pub settings: control::Configured,
}

/// The head of the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The last record.
    pub seq: u64,
    /// The chain hash after it.
    pub hash: [u8; 32],
}

/// Names an effect under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EffectId(pub(super) u64);

/// Names a reading under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListId(pub(super) u64);

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Make these records durable, as one group, and answer with `Appended`.
    Append(Vec<Record>),
    /// Carry out an effect and answer with `EffectEnded`.
    Start(EffectId, Effect),
    /// Read something and answer with `ListEnded`.
    List(ListId, ListRequest),
    /// Call the lock and answer with `LeaseAnswered`.
    CallLease(lease::Call),
    /// Look after the journal, beside everything else, and answer with `Kept`.
    Keep(Keep),
    /// End the process, at once and without further effects.
    Stop(Stop),
}

/// Why the process must end. Each has a code; the message says the consequence and the remedy.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Stop {
    /// The lock was lost, or not renewed in time.
    #[error(
        "NATGW-LEASE: the lease is lost, so this process decides nothing more; a restarted one becomes a candidate again"
    )]
    LeaseLost,
    /// A claim or mark of a term not below ours was seen.
    #[error(
        "NATGW-TERM: term {seen} was met outside while this process leads term {ours}, so another leader may be at work; a restart takes a higher term"
    )]
    TermBehind {
        /// The term met.
        seen: u64,
        /// Our term.
        ours: u64,
    },
    /// The machine refused its own event, or an invariant broke.
    #[error("NATGW-MACHINE: at event {seq}: {message}; nothing of it was carried out; keep the journal and report it")]
    Machine {
        /// The event.
        seq: u64,
        /// What is wrong.
        message: String,
    },
    /// The journal did not answer within the renew deadline.
    #[error(
        "NATGW-JOURNAL: the journal has not confirmed event {seq} within the renew deadline, so nothing may rest on it; check the volume"
    )]
    JournalStalled {
        /// The last event handed over.
        seq: u64,
    },
}
