//! Is the harness what it says it is? Otherwise nothing that it finds means anything.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::api::{Api, eventually, is, propagation};
use crate::children;
use crate::control_plane::{ControlPlane, NODES, condition};
use crate::programs::Programs;
use crate::{Case, Needs, Tier};

pub const CASES: &[Case] = &[
    Case {
        name: "itself::a_deployment_runs_and_its_garbage_is_collected",
        tier: Tier::Short,
        needs: Needs::Ours,
        run: a_deployment_runs_and_its_garbage_is_collected,
    },
    Case {
        name: "itself::a_pod_is_ready_when_its_gate_is_open",
        tier: Tier::Short,
        needs: Needs::Ours,
        run: a_pod_is_ready_when_its_gate_is_open,
    },
    Case {
        name: "itself::kubectl_and_service_accounts_are_who_they_say",
        tier: Tier::Short,
        needs: Needs::Server,
        run: kubectl_and_service_accounts_are_who_they_say,
    },
    Case {
        name: "itself::the_api_server_comes_back_with_its_data",
        tier: Tier::Short,
        needs: Needs::Ours,
        run: the_api_server_comes_back_with_its_data,
    },
    Case {
        name: "itself::nothing_outlives_a_parent_that_is_killed",
        tier: Tier::Short,
        needs: Needs::Ours,
        run: nothing_outlives_a_parent_that_is_killed,
    },
    Case {
        name: "itself::an_exposure_is_seen",
        tier: Tier::Short,
        needs: Needs::Server,
        run: |_| crate::exposure::sees_what_it_is_there_for(),
    },
    Case {
        name: "itself::two_thousand_pods_are_ready",
        tier: Tier::Full,
        needs: Needs::Ours,
        run: two_thousand_pods_are_ready,
    },
];

/// Far beyond what controllers and simulated nodes take.
const PATIENCE: Duration = Duration::from_secs(60);

fn a_deployment_runs_and_its_garbage_is_collected(plane: &ControlPlane) {
    let api = plane.admin();
    let namespace = namespace(&api, "itself-deployment");
    let pods = format!("/api/v1/namespaces/{namespace}/pods");
    let began = Instant::now();
    api.create(&format!("/apis/apps/v1/namespaces/{namespace}/deployments"), &deployment("web", 20)).unwrap();
    eventually("20 Ready pods", PATIENCE, || {
        let ready = ready(&api.list(&pods));
        is(ready == 20, ready)
    });
    println!("20 pods of a Deployment are Ready after {:.1} s", began.elapsed().as_secs_f64());
    let (mut addresses, mut per_node) = (std::collections::BTreeSet::new(), std::collections::BTreeMap::new());
    for pod in api.list(&pods) {
        let (node, address) = (pod["spec"]["nodeName"].as_str().unwrap(), pod["status"]["podIP"].as_str().unwrap());
        let (_, range) = NODES.iter().find(|(name, _)| *name == node).unwrap();
        let begins = range.strip_suffix(".0.0/16").unwrap();
        assert!(address.starts_with(&format!("{begins}.")), "{address} on {node}");
        assert!(addresses.insert(address.to_owned()), "{address} twice");
        *per_node.entry(node.to_owned()).or_insert(0) += 1;
    }
    assert_eq!(per_node.len(), NODES.len(), "{per_node:?}");

    api.delete(&format!("/apis/apps/v1/namespaces/{namespace}/deployments/web"), &propagation("Background")).unwrap();
    eventually("collection of ReplicaSet and pods", PATIENCE, || {
        let left = api.list(&format!("/apis/apps/v1/namespaces/{namespace}/replicasets")).len() + api.list(&pods).len();
        is(left == 0, left)
    });
}

