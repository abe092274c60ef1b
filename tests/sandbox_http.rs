//! The simulated cloud as an SDK sees it: real HTTP on the loopback interface, signed requests, exact bodies.
#![cfg(feature = "adapters")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a broken fixture is a failed test")]

#[allow(dead_code, reason = "shared by the suites that have a simulated cloud")]
#[path = "policy/mod.rs"]
mod policy;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use natgw::cloud::credentials::{AccessKey, StaticKey};
use natgw::cloud::endpoints::Endpoints;
use natgw::cloud::{AliyunCloud, Settings, sign};
use natgw::machine::identity::{Protocol, Tuple};
use natgw::ports::cloud::{Cloud as _, CreateEntry, DeleteEntry, EntryStatus, ErrorClass};
use natgw::sandbox::http::{Clock, Error, Options, SystemClock, serve_by};
use natgw::sandbox::vpc::{Behaviour, Deed, Documented, FaultKind, NewEntry, Stroke};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::oneshot;

/// 2026-11-22T08:00:00Z.
const NOW_MS: u64 = 1_795_334_400_000;

/// Time that a test moves.
#[derive(Clone, Default)]
struct Hands {
    elapsed_ms: Arc<AtomicU64>,
}

impl Hands {
    fn advance(&self, by_ms: u64) {
        self.elapsed_ms.fetch_add(by_ms, Ordering::SeqCst);
    }
}

impl Clock for Hands {
    fn wall_ms(&self) -> u64 {
        NOW_MS + self.elapsed_ms()
    }

    fn elapsed_ms(&self) -> u64 {
        self.elapsed_ms.load(Ordering::SeqCst)
    }
}

/// Runs a cloud for as long as a test takes. The cloud ends well, and only what the RAM policy allows was called, or the
/// test fails.
fn with_cloud(clock: impl Clock, options: Options, test: impl AsyncFnOnce(SocketAddr)) {
    let folder = tempfile::tempdir().unwrap();
    let ledger = options.ledger.clone().unwrap_or_else(|| folder.path().join("ledger"));
    with_strangers(clock, Options { ledger: Some(ledger.clone()), ..options }, test);
    policy::kept_by(&ledger);
}

/// As [`with_cloud`], where something else may be called on purpose.
fn with_strangers(clock: impl Clock, options: Options, test: impl AsyncFnOnce(SocketAddr)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (ready, address) = oneshot::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = serve_by(clock, options, |address| ready.send(address).unwrap(), async {
            drop(stopped.await);
        });
        let testing = async {
            test(address.await.unwrap()).await;
            drop(stop);
        };
        let (served, ()) = tokio::join!(serving, testing);
        served.unwrap();
    });
}

fn map<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// Somebody who signs.
struct Caller {
    http: reqwest::Client,
    url: String,
    nonce: AtomicU64,
}

/// Where the parameters of a request go.
#[derive(Clone, Copy, Debug)]
enum Place {
    Query,
    Form,
    /// The action's own in the form, the common ones in the query.
    Both,
}

impl Caller {
    fn to(address: SocketAddr) -> Self {
        drop(rustls::crypto::ring::default_provider().install_default());
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { http, url: format!("http://{address}/"), nonce: AtomicU64::new(0) }
    }

    fn common(&self, action: &str) -> BTreeMap<String, String> {
        let nonce = self.nonce.fetch_add(1, Ordering::SeqCst).to_string();
        let version = if action == "DescribeNetworkInterfaces" { "2014-05-26" } else { "2016-04-28" };
        map([
            ("AccessKeyId", "sandbox"),
            ("Action", action),
            ("Format", "JSON"),
            ("RegionId", "cn-hangzhou"),
            ("SignatureMethod", "HMAC-SHA1"),
            ("SignatureNonce", &nonce),
            ("SignatureVersion", "1.0"),
            ("Timestamp", "2026-11-22T08:00:00Z"),
            ("Version", version),
        ])
    }

    /// Signs and sends.
    async fn send(
        &self,
        method: Method,
        place: Place,
        common: BTreeMap<String, String>,
        own: BTreeMap<String, String>,
    ) -> reqwest::Result<(u16, Value)> {
        let mut all = common.clone();
        all.extend(own.clone());
        let signature = sign::signature("sandbox-secret", &sign::string_to_sign(method.as_str(), &all));
        let (mut query, form) = match place {
            Place::Query => (all, BTreeMap::new()),
            Place::Form => (BTreeMap::new(), all),
            Place::Both => (common, own),
        };
        query.insert("Signature".to_owned(), signature);
        self.send_signed(method, &query, &form).await
    }

    async fn send_signed(
        &self,
        method: Method,
        query: &BTreeMap<String, String>,
        form: &BTreeMap<String, String>,
    ) -> reqwest::Result<(u16, Value)> {
        let url = format!("{}?{}", self.url, *sign::canonical_query(query.iter()));
        let mut request = self.http.request(method, url);
        if !form.is_empty() {
            let body = sign::canonical_query(form.iter()).to_string();
            request = request.header("Content-Type", "application/x-www-form-urlencoded; charset=UTF-8").body(body);
        }
        let response = request.send().await?;
        let status = response.status().as_u16();
        Ok((status, serde_json::from_slice(&response.bytes().await?).unwrap()))
    }

    async fn ask(&self, action: &str, own: BTreeMap<String, String>) -> (u16, Value) {
        self.send(Method::POST, Place::Query, self.common(action), own).await.unwrap()
    }

    /// A good answer without its RequestId, which is checked here.
    async fn answer(&self, action: &str, own: BTreeMap<String, String>) -> Value {
        let (status, mut body) = self.ask(action, own).await;
        assert_eq!(status, 200, "{body}");
        let id = body.as_object_mut().unwrap().remove("RequestId").unwrap();
        assert!(is_request_id(id.as_str().unwrap()), "{id}");
        body
    }
}

