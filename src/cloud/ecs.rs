//! The one action of the product `Ecs`: from a private IP to its interface, vSwitch and zone (aliyun-api.md §1.9).

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use serde::Deserialize;

use super::rpc::Parameters;
use super::vpc::parameters;
use crate::machine::identity::{EniId, VSwitchId, ZoneId};
use crate::ports::cloud::{Chain, ListedInterface, Reading};

/// The API version of the product.
pub(super) const VERSION: &str = "2014-05-26";

pub(super) fn list_interfaces(region: &str, vpc: &str, addresses: &[Ipv4Addr], next: Option<&str>) -> Parameters {
    let most = Reading::Interfaces.page_items();
    let mut parameters = parameters(region, [("VpcId", vpc.to_owned()), ("MaxResults", most.to_string())]);
    for (number, address) in (1_u32..).zip(addresses) {
        parameters.insert(format!("PrivateIpAddress.{number}"), address.to_string());
    }
    if let Some(next) = next {
        parameters.insert("NextToken".to_owned(), next.to_owned());
    }
    parameters
}

/// The answer of `DescribeNetworkInterfaces`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Interfaces {
    #[serde(default)]
    next_token: Option<String>,
    network_interface_sets: NetworkInterfaceSets,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct NetworkInterfaceSets {
    network_interface_set: Vec<NetworkInterface>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct NetworkInterface {
    network_interface_id: String,
    v_switch_id: String,
    zone_id: String,
    private_ip_address: Ipv4Addr,
    #[serde(default)]
    private_ip_sets: PrivateIpSets,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct PrivateIpSets {
    private_ip_set: Vec<PrivateIp>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PrivateIp {
    private_ip_address: Ipv4Addr,
}

impl Interfaces {
    pub(super) fn chain(self) -> Chain<ListedInterface> {
        let interfaces = self.network_interface_sets.network_interface_set;
        Chain {
            items: interfaces.into_iter().map(NetworkInterface::listed).collect(),
            next: self.next_token.filter(|token| !token.is_empty()),
        }
    }
}

impl NetworkInterface {
    fn listed(self) -> ListedInterface {
        let secondary = self.private_ip_sets.private_ip_set.into_iter().map(|ip| ip.private_ip_address);
        let addresses: BTreeSet<_> = secondary.chain([self.private_ip_address]).collect();
        ListedInterface {
            eni: EniId::new(self.network_interface_id),
            vswitch: VSwitchId::new(self.v_switch_id),
            zone: ZoneId::new(self.zone_id),
            addresses: addresses.into_iter().collect(),
        }
    }
}
