//! The contract of the cluster and lease ports: one body, once over the simulated cluster and once over the API server.

use std::cell::{Cell, RefCell};
use std::fmt::Debug;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use natgw::cluster::api::Timeouts;
use natgw::cluster::client::{self, KubeCluster};
use natgw::machine::identity::{AllocationId, Generation, PodKey, PodUid, Protocol, Stamp};
use natgw::ports::cluster::{
    Cluster, ClusterError, ClusterErrorClass as Class, Lease, LeaseRecord, MappedPort, Mapping, PodMark, Publication,
};
use natgw::sandbox::cluster::{Manifest, Model, Settings as ModelSettings, SimulatedCluster};
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};

use crate::api::{Api, eventually, is};
use crate::control_plane::{ControlPlane, condition};
use crate::workloads::{GATE, pod_on};
use crate::world::{PATIENCE, SYSTEM, Settings, World, text};
use crate::{Case, Needs, Tier};

pub const CASES: &[Case] = &[Case { name: "contract::real", tier: Tier::Short, needs: Needs::Ours, run: real }];

/// A cluster behind the ports, as its user sees it.
trait Arm {
    type Port: Cluster + Lease;

    fn port(&self) -> &Self::Port;
    /// Makes a pod that lists our gate, and waits until it has an address.
    fn make_pod(&mut self, name: &str) -> PodUid;
    /// The pod, as the API server would show it: its annotation of ours, and its condition.
    fn pod_says(&self, name: &str) -> (Option<String>, Option<String>);
    /// Takes the finalizers off a PodDNAT, as somebody with kubectl would.
    fn strip_by_hand(&self, name: &str);
    /// The entries that the PodDNAT shows; nothing where the field is absent.
    fn entries(&self, name: &str) -> Option<usize>;
}

const NAMESPACE: &str = "contract";

fn key(name: &str) -> PodKey {
    PodKey::new(NAMESPACE, name)
}

struct Simulated {
    model: Rc<RefCell<Model>>,
    now_ms: Rc<Cell<u64>>,
    port: SimulatedCluster,
    pods: Vec<Manifest>,
}

impl Arm for Simulated {
    type Port = SimulatedCluster;

    fn port(&self) -> &SimulatedCluster {
        &self.port
    }

    fn make_pod(&mut self, name: &str) -> PodUid {
        self.pods.push(Manifest { source: name.to_owned(), document: manifest(name) });
        let mut model = self.model.borrow_mut();
        model.apply_manifests(&self.pods, self.now_ms.get()).unwrap();
        self.now_ms.set(self.now_ms.get() + 10_000);
        model.advance(self.now_ms.get());
        let uid = model.list_pods().into_iter().find(|pod| pod.name == name && pod.ip.is_some()).unwrap().uid;
        PodUid::new(uid)
    }

    fn pod_says(&self, name: &str) -> (Option<String>, Option<String>) {
        let model = self.model.borrow();
        let pod = model.pod(&key(name)).unwrap();
        let annotation = pod.annotations.get("k8s.aliyun.com/pod-dnat-status").cloned();
        let status = pod.conditions.get(GATE).map(|condition| if condition.status { "True" } else { "False" });
        (annotation, status.map(str::to_owned))
    }

    fn strip_by_hand(&self, name: &str) {
        assert!(self.model.borrow_mut().edit_claim(&key(name), |object| object.metadata.finalizers.clear()));
    }

    fn entries(&self, name: &str) -> Option<usize> {
        let model = self.model.borrow();
        let object = model.poddnats().find(|object| object.metadata.name == name).unwrap();
        serde_json::to_value(object).unwrap()["status"]["entries"].as_array().map(Vec::len)
    }
}

struct Real<'w> {
    api: &'w Api,
    port: KubeCluster,
}

impl Real<'_> {
    fn path(kind: &str, name: &str) -> String {
        format!("/{kind}/{name}").replace("NAMESPACE", &format!("namespaces/{NAMESPACE}"))
    }

    fn poddnat(name: &str) -> String {
        Self::path("apis/alibabacloud.com/v1beta1/NAMESPACE/poddnats", name)
    }
}

