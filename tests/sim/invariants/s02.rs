//! S2 Exposure: an entry sends to a pod of another UID for a bounded time only, and not at all at rest.

use std::collections::BTreeMap;

use natgw::machine::identity::{EntryId, Mark, PodUid};
use natgw::sandbox::vpc::EntryStatus;

use super::{Facts, Invariant, Look};
use crate::plan::RESYNC_MS;
use crate::world::World;

/// When nothing goes wrong any more: the next resync finds the entry at the latest, two listings a minute apart decide,
/// and the deletion takes its time.
const EXPOSURE_MAX_MS: u64 = RESYNC_MS + 2 * 60_000;

#[derive(Default)]
struct Exposure {
    /// Entries of ours in effect that send to somebody else, and since when.
    since: BTreeMap<EntryId, u64>,
    longest_ms: u64,
    calm_longest_ms: u64,
    seen: (usize, u64, usize),
}

pub(super) fn make() -> Box<dyn Invariant> {
    Box::new(Exposure::default())
}

impl Exposure {
    fn exposed(world: &World) -> Vec<EntryId> {
        let (vpc, model) = (world.vpc.borrow(), world.model.borrow());
        let owners: BTreeMap<_, &str> =
            model.pods().filter(|pod| pod.holds_address).filter_map(|pod| Some((pod.ip?, pod.uid.as_str()))).collect();
        let tables = vpc.world().gateways.iter().map(|gateway| &gateway.table);
        let entries = tables.flat_map(|table| vpc.entries(table));
        let exposed = entries.filter(|entry| {
            let (mark, owner) = (Mark::parse(&entry.spec.name), owners.get(&entry.spec.internal_ip));
            entry.status != EntryStatus::Pending
                && mark.zip(owner).is_some_and(|(mark, owner)| !mark.is_for(&PodUid::from(*owner)))
        });
        exposed.map(|entry| entry.id.clone()).collect()
    }
}

impl Invariant for Exposure {
    fn look(&mut self, look: &Look<'_>, found: &mut Vec<String>) {
        let now = look.world.now.get();
        let seen = (look.world.history.len(), look.world.model.borrow().version(), look.facts.entries.len());
        if self.seen != seen || !look.lines.is_empty() {
            self.seen = seen;
            let exposed = Self::exposed(look.world);
            self.since.retain(|entry, _| exposed.contains(entry));
            for entry in exposed {
                self.since.entry(entry).or_insert(now);
            }
        }
        for (entry, since) in &self.since {
            self.longest_ms = self.longest_ms.max(now - since);
            if !look.world.calm {
                continue;
            }
            let calm_ms = now - look.world.calm_ms.max(*since);
            self.calm_longest_ms = self.calm_longest_ms.max(calm_ms);
            if calm_ms > EXPOSURE_MAX_MS {
                let fate = look.facts.entries.get(entry);
                found.push(format!("{entry} sends to another pod, {calm_ms} ms of it in a calm world: {fate:?}"));
            }
        }
    }

    fn rest(&mut self, world: &World, facts: &Facts, found: &mut Vec<String>) {
        for entry in Self::exposed(world) {
            let fate = facts.entries.get(&entry);
            if fate.is_none_or(|fate| !fate.foreign) {
                found.push(format!("{entry} sends to another pod, at rest: {fate:?}"));
            }
        }
    }

    fn figures(&self) -> Vec<(&'static str, u64)> {
        vec![("longest exposure ms", self.longest_ms), ("longest exposure in a calm world ms", self.calm_longest_ms)]
    }
}
