//! The anchor: a small second file that knows how far the journal reaches, so that a journal which opens shorter than
//! it was is told from one that is whole. sled shortens its log silently where it is damaged.
//!
//! Two slots of one 512-byte sector each, at offsets 0 and 4096 of a file of 8192 bytes; a write goes to the slot that
//! does not hold the newest counter. The kernel writes back whole pages and disks write whole sectors: with a page
//! between the slots, a torn write can spoil only the slot being written, and the other then holds the state of one
//! write earlier, which is what was true before that write was acknowledged. The file never changes its length.
//!
//! A slot, numbers little endian:
//!
//! | offset | bytes | field |
//! | --- | --- | --- |
//! | 0 | 8 | `NATGWANC` |
//! | 8 | 2 | format version, 1 |
//! | 10 | 1 | 0: a writer has it open or stopped uncleanly; 1: cleanly closed |
//! | 11 | 1 | zero |
//! | 12 | 4 | of a cleanly closed journal: CRC-32C over the names, lengths and bytes of sled's files; else 0 |
//! | 16 | 16 | journal id |
//! | 32 | 8 | counter, one more with each write |
//! | 40 | 8 + 32 | settled: sequence number and chain hash |
//! | 80 | 8 + 32 | pending: sequence number and chain hash |
//! | 120 | 8 | pruned below: frames of lower numbers may be gone, the genesis frame excepted; else 0 |
//! | 128 | 380 | zero |
//! | 508 | 4 | CRC-32C of all bytes before |

use std::io::ErrorKind;

use crate::disk::{self, Disk, on};
use crate::files::{ANCHOR, ANCHOR_DRAFT};
use crate::store::RefusedBy;
use crate::{Error, Head, JournalId};

const MAGIC: [u8; 8] = *b"NATGWANC";
const VERSION: u16 = 1;
const SLOT_BYTES: usize = 512;
const CHECKED_BYTES: usize = SLOT_BYTES - 4;
const SLOT_OFFSETS: [u64; 2] = [0, 4096];
const FILE_BYTES: usize = 8192;

/// What a slot says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Anchor {
    pub(crate) id: JournalId,
    /// Every entry up to here was durable before the anchor was.
    pub(crate) settled: Head,
    /// Head after the group whose two syncs began with this anchor.
    pub(crate) pending: Head,
    /// Fingerprint of sled's files, if the journal was cleanly closed.
    pub(crate) closed: Option<u32>,
    /// Number of the first frame that must be there, beside the genesis frame; 0 if nothing was ever pruned.
    pub(crate) pruned_below: u64,
}

/// What the anchor file holds.
#[derive(Debug)]
pub(crate) enum Found {
    Absent,
    /// No slot can be believed.
    Damaged(String),
    Present(Position),
}

/// The newest slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    anchor: Anchor,
    counter: u64,
    slot: usize,
}

impl Position {
    /// Where there is no file.
    pub(crate) fn of(anchor: Anchor) -> Self {
        Self { anchor, counter: 0, slot: 0 }
    }

    pub(crate) fn anchor(&self) -> &Anchor {
        &self.anchor
    }
}

/// Reads the anchor of the journal. One bad slot is what a torn write leaves; the other one counts then. A file that the
/// disk does not give back is damage.
pub(crate) fn read(disk: &impl Disk) -> Result<Found, Error> {
    let bytes = match disk::read_all(disk, ANCHOR, FILE_BYTES) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Found::Absent),
        // Half of it, from the page that the disk still gives, may be one write too old, and could not be written again.
        Err(e) if RefusedBy::of(&e) == RefusedBy::Store => {
            return Ok(Found::Damaged(format!("it cannot be read: {e}")));
        }
        Err(e) => return Err(on(disk, "read", ANCHOR)(e)),
    };
    Ok(newest(&bytes))
}

fn newest(bytes: &[u8]) -> Found {
    let mut newest: Option<Position> = None;
    let mut reasons = Vec::new();
    for (slot, offset) in SLOT_OFFSETS.into_iter().enumerate() {
        let (anchor, counter) = match decode(bytes, offset) {
            Ok(read) => read,
            Err(reason) => {
                reasons.push(reason);
                continue;
            }
        };
        if let Some(other) = newest
            && (other.anchor.id != anchor.id || other.counter.abs_diff(counter) != 1)
        {
            return Found::Damaged("its slots contradict each other".into());
        }
        if newest.is_none_or(|other| other.counter < counter) {
            newest = Some(Position { anchor, counter, slot });
        }
    }
    newest.map_or_else(|| Found::Damaged(reasons.join("; ")), Found::Present)
}

