//! Mutants that cannot be put between the controller and its ports: patches of `src/`, applied to a copy of the tree by
//! `tests/sim/mutants/run`.
//!
//! A patch begins with comment lines: what it breaks, and last `caught-by:` with the invariants that may catch it, the one
//! it is made for first.

use std::fs;
use std::path::Path;

use super::{Mutant, hunt};
use crate::invariants::TABLE;

/// Names beside the table's: liveness (`liveness.rs`, `run.rs`), a process that its own machine stopped, and what the
/// machine checks of itself.
const OTHER_NAMES: [&str; 8] = ["L1", "L2", "L5", "L6", "L7", "L8", "Stop", "Adopted"];

/// What a header's last line begins with.
const CAUGHT_BY: &str = "# caught-by: ";

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
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let found = hunt(mutant, &names);
    for (seed, broken) in &found {
        println!("seed {seed} invariant {broken}");
    }
    assert!(found.iter().any(|(_, broken)| names.contains(broken)), "none of {names:?} caught it");
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
