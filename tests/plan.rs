//! `natgw plan` as people run it: it tells what would be changed and why, and changes nothing.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "what is missing is a failed test")]
#![allow(clippy::disallowed_methods, reason = "tests wait for a child by the clock")]
#![allow(unreachable_pub, missing_docs, dead_code, reason = "modules of several test programs")]

#[path = "sandbox/evidence.rs"]
mod evidence;
#[path = "sandbox/manifests.rs"]
mod manifests;
#[path = "sandbox/process.rs"]
mod process;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use natgw::machine::identity::Mark;
use serde_json::Value;
use tempfile::tempdir;

use self::evidence::{ledger, mutations};
use self::manifests::{deployment, write};
use self::process::{Natgw, run, text};

/// Nobody listens there: a sandbox with this cloud can decide nothing and change nothing in it.
const NO_CLOUD: &str = "http://127.0.0.1:1";

/// Far beyond what a plan waits for.
const PATIENCE: Duration = Duration::from_secs(60);

/// A simulated cloud of its own, with its ledger.
struct Cloud {
    _process: Natgw,
    url: String,
    ledger: PathBuf,
}

impl Cloud {
    fn start(folder: &Path) -> Self {
        let ledger = folder.join("ledger.jsonl");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let process = Natgw::start(&["cloud", "--listen", &address, "--ledger", text(&ledger)]);
        let until = Instant::now() + PATIENCE;
        while std::net::TcpStream::connect(&address).is_err() {
            assert!(Instant::now() < until, "the cloud does not listen");
            std::thread::yield_now();
        }
        Self { _process: process, url: format!("http://{address}"), ledger }
    }

    /// Requests so far, and how many of them changed something or tried to.
    fn requests(&self) -> (usize, usize) {
        let lines = ledger(&self.ledger);
        (lines.len(), mutations(&lines))
    }
}

/// Every file below a folder with what is in it.
fn content(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(content(&path));
        } else {
            all.insert(path.clone(), std::fs::read(&path).unwrap());
        }
    }
    all
}

fn plan(arguments: &[&str]) -> Value {
    let (status, out, err) = run(&[&["plan", "-o", "json"], arguments].concat());
    assert!(status.success(), "{err}");
    serde_json::from_str(&out).unwrap()
}

fn actions(plan: &Value) -> Vec<&str> {
    plan["changes"].as_array().unwrap().iter().map(|change| change["action"].as_str().unwrap()).collect()
}

/// Asks for plans until one has an action: the sandbox needs its time until the cluster is as the manifest says.
fn plan_with(action: &str, arguments: &[&str]) -> Value {
    let until = Instant::now() + PATIENCE;
    loop {
        let plan = plan(arguments);
        if actions(&plan).contains(&action) {
            return plan;
        }
        assert!(Instant::now() < until, "no {action}: {plan:#}");
    }
}

#[test]
fn where_nothing_is_to_be_done_nothing_is_planned_and_the_folder_stays_as_it_is() {
    let room = tempdir().unwrap();
    let folder = room.path().join("game");
    let settled =
        Natgw::start(&["sandbox", "--journal", text(&folder), "--settle", "-o", "json", "--speed", "10"]).end();
    assert!(settled.status.success(), "{:?}", settled.said);
    let before = content(&folder);
    let plan = plan(&["--sandbox", text(&folder)]);
    assert_eq!(
        (&plan["changes"], &plan["unserved"], &plan["unread"]),
        (&serde_json::json!([]), &serde_json::json!([]), &serde_json::json!([]))
    );
    assert_eq!(
        (&plan["term"], plan.get("without_history")),
        (&serde_json::json!(2), None),
        "it goes on from the journal"
    );
    let (_, table, _) = run(&["plan", "--sandbox", text(&folder)]);
    assert_eq!(table, "nothing would be changed\n");
    let after = content(&folder);
    let changed: Vec<_> =
        before.keys().chain(after.keys()).filter(|path| before.get(*path) != after.get(*path)).collect();
    assert!(changed.is_empty(), "{changed:?}");
}

