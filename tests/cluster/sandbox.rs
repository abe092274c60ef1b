//! `natgw sandbox --kubeconfig`: the whole controller beside a simulated cloud, and never where somebody else may decide.

use std::path::Path;
use std::process::{Output, Stdio};

use serde_json::{Value, json};

use crate::api::propagation;
use crate::children::launch;
use crate::control_plane::ControlPlane;
use crate::workloads::deployment;
use crate::world::{PODDNATS, Settings, World, natgw, text};
use crate::{Case, Needs, Tier};

pub const CASES: &[Case] = &[Case {
    name: "sandbox::it_maps_real_pods_and_refuses_to_start_beside_others",
    tier: Tier::Full,
    needs: Needs::Controllers,
    run: it_maps_real_pods_and_refuses_to_start_beside_others,
}];

/// Runs it until nothing is left to do.
fn sandbox(plane: &ControlPlane, folder: &Path) -> Output {
    let mut sandbox = natgw(&["sandbox", "--settle", "-o", "json", "--kubeconfig"]);
    sandbox.arg(plane.kubeconfig()).arg("--journal").arg(folder).env("POD_NAMESPACE", "default");
    sandbox.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    launch(sandbox).unwrap().wait_with_output().unwrap()
}

/// It does not start beside PodDNATs that are somebody else's, and touches nothing. Gives what it says.
fn refuses(plane: &ControlPlane, folder: &Path, world: &World<'_>) -> String {
    let before = world.api.list(PODDNATS);
    let output = sandbox(plane, folder);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("NATGW-SANDBOX-FOREIGN: the PodDNAT "), "{said}");
    assert_eq!(world.api.list(PODDNATS), before, "nothing was touched");
    said
}

/// The annotation that makes a PodDNAT a claim.
const CLAIM: &str = "k8s.aliyun.com/pod-dnat-claim";

fn it_maps_real_pods_and_refuses_to_start_beside_others(plane: &ControlPlane) {
    let world = World::new(plane, &Settings::default());
    let namespace = world.namespace("sandbox");
    namespace.create("apps/v1/deployments", &deployment("game", 5, "80,443"));
    crate::api::eventually("pods with addresses", crate::world::PATIENCE, || {
        let pods = namespace.pods();
        let running = pods.iter().filter(|pod| pod["status"]["podIP"].is_string()).count();
        crate::api::is(running == 5, running)
    });
    let (first, second) = (world.path("sandbox"), world.path("another"));
    for time in ["first", "second"] {
        let output = sandbox(plane, &first);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "the {time} time it ended with {}:\n{said}", output.status);
        let list: Value = serde_json::from_slice(&output.stdout).unwrap();
        let entries: usize = list["items"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|item| item["status"]["entries"].as_array())
            .map(Vec::len)
            .sum();
        assert_eq!(entries, 10, "{list:#}");
    }
    // Another sandbox is somebody else.
    let before = world.api.list(PODDNATS);
    let output = sandbox(plane, &second);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("NATGW-SANDBOX-FOREIGN: the Lease "), "{said}");
    assert_eq!(world.api.list(PODDNATS), before, "nothing was touched");

    // Without a Lease the PodDNATs tell.
    let lease = "/apis/coordination.k8s.io/v1/namespaces/default/leases/natgw";
    world.api.delete(lease, &json!({})).unwrap();
    refuses(plane, &second, &world);
    assert!(world.api.find(lease).is_none(), "nor was a Lease made");
    // One for another pod under the name of an allocation that this sandbox has is somebody else's, too.
    let mut stranger = before[0].clone();
    let claim = text(&stranger["metadata"]["annotations"][CLAIM]);
    let uid = text(&serde_json::from_str::<Value>(&claim).unwrap()["podUID"]);
    let annotations = json!({ CLAIM: claim.replace(&uid, "somebody-else") });
    stranger["metadata"] = json!({ "name": "stranger", "annotations": annotations });
    namespace.create("alibabacloud.com/v1beta1/poddnats", &stranger);
    assert!(refuses(plane, &first, &world).contains("/stranger "), "it is the stranger that is not its own");
    namespace.delete("alibabacloud.com/v1beta1/poddnats", "stranger", &json!({}));

    // Its pods go, and with it what it published.
    namespace.delete("apps/v1/deployments", "game", &propagation("Background"));
    world.api.delete(&namespace.path("pods"), &json!({ "gracePeriodSeconds": 0 })).unwrap();
    crate::api::eventually("end of the pods", crate::world::PATIENCE, || {
        let pods: Vec<_> = namespace.pods().iter().map(|pod| text(&pod["metadata"]["name"])).collect();
        crate::api::is(pods.is_empty(), pods)
    });
    let output = sandbox(plane, &first);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(world.api.list(PODDNATS).is_empty());
    world.end(Vec::new());
}
