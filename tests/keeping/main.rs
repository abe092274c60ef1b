//! What is kept of a journal that goes on for long: the whole controller on the models of cluster and cloud, in virtual
//! time, with the real journal behind its real thread.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "what is missing is a failed test")]
#![allow(unreachable_pub, missing_docs, reason = "modules of one test program")]

#[path = "../cloud_runs/stage.rs"]
mod stage;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::FutureExt as _;
use natgw::controller::keeping::{Keep, Kept, Policy};
use natgw::controller::step::Head;
use natgw::driver::history::{self, Earlier, History};
use natgw::driver::writer::{Answer, Writer};
use natgw::machine::demand::WaitReason;
use natgw::machine::event::Record;
use natgw::machine::state::{Standing, State};
use natgw::ports::cluster::LeaseRecord;
use natgw_journal::{JournalId, Room};
use natgw_replay::history::History as Replayed;
use natgw_replay::verify::examine;
use tokio::runtime::{Builder, Runtime};

use self::stage::{Stage, Volume};

/// What the disk should have.
const FLOOR_BYTES: u64 = 1 << 30;

/// A busy cluster in some minutes of virtual time: a retention of one minute, a snapshot each two thousand records.
const POLICY: Policy = Policy { retention_ms: 60_000, records_min: 2_000 };

/// A journal on the disk, behind its thread.
struct OnDisk {
    runtime: Runtime,
    writer: Option<Writer>,
    kept: Option<Kept>,
}

impl OnDisk {
    fn new(history: History, free: &Arc<AtomicU64>) -> Self {
        let free = Arc::clone(free);
        let measure = move |_: &_| Ok(Room { free: free.load(Ordering::Relaxed), floor: FLOOR_BYTES });
        let writer = Writer::start_with(history.journal, Box::new(measure)).unwrap();
        let runtime = Builder::new_current_thread().build().unwrap();
        Self { runtime, writer: Some(writer), kept: None }
    }
}

impl Volume for OnDisk {
    fn append(&mut self, group: &[Record]) -> Head {
        let writer = self.writer.as_mut().unwrap();
        writer.append(group.to_vec()).unwrap();
        loop {
            match self.runtime.block_on(writer.answered()).unwrap() {
                Answer::Written(written) => return written.head,
                Answer::Kept(kept) => self.kept = Some(kept),
            }
        }
    }

    fn keep(&mut self, keep: Keep) {
        self.writer.as_ref().unwrap().keep(keep).unwrap();
    }

    fn kept(&mut self) -> Option<Kept> {
        match self.writer.as_mut().unwrap().answered().now_or_never() {
            Some(answer) => match answer.unwrap() {
                Answer::Kept(kept) => Some(kept),
                Answer::Written(written) => panic!("{written:?} was not asked for"),
            },
            None => self.kept.take(),
        }
    }
}

impl Drop for OnDisk {
    fn drop(&mut self) {
        if let Some(writer) = self.writer.take() {
            self.runtime.block_on(writer.close()).unwrap();
        }
    }
}

fn open(dir: &Path) -> History {
    let history =
        history::open(dir, JournalId([1; 16]), &Earlier { lease: LeaseRecord::default(), claims: 0 }).unwrap();
    assert_eq!(history.rebased, None);
    history
}

/// Pods come and go once, all of them.
fn wave(stage: &mut Stage, pods: u32) {
    stage.scale(pods);
    stage.run_until(|stage| stage.mapped() == pods as usize);
    stage.scale(0);
    stage.run_until(|stage| stage.controller.state().allocations().count() == 0);
    stage.settle();
}

fn bytes_below(dir: &Path) -> u64 {
    let of = |file: std::fs::DirEntry| match file.metadata() {
        Ok(data) if data.is_dir() => bytes_below(&file.path()),
        Ok(data) => data.len(),
        // It was renamed or removed since it was listed.
        Err(_) => 0,
    };
    std::fs::read_dir(dir).map_or(0, |files| files.filter_map(Result::ok).map(of).sum())
}

fn whole(state: &State) -> String {
    state.image()
}

