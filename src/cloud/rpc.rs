//! One signed call of the vendor's RPC style: build, sign, send, read at most so many bytes, decode.
//!
//! The request is `POST /` with all parameters in the query string, as the vendor's Go SDK sends it (aliyun-api.md §1).
//! There is no retry, no redirect and no waiting other than the time-out given. What is sent holds a signature and perhaps
//! a security token, so no message made here ever shows a URL.
//!
//! All that is made here of a security token on the way is wiped, but for the URL: that belongs to the HTTP client, which
//! wipes neither it nor the buffers of HTTP and TLS through which it goes. The secret of the key itself goes nowhere but into
//! the signature. A security token ends within hours, a secret does not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use reqwest::header::{ACCEPT, CONTENT_LENGTH};
use reqwest::{Response, Url, redirect, retry};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tracing::field::Empty;
use tracing::{Instrument as _, Span};
use uuid::Uuid;
use zeroize::Zeroize as _;

use super::classes::{class_of, is_named};
use super::credentials::{AccessKey, Credentials};
use super::meter::{Call, Meter, class_word};
use super::sign::{self, SIGNATURE};
use crate::machine::identity::Mark;
use crate::ports::cloud::{CloudError, ErrorClass};

/// Time to connect, TLS included: the default of the vendor's SDK (aliyun-api.md §1).
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes read of one answer. The largest honest one is a page of network interfaces: 100 addresses on as many interfaces
/// with 50 private IPs of 200 bytes each make 1 MB.
pub const ANSWER_BYTES_MAX: usize = 8 << 20;

/// Characters kept of the cloud's code. The longest documented one has 57.
pub const CODE_CHARS_MAX: usize = 128;

/// Characters kept of the cloud's message: SignatureDoesNotMatch echoes the whole string to sign.
pub const MESSAGE_CHARS_MAX: usize = 512;

/// The wall clock that goes into `Timestamp`. The cloud refuses more than 15 minutes of difference.
pub type WallClock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// The parameters of one action, without the common ones.
pub(super) type Parameters = BTreeMap<String, String>;

