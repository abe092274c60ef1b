//! Mutants that cannot be put between the controller and its ports: patches of `src/`, applied to a copy of the tree by
//! `tests/sim/mutants/run`.
//!
//! A patch begins with comment lines: what it breaks, and last `caught-by:` with the invariants that may catch it, the one
//! it is made for first.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::Mutant;
use crate::invariants::TABLE;
use crate::plan::Plan;
use crate::run::run;

/// Seeds within which a mutant must be caught.
const SEEDS_MAX: u64 = 200;

/// Names beside the table's: liveness (`liveness.rs`, `run.rs`), a process that its own machine stopped, and what the
/// machine checks of itself.
const OTHER_NAMES: [&str; 8] = ["L1", "L2", "L5", "L6", "L7", "L8", "Stop", "Adopted"];

/// What a header's last line begins with.
const CAUGHT_BY: &str = "# caught-by: ";

/// Runs seeds in order, on all cores, until one breaks an invariant of those names. Returns what each failing seed broke,
/// sorted by seed.
fn hunt(mutant: Mutant, names: &[String], seeds: u64) -> Vec<(u64, &'static str)> {
    let next = AtomicU64::new(0);
    let found = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        break;
                    }
                    let Some(broken) = first_broken(mutant, names, seed) else { continue };
                    found.lock().unwrap_or_else(PoisonError::into_inner).push((seed, broken));
                    if names.iter().any(|name| name == broken) {
                        next.store(seeds, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    found.sort_unstable();
    found
}

/// What a seed breaks: one of the names if it breaks several at once. A world that panics has found something, too.
fn first_broken(mutant: Mutant, names: &[String], seed: u64) -> Option<&'static str> {
    let end = catch_unwind(AssertUnwindSafe(|| run(Plan { mutant, ..Plan::of(seed) }).violations));
    let Ok(violations) = end else { return Some("panic") };
    let named = violations.iter().find(|violation| names.iter().any(|name| name == violation.invariant));
    named.or_else(|| violations.first()).map(|violation| violation.invariant)
}

/// The names of a header's last line.
fn caught_by(header: &str) -> Vec<String> {
    let last = header.lines().last().and_then(|line| line.strip_prefix(CAUGHT_BY));
    last.map(|names| names.split(", ").map(str::to_owned).collect()).unwrap_or_default()
}

/// The tree is a mutant when `NATGW_CAUGHT_BY` says so; otherwise a mutant of the wire takes its place, so that the hunt is
/// known to find something.
#[test]
#[expect(clippy::disallowed_methods, reason = "which mutant the tree is, is the caller's")]
fn a_mutant_is_caught() {
    let asked = std::env::var("NATGW_CAUGHT_BY").ok().map(|names| caught_by(&format!("{CAUGHT_BY}{names}")));
    let (mutant, names) =
        asked.map_or_else(|| (Mutant::PendingIsAvailable, vec!["S13".to_owned()]), |names| (Mutant::None, names));
    let found = hunt(mutant, &names, SEEDS_MAX);
    for (seed, broken) in &found {
        println!("seed {seed} invariant {broken}");
    }
    assert!(found.iter().any(|(_, broken)| names.iter().any(|name| name == broken)), "none of {names:?} caught it");
}

#[test]
fn every_patch_says_what_catches_it() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sim/mutants");
    let patches: Vec<_> = fs::read_dir(folder)
        .expect("the folder of the mutants")
        .map(|entry| entry.expect("an entry of the folder").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "patch"))
        .collect();
    assert!(!patches.is_empty());
    for path in patches {
        let text = fs::read_to_string(&path).expect("a patch is text");
        let (header, change) = text.split_once("--- a/src/").unwrap_or_else(|| panic!("{path:?} changes nothing"));
        let sentences = header.lines().filter(|line| line.starts_with("# ")).count();
        assert!(sentences > 1 && sentences == header.lines().count(), "{path:?} does not say what it breaks");
        assert!(change.contains("\n@@ "), "{path:?} is no unified diff");
        let names = caught_by(header);
        assert!(!names.is_empty(), "{path:?} does not say what catches it");
        for name in names {
            let known = TABLE.iter().any(|(id, ..)| *id == name) || OTHER_NAMES.contains(&name.as_str());
            assert!(known, "{path:?} names {name}, which is no invariant");
        }
    }
}
