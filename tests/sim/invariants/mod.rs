//! What must hold after every step, judged by the cloud's ledger, the calls as they left, and the records that would
//! survive; not by what a controller says of itself.
//!
//! To add one: a file with a type that is [`Invariant`], a line in [`TABLE`], and a mutant that it catches.

mod l08;
mod s01;
mod s02;
mod s03;
mod s04;
mod s05;
mod s06;
mod s07;
mod s08;
mod s09;
mod s10;
mod s11;
mod s12;
mod s13;
mod s14;
mod s15;
mod s16;
mod s17;
mod s18;
mod s19;
mod s20;
mod s21;

use std::collections::{BTreeMap, BTreeSet};

use natgw::cluster::poddnat::Entry as ShownEntry;
use natgw::controller::step::Stop;
use natgw::machine::event::{Event, Record};
use natgw::machine::identity::{EntryId, Generation, Mark, PodKey, TableId};
use natgw::ports::effect::Effect;
use natgw::sandbox::vpc::{Effect as CloudEffect, LedgerLine, NewEntry, Outcome};

pub use s06::tuple;

use crate::faults::Fault;
use crate::plan::TIMING;
use crate::wire::{Call, What};
use crate::world::World;

/// A broken invariant: its number, what was found, and when.
#[derive(Clone, Debug)]
pub struct Violation {
    pub invariant: &'static str,
    pub evidence: String,
    pub step: u64,
    pub at_ms: u64,
}

/// Something that happened inside of a replica.
#[derive(Clone, Debug)]
pub enum Happening {
    /// A process opened its journal: whose it is, what is in it, and why it is not continuous, if it is not.
    Opened { replica: usize, life: u64, journal: [u8; 16], records: Vec<Record>, rebased: Option<String> },
    /// The step handed a group to the journal.
    Handed { replica: usize, records: Vec<Record> },
    /// A group is durable.
    Durable { replica: usize, records: Vec<Record> },
    /// The step let an effect start; until when it may, in true time.
    Started { replica: usize, life: u64, effect: Effect, lease_until: Option<u64> },
    /// The step ended the process.
    Stopped { replica: usize, life: u64, stop: Stop },
}

/// What one look is about.
pub struct Look<'a> {
    pub world: &'a World,
    pub happened: &'a [Happening],
    pub lines: &'a [LedgerLine],
    pub calls: &'a [Call],
    pub facts: &'a Facts,
}

