//! Exports: a consistent prefix of a journal as lines of JSON, which needs nothing of natgw to be told apart and checked.
//!
//! | line | content |
//! | --- | --- |
//! | first | `{"natgw_export":1,"journal":ID,"head":{"seq":N,"hash":HASH},"first_frame":K,"snapshot":N or null,"written_by":…}` |
//! | then, if entries were pruned | `{"snapshot":N,"offset":BYTES,"bytes":BASE64}`: the snapshot's file in pieces |
//! | then | `{"frame":N,"first":SEQ,"count":ENTRIES,"bytes":BASE64}`: each frame as it is stored, the genesis frame first |
//! | last | `{"end":{"lines":N,"blake3":HASH}}`: how many lines there are before it and the hash of all their bytes |
//!
//! Identity and hashes in hexadecimal digits. A frame carries its own checksum and hash and the hash before it, so each
//! line is checked by itself and against its neighbours; the last line covers all. The layout of a frame stands in the
//! crate's documentation.

use std::io::{BufRead, Read, Write};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::disk::{self, Directory, Disk, on};
use crate::files::at;
use crate::frame::{Frame, GENESIS, Kind, Tip};
use crate::plain::Segments;
use crate::snapshot::{self, Snapshot};
use crate::store::{NumberedFrame, ReadFrames, Store};
use crate::{Error, FRAME_BYTES_MAX, Head, JournalId};

