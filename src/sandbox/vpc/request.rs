//! What can be asked of the model: the eight actions of the documented RAM policy with typed parameters. Decoding the
//! wire is the façade's business; [`Request::parameters`] gives the wire's names back, for the ledger.

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use super::attributes::Filters;
use super::ports::{IpProtocol, Ports};
use super::table::Entry;
use crate::machine::identity::{EniId, EntryId, GatewayId, TableId, Tuple, VSwitchId, ZoneId};

/// One request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// `vpc:CreateForwardEntry`.
    CreateForwardEntry {
        /// What is to be created.
        entry: NewEntry,
        /// ClientToken.
        token: Option<String>,
        /// DryRun: check only; success is the error code `DryRunOperation`.
        dry_run: bool,
    },
    /// `vpc:DeleteForwardEntry`.
    DeleteForwardEntry {
        /// ForwardTableId.
        table: TableId,
        /// ForwardEntryId.
        entry: EntryId,
        /// ClientToken.
        token: Option<String>,
    },
    /// `vpc:DescribeForwardTableEntries`.
    DescribeForwardTableEntries {
        /// ForwardTableId. This or the gateway must be given.
        table: Option<TableId>,
        /// NatGatewayId.
        gateway: Option<GatewayId>,
        /// The other filters.
        filter: EntryFilter,
        /// Which page; PageSize is at most 50.
        page: PageSpec,
    },
    /// `vpc:DescribeNatGateways`.
    DescribeNatGateways {
        /// VpcId.
        vpc: Option<String>,
        /// NatGatewayId.
        gateway: Option<GatewayId>,
        /// ZoneId.
        zone: Option<ZoneId>,
        /// Which page; PageSize is at most 50.
        page: PageSpec,
        /// The other filters.
        more: Filters,
    },
    /// `vpc:DescribeEipAddresses`.
    DescribeEipAddresses {
        /// AssociatedInstanceId with AssociatedInstanceType `Nat`.
        gateway: Option<GatewayId>,
        /// EipAddress; empty: all.
        addresses: Vec<Ipv4Addr>,
        /// AllocationId; empty: all.
        allocations: Vec<String>,
        /// Which page; PageSize is at most 100.
        page: PageSpec,
        /// The other filters.
        more: Filters,
    },
    /// `vpc:DescribeRouteTableList`.
    DescribeRouteTableList {
        /// VpcId.
        vpc: Option<String>,
        /// RouteTableId.
        route_table: Option<String>,
        /// Which page; PageSize is at most 50.
        page: PageSpec,
        /// The other filters.
        more: Filters,
    },
    /// `vpc:DescribeRouteEntryList`.
    DescribeRouteEntryList {
        /// RouteTableId.
        route_table: String,
        /// DestinationCidrBlock.
        destination: Option<String>,
        /// NextHopType.
        hop_type: Option<String>,
        /// Which part; MaxResult is 1 to 500.
        part: PartSpec,
        /// The other filters.
        more: Filters,
    },
    /// `ecs:DescribeNetworkInterfaces`.
    DescribeNetworkInterfaces {
        /// VpcId.
        vpc: Option<String>,
        /// VSwitchId.
        vswitch: Option<VSwitchId>,
        /// PrivateIpAddress.N, at most 100; empty: all.
        addresses: Vec<Ipv4Addr>,
        /// NetworkInterfaceId.N, at most 100; empty: all.
        interfaces: Vec<EniId>,
        /// Which part; MaxResults below 10 means 10, above 500 means 500.
        part: PartSpec,
        /// The other filters.
        more: Filters,
    },
}

/// What a creation asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewEntry {
    /// ForwardTableId.
    pub table: TableId,
    /// ForwardEntryName; empty when it has none.
    pub name: String,
    /// ExternalIp.
    pub external_ip: Ipv4Addr,
    /// ExternalPort.
    pub external_port: Ports,
    /// InternalIp.
    pub internal_ip: Ipv4Addr,
    /// InternalPort.
    pub internal_port: Ports,
    /// IpProtocol.
    pub protocol: IpProtocol,
    /// PortBreak.
    pub port_break: bool,
}

impl NewEntry {
    /// A plain mapping of one port.
    #[must_use]
    pub fn of(table: TableId, tuple: Tuple, name: impl Into<String>) -> Self {
        Self {
            table,
            name: name.into(),
            external_ip: tuple.external_ip,
            external_port: Ports::One(tuple.external_port),
            internal_ip: tuple.internal_ip,
            internal_port: Ports::One(tuple.internal_port),
            protocol: tuple.protocol.into(),
            port_break: false,
        }
    }

