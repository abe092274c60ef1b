//! Which source is used: the first of those that there are (design.md §8).

use std::path::Path;
use std::sync::Arc;

use super::{AccessKey, AddonToken, CredentialError, Credentials, Oidc, RamRole, Refreshing, StaticKey};
use crate::cloud::environment::Environment;
use crate::cloud::rpc::WallClock;

/// The source that was chosen, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chosen {
    /// The addon token file.
    AddonToken,
    /// The key of the configuration.
    Configuration,
    /// The key of the environment.
    Environment,
    /// RRSA.
    Oidc,
    /// The RAM role of the instance.
    RamRole,
}

/// Takes the first source that there is: addon token file, configured key, environment, RRSA, RAM role of the instance.
///
/// A file that is there is the source, also while it cannot be read: falling back would call with somebody else's rights.
///
/// # Errors
/// There is none, one that there is lacks a part, or no HTTP client can be built. Nothing is fetched yet.
pub fn choose(
    addon_token: &Path,
    configured: Option<AccessKey>,
    environment: &Environment,
    clock: WallClock,
) -> Result<(Chosen, Arc<dyn Credentials>), CredentialError> {
    if addon_token.exists() {
        let source = Refreshing::new(AddonToken::at(addon_token), clock);
        return Ok((Chosen::AddonToken, Arc::new(source)));
    }
    if let Some(key) = configured {
        return Ok((Chosen::Configuration, Arc::new(StaticKey::new(key))));
    }
    if let Some(key) = environment.access_key()? {
        return Ok((Chosen::Environment, Arc::new(StaticKey::new(key))));
    }
    if let Some(settings) = environment.oidc()? {
        let source = Oidc::new(settings, Arc::clone(&clock))?;
        return Ok((Chosen::Oidc, Arc::new(Refreshing::new(source, clock))));
    }
    let settings = environment.ram_role()?.ok_or(CredentialError::Nowhere)?;
    let source = RamRole::new(settings, Arc::clone(&clock))?;
    Ok((Chosen::RamRole, Arc::new(Refreshing::new(source, clock))))
}
