//! What must hold after every step, judged by the cloud's ledger and the durable records, not by what the controller says.
//!
//! | invariant | sentence |
//! | --- | --- |
//! | WriteAhead | no entry is asked for whose generation would not survive a power cut at that instant |
//! | SameRequest | a repeated creation has equal token and parameters |
//! | OneEffect | a generation is created at most once |
//! | PublishedAvailable | what a PodDNAT shows is in the table, in effect, with these five |
//! | ForeignUntouched | an entry that somebody else made is never deleted |
//! | Rested | a tuple that was let go rests before another pod gets it |

use std::collections::{BTreeMap, BTreeSet};

use natgw::machine::event::Event;
use natgw::machine::identity::{EntryId, Generation, Mark, TableId};
use natgw::machine::state::State;
use natgw::sandbox::vpc::{Effect, EntryStatus, LedgerLine, NewEntry, Outcome};

use crate::world::World;

const COOLDOWN_MS: u64 = 30_000;

#[derive(Default)]
pub struct Checker {
    pub violations: Vec<(&'static str, String)>,
    durable_seen: usize,
    durable: BTreeSet<Generation>,
    requests: BTreeMap<String, BTreeMap<String, String>>,
    created: BTreeSet<String>,
    late: BTreeSet<String>,
    by_hand: BTreeSet<EntryId>,
    foreign: BTreeSet<EntryId>,
    /// Of each external tuple: when its last entry went and whose it was.
    gone: BTreeMap<String, (u64, String)>,
    steps: u64,
    asleep: bool,
}

impl Checker {
    /// One that looks at nothing, for measurements.
    pub fn asleep() -> Self {
        Self { asleep: true, ..Self::default() }
    }

    pub fn violated(&mut self, invariant: &'static str, evidence: String) {
        self.violations.push((invariant, evidence));
    }

    pub fn check(&mut self, world: &World, lines: &[LedgerLine]) {
        if self.asleep {
            return;
        }
        for record in &world.durable[self.durable_seen.min(world.durable.len())..] {
            self.durable.extend(generations(&record.event));
        }
        self.durable_seen = world.durable.len();
        for line in lines {
            match line {
                LedgerLine::Request(line) if line.action == "CreateForwardEntry" => {
                    if let Outcome::Deferred { .. } = line.outcome {
                        self.late.insert(line.request_id.clone());
                    }
                    self.requested(&line.parameters);
                }
                LedgerLine::Request(_) => {}
                LedgerLine::Effect(line) => {
                    let late = line.request_id.as_ref().is_some_and(|id| self.late.contains(id));
                    self.happened(line.at_ms, &line.effect, line.entry.as_ref(), line.spec.as_ref(), late);
                }
            }
        }
        self.published(world);
        self.steps += 1;
        if self.steps.is_multiple_of(16) {
            for violation in world.controller.check() {
                self.violated(violation.invariant, violation.evidence);
            }
        }
    }

    /// A replayed state is as good as one that was never lost.
    pub fn replayed(&mut self, _world: &World, state: &State) {
        for violation in natgw::machine::check::all(state) {
            self.violated(violation.invariant, format!("after replay: {}", violation.evidence));
        }
    }

    fn requested(&mut self, parameters: &BTreeMap<String, String>) {
        let Some(name) = parameters.get("ForwardEntryName") else { return };
        let Some(mark) = Mark::parse(name) else { return };
        if !self.durable.contains(&mark.generation) {
            self.violated("WriteAhead", format!("{name} was asked for and is not durable"));
        }
        let before = self.requests.entry(name.clone()).or_insert_with(|| parameters.clone());
        if before != parameters {
            let evidence = format!("{before:?}, then {parameters:?}");
            self.violated("SameRequest", evidence);
        }
    }

