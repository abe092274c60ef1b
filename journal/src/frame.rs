//! The bytes of a frame: the unit sled stores. Pure: encodes a group into frames, decodes one frame, computes the chain.
//!
//! All numbers are little endian, except the key (the frame number, `u64` big endian, so that sled keeps the order).
//!
//! | offset | bytes | field |
//! | --- | --- | --- |
//! | 0 | 2 | format version, [`VERSION`] |
//! | 2 | 1 | kind: 0 genesis, 1 inner frame of a group, 2 last frame of a group |
//! | 3 | 1 | zero |
//! | 4 | 4 | entries in this frame |
//! | 8 | 8 | sequence number of the group's first entry |
//! | 16 | 8 | sequence number of this frame's first entry |
//! | 24 | 4 | entries in the group (last frame), else 0 |
//! | 28 | 4 | payload length |
//! | 32 | 32 | chain hash before this frame |
//! | 64 | 32 | chain hash after it: BLAKE3 of the key, bytes 0 to 63 and the payload |
//! | 96 | n | payload: for each entry its length (4) and its bytes; of the genesis frame: the journal id (16) |
//! | 96 + n | 4 | CRC-32C of the key and all bytes before |
//!
//! Frame 0 is the genesis frame; the chain begins with it, so chains of two journals never meet.

use crate::{ENTRY_BYTES_MAX, Error, FRAME_BYTES_MAX, GROUP_ENTRIES_MAX, Head, JournalId};

/// Format version of a frame.
pub(crate) const VERSION: u16 = 1;
/// Bytes before the payload that the chain hash covers.
const HASHED_HEADER_BYTES: usize = 64;
const HEADER_BYTES: usize = HASHED_HEADER_BYTES + 32;
const CHECKSUM_BYTES: usize = 4;
const LENGTH_BYTES: usize = 4;
const PAYLOAD_BYTES_MAX: usize = FRAME_BYTES_MAX - HEADER_BYTES - CHECKSUM_BYTES;

/// Number of the genesis frame.
pub(crate) const GENESIS: u64 = 0;

const _: () = assert!(ENTRY_BYTES_MAX + LENGTH_BYTES <= PAYLOAD_BYTES_MAX, "the largest entry fits one frame");
const _: () = assert!(GROUP_ENTRIES_MAX <= u32::MAX as usize, "counts are u32");

/// Where the journal ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tip {
    /// Number of the last frame of the last complete group.
    pub(crate) frame: u64,
    /// Head after that group.
    pub(crate) head: Head,
    /// Head before that group; of a journal without entries: the head itself.
    pub(crate) before: Head,
    /// Number of the lowest frame there is after the genesis frame: 1, unless frames were pruned.
    pub(crate) first: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Genesis,
    Inner,
    Last,
}

/// Why bytes are not a frame.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum FrameDamage {
    #[error("frame is cut short")]
    Short,
    #[error("frame checksum differs")]
    Checksum,
    #[error("frame has format version {0}, which this program does not read")]
    Version(u16),
    #[error("frame is malformed: {0}")]
    Malformed(&'static str),
    #[error("frame hash differs from its content")]
    Hash,
}

