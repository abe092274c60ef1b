//! One exchange with the API server: a path, a verb, perhaps a body; in time, or not at all.
//!
//! Nothing is sent twice: the client's own retries are off, for a write that is repeated below the executor would meet
//! its own effect. Credentials are those of the kubeconfig or of the pod's ServiceAccount, which the client renews.

use std::cell::Cell;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use futures_util::stream::{BoxStream, StreamExt as _};
use http::{Method, Request, header};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{Status, WatchEvent};
use kube::{Client, Config};
use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use tokio::time::{Instant, timeout};

use super::classes::{Answer, Verb, class_of, unanswered};
use super::poddnat::FIELD_MANAGER;
use crate::ports::cluster::{ClusterError, ClusterErrorClass};

/// Characters kept of the API server's words: a refusal by a schema names every field.
const MESSAGE_CHARS_MAX: usize = 512;

/// How long calls may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// A call that changes something, or that such a call waits for (design.md §6).
    pub mutating: Duration,
    /// One page of a list.
    pub reading: Duration,
}

/// Until when writes may be sent. Clones are the same fence.
///
/// One effect is several calls, and the step looks at the lease only before the first: none of the others starts with
/// less of the lease left than a call may take.
#[derive(Clone, Debug, Default)]
pub struct Fence(Rc<Cell<Option<Instant>>>);

impl Fence {
    /// Writes may be sent until then; with `None` not at all.
    pub fn set(&self, until: Option<Instant>) {
        self.0.set(until);
    }

    fn is_open(&self) -> bool {
        self.0.get().is_some_and(|until| Instant::now() <= until)
    }
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The kubeconfig cannot be used.
    #[error("NATGW-KUBECONFIG: the kubeconfig cannot be used, so nothing was started")]
    Kubeconfig(#[source] Box<kube::config::KubeconfigError>),
    /// There is no kubeconfig, and this is no pod.
    #[error(
        "NATGW-KUBECONFIG: no --kubeconfig is given and this is no pod with a ServiceAccount, so nothing was started"
    )]
    InCluster(#[source] Box<kube::config::InClusterError>),
    /// The client cannot be built.
    #[error("NATGW-KUBECONFIG: no client of the API server can be built, so nothing was started")]
    Client(#[source] Box<kube::Error>),
}

/// How a call ended, when it did not end well.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) class: ClusterErrorClass,
    pub(super) status: Option<Box<Status>>,
    message: String,
}

impl Failure {
    pub(super) fn new(class: ClusterErrorClass, message: impl Into<String>) -> Self {
        Self { class, status: None, message: message.into() }
    }

    pub(super) fn of(self, call: &'static str) -> ClusterError {
        ClusterError { call, class: self.class, message: self.message }
    }

    /// What was asked for is too old: a list or a watch has to begin anew.
    pub(super) fn is_expired(&self) -> bool {
        self.status.as_ref().is_some_and(|status| is_expired(status))
    }

    fn from_client(verb: Verb, error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::from_status(verb, status),
            // No credentials: nothing was sent.
            kube::Error::Auth(error) => Self::new(ClusterErrorClass::Busy, shortened(&error.to_string())),
            error => Self::new(unanswered(verb), shortened(&error.to_string())),
        }
    }

    fn from_status(verb: Verb, status: Box<Status>) -> Self {
        let names_object = status.details.as_ref().is_some_and(|details| !details.name.is_empty());
        let class = class_of(verb, Answer { code: status.code, reason: &status.reason, names_object });
        let message = shortened(&format!("{} {}: {}", status.code, status.reason, status.message));
        Self { class, status: Some(status), message }
    }
}

/// Whether a `Status` says that a version is too old.
pub(super) fn is_expired(status: &Status) -> bool {
    status.code == 410 || status.reason == "Expired" || status.reason == "Gone"
}

/// How a body is to be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    Json,
    MergePatch,
    StrategicPatch,
}

impl Content {
    const fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::MergePatch => "application/merge-patch+json",
            Self::StrategicPatch => "application/strategic-merge-patch+json",
        }
    }
}

/// The API server.
#[derive(Clone)]
pub(super) struct Api {
    client: Client,
    timeouts: Timeouts,
    fence: Option<Fence>,
}

