//! The lease as a state machine: client-go's semantics on a monotonic clock (design.md §6).
//!
//! Another's lease expires when it has not changed for its duration, as *we* saw it. Ours is counted from the *sending*
//! of the last renewal that was acknowledged, never from the answer. Nobody's wall clock counts.

use crate::ports::cluster::{ClusterErrorClass, LeaseRecord};

/// The three durations, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How long others wait after the last change before they take over.
    pub lease_duration_ms: u64,
    /// How long we lead without an acknowledged renewal.
    pub renew_deadline_ms: u64,
    /// How often we try.
    pub retry_period_ms: u64,
}

/// The longest that a mutating call may take (design.md §6), whatever the deadline.
const CALL_TIMEOUT_MAX_MS: u64 = 5_000;

impl Timing {
    /// The time-out of a mutating call: none starts with less than that left.
    #[must_use]
    pub fn call_timeout_ms(&self) -> u64 {
        CALL_TIMEOUT_MAX_MS.min(self.renew_deadline_ms / 2)
    }
}

/// A call to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// Read the lock.
    Read,
    /// Write the lock, by compare-and-swap.
    Write(LeaseRecord),
}

/// How a call ended.
pub type Answer = Result<LeaseRecord, ClusterErrorClass>;

/// What an answer led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Nothing changed.
    Same,
    /// We lead, in this term.
    Won(u64),
    /// Somebody else holds the lock: we lead no more.
    Lost,
}

/// The lock as we see it.
#[derive(Clone, Debug)]
pub struct Lease {
    timing: Timing,
    holder: String,
    /// What was last read or written, and when it was seen to change.
    observed: Option<(LeaseRecord, u64)>,
    /// When the last acknowledged renewal was sent, while we lead.
    led_since_ms: Option<u64>,
    /// The call under way: when it was sent, and whether it is a write.
    sent: Option<(u64, bool)>,
    next_ms: u64,
    journal: [u8; 16],
    /// The heads that the lock named before we wrote it for the first time, the newest first.
    heads_before: Vec<([u8; 16], u64, [u8; 32])>,
    /// The term that the lock named before we wrote it for the first time.
    before: u64,
}

impl Lease {
    /// A candidate that has seen nothing.
    #[must_use]
    pub fn new(holder: String, journal: [u8; 16], timing: Timing) -> Self {
        Self {
            timing,
            holder,
            journal,
            observed: None,
            led_since_ms: None,
            sent: None,
            next_ms: 0,
            heads_before: Vec::new(),
            before: 0,
        }
    }

    /// Whether we lead.
    #[must_use]
    pub const fn leads(&self) -> bool {
        self.led_since_ms.is_some()
    }

    /// Journal, head and hash that the lock named before this lead began: where its history goes on from.
    #[must_use]
    pub fn predecessor(&self) -> Option<([u8; 16], u64, [u8; 32])> {
        self.heads_before.iter().find(|(journal, ..)| *journal != UNNAMED).copied()
    }

    /// Whether the last lead before this one had our journal, if the lock tells: only then can a term that our journal does
    /// not know be one of ours that ended before it began.
    #[must_use]
    pub fn follows_itself(&self) -> Option<bool> {
        self.heads_before.first().map(|(journal, ..)| *journal == self.journal)
    }

    /// The term that the lock named before this lead, when it was not ours already.
    #[must_use]
    pub const fn term_before(&self) -> u64 {
        self.before
    }

    /// The durations.
    #[must_use]
    pub const fn timing(&self) -> Timing {
        self.timing
    }

    /// Until when a mutating call may start.
    #[must_use]
    pub fn may_start_until_ms(&self) -> Option<u64> {
        let deadline = self.led_since_ms?.saturating_add(self.timing.renew_deadline_ms);
        Some(deadline.saturating_sub(self.timing.call_timeout_ms()))
    }

    /// Whether the deadline of our lead has passed without an acknowledged renewal.
    #[must_use]
    pub fn is_over(&self, now_ms: u64) -> bool {
        self.led_since_ms.is_some_and(|since| now_ms >= since.saturating_add(self.timing.renew_deadline_ms))
    }

    /// When to ask again.
    #[must_use]
    pub fn due_ms(&self) -> u64 {
        let deadline = self.led_since_ms.map(|since| since.saturating_add(self.timing.renew_deadline_ms));
        let next = if self.sent.is_some() { u64::MAX } else { self.next_ms };
        deadline.map_or(next, |deadline| deadline.min(next))
    }

