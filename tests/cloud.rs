//! The cloud client against a stub that records what came and answers, misbehaves or stays silent as told.
#![cfg(feature = "adapters")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a broken fixture is a failed test")]

#[allow(dead_code, reason = "shared by the suites that have a simulated cloud")]
#[path = "policy/mod.rs"]
mod policy;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use natgw::cloud::credentials::{AccessKey, StaticKey};
use natgw::cloud::endpoints::Endpoints;
use natgw::cloud::rpc::ANSWER_BYTES_MAX;
use natgw::cloud::{AliyunCloud, Settings, sign};
use natgw::machine::identity::{EntryId, GatewayId, Protocol, Tuple};
use natgw::ports::cloud::{
    Chain, Cloud, CloudError, CreateEntry, DeleteEntry, EntryStatus, ErrorClass, ListedEip, ListedEntry, ListedGateway,
    ListedInterface, ListedRouteTable, Page, PortSpec,
};
use natgw::sandbox::vpc::{Behaviour, Faults, Vpc, World};
use percent_encoding::percent_decode_str;

const SECRET: &str = "a secret";

/// Longer than any answer of the stub takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the stub does with a request.
#[derive(Clone)]
enum Reply {
    /// Answers with this status, these header lines and this body.
    Answer(u16, &'static str, String),
    /// Promises more bytes than it sends.
    Truncated(&'static str),
    /// Closes without a word.
    Close,
    /// Says nothing until the client goes away.
    Silent,
}

/// One request as it came.
struct Seen {
    line: String,
    headers: BTreeMap<String, String>,
    parameters: BTreeMap<String, String>,
}

struct Stub {
    url: String,
    seen: Receiver<Seen>,
    /// Every action that was called.
    called: Arc<Mutex<BTreeSet<String>>>,
}

impl Drop for Stub {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            policy::kept(self.called.lock().unwrap().iter().map(String::as_str));
        }
    }
}

/// Starts a stub that gives each of the replies to one connection, in order, and then ends.
fn stub(replies: Vec<Reply>) -> Stub {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let (sender, seen) = channel();
    let called = Arc::<Mutex<BTreeSet<String>>>::default();
    let noted = Arc::clone(&called);
    std::thread::spawn(move || {
        for reply in replies {
            let (mut stream, _) = listener.accept().unwrap();
            let request = request(&mut stream);
            noted.lock().unwrap().insert(request.parameters["Action"].clone());
            // Whoever is not interested has gone.
            sender.send(request).ok();
            answer(&mut stream, reply);
        }
    });
    Stub { url, seen, called }
}

fn request(stream: &mut TcpStream) -> Seen {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        bytes.extend(byte);
    }
    let text = String::from_utf8(bytes).unwrap();
    let mut lines = text.lines();
    let line = lines.next().unwrap().to_owned();
    let headers =
        lines.filter_map(|line| line.split_once(": ")).map(|(k, v)| (k.to_lowercase(), v.to_owned())).collect();
    let query = line.split(' ').nth(1).unwrap().split_once('?').unwrap().1;
    let decoded = |text| percent_decode_str(text).decode_utf8().unwrap().into_owned();
    let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap());
    let parameters = pairs.map(|(name, value)| (decoded(name), decoded(value))).collect();
    Seen { line, headers, parameters }
}

fn answer(stream: &mut TcpStream, reply: Reply) {
    // The client may have enough before the end, so a failed write is no fault of the stub.
    let mut send = |head: &str, length: usize, body: &str| {
        drop(write!(stream, "HTTP/1.1 {head}connection: close\r\ncontent-length: {length}\r\n\r\n{body}"));
    };
    match reply {
        Reply::Answer(status, headers, body) => send(&format!("{status} words\r\n{headers}"), body.len(), &body),
        Reply::Truncated(body) => send("200 words\r\n", body.len() + 1, body),
        Reply::Close => {}
        Reply::Silent => drop(stream.read(&mut [0])),
    }
}

fn ok(body: &str) -> Reply {
    Reply::Answer(200, "", body.to_owned())
}

fn client(url: &str, token: Option<&str>) -> AliyunCloud {
    client_with(url, token, PATIENCE)
}

