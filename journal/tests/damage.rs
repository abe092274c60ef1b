//! Each verdict from a deliberate damage, through both ways of opening; bits flipped at random.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, its helpers too")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use natgw_journal::{Error, Head, Journal, JournalId, Opened, Verdict, read_copy, set_aside};
use support::{image, restore};
use tempfile::TempDir;

const ID: JournalId = JournalId([1; 16]);

fn open(dir: &Path) -> Journal {
    match Journal::open(dir, ID, &[]).unwrap() {
        Opened::Fresh(journal) | Opened::Continued(journal) => journal,
        damaged @ Opened::Damaged { .. } => panic!("{damaged:?}"),
    }
}

fn entry(seq: u64) -> Vec<u8> {
    format!("entry {seq} {}", "x".repeat(seq as usize % 300)).into_bytes()
}

fn group(from: u64, to: u64) -> Vec<Vec<u8>> {
    (from..=to).map(entry).collect()
}

/// A journal of 12 groups of 10 entries, the last not settled, stopped uncleanly. Gives its last heads.
fn sample() -> (TempDir, PathBuf, Vec<Head>) {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("journal");
    let mut journal = open(&dir);
    let heads = (0..12).map(|n| journal.append(&group(n * 10 + 1, n * 10 + 10)).unwrap()).collect();
    (root, dir, heads)
}

/// The verdict of the writer's opening, which must leave the directory as it was.
fn verdict_of(dir: &Path, external: &[(JournalId, Head)]) -> Verdict {
    let before = image(dir);
    let verdict = match Journal::open(dir, ID, external).unwrap() {
        Opened::Damaged { verdict, .. } => verdict,
        other => panic!("the damage went unseen: {other:?}"),
    };
    assert_eq!(image(dir), before, "{verdict}");
    verdict
}

/// Both ways of opening agree.
fn verdict_of_both(dir: &Path) -> Verdict {
    let verdict = verdict_of(dir, &[]);
    assert_eq!(read_copy(dir).unwrap().verdict(), &verdict);
    verdict
}

fn edit_sled(dir: &Path, edit: impl FnOnce(&sled::Db)) {
    let db = sled::Config::new().path(dir.join("sled")).flush_every_ms(None).open().unwrap();
    edit(&db);
    db.flush().unwrap();
}

fn remove_last_frame(dir: &Path) {
    edit_sled(dir, |db| drop(db.pop_max().unwrap()));
}

#[test]
fn a_lost_group_is_unconfirmed_or_lost() {
    let (_root, dir, heads) = sample();
    remove_last_frame(&dir);
    let unconfirmed = Verdict::LastGroupUnconfirmed { from: 111, to: 120 };
    assert_eq!(verdict_of_both(&dir), unconfirmed);
    // Somebody else saw it acknowledged: then it is lost, and with it what else they saw.
    let lost = |to| Verdict::HistoryLost { from: 111, to };
    assert_eq!(verdict_of(&dir, &[(ID, heads[10])]), unconfirmed);
    let beyond = Head { seq: 125, hash: [0; 32] };
    assert_eq!(verdict_of(&dir, &[(ID, beyond)]), lost(125));
    remove_last_frame(&dir);
    assert_eq!(verdict_of_both(&dir), Verdict::HistoryLost { from: 101, to: 120 });

    let (_root, dir, _) = sample();
    let mut journal = open(&dir);
    journal.append(&group(121, 125)).unwrap();
    journal.settle().unwrap();
    drop(journal);
    remove_last_frame(&dir);
    assert_eq!(verdict_of_both(&dir), Verdict::HistoryLost { from: 121, to: 125 });
}

