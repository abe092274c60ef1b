//! Where the two products answer, and the one place that reads the environment for the cloud.
//!
//! Without an override the endpoints inside a VPC are used: the controller runs in the VPC whose gateways it serves, and
//! nothing promises it a way to the public ones.

use std::fmt;

use reqwest::Url;
use secrecy::SecretString;

use super::credentials::{AccessKey, CredentialError};

/// The base addresses of the two products.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoints {
    vpc: Url,
    ecs: Url,
}

/// An endpoint that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name} is {value:?}, which is no {expected}")]
pub struct EndpointError {
    name: &'static str,
    value: String,
    expected: &'static str,
}

impl Endpoints {
    /// The endpoints of a region, inside a VPC: `vpc-vpc.<region>.aliyuncs.com` and `ecs-vpc.<region>.aliyuncs.com`
    /// (aliyun-api.md §1), with what the environment overrides.
    ///
    /// # Errors
    ///
    /// Where the region or an override does not make a host name.
    pub fn of_region(region: &str, environment: &Environment) -> Result<Self, EndpointError> {
        let labels = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if region.is_empty() || !labels(region) {
            return Err(EndpointError { name: "the region", value: region.to_owned(), expected: "region id" });
        }
        let scheme = match environment.scheme.as_deref() {
            None | Some("") => "https",
            Some(name) if name.eq_ignore_ascii_case("https") => "https",
            Some(name) if name.eq_ignore_ascii_case("http") => "http",
            Some(name) => {
                return Err(EndpointError { name: SCHEME, value: name.to_owned(), expected: "HTTP or HTTPS" });
            }
        };
        let region = region.to_ascii_lowercase();
        let regional = |product| format!("{product}-vpc.{region}.aliyuncs.com");
        Ok(Self {
            vpc: base(VPC_ENDPOINT, scheme, environment.vpc_endpoint.clone().unwrap_or_else(|| regional("vpc")))?,
            ecs: base(ECS_ENDPOINT, scheme, environment.ecs_endpoint.clone().unwrap_or_else(|| regional("ecs")))?,
        })
    }

    /// One address for both products, with its scheme: a simulated cloud.
    ///
    /// # Errors
    ///
    /// Where `url` is no `http` or `https` URL.
    pub fn at(url: &str) -> Result<Self, EndpointError> {
        let wrong = || EndpointError { name: "the address of the cloud", value: url.to_owned(), expected: "http URL" };
        let parsed = Url::parse(url).map_err(|_| wrong())?;
        if !matches!(parsed.scheme(), "http" | "https") || !parsed.has_host() {
            return Err(wrong());
        }
        let address = parsed.join("/").map_err(|_| wrong())?;
        Ok(Self { vpc: address.clone(), ecs: address })
    }

    /// Where the VPC and NAT gateway actions go; both are of the product `Vpc`.
    #[must_use]
    pub fn vpc(&self) -> &Url {
        &self.vpc
    }

    /// Where the network interface action goes.
    #[must_use]
    pub fn ecs(&self) -> &Url {
        &self.ecs
    }

    /// Whether any of the two is spoken to in plain text.
    pub(super) fn plain(&self) -> bool {
        [&self.vpc, &self.ecs].into_iter().any(|url| url.scheme() == "http")
    }
}

/// What the environment says about the cloud. The names are those of the vendor's own controllers and SDKs.
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
}

impl Environment {
    /// Reads the variables of this process.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the environment for the cloud")]
    pub fn read() -> Self {
        Self::from_lookup(|name| std::env::var(name).ok())
    }

