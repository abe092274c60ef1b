//! What may go wrong on the way to the simulated cloud and in it, how often, and how often it did.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::plan::{Deed, Stroke};
use super::rng::{MILLION, Rng};
use super::trouble::{Spell, Trouble};
use crate::machine::identity::GatewayId;

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
    /// The table as it was a while ago. Listings of entries.
    ReadLag,
    /// The answer to its ClientToken is forgotten at once, also one from before: the request is judged as if it were the
    /// first, and so is each that repeats it. Requests that change something.
    ForgottenToken,
    /// No answer; it is taken in and done, or refused, within 10 s. Until then each that repeats it hears
    /// `LastTokenProcessing`. Requests that change something.
    StillRunning,
    /// Not applied: 400 `IdempotentParameterMismatch`, although the parameters are equal or the token is new. Requests
    /// that change something.
    TokenMismatch,
    /// The entry stays Pending for up to [`super::Behaviour::pending_max_ms`]. Creations.
    LongPending,
    /// The entry stays Pending until [`super::Vpc::lift_pending`]. Creations.
    StuckPending,
    /// Each entry is shown as it is or as it was a while ago, one so and one so: new ones are missing, deleted ones are
    /// there. Listings of entries.
    PatchyView,
    /// The page begins one to three entries too early or too late, as if the table had changed since the page before.
    /// Listings of entries after their first page.
    ShiftedPage,
    /// Some entries have a status that no page names. Listings of entries.
    UnknownStatus,
    /// The gateways or EIPs have a status that no page names. Listings of these.
    UnknownGatewayStatus,
    /// A code that no page names, applied or not.
    UnknownError,
}

impl FaultKind {
    /// All kinds, in the order in which they are drawn.
    pub const ALL: [Self; 17] = [
        Self::LostReply,
        Self::LostRequest,
        Self::LateEffect,
        Self::Throttling,
        Self::Conflict,
        Self::InternalError,
        Self::ReadLag,
        Self::ForgottenToken,
        Self::StillRunning,
        Self::TokenMismatch,
        Self::LongPending,
        Self::StuckPending,
        Self::PatchyView,
        Self::ShiftedPage,
        Self::UnknownStatus,
        Self::UnknownGatewayStatus,
        Self::UnknownError,
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
            Self::ForgottenToken => "forgotten-token",
            Self::StillRunning => "still-running",
            Self::TokenMismatch => "token-mismatch",
            Self::LongPending => "long-pending",
            Self::StuckPending => "stuck-pending",
            Self::PatchyView => "patchy-view",
            Self::ShiftedPage => "shifted-page",
            Self::UnknownStatus => "unknown-status",
            Self::UnknownGatewayStatus => "unknown-gateway-status",
            Self::UnknownError => "unknown-error",
        }
    }

    /// What it does, in a few words.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::LostReply => "applied, but the answer never arrives",
            Self::LostRequest => "neither applied nor answered",
            Self::LateEffect => "no answer, and applied only after a delay",
            Self::Throttling => "not applied: 400 Throttling.User",
            Self::Conflict => "not applied: 409 OperationConflict or 400 TaskConflict",
            Self::InternalError => "500 InternalError, applied or not, or 503 ServiceUnavailable, not applied",
            Self::ReadLag => "a listing of entries as it was a while ago",
            Self::ForgottenToken => "the answer to its ClientToken is forgotten at once",
            Self::StillRunning => "no answer; done within 10 s, until then LastTokenProcessing",
            Self::TokenMismatch => "not applied: IdempotentParameterMismatch although nothing differs",
            Self::LongPending => "the entry stays Pending for long",
            Self::StuckPending => "the entry stays Pending for ever",
            Self::PatchyView => "some entries as they were a while ago",
            Self::ShiftedPage => "the page begins up to three entries too early or too late",
            Self::UnknownStatus => "entries have a status that no page names",
            Self::UnknownGatewayStatus => "gateways or EIPs have a status that no page names",
            Self::UnknownError => "a code that no page names, applied or not",
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

/// The rate of each kind, the troubles that are under way or to come, and how often each fired.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Faults {
    rates: BTreeMap<FaultKind, u32>,
    fired: BTreeMap<FaultKind, u64>,
    #[serde(default)]
    plan: Vec<Stroke>,
    #[serde(default)]
    spells: Vec<Spell>,
    #[serde(default)]
    troubled: BTreeMap<Trouble, u64>,
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

    /// Adds a line to the script. Where several strike one request, the one that was given first does; each counts.
    pub fn plan(&mut self, stroke: Stroke) {
        self.plan.push(stroke);
    }

    /// Lets a trouble last for a while: while several do, the one that was given first strikes.
    pub fn trouble(&mut self, spell: Spell) {
        self.spells.push(spell);
    }

    /// Ends a trouble, wherever it lasts.
    pub fn lift(&mut self, trouble: Trouble) {
        self.spells.retain(|spell| spell.trouble != trouble);
    }

    /// Ends all faults and troubles. What was fired so far stays counted, effects that are late still land, and entries
    /// that are stuck stay so ([`super::Vpc::calm`]).
    pub fn stop(&mut self) {
        self.rates.clear();
        self.plan.clear();
        self.spells.clear();
    }

    /// How often a kind fired.
    #[must_use]
    pub fn fired(&self, kind: FaultKind) -> u64 {
        self.fired.get(&kind).copied().unwrap_or(0)
    }

    /// How many requests a trouble struck.
    #[must_use]
    pub fn troubled(&self, trouble: Trouble) -> u64 {
        self.troubled.get(&trouble).copied().unwrap_or(0)
    }

    /// What the script does to a request, if anything.
    pub(super) fn planned(&mut self, now_ms: u64, action: &str, gateway: Option<&GatewayId>) -> Option<Deed> {
        let mut deed = None;
        for stroke in &mut self.plan {
            if stroke.strikes(now_ms, action, gateway) && deed.is_none() {
                deed = Some(stroke.deed.clone());
            }
        }
        match deed.as_ref()? {
            Deed::Fault(kind) => count(&mut self.fired, *kind),
            Deed::Trouble(trouble) => count(&mut self.troubled, *trouble),
            Deed::Refuse(_) => {}
        }
        deed
    }

    /// The trouble that strikes a request now, if any.
    pub(super) fn strike(
        &mut self,
        now_ms: u64,
        gateway: Option<&GatewayId>,
        possible: impl Fn(Trouble) -> bool,
    ) -> Option<Trouble> {
        self.spells.retain(|spell| spell.until_ms > now_ms);
        let struck = self.spells.iter().find(|spell| spell.lasts(now_ms, gateway) && possible(spell.trouble))?.trouble;
        count(&mut self.troubled, struck);
        Some(struck)
    }

    /// Draws what goes wrong with one request. `possible` says which kinds can strike it.
    pub(super) fn draw(&mut self, rng: &mut Rng, possible: impl Fn(FaultKind) -> bool) -> Option<FaultKind> {
        let kind = FaultKind::ALL.into_iter().find(|kind| {
            let rate = self.rates.get(kind).copied().unwrap_or(0);
            possible(*kind) && rng.happens(rate)
        })?;
        count(&mut self.fired, kind);
        Some(kind)
    }
}

fn count<K: Ord>(counts: &mut BTreeMap<K, u64>, what: K) {
    let count = counts.entry(what).or_default();
    *count = count.saturating_add(1);
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
