//! The entries of all forward tables, with the indices that keep every question about one entry, one tuple or one page
//! away from the size of the table.
//!
//! Invariant: within one index no two spans of one address and protocol overlap, because nothing is inserted that
//! [`Forwarding::clash`] has not found free. Saved as the plain list of entries; the indices are rebuilt.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::Ipv4Addr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::ports::{IpProtocol, Ports};
use super::request::{EntryFilter, NewEntry, PageSpec};
use crate::machine::identity::{EntryId, Protocol, TableId};

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// ForwardEntryId.
    pub id: EntryId,
    /// What it maps.
    pub spec: NewEntry,
    /// The ClientToken of its creation.
    pub token: Option<String>,
    /// Status.
    pub status: EntryStatus,
    /// When it was created, in model time.
    pub created_ms: u64,
    /// When it becomes, or became, `Available`.
    pub available_ms: u64,
    /// Since when it is being deleted.
    pub deleting_ms: Option<u64>,
}

/// Life cycle of an entry (aliyun-api.md §2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EntryStatus {
    /// Being configured.
    Pending,
    /// In effect.
    Available,
    /// Being deleted.
    Deleting,
}

impl EntryStatus {
    /// As the cloud spells it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Available => "Available",
            Self::Deleting => "Deleting",
        }
    }
}

/// Which rule of uniqueness a new entry would break, and whose entry is in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Clash {
    External(u64),
    Internal(u64),
}

/// Creation order of an entry: the order of listings.
pub(super) type Seq = u64;

#[derive(Clone, Debug, Default)]
pub(super) struct Forwarding {
    entries: BTreeMap<Seq, Entry>,
    next: Seq,
    ids: BTreeMap<EntryId, Seq>,
    tables: BTreeMap<TableId, Table>,
    external: Spans,
    internal: Spans,
    /// Entries that are gone, for views of the past, in the order in which they went.
    gone: VecDeque<(u64, Seq, Entry)>,
}

/// What a view of the past shows of a table.
#[derive(Clone, Debug, Default)]
pub(super) struct Past {
    /// The entries, in the order of their creation.
    pub(super) shown: Vec<Entry>,
    /// How many are there now and not shown.
    pub(super) omitted: usize,
    /// How many are shown and no longer there.
    pub(super) gone_shown: usize,
}

#[derive(Clone, Debug, Default)]
struct Table {
    order: Vec<Seq>,
    pending: BTreeSet<Seq>,
}

impl Forwarding {
    pub(super) fn entries(&self, table: &TableId) -> impl Iterator<Item = &Entry> {
        let order = self.tables.get(table).map_or(&[][..], |table| &table.order);
        order.iter().filter_map(|seq| self.entries.get(seq))
    }

