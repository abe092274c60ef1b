//! One lane a forward table: which call to its entries goes next.
//!
//! In this first form a lane carries one call at a time. Creations go in order of allocation, so pod by pod in order of
//! decision; deletions and creations take turns, so that neither starves. A lane that was told to wait waits alone.

use std::collections::{BTreeMap, BTreeSet};

use crate::machine::identity::{AllocationId, EntryId, Generation, TableId};
use crate::machine::intent::Intent;

/// The first pause after a table said that it is busy; it doubles with each further time.
const PAUSE_FIRST_MS: u64 = 200;

/// The longest such pause.
const PAUSE_LAST_MS: u64 = 10_000;

/// All lanes.
#[derive(Clone, Debug, Default)]
pub struct Lanes {
    lanes: BTreeMap<TableId, Lane>,
}

#[derive(Clone, Debug, Default)]
struct Lane {
    creations: BTreeSet<(AllocationId, Generation)>,
    deletions: BTreeSet<EntryId>,
    busy: bool,
    /// The deletion that was sent last: the others come before it again.
    deleted: Option<EntryId>,
    deleted_last: bool,
    pauses: u32,
    not_before_ms: u64,
}

impl Lanes {
    /// Puts an intent into its lane. Others are not for lanes and come back.
    pub fn push(&mut self, intent: Intent) -> Result<(), Intent> {
        match intent {
            Intent::Bind { table, allocation, generation } => {
                self.lanes.entry(table).or_default().creations.insert((allocation, generation));
                Ok(())
            }
            Intent::Unbind { table, entry } => {
                self.lanes.entry(table).or_default().deletions.insert(entry);
                Ok(())
            }
            other => Err(other),
        }
    }

    /// The next call of a table's lane that may start. It stays in the lane until it is taken with [`Lanes::start`].
    pub fn next(&self, now_ms: u64) -> impl Iterator<Item = (TableId, Vec<Intent>)> {
        let free = move |lane: &Lane| !lane.busy && lane.not_before_ms <= now_ms;
        self.lanes
            .iter()
            .filter(move |(_, lane)| free(lane))
            .map(|(table, lane)| (table.clone(), lane.candidates(table)))
    }

    /// Takes a call out of its lane; the lane is busy until [`Lanes::ended`].
    pub fn start(&mut self, table: &TableId, intent: &Intent) {
        let Some(lane) = self.lanes.get_mut(table) else { return };
        lane.remove(intent);
        lane.busy = true;
        lane.deleted_last = matches!(intent, Intent::Unbind { .. });
        if let Intent::Unbind { entry, .. } = intent {
            lane.deleted = Some(entry.clone());
        }
    }

    /// Takes an intent that is no longer wanted out of its lane.
    pub fn forget(&mut self, table: &TableId, intent: &Intent) {
        if let Some(lane) = self.lanes.get_mut(table) {
            lane.remove(intent);
        }
    }

    /// The call of a lane ended. `pause` says that the table was busy, with the time to wait where it said one.
    pub fn ended(&mut self, table: &TableId, now_ms: u64, pause: Option<Option<u64>>) {
        let Some(lane) = self.lanes.get_mut(table) else { return };
        lane.busy = false;
        match pause {
            None => lane.pauses = 0,
            Some(hint) => {
                let pause = PAUSE_FIRST_MS.saturating_mul(1 << lane.pauses.min(10)).min(PAUSE_LAST_MS);
                lane.pauses = lane.pauses.saturating_add(1);
                lane.not_before_ms = now_ms.saturating_add(hint.unwrap_or(0).max(pause));
            }
        }
    }

    /// When the next lane that was told to wait, and has something to do, may go on. One that may go on already waits for
    /// something whose end is an input of its own: a write to the same PodDNAT, a renewal of the lease.
    #[must_use]
    pub fn due_ms(&self, now_ms: u64) -> Option<u64> {
        let told = |lane: &&Lane| !lane.busy && !lane.is_empty() && lane.not_before_ms > now_ms;
        self.lanes.values().filter(told).map(|lane| lane.not_before_ms).min()
    }

