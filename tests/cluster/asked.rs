//! What two replicas answer whoever asks them at their admin addresses: who leads, who is ready, the numbers, the state, the
//! journal.

use std::fs;

use natgw_replay::history::History;
use natgw_replay::verify::examine;
use serde_json::Value;

use crate::api::{Api, eventually, is};
use crate::control_plane::ControlPlane;
use crate::workloads::deployment;
use crate::world::{PATIENCE, Replica, Settings, World};
use crate::{Case, Needs, Tier};

pub const CASES: &[Case] = &[Case {
    name: "asked::leader_and_standby_answer_for_themselves",
    tier: Tier::Full,
    needs: Needs::Controllers,
    run: leader_and_standby_answer_for_themselves,
}];

/// A replica, and whoever asks it.
fn replica(world: &World<'_>, name: &str) -> (Replica, Api) {
    let arguments = ["--admin", "127.0.0.1:0"];
    let mut replica = world.replica_with(name, &world.plane.kubeconfig(), world.cloud(), &arguments);
    let address = replica.await_admin();
    (replica, Api::new(&format!("http://{address}"), "", ""))
}

/// The status and the text of an answer.
fn answer(api: &Api, path: &str) -> (u16, String) {
    match api.text(path) {
        Ok(text) => (200, text),
        Err(refused) => (refused.status, refused.message),
    }
}

/// Whether it says that it leads, by its status and its words alike.
fn leads(api: &Api) -> Result<bool, String> {
    let (status, text) = answer(api, "/leader");
    let said: Value = serde_json::from_str(&text).map_err(|error| format!("{status} {text}: {error}"))?;
    match (status, said["leads"].as_bool()) {
        (200, Some(true)) => Ok(true),
        (503, Some(false)) => Ok(false),
        _ => Err(format!("{status} {text}")),
    }
}

/// The value of a metric without labels.
fn metric(api: &Api, name: &str) -> Option<String> {
    let (status, text) = answer(api, "/metrics");
    assert_eq!(status, 200, "{text}");
    let value = |line: &str| Some(line.strip_prefix(name)?.strip_prefix(' ')?.trim_end_matches(".0").to_owned());
    text.lines().find_map(value)
}

fn leader_and_standby_answer_for_themselves(plane: &ControlPlane) {
    let world = World::new(plane, &Settings::default());
    let (mut leader, of_leader) = replica(&world, "a");
    leader.await_leading();
    let (mut standby, of_standby) = replica(&world, "b");
    standby.await_standing_by();
    for api in [&of_leader, &of_standby] {
        eventually("replica that is ready", PATIENCE, || {
            let answers = ["/healthz", "/readyz"].map(|path| answer(api, path).0);
            is(answers == [200, 200], answers)
        });
    }
    assert_eq!((leads(&of_leader), leads(&of_standby)), (Ok(true), Ok(false)));
    let metrics = |name| [&of_leader, &of_standby].map(|api| metric(api, name).unwrap_or_default());
    assert_eq!(metrics("natgw_leader"), ["1", "0"]);

    let namespace = world.namespace("asked");
    namespace.create("apps/v1/deployments", &deployment("game", 3, "80,443"));
    let mapped = namespace.await_mapped(&world, 3);
    let ready = |api| metric(api, "natgw_allocations{state=\"Ready\"}");
    eventually("numbers of what is mapped", PATIENCE, || {
        is(ready(&of_leader).as_deref() == Some("3"), ready(&of_leader))
    });
    assert_eq!(ready(&of_standby), None, "only the leader serves what is read from the state");
    let (status, state) = answer(&of_leader, "/state");
    let state: Value = serde_json::from_str(&state).unwrap();
    let told = state["allocations"].as_array().map(Vec::len);
    assert!(status == 200 && told == Some(3), "{state:#}");
    assert!(mapped.keys().all(|name| state["allocations"].to_string().contains(name.as_str())), "{state:#}");
    journal_is_whole(&world, &of_leader);

    let (status, said) = leader.terminate();
    assert!(status.success(), "it ended with {status}: {}", said.join("\n"));
    eventually("standby that says that it leads", PATIENCE, || is(leads(&of_standby) == Ok(true), leads(&of_standby)));
    assert_eq!(answer(&of_leader, "/healthz").0, 0, "nobody answers for who has ended");
    world.end(vec![standby]);
}

/// The export verifies, and tells of what is mapped.
fn journal_is_whole(world: &World<'_>, api: &Api) {
    let (status, export) = answer(api, "/journal");
    assert_eq!(status, 200, "{export}");
    let file = world.path("export");
    fs::write(&file, &export).unwrap();
    let history = History::open(std::slice::from_ref(&file)).unwrap();
    let report = examine(&history.journals[0]);
    assert!(report.findings.is_empty() && report.events > 0, "{report:#?}");
    assert!(report.folded == report.events, "{report:#?}");
    println!("the export of a leader has {} events and verifies", report.events);
    // What is cut short is found.
    let cut: String = export.lines().take(export.lines().count() / 2).map(|line| format!("{line}\n")).collect();
    fs::write(&file, cut).unwrap();
    let found = History::open(std::slice::from_ref(&file)).map(|history| examine(&history.journals[0]).findings.len());
    assert!(found.as_ref().map_or(true, |findings| *findings > 0), "half an export verifies: {found:?}");
}
