//! The chart holds what the program needs: roles, configuration, version. Where `helm` is on the PATH it is rendered, too.
#![cfg(feature = "adapters")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a chart that cannot be read is a failed test")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;

use natgw::cluster::access::{Access, CLUSTER, NAMESPACE};
use serde_json::{Value, json};

/// Group, resource, name and verb.
type Permission = (String, String, String, String);

fn chart(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("charts/natgw").join(file)
}

fn yaml(file: &str) -> Value {
    serde_saphyr::from_str(&std::fs::read_to_string(chart(file)).unwrap()).unwrap()
}

fn words(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().map(|word| word.as_str().unwrap().to_owned()).collect()
}

/// The rules of a role, taken apart, and what may not be in any.
fn permissions(rules: &Value) -> (BTreeSet<Permission>, Vec<String>) {
    let (mut permissions, mut faults) = (BTreeSet::new(), Vec::new());
    for rule in rules.as_array().unwrap() {
        let mut names = words(&rule["resourceNames"]);
        if names.is_empty() {
            names.push(String::new());
        }
        let lists = [words(&rule["apiGroups"]), words(&rule["resources"]), names, words(&rule["verbs"])];
        let [groups, resources, names, verbs] = &lists;
        faults
            .extend(lists.iter().flatten().filter(|word| word.contains('*')).map(|word| format!("a wildcard: {word}")));
        if lists.iter().any(Vec::is_empty) {
            faults.push(format!("an empty list: {rule}"));
        }
        for resource in resources {
            if resource.starts_with("secrets") && names.iter().any(String::is_empty) {
                faults.push("all Secrets".to_owned());
            }
            for (group, name) in groups.iter().flat_map(|group| names.iter().map(move |name| (group, name))) {
                for verb in verbs {
                    let permission = (group.clone(), resource.clone(), name.clone(), verb.clone());
                    if !permissions.insert(permission.clone()) {
                        faults.push(format!("twice: {permission:?}"));
                    }
                }
            }
        }
    }
    (permissions, faults)
}

fn needed(list: &[Access]) -> BTreeSet<Permission> {
    let permission = |access: &Access, verb: &str| {
        let name = access.name.unwrap_or_default().to_owned();
        (access.group.to_owned(), access.resource.to_owned(), name, verb.to_owned())
    };
    list.iter().flat_map(|access| access.verbs.iter().map(move |verb| permission(access, verb))).collect()
}

#[test]
fn the_roles_are_what_the_program_does_and_nothing_else() {
    for (file, list) in [("files/cluster-role.yaml", CLUSTER), ("files/role.yaml", NAMESPACE)] {
        let (permissions, faults) = permissions(&yaml(file));
        assert_eq!(faults, [""; 0], "{file}");
        assert_eq!(permissions, needed(list), "{file} and src/cluster/access.rs differ");
    }
}

#[test]
fn too_much_in_a_role_is_caught() {
    let rule = |groups: &str, resource: &str, verb: &str| json!([{"apiGroups": [groups], "resources": [resource], "verbs": [verb]}]);
    for (rules, fault) in [
        (rule("*", "pods", "get"), "a wildcard: *"),
        (rule("", "pods/*", "get"), "a wildcard: pods/*"),
        (rule("", "pods", "*"), "a wildcard: *"),
        (rule("", "secrets", "get"), "all Secrets"),
    ] {
        assert_eq!(permissions(&rules).1, [fault]);
    }
    let mut named = rule("", "secrets", "get");
    named[0]["resourceNames"] = json!(["natgw"]);
    assert_eq!(permissions(&named).1, [""; 0]);
    named[0]["verbs"] = json!(["get", "get"]);
    assert_eq!(permissions(&named).1.len(), 1);
    named[0]["verbs"] = json!([]);
    assert_eq!(permissions(&named).1.len(), 1);
}

#[test]
fn no_role_is_written_anywhere_else() {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(chart("templates")).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        for (at, line) in text.lines().enumerate().filter(|(_, line)| line.trim() == "rules:") {
            let next = text.lines().nth(at + 1).unwrap_or_default().to_owned();
            found.push((path.file_name().unwrap().to_string_lossy().into_owned(), line.len(), next));
        }
    }
    // Alerts are rules, too.
    found.retain(|(file, ..)| file != "prometheusrule.yaml");
    let files = ["files/cluster-role.yaml", "files/role.yaml"];
    assert_eq!(found.len(), files.len(), "{found:?}");
    for ((file, _, next), rules) in found.iter().zip(files) {
        assert_eq!(file, "rbac.yaml");
        assert!(next.contains(&format!(".Files.Get \"{rules}\"")), "{next}");
    }
}

