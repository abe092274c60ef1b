//! What users apply.

use serde_json::{Value, json};

/// A pod template that asks for these ports.
fn template(app: &str, ports: &str) -> Value {
    json!({
        "metadata": {
            "labels": { "app": app },
            "annotations": { "k8s.aliyun.com/pod-dnat": "true", "k8s.aliyun.com/pod-dnat-expose-port": ports },
        },
        "spec": { "terminationGracePeriodSeconds": 1, "containers": [{ "name": "game", "image": "game" }] },
    })
}

fn workload(name: &str, replicas: u64, template: &Value) -> Value {
    json!({
        "metadata": { "name": name },
        "spec": { "replicas": replicas, "selector": { "matchLabels": { "app": name } }, "template": template },
    })
}

/// A Deployment whose pods ask for these ports.
pub fn deployment(name: &str, replicas: u64, ports: &str) -> Value {
    workload(name, replicas, &template(name, ports))
}

/// A Deployment whose pods are Ready when they are mapped.
pub fn gated_deployment(name: &str, replicas: u64, ports: &str) -> Value {
    let mut template = template(name, ports);
    template["spec"]["readinessGates"] = json!([{ "conditionType": GATE }]);
    workload(name, replicas, &template)
}

/// The condition that natgw writes.
pub const GATE: &str = "k8s.aliyun.com/pod-dnat-ready";

/// A StatefulSet whose pods keep what they are given. All run in one zone: another has another gateway, and other addresses.
pub fn fixed_stateful_set(name: &str, replicas: u64, ports: &str) -> Value {
    let mut template = template(name, ports);
    template["metadata"]["annotations"]["k8s.aliyun.com/pod-dnat-fixed"] = "true".into();
    let mut set = workload(name, replicas, &template);
    set["spec"]["template"]["spec"]["nodeSelector"] = json!({ "kubernetes.io/hostname": "node-j" });
    set["spec"]["serviceName"] = name.into();
    set["spec"]["podManagementPolicy"] = "Parallel".into();
    set
}

/// A bare pod that asks for these ports.
pub fn pod(name: &str, ports: &str) -> Value {
    let mut pod = template(name, ports);
    pod["metadata"]["name"] = name.into();
    pod
}

/// A bare pod that runs on a node.
pub fn pod_on(node: &str, name: &str, ports: &str) -> Value {
    let mut pod = pod(name, ports);
    pod["spec"]["nodeName"] = node.into();
    pod
}

/// A bare pod on a node that no simulated kubelet touches: its status is what the test writes.
pub fn pod_of_ours(name: &str, ports: &str) -> Value {
    let mut pod = pod_on("node-j", name, ports);
    pod["metadata"]["annotations"]["kwok.x-k8s.io/status"] = "custom".into();
    pod
}

/// The status of a pod that runs at an address.
pub fn running_at(address: &str) -> Value {
    json!({ "status": {
        "phase": "Running", "podIP": address, "podIPs": [{ "ip": address }],
        "conditions": [{ "type": "Ready", "status": "True" }, { "type": "ContainersReady", "status": "True" }],
        "containerStatuses": [{
            "name": "game", "image": "game", "imageID": "", "ready": true, "restartCount": 0,
            "state": { "running": { "startedAt": "2026-11-22T00:00:00Z" } },
        }],
    } })
}

/// The status of that pod when its containers have ended well. Its address stays where it stood, and is free.
pub fn succeeded_at(address: &str) -> Value {
    let mut status = running_at(address);
    status["status"]["phase"] = "Succeeded".into();
    for condition in status["status"]["conditions"].as_array_mut().unwrap() {
        condition["status"] = "False".into();
    }
    let container = &mut status["status"]["containerStatuses"][0];
    container["ready"] = false.into();
    container["state"] = json!({ "terminated": {
        "exitCode": 0, "startedAt": "2026-11-22T00:00:00Z", "finishedAt": "2026-11-22T00:00:01Z",
    } });
    status
}
