//! The adapter to Kubernetes against an API server that says what a test wants it to: what a real one says only rarely.
#![cfg(feature = "adapters")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "what is missing is a failed test")]

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use futures_util::future::ready;
use futures_util::stream::{Stream, StreamExt as _, iter, once, pending};
use natgw::cluster::api::{Fence, Timeouts};
use natgw::cluster::client::{KubeCluster, Settings};
use natgw::cluster::watch::{Change, ClusterWatch};
use natgw::machine::identity::PodKey;
use natgw::ports::cluster::{Cluster as _, ClusterErrorClass, Lease as _, LeaseRecord, Mapping, PodMark};
use serde_json::{Value, json};
use tokio::sync::Notify;

const PODS: &str = "/api/v1/pods";
const CLAIMS: &str = "/apis/alibabacloud.com/v1beta1/poddnats";
const NAMESPACES: &str = "/api/v1/namespaces";
const NODES: &str = "/api/v1/nodes";
const CLAIM: &str = "/apis/alibabacloud.com/v1beta1/namespaces/default/poddnats/a";
const CLAIMS_OF: &str = "/apis/alibabacloud.com/v1beta1/namespaces/default/poddnats";
const POD: &str = "/api/v1/namespaces/default/pods/a";
const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const CRD: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/poddnats.alibabacloud.com";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/default/leases";

/// Far beyond what anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long a call may take: as short as a busy machine allows, for one test waits for its end.
const CALL: Duration = Duration::from_secs(2);

/// What the server says to one request.
enum Say {
    Json(u16, Value),
    /// Events of a watch, which then ends, or stays open for ever.
    Events(Vec<Value>, bool),
    /// Events of a watch that come when the test lets them.
    Later(Arc<Notify>, Vec<Value>),
    Nothing,
}

/// The server: what it is to say, by method and path, and what it was asked.
#[derive(Clone, Default)]
struct Server(Arc<Script>);

#[derive(Default)]
struct Script {
    says: Mutex<BTreeMap<(String, String), VecDeque<Say>>>,
    asked: Mutex<Vec<(String, String, Value)>>,
}

impl Server {
    fn say(&self, method: &str, path: &str, say: Say) -> &Self {
        let key = (method.to_owned(), path.to_owned());
        self.0.says.lock().unwrap().entry(key).or_default().push_back(say);
        self
    }

    fn list(&self, path: &str, version: &str, items: &[Value]) -> &Self {
        self.say("GET", path, Say::Json(200, json!({ "metadata": { "resourceVersion": version }, "items": items })))
    }

    fn watch(&self, path: &str, events: Vec<Value>, stays: bool) -> &Self {
        self.say("WATCH", path, Say::Events(events, stays))
    }

    /// Queries and bodies of the requests to a path.
    fn asked(&self, method: &str, path: &str) -> Vec<(String, Value)> {
        let asked = self.0.asked.lock().unwrap();
        let (method, path) = (method.to_owned(), format!("{path}?"));
        let these = asked.iter().filter(|(of, target, _)| *of == method && format!("{target}?").starts_with(&path));
        these.map(|(_, target, body)| (target.clone(), body.clone())).collect()
    }

    async fn cluster(&self, fence: Option<Fence>) -> KubeCluster {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = Router::new().fallback(answer).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        let kubeconfig = tempfile::NamedTempFile::new().unwrap();
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "t",
            "clusters": [{ "name": "t", "cluster": { "server": format!("http://{address}") } }],
            "users": [{ "name": "t", "user": { "token": "t" } }],
            "contexts": [{ "name": "t", "context": { "cluster": "t", "user": "t" } }],
        });
        std::fs::write(kubeconfig.path(), config.to_string()).unwrap();
        let settings = Settings {
            lease_namespace: None,
            lease_name: "natgw".to_owned(),
            timeouts: Timeouts { mutating: CALL, reading: CALL },
            fence,
            clock: Arc::new(|| SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)),
        };
        KubeCluster::connect(Some(kubeconfig.path()), settings).await.unwrap()
    }
}

