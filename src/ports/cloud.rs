//! The cloud in domain words: the eight actions of the documented RAM policy, one call a page.
//!
//! Adapters encode, send and decode. They never retry, wait or decide: what to do next is the step's business.

use std::net::Ipv4Addr;

use crate::machine::identity::{EniId, EntryId, GatewayId, TableId, Tuple, VSwitchId, ZoneId};

/// What the controller asks of the cloud. Each method is one HTTP exchange and one suspension point.
#[expect(async_fn_in_trait, reason = "the futures live on one thread: the driver's runtime or the simulator")]
pub trait Cloud {
    /// `vpc:CreateForwardEntry`. The id is returned at once; the entry becomes `Available` later.
    async fn create_entry(&self, request: &CreateEntry) -> Result<EntryId, CloudError>;

    /// `vpc:DeleteForwardEntry`. Acknowledged at once; the entry disappears from listings later.
    async fn delete_entry(&self, request: &DeleteEntry) -> Result<(), CloudError>;

    /// `vpc:DescribeForwardTableEntries`: one page of a table, from 1.
    async fn list_entries(&self, table: &TableId, page: u32) -> Result<Page<ListedEntry>, CloudError>;

    /// `vpc:DescribeNatGateways`: one page of the gateways of the configured VPC, from 1.
    async fn list_gateways(&self, page: u32) -> Result<Page<ListedGateway>, CloudError>;

    /// `vpc:DescribeEipAddresses`: one page of the EIPs bound to a gateway, from 1.
    async fn list_eips(&self, gateway: &GatewayId, page: u32) -> Result<Page<ListedEip>, CloudError>;

    /// `vpc:DescribeRouteTableList`: one page of the route tables of the configured VPC, from 1.
    async fn list_route_tables(&self, page: u32) -> Result<Page<ListedRouteTable>, CloudError>;

    /// `vpc:DescribeRouteEntryList`: the NAT gateways that are next hop of the table's available `0.0.0.0/0` routes.
    async fn list_default_routes(&self, route_table: &str, next: Option<&str>) -> Result<Chain<GatewayId>, CloudError>;

    /// `ecs:DescribeNetworkInterfaces` by private IP, at most [`ADDRESSES_MAX`] at once.
    async fn list_interfaces(
        &self,
        addresses: &[Ipv4Addr],
        next: Option<&str>,
    ) -> Result<Chain<ListedInterface>, CloudError>;
}

/// Private IPs in one `DescribeNetworkInterfaces` (aliyun-api.md §1.9: `PrivateIpAddress.N`, 1..100).
pub const ADDRESSES_MAX: usize = 100;

/// The six actions that read; each has a budget of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reading {
    /// `vpc:DescribeNatGateways`.
    Gateways,
    /// `vpc:DescribeEipAddresses`.
    Eips,
    /// `vpc:DescribeRouteTableList`.
    RouteTables,
    /// `vpc:DescribeRouteEntryList`.
    Routes,
    /// `ecs:DescribeNetworkInterfaces`.
    Interfaces,
    /// `vpc:DescribeForwardTableEntries`.
    Entries,
}

impl Reading {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Gateways, Self::Eips, Self::RouteTables, Self::Routes, Self::Interfaces, Self::Entries];

    /// What is read, in words.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Gateways => "the gateways",
            Self::Eips => "the EIPs",
            Self::RouteTables => "the route tables",
            Self::Routes => "the routes",
            Self::Interfaces => "the interfaces",
            Self::Entries => "the table",
        }
    }

    /// Items in one page as natgw asks for it: the documented maxima (aliyun-api.md §1.4 to §1.9). Of routes the prose says
    /// at most 100, the schema 500: 100 satisfies both.
    #[must_use]
    pub const fn page_items(self) -> usize {
        match self {
            Self::Gateways | Self::RouteTables | Self::Entries => 50,
            Self::Eips | Self::Routes => 100,
            Self::Interfaces => 500,
        }
    }
}

/// Whether a refusal says that an entry is not in effect yet: the one to be deleted, or, where a table deletes nothing while
/// an entry is Pending, any other (aliyun-api.md §2, §3.2).
#[must_use]
pub fn is_about_pending(code: &str) -> bool {
    ["IncorretForwardEntryStatus", "IncorretStatus.ForwardEntry"].contains(&code)
}

/// Whether a refusal of a deletion speaks of that entry alone, as while it is being deleted already.
#[must_use]
pub fn is_about_entry(code: &str) -> bool {
    code == "IncorrectStatus.ForwardEntry"
}

/// What flow control limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowControl {
    /// Calls of one action.
    Action,
    /// All calls of the account.
    Account,
}

/// What a refusal for flow control limits, whatever it says of when to come again; none if it is about something else
/// (aliyun-api.md §3.5).
#[must_use]
pub fn flow_control(code: &str) -> Option<FlowControl> {
    match code {
        "Throttling.User" => Some(FlowControl::Account),
        code => code.contains("Throttling").then_some(FlowControl::Action),
    }
}

/// The parameters of one creation. All of them are decided and durable before the call; a repeat has equal ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateEntry {
    /// The forward table.
    pub table: TableId,
    /// The five of the entry.
    pub tuple: Tuple,
    /// ForwardEntryName: our mark.
    pub name: String,
    /// ClientToken.
    pub token: String,
    /// PortBreak (aliyun-api.md §2, EIP shared by SNAT and DNAT).
    pub port_break: bool,
}