/// A decoded frame: checksum, hash and the shape of the payload have been checked, its place in the chain has not.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub(crate) kind: Kind,
    pub(crate) count: u32,
    pub(crate) group_first: u64,
    pub(crate) first: u64,
    pub(crate) group_count: u32,
    pub(crate) before: [u8; 32],
    pub(crate) after: [u8; 32],
    payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Decodes the frame stored under `number`.
    pub(crate) fn decode(number: u64, bytes: &'a [u8]) -> Result<Self, FrameDamage> {
        let (body, checksum) = bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or(FrameDamage::Short)?;
        if checksum_of(number, body) != u32::from_le_bytes(*checksum) {
            return Err(FrameDamage::Checksum);
        }
        let (hashed, _) = body.split_first_chunk::<HASHED_HEADER_BYTES>().ok_or(FrameDamage::Short)?;
        let mut rest = body;
        let version = u16::from_le_bytes(take(&mut rest)?);
        if version != VERSION {
            return Err(FrameDamage::Version(version));
        }
        let [kind, reserved] = take(&mut rest)?;
        let frame = Self {
            kind: match kind {
                0 => Kind::Genesis,
                1 => Kind::Inner,
                2 => Kind::Last,
                _ => return Err(FrameDamage::Malformed("unknown kind")),
            },
            count: u32::from_le_bytes(take(&mut rest)?),
            group_first: u64::from_le_bytes(take(&mut rest)?),
            first: u64::from_le_bytes(take(&mut rest)?),
            group_count: u32::from_le_bytes(take(&mut rest)?),
            payload: {
                let length = u32::from_le_bytes(take(&mut rest)?);
                let payload = body.get(HEADER_BYTES..).ok_or(FrameDamage::Short)?;
                if usize::try_from(length) != Ok(payload.len()) {
                    return Err(FrameDamage::Malformed("payload length"));
                }
                payload
            },
            before: take(&mut rest)?,
            after: take(&mut rest)?,
        };
        if reserved != 0 || bytes.len() > FRAME_BYTES_MAX {
            return Err(FrameDamage::Malformed("header"));
        }
        if hash_of(number, hashed, frame.payload) != frame.after {
            return Err(FrameDamage::Hash);
        }
        frame.check_shape(number)?;
        Ok(frame)
    }

    /// Sequence number after the frame's last entry.
    pub(crate) fn next_seq(&self) -> Option<u64> {
        self.first.checked_add(u64::from(self.count))
    }

    /// The journal id a genesis frame carries.
    pub(crate) fn journal_id(&self) -> Option<JournalId> {
        match self.kind {
            Kind::Genesis => self.payload.try_into().ok().map(JournalId),
            Kind::Inner | Kind::Last => None,
        }
    }

    /// The entries in order.
    pub(crate) fn entries(&self) -> PayloadEntries<'a> {
        PayloadEntries {
            rest: match self.kind {
                Kind::Genesis => &[],
                Kind::Inner | Kind::Last => self.payload,
            },
        }
    }

    fn check_shape(&self, number: u64) -> Result<(), FrameDamage> {
        let genesis = self.kind == Kind::Genesis;
        if genesis != (number == GENESIS) {
            return Err(FrameDamage::Malformed("genesis out of place"));
        }
        if genesis {
            return match self.journal_id() {
                Some(_) if self.count == 0 && self.first == 0 => Ok(()),
                _ => Err(FrameDamage::Malformed("genesis")),
            };
        }
        let mut entries = self.entries();
        let mut count = 0_u32;
        for entry in entries.by_ref() {
            if entry.is_empty() || entry.len() > ENTRY_BYTES_MAX {
                return Err(FrameDamage::Malformed("entry length"));
            }
            count = count.saturating_add(1);
        }
        let counted = count == self.count && count > 0 && entries.rest.is_empty();
        let grouped = self.group_first <= self.first && self.group_first > 0;
        if counted && grouped && self.next_seq().is_some() { Ok(()) } else { Err(FrameDamage::Malformed("counts")) }
    }
}

/// The least a frame with an entry takes.
pub(crate) const BYTES_MIN: usize = HEADER_BYTES + LENGTH_BYTES + 1 + CHECKSUM_BYTES;

/// What can be said of a frame at the beginning of some bytes without hashing it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outline {
    /// Length of the frame in bytes.
    pub(crate) length: usize,
    /// Sequence number of its group's first entry; 0 of the genesis frame.
    pub(crate) group_first: u64,
}

/// Whether `bytes` begin with a frame of this number, by its checksum.
pub(crate) fn outline(number: u64, bytes: &[u8]) -> Option<Outline> {
    let (header, _) = bytes.split_first_chunk::<HEADER_BYTES>()?;
    let payload = u32::from_le_bytes(*header.get(28..)?.first_chunk::<4>()?);
    let length = HEADER_BYTES.checked_add(usize::try_from(payload).ok()?)?.checked_add(CHECKSUM_BYTES)?;
    let frame = bytes.get(..length).filter(|frame| frame.len() <= FRAME_BYTES_MAX)?;
    let (body, checksum) = frame.split_last_chunk::<CHECKSUM_BYTES>()?;
    let group_first = u64::from_le_bytes(*header.get(8..)?.first_chunk::<8>()?);
    (checksum_of(number, body) == u32::from_le_bytes(*checksum)).then_some(Outline { length, group_first })
}

/// Walks a payload; stops early (leaving `rest`) where it is not a list of entries.
pub(crate) struct PayloadEntries<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for PayloadEntries<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<Self::Item> {
        let (length, after) = self.rest.split_first_chunk::<LENGTH_BYTES>()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let (entry, after) = after.split_at_checked(length)?;
        self.rest = after;
        Some(entry)
    }
}

/// Frames by number, ready to be stored as one batch, and the tip after them.
#[derive(Debug)]
pub(crate) struct Encoded {
    pub(crate) frames: Vec<(u64, Vec<u8>)>,
    pub(crate) tip: Tip,
}

/// The frame a journal begins with, and the tip of the journal without entries.
pub(crate) fn encode_genesis(id: JournalId) -> (Vec<u8>, Tip) {
    let header = Header { kind: Kind::Genesis, count: 0, group_first: 0, first: 0, group_count: 0, before: [0; 32] };
    let (bytes, hash) = header.seal(GENESIS, &id.0);
    let head = Head { seq: 0, hash };
    let tip = Tip { frame: GENESIS, head, before: head, first: 1 };
    (bytes, tip)
}

