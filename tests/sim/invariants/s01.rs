//! S1 OneOwner: no external tuple has two owners in any fold.
//!
//! Judged by a fold of its own, slow and simple: who was given what, and when the last of it was gone. A name that moves
//! leaves its ports when it is decided; whether they may be given is then judged by what the cloud has.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use natgw::machine::event::decided::Item;
use natgw::machine::event::{Event, Record};
use natgw::machine::identity::Mark;

use super::s06::tuple;
use super::{Happening, Invariant, Look};

#[derive(Default)]
struct OneOwner {
    folds: BTreeMap<usize, Fold>,
}

/// Who has what, as the records of one journal say.
#[derive(Default)]
struct Fold {
    /// Of each allocation: its EIP and its ports.
    given: BTreeMap<(u64, u64), (Ipv4Addr, Vec<Port>)>,
    /// Allocations whose names moved.
    moved: BTreeSet<(u64, u64)>,
}

/// Internal port, protocol, external port.
type Port = (u16, u8, u16);

pub(super) fn make() -> Box<dyn Invariant> {
    Box::new(OneOwner::default())
}

impl Invariant for OneOwner {
    fn look(&mut self, look: &Look<'_>, found: &mut Vec<String>) {
        for happening in look.happened {
            match happening {
                Happening::Opened { replica, records, .. } => {
                    let mut fold = Fold::default();
                    records.iter().for_each(|record| fold.take(record, found));
                    self.folds.insert(*replica, fold);
                }
                Happening::Handed { replica, records } => {
                    let fold = self.folds.entry(*replica).or_default();
                    records.iter().for_each(|record| {
                        fold.take(record, found);
                        fold.leaves_nothing(look, record, found);
                    });
                }
                Happening::Durable { .. } | Happening::Started { .. } | Happening::Stopped { .. } => {}
            }
        }
    }

    fn rest(&mut self, world: &crate::world::World, _: &super::Facts, found: &mut Vec<String>) {
        let Some(leader) = world.leader() else { return };
        let (Some(state), Some(fold)) = (world.state(), self.folds.get(&leader)) else { return };
        let told: BTreeMap<(u64, u64), (Ipv4Addr, Vec<Port>)> = state
            .allocations()
            .map(|(id, allocation)| {
                let port = |item: &natgw::machine::state::Item| {
                    (item.want().internal, item.want().protocol.number(), item.external())
                };
                let mut ports: Vec<Port> = allocation.items_staying().map(port).collect();
                ports.sort_unstable();
                ((*id).into(), (allocation.eip(), ports))
            })
            .collect();
        let mut given = fold.given.clone();
        given.values_mut().for_each(|(_, ports)| ports.sort_unstable());
        if given != told {
            found.push(format!("the simple fold gives {given:?}, the state has {told:?}"));
        }
    }
}

impl Fold {
    fn take(&mut self, record: &Record, found: &mut Vec<String>) {
        match &record.event {
            Event::Rebased(_) => {
                self.given.clear();
                self.moved.clear();
            }
            Event::FixedMoved(body) => {
                self.given.remove(&body.from);
                self.moved.insert(body.from);
            }
            Event::Allocated(body) | Event::Recovered(body) | Event::Adopted(body) => {
                let ports = body.items.iter().map(|item| (item.internal, item.protocol, item.external)).collect();
                self.given.insert(body.allocation, (body.eip, ports));
                self.check(record, found);
            }
            Event::ItemMoved(body) => {
                if let Some((_, ports)) = self.given.get_mut(&body.allocation) {
                    ports.retain(|port| (port.0, port.1) != (body.item.internal, body.item.protocol));
                    ports.push((body.item.internal, body.item.protocol, body.item.external));
                }
                self.check(record, found);
            }
            Event::ItemsChanged(body) => {
                if let Some((_, ports)) = self.given.get_mut(&body.allocation) {
                    ports.retain(|port| !body.dropped.contains(&(port.0, port.1)));
                    ports.extend(body.added.iter().map(|item| (item.internal, item.protocol, item.external)));
                }
                self.check(record, found);
            }
            Event::ClaimReleased(body) => drop(self.given.remove(&body.allocation)),
            _ => {}
        }
    }

    /// What is given has no entry of a name that moved away from it. One that landed late, or that somebody edited, is no
    /// evidence: nobody could know of it.
    fn leaves_nothing(&self, look: &Look<'_>, record: &Record, found: &mut Vec<String>) {
        let Event::Allocated(body) = &record.event else { return };
        let there = look.facts.entries.iter().filter(|(_, fate)| fate.gone_ms.is_none() && !fate.late && !fate.by_hand);
        for (entry, fate) in there {
            let mark = Mark::parse(&fate.spec.name).map(|mark| <(u64, u64)>::from(mark.allocation));
            let Some(five) = tuple(&fate.spec).filter(|_| mark.is_some_and(|mark| self.moved.contains(&mark))) else {
                continue;
            };
            let given = |item: &Item| (item.protocol, item.external) == (five.protocol.number(), five.external_port);
            if body.eip == five.external_ip && body.items.iter().any(given) {
                found.push(format!("{five:?} is given to {:?} while {entry} is there: {fate:?}", body.allocation));
            }
        }
    }

    fn check(&self, record: &Record, found: &mut Vec<String>) {
        let mut owners = BTreeMap::new();
        for (id, (eip, ports)) in &self.given {
            for (_, protocol, external) in ports {
                if let Some(other) = owners.insert((*eip, *protocol, *external), id) {
                    found.push(format!(
                        "{eip}:{external}/{protocol} is given to {other:?} and {id:?}, event {}",
                        record.seq
                    ));
                }
                if *external < 512 {
                    found.push(format!("{eip}:{external}/{protocol} is outside of every pool, event {}", record.seq));
                }
            }
        }
    }
}
