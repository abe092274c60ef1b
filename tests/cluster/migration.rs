//! A cluster in which the original controller lives or lived: without `adopt` nothing is decided and its pods say why they
//! wait; with it what it left is taken over without one call that changes the cloud; and what it writes while we are at work
//! stops decisions.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use natgw::cloud::credentials::{AccessKey, StaticKey};
use natgw::cloud::endpoints::Endpoints;
use natgw::cloud::{self, AliyunCloud};
use natgw::machine::identity::{Protocol, Tuple};
use natgw::ports::cloud::{Cloud as _, CreateEntry};
use natgw::sandbox::vpc::LedgerLine;
use serde_json::{Value, json};
use tokio::runtime::Builder;

use crate::api::{eventually, is};
use crate::control_plane::ControlPlane;
use crate::evidence::mutations;
use crate::workloads::{pod_of_ours, running_at};
use crate::world::{Namespace, PATIENCE, Settings, World, text};
use crate::{Case, Needs, Tier};

pub const CASES: &[Case] = &[
    Case {
        name: "migration::what_the_original_left_is_not_touched",
        tier: Tier::Full,
        needs: Needs::Ours,
        run: what_the_original_left_is_not_touched,
    },
    Case {
        name: "migration::what_the_original_left_is_adopted",
        tier: Tier::Full,
        needs: Needs::Ours,
        run: what_the_original_left_is_adopted,
    },
];

/// The manager of the original's writes, as its client names itself.
const ORIGINAL: &str = "ack-extend-network-controller";

/// Pods of the original, by their addresses.
const PODS: [(&str, &str, u16); 3] =
    [("one", "172.16.210.1", 600), ("two", "172.16.210.2", 601), ("three", "172.16.210.3", 602)];

/// What the original left of a pod: entry, PodDNAT and its status, in its words.
fn leave(world: &World<'_>, namespace: &Namespace<'_>, name: &str, address: &str, port: u16) {
    namespace.create("pods", &pod_of_ours(name, "80"));
    let pod = world.api.patch(&format!("{}/{name}/status", namespace.path("pods")), &running_at(address)).unwrap();
    let entry = entry(world, address, port);
    let path = write(world, namespace, name, address, port, &pod["metadata"]["uid"]);
    let status = json!({ "status": { "entries": [{
        "externalIP": "203.0.113.1", "externalPort": port.to_string(), "forwardEntryId": entry,
        "internalIP": address, "internalPort": "80", "ipProtocol": "tcp",
    }] } });
    world.api.patch(&format!("{path}/status?fieldManager={ORIGINAL}"), &status).unwrap();
}

/// Writes a PodDNAT as the original does, and says where it is.
fn write(world: &World<'_>, namespace: &Namespace<'_>, name: &str, address: &str, port: u16, uid: &Value) -> String {
    let external = json!({ "externalPort": port.to_string(), "internalPort": "80" });
    let object = json!({
        "apiVersion": "alibabacloud.com/v1beta1", "kind": "PodDNAT",
        "metadata": {
            "name": name, "finalizers": ["natgw-controller"],
            "ownerReferences": [{
                "apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid,
                "blockOwnerDeletion": true,
            }],
        },
        "spec": {
            "eni": "eni-original", "externalIP": "203.0.113.1", "internalIP": address, "portMapping": [external],
            "protocol": "tcp", "tableId": "ngw-sandbox-j", "vswitch": "vsw-sandbox-j", "zoneID": "cn-hangzhou-j",
        },
    });
    let path = namespace.path("alibabacloud.com/v1beta1/poddnats");
    world.api.create(&format!("{path}?fieldManager={ORIGINAL}"), &object).unwrap();
    format!("{path}/{name}")
}

/// Creates an entry without our mark.
fn entry(world: &World<'_>, address: &str, port: u16) -> String {
    let settings = cloud::Settings {
        region: "cn-hangzhou".to_owned(),
        vpc: "vpc-sandbox".to_owned(),
        endpoints: Endpoints::at(&format!("http://{}", world.cloud())).unwrap(),
        mutating_timeout: Duration::from_secs(5),
        reading_timeout: Duration::from_secs(5),
    };
    let key = AccessKey::new("sandbox".to_owned(), "sandbox-secret".into(), None).unwrap();
    let client = AliyunCloud::new(settings, Arc::new(StaticKey::new(key)), Arc::new(SystemTime::now)).unwrap();
    let request = CreateEntry {
        table: "ftb-sandbox-j".into(),
        tuple: Tuple {
            external_ip: "203.0.113.1".parse().unwrap(),
            external_port: port,
            internal_ip: address.parse().unwrap(),
            internal_port: 80,
            protocol: Protocol::Tcp,
        },
        name: format!("ack-{port}"),
        token: format!("original-{port}"),
        port_break: false,
    };
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(client.create_entry(&request)).unwrap().to_string()
}

/// How often each table was listed.
fn listings(world: &World<'_>) -> usize {
    let lists = |line: &&LedgerLine| match line {
        LedgerLine::Request(request) => request.action == "DescribeForwardTableEntries",
        LedgerLine::Effect(_) => false,
    };
    world.ledger().iter().filter(lists).count()
}

