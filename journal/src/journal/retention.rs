//! What is kept: views of what there is, pruning of what snapshots stand for, and how much room there is.

use super::Journal;
use crate::disk::{Disk, on};
use crate::reader;
use crate::snapshot::{self, Snapshot};
use crate::store::{Shared, Store};
use crate::view::View;
use crate::{Error, SNAPSHOTS_KEPT_MIN};

/// Frames that a step of pruning may remove after a small group. Removing costs no more than writing, so that with this
/// many a step is still a fraction of a sync.
const PRUNED_AT_ONCE_MIN: usize = 32;
/// Frames that a step may remove for each frame of the last group: more than one, or the disk would never come back to
/// its plateau.
const PRUNED_FOR_EACH: usize = 2;
/// Free bytes below which the disk is short, beside room for one more copy of the data: what releases and the events
/// around them take until somebody has made room, at 1 KiB each some sixty thousand of them.
const RESERVE_BYTES: u64 = 64 << 20;

/// How much the disk can take, and how much should stay free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Bytes that can still be written.
    pub free: u64,
    /// Bytes that should be free: one more copy of the data, which an opening after an unclean stop makes, and a reserve.
    pub floor: u64,
}

impl Room {
    /// Whether less is free than should be: then prune, and append only what makes the state smaller.
    #[must_use]
    pub const fn is_short(&self) -> bool {
        self.free < self.floor
    }
}

impl<S: Store, D: Disk> Journal<S, D> {
    /// All complete snapshots of this journal, the oldest first, whether or not entries are left that follow them.
    #[must_use]
    pub fn snapshots(&self) -> Vec<Snapshot> {
        self.catalogue.snapshots()
    }

    /// The lowest entry that is left: 1, unless earlier ones were pruned.
    ///
    /// # Errors
    /// [`Error::EntryDamaged`] if it cannot be read.
    pub fn first_seq(&self) -> Result<u64, Error> {
        reader::first_seq(&self.store, &self.tip)
            .map_err(|broken| Error::EntryDamaged { seq: 1, reason: broken.reason })
    }

    /// Removes some of the entries before the `keep`-th newest snapshot ([`SNAPSHOTS_KEPT_MIN`] at the least), the oldest
    /// first, and then older snapshots, one at a time; `true` if it should be called again. Entries of a [`crate::View`]
    /// that lives stay.
    ///
    /// One call does no more than an append does: it either writes the anchor, which once for each snapshot has to know
    /// how far entries may be missing, or removes twice as many frames as the last group had, or one file. Called
    /// between groups it delays none by more than one group.
    ///
    /// # Errors
    /// As [`Journal::append`].
    pub fn prune_step(&mut self, keep: usize) -> Result<bool, Error> {
        self.check_poison()?;
        let outcome = self.prune(keep.max(SNAPSHOTS_KEPT_MIN));
        if let Err(error) = &outcome {
            self.poisoned = Some(error.to_string());
        }
        outcome
    }

    fn prune(&mut self, keep: usize) -> Result<bool, Error> {
        let first = self.tip.first;
        let mut snapshots = self.catalogue.snapshots();
        snapshots.retain(|snapshot| snapshot.frame.saturating_add(1) >= first);
        let kept = snapshots.len().checked_sub(keep).and_then(|oldest| snapshots.get(oldest));
        let limit = kept.map_or(0, |oldest| oldest.frame.saturating_add(1));
        let limit = self.catalogue.lowest_read().map_or(limit, |read| read.min(limit));
        if limit <= first {
            return self.remove_superseded();
        }
        if limit > self.anchor.anchor().pruned_below {
            // Whatever a file's name and header say, it must be this history that the snapshots stand for.
            let follows =
                |snapshot: &Snapshot| reader::is_based_on(&self.store, &self.tip, snapshot.frame, &snapshot.through);
            if !snapshots.iter().rev().take(keep).all(follows) {
                return Ok(false);
            }
            let mut anchor = self.settled();
            anchor.pruned_below = limit;
            self.write_anchor(anchor)?;
            return Ok(true);
        }
        let at_once = self.last_group.saturating_mul(PRUNED_FOR_EACH).max(PRUNED_AT_ONCE_MIN);
        let more = self.store.remove_below(limit, at_once)?;
        self.tip.first = self.store.first_from(1)?.unwrap_or(first).max(1);
        if more || self.tip.first != first { Ok(true) } else { self.remove_superseded() }
    }

    /// Removes the oldest snapshot that no entries follow any more.
    fn remove_superseded(&mut self) -> Result<bool, Error> {
        if self.tip.first <= 1 {
            return Ok(false);
        }
        let Some(seq) = self.catalogue.before(self.first_seq()?.saturating_sub(1)).first().copied() else {
            return Ok(false);
        };
        let name = snapshot::name_of(seq);
        self.disk.remove(&name).map_err(on(&self.disk, "remove", &name))?;
        self.catalogue.forget(seq);
        Ok(true)
    }
}

impl<S: Shared, D: Disk> Journal<S, D> {
    /// What the disk can still take.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::Store`]; the journal is not concerned.
    pub fn room(&self) -> Result<Room, Error> {
        let free = self.disk.free_bytes().map_err(on(&self.disk, "measure", ""))?;
        Ok(Room { free, floor: self.store.bytes()?.saturating_add(RESERVE_BYTES) })
    }
}

impl<S: Shared, D: Disk + Clone> Journal<S, D> {
    /// Everything that is durable now, to be read in any thread while the journal goes on.
    #[must_use]
    pub fn view(&self) -> View<S::Reader, D> {
        View::new(self.store.reader(), self.id(), self.tip, self.catalogue.clone(), self.disk.clone())
    }
}