/// The parameters of one deletion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteEntry {
    /// The forward table.
    pub table: TableId,
    /// The entry.
    pub entry: EntryId,
    /// ClientToken, of the deletion's own.
    pub token: String,
}

/// One page of a listing that is numbered and says its total.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// The items of this page.
    pub items: Vec<T>,
    /// TotalCount as this page says it.
    pub total: u32,
}

/// One part of a listing that is continued by a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain<T> {
    /// The items of this part.
    pub items: Vec<T>,
    /// The token of the next part; `None` at the end.
    pub next: Option<String>,
}

/// One side's port as a listing shows it. Ours are always [`PortSpec::One`]; people write the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PortSpec {
    /// A single port.
    One(u16),
    /// `a/b`, both inclusive.
    Range(u16, u16),
    /// `Any`: the whole address (DNAT IP mapping).
    Any,
}

/// Life cycle of an entry (aliyun-api.md §2). Deleted entries are no longer listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EntryStatus {
    /// Being configured.
    Pending,
    /// In effect.
    Available,
    /// Being deleted.
    Deleting,
    /// A status that no page names; treated as not yet available.
    Other,
}

/// One entry of a forward table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedEntry {
    /// The entry.
    pub id: EntryId,
    /// ForwardEntryName; empty when it has none.
    pub name: String,
    /// ExternalIp.
    pub external_ip: Ipv4Addr,
    /// ExternalPort.
    pub external_port: PortSpec,
    /// InternalIp.
    pub internal_ip: Ipv4Addr,
    /// InternalPort.
    pub internal_port: PortSpec,
    /// IpProtocol; `None` is `any`.
    pub protocol: Option<crate::machine::identity::Protocol>,
    /// Status.
    pub status: EntryStatus,
}

impl ListedEntry {
    /// The five of the entry, where it is a plain port mapping.
    #[must_use]
    pub fn tuple(&self) -> Option<Tuple> {
        match (self.external_port, self.internal_port, self.protocol) {
            (PortSpec::One(external_port), PortSpec::One(internal_port), Some(protocol)) => Some(Tuple {
                external_ip: self.external_ip,
                external_port,
                internal_ip: self.internal_ip,
                internal_port,
                protocol,
            }),
            (PortSpec::One(_) | PortSpec::Range(..) | PortSpec::Any, _, _) => None,
        }
    }
}

/// One NAT gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedGateway {
    /// The gateway.
    pub id: GatewayId,
    /// Its forward table; an Internet gateway has one.
    pub table: Option<TableId>,
    /// Its zone, where the answer names it.
    pub zone: Option<ZoneId>,
    /// Status is `Available` and NetworkType `internet`.
    pub available: bool,
    /// EIPs of the gateway that SNAT uses (`UsedBySnatTable`, `UsedByForwardSnatTable`).
    pub snat: Vec<Ipv4Addr>,
}

/// One EIP bound to a NAT gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedEip {
    /// The address.
    pub address: Ipv4Addr,
    /// Status is `InUse`, BusinessStatus `Normal`, and no operation lock is set.
    pub usable: bool,
}

/// One route table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedRouteTable {
    /// `vtb-…`.
    pub id: String,
    /// It is the system table, which also serves vSwitches that no table names (aliyun-api.md §7).
    pub system: bool,
    /// The vSwitches bound to it.
    pub vswitches: Vec<VSwitchId>,
}

/// One network interface and the private IPs by which it may be found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedInterface {
    /// The interface.
    pub eni: EniId,
    /// Its vSwitch.
    pub vswitch: VSwitchId,
    /// Its zone.
    pub zone: ZoneId,
    /// Its private IPs, primary and secondary.
    pub addresses: Vec<Ipv4Addr>,
}

/// How a call ended, when it did not end well.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{action} ended with {code}: {message} (request {request_id})")]
pub struct CloudError {
    /// The action that was called.
    pub action: &'static str,
    /// What may be concluded, by the one table of `cloud/classes`.
    pub class: ErrorClass,
    /// The cloud's code, or ours in lower case (`timeout`, `connection`, `undecodable`).
    pub code: String,
    /// The cloud's words, bounded.
    pub message: String,
    /// RequestId, or `-` where there was no answer.
    pub request_id: String,
}

/// What may be concluded from an error. Only `Unknown` leaves open whether a mutating call had its effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ErrorClass {
    /// Not applied; the same call may be sent again soon (an earlier one with this token still runs).
    RetryNow,
    /// Not applied; the same call may be sent again after a back-off.
    RetryLater,
    /// Not applied: flow control. Milliseconds to wait, where the answer says them.
    Throttled {
        /// The hint of `x-ratelimit-user(-api)`.
        after_ms: Option<u64>,
    },
    /// Not applied: another operation on the same gateway or table is running.
    Conflict,
    /// Something with this tuple or token exists: look.
    Duplicate,
    /// Not applied: the table is full.
    Quota,
    /// The entry or the table named in the call does not exist.
    Gone,
    /// Not applied: not allowed, or credentials are wrong.
    Denied,
    /// Not applied: the request itself is wrong and will stay so.
    Malformed,
    /// No answer, an answer that cannot be read, a 5xx, or a code that no page names.
    Unknown,
}
