//! Reading what holds secrets: bounded, wiped after use, and without repeating any of it in errors.

use std::error::Error as _;
use std::fmt;
use std::path::Path;
use std::time::SystemTime;

use reqwest::{RequestBuilder, Response};
use secrecy::SecretString;
use serde::{Deserialize, Deserializer, de};
use zeroize::Zeroizing;

use super::CredentialError;
use super::scrub::without;

/// Bytes read of one answer or file: keys and tokens have a few thousand.
const BYTES_MAX: usize = 64 << 10;

/// Characters kept of a server's words.
const WORDS_MAX: usize = 256;

/// What a server answered.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Zeroizing<Vec<u8>>,
}

impl Answer {
    pub(super) const fn is_good(&self) -> bool {
        matches!(self.status, 200..=299)
    }

    /// An error in the words of the server, without `secret`.
    pub(super) fn refused(&self, what: &'static str, secret: &str) -> CredentialError {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Words {
            code: String,
            #[serde(default)]
            message: String,
            #[serde(default)]
            request_id: String,
        }
        // A body that is no error of the vendor's may be anything, so it is not repeated.
        let why = serde_json::from_slice(&self.body).map_or_else(
            |_| "no reason that can be read".to_owned(),
            |Words { code, message, request_id }| format!("{code}: {message} (request {request_id})"),
        );
        let why = without(why, secret).chars().take(WORDS_MAX).collect();
        CredentialError::Refused { what, status: self.status, why }
    }
}

/// Sends a request and reads its answer.
pub(super) async fn ask(what: &'static str, request: RequestBuilder) -> Result<Answer, CredentialError> {
    let response = request.send().await.map_err(|error| unreachable(what, &error))?;
    let status = response.status().as_u16();
    Ok(Answer { status, body: read(what, response).await? })
}

async fn read(what: &'static str, mut response: Response) -> Result<Zeroizing<Vec<u8>>, CredentialError> {
    // Reserved at once: a buffer that grows leaves copies behind.
    let mut body = Zeroizing::new(Vec::with_capacity(BYTES_MAX));
    while let Some(chunk) = response.chunk().await.map_err(|error| unreachable(what, &error))? {
        if body.len().saturating_add(chunk.len()) > BYTES_MAX {
            return Err(CredentialError::Malformed { what, why: "it is far too long" });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The causes without the outermost, which shows the URL.
fn unreachable(what: &'static str, error: &reqwest::Error) -> CredentialError {
    let mut why = if error.is_timeout() { "it does not answer in time".to_owned() } else { "no answer".to_owned() };
    let mut cause = error.source();
    while let Some(error) = cause {
        why.push_str(": ");
        why.push_str(&error.to_string());
        cause = error.source();
    }
    CredentialError::Unreachable { what, why }
}

/// Reads a file that holds a secret: small, and in memory wherever such files are mounted.
pub(super) fn file(what: &'static str, path: &Path) -> Result<Zeroizing<Vec<u8>>, CredentialError> {
    let failed = |source| CredentialError::File { what, path: path.display().to_string(), source };
    let bytes = std::fs::read(path).map(Zeroizing::new).map_err(failed)?;
    if bytes.len() > BYTES_MAX {
        return Err(CredentialError::Malformed { what, why: "it is far too long" });
    }
    Ok(bytes)
}

/// Decodes JSON without ever repeating what it holds.
pub(super) fn decode<'a, T: Deserialize<'a>>(what: &'static str, bytes: &'a [u8]) -> Result<T, CredentialError> {
    serde_json::from_slice(bytes)
        .map_err(|_| CredentialError::Malformed { what, why: "it is no JSON object with the documented fields" })
}

/// `2006-01-02T15:04:05Z`.
pub(super) fn moment(what: &'static str, text: &str) -> Result<SystemTime, CredentialError> {
    let parsed: Result<jiff::Timestamp, _> = text.parse();
    parsed.map(SystemTime::from).map_err(|_| CredentialError::Malformed { what, why: "its expiration is no time" })
}

/// A secret, taken from the buffer that is read without a copy in between wherever it is spelled without escapes.
pub(super) struct Secret(pub(super) SecretString);

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl de::Visitor<'_> for Text {
            type Value = Secret;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }

            fn visit_str<E>(self, text: &str) -> Result<Secret, E> {
                Ok(Secret(SecretString::from(text)))
            }
        }
        deserializer.deserialize_str(Text)
    }
}
