//! The model of the VPC behind the vendor's RPC protocol over HTTP, as SDKs speak it: both products at one address, GET
//! or POST, parameters in the query or in a form, signed.
//!
//! Beside them stand, at the same address, the metadata service of an instance and the unsigned exchange of a service
//! account token, which hand out temporary keys that are known here until they end.
//!
//! Everything about the cloud is the model's; here requests are checked as the API gateway in front of every product
//! checks them, decoded, encoded, and written down. Model time runs `speed` times as fast as the clock; signatures and
//! nonces are judged by the clock alone. A reply that the model loses closes its connection without a word.
//!
//! Every answer leaves only after what it says was written to the files that were asked for. They survive the end of the
//! process at any moment, but not the loss of power: nothing is synced.

mod clock;
mod declared;
mod decode;
mod encode;
mod files;
mod gateway;
mod identity;
mod keys;
mod line;

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, Request as HttpRequest, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use secrecy::SecretString;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::Notify;

pub use self::clock::{Clock, SystemClock};
use self::files::Files;
use self::gateway::Common;
use self::identity::{ASSUME_ROLE, Heard, Identity, METADATA_ROOT};
pub use self::identity::{Issuing, Ways};
use self::keys::Keys;
use self::line::{Line, Lines};
use super::vpc::{Behaviour, FaultKind, Faults, NewEntry, Refusal, Reply, Spell, Stroke, Vpc, World};

/// The longest body that is read; the longest documented request is far below it.
const BODY_BYTES_MAX: usize = 1 << 20;

/// The longest sleep until the model's next moment, so that a clock that was set is noticed.
const NAP_MAX: Duration = Duration::from_secs(1);

/// What the simulated cloud is to be.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The one lasting AccessKeyId that is known.
    pub access_key: String,
    /// Its secret.
    pub secret: SecretString,
    /// What stands in the account. Ignored where `state` has been saved before.
    pub world: World,
    /// Entries that somebody else has made. Ignored where `state` has been saved before.
    pub by_hand: Vec<NewEntry>,
    /// How the cloud behaves when nothing goes wrong; holds the entry quota.
    pub behaviour: Behaviour,
    /// What goes wrong, and how often, from 0 to 1.
    pub faults: Vec<(FaultKind, f64)>,
    /// Which request is struck by what; before `troubles`, and these before `faults`.
    pub plan: Vec<Stroke>,
    /// What lasts for a while.
    pub troubles: Vec<Spell>,
    /// From when on nothing goes wrong any more, in milliseconds of model time; faults, plan and troubles end and what is
    /// stuck goes on.
    pub quiet_from_ms: Option<u64>,
    /// How temporary keys are handed out.
    pub issuing: Issuing,
    /// The seed of all chance. Ignored where `state` has been saved before.
    pub seed: u64,
    /// How much faster than the clock the model's time runs; 0 counts as 1.
    pub speed: u32,
    /// A file to which one JSON line a request and one an effect is appended.
    pub ledger: Option<PathBuf>,
    /// A file that keeps the model from one start to the next. Time stands still in between.
    pub state: Option<PathBuf>,
}

impl Default for Options {
    /// design.md §7, `natgw cloud`, on a free port of the loopback interface.
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            access_key: "sandbox".to_owned(),
            secret: SecretString::from("sandbox-secret"),
            world: World::default(),
            by_hand: Vec::new(),
            behaviour: Behaviour::default(),
            faults: Vec::new(),
            plan: Vec::new(),
            troubles: Vec::new(),
            quiet_from_ms: None,
            issuing: Issuing::default(),
            seed: 0,
            speed: 1,
            ledger: None,
            state: None,
        }
    }
}

