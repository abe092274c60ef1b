//! Two replicas: one leads, one is warm. Whoever is killed, stopped or forgotten, nothing is done twice and nothing is lost.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::{Duration, Instant};

use axum::http::Method;
use natgw::sandbox::vpc::{Effect, EffectLine, LedgerLine};
use rustix::process::Signal;
use serde_json::json;

use crate::api::{Api, eventually, is};
use crate::control_plane::ControlPlane;
use crate::evidence::mutations;
use crate::judge::{Effects, created_late, old_over_new, taken_away};
use crate::proxy::{Asked, FOR_EVER, Fault, Proxy, Strike};
use crate::workloads::{deployment, pod, pod_on};
use crate::world::{CRASH_PATIENCE, LEASE, Mapped, Namespace, PATIENCE, Replica, Settings, World, copy, text};
use crate::{Case, Needs, Tier, asked_number, tier};

const fn case(name: &'static str, tier: Tier, run: fn(&ControlPlane)) -> Case {
    Case { name, tier, needs: Needs::Ours, run }
}

pub const CASES: &[Case] = &[
    case("leaders::kill_the_leader_during_churn", Tier::Short, kill_the_leader_during_churn),
    case("leaders::a_leader_that_was_stopped_does_no_harm", Tier::Full, a_leader_that_was_stopped_does_no_harm),
    case("leaders::a_leader_that_is_asked_to_end_hands_over", Tier::Full, a_leader_that_is_asked_to_end_hands_over),
    case("leaders::a_leader_that_is_cut_off_stops_in_time", Tier::Full, a_leader_that_is_cut_off_stops_in_time),
    case("leaders::a_leader_without_history_calls_nothing_wrong", Tier::Full, a_leader_without_history),
];

const DEPLOYMENTS: &str = "apps/v1/deployments";

/// Times that the leader is killed: always, in the fuller tier; `NATGW_KILLS` asks for others.
const KILLS: (u64, u64) = (3, 15);

/// A lease of 3 s, of which nobody else may have a part.
const LEASE_DURATION: Duration = Duration::from_secs(3);

/// A lease that was given back is taken at the next attempt, of which there is one each 2 s: nobody waits for the end of its
/// 15 s.
const GIVEN_BACK_MAX: Duration = Duration::from_secs(7);

/// A lease of 3 s that nobody renews, the pause between two attempts, and what a busy machine adds.
const TAKEOVER_MAX: Duration = Duration::from_secs(8);

/// Pods whose mappings nobody touches.
const STEADY: u64 = 10;

/// A number from a seed and a counter: SplitMix64's finalizer.
fn draw(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Two replicas, the first of which leads.
fn two(world: &World<'_>) -> (Replica, Replica) {
    let leader = world.leader();
    let mut standby = world.replica("b");
    standby.await_standing_by();
    assert!(leader.leads() && !standby.leads());
    (leader, standby)
}

/// A namespace with pods that stay as they are and room for others that come and go.
fn steady<'w>(world: &'w World<'_>, name: &str) -> (Namespace<'w>, Namespace<'w>, Mapped) {
    let (still, churn) = (world.namespace(&format!("{name}-still")), world.namespace(&format!("{name}-churn")));
    still.create(DEPLOYMENTS, &deployment("game", STEADY, "80,443"));
    churn.create(DEPLOYMENTS, &deployment("game", 0, "80"));
    let before = still.await_mapped(world, usize::try_from(STEADY).unwrap());
    (still, churn, before)
}

/// A replica that comes to the API server through somebody who notes what it asks.
fn observed(world: &World<'_>, name: &str, proxies: &mut Vec<Proxy>) -> Replica {
    let (proxy, number) = (Proxy::before(world.plane), proxies.len());
    let kubeconfig = world.plane.kubeconfig_of(&format!("replica-{number}"), &proxy.server(), world.plane.token());
    proxies.push(proxy);
    world.replica_of(name, &kubeconfig)
}

/// Who has the lease.
fn holder(world: &World<'_>) -> String {
    text(&world.api.get(LEASE).unwrap()["spec"]["holderIdentity"])
}

