//! Who may call: the metadata service of an instance and the security token service, as far as they hand out temporary keys
//! (aliyun-api.md §6). Both answer at the address of everything else.

use std::collections::BTreeMap;
use std::ops::Range;

use axum::http::{HeaderMap, Method, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use super::keys::{Fresh, Keys};
use crate::sandbox::vpc::{Refusal, World};

/// The unsigned action of the security token service.
pub(super) const ASSUME_ROLE: &str = "AssumeRoleWithOIDC";

/// Its version.
const STS_VERSION: &str = "2015-04-01";

/// Where everything of the metadata service stands.
pub(super) const METADATA_ROOT: &str = "/latest/";

/// The longest life of a metadata token, in seconds.
const TOKEN_LIFE_MAX_S: u64 = 21_600;

const TOKEN_LIFE_HEADER: &str = "x-aliyun-ecs-metadata-token-ttl-seconds";
const TOKEN_HEADER: &str = "x-aliyun-ecs-metadata-token";

/// How temporary keys are handed out.
#[derive(Clone, Debug)]
pub struct Issuing {
    /// The RAM role of the instance, and of whoever brings a service account token.
    pub role: String,
    /// How long a key lives. The security token service shortens it to what was asked for.
    pub life_s: u64,
    /// Which ways the metadata service takes.
    pub ways: Ways,
    /// The only service account token that is taken; any that is not empty where absent.
    pub oidc_token: Option<SecretString>,
    /// When both services refuse: milliseconds of the clock since the start.
    pub refusing: Vec<Range<u64>>,
}

impl Default for Issuing {
    fn default() -> Self {
        Self {
            role: "natgw-sandbox".to_owned(),
            life_s: 3_600,
            ways: Ways::Both,
            oidc_token: None,
            refusing: Vec::new(),
        }
    }
}

/// Which ways the metadata service takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ways {
    /// With a token and without.
    Both,
    /// Only with a token (hardened mode).
    Hardened,
    /// Only without: the service knows no tokens.
    Plain,
}

/// Both services.
pub(super) struct Identity {
    issuing: Issuing,
    /// Metadata tokens with their ends.
    tokens: BTreeMap<String, u64>,
    given: u64,
}

/// What is heard.
pub(super) struct Heard {
    pub(super) status: StatusCode,
    pub(super) text: String,
}

impl Heard {
    fn good(text: impl Into<String>) -> Self {
        Self { status: StatusCode::OK, text: text.into() }
    }

    fn bad(status: StatusCode) -> Self {
        Self { status, text: format!("{status}\n") }
    }
}

impl Identity {
    pub(super) const fn new(issuing: Issuing) -> Self {
        Self { issuing, tokens: BTreeMap::new(), given: 0 }
    }

    /// One request to the metadata service.
    pub(super) fn metadata(
        &mut self,
        (wall_ms, elapsed_ms): (u64, u64),
        (method, path, headers): (&Method, &str, &HeaderMap),
        world: &World,
        keys: &mut Keys,
    ) -> Heard {
        if self.refuses(elapsed_ms) {
            return Heard::bad(StatusCode::SERVICE_UNAVAILABLE);
        }
        let path = path.strip_prefix(METADATA_ROOT).unwrap_or_default();
        if path == "api/token" {
            return self.token(wall_ms, method, headers);
        }
        if method != Method::GET {
            return Heard::bad(StatusCode::METHOD_NOT_ALLOWED);
        }
        let given = headers.get(TOKEN_HEADER).map(|token| token.to_str().unwrap_or_default());
        match (given, self.issuing.ways) {
            (None, Ways::Hardened) => return Heard::bad(StatusCode::FORBIDDEN),
            (Some(token), Ways::Both | Ways::Hardened)
                if self.tokens.get(token).is_none_or(|ends_ms| *ends_ms <= wall_ms) =>
            {
                return Heard::bad(StatusCode::UNAUTHORIZED);
            }
            (None | Some(_), Ways::Both | Ways::Hardened | Ways::Plain) => {}
        }
        let zone = world.vswitches.first();
        let text = |text: Option<&str>| text.map_or_else(|| Heard::bad(StatusCode::NOT_FOUND), Heard::good);
        match path.strip_prefix("meta-data/").unwrap_or_default() {
            "ram/security-credentials/" => Heard::good(self.issuing.role.as_str()),
            "region-id" => Heard::good(world.region.as_str()),
            "vpc-id" => Heard::good(world.vpc.as_str()),
            "zone-id" => text(zone.map(|vswitch| vswitch.zone.as_str())),
            "vswitch-id" => text(zone.map(|vswitch| vswitch.id.as_str())),
            other if other.strip_prefix("ram/security-credentials/") == Some(self.issuing.role.as_str()) => {
                let fresh = keys.issue(wall_ms, self.issuing.life_s.saturating_mul(1_000));
                let updated = seconds(wall_ms);
                Heard::good(role_key(&fresh, &updated).to_string())
            }
            _ => Heard::bad(StatusCode::NOT_FOUND),
        }
    }

