use serde_json::{Value, json};

use super::*;

fn read(documents: Vec<Value>) -> Result<BTreeMap<WorkloadKey, Wanted>, Vec<ManifestError>> {
    let manifests: Vec<_> =
        documents.into_iter().map(|document| Manifest { source: "f.yaml".to_owned(), document }).collect();
    read_all(&manifests, &BTreeSet::from(["ending".to_owned()]))
}

fn pod() -> Value {
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "a" },
        "spec": { "containers": [{ "name": "c", "ports": [{ "containerPort": 80 }] }] } })
}

fn deployment() -> Value {
    json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "a", "namespace": "games" },
        "spec": { "selector": { "matchLabels": { "app": "x" } }, "template": {
            "metadata": { "labels": { "app": "x" }, "annotations": { "k8s.aliyun.com/pod-dnat": "" } },
            "spec": { "containers": [{ "name": "c" }] } } } })
}

/// The document with the value at a JSON pointer replaced; the parents must be there.
fn with(mut document: Value, pointer: &str, value: Value) -> Value {
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    document.pointer_mut(parent).unwrap()[name] = value;
    document
}

#[test]
fn lists_namespaces_and_empty_documents() {
    let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "games" } });
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": [deployment(), namespace] });
    let wanted = read(vec![Value::Null, pod(), list]).unwrap();
    let keys: Vec<_> = wanted.keys().map(ToString::to_string).collect();
    assert_eq!(keys, ["deployment.apps games/a", "pod default/a"]);
    let spec = &wanted.values().last().unwrap().spec;
    assert_eq!((spec.ports.as_slice(), spec.grace_seconds), ([(80, 6)].as_slice(), 30));
    assert_eq!(wanted.values().next().unwrap().replicas, 1);
}

#[test]
fn the_hash_follows_what_makes_a_pod_another() {
    let hash = |document: Value| read(vec![document]).unwrap().into_values().next().unwrap().hash;
    let annotations = json!({ "x": "y" });
    assert_eq!(hash(pod()), hash(with(pod(), "/metadata/annotations", annotations.clone())));
    assert_ne!(hash(pod()), hash(with(pod(), "/spec/hostNetwork", json!(true))));
    assert_ne!(hash(deployment()), hash(with(deployment(), "/spec/template/metadata/annotations", annotations)));
    assert_eq!(hash(deployment()), hash(with(deployment(), "/spec/replicas", json!(7))));
}

#[test]
fn virtual_nodes_are_known_by_label_selector_and_name() {
    for (pointer, value) in [
        ("/metadata/labels", json!({ "alibabacloud.com/eci": "true" })),
        ("/spec/nodeSelector", json!({ "type": "virtual-kubelet" })),
        ("/spec/nodeName", json!("virtual-kubelet-cn-hangzhou-j")),
    ] {
        let wanted = read(vec![with(pod(), pointer, value)]).unwrap();
        assert!(wanted.values().all(|wanted| wanted.spec.virtual_node), "{pointer}");
    }
    assert!(read(vec![pod()]).unwrap().values().all(|wanted| !wanted.spec.virtual_node));
}

