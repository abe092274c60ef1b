//! Whom and what a record speaks of, so that a question about one pod can be answered record by record.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use crate::machine::event::kept::Kept;
use crate::machine::event::{Event, control, decided, outcome, seen, timer};
use crate::machine::identity::{
    AllocationId, EntryId, Generation, Mark, PodKey, PodUid, Protocol, TableId, protocol_of,
};

/// Whom and what a record speaks of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subjects {
    /// Pods by UID.
    pub pods: BTreeSet<PodUid>,
    /// Pods, and the PodDNATs of the same name.
    pub names: BTreeSet<PodKey>,
    /// Allocations. Not those in the mark of an entry: other clusters number theirs in the same way.
    pub allocations: BTreeSet<AllocationId>,
    /// Creations.
    pub generations: BTreeSet<Generation>,
    /// Entries by table and id.
    pub entries: BTreeSet<(TableId, EntryId)>,
    /// What is taken or freed outside. An item alone does not tell its EIP: then the record names the allocation only.
    pub externals: Vec<External>,
    /// Private addresses, other than those that a pod reports of itself.
    pub addresses: BTreeSet<Ipv4Addr>,
    /// Forward tables.
    pub tables: BTreeSet<TableId>,
    /// Marks of entries. Whether one is a pod's, [`Mark::is_for`] tells.
    pub marks: Vec<Mark>,
}

/// Ports of an EIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct External {
    /// The EIP.
    pub eip: Ipv4Addr,
    /// First and last port; (0, 0) is all of them.
    pub ports: (u16, u16),
    /// The protocol; `None` is any.
    pub protocol: Option<Protocol>,
}

impl External {
    /// Whether two of them have a port in common.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        let span = |(first, last): (u16, u16)| if (first, last) == (0, 0) { (0, u16::MAX) } else { (first, last) };
        let ((first, last), (other_first, other_last)) = (span(self.ports), span(other.ports));
        let one_protocol = self.protocol.zip(other.protocol).is_none_or(|(one, other)| one == other);
        self.eip == other.eip && one_protocol && first <= other_last && other_first <= last
    }
}