    fn token(&mut self, wall_ms: u64, method: &Method, headers: &HeaderMap) -> Heard {
        if self.issuing.ways == Ways::Plain {
            return Heard::bad(StatusCode::NOT_FOUND);
        }
        if method != Method::PUT {
            return Heard::bad(StatusCode::METHOD_NOT_ALLOWED);
        }
        let life = headers.get(TOKEN_LIFE_HEADER).and_then(|life| life.to_str().ok()?.parse::<u64>().ok());
        let Some(life_s) = life.filter(|life| (1..=TOKEN_LIFE_MAX_S).contains(life)) else {
            return Heard::bad(StatusCode::BAD_REQUEST);
        };
        self.given = self.given.saturating_add(1);
        let token = blake3::hash(format!("metadata token {}", self.given).as_bytes()).to_hex().to_string();
        self.tokens.retain(|_, ends_ms| *ends_ms > wall_ms);
        self.tokens.insert(token.clone(), wall_ms.saturating_add(life_s.saturating_mul(1_000)));
        Heard::good(token)
    }

    /// One exchange of a service account token.
    pub(super) fn assume(
        &self,
        (wall_ms, elapsed_ms): (u64, u64),
        parameters: &BTreeMap<String, String>,
        keys: &mut Keys,
    ) -> Result<Value, Refusal> {
        let value = |name: &str| parameters.get(name).map(String::as_str).filter(|value| !value.is_empty());
        let must = |name: &str| value(name).ok_or_else(|| super::gateway::missing(name));
        if self.refuses(elapsed_ms) {
            return Err(Refusal::service_unavailable());
        }
        if value("Version") != Some(STS_VERSION) {
            let message = "Specified parameter Version is not valid.";
            return Err(Refusal::new(400, "InvalidVersion", message));
        }
        let (role, _) = (must("RoleArn")?, must("OIDCProviderArn")?);
        let (token, session) = (must("OIDCToken")?, must("RoleSessionName")?);
        if self.issuing.oidc_token.as_ref().is_some_and(|taken| taken.expose_secret() != token) {
            let message = "This JWT token is invalid.";
            return Err(Refusal::new(400, "AuthenticationFail.OIDCToken.Invalid", message));
        }
        if role.rsplit_once('/').is_none_or(|(_, name)| name != self.issuing.role) {
            let message = "The specified RoleArn is not existed.";
            return Err(Refusal::new(404, "EntityNotExist.Role", message));
        }
        let asked = value("DurationSeconds").map_or(Ok(3_600), str::parse::<u64>);
        let Some(asked) = asked.ok().filter(|asked| (900..=43_200).contains(asked)) else {
            let message = "The Min/Max value of DurationSeconds is 15min/12hr.";
            return Err(Refusal::new(400, "InvalidParameter.DurationSeconds", message));
        };
        let fresh = keys.issue(wall_ms, self.issuing.life_s.min(asked).saturating_mul(1_000));
        Ok(json!({
            "Credentials": {
                "AccessKeyId": fresh.id,
                "AccessKeySecret": fresh.secret.expose_secret(),
                "SecurityToken": fresh.token.expose_secret(),
                "Expiration": fresh.expiration,
            },
            "AssumedRoleUser": { "Arn": format!("{role}/{session}"), "AssumedRoleId": format!("1:{session}") },
        }))
    }

    fn refuses(&self, elapsed_ms: u64) -> bool {
        self.issuing.refusing.iter().any(|during| during.contains(&elapsed_ms))
    }
}

/// The parameters of an exchange that may be written down.
pub(super) fn shown(mut parameters: BTreeMap<String, String>) -> BTreeMap<String, String> {
    parameters
        .retain(|name, _| ["RoleArn", "OIDCProviderArn", "RoleSessionName", "DurationSeconds"].contains(&&**name));
    parameters
}

fn role_key(fresh: &Fresh, updated: &str) -> Value {
    json!({
        "Code": "Success",
        "AccessKeyId": fresh.id,
        "AccessKeySecret": fresh.secret.expose_secret(),
        "SecurityToken": fresh.token.expose_secret(),
        "LastUpdated": updated,
        "Expiration": fresh.expiration,
    })
}

fn seconds(wall_ms: u64) -> String {
    let second = i64::try_from(wall_ms / 1_000).ok().and_then(|second| jiff::Timestamp::from_second(second).ok());
    second.unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_string()
}
