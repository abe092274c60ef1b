//! What the state is made of.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use crate::machine::at::At;
use crate::machine::demand::{Demand, Note, RefusalReason, ReleaseReason, WaitReason, Want};
use crate::machine::identity::{
    AllocationId, EniId, EntryId, GatewayId, Generation, PodKey, PodUid, Protocol, TableId, UidHash, VSwitchId, ZoneId,
};
use crate::machine::intent::Held;
use crate::machine::pool::{Eips, Range};
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
    /// What another controller left may be taken over.
    pub(crate) adopt: bool,
    /// How long the reservation of a bare pod is kept; none keeps it for ever.
    pub(crate) fixed_retention_ms: Option<u64>,
    /// Kinds, beside StatefulSet, whose pods may have fixed mappings.
    pub(crate) stateful_kinds: Vec<Box<str>>,
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
    pub(crate) grace_ends_ms: Option<At>,
    pub(crate) gate: bool,
    /// None of a bare pod.
    pub(crate) owner: Option<Arc<Controller>>,
    /// Order of arrival: the event with which it first asked.
    pub(crate) arrival: Option<At>,
    pub(crate) standing: Standing,
    /// The note that it carries.
    pub(crate) noted: Note,
    /// A note was written and not answered: it may carry that one.
    pub(crate) noted_unsure: bool,
    pub(crate) held: Held,
}

/// The controller of a pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Controller {
    /// API version.
    pub api_version: String,
    /// Kind.
    pub kind: String,
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
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
    Known(Arc<Place>),
    /// It belongs to none yet.
    Missing,
}

/// An interface, its vSwitch and its zone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
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
    pub(crate) eips: Eips,
}

/// An EIP that cannot be used, as far as it was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspect {
    pub(crate) gateway: GatewayId,
    /// Machine time of the first look that showed it so.
    pub(crate) since_ms: u64,
    /// A second look, long enough afterwards, showed it so again.
    pub(crate) lost: bool,
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
    /// Of these, the items of which only a complete listing tells what is awaited.
    pub(crate) awaited_whole: BTreeSet<(AllocationId, Generation)>,
    /// The event that last added to what is awaited.
    pub(crate) awaited_at: u64,
    /// Items whose entries are there and not yet in effect.
    pub(crate) pending: BTreeSet<(AllocationId, Generation)>,
    /// Strays by what they occupy outside, and inside.
    pub(crate) strays_external: Map<(Ipv4Addr, Protocol, u16), EntryId>,
    pub(crate) strays_internal: Map<(Ipv4Addr, Protocol, u16), EntryId>,
    /// Strays whose deletion was acknowledged.
    pub(crate) strays_going: BTreeSet<EntryId>,
    /// Items of ours that are there or may come, and strays.
    pub(crate) committed: u32,
    /// How many entries it takes, once it has refused one.
    pub(crate) limit: Option<u32>,
    /// The event that said so last, or confirmed it.
    pub(crate) limit_since: u64,
    /// Allocations of which it took only a part.
    pub(crate) partial: BTreeSet<AllocationId>,
    /// One pod may try beyond the limit.
    pub(crate) probing: bool,
    /// Machine time of the next probe.
    pub(crate) probe_ms: Option<u64>,
    /// Its free ports have rested since history was lost, or rest.
    pub(crate) rested: bool,
    /// Machine time until which they rest.
    pub(crate) rests_ms: Option<u64>,
    /// Pods that wait for room, in order of arrival.
    pub(crate) queue: BTreeMap<u64, PodUid>,
    /// Late effects may show up until then; it is listed often.
    pub(crate) watch_until_ms: u64,
    pub(crate) held: Held,
}

/// An entry of a table as last listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listed {
    /// It is the entry of the item of that generation.
    Ours(Generation),
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
    pub(crate) held: Held,
}

/// What keeps an external tuple from being free, whoever owns it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hold {
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
    pub(crate) claim: Option<Box<crate::machine::event::seen::Claim>>,
    /// What it maps, where it has no annotation of ours.
    pub(crate) shown: Option<Box<crate::machine::event::seen::Shown>>,
    /// A deletion was asked for.
    pub(crate) deleting: bool,
    /// Its owner that is not a pod.
    pub(crate) owner: Option<Arc<Controller>>,
    pub(crate) published: bool,
    /// natgw wrote it, whatever became of its annotation.
    pub(crate) written_by_us: bool,
    /// It stands for nothing and is being deleted.
    pub(crate) ghost: bool,
    pub(crate) held: Held,
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
    /// A reservation's time may be over.
    Retention(AllocationId),
    /// The free ports of a table have rested.
    Rest(TableId),
    /// An allocation was left alone to another writer for long enough.
    Contest(AllocationId),
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
    /// A pod, by its arrival: who asked first is decided first.
    Pod(u64, PodUid),
    /// The queue of a table: after the pods, one of which may have come before its head and asks anew.
    Queue(TableId),
}

impl Stray {
    /// The external tuples that it occupies. `Any` occupies the address, which makes the EIP unusable instead.
    pub(crate) fn external(&self) -> Vec<(Ipv4Addr, Protocol, u16)> {
        let (first, last) = self.external_ports;
        let protocols: &[Protocol] = match &self.protocol {
            Some(protocol) => std::slice::from_ref(protocol),
            None => &Protocol::ALL,
        };
        let ports = || (first..=last).filter(|port| *port != 0);
        protocols.iter().flat_map(|protocol| ports().map(|port| (self.external_ip, *protocol, port))).collect()
    }

    /// The address, protocol and port to which it sends, where that is one port.
    pub(crate) fn internal(&self) -> Option<(Ipv4Addr, Protocol, u16)> {
        let (first, last) = self.internal_ports;
        (first == last && first != 0).then_some((self.internal_ip, self.protocol?, first))
    }

    /// The pod's port with its protocol and the public port, where it maps one to one.
    pub(crate) fn ports(&self) -> Option<(Want, u16)> {
        let (_, protocol, internal) = self.internal()?;
        let (first, last) = self.external_ports;
        (first == last && first != 0).then_some((Want { internal, protocol }, first))
    }

    /// All five, where it maps one port to one.
    pub(crate) fn tuple(&self) -> Option<crate::machine::identity::Tuple> {
        let (want, external_port) = self.ports()?;
        Some(crate::machine::identity::Tuple {
            external_ip: self.external_ip,
            external_port,
            internal_ip: self.internal_ip,
            internal_port: want.internal,
            protocol: want.protocol,
        })
    }

    /// It maps whole addresses (DNAT IP mapping).
    pub(crate) fn is_any(&self) -> bool {
        self.external_ports == (0, 0)
    }
}
