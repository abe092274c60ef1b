//! What listings can be filtered by besides what the model itself knows: the documented filters by the wire's names, judged
//! by what the answer shows. A filter on something that nothing here has, such as a tag, leaves nothing.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use super::reply::{ShownEip, ShownGateway};
use super::world::{Hop, Interface, Route, RouteTable};

/// Filters by the wire's names; a list stands as `Name.1`, `Name.2`.
pub type Filters = BTreeMap<String, String>;

/// ResourceGroupId of everything.
pub const RESOURCE_GROUP: &str = "rg-sandbox";
/// RouterId of every route table.
pub const ROUTER: &str = "vrt-sandbox";
/// The security group of every interface.
pub const SECURITY_GROUP: &str = "sg-sandbox";

/// Name of a gateway.
#[must_use]
pub fn gateway_name(id: &str) -> &str {
    id.trim_start_matches("ngw-")
}

/// RouteTableName of a route table.
#[must_use]
pub fn route_table_name(id: &str) -> &str {
    id.trim_start_matches("vtb-")
}

/// RouteEntryId of a route.
#[must_use]
pub fn route_id(table: &str, route: &Route) -> String {
    format!("rte-{table}-{}", route.destination.replace(['.', '/'], "-"))
}

/// InstanceId of an interface.
#[must_use]
pub fn instance_of(interface: &str) -> String {
    format!("i-{}", interface.trim_start_matches("eni-"))
}

pub(super) fn gateway_passes(filters: &Filters, shown: &ShownGateway) -> bool {
    all(filters, |name, wanted| match name {
        "Name" => wanted == gateway_name(shown.id.as_str()),
        "Status" => wanted == shown.status(),
        "InstanceChargeType" => wanted == "PostPaid",
        "NatType" => wanted == "Enhanced",
        "NetworkType" => wanted == "internet",
        "ResourceGroupId" => wanted == RESOURCE_GROUP,
        // Spec is of gateways that were paid in advance; there are none.
        _ => false,
    })
}

pub(super) fn eip_passes(filters: &Filters, shown: &ShownEip) -> bool {
    all(filters, |name, wanted| match name {
        "Status" => wanted == shown.status(),
        "EipName" => wanted == shown.allocation,
        "ISP" => wanted == "BGP",
        "ChargeType" => wanted == "PostPaid",
        "ResourceGroupId" => wanted == RESOURCE_GROUP,
        "LockReason" => shown.locked && wanted == "financial",
        "SecurityProtectionEnabled" | "ServiceManaged" => wanted.eq_ignore_ascii_case("false"),
        // It asks for more of each, not for fewer.
        "IncludeReservationData" => true,
        "AssociatedInstanceType" => shown.gateway.is_some() && wanted == "Nat",
        // All were made on one day, long ago.
        "Filter.1.Value" => *wanted <= *"2021-06-08T12:20Z",
        "Filter.2.Value" => *wanted >= *"2021-06-08T12:20Z",
        "Filter.1.Key" | "Filter.2.Key" => true,
        _ => false,
    })
}

pub(super) fn route_table_passes(filters: &Filters, table: &RouteTable) -> bool {
    all(filters, |name, wanted| match name {
        "RouterType" => wanted == "VRouter",
        "RouterId" => wanted == ROUTER,
        "RouteTableName" => wanted == route_table_name(&table.id),
        "RouteTableType" => wanted == if table.system { "System" } else { "Custom" },
        "ResourceGroupId" => wanted == RESOURCE_GROUP,
        _ => false,
    })
}

pub(super) fn route_passes(filters: &Filters, table: &str, route: &Route) -> bool {
    let listed = |value: &str| value == route.destination;
    let cidrs = filters.iter().filter(|(name, _)| name.starts_with("DestCidrBlockList."));
    let among = {
        let mut cidrs = cidrs.peekable();
        cidrs.peek().is_none() || cidrs.any(|(_, value)| listed(value))
    };
    among
        && all(filters, |name, wanted| match name {
            "RouteEntryId" => wanted == route_id(table, route),
            "RouteEntryType" => wanted == if route.hop == Hop::Local { "System" } else { "Custom" },
            "IpVersion" => wanted == "ipv4",
            "NextHopId" => wanted == route.hop.id(),
            name if name.starts_with("DestCidrBlockList.") => true,
            // None has a name or is hosted.
            _ => false,
        })
}

pub(super) fn interface_passes(filters: &Filters, interface: &Interface) -> bool {
    let primary = interface.addresses.first();
    all(filters, |name, wanted| match name {
        "PrimaryIpAddress" => wanted.parse::<Ipv4Addr>().is_ok_and(|wanted| Some(&wanted) == primary),
        "SecurityGroupId" => wanted == SECURITY_GROUP,
        "Type" => wanted == "Secondary",
        "Status" => wanted == "InUse",
        "InstanceId" => wanted == instance_of(interface.id.as_str()),
        "ServiceManaged" => wanted.eq_ignore_ascii_case("false"),
        "ResourceGroupId" => wanted == RESOURCE_GROUP,
        // None has a name, a tag or an IPv6 address.
        _ => false,
    })
}

fn all(filters: &Filters, passes: impl Fn(&str, &str) -> bool) -> bool {
    filters.iter().all(|(name, wanted)| passes(name, wanted))
}
