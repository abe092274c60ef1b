//! S9 Foreign: an entry that somebody else made, or took over by taking our mark off, is never touched.

use std::collections::BTreeMap;

use natgw::machine::identity::{EntryId, Mark, TableId};
use natgw::sandbox::vpc::{Effect, LedgerLine};

use super::{Invariant, Look};
use crate::wire::What;

/// A listing may show the table as it was a minute ago.
const VIEW_MS: u64 = 61_000;

/// When the last two listings of a table began.
type Listings = (Option<u64>, Option<u64>);

#[derive(Default)]
struct Foreign {
    /// Entries of ours off which somebody took the mark, and when.
    taken_over: BTreeMap<EntryId, u64>,
    /// By life and table.
    listed: BTreeMap<(u64, TableId), Listings>,
}

pub(super) fn make() -> Box<dyn Invariant> {
    Box::new(Foreign::default())
}

impl Invariant for Foreign {
    fn look(&mut self, look: &Look<'_>, found: &mut Vec<String>) {
        for call in look.calls {
            match &call.what {
                What::Listed(table, 1, ..) => {
                    let (_, last) = self.listed.entry((call.life, table.clone())).or_default();
                    let before = last.replace(call.at_ms);
                    self.listed.insert((call.life, table.clone()), (before, Some(call.at_ms)));
                }
                What::Delete(request) => {
                    // Of two listings begun since, the first is complete: it has shown the entry without our mark.
                    let seen = self.listed.get(&(call.life, request.table.clone())).and_then(|(before, _)| *before);
                    let taken = self.taken_over.get(&request.entry).filter(|at_ms| seen > Some(**at_ms + VIEW_MS));
                    if let Some(at_ms) = taken {
                        let entry = &request.entry;
                        found.push(format!("{entry} was taken over at {at_ms}, seen so at {seen:?}, and is deleted"));
                    }
                }
                _ => {}
            }
        }
        for line in look.lines {
            let LedgerLine::Effect(line) = line else { continue };
            let Some(entry) = &line.entry else { continue };
            let Some(fate) = look.facts.entries.get(entry) else { continue };
            match line.effect {
                Effect::EditedByHand if Mark::parse(&fate.spec.name).is_none() => {
                    self.taken_over.entry(entry.clone()).or_insert(line.at_ms);
                }
                // One that was taken over may go by a request that left before anybody could see it.
                Effect::Deleting if fate.foreign && !fate.by_hand => {
                    found.push(format!("{entry} is somebody else's and was deleted: {fate:?}"));
                }
                Effect::Gone | Effect::RemovedByHand => drop(self.taken_over.remove(entry)),
                Effect::Deleting
                | Effect::Created
                | Effect::Available
                | Effect::LateRefused { .. }
                | Effect::LateRepeated
                | Effect::InsertedByHand
                | Effect::EditedByHand => {}
            }
        }
    }
}
