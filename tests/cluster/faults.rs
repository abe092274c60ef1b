//! An API server that goes away, refuses, loses answers and forgets versions: everything converges, nothing is done twice.

use crate::api::eventually;
use crate::control_plane::ControlPlane;
use crate::evidence::assert_each_item_once;
use crate::proxy::{Asked, Fault, Proxy, Strike};
use crate::workloads::deployment;
use crate::world::{PATIENCE, Settings, World};
use crate::{Case, Needs, Tier};

pub const CASES: &[Case] = &[
    Case {
        name: "faults::the_api_server_is_killed_during_churn",
        tier: Tier::Full,
        needs: Needs::Ours,
        run: the_api_server_is_killed_during_churn,
    },
    Case {
        name: "faults::bursts_lost_answers_and_versions_that_are_too_old",
        tier: Tier::Full,
        needs: Needs::Ours,
        run: bursts_lost_answers_and_versions_that_are_too_old,
    },
];

const DEPLOYMENTS: &str = "apps/v1/deployments";

fn the_api_server_is_killed_during_churn(plane: &ControlPlane) {
    let world = World::new(plane, &Settings { lease: ["15s", "10s", "2s"], ..Settings::default() });
    let leader = world.leader();
    let namespace = world.namespace("server");
    namespace.create(DEPLOYMENTS, &deployment("game", 40, "80"));
    for replicas in [40, 10, 30] {
        namespace.scale(DEPLOYMENTS, "game", replicas);
        eventually("some of them", PATIENCE, || {
            let poddnats = namespace.poddnats().len();
            crate::api::is(poddnats > 5, poddnats)
        });
        plane.kill_api_server();
        plane.start_api_server();
        namespace.await_mapped(&world, usize::try_from(replicas).unwrap());
    }
    assert_each_item_once(&world.ledger());
    world.end(vec![leader]);
}

/// A write of PodDNATs, pods or events; never of the Lease, whose loss is another test's.
fn writes(asked: &Asked) -> bool {
    asked.mutates() && !asked.path.contains("/leases")
}

fn bursts_lost_answers_and_versions_that_are_too_old(plane: &ControlPlane) {
    let world = World::new(plane, &Settings { lease: ["15s", "10s", "2s"], ..Settings::default() });
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
        let struck = asked.iter().filter(|asked| asked.fault == Some(fault)).count();
        assert_eq!(struck, times, "{fault:?}");
    }
    let writes = asked.iter().filter(|asked| writes(asked) && asked.fault.is_none()).count();
    println!("{} requests, {writes} writes, with 80 lost or refused and 8 watches too old", asked.len());
    assert_each_item_once(&world.ledger());
    world.end(vec![leader]);
}
