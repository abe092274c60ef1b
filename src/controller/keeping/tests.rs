//! A journal in numbers, kept by the pacing alone.

use super::*;

const HOUR_MS: u64 = 3_600_000;

/// A journal that does at once whatever it is asked.
struct Journal {
    keeping: Keeping,
    kept: Kept,
    head: u64,
    now_ms: u64,
    /// Wall time of every thousandth record.
    walls: Vec<i64>,
    /// Entries of a snapshot.
    state: u64,
    asked: Vec<Keep>,
}

impl Journal {
    fn new(retention_ms: u64) -> Self {
        let kept = Kept { first: 1, first_wall_ms: Some(0), room: Some((1 << 40, 1 << 26)), ..Kept::default() };
        let keeping = Keeping::new(Policy::of(retention_ms));
        Self { keeping, kept, head: 0, now_ms: 0, walls: vec![0], state: 5_000, asked: Vec::new() }
    }

    fn wall_ms(&self) -> i64 {
        i64::try_from(self.now_ms).unwrap()
    }

    fn wall_of(&self, seq: u64) -> i64 {
        self.walls[usize::try_from(seq / 1_000).unwrap()]
    }

    /// A thousand records in so many milliseconds, then everything that is due.
    fn grow(&mut self, ms: u64) {
        (self.head, self.now_ms) = (self.head + 1_000, self.now_ms + ms);
        self.walls.push(self.wall_ms());
        self.work();
    }

    fn work(&mut self) {
        while let Some(keep) = self.keeping.poll(self.now_ms, self.wall_ms(), self.head) {
            self.asked.push(keep);
            self.carry_out(keep);
            self.keeping.answered(self.now_ms, self.head, self.kept.clone());
        }
    }

    fn carry_out(&mut self, keep: Keep) {
        match keep {
            Keep::Look => {}
            Keep::Snapshot => self.kept.snapshots.push(KeptSnapshot {
                through: self.head,
                entries: self.state,
                bytes: self.state * 200,
                wall_ms: self.wall_ms(),
            }),
            Keep::Prune { keep } => {
                assert!(keep >= 2);
                let base = self.kept.snapshots[self.kept.snapshots.len() - keep];
                self.kept.first = self.kept.first.max(base.through + 1);
                self.kept.first_wall_ms = Some(self.wall_of(self.kept.first));
                self.kept.snapshots.retain(|snapshot| snapshot.through + 1 >= self.kept.first);
            }
        }
    }

    fn left(&self) -> u64 {
        self.head + 1 - self.kept.first
    }
}

#[test]
fn what_is_kept_reaches_a_plateau_and_covers_the_retention() {
    for (ms, records_a_retention) in [(1_000, 24 * 3_600_000), (60_000, 24 * 60_000), (600_000, 24 * 6_000)] {
        let mut journal = Journal::new(24 * HOUR_MS);
        let mut most = 0;
        for n in 0..4 * 24 * HOUR_MS / ms {
            journal.grow(ms);
            let covered = journal.wall_ms() - journal.kept.first_wall_ms.unwrap();
            let all = journal.kept.first == 1;
            assert!(all || covered >= i64::try_from(24 * HOUR_MS).unwrap() - 1, "{covered} ms at {n}");
            if n > 48 * HOUR_MS / ms {
                most = most.max(journal.left());
            }
            assert!(journal.kept.snapshots.len() <= 200, "{} snapshots", journal.kept.snapshots.len());
        }
        assert!(journal.kept.first > 1);
        // A retention, and one interval more.
        assert!(most <= records_a_retention * 3 / 2, "{most} records of {records_a_retention} in a retention");
    }
}

#[test]
fn a_large_state_is_written_less_often_than_it_is_logged() {
    let mut journal = Journal::new(HOUR_MS);
    journal.state = 500_000;
    for _ in 0..20_000 {
        journal.grow(100);
    }
    let written = journal.asked.iter().filter(|keep| **keep == Keep::Snapshot).count() as u64 * journal.state;
    assert!(written <= journal.head / 3 + journal.state, "{written} entries for {} records", journal.head);
}

#[test]
fn a_quiet_journal_is_left_alone() {
    let mut journal = Journal::new(HOUR_MS);
    journal.head = 500;
    for _ in 0..1_000 {
        journal.now_ms += LOOK_MS;
        journal.work();
    }
    assert!(journal.asked.iter().all(|keep| *keep == Keep::Look));
    assert_eq!(journal.asked.len(), 1_000);
}

