//! What the state is made of.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use crate::machine::demand::{Demand, Note, RefusalReason, ReleaseReason, WaitReason, Want};
use crate::machine::identity::{
    AllocationId, EniId, EntryId, GatewayId, Generation, PodKey, PodUid, Protocol, TableId, Tuple, UidHash, VSwitchId,
    ZoneId,
};
use crate::machine::intent::Intent;
use crate::machine::pool::{Eip, Range};
use crate::machine::probe::Map;

/// The settings of the current `Configured`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub(crate) cluster_uid: Box<str>,
    pub(crate) cluster: UidHash,
    pub(crate) cooldown_ms: u64,
    pub(crate) resync_ms: u64,
    pub(crate) port_break: PortBreak,
    pub(crate) repair: bool,
}

/// When PortBreak is set on a creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortBreak {
    /// On ports above 1024 of an EIP that SNAT uses.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// One configured pool entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolEntry {
    pub(crate) gateway: GatewayId,
    pub(crate) zone: ZoneId,
    pub(crate) eips: Vec<Ipv4Addr>,
    pub(crate) range: Range,
}

/// A pod that asks or has asked.
#[derive(Clone, Debug)]
pub struct Pod {
    pub(crate) key: PodKey,
    /// Hash of the last observation, so that a repeated one is recognised.
    pub(crate) seen: u64,
    /// The event of the last observation.
    pub(crate) seen_at: u64,
    pub(crate) ip: Option<Ipv4Addr>,
    pub(crate) demand: Demand,
    /// Why it cannot be served whatever it asks.
    pub(crate) barred: Option<RefusalReason>,
    /// Its removal has begun.
    pub(crate) ended: Option<ReleaseReason>,
    /// Machine time at which its grace period ends; it gets no new allocation meanwhile.
    pub(crate) grace_ends_ms: Option<u64>,
    pub(crate) gate: bool,
    /// Order of arrival: the event with which it first asked.
    pub(crate) arrival: Option<u64>,
    pub(crate) standing: Standing,
    /// The note that it carries.
    pub(crate) noted: Note,
    /// A note was written and not answered: it may carry that one.
    pub(crate) noted_unsure: bool,
    pub(crate) held: Vec<Intent>,
}

/// How a pod stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing has been decided.
    Open,
    /// It waits.
    Waiting {
        /// Why.
        reason: WaitReason,
        /// The table in whose queue it stands.
        queue: Option<TableId>,
    },
    /// It is refused.
    Refused(RefusalReason),
    /// It has an allocation.
    Allocated(AllocationId),
}

/// Where an address is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// It belongs to an interface.
    Known(Place),
    /// It belongs to none yet.
    Missing,
}

/// An interface, its vSwitch and its zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub(crate) eni: EniId,
    pub(crate) vswitch: VSwitchId,
    pub(crate) zone: ZoneId,
}

/// A NAT gateway and the EIPs of it that the pools cover, in configured order.
#[derive(Clone, Debug, Default)]
pub struct Gateway {
    pub(crate) table: Option<TableId>,
    pub(crate) zone: Option<ZoneId>,
    pub(crate) available: bool,
    /// As the cloud shows them: address, usable, used by SNAT.
    pub(crate) bound: Vec<(Ipv4Addr, bool, bool)>,
    pub(crate) eips: Vec<Eip>,
}

/// A forward table.
#[derive(Clone, Debug, Default)]
pub struct Table {
    pub(crate) gateway: Option<GatewayId>,
    /// Its entries have been read in this term.
    pub(crate) open: bool,
    /// What its listings show.
    pub(crate) entries: Map<EntryId, Listed>,
    /// Items and strays whose state the next listing must tell.
    pub(crate) awaited: BTreeSet<(AllocationId, Generation)>,
    /// Strays by what they occupy outside, and inside.
    pub(crate) strays_external: Map<(Ipv4Addr, Protocol, u16), EntryId>,
    pub(crate) strays_internal: Map<(Ipv4Addr, Protocol, u16), EntryId>,
    /// Strays whose deletion was acknowledged.
    pub(crate) strays_going: BTreeSet<EntryId>,
    /// Items of ours that are there or may come, and strays.
    pub(crate) committed: u32,
    /// How many entries it takes, once it has refused one.
    pub(crate) limit: Option<u32>,
    /// One pod may try beyond the limit.
    pub(crate) probing: bool,
    /// Machine time of the next probe.
    pub(crate) probe_ms: Option<u64>,
    /// Pods that wait for room, in order of arrival.
    pub(crate) queue: BTreeMap<u64, PodUid>,
    /// Late effects may show up until then; it is listed often.
    pub(crate) watch_until_ms: u64,
    pub(crate) held: Vec<Intent>,
}