/// One invariant.
pub trait Invariant {
    /// Looks at what happened.
    fn look(&mut self, look: &Look<'_>, found: &mut Vec<String>);

    /// Looks at a world that has come to rest.
    fn rest(&mut self, _world: &World, _facts: &Facts, _found: &mut Vec<String>) {}

    /// Figures for people: a name and a number each.
    fn figures(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }
}

type Make = fn() -> Box<dyn Invariant>;

/// Number, name, sentence, where it comes from.
pub const TABLE: &[(&str, &str, &str, &str, Make)] = &[
    ("S1", "OneOwner", "no external tuple has two owners in any fold", "design.md §4", s01::make),
    ("S2", "Exposure", "an entry sends to a pod of another UID for a bounded time only", "design.md §4", s02::make),
    ("S3", "WriteAhead", "what a call rests on would survive a power cut at that instant", "design.md §2.1", s03::make),
    ("S4", "NothingLost", "what was acknowledged is there again, or the opening says that it is not", "§6", s04::make),
    ("S5", "Barrier", "no call changes a table before its term has read it completely", "design.md §6", s05::make),
    (
        "S6",
        "OneEffect",
        "a generation is created at most once, with one request; what goes is stale or released",
        "§5",
        s06::make,
    ),
    (
        "S7",
        "OneTerm",
        "a term has one journal, calls start inside of the lease, late ones harm nothing published",
        "§6",
        s07::make,
    ),
    ("S8", "Replay", "the fold of what is on disk is the fold that was", "design.md §2.2", s08::make),
    ("S9", "Foreign", "somebody else's entry is never touched", "design.md §5", s09::make),
    ("S10", "Contiguous", "numbers follow each other and terms never fall", "design.md §6", s10::make),
    ("S11", "Bounded", "groups, calls under way and records stay within their limits", "design.md §2.7", s11::make),
    ("S12", "Canary", "what is nobody's business is in no record, mark or claim", "design.md §7", s12::make),
    ("S13", "Published", "what is shown is in effect, and is taken back before it goes", "design.md §5", s13::make),
    ("S14", "Gone", "no mapping of a pod that is served is taken down", "design.md §5", s14::make),
    ("S15", "Order", "nothing refused is asked for again, nothing goes unseen, nothing ends early", "§5", s15::make),
    ("S16", "Watched", "what may land late is looked for every 15 s", "design.md §2.5", s16::make),
    ("S17", "Finalizer", "a claim is let go only when none of its entries is left", "design.md §5", s17::make),
    ("S18", "Compared", "a PodDNAT is written only over the version that was read", "design.md §5", s18::make),
    ("S19", "NoReturn", "what has gone does not come back", "design.md §5", s19::make),
    ("S20", "Original", "beside another controller nothing is decided, and what was adopted stays", "§6", s20::make),
    ("S21", "ShortDisk", "while a journal's disk is short nothing new is allocated", "design.md §6", s21::make),
    ("L8", "InOrder", "who waits for room in a table is served before whoever asked later", "design.md §4", l08::make),
];

/// All invariants and what they share.
#[derive(Default)]
pub struct Checker {
    invariants: Vec<(&'static str, Box<dyn Invariant>)>,
    pub facts: Facts,
    pub violations: Vec<Violation>,
    looks: u64,
}

/// After these nobody knows which terms there were, nor which journals.
const PUT_BACK: [Fault; 3] = [Fault::LeaseEdited, Fault::LeaseDeleted, Fault::ApiRestored];

/// Faults that take the lock from a leader who goes on, with another term, until it hears of it.
const TAKEN: [Fault; 1] = [Fault::LeaseChurn];

/// So long may two lead with one term when the lock was put back: until the first does not get it renewed, and what it had
/// sent has arrived.
const TWO_LEAD_MS: u64 = 60_000;

/// How often the machine's own invariants are checked, in looks: they cost the size of the state.
const MACHINE_EVERY: u64 = 64;

impl Checker {
    pub fn new() -> Self {
        let invariants = TABLE.iter().map(|(id, _, _, _, make)| (*id, make())).collect();
        Self { invariants, ..Self::default() }
    }

    /// One that looks at nothing, for measurements.
    pub fn sleep(&mut self) {
        self.invariants.clear();
        self.looks = 1;
    }

    pub fn violated(&mut self, world: &World, invariant: &'static str, evidence: String) {
        self.violations.push(Violation { invariant, evidence, step: world.steps, at_ms: world.now.get() });
    }

    /// Somebody edited the entries in a PodDNAT's status, and left these.
    pub fn status_left(&mut self, key: &PodKey, entries: Vec<ShownEntry>) {
        self.facts.statuses_left.insert(key.clone(), entries);
    }

    /// Somebody edited a PodDNAT.
    pub fn edited(&mut self, key: &PodKey) {
        self.facts.edited.insert(key.clone(), None);
    }

    /// The cluster was put back to a backup: these pods are there again.
    pub fn revived(&mut self, pods: BTreeSet<String>) {
        self.facts.revived.extend(pods);
    }

    pub fn look(&mut self, world: &World, happened: &[Happening], lines: &[LedgerLine], calls: &[Call]) {
        if self.invariants.is_empty() {
            return;
        }
        self.facts.learn(world, happened, lines, calls);
        let mut found = Vec::new();
        let look = Look { world, happened, lines, calls, facts: &self.facts };
        for (id, invariant) in &mut self.invariants {
            let mut evidence = Vec::new();
            invariant.look(&look, &mut evidence);
            found.extend(evidence.into_iter().map(|evidence| (*id, evidence)));
        }
        self.looks += 1;
        if self.looks.is_multiple_of(MACHINE_EVERY) {
            let processes = world.replicas.iter().filter_map(|replica| replica.process.as_ref());
            let broken = processes.flat_map(|process| process.controller.check());
            found.extend(broken.map(|violation| (violation.invariant, violation.evidence)));
        }
        for happening in happened {
            if let Happening::Stopped {
                replica,
                life,
                stop: stop @ (Stop::Machine { .. } | Stop::JournalStalled { .. }),
            } = happening
            {
                let slow = matches!(stop, Stop::JournalStalled { .. });
                // What was not confirmed when the world became calm may end its process within the deadline.
                let late = world.calm && world.now.get() > world.calm_ms + 2 * TIMING.renew_deadline_ms;
                if !slow || late {
                    found.push(("Stop", format!("replica {replica} in life {life}: {stop}")));
                }
            }
        }
        for (id, evidence) in found {
            self.violated(world, id, evidence);
        }
    }

