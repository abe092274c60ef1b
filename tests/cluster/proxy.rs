//! Somebody who stands before the API server, or the cloud, and does what networks and overloaded servers do: refuses, loses answers,
//! ends watches, says that a version is too old. It speaks plain HTTP on loopback and forgets nothing that was asked.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, header};
use axum::response::Response;
use futures_util::stream;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tokio::sync::{oneshot, watch};

use crate::control_plane::ControlPlane;

/// The longest request: an object of etcd has at most 1.5 MiB.
const REQUEST_BYTES_MAX: usize = 2 << 20;

/// So often that nobody lives to see the end.
pub const FOR_EVER: usize = 1 << 40;

/// What goes wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Refused with that status, and nothing is done.
    Status(u16),
    /// Done, and the connection ends without an answer.
    LostReply,
    /// Never arrives: the connection ends without an answer.
    LostRequest,
    /// A watch that names a version hears that it is too old: 410.
    Expired,
    /// On its way until it is released, whether or not anybody still waits for the answer.
    Held,
}

/// What goes wrong with which requests, how often.
#[derive(Clone, Copy)]
pub struct Strike {
    pub fault: Fault,
    /// The requests that it may strike.
    pub on: fn(&Asked) -> bool,
    /// How many of them.
    pub times: usize,
}

/// One request and what came of it.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: Method,
    pub path: String,
    pub query: String,
    /// What was sent, where it is to change something.
    pub body: Value,
    /// What the API server said; 0 where it was not asked.
    pub status: u16,
    pub fault: Option<Fault>,
    /// UID and resourceVersion of the object as a change left it; empty and 0 where it is not told.
    pub uid: String,
    pub version: u64,
    /// When it was passed on, and when the answer was there.
    pub sent: Instant,
    pub answered: Instant,
}

impl Asked {
    /// It changes something.
    pub fn mutates(&self) -> bool {
        !matches!(self.method, Method::GET | Method::HEAD | Method::OPTIONS)
    }

    /// It is a watch.
    pub fn watches(&self) -> bool {
        self.query.split('&').any(|part| matches!(part, "watch=true" | "watch=1" | "watch"))
    }
}

/// The one who stands there. It goes when this is dropped.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    // Dropped: the server ends.
    _stop: oneshot::Sender<()>,
}

struct Shared {
    server: String,
    http: reqwest::Client,
    strikes: Mutex<Vec<Strike>>,
    asked: Mutex<Vec<Asked>>,
    /// Streams that began before the last change end.
    cut: watch::Sender<u64>,
    /// What is held may go.
    released: watch::Sender<bool>,
}

impl Proxy {
    /// Before the API server.
    pub fn before(plane: &ControlPlane) -> Self {
        Self::standing(plane.server().to_owned(), plane.http())
    }

    /// Before the cloud that listens there.
    pub fn before_cloud(address: &str) -> Self {
        Self::standing(format!("http://{address}"), reqwest::Client::builder().no_proxy().build().unwrap())
    }

    fn standing(server: String, http: reqwest::Client) -> Self {
        let (strikes, asked) = (Mutex::default(), Mutex::default());
        let (cut, released) = (watch::Sender::new(0), watch::Sender::new(false));
        let shared = Arc::new(Shared { server, http, strikes, asked, cut, released });
        let (ready, address) = oneshot::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let router = Router::new().fallback(pass).with_state(Arc::clone(&shared));
        thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                ready.send(listener.local_addr().unwrap()).unwrap();
                tokio::select! {
                    served = axum::serve(listener, router) => served.unwrap(),
                    _ = stopped => {}
                }
            });
        });
        Self { address: address.blocking_recv().unwrap(), shared, _stop: stop }
    }

    /// Host and port at which it listens.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Where it listens.
    pub fn server(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on this goes wrong, too.
    pub fn strike(&self, strike: Strike) {
        self.shared.strikes.lock().unwrap().push(strike);
    }

    /// From now on nothing comes through, and what is under way ends.
    pub fn cut_off(&self) {
        self.strike(Strike { fault: Fault::LostRequest, on: |_| true, times: FOR_EVER });
        self.cut_watches();
    }

    /// Ends all watches.
    pub fn cut_watches(&self) {
        self.shared.cut.send_modify(|times| *times += 1);
    }

    /// Lets go what is held, and what would be.
    pub fn release(&self) {
        self.shared.released.send_replace(true);
    }

    /// How often something is still to go wrong.
    pub fn left(&self) -> usize {
        self.shared.strikes.lock().unwrap().iter().map(|strike| strike.times).sum()
    }

    /// Everything that was asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.shared.asked.lock().unwrap().clone()
    }
}

