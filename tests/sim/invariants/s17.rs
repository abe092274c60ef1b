//! S17 Finalizer: the claim of an allocation is let go only when none of its entries is left: the finalizer says that some
//! may be.

use natgw::machine::identity::Mark;
use natgw::ports::effect::Effect;
use natgw::sandbox::vpc::EntryStatus;

use super::{Happening, Invariant, Look};
use crate::faults::Fault;

struct Finalizer;

pub(super) fn make() -> Box<dyn Invariant> {
    Box::new(Finalizer)
}

impl Invariant for Finalizer {
    fn look(&mut self, look: &Look<'_>, found: &mut Vec<String>) {
        for happening in look.happened {
            let Happening::Started { replica, effect: Effect::ReleaseClaim { key, allocation, .. }, .. } = happening
            else {
                continue;
            };
            let process = look.world.replicas[*replica].process.as_ref();
            let known = process.and_then(|process| process.controller.state().allocation(*allocation));
            let Some(pod) = known.map(|known| known.pod().clone()) else { continue };
            let vpc = look.world.vpc.borrow();
            let mut entries = vpc.world().gateways.iter().flat_map(|gateway| vpc.entries(&gateway.table));
            let left = entries.find(|entry| {
                let ours = Mark::parse(&entry.spec.name)
                    .is_some_and(|mark| mark.allocation == *allocation && mark.is_for(&pod));
                // Where listings show the past, one may miss an entry whose deletion is acknowledged.
                let going = entry.status == EntryStatus::Deleting && shows_the_past(look);
                // What came late, or was changed by somebody, is found by the next listing.
                let fate = look.facts.entries.get(&entry.id);
                // Two leaders of one term that somebody put back give one pod the same numbers.
                let known = |fate: &super::Fate| {
                    !fate.late && !fate.by_hand && !fate.foreign && !look.facts.forgotten_since(fate.created_ms)
                };
                ours && !going && fate.is_some_and(known)
            });
            if let Some(entry) = left {
                found.push(format!("the claim of {key} for {allocation} is let go, and there is {entry:?}"));
            }
        }
    }
}

/// Whether listings in this world may show what was.
fn shows_the_past(look: &Look<'_>) -> bool {
    let faults = look.world.outside.faults.borrow();
    [Fault::ReadLag, Fault::PatchyView, Fault::ShiftedPage].iter().any(|fault| faults.is_on(*fault))
}
