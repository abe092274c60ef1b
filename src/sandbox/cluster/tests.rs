use serde_json::{Value, json};

use super::*;
use crate::cluster::pod::READINESS_GATE;
use crate::cluster::poddnat::FINALIZER;
use crate::machine::event::seen::{ClaimGone, PodGone};
use crate::machine::identity::{AllocationId, EntryId, Generation, Protocol};
use crate::machine::state::Controller;
use crate::ports::cluster::{ClaimFound, ClusterErrorClass, LeaseRecord, MappedPort, Mapping, PodMark, Publication};

const CLUSTER: &str = "2fad9bb7-cc84-46b4-b6eb-5d15f06c0000";

fn model() -> Model {
    Model::new(Settings { epoch_wall_ms: 1_695_180_404_000, ..Settings::new(CLUSTER) })
}

fn manifest(document: Value) -> Manifest {
    Manifest { source: "test".to_owned(), document }
}

fn template(port: &str, spec: &Value) -> Value {
    let mut pod = json!({ "containers": [{ "name": "game", "image": "nginx" }] });
    pod.as_object_mut().unwrap().extend(spec.as_object().cloned().unwrap_or_default());
    json!({
        "metadata": { "labels": { "app": "x" }, "annotations": {
            "k8s.aliyun.com/pod-dnat": "", "k8s.aliyun.com/pod-dnat-expose-port": port } },
        "spec": pod,
    })
}

fn workload(kind: &str, name: &str, replicas: u32, template: &Value) -> Manifest {
    manifest(json!({ "apiVersion": "apps/v1", "kind": kind, "metadata": { "name": name }, "spec": {
        "replicas": replicas, "selector": { "matchLabels": { "app": "x" } }, "template": template } }))
}

fn deployment(replicas: u32) -> Manifest {
    workload("Deployment", "example", replicas, &template("80", &json!({})))
}

fn stateful_set(replicas: u32, port: &str) -> Manifest {
    workload("StatefulSet", "web", replicas, &template(port, &json!({})))
}

fn bare(name: &str, port: &str, spec: &Value) -> Manifest {
    let mut pod = template(port, spec);
    pod["metadata"]["name"] = json!(name);
    pod["apiVersion"] = json!("v1");
    pod["kind"] = json!("Pod");
    manifest(pod)
}

fn key(name: &str) -> PodKey {
    PodKey::new("default", name)
}

fn applied(manifests: &[Manifest]) -> Model {
    let mut model = model();
    model.apply_manifests(manifests, 0).unwrap();
    model.advance(1_000);
    model
}

fn mapping(pod: &Pod) -> Mapping {
    Mapping {
        key: pod.key.clone(),
        pod: pod.uid.as_str().into(),
        allocation: AllocationId::from((1, 1)),
        fixed: false,
        gateway: "ngw-1".into(),
        table: "ftb-1".into(),
        eip: [203, 0, 113, 1].into(),
        ip: pod.ip.unwrap(),
        eni: "eni-1".into(),
        vswitch: "vsw-1".into(),
        zone: "cn-hangzhou-j".into(),
        items: vec![MappedPort {
            internal: 80,
            external: 512,
            protocol: Protocol::Tcp,
            generation: Generation::from((1, 2)),
            port_break: false,
        }],
        owner: pod.owner.clone().map(|owner| Controller {
            api_version: owner.api_version,
            kind: owner.kind,
            name: owner.name,
            uid: owner.uid,
        }),
        absent_since_wall_ms: None,
        adopted: crate::ports::cluster::Adopted::default(),
        releasing: Vec::new(),
    }
}

fn mark(pod: &Pod, ready: bool) -> PodMark {
    PodMark {
        key: pod.key.clone(),
        pod: pod.uid.as_str().into(),
        phase: Some("Ready"),
        reason: "Mapped",
        message: "players reach the pod".to_owned(),
        address: None,
        ready: Some(ready),
        warning: false,
    }
}

fn publication(mapping: &Mapping) -> Publication {
    let entries = vec![EntryId::from("fwd-1")];
    Publication {
        key: mapping.key.clone(),
        allocation: mapping.allocation,
        uid: None,
        mapping: Some((mapping.clone(), entries)),
        reason: ("Mapped", "all is well"),
    }
}

