//! The journal against a model, on three stores: sled, plain segments on the file system, and plain segments on a disk
//! in memory whose power goes off. A sequence of actions follows from its seed alone.
//!
//! `NATGW_SEED=7 cargo test -p natgw-journal --test contract` runs one seed on all three.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, its helpers too"
)]

#[path = "contract/actions.rs"]
mod actions;
mod disk;
#[path = "contract/model.rs"]
mod model;
mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use actions::actions;
use disk::{MemoryDisk, Passed};
use model::{Backend, ID, Model};
use natgw_journal::plain::Segments;
use natgw_journal::{Directory, Head, Journal, JournalId, Opened, SledStore};
use support::{Draw, at_once, seed, tier};
use tempfile::TempDir;

/// Small segments, so that a short sequence fills some and prunes them.
const SEGMENT_BYTES: u64 = 4 << 10;

/// On sled.
struct OnSled(TempDir);

impl Backend for OnSled {
    type Store = SledStore;
    type Disk = Directory;

    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn open(&self, external: &[(JournalId, Head)]) -> Opened {
        Journal::open(self.0.path(), ID, external).unwrap()
    }

    fn crash(&mut self, _draw: &mut Draw) {}

    fn dir(&self) -> Option<PathBuf> {
        Some(self.0.path().into())
    }
}

/// On plain segments of the file system.
struct OnFiles(TempDir);

impl Backend for OnFiles {
    type Store = Segments<Arc<Directory>>;
    type Disk = Arc<Directory>;

    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn open(&self, external: &[(JournalId, Head)]) -> Opened<Self::Store, Self::Disk> {
        let disk = Arc::new(Directory::open(self.0.path()).unwrap());
        let segments = Segments::open_sized(Arc::clone(&disk), SEGMENT_BYTES).unwrap();
        Journal::open_on(segments, disk, ID, external).unwrap()
    }

    fn crash(&mut self, _draw: &mut Draw) {}

    fn dir(&self) -> Option<PathBuf> {
        Some(self.0.path().into())
    }
}

/// On a disk in memory; a crash is a power cut there.
struct InMemory(Rc<MemoryDisk>);

impl Backend for InMemory {
    type Store = Segments<Rc<MemoryDisk>>;
    type Disk = Rc<MemoryDisk>;

    fn new() -> Self {
        Self(Rc::default())
    }

    fn open(&self, external: &[(JournalId, Head)]) -> Opened<Self::Store, Self::Disk> {
        let segments = Segments::open_sized(Rc::clone(&self.0), SEGMENT_BYTES).unwrap();
        Journal::open_on(segments, Rc::clone(&self.0), ID, external).unwrap()
    }

    fn crash(&mut self, draw: &mut Draw) {
        let kept: Vec<_> = self.0.unsynced().into_iter().filter(|_| draw.below(2) == 0).collect();
        self.0 = Rc::new(self.0.after_power_cut(&kept));
    }

    fn dir(&self) -> Option<PathBuf> {
        None
    }
}

/// Runs one sequence and gives how many actions it had and whether anything was pruned; a failure names the seed and the
/// action.
fn run<B: Backend>(seed: u64) -> Result<(usize, bool), String> {
    let mut draw = Draw(seed);
    let actions = actions(&mut draw);
    let mut done = 0;
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let mut model = Model::<B>::begin();
        for action in &actions {
            model.act(action, &mut draw);
            done += 1;
        }
        model.end()
    }));
    let name = std::any::type_name::<B>();
    outcome
        .map(|pruned| (done, pruned))
        .map_err(|_| format!("seed {seed} on {name} failed at action {done} of {actions:?}"))
}

/// The committed seeds, or the one asked for, and then so many more.
fn run_all<B: Backend>(more: u64) {
    let committed = include_str!("contract/seeds.txt").lines().filter(|line| !line.starts_with('#'));
    let mut seeds: Vec<u64> = committed.map(|line| line.split_whitespace().next().unwrap().parse().unwrap()).collect();
    match seed() {
        Some(seed) => seeds = vec![seed],
        None => seeds.extend((0..more).map(|n| 1_000_000 + n)),
    }
    let (mut actions, mut pruned) = (0, 0);
    let (sequences, name) = (seeds.len(), std::any::type_name::<B>());
    for outcome in at_once(seeds, run::<B>) {
        let (of_seed, has_pruned) = outcome.unwrap_or_else(|failed| panic!("{failed}"));
        actions += of_seed;
        pruned += usize::from(has_pruned);
    }
    println!("{sequences} sequences, {actions} actions, {pruned} with pruned entries on {name}");
    assert!(sequences < 20 || (actions > sequences * 4 && pruned > sequences / 10));
}

#[test]
fn in_memory_with_power_cuts() {
    run_all::<InMemory>(tier().of(1_000, 10_000, 200_000));
}

#[test]
fn on_plain_files() {
    run_all::<OnFiles>(tier().of(30, 300, 5_000));
}

#[test]
fn on_sled() {
    run_all::<OnSled>(tier().of(30, 300, 5_000));
}

/// A journal that loses what it acknowledged is found out: the anchor is kept by the cut, the data are not.
#[test]
fn a_disk_that_does_not_sync_is_found_out() {
    struct Forgetful(InMemory);
    impl Backend for Forgetful {
        type Store = Segments<Rc<MemoryDisk>>;
        type Disk = Rc<MemoryDisk>;

        fn new() -> Self {
            Self(InMemory::new())
        }

        fn open(&self, external: &[(JournalId, Head)]) -> Opened<Self::Store, Self::Disk> {
            self.0.0.passed.set(Some(Passed::Of("segment-")));
            self.0.open(external)
        }

        fn crash(&mut self, draw: &mut Draw) {
            self.0.crash(draw);
        }

        fn dir(&self) -> Option<PathBuf> {
            None
        }
    }
    let failed = (0..100).filter(|seed| run::<Forgetful>(*seed).is_err()).count();
    assert!(failed > 20, "only {failed} of 100 sequences noticed");
}
