//! The Kubernetes API as JSON, for tests: what is there, and what is to be there.

use std::fmt;
use std::time::{Duration, Instant};

use reqwest::{Certificate, Client, Method};
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};

/// Far beyond what any single answer takes.
const ANSWERS_WITHIN: Duration = Duration::from_secs(20);

/// Between two looks at a condition.
pub const LOOK_EVERY: Duration = Duration::from_millis(25);

/// Somebody who talks to an API server.
pub struct Api {
    runtime: Runtime,
    http: Client,
    base: String,
    token: String,
}

/// An answer that is none of success.
#[derive(Debug)]
pub struct Refused {
    /// HTTP status; 0 where no answer came.
    pub status: u16,
    pub message: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.status, self.message)
    }
}

pub type Answer = Result<Value, Refused>;

impl Api {
    /// `authority` is the PEM of who signed the server's certificate; empty for plain HTTP.
    pub fn new(base: &str, authority: &str, token: &str) -> Self {
        // Somebody else of this process may have been first.
        rustls::crypto::ring::default_provider().install_default().ok();
        // No connection outlives its answer: one to an API server that was killed meanwhile would fail the next request.
        let mut builder = Client::builder().no_proxy().timeout(ANSWERS_WITHIN).pool_max_idle_per_host(0);
        if !authority.is_empty() {
            builder = builder.tls_certs_only([Certificate::from_pem(authority.as_bytes()).unwrap()]);
        }
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        Self { runtime, http: builder.build().unwrap(), base: base.to_owned(), token: token.to_owned() }
    }

    /// The token that it comes with.
    pub fn token(&self) -> &str {
        &self.token
    }

    pub fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, "", None)
    }

    pub fn create(&self, path: &str, object: &Value) -> Answer {
        self.send(Method::POST, path, "application/json", Some(object))
    }

    pub fn replace(&self, path: &str, object: &Value) -> Answer {
        self.send(Method::PUT, path, "application/json", Some(object))
    }

    /// A JSON merge patch.
    pub fn patch(&self, path: &str, patch: &Value) -> Answer {
        self.send(Method::PATCH, path, "application/merge-patch+json", Some(patch))
    }

    /// Deletes with these DeleteOptions.
    pub fn delete(&self, path: &str, options: &Value) -> Answer {
        self.send(Method::DELETE, path, "application/json", Some(options))
    }

    /// What is there, or nothing where it is not.
    pub fn find(&self, path: &str) -> Option<Value> {
        match self.get(path) {
            Ok(object) => Some(object),
            Err(refused) if refused.status == 404 => None,
            Err(refused) => panic!("{path}: {refused}"),
        }
    }

    /// The items of a list.
    pub fn list(&self, path: &str) -> Vec<Value> {
        match self.get(path) {
            Ok(list) => list["items"].as_array().unwrap().clone(),
            Err(refused) => panic!("{path}: {refused}"),
        }
    }

    /// The text at a path that gives no JSON, such as `/readyz`.
    pub fn text(&self, path: &str) -> Result<String, Refused> {
        let request = self.http.get(format!("{}{path}", self.base)).bearer_auth(&self.token);
        self.runtime.block_on(async {
            let response = request.send().await.map_err(Refused::unanswered)?;
            let status = response.status();
            let message = response.text().await.map_err(Refused::unanswered)?;
            if status.is_success() { Ok(message) } else { Err(Refused { status: status.as_u16(), message }) }
        })
    }

    fn send(&self, method: Method, path: &str, content: &str, body: Option<&Value>) -> Answer {
        let mut request = self.http.request(method, format!("{}{path}", self.base)).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.header("Content-Type", content).body(body.to_string());
        }
        self.runtime.block_on(async {
            let response = request.send().await.map_err(Refused::unanswered)?;
            let status = response.status();
            let bytes = response.bytes().await.map_err(Refused::unanswered)?;
            let value = || serde_json::from_slice::<Value>(&bytes);
            if status.is_success() {
                return value().map_err(|error| Refused { status: status.as_u16(), message: error.to_string() });
            }
            let said = value().ok().and_then(|value| value["message"].as_str().map(str::to_owned));
            let message = said.unwrap_or_else(|| String::from_utf8_lossy(&bytes).into_owned());
            Err(Refused { status: status.as_u16(), message })
        })
    }
}

impl Refused {
    #[expect(clippy::needless_pass_by_value, reason = "it is what map_err gives")]
    fn unanswered(error: reqwest::Error) -> Self {
        Self { status: 0, message: error.to_string() }
    }
}

/// Waits until `look` gives something, at most `within`; it says what it sees instead.
#[track_caller]
pub fn eventually<T>(what: &str, within: Duration, mut look: impl FnMut() -> Result<T, String>) -> T {
    let until = Instant::now() + within;
    loop {
        match look() {
            Ok(found) => return found,
            Err(instead) if Instant::now() >= until => panic!("no {what} within {within:?}: {instead}"),
            Err(_) => std::thread::park_timeout(LOOK_EVERY),
        }
    }
}

/// A condition for [`eventually`]: fine, or what is seen instead.
pub fn is(condition: bool, instead: impl fmt::Debug) -> Result<(), String> {
    if condition { Ok(()) } else { Err(format!("{instead:?}")) }
}

/// DeleteOptions with that propagation: `Background`, `Foreground` or `Orphan`.
pub fn propagation(policy: &str) -> Value {
    json!({ "kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": policy })
}
