//! S20 Original: while what another controller left is there and adoption is off, nothing is decided; and what was adopted
//! is never deleted while its pod lives as it did.

use std::collections::{BTreeMap, BTreeSet};

use natgw::machine::event::{Event, Record};
use natgw::machine::identity::EntryId;
use natgw::sandbox::cluster::Change;
use natgw::sandbox::vpc::{Effect, LedgerLine};

use super::{Happening, Invariant, Look};
use crate::faults::Fault;
use crate::original::is_its;

#[derive(Default)]
struct Original {
    /// UIDs of the PodDNATs that it left, once they were looked at; those that are there without interruption.
    left: Option<BTreeSet<String>>,
    /// The pod of each entry when that was made.
    pods: BTreeMap<EntryId, String>,
    seen: usize,
    /// Pods that were seen to ask otherwise, to move or to end.
    changed: BTreeSet<String>,
    asked: BTreeMap<String, Vec<(String, String)>>,
}

pub(super) fn make() -> Box<dyn Invariant> {
    Box::new(Original::default())
}

/// After which of these an adopted mapping may rightly end, beside the end of its pod: somebody's hand on it, another
/// route, a lost EIP, a cluster that was put back.
const ENDING: [Fault; 7] = [
    Fault::ApiRestored,
    Fault::ClaimDeleted,
    Fault::ClaimEdited,
    Fault::ClaimMalformed,
    Fault::FinalizerStripped,
    Fault::RouteMoved,
    Fault::EipLocked,
];

impl Original {
    fn learn(&mut self, look: &Look<'_>) {
        let model = look.world.model.borrow();
        let there: BTreeSet<String> = model
            .poddnats()
            .filter(|object| is_its(object) && object.metadata.deletion_timestamp.is_none())
            .map(|object| object.metadata.uid.clone())
            .collect();
        match &mut self.left {
            Some(left) => left.retain(|uid| there.contains(uid)),
            None => self.left = Some(if look.world.plan.original.is_some() { there } else { BTreeSet::new() }),
        }
        for change in &look.world.history[self.seen.min(look.world.history.len())..] {
            match change {
                Change::Pod(pod) => {
                    let says = |(name, _): &&(String, String)| !name.ends_with("/pod-dnat-status");
                    let mut asks: Vec<_> = pod.annotations.iter().filter(says).cloned().collect();
                    asks.push(("ip".to_owned(), pod.ip.map(|ip| ip.to_string()).unwrap_or_default()));
                    let ends = pod.terminal || pod.terminating_grace_ms.is_some() || pod.namespace_terminating;
                    // An address that comes is no change.
                    let before = self.asked.entry(pod.uid.clone()).or_insert_with(|| asks.clone());
                    if pod.ip.is_some() && before.last().is_some_and(|(_, ip)| ip.is_empty()) {
                        before.clone_from(&asks);
                    }
                    if *before != asks || ends {
                        self.changed.insert(pod.uid.clone());
                    }
                }
                Change::PodGone(gone) => drop(self.changed.insert(gone.uid.clone())),
                Change::Claim(_) | Change::ClaimGone(_) => {}
            }
        }
        self.seen = look.world.history.len();
    }

    fn decided(&self, look: &Look<'_>, record: &Record, found: &mut Vec<String>) {
        let there = self.left.as_ref().is_some_and(|left| !left.is_empty());
        let restored = count(look, Fault::ApiRestored) > 0;
        if there && !look.world.adopts() && !restored && is_decision(&record.event) {
            let left = self.left.as_ref();
            found.push(format!("adoption is off, {left:?} are there, and this is decided: {record:?}"));
        }
    }

    fn deleted(&self, look: &Look<'_>, entry: &EntryId, found: &mut Vec<String>) {
        let Some(pod) = self.pods.get(entry).filter(|_| look.facts.may_be_adopted(entry)) else { return };
        let rightly = self.changed.contains(pod) || ENDING.iter().any(|fault| count(look, *fault) > 0);
        if !rightly {
            found.push(format!("{entry} was adopted, and was deleted while pod {pod} lives"));
        }
    }
}

impl Invariant for Original {
    fn look(&mut self, look: &Look<'_>, found: &mut Vec<String>) {
        if look.world.plan.original.is_none() {
            return;
        }
        self.learn(look);
        for happening in look.happened {
            if let Happening::Handed { records, .. } = happening {
                records.iter().for_each(|record| self.decided(look, record, found));
            }
        }
        for line in look.lines {
            let LedgerLine::Effect(line) = line else { continue };
            let (Some(entry), Some(spec)) = (&line.entry, &line.spec) else { continue };
            match line.effect {
                Effect::InsertedByHand => {
                    let model = look.world.model.borrow();
                    let pod = model.pods().find(|pod| pod.ip == Some(spec.internal_ip)).map(|pod| pod.uid.clone());
                    self.pods.extend(pod.map(|pod| (entry.clone(), pod)));
                }
                Effect::Deleting => self.deleted(look, entry, found),
                Effect::Created
                | Effect::Available
                | Effect::Gone
                | Effect::LateRefused { .. }
                | Effect::LateRepeated
                | Effect::EditedByHand
                | Effect::RemovedByHand => {}
            }
        }
    }
}

fn count(look: &Look<'_>, fault: Fault) -> u64 {
    look.world.outside.faults.borrow().counts()[fault as usize]
}

/// Whether a record decides something, other than that nothing is decided.
const fn is_decision(event: &Event) -> bool {
    matches!(event.kind(), 40..=59) && !matches!(event, Event::Waited(_) | Event::Halted(_) | Event::Resumed(_))
}
