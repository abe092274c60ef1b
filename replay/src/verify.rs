//! `verify`: the whole history folded again, and everything checked that can be.
//!
//! 1. The chain, the anchor and every frame: the journal's verdict.
//! 2. Decoding of every record.
//! 3. Legality of every record where it stands: [`State::apply`].
//! 4. The invariants of what each record touched: [`check::touched`].
//! 5. All invariants, the agenda and the digest computed anew ([`check::all`]): at intervals that grow with the history,
//!    so that their cost stays in proportion to it, and at the end.
//! 6. The digests that the journal carries, against the one that the fold arrives at.
//! 7. Every snapshot, against the state that the fold arrives at where it stands. Where the beginning was pruned the fold
//!    begins with the oldest of them.
//!
//! After a record that cannot be decoded or is illegal nothing is folded any more: what came after would be judged by a
//! state that is not the one in which it was written.

use std::collections::BTreeMap;
use std::io::Write;

use anyhow::Result;
use natgw::machine::check;
use natgw::machine::event::{Event, Record};
use natgw::machine::state::{DIGEST_VERSION, State};
use natgw_journal::Snapshot;
use serde::Serialize;

use crate::history::{History, Link, Source};
use crate::log::print_gaps;
use crate::report::{Finding, Format, Outcome, hex, name_of, print_json};

/// The first full check comes after that many records, and the next ones are at least as far apart.
const FULL_CHECK_RECORDS_MIN: u64 = 1_024;

/// A full check costs the size of the state, which is at most that of the history so far: with one each time that the
/// history has grown by an eighth, all of them cost in proportion to the history.
const FULL_CHECK_GROWTH: u64 = 8;

/// A broken invariant may break at every later record: that many findings tell the story, the others are counted.
const FINDINGS_MAX: usize = 100;

/// What was done with one journal, and what was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Identity of the journal.
    pub journal: String,
    /// Where it was found.
    pub path: String,
    /// Records read.
    pub events: u64,
    /// Records folded: all of them, unless something was found that ends the folding.
    pub folded: u64,
    /// Terms that start in the journal.
    pub terms: u64,
    /// The first of them.
    pub first_term: Option<u64>,
    /// The last of them.
    pub last_term: Option<u64>,
    /// Full checks made.
    pub full_checks: u64,
    /// Digests in the journal that were compared.
    pub digests_compared: u64,
    /// The last record that the folding found in a snapshot; 0 where it began with nothing.
    pub folded_from: u64,
    /// Snapshots that were compared with the state where they stand, the one with which the folding began left out.
    pub snapshots_compared: u64,
    /// Digests in the journal of a version that this build does not compute.
    pub digests_of_other_versions: u64,
    /// The digest of the state at the end, in hexadecimal; none if the folding ended before.
    pub digest: Option<String>,
    /// What was found.
    pub findings: Vec<Finding>,
    /// Findings beyond those listed.
    pub findings_not_listed: u64,
}

/// Verifies every journal by itself, then how they hang together.
///
/// # Errors
/// Fails when the answer cannot be written.
pub fn verify(history: &History, format: Format, out: &mut impl Write) -> Result<Outcome> {
    let mut findings = 0_usize;
    for journal in &history.journals {
        let report = examine(journal);
        findings += report.findings.len();
        match format {
            Format::Text => print_report(&report, out)?,
            Format::Json => print_json(&report, out)?,
        }
    }
    if format == Format::Text {
        print_links(history, out)?;
    }
    findings += print_gaps(history, format, out)?;
    findings += print_breaks(history, format, out)?;
    Ok(Outcome::of(findings))
}

