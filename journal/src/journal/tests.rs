use std::cell::Cell;
use std::io;
use std::path::Path;
use std::rc::Rc;

use super::*;
use crate::copy::open_copy;
use crate::files::{SLED, SLED_BEFORE_OPEN, SLED_OPENING};
use crate::plain::{self, Segments};

fn open(dir: &Path) -> Journal {
    match Journal::open(dir, JournalId([3; 16]), &[]).unwrap() {
        Opened::Fresh(journal) | Opened::Continued(journal) => journal,
        damaged @ Opened::Damaged { .. } => panic!("{damaged:?}"),
    }
}

/// A directory whose syncs fail while told so: those of the anchor, or those of the segments.
struct FailingSyncs {
    directory: Directory,
    of_anchor: Cell<bool>,
    of_segments: Cell<bool>,
}

impl FailingSyncs {
    fn new(dir: &Path) -> Rc<Self> {
        let directory = Directory::open(dir).unwrap();
        Rc::new(Self { directory, of_anchor: Cell::new(false), of_segments: Cell::new(false) })
    }
}

impl Disk for FailingSyncs {
    fn sync(&self, name: &str) -> io::Result<()> {
        let fails = if name == ANCHOR { &self.of_anchor } else { &self.of_segments };
        if fails.get() { Err(io::Error::other("injected")) } else { self.directory.sync(name) }
    }

    fn read_at(&self, name: &str, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.directory.read_at(name, offset, buffer)
    }

    fn length(&self, name: &str) -> io::Result<u64> {
        self.directory.length(name)
    }

    fn create(&self, name: &str) -> io::Result<()> {
        self.directory.create(name)
    }

    fn write_at(&self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.directory.write_at(name, offset, bytes)
    }

    fn set_length(&self, name: &str, length: u64) -> io::Result<()> {
        self.directory.set_length(name, length)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.directory.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.directory.remove(name)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.directory.list()
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.directory.sync_directory()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.directory.free_bytes()
    }
}

fn open_plain(disk: &Rc<FailingSyncs>) -> Journal<Segments<Rc<FailingSyncs>>, Rc<FailingSyncs>> {
    match plain::open(Rc::clone(disk), JournalId([3; 16]), &[]).unwrap() {
        Opened::Fresh(journal) | Opened::Continued(journal) => journal,
        damaged @ Opened::Damaged { .. } => panic!("{damaged:?}"),
    }
}

#[test]
fn a_failed_sync_of_either_file_poisons_for_good() {
    for of_anchor in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let disk = FailingSyncs::new(dir.path());
        let mut journal = open_plain(&disk);
        let head = journal.append(&[b"one".to_vec()]).unwrap();
        let failing = if of_anchor { &disk.of_anchor } else { &disk.of_segments };
        failing.set(true);
        let error = journal.append(&[b"two".to_vec()]).unwrap_err();
        assert!(error.to_string().contains("sync"), "{error}");
        assert_eq!(journal.head(), head, "nothing was acknowledged");
        failing.set(false);
        for refused in [journal.append(&[b"three".to_vec()]).map(|_| ()), journal.settle()] {
            assert!(matches!(refused, Err(Error::Poisoned { .. })), "{refused:?}");
        }
        assert!(matches!(journal.close(), Err(Error::Poisoned { .. })));
        let journal = open_plain(&disk);
        let read: Vec<Vec<u8>> = journal.entries(1).map(|e| e.unwrap().bytes).collect();
        assert!(read == [b"one".to_vec()] || read == [b"one".to_vec(), b"two".to_vec()]);
    }
}

#[test]
fn a_refused_group_neither_writes_nor_poisons() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path());
    let anchor = std::fs::read(dir.path().join(ANCHOR)).unwrap();
    for group in [vec![], vec![vec![1], vec![]], vec![vec![1; 3585]]] {
        assert!(journal.append(&group).is_err());
    }
    assert_eq!(std::fs::read(dir.path().join(ANCHOR)).unwrap(), anchor);
    assert_eq!(journal.store.last().unwrap(), Some(GENESIS));
    assert_eq!(journal.append(&[vec![1]]).unwrap().seq, 1);
}