impl Api {
    /// A client by kubeconfig, else by the pod's ServiceAccount; and the namespace that it names. Nothing is sent yet.
    pub(super) async fn connect(
        kubeconfig: Option<&Path>,
        timeouts: Timeouts,
        fence: Option<Fence>,
    ) -> Result<(Self, String), ConnectError> {
        // An error means that a provider was chosen before, which is as good.
        drop(rustls::crypto::ring::default_provider().install_default());
        let mut config = match kubeconfig {
            Some(path) => {
                let unusable = |error| ConnectError::Kubeconfig(Box::new(error));
                let kubeconfig = Kubeconfig::read_from(path).map_err(unusable)?;
                Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.map_err(unusable)?
            }
            None => Config::incluster().map_err(|error| ConnectError::InCluster(Box::new(error)))?,
        };
        config.default_retry = false;
        config.connect_timeout = Some(timeouts.mutating);
        let namespace = config.default_namespace.clone();
        let client = Client::try_from(config).map_err(|error| ConnectError::Client(Box::new(error)))?;
        Ok((Self { client, timeouts, fence }, namespace))
    }

    /// Reads one object, within the time of a write: some write waits for it.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.read(path, self.timeouts.mutating).await
    }

    /// Reads one page of a list.
    pub(super) async fn page<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.read(path, self.timeouts.reading).await
    }

    /// Writes what the lease does not allow any more once it runs out.
    pub(super) async fn write<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        content: Content,
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        if self.fence.as_ref().is_some_and(|fence| !fence.is_open()) {
            return Err(Failure::new(ClusterErrorClass::Busy, "too little of the lease is left, so nothing was sent"));
        }
        self.write_unfenced(method, path, content, body).await
    }

    /// Writes in any case: the lock itself.
    pub(super) async fn write_unfenced<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        content: Content,
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        let refused = |error: serde_json::Error| Failure::new(ClusterErrorClass::Refused, error.to_string());
        let body = serde_json::to_vec(body).map_err(refused)?;
        let path = format!("{path}?fieldManager={FIELD_MANAGER}");
        let request = Request::builder().method(method).uri(path).header(header::CONTENT_TYPE, content.media_type());
        let request =
            request.body(body).map_err(|error| Failure::new(ClusterErrorClass::Refused, error.to_string()))?;
        self.exchange(Verb::Write, request, self.timeouts.mutating).await
    }

    /// Asks for a deletion. The answer is a `Status` or the object, and neither is looked at.
    pub(super) async fn delete(&self, path: &str, options: &impl Serialize) -> Result<(), Failure> {
        self.write::<IgnoredAny>(Method::DELETE, path, Content::Json, options).await.map(drop)
    }

    /// Opens a watch. Only its opening is bounded in time.
    pub(super) async fn watch<T>(
        &self,
        path: &str,
    ) -> Result<BoxStream<'static, Result<WatchEvent<T>, kube::Error>>, Failure>
    where
        T: DeserializeOwned + Clone + Send + 'static,
    {
        let request = get_request(path)?;
        match timeout(self.timeouts.reading, self.client.request_events(request)).await {
            Ok(Ok(events)) => Ok(events.boxed()),
            Ok(Err(error)) => Err(Failure::from_client(Verb::Read, error)),
            Err(_) => Err(late(Verb::Read)),
        }
    }

    async fn read<T: DeserializeOwned>(&self, path: &str, within: Duration) -> Result<T, Failure> {
        self.exchange(Verb::Read, get_request(path)?, within).await
    }

    async fn exchange<T: DeserializeOwned>(
        &self,
        verb: Verb,
        request: Request<Vec<u8>>,
        within: Duration,
    ) -> Result<T, Failure> {
        match timeout(within, self.client.request_text(request)).await {
            Ok(Ok(text)) => serde_json::from_str(&text)
                .map_err(|error| Failure::new(unanswered(verb), format!("the answer cannot be read: {error}"))),
            Ok(Err(error)) => Err(Failure::from_client(verb, error)),
            Err(_) => Err(late(verb)),
        }
    }
}

fn get_request(path: &str) -> Result<Request<Vec<u8>>, Failure> {
    let request = Request::builder().method(Method::GET).uri(path).header(header::ACCEPT, "application/json");
    request.body(Vec::new()).map_err(|error| Failure::new(ClusterErrorClass::Refused, error.to_string()))
}

fn late(verb: Verb) -> Failure {
    Failure::new(unanswered(verb), "no answer arrived in time")
}

fn shortened(text: &str) -> String {
    text.chars().take(MESSAGE_CHARS_MAX).collect()
}