    /// The call that is due, if any. `term` is the highest seen outside the lock; `heads` go into the lock.
    pub fn poll(&mut self, now_ms: u64, term: u64, heads: &[([u8; 16], u64, [u8; 32])]) -> Option<Call> {
        if self.sent.is_some() || now_ms < self.next_ms {
            return None;
        }
        let write = self.record_to_write(now_ms, term, heads);
        self.sent = Some((now_ms, write.is_some()));
        Some(write.map_or(Call::Read, Call::Write))
    }

    fn record_to_write(&self, now_ms: u64, term: u64, heads: &[([u8; 16], u64, [u8; 32])]) -> Option<LeaseRecord> {
        let (record, seen_ms) = self.observed.as_ref()?;
        let expired = now_ms >= seen_ms.saturating_add(record.duration_ms.max(self.timing.lease_duration_ms));
        let free = record.holder.is_empty() || record.holder == self.holder || expired;
        if !self.leads() && !free {
            return None;
        }
        let next = term.max(record.term).saturating_add(1);
        Some(LeaseRecord {
            resource_version: record.resource_version.clone(),
            holder: self.holder.clone(),
            term: if self.leads() { record.term } else { next },
            duration_ms: self.timing.lease_duration_ms,
            renewals: record.renewals.saturating_add(1),
            heads: if self.leads() { merge(heads, &record.heads) } else { self.taken(&record.heads) },
        })
    }

    /// The heads of a lock that we take. Our own follows once our term has begun; until then nobody may believe, we neither,
    /// that the journal of the lead before was the last: it is not named any more.
    fn taken(&self, heads: &[([u8; 16], u64, [u8; 32])]) -> Vec<([u8; 16], u64, [u8; 32])> {
        let last = heads.first().map(|(journal, ..)| *journal);
        let unnamed = last.is_some_and(|last| last != self.journal && last != UNNAMED);
        unnamed.then_some((UNNAMED, 0, [0; 32])).into_iter().chain(heads.iter().copied()).collect()
    }

    /// Takes the answer of the call under way.
    pub fn answered(&mut self, now_ms: u64, answer: Answer) -> Turn {
        let Some((sent_ms, wrote)) = self.sent.take() else { return Turn::Same };
        self.next_ms = now_ms.saturating_add(self.timing.retry_period_ms);
        match answer {
            Ok(record) if wrote => {
                let term = record.term;
                self.observed = Some((record, now_ms));
                let won = self.led_since_ms.replace(sent_ms).is_none();
                if won { Turn::Won(term) } else { Turn::Same }
            }
            Ok(record) => {
                let ours = record.holder == self.holder;
                if !self.leads() {
                    self.heads_before.clone_from(&record.heads);
                    if record.holder != self.holder {
                        self.before = record.term;
                    }
                }
                let changed = self.observed.as_ref().is_none_or(|(before, _)| *before != record);
                let free = record.holder.is_empty();
                if changed {
                    self.observed = Some((record, now_ms));
                }
                if self.leads() {
                    return if ours { Turn::Same } else { Turn::Lost };
                }
                if free || ours {
                    self.next_ms = now_ms;
                }
                Turn::Same
            }
            // Somebody wrote in between: what we saw is old.
            Err(ClusterErrorClass::Conflict | ClusterErrorClass::AlreadyExists) if wrote => {
                self.next_ms = now_ms;
                self.look_again();
                Turn::Same
            }
            // It may have been written: only a read can tell, and our record of it is old.
            Err(_) if wrote => {
                self.look_again();
                Turn::Same
            }
            Err(_) => Turn::Same,
        }
    }

    /// Makes the next call a read, and keeps since when another's lock has not changed.
    fn look_again(&mut self) {
        if self.leads() {
            self.observed = None;
        } else if let Some((record, _)) = &mut self.observed {
            record.resource_version.clear();
        }
        if self.observed.as_ref().is_some_and(|(record, _)| record.resource_version.is_empty()) {
            self.observed = None;
        }
    }
}

/// Our head first, then those of up to four other journals; without ours, as they are.
pub(super) fn merge(
    own: &[([u8; 16], u64, [u8; 32])],
    others: &[([u8; 16], u64, [u8; 32])],
) -> Vec<([u8; 16], u64, [u8; 32])> {
    if own.is_empty() {
        return others.to_vec();
    }
    let foreign = others.iter().filter(|(id, ..)| *id != UNNAMED && own.iter().all(|(own, ..)| own != id));
    own.iter().chain(foreign).take(HEADS_MAX).copied().collect()
}

/// Stands in the lock for the journal of a lead that has not begun its term yet.
const UNNAMED: [u8; 16] = [0; 16];