/// Those of the entries that somebody began to take away.
fn taken(world: &World<'_>, ids: &BTreeMap<String, Vec<String>>) -> BTreeSet<String> {
    let ours: BTreeSet<&String> = ids.values().flatten().collect();
    let effects = world.ledger().into_iter().filter_map(|line| match line {
        LedgerLine::Effect(effect) if matches!(effect.effect, Effect::Deleting | Effect::Gone) => effect.entry,
        LedgerLine::Effect(_) | LedgerLine::Request(_) => None,
    });
    effects.map(|entry| entry.to_string()).filter(|entry| ours.contains(entry)).collect()
}

fn kill_the_leader_during_churn(plane: &ControlPlane) {
    let kills = asked_number("NATGW_KILLS").unwrap_or_else(|| if tier() == Tier::Full { KILLS.1 } else { KILLS.0 });
    let world = World::new(plane, &Settings { patience: CRASH_PATIENCE, ..Settings::default() });
    // In the order in which those who come through them lead.
    let mut proxies = Vec::new();
    let mut leader = observed(&world, "a", &mut proxies);
    leader.await_leading();
    let mut standby = observed(&world, "b", &mut proxies);
    standby.await_standing_by();
    let (still, churn, before) = steady(&world, "kill");
    let ids = still.entry_ids();
    let mut dice = asked_number("NATGW_SEED").unwrap_or(8);
    let (mut takeovers, mut taken_over, mut replicas) = (Vec::new(), Vec::new(), 0);
    for round in 0..kills {
        replicas = draw(&mut dice) % 30;
        churn.scale(DEPLOYMENTS, "game", replicas);
        await_mutations(&world, draw(&mut dice) % 20);
        let held = holder(&world);
        leader.kill();
        let began = Instant::now();
        assert_eq!(holder(&world), held, "who is killed gives nothing back");
        standby.await_leading();
        taken_over.push(Instant::now());
        takeovers.push(began.elapsed());
        assert!(began.elapsed() < TAKEOVER_MAX, "round {round}: {:?}", began.elapsed());
        assert_eq!(still.entry_ids(), ids, "round {round}: no mapping is lost");
        leader = standby;
        standby = observed(&world, if round % 2 == 0 { "a" } else { "b" }, &mut proxies);
        standby.await_standing_by();
    }
    churn.await_mapped(&world, usize::try_from(replicas).unwrap());
    assert_eq!(still.await_mapped(&world, before.len()), before, "no mapping is lost");
    assert_eq!((still.entry_ids(), taken(&world, &ids)), (ids, BTreeSet::new()), "nor was one for a while");
    told_of(&mut takeovers);
    the_dead_write_nothing(&world, &still, &churn, &proxies, &taken_over);
    world.end(vec![leader, standby]);
}

fn told_of(takeovers: &mut [Duration]) {
    takeovers.sort();
    let at = |part: usize| takeovers[(takeovers.len() - 1) * part / 100].as_secs_f64();
    println!(
        "takeover after {} kills: least {:.2} s, median {:.2} s, p90 {:.2} s, most {:.2} s",
        takeovers.len(),
        at(0),
        at(50),
        at(90),
        at(100)
    );
}

/// No term that ended writes over one that came after it, or creates what its successor has to end; and whoever looks for
/// that, or for entries that were taken away, finds them where they are.
fn the_dead_write_nothing(
    world: &World<'_>,
    still: &Namespace<'_>,
    churn: &Namespace<'_>,
    proxies: &[Proxy],
    taken_over: &[Instant],
) {
    let asked: Vec<_> = proxies.iter().map(Proxy::asked).collect();
    let mut writes = 0;
    for (at, began) in taken_over.iter().enumerate() {
        assert_eq!(old_over_new(&asked[at], &asked[at + 1..].concat()), [""; 0], "term {at}");
        assert_eq!(created_late(&asked[at], *began), [], "term {at}");
        writes += crate::judge::writes(&asked[at]).count();
    }
    println!("{writes} writes of {} terms that were killed, none of them late", taken_over.len());

    churn.scale(DEPLOYMENTS, "game", 3);
    churn.await_mapped(world, 3);
    let ids = churn.entry_ids();
    let object = churn.poddnats().remove(0);
    let path = format!("{}/{}", churn.path("alibabacloud.com/v1beta1/poddnats"), text(&object["metadata"]["name"]));
    let dead = Api::new(&proxies[0].server(), "", still.api.token());
    dead.patch(&path, &json!({ "metadata": { "annotations": { "written-by": "the dead" } } })).unwrap();
    let successors: Vec<_> = proxies[1..].iter().flat_map(Proxy::asked).collect();
    let found = old_over_new(&proxies[0].asked(), &successors);
    assert!(found.len() == 1 && found[0].contains(&path), "{found:?}");
    churn.scale(DEPLOYMENTS, "game", 0);
    eventually("end of the last entries", world.patience, || is(taken(world, &ids).len() == 3, taken(world, &ids)));
}

