//! Digest v1: one number for what the fold arrived at, kept up with each event.
//!
//! The projection is enumerated below and never changes under this version: a new field enters with v2. Each allocation
//! is hashed alone (BLAKE3) and the hashes are added up lane by lane, so that a change costs one hash and the order of
//! insertion does not count; the final value hashes the sums and how many were added.

use crate::machine::identity::AllocationId;
use crate::machine::state::{Allocation, Entry, Phase, State};

/// The version of the projection.
pub const VERSION: u8 = 1;

/// The running sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest {
    lanes: [u64; 4],
    members: u64,
}

/// The hash of a member that is not counted.
const ABSENT: [u64; 4] = [0; 4];

impl Digest {
    /// The digest.
    #[must_use]
    pub fn value(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&[VERSION]).update(&self.members.to_le_bytes());
        for lane in self.lanes {
            hasher.update(&lane.to_le_bytes());
        }
        *hasher.finalize().as_bytes()
    }

    pub(super) fn replace(&mut self, before: [u64; 4], now: [u64; 4]) {
        self.remove(before);
        self.add(now);
    }

    pub(super) fn remove(&mut self, before: [u64; 4]) {
        if before != ABSENT {
            self.members = self.members.wrapping_sub(1);
            for (lane, hash) in self.lanes.iter_mut().zip(before) {
                *lane = lane.wrapping_sub(hash);
            }
        }
    }

    fn add(&mut self, now: [u64; 4]) {
        if now != ABSENT {
            self.members = self.members.wrapping_add(1);
            for (lane, hash) in self.lanes.iter_mut().zip(now) {
                *lane = lane.wrapping_add(hash);
            }
        }
    }
}

/// The bytes of a projection on their way to the hash: it takes many at once for what it takes a few.
struct Projection {
    hasher: blake3::Hasher,
    waiting: [u8; PROJECTION_BYTES],
    length: usize,
}

/// An allocation of two ports takes about 300.
const PROJECTION_BYTES: usize = 512;

impl Projection {
    fn new() -> Self {
        Self { hasher: blake3::Hasher::new(), waiting: [0; PROJECTION_BYTES], length: 0 }
    }

    fn add(&mut self, bytes: &[u8]) {
        let end = self.length.saturating_add(bytes.len());
        if let Some(room) = self.waiting.get_mut(self.length..end) {
            room.copy_from_slice(bytes);
            self.length = end;
        } else {
            self.pass_on();
            self.hasher.update(bytes);
        }
    }

    fn hash(mut self) -> blake3::Hash {
        self.pass_on();
        self.hasher.finalize()
    }

    fn pass_on(&mut self) {
        self.hasher.update(self.waiting.get(..self.length).unwrap_or_default());
        self.length = 0;
    }
}

impl State {
    /// Hashes the projection of one allocation: identity, pod, place, phase, and of each item its tuple, generation and
    /// what is known of its entry.
    pub(super) fn hash_of(&self, id: AllocationId, allocation: &Allocation) -> [u64; 4] {
        let mut projection = Projection::new();
        let mut number = |value: u64| projection.add(&value.to_le_bytes());
        number(id.stamp().term);
        number(id.stamp().n);
        number(u64::from(u32::from(allocation.eip)));
        number(u64::from(u32::from(allocation.ip)));
        number(match allocation.phase {
            Phase::Live => 1,
            Phase::Rebinding { .. } => 2,
            Phase::Releasing { .. } => 3,
            Phase::Reserved { .. } => 4,
        });
        for item in &allocation.items {
            number(u64::from(item.want.internal));
            number(u64::from(item.external));
            number(u64::from(item.want.protocol.number()));
            number(item.generation.stamp().term);
            number(item.generation.stamp().n);
            number(match item.entry {
                Entry::Planned => 1,
                Entry::Unknown { .. } => 2,
                Entry::Refused { .. } => 3,
                Entry::Present { available: false, .. } => 4,
                Entry::Present { available: true, .. } => 5,
                Entry::Deleting { .. } => 6,
                Entry::Gone => 7,
            });
        }
        for text in
            [allocation.pod.as_str(), allocation.key.namespace(), allocation.key.name(), allocation.table.as_str()]
        {
            projection.add(&u64::try_from(text.len()).unwrap_or(u64::MAX).to_le_bytes());
            projection.add(text.as_bytes());
        }
        let mut lanes = [0; 4];
        for (lane, bytes) in lanes.iter_mut().zip(projection.hash().as_bytes().chunks_exact(8)) {
            *lane = bytes.try_into().map_or(0, u64::from_le_bytes);
        }
        lanes
    }

    /// The digest computed anew from all allocations.
    #[must_use]
    pub fn digest_recomputed(&self) -> [u8; 32] {
        let mut digest = Digest::default();
        for (id, allocation) in self.allocations.iter() {
            digest.add(self.hash_of(*id, allocation));
        }
        digest.value()
    }
}