/// A cluster with the bare pod `a` and its claim.
fn claimed() -> (Model, Mapping, ClaimFound) {
    let mut model = applied(&[bare("a", "80", &json!({}))]);
    let mapping = mapping(model.pod(&key("a")).unwrap());
    let found = model.create_claim(&mapping).unwrap();
    (model, mapping, found)
}

fn object(model: &Model, name: &str) -> PodDnat {
    model.poddnats().find(|object| object.metadata.name == name).unwrap().clone()
}

fn class<T: std::fmt::Debug>(result: Result<T, crate::ports::cluster::ClusterError>) -> ClusterErrorClass {
    result.unwrap_err().class
}

fn names(model: &Model) -> Vec<String> {
    model.pods().map(|pod| pod.key.name().to_string()).collect()
}

#[test]
fn pods_come_with_an_address_and_become_ready_through_the_gate() {
    let gate = json!({ "readinessGates": [{ "conditionType": READINESS_GATE }] });
    let mut model = model();
    model.apply_manifests(&[bare("a", "80", &gate), bare("b", "80", &json!({}))], 10).unwrap();
    assert_eq!(model.pod(&key("a")).unwrap().ip, None);
    assert_eq!(model.next_due(), Some(210));
    model.advance(210);
    let addresses: Vec<_> = model.pods().map(|pod| pod.ip.unwrap().to_string()).collect();
    assert_eq!(addresses, ["172.16.0.1", "172.17.0.1"]);
    assert!(!model.pod(&key("b")).unwrap().ready());
    model.advance(510);
    assert!(model.pod(&key("b")).unwrap().ready());
    assert!(!model.pod(&key("a")).unwrap().ready(), "the gate is closed");
    let open = mark(model.pod(&key("a")).unwrap(), true);
    model.mark_pod(&open).unwrap();
    assert!(model.pod(&key("a")).unwrap().ready());
    let version = model.version();
    model.mark_pod(&open).unwrap();
    assert_eq!(model.version(), version, "nothing new is not written");
    let shut = mark(model.pod(&key("a")).unwrap(), false);
    model.mark_pod(&shut).unwrap();
    assert!(!model.pod(&key("a")).unwrap().ready());
    assert_eq!(model.next_due(), None);
}

#[test]
fn what_is_observed_of_a_pod() {
    let spec = json!({
        "hostNetwork": true,
        "terminationGracePeriodSeconds": 5,
        "nodeSelector": { "type": "virtual-kubelet" },
        "readinessGates": [{ "conditionType": READINESS_GATE }],
        "containers": [{ "name": "c", "ports": [{ "containerPort": 80 }, { "containerPort": 53, "protocol": "UDP" }] }],
    });
    let mut model = applied(&[bare("a", "80", &spec), stateful_set(1, &"1,".repeat(300))]);
    let [a, web] = <[PodSeen; 2]>::try_from(model.list_pods()).unwrap();
    assert_eq!(a.ip, Some([172, 16, 255, 252].into()), "the node's address");
    assert_eq!((a.host_network, a.virtual_node, a.gate, a.owner), (true, true, true, None));
    assert_eq!(a.ports, [(80, 6), (53, 17)]);
    assert_eq!(a.created_wall_ms, 1_695_180_404_000);
    let asked: Vec<_> = a.annotations.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(asked, ["k8s.aliyun.com/pod-dnat", "k8s.aliyun.com/pod-dnat-expose-port"]);
    assert!(web.oversized && web.annotations.len() == 1, "{web:?}");
    let (api_version, kind, name, _) = web.owner.unwrap();
    assert_eq!((api_version.as_str(), kind.as_str(), name.as_str()), ("apps/v1", "StatefulSet", "web"));
    model.delete_pod(&key("a"), None);
    assert_eq!(model.list_pods()[0].terminating_grace_ms, Some(5_000));
}

