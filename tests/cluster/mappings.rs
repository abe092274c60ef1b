//! What users do, and what is left of it: the end equals the wish, whatever happened between.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::api::{eventually, is, propagation};
use crate::control_plane::{ControlPlane, condition, create_node};
use crate::exposure::Exposure;
use crate::workloads::{GATE, deployment, fixed_stateful_set, gated_deployment, pod, pod_of_ours, pod_on, running_at};
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
    on_our_nodes("mappings::an_address_is_used_again", an_address_is_used_again),
    case("mappings::a_namespace_ends_with_live_mappings", Tier::Full, a_namespace_ends_with_live_mappings),
    on_our_nodes("mappings::a_node_is_deleted", a_node_is_deleted),
    case("mappings::what_others_break_is_healed", Tier::Full, what_others_break_is_healed),
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

fn a_namespace_ends_with_live_mappings(plane: &ControlPlane) {
    let world = World::new(plane, &Settings::default());
    let leader = world.leader();
    let namespace = world.namespace("ending");
    namespace.create(DEPLOYMENTS, &deployment("game", 20, "80"));
    namespace.create(STATEFUL_SETS, &fixed_stateful_set("room", 3, "80"));
    namespace.create("pods", &pod("alone", "80"));
    namespace.await_mapped(&world, 24);
    let began = Instant::now();
    crate::world::end_namespaces(&world.api);
    println!("the namespace of 24 mapped pods is gone after {:.1} s", began.elapsed().as_secs_f64());
    world.await_nothing_left();
    world.end(vec![leader]);
}

fn a_node_is_deleted(plane: &ControlPlane) {
    let world = World::new(plane, &Settings::default());
    let leader = world.leader();
    let namespace = world.namespace("node");
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
    world.end(vec![leader]);
}

fn what_others_break_is_healed(plane: &ControlPlane) {
    let world = World::new(plane, &Settings::default());
    let leader = world.leader();
    let namespace = world.namespace("broken");
    namespace.create("pods", &pod("game", "80"));
    let before = namespace.await_mapped(&world, 1);
    let path = format!("{}/game", namespace.path("alibabacloud.com/v1beta1/poddnats"));
    let healed = |what: &str| {
        let after = eventually(&format!("repair of {what}"), PATIENCE, || namespace.mapped(&world, 1));
        assert_eq!(after, before, "{what}");
    };
    world.api.patch(&format!("{path}/status"), &json!({ "status": null })).unwrap();
    healed("a cleared status");
    world.api.patch(&path, &json!({ "spec": { "internalIP": "10.9.9.9" } })).unwrap();
    eventually("repair of an edited spec", PATIENCE, || {
        let spec = world.api.get(&path).unwrap()["spec"].clone();
        is(spec["internalIP"] != "10.9.9.9", spec)
    });
    healed("an edited spec");
    world.api.patch(&path, &json!({ "metadata": { "finalizers": null } })).unwrap();
    eventually("finalizer that is set again", PATIENCE, || {
        let metadata = world.api.get(&path).unwrap()["metadata"].clone();
        is(metadata["finalizers"] == json!(["natgw-controller"]), &metadata["finalizers"])
    });
    healed("a stripped finalizer");
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
