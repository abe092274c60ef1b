//! What is kept of the journal: when a snapshot is due, what may be pruned, and when its disk is short.
//!
//! Pure pacing: what it decides changes no mapping, and a restart only looks again. It asks for one thing at a time
//! ([`Keep`]) and is told how the journal stands afterwards ([`Kept`]). What is pruned is older than the retention, and
//! stands in a snapshot; where the disk is short everything goes that two snapshots stand for. That it is short is a fact
//! for the machine, which then allocates nothing new.
//!
//! Deliberately absent: how a snapshot is made and entries are removed, which is the driver's.

/// Records between two snapshots at the least: replaying them takes well below a second.
const RECORDS_MIN: u64 = 100_000;

/// Records between two snapshots, for each entry of the last one: what snapshots take is a fraction of what is logged.
const RECORDS_FOR_EACH_ENTRY: u64 = 4;

/// Between two snapshots lies at least such a part of the history that is kept: their number is bounded.
const SNAPSHOTS_OF_HISTORY: u64 = 32;

/// Where few records come, so many snapshots in the time of the retention.
const SNAPSHOTS_OF_RETENTION: u64 = 8;

/// Records that are worth a snapshot at all: below, what it frees is less than it takes.
const RECORDS_WORTH: u64 = 1_000;

/// Snapshots that pruning leaves: if one cannot be read, the one before it stands.
const SNAPSHOTS_KEPT_MIN: usize = 2;

/// How often the disk is looked at: others may fill it.
const LOOK_MS: u64 = 60_000;

/// How often while it is short: whoever makes room should not wait long.
const LOOK_SHORT_MS: u64 = 5_000;

/// Records after which it is looked at in any case: at 3.5 KiB each less than the reserve below the floor.
const LOOK_RECORDS: u64 = 16_384;

/// Pause after something that failed or got no further, as when somebody reads what should be pruned.
const PAUSE_MS: u64 = 60_000;

/// Bytes above the floor at which the disk is no longer short: without a distance each group would change it.
const ROOM_AGAIN_BYTES: u64 = 16 << 20;

/// Bytes that a snapshot on a short disk must leave, for what releases write.
const RESERVE_BYTES: u64 = 16 << 20;

/// How the journal is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Records are kept for that many milliseconds of wall time at the least.
    pub retention_ms: u64,
    /// Records between two snapshots at the least.
    pub records_min: u64,
}

impl Policy {
    /// Keeps records for that many milliseconds of wall time.
    #[must_use]
    pub const fn of(retention_ms: u64) -> Self {
        Self { retention_ms, records_min: RECORDS_MIN }
    }
}

/// What is to be done with the journal. Answered with [`Kept`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Tell how it stands.
    Look,
    /// Write a snapshot of everything that is durable.
    Snapshot,
    /// Remove what the oldest of so many newest snapshots stands for.
    Prune {
        /// How many snapshots stay.
        keep: usize,
    },
}

/// How the journal stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// The snapshots, the oldest first.
    pub snapshots: Vec<KeptSnapshot>,
    /// The lowest record that is left.
    pub first: u64,
    /// Wall time of that record, milliseconds since 1970-01-01 UTC; none if there is no record.
    pub first_wall_ms: Option<i64>,
    /// Bytes that the disk can still take, and how many should be free; none if the system does not say.
    pub room: Option<(u64, u64)>,
    /// Why what was asked for could not be done.
    pub failed: Option<String>,
}

/// A snapshot of the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptSnapshot {
    /// The last record that it stands for.
    pub through: u64,
    /// Its entries.
    pub entries: u64,
    /// Bytes of its file.
    pub bytes: u64,
    /// Wall time of that record, milliseconds since 1970-01-01 UTC.
    pub wall_ms: i64,
}

/// Looks after the journal.
#[derive(Clone, Debug)]
pub struct Keeping {
    policy: Policy,
    kept: Kept,
    asked: Option<Keep>,
    /// When it was looked at last, in monotonic milliseconds, and the head then.
    looked: Option<(u64, u64)>,
    /// Nothing but looking before that.
    paused_until_ms: u64,
    short: bool,
    failures: u64,
}

