//! What a world that has come to rest must look like. L1 and L2 are in `run.rs`: they are about the way there.
//!
//! | number | sentence |
//! | --- | --- |
//! | L1 | when faults have stopped and wishes stand, they are fulfilled in time |
//! | L2 | and then nothing is changed in ten resyncs |
//! | L5 | nothing is left unknown |
//! | L6 | a process that found its journal damaged leads again after three starts at most |
//! | L7 | when nothing is wanted, nothing is left |
//! | L8 | nobody waits for room while there is room for everybody before him |

use std::collections::{BTreeMap, BTreeSet};

use natgw::machine::demand::WaitReason;
use natgw::machine::event::seen::Claim;
use natgw::machine::identity::{AllocationId, EntryId, Mark, PodKey, TableId};
use natgw::machine::state::{Entry, Standing, State};

use crate::invariants::{Facts, tuple};
use crate::world::World;

/// Starts after which a replica must have led, or follow somebody who does, in a calm world.
const STARTS_MAX: u64 = 3;

/// Everything that a world at rest must not be.
pub fn at_rest(world: &World, facts: &Facts) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    let Some(state) = world.state() else { return vec![("L1", "nobody leads".to_owned())] };
    for (id, allocation) in state.allocations() {
        if allocation.items().iter().any(|item| matches!(item.entry(), Entry::Unknown { .. })) {
            found.push(("L5", format!("allocation {id} has an entry that nobody knows")));
        }
    }
    for (at, replica) in world.replicas.iter().enumerate() {
        if replica.fruitless > STARTS_MAX {
            found.push(("L6", format!("replica {at} has started {} times and has not led", replica.fruitless)));
        }
    }
    found.extend(tables(world, facts));
    found.extend(statuses(world));
    found.extend(tuples(world, facts, state));
    found.extend(claims(world, state));
    found.extend(pods(world));
    found
}

/// At rest an entry of ours is, in all five, what its allocation wants.
fn tuples(world: &World, facts: &Facts, state: &State) -> Vec<(&'static str, String)> {
    let vpc = world.vpc.borrow();
    let tables = vpc.world().gateways.iter().map(|gateway| &gateway.table);
    let foreign = |entry: &EntryId| facts.entries.get(entry).is_some_and(|fate| fate.foreign);
    let ours = tables.flat_map(|table| vpc.entries(table)).filter(|entry| !foreign(&entry.id));
    let odd = ours.filter(|entry| {
        let allocation = Mark::parse(&entry.spec.name).and_then(|mark| state.allocation(mark.allocation));
        let five = tuple(&entry.spec);
        !allocation.is_some_and(|known| known.items_staying().any(|item| five == Some(known.tuple(item))))
    });
    odd.map(|entry| ("L1", format!("nobody wants {entry:?}"))).collect()
}

/// At rest a claim says what its allocation has.
fn claims(world: &World, state: &State) -> Vec<(&'static str, String)> {
    let seen = world.model.borrow().list_claims();
    let odd = state.allocations().filter(|(id, allocation)| {
        let key = allocation.key();
        let named = seen.iter().find(|seen| *seen.namespace == *key.namespace() && *seen.name == *key.name());
        let claim = named.and_then(|seen| seen.claim.as_ref());
        let ports = |claim: &Claim| claim.items.iter().map(|item| item.external).collect::<BTreeSet<_>>();
        let wanted = allocation.items_staying().map(natgw::machine::state::Item::external).collect();
        !claim.is_some_and(|claim| {
            claim.allocation == (**id).into() && *claim.pod == *allocation.pod().as_str() && ports(claim) == wanted
        })
    });
    odd.map(|(id, _)| ("L1", format!("no claim says what allocation {id} has: {seen:?}"))).collect()
}

/// At rest the tables hold what is published and what others made, and nothing else.
fn tables(world: &World, facts: &Facts) -> Option<(&'static str, String)> {
    let (vpc, model) = (world.vpc.borrow(), world.model.borrow());
    let tables = vpc.world().gateways.iter().map(|gateway| &gateway.table);
    let there: BTreeSet<EntryId> = tables.flat_map(|table| vpc.entries(table).map(|entry| entry.id.clone())).collect();
    // What another controller shows is its own.
    let shown = model.poddnats().filter(|object| !crate::original::is_its(object));
    let shown = shown.flat_map(|object| &object.status.entries);
    let shown: BTreeSet<EntryId> = shown.map(|entry| entry.forward_entry_id.as_str().into()).collect();
    let foreign = |entry: &&EntryId| facts.entries.get(*entry).is_some_and(|fate| fate.foreign);
    // Where somebody else holds one port of a pod, or the table is full, the others are there and wait with it.
    let waits = |entry: &&EntryId| {
        let Some(state) = world.state() else { return false };
        let allocation = facts.mark(entry).map(|mark| mark.allocation).or_else(|| adopter(state, entry));
        allocation.is_some_and(|allocation| state.waits_for_others(allocation) || state.waits_for_room(allocation))
    };
    let adopted = |entry: &&EntryId| world.state().is_some_and(|state| adopter(state, entry).is_some());
    let is_ours = |entry: &&EntryId| (!foreign(entry) || adopted(entry)) && !waits(entry);
    let ours: BTreeSet<EntryId> = there.iter().filter(is_ours).cloned().collect();
    (ours != shown).then(|| {
        let odd: Vec<_> = ours.symmetric_difference(&shown).map(|entry| (entry, facts.entries.get(entry))).collect();
        ("L1", format!("published {shown:?}, of ours in the tables {ours:?}, odd {odd:?}"))
    })
}

