//! One byte flipped anywhere in a copied journal: found and named, or without any effect on what is told. A shorter
//! history never passes for a whole one.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a broken fixture is a failed test")]

mod story;

use std::fs;
use std::path::{Path, PathBuf};

use natgw_replay::report::{Format, Outcome};
use natgw_replay::{Cli, Command, Input, run};
use serde_json::Value;
use story::Story;

const SEED: u64 = 0x6e61_7467_7731;
const TRIALS: usize = 200;

/// SplitMix64 (Steele, Lea, Flood 2014): a fixed seed gives the same trials everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((word ^ (word >> 31)) % bound as u64).unwrap()
    }
}

/// What the commands say of a journal.
struct Answer {
    verified: Outcome,
    findings: Vec<Value>,
    log: String,
}

fn ask(dir: &Path) -> Answer {
    let input = |output| Input { output, journals: vec![dir.to_path_buf()] };
    let (mut verified, mut log) = (Vec::new(), Vec::new());
    let outcome = run(&Cli { command: Command::Verify(input(Format::Json)) }, &mut verified).unwrap();
    run(&Cli { command: Command::Log(input(Format::Text)) }, &mut log).unwrap();
    let lines = String::from_utf8(verified).unwrap();
    let reports = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let findings = reports.flat_map(|report| report["findings"].as_array().cloned().unwrap_or_default());
    Answer { verified: outcome, findings: findings.collect(), log: String::from_utf8(log).unwrap() }
}

/// Whether an answer about damaged data is honest, given the log of the undamaged ones.
fn judge(undamaged: &str, answer: &Answer) -> Result<(), String> {
    match answer.verified {
        Outcome::Clean if answer.log == undamaged => Ok(()),
        Outcome::Clean => Err("another history passes for the whole one".to_owned()),
        Outcome::Findings => {
            let named = |finding: &Value| finding["seq"].is_u64() || finding["lost"]["from"].is_u64();
            if !answer.findings.iter().any(named) {
                return Err(format!("no finding names an entry: {:?}", answer.findings));
            }
            let mut told = answer.log.lines().filter(|line| !line.starts_with("FINDING")).zip(undamaged.lines());
            match told.find(|(told, was)| told != was) {
                None => Ok(()),
                Some((told, was)) => Err(format!("{told:?} is told where {was:?} was")),
            }
        }
    }
}

fn files_in(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(files_in(&path));
        } else {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// Every byte, or every byte that is not zero: most of a journal's file is room for later entries.
fn places(dir: &Path, written_only: bool) -> Vec<(PathBuf, usize)> {
    let of = |path: PathBuf| {
        let bytes = fs::read(&path).unwrap();
        let chosen = bytes.into_iter().enumerate().filter(move |(_, byte)| !written_only || *byte != 0);
        chosen.map(move |(offset, _)| (path.clone(), offset)).collect::<Vec<_>>()
    };
    files_in(dir).into_iter().flat_map(of).collect()
}

/// Flips bytes of copies of `dir` and returns how many trials had findings.
fn flip(dir: &Path, places: &[(PathBuf, usize)], trials: usize, seed: u64) -> usize {
    let undamaged = ask(dir);
    assert_eq!(undamaged.verified, Outcome::Clean, "{:?}", undamaged.findings);
    let (mut random, mut found) = (Random(seed), 0);
    for trial in 0..trials {
        let (path, offset) = &places[random.below(places.len())];
        let mask = u8::try_from(random.below(255) + 1).unwrap();
        let scratch = tempfile::tempdir().unwrap();
        story::copy_tree(dir, scratch.path());
        let target = scratch.path().join(path.strip_prefix(dir).unwrap());
        let mut bytes = fs::read(&target).unwrap();
        bytes[*offset] ^= mask;
        fs::write(&target, bytes).unwrap();
        let answer = ask(scratch.path());
        found += usize::from(answer.verified == Outcome::Findings);
        if let Err(dishonest) = judge(&undamaged.log, &answer) {
            panic!("trial {trial}: byte {offset} of {} xor {mask:#04x}: {dishonest}", path.display());
        }
    }
    found
}

/// A journal closed cleanly, and one as a crash leaves it.
fn journals(root: &Path) -> [PathBuf; 2] {
    let [closed, open, crashed] = ["closed", "open", "crashed"].map(|name| root.join(name));
    Story::whole().write(&closed, 1, 4);
    let journal = Story::whole().write_open(&open, 2, 4);
    story::copy_tree(&open, &crashed);
    journal.close().unwrap();
    [closed, crashed]
}

#[test]
fn a_flipped_byte_is_named_or_changes_nothing() {
    let root = tempfile::tempdir().unwrap();
    for dir in journals(root.path()) {
        flip(&dir, &places(&dir, false), TRIALS / 2, SEED);
    }
}

#[test]
fn a_flipped_byte_where_something_was_written_is_named_or_changes_nothing() {
    let root = tempfile::tempdir().unwrap();
    for dir in journals(root.path()) {
        let found = flip(&dir, &places(&dir, true), TRIALS / 2, SEED.rotate_left(17));
        assert!(found > TRIALS / 8, "only {found} of {} flips had findings, so they did not hit entries", TRIALS / 2);
    }
}

/// Data and anchor of an earlier moment: no reading of the journal alone can tell. The judge of the trials must.
#[test]
fn a_silent_loss_would_be_caught() {
    let root = tempfile::tempdir().unwrap();
    let [whole, shorter] = ["whole", "shorter"].map(|name| root.path().join(name));
    Story::whole().write(&whole, 1, 4);
    let mut cut = Story::whole();
    cut.records.truncate(cut.records.len() - 4);
    cut.write(&shorter, 1, 4);
    let (whole, shorter) = (ask(&whole), ask(&shorter));
    assert_eq!(judge(&whole.log, &whole), Ok(()));
    assert_eq!(shorter.verified, Outcome::Clean);
    assert!(judge(&whole.log, &shorter).is_err());
    let silent = Answer { verified: Outcome::Findings, findings: Vec::new(), log: shorter.log };
    assert!(judge(&whole.log, &silent).is_err());
}
