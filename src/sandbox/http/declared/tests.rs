use serde_json::Value;

use super::*;
use crate::cloud::classes::ACTIONS;

/// The vendor's metadata, reduced; its source stands in it.
const METADATA: &str = include_str!("../../../../tests/fixtures/vendor-metadata.json");

/// Where we declare something else than the metadata, and why it is right: these may differ and no others.
const DIFFERENCES: [(&str, &str); 7] = [
    // Newer than the metadata.
    ("CreateForwardEntry", "DryRun"),
    // Bounds that only the prose has.
    ("DescribeRouteTableList", "PageNumber"),
    ("DescribeRouteTableList", "PageSize"),
    ("DescribeNetworkInterfaces", "PageNumber"),
    ("DescribeNetworkInterfaces", "PageSize"),
    ("DescribeNetworkInterfaces", "NetworkInterfaceId"),
    ("DescribeNetworkInterfaces", "Ipv6Address"),
];

fn metadata() -> Value {
    serde_json::from_str(METADATA).unwrap()
}

/// Whether a rule is what the schema says.
fn is_declared(rule: Rule, schema: &Value) -> bool {
    let bound = |name| schema[name].as_u64().map(|bound| u32::try_from(bound).unwrap());
    match (schema["type"].as_str().unwrap(), rule) {
        ("string", Rule::Text | Rule::Name(_) | Rule::OneOf(..) | Rule::Minute) | ("boolean", Rule::Flag) => true,
        ("integer", Rule::Number(least, most)) => {
            bound("minimum").is_none_or(|bound| bound == least) && bound("maximum").is_none_or(|bound| bound == most)
        }
        ("integer", Rule::Clamped) => bound("minimum").is_none() && bound("maximum").is_none(),
        ("array", Rule::List(most)) => {
            schema["items"] == "string" && bound("maxItems").is_none_or(|bound| bound as usize == most)
        }
        ("array", Rule::Tags(most, _)) => {
            schema["items"] == serde_json::json!(["Key", "Value"])
                && bound("maxItems").is_none_or(|bound| bound as usize >= most)
        }
        (_, _) => false,
    }
}

#[test]
fn every_parameter_is_declared_as_in_the_metadata() {
    let metadata = metadata();
    let mut seen = 0;
    for action in ACTIONS {
        let ours = parameters_of(action);
        let theirs = metadata["actions"][action]["parameters"].as_object().unwrap();
        for (name, schema) in theirs {
            let declared = ours.iter().find(|declared| declared.name == name);
            let declared = declared.unwrap_or_else(|| panic!("{action} {name} is not declared"));
            assert_eq!(declared.required, schema["required"] == true, "{action} {name}");
            if !DIFFERENCES.contains(&(action, name)) {
                assert!(is_declared(declared.rule, schema), "{action} {name}: {:?}, not {schema}", declared.rule);
            }
            seen += 1;
        }
        for declared in ours.iter().filter(|declared| !theirs.contains_key(declared.name)) {
            assert!(DIFFERENCES.contains(&(action, declared.name)), "{action} {} is invented", declared.name);
        }
    }
    assert_eq!(seen, 108, "the metadata was read");
}

/// A good value.
fn good(parameter: &Declared) -> (String, String) {
    let name = parameter.name.to_owned();
    match parameter.rule {
        Rule::Text | Rule::Name(_) => (name, "a".to_owned()),
        Rule::Flag => (name, "True".to_owned()),
        Rule::Number(least, _) => (name, least.to_string()),
        Rule::Clamped => (name, "-7".to_owned()),
        Rule::OneOf(words, _) => (name, words[0].to_owned()),
        Rule::List(_) => (format!("{name}.1"), "a".to_owned()),
        Rule::Tags(..) => (format!("{name}.1.Key"), "a".to_owned()),
        Rule::Minute => (name, "2026-11-22T08:00Z".to_owned()),
    }
}

