//! S9 Foreign: an entry that somebody else made, or took over by taking our mark off, is never touched.

use natgw::sandbox::vpc::{Effect, LedgerLine};

use super::{Invariant, Look};

struct Foreign;

pub(super) fn make() -> Box<dyn Invariant> {
    Box::new(Foreign)
}

impl Invariant for Foreign {
    fn look(&mut self, look: &Look<'_>, found: &mut Vec<String>) {
        for line in look.lines {
            let LedgerLine::Effect(line) = line else { continue };
            let Some(fate) = line.entry.as_ref().and_then(|entry| look.facts.entries.get(entry)) else { continue };
            match line.effect {
                // A request that left before the mark was taken off may arrive afterwards: nobody can call it back.
                // What was adopted is S18's.
                Effect::Deleting
                    if fate.foreign
                        && !fate.by_hand
                        && !(look.world.adopts()
                            && line.entry.as_ref().is_some_and(|entry| look.facts.may_be_adopted(entry))) =>
                {
                    found.push(format!("{:?} is somebody else's and was deleted: {fate:?}", line.entry));
                }
                Effect::Deleting
                | Effect::Created
                | Effect::Available
                | Effect::Gone
                | Effect::LateRefused { .. }
                | Effect::LateRepeated
                | Effect::InsertedByHand
                | Effect::EditedByHand
                | Effect::RemovedByHand => {}
            }
        }
    }
}