fn is_request_id(id: &str) -> bool {
    id.len() == 36 && id.chars().all(|letter| matches!(letter, '0'..='9' | 'A'..='F' | '-'))
}

fn entry(port: u16) -> BTreeMap<String, String> {
    let port = port.to_string();
    map([
        ("ForwardTableId", "ftb-sandbox-j"),
        ("ForwardEntryName", "natgw"),
        ("ExternalIp", "203.0.113.1"),
        ("ExternalPort", &port),
        ("InternalIp", "172.16.0.9"),
        ("InternalPort", &port),
        ("IpProtocol", "TCP"),
        ("ClientToken", &format!("token-{port}")),
    ])
}

fn without(mut parameters: BTreeMap<String, String>, name: &str) -> BTreeMap<String, String> {
    assert!(parameters.remove(name).is_some());
    parameters
}

fn with(mut parameters: BTreeMap<String, String>, name: &str, value: &str) -> BTreeMap<String, String> {
    parameters.insert(name.to_owned(), value.to_owned());
    parameters
}

#[test]
fn an_entry_is_created_listed_and_deleted_in_the_documented_words() {
    let hands = Hands::default();
    with_cloud(hands.clone(), Options::default(), async |address| {
        let caller = Caller::to(address);
        let created = caller.answer("CreateForwardEntry", entry(512)).await;
        let id = created["ForwardEntryId"].as_str().unwrap().to_owned();
        assert_eq!(created, json!({ "ForwardEntryId": id }));
        assert_eq!(caller.answer("CreateForwardEntry", entry(512)).await, created, "the token brings it back");
        let listed = |status: &str| {
            json!({
                "PageNumber": 1, "PageSize": 10, "TotalCount": 1,
                "ForwardTableEntries": { "ForwardTableEntry": [{
                    "ForwardEntryId": id, "ForwardEntryName": "natgw", "ForwardTableId": "ftb-sandbox-j",
                    "NatGatewayId": "ngw-sandbox-j", "ExternalIp": "203.0.113.1", "ExternalPort": "512",
                    "InternalIp": "172.16.0.9", "InternalPort": "512", "IpProtocol": "tcp", "Status": status,
                }] },
            })
        };
        let table = || map([("ForwardTableId", "ftb-sandbox-j")]);
        assert_eq!(caller.answer("DescribeForwardTableEntries", table()).await, listed("Pending"));
        hands.advance(500);
        assert_eq!(caller.answer("DescribeForwardTableEntries", table()).await, listed("Available"));
        let deletion = with(table(), "ForwardEntryId", &id);
        assert_eq!(caller.answer("DeleteForwardEntry", deletion.clone()).await, json!({}));
        assert_eq!(caller.answer("DescribeForwardTableEntries", table()).await, listed("Deleting"));
        hands.advance(500);
        let empty = json!({
            "PageNumber": 1, "PageSize": 10, "TotalCount": 0, "ForwardTableEntries": { "ForwardTableEntry": [] },
        });
        assert_eq!(caller.answer("DescribeForwardTableEntries", table()).await, empty);
        let (status, body) = caller.ask("DeleteForwardEntry", deletion).await;
        assert_eq!((status, &body["Code"]), (404, &json!("InvalidForwardEntryId.NotFound")));
    });
}

#[test]
fn parameters_may_come_by_either_method_and_in_either_place() {
    with_cloud(Hands::default(), Options::default(), async |address| {
        let caller = Caller::to(address);
        for (method, place) in [
            (Method::GET, Place::Query),
            (Method::POST, Place::Query),
            (Method::POST, Place::Form),
            (Method::POST, Place::Both),
        ] {
            // Characters that every step of encoding treats in its own way.
            let own = map([("Name", "中 文+~*/&=%"), ("NatGatewayId", "ngw-sandbox-k")]);
            let nobody_s_name = caller.send(method.clone(), place, caller.common("DescribeNatGateways"), own);
            let (status, body) = nobody_s_name.await.unwrap();
            assert_eq!((status, &body["TotalCount"]), (200, &json!(0)), "signature holds: {body}");
            let own = map([("NatGatewayId", "ngw-sandbox-k")]);
            let (status, body) =
                caller.send(method.clone(), place, caller.common("DescribeNatGateways"), own).await.unwrap();
            assert_eq!((status, &body["TotalCount"]), (200, &json!(1)), "{method} {place:?}: {body}");
        }
        let put = caller.send(Method::PUT, Place::Query, caller.common("DescribeNatGateways"), BTreeMap::new());
        let (status, body) = put.await.unwrap();
        assert_eq!((status, &body["Code"]), (403, &json!("UnsupportedHTTPMethod")));
    });
}

/// What is wrong with an otherwise good `DescribeNatGateways`: the parameter and its value, or its absence; then the
/// status, code and message of the answer.
const GATEWAY_ERRORS: [(&str, Option<&str>, u16, &str, &str); 13] = [
    ("RegionId", None, 400, "MissingRegionId", "RegionId is mandatory for this action."),
    ("Version", None, 400, "MissingVersion", "Version is mandatory for this action."),
    ("Action", None, 400, "MissingAction", "Action is mandatory for this action."),
    ("SignatureNonce", None, 400, "MissingSignatureNonce", "SignatureNonce is mandatory for this action."),
    ("Timestamp", None, 400, "IllegalTimestamp", "The input parameter Timestamp is missing."),
    ("Timestamp", Some("22.11.2026"), 400, "InvalidTimeStamp.Format", MALFORMED_TIME),
    ("Timestamp", Some("2026-11-22T07:44:59Z"), 400, "InvalidTimeStamp.Expired", EXPIRED),
    ("Timestamp", Some("2026-11-22T08:15:01Z"), 400, "InvalidTimeStamp.Expired", EXPIRED),
    ("AccessKeyId", Some("somebody"), 404, "InvalidAccessKeyId.NotFound", "Specified access key is not found."),
    ("SignatureMethod", Some("HMAC-MD5"), 400, "IncompleteSignature", NOT_CONFORMING),
    ("Action", Some("DeleteNatGateway"), 404, "InvalidApi.NotFound", NO_API),
    ("Version", Some("2014-05-26"), 404, "InvalidApi.NotFound", NO_API),
    ("RegionId", Some("cn-nowhere"), 404, "InvalidRegionId.NotFound", NO_REGION),
];
const MALFORMED_TIME: &str = "Specified time stamp or date value is not well formatted.";
const EXPIRED: &str = "Specified time stamp or date value is expired.";
const NOT_CONFORMING: &str = "The request signature does not conform to Aliyun standards.";
const NO_API: &str = "Specified api is not found,please check your url and method.";
const NO_REGION: &str = "The specified RegionId does not exist in our records.";