#[test]
fn an_older_image_is_history_lost() {
    for clean in [false, true] {
        let (_root, dir, _) = sample();
        if clean {
            open(&dir).close().unwrap();
        }
        let older = image(&dir);
        let mut journal = open(&dir);
        let head = journal.append(&group(121, 130)).unwrap();
        journal.append(&group(131, 140)).unwrap();
        journal.close().unwrap();
        let newer_anchor = fs::read(dir.join("anchor")).unwrap();
        fs::remove_dir_all(&dir).unwrap();
        restore(&dir, &older);
        // Data and anchor rolled back together: only a head known elsewhere tells.
        let lost = Verdict::HistoryLost { from: 121, to: 130 };
        assert_eq!(verdict_of(&dir, &[(ID, head)]), lost, "clean: {clean}");
        assert!(read_copy(&dir).unwrap().verdict().is_intact());
        fs::write(dir.join("anchor"), newer_anchor).unwrap();
        assert_eq!(verdict_of_both(&dir), Verdict::HistoryLost { from: 121, to: 140 });
    }
}

#[test]
fn an_older_anchor_is_stale() {
    let (_root, dir, heads) = sample();
    let anchor = fs::read(dir.join("anchor")).unwrap();
    let mut journal = open(&dir);
    let one_ahead = journal.append(&group(121, 130)).unwrap();
    let newer = fs::read(dir.join("anchor")).unwrap();
    let head = journal.append(&group(131, 140)).unwrap();
    drop(journal);
    fs::write(dir.join("anchor"), &newer).unwrap();
    assert!(read_copy(&dir).unwrap().verdict().is_intact(), "one ahead");
    fs::write(dir.join("anchor"), anchor).unwrap();
    let stale = Verdict::AnchorStale { anchor: heads[11], head };
    assert_eq!(verdict_of_both(&dir), stale);
    fs::write(dir.join("anchor"), newer).unwrap();
    match Journal::open(&dir, ID, &[(ID, one_ahead), (ID, head)]).unwrap() {
        Opened::Continued(journal) => assert_eq!(journal.head(), head),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_lost_or_damaged_anchor_is_named() {
    let (_root, dir, _) = sample();
    let anchor = fs::read(dir.join("anchor")).unwrap();
    fs::remove_file(dir.join("anchor")).unwrap();
    assert_eq!(verdict_of_both(&dir), Verdict::AnchorLost);
    let copy = read_copy(&dir).unwrap();
    assert_eq!(copy.id(), Some(ID));
    assert_eq!(copy.entries(1).filter(Result::is_ok).count(), 120);
    fs::write(dir.join("anchor"), &anchor[..400]).unwrap();
    assert!(matches!(verdict_of_both(&dir), Verdict::AnchorDamaged { .. }));
    let mut both = anchor;
    both[3] ^= 1;
    both[4096 + 300] ^= 1;
    fs::write(dir.join("anchor"), both).unwrap();
    assert!(matches!(verdict_of_both(&dir), Verdict::AnchorDamaged { .. }));
}

#[test]
fn another_journal_is_foreign() {
    let (_root, dir, heads) = sample();
    let (root, other) = (tempfile::tempdir().unwrap(), JournalId([2; 16]));
    let other_dir = root.path().join("journal");
    let Opened::Fresh(mut journal) = Journal::open(&other_dir, other, &[]).unwrap() else {
        panic!("not fresh");
    };
    journal.append(&group(1, 5)).unwrap();
    drop(journal);
    let own = fs::read(dir.join("anchor")).unwrap();
    fs::copy(other_dir.join("anchor"), dir.join("anchor")).unwrap();
    assert_eq!(verdict_of_both(&dir), Verdict::Foreign { expected: other, found: ID, seq: 0 });
    // The same identity and another history, by the anchor or by a head known elsewhere.
    fs::write(dir.join("anchor"), own).unwrap();
    let foreign = |seq| Verdict::Foreign { expected: ID, found: ID, seq };
    for (seq, hash) in [(100, heads[10].hash), (95, heads[9].hash)] {
        assert_eq!(verdict_of(&dir, &[(ID, Head { seq, hash })]), foreign(seq));
    }
    let twin = root.path().join("twin");
    let mut journal = open(&twin);
    for n in 0..12 {
        journal.append(&group(n * 10 + 2, n * 10 + 11)).unwrap();
    }
    drop(journal);
    fs::copy(twin.join("anchor"), dir.join("anchor")).unwrap();
    assert_eq!(verdict_of_both(&dir), foreign(120));
    // A head of some other journal says nothing.
    let (_root, dir, _) = sample();
    let elsewhere = Head { seq: 9000, hash: [0; 32] };
    let opened = Journal::open(&dir, ID, &[(other, elsewhere)]).unwrap();
    assert!(matches!(opened, Opened::Continued(_)));
}

#[test]
fn lost_data_are_history_lost_from_the_first_entry() {
    let lost = Verdict::HistoryLost { from: 1, to: 120 };
    let (_root, dir, _) = sample();
    fs::remove_file(dir.join("sled/db")).unwrap();
    assert_eq!(verdict_of_both(&dir), lost);
    fs::remove_dir_all(dir.join("sled")).unwrap();
    assert_eq!(verdict_of_both(&dir), lost);
    assert_eq!(read_copy(&dir).unwrap().entries(1).count(), 0);
    let (_root, dir, _) = sample();
    edit_sled(&dir, |db| db.clear().unwrap());
    assert_eq!(verdict_of_both(&dir), lost);
}

/// Heads known elsewhere may be of any replica's journal: the caller has to say whether this is a first start.
#[test]
fn a_directory_that_is_gone_is_fresh_whoever_knows_of_it() {
    let (_root, dir, heads) = sample();
    fs::remove_dir_all(&dir).unwrap();
    let opened = Journal::open(&dir, JournalId([9; 16]), &[(ID, heads[11])]).unwrap();
    let Opened::Fresh(journal) = opened else { panic!("{opened:?}") };
    assert_eq!((journal.head().seq, journal.id()), (0, JournalId([9; 16])));
}

#[test]
fn damaged_frames_are_named_by_their_first_entry() {
    for (frame, from) in [(0_u64, 1), (5, 41), (12, 111)] {
        for missing in [false, true] {
            let (_root, dir, _) = sample();
            if missing && frame == 12 {
                continue; // A missing end is a lost group, not damage.
            }
            edit_sled(&dir, |db| {
                let mut bytes = db.remove(frame.to_be_bytes()).unwrap().unwrap().to_vec();
                bytes[90] ^= 1;
                if !missing {
                    db.insert(frame.to_be_bytes(), bytes).unwrap();
                }
            });
            let copy = read_copy(&dir).unwrap();
            let damaged =
                |verdict: &Verdict| matches!(verdict, Verdict::EntryDamaged { from: at, to: 120, .. } if *at == from);
            assert!(damaged(copy.verdict()), "{}", copy.verdict());
            let read = copy.entries(1).filter(Result::is_ok).count() as u64;
            assert_eq!(read, from - 1);
            if frame == 5 {
                // The writer's opening looks at the end; reading finds the rest.
                let error = open(&dir).entries(1).find_map(Result::err).unwrap();
                assert!(matches!(error, Error::EntryDamaged { seq: 41, .. }));
            } else {
                assert!(damaged(&verdict_of(&dir, &[])));
            }
        }
    }
}

#[test]
fn what_sled_cannot_open_is_unreadable() {
    let unreadable = |verdict: &Verdict| matches!(verdict, Verdict::Unreadable { lost: Some((1, 120)), .. });
    let (_root, dir, _) = sample();
    fs::write(dir.join("sled/blobs/7"), "spilled").unwrap();
    let verdict = verdict_of_both(&dir);
    assert!(unreadable(&verdict), "{verdict}");
}

#[test]
fn derived_files_of_sled_may_be_lost() {
    let (_root, dir, _) = sample();
    drop(open(&dir));
    for name in image(&dir).keys().filter(|name| name.starts_with("sled")) {
        if !name.ends_with("db") {
            fs::write(dir.join(name), [0xff; 40]).unwrap();
        }
    }
    assert!(read_copy(&dir).unwrap().verdict().is_intact());
    assert_eq!(open(&dir).head().seq, 120);
}

#[test]
fn a_damaged_journal_is_set_aside_whole() {
    let (root, dir, _) = sample();
    assert!(matches!(set_aside(root.path().join("none").as_path()), Err(Error::NoJournal { .. })));
    for n in 1..3 {
        let before = image(&dir);
        let aside = set_aside(&dir).unwrap();
        assert_eq!(aside, root.path().join(format!("journal.set-aside-{n}")));
        assert_eq!(image(&aside), before);
        assert!(matches!(set_aside(&dir), Err(Error::NoJournal { .. })));
        let Opened::Fresh(mut journal) = Journal::open(&dir, JournalId([9; 16]), &[]).unwrap() else {
            panic!("not fresh");
        };
        journal.append(&group(1, 3)).unwrap();
        assert!(matches!(set_aside(&dir), Err(Error::InUse { .. })));
    }
}

#[test]
fn one_writer_at_a_time() {
    let (_root, dir, _) = sample();
    let journal = open(&dir);
    let error = Journal::open(&dir, ID, &[]).unwrap_err();
    assert!(error.to_string().contains("in use by another process"));
    assert!(matches!(read_copy(&dir), Err(Error::InUse { .. })));
    drop(journal);
    open(&dir);
    assert!(matches!(read_copy(&dir.join("none")), Err(Error::NoJournal { .. })));
}

/// A small linear congruential generator: the same damage in every run.
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        ((self.0 >> 33) as usize) % bound
    }
}

