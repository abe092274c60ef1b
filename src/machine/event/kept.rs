//! Frozen body of kind 100: a state as it stands, object by object.
//!
//! They occur in snapshots only, never in a history. A snapshot is `SnapshotBegun`, these — with the ordinary events that
//! say all there is of pools, settings, gateways, routes, addresses, foreign entries and claims — and `SnapshotEnded`.
//! Term and times of the state are those of the records themselves.

use std::net::Ipv4Addr;

use bincode::{Decode, Encode};
use serde::Serialize;

/// API version, kind, name and UID of a pod's controller.
pub type OwnerKept = (String, String, String, String);

/// Phase, reason, allocation and content of a note.
pub type NoteKept = (u8, u8, (u64, u64), u64);

/// Kind 100, version 1. Whatever is new is a new variant after the last: their order is frozen, too.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub enum Kept {
    /// Counters and conditions of the whole.
    Frame(FrameKept),
    /// An EIP.
    Eip(EipKept),
    /// A forward table.
    Table(TableKept),
    /// A pod.
    Pod(Box<PodKept>),
    /// An allocation.
    Allocation(Box<AllocationKept>),
    /// Items of an allocation.
    Items(ItemsKept),
    /// An entry that is bound to no item.
    Stray(StrayKept),
    /// Ports that rest.
    Rests(RestsKept),
    /// A claim that belongs to no allocation.
    Claim(ClaimKept),
    /// Something to bring about.
    Intent(IntentKept),
    /// Something about which a decision may be due.
    Work(WorkKept),
}

/// Frozen with kind 100, version 1.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct FrameKept {
    /// The highest term seen anywhere.
    pub term_seen: u64,
    /// Pods and claims have been read in this term.
    pub cluster_read: bool,
    /// The state is being rebuilt.
    pub rebuilding: bool,
    /// Who had which port before is not known.
    pub forgetful: bool,
    /// The journal's disk is short.
    pub short: bool,
    /// Number of the reason why nothing is decided.
    pub halted: Option<u8>,
    /// Allocations that this term gave out.
    pub allocations_decided: u64,
    /// Generations that this term gave out.
    pub generations_decided: u64,
}

/// Frozen with kind 100, version 1.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct EipKept {
    /// The EIP.
    pub eip: Ipv4Addr,
    /// The gateway whose pools cover it.
    pub gateway: Option<String>,
    /// It cannot be used: its gateway, machine time of the first look, and whether it is lost.
    pub suspect: Option<(String, u64, bool)>,
}

/// Frozen with kind 100, version 1.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct TableKept {
    /// The table.
    pub table: String,
    /// Its gateway.
    pub gateway: Option<String>,
    /// Its entries have been read in this term.
    pub open: bool,
    /// Entries that are there or may come.
    pub committed: u32,
    /// How many entries it takes, once it has refused one.
    pub limit: Option<u32>,
    /// One pod may try beyond the limit.
    pub probing: bool,
    /// Machine time of the next probe.
    pub probe_ms: Option<u64>,
    /// Its free ports have rested since history was lost, or rest.
    pub rested: bool,
    /// Machine time until which they rest.
    pub rests_ms: Option<u64>,
    /// Late effects may show up until then.
    pub watch_until_ms: u64,
    /// The event that said last how many entries it takes, or confirmed it.
    pub limit_since: u64,
    /// The event that last added to what is awaited of it.
    pub awaited_at: u64,
}

/// What a pod asks. Frozen with kind 100, version 1.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub enum DemandKept {
    /// Nothing.
    Off,
    /// Nothing, but annotations are left.
    Kept,
    /// Ports and IANA protocol numbers, and whether the mapping is fixed.
    On(Vec<(u16, u8)>, bool),
    /// What cannot be served: number and detail.
    Refused(u8, String),
}

/// How a pod stands. Frozen with kind 100, version 1.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub enum StandingKept {
    /// Nothing has been decided.
    Open,
    /// It waits: number of the reason, and the table in whose queue it stands.
    Waiting(u8, Option<String>),
    /// It is refused: number of the reason.
    Refused(u8),
    /// It has an allocation.
    Allocated((u64, u64)),
}

