"""Drives the vendor's own SDK, unchanged but for the endpoint. What it saw goes to the standard output as one JSON object;
the test that runs it judges. First argument: what to do; the rest is said at each function."""

import importlib
import json
import sys

from aliyunsdkcore.acs_exception.exceptions import ClientException, ServerException
from aliyunsdkcore.auth.algorithm import sha_hmac1
from aliyunsdkcore.auth.composer import rpc_signature_composer
from aliyunsdkcore.client import AcsClient

REGION = "cn-hangzhou"
TABLE = "ftb-sandbox-j"
# More polls than the slowest machine needs: the cloud's delays run a thousand times as fast as the clock.
POLLS_MAX = 10_000


def request(action, endpoint, parameters):
    product, version = ("ecs", "v20140526") if action == "DescribeNetworkInterfaces" else ("vpc", "v20160428")
    module = importlib.import_module(f"aliyunsdk{product}.request.{version}.{action}Request")
    made = getattr(module, f"{action}Request")()
    for name, value in parameters.items():
        getattr(made, f"set_{name}")(value)
    made.set_endpoint(endpoint)
    made.set_protocol_type("http")
    made.set_accept_format("json")
    return made


class Caller:
    def __init__(self, endpoint, retries):
        self.endpoint = endpoint
        self.client = AcsClient("sandbox", "sandbox-secret", REGION, auto_retry=retries > 0, max_retry_time=retries)

    def call(self, action, **parameters):
        body = self.client.do_action_with_exception(request(action, self.endpoint, parameters))
        return json.loads(body)

    def error(self, action, **parameters):
        try:
            self.call(action, **parameters)
        except ServerException as error:
            return [error.get_http_status(), error.get_error_code(), error.get_error_msg(), bool(error.get_request_id())]
        return [200, None, None, True]


def entry(port, **more):
    return {
        "ForwardTableId": TABLE,
        "ExternalIp": "203.0.113.1",
        "ExternalPort": str(port),
        "InternalIp": "172.16.0.9",
        "InternalPort": str(port),
        "IpProtocol": "TCP",
        "ForwardEntryName": "by-the-sdk",
        "ClientToken": f"token-{port}",
    } | more


def pages(caller, action, outer, inner, **parameters):
    """All items of a numbered listing, and how many pages they took."""
    items, number = [], 0
    while True:
        number += 1
        page = caller.call(action, PageNumber=number, **parameters)
        items += page[outer][inner]
        if len(items) >= page["TotalCount"] or not page[outer][inner]:
            return items, number


def parts(caller, action, outer, inner, **parameters):
    """All items of a listing that is continued by a token, and how many parts they took."""
    items, number, token = [], 0, None
    while True:
        number += 1
        more = {"NextToken": token} if token else {}
        part = caller.call(action, **parameters, **more)
        items += part[outer][inner]
        token = part.get("NextToken")
        if not token:
            return items, number


def drive(endpoint):
    """ENDPOINT: all eight actions, with paging, repeats and the SDK's own retries."""
    caller = Caller(endpoint, retries=5)
    # Of the eight actions the SDK repeats only the one of ECS by itself; of VPC's it leaves that to its user.
    seen = {"throttled": caller.error("DescribeNatGateways")[:2]}
    gateways, _ = pages(caller, "DescribeNatGateways", "NatGateways", "NatGateway", PageSize=50)
    seen["gateways"] = sorted(gateway["NatGatewayId"] for gateway in gateways)
    seen["table"] = gateways[0]["ForwardTableIds"]["ForwardTableId"]
    eips, seen["eip_pages"] = pages(
        caller,
        "DescribeEipAddresses",
        "EipAddresses",
        "EipAddress",
        PageSize=2,
        AssociatedInstanceType="Nat",
        AssociatedInstanceId="ngw-sandbox-j",
    )
    seen["eips"] = sorted(eip["IpAddress"] for eip in eips)
    tables, _ = pages(caller, "DescribeRouteTableList", "RouterTableList", "RouterTableListType", PageSize=1)
    seen["route_tables"] = sorted(table["RouteTableId"] for table in tables)
    routes, seen["route_parts"] = parts(
        caller, "DescribeRouteEntryList", "RouteEntrys", "RouteEntry", RouteTableId="vtb-sandbox-j", MaxResult=1
    )
    hops = [route["NextHops"]["NextHop"][0] for route in routes if route["DestinationCidrBlock"] == "0.0.0.0/0"]
    seen["hops"] = [hop["NextHopId"] for hop in hops]
    interfaces, seen["interface_parts"] = parts(
        caller,
        "DescribeNetworkInterfaces",
        "NetworkInterfaceSets",
        "NetworkInterfaceSet",
        PrivateIpAddresss=[f"172.16.{block}.9" for block in range(25)],
        MaxResults=10,
    )
    seen["interfaces"] = len({interface["NetworkInterfaceId"] for interface in interfaces})

    try:
        caller.call("CreateForwardEntry", **entry(1000))
    except ClientException as error:
        seen["lost"] = error.get_error_code()
    ids = [caller.call("CreateForwardEntry", **entry(port))["ForwardEntryId"] for port in range(1000, 1023)]
    seen["created"] = len(set(ids))
    seen["repeated"] = caller.call("CreateForwardEntry", **entry(1000))["ForwardEntryId"] == ids[0]
    for _ in range(POLLS_MAX):
        listed, seen["entry_pages"] = pages(
            caller, "DescribeForwardTableEntries", "ForwardTableEntries", "ForwardTableEntry", ForwardTableId=TABLE
        )
        if all(item["Status"] == "Available" for item in listed):
            break
    seen["listed"] = sorted(item["ForwardEntryId"] for item in listed) == sorted(ids)
    seen["statuses"] = sorted({item["Status"] for item in listed})
    for number, id in enumerate(ids):
        caller.call("DeleteForwardEntry", ForwardTableId=TABLE, ForwardEntryId=id, ClientToken=f"delete-{number}")
    for _ in range(POLLS_MAX):
        left = caller.call("DescribeForwardTableEntries", ForwardTableId=TABLE)["TotalCount"]
        if left == 0:
            break
    seen["left"] = left
    return seen


