use std::path::Path;

use super::*;
use crate::cluster::poddnat::PodDnat;

/// The CRD that OKG installs, re-stated (peers.md §2.1, §2.3): v1beta1 only, every leaf a string.
fn of_okg() -> Value {
    let strings = |names: &[&str]| -> Value {
        names
            .iter()
            .map(|name| ((*name).to_owned(), json!({"type": "string"})))
            .collect::<serde_json::Map<_, _>>()
            .into()
    };
    let list = |names: &[&str]| json!({"type": "array", "items": {"type": "object", "properties": strings(names)}});
    let entry = ["externalPort", "externalIP", "internalPort", "internalIP", "forwardEntryId", "ipProtocol"];
    let mut spec = strings(&[
        "vswitch",
        "eni",
        "zoneID",
        "externalIP",
        "externalPort",
        "internalIP",
        "internalPort",
        "protocol",
        "tableId",
        "entryId",
    ]);
    spec["portMapping"] = list(&["externalPort", "internalPort"]);
    let status = json!({"created": {"type": "string"}, "entries": list(&entry)});
    let schema = json!({"type": "object", "properties": {
        "apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"},
        "spec": {"type": "object", "properties": spec}, "status": {"type": "object", "properties": status},
    }});
    json!({"spec": {"group": GROUP, "versions": [{
        "name": STORED, "served": true, "storage": true, "subresources": {"status": {}},
        "schema": {"openAPIV3Schema": schema},
    }]}})
}

fn paths<const N: usize>(paths: [&str; N]) -> BTreeSet<String> {
    paths.into_iter().map(str::to_owned).collect()
}

#[test]
fn the_chart_carries_what_the_program_prints() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/natgw/crds/poddnats.yaml");
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == yaml().unwrap(),
        "charts/natgw/crds/poddnats.yaml is not the CRD of these wire types; write it again and look at the difference:\n\
         \n    cargo run -- crd > charts/natgw/crds/poddnats.yaml && git diff charts/natgw/crds\n"
    );
}

#[test]
fn the_yaml_is_the_definition() {
    let read: Value = serde_saphyr::from_str(&yaml().unwrap()).unwrap();
    assert_eq!(read, definition());
}

/// What the API server demands of a structural schema, where the generator could break it.
fn faults(schema: &Value, path: &str, found: &mut Vec<String>) {
    let object = schema.as_object().unwrap();
    let known = [
        "description",
        "items",
        "properties",
        "required",
        "type",
        "x-kubernetes-list-map-keys",
        "x-kubernetes-list-type",
    ];
    for keyword in object.keys().filter(|keyword| !known.contains(&keyword.as_str())) {
        found.push(format!("{path}: {keyword}"));
    }
    if !object.get("type").is_some_and(Value::is_string) {
        found.push(format!("{path}: no type"));
    }
    let items = schema.get("items").map(|items| ("[]".to_owned(), items));
    let properties = schema.get("properties").and_then(Value::as_object);
    let properties = properties.into_iter().flatten().map(|(name, schema)| (format!(".{name}"), schema));
    for (name, schema) in properties.chain(items) {
        faults(schema, &format!("{path}{name}"), found);
    }
}

#[test]
fn the_schema_is_structural_and_requires_only_the_keys_of_its_map() {
    let mut found = Vec::new();
    faults(&SCHEMA, "", &mut found);
    assert_eq!(found, [""; 0]);
    let mut broken = SCHEMA.clone();
    broken["properties"]["spec"]["properties"]["eni"] = json!({"$ref": "#/a", "default": ""});
    faults(&broken, "", &mut found);
    assert_eq!(found, [".spec.eni: $ref", ".spec.eni: default", ".spec.eni: no type"]);

    let conditions = &SCHEMA["properties"]["status"]["properties"]["conditions"];
    assert_eq!(conditions["x-kubernetes-list-map-keys"], json!(["type"]));
    assert_eq!(conditions["items"]["required"], json!(["status", "type"]), "a map's keys must be required");
    let text = SCHEMA.to_string();
    assert_eq!(text.matches("\"required\"").count(), 1, "nothing else is required: the original wrote less than we do");
}

#[test]
fn every_leaf_is_a_string() {
    fn leaves(schema: &Value, found: &mut BTreeSet<String>) {
        let properties = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
        let below: Vec<_> = properties.map(|(_, schema)| schema).chain(schema.get("items")).collect();
        if below.is_empty() {
            found.insert(schema["type"].as_str().unwrap().to_owned());
        }
        below.into_iter().for_each(|schema| leaves(schema, found));
    }
    let mut found = BTreeSet::new();
    for part in ["spec", "status"] {
        leaves(&SCHEMA["properties"][part], &mut found);
    }
    assert_eq!(found, paths(["string"]));
}

