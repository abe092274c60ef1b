//! The writer: opening under the rules of the crate's header, appending durable groups. Opening sled, which needs a
//! copy first, is in [`on_sled`]; snapshots, pruning and room on the disk are in [`retention`].

mod on_sled;
mod retention;

use crate::anchor::{self, Anchor, AnchorFile, Found, Position};
use crate::disk::{Directory, Disk, on};
use crate::files::ANCHOR;
use crate::frame::{self, GENESIS, Tip};
use crate::reader::Entries;
use crate::retained::{self, Catalogue};
use crate::sled_store::SledStore;
use crate::store::{Store, StoreFault};
use crate::verdict::{self, Judged, Verdict};
use crate::{Error, Head, JournalId};

pub use retention::Room;

/// What an opening found.
pub enum Opened<S: Store = SledStore, D: Disk = Directory> {
    /// There was nothing: a new journal with the identity passed (or that of a creation which was interrupted).
    Fresh(Journal<S, D>),
    /// History is continuous: everything ever acknowledged is there.
    Continued(Journal<S, D>),
    /// It is not, or nobody can say. Nothing in the directory was changed; the lock is free again.
    Damaged {
        /// What was found.
        verdict: Verdict,
        /// Whose journal it is, if the anchor says.
        id: Option<JournalId>,
    },
}

impl<S: Store, D: Disk> std::fmt::Debug for Opened<S, D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Fresh(journal) => f.debug_tuple("Fresh").field(journal).finish(),
            Self::Continued(journal) => f.debug_tuple("Continued").field(journal).finish(),
            Self::Damaged { verdict, id } => {
                f.debug_struct("Damaged").field("verdict", verdict).field("id", id).finish()
            }
        }
    }
}

/// An open journal, the only writer of its directory: on sled, unless another store is named.
///
/// Dropping it without [`Journal::close`] is an unclean stop: nothing acknowledged is lost, the next opening copies.
pub struct Journal<S: Store = SledStore, D: Disk = Directory> {
    // Declared before the disk, which may hold the lock.
    store: S,
    anchor: AnchorFile,
    tip: Tip,
    /// Frames of the last group: by it a step of pruning is measured.
    last_group: usize,
    catalogue: Catalogue,
    poisoned: Option<String>,
    disk: D,
}

impl<S: Store, D: Disk> std::fmt::Debug for Journal<S, D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Journal")
            .field("dir", &self.disk.path(""))
            .field("head", &self.tip.head)
            .field("poisoned", &self.poisoned)
            .finish_non_exhaustive()
    }
}

impl<S: Store, D: Disk> Journal<S, D> {
    /// Opens the journal whose frames are in `store` and whose anchor is on `disk`, or begins one with identity `fresh`
    /// where both are empty. `external` are heads known elsewhere; those of other journals are passed over.
    ///
    /// The journal starts no thread, reads no clock and draws nothing: the same calls on the same store and disk are
    /// answered alike. Who opens must be alone with both.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::Store`] if the machine refuses ([`RefusedBy::Machine`](crate::RefusedBy)) or a write
    /// fails. Damage, and what cannot be read, is no error but [`Opened::Damaged`]; nothing was written then.
    pub fn open_on(store: S, disk: D, fresh: JournalId, external: &[(JournalId, Head)]) -> Result<Opened<S, D>, Error> {
        let has_data = match store.is_empty() {
            Err(fault) => return Self::unread(&disk, fault, external),
            Ok(empty) => !empty || retained::may_have_snapshots(&disk)?,
        };
        match Start::of(anchor::read(&disk)?, has_data, external) {
            Start::Begin => {
                let anchor = AnchorFile::create(&disk, of_no_entries(fresh))?;
                Self::write_genesis(store, disk, anchor).map(Opened::Fresh)
            }
            Start::Damaged(verdict, id) => Ok(Opened::Damaged { verdict, id }),
            Start::Examine(position) => Self::resume(store, disk, position, external),
        }
    }

