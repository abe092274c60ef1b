//! Facts. Everything that the fold reads has been one of these, in the journal, first.
//!
//! On disk a record is `{kind u16, version u8, term u64, machine time u64, wall time i64}`, little endian, followed by the
//! bincode 2 form (standard configuration: variable-length integers) of one frozen struct. Frozen means: a struct here is
//! never edited once released. A new field is a new struct under a new version, and an upcaster turns the old one into it
//! ([`earlier`]).
//! For the same reason these structs use std types only and share none with `State`: protocols are IANA protocol numbers
//! (6 TCP, 17 UDP, 0 any), stamps are (term, n), times are milliseconds.
//!
//! Kind numbers are given out once: 1-9 control, 10-39 seen, 40-59 decided, 60-79 outcomes, 80-99 timers,
//! 100-119 a state as it stands (in snapshots only).

pub mod codec;
pub mod control;
pub mod decided;
pub mod earlier;
pub mod kept;
pub mod outcome;
pub mod seen;
pub mod timer;
pub mod words;

use serde::Serialize;

/// An event with the frame in which it happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Record {
    /// Position in the journal, from 1.
    pub seq: u64,
    /// The term of the leader that wrote it; 0 before the first term.
    pub term: u64,
    /// Machine time: milliseconds that never go back and advance by elapsed monotonic time.
    pub machine_ms: u64,
    /// Wall time: milliseconds since 1970-01-01 UTC, for display and for retention only.
    pub wall_ms: i64,
    /// The fact.
    pub event: Event,
}