    /// The entries of all tables.
    pub(super) fn all(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// The Pending entries that become `Available` only after that moment.
    pub(super) fn pending_beyond(&self, at_ms: u64) -> impl Iterator<Item = &Entry> {
        let pending = self.tables.values().flat_map(|table| &table.pending);
        pending.filter_map(|seq| self.entries.get(seq)).filter(move |entry| entry.available_ms > at_ms)
    }

    pub(super) fn get(&self, seq: Seq) -> Option<&Entry> {
        self.entries.get(&seq)
    }

    pub(super) fn find(&self, id: &EntryId) -> Option<(Seq, &Entry)> {
        let seq = self.ids.get(id)?;
        Some((*seq, self.entries.get(seq)?))
    }

    /// How many entries a table holds, those being deleted included.
    pub(super) fn len(&self, table: &TableId) -> usize {
        self.tables.get(table).map_or(0, |table| table.order.len())
    }

    pub(super) fn any_pending(&self, table: &TableId) -> bool {
        self.tables.get(table).is_some_and(|table| !table.pending.is_empty())
    }

    pub(super) fn uses(&self, external_ip: Ipv4Addr) -> bool {
        self.external.first_of(external_ip).is_some()
    }

    /// The entry that a new one would collide with. `but` is left out: the entry that is being changed.
    pub(super) fn clash(&self, spec: &NewEntry, but: Option<Seq>) -> Option<Clash> {
        let other = |seq: &Seq| Some(*seq) != but;
        let external = self.external.overlap(spec.external_ip, spec.protocol, spec.external_port).find(other);
        let internal = || self.internal.overlap(spec.internal_ip, spec.protocol, spec.internal_port).find(other);
        external.map(Clash::External).or_else(|| internal().map(Clash::Internal))
    }

    pub(super) fn insert(&mut self, entry: Entry) -> Seq {
        let seq = self.next;
        self.next = self.next.saturating_add(1);
        self.put(seq, entry);
        seq
    }

    pub(super) fn set_status(&mut self, seq: Seq, status: EntryStatus, now_ms: u64) {
        let Some(entry) = self.entries.get_mut(&seq) else { return };
        entry.status = status;
        match status {
            EntryStatus::Pending => {}
            EntryStatus::Available => entry.available_ms = now_ms,
            EntryStatus::Deleting => entry.deleting_ms = Some(now_ms),
        }
        if let Some(table) = self.tables.get_mut(&entry.spec.table) {
            if status == EntryStatus::Pending {
                table.pending.insert(seq)
            } else {
                table.pending.remove(&seq)
            };
        }
    }

    /// Changes what an entry maps, in place. The table stays.
    pub(super) fn change(&mut self, seq: Seq, spec: NewEntry) {
        let Some(mut entry) = self.take(seq) else { return };
        entry.spec = NewEntry { table: entry.spec.table, ..spec };
        self.put(seq, entry);
    }

    /// Takes an entry out for good. `keep_ms` is how far back views of the past may reach.
    pub(super) fn remove(&mut self, seq: Seq, now_ms: u64, keep_ms: u64) -> Option<Entry> {
        let entry = self.take(seq)?;
        while self.gone.front().is_some_and(|(at, _, _)| at.saturating_add(keep_ms) < now_ms) {
            self.gone.pop_front();
        }
        if keep_ms > 0 {
            self.gone.push_back((now_ms, seq, entry.clone()));
        }
        Some(entry)
    }

    /// One page of a table as it is now, and TotalCount. `from` is how many items come before it. Without filters it costs
    /// the page, not the table.
    pub(super) fn page(&self, table: &TableId, filter: &EntryFilter, from: usize, size: usize) -> (Vec<Entry>, usize) {
        if let Some(id) = &filter.id {
            let found = self.find(id).map(|(_, entry)| entry);
            let found = found.filter(|entry| entry.spec.table == *table && filter.passes(entry));
            return cut(found.into_iter().cloned(), from, size);
        }
        if filter.is_empty() {
            let order = self.tables.get(table).map_or(&[][..], |table| &table.order);
            let seqs = order.iter().skip(from).take(size);
            return (seqs.filter_map(|seq| self.entries.get(seq)).cloned().collect(), order.len());
        }
        cut(self.entries(table).filter(|entry| filter.passes(entry)).cloned(), from, size)
    }

    /// A table as views of the past show it: each entry as it was when `moment` of its creation order says.
    pub(super) fn past(&self, table: &TableId, filter: &EntryFilter, moment: impl Fn(Seq) -> u64) -> Past {
        let there = self.entries(table).filter_map(|entry| Some((*self.ids.get(&entry.id)?, entry, u64::MAX)));
        let gone = self.gone.iter().filter(|(_, _, entry)| entry.spec.table == *table);
        let gone = gone.map(|(removed_ms, seq, entry)| (*seq, entry, *removed_ms));
        let all: BTreeMap<Seq, (&Entry, u64)> =
            there.chain(gone).map(|(seq, entry, removed_ms)| (seq, (entry, removed_ms))).collect();
        let mut past = Past::default();
        for (seq, (entry, removed_ms)) in all {
            let at_ms = moment(seq);
            let shown = Entry { status: entry.status_at(at_ms), ..entry.clone() };
            if !filter.passes(&shown) {
                continue;
            }
            match (entry.created_ms <= at_ms && at_ms < removed_ms, removed_ms == u64::MAX) {
                (true, there) => {
                    past.gone_shown = past.gone_shown.saturating_add(usize::from(!there));
                    past.shown.push(shown);
                }
                (false, true) => past.omitted = past.omitted.saturating_add(1),
                (false, false) => {}
            }
        }
        past
    }

    fn put(&mut self, seq: Seq, entry: Entry) {
        self.ids.insert(entry.id.clone(), seq);
        let table = self.tables.entry(entry.spec.table.clone()).or_default();
        if let Err(place) = table.order.binary_search(&seq) {
            table.order.insert(place, seq);
        }
        if entry.status == EntryStatus::Pending {
            table.pending.insert(seq);
        }
        let spec = &entry.spec;
        self.external.insert(spec.external_ip, spec.protocol, spec.external_port, seq);
        self.internal.insert(spec.internal_ip, spec.protocol, spec.internal_port, seq);
        self.entries.insert(seq, entry);
    }

    fn take(&mut self, seq: Seq) -> Option<Entry> {
        let entry = self.entries.remove(&seq)?;
        self.ids.remove(&entry.id);
        if let Some(table) = self.tables.get_mut(&entry.spec.table) {
            if let Ok(place) = table.order.binary_search(&seq) {
                table.order.remove(place);
            }
            table.pending.remove(&seq);
        }
        let spec = &entry.spec;
        self.external.remove(spec.external_ip, spec.protocol, spec.external_port);
        self.internal.remove(spec.internal_ip, spec.protocol, spec.internal_port);
        Some(entry)
    }
}

impl Entry {
    fn status_at(&self, at_ms: u64) -> EntryStatus {
        match self.deleting_ms {
            Some(since) if since <= at_ms => EntryStatus::Deleting,
            Some(_) | None if self.available_ms <= at_ms => EntryStatus::Available,
            Some(_) | None => EntryStatus::Pending,
        }
    }
}

/// The place of a page in its listing: how many items come before it, and its size.
pub(super) fn bounds(page: PageSpec) -> (usize, usize) {
    let size = usize::try_from(page.size).unwrap_or(usize::MAX);
    let before = usize::try_from(page.number.saturating_sub(1)).unwrap_or(usize::MAX);
    (before.saturating_mul(size), size)
}

/// Cuts a page out of a listing, and counts the listing.
pub(super) fn cut<T>(listing: impl Iterator<Item = T>, from: usize, size: usize) -> (Vec<T>, usize) {
    let mut items = Vec::new();
    let mut total: usize = 0;
    for item in listing {
        if total >= from && items.len() < size {
            items.push(item);
        }
        total = total.saturating_add(1);
    }
    (items, total)
}

/// Who has which ports of which address. The key is the first port of a span; the value its last port and its owner.
#[derive(Clone, Debug, Default)]
struct Spans(BTreeMap<(Ipv4Addr, Protocol, u16), (u16, Seq)>);

impl Spans {
    fn overlap(&self, ip: Ipv4Addr, protocol: IpProtocol, ports: Ports) -> impl Iterator<Item = Seq> {
        let (first, last) = ports.ends();
        let overlapping = move |protocol| {
            // Spans do not overlap each other: if the last one that begins in time ends too early, all do.
            let before = self.0.range((ip, protocol, 0)..=(ip, protocol, last)).rev();
            before.take_while(move |(_, (end, _))| *end >= first).map(|(_, (_, seq))| *seq)
        };
        protocols(protocol).flat_map(overlapping)
    }

