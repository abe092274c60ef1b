use super::*;
use crate::machine::event::decided::Item;
use crate::machine::event::seen::{Claim, EDITED_SPEC, EDITED_STATUS, LACKS_SPEC, LACKS_STATUS};
use crate::machine::event::{Event, codec};
use crate::machine::identity::{AllocationId, Generation, PodKey};
use crate::ports::cluster::{Leaving, MappedPort};

fn mapping() -> Mapping {
    let item = |internal, external, protocol, n| MappedPort {
        internal,
        external,
        protocol,
        generation: Generation::from((3, n)),
        port_break: false,
    };
    Mapping {
        key: PodKey::new("default", "example-6cd498d7b-9wxyz"),
        pod: "7af54e1c-eeb7-4fd0-b070-ff99ddbd0001".into(),
        allocation: AllocationId::from((2, 17)),
        fixed: false,
        gateway: "ngw-1".into(),
        table: "ftb-1".into(),
        eip: [203, 0, 113, 7].into(),
        ip: [172, 16, 0, 9].into(),
        eni: "eni-1".into(),
        vswitch: "vsw-1".into(),
        zone: "cn-hangzhou-k".into(),
        items: vec![item(80, 512, Protocol::Tcp, 18), item(53, 513, Protocol::Udp, 19)],
        owner: None,
        absent_since_wall_ms: None,
        adopted: crate::ports::cluster::Adopted::default(),
        releasing: Vec::new(),
    }
}

fn publication(published: bool) -> Publication {
    let entries = vec![EntryId::from("fwd-1"), EntryId::from("fwd-2")];
    Publication {
        key: mapping().key,
        allocation: mapping().allocation,
        uid: None,
        mapping: published.then(|| (mapping(), entries)),
        reason: if published { ("Mapped", "all entries are available") } else { ("EntryLost", "an entry is missing") },
    }
}

const GOLDEN: &str = r#"{
  "apiVersion": "alibabacloud.com/v1beta1",
  "kind": "PodDNAT",
  "metadata": {
    "annotations": {
      "k8s.aliyun.com/pod-dnat-claim": "{\"allocation\":\"2.17\",\"term\":3,\"podUID\":\"7af54e1c-eeb7-4fd0-b070-ff99ddbd0001\",\"fixed\":false,\"gateway\":\"ngw-1\",\"table\":\"ftb-1\",\"items\":[{\"external\":512,\"internal\":80,\"protocol\":\"tcp\",\"generation\":\"3.18\",\"portBreak\":false},{\"external\":513,\"internal\":53,\"protocol\":\"udp\",\"generation\":\"3.19\",\"portBreak\":false}],\"releasing\":[]}"
    },
    "finalizers": [
      "natgw-controller"
    ],
    "name": "example-6cd498d7b-9wxyz",
    "namespace": "default",
    "ownerReferences": [
      {
        "apiVersion": "v1",
        "blockOwnerDeletion": true,
        "kind": "Pod",
        "name": "example-6cd498d7b-9wxyz",
        "uid": "7af54e1c-eeb7-4fd0-b070-ff99ddbd0001"
      }
    ]
  },
  "spec": {
    "eni": "eni-1",
    "externalIP": "203.0.113.7",
    "internalIP": "172.16.0.9",
    "portMapping": [
      {
        "externalPort": "512",
        "internalPort": "80"
      },
      {
        "externalPort": "513",
        "internalPort": "53",
        "protocol": "udp"
      }
    ],
    "protocol": "tcp",
    "tableId": "ngw-1",
    "vswitch": "vsw-1",
    "zoneID": "cn-hangzhou-k"
  },
  "status": {
    "conditions": [
      {
        "lastTransitionTime": "2023-09-20T03:26:44Z",
        "message": "all entries are available",
        "reason": "Mapped",
        "status": "True",
        "type": "Ready"
      }
    ],
    "entries": [
      {
        "externalIP": "203.0.113.7",
        "externalPort": "512",
        "forwardEntryId": "fwd-1",
        "internalIP": "172.16.0.9",
        "internalPort": "80",
        "ipProtocol": "tcp"
      },
      {
        "externalIP": "203.0.113.7",
        "externalPort": "513",
        "forwardEntryId": "fwd-2",
        "internalIP": "172.16.0.9",
        "internalPort": "53",
        "ipProtocol": "udp"
      }
    ],
    "externalAddress": "203.0.113.7:512/tcp,513/udp"
  }
}"#;