macro_rules! events {
    ($($(#[$doc:meta])* $kind:literal v $version:literal $variant:ident($body:ty $(; $old:literal $earlier:ty)*),)*) => {
        /// One fact. The number is its kind on disk.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize)]
        #[serde(tag = "event", content = "body")]
        #[non_exhaustive]
        pub enum Event {
            $($(#[$doc])* $variant($body),)*
        }

        impl Event {
            /// Every (kind, current version, name), in order of kind.
            pub const KINDS: &'static [(u16, u8, &'static str)] = &[$(($kind, $version, stringify!($variant)),)*];

            /// The kind on disk.
            #[must_use]
            pub const fn kind(&self) -> u16 {
                match self { $(Self::$variant(_) => $kind,)* }
            }

            /// The version in which this build writes the kind.
            #[must_use]
            pub const fn version(&self) -> u8 {
                match self { $(Self::$variant(_) => $version,)* }
            }

            /// The name of the variant.
            #[must_use]
            pub const fn name(&self) -> &'static str {
                match self { $(Self::$variant(_) => stringify!($variant),)* }
            }

            fn encode_body(&self, out: &mut Vec<u8>) -> Result<(), codec::Error> {
                match self { $(Self::$variant(body) => codec::encode_body(body, out),)* }
            }

            fn decode_body(kind: u16, version: u8, bytes: &[u8]) -> Result<Self, codec::Error> {
                match (kind, version) {
                    $(
                        ($kind, $version) => codec::decode_body(bytes).map(Self::$variant),
                        $(($kind, $old) => codec::decode_body::<$earlier>(bytes).map(|body| Self::$variant(body.into())),)*
                    )*
                    (kind, version) => Err(codec::Error::UnknownKind { kind, version }),
                }
            }
        }
    };
}

events! {
    /// The settings of a run; commits the pools announced before it.
    1 v 1 Configured(control::Configured),
    /// One pool entry of the configuration that the next `Configured` commits.
    2 v 1 PoolConfigured(control::PoolConfigured),
    /// A leader began to decide.
    3 v 1 TermStarted(control::TermStarted),
    /// History before this point is not continuous; what follows rebuilds the state.
    4 v 2 Rebased(control::Rebased; 1 earlier::RebasedV1),
    /// All pods that ask and all claims have been read in this term.
    5 v 1 ClusterRead(control::ClusterRead),
    /// The entries of a table have been read, completely, in this term: decisions about it may begin.
    6 v 1 TableOpened(control::TableOpened),
    /// The digest of the state at this point.
    7 v 1 DigestTaken(control::DigestTaken),
    /// A snapshot stream of base events begins.
    8 v 1 SnapshotBegun(control::SnapshotBegun),
    /// A snapshot stream ended; its digest.
    9 v 1 SnapshotEnded(control::SnapshotEnded),

    /// A pod as the API server shows it.
    10 v 1 PodSeen(seen::PodSeen),
    /// A pod is gone: a watch DELETE on a consistent stream, or a consistent read without its UID.
    11 v 1 PodGone(seen::PodGone),
    /// A PodDNAT as the API server shows it.
    12 v 5 ClaimSeen(
        seen::ClaimSeen; 1 earlier::ClaimSeenV1; 2 earlier::ClaimSeenV2; 3 earlier::ClaimSeenV3; 4 earlier::ClaimSeenV4
    ),
    /// A PodDNAT is gone.
    13 v 1 ClaimGone(seen::ClaimGone),
    /// A NAT gateway as the cloud shows it.
    20 v 1 GatewaySeen(seen::GatewaySeen),
    /// A NAT gateway is no longer listed.
    21 v 1 GatewayGone(seen::GatewayGone),
    /// The next hops of a vSwitch's default route.
    22 v 1 RouteSeen(seen::RouteSeen),
    /// The interface to which an address belongs.
    23 v 1 AddressSeen(seen::AddressSeen),
    /// An address belongs to no interface yet.
    24 v 1 AddressMissing(seen::AddressMissing),
    /// An entry that is new in its table or differs from what was known.
    25 v 1 EntrySeen(seen::EntrySeen),
    /// An entry that is not bound to an allocation is no longer listed.
    26 v 1 EntryVanished(seen::EntryVanished),
    /// Entries of ours that a complete listing does not show.
    27 v 1 EntriesMissed(seen::EntriesMissed),
    /// A complete listing ended that somebody waits for.
    28 v 1 TableListed(seen::TableListed),
    /// A table does not exist, confirmed.
    29 v 1 TableGone(seen::TableGone),
    /// The journal's disk became short, or has room again.
    30 v 1 RoomSeen(seen::RoomSeen),

    /// A pod got an EIP and ports.
    40 v 1 Allocated(decided::Allocated),
    /// An allocation was taken from the claim that an earlier leader wrote.
    41 v 1 Recovered(decided::Allocated),
    /// An allocation was taken over from the original controller.
    42 v 1 Adopted(decided::Allocated),
    /// A pod must wait.
    43 v 1 Waited(decided::Waited),
    /// A pod cannot be served as it asks.
    44 v 1 Refused(decided::Refused),
    /// An allocation ends.
    45 v 1 ReleaseDecided(decided::ReleaseDecided),
    /// An allocation is unbound in order to be bound to another address of its pod.
    46 v 1 RebindDecided(decided::RebindDecided),
    /// Entries are to be created anew.
    47 v 1 Regenerated(decided::Regenerated),
    /// An item takes another external port because somebody else holds the first.
    48 v 1 ItemMoved(decided::ItemMoved),
    /// The pod asks for other ports than before.
    49 v 1 ItemsChanged(decided::ItemsChanged),
    /// An entry with our mark stands for nothing: it will be deleted.
    50 v 1 StaleDecided(decided::StaleDecided),
    /// A claim that stands for nothing: it will be deleted.
    51 v 1 GhostDecided(decided::GhostDecided),
    /// How many entries a table takes.
    52 v 1 QuotaLearned(decided::QuotaLearned),
    /// A fixed allocation lost its pod and stays reserved.
    53 v 1 Reserved(decided::Reserved),
    /// A fixed allocation got a new pod of its name.
    54 v 1 FixedBound(decided::FixedBound),
    /// A fixed allocation moved to another EIP.
    55 v 1 FixedMoved(decided::FixedMoved),
    /// A claim of somebody else won over ours.
    56 v 1 Superseded(decided::Superseded),
    /// PodDNATs of another controller are there: nothing more is decided.
    57 v 1 Halted(decided::Halted),
    /// Nothing of another controller stands in the way any more.
    58 v 1 Resumed(decided::Resumed),
    /// Somebody undoes again and again what is written of an allocation: it is left alone for a while.
    59 v 1 Contested(decided::Contested),

    /// A claim is in the API server.
    60 v 1 ClaimWritten(outcome::ClaimWritten),
    /// A claim could not be written.
    61 v 1 ClaimRefused(outcome::ClaimRefused),
    /// The claim's finalizer is gone: the allocation is over.
    62 v 1 ClaimReleased(outcome::ClaimReleased),
    /// The status of a PodDNAT shows all entries.
    63 v 1 StatusWritten(outcome::StatusWritten),
    /// The status of a PodDNAT shows none.
    64 v 1 StatusWithdrawn(outcome::StatusWithdrawn),
    /// A pod carries this note of ours.
    65 v 1 PodMarked(outcome::PodMarked),
    /// The cloud accepted a creation.
    66 v 1 EntryCreated(outcome::EntryCreated),
    /// The cloud refused a creation for good.
    67 v 1 EntryRefused(outcome::EntryRefused),
    /// A creation was not answered: it may have happened, or happen late.
    68 v 1 EntryUnknown(outcome::EntryUnknown),
    /// A creation was never sent.
    69 v 1 EntryNeverSent(outcome::EntryNeverSent),
    /// The cloud accepted a deletion, or says that there is nothing to delete.
    70 v 1 EntryDeleted(outcome::EntryDeleted),
    /// A deletion was not answered.
    71 v 1 DeleteUnknown(outcome::DeleteUnknown),
    /// A write of a PodDNAT's status was not answered.
    72 v 1 StatusUnknown(outcome::StatusUnknown),
    /// A note on a pod was not answered.
    73 v 1 MarkUnknown(outcome::MarkUnknown),

    /// A port's rest is over.
    80 v 1 CooldownEnded(timer::CooldownEnded),
    /// A pod's grace period is over.
    81 v 1 GraceEnded(timer::GraceEnded),
    /// A refused creation may be decided again.
    82 v 1 RetryDue(timer::RetryDue),
    /// A full table may be probed.
    83 v 1 ProbeDue(timer::ProbeDue),
    /// A reservation's time is over.
    84 v 1 RetentionEnded(timer::RetentionEnded),
    /// Ports of a table whose earlier owners nobody remembers have rested.
    85 v 1 TableRested(timer::TableRested),
    /// An allocation that was left alone to another writer is looked after again.
    86 v 1 ContestEnded(timer::ContestEnded),

    /// In a snapshot: something as it stands.
    100 v 1 Kept(kept::Kept),
}

#[cfg(test)]
mod tests;
