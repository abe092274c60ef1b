//! The one place that reads the environment for the cloud. The names are those of the vendor's own controllers and SDKs
//! (aliyun-api.md §1, §6).

use std::fmt;
use std::path::PathBuf;

use reqwest::Url;
use secrecy::SecretString;

use super::credentials::{AccessKey, CredentialError, OidcSettings, RamRoleSettings};
use super::endpoints::{EndpointError, base};

pub(super) const VPC_ENDPOINT: &str = "VPC_ENDPOINT";
pub(super) const ECS_ENDPOINT: &str = "ECS_ENDPOINT";
const SCHEME: &str = "ALICLOUD_CLIENT_SCHEME";
const STS_ENDPOINT: &str = "ALIBABA_CLOUD_STS_ENDPOINT";
const STS_REGION: &str = "ALIBABA_CLOUD_STS_REGION";
const METADATA_ENDPOINT: &str = "METADATA_ENDPOINT";

/// The metadata service as every instance sees it.
const METADATA: &str = "100.100.100.200";

/// RoleSessionName where none is given: it names the caller in the vendor's audit log.
const SESSION: &str = "natgw";

/// What the environment says about the cloud. Empty values count as absent.
#[derive(Clone, Default)]
pub struct Environment {
    /// `VPC_ENDPOINT`: a host, or a URL of which only host and port count.
    pub vpc_endpoint: Option<String>,
    /// `ECS_ENDPOINT`, likewise.
    pub ecs_endpoint: Option<String>,
    /// `ALICLOUD_CLIENT_SCHEME`: `HTTP` for plain text, otherwise HTTPS.
    pub scheme: Option<String>,
    access_key_id: Option<String>,
    access_key_secret: Option<SecretString>,
    security_token: Option<SecretString>,
    oidc: OidcVariables,
    instance: InstanceVariables,
}

#[derive(Clone, Debug, Default)]
struct OidcVariables {
    role: Option<String>,
    provider: Option<String>,
    token_file: Option<String>,
    session: Option<String>,
    endpoint: Option<String>,
    region: Option<String>,
    inside: bool,
}

#[derive(Clone, Debug, Default)]
struct InstanceVariables {
    endpoint: Option<String>,
    role: Option<String>,
    disabled: bool,
    hardened: bool,
}

impl Environment {
    /// Reads the variables of this process.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the environment for the cloud")]
    pub fn read() -> Self {
        Self::from_lookup(|name| std::env::var(name).ok())
    }

    /// Reads the variables through `lookup`.
    #[must_use]
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Self {
        let lookup = |name| lookup(name).filter(|value| !value.is_empty());
        let flag = |name| lookup(name).is_some_and(|value| value.eq_ignore_ascii_case("true"));
        Self {
            vpc_endpoint: lookup(VPC_ENDPOINT),
            ecs_endpoint: lookup(ECS_ENDPOINT),
            scheme: lookup(SCHEME),
            access_key_id: lookup("ALIBABA_CLOUD_ACCESS_KEY_ID"),
            access_key_secret: lookup("ALIBABA_CLOUD_ACCESS_KEY_SECRET").map(SecretString::from),
            security_token: lookup("ALIBABA_CLOUD_SECURITY_TOKEN").map(SecretString::from),
            oidc: OidcVariables {
                role: lookup("ALIBABA_CLOUD_ROLE_ARN"),
                provider: lookup("ALIBABA_CLOUD_OIDC_PROVIDER_ARN"),
                token_file: lookup("ALIBABA_CLOUD_OIDC_TOKEN_FILE"),
                session: lookup("ALIBABA_CLOUD_ROLE_SESSION_NAME"),
                endpoint: lookup(STS_ENDPOINT),
                region: lookup(STS_REGION),
                inside: flag("ALIBABA_CLOUD_VPC_ENDPOINT_ENABLED"),
            },
            instance: InstanceVariables {
                endpoint: lookup(METADATA_ENDPOINT),
                role: lookup("ALIBABA_CLOUD_ECS_METADATA"),
                disabled: flag("ALIBABA_CLOUD_ECS_METADATA_DISABLED"),
                hardened: flag("ALIBABA_CLOUD_IMDSV1_DISABLED"),
            },
        }
    }

    /// The key pair of the environment, where there is one.
    ///
    /// # Errors
    ///
    /// Where only one half of the pair is set.
    pub fn access_key(&self) -> Result<Option<AccessKey>, CredentialError> {
        match (&self.access_key_id, &self.access_key_secret) {
            (None, None) => Ok(None),
            (id, secret) => {
                let (id, secret) = (id.clone().unwrap_or_default(), secret.clone().unwrap_or_default());
                AccessKey::new(id, secret, self.security_token.clone()).map(Some)
            }
        }
    }

