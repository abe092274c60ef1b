//! Listings to differences: what a complete listing says that the state does not know.

use std::collections::{BTreeMap, BTreeSet};

use crate::machine::event::{Event, seen};
use crate::machine::identity::{AllocationId, EntryId, Generation, Mark, PodUid, TableId, Tuple};
use crate::machine::state::{Listed, State};
use crate::ports::cloud::{EntryStatus, ListedEip, ListedEntry, ListedGateway, PortSpec};
use crate::ports::effect::ListRequest;

/// Generations in one record: 100 of at most 18 bytes stay well below a record's limit.
const MISSED_PER_RECORD: usize = 100;

/// A listing that misses more than one in this many of the entries that were known changes nothing until confirmed
/// (design.md §5).
const MASS_LOSS_DIVISOR: usize = 10;

/// When a listing began: the last event folded, and machine time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Began {
    /// The last event folded.
    pub seq: u64,
    /// Machine time.
    pub machine_ms: u64,
}

/// What a listing of the cluster says.
#[must_use]
pub fn cluster(
    state: &State,
    pods: &[seen::PodSeen],
    claims: &[seen::ClaimSeen],
    began: Began,
    gone_meanwhile: &BTreeSet<String>,
) -> Vec<Event> {
    let mut events = Vec::new();
    let present: BTreeSet<PodUid> = pods.iter().map(|pod| PodUid::from(pod.uid.as_str())).collect();
    let gone = state.pods_known(began.seq).filter(|uid| !present.contains(*uid));
    events.extend(gone.map(|uid| Event::PodGone(seen::PodGone { uid: uid.as_str().to_owned() })));
    // Claims first: a pod that has one is known by it.
    let named: BTreeSet<(&str, &str)> =
        claims.iter().map(|claim| (claim.namespace.as_str(), claim.name.as_str())).collect();
    let there: BTreeSet<&str> = claims.iter().map(|claim| claim.uid.as_str()).collect();
    for (key, uid) in state.claims_known(began.seq) {
        if !there.contains(uid) {
            let (namespace, name) = (key.namespace().to_owned(), key.name().to_owned());
            let uid = uid.to_owned();
            events.push(Event::ClaimGone(seen::ClaimGone { namespace, name, uid }));
        }
    }
    let new = |claim: &seen::ClaimSeen| !state.knows_claim(claim) && !gone_meanwhile.contains(&claim.uid);
    let bounded = claims.iter().cloned().map(seen::ClaimSeen::bounded);
    events.extend(bounded.filter(new).map(Event::ClaimSeen));
    let claimed = |pod: &seen::PodSeen| named.contains(&(pod.namespace.as_str(), pod.name.as_str()));
    // What the watch showed since the listing began is newer than what it says.
    let current = |pod: &seen::PodSeen| {
        !gone_meanwhile.contains(&pod.uid)
            && state.pod(&pod.uid.as_str().into()).is_none_or(|pod| pod.seen_at() <= began.seq)
    };
    let news = |pod: &&seen::PodSeen| (state.concerns(pod) || claimed(pod)) && !state.knows_pod(pod) && current(pod);
    // Whoever was created first asked first (design.md §6, order of waiting).
    let mut asking: Vec<&seen::PodSeen> = pods.iter().filter(news).collect();
    asking.sort_by_key(|pod| (pod.created_wall_ms, pod.uid.as_str()));
    events.extend(asking.into_iter().cloned().map(Event::PodSeen));
    events
}

/// The UID of what a listing shows to have gone.
#[must_use]
pub fn gone(event: &Event) -> Option<&str> {
    match event {
        Event::PodGone(body) => Some(&body.uid),
        Event::ClaimGone(body) => Some(&body.uid),
        _ => None,
    }
}

