//! Each invariant catches the fault of the state that it speaks of.

use std::net::Ipv4Addr;

use super::*;
use crate::machine::event::{Record, control, decided, seen};
use crate::machine::identity::{GatewayId, PodKey, Protocol, TableId};
use crate::machine::intent::{Held, Intent};

const EIP: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);

fn fold(state: &mut State, event: Event) {
    let record = Record { seq: state.seq() + 1, term: 1, machine_ms: 0, wall_ms: 0, event };
    state.apply(&record).unwrap();
    assert_eq!(touched(state, &record.event), []);
}

/// Two pods have the three ports that there are, the third waits.
fn full() -> State {
    let mut state = State::default();
    let (gateway, zone) = ("ngw-j".to_owned(), "zone-j".to_owned());
    let facts = [
        Event::TermStarted(control::TermStarted { term: 1, holder: "a".into(), predecessor: None }),
        Event::PoolConfigured(control::PoolConfigured {
            index: 0,
            gateway: gateway.clone(),
            zone: zone.clone(),
            first: 512,
            last: 514,
            eips: Vec::new(),
            excluded: Vec::new(),
        }),
        Event::Configured(control::Configured {
            cluster_uid: "c1".into(),
            pools: 1,
            cooldown_ms: 30_000,
            fixed_retention_ms: None,
            resync_ms: 300_000,
            repair: true,
            adopt: false,
            port_break: 0,
            stateful_kinds: Vec::new(),
        }),
        Event::ClusterRead(control::ClusterRead { pods: 0, claims: 0 }),
        Event::GatewaySeen(seen::GatewaySeen {
            gateway: gateway.clone(),
            table: Some("ftb-j".into()),
            zone: Some(zone),
            available: true,
            eips: vec![(EIP, true, false)],
        }),
        Event::RouteSeen(seen::RouteSeen { vswitch: "vsw-j".into(), gateways: vec![gateway] }),
        Event::TableOpened(control::TableOpened { table: "ftb-j".into(), entries: 0 }),
    ];
    facts.into_iter().for_each(|event| fold(&mut state, event));
    for (name, ports) in [("a", "80"), ("b", "80,81"), ("c", "80")] {
        let octet = name.as_bytes()[0];
        let ip = Ipv4Addr::new(172, 16, 0, octet);
        let asks = [("k8s.aliyun.com/pod-dnat", ""), ("k8s.aliyun.com/pod-dnat-expose-port", ports)];
        let pod = seen::PodSeen {
            namespace: "default".into(),
            name: name.into(),
            uid: name.into(),
            ip: Some(ip),
            annotations: asks.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
            ..seen::PodSeen::default()
        };
        fold(&mut state, Event::PodSeen(pod));
        let (eni, vswitch, zone) = ("eni-j".into(), "vsw-j".into(), "zone-j".into());
        fold(&mut state, Event::AddressSeen(seen::AddressSeen { ip, eni, vswitch, zone }));
        while let Some(event) = state.decide(0) {
            fold(&mut state, event);
        }
    }
    assert_eq!(state.allocations.len(), 2);
    state
}

fn first(state: &State) -> AllocationId {
    *state.allocations.first().unwrap().0
}

fn second(state: &State) -> AllocationId {
    *state.allocations.iter().nth(1).unwrap().0
}

fn table(state: &mut State) -> &mut crate::machine::state::Table {
    state.tables.get_mut(&TableId::from("ftb-j")).unwrap()
}

