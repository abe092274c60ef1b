//! S15 Order: what is refused for good is not asked for again under its generation; what is let go is deleted only after a
//! listing has shown the table since; an allocation ends, and an entry is made anew, only when what was there has gone, and
//! what became of a creation that was not answered has shown.

use std::collections::{BTreeMap, BTreeSet};

use natgw::machine::event::decided::Item;
use natgw::machine::event::{Event, Record};
use natgw::machine::identity::{AllocationId, Generation, Mark, TableId};
use natgw::ports::effect::Effect;

use super::{Happening, Invariant, Look, tuple};
use crate::wire::What;

/// A listing may show the table as it was a minute ago: what is younger may have been missed.
const VIEW_MS: u64 = 61_000;

#[derive(Default)]
struct Order {
    folds: BTreeMap<usize, Fold>,
    /// When the first page of each table was last answered, of each life.
    listed: BTreeMap<(u64, TableId), u64>,
}

/// What the records of one journal say.
#[derive(Default)]
struct Fold {
    /// Machine time when the process began.
    began_ms: u64,
    refused: BTreeSet<Generation>,
    /// When each allocation was first let go, told to move, or dropped a port.
    let_go: BTreeMap<AllocationId, u64>,
    /// Entries that a listing showed to stand for nothing.
    stale: BTreeSet<String>,
    /// The last creation of each port.
    creations: BTreeMap<(AllocationId, u16, u8), Generation>,
    /// Creations that were not answered, and of which nothing has shown since what became of them.
    unanswered: BTreeSet<Generation>,
}

pub(super) fn make() -> Box<dyn Invariant> {
    Box::new(Order::default())
}

impl Invariant for Order {
    fn look(&mut self, look: &Look<'_>, found: &mut Vec<String>) {
        for call in look.calls {
            if let What::Listed(table, 1, ..) = &call.what {
                self.listed.insert((call.life, table.clone()), call.at_ms);
            }
        }
        for happening in look.happened {
            match happening {
                Happening::Opened { replica, records, .. } => {
                    let fold = self.folds.entry(*replica).or_default();
                    *fold = Fold::default();
                    // A new life reads every table before it changes any (S5).
                    records.iter().for_each(|record| fold.take(record, 0));
                    fold.began_ms = records.last().map_or(0, |record| record.machine_ms);
                }
                Happening::Handed { replica, records } => {
                    let fold = self.folds.entry(*replica).or_default();
                    let clock = look.world.replicas[*replica].process.as_ref().map(|process| process.clock);
                    for record in records {
                        // It was decided a while before it was handed over.
                        let decided = record.machine_ms.saturating_sub(fold.began_ms);
                        found.extend(
                            fold.anew(&record.event).filter_map(|(of, generation)| fold.left_open(of, generation)),
                        );
                        fold.take(record, clock.map_or(0, |clock| clock.at(decided)));
                        match &record.event {
                            Event::ClaimReleased(body) => there(look, body.allocation.into(), None, found),
                            Event::Regenerated(body) => {
                                for (internal, protocol, _) in &body.items {
                                    let item = Some((*internal, *protocol));
                                    there(look, body.allocation.into(), item, found);
                                }
                            }
                            _ => {}
                        }
                    }
                }
                Happening::Started { replica, life, effect, .. } => {
                    self.started(look, (*replica, *life), effect, found)
                }
                Happening::Durable { .. } | Happening::Stopped { .. } => {}
            }
        }
    }
}

impl Order {
    fn started(&self, look: &Look<'_>, (replica, life): (usize, u64), effect: &Effect, found: &mut Vec<String>) {
        let Some(fold) = self.folds.get(&replica) else { return };
        match effect {
            Effect::Create(request) => {
                if Mark::parse(&request.name).is_some_and(|mark| fold.refused.contains(&mark.generation)) {
                    found.push(format!("{request:?} was refused for good, and is asked for again"));
                }
            }
            Effect::Delete(request) => {
                let Some(mark) = look.facts.mark(&request.entry) else { return };
                let process = look.world.replicas[replica].process.as_ref();
                let allocation = process.and_then(|process| process.controller.state().allocation(mark.allocation));
                // What is stale, and whatever goes of an allocation that lives, a listing has shown.
                if fold.stale.contains(request.entry.as_str()) {
                    return;
                }
                if allocation.is_none_or(natgw::machine::state::Allocation::is_live) {
                    return;
                }
                let let_go_ms = fold.let_go.get(&mark.allocation).copied().unwrap_or(0);
                let listed_ms = self.listed.get(&(life, request.table.clone()));
                if listed_ms.is_none_or(|listed_ms| *listed_ms < let_go_ms) {
                    found.push(format!("{request:?}: let go at {let_go_ms}, the table was last read at {listed_ms:?}"));
                }
            }
            Effect::WriteClaim(..)
            | Effect::WriteStatus(_)
            | Effect::ReleaseClaim { .. }
            | Effect::DropClaim { .. }
            | Effect::MarkPod(_) => {}
        }
    }
}