/// What the gateways of the VPC and the EIPs of those that are configured say, as they were at that machine time.
#[must_use]
pub fn gateways(
    state: &State,
    now_ms: u64,
    gateways: &[ListedGateway],
    eips: &[(crate::machine::identity::GatewayId, Vec<ListedEip>)],
) -> Vec<Event> {
    let mut events = Vec::new();
    for (id, bound) in eips {
        let Some(gateway) = gateways.iter().find(|gateway| gateway.id == *id) else { continue };
        let seen = seen::GatewaySeen {
            gateway: id.as_str().to_owned(),
            table: gateway.table.as_ref().map(|table| table.as_str().to_owned()),
            zone: gateway.zone.as_ref().map(|zone| zone.as_str().to_owned()),
            available: gateway.available,
            eips: bound.iter().map(|eip| (eip.address, eip.usable, gateway.snat.contains(&eip.address))).collect(),
        };
        if !state.knows_gateway(&seen, now_ms) {
            events.push(Event::GatewaySeen(seen));
        }
    }
    let known: BTreeSet<_> = state.gateways_known().into_iter().chain(state.gateways_suspected(now_ms)).collect();
    for id in known {
        if !gateways.iter().any(|gateway| gateway.id == id) {
            events.push(Event::GatewayGone(seen::GatewayGone { gateway: id.as_str().to_owned() }));
        }
    }
    events
}

/// What the default routes say: the NAT gateways to which each vSwitch's leads.
#[must_use]
pub fn routes(
    state: &State,
    routes: &[(crate::machine::identity::VSwitchId, Vec<crate::machine::identity::GatewayId>)],
) -> Vec<Event> {
    let mut events = Vec::new();
    for (vswitch, hops) in routes {
        if state.route(vswitch) != Some(hops) {
            let (vswitch, gateways) =
                (vswitch.as_str().to_owned(), hops.iter().map(|id| id.as_str().to_owned()).collect());
            events.push(Event::RouteSeen(seen::RouteSeen { vswitch, gateways }));
        }
    }
    events
}

/// Addresses for which the request was made and what the interfaces say of each.
#[must_use]
pub fn interfaces(request: &ListRequest, interfaces: &[crate::ports::cloud::ListedInterface]) -> Vec<Event> {
    let ListRequest::Interfaces(addresses) = request else { return Vec::new() };
    let by_address: BTreeMap<_, _> =
        interfaces.iter().flat_map(|interface| interface.addresses.iter().map(move |ip| (*ip, interface))).collect();
    let said = |ip: &std::net::Ipv4Addr| match by_address.get(ip) {
        Some(interface) => Event::AddressSeen(seen::AddressSeen {
            ip: *ip,
            eni: interface.eni.as_str().to_owned(),
            vswitch: interface.vswitch.as_str().to_owned(),
            zone: interface.zone.as_str().to_owned(),
        }),
        None => Event::AddressMissing(seen::AddressMissing { ip: *ip }),
    };
    addresses.iter().map(said).collect()
}

/// What remains of a table's earlier listings: entries whose loss waits for confirmation.
#[derive(Clone, Debug, Default)]
pub struct Suspicion(BTreeSet<EntryId>);

