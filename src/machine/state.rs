//! The fold: what the records add up to.
//!
//! Nothing is in here that does not follow from the records, in their order. [`State::apply`] is the only way in. What is
//! derived beside the facts — the agenda, the work list, the timers, the digest — is kept up with each event by touching
//! only what the event names.

mod accessors;
mod allocations;
mod apply;
mod cluster;
mod digest;
pub(crate) mod eips;
mod ends;
mod fixed;
mod gateways;
mod kept;
mod mapping;
pub(crate) mod others;
mod outcomes;
mod parts;
mod ports;
mod queries;
mod remnants;
mod restored;
pub mod tables;
mod told;
mod wants;

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use crate::machine::demand::HaltReason;
use crate::machine::few::Few;
use crate::machine::identity::{
    AllocationId, EntryId, GatewayId, Generation, PodKey, PodUid, Protocol, Stamp, TableId, VSwitchId,
};
use crate::machine::intent::Agenda;
use crate::machine::packed::PackedSet;
use crate::machine::probe::Map;
use crate::machine::shared::Shared;

pub use apply::IllegalEvent;
pub use digest::{Digest, VERSION as DIGEST_VERSION};
pub use mapping::{Allocation, Claim, Entry, Item, Phase, Published, RefusedClass, Unusual};
pub use parts::{
    Address, Controller, Gateway, Hold, Listed, Place, Pod, PoolEntry, PortBreak, Settings, Standing, StrangeClaim,
    Stray, Subject, Suspect, Table, Timer,
};
pub use restored::Restoring;

/// A claim's or mark's term may be at most this far above ours and still be believed (design.md §5): anybody can write one.
pub(crate) const TERM_LEAD_MAX: u64 = 1_000;

/// Everything known and decided.
#[derive(Clone, Debug, Default)]
pub struct State {
    pub(crate) seq: u64,
    pub(crate) term: u64,
    pub(crate) machine_ms: u64,
    pub(crate) wall_ms: i64,
    /// The highest term seen anywhere: our own, a claim's, a mark's.
    pub(crate) term_seen: u64,
    pub(crate) settings: Option<Settings>,
    pub(crate) pools: Vec<PoolEntry>,
    pub(crate) pools_announced: Vec<PoolEntry>,
    /// Pods and claims have been read in this term.
    pub(crate) cluster_read: bool,
    /// History was not continuous when this term began: claims are evidence from which the state is rebuilt.
    pub(crate) rebuilding: bool,
    /// Who had which port before is not known: what is free rests before it is given.
    pub(crate) forgetful: bool,
    /// The journal's disk is short: nothing new is allocated.
    pub(crate) short: bool,
    pub(crate) allocations_decided: u64,
    pub(crate) generations_decided: u64,

    pub(crate) pods: Map<PodUid, Pod, Box<Pod>>,
    pub(crate) pods_by_name: Map<PodKey, Few<PodUid>>,
    pub(crate) pods_by_ip: Map<Ipv4Addr, Few<PodUid>>,
    pub(crate) addresses: Map<Ipv4Addr, Address>,
    pub(crate) routes: Map<VSwitchId, Vec<GatewayId>>,
    pub(crate) gateways: Map<GatewayId, Gateway>,
    /// EIPs that an `Any` entry occupies as a whole.
    pub(crate) occupied: BTreeSet<(Ipv4Addr, EntryId)>,
    pub(crate) gateway_by_eip: Map<Ipv4Addr, GatewayId>,
    pub(crate) tables: Map<TableId, Table>,

    pub(crate) allocations: Map<AllocationId, Allocation, Box<Allocation>>,
    pub(crate) by_name: Map<PodKey, AllocationId>,
    pub(crate) by_ip: Map<Ipv4Addr, Few<AllocationId>>,
    pub(crate) by_generation: Map<Generation, AllocationId>,
    pub(crate) unsettled: BTreeSet<AllocationId>,
    /// Pods on which a note is to be written.
    pub(crate) marking: BTreeSet<PodUid>,
    /// Pods that wait for something else than room, or are refused for want of a gateway.
    pub(crate) undecided: BTreeSet<PodUid>,
    /// Allocations whose pods ask for ports that they do not have yet.
    pub(crate) lacking: BTreeSet<AllocationId>,
    /// Fixed allocations that wait for the next pod of their name.
    pub(crate) reserved: BTreeSet<AllocationId>,
    /// Allocations that cannot stay where they are.
    pub(crate) homeless: BTreeSet<AllocationId>,
    pub(crate) by_vswitch: Map<VSwitchId, PackedSet<AllocationId>>,
    /// EIPs that were seen unusable.
    pub(crate) suspects: Map<Ipv4Addr, Suspect>,
    /// Which allocation has which external tuple.
    pub(crate) owners: Map<(Ipv4Addr, Protocol, u16), AllocationId>,
    /// External tuples that are not free for another reason than an owner.
    pub(crate) holds: Map<(Ipv4Addr, Protocol, u16), Hold>,
    pub(crate) claims: Map<PodKey, StrangeClaim>,
    /// Those of them that name an allocation.
    pub(crate) strange_of: Map<AllocationId, BTreeSet<PodKey>>,
    /// The external tuples that they claim.
    pub(crate) strange_at: Map<(Ipv4Addr, Protocol, u16), BTreeSet<PodKey>>,
    /// Entries with our mark that were there when their table was first read without history, and of which it is not
    /// decided whose they are.
    pub(crate) remnants: BTreeSet<(TableId, EntryId)>,
    /// Strays by the allocation that their mark names.
    pub(crate) strays_of: Map<AllocationId, BTreeSet<(TableId, EntryId)>>,

