//! The checks of the API gateway in front of every product: who calls, when, and whether the words are the caller's
//! (aliyun-api.md §3.5, §3.6, §5). Pure: the time is an argument.
//!
//! A nonce is spent only by a request whose signature is right, so that nobody can spend another's.

use std::collections::{BTreeMap, BTreeSet};

use secrecy::{ExposeSecret, SecretString};

use super::keys::Keys;
use super::{declared, decode};
use crate::cloud::sign;
use crate::sandbox::vpc::Refusal;

/// How far the caller's clock may be from ours (aliyun-api.md §3.6, `InvalidTimeStamp.Expired`).
const SKEW_MAX_MS: u64 = 15 * 60 * 1000;

/// How many nonces are remembered at most; beyond it the oldest are forgotten. At a thousand requests a second they are
/// those of a quarter of an hour.
const NONCES_MAX: usize = 1_000_000;

/// The parameters that every request has, and that are not the action's own.
const COMMON: [&str; 11] = [
    "AccessKeyId",
    "Action",
    "Format",
    "SecurityToken",
    "Signature",
    "SignatureMethod",
    "SignatureNonce",
    "SignatureType",
    "SignatureVersion",
    "Timestamp",
    "Version",
];

/// The common parameters that must be there, in the order in which they are missed.
const MANDATORY: [&str; 6] =
    ["Version", "AccessKeyId", "SignatureMethod", "SignatureVersion", "SignatureNonce", "Signature"];

/// The parameters that are the action's own.
pub(super) fn own_parameters(mut parameters: BTreeMap<String, String>) -> BTreeMap<String, String> {
    parameters.retain(|name, _| !COMMON.contains(&name.as_str()));
    parameters
}

/// What answers need of the common parameters.
pub(super) struct Common {
    action: String,
    product: &'static str,
}

impl Common {
    pub(super) fn of(parameters: &BTreeMap<String, String>) -> Self {
        let action = parameters.get("Action").cloned().unwrap_or_default();
        let version = parameters.get("Version").map(String::as_str).unwrap_or_default();
        Self { action, product: decode::product(version).unwrap_or("Vpc") }
    }

    pub(super) fn action(&self) -> &str {
        &self.action
    }

    pub(super) const fn product(&self) -> &'static str {
        self.product
    }
}

/// Lets a request through, and spends its nonce.
pub(super) fn check(
    method: &str,
    parameters: &BTreeMap<String, String>,
    wall_ms: u64,
    keys: &Keys,
    nonces: &mut Nonces,
) -> Result<(), Refusal> {
    if method != "GET" && method != "POST" {
        return Err(Refusal::new(403, "UnsupportedHTTPMethod", "This http method is not supported."));
    }
    let value = |name: &str| parameters.get(name).map(String::as_str).filter(|value| !value.is_empty());
    let action = value("Action").ok_or_else(|| missing("Action"))?;
    if let Some(name) = MANDATORY.into_iter().find(|name| value(name).is_none()) {
        return Err(missing(name));
    }
    if value("Format").is_some_and(|format| !format.eq_ignore_ascii_case("json")) {
        return Err(declared::unsupported("Format"));
    }
    let key = value("AccessKeyId").unwrap_or_default();
    let secret = keys.secret_of(key, value("SecurityToken"), wall_ms)?;
    let sent_ms = timestamp(value("Timestamp"))?;
    if sent_ms.abs_diff(wall_ms) > SKEW_MAX_MS {
        return Err(Refusal::timestamp_expired());
    }
    if value("SignatureMethod") != Some("HMAC-SHA1") || value("SignatureVersion") != Some("1.0") {
        let message = "The request signature does not conform to Aliyun standards.";
        return Err(Refusal::new(400, "IncompleteSignature", message));
    }
    verify(secret, method, parameters)?;
    if !nonces.spend(value("SignatureNonce").unwrap_or_default(), sent_ms, wall_ms) {
        let message = "Specified signature nonce was used already.";
        return Err(Refusal::new(400, "SignatureNonceUsed", message));
    }
    if value("Version").and_then(decode::product) != decode::product_of(action) || !decode::is_known(action) {
        let message = "Specified api is not found,please check your url and method.";
        return Err(Refusal::new(404, "InvalidApi.NotFound", message));
    }
    Ok(())
}