#[test]
fn each_error_of_the_gateway_has_its_status_code_and_body() {
    with_strangers(Hands::default(), Options::default(), async |address| {
        let caller = Caller::to(address);
        for (name, value, status, code, message) in GATEWAY_ERRORS {
            let good = without(caller.common("DescribeNatGateways"), name);
            let common = if let Some(value) = value { with(good, name, value) } else { good };
            let product =
                if common.get("Version").is_some_and(|version| version == "2014-05-26") { "Ecs" } else { "Vpc" };
            let (got, body) = caller.send(Method::GET, Place::Query, common, BTreeMap::new()).await.unwrap();
            let id = body["RequestId"].as_str().unwrap();
            assert!(is_request_id(id), "{id}");
            let expected = json!({
                "Code": code, "Message": message, "RequestId": id,
                "HostId": format!("{}.sandbox.aliyuncs.com", product.to_lowercase()),
                "Recommend": format!("https://next.api.aliyun.com/troubleshoot?q={code}&product={product}"),
            });
            assert_eq!((got, body), (status, expected));
        }
        let at_the_edge = with(caller.common("DescribeNatGateways"), "Timestamp", "2026-11-22T07:45:00Z");
        let (status, _) = caller.send(Method::GET, Place::Query, at_the_edge, BTreeMap::new()).await.unwrap();
        assert_eq!(status, 200, "15 minutes are not more than 15 minutes");
    });
}

#[test]
fn a_wrong_secret_hears_what_should_have_been_signed_and_spends_no_nonce() {
    with_cloud(Hands::default(), Options::default(), async |address| {
        let caller = Caller::to(address);
        let mut query = caller.common("DescribeNatGateways");
        let string_to_sign = sign::string_to_sign("GET", &query);
        query.insert("Signature".to_owned(), sign::signature("another secret", &string_to_sign));
        let (status, body) = caller.send_signed(Method::GET, &query, &BTreeMap::new()).await.unwrap();
        assert_eq!((status, &body["Code"]), (400, &json!("SignatureDoesNotMatch")));
        let message = body["Message"].as_str().unwrap();
        assert_eq!(message.split_once("server string to sign is:").unwrap().1, *string_to_sign);
        query.insert("Signature".to_owned(), sign::signature("sandbox-secret", &string_to_sign));
        let (status, body) = caller.send_signed(Method::GET, &query, &BTreeMap::new()).await.unwrap();
        assert_eq!(status, 200, "{body}");
        let (status, body) = caller.send_signed(Method::GET, &query, &BTreeMap::new()).await.unwrap();
        assert_eq!((status, &body["Code"]), (400, &json!("SignatureNonceUsed")), "a replay");
    });
}

#[test]
fn missing_and_malformed_parameters_have_the_action_s_codes() {
    with_cloud(Hands::default(), Options::default(), async |address| {
        let caller = Caller::to(address);
        let mut cases: Vec<(&str, &str, BTreeMap<String, String>)> = vec![
            ("CreateForwardEntry", "InvalidExternalIp.Malformed", with(entry(1), "ExternalIp", "203.0.113")),
            ("CreateForwardEntry", "InvalidInternalIp.Malformed", with(entry(1), "InternalIp", "pod")),
            ("CreateForwardEntry", "InvalidExternalPort.Malformed", with(entry(1), "ExternalPort", "65536")),
            ("CreateForwardEntry", "InvalidExternalPort.Malformed", with(entry(1), "ExternalPort", "20/10")),
            ("CreateForwardEntry", "InvalidInternalPort.Malformed", with(entry(1), "InternalPort", "0")),
            ("CreateForwardEntry", "InvalidProtocal.ValueNotSupported", with(entry(1), "IpProtocol", "sctp")),
            ("CreateForwardEntry", "DryRunOperation", with(entry(1), "DryRun", "true")),
            ("CreateForwardEntry", "InvalidParameter", with(entry(1), "PortBreak", "perhaps")),
            ("DeleteForwardEntry", "MissingParameter", map([("ForwardTableId", "ftb-sandbox-j")])),
            ("DescribeForwardTableEntries", "DESCRIBE_FORWARD_PARAM_INVALID", BTreeMap::new()),
            ("DescribeRouteEntryList", "MissingRouteTableId", BTreeMap::new()),
            ("DescribeRouteEntryList", "InvalidRouteTable.NotFound", map([("RouteTableId", "vtb-none")])),
            (
                "DescribeRouteEntryList",
                "IllegalParam.NextToken",
                map([("RouteTableId", "vtb-sandbox-j"), ("NextToken", "made-up")]),
            ),
            ("DescribeEipAddresses", "InvalidIAssociatedInstanceType.ValueNotSupported", {
                map([("AssociatedInstanceType", "Router"), ("AssociatedInstanceId", "x")])
            }),
            ("DescribeNatGateways", "InvalidParameter", map([("PageSize", "51")])),
            ("DescribeNatGateways", "InvalidParameter", map([("PageNumber", "0")])),
        ];
        for name in ["ForwardTableId", "ExternalIp", "ExternalPort", "InternalIp", "InternalPort", "IpProtocol"] {
            cases.push(("CreateForwardEntry", "MissingParameter", without(entry(1), name)));
        }
        for (action, code, own) in cases {
            let (status, body) = caller.ask(action, own).await;
            assert_eq!((status, &body["Code"]), (400, &json!(code)), "{body}");
        }
        let table = map([("ForwardTableId", "ftb-sandbox-j")]);
        assert_eq!(caller.answer("DescribeForwardTableEntries", table).await["TotalCount"], 0);
    });
}

