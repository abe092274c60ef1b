//! What others may read of an allocation.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use crate::machine::demand::Want;
use crate::machine::event::seen::{ClaimSeen, EDITED_SPEC, ids_shown};
use crate::machine::identity::{
    AllocationId, EniId, EntryId, GatewayId, Generation, PodKey, PodUid, TableId, VSwitchId, ZoneId,
};
use crate::machine::pool::Eip;
use crate::machine::state::{Allocation, Controller, Entry, Gateway, Item, Phase, Place, Table};

impl Allocation {
    /// The pod.
    #[must_use]
    pub const fn pod(&self) -> &PodUid {
        &self.pod
    }

    /// Namespace and name of the pod.
    #[must_use]
    pub const fn key(&self) -> &PodKey {
        &self.key
    }

    /// The gateway.
    #[must_use]
    pub const fn gateway(&self) -> &GatewayId {
        &self.gateway
    }

    /// The forward table.
    #[must_use]
    pub const fn table(&self) -> &TableId {
        &self.table
    }

    /// The EIP.
    #[must_use]
    pub const fn eip(&self) -> Ipv4Addr {
        self.eip
    }

    /// The pod's address.
    #[must_use]
    pub const fn ip(&self) -> Ipv4Addr {
        self.ip
    }

    /// Where that address is.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// UID of the PodDNAT, where it is known.
    #[must_use]
    pub fn claim_uid(&self) -> Option<&str> {
        self.claim_uid.as_ref().map(|(uid, _)| uid.as_ref())
    }

    /// Of a fixed mapping: who owns its PodDNAT; none of a bare pod's.
    #[must_use]
    pub fn owner(&self) -> Option<&Controller> {
        self.owner.as_deref()
    }

    /// Wall time since which a fixed mapping has no pod.
    #[must_use]
    pub fn absent_since_wall_ms(&self) -> Option<i64> {
        self.unusual.absent_since_wall_ms
    }

    /// The mapping is fixed.
    #[must_use]
    pub const fn is_fixed(&self) -> bool {
        self.fixed
    }

    /// All items.
    #[must_use]
    pub fn items(&self) -> &[Item] {
        &self.items
    }

    /// The items that the pod asks for.
    pub fn items_staying(&self) -> impl Iterator<Item = &Item> {
        self.items.iter().filter(|item| !item.is_leaving())
    }

    /// The PodDNAT's status shows its entries as they are wanted.
    #[must_use]
    pub fn is_published(&self) -> bool {
        self.published == super::Published::Content(self.revision)
    }

