//! Opening: the journal, folded into a state, or a new journal and the reason why history is not continuous.
//!
//! A damaged journal is no mode of running. It is set aside, never deleted, a new one is begun, and the reason goes into
//! the first term's `Rebased`; every term reads the outside before it decides anyway (design.md §6).

use std::path::{Path, PathBuf};

use natgw_journal::{Journal, JournalId, Opened, set_aside};

use crate::controller::step::Head;
use crate::driver::fold::fold;
use crate::machine::state::State;
use crate::ports::cluster::LeaseRecord;

/// What a controller starts from.
#[derive(Debug)]
pub struct History {
    /// The journal, open for writing.
    pub journal: Journal,
    /// What it adds up to.
    pub state: State,
    /// Its head.
    pub head: Head,
    /// Why history is not continuous, if it is not.
    pub rebased: Option<String>,
    /// Where a damaged journal was put.
    pub set_aside: Option<PathBuf>,
}

/// What the cluster tells of earlier leaders.
#[derive(Clone, Debug)]
pub struct Earlier {
    /// The Lease.
    pub lease: LeaseRecord,
    /// PodDNATs that exist.
    pub claims: usize,
}

/// Why there is no journal to write to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is in use, or the file system refuses.
    #[error(
        "NATGW-JOURNAL-OPEN: the journal in {} cannot be opened, so nothing is decided; end the other process or check \
         the volume", dir.display()
    )]
    Journal {
        /// Its directory.
        dir: PathBuf,
        /// Why.
        #[source]
        source: natgw_journal::Error,
    },
    /// The journal that was just begun is damaged.
    #[error("NATGW-JOURNAL-OPEN: a journal just begun in {} is damaged ({verdict}); check the volume", dir.display())]
    Fresh {
        /// Its directory.
        dir: PathBuf,
        /// What was found.
        verdict: String,
    },
}

/// Opens the journal in `dir` and folds it. `fresh` is the identity of a journal that has to be begun.
///
/// # Errors
/// Fails when the journal is in use or the file system refuses. Damage is no failure.
pub fn open(dir: &Path, fresh: JournalId, earlier: &Earlier) -> Result<History, Error> {
    let failed = |source| Error::Journal { dir: dir.to_owned(), source };
    let heads = earlier
        .lease
        .heads
        .iter()
        .map(|(id, seq, hash)| (JournalId(*id), natgw_journal::Head { seq: *seq, hash: *hash }));
    let heads: Vec<_> = heads.collect();
    let reason = match Journal::open(dir, fresh, &heads).map_err(failed)? {
        Opened::Fresh(journal) => return Ok(History::begun(journal, none_before(earlier), None)),
        Opened::Continued(journal) => match fold(&journal.view(), &|| true) {
            Ok(state) => return Ok(History::continued(journal, state)),
            Err(broken) => {
                drop(journal);
                broken.to_string()
            }
        },
        Opened::Damaged { verdict, .. } => verdict.to_string(),
    };
    let aside = set_aside(dir).map_err(failed)?;
    // The heads known elsewhere are those of the journal that is gone.
    match Journal::open(dir, fresh, &[]).map_err(failed)? {
        Opened::Fresh(journal) | Opened::Continued(journal) => {
            let reason = format!("{reason}; that journal is in {}", aside.display());
            Ok(History::begun(journal, Some(reason), Some(aside)))
        }
        Opened::Damaged { verdict, .. } => Err(Error::Fresh { dir: dir.to_owned(), verdict: verdict.to_string() }),
    }
}

impl History {
    fn begun(journal: Journal, rebased: Option<String>, set_aside: Option<PathBuf>) -> Self {
        let head = head_of(&journal);
        Self { journal, state: State::default(), head, rebased, set_aside }
    }

    fn continued(journal: Journal, state: State) -> Self {
        let head = head_of(&journal);
        Self { journal, state, head, rebased: None, set_aside: None }
    }
}

fn head_of(journal: &Journal) -> Head {
    let natgw_journal::Head { seq, hash } = journal.head();
    Head { seq, hash }
}