/// One bit flipped in any file: either a verdict, or the same entries byte for byte.
#[test]
fn no_flipped_bit_shortens_the_history_unseen() {
    let (root, dir, _) = sample();
    drop(open(&dir));
    let whole = image(&dir);
    let expected: Vec<Vec<u8>> = (1..=120).map(entry).collect();
    let names: Vec<_> = whole.iter().filter(|(_, bytes)| !bytes.is_empty()).collect();
    let used = whole[Path::new("sled/db")].iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let mut draw = Draw(20_261_122);
    let (mut unchanged, mut shorter) = (0, 0);
    for trial in 0..160 {
        // Half of the trials in the part of the log that is in use, the rest over all files alike.
        let (name, bytes) = if trial % 2 == 0 {
            whole.get_key_value(Path::new("sled/db")).unwrap()
        } else {
            names[draw.below(names.len())]
        };
        let place = draw.below(if name.ends_with("db") { used } else { bytes.len() });
        let damaged = root.path().join(format!("trial-{trial}"));
        restore(&damaged, &whole);
        let mut flipped = bytes.clone();
        flipped[place] ^= 1 << draw.below(8);
        fs::write(damaged.join(name), flipped).unwrap();
        let copy = read_copy(&damaged).unwrap();
        let read: Vec<Vec<u8>> = copy.entries(1).map_while(Result::ok).map(|e| e.bytes).collect();
        let what = format!("{} byte {place}: {}", name.display(), copy.verdict());
        if copy.verdict().is_intact() {
            assert_eq!(read, expected, "{what}");
            unchanged += 1;
        } else {
            assert!(expected.starts_with(&read), "{what}");
            shorter += usize::from(read.len() < expected.len());
            let lost = match copy.verdict() {
                Verdict::LastGroupUnconfirmed { from, to }
                | Verdict::HistoryLost { from, to }
                | Verdict::EntryDamaged { from, to, .. }
                | Verdict::Unreadable { lost: Some((from, to)), .. } => (*from, *to),
                other => panic!("{what}: {other:?} names no entry"),
            };
            assert_eq!(lost, (read.len() as u64 + 1, 120), "{what}");
        }
        fs::remove_dir_all(&damaged).unwrap();
    }
    println!("{unchanged} unchanged, {shorter} shorter with a verdict");
    // Without damage that bites the test would prove nothing.
    assert!(unchanged > 10 && shorter > 10, "{unchanged} unchanged, {shorter} shorter");
}
