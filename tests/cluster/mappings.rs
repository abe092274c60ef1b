//! What users do, and what is left of it: the end equals the wish, whatever happened between.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::api::{eventually, is, propagation};
use crate::control_plane::{ControlPlane, condition, create_node};
use crate::exposure::Exposure;
use crate::workloads::{
    GATE, deployment, fixed_stateful_set, gated_deployment, pod, pod_of_ours, pod_on, running_at, succeeded_at,
};
use crate::world::{Namespace, PATIENCE, Settings, World, text};
use crate::{Case, Needs, Tier};

/// What any cluster can do.
const fn case(name: &'static str, tier: Tier, run: fn(&ControlPlane)) -> Case {
    Case { name, tier, needs: Needs::Controllers, run }
}

/// What needs our nodes.
const fn on_our_nodes(name: &'static str, run: fn(&ControlPlane)) -> Case {
    Case { name, tier: Tier::Full, needs: Needs::Ours, run }
}

pub const CASES: &[Case] = &[
    case("mappings::the_documented_sample_through_both_versions", Tier::Short, the_documented_sample),
    case("mappings::a_deleted_deployment_leaves_nothing", Tier::Short, a_deleted_deployment_leaves_nothing),
    case("mappings::fifty_come_and_go_and_come", Tier::Short, fifty_come_and_go_and_come),
    case("mappings::a_rolling_update_ends_as_wished", Tier::Full, a_rolling_update_ends_as_wished),
    on_our_nodes("mappings::a_gate_opens_when_the_pod_is_mapped", a_gate_opens_when_the_pod_is_mapped),
    on_our_nodes("mappings::fixed_addresses_survive_their_pods", fixed_addresses_survive_their_pods),
    case("mappings::a_name_is_used_again_at_once", Tier::Full, a_name_is_used_again_at_once),
    case("mappings::pods_that_are_removed_by_force", Tier::Full, pods_that_are_removed_by_force),
    on_our_nodes("mappings::a_stateful_set_is_made_anew", a_stateful_set_is_made_anew),
    on_our_nodes("mappings::an_address_is_used_again", an_address_is_used_again),
    on_our_nodes("mappings::an_address_of_a_finished_pod_is_used_again", an_address_of_a_finished_pod_is_used_again),
    case("mappings::a_namespace_ends_with_live_mappings", Tier::Full, a_namespace_ends_with_live_mappings),
    on_our_nodes("mappings::a_node_is_deleted", a_node_is_deleted),
    case("mappings::what_others_break_is_healed", Tier::Full, what_others_break_is_healed),
    case("mappings::every_edited_leaf_is_healed", Tier::Full, every_edited_leaf_is_healed),
];

const DEPLOYMENTS: &str = "apps/v1/deployments";
const STATEFUL_SETS: &str = "apps/v1/statefulsets";

/// Controllers look at orphaned pods of a node every 20 s, and wait for it to come back for 40 s.
const NODE_PATIENCE: Duration = Duration::from_secs(150);

/// Between the end of a pod and the next of its name.
const AT_ONCE: Duration = Duration::from_millis(100);

/// Every path of keys in the documented PodDNAT, without its sequence of list items (ack-pod-dnat.txt).
const DOCUMENTED: &[&str] = &[
    "metadata.creationTimestamp",
    "metadata.finalizers",
    "metadata.generation",
    "metadata.name",
    "metadata.namespace",
    "metadata.ownerReferences.apiVersion",
    "metadata.ownerReferences.blockOwnerDeletion",
    "metadata.ownerReferences.kind",
    "metadata.ownerReferences.name",
    "metadata.ownerReferences.uid",
    "metadata.resourceVersion",
    "metadata.uid",
    "spec.eni",
    "spec.externalIP",
    "spec.internalIP",
    "spec.portMapping.externalPort",
    "spec.portMapping.internalPort",
    "spec.protocol",
    "spec.tableId",
    "spec.vswitch",
    "spec.zoneID",
    "status.entries.externalIP",
    "status.entries.externalPort",
    "status.entries.forwardEntryId",
    "status.entries.internalIP",
    "status.entries.internalPort",
    "status.entries.ipProtocol",
];

