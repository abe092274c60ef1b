//! From the wire's parameters to the model's requests. Pure.
//!
//! A documented parameter that is not implemented is refused by name: an ignored filter would show more than was asked
//! for, and nobody would notice.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::str::FromStr;

use super::gateway::{missing, own_parameters};
use crate::machine::identity::{EniId, EntryId, GatewayId, TableId, VSwitchId, ZoneId};
use crate::sandbox::vpc::{EntryFilter, IpProtocol, NewEntry, PageSpec, PartSpec, Ports, Refusal, Request};

/// Parameters that exist on every action and mean nothing here (aliyun-api.md §1).
const HIDDEN: [&str; 4] = ["OwnerId", "OwnerAccount", "ResourceOwnerId", "ResourceOwnerAccount"];

/// AssociatedInstanceType (aliyun-api.md §1.6).
const INSTANCE_TYPES: [&str; 6] = ["EcsInstance", "SlbInstance", "Nat", "HaVip", "NetworkInterface", "IpAddress"];

/// The product that has this API version.
pub(super) fn product(version: &str) -> Option<&'static str> {
    match version {
        "2016-04-28" => Some("Vpc"),
        "2014-05-26" => Some("Ecs"),
        _ => None,
    }
}

/// The product to which an action belongs.
pub(super) fn product_of(action: &str) -> Option<&'static str> {
    match action {
        "CreateForwardEntry"
        | "DeleteForwardEntry"
        | "DescribeForwardTableEntries"
        | "DescribeNatGateways"
        | "DescribeEipAddresses"
        | "DescribeRouteTableList"
        | "DescribeRouteEntryList" => Some("Vpc"),
        "DescribeNetworkInterfaces" => Some("Ecs"),
        _ => None,
    }
}

/// Whether this is one of the eight actions.
pub(super) fn is_known(action: &str) -> bool {
    product_of(action).is_some()
}

/// A parameter that is documented, or might be, and is not implemented here.
pub(super) fn unsupported(name: &str) -> Refusal {
    let message = format!("The parameter {name} is not supported by the simulated cloud.");
    Refusal::new(400, "UnsupportedParameter", message)
}

/// Decodes a request whose action is known.
pub(super) fn request(region: &str, parameters: &BTreeMap<String, String>) -> Result<Request, Refusal> {
    let action = parameters.get("Action").map(String::as_str).unwrap_or_default();
    let mut wire = Wire(own_parameters(parameters.clone()));
    let asked = wire.take("RegionId").ok_or_else(|| missing("RegionId"))?;
    if asked != region {
        let message = "The specified RegionId does not exist in our records.";
        return Err(Refusal::new(404, "InvalidRegionId.NotFound", message));
    }
    for name in HIDDEN {
        wire.take(name);
    }
    let request = match action {
        "CreateForwardEntry" => create(&mut wire)?,
        "DeleteForwardEntry" => Request::DeleteForwardEntry {
            table: TableId::new(wire.mandatory("ForwardTableId")?),
            entry: EntryId::new(wire.mandatory("ForwardEntryId")?),
            token: wire.take_raw("ClientToken"),
        },
        "DescribeForwardTableEntries" => entries(&mut wire)?,
        "DescribeNatGateways" => gateways(&mut wire)?,
        "DescribeEipAddresses" => eips(&mut wire)?,
        "DescribeRouteTableList" => Request::DescribeRouteTableList {
            vpc: wire.take("VpcId"),
            route_table: wire.take("RouteTableId"),
            page: wire.page()?,
        },
        "DescribeRouteEntryList" => Request::DescribeRouteEntryList {
            route_table: wire.take("RouteTableId").ok_or_else(|| missing("RouteTableId"))?,
            destination: wire.take("DestinationCidrBlock"),
            hop_type: wire.take("NextHopType"),
            part: wire.part("MaxResult")?,
        },
        "DescribeNetworkInterfaces" => Request::DescribeNetworkInterfaces {
            vpc: wire.take("VpcId"),
            vswitch: wire.take("VSwitchId").map(VSwitchId::new),
            addresses: wire.list("PrivateIpAddress")?,
            interfaces: wire.list::<String>("NetworkInterfaceId")?.into_iter().map(EniId::new).collect(),
            part: wire.part("MaxResults")?,
        },
        _ => return Err(unsupported("Action")),
    };
    wire.exhausted().map(|()| request)
}

fn create(wire: &mut Wire) -> Result<Request, Refusal> {
    let table = TableId::new(wire.mandatory("ForwardTableId")?);
    let [external_ip, external_port, internal_ip, internal_port, protocol] =
        ["ExternalIp", "ExternalPort", "InternalIp", "InternalPort", "IpProtocol"].map(|name| wire.mandatory(name));
    let entry = NewEntry {
        table,
        name: wire.take("ForwardEntryName").unwrap_or_default(),
        external_ip: external_ip?.parse().map_err(|_| Refusal::external_ip_malformed())?,
        external_port: external_port?.parse().map_err(|_| Refusal::external_port_malformed())?,
        internal_ip: internal_ip?.parse().map_err(|_| Refusal::internal_ip_malformed())?,
        internal_port: internal_port?.parse().map_err(|_| Refusal::internal_port_malformed())?,
        protocol: IpProtocol::parse(&protocol?).ok_or_else(Refusal::protocol_not_supported)?,
        port_break: wire.flag("PortBreak")?,
    };
    Ok(Request::CreateForwardEntry { entry, token: wire.take_raw("ClientToken"), dry_run: wire.flag("DryRun")? })
}

