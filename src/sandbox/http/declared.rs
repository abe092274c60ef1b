//! The parameters of the eight actions as the vendor's metadata declares them, and what is answered where one breaks its
//! declaration. Pure.
//!
//! Bounds, enumerations and lengths that only the metadata's prose has are kept too. Where no page names the code of a
//! breach it is `InvalidParameter`, which the client must take for malformed whatever it is. A parameter that is declared
//! nowhere is refused by name: the vendor ignores it, but a caller that misspells one should hear of it here.

use std::collections::BTreeMap;

use super::gateway::missing;
use crate::sandbox::vpc::{RESOURCE_GROUP, Refusal};

/// What a value must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// Any text.
    Text,
    /// A text of at most so many characters that is no web address.
    Name(usize),
    /// `true` or `false`, in any case.
    Flag,
    /// A number within bounds, both included.
    Number(u32, u32),
    /// A number; what is outside its bounds is brought inside.
    Clamped,
    /// One of these words, else this status, code and message.
    OneOf(&'static [&'static str], (u16, &'static str, &'static str)),
    /// At most so many values `Name.1`, `Name.2` and so on, without a gap.
    List(usize),
    /// At most so many pairs `Name.1.Key` and `Name.1.Value`; and whether a breach has codes of its own.
    Tags(usize, bool),
    /// `YYYY-MM-DDThh:mmZ`.
    Minute,
}

/// One parameter.
pub(super) struct Declared {
    pub(super) name: &'static str,
    pub(super) required: bool,
    pub(super) rule: Rule,
}

const fn one(name: &'static str, rule: Rule) -> Declared {
    Declared { name, required: false, rule }
}

const fn must(name: &'static str) -> Declared {
    Declared { name, required: true, rule: Rule::Text }
}

/// The most values of a number without a bound.
const ANY: u32 = i32::MAX.unsigned_abs();

/// No page names another code.
const INVALID: (u16, &str, &str) = (400, "InvalidParameter", "");

const GATEWAY_STATUSES: &[&str] = &["Creating", "Available", "Modifying", "Deleting", "Converting"];
const EIP_STATUSES: &[&str] = &["Associating", "Unassociating", "InUse", "Available", "Releasing"];
const INSTANCE_TYPES: &[&str] = &["EcsInstance", "SlbInstance", "Nat", "HaVip", "NetworkInterface", "IpAddress"];
const HOPS: &[&str] = &[
    "Instance",
    "HaVip",
    "VpnGateway",
    "NatGateway",
    "NetworkInterface",
    "RouterInterface",
    "IPv6Gateway",
    "Attachment",
    "Ipv4Gateway",
    "GatewayEndpoint",
    "CenBasic",
    "Ecr",
];
const CHARGES: &[&str] = &["PostPaid", "PrePaid"];
const INTERFACE_STATUSES: &[&str] = &["Available", "Attaching", "InUse", "Detaching", "Deleting"];

const CREATE: &[Declared] = &[
    must("RegionId"),
    must("ForwardTableId"),
    must("ExternalIp"),
    must("ExternalPort"),
    must("InternalIp"),
    must("InternalPort"),
    must("IpProtocol"),
    one("ForwardEntryName", Rule::Text),
    one("ClientToken", Rule::Text),
    one("PortBreak", Rule::Flag),
    // Newer than the metadata (aliyun-api.md §1.1).
    one("DryRun", Rule::Flag),
];

const DELETE: &[Declared] =
    &[must("RegionId"), must("ForwardTableId"), must("ForwardEntryId"), one("ClientToken", Rule::Text)];

const ENTRIES: &[Declared] = &[
    must("RegionId"),
    one("ForwardTableId", Rule::Text),
    one("NatGatewayId", Rule::Text),
    one("ForwardEntryId", Rule::Text),
    one("ExternalIp", Rule::Text),
    one("ExternalPort", Rule::Text),
    one("InternalIp", Rule::Text),
    one("InternalPort", Rule::Text),
    one("IpProtocol", Rule::Text),
    one("ForwardEntryName", Rule::Text),
    one("PageNumber", Rule::Number(1, ANY)),
    one("PageSize", Rule::Number(1, 50)),
];