/// One action of one product.
#[derive(Clone, Copy, Debug)]
pub(super) struct Action<'a> {
    pub(super) endpoint: &'a Url,
    pub(super) version: &'static str,
    pub(super) name: &'static str,
    pub(super) timeout: Duration,
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
#[error("the HTTP client cannot be built: {0}")]
pub struct BuildError(#[source] reqwest::Error);

/// An HTTP client without retries and redirects. Through proxies of the environment only where all it speaks is TLS.
pub(super) fn http(plain: bool, connect_timeout: Duration) -> Result<reqwest::Client, BuildError> {
    // An error means that a provider was chosen before, which is as good.
    drop(rustls::crypto::ring::default_provider().install_default());
    let mut builder = reqwest::Client::builder()
        .connect_timeout(connect_timeout)
        .redirect(redirect::Policy::none())
        .retry(retry::never())
        .user_agent(concat!("natgw/", env!("CARGO_PKG_VERSION")));
    if plain {
        builder = builder.no_proxy();
    }
    builder.build().map_err(BuildError)
}

/// The sender of signed calls.
pub(super) struct Rpc {
    http: reqwest::Client,
    credentials: Arc<dyn Credentials>,
    clock: WallClock,
    meter: Arc<dyn Meter>,
    /// The codes that no row names and that were logged.
    novel: Mutex<BTreeSet<(&'static str, String)>>,
}

impl Rpc {
    pub(super) fn new(
        credentials: Arc<dyn Credentials>,
        clock: WallClock,
        meter: Arc<dyn Meter>,
        plain: bool,
    ) -> Result<Self, BuildError> {
        Ok(Self { http: http(plain, CONNECT_TIMEOUT)?, credentials, clock, meter, novel: Mutex::default() })
    }

    /// Sends one request and decodes its answer: one span, counted once.
    pub(super) async fn call<T: DeserializeOwned>(
        &self,
        action: Action<'_>,
        parameters: Parameters,
    ) -> Result<T, CloudError> {
        let span = span_of(action.name, &parameters);
        let began = stopwatch();
        let result = self.exchange(action, parameters).instrument(span.clone()).await;
        let took = began.elapsed();
        let class = result.as_ref().err().map(|error| error.class);
        let id = result.as_ref().map_or_else(|error| error.request_id.as_str(), |(_, id)| id.as_str());
        span.record("request_id", id).record("class", class_word(class));
        span.record("took_ms", u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
        if let Err(error) = &result {
            span.record("code", error.code.as_str());
        }
        span.in_scope(|| tracing::debug!("called"));
        self.meter.ended(Call { action: action.name, class, took });
        result.map(|(answer, _)| answer)
    }

    async fn exchange<T: DeserializeOwned>(
        &self,
        action: Action<'_>,
        parameters: Parameters,
    ) -> Result<(T, String), CloudError> {
        let name = action.name;
        let key = self.credentials.current().await.map_err(|error| {
            let class = if error.may_pass() { ErrorClass::RetryLater } else { ErrorClass::Denied };
            ours(name, class, "credentials", error.to_string())
        })?;
        let url = signed_url(action, parameters, &key, (self.clock)())?;
        let request =
            self.http.post(url).header(ACCEPT, "application/json").header(CONTENT_LENGTH, 0).timeout(action.timeout);
        let response = request.send().await.map_err(|error| unanswered(name, &error))?;
        let status = response.status().as_u16();
        let hint = throttling_hint(&response);
        let bytes = read(name, response).await?;
        if (200..300).contains(&status) {
            return decode(name, &bytes, &key);
        }
        let error = refused(name, status, hint, &bytes, &key);
        if NOT_THIS_KEY.iter().any(|prefix| error.code.starts_with(prefix)) {
            self.credentials.refused(&key);
        }
        if error.class == ErrorClass::Unknown && !is_named(name, &error.code) {
            self.tell_once(&error, status, &key.scrub(&String::from_utf8_lossy(&bytes)));
        }
        Err(error)
    }

    /// Logs an answer that no row names with all there is, once for each code.
    fn tell_once(&self, error: &CloudError, status: u16, body: &str) {
        let CloudError { action, code, request_id, .. } = error;
        let mut novel = self.novel.lock().unwrap_or_else(PoisonError::into_inner);
        if novel.len() < NOVEL_MAX && novel.insert((*action, code.clone())) {
            let body = bounded(body, BODY_CHARS_MAX);
            tracing::warn!(
                action,
                status,
                code,
                request_id,
                body,
                "the cloud answered with a code that is not documented: what became of the request is not known"
            );
        }
    }
}

/// Codes by which the cloud says that it is the key, not the request, that it does not take (aliyun-api.md §3.6).
const NOT_THIS_KEY: [&str; 2] = ["InvalidSecurityToken.", "InvalidAccessKeyId."];

/// Codes that are logged at most: a server that makes them up does not fill the log.
const NOVEL_MAX: usize = 256;

/// Characters of a body that are logged.
const BODY_CHARS_MAX: usize = 2_048;

/// The span of one call. What is known only at its end is recorded then.
fn span_of(action: &'static str, parameters: &Parameters) -> Span {
    let table = parameters.get("ForwardTableId");
    let mark = parameters.get("ForwardEntryName").and_then(|name| Mark::parse(name));
    tracing::info_span!(
        "cloud",
        action,
        table = table.map(String::as_str),
        generation = mark.map(|mark| tracing::field::display(mark.generation)),
        request_id = Empty,
        class = Empty,
        code = Empty,
        took_ms = Empty,
    )
}

#[expect(clippy::disallowed_methods, reason = "it measures how long a call took; nothing is decided by it")]
fn stopwatch() -> Instant {
    Instant::now()
}

/// An error that the cloud did not name.
pub(super) fn ours(action: &'static str, class: ErrorClass, code: &str, message: String) -> CloudError {
    CloudError { action, class, code: code.to_owned(), message, request_id: NO_REQUEST_ID.to_owned() }
}

/// An answer that came and cannot be read: what it was the answer to may or may not have had its effect.
pub(super) fn undecodable(action: &'static str, why: &str) -> CloudError {
    ours(action, ErrorClass::Unknown, "undecodable", bounded(why, MESSAGE_CHARS_MAX))
}

const NO_REQUEST_ID: &str = "-";

fn signed_url(
    action: Action<'_>,
    mut parameters: Parameters,
    key: &AccessKey,
    now: SystemTime,
) -> Result<Url, CloudError> {
    let timestamp = jiff::Timestamp::try_from(now)
        .and_then(|now| jiff::Timestamp::from_second(now.as_second()))
        .map_err(|error| ours(action.name, ErrorClass::Malformed, "clock", error.to_string()))?;
    let common = [
        ("AccessKeyId", key.id().to_owned()),
        ("Action", action.name.to_owned()),
        ("Format", "JSON".to_owned()),
        ("SignatureMethod", "HMAC-SHA1".to_owned()),
        ("SignatureNonce", nonce()),
        ("SignatureVersion", "1.0".to_owned()),
        ("Timestamp", timestamp.to_string()),
        ("Version", action.version.to_owned()),
    ];
    parameters.extend(common.map(|(name, value)| (name.to_owned(), value)));
    if let Some(token) = key.security_token() {
        parameters.insert("SecurityToken".to_owned(), token.to_owned());
    }
    let signature = sign::signature(key.secret(), &sign::string_to_sign("POST", &parameters));
    parameters.insert(SIGNATURE.to_owned(), signature);
    let query = sign::canonical_query(parameters.iter());
    // The security token was copied into them.
    parameters.values_mut().for_each(|value| value.zeroize());
    let mut url = action.endpoint.clone();
    url.set_query(Some(&query));
    Ok(url)
}

#[expect(
    clippy::disallowed_methods,
    reason = "a nonce is no identity: it differs between attempts and between processes"
)]
fn nonce() -> String {
    Uuid::new_v4().to_string()
}

fn unanswered(action: &'static str, error: &reqwest::Error) -> CloudError {
    // A request leaves only over an established connection, so one that failed to connect certainly had no effect.
    let (class, code) = if error.is_connect() {
        (ErrorClass::RetryLater, "connection")
    } else if error.is_timeout() {
        (ErrorClass::Unknown, "timeout")
    } else {
        (ErrorClass::Unknown, "connection")
    };
    ours(action, class, code, bounded(&causes(error), MESSAGE_CHARS_MAX))
}

/// The chain of causes, without the outermost: that one shows the URL.
fn causes(error: &reqwest::Error) -> String {
    let mut words = Vec::new();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        words.push(error.to_string());
        cause = error.source();
    }
    if words.is_empty() { "no answer".to_owned() } else { words.join(": ") }
}