#[test]
fn each_fault_has_its_place() {
    let container = json!({ "name": "c" });
    let port = |port: Value| json!([{ "name": "c", "ports": [port] }]);
    let cases = [
        (json!([1]), "kind: [1]: there is no object to hold the field; add kind"),
        (json!({ "kind": "Pod" }), "apiVersion: absent: the field is required; add apiVersion"),
        (with(pod(), "/kind", json!("Service")), "kind: \"Service\": the simulated cluster takes"),
        (with(pod(), "/apiVersion", json!("v2")), "apiVersion: \"v2\": Pod is not of this API version; write \"v1\""),
        (with(deployment(), "/apiVersion", json!("v1")), "write \"apps/v1\""),
        (with(pod(), "/metadata", json!({})), "metadata.name: absent: the field is required"),
        (with(pod(), "/metadata/name", json!("A")), "metadata.name: \"A\": a name has lower case"),
        (with(pod(), "/metadata/name", json!(7)), "metadata.name: 7: a string is wanted"),
        (with(pod(), "/metadata/namespace", json!("a.b")), "metadata.namespace: \"a.b\": a namespace has"),
        (with(pod(), "/metadata/namespace", json!("ending")), "is being terminated; apply again"),
        (
            with(pod(), "/metadata/annotations", json!({ "k8s.aliyun.com/pod-dnat": true })),
            "metadata.annotations[\"k8s.aliyun.com/pod-dnat\"]: true: annotations have strings as values; write it in quotes: k8s.aliyun.com/pod-dnat: \"true\"",
        ),
        (with(pod(), "/metadata/annotations", json!([])), "metadata.annotations: []: a map is wanted"),
        (with(pod(), "/spec", Value::Null), "spec: absent: the field is required"),
        (with(pod(), "/spec/containers", json!([])), "spec.containers: []: a pod has at least one container"),
        (with(pod(), "/spec/containers", json!({})), "spec.containers: {}: a list is wanted"),
        (
            with(pod(), "/spec/containers", json!([container, container])),
            "spec.containers[1].name: \"c\": two containers",
        ),
        (
            with(pod(), "/spec/containers", port(json!({ "containerPort": 65_536 }))),
            "spec.containers[0].ports[0].containerPort: 65536: the number is out of its range; write a whole number from 1 to 65535",
        ),
        (
            with(pod(), "/spec/containers", port(json!({ "containerPort": 1, "protocol": "tcp" }))),
            "spec.containers[0].ports[0].protocol: \"tcp\": a container port's protocol",
        ),
        (with(pod(), "/spec/hostNetwork", json!("yes")), "spec.hostNetwork: \"yes\": true or false is wanted"),
        (with(pod(), "/spec/readinessGates", json!([{}])), "spec.readinessGates[0].conditionType: absent"),
        (with(pod(), "/spec/terminationGracePeriodSeconds", json!(-1)), "spec.terminationGracePeriodSeconds: -1:"),
        (with(deployment(), "/spec/replicas", json!(100_001)), "spec.replicas: 100001:"),
        (with(deployment(), "/spec/replicas", json!(1.5)), "spec.replicas: 1.5:"),
        (
            with(deployment(), "/spec/selector/matchLabels", json!({ "app": "y" })),
            "does not match the template's labels",
        ),
        (with(deployment(), "/spec/selector", json!({})), "spec.selector: {}: the selector chooses nothing"),
        (with(deployment(), "/spec/template", Value::Null), "spec.template: absent"),
        (
            json!({ "apiVersion": "v1", "kind": "List", "items": [pod(), { "kind": "Pod" }] }),
            "items[1].apiVersion: absent",
        ),
    ];
    // Fields of a List's items carry the List's path.
    for (document, words) in cases {
        let faults = read(vec![document.clone()]).unwrap_err();
        assert_eq!(faults.len(), 1, "{faults:?}");
        let text = faults[0].to_string();
        assert!(text.starts_with("f.yaml: ") && text.contains(words), "{document} gave {text}");
    }
}

#[test]
fn all_documents_are_looked_at_and_nothing_is_taken_by_halves() {
    let faults = read(vec![with(pod(), "/metadata/name", json!("B")), pod(), pod(), with(pod(), "/spec", json!(1))]);
    let faults: Vec<_> = faults.unwrap_err().into_iter().map(|fault| (fault.path, fault.value)).collect();
    assert_eq!(
        faults,
        [
            ("metadata.name".to_owned(), "\"B\"".to_owned()),
            ("metadata.name".to_owned(), "\"a\"".to_owned()),
            ("spec.containers".to_owned(), "1".to_owned()),
        ]
    );
}

#[test]
fn what_is_shown_and_followed_is_bounded() {
    let faults = read(vec![with(pod(), "/kind", json!("x".repeat(1000)))]).unwrap_err();
    assert_eq!(faults[0].value.chars().count(), 61);
    let mut list = json!({ "apiVersion": "v1", "kind": "List", "items": [] });
    for _ in 0..DEPTH_MAX {
        list = json!({ "apiVersion": "v1", "kind": "List", "items": [list] });
    }
    assert!(read(vec![list]).unwrap_err()[0].reason.contains("deep"));
}