#[test]
fn a_terminating_pod_stops_frees_its_address_and_goes() {
    let mut model = applied(&[bare("a", "80", &json!({})), bare("b", "80", &json!({}))]);
    let before = model.version();
    let uid = model.pod(&key("a")).unwrap().uid.clone();
    assert!(model.delete_pod(&key("a"), None));
    assert!(!model.delete_pod(&key("nobody"), None));
    model.advance(1_999);
    assert!(!model.pod(&key("a")).unwrap().containers_terminated);
    model.advance(2_000);
    assert!(model.pod(&key("a")).unwrap().containers_terminated);
    let mut next = vec![bare("b", "80", &json!({})), bare("c", "80", &json!({}))];
    model.apply_manifests(&next, 2_000).unwrap();
    model.advance(2_200);
    let (old, new) = (model.pod(&key("a")).unwrap().ip, model.pod(&key("c")).unwrap().ip);
    assert_eq!(old, new, "the address is another pod's while the old pod can still be seen");
    model.advance(3_000);
    assert_eq!(model.pod(&key("a")), None);
    let changes = model.changes_since(before).unwrap().changes;
    let mine = |change: &&Change| match change {
        Change::Pod(pod) => pod.uid == uid,
        Change::PodGone(pod) => pod.uid == uid,
        Change::Claim(_) | Change::ClaimGone(_) => false,
    };
    let mine: Vec<_> = changes.iter().filter(mine).collect();
    assert_eq!(mine.len(), 3, "asked to go, stopped, gone: {mine:?}");
    assert_eq!(mine[2], &Change::PodGone(PodGone { uid: uid.clone() }));
    next.pop();
    model.apply_manifests(&next, 3_000).unwrap();
    model.advance(9_000);
    assert_eq!(names(&model), ["b"]);
}

#[test]
fn a_pre_stop_hook_takes_the_grace_period_and_a_forced_or_unstarted_pod_goes_at_once() {
    let hook = json!({ "terminationGracePeriodSeconds": 20,
        "containers": [{ "name": "c", "lifecycle": { "preStop": { "exec": {} } } }] });
    let mut model = applied(&[bare("a", "80", &hook), bare("b", "80", &json!({}))]);
    model.delete_pod(&key("a"), None);
    model.delete_pod(&key("b"), Some(0));
    assert_eq!(names(&model), ["a"]);
    model.advance(20_999);
    assert!(!model.pod(&key("a")).unwrap().containers_terminated);
    model.advance(21_000);
    assert!(model.pod(&key("a")).unwrap().containers_terminated);
    model.apply_manifests(&[bare("late", "80", &json!({}))], 23_000).unwrap();
    model.delete_pod(&key("late"), None);
    assert_eq!(names(&model), [""; 0]);
}

#[test]
fn a_shorter_grace_period_hurries_a_pod() {
    let hook = json!({ "containers": [{ "name": "c", "lifecycle": { "preStop": {} } }] });
    let mut model = applied(&[bare("a", "80", &hook)]);
    model.delete_pod(&key("a"), None);
    model.delete_pod(&key("a"), Some(60_000));
    assert_eq!(model.list_pods()[0].terminating_grace_ms, Some(30_000), "a longer one does not hold it");
    model.delete_pod(&key("a"), Some(2_000));
    assert_eq!(model.list_pods()[0].terminating_grace_ms, Some(2_000));
    model.advance(3_000);
    assert!(model.list_pods()[0].containers_terminated);
    model.advance(60_000);
    assert_eq!(names(&model), [""; 0]);
}

#[test]
fn without_free_addresses_pods_wait_in_order_of_creation() {
    let mut settings = Settings::new("not a UUID");
    settings.blocks = vec![Cidr::new([10, 0, 0, 0].into(), 29)];
    let mut model = Model::new(settings);
    let pods: Vec<_> = ["a", "b", "c", "d", "e"].map(|name| bare(name, "80", &json!({}))).into();
    model.apply_manifests(&pods, 0).unwrap();
    model.advance(1_000);
    let addressed = |model: &Model, name: &str| model.pod(&key(name)).unwrap().ip.map(|ip| ip.to_string());
    assert_eq!((addressed(&model, "d"), addressed(&model, "e")), (None, None));
    model.delete_pod(&key("b"), Some(0));
    model.advance(1_000);
    assert_eq!(addressed(&model, "d").as_deref(), Some("10.0.0.2"));
    assert_eq!(addressed(&model, "e"), None);
    model.finish_pod(&key("a"), true);
    model.advance(1_000);
    assert_eq!(addressed(&model, "e").as_deref(), Some("10.0.0.1"));
    assert_eq!(addressed(&model, "a").as_deref(), Some("10.0.0.1"), "a finished pod still shows its address");
    assert!(!model.move_pod(&key("c")), "there is no other address");
}

