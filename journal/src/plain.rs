//! The journal on plain segment files: the yardstick beside sled, and what the simulator runs on its disk.
//!
//! # Files
//! `segment-` and the number of its first frame, 16 hexadecimal digits. A segment is a run of records, one a frame: the
//! frame's number (`u64`, big endian, as sled's key) and the frame's bytes. Frame numbers follow without gaps, through
//! all segments. A group lies in one segment as a whole; a new segment is begun with the first group after
//! [`SEGMENT_BYTES`]. Segments are removed as a whole, the oldest first; of segment 0 the genesis frame is kept, in a
//! new file that takes its name once it is durable (`segment.draft` until then).
//!
//! # What an opening takes for a torn tail
//! The last segment is read to its end. Where a record cannot be read, and after it there is none of another group than
//! the one it belongs to, the tail is torn: groups are written one at a time, so it is of the last, and it was not
//! synced. Whether it had been acknowledged after all, the anchor tells. A torn tail is not seen by any reader, and is
//! cut off once the journal's verdict is good. Everything else that cannot be read stays where it is, as damage.

mod segment;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use crate::disk::{Directory, Disk};
use crate::frame::{Frame, FrameDamage, GENESIS, Kind};
use crate::journal::{Journal, Opened};
use crate::store::{Frames, NumberedFrame, Shared, Store, StoreFault};
use crate::{Error, Head, JournalId};

use segment::{Index, encode_records};

/// A segment with at least this many bytes takes no further group: what pruning frees at once, and what an opening
/// reads.
pub const SEGMENT_BYTES: u64 = 4 << 20;
/// The first segment while it is replaced by one with the genesis frame alone.
const DRAFT: &str = "segment.draft";
/// Indexes kept in memory beside that of the last segment: a look-up by halves stays within two.
const INDEXES_KEPT: usize = 2;

/// Opens the journal on the plain files of `disk`, or begins one with identity `fresh` where there is none; else as
/// [`Journal::open_on`]. Frames and anchor share the disk, so it is a handle that can be cloned: `Rc<MyDisk>`,
/// `Arc<Directory>`, or a type of your own.
///
/// # Errors
/// As [`Journal::open_on`].
pub fn open<D: Disk + Clone>(
    disk: D,
    fresh: JournalId,
    external: &[(JournalId, Head)],
) -> Result<Opened<Segments<D>, D>, Error> {
    match Segments::open(disk.clone()) {
        Ok(store) => Journal::open_on(store, disk, fresh, external),
        Err(fault) => Journal::unread(&disk, fault, external),
    }
}

/// [`open`] for a directory of the file system, which is created if need be and locked.
///
/// # Errors
/// As [`open`]; [`Error::InUse`] if another process has the directory open.
pub fn open_dir(
    dir: &Path,
    fresh: JournalId,
    external: &[(JournalId, Head)],
) -> Result<Opened<Segments<Arc<Directory>>, Arc<Directory>>, Error> {
    open(Arc::new(Directory::open(dir)?), fresh, external)
}

/// Whether a file of this name is a segment.
pub(crate) fn is_segment(name: &str) -> bool {
    segment::number_in(name).is_some()
}

/// Frames in segment files.
#[derive(Debug)]
pub struct Segments<D> {
    disk: D,
    segment_bytes: u64,
    /// Number of the first frame of each segment.
    segments: BTreeSet<u64>,
    /// Index of the last segment.
    active: Option<Arc<Index>>,
    indexes: RefCell<BTreeMap<u64, Arc<Index>>>,
    unsynced: RefCell<BTreeSet<u64>>,
    names_unsynced: Cell<bool>,
}

impl<D: Disk> Segments<D> {
    /// Reads the names of all segments and the content of the last. Writes nothing.
    ///
    /// # Errors
    /// The disk's.
    pub fn open(disk: D) -> Result<Self, StoreFault> {
        Self::open_sized(disk, SEGMENT_BYTES)
    }