/// What design.md §5 adds.
const ADDED: &[&str] = &[
    "metadata.annotations.k8s.aliyun.com/pod-dnat-claim",
    "status.conditions.lastTransitionTime",
    "status.conditions.message",
    "status.conditions.reason",
    "status.conditions.status",
    "status.conditions.type",
    "status.externalAddress",
];

/// The paths of all leaves; items of lists have the list's.
fn leaves(value: &Value, path: &str, into: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
            fields.iter().for_each(|(key, value)| leaves(value, &below(key), into));
        }
        Value::Array(items) => items.iter().for_each(|item| leaves(item, path, into)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            into.insert(path.to_owned());
        }
    }
}

fn the_documented_sample(plane: &ControlPlane) {
    let world = World::new(plane, &Settings::default());
    let leader = world.leader();
    let namespace = world.namespace("sample");
    let in_it = ["-n", namespace.name.as_str()];
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/sample.yaml");
    let began = Instant::now();
    plane.kubectl(&[&["apply", "-f", sample], &in_it[..]].concat(), "").unwrap();
    namespace.await_mapped(&world, 1);
    println!("the sample is mapped {:.2} s after kubectl apply", began.elapsed().as_secs_f64());

    let expected: BTreeSet<_> =
        DOCUMENTED.iter().chain(ADDED).chain(&["apiVersion", "kind"]).map(|path| (*path).to_owned()).collect();
    for version in ["v1", "v1beta1"] {
        let kind = format!("poddnats.{version}.alibabacloud.com");
        let list = plane.kubectl(&[&["get", &kind, "-o", "json"], &in_it[..]].concat(), "").unwrap();
        let list: Value = serde_json::from_str(&list).unwrap();
        let [object] = list["items"].as_array().unwrap().as_slice() else { panic!("{list:#}") };
        let mut found = BTreeSet::new();
        leaves(object, "", &mut found);
        assert_eq!(found, expected, "{version}");
        assert_eq!(object["apiVersion"], format!("alibabacloud.com/{version}"));
        let pod = &namespace.pods()[0];
        assert_eq!(object["metadata"]["finalizers"], json!(["natgw-controller"]));
        assert_eq!(object["metadata"]["ownerReferences"][0]["uid"], pod["metadata"]["uid"]);
        assert_eq!(object["spec"]["portMapping"], json!([{ "externalPort": "512", "internalPort": "80" }]));
        assert_eq!(object["spec"]["internalIP"], pod["status"]["podIP"]);
        assert_eq!(object["spec"]["protocol"], "tcp");
    }
    let table = plane.kubectl(&[&["get", "pdnat"], &in_it[..]].concat(), "").unwrap();
    assert!(table.contains(":512/tcp") && table.contains("True"), "{table}");
    world.end(vec![leader]);
}

fn a_deleted_deployment_leaves_nothing(plane: &ControlPlane) {
    let world = World::new(plane, &Settings::default());
    let leader = world.leader();
    let namespace = world.namespace("deletion");
    for policy in ["Background", "Foreground"] {
        namespace.create(DEPLOYMENTS, &deployment("game", 5, "80,443/udp"));
        namespace.await_mapped(&world, 5);
        namespace.delete(DEPLOYMENTS, "game", &propagation(policy));
        let took = world.await_nothing_left();
        eventually("end of the pods", PATIENCE, || is(namespace.pods().is_empty(), namespace.pods().len()));
        // One that goes in the foreground goes after its pods.
        let path = format!("{}/game", namespace.path(DEPLOYMENTS));
        eventually("end of the Deployment", PATIENCE, || is(world.api.find(&path).is_none(), &path));
        println!("{policy}: nothing is left {:.1} s after the deletion", took.as_secs_f64());
    }
    namespace.create(DEPLOYMENTS, &deployment("game", 5, "80,443/udp"));
    let before = namespace.await_mapped(&world, 5);
    namespace.delete(DEPLOYMENTS, "game", &propagation("Orphan"));
    let set = world.api.list(&namespace.path("apps/v1/replicasets"))[0]["metadata"]["name"].clone();
    eventually("orphaned ReplicaSet", PATIENCE, || {
        let sets = world.api.list(&namespace.path("apps/v1/replicasets"));
        is(sets[0]["metadata"]["ownerReferences"].is_null(), &sets[0]["metadata"])
    });
    namespace.delete("apps/v1/replicasets", &text(&set), &propagation("Orphan"));
    eventually("orphaned pods", PATIENCE, || {
        let pods = namespace.pods();
        is(pods.iter().all(|pod| pod["metadata"]["ownerReferences"].is_null()), pods.len())
    });
    assert_eq!(namespace.await_mapped(&world, 5), before, "nobody's pods keep their mappings");
    world.api.delete(&namespace.path("pods"), &propagation("Background")).unwrap();
    world.await_nothing_left();
    world.end(vec![leader]);
}

