//! Seeded runs of 50 pods in virtual time on the pure models, under every fault of the cloud, with entries of others and
//! hands that remove and edit ours. When the faults stop everything converges; no request had a second effect, nothing of
//! somebody else's was touched, and the journal folds again to the same state.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "what is missing is a failed test")]
#![allow(unreachable_pub, missing_docs, reason = "modules of one test program")]

mod pages;
#[allow(dead_code, reason = "shared by the suites that have a simulated cloud")]
#[path = "../policy/mod.rs"]
mod policy;
mod rolling;
mod stage;
mod twice;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use natgw::machine::identity::EntryId;
use natgw::machine::state::State;
use natgw::sandbox::vpc::{
    Behaviour, Effect, EffectLine, FaultKind, Faults, Incident, LedgerLine, NewEntry, Outcome, Ports, RequestLine,
};

use self::stage::Stage;
use self::twice::done_twice;

const PODS: u32 = 50;

/// Runs of the fuller tier, and of a plain `cargo test`.
const SEEDS: (u64, u64) = (1_000, 150);

/// The ports of somebody else's entries in each table, where there is room for them: outside of what is ours to give.
const OTHERS: std::ops::Range<u16> = 40_000..40_030;

/// When faults, edits and changes of size end.
const CALM_MS: u64 = 300_000;

/// How long everything may take from then on: a late effect may still land within a quarter of an hour, and a table in doubt
/// is listed every quarter of a minute.
const CONVERGED_MS: u64 = CALM_MS + 40 * 60_000;

/// A number from a seed and a counter: SplitMix64's finalizer.
fn draw(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Each kind at up to one call in eight, or not at all.
fn faults(dice: &mut u64) -> Faults {
    FaultKind::ALL.into_iter().fold(Faults::none(), |faults, kind| {
        let parts = u32::try_from(draw(dice) % 250).unwrap();
        faults.with(kind, f64::from(parts.saturating_sub(125)) / 1_000.0)
    })
}

fn behaviour(dice: &mut u64) -> Behaviour {
    let mut one_in = |n: u64| draw(dice).is_multiple_of(n);
    Behaviour {
        entry_quota: if one_in(3) { 20 } else { 100 },
        table_serialised: one_in(4),
        create_conflict_ms: if one_in(2) { 60 } else { 0 },
        delete_blocked_by_pending: one_in(2),
        read_lag_ms: if one_in(5) { 3_000 } else { 0 },
        token_lifetime_ms: if one_in(3) { 20_000 } else { 30 * 60_000 },
        calls_per_second: if one_in(4) { 10 } else { 0 },
        ..Behaviour::default()
    }
}

/// Somebody does something to the account.
fn meddle(stage: &Stage, dice: &mut u64) {
    let now_ms = stage.now_ms();
    let mut vpc = stage.vpc.borrow_mut();
    vpc.advance(now_ms);
    let tables: Vec<_> = vpc.world().gateways.iter().map(|gateway| gateway.table.clone()).collect();
    let table = &tables[usize::try_from(draw(dice) % 2).unwrap()];
    let ours: Vec<EntryId> =
        vpc.entries(table).filter(|entry| entry.token.is_some()).map(|entry| entry.id.clone()).collect();
    let chosen = ours.get(usize::try_from(draw(dice)).unwrap_or(0).checked_rem(ours.len()).unwrap_or(0)).cloned();
    match (draw(dice) % 3, chosen) {
        (0, Some(entry)) => vpc.remove_entry(now_ms, &entry).unwrap(),
        (1, Some(entry)) => {
            let spec = vpc.entry(&entry).unwrap().spec.clone();
            let internal_port = Ports::One(u16::try_from(10_000 + draw(dice) % 50_000).unwrap());
            vpc.edit_entry(now_ms, &entry, NewEntry { internal_port, ..spec }).unwrap();
        }
        (_, _) => {
            let gateway = vpc.world().gateway_of(table).unwrap();
            let eip = gateway.eips[usize::try_from(draw(dice) % 3).unwrap()].address;
            let internal = [172, 16, 250, u8::try_from(1 + draw(dice) % 200).unwrap()].into();
            let tuple = natgw::machine::identity::Tuple {
                external_ip: eip,
                external_port: 512 + u16::try_from(draw(dice) % 30).unwrap(),
                internal_ip: internal,
                internal_port: 9_000,
                protocol: natgw::machine::identity::Protocol::Tcp,
            };
            // The cloud refuses it where the tuple is taken or the table is full, as it refuses people.
            vpc.insert_entry(now_ms, NewEntry::of(table.clone(), tuple, "somebody")).ok();
        }
    }
}

/// One run; what it met.
fn run(seed: u64) -> BTreeMap<&'static str, u64> {
    let mut dice = seed;
    let (behaviour, faults) = (behaviour(&mut dice), faults(&mut dice));
    let quota = behaviour.entry_quota;
    let lifetime_ms = behaviour.token_lifetime_ms;
    let mut stage = Stage::new(2, behaviour, faults, seed);
    if usize::try_from(quota).unwrap() > OTHERS.len() {
        others(&stage);
    }
    stage.scale(PODS);
    while stage.now_ms() < CALM_MS {
        stage.run_to(stage.now_ms() + 1_000 + draw(&mut dice) % 30_000);
        match draw(&mut dice) % 6 {
            0 => stage.scale(PODS / 2),
            1 => stage.scale(PODS),
            _ => meddle(&stage, &mut dice),
        }
    }
    stage.scale(PODS);
    stage.vpc.borrow_mut().calm(stage.now_ms());
    let foreign = |stage: &Stage| {
        let vpc = stage.vpc.borrow();
        let count = |table| vpc.entries(table).filter(|entry| entry.token.is_none()).count();
        vpc.world().gateways.iter().map(|gateway| count(&gateway.table)).collect::<Vec<_>>()
    };
    // A table takes the pods of its zone as far as others leave it room.
    let wanted = |stage: &Stage| -> usize {
        let model = stage.model.borrow();
        let addresses: Vec<_> = model.list_pods().into_iter().filter_map(|pod| pod.ip).collect();
        let of_zone = |zone: usize| addresses.iter().filter(|ip| usize::from(ip.octets()[1]) == 16 + zone).count();
        let tables = foreign(stage).into_iter().enumerate();
        tables.map(|(zone, foreign)| of_zone(zone).min(usize::try_from(quota).unwrap().saturating_sub(foreign))).sum()
    };
    // What somebody edited is found by the next listing that is due.
    let converged = |stage: &Stage| {
        let room = wanted(stage);
        room > 0 && stage.mapped() == room && standing(stage).len() == room && shown(stage) == standing(stage)
    };
    let mut looked_ms = 0;
    while !(converged(&stage) && stage.controller.is_settled()) {
        looked_ms = looked_ms.max(stage.now_ms()) + 1_000;
        stage.run_to(looked_ms);
        assert!(
            stage.now_ms() < CONVERGED_MS,
            "seed {seed}: {} mapped of {}, foreign {:?}, shown or standing alone {:?}",
            stage.mapped(),
            wanted(&stage),
            foreign(&stage),
            shown(&stage).symmetric_difference(&standing(&stage)).collect::<Vec<_>>()
        );
    }
    judge(seed, &stage, lifetime_ms)
}

