//! What stands in the simulated account before anybody calls: one VPC with its vSwitches, route tables, NAT gateways and
//! EIPs. Network interfaces are not listed here, for they are computed: every address of a vSwitch that a pod can have
//! belongs to one of them.

use std::collections::BTreeSet;
use std::fmt;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::machine::identity::{EniId, GatewayId, TableId, VSwitchId, ZoneId};

/// The most gateways that [`World::new`] makes: one /16 of 172.16.0.0/12 each.
pub const GATEWAYS_MAX: u8 = 16;

/// The most EIPs of one gateway (aliyun-api.md §4, `natgw_quota_eip_num_per_nat`).
pub const EIPS_MAX: u8 = 20;

/// Private addresses that one computed interface carries, its primary one included.
const ADDRESSES_OF_AN_INTERFACE: u32 = 16;

/// The destination by which traffic leaves the VPC.
pub const DEFAULT_ROUTE: &str = "0.0.0.0/0";

/// The simulated account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct World {
    /// RegionId; requests for another are refused by whoever decodes them.
    pub region: String,
    /// VpcId.
    pub vpc: String,
    /// The VPC's block. InternalIp of every entry must lie in it.
    pub cidr: Cidr,
    /// The vSwitches.
    pub vswitches: Vec<VSwitch>,
    /// The route tables, the system table among them.
    pub route_tables: Vec<RouteTable>,
    /// The Internet NAT gateways.
    pub gateways: Vec<NatGateway>,
    /// Gateways that nobody is shown, although their entries live on.
    #[serde(default)]
    pub vanished: Vec<NatGateway>,
    /// EIPs of the account that no gateway has.
    pub spare_eips: Vec<Eip>,
    /// Addresses that no interface shows, although they lie in a vSwitch.
    pub hidden: BTreeSet<Ipv4Addr>,
}

/// One vSwitch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VSwitch {
    /// VSwitchId.
    pub id: VSwitchId,
    /// ZoneId.
    pub zone: ZoneId,
    /// Its block.
    pub cidr: Cidr,
}

/// One route table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteTable {
    /// RouteTableId.
    pub id: String,
    /// RouteTableType is `System`, not `Custom`.
    pub system: bool,
    /// The vSwitches bound to it.
    pub vswitches: Vec<VSwitchId>,
    /// Its routes.
    pub routes: Vec<Route>,
}

/// One route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// DestinationCidrBlock.
    pub destination: String,
    /// Status is `Available`, not `Pending`.
    pub available: bool,
    /// Where it leads.
    pub hop: Hop,
}

/// The next hop of a route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Hop {
    /// Within the VPC: a route that the system made.
    Local,
    /// A NAT gateway.
    NatGateway(GatewayId),
    /// An ECS instance.
    Instance(String),
}

impl Hop {
    /// NextHopType.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::NatGateway(_) => "NatGateway",
            Self::Instance(_) => "Instance",
        }
    }

    /// NextHopId; empty for a local route.
    #[must_use]
    pub fn id(&self) -> &str {
        match self {
            Self::Local => "",
            Self::NatGateway(gateway) => gateway.as_str(),
            Self::Instance(instance) => instance,
        }
    }
}

/// One Internet NAT gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NatGateway {
    /// NatGatewayId.
    pub id: GatewayId,
    /// Its forward table; an Internet gateway has exactly one.
    pub table: TableId,
    /// The vSwitch in which it stands.
    pub vswitch: VSwitchId,
    /// The zone in which it stands.
    pub zone: ZoneId,
    /// Status.
    pub status: GatewayStatus,
    /// The EIPs bound to it.
    pub eips: Vec<Eip>,
}

/// Status of a NAT gateway (aliyun-api.md §1.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GatewayStatus {
    /// Being made.
    Creating,
    /// At work.
    Available,
    /// Being changed.
    Modifying,
    /// Being deleted.
    Deleting,
}

impl GatewayStatus {
    /// As the cloud spells it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "Creating",
            Self::Available => "Available",
            Self::Modifying => "Modifying",
            Self::Deleting => "Deleting",
        }
    }
}

/// One elastic IP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Eip {
    /// AllocationId.
    pub allocation: String,
    /// IpAddress.
    pub address: Ipv4Addr,
    /// Status.
    pub status: EipStatus,
    /// An operation lock is set and BusinessStatus is `FinancialLocked`.
    pub locked: bool,
    /// SNAT uses it too.
    pub snat: bool,
}

/// Status of an EIP (aliyun-api.md §1.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EipStatus {
    /// Being bound.
    Associating,
    /// Being unbound.
    Unassociating,
    /// Bound.
    InUse,
    /// Bound to nothing.
    Available,
}