    /// Looks at a world that has come to rest.
    pub fn rest(&mut self, world: &World) {
        let mut found = Vec::new();
        for (id, invariant) in &mut self.invariants {
            let mut evidence = Vec::new();
            invariant.rest(world, &self.facts, &mut evidence);
            found.extend(evidence.into_iter().map(|evidence| (*id, evidence)));
        }
        for (id, evidence) in found {
            self.violated(world, id, evidence);
        }
    }

    /// Figures for people.
    pub fn figures(&self) -> BTreeMap<&'static str, u64> {
        self.invariants.iter().flat_map(|(_, invariant)| invariant.figures()).collect()
    }
}

/// What is known of the world beside what the controllers know.
#[derive(Default)]
pub struct Facts {
    /// Generations that each replica's volume holds.
    pub durable: BTreeMap<usize, BTreeSet<Generation>>,
    /// All entries that ever were.
    pub entries: BTreeMap<EntryId, Fate>,
    /// Requests whose effect was put off.
    pub deferred: BTreeSet<String>,
    /// PodDNATs that somebody edited, until what they show is ours again, each with what was last published since.
    pub edited: BTreeMap<PodKey, Option<Vec<EntryId>>>,
    /// What the hand that edited a status last left in it.
    pub statuses_left: BTreeMap<PodKey, Vec<ShownEntry>>,
    /// Pods that had gone, or ended, when the cluster was put back to a backup in which they run.
    pub revived: BTreeSet<String>,
    /// When a leader last began without history.
    rebased_ms: Option<u64>,
    /// When somebody last put the lock back.
    forgotten: Last,
    /// When somebody last took it from its holder.
    taken: Last,
    /// When each gateway's table was last not there.
    vanished_ms: BTreeMap<TableId, u64>,
}

/// When some faults last struck, and how often they have.
#[derive(Default)]
struct Last {
    at_ms: Option<u64>,
    times: u64,
}

impl Last {
    fn learn(&mut self, world: &World, of: &[Fault]) {
        let faults = world.outside.faults.borrow();
        let times = of.iter().map(|fault| faults.counts()[*fault as usize]).sum();
        if times > self.times {
            *self = Self { at_ms: Some(world.now.get()), times };
        }
    }

    /// Since then, or so shortly before that what followed from it may still be under way.
    fn is_since(&self, at_ms: u64) -> bool {
        self.at_ms.is_some_and(|struck_ms| struck_ms + TWO_LEAD_MS >= at_ms)
    }
}

/// An entry from its beginning to its end.
#[derive(Clone, Debug)]
pub struct Fate {
    pub spec: NewEntry,
    pub created_ms: u64,
    pub gone_ms: Option<u64>,
    /// Somebody else made it, or its mark was taken off.
    pub foreign: bool,
    /// Somebody edited or removed it.
    pub by_hand: bool,
    /// It came by a request that was late.
    pub late: bool,
}

impl Facts {
    /// Whether an entry was another controller's and is what it made: it may be adopted.
    pub fn may_be_adopted(&self, entry: &EntryId) -> bool {
        self.entries.get(entry).is_some_and(|fate| !fate.by_hand && crate::original::is_of_original(&fate.spec.name))
    }

    /// The mark of an entry, as it is now.
    pub fn mark(&self, entry: &EntryId) -> Option<Mark> {
        self.entries.get(entry).and_then(|fate| Mark::parse(&fate.spec.name))
    }

    /// Whether a leader began without history since then.
    pub fn rebased_since(&self, at_ms: u64) -> bool {
        self.rebased_ms.is_some_and(|rebased_ms| rebased_ms >= at_ms)
    }

    /// Whether somebody put the lock back since then, or so shortly before that two may have led with one term.
    pub fn forgotten_since(&self, at_ms: u64) -> bool {
        self.forgotten.is_since(at_ms)
    }

    /// Whether two may have led since then because of what somebody did to the lock.
    pub fn two_led_since(&self, at_ms: u64) -> bool {
        self.forgotten.is_since(at_ms) || self.taken.is_since(at_ms)
    }

    /// Whether a table was away since then.
    pub fn vanished_since(&self, table: &TableId, at_ms: u64) -> bool {
        self.vanished_ms.get(table).is_some_and(|vanished_ms| *vanished_ms >= at_ms)
    }

