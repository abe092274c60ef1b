//! Opening sled on a copy, because sled rewrites its files while it opens them, and reading a journal without a right
//! to change it.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;

use crate::anchor::{self, Anchor, Found};
use crate::disk::{Directory, Disk as _};
use crate::files::{self, SLED, SLED_DB, at};
use crate::frame::Tip;
use crate::plain::{self, Segments};
use crate::reader::{self, Entries};
use crate::retained::{self, Catalogue};
use crate::sled_store::SledStore;
use crate::snapshot::{self, Snapshot, SnapshotEntries};
use crate::store::{ReadFrames, RefusedBy, StoreFault};
use crate::verdict::{self, Judged, Verdict};
use crate::{Error, Head, JournalId, export};

/// Copies sled's files from `from` to the new directory `to` and opens the copy. Where sled fails on it, or the disk does
/// not give all files back, once more without its derived files: the snapshot of its page table (it then reads its whole
/// log) and its settings.
pub(crate) fn open_copy(from: &Path, to: &Path) -> Result<Result<SledStore, StoreFault>, Error> {
    files::remove_tree(to)?;
    let fault = match copied(files::copy_tree(from, to, |_| true), to)? {
        Err(unread) => unread,
        Ok(()) if files::is_occupied(&to.join("blobs"))? => {
            return Ok(Err(StoreFault::new(
                "open",
                "it holds values outside its log, which this journal never writes",
            )));
        }
        Ok(()) => match open_or_refused(to)? {
            Ok(store) => return Ok(Ok(store)),
            Err(fault) => fault,
        },
    };
    files::remove_tree(to)?;
    let log = files::copy_tree(from, to, |name| name != "conf" && !name.starts_with("snap."));
    if let Err(unread) = copied(log, to)? {
        return Ok(Err(unread));
    }
    Ok(open_or_refused(to)?.map_err(|_| fault))
}

/// A file that the disk does not give back is a fault of what is stored. Half a copy that the machine refused goes: on a
/// full disk it is in the way.
fn copied(outcome: Result<Result<(), Error>, Error>, copy: &Path) -> Result<Result<(), StoreFault>, Error> {
    match outcome {
        Ok(copied) => Ok(copied.map_err(|unread| StoreFault::new("copy its files", unread.in_full()))),
        Err(refused) => {
            files::remove_tree(copy)?;
            Err(refused)
        }
    }
}

/// Opens a copy. A refusal of the machine is an error and no damage; then the copy goes: on a full disk it is in the way.
fn open_or_refused(copy: &Path) -> Result<Result<SledStore, StoreFault>, Error> {
    let opened = SledStore::open(copy);
    if let Err(fault) = &opened
        && fault.by == RefusedBy::Machine
    {
        files::remove_tree(copy)?;
        return Err(fault.clone().into());
    }
    Ok(opened)
}

/// A journal opened for reading, on a private copy.
pub struct ReadCopy {
    store: Option<Box<dyn ReadFrames>>,
    tip: Option<Tip>,
    anchor: Option<Anchor>,
    id: Option<JournalId>,
    verdict: Verdict,
    snapshots: Vec<Snapshot>,
    unusable: Vec<(u64, String)>,
    disk: Arc<Directory>,
    // Declared last: removed after sled has let go of the files in it.
    _private: TempDir,
}

impl std::fmt::Debug for ReadCopy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReadCopy").field("id", &self.id).field("verdict", &self.verdict).finish_non_exhaustive()
    }
}

/// How far an anchor knows its journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnchorHeads {
    /// Every entry up to here was durable before the anchor was written.
    pub settled: Head,
    /// Head after the last group the anchor knows.
    pub pending: Head,
}

