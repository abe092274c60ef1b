//! The one place that knows bincode: records to bytes and back.
//!
//! Decoding is bounded, consumes every byte, and never guesses: a kind or version that this build does not know is an
//! error that names it.

use super::{Event, Record};

/// Bytes of a record's header: kind, version, term, machine time, wall time.
const HEADER_BYTES: usize = 2 + 1 + 8 + 8 + 8;

/// The most that one record may take; the journal's entries are no larger (design: an event is at most 3.5 KiB).
pub const RECORD_BYTES_MAX: usize = 3_584;

/// What of that is left for the body.
pub const BODY_BYTES_MAX: usize = RECORD_BYTES_MAX - HEADER_BYTES;

/// Why bytes are no record, or a record no bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The record was written by a newer natgw, or is damaged.
    #[error("kind {kind} version {version} is unknown to this build: use the natgw that wrote it, or a newer one")]
    UnknownKind {
        /// The kind found.
        kind: u16,
        /// The version found.
        version: u8,
    },
    /// Fewer bytes than the header takes.
    #[error("a record of {0} bytes is shorter than its header")]
    Short(usize),
    /// The body does not decode.
    #[error("the body does not decode: {0}")]
    Body(String),
    /// Bytes are left over after the body.
    #[error("{0} bytes are left over after the body")]
    Trailing(usize),
    /// The record takes more bytes than the journal accepts.
    #[error("{name} takes {bytes} bytes, more than the {RECORD_BYTES_MAX} of a record")]
    TooLarge {
        /// The event.
        name: &'static str,
        /// Its size.
        bytes: usize,
    },
}

/// The bytes of a record. The sequence number is the journal's and not repeated.
///
/// # Errors
/// Fails when the record is larger than [`RECORD_BYTES_MAX`].
pub fn encode(record: &Record) -> Result<Vec<u8>, Error> {
    let mut out = Vec::with_capacity(128);
    out.extend_from_slice(&record.event.kind().to_le_bytes());
    out.push(record.event.version());
    out.extend_from_slice(&record.term.to_le_bytes());
    out.extend_from_slice(&record.machine_ms.to_le_bytes());
    out.extend_from_slice(&record.wall_ms.to_le_bytes());
    record.event.encode_body(&mut out)?;
    if out.len() > RECORD_BYTES_MAX {
        return Err(Error::TooLarge { name: record.event.name(), bytes: out.len() });
    }
    Ok(out)
}

/// The record of these bytes.
///
/// # Errors
/// Fails when the kind or version is unknown, when the body does not decode within its bound, or when bytes are left over.
pub fn decode(seq: u64, bytes: &[u8]) -> Result<Record, Error> {
    let (header, body) = bytes.split_at_checked(HEADER_BYTES).ok_or(Error::Short(bytes.len()))?;
    let mut header = Header(header);
    let kind = u16::from_le_bytes(header.take());
    let [version] = header.take();
    let term = u64::from_le_bytes(header.take());
    let machine_ms = u64::from_le_bytes(header.take());
    let wall_ms = i64::from_le_bytes(header.take());
    let event = Event::decode_body(kind, version, body)?;
    Ok(Record { seq, term, machine_ms, wall_ms, event })
}

pub(crate) fn encode_body(body: &impl bincode::Encode, out: &mut Vec<u8>) -> Result<(), Error> {
    bincode::encode_into_std_write(body, out, bincode::config::standard())
        .map(|_bytes| ())
        .map_err(|error| Error::Body(error.to_string()))
}

pub(super) fn decode_body<T: bincode::Decode<()>>(bytes: &[u8]) -> Result<T, Error> {
    let config = bincode::config::standard().with_limit::<RECORD_DECODED_BYTES_MAX>();
    let (body, used) = bincode::decode_from_slice(bytes, config).map_err(|error| Error::Body(error.to_string()))?;
    match bytes.len().saturating_sub(used) {
        0 => Ok(body),
        left => Err(Error::Trailing(left)),
    }
}

/// What a decoder may claim in memory: a few times the encoded form, whose integers are packed.
const RECORD_DECODED_BYTES_MAX: usize = 16 * RECORD_BYTES_MAX;

struct Header<'a>(&'a [u8]);

impl Header<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (first, rest) = self.0.split_first_chunk().unwrap_or((&[0; N], &[]));
        self.0 = rest;
        *first
    }
}
