//! Sentences of kind 100.

use super::phrase::{count, stamp};
use crate::machine::event::kept::Kept;

pub(super) fn kept(body: &Kept) -> String {
    let words = match body {
        Kept::Frame(frame) => format!("the highest term seen is {}", frame.term_seen),
        Kept::Eip(eip) => format!("there is EIP {}", eip.eip),
        Kept::Table(table) => {
            let entries = count(table.committed, "entry", "entries");
            format!("there is forward table {} with {entries} that are there or may come", table.table)
        }
        Kept::Pod(pod) => format!("there is pod {}/{} (UID {})", pod.namespace, pod.name, pod.uid),
        Kept::Allocation(kept) => format!(
            "there is allocation {} of pod {}/{} (UID {}) on {}",
            stamp(kept.allocation),
            kept.namespace,
            kept.name,
            kept.pod,
            kept.eip
        ),
        Kept::Items(items) => {
            let number = count(items.items.len() as u64, "item", "items");
            format!("there are {number} of allocation {}", stamp(items.allocation))
        }
        Kept::Stray(stray) => format!("entry {} of table {} is bound to no item", stray.entry, stray.table),
        Kept::Rests(rests) => format!("{} rest", count(rests.rests.len() as u64, "port", "ports")),
        Kept::Claim(claim) => format!("PodDNAT {}/{} belongs to no allocation", claim.namespace, claim.name),
        Kept::Intent(intent) => format!("event {} wants {:?}", intent.rests_on, intent.wanted),
        Kept::Work(subject) => format!("a decision may be due about {subject:?}"),
    };
    format!("in the snapshot {words}")
}
