//! What belongs to a pod, found in one pass over the records, and followed in a second.
//!
//! Identities (UIDs, allocations, creations) are gathered first: an entry may be listed before the record that says
//! whose it is. What is held for a time only (addresses, external ports, entries, places in a queue) is followed in
//! order, because others hold it at other times.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use natgw::machine::event::words::{External, Subjects, subjects};
use natgw::machine::event::{Event, Record, decided};
use natgw::machine::identity::{AllocationId, EntryId, Generation, PodKey, PodUid, TableId, protocol_of};

/// What belongs to the pods of one name.
#[derive(Debug)]
pub(super) struct Trail {
    key: PodKey,
    /// With their order of appearance, from 1.
    uids: BTreeMap<PodUid, usize>,
    allocations: BTreeMap<AllocationId, PodUid>,
    generations: BTreeMap<Generation, AllocationId>,
    present: BTreeMap<PodUid, Option<Ipv4Addr>>,
    waiting: BTreeMap<PodUid, TableId>,
    holdings: BTreeMap<AllocationId, Holding>,
    entries: BTreeMap<(TableId, EntryId), PodUid>,
}

/// What an allocation holds.
#[derive(Debug)]
struct Holding {
    table: TableId,
    eip: Ipv4Addr,
    ip: Ipv4Addr,
    /// Held, or resting since they were given back.
    externals: Vec<External>,
    /// Something of it is not yet as it was decided.
    unsettled: bool,
    over: bool,
}

/// Which pods of the name a record touched; none where it speaks of the name only, or of all.
#[derive(Debug)]
pub(super) struct Whose {
    pub(super) pods: BTreeSet<PodUid>,
}

impl Trail {
    /// Finds the UIDs, allocations and creations of the pods of that name.
    pub(super) fn gather(key: &PodKey, records: impl Iterator<Item = Record>) -> Self {
        let mut trail = Self {
            key: key.clone(),
            uids: BTreeMap::new(),
            allocations: BTreeMap::new(),
            generations: BTreeMap::new(),
            present: BTreeMap::new(),
            waiting: BTreeMap::new(),
            holdings: BTreeMap::new(),
            entries: BTreeMap::new(),
        };
        for record in records {
            trail.identify(&record.event);
        }
        trail
    }

    /// The UIDs of the pods of the name with their order of appearance, from 1; in that order.
    pub(super) fn uids(&self) -> Vec<(usize, &PodUid)> {
        let mut uids: Vec<_> = self.uids.iter().map(|(uid, ordinal)| (*ordinal, uid)).collect();
        uids.sort_unstable();
        uids
    }

    /// How many pods had the name.
    pub(super) fn pods(&self) -> usize {
        self.uids.len()
    }

    /// The place of a pod in order of appearance.
    pub(super) fn ordinal(&self, uid: &PodUid) -> Option<usize> {
        self.uids.get(uid).copied()
    }

    /// Whether the record touched the pod. Records are to be given in order, each once.
    pub(super) fn follow(&mut self, record: &Record) -> Option<Whose> {
        let named = subjects(&record.event);
        let mut pods = self.by_identity(&named);
        pods.extend(self.by_holding(&record.event, &named));
        pods.extend(self.by_table(&record.event, &named));
        let frame = matches!(record.event, Event::TermStarted(_) | Event::Rebased(_)) && self.is_about();
        let touched = frame || !pods.is_empty() || named.names.contains(&self.key);
        if touched {
            self.hold(&record.event, &named, &pods);
        } else if matches!(record.event, Event::Allocated(_) | Event::Recovered(_) | Event::Adopted(_)) {
            self.yield_to(&named);
        }
        touched.then_some(Whose { pods })
    }