#[test]
fn the_whole_object_as_it_is_written() {
    let mapping = mapping();
    let mut object = encode(&mapping, Some(owned_by_pod(&mapping)));
    object.status = encode_status(&publication(true), &Status::default(), "2023-09-20T03:26:44Z");
    assert_eq!(serde_json::to_string_pretty(&object).unwrap(), GOLDEN);
    assert_eq!(serde_json::to_string_pretty(&serde_json::to_value(&object).unwrap()).unwrap(), GOLDEN, "any order");
    assert_eq!(serde_json::from_str::<PodDnat>(GOLDEN).unwrap(), object);
}

#[test]
fn a_claim_gives_the_mapping_back() {
    let mut object = encode(&mapping(), None);
    object.metadata.uid = "u".to_owned();
    object.metadata.resource_version = "7".to_owned();
    let seen = claim_of(&object, Kept::ALL);
    let item =
        |internal, external, protocol, n| Item { internal, external, protocol, generation: (3, n), port_break: false };
    let claim = Claim {
        allocation: (2, 17),
        pod: "7af54e1c-eeb7-4fd0-b070-ff99ddbd0001".to_owned(),
        fixed: false,
        gateway: "ngw-1".to_owned(),
        table: "ftb-1".to_owned(),
        eip: Some([203, 0, 113, 7].into()),
        ip: Some([172, 16, 0, 9].into()),
        place: ("eni-1".to_owned(), "vsw-1".to_owned(), "cn-hangzhou-k".to_owned()),
        items: vec![item(80, 512, 6, 18), item(53, 513, 17, 19)],
        absent_since_wall_ms: None,
        releasing: Vec::new(),
        entries: Vec::new(),
        kept: false,
    };
    assert_eq!(seen.claim.as_deref(), Some(&claim));
    assert_eq!((seen.deleting, seen.finalizer, seen.published), (false, true, false));
    let found = found(&object);
    assert_eq!((found.uid.as_str(), found.resource_version.as_str()), ("u", "7"));
    assert_eq!(found.allocation, Some(mapping().allocation));
}

#[test]
fn the_documented_sample_is_no_claim_and_is_read_all_the_same() {
    let sample = r#"{"apiVersion":"alibabacloud.com/v1","kind":"PodDNAT","metadata":{"name":"a","namespace":"b",
        "deletionTimestamp":"2023-09-20T03:26:44Z","managedFields":[{"manager":"x"}]},
        "spec":{"externalIP":"1.2.3.4","entryId":"fwd-old","portMapping":[{"externalPort":"512","internalPort":"80"}]},
        "status":{"created":"true","entries":[{"externalPort":"512"}]}}"#;
    let seen = claim_of(&serde_json::from_str(sample).unwrap(), Kept::ALL);
    assert_eq!((seen.claim, seen.deleting, seen.finalizer, seen.published), (None, true, false, true));
    assert_eq!(seen.manager, MANAGER_ANOTHER);
}

