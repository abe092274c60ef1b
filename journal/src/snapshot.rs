//! Snapshots: what stands for the entries before some point, so that these can be pruned.
//!
//! A snapshot is a stream of opaque entries in a file of its own beside the frames, written while the journal goes on,
//! with a digest at its end that the caller checks when it has taken all entries in. It is there under its name only
//! once it was written, synced and read again.
//!
//! `snapshot-` and the last entry it stands for, 16 hexadecimal digits. All numbers little endian:
//!
//! | bytes | field |
//! | --- | --- |
//! | 128 | header: `NATGWSNP` · version `u16` = 1 · zeros (6) · journal id (16) · through: sequence number `u64` and chain hash (32) · its frame's number `u64` · zeros (44) · CRC-32C `u32` of all before |
//! | n | frames as the journal's, numbered from 1, entries from 1; the chain begins with BLAKE3 of the header |
//! | 96 | trailer: `NATGWEND` · entries `u64` · frames `u64` · chain hash after the last frame (32) · digest (32) · zeros (4) · CRC-32C `u32` of all before |

mod entries;
mod writer;

use crate::disk::{self, Disk};
use crate::{Head, JournalId};

pub use entries::SnapshotEntries;
pub use writer::SnapshotWriter;

const MAGIC: [u8; 8] = *b"NATGWSNP";
const END_MAGIC: [u8; 8] = *b"NATGWEND";
const VERSION: u16 = 1;
const HEADER_BYTES: usize = 128;
const TRAILER_BYTES: usize = 96;
const PREFIX: &str = "snapshot-";
const DRAFT_SUFFIX: &str = ".draft";

/// A complete snapshot, as its header and trailer tell; its entries are checked while they are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The journal's head that it stands for.
    pub through: Head,
    /// Number of its entries.
    pub entries: u64,
    /// What the caller gave as digest of all it stands for.
    pub digest: [u8; 32],
    /// Bytes of its file.
    pub bytes: u64,
    /// Number of the journal's frame that ends with `through`.
    pub(crate) frame: u64,
    /// Frames in the file.
    pub(crate) frames: u64,
    /// Chain hash before its first frame.
    pub(crate) begin: [u8; 32],
    /// Chain hash after its last frame.
    pub(crate) end: [u8; 32],
}

/// What a snapshot file is, without its entries.
pub(crate) type Examined = Result<Snapshot, String>;

pub(crate) fn name_of(seq: u64) -> String {
    format!("{PREFIX}{seq:016x}")
}

fn draft_of(seq: u64) -> String {
    format!("{PREFIX}{seq:016x}{DRAFT_SUFFIX}")
}

/// The last entry that the snapshot of this name stands for; `None` for all other names.
pub(crate) fn seq_in(name: &str) -> Option<u64> {
    let seq = u64::from_str_radix(name.strip_prefix(PREFIX)?, 16).ok()?;
    (name_of(seq) == name).then_some(seq)
}

/// Whether this is the name of a snapshot that was not finished.
pub(crate) fn is_draft(name: &str) -> bool {
    name.strip_suffix(DRAFT_SUFFIX).is_some_and(|name| seq_in(name).is_some())
}

/// Reads header and trailer of the snapshot through entry `seq` of journal `id`.
pub(crate) fn examine(disk: &impl Disk, seq: u64, id: JournalId) -> std::io::Result<Examined> {
    let name = name_of(seq);
    let bytes = disk.length(&name)?;
    let mut header = [0; HEADER_BYTES];
    let mut trailer = [0; TRAILER_BYTES];
    let read = disk::read_full(disk, &name, 0, &mut header)?;
    let Some(end) = bytes.checked_sub(TRAILER_BYTES as u64).filter(|end| *end >= HEADER_BYTES as u64) else {
        return Ok(Err("it is cut short".into()));
    };
    if read < HEADER_BYTES || disk::read_full(disk, &name, end, &mut trailer)? < TRAILER_BYTES {
        return Ok(Err("it is cut short".into()));
    }
    Ok(decode(&header, &trailer, bytes).and_then(|(found, snapshot)| {
        if found != id {
            return Err(format!("it is of journal {found}"));
        }
        if snapshot.through.seq != seq {
            return Err(format!("it stands for the entries through {}", snapshot.through.seq));
        }
        Ok(snapshot)
    }))
}

fn encode_header(id: JournalId, through: &Head, frame: u64) -> [u8; HEADER_BYTES] {
    let mut bytes = Vec::with_capacity(HEADER_BYTES);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&[0; 6]);
    bytes.extend_from_slice(&id.0);
    bytes.extend_from_slice(&through.seq.to_le_bytes());
    bytes.extend_from_slice(&through.hash);
    bytes.extend_from_slice(&frame.to_le_bytes());
    sealed(bytes)
}

