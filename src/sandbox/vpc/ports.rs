//! Ports and protocols as the wire spells them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::machine::identity::Protocol;

/// One side's ports as the wire spells them: `80`, `10/20` or `Any`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Ports {
    /// A single port.
    One(u16),
    /// Both ends included.
    Range(u16, u16),
    /// The whole address.
    Any,
}

impl Ports {
    /// First and last port.
    #[must_use]
    pub const fn ends(self) -> (u16, u16) {
        match self {
            Self::One(port) => (port, port),
            Self::Range(first, last) => (first, last),
            Self::Any => (1, u16::MAX),
        }
    }
}

/// A text that is no port, no range of ports and not `Any`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("neither a port from 1 to 65535, nor first/last, nor Any")]
pub struct PortsError;

impl FromStr for Ports {
    type Err = PortsError;

    fn from_str(text: &str) -> Result<Self, PortsError> {
        let port = |text: &str| -> Result<u16, PortsError> {
            let plain = text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse().ok().filter(|port| plain && *port > 0).ok_or(PortsError)
        };
        if text.eq_ignore_ascii_case("any") {
            return Ok(Self::Any);
        }
        match text.split_once('/') {
            None => port(text).map(Self::One),
            Some((first, last)) => {
                let (first, last) = (port(first)?, port(last)?);
                if first <= last { Ok(Self::Range(first, last)) } else { Err(PortsError) }
            }
        }
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(port) => write!(f, "{port}"),
            Self::Range(first, last) => write!(f, "{first}/{last}"),
            Self::Any => f.write_str("Any"),
        }
    }
}

impl From<Ports> for String {
    fn from(ports: Ports) -> Self {
        ports.to_string()
    }
}

impl TryFrom<String> for Ports {
    type Error = PortsError;

    fn try_from(text: String) -> Result<Self, PortsError> {
        text.parse()
    }
}

/// IpProtocol. The wire's letters may be of any case; answers are in lower case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IpProtocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// Everything: DNAT IP mapping.
    Any,
}

impl IpProtocol {
    /// Lower case, as answers spell it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Any => "any",
        }
    }

    /// The protocol; `None` is any.
    #[must_use]
    pub const fn one(self) -> Option<Protocol> {
        match self {
            Self::Tcp => Some(Protocol::Tcp),
            Self::Udp => Some(Protocol::Udp),
            Self::Any => None,
        }
    }

    /// Reads the wire; `None` where it is none of the three.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Tcp, Self::Udp, Self::Any].into_iter().find(|protocol| text.eq_ignore_ascii_case(protocol.as_str()))
    }
}

impl From<Protocol> for IpProtocol {
    fn from(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Tcp => Self::Tcp,
            Protocol::Udp => Self::Udp,
        }
    }
}