async fn answer(State(server): State<Server>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let target = parts.uri.path_and_query().unwrap().as_str().to_owned();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let watch = target.contains("watch=true");
    let method = if watch && parts.method == Method::GET { "WATCH" } else { parts.method.as_str() }.to_owned();
    let body = serde_json::from_slice(&body).unwrap_or_default();
    server.0.asked.lock().unwrap().push((method.clone(), target, body));
    let key = (method, parts.uri.path().to_owned());
    let say = server.0.says.lock().unwrap().get_mut(&key).and_then(VecDeque::pop_front);
    match say {
        Some(Say::Json(code, value)) => (StatusCode::from_u16(code).unwrap(), value.to_string()).into_response(),
        Some(Say::Events(events, true)) => Body::from_stream(lines(events).chain(pending())).into_response(),
        Some(Say::Events(events, false)) => Body::from_stream(lines(events)).into_response(),
        Some(Say::Later(gate, events)) => {
            let opened = once(async move { gate.notified().await }).filter_map(|()| ready(None));
            Body::from_stream(opened.chain(lines(events)).chain(pending())).into_response()
        }
        Some(Say::Nothing) => std::future::pending().await,
        // Nothing changes where a test does not say so.
        None if watch => Body::from_stream(pending::<Line>()).into_response(),
        None => (StatusCode::INTERNAL_SERVER_ERROR, status(500, "InternalError", "").to_string()).into_response(),
    }
}

type Line = Result<Bytes, std::io::Error>;

fn lines(events: Vec<Value>) -> impl Stream<Item = Line> {
    iter(events.into_iter().map(|event| Ok(Bytes::from(format!("{event}\n")))))
}

/// A `Status`, of an object where it has a name.
fn status(code: u16, reason: &str, name: &str) -> Value {
    let mut status = json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason,
                             "message": format!("{reason} of a test"), "metadata": {} });
    if !name.is_empty() {
        status["details"] = json!({ "name": name });
    }
    status
}

fn metadata(name: &str, version: &str) -> Value {
    json!({ "name": name, "namespace": "default", "uid": format!("u-{name}"), "resourceVersion": version,
            "annotations": { "k8s.aliyun.com/pod-dnat": "true" } })
}

fn pod(name: &str, version: &str) -> Value {
    json!({ "metadata": metadata(name, version), "spec": {}, "status": { "podIP": "172.16.0.9", "phase": "Running" } })
}

fn claim(name: &str, version: &str) -> Value {
    let mut claim = json!({ "apiVersion": "alibabacloud.com/v1beta1", "kind": "PodDNAT", "metadata": metadata(name, version),
                            "spec": { "eni": version } });
    claim["metadata"]["finalizers"] = json!(["natgw-controller"]);
    claim
}

fn event(kind: &str, object: Value) -> Value {
    json!({ "type": kind, "object": object })
}

fn bookmark(version: &str) -> Value {
    event("BOOKMARK", json!({ "kind": "Pod", "apiVersion": "v1", "metadata": { "resourceVersion": version } }))
}

/// A server with nothing in it but what the watches need.
fn empty() -> Server {
    let server = Server::default();
    server.list(NAMESPACES, "1", &[]).list(NODES, "1", &[]);
    server
}

/// The next changes in words.
async fn changes(watch: &mut ClusterWatch, count: usize) -> Vec<String> {
    let mut words = Vec::new();
    let all = async {
        while words.len() < count {
            watch.wait().await;
            words.extend(watch.take().unwrap().iter().map(word));
        }
    };
    if tokio::time::timeout(PATIENCE, all).await.is_err() {
        panic!("no {count} changes came, only {words:?}");
    }
    words
}

