//! Opening the journal on sled without harm: sled rewrites its files while it opens them, so after anything but a clean
//! stop a copy is opened, and takes the place of the original only if its verdict is good.

use std::path::Path;

use super::{Journal, Opened, Start, of_no_entries};
use crate::anchor::{self, Anchor, AnchorFile};
use crate::copy::open_copy;
use crate::disk::Directory;
use crate::files::{self, SLED, SLED_BEFORE_OPEN, SLED_DB, SLED_OPENING, at};
use crate::sled_store::SledStore;
use crate::verdict::{self, Judged, Verdict};
use crate::{Error, Head, JournalId};

impl Journal {
    /// Opens the journal on sled in `dir`, or begins one with identity `fresh` where there is none. `external` are heads
    /// known elsewhere; those of other journals are passed over.
    ///
    /// # Errors
    /// [`Error::InUse`] if another process has it open, [`Error::Io`] and [`Error::Store`] if the file system refuses.
    /// Damage is no error but [`Opened::Damaged`].
    pub fn open(dir: &Path, fresh: JournalId, external: &[(JournalId, Head)]) -> Result<Opened, Error> {
        let disk = Directory::open(dir)?;
        undo_interrupted_exchange(dir)?;
        let sled = dir.join(SLED);
        let has_data = sled.join(SLED_DB).exists();
        let position = match Start::of(anchor::read(&disk)?, has_data, external) {
            Start::Begin => {
                let anchor = AnchorFile::create(&disk, of_no_entries(fresh))?;
                return Self::write_genesis(SledStore::open(&sled)?, disk, anchor).map(Opened::Fresh);
            }
            Start::Damaged(verdict, id) => return Ok(Opened::Damaged { verdict, id }),
            Start::Examine(position) => position,
        };
        let anchor = *position.anchor();
        let known = verdict::last_known(&anchor, external);
        let clean = has_data && known == anchor.pending.seq && anchor.closed == Some(files::fingerprint(&sled)?);
        if has_data
            && !clean
            && let Some(verdict) = recover(dir, &anchor, external)?
        {
            return Ok(Opened::Damaged { verdict, id: Some(anchor.id) });
        }
        Self::resume(SledStore::open(&sled)?, disk, position, external)
    }
}

/// After an unclean stop: lets sled recover a copy, and only if that copy is whole makes it the live one, the original
/// staying beside it. Gives the verdict that forbids it.
fn recover(dir: &Path, anchor: &Anchor, external: &[(JournalId, Head)]) -> Result<Option<Verdict>, Error> {
    let (live, copy) = (dir.join(SLED), dir.join(SLED_OPENING));
    let known = verdict::last_known(anchor, external);
    let verdict = match open_copy(&live, &copy)? {
        Ok(store) => match verdict::judge(&store, anchor, external) {
            Judged::Sound(_) | Judged::Unwritten => None,
            Judged::Damaged(verdict) => Some(verdict),
        },
        Err(fault) => Some(Verdict::Unreadable { reason: fault.to_string(), lost: (known > 0).then_some((1, known)) }),
    };
    if verdict.is_some() {
        files::remove_tree(&copy)?;
        return Ok(verdict);
    }
    files::sync_tree(&copy)?;
    let before = dir.join(SLED_BEFORE_OPEN);
    files::remove_tree(&before)?;
    std::fs::rename(&live, &before).map_err(at("rename", &live))?;
    std::fs::rename(&copy, &live).map_err(at("rename", &copy))?;
    files::sync_file(dir)?;
    Ok(None)
}

/// Between the two renames of [`recover`] there is no live directory: puts the original back.
fn undo_interrupted_exchange(dir: &Path) -> Result<(), Error> {
    let (live, data) = (dir.join(SLED), files::data_dir(dir));
    if data != live {
        std::fs::rename(&data, &live).map_err(at("rename", &data))?;
        files::sync_file(dir)?;
    }
    Ok(())
}