impl Fold {
    fn take(&mut self, record: &Record, at_ms: u64) {
        self.take_creations(&record.event);
        match &record.event {
            Event::Rebased(_) => *self = Self { began_ms: self.began_ms, ..Self::default() },
            Event::StaleDecided(body) => drop(self.stale.insert(body.entry.clone())),
            Event::EntryRefused(body) => drop(self.refused.insert(body.generation.into())),
            Event::ReleaseDecided(body) => self.let_go(body.allocation, at_ms),
            Event::RebindDecided(body) => self.let_go(body.allocation, at_ms),
            Event::Reserved(body) => self.let_go(body.allocation, at_ms),
            Event::FixedMoved(body) => self.let_go(body.from, at_ms),
            Event::FixedBound(body) => drop(self.let_go.remove(&body.allocation.into())),
            Event::ItemsChanged(body) if !body.dropped.is_empty() => self.let_go(body.allocation, at_ms),
            _ => {}
        }
    }

    /// Ports whose entries are made anew, and under which generation.
    fn anew(&self, event: &Event) -> impl Iterator<Item = ((AllocationId, u16, u8), Generation)> + use<> {
        let (id, items) = match event {
            Event::Regenerated(body) => (body.allocation, body.items.clone()),
            Event::FixedBound(body) => (body.allocation, body.items.clone()),
            _ => ((0, 0), Vec::new()),
        };
        items
            .into_iter()
            .map(move |(internal, protocol, generation)| ((id.into(), internal, protocol), generation.into()))
    }

    fn left_open(&self, of: (AllocationId, u16, u8), generation: Generation) -> Option<String> {
        let before = self.creations.get(&of).filter(|before| self.unanswered.contains(before))?;
        Some(format!("{of:?} is made anew under {generation}, and nobody looked what became of {before}"))
    }

    fn take_creations(&mut self, event: &Event) {
        match event {
            Event::Allocated(body) | Event::Recovered(body) | Event::Adopted(body) => {
                let of = |item: &Item| ((body.allocation.into(), item.internal, item.protocol), item.generation.into());
                self.creations.extend(body.items.iter().map(of));
            }
            Event::ItemsChanged(body) => {
                let of = |item: &Item| ((body.allocation.into(), item.internal, item.protocol), item.generation.into());
                self.creations.extend(body.added.iter().map(of));
            }
            Event::ItemMoved(body) => {
                let of = (body.allocation.into(), body.item.internal, body.item.protocol);
                self.creations.insert(of, body.item.generation.into());
            }
            Event::Regenerated(_) | Event::FixedBound(_) => {
                let anew: Vec<_> = self.anew(event).collect();
                self.creations.extend(anew);
            }
            Event::EntryUnknown(body) => drop(self.unanswered.insert(body.generation.into())),
            Event::EntryCreated(body) => drop(self.unanswered.remove(&body.generation.into())),
            Event::EntryRefused(body) => drop(self.unanswered.remove(&body.generation.into())),
            Event::EntryNeverSent(body) => drop(self.unanswered.remove(&body.generation.into())),
            Event::EntriesMissed(body) => {
                for generation in &body.generations {
                    self.unanswered.remove(&(*generation).into());
                }
            }
            Event::EntrySeen(body) => {
                if let Some(mark) = Mark::parse(&body.name) {
                    self.unanswered.remove(&mark.generation);
                }
            }
            Event::TableGone(_) => self.unanswered.clear(),
            _ => {}
        }
    }

    /// An entry that was looked at since the first of these is not looked at again.
    fn let_go(&mut self, allocation: (u64, u64), at_ms: u64) {
        self.let_go.entry(allocation.into()).or_insert(at_ms);
    }
}

/// An allocation ended, or its entry for a port is made anew: nothing of it is there but what came late.
fn there(look: &Look<'_>, allocation: AllocationId, item: Option<(u16, u8)>, found: &mut Vec<String>) {
    let now = look.world.now.get();
    for (id, fate) in &look.facts.entries {
        let of_it = Mark::parse(&fate.spec.name).is_some_and(|mark| mark.allocation == allocation);
        let there = fate.gone_ms.is_none() && !fate.foreign && !fate.by_hand && !fate.late;
        let five = tuple(&fate.spec).map(|five| (five.internal_port, five.protocol.number()));
        let of_item = item.is_none_or(|item| five == Some(item));
        // With a gateway goes its table: whoever cannot see it need not wait for it.
        let vanished = look.facts.vanished_since(&fate.spec.table, fate.created_ms);
        if of_it && of_item && there && !vanished && fate.created_ms + VIEW_MS < now {
            found.push(format!("{allocation} counts {item:?} as gone, and {id} is there: {fate:?}"));
        }
    }
}