impl Arm for Real<'_> {
    type Port = KubeCluster;

    fn port(&self) -> &KubeCluster {
        &self.port
    }

    fn make_pod(&mut self, name: &str) -> PodUid {
        let made = self.api.create(&format!("/api/v1/namespaces/{NAMESPACE}/pods"), &manifest(name)).unwrap();
        eventually("address", PATIENCE, || {
            let pod = self.api.get(&Self::path("api/v1/NAMESPACE/pods", name)).unwrap();
            is(pod["status"]["podIP"].is_string(), &pod["status"])
        });
        PodUid::new(text(&made["metadata"]["uid"]))
    }

    fn pod_says(&self, name: &str) -> (Option<String>, Option<String>) {
        let pod = self.api.get(&Self::path("api/v1/NAMESPACE/pods", name)).unwrap();
        let annotation = pod["metadata"]["annotations"]["k8s.aliyun.com/pod-dnat-status"].as_str();
        (annotation.map(str::to_owned), condition(&pod, GATE).map(str::to_owned))
    }

    fn strip_by_hand(&self, name: &str) {
        self.api.patch(&Self::poddnat(name), &json!({ "metadata": { "finalizers": [] } })).unwrap();
    }

    fn entries(&self, name: &str) -> Option<usize> {
        self.api.get(&Self::poddnat(name)).unwrap()["status"]["entries"].as_array().map(Vec::len)
    }
}

fn manifest(name: &str) -> Value {
    let mut pod = pod_on("node-j", name, "80");
    (pod["apiVersion"], pod["kind"]) = ("v1".into(), "Pod".into());
    pod["metadata"]["namespace"] = NAMESPACE.into();
    pod["spec"]["readinessGates"] = json!([{ "conditionType": GATE }]);
    pod
}