/// What a complete listing of a table says, and whether it may be believed: one that misses much is confirmed first. `written` tells whether a call about a creation or an entry was under way
/// at any time since the listing began: of those it says nothing.
#[must_use]
pub fn table(
    state: &State,
    id: &TableId,
    entries: &[ListedEntry],
    began: Began,
    suspicion: &mut Suspicion,
    in_flight: &impl Fn(Generation, Option<&EntryId>) -> bool,
) -> (Vec<Event>, bool) {
    let mut events = Vec::new();
    let mut sorted: Vec<&ListedEntry> = entries.iter().collect();
    sorted.sort_unstable_by(|one, other| one.id.cmp(&other.id));
    let find = |entry: &EntryId| sorted.binary_search_by(|listed| listed.id.cmp(entry)).ok();
    let (mut known, mut missing, mut said) = (0_usize, Vec::new(), vec![false; sorted.len()]);
    for (entry, listed) in state.listed(id) {
        known = known.saturating_add(1);
        match find(entry).and_then(|at| Some((sorted.get(at)?, said.get_mut(at)?))) {
            Some((shown, said)) => *said = same(state, id, listed, shown),
            None => missing.push(entry.clone()),
        }
    }
    let news = sorted.iter().zip(said).filter(|(_, said)| !said);
    events.extend(news.map(|(entry, _)| Event::EntrySeen(observation(id, entry))));
    // What we deleted ourselves is expected to be missing.
    let lost: BTreeSet<EntryId> = missing.iter().filter(|entry| !state.is_going(id, entry)).cloned().collect();
    if lost.len().saturating_mul(MASS_LOSS_DIVISOR) > known && lost.len() > 1 {
        let confirmed = lost.is_subset(&suspicion.0);
        suspicion.0 = lost;
        if !confirmed && known >= MASS_LOSS_DIVISOR {
            return (events, false);
        }
    } else {
        suspicion.0.clear();
    }
    let strays = missing.iter().filter(|entry| state.is_stray(id, entry));
    events.extend(strays.map(|entry| {
        let (table, entry) = (id.as_str().to_owned(), entry.as_str().to_owned());
        Event::EntryVanished(seen::EntryVanished { table, entry })
    }));
    // An item whose entry the listing shows under its mark, or as adopted, is not missed, whatever the state knew before.
    let marked = |entry: &ListedEntry| Some((entry.tuple()?, owner_of(state, id, entry)?));
    let mut shown: Vec<(Tuple, AllocationId)> = entries.iter().filter_map(marked).collect();
    shown.sort_unstable();
    let missed: Vec<(u64, u64)> = state
        .absence_matters(id, &missing, began.seq, began.machine_ms)
        .into_iter()
        .filter(|(generation, entry)| !in_flight(*generation, entry.as_ref()))
        .filter(|(generation, entry)| match entry {
            Some(entry) => missing.binary_search(entry).is_ok(),
            None => {
                let item = state.tuple_of(*generation).zip(state.allocation_of(*generation));
                item.is_none_or(|item| shown.binary_search(&item).is_err())
            }
        })
        .map(|(generation, _)| generation.into())
        .collect();
    for generations in missed.chunks(MISSED_PER_RECORD) {
        let (table, generations) = (id.as_str().to_owned(), generations.to_vec());
        events.push(Event::EntriesMissed(seen::EntriesMissed { table, began_ms: began.machine_ms, generations }));
    }
    (events, true)
}

/// What a listing of a table says whose pages moved meanwhile: what it shows is there. Of what it does not show it says
/// nothing.
#[must_use]
pub fn glimpse(state: &State, id: &TableId, entries: &[ListedEntry]) -> Vec<Event> {
    let mut shown: BTreeMap<&EntryId, &ListedEntry> = entries.iter().map(|entry| (&entry.id, entry)).collect();
    for (entry, listed) in state.listed(id) {
        if shown.get(entry).is_some_and(|shown| same(state, id, listed, shown)) {
            shown.remove(entry);
        }
    }
    shown.into_values().map(|entry| Event::EntrySeen(observation(id, entry))).collect()
}

/// The allocation that an entry names: by its mark, or where it has none because it was adopted.
fn owner_of(state: &State, table: &TableId, entry: &ListedEntry) -> Option<AllocationId> {
    match Mark::parse(&entry.name) {
        Some(mark) => Some(mark.allocation),
        None => state.adopter_of(table, &entry.id),
    }
}

fn same(state: &State, table: &TableId, known: &Listed, entry: &ListedEntry) -> bool {
    match known {
        // Who renames an entry takes it over: without our mark it is no longer ours.
        Listed::Ours(generation) => owner_of(state, table, entry)
            .is_some_and(|owner| state.shows(owner, *generation, entry.tuple(), status(entry.status))),
        Listed::Stray(stray) => {
            let seen = observation(&TableId::from(""), entry);
            stray.says_the_same(&seen)
        }
    }
}

fn observation(table: &TableId, entry: &ListedEntry) -> seen::EntrySeen {
    seen::EntrySeen {
        table: table.as_str().to_owned(),
        entry: entry.id.as_str().to_owned(),
        name: entry.name.clone(),
        external_ip: entry.external_ip,
        external_ports: ends(entry.external_port),
        internal_ip: entry.internal_ip,
        internal_ports: ends(entry.internal_port),
        protocol: entry.protocol.map_or(0, crate::machine::identity::Protocol::number),
        status: status(entry.status),
    }
}

const fn ends(port: PortSpec) -> (u16, u16) {
    match port {
        PortSpec::One(port) => (port, port),
        PortSpec::Range(first, last) => (first, last),
        PortSpec::Any => (0, 0),
    }
}

const fn status(status: EntryStatus) -> u8 {
    match status {
        EntryStatus::Pending => 0,
        EntryStatus::Available => 1,
        EntryStatus::Deleting => 2,
        EntryStatus::Other => 3,
    }
}
