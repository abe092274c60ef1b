//! A journal that goes on for long: snapshots in the background, pruning between groups, and a disk that comes back to a
//! plateau. On sled, the store whose files grow most.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, its helpers too"
)]
#![expect(clippy::disallowed_methods, reason = "how long appending and pruning take is what is told")]

mod support;

use std::path::Path;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use natgw_journal::{Directory, Journal, JournalId, Opened, SledReader, View};
use support::tier;

const GROUP: u64 = 256;
const ENTRY_BYTES: usize = 100;
/// Entries of a snapshot: a state that does not grow.
const STATE: u64 = 5_000;
/// Entries between two snapshots.
const SNAPSHOT_EVERY: u64 = 12_800;
/// A frame takes this many entries at the most: 4 bytes of length each.
const ENTRIES_A_FRAME: u64 = 4096 / (ENTRY_BYTES as u64 + 4);

/// sled reuses the room in its file when it comes to it, so that the size goes up and down: by this much at the most, and
/// however long it goes on. Two fifths of what the second half of a short run adds, a sixtieth of a long one.
const GROWTH_BYTES_MAX: u64 = 8 << 20;

fn entry(seq: u64) -> Vec<u8> {
    let mut bytes = blake3::hash(&seq.to_le_bytes()).as_bytes().repeat(4);
    bytes.truncate(ENTRY_BYTES);
    bytes
}

fn open(dir: &Path) -> Journal {
    match Journal::open(dir, JournalId([1; 16]), &[]).unwrap() {
        Opened::Fresh(journal) | Opened::Continued(journal) => journal,
        Opened::Damaged { verdict, .. } => panic!("{verdict}"),
    }
}

/// The snapshot before and the entries since then make the next one, as a controller would do it: here the last
/// entries, in order. Each is also checked against what was appended.
fn take_snapshot(view: &View<SledReader, Directory>) {
    let (mut state, mut from) = (Vec::new(), 1);
    if let Some(before) = view.snapshots().last() {
        let read = view.snapshot_entries(before).map(|entry| entry.unwrap().bytes);
        state = read.collect();
        from = before.through.seq + 1;
        assert_eq!(before.digest, digest(&state));
    }
    for read in view.entries(from) {
        let read = read.unwrap();
        assert_eq!(read.bytes, entry(read.seq));
        state.push(read.bytes);
    }
    let kept = state.len().saturating_sub(usize::try_from(STATE).unwrap());
    state.drain(..kept);
    let mut writer = view.begin_snapshot().unwrap();
    state.iter().for_each(|entry| writer.push(entry.clone()).unwrap());
    writer.finish(digest(&state)).unwrap();
}

fn digest(state: &[Vec<u8>]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for entry in state {
        hasher.update(entry);
    }
    *hasher.finalize().as_bytes()
}

fn bytes_on_disk(dir: &Path) -> u64 {
    let mut bytes = 0;
    let mut open = vec![dir.to_path_buf()];
    while let Some(next) = open.pop() {
        for file in std::fs::read_dir(next).unwrap().map(Result::unwrap) {
            match file.metadata() {
                Ok(data) if data.is_dir() => open.push(file.path()),
                Ok(data) => bytes += data.len(),
                // It was renamed or removed since it was listed.
                Err(_) => {}
            }
        }
    }
    bytes
}

/// The value that so many hundredths lie below.
fn percentile(times: &mut [Duration], hundredths: usize) -> Duration {
    times.sort_unstable();
    times[(times.len() * hundredths / 100).min(times.len() - 1)]
}

struct Churned {
    /// Bytes on the disk, a hundred times during the run.
    sizes: Vec<u64>,
    /// Entries that were left then.
    left: Vec<u64>,
    appends: Vec<Duration>,
    prunes: Vec<Duration>,
    /// Entries that one step removed, at the most.
    removed_at_once: u64,
    snapshots: u64,
}

fn churn(dir: &Path, events: u64, prune: bool) -> Churned {
    let mut journal = open(dir);
    let groups = events / GROUP;
    let mut run =
        Churned { sizes: vec![], left: vec![], appends: vec![], prunes: vec![], removed_at_once: 0, snapshots: 0 };
    let (mut snapshot, mut first): (Option<JoinHandle<()>>, u64) = (None, 1);
    for n in 0..groups {
        let next = journal.head().seq + 1;
        let group: Vec<Vec<u8>> = (next..next + GROUP).map(entry).collect();
        let began = Instant::now();
        journal.append(&group).unwrap();
        run.appends.push(began.elapsed());
        if (n + 1) % (SNAPSHOT_EVERY / GROUP) == 0 {
            // A slow machine waits here, or what is left would be longer for it.
            if let Some(done) = snapshot.take() {
                done.join().unwrap();
            }
            let view = journal.view();
            snapshot = Some(std::thread::spawn(move || take_snapshot(&view)));
            run.snapshots += 1;
        }
        if prune {
            let began = Instant::now();
            journal.prune_step(2).unwrap();
            run.prunes.push(began.elapsed());
            let now = journal.first_seq().unwrap();
            run.removed_at_once = run.removed_at_once.max(now - first);
            first = now;
        }
        if n % (groups / 100).max(1) == 0 {
            run.sizes.push(bytes_on_disk(dir));
            run.left.push(journal.head().seq + 1 - first);
        }
    }
    if let Some(snapshot) = snapshot {
        snapshot.join().unwrap();
    }
    journal.close().unwrap();
    run
}