fn fifty_come_and_go_and_come(plane: &ControlPlane) {
    let world = World::new(plane, &Settings::default());
    let leader = world.leader();
    let namespace = world.namespace("fifty");
    let exposure = Exposure::of(plane, &world);
    namespace.create(DEPLOYMENTS, &deployment("game", 0, "80"));
    for replicas in [50, 0, 50] {
        let began = Instant::now();
        namespace.scale(DEPLOYMENTS, "game", replicas);
        if replicas == 0 {
            world.await_nothing_left();
        } else {
            namespace.await_mapped(&world, usize::try_from(replicas).unwrap());
        }
        println!("{replicas} pods as wished after {:.1} s", began.elapsed().as_secs_f64());
    }
    println!("{}", exposure.end(&world));
    world.end(vec![leader]);
}

fn a_rolling_update_ends_as_wished(plane: &ControlPlane) {
    let world = World::new(plane, &Settings::default());
    let leader = world.leader();
    let namespace = world.namespace("rolling");
    let exposure = Exposure::of(plane, &world);
    namespace.create(DEPLOYMENTS, &gated_deployment("game", 20, "80,443"));
    let before: BTreeSet<_> = namespace.await_mapped(&world, 20).into_keys().collect();
    for revision in ["one", "two"] {
        let labels = json!({ "labels": { "app": "game", "revision": revision } });
        let path = format!("{}/game", namespace.path(DEPLOYMENTS));
        world.api.patch(&path, &json!({ "spec": { "template": { "metadata": labels } } })).unwrap();
        eventually("rollout", PATIENCE, || {
            let deployment = world.api.get(&path).unwrap();
            let (wished, status) = (&deployment["metadata"]["generation"], &deployment["status"]);
            let done = ["replicas", "updatedReplicas", "availableReplicas"].iter().all(|field| status[field] == 20);
            is(done && status["observedGeneration"] == *wished, status)
        });
    }
    let after: BTreeSet<_> = namespace.await_mapped(&world, 20).into_keys().collect();
    assert!(before.is_disjoint(&after));
    assert_eq!(world.entries().len(), 40);
    println!("{}", exposure.end(&world));
    world.end(vec![leader]);
}

fn a_gate_opens_when_the_pod_is_mapped(plane: &ControlPlane) {
    // Room for two pods, so that the third has to wait.
    let world = World::new(plane, &Settings { entry_quota: 2, ..Settings::default() });
    let leader = world.leader();
    let namespace = world.namespace("gate");
    let mut plain = pod_on("node-j", "does-not-ask", "80");
    plain["metadata"]["annotations"] = json!({});
    plain["spec"]["readinessGates"] = json!([{ "conditionType": GATE }]);
    namespace.create("pods", &plain);
    for name in ["one", "two", "three"] {
        let mut pod = pod_on("node-j", name, "80");
        pod["spec"]["readinessGates"] = json!([{ "conditionType": GATE }]);
        namespace.create("pods", &pod);
        let status = if name == "three" { "False" } else { "True" };
        eventually("answer at the gate", PATIENCE, || {
            let pod = world.api.get(&format!("{}/{name}", namespace.path("pods"))).unwrap();
            let annotation = pod["metadata"]["annotations"]["k8s.aliyun.com/pod-dnat-status"].is_string();
            is(condition(&pod, GATE) == Some(status) && annotation, (name, &pod["metadata"], &pod["status"]))
        });
    }
    let pods = |ready: &str| {
        let ready = |pod: &&Value| condition(pod, "Ready") == Some(ready);
        namespace.pods().iter().filter(ready).map(|pod| text(&pod["metadata"]["name"])).collect::<Vec<_>>()
    };
    eventually("Ready that follows the gates", PATIENCE, || {
        is(pods("True") == ["does-not-ask", "one", "two"] && pods("False") == ["three"], pods("True"))
    });
    // Room is made, and the one that waits is served.
    namespace.delete("pods", "one", &propagation("Background"));
    eventually("service of the one that waited", PATIENCE, || {
        is(pods("True").contains(&"three".to_owned()), pods("True"))
    });
    world.end(vec![leader]);
}

