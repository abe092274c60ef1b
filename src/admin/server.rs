//! The server: a thread, a runtime and a router of its own.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::stream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::timeout;

use super::asks::{Ask, Cursor, Export, Piece, Published};

/// How long the controller's thread may take to answer: below the scrape time-out that Prometheus has by default, 10 s.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// States and exports that are written at once: each holds memory, or keeps a journal from being pruned.
const LONG_ANSWERS_MAX: usize = 2;

/// Pieces of an export that wait for the client: 16 of at most 64 KiB.
const PIECES_MAX: usize = 16;

/// Bytes of a piece of an export.
const PIECE_BYTES: usize = 64 * 1024;

/// A client that takes no byte for this long loses its export.
const STALLED_MAX: Duration = Duration::from_secs(60);

/// Why nothing is served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address cannot be had.
    #[error("NATGW-ADMIN: {address} cannot be listened on, so nothing was started; give --admin another address")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The system gives no thread, or no runtime on it.
    #[error("NATGW-ADMIN: the admin server cannot be given a thread, so nothing was started; check the limits")]
    Thread(#[source] io::Error),
}

/// A server that listens. Dropped, it ends.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    _stop: oneshot::Sender<()>,
}

impl Server {
    /// Listens, from now on and on a thread of its own. Port 0 takes a free one.
    ///
    /// # Errors
    /// Fails when the address cannot be had, or no thread.
    pub fn bind(address: SocketAddr, published: Published) -> Result<Self, Error> {
        let bind = |source| Error::Bind { address, source };
        let listener = std::net::TcpListener::bind(address).map_err(bind)?;
        listener.set_nonblocking(true).map_err(bind)?;
        let address = listener.local_addr().map_err(bind)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Thread)?;
        let (stop, stopped) = oneshot::channel::<()>();
        let work = move || {
            if let Err(error) = runtime.block_on(serve(listener, router(published), stopped)) {
                tracing::error!("the admin server ended: {error}");
            }
            // An export may be under way in a thread of the runtime; nobody waits for it.
            runtime.shutdown_background();
        };
        std::thread::Builder::new().name("admin".to_owned()).spawn(work).map_err(Error::Thread)?;
        Ok(Self { address, _stop: stop })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

#[derive(Clone)]
struct Admin {
    published: Published,
    long_answers: Arc<Semaphore>,
}

async fn serve(listener: std::net::TcpListener, app: Router, stopped: oneshot::Receiver<()>) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let service = app.into_make_service_with_connect_info::<SocketAddr>();
    tokio::select! {
        served = async { axum::serve(listener, service).await } => served,
        _ = stopped => Ok(()),
    }
}

fn router(published: Published) -> Router {
    let admin = Admin { published, long_answers: Arc::new(Semaphore::new(LONG_ANSWERS_MAX)) };
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/leader", get(leader))
        .route("/metrics", get(metrics))
        .route("/state", get(state))
        .route("/journal", get(journal))
        .with_state(admin)
}

async fn healthz(State(admin): State<Admin>) -> Response {
    verdict(admin.published.illness())
}

async fn readyz(State(admin): State<Admin>) -> Response {
    verdict(admin.published.unreadiness())
}

async fn leader(State(admin): State<Admin>) -> Response {
    let (leads, term) = admin.published.leads();
    let status = if leads { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, [(header::CONTENT_TYPE, JSON)], format!("{{\"leads\":{leads},\"term\":{term}}}\n")).into_response()
}

const JSON: &str = "application/json";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const JSON_LINES: &str = "application/x-ndjson";

async fn metrics(State(admin): State<Admin>) -> Response {
    let (reply, answer) = oneshot::channel();
    match asked(&admin.published, Ask::Metrics(reply), answer).await {
        Ok(encode) => ([(header::CONTENT_TYPE, OPEN_METRICS)], encode()).into_response(),
        Err(refused) => refused,
    }
}

/// The document is written piece by piece, each asked for when the one before has gone: no piece holds up the loop, and
/// nothing is kept for a client that does not read.
async fn state(State(admin): State<Admin>, ConnectInfo(peer): ConnectInfo<SocketAddr>, headers: HeaderMap) -> Response {
    let permit = match admin.long_answer(peer, &headers) {
        Ok(permit) => permit,
        Err(refused) => return refused.into_response(),
    };
    let first = match piece(&admin.published, None).await {
        Ok(first) => first,
        Err(refused) => return refused,
    };
    let document = Document {
        published: admin.published,
        next: Next::Piece(first),
        section: None,
        is_empty: true,
        _permit: permit,
    };
    let body = Body::from_stream(stream::unfold(document, Document::go_on));
    ([(header::CONTENT_TYPE, JSON)], body).into_response()
}

async fn journal(
    State(admin): State<Admin>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
) -> Response {
    let permit = match admin.long_answer(peer, &headers) {
        Ok(permit) => permit,
        Err(refused) => return refused.into_response(),
    };
    let Some(export) = admin.published.export() else { return unanswered() };
    let Ok(Ok(export)) = timeout(ANSWER_MAX, export).await else { return unanswered() };
    let (pieces, taken) = mpsc::channel(PIECES_MAX);
    tokio::task::spawn_blocking(move || write_export(export, pieces, permit));
    let body = Body::from_stream(stream::unfold(taken, async |mut taken| Some((taken.recv().await?, taken))));
    ([(header::CONTENT_TYPE, JSON_LINES)], body).into_response()
}

/// Why a question is not answered.
type Refused = (StatusCode, String);

