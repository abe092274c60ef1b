//! The sandbox as people run it: the real program, its journal on disk, signed HTTP on loopback.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "what is missing is a failed test")]
#![allow(clippy::disallowed_methods, reason = "tests wait for a child by the clock")]
#![allow(unreachable_pub, missing_docs, reason = "modules of one test program")]

#[path = "sandbox/evidence.rs"]
mod evidence;
#[path = "sandbox/killing.rs"]
mod killing;
#[path = "sandbox/manifests.rs"]
mod manifests;
#[allow(dead_code, reason = "shared with the tests of the cloud and of plans")]
#[path = "sandbox/process.rs"]
mod process;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use natgw::machine::event::{Event, Record};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::tempdir;

use self::evidence::{items, mapped, printed_digest, published, records, verified_digest};
use self::process::{Natgw, run, run_in, text};

/// Every path of keys in a document; list items count as one.
fn keys(value: &Value, path: &str, into: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                let path = format!("{path}.{key}");
                keys(value, &path, into);
                into.insert(path);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| keys(item, &format!("{path}[]"), into)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The keys of the documented PodDNAT (ack-pod-dnat.txt) and ours beside them (design.md §5).
const KEYS: &[&str] = &[
    ".apiVersion",
    ".kind",
    ".metadata",
    ".metadata.annotations",
    ".metadata.annotations.k8s.aliyun.com/pod-dnat-claim",
    ".metadata.creationTimestamp",
    ".metadata.finalizers",
    ".metadata.generation",
    ".metadata.name",
    ".metadata.namespace",
    ".metadata.ownerReferences",
    ".metadata.ownerReferences[].apiVersion",
    ".metadata.ownerReferences[].blockOwnerDeletion",
    ".metadata.ownerReferences[].kind",
    ".metadata.ownerReferences[].name",
    ".metadata.ownerReferences[].uid",
    ".metadata.resourceVersion",
    ".metadata.uid",
    ".spec",
    ".spec.eni",
    ".spec.externalIP",
    ".spec.internalIP",
    ".spec.portMapping",
    ".spec.portMapping[].externalPort",
    ".spec.portMapping[].internalPort",
    ".spec.protocol",
    ".spec.tableId",
    ".spec.vswitch",
    ".spec.zoneID",
    ".status",
    ".status.conditions",
    ".status.conditions[].lastTransitionTime",
    ".status.conditions[].message",
    ".status.conditions[].reason",
    ".status.conditions[].status",
    ".status.conditions[].type",
    ".status.entries",
    ".status.entries[].externalIP",
    ".status.entries[].externalPort",
    ".status.entries[].forwardEntryId",
    ".status.entries[].internalIP",
    ".status.entries[].internalPort",
    ".status.entries[].ipProtocol",
    ".status.externalAddress",
];

#[test]
fn the_documented_sample_becomes_the_documented_poddnat() {
    let room = tempdir().unwrap();
    let began = Instant::now();
    let (status, out, err) = run_in(room.path(), &["sandbox", "--settle", "-o", "yaml"]);
    assert!(status.success(), "{err}");
    assert!(began.elapsed() < Duration::from_secs(5), "it took {:?}", began.elapsed());
    let folder = err.lines().find_map(|line| line.strip_prefix("everything is kept in ")).unwrap();
    assert_eq!(printed_digest(&err.lines().map(str::to_owned).collect::<Vec<_>>()), verified_digest(Path::new(folder)));

    let list: Value = serde_saphyr::from_str(&out).unwrap();
    assert_eq!((&list["apiVersion"], &list["kind"]), (&"v1".into(), &"List".into()));
    let [object] = items(&list).as_slice() else { panic!("{out}") };
    let mut found = BTreeSet::new();
    keys(object, "", &mut found);
    assert_eq!(found, KEYS.iter().map(|key| (*key).to_owned()).collect());
    assert_eq!(object["kind"], "PodDNAT");
    assert_eq!(object["metadata"]["finalizers"], serde_json::json!(["natgw-controller"]));
    let owner = &object["metadata"]["ownerReferences"][0];
    assert_eq!((&owner["apiVersion"], &owner["kind"]), (&"v1".into(), &"Pod".into()));
    assert_eq!(owner["blockOwnerDeletion"], true);
    assert_eq!(owner["name"], object["metadata"]["name"]);
    assert_eq!(object["spec"]["portMapping"], serde_json::json!([{"externalPort": "512", "internalPort": "80"}]));
    assert_eq!((&object["spec"]["protocol"], &object["spec"]["tableId"]), (&"tcp".into(), &"ngw-sandbox-j".into()));
    let [entry] = object["status"]["entries"].as_array().unwrap().as_slice() else { panic!("{out}") };
    assert_eq!((&entry["externalPort"], &entry["internalPort"]), (&"512".into(), &"80".into()));
    assert_eq!(
        (&entry["externalIP"], &entry["internalIP"]),
        (&object["spec"]["externalIP"], &object["spec"]["internalIP"])
    );
    // The numbers are texts in the YAML, too, whoever reads it.
    assert!(out.contains("externalPort: \"512\"") && out.contains("internalPort: \"80\""), "{out}");
}

#[test]
fn two_hundred_pods_get_six_hundred_tuples_and_the_journal_agrees() {
    let room = tempdir().unwrap();
    let (manifest, folder) = (room.path().join("game.yaml"), room.path().join("sandbox"));
    manifests::write(&manifest, &manifests::deployment(200, "80,443,7000"));
    let arguments = ["sandbox", text(&manifest), "--journal", text(&folder), "--entry-quota", "1000", "--settle"];
    let ended = Natgw::start(&[&arguments[..], &["-o", "json", "--speed", "5"]].concat()).end();
    assert!(ended.status.success(), "{:?}", ended.said.last());
    let list = ended.documents.last().unwrap();
    assert_eq!(mapped(list).len(), 200);
    let published = published(list);
    assert_eq!(published.len(), 600);
    let mut by_eip = BTreeMap::<&str, usize>::new();
    for ((eip, port), _, _) in &published {
        assert!((512..=1024).contains(&port.parse::<u16>().unwrap()), "{eip}:{port}");
        *by_eip.entry(eip).or_default() += 1;
    }
    // Two gateways of three EIPs: pods take the one with most free ports, so all are used alike.
    assert_eq!(by_eip.len(), 6, "{by_eip:?}");
    assert!(by_eip.values().all(|entries| (96..=105).contains(entries)), "{by_eip:?}");
    assert_eq!(verified_digest(&folder), printed_digest(&ended.said));
}

/// The rows of the printed table: pod to state and reason.
fn rows(table: &str) -> BTreeMap<String, (String, String)> {
    let row = |line: &str| {
        let cells: Vec<_> = line.split_whitespace().collect();
        (cells[0].to_owned(), (cells[1].to_owned(), (*cells.last().unwrap()).to_owned()))
    };
    table.lines().skip(1).map(row).collect()
}

#[test]
fn more_pods_than_ports_wait_with_a_reason_and_are_bound_in_order_of_arrival() {
    let room = tempdir().unwrap();
    let (manifest, config) = (room.path().join("pods.yaml"), room.path().join("natgw.yaml"));
    let folder = room.path().join("sandbox");
    manifests::write(&manifest, &manifests::pods(0..10, "80"));
    // Two EIPs of three ports each, one in each zone, and pods in the zones in turn.
    manifests::write(&config, &manifests::small_pool(514));
    let arguments =
        ["sandbox", text(&manifest), "--config", text(&config), "--journal", text(&folder), "--speed", "20"];

    let (status, out, err) = run(&[&arguments[..], &["--settle"]].concat());
    assert!(status.success(), "{err}");
    let rows = rows(&out);
    assert_eq!(rows.len(), 10, "{out}");
    let (ready, waiting): (Vec<_>, Vec<_>) = rows.iter().partition(|(_, (state, _))| state == "Ready");
    assert_eq!(ready.len(), 6, "{out}");
    assert!(waiting.iter().all(|(_, row)| **row == ("Waiting".to_owned(), "NoFreePorts".to_owned())), "{out}");

    // The even pods are in zone j, the odd ones in zone k: each zone has three with ports and two that wait.
    let number = |name: &str| name.rsplit('-').next().unwrap().parse::<usize>().unwrap();
    // Who asked first is told by the journal: pods that are created together are listed in no order of their own.
    let mut arrivals: Vec<usize> = Vec::new();
    for record in records(&folder) {
        if let Event::PodSeen(seen) = record.event
            && !arrivals.contains(&number(&seen.name))
        {
            arrivals.push(number(&seen.name));
        }
    }
    let of = |zone: usize, pods: &[(&String, &(String, String))]| -> Vec<usize> {
        let there: BTreeSet<usize> = pods.iter().map(|(name, _)| number(name)).collect();
        arrivals.iter().copied().filter(|number| number % 2 == zone && there.contains(number)).collect()
    };
    let mut natgw = Natgw::start(&[&arguments[..], &["-o", "json"]].concat());
    let names = |numbers: &[usize]| numbers.iter().map(|number| format!("pod-{number:02}")).collect::<BTreeSet<_>>();
    let mut left: Vec<usize> = (0..10).collect();
    // One port of zone j is freed: it is for the first that waits there.
    let gone = of(0, &ready)[0];
    left.retain(|number| *number != gone);
    manifests::write(&manifest, &manifests::pods(left.clone(), "80"));
    let first = of(0, &waiting)[0];
    let still = names(&[of(0, &waiting)[1], of(1, &waiting)[0], of(1, &waiting)[1]]);
    let list =
        natgw.wait_for_document("the first that waits", |list| mapped(list).contains(&format!("pod-{first:02}")));
    assert!(mapped(&list).is_disjoint(&still), "{:?}", mapped(&list));
    // All others that waited get theirs, in each zone in order.
    let gone = [of(0, &ready)[1], of(1, &ready)[0], of(1, &ready)[1]];
    left.retain(|number| !gone.contains(number));
    manifests::write(&manifest, &manifests::pods(left.clone(), "80"));
    natgw.wait_for_document("the others that wait", |list| mapped(list) == names(&left));
    assert!(natgw.terminate().status.success());
    let allocated: Vec<usize> = records(&folder)
        .into_iter()
        .filter_map(|record| match record.event {
            Event::Allocated(allocated) => Some(number(&allocated.name)),
            _ => None,
        })
        .skip(6)
        .collect();
    for zone in [0, 1] {
        let bound: Vec<_> = allocated.iter().copied().filter(|number| number % 2 == zone).collect();
        assert_eq!(bound, of(zone, &waiting), "zone {zone}");
    }
    verified_digest(&folder);
}

#[test]
fn more_entries_than_the_quota_leave_whole_pods_waiting() {
    let room = tempdir().unwrap();
    let (manifest, folder) = (room.path().join("pods.yaml"), room.path().join("sandbox"));
    manifests::write(&manifest, &manifests::pods(0..8, "80,443,7000"));
    let arguments = ["sandbox", text(&manifest), "--journal", text(&folder), "--speed", "20", "--settle"];
    // A table takes three whole pods, and one entry more.
    let arguments = [&arguments[..], &["--entry-quota", "10"]].concat();
    let (status, out, err) = run(&arguments);
    assert!(status.success(), "{err}");
    let rows = rows(&out);
    let waiting: Vec<_> = rows.values().filter(|(state, _)| state == "Waiting").collect();
    assert_eq!((rows.len(), waiting.len()), (8, 2), "{out}");
    assert!(waiting.iter().all(|(_, reason)| reason == "TableFull"), "{out}");

    let ended = Natgw::start(&[&arguments[..], &["-o", "json"]].concat()).end();
    let list = ended.documents.last().unwrap();
    assert_eq!(published(list).len(), 18, "{list:#}");
    // The first pod of which a table took a part keeps its entry and its place, and shows nothing of it. Which pod that is
    // depends on the calls that were under way: it may have got the rest when the next one gave its part back.
    let partial = items(list).len() - 6;
    assert!(partial <= 2, "{list:#}");
    let cloud: Value = serde_json::from_slice(&std::fs::read(folder.join("cloud.json")).unwrap()).unwrap();
    let entries = cloud["vpc"]["forwarding"][1].as_object().unwrap();
    assert_eq!(entries.len(), 18 + partial, "{entries:#?}");
    assert_eq!(verified_digest(&folder), printed_digest(&ended.said));
}

#[test]
fn a_restart_on_the_same_folder_changes_nothing() {
    let room = tempdir().unwrap();
    let arguments = ["sandbox", "--journal", text(room.path()), "--settle", "--speed", "5", "-o", "json"];
    let first = Natgw::start(&arguments).end();
    let second = Natgw::start(&arguments).end();
    assert!(first.status.success() && second.status.success());
    assert_eq!(items(&first.documents[0]), items(&second.documents[0]));
    assert_eq!(printed_digest(&first.said), printed_digest(&second.said));
    let decided = |record: &Record| (40..=59).contains(&record.event.kind());
    let terms: Vec<u64> =
        records(room.path()).iter().filter(|record| decided(record)).map(|record| record.term).collect();
    assert!(!terms.is_empty() && terms.iter().all(|term| *term == 1), "decisions in terms {terms:?}");
}

#[test]
fn a_second_sandbox_in_the_same_folder_is_refused() {
    let room = tempdir().unwrap();
    let arguments = ["sandbox", "--journal", text(room.path()), "--announce"];
    let mut first = Natgw::start(&arguments);
    first.wait_for("a settled sandbox", |line| line == "phase settled");
    let (status, _, err) = run(&arguments);
    assert_eq!(status.code(), Some(1));
    assert!(err.contains("NATGW-SANDBOX-IN-USE"), "{err}");
    let ended = first.signal(Signal::INT);
    assert_eq!(ended.status.code(), Some(0), "{:?}", ended.said.last());
}

#[test]
fn an_end_that_was_asked_for_closes_the_journal_and_gives_the_lease_back() {
    let room = tempdir().unwrap();
    let mut natgw = Natgw::start(&["sandbox", "--journal", text(room.path()), "--announce"]);
    natgw.wait_for("a leader", |line| line == "phase leading");
    let ended = natgw.terminate();
    assert_eq!(ended.status.code(), Some(0), "{:?}", ended.said.last());
    let cluster: Value = serde_json::from_slice(&std::fs::read(room.path().join("cluster.json")).unwrap()).unwrap();
    assert_eq!((&cluster["lease"]["holder"], &cluster["lease"]["term"]), (&"".into(), &1.into()));
    // After a clean stop the journal is opened in place: no copy is kept of how it was before.
    let (status, _, err) = run(&["sandbox", "--journal", text(room.path()), "--settle"]);
    assert!(status.success(), "{err}");
    assert!(!room.path().join("journal/sled.before-open").exists());
}

#[test]
fn a_damaged_journal_is_set_aside_and_what_was_mapped_stays_mapped() {
    let room = tempdir().unwrap();
    let arguments = ["sandbox", "--journal", text(room.path()), "--settle", "--speed", "20", "-o", "json"];
    let first = Natgw::start(&arguments).end();
    std::fs::remove_file(room.path().join("journal/anchor")).unwrap();
    let second = Natgw::start(&arguments).end();
    assert!(second.status.success(), "{:?}", second.said);
    assert!(second.said.iter().any(|line| line.contains("the anchor is missing")), "{:?}", second.said);
    assert!(room.path().join("journal.set-aside-1/sled").exists());
    assert_eq!(published(&first.documents[0]), published(&second.documents[0]));
    let rebased = records(room.path()).into_iter().any(|record| matches!(record.event, Event::Rebased(_)));
    assert!(rebased);
    verified_digest(room.path());
}

#[test]
fn what_cannot_be_used_is_refused_before_anything_starts() {
    let room = tempdir().unwrap();
    let (manifest, config) = (room.path().join("bad.yaml"), room.path().join("natgw.yaml"));
    manifests::write(&manifest, "apiVersion: apps/v1\nkind: DaemonSet\nmetadata: {name: a}\n");
    manifests::write(&config, &manifests::small_pool(100));
    for (arguments, code, words) in [
        (vec!["sandbox", text(&manifest)], 1, vec!["NATGW-MANIFEST", "bad.yaml, document 1", "DaemonSet"]),
        (vec!["sandbox", "no-such-file.yaml"], 1, vec!["NATGW-MANIFEST", "no-such-file.yaml"]),
        (vec!["sandbox", "--config", text(&config)], 1, vec!["NATGW-CONFIG", "portRangeEnd", "100", "512"]),
        (vec!["sandbox", "--cloud", "ftp://host"], 1, vec!["NATGW-CLOUD-ADDRESS", "ftp://host"]),
        (vec!["sandbox", "--cloud", "http://127.0.0.1:1", "--entry-quota", "3"], 2, vec!["--entry-quota", "--cloud"]),
        (vec!["sandbox", "--speed", "0"], 2, vec!["--speed"]),
        (vec!["cloud", "--listen", "127.0.0.1:0", "--fault", "gremlins=1"], 2, vec!["gremlins", "lost-reply"]),
    ] {
        let folder = room.path().join("sandbox");
        let mut arguments = arguments;
        if arguments[0] == "sandbox" {
            arguments.extend(["--journal", text(&folder), "--settle"]);
        }
        let (status, out, err) = run(&arguments);
        assert_eq!(status.code(), Some(code), "{arguments:?}: {err}");
        assert!(words.iter().all(|word| err.contains(word)), "{arguments:?}: {err}");
        assert_eq!(out, "", "{arguments:?}");
    }
}