/// An entry of a table as last listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listed {
    /// It is the entry of that item.
    Ours(AllocationId, Generation),
    /// It stands for no live item.
    Stray(Box<Stray>),
}

/// An entry that is not bound to a live item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stray {
    pub(crate) name: Box<str>,
    pub(crate) external_ip: Ipv4Addr,
    pub(crate) external_ports: (u16, u16),
    pub(crate) internal_ip: Ipv4Addr,
    pub(crate) internal_ports: (u16, u16),
    pub(crate) protocol: Option<Protocol>,
    pub(crate) status: u8,
    /// It carries a mark of this cluster.
    pub(crate) marked: bool,
    /// It was decided stale and is being deleted.
    pub(crate) stale: bool,
    /// Our deletion of it was acknowledged.
    pub(crate) deleted: bool,
    /// Machine time of that.
    pub(crate) deleted_ms: u64,
    pub(crate) held: Vec<Intent>,
}

/// An allocation: the EIP and ports of one pod.
#[derive(Clone, Debug)]
pub struct Allocation {
    pub(crate) pod: PodUid,
    pub(crate) key: PodKey,
    pub(crate) gateway: GatewayId,
    pub(crate) table: TableId,
    pub(crate) eip: Ipv4Addr,
    pub(crate) ip: Ipv4Addr,
    pub(crate) place: Place,
    pub(crate) fixed: bool,
    pub(crate) items: Vec<Item>,
    pub(crate) phase: Phase,
    pub(crate) claim: Claim,
    /// The last content that was in a claim, whatever became of the claim: creations of it may have been sent.
    pub(crate) claimed: Option<u64>,
    /// UID of the PodDNAT, and the event that told it.
    pub(crate) claim_uid: Option<(Box<str>, u64)>,
    /// Somebody asked the API server to delete the claim.
    pub(crate) claim_deleting: bool,
    /// Content of the claim and status: the sequence number of the last decision that changed it.
    pub(crate) revision: u64,
    pub(crate) published: Published,
    /// It has been published once: players may know it.
    pub(crate) established: bool,
    /// It was decided beyond the table's known limit, to find out whether that still holds.
    pub(crate) probe: bool,
    pub(crate) retries: u32,
    /// Machine time at which what was refused may be decided again.
    pub(crate) retry_ms: Option<u64>,
    pub(crate) held: Vec<Intent>,
    pub(crate) hashed: [u64; 4],
}

/// Where an allocation is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Its entries are to exist.
    Live,
    /// Its entries go, and come back on another address.
    Rebinding {
        /// The deciding event.
        since: u64,
    },
    /// Its entries go, then its claim.
    Releasing {
        /// The deciding event.
        since: u64,
        /// Why.
        reason: ReleaseReason,
    },
}

/// What is known of the claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// It was never written, or is gone.
    Absent,
    /// It was written with that content.
    Written(u64),
    /// The API server refused it; tried again when that object goes or time has passed.
    Refused,
}

/// What the PodDNAT's status shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Published {
    /// No entries.
    Nothing,
    /// The entries of that content.
    Content(u64),
    /// Not known: a write was not answered, or a leader ended meanwhile.
    Unknown,
}

/// One mapped port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    pub(crate) want: Want,
    pub(crate) external: u16,
    pub(crate) generation: Generation,
    pub(crate) port_break: bool,
    /// The pod asks for it no more.
    pub(crate) leaving: bool,
    /// The event since which its removal is decided, for a leaving item.
    pub(crate) leaving_since: u64,
    /// A creation may have reached the cloud: the port rests after the end.
    pub(crate) touched: bool,
    pub(crate) entry: Entry,
}