def errors(endpoint, asked):
    """ENDPOINT ASKED: what the SDK makes of each error; ASKED is a JSON list of actions, in the order of the plan."""
    caller = Caller(endpoint, retries=0)
    parameters = {
        "CreateForwardEntry": entry(1),
        "DeleteForwardEntry": {"ForwardTableId": TABLE, "ForwardEntryId": "fwd-1"},
        "DescribeForwardTableEntries": {"ForwardTableId": TABLE},
        "DescribeRouteEntryList": {"RouteTableId": "vtb-sandbox-j"},
    }
    return [caller.error(action, **parameters.get(action, {})) for action in json.loads(asked)]


def natural(endpoint):
    """ENDPOINT: errors that nothing but the rules make."""
    caller = Caller(endpoint, retries=0)
    caller.call("CreateForwardEntry", **entry(1))
    made = {
        "duplicated": entry(1, ClientToken="other"),
        "external": entry(1, ClientToken="other", InternalPort="2"),
        "internal": entry(1, ClientToken="other", ExternalPort="2"),
        "mismatch": entry(1, InternalPort="3"),
        "any alone": entry(1, ClientToken="other", IpProtocol="Any"),
        "range": entry(1, ClientToken="other", ExternalPort="10/20", InternalPort="10/21"),
        "outside": entry(1, ClientToken="other", ExternalPort="5", InternalIp="10.0.0.1"),
        "elsewhere": entry(1, ClientToken="other", ExternalPort="5", ExternalIp="203.0.113.4"),
        "unknown": entry(1, ClientToken="other", ExternalPort="5", ExternalIp="192.0.2.200"),
        "dry run": entry(7, ClientToken="other", DryRun=True),
        "table": entry(1, ForwardTableId="ftb-none"),
        "protocol": entry(1, IpProtocol="SCTP", ClientToken="other"),
        "name": entry(9, ForwardEntryName="1", ClientToken="other"),
        "shared": entry(2000, ExternalIp="203.0.113.2", ClientToken="other"),
        "quota": entry(8, ClientToken="other"),
    }
    seen = {name: caller.error("CreateForwardEntry", **asked) for name, asked in made.items()}
    secret = AcsClient("sandbox", "another-secret", REGION, auto_retry=False)
    try:
        secret.do_action_with_exception(request("DescribeNatGateways", endpoint, {}))
    except (ServerException, ClientException) as error:
        # The SDK compares the echoed string to sign with its own and says so where they are equal.
        seen["secret"] = [getattr(error, "http_status", None), error.error_code, error.message, True]
    return seen


def signatures(path):
    """FILE of JSON lines {method, parameters, secret}: the SDK's string to sign and signature of each."""
    compose = getattr(rpc_signature_composer, "__compose_string_to_sign")
    sign = getattr(rpc_signature_composer, "__get_signature")
    made = []
    with open(path, encoding="utf-8") as file:
        for line in file:
            asked = json.loads(line)
            string = compose(asked["method"], asked["parameters"])
            made.append([string, sign(string, asked["secret"], sha_hmac1)])
    return made


if __name__ == "__main__":
    what = {"drive": drive, "errors": errors, "natural": natural, "signatures": signatures}[sys.argv[1]]
    print(json.dumps(what(*sys.argv[2:])))
