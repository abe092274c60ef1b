//! Journals on sled to be damaged, as files in memory with everything that is known of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use natgw_journal::{Head, Journal, JournalId, Opened};

use super::support::{Draw, image};

pub(super) const ID: JournalId = JournalId([1; 16]);

pub(super) const STRANGER: JournalId = JournalId([2; 16]);

type Image = BTreeMap<PathBuf, Vec<u8>>;

/// One journal at the end of its history.
pub(super) struct Sample {
    pub(super) files: Image,
    /// The same journal some groups earlier.
    pub(super) older: Image,
    /// Where it ended then.
    pub(super) older_head: Head,
    /// Anchors of earlier moments, each with how many groups were appended after it.
    pub(super) anchors: Vec<(usize, Vec<u8>)>,
    /// The journal's head at those moments.
    pub(super) anchored: Vec<Head>,
    pub(super) entries: Vec<Vec<u8>>,
    /// The last entry of each group.
    pub(super) ends: BTreeSet<u64>,
    pub(super) head: Head,
    /// The lowest entry that was not pruned.
    pub(super) first: u64,
    /// What raw sled holds when nothing is damaged.
    pub(super) frames: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(super) what: String,
}

/// Those of more entries than some segments of sled's log hold: one that was not closed, and a pruned one that was.
const LARGE: [u64; 2] = [10, 11];
/// sled's log is cut up into segments of this size.
pub(super) const SLED_SEGMENT_BYTES: usize = 512 << 10;

/// Journals with and without snapshots and pruned entries, cleanly closed and not, settled and not; most within one segment
/// of sled's log, some of several.
pub(super) fn samples() -> Vec<Sample> {
    (0..6).chain(LARGE).map(|n| sample(n, ID)).collect()
}

/// A journal of somebody else, of the same shape.
pub(super) fn stranger() -> Sample {
    sample(8, STRANGER)
}

fn sample(n: u64, id: JournalId) -> Sample {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("journal");
    let mut draw = Draw(n);
    let (pruned, closed, settled) = (n % 3 == 2, n % 2 == 1, n % 4 < 2);
    let mut journal = match Journal::open(&dir, id, &[]).unwrap() {
        Opened::Fresh(journal) => journal,
        other => panic!("{other:?}"),
    };
    let (mut entries, mut anchors, mut older) = (Vec::new(), Vec::new(), Image::new());
    let (mut ends, mut anchored, mut older_head) = (BTreeSet::new(), Vec::new(), journal.head());
    let (groups, bytes_max) = if LARGE.contains(&n) { (120, 3_500) } else { (40 + draw.index(40), 600) };
    for group in 0..groups {
        let added: Vec<Vec<u8>> =
            (0..=draw.index(30)).map(|_| vec![draw.next() as u8; 1 + draw.index(bytes_max)]).collect();
        journal.append(&added).unwrap();
        entries.extend(added);
        ends.insert(journal.head().seq);
        if pruned && group % 12 == 11 && group + 12 < groups {
            take_snapshot(&journal, &entries);
        }
        if pruned && group % 2 == 0 {
            journal.prune_step(2).unwrap();
        }
        if group * 2 == groups || group * 2 + 1 == groups {
            // sled writes its own snapshot when it opens.
            drop(journal);
            journal = match Journal::open(&dir, id, &[]).unwrap() {
                Opened::Continued(journal) => journal,
                other => panic!("{other:?}"),
            };
        }
        if group + 10 >= groups {
            anchors.push((groups - group - 1, fs::read(dir.join("anchor")).unwrap()));
            anchored.push(journal.head());
        }
        if group + 5 == groups {
            older = image(&dir);
            older_head = journal.head();
        }
    }
    if settled {
        journal.settle().unwrap();
    }
    let (head, first) = (journal.head(), journal.first_seq().unwrap());
    assert_eq!(first > 1, pruned, "{first}");
    if closed {
        journal.close().unwrap();
    } else {
        drop(journal);
    }
    let files = image(&dir);
    let what = format!("{} entries in {groups} groups, closed: {closed}, first left: {first}", entries.len());
    let frames = frames(&dir.join("sled"));
    Sample { files, older, older_head, anchors, anchored, entries, ends, head, first, frames, what }
}

fn take_snapshot(journal: &Journal, entries: &[Vec<u8>]) {
    let view = journal.view();
    let mut writer = view.begin_snapshot().unwrap();
    entries.iter().step_by(5).for_each(|entry| writer.push(entry.clone()).unwrap());
    writer.finish(view.head().hash).unwrap();
}

fn frames(dir: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let db = sled::Config::new().path(dir).flush_every_ms(None).open().unwrap();
    db.iter().map(|stored| stored.map(|(key, value)| (key.to_vec(), value.to_vec())).unwrap()).collect()
}