/// A fault of the state, and the invariant that catches it.
type Mutant = (&'static str, fn(&mut State));

const MUTANTS: &[Mutant] = &[
    ("OneOwner", |state| {
        let other = second(state);
        *state.owners.get_mut(&(EIP, Protocol::Tcp, 512)).unwrap() = other;
    }),
    ("OneTarget", |state| {
        let (id, ip) = (second(state), state.allocations.get(&first(state)).unwrap().ip);
        state.allocations.get_mut(&id).unwrap().ip = ip;
    }),
    ("OneName", |state| assert!(state.by_name.remove(&PodKey::new("default", "a")).is_some())),
    ("OneName", |state| {
        let (first, second) = (first(state), second(state));
        let generation = state.allocations.get(&first).unwrap().items[0].generation;
        state.by_generation.insert(generation, second);
    }),
    ("InRange", |state| {
        let id = first(state);
        state.allocations.get_mut(&id).unwrap().items[0].external = 0;
    }),
    ("NotFree", |state| {
        state.gateways.get_mut(&GatewayId::from("ngw-j")).unwrap().eips.give(EIP, Protocol::Tcp, 512);
    }),
    ("NotFree", |state| {
        assert!(state.gateways.get_mut(&GatewayId::from("ngw-j")).unwrap().eips.take(EIP, Protocol::Udp, 512));
    }),
    ("Ordered", |state| {
        let queue = &mut table(state).queue;
        let (arrival, uid) = queue.pop_first().unwrap();
        queue.insert(arrival + 1, uid);
    }),
    ("Ordered", |state| table(state).queue.clear()),
    ("Agenda", |state| {
        let (allocation, seq) = (first(state), state.seq());
        state.agenda.replace(&mut Held::default(), vec![Intent::Withdraw { allocation }], seq);
    }),
    ("Agenda", |state| state.agenda.clear()),
    ("Digest", |state| {
        let id = first(state);
        state.allocations.get_mut(&id).unwrap().items[0].entry = Entry::Gone;
    }),
    ("Partial", |state| {
        let id = first(state);
        assert!(table(state).partial.insert(id));
    }),
    ("Committed", |state| table(state).committed += 1),
    ("Adopted", |state| {
        let id = first(state);
        let allocation = state.allocations.get_mut(&id).unwrap();
        let generation = allocation.items[0].generation;
        allocation.unusual.change(|unusual| unusual.adopted.push((generation, "fwd-1".into())));
    }),
    ("Others", |state| assert!(state.originals.insert(PodKey::new("default", "nobody")))),
    ("Pending", |state| {
        let id = first(state);
        let generation = state.allocations.get(&id).unwrap().items[0].generation;
        assert!(table(state).pending.insert((id, generation)));
    }),
    ("Indexed", |state| {
        let ip = state.allocations.get(&first(state)).unwrap().ip;
        state.by_ip.remove(&ip);
    }),
    ("Indexed", |state| {
        let id = first(state);
        state.by_vswitch.or_default("vsw-k".into()).insert(id);
    }),
    ("Indexed", |state| {
        state.pods_by_name.or_default(PodKey::new("default", "gone")).insert("gone".into());
    }),
    ("Indexed", |state| assert!(state.undecided.insert("gone".into()))),
    ("Restored", |state| {
        let id = first(state);
        assert!(table(state).awaited.insert((id, (9, 9).into())));
    }),
    ("Timed", |state| assert!(state.timers.insert((7, Timer::Grace("a".into()))))),
    ("Timed", |state| state.holds.or_default((EIP, Protocol::Tcp, 512)).resting_ms = Some(7)),
];

#[test]
fn each_invariant_catches_its_mutants() {
    assert_eq!(all(&full()), []);
    assert_eq!(restored(&full()), None);
    for (name, mutate) in MUTANTS {
        let mut state = full();
        mutate(&mut state);
        let found: Vec<_> = all(&state).into_iter().chain(restored(&state)).collect();
        assert!(found.iter().any(|violation| violation.invariant == *name), "{name}: {found:?}");
    }
    let with_mutants: BTreeSet<&str> = MUTANTS.iter().map(|(name, _)| *name).collect();
    let told: BTreeSet<&str> = INVARIANTS.iter().map(|invariant| invariant.name).collect();
    assert_eq!(with_mutants, told);
    assert_eq!(told.len(), INVARIANTS.len(), "each name once");
}

/// What an event touched is looked at without looking at everything.
#[test]
fn a_decision_outside_the_range_is_caught_at_once() {
    let mut state = full();
    let id = first(&state);
    let mut item = decided::Item { internal: 82, external: 514, protocol: 17, generation: (1, 9), port_break: false };
    let added = |item| decided::ItemsChanged { allocation: id.into(), dropped: Vec::new(), added: vec![item] };
    assert_eq!(touched(&state, &Event::ItemsChanged(added(item))), []);
    item.external = 515;
    let event = Event::ItemsChanged(added(item));
    let record = Record { seq: state.seq() + 1, term: 1, machine_ms: 0, wall_ms: 0, event };
    state.apply(&record).unwrap();
    let found = touched(&state, &record.event);
    assert!(found.iter().any(|violation| violation.invariant == "InRange"), "{found:?}");
}