/// Whom and what the event speaks of.
#[must_use]
pub fn subjects(event: &Event) -> Subjects {
    let mut all = Subjects::default();
    match event {
        Event::Configured(body) => body.name_to(&mut all),
        Event::PoolConfigured(body) => body.name_to(&mut all),
        Event::TermStarted(body) => body.name_to(&mut all),
        Event::Rebased(body) => body.name_to(&mut all),
        Event::ClusterRead(body) => body.name_to(&mut all),
        Event::TableOpened(body) => body.name_to(&mut all),
        Event::DigestTaken(body) => body.name_to(&mut all),
        Event::SnapshotBegun(body) => body.name_to(&mut all),
        Event::SnapshotEnded(body) => body.name_to(&mut all),
        Event::PodSeen(body) => body.name_to(&mut all),
        Event::PodGone(body) => body.name_to(&mut all),
        Event::ClaimSeen(body) => body.name_to(&mut all),
        Event::ClaimGone(body) => body.name_to(&mut all),
        Event::GatewaySeen(body) => body.name_to(&mut all),
        Event::GatewayGone(body) => body.name_to(&mut all),
        Event::RouteSeen(body) => body.name_to(&mut all),
        Event::AddressSeen(body) => body.name_to(&mut all),
        Event::AddressMissing(body) => body.name_to(&mut all),
        Event::EntrySeen(body) => body.name_to(&mut all),
        Event::EntryVanished(body) => body.name_to(&mut all),
        Event::EntriesMissed(body) => body.name_to(&mut all),
        Event::TableListed(body) => body.name_to(&mut all),
        Event::TableGone(body) => body.name_to(&mut all),
        Event::RoomSeen(body) => body.name_to(&mut all),
        Event::Allocated(body) => body.name_to(&mut all),
        Event::Recovered(body) => body.name_to(&mut all),
        Event::Adopted(body) => body.name_to(&mut all),
        Event::Waited(body) => body.name_to(&mut all),
        Event::Refused(body) => body.name_to(&mut all),
        Event::ReleaseDecided(body) => body.name_to(&mut all),
        Event::RebindDecided(body) => body.name_to(&mut all),
        Event::Regenerated(body) => body.name_to(&mut all),
        Event::ItemMoved(body) => body.name_to(&mut all),
        Event::ItemsChanged(body) => body.name_to(&mut all),
        Event::StaleDecided(body) => body.name_to(&mut all),
        Event::GhostDecided(body) => body.name_to(&mut all),
        Event::QuotaLearned(body) => body.name_to(&mut all),
        Event::Reserved(body) => body.name_to(&mut all),
        Event::FixedBound(body) => body.name_to(&mut all),
        Event::FixedMoved(body) => body.name_to(&mut all),
        Event::Superseded(body) => body.name_to(&mut all),
        Event::Halted(body) => body.name_to(&mut all),
        Event::Resumed(body) => body.name_to(&mut all),
        Event::Contested(body) => body.name_to(&mut all),
        Event::ClaimWritten(body) => body.name_to(&mut all),
        Event::ClaimRefused(body) => body.name_to(&mut all),
        Event::ClaimReleased(body) => body.name_to(&mut all),
        Event::StatusWritten(body) => body.name_to(&mut all),
        Event::StatusWithdrawn(body) => body.name_to(&mut all),
        Event::PodMarked(body) => body.name_to(&mut all),
        Event::EntryCreated(body) => body.name_to(&mut all),
        Event::EntryRefused(body) => body.name_to(&mut all),
        Event::EntryUnknown(body) => body.name_to(&mut all),
        Event::EntryNeverSent(body) => body.name_to(&mut all),
        Event::EntryDeleted(body) => body.name_to(&mut all),
        Event::DeleteUnknown(body) => body.name_to(&mut all),
        Event::StatusUnknown(body) => body.name_to(&mut all),
        Event::MarkUnknown(body) => body.name_to(&mut all),
        Event::CooldownEnded(body) => body.name_to(&mut all),
        Event::GraceEnded(body) => body.name_to(&mut all),
        Event::RetryDue(body) => body.name_to(&mut all),
        Event::ProbeDue(body) => body.name_to(&mut all),
        Event::RetentionEnded(body) => body.name_to(&mut all),
        Event::TableRested(body) => body.name_to(&mut all),
        Event::ContestEnded(body) => body.name_to(&mut all),
        Event::Kept(body) => body.name_to(&mut all),
    }
    all
}

/// A body that names whom and what it speaks of.
trait Names {
    fn name_to(&self, all: &mut Subjects);
}

macro_rules! names {
    ($($body:ty: |$this:ident, $all:ident| $what:expr;)*) => {
        $(impl Names for $body {
            fn name_to(&self, $all: &mut Subjects) {
                let $this = self;
                $what
            }
        })*
    };
}