/// Frozen with kind 100, version 1.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct PodKept {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// Hash of the last observation.
    pub seen: u64,
    /// The event of the last observation.
    pub seen_at: u64,
    /// Its address.
    pub ip: Option<Ipv4Addr>,
    /// What it asks.
    pub demand: DemandKept,
    /// Number of the reason why it cannot be served whatever it asks.
    pub barred: Option<u8>,
    /// Number of the reason why its removal has begun.
    pub ended: Option<u8>,
    /// Machine time at which its grace period ends.
    pub grace_ends_ms: Option<u64>,
    /// That end is still to come.
    pub grace_armed: bool,
    /// It lists our readiness gate.
    pub gate: bool,
    /// Its controller.
    pub owner: Option<OwnerKept>,
    /// The event with which it first asked.
    pub arrival: Option<u64>,
    /// How it stands.
    pub standing: StandingKept,
    /// The note that it carries.
    pub noted: NoteKept,
    /// A note was written and not answered.
    pub noted_unsure: bool,
    /// A note is to be written.
    pub marking: bool,
    /// It waits for something else than room.
    pub undecided: bool,
}

/// Frozen with kind 100, version 1.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct AllocationKept {
    /// The allocation.
    pub allocation: (u64, u64),
    /// Its pod.
    pub pod: String,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Its gateway.
    pub gateway: String,
    /// Its table.
    pub table: String,
    /// Its EIP.
    pub eip: Ipv4Addr,
    /// The pod's address.
    pub ip: Ipv4Addr,
    /// ENI, vSwitch and zone of the address.
    pub place: (String, String, String),
    /// The mapping is fixed.
    pub fixed: bool,
    /// 1 live, 2 rebinding, 3 releasing, 4 reserved; the deciding event; number of the reason.
    pub phase: (u8, u64, u8),
    /// 0 absent, 1 written, 2 refused; the content.
    pub claim: (u8, u64),
    /// The last content that was in a claim.
    pub claimed: Option<u64>,
    /// UID of the PodDNAT, and the event that told it.
    pub claim_uid: Option<(String, u64)>,
    /// Somebody asked for the deletion of the claim.
    pub claim_deleting: bool,
    /// Content of the mapping.
    pub revision: u64,
    /// Content of the claim.
    pub claim_revision: u64,
    /// 0 nothing, 1 content, 2 not known; the content.
    pub published: (u8, u64),
    /// It has been published once.
    pub established: bool,
    /// It was decided beyond the table's known limit.
    pub probe: bool,
    /// How often what was refused was tried again.
    pub retries: u32,
    /// Machine time at which what was refused may be decided again.
    pub retry_ms: Option<u64>,
    /// Who owns the claim of a fixed mapping.
    pub owner: Option<OwnerKept>,
    /// Wall time since which a reservation has no pod.
    pub absent_since_wall_ms: Option<i64>,
    /// Machine time at which a reservation's time is looked at.
    pub retention_ms: Option<u64>,
    /// A reservation's time is over.
    pub expired: bool,
    /// Its name moves to another EIP.
    pub moved: bool,
    /// Its name came from another EIP.
    pub relocated: bool,
    /// The allocation to which its name has gone.
    pub successor: Option<(u64, u64)>,
    /// Allocations of the name that still go.
    pub predecessors: Vec<(u64, u64)>,
    /// A reservation of the original controller's.
    pub kept: bool,
    /// Somebody edited the claim, and it has not been written again.
    pub edited: bool,
    /// Machine times at which what somebody undid was brought about again.
    pub heals: Vec<u64>,
    /// Machine time until which it is left alone to another writer.
    pub contest_ms: Option<u64>,
    /// The name is its.
    pub named: bool,
    /// It is in the sets of those: unsettled, lacking ports, reserved, homeless.
    pub among: (bool, bool, bool, bool),
}