impl Admin {
    /// Leave to give a long answer to this peer.
    fn long_answer(&self, peer: SocketAddr, headers: &HeaderMap) -> Result<OwnedSemaphorePermit, Refused> {
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        if !is_this_host(peer.ip()) || !host.is_none_or(names_this_host) {
            let reason = "NATGW-ADMIN-LOOPBACK: this is answered on this host only; use kubectl port-forward\n";
            return Err((StatusCode::FORBIDDEN, reason.to_owned()));
        }
        Arc::clone(&self.long_answers).try_acquire_owned().map_err(|_| {
            let reason =
                format!("NATGW-ADMIN-BUSY: {LONG_ANSWERS_MAX} of these are being written already; try again\n");
            (StatusCode::SERVICE_UNAVAILABLE, reason)
        })
    }
}

/// Exactly the two addresses: a proxy beside us may call from others of 127.0.0.0/8 on behalf of anybody.
pub(super) fn is_this_host(peer: IpAddr) -> bool {
    peer.to_canonical() == Ipv4Addr::LOCALHOST || peer == Ipv6Addr::LOCALHOST
}

/// Whether a `Host` header names this host, whatever the port.
pub(super) fn names_this_host(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        Some(_) | None => host,
    };
    ["localhost", "127.0.0.1", "[::1]"].iter().any(|ours| name.eq_ignore_ascii_case(ours))
}

fn verdict(fault: Option<String>) -> Response {
    match fault {
        None => "ok\n".into_response(),
        Some(fault) => (StatusCode::SERVICE_UNAVAILABLE, format!("{fault}\n")).into_response(),
    }
}

async fn asked<T>(published: &Published, ask: Ask, answer: oneshot::Receiver<T>) -> Result<T, Response> {
    published.ask(ask).map_err(|busy| (StatusCode::SERVICE_UNAVAILABLE, format!("{busy}\n")).into_response())?;
    match timeout(ANSWER_MAX, answer).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(_)) | Err(_) => Err(unanswered()),
    }
}

fn unanswered() -> Response {
    let reason = "NATGW-ADMIN-UNANSWERED: the controller does not answer: it is starting, ending, or stuck\n";
    (StatusCode::SERVICE_UNAVAILABLE, reason).into_response()
}

async fn piece(published: &Published, cursor: Option<Cursor>) -> Result<Piece, Response> {
    let (reply, answer) = oneshot::channel();
    asked(published, Ask::State(cursor, reply), answer).await
}

/// The document of a state, as far as it was written.
struct Document {
    published: Published,
    next: Next,
    /// The section that is open.
    section: Option<&'static str>,
    /// It has no row yet.
    is_empty: bool,
    _permit: OwnedSemaphorePermit,
}

enum Next {
    Piece(Piece),
    Cursor(Cursor),
    Nothing,
}

impl Document {
    async fn go_on(mut self) -> Option<(io::Result<Bytes>, Self)> {
        let piece = match std::mem::replace(&mut self.next, Next::Nothing) {
            Next::Piece(piece) => piece,
            Next::Cursor(cursor) => match piece(&self.published, Some(cursor)).await {
                Ok(piece) => piece,
                // The connection breaks off: half a state must not look like a whole one.
                Err(_) => return Some((Err(io::Error::other("the controller answers no more")), self)),
            },
            Next::Nothing => return None,
        };
        let text = self.text(piece);
        Some((Ok(text.into()), self))
    }

    fn text(&mut self, piece: Piece) -> String {
        let mut text = String::new();
        for section in piece.sections {
            if self.section != Some(section.name) {
                text.push_str(if self.section.is_some() { "\n]," } else { "{" });
                text.push_str(&format!("\n\"{}\":[", section.name));
                (self.section, self.is_empty) = (Some(section.name), true);
            }
            for row in section.rows {
                text.push_str(if self.is_empty { "\n" } else { ",\n" });
                text.push_str(&row);
                self.is_empty = false;
            }
        }
        match piece.next {
            Some(cursor) => self.next = Next::Cursor(cursor),
            None => text.push_str(if self.section.is_some() { "\n]}\n" } else { "{}\n" }),
        }
        text
    }
}

/// Writes an export into the channel. Where it fails, or the client has gone, the connection breaks off.
fn write_export(export: Export, pieces: mpsc::Sender<io::Result<Bytes>>, _permit: OwnedSemaphorePermit) {
    let mut out = Pieces { pieces, bytes: Vec::with_capacity(PIECE_BYTES) };
    let written = export(&mut out).and_then(|()| io::Write::flush(&mut out).map_err(Into::into));
    if let Err(error) = written {
        tracing::warn!("an export of the journal broke off: {error}");
        out.send(Err(io::Error::other("the export broke off"))).ok();
    }
}

struct Pieces {
    pieces: mpsc::Sender<io::Result<Bytes>>,
    bytes: Vec<u8>,
}

impl Pieces {
    fn send(&self, piece: io::Result<Bytes>) -> io::Result<()> {
        let sent = async { timeout(STALLED_MAX, self.pieces.send(piece)).await };
        match tokio::runtime::Handle::current().block_on(sent) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(io::Error::new(io::ErrorKind::BrokenPipe, "the client reads no more")),
        }
    }
}

impl io::Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        if self.bytes.len() >= PIECE_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.bytes.is_empty() {
            return Ok(());
        }
        let bytes = std::mem::take(&mut self.bytes);
        self.send(Ok(bytes.into()))
    }
}