    fn learn(&mut self, world: &World, happened: &[Happening], lines: &[LedgerLine], calls: &[Call]) {
        let now_ms = world.now.get();
        self.forgotten.learn(world, &PUT_BACK);
        self.taken.learn(world, &TAKEN);
        for gateway in &world.vpc.borrow().world().vanished {
            self.vanished_ms.insert(gateway.table.clone(), now_ms);
        }
        self.learn_shown(world, calls);
        for happening in happened {
            if let Happening::Handed { records, .. } = happening
                && records.iter().any(|record| matches!(record.event, Event::Rebased(_)))
            {
                self.rebased_ms = Some(now_ms);
            }
            match happening {
                Happening::Opened { replica, records, .. } => {
                    let generations = records.iter().flat_map(|record| generations(&record.event));
                    self.durable.insert(*replica, generations.collect());
                }
                Happening::Durable { replica, records } => {
                    let generations = records.iter().flat_map(|record| generations(&record.event));
                    self.durable.entry(*replica).or_default().extend(generations);
                }
                Happening::Handed { .. } | Happening::Started { .. } | Happening::Stopped { .. } => {}
            }
        }
        for line in lines {
            match line {
                LedgerLine::Request(line) => {
                    if matches!(line.outcome, Outcome::Deferred { .. }) {
                        self.deferred.insert(line.request_id.clone());
                    }
                }
                LedgerLine::Effect(line) => {
                    let (Some(id), Some(spec)) = (&line.entry, &line.spec) else { continue };
                    let late = line.request_id.as_ref().is_some_and(|id| self.deferred.contains(id));
                    self.happened(line.at_ms, &line.effect, id, spec, late);
                }
            }
        }
    }

    /// A PodDNAT that somebody edited shows what is ours again once it shows what was published since.
    fn learn_shown(&mut self, world: &World, calls: &[Call]) {
        if self.edited.is_empty() {
            return;
        }
        for call in calls {
            if let What::Publish(publication) = &call.what
                && let Some(published) = self.edited.get_mut(&publication.key)
            {
                *published = Some(publication.mapping.iter().flat_map(|(_, entries)| entries).cloned().collect());
            }
        }
        let model = world.model.borrow();
        self.edited.retain(|key, published| {
            let shown = model
                .poddnats()
                .find(|object| *object.metadata.namespace == *key.namespace() && *object.metadata.name == *key.name());
            let shown = shown.into_iter().flat_map(|object| &object.status.entries);
            let shown: Vec<EntryId> = shown.map(|entry| entry.forward_entry_id.as_str().into()).collect();
            published.as_ref() != Some(&shown)
        });
    }

    fn happened(&mut self, at_ms: u64, effect: &CloudEffect, id: &EntryId, spec: &NewEntry, late: bool) {
        let fate = self.entries.entry(id.clone()).or_insert_with(|| Fate {
            spec: spec.clone(),
            created_ms: at_ms,
            gone_ms: None,
            foreign: false,
            by_hand: false,
            late: false,
        });
        fate.spec = spec.clone();
        match effect {
            CloudEffect::Created => fate.late = late,
            CloudEffect::InsertedByHand => fate.foreign = true,
            CloudEffect::EditedByHand => {
                fate.by_hand = true;
                fate.foreign |= Mark::parse(&spec.name).is_none();
            }
            CloudEffect::RemovedByHand => {
                fate.by_hand = true;
                fate.gone_ms = Some(at_ms);
            }
            CloudEffect::Gone => fate.gone_ms = Some(at_ms),
            CloudEffect::Available
            | CloudEffect::Deleting
            | CloudEffect::LateRefused { .. }
            | CloudEffect::LateRepeated => {}
        }
    }
}

/// Generations that an event decides.
pub fn generations(event: &Event) -> Vec<Generation> {
    match event {
        Event::Allocated(body) | Event::Recovered(body) | Event::Adopted(body) => {
            body.items.iter().map(|item| item.generation.into()).collect()
        }
        Event::Regenerated(body) => body.items.iter().map(|(_, _, generation)| (*generation).into()).collect(),
        Event::FixedBound(body) => body.items.iter().map(|(_, _, generation)| (*generation).into()).collect(),
        Event::ItemMoved(body) => vec![body.item.generation.into()],
        Event::ItemsChanged(body) => body.added.iter().map(|item| item.generation.into()).collect(),
        _ => Vec::new(),
    }
}