    /// What is to be said of a store that does not give back what it holds.
    pub(crate) fn unread(disk: &D, fault: StoreFault, external: &[(JournalId, Head)]) -> Result<Opened<S, D>, Error> {
        let (known, id) = match anchor::read(disk)? {
            Found::Present(position) => {
                let anchor = position.anchor();
                (verdict::last_known(anchor, external), Some(anchor.id))
            }
            Found::Absent | Found::Damaged(_) => (0, None),
        };
        Ok(Opened::Damaged { verdict: Verdict::of_unread(fault.into(), known)?, id })
    }

    /// Makes `group` the next entries, in order, all or none, and returns the new head once both the data and the
    /// anchor are on the disk.
    ///
    /// # Errors
    /// [`Error::GroupEmpty`], [`Error::GroupTooLong`], [`Error::EntryEmpty`], [`Error::EntryTooLarge`]: nothing was
    /// written. Any other error poisons the journal: whether the group exists will be known at the next opening, and
    /// until then every call is refused with [`Error::Poisoned`]. A failed sync must never be tried again
    /// (`reliability.md` §7), so the process should end.
    pub fn append(&mut self, group: &[Vec<u8>]) -> Result<Head, Error> {
        self.check_poison()?;
        let encoded = frame::encode_group(&self.tip, group)?;
        self.last_group = encoded.frames.len();
        let outcome = self.write_group(encoded.frames, encoded.tip.head);
        self.poison_unless(outcome)?;
        self.tip = encoded.tip;
        Ok(self.tip.head)
    }

    /// Tells the anchor that the last group is durable, so that its loss will be called by its name. For when nothing
    /// is queued: the next append does the same on the way.
    ///
    /// # Errors
    /// As [`Journal::append`].
    pub fn settle(&mut self) -> Result<(), Error> {
        self.check_poison()?;
        if self.anchor.anchor().settled == self.tip.head {
            return Ok(());
        }
        let outcome = self.write_anchor(self.settled());
        self.poison_unless(outcome)
    }

    /// Ends cleanly, so that the next opening needs no copy.
    ///
    /// # Errors
    /// As [`Journal::append`]; the next opening then takes the stop for unclean.
    pub fn close(mut self) -> Result<(), Error> {
        self.settle()?;
        let Self { store, mut anchor, tip, disk, .. } = self;
        let fingerprint = store.close()?;
        let (id, pruned_below) = (anchor.anchor().id, anchor.anchor().pruned_below);
        anchor.write(&disk, settled_at(id, tip.head, Some(fingerprint), pruned_below))?;
        disk.sync(ANCHOR).map_err(on(&disk, "sync", ANCHOR))
    }

    /// The last entry's number and the chain hash after it.
    #[must_use]
    pub fn head(&self) -> Head {
        self.tip.head
    }

    /// The journal's identity.
    #[must_use]
    pub fn id(&self) -> JournalId {
        self.anchor.anchor().id
    }

