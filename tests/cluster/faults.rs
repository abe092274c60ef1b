//! An API server that goes away, refuses, loses answers and forgets versions: everything converges, nothing is done twice.

use axum::http::Method;
use serde_json::json;

use crate::api::{Api, eventually};
use crate::control_plane::ControlPlane;
use crate::proxy::{Asked, Fault, Proxy, Strike};
use crate::workloads::deployment;
use crate::world::{CRASH_PATIENCE, PATIENCE, PODDNATS, Settings, World};
use crate::{Case, Needs, Tier};

pub const CASES: &[Case] = &[
    Case {
        name: "faults::the_api_server_is_killed_during_churn",
        tier: Tier::Full,
        needs: Needs::Ours,
        run: the_api_server_is_killed_during_churn,
    },
    Case { name: "faults::writes_a_pod", tier: Tier::Full, needs: Needs::Ours, run: writes_a_pod },
    Case {
        name: "faults::bursts_lost_answers_and_versions_that_are_too_old",
        tier: Tier::Full,
        needs: Needs::Ours,
        run: bursts_lost_answers_and_versions_that_are_too_old,
    },
];

/// Reads that go wrong in each way, beside the writes.
const READS: usize = 8;

const DEPLOYMENTS: &str = "apps/v1/deployments";

/// A lease that outlives what goes wrong here.
const SLOW: Settings = Settings {
    entry_quota: 1_000,
    adopt: false,
    lease: ["15s", "10s", "2s"],
    cooldown: "1s",
    patience: CRASH_PATIENCE,
    cloud: &[],
};

fn the_api_server_is_killed_during_churn(plane: &ControlPlane) {
    let world = World::new(plane, &SLOW);
    let leader = world.leader();
    let (still, namespace) = (world.namespace("server-still"), world.namespace("server"));
    still.create(DEPLOYMENTS, &deployment("game", 10, "80,443"));
    namespace.create(DEPLOYMENTS, &deployment("game", 40, "80"));
    let steady = still.await_mapped(&world, 10);
    let ids = still.entry_ids();
    for replicas in [40, 10, 30] {
        namespace.scale(DEPLOYMENTS, "game", replicas);
        eventually("some of them", PATIENCE, || {
            let poddnats = namespace.poddnats().len();
            crate::api::is(poddnats > 5, poddnats)
        });
        plane.kill_api_server();
        plane.start_api_server();
        namespace.await_mapped(&world, usize::try_from(replicas).unwrap());
        assert_eq!(still.await_mapped(&world, 10), steady);
        assert_eq!(still.entry_ids(), ids, "the entries of pods that stay are not made anew");
    }
    world.end(vec![leader]);
}

/// A write of PodDNATs, pods or events; never of the Lease, whose loss is another test's.
fn writes(asked: &Asked) -> bool {
    asked.mutates() && !asked.path.contains("/leases")
}

/// A list or a look at one object; never the Lease's.
fn reads(asked: &Asked) -> bool {
    asked.method == Method::GET && !asked.watches() && !asked.path.contains("/leases")
}

/// Who loses a request or an answer learns of it by the end of the connection alone.
fn nothing_is_answered(plane: &ControlPlane, world: &World<'_>) {
    let proxy = Proxy::before(plane);
    let api = Api::new(&proxy.server(), "", plane.token());
    api.get(PODDNATS).unwrap();
    for fault in [Fault::LostRequest, Fault::LostReply] {
        proxy.strike(Strike { fault, on: |_| true, times: 2 });
        let read = api.get(PODDNATS).unwrap_err();
        let name = format!("{fault:?}").to_lowercase();
        let written = api.create("/api/v1/namespaces/default/configmaps", &json!({ "metadata": { "name": name } }));
        for lost in [read, written.unwrap_err()] {
            assert!(lost.status == 0 && lost.message.contains("error sending request"), "{fault:?}: {lost}");
        }
        let path = format!("/api/v1/namespaces/default/configmaps/{name}");
        assert_eq!(world.api.find(&path).is_some(), fault == Fault::LostReply, "{fault:?}");
        world.api.delete(&path, &json!({})).ok();
    }
}