fn a_pod_is_ready_when_its_gate_is_open(plane: &ControlPlane) {
    let api = plane.admin();
    let namespace = namespace(&api, "itself-gate");
    let pods = format!("/api/v1/namespaces/{namespace}/pods");
    let mut pod = pod("gated");
    pod["spec"]["readinessGates"] = json!([{ "conditionType": GATE }]);
    api.create(&pods, &pod).unwrap();
    let path = format!("{pods}/gated");
    eventually("pod that runs and is not Ready", PATIENCE, || {
        let pod = api.get(&path).unwrap();
        is(pod["status"]["phase"] == "Running" && condition(&pod, "Ready") == Some("False"), &pod["status"])
    });
    for status in ["True", "False", "True"] {
        set_gate(plane, &namespace, status);
        eventually("Ready that follows the gate", PATIENCE, || {
            let pod = api.get(&path).unwrap();
            is(condition(&pod, "Ready") == Some(status) && condition(&pod, GATE) == Some(status), &pod["status"])
        });
    }
}

/// The condition that natgw writes.
const GATE: &str = "k8s.aliyun.com/pod-dnat-ready";

fn set_gate(plane: &ControlPlane, namespace: &str, status: &str) {
    let patch = json!({ "status": { "conditions": [{ "type": GATE, "status": status }] } }).to_string();
    let arguments =
        ["patch", "pod", "gated", "-n", namespace, "--subresource=status", "--type=strategic", "-p", &patch];
    plane.kubectl(&arguments, "").unwrap();
}

fn kubectl_and_service_accounts_are_who_they_say(plane: &ControlPlane) {
    let api = plane.admin();
    let namespace = namespace(&api, "itself-who");
    let who = plane.kubectl(&["auth", "whoami", "-o", "json"], "").unwrap();
    if plane.is_ours() {
        assert_eq!(serde_json::from_str::<Value>(&who).unwrap()["status"]["userInfo"]["username"], "admin");
    }
    let map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {k: v}\n";
    plane.kubectl(&["apply", "-n", &namespace, "-f", "-"], map).unwrap();
    let maps = format!("/api/v1/namespaces/{namespace}/configmaps");
    assert_eq!(api.get(&format!("{maps}/a")).unwrap()["data"]["k"], "v");
    let refused = plane.kubectl(&["get", "configmap", "b", "-n", &namespace], "").unwrap_err();
    assert!(refused.contains("NotFound"), "{refused}");

    let token = plane.service_account(&namespace, "reader");
    let reader = plane.with_token(&token);
    assert_eq!(reader.get(&maps).unwrap_err().status, 403);
    let rule = json!({ "apiGroups": [""], "resources": ["configmaps"], "verbs": ["list"] });
    let rbac = format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}");
    api.create(&format!("{rbac}/roles"), &json!({ "metadata": { "name": "reader" }, "rules": [rule] })).unwrap();
    let binding = json!({
        "metadata": { "name": "reader" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader" },
        "subjects": [{ "kind": "ServiceAccount", "name": "reader", "namespace": namespace }],
    });
    api.create(&format!("{rbac}/rolebindings"), &binding).unwrap();
    eventually("right to list", PATIENCE, || reader.get(&maps).map(|_| ()).map_err(|refused| refused.to_string()));
    assert_eq!(reader.get(&format!("{maps}/a")).unwrap_err().status, 403);
}

fn the_api_server_comes_back_with_its_data(plane: &ControlPlane) {
    let api = plane.admin();
    let namespace = namespace(&api, "itself-restart");
    let path = format!("/api/v1/namespaces/{namespace}/configmaps");
    let made = api.create(&path, &json!({ "metadata": { "name": "kept" }, "data": { "k": "v" } })).unwrap();
    plane.kill_api_server();
    assert_eq!(api.get(&path).unwrap_err().status, 0, "nobody answers");
    let began = Instant::now();
    plane.start_api_server();
    println!("the API server answers {:.1} s after it was started again", began.elapsed().as_secs_f64());
    let found = api.get(&format!("{path}/kept")).unwrap();
    assert_eq!((&found["metadata"]["uid"], &found["data"]), (&made["metadata"]["uid"], &made["data"]));
    // Controllers find it again.
    api.create(&format!("/api/v1/namespaces/{namespace}/pods"), &pod("after")).unwrap();
    eventually("Ready pod after the restart", PATIENCE, || {
        let pods = api.list(&format!("/api/v1/namespaces/{namespace}/pods"));
        is(ready(&pods) == 1, &pods[0]["status"])
    });
}

