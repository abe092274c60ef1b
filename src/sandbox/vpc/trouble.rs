//! What goes wrong for a while rather than now and then: outages, credentials that are not accepted, a busy gateway.

use serde::{Deserialize, Serialize};

use super::refusal::Refusal;
use super::request::Request;
use crate::machine::identity::GatewayId;

/// What every request of a scope suffers while it lasts. Nothing that it strikes is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trouble {
    /// Nobody answers.
    Silence,
    /// 503 `ServiceUnavailable`.
    Unavailable,
    /// 400 `Throttling.User`.
    Throttled,
    /// 409 `OperationConflict`: another operation on the gateway is running. Requests that change something.
    Busy,
    /// 400 `InvalidSecurityToken.Expired`: the temporary key is past its end.
    ExpiredToken,
    /// 404 `InvalidAccessKeyId.NotFound`: the key was deleted, or is not known everywhere yet.
    UnknownKey,
    /// 400 `SignatureDoesNotMatch`: the secret was changed.
    BadSignature,
    /// 400 `InvalidTimeStamp.Expired`: the clocks differ by more than 15 minutes.
    ClockSkew,
    /// 403 `Forbidden.RAM`: the policy was taken away.
    Forbidden,
}

impl Trouble {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Silence,
        Self::Unavailable,
        Self::Throttled,
        Self::Busy,
        Self::ExpiredToken,
        Self::UnknownKey,
        Self::BadSignature,
        Self::ClockSkew,
        Self::Forbidden,
    ];

    /// The name by which people ask for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Silence => "silence",
            Self::Unavailable => "unavailable",
            Self::Throttled => "throttled",
            Self::Busy => "busy",
            Self::ExpiredToken => "expired-token",
            Self::UnknownKey => "unknown-key",
            Self::BadSignature => "bad-signature",
            Self::ClockSkew => "clock-skew",
            Self::Forbidden => "forbidden",
        }
    }

    /// What it does, in a few words.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Silence => "nobody answers",
            Self::Unavailable => "503 ServiceUnavailable",
            Self::Throttled => "400 Throttling.User",
            Self::Busy => "409 OperationConflict to requests that change something",
            Self::ExpiredToken => "400 InvalidSecurityToken.Expired",
            Self::UnknownKey => "404 InvalidAccessKeyId.NotFound",
            Self::BadSignature => "400 SignatureDoesNotMatch",
            Self::ClockSkew => "400 InvalidTimeStamp.Expired",
            Self::Forbidden => "403 Forbidden.RAM",
        }
    }

    /// Whether it can strike a request.
    pub(super) fn strikes(self, request: &Request) -> bool {
        self != Self::Busy || request.mutates()
    }

    /// What the caller hears; `None` is nothing.
    pub(super) fn refusal(self) -> Option<Refusal> {
        match self {
            Self::Silence => None,
            Self::Unavailable => Some(Refusal::service_unavailable()),
            Self::Throttled => Some(Refusal::throttled()),
            Self::Busy => Some(Refusal::operation_conflict()),
            Self::ExpiredToken => Some(Refusal::security_token_expired()),
            Self::UnknownKey => Some(Refusal::access_key_unknown()),
            Self::BadSignature => Some(Refusal::signature_mismatch()),
            Self::ClockSkew => Some(Refusal::timestamp_expired()),
            Self::Forbidden => Some(Refusal::forbidden_by_ram()),
        }
    }
}

/// A trouble with the time for which it lasts. Times are milliseconds of model time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spell {
    /// What is the matter.
    pub trouble: Trouble,
    /// From when on.
    pub from_ms: u64,
    /// Until when, not included; `u64::MAX` lasts until it is lifted.
    pub until_ms: u64,
    /// Only calls that name this gateway, or its table; `None` strikes every call.
    pub gateway: Option<GatewayId>,
}

impl Spell {
    /// A trouble of every call.
    #[must_use]
    pub const fn of_all(trouble: Trouble, from_ms: u64, until_ms: u64) -> Self {
        Self { trouble, from_ms, until_ms, gateway: None }
    }

    /// A trouble of one gateway's calls.
    #[must_use]
    pub const fn of_gateway(trouble: Trouble, gateway: GatewayId, from_ms: u64, until_ms: u64) -> Self {
        Self { trouble, from_ms, until_ms, gateway: Some(gateway) }
    }

    pub(super) fn lasts(&self, now_ms: u64, gateway: Option<&GatewayId>) -> bool {
        (self.from_ms..self.until_ms).contains(&now_ms) && (self.gateway.is_none() || self.gateway.as_ref() == gateway)
    }
}
