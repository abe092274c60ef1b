//! From the model's answers to the wire's JSON: field names and nesting of aliyun-api.md §1 and of the demos in
//! api-metadata. What the model does not know has a value that no caller should look at.

use serde_json::{Value, json};

use crate::sandbox::vpc::{
    Answer, GatewayStatus, Hop, Interface, Numbered, PageSpec, Part, RESOURCE_GROUP, ROUTER, Refusal, Request, Route,
    RouteTable, SECURITY_GROUP, ShownEip, ShownEntry, ShownGateway, ShownIp, World, gateway_name, instance_of,
    route_id, route_table_name,
};

/// The day on which everything was made.
const MADE: &str = "2021-06-08T12:20:20Z";

/// The body of a good answer.
pub(super) fn answer(world: &World, request: &Request, answer: Answer, request_id: &str) -> Value {
    let mut body = match answer {
        Answer::Created(entry) => json!({ "ForwardEntryId": entry.as_str() }),
        Answer::DeletionAccepted => json!({}),
        Answer::Entries(page) => numbered(page, ["ForwardTableEntries", "ForwardTableEntry"], &entry),
        Answer::Gateways(page) => numbered(page, ["NatGateways", "NatGateway"], &|shown| gateway(world, shown)),
        Answer::Eips(page) => numbered(page, ["EipAddresses", "EipAddress"], &|shown| eip(world, shown)),
        Answer::RouteTables(page) => {
            numbered(page, ["RouterTableList", "RouterTableListType"], &|table| route_table(world, table))
        }
        Answer::Routes(part) => {
            let table = match request {
                Request::DescribeRouteEntryList { route_table, .. } => route_table.as_str(),
                Request::CreateForwardEntry { .. }
                | Request::DeleteForwardEntry { .. }
                | Request::DescribeForwardTableEntries { .. }
                | Request::DescribeNatGateways { .. }
                | Request::DescribeEipAddresses { .. }
                | Request::DescribeRouteTableList { .. }
                | Request::DescribeNetworkInterfaces { .. } => "",
            };
            continued(part, ["RouteEntrys", "RouteEntry"], &|item| route(world, table, item))
        }
        Answer::Interfaces(part) => {
            continued(part, ["NetworkInterfaceSets", "NetworkInterfaceSet"], &|item| interface(world, item))
        }
    };
    set(&mut body, "RequestId", request_id.into());
    body
}

/// The body of an error.
pub(super) fn refusal(refusal: &Refusal, request_id: &str, product: &str) -> Value {
    let Refusal { status: _, code, message } = refusal;
    json!({
        "RequestId": request_id,
        "HostId": format!("{}.sandbox.aliyuncs.com", product.to_ascii_lowercase()),
        "Code": code,
        "Message": message,
        "Recommend": format!("https://next.api.aliyun.com/troubleshoot?q={code}&product={product}"),
    })
}

fn numbered<T>(page: Numbered<T>, names: [&str; 2], item: &dyn Fn(T) -> Value) -> Value {
    let Numbered { items, total, page: PageSpec { number, size } } = page;
    let [outer, inner] = names;
    let items: Vec<Value> = items.into_iter().map(item).collect();
    json!({ "PageNumber": number, "PageSize": size, "TotalCount": total, outer: { inner: items } })
}

fn continued<T>(part: Part<T>, names: [&str; 2], item: &dyn Fn(T) -> Value) -> Value {
    let [outer, inner] = names;
    let items: Vec<Value> = part.items.into_iter().map(item).collect();
    json!({ "NextToken": part.next.unwrap_or_default(), outer: { inner: items } })
}

pub(super) fn set(body: &mut Value, name: &str, value: Value) {
    if let Value::Object(fields) = body {
        fields.insert(name.to_owned(), value);
    }
}

