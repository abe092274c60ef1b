//! Histories written by earlier code must still be read, and give the digest that they gave.
//!
//! `tests/fixtures/history-v1.bin` are the records of a rich run of the simulator (seed 277), each with its length before
//! it. It is never written again: a new version of an event gets a fixture of its own.

use std::collections::BTreeMap;

use natgw::machine::check;
use natgw::machine::event::{Event, codec};
use natgw_replay::fixture::fold_fixture;

const HISTORY_V1: &[u8] = include_bytes!("fixtures/history-v1.bin");

/// How many records it has, and the digest v1 after the last.
const RECORDS_V1: u64 = 495;
const DIGEST_V1: &str = "69a021a431ba237e36fa0058a9448f2792bcd4a8fbda25f7006f20ed006e8908";

/// Where a record has the version of its kind: after the kind itself.
const VERSION_AT: usize = 2;

#[test]
fn the_first_history_still_gives_its_digest() {
    let (state, records) = fold_fixture(HISTORY_V1).expect("it folds");
    let digest: String = state.digest().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!((records, digest.as_str()), (RECORDS_V1, DIGEST_V1));
    assert_eq!(state.digest(), state.digest_recomputed());
    assert_eq!(check::all(&state), []);
    assert!(state.allocations().count() > 0, "an empty state has a digest that says nothing");
}

#[test]
fn it_speaks_of_most_kinds_and_its_bytes_are_those_we_write() {
    let mut kinds: BTreeMap<&str, u32> = BTreeMap::new();
    let (mut rest, mut seq, mut earlier) = (HISTORY_V1, 0, 0);
    while let Some((length, after)) = rest.split_first_chunk() {
        let (bytes, after) = after.split_at(u32::from_le_bytes(*length) as usize);
        seq += 1;
        let record = codec::decode(seq, bytes).expect("it decodes");
        let written = codec::encode(&record).expect("it encodes");
        if bytes[VERSION_AT] == record.event.version() {
            assert_eq!(written, bytes, "record {seq} is written as it was");
        } else {
            earlier += 1;
            assert_eq!(
                codec::decode(seq, &written).as_ref(),
                Ok(&record),
                "record {seq} says in its new version the same"
            );
        }
        *kinds.entry(record.event.name()).or_default() += 1;
        rest = after;
    }
    println!("{kinds:?}, {earlier} in versions that are no longer written");
    assert!(kinds.len() >= 39, "{} of {} kinds", kinds.len(), Event::KINDS.len());
}

#[test]
fn one_bit_makes_another_digest_or_no_history() {
    let before = fold_fixture(HISTORY_V1).expect("it folds").0.digest();
    let mut differs = 0;
    for at in (0..HISTORY_V1.len()).step_by(97) {
        let mut bytes = HISTORY_V1.to_vec();
        bytes[at] ^= 1;
        let same = fold_fixture(&bytes).is_ok_and(|(state, _)| state.digest() == before);
        differs += u32::from(!same);
    }
    assert!(differs > 0, "the digest must depend on the bytes");
}
