//! What may go wrong on the way to the simulated cloud and in it, how often, and how often it did.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::rng::{MILLION, Rng};

/// How the model behaves when nothing goes wrong. Times are milliseconds of model time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Behaviour {
    /// Entries that one forward table holds; those being deleted count until they are gone.
    pub entry_quota: u32,
    /// From the acknowledged creation to `Available`.
    pub pending_ms: u64,
    /// From the acknowledged deletion until the entry is gone.
    pub deleting_ms: u64,
    /// How old every listing of entries is.
    pub read_lag_ms: u64,
    /// A table with a Pending entry takes no other (documented until 2024, aliyun-api.md §2).
    pub table_serialised: bool,
    /// A second creation on one gateway within this time of the first is refused with 409 `OperationConflict`; 0: never.
    pub create_conflict_ms: u64,
    /// A table with a Pending entry deletes none (documented in 2026, aliyun-api.md §2).
    pub delete_blocked_by_pending: bool,
    /// How long the answer to a ClientToken is kept. No page says it (aliyun-api.md §1.10).
    pub token_lifetime_ms: u64,
    /// The longest delay of [`FaultKind::LateEffect`].
    pub late_effect_max_ms: u64,
    /// The oldest view that [`FaultKind::ReadLag`] shows.
    pub read_lag_max_ms: u64,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            entry_quota: 100,
            pending_ms: 500,
            deleting_ms: 500,
            read_lag_ms: 0,
            table_serialised: false,
            create_conflict_ms: 0,
            delete_blocked_by_pending: true,
            token_lifetime_ms: 30 * 60 * 1000,
            late_effect_max_ms: 15 * 60 * 1000,
            read_lag_max_ms: 10_000,
        }
    }
}

/// One way of going wrong. At most one strikes a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// Applied, but the answer never arrives.
    LostReply,
    /// Neither applied nor answered.
    LostRequest,
    /// No answer, and applied only after a delay. Requests that change something.
    LateEffect,
    /// Not applied: 400 `Throttling.User`.
    Throttling,
    /// Not applied: 409 `OperationConflict` or 400 `TaskConflict`. Requests that change something.
    Conflict,
    /// 500 `InternalError`, applied or not, or 503 `ServiceUnavailable`, not applied.
    InternalError,
    /// An old view. Listings of entries.
    ReadLag,
}

impl FaultKind {
    /// All kinds, in the order in which they are drawn.
    pub const ALL: [Self; 7] = [
        Self::LostReply,
        Self::LostRequest,
        Self::LateEffect,
        Self::Throttling,
        Self::Conflict,
        Self::InternalError,
        Self::ReadLag,
    ];

    /// The name by which people ask for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::LostReply => "lost-reply",
            Self::LostRequest => "lost-request",
            Self::LateEffect => "late-effect",
            Self::Throttling => "throttling",
            Self::Conflict => "conflict",
            Self::InternalError => "internal-error",
            Self::ReadLag => "read-lag",
        }
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A kind with its rate, as `--fault KIND=RATE` takes it: `lost-reply=0.05` strikes one request in twenty.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FaultRate {
    /// What goes wrong.
    pub kind: FaultKind,
    /// How often, from 0 to 1.
    pub rate: f64,
}

/// Why a text is no [`FaultRate`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FaultRateError {
    /// There is no `=`.
    #[error("{0:?} is not KIND=RATE, for example lost-reply=0.05; kinds: {kinds}", kinds = kinds())]
    NoRate(String),
    /// No kind has this name.
    #[error("there is no fault {0:?}; kinds: {kinds}", kinds = kinds())]
    UnknownKind(String),
    /// The rate is no number from 0 to 1.
    #[error("the rate of {kind} is {rate:?}, but must be a number from 0 (never) to 1 (always)")]
    BadRate {
        /// The kind.
        kind: FaultKind,
        /// What was given.
        rate: String,
    },
}

impl FromStr for FaultRate {
    type Err = FaultRateError;