/// At rest a status says of each entry what it is: somebody may have written another port into it.
fn statuses(world: &World) -> Vec<(&'static str, String)> {
    let (vpc, model) = (world.vpc.borrow(), world.model.borrow());
    let shown = model.poddnats().filter(|object| !crate::original::is_its(object));
    let shown = shown.flat_map(|object| &object.status.entries);
    let odd = shown.filter(|shown| {
        let five = vpc.entry(&shown.forward_entry_id.as_str().into()).and_then(|entry| tuple(&entry.spec));
        five.is_some_and(|five| five.external_port.to_string() != shown.external_port)
    });
    odd.map(|shown| ("L1", format!("a status says otherwise than the table: {shown:?}"))).collect()
}

/// The allocation that adopted an entry.
fn adopter(state: &State, entry: &EntryId) -> Option<AllocationId> {
    state.tables().find_map(|(table, _)| state.adopter_of(table, entry))
}

/// Each pod that is there is known, as it is; whoever is served is shown.
fn pods(world: &World) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    let (Some(state), model) = (world.state(), world.model.borrow()) else { return found };
    for pod in model.pods().filter(|pod| pod.active() && pod.holds_address) {
        let asks = pod.annotations.get("k8s.aliyun.com/pod-dnat").is_some_and(String::is_empty);
        let Some(known) = state.pod(&pod.uid.as_str().into()) else {
            if asks {
                found.push(("L1", format!("{} asks and nobody knows it", pod.key)));
            }
            continue;
        };
        let object = model.poddnats().find(|object| {
            object.metadata.name == *pod.key.name() && object.metadata.namespace == *pod.key.namespace()
        });
        match known.standing() {
            Standing::Allocated(id) if state.waits_for_room(*id) || is_mapped_by_others(world, pod.ip) => {}
            Standing::Allocated(_) if object.is_none_or(|object| object.status.entries.is_empty()) => {
                found.push(("L1", format!("{} has an allocation that is not shown", pod.key)));
            }
            Standing::Open if asks => found.push(("L1", format!("{} asks and nothing is decided", pod.key))),
            Standing::Allocated(_) | Standing::Open | Standing::Waiting { .. } | Standing::Refused(_) => {}
        }
    }
    found
}

/// Whether somebody else's entry sends to an address: then its pod waits.
fn is_mapped_by_others(world: &World, ip: Option<std::net::Ipv4Addr>) -> bool {
    let vpc = world.vpc.borrow();
    let mut entries = vpc.world().gateways.iter().flat_map(|gateway| vpc.entries(&gateway.table));
    entries.any(|entry| Some(entry.spec.internal_ip) == ip && Mark::parse(&entry.spec.name).is_none())
}

/// Pods that wait for the entry quota of a table, with the table: it is probed now and then.
pub fn waiting_for_quota(world: &World) -> BTreeMap<PodKey, TableId> {
    let Some(state) = world.state() else { return BTreeMap::new() };
    let waits = state.pods().filter_map(|(_, pod)| match pod.standing() {
        Standing::Allocated(id) if state.waits_for_room(*id) => {
            Some((pod.key().clone(), state.allocation(*id)?.table().clone()))
        }
        Standing::Waiting { reason: WaitReason::TableFull, queue: Some(table) } => {
            Some((pod.key().clone(), table.clone()))
        }
        Standing::Waiting { .. } | Standing::Open | Standing::Refused(_) | Standing::Allocated(_) => None,
    });
    waits.collect()
}

/// Whether a reservation will end by itself: a bare pod's does, where the configuration says so and no pod of its name
/// is there, whatever that one asks.
pub fn expires(world: &World) -> bool {
    let retained = world.plan.configuration.settings.fixed_retention_ms.is_some();
    let mut allocations = world.state().into_iter().flat_map(State::allocations);
    let model = world.model.borrow();
    retained
        && allocations.any(|(_, allocation)| {
            let ends = allocation.owner().is_none() && !allocation.is_kept();
            let absent = allocation.absent_since_wall_ms().is_some() && ends;
            absent && model.pod(allocation.key()).is_none_or(|pod| !pod.active())
        })
}

/// What of ours is left.
pub fn left(world: &World) -> Vec<String> {
    let (vpc, model) = (world.vpc.borrow(), world.model.borrow());
    let tables = vpc.world().gateways.iter().map(|gateway| &gateway.table);
    let entries = tables.flat_map(|table| vpc.entries(table)).filter(|entry| Mark::parse(&entry.spec.name).is_some());
    let entries = entries.map(|entry| format!("{entry:?}"));
    let claims = model
        .poddnats()
        .filter(|object| !crate::original::is_its(object))
        .map(|object| format!("{:?}", object.metadata));
    let allocations = world.state().into_iter().flat_map(State::allocations);
    entries.chain(claims).chain(allocations.map(|(id, _)| format!("allocation {id}"))).collect()
}