#[test]
fn a_moved_pod_keeps_its_uid_and_frees_its_address() {
    let mut model = applied(&[bare("a", "80", &json!({}))]);
    let before = model.pod(&key("a")).unwrap().clone();
    assert!(model.move_pod(&key("a")));
    let after = model.pod(&key("a")).unwrap().clone();
    assert_eq!(before.uid, after.uid);
    assert_ne!(before.ip, after.ip);
    model.apply_manifests(&[bare("a", "80", &json!({})), bare("b", "80", &json!({}))], 2_000).unwrap();
    model.advance(3_000);
    assert_eq!(model.pod(&key("b")).unwrap().ip, before.ip);
}

#[test]
fn a_deployment_names_scales_and_replaces_its_pods() {
    let mut model = applied(&[deployment(3)]);
    let first = names(&model);
    assert_eq!(first.len(), 3);
    for name in &first {
        let parts: Vec<_> = name.split('-').collect();
        assert_eq!((parts[0], parts[1].len(), parts[2].len()), ("example", 10, 5), "{name}");
    }
    let owner = model.list_pods()[0].owner.clone().unwrap();
    assert_eq!((owner.1.as_str(), owner.2.as_str()), ("ReplicaSet", first[0].rsplit_once('-').unwrap().0));
    assert_eq!(model.apply_manifests(&[deployment(3)], 1_000).unwrap(), []);
    assert_eq!(names(&model), first, "the same manifests change nothing");

    let actions = model.apply_manifests(&[deployment(5)], 2_000).unwrap();
    assert_eq!(
        actions.iter().map(|(key, action)| (key.to_string(), *action)).collect::<Vec<_>>(),
        [("deployment.apps default/example".to_owned(), Action::Configured)]
    );
    model.advance(3_000);
    assert_eq!(model.pods().count(), 5);
    model.apply_manifests(&[deployment(3)], 3_000).unwrap();
    model.advance(6_000);
    assert_eq!(names(&model), first, "the youngest go first");

    let changed = workload("Deployment", "example", 3, &template("443", &json!({})));
    model.apply_manifests(&[changed], 7_000).unwrap();
    assert_eq!(model.pods().filter(|pod| pod.active()).count(), 3);
    assert_eq!(model.pods().filter(|pod| pod.deleting.is_some()).count(), 3);
    model.advance(9_000);
    assert!(names(&model).iter().all(|name| !first.contains(name)));
    model.apply_manifests(&[deployment(3)], 10_000).unwrap();
    model.advance(13_000);
    assert_eq!(model.list_pods()[0].owner.as_ref(), Some(&owner), "an old template is its old ReplicaSet");
}

#[test]
fn scaling_down_spares_pods_that_are_ready() {
    let gate = json!({ "readinessGates": [{ "conditionType": READINESS_GATE }] });
    let scaled = |replicas| workload("Deployment", "example", replicas, &template("80", &gate));
    let mut model = applied(&[scaled(4)]);
    let pods: Vec<_> = model.pods().cloned().collect();
    for pod in [&pods[1], &pods[3]] {
        model.mark_pod(&mark(pod, true)).unwrap();
    }
    model.apply_manifests(&[scaled(2)], 2_000).unwrap();
    model.advance(5_000);
    assert_eq!(names(&model), [pods[1].key.name().to_string(), pods[3].key.name().to_string()]);
}

#[test]
fn a_deployment_replaces_what_goes_and_what_finished() {
    let mut model = applied(&[deployment(2)]);
    let first: Vec<_> = model.pods().map(|pod| pod.key.clone()).collect();
    model.delete_pod(&first[0], None);
    assert_eq!(model.pods().filter(|pod| pod.active()).count(), 2, "at once, not when the old one has gone");
    assert!(model.finish_pod(&first[1], false));
    assert_eq!(model.pods().filter(|pod| pod.active()).count(), 2);
    model.advance(10_000);
    assert_eq!(model.pods().count(), 3, "the finished pod stays");
    assert!(model.list_pods().iter().any(|pod| pod.terminal && pod.name == *first[1].name()));
}