fn encode_trailer(entries: u64, frames: u64, end: &[u8; 32], digest: &[u8; 32]) -> [u8; TRAILER_BYTES] {
    let mut bytes = Vec::with_capacity(TRAILER_BYTES);
    bytes.extend_from_slice(&END_MAGIC);
    bytes.extend_from_slice(&entries.to_le_bytes());
    bytes.extend_from_slice(&frames.to_le_bytes());
    bytes.extend_from_slice(end);
    bytes.extend_from_slice(digest);
    sealed(bytes)
}

/// Fills up with zeros and puts the checksum at the end.
fn sealed<const N: usize>(mut bytes: Vec<u8>) -> [u8; N] {
    bytes.resize(N.saturating_sub(4), 0);
    let checksum = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    let mut block = [0; N];
    block.copy_from_slice(&bytes);
    block
}

/// The bytes before the checksum, if that is right.
fn unsealed(block: &[u8]) -> Option<&[u8]> {
    let (bytes, checksum) = block.split_last_chunk::<4>()?;
    (crc32c::crc32c(bytes) == u32::from_le_bytes(*checksum)).then_some(bytes)
}

/// Chain hash before the first frame.
fn beginning(header: &[u8; HEADER_BYTES]) -> [u8; 32] {
    *blake3::hash(header).as_bytes()
}

fn decode(
    header: &[u8; HEADER_BYTES],
    trailer: &[u8; TRAILER_BYTES],
    bytes: u64,
) -> Result<(JournalId, Snapshot), String> {
    let mut rest = unsealed(header).ok_or("the checksum of its header differs")?;
    let mut end = unsealed(trailer).ok_or("the checksum of its trailer differs: it was not finished, or is damaged")?;
    let cut = || "it is cut short".to_owned();
    if take(&mut rest) != Some(MAGIC) || take(&mut end) != Some(END_MAGIC) {
        return Err("it is no snapshot".into());
    }
    let version = take(&mut rest).map(u16::from_le_bytes).ok_or_else(cut)?;
    if version != VERSION {
        return Err(format!("it has format version {version}, which this program does not read"));
    }
    let mut header_fields = || {
        let _: [u8; 6] = take(&mut rest)?;
        let id = JournalId(take(&mut rest)?);
        let through = Head { seq: u64::from_le_bytes(take(&mut rest)?), hash: take(&mut rest)? };
        Some((id, through, u64::from_le_bytes(take(&mut rest)?)))
    };
    let mut trailer_fields = || {
        let (entries, frames) = (u64::from_le_bytes(take(&mut end)?), u64::from_le_bytes(take(&mut end)?));
        Some((entries, frames, take(&mut end)?, take(&mut end)?))
    };
    let (id, through, frame) = header_fields().ok_or_else(cut)?;
    let (entries, frames, chain, digest) = trailer_fields().ok_or_else(cut)?;
    let begin = beginning(header);
    Ok((id, Snapshot { through, entries, digest, bytes, frame, frames, begin, end: chain }))
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_and_trailer_bytes_are_frozen() {
        let through = Head { seq: 513, hash: [2; 32] };
        let header = encode_header(JournalId([9; 16]), &through, 260);
        let trailer = encode_trailer(5, 3, &[4; 32], &[6; 32]);
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        let words = |parts: &[&str]| parts.concat();
        let nine = "09".repeat(16);
        let (two, four, six) = ("02".repeat(32), "04".repeat(32), "06".repeat(32));
        assert_eq!(
            hex(&header[..80]),
            words(&["4e41544757534e50", "0100000000000000", &nine, "0102000000000000", &two, "0401000000000000"])
        );
        assert_eq!(header[80..124], [0; 44]);
        assert_eq!(
            hex(&trailer[..88]),
            words(&["4e41544757454e44", "0500000000000000", "0300000000000000", &four, &six])
        );
        let (id, snapshot) = decode(&header, &trailer, 1_000).unwrap();
        assert_eq!((id, snapshot.through, snapshot.frame), (JournalId([9; 16]), through, 260));
        assert_eq!((snapshot.entries, snapshot.frames, snapshot.end, snapshot.digest), (5, 3, [4; 32], [6; 32]));
        for at in [0, 9, 20, 60, 127] {
            let mut damaged = header;
            damaged[at] ^= 1;
            decode(&damaged, &trailer, 1_000).unwrap_err();
            let mut damaged = trailer;
            damaged[at % TRAILER_BYTES] ^= 1;
            decode(&header, &damaged, 1_000).unwrap_err();
        }
    }

    #[test]
    fn names_are_told_apart() {
        assert_eq!(seq_in(&name_of(0xabc)), Some(0xabc));
        assert!(is_draft(&draft_of(7)) && !is_draft(&name_of(7)));
        for other in ["snapshot-7", "snapshot-", "segment-0000000000000007", "snapshot-0000000000000007.draft"] {
            assert_eq!(seq_in(other), None, "{other}");
        }
    }
}