    pub(super) fn scheme(&self) -> Result<&'static str, EndpointError> {
        match self.scheme.as_deref() {
            None | Some("") => Ok("https"),
            Some(name) if name.eq_ignore_ascii_case("https") => Ok("https"),
            Some(name) if name.eq_ignore_ascii_case("http") => Ok("http"),
            Some(name) => Err(EndpointError { name: SCHEME, value: name.to_owned(), expected: "HTTP or HTTPS" }),
        }
    }

    /// The exchange of the service account token, where all three variables of it are set.
    pub(super) fn oidc(&self) -> Result<Option<OidcSettings>, CredentialError> {
        let OidcVariables { role, provider, token_file, session, endpoint, region, inside } = &self.oidc;
        let (Some(role), Some(provider), Some(token_file)) = (role, provider, token_file) else { return Ok(None) };
        let host = match (endpoint, region) {
            (Some(endpoint), _) => endpoint.clone(),
            (None, Some(region)) if *inside => format!("sts-vpc.{region}.aliyuncs.com"),
            (None, Some(region)) => format!("sts.{region}.aliyuncs.com"),
            (None, None) => "sts.aliyuncs.com".to_owned(),
        };
        Ok(Some(OidcSettings {
            endpoint: base(STS_ENDPOINT, self.scheme()?, host)?,
            role: role.clone(),
            provider: provider.clone(),
            token_file: PathBuf::from(token_file),
            session: session.clone().unwrap_or_else(|| SESSION.to_owned()),
        }))
    }

    /// The metadata service of the instance, unless it is switched off.
    pub(super) fn ram_role(&self) -> Result<Option<RamRoleSettings>, CredentialError> {
        let InstanceVariables { endpoint, role, disabled, hardened } = &self.instance;
        if *disabled {
            return Ok(None);
        }
        let host = endpoint.clone().unwrap_or_else(|| METADATA.to_owned());
        // The service speaks plain text: it is on the same host.
        let base: Url = base(METADATA_ENDPOINT, "http", host)?;
        Ok(Some(RamRoleSettings { base, role: role.clone(), hardened: *hardened }))
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment")
            .field("vpc_endpoint", &self.vpc_endpoint)
            .field("ecs_endpoint", &self.ecs_endpoint)
            .field("scheme", &self.scheme)
            .field("oidc", &self.oidc)
            .field("instance", &self.instance)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        Environment::from_lookup(|name| variables.iter().find(|(key, _)| *key == name).map(|(_, v)| (*v).to_owned()))
    }

    #[test]
    fn half_a_key_pair_is_refused_and_a_whole_one_is_never_printed() {
        let half = environment(&[("ALIBABA_CLOUD_ACCESS_KEY_ID", "id")]);
        assert!(matches!(half.access_key(), Err(CredentialError::Empty("access key secret"))));
        assert!(environment(&[]).access_key().unwrap().is_none());
        let whole = environment(&[
            ("ALIBABA_CLOUD_ACCESS_KEY_ID", "id"),
            ("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "hush-secret"),
            ("ALIBABA_CLOUD_SECURITY_TOKEN", "hush-token"),
        ]);
        let printed = format!("{whole:?} {:?}", whole.access_key().unwrap());
        assert!(!printed.contains("hush"), "{printed}");
    }

    #[test]
    fn an_exchange_needs_its_three_variables_and_finds_its_service() {
        let three = [
            ("ALIBABA_CLOUD_ROLE_ARN", "acs:ram::1:role/r"),
            ("ALIBABA_CLOUD_OIDC_PROVIDER_ARN", "acs:ram::1:oidc-provider/p"),
            ("ALIBABA_CLOUD_OIDC_TOKEN_FILE", "/token"),
        ];
        for missing in 0..3 {
            let two: Vec<_> = three.iter().enumerate().filter(|(n, _)| *n != missing).map(|(_, pair)| *pair).collect();
            assert!(environment(&two).oidc().unwrap().is_none());
        }
        let service = |more: &[(&str, &str)]| {
            environment(&[&three[..], more].concat()).oidc().unwrap().unwrap().endpoint.to_string()
        };
        let region = ("ALIBABA_CLOUD_STS_REGION", "cn-beijing");
        assert_eq!(service(&[]), "https://sts.aliyuncs.com/");
        assert_eq!(service(&[region]), "https://sts.cn-beijing.aliyuncs.com/");
        let inside = ("ALIBABA_CLOUD_VPC_ENDPOINT_ENABLED", "true");
        assert_eq!(service(&[region, inside]), "https://sts-vpc.cn-beijing.aliyuncs.com/");
        let given = [("ALIBABA_CLOUD_STS_ENDPOINT", "127.0.0.1:9"), ("ALICLOUD_CLIENT_SCHEME", "http")];
        assert_eq!(service(&given), "http://127.0.0.1:9/");
    }

    #[test]
    fn the_metadata_service_is_where_every_instance_sees_it_unless_it_is_switched_off() {
        let settings = environment(&[]).ram_role().unwrap().unwrap();
        assert_eq!((settings.base.as_str(), settings.hardened), ("http://100.100.100.200/", false));
        let off = environment(&[("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "True")]);
        assert!(off.ram_role().unwrap().is_none());
        let hardened = environment(&[("ALIBABA_CLOUD_IMDSV1_DISABLED", "true"), ("ALIBABA_CLOUD_ECS_METADATA", "r")]);
        let settings = hardened.ram_role().unwrap().unwrap();
        assert_eq!((settings.role.as_deref(), settings.hardened), (Some("r"), true));
    }
}