fn word(change: &Change) -> String {
    match change {
        Change::Pod(pod) => format!("pod {}", pod.name),
        Change::PodGone(gone) => format!("no pod {}", gone.uid),
        Change::Claim(claim) if claim.lacks > 0 => format!("claim {} that lacks {}", claim.name, claim.lacks),
        Change::Claim(claim) => format!("claim {} at {}", claim.name, claim.resource_version),
        Change::ClaimGone(gone) => format!("no claim {}", gone.name),
    }
}

fn mapping() -> Mapping {
    Mapping {
        key: PodKey::new("default", "a"),
        pod: "u-a".into(),
        allocation: (1, 1).into(),
        fixed: false,
        gateway: "ngw-1".into(),
        table: "ftb-1".into(),
        eip: [203, 0, 113, 1].into(),
        ip: [172, 16, 0, 9].into(),
        eni: "eni-1".into(),
        vswitch: "vsw-1".into(),
        zone: "z".into(),
        items: Vec::new(),
        owner: None,
        absent_since_wall_ms: None,
        adopted: natgw::ports::cluster::Adopted::default(),
        releasing: Vec::new(),
    }
}

fn mark() -> PodMark {
    PodMark {
        key: PodKey::new("default", "a"),
        pod: "u-a".into(),
        phase: Some("Ready"),
        reason: "Ready",
        message: String::new(),
        address: None,
        ready: None,
        warning: false,
    }
}

#[tokio::test]
async fn a_paged_list_is_followed_by_a_watch_that_goes_on_from_what_it_told_last() {
    let server = empty();
    server.list(CLAIMS, "5", &[]);
    let page = json!({ "metadata": { "resourceVersion": "5", "continue": "t=" }, "items": [pod("a", "3")] });
    server.say("GET", PODS, Say::Json(200, page)).list(PODS, "5", &[pod("b", "4")]);
    server.watch(PODS, vec![event("MODIFIED", pod("a", "6")), bookmark("9")], false);
    server.watch(PODS, vec![event("DELETED", pod("b", "10")), event("ADDED", pod("c", "11"))], true);
    let cluster = server.cluster(None).await;
    let mut watch = cluster.watch();
    assert_eq!(changes(&mut watch, 5).await, ["pod a", "pod b", "pod a", "no pod u-b", "pod c"]);
    assert!(cluster.is_watched());
    let lists = server.asked("GET", PODS);
    assert!(!lists[0].0.contains("resourceVersion"), "the first page is of the store, not of a cache");
    assert!(lists[1].0.contains("continue=t%3D"), "{lists:?}");
    let watches = server.asked("WATCH", PODS);
    let from = |index: usize| watches[index].0.split("&resourceVersion=").nth(1).unwrap().to_owned();
    assert_eq!((from(0), from(1)), ("5".to_owned(), "9".to_owned()));
}

#[tokio::test]
async fn a_version_that_is_too_old_leads_to_a_list_and_what_it_misses_has_gone() {
    let server = empty();
    server.list(CLAIMS, "5", &[claim("a", "2"), claim("b", "3")]).list(PODS, "5", &[]);
    server.watch(CLAIMS, vec![event("ERROR", status(410, "Expired", ""))], false);
    server.list(CLAIMS, "20", &[claim("b", "3"), claim("c", "15")]);
    // The watch itself may be refused, too.
    server.say("WATCH", CLAIMS, Say::Json(410, status(410, "Expired", ""))).list(CLAIMS, "30", &[claim("c", "15")]);
    let cluster = server.cluster(None).await;
    let mut watch = cluster.watch();
    let told = changes(&mut watch, 7).await;
    let expected =
        ["claim a at 2", "claim b at 3", "claim b at 3", "claim c at 15", "no claim a", "claim c at 15", "no claim b"];
    assert_eq!(told, expected);
}