fn client_with(url: &str, token: Option<&str>, mutating_timeout: Duration) -> AliyunCloud {
    let settings = Settings {
        region: "cn-hangzhou".to_owned(),
        vpc: "vpc-1".to_owned(),
        endpoints: Endpoints::at(url).unwrap(),
        mutating_timeout,
        reading_timeout: PATIENCE,
    };
    let key = AccessKey::new("the id".to_owned(), SECRET.to_owned().into(), token.map(|token| token.to_owned().into()));
    let clock = Arc::new(|| SystemTime::UNIX_EPOCH + Duration::from_millis(1_456_231_584_900));
    AliyunCloud::new(settings, Arc::new(StaticKey::new(key.unwrap())), clock).unwrap()
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn creation() -> CreateEntry {
    CreateEntry {
        table: "ftb-1".into(),
        tuple: Tuple {
            external_ip: [203, 0, 113, 7].into(),
            external_port: 512,
            internal_ip: [172, 16, 0, 9].into(),
            internal_port: 80,
            protocol: Protocol::Tcp,
        },
        name: "natgw1-a+b".to_owned(),
        token: "token/1".to_owned(),
        port_break: false,
    }
}

fn deletion() -> DeleteEntry {
    DeleteEntry { table: "ftb-1".into(), entry: "fwd-1".into(), token: "token/2".to_owned() }
}

/// Sends one request and says which parameters of the action's own it had, after checking all the common ones.
fn own_parameters<T>(call: impl AsyncFnOnce(AliyunCloud) -> T, action: &str, version: &str) -> Vec<(String, String)> {
    let stub = stub(vec![ok("{}")]);
    run(call(client(&stub.url, None)));
    let mut seen = stub.seen.recv().unwrap();
    assert!(seen.line.starts_with("POST /?") && seen.line.ends_with(" HTTP/1.1"), "{}", seen.line);
    assert_eq!(seen.headers["content-length"], "0", "a body would have to be signed too");
    let text = sign::string_to_sign("POST", &seen.parameters);
    assert!(sign::verify(SECRET, &text, &seen.parameters.remove("Signature").unwrap()), "{}", *text);
    assert_eq!(seen.parameters.remove("SignatureNonce").unwrap().len(), 36);
    for (name, value) in [
        ("AccessKeyId", "the id"),
        ("Action", action),
        ("Format", "JSON"),
        ("RegionId", "cn-hangzhou"),
        ("SignatureMethod", "HMAC-SHA1"),
        ("SignatureVersion", "1.0"),
        ("Timestamp", "2016-02-23T12:46:24Z"),
        ("Version", version),
    ] {
        assert_eq!(seen.parameters.get(name).map(String::as_str), Some(value), "{name}");
        if name != "RegionId" {
            seen.parameters.remove(name);
        }
    }
    keeps_the_metadata(action, &seen.parameters);
    seen.parameters.remove("RegionId");
    seen.parameters.into_iter().collect()
}

/// The vendor's metadata, reduced; its source stands in it.
const METADATA: &str = include_str!("fixtures/vendor-metadata.json");

/// Every parameter is known to the vendor's metadata, of its type and within its bounds, and none that is required lacks.
fn keeps_the_metadata(action: &str, sent: &BTreeMap<String, String>) {
    let metadata: serde_json::Value = serde_json::from_str(METADATA).unwrap();
    let known = metadata["actions"][action]["parameters"].as_object().unwrap();
    for (name, schema) in known.iter().filter(|(_, schema)| schema["required"] == true) {
        assert!(sent.get(name).is_some_and(|value| !value.is_empty()), "{action} requires {name}: {schema}");
    }
    for (name, value) in sent {
        let (base, number) = name.split_once('.').map_or((name.as_str(), None), |(base, number)| (base, Some(number)));
        let schema = known.get(base).unwrap_or_else(|| panic!("{action} has no parameter {name}"));
        let bound = |of: &str, otherwise| schema[of].as_i64().unwrap_or(otherwise);
        match schema["type"].as_str().unwrap() {
            "string" => assert!(number.is_none()),
            "boolean" => assert!(number.is_none() && matches!(value.as_str(), "true" | "false"), "{name}={value}"),
            "integer" => {
                let number: i64 = value.parse().unwrap();
                assert!((bound("minimum", 0)..=bound("maximum", i64::MAX)).contains(&number), "{name}={value}");
            }
            "array" => {
                let number: i64 = number.unwrap().parse().unwrap();
                assert!((1..=bound("maxItems", i64::MAX)).contains(&number), "{name}");
            }
            other => panic!("{other}"),
        }
    }
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

const VPC: &str = "2016-04-28";

#[test]
fn changes_are_sent_as_documented() {
    let create = [
        ("ClientToken", "token/1"),
        ("ExternalIp", "203.0.113.7"),
        ("ExternalPort", "512"),
        ("ForwardEntryName", "natgw1-a+b"),
        ("ForwardTableId", "ftb-1"),
        ("InternalIp", "172.16.0.9"),
        ("InternalPort", "80"),
        ("IpProtocol", "TCP"),
    ];
    let sent = own_parameters(async |cloud| cloud.create_entry(&creation()).await, "CreateForwardEntry", VPC);
    assert_eq!(sent, pairs(&create));

    let mut request = creation();
    request.port_break = true;
    let sent = own_parameters(async |cloud| cloud.create_entry(&request).await, "CreateForwardEntry", VPC);
    assert_eq!(sent, pairs(&[&create[..], &[("PortBreak", "true")]].concat()));

    let sent = own_parameters(async |cloud| cloud.delete_entry(&deletion()).await, "DeleteForwardEntry", VPC);
    assert_eq!(sent, pairs(&[("ClientToken", "token/2"), ("ForwardEntryId", "fwd-1"), ("ForwardTableId", "ftb-1")]));
}

#[test]
fn listings_are_sent_as_documented() {
    let sent =
        own_parameters(async |cloud| cloud.list_entries(&"ftb-1".into(), 3).await, "DescribeForwardTableEntries", VPC);
    assert_eq!(sent, pairs(&[("ForwardTableId", "ftb-1"), ("PageNumber", "3"), ("PageSize", "50")]));

    let of_vpc = pairs(&[("PageNumber", "1"), ("PageSize", "50"), ("VpcId", "vpc-1")]);
    assert_eq!(own_parameters(async |cloud| cloud.list_gateways(1).await, "DescribeNatGateways", VPC), of_vpc);
    assert_eq!(own_parameters(async |cloud| cloud.list_route_tables(1).await, "DescribeRouteTableList", VPC), of_vpc);

    let sent = own_parameters(async |cloud| cloud.list_eips(&"ngw-1".into(), 2).await, "DescribeEipAddresses", VPC);
    assert_eq!(
        sent,
        pairs(&[
            ("AssociatedInstanceId", "ngw-1"),
            ("AssociatedInstanceType", "Nat"),
            ("PageNumber", "2"),
            ("PageSize", "100"),
        ])
    );

    let sent = own_parameters(
        async |cloud| cloud.list_default_routes("vtb-1", Some("more")).await,
        "DescribeRouteEntryList",
        VPC,
    );
    assert_eq!(
        sent,
        pairs(&[
            ("DestinationCidrBlock", "0.0.0.0/0"),
            ("MaxResult", "100"),
            ("NextHopType", "NatGateway"),
            ("NextToken", "more"),
            ("RouteTableId", "vtb-1"),
        ])
    );

    let addresses = [Ipv4Addr::new(172, 16, 0, 9), Ipv4Addr::new(172, 16, 0, 10)];
    let sent = own_parameters(
        async |cloud| cloud.list_interfaces(&addresses, None).await,
        "DescribeNetworkInterfaces",
        "2014-05-26",
    );
    assert_eq!(
        sent,
        pairs(&[
            ("MaxResults", "500"),
            ("PrivateIpAddress.1", "172.16.0.9"),
            ("PrivateIpAddress.2", "172.16.0.10"),
            ("VpcId", "vpc-1"),
        ])
    );
}

#[test]
fn a_repeat_has_its_own_nonce_and_the_same_token() {
    let stub = stub(vec![Reply::Close, Reply::Close]);
    let cloud = client(&stub.url, None);
    run(async {
        assert!(cloud.create_entry(&creation()).await.is_err());
        assert!(cloud.create_entry(&creation()).await.is_err());
    });
    let [first, second] = [stub.seen.recv().unwrap().parameters, stub.seen.recv().unwrap().parameters];
    assert_ne!(first["SignatureNonce"], second["SignatureNonce"]);
    assert_ne!(first["Signature"], second["Signature"]);
    assert_eq!(first["ClientToken"], second["ClientToken"]);
}

#[test]
fn a_temporary_key_sends_and_signs_its_token() {
    let stub = stub(vec![ok(r#"{"RequestId":"R"}"#)]);
    run(client(&stub.url, Some("sts+token")).delete_entry(&deletion())).unwrap();
    let seen = stub.seen.recv().unwrap().parameters;
    assert_eq!(seen["SecurityToken"], "sts+token");
    assert!(sign::verify(SECRET, &sign::string_to_sign("POST", &seen), &seen["Signature"]));
}

#[test]
fn more_or_fewer_addresses_than_a_call_takes_are_not_sent() {
    let cloud = client("http://127.0.0.1:9/", None);
    for count in [0, 101] {
        let error = run(cloud.list_interfaces(&vec![Ipv4Addr::LOCALHOST; count], None)).unwrap_err();
        assert_eq!((error.class, error.code.as_str()), (ErrorClass::Malformed, "addresses"), "{error}");
    }
}

fn answered<T>(body: &str, call: impl AsyncFnOnce(AliyunCloud) -> T) -> T {
    run(call(client(&stub(vec![ok(body)]).url, None)))
}

#[test]
fn a_creation_answers_its_entry() {
    let body = r#"{"ForwardEntryId":"fwd-119smw5tkasdf","RequestId":"A4AEE536"}"#;
    let entry = answered(body, async |cloud| cloud.create_entry(&creation()).await);
    assert_eq!(entry, Ok(EntryId::from("fwd-119smw5tkasdf")));
}

#[test]
fn entries_are_read_with_every_shape_of_port_protocol_and_status() {
    let entry = |id: &str, ports: (&str, &str), protocol: &str, status: &str| {
        let (external, internal) = ports;
        format!(
            r#"{{"Status":"{status}","ForwardEntryId":"{id}","InternalIp":"192.168.0.1","InternalPort":"{internal}",
            "ForwardEntryName":"n","ForwardTableId":"ftb-1","IpProtocol":"{protocol}","ExternalPort":"{external}",
            "ExternalIp":"139.79.0.1","NatGatewayId":"ngw-1","Novel":{{}}}}"#
        )
    };
    let body = |entries: &[String]| {
        let entries = entries.join(",");
        format!(
            r#"{{"PageSize":50,"RequestId":"R","PageNumber":1,"TotalCount":5,
            "ForwardTableEntries":{{"ForwardTableEntry":[{entries}]}}}}"#
        )
    };
    let list =
        |entries: &[String]| answered(&body(entries), async |cloud| cloud.list_entries(&"ftb-1".into(), 1).await);
    let page = list(&[
        entry("a", ("80", "25"), "tcp", "Available"),
        entry("b", ("10/20", "30/40"), "UDP", "Pending"),
        entry("c", ("Any", "any"), "Any", "Deleting"),
        entry("d", ("0", "0"), "any", "Novel"),
    ]);
    let expected = |id: &str, external_port, internal_port, protocol, status| ListedEntry {
        id: id.into(),
        name: "n".to_owned(),
        external_ip: [139, 79, 0, 1].into(),
        external_port,
        internal_ip: [192, 168, 0, 1].into(),
        internal_port,
        protocol,
        status,
    };
    let (one, range) = (PortSpec::One, PortSpec::Range);
    let items = vec![
        expected("a", one(80), one(25), Some(Protocol::Tcp), EntryStatus::Available),
        expected("b", range(10, 20), range(30, 40), Some(Protocol::Udp), EntryStatus::Pending),
        expected("c", PortSpec::Any, PortSpec::Any, None, EntryStatus::Deleting),
        expected("d", PortSpec::Any, PortSpec::Any, None, EntryStatus::Other),
    ];
    assert_eq!(page, Ok(Page { items, total: 5 }));
    for broken in [
        entry("a", ("65536", "25"), "tcp", "Available"),
        entry("a", ("80", "1/0"), "tcp", "Available"),
        entry("a", ("80", "25"), "icmp", "Available"),
        entry("a", ("80", "25"), "tcp", "Available").replace("139.79.0.1", "139.79.XX.XX"),
        entry("a", ("80", "25"), "tcp", "Available").replace("ForwardEntryId", "EntryId"),
    ] {
        let error = list(std::slice::from_ref(&broken)).expect_err(&broken);
        assert_eq!((error.class, error.code.as_str()), (ErrorClass::Unknown, "undecodable"), "{error}");
    }
}

#[test]
fn gateways_are_read() {
    let body = r#"{"PageSize":50,"RequestId":"R","PageNumber":1,"TotalCount":3,"NatGateways":{"NatGateway":[
        {"Status":"Available","VpcId":"vpc-1","NatType":"Enhanced","NetworkType":"internet","NatGatewayId":"ngw-1",
         "BusinessStatus":"Normal","IpLists":{"IpList":[
           {"UsingStatus":"UsedByForwardTable","IpAddress":"116.62.0.1","SnatEntryEnabled":false,"AllocationId":"eip-1"},
           {"UsingStatus":"UsedBySnatTable","IpAddress":"116.62.0.2"},
           {"UsingStatus":"UsedByForwardSnatTable","IpAddress":"116.62.0.3"},
           {"UsingStatus":"Idle","IpAddress":"116.62.0.4"}]},
         "ForwardTableIds":{"ForwardTableId":["ftb-1"]},"SnatTableIds":{"SnatTableId":["stb-1"]},
         "NatGatewayPrivateInfo":{"VswitchId":"vsw-1","IzNo":"cn-hangzhou-b"}},
        {"Status":"Creating","NetworkType":"internet","NatGatewayId":"ngw-2"},
        {"Status":"Available","NetworkType":"intranet","NatGatewayId":"ngw-3",
         "ForwardTableIds":{"ForwardTableId":["ftb-3"]}}]}}"#;
    let page = answered(body, async |cloud| cloud.list_gateways(1).await).unwrap();
    let first = ListedGateway {
        id: "ngw-1".into(),
        table: Some("ftb-1".into()),
        zone: Some("cn-hangzhou-b".into()),
        available: true,
        snat: vec![[116, 62, 0, 2].into(), [116, 62, 0, 3].into()],
    };
    let without =
        |id: &str, table| ListedGateway { id: id.into(), table, zone: None, available: false, snat: Vec::new() };
    let items = vec![first, without("ngw-2", None), without("ngw-3", Some("ftb-3".into()))];
    assert_eq!(page, Page { items, total: 3 });
}

