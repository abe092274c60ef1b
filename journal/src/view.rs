//! A consistent prefix of a journal that goes on: for reading, for writing a snapshot, for an export, in any thread.

use std::io::Write;

use crate::disk::Disk;
use crate::export;
use crate::frame::Tip;
use crate::reader::{self, Entries};
use crate::retained::Catalogue;
use crate::snapshot::{Snapshot, SnapshotEntries, SnapshotWriter};
use crate::store::ReadFrames;
use crate::{Error, Head, JournalId};

/// Everything that was durable when it was made, by [`crate::Journal::view`]. While it lives nothing of it is pruned, so
/// it should not live for ever.
pub struct View<R, D> {
    // Declared before the disk, which may hold the lock.
    frames: R,
    id: JournalId,
    tip: Tip,
    snapshots: Vec<Snapshot>,
    catalogue: Catalogue,
    reader: u64,
    disk: D,
}

impl<R, D> std::fmt::Debug for View<R, D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("View").field("id", &self.id).field("head", &self.tip.head).finish_non_exhaustive()
    }
}

impl<R: ReadFrames, D: Disk + Clone> View<R, D> {
    pub(crate) fn new(frames: R, id: JournalId, tip: Tip, catalogue: Catalogue, disk: D) -> Self {
        let reader = catalogue.enter(tip.first);
        let usable = |snapshot: &Snapshot| reader::is_based_on(&frames, &tip, snapshot.frame, &snapshot.through);
        let snapshots = catalogue.snapshots().into_iter().filter(usable).collect();
        Self { frames, id, tip, snapshots, catalogue, reader, disk }
    }

    /// The journal's identity.
    #[must_use]
    pub fn id(&self) -> JournalId {
        self.id
    }

    /// The last entry's number and the chain hash after it.
    #[must_use]
    pub fn head(&self) -> Head {
        self.tip.head
    }

    /// The lowest entry that is left; one after the last if there is none.
    ///
    /// # Errors
    /// [`Error::EntryDamaged`] if it cannot be read.
    pub fn first_seq(&self) -> Result<u64, Error> {
        reader::first_seq(&self.frames, &self.tip)
            .map_err(|broken| Error::EntryDamaged { seq: 1, reason: broken.reason })
    }

    /// Streams the entries from `from_seq` on, as [`crate::Journal::entries`].
    pub fn entries(&self, from_seq: u64) -> Entries<'_> {
        Entries::new(&self.frames, &self.tip, from_seq)
    }

    /// The snapshots from which the entries go on to the head, the oldest first.
    #[must_use]
    pub fn snapshots(&self) -> &[Snapshot] {
        &self.snapshots
    }

    /// Streams the entries of a snapshot; those of the journal go on after [`Snapshot::through`].
    pub fn snapshot_entries(&self, snapshot: &Snapshot) -> SnapshotEntries<D> {
        SnapshotEntries::new(self.disk.clone(), *snapshot)
    }

    /// Begins a snapshot of everything up to this view's head.
    ///
    /// # Errors
    /// [`Error::SnapshotUnderWay`] while there is another one, [`Error::Io`].
    pub fn begin_snapshot(&self) -> Result<SnapshotWriter<D>, Error> {
        SnapshotWriter::begin(self.disk.clone(), self.catalogue.clone(), self.id, self.tip.head, self.tip.frame)
    }

    /// Writes the whole prefix, with the oldest snapshot if something was pruned, as JSON lines: see [`crate::export`].
    ///
    /// # Errors
    /// [`Error::EntryDamaged`], [`Error::SnapshotDamaged`], and [`Error::Io`] if `out` does.
    pub fn export(&self, out: &mut impl Write) -> Result<(), Error> {
        let base = if self.tip.first > 1 { self.snapshots.first() } else { None };
        export::write(&self.frames, self.id, &self.tip, base, &self.disk, out)
    }
}

impl<R, D> Drop for View<R, D> {
    fn drop(&mut self) {
        self.catalogue.leave(self.reader);
    }
}