fn bursts_lost_answers_and_versions_that_are_too_old(plane: &ControlPlane) {
    let world = World::new(plane, &SLOW);
    nothing_is_answered(plane, &world);
    let proxy = Proxy::before(plane);
    let kubeconfig = plane.kubeconfig_of("through-proxy", &proxy.server(), plane.token());
    let mut leader = world.replica_of("a", &kubeconfig);
    leader.await_leading();
    let namespace = world.namespace("bursts");
    namespace.create(DEPLOYMENTS, &deployment("game", 0, "80,443/udp"));
    let strikes =
        [(Fault::Status(429), 20), (Fault::Status(500), 20), (Fault::LostReply, 20), (Fault::LostRequest, 20)];
    for (round, (fault, times)) in strikes.into_iter().enumerate() {
        proxy.strike(Strike { fault, on: writes, times });
        proxy.strike(Strike { fault, on: reads, times: READS });
        proxy.strike(Strike { fault: Fault::Expired, on: Asked::watches, times: 2 });
        let replicas = if round % 2 == 0 { 30 } else { 5 };
        namespace.scale(DEPLOYMENTS, "game", replicas);
        proxy.cut_watches();
        namespace.await_mapped(&world, usize::try_from(replicas).unwrap());
        eventually("end of what goes wrong", PATIENCE, || crate::api::is(proxy.left() == 0, proxy.left()));
    }
    namespace.scale(DEPLOYMENTS, "game", 20);
    namespace.await_mapped(&world, 20);
    let asked = proxy.asked();
    for (fault, times) in strikes {
        let struck =
            |on: fn(&Asked) -> bool| asked.iter().filter(|asked| asked.fault == Some(fault) && on(asked)).count();
        assert_eq!((struck(writes), struck(reads)), (times, READS), "{fault:?}");
    }
    let lists = asked.iter().filter(|asked| reads(asked) && asked.fault.is_some() && asked.path == PODDNATS).count();
    assert!(lists > 0, "no list of PodDNATs went wrong");
    let writes = asked.iter().filter(|asked| writes(asked) && asked.fault.is_none()).count();
    println!(
        "{} requests, {writes} writes, with 80 lost or refused, {} reads as well, and 8 watches too old",
        asked.len(),
        4 * READS
    );
    world.end(vec![leader]);
}

/// State writes of one pod until it is mapped (design.md §9): claim, status, and the pod's annotation; with a gate one more.
const WRITES_UP_MAX: usize = 4;

/// And from its end: status withdrawn, deletion asked for, finalizer. The pod has gone.
const WRITES_DOWN_MAX: usize = 4;

fn writes_a_pod(plane: &ControlPlane) {
    let world = World::new(plane, &Settings::default());
    let proxy = Proxy::before(plane);
    let kubeconfig = plane.kubeconfig_of("through-proxy", &proxy.server(), plane.token());
    let mut leader = world.replica_of("a", &kubeconfig);
    leader.await_leading();
    let namespace = world.namespace("writes");
    let pods = 50;
    let state = |asked: &&Asked| writes(asked) && !asked.path.ends_with("/events") && !asked.path.contains("/events/");
    namespace.create(DEPLOYMENTS, &deployment("game", 50, "80"));
    namespace.await_mapped(&world, pods);
    let up = proxy.asked().iter().filter(state).count();
    namespace.scale(DEPLOYMENTS, "game", 0);
    world.await_nothing_left();
    let asked = proxy.asked();
    let down = asked.iter().filter(state).count() - up;
    let refused = asked.iter().filter(|asked| asked.mutates() && asked.status >= 400).count();
    let a_pod = |writes: usize| f64::from(u32::try_from(writes).unwrap()) / 50.0;
    println!("state writes a pod: {:.2} up, {:.2} down; {refused} refused", a_pod(up), a_pod(down));
    println!("memory of the leader: {} MiB", leader.memory_kib() / 1_024);
    assert!(up <= WRITES_UP_MAX * pods, "{up} writes for {pods} pods");
    assert!(down <= WRITES_DOWN_MAX * pods, "{down} writes for {pods} pods");
    world.end(vec![leader]);
}