#[test]
fn who_wrote_an_object_is_told_by_its_managed_fields_and_these_pass_through() {
    let text = |managers: &[&str]| {
        let fields = managers
            .iter()
            .map(|name| format!(r#"{{"manager":"{name}","operation":"Update","fieldsV1":{{"f:spec":{{}}}}}}"#));
        let fields = fields.collect::<Vec<_>>().join(",");
        format!(
            r#"{{"apiVersion":"alibabacloud.com/v1","kind":"PodDNAT","metadata":{{"managedFields":[{fields}],"name":"a","namespace":"b"}},"spec":{{}}}}"#
        )
    };
    let read = |text: &str| serde_json::from_str::<PodDnat>(text).unwrap();
    assert_eq!(claim_of(&read(&text(&[])), Kept::ALL).manager, MANAGER_NOT_TOLD);
    assert_eq!(claim_of(&read(&text(&["kubectl-edit", "natgw"])), Kept::ALL).manager, MANAGER_NATGW);
    assert_eq!(claim_of(&read(&text(&["manager"])), Kept::ALL).manager, MANAGER_ANOTHER);
    let object = read(&text(&["natgw"]));
    assert_eq!(read(&serde_json::to_string(&object).unwrap()), object);
    assert_eq!(object.metadata.managed_fields[0].rest["operation"], "Update");
}

#[test]
fn entries_are_absent_and_never_an_empty_list() {
    let mapping = mapping();
    let published = encode_status(&publication(true), &Status::default(), "t1");
    let withdrawn = encode_status(&publication(false), &published, "t2");
    let json = serde_json::to_string(&withdrawn).unwrap();
    assert_eq!(
        json,
        r#"{"conditions":[{"lastTransitionTime":"t2","message":"an entry is missing","reason":"EntryLost","status":"False","type":"Ready"}]}"#
    );
    let short = Publication { mapping: Some((mapping, vec![EntryId::from("fwd-1")])), ..publication(true) };
    assert!(encode_status(&short, &Status::default(), "t").entries.is_empty(), "one id for two ports");
}

#[test]
fn a_condition_keeps_its_time_and_its_neighbours() {
    let other = Condition { r#type: "Other".to_owned(), status: "True".to_owned(), ..Condition::default() };
    let before = Status { conditions: vec![other.clone()], ..Status::default() };
    let first = encode_status(&publication(true), &before, "t1");
    let again = encode_status(&publication(true), &first, "t2");
    assert_eq!(again, first, "nothing changed, so the time stays");
    assert!(again.conditions.contains(&other));
    let lost = encode_status(&publication(false), &again, "t3");
    assert_eq!(lost.conditions.len(), 2);
    assert_eq!(lost.conditions[1].last_transition_time, "t3");
}

#[test]
fn a_rewrite_keeps_what_others_wrote() {
    let mut object = encode(&mapping(), Some(owned_by_pod(&mapping())));
    object.metadata.annotations.insert("example.com/x".to_owned(), "y".to_owned());
    object.metadata.finalizers = vec!["example.com/other".to_owned()];
    let mut moved = mapping();
    moved.ip = [172, 16, 0, 10].into();
    rewrite(&mut object, &moved, owned_by_controller(None));
    assert_eq!(object.metadata.annotations.get("example.com/x").map(String::as_str), Some("y"));
    assert_eq!(object.metadata.finalizers, ["example.com/other", FINALIZER]);
    assert_eq!(object.spec.internal_ip, "172.16.0.10");
    assert!(object.metadata.owner_references.is_empty());
    let owner =
        Controller { api_version: "apps/v1".into(), kind: "StatefulSet".into(), name: "web".into(), uid: "u".into() };
    let reference = serde_json::to_string(&owned_by_controller(Some(&owner))).unwrap();
    assert_eq!(reference, r#"{"apiVersion":"apps/v1","kind":"StatefulSet","name":"web","uid":"u"}"#);
}

#[test]
fn what_does_not_hold_together_is_no_claim() {
    let json = ClaimAnnotation::of(&mapping()).to_json();
    assert!(ClaimAnnotation::parse(&json).is_ok());
    for (from, to) in [
        ("\"2.17\"", "\"2-17\""),
        ("\"2.17\"", "217"),
        ("\"external\":512", "\"external\":0"),
        ("\"external\":512", "\"external\":65536"),
        ("\"protocol\":\"tcp\"", "\"protocol\":\"sctp\""),
        ("\"internal\":53,\"protocol\":\"udp\"", "\"internal\":80,\"protocol\":\"tcp\""),
        (
            "\"external\":513,\"internal\":53,\"protocol\":\"udp\"",
            "\"external\":512,\"internal\":53,\"protocol\":\"tcp\"",
        ),
        ("\"gateway\":\"ngw-1\"", "\"gateway\":\"\""),
        ("\"podUID\"", "\"uid\""),
        ("\"releasing\":[]}", "\"releasing\":[{}]}"),
    ] {
        let broken = json.replace(from, to);
        assert_ne!(broken, json, "{from} is not in the claim");
        let error = ClaimAnnotation::parse(&broken).unwrap_err();
        assert!(error.to_string().contains("does not count"), "{error}");
    }
    assert!(matches!(ClaimAnnotation::parse(&" ".repeat(CLAIM_BYTES_MAX + 1)), Err(ClaimError::TooLong(_))));
}

#[test]
fn later_fields_of_a_claim_survive() {
    let item = r#"{"external":600,"internal":80,"protocol":"tcp","generation":"1.2","portBreak":true}"#;
    let other = r#"{"allocation":"1.0","podUID":"v","gateway":"ngw-2","table":"ftb-2","externalIP":"203.0.113.9","internalIP":"172.16.0.3","#;
    let releasing = item.replacen('{', other, 1);
    let json = format!(
        r#"{{"allocation":"1.1","term":9,"podUID":"u","fixed":true,"absentSince":"2023-09-20T03:26:44Z","gateway":"g","table":"t","items":[{item}],"releasing":[{releasing}]}}"#
    );
    assert_eq!(ClaimAnnotation::parse(&json).unwrap().to_json(), json);
}

#[test]
fn a_reservation_and_what_it_leaves_are_read_back() {
    let mut mapping = mapping();
    let item = mapping.items[0];
    let leaving = |n| Leaving {
        allocation: AllocationId::from((1, n)),
        pod: "earlier".into(),
        gateway: "ngw-2".into(),
        table: "ftb-2".into(),
        eip: [203, 0, 113, 9].into(),
        ip: [172, 16, 0, 3].into(),
        items: vec![item],
    };
    (mapping.fixed, mapping.absent_since_wall_ms) = (true, Some(1_695_180_404_000));
    mapping.releasing = vec![leaving(1), leaving(2)];
    mapping.owner = Some(Controller {
        api_version: "apps/v1".into(),
        kind: "StatefulSet".into(),
        name: "web".into(),
        uid: "u".into(),
    });
    let seen = claim_of(&encode(&mapping, owner_of(&mapping)), Kept::ALL);
    assert_eq!(seen.owner, Some(("apps/v1".into(), "StatefulSet".into(), "web".into(), "u".into())));
    let claim = seen.claim.unwrap();
    assert_eq!((claim.fixed, claim.absent_since_wall_ms), (true, mapping.absent_since_wall_ms));
    let releasing: Vec<_> = claim.releasing.iter().map(|group| (group.allocation, group.items.len())).collect();
    assert_eq!(releasing, [((1, 1), 1), ((1, 2), 1)]);
    assert_eq!((claim.releasing[0].pod.as_str(), claim.releasing[0].ip), ("earlier", [172, 16, 0, 3].into()));
}

#[test]
fn the_largest_claim_fits_a_record() {
    let mut mapping = mapping();
    let longest = |letter: &str| letter.repeat(128);
    mapping.key = PodKey::new("n".repeat(63), "p".repeat(253));
    (mapping.gateway, mapping.table) = (longest("g").as_str().into(), longest("t").as_str().into());
    (mapping.eni, mapping.vswitch) = (longest("e").as_str().into(), longest("v").as_str().into());
    mapping.zone = longest("z").as_str().into();
    mapping.items = (0..64)
        .map(|n| MappedPort {
            internal: 65_000 + n,
            external: 64_000 + n,
            protocol: Protocol::Udp,
            generation: Generation::from((u64::from(u32::MAX), u64::from(u32::MAX))),
            port_break: true,
        })
        .collect();
    let record = |seen| {
        let event = Event::ClaimSeen(seen);
        crate::machine::event::Record { seq: 1, term: 1, machine_ms: 1, wall_ms: 1, event }
    };
    let seen = claim_of(&encode(&mapping, None), Kept::ALL).bounded();
    assert_eq!(seen.claim.as_ref().map(|claim| claim.items.len()), Some(64));
    codec::encode(&record(seen)).unwrap();
    // A claim that only somebody else can have written: it does not count, and does not stop anybody.
    let huge = Generation::from((u64::MAX, u64::MAX));
    mapping.items.iter_mut().for_each(|item| item.generation = huge);
    let items = mapping.items[..37].to_vec();
    let (allocation, pod) = ((1, 1).into(), longest("p").as_str().into());
    let (gateway, table) = (longest("g").as_str().into(), longest("t").as_str().into());
    let (eip, ip) = ([203, 0, 113, 9].into(), [172, 16, 0, 3].into());
    mapping.releasing = vec![Leaving { allocation, pod, gateway, table, eip, ip, items }];
    let seen = claim_of(&encode(&mapping, None), Kept::ALL);
    assert_eq!(seen.claim.as_ref().map(|claim| claim.releasing.len()), Some(1));
    assert!(codec::encode(&record(seen.clone())).is_err(), "it is larger than a record");
    let seen = seen.bounded();
    assert_eq!(seen.claim, None);
    codec::encode(&record(seen)).unwrap();
}

#[test]
fn what_the_original_maps_is_read_from_spec_and_status() {
    let sample = |spec: &str, status: &str| {
        let text = format!(
            r#"{{"apiVersion":"alibabacloud.com/v1","kind":"PodDNAT","metadata":{{"name":"a","namespace":"b",
            "ownerReferences":[{{"apiVersion":"v1","kind":"Pod","name":"a","uid":"pod-a"}}]}},
            "spec":{{"eni":"eni-1","externalIP":"203.0.113.7","internalIP":"172.16.0.9","tableId":"ngw-1",
            "vswitch":"vsw-1","zoneID":"cn-hangzhou-k",{spec}}},"status":{status}}}"#
        );
        claim_of(&serde_json::from_str(&text).unwrap(), Kept::ALL).shown
    };
    let entry = r#"{"entries":[{"externalIP":"203.0.113.7","externalPort":"512","forwardEntryId":"fwd-1",
        "internalIP":"172.16.0.9","internalPort":"80","ipProtocol":"tcp"}]}"#;
    let documented = r#""portMapping":[{"externalPort":"512","internalPort":"80"},{"externalPort":"513","internalPort":"81"}],
        "protocol":"tcp""#;
    let shown = sample(documented, entry).unwrap();
    assert_eq!((shown.pod.as_deref(), shown.gateway.as_str()), (Some("pod-a"), "ngw-1"));
    assert_eq!((shown.eip, shown.ip), ([203, 0, 113, 7].into(), [172, 16, 0, 9].into()));
    assert_eq!(shown.items, [(80, 512, 6, Some("fwd-1".to_owned())), (81, 513, 6, None)]);
    // Of the time when a pod had one port.
    let one = sample(r#""externalPort":"512","internalPort":"53","protocol":"udp","entryId":"fwd-old""#, "{}").unwrap();
    assert_eq!(one.items, [(53, 512, 17, Some("fwd-old".to_owned()))]);
    for nonsense in [
        r#""protocol":"tcp""#,
        r#""portMapping":[{"externalPort":"0","internalPort":"80"}],"protocol":"tcp""#,
        r#""portMapping":[{"externalPort":"512","internalPort":"80"}],"protocol":"icmp""#,
        r#""portMapping":[{"externalPort":"512","internalPort":"80"},{"externalPort":"512","internalPort":"81"}]"#,
    ] {
        assert_eq!(sample(nonsense, "{}"), None, "{nonsense}");
    }
}