const GATEWAYS: &[Declared] = &[
    must("RegionId"),
    one("NatGatewayId", Rule::Text),
    one("VpcId", Rule::Text),
    one("Name", Rule::Name(128)),
    one("InstanceChargeType", Rule::OneOf(CHARGES, INVALID)),
    one("Spec", Rule::OneOf(&["Small", "Middle", "Large"], INVALID)),
    one("NatType", Rule::OneOf(&["Enhanced", "Normal"], INVALID)),
    one("ResourceGroupId", Rule::Text),
    one("PageNumber", Rule::Number(1, ANY)),
    one("PageSize", Rule::Number(1, 50)),
    one("DryRun", Rule::Flag),
    one("Status", Rule::OneOf(GATEWAY_STATUSES, INVALID)),
    one("NetworkType", Rule::OneOf(&["internet", "intranet"], INVALID)),
    one("Tag", Rule::Tags(20, false)),
    one("ZoneId", Rule::Text),
];

const EIPS: &[Declared] = &[
    must("RegionId"),
    one("IncludeReservationData", Rule::Flag),
    one("Status", Rule::OneOf(EIP_STATUSES, INVALID)),
    one("EipAddress", Rule::Text),
    one("AllocationId", Rule::Text),
    one("SegmentInstanceId", Rule::Text),
    one("ResourceGroupId", Rule::OneOf(&[RESOURCE_GROUP], NO_GROUP)),
    one("PageNumber", Rule::Number(1, ANY)),
    one("PageSize", Rule::Number(1, 100)),
    one("ISP", Rule::Text),
    one("Filter.1.Key", Rule::OneOf(&["CreationStartTime"], NO_KEY)),
    one("Filter.2.Key", Rule::OneOf(&["CreationEndTime"], NO_KEY)),
    one("Filter.1.Value", Rule::Minute),
    one("Filter.2.Value", Rule::Minute),
    one("LockReason", Rule::OneOf(&["financial", "security"], NO_LOCK)),
    one("AssociatedInstanceType", Rule::OneOf(INSTANCE_TYPES, NO_INSTANCE_TYPE)),
    one("AssociatedInstanceId", Rule::Text),
    one("ChargeType", Rule::OneOf(CHARGES, NO_CHARGE_TYPE)),
    one("DryRun", Rule::Flag),
    one("EipName", Rule::Name(128)),
    one("Tag", Rule::Tags(20, true)),
    one("SecurityProtectionEnabled", Rule::Flag),
    one("PublicIpAddressPoolId", Rule::Text),
    one("ServiceManaged", Rule::Flag),
];

const ROUTE_TABLES: &[Declared] = &[
    must("RegionId"),
    one("RouterType", Rule::OneOf(&["VRouter", "VBR"], INVALID)),
    one("RouterId", Rule::Text),
    one("VpcId", Rule::Text),
    one("RouteTableId", Rule::Text),
    one("RouteTableName", Rule::Text),
    one("PageNumber", Rule::Number(1, ANY)),
    one("PageSize", Rule::Number(1, 50)),
    one("ResourceGroupId", Rule::Text),
    one("Tag", Rule::Tags(20, true)),
    one("RouteTableType", Rule::OneOf(&["System", "Custom"], INVALID)),
];

const ROUTES: &[Declared] = &[
    must("RegionId"),
    must("RouteTableId"),
    one("RouteEntryId", Rule::Text),
    one("DestinationCidrBlock", Rule::Text),
    one("RouteEntryName", Rule::Name(128)),
    one("IpVersion", Rule::OneOf(&["ipv4", "ipv6"], NO_IP_VERSION)),
    one("RouteEntryType", Rule::OneOf(&["Custom", "System", "BGP", "CEN", "ECR"], NO_ROUTE_TYPE)),
    one("NextHopId", Rule::Text),
    one("NextHopType", Rule::OneOf(HOPS, INVALID)),
    one("MaxResult", Rule::Number(1, 500)),
    one("NextToken", Rule::Text),
    one("ServiceType", Rule::OneOf(&["TR"], INVALID)),
    one("DestCidrBlockList", Rule::List(50)),
];