    /// Streams the entries from `from_seq` on, checking each; ends at the head. Opening checks only the last group:
    /// damage before it comes up here, as [`Error::EntryDamaged`]. Entries that were pruned are not passed over:
    /// [`Error::Pruned`].
    pub fn entries(&self, from_seq: u64) -> Entries<'_> {
        Entries::new(&self.store, &self.tip, from_seq)
    }

    /// The first frame of a journal whose anchor exists already. The anchor comes first: data without an anchor are
    /// damage, an anchor that knows of no entry is an interrupted beginning.
    fn write_genesis(mut store: S, disk: D, anchor: AnchorFile) -> Result<Self, Error> {
        let (genesis, tip) = frame::encode_genesis(anchor.anchor().id);
        store.put(vec![(GENESIS, genesis)])?;
        store.flush()?;
        Self::assemble(store, disk, anchor, tip, Catalogue::default())
    }

    /// Goes on with data that were cleanly closed, or are examined for the first time, or have just been recovered.
    fn resume(
        mut store: S,
        disk: D,
        position: Position,
        external: &[(JournalId, Head)],
    ) -> Result<Opened<S, D>, Error> {
        let anchor = AnchorFile::at(position);
        let catalogue = match Catalogue::read(&disk, anchor.anchor().id) {
            Ok(catalogue) => catalogue,
            Err(unread) => {
                let verdict = Verdict::of_unread(unread, verdict::last_known(anchor.anchor(), external))?;
                return Ok(Opened::Damaged { verdict, id: Some(anchor.anchor().id) });
            }
        };
        match verdict::judge(&store, anchor.anchor(), external, &catalogue.snapshots()) {
            Judged::Sound(tip) => {
                let unfinished = tip.frame.checked_add(1).ok_or(Error::Exhausted)?;
                if store.remove_from(unfinished)? {
                    store.flush()?;
                }
                let fresh = tip.head.seq == 0;
                let journal = Self::assemble(store, disk, anchor, tip, catalogue)?;
                Ok(if fresh { Opened::Fresh(journal) } else { Opened::Continued(journal) })
            }
            Judged::Unwritten => {
                store.remove_from(GENESIS)?;
                Self::write_genesis(store, disk, anchor).map(Opened::Fresh)
            }
            Judged::Damaged(verdict) => Ok(Opened::Damaged { verdict, id: Some(anchor.anchor().id) }),
        }
    }

    /// Makes everything opened durable, and says so in the anchor.
    fn assemble(store: S, disk: D, anchor: AnchorFile, tip: Tip, catalogue: Catalogue) -> Result<Self, Error> {
        retained::remove_drafts(&disk)?;
        let mut journal = Self { store, anchor, tip, last_group: 0, catalogue, poisoned: None, disk };
        journal.disk.sync_directory().map_err(on(&journal.disk, "sync the directory of", ANCHOR))?;
        journal.store.sync()?;
        journal.write_anchor(journal.settled())?;
        Ok(journal)
    }

    fn write_group(&mut self, frames: Vec<(u64, Vec<u8>)>, head: Head) -> Result<(), Error> {
        self.store.put(frames)?;
        self.store.flush()?;
        // Only after the flush: an anchor ahead of data that were never handed over would be a false alarm of loss.
        self.write_anchor(Anchor { pending: head, ..self.settled() })
    }

    /// The anchor that says that everything is durable.
    fn settled(&self) -> Anchor {
        settled_at(self.id(), self.tip.head, None, self.anchor.anchor().pruned_below)
    }

    /// Writes the anchor, then syncs it and the store, side by side where the disk does so.
    fn write_anchor(&mut self, anchor: Anchor) -> Result<(), Error> {
        self.anchor.write(&self.disk, anchor)?;
        let store = &self.store;
        let mut stored = Ok(());
        let anchored = self.disk.sync_beside(ANCHOR, &mut || stored = store.sync());
        stored?;
        anchored.map_err(on(&self.disk, "sync", ANCHOR))
    }

    fn check_poison(&self) -> Result<(), Error> {
        match &self.poisoned {
            Some(reason) => Err(Error::Poisoned { reason: reason.clone() }),
            None => Ok(()),
        }
    }

    fn poison_unless(&mut self, outcome: Result<(), Error>) -> Result<(), Error> {
        if let Err(error) = &outcome {
            self.poisoned = Some(error.to_string());
        }
        outcome
    }
}

/// What to do, before the data have been looked into.
enum Start {
    Begin,
    Damaged(Verdict, Option<JournalId>),
    Examine(Position),
}

impl Start {
    fn of(found: Found, has_data: bool, external: &[(JournalId, Head)]) -> Self {
        let position = match found {
            Found::Absent if has_data => return Self::Damaged(Verdict::AnchorLost, None),
            Found::Absent => return Self::Begin,
            Found::Damaged(reason) => return Self::Damaged(Verdict::AnchorDamaged { reason }, None),
            Found::Present(position) => position,
        };
        let known = verdict::last_known(position.anchor(), external);
        if !has_data && known > 0 {
            let verdict = Verdict::HistoryLost { from: 1, to: known };
            return Self::Damaged(verdict, Some(position.anchor().id));
        }
        Self::Examine(position)
    }
}

fn settled_at(id: JournalId, head: Head, closed: Option<u32>, pruned_below: u64) -> Anchor {
    Anchor { id, settled: head, pending: head, closed, pruned_below }
}

/// The anchor of a journal that is being begun.
fn of_no_entries(id: JournalId) -> Anchor {
    settled_at(id, frame::encode_genesis(id).1.head, None, 0)
}

#[cfg(test)]
mod tests;