    /// [`Segments::open`] with segments that are full with fewer bytes than [`SEGMENT_BYTES`], for tests: what there is
    /// may have been written with another size.
    ///
    /// # Errors
    /// As [`Segments::open`].
    pub fn open_sized(disk: D, segment_bytes: u64) -> Result<Self, StoreFault> {
        let names = disk.list().map_err(|e| StoreFault::of_system("list the segments", &e))?;
        let segments: BTreeSet<u64> = names.iter().filter_map(|name| segment::number_in(name)).collect();
        let last = segments.last().copied();
        let mut store = Self {
            disk,
            segment_bytes: segment_bytes.min(SEGMENT_BYTES),
            segments,
            active: None,
            indexes: RefCell::default(),
            unsynced: RefCell::new(last.into_iter().collect()),
            names_unsynced: Cell::new(true),
        };
        if let Some(last) = last {
            let mut index = Index::read(&store.disk, last)?;
            if let Some(hole) = index.hole() {
                index.drop_torn_tail(store.group_at(hole, &index)?);
            }
            store.active = Some(Arc::new(index));
        }
        Ok(store)
    }

    /// First entry of the group that an unreadable frame belongs to; 0, which is no group's, if that cannot be said.
    fn group_at(&self, hole: u64, index: &Index) -> Result<u64, StoreFault> {
        let Some(before) = hole.checked_sub(1) else { return Ok(0) };
        let bytes = match index.place(before) {
            Some(place) => Some(segment::read_place(&self.disk, index.segment, place)?),
            None => self.frame(before)?,
        };
        let frame = bytes.as_deref().and_then(|bytes| Frame::decode(before, bytes).ok());
        let group = frame.and_then(|frame| match frame.kind {
            Kind::Genesis => Some(1),
            Kind::Inner => Some(frame.group_first),
            Kind::Last => frame.next_seq(),
        });
        Ok(group.unwrap_or(0))
    }

    /// The segment that has this frame, if any has, and its index.
    fn index_of(&self, number: u64) -> Result<Option<Arc<Index>>, StoreFault> {
        let Some(segment) = self.segments.range(..=number).next_back().copied() else {
            return Ok(None);
        };
        if let Some(active) = self.active.as_ref().filter(|active| active.segment == segment) {
            return Ok(Some(Arc::clone(active)));
        }
        let mut indexes = self.indexes.borrow_mut();
        if let Some(index) = indexes.get(&segment) {
            return Ok(Some(Arc::clone(index)));
        }
        let index = Arc::new(Index::read(&self.disk, segment)?);
        if indexes.len() >= INDEXES_KEPT {
            indexes.pop_first();
        }
        indexes.insert(segment, Arc::clone(&index));
        Ok(Some(index))
    }

    fn begin_segment(&mut self, first: u64) -> Result<(), StoreFault> {
        let name = segment::name_of(first);
        self.disk.create(&name).map_err(|e| StoreFault::of_system("begin a segment", &e))?;
        self.names_unsynced.set(true);
        self.segments.insert(first);
        self.active = Some(Arc::new(Index::new(first)));
        Ok(())
    }

    /// Puts a segment with the genesis frame alone in the place of segment 0.
    fn reduce_to(&mut self, genesis: &[u8]) -> Result<(), StoreFault> {
        let failed = |e| StoreFault::of_system("reduce the first segment", &e);
        let record = encode_records(&[(GENESIS, genesis.to_vec())]);
        self.disk.create(DRAFT).map_err(failed)?;
        self.disk.write_at(DRAFT, 0, &record).map_err(failed)?;
        self.disk.sync(DRAFT).map_err(failed)?;
        self.disk.rename(DRAFT, &segment::name_of(GENESIS)).map_err(failed)?;
        self.indexes.borrow_mut().remove(&GENESIS);
        self.unsynced.borrow_mut().remove(&GENESIS);
        Ok(())
    }