const INTERFACES: &[Declared] = &[
    must("RegionId"),
    one("Tag", Rule::Tags(20, false)),
    one("ResourceGroupId", Rule::Text),
    one("VSwitchId", Rule::Text),
    one("VpcId", Rule::Text),
    one("PrimaryIpAddress", Rule::Text),
    one("SecurityGroupId", Rule::Text),
    one("NetworkInterfaceName", Rule::Name(128)),
    one("Type", Rule::OneOf(&["Primary", "Secondary"], INVALID)),
    one("InstanceId", Rule::Text),
    one("ServiceManaged", Rule::Flag),
    one("Status", Rule::OneOf(INTERFACE_STATUSES, INVALID)),
    one("PageNumber", Rule::Number(1, ANY)),
    one("PageSize", Rule::Number(1, 1_000)),
    one("NextToken", Rule::Text),
    one("MaxResults", Rule::Clamped),
    one("PrivateIpAddress", Rule::List(100)),
    // The schema says 1,000, the prose 100 (aliyun-api.md §1.9): who stays below 100 satisfies both.
    one("NetworkInterfaceId", Rule::List(100)),
    one("Ipv6Address", Rule::List(100)),
];

const NO_GROUP: (u16, &str, &str) = (400, "InvalidResourceGroupId", "The specified ResourceGroupId does not exist.");
const NO_KEY: (u16, &str, &str) = (404, "InvalidFilterKey.NotFound", "The specified Filterkey is not supported.");
const NO_LOCK: (u16, &str, &str) = (404, "InvalidLockReason.NotFound", "The specified LockReason is not found");
const NO_INSTANCE_TYPE: (u16, &str, &str) = (
    400,
    "InvalidIAssociatedInstanceType.ValueNotSupported",
    "The specified value of AssociatedInstanceType is not supported.",
);
const NO_CHARGE_TYPE: (u16, &str, &str) =
    (400, "InvalidChargeType.ValueNotSupported", "The specified ChargeType is not supported.");
const NO_IP_VERSION: (u16, &str, &str) = (400, "IllegalParam.IpVersion", "The param of IpVersion is illegal.");
const NO_ROUTE_TYPE: (u16, &str, &str) =
    (400, "IllegalParam.RouteEntryType", "The param of RouteEntryType is illegal.");

/// Parameters that exist on every action and mean nothing here (aliyun-api.md §1).
pub(super) const HIDDEN: [&str; 4] = ["OwnerId", "OwnerAccount", "ResourceOwnerId", "ResourceOwnerAccount"];

/// What an action takes; nothing where it is not one of the eight.
pub(super) fn parameters_of(action: &str) -> &'static [Declared] {
    match action {
        "CreateForwardEntry" => CREATE,
        "DeleteForwardEntry" => DELETE,
        "DescribeForwardTableEntries" => ENTRIES,
        "DescribeNatGateways" => GATEWAYS,
        "DescribeEipAddresses" => EIPS,
        "DescribeRouteTableList" => ROUTE_TABLES,
        "DescribeRouteEntryList" => ROUTES,
        "DescribeNetworkInterfaces" => INTERFACES,
        _ => &[],
    }
}

/// Judges the action's own parameters. An empty value counts as none.
pub(super) fn check(action: &str, given: &BTreeMap<String, String>) -> Result<(), Refusal> {
    let declared = parameters_of(action);
    for parameter in declared.iter().filter(|parameter| parameter.required) {
        if given.get(parameter.name).is_none_or(String::is_empty) {
            // What every action needs is missed by the gateway; what only VPC's changes need, by VPC.
            let gateway = parameter.name == "RegionId" || action.starts_with("Describe");
            return Err(if gateway { missing(parameter.name) } else { Refusal::parameter_missing() });
        }
    }
    for (name, value) in given.iter().filter(|(_, value)| !value.is_empty()) {
        if HIDDEN.contains(&name.as_str()) {
            check_hidden(name, value)?;
            continue;
        }
        let found = declared.iter().find_map(|parameter| Some((parameter, part(parameter, name)?)));
        let (parameter, part) = found.ok_or_else(|| unsupported(name))?;
        check_value(parameter, &part, value, given)?;
    }
    Ok(())
}

/// A parameter that is declared nowhere.
pub(super) fn unsupported(name: &str) -> Refusal {
    let message = format!("The parameter {name} is not supported by the simulated cloud.");
    Refusal::new(400, "UnsupportedParameter", message)
}

/// Which part of a parameter a name is.
enum Part {
    Whole,
    Item(usize),
    Key(usize),
    Value(usize),
}