    /// A mapping of a whole address (DNAT IP mapping): all three are `Any`.
    #[must_use]
    pub fn any(table: TableId, external_ip: Ipv4Addr, internal_ip: Ipv4Addr, name: impl Into<String>) -> Self {
        Self {
            table,
            name: name.into(),
            external_ip,
            external_port: Ports::Any,
            internal_ip,
            internal_port: Ports::Any,
            protocol: IpProtocol::Any,
            port_break: false,
        }
    }

    /// Whether both have the same table and the same five.
    #[must_use]
    pub fn same_five(&self, other: &Self) -> bool {
        let five = |entry: &Self| {
            (entry.external_ip, entry.external_port, entry.internal_ip, entry.internal_port, entry.protocol)
        };
        self.table == other.table && five(self) == five(other)
    }
}

/// Filters of a listing of entries; what is `None` filters nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryFilter {
    /// ForwardEntryId.
    pub id: Option<EntryId>,
    /// ForwardEntryName.
    pub name: Option<String>,
    /// ExternalIp.
    pub external_ip: Option<Ipv4Addr>,
    /// ExternalPort.
    pub external_port: Option<Ports>,
    /// InternalIp.
    pub internal_ip: Option<Ipv4Addr>,
    /// InternalPort.
    pub internal_port: Option<Ports>,
    /// IpProtocol.
    pub protocol: Option<IpProtocol>,
}

impl EntryFilter {
    /// Whether everything passes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether this entry passes.
    #[must_use]
    pub fn passes(&self, entry: &Entry) -> bool {
        fn is<T: PartialEq>(wanted: Option<&T>, value: &T) -> bool {
            wanted.is_none_or(|wanted| wanted == value)
        }
        let five = &entry.spec;
        is(self.id.as_ref(), &entry.id)
            && is(self.name.as_ref(), &five.name)
            && is(self.external_ip.as_ref(), &five.external_ip)
            && is(self.external_port.as_ref(), &five.external_port)
            && is(self.internal_ip.as_ref(), &five.internal_ip)
            && is(self.internal_port.as_ref(), &five.internal_port)
            && is(self.protocol.as_ref(), &five.protocol)
    }
}

/// PageNumber and PageSize.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageSpec {
    /// From 1.
    pub number: u32,
    /// From 1 to the action's limit.
    pub size: u32,
}

impl Default for PageSpec {
    /// The first page of 10, as documented for all four listings that are numbered.
    fn default() -> Self {
        Self { number: 1, size: 10 }
    }
}

/// MaxResult(s) and NextToken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartSpec {
    /// At most so many items; the action says what is used when absent.
    pub max: Option<u32>,
    /// Where to go on.
    pub next: Option<String>,
}

impl PartSpec {
    /// The part that is a page: the old way to page through interfaces.
    #[must_use]
    pub fn of_page(PageSpec { number, size }: PageSpec) -> Self {
        let before = number.saturating_sub(1).saturating_mul(size);
        Self { max: Some(size), next: (before > 0).then(|| format!("{TOKEN_PREFIX}{before:08x}")) }
    }
}

/// What a NextToken of ours begins with; a number follows. Clients must not look inside.
pub(super) const TOKEN_PREFIX: &str = "FFsandbox";

