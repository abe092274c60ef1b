//! How long entries may have sent to a pod that they are not for: a bound from what the controller knows.
//!
//! An allocation is exposed while an entry of it may exist and its address belongs to a pod of another UID. That begins at
//! the latest when the other pod was seen; it is counted from the decision to let the allocation go where that came
//! before. It ends when the absence of the last entry is confirmed. How late a watch shows a pod is not in it. All times
//! are machine time.
//!
//! Cost follows the change: a pod's observation looks at the allocations of its address, and a turn at those that are
//! exposed.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use crate::machine::event::{Event, Record, decided, outcome};
use crate::machine::identity::AllocationId;
use crate::machine::state::{Allocation, Entry, State};

/// Exposed allocations, and the longest time that one was.
#[derive(Debug, Default)]
pub(super) struct Exposure {
    /// Addresses whose pods were seen since the last turn, and when first.
    met: BTreeMap<Ipv4Addr, u64>,
    /// Allocations whose end or move is decided, and when.
    leaving: BTreeMap<AllocationId, u64>,
    /// Exposed allocations, and since when.
    open: BTreeMap<AllocationId, u64>,
    /// Of those that ended.
    longest_ms: u64,
    now_ms: u64,
    /// Something was recorded since the last turn.
    is_changed: bool,
}

impl Exposure {
    pub(super) fn recorded(&mut self, record: &Record) {
        self.is_changed = true;
        let event = &record.event;
        if let Event::PodSeen(pod) = event
            && let Some(ip) = pod.ip
        {
            self.met.entry(ip).or_insert(record.machine_ms);
        } else if let Event::ReleaseDecided(decided::ReleaseDecided { allocation, .. })
        | Event::RebindDecided(decided::RebindDecided { allocation, .. }) = event
        {
            self.leaving.entry(AllocationId::from(*allocation)).or_insert(record.machine_ms);
        } else if let Event::ClaimReleased(outcome::ClaimReleased { allocation, .. }) = event {
            self.leaving.remove(&AllocationId::from(*allocation));
        } else if let Event::Rebased(_) = event {
            // What went before is another history's.
            *self = Self { longest_ms: self.longest_ms, is_changed: true, ..Self::default() };
        }
    }

    pub(super) fn turned(&mut self, state: &State) {
        self.now_ms = state.machine_ms();
        if !std::mem::take(&mut self.is_changed) {
            return;
        }
        for (ip, seen_ms) in std::mem::take(&mut self.met) {
            for id in state.allocations_on(ip).filter(|id| is_exposed(state, *id)) {
                let since = self.leaving.get(&id).map_or(seen_ms, |left| seen_ms.min(*left));
                self.open.entry(id).or_insert(since);
            }
        }
        let (now, longest) = (self.now_ms, &mut self.longest_ms);
        self.open.retain(|id, since| {
            let lasts = is_exposed(state, *id);
            if !lasts {
                *longest = (*longest).max(now.saturating_sub(*since));
            }
            lasts
        });
    }

    /// How many are exposed now.
    pub(super) fn exposed(&self) -> usize {
        self.open.len()
    }

    /// The longest exposure, those of now included.
    pub(super) fn longest_ms(&self) -> u64 {
        let oldest = self.open.values().min().map_or(0, |since| self.now_ms.saturating_sub(*since));
        self.longest_ms.max(oldest)
    }
}

fn is_exposed(state: &State, id: AllocationId) -> bool {
    let Some(allocation) = state.allocation(id) else { return false };
    may_send(allocation) && state.pods_on(allocation.ip()).any(|pod| pod != allocation.pod())
}

fn may_send(allocation: &Allocation) -> bool {
    allocation.items().iter().any(|item| !matches!(item.entry(), Entry::Planned | Entry::Gone | Entry::Refused { .. }))
}