/// Verifies one journal.
#[must_use]
pub fn examine(journal: &Source) -> Report {
    let mut folding = Folding::default();
    let mut events = 0_u64;
    match journal.base() {
        Ok(state) => folding.begin(state),
        // The state before the first record is not known: chain and decoding are checked, nothing is folded.
        Err(finding) => folding.end(finding),
    }
    let snapshots: BTreeMap<u64, &Snapshot> =
        journal.copy.snapshots().iter().map(|snapshot| (snapshot.through.seq, snapshot)).collect();
    for record in journal.records() {
        match record {
            Ok(record) => {
                events = events.saturating_add(1);
                folding.fold(&record);
                if let Some(snapshot) = snapshots.get(&record.seq) {
                    folding.compare_snapshot(journal, snapshot);
                }
            }
            Err(finding) => folding.end(finding),
        }
    }
    folding.check_all();
    let damage = journal.damage();
    let whole = journal.copy.verdict().is_intact();
    damage.into_iter().for_each(|finding| folding.found(finding));
    if whole && journal.copy.head().is_some_and(|head| head.seq != folding.read) {
        let words = format!("the journal's head does not stand at the last of {} entries read", folding.read);
        folding.found(Finding::at(folding.read, words));
    }
    Report {
        journal: name_of(journal.copy.id()),
        path: journal.path.display().to_string(),
        events,
        folded: folding.folded,
        terms: journal.terms.len() as u64,
        first_term: journal.terms.first().map(|start| start.term),
        last_term: journal.terms.last().map(|start| start.term),
        full_checks: folding.full_checks,
        digests_compared: folding.digests_compared,
        folded_from: folding.base,
        snapshots_compared: folding.snapshots_compared,
        digests_of_other_versions: folding.digests_of_other_versions,
        digest: (!folding.ended).then(|| hex(&folding.state.digest())),
        findings: folding.findings,
        findings_not_listed: folding.findings_not_listed,
    }
}

/// A history being folded.
#[derive(Default)]
struct Folding {
    state: State,
    /// The last record that is in the snapshot with which the folding began.
    base: u64,
    snapshots_compared: u64,
    /// The last entry read, folded or not.
    read: u64,
    folded: u64,
    ended: bool,
    full_checks: u64,
    digests_compared: u64,
    digests_of_other_versions: u64,
    findings: Vec<Finding>,
    findings_not_listed: u64,
    next_full_check: u64,
}

impl Folding {
    fn begin(&mut self, state: State) {
        (self.base, self.read) = (state.seq(), state.seq());
        self.state = state;
    }

    fn fold(&mut self, record: &Record) {
        self.read = record.seq;
        if self.ended || record.seq <= self.base {
            return;
        }
        if let Some(digest) = journaled_digest(&record.event) {
            self.compare(record.seq, digest);
        }
        if let Err(illegal) = self.state.apply(record) {
            // A digest that differs has been told in more words already.
            if self.findings.last().is_none_or(|finding| finding.seq != Some(record.seq)) {
                self.found(Finding::at(record.seq, illegal.to_string()));
            }
            self.ended = true;
            return;
        }
        self.folded = self.folded.saturating_add(1);
        for violation in check::touched(&self.state, &record.event) {
            self.found(Finding::at(record.seq, violation.to_string()));
        }
        // Nobody carries the intents out here, and the list of changes would grow with the history.
        self.state.take_agenda_changes();
        if self.folded >= self.next_full_check.max(FULL_CHECK_RECORDS_MIN) {
            self.check_all();
            let step = FULL_CHECK_RECORDS_MIN.max(self.folded / FULL_CHECK_GROWTH);
            self.next_full_check = self.folded.saturating_add(step);
        }
    }

    fn compare(&mut self, seq: u64, (version, journaled): (u8, [u8; 32])) {
        if version != DIGEST_VERSION {
            self.digests_of_other_versions = self.digests_of_other_versions.saturating_add(1);
            return;
        }
        self.digests_compared = self.digests_compared.saturating_add(1);
        let folded = self.state.digest();
        if journaled != folded {
            let (journaled, folded) = (hex(&journaled), hex(&folded));
            self.found(Finding::at(seq, format!("the journal has digest {journaled}, the fold arrives at {folded}")));
        }
    }