#[test]
fn what_would_be_created_and_deleted_is_told_with_its_reason_by_reading_alone() {
    let room = tempdir().unwrap();
    let (folder, manifest) = (room.path().join("game"), room.path().join("game.yaml"));
    let cloud = Cloud::start(room.path());
    let sandbox = |url: &str| {
        let kept = ["sandbox", text(&manifest), "--journal", text(&folder)];
        let mut sandbox = Natgw::start(&[&kept[..], &["--cloud", url, "-o", "json", "--announce"]].concat());
        sandbox.wait_for("its folder", |line| line == "phase open");
        sandbox
    };

    // A controller that cannot reach its cloud: everything is still to be done, while it runs.
    write(&manifest, &deployment(2, "80,53/udp"));
    let stuck = sandbox(NO_CLOUD);
    let up = plan_with("create-entry", &["--sandbox", text(&folder), "--cloud", &cloud.url]);
    let created: Vec<_> =
        up["changes"].as_array().unwrap().iter().filter(|change| change["action"] == "create-entry").collect();
    assert_eq!(created.len() % 2, 0, "a pod is mapped as a whole: {up:#}");
    for change in created {
        assert!(change["subject"].as_str().unwrap().starts_with("default/game-"), "{change}");
        assert!(change["why"].as_str().unwrap().contains("gets allocation"), "{change}");
        assert!(change["detail"].as_str().unwrap().contains(" -> 172."), "{change}");
    }
    assert_eq!(actions(&up)[0], "write-claim", "the claim comes first: {up:#}");
    assert!(up["without_history"].is_string(), "its journal is in use: {up:#}");
    let (requests, changing) = cloud.requests();
    assert!(requests > 0 && changing == 0, "{changing} of {requests} requests change something");
    assert!(stuck.terminate().status.success());

    // The same with a cloud, and then without any pod and without a cloud again.
    let mut working = sandbox(&cloud.url);
    working.wait_for_document("two mappings", |list| evidence::mapped(list).len() == 2);
    assert!(working.terminate().status.success());
    let (_, changing) = cloud.requests();
    assert_eq!(changing, 4, "two entries of two pods were created");
    write(&manifest, &deployment(0, "80,53/udp"));
    let mut stuck = sandbox(NO_CLOUD);
    for _ in 0..2 {
        stuck.wait_for("the end of a pod", |line| line.contains("is to be released"));
    }
    let down_steps = |plan: &Value| -> Vec<String> {
        let steps = actions(plan).into_iter().filter(|action| ["delete-entry", "release-claim"].contains(action));
        steps.map(str::to_owned).collect()
    };
    let down = plan_with("delete-entry", &["--sandbox", text(&folder), "--cloud", &cloud.url]);
    assert!(down["without_history"].is_string(), "{down:#}");
    let steps = down_steps(&down);
    assert_eq!(steps.iter().filter(|step| *step == "delete-entry").count(), 4, "{down:#}");
    assert!(stuck.terminate().status.success());
    // With its journal, to which those decisions belong.
    let later = plan(&["--sandbox", text(&folder), "--cloud", &cloud.url]);
    assert_eq!(down_steps(&later), ["delete-entry", "delete-entry", "release-claim"].repeat(2), "{later:#}");
    let deleted = later["changes"].as_array().unwrap().iter().filter(|change| change["action"] == "delete-entry");
    for change in deleted {
        assert!(change["why"].as_str().unwrap().contains("the pod has ended"), "{change}");
    }
    assert!(later.get("without_history").is_none(), "{later:#}");
    assert_eq!(cloud.requests().1, 4, "a plan deletes nothing");
}

#[test]
fn the_example_of_game_servers_is_mapped_and_then_nothing_is_left_to_plan() {
    let room = tempdir().unwrap();
    let folder = room.path().join("game");
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/game-servers.yaml");
    let arguments = ["sandbox", text(&example), "--journal", text(&folder), "--settle", "-o", "json", "--speed", "10"];
    let settled = Natgw::start(&arguments).end();
    assert!(settled.status.success(), "{:?}", settled.said);
    let names: Vec<_> = evidence::mapped(settled.documents.last().unwrap()).into_iter().collect();
    assert_eq!(names, ["game-0", "game-1", "game-2"]);
    assert_eq!(actions(&plan(&["--sandbox", text(&folder)])), [""; 0]);
}

#[test]
fn a_term_that_the_lease_does_not_know_is_taken_over_as_by_a_restarted_leader() {
    let room = tempdir().unwrap();
    let folder = room.path().join("game");
    let settled =
        Natgw::start(&["sandbox", "--journal", text(&folder), "--settle", "-o", "json", "--speed", "10"]).end();
    assert!(settled.status.success());
    // Neither journal nor Lease is left: only the claim and the entry's mark know that somebody led.
    std::fs::remove_dir_all(folder.join("journal")).unwrap();
    let path = folder.join("cluster.json");
    let mut cluster: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let lease = cluster["lease"].as_object_mut().unwrap();
    assert_eq!(lease.insert("term".to_owned(), 0.into()), Some(1.into()));
    lease.insert("heads".to_owned(), serde_json::json!([]));
    std::fs::write(&path, cluster.to_string()).unwrap();
    let plan = plan(&["--sandbox", text(&folder)]);
    assert!(plan["term"].as_u64().unwrap() >= 2, "{plan:#}");
    assert!(plan["without_history"].is_string(), "{plan:#}");
    assert!(!actions(&plan).contains(&"create-entry") && !actions(&plan).contains(&"delete-entry"), "{plan:#}");
}