#[test]
fn the_version_is_the_programs() {
    let chart = yaml("Chart.yaml");
    assert_eq!(
        (chart["appVersion"].as_str(), chart["version"].as_str()),
        (Some(env!("CARGO_PKG_VERSION")), Some(env!("CARGO_PKG_VERSION")))
    );
}

/// The configuration of the values, as the ConfigMap would hold it.
fn configuration(values: &Value) -> Value {
    let mut configuration = values["config"].clone();
    for (key, value) in [("clusterID", "c1"), ("regionID", "cn-hangzhou"), ("vpcID", "vpc-1")] {
        configuration[key] = json!(value);
    }
    let pools = yaml("ci/lint-values.yaml")["config"]["networkController"]["natGwPool"].clone();
    configuration["networkController"]["natGwPool"] = pools;
    configuration
}

#[test]
fn the_configuration_of_the_values_is_taken_as_it_stands_and_holds_the_defaults() {
    let written = configuration(&yaml("values.yaml"));
    let (ours, warnings) = natgw::config::parse(&serde_saphyr::to_string(&written).unwrap()).unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    let mut bare = written;
    bare.as_object_mut().unwrap().retain(|key, _| key.ends_with("ID") || key == "networkController");
    bare["networkController"].as_object_mut().unwrap().retain(|key, _| key == "natGwPool");
    let (defaults, _) = natgw::config::parse(&serde_saphyr::to_string(&bare).unwrap()).unwrap();
    assert_eq!(format!("{ours:?}"), format!("{defaults:?}"), "the values say other defaults than the program has");
}

#[test]
fn the_values_schema_names_every_key_that_the_program_reads() {
    let schema: Value = serde_json::from_str(&std::fs::read_to_string(chart("values.schema.json")).unwrap()).unwrap();
    let keys = |pointer: &str| -> BTreeSet<String> {
        schema.pointer(pointer).unwrap().as_object().unwrap().keys().cloned().collect()
    };
    // The program names what it knows when it refuses a key.
    let known = |section: &str| -> BTreeSet<String> {
        let mut written = configuration(&yaml("values.yaml"));
        let place = if section.is_empty() { &mut written } else { &mut written[section] };
        place["unheardOf"] = json!("a");
        let error = natgw::config::parse(&serde_saphyr::to_string(&written).unwrap()).unwrap_err().to_string();
        let list = error.split("use one of ").nth(1).unwrap().to_owned();
        list.split(", ").map(str::to_owned).collect()
    };
    assert_eq!(keys("/properties/config/properties"), known(""));
    assert_eq!(keys("/properties/config/properties/networkController/properties"), known("networkController"));
    assert_eq!(keys("/properties/config/properties/leaderElection/properties"), known("leaderElection"));
}

/// Each metric of the table at the head of `src/metrics.rs` with its labels.
fn metrics() -> BTreeMap<String, BTreeSet<String>> {
    let source = include_str!("../src/metrics.rs");
    let rows = source.lines().filter_map(|line| line.strip_prefix("//! | `natgw_"));
    let row = |row: &str| {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let labels = cells[2].split(',').map(|label| label.trim().to_owned()).collect();
        (format!("natgw_{}", cells[0].trim_end_matches('`')), labels)
    };
    rows.map(row).collect()
}

/// Metrics that an expression names and nobody serves, and labels that none of its metrics has.
fn unknown_names(expression: &str, labels: &[String]) -> Vec<String> {
    let metrics = metrics();
    let word = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
    let (named, unknown): (Vec<_>, Vec<_>) =
        expression.split(word).filter(|name| name.starts_with("natgw_")).partition(|name| metrics.contains_key(*name));
    let has = |label: &String| named.iter().any(|name| metrics[*name].contains(label));
    let strange = labels.iter().filter(|label| !has(label)).cloned();
    unknown.into_iter().map(str::to_owned).chain(strange).collect()
}

