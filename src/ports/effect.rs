//! What the step asks to be carried out, with every parameter, and how it ended.
//!
//! An effect is complete in itself: whoever carries it out looks up nothing and chooses nothing.

use std::net::Ipv4Addr;

use crate::machine::event::seen::{ClaimSeen, PodSeen};
use crate::machine::identity::{AllocationId, EntryId, GatewayId, PodKey, TableId};
use crate::ports::cloud::{
    CreateEntry, DeleteEntry, ErrorClass, FlowControl, ListedEip, ListedEntry, ListedGateway, ListedInterface,
    ListedRouteTable, Reading,
};
use crate::ports::cluster::{Mapping, PodMark, Publication};

/// One change to bring about. Carried out twice, late or after a crash, it does no harm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Write the claim: create the PodDNAT, or write over the one of that allocation, or of that UID where it is known.
    WriteClaim(Box<Mapping>, Option<Box<str>>),
    /// Write or withdraw the status.
    WriteStatus(Box<Publication>),
    /// Delete the PodDNAT of an allocation and take our finalizer off.
    ReleaseClaim {
        /// Its name.
        key: PodKey,
        /// The allocation that its annotation names, or named before somebody edited it.
        allocation: AllocationId,
        /// Its UID, where it is known.
        uid: Option<Box<str>>,
    },
    /// Delete a PodDNAT that stands for nothing, by UID.
    DropClaim {
        /// Its name.
        key: PodKey,
        /// Its UID.
        uid: Box<str>,
    },
    /// Say on the pod how things stand.
    MarkPod(Box<PodMark>),
    /// Create an entry.
    Create(Box<CreateEntry>),
    /// Delete an entry.
    Delete(Box<DeleteEntry>),
}

/// How an effect ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It is so.
    Done,
    /// The claim is there.
    Claimed {
        /// UID of the PodDNAT.
        uid: String,
    },
    /// The entry was accepted.
    Created(EntryId),
    /// It is not so and will not be: the object is gone, somebody else's, or the request is refused for good.
    Refused(Refusal),
    /// It was not carried out; the same again after a pause.
    Again {
        /// Milliseconds to wait, where the answer says them.
        after_ms: Option<u64>,
        /// Another operation of ours or of somebody else was in the way.
        conflict: bool,
        /// What came back.
        code: String,
    },
    /// It may have been carried out.
    Unknown {
        /// What came instead of an answer.
        code: String,
    },
}

/// A refusal for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub why: Why,
    /// The code.
    pub code: String,
    /// The words, bounded.
    pub message: String,
}

/// Why an effect was refused for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The cloud refused, by class.
    Cloud(ErrorClass),
    /// An object of that name belongs to another allocation, or to nobody we know.
    Taken,
    /// The object does not exist.
    Gone,
    /// The API server refused.
    Denied,
}

/// Something to read, completely.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ListRequest {
    /// All pods and all PodDNATs, consistently.
    Cluster,
    /// All gateways of the VPC.
    Gateways,
    /// The EIPs of a gateway.
    Eips(GatewayId),
    /// All route tables of the VPC.
    RouteTables,
    /// The default routes of a route table.
    Routes(String),
    /// The interfaces of these addresses.
    Interfaces(Vec<Ipv4Addr>),
    /// The entries of a table.
    Table(TableId),
}

impl ListRequest {
    /// The action that reads it; none of the cloud's reads the cluster.
    #[must_use]
    pub const fn reading(&self) -> Option<Reading> {
        match self {
            Self::Cluster => None,
            Self::Gateways => Some(Reading::Gateways),
            Self::Eips(_) => Some(Reading::Eips),
            Self::RouteTables => Some(Reading::RouteTables),
            Self::Routes(_) => Some(Reading::Routes),
            Self::Interfaces(_) => Some(Reading::Interfaces),
            Self::Table(_) => Some(Reading::Entries),
        }
    }
}

/// What was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listing {
    /// Answer to [`ListRequest::Cluster`].
    Cluster {
        /// All pods.
        pods: Vec<PodSeen>,
        /// All PodDNATs.
        claims: Vec<ClaimSeen>,
    },
    /// Answer to [`ListRequest::Gateways`].
    Gateways(Vec<ListedGateway>),
    /// Answer to [`ListRequest::Eips`].
    Eips(Vec<ListedEip>),
    /// Answer to [`ListRequest::RouteTables`].
    RouteTables(Vec<ListedRouteTable>),
    /// Answer to [`ListRequest::Routes`]: the NAT gateways that are next hops.
    Routes(Vec<GatewayId>),
    /// Answer to [`ListRequest::Interfaces`].
    Interfaces(Vec<ListedInterface>),
    /// Answer to [`ListRequest::Table`]: complete, no id twice, as many as the cloud says there are.
    Table(Vec<ListedEntry>),
    /// Answer to [`ListRequest::Table`] whose pages do not add up, because entries came or went meanwhile: what it shows is
    /// there, and nothing else may be concluded.
    Moved(Vec<ListedEntry>),
}

/// Why a reading did not end well. It says nothing about what is there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} could not be read, so nothing is concluded: {message}")]
pub struct ListError {
    /// What was being read.
    pub what: &'static str,
    /// The table does not exist, says the cloud.
    pub gone: bool,
    /// Flow control refused it.
    pub flow: Option<FlowControl>,
    /// Milliseconds before it should be read again, where flow control said them.
    pub after_ms: Option<u64>,
    /// All calls were answered, and the answers are not a whole.
    pub incomplete: Option<Incomplete>,
    /// What came back.
    pub message: String,
}

/// In which way the pages of a listing are not a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Incomplete {
    /// The pages ended too early.
    #[error("{announced} were announced and only {came} came")]
    Short {
        /// The total that each page said.
        announced: u32,
        /// How many came.
        came: usize,
    },
    /// There were more than there should be.
    #[error("{announced} were announced and {came} came")]
    Long {
        /// The total that each page said.
        announced: u32,
        /// How many came.
        came: usize,
    },
    /// Something came twice, or a page was continued by one that had been read.
    #[error("a page repeats what another one showed")]
    Repeated,
    /// Something came or went meanwhile.
    #[error("one page announced {first} and a later one {then}")]
    Moved {
        /// The total of the first page.
        first: u32,
        /// That of a later one.
        then: u32,
    },
    /// The limit on pages was reached.
    #[error("it does not end after {pages} pages")]
    Endless {
        /// The limit.
        pages: u32,
    },
}
