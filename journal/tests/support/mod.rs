//! What the tests of the journal share: draws that repeat, how much is tried, and files of a directory as a value.
#![allow(dead_code, reason = "each test target uses a part")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// How much is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tier {
    /// While somebody waits.
    Quick,
    /// `CI=true`: what every change has to pass.
    Ci,
    /// `NATGW_LONG=true`: one command for a night, see the crate's page.
    Long,
}

pub(crate) fn tier() -> Tier {
    match (variable("NATGW_LONG"), variable("CI")) {
        (Some(_), _) => Tier::Long,
        (None, Some(_)) => Tier::Ci,
        (None, None) => Tier::Quick,
    }
}

impl Tier {
    /// The number of trials for this tier, or the one given: a night's work in parts.
    pub(crate) fn of(self, quick: u64, ci: u64, long: u64) -> u64 {
        let given = variable("NATGW_TRIALS").map(|trials| trials.parse().unwrap());
        given.unwrap_or(match self {
            Self::Quick => quick,
            Self::Ci => ci,
            Self::Long => long,
        })
    }
}

#[expect(clippy::disallowed_methods, reason = "how a test is told what to do")]
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The seed to begin with: the one given, so that a failure can be repeated, or always the same.
pub(crate) fn seed() -> Option<u64> {
    variable("NATGW_SEED").map(|seed| seed.parse().unwrap())
}

/// Numbers that look random and repeat (splitmix64).
#[derive(Clone, Debug)]
pub(crate) struct Draw(pub(crate) u64);

impl Draw {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    pub(crate) fn index(&mut self, bound: usize) -> usize {
        usize::try_from(self.below(bound as u64)).unwrap()
    }
}

/// Work that waits for the disk most of the time: several at once, in any order. A panic of one is a panic of all.
pub(crate) fn at_once<I: Send, O: Send>(items: Vec<I>, work: impl Fn(I) -> O + Sync) -> Vec<O> {
    const WORKERS: usize = 6;
    let queue = Mutex::new(items.into_iter());
    let next = || queue.lock().unwrap().next();
    let run = || std::iter::from_fn(next).map(&work).collect::<Vec<_>>();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS).map(|_| scope.spawn(run)).collect();
        let joined = workers.into_iter().map(|worker| worker.join());
        joined
            .collect::<Result<Vec<_>, _>>()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            .into_iter()
            .flatten()
            .collect()
    })
}

/// All files below a directory with their bytes, the lock excepted.
pub(crate) fn image(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut open = vec![dir.to_path_buf()];
    while let Some(next) = open.pop() {
        for file in fs::read_dir(&next).unwrap() {
            let path = file.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if !path.ends_with("lock") {
                let relative = path.strip_prefix(dir).unwrap().to_path_buf();
                files.insert(relative, fs::read(&path).unwrap());
            }
        }
    }
    files
}

/// Makes the directory hold these files and no others.
pub(crate) fn restore(dir: &Path, image: &BTreeMap<PathBuf, Vec<u8>>) {
    if dir.exists() {
        fs::remove_dir_all(dir).unwrap();
    }
    fs::create_dir_all(dir).unwrap();
    for (name, bytes) in image {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    if dir.join("sled").exists() {
        fs::create_dir_all(dir.join("sled/blobs")).unwrap();
    }
}