/// A journal without entries is a first start only where nobody has led before.
fn none_before(earlier: &Earlier) -> Option<String> {
    let Earlier { lease, claims } = earlier;
    let led = lease.term > 0 || *claims > 0;
    led.then(|| format!("the journal is new, but the Lease is at term {} and {claims} PodDNATs exist", lease.term))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::event::codec;
    use crate::machine::event::control::{DigestTaken, TermStarted};
    use crate::machine::event::{Event, Record};

    const FRESH: JournalId = JournalId([7; 16]);

    fn nobody() -> Earlier {
        Earlier { lease: LeaseRecord::default(), claims: 0 }
    }

    fn started(seq: u64) -> Vec<u8> {
        let event = Event::TermStarted(TermStarted { term: seq, holder: "a".to_owned(), predecessor: None });
        codec::encode(&Record { seq, term: seq, machine_ms: 0, wall_ms: 0, event }).unwrap()
    }

    /// A journal that holds these entries, closed.
    fn written(dir: &Path, entries: &[Vec<u8>]) {
        let mut history = open(dir, FRESH, &nobody()).unwrap();
        history.journal.append(entries).unwrap();
        history.journal.close().unwrap();
    }

    #[test]
    fn a_first_start_is_continuous_and_a_lost_journal_is_not() {
        let room = tempfile::tempdir().unwrap();
        let history = open(&room.path().join("a"), FRESH, &nobody()).unwrap();
        assert_eq!((history.rebased, history.head.seq, history.journal.id()), (None, 0, FRESH));
        let led = Earlier { lease: LeaseRecord { term: 4, ..LeaseRecord::default() }, claims: 0 };
        let reason = open(&room.path().join("b"), FRESH, &led).unwrap().rebased.unwrap();
        assert!(reason.contains("term 4"), "{reason}");
        let claimed = Earlier { claims: 3, ..nobody() };
        let reason = open(&room.path().join("c"), FRESH, &claimed).unwrap().rebased.unwrap();
        assert!(reason.contains("3 PodDNATs"), "{reason}");
    }

    #[test]
    fn what_was_written_is_folded_and_continued() {
        let room = tempfile::tempdir().unwrap();
        let dir = room.path().join("journal");
        written(&dir, &[started(1), started(2)]);
        let history = open(&dir, JournalId([9; 16]), &nobody()).unwrap();
        assert_eq!((history.rebased, history.state.term(), history.head.seq), (None, 2, 2));
        assert_eq!(history.journal.id(), FRESH);
        assert!(matches!(open(&dir, FRESH, &nobody()), Err(Error::Journal { .. })), "it is in use");
    }

    #[test]
    fn what_is_no_history_is_set_aside_whole() {
        let unknown = {
            let mut bytes = started(2);
            bytes[0] = 0xff;
            bytes
        };
        let wrong = {
            let digest = Event::DigestTaken(DigestTaken { version: 1, digest: [0; 32] });
            codec::encode(&Record { seq: 2, term: 1, machine_ms: 0, wall_ms: 0, event: digest }).unwrap()
        };
        for (bad, words) in [(unknown, "is no record"), (wrong, "illegal"), (started(1), "illegal")] {
            let room = tempfile::tempdir().unwrap();
            let dir = room.path().join("journal");
            written(&dir, &[started(1), bad]);
            let heads = vec![(FRESH.0, 1, [0; 32])];
            let lease = LeaseRecord { term: 1, ..LeaseRecord::default() };
            let history = open(&dir, JournalId([9; 16]), &Earlier { lease, claims: 0 }).unwrap();
            let reason = history.rebased.unwrap();
            assert!(reason.contains(words), "{reason}");
            assert_eq!((history.head.seq, history.journal.id()), (0, JournalId([9; 16])));
            drop(history.journal);
            let aside = history.set_aside.unwrap();
            let Opened::Continued(old) = Journal::open(&aside, FRESH, &[]).unwrap() else { panic!("{words}") };
            assert_eq!((old.id(), old.head().seq), (FRESH, 2));
            // A head of another history under the same identity is found out, too.
            drop(old);
            let lease = LeaseRecord { heads, ..LeaseRecord::default() };
            let reason = open(&aside, FRESH, &Earlier { lease, claims: 0 }).unwrap().rebased.unwrap();
            assert!(reason.contains("another history"), "{reason}");
        }
    }
}