#[test]
fn an_eip_is_usable_only_in_use_in_good_standing_and_without_locks() {
    let eip = |address: &str, status: &str, business: &str, locks: &str| {
        format!(
            r#"{{"IpAddress":"{address}","Status":"{status}","BusinessStatus":"{business}","InstanceType":"Nat",
            "OperationLocks":{{"LockReason":[{locks}]}}}}"#
        )
    };
    let eips = [
        eip("47.75.0.1", "InUse", "Normal", ""),
        eip("47.75.0.2", "Unassociating", "Normal", ""),
        eip("47.75.0.3", "InUse", "FinancialLocked", ""),
        eip("47.75.0.4", "InUse", "Normal", r#"{"LockReason":"security"}"#),
    ]
    .join(",");
    let body = format!(r#"{{"RequestId":"R","TotalCount":4,"EipAddresses":{{"EipAddress":[{eips}]}}}}"#);
    let page = answered(&body, async |cloud| cloud.list_eips(&"ngw-1".into(), 1).await).unwrap();
    let usable = [true, false, false, false];
    let items = (1..).zip(usable).map(|(n, usable)| ListedEip { address: [47, 75, 0, n].into(), usable }).collect();
    assert_eq!(page, Page { items, total: 4 });
}

#[test]
fn route_tables_and_their_default_routes_are_read() {
    let body = r#"{"RequestId":"R","TotalCount":2,"RouterTableList":{"RouterTableListType":[
        {"RouteTableId":"vtb-1","RouteTableType":"System","VSwitchIds":{"VSwitchId":["vsw-1","vsw-2"]}},
        {"RouteTableId":"vtb-2","RouteTableType":"Custom","AssociateType":"VSwitch"}]}}"#;
    let page = answered(body, async |cloud| cloud.list_route_tables(1).await).unwrap();
    let system =
        ListedRouteTable { id: "vtb-1".to_owned(), system: true, vswitches: vec!["vsw-1".into(), "vsw-2".into()] };
    let custom = ListedRouteTable { id: "vtb-2".to_owned(), system: false, vswitches: Vec::new() };
    assert_eq!(page, Page { items: vec![system, custom], total: 2 });

    let route = |cidr: &str, status: &str, kind: &str, id: &str| {
        format!(
            r#"{{"Status":"{status}","DestinationCidrBlock":"{cidr}","Type":"Custom",
            "NextHops":{{"NextHop":[{{"NextHopType":"{kind}","NextHopId":"{id}","Enabled":1,"Weight":100}}]}}}}"#
        )
    };
    let routes = [
        route("0.0.0.0/0", "Available", "NatGateway", "ngw-1"),
        route("0.0.0.0/0", "Pending", "NatGateway", "ngw-2"),
        route("10.0.0.0/8", "Available", "NatGateway", "ngw-3"),
        route("0.0.0.0/0", "Available", "Instance", "i-4"),
    ]
    .join(",");
    for (token, next) in [("", None), (r#""NextToken":"","#, None), (r#""NextToken":"t","#, Some("t".to_owned()))] {
        let body = format!(r#"{{{token}"RequestId":"R","RouteEntrys":{{"RouteEntry":[{routes}]}}}}"#);
        let chain = answered(&body, async |cloud| cloud.list_default_routes("vtb-1", None).await).unwrap();
        assert_eq!(chain, Chain { items: vec![GatewayId::from("ngw-1")], next });
    }
}

#[test]
fn interfaces_are_read_with_all_their_addresses() {
    let body = r#"{"NextToken":"t","RequestId":"R","NetworkInterfaceSets":{"NetworkInterfaceSet":[
        {"NetworkInterfaceId":"eni-1","VSwitchId":"vsw-1","ZoneId":"cn-hangzhou-j","PrivateIpAddress":"172.17.0.1",
         "PrivateIpSets":{"PrivateIpSet":[{"PrivateIpAddress":"172.17.0.9","Primary":false},
                                          {"PrivateIpAddress":"172.17.0.1","Primary":true}]}}]}}"#;
    let address = [Ipv4Addr::new(172, 17, 0, 9)];
    let chain = answered(body, async |cloud| cloud.list_interfaces(&address, None).await).unwrap();
    let interface = ListedInterface {
        eni: "eni-1".into(),
        vswitch: "vsw-1".into(),
        zone: "cn-hangzhou-j".into(),
        addresses: vec![[172, 17, 0, 1].into(), [172, 17, 0, 9].into()],
    };
    assert_eq!(chain, Chain { items: vec![interface], next: Some("t".to_owned()) });
}

