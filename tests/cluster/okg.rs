//! OpenKruiseGame as a consumer (peers.md §2.3): its own CRD, and its plugin's behaviour.

use serde_json::{Value, json};

use crate::api::{eventually, is};
use crate::control_plane::ControlPlane;
use crate::evidence::mutations;
use crate::workloads::pod;
use crate::world::{Namespace, PATIENCE, Settings, World, install_crd, text};
use crate::{Case, Needs, Tier};

pub const CASES: &[Case] = &[
    Case {
        name: "okg::ready_under_its_own_crd_and_under_ours",
        tier: Tier::Full,
        needs: Needs::Controllers,
        run: ready_under_its_own_crd_and_under_ours,
    },
    Case {
        name: "okg::the_plugin_that_counts_is_never_early",
        tier: Tier::Full,
        needs: Needs::Controllers,
        run: the_plugin_that_counts_is_never_early,
    },
];

const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

/// Every field of these is an optional string in its schema.
const SPEC: [&str; 10] = [
    "eni",
    "entryId",
    "externalIP",
    "externalPort",
    "internalIP",
    "internalPort",
    "protocol",
    "tableId",
    "vswitch",
    "zoneID",
];
const ENTRY: [&str; 6] = ["externalIP", "externalPort", "forwardEntryId", "internalIP", "internalPort", "ipProtocol"];

fn strings(names: &[&str]) -> Value {
    names.iter().map(|name| ((*name).to_owned(), json!({ "type": "string" }))).collect::<serde_json::Map<_, _>>().into()
}

/// Its CRD: one version, no columns, nothing but the original's fields.
fn crd() -> Value {
    let object = |properties: Value| json!({ "type": "object", "properties": properties });
    let mut spec = strings(&SPEC);
    spec["portMapping"] = json!({ "type": "array", "items": object(strings(&["externalPort", "internalPort"])) });
    let mut status = strings(&["created"]);
    status["entries"] = json!({ "type": "array", "items": object(strings(&ENTRY)) });
    let schema = object(json!({
        "apiVersion": { "type": "string" }, "kind": { "type": "string" }, "metadata": { "type": "object" },
        "spec": object(spec), "status": object(status),
    }));
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": { "name": "poddnats.alibabacloud.com" },
        "spec": {
            "group": "alibabacloud.com",
            "names": { "kind": "PodDNAT", "listKind": "PodDNATList", "plural": "poddnats", "singular": "poddnat" },
            "scope": "Namespaced",
            "versions": [{
                "name": "v1beta1", "served": true, "storage": true, "subresources": { "status": {} },
                "schema": { "openAPIV3Schema": schema },
            }],
        },
    })
}

/// Puts its CRD in the place of whatever is there, as applying its manifests does.
fn apply(world: &World<'_>) {
    let path = format!("{CRDS}/poddnats.alibabacloud.com");
    let mut theirs = crd();
    let before = world.api.get(&path).unwrap();
    theirs["metadata"]["resourceVersion"] = before["metadata"]["resourceVersion"].clone();
    world.api.replace(&path, &theirs).unwrap();
    eventually("PodDNATs in one version", PATIENCE, || {
        let v1 = world.api.get("/apis/alibabacloud.com/v1/poddnats");
        is(v1.is_err() && world.api.get("/apis/alibabacloud.com/v1beta1/poddnats").is_ok(), v1)
    });
}

/// What its webhook writes into a pod: never the protocol in lower case, where the user gave it in upper case.
fn annotated(name: &str, ports: &str, protocol: &str) -> Value {
    let mut pod = pod(name, ports);
    pod["metadata"]["annotations"]["k8s.aliyun.com/pod-dnat-expose-protocol"] = protocol.into();
    pod
}

/// What its plugin says of a pod when the pod was updated: ready if and only if the counts are equal.
fn ready(namespace: &Namespace<'_>, pod: &Value) -> bool {
    let path = format!("{}/{}", namespace.path("alibabacloud.com/v1beta1/poddnats"), text(&pod["metadata"]["name"]));
    let asked = text(&pod["metadata"]["annotations"]["k8s.aliyun.com/pod-dnat-expose-port"]);
    let entries = namespace.api.find(&path).and_then(|object| object["status"]["entries"].as_array().cloned());
    entries.is_some_and(|entries| entries.len() == asked.split(',').count())
}