#[test]
fn a_stateful_set_creates_again_under_the_same_name_with_another_uid() {
    let mut model = applied(&[stateful_set(3, "80")]);
    assert_eq!(names(&model), ["web-0", "web-1", "web-2"]);
    let before = model.pod(&key("web-1")).unwrap().clone();
    model.delete_pod(&key("web-1"), None);
    model.advance(2_999);
    assert_eq!(model.pod(&key("web-1")).unwrap().uid, before.uid, "the name is taken until the old pod has gone");
    model.advance(4_000);
    let after = model.pod(&key("web-1")).unwrap().clone();
    assert_ne!(after.uid, before.uid);
    assert_eq!(after.owner, before.owner);
    assert_eq!(model.mark_pod(&mark(&before, true)).unwrap_err().class, ClusterErrorClass::Gone, "another UID");

    model.apply_manifests(&[stateful_set(1, "80")], 5_000).unwrap();
    model.advance(8_000);
    assert_eq!(names(&model), ["web-0"]);
    let uid = model.pod(&key("web-0")).unwrap().uid.clone();
    model.apply_manifests(&[stateful_set(2, "443")], 9_000).unwrap();
    model.advance(12_000);
    assert_eq!(names(&model), ["web-0", "web-1"]);
    assert_ne!(model.pod(&key("web-0")).unwrap().uid, uid, "a new template is a new pod");
    assert!(model.finish_pod(&key("web-0"), false));
    model.advance(13_000);
    assert!(model.pod(&key("web-0")).unwrap().active(), "a failed pod of a StatefulSet is replaced");
}

#[test]
fn a_stateful_set_that_comes_back_takes_its_names_when_they_are_free() {
    let mut model = applied(&[stateful_set(2, "80")]);
    model.apply_manifests(&[], 1_000).unwrap();
    model.apply_manifests(&[stateful_set(2, "80")], 1_500).unwrap();
    assert_eq!(model.pods().filter(|pod| pod.active()).count(), 0);
    model.advance(4_000);
    assert_eq!(model.pods().filter(|pod| pod.active()).count(), 2);
}

#[test]
fn a_bare_pod_is_annotated_in_place_and_replaced_where_it_cannot_change() {
    let mut model = applied(&[bare("a", "80", &json!({}))]);
    let uid = model.pod(&key("a")).unwrap().uid.clone();
    let answer = mark(model.pod(&key("a")).unwrap(), true);
    model.mark_pod(&answer).unwrap();
    model.apply_manifests(&[bare("a", "443", &json!({}))], 1_000).unwrap();
    let pod = model.pod(&key("a")).unwrap();
    assert_eq!(pod.uid, uid);
    assert_eq!(pod.annotations["k8s.aliyun.com/pod-dnat-expose-port"], "443");
    assert!(pod.annotations.contains_key("k8s.aliyun.com/pod-dnat-status"), "others' annotations stay");
    model.apply_manifests(&[bare("a", "443", &json!({ "hostNetwork": true }))], 2_000).unwrap();
    model.advance(5_000);
    assert_ne!(model.pod(&key("a")).unwrap().uid, uid);
    model.delete_pod(&key("a"), None);
    model.advance(9_000);
    assert_eq!(names(&model), [""; 0], "nobody creates a bare pod again");
    model.apply_manifests(&[bare("a", "443", &json!({ "hostNetwork": true }))], 9_000).unwrap();
    assert_eq!(names(&model), ["a"], "but applying does");
    assert!(model.annotate_pod(&key("a"), "k8s.aliyun.com/pod-dnat", None));
    assert_eq!(model.list_pods()[0].annotations.len(), 1);
    assert!(!model.annotate_pod(&key("nobody"), "x", Some("y")));
}