fn entries(wire: &mut Wire) -> Result<Request, Refusal> {
    let protocol = wire.take("IpProtocol");
    let filter = EntryFilter {
        id: wire.take("ForwardEntryId").map(EntryId::new),
        name: wire.take("ForwardEntryName"),
        external_ip: wire.parsed("ExternalIp")?,
        external_port: wire.parsed::<Ports>("ExternalPort")?,
        internal_ip: wire.parsed("InternalIp")?,
        internal_port: wire.parsed::<Ports>("InternalPort")?,
        protocol: protocol
            .map(|protocol| IpProtocol::parse(&protocol).ok_or_else(|| Refusal::parameter("IpProtocol")))
            .transpose()?,
    };
    Ok(Request::DescribeForwardTableEntries {
        table: wire.take("ForwardTableId").map(TableId::new),
        gateway: wire.take("NatGatewayId").map(GatewayId::new),
        filter,
        page: wire.page()?,
    })
}

fn gateways(wire: &mut Wire) -> Result<Request, Refusal> {
    // Every gateway of the model is one of these, so that the filter passes all or nothing.
    for (name, ours) in [("NetworkType", "internet"), ("NatType", "Enhanced")] {
        if wire.take(name).is_some_and(|asked| asked != ours) {
            return Err(unsupported(name));
        }
    }
    Ok(Request::DescribeNatGateways {
        vpc: wire.take("VpcId"),
        gateway: wire.take("NatGatewayId").map(GatewayId::new),
        zone: wire.take("ZoneId").map(ZoneId::new),
        page: wire.page()?,
    })
}

fn eips(wire: &mut Wire) -> Result<Request, Refusal> {
    let kind = wire.take("AssociatedInstanceType");
    if kind.as_deref().is_some_and(|kind| !INSTANCE_TYPES.contains(&kind)) {
        let message = "The specified value of AssociatedInstanceType is not supported.";
        return Err(Refusal::new(400, "InvalidIAssociatedInstanceType.ValueNotSupported", message));
    }
    // Only NAT gateways have EIPs here: a type without an instance, or an instance of another type, is not modelled.
    let gateway = match (kind.as_deref(), wire.take("AssociatedInstanceId")) {
        (Some("Nat"), Some(gateway)) => Some(GatewayId::new(gateway)),
        (None, None) => None,
        (Some(_), None) | (_, Some(_)) => return Err(unsupported("AssociatedInstanceType")),
    };
    let values = |wire: &mut Wire, name| {
        let text = wire.take(name).unwrap_or_default();
        text.split(',').filter(|value| !value.is_empty()).map(str::to_owned).collect::<Vec<_>>()
    };
    let addresses = values(wire, "EipAddress").iter().map(|address| address.parse::<Ipv4Addr>()).collect();
    Ok(Request::DescribeEipAddresses {
        gateway,
        addresses: Result::map_err(addresses, |_| Refusal::parameter("EipAddress"))?,
        allocations: values(wire, "AllocationId"),
        page: wire.page()?,
    })
}

/// The parameters that nobody has read yet.
struct Wire(BTreeMap<String, String>);

impl Wire {
    /// A parameter that is there and not empty.
    fn take(&mut self, name: &str) -> Option<String> {
        self.take_raw(name).filter(|value| !value.is_empty())
    }

    fn take_raw(&mut self, name: &str) -> Option<String> {
        self.0.remove(name)
    }

    /// A parameter whose absence VPC itself sees.
    fn mandatory(&mut self, name: &str) -> Result<String, Refusal> {
        self.take(name).ok_or_else(Refusal::parameter_missing)
    }

    fn parsed<T: FromStr>(&mut self, name: &str) -> Result<Option<T>, Refusal> {
        self.take(name).map(|value| value.parse().map_err(|_| Refusal::parameter(name))).transpose()
    }

    fn flag(&mut self, name: &str) -> Result<bool, Refusal> {
        match self.take(name).map(|value| value.to_ascii_lowercase()).as_deref() {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(Refusal::parameter(name)),
        }
    }

    fn page(&mut self) -> Result<PageSpec, Refusal> {
        let default = PageSpec::default();
        let number = self.parsed("PageNumber")?.unwrap_or(default.number);
        Ok(PageSpec { number, size: self.parsed("PageSize")?.unwrap_or(default.size) })
    }

    fn part(&mut self, max: &str) -> Result<PartSpec, Refusal> {
        Ok(PartSpec { max: self.parsed(max)?, next: self.take("NextToken") })
    }

    /// `Name.1`, `Name.2` and so on, without a gap.
    fn list<T: FromStr>(&mut self, name: &str) -> Result<Vec<T>, Refusal> {
        let mut values = Vec::new();
        while let Some(value) = self.take(&format!("{name}.{}", values.len().saturating_add(1))) {
            values.push(value.parse().map_err(|_| Refusal::parameter(name))?);
        }
        Ok(values)
    }

    fn exhausted(&self) -> Result<(), Refusal> {
        self.0.keys().next().map_or(Ok(()), |name| Err(unsupported(name)))
    }
}