/// What is known of an item's entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Not created, and in this term nothing unanswered was sent for this generation.
    Planned,
    /// A creation may have been sent and may still land.
    Unknown {
        /// The event that made it unknown.
        since: u64,
        /// A listing begun afterwards did not show it: it may be sent again.
        looked: bool,
        /// Machine time of the first listing that missed it.
        missed_ms: Option<u64>,
    },
    /// The cloud refused the creation for good.
    Refused {
        /// The event.
        since: u64,
        /// Why.
        class: RefusedClass,
        /// A listing begun afterwards has ended.
        looked: bool,
    },
    /// It is there.
    Present {
        /// Its id.
        id: EntryId,
        /// The event since which this is known.
        since: u64,
        /// It is in effect.
        available: bool,
        /// A listing begun after the decision to remove it showed it.
        verified: bool,
        /// Machine time of the first listing that missed it.
        missed_ms: Option<u64>,
    },
    /// It was asked to go.
    Deleting {
        /// Its id.
        id: EntryId,
        /// The event since which this is known.
        since: u64,
        /// Machine time of that event.
        since_ms: u64,
        /// The cloud acknowledged.
        acknowledged: bool,
        /// Machine time of the first listing that missed it.
        missed_ms: Option<u64>,
    },
    /// It is not there: never created, or confirmed absent.
    Gone,
}

/// Why a creation was refused for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusedClass {
    /// Something with this tuple or token exists.
    Duplicate = 1,
    /// The table is full.
    Quota = 2,
    /// The table does not exist.
    Gone = 3,
    /// Not allowed.
    Denied = 4,
    /// Malformed.
    Malformed = 5,
}

/// Who keeps an external tuple from being free.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hold {
    pub(crate) owner: Option<AllocationId>,
    /// It rests until then.
    pub(crate) resting_ms: Option<u64>,
    /// Entries of others that occupy it.
    pub(crate) strangers: u32,
}

/// A PodDNAT that belongs to no allocation of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StrangeClaim {
    pub(crate) uid: Box<str>,
    /// The event of its last observation.
    pub(crate) since: u64,
    pub(crate) claim: Option<crate::machine::event::seen::Claim>,
    pub(crate) published: bool,
    /// It stands for nothing and is being deleted.
    pub(crate) ghost: bool,
    pub(crate) held: Vec<Intent>,
}

/// A point in machine time at which something becomes a fact.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// A port's rest ends.
    Cooldown(Ipv4Addr, Protocol, u16),
    /// A pod's grace period ends.
    Grace(PodUid),
    /// A refused creation may be decided again.
    Retry(AllocationId),
    /// A full table may be probed.
    Probe(TableId),
}

/// Something about which a decision may be due.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// A claim that is not ours.
    Claim(PodKey),
    /// An allocation.
    Allocation(AllocationId),
    /// An entry that is bound to no item.
    Stray(TableId, EntryId),
    /// The queue of a table.
    Queue(TableId),
    /// A pod, by its arrival: who asked first is decided first.
    Pod(u64, PodUid),
}

impl Allocation {
    /// The five of an item.
    #[must_use]
    pub fn tuple(&self, item: &Item) -> Tuple {
        Tuple {
            external_ip: self.eip,
            external_port: item.external,
            internal_ip: self.ip,
            internal_port: item.want.internal,
            protocol: item.want.protocol,
        }
    }

    pub(crate) fn item(&self, generation: Generation) -> Option<&Item> {
        self.items.iter().find(|item| item.generation == generation)
    }

    pub(crate) fn item_mut(&mut self, generation: Generation) -> Option<&mut Item> {
        self.items.iter_mut().find(|item| item.generation == generation)
    }

    /// Every item that is to stay is in effect.
    #[must_use]
    pub fn all_available(&self) -> bool {
        self.items
            .iter()
            .filter(|item| !item.leaving)
            .all(|item| matches!(item.entry, Entry::Present { available: true, .. }))
    }

    /// It is moving to another address, and nothing is left on the earlier one.
    pub(crate) fn has_left(&self) -> bool {
        let moving = matches!(self.phase, Phase::Rebinding { .. });
        moving && self.items.iter().all(|item| item.entry == Entry::Gone)
    }

    /// The event since which this item is to go; `None` while it is to stay.
    pub(crate) const fn removal(&self, item: &Item) -> Option<u64> {
        match self.phase {
            Phase::Rebinding { since } | Phase::Releasing { since, .. } => Some(since),
            Phase::Live if item.leaving => Some(item.leaving_since),
            Phase::Live => None,
        }
    }
}
