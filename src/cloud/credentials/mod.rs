//! Who calls: the key pair with which requests are signed, and where it comes from (aliyun-api.md §6).
//!
//! A provider hands out what it holds, and fetches only where it holds nothing that is valid. [`Refreshing`] is what all
//! providers of temporary keys have in common: it renews ahead of the end, one flight at a time, and serves the old key
//! while a renewal fails and the old key is valid. [`choose()`] takes the first source that there is.
//!
//! Secrets are wiped when dropped and never printed: no type here shows them, and no error repeats what was read.

mod addon;
mod choose;
mod fetch;
mod oidc;
mod ram_role;
mod refreshing;
mod scrub;

use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::{fmt, io};

use secrecy::{ExposeSecret, SecretString};

pub use self::addon::{ADDON_TOKEN, AddonToken};
pub use self::choose::{Chosen, choose};
pub use self::oidc::Oidc;
pub(super) use self::oidc::OidcSettings;
pub use self::ram_role::RamRole;
pub(super) use self::ram_role::RamRoleSettings;
pub use self::refreshing::{Fetching, Refreshing, Source, Temporary};

use self::scrub::without;
use super::endpoints::EndpointError;

/// An access key, and the token that goes with it where the key is a temporary one.
#[derive(Clone)]
pub struct AccessKey {
    id: String,
    secret: SecretString,
    security_token: Option<SecretString>,
}

impl AccessKey {
    /// Takes a key pair as configured or fetched.
    ///
    /// # Errors
    ///
    /// Where one half is empty: the cloud would answer that the signature does not match, which misleads.
    pub fn new(
        id: String,
        secret: SecretString,
        security_token: Option<SecretString>,
    ) -> Result<Self, CredentialError> {
        if id.is_empty() {
            return Err(CredentialError::Empty("access key id"));
        }
        if secret.expose_secret().is_empty() {
            return Err(CredentialError::Empty("access key secret"));
        }
        Ok(Self { id, secret, security_token })
    }

    /// The AccessKeyId. It is sent in clear and is no secret.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The pair, for whoever has to know both halves: a simulated cloud that is to take this key.
    #[must_use]
    pub fn pair(&self) -> (String, SecretString) {
        (self.id.clone(), self.secret.clone())
    }

    pub(super) fn secret(&self) -> &str {
        self.secret.expose_secret()
    }

    pub(super) fn security_token(&self) -> Option<&str> {
        self.security_token.as_ref().map(ExposeSecret::expose_secret)
    }

    /// A text of the cloud without what is secret: it may echo what was sent, in clear or in another spelling.
    pub(super) fn scrub(&self, text: &str) -> String {
        [Some(self.secret()), self.security_token()].into_iter().flatten().fold(text.to_owned(), without)
    }
}

/// Says nothing: configurations that hold a key are printed, keys are not.
impl fmt::Debug for AccessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccessKey")
    }
}

/// Why no request can be signed.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// One half of a key pair is missing.
    #[error("the {0} is empty, so no request can be signed")]
    Empty(&'static str),
    /// Nothing is configured that a key could come from.
    #[error(
        "there is no access key: neither an addon token, nor a configured key, nor one in the environment, nor a role \
         (ALIBABA_CLOUD_ROLE_ARN), and the RAM role of the instance is switched off"
    )]
    Nowhere,
    /// A file cannot be read.
    #[error("{what} cannot be read from {path}, so no new access key is to be had")]
    File {
        /// What the file holds.
        what: &'static str,
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What was read is not what it should be.
    #[error("{what} is not as documented ({why}), so no new access key is to be had")]
    Malformed {
        /// What was read.
        what: &'static str,
        /// What is wrong with it, without repeating it.
        why: &'static str,
    },
    /// A server did not answer.
    #[error("{what} cannot be asked, so no new access key is to be had: {why}")]
    Unreachable {
        /// Whom.
        what: &'static str,
        /// Why.
        why: String,
    },
    /// A server refused.
    #[error("{what} refuses with status {status}: {why}")]
    Refused {
        /// Who.
        what: &'static str,
        /// HTTP status.
        status: u16,
        /// Its code and words, bounded and without secrets.
        why: String,
    },
    /// A temporary key has ended and no newer one is there.
    #[error("the temporary access key ended and could not be renewed")]
    Ended(#[source] Arc<Self>),
    /// The newest temporary key to be had has ended already.
    #[error("{0} holds a temporary access key that has ended already")]
    Stale(&'static str),
    /// The address of a service cannot be used.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// There is no HTTP client.
    #[error("no HTTP client for {what} can be built")]
    Client {
        /// For whom.
        what: &'static str,
        /// Why.
        #[source]
        source: super::rpc::BuildError,
    },
}

impl CredentialError {
    /// Whether the same may go well later without anybody doing anything.
    #[must_use]
    pub const fn may_pass(&self) -> bool {
        match self {
            Self::Empty(_) | Self::Nowhere | Self::Endpoint(_) | Self::Client { .. } => false,
            Self::File { .. }
            | Self::Malformed { .. }
            | Self::Unreachable { .. }
            | Self::Refused { .. }
            | Self::Ended(_)
            | Self::Stale(_) => true,
        }
    }
}

/// A key that is there, or on its way.
pub type Current<'a> = Pin<Box<dyn Future<Output = Result<Arc<AccessKey>, CredentialError>> + Send + 'a>>;

/// Where access keys come from.
pub trait Credentials: Send + Sync {
    /// The key to sign the next request with. Waits only where none is held that is valid.
    fn current(&self) -> Current<'_>;

    /// The cloud did not accept this key: one that can be renewed is renewed before its end.
    fn refused(&self, key: &AccessKey);
}

/// A key that never changes: AK/SK of the configuration or of the environment.
#[derive(Clone)]
pub struct StaticKey(Arc<AccessKey>);

impl StaticKey {
    /// Serves `key` for ever.
    #[must_use]
    pub fn new(key: AccessKey) -> Self {
        Self(Arc::new(key))
    }
}

impl Credentials for StaticKey {
    fn current(&self) -> Current<'_> {
        Box::pin(ready(Ok(Arc::clone(&self.0))))
    }

    fn refused(&self, _: &AccessKey) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_echoes_a_secret_loses_it_in_every_spelling() {
        let key = AccessKey::new("id".to_owned(), "s/k".into(), Some("to+ken=".into())).unwrap();
        let echo = "s/k s%2Fk s%252Fk to+ken= to%2Bken%3D to%252Bken%253D id";
        let rest = "[secret] [secret] [secret] [secret] [secret] [secret] id";
        assert_eq!(key.scrub(echo), rest);
        assert_eq!(format!("{key:?}"), "AccessKey");
    }
}