/// Waits until that many requests more have changed the cloud, or nothing is left to change.
fn await_mutations(world: &World<'_>, more: u64) {
    let from = mutations(&world.ledger());
    let until = Instant::now() + Duration::from_secs(2);
    while mutations(&world.ledger()) < from + usize::try_from(more).unwrap() && Instant::now() < until {
        std::thread::park_timeout(crate::api::LOOK_EVERY);
    }
}

fn a_leader_that_was_stopped_does_no_harm(plane: &ControlPlane) {
    let world = World::new(plane, &Settings { patience: CRASH_PATIENCE, ..Settings::default() });
    let [of_old, of_new] = [Proxy::before(plane), Proxy::before(plane)];
    let kubeconfig = |name, proxy: &Proxy| plane.kubeconfig_of(name, &proxy.server(), plane.token());
    let cloud_of_old = Proxy::before_cloud(world.cloud());
    let mut stopped = world.replica_with("a", &kubeconfig("of-old", &of_old), &cloud_of_old.address(), &[]);
    stopped.await_leading();
    let mut other = world.replica_of("b", &kubeconfig("of-new", &of_new));
    other.await_standing_by();
    let effects = Effects::of(&world.path("ledger"));
    let (still, churn, before) = steady(&world, "stop");
    for name in LEAVING {
        churn.create("pods", &pod_on("node-j", name, "80"));
    }
    churn.await_mapped(&world, LEAVING.len());

    // Writes of each kind are on their way when it stops, and one that creates what is gone by the time it lands.
    of_old.strike(Strike { fault: Fault::Held, on: is_late, times: 1 });
    for on in [is_creation as fn(&Asked) -> bool, is_status, is_mark] {
        of_old.strike(Strike { fault: Fault::Held, on, times: HELD });
    }
    churn.create("pods", &pod(LATE, "80"));
    churn.scale(DEPLOYMENTS, "game", 25);
    eventually("writes on their way", PATIENCE, || is(of_old.left() == 0, of_old.left()));
    let deletions = hold_deletions(&churn, &cloud_of_old);
    stopped.send(Signal::STOP);
    let began = Instant::now();
    other.await_leading();
    println!("takeover from a stopped leader after {:.2} s", began.elapsed().as_secs_f64());
    let taken_over = Instant::now();
    churn.await_mapped(&world, 26);
    // The new term writes every object anew, and ends one.
    churn.delete("pods", LATE, &json!({ "gracePeriodSeconds": 0 }));
    for pod in churn.pods().iter().filter(|pod| pod["metadata"]["name"] != LATE) {
        let asks = json!({ "metadata": { "annotations": { "k8s.aliyun.com/pod-dnat-expose-port": "80,443" } } });
        world.api.patch(&format!("{}/{}", churn.path("pods"), text(&pod["metadata"]["name"])), &asks).unwrap();
    }
    let mapped = churn.await_mapped(&world, 25);
    let late = format!("{}/{LATE}", churn.path("alibabacloud.com/v1beta1/poddnats"));
    eventually("end of the mapping that lands late", PATIENCE, || is(world.api.find(&late).is_none(), &late));

    of_old.release();
    cloud_of_old.release();
    let deleted = || cloud_of_old.asked().iter().filter(|asked| asked.fault == Some(Fault::Held)).count();
    eventually("landing of the deletions", PATIENCE, || is(deleted() == deletions(), deleted()));
    println!("{} deletions of entries landed late", deleted());
    let landed = || of_old.asked().iter().filter(|asked| asked.fault == Some(Fault::Held)).count();
    eventually("landing of what was on its way", PATIENCE, || is(landed() == 3 * HELD + 1, landed()));
    let created = created_late(&of_old.asked(), taken_over);
    println!("{} writes landed late, {} PodDNATs were created by them", landed(), created.len());
    assert!(!created.is_empty(), "one creation finds nothing in its way");
    for (path, uid) in &created {
        eventually("end of what was created late", world.patience, || {
            is(world.api.find(path).is_none_or(|object| object["metadata"]["uid"] != **uid), path)
        });
    }
    assert_eq!(old_over_new(&of_old.asked(), &of_new.asked()), [""; 0]);
    let quiet = || (versions(&churn), versions(&still), world.entries(), mutations(&world.ledger()));
    let rest = quiet();
    eventually("end of twice the lease", PATIENCE, || is(began.elapsed() > Duration::from_secs(6), began.elapsed()));
    stopped.send(Signal::CONT);
    eventually("end of the leader that was", PATIENCE, || is(!stopped.is_alive(), "it still runs"));
    assert_eq!(quiet(), rest);
    assert_eq!(old_over_new(&of_old.asked(), &of_new.asked()), [""; 0]);
    assert_eq!(churn.await_mapped(&world, 25), mapped);
    assert_eq!(still.await_mapped(&world, before.len()), before);
    let effects = effects.end();
    assert_eq!(taken_away(&of_new.asked(), &effects), [""; 0]);
    the_judge_sees_what_it_is_there_for(&churn, &of_old, &of_new, effects);
    world.end(vec![other]);
}

