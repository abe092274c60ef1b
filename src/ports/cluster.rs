//! The cluster in domain words: what the executor writes, and what the driver reads.
//!
//! Reads give the frozen observations of `machine::event::seen`: adapters decode straight into what the journal keeps.
//! Writes are conflict-safe and idempotent: each looks at what is there and changes only what is ours.

use std::net::Ipv4Addr;

use crate::machine::event::seen::{ClaimSeen, PodSeen};
use crate::machine::identity::{
    AllocationId, EniId, EntryId, GatewayId, Generation, PodKey, PodUid, Protocol, TableId, VSwitchId, ZoneId,
};
use crate::machine::state::Controller;

/// What the controller asks of the API server. Each method is one exchange and one suspension point.
#[expect(async_fn_in_trait, reason = "the futures live on one thread: the driver's runtime or the simulator")]
pub trait Cluster {
    /// All pods, consistently read (not from a cache).
    async fn list_pods(&self) -> Result<Vec<PodSeen>, ClusterError>;

    /// All PodDNATs, consistently read.
    async fn list_claims(&self) -> Result<Vec<ClaimSeen>, ClusterError>;

    /// Reads the PodDNAT of a name.
    async fn read_claim(&self, key: &PodKey) -> Result<Option<ClaimFound>, ClusterError>;

    /// Creates the PodDNAT with finalizer, ownerReference, spec and claim annotation, and without status.
    /// Fails with `AlreadyExists` if an object of that name exists.
    async fn create_claim(&self, mapping: &Mapping) -> Result<ClaimFound, ClusterError>;

    /// Replaces spec and claim annotation of the PodDNAT that was found, and sets the finalizer again where it is missing.
    /// Fails with `Conflict` if it changed since.
    async fn replace_claim(&self, mapping: &Mapping, found: &ClaimFound) -> Result<ClaimFound, ClusterError>;

    /// Replaces the status: all entries of the mapping, or none at all. Fails with `Conflict` if it changed since.
    async fn write_status(&self, publication: &Publication, found: &ClaimFound) -> Result<(), ClusterError>;

    /// Asks for the deletion of the PodDNAT, if it still has that UID. Success if it is gone or being deleted already.
    async fn delete_claim(&self, key: &PodKey, uid: &str) -> Result<(), ClusterError>;

    /// Takes our finalizer off the PodDNAT that was found. Fails with `Conflict` if it changed since.
    async fn strip_finalizer(&self, key: &PodKey, found: &ClaimFound) -> Result<(), ClusterError>;

    /// Writes the pod annotation `k8s.aliyun.com/pod-dnat-status` (JSON) and, where the pod lists our readiness gate, the
    /// condition. Fails with `Gone` if the pod does not exist with that UID, and with `Conflict` if it changed since it was
    /// shown.
    async fn mark_pod(&self, mark: &PodMark) -> Result<(), ClusterError>;

    /// Records an Event on the pod. Best effort: nobody waits for it.
    async fn announce(&self, pod: &PodMark) -> Result<(), ClusterError>;
}

/// A mapping as it is published: the PodDNAT's spec, and the claim annotation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Namespace and name, of the pod and so of the PodDNAT.
    pub key: PodKey,
    /// The pod.
    pub pod: PodUid,
    /// The allocation.
    pub allocation: AllocationId,
    /// The mapping is fixed.
    pub fixed: bool,
    /// The gateway; the spec's `tableId` is its id.
    pub gateway: GatewayId,
    /// The forward table.
    pub table: TableId,
    /// The EIP.
    pub eip: Ipv4Addr,
    /// The pod's address.
    pub ip: Ipv4Addr,
    /// The address's interface.
    pub eni: EniId,
    /// The interface's vSwitch.
    pub vswitch: VSwitchId,
    /// The interface's zone.
    pub zone: ZoneId,
    /// The mapped ports, in the order asked.
    pub items: Vec<MappedPort>,
    /// The pod's controller, which owns the PodDNAT of a fixed mapping; none of a bare pod.
    pub owner: Option<Controller>,
    /// Milliseconds since 1970-01-01 UTC since which a fixed mapping has no pod.
    pub absent_since_wall_ms: Option<i64>,
    /// Earlier allocations of the name whose entries may still exist.
    pub releasing: Vec<Leaving>,
    /// What of it was taken over from another controller.
    pub adopted: Adopted,
}