#[test]
fn a_claim_is_created_once_and_written_only_over_what_was_found() {
    let (mut model, mapping, found) = claimed();
    let created = object(&model, "a").metadata;
    assert_eq!(created.creation_timestamp.as_deref(), Some("2023-09-20T03:26:45Z"));
    assert_eq!((created.generation, created.finalizers.as_slice()), (1, [FINALIZER.to_owned()].as_slice()));
    assert_eq!(class(model.create_claim(&mapping)), ClusterErrorClass::AlreadyExists);

    let version = model.version();
    assert_eq!(model.replace_claim(&mapping, &found).unwrap(), found, "an equal object is not written");
    assert_eq!(model.version(), version);
    let moved = Mapping { ip: [172, 16, 0, 9].into(), ..mapping.clone() };
    let replaced = model.replace_claim(&moved, &found).unwrap();
    assert_eq!((replaced.uid.as_str(), object(&model, "a").metadata.generation), (found.uid.as_str(), 2));
    assert_ne!(replaced.resource_version, found.resource_version);

    assert_eq!(class(model.replace_claim(&mapping, &found)), ClusterErrorClass::Conflict);
    assert_eq!(class(model.write_status(&publication(&mapping), &found)), ClusterErrorClass::Conflict);
    assert_eq!(class(model.strip_finalizer(&mapping.key, &found)), ClusterErrorClass::Conflict);
    let stranger = ClaimFound { uid: "other".to_owned(), ..replaced.clone() };
    assert_eq!(class(model.replace_claim(&mapping, &stranger)), ClusterErrorClass::Conflict);
    let nowhere = Mapping { key: key("b"), ..mapping };
    assert_eq!(class(model.replace_claim(&nowhere, &replaced)), ClusterErrorClass::Gone);
    assert_eq!(class(model.strip_finalizer(&nowhere.key, &replaced)), ClusterErrorClass::Gone);
    assert_eq!(class(model.write_status(&publication(&nowhere), &replaced)), ClusterErrorClass::Gone);
    assert_eq!(model.read_claim(&key("b")), None);
}

#[test]
fn the_status_is_written_beside_the_spec() {
    let (mut model, mapping, found) = claimed();
    model.write_status(&publication(&mapping), &found).unwrap();
    let written = object(&model, "a");
    assert_eq!(written.metadata.generation, 1, "a status is no change of the spec");
    assert_eq!(written.status.entries[0].forward_entry_id, "fwd-1");
    assert!(model.list_claims()[0].published);
    let standing = model.read_claim(&key("a")).unwrap();
    let moved = Mapping { ip: [172, 16, 0, 9].into(), ..mapping.clone() };
    model.replace_claim(&moved, &standing).unwrap();
    assert_eq!(object(&model, "a").status, written.status, "replacing leaves the status alone");
    let standing = model.read_claim(&key("a")).unwrap();
    let withdrawn = Publication { mapping: None, reason: ("Releasing", "the pod has gone"), ..publication(&mapping) };
    model.write_status(&withdrawn, &standing).unwrap();
    assert!(!model.list_claims()[0].published);
    let shown = serde_json::to_value(model.poddnats().next().unwrap()).unwrap();
    assert_eq!(shown["status"].get("entries"), None);
}

#[test]
fn a_finalizer_holds_a_deleted_object_until_it_is_taken_off() {
    let (mut model, mapping, found) = claimed();
    model.delete_claim(&mapping.key, "another uid");
    assert!(!model.list_claims()[0].deleting);
    model.delete_claim(&mapping.key, &found.uid);
    let deleted = object(&model, "a").metadata;
    assert_eq!((deleted.generation, deleted.deletion_grace_period_seconds), (2, Some(0)));
    assert!(deleted.deletion_timestamp.is_some());
    let version = model.version();
    model.delete_claim(&mapping.key, &found.uid);
    assert_eq!(model.version(), version, "asking again changes nothing");
    assert_eq!(class(model.create_claim(&mapping)), ClusterErrorClass::AlreadyExists);
    let standing = model.read_claim(&mapping.key).unwrap();
    assert!(standing.deleting && standing.finalizer);
    let moved = Mapping { ip: [172, 16, 0, 9].into(), ..mapping.clone() };
    let standing = model.replace_claim(&moved, &standing).unwrap();
    model.strip_finalizer(&mapping.key, &standing).unwrap();
    assert_eq!(model.list_claims(), []);
    let gone = ClaimGone { namespace: "default".to_owned(), name: "a".to_owned(), uid: found.uid.clone() };
    assert_eq!(model.changes_since(version).unwrap().changes.last(), Some(&Change::ClaimGone(gone)));
    model.delete_claim(&mapping.key, &found.uid);
    assert_ne!(model.create_claim(&mapping).unwrap().uid, found.uid);
}