#[tokio::test]
async fn a_page_that_cannot_be_continued_begins_the_list_anew() {
    let server = empty();
    server.list(CLAIMS, "5", &[]);
    let page = json!({ "metadata": { "resourceVersion": "5", "continue": "t" }, "items": [pod("a", "3")] });
    server.say("GET", PODS, Say::Json(200, page.clone())).say("GET", PODS, Say::Json(410, status(410, "Expired", "")));
    server.say("GET", PODS, Say::Json(500, status(500, "InternalError", ""))).list(PODS, "9", &[pod("b", "8")]);
    let cluster = server.cluster(None).await;
    assert_eq!(changes(&mut cluster.watch(), 3).await, ["pod a", "pod b", "no pod u-a"]);
    // The same within one listing for the controller.
    server.list(NAMESPACES, "1", &[]).list(NODES, "1", &[]);
    server.say("GET", PODS, Say::Json(200, page)).say("GET", PODS, Say::Json(410, status(410, "Expired", "")));
    server.list(PODS, "12", &[pod("b", "8"), pod("c", "11")]);
    let names: Vec<_> = cluster.list_pods().await.unwrap().into_iter().map(|pod| pod.name).collect();
    assert_eq!(names, ["b", "c"]);
}

#[tokio::test]
async fn news_that_are_older_than_a_list_or_a_write_are_dropped() {
    let server = empty();
    server.list(PODS, "5", &[pod("a", "3")]).list(CLAIMS, "5", &[]);
    let late = vec![
        event("MODIFIED", pod("a", "7")),
        event("ADDED", pod("b", "9")),
        event("DELETED", pod("a", "10")),
        event("MODIFIED", pod("b", "18")),
        event("ADDED", pod("c", "30")),
    ];
    let (pods, claims) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    server.say("WATCH", PODS, Say::Later(Arc::clone(&pods), late));
    let late = vec![event("ADDED", claim("a", "24")), event("MODIFIED", claim("a", "26"))];
    server.say("WATCH", CLAIMS, Say::Later(Arc::clone(&claims), late));
    let cluster = server.cluster(None).await;
    let mut watch = cluster.watch();
    assert_eq!(changes(&mut watch, 1).await, ["pod a"]);
    // A listing beside the watch: a has gone, b is at 18.
    server.list(NAMESPACES, "1", &[]).list(NODES, "1", &[]).list(PODS, "20", &[pod("b", "18")]);
    assert_eq!(cluster.list_pods().await.unwrap().len(), 1);
    pods.notify_one();
    assert_eq!(changes(&mut watch, 3).await, ["no pod u-a", "pod b", "pod c"], "and neither a at 7 nor b at 9");
    // A write beside the watch.
    server.say("POST", CLAIMS_OF, Say::Json(201, claim("a", "25")));
    assert_eq!(cluster.create_claim(&mapping()).await.unwrap().resource_version, "25");
    claims.notify_one();
    assert_eq!(changes(&mut watch, 1).await, ["claim a at 26"]);
}

#[tokio::test]
async fn a_listing_never_shows_less_of_a_poddnat_than_a_write_was_answered_with() {
    let server = empty();
    let cluster = server.cluster(None).await;
    server.say("POST", CLAIMS_OF, Say::Json(201, claim("a", "25")));
    cluster.create_claim(&mapping()).await.unwrap();
    server.list(CLAIMS, "20", &[claim("a", "15"), claim("b", "16")]).say(
        "GET",
        CLAIM,
        Say::Json(200, claim("a", "26")),
    );
    let listed = cluster.list_claims().await.unwrap();
    let versions: Vec<_> = listed.iter().map(|claim| claim.resource_version.as_str()).collect();
    assert_eq!(versions, ["26", "16"]);
}

#[tokio::test]
async fn a_cluster_that_was_set_back_ends_the_watches() {
    let server = empty();
    let cluster = server.cluster(None).await;
    let mut watch = cluster.watch();
    server.list(CLAIMS, "20", &[]).list(CLAIMS, "20", &[]).list(CLAIMS, "19", &[]);
    for _ in 0..2 {
        cluster.list_claims().await.unwrap();
        assert_eq!(watch.take().map(|changes| changes.len()), Ok(0));
    }
    cluster.list_claims().await.unwrap();
    assert!(watch.take().is_err());
}