impl Request {
    /// The action's name.
    #[must_use]
    pub const fn action(&self) -> &'static str {
        match self {
            Self::CreateForwardEntry { .. } => "CreateForwardEntry",
            Self::DeleteForwardEntry { .. } => "DeleteForwardEntry",
            Self::DescribeForwardTableEntries { .. } => "DescribeForwardTableEntries",
            Self::DescribeNatGateways { .. } => "DescribeNatGateways",
            Self::DescribeEipAddresses { .. } => "DescribeEipAddresses",
            Self::DescribeRouteTableList { .. } => "DescribeRouteTableList",
            Self::DescribeRouteEntryList { .. } => "DescribeRouteEntryList",
            Self::DescribeNetworkInterfaces { .. } => "DescribeNetworkInterfaces",
        }
    }

    /// Whether it may change something.
    #[must_use]
    pub const fn mutates(&self) -> bool {
        matches!(self, Self::CreateForwardEntry { .. } | Self::DeleteForwardEntry { .. })
    }

    /// ClientToken, where there is one.
    #[must_use]
    pub fn token(&self) -> Option<&str> {
        match self {
            Self::CreateForwardEntry { token, .. } | Self::DeleteForwardEntry { token, .. } => token.as_deref(),
            Self::DescribeForwardTableEntries { .. }
            | Self::DescribeNatGateways { .. }
            | Self::DescribeEipAddresses { .. }
            | Self::DescribeRouteTableList { .. }
            | Self::DescribeRouteEntryList { .. }
            | Self::DescribeNetworkInterfaces { .. } => None,
        }
    }

    /// The parameters by the wire's names.
    #[must_use]
    pub fn parameters(&self) -> BTreeMap<String, String> {
        let mut set = Parameters::default();
        match self {
            Self::CreateForwardEntry { entry, token, dry_run } => {
                set.one("ForwardTableId", &entry.table);
                set.some("ForwardEntryName", Some(&entry.name).filter(|name| !name.is_empty()));
                set.one("ExternalIp", entry.external_ip);
                set.one("ExternalPort", entry.external_port);
                set.one("InternalIp", entry.internal_ip);
                set.one("InternalPort", entry.internal_port);
                set.one("IpProtocol", entry.protocol.as_str());
                set.one("PortBreak", entry.port_break);
                set.some("ClientToken", token.as_ref());
                set.some("DryRun", dry_run.then_some("true"));
            }
            Self::DeleteForwardEntry { table, entry, token } => {
                set.one("ForwardTableId", table);
                set.one("ForwardEntryId", entry);
                set.some("ClientToken", token.as_ref());
            }
            Self::DescribeForwardTableEntries { table, gateway, filter, page } => {
                set.some("ForwardTableId", table.as_ref());
                set.some("NatGatewayId", gateway.as_ref());
                set.some("ForwardEntryId", filter.id.as_ref());
                set.some("ForwardEntryName", filter.name.as_ref());
                set.some("ExternalIp", filter.external_ip);
                set.some("ExternalPort", filter.external_port);
                set.some("InternalIp", filter.internal_ip);
                set.some("InternalPort", filter.internal_port);
                set.some("IpProtocol", filter.protocol.map(IpProtocol::as_str));
                set.page(*page);
            }
            Self::DescribeNatGateways { .. }
            | Self::DescribeEipAddresses { .. }
            | Self::DescribeRouteTableList { .. }
            | Self::DescribeRouteEntryList { .. }
            | Self::DescribeNetworkInterfaces { .. } => self.surroundings(&mut set),
        }
        set.0
    }

    fn surroundings(&self, set: &mut Parameters) {
        match self {
            Self::DescribeNatGateways { vpc, gateway, zone, page, more } => {
                set.more(more);
                set.some("VpcId", vpc.as_ref());
                set.some("NatGatewayId", gateway.as_ref());
                set.some("ZoneId", zone.as_ref());
                set.page(*page);
            }
            Self::DescribeEipAddresses { gateway, addresses, allocations, page, more } => {
                set.more(more);
                set.some("AssociatedInstanceType", gateway.as_ref().map(|_| "Nat"));
                set.some("AssociatedInstanceId", gateway.as_ref());
                set.some("EipAddress", (!addresses.is_empty()).then(|| join(addresses)));
                set.some("AllocationId", (!allocations.is_empty()).then(|| join(allocations)));
                set.page(*page);
            }
            Self::DescribeRouteTableList { vpc, route_table, page, more } => {
                set.more(more);
                set.some("VpcId", vpc.as_ref());
                set.some("RouteTableId", route_table.as_ref());
                set.page(*page);
            }
            Self::DescribeRouteEntryList { route_table, destination, hop_type, part, more } => {
                set.more(more);
                set.one("RouteTableId", route_table);
                set.some("DestinationCidrBlock", destination.as_ref());
                set.some("NextHopType", hop_type.as_ref());
                set.some("MaxResult", part.max);
                set.some("NextToken", part.next.as_ref());
            }
            Self::DescribeNetworkInterfaces { vpc, vswitch, addresses, interfaces, part, more } => {
                set.more(more);
                set.some("VpcId", vpc.as_ref());
                set.some("VSwitchId", vswitch.as_ref());
                set.list("PrivateIpAddress", addresses);
                set.list("NetworkInterfaceId", interfaces);
                set.some("MaxResults", part.max);
                set.some("NextToken", part.next.as_ref());
            }
            Self::CreateForwardEntry { .. }
            | Self::DeleteForwardEntry { .. }
            | Self::DescribeForwardTableEntries { .. } => {}
        }
    }
}

#[derive(Default)]
struct Parameters(BTreeMap<String, String>);

impl Parameters {
    fn one(&mut self, name: &str, value: impl fmt::Display) {
        self.0.insert(name.to_owned(), value.to_string());
    }

    fn some(&mut self, name: &str, value: Option<impl fmt::Display>) {
        if let Some(value) = value {
            self.one(name, value);
        }
    }

    fn list<T: fmt::Display>(&mut self, name: &str, values: &[T]) {
        for (n, value) in (1..).zip(values) {
            let n: usize = n;
            self.one(&format!("{name}.{n}"), value);
        }
    }

    fn more(&mut self, filters: &Filters) {
        self.0.extend(filters.clone());
    }

    fn page(&mut self, page: PageSpec) {
        self.one("PageNumber", page.number);
        self.one("PageSize", page.size);
    }
}

fn join<T: ToString>(values: &[T]) -> String {
    values.iter().map(T::to_string).collect::<Vec<_>>().join(",")
}