    /// Its entries are to exist: it is neither being let go nor moving to another address.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.phase == Phase::Live
    }

    /// Whether the status shows entries though none were written, or none though some were.
    pub(crate) fn is_shown_otherwise(&self, published: bool) -> bool {
        match self.published {
            super::Published::Nothing => published,
            super::Published::Content(_) => !published,
            super::Published::Unknown => false,
        }
    }

    /// Whether the status of a PodDNAT of this allocation names the entries that it has; none where either names none, or
    /// an entry is still to be made or to go.
    pub(crate) fn names_its_entries(&self, seen: &ClaimSeen) -> Option<bool> {
        let id = |item: &Item| match &item.entry {
            Entry::Present { id, .. } => Some(id.clone()),
            Entry::Planned | Entry::Unknown { .. } | Entry::Refused { .. } | Entry::Deleting { .. } | Entry::Gone => {
                None
            }
        };
        if !seen.published || seen.ids == 0 {
            return None;
        }
        let ids: Vec<EntryId> = self.items_staying().map(id).collect::<Option<_>>()?;
        Some(ids_shown(ids.iter().map(EntryId::as_str)) == seen.ids)
    }

    /// Whether a PodDNAT of this allocation does not say what was written into it, or has lost our finalizer.
    pub(crate) fn is_edited(&self, id: AllocationId, seen: &ClaimSeen) -> bool {
        self.claim == super::Claim::Written(self.claim_revision) && !seen.deleting && self.differs(id, seen)
    }

    /// Whether a PodDNAT does not say what this allocation's, which has that id, should, or has not our finalizer.
    pub(crate) fn differs(&self, id: AllocationId, seen: &ClaimSeen) -> bool {
        let Some(claim) = &seen.claim else { return true };
        let item = |item: &Item| crate::machine::event::decided::Item {
            internal: item.want.internal,
            external: item.external,
            protocol: item.want.protocol.number(),
            generation: item.generation.into(),
            port_break: item.port_break,
        };
        // A claim tells seconds.
        let second = |wall_ms: i64| wall_ms.div_euclid(1_000);
        let place = (self.place.eni.as_str(), self.place.vswitch.as_str(), self.place.zone.as_str());
        let (eni, vswitch, zone) = &claim.place;
        let leaving = claim.releasing.iter().map(|group| AllocationId::from(group.allocation));
        let entries = claim.entries.iter().map(String::as_str);
        !seen.finalizer
            || seen.lacks & EDITED_SPEC != 0
            || AllocationId::from(claim.allocation) != id
            || claim.pod != self.pod.as_str()
            || claim.fixed != self.fixed
            || claim.kept != self.kept
            || claim.absent_since_wall_ms.map(second) != self.unusual.absent_since_wall_ms.map(second)
            || !leaving.eq(self.unusual.predecessors.iter().copied())
            || claim.gateway != self.gateway.as_str()
            || claim.table != self.table.as_str()
            || (eni.as_str(), vswitch.as_str(), zone.as_str()) != place
            || claim.eip != Some(self.eip)
            || claim.ip != Some(self.ip)
            || !claim.items.iter().copied().eq(self.items_staying().map(item))
            || !entries.eq(self.adopted_entries().into_iter().map(|entry| entry.map_or("", EntryId::as_str)))
    }

    /// Of each item that stays the entry that was adopted for it; none at all where none was.
    #[must_use]
    pub fn adopted_entries(&self) -> Vec<Option<&EntryId>> {
        if self.unusual.adopted.is_empty() {
            return Vec::new();
        }
        let adopted = |item: &Item| {
            self.unusual.adopted.iter().find(|(generation, _)| *generation == item.generation).map(|(_, entry)| entry)
        };
        let entries: Vec<_> = self.items_staying().map(adopted).collect();
        if entries.iter().all(Option::is_none) { Vec::new() } else { entries }
    }

    /// Whether it is a reservation of another controller's, which only its deletion frees.
    #[must_use]
    pub const fn is_kept(&self) -> bool {
        self.kept
    }

    /// Whether what somebody did to its PodDNAT is left as it is for now.
    #[must_use]
    pub fn yields(&self) -> bool {
        self.edited && self.unusual.contest_ms.is_some()
    }

    /// Whether it is left alone for now, because somebody undoes what is written of it.
    #[must_use]
    pub fn is_contested(&self) -> bool {
        self.unusual.contest_ms.is_some()
    }

    /// Why nothing is published: a word and a sentence.
    #[must_use]
    pub const fn words(&self) -> (&'static str, &'static str) {
        match self.phase {
            Phase::Live => ("Pending", "entries are being created or repaired"),
            Phase::Rebinding { .. } => ("AddressChanged", "the pod's address changed; its entries follow"),
            Phase::Reserved { .. } => {
                ("Reserved", "the pod is absent; EIP and ports stay reserved for the next pod of its name")
            }
            Phase::Releasing { reason, .. } => (reason.word(), reason.sentence()),
        }
    }

    /// `EIP:512/tcp,513/udp`.
    #[must_use]
    pub fn external_address(&self) -> String {
        let mut text = format!("{}:", self.eip);
        for (position, item) in self.items_staying().enumerate() {
            let comma = if position == 0 { "" } else { "," };
            // Writing to a string does not fail.
            let _ = write!(text, "{comma}{}/{}", item.external, item.want.protocol);
        }
        text
    }
}

impl Item {
    /// The pod's port and the protocol.
    #[must_use]
    pub const fn want(&self) -> Want {
        self.want
    }

    /// The public port.
    #[must_use]
    pub const fn external(&self) -> u16 {
        self.external
    }

    /// The creation.
    #[must_use]
    pub const fn generation(&self) -> Generation {
        self.generation
    }

    /// Its entry may exist, or may come.
    #[must_use]
    pub fn may_exist(&self) -> bool {
        self.entry != Entry::Gone
    }

    /// The pod asks for it no more.
    #[must_use]
    pub const fn is_leaving(&self) -> bool {
        self.leaving.is_some()
    }

    /// PortBreak is set.
    #[must_use]
    pub const fn port_break(&self) -> bool {
        self.port_break
    }

    /// What is known of its entry.
    #[must_use]
    pub const fn entry(&self) -> &Entry {
        &self.entry
    }
}

impl Gateway {
    /// It is available.
    #[must_use]
    pub const fn is_available(&self) -> bool {
        self.available
    }

    /// The EIPs that the pools cover, in configured order.
    #[must_use]
    pub fn eips(&self) -> &[Eip] {
        &self.eips
    }
}

impl Table {
    /// Its entries have been read in this term.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.open
    }

    /// Items of ours that are there or may come, and entries that are nobody's or another's.
    #[must_use]
    pub const fn entries(&self) -> u32 {
        self.committed
    }

    /// How many entries it takes, once it has refused one.
    #[must_use]
    pub const fn limit(&self) -> Option<u32> {
        self.limit
    }

    /// How many pods wait for room in it.
    #[must_use]
    pub fn queue_length(&self) -> usize {
        self.queue.len()
    }
}

impl Place {
    /// The interface.
    #[must_use]
    pub const fn eni(&self) -> &EniId {
        &self.eni
    }

    /// The vSwitch.
    #[must_use]
    pub const fn vswitch(&self) -> &VSwitchId {
        &self.vswitch
    }

    /// The zone.
    #[must_use]
    pub const fn zone(&self) -> &ZoneId {
        &self.zone
    }
}
