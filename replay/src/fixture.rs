//! Records in a file: each as the codec writes it, preceded by its length (`u32`, little endian), numbered from 1.

use anyhow::{Context as _, Result, ensure};
use natgw::machine::event::codec::{self, RECORD_BYTES_MAX};
use natgw::machine::state::State;

/// Folds all records of such a file and returns the state with how many they were.
///
/// # Errors
/// Fails when the file is cut off, when a length is beyond that of a record, and when a record cannot be decoded or is
/// illegal where it stands; each error names the record.
pub fn fold_fixture(bytes: &[u8]) -> Result<(State, u64)> {
    let (mut state, mut seq, mut rest) = (State::default(), 0_u64, bytes);
    while !rest.is_empty() {
        seq = seq.checked_add(1).context("numbers have run out")?;
        let (length, after) =
            rest.split_first_chunk().with_context(|| format!("the length of record {seq} is cut off"))?;
        let length = usize::try_from(u32::from_le_bytes(*length))?;
        ensure!(length <= RECORD_BYTES_MAX, "record {seq} claims {length} bytes, more than {RECORD_BYTES_MAX}");
        let (body, after) = after.split_at_checked(length).with_context(|| format!("record {seq} is cut off"))?;
        let record = codec::decode(seq, body).with_context(|| format!("record {seq} cannot be read"))?;
        state.apply(&record)?;
        rest = after;
    }
    Ok((state, seq))
}

#[cfg(test)]
mod tests {
    use natgw::machine::event::{Event, Record, control};

    use super::*;

    fn framed(terms: &[u64]) -> Vec<u8> {
        let records = terms.iter().enumerate().map(|(index, term)| {
            let event = Event::TermStarted(control::TermStarted { term: *term, holder: "a".into(), predecessor: None });
            let record = Record { seq: index as u64 + 1, term: *term, machine_ms: 0, wall_ms: 0, event };
            let body = codec::encode(&record).unwrap();
            [u32::try_from(body.len()).unwrap().to_le_bytes().to_vec(), body].concat()
        });
        records.collect::<Vec<_>>().concat()
    }

    #[test]
    fn records_are_folded_and_counted() {
        let (state, count) = fold_fixture(&framed(&[1, 2, 5])).unwrap();
        assert_eq!((state.seq(), state.term(), count), (3, 5, 3));
        assert_eq!(fold_fixture(&[]).unwrap().1, 0);
    }

    #[test]
    fn what_is_cut_off_or_illegal_is_named() {
        let bytes = framed(&[1, 2]);
        for cut in [bytes.len() - 1, bytes.len() / 2 + 2] {
            let error = fold_fixture(&bytes[..cut]).unwrap_err().to_string();
            assert!(error.contains("record 2"), "{error}");
        }
        assert!(fold_fixture(&[0xff; 8]).unwrap_err().to_string().contains("record 1 claims"));
        assert!(fold_fixture(&framed(&[2, 1])).unwrap_err().to_string().contains("event 2"));
    }
}
