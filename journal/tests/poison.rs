//! After a failed write or sync of whatever kind nothing more is accepted and nothing more is written: the kernel may have
//! dropped the pages, and what comes after would stand on what is not there.
//!
//! On plain files the failures are those of a disk in memory, on sled those of the system: strace injects them into the
//! calls of a child, which is this test binary again, running `appends_until_refused`. So the production way to sync two
//! files at once is in it, with its thread.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, its helpers too")]

mod disk;
mod support;

use std::path::Path;
use std::process::{Command, Stdio};
use std::rc::Rc;

use disk::MemoryDisk;
use natgw_journal::plain::Segments;
use natgw_journal::{Disk, Error, Journal, JournalId, Opened, Store};
use support::{at_once, variable};

const ID: JournalId = JournalId([6; 16]);
/// Names the child's journal directory; without it the child's test does nothing.
const CHILD_DIR: &str = "NATGW_JOURNAL_POISON_DIR";
/// More groups than any of the failures waits for.
const GROUPS_MAX: u64 = 400;

/// Every call is refused, and says why.
fn check_poisoned<S: Store, D: Disk>(mut journal: Journal<S, D>) {
    let refused: Vec<Error> = vec![
        journal.append(&[vec![1]]).unwrap_err(),
        journal.append(&[vec![2]]).unwrap_err(),
        journal.settle().unwrap_err(),
        journal.prune_step(2).unwrap_err(),
        journal.close().unwrap_err(),
    ];
    for refused in refused {
        assert!(matches!(refused, Error::Poisoned { .. }), "{refused:?}");
    }
}

type OnMemory = Journal<Segments<Rc<MemoryDisk>>, Rc<MemoryDisk>>;

fn open(disk: &Rc<MemoryDisk>) -> OnMemory {
    let segments = Segments::open_sized(Rc::clone(disk), 1 << 10).unwrap();
    match Journal::open_on(segments, Rc::clone(disk), ID, &[]).unwrap() {
        Opened::Fresh(journal) | Opened::Continued(journal) => journal,
        damaged @ Opened::Damaged { .. } => panic!("{damaged:?}"),
    }
}

/// Some segments, and three snapshots, so that there are entries and a snapshot to prune.
fn filled() -> (Rc<MemoryDisk>, OnMemory) {
    let disk = Rc::new(MemoryDisk::default());
    let mut journal = open(&disk);
    for n in 0..9_u8 {
        journal.append(&vec![vec![n; 400]; 4]).unwrap();
        if n % 3 == 2 {
            journal.view().begin_snapshot().unwrap().finish([n; 32]).unwrap();
        }
    }
    (disk, journal)
}