/// Somebody's entries, so many that a table has more than one page (50 entries), in which ours stand anywhere.
fn others(stage: &Stage) {
    let mut vpc = stage.vpc.borrow_mut();
    let tables: Vec<_> =
        vpc.world().gateways.iter().map(|gateway| (gateway.table.clone(), gateway.eips[0].address)).collect();
    for (table, eip) in tables {
        for port in OTHERS {
            let tuple = natgw::machine::identity::Tuple {
                external_ip: eip,
                external_port: port,
                internal_ip: [172, 16, 251, eip.octets()[3]].into(),
                internal_port: port,
                protocol: natgw::machine::identity::Protocol::Udp,
            };
            vpc.insert_entry(0, NewEntry::of(table.clone(), tuple, "somebody")).unwrap();
        }
    }
}

/// Entry, external and internal address and port, protocol.
type Mapped = BTreeSet<(String, String, String, String, String, String)>;

/// What the PodDNATs show.
fn shown(stage: &Stage) -> Mapped {
    let model = stage.model.borrow();
    let entries = model.poddnats().flat_map(|object| object.status.entries.iter());
    let mapped = entries.map(|entry| {
        let [id, eip, external] =
            [&entry.forward_entry_id, &entry.external_ip, &entry.external_port].map(String::clone);
        let [ip, internal] = [&entry.internal_ip, &entry.internal_port].map(String::clone);
        (id, eip, external, ip, internal, entry.ip_protocol.clone())
    });
    mapped.collect()
}

/// What stands in the tables by requests of ours.
fn standing(stage: &Stage) -> Mapped {
    let vpc = stage.vpc.borrow();
    let entries = vpc.world().gateways.iter().flat_map(|gateway| vpc.entries(&gateway.table));
    let mapped = entries.filter(|entry| entry.token.is_some()).map(|entry| {
        let spec = &entry.spec;
        let [external, internal] = [spec.external_port, spec.internal_port].map(|port| port.ends().0.to_string());
        let [eip, ip] = [spec.external_ip, spec.internal_ip].map(|address| address.to_string());
        (entry.id.to_string(), eip, external, ip, internal, spec.protocol.one().unwrap().to_string())
    });
    mapped.collect()
}