names! {
    control::Configured: |_body, _all| ();
    control::PoolConfigured: |_body, _all| ();
    control::TermStarted: |_body, _all| ();
    control::Rebased: |_body, _all| ();
    control::ClusterRead: |_body, _all| ();
    control::TableOpened: |body, all| all.table(&body.table);
    control::DigestTaken: |_body, _all| ();
    control::SnapshotBegun: |_body, _all| ();
    control::SnapshotEnded: |_body, _all| ();
    seen::PodGone: |body, all| all.pod(&body.uid);
    seen::ClaimGone: |body, all| all.name(&body.namespace, &body.name);
    seen::GatewaySeen: |body, all| all.tables.extend(body.table.as_deref().map(TableId::from));
    seen::GatewayGone: |_body, _all| ();
    seen::RouteSeen: |_body, _all| ();
    seen::AddressSeen: |body, all| all.address(body.ip);
    seen::AddressMissing: |body, all| all.address(body.ip);
    seen::EntryVanished: |body, all| all.entry(&body.table, &body.entry);
    seen::TableListed: |body, all| all.table(&body.table);
    seen::TableGone: |body, all| all.table(&body.table);
    decided::Refused: |body, all| all.pod(&body.pod);
    decided::ReleaseDecided: |body, all| all.allocation(body.allocation);
    decided::StaleDecided: |body, all| all.entry(&body.table, &body.entry);
    decided::GhostDecided: |body, all| all.name(&body.namespace, &body.name);
    decided::QuotaLearned: |body, all| all.table(&body.table);
    decided::Reserved: |body, all| all.allocation(body.allocation);
    decided::Superseded: |body, all| all.allocation(body.allocation);
    decided::Halted: |body, all| all.name(&body.namespace, &body.name);
    decided::Resumed: |_body, _all| ();
    decided::Contested: |body, all| all.allocation(body.allocation);
    outcome::ClaimWritten: |body, all| all.allocation(body.allocation);
    outcome::ClaimRefused: |body, all| all.allocation(body.allocation);
    outcome::ClaimReleased: |body, all| all.allocation(body.allocation);
    outcome::StatusWritten: |body, all| all.allocation(body.allocation);
    outcome::StatusWithdrawn: |body, all| all.allocation(body.allocation);
    outcome::StatusUnknown: |body, all| all.allocation(body.allocation);
    outcome::EntryRefused: |body, all| all.creation(body.allocation, body.generation);
    outcome::EntryUnknown: |body, all| all.creation(body.allocation, body.generation);
    outcome::EntryNeverSent: |body, all| all.creation(body.allocation, body.generation);
    outcome::EntryCreated: |body, all| all.creation(body.allocation, body.generation);
    outcome::EntryDeleted: |body, all| all.entry(&body.table, &body.entry);
    outcome::DeleteUnknown: |body, all| all.entry(&body.table, &body.entry);
    outcome::MarkUnknown: |body, all| all.pod(&body.pod);
    timer::CooldownEnded: |body, all| all.external(body.eip, body.port, body.protocol);
    timer::GraceEnded: |body, all| all.pod(&body.pod);
    timer::RetryDue: |body, all| all.allocation(body.allocation);
    timer::ProbeDue: |body, all| all.table(&body.table);
    timer::RetentionEnded: |body, all| all.allocation(body.allocation);
    timer::TableRested: |body, all| all.table(&body.table);
    timer::ContestEnded: |body, all| all.allocation(body.allocation);
    seen::RoomSeen: |_body, _all| ();
}

impl Names for Kept {
    fn name_to(&self, all: &mut Subjects) {
        match self {
            Self::Frame(_) | Self::Eip(_) | Self::Rests(_) | Self::Intent(_) | Self::Work(_) => {}
            Self::Table(body) => all.table(&body.table),
            Self::Pod(body) => {
                all.pod(&body.uid);
                all.name(&body.namespace, &body.name);
            }
            Self::Allocation(body) => {
                all.pod(&body.pod);
                all.name(&body.namespace, &body.name);
                all.allocation(body.allocation);
            }
            Self::Items(body) => all.allocation(body.allocation),
            Self::Stray(body) => all.entry(&body.table, &body.entry),
            Self::Claim(body) => all.name(&body.namespace, &body.name),
        }
    }
}

impl Names for seen::PodSeen {
    fn name_to(&self, all: &mut Subjects) {
        all.pod(&self.uid);
        all.name(&self.namespace, &self.name);
    }
}

impl Names for seen::ClaimSeen {
    fn name_to(&self, all: &mut Subjects) {
        all.name(&self.namespace, &self.name);
        let Some(claim) = &self.claim else { return };
        all.pod(&claim.pod);
        all.allocation(claim.allocation);
        all.table(&claim.table);
        all.addresses.extend(claim.ip);
        all.items(claim.eip, &claim.items);
    }
}

