//! What is kept beside the frames, and for whom: the snapshots there are, who reads frames at this moment, whether a
//! snapshot is being written. Shared by the journal and everything that was made from it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::disk::{Disk, on};
use crate::snapshot::{self, Snapshot};
use crate::store::RefusedBy;
use crate::{Error, JournalId};

#[derive(Clone, Debug, Default)]
pub(crate) struct Catalogue(Arc<Mutex<Retained>>);

#[derive(Debug, Default)]
struct Retained {
    /// By the last entry each stands for.
    snapshots: BTreeMap<u64, Snapshot>,
    /// Files that have a snapshot's name and are none, and why.
    unusable: BTreeMap<u64, String>,
    /// First frame that each view reads.
    readers: BTreeMap<u64, u64>,
    next_reader: u64,
    writing: bool,
}

impl Catalogue {
    /// Looks at the snapshots of journal `id` on the disk. Writes nothing.
    pub(crate) fn read(disk: &impl Disk, id: JournalId) -> Result<Self, Error> {
        let mut retained = Retained::default();
        for seq in snapshots_on(disk)? {
            let name = snapshot::name_of(seq);
            match snapshot::examine(disk, seq, id) {
                Ok(Ok(found)) => drop(retained.snapshots.insert(seq, found)),
                Ok(Err(reason)) => drop(retained.unusable.insert(seq, reason)),
                // One that the disk does not give back stands for nothing; the other one may.
                Err(e) if RefusedBy::of(&e) == RefusedBy::Store => {
                    drop(retained.unusable.insert(seq, format!("it cannot be read: {e}")));
                }
                Err(e) => return Err(on(disk, "read", &name)(e)),
            }
        }
        Ok(Self(Arc::new(Mutex::new(retained))))
    }

    /// The snapshots, the oldest first.
    pub(crate) fn snapshots(&self) -> Vec<Snapshot> {
        self.lock().snapshots.values().copied().collect()
    }

    /// Snapshots that cannot be used, and why.
    pub(crate) fn unusable(&self) -> Vec<(u64, String)> {
        self.lock().unusable.iter().map(|(seq, reason)| (*seq, reason.clone())).collect()
    }

    /// Every snapshot file whose last entry lies before `seq`.
    pub(crate) fn before(&self, seq: u64) -> Vec<u64> {
        let retained = self.lock();
        let usable = retained.snapshots.range(..seq).map(|(seq, _)| *seq);
        usable.chain(retained.unusable.range(..seq).map(|(seq, _)| *seq)).collect()
    }

    pub(crate) fn add(&self, snapshot: Snapshot) {
        let mut retained = self.lock();
        retained.unusable.remove(&snapshot.through.seq);
        retained.snapshots.insert(snapshot.through.seq, snapshot);
    }

    pub(crate) fn forget(&self, seq: u64) {
        let mut retained = self.lock();
        retained.snapshots.remove(&seq);
        retained.unusable.remove(&seq);
    }

    pub(crate) fn begin_writing(&self) -> Result<(), Error> {
        if std::mem::replace(&mut self.lock().writing, true) { Err(Error::SnapshotUnderWay) } else { Ok(()) }
    }

    pub(crate) fn end_writing(&self) {
        self.lock().writing = false;
    }

    /// Keeps the frames from `first` on until [`Catalogue::leave`].
    pub(crate) fn enter(&self, first: u64) -> u64 {
        let mut retained = self.lock();
        let reader = retained.next_reader;
        retained.next_reader = reader.saturating_add(1);
        retained.readers.insert(reader, first);
        reader
    }

    pub(crate) fn leave(&self, reader: u64) {
        self.lock().readers.remove(&reader);
    }

    /// The lowest frame that is being read by anybody.
    pub(crate) fn lowest_read(&self) -> Option<u64> {
        self.lock().readers.values().min().copied()
    }

    fn lock(&self) -> MutexGuard<'_, Retained> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The last entries that files with a snapshot's name stand for.
pub(crate) fn snapshots_on(disk: &impl Disk) -> Result<Vec<u64>, Error> {
    let names = disk.list().map_err(on(disk, "list", ""))?;
    Ok(names.iter().filter_map(|name| snapshot::seq_in(name)).collect())
}

/// Whether there are files with a snapshot's name, or the disk does not say.
pub(crate) fn may_have_snapshots(disk: &impl Disk) -> Result<bool, Error> {
    match snapshots_on(disk) {
        Err(error) if error.refused_by() == RefusedBy::Store => Ok(true),
        snapshots => Ok(!snapshots?.is_empty()),
    }
}

/// Removes what unfinished snapshots left.
pub(crate) fn remove_drafts(disk: &impl Disk) -> Result<(), Error> {
    let names = disk.list().map_err(on(disk, "list", ""))?;
    for name in names.iter().filter(|name| snapshot::is_draft(name)) {
        disk.remove(name).map_err(on(disk, "remove", name))?;
    }
    Ok(())
}