#[test]
fn a_long_table_comes_in_pages() {
    with_cloud(Hands::default(), Options::default(), async |address| {
        let caller = Caller::to(address);
        for port in 1..=23 {
            caller.answer("CreateForwardEntry", entry(port)).await;
        }
        let mut ports = Vec::new();
        for page in ["1", "2", "3"] {
            let own = map([("NatGatewayId", "ngw-sandbox-j"), ("PageNumber", page), ("PageSize", "10")]);
            let body = caller.answer("DescribeForwardTableEntries", own).await;
            assert_eq!(body["TotalCount"], 23);
            let entries = body["ForwardTableEntries"]["ForwardTableEntry"].as_array().unwrap().clone();
            ports.extend(entries.iter().map(|entry| entry["ExternalPort"].as_str().unwrap().parse::<u16>().unwrap()));
        }
        assert_eq!(ports, (1..=23).collect::<Vec<_>>());
        let mut interfaces = 0;
        let mut next = String::new();
        loop {
            let own = map([("VSwitchId", "vsw-sandbox-k"), ("MaxResults", "500"), ("NextToken", &next)]);
            let body = caller.answer("DescribeNetworkInterfaces", own).await;
            interfaces += body["NetworkInterfaceSets"]["NetworkInterfaceSet"].as_array().unwrap().len();
            next = body["NextToken"].as_str().unwrap().to_owned();
            if next.is_empty() {
                break;
            }
        }
        assert_eq!(interfaces, 4_096);
    });
}

#[test]
fn the_quota_is_the_one_that_was_asked_for() {
    let options = Options { behaviour: Behaviour { entry_quota: 1, ..Behaviour::default() }, ..Options::default() };
    with_cloud(Hands::default(), options, async |address| {
        let caller = Caller::to(address);
        caller.answer("CreateForwardEntry", entry(1)).await;
        let (status, body) = caller.ask("CreateForwardEntry", entry(2)).await;
        assert_eq!((status, &body["Code"]), (400, &json!("QuotaExceeded.ForwardEntry")));
        assert_eq!(body["Message"], "The quota of natgw_quota_dnat_entry_num is exceeded, usage 1/1.");
    });
}

/// What the page of the metadata shows, ours shows too: names, nesting and kinds of values.
fn assert_shaped_like(ours: &Value, documented: &Value, path: &str) {
    match (ours, documented) {
        (Value::Object(ours), Value::Object(documented)) => {
            for (name, value) in ours {
                let expected = documented.get(name).unwrap_or_else(|| panic!("{path}.{name} is documented nowhere"));
                assert_shaped_like(value, expected, &format!("{path}.{name}"));
            }
        }
        (Value::Array(ours), Value::Array(documented)) => {
            for value in ours {
                assert_shaped_like(value, &documented[0], &format!("{path}[]"));
            }
        }
        (Value::String(_), Value::String(_))
        | (Value::Number(_), Value::Number(_))
        | (Value::Bool(_), Value::Bool(_)) => {}
        (ours, documented) => panic!("{path} is {ours}, documented as {documented}"),
    }
}

#[test]
fn the_surroundings_are_shown_in_the_documented_shape() {
    with_cloud(Hands::default(), Options::default(), async |address| {
        let caller = Caller::to(address);
        caller.answer("CreateForwardEntry", entry(1)).await;
        let gateways = caller.answer("DescribeNatGateways", map([("VpcId", "vpc-sandbox")])).await;
        assert_shaped_like(&gateways, &documented_gateways(), "DescribeNatGateways");
        let gateway = &gateways["NatGateways"]["NatGateway"][0];
        assert_eq!(gateway["ForwardTableIds"]["ForwardTableId"], json!(["ftb-sandbox-j"]));
        assert_eq!(gateway["NatGatewayPrivateInfo"]["IzNo"], "cn-hangzhou-j");
        let uses: Vec<_> =
            gateway["IpLists"]["IpList"].as_array().unwrap().iter().map(|ip| ip["UsingStatus"].clone()).collect();
        assert_eq!(uses, ["UsedByForwardTable", "Idle", "Idle"]);
        let own = map([("AssociatedInstanceType", "Nat"), ("AssociatedInstanceId", "ngw-sandbox-k")]);
        let eips = caller.answer("DescribeEipAddresses", own).await;
        let addresses: Vec<_> =
            eips["EipAddresses"]["EipAddress"].as_array().unwrap().iter().map(|eip| eip["IpAddress"].clone()).collect();
        assert_eq!(addresses, ["203.0.113.4", "203.0.113.5", "203.0.113.6"]);
        let one = caller.answer("DescribeEipAddresses", map([("EipAddress", "203.0.113.2,203.0.113.9")])).await;
        assert_eq!(one["TotalCount"], 1);
        let tables = caller.answer("DescribeRouteTableList", map([("VpcId", "vpc-sandbox")])).await;
        let table = &tables["RouterTableList"]["RouterTableListType"][1];
        assert_eq!(table["VSwitchIds"]["VSwitchId"], json!(["vsw-sandbox-j"]));
        let own = map([("RouteTableId", "vtb-sandbox-j"), ("NextHopType", "NatGateway")]);
        let routes = caller.answer("DescribeRouteEntryList", own).await;
        let route = &routes["RouteEntrys"]["RouteEntry"][0];
        assert_eq!((&route["DestinationCidrBlock"], &route["Status"]), (&json!("0.0.0.0/0"), &json!("Available")));
        assert_eq!(route["NextHops"]["NextHop"][0]["NextHopId"], "ngw-sandbox-j");
        let own = map([("PrivateIpAddress.1", "172.17.0.200"), ("PrivateIpAddress.2", "172.16.9.9")]);
        let interfaces = caller.answer("DescribeNetworkInterfaces", own).await;
        let zones: Vec<_> = interfaces["NetworkInterfaceSets"]["NetworkInterfaceSet"]
            .as_array()
            .unwrap()
            .iter()
            .map(|interface| interface["ZoneId"].clone())
            .collect();
        assert_eq!(zones, ["cn-hangzhou-k", "cn-hangzhou-j"]);
        assert_eq!(caller.answer("DescribeNatGateways", map([("VpcId", "vpc-other")])).await["TotalCount"], 0);
    });
}

