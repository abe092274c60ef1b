//! How many calls a table takes at once: additive increase, multiplicative decrease, and a memory of what was too many.
//!
//! It begins at one call. Each call that ends well widens the window by its part of a round; a table that says that it is
//! busy halves it, once for all the calls of that round, and is not asked for as many again before a long run of good ones.
//! Where even one call is too many the window turns into a gap between calls, learned in the same way.

/// Calls that have to end well before more are tried than were once too many; it doubles with each failure, so that a table
/// that never takes more costs few refusals.
const PROBE_FIRST: u32 = 32;

/// The longest such run: about ten full tables.
const PROBE_LAST: u32 = 1_024;

/// The longest gap: an entry is rarely Pending for longer, and the pauses of a busy table go no further.
const GAP_MAX_MS: u64 = 10_000;

/// A gap that is shorter is none: it is below one round trip.
const GAP_MIN_MS: u64 = 20;

/// Thousandths of a call.
const CALL: u32 = 1_000;

/// What one table takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Window {
    /// In thousandths of a call.
    size: u32,
    /// The most calls that are ever tried.
    most: u32,
    /// What was not too many so far.
    ceiling: u32,
    /// Calls under way when it was halved: how these end says nothing new.
    deaf: u32,
    /// Calls that ended well since the last probe or failure.
    good: u32,
    probe_after: u32,
    gap_ms: u64,
    good_ms: Option<u64>,
}

impl Window {
    /// One call, and at most so many.
    pub(super) const fn up_to(most: u32) -> Self {
        Self { size: CALL, most, ceiling: most, deaf: 0, good: 0, probe_after: PROBE_FIRST, gap_ms: 0, good_ms: None }
    }

    /// How many calls may be under way at once.
    pub(super) const fn calls(&self) -> u32 {
        self.size / CALL
    }

    /// When the next call may start at the earliest.
    pub(super) fn open_ms(&self) -> u64 {
        self.good_ms.filter(|_| self.gap_ms > 0).map_or(0, |good_ms| good_ms.saturating_add(self.gap_ms))
    }

    /// A call ended well. `waited` says that the table had been busy just before, and since when this call was under way.
    pub(super) fn well(&mut self, now_ms: u64, waited: Option<u64>) {
        if let (Some(started_ms), Some(good_ms), CALL) = (waited, self.good_ms, self.size) {
            self.gap_ms = started_ms.saturating_sub(good_ms).min(GAP_MAX_MS);
        }
        self.good_ms = Some(now_ms);
        if self.deaf > 0 {
            self.deaf = self.deaf.saturating_sub(1);
            return;
        }
        self.good = self.good.saturating_add(1);
        if self.gap_ms == 0 && self.calls() < self.ceiling {
            let part = CALL.saturating_mul(CALL).checked_div(self.size).unwrap_or(0);
            self.size = self.size.saturating_add(part).min(self.ceiling.saturating_mul(CALL));
        } else if self.good >= self.probe_after {
            self.good = 0;
            self.probe();
        }
    }

    /// The table said that it is busy while `others` more calls were under way. Says whether there were too many at once;
    /// otherwise even one is too many for now.
    pub(super) fn busy(&mut self, others: u32) -> bool {
        if self.deaf > 0 {
            self.deaf = self.deaf.saturating_sub(1);
            return true;
        }
        self.good = 0;
        let several = self.calls() > 1;
        if self.size > CALL {
            self.ceiling = self.calls().saturating_sub(1).max(1);
            self.size = (self.size / 2).max(CALL);
            self.deaf = others;
        }
        if self.gap_ms > 0 || self.ceiling < self.most {
            self.probe_after = self.probe_after.saturating_mul(2).min(PROBE_LAST);
        }
        several
    }

    /// Tries a little more than was once too much.
    fn probe(&mut self) {
        if self.gap_ms > 0 {
            let shorter = self.gap_ms.saturating_mul(3) / 4;
            self.gap_ms = if shorter < GAP_MIN_MS { 0 } else { shorter };
        } else if self.ceiling < self.most {
            self.ceiling = self.ceiling.saturating_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lets so many calls end well.
    fn run(window: &mut Window, calls: u32) {
        (0..calls).for_each(|n| window.well(u64::from(n), None));
    }

    #[test]
    fn it_begins_at_one_and_widens_by_one_a_round() {
        let mut window = Window::up_to(8);
        let mut rounds = vec![window.calls()];
        for _ in 1..8 {
            let calls = window.calls();
            run(&mut window, calls);
            rounds.push(window.calls());
        }
        // The part of a round is a little less than a whole one once the window has grown within it.
        assert!(rounds.windows(2).all(|pair| pair[1] - pair[0] <= 1), "{rounds:?}");
        run(&mut window, 40);
        assert_eq!(window.calls(), 8);
    }

    #[test]
    fn one_round_halves_it_once_and_what_was_too_many_is_not_tried_again_soon() {
        let mut window = Window::up_to(8);
        run(&mut window, 60);
        assert_eq!(window.calls(), 8);
        for others in (0..8).rev() {
            window.busy(others);
        }
        assert_eq!(window.calls(), 4, "eight refusals of one round are one");
        run(&mut window, 30);
        assert_eq!(window.calls(), 7);
        let mut tries = 0;
        for n in 0..2_000 {
            if window.calls() == 8 {
                tries += 1;
                window.busy(0);
            }
            window.well(n, None);
        }
        assert!((1..=6).contains(&tries), "{tries} tries in 2,000 calls");
    }

    #[test]
    fn a_table_that_takes_one_call_and_then_none_for_a_while_is_asked_after_that_while() {
        let mut window = Window::up_to(8);
        let (mut now_ms, mut calls, mut open_ms) = (0, 0, 0);
        for _ in 0..200 {
            let mut waited = None;
            let mut pause_ms = 200;
            now_ms = window.open_ms().max(now_ms);
            loop {
                calls += 1;
                if now_ms >= open_ms {
                    break;
                }
                window.busy(0);
                now_ms += pause_ms;
                pause_ms *= 2;
                waited = Some(now_ms);
            }
            window.well(now_ms, waited);
            // An entry of this table is Pending for half a second and nothing goes meanwhile.
            open_ms = now_ms + 500;
        }
        assert!(calls <= 220, "{calls} calls for 200 entries");
        assert!(now_ms <= 200 * 700, "{now_ms} ms");
    }
}
