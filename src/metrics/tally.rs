//! What is counted as it happens.

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::exposure::Exposure;
use crate::driver::phase::Phase;
use crate::machine::event::{Event, Record};
use crate::machine::state::State;

/// Upper bounds of the buckets of an append in milliseconds; one more counts what took longer. A local disk syncs within
/// one, a cloud disk within ten; the last is the longest that is waited.
pub(super) const APPEND_BUCKETS_MS: [u64; 9] = [1, 2, 5, 10, 25, 100, 500, 2_000, 10_000];

/// Counts since the start.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) effects: BTreeMap<&'static str, Flights>,
    pub(super) listings: BTreeMap<&'static str, Flights>,
    pub(super) records: BTreeMap<&'static str, u64>,
    pub(super) rebased: u64,
    /// The last durable record; `None` before the first one of this process.
    pub(super) head: Option<u64>,
    pub(super) appends: Appends,
    pub(super) exposure: Exposure,
    appending: Option<Instant>,
}

/// Something that is started and ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Flights {
    pub(super) started: u64,
    pub(super) ended: u64,
}

/// How long appends took.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Appends {
    pub(super) count: u64,
    pub(super) seconds: f64,
    /// Not cumulated; the last, longer than all.
    pub(super) buckets: [u64; APPEND_BUCKETS_MS.len() + 1],
}

impl Tally {
    pub(super) fn phase(&mut self, phase: Phase) {
        match phase {
            Phase::Append => self.appending = Some(Instant::now()),
            Phase::Appended => {
                if let Some(since) = self.appending.take() {
                    self.appends.count(since.elapsed());
                }
            }
            Phase::EffectStart(kind) => count(&mut self.effects.entry(kind).or_default().started),
            Phase::EffectEnded(kind) => count(&mut self.effects.entry(kind).or_default().ended),
            Phase::List(what) => count(&mut self.listings.entry(what).or_default().started),
            Phase::ListEnded(what) => count(&mut self.listings.entry(what).or_default().ended),
            Phase::Open | Phase::Replayed | Phase::Leading | Phase::Settled => {}
        }
    }

    pub(super) fn recorded(&mut self, records: &[Record]) {
        for record in records {
            count(self.records.entry(record.event.name()).or_default());
            self.rebased = self.rebased.saturating_add(u64::from(matches!(record.event, Event::Rebased(_))));
            self.head = Some(record.seq);
            self.exposure.recorded(record);
        }
    }

    pub(super) fn turned(&mut self, state: &State) {
        self.exposure.turned(state);
    }
}

impl Appends {
    fn count(&mut self, took: std::time::Duration) {
        count(&mut self.count);
        self.seconds += took.as_secs_f64();
        let longer = |bound: &&u64| took > std::time::Duration::from_millis(**bound);
        let place = APPEND_BUCKETS_MS.iter().take_while(longer).count();
        if let Some(bucket) = self.buckets.get_mut(place) {
            count(bucket);
        }
    }
}

const fn count(counter: &mut u64) {
    *counter = counter.saturating_add(1);
}