/// The sample of aliyun-api.md §1.5.
fn documented_gateways() -> Value {
    json!({
        "PageSize": 10, "PageNumber": 1, "TotalCount": 1, "NatGateways": { "NatGateway": [{
            "Status": "Available", "CreationTime": "", "VpcId": "", "NatType": "Enhanced", "AutoPay": false, "Spec": "",
            "DeletionProtection": true, "NetworkType": "internet", "SecurityProtectionEnabled": false,
            "InstanceChargeType": "PostPaid", "RegionId": "", "EcsMetricEnabled": true, "IcmpReplyEnabled": true,
            "Description": "", "ExpiredTime": "", "ResourceGroupId": "", "NatGatewayId": "",
            "InternetChargeType": "PayByLcu", "BusinessStatus": "Normal", "Name": "",
            "IpLists": { "IpList": [{ "UsingStatus": "", "IpAddress": "", "SnatEntryEnabled": false,
                "AllocationId": "", "PrivateIpAddress": "" }] },
            "ForwardTableIds": { "ForwardTableId": [""] }, "SnatTableIds": { "SnatTableId": [""] },
            "FullNatTableIds": { "FullNatTableId": [""] },
            "NatGatewayPrivateInfo": { "VswitchId": "", "EniInstanceId": "", "MaxBandwidth": 5120,
                "MaxSessionQuota": 2_000_000, "MaxSessionEstablishRate": 100_000, "PrivateIpAddress": "", "IzNo": "",
                "EniType": "indirect" },
            "PrivateLinkEnabled": false, "PrivateLinkMode": "FullNat", "EipBindMode": "MULTI_BINDED",
            "Tags": { "Tag": [{ "TagKey": "", "TagValue": "" }] }, "EnableSessionLog": "true",
        }] },
    })
}

fn ledger(path: &Path) -> Vec<Value> {
    std::fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_lost_reply_is_a_closed_connection_and_a_line_in_the_ledger() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger");
    let options =
        Options { faults: vec![(FaultKind::LostReply, 1.0)], ledger: Some(path.clone()), ..Options::default() };
    with_cloud(Hands::default(), options, async |address| {
        let caller = Caller::to(address);
        let sent = caller.send(Method::POST, Place::Query, caller.common("CreateForwardEntry"), entry(512));
        let error = sent.await.unwrap_err();
        assert!(error.is_request() && !error.is_timeout() && !error.is_connect(), "{error:?}");
    });
    let lines = ledger(&path);
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert_eq!((&lines[0]["line"], &lines[0]["fault"]), (&json!("request"), &json!("lost-reply")));
    assert_eq!((&lines[0]["token"], lines[0].get("reply")), (&json!("token-512"), None));
    assert_eq!(lines[0]["parameters"]["ExternalPort"], "512");
    assert_eq!(lines[0]["wall"], "2026-11-22T08:00:00Z");
    assert_eq!((&lines[1]["line"], &lines[1]["effect"]), (&json!("effect"), &json!("created")));
    assert_eq!(lines[1]["request_id"], lines[0]["request_id"]);
}

#[test]
fn what_is_refused_before_the_model_has_a_line_too_and_no_secret_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger");
    let options = Options { ledger: Some(path.clone()), ..Options::default() };
    with_strangers(Hands::default(), options, async |address| {
        let caller = Caller::to(address);
        caller.ask("CreateForwardEntry", with(entry(1), "ExternalPort", "none")).await;
        caller.ask("DeleteNatGateway", BTreeMap::new()).await;
    });
    let lines = ledger(&path);
    assert_eq!(lines[0]["outcome"]["code"], "InvalidExternalPort.Malformed");
    // Whoever calls what is not in the RAM policy is found by the ledger.
    assert_eq!(lines[1]["action"], "DeleteNatGateway");
    let called = policy::lines(&path);
    assert_eq!(policy::others(policy::called(&called)), ["DeleteNatGateway"].into());
    assert_eq!(lines[0]["parameters"].get("Signature"), None);
}

#[test]
fn a_throttled_caller_is_told_how_long() {
    let options = Options { faults: vec![(FaultKind::Throttling, 1.0)], ..Options::default() };
    with_cloud(Hands::default(), options, async |address| {
        let caller = Caller::to(address);
        let cloud = client(address);
        let error = cloud.list_gateways(1).await.unwrap_err();
        assert_eq!(error.class, ErrorClass::Throttled { after_ms: Some(5) });
        let (status, body) = caller.ask("DescribeNatGateways", BTreeMap::new()).await;
        assert_eq!((status, &body["Code"]), (400, &json!("Throttling.User")));
    });
}