/// What is known of an entry. Frozen with kind 100, version 1.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub enum EntryKept {
    /// Not created.
    Planned,
    /// Since when a creation may have been sent, whether it was looked for, and when it was first missed.
    Unknown(u64, bool, Option<u64>),
    /// Since when it is refused, the class, and whether it was looked for.
    Refused(u64, u8, bool),
    /// Id, since when it is there, whether it is available and verified, and when it was first missed.
    Present(String, u64, bool, bool, Option<u64>),
    /// Id, since when and since which machine time it was asked to go, whether that was acknowledged, and when it was
    /// first missed.
    Deleting(String, u64, u64, bool, Option<u64>),
    /// Not there.
    Gone,
}

/// One mapped port. Frozen with kind 100, version 1.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct ItemKept {
    /// The pod's port.
    pub internal: u16,
    /// IANA protocol number.
    pub protocol: u8,
    /// The public port.
    pub external: u16,
    /// The creation.
    pub generation: (u64, u64),
    /// PortBreak is set.
    pub port_break: bool,
    /// The event since which the pod asks for it no more.
    pub leaving: Option<u64>,
    /// A creation may have reached the cloud.
    pub touched: bool,
    /// The next listing must tell how its entry stands.
    pub awaited: bool,
    /// Only a complete one can tell it.
    pub awaited_whole: bool,
    /// The entry without a mark that was taken over for it.
    pub adopted: Option<String>,
    /// What is known of its entry.
    pub entry: EntryKept,
}

/// Frozen with kind 100, version 1.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct ItemsKept {
    /// The allocation.
    pub allocation: (u64, u64),
    /// Some of its items, in order.
    pub items: Vec<ItemKept>,
}

/// Frozen with kind 100, version 1: beside the entry's `EntrySeen`, which comes before it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct StrayKept {
    /// The table.
    pub table: String,
    /// The entry.
    pub entry: String,
    /// It carries a mark of this cluster.
    pub marked: bool,
    /// It was decided stale.
    pub stale: bool,
    /// Our deletion of it was acknowledged.
    pub deleted: bool,
    /// Machine time of the last such acknowledgement.
    pub deleted_ms: u64,
    /// It is not decided whose it is.
    pub remnant: bool,
}

/// Frozen with kind 100, version 1.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct RestsKept {
    /// EIP, IANA protocol number, port, and the machine time until which it rests.
    pub rests: Vec<(Ipv4Addr, u8, u16, u64)>,
}

/// Frozen with kind 100, version 1: beside the claim's `ClaimSeen`, which comes before it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct ClaimKept {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// The event of its last observation.
    pub since: u64,
    /// It stands for nothing and is being deleted.
    pub ghost: bool,
    /// It is another controller's and was there when the term read the cluster.
    pub original: bool,
    /// It is another controller's and came later.
    pub intruder: bool,
}

/// What is to be brought about. Frozen with kind 100, version 1.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub enum WantedKept {
    /// Find the interface of that address of that pod.
    Locate(Ipv4Addr, String),
    /// Write an allocation's claim with that content.
    WriteClaim((u64, u64), u64),
    /// Create the entry of that table, allocation and generation.
    Bind(String, (u64, u64), (u64, u64)),
    /// Confirm that the creation of an allocation was never sent.
    Forgo((u64, u64), (u64, u64)),
    /// Delete the entry of a table; of that allocation, or of nobody.
    Unbind(String, String, Option<(u64, u64)>),
    /// List a table.
    Observe(String),
    /// Publish an allocation with that content.
    Publish((u64, u64), u64),
    /// Withdraw an allocation.
    Withdraw((u64, u64)),
    /// Release the claim of an allocation.
    ReleaseClaim((u64, u64)),
    /// Delete the PodDNAT of that namespace, name and UID.
    DropClaim(String, String, String),
    /// Say that on a pod.
    MarkPod(String, NoteKept),
}

/// Frozen with kind 100, version 1.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct IntentKept {
    /// The event on which it rests.
    pub rests_on: u64,
    /// What is wanted.
    pub wanted: WantedKept,
}

/// Frozen with kind 100, version 1: something about which a decision may be due.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub enum WorkKept {
    /// A claim, by namespace and name.
    Claim(String, String),
    /// An allocation.
    Allocation((u64, u64)),
    /// An entry of a table.
    Stray(String, String),
    /// The queue of a table.
    Queue(String),
    /// A pod, by its arrival and UID.
    Pod(u64, String),
}