/// The anchor of a writer.
#[derive(Debug)]
pub(crate) struct AnchorFile {
    position: Position,
}

impl AnchorFile {
    /// Creates the anchor of a new journal: complete and durable under its name, or not there.
    pub(crate) fn create(disk: &impl Disk, anchor: Anchor) -> Result<Self, Error> {
        let mut bytes = vec![0; FILE_BYTES];
        for (counter, offset) in (1..).zip(SLOT_OFFSETS) {
            let start = usize::try_from(offset).unwrap_or(usize::MAX);
            if let Some(place) = bytes.get_mut(start..).and_then(|b| b.get_mut(..SLOT_BYTES)) {
                place.copy_from_slice(&encode(&anchor, counter));
            }
        }
        disk.create(ANCHOR_DRAFT).map_err(on(disk, "create", ANCHOR_DRAFT))?;
        disk.write_at(ANCHOR_DRAFT, 0, &bytes).map_err(on(disk, "write", ANCHOR_DRAFT))?;
        disk.sync(ANCHOR_DRAFT).map_err(on(disk, "sync", ANCHOR_DRAFT))?;
        disk.rename(ANCHOR_DRAFT, ANCHOR).map_err(on(disk, "rename", ANCHOR_DRAFT))?;
        disk.sync_directory().map_err(on(disk, "sync the directory of", ANCHOR))?;
        Ok(Self::at(Position { anchor, counter: 2, slot: 1 }))
    }

    /// The anchor whose newest slot was read as `position`.
    pub(crate) fn at(position: Position) -> Self {
        Self { position }
    }

    pub(crate) fn anchor(&self) -> &Anchor {
        &self.position.anchor
    }

    /// Writes the next state over the older slot. Durable only after the file's next sync.
    pub(crate) fn write(&mut self, disk: &impl Disk, anchor: Anchor) -> Result<(), Error> {
        let slot = usize::from(self.position.slot == 0);
        let counter = self.position.counter.saturating_add(1);
        let offset = SLOT_OFFSETS.get(slot).copied().unwrap_or(0);
        disk.write_at(ANCHOR, offset, &encode(&anchor, counter)).map_err(on(disk, "write", ANCHOR))?;
        self.position = Position { anchor, counter, slot };
        Ok(())
    }
}

fn encode(anchor: &Anchor, counter: u64) -> [u8; SLOT_BYTES] {
    let mut bytes = Vec::with_capacity(SLOT_BYTES);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&[u8::from(anchor.closed.is_some()), 0]);
    bytes.extend_from_slice(&anchor.closed.unwrap_or(0).to_le_bytes());
    bytes.extend_from_slice(&anchor.id.0);
    bytes.extend_from_slice(&counter.to_le_bytes());
    for head in [anchor.settled, anchor.pending] {
        bytes.extend_from_slice(&head.seq.to_le_bytes());
        bytes.extend_from_slice(&head.hash);
    }
    bytes.extend_from_slice(&anchor.pruned_below.to_le_bytes());
    bytes.resize(CHECKED_BYTES, 0);
    let checksum = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    let mut slot = [0; SLOT_BYTES];
    slot.copy_from_slice(&bytes);
    slot
}