async fn read(action: &'static str, mut response: Response) -> Result<Vec<u8>, CloudError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| unanswered(action, &error))? {
        if bytes.len().saturating_add(chunk.len()) > ANSWER_BYTES_MAX {
            return Err(undecodable(action, &format!("the answer is longer than {ANSWER_BYTES_MAX} bytes")));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// What every answer of the cloud has (aliyun-api.md §1). A page of some proxy in between has it not.
#[derive(Deserialize)]
struct Identified {
    #[serde(rename = "RequestId")]
    request_id: String,
}

/// An answer of success with its RequestId. An error shows the value that it does not understand, so that is scrubbed too.
fn decode<T: DeserializeOwned>(action: &'static str, bytes: &[u8], key: &AccessKey) -> Result<(T, String), CloudError> {
    let unread = |error: serde_json::Error| undecodable(action, &key.scrub(&error.to_string()));
    let Identified { request_id } = serde_json::from_slice(bytes).map_err(unread)?;
    let request_id = bounded(&key.scrub(&request_id), CODE_CHARS_MAX);
    match serde_json::from_slice(bytes) {
        Ok(answer) => Ok((answer, request_id)),
        Err(error) => Err(CloudError { request_id, ..unread(error) }),
    }
}

/// An error body (aliyun-api.md §1). HostId and Recommend are for people who read the wire.
#[derive(Deserialize)]
struct Refusal {
    #[serde(rename = "Code")]
    code: String,
    #[serde(rename = "Message", default)]
    message: String,
    #[serde(rename = "RequestId")]
    request_id: Option<String>,
}

fn refused(action: &'static str, status: u16, hint: Option<u64>, bytes: &[u8], key: &AccessKey) -> CloudError {
    let Ok(refusal) = serde_json::from_slice::<Refusal>(bytes) else {
        return undecodable(action, &format!("status {status} and a body that is no error of the cloud"));
    };
    let class = match class_of(action, status, &refusal.code, &refusal.message) {
        ErrorClass::Throttled { after_ms: _ } => ErrorClass::Throttled { after_ms: hint },
        other => other,
    };
    // SignatureDoesNotMatch echoes all that was signed, the security token included. Scrubbed first and cut then: a part of
    // a secret could not be found.
    let said = |text: &str, chars_max| bounded(&key.scrub(text), chars_max);
    CloudError {
        action,
        class,
        code: said(&refusal.code, CODE_CHARS_MAX),
        message: said(&refusal.message, MESSAGE_CHARS_MAX),
        request_id: said(refusal.request_id.as_deref().unwrap_or(NO_REQUEST_ID), CODE_CHARS_MAX),
    }
}

/// The larger `TimeLeft` of the two flow control headers. The vendor's SDK takes it for milliseconds.
fn throttling_hint(response: &Response) -> Option<u64> {
    let headers = response.headers();
    ["x-ratelimit-user-api", "x-ratelimit-user"]
        .into_iter()
        .filter_map(|name| time_left(headers.get(name)?.to_str().ok()?))
        .max()
}

fn time_left(header: &str) -> Option<u64> {
    header.split(',').find_map(|item| item.trim().strip_prefix("TimeLeft:")?.trim().parse().ok())
}

fn bounded(text: &str, chars_max: usize) -> String {
    text.chars().take(chars_max).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hint_is_the_item_time_left() {
        assert_eq!(time_left("Limit:100,Remain:0,TimeLeft:1500,Reset:2"), Some(1500));
        assert_eq!(time_left("Limit:100, TimeLeft: 7"), Some(7));
        assert_eq!(time_left("Limit:100,Remain:0"), None);
        assert_eq!(time_left("TimeLeft:soon"), None);
    }

    #[test]
    fn a_bound_counts_characters() {
        assert_eq!(bounded("阿里云", 2), "阿里");
    }
}
