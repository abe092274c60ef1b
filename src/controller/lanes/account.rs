//! What the account takes: one bucket for each of the eight actions, and one for all calls.
//!
//! Every call draws from the bucket of its action and from the one for all; a reading of several pages draws for as many as
//! it had the last time, and is settled at its end. A refusal for flow control closes the bucket of the action that it
//! speaks of, or the one for all, and no other.
//!
//! Where the bucket for all is the one that lacks, readings and changes take turns, counted in calls: a listing of many
//! pages is followed by as many changes, if there are any.

use std::collections::BTreeMap;

use super::budget::Budget;
use crate::ports::cloud::{FlowControl, Reading};

/// Calls that readings may be ahead of changes, or behind, where one of both had nothing to do: a minute's worth at a call
/// a second.
const AHEAD_MAX: i32 = 60;

/// An action, as far as its budget goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Creation,
    Deletion,
    Reading(Reading),
}

/// All budgets.
#[derive(Clone, Debug, Default)]
pub(super) struct Account {
    all: Budget,
    kinds: BTreeMap<Kind, Budget>,
    /// Calls by which readings are ahead of changes since the bucket for all began to lack.
    ahead: i32,
}

impl Account {
    /// How many calls of a kind may start now, whatever all of them together may.
    pub(super) fn available(&mut self, kind: Kind, now_ms: u64) -> u64 {
        self.kinds.entry(kind).or_default().available(now_ms)
    }

    /// How many calls may start now.
    pub(super) fn all_available(&mut self, now_ms: u64) -> u64 {
        self.all.available(now_ms)
    }

    /// Whether a call of that kind may start now.
    pub(super) fn may(&mut self, kind: Kind, now_ms: u64) -> bool {
        self.available(kind, now_ms) > 0 && self.all.available(now_ms) > 0
    }

    /// When a call of that kind may start at the earliest.
    pub(super) fn open_ms(&self, kind: Kind, now_ms: u64) -> u64 {
        let open_ms = self.kinds.get(&kind).map_or(now_ms, |budget| budget.open_ms(now_ms));
        open_ms.max(self.all.open_ms(now_ms))
    }

    /// When any call may start at the earliest.
    pub(super) fn all_open_ms(&self, now_ms: u64) -> u64 {
        self.all.open_ms(now_ms)
    }

    /// So many calls of a kind start. Says whether a bucket holds none more.
    pub(super) fn take(&mut self, kind: Kind, calls: u32) -> bool {
        let kind_lacks = self.kinds.entry(kind).or_default().take(calls);
        let all_lack = self.all.take(calls);
        let calls = i32::try_from(calls).unwrap_or(AHEAD_MAX);
        self.ahead = match kind {
            _ if !all_lack => 0,
            Kind::Reading(_) => self.ahead.saturating_add(calls),
            Kind::Creation | Kind::Deletion => self.ahead.saturating_sub(calls),
        };
        self.ahead = self.ahead.clamp(-AHEAD_MAX, AHEAD_MAX);
        kind_lacks || all_lack
    }

    /// Whether readings come before changes now.
    pub(super) const fn reads_first(&self) -> bool {
        self.ahead <= 0
    }

    /// Calls of a kind ended well: so many were made where so many had been drawn.
    pub(super) fn well(&mut self, kind: Kind, made: u32, drawn: u32) {
        let budget = self.kinds.entry(kind).or_default();
        for budget in [budget, &mut self.all] {
            budget.well(made);
            budget.take(made.saturating_sub(drawn));
            budget.give_back(drawn.saturating_sub(made));
        }
    }

    /// A call of a kind was refused for flow control.
    pub(super) fn throttled(&mut self, kind: Kind, flow: FlowControl, now_ms: u64, hint_ms: Option<u64>) {
        match flow {
            FlowControl::Action => self.kinds.entry(kind).or_default().throttled(now_ms, hint_ms),
            FlowControl::Account => self.all.throttled(now_ms, hint_ms),
        }
    }

    /// Forgets what was learned.
    #[cfg(test)]
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }
}
