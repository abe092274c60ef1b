//! RRSA: the pod's service account token is exchanged for a temporary key of a role, by an unsigned `AssumeRoleWithOIDC`
//! (aliyun-api.md §6). The token file is replaced by the kubelet, so it is read anew for every exchange.
//!
//! The form that holds the token is wiped when the HTTP client drops it. What cannot be wiped from here are the buffers of
//! HTTP and TLS through which it goes; the token ends with the hour for which the kubelet asked.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use reqwest::{Client, Url};
use secrecy::SecretString;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::fetch::{self, Secret};
use super::refreshing::{Fetching, Source, Temporary};
use super::{AccessKey, CredentialError};
use crate::cloud::rpc::{self, WallClock};
use crate::cloud::sign;

/// How long the key is asked for: the vendor's default.
const DURATION_S: u32 = 3_600;

/// Total time of one exchange: the vendor's connect and read time-outs together.
const TIMEOUT: Duration = Duration::from_secs(15);

/// The exchange.
pub struct Oidc {
    http: Client,
    clock: WallClock,
    endpoint: Url,
    role: String,
    provider: String,
    token_file: PathBuf,
    session: String,
}

/// What the environment says of the exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cloud) struct OidcSettings {
    pub(in crate::cloud) endpoint: Url,
    pub(in crate::cloud) role: String,
    pub(in crate::cloud) provider: String,
    pub(in crate::cloud) token_file: PathBuf,
    pub(in crate::cloud) session: String,
}

impl Oidc {
    pub(super) fn new(settings: OidcSettings, clock: WallClock) -> Result<Self, CredentialError> {
        let OidcSettings { endpoint, role, provider, token_file, session } = settings;
        let http = rpc::http(endpoint.scheme() == "http", rpc::CONNECT_TIMEOUT)
            .map_err(|source| CredentialError::Client { what: Self::NAME, source })?;
        Ok(Self { http, clock, endpoint, role, provider, token_file, session })
    }

    /// The form of the exchange, in room that is reserved at once.
    fn form(&self, token: &str) -> Form {
        let duration = DURATION_S.to_string();
        let fields = [
            ("RoleArn", self.role.as_str()),
            ("OIDCProviderArn", &self.provider),
            ("OIDCToken", token),
            ("RoleSessionName", &self.session),
            ("DurationSeconds", &duration),
        ];
        let encoded = fields.map(|(name, value)| (name, sign::percent_encode(value)));
        let room = encoded.iter().fold(0_usize, |room, (name, value)| {
            room.saturating_add(name.len()).saturating_add(value.len()).saturating_add("=&".len())
        });
        let mut form = Zeroizing::new(String::with_capacity(room));
        for (name, value) in &encoded {
            if !form.is_empty() {
                form.push('&');
            }
            form.push_str(name);
            form.push('=');
            form.push_str(value);
        }
        Form(form)
    }

    async fn exchange(&self) -> Result<Temporary, CredentialError> {
        let bytes = fetch::file("the service account token", &self.token_file)?;
        let token = std::str::from_utf8(&bytes).map(str::trim).unwrap_or_default();
        if token.is_empty() {
            return Err(CredentialError::Malformed {
                what: "the service account token",
                why: "it is empty or no text",
            });
        }
        let second = jiff::Timestamp::try_from((self.clock)()).map(|now| now.as_second());
        let now = second.and_then(jiff::Timestamp::from_second);
        let now = now.map_err(|_| CredentialError::Malformed { what: "the clock", why: "its time is no date" })?;
        let mut url = self.endpoint.clone();
        url.set_query(Some(&sign::canonical_query(
            [
                ("Action".to_owned(), "AssumeRoleWithOIDC".to_owned()),
                ("Format".to_owned(), "JSON".to_owned()),
                ("Timestamp".to_owned(), now.to_string()),
                ("Version".to_owned(), "2015-04-01".to_owned()),
            ]
            .iter()
            .map(|(name, value)| (name, value)),
        )));
        let form = self.form(token);
        let request = self
            .http
            .post(url)
            .header(reqwest::header::ACCEPT, "application/json")
            .header(reqwest::header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .timeout(TIMEOUT)
            .body(Bytes::from_owner(form));
        let answer = fetch::ask(Self::NAME, request).await?;
        if !answer.is_good() {
            return Err(answer.refused(Self::NAME, token));
        }
        read(&answer.body)
    }
}

/// The form as the HTTP client keeps it: wiped when the last part of it was sent and dropped.
struct Form(Zeroizing<String>);

impl AsRef<[u8]> for Form {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl Source for Oidc {
    const NAME: &'static str = "the security token service";
    const REREAD: Option<Duration> = None;

    fn fetch(&self) -> Fetching<'_> {
        Box::pin(self.exchange())
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Assumed {
    credentials: Issued,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Issued {
    access_key_id: String,
    access_key_secret: Secret,
    security_token: Secret,
    expiration: String,
}

fn read(body: &[u8]) -> Result<Temporary, CredentialError> {
    let Assumed { credentials } = fetch::decode(Oidc::NAME, body)?;
    let Issued { access_key_id, access_key_secret: Secret(secret), security_token: Secret(token), expiration } =
        credentials;
    let token: SecretString = token;
    Ok(Temporary {
        key: AccessKey::new(access_key_id, secret, Some(token))?,
        expires: fetch::moment(Oidc::NAME, &expiration)?,
    })
}