/// What the pods of a namespace say of their mappings.
fn said(namespace: &Namespace<'_>) -> Vec<String> {
    let said = |pod: &Value| pod["metadata"]["annotations"]["k8s.aliyun.com/pod-dnat-status"].to_string();
    namespace.pods().iter().map(said).collect()
}

fn ready_under_its_own_crd_and_under_ours(plane: &ControlPlane) {
    let world = World::new(plane, &Settings::default());
    apply(&world);
    let leader = world.leader();
    let namespace = world.namespace("okg");
    for (name, ports, protocol) in [("one", "80", "TCP"), ("three", "80,443,8080", "UDP"), ("both", "80,53/udp", "TCP")]
    {
        namespace.create("pods", &annotated(name, ports, protocol));
    }
    let is_ready = |name: &str| {
        eventually(&format!("ready {name}"), PATIENCE, || {
            let pod = world.api.get(&format!("{}/{name}", namespace.path("pods"))).unwrap();
            is(ready(&namespace, &pod), &pod["metadata"])
        });
    };
    is_ready("one");
    is_ready("three");
    is_ready("both");
    // Ours comes, and theirs again: neither takes a mapping away.
    let entries = world.entries();
    assert_eq!(entries.len(), 6);
    let (said, asked) = (said(&namespace), mutations(&world.ledger()));
    assert_eq!(said.len(), 3);
    install_crd(plane);
    // What theirs pruned is written now, and nobody is told of anything.
    let object =
        |name: &str| world.api.get(&format!("{}/{name}", namespace.path("alibabacloud.com/v1beta1/poddnats"))).unwrap();
    for name in ["one", "three", "both"] {
        eventually(&format!("{name} as our schema has it"), PATIENCE, || {
            let status = object(name)["status"].clone();
            is(status["conditions"][0]["status"] == "True" && status["externalAddress"].is_string(), status)
        });
    }
    eventually("protocol of each port", PATIENCE, || {
        let ports = object("both")["spec"]["portMapping"].clone();
        is(ports[0]["protocol"].is_null() && ports[1]["protocol"] == "udp", ports)
    });
    assert_eq!((self::said(&namespace), mutations(&world.ledger())), (said, asked));
    namespace.create("pods", &annotated("under-ours", "80", "TCP"));
    is_ready("under-ours");
    let path = format!("{}/under-ours", namespace.path("alibabacloud.com/v1beta1/poddnats"));
    eventually("conditions under our schema", PATIENCE, || {
        let status = world.api.get(&path).unwrap()["status"].clone();
        is(status["conditions"][0]["status"] == "True", status)
    });
    apply(&world);
    namespace.create("pods", &annotated("under-theirs", "80,443", "TCP"));
    is_ready("under-theirs");
    assert!(entries.is_subset(&world.entries()), "no mapping is touched");
    world.end(vec![leader]);
}

fn the_plugin_that_counts_is_never_early(plane: &ControlPlane) {
    let world = World::new(plane, &Settings::default());
    let leader = world.leader();
    let namespace = world.namespace("okg-counts");
    for number in 0..10 {
        namespace.create("pods", &annotated(&format!("game-{number}"), "80,443,8080", "TCP"));
    }
    // Its webhook looks when metadata or spec of a pod change, and not when its status does.
    let mut looked = std::collections::BTreeMap::new();
    eventually("ready games", PATIENCE, || {
        for pod in namespace.pods() {
            let status = text(&pod["metadata"]["annotations"]["k8s.aliyun.com/pod-dnat-status"]);
            let name = text(&pod["metadata"]["name"]);
            if looked.get(&name).is_some_and(|(before, _)| *before == status) {
                continue;
            }
            let ready = ready(&namespace, &pod);
            let says: Value = serde_json::from_str(&status).unwrap_or_default();
            if says["phase"] == "Ready" {
                assert!(ready, "{name} says {status} before its entries can be read");
                let entries = world.entries();
                let address = text(&pod["status"]["podIP"]);
                let of_it = entries.iter().filter(|(_, (internal, _), _)| *internal == address).count();
                assert_eq!(of_it, 3, "{name}");
            }
            looked.insert(name, (status, ready));
        }
        let ready = looked.values().filter(|(_, ready)| *ready).count();
        is(ready == 10, &looked)
    });
    world.end(vec![leader]);
}
