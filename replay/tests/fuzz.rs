//! The event decoder on bytes that nobody wrote: mutations of a recorded history and of a snapshot of its state. It never
//! panics, takes memory only in proportion, and what it does take is a record that it writes and reads again as the same.
//!
//! Longer: `NATGW_LONG=true cargo test -p natgw-replay --test fuzz`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a broken fixture is a failed test")]
#![expect(clippy::disallowed_methods, reason = "how long it may take")]

use std::time::{Duration, Instant};

use natgw::machine::event::{Event, codec};
use natgw_replay::fixture::fold_fixture;

const HISTORY: &[u8] = include_bytes!("../../tests/fixtures/history-v1.bin");
/// A record of 3.5 KiB holds so many small strings at the most, each with what an allocation costs beside its bytes.
const MEMORY_BESIDE: u64 = 1 << 20;
const MEMORY_A_BYTE: u64 = 64;

/// The corpus: what was written once, and what a snapshot of it is today.
fn records() -> Vec<Vec<u8>> {
    let (mut records, mut rest) = (Vec::new(), HISTORY);
    while let Some((length, after)) = rest.split_first_chunk() {
        let (record, after) = after.split_at(u32::from_le_bytes(*length) as usize);
        records.push(record.to_vec());
        rest = after;
    }
    let (state, _) = fold_fixture(HISTORY).unwrap();
    records.extend(state.snapshot().map(|record| codec::encode(&record).unwrap()));
    records
}

struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    fn index(&mut self, bound: usize) -> usize {
        self.next() as usize % bound.max(1)
    }
}

fn mutate(bytes: &[u8], draw: &mut Draw) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..=draw.index(3) {
        let place = draw.index(bytes.len());
        match draw.index(6) {
            0 => bytes.truncate(place),
            1 => bytes.extend_from_within(place..),
            // The numbers by which bincode tells that a longer number follows.
            2 => bytes.iter_mut().skip(place).take(1).for_each(|byte| *byte = 251 + draw.index(5) as u8),
            3 => bytes.iter_mut().skip(place).take(9).for_each(|byte| *byte = 0xff),
            _ => bytes.iter_mut().skip(place).take(1).for_each(|byte| *byte = draw.next() as u8),
        }
    }
    bytes
}

#[test]
fn no_bytes_upset_the_event_decoder() {
    let seconds = match (std::env::var("NATGW_LONG").is_ok(), std::env::var("CI").is_ok()) {
        (true, _) => 600,
        (false, true) => 5,
        (false, false) => 1,
    };
    let end = Instant::now() + Duration::from_secs(seconds);
    let (records, mut draw) = (records(), Draw(3));
    let (mut inputs, mut good) = (0_u64, 0_u64);
    while Instant::now() < end {
        for _ in 0..100 {
            let mut input = mutate(&records[draw.index(records.len())], &mut draw);
            // Kind and version are drawn anew now and then: every decoder meets the bytes of every other.
            if draw.index(4) == 0 && input.len() > 2 {
                let (kind, version, _) = Event::KINDS[draw.index(Event::KINDS.len())];
                input[..2].copy_from_slice(&kind.to_le_bytes());
                input[2] = 1 + draw.index(usize::from(version)) as u8;
            }
            let mut decoded = None;
            let memory = allocation_counter::measure(|| decoded = codec::decode(1, &input).ok()).bytes_max;
            assert!(memory <= MEMORY_BESIDE + MEMORY_A_BYTE * input.len() as u64, "{memory} bytes for {input:?}");
            inputs += 1;
            if let Some(record) = decoded {
                good += 1;
                let again = codec::encode(&record).unwrap();
                assert_eq!(codec::decode(1, &again).unwrap(), record, "{input:?}");
            }
        }
    }
    println!("event: {inputs} inputs, {good} taken for good");
    assert!(good > inputs / 100 && good < inputs, "{good} of {inputs}");
    let mut unchanged = 0;
    for bytes in &records {
        let record = codec::decode(1, bytes).unwrap();
        let again = codec::encode(&record).unwrap();
        // A record of an older version is written again as one of today's.
        assert!(again == *bytes || again[2] > bytes[2], "{record:?}");
        assert_eq!(codec::decode(1, &again).unwrap(), record);
        unchanged += usize::from(again == *bytes);
    }
    assert!(unchanged > records.len() / 2, "{unchanged} of {}", records.len());
}
