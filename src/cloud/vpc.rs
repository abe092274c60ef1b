//! The seven actions of the product `Vpc` and their answers (aliyun-api.md §1.1 to §1.8).
//!
//! Fields that natgw relies on must be there and must parse, or the whole answer is undecodable: a listing that loses an
//! entry on the way would read as its absence. Fields that no one here needs are ignored.

use std::net::Ipv4Addr;

use serde::Deserialize;

use super::rpc::Parameters;
use crate::machine::identity::{EntryId, GatewayId, Protocol, TableId, VSwitchId, ZoneId};
use crate::ports::cloud::{
    Chain, CreateEntry, DeleteEntry, EntryStatus, ListedEip, ListedEntry, ListedGateway, ListedRouteTable, Page,
    PortSpec, Reading,
};

/// The API version of the product.
pub(super) const VERSION: &str = "2016-04-28";

pub(super) fn parameters<const N: usize>(region: &str, own: [(&str, String); N]) -> Parameters {
    let region = [("RegionId".to_owned(), region.to_owned())];
    region.into_iter().chain(own.map(|(name, value)| (name.to_owned(), value))).collect()
}

pub(super) fn create_entry(region: &str, request: &CreateEntry) -> Parameters {
    let CreateEntry { table, tuple, name, token, port_break } = request;
    let mut parameters = parameters(
        region,
        [
            ("ForwardTableId", table.to_string()),
            ("ExternalIp", tuple.external_ip.to_string()),
            ("ExternalPort", tuple.external_port.to_string()),
            ("InternalIp", tuple.internal_ip.to_string()),
            ("InternalPort", tuple.internal_port.to_string()),
            // The page of this action spells it in upper case, those of the listings in lower case.
            ("IpProtocol", tuple.protocol.as_str().to_ascii_uppercase()),
            ("ForwardEntryName", name.clone()),
            ("ClientToken", token.clone()),
        ],
    );
    if *port_break {
        parameters.insert("PortBreak".to_owned(), "true".to_owned());
    }
    parameters
}

pub(super) fn delete_entry(region: &str, request: &DeleteEntry) -> Parameters {
    let DeleteEntry { table, entry, token } = request;
    parameters(
        region,
        [("ForwardTableId", table.to_string()), ("ForwardEntryId", entry.to_string()), ("ClientToken", token.clone())],
    )
}

pub(super) fn list_entries(region: &str, table: &TableId, page: u32) -> Parameters {
    paged(parameters(region, [("ForwardTableId", table.to_string())]), page, Reading::Entries)
}

pub(super) fn of_vpc(region: &str, vpc: &str, page: u32, reading: Reading) -> Parameters {
    paged(parameters(region, [("VpcId", vpc.to_owned())]), page, reading)
}

pub(super) fn list_eips(region: &str, gateway: &GatewayId, page: u32) -> Parameters {
    let own = [("AssociatedInstanceType", "Nat".to_owned()), ("AssociatedInstanceId", gateway.to_string())];
    paged(parameters(region, own), page, Reading::Eips)
}

pub(super) fn list_default_routes(region: &str, route_table: &str, next: Option<&str>) -> Parameters {
    let mut parameters = parameters(
        region,
        [
            ("RouteTableId", route_table.to_owned()),
            ("DestinationCidrBlock", DEFAULT_ROUTE.to_owned()),
            // Without it the answer holds next hops of type Instance only.
            ("NextHopType", NAT_GATEWAY.to_owned()),
            ("MaxResult", Reading::Routes.page_items().to_string()),
        ],
    );
    if let Some(next) = next {
        parameters.insert("NextToken".to_owned(), next.to_owned());
    }
    parameters
}

const DEFAULT_ROUTE: &str = "0.0.0.0/0";
const NAT_GATEWAY: &str = "NatGateway";

fn paged(mut parameters: Parameters, page: u32, reading: Reading) -> Parameters {
    parameters.insert("PageNumber".to_owned(), page.to_string());
    parameters.insert("PageSize".to_owned(), reading.page_items().to_string());
    parameters
}

