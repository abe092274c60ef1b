//! A cluster in which the original controller lives or lived: nothing of its is touched, and its pods say why they wait.

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

pub const CASES: &[Case] = &[Case {
    name: "migration::what_the_original_left_is_not_touched",
    tier: Tier::Full,
    needs: Needs::Ours,
    run: what_the_original_left_is_not_touched,
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

fn what_the_original_left_is_not_touched(plane: &ControlPlane) {
    let world = World::new(plane, &Settings::default());
    let namespace = world.namespace("migration");
    for (name, address, port) in PODS {
        leave(&world, &namespace, name, address, port);
    }
    let (before, entries, changed) = (namespace.poddnats(), world.entries(), mutations(&world.ledger()));
    assert_eq!((before.len(), entries.len()), (3, 3));

    let leader = world.leader();
    eventually("pods that say why they wait", PATIENCE, || {
        let says = |pod: &Value| text(&pod["metadata"]["annotations"]["k8s.aliyun.com/pod-dnat-status"]);
        let pods = namespace.pods();
        is(pods.iter().all(|pod| says(pod).contains("OtherController")), pods.iter().map(says).collect::<Vec<_>>())
    });
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
