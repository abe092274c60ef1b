//! natgw under a ServiceAccount that has what `charts/natgw/files` gives, and nothing else: it is enough, and each line of
//! it is needed.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::{Value, json};

use crate::api::{eventually, is};
use crate::control_plane::{ControlPlane, condition};
use crate::proxy::Proxy;
use crate::workloads::{GATE, pod_on};
use crate::world::{CRASH_PATIENCE, LEASE, Namespace, PATIENCE, SYSTEM, Settings, World, text};
use crate::{Case, Needs, Tier};

pub const CASES: &[Case] = &[Case {
    name: "rbac::the_charts_roles_are_enough_and_each_line_is_needed",
    tier: Tier::Full,
    needs: Needs::Ours,
    run: the_charts_roles_are_enough_and_each_line_is_needed,
}];

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";
const ACCOUNT: &str = "natgw";

/// One verb on one resource.
#[derive(Clone, Debug, PartialEq)]
struct Permission {
    cluster: bool,
    group: String,
    resource: String,
    verb: String,
    name: Option<String>,
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { group, resource, verb, name, .. } = self;
        write!(f, "{verb} {resource}{}{group}", if group.is_empty() { "" } else { "." })?;
        name.iter().try_for_each(|name| write!(f, " {name}"))
    }
}

/// The permissions of a file of the chart, one by one. No wildcard, and no Secret that is not named.
fn permissions(file: &str, cluster: bool) -> Vec<Permission> {
    let path = format!("{}/charts/natgw/files/{file}", env!("CARGO_MANIFEST_DIR"));
    let rules: Vec<Value> = serde_saphyr::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    let mut all = Vec::new();
    for rule in &rules {
        let list = |key: &str| rule[key].as_array().cloned().unwrap_or_default().iter().map(text).collect::<Vec<_>>();
        let names = list("resourceNames");
        for (group, resource, verb) in list("apiGroups").iter().flat_map(|group| {
            let (resources, verbs) = (list("resources"), list("verbs"));
            let pairs = resources.into_iter().flat_map(move |r| verbs.clone().into_iter().map(move |v| (r.clone(), v)));
            pairs.map(|(resource, verb)| (group.clone(), resource, verb)).collect::<Vec<_>>()
        }) {
            assert!([&group, &resource, &verb].iter().all(|word| !word.contains('*')), "{file}: {rule}");
            assert!(resource != "secrets" || !names.is_empty(), "{file}: {rule}");
            assert!(names.len() <= 1, "{file}: {rule}");
            let name = names.first().cloned();
            all.push(Permission { cluster, group, resource, verb, name });
        }
    }
    all
}

fn rules(permissions: &[&Permission], cluster: bool) -> Vec<Value> {
    let of_it = permissions.iter().filter(|permission| permission.cluster == cluster);
    let rule = |permission: &&Permission| {
        let Permission { group, resource, verb, name, .. } = permission;
        let mut rule = json!({ "apiGroups": [group], "resources": [resource], "verbs": [verb] });
        if let Some(name) = name {
            rule["resourceNames"] = json!([name]);
        }
        rule
    };
    of_it.map(rule).collect()
}

/// Makes the roles what is given, and waits until the API server goes by it.
fn grant(world: &World<'_>, permissions: &[&Permission], without: Option<&Permission>) {
    for (cluster, path) in
        [(true, format!("{RBAC}/clusterroles")), (false, format!("{RBAC}/namespaces/{SYSTEM}/roles"))]
    {
        let role = json!({ "metadata": { "name": ACCOUNT }, "rules": rules(permissions, cluster) });
        match world.api.find(&format!("{path}/{ACCOUNT}")) {
            None => world.api.create(&path, &role).unwrap(),
            Some(_) => world.api.replace(&format!("{path}/{ACCOUNT}"), &role).unwrap(),
        };
    }
    let said = |permission: &Permission, allowed: bool| {
        eventually(&format!("rule about {permission}"), PATIENCE, || {
            let (resource, subresource) = permission.resource.split_once('/').unwrap_or((&permission.resource, ""));
            let review = json!({ "spec": {
                "user": format!("system:serviceaccount:{SYSTEM}:{ACCOUNT}"),
                "resourceAttributes": {
                    "namespace": SYSTEM, "group": permission.group, "resource": resource, "subresource": subresource,
                    "verb": permission.verb, "name": permission.name,
                },
            } });
            let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
            let answer = world.api.create(path, &review).unwrap();
            is(answer["status"]["allowed"] == allowed, &answer["status"])
        });
    };
    permissions.iter().for_each(|permission| said(permission, true));
    without.iter().for_each(|permission| said(permission, false));
}

/// Roles and account, bound.
fn account(world: &World<'_>, permissions: &[&Permission], proxy: &Proxy) -> PathBuf {
    let token = world.plane.service_account(SYSTEM, ACCOUNT);
    for (kind, path) in [
        ("ClusterRole", format!("{RBAC}/clusterrolebindings")),
        ("Role", format!("{RBAC}/namespaces/{SYSTEM}/rolebindings")),
    ] {
        let binding = json!({
            "metadata": { "name": ACCOUNT },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": ACCOUNT },
            "subjects": [{ "kind": "ServiceAccount", "name": ACCOUNT, "namespace": SYSTEM }],
        });
        if world.api.find(&format!("{path}/{ACCOUNT}")).is_none() {
            world.api.create(&path, &binding).unwrap();
        }
    }
    grant(world, permissions, None);
    world.plane.kubeconfig_of("service-account", &proxy.server(), &token)
}