/// By how much the most of the second half is above the most of the first.
fn growth(sizes: &[u64]) -> u64 {
    let (first, second) = sizes.split_at(sizes.len() / 2);
    let largest = |sizes: &[u64]| sizes.iter().copied().max().unwrap_or(0);
    largest(second).saturating_sub(largest(first))
}

/// Whether twice as long a history takes no more room: whatever was there at half time, and however slowly it grew until
/// then, no more than this was added by what came after.
fn is_plateau(sizes: &[u64]) -> bool {
    growth(sizes) < GROWTH_BYTES_MAX
}

#[test]
fn the_disk_comes_back_to_a_plateau() {
    let events = tier().of(400_000, 400_000, 10_000_000);
    let root = tempfile::tempdir().unwrap();
    let mut run = churn(root.path(), events, true);
    let (added, grown) = (events / 2 * ENTRY_BYTES as u64, growth(&run.sizes));
    println!(
        "{events} events, {} snapshots: at most {} bytes on the disk; the second half added {added} bytes of entries, and \
         the most on the disk grew by {grown}",
        run.snapshots,
        run.sizes.iter().max().unwrap()
    );
    let tenths = run.sizes.iter().map(|size| size >> 10).zip(&run.left).step_by(run.sizes.len().div_ceil(20));
    println!("KiB on the disk and entries left, twenty times: {:?}", tenths.collect::<Vec<_>>());
    println!(
        "append p50 {:?} p99 {:?}; prune step p50 {:?} p99 {:?}; at most {} entries removed by one",
        percentile(&mut run.appends, 50),
        percentile(&mut run.appends, 99),
        percentile(&mut run.prunes, 50),
        percentile(&mut run.prunes, 99),
        run.removed_at_once
    );
    assert!(run.snapshots > 3 && run.removed_at_once > 0);
    assert!(added > 2 * GROWTH_BYTES_MAX, "{added} bytes tell nothing of a growth of {GROWTH_BYTES_MAX}");
    assert!(is_plateau(&run.sizes), "{grown} bytes more: {:?}", run.sizes);
    // A step removes what a group adds, twice, or a small number of frames: whichever is more.
    let frames = (GROUP.div_ceil(ENTRIES_A_FRAME - 1) * 2).max(32);
    assert!(run.removed_at_once <= frames * ENTRIES_A_FRAME, "{} entries", run.removed_at_once);

    let journal = open(root.path());
    let view = journal.view();
    assert!(view.snapshots().len() >= 2, "{:?}", view.snapshots());
    assert!(view.first_seq().unwrap() > events / 2, "{} is the first of {events}", view.first_seq().unwrap());
    let from = view.snapshots()[0].through.seq + 1;
    assert_eq!(view.entries(from).filter(Result::is_ok).count() as u64, view.head().seq + 1 - from);
}

/// Without pruning the same history grows by all that is added, far beyond what a plateau may: it is no accident.
#[test]
fn without_pruning_there_is_no_plateau() {
    let root = tempfile::tempdir().unwrap();
    let events = 400_000;
    let grown = growth(&churn(root.path(), events, false).sizes);
    println!("{events} events without pruning: the most on the disk grew by {grown} bytes in the second half");
    assert!(grown > events / 2 * ENTRY_BYTES as u64 && grown > 2 * GROWTH_BYTES_MAX, "{grown}");
}

/// Growth in proportion is found however much there was before, and a size that goes up and down is none.
#[test]
fn a_straight_line_is_no_plateau() {
    let added = 400_000 * ENTRY_BYTES as u64;
    for before in [0, added, 10 * added] {
        let line = |hundredths: u64| (0..100).map(|n| before + added * n / 100 * hundredths / 100).collect::<Vec<_>>();
        assert!(!is_plateau(&line(100)) && !is_plateau(&line(50)), "{before}");
        assert!(is_plateau(&line(0)), "{before}");
    }
    assert!(is_plateau(&(0..100).map(|n| 9 * added + n % 7 * 1_000_000).collect::<Vec<_>>()));
}

#[test]
fn the_room_on_the_disk_is_told() {
    let root = tempfile::tempdir().unwrap();
    let mut journal = open(root.path());
    let before = journal.room().unwrap();
    assert!(before.free > 0 && before.floor > 64 << 20 && before.is_short() == (before.free < before.floor));
    for n in 0..40 {
        journal.append(&(0..GROUP).map(|m| entry(n * GROUP + m)).collect::<Vec<_>>()).unwrap();
    }
    let after = journal.room().unwrap();
    assert!(after.floor > before.floor, "the floor rises with the data: {before:?}, {after:?}");
}