impl Names for seen::EntrySeen {
    fn name_to(&self, all: &mut Subjects) {
        all.entry(&self.table, &self.entry);
        all.address(self.internal_ip);
        let protocol = protocol_of(self.protocol);
        all.externals.push(External { eip: self.external_ip, ports: self.external_ports, protocol });
        all.marks.extend(Mark::parse(&self.name));
    }
}

impl Names for seen::EntriesMissed {
    fn name_to(&self, all: &mut Subjects) {
        all.table(&self.table);
        all.generations.extend(self.generations.iter().copied().map(Generation::from));
    }
}

impl Names for decided::Allocated {
    fn name_to(&self, all: &mut Subjects) {
        all.pod(&self.pod);
        all.name(&self.namespace, &self.name);
        all.allocation(self.allocation);
        all.table(&self.table);
        all.address(self.ip);
        all.items(Some(self.eip), &self.items);
    }
}

impl Names for decided::Waited {
    fn name_to(&self, all: &mut Subjects) {
        all.pod(&self.pod);
        all.tables.extend(self.table.as_deref().map(TableId::from));
    }
}

impl Names for decided::RebindDecided {
    fn name_to(&self, all: &mut Subjects) {
        all.allocation(self.allocation);
        all.address(self.ip);
    }
}

impl Names for decided::Regenerated {
    fn name_to(&self, all: &mut Subjects) {
        all.allocation(self.allocation);
        all.address(self.ip);
        all.renewals(&self.items);
    }
}

impl Names for decided::ItemMoved {
    fn name_to(&self, all: &mut Subjects) {
        all.allocation(self.allocation);
        all.items(None, std::slice::from_ref(&self.item));
    }
}

impl Names for decided::ItemsChanged {
    fn name_to(&self, all: &mut Subjects) {
        all.allocation(self.allocation);
        all.items(None, &self.added);
    }
}

impl Names for decided::FixedBound {
    fn name_to(&self, all: &mut Subjects) {
        all.allocation(self.allocation);
        all.pod(&self.pod);
        all.address(self.ip);
        all.renewals(&self.items);
    }
}

impl Names for decided::FixedMoved {
    fn name_to(&self, all: &mut Subjects) {
        all.allocation(self.from);
        all.allocation(self.to);
    }
}

impl Names for outcome::PodMarked {
    fn name_to(&self, all: &mut Subjects) {
        all.pod(&self.pod);
        // The zero stamp stands for no allocation.
        if self.note.2 != (0, 0) {
            all.allocation(self.note.2);
        }
    }
}

impl Subjects {
    fn pod(&mut self, uid: &str) {
        self.pods.insert(uid.into());
    }

    fn name(&mut self, namespace: &str, name: &str) {
        self.names.insert(PodKey::new(namespace, name));
    }

    fn address(&mut self, ip: Ipv4Addr) {
        self.addresses.insert(ip);
    }

    fn table(&mut self, table: &str) {
        self.tables.insert(table.into());
    }

    fn entry(&mut self, table: &str, entry: &str) {
        self.tables.insert(table.into());
        self.entries.insert((table.into(), entry.into()));
    }

    fn allocation(&mut self, allocation: (u64, u64)) {
        self.allocations.insert(allocation.into());
    }

    fn creation(&mut self, allocation: (u64, u64), generation: (u64, u64)) {
        self.allocation(allocation);
        self.generations.insert(generation.into());
    }

    fn external(&mut self, eip: Ipv4Addr, port: u16, protocol: u8) {
        self.externals.push(External { eip, ports: (port, port), protocol: protocol_of(protocol) });
    }

    fn items(&mut self, eip: Option<Ipv4Addr>, items: &[decided::Item]) {
        for item in items {
            self.generations.insert(item.generation.into());
            if let Some(eip) = eip {
                self.external(eip, item.external, item.protocol);
            }
        }
    }

    fn renewals(&mut self, items: &[(u16, u8, (u64, u64))]) {
        self.generations.extend(items.iter().map(|(_, _, generation)| Generation::from(*generation)));
    }
}
