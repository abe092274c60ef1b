//! The journals that were given, in order of term, and how they hang together.
//!
//! Each leader writes its own journal and names, where its term starts, the head of the journal that the Lease named
//! last. So a term is linked to the journal before it if that one was given and has had exactly that head. Whatever is
//! not linked is a gap.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use natgw::machine::event::codec;
use natgw::machine::event::{Event, Record};
use natgw_journal::{Error, Head, JournalId, ReadCopy, Verdict, read_copy, read_export};

use crate::report::{Finding, hex, name_of};

/// The name under which a sandbox folder holds its journal.
const JOURNAL_IN_FOLDER: &str = "journal";

/// Journals in order of term.
#[derive(Debug)]
pub struct History {
    /// The journals.
    pub journals: Vec<Source>,
}

/// One journal, opened for reading on a private copy.
#[derive(Debug)]
pub struct Source {
    /// Where it was found.
    pub path: PathBuf,
    /// The copy.
    pub copy: ReadCopy,
    /// The terms that start in it.
    pub terms: Vec<TermStart>,
}

/// The start of a term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TermStart {
    /// The record.
    pub seq: u64,
    /// The term.
    pub term: u64,
    /// Identity and head of the journal that the Lease named last.
    pub predecessor: Option<(JournalId, Head)>,
}

/// How the start of a term hangs together with what was before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Link {
    /// It goes on from an entry of a journal that was given.
    Linked(String),
    /// What was before was not given.
    Gap(String),
    /// What was given is not what was before.
    Broken(Finding),
}

impl History {
    /// Opens the journals, directories and exports alike, and orders them by term.
    ///
    /// # Errors
    /// Fails when a directory holds no journal, when a file is no export, when a journal is in use or cannot be copied,
    /// and when two are the same one.
    pub fn open(paths: &[PathBuf]) -> Result<Self> {
        let mut journals = paths.iter().map(|path| Source::open(path)).collect::<Result<Vec<_>>>()?;
        let mut seen = BTreeMap::new();
        for journal in &journals {
            let Some(id) = journal.copy.id() else { continue };
            if let Some(other) = seen.insert(id, &journal.path) {
                let (one, other) = (other.display(), journal.path.display());
                bail!("{one} and {other} are both journal {id}, so which is to be believed cannot be told: give one");
            }
        }
        journals.sort_by_key(|journal| journal.terms.first().map_or(0, |start| start.term));
        Ok(Self { journals })
    }

    /// Whether several journals were given.
    #[must_use]
    pub fn is_joined(&self) -> bool {
        self.journals.len() > 1
    }

    /// How each start of a term hangs together with what was before, in order of term.
    #[must_use]
    pub fn links(&self) -> Vec<(u64, Link)> {
        let starts = self.journals.iter().flat_map(|journal| journal.terms.iter().map(move |start| (journal, *start)));
        let mut starts: Vec<_> = starts.collect();
        starts.sort_by_key(|(_, start)| start.term);
        let mut links = Vec::new();
        let mut before = None;
        for (journal, start) in starts {
            if before == Some(start.term) {
                let words = format!("term {} starts in two journals, which only one leader can have begun", start.term);
                links.push((start.term, Link::Broken(Finding::at(start.seq, words))));
            }
            links.push((start.term, self.link(journal, start, before)));
            before = Some(start.term);
        }
        links
    }

    fn link(&self, journal: &Source, start: TermStart, before: Option<u64>) -> Link {
        let TermStart { seq, term, predecessor } = start;
        let here = format!("term {term} (entry {seq} of journal {})", name_of(journal.copy.id()));
        let Some((id, head)) = predecessor else {
            return match before {
                None => Link::Linked(format!("{here} is the beginning: the Lease named no earlier journal")),
                Some(before) => {
                    Link::Gap(format!("{here} names no journal before it, so term {before} is not known to precede it"))
                }
            };
        };
        let at = head.seq;
        let Some(earlier) = self.journals.iter().find(|journal| journal.copy.id() == Some(id)) else {
            return Link::Gap(format!("{here} goes on from entry {at} of journal {id}, which was not given"));
        };
        match earlier.copy.holds(&head) {
            Ok(true) => Link::Linked(format!("{here} goes on from entry {at} of journal {id}")),
            Ok(false) => Link::Broken(Finding::at(
                seq,
                format!(
                    "{here} goes on from entry {at} of journal {id} with hash {}, which that journal does not hold",
                    hex(&head.hash)
                ),
            )),
            Err(Error::Pruned { first }) => Link::Gap(format!(
                "{here} goes on from entry {at} of journal {id}, of which those before {first} were pruned"
            )),
            Err(error) => Link::Broken(Finding::at(seq, format!("{here} cannot be linked: {error}"))),
        }
    }
}