fn created(reply: Reply) -> CloudError {
    let timeout = if matches!(reply, Reply::Silent) { Duration::from_millis(100) } else { PATIENCE };
    run(client_with(&stub(vec![reply]).url, Some("hush-token"), timeout).create_entry(&creation())).unwrap_err()
}

#[test]
fn an_error_of_the_cloud_comes_with_its_class_words_and_request() {
    let error = created(Reply::Answer(
        409,
        "",
        r#"{"Code":"OperationConflict","HostId":"vpc-unit-share.cn-shanghai.aliyuncs.com",
            "Message":"The operation against this instance is too frequent, please try again later.",
            "Recommend":"https://next.api.aliyun.com/troubleshoot?q=OperationConflict\u0026product=Vpc",
            "RequestId":"5081F6E9-2E5C-5644-88B9-631CD3E25A8B"}"#
            .to_owned(),
    ));
    assert_eq!(error.class, ErrorClass::Conflict);
    assert_eq!(
        error.to_string(),
        "CreateForwardEntry ended with OperationConflict: The operation against this instance is too frequent, please \
         try again later. (request 5081F6E9-2E5C-5644-88B9-631CD3E25A8B)"
    );
}

#[test]
fn every_class_comes_back_from_a_body() {
    let body = |code: &str, message: &str| format!(r#"{{"Code":"{code}","Message":"{message}","RequestId":"R"}}"#);
    for (status, headers, code, class) in [
        (400, "", "LastTokenProcessing", ErrorClass::RetryNow),
        (400, "", "InvalidIp.NotInNatgw", ErrorClass::RetryLater),
        (400, "", "Throttling.User", ErrorClass::Throttled { after_ms: None }),
        (
            400,
            "x-ratelimit-user-api: Limit:1,TimeLeft:20\r\nx-ratelimit-user: TimeLeft:1500\r\n",
            "Throttling.Api",
            ErrorClass::Throttled { after_ms: Some(1500) },
        ),
        (400, "", "TaskConflict", ErrorClass::Conflict),
        (400, "", "ForwardEntry.Duplicated", ErrorClass::Duplicate),
        (400, "", "QuotaExceeded.ForwardEntry", ErrorClass::Quota),
        (404, "", "InvalidForwardTableId.NotFound", ErrorClass::Gone),
        (404, "", "InvalidAccessKeyId.NotFound", ErrorClass::Denied),
        (404, "", "InvalidRegionId.NotFound", ErrorClass::Malformed),
        (503, "", "QuotaExceeded.ForwardEntry", ErrorClass::Unknown),
        (400, "", "Novel", ErrorClass::Unknown),
    ] {
        let error = created(Reply::Answer(status, headers, body(code, "words")));
        assert_eq!((error.class, error.code.as_str(), error.request_id.as_str()), (class, code, "R"));
    }
    let error = created(Reply::Answer(400, "", body(&"c".repeat(1_000), &"m".repeat(10_000))));
    assert_eq!((error.code.len(), error.message.len()), (128, 512));
}

#[test]
fn no_answer_or_one_that_cannot_be_read_proves_nothing() {
    let long = format!(r#"{{"RequestId":"{}","ForwardEntryId":"fwd-1"}}"#, "R".repeat(ANSWER_BYTES_MAX));
    for (reply, code) in [
        (Reply::Silent, "timeout"),
        (Reply::Close, "connection"),
        (Reply::Truncated(r#"{"ForwardEntryId":"fwd-1","RequestId":"R"}"#), "connection"),
        (ok(&long), "undecodable"),
        (ok("<html>signed in</html>"), "undecodable"),
        (ok(r#"{"ForwardEntryId":"fwd-1"}"#), "undecodable"),
        (ok(r#"{"RequestId":"R"}"#), "undecodable"),
        (ok(r#"{"ForwardEntryId":"","RequestId":"R"}"#), "undecodable"),
        (Reply::Answer(302, "location: http://127.0.0.1:9/\r\n", String::new()), "undecodable"),
        (Reply::Answer(404, "", "<html>not found</html>".to_owned()), "undecodable"),
        (Reply::Answer(502, "", String::new()), "undecodable"),
    ] {
        let error = created(reply);
        assert_eq!((error.class, error.code.as_str()), (ErrorClass::Unknown, code), "{error}");
        for hidden in ["http://", "Signature", SECRET, "hush"] {
            assert!(!error.to_string().contains(hidden), "{error}");
        }
    }
    let error = run(client(&stub(vec![ok("gone")]).url, None).delete_entry(&deletion())).unwrap_err();
    assert_eq!((error.class, error.code.as_str()), (ErrorClass::Unknown, "undecodable"), "{error}");
}

#[test]
fn a_request_that_could_not_even_be_sent_had_no_effect() {
    let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let error = run(client(&format!("http://{closed}"), None).create_entry(&creation())).unwrap_err();
    assert_eq!((error.class, error.code.as_str()), (ErrorClass::RetryLater, "connection"), "{error}");
}

/// What is logged while a test runs, on its thread.
fn logged(test: impl FnOnce()) -> String {
    let log: Arc<Mutex<Vec<u8>>> = Arc::default();
    let writer = Arc::clone(&log);
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::DEBUG)
        .with_ansi(false)
        .with_writer(move || Log(Arc::clone(&writer)))
        .finish();
    tracing::subscriber::with_default(subscriber, test);
    String::from_utf8(log.lock().unwrap().clone()).unwrap()
}

struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_call_is_one_span_with_all_that_is_known_of_it_and_is_counted_once() {
    let refusal = r#"{"Code":"OperationConflict","Message":"m","RequestId":"REQ-1"}"#;
    let stub =
        stub(vec![Reply::Answer(409, "", refusal.to_owned()), ok(r#"{"ForwardEntryId":"fwd-1","RequestId":"REQ-2"}"#)]);
    let calls = Arc::new(natgw::cloud::meter::Calls::default());
    let stamp = natgw::machine::identity::Stamp { term: 3, n: 7 };
    let mark = natgw::machine::identity::Mark::new(
        natgw::machine::identity::UidHash::of("cluster"),
        &"pod".into(),
        natgw::machine::identity::AllocationId::from(stamp),
        natgw::machine::identity::Generation::from(stamp),
    );
    let request = CreateEntry { name: mark.to_string(), ..creation() };
    let settings = Settings {
        region: "cn-hangzhou".to_owned(),
        vpc: "vpc-1".to_owned(),
        endpoints: Endpoints::at(&stub.url).unwrap(),
        mutating_timeout: PATIENCE,
        reading_timeout: PATIENCE,
    };
    let key = AccessKey::new("the id".to_owned(), SECRET.to_owned().into(), None).unwrap();
    let clock = Arc::new(|| SystemTime::UNIX_EPOCH + Duration::from_millis(1_456_231_584_900));
    let meter: Arc<natgw::cloud::meter::Calls> = Arc::clone(&calls);
    let cloud = AliyunCloud::metered(settings, Arc::new(StaticKey::new(key)), clock, meter).unwrap();
    let log = logged(|| {
        run(async {
            assert!(cloud.create_entry(&request).await.is_err());
            assert!(cloud.create_entry(&request).await.is_ok());
        });
    });
    let lines: Vec<&str> = log.lines().filter(|line| line.ends_with("called")).collect();
    let [refused, done] = lines.as_slice() else { panic!("{log}") };
    for part in [
        r#"action="CreateForwardEntry""#,
        r#"table="ftb-1""#,
        "generation=3.7",
        r#"request_id="REQ-1""#,
        r#"class="conflict""#,
        r#"code="OperationConflict""#,
        "took_ms=",
    ] {
        assert!(refused.contains(part), "{part} in {refused}");
    }
    assert!(done.contains(r#"request_id="REQ-2""#) && done.contains(r#"class="ok""#), "{done}");
    let snapshot = calls.snapshot();
    let counts: Vec<_> = snapshot.iter().map(|(key, series)| (*key, series.count)).collect();
    assert_eq!(counts, [(("CreateForwardEntry", "conflict"), 1), (("CreateForwardEntry", "ok"), 1)]);
    assert!(snapshot.values().all(|series| series.buckets.iter().sum::<u64>() == 1));
}

#[test]
fn a_code_that_nobody_documents_is_logged_once_with_its_body_and_never_with_a_secret() {
    let body = |code: &str| {
        format!(r#"{{"Code":"{code}","Message":"because of {SECRET} and to%252Bken","RequestId":"REQ","Detail":"d"}}"#)
    };
    let novel = |code: &str| Reply::Answer(400, "", body(code));
    let replies = vec![novel("Novel"), novel("Novel"), novel("Other.Novel"), novel("QuotaExceeded.ForwardEntry")];
    let stub = stub(replies);
    let cloud = client(&stub.url, Some("to+ken"));
    let log = logged(|| {
        run(async {
            for class in [ErrorClass::Unknown, ErrorClass::Unknown, ErrorClass::Unknown, ErrorClass::Quota] {
                let error = cloud.create_entry(&creation()).await.unwrap_err();
                assert_eq!((error.class, error.message.as_str()), (class, "because of [secret] and [secret]"));
            }
        });
    });
    let warned: Vec<&str> = log.lines().filter(|line| line.contains("WARN")).collect();
    let [first, second] = warned.as_slice() else { panic!("{log}") };
    assert!(first.contains("Novel") && first.contains("REQ") && first.contains("Detail"), "{first}");
    assert!(second.contains("Other.Novel"), "{second}");
    assert!(!log.contains(SECRET) && !log.contains("ken\"") && !log.contains("2Bken"), "{log}");
}

/// The policy that operators are told to grant is what the program may call; a ninth action in a ledger is seen.
#[test]
fn the_documented_policy_is_what_may_be_called_and_a_ninth_action_is_seen() {
    assert_eq!(policy::actions(), natgw::cloud::classes::ACTIONS.into_iter().collect());
    let mut vpc = Vpc::new(World::default(), Behaviour::default(), Faults::none(), 0);
    for action in natgw::cloud::classes::ACTIONS.into_iter().chain(["AssumeRoleWithOIDC"]) {
        vpc.note_done(0, action, BTreeMap::new());
    }
    policy::kept(policy::called(vpc.ledger()));
    vpc.note_done(0, "DeleteNatGateway", BTreeMap::new());
    let lines = vpc.take_ledger();
    assert_eq!(policy::others(policy::called(&lines)), ["DeleteNatGateway"].into());
    let kept = std::panic::catch_unwind(|| policy::kept(policy::called(&lines)));
    let said = kept.unwrap_err().downcast::<String>().unwrap();
    assert!(said.contains("DeleteNatGateway"), "{said}");
    // A file is read to the same end.
    let file = tempfile::NamedTempFile::new().unwrap();
    let text: String = lines.iter().map(|line| serde_json::to_string(line).unwrap() + "\n").collect();
    std::fs::write(file.path(), text).unwrap();
    assert!(std::panic::catch_unwind(|| policy::kept_by(file.path())).is_err());
}

/// Every suite in which a simulated cloud is started gives what was called to the policy.
#[test]
fn no_suite_with_a_simulated_cloud_is_left_out() {
    fn sources(folder: &std::path::Path, into: &mut BTreeMap<String, String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, into);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let tests = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
                let suite = path.strip_prefix(tests).unwrap().iter().next().unwrap().to_str().unwrap();
                let suite = suite.trim_end_matches(".rs").to_owned();
                into.entry(suite).or_default().push_str(&std::fs::read_to_string(&path).unwrap());
            }
        }
    }
    let mut suites = BTreeMap::new();
    sources(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests"), &mut suites);
    let starts = ["serve_by(", "Vpc::new(", "\"cloud\", \"--listen\""];
    let with_cloud: BTreeSet<&str> = suites
        .iter()
        .filter(|(_, source)| starts.iter().any(|start| source.contains(start)))
        .map(|(suite, _)| suite.as_str())
        .collect();
    let asks = |suite: &&str| {
        ["policy::kept", "evidence::ledger", "evidence::{ledger"].iter().any(|ask| suites[*suite].contains(ask))
    };
    let asking: BTreeSet<&str> = with_cloud.iter().copied().filter(asks).collect();
    assert_eq!(with_cloud, asking);
    for suite in ["cloud", "cloud_live", "cloud_runs", "cloud_sdk", "cloud_credentials", "cloud_port"] {
        assert!(asking.contains(suite), "{suite}: {asking:?}");
    }
    for suite in ["sandbox", "sandbox_http", "plan", "cluster", "sim"] {
        assert!(asking.contains(suite), "{suite}: {asking:?}");
    }
}
