//! How many calls a second the account takes: one bucket a kind of call and one for all, learned from flow control.
//!
//! The vendor publishes no numbers, so a bucket begins above what the lanes can use. A refusal for flow control halves its
//! rate, once for all the calls of that moment, and closes it for as long as the answer said.

/// Calls a second to begin with, and at most: at 50 ms a call, twenty tables that are listed four pages at once and eight that
/// are given eight calls at once need 2,880 together.
const RATE_MAX: u64 = 4_000;

/// Calls a second at the least: what creates the entries of one pod while the next is refused.
const RATE_MIN: u64 = 1;

/// What a bucket holds: calls of so many milliseconds at its rate, and one.
const BURST_MS: u64 = 250;

/// The pause where a refusal says none: flow control counts by the second.
const CLOSED_MS: u64 = 1_000;

/// The longest pause that is believed.
const CLOSED_MAX_MS: u64 = 60_000;

/// What a reading of many pages may owe: calls of so many milliseconds at the bucket's rate. A minute, as with pauses: one
/// long listing holds nobody for longer.
const OWED_MAX_MS: u64 = 60_000;

/// Thousandths of a call.
const CALL: u64 = 1_000;

/// One bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Budget {
    /// Thousandths of a call a second.
    rate: u64,
    /// Thousandths of a call.
    level: u64,
    /// Thousandths of a call that were taken beyond the level: it is filled when they are paid.
    owed: u64,
    at_ms: u64,
    closed_until_ms: u64,
}

impl Default for Budget {
    fn default() -> Self {
        let rate = RATE_MAX * CALL;
        Self { rate, level: burst(rate), owed: 0, at_ms: 0, closed_until_ms: 0 }
    }
}

const fn burst(rate: u64) -> u64 {
    (rate / 1_000).saturating_mul(BURST_MS).saturating_add(CALL)
}

impl Budget {
    /// How many calls may start now.
    pub(super) fn available(&mut self, now_ms: u64) -> u64 {
        self.refill(now_ms);
        if now_ms < self.closed_until_ms { 0 } else { self.level / CALL }
    }

    /// When a call may start at the earliest.
    pub(super) fn open_ms(&self, now_ms: u64) -> u64 {
        let lacks = CALL.saturating_sub(self.level.min(CALL)).saturating_add(self.owed);
        let filled_ms = self.at_ms.saturating_add(lacks.saturating_mul(1_000).div_ceil(self.rate.max(1)));
        filled_ms.max(self.closed_until_ms).max(now_ms)
    }

    /// So many calls start, one after the other; what the bucket does not hold is owed. Says whether it holds none more.
    pub(super) fn take(&mut self, calls: u32) -> bool {
        let most = (self.rate / 1_000).saturating_mul(OWED_MAX_MS);
        let taken = u64::from(calls).saturating_mul(CALL);
        self.owed = self.owed.saturating_add(taken.saturating_sub(self.level)).min(most);
        self.level = self.level.saturating_sub(taken);
        self.level < CALL
    }

    /// Calls that were taken were not made.
    pub(super) fn give_back(&mut self, calls: u32) {
        self.fill(u64::from(calls).saturating_mul(CALL));
    }

    /// So many calls were not refused for flow control.
    pub(super) fn well(&mut self, calls: u32) {
        self.rate = self.rate.saturating_add(u64::from(calls).saturating_mul(CALL)).min(RATE_MAX * CALL);
    }

    /// A call was refused for flow control; `hint_ms` is how long the answer said that is so.
    pub(super) fn throttled(&mut self, now_ms: u64, hint_ms: Option<u64>) {
        self.refill(now_ms);
        if now_ms >= self.closed_until_ms {
            self.rate = (self.rate / 2).max(RATE_MIN * CALL);
            self.level = self.level.min(CALL);
        }
        let until_ms = now_ms.saturating_add(hint_ms.unwrap_or(CLOSED_MS).min(CLOSED_MAX_MS));
        self.closed_until_ms = self.closed_until_ms.max(until_ms);
    }

    fn refill(&mut self, now_ms: u64) {
        let passed_ms = now_ms.saturating_sub(self.at_ms);
        self.fill(self.rate.saturating_mul(passed_ms) / 1_000);
        self.at_ms = self.at_ms.max(now_ms);
    }

    fn fill(&mut self, more: u64) {
        let paid = more.min(self.owed);
        self.owed = self.owed.saturating_sub(paid);
        self.level = self.level.saturating_add(more.saturating_sub(paid)).min(burst(self.rate));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_gives_what_its_rate_gives_and_a_burst_of_a_quarter_of_a_second() {
        let mut budget = Budget::default();
        assert_eq!(budget.available(0), 1_001);
        assert!(!budget.take(1_000));
        assert!(budget.take(1), "that was the last");
        assert_eq!((budget.available(0), budget.open_ms(0)), (0, 1));
        assert_eq!(budget.available(7), 28);
    }

    #[test]
    fn flow_control_halves_it_once_a_moment_and_closes_it_for_as_long_as_it_said() {
        let mut budget = Budget::default();
        for _ in 0..5 {
            budget.throttled(100, Some(900));
        }
        assert_eq!(budget.rate, 2_000 * CALL);
        assert_eq!((budget.available(999), budget.open_ms(500)), (0, 1_000));
        assert!(budget.available(1_000) > 0);
        for moment in 1..40 {
            budget.throttled(moment * 10_000, None);
        }
        assert_eq!(budget.rate, RATE_MIN * CALL);
        assert_eq!(budget.open_ms(390_000), 391_000);
        budget.well(5_000);
        assert_eq!(budget.rate, RATE_MAX * CALL);
    }

    #[test]
    fn what_a_long_listing_takes_beyond_the_level_is_owed_and_paid_first() {
        let mut budget = Budget::default();
        assert!(budget.take(5_001), "1,001 are there");
        assert_eq!((budget.available(999), budget.open_ms(999)), (0, 1_001));
        assert_eq!(budget.available(1_001), 4);
        for moment in 0..12 {
            budget.throttled(moment * 60_000, Some(0));
        }
        assert_eq!(budget.rate, RATE_MIN * CALL);
        let now_ms = 12 * 60_000;
        assert_eq!(budget.available(now_ms), 1);
        budget.take(1_000);
        assert_eq!(budget.open_ms(now_ms), now_ms + 61_000, "nobody waits for more than a minute for one listing");
        budget.give_back(40);
        assert_eq!(budget.open_ms(now_ms), now_ms + 21_000, "what was not called is not owed");
    }

    /// A server that takes so many calls a second and refuses the others with the rest of the second as the hint.
    #[test]
    fn a_limited_server_is_used_well_and_refuses_little() {
        let (limit, mut budget) = (20, Budget::default());
        let (mut good, mut refused, mut in_second) = (0, 0, (0, 0));
        for now_ms in 0..120_000_u64 {
            if in_second.0 != now_ms / 1_000 {
                in_second = (now_ms / 1_000, 0);
            }
            if budget.available(now_ms) == 0 {
                continue;
            }
            budget.take(1);
            in_second.1 += 1;
            if in_second.1 > limit {
                refused += 1;
                budget.throttled(now_ms, Some(1_000 - now_ms % 1_000));
            } else {
                good += 1;
                budget.well(1);
            }
        }
        assert!(good >= 120 * limit * 6 / 10, "{good} good calls");
        assert!(refused * 20 <= good, "{refused} refused for {good} good calls");
    }
}