/// Why the simulated cloud could not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address cannot be listened on.
    #[error("the simulated cloud cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// An entry of somebody else's is not possible.
    #[error("the simulated cloud cannot begin with that entry: {}: {}", .0.code, .0.message)]
    ByHand(Refusal),
    /// Serving ended by itself.
    #[error("the simulated cloud stopped serving")]
    Serve(#[source] io::Error),
    /// A file cannot be read or written; nothing is answered that could not be written down.
    #[error("the simulated cloud cannot use its file {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The saved model cannot be understood; it is left as it is.
    #[error("{path} holds no saved cloud; remove it to begin with an empty one")]
    Decode {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The model cannot be put into words.
    #[error("the simulated cloud cannot be saved to {path}")]
    Encode {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

/// Serves until `shutdown` ends, by the machine's clock. `ready` hears the address once it is listened on.
///
/// # Errors
/// See [`Error`]. Requests that are under way when `shutdown` ends are still answered.
pub async fn serve(
    options: Options,
    ready: impl FnOnce(SocketAddr),
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), Error> {
    serve_by(SystemClock::start(), options, ready, shutdown).await
}

/// As [`serve`], by a clock of the caller's.
///
/// # Errors
/// See [`Error`].
pub async fn serve_by(
    clock: impl Clock,
    options: Options,
    ready: impl FnOnce(SocketAddr),
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), Error> {
    let address = options.listen;
    let listen = |source| Error::Listen { address, source };
    let cloud = Arc::new(Cloud::open(clock, options)?);
    let listener = TcpListener::bind(address).await.map_err(listen)?;
    ready(listener.local_addr().map_err(listen)?);
    let app = axum::Router::new()
        .fallback(answer)
        .with_state(Arc::clone(&cloud))
        .into_make_service_with_connect_info::<Line>();
    let failing = Arc::clone(&cloud);
    let ending = async move {
        tokio::select! {
            () = shutdown => {}
            () = failing.failed.notified() => {}
        }
    };
    let serving =
        async { axum::serve(Lines(listener), app).with_graceful_shutdown(ending).await.map_err(Error::Serve) };
    tokio::select! {
        served = serving => served?,
        never = keep_time(&cloud) => match never {},
    }
    match cloud.lock().failure.take() {
        Some(failure) => Err(failure),
        None => Ok(()),
    }
}

/// Lets what is due happen when it is due, also while nobody asks, so that the ledger is not behind.
async fn keep_time<C: Clock>(cloud: &Cloud<C>) -> std::convert::Infallible {
    loop {
        let nap = cloud.lock().until_due(&cloud.clock).map_or(NAP_MAX, |nap| nap.min(NAP_MAX));
        tokio::select! {
            () = tokio::time::sleep(nap) => {}
            () = cloud.asked.notified() => continue,
        }
        let mut room = cloud.lock();
        let now_ms = room.model_ms(&cloud.clock);
        if room.vpc.next_due().is_some_and(|due_ms| due_ms <= now_ms) {
            room.vpc.advance(now_ms);
            if room.write_down(&cloud.clock, true).is_err() {
                cloud.failed.notify_one();
            }
        }
    }
}

struct Cloud<C> {
    clock: C,
    room: Mutex<Room>,
    /// Somebody asked: what is due next may have changed.
    asked: Notify,
    /// A file could not be written.
    failed: Notify,
}

/// What one request at a time may touch.
struct Room {
    vpc: Vpc,
    keys: Keys,
    identity: Identity,
    nonces: gateway::Nonces,
    files: Files,
    speed: u64,
    quiet_from_ms: Option<u64>,
    /// Model time when the clock's elapsed time was 0.
    began_ms: u64,
    failure: Option<Error>,
}

impl<C: Clock> Cloud<C> {
    fn open(clock: C, options: Options) -> Result<Self, Error> {
        let (mut files, saved) = Files::open(options.ledger, options.state)?;
        let mut vpc = match saved {
            None => {
                let mut vpc = Vpc::new(options.world, options.behaviour, Faults::none(), options.seed);
                for entry in options.by_hand {
                    vpc.insert_entry(0, entry).map_err(Error::ByHand)?;
                }
                vpc
            }
            Some(mut vpc) => {
                *vpc.behaviour_mut() = options.behaviour;
                vpc.faults_mut().stop();
                vpc.resume();
                vpc
            }
        };
        let faults = vpc.faults_mut();
        options.faults.into_iter().for_each(|(kind, rate)| faults.set(kind, rate));
        options.plan.into_iter().for_each(|stroke| faults.plan(stroke));
        options.troubles.into_iter().for_each(|spell| faults.trouble(spell));
        // At once: a start that changes nothing else must not give out the next start's RequestIds either.
        files.write(clock.wall_ms(), &[], Some(&vpc))?;
        let room = Room {
            began_ms: vpc.now_ms(),
            vpc,
            keys: Keys::new(options.access_key, options.secret, options.seed),
            identity: Identity::new(options.issuing),
            nonces: gateway::Nonces::default(),
            files,
            speed: u64::from(options.speed.max(1)),
            quiet_from_ms: options.quiet_from_ms,
            failure: None,
        };
        Ok(Self { clock, room: Mutex::new(room), asked: Notify::new(), failed: Notify::new() })
    }

    fn lock(&self) -> MutexGuard<'_, Room> {
        // A panic under the lock was a test's assertion: the model has no invariant that a half-done call breaks.
        self.room.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One request, from its parameters to what the caller hears; `None` where that is nothing.
    fn attend(&self, method: &str, parameters: BTreeMap<String, String>) -> Option<Spoken> {
        let mut guard = self.lock();
        let room = &mut *guard;
        let now_ms = room.model_ms(&self.clock);
        room.calm_down(now_ms);
        let region = room.vpc.world().region.clone();
        let checked = gateway::check(method, &parameters, self.clock.wall_ms(), &room.keys, &mut room.nonces)
            .and_then(|()| decode::request(&region, &parameters));
        let common = Common::of(&parameters);
        let (spoken, mutates) = match checked {
            Ok(request) => {
                let Reply { request_id, answer, wait_ms } = room.vpc.handle(now_ms, &request);
                let spoken = answer.map(|answer| match answer {
                    Ok(answer) => {
                        let body = encode::answer(room.vpc.world(), &request, answer, &request_id);
                        Spoken { status: 200, time_left: None, body }
                    }
                    Err(refusal) => Spoken::refusal(&refusal, &request_id, &common, wait_ms),
                });
                (spoken, request.mutates())
            }
            Err(refusal) => {
                let parameters = gateway::own_parameters(parameters);
                let request_id = room.vpc.note_refused(now_ms, common.action(), parameters, &refusal);
                (Some(Spoken::refusal(&refusal, &request_id, &common, None)), false)
            }
        };
        let written = room.write_down(&self.clock, mutates);
        drop(guard);
        self.asked.notify_one();
        self.only_if(written, spoken)
    }

    /// One exchange of a service account token.
    fn assume(&self, parameters: BTreeMap<String, String>) -> Option<Spoken> {
        let mut guard = self.lock();
        let room = &mut *guard;
        let (now_ms, now) = (room.model_ms(&self.clock), (self.clock.wall_ms(), self.clock.elapsed_ms()));
        let assumed = room.identity.assume(now, &parameters, &mut room.keys);
        let shown = identity::shown(parameters);
        let spoken = match assumed {
            Ok(mut body) => {
                let request_id = room.vpc.note_done(now_ms, ASSUME_ROLE, shown);
                encode::set(&mut body, "RequestId", request_id.into());
                Spoken { status: 200, time_left: None, body }
            }
            Err(refusal) => {
                let request_id = room.vpc.note_refused(now_ms, ASSUME_ROLE, shown, &refusal);
                let body = encode::refusal(&refusal, &request_id, "Sts");
                Spoken { status: refusal.status, time_left: None, body }
            }
        };
        let written = room.write_down(&self.clock, false);
        drop(guard);
        self.only_if(written, Some(spoken))
    }

    /// One request to the metadata service.
    fn metadata(&self, method: &Method, path: &str, headers: &HeaderMap) -> Heard {
        let mut guard = self.lock();
        let Room { vpc, keys, identity, .. } = &mut *guard;
        let now = (self.clock.wall_ms(), self.clock.elapsed_ms());
        identity.metadata(now, (method, path, headers), vpc.world(), keys)
    }

    /// Nothing is answered that could not be written down.
    fn only_if(&self, written: Result<(), ()>, spoken: Option<Spoken>) -> Option<Spoken> {
        if written.is_err() {
            self.failed.notify_one();
            return None;
        }
        spoken
    }
}

impl Room {
    fn model_ms(&self, clock: &impl Clock) -> u64 {
        self.began_ms.saturating_add(clock.elapsed_ms().saturating_mul(self.speed))
    }

    /// Ends all faults when their time is over.
    fn calm_down(&mut self, now_ms: u64) {
        if self.quiet_from_ms.is_some_and(|from_ms| from_ms <= now_ms) {
            self.quiet_from_ms = None;
            self.vpc.calm(now_ms);
        }
    }

    fn until_due(&self, clock: &impl Clock) -> Option<Duration> {
        let due_ms = self.vpc.next_due()?.saturating_sub(self.model_ms(clock));
        Some(Duration::from_millis(due_ms.div_ceil(self.speed)))
    }

    /// Writes the new lines of the ledger and, where something changed, the model. A failure is kept and ends everything.
    fn write_down(&mut self, clock: &impl Clock, changed: bool) -> Result<(), ()> {
        let lines = self.vpc.take_ledger();
        let changed = changed || lines.iter().any(files::is_effect);
        self.files.write(clock.wall_ms(), &lines, changed.then_some(&self.vpc)).map_err(|error| {
            self.failure.get_or_insert(error);
        })
    }
}

/// What the caller hears.
struct Spoken {
    status: u16,
    /// What a refusal for flow control says of when to come again, in milliseconds.
    time_left: Option<u64>,
    body: Value,
}

impl Spoken {
    fn refusal(refusal: &Refusal, request_id: &str, common: &Common, hint_ms: Option<u64>) -> Self {
        Self {
            status: refusal.status,
            time_left: hint_ms.filter(|_| refusal.code.contains("Throttling")),
            body: encode::refusal(refusal, request_id, common.product()),
        }
    }
}

async fn answer<C: Clock>(
    State(cloud): State<Arc<Cloud<C>>>,
    ConnectInfo(line): ConnectInfo<Line>,
    request: HttpRequest,
) -> Response {
    let (head, body) = request.into_parts();
    let mut parameters = pairs(head.uri.query().unwrap_or_default().as_bytes());
    match to_bytes(body, BODY_BYTES_MAX).await {
        Ok(body) if is_form(&head.headers) => parameters.extend(pairs(&body)),
        Ok(_) => {}
        Err(_) => return response(StatusCode::PAYLOAD_TOO_LARGE, Body::empty()),
    }
    if head.uri.path().starts_with(METADATA_ROOT) {
        let Heard { status, text } = cloud.metadata(&head.method, head.uri.path(), &head.headers);
        return response(status, Body::from(text));
    }
    let spoken = match parameters.get("Action").map(String::as_str) {
        Some(ASSUME_ROLE) => cloud.assume(parameters),
        Some(_) | None => cloud.attend(head.method.as_str(), parameters),
    };
    let Some(Spoken { status, time_left, body }) = spoken else {
        line.cut();
        return response(StatusCode::SERVICE_UNAVAILABLE, Body::empty());
    };
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = response(status, Body::from(body.to_string()));
    let json = HeaderValue::from_static("application/json;charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    if let Some(ms) = time_left {
        let hint = HeaderValue::try_from(format!("Limit:100,Remain:0,TimeLeft:{ms}"));
        hint.into_iter().for_each(|hint| drop(response.headers_mut().insert("x-ratelimit-user", hint)));
    }
    response
}

fn response(status: StatusCode, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}

fn pairs(text: &[u8]) -> BTreeMap<String, String> {
    form_urlencoded::parse(text).into_owned().collect()
}

/// A body without a type is taken for a form: clients that send none exist.
fn is_form(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    kind.is_none_or(|kind| kind.to_ascii_lowercase().starts_with("application/x-www-form-urlencoded"))
}
