//! Bytes on disk do not change with the program: every (kind, version), each variant of what is kept, and every version
//! that is no longer written, against the bytes that they had.

use std::collections::BTreeSet;

use super::words::tests::{item, kept_things, one_of_each};
use super::*;

/// A line each: kind, version, name, and the body in hexadecimal digits. Lines are added, never changed.
const GOLDEN: &str = include_str!("tests/golden.txt");

/// Bodies of versions that are no longer written, with what each becomes.
fn earlier() -> Vec<(u16, u8, Vec<u8>, Event)> {
    let body = |body: &dyn Fn(&mut Vec<u8>) -> Result<(), codec::Error>| {
        let mut bytes = Vec::new();
        body(&mut bytes).unwrap();
        bytes
    };
    let rebased = earlier::RebasedV1 { reason: "AnchorLost".to_owned() };
    let seen = earlier::ClaimSeenV1 {
        namespace: "games".to_owned(),
        name: "web-0".to_owned(),
        uid: "claim-uid".to_owned(),
        resource_version: "7".to_owned(),
        claim: Some(earlier::ClaimV1 {
            allocation: (3, 7),
            pod: "uid-a".to_owned(),
            table: "ftb-1".to_owned(),
            items: vec![item(512)],
            ..earlier::ClaimV1::default()
        }),
        ..earlier::ClaimSeenV1::default()
    };
    let before_adoption = earlier::ClaimSeenV2 {
        namespace: "games".to_owned(),
        name: "web-0".to_owned(),
        uid: "claim-uid".to_owned(),
        resource_version: "7".to_owned(),
        claim: Some(Box::new(earlier::ClaimV2 {
            allocation: (3, 7),
            items: vec![item(512)],
            absent_since_wall_ms: Some(-1),
            ..earlier::ClaimV2::default()
        })),
        ..earlier::ClaimSeenV2::default()
    };
    let not_lacking = earlier::ClaimSeenV3 {
        namespace: "games".to_owned(),
        name: "web-0".to_owned(),
        uid: "claim-uid".to_owned(),
        manager: seen::MANAGER_NATGW,
        ..earlier::ClaimSeenV3::default()
    };
    let not_naming = earlier::ClaimSeenV4 {
        namespace: "games".to_owned(),
        name: "web-0".to_owned(),
        uid: "claim-uid".to_owned(),
        claim: Some(Box::new(seen::Claim {
            allocation: (3, 7),
            pod: "uid-a".to_owned(),
            table: "ftb-1".to_owned(),
            eip: Some([203, 0, 113, 7].into()),
            items: vec![item(512)],
            ..seen::Claim::default()
        })),
        ..earlier::ClaimSeenV4::default()
    };
    vec![
        (4, 1, body(&|out| codec::encode_body(&rebased, out)), Event::Rebased(rebased.clone().into())),
        (12, 1, body(&|out| codec::encode_body(&seen, out)), Event::ClaimSeen(seen.clone().into())),
        (
            12,
            2,
            body(&|out| codec::encode_body(&before_adoption, out)),
            Event::ClaimSeen(before_adoption.clone().into()),
        ),
        (12, 3, body(&|out| codec::encode_body(&not_lacking, out)), Event::ClaimSeen(not_lacking.clone().into())),
        (12, 4, body(&|out| codec::encode_body(&not_naming, out)), Event::ClaimSeen(not_naming.clone().into())),
    ]
}

/// Every example with its bytes.
fn examples() -> Vec<(u16, u8, Vec<u8>, Event)> {
    let today = one_of_each().into_iter().chain(kept_things().into_iter().skip(1));
    let today = today.map(|event| {
        let mut bytes = Vec::new();
        event.encode_body(&mut bytes).unwrap();
        (event.kind(), event.version(), bytes, event)
    });
    today.chain(earlier()).collect()
}

#[test]
fn every_kind_and_version_has_the_bytes_that_it_had() {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let line = |(kind, version, bytes, event): &(u16, u8, Vec<u8>, Event)| {
        format!("{kind} {version} {} {}", event.name(), hex(bytes))
    };
    let today: BTreeSet<String> = examples().iter().map(line).collect();
    let golden: BTreeSet<String> = GOLDEN.lines().map(str::to_owned).collect();
    let missing: Vec<_> = golden.difference(&today).cloned().collect();
    assert!(missing.is_empty(), "these bytes are not written any more:\n{}", missing.join("\n"));
    let new: Vec<_> = today.difference(&golden).cloned().collect();
    assert!(new.is_empty(), "these examples have no bytes in golden.txt:\n{}", new.join("\n"));
    for (kind, version, name) in Event::KINDS {
        for version in 1..=*version {
            assert!(examples().iter().any(|(k, v, ..)| (k, *v) == (kind, version)), "{name} v{version} has no example");
        }
    }
}

#[test]
fn those_bytes_are_read_as_what_they_were() {
    for (kind, version, bytes, event) in examples() {
        assert_eq!(Event::decode_body(kind, version, &bytes), Ok(event.clone()));
        assert!(
            Event::decode_body(kind, version, &bytes[..bytes.len().saturating_sub(1)]).is_err() || bytes.is_empty()
        );
        let longer = [bytes.as_slice(), &[0]].concat();
        assert_eq!(Event::decode_body(kind, version, &longer), Err(codec::Error::Trailing(1)), "{event:?}");
        let newer = event.version() + 1;
        let unknown = codec::Error::UnknownKind { kind, version: newer };
        assert_eq!(Event::decode_body(kind, newer, &bytes), Err(unknown));
    }
}