#[tokio::test]
async fn pods_of_a_namespace_that_begins_to_go_are_shown_again() {
    let server = empty();
    server.list(PODS, "5", &[pod("a", "3")]).list(CLAIMS, "5", &[]);
    server.list("/api/v1/namespaces/default/pods", "8", &[pod("a", "3")]);
    let mut namespace = metadata("default", "7");
    namespace["deletionTimestamp"] = json!("2026-11-22T00:00:00Z");
    server.watch(NAMESPACES, vec![event("MODIFIED", json!({ "metadata": namespace }))], true);
    let cluster = server.cluster(None).await;
    let mut watch = cluster.watch();
    let mut terminating = false;
    let seen = async {
        while !terminating {
            watch.wait().await;
            let taken = watch.take().unwrap();
            terminating = taken.iter().any(|change| matches!(change, Change::Pod(pod) if pod.namespace_terminating));
        }
    };
    tokio::time::timeout(PATIENCE, seen).await.unwrap();
}

#[tokio::test]
async fn a_definition_that_keeps_more_shows_poddnats_again_for_what_they_lack() {
    let rich = natgw::cluster::crd::definition();
    let mut poor = rich.clone();
    for version in poor["spec"]["versions"].as_array_mut().unwrap() {
        let status =
            version["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"].as_object_mut().unwrap();
        assert!(status.remove("conditions").is_some() && status.remove("externalAddress").is_some());
    }
    let mut mapped = claim("a", "3");
    mapped["metadata"]["annotations"]["k8s.aliyun.com/pod-dnat-claim"] = json!(
        r#"{"allocation":"1.1","term":1,"podUID":"u","fixed":false,"gateway":"g","table":"t","items":[{"external":512,"internal":80,"protocol":"tcp","generation":"1.2","portBreak":false}],"releasing":[]}"#
    );
    mapped["spec"] = json!({
        "externalIP": "203.0.113.7", "internalIP": "172.16.0.9", "protocol": "tcp", "tableId": "g",
        "portMapping": [{ "externalPort": "512", "internalPort": "80" }],
    });
    mapped["status"] = json!({ "entries": [{
        "externalIP": "203.0.113.7", "externalPort": "512", "forwardEntryId": "fwd-1",
        "internalIP": "172.16.0.9", "internalPort": "80", "ipProtocol": "tcp",
    }] });
    let server = empty();
    let applied = Arc::new(Notify::new());
    server.list(PODS, "5", &[]).list(CLAIMS, "5", &[mapped.clone()]).list(CLAIMS, "8", &[mapped]);
    server.say("GET", CRD, Say::Json(200, poor.clone())).list(CRDS, "5", &[poor]);
    server.say("WATCH", CRDS, Say::Later(Arc::clone(&applied), vec![event("MODIFIED", rich)]));
    let cluster = server.cluster(None).await;
    cluster.examine().await.unwrap();
    let mut watch = cluster.watch();
    assert_eq!(changes(&mut watch, 1).await, ["claim a at 3"], "nothing is missed that would be pruned");
    applied.notify_one();
    assert_eq!(changes(&mut watch, 1).await, ["claim a that lacks 1"]);
    assert!(server.asked("WATCH", CRDS)[0].0.contains("fieldSelector=metadata.name%3Dpoddnats.alibabacloud.com"));
}