#[test]
fn a_journal_can_move_to_a_thread() {
    fn assert_send<T: Send>() {}
    assert_send::<Journal>();
}

/// A creation cut short at any of its steps is begun again, with the identity the anchor has.
#[test]
fn an_interrupted_creation_is_completed() {
    for step in 0..3 {
        let dir = tempfile::tempdir().unwrap();
        let id = JournalId([5; 16]);
        let head = frame::encode_genesis(id).1.head;
        AnchorFile::create(&Directory::open(dir.path()).unwrap(), settled_at(id, head, None, 0)).unwrap();
        if step > 0 {
            let mut store = SledStore::open(&dir.path().join(SLED)).unwrap();
            if step > 1 {
                store.put(vec![(GENESIS, frame::encode_genesis(id).0)]).unwrap();
            }
        }
        match Journal::open(dir.path(), JournalId([6; 16]), &[]).unwrap() {
            Opened::Fresh(mut journal) => {
                assert_eq!(journal.id(), id);
                assert_eq!(journal.append(&[vec![1]]).unwrap().seq, 1);
            }
            other => panic!("step {step}: {other:?}"),
        }
    }
}

#[test]
fn an_interrupted_exchange_is_undone() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path());
    journal.append(&[b"one".to_vec()]).unwrap();
    drop(journal);
    let (live, before) = (dir.path().join(SLED), dir.path().join(SLED_BEFORE_OPEN));
    drop(open_copy(&live, &dir.path().join(SLED_OPENING)).unwrap().unwrap());
    std::fs::rename(&live, &before).unwrap();
    let copy = crate::read_copy(dir.path()).unwrap();
    assert!(copy.verdict().is_intact(), "{}", copy.verdict());
    assert_eq!(copy.head().unwrap().seq, 1);
    assert_eq!(open(dir.path()).head().seq, 1);
}

#[test]
fn frames_of_an_unfinished_group_do_not_exist() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path());
    journal.append(&[b"one".to_vec()]).unwrap();
    let large = vec![vec![1; 3000]; 3];
    let mut unfinished = frame::encode_group(&journal.tip, &large).unwrap().frames;
    unfinished.pop();
    journal.store.put(unfinished).unwrap();
    drop(journal);
    assert_eq!(crate::read_copy(dir.path()).unwrap().entries(1).count(), 1);
    let mut journal = open(dir.path());
    assert_eq!(journal.head().seq, 1);
    assert_eq!(journal.store.last().unwrap(), Some(1), "they are removed");
    journal.append(&[b"two".to_vec()]).unwrap();
    assert_eq!(journal.entries(1).filter(Result::is_ok).count(), 2);
}

/// A clean stop is opened in place; an unclean one, or files changed since, through a copy.
#[test]
fn only_a_clean_stop_is_opened_in_place() {
    let dir = tempfile::tempdir().unwrap();
    let before = dir.path().join(SLED_BEFORE_OPEN);
    let mut journal = open(dir.path());
    journal.append(&[b"one".to_vec()]).unwrap();
    journal.close().unwrap();
    let journal = open(dir.path());
    assert!(!before.exists(), "clean");
    drop(journal);
    let journal = open(dir.path());
    assert!(before.exists(), "unclean");
    journal.close().unwrap();
    std::fs::remove_dir_all(&before).unwrap();
    let path = dir.path().join(SLED).join("conf");
    let mut changed = std::fs::read(&path).unwrap();
    changed[0] ^= 1;
    std::fs::write(&path, changed).unwrap();
    let journal = open(dir.path());
    assert!(before.exists(), "changed");
    assert_eq!(journal.head().seq, 1);
}