/// Pods that go just before the leader stops.
const LEAVING: [&str; 3] = ["leaving-0", "leaving-1", "leaving-2"];

/// Deletes pods, and waits until the deletion of an entry is on its way and held. Gives how many are held by then.
fn hold_deletions<'p>(churn: &Namespace<'_>, cloud: &'p Proxy) -> impl Fn() -> usize + use<'p> {
    cloud.strike(Strike { fault: Fault::Held, on: is_deletion, times: FOR_EVER });
    for name in LEAVING {
        churn.delete("pods", name, &json!({ "gracePeriodSeconds": 0 }));
    }
    let held = move || FOR_EVER - cloud.left();
    eventually("deletion of an entry on its way", PATIENCE, || is(held() > 0, held()));
    held
}

fn is_deletion(asked: &Asked) -> bool {
    asked.query.contains("Action=DeleteForwardEntry")
}

/// Writes of each kind that are on their way when the leader stops.
const HELD: usize = 3;

/// The pod whose PodDNAT an earlier leader creates when it has gone.
const LATE: &str = "late";

fn is_late(asked: &Asked) -> bool {
    asked.method == Method::POST && asked.path.ends_with("/poddnats") && asked.body["metadata"]["name"] == LATE
}

fn is_creation(asked: &Asked) -> bool {
    asked.method == Method::POST && asked.path.ends_with("/poddnats") && !is_late(asked)
}

fn is_status(asked: &Asked) -> bool {
    asked.mutates() && asked.path.contains("/poddnats/") && asked.path.ends_with("/status")
}

fn is_mark(asked: &Asked) -> bool {
    asked.mutates() && asked.path.contains("/pods/")
}

fn versions(namespace: &Namespace<'_>) -> BTreeSet<String> {
    let objects = namespace.poddnats().into_iter().chain(namespace.pods());
    objects.map(|object| object["metadata"]["resourceVersion"].to_string()).collect()
}