fn in_ci() -> bool {
    std::env::var_os("CI").is_some()
}

/// Verifies a journal that nobody has open: nothing is found, and it was pruned and folded from a snapshot.
fn verify(dir: &Path, state: &State) -> u64 {
    let replayed = Replayed::open(&[dir.to_owned()]).unwrap();
    let report = examine(&replayed.journals[0]);
    assert_eq!(report.findings, []);
    assert!(report.folded_from > 0 && report.snapshots_compared > 0, "{report:?}");
    let digest: String = state.digest().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(report.digest, Some(digest));
    report.snapshots_compared
}

#[test]
fn a_long_churn_reaches_a_plateau_and_what_is_left_gives_the_same_state() {
    let root = tempfile::tempdir().unwrap();
    let free = Arc::new(AtomicU64::new(u64::MAX));
    let mut stage = Stage::on(Box::new(OnDisk::new(open(root.path()), &free)), POLICY, 2);
    let waves = if in_ci() { 240 } else { 120 };
    let (mut left, mut sizes) = (Vec::new(), Vec::new());
    for _ in 0..waves {
        wave(&mut stage, 12);
        let kept = stage.controller.keeping().and_then(|keeping| keeping.kept()).unwrap();
        assert_eq!(kept.failed, None);
        left.push(stage.controller.state().seq() + 1 - kept.first);
        sizes.push(bytes_below(root.path()));
    }
    let (head, state) = (stage.controller.state().seq(), whole(stage.controller.state()));
    let last = stage.controller.keeping().and_then(|keeping| keeping.kept()).unwrap().clone();
    println!("{head} records, {} left after {}; bytes {:?}", left[left.len() - 1], last.first, sizes);
    assert!(last.first > head / 3, "{} of {head} records were pruned", last.first - 1);
    let half = left.len() / 2;
    let most = |values: &[u64]| values.iter().copied().max().unwrap();
    assert!(most(&left[half..]) <= most(&left[..half]) * 5 / 4, "no plateau of records: {left:?}");
    assert!(most(&sizes[half..]) <= most(&sizes[..half]) * 7 / 4, "no plateau of bytes: {sizes:?}");

    let digest = stage.controller.state().clone();
    drop(stage);
    assert!(verify(root.path(), &digest) >= 1);
    let history = open(root.path());
    assert!(history.journal.first_seq().unwrap() > 1);
    assert_eq!(whole(&history.state), state, "what a restart begins with is what was");
}

#[test]
fn a_restart_goes_on_from_a_pruned_journal() {
    let root = tempfile::tempdir().unwrap();
    let free = Arc::new(AtomicU64::new(u64::MAX));
    let mut stage = Stage::on(Box::new(OnDisk::new(open(root.path()), &free)), POLICY, 1);
    let pruned =
        |stage: &Stage| stage.controller.keeping().and_then(|keeping| keeping.kept()).is_some_and(|k| k.first > 1);
    while !pruned(&stage) {
        wave(&mut stage, 12);
    }
    stage.scale(5);
    stage.run_until(|stage| stage.mapped() == 5);
    // It ends in the middle of things, and another leader begins with what is on the disk.
    stage.scale(9);
    for _ in 0..3 {
        stage.forget_volume();
        let history = open(root.path());
        assert!(history.journal.first_seq().unwrap() > 1);
        let (state, head) = (history.state.clone(), history.head);
        stage.restart(Box::new(OnDisk::new(history, &free)), POLICY, state, head);
        stage.run_until(|stage| stage.controller.leads() && stage.mapped() == 9);
        stage.settle();
        wave(&mut stage, 9);
        stage.scale(9);
    }
    stage.run_until(|stage| stage.mapped() == 9);
    stage.settle();
    let state = stage.controller.state().clone();
    drop(stage);
    verify(root.path(), &state);
}

