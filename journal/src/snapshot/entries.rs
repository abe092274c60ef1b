//! Reading a snapshot: a frame at a time, each checked, the end compared with the trailer.

use super::{HEADER_BYTES, Snapshot, TRAILER_BYTES, name_of};
use crate::disk::{self, Disk, on};
use crate::frame::{self, Frame, Kind};
use crate::{Entry, Error, FRAME_BYTES_MAX};

/// Read at once; several frames, for a call of the system costs more than a frame.
const READ_BYTES: usize = 64 << 10;

const _: () = assert!(READ_BYTES > FRAME_BYTES_MAX, "a frame fits what is read at once");

/// The entries of a snapshot, numbered from 1. Only after the last one is it sure that the snapshot is whole: anything
/// that is not as it was written ends the iteration with [`Error::SnapshotDamaged`].
#[derive(Debug)]
pub struct SnapshotEntries<D> {
    disk: D,
    snapshot: Snapshot,
    name: String,
    /// Bytes that were read and not yet decoded, from `start` on.
    buffer: Vec<u8>,
    start: usize,
    /// Where in the file the next bytes are read, and where the trailer begins.
    offset: u64,
    end: u64,
    number: u64,
    seq: u64,
    chain: [u8; 32],
    ready: std::vec::IntoIter<Entry>,
    ended: bool,
}

impl<D: Disk> SnapshotEntries<D> {
    pub(crate) fn new(disk: D, snapshot: Snapshot) -> Self {
        Self::in_file(disk, snapshot, name_of(snapshot.through.seq))
    }

    pub(super) fn in_file(disk: D, snapshot: Snapshot, name: String) -> Self {
        Self {
            disk,
            name,
            buffer: Vec::new(),
            start: 0,
            offset: HEADER_BYTES as u64,
            end: snapshot.bytes.saturating_sub(TRAILER_BYTES as u64),
            number: 1,
            seq: 1,
            chain: snapshot.begin,
            ready: Vec::new().into_iter(),
            ended: false,
            snapshot,
        }
    }

    /// Makes the buffer hold a whole frame, or all there is.
    fn fill(&mut self) -> Result<(), Error> {
        if self.buffer.len().saturating_sub(self.start) >= FRAME_BYTES_MAX || self.offset >= self.end {
            return Ok(());
        }
        self.buffer.drain(..self.start);
        self.start = 0;
        let kept = self.buffer.len();
        let left = usize::try_from(self.end.saturating_sub(self.offset)).unwrap_or(usize::MAX);
        self.buffer.resize(kept.saturating_add(left.min(READ_BYTES)), 0);
        let target = self.buffer.get_mut(kept..).unwrap_or_default();
        let read = disk::read_full(&self.disk, &self.name, self.offset, target);
        let read = read.map_err(on(&self.disk, "read", &self.name))?;
        self.buffer.truncate(kept.saturating_add(read));
        // A file that became shorter has ended here.
        self.offset = if read == 0 { self.end } else { self.offset.saturating_add(read as u64) };
        Ok(())
    }

    /// Reads one more frame; `false` at the end.
    fn advance(&mut self) -> Result<bool, Error> {
        self.fill()?;
        let rest = self.buffer.get(self.start..).unwrap_or_default();
        let snapshot = &self.snapshot;
        let damaged = |reason: String| Error::SnapshotDamaged { through: snapshot.through.seq, reason };
        if rest.is_empty() {
            let counted = (self.seq.saturating_sub(1), self.number.saturating_sub(1));
            return if counted == (snapshot.entries, snapshot.frames) && self.chain == snapshot.end {
                Ok(false)
            } else {
                Err(damaged(format!("it ends after {} entries, not as its trailer says", counted.0)))
            };
        }
        let number = self.number;
        let wrong = |reason: &str| damaged(format!("its frame {number}: {reason}"));
        let outline = frame::outline(number, rest).ok_or_else(|| wrong("checksum differs"))?;
        let bytes = rest.get(..outline.length).ok_or_else(|| wrong("cut short"))?;
        let frame = Frame::decode(number, bytes).map_err(|damage| wrong(&damage.to_string()))?;
        if frame.kind == Kind::Genesis || frame.before != self.chain || frame.first != self.seq {
            return Err(wrong("does not follow the one before"));
        }
        let entries = (self.seq..).zip(frame.entries()).map(|(seq, bytes)| Entry { seq, bytes: bytes.to_vec() });
        let ready: Vec<Entry> = entries.collect();
        (self.chain, self.seq) = (frame.after, frame.next_seq().unwrap_or(u64::MAX));
        self.ready = ready.into_iter();
        self.number = number.saturating_add(1);
        self.start = self.start.saturating_add(outline.length);
        Ok(true)
    }
}

impl<D: Disk> Iterator for SnapshotEntries<D> {
    type Item = Result<Entry, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(entry) = self.ready.next() {
                return Some(Ok(entry));
            }
            if self.ended {
                return None;
            }
            match self.advance() {
                Ok(true) => {}
                Ok(false) => self.ended = true,
                Err(error) => {
                    self.ended = true;
                    return Some(Err(error));
                }
            }
        }
    }
}
