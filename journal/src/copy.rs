//! Opening sled on a copy, because sled rewrites its files while it opens them, and reading a journal without a right
//! to change it.

use std::path::Path;

use tempfile::TempDir;

use crate::anchor::{self, Anchor, Found};
use crate::disk::Directory;
use crate::files::{self, SLED, SLED_DB, at};
use crate::frame::Tip;
use crate::reader::{self, Entries};
use crate::sled_store::SledStore;
use crate::store::{Store, StoreFault};
use crate::verdict::{self, Judged, Verdict};
use crate::{Error, Head, JournalId};

/// Copies sled's files from `from` to the new directory `to` and opens the copy. Where sled fails on it, once more
/// without its derived files: the snapshot of its page table (it then reads its whole log) and its settings.
pub(crate) fn open_copy(from: &Path, to: &Path) -> Result<Result<SledStore, StoreFault>, Error> {
    files::remove_tree(to)?;
    files::copy_tree(from, to, |_| true)?;
    if files::is_occupied(&to.join("blobs"))? {
        return Ok(Err(StoreFault::new("open", "it holds values outside its log, which this journal never writes")));
    }
    let fault = match SledStore::open(to) {
        Ok(store) => return Ok(Ok(store)),
        Err(fault) => fault,
    };
    files::remove_tree(to)?;
    files::copy_tree(from, to, |name| name != "conf" && !name.starts_with("snap."))?;
    Ok(SledStore::open(to).map_err(|_| fault))
}

/// A journal opened for reading, on a private copy.
pub struct ReadCopy {
    store: Option<Box<dyn Store>>,
    tip: Option<Tip>,
    anchor: Option<Anchor>,
    id: Option<JournalId>,
    verdict: Verdict,
    // Declared last: removed after sled has let go of the files in it.
    _dir: TempDir,
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

/// Copies the journal in `dir` to a temporary directory and reads all of it there, so the verdict speaks of each entry.
/// Nothing in `dir` is written.
///
/// # Errors
/// [`Error::NoJournal`] if there is none, [`Error::InUse`] if a writer has it open, [`Error::Io`] if it cannot be
/// copied. Damage is no error but a [`Verdict`].
pub fn read_copy(dir: &Path) -> Result<ReadCopy, Error> {
    let disk = Directory::open_to_read(dir)?;
    let data = files::data_dir(dir);
    let has_data = data.join(SLED_DB).exists();
    let found = anchor::read(&disk)?;
    if !has_data && matches!(found, Found::Absent) {
        return Err(Error::NoJournal { dir: dir.into() });
    }
    let private = tempfile::tempdir().map_err(at("create", &std::env::temp_dir()))?;
    let (anchor, mut verdict) = match found {
        Found::Absent => (None, Verdict::AnchorLost),
        Found::Damaged(reason) => (None, Verdict::AnchorDamaged { reason }),
        Found::Present(position) => (Some(*position.anchor()), Verdict::Intact),
    };
    let known = anchor.map_or(0, |anchor| anchor.pending.seq);
    let mut store: Option<Box<dyn Store>> = None;
    if has_data {
        match open_copy(&data, &private.path().join(SLED))? {
            Ok(opened) => store = Some(Box::new(opened)),
            Err(fault) => {
                verdict = Verdict::Unreadable { reason: fault.to_string(), lost: (known > 0).then_some((1, known)) }
            }
        }
    } else if known > 0 {
        verdict = Verdict::HistoryLost { from: 1, to: known };
    }
    if let (Some(store), Some(anchor)) = (store.as_deref(), &anchor)
        && let Judged::Damaged(damage) = verdict::judge(store, anchor, &[])
    {
        verdict = damage;
    }
    let tip = store.as_deref().and_then(|store| reader::tip(store).ok().flatten());
    let mut copy = ReadCopy {
        id: anchor.map(|anchor| anchor.id).or_else(|| {
            let store = store.as_deref()?;
            reader::journal_id(store).ok().flatten()
        }),
        store,
        tip,
        anchor,
        verdict,
        _dir: private,
    };
    if copy.verdict.is_intact() {
        let damage = copy.entries(1).find_map(Result::err);
        if let Some(Error::EntryDamaged { seq, reason }) = damage {
            let to = known.max(copy.head().map_or(0, |head| head.seq)).max(seq);
            copy.verdict = Verdict::EntryDamaged { from: seq, to, reason };
        }
    }
    Ok(copy)
}

impl ReadCopy {
    /// The journal's identity, from the anchor or else from the data.
    #[must_use]
    pub fn id(&self) -> Option<JournalId> {
        self.id
    }

    /// What the anchor knows; `None` if it is missing or damaged.
    #[must_use]
    pub fn anchor(&self) -> Option<AnchorHeads> {
        self.anchor.map(|anchor| AnchorHeads { settled: anchor.settled, pending: anchor.pending })
    }

    /// The last complete group's head, if the data can be read at their end.
    #[must_use]
    pub fn head(&self) -> Option<Head> {
        self.tip.map(|tip| tip.head)
    }

    /// Whether the whole history is there.
    #[must_use]
    pub fn verdict(&self) -> &Verdict {
        &self.verdict
    }

    /// Entries from `from_seq` on, as far as they can be read: a prefix of the history, whatever the verdict.
    pub fn entries(&self, from_seq: u64) -> Entries<'_> {
        match (self.store.as_deref(), &self.tip) {
            (Some(store), Some(tip)) => Entries::new(store, tip, from_seq),
            (Some(store), None) => Entries::of_damaged(store, from_seq),
            (None, _) => Entries::none(),
        }
    }

    /// Whether the journal's head was once exactly this one.
    ///
    /// # Errors
    /// [`Error::EntryDamaged`] if damage prevents the look-up.
    pub fn holds(&self, head: &Head) -> Result<bool, Error> {
        let (Some(store), Some(tip)) = (self.store.as_deref(), &self.tip) else {
            return Ok(false);
        };
        reader::holds(store, tip, head).map_err(|broken| Error::EntryDamaged { seq: head.seq, reason: broken.reason })
    }
}
