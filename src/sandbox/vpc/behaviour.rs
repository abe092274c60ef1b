//! What the page leaves open or what differs by account and by time, as numbers and switches.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How the model behaves when nothing goes wrong. Times are milliseconds of model time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
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
    /// The longest delay of [`super::FaultKind::LateEffect`].
    pub late_effect_max_ms: u64,
    /// The oldest state that [`super::FaultKind::ReadLag`] and [`super::FaultKind::PatchyView`] show.
    pub read_lag_max_ms: u64,
    /// The longest time for which [`super::FaultKind::LongPending`] keeps an entry Pending.
    pub pending_max_ms: u64,
    /// What a refusal for flow control says of when to come again (aliyun-api.md §1; the unit is documented nowhere, so the
    /// number is small enough to be waited for in every unit).
    pub throttle_hint_ms: Option<u64>,
    /// Calls of one action in one second, beyond which each is refused with `Throttling.Api` and the rest of the second as
    /// the hint; 0: no limit. The vendor publishes no numbers (aliyun-api.md §4).
    pub calls_per_second: u32,
}

/// A switch by name, as `--set NAME=VALUE` takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Switch {
    name: &'static str,
    value: u64,
}

/// Why a text is no [`Switch`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SwitchError {
    /// There is no `=`, or no switch of this name.
    #[error("{0:?} is no NAME=VALUE of: {names}", names = Behaviour::SWITCHES.map(|(name, _)| name).join(", "))]
    Unknown(String),
    /// The value does not fit.
    #[error("{name} takes a number of milliseconds or entries, or true or false, not {value:?}")]
    BadValue {
        /// The switch.
        name: &'static str,
        /// What was given.
        value: String,
    },
}

impl FromStr for Switch {
    type Err = SwitchError;

    fn from_str(text: &str) -> Result<Self, SwitchError> {
        let unknown = || SwitchError::Unknown(text.to_owned());
        let (name, value) = text.split_once('=').ok_or_else(unknown)?;
        let (name, _) = Behaviour::SWITCHES.into_iter().find(|(known, _)| *known == name).ok_or_else(unknown)?;
        let number = match value {
            "true" => Some(1),
            "false" => Some(0),
            number => number.parse().ok(),
        };
        let fits = |number: &u64| !Behaviour::IN_32_BITS.contains(&name) || u32::try_from(*number).is_ok();
        let value = number.filter(fits).ok_or_else(|| SwitchError::BadValue { name, value: value.to_owned() })?;
        Ok(Self { name, value })
    }
}

impl Behaviour {
    /// Every switch by name, with what it means.
    pub const SWITCHES: [(&'static str, &'static str); 13] = [
        ("entry-quota", "entries that one forward table holds"),
        ("pending-ms", "from the acknowledged creation to Available"),
        ("deleting-ms", "from the acknowledged deletion until the entry is gone"),
        ("read-lag-ms", "how old every listing of entries is"),
        ("table-serialised", "a table with a Pending entry takes no other: IncorretForwardEntryStatus"),
        ("create-conflict-ms", "a second creation on a gateway within this time: 409 OperationConflict; 0 is never"),
        ("delete-blocked-by-pending", "a table with a Pending entry deletes none: IncorretForwardEntryStatus"),
        ("token-lifetime-ms", "how long the answer to a ClientToken is kept"),
        ("late-effect-max-ms", "the longest delay of the fault late-effect"),
        ("read-lag-max-ms", "the oldest state that the faults read-lag and patchy-view show"),
        ("pending-max-ms", "the longest time for which the fault long-pending keeps an entry Pending"),
        ("throttle-hint-ms", "TimeLeft in x-ratelimit-user of a throttled answer; 0 sends none"),
        ("calls-per-second", "of one action, beyond which it is Throttling.Api until the second is over; 0: no limit"),
    ];

    /// Those that count things, not time.
    const IN_32_BITS: [&'static str; 2] = ["entry-quota", "calls-per-second"];

    /// Sets a switch.
    pub fn set(&mut self, switch: &Switch) {
        let Switch { name, value } = *switch;
        let number = || u32::try_from(value).unwrap_or(u32::MAX);
        match name {
            "entry-quota" => self.entry_quota = number(),
            "pending-ms" => self.pending_ms = value,
            "deleting-ms" => self.deleting_ms = value,
            "read-lag-ms" => self.read_lag_ms = value,
            "table-serialised" => self.table_serialised = value != 0,
            "create-conflict-ms" => self.create_conflict_ms = value,
            "delete-blocked-by-pending" => self.delete_blocked_by_pending = value != 0,
            "token-lifetime-ms" => self.token_lifetime_ms = value,
            "late-effect-max-ms" => self.late_effect_max_ms = value,
            "read-lag-max-ms" => self.read_lag_max_ms = value,
            "pending-max-ms" => self.pending_max_ms = value,
            "throttle-hint-ms" => self.throttle_hint_ms = Some(value).filter(|hint| *hint > 0),
            "calls-per-second" => self.calls_per_second = number(),
            _ => {}
        }
    }
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
            read_lag_max_ms: 60_000,
            pending_max_ms: 10 * 60 * 1000,
            throttle_hint_ms: Some(5),
            calls_per_second: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_switch_is_read_by_its_name_and_changes_something() {
        for (name, _) in Behaviour::SWITCHES {
            let (mut one, mut other) = (Behaviour::default(), Behaviour::default());
            one.set(&format!("{name}=0").parse().unwrap());
            other.set(&format!("{name}=7").parse().unwrap());
            assert_ne!(one, other, "{name}");
        }
        let mut behaviour = Behaviour::default();
        behaviour.set(&"table-serialised=true".parse().unwrap());
        behaviour.set(&"delete-blocked-by-pending=false".parse().unwrap());
        assert!(behaviour.table_serialised && !behaviour.delete_blocked_by_pending);
    }

    #[test]
    fn what_is_no_switch_is_refused_with_the_names_there_are() {
        let message = |text: &str| text.parse::<Switch>().unwrap_err().to_string();
        assert!(message("pending").contains("read-lag-ms") && message("x=1").contains("read-lag-ms"));
        assert!(message("pending-ms=soon").contains("not \"soon\""));
        assert!(message("entry-quota=4294967296").contains("4294967296"));
    }
}