    fn forget(&mut self, segment: u64) -> Result<(), StoreFault> {
        let removed = self.disk.remove(&segment::name_of(segment));
        removed.map_err(|e| StoreFault::of_system("remove a segment", &e))?;
        self.names_unsynced.set(true);
        self.segments.remove(&segment);
        self.indexes.borrow_mut().remove(&segment);
        self.unsynced.borrow_mut().remove(&segment);
        Ok(())
    }
}

impl<D: Disk> Store for Segments<D> {
    fn put(&mut self, frames: Vec<NumberedFrame>) -> Result<(), StoreFault> {
        let Some(first) = frames.first().map(|(number, _)| *number) else {
            return Ok(());
        };
        // Frames of a segment follow without gaps; those after a pruned genesis frame do not follow it.
        let full = |active: &Index| active.end >= self.segment_bytes || active.last() != first.checked_sub(1);
        if self.active.as_deref().is_none_or(full) {
            self.begin_segment(first)?;
        }
        let active = self.active.as_mut().map(Arc::make_mut).ok_or_else(|| StoreFault::new("write", "no segment"))?;
        let records = encode_records(&frames);
        let name = segment::name_of(active.segment);
        self.unsynced.borrow_mut().insert(active.segment);
        self.disk.write_at(&name, active.end, &records).map_err(|e| StoreFault::of_system("write a group", &e))?;
        for (number, bytes) in &frames {
            active.push(*number, bytes.len());
        }
        Ok(())
    }

    /// Every write has been handed over already.
    fn flush(&mut self) -> Result<(), StoreFault> {
        Ok(())
    }

    fn sync(&self) -> Result<(), StoreFault> {
        for segment in self.unsynced.take() {
            self.disk.sync(&segment::name_of(segment)).map_err(|e| StoreFault::of_system("sync a segment", &e))?;
        }
        if self.names_unsynced.take() {
            self.disk.sync_directory().map_err(|e| StoreFault::of_system("sync the names of segments", &e))?;
        }
        Ok(())
    }

    fn frame(&self, number: u64) -> Result<Option<Vec<u8>>, StoreFault> {
        let Some(index) = self.index_of(number)? else {
            return Ok(None);
        };
        match index.place(number) {
            Some(place) => segment::read_place(&self.disk, index.segment, place).map(Some),
            None if index.is_hole(number) => Err(StoreFault::new("read a frame", FrameDamage::Checksum)),
            None => Ok(None),
        }
    }

    fn first(&self) -> Result<Option<u64>, StoreFault> {
        let Some(first) = self.segments.first() else {
            return Ok(None);
        };
        Ok(self.index_of(*first)?.and_then(|index| index.first()))
    }

    fn first_from(&self, number: u64) -> Result<Option<u64>, StoreFault> {
        let segment = self.segments.range(..=number).next_back().copied().unwrap_or(0);
        for segment in self.segments.range(segment..) {
            if *segment >= number {
                return Ok(Some(*segment));
            }
            let last = self.index_of(*segment)?.and_then(|index| index.last());
            if last.is_some_and(|last| last >= number) {
                return Ok(Some(number));
            }
        }
        Ok(None)
    }

    fn last(&self) -> Result<Option<u64>, StoreFault> {
        for segment in self.segments.iter().rev() {
            if let Some(last) = self.index_of(*segment)?.and_then(|index| index.last()) {
                return Ok(Some(last));
            }
        }
        Ok(None)
    }

    fn is_empty(&self) -> Result<bool, StoreFault> {
        for segment in &self.segments {
            let length = self.disk.length(&segment::name_of(*segment));
            if length.map_err(|e| StoreFault::of_system("look at a segment", &e))? > 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn scan(&self, from: u64) -> Frames<'_> {
        let segment = self.segments.range(..=from).next_back().copied().unwrap_or(from);
        let mut failed = false;
        let frames = self.segments.range(segment..).flat_map(move |segment| -> Frames<'_> {
            match self.read_segment(*segment) {
                Ok(frames) => Box::new(frames.filter(move |(number, _)| *number >= from).map(Ok)),
                Err(fault) => Box::new(std::iter::once(Err(fault))),
            }
        });
        Box::new(frames.take_while(move |read| !std::mem::replace(&mut failed, read.is_err())))
    }