impl Source {
    fn open(path: &Path) -> Result<Self> {
        let path = locate(path);
        let copy = if path.is_file() { read_export(&path) } else { read_copy(&path) };
        let copy = copy.with_context(|| format!("could not read journal {}", path.display()))?;
        let mut source = Self { path, copy, terms: Vec::new() };
        source.terms = source.records().filter_map(|record| term_start(&record.ok()?)).collect();
        Ok(source)
    }

    /// The records in order, from the first that was not pruned, as far as they can be read. What cannot be decoded is a finding in its place; where the
    /// journal itself cannot be read any farther, that is the last one.
    pub fn records(&self) -> impl Iterator<Item = Result<Record, Finding>> {
        // A verdict of this kind names the same place, and more.
        let told = matches!(self.copy.verdict(), Verdict::EntryDamaged { .. });
        let entries = self.copy.entries(self.copy.first_seq()).take_while(move |entry| !told || entry.is_ok());
        let mut ended = false;
        entries.map_while(move |entry| {
            if ended {
                return None;
            }
            ended = entry.is_err();
            Some(entry.map_err(|error| Finding::unreadable(&error)).and_then(|entry| {
                codec::decode(entry.seq, &entry.bytes)
                    .map_err(|error| Finding::at(entry.seq, format!("the record cannot be decoded: {error}")))
            }))
        })
    }

    /// What is wrong with the journal as a whole.
    #[must_use]
    pub fn damage(&self) -> Vec<Finding> {
        let of_verdict = Finding::of_verdict(self.copy.verdict(), self.copy.head());
        let unusable = self.copy.unusable_snapshots().iter();
        let of_snapshots = unusable.map(|(through, reason)| {
            Finding::general(format!("the snapshot of the entries through {through} cannot be used: {reason}"))
        });
        of_verdict.into_iter().chain(of_snapshots).collect()
    }

    /// That earlier entries were pruned, in words.
    #[must_use]
    pub fn pruned(&self) -> Option<String> {
        let last = self.copy.first_seq().checked_sub(1).filter(|last| *last > 0)?;
        let base = self.copy.snapshots().first().map_or_else(
            || "no snapshot stands for them".to_owned(),
            |base| format!("the oldest snapshot, of {} entries, goes through {}", base.entries, base.through.seq),
        );
        Some(format!("entries 1 to {last} were pruned; {base}"))
    }

    /// The heading under which the records of this journal stand when several are given.
    #[must_use]
    pub fn heading(&self) -> String {
        let terms = match (self.terms.first(), self.terms.last()) {
            (Some(first), Some(last)) if first != last => format!("terms {} to {}", first.term, last.term),
            (Some(first), _) => format!("term {}", first.term),
            (None, _) => "no term".to_owned(),
        };
        format!("== journal {} ({}), {terms}", name_of(self.copy.id()), self.path.display())
    }
}

fn term_start(record: &Record) -> Option<TermStart> {
    let Event::TermStarted(started) = &record.event else { return None };
    let predecessor = started.predecessor.map(|(id, seq, hash)| (JournalId(id), Head { seq, hash }));
    Some(TermStart { seq: record.seq, term: started.term, predecessor })
}

/// The journal's directory: the one given, or `journal` in it if it is a folder that holds one.
fn locate(path: &Path) -> PathBuf {
    let inside = path.join(JOURNAL_IN_FOLDER);
    let is_journal = ["sled", "anchor", "lock"].iter().any(|name| path.join(name).exists());
    if !is_journal && inside.is_dir() { inside } else { path.to_path_buf() }
}