fn fixed_addresses_survive_their_pods(plane: &ControlPlane) {
    let world = World::new(plane, &Settings::default());
    let leader = world.leader();
    let namespace = world.namespace("fixed");
    let exposure = Exposure::of(plane, &world);
    namespace.create(STATEFUL_SETS, &fixed_stateful_set("room", 5, "80,443"));
    let before = namespace.await_mapped(&world, 5);
    let uids = |namespace: &Namespace<'_>| -> BTreeSet<String> {
        namespace.pods().iter().map(|pod| text(&pod["metadata"]["uid"])).collect()
    };
    let first = uids(&namespace);
    world.api.delete(&namespace.path("pods"), &propagation("Background")).unwrap();
    eventually("pods of the same names", PATIENCE, || {
        let now = uids(&namespace);
        is(now.len() == 5 && now.is_disjoint(&first), (now.len(), &first))
    });
    assert_eq!(namespace.await_mapped(&world, 5), before, "EIP and ports are kept");
    namespace.scale(STATEFUL_SETS, "room", 0);
    eventually("reservations without entries", PATIENCE, || {
        let entries = world.entries();
        is(namespace.pods().is_empty() && entries.is_empty() && namespace.poddnats().len() == 5, entries)
    });
    namespace.scale(STATEFUL_SETS, "room", 5);
    assert_eq!(namespace.await_mapped(&world, 5), before, "EIP and ports outlive an absence");
    println!("{}", exposure.end(&world));
    namespace.delete(STATEFUL_SETS, "room", &propagation("Background"));
    world.await_nothing_left();
    world.end(vec![leader]);
}

fn a_stateful_set_is_made_anew(plane: &ControlPlane) {
    let world = World::new(plane, &Settings::default());
    let leader = world.leader();
    let namespace = world.namespace("anew");
    let exposure = Exposure::of(plane, &world);
    let owners = || -> BTreeSet<String> {
        namespace.poddnats().iter().map(|object| text(&object["metadata"]["ownerReferences"][0]["uid"])).collect()
    };
    let create = || text(&namespace.create(STATEFUL_SETS, &fixed_stateful_set("room", 5, "80,443"))["metadata"]["uid"]);
    let first = create();
    let before = namespace.await_mapped(&world, 5);
    let ids = namespace.entry_ids();
    assert_eq!(owners(), BTreeSet::from([first]));

    // Its pods stay, and the next of its name takes them: nothing of theirs changes but whose they are.
    namespace.delete(STATEFUL_SETS, "room", &propagation("Orphan"));
    let path = format!("{}/room", namespace.path(STATEFUL_SETS));
    eventually("end of the StatefulSet", PATIENCE, || is(world.api.find(&path).is_none(), &path));
    let second = create();
    eventually("mappings of the next one", PATIENCE, || is(owners() == BTreeSet::from([second.clone()]), owners()));
    assert_eq!((namespace.await_mapped(&world, 5), namespace.entry_ids()), (before, ids));

    // Deleted with its pods, it frees what it had: whoever comes under its name at once starts anew.
    namespace.delete(STATEFUL_SETS, "room", &propagation("Background"));
    let third = create();
    eventually("mappings of the third", world.patience, || {
        is(owners() == BTreeSet::from([third.clone()]), owners())?;
        namespace.mapped(&world, 5)
    });
    assert_eq!(world.entries().len(), 10);
    println!("{}", exposure.end(&world));
    namespace.delete(STATEFUL_SETS, "room", &propagation("Background"));
    world.await_nothing_left();
    world.end(vec![leader]);
}