impl EipStatus {
    /// As the cloud spells it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Associating => "Associating",
            Self::Unassociating => "Unassociating",
            Self::InUse => "InUse",
            Self::Available => "Available",
        }
    }
}

/// One network interface, as computed for a block of a vSwitch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// NetworkInterfaceId.
    pub id: EniId,
    /// VSwitchId.
    pub vswitch: VSwitchId,
    /// ZoneId.
    pub zone: ZoneId,
    /// Its private addresses, the primary one first. Never empty.
    pub addresses: Vec<Ipv4Addr>,
}

impl Default for World {
    /// Two zones with a gateway of three EIPs each (design.md §7, `natgw cloud`).
    fn default() -> Self {
        Self::new(2, 3)
    }
}

impl World {
    /// One VPC 172.16.0.0/12 in cn-hangzhou with that many zones from `j` on, each with a vSwitch /16, a route table
    /// and a NAT gateway with that many EIPs. Numbers above [`GATEWAYS_MAX`] and [`EIPS_MAX`] are cut to these.
    #[must_use]
    pub fn new(gateways: u8, eips: u8) -> Self {
        let region = "cn-hangzhou".to_owned();
        let cidr = Cidr::new(Ipv4Addr::new(172, 16, 0, 0), 12);
        let mut world = Self {
            region,
            vpc: "vpc-sandbox".to_owned(),
            cidr,
            vswitches: Vec::new(),
            route_tables: vec![RouteTable {
                id: "vtb-sandbox-system".to_owned(),
                system: true,
                vswitches: Vec::new(),
                routes: vec![local_route(cidr)],
            }],
            gateways: Vec::new(),
            vanished: Vec::new(),
            spare_eips: Vec::new(),
            hidden: BTreeSet::new(),
        };
        for number in 0..gateways.min(GATEWAYS_MAX) {
            world.add_zone(number, eips.min(EIPS_MAX));
        }
        world
    }

    /// The gateway that has this forward table.
    #[must_use]
    pub fn gateway_of(&self, table: &TableId) -> Option<&NatGateway> {
        self.gateways.iter().find(|gateway| gateway.table == *table)
    }

    /// The interface that carries an address; `None` where none shows it.
    #[must_use]
    pub fn interface_at(&self, address: Ipv4Addr) -> Option<Interface> {
        if self.hidden.contains(&address) {
            return None;
        }
        let vswitch = self.vswitches.iter().find(|vswitch| vswitch.cidr.contains(address))?;
        let block = vswitch.cidr.offset(address)? / ADDRESSES_OF_AN_INTERFACE;
        let interface = self.interface(vswitch, block)?;
        interface.addresses.contains(&address).then_some(interface)
    }

    /// All interfaces, by vSwitch and address. They are many: 4,096 in a /16.
    pub fn interfaces(&self) -> impl Iterator<Item = Interface> + '_ {
        self.vswitches.iter().flat_map(move |vswitch| {
            (0..vswitch.cidr.size().div_ceil(ADDRESSES_OF_AN_INTERFACE))
                .filter_map(move |block| self.interface(vswitch, block))
        })
    }

    fn interface(&self, vswitch: &VSwitch, block: u32) -> Option<Interface> {
        let first = block.checked_mul(ADDRESSES_OF_AN_INTERFACE)?;
        let addresses: Vec<Ipv4Addr> = (first..first.saturating_add(ADDRESSES_OF_AN_INTERFACE))
            .filter(|offset| vswitch.cidr.is_host(*offset))
            .filter_map(|offset| vswitch.cidr.at(offset))
            .filter(|address| !self.hidden.contains(address))
            .collect();
        (!addresses.is_empty()).then(|| Interface {
            id: EniId::new(format!("eni-{}-{block:04x}", vswitch.id.as_str().trim_start_matches("vsw-"))),
            vswitch: vswitch.id.clone(),
            zone: vswitch.zone.clone(),
            addresses,
        })
    }

    fn add_zone(&mut self, number: u8, eips: u8) {
        let letter = char::from(b'j'.saturating_add(number));
        let zone = ZoneId::new(format!("{}-{letter}", self.region));
        let vswitch = VSwitchId::new(format!("vsw-sandbox-{letter}"));
        let gateway = GatewayId::new(format!("ngw-sandbox-{letter}"));
        self.vswitches.push(VSwitch {
            id: vswitch.clone(),
            zone: zone.clone(),
            cidr: Cidr::new(Ipv4Addr::new(172, 16_u8.saturating_add(number), 0, 0), 16),
        });
        self.route_tables.push(RouteTable {
            id: format!("vtb-sandbox-{letter}"),
            system: false,
            vswitches: vec![vswitch.clone()],
            routes: vec![
                local_route(self.cidr),
                Route { destination: DEFAULT_ROUTE.to_owned(), available: true, hop: Hop::NatGateway(gateway.clone()) },
            ],
        });
        let eips = (0..eips)
            .map(|n| {
                let address = public_address(u32::from(number) * u32::from(eips) + u32::from(n));
                Eip::bound(format!("eip-sandbox-{letter}-{}", u32::from(n) + 1), address)
            })
            .collect();
        self.gateways.push(NatGateway {
            id: gateway,
            table: TableId::new(format!("ftb-sandbox-{letter}")),
            vswitch,
            zone,
            status: GatewayStatus::Available,
            eips,
        });
    }
}