#[tokio::test]
async fn a_mark_is_written_over_what_was_shown_of_its_pod() {
    let server = empty();
    server.list(PODS, "5", &[pod("a", "3")]).list(CLAIMS, "5", &[]);
    let cluster = server.cluster(None).await;
    let mut watch = cluster.watch();
    assert_eq!(changes(&mut watch, 1).await, ["pod a"]);
    server.say("PATCH", POD, Say::Json(200, pod("a", "7")));
    cluster.mark_pod(&mark()).await.unwrap();
    server.say("PATCH", POD, Say::Json(409, status(409, "Conflict", "a")));
    assert_eq!(cluster.mark_pod(&mark()).await.unwrap_err().class, ClusterErrorClass::Conflict);
    let over: Vec<_> =
        server.asked("PATCH", POD).iter().map(|(_, body)| body["metadata"]["resourceVersion"].clone()).collect();
    assert_eq!(over, ["3", "7"], "what was shown, and then what the first was answered with");
}

#[tokio::test]
async fn what_may_be_concluded_from_the_end_of_a_write() {
    let server = empty();
    let cluster = server.cluster(None).await;
    let ended = async |say: Say| {
        server.say("POST", CLAIMS_OF, say);
        cluster.create_claim(&mapping()).await.unwrap_err().class
    };
    let refused = |code, reason| Say::Json(code, status(code, reason, "a"));
    assert_eq!(ended(refused(409, "AlreadyExists")).await, ClusterErrorClass::AlreadyExists);
    assert_eq!(ended(refused(403, "Forbidden")).await, ClusterErrorClass::Refused);
    assert_eq!(ended(refused(429, "TooManyRequests")).await, ClusterErrorClass::Busy);
    assert_eq!(ended(refused(503, "ServiceUnavailable")).await, ClusterErrorClass::Unknown);
    assert_eq!(ended(Say::Json(201, json!("not an object"))).await, ClusterErrorClass::Unknown);
    assert_eq!(ended(Say::Nothing).await, ClusterErrorClass::Unknown, "no answer in time");
    assert_eq!(server.asked("POST", CLAIMS_OF).len(), 6, "nothing is sent twice");
    let (target, _) = &server.asked("POST", CLAIMS_OF)[0];
    assert!(target.contains("fieldManager=natgw"), "{target}");
}

#[tokio::test]
async fn writes_go_over_what_was_found_and_nothing_else() {
    let server = empty();
    let cluster = server.cluster(None).await;
    let key = PodKey::new("default", "a");
    server.say("GET", CLAIM, Say::Json(200, claim("a", "7")));
    let found = cluster.read_claim(&key).await.unwrap().unwrap();
    server.say("PUT", CLAIM, Say::Json(200, claim("a", "8")));
    let replaced = cluster.replace_claim(&mapping(), &found).await.unwrap();
    let (_, sent) = &server.asked("PUT", CLAIM)[0];
    assert_eq!((&sent["metadata"]["resourceVersion"], &sent["metadata"]["uid"]), (&json!("7"), &json!("u-a")));
    assert_eq!(sent["metadata"]["annotations"]["k8s.aliyun.com/pod-dnat"], "true", "what others wrote stays");
    // What was found is no more what stands.
    server.say("GET", CLAIM, Say::Json(200, claim("a", "9")));
    let stale = cluster.strip_finalizer(&key, &found).await.unwrap_err();
    assert_eq!(stale.class, ClusterErrorClass::Conflict);
    assert_eq!(replaced.resource_version, "8");
    // Deleted by UID; what has gone or is another is nobody's business.
    for (code, reason) in [(404, "NotFound"), (409, "Conflict")] {
        server.say("DELETE", CLAIM, Say::Json(code, status(code, reason, "a")));
        cluster.delete_claim(&key, "u-a").await.unwrap();
    }
    assert_eq!(server.asked("DELETE", CLAIM)[0].1["preconditions"]["uid"], "u-a");
    // A path that is not served says nothing of the object.
    server.say("GET", CLAIM, Say::Json(404, status(404, "NotFound", "")));
    assert_eq!(cluster.read_claim(&key).await.unwrap_err().class, ClusterErrorClass::Busy);
    server.say("GET", CLAIM, Say::Json(404, status(404, "NotFound", "a")));
    assert_eq!(cluster.read_claim(&key).await.unwrap(), None);
}

