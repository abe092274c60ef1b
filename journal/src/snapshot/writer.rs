//! Writing a snapshot in the background: in pieces, each synced by itself, under its name only once it is whole.

use super::{HEADER_BYTES, Snapshot, SnapshotEntries, beginning, draft_of, encode_header, encode_trailer, name_of};
use crate::disk::{Disk, on};
use crate::frame::{self, Tip};
use crate::retained::Catalogue;
use crate::{Error, GROUP_ENTRIES_MAX, Head, JournalId};

/// Bytes gathered before they are written and synced: small enough that an append's own sync, which the file system may
/// order behind this one, waits no longer than for a large group.
const PIECE_BYTES: usize = 1 << 20;

/// A snapshot being written: entries in, then the digest. Dropping it leaves nothing that counts. It touches neither
/// frames nor anchor, so it may run in any thread while the journal goes on.
#[derive(Debug)]
pub struct SnapshotWriter<D: Disk> {
    disk: D,
    catalogue: Catalogue,
    through: Head,
    frame: u64,
    begin: [u8; 32],
    tip: Tip,
    waiting: Vec<Vec<u8>>,
    waiting_bytes: usize,
    offset: u64,
    finished: bool,
}

impl<D: Disk> SnapshotWriter<D> {
    pub(crate) fn begin(
        disk: D,
        catalogue: Catalogue,
        id: JournalId,
        through: Head,
        frame: u64,
    ) -> Result<Self, Error> {
        catalogue.begin_writing()?;
        let header = encode_header(id, &through, frame);
        let begin = beginning(&header);
        let head = Head { seq: 0, hash: begin };
        let tip = Tip { frame: 0, head, before: head, first: 1 };
        let mut writer = Self {
            disk,
            catalogue,
            through,
            frame,
            begin,
            tip,
            waiting: Vec::new(),
            waiting_bytes: 0,
            offset: 0,
            finished: false,
        };
        let draft = writer.draft();
        writer.disk.create(&draft).map_err(on(&writer.disk, "create", &draft))?;
        writer.write(&header)?;
        Ok(writer)
    }

    /// The journal's head that the snapshot stands for: the entries must add up to all that happened until then.
    #[must_use]
    pub fn through(&self) -> Head {
        self.through
    }

    /// Adds an entry.
    ///
    /// # Errors
    /// [`Error::EntryEmpty`] and [`Error::EntryTooLarge`] as the journal; [`Error::Io`]: the snapshot cannot be finished
    /// then, the journal is not concerned.
    pub fn push(&mut self, entry: Vec<u8>) -> Result<(), Error> {
        frame::check_entry(self.waiting.len(), &entry)?;
        self.waiting_bytes = self.waiting_bytes.saturating_add(entry.len());
        self.waiting.push(entry);
        if self.waiting_bytes >= PIECE_BYTES || self.waiting.len() >= GROUP_ENTRIES_MAX {
            self.write_waiting()?;
        }
        Ok(())
    }

    /// Ends the snapshot with the caller's digest of all it stands for, makes it durable, reads it again, and gives it
    /// its name. From then on it counts for pruning.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::SnapshotDamaged`] if it does not read as it was written. It does not count then.
    pub fn finish(mut self, digest: [u8; 32]) -> Result<Snapshot, Error> {
        if !self.waiting.is_empty() {
            self.write_waiting()?;
        }
        let Tip { frame: frames, head: Head { seq: entries, hash: end }, .. } = self.tip;
        self.write(&encode_trailer(entries, frames, &end, &digest))?;
        let Self { through, frame, begin, offset: bytes, .. } = self;
        let snapshot = Snapshot { through, entries, digest, bytes, frame, frames, begin, end };
        let (draft, name) = (self.draft(), name_of(through.seq));
        SnapshotEntries::in_file(&self.disk, snapshot, draft.clone()).try_for_each(|entry| entry.map(drop))?;
        self.disk.rename(&draft, &name).map_err(on(&self.disk, "rename", &draft))?;
        self.disk.sync_directory().map_err(on(&self.disk, "sync the directory of", &name))?;
        self.finished = true;
        self.catalogue.add(snapshot);
        Ok(snapshot)
    }

    fn draft(&self) -> String {
        draft_of(self.through.seq)
    }

    fn write_waiting(&mut self) -> Result<(), Error> {
        let encoded = frame::encode_group(&self.tip, &self.waiting)?;
        let bytes: Vec<u8> = encoded.frames.into_iter().flat_map(|(_, bytes)| bytes).collect();
        self.tip = encoded.tip;
        self.waiting.clear();
        self.waiting_bytes = 0;
        self.write(&bytes)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let draft = self.draft();
        self.disk.write_at(&draft, self.offset, bytes).map_err(on(&self.disk, "write", &draft))?;
        self.disk.sync(&draft).map_err(on(&self.disk, "sync", &draft))?;
        self.offset = self.offset.saturating_add(bytes.len() as u64);
        Ok(())
    }
}

impl<D: Disk> Drop for SnapshotWriter<D> {
    fn drop(&mut self) {
        if !self.finished {
            // If it cannot be removed now, the next opening removes it.
            drop(self.disk.remove(&self.draft()));
        }
        self.catalogue.end_writing();
    }
}

const _: () = assert!(HEADER_BYTES < PIECE_BYTES, "the header is written at once");