impl Eip {
    /// An EIP in use by a gateway, neither locked nor shared with SNAT.
    #[must_use]
    pub const fn bound(allocation: String, address: Ipv4Addr) -> Self {
        Self { allocation, address, status: EipStatus::InUse, locked: false, snat: false }
    }
}

fn local_route(cidr: Cidr) -> Route {
    Route { destination: cidr.to_string(), available: true, hop: Hop::Local }
}

/// The n-th host of the three networks that are set aside for documentation (RFC 5737): these addresses route nowhere.
fn public_address(n: u32) -> Ipv4Addr {
    const HOSTS: u32 = 254;
    let network = match n / HOSTS {
        0 => Ipv4Addr::new(203, 0, 113, 1),
        1 => Ipv4Addr::new(198, 51, 100, 1),
        _ => Ipv4Addr::new(192, 0, 2, 1),
    };
    Ipv4Addr::from(u32::from(network).saturating_add(n % HOSTS))
}

/// An IPv4 block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cidr {
    network: Ipv4Addr,
    prefix: u8,
}

impl Cidr {
    /// The block of that prefix length (cut to 32) that holds the address.
    #[must_use]
    pub fn new(address: Ipv4Addr, prefix: u8) -> Self {
        let prefix = prefix.min(32);
        Self { network: Ipv4Addr::from(u32::from(address) & mask(prefix)), prefix }
    }

    /// Whether the address lies in the block.
    #[must_use]
    pub fn contains(self, address: Ipv4Addr) -> bool {
        u32::from(address) & mask(self.prefix) == u32::from(self.network)
    }

    /// The first address of the block.
    pub(crate) const fn first(self) -> Ipv4Addr {
        self.network
    }

    /// How many addresses it has; one less for the block of all.
    pub(crate) fn size(self) -> u32 {
        1_u32.checked_shl(u32::from(32_u8.saturating_sub(self.prefix))).unwrap_or(u32::MAX)
    }

    fn offset(self, address: Ipv4Addr) -> Option<u32> {
        self.contains(address).then(|| u32::from(address).wrapping_sub(u32::from(self.network)))
    }

    fn at(self, offset: u32) -> Option<Ipv4Addr> {
        u32::from(self.network).checked_add(offset).map(Ipv4Addr::from)
    }

    /// The first and the last three addresses of a vSwitch are the system's own.
    fn is_host(self, offset: u32) -> bool {
        offset > 0 && offset < self.size().saturating_sub(3)
    }
}

fn mask(prefix: u8) -> u32 {
    u32::MAX.checked_shl(u32::from(32_u8.saturating_sub(prefix))).unwrap_or(0)
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_host_of_a_vswitch_belongs_to_exactly_one_interface() {
        let world = World::default();
        let mut seen = BTreeSet::new();
        for interface in world.interfaces() {
            for address in &interface.addresses {
                assert!(seen.insert(*address), "{address} is carried twice");
                assert_eq!(world.interface_at(*address).as_ref(), Some(&interface));
            }
        }
        assert_eq!(seen.len(), 2 * (65_536 - 4));
        for reserved in ["172.16.0.0", "172.16.255.253", "172.17.255.255", "172.18.0.1", "10.0.0.1"] {
            assert_eq!(world.interface_at(reserved.parse().unwrap()), None, "{reserved}");
        }
    }

    #[test]
    fn the_largest_world_has_no_address_twice() {
        let world = World::new(u8::MAX, u8::MAX);
        let addresses: BTreeSet<_> =
            world.gateways.iter().flat_map(|gateway| gateway.eips.iter().map(|eip| eip.address)).collect();
        assert_eq!(world.gateways.len(), usize::from(GATEWAYS_MAX));
        assert_eq!(addresses.len(), usize::from(GATEWAYS_MAX) * usize::from(EIPS_MAX));
        assert!(world.vswitches.iter().all(|vswitch| world.cidr.contains(vswitch.cidr.network)));
    }
}
