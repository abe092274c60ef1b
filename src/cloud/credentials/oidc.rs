//! RRSA: the pod's service account token is exchanged for a temporary key of a role, by an unsigned `AssumeRoleWithOIDC`
//! (aliyun-api.md §6). The token file is replaced by the kubelet, so it is read anew for every exchange.

use std::path::PathBuf;
use std::time::Duration;

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
        let form = Zeroizing::new(format!(
            "RoleArn={}&OIDCProviderArn={}&OIDCToken={}&RoleSessionName={}&DurationSeconds={DURATION_S}",
            sign::percent_encode(&self.role),
            sign::percent_encode(&self.provider),
            sign::percent_encode(token),
            sign::percent_encode(&self.session),
        ));
        let request = self
            .http
            .post(url)
            .header(reqwest::header::ACCEPT, "application/json")
            .header(reqwest::header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .timeout(TIMEOUT)
            .body(form.as_bytes().to_vec());
        let answer = fetch::ask(Self::NAME, request).await?;
        if !answer.is_good() {
            return Err(answer.refused(Self::NAME, token));
        }
        read(&answer.body)
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
