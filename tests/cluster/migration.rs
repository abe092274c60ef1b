//! A cluster in which the original controller lives or lived: nothing is decided until `adopt` is on, and then nothing that
//! serves players is touched.

use std::collections::BTreeSet;
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
use crate::world::{CLAIM, Namespace, PATIENCE, Settings, World, text};
use crate::{Case, Needs, Tier};

pub const CASES: &[Case] = &[Case {
    name: "migration::nothing_is_decided_until_adopt_and_then_nothing_is_cut",
    tier: Tier::Full,
    needs: Needs::Ours,
    run: nothing_is_decided_until_adopt_and_then_nothing_is_cut,
}];

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
    let external = json!({ "externalPort": port.to_string(), "internalPort": "80" });
    let object = json!({
        "apiVersion": "alibabacloud.com/v1beta1", "kind": "PodDNAT",
        "metadata": {
            "name": name, "finalizers": ["natgw-controller"],
            "ownerReferences": [{
                "apiVersion": "v1", "kind": "Pod", "name": name, "uid": pod["metadata"]["uid"],
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
    let status = json!({ "status": { "entries": [{
        "externalIP": "203.0.113.1", "externalPort": port.to_string(), "forwardEntryId": entry,
        "internalIP": address, "internalPort": "80", "ipProtocol": "tcp",
    }] } });
    world.api.patch(&format!("{path}/{name}/status?fieldManager={ORIGINAL}"), &status).unwrap();
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

fn specs(namespace: &Namespace<'_>) -> Vec<Value> {
    namespace.poddnats().iter().map(|object| object["spec"].clone()).collect()
}

fn nothing_is_decided_until_adopt_and_then_nothing_is_cut(plane: &ControlPlane) {
    let world = World::new(plane, &Settings::default());
    let namespace = world.namespace("migration");
    for (name, address, port) in PODS {
        leave(&world, &namespace, name, address, port);
    }
    let (before, entries, changed) = (namespace.poddnats(), world.entries(), mutations(&world.ledger()));
    assert_eq!((before.len(), entries.len()), (3, 3));

    let leader = world.leader();
    // A pod that the original has not served yet: not ours either.
    namespace.create("pods", &pod_of_ours("four", "80"));
    world.api.patch(&format!("{}/four/status", namespace.path("pods")), &running_at("172.16.210.4")).unwrap();
    await_listings(&world, 4);
    assert_eq!(mutations(&world.ledger()), changed, "adopt is off");
    assert_eq!(namespace.poddnats(), before, "adopt is off");
    let (status, said) = leader.terminate();
    assert!(status.success(), "{status}");
    assert!(said.iter().any(|line| line.contains("adopt")), "it says why:\n{}", said.join("\n"));

    world.configure(&Settings { adopt: true, ..Settings::default() });
    let leader = world.leader();
    namespace.await_mapped(&world, 4);
    let after = world.entries();
    assert!(entries.is_subset(&after), "an entry was cut: {entries:?} -> {after:?}");
    assert_eq!(mutations(&world.ledger()), changed + 1, "only the fourth pod's entry is new");
    let adopted: BTreeSet<String> =
        specs(&namespace).iter().map(|spec| text(&spec["portMapping"][0]["externalPort"])).collect();
    assert!(PODS.iter().all(|(_, _, port)| adopted.contains(&port.to_string())), "{adopted:?}");
    for object in namespace.poddnats() {
        assert!(object["metadata"]["annotations"][CLAIM].is_string(), "{object:#}");
    }

    // The original comes back and writes for a pod that is ours to serve: decisions stop.
    leave(&world, &namespace, "five", "172.16.210.5", 700);
    eventually("word about the other controller", PATIENCE, || {
        let said = leader.said();
        is(said.iter().any(|line| line.contains("OtherController") || line.contains("other controller")), said.len())
    });
    let changed = mutations(&world.ledger());
    namespace.create("pods", &pod_of_ours("six", "80"));
    world.api.patch(&format!("{}/six/status", namespace.path("pods")), &running_at("172.16.210.6")).unwrap();
    await_listings(&world, 4);
    assert_eq!(mutations(&world.ledger()), changed, "nothing is decided beside another controller");
    // What another controller has left is not cleaned up by us: the next world sweeps it away.
    leader.kill();
}