/// The answer of `CreateForwardEntry`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Created {
    forward_entry_id: String,
}

impl Created {
    pub(super) fn entry(self) -> Result<EntryId, &'static str> {
        if self.forward_entry_id.is_empty() {
            Err("ForwardEntryId is empty")
        } else {
            Ok(EntryId::new(self.forward_entry_id))
        }
    }
}

/// The answer of `DeleteForwardEntry`: nothing but a RequestId.
#[derive(Deserialize)]
pub(super) struct Deleted {}

/// The answer of `DescribeForwardTableEntries`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Entries {
    total_count: u32,
    forward_table_entries: ForwardTableEntries,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ForwardTableEntries {
    forward_table_entry: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    forward_entry_id: String,
    #[serde(default)]
    forward_entry_name: String,
    external_ip: Ipv4Addr,
    external_port: String,
    internal_ip: Ipv4Addr,
    internal_port: String,
    ip_protocol: String,
    status: String,
}

impl Entries {
    pub(super) fn page(self) -> Result<Page<ListedEntry>, String> {
        let items =
            self.forward_table_entries.forward_table_entry.into_iter().map(Entry::listed).collect::<Result<_, _>>()?;
        Ok(Page { items, total: self.total_count })
    }
}

impl Entry {
    fn listed(self) -> Result<ListedEntry, String> {
        let status = match self.status.as_str() {
            "Pending" => EntryStatus::Pending,
            "Available" => EntryStatus::Available,
            "Deleting" => EntryStatus::Deleting,
            _ => EntryStatus::Other,
        };
        Ok(ListedEntry {
            external_port: port(&self.external_port)?,
            internal_port: port(&self.internal_port)?,
            protocol: protocol(&self.ip_protocol)?,
            id: EntryId::new(self.forward_entry_id),
            name: self.forward_entry_name,
            external_ip: self.external_ip,
            internal_ip: self.internal_ip,
            status,
        })
    }
}

/// A port as listings show it: `80`, `10/20` or `Any`; `0` is how the code `AnyPort.PortMustBeZero` speaks of any port.
fn port(text: &str) -> Result<PortSpec, String> {
    let number = |text: &str| text.parse::<u16>().ok().filter(|port| *port != 0);
    if text.eq_ignore_ascii_case("any") || text == "0" {
        return Ok(PortSpec::Any);
    }
    match text.split_once('/') {
        None => number(text).map(PortSpec::One),
        Some((first, last)) => number(first).zip(number(last)).map(|(first, last)| PortSpec::Range(first, last)),
    }
    .ok_or_else(|| format!("port {text:?} is neither a number nor a range nor Any"))
}

fn protocol(text: &str) -> Result<Option<Protocol>, String> {
    if text.eq_ignore_ascii_case("any") {
        return Ok(None);
    }
    let known = Protocol::ALL.into_iter().find(|protocol| text.eq_ignore_ascii_case(protocol.as_str()));
    known.map(Some).ok_or_else(|| format!("protocol {text:?} is none of tcp, udp and any"))
}