    /// Claims are not asked: anybody can write another pod's UID into one.
    fn identify(&mut self, event: &Event) {
        match event {
            Event::PodSeen(body) if self.is_named(&body.namespace, &body.name) => self.add_uid(&body.uid),
            Event::Allocated(body) | Event::Recovered(body) | Event::Adopted(body)
                if self.is_named(&body.namespace, &body.name) =>
            {
                self.add_uid(&body.pod);
                self.allocations.insert(body.allocation.into(), body.pod.as_str().into());
            }
            Event::FixedBound(body) if self.allocations.contains_key(&body.allocation.into()) => {
                self.add_uid(&body.pod);
            }
            Event::FixedMoved(body) => {
                if let Some(uid) = self.allocations.get(&body.from.into()).cloned() {
                    self.allocations.insert(body.to.into(), uid);
                }
            }
            _ => {}
        }
        if matches!(event, Event::ClaimSeen(_)) {
            return;
        }
        let named = subjects(event);
        let ours = named.allocations.iter().find(|id| self.allocations.contains_key(id));
        if let Some(id) = ours {
            self.generations.extend(named.generations.iter().map(|generation| (*generation, *id)));
        }
    }

    fn is_named(&self, namespace: &str, name: &str) -> bool {
        *self.key.namespace() == *namespace && *self.key.name() == *name
    }

    fn add_uid(&mut self, uid: &str) {
        let ordinal = self.uids.len().saturating_add(1);
        self.uids.entry(uid.into()).or_insert(ordinal);
    }

    /// There is a pod of the name, or something is held for one.
    fn is_about(&self) -> bool {
        !self.present.is_empty() || self.holdings.values().any(|holding| !holding.over)
    }

    fn by_identity(&self, named: &Subjects) -> BTreeSet<PodUid> {
        let uids = named.pods.iter().filter(|uid| self.uids.contains_key(*uid));
        let generations = named.generations.iter().filter_map(|generation| self.generations.get(generation));
        let allocations = named.allocations.iter().chain(generations).filter_map(|id| self.allocations.get(id));
        let entries = named.entries.iter().filter_map(|entry| self.entries.get(entry));
        // Another cluster's mark may carry the same numbers: only the UID tells.
        let marked = named.marks.iter().flat_map(|mark| {
            let of_allocation = self.allocations.get(&mark.allocation);
            of_allocation.into_iter().chain(self.present.keys()).filter(|uid| mark.is_for(uid))
        });
        uids.chain(allocations).chain(entries).chain(marked).cloned().collect()
    }

    /// By what is held at the time: an address or an external port.
    fn by_holding(&self, event: &Event, named: &Subjects) -> BTreeSet<PodUid> {
        if !matches!(
            event,
            Event::AddressSeen(_) | Event::AddressMissing(_) | Event::EntrySeen(_) | Event::CooldownEnded(_)
        ) {
            return BTreeSet::new();
        }
        let present = self.present.iter().filter(|(_, ip)| ip.is_some_and(|ip| named.addresses.contains(&ip)));
        let holding = self.holdings.iter().filter(|(_, holding)| {
            let external = |one: &External| named.externals.iter().any(|other| one.overlaps(other));
            let at_address = !holding.over && named.addresses.contains(&holding.ip);
            at_address || holding.externals.iter().any(external)
        });
        let holders = holding.filter_map(|(id, _)| self.allocations.get(id));
        present.map(|(uid, _)| uid).chain(holders).cloned().collect()
    }

    /// By a forward table in which something of the pod waits to be known or done.
    fn by_table(&self, event: &Event, named: &Subjects) -> BTreeSet<PodUid> {
        let always = matches!(event, Event::TableOpened(_) | Event::TableGone(_));
        let unsettled = matches!(event, Event::TableListed(_) | Event::QuotaLearned(_) | Event::ProbeDue(_));
        if !always && !unsettled {
            return BTreeSet::new();
        }
        let waiting = self.waiting.iter().filter(|(_, table)| named.tables.contains(*table)).map(|(uid, _)| uid);
        let holding = self.holdings.iter().filter(|(_, holding)| {
            !holding.over && (always || holding.unsettled) && named.tables.contains(&holding.table)
        });
        waiting.chain(holding.filter_map(|(id, _)| self.allocations.get(id))).cloned().collect()
    }