fn verify(secret: &SecretString, method: &str, parameters: &BTreeMap<String, String>) -> Result<(), Refusal> {
    let ours = sign::string_to_sign(method, parameters);
    let theirs = parameters.get(sign::SIGNATURE).map(String::as_str).unwrap_or_default();
    if sign::verify(secret.expose_secret(), &ours, theirs) {
        return Ok(());
    }
    let message =
        format!("Specified signature is not matched with our calculation. server string to sign is:{}", ours.as_str());
    Err(Refusal::new(400, "SignatureDoesNotMatch", message))
}

/// A parameter that the gateway misses.
pub(super) fn missing(name: &str) -> Refusal {
    Refusal::new(400, format!("Missing{name}"), format!("{name} is mandatory for this action."))
}

/// `YYYY-MM-DDThh:mm:ssZ`, and nothing else that some library would read as well.
fn timestamp(text: Option<&str>) -> Result<u64, Refusal> {
    let text =
        text.ok_or_else(|| Refusal::new(400, "IllegalTimestamp", "The input parameter Timestamp is missing."))?;
    let shaped = text.len() == "2016-02-23T12:46:24Z".len() && text.ends_with('Z') && text.get(10..11) == Some("T");
    let parsed: Option<jiff::Timestamp> = if shaped { text.parse().ok() } else { None };
    parsed.and_then(|time| u64::try_from(time.as_millisecond()).ok()).ok_or_else(|| {
        let message = "Specified time stamp or date value is not well formatted.";
        Refusal::new(400, "InvalidTimeStamp.Format", message)
    })
}

/// The nonces of the requests that could be replayed: those whose timestamp is not yet expired.
#[derive(Debug, Default)]
pub(super) struct Nonces {
    known: BTreeSet<String>,
    by_expiry: BTreeSet<(u64, String)>,
}

impl Nonces {
    /// Whether the nonce is new. It is remembered for as long as its timestamp would be let through.
    fn spend(&mut self, nonce: &str, sent_ms: u64, wall_ms: u64) -> bool {
        while let Some((expiry_ms, _)) = self.by_expiry.first() {
            if *expiry_ms >= wall_ms && self.by_expiry.len() < NONCES_MAX {
                break;
            }
            if let Some((_, expired)) = self.by_expiry.pop_first() {
                self.known.remove(&expired);
            }
        }
        if !self.known.insert(nonce.to_owned()) {
            return false;
        }
        self.by_expiry.insert((sent_ms.saturating_add(SKEW_MAX_MS), nonce.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_documented_form_of_a_timestamp_is_read() {
        assert_eq!(timestamp(Some("2016-02-23T12:46:24Z")).unwrap(), 1_456_231_584_000);
        for bad in
            ["2016-02-23 12:46:24Z", "2016-02-23T12:46:24", "2016-02-23T12:46:24+08:00", "mock date", "1456231584"]
        {
            assert_eq!(timestamp(Some(bad)).unwrap_err().code, "InvalidTimeStamp.Format", "{bad}");
        }
        assert_eq!(timestamp(None).unwrap_err().code, "IllegalTimestamp");
    }

    #[test]
    fn a_nonce_is_known_until_its_timestamp_expires() {
        let mut nonces = Nonces::default();
        assert!(nonces.spend("n", 1_000, 0));
        assert!(!nonces.spend("n", 1_000, 1_000 + SKEW_MAX_MS));
        assert!(nonces.spend("n", 2_000_000, 1_001 + SKEW_MAX_MS));
        assert_eq!(nonces.known.len(), nonces.by_expiry.len());
    }
}