fn a_name_is_used_again_at_once(plane: &ControlPlane) {
    let world = World::new(plane, &Settings::default());
    let leader = world.leader();
    let namespace = world.namespace("again");
    let exposure = Exposure::of(plane, &world);
    let pods = namespace.path("pods");
    // The simulated kubelet removes a pod by its name, and sometimes takes the next one for the last: then there is none.
    let mapped = || {
        eventually("mapped pod", PATIENCE, || {
            if namespace.pods().is_empty() {
                namespace.create("pods", &pod("game", "80"));
            }
            namespace.mapped(&world, 1)
        });
    };
    mapped();
    // A busy machine is now and then too slow for it: such a round is one more.
    let (mut quick, mut round) = (0, 0);
    while quick < 10 {
        assert!(round < 40, "{quick} of {round} times a name was used again within {AT_ONCE:?}");
        let began = Instant::now();
        let gone = world.api.delete(&format!("{pods}/game"), &json!({ "gracePeriodSeconds": 0 }));
        assert!(gone.as_ref().err().is_none_or(|refused| refused.status == 404), "{gone:?}");
        namespace.create("pods", &pod("game", "80"));
        quick += usize::from(began.elapsed() < AT_ONCE);
        // Every other time the next comes before the last is mapped.
        if round % 2 == 0 {
            mapped();
        }
        round += 1;
    }
    mapped();
    assert_eq!(world.entries().len(), 1);
    println!("{}", exposure.end(&world));
    world.end(vec![leader]);
}

fn pods_that_are_removed_by_force(plane: &ControlPlane) {
    let world = World::new(plane, &Settings::default());
    let leader = world.leader();
    let namespace = world.namespace("force");
    let exposure = Exposure::of(plane, &world);
    namespace.create(DEPLOYMENTS, &deployment("game", 10, "80"));
    let before = namespace.await_mapped(&world, 10);
    let names: Vec<_> = before.keys().map(String::as_str).collect();
    let force = ["delete", "pod", "--force", "--grace-period=0", "-n", &namespace.name];
    plane.kubectl(&[&force[..], &names].concat(), "").unwrap();
    let after = eventually("ten others", PATIENCE, || {
        let after = namespace.mapped(&world, 10)?;
        is(after.keys().all(|name| !before.contains_key(name)), "the old ones are still there")?;
        is(world.entries().len() == 10, world.entries().len())?;
        Ok(after)
    });
    assert_eq!(after.len(), 10);
    println!("{}", exposure.end(&world));
    world.end(vec![leader]);
}

fn an_address_is_used_again(plane: &ControlPlane) {
    let world = World::new(plane, &Settings::default());
    let leader = world.leader();
    let namespace = world.namespace("reuse");
    let exposure = Exposure::of(plane, &world);
    let address = "172.16.200.1";
    let run = |name: &str| {
        namespace.create("pods", &pod_of_ours(name, "80"));
        world.api.patch(&format!("{}/{name}/status", namespace.path("pods")), &running_at(address)).unwrap();
    };
    run("one");
    namespace.await_mapped(&world, 1);
    // Both are there, and the address is the second's before the first has gone.
    run("two");
    eventually("second pod that waits", PATIENCE, || {
        let pod = world.api.get(&format!("{}/two", namespace.path("pods"))).unwrap();
        let status = &pod["metadata"]["annotations"]["k8s.aliyun.com/pod-dnat-status"];
        is(status.as_str().is_some_and(|status| status.contains("AddressStillMapped")), status)
    });
    assert_eq!(world.entries().len(), 1);
    namespace.delete("pods", "one", &json!({ "gracePeriodSeconds": 0 }));
    namespace.await_mapped(&world, 1);
    assert_eq!(world.entries().len(), 1);
    println!("{}", exposure.end(&world));
    world.end(vec![leader]);
}