    /// A snapshot must be the state that the records before it add up to, in everything.
    fn compare_snapshot(&mut self, journal: &Source, snapshot: &Snapshot) {
        let through = snapshot.through.seq;
        if self.ended || through <= self.base {
            return;
        }
        self.snapshots_compared = self.snapshots_compared.saturating_add(1);
        match journal.restore(snapshot) {
            Ok(restored) if restored.image() == self.state.image() => {}
            Ok(restored) => {
                let (snapshot, folded) = (hex(&restored.digest()), hex(&self.state.digest()));
                let words = format!(
                    "the snapshot through {through} is another state (digest {snapshot}) than the fold arrives at ({folded})"
                );
                self.found(Finding::at(through, words));
            }
            Err(words) => self.found(Finding::at(through, words)),
        }
    }

    fn check_all(&mut self) {
        if self.ended {
            return;
        }
        self.full_checks = self.full_checks.saturating_add(1);
        for violation in check::all(&self.state) {
            self.found(Finding::at(self.state.seq(), violation.to_string()));
        }
    }

    fn end(&mut self, finding: Finding) {
        self.read = finding.seq.unwrap_or(self.read);
        self.ended = true;
        self.found(finding);
    }

    fn found(&mut self, finding: Finding) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        } else {
            self.findings_not_listed = self.findings_not_listed.saturating_add(1);
        }
    }
}

fn journaled_digest(event: &Event) -> Option<(u8, [u8; 32])> {
    match event {
        Event::DigestTaken(body) => Some((body.version, body.digest)),
        Event::SnapshotEnded(body) => Some((DIGEST_VERSION, body.digest)),
        _ => None,
    }
}

fn print_report(report: &Report, out: &mut impl Write) -> Result<()> {
    let Report { journal, path, events, folded, full_checks, digests_compared, .. } = report;
    let terms = match (report.first_term, report.last_term) {
        (Some(first), Some(last)) if first != last => format!("{} terms, {first} to {last}", report.terms),
        (Some(first), _) => format!("term {first}"),
        (None, _) => "no term".to_owned(),
    };
    writeln!(out, "journal {journal} ({path})")?;
    writeln!(out, "  {events} events, {terms}")?;
    writeln!(out, "  chain, anchor, decoding         {events} events")?;
    writeln!(out, "  legality, invariants touched    {folded} events")?;
    writeln!(out, "  all invariants, agenda, digest  {full_checks} times")?;
    writeln!(out, "  journaled digests               {digests_compared} compared")?;
    if report.folded_from > 0 {
        writeln!(out, "  folded from                     the snapshot through event {}", report.folded_from)?;
    }
    if report.snapshots_compared > 0 {
        writeln!(out, "  snapshots                       {} compared", report.snapshots_compared)?;
    }
    if report.digests_of_other_versions > 0 {
        writeln!(out, "  digests of other versions       {} not compared", report.digests_of_other_versions)?;
    }
    match &report.digest {
        Some(digest) => writeln!(out, "  digest {digest}")?,
        None => writeln!(out, "  no digest: the folding ended after entry {folded}")?,
    }
    for finding in &report.findings {
        writeln!(out, "  {finding}")?;
    }
    if report.findings_not_listed > 0 {
        writeln!(out, "  and {} findings more", report.findings_not_listed)?;
    }
    writeln!(out, "  {}", if report.findings.is_empty() { "clean" } else { "NOT CLEAN" })?;
    Ok(())
}

fn print_links(history: &History, out: &mut impl Write) -> Result<()> {
    if history.is_joined() {
        writeln!(out, "each journal was verified alone; no answer crosses from one to another")?;
    }
    for (_, link) in history.links() {
        match link {
            Link::Linked(words) => writeln!(out, "link: {words}")?,
            // With one journal nothing is joined, and what was before is worth a word but no finding.
            Link::Gap(words) if !history.is_joined() => writeln!(out, "note: {words}")?,
            Link::Gap(_) | Link::Broken(_) => {}
        }
    }
    Ok(())
}

/// A single journal that contradicts itself about its own earlier heads.
fn print_breaks(history: &History, format: Format, out: &mut impl Write) -> Result<usize> {
    if history.is_joined() {
        return Ok(0);
    }
    let mut findings = 0_usize;
    for (_, link) in history.links() {
        if let Link::Broken(finding) = link {
            findings += 1;
            crate::report::print_finding(&finding, None, format, out)?;
        }
    }
    Ok(findings)
}
