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
    assert!(!output.status.success() && said.contains("NATGW-"), "{said}");
    assert_eq!(world.api.list(PODDNATS), before, "nothing was touched");

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