#[test]
fn the_annotation_names_what_was_adopted() {
    use crate::ports::cluster::Adopted;
    let entries = vec![Some(EntryId::from("fwd-1")), None];
    let mapping = Mapping { adopted: Adopted { entries, kept: true }, ..mapping() };
    let seen = claim_of(&encode(&mapping, None), Kept::ALL);
    let claim = seen.claim.unwrap();
    assert_eq!((claim.entries, claim.kept), (vec!["fwd-1".to_owned(), String::new()], true));
    assert_eq!(seen.shown, None, "what has our annotation is ours");
}

/// The object of a mapping that is published.
fn published() -> PodDnat {
    let mut object = encode(&mapping(), Some(owned_by_pod(&mapping())));
    object.status = encode_status(&publication(true), &Status::default(), "2023-09-20T03:26:44Z");
    object
}

/// Edits one value of an object, as JSON, and says what it lacks then.
fn lacks_after(pointer: &str, edit: impl FnOnce(&mut serde_json::Value)) -> u8 {
    let mut object = serde_json::to_value(published()).unwrap();
    edit(object.pointer_mut(pointer).unwrap_or_else(|| panic!("there is no {pointer}")));
    claim_of(&serde_json::from_value(object).unwrap(), Kept::ALL).lacks
}

#[test]
fn what_natgw_writes_lacks_nothing_whatever_the_definition_keeps() {
    assert_eq!(claim_of(&published(), Kept::ALL).lacks, 0);
    assert_eq!(claim_of(&encode(&mapping(), None), Kept::ALL).lacks, 0);
    let mut pruned = published();
    pruned.status.conditions.clear();
    pruned.status.external_address = None;
    pruned.spec.port_mapping.iter_mut().for_each(|port| port.protocol = None);
    let nothing = Kept { conditions: false, external_address: false, port_protocol: false };
    assert_eq!(claim_of(&pruned, nothing).lacks, 0);
    assert_eq!(claim_of(&pruned, Kept::ALL).lacks, LACKS_SPEC | LACKS_STATUS);
}

