//! The RAM role of the ECS instance, from the instance's metadata service (aliyun-api.md §6).
//!
//! The hardened way is tried first: a token is fetched with PUT and sent with each GET. Where that cannot be had and it is
//! not forbidden, the plain way is taken: an instance may be older, or the answer to PUT may not reach a container.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use reqwest::{Client, Url};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::fetch::{self, Answer, Secret};
use super::refreshing::{Fetching, Source, Temporary};
use super::{AccessKey, CredentialError};
use crate::cloud::rpc::{self, WallClock};

/// Time to connect, and time to answer: the service is on the same host.
const TIMEOUT: Duration = Duration::from_secs(1);

/// For how long a metadata token is asked: the vendor's default.
const TOKEN_LIFE: Duration = Duration::from_secs(21_600);

/// A token is not used any more so long before its end.
const TOKEN_MARGIN: Duration = Duration::from_secs(60);

const TOKEN_PATH: &str = "latest/api/token";
const TOKEN_LIFE_HEADER: &str = "x-aliyun-ecs-metadata-token-ttl-seconds";
const TOKEN_HEADER: &str = "x-aliyun-ecs-metadata-token";
const ROLES_PATH: &str = "latest/meta-data/ram/security-credentials/";

/// The role of this instance.
pub struct RamRole {
    http: Client,
    clock: WallClock,
    settings: RamRoleSettings,
    token: Mutex<Option<(SecretString, SystemTime)>>,
}

/// What the environment says of the metadata service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cloud) struct RamRoleSettings {
    pub(in crate::cloud) base: Url,
    /// The role's name, where it need not be asked for.
    pub(in crate::cloud) role: Option<String>,
    /// The plain way is forbidden.
    pub(in crate::cloud) hardened: bool,
}

impl RamRole {
    pub(super) fn new(settings: RamRoleSettings, clock: WallClock) -> Result<Self, CredentialError> {
        let http = rpc::http(true, TIMEOUT).map_err(|source| CredentialError::Client { what: Self::NAME, source })?;
        Ok(Self { http, clock, settings, token: Mutex::default() })
    }

    async fn ask(&self) -> Result<Temporary, CredentialError> {
        let role = match &self.settings.role {
            Some(role) => role.clone(),
            None => self.role_name().await?,
        };
        let answer = self.get(&format!("{ROLES_PATH}{role}")).await?;
        read(&answer.body)
    }

    async fn role_name(&self) -> Result<String, CredentialError> {
        let answer = self.get(ROLES_PATH).await?;
        let name = std::str::from_utf8(&answer.body).unwrap_or_default().trim();
        // It becomes a part of a path.
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'@');
        if name.is_empty() || !name.bytes().all(plain) {
            return Err(CredentialError::Malformed { what: Self::NAME, why: "the role's name is none" });
        }
        Ok(name.to_owned())
    }

    /// Reads below the base, the hardened way where it can be had.
    async fn get(&self, path: &str) -> Result<Answer, CredentialError> {
        let held = self.held_token();
        let fresh = held.is_none();
        let token = match held {
            Some(token) => Some(token),
            None => self.new_token_or_plain().await?,
        };
        let answer = self.get_with(path, token.as_ref()).await?;
        // A token that was held may have been forgotten by the service meanwhile.
        if matches!(answer.status, 401 | 403) && token.is_some() && !fresh {
            let token = self.new_token_or_plain().await?;
            return good(self.get_with(path, token.as_ref()).await?, token.as_ref());
        }
        good(answer, token.as_ref())
    }

    async fn get_with(&self, path: &str, token: Option<&SecretString>) -> Result<Answer, CredentialError> {
        let mut request = self.http.get(self.url(path)?).timeout(TIMEOUT);
        if let Some(token) = token {
            request = request.header(TOKEN_HEADER, token.expose_secret());
        }
        fetch::ask(Self::NAME, request).await
    }

    async fn new_token_or_plain(&self) -> Result<Option<SecretString>, CredentialError> {
        match self.new_token().await {
            Ok(token) => Ok(Some(token)),
            Err(error) if self.settings.hardened => Err(error),
            Err(error) => {
                tracing::debug!("the metadata service is asked the plain way: {error}");
                Ok(None)
            }
        }
    }

    async fn new_token(&self) -> Result<SecretString, CredentialError> {
        let url = self.url(TOKEN_PATH)?;
        let request = self.http.put(url).header(TOKEN_LIFE_HEADER, TOKEN_LIFE.as_secs()).timeout(TIMEOUT);
        let answer = good(fetch::ask(Self::NAME, request).await?, None)?;
        let text = std::str::from_utf8(&answer.body).unwrap_or_default().trim();
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(CredentialError::Malformed { what: Self::NAME, why: "its token is none" });
        }
        let token = SecretString::from(text);
        let ends = (self.clock)().checked_add(TOKEN_LIFE.saturating_sub(TOKEN_MARGIN));
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = ends.map(|ends| (token.clone(), ends));
        Ok(token)
    }

    fn held_token(&self) -> Option<SecretString> {
        let now = (self.clock)();
        let held = self.token.lock().unwrap_or_else(PoisonError::into_inner);
        held.as_ref().filter(|(_, ends)| *ends > now).map(|(token, _)| token.clone())
    }

    fn url(&self, path: &str) -> Result<Url, CredentialError> {
        self.settings
            .base
            .join(path)
            .map_err(|_| CredentialError::Malformed { what: Self::NAME, why: "its address makes no URL" })
    }
}

impl Source for RamRole {
    const NAME: &'static str = "the instance's metadata service";
    const REREAD: Option<Duration> = None;

    fn fetch(&self) -> Fetching<'_> {
        Box::pin(self.ask())
    }
}

/// An answer that is none of success may echo the token that was sent.
fn good(answer: Answer, token: Option<&SecretString>) -> Result<Answer, CredentialError> {
    let sent = token.map_or("", |token| token.expose_secret());
    if answer.is_good() { Ok(answer) } else { Err(answer.refused(RamRole::NAME, sent)) }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Held {
    code: String,
    access_key_id: String,
    access_key_secret: Secret,
    security_token: Secret,
    expiration: String,
}

fn read(body: &[u8]) -> Result<Temporary, CredentialError> {
    let held: Held = fetch::decode(RamRole::NAME, body)?;
    if held.code != "Success" {
        return Err(CredentialError::Malformed { what: RamRole::NAME, why: "it does not say Success" });
    }
    let (Secret(secret), Secret(token)) = (held.access_key_secret, held.security_token);
    Ok(Temporary {
        key: AccessKey::new(held.access_key_id, secret, Some(token))?,
        expires: fetch::moment(RamRole::NAME, &held.expiration)?,
    })
}