/// Bad values.
fn bad(parameter: &Declared) -> Vec<(String, String)> {
    let name = parameter.name;
    let whole = |value: &str| (name.to_owned(), value.to_owned());
    match parameter.rule {
        Rule::Text => Vec::new(),
        Rule::Name(most) => vec![whole(&"a".repeat(most + 1)), whole("https://a")],
        Rule::Flag => vec![whole("yes")],
        Rule::Number(least, most) => vec![
            whole(&least.wrapping_sub(1).to_string()),
            whole(&(u64::from(most) + 1).to_string()),
            whole("-1"),
            whole("one"),
        ],
        Rule::Clamped => vec![whole("many")],
        Rule::OneOf(..) => vec![whole("another")],
        Rule::List(most) => vec![
            (format!("{name}.2"), "a".to_owned()),
            (format!("{name}.{}", most + 1), "a".to_owned()),
            (format!("{name}.0"), "a".to_owned()),
            (format!("{name}.01"), "a".to_owned()),
            whole("a"),
        ],
        Rule::Tags(most, _) => vec![
            (format!("{name}.1.Key"), "acs:a".to_owned()),
            (format!("{name}.1.Value"), "http://a".to_owned()),
            (format!("{name}.{}.Key", most + 1), "a".to_owned()),
            (format!("{name}.1.Other"), "a".to_owned()),
        ],
        Rule::Minute => vec![whole("2026-11-22"), whole("2026-11-22T08:00:00Z"), whole("2026-13-22T08:00Z")],
    }
}

#[test]
fn a_breach_of_any_declaration_is_refused_and_what_keeps_it_is_not() {
    let mut refused = std::collections::BTreeSet::new();
    for action in ACTIONS {
        let all = parameters_of(action);
        let minimal: BTreeMap<_, _> = all.iter().filter(|parameter| parameter.required).map(good).collect();
        assert_eq!(check(action, &minimal), Ok(()));
        for parameter in all {
            let (name, value) = good(parameter);
            let mut whole = minimal.clone();
            whole.insert(name.clone(), value);
            assert_eq!(check(action, &whole), Ok(()), "{action} {name}");
            for (name, value) in bad(parameter) {
                let mut broken = minimal.clone();
                broken.insert(name.clone(), value.clone());
                let refusal = check(action, &broken).expect_err(&format!("{action} {name}={value}"));
                assert!(crate::cloud::classes::is_named(action, &refusal.code), "{action} {name}: {refusal:?}");
                refused.insert(refusal.code);
            }
            if parameter.required {
                let mut lacking = minimal.clone();
                lacking.remove(&name);
                let refusal = check(action, &lacking).unwrap_err();
                assert!(refusal.code.starts_with("Missing"), "{action} {name}: {refusal:?}");
                lacking.insert(name, String::new());
                assert_eq!(check(action, &lacking), Err(refusal), "an empty value is none");
            }
        }
    }
    for code in ["InvalidTagKey", "InvalidTagValue", "InvalidFilterValue", "IllegalParam.IpVersion", "InvalidParameter"]
    {
        assert!(refused.contains(code), "{code} among {refused:?}");
    }
}

#[test]
fn what_is_declared_nowhere_is_refused_by_name_and_what_is_hidden_is_not() {
    let with = |name: &str, value: &str| {
        BTreeMap::from([("RegionId".to_owned(), "a".to_owned()), (name.to_owned(), value.to_owned())])
    };
    let refusal = check("DescribeNatGateways", &with("NatGatewayID", "a")).unwrap_err();
    assert_eq!(refusal.code, "UnsupportedParameter");
    assert_eq!(check("DescribeEipAddresses", &with("OwnerAccount", "a@b")), Ok(()));
    let refusal = check("DescribeEipAddresses", &with("OwnerAccount", "a b")).unwrap_err();
    assert_eq!(refusal.code, "IellgalParameter.OwnerAccount");
    assert_eq!(check("DescribeNatGateways", &with("OwnerId", "a")).unwrap_err().code, "InvalidParameter");
}
