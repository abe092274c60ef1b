//! What watches read: the latest writes, in order, and how far back they go.

use std::collections::VecDeque;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::machine::event::seen::{ClaimGone, ClaimSeen, PodGone, PodSeen};

/// Writes that are kept for watches: three for each pod of a cluster of 10,000. Who is further behind lists again.
const HISTORY_MAX: usize = 32_768;

/// One write to a pod or a PodDNAT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A pod was created or changed.
    Pod(PodSeen),
    /// A pod object has gone.
    PodGone(PodGone),
    /// A PodDNAT was created or changed.
    Claim(ClaimSeen),
    /// A PodDNAT object has gone.
    ClaimGone(ClaimGone),
}

/// The writes after a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes {
    /// In order of writing.
    pub changes: Vec<Change>,
    /// The version to ask from next.
    pub through: u64,
}

/// A watch cannot go on from a version (410 Gone): list again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("changes after version {asked} are not kept, only those after {oldest}: list again")]
pub struct TooOld {
    /// The version that was asked for.
    pub asked: u64,
    /// The first one that a watch can begin from.
    pub oldest: u64,
}

/// The kept writes. Saved, it is only the version that a watch can begin from after loading.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    floor: u64,
    kept: VecDeque<(u64, Change)>,
}

impl History {
    pub(super) fn record(&mut self, version: u64, change: Change) {
        if self.kept.len() >= HISTORY_MAX
            && let Some((dropped, _)) = self.kept.pop_front()
        {
            self.floor = dropped;
        }
        self.kept.push_back((version, change));
    }

    /// Nothing is kept: watches begin with what is written after this version.
    pub(super) fn forget(&mut self, version: u64) {
        self.floor = version;
        self.kept.clear();
    }

    pub(super) fn since(&self, asked: u64, now: u64) -> Result<Changes, TooOld> {
        if asked < self.floor || asked > now {
            return Err(TooOld { asked, oldest: self.floor });
        }
        let from = self.kept.partition_point(|(version, _)| *version <= asked);
        let changes = self.kept.range(from..).map(|(_, change)| change.clone()).collect();
        Ok(Changes { changes, through: now })
    }
}

impl Serialize for History {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.kept.back().map_or(self.floor, |(version, _)| *version).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for History {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self { floor: u64::deserialize(deserializer)?, kept: VecDeque::new() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gone(n: u64) -> Change {
        Change::PodGone(PodGone { uid: n.to_string() })
    }

    #[test]
    fn every_write_after_the_version_comes_once_and_in_order() {
        let mut history = History::default();
        for version in [2, 5, 6] {
            history.record(version, gone(version));
        }
        assert_eq!(history.since(0, 7).unwrap().changes, [gone(2), gone(5), gone(6)]);
        let changes = history.since(5, 7).unwrap();
        assert_eq!((changes.changes, changes.through), (vec![gone(6)], 7));
        assert_eq!(history.since(7, 7).unwrap().changes, []);
        assert_eq!(history.since(8, 7), Err(TooOld { asked: 8, oldest: 0 }), "a version from another cluster's future");
    }

    #[test]
    fn who_is_too_far_behind_lists_again() {
        let mut history = History::default();
        let last = u64::try_from(HISTORY_MAX).unwrap() + 2;
        for version in 1..=last {
            history.record(version, gone(version));
        }
        assert_eq!(history.since(1, last), Err(TooOld { asked: 1, oldest: 2 }));
        assert_eq!(history.since(2, last).unwrap().changes.len(), HISTORY_MAX);
        let loaded: History = serde_json::from_str(&serde_json::to_string(&history).unwrap()).unwrap();
        assert_eq!(loaded.since(last - 1, last), Err(TooOld { asked: last - 1, oldest: last }));
        assert_eq!(loaded.since(last, last).unwrap().changes, []);
    }
}
