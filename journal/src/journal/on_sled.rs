//! Opening the journal on sled without harm: sled rewrites its files while it opens them, so after anything but a clean
//! stop a copy is opened, and takes the place of the original only if its verdict is good.

use std::path::Path;

use super::{Journal, Opened, Start, of_no_entries};
use crate::anchor::{self, Anchor, AnchorFile};
use crate::copy::open_copy;
use crate::disk::{Directory, Disk as _, on};
use crate::files::{self, SLED, SLED_BEFORE_OPEN, SLED_DB, SLED_OPENING, at};
use crate::retained::{self, Catalogue};
use crate::sled_store::SledStore;
use crate::snapshot::Snapshot;
use crate::store::RefusedBy;
use crate::verdict::{self, Judged, Verdict};
use crate::{Error, Head, JournalId};

impl Journal {
    /// Opens the journal on sled in `dir`, or begins one with identity `fresh` where there is none. `external` are heads
    /// known elsewhere; those of other journals are passed over.
    ///
    /// # Errors
    /// [`Error::InUse`] if another process has it open, [`Error::NoRoom`] if a copy is needed and does not fit,
    /// [`Error::Io`] and [`Error::Store`] if the file system refuses: no room, no permission, no open files left, or a
    /// failed write. Damage is no error but [`Opened::Damaged`], and so is a disk that does not give back a file.
    pub fn open(dir: &Path, fresh: JournalId, external: &[(JournalId, Head)]) -> Result<Opened, Error> {
        let disk = Directory::open(dir)?;
        undo_interrupted_exchange(dir)?;
        let sled = dir.join(SLED);
        let has_data = files::is_there(&sled.join(SLED_DB))?;
        let left = has_data || retained::may_have_snapshots(&disk)?;
        let position = match Start::of(anchor::read(&disk)?, left, external) {
            Start::Begin => {
                let anchor = AnchorFile::create(&disk, of_no_entries(fresh))?;
                return Self::write_genesis(SledStore::open(&sled)?, disk, anchor).map(Opened::Fresh);
            }
            Start::Damaged(verdict, id) => return Ok(Opened::Damaged { verdict, id }),
            Start::Examine(position) => position,
        };
        let anchor = *position.anchor();
        let known = verdict::last_known(&anchor, external);
        if !has_data && known > 0 {
            let verdict = Verdict::HistoryLost { from: 1, to: known };
            return Ok(Opened::Damaged { verdict, id: Some(anchor.id) });
        }
        if !has_data {
            return Self::resume(SledStore::open(&sled)?, disk, position, external);
        }
        let snapshots = match Catalogue::read(&disk, anchor.id) {
            Ok(catalogue) => catalogue.snapshots(),
            Err(unread) => {
                return Ok(Opened::Damaged { verdict: Verdict::of_unread(unread, known)?, id: Some(anchor.id) });
            }
        };
        let unchanged = known == anchor.pending.seq && is_unchanged(&sled, &anchor)?;
        let store = match if unchanged { open_in_place(&sled)? } else { None } {
            Some(store) => Ok(store),
            None => match recover(dir, &disk, &anchor, external, &snapshots)? {
                Some(verdict) => Err(verdict),
                None => match SledStore::open(&sled) {
                    Err(fault) => Err(Verdict::of_unread(fault.into(), known)?),
                    Ok(store) => Ok(store),
                },
            },
        };
        match store {
            Ok(store) => Self::resume(store, disk, position, external),
            Err(verdict) => Ok(Opened::Damaged { verdict, id: Some(anchor.id) }),
        }
    }
}

/// Whether sled's files are those of the clean stop. Of files that the disk does not give back nobody can say so: the
/// copy will meet them, too.
fn is_unchanged(sled: &Path, anchor: &Anchor) -> Result<bool, Error> {
    let Some(closed) = anchor.closed else { return Ok(false) };
    match files::fingerprint(sled) {
        Err(error) if error.refused_by() == RefusedBy::Store => Ok(false),
        fingerprint => Ok(fingerprint? == closed),
    }
}

/// Opens files that were cleanly closed; `None` if sled cannot although they are what they were.
fn open_in_place(sled: &Path) -> Result<Option<SledStore>, Error> {
    match SledStore::open(sled) {
        Err(fault) if fault.by == RefusedBy::Store => Ok(None),
        store => Ok(Some(store?)),
    }
}

/// After an unclean stop: lets sled recover a copy, and only if that copy is whole makes it the live one, the original
/// staying beside it. Gives the verdict that forbids it.
fn recover(
    dir: &Path,
    disk: &Directory,
    anchor: &Anchor,
    external: &[(JournalId, Head)],
    snapshots: &[Snapshot],
) -> Result<Option<Verdict>, Error> {
    let (live, copy) = (dir.join(SLED), dir.join(SLED_OPENING));
    files::remove_tree(&copy)?;
    let known = verdict::last_known(anchor, external);
    let bytes = match files::tree_bytes(&live) {
        Ok(bytes) => bytes,
        Err(unread) => return Verdict::of_unread(unread, known).map(Some),
    };
    make_room(dir, bytes, || disk.free_bytes().map_err(on(disk, "measure", "")))?;
    let verdict = match open_copy(&live, &copy)? {
        Ok(store) => match verdict::judge(&store, anchor, external, snapshots) {
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

/// Makes sure that a copy fits before it is begun: half a copy would only make a full disk fuller. What was kept of an
/// earlier opening goes first, for what followed it was found whole.
fn make_room(dir: &Path, needed: u64, free: impl Fn() -> Result<u64, Error>) -> Result<(), Error> {
    if free()? < needed {
        files::remove_tree(&dir.join(SLED_BEFORE_OPEN))?;
    }
    let free = free()?;
    if free < needed { Err(Error::NoRoom { needed, free }) } else { Ok(()) }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_kept_of_an_earlier_opening_makes_room() {
        let dir = tempfile::tempdir().unwrap();
        let before = dir.path().join(SLED_BEFORE_OPEN);
        std::fs::create_dir(&before).unwrap();
        make_room(dir.path(), 100, || Ok(100)).unwrap();
        assert!(before.exists(), "there was room");
        make_room(dir.path(), 100, || Ok(if before.exists() { 99 } else { 150 })).unwrap();
        assert!(!before.exists());
        let refused = make_room(dir.path(), 100, || Ok(40)).unwrap_err();
        assert!(matches!(refused, Error::NoRoom { needed: 100, free: 40 }), "{refused}");
    }
}