fn part(parameter: &Declared, name: &str) -> Option<Part> {
    let number = |text: &str| text.parse::<usize>().ok().filter(|n| *n > 0 && text == n.to_string());
    let rest = || name.strip_prefix(parameter.name)?.strip_prefix('.');
    match parameter.rule {
        Rule::List(_) => number(rest()?).map(Part::Item),
        Rule::Tags(..) => match rest()?.split_once('.')? {
            (n, "Key") => number(n).map(Part::Key),
            (n, "Value") => number(n).map(Part::Value),
            (_, _) => None,
        },
        Rule::Text | Rule::Name(_) | Rule::Flag | Rule::Number(..) | Rule::Clamped | Rule::OneOf(..) | Rule::Minute => {
            (name == parameter.name).then_some(Part::Whole)
        }
    }
}

fn check_value(
    parameter: &Declared,
    part: &Part,
    value: &str,
    given: &BTreeMap<String, String>,
) -> Result<(), Refusal> {
    let refuse = || Err(Refusal::parameter(parameter.name));
    let number = || value.parse::<u32>().ok();
    let good = match (parameter.rule, part) {
        (Rule::Text, _) => true,
        (Rule::Name(most), _) => value.chars().count() <= most && !is_web(value),
        (Rule::Flag, _) => ["true", "false"].iter().any(|flag| value.eq_ignore_ascii_case(flag)),
        (Rule::Number(least, most), _) => number().is_some_and(|number| (least..=most).contains(&number)),
        (Rule::Clamped, _) => value.parse::<i32>().is_ok(),
        (Rule::OneOf(words, refusal), _) => {
            return if words.contains(&value) { Ok(()) } else { Err(of(parameter.name, refusal)) };
        }
        (Rule::List(most), Part::Item(n)) => {
            *n <= most && (*n == 1 || given.contains_key(&format!("{}.{}", parameter.name, n.saturating_sub(1))))
        }
        (Rule::Tags(most, own), Part::Key(n)) => {
            let good = *n <= most && value.chars().count() <= 128 && !is_web(value);
            let reserved = value.starts_with("aliyun") || value.starts_with("acs:");
            return if good && !reserved { Ok(()) } else { Err(tag(own, "InvalidTagKey", "keys")) };
        }
        (Rule::Tags(most, own), Part::Value(n)) => {
            let good = *n <= most && value.chars().count() <= 128 && !is_web(value);
            return if good { Ok(()) } else { Err(tag(own, "InvalidTagValue", "values")) };
        }
        (Rule::Minute, _) => {
            let refusal = Refusal::new(404, "InvalidFilterValue", "The specified FilterValue is not supported.");
            return if is_minute(value) { Ok(()) } else { Err(refusal) };
        }
        (Rule::List(_) | Rule::Tags(..), Part::Whole | Part::Item(_) | Part::Key(_) | Part::Value(_)) => false,
    };
    if good { Ok(()) } else { refuse() }
}

fn check_hidden(name: &str, value: &str) -> Result<(), Refusal> {
    let number = name.ends_with("Id");
    if number && value.parse::<i64>().is_err() {
        return Err(Refusal::parameter(name));
    }
    if !number && value.chars().any(char::is_whitespace) {
        let message = "The specified parameter OwnerAccount is not valid.";
        return Err(Refusal::new(400, "IellgalParameter.OwnerAccount", message));
    }
    Ok(())
}

fn of(name: &str, (status, code, message): (u16, &str, &str)) -> Refusal {
    if message.is_empty() { Refusal::parameter(name) } else { Refusal::new(status, code, message) }
}

fn tag(own: bool, code: &str, what: &str) -> Refusal {
    if own { Refusal::new(400, code, format!("The tag {what} are not valid.")) } else { Refusal::parameter("Tag") }
}

fn is_web(value: &str) -> bool {
    ["http://", "https://"].iter().any(|scheme| value.contains(scheme))
}

fn is_minute(value: &str) -> bool {
    let seconds = value.strip_suffix('Z').map(|minutes| format!("{minutes}:00Z"));
    value.len() == "2021-06-08T12:20Z".len() && seconds.is_some_and(|time| time.parse::<jiff::Timestamp>().is_ok())
}

#[cfg(test)]
mod tests;