#[test]
fn speed_is_the_model_s_alone() {
    let hands = Hands::default();
    with_cloud(hands.clone(), Options { speed: 10, ..Options::default() }, async |address| {
        let caller = Caller::to(address);
        caller.answer("CreateForwardEntry", entry(1)).await;
        let status = async || {
            let own = map([("ForwardTableId", "ftb-sandbox-j")]);
            let body = caller.answer("DescribeForwardTableEntries", own).await;
            body["ForwardTableEntries"]["ForwardTableEntry"][0]["Status"].clone()
        };
        hands.advance(49);
        assert_eq!(status().await, "Pending");
        hands.advance(1);
        assert_eq!(status().await, "Available");
        hands.advance(14 * 60 * 1000);
        assert_eq!(status().await, "Available", "a timestamp of 14 minutes ago is good at any speed");
    });
}

#[test]
fn a_cloud_that_was_stopped_goes_on_with_its_entries_and_its_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let (state, path) = (folder.path().join("state"), folder.path().join("ledger"));
    let options = || Options { state: Some(state.clone()), ledger: Some(path.clone()), ..Options::default() };
    let mut first = Value::Null;
    with_cloud(Hands::default(), options(), async |address| {
        first = Caller::to(address).answer("CreateForwardEntry", entry(512)).await;
    });
    let (saved, written) = (std::fs::read(&state).unwrap(), std::fs::read(&path).unwrap());
    // The process ended after the model was saved and before, or while, the ledger was written.
    for kept in [0, 7, written.len() - 1, written.len()] {
        std::fs::write(&state, &saved).unwrap();
        std::fs::write(&path, &written[..kept]).unwrap();
        with_cloud(Hands::default(), options(), async |address| {
            let table = map([("ForwardTableId", "ftb-sandbox-j")]);
            let listed = Caller::to(address).answer("DescribeForwardTableEntries", table).await;
            assert_eq!(listed["TotalCount"], 1);
            assert_eq!(listed["ForwardTableEntries"]["ForwardTableEntry"][0]["Status"], "Pending", "time stood still");
        });
        let created = ledger(&path).iter().filter(|line| line["effect"] == "created").count();
        assert_eq!(created, 1, "{kept} of {} bytes were written", written.len());
    }
    with_cloud(Hands::default(), options(), async |address| {
        assert_eq!(Caller::to(address).answer("CreateForwardEntry", entry(512)).await, first);
    });
    let requests = ledger(&path).into_iter().filter(|line| line["line"] == "request");
    let ids: Vec<Value> = requests.map(|line| line["request_id"].clone()).collect();
    assert_eq!(ids.len(), 3, "one before, one after the first stop, one after the second");
    assert!(ids.iter().enumerate().all(|(n, id)| !ids[..n].contains(id)), "RequestIds are given out once: {ids:?}");
}

#[test]
fn the_ledger_is_written_while_nobody_asks() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger");
    let options = Options { ledger: Some(path.clone()), ..Options::default() };
    with_cloud(OffsetClock(SystemClock::start()), options, async |address| {
        Caller::to(address).answer("CreateForwardEntry", entry(512)).await;
        let available = async {
            while !ledger(&path).iter().any(|line| line["effect"] == "available") {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), available).await.unwrap();
    });
}

/// Runs as the machine's clock does, but began at the moment at which the requests of these tests are dated.
struct OffsetClock(SystemClock);

impl Clock for OffsetClock {
    fn wall_ms(&self) -> u64 {
        NOW_MS + self.0.elapsed_ms()
    }

    fn elapsed_ms(&self) -> u64 {
        self.0.elapsed_ms()
    }
}

#[test]
fn what_cannot_be_opened_is_an_error_with_the_path() {
    let folder = tempfile::tempdir().unwrap();
    let start = |options: Options| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(serve_by(Hands::default(), options, |_| {}, async {})).unwrap_err()
    };
    let missing = folder.path().join("no such folder").join("ledger");
    let error = start(Options { ledger: Some(missing.clone()), ..Options::default() });
    assert!(matches!(&error, Error::File { path, .. } if *path == missing), "{error}");
    let state = folder.path().join("state");
    std::fs::write(&state, "no model").unwrap();
    let error = start(Options { state: Some(state.clone()), ..Options::default() });
    assert!(matches!(&error, Error::Decode { path, .. } if *path == state), "{error}");
    assert_eq!(std::fs::read(&state).unwrap(), b"no model", "it is left as it was");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let error = start(Options { listen: taken.local_addr().unwrap(), ..Options::default() });
    assert!(matches!(error, Error::Listen { .. }), "{error}");
}

#[test]
fn a_cloud_that_cannot_write_ends_instead_of_answering() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("inner");
    std::fs::create_dir(&inner).unwrap();
    let options = Options { state: Some(inner.join("state")), ..Options::default() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let served = runtime.block_on(async {
        let (ready, address) = oneshot::channel();
        let serving =
            serve_by(Hands::default(), options, |address| ready.send(address).unwrap(), std::future::pending());
        let testing = async {
            let caller = Caller::to(address.await.unwrap());
            std::fs::remove_dir_all(&inner).unwrap();
            let sent = caller.send(Method::POST, Place::Query, caller.common("CreateForwardEntry"), entry(512));
            sent.await.unwrap_err();
        };
        tokio::join!(serving, testing).0
    });
    assert!(matches!(served, Err(Error::File { .. })), "{served:?}");
}