/// From the moment at which a pod has the address of one that has ended until no entry of that one is left.
const EXPOSED_MAX: Duration = Duration::from_secs(10);

fn an_address_of_a_finished_pod_is_used_again(plane: &ControlPlane) {
    let world = World::new(plane, &Settings::default());
    let leader = world.leader();
    let namespace = world.namespace("finished");
    let exposure = Exposure::of(plane, &world);
    let address = "172.16.200.2";
    let status = |name: &str, status: &Value| {
        world.api.patch(&format!("{}/{name}/status", namespace.path("pods")), status).unwrap();
    };
    namespace.create("pods", &pod_of_ours("one", "80"));
    status("one", &running_at(address));
    namespace.await_mapped(&world, 1);
    let ids = namespace.entry_ids();
    namespace.create("pods", &pod_of_ours("two", "80"));
    // The first has ended, its object stays, and its address is another's at once.
    status("one", &succeeded_at(address));
    status("two", &running_at(address));
    let poddnats = namespace.path("alibabacloud.com/v1beta1/poddnats");
    let two = eventually("mapping of the second", world.patience, || {
        let object = world.api.find(&format!("{poddnats}/two")).ok_or("there is none")?;
        is(object["status"]["entries"][0]["internalIP"] == address, &object["status"])?;
        Ok(text(&object["status"]["entries"][0]["forwardEntryId"]))
    });
    eventually("end of the first's", world.patience, || {
        is(namespace.poddnats().len() == 1, namespace.poddnats().len())
    });
    assert!(world.entries().len() == 1 && !ids["one"].contains(&two), "{ids:?} and {two}");
    let phases: Vec<_> = namespace.pods().iter().map(|pod| text(&pod["status"]["phase"])).collect();
    assert_eq!(phases, ["Succeeded", "Running"], "both are there");
    let exposed = exposure.end(&world);
    println!("{exposed}");
    let (times, longest) = exposed.longest();
    assert!(times == 1 && longest < EXPOSED_MAX, "{exposed}");
    world.end(vec![leader]);
}

fn a_namespace_ends_with_live_mappings(plane: &ControlPlane) {
    let world = World::new(plane, &Settings::default());
    let leader = world.leader();
    let namespace = world.namespace("ending");
    let exposure = Exposure::of(plane, &world);
    namespace.create(DEPLOYMENTS, &deployment("game", 20, "80"));
    namespace.create(STATEFUL_SETS, &fixed_stateful_set("room", 3, "80"));
    namespace.create("pods", &pod("alone", "80"));
    namespace.await_mapped(&world, 24);
    let began = Instant::now();
    crate::world::end_namespaces(&world.api);
    println!("the namespace of 24 mapped pods is gone after {:.1} s", began.elapsed().as_secs_f64());
    world.await_nothing_left();
    let exposed = exposure.end(&world);
    println!("{exposed}");
    assert_eq!(exposed.longest(), (0, Duration::ZERO), "{exposed}");
    world.end(vec![leader]);
}

fn a_node_is_deleted(plane: &ControlPlane) {
    let world = World::new(plane, &Settings::default());
    let leader = world.leader();
    let namespace = world.namespace("node");
    let exposure = Exposure::of(plane, &world);
    create_node(&world.api, "node-that-goes", "172.16.128.0/17");
    for name in ["one", "two", "three"] {
        namespace.create("pods", &pod_on("node-that-goes", name, "80"));
    }
    namespace.await_mapped(&world, 3);
    world.api.delete("/api/v1/nodes/node-that-goes", &propagation("Background")).unwrap();
    let began = Instant::now();
    eventually("end of the pods of a deleted node", NODE_PATIENCE, || {
        let pods = namespace.pods();
        is(pods.is_empty(), pods.len())
    });
    println!("the pods of a deleted node are gone after {:.1} s", began.elapsed().as_secs_f64());
    world.await_nothing_left();
    let exposed = exposure.end(&world);
    println!("{exposed}");
    assert_eq!(exposed.longest(), (0, Duration::ZERO), "{exposed}");
    world.end(vec![leader]);
}