fn judge(seed: u64, stage: &Stage, lifetime_ms: u64) -> BTreeMap<&'static str, u64> {
    let lines = stage.take_ledger();
    policy::kept(policy::called(&lines));
    let (mut foreign, mut by_hand) = (BTreeSet::new(), BTreeSet::new());
    for line in &lines {
        match line {
            LedgerLine::Effect(line) => match &line.effect {
                Effect::InsertedByHand => foreign.extend(line.entry.clone()),
                Effect::RemovedByHand | Effect::EditedByHand => by_hand.extend(line.token.clone()),
                Effect::Deleting => {
                    let entry = line.entry.as_ref().unwrap();
                    assert!(!foreign.contains(entry), "seed {seed}: {entry} is somebody else's");
                }
                Effect::Created
                | Effect::Available
                | Effect::Gone
                | Effect::LateRefused { .. }
                | Effect::LateRepeated => {}
            },
            LedgerLine::Request(_) => {}
        }
    }
    assert_eq!(done_twice(&lines, lifetime_ms), [""; 0], "seed {seed}: second effects");
    assert_eq!(shown(stage), standing(stage), "seed {seed}: what is shown is what stands");
    let vpc = stage.vpc.borrow();
    assert!(foreign.iter().all(|entry| vpc.entry(entry).is_some()), "seed {seed}: somebody else's entry went");

    let mut state = State::default();
    for record in &stage.records {
        state.apply(record).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        drop(state.take_agenda_changes());
    }
    let folded: State = state;
    let state = stage.controller.state();
    assert_eq!((folded.seq(), folded.digest()), (state.seq(), state.digest()), "seed {seed}: the journal folds again");
    let mut met: BTreeMap<&'static str, u64> = vpc.census().collect();
    met.insert("removed or edited by hand", u64::try_from(by_hand.len()).unwrap());
    met.insert("of somebody else", u64::try_from(foreign.len()).unwrap());
    met.insert("late effects", vpc.happened(Incident::LateLanded));
    met
}

#[expect(clippy::disallowed_methods, reason = "how much is to be done is the caller's")]
fn seeds() -> std::ops::Range<u64> {
    if let Some(seed) = std::env::var("NATGW_SEED").ok().and_then(|seed| seed.parse().ok()) {
        return seed..seed + 1;
    }
    let (full, quick) = SEEDS;
    0..if std::env::var("NATGW_TIER").is_ok_and(|tier| tier == "ci") { full } else { quick }
}

#[test]
fn when_the_faults_stop_everything_converges_and_nothing_happened_twice() {
    let seeds = seeds();
    // Runs know nothing of each other: as many at once as there are processors.
    let (next, met) = (Mutex::new(seeds.clone()), Mutex::new(BTreeMap::<&'static str, u64>::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let Some(seed) = next.lock().unwrap().next() else { return };
                    for (what, times) in run(seed) {
                        *met.lock().unwrap().entry(what).or_default() += times;
                    }
                }
            });
        }
    });
    let met = met.into_inner().unwrap();
    println!("{} runs of {PODS} pods: {met:?}", seeds.end - seeds.start);
    if seeds.end - seeds.start > 100 {
        for kind in FaultKind::ALL {
            assert!(met[kind.as_str()] > 0, "{kind} was never met");
        }
    }
}

#[test]
fn a_second_effect_is_told_from_a_forgotten_token() {
    let line = |at_ms, fault: Option<FaultKind>, created: bool| {
        let request = |outcome| RequestLine {
            at_ms,
            request_id: format!("R{at_ms}"),
            action: "CreateForwardEntry".to_owned(),
            parameters: BTreeMap::new(),
            token: Some("t".to_owned()),
            outcome,
            reply: None,
            fault,
            trouble: None,
        };
        let effect = EffectLine {
            at_ms,
            effect: if created { Effect::Created } else { Effect::Gone },
            entry: None,
            spec: None,
            token: Some("t".to_owned()),
            request_id: Some(format!("R{at_ms}")),
        };
        [LedgerLine::Request(request(Outcome::Done { entry: None })), LedgerLine::Effect(effect)]
    };
    let twice = |second| [line(5, None, true), line(6, None, false), second].concat();
    assert_eq!(done_twice(&twice(line(19, None, true)), 15), ["t"], "the cloud knew it for 14 ms");
    assert_eq!(done_twice(&twice(line(20, None, true)), 15), [""; 0], "it grew old");
    assert_eq!(done_twice(&twice(line(7, Some(FaultKind::ForgottenToken), true)), 15), [""; 0], "it was forgotten");
    // It is not remembered either, so that one more is excused; that one is remembered, and what follows is not excused.
    let thrice = [twice(line(7, Some(FaultKind::ForgottenToken), true)), line(8, None, true).to_vec()].concat();
    assert_eq!(done_twice(&thrice, 15), [""; 0]);
    assert_eq!(done_twice(&[thrice, line(9, None, true).to_vec()].concat(), 15), ["t"]);
    let early = [line(5, Some(FaultKind::ForgottenToken), true), line(6, None, true)].concat();
    assert_eq!(done_twice(&early, 15), [""; 0]);
    assert_eq!(done_twice(&[early, line(7, None, true).to_vec()].concat(), 15), ["t"]);
}