fn entry(shown: ShownEntry) -> Value {
    let status = shown.status();
    let ShownEntry { entry, gateway, odd_status: _ } = shown;
    let spec = entry.spec;
    json!({
        "ForwardEntryId": entry.id.as_str(),
        "ForwardEntryName": spec.name,
        "ForwardTableId": spec.table.as_str(),
        "NatGatewayId": gateway.as_str(),
        "ExternalIp": spec.external_ip,
        "ExternalPort": spec.external_port.to_string(),
        "InternalIp": spec.internal_ip,
        "InternalPort": spec.internal_port.to_string(),
        "IpProtocol": spec.protocol.as_str(),
        "Status": status,
    })
}

fn gateway(world: &World, shown: ShownGateway) -> Value {
    let ip = |ip: ShownIp| {
        json!({
            "IpAddress": ip.address,
            "AllocationId": ip.allocation,
            "PrivateIpAddress": "",
            "SnatEntryEnabled": !ip.forward,
            "UsingStatus": ip.using_status(),
        })
    };
    let name = gateway_name(shown.id.as_str()).to_owned();
    json!({
        "NatGatewayId": shown.id.as_str(),
        "Name": name,
        "Description": "",
        "RegionId": world.region,
        "VpcId": world.vpc,
        "Status": shown.status(),
        "BusinessStatus": "Normal",
        "NetworkType": "internet",
        "NatType": "Enhanced",
        "Spec": "",
        "CreationTime": MADE,
        "ExpiredTime": "",
        "AutoPay": false,
        "InstanceChargeType": "PostPaid",
        "InternetChargeType": "PayByLcu",
        "ResourceGroupId": RESOURCE_GROUP,
        "DeletionProtection": shown.status == GatewayStatus::Available,
        "EcsMetricEnabled": true,
        "IcmpReplyEnabled": true,
        "SecurityProtectionEnabled": false,
        "PrivateLinkEnabled": false,
        "PrivateLinkMode": "FullNat",
        "EipBindMode": "MULTI_BINDED",
        "EnableSessionLog": "false",
        "IpLists": { "IpList": shown.ips.into_iter().map(ip).collect::<Vec<_>>() },
        "ForwardTableIds": { "ForwardTableId": [shown.table.as_str()] },
        "SnatTableIds": { "SnatTableId": [format!("stb-{name}")] },
        "FullNatTableIds": { "FullNatTableId": [format!("fulltb-{name}")] },
        "NatGatewayPrivateInfo": {
            "VswitchId": shown.vswitch.as_str(),
            "IzNo": shown.zone.as_str(),
            "EniInstanceId": format!("eni-{name}"),
            "EniType": "indirect",
            "PrivateIpAddress": "",
            "MaxBandwidth": 5120,
            "MaxSessionQuota": 2_000_000,
            "MaxSessionEstablishRate": 100_000,
        },
        "Tags": { "Tag": [] },
    })
}

fn eip(world: &World, shown: ShownEip) -> Value {
    let locks = if shown.locked { vec![json!({ "LockReason": "financial" })] } else { Vec::new() };
    let bound = shown.gateway.is_some();
    json!({
        "AllocationId": shown.allocation,
        "IpAddress": shown.address,
        "Status": shown.status(),
        "InstanceId": shown.gateway.as_ref().map_or("", |gateway| gateway.as_str()),
        "InstanceType": if bound { "Nat" } else { "" },
        "InstanceRegionId": if bound { world.region.as_str() } else { "" },
        "PrivateIpAddress": "",
        "Name": shown.allocation,
        "Description": "",
        "RegionId": world.region,
        "BusinessStatus": if shown.locked { "FinancialLocked" } else { "Normal" },
        "Bandwidth": "200",
        "EipBandwidth": "200",
        "BandwidthPackageId": "",
        "BandwidthPackageType": "",
        "BandwidthPackageBandwidth": "",
        "ISP": "BGP",
        "Mode": "MULTI_BINDED",
        "Netmode": "public",
        "AllocationTime": MADE,
        "ExpiredTime": "",
        "ChargeType": "PostPaid",
        "InternetChargeType": "PayByTraffic",
        "ResourceGroupId": RESOURCE_GROUP,
        "SegmentInstanceId": "",
        "PublicIpAddressPoolId": "",
        "DeletionProtection": false,
        "SecondLimited": false,
        "HDMonitorStatus": "OFF",
        "HasReservationData": "false",
        "ServiceManaged": 0,
        "VpcId": if bound { world.vpc.as_str() } else { "" },
        "OperationLocks": { "LockReason": locks },
        "SecurityProtectionTypes": { "SecurityProtectionType": [] },
        "Tags": { "Tag": [] },
    })
}

