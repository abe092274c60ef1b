//! S6 OneEffect: a generation is created at most once, and always asked for in the same words; what is deleted is stale or
//! was let go; a port that was let go rests before somebody else gets it.

use std::collections::BTreeMap;

use natgw::machine::identity::{EntryId, Mark, Tuple};
use natgw::ports::cloud::{CreateEntry, DeleteEntry};
use natgw::ports::effect::Effect as PortEffect;
use natgw::sandbox::vpc::{Effect, LedgerLine, NewEntry};

use super::{Happening, Invariant, Look};
use crate::faults::Fault;
use crate::plan::COOLDOWN_MS;
use crate::wire::What;

/// The shortest rest that a clock may measure which runs a tenth too fast.
const SKEWED_REST_MS: u64 = COOLDOWN_MS / 10 * 9;

#[derive(Default)]
struct OneEffect {
    /// What was asked for under each name, and when first.
    requests: BTreeMap<String, (CreateEntry, u64)>,
    /// Entries by name, that came by a request of ours and did not go by somebody else's hand.
    created: BTreeMap<String, EntryId>,
    /// Of each external tuple: when its last entry went, and what that was.
    gone: BTreeMap<String, (u64, NewEntry)>,
}

pub(super) fn make() -> Box<dyn Invariant> {
    Box::new(OneEffect::default())
}

impl Invariant for OneEffect {
    fn look(&mut self, look: &Look<'_>, found: &mut Vec<String>) {
        for call in look.calls {
            match &call.what {
                What::Create(request) => {
                    let first = || (request.clone(), call.at_ms);
                    let (before, at_ms) = self.requests.entry(request.name.clone()).or_insert_with(first);
                    // Where a term was forgotten and used twice, so were its generations.
                    if before != request && !look.facts.forgotten_since(*at_ms) {
                        found.push(format!("{before:?} was asked for, then {request:?}"));
                    }
                }
                What::Delete(_)
                | What::Listed(..)
                | What::PodsListed
                | What::ClaimsListed
                | What::CreateClaim(_)
                | What::ReplaceClaim(_)
                | What::Publish(_)
                | What::DeleteClaim(..)
                | What::StripFinalizer(_)
                | What::MarkPod(_)
                | What::Announce
                | What::WroteOver(..)
                | What::WroteLease(..) => {}
            }
        }
        for happening in look.happened {
            if let Happening::Started { replica, effect: PortEffect::Delete(request), .. } = happening {
                Self::deleted(look, *replica, request, found);
            }
        }
        for line in look.lines {
            let LedgerLine::Effect(line) = line else { continue };
            let (Some(entry), Some(spec)) = (&line.entry, &line.spec) else { continue };
            let fate = look.facts.entries.get(entry);
            match &line.effect {
                Effect::Created => {
                    let late = fate.is_some_and(|fate| fate.late);
                    if let Some(before) = self.created.insert(spec.name.clone(), entry.clone()) {
                        // A late request whose token is forgotten makes it again: nobody can help that. But never a second
                        // one beside the first.
                        // Nor a leader without history that reads an old claim.
                        let gone_ms = look.facts.entries.get(&before).and_then(|fate| fate.gone_ms);
                        let unknowing = late || gone_ms.is_some_and(|gone_ms| look.facts.rebased_since(gone_ms));
                        if gone_ms.is_none() || !unknowing {
                            found.push(format!("{} was created twice: {before}, then {entry}", spec.name));
                        }
                    }
                    if !late {
                        self.rested(look, line.at_ms, spec, found);
                    }
                }
                // What somebody removed may have been asked for again before anybody noticed.
                Effect::RemovedByHand | Effect::EditedByHand => self.created.retain(|_, id| id != entry),
                Effect::Gone if fate.is_some_and(|fate| !fate.by_hand && !fate.late) => {
                    self.gone.insert(outside(spec), (line.at_ms, spec.clone()));
                }
                Effect::Gone
                | Effect::Available
                | Effect::Deleting
                | Effect::LateRefused { .. }
                | Effect::LateRepeated
                | Effect::InsertedByHand => {}
            }
        }
    }
}

impl OneEffect {
    /// A deletion starts: the entry is not what a live allocation of who asks wants. (What is learned while it is on its
    /// way comes too late: nobody can call it back.)
    fn deleted(look: &Look<'_>, replica: usize, request: &DeleteEntry, found: &mut Vec<String>) {
        let Some(fate) = look.facts.entries.get(&request.entry) else { return };
        let Some(process) = look.world.replicas[replica].process.as_ref() else { return };
        let Some(mark) = Mark::parse(&fate.spec.name) else { return };
        let state = process.controller.state();
        let Some(allocation) = state.allocation(mark.allocation).filter(|allocation| allocation.is_live()) else {
            return;
        };
        let wanted = allocation.items_staying().any(|item| {
            let five = tuple(&fate.spec).is_some_and(|five| five == allocation.tuple(item));
            item.generation() == mark.generation && five
        });
        if wanted {
            found.push(format!("{} is what {} wants, and was deleted: {fate:?}", request.entry, mark.allocation));
        }
    }

    fn rested(&self, look: &Look<'_>, at_ms: u64, spec: &NewEntry, found: &mut Vec<String>) {
        let Some((gone_ms, last)) = self.gone.get(&outside(spec)) else { return };
        let (before, after) = (owner(last), owner(spec));
        // What was adopted carried no mark: whose it became it does not say.
        if crate::original::is_of_original(&before) {
            return;
        }
        // A claim in which somebody gave the allocation another number is all that a leader without history knows: it is
        // still the same creation for the same pod.
        if look.world.outside.faults.borrow().is_on(Fault::ClaimEdited) && is_renumbered(last, spec) {
            return;
        }
        let skewed = look.world.outside.faults.borrow().is_on(Fault::ClockSkewed);
        let rest_ms = if skewed { SKEWED_REST_MS } else { COOLDOWN_MS };
        if at_ms < gone_ms + rest_ms && before != after && !look.facts.forgotten_since(*gone_ms) {
            found.push(format!("{} went from {before} at {gone_ms} to {after} at {at_ms}", outside(spec)));
        }
    }
}

/// The five of an entry of one port.
pub fn tuple(spec: &NewEntry) -> Option<Tuple> {
    let (external, internal) = (spec.external_port.ends(), spec.internal_port.ends());
    Some(Tuple {
        external_ip: spec.external_ip,
        external_port: (external.0 == external.1).then_some(external.0)?,
        internal_ip: spec.internal_ip,
        internal_port: (internal.0 == internal.1).then_some(internal.0)?,
        protocol: spec.protocol.one()?,
    })
}

fn outside(spec: &NewEntry) -> String {
    format!("{}:{:?}/{:?}", spec.external_ip, spec.external_port, spec.protocol)
}

/// Whether two entries are the same creation for the same address of the same pod, but for the allocation's number.
fn is_renumbered(before: &NewEntry, after: &NewEntry) -> bool {
    let [Some(mark), Some(mut renumbered)] = [before, after].map(|spec| Mark::parse(&spec.name)) else { return false };
    renumbered.allocation = mark.allocation;
    renumbered == mark && (before.internal_ip, &before.internal_port) == (after.internal_ip, &after.internal_port)
}

fn owner(spec: &NewEntry) -> String {
    Mark::parse(&spec.name).map_or_else(|| spec.name.clone(), |mark| mark.allocation.to_string())
}