#[test]
fn a_short_disk_stops_what_is_new_and_nothing_else_until_there_is_room() {
    let root = tempfile::tempdir().unwrap();
    let free = Arc::new(AtomicU64::new(u64::MAX));
    // A retention that nothing reaches: whatever is pruned is pruned for want of room.
    let policy = Policy { retention_ms: u64::MAX / 4, ..POLICY };
    let mut stage = Stage::on(Box::new(OnDisk::new(open(root.path()), &free)), policy, 1);
    let kept = |stage: &Stage| stage.controller.keeping().and_then(|keeping| keeping.kept()).unwrap().clone();
    wave(&mut stage, 20);
    while kept(&stage).snapshots.len() < 4 {
        wave(&mut stage, 20);
    }
    assert_eq!(kept(&stage).first, 1);
    stage.scale(6);
    stage.run_until(|stage| stage.mapped() == 6);
    stage.settle();

    free.store(FLOOR_BYTES - 1, Ordering::Relaxed);
    stage.run_until(|stage| stage.controller.state().is_short());
    stage.run_until(|stage| kept(stage).first > 1);
    assert_eq!(kept(&stage).snapshots.len(), 2, "no more than has to be");
    stage.scale(10);
    let short = |stage: &Stage| {
        let state = stage.controller.state();
        let waits =
            |standing: &Standing| matches!(standing, Standing::Waiting { reason: WaitReason::JournalShort, .. });
        state.pods().filter(|(_, pod)| waits(pod.standing())).count()
    };
    stage.run_until(|stage| short(stage) == 4);
    let until = stage.now_ms() + 60_000;
    stage.run_to(until);
    assert_eq!((stage.mapped(), short(&stage)), (6, 4), "nobody new is mapped");
    // What goes goes: whichever pods stay, nobody new gets a place.
    stage.scale(0);
    stage.run_until(|stage| stage.controller.state().allocations().count() == 0);
    stage.settle();
    stage.scale(3);
    stage.run_until(|stage| short(stage) == 3);

    free.store(2 * FLOOR_BYTES, Ordering::Relaxed);
    stage.run_until(|stage| stage.mapped() == 3);
    assert!(!stage.controller.state().is_short());
    stage.settle();
    let state = stage.controller.state().clone();
    drop(stage);
    verify(root.path(), &state);
}

/// A process that ends while a snapshot is being written leaves nothing of it, and loses nothing.
#[test]
fn an_end_in_the_middle_of_a_snapshot_leaves_none() {
    let root = tempfile::tempdir().unwrap();
    let free = Arc::new(AtomicU64::new(u64::MAX));
    let policy = Policy { retention_ms: u64::MAX / 4, records_min: u64::MAX };
    let mut stage = Stage::on(Box::new(OnDisk::new(open(root.path()), &free)), policy, 1);
    for _ in 0..20 {
        wave(&mut stage, 20);
    }
    let state = whole(stage.controller.state());
    drop(stage);
    for _ in 0..5 {
        let mut disk = OnDisk::new(open(root.path()), &free);
        disk.keep(Keep::Snapshot);
        drop(disk);
        let names = std::fs::read_dir(root.path()).unwrap().map(|file| file.unwrap().file_name());
        let drafts = names.filter(|name| name.to_string_lossy().ends_with(".draft")).count();
        assert_eq!(drafts, 0, "nothing half written stays");
        let history = open(root.path());
        assert_eq!(whole(&history.state), state);
        assert!(matches!(history.journal.snapshots().len(), 0 | 1));
        drop(history);
    }
    // One whose bytes rot gives way to the history itself, which is all there.
    let mut disk = OnDisk::new(open(root.path()), &free);
    disk.keep(Keep::Snapshot);
    while disk.kept().is_none() {
        std::thread::yield_now();
    }
    drop(disk);
    let snapshot = std::fs::read_dir(root.path()).unwrap().map(|file| file.unwrap().path());
    let snapshot = snapshot.filter(|path| path.to_string_lossy().contains("snapshot-")).last().unwrap();
    let mut bytes = std::fs::read(&snapshot).unwrap();
    bytes[300] ^= 1;
    std::fs::write(&snapshot, bytes).unwrap();
    assert_eq!(whole(&open(root.path()).state), state);
}