impl Keeping {
    /// Knows nothing yet.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self { policy, kept: Kept::default(), asked: None, looked: None, paused_until_ms: 0, short: false, failures: 0 }
    }

    /// What to do now, if anything. `head` is the last durable record.
    pub fn poll(&mut self, now_ms: u64, wall_ms: i64, head: u64) -> Option<Keep> {
        if self.asked.is_some() {
            return None;
        }
        self.asked = self.next(now_ms, wall_ms, head);
        self.asked
    }

    /// When to ask again at the latest, in monotonic milliseconds; `None` while an answer is awaited.
    #[must_use]
    pub fn due_ms(&self) -> Option<u64> {
        let pace = if self.short { LOOK_SHORT_MS } else { LOOK_MS };
        let due = self.looked.map_or(0, |(at, _)| at.saturating_add(pace));
        self.asked.is_none().then_some(due)
    }

    /// What was asked for was done, or failed.
    pub fn answered(&mut self, now_ms: u64, head: u64, kept: Kept) {
        let further = match self.asked.take() {
            Some(Keep::Prune { .. }) => {
                kept.first > self.kept.first || kept.snapshots.len() < self.kept.snapshots.len()
            }
            Some(Keep::Look | Keep::Snapshot) | None => true,
        };
        if kept.failed.is_some() {
            self.failures = self.failures.saturating_add(1);
        }
        if kept.failed.is_some() || !further {
            self.paused_until_ms = now_ms.saturating_add(PAUSE_MS);
        }
        if let Some((free, floor)) = kept.room {
            self.short = free < if self.short { floor.saturating_add(ROOM_AGAIN_BYTES) } else { floor };
        }
        self.looked = Some((now_ms, head));
        self.kept = kept;
    }

    /// Whether the disk is short, as far as is known.
    #[must_use]
    pub const fn is_short(&self) -> bool {
        self.short
    }

    /// How the journal stood when it was last looked at; `None` before.
    #[must_use]
    pub fn kept(&self) -> Option<&Kept> {
        self.looked.map(|_| &self.kept)
    }

    /// How often something could not be done.
    #[must_use]
    pub const fn failures(&self) -> u64 {
        self.failures
    }

    fn next(&self, now_ms: u64, wall_ms: i64, head: u64) -> Option<Keep> {
        let Some((_, looked_at)) = self.looked else { return Some(Keep::Look) };
        if now_ms >= self.paused_until_ms {
            if let Some(keep) = self.prunable(wall_ms) {
                return Some(Keep::Prune { keep });
            }
            if self.snapshot_is_due(wall_ms, head) {
                return Some(Keep::Snapshot);
            }
        }
        let due = self.due_ms().is_some_and(|due| now_ms >= due);
        (due || head >= looked_at.saturating_add(LOOK_RECORDS)).then_some(Keep::Look)
    }

    /// How many snapshots are to stay, if something can go: those of the retention, and one that stands for what was
    /// before.
    fn prunable(&self, wall_ms: i64) -> Option<usize> {
        let Kept { snapshots, first, .. } = &self.kept;
        let since = wall_ms.saturating_sub_unsigned(self.policy.retention_ms);
        let young = snapshots.iter().filter(|snapshot| snapshot.wall_ms > since).count();
        let keep = if self.short { SNAPSHOTS_KEPT_MIN } else { young.saturating_add(1).max(SNAPSHOTS_KEPT_MIN) };
        let base = snapshots.get(snapshots.len().checked_sub(keep)?)?;
        let superseded = snapshots.first().is_some_and(|oldest| oldest.through.saturating_add(1) < *first);
        (base.through >= *first || superseded).then_some(keep)
    }

    fn snapshot_is_due(&self, wall_ms: i64, head: u64) -> bool {
        let Kept { snapshots, first, first_wall_ms, room, .. } = &self.kept;
        let last = snapshots.last();
        let since = head.saturating_sub(last.map_or(0, |last| last.through));
        let worth = since >= RECORDS_WORTH.min(self.policy.records_min);
        if self.short {
            // It takes room before it gives any.
            let takes = last.map_or(0, |last| last.bytes.saturating_mul(2)).saturating_add(RESERVE_BYTES);
            return worth && room.is_some_and(|(free, _)| free >= takes);
        }
        let kept = head.saturating_sub(*first) / SNAPSHOTS_OF_HISTORY;
        let grown = last.map_or(0, |last| last.entries.saturating_mul(RECORDS_FOR_EACH_ENTRY));
        let interval_ms = self.policy.retention_ms / SNAPSHOTS_OF_RETENTION;
        let before = last.map(|last| last.wall_ms).or(*first_wall_ms);
        let aged = before.is_some_and(|before| wall_ms > before.saturating_add_unsigned(interval_ms));
        since >= self.policy.records_min.max(grown).max(kept) || (worth && aged)
    }
}

#[cfg(test)]
mod tests;