const VERSION: u32 = 1;
/// Bytes of a snapshot in one line: as many as a frame has at most.
const PIECE_BYTES: usize = FRAME_BYTES_MAX;
/// The longest line: a frame in base64 and what stands around it. More is no line of ours and is not read.
const LINE_BYTES_MAX: usize = FRAME_BYTES_MAX / 3 * 4 + 1024;
/// Frames stored at once while an export is read.
const FRAMES_AT_ONCE: usize = 256;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct First {
    natgw_export: u32,
    journal: String,
    head: HeadLine,
    first_frame: u64,
    snapshot: Option<u64>,
    written_by: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HeadLine {
    seq: u64,
    hash: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
enum Line {
    Frame { frame: u64, first: u64, count: u32, bytes: String },
    Snapshot { snapshot: u64, offset: u64, bytes: String },
    End { end: End },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct End {
    lines: u64,
    blake3: String,
}

/// Writes everything from the first frame that is left to the tip.
pub(crate) fn write(
    frames: &dyn ReadFrames,
    id: JournalId,
    tip: &Tip,
    base: Option<&Snapshot>,
    disk: &impl Disk,
    out: &mut impl Write,
) -> Result<(), Error> {
    let mut lines = Lines { out, hasher: blake3::Hasher::new(), lines: 0 };
    lines.write(&First {
        natgw_export: VERSION,
        journal: id.to_string(),
        head: HeadLine { seq: tip.head.seq, hash: hex(&tip.head.hash) },
        first_frame: tip.first,
        snapshot: base.map(|base| base.through.seq),
        written_by: concat!("natgw-journal ", env!("CARGO_PKG_VERSION")).to_owned(),
    })?;
    if let Some(base) = base {
        write_snapshot(disk, base, &mut lines)?;
    }
    let mut expected: Option<u64> = None;
    let mut chain: Option<[u8; 32]> = None;
    let mut seq = 1;
    // A store that did not keep the genesis frame has none to give.
    let genesis =
        frames.scan(GENESIS).take(1).filter(|stored| !matches!(stored, Ok((number, _)) if *number != GENESIS));
    for stored in genesis.chain(frames.scan(tip.first)) {
        let damaged = |reason: String| Error::EntryDamaged { seq, reason };
        let (number, bytes) = stored.map_err(|fault| damaged(fault.to_string()))?;
        if number > tip.frame {
            break;
        }
        let frame = Frame::decode(number, &bytes).map_err(|e| damaged(format!("frame {number}: {e}")))?;
        if expected.is_some_and(|expected| expected != number) || chain.is_some_and(|chain| chain != frame.before) {
            return Err(damaged(format!("frame {number} does not follow the one before")));
        }
        lines.write(&Line::Frame {
            frame: number,
            first: frame.first,
            count: frame.count,
            bytes: STANDARD.encode(&bytes),
        })?;
        let begins = number == GENESIS && tip.first > 1;
        expected = if begins { Some(tip.first) } else { number.checked_add(1) };
        chain = (!begins).then_some(frame.after);
        seq = if number == GENESIS { 1 } else { frame.next_seq().unwrap_or(seq) };
    }
    if tip.frame > GENESIS && expected != tip.frame.checked_add(1) {
        return Err(Error::EntryDamaged { seq, reason: "frames before the head are missing".into() });
    }
    lines.end()
}

fn write_snapshot(disk: &impl Disk, base: &Snapshot, lines: &mut Lines<'_, impl Write>) -> Result<(), Error> {
    let name = snapshot::name_of(base.through.seq);
    let mut offset = 0_u64;
    while offset < base.bytes {
        let left = usize::try_from(base.bytes.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut piece = vec![0; left.min(PIECE_BYTES)];
        let read = disk::read_full(disk, &name, offset, &mut piece).map_err(on(disk, "read", &name))?;
        piece.truncate(read);
        if piece.is_empty() {
            return Err(Error::SnapshotDamaged { through: base.through.seq, reason: "it is cut short".into() });
        }
        lines.write(&Line::Snapshot { snapshot: base.through.seq, offset, bytes: STANDARD.encode(&piece) })?;
        offset = offset.saturating_add(read as u64);
    }
    Ok(())
}

struct Lines<'a, W> {
    out: &'a mut W,
    hasher: blake3::Hasher,
    lines: u64,
}

impl<W: Write> Lines<'_, W> {
    fn write(&mut self, line: &impl Serialize) -> Result<(), Error> {
        let failed = at("write", Path::new("export"));
        let mut text = match serde_json::to_vec(line) {
            Ok(text) => text,
            Err(e) => return Err(failed(e.into())),
        };
        text.push(b'\n');
        self.hasher.update(&text);
        self.lines = self.lines.saturating_add(1);
        self.out.write_all(&text).map_err(failed)
    }

    fn end(mut self) -> Result<(), Error> {
        let end = End { lines: self.lines, blake3: hex(self.hasher.finalize().as_bytes()) };
        self.write(&Line::End { end })?;
        self.out.flush().map_err(at("write", Path::new("export")))
    }
}

/// What an export says of itself, and how far it could be taken in.
pub(crate) struct Imported {
    pub(crate) id: JournalId,
    pub(crate) head: Head,
    pub(crate) first_frame: u64,
    /// Why reading stopped before the end, if it did.
    pub(crate) broken: Option<String>,
}

/// Reads an export into plain segments on an empty directory, as far as it can be believed.
pub(crate) fn import(mut from: impl BufRead, disk: &Directory) -> Result<Imported, Error> {
    let mut line = Vec::new();
    let no_export = |reason: String| Error::NoExport { reason };
    let first = read_line(&mut from, &mut line)
        .and_then(|read| if read { Ok(()) } else { Err("it is empty".into()) })
        .and_then(|()| serde_json::from_slice::<First>(&line).map_err(|e| e.to_string()))
        .map_err(no_export)?;
    if first.natgw_export != VERSION {
        return Err(no_export(format!(
            "it has format version {}, which this program does not read",
            first.natgw_export
        )));
    }
    let id = unhex(&first.journal).map(JournalId);
    let hash = unhex(&first.head.hash);
    let (Some(id), Some(hash)) = (id, hash) else {
        return Err(no_export("identity or head are no hexadecimal digits".into()));
    };
    let store = Segments::open(disk.clone())?;
    let mut taken = Taken {
        store,
        disk,
        snapshot: first.snapshot,
        snapshot_bytes: 0,
        next: GENESIS,
        first_frame: first.first_frame,
        frames: Vec::new(),
        hasher: blake3::Hasher::new(),
        lines: 1,
    };
    taken.hasher.update(&line);
    let broken = taken.take_all(&mut from, &mut line)?;
    Ok(Imported { id, head: Head { seq: first.head.seq, hash }, first_frame: first.first_frame, broken })
}

/// An export being taken in.
struct Taken<'a> {
    store: Segments<Directory>,
    disk: &'a Directory,
    snapshot: Option<u64>,
    snapshot_bytes: u64,
    next: u64,
    first_frame: u64,
    frames: Vec<NumberedFrame>,
    hasher: blake3::Hasher,
    lines: u64,
}

impl Taken<'_> {
    /// Takes line after line, and tells why it stopped before the end.
    fn take_all(&mut self, from: &mut impl BufRead, line: &mut Vec<u8>) -> Result<Option<String>, Error> {
        let broken = loop {
            let number = self.lines.saturating_add(1);
            let wrong = |reason: String| format!("line {number} of the export: {reason}");
            match read_line(from, line) {
                Ok(true) => {}
                Ok(false) => break Some("the export has no end".to_owned()),
                Err(reason) => break Some(wrong(reason)),
            }
            match serde_json::from_slice::<Line>(line) {
                Ok(Line::End { end }) => {
                    let counted = (end.lines, end.blake3) == (self.lines, hex(self.hasher.finalize().as_bytes()));
                    let more = !matches!(read_line(from, line), Ok(false));
                    break match (counted, more) {
                        (true, false) => None,
                        (true, true) => Some("the export goes on after its end".to_owned()),
                        (false, _) => Some("the export's checksum differs".to_owned()),
                    };
                }
                Ok(content) => {
                    if let Err(reason) = self.take(content)? {
                        break Some(wrong(reason));
                    }
                }
                Err(e) => break Some(wrong(e.to_string())),
            }
            self.hasher.update(line);
            self.lines = number;
        };
        self.store.put(std::mem::take(&mut self.frames))?;
        Ok(broken)
    }

    fn take(&mut self, line: Line) -> Result<Result<(), String>, Error> {
        match line {
            Line::End { .. } => Ok(Ok(())),
            Line::Snapshot { snapshot, offset, bytes } => {
                let piece = match STANDARD.decode(bytes) {
                    Ok(piece) => piece,
                    Err(e) => return Ok(Err(e.to_string())),
                };
                if Some(snapshot) != self.snapshot || offset != self.snapshot_bytes {
                    return Ok(Err("it is not the next piece of the snapshot".into()));
                }
                let name = snapshot::name_of(snapshot);
                if offset == 0 {
                    self.disk.create(&name).map_err(on(self.disk, "create", &name))?;
                }
                self.disk.write_at(&name, offset, &piece).map_err(on(self.disk, "write", &name))?;
                self.snapshot_bytes = offset.saturating_add(piece.len() as u64);
                Ok(Ok(()))
            }
            Line::Frame { frame, first, count, bytes } => {
                let bytes = match STANDARD.decode(bytes) {
                    Ok(bytes) => bytes,
                    Err(e) => return Ok(Err(e.to_string())),
                };
                if let Err(reason) = self.check(frame, (first, count), &bytes) {
                    return Ok(Err(reason));
                }
                self.frames.push((frame, bytes));
                if self.frames.len() >= FRAMES_AT_ONCE || frame == GENESIS {
                    self.store.put(std::mem::take(&mut self.frames))?;
                }
                Ok(Ok(()))
            }
        }
    }

    /// The frame is the next one, and what the line says of it is so. Its place in the chain is checked by the verdict.
    fn check(&mut self, number: u64, said: (u64, u32), bytes: &[u8]) -> Result<(), String> {
        let frame = Frame::decode(number, bytes).map_err(|e| format!("frame {number}: {e}"))?;
        if (frame.first, frame.count) != said {
            return Err(format!("frame {number} holds other entries than the line says"));
        }
        // The genesis frame may be missing, and the next one need not be the first.
        let begins = self.next == GENESIS && number == self.first_frame;
        if number != self.next && !begins {
            return Err(format!("frame {number} does not follow the one before"));
        }
        self.next = match frame.kind {
            Kind::Genesis => self.first_frame,
            Kind::Inner | Kind::Last => number.checked_add(1).ok_or("numbers have run out")?,
        };
        Ok(())
    }
}

/// Reads a line with its end; `false` if there is none. A longer one than there can be is not read on.
fn read_line(from: &mut impl BufRead, line: &mut Vec<u8>) -> Result<bool, String> {
    line.clear();
    let mut limited = from.by_ref().take(LINE_BYTES_MAX as u64);
    let read = limited.read_until(b'\n', line).map_err(|e| e.to_string())?;
    match line.last() {
        None => Ok(false),
        Some(b'\n') => Ok(true),
        Some(_) if read >= LINE_BYTES_MAX => Err(format!("it is longer than {LINE_BYTES_MAX} bytes")),
        Some(_) => Err("it is cut short".into()),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    if text.len() != N.saturating_mul(2) || !text.is_ascii() {
        return None;
    }
    for (place, byte) in bytes.iter_mut().enumerate() {
        let start = place.saturating_mul(2);
        *byte = u8::from_str_radix(text.get(start..start.saturating_add(2))?, 16).ok()?;
    }
    Some(bytes)
}