#[test]
fn an_object_without_finalizer_goes_at_once_and_gets_it_back_only_while_it_lives() {
    let (mut model, mapping, found) = claimed();
    model.strip_finalizer(&mapping.key, &found).unwrap();
    let standing = model.read_claim(&mapping.key).unwrap();
    assert!(!standing.finalizer && !standing.deleting);
    let standing = model.replace_claim(&mapping, &standing).unwrap();
    assert!(standing.finalizer);
    assert!(model.edit_claim(&mapping.key, |object| object.metadata.finalizers = vec!["example.com/other".to_owned()]));
    model.delete_claim(&mapping.key, &found.uid);
    let standing = model.read_claim(&mapping.key).unwrap();
    let refused = model.replace_claim(&mapping, &standing).unwrap_err();
    assert_eq!(refused.class, ClusterErrorClass::Refused, "{refused}");
    model.edit_claim(&mapping.key, |object| object.metadata.finalizers.clear());
    assert_eq!(model.read_claim(&mapping.key), None);
    let found = model.create_claim(&mapping).unwrap();
    model.strip_finalizer(&mapping.key, &found).unwrap();
    model.delete_claim(&mapping.key, &found.uid);
    assert_eq!(model.read_claim(&mapping.key), None);
    assert!(!model.edit_claim(&mapping.key, |_| ()));
}

#[test]
fn an_edit_by_hand_cannot_touch_what_is_the_servers() {
    let (mut model, mapping, found) = claimed();
    model.edit_claim(&mapping.key, |object| {
        object.metadata.uid = "mine".to_owned();
        object.metadata.deletion_timestamp = Some("now".to_owned());
        object.spec.external_ip = "192.0.2.1".to_owned();
    });
    let edited = object(&model, "a");
    assert_eq!((edited.metadata.uid, edited.metadata.deletion_timestamp), (found.uid.clone(), None));
    assert_eq!(edited.metadata.generation, 2);
    assert_eq!(class(model.replace_claim(&mapping, &found)), ClusterErrorClass::Conflict);
}

#[test]
fn what_lost_its_owner_is_collected_later_and_its_finalizer_holds_it() {
    let (mut model, mapping, _) = claimed();
    model.delete_pod(&mapping.key, None);
    model.advance(3_400);
    assert!(model.pod(&mapping.key).is_none());
    assert!(!model.list_claims()[0].deleting, "not yet");
    model.advance(3_500);
    let standing = model.read_claim(&mapping.key).unwrap();
    assert!(standing.deleting && standing.finalizer);
    model.strip_finalizer(&mapping.key, &standing).unwrap();
    model.create_claim(&mapping).unwrap();
    model.advance(4_000);
    assert!(model.list_claims()[0].deleting, "an owner that never was there is no owner");
}

#[test]
fn a_pod_of_the_same_name_is_another_owner() {
    let mut model = applied(&[stateful_set(1, "80")]);
    let mapping = mapping(model.pod(&key("web-0")).unwrap());
    model.create_claim(&mapping).unwrap();
    model.delete_pod(&mapping.key, None);
    model.advance(5_000);
    assert!(model.pod(&mapping.key).unwrap().active());
    assert!(model.list_claims()[0].deleting);
}

#[test]
fn a_fixed_claim_goes_with_the_controller_and_not_with_the_pod() {
    let mut model = applied(&[stateful_set(1, "80"), bare("a", "80", &json!({}))]);
    for name in ["web-0", "a"] {
        let mapping = Mapping { fixed: true, ..mapping(model.pod(&key(name)).unwrap()) };
        model.create_claim(&mapping).unwrap();
        model.delete_pod(&mapping.key, None);
    }
    model.advance(10_000);
    assert!(model.list_claims().iter().all(|claim| !claim.deleting));
    assert!(object(&model, "a").metadata.owner_references.is_empty());
    let owner = object(&model, "web-0").metadata.owner_references[0].clone();
    assert_eq!((owner.kind.as_str(), owner.block_owner_deletion), ("StatefulSet", false));
    model.apply_manifests(&[], 10_000).unwrap();
    model.advance(20_000);
    let deleting: Vec<_> = model.list_claims().into_iter().map(|claim| (claim.name, claim.deleting)).collect();
    assert_eq!(deleting, [("a".to_owned(), false), ("web-0".to_owned(), true)]);
}