    fn happened(&mut self, at_ms: u64, effect: &Effect, entry: Option<&EntryId>, spec: Option<&NewEntry>, late: bool) {
        let (Some(entry), Some(spec)) = (entry, spec) else { return };
        let owner = Mark::parse(&spec.name).map_or_else(|| spec.name.clone(), |mark| mark.allocation.to_string());
        let outside = format!("{}:{:?}/{:?}", spec.external_ip, spec.external_port, spec.protocol);
        match effect {
            Effect::Created => {
                if !self.created.insert(spec.name.clone()) {
                    self.violated("OneEffect", format!("{} was created twice", spec.name));
                }
                if let Some((gone_ms, before)) = self.gone.get(&outside)
                    && at_ms < gone_ms + COOLDOWN_MS
                    && *before != owner
                    && !late
                {
                    let evidence = format!("{outside} went from {before} at {gone_ms} to {owner} at {at_ms}");
                    self.violated("Rested", evidence);
                }
                if late {
                    self.by_hand.insert(entry.clone());
                }
            }
            Effect::InsertedByHand => drop(self.foreign.insert(entry.clone())),
            Effect::EditedByHand | Effect::RemovedByHand => {
                self.by_hand.insert(entry.clone());
                self.foreign.remove(entry);
            }
            Effect::Deleting | Effect::Gone if self.foreign.contains(entry) => {
                self.violated("ForeignUntouched", format!("{entry} is somebody else's and was deleted"));
            }
            // What landed late or went by hand was nobody's to rest after.
            Effect::Gone if !self.by_hand.contains(entry) => drop(self.gone.insert(outside, (at_ms, owner))),
            Effect::Gone | Effect::Deleting | Effect::Available | Effect::LateRefused { .. } | Effect::LateRepeated => {
            }
        }
    }

    fn published(&mut self, world: &World) {
        let vpc = world.vpc.borrow();
        for object in world.model.borrow().poddnats() {
            for shown in &object.status.entries {
                let id = EntryId::from(shown.forward_entry_id.as_str());
                if self.by_hand.contains(&id) {
                    continue;
                }
                let found = vpc.entry(&id);
                let right = found.is_some_and(|entry| {
                    entry.status == EntryStatus::Available
                        && entry.spec.external_ip.to_string() == shown.external_ip
                        && entry.spec.internal_ip.to_string() == shown.internal_ip
                });
                if !right {
                    let name = &object.metadata.name;
                    self.violations.push(("PublishedAvailable", format!("{name} shows {shown:?}, there is {found:?}")));
                }
            }
        }
    }
}

/// At rest the tables hold what is published and what others made, and nothing else. That each pod is published, refused or
/// waits for room is what rest means: `Controller::is_settled`.
pub fn converged(world: &World, checker: &mut Checker) {
    let vpc = world.vpc.borrow();
    let tables: Vec<TableId> = vpc.world().gateways.iter().map(|gateway| gateway.table.clone()).collect();
    let in_tables: BTreeSet<EntryId> =
        tables.iter().flat_map(|table| vpc.entries(table).map(|entry| entry.id.clone())).collect();
    let model = world.model.borrow();
    let shown = model.poddnats().flat_map(|object| &object.status.entries);
    let shown: BTreeSet<EntryId> = shown.map(|entry| entry.forward_entry_id.as_str().into()).collect();
    let ours: BTreeSet<EntryId> = in_tables.difference(&checker.foreign).cloned().collect();
    if ours != shown {
        let lines = world.ledger.iter().filter(|line| match line {
            LedgerLine::Effect(line) => {
                line.entry.as_ref().is_some_and(|entry| ours.contains(entry) != shown.contains(entry))
            }
            LedgerLine::Request(_) => false,
        });
        let lines: Vec<_> = lines.collect();
        let evidence = format!("published {shown:?}, in the tables {ours:?}, ledger {lines:?}");
        checker.violated("Converged", evidence);
    }
}

fn generations(event: &Event) -> Vec<Generation> {
    match event {
        Event::Allocated(body) | Event::Recovered(body) => {
            body.items.iter().map(|item| item.generation.into()).collect()
        }
        Event::Regenerated(body) => body.items.iter().map(|(_, _, generation)| (*generation).into()).collect(),
        Event::ItemMoved(body) => vec![body.item.generation.into()],
        Event::ItemsChanged(body) => body.added.iter().map(|item| item.generation.into()).collect(),
        _ => Vec::new(),
    }
}
