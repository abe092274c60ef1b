//! How many calls there were and how long they took, by action and class: counters and histograms for whoever exposes them.
//!
//! Counting decides nothing. There are eight actions and eleven ways to end, so what is kept is bounded by construction.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::ports::cloud::ErrorClass;

/// Upper bounds of the histogram's buckets in milliseconds; one more counts what took longer. The first is below the best
/// round trip inside a region, the last is the longest time-out of a call.
pub const BUCKETS_MS: [u64; 10] = [5, 10, 25, 50, 100, 250, 500, 1_000, 5_000, 20_000];

/// One call that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// The action.
    pub action: &'static str,
    /// How it ended; `None` is well.
    pub class: Option<ErrorClass>,
    /// From the signing to the last byte of the answer.
    pub took: Duration,
}

/// Hears of every call.
pub trait Meter: Send + Sync {
    /// A call ended.
    fn ended(&self, call: Call);
}

/// Calls of one action that ended in one way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Series {
    /// How many.
    pub count: u64,
    /// How long all of them took together.
    pub total: Duration,
    /// How many took at most [`BUCKETS_MS`] of the same place (not cumulated); the last, longer than all.
    pub buckets: [u64; BUCKETS_MS.len() + 1],
}

/// All series by action and the word of [`class_word`].
pub type Snapshot = BTreeMap<(&'static str, &'static str), Series>;

/// A meter that keeps everything in memory.
#[derive(Debug, Default)]
pub struct Calls(Mutex<Snapshot>);

impl Calls {
    /// What was counted so far.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Meter for Calls {
    fn ended(&self, call: Call) {
        let mut series = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let series = series.entry((call.action, class_word(call.class))).or_default();
        series.count = series.count.saturating_add(1);
        series.total = series.total.saturating_add(call.took);
        let place = BUCKETS_MS.iter().take_while(|bound| call.took > Duration::from_millis(**bound)).count();
        if let Some(bucket) = series.buckets.get_mut(place) {
            *bucket = bucket.saturating_add(1);
        }
    }
}

/// The label of a class: `ok` where there was no error.
#[must_use]
pub const fn class_word(class: Option<ErrorClass>) -> &'static str {
    match class {
        None => "ok",
        Some(ErrorClass::RetryNow) => "retry-now",
        Some(ErrorClass::RetryLater) => "retry-later",
        Some(ErrorClass::Throttled { .. }) => "throttled",
        Some(ErrorClass::Conflict) => "conflict",
        Some(ErrorClass::Duplicate) => "duplicate",
        Some(ErrorClass::Quota) => "quota",
        Some(ErrorClass::Gone) => "gone",
        Some(ErrorClass::Denied) => "denied",
        Some(ErrorClass::Malformed) => "malformed",
        Some(ErrorClass::Unknown) => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_counted_once_in_the_bucket_of_its_time() {
        let calls = Calls::default();
        for (ms, class) in
            [(5, None), (6, None), (20_001, None), (5, Some(ErrorClass::Throttled { after_ms: Some(1) }))]
        {
            calls.ended(Call { action: "A", class, took: Duration::from_millis(ms) });
        }
        let snapshot = calls.snapshot();
        let ok = &snapshot[&("A", "ok")];
        assert_eq!((ok.count, ok.total), (3, Duration::from_millis(20_012)));
        assert_eq!(ok.buckets, [1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(snapshot[&("A", "throttled")].count, 1);
    }
}