/// The argument with which this program is the parent of a control plane, for its own test.
const PARENT: &str = "--parent-of-a-control-plane";

/// Where this process was started to be killed: starts a control plane, says its processes, and waits.
pub fn parent() -> Option<ExitCode> {
    if env::args().nth(1).as_deref() != Some(PARENT) {
        return None;
    }
    let Ok(programs) = Programs::get() else { return Some(ExitCode::FAILURE) };
    let plane = ControlPlane::start(programs);
    let processes: Vec<_> = plane.processes().iter().map(u32::to_string).collect();
    println!("{}", processes.join(" "));
    // Its own parent ends it.
    std::io::stdin().lines().for_each(drop);
    Some(ExitCode::SUCCESS)
}

fn nothing_outlives_a_parent_that_is_killed(plane: &ControlPlane) {
    let temporary = tempfile::tempdir().unwrap();
    let mut this = children::command(&env::current_exe().unwrap());
    this.arg(PARENT).env("TMPDIR", temporary.path()).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = children::launch(this).unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let processes: Vec<u32> = line.split_whitespace().map(|process| process.parse().unwrap()).collect();
    assert_eq!(processes.len(), plane.processes().len(), "{line}");
    assert!(processes.iter().all(|process| runs(*process)), "{line}");
    kill_process(Pid::from_child(&child), Signal::KILL).unwrap();
    child.wait().unwrap();
    eventually("end of all its children", PATIENCE, || {
        let left: Vec<_> = processes.iter().filter(|process| runs(**process)).collect();
        is(left.is_empty(), left)
    });
}

/// The process is there, and not only waited for by nobody.
fn runs(process: u32) -> bool {
    let status = fs::read_to_string(Path::new("/proc").join(process.to_string()).join("stat")).unwrap_or_default();
    status.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}

fn two_thousand_pods_are_ready(plane: &ControlPlane) {
    let api = plane.admin();
    let namespace = namespace(&api, "itself-scale");
    let began = Instant::now();
    let path = format!("/apis/apps/v1/namespaces/{namespace}/deployments");
    api.create(&path, &deployment("many", 2_000)).unwrap();
    eventually("2,000 Ready pods", Duration::from_secs(120), || {
        let ready = api.get(&format!("{path}/many")).unwrap()["status"]["readyReplicas"].as_u64().unwrap_or(0);
        is(ready == 2_000, ready)
    });
    println!("2,000 pods of a Deployment are Ready after {:.1} s", began.elapsed().as_secs_f64());
    for (component, kib) in plane.memory() {
        println!("{component}: {} MiB", kib / 1_024);
    }
    api.delete(&format!("/api/v1/namespaces/{namespace}"), &propagation("Background")).unwrap();
    eventually("end of the namespace", Duration::from_secs(120), || {
        let left = api.find(&format!("/api/v1/namespaces/{namespace}"));
        is(left.is_none(), "it is still there")
    });
}

fn namespace(api: &Api, name: &str) -> String {
    api.create("/api/v1/namespaces", &json!({ "metadata": { "name": name } })).unwrap();
    name.to_owned()
}

fn ready(pods: &[Value]) -> usize {
    pods.iter().filter(|pod| condition(pod, "Ready") == Some("True")).count()
}

fn pod(name: &str) -> Value {
    json!({ "metadata": { "name": name }, "spec": { "containers": [{ "name": "a", "image": "a" }] } })
}

fn deployment(name: &str, replicas: u64) -> Value {
    json!({
        "metadata": { "name": name },
        "spec": {
            "replicas": replicas,
            "selector": { "matchLabels": { "app": name } },
            "template": {
                "metadata": { "labels": { "app": name } },
                "spec": { "containers": [{ "name": "a", "image": "a" }] },
            },
        },
    })
}
