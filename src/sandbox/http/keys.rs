//! The access keys that the simulated cloud knows: the one it was started with, and temporary ones that it issues. Pure: the
//! time is an argument.

use std::collections::{BTreeMap, VecDeque};

use secrecy::{ExposeSecret, SecretString};

use crate::sandbox::vpc::Refusal;

/// Issued keys that are remembered; beyond it the oldest are forgotten as if they had been deleted.
const ISSUED_MAX: usize = 10_000;

/// All keys.
pub(super) struct Keys {
    id: String,
    secret: SecretString,
    seed: u64,
    count: u64,
    issued: BTreeMap<String, Issued>,
    order: VecDeque<String>,
}

#[derive(Clone)]
struct Issued {
    secret: SecretString,
    token: SecretString,
    ends_ms: u64,
}

/// A temporary key, as it goes to whoever asked.
pub(super) struct Fresh {
    pub(super) id: String,
    pub(super) secret: SecretString,
    pub(super) token: SecretString,
    /// `2006-01-02T15:04:05Z`.
    pub(super) expiration: String,
}

impl Keys {
    pub(super) const fn new(id: String, secret: SecretString, seed: u64) -> Self {
        Self { id, secret, seed, count: 0, issued: BTreeMap::new(), order: VecDeque::new() }
    }

    /// Issues a temporary key. Its end is told to the second, and kept to it.
    pub(super) fn issue(&mut self, wall_ms: u64, life_ms: u64) -> Fresh {
        self.count = self.count.saturating_add(1);
        let id = format!("STS.sandbox{:08}", self.count);
        let word = |what: &str| {
            let text = format!("{what} of the simulated cloud {} {}", self.seed, self.count);
            blake3::hash(text.as_bytes()).to_hex().to_string()
        };
        // A real token has such characters too: each has to survive being encoded and signed.
        let token = SecretString::from(format!("CAIS+{}/{}==", word("token"), word("tail")));
        let secret = SecretString::from(word("secret"));
        let ends_ms = wall_ms.saturating_add(life_ms) / 1_000 * 1_000;
        let issued = Issued { secret: secret.clone(), token: token.clone(), ends_ms };
        self.issued.insert(id.clone(), issued);
        self.order.push_back(id.clone());
        if self.order.len() > ISSUED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.issued.remove(&oldest);
        }
        let end = i64::try_from(ends_ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
        Fresh { id, secret, token, expiration: end.unwrap_or(jiff::Timestamp::MAX).to_string() }
    }

    /// The secret with which a key signs, where the key may call now.
    pub(super) fn secret_of(&self, id: &str, token: Option<&str>, wall_ms: u64) -> Result<&SecretString, Refusal> {
        let Some(issued) = self.issued.get(id) else {
            return match token {
                _ if id != self.id => Err(Refusal::access_key_unknown()),
                None => Ok(&self.secret),
                Some(_) => Err(Refusal::security_token_mismatched()),
            };
        };
        match token {
            None => Err(Refusal::access_key_unknown()),
            Some(token) if token != issued.token.expose_secret() => Err(Refusal::security_token_mismatched()),
            Some(_) if issued.ends_ms <= wall_ms => Err(Refusal::security_token_expired()),
            Some(_) => Ok(&issued.secret),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temporary_key_calls_with_its_token_until_its_end() {
        let mut keys = Keys::new("root".into(), "s".into(), 1);
        let (one, other) = (keys.issue(5_500, 2_000), keys.issue(5_500, 2_000));
        assert_eq!((one.expiration.as_str(), other.id == one.id), ("1970-01-01T00:00:07Z", false));
        let secret = |id: &str, token: Option<&str>, at| {
            keys.secret_of(id, token, at).map(|secret| secret.expose_secret().to_owned()).map_err(|error| error.code)
        };
        let token = Some(one.token.expose_secret());
        assert_eq!(secret(&one.id, token, 6_999), Ok(one.secret.expose_secret().to_owned()));
        assert_eq!(secret(&one.id, token, 7_000), Err("InvalidSecurityToken.Expired".into()));
        assert_eq!(secret(&one.id, None, 6_000), Err("InvalidAccessKeyId.NotFound".into()));
        assert_eq!(
            secret(&other.id, token, 6_000),
            Err("InvalidSecurityToken.MismatchWithAccessKey".into()),
            "the token of another key"
        );
        assert_eq!(secret("root", None, 6_000), Ok("s".to_owned()));
        assert!(secret("root", token, 6_000).is_err() && secret("nobody", None, 6_000).is_err());
    }
}