    fn remove_from(&mut self, first: u64) -> Result<bool, StoreFault> {
        let mut changed = false;
        while let Some(last) = self.segments.last().copied().filter(|last| *last >= first) {
            self.forget(last)?;
            changed = true;
        }
        let Some(segment) = self.segments.last().copied() else {
            self.active = None;
            return Ok(changed);
        };
        let mut index = match self.active.take().filter(|active| active.segment == segment) {
            Some(active) => active,
            None => Arc::new(Index::read(&self.disk, segment)?),
        };
        let kept = Arc::make_mut(&mut index);
        kept.cut(first);
        let name = segment::name_of(segment);
        let length = self.disk.length(&name).map_err(|e| StoreFault::of_system("look at a segment", &e))?;
        if length > kept.end {
            self.disk.set_length(&name, kept.end).map_err(|e| StoreFault::of_system("cut a segment", &e))?;
            self.unsynced.borrow_mut().insert(segment);
            changed = true;
        }
        self.indexes.borrow_mut().remove(&segment);
        self.active = Some(index);
        Ok(changed)
    }

    /// Removes one segment a call, whatever `at_most` says: its name, which costs a sync of the directory.
    fn remove_below(&mut self, number: u64, _at_most: usize) -> Result<bool, StoreFault> {
        let reduced = self.first_from(GENESIS.saturating_add(1))?;
        let mut segments = self.segments.iter().copied().filter(|segment| *segment != GENESIS || reduced == Some(1));
        let (Some(oldest), Some(second)) = (segments.next(), segments.next()) else {
            return Ok(false);
        };
        if second > number {
            return Ok(false);
        }
        let more = segments.next().is_some_and(|third| third <= number);
        match self.frame(GENESIS) {
            Ok(Some(genesis)) if oldest == GENESIS => self.reduce_to(&genesis)?,
            // A genesis frame that cannot be read is worth nothing.
            Ok(_) | Err(_) => self.forget(oldest)?,
        }
        // In this order for ever: a later one must not vanish before an earlier one.
        self.disk.sync_directory().map_err(|e| StoreFault::of_system("sync the names of segments", &e))?;
        Ok(more)
    }

    fn close(self) -> Result<u32, StoreFault> {
        self.sync()?;
        Ok(0)
    }
}

impl<D: Disk + Clone> Shared for Segments<D> {
    type Reader = Self;

    /// A copy of the indexes: what comes later is not seen.
    fn reader(&self) -> Self {
        Self {
            disk: self.disk.clone(),
            segment_bytes: self.segment_bytes,
            segments: self.segments.clone(),
            active: self.active.clone(),
            indexes: RefCell::default(),
            unsynced: RefCell::default(),
            names_unsynced: Cell::new(false),
        }
    }

    fn bytes(&self) -> Result<u64, StoreFault> {
        let lengths = self.segments.iter().map(|segment| self.disk.length(&segment::name_of(*segment)));
        lengths.sum::<Result<u64, _>>().map_err(|e| StoreFault::of_system("measure the segments", &e))
    }
}

impl<D: Disk> Segments<D> {
    /// The frames of one segment, read at once.
    fn read_segment(&self, segment: u64) -> Result<impl Iterator<Item = NumberedFrame> + use<D>, StoreFault> {
        let index = self.index_of(segment)?.ok_or_else(|| StoreFault::new("read a segment", "it is gone"))?;
        let bytes = segment::read_bytes(&self.disk, segment)?;
        Ok((segment..).zip(index.places()).filter_map(move |(number, place)| {
            let place = place?;
            let start = usize::try_from(place.offset).ok()?;
            bytes.get(start..)?.get(..place.length).map(|frame| (number, frame.to_vec()))
        }))
    }
}