fn client(address: SocketAddr) -> AliyunCloud {
    let settings = Settings {
        region: "cn-hangzhou".to_owned(),
        vpc: "vpc-sandbox".to_owned(),
        endpoints: Endpoints::at(&format!("http://{address}")).unwrap(),
        mutating_timeout: Duration::from_secs(30),
        reading_timeout: Duration::from_secs(30),
    };
    let key = AccessKey::new("sandbox".to_owned(), "sandbox-secret".into(), None).unwrap();
    let clock = Arc::new(|| SystemTime::UNIX_EPOCH + Duration::from_millis(NOW_MS));
    AliyunCloud::new(settings, Arc::new(StaticKey::new(key)), clock).unwrap()
}

#[test]
fn the_client_walks_from_a_pod_s_address_to_an_entry_and_back() {
    let hands = Hands::default();
    with_cloud(hands.clone(), Options::default(), async |address| {
        let cloud = client(address);
        let pod = "172.17.3.4".parse().unwrap();
        let interface = cloud.list_interfaces(&[pod], None).await.unwrap().items.remove(0);
        assert!(interface.addresses.contains(&pod));
        let tables = cloud.list_route_tables(1).await.unwrap();
        assert_eq!((tables.total, tables.items.iter().filter(|table| table.system).count()), (3, 1));
        let table = tables.items.iter().find(|table| table.vswitches.contains(&interface.vswitch)).unwrap();
        let route = cloud.list_default_routes(&table.id, None).await.unwrap();
        assert_eq!(route.next, None);
        let gateways = cloud.list_gateways(1).await.unwrap();
        let gateway = gateways.items.iter().find(|gateway| gateway.id == route.items[0]).unwrap();
        assert!(gateway.available);
        let eips = cloud.list_eips(&gateway.id, 1).await.unwrap();
        assert!(eips.items.iter().all(|eip| eip.usable));
        let table = gateway.table.clone().unwrap();
        let tuple = Tuple {
            external_ip: eips.items[0].address,
            external_port: 512,
            internal_ip: pod,
            internal_port: 80,
            protocol: Protocol::Udp,
        };
        let creation = CreateEntry {
            table: table.clone(),
            tuple,
            name: "natgw".to_owned(),
            token: "t".to_owned(),
            port_break: true,
        };
        let entry = cloud.create_entry(&creation).await.unwrap();
        hands.advance(500);
        let listed = cloud.list_entries(&table, 1).await.unwrap();
        assert_eq!((listed.total, listed.items[0].tuple()), (1, Some(tuple)));
        assert_eq!(listed.items[0].status, EntryStatus::Available);
        let error = cloud.create_entry(&CreateEntry { token: "u".to_owned(), ..creation }).await.unwrap_err();
        assert_eq!(error.class, ErrorClass::Duplicate);
        let deletion = DeleteEntry { table: table.clone(), entry, token: "d".to_owned() };
        cloud.delete_entry(&deletion).await.unwrap();
        hands.advance(500);
        assert_eq!(cloud.list_entries(&table, 1).await.unwrap().total, 0);
        let error = cloud.delete_entry(&DeleteEntry { token: "e".to_owned(), ..deletion }).await.unwrap_err();
        assert_eq!(error.class, ErrorClass::Gone);
    });
}

/// Every documented error, of the eight actions and of the gateway, asked for by a plan: its status, code and message on the
/// wire, and nothing done.
#[test]
fn every_documented_error_can_be_had() {
    let actions = natgw::cloud::classes::ACTIONS;
    let asked: Vec<(&str, Documented)> = actions
        .into_iter()
        .flat_map(|action| Documented::all().map(move |error| (action, error)))
        .filter(|(action, error)| error.action.is_empty() || error.action == *action)
        .filter(|(action, error)| Documented::find(action, error.code) == Some(*error))
        .collect();
    let plan = asked.iter().map(|(action, error)| Stroke::next(Some(action), Deed::Refuse(error.code.to_owned())));
    // Each line strikes the first request that it meets, so the first ones of an action let as many pass as come before.
    let mut before: BTreeMap<&str, u64> = BTreeMap::new();
    let plan = asked.iter().zip(plan).map(|((action, _), stroke)| {
        let skip = before.entry(action).or_default();
        *skip += 1;
        stroke.after(*skip - 1)
    });
    let options = Options { plan: plan.collect(), ..Options::default() };
    with_cloud(Hands::default(), options, async |address| {
        let caller = Caller::to(address);
        for (action, error) in &asked {
            let own = match *action {
                "CreateForwardEntry" => entry(512),
                "DeleteForwardEntry" => map([("ForwardTableId", "ftb-sandbox-j"), ("ForwardEntryId", "fwd-1")]),
                "DescribeForwardTableEntries" => map([("ForwardTableId", "ftb-sandbox-j")]),
                "DescribeRouteEntryList" => map([("RouteTableId", "vtb-sandbox-j")]),
                _ => BTreeMap::new(),
            };
            let (status, body) = caller.ask(action, own).await;
            assert_eq!((status, &body["Code"]), (error.status, &json!(error.code)), "{action} {error:?}");
            assert_eq!(body["Message"], error.refusal().message, "{action} {error:?}");
        }
        let table = map([("ForwardTableId", "ftb-sandbox-j")]);
        assert_eq!(caller.answer("DescribeForwardTableEntries", table).await["TotalCount"], 0, "nothing was done");
    });
    println!("{} documented errors, each heard", asked.len());
    assert!(asked.len() > 117 + 8 * 15, "{}", asked.len());
}