/// Waits until natgw has read its tables that many times more: it has had every occasion to do something.
fn await_listings(world: &World<'_>, more: usize) {
    let from = listings(world);
    eventually("listings of the tables", PATIENCE, || is(listings(world) >= from + more, listings(world)));
}

/// Waits until every pod of the namespace says that.
fn await_words(namespace: &Namespace<'_>, words: &str) {
    eventually(&format!("pods that say {words}"), PATIENCE, || {
        let says = |pod: &Value| text(&pod["metadata"]["annotations"]["k8s.aliyun.com/pod-dnat-status"]);
        let pods = namespace.pods();
        is(pods.iter().all(|pod| says(pod).contains(words)), pods.iter().map(says).collect::<Vec<_>>())
    });
}

fn what_the_original_left_is_not_touched(plane: &ControlPlane) {
    let world = World::new(plane, &Settings::default());
    let namespace = world.namespace("migration");
    for (name, address, port) in PODS {
        leave(&world, &namespace, name, address, port);
    }
    let (before, entries, changed) = (namespace.poddnats(), world.entries(), mutations(&world.ledger()));
    assert_eq!((before.len(), entries.len()), (3, 3));

    let leader = world.leader();
    await_words(&namespace, "OtherController");
    // It has had every occasion to do something.
    await_listings(&world, 4);
    assert_eq!(mutations(&world.ledger()), changed);
    assert_eq!((namespace.poddnats(), world.entries()), (before, entries.clone()));
    // A leader that knows nothing of it sees it alike.
    leader.kill();
    let empty = world.leader_with_empty_journal();
    await_listings(&world, 4);
    assert_eq!((mutations(&world.ledger()), world.entries()), (changed, entries));
    // What another controller has left is not cleaned up by us: the next world sweeps it away.
    empty.kill();
}

fn what_the_original_left_is_adopted(plane: &ControlPlane) {
    let world = World::new(plane, &Settings { adopt: true, ..Settings::default() });
    let namespace = world.namespace("adoption");
    for (name, address, port) in PODS {
        leave(&world, &namespace, name, address, port);
    }
    let (entries, changed) = (world.entries(), mutations(&world.ledger()));

    let leader = world.leader();
    eventually("claims that name the entries", PATIENCE, || {
        let claim = |object: &Value| text(&object["metadata"]["annotations"]["k8s.aliyun.com/pod-dnat-claim"]);
        let claims: Vec<_> = namespace.poddnats().iter().map(claim).collect();
        is(claims.len() == 3 && claims.iter().all(|claim| claim.contains("fwd-")), claims)
    });
    await_words(&namespace, "Ready");
    await_listings(&world, 4);
    assert_eq!((mutations(&world.ledger()), world.entries()), (changed, entries.clone()));
    // A leader that knows nothing of it takes it over alike.
    leader.kill();
    let leader = world.leader_with_empty_journal();
    await_listings(&world, 4);
    assert_eq!((mutations(&world.ledger()), world.entries()), (changed, entries));

    // A pod that goes takes its entry with it, the others keep theirs.
    namespace.delete("pods", PODS[0].0, &json!({ "gracePeriodSeconds": 0 }));
    eventually("end of the first mapping", PATIENCE, || {
        let (left, entries) = (namespace.poddnats().len(), world.entries());
        is((left, entries.len()) == (2, 2), (left, entries))
    });
    another_writes(&world, &namespace);
    world.end(vec![leader]);
}

/// The original writes a PodDNAT for a pod that natgw is to serve: nothing is decided until that has gone.
fn another_writes(world: &World<'_>, namespace: &Namespace<'_>) {
    let four = namespace.create("pods", &pod_of_ours("four", "80"));
    let path = write(world, namespace, "four", "172.16.210.4", 603, &four["metadata"]["uid"]);
    namespace.create("pods", &pod_of_ours("five", "80"));
    for (name, address) in [("four", "172.16.210.4"), ("five", "172.16.210.5")] {
        world.api.patch(&format!("{}/{name}/status", namespace.path("pods")), &running_at(address)).unwrap();
    }
    let says = |name: &str| {
        let pods = namespace.pods();
        let pod = pods.iter().find(|pod| pod["metadata"]["name"] == name);
        pod.map(|pod| text(&pod["metadata"]["annotations"]["k8s.aliyun.com/pod-dnat-status"])).unwrap_or_default()
    };
    eventually("pods that say who stops decisions", PATIENCE, || {
        let said = [says("four"), says("five")];
        is(said.iter().all(|said| said.contains("OtherController")), said)
    });
    assert_eq!(world.entries().len(), 2, "something was decided beside another writer");
    world.api.patch(&path, &json!({ "metadata": { "finalizers": null } })).unwrap();
    world.api.delete(&path, &json!({})).unwrap();
    eventually("mappings of both", PATIENCE, || {
        let entries = world.entries();
        is(entries.len() == 4, entries)
    });
}