    /// Reads the variables through `lookup`. Empty values count as absent.
    #[must_use]
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Self {
        let lookup = |name| lookup(name).filter(|value| !value.is_empty());
        Self {
            vpc_endpoint: lookup(VPC_ENDPOINT),
            ecs_endpoint: lookup(ECS_ENDPOINT),
            scheme: lookup(SCHEME),
            access_key_id: lookup("ALIBABA_CLOUD_ACCESS_KEY_ID"),
            access_key_secret: lookup("ALIBABA_CLOUD_ACCESS_KEY_SECRET").map(SecretString::from),
            security_token: lookup("ALIBABA_CLOUD_SECURITY_TOKEN").map(SecretString::from),
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
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment")
            .field("vpc_endpoint", &self.vpc_endpoint)
            .field("ecs_endpoint", &self.ecs_endpoint)
            .field("scheme", &self.scheme)
            .finish_non_exhaustive()
    }
}

const VPC_ENDPOINT: &str = "VPC_ENDPOINT";
const ECS_ENDPOINT: &str = "ECS_ENDPOINT";
const SCHEME: &str = "ALICLOUD_CLIENT_SCHEME";

/// `scheme` and the host and port of `place`, which may be a host or a URL.
fn base(name: &'static str, scheme: &str, place: String) -> Result<Url, EndpointError> {
    let authority = place.split_once("://").map_or(place.as_str(), |(_, rest)| rest);
    let authority = authority.split('/').next().unwrap_or_default();
    Url::parse(&format!("{scheme}://{authority}/"))
        .ok()
        .filter(|url| url.has_host() && url.username().is_empty() && url.query().is_none() && url.path() == "/")
        .ok_or(EndpointError { name, value: place, expected: "host or URL" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        Environment::from_lookup(|name| variables.iter().find(|(key, _)| *key == name).map(|(_, v)| (*v).to_owned()))
    }

    #[test]
    fn a_region_has_its_endpoints_inside_the_vpc() {
        let endpoints = Endpoints::of_region("cn-Hangzhou", &environment(&[])).unwrap();
        assert_eq!(endpoints.vpc().as_str(), "https://vpc-vpc.cn-hangzhou.aliyuncs.com/");
        assert_eq!(endpoints.ecs().as_str(), "https://ecs-vpc.cn-hangzhou.aliyuncs.com/");
        assert!(!endpoints.plain());
    }

    #[test]
    fn overrides_are_hosts_or_urls_and_the_scheme_is_its_own_variable() {
        let variables = [
            ("VPC_ENDPOINT", "https://127.0.0.1:8080/path"),
            ("ECS_ENDPOINT", "ecs.example.com"),
            ("ALICLOUD_CLIENT_SCHEME", "HTTP"),
        ];
        let endpoints = Endpoints::of_region("cn-hangzhou", &environment(&variables)).unwrap();
        assert_eq!(endpoints.vpc().as_str(), "http://127.0.0.1:8080/");
        assert_eq!(endpoints.ecs().as_str(), "http://ecs.example.com/");
        assert!(endpoints.plain());
        assert_eq!(Endpoints::at("http://127.0.0.1:9/x?y").unwrap().ecs().as_str(), "http://127.0.0.1:9/");
    }

    #[test]
    fn what_is_no_endpoint_is_refused_by_name() {
        let message = |region: &str, variables: &[(&str, &str)]| {
            Endpoints::of_region(region, &environment(variables)).unwrap_err().to_string()
        };
        assert_eq!(message("cn hangzhou", &[]), "the region is \"cn hangzhou\", which is no region id");
        assert_eq!(message("a", &[("VPC_ENDPOINT", "x:y:z")]), "VPC_ENDPOINT is \"x:y:z\", which is no host or URL");
        assert_eq!(message("a", &[("ECS_ENDPOINT", "u@h?q")]), "ECS_ENDPOINT is \"u@h?q\", which is no host or URL");
        assert_eq!(
            message("a", &[("ALICLOUD_CLIENT_SCHEME", "ftp")]),
            "ALICLOUD_CLIENT_SCHEME is \"ftp\", which is no HTTP or HTTPS"
        );
        assert!(Endpoints::at("ftp://host/").is_err() && Endpoints::at("127.0.0.1:80").is_err());
    }

    #[test]
    fn half_a_key_pair_is_refused_and_a_whole_one_is_never_printed() {
        let half = environment(&[("ALIBABA_CLOUD_ACCESS_KEY_ID", "id")]);
        assert_eq!(half.access_key().unwrap_err(), CredentialError::Empty("access key secret"));
        assert!(environment(&[]).access_key().unwrap().is_none());
        let whole = environment(&[
            ("ALIBABA_CLOUD_ACCESS_KEY_ID", "id"),
            ("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "hush-secret"),
            ("ALIBABA_CLOUD_SECURITY_TOKEN", "hush-token"),
        ]);
        let printed = format!("{whole:?} {:?}", whole.access_key().unwrap());
        assert!(!printed.contains("hush"), "{printed}");
    }
}