/// The arm that needs no control plane.
pub fn simulated() {
    let model = Rc::new(RefCell::new(Model::new(ModelSettings::new("4c6d0d7e-0000-4000-8000-000000000000"))));
    let now_ms = Rc::new(Cell::new(0));
    let port = SimulatedCluster::new(Rc::clone(&model), Rc::clone(&now_ms));
    let mut arm = Simulated { model, now_ms, port, pods: Vec::new() };
    hold(&runtime(), &mut arm);
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn real(plane: &ControlPlane) {
    let world = World::new(plane, &Settings::default());
    let _namespace = world.namespace(NAMESPACE);
    let settings = client::Settings {
        lease_namespace: Some(SYSTEM.to_owned()),
        lease_name: "contract".to_owned(),
        timeouts: Timeouts { mutating: Duration::from_secs(5), reading: Duration::from_secs(30) },
        fence: None,
        clock: Arc::new(SystemTime::now),
    };
    let kubeconfig = plane.kubeconfig();
    let connect = KubeCluster::connect(Some(&kubeconfig), settings);
    let runtime = runtime();
    let port = runtime.block_on(connect).unwrap();
    hold(&runtime, &mut Real { api: &world.api, port });
    // A Lease of natgw's that nobody knows keeps sandboxes away.
    world.api.delete(&crate::world::LEASE.replace("/leases/natgw", "/leases/contract"), &json!({})).unwrap();
    world.end(Vec::new());
}

/// The whole contract.
fn hold<A: Arm>(runtime: &Runtime, arm: &mut A) {
    claims(runtime, arm);
    status(runtime, arm);
    marks(runtime, arm);
    ends(runtime, arm);
    lease(runtime, arm);
}

fn mapping(name: &str, pod: &PodUid, n: u64) -> Mapping {
    let item = |internal, external, protocol| MappedPort {
        internal,
        external,
        protocol,
        generation: Generation::from(Stamp { term: 3, n }),
        port_break: false,
    };
    Mapping {
        key: key(name),
        pod: pod.clone(),
        allocation: AllocationId::from(Stamp { term: 3, n }),
        fixed: false,
        owner: None,
        absent_since_wall_ms: None,
        adopted: natgw::ports::cluster::Adopted::default(),
        releasing: Vec::new(),
        gateway: "ngw-sandbox-j".into(),
        table: "ftb-sandbox-j".into(),
        eip: Ipv4Addr::new(203, 0, 113, 1),
        ip: Ipv4Addr::new(172, 16, 0, 9),
        eni: "eni-1".into(),
        vswitch: "vsw-1".into(),
        zone: "cn-hangzhou-j".into(),
        items: vec![item(80, 512, Protocol::Tcp), item(53, 513, Protocol::Udp)],
    }
}

#[track_caller]
fn refused<T: Debug>(answer: Result<T, ClusterError>, class: Class) {
    assert_eq!(answer.unwrap_err().class, class);
}

fn claims<A: Arm>(runtime: &Runtime, arm: &mut A) {
    let pod = arm.make_pod("claims");
    let (port, name) = (arm.port(), key("claims"));
    let run = runtime;
    let listed = run.block_on(port.list_pods()).unwrap();
    let seen = listed.iter().find(|seen| seen.name == "claims").unwrap();
    assert_eq!(
        (seen.uid.as_str(), seen.gate, seen.terminal, seen.terminating_grace_ms),
        (pod.as_str(), true, false, None)
    );
    assert!(seen.ip.is_some() && seen.annotations.len() == 2, "{seen:?}");
    assert_eq!(run.block_on(port.read_claim(&name)).unwrap(), None);
    let first = mapping("claims", &pod, 1);
    let created = run.block_on(port.create_claim(&first)).unwrap();
    assert_eq!((created.deleting, created.finalizer, created.allocation), (false, true, Some(first.allocation)));
    assert_eq!(run.block_on(port.read_claim(&name)).unwrap().as_ref(), Some(&created));
    refused(run.block_on(port.create_claim(&first)), Class::AlreadyExists);
    let listed = run.block_on(port.list_claims()).unwrap();
    let seen = listed.iter().find(|claim| claim.name == "claims").unwrap();
    assert_eq!((seen.uid.as_str(), seen.published, seen.finalizer), (created.uid.as_str(), false, true));
    let claim = seen.claim.as_ref().unwrap();
    assert_eq!((claim.allocation, claim.pod.as_str(), claim.gateway.as_str()), ((3, 1), pod.as_str(), "ngw-sandbox-j"));

    // Over what was found, and over nothing else.
    let second = mapping("claims", &pod, 2);
    let replaced = run.block_on(port.replace_claim(&second, &created)).unwrap();
    assert_eq!((replaced.uid.as_str(), replaced.allocation), (created.uid.as_str(), Some(second.allocation)));
    assert_ne!(replaced.resource_version, created.resource_version);
    refused(run.block_on(port.replace_claim(&first, &created)), Class::Conflict);
    // What would change nothing changes nothing.
    let again = run.block_on(port.replace_claim(&second, &replaced)).unwrap();
    assert_eq!(again, replaced);
    // A finalizer that somebody took is set again.
    arm.strip_by_hand("claims");
    let port = arm.port();
    let stripped = run.block_on(port.read_claim(&name)).unwrap().unwrap();
    assert!(!stripped.finalizer);
    assert!(run.block_on(port.replace_claim(&second, &stripped)).unwrap().finalizer);
    let absent = mapping("absent", &pod, 9);
    refused(run.block_on(port.replace_claim(&absent, &stripped)), Class::Gone);
}

fn status<A: Arm>(runtime: &Runtime, arm: &mut A) {
    let pod = arm.make_pod("status");
    let (run, mapping) = (runtime, mapping("status", &pod, 4));
    let created = run.block_on(arm.port().create_claim(&mapping)).unwrap();
    assert_eq!(arm.entries("status"), None);
    let entries = vec!["fwd-1".into(), "fwd-2".into()];
    let publication = |shown| Publication {
        key: mapping.key.clone(),
        uid: None,
        allocation: mapping.allocation,
        mapping: shown,
        reason: ("Available", "all entries are available"),
    };
    let up = publication(Some((mapping.clone(), entries)));
    run.block_on(arm.port().write_status(&up, &created)).unwrap();
    assert_eq!(arm.entries("status"), Some(2));
    let listed = run.block_on(arm.port().list_claims()).unwrap();
    assert!(listed.iter().any(|claim| claim.name == "status" && claim.published));
    refused(run.block_on(arm.port().write_status(&publication(None), &created)), Class::Conflict);
    let found = run.block_on(arm.port().read_claim(&mapping.key)).unwrap().unwrap();
    run.block_on(arm.port().write_status(&publication(None), &found)).unwrap();
    assert_eq!(arm.entries("status"), None, "absent, never empty");
}

fn marks<A: Arm>(runtime: &Runtime, arm: &mut A) {
    let pod = arm.make_pod("marks");
    let mark = |pod: &PodUid, phase, ready| PodMark {
        key: key("marks"),
        pod: pod.clone(),
        phase,
        reason: "Available",
        message: "all entries are available".to_owned(),
        address: Some("203.0.113.1:512/tcp".to_owned()),
        ready,
        warning: false,
    };
    let run = runtime;
    assert_eq!(arm.pod_says("marks").0, None);
    tell(run, arm, &mark(&pod, Some("Ready"), Some(true)));
    let (said, gate) = arm.pod_says("marks");
    assert!(said.is_some_and(|said| said.contains("203.0.113.1:512/tcp")));
    assert_eq!(gate.as_deref(), Some("True"));
    tell(run, arm, &mark(&pod, Some("Waiting"), Some(false)));
    assert_eq!(arm.pod_says("marks").1.as_deref(), Some("False"));
    let another = PodUid::new("4c6d0d7e-1111-4000-8000-000000000000");
    refused(run.block_on(arm.port().mark_pod(&mark(&another, Some("Ready"), Some(true)))), Class::Gone);
    assert_eq!(arm.pod_says("marks").1.as_deref(), Some("False"), "the other pod is not touched");
    tell(run, arm, &mark(&pod, None, None));
    assert_eq!(arm.pod_says("marks").0, None);
    let absent = PodMark { key: key("absent"), ..mark(&pod, Some("Ready"), None) };
    refused(run.block_on(arm.port().mark_pod(&absent)), Class::Gone);
    for _ in 0..2 {
        run.block_on(arm.port().announce(&mark(&pod, Some("Ready"), None))).unwrap();
    }
}

/// Marks a pod; where others have changed it since it was shown, it is shown and marked again.
fn tell<A: Arm>(runtime: &Runtime, arm: &A, mark: &PodMark) {
    eventually("mark", PATIENCE, || {
        let told = runtime.block_on(arm.port().mark_pod(mark));
        if told.as_ref().is_err_and(|error| error.class == Class::Conflict) {
            runtime.block_on(arm.port().list_pods()).unwrap();
            return Err("others change the pod".to_owned());
        }
        told.unwrap();
        Ok(())
    });
}

fn ends<A: Arm>(runtime: &Runtime, arm: &mut A) {
    let pod = arm.make_pod("ends");
    let (run, port, mapping) = (runtime, arm.port(), mapping("ends", &pod, 5));
    let name = mapping.key.clone();
    run.block_on(port.delete_claim(&name, "4c6d0d7e-2222-4000-8000-000000000000")).unwrap();
    let created = run.block_on(port.create_claim(&mapping)).unwrap();
    run.block_on(port.delete_claim(&name, "4c6d0d7e-2222-4000-8000-000000000000")).unwrap();
    assert!(!run.block_on(port.read_claim(&name)).unwrap().unwrap().deleting, "it was another that was to go");
    run.block_on(port.delete_claim(&name, &created.uid)).unwrap();
    run.block_on(port.delete_claim(&name, &created.uid)).unwrap();
    let going = run.block_on(port.read_claim(&name)).unwrap().unwrap();
    assert_eq!((going.deleting, going.finalizer, going.uid.as_str()), (true, true, created.uid.as_str()));
    refused(run.block_on(port.strip_finalizer(&name, &created)), Class::Conflict);
    run.block_on(port.strip_finalizer(&name, &going)).unwrap();
    assert_eq!(run.block_on(port.read_claim(&name)).unwrap(), None);
    refused(run.block_on(port.strip_finalizer(&name, &going)), Class::Gone);
    run.block_on(port.delete_claim(&name, &created.uid)).unwrap();
    let listed = run.block_on(port.list_claims()).unwrap();
    assert!(listed.iter().all(|claim| claim.name != "ends"));
    // The name is free.
    run.block_on(port.create_claim(&mapping)).unwrap();
    let found = run.block_on(port.read_claim(&name)).unwrap().unwrap();
    run.block_on(port.strip_finalizer(&name, &found)).unwrap();
    for name in ["claims", "status"] {
        let name = key(name);
        let found = run.block_on(port.read_claim(&name)).unwrap().unwrap();
        run.block_on(port.delete_claim(&name, &found.uid)).unwrap();
        let found = run.block_on(port.read_claim(&name)).unwrap().unwrap();
        run.block_on(port.strip_finalizer(&name, &found)).unwrap();
    }
    let found = run.block_on(port.read_claim(&key("ends"))).unwrap().unwrap();
    run.block_on(port.delete_claim(&key("ends"), &found.uid)).unwrap();
}

fn lease<A: Arm>(runtime: &Runtime, arm: &A) {
    let (run, port) = (runtime, arm.port());
    let none = run.block_on(port.read_lease()).unwrap();
    assert_eq!(none, LeaseRecord::default(), "nobody has written it");
    let mine = LeaseRecord {
        holder: "a".to_owned(),
        term: 7,
        duration_ms: 15_000,
        renewals: 1,
        heads: vec![([1; 16], 42, [2; 32]), ([3; 16], 7, [4; 32])],
        ..none
    };
    let written = run.block_on(port.write_lease(&mine)).unwrap();
    let read = run.block_on(port.read_lease()).unwrap();
    assert_eq!(read, written);
    assert_eq!((read.holder.as_str(), read.term, read.duration_ms, &read.heads), ("a", 7, 15_000, &mine.heads));
    // Somebody who has not read it, and somebody who read it too early.
    refused(run.block_on(port.write_lease(&mine)), Class::Conflict);
    let renewed = LeaseRecord { renewals: read.renewals + 1, ..read.clone() };
    let after = run.block_on(port.write_lease(&renewed)).unwrap();
    assert_ne!((after.renewals, &after.resource_version), (read.renewals, &read.resource_version));
    refused(run.block_on(port.write_lease(&renewed)), Class::Conflict);
    let released = LeaseRecord { holder: String::new(), ..after };
    let gone = run.block_on(port.write_lease(&released)).unwrap();
    assert_eq!((gone.holder.as_str(), gone.term), ("", 7));
}