    /// PodDNATs of another controller: those that were there when the term read the cluster, and those that came later.
    pub(crate) originals: BTreeSet<PodKey>,
    pub(crate) intruders: BTreeSet<PodKey>,
    /// Decisions have stopped, and why.
    pub(crate) halted: Option<HaltReason>,
    /// Entries without a mark that were taken over, with the items whose entries they are.
    pub(crate) adopted: Map<(TableId, EntryId), (AllocationId, Generation)>,

    /// Where pods are, and who controls them.
    pub(crate) places: Shared<Place>,
    pub(crate) controllers: Shared<Controller>,

    pub(crate) timers: BTreeSet<(u64, Timer)>,
    pub(crate) agenda: Agenda,
    pub(crate) worklist: BTreeSet<Subject>,
    pub(crate) digest: Digest,
}

impl State {
    /// The last record folded; 0 if none.
    #[must_use]
    pub const fn seq(&self) -> u64 {
        self.seq
    }

    /// The current term; 0 before the first.
    #[must_use]
    pub const fn term(&self) -> u64 {
        self.term
    }

    /// The highest term seen anywhere: ours, a claim's or a mark's.
    #[must_use]
    pub const fn term_seen(&self) -> u64 {
        self.term_seen
    }

    /// Machine time of the last record.
    #[must_use]
    pub const fn machine_ms(&self) -> u64 {
        self.machine_ms
    }

    /// A stamp was met outside, in a claim or a mark; `decided` is the last of its kind that this term gave out. One of
    /// our own term that we never gave out is another leader's: the term is used twice, and ours must rise above it.
    pub(crate) fn meet_stamp(&mut self, stamp: Stamp, decided: u64) {
        let anothers = stamp.term == self.term && stamp.n > decided;
        let term = stamp.term.saturating_add(u64::from(anothers));
        if term <= self.term.saturating_add(TERM_LEAD_MAX) {
            self.term_seen = self.term_seen.max(term);
        }
    }

    /// Whether the journal's disk is short, so that nothing new is allocated.
    #[must_use]
    pub const fn is_short(&self) -> bool {
        self.short
    }

    /// What is to be brought about.
    #[must_use]
    pub const fn agenda(&self) -> &Agenda {
        &self.agenda
    }

    /// What changed in the agenda since this was last asked.
    pub fn take_agenda_changes(&mut self) -> Vec<crate::machine::intent::Change> {
        self.agenda.take_changes()
    }

    /// The digest of the state.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        self.digest.value()
    }

    /// The earliest point in machine time at which something becomes a fact.
    #[must_use]
    pub fn next_timer_ms(&self) -> Option<u64> {
        self.timers.first().map(|(due, _)| *due)
    }

    /// Look-ups and entries iterated so far, in all collections.
    #[must_use]
    pub fn touched(&self) -> u64 {
        [
            self.pods.touched(),
            self.pods_by_name.touched(),
            self.pods_by_ip.touched(),
            self.addresses.touched(),
            self.routes.touched(),
            self.gateways.touched(),
            self.gateway_by_eip.touched(),
            self.tables.touched(),
            self.allocations.touched(),
            self.by_name.touched(),
            self.by_ip.touched(),
            self.by_generation.touched(),
            self.owners.touched(),
            self.holds.touched(),
            self.claims.touched(),
            self.strange_of.touched(),
            self.strange_at.touched(),
            self.strays_of.touched(),
            self.by_vswitch.touched(),
            self.suspects.touched(),
            self.adopted.touched(),
        ]
        .iter()
        .sum()
    }
}