/// An old term that writes over a new one, and an entry that goes while it is shown: both are found.
fn the_judge_sees_what_it_is_there_for(
    churn: &Namespace<'_>,
    of_old: &Proxy,
    of_new: &Proxy,
    mut effects: Vec<(Instant, EffectLine)>,
) {
    let object = churn.poddnats().remove(0);
    let shown = text(&object["status"]["entries"][0]["forwardEntryId"]);
    let path = format!("{}/{}", churn.path("alibabacloud.com/v1beta1/poddnats"), text(&object["metadata"]["name"]));
    let old = Api::new(&of_old.server(), "", churn.api.token());
    old.patch(&path, &json!({ "metadata": { "annotations": { "written-by": "the old term" } } })).unwrap();
    let found = old_over_new(&of_old.asked(), &of_new.asked());
    assert!(found.len() == 1 && found[0].contains(&path), "{found:?}");

    let created = effects.iter().find(|(_, line)| line.entry.as_ref().is_some_and(|entry| entry.to_string() == shown));
    let gone = EffectLine { effect: Effect::Deleting, ..created.unwrap().1.clone() };
    effects.push((Instant::now(), gone));
    let found = taken_away(&of_new.asked(), &effects);
    assert!(found.len() == 1 && found[0].contains(&path), "{found:?}");
}

fn a_leader_that_is_asked_to_end_hands_over(plane: &ControlPlane) {
    // So long that whoever waits for its end is found out.
    let world = World::new(plane, &Settings { lease: ["15s", "10s", "2s"], ..Settings::default() });
    let (leader, mut standby) = two(&world);
    let (still, churn, before) = steady(&world, "hand");
    let ids = still.entry_ids();
    churn.scale(DEPLOYMENTS, "game", 25);
    await_mutations(&world, 5);
    let held = holder(&world);
    let began = Instant::now();
    let (status, said) = leader.terminate();
    assert!(status.success(), "it ended with {status}: {}", said.join("\n"));
    let ended = began.elapsed();
    assert!(!held.is_empty() && holder(&world) != held, "{held} gave the lease back");
    standby.await_leading();
    println!(
        "SIGTERM: ended after {:.2} s, succeeded after {:.2} s",
        ended.as_secs_f64(),
        began.elapsed().as_secs_f64()
    );
    assert!(began.elapsed() < GIVEN_BACK_MAX, "the lease is given back: {:?}", began.elapsed());
    churn.await_mapped(&world, 25);
    assert_eq!(still.await_mapped(&world, before.len()), before);
    assert_eq!((still.entry_ids(), taken(&world, &ids)), (ids, BTreeSet::new()));
    world.end(vec![standby]);
}

fn a_leader_that_is_cut_off_stops_in_time(plane: &ControlPlane) {
    let world = World::new(plane, &Settings { patience: CRASH_PATIENCE, ..Settings::default() });
    let [of_old, of_new] = [Proxy::before(plane), Proxy::before(plane)];
    let cloud_of_old = Proxy::before_cloud(world.cloud());
    let kubeconfig = |name, proxy: &Proxy| plane.kubeconfig_of(name, &proxy.server(), plane.token());
    let mut cut_off = world.replica_with("a", &kubeconfig("of-old", &of_old), &cloud_of_old.address(), &[]);
    cut_off.await_leading();
    let mut other = world.replica_of("b", &kubeconfig("of-new", &of_new));
    other.await_standing_by();
    let effects = Effects::of(&world.path("ledger"));
    let (still, churn, before) = steady(&world, "cut");
    let ids = still.entry_ids();
    churn.scale(DEPLOYMENTS, "game", 25);
    await_mutations(&world, 5);
    of_old.cut_off();
    let began = Instant::now();
    eventually("end of who is cut off", PATIENCE, || is(!cut_off.is_alive(), "it still runs"));
    let (ended, early) = (began.elapsed(), other.leads());
    other.await_leading();
    println!(
        "cut off: ended after {:.2} s, succeeded after {:.2} s",
        ended.as_secs_f64(),
        began.elapsed().as_secs_f64()
    );
    assert!(ended < LEASE_DURATION && !early, "it still led after {ended:?}, when another may");
    assert!(began.elapsed() < TAKEOVER_MAX, "{:?}", began.elapsed());
    churn.await_mapped(&world, 25);
    churn.scale(DEPLOYMENTS, "game", 5);
    churn.await_mapped(&world, 5);
    assert_eq!(still.await_mapped(&world, before.len()), before);
    assert_eq!((still.entry_ids(), taken(&world, &ids)), (ids, BTreeSet::new()));
    assert_eq!(old_over_new(&of_old.asked(), &of_new.asked()), [""; 0]);
    assert_eq!(taken_away(&of_new.asked(), &effects.end()), [""; 0]);
    let lost = of_old.asked().iter().filter(|asked| asked.fault.is_some() && asked.path.contains("/leases/")).count();
    assert!(lost > 0, "no attempt to renew was lost");
    world.end(vec![other]);
}

