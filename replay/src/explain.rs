//! `explain`: every record that touched one pod, in order.
//!
//! A pod is given by name, and several pods may have had it: their UIDs are told apart. From the UID the trail leads to
//! allocations, from these to creations, entries and external ports, and back; PodDNATs are followed by name. Entries
//! that somebody else made are told where they hold an external port or the address of the pod. Records that concern a
//! forward table are told while something of the pod waits for it.
//!
//! Deliberately absent: the configuration, gateways and routes, which concern all pods alike; `log` tells them.

mod trail;

use std::fmt::Write as _;
use std::io::Write;
use std::str::FromStr;

use anyhow::Result;
use natgw::machine::identity::PodKey;

use crate::explain::trail::{Trail, Whose};
use crate::history::{History, Source};
use crate::log::{print_gaps, print_pruned};
use crate::report::{Format, Outcome, print_finding, print_record};

/// A pod's namespace and name, as given on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodName(pub PodKey);

impl FromStr for PodName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('/') {
            Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
                Ok(Self(PodKey::new(namespace, name)))
            }
            Some(_) | None => Err("a pod is given as NAMESPACE/NAME".to_owned()),
        }
    }
}

/// Prints every record that touched the pod, for each journal by itself.
///
/// # Errors
/// Fails when the answer cannot be written.
pub fn explain(history: &History, pod: &PodKey, format: Format, out: &mut impl Write) -> Result<Outcome> {
    let mut findings = 0_usize;
    for journal in &history.journals {
        if history.is_joined() && format == Format::Text {
            writeln!(out, "{}", journal.heading())?;
        }
        findings += explain_one(journal, pod, format, out)?;
    }
    findings += print_gaps(history, format, out)?;
    Ok(Outcome::of(findings))
}

fn explain_one(journal: &Source, pod: &PodKey, format: Format, out: &mut impl Write) -> Result<usize> {
    let id = journal.copy.id();
    let mut trail = Trail::gather(pod, journal.records().filter_map(Result::ok));
    if format == Format::Text {
        writeln!(out, "{}", headline(pod, &trail))?;
        print_pruned(journal, format, out)?;
    }
    let (mut findings, mut told) = (0_usize, 0_u64);
    for record in journal.records() {
        match record {
            Ok(record) => {
                let Some(whose) = trail.follow(&record) else { continue };
                told = told.saturating_add(1);
                let uids: Vec<String> = whose.pods.iter().map(ToString::to_string).collect();
                print_record(&record, id, Some(&uids), &note(&whose, &trail), format, out)?;
            }
            Err(finding) => {
                findings += 1;
                print_finding(&finding, id, format, out)?;
            }
        }
    }
    if told == 0 && format == Format::Text {
        writeln!(out, "no record of this journal speaks of it")?;
    }
    for finding in journal.damage() {
        findings += 1;
        print_finding(&finding, id, format, out)?;
    }
    Ok(findings)
}

fn headline(pod: &PodKey, trail: &Trail) -> String {
    let mut text = format!("pod {pod}");
    for (ordinal, uid) in trail.uids() {
        // Writing to a String does not fail.
        let _ = write!(text, "\n  pod {ordinal} has UID {uid}");
    }
    text
}

/// Which of several pods of the name a record touched.
fn note(whose: &Whose, trail: &Trail) -> String {
    if trail.pods() < 2 || whose.pods.is_empty() {
        return String::new();
    }
    let mut ordinals: Vec<_> = whose.pods.iter().filter_map(|uid| trail.ordinal(uid)).collect();
    ordinals.sort_unstable();
    let ordinals: Vec<String> = ordinals.iter().map(ToString::to_string).collect();
    format!("[pod {}] ", ordinals.join(" and "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_has_a_namespace_and_a_name() {
        assert_eq!("games/web-0".parse(), Ok(PodName(PodKey::new("games", "web-0"))));
        for text in ["web-0", "/web-0", "games/", "a/b/c", ""] {
            assert!(text.parse::<PodName>().is_err(), "{text:?}");
        }
    }
}
