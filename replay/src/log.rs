//! `log`: every record in words, in order.

use std::io::Write;

use anyhow::Result;

use crate::history::{History, Link, Source};
use crate::report::{Finding, Format, Outcome, print_finding, print_record};

/// Prints every record, and in its place every finding about what cannot be read.
///
/// # Errors
/// Fails when the answer cannot be written.
pub fn log(history: &History, format: Format, out: &mut impl Write) -> Result<Outcome> {
    let mut findings = 0_usize;
    for journal in &history.journals {
        let id = journal.copy.id();
        if history.is_joined() && format == Format::Text {
            writeln!(out, "{}", journal.heading())?;
        }
        print_pruned(journal, format, out)?;
        for record in journal.records() {
            match record {
                Ok(record) => print_record(&record, id, None, "", format, out)?,
                Err(finding) => {
                    findings += 1;
                    print_finding(&finding, id, format, out)?;
                }
            }
        }
        for finding in journal.damage() {
            findings += 1;
            print_finding(&finding, id, format, out)?;
        }
    }
    findings += print_gaps(history, format, out)?;
    Ok(Outcome::of(findings))
}

/// Says, to people, where the history begins if not at its beginning; a script sees it in the numbers.
pub(crate) fn print_pruned(journal: &Source, format: Format, out: &mut impl Write) -> Result<()> {
    if let (Some(words), Format::Text) = (journal.pruned(), format) {
        writeln!(out, "note: {words}")?;
    }
    Ok(())
}

/// Names each gap between several journals; a single one is no joined history and has none to name.
pub(crate) fn print_gaps(history: &History, format: Format, out: &mut impl Write) -> Result<usize> {
    if !history.is_joined() {
        return Ok(0);
    }
    let mut findings = 0_usize;
    for (_, link) in history.links() {
        let finding = match link {
            Link::Linked(_) => continue,
            Link::Gap(words) => Finding::general(format!("gap: {words}")),
            Link::Broken(finding) => finding,
        };
        findings += 1;
        print_finding(&finding, None, format, out)?;
    }
    Ok(findings)
}