/// A call of the journal, the operation of the disk that fails in it, and the files it is of.
type Failure = (&'static str, fn(&mut OnMemory) -> Result<(), Error>, &'static str, &'static str);

fn append(journal: &mut OnMemory) -> Result<(), Error> {
    journal.append(&[vec![7; 100]]).map(drop)
}

fn prune(journal: &mut OnMemory) -> Result<(), Error> {
    while journal.prune_step(2)? {}
    Ok(())
}

#[test]
fn every_failed_step_poisons_for_good() {
    let failures: [Failure; 10] = [
        ("put", append, "write", "segment-"),
        ("write the anchor", append, "write", "anchor"),
        ("sync the data", append, "sync", "segment-"),
        ("sync the anchor", append, "sync", "anchor"),
        ("settle", Journal::settle, "write", "anchor"),
        ("prune: write the anchor", prune, "write", "anchor"),
        ("prune: sync the anchor", prune, "sync", "anchor"),
        ("prune: remove a segment", prune, "remove", "segment-"),
        ("prune: sync the names", prune, "sync names", ""),
        ("prune: remove a snapshot", prune, "remove", "snapshot-"),
    ];
    for (what, call, operation, prefix) in failures {
        for anchor_first in [false, true] {
            let (disk, mut journal) = filled();
            disk.named_first.set(anchor_first);
            disk.refused.set(Some((operation, prefix)));
            let error = call(&mut journal).unwrap_err();
            assert!(!matches!(error, Error::Poisoned { .. }), "{what}: {error}");
            // The disk works again, and nobody asks it for anything.
            disk.refused.set(None);
            let operations = disk.operations();
            check_poisoned(journal);
            assert_eq!(disk.operations(), operations, "{what}: something was written afterwards");
            let journal = open(&disk);
            let first = journal.first_seq().unwrap();
            assert_eq!(journal.entries(first).filter(Result::is_err).count(), 0, "{what}");
            assert!(journal.head().seq >= 36, "{what}");
        }
    }
}

/// sled's own file beside its log, which nobody syncs.
#[test]
fn a_value_outside_the_log_poisons() {
    let dir = tempfile::tempdir().unwrap();
    let Opened::Fresh(mut journal) = Journal::open(dir.path(), ID, &[]).unwrap() else { panic!("nothing there") };
    journal.append(&[vec![1]]).unwrap();
    std::fs::write(dir.path().join("sled/blobs/7"), "spilled").unwrap();
    let error = journal.append(&[vec![2]]).unwrap_err();
    assert!(error.to_string().contains("it made a file beside it"), "{error}");
    std::fs::remove_file(dir.path().join("sled/blobs/7")).unwrap();
    check_poisoned(journal);
}

/// The child.
#[test]
fn appends_until_refused() {
    let Some(dir) = variable(CHILD_DIR) else { return };
    let Opened::Fresh(mut journal) = Journal::open(Path::new(&dir), ID, &[]).unwrap() else { panic!("nothing there") };
    for n in 0..GROUPS_MAX {
        match journal.append(&[n.to_be_bytes().to_vec()]) {
            Ok(head) => println!("\nacked {}", head.seq),
            Err(error) => {
                println!("\nrefused {error}");
                check_poisoned(journal);
                println!("poisoned");
                return;
            }
        }
    }
}

#[test]
fn what_the_system_refuses_poisons_a_journal_on_sled() {
    if Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_err() {
        assert!(variable("CI").is_none(), "strace is missing, and in CI it must be there");
        eprintln!("SKIPPED: strace is not installed, so no refusal of the system was tried on sled");
        return;
    }
    let room = tempfile::tempdir().unwrap();
    let root = room.path().canonicalize().unwrap();
    // The tenth of each thread and those after it: the journal has been begun by then.
    let failures = vec![
        ("sled/db", "fdatasync", "EIO", "sync its log"),
        ("anchor", "fdatasync", "EIO", "could not sync"),
        ("anchor", "pwrite64", "EIO", "could not write"),
        ("anchor", "pwrite64", "ENOSPC", "could not write"),
        ("sled/db", "pwrite64", "EIO", "the store could not"),
        ("sled/db", "pwrite64", "ENOSPC", "the store could not"),
        ("sled/blobs", "openat", "EIO", "look for files beside its log"),
    ];
    at_once((0..).zip(failures).collect(), |(n, (name, call, errno, said))| {
        let dir = root.join(format!("{n}"));
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq", "-o", "/dev/null", "-P"]).arg(dir.join(name)).args(["-e", &format!("trace={call}")]);
        strace.args(["-e", &format!("inject={call}:error={errno}:when=10+")]).arg(std::env::current_exe().unwrap());
        strace.args(["--exact", "appends_until_refused", "--nocapture", "--test-threads=1"]);
        let output = strace.env(CHILD_DIR, &dir).output().unwrap();
        let out = String::from_utf8_lossy(&output.stdout);
        let what = format!("{errno} of {call} at {name}: {out}{}", String::from_utf8_lossy(&output.stderr));
        let refused = out.lines().find_map(|line| line.strip_prefix("refused ")).unwrap_or_else(|| panic!("{what}"));
        assert!(refused.contains(said), "{what}");
        assert!(output.status.success() && out.contains("\npoisoned"), "{what}");
        let acked = out.lines().filter_map(|line| line.strip_prefix("acked ")?.parse().ok()).max().unwrap_or(0);
        assert!(acked > 2, "{what}");
        match Journal::open(&dir, ID, &[]).unwrap() {
            Opened::Continued(journal) => assert!(journal.head().seq >= acked, "{what}"),
            other => panic!("{what}: {other:?}"),
        }
    });
}