impl Shared {
    /// The first fault that strikes this request.
    fn struck(&self, asked: &Asked) -> Option<Fault> {
        let mut strikes = self.strikes.lock().unwrap();
        let strike = strikes.iter_mut().find(|strike| strike.times > 0 && (strike.on)(asked))?;
        strike.times -= 1;
        Some(strike.fault)
    }
}

async fn pass(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, REQUEST_BYTES_MAX).await.unwrap_or_default();
    let now = Instant::now();
    let mut asked = Asked {
        method: parts.method.clone(),
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        body: Value::Null,
        status: 0,
        fault: None,
        uid: String::new(),
        version: 0,
        sent: now,
        answered: now,
    };
    if asked.mutates() {
        asked.body = serde_json::from_slice(&body).unwrap_or_default();
    }
    asked.fault = shared.struck(&asked);
    // Whoever asked may be gone before it is through.
    let passed = tokio::spawn(async move { through(&shared, asked, parts, body.to_vec()).await });
    match passed.await.unwrap() {
        Some(answer) => answer,
        // Each connection is a task: with it the connection ends, before any of the answer was sent.
        None => std::panic::resume_unwind(Box::new("lost")),
    }
}

/// Carries a request to where its fault lets it come, and notes what came of it: no answer where one is lost.
async fn through(shared: &Arc<Shared>, mut asked: Asked, parts: Parts, body: Vec<u8>) -> Option<Response> {
    if asked.fault == Some(Fault::Held) {
        let mut released = shared.released.subscribe();
        released.wait_for(|released| *released).await.unwrap();
    }
    let answer = match asked.fault {
        Some(Fault::Status(status)) => Some(refusal(status)),
        Some(Fault::Expired) => Some(refusal(410)),
        Some(Fault::LostRequest) => None,
        fault @ (None | Some(Fault::LostReply | Fault::Held)) => {
            asked.sent = Instant::now();
            let answer = forward(shared, &parts.method, &parts.uri.to_string(), parts.headers, body).await;
            let answer = match answer {
                Ok(response) => {
                    asked.status = response.status().as_u16();
                    if asked.mutates() { whole(&mut asked, response).await } else { Some(carry(shared, response)) }
                }
                Err(_) => None,
            };
            asked.answered = Instant::now();
            answer.filter(|_| fault != Some(Fault::LostReply))
        }
    };
    shared.asked.lock().unwrap().push(asked);
    answer
}

/// The answer to a change: whole, for it tells what the change has made of the object.
async fn whole(asked: &mut Asked, response: reqwest::Response) -> Option<Response> {
    let status = response.status();
    let bytes = response.bytes().await.ok()?;
    let said: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let of = if said["kind"] == "Status" { &said["details"] } else { &said["metadata"] };
    of["uid"].as_str().unwrap_or_default().clone_into(&mut asked.uid);
    asked.version = of["resourceVersion"].as_str().and_then(|version| version.parse().ok()).unwrap_or_default();
    let builder = Response::builder().status(status).header(header::CONTENT_TYPE, "application/json");
    Some(builder.body(Body::from(bytes)).unwrap())
}

async fn forward(
    shared: &Shared,
    method: &Method,
    target: &str,
    mut headers: HeaderMap,
    body: Vec<u8>,
) -> reqwest::Result<reqwest::Response> {
    for name in [header::HOST, header::CONNECTION, header::CONTENT_LENGTH, header::TRANSFER_ENCODING] {
        headers.remove(name);
    }
    let request = shared.http.request(method.clone(), format!("{}{target}", shared.server)).headers(headers);
    request.body(body).send().await
}

/// The answer as it comes, until somebody ends it.
fn carry(shared: &Shared, response: reqwest::Response) -> Response {
    let mut builder = Response::builder().status(response.status());
    for (name, value) in response.headers() {
        if *name != header::TRANSFER_ENCODING && *name != header::CONNECTION && *name != header::CONTENT_LENGTH {
            builder = builder.header(name, value);
        }
    }
    let mut cut = shared.cut.subscribe();
    cut.mark_unchanged();
    let body = stream::unfold((response, cut), |(mut response, mut cut)| async move {
        let chunk = tokio::select! {
            chunk = response.chunk() => chunk,
            _ = cut.changed() => Ok(None),
        };
        chunk.transpose().map(|chunk| (chunk, (response, cut)))
    });
    builder.body(Body::from_stream(body)).unwrap()
}

/// A Status as the API server writes it.
fn refusal(status: u16) -> Response {
    let reason = match status {
        410 => "Expired",
        429 => "TooManyRequests",
        _ => "InternalError",
    };
    let body = serde_json::json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "made to go wrong", "reason": reason, "code": status,
    });
    let mut builder = Response::builder().status(status).header(header::CONTENT_TYPE, "application/json");
    if status == 429 {
        builder = builder.header(header::RETRY_AFTER, "1");
    }
    builder.body(Body::from(body.to_string())).unwrap()
}