/// Copies the journal in `dir`, on sled or on plain segments, to a temporary directory and reads all of it there, so the
/// verdict speaks of each entry. Nothing in `dir` is written.
///
/// # Errors
/// [`Error::NoJournal`] if there is none, [`Error::InUse`] if a writer has it open, [`Error::Io`] if it cannot be
/// copied. Damage is no error but a [`Verdict`].
pub fn read_copy(dir: &Path) -> Result<ReadCopy, Error> {
    let source = Directory::open_to_read(dir)?;
    let data = files::data_dir(dir);
    let names = source.list().unwrap_or_default();
    let (on_sled, on_segments) = (data.join(SLED_DB).exists(), names.iter().any(|name| plain::is_segment(name)));
    let has_data = on_sled || on_segments || !retained::snapshots_on(&source).unwrap_or_default().is_empty();
    let found = anchor::read(&source)?;
    if !has_data && matches!(found, Found::Absent) {
        return Err(Error::NoJournal { dir: dir.into() });
    }
    let private = private_dir()?;
    let mut unread = Vec::new();
    for name in names.iter().filter(|name| plain::is_segment(name) || snapshot::seq_in(name).is_some()) {
        if let Err(error) = files::copy_file(&dir.join(name), &private.path().join(name))? {
            unread.push((name, error));
        }
    }
    let disk = Arc::new(Directory::open(private.path())?);
    let unread_segment = unread.iter().find(|(name, _)| plain::is_segment(name));
    let store: Option<Result<Box<dyn ReadFrames>, StoreFault>> = if let Some((_, error)) = unread_segment {
        Some(Err(StoreFault::new("copy a segment", error.in_full())))
    } else if on_sled {
        Some(open_copy(&data, &private.path().join(SLED))?.map(|store| Box::new(store) as _))
    } else if on_segments {
        Some(Segments::open(Arc::clone(&disk)).map(|store| Box::new(store) as _))
    } else {
        None
    };
    drop(source);
    ReadCopy::judged(store, found, disk, private)
}

/// Reads an export (see the crate's page) in the file `path`, all of it, so the verdict speaks of each entry: its first
/// line is what an anchor is to a journal.
///
/// # Errors
/// [`Error::NoExport`] if it is none, [`Error::Io`]. Damage is no error but a [`Verdict`].
pub fn read_export(path: &Path) -> Result<ReadCopy, Error> {
    let file = File::open(path).map_err(at("open", path))?;
    let private = private_dir()?;
    let directory = Directory::open(private.path())?;
    let imported = export::import(BufReader::new(file), &directory)?;
    let (id, head) = (imported.id, imported.head);
    let said = Anchor { id, settled: head, pending: head, closed: None, pruned_below: imported.first_frame };
    let disk = Arc::new(directory);
    let store = Segments::open(Arc::clone(&disk)).map(|store| Box::new(store) as _);
    let mut copy = ReadCopy::judged(Some(store), Found::Present(anchor::Position::of(said)), disk, private)?;
    // Nobody but the export itself speaks for it.
    copy.anchor = None;
    if let Some(reason) = imported.broken {
        let read = copy.head().map_or(0, |head| head.seq);
        copy.verdict = if read < head.seq {
            Verdict::EntryDamaged { from: read.saturating_add(1), to: head.seq, reason }
        } else {
            Verdict::Unreadable { reason, lost: None }
        };
    }
    Ok(copy)
}

fn private_dir() -> Result<TempDir, Error> {
    tempfile::tempdir().map_err(at("create", &std::env::temp_dir()))
}

impl ReadCopy {
    fn judged(
        store: Option<Result<Box<dyn ReadFrames>, StoreFault>>,
        found: Found,
        disk: Arc<Directory>,
        private: TempDir,
    ) -> Result<Self, Error> {
        let (anchor, mut verdict) = match found {
            Found::Absent => (None, Verdict::AnchorLost),
            Found::Damaged(reason) => (None, Verdict::AnchorDamaged { reason }),
            Found::Present(position) => (Some(*position.anchor()), Verdict::Intact),
        };
        let known = anchor.map_or(0, |anchor| anchor.pending.seq);
        let store = match store {
            Some(Ok(store)) => Some(store),
            Some(Err(fault)) => {
                verdict = Verdict::Unreadable { reason: fault.to_string(), lost: (known > 0).then_some((1, known)) };
                None
            }
            None => {
                if known > 0 {
                    verdict = Verdict::HistoryLost { from: 1, to: known };
                }
                None
            }
        };
        let id = anchor.map(|anchor| anchor.id).or_else(|| reader::journal_id(store.as_deref()?).ok().flatten());
        let catalogue = id.map_or_else(|| Ok(Catalogue::default()), |id| Catalogue::read(&disk, id))?;
        let (snapshots, unusable) = (catalogue.snapshots(), catalogue.unusable());
        if let (Some(store), Some(anchor)) = (store.as_deref(), &anchor)
            && let Judged::Damaged(damage) = verdict::judge(store, anchor, &[], &snapshots)
        {
            verdict = damage;
        }
        let tip = store.as_deref().and_then(|store| reader::tip(store).ok().flatten());
        let mut copy = Self { store, tip, anchor, id, verdict, snapshots, unusable, disk, _private: private };
        copy.read_all(known);
        Ok(copy)
    }