/// Every text in a document that is a mark becomes another.
fn rename_marks(value: &mut Value, name: &str) -> usize {
    match value {
        Value::String(text) if Mark::parse(text).is_some() => {
            name.clone_into(text);
            1
        }
        Value::Array(values) => values.iter_mut().map(|value| rename_marks(value, name)).sum(),
        Value::Object(fields) => fields.values_mut().map(|value| rename_marks(value, name)).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
}

fn edit(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut value: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    change(&mut value);
    std::fs::write(path, value.to_string()).unwrap();
}

#[test]
fn what_another_controller_left_is_left_alone_and_with_adopt_it_is_adopted() {
    let room = tempdir().unwrap();
    let folder = room.path().join("game");
    let settled =
        Natgw::start(&["sandbox", "--journal", text(&folder), "--settle", "-o", "json", "--speed", "10"]).end();
    assert!(settled.status.success(), "{:?}", settled.said);
    // What natgw made becomes another controller's: neither journal, Lease, annotation nor mark tells of natgw.
    std::fs::remove_dir_all(folder.join("journal")).unwrap();
    edit(&folder.join("cluster.json"), |cluster| {
        cluster["lease"] = Value::Null;
        for claim in cluster["claims"].as_array_mut().unwrap() {
            let metadata = claim[1]["metadata"].as_object_mut().unwrap();
            metadata.remove("annotations");
            metadata.insert("managedFields".to_owned(), serde_json::json!([{ "manager": "original" }]));
        }
    });
    let mut renamed = 0;
    edit(&folder.join("cloud.json"), |cloud| renamed = rename_marks(cloud, "ack-512"));
    assert!(renamed > 0, "no entry has a mark");

    let off = plan(&["--sandbox", text(&folder)]);
    assert!(off["halted"].as_str().unwrap().contains("networkController.adopt"), "{off:#}");
    assert!(actions(&off).iter().all(|action| *action == "mark-pod"), "{off:#}");
    let left = off["left_alone"].as_array().unwrap();
    for what in ["entry", "poddnat"] {
        assert!(left.iter().any(|left| left["what"] == what && !left["why"].as_str().unwrap().is_empty()), "{off:#}");
    }
    assert_eq!(off["unserved"][0]["reason"], "OtherController", "{off:#}");
    let (_, table, _) = run(&["plan", "--sandbox", text(&folder)]);
    assert!(table.contains("decisions would stop: ") && table.contains("left alone"), "{table}");

    let config = room.path().join("natgw.yaml");
    write(&config, &manifests::small_pool(1024).replace("  natGwPool:", "  adopt: true\n  natGwPool:"));
    let on = plan(&["--sandbox", text(&folder), "--config", text(&config)]);
    let changes = on["changes"].as_array().unwrap();
    let adopted: Vec<_> = changes.iter().filter(|change| change["action"] == "adopt-entry").collect();
    assert!(!adopted.is_empty(), "{on:#}");
    for change in adopted {
        assert!(change["why"].as_str().unwrap().contains("taken over from the original controller"), "{change}");
        assert!(change["detail"].as_str().unwrap().contains("fwd-"), "{change}");
    }
    assert!(actions(&on).contains(&"write-claim"), "{on:#}");
    for cutting in ["create-entry", "delete-entry", "withdraw", "release-claim", "drop-claim"] {
        assert!(!actions(&on).contains(&cutting), "{cutting}: {on:#}");
    }
    assert!(on.get("halted").is_none() && on.get("left_alone").is_none(), "{on:#}");
}

#[test]
fn what_cannot_be_read_makes_a_plan_incomplete() {
    let room = tempdir().unwrap();
    let folder = room.path().join("game");
    let settled =
        Natgw::start(&["sandbox", "--journal", text(&folder), "--settle", "-o", "json", "--speed", "10"]).end();
    assert!(settled.status.success());
    let (status, out, err) = run(&["plan", "--sandbox", text(&folder), "--cloud", NO_CLOUD, "-o", "json"]);
    assert_eq!(status.code(), Some(1));
    assert!(err.contains("NATGW-PLAN-INCOMPLETE"), "{err}");
    let plan: Value = serde_json::from_str(&out).unwrap();
    assert!(!plan["unread"].as_array().unwrap().is_empty(), "{plan:#}");
    assert_eq!(actions(&plan), [""; 0], "nothing is decided that rests on it");
}

#[test]
fn a_folder_without_a_sandbox_and_a_missing_configuration_are_refused() {
    let room = tempdir().unwrap();
    let (status, _, err) = run(&["plan", "--sandbox", text(room.path())]);
    assert_eq!(status.code(), Some(1));
    assert!(err.starts_with("natgw: NATGW-PLAN-SANDBOX: there is no sandbox in "), "{err}");
    assert_eq!(std::fs::read_dir(room.path()).unwrap().count(), 0, "and none is made");
    assert_eq!(run(&["plan"]).0.code(), Some(2));
    assert_eq!(run(&["plan", "--config", "a", "--cloud", "http://127.0.0.1:1"]).0.code(), Some(2));
}