#[test]
fn every_edited_leaf_of_the_spec_is_seen() {
    let leaves = ["protocol", "tableId", "portMapping/0/externalPort", "portMapping/0/internalPort"];
    let second = ["portMapping/1/externalPort", "portMapping/1/internalPort", "portMapping/1/protocol"];
    for leaf in leaves.into_iter().chain(second) {
        let lacks = lacks_after(&format!("/spec/{leaf}"), |value| *value = "7".into());
        assert_eq!(lacks & EDITED_SPEC, EDITED_SPEC, "{leaf}");
    }
    for port in ["", "0"] {
        let lacks = lacks_after("/spec/portMapping", |ports| match port {
            "" => drop(ports.as_array_mut().unwrap().pop()),
            _ => ports.as_array_mut().unwrap().reverse(),
        });
        assert_eq!(lacks & EDITED_SPEC, EDITED_SPEC, "a port that is gone, and two that changed places");
    }
    for leaf in ["entryId", "externalPort", "internalPort"] {
        let lacks = lacks_after("/spec", |spec| spec[leaf] = "7".into());
        assert_eq!(lacks, EDITED_SPEC, "{leaf}, which is never written");
    }
    // The machine holds these against what it decided.
    let claim = |leaf: &str| {
        let mut object = serde_json::to_value(published()).unwrap();
        object["spec"][leaf] = "10.9.9.9".into();
        let seen = claim_of(&serde_json::from_value(object).unwrap(), Kept::ALL);
        assert_eq!(seen.lacks & EDITED_SPEC, 0, "{leaf}");
        seen.claim.unwrap()
    };
    let before = claim_of(&published(), Kept::ALL).claim.unwrap();
    for leaf in ["eni", "vswitch", "zoneID", "externalIP", "internalIP"] {
        assert_ne!(claim(leaf), before, "{leaf}");
    }
}