    fn from_str(text: &str) -> Result<Self, FaultRateError> {
        let (name, rate) = text.split_once('=').ok_or_else(|| FaultRateError::NoRate(text.to_owned()))?;
        let kind = FaultKind::ALL
            .into_iter()
            .find(|kind| kind.as_str() == name)
            .ok_or_else(|| FaultRateError::UnknownKind(name.to_owned()))?;
        match rate.parse::<f64>() {
            Ok(rate) if (0.0..=1.0).contains(&rate) => Ok(Self { kind, rate }),
            Ok(_) | Err(_) => Err(FaultRateError::BadRate { kind, rate: rate.to_owned() }),
        }
    }
}

fn kinds() -> String {
    FaultKind::ALL.map(FaultKind::as_str).join(", ")
}

/// The rate of each kind, and how often it fired.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Faults {
    rates: BTreeMap<FaultKind, u32>,
    fired: BTreeMap<FaultKind, u64>,
}

impl Faults {
    /// Nothing goes wrong.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// The same with one rate set; see [`Faults::set`].
    #[must_use]
    pub fn with(mut self, kind: FaultKind, rate: f64) -> Self {
        self.set(kind, rate);
        self
    }

    /// Sets how often a kind strikes the requests that it can strike, from 0 to 1, to one part in a million.
    pub fn set(&mut self, kind: FaultKind, rate: f64) {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 0..=1,000,000 before")]
        let parts = (rate.clamp(0.0, 1.0) * f64::from(MILLION)).round() as u32;
        self.rates.insert(kind, parts);
    }

    /// Ends all faults. What was fired so far stays counted, and effects that are late still land.
    pub fn stop(&mut self) {
        self.rates.clear();
    }

    /// How often a kind fired.
    #[must_use]
    pub fn fired(&self, kind: FaultKind) -> u64 {
        self.fired.get(&kind).copied().unwrap_or(0)
    }

    /// Draws what goes wrong with one request. `possible` says which kinds can strike it.
    pub(super) fn draw(&mut self, rng: &mut Rng, possible: impl Fn(FaultKind) -> bool) -> Option<FaultKind> {
        let kind = FaultKind::ALL.into_iter().find(|kind| {
            let rate = self.rates.get(kind).copied().unwrap_or(0);
            possible(*kind) && rng.happens(rate)
        })?;
        let fired = self.fired.entry(kind).or_default();
        *fired = fired.saturating_add(1);
        Some(kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_read_by_its_name() {
        for kind in FaultKind::ALL {
            assert_eq!(format!("{kind}=0.25").parse(), Ok(FaultRate { kind, rate: 0.25 }));
        }
    }

    #[test]
    fn a_wrong_fault_is_refused_with_the_remedy() {
        let message = |text: &str| text.parse::<FaultRate>().unwrap_err().to_string();
        assert!(message("lost-reply").contains("KIND=RATE"));
        assert!(message("lost=0.1").contains("late-effect"), "the kinds are listed: {}", message("lost=0.1"));
        for rate in ["1.5", "-0.1", "NaN", "", "5%"] {
            assert!(message(&format!("conflict={rate}")).contains("from 0 (never) to 1 (always)"), "{rate}");
        }
    }

    #[test]
    fn what_cannot_strike_does_not_and_what_strikes_is_counted() {
        let mut rng = Rng::new(1);
        let mut faults = Faults::none().with(FaultKind::Conflict, 1.0).with(FaultKind::LostReply, 1.0);
        assert_eq!(faults.draw(&mut rng, |kind| kind == FaultKind::Conflict), Some(FaultKind::Conflict));
        assert_eq!(faults.draw(&mut rng, |_| false), None);
        assert_eq!((faults.fired(FaultKind::Conflict), faults.fired(FaultKind::LostReply)), (1, 0));
        faults.stop();
        assert_eq!(faults.draw(&mut rng, |_| true), None);
        assert_eq!(faults.fired(FaultKind::Conflict), 1);
    }
}