/// An object pruned as the API server does it.
fn prune(object: &mut Value, schema: &Value) {
    if let (Some(fields), Some(properties)) = (object.as_object_mut(), schema.get("properties")) {
        fields.retain(|name, _| properties.get(name).is_some());
        fields.iter_mut().for_each(|(name, field)| prune(field, &properties[name.as_str()]));
    }
    if let (Some(members), Some(items)) = (object.as_array_mut(), schema.get("items")) {
        members.iter_mut().for_each(|member| prune(member, items));
    }
}

#[test]
fn nothing_that_the_original_wrote_is_pruned_and_it_is_read() {
    let object = json!({
        "apiVersion": "alibabacloud.com/v1", "kind": "PodDNAT",
        "spec": {
            "eni": "eni-1", "entryId": "fwd-1", "externalIP": "203.0.113.7", "externalPort": "512",
            "internalIP": "172.16.0.9", "internalPort": "80",
            "portMapping": [{"externalPort": "512", "internalPort": "80"}],
            "protocol": "tcp", "tableId": "ngw-1", "vswitch": "vsw-1", "zoneID": "cn-hangzhou-k",
        },
        "status": {"created": "true", "entries": [{
            "externalIP": "203.0.113.7", "externalPort": "512", "forwardEntryId": "fwd-1",
            "internalIP": "172.16.0.9", "internalPort": "80", "ipProtocol": "tcp",
        }]},
    });
    let mut pruned = object.clone();
    prune(&mut pruned, &SCHEMA);
    assert_eq!(pruned, object);
    pruned["metadata"] = json!({"name": "a", "namespace": "b"});
    let read: PodDnat = serde_json::from_value(pruned).unwrap();
    assert_eq!(serde_json::to_value(&read.spec).unwrap(), object["spec"]);
    assert_eq!(serde_json::to_value(&read.status).unwrap(), object["status"]);
}

#[test]
fn our_own_definition_keeps_everything() {
    let examined = examine(&definition()).unwrap();
    assert_eq!(examined, Examined { status_subresource: true, ..Examined::default() });
    assert!(examined.keeps("status.conditions"));
}

#[test]
fn what_okgs_definition_would_prune_is_found() {
    let examined = examine(&of_okg()).unwrap();
    let lost = ["spec.portMapping[].protocol", "status.conditions", "status.externalAddress"];
    assert_eq!((examined.pruned.clone(), examined.refused.clone()), (paths(lost), paths([])));
    assert!(!examined.keeps("status.conditions[].reason"));
    assert!(!examined.keeps("spec.portMapping[].protocol"));
    assert!(examined.keeps("spec.portMapping[].externalPort"));
    assert!(examined.keeps("status.entries") && examined.keeps("spec.protocol"));
}

#[test]
fn a_definition_that_keeps_unknown_fields_prunes_nothing() {
    let mut served = of_okg();
    let schema = "/spec/versions/0/schema/openAPIV3Schema/properties/status";
    served.pointer_mut(schema).unwrap()["x-kubernetes-preserve-unknown-fields"] = json!(true);
    assert_eq!(examine(&served).unwrap().pruned, paths(["spec.portMapping[].protocol"]));
    served["spec"]["preserveUnknownFields"] = json!(true);
    assert_eq!(examine(&served).unwrap().pruned, paths([]));
}

#[test]
fn another_type_a_missing_subresource_and_a_missing_version_are_found() {
    let mut served = of_okg();
    let version = served.pointer_mut("/spec/versions/0").unwrap();
    version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["zoneID"]["type"] = json!("integer");
    version["subresources"] = json!({});
    let examined = examine(&served).unwrap();
    assert_eq!((examined.refused.clone(), examined.status_subresource), (paths(["spec.zoneID"]), false));
    assert!(!examined.keeps("spec.zoneID"));
    served.pointer_mut("/spec/versions/0").unwrap()["schema"] = json!({});
    assert!(!examine(&served).unwrap().keeps("spec.eni"));
    served.pointer_mut("/spec/versions/0").unwrap()["served"] = json!(false);
    assert_eq!(examine(&served), Err(NotServed));
    assert_eq!(examine(&json!({})), Err(NotServed));
}
