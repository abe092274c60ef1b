//! What the model answers, before anybody puts it on a wire.

use std::net::Ipv4Addr;

use super::refusal::Refusal;
use super::request::PageSpec;
use super::table::Entry;
use super::world::{EipStatus, GatewayStatus, Interface, Route, RouteTable};
use crate::machine::identity::{EntryId, GatewayId, TableId, VSwitchId, ZoneId};

/// What comes back for one request.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// RequestId. Every request has one, also where nobody hears of it.
    pub request_id: String,
    /// The answer; `None` where it never arrives, whatever became of the request.
    pub answer: Option<Result<Answer, Refusal>>,
    /// What a refusal for flow control says of when to come again.
    pub wait_ms: Option<u64>,
}

/// A good answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To `CreateForwardEntry`: ForwardEntryId.
    Created(EntryId),
    /// To `DeleteForwardEntry`.
    DeletionAccepted,
    /// To `DescribeForwardTableEntries`.
    Entries(Numbered<ShownEntry>),
    /// To `DescribeNatGateways`.
    Gateways(Numbered<ShownGateway>),
    /// To `DescribeEipAddresses`.
    Eips(Numbered<ShownEip>),
    /// To `DescribeRouteTableList`.
    RouteTables(Numbered<RouteTable>),
    /// To `DescribeRouteEntryList`.
    Routes(Part<Route>),
    /// To `DescribeNetworkInterfaces`.
    Interfaces(Part<Interface>),
}

/// A page of a numbered listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Numbered<T> {
    /// The items of the page.
    pub items: Vec<T>,
    /// TotalCount.
    pub total: u32,
    /// The page that was asked for.
    pub page: PageSpec,
}

/// A part of a listing that is continued by a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part<T> {
    /// The items of the part.
    pub items: Vec<T>,
    /// NextToken; `None` at the end.
    pub next: Option<String>,
}

/// An entry with the gateway of its table, as a listing shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownEntry {
    /// The entry, its status as old as the listing.
    pub entry: Entry,
    /// NatGatewayId.
    pub gateway: GatewayId,
    /// Shown in place of its status.
    pub odd_status: Option<&'static str>,
}

impl ShownEntry {
    /// Status.
    #[must_use]
    pub fn status(&self) -> &'static str {
        self.odd_status.unwrap_or_else(|| self.entry.status.as_str())
    }
}

/// A gateway, as a listing shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownGateway {
    /// NatGatewayId.
    pub id: GatewayId,
    /// ForwardTableIds has exactly this one.
    pub table: TableId,
    /// Status.
    pub status: GatewayStatus,
    /// NatGatewayPrivateInfo.VswitchId.
    pub vswitch: VSwitchId,
    /// NatGatewayPrivateInfo.IzNo.
    pub zone: ZoneId,
    /// IpLists.
    pub ips: Vec<ShownIp>,
    /// Shown in place of its status.
    pub odd_status: Option<&'static str>,
}

impl ShownGateway {
    /// Status.
    #[must_use]
    pub fn status(&self) -> &'static str {
        self.odd_status.unwrap_or_else(|| self.status.as_str())
    }
}

/// One address in a gateway's IpLists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownIp {
    /// IpAddress.
    pub address: Ipv4Addr,
    /// AllocationId.
    pub allocation: String,
    /// An entry uses it.
    pub forward: bool,
    /// SNAT uses it.
    pub snat: bool,
}

impl ShownIp {
    /// UsingStatus.
    #[must_use]
    pub const fn using_status(&self) -> &'static str {
        match (self.forward, self.snat) {
            (false, false) => "Idle",
            (true, false) => "UsedByForwardTable",
            (false, true) => "UsedBySnatTable",
            (true, true) => "UsedByForwardSnatTable",
        }
    }
}

/// An EIP, as a listing shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownEip {
    /// AllocationId.
    pub allocation: String,
    /// IpAddress.
    pub address: Ipv4Addr,
    /// Status.
    pub status: EipStatus,
    /// An operation lock is set and BusinessStatus is `FinancialLocked`.
    pub locked: bool,
    /// The gateway that has it.
    pub gateway: Option<GatewayId>,
    /// Shown in place of its status.
    pub odd_status: Option<&'static str>,
}

impl ShownEip {
    /// Status.
    #[must_use]
    pub fn status(&self) -> &'static str {
        self.odd_status.unwrap_or_else(|| self.status.as_str())
    }
}