    /// Looks at every entry and every snapshot.
    fn read_all(&mut self, known: u64) {
        let mut damaged = Vec::new();
        for snapshot in &self.snapshots {
            if let Some(error) = self.snapshot_entries(snapshot).find_map(Result::err) {
                damaged.push((snapshot.through.seq, error.to_string()));
            }
        }
        self.snapshots.retain(|snapshot| damaged.iter().all(|(seq, _)| *seq != snapshot.through.seq));
        self.unusable.extend(damaged);
        if !self.verdict.is_intact() {
            return;
        }
        if let (Some(store), Some(tip)) = (self.store.as_deref(), &self.tip)
            && tip.first > 1
            && verdict::base_of(store, tip, &self.snapshots).is_none()
        {
            let to = self.first_seq().saturating_sub(1);
            self.verdict = Verdict::HistoryLost { from: 1, to };
            return;
        }
        let damage = self.entries(self.first_seq()).find_map(Result::err);
        if let Some(Error::EntryDamaged { seq, reason }) = damage {
            let to = known.max(self.head().map_or(0, |head| head.seq)).max(seq);
            self.verdict = Verdict::EntryDamaged { from: seq, to, reason };
        }
    }

    /// The journal's identity, from the anchor or else from the data.
    #[must_use]
    pub fn id(&self) -> Option<JournalId> {
        self.id
    }

    /// What the anchor knows; `None` if it is missing or damaged, and of an export.
    #[must_use]
    pub fn anchor(&self) -> Option<AnchorHeads> {
        self.anchor.map(|anchor| AnchorHeads { settled: anchor.settled, pending: anchor.pending })
    }

    /// The last complete group's head, if the data can be read at their end.
    #[must_use]
    pub fn head(&self) -> Option<Head> {
        self.tip.map(|tip| tip.head)
    }

    /// The lowest entry that is left: 1, unless earlier ones were pruned.
    #[must_use]
    pub fn first_seq(&self) -> u64 {
        match (self.store.as_deref(), &self.tip) {
            (Some(store), Some(tip)) => reader::first_seq(store, tip).unwrap_or(1),
            (Some(_) | None, _) => 1,
        }
    }

    /// Whether the whole history is there: all entries that were not pruned, and a snapshot for those that were.
    #[must_use]
    pub fn verdict(&self) -> &Verdict {
        &self.verdict
    }

    /// Entries from `from_seq` on, as far as they can be read: a prefix of the history from there, whatever the verdict.
    pub fn entries(&self, from_seq: u64) -> Entries<'_> {
        match (self.store.as_deref(), &self.tip) {
            (Some(store), Some(tip)) => Entries::new(store, tip, from_seq),
            (Some(store), None) => Entries::of_damaged(store, None, from_seq),
            (None, _) => Entries::none(),
        }
    }

    /// The snapshots, each read to its end, the oldest first.
    #[must_use]
    pub fn snapshots(&self) -> &[Snapshot] {
        &self.snapshots
    }

    /// Files with a snapshot's name that are none, by the last entry they would stand for, and why.
    #[must_use]
    pub fn unusable_snapshots(&self) -> &[(u64, String)] {
        &self.unusable
    }

    /// Streams the entries of a snapshot.
    pub fn snapshot_entries(&self, snapshot: &Snapshot) -> SnapshotEntries<Arc<Directory>> {
        SnapshotEntries::new(Arc::clone(&self.disk), *snapshot)
    }

    /// Whether the journal's head was once exactly this one.
    ///
    /// # Errors
    /// [`Error::EntryDamaged`] if damage prevents the look-up, [`Error::Pruned`] if the place was pruned.
    pub fn holds(&self, head: &Head) -> Result<bool, Error> {
        let (Some(store), Some(tip)) = (self.store.as_deref(), &self.tip) else {
            return Ok(false);
        };
        reader::holds(store, tip, head)
            .map_err(|broken| Error::EntryDamaged { seq: head.seq, reason: broken.reason })?
            .ok_or_else(|| Error::Pruned { first: self.first_seq() })
    }
}