/// Cuts `group` into the frames that follow `tip`. Refuses a group outside the limits.
pub(crate) fn encode_group(tip: &Tip, group: &[Vec<u8>]) -> Result<Encoded, Error> {
    check_limits(group)?;
    let payloads = pack(group);
    let group_count = count(group.len())?;
    let group_first = tip.head.seq.checked_add(1).ok_or(Error::Exhausted)?;
    let mut frames = Vec::with_capacity(payloads.len());
    let (mut number, mut head) = (tip.frame, tip.head);
    let mut left = group.len();
    for (entries, payload) in payloads {
        left = left.saturating_sub(entries);
        number = number.checked_add(1).ok_or(Error::Exhausted)?;
        let entries = count(entries)?;
        let header = Header {
            kind: if left == 0 { Kind::Last } else { Kind::Inner },
            count: entries,
            group_first,
            first: head.seq.checked_add(1).ok_or(Error::Exhausted)?,
            group_count: if left == 0 { group_count } else { 0 },
            before: head.hash,
        };
        let (bytes, hash) = header.seal(number, &payload);
        let seq = head.seq.checked_add(u64::from(entries));
        head = Head { seq: seq.ok_or(Error::Exhausted)?, hash };
        frames.push((number, bytes));
    }
    Ok(Encoded { frames, tip: Tip { frame: number, head, before: tip.head, first: tip.first } })
}

fn check_limits(group: &[Vec<u8>]) -> Result<(), Error> {
    if group.is_empty() {
        return Err(Error::GroupEmpty);
    }
    if group.len() > GROUP_ENTRIES_MAX {
        return Err(Error::GroupTooLong { entries: group.len() });
    }
    group.iter().enumerate().try_for_each(|(index, entry)| check_entry(index, entry))
}

/// Refuses an entry that no frame takes.
pub(crate) fn check_entry(index: usize, entry: &[u8]) -> Result<(), Error> {
    match entry.len() {
        0 => Err(Error::EntryEmpty { index }),
        bytes if bytes > ENTRY_BYTES_MAX => Err(Error::EntryTooLarge { index, bytes }),
        _ => Ok(()),
    }
}

/// Fills frames in order; an entry is never split. Gives for each frame the number of entries and the payload.
fn pack(group: &[Vec<u8>]) -> Vec<(usize, Vec<u8>)> {
    let mut packed = Vec::new();
    let (mut entries, mut payload) = (0_usize, Vec::with_capacity(PAYLOAD_BYTES_MAX));
    for entry in group {
        if payload.len() + LENGTH_BYTES + entry.len() > PAYLOAD_BYTES_MAX {
            packed.push((entries, payload));
            (entries, payload) = (0, Vec::with_capacity(PAYLOAD_BYTES_MAX));
        }
        #[expect(
            clippy::cast_possible_truncation,
            reason = "an entry has at most ENTRY_BYTES_MAX bytes, checked before"
        )]
        payload.extend_from_slice(&(entry.len() as u32).to_le_bytes());
        payload.extend_from_slice(entry);
        entries += 1;
    }
    packed.push((entries, payload));
    packed
}

fn count(entries: usize) -> Result<u32, Error> {
    u32::try_from(entries).map_err(|_| Error::Exhausted)
}

struct Header {
    kind: Kind,
    count: u32,
    group_first: u64,
    first: u64,
    group_count: u32,
    before: [u8; 32],
}

impl Header {
    /// The frame's bytes and the chain hash after it.
    fn seal(&self, number: u64, payload: &[u8]) -> (Vec<u8>, [u8; 32]) {
        let mut bytes = Vec::with_capacity(HEADER_BYTES + payload.len() + CHECKSUM_BYTES);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        let kind = match self.kind {
            Kind::Genesis => 0,
            Kind::Inner => 1,
            Kind::Last => 2,
        };
        bytes.extend_from_slice(&[kind, 0]);
        bytes.extend_from_slice(&self.count.to_le_bytes());
        bytes.extend_from_slice(&self.group_first.to_le_bytes());
        bytes.extend_from_slice(&self.first.to_le_bytes());
        bytes.extend_from_slice(&self.group_count.to_le_bytes());
        #[expect(clippy::cast_possible_truncation, reason = "a payload has at most PAYLOAD_BYTES_MAX bytes")]
        bytes.extend_from_slice(&(payload.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&self.before);
        let hash = hash_of(number, &bytes, payload);
        bytes.extend_from_slice(&hash);
        bytes.extend_from_slice(payload);
        let checksum = checksum_of(number, &bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        (bytes, hash)
    }
}

fn hash_of(number: u64, header: &[u8], payload: &[u8]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&number.to_be_bytes());
    hasher.update(header);
    hasher.update(payload);
    *hasher.finalize().as_bytes()
}

fn checksum_of(number: u64, body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&number.to_be_bytes()), body)
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], FrameDamage> {
    let (head, rest) = bytes.split_first_chunk::<N>().ok_or(FrameDamage::Short)?;
    *bytes = rest;
    Ok(*head)
}

#[cfg(test)]
mod tests;
