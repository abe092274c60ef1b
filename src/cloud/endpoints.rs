//! Where the two products answer.
//!
//! Without an override the endpoints inside a VPC are used: the controller runs in the VPC whose gateways it serves, and
//! nothing promises it a way to the public ones.

use reqwest::Url;

pub use super::environment::Environment;
use super::environment::{ECS_ENDPOINT, VPC_ENDPOINT};

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
    pub(super) name: &'static str,
    pub(super) value: String,
    pub(super) expected: &'static str,
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
        let scheme = environment.scheme()?;
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

/// `scheme` and the host and port of `place`, which may be a host or a URL.
pub(super) fn base(name: &'static str, scheme: &str, place: String) -> Result<Url, EndpointError> {
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
}