    fn insert(&mut self, ip: Ipv4Addr, protocol: IpProtocol, ports: Ports, seq: Seq) {
        let (first, last) = ports.ends();
        for protocol in protocols(protocol) {
            self.0.insert((ip, protocol, first), (last, seq));
        }
    }

    fn remove(&mut self, ip: Ipv4Addr, protocol: IpProtocol, ports: Ports) {
        for protocol in protocols(protocol) {
            self.0.remove(&(ip, protocol, ports.ends().0));
        }
    }

    fn first_of(&self, ip: Ipv4Addr) -> Option<Seq> {
        self.0.range((ip, Protocol::Tcp, 0)..=(ip, Protocol::Udp, u16::MAX)).next().map(|(_, (_, seq))| *seq)
    }
}

fn protocols(protocol: IpProtocol) -> impl Iterator<Item = Protocol> {
    Protocol::ALL.into_iter().filter(move |one| protocol.one().is_none_or(|only| only == *one))
}

impl Serialize for Forwarding {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.next, &self.entries).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Forwarding {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (next, entries) = <(Seq, BTreeMap<Seq, Entry>)>::deserialize(deserializer)?;
        let mut forwarding = Self { next, ..Self::default() };
        for (seq, entry) in entries {
            forwarding.put(seq, entry);
        }
        Ok(forwarding)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: &str, external: Ports, internal: Ports, protocol: IpProtocol) -> Entry {
        Entry {
            id: id.into(),
            spec: NewEntry {
                table: "t".into(),
                name: String::new(),
                external_ip: Ipv4Addr::new(203, 0, 113, 1),
                external_port: external,
                internal_ip: Ipv4Addr::new(172, 16, 0, 9),
                internal_port: internal,
                protocol,
                port_break: false,
            },
            token: None,
            status: EntryStatus::Available,
            created_ms: 0,
            available_ms: 0,
            deleting_ms: None,
        }
    }

