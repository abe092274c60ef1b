//! What an allocation is made of.

use std::net::Ipv4Addr;
use std::sync::Arc;

use crate::machine::at::At;
use crate::machine::demand::{ReleaseReason, Want};
use crate::machine::identity::{AllocationId, EntryId, GatewayId, Generation, PodKey, PodUid, TableId, Tuple};
use crate::machine::intent::Held;
use crate::machine::seldom::{Seldom, Usual};
use crate::machine::state::{Controller, Place};

/// An allocation: the EIP and ports of one pod.
#[derive(Clone, Debug)]
pub struct Allocation {
    pub(crate) pod: PodUid,
    pub(crate) key: PodKey,
    pub(crate) gateway: GatewayId,
    pub(crate) table: TableId,
    pub(crate) eip: Ipv4Addr,
    pub(crate) ip: Ipv4Addr,
    pub(crate) place: Arc<Place>,
    pub(crate) fixed: bool,
    pub(crate) items: Vec<Item>,
    pub(crate) phase: Phase,
    pub(crate) claim: Claim,
    /// The last content that was in a claim, whatever became of the claim: creations of it may have been sent.
    pub(crate) claimed: Option<At>,
    /// UID of the PodDNAT, and the event that told it.
    pub(crate) claim_uid: Option<(Box<str>, u64)>,
    /// Somebody asked the API server to delete the claim.
    pub(crate) claim_deleting: bool,
    /// Content of the mapping, as claim and status show it: the sequence number of the last decision that changed it.
    pub(crate) revision: u64,
    /// Content of the claim: the same, or later where only what the claim says beside the mapping has changed.
    pub(crate) claim_revision: u64,
    pub(crate) published: Published,
    /// What the PodDNAT does not show of what it could, or shows otherwise: a sum of the numbers of `ClaimSeen::lacks`, and
    /// of [`SHOWS_ANOTHER_ENTRY`].
    pub(crate) lacks: u8,
    /// It has been published once: players may know it.
    pub(crate) established: bool,
    /// It was decided beyond the table's known limit, to find out whether that still holds.
    pub(crate) probe: bool,
    /// Of a fixed mapping: who owns its claim. None of a bare pod's.
    pub(crate) owner: Option<Arc<Controller>>,
    /// A reservation's time is over.
    pub(crate) expired: bool,
    /// It goes because its name moves to another EIP.
    pub(crate) moved: bool,
    /// Its name came from another EIP.
    pub(crate) relocated: bool,
    /// A reservation of the original controller's: only its deletion frees it.
    pub(crate) kept: bool,
    /// Somebody edited the claim, and it has not been written again.
    pub(crate) edited: bool,
    pub(crate) unusual: Seldom<Unusual>,
    pub(crate) held: Held,
    pub(crate) hashed: [u64; 4],
}

/// What most allocations never meet: refusals, reservation, a move of their name, adoption, another writer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unusual {
    /// How often in a row something was refused.
    pub(crate) retries: u32,
    /// Machine time at which what was refused may be decided again.
    pub(crate) retry_ms: Option<u64>,
    /// Of a reservation: wall time since which it has no pod.
    pub(crate) absent_since_wall_ms: Option<i64>,
    /// Machine time at which a reservation's time is looked at.
    pub(crate) retention_ms: Option<u64>,
    /// The allocation to which its name and its claim have gone.
    pub(crate) successor: Option<AllocationId>,
    /// Allocations of the name that still go.
    pub(crate) predecessors: Vec<AllocationId>,
    /// Entries without a mark that were taken over for items, by the item's generation.
    pub(crate) adopted: Vec<(Generation, EntryId)>,
    /// Machine times at which what somebody undid was brought about again, of late.
    pub(crate) heals: Vec<u64>,
    /// Machine time until which it is left alone to another writer.
    pub(crate) contest_ms: Option<u64>,
}

impl Usual for Unusual {
    const USUAL: &'static Self = &Self {
        retries: 0,
        retry_ms: None,
        absent_since_wall_ms: None,
        retention_ms: None,
        successor: None,
        predecessors: Vec::new(),
        adopted: Vec::new(),
        heals: Vec::new(),
        contest_ms: None,
    };
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
    /// Its entries go, and EIP and ports stay for the next pod of its name.
    Reserved {
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

/// [`Allocation::lacks`], beside what a PodDNAT was seen to lack: an entry was replaced since its status was written.
pub(crate) const SHOWS_ANOTHER_ENTRY: u8 = 128;

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
    /// The event since which the pod asks for it no more, and its removal is decided.
    pub(crate) leaving: Option<At>,
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
        missed_ms: Option<At>,
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
        missed_ms: Option<At>,
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
        missed_ms: Option<At>,
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

impl RefusedClass {
    /// The class of a number in the journal.
    pub(crate) const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Duplicate),
            2 => Some(Self::Quota),
            3 => Some(Self::Gone),
            4 => Some(Self::Denied),
            5 => Some(Self::Malformed),
            _ => None,
        }
    }
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
            .filter(|item| !item.is_leaving())
            .all(|item| matches!(item.entry, Entry::Present { available: true, .. }))
    }

    /// It is moving to another address, or waits for its next pod, and nothing is left on the earlier address.
    pub(crate) fn has_left(&self) -> bool {
        matches!(self.phase, Phase::Rebinding { .. } | Phase::Reserved { .. }) && self.is_over()
    }

    /// None of its entries exists or may come.
    pub(crate) fn is_over(&self) -> bool {
        self.items.iter().all(|item| item.entry == Entry::Gone)
    }

    /// Its claim says what its mapping is: creations may be sent.
    pub(crate) fn is_claimed(&self) -> bool {
        matches!(self.claim, Claim::Written(written) if written >= self.revision)
    }

    /// Its mapping was in a claim once, whatever became of that: creations may have been sent. Not only those of the content
    /// that it has now: what an earlier one had may be on its way still.
    pub(crate) const fn may_have_sent(&self) -> bool {
        self.claimed.is_some()
    }

    /// Its name and its claim are another allocation's: it only goes.
    pub(crate) fn is_succeeded(&self) -> bool {
        self.unusual.successor.is_some()
    }

    /// Whether its table took some of its entries, and refused others for want of room, before anybody was told of it.
    pub(crate) fn is_partial(&self) -> bool {
        let refused = |item: &Item| matches!(item.entry, Entry::Refused { class: RefusedClass::Quota, .. });
        let present = |item: &Item| matches!(item.entry, Entry::Present { .. });
        self.phase == Phase::Live
            && !self.established
            && self.items.iter().any(refused)
            && self.items.iter().any(present)
    }

    /// The event since which this item is to go; `None` while it is to stay.
    pub(crate) fn removal(&self, item: &Item) -> Option<u64> {
        match self.phase {
            Phase::Rebinding { since } | Phase::Reserved { since } | Phase::Releasing { since, .. } => Some(since),
            Phase::Live => item.leaving.map(At::number),
        }
    }
}