fn the_charts_roles_are_enough_and_each_line_is_needed(plane: &ControlPlane) {
    let world = World::new(plane, &Settings::default());
    let namespace = world.namespace("rbac");
    let proxy = Proxy::before(plane);
    let all = [permissions("cluster-role.yaml", true), permissions("role.yaml", false)].concat();
    let every: Vec<_> = all.iter().collect();
    let kubeconfig = account(&world, &every, &proxy);

    assert_eq!(exercise(&world, &namespace, &kubeconfig, &proxy), [""; 0], "with all that the chart gives");

    let mut needless = Vec::new();
    let began = Instant::now();
    for without in &all {
        let rest: Vec<_> = all.iter().filter(|permission| *permission != without).collect();
        grant(&world, &rest, Some(without));
        if exercise(&world, &namespace, &kubeconfig, &proxy).is_empty() {
            needless.push(without.to_string());
        }
    }
    println!("{} permissions removed in turn in {:.1} s", all.len(), began.elapsed().as_secs_f64());
    assert!(needless.is_empty(), "nothing fails without {needless:?}");
    grant(&world, &every, None);
    let mut replica = world.replica_of("a", &kubeconfig);
    replica.await_leading();
    world.end(vec![replica]);
}

/// Lets natgw do everything that it does for a pod, from nothing to nothing, and gives what it was refused on the way. Ends
/// with the first refusal.
fn exercise(world: &World<'_>, namespace: &Namespace<'_>, kubeconfig: &Path, proxy: &Proxy) -> Vec<String> {
    if world.api.find(LEASE).is_some() {
        world.api.delete(LEASE, &json!({})).unwrap();
    }
    let from = proxy.asked().len();
    let refused = || {
        let asked = proxy.asked();
        let refused = asked.iter().skip(from).filter(|asked| asked.status == 403);
        refused.map(|asked| format!("{} {}", asked.method, asked.path)).collect::<Vec<_>>()
    };
    let mut replica = world.replica_of("a", kubeconfig);
    let mut pod = pod_on("node-j", "game", "80");
    pod["spec"]["readinessGates"] = json!([{ "conditionType": GATE }]);
    namespace.create("pods", &pod);
    let mut fixed = pod_on("node-j", "fixed", "80");
    fixed["metadata"]["annotations"]["k8s.aliyun.com/pod-dnat-fixed"] = "true".into();
    namespace.create("pods", &fixed);
    let path = format!("{}/game", namespace.path("pods"));
    let mut until = |what: &str, is_so: &dyn Fn() -> bool| {
        // The one before was killed in the midst of its calls.
        eventually(what, CRASH_PATIENCE, || {
            is(is_so() || !refused().is_empty() || !replica.is_alive(), replica.said().last())
        });
        refused().is_empty() && replica.is_alive()
    };
    let gate = |status: &str| condition(&world.api.get(&path).unwrap(), GATE) == Some(status);
    let asks = |value: &str| {
        for name in ["game", "fixed"] {
            let annotations = json!({ "annotations": { "k8s.aliyun.com/pod-dnat": value } });
            let path = format!("{}/{name}", namespace.path("pods"));
            world.api.patch(&path, &json!({ "metadata": annotations })).unwrap();
        }
    };
    let mapped = || {
        let objects = namespace.poddnats();
        objects.len() == 2 && objects.iter().all(|object| object["status"]["entries"].is_array()) && gate("True")
    };
    // What is said of a pod twice is counted, and of a mapping that nobody asks for any more nothing is left.
    let mut well = until("mapped pods and word of them", &|| mapped() && said(world, namespace, 1));
    if well {
        asks("false");
        well = until("end of the mapping", &|| namespace.poddnats().is_empty());
    }
    if well {
        asks("true");
        well = until("mapped pods and word of them again", &|| mapped() && said(world, namespace, 2));
    }
    if well {
        asks("false");
        until("end of the second mapping", &|| namespace.poddnats().is_empty());
    }
    let mut refusals = refused();
    if !replica.is_alive() {
        refusals.push("it ended".to_owned());
    }
    replica.kill();
    clean(world, namespace);
    refusals
}

/// Removes what an exercise has left.
fn clean(world: &World<'_>, namespace: &Namespace<'_>) {
    let force = json!({ "gracePeriodSeconds": 0 });
    world.api.delete(&namespace.path("pods"), &force).unwrap();
    for object in namespace.poddnats() {
        let path =
            format!("{}/{}", namespace.path("alibabacloud.com/v1beta1/poddnats"), text(&object["metadata"]["name"]));
        world.api.patch(&path, &json!({ "metadata": { "finalizers": [] } })).ok();
        world.api.delete(&path, &json!({})).ok();
    }
    world.api.delete(&namespace.path("events"), &json!({})).unwrap();
    eventually("clean namespace", PATIENCE, || {
        let left = namespace.pods().len() + namespace.poddnats().len();
        is(left == 0, left)
    });
}

/// natgw has said something of the pod that often.
fn said(world: &World<'_>, namespace: &Namespace<'_>, times: u64) -> bool {
    let events = world.api.list(&namespace.path("events"));
    let ours = events.iter().filter(|event| event["source"]["component"] == "natgw");
    ours.filter_map(|event| event["count"].as_u64()).any(|count| count >= times)
}