fn decode(file: &[u8], offset: u64) -> Result<(Anchor, u64), String> {
    let cut_short = || format!("slot at {offset} is cut short");
    let mut rest =
        usize::try_from(offset).ok().and_then(|start| file.get(start..)?.get(..SLOT_BYTES)).ok_or_else(cut_short)?;
    let (checked, checksum) = rest.split_last_chunk::<4>().ok_or_else(cut_short)?;
    if crc32c::crc32c(checked) != u32::from_le_bytes(*checksum) {
        return Err(format!("checksum of the slot at {offset} differs"));
    }
    let mut decode_fields = || {
        let magic: [u8; 8] = take(&mut rest)?;
        let version = u16::from_le_bytes(take(&mut rest)?);
        let [closed, _] = take(&mut rest)?;
        let fingerprint = u32::from_le_bytes(take(&mut rest)?);
        let id = JournalId(take(&mut rest)?);
        let counter = u64::from_le_bytes(take(&mut rest)?);
        let mut head = || Some(Head { seq: u64::from_le_bytes(take(&mut rest)?), hash: take(&mut rest)? });
        let (settled, pending, closed) = (head()?, head()?, (closed == 1).then_some(fingerprint));
        let pruned_below = u64::from_le_bytes(take(&mut rest)?);
        let anchor = Anchor { id, settled, pending, closed, pruned_below };
        Some((magic, version, anchor, counter))
    };
    let (magic, version, anchor, counter) = decode_fields().ok_or_else(cut_short)?;
    if magic != MAGIC {
        return Err(format!("slot at {offset} is not an anchor's"));
    }
    if version != VERSION {
        return Err(format!("slot at {offset} has format version {version}, which this program does not read"));
    }
    Ok((anchor, counter))
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Directory;

    fn anchor(seq: u64) -> Anchor {
        let head = |seq: u64| Head { seq, hash: [seq as u8; 32] };
        Anchor { id: JournalId([9; 16]), settled: head(seq - 1), pending: head(seq), closed: None, pruned_below: 0 }
    }

    fn present(disk: &Directory) -> Position {
        match read(disk).unwrap() {
            Found::Present(position) => position,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn slot_bytes_are_frozen() {
        let mut closed = anchor(513);
        closed.closed = Some(0x0403_0201);
        let slot = encode(&closed, 5);
        let hex: String = slot[..128].iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(
            hex,
            [
                "4e41544757414e43",
                "0100",
                "01",
                "00",
                "01020304",
                &"09".repeat(16),
                "0500000000000000",
                "0002000000000000",
                &"00".repeat(32),
                "0102000000000000",
                &"01".repeat(32),
                "0000000000000000",
            ]
            .concat()
        );
        assert_eq!(slot[128..508], [0; 380]);
        assert_eq!(slot[508..], GOLDEN_CHECKSUM);
        assert_eq!(decode(&slot, 0).unwrap(), (closed, 5));
        closed.pruned_below = 259;
        let slot = encode(&closed, 5);
        assert_eq!(slot[120..128], [3, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(decode(&slot, 0).unwrap(), (closed, 5));
    }

    #[test]
    fn a_torn_write_leaves_the_state_before_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(ANCHOR);
        let disk = Directory::open(dir.path()).unwrap();
        let mut file = AnchorFile::create(&disk, anchor(1)).unwrap();
        for seq in 2..9 {
            file.write(&disk, anchor(seq)).unwrap();
            assert_eq!(present(&disk).anchor, anchor(seq));
            let whole = std::fs::read(&path).unwrap();
            let mut torn = whole.clone();
            let offset = SLOT_OFFSETS[file.position.slot] as usize;
            torn[offset + 50..offset + SLOT_BYTES].fill(0xee);
            std::fs::write(&path, torn).unwrap();
            assert_eq!(present(&disk).anchor, anchor(seq - 1));
            std::fs::write(&path, whole).unwrap();
        }
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 8192);
    }

    #[test]
    fn what_cannot_be_believed_is_said_to_be_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(ANCHOR);
        let disk = Directory::open(dir.path()).unwrap();
        assert!(matches!(read(&disk).unwrap(), Found::Absent));
        AnchorFile::create(&disk, anchor(1)).unwrap();
        let whole = std::fs::read(&path).unwrap();
        let mut other = anchor(2);
        other.id = JournalId([1; 16]);
        let mut newer = encode(&anchor(1), 1);
        newer[8] = 2;
        let checksum = crc32c::crc32c(&newer[..CHECKED_BYTES]);
        newer[CHECKED_BYTES..].copy_from_slice(&checksum.to_le_bytes());
        let with_slots = |first: &[u8], second: &[u8]| {
            let mut bytes = whole.clone();
            bytes[..SLOT_BYTES].copy_from_slice(first);
            bytes[4096..4096 + SLOT_BYTES].copy_from_slice(second);
            bytes
        };
        let zeros = [0; SLOT_BYTES];
        for bytes in [
            Vec::new(),
            whole[..100].to_vec(),
            with_slots(&zeros, &zeros),
            with_slots(&newer, &newer),
            with_slots(&encode(&anchor(1), 1), &encode(&other, 2)),
            with_slots(&encode(&anchor(1), 1), &encode(&anchor(3), 3)),
        ] {
            std::fs::write(&path, bytes).unwrap();
            let found = read(&disk).unwrap();
            assert!(matches!(found, Found::Damaged(_)), "{found:?}");
        }
    }

    const GOLDEN_CHECKSUM: [u8; 4] = [26, 253, 11, 71];
}