    /// Whether no lane has anything to do.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.lanes.values().all(|lane| !lane.busy && lane.is_empty())
    }
}

impl Lane {
    fn is_empty(&self) -> bool {
        self.creations.is_empty() && self.deletions.is_empty()
    }

    /// The first creation and the first deletions, the kind whose turn it is first. Several deletions, because one may
    /// have to wait for a write to its PodDNAT while the next need not.
    fn candidates(&self, table: &TableId) -> Vec<Intent> {
        let creation = self.creations.first().map(|(allocation, generation)| Intent::Bind {
            table: table.clone(),
            allocation: *allocation,
            generation: *generation,
        });
        let last = self.deleted.as_ref();
        let rest = self.deletions.iter().filter(|entry| last.is_none_or(|last| *entry > last));
        let again = self.deletions.iter().filter(|entry| last.is_some_and(|last| *entry <= last));
        let deletions = rest.chain(again).take(CANDIDATES_MAX);
        let deletions = deletions.map(|entry| Intent::Unbind { table: table.clone(), entry: entry.clone() });
        if self.deleted_last {
            creation.into_iter().chain(deletions).collect()
        } else {
            deletions.chain(creation).collect()
        }
    }

    fn remove(&mut self, intent: &Intent) {
        match intent {
            Intent::Bind { allocation, generation, .. } => {
                self.creations.remove(&(*allocation, *generation));
            }
            Intent::Unbind { entry, .. } => {
                self.deletions.remove(entry);
            }
            Intent::Locate { .. }
            | Intent::WriteClaim { .. }
            | Intent::Forgo { .. }
            | Intent::Observe { .. }
            | Intent::Publish { .. }
            | Intent::Withdraw { .. }
            | Intent::ReleaseClaim { .. }
            | Intent::DropClaim { .. }
            | Intent::MarkPod { .. } => {}
        }
    }
}

/// Deletions that are looked at for one that may start.
const CANDIDATES_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::identity::Stamp;

    fn bind(n: u64) -> Intent {
        let stamp = Stamp { term: 1, n };
        Intent::Bind { table: "t".into(), allocation: AllocationId(stamp), generation: Generation(stamp) }
    }

    fn unbind(entry: &str) -> Intent {
        Intent::Unbind { table: "t".into(), entry: entry.into() }
    }

    fn first(lanes: &Lanes, now_ms: u64) -> Option<Intent> {
        lanes.next(now_ms).flat_map(|(_, candidates)| candidates).next()
    }

    #[test]
    fn one_call_at_a_time_and_by_turns() {
        let mut lanes = Lanes::default();
        for intent in [bind(2), bind(1), unbind("a"), unbind("b")] {
            lanes.push(intent).expect("for a lane");
        }
        let table = TableId::from("t");
        for expected in [unbind("a"), bind(1), unbind("b"), bind(2)] {
            assert_eq!(first(&lanes, 0), Some(expected.clone()));
            lanes.start(&table, &expected);
            assert_eq!(first(&lanes, 0), None, "the lane is busy");
            lanes.ended(&table, 0, None);
        }
        assert!(lanes.is_idle());
    }

    #[test]
    fn a_busy_table_waits_longer_each_time_and_no_less_than_it_said() {
        let mut lanes = Lanes::default();
        let table = TableId::from("t");
        lanes.push(bind(1)).expect("for a lane");
        for (hint, pause) in [(None, 200), (None, 400), (Some(5_000), 5_000), (None, 1_600)] {
            lanes.start(&table, &bind(1));
            lanes.ended(&table, 0, Some(hint));
            lanes.push(bind(1)).expect("for a lane");
            assert_eq!((lanes.due_ms(0), first(&lanes, pause - 1)), (Some(pause), None));
        }
        lanes.start(&table, &bind(1));
        lanes.ended(&table, 0, None);
        lanes.push(bind(1)).expect("for a lane");
        lanes.start(&table, &bind(1));
        lanes.ended(&table, 0, Some(None));
        lanes.push(bind(1)).expect("for a lane");
        assert_eq!(lanes.due_ms(0), Some(200), "an answer ends the growth");
    }
}
