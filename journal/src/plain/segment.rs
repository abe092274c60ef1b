//! One segment file: its name, its records, and where in it each frame lies.

use crate::disk::{self, Disk};
use crate::frame::{self, Outline};
use crate::store::{NumberedFrame, StoreFault};
use crate::{ENTRY_BYTES_MAX, FRAME_BYTES_MAX, GROUP_ENTRIES_MAX};

use super::SEGMENT_BYTES;

const PREFIX: &str = "segment-";
const KEY_BYTES: usize = 8;
/// The longest a segment can be: full but for one byte, and then a group of the largest entries, one a frame. More is
/// not ours and is not read.
const SEGMENT_BYTES_MAX: usize = SEGMENT_BYTES as usize + GROUP_ENTRIES_MAX * (KEY_BYTES + FRAME_BYTES_MAX);

const _: () = assert!(ENTRY_BYTES_MAX < FRAME_BYTES_MAX, "a group has no more frames than entries");

pub(super) fn name_of(segment: u64) -> String {
    format!("{PREFIX}{segment:016x}")
}

/// The first frame's number in a segment's name; `None` for all other names.
pub(super) fn number_in(name: &str) -> Option<u64> {
    let digits = name.strip_prefix(PREFIX)?;
    let number = u64::from_str_radix(digits, 16).ok()?;
    (name_of(number) == name).then_some(number)
}

pub(super) fn encode_records(frames: &[NumberedFrame]) -> Vec<u8> {
    let length = frames.iter().map(|(_, bytes)| KEY_BYTES.saturating_add(bytes.len())).sum();
    let mut records = Vec::with_capacity(length);
    for (number, bytes) in frames {
        records.extend_from_slice(&number.to_be_bytes());
        records.extend_from_slice(bytes);
    }
    records
}

pub(super) fn read_bytes(disk: &impl Disk, segment: u64) -> Result<Vec<u8>, StoreFault> {
    let bytes = disk::read_all(disk, &name_of(segment), SEGMENT_BYTES_MAX);
    bytes.map_err(|e| StoreFault::of_system("read a segment", &e))
}

pub(super) fn read_place(disk: &impl Disk, segment: u64, place: Place) -> Result<Vec<u8>, StoreFault> {
    let mut bytes = vec![0; place.length];
    let read = disk::read_full(disk, &name_of(segment), place.offset, &mut bytes);
    bytes.truncate(read.map_err(|e| StoreFault::of_system("read a frame", &e))?);
    Ok(bytes)
}

/// Where a frame lies in its segment, its number excepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) offset: u64,
    pub(super) length: usize,
}

/// Where the frames of a segment lie.
#[derive(Clone, Debug)]
pub(super) struct Index {
    /// Number of the segment's first frame.
    pub(super) segment: u64,
    /// By frame, from the first on; a frame that cannot be read, and has readable ones after it, has none.
    places: Vec<Option<Place>>,
    /// Where the next record goes.
    pub(super) end: u64,
    /// Lowest and highest group (by its first entry) of the readable frames after the first unreadable one.
    after_hole: Option<(u64, u64)>,
}

impl Index {
    pub(super) fn new(segment: u64) -> Self {
        Self { segment, places: Vec::new(), end: 0, after_hole: None }
    }

    /// Finds all records whose checksum is right, also behind some that cannot be read.
    pub(super) fn read(disk: &impl Disk, segment: u64) -> Result<Self, StoreFault> {
        let bytes = read_bytes(disk, segment)?;
        let mut index = Self::new(segment);
        let mut offset = 0;
        while offset < bytes.len() {
            let expected = index.next_number();
            let next = record_at(&bytes, offset)
                .filter(|(number, _)| *number == expected)
                .map(|found| (offset, found))
                .or_else(|| next_record(&bytes, offset, expected));
            let Some((start, (number, outline))) = next else { break };
            let group = outline.group_first;
            if start > offset || index.after_hole.is_some() {
                let (low, high) = index.after_hole.unwrap_or((group, group));
                index.after_hole = Some((low.min(group), high.max(group)));
            }
            while index.next_number() < number {
                index.places.push(None);
            }
            index.end = start as u64;
            index.push(number, outline.length);
            offset = usize::try_from(index.end).unwrap_or(usize::MAX);
        }
        Ok(index)
    }

    /// Takes note of a frame at the end.
    pub(super) fn push(&mut self, number: u64, length: usize) {
        debug_assert_eq!(number, self.next_number(), "frames follow without gaps");
        let offset = self.end.saturating_add(KEY_BYTES as u64);
        self.places.push(Some(Place { offset, length }));
        self.end = offset.saturating_add(length as u64);
    }

    fn next_number(&self) -> u64 {
        self.segment.saturating_add(self.places.len() as u64)
    }

    fn position(&self, number: u64) -> Option<usize> {
        usize::try_from(number.checked_sub(self.segment)?).ok()
    }

    pub(super) fn place(&self, number: u64) -> Option<Place> {
        self.places.get(self.position(number)?).copied().flatten()
    }

    /// Whether there is something under this number that cannot be read.
    pub(super) fn is_hole(&self, number: u64) -> bool {
        self.position(number).is_some_and(|position| matches!(self.places.get(position), Some(None)))
    }

    /// The first frame that cannot be read although a later one can.
    pub(super) fn hole(&self) -> Option<u64> {
        (self.segment..).zip(&self.places).find_map(|(number, place)| place.is_none().then_some(number))
    }

    pub(super) fn first(&self) -> Option<u64> {
        (self.segment..).zip(&self.places).find_map(|(number, place)| place.map(|_| number))
    }

    pub(super) fn last(&self) -> Option<u64> {
        (!self.places.is_empty()).then(|| self.next_number().saturating_sub(1))
    }

    pub(super) fn places(&self) -> Vec<Option<Place>> {
        self.places.clone()
    }

    /// Drops what follows the first hole if it is all of `group`, the one the hole belongs to.
    pub(super) fn drop_torn_tail(&mut self, group: u64) {
        if let Some(hole) = self.hole().filter(|_| self.after_hole == Some((group, group))) {
            self.cut(hole);
        }
    }

    /// Drops the frames from `number` on.
    pub(super) fn cut(&mut self, number: u64) {
        if let Some(position) = self.position(number) {
            self.places.truncate(position);
        }
        let last = self.places.iter().flatten().last();
        self.end = last.map_or(0, |place| place.offset.saturating_add(place.length as u64));
    }
}

/// The record at `offset`, if its checksum is right.
fn record_at(bytes: &[u8], offset: usize) -> Option<(u64, Outline)> {
    let (key, frame) = bytes.get(offset..)?.split_first_chunk::<KEY_BYTES>()?;
    let number = u64::from_be_bytes(*key);
    frame::outline(number, frame).map(|outline| (number, outline))
}

/// The first record behind `offset` that can be a later one of this segment.
fn next_record(bytes: &[u8], offset: usize, expected: u64) -> Option<(usize, (u64, Outline))> {
    // As many frames as the bytes between can hold, at the least a frame takes.
    let reach = |start: usize| expected.saturating_add(((start - offset) / frame::BYTES_MIN) as u64);
    (offset.saturating_add(1)..bytes.len()).find_map(|start| {
        let (key, _) = bytes.get(start..)?.split_first_chunk::<KEY_BYTES>()?;
        let number = u64::from_be_bytes(*key);
        if number <= expected || number > reach(start) {
            return None;
        }
        record_at(bytes, start).map(|found| (start, found))
    })
}
