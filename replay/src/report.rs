//! What the commands have in common: findings, and how records are printed.

use std::fmt;
use std::io::Write;

use anyhow::Result;
use jiff::Timestamp;
use natgw::machine::event::words::sentence;
use natgw::machine::event::{Event, Record};
use natgw_journal::{Head, JournalId, Verdict};
use serde::Serialize;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing was found.
    Clean,
    /// Something was found; the answer names it.
    Findings,
}

impl Outcome {
    /// Of an answer with that many findings.
    #[must_use]
    pub const fn of(findings: usize) -> Self {
        if findings == 0 { Self::Clean } else { Self::Findings }
    }
}

/// How to print.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// For scripts: one JSON object a line.
    Json,
}

/// Something that is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The record at which it was found.
    pub seq: Option<u64>,
    /// Entries that are lost, or may be.
    pub lost: Option<Lost>,
    /// What it is, in words.
    pub finding: String,
}

/// A range of entries, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Lost {
    /// The first.
    pub from: u64,
    /// The last that is known to have existed; none if nobody knows.
    pub to: Option<u64>,
}

impl Finding {
    /// A finding at a record.
    #[must_use]
    pub fn at(seq: u64, finding: impl Into<String>) -> Self {
        Self { seq: Some(seq), lost: None, finding: finding.into() }
    }

    /// A finding about how journals hang together.
    #[must_use]
    pub fn general(finding: impl Into<String>) -> Self {
        Self { seq: None, lost: None, finding: finding.into() }
    }

    /// The journal cannot be read any farther.
    #[must_use]
    pub fn unreadable(error: &natgw_journal::Error) -> Self {
        let lost = match error {
            natgw_journal::Error::EntryDamaged { seq, .. } => Some(Lost { from: *seq, to: None }),
            _ => None,
        };
        Self { seq: None, lost, finding: error.to_string() }
    }

    /// What a journal's verdict says of lost entries; `None` if the journal is whole.
    #[must_use]
    pub fn of_verdict(verdict: &Verdict, head: Option<Head>) -> Option<Self> {
        let last = head.map_or(0, |head| head.seq);
        let (after, open) = (last.saturating_add(1), |from| Some(Lost { from, to: None }));
        let range = |from, to| Some(Lost { from, to: Some(to) });
        let (seq, lost) = match verdict {
            Verdict::Intact => return None,
            Verdict::LastGroupUnconfirmed { from, to } | Verdict::HistoryLost { from, to } => (None, range(*from, *to)),
            Verdict::AnchorStale { .. } | Verdict::AnchorLost | Verdict::AnchorDamaged { .. } => (None, open(after)),
            Verdict::Foreign { seq, .. } => (Some(*seq), None),
            Verdict::Unreadable { lost, .. } => (None, lost.map_or_else(|| open(1), |(from, to)| range(from, to))),
            Verdict::EntryDamaged { from, to, .. } => (Some(*from), range(*from, *to)),
        };
        Some(Self { seq, lost, finding: verdict.to_string() })
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FINDING")?;
        match (self.seq, self.lost) {
            (_, Some(Lost { from, to: Some(to) })) => write!(f, " (entries {from} to {to})")?,
            (_, Some(Lost { from, to: None })) => write!(f, " (entries from {from} on)")?,
            (Some(seq), None) => write!(f, " at {seq}")?,
            (None, None) => {}
        }
        write!(f, ": {}", self.finding)
    }
}

/// One record as a JSON object.
#[derive(Serialize)]
struct Line<'a> {
    journal: String,
    seq: u64,
    term: u64,
    machine_ms: u64,
    wall_ms: i64,
    wall: String,
    #[serde(flatten)]
    event: &'a Event,
    words: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pods: Option<&'a [String]>,
}

/// The name of a journal, for people who compare two.
pub(crate) fn name_of(id: Option<JournalId>) -> String {
    id.map_or_else(|| "of unknown identity".to_owned(), |id| id.to_string())
}

/// Prints a record. `pods` are the UIDs that an explanation follows, `note` what stands before the sentence.
pub(crate) fn print_record(
    record: &Record,
    journal: Option<JournalId>,
    pods: Option<&[String]>,
    note: &str,
    format: Format,
    out: &mut impl Write,
) -> Result<()> {
    let (wall, words) = (wall(record.wall_ms), sentence(record));
    match format {
        Format::Text => {
            let (seconds, rest) = (record.machine_ms / 1_000, record.machine_ms % 1_000);
            let Record { seq, term, .. } = record;
            writeln!(out, "{seq:>6}  {wall}  term {term} +{seconds}.{rest:03}s  {note}{words}")?;
        }
        Format::Json => {
            let Record { seq, term, machine_ms, wall_ms, event } = record;
            let (seq, term, machine_ms, wall_ms) = (*seq, *term, *machine_ms, *wall_ms);
            let journal = name_of(journal);
            print_json(&Line { journal, seq, term, machine_ms, wall_ms, wall, event, words, pods }, out)?;
        }
    }
    Ok(())
}

/// Prints a finding.
pub(crate) fn print_finding(
    finding: &Finding,
    journal: Option<JournalId>,
    format: Format,
    out: &mut impl Write,
) -> Result<()> {
    #[derive(Serialize)]
    struct OfJournal<'a> {
        journal: String,
        #[serde(flatten)]
        finding: &'a Finding,
    }
    match format {
        Format::Text => writeln!(out, "{finding}")?,
        Format::Json => print_json(&OfJournal { journal: name_of(journal), finding }, out)?,
    }
    Ok(())
}

/// Prints one line of JSON.
pub(crate) fn print_json(value: &impl Serialize, out: &mut impl Write) -> Result<()> {
    // Made whole first, so that a failure to write stays an I/O error and a broken pipe is known as one.
    let line = serde_json::to_string(value)?;
    writeln!(out, "{line}")?;
    Ok(())
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// RFC 3339 in UTC; the number itself where no calendar reaches.
fn wall(ms: i64) -> String {
    Timestamp::from_millisecond(ms).map_or_else(|_| format!("{ms} ms"), |time| format!("{time:.3}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_time_is_rfc_3339_and_never_fails() {
        assert_eq!(wall(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(wall(1_767_225_600_123), "2026-01-01T00:00:00.123Z");
        assert_eq!(wall(i64::MAX), format!("{} ms", i64::MAX));
    }

    #[test]
    fn every_verdict_but_intact_names_a_place() {
        let head = Head { seq: 9, hash: [0; 32] };
        let id = JournalId([0; 16]);
        let reason = || "torn".to_owned();
        let damaged = [
            Verdict::LastGroupUnconfirmed { from: 10, to: 12 },
            Verdict::HistoryLost { from: 10, to: 12 },
            Verdict::AnchorStale { anchor: Head { seq: 3, hash: [0; 32] }, head },
            Verdict::AnchorLost,
            Verdict::AnchorDamaged { reason: reason() },
            Verdict::Foreign { expected: id, found: id, seq: 4 },
            Verdict::Unreadable { reason: reason(), lost: None },
            Verdict::Unreadable { reason: reason(), lost: Some((1, 9)) },
            Verdict::EntryDamaged { from: 2, to: 9, reason: reason() },
        ];
        for verdict in damaged {
            let found = Finding::of_verdict(&verdict, Some(head));
            assert!(found.is_some_and(|found| found.seq.is_some() || found.lost.is_some()), "{verdict}");
        }
        assert_eq!(Finding::of_verdict(&Verdict::Intact, Some(head)), None);
    }
}