#[test]
fn a_terminating_namespace_takes_nothing_new_and_ends_with_its_last_object() {
    let (mut model, mapping, _) = claimed();
    model.delete_namespace("default");
    assert!(model.list_pods()[0].namespace_terminating && model.list_pods()[0].terminating_grace_ms.is_some());
    assert!(model.list_claims()[0].deleting);
    let other = Mapping { key: key("b"), ..mapping.clone() };
    assert_eq!(class(model.create_claim(&other)), ClusterErrorClass::Refused);
    let faults = model.apply_manifests(&[bare("b", "80", &json!({}))], 1_000).unwrap_err();
    assert_eq!(faults.len(), 1, "a namespace that is not named is `default` all the same: {faults:?}");
    model.advance(10_000);
    assert_eq!(names(&model), [""; 0]);
    assert!(model.apply_manifests(&[bare("b", "80", &json!({}))], 10_000).is_err(), "the claim's finalizer holds it");
    let standing = model.read_claim(&mapping.key).unwrap();
    model.strip_finalizer(&mapping.key, &standing).unwrap();
    model.apply_manifests(&[bare("b", "80", &json!({}))], 10_000).unwrap();
    assert_eq!(names(&model), ["b"]);
}

#[test]
fn the_lease_is_written_only_over_what_was_read() {
    let mut model = model();
    let empty = model.read_lease();
    assert_eq!(empty, LeaseRecord::default());
    let record = |holder: &str, over: &LeaseRecord| LeaseRecord {
        holder: holder.to_owned(),
        term: 7,
        duration_ms: 15_000,
        heads: vec![([1; 16], 9, [2; 32])],
        ..over.clone()
    };
    let first = model.write_lease(&record("a", &empty)).unwrap();
    assert_eq!(model.read_lease(), first);
    assert_eq!(class(model.write_lease(&record("b", &empty))), ClusterErrorClass::Conflict);
    let second = model.write_lease(&record("b", &first)).unwrap();
    assert_eq!(class(model.write_lease(&record("a", &first))), ClusterErrorClass::Conflict);
    assert_eq!(model.read_lease().holder, "b");
    model.drop_lease_holder();
    let dropped = model.read_lease();
    assert_eq!((dropped.holder.as_str(), dropped.term, dropped.heads.len()), ("", 7, 1));
    assert_ne!(dropped.resource_version, second.resource_version);
}

#[test]
fn two_runs_are_equal_and_a_saved_cluster_goes_on_as_if_it_had_not_been() {
    let run = |saved: bool| {
        let mut model = applied(&[deployment(3), stateful_set(2, "80")]);
        let mapping = mapping(model.pod(&key("web-0")).unwrap());
        model.create_claim(&mapping).unwrap();
        let said = mark(model.pod(&key("web-0")).unwrap(), true);
        model.announce(&said);
        model.delete_pod(&key("web-0"), None);
        let version = model.version();
        if saved {
            model = serde_json::from_str(&serde_json::to_string(&model).unwrap()).unwrap();
            assert!(model.changes_since(version - 1).is_err(), "watches begin anew");
        }
        model.advance(60_000);
        let changes = model.changes_since(version).unwrap().changes;
        assert!(changes.len() > 3);
        (serde_json::to_string(&model).unwrap(), changes)
    };
    assert_eq!(run(false), run(true));
    assert_eq!(run(false), run(false));
}

#[test]
fn ten_thousand_pods_come_claim_and_go() {
    let mut model = model();
    model.apply_manifests(&[workload("Deployment", "big", 10_000, &template("80", &json!({})))], 0).unwrap();
    let listed = model.version();
    model.advance(1_000);
    assert_eq!(model.changes_since(listed).unwrap().changes.len(), 20_000, "an address and readiness each");
    let mappings: Vec<_> = model.pods().map(mapping).collect();
    let addresses: BTreeSet<_> = mappings.iter().map(|mapping| mapping.ip).collect();
    assert_eq!(addresses.len(), 10_000);
    for mapping in &mappings {
        model.create_claim(mapping).unwrap();
    }
    model.apply_manifests(&[], 1_000).unwrap();
    model.advance(10_000);
    assert_eq!(model.pods().count(), 0);
    for mapping in &mappings {
        let standing = model.read_claim(&mapping.key).unwrap();
        assert!(standing.deleting);
        model.strip_finalizer(&mapping.key, &standing).unwrap();
    }
    assert_eq!((model.poddnats().count(), model.next_due()), (0, None));
}
