//! Somebody who stands before the API server and does what networks and overloaded servers do: refuses, loses answers,
//! ends watches, says that a version is too old. It speaks plain HTTP on loopback and forgets nothing that was asked.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::Response;
use futures_util::stream;
use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tokio::sync::{oneshot, watch};

use crate::control_plane::ControlPlane;

/// The longest request: an object of etcd has at most 1.5 MiB.
const REQUEST_BYTES_MAX: usize = 2 << 20;

/// What goes wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Refused with that status, and nothing is done.
    Status(u16),
    /// Done, and the answer is lost.
    LostReply,
    /// Never arrives: the connection ends.
    LostRequest,
    /// A watch that names a version hears that it is too old: 410.
    Expired,
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
    /// What the API server said; 0 where it was not asked.
    pub status: u16,
    pub fault: Option<Fault>,
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
}

impl Proxy {
    pub fn before(plane: &ControlPlane) -> Self {
        let (server, http) = (plane.server().to_owned(), plane.http());
        let (strikes, asked, cut) = (Mutex::default(), Mutex::default(), watch::Sender::new(0));
        let shared = Arc::new(Shared { server, http, strikes, asked, cut });
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

    /// Where it listens.
    pub fn server(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on this goes wrong, too.
    pub fn strike(&self, strike: Strike) {
        self.shared.strikes.lock().unwrap().push(strike);
    }

    /// Ends all watches.
    pub fn cut_watches(&self) {
        self.shared.cut.send_modify(|times| *times += 1);
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
    let mut asked = Asked {
        method: parts.method.clone(),
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        status: 0,
        fault: None,
    };
    asked.fault = shared.struck(&asked);
    let answer = match asked.fault {
        Some(Fault::Status(status)) => refusal(status),
        Some(Fault::Expired) => refusal(410),
        Some(Fault::LostRequest) => broken(),
        fault @ (None | Some(Fault::LostReply)) => {
            let body = to_bytes(body, REQUEST_BYTES_MAX).await.unwrap_or_default();
            match forward(&shared, &parts.method, &parts.uri.to_string(), parts.headers, body.to_vec()).await {
                Ok(response) => {
                    asked.status = response.status().as_u16();
                    if fault.is_some() { broken() } else { carry(&shared, response) }
                }
                Err(_) => broken(),
            }
        }
    };
    shared.asked.lock().unwrap().push(asked);
    answer
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

/// A connection that ends before the answer does.
fn broken() -> Response {
    let lost = stream::iter([Err::<Vec<u8>, _>(std::io::Error::other("lost"))]);
    Response::builder().status(StatusCode::OK).body(Body::from_stream(lost)).unwrap()
}