/// The answer of `DescribeNatGateways`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Gateways {
    total_count: u32,
    nat_gateways: NatGateways,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct NatGateways {
    nat_gateway: Vec<Gateway>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Gateway {
    nat_gateway_id: String,
    status: String,
    network_type: String,
    #[serde(default)]
    forward_table_ids: ForwardTableIds,
    #[serde(default)]
    ip_lists: IpLists,
    #[serde(default)]
    nat_gateway_private_info: PrivateInfo,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ForwardTableIds {
    forward_table_id: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct IpLists {
    ip_list: Vec<Ip>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Ip {
    ip_address: Ipv4Addr,
    #[serde(default)]
    using_status: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct PrivateInfo {
    iz_no: String,
}

impl Gateways {
    pub(super) fn page(self) -> Page<ListedGateway> {
        let items = self.nat_gateways.nat_gateway.into_iter().map(Gateway::listed).collect();
        Page { items, total: self.total_count }
    }
}

impl Gateway {
    fn listed(self) -> ListedGateway {
        let by_snat = |ip: &Ip| matches!(ip.using_status.as_str(), "UsedBySnatTable" | "UsedByForwardSnatTable");
        ListedGateway {
            id: GatewayId::new(self.nat_gateway_id),
            table: self.forward_table_ids.forward_table_id.into_iter().next().map(TableId::new),
            zone: Some(self.nat_gateway_private_info.iz_no).filter(|zone| !zone.is_empty()).map(ZoneId::new),
            available: self.status == "Available" && self.network_type == "internet",
            snat: self.ip_lists.ip_list.iter().filter(|ip| by_snat(ip)).map(|ip| ip.ip_address).collect(),
        }
    }
}

/// The answer of `DescribeEipAddresses`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Eips {
    total_count: u32,
    eip_addresses: EipAddresses,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct EipAddresses {
    eip_address: Vec<Eip>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Eip {
    ip_address: Ipv4Addr,
    status: String,
    business_status: String,
    #[serde(default)]
    operation_locks: OperationLocks,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct OperationLocks {
    lock_reason: Vec<serde::de::IgnoredAny>,
}

impl Eips {
    pub(super) fn page(self) -> Page<ListedEip> {
        let listed = |eip: Eip| ListedEip {
            address: eip.ip_address,
            usable: eip.status == "InUse"
                && eip.business_status == "Normal"
                && eip.operation_locks.lock_reason.is_empty(),
        };
        Page { items: self.eip_addresses.eip_address.into_iter().map(listed).collect(), total: self.total_count }
    }
}

/// The answer of `DescribeRouteTableList`. Its names are as odd as they are documented.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct RouteTables {
    total_count: u32,
    router_table_list: RouterTableList,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RouterTableList {
    router_table_list_type: Vec<RouteTable>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RouteTable {
    route_table_id: String,
    route_table_type: String,
    #[serde(default)]
    v_switch_ids: VSwitchIds,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct VSwitchIds {
    v_switch_id: Vec<String>,
}

impl RouteTables {
    pub(super) fn page(self) -> Page<ListedRouteTable> {
        let listed = |table: RouteTable| ListedRouteTable {
            id: table.route_table_id,
            system: table.route_table_type == "System",
            vswitches: table.v_switch_ids.v_switch_id.into_iter().map(VSwitchId::new).collect(),
        };
        let tables = self.router_table_list.router_table_list_type;
        Page { items: tables.into_iter().map(listed).collect(), total: self.total_count }
    }
}

/// The answer of `DescribeRouteEntryList`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Routes {
    #[serde(default)]
    next_token: Option<String>,
    route_entrys: RouteEntrys,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RouteEntrys {
    route_entry: Vec<RouteEntry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RouteEntry {
    destination_cidr_block: String,
    status: String,
    #[serde(default)]
    next_hops: NextHops,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct NextHops {
    next_hop: Vec<NextHop>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct NextHop {
    next_hop_type: String,
    #[serde(default)]
    next_hop_id: String,
}

impl Routes {
    /// The filter is asked of the cloud and applied again: whether it honours each of its filters is not documented.
    pub(super) fn chain(self) -> Chain<GatewayId> {
        let gateways = self
            .route_entrys
            .route_entry
            .into_iter()
            .filter(|route| route.destination_cidr_block == DEFAULT_ROUTE && route.status == "Available")
            .flat_map(|route| route.next_hops.next_hop)
            .filter(|hop| hop.next_hop_type == NAT_GATEWAY && !hop.next_hop_id.is_empty())
            .map(|hop| GatewayId::new(hop.next_hop_id));
        Chain { items: gateways.collect(), next: self.next_token.filter(|token| !token.is_empty()) }
    }
}