#[test]
fn a_short_disk_is_pruned_at_once_and_is_short_until_there_is_room_to_spare() {
    let mut journal = Journal::new(1_000 * HOUR_MS);
    for _ in 0..1_000 {
        journal.grow(1_000);
    }
    assert!(journal.kept.snapshots.len() > 2 && journal.kept.first == 1 && !journal.keeping.is_short());
    let floor = 1 << 26;
    let look = |journal: &mut Journal, free: u64| {
        journal.kept.room = Some((free, floor));
        journal.now_ms += LOOK_MS;
        journal.work();
        journal.keeping.is_short()
    };
    assert!(!look(&mut journal, floor), "at the floor");
    assert!(look(&mut journal, floor - 1));
    assert_eq!(journal.kept.snapshots.len(), 2);
    assert!(journal.kept.first > 1, "pruned before its time");
    assert!(look(&mut journal, floor + ROOM_AGAIN_BYTES - 1), "a little room is not enough");
    assert!(!look(&mut journal, floor + ROOM_AGAIN_BYTES));
    journal.kept.room = None;
    journal.now_ms += LOOK_MS;
    journal.work();
    assert!(!journal.keeping.is_short(), "nobody knows, nothing changes");
}

#[test]
fn on_a_full_disk_no_snapshot_is_begun() {
    let mut journal = Journal::new(HOUR_MS);
    journal.kept.room = Some((RESERVE_BYTES - 1, 1 << 26));
    for _ in 0..300 {
        journal.grow(1_000);
    }
    assert!(journal.keeping.is_short() && !journal.asked.contains(&Keep::Snapshot));
    journal.kept.room = Some((RESERVE_BYTES, 1 << 26));
    journal.now_ms += LOOK_SHORT_MS;
    journal.work();
    assert!(journal.asked.contains(&Keep::Snapshot));
}

#[test]
fn what_failed_or_got_no_further_is_tried_again_after_a_pause_and_one_thing_at_a_time() {
    let mut keeping = Keeping::new(Policy::of(HOUR_MS));
    assert_eq!((keeping.due_ms(), keeping.poll(0, 0, 0)), (Some(0), Some(Keep::Look)));
    assert_eq!((keeping.due_ms(), keeping.poll(0, 0, 200_000)), (None, None), "one is under way");
    let mut kept = Kept { first: 1, first_wall_ms: Some(0), ..Kept::default() };
    keeping.answered(5, 0, kept.clone());
    assert_eq!(keeping.poll(5, 0, RECORDS_MIN - 1), Some(Keep::Look), "many records came");
    keeping.answered(5, RECORDS_MIN - 1, kept.clone());
    assert_eq!(keeping.poll(6, 0, RECORDS_MIN), Some(Keep::Snapshot));
    kept.failed = Some("no room".to_owned());
    keeping.answered(6, RECORDS_MIN, kept.clone());
    assert_eq!((keeping.poll(7, 0, RECORDS_MIN), keeping.failures()), (None, 1));
    let again = 6 + PAUSE_MS;
    assert_eq!(keeping.poll(again, 0, RECORDS_MIN), Some(Keep::Snapshot));
    let snapshot = |through| KeptSnapshot { through, entries: 1, bytes: 200, wall_ms: -1_000_000_000 };
    kept = Kept { snapshots: vec![snapshot(10), snapshot(20), snapshot(30)], failed: None, ..kept };
    keeping.answered(again, RECORDS_MIN, kept.clone());
    assert_eq!(keeping.poll(again, 0, 31), Some(Keep::Prune { keep: 2 }));
    // Somebody reads what should go.
    keeping.answered(again, 31, kept.clone());
    assert_eq!(keeping.poll(again + 1, 0, 31), None);
    assert_eq!(keeping.poll(again + PAUSE_MS, 0, 31), Some(Keep::Prune { keep: 2 }));
    kept = Kept { first: 21, snapshots: vec![snapshot(20), snapshot(30)], ..kept };
    keeping.answered(again + PAUSE_MS, 31, kept);
    assert_eq!(keeping.poll(again + PAUSE_MS, 0, 31), None);
}
