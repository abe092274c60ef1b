use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// The vendor's metadata, reduced (its source stands in it): `actions.NAME.errors.STATUS` is a list of `[code, message]`.
const METADATA: &str = include_str!("../../../tests/fixtures/vendor-metadata.json");

/// Every documented error: action, status, code, message.
fn documented() -> Vec<(&'static str, u16, String, String)> {
    let metadata: serde_json::Value = serde_json::from_str(METADATA).unwrap();
    let mut all = Vec::new();
    for action in ACTIONS {
        for (status, errors) in metadata["actions"][action]["errors"].as_object().unwrap() {
            for error in errors.as_array().unwrap() {
                let [code, message] = [0, 1].map(|part| error[part].as_str().unwrap().to_owned());
                all.push((action, status.parse().unwrap(), code, message));
            }
        }
    }
    all
}

/// Codes that the metadata does not list and that were met live, in the pages of the gateway, or in the vendor's tools.
const MET_ELSEWHERE: &[(u16, ErrorClass, &[&str])] = &[
    (409, ErrorClass::Conflict, &["OperationConflict"]),
    (
        400,
        ErrorClass::Throttled { after_ms: None },
        &["Throttling", "Throttling.User", "Throttling.Api", "Rejected.Throttling", "OperationFailed.Throttling"],
    ),
    (
        400,
        ErrorClass::Denied,
        &["SignatureDoesNotMatch", "IncompleteSignature", "InvalidTimeStamp.Expired", "InvalidAccessKeyId.NotFound"],
    ),
    (404, ErrorClass::Denied, &["InvalidAccessKeyId.NotFound"]),
    (403, ErrorClass::Denied, &["Forbidden.RAM", "SignatureDoesNotMatch", "InvalidSecurityToken.Expired"]),
    (400, ErrorClass::Malformed, &["MissingRegionId", "InvalidTimeStamp.Format", "IllegalTimestamp"]),
    (403, ErrorClass::Malformed, &["InvalidAction", "UnsupportedHTTPMethod"]),
    (404, ErrorClass::Malformed, &["InvalidProduct.NotFound", "InvalidApi.NotFound", "InvalidProtocol.NeedSsl"]),
    (400, ErrorClass::Unknown, &["SignatureNonceUsed", "IdempotentFailed", "UnknownError"]),
    (503, ErrorClass::Unknown, &["ServiceUnavailable"]),
];

