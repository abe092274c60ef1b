//! From the wire's parameters to the model's requests. Pure.
//!
//! Every parameter is judged by its declaration first. None is ignored: a filter that the model does not know by itself
//! goes along by its name.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::str::FromStr;

use super::declared;
use super::gateway::own_parameters;
use crate::machine::identity::{EniId, EntryId, GatewayId, TableId, VSwitchId, ZoneId};
use crate::sandbox::vpc::{EntryFilter, Filters, IpProtocol, NewEntry, PageSpec, PartSpec, Ports, Refusal, Request};

/// Characters of AssociatedInstanceId.
const INSTANCE_ID_MAX: usize = 128;

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

/// Decodes a request whose action is known.
pub(super) fn request(region: &str, parameters: &BTreeMap<String, String>) -> Result<Request, Refusal> {
    let action = parameters.get("Action").map(String::as_str).unwrap_or_default();
    let own = own_parameters(parameters.clone());
    declared::check(action, &own)?;
    let mut wire = Wire(own);
    if wire.take("RegionId").as_deref() != Some(region) {
        let message = "The specified RegionId does not exist in our records.";
        return Err(Refusal::new(404, "InvalidRegionId.NotFound", message));
    }
    for name in declared::HIDDEN {
        wire.take(name);
    }
    if action.starts_with("Describe") && wire.flag("DryRun")? {
        return Err(Refusal::dry_run());
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
            more: wire.rest(),
        },
        "DescribeRouteEntryList" => Request::DescribeRouteEntryList {
            route_table: wire.mandatory("RouteTableId")?,
            destination: wire.take("DestinationCidrBlock"),
            hop_type: wire.take("NextHopType"),
            part: wire.part("MaxResult")?,
            more: wire.rest(),
        },
        "DescribeNetworkInterfaces" => interfaces(&mut wire)?,
        _ => return Err(declared::unsupported("Action")),
    };
    Ok(request)
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
    Ok(Request::DescribeNatGateways {
        vpc: wire.take("VpcId"),
        gateway: wire.take("NatGatewayId").map(GatewayId::new),
        zone: wire.take("ZoneId").map(ZoneId::new),
        page: wire.page()?,
        more: wire.rest(),
    })
}

fn eips(wire: &mut Wire) -> Result<Request, Refusal> {
    let instance = wire.take("AssociatedInstanceId");
    if instance.as_ref().is_some_and(|id| id.chars().count() > INSTANCE_ID_MAX) {
        return Err(Refusal::new(400, "InstanceIdLength.Exceed", "InstanceId length is exceed"));
    }
    if instance.is_some() && !wire.0.contains_key("AssociatedInstanceType") {
        return Err(Refusal::new(400, "InstanceType.Invalid", "InstanceType is not null"));
    }
    let values = |wire: &mut Wire, name| {
        let text = wire.take(name).unwrap_or_default();
        text.split(',').filter(|value| !value.is_empty()).map(str::to_owned).collect::<Vec<_>>()
    };
    let addresses = values(wire, "EipAddress").iter().map(|address| address.parse::<Ipv4Addr>()).collect();
    Ok(Request::DescribeEipAddresses {
        gateway: instance.map(GatewayId::new),
        addresses: Result::map_err(addresses, |_| Refusal::parameter("EipAddress"))?,
        allocations: values(wire, "AllocationId"),
        page: wire.page()?,
        more: wire.rest(),
    })
}

fn interfaces(wire: &mut Wire) -> Result<Request, Refusal> {
    let instance = wire.0.get("InstanceId").is_some_and(|id| !id.is_empty() && !id.starts_with("i-"));
    if instance {
        return Err(Refusal::new(400, "InvalidInstanceID.Malformed", "The specified InstanceId is not valid."));
    }
    // Pages are looked at only where nothing asks for parts (aliyun-api.md §1.9).
    let (page, part) = (wire.page()?, wire.part("MaxResults")?);
    let by_part = part.max.is_some() || part.next.is_some();
    Ok(Request::DescribeNetworkInterfaces {
        vpc: wire.take("VpcId"),
        vswitch: wire.take("VSwitchId").map(VSwitchId::new),
        addresses: wire.list("PrivateIpAddress")?,
        interfaces: wire.list::<String>("NetworkInterfaceId")?.into_iter().map(EniId::new).collect(),
        part: if by_part { part } else { PartSpec::of_page(page) },
        more: wire.rest(),
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

    /// A parameter whose absence its declaration has refused already.
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
        // What is below the least counts as the least.
        let max = self.parsed::<i64>(max)?.map(|max| u32::try_from(max.max(0)).unwrap_or(u32::MAX));
        Ok(PartSpec { max, next: self.take("NextToken") })
    }

    /// `Name.1`, `Name.2` and so on, without a gap.
    fn list<T: FromStr>(&mut self, name: &str) -> Result<Vec<T>, Refusal> {
        let mut values = Vec::new();
        while let Some(value) = self.take(&format!("{name}.{}", values.len().saturating_add(1))) {
            values.push(value.parse().map_err(|_| Refusal::parameter(name))?);
        }
        Ok(values)
    }

    /// What nobody has read: filters by what an answer shows.
    fn rest(&mut self) -> Filters {
        let mut rest = std::mem::take(&mut self.0);
        rest.retain(|_, value| !value.is_empty());
        rest
    }
}
