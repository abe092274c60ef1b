//! S3 WriteAhead: what a call rests on would survive a power cut at that instant.
//!
//! Creations and claims: every generation named is on the volume of the replica that asks. Deletions: a record on the
//! volume names the entry.

use std::collections::{BTreeMap, BTreeSet};

use natgw::machine::event::{Event, Record};
use natgw::machine::identity::{Generation, Mark};

use super::{Happening, Invariant, Look};
use crate::wire::What;

#[derive(Default)]
struct WriteAhead {
    /// Entries that the records on each volume name.
    named: BTreeMap<usize, BTreeSet<String>>,
}

pub(super) fn make() -> Box<dyn Invariant> {
    Box::new(WriteAhead::default())
}

impl Invariant for WriteAhead {
    fn look(&mut self, look: &Look<'_>, found: &mut Vec<String>) {
        for happening in look.happened {
            match happening {
                Happening::Opened { replica, records, .. } => {
                    self.named.insert(*replica, records.iter().filter_map(entry).collect());
                }
                Happening::Durable { replica, records } => {
                    self.named.entry(*replica).or_default().extend(records.iter().filter_map(entry));
                }
                Happening::Handed { .. } | Happening::Started { .. } | Happening::Stopped { .. } => {}
            }
        }
        let (none, no_generations) = (BTreeSet::new(), BTreeSet::new());
        for call in look.calls {
            let running = look.world.replicas[call.replica].process.as_ref();
            // A call of an earlier life rested on a journal that may be gone by now.
            if running.is_none_or(|process| process.life != call.life) {
                continue;
            }
            let durable = look.facts.durable.get(&call.replica).unwrap_or(&no_generations);
            let missing = |generation: &Generation| !durable.contains(generation);
            match &call.what {
                What::Create(request) => {
                    if Mark::parse(&request.name).is_none_or(|mark| missing(&mark.generation)) {
                        found.push(format!(
                            "{} was asked for and is not durable at replica {}",
                            request.name, call.replica
                        ));
                    }
                }
                What::CreateClaim(mapping) | What::ReplaceClaim(mapping) => {
                    if mapping.items.iter().any(|item| missing(&item.generation)) {
                        found.push(format!("the claim of {} was written and is not durable: {mapping:?}", mapping.key));
                    }
                }
                What::Delete(request) => {
                    if !self.named.get(&call.replica).unwrap_or(&none).contains(request.entry.as_str()) {
                        found.push(format!("{} was deleted, and no durable record names it", request.entry));
                    }
                }
                What::Listed(..)
                | What::PodsListed
                | What::ClaimsListed
                | What::Publish(_)
                | What::DeleteClaim(..)
                | What::StripFinalizer(_)
                | What::MarkPod(_)
                | What::Announce
                | What::WroteOver(..)
                | What::WroteLease(..) => {}
            }
        }
    }
}

fn entry(record: &Record) -> Option<String> {
    match &record.event {
        Event::EntryCreated(body) => Some(body.entry.clone()),
        Event::EntrySeen(body) => Some(body.entry.clone()),
        _ => None,
    }
}