/// Journals whose heads the lock keeps (design.md §6).
const HEADS_MAX: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    const TIMING: Timing = Timing { lease_duration_ms: 15_000, renew_deadline_ms: 10_000, retry_period_ms: 2_000 };

    fn written(call: Option<Call>) -> LeaseRecord {
        match call {
            Some(Call::Write(record)) => record,
            other => panic!("expected a write, got {other:?}"),
        }
    }

    fn won(at_ms: u64) -> Lease {
        let mut lease = Lease::new("a".to_owned(), [1; 16], TIMING);
        assert_eq!(lease.poll(at_ms, 0, &[]), Some(Call::Read));
        assert_eq!(lease.answered(at_ms, Ok(LeaseRecord::default())), Turn::Same);
        let record = written(lease.poll(at_ms, 4, &[]));
        assert_eq!((record.term, record.holder.as_str()), (5, "a"));
        assert_eq!(lease.answered(at_ms + 500, Ok(record)), Turn::Won(5));
        lease
    }

    #[test]
    fn our_lead_is_counted_from_the_sending() {
        let lease = won(1_000);
        assert_eq!(lease.may_start_until_ms(), Some(1_000 + 10_000 - 5_000));
        assert!(!lease.is_over(10_999) && lease.is_over(11_000));
    }

    #[test]
    fn anothers_lease_expires_by_our_clock_since_it_last_changed() {
        let mut lease = Lease::new("b".to_owned(), [2; 16], TIMING);
        let held =
            LeaseRecord { holder: "a".to_owned(), term: 3, duration_ms: 15_000, renewals: 9, ..LeaseRecord::default() };
        for at_ms in (0..15_000).step_by(2_000) {
            assert_eq!(lease.poll(at_ms, 0, &[]), Some(Call::Read), "at {at_ms}");
            lease.answered(at_ms, Ok(held.clone()));
        }
        let record = written(lease.poll(16_000, 0, &[]));
        assert_eq!((record.term, record.renewals), (4, 10));
        // A renewal came in between: the compare-and-swap fails and the count begins anew.
        assert_eq!(lease.answered(16_000, Err(ClusterErrorClass::Conflict)), Turn::Same);
        assert_eq!(lease.poll(16_000, 0, &[]), Some(Call::Read));
        lease.answered(16_000, Ok(LeaseRecord { renewals: 10, ..held }));
        assert_eq!(lease.poll(30_000, 0, &[]), Some(Call::Read));
    }

    #[test]
    fn an_unanswered_renewal_extends_nothing() {
        let mut lease = won(0);
        assert!(matches!(lease.poll(2_500, 0, &[]), Some(Call::Write(_))));
        assert_eq!(lease.answered(3_000, Err(ClusterErrorClass::Unknown)), Turn::Same);
        assert!(lease.is_over(10_000));
        assert_eq!(lease.poll(5_000, 0, &[]), Some(Call::Read));
        let stolen = LeaseRecord { holder: "b".to_owned(), term: 9, ..LeaseRecord::default() };
        assert_eq!(lease.answered(5_100, Ok(stolen)), Turn::Lost);
    }

    /// What a lock says after a journal with that number took it, and the lease of the taker.
    fn taken_by(journal: u8, heads: Vec<([u8; 16], u64, [u8; 32])>) -> (LeaseRecord, Lease) {
        let mut lease = Lease::new(journal.to_string(), [journal; 16], TIMING);
        lease.poll(0, 0, &[]);
        lease.answered(0, Ok(LeaseRecord { term: 3, heads, ..LeaseRecord::default() }));
        let record = written(lease.poll(0, 0, &[]));
        (record, lease)
    }

    #[test]
    fn a_lead_that_ended_before_it_named_its_journal_is_not_mistaken_for_ours() {
        let ours = ([1; 16], 7, [7; 32]);
        let (record, lease) = taken_by(2, vec![ours]);
        assert_eq!(lease.predecessor(), Some(ours));
        assert_eq!(record.heads, [(UNNAMED, 0, [0; 32]), ours]);
        for journal in [1, 2] {
            let (again, next) = taken_by(journal, record.heads.clone());
            assert_eq!((next.follows_itself(), next.predecessor()), (Some(false), Some(ours)));
            assert_eq!(again.heads, record.heads);
        }
        let theirs = ([2; 16], 9, [9; 32]);
        assert_eq!(merge(&[theirs], &record.heads), [theirs, ours]);
    }

    #[test]
    fn a_lead_of_ours_that_ended_before_it_began_is_known_as_ours() {
        let ours = ([1; 16], 7, [7; 32]);
        let (record, lease) = taken_by(1, vec![ours]);
        assert_eq!((lease.follows_itself(), record.heads), (Some(true), vec![ours]));
    }
}