    #[test]
    fn a_clash_is_found_exactly_where_ports_overlap() {
        let mut forwarding = Forwarding::default();
        let range = forwarding.insert(entry("r", Ports::Range(10, 20), Ports::Range(110, 120), IpProtocol::Tcp));
        let one = forwarding.insert(entry("o", Ports::One(30), Ports::One(130), IpProtocol::Tcp));
        let clash =
            |external, internal, protocol| forwarding.clash(&entry("n", external, internal, protocol).spec, None);
        let (tcp, udp) = (IpProtocol::Tcp, IpProtocol::Udp);
        for (external, expected) in [
            (Ports::One(9), None),
            (Ports::One(10), Some(range)),
            (Ports::One(20), Some(range)),
            (Ports::One(21), None),
            (Ports::Range(15, 25), Some(range)),
            (Ports::Range(21, 29), None),
            (Ports::Range(21, 30), Some(one)),
            (Ports::Range(5, 9), None),
        ] {
            assert_eq!(clash(external, Ports::One(1), tcp), expected.map(Clash::External), "{external}");
            assert_eq!(clash(external, Ports::One(1), udp), None, "{external}/udp");
        }
        assert_eq!(clash(Ports::One(1), Ports::One(115), tcp), Some(Clash::Internal(range)));
        assert!(matches!(clash(Ports::Any, Ports::Any, IpProtocol::Any), Some(Clash::External(_))));
    }

    #[test]
    fn an_any_entry_takes_the_whole_address() {
        let mut forwarding = Forwarding::default();
        let any = forwarding.insert(entry("a", Ports::Any, Ports::Any, IpProtocol::Any));
        let new = entry("n", Ports::One(7), Ports::One(8), IpProtocol::Udp).spec;
        assert_eq!(forwarding.clash(&new, None), Some(Clash::External(any)));
        assert_eq!(forwarding.clash(&new, Some(any)), None);
        assert!(forwarding.remove(any, 0, 0).is_some());
        assert_eq!(forwarding.clash(&new, None), None);
    }

    #[test]
    fn a_saved_table_comes_back_with_its_indices_and_its_order() {
        let mut forwarding = Forwarding::default();
        for port in 1..=40_u16 {
            forwarding.insert(entry(&format!("e{port}"), Ports::One(port), Ports::One(port), IpProtocol::Tcp));
        }
        assert!(forwarding.remove(3, 0, 0).is_some());
        let saved = serde_json::to_string(&forwarding).unwrap();
        let loaded: Forwarding = serde_json::from_str(&saved).unwrap();
        let filter = EntryFilter::default();
        assert_eq!(loaded.page(&"t".into(), &filter, 10, 10), forwarding.page(&"t".into(), &filter, 10, 10));
        assert_eq!(loaded.len(&"t".into()), 39);
        let taken = entry("n", Ports::One(40), Ports::One(99), IpProtocol::Tcp).spec;
        assert!(loaded.clash(&taken, None).is_some());
        assert_eq!(loaded.next, forwarding.next);
    }
}