#[tokio::test]
async fn a_mark_is_bound_to_its_pod() {
    let server = empty();
    let cluster = server.cluster(None).await;
    server.say("PATCH", POD, Say::Json(200, pod("a", "7")));
    cluster.mark_pod(&mark()).await.unwrap();
    assert_eq!(server.asked("PATCH", POD)[0].1["metadata"]["uid"], "u-a");
    let mut other = status(422, "Invalid", "a");
    other["details"]["causes"] = json!([{ "field": "metadata.uid", "reason": "FieldValueInvalid" }]);
    server.say("PATCH", POD, Say::Json(422, other));
    assert_eq!(cluster.mark_pod(&mark()).await.unwrap_err().class, ClusterErrorClass::Gone);
    server.say("PATCH", POD, Say::Json(422, status(422, "Invalid", "a")));
    assert_eq!(cluster.mark_pod(&mark()).await.unwrap_err().class, ClusterErrorClass::Refused);
}

#[tokio::test]
async fn behind_the_fence_nothing_is_sent_but_the_lock() {
    let server = empty();
    let fence = Fence::default();
    let cluster = server.cluster(Some(fence.clone())).await;
    assert_eq!(cluster.mark_pod(&mark()).await.unwrap_err().class, ClusterErrorClass::Busy);
    fence.set(Some(tokio::time::Instant::now() + PATIENCE));
    server.say("PATCH", POD, Say::Json(200, pod("a", "7")));
    cluster.mark_pod(&mark()).await.unwrap();
    fence.set(tokio::time::Instant::now().checked_sub(Duration::from_millis(1)));
    assert_eq!(cluster.mark_pod(&mark()).await.unwrap_err().class, ClusterErrorClass::Busy);
    let (record, lock) = (LeaseRecord { holder: "h".to_owned(), ..LeaseRecord::default() }, LEASES);
    server.say("POST", lock, Say::Json(201, json!({ "metadata": { "name": "natgw", "resourceVersion": "4" } })));
    assert_eq!(cluster.write_lease(&record).await.unwrap().resource_version, "4");
    assert_eq!(server.asked("PATCH", POD).len(), 1);
}

#[tokio::test]
async fn the_lock_is_compared_and_swapped() {
    let server = empty();
    let cluster = server.cluster(None).await;
    let path = format!("{LEASES}/natgw");
    server.say("GET", &path, Say::Json(404, status(404, "NotFound", "natgw")));
    assert_eq!(cluster.read_lease().await.unwrap(), LeaseRecord::default());
    server.say("POST", LEASES, Say::Json(409, status(409, "AlreadyExists", "natgw")));
    let record = LeaseRecord { holder: "h".to_owned(), term: 3, duration_ms: 3_000, ..LeaseRecord::default() };
    assert_eq!(cluster.write_lease(&record).await.unwrap_err().class, ClusterErrorClass::Conflict);
    // No Namespace: to ask again at once would be no use to anybody.
    server.say("POST", LEASES, Say::Json(404, status(404, "NotFound", "default")));
    assert_eq!(cluster.write_lease(&record).await.unwrap_err().class, ClusterErrorClass::Refused);
    let over = LeaseRecord { resource_version: "7".to_owned(), ..record };
    for (code, reason, class) in [
        (409, "Conflict", ClusterErrorClass::Conflict),
        (404, "NotFound", ClusterErrorClass::Conflict),
        (500, "InternalError", ClusterErrorClass::Unknown),
    ] {
        server.say("PUT", &path, Say::Json(code, status(code, reason, "natgw")));
        assert_eq!(cluster.write_lease(&over).await.unwrap_err().class, class, "{code}");
    }
    let (_, sent) = &server.asked("PUT", &path)[0];
    assert_eq!((&sent["metadata"]["resourceVersion"], &sent["spec"]["holderIdentity"]), (&json!("7"), &json!("h")));
    assert_eq!(sent["spec"]["renewTime"], "2023-11-14T22:13:20.000000Z");
}