/// Action, status and code.
type Triple = (&'static str, u16, String);

/// The triples that these rows name.
fn triples(rows: &[Row]) -> Vec<Triple> {
    let of = |row: &Row| {
        let (actions, codes, status) = (row.actions, row.codes, row.status);
        actions.iter().flat_map(move |action| codes.iter().map(move |code| (*action, status, (*code).to_owned())))
    };
    rows.iter().flat_map(of).collect()
}

/// In which way the rows are not the documented ones: what they lack, what they have besides, what they have twice.
fn differences(rows: &[Triple]) -> Vec<(&'static str, Triple)> {
    let documented: BTreeSet<Triple> =
        documented().into_iter().map(|(action, status, code, _)| (action, status, code)).collect();
    let mut named = BTreeSet::new();
    let twice = rows.iter().filter(|row| !named.insert((*row).clone())).map(|row| ("twice", row.clone()));
    let mut differences: Vec<_> = twice.collect();
    differences.extend(documented.difference(&named).map(|row| ("lacks", row.clone())));
    differences.extend(named.difference(&documented).map(|row| ("besides", row.clone())));
    differences
}

#[test]
fn the_table_is_the_documented_one_by_action_status_and_code() {
    let all: BTreeSet<Triple> =
        documented().into_iter().map(|(action, status, code, _)| (action, status, code)).collect();
    assert_eq!((documented().len(), all.len()), (117, 117), "each is documented once");
    let rows = triples(DOCUMENTED);
    assert_eq!((rows.len(), differences(&rows)), (117, vec![]));
    // Two codes are documented under two statuses each: by action and code alone they could not be told apart.
    let mut statuses: BTreeMap<_, BTreeSet<u16>> = BTreeMap::new();
    for (action, status, code) in all {
        statuses.entry((action, code)).or_default().insert(status);
    }
    let several: Vec<_> = statuses.iter().filter(|(_, statuses)| statuses.len() > 1).collect();
    let of = |code: &str| (DESCRIBE_NETWORK_INTERFACES, code.to_owned());
    let (region, parameter) = (of("Forbidden.RegionId"), of("InvalidParameter"));
    let both = BTreeSet::from([400, 403]);
    assert_eq!((statuses.len(), several), (115, vec![(&region, &both), (&parameter, &both)]));
}

#[test]
fn a_row_that_is_removed_added_or_moved_is_caught() {
    let rows = triples(DOCUMENTED);
    for place in 0..rows.len() {
        let mut fewer = rows.clone();
        let row = fewer.remove(place);
        assert_eq!(differences(&fewer), [("lacks", row.clone())]);
        let moved = (row.0, 418, row.2.clone());
        fewer.push(moved.clone());
        assert_eq!(differences(&fewer), [("lacks", row.clone()), ("besides", moved)], "under another status");
        let mut more = rows.clone();
        more.push(row.clone());
        assert_eq!(differences(&more), [("twice", row)]);
    }
}

/// One documented code says two things: its words alone tell them apart.
#[test]
fn every_documented_message_has_the_class_of_its_row() {
    let mut by_words = 0;
    for (action, status, code, message) in documented() {
        let row = DOCUMENTED
            .iter()
            .find(|row| row.actions.contains(&action) && row.status == status && row.codes.contains(&code.as_str()));
        let of_row = if is_mutating(action) && status >= 500 { ErrorClass::Unknown } else { row.unwrap().class };
        let class = class_of(action, status, &code, &message);
        assert!(is_named(action, &code));
        assert_eq!(class_of(action, status, &code, "some words"), of_row, "{action} {status} {code}");
        if class != of_row {
            assert_eq!(
                (action, code.as_str(), class),
                (DELETE_FORWARD_ENTRY, "IncorretForwardEntryStatus", ErrorClass::Gone)
            );
            by_words += 1;
        }
    }
    assert!(by_words <= 1, "{by_words} messages");
}

/// What a reading of the code alone says of some: the table must not say otherwise, whoever wrote it.
#[test]
fn codes_that_speak_for_themselves_have_the_class_that_they_speak_of() {
    let all = documented();
    let class = |action: &str, status: u16, code: &str| class_of(action, status, code, "some words");
    let mut seen = BTreeSet::new();
    for (action, status, code, _) in all.iter().filter(|(action, status, ..)| !is_mutating(action) || *status < 500) {
        let of_entries = is_mutating(action) || *action == DESCRIBE_FORWARD_TABLE_ENTRIES;
        let expected = match code.as_str() {
            code if code.starts_with("QuotaExceeded") => ErrorClass::Quota,
            code if code.contains("Duplicate") => ErrorClass::Duplicate,
            code if code.ends_with("ForwardTableId.NotFound") || code.ends_with("ForwardEntryId.NotFound") => {
                ErrorClass::Gone
            }
            code if code.contains("TaskConflict") || (code.contains("orre") && code.contains("ForwardEntry")) => {
                ErrorClass::Conflict
            }
            code if code.ends_with("Malformed") || code.starts_with("Missing") || code.contains("CIDR") => {
                ErrorClass::Malformed
            }
            code if code.starts_with("IncorrectStatus.") => ErrorClass::RetryLater,
            code if code.starts_with("InternalError") => ErrorClass::Unknown,
            _ => continue,
        };
        assert_eq!(class(action, *status, code), expected, "{action} {status} {code}");
        assert!(expected != ErrorClass::Gone || of_entries);
        seen.insert(expected);
    }
    assert_eq!(seen.len(), 7, "{seen:?}");
}

#[test]
fn what_was_met_elsewhere_has_its_class_for_every_action_that_can_meet_it() {
    for action in ACTIONS {
        for (status, class, codes) in MET_ELSEWHERE {
            for code in *codes {
                assert_eq!(class_of(action, *status, code, "some words"), *class, "{action} {status} {code}");
                assert!(is_named(action, code), "{code} is documented, so the table must name it");
            }
        }
    }
    for action in CHANGES {
        for (class, code) in [
            (ErrorClass::Duplicate, "IdempotentParameterMismatch"),
            (ErrorClass::RetryNow, "LastTokenProcessing"),
            (ErrorClass::RetryNow, "OperationFailed.LastTokenProcessing"),
        ] {
            for status in [400, 403, 409] {
                assert_eq!(class_of(action, status, code, ""), class, "{action} {status} {code}");
            }
        }
    }
    assert_eq!(class_of(CREATE_FORWARD_ENTRY, 400, "QuotaExceeded", ""), ErrorClass::Quota);
    assert_eq!(class_of(CREATE_FORWARD_ENTRY, 400, "DryRunOperation", ""), ErrorClass::Malformed);
}

#[test]
fn a_missing_entry_in_disguise_is_gone_only_where_an_entry_was_named() {
    let class = |action, message| class_of(action, 400, "IncorretForwardEntryStatus", message);
    assert_eq!(class(DELETE_FORWARD_ENTRY, "The Specified forwardEntry is not exist"), ErrorClass::Gone);
    assert_eq!(
        class(DELETE_FORWARD_ENTRY, "The Specified forwardEntry is not stable status, can not operation"),
        ErrorClass::Conflict
    );
    assert_eq!(class(CREATE_FORWARD_ENTRY, "The Specified forwardEntry is not exist"), ErrorClass::Conflict);
}

#[test]
fn a_failed_server_says_nothing_about_a_change() {
    for action in [CREATE_FORWARD_ENTRY, DELETE_FORWARD_ENTRY] {
        for status in [500, 502, 503, 504, 599] {
            for code in ["QuotaExceeded.ForwardEntry", "InvalidForwardEntryId.NotFound", "Throttling.User", "", "Novel"]
            {
                assert_eq!(class_of(action, status, code, ""), ErrorClass::Unknown, "{action} {status} {code}");
            }
        }
    }
    assert_eq!(
        class_of(DESCRIBE_NAT_GATEWAYS, 503, "Throttling", ""),
        ErrorClass::Throttled { after_ms: None },
        "a read has no effect to be in doubt about"
    );
}

#[test]
fn what_no_row_names_proves_nothing() {
    for action in ACTIONS {
        for (status, code) in [(400, "Novel.Code"), (404, "NotFound"), (404, "Novel.NotFound"), (404, ""), (302, "")] {
            assert_eq!(class_of(action, status, code, "is not exist"), ErrorClass::Unknown, "{action} {status} {code}");
        }
    }
}

#[test]
fn only_an_entry_or_a_table_can_be_gone_and_only_to_who_names_one() {
    let all: Vec<_> = table().filter(|row| row.class == ErrorClass::Gone).collect();
    let codes: BTreeSet<_> = all.iter().flat_map(|row| row.codes).collect();
    assert_eq!(
        codes.into_iter().collect::<Vec<_>>(),
        [&"InvalidForwardEntryId.NotFound", &"InvalidForwardTableId.NotFound", &"ResourceNotFound.ForwardEntry"]
    );
    for action in ACTIONS.into_iter().filter(|action| !is_mutating(action) && *action != DESCRIBE_FORWARD_TABLE_ENTRIES)
    {
        assert_eq!(class_of(action, 404, "InvalidForwardTableId.NotFound", ""), ErrorClass::Unknown, "{action}");
    }
}

#[test]
fn one_action_s_code_means_one_thing_whatever_the_status() {
    for action in ACTIONS {
        let mut classes = BTreeMap::new();
        for row in table().filter(|row| row.actions.contains(&action)) {
            for code in row.codes {
                let class = *classes.entry(code).or_insert(row.class);
                assert_eq!(class, row.class, "{action} {code}");
            }
        }
    }
}