/// What an answer shows and what is a parameter too can be filtered by: the value shown keeps the item, another drops it.
#[test]
fn a_listing_can_be_filtered_by_all_that_it_shows() {
    let options = Options { by_hand: vec![by_hand()], ..Options::default() };
    with_cloud(Hands::default(), options, async |address| {
        let caller = Caller::to(address);
        let mut tried = Vec::new();
        for (action, outer, inner, own) in [
            (
                "DescribeForwardTableEntries",
                "ForwardTableEntries",
                "ForwardTableEntry",
                [("ForwardTableId", "ftb-sandbox-j")],
            ),
            ("DescribeNatGateways", "NatGateways", "NatGateway", [("NatGatewayId", "ngw-sandbox-k")]),
            ("DescribeEipAddresses", "EipAddresses", "EipAddress", [("EipAddress", "203.0.113.2")]),
            ("DescribeRouteTableList", "RouterTableList", "RouterTableListType", [("RouteTableId", "vtb-sandbox-k")]),
            ("DescribeRouteEntryList", "RouteEntrys", "RouteEntry", [("RouteTableId", "vtb-sandbox-j")]),
            (
                "DescribeNetworkInterfaces",
                "NetworkInterfaceSets",
                "NetworkInterfaceSet",
                [("PrivateIpAddress.1", "172.16.0.9")],
            ),
        ] {
            let own = || map(own);
            let count = |body: &Value| body[outer][inner].as_array().unwrap().len();
            let all = caller.answer(action, own()).await;
            let Value::Object(item) = &all[outer][inner][0] else { panic!("{all}") };
            for (name, value) in item {
                // The two that two listings name otherwise than they show them.
                let name = match (action, name.as_str()) {
                    ("DescribeEipAddresses", "Name") => "EipName",
                    ("DescribeNetworkInterfaces", "PrivateIpAddress") => "PrimaryIpAddress",
                    (_, name) => name,
                };
                let is_parameter = FILTERS.contains(&(action, name));
                let value = value.as_str().filter(|value| !value.is_empty() && is_parameter);
                let Some(value) = value else { continue };
                let kept = count(&caller.answer(action, with(own(), name, value)).await);
                assert!(kept >= 1 && kept <= count(&all), "{action} {name}={value}");
                let (status, body) = caller.ask(action, with(own(), name, OTHER(name))).await;
                // What names its one object is replaced, not narrowed.
                if status == 200 {
                    assert_eq!(count(&body), 0, "{action} {name}: {body}");
                }
                tried.push((action, name.to_owned()));
            }
            assert_eq!(count(&caller.answer(action, own()).await), count(&all));
        }
        assert_eq!(tried.len(), FILTERS.len(), "{tried:?}");
    });
}

/// Filters whose name an answer shows.
const FILTERS: [(&str, &str); 29] = [
    ("DescribeForwardTableEntries", "ForwardEntryId"),
    ("DescribeForwardTableEntries", "ForwardEntryName"),
    ("DescribeForwardTableEntries", "ExternalIp"),
    ("DescribeForwardTableEntries", "ExternalPort"),
    ("DescribeForwardTableEntries", "InternalIp"),
    ("DescribeForwardTableEntries", "InternalPort"),
    ("DescribeForwardTableEntries", "IpProtocol"),
    ("DescribeNatGateways", "Name"),
    ("DescribeNatGateways", "Status"),
    ("DescribeNatGateways", "NatType"),
    ("DescribeNatGateways", "NetworkType"),
    ("DescribeNatGateways", "InstanceChargeType"),
    ("DescribeNatGateways", "ResourceGroupId"),
    ("DescribeEipAddresses", "Status"),
    ("DescribeEipAddresses", "EipName"),
    ("DescribeEipAddresses", "ISP"),
    ("DescribeEipAddresses", "ChargeType"),
    ("DescribeRouteTableList", "RouterType"),
    ("DescribeRouteTableList", "RouterId"),
    ("DescribeRouteTableList", "RouteTableName"),
    ("DescribeRouteTableList", "RouteTableType"),
    ("DescribeRouteTableList", "ResourceGroupId"),
    ("DescribeRouteEntryList", "RouteEntryId"),
    ("DescribeRouteEntryList", "DestinationCidrBlock"),
    ("DescribeRouteEntryList", "IpVersion"),
    ("DescribeNetworkInterfaces", "VSwitchId"),
    ("DescribeNetworkInterfaces", "PrimaryIpAddress"),
    ("DescribeNetworkInterfaces", "InstanceId"),
    ("DescribeNetworkInterfaces", "Status"),
];

/// A value that keeps the declaration and that nothing here has.
const OTHER: fn(&str) -> &'static str = |name| match name {
    "Status" => "Deleting",
    "NatType" => "Normal",
    "NetworkType" => "intranet",
    "InstanceChargeType" | "ChargeType" => "PrePaid",
    "RouterType" => "VBR",
    "RouteTableType" => "System",
    "IpVersion" => "ipv6",
    "IpProtocol" => "udp",
    "ExternalPort" | "InternalPort" => "9",
    "ExternalIp" | "InternalIp" | "PrimaryIpAddress" => "198.51.100.9",
    "InstanceId" => "i-none",
    _ => "none",
};

fn by_hand() -> NewEntry {
    let tuple = Tuple {
        external_ip: [203, 0, 113, 1].into(),
        external_port: 700,
        internal_ip: [172, 16, 0, 9].into(),
        internal_port: 80,
        protocol: Protocol::Tcp,
    };
    NewEntry::of("ftb-sandbox-j".into(), tuple, "somebody")
}

#[test]
fn an_action_that_is_called_too_often_is_told_when_the_second_is_over() {
    let hands = Hands::default();
    let behaviour = Behaviour { calls_per_second: 3, ..Behaviour::default() };
    with_cloud(hands.clone(), Options { behaviour, ..Options::default() }, async |address| {
        let client = client(address);
        hands.advance(100);
        for _ in 0..3 {
            client.list_gateways(1).await.unwrap();
        }
        let error = client.list_gateways(1).await.unwrap_err();
        assert_eq!(
            (error.class, error.code.as_str()),
            (ErrorClass::Throttled { after_ms: Some(900) }, "Throttling.Api")
        );
        client.list_route_tables(1).await.unwrap();
        hands.advance(900);
        client.list_gateways(1).await.unwrap();
    });
}
