//! Faults by script: which request of which action is struck, and by what.

use serde::{Deserialize, Serialize};

use super::documented::Documented;
use super::faults::FaultKind;
use super::trouble::Trouble;
use crate::machine::identity::GatewayId;

/// One line of a script. It counts the requests that fit it, lets the first `skip` pass and strikes the next `times`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Stroke {
    /// The action; any where absent.
    pub action: Option<String>,
    /// Only requests that name this gateway, or its table; all where absent.
    pub gateway: Option<GatewayId>,
    /// Milliseconds of model time from which on it holds.
    pub from_ms: u64,
    /// Until when it holds, not included.
    pub until_ms: u64,
    /// How many that fit pass first.
    pub skip: u64,
    /// How many are struck then.
    pub times: u64,
    /// What happens to them.
    pub deed: Deed,
    /// How many fitted so far.
    met: u64,
}

/// What a stroke does to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deed {
    /// As if it had been drawn.
    Fault(FaultKind),
    /// As if it lasted.
    Trouble(Trouble),
    /// It is refused with a documented code, and nothing is done.
    Refuse(String),
}

/// Why a text is no script.
#[derive(Debug, thiserror::Error)]
pub enum StrokeError {
    /// It does not say what happens, or says more than one thing.
    #[error("a stroke has exactly one of fault, trouble and refuse")]
    NotOneDeed,
    /// The action does not answer that code.
    #[error("{code} is not documented for {action}")]
    Undocumented {
        /// The code.
        code: String,
        /// The action.
        action: String,
    },
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    action: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    gateway: Option<GatewayId>,
    #[serde(default)]
    from_ms: u64,
    #[serde(default = "always")]
    until_ms: u64,
    #[serde(default)]
    skip: u64,
    #[serde(default = "once")]
    times: u64,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    fault: Option<FaultKind>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    trouble: Option<Trouble>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    refuse: Option<String>,
    #[serde(default)]
    met: u64,
}

const fn always() -> u64 {
    u64::MAX
}

const fn once() -> u64 {
    1
}

impl Stroke {
    /// Strikes the next request of an action, or of any.
    #[must_use]
    pub fn next(action: Option<&str>, deed: Deed) -> Self {
        Self {
            action: action.map(str::to_owned),
            gateway: None,
            from_ms: 0,
            until_ms: always(),
            skip: 0,
            times: once(),
            deed,
            met: 0,
        }
    }

    /// The same, after the first so many that fit.
    #[must_use]
    pub fn after(self, skip: u64) -> Self {
        Self { skip, ..self }
    }

    /// Whether it strikes this request; the request is counted where it fits.
    pub(super) fn strikes(&mut self, now_ms: u64, action: &str, gateway: Option<&GatewayId>) -> bool {
        let fits = (self.from_ms..self.until_ms).contains(&now_ms)
            && self.action.as_deref().is_none_or(|named| named == action)
            && (self.gateway.is_none() || self.gateway.as_ref() == gateway);
        if !fits {
            return false;
        }
        self.met = self.met.saturating_add(1);
        self.met > self.skip && self.met.saturating_sub(self.skip) <= self.times
    }
}

impl TryFrom<Written> for Stroke {
    type Error = StrokeError;

    fn try_from(written: Written) -> Result<Self, StrokeError> {
        let Written { action, gateway, from_ms, until_ms, skip, times, fault, trouble, refuse, met } = written;
        let deed = match (fault, trouble, refuse) {
            (Some(fault), None, None) => Deed::Fault(fault),
            (None, Some(trouble), None) => Deed::Trouble(trouble),
            (None, None, Some(code)) => {
                let known = match &action {
                    Some(action) => Documented::find(action, &code).is_some(),
                    None => Documented::all().any(|error| error.code == code),
                };
                if !known {
                    let action = action.unwrap_or_else(|| "any action".to_owned());
                    return Err(StrokeError::Undocumented { code, action });
                }
                Deed::Refuse(code)
            }
            (_, _, _) => return Err(StrokeError::NotOneDeed),
        };
        Ok(Self { action, gateway, from_ms, until_ms, skip, times, deed, met })
    }
}

impl From<Stroke> for Written {
    fn from(stroke: Stroke) -> Self {
        let Stroke { action, gateway, from_ms, until_ms, skip, times, deed, met } = stroke;
        let (fault, trouble, refuse) = match deed {
            Deed::Fault(fault) => (Some(fault), None, None),
            Deed::Trouble(trouble) => (None, Some(trouble), None),
            Deed::Refuse(code) => (None, None, Some(code)),
        };
        Self { action, gateway, from_ms, until_ms, skip, times, fault, trouble, refuse, met }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Stroke, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn a_stroke_lets_some_pass_and_strikes_some() {
        let mut stroke =
            read(r#"{"action":"A","skip":2,"times":2,"from_ms":10,"until_ms":90,"fault":"lost-reply"}"#).unwrap();
        let struck: Vec<bool> = (0..8).map(|n| stroke.strikes(n * 10, "A", None)).collect();
        assert_eq!(struck, [false, false, false, true, true, false, false, false]);
        assert!(!stroke.strikes(95, "A", None) && !stroke.strikes(50, "B", None));
        let again: Stroke = serde_json::from_str(&serde_json::to_string(&stroke).unwrap()).unwrap();
        assert_eq!(again, stroke, "what was met is kept");
    }

    #[test]
    fn a_script_that_cannot_be_meant_is_refused() {
        assert!(read("{}").unwrap_err().contains("exactly one of"));
        assert!(read(r#"{"fault":"conflict","trouble":"busy"}"#).unwrap_err().contains("exactly one of"));
        assert!(read(r#"{"refuse":"Novel"}"#).unwrap_err().contains("not documented for any action"));
        let elsewhere = r#"{"action":"DeleteForwardEntry","refuse":"QuotaExceeded.ForwardEntry"}"#;
        assert!(read(elsewhere).unwrap_err().contains("not documented for DeleteForwardEntry"));
        assert!(read(r#"{"fault":"conflict","often":1}"#).unwrap_err().contains("often"));
        assert!(read(r#"{"action":"DeleteForwardEntry","refuse":"Throttling.Api"}"#).is_ok(), "the gateway's");
    }
}