#[test]
fn every_edited_leaf_of_the_status_is_seen() {
    for leaf in ["externalIP", "externalPort", "internalIP", "internalPort", "ipProtocol"] {
        let lacks = lacks_after(&format!("/status/entries/1/{leaf}"), |value| *value = "7".into());
        assert_eq!(lacks, EDITED_STATUS, "{leaf}");
    }
    let lost_id =
        lacks_after("/status/entries/0", |entry| drop(entry.as_object_mut().unwrap().remove("forwardEntryId")));
    assert_eq!(lost_id, EDITED_STATUS);
    let gone = lacks_after("/status/entries", |entries| drop(entries.as_array_mut().unwrap().remove(0)));
    assert_eq!(gone, EDITED_STATUS, "OKG counts them");
    let more = lacks_after("/status/entries", |entries| {
        let entries = entries.as_array_mut().unwrap();
        entries.push(entries[0].clone());
    });
    assert_eq!(more, EDITED_STATUS);
    assert_eq!(lacks_after("/status/externalAddress", |address| *address = "203.0.113.7:1/tcp".into()), EDITED_STATUS);
    assert_eq!(lacks_after("/status/conditions/0/status", |status| *status = "False".into()), EDITED_STATUS);
    assert_eq!(lacks_after("/status/conditions/0/type", |r#type| *r#type = "Other".into()), LACKS_STATUS);
}

#[test]
fn an_edited_term_of_the_claim_is_seen() {
    let annotation = format!("/metadata/annotations/{}", CLAIM_ANNOTATION.replace('/', "~1"));
    let lacks =
        lacks_after(&annotation, |text| *text = text.as_str().unwrap().replace("\"term\":3", "\"term\":4").into());
    assert_eq!(lacks, EDITED_SPEC);
}