fn route_table(world: &World, table: RouteTable) -> Value {
    let vswitches: Vec<&str> = table.vswitches.iter().map(|vswitch| vswitch.as_str()).collect();
    json!({
        "RouteTableId": table.id,
        "RouteTableName": route_table_name(&table.id),
        "RouteTableType": if table.system { "System" } else { "Custom" },
        "VpcId": world.vpc,
        "RouterId": ROUTER,
        "RouterType": "VRouter",
        "Status": "Available",
        "AssociateType": "VSwitch",
        "VSwitchIds": { "VSwitchId": vswitches },
        "GatewayIds": { "GatewayIds": [] },
        "Description": "",
        "CreationTime": MADE,
        "OwnerId": 1,
        "RoutePropagationEnable": true,
        "ResourceGroupId": RESOURCE_GROUP,
        "Tags": { "Tag": [] },
    })
}

fn route(world: &World, table: &str, route: Route) -> Value {
    let system = route.hop == Hop::Local;
    json!({
        "RouteEntryId": route_id(table, &route),
        "RouteTableId": table,
        "RouteEntryName": "",
        "Description": "",
        "DestinationCidrBlock": route.destination,
        "IpVersion": "ipv4",
        "Type": if system { "System" } else { "Custom" },
        "Status": if route.available { "Available" } else { "Pending" },
        "Origin": if system { "SystemCreate" } else { "CustomCreate" },
        "ServiceType": "",
        "GmtModified": MADE,
        "NextHops": { "NextHop": [{
            "NextHopType": route.hop.kind(),
            "NextHopId": route.hop.id(),
            "NextHopRegionId": world.region,
            "Weight": 0,
            "Enabled": 1,
        }] },
    })
}

fn interface(world: &World, interface: Interface) -> Value {
    let Interface { id, vswitch, zone, addresses } = interface;
    let primary = addresses.first().copied();
    let address = |address| json!({ "PrivateIpAddress": address, "Primary": Some(address) == primary });
    json!({
        "NetworkInterfaceId": id.as_str(),
        "NetworkInterfaceName": "",
        "Description": "",
        "VpcId": world.vpc,
        "VSwitchId": vswitch.as_str(),
        "ZoneId": zone.as_str(),
        "Type": "Secondary",
        "Status": "InUse",
        "MacAddress": mac(id.as_str()),
        "CreationTime": MADE,
        "InstanceId": instance_of(id.as_str()),
        "PrivateIpAddress": primary,
        "PrivateIpSets": { "PrivateIpSet": addresses.into_iter().map(address).collect::<Vec<_>>() },
        "Ipv4PrefixSets": { "Ipv4PrefixSet": [] },
        "Ipv6Sets": { "Ipv6Set": [] },
        "Ipv6PrefixSets": { "Ipv6PrefixSet": [] },
        "SecurityGroupIds": { "SecurityGroupId": [SECURITY_GROUP] },
        "ResourceGroupId": RESOURCE_GROUP,
        "ServiceManaged": false,
        "QueueNumber": 2,
        "NetworkInterfaceTrafficMode": "Standard",
        "OwnerId": "1",
        "Tags": { "Tag": [] },
    })
}

/// A hardware address of the vendor's own block, from the interface's name.
fn mac(id: &str) -> String {
    let hash = blake3::hash(id.as_bytes());
    let [a, b, c, ..] = *hash.as_bytes();
    format!("00:16:3e:{a:02x}:{b:02x}:{c:02x}")
}