/// The labels that an alert uses: in `by (…)`, in braces, and in its words.
fn labels_of(alert: &Value) -> Vec<String> {
    let (expression, text) = (alert["expr"].as_str().unwrap(), alert.to_string());
    let after = |text: &str, mark: &str, end: char| -> Vec<String> {
        let parts = text.split(mark).skip(1).filter_map(|rest| Some(rest.split_once(end)?.0.to_owned()));
        parts.collect()
    };
    let grouped = after(expression, "by (", ')').join(",");
    let matched = after(expression, "{", '}').join(",");
    let matched = matched.split(',').filter_map(|part| part.split(['=', '!']).next()).map(str::to_owned);
    let said = after(&text, "$labels.", ' ');
    let all = grouped.split(',').map(str::to_owned).chain(matched).chain(said);
    all.map(|label| label.trim().to_owned()).filter(|label| !label.is_empty()).collect()
}

#[test]
fn alerts_speak_of_what_is_served() {
    let alerts = yaml("files/alerts.yaml");
    let alerts = alerts.as_array().unwrap();
    assert!(alerts.len() >= 9);
    for alert in alerts {
        let unknown = unknown_names(alert["expr"].as_str().unwrap(), &labels_of(alert));
        assert_eq!(unknown, [""; 0], "{alert}");
        assert!(alert["annotations"]["summary"].is_string() && alert["annotations"]["description"].is_string());
        assert!(alert["labels"]["severity"].is_string(), "{alert}");
    }
    let wrong = json!({"expr": "sum by (eip) (natgw_pods{colour=\"red\"}) > natgw_pod", "a": "{{ $labels.taste }}"});
    let unknown = unknown_names(wrong["expr"].as_str().unwrap(), &labels_of(&wrong));
    assert_eq!(unknown, ["natgw_pod", "eip", "colour", "taste"]);
}

#[test]
fn helm_renders_what_the_program_needs() {
    let Ok(lint) = Command::new("helm")
        .arg("lint")
        .arg("--strict")
        .arg(chart(""))
        .arg("-f")
        .arg(chart("ci/lint-values.yaml"))
        .output()
    else {
        eprintln!("!! SKIPPED: there is no helm on the PATH; go install helm.sh/helm/v3/cmd/helm@v3.22.0 builds one");
        return;
    };
    assert!(
        lint.status.success(),
        "{}{}",
        String::from_utf8_lossy(&lint.stdout),
        String::from_utf8_lossy(&lint.stderr)
    );
    let rendered = render(&["--set", "config.leaderElection.name=natgw"]);
    let of_kind = |kind: &str| rendered.iter().filter(|object| object["kind"] == kind).cloned().collect::<Vec<_>>();
    let [cluster_role] = &of_kind("ClusterRole")[..] else { panic!("{rendered:?}") };
    let [role] = &of_kind("Role")[..] else { panic!("{rendered:?}") };
    assert_eq!(permissions(&cluster_role["rules"]).0, needed(CLUSTER));
    assert_eq!(permissions(&role["rules"]).0, needed(NAMESPACE));
    let [map] = &of_kind("ConfigMap")[..] else { panic!("{rendered:?}") };
    natgw::config::parse(map["data"]["config.yaml"].as_str().unwrap()).unwrap();
    let [rule] = &of_kind("PrometheusRule")[..] else { panic!("{rendered:?}") };
    assert_eq!(rule["spec"]["groups"][0]["rules"], yaml("files/alerts.yaml"));
    let [set] = &of_kind("StatefulSet")[..] else { panic!("{rendered:?}") };
    assert_eq!(set["spec"]["volumeClaimTemplates"][0]["metadata"]["name"], "journal");

    let example = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples/values.yaml");
    assert!(!render(&["-f", example.to_str().unwrap()]).is_empty());

    let renamed = render(&["--set", "config.leaderElection.name=other"]);
    let role = renamed.iter().find(|object| object["kind"] == "Role").unwrap();
    assert!(permissions(&role["rules"]).0.iter().any(|(_, _, name, verb)| name == "other" && verb == "update"));
}

fn render(more: &[&str]) -> Vec<Value> {
    let mut helm = Command::new("helm");
    helm.args(["template", "natgw", "--kube-version", "1.33.0"])
        .arg(chart(""))
        .arg("-f")
        .arg(chart("ci/lint-values.yaml"))
        .args(more);
    let output = helm.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_saphyr::from_multiple(&String::from_utf8(output.stdout).unwrap()).unwrap()
}