    /// Takes down what the pod holds after a record that touched it.
    fn hold(&mut self, event: &Event, named: &Subjects, pods: &BTreeSet<PodUid>) {
        match event {
            Event::PodSeen(body) => {
                self.present.insert(body.uid.as_str().into(), body.ip);
            }
            Event::PodGone(body) => {
                let uid = PodUid::from(body.uid.as_str());
                self.present.remove(&uid);
                self.waiting.remove(&uid);
            }
            Event::Allocated(body) | Event::Recovered(body) | Event::Adopted(body) => self.begin(body, named),
            Event::Waited(body) => {
                let uid = PodUid::from(body.pod.as_str());
                match &body.table {
                    Some(table) => self.waiting.insert(uid, table.as_str().into()),
                    None => self.waiting.remove(&uid),
                };
            }
            Event::Refused(body) => {
                self.waiting.remove(&PodUid::from(body.pod.as_str()));
            }
            Event::EntrySeen(_) => {
                for (entry, uid) in named.entries.iter().zip(pods.first()) {
                    self.entries.insert(entry.clone(), uid.clone());
                }
            }
            Event::EntryCreated(body) => self.created(body.allocation.into(), &body.entry),
            Event::CooldownEnded(_) => {
                for holding in self.holdings.values_mut() {
                    holding.externals.retain(|one| !named.externals.contains(one));
                }
            }
            Event::Regenerated(body) => self.moved(body.allocation.into(), body.ip),
            Event::FixedBound(body) => self.moved(body.allocation.into(), body.ip),
            Event::ItemMoved(body) => self.added(body.allocation.into(), std::slice::from_ref(&body.item)),
            Event::ItemsChanged(body) => self.added(body.allocation.into(), &body.added),
            _ => {}
        }
        self.settle(event, named);
        self.forget();
    }

    fn begin(&mut self, body: &decided::Allocated, named: &Subjects) {
        self.waiting.remove(&PodUid::from(body.pod.as_str()));
        let holding = Holding {
            table: body.table.as_str().into(),
            eip: body.eip,
            ip: body.ip,
            externals: named.externals.clone(),
            unsettled: true,
            over: false,
        };
        self.holdings.insert(body.allocation.into(), holding);
    }

    fn created(&mut self, id: AllocationId, entry: &str) {
        if let (Some(holding), Some(uid)) = (self.holdings.get(&id), self.allocations.get(&id)) {
            self.entries.insert((holding.table.clone(), entry.into()), uid.clone());
        }
    }

    fn moved(&mut self, id: AllocationId, ip: Ipv4Addr) {
        if let Some(holding) = self.holdings.get_mut(&id) {
            holding.ip = ip;
        }
    }

    fn added(&mut self, id: AllocationId, items: &[decided::Item]) {
        if let Some(holding) = self.holdings.get_mut(&id) {
            let eip = holding.eip;
            holding.externals.extend(items.iter().map(|item| {
                let ports = (item.external, item.external);
                External { eip, ports, protocol: protocol_of(item.protocol) }
            }));
        }
    }

    fn settle(&mut self, event: &Event, named: &Subjects) {
        if matches!(event, Event::PodMarked(_) | Event::ClaimSeen(_)) {
            return;
        }
        let generations = named.generations.iter().filter_map(|generation| self.generations.get(generation));
        for id in named.allocations.iter().chain(generations) {
            if let Some(holding) = self.holdings.get_mut(id) {
                holding.unsettled = !matches!(event, Event::StatusWritten(_));
                holding.over |= matches!(event, Event::ClaimReleased(_));
            }
        }
        if matches!(event, Event::TermStarted(_)) {
            self.holdings.values_mut().for_each(|holding| holding.unsettled = true);
        }
    }

    /// What is over and whose ports have rested holds nothing any more.
    fn forget(&mut self) {
        self.holdings.retain(|_, holding| !holding.over || !holding.externals.is_empty());
    }

    /// A port that rested here belongs to somebody else from now on.
    fn yield_to(&mut self, named: &Subjects) {
        for holding in self.holdings.values_mut().filter(|holding| holding.over) {
            holding.externals.retain(|one| !named.externals.iter().any(|other| one.overlaps(other)));
        }
        self.forget();
    }
}