fn what_others_break_is_healed(plane: &ControlPlane) {
    let world = World::new(plane, &Settings::default());
    let leader = world.leader();
    let namespace = world.namespace("broken");
    namespace.create("pods", &pod("game", "80,53/udp"));
    let before = namespace.await_mapped(&world, 1);
    let path = format!("{}/game", namespace.path("alibabacloud.com/v1beta1/poddnats"));
    world.api.patch(&format!("{path}/status"), &json!({ "status": null })).unwrap();
    let after = eventually("repair of a cleared status", PATIENCE, || namespace.mapped(&world, 1));
    assert_eq!(after, before);
    for edit in edits_of_the_status(&world.api.get(&path).unwrap()) {
        is_healed(&world, &namespace, &format!("{path}/status"), &edit);
    }
    world.api.patch(&path, &json!({ "metadata": { "finalizers": null } })).unwrap();
    eventually("finalizer that is set again", PATIENCE, || {
        let metadata = world.api.get(&path).unwrap()["metadata"].clone();
        is(metadata["finalizers"] == json!(["natgw-controller"]), &metadata["finalizers"])
    });
    // Stripped and deleted: it is written again with its allocation.
    let uid = world.api.get(&path).unwrap()["metadata"]["uid"].clone();
    world.api.patch(&path, &json!({ "metadata": { "finalizers": null } })).unwrap();
    world.api.delete(&path, &propagation("Background")).unwrap();
    eventually("PodDNAT that is written again", PATIENCE, || {
        let object = world.api.find(&path).ok_or("there is none")?;
        is(object["metadata"]["uid"] != uid, &object["metadata"]["uid"])
    });
    eventually("mapping of the same pod", PATIENCE, || namespace.mapped(&world, 1));
    world.end(vec![leader]);
}

fn every_edited_leaf_is_healed(plane: &ControlPlane) {
    let world = World::new(plane, &Settings::default());
    let leader = world.leader();
    let namespace = world.namespace("edited");
    // One object is left alone after three heals in ten minutes: each edit has its own.
    let pods = edits(&Value::Null).len();
    for number in 0..pods {
        namespace.create("pods", &pod(&format!("game-{number:02}"), "80,53/udp"));
    }
    let before = namespace.await_mapped(&world, pods);
    let ids = namespace.entry_ids();
    let objects = namespace.poddnats();
    let poddnats = namespace.path("alibabacloud.com/v1beta1/poddnats");
    for (number, object) in objects.iter().enumerate() {
        let (what, edit) = edits(object).swap_remove(number);
        let edited = world.api.patch(&format!("{poddnats}/{}", text(&object["metadata"]["name"])), &edit).unwrap();
        assert_ne!(says(&edited), says(object), "{what}");
    }
    for (number, object) in objects.iter().enumerate() {
        let (what, _) = edits(object).swap_remove(number);
        eventually(&format!("repair of {what}"), PATIENCE, || {
            let now = world.api.get(&format!("{poddnats}/{}", text(&object["metadata"]["name"]))).unwrap();
            is(says(&now) == says(object), (says(&now), says(object)))
        });
    }
    assert_eq!((namespace.await_mapped(&world, pods), namespace.entry_ids()), (before, ids));
    assert_eq!(world.entries().len(), 2 * pods);
    println!("{pods} edits of spec and claim were healed, and no entry was touched");
    world.end(vec![leader]);
}

/// Of a PodDNAT what natgw says with it.
fn says(object: &Value) -> (Value, Value, Value) {
    (object["spec"].clone(), object["metadata"]["annotations"].clone(), object["status"]["entries"].clone())
}

const CLAIM: &str = "k8s.aliyun.com/pod-dnat-claim";

