//! Who calls: the key pair with which requests are signed.
//!
//! A provider hands out what it holds at this moment and never waits; one that has to fetch and refresh does that on its
//! own. Secrets are wiped when dropped and never printed.

use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};

/// An access key, and the token that goes with it where the key is a temporary one.
#[derive(Clone, Debug)]
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
}

/// Why no request can be signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// One half of a key pair is missing.
    #[error("the {0} is empty, so no request can be signed")]
    Empty(&'static str),
    /// A temporary key has ended and no newer one is there.
    #[error("the temporary access key ended and could not be renewed: {0}")]
    Expired(String),
}

/// Where access keys come from.
pub trait Credentials {
    /// The key to sign the next request with.
    ///
    /// # Errors
    ///
    /// Where there is none at this moment.
    fn current(&self) -> Result<Arc<AccessKey>, CredentialError>;
}

/// A key that never changes: AK/SK of the configuration or of the environment.
#[derive(Clone, Debug)]
pub struct StaticKey(Arc<AccessKey>);

impl StaticKey {
    /// Serves `key` for ever.
    #[must_use]
    pub fn new(key: AccessKey) -> Self {
        Self(Arc::new(key))
    }
}

impl Credentials for StaticKey {
    fn current(&self) -> Result<Arc<AccessKey>, CredentialError> {
        Ok(Arc::clone(&self.0))
    }
}