fn a_leader_without_history(plane: &ControlPlane) {
    let world = World::new(plane, &Settings::default());
    let mut leader = world.leader();
    let (still, churn, mut before) = steady(&world, "history");
    let others = world.namespace("history-others");
    others.create(DEPLOYMENTS, &deployment("other", 0, "80"));
    let old = world.path("old");
    for what in ["an empty", "an old", "a foreign"] {
        let journal = leader.journal.clone();
        let (status, said) = leader.terminate();
        assert!(status.success(), "it ended with {status}: {}", said.join("\n"));
        match what {
            "an empty" => {
                fs::rename(&journal, &old).unwrap();
            }
            "an old" => {
                fs::remove_dir_all(&journal).unwrap();
                copy(&old, &journal).unwrap();
            }
            _ => {
                // The journal of somebody else's cluster: another world's leader wrote it.
                fs::remove_dir_all(&journal).unwrap();
                foreign(&journal);
            }
        }
        let from = mutations(&world.ledger());
        leader = world.leader();
        // It is at work: a pod that comes is mapped, and the one entry is all that it did.
        churn.scale(DEPLOYMENTS, "game", 1);
        churn.await_mapped(&world, 1);
        assert_eq!(still.await_mapped(&world, before.len()), before, "{what} journal");
        assert_eq!(mutations(&world.ledger()) - from, 1, "{what} journal");
        churn.scale(DEPLOYMENTS, "game", 0);
        eventually("end of the one", PATIENCE, || is(churn.poddnats().is_empty(), churn.poddnats().len()));
        if what == "an empty" {
            // What the old journal knows is wrong by the time it comes back.
            before = ports_change_hands(&world, &still, &others, &before);
        }
    }
    world.end(vec![leader]);
}

/// Replaces half of the pods, and lets others have the ports that they had. Gives what the pods have then.
fn ports_change_hands(world: &World<'_>, still: &Namespace<'_>, others: &Namespace<'_>, before: &Mapped) -> Mapped {
    let leaving: Vec<_> = before.keys().take(before.len() / 2).collect();
    for name in &leaving {
        still.delete("pods", name, &json!({ "gracePeriodSeconds": 0 }));
    }
    let had: BTreeSet<_> = leaving.iter().flat_map(|name| before[*name].clone()).collect();
    let after = eventually("others in their place", world.patience, || {
        let after = still.mapped(world, before.len())?;
        is(leaving.iter().all(|name| !after.contains_key(*name)), after.keys())?;
        Ok(after)
    });
    // A port rests before another may have it: others come one after another until they have some of these.
    let mut count = STEADY;
    let changed = eventually("ports that changed hands", world.patience, || {
        count += 1;
        others.scale(DEPLOYMENTS, "other", count);
        let theirs = others.await_mapped(world, usize::try_from(count).unwrap());
        let changed = theirs.values().flatten().filter(|external| had.contains(external)).count();
        is(changed > 0, format!("none of {had:?}"))?;
        Ok(changed)
    });
    println!("{changed} of {} ports that were let go are another pod's", had.len());
    assert_eq!(after.values().flatten().count(), before.values().flatten().count());
    after
}

/// A journal that a sandbox wrote: whole, and of a cluster that is not this one.
fn foreign(journal: &std::path::Path) {
    let folder = tempfile::tempdir().unwrap();
    let mut sandbox = crate::world::natgw(&["sandbox", "--settle", "--speed", "20", "--journal"]);
    sandbox.arg(folder.path()).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let status = crate::children::launch(sandbox).unwrap().wait().unwrap();
    assert!(status.success(), "{status}");
    copy(&folder.path().join("journal"), journal).unwrap();
}