/// What of a mapping was taken over from another controller.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Adopted {
    /// Of each item the entry that carries no mark; none at all where none was taken over.
    pub entries: Vec<Option<EntryId>>,
    /// A reservation that only its deletion frees.
    pub kept: bool,
}

/// An allocation that goes while its successor has the PodDNAT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaving {
    /// The allocation.
    pub allocation: AllocationId,
    /// Its pod.
    pub pod: PodUid,
    /// Its gateway.
    pub gateway: GatewayId,
    /// Its forward table.
    pub table: TableId,
    /// Its EIP.
    pub eip: Ipv4Addr,
    /// The address to which it sends.
    pub ip: Ipv4Addr,
    /// The ports whose entries may still exist.
    pub items: Vec<MappedPort>,
}

/// One mapped port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MappedPort {
    /// The pod's port.
    pub internal: u16,
    /// The public port.
    pub external: u16,
    /// The protocol.
    pub protocol: Protocol,
    /// The creation.
    pub generation: Generation,
    /// PortBreak is set.
    pub port_break: bool,
}

/// What the status is to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// Namespace and name.
    pub key: PodKey,
    /// The allocation that the claim annotation must name.
    pub allocation: AllocationId,
    /// UID of the PodDNAT, where it is known: of that object anything may be withdrawn, whatever its annotation names.
    pub uid: Option<Box<str>>,
    /// The mapping with the id of each entry, in order; `None` withdraws.
    pub mapping: Option<(Mapping, Vec<EntryId>)>,
    /// Why there is none: a word and a sentence for the condition.
    pub reason: (&'static str, &'static str),
}

/// A PodDNAT that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimFound {
    /// Its UID.
    pub uid: String,
    /// Its resourceVersion.
    pub resource_version: String,
    /// A deletion was asked for.
    pub deleting: bool,
    /// Our finalizer is set.
    pub finalizer: bool,
    /// The allocation that its claim annotation names, where there is one that parses.
    pub allocation: Option<AllocationId>,
}

/// What a pod is to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodMark {
    /// Namespace and name.
    pub key: PodKey,
    /// The pod.
    pub pod: PodUid,
    /// The phase in one word (`Ready`, `Waiting`, …); `None` removes the annotation.
    pub phase: Option<&'static str>,
    /// The reason in one word.
    pub reason: &'static str,
    /// The reason as a sentence.
    pub message: String,
    /// `EIP:512/tcp,513/udp`, where the mapping is ready.
    pub address: Option<String>,
    /// The readiness condition; `None` where the pod does not list the gate.
    pub ready: Option<bool>,
    /// The Event is a Warning.
    pub warning: bool,
}

/// How a call to the API server ended, when it did not end well.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{call} ended with {class:?}: {message}")]
pub struct ClusterError {
    /// The call.
    pub call: &'static str,
    /// What may be concluded.
    pub class: ClusterErrorClass,
    /// The API server's words, bounded.
    pub message: String,
}

/// What may be concluded from an error of the API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ClusterErrorClass {
    /// An object of that name exists.
    AlreadyExists,
    /// The object changed since it was read.
    Conflict,
    /// The object, or the pod with that UID, does not exist.
    Gone,
    /// The request was refused and will be refused again.
    Refused,
    /// Not carried out; try again after a pause.
    Busy,
    /// No answer: it may have been carried out.
    Unknown,
}

/// The leader election lock. Compare-and-swap is the whole of it.
#[expect(async_fn_in_trait, reason = "the futures live on one thread: the driver's runtime or the simulator")]
pub trait Lease {
    /// Reads the lock.
    async fn read_lease(&self) -> Result<LeaseRecord, ClusterError>;

    /// Writes the lock. Fails with `Conflict` unless it is still what was read.
    async fn write_lease(&self, record: &LeaseRecord) -> Result<LeaseRecord, ClusterError>;
}

/// A Lease as far as we use it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaseRecord {
    /// resourceVersion; empty where there is no Lease yet.
    pub resource_version: String,
    /// holderIdentity; empty where nobody holds it.
    pub holder: String,
    /// The term, in an annotation.
    pub term: u64,
    /// leaseDurationSeconds in milliseconds.
    pub duration_ms: u64,
    /// Increases with each renewal: renewTime in microseconds. Only its changing matters.
    pub renewals: u64,
    /// Journal id, head and hash of up to five journals, the newest first, in an annotation. A journal id of zeros stands for
    /// that of the last lead, which has not named its journal yet.
    pub heads: Vec<([u8; 16], u64, [u8; 32])>,
}