/// Every leaf of the spec and of the claim, each edited alone: what it is, and the patch.
fn edits(object: &Value) -> Vec<(String, Value)> {
    let mut edits = Vec::new();
    for leaf in ["eni", "externalIP", "internalIP", "protocol", "tableId", "vswitch", "zoneID"] {
        let to = if leaf.ends_with("IP") { "10.9.9.9" } else { "elsewhere" };
        edits.push((format!("spec.{leaf}"), json!({ "spec": { leaf: to } })));
    }
    for (port, leaf) in
        [(0, "externalPort"), (0, "internalPort"), (1, "externalPort"), (1, "internalPort"), (1, "protocol")]
    {
        let mut ports = object["spec"]["portMapping"].clone();
        if ports.is_array() {
            ports[port][leaf] = if leaf == "protocol" { "tcp" } else { "4321" }.into();
        }
        edits.push((format!("spec.portMapping[{port}].{leaf}"), json!({ "spec": { "portMapping": ports } })));
    }
    let mut fewer = object["spec"]["portMapping"].clone();
    fewer.as_array_mut().map(Vec::pop);
    edits.push(("a port that is gone".to_owned(), json!({ "spec": { "portMapping": fewer } })));
    edits.push(("a spec that is gone".to_owned(), json!({ "spec": null })));
    let claim: Value = serde_json::from_str(object["metadata"]["annotations"][CLAIM].as_str().unwrap_or("{}")).unwrap();
    let (term, n) = claim["allocation"].as_str().and_then(|stamp| stamp.split_once('.')).unwrap_or(("1", "1"));
    // That of another pod: a number that was never given out would be another leader's.
    let another = format!("{term}.{}", if n == "1" { "2" } else { "1" });
    let leaves = [
        ("/allocation", another.into()),
        ("/term", json!(900)),
        ("/podUID", json!("somebody")),
        ("/fixed", json!(true)),
        ("/gateway", json!("ngw-elsewhere")),
        ("/table", json!("ftb-elsewhere")),
        ("/items/0/external", json!(4_321)),
        ("/items/0/internal", json!(4_321)),
        ("/items/1/protocol", json!("tcp")),
        ("/items/1/generation", json!("1.999")),
        ("/items/1/portBreak", json!(true)),
    ];
    for (leaf, to) in leaves {
        let mut claim = claim.clone();
        if let Some(value) = claim.pointer_mut(leaf) {
            *value = to;
        }
        let annotations = json!({ CLAIM: claim.to_string() });
        edits.push((format!("claim{leaf}"), json!({ "metadata": { "annotations": annotations } })));
    }
    edits.push(("a claim that is gone".to_owned(), json!({ "metadata": { "annotations": { CLAIM: null } } })));
    edits
}

/// An entry of the status that is gone, and one of which each leaf is another.
fn edits_of_the_status(object: &Value) -> Vec<(String, Value)> {
    let entries = &object["status"]["entries"];
    let mut fewer = entries.clone();
    fewer.as_array_mut().unwrap().remove(0);
    let mut edits = vec![("an entry that is gone".to_owned(), json!({ "status": { "entries": fewer } }))];
    for leaf in ["externalIP", "externalPort", "forwardEntryId", "internalIP", "internalPort", "ipProtocol"] {
        let mut entries = entries.clone();
        entries[1][leaf] = "10".into();
        edits.push((format!("entries[1].{leaf}"), json!({ "status": { "entries": entries } })));
    }
    edits.push(("externalAddress".to_owned(), json!({ "status": { "externalAddress": "10.9.9.9:1/tcp" } })));
    edits
}

/// Patches, and waits until the object says again what it said.
fn is_healed(world: &World<'_>, namespace: &Namespace<'_>, path: &str, (what, edit): &(String, Value)) {
    let read = || world.api.get(path).unwrap();
    let before = (read()["status"].clone(), namespace.entry_ids());
    let edited = world.api.patch(path, edit).unwrap();
    assert_ne!(edited["status"], before.0, "{what}");
    eventually(&format!("repair of {what}"), PATIENCE, || is(read()["status"] == before.0, &read()["status"]));
    eventually(&format!("mapping after {what}"), PATIENCE, || namespace.mapped(world, 1));
    assert_eq!(namespace.entry_ids(), before.1, "{what}");
}
