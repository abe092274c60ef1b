//! Seeded runs of 50 pods in virtual time on the pure models, under every fault of the cloud, with entries of others and
//! hands that remove and edit ours. When the faults stop everything converges; no request had a second effect, nothing of
//! somebody else's was touched, and the journal folds again to the same state.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "what is missing is a failed test")]
#![allow(unreachable_pub, missing_docs, reason = "modules of one test program")]

mod rolling;
mod stage;

use std::collections::{BTreeMap, BTreeSet};

use natgw::cloud::classes::ACTIONS;
use natgw::machine::identity::EntryId;
use natgw::machine::state::State;
use natgw::sandbox::vpc::{Behaviour, Effect, FaultKind, Faults, Incident, LedgerLine, NewEntry, Ports};

use self::stage::Stage;

const PODS: u32 = 50;

/// Runs in CI, and at a desk.
const SEEDS: (u64, u64) = (1_000, 150);

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
    let mut stage = Stage::new(2, behaviour, faults, seed);
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
    let converged = |stage: &Stage| {
        let room = wanted(stage);
        room > 0 && stage.mapped() == room && {
            let vpc = stage.vpc.borrow();
            let ours = vpc.world().gateways.iter().flat_map(|gateway| vpc.entries(&gateway.table));
            ours.filter(|entry| entry.token.is_some()).count() == room
        }
    };
    let mut looked_ms = 0;
    while !(converged(&stage) && stage.controller.is_settled()) {
        looked_ms = looked_ms.max(stage.now_ms()) + 1_000;
        stage.run_to(looked_ms);
        assert!(
            stage.now_ms() < CONVERGED_MS,
            "seed {seed}: {} mapped of {}, foreign {:?}",
            stage.mapped(),
            wanted(&stage),
            foreign(&stage)
        );
    }
    judge(seed, &stage)
}

fn judge(seed: u64, stage: &Stage) -> BTreeMap<&'static str, u64> {
    let lines = stage.take_ledger();
    let mut created: BTreeMap<String, u32> = BTreeMap::new();
    let (mut foreign, mut by_hand) = (BTreeSet::new(), BTreeSet::new());
    for line in &lines {
        match line {
            LedgerLine::Effect(line) => match &line.effect {
                Effect::Created => *created.entry(line.token.clone().unwrap()).or_default() += 1,
                Effect::InsertedByHand => foreign.extend(line.entry.clone()),
                Effect::RemovedByHand | Effect::EditedByHand => by_hand.extend(line.token.clone()),
                Effect::Deleting => {
                    let entry = line.entry.as_ref().unwrap();
                    assert!(!foreign.contains(entry), "seed {seed}: {entry} is somebody else's");
                }
                Effect::Available | Effect::Gone | Effect::LateRefused { .. } | Effect::LateRepeated => {}
            },
            LedgerLine::Request(line) => {
                assert!(ACTIONS.contains(&line.action.as_str()), "seed {seed}: {}", line.action)
            }
        }
    }
    let twice: Vec<_> = created.iter().filter(|(token, times)| **times > 1 && !by_hand.contains(*token)).collect();
    let vpc = stage.vpc.borrow();
    // What the cloud has forgotten it does again: a late request may land after its token's lifetime.
    let forgotten = usize::try_from(vpc.happened(Incident::SecondExecution)).unwrap();
    assert!(twice.len() <= forgotten, "seed {seed}: a second effect of {twice:?}, {forgotten} of them forgotten");
    assert!(foreign.iter().all(|entry| vpc.entry(entry).is_some()), "seed {seed}: somebody else's entry went");

    let mut state = State::default();
    for record in &stage.records {
        state.apply(record).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        drop(state.take_agenda_changes());
    }
    let folded: State = state;
    if stage.records.last().map(|record| record.seq) == Some(stage.controller.state().seq()) {
        assert_eq!(folded.digest(), stage.controller.state().digest(), "seed {seed}");
    }
    let mut met: BTreeMap<&'static str, u64> = vpc.census().collect();
    met.insert("removed or edited by hand", u64::try_from(by_hand.len()).unwrap());
    met.insert("of somebody else", u64::try_from(foreign.len()).unwrap());
    met.insert("late effects", vpc.happened(Incident::LateLanded));
    met
}

#[expect(clippy::disallowed_methods, reason = "CI and whoever looks at one seed say so by the environment")]
fn seeds() -> std::ops::Range<u64> {
    if let Some(seed) = std::env::var("NATGW_SEED").ok().and_then(|seed| seed.parse().ok()) {
        return seed..seed + 1;
    }
    let (full, quick) = SEEDS;
    0..if std::env::var("CI").is_ok_and(|ci| ci == "true") { full } else { quick }
}

#[test]
fn when_the_faults_stop_everything_converges_and_nothing_happened_twice() {
    let seeds = seeds();
    let mut met: BTreeMap<&'static str, u64> = BTreeMap::new();
    for seed in seeds.clone() {
        for (what, times) in run(seed) {
            *met.entry(what).or_default() += times;
        }
    }
    println!("{} runs of {PODS} pods: {met:?}", seeds.end - seeds.start);
    if seeds.end - seeds.start > 100 {
        for kind in FaultKind::ALL {
            assert!(met[kind.as_str()] > 0 || kind == FaultKind::ShiftedPage, "{kind} was never met");
        }
    }
}
