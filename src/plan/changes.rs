//! What would be changed, read from the state that a rehearsal ended with, and the decision behind each change.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::machine::event::words::{self, Subjects};
use crate::machine::event::{Event, Record};
use crate::machine::identity::{AllocationId, EntryId, PodKey, PodUid, TableId};
use crate::machine::intent::Intent;
use crate::machine::state::{Allocation, Entry, Item, Phase, Standing, State};

/// One change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// What would be done: `adopt-entry`, which is no call, `create-entry`, `delete-entry`, `write-claim`, `publish`, `withdraw`, `release-claim`,
    /// `drop-claim` or `mark-pod`.
    pub action: &'static str,
    /// The pod, or the PodDNAT of its name; the table where there is none.
    pub subject: String,
    /// What exactly.
    pub detail: String,
    /// The decision.
    pub why: String,
}

/// A pod that asks and has no mapping.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unserved {
    /// The pod.
    pub pod: String,
    /// `waiting`, `refused` or `open`.
    pub standing: &'static str,
    /// The reason in one word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    /// The reason as a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<&'static str>,
}

/// Kinds of decisions (`machine::event`).
const DECIDED: std::ops::RangeInclusive<u16> = 40..=59;

/// All changes: allocation by allocation, then what belongs to none.
pub(super) fn of(state: &State, records: &[Record]) -> Vec<Change> {
    let decisions = Decisions::of(records);
    let mut intents = Intents::of(state);
    let mut changes = Vec::new();
    for (id, allocation) in state.allocations() {
        let why = decisions.about(*id, allocation);
        let of_it = intents.of_allocation.remove(id).unwrap_or_default();
        let new = decisions.adopted.contains(id);
        changes.extend(of_allocation(allocation, &of_it, new).map(|(action, detail)| Change {
            action,
            subject: allocation.key().to_string(),
            detail,
            why: why.clone(),
        }));
    }
    changes.extend(intents.others.iter().filter_map(|intent| alone(state, &decisions, intent)));
    changes
}

/// Pods that ask and would stay without a mapping.
pub(super) fn unserved(state: &State) -> Vec<Unserved> {
    let asking = state.pods().filter(|(_, pod)| pod.has_asked());
    let unserved = asking.filter_map(|(_, pod)| {
        let (standing, reason) = match pod.standing() {
            Standing::Allocated(_) => return None,
            Standing::Waiting { reason, .. } => ("waiting", Some((reason.word(), reason.sentence()))),
            Standing::Refused(reason) => ("refused", Some((reason.word(), reason.sentence()))),
            Standing::Open if pod.is_served() => ("open", None),
            Standing::Open => return None,
        };
        let (reason, message) = reason.unzip();
        Some(Unserved { pod: pod.key().to_string(), standing, reason, message })
    });
    unserved.collect()
}

/// What is on the agenda, by allocation where it is one's.
#[derive(Default)]
struct Intents {
    of_allocation: BTreeMap<AllocationId, Vec<Intent>>,
    others: Vec<Intent>,
}

impl Intents {
    fn of(state: &State) -> Self {
        let mut all = Self::default();
        for (intent, _) in state.agenda().iter() {
            let id = match intent {
                Intent::WriteClaim { allocation, .. }
                | Intent::Publish { allocation, .. }
                | Intent::Withdraw { allocation }
                | Intent::ReleaseClaim { allocation }
                | Intent::Bind { allocation, .. } => Some(*allocation),
                Intent::Unbind { table, entry } => state.owner_of(table, entry),
                Intent::DropClaim { .. } | Intent::MarkPod { .. } => None,
                // These only find something out.
                Intent::Locate { .. } | Intent::Forgo { .. } | Intent::Observe { .. } => continue,
            };
            match id {
                Some(id) => all.of_allocation.entry(id).or_default().push(intent.clone()),
                None => all.others.push(intent.clone()),
            }
        }
        all
    }
}

/// The steps of one allocation in their order: down first, then up.
/// `new`: it was decided just now.
fn of_allocation(
    allocation: &Allocation,
    intents: &[Intent],
    new: bool,
) -> impl Iterator<Item = (&'static str, String)> {
    let has = |wanted: fn(&Intent) -> bool| intents.iter().any(wanted);
    let address = allocation.external_address();
    let mut steps = Vec::new();
    if has(|intent| matches!(intent, Intent::Withdraw { .. })) {
        steps.push(("withdraw", "the status would show no entries".to_owned()));
    }
    let adopted = allocation.adopted_entries();
    for (item, entry) in allocation.items_staying().zip(adopted).filter(|_| new) {
        steps.extend(entry.map(|id| ("adopt-entry", format!("{id}: {}", tuple(allocation, item)))));
    }
    for item in allocation.items() {
        let goes = allocation.removal(item).is_some();
        match item.entry() {
            Entry::Present { id, .. } | Entry::Deleting { id, .. } if goes => {
                steps.push(("delete-entry", format!("{id}: {}", tuple(allocation, item))));
            }
            Entry::Planned | Entry::Unknown { .. } | Entry::Refused { .. } if !goes => {
                steps.push(("create-entry", tuple(allocation, item)));
            }
            Entry::Present { .. }
            | Entry::Deleting { .. }
            | Entry::Planned
            | Entry::Unknown { .. }
            | Entry::Refused { .. }
            | Entry::Gone => {}
        }
    }
    if has(|intent| matches!(intent, Intent::WriteClaim { .. })) {
        // The claim comes before every entry.
        steps.insert(0, ("write-claim", address.clone()));
    }
    if has(|intent| matches!(intent, Intent::Publish { .. })) {
        steps.push(("publish", address));
    }
    if matches!(allocation.phase, Phase::Releasing { .. }) {
        steps.push(("release-claim", "the PodDNAT would be deleted and its finalizer taken off".to_owned()));
    }
    steps.into_iter()
}

fn tuple(allocation: &Allocation, item: &Item) -> String {
    let table = allocation.table();
    format!("{table}: {}", allocation.tuple(item))
}

/// A change that belongs to no allocation.
fn alone(state: &State, decisions: &Decisions, intent: &Intent) -> Option<Change> {
    let (action, subject, detail, why) = match intent {
        Intent::Unbind { table, entry } => {
            ("delete-entry", table.to_string(), entry.to_string(), decisions.about_entry(table, entry))
        }
        Intent::DropClaim { key, uid } => {
            ("drop-claim", key.to_string(), format!("the PodDNAT of UID {uid}"), decisions.about_name(key))
        }
        Intent::MarkPod { pod, note } => {
            let (word, sentence) = note.words();
            let subject = state.pod(pod).map_or_else(|| pod.to_string(), |known| known.key().to_string());
            let why = decisions.of_pod.get(pod).cloned();
            ("mark-pod", subject, format!("{}: {word}", note.phase), why.unwrap_or_else(|| sentence.to_owned()))
        }
        Intent::WriteClaim { .. }
        | Intent::Publish { .. }
        | Intent::Withdraw { .. }
        | Intent::ReleaseClaim { .. }
        | Intent::Bind { .. }
        | Intent::Locate { .. }
        | Intent::Forgo { .. }
        | Intent::Observe { .. } => return None,
    };
    Some(Change { action, subject, detail, why })
}

/// The last decision about each thing.
#[derive(Default)]
struct Decisions {
    of_allocation: BTreeMap<AllocationId, String>,
    of_pod: BTreeMap<PodUid, String>,
    of_name: BTreeMap<PodKey, String>,
    of_entry: BTreeMap<(TableId, EntryId), String>,
    /// Allocations that were adopted just now.
    adopted: BTreeSet<AllocationId>,
}

impl Decisions {
    fn of(records: &[Record]) -> Self {
        let mut all = Self::default();
        for record in records.iter().filter(|record| DECIDED.contains(&record.event.kind())) {
            if let Event::Adopted(body) = &record.event {
                all.adopted.insert(body.allocation.into());
            }
            let sentence = words::sentence(record);
            let Subjects { pods, names, allocations, entries, .. } = words::subjects(&record.event);
            all.of_allocation.extend(allocations.into_iter().map(|id| (id, sentence.clone())));
            all.of_pod.extend(pods.into_iter().map(|uid| (uid, sentence.clone())));
            all.of_name.extend(names.into_iter().map(|key| (key, sentence.clone())));
            all.of_entry.extend(entries.into_iter().map(|entry| (entry, sentence.clone())));
        }
        all
    }

    /// Of what was decided earlier the state still knows why it ends or moves.
    fn about(&self, id: AllocationId, allocation: &Allocation) -> String {
        let known = || {
            let (word, sentence) = allocation.words();
            if allocation.is_live() { earlier() } else { format!("{word}: {sentence}; {}", earlier()) }
        };
        self.of_allocation.get(&id).cloned().unwrap_or_else(known)
    }

    fn about_entry(&self, table: &TableId, entry: &EntryId) -> String {
        self.of_entry.get(&(table.clone(), entry.clone())).cloned().unwrap_or_else(earlier)
    }

    fn about_name(&self, key: &PodKey) -> String {
        self.of_name.get(key).cloned().unwrap_or_else(earlier)
    }
}

fn earlier() -> String {
    "decided earlier, and not known to be done: natgw-replay explain tells more".to_owned()
}
