//! A snapshot at every record of a rich history gives the same state, and one that is not as it was written gives none.

use super::*;
use crate::machine::check;
use crate::machine::event::codec;

/// The records of a rich run of the simulator, each with its length before it (`tests/fixture.rs`).
const HISTORY: &[u8] = include_bytes!("../../../../tests/fixtures/history-v1.bin");

fn history() -> Vec<Record> {
    let (mut rest, mut records) = (HISTORY, Vec::new());
    while let Some((length, after)) = rest.split_first_chunk() {
        let (bytes, after) = after.split_at(u32::from_le_bytes(*length) as usize);
        records.push(codec::decode(records.len() as u64 + 1, bytes).unwrap());
        rest = after;
    }
    records
}

fn folded(records: &[Record]) -> State {
    let mut state = State::default();
    records.iter().for_each(|record| state.apply(record).unwrap());
    state
}

fn restored(records: impl IntoIterator<Item = Record>) -> Result<State, IllegalEvent> {
    let mut restoring = Restoring::new();
    for record in records {
        restoring.take(&record)?;
    }
    restoring.finish()
}

#[test]
fn at_every_record_a_snapshot_gives_the_same_state() {
    let mut state = State::default();
    for record in history() {
        state.apply(&record).unwrap();
        assert_eq!(check::restored(&state), None, "after record {}", record.seq);
    }
    assert!(state.allocations().count() > 3, "an empty state shows nothing");
}

#[test]
fn snapshot_and_tail_end_where_the_whole_history_ends() {
    let records = history();
    let whole = folded(&records);
    for at in (0..records.len()).step_by(29) {
        let (before, after) = records.split_at(at);
        let mut state = restored(folded(before).snapshot()).unwrap();
        after.iter().for_each(|record| state.apply(record).unwrap());
        assert_eq!(state.image(), whole.image(), "from record {at}");
    }
}

/// A record left out, twice there, of another moment, changed, or from a history is found out.
#[test]
fn what_is_no_snapshot_gives_no_state() {
    let state = folded(&history());
    let stream: Vec<Record> = state.snapshot().collect();
    let kinds: std::collections::BTreeSet<_> = stream.iter().map(|record| record.event.kind()).collect();
    assert!(kinds.len() > 5, "{kinds:?}");
    for at in 0..stream.len() {
        let mut without = stream.clone();
        without.remove(at);
        restored(without).unwrap_err();
    }
    let mut twice = stream.clone();
    twice.insert(4, stream[4].clone());
    restored(twice).unwrap_err();
    let mut later = stream.clone();
    later[5].machine_ms += 1;
    restored(later).unwrap_err();
    let mut foreign = stream.clone();
    foreign[5].event = history()[0].event.clone();
    let other = restored(foreign);
    assert!(other.is_err() || other.is_ok_and(|other| other.image() != state.image()));
    let mut another = stream.clone();
    let moved = another.iter_mut().find_map(|record| match &mut record.event {
        Event::Kept(Kept::Allocation(body)) => Some(body),
        _ => None,
    });
    moved.unwrap().eip = [198, 51, 100, 1].into();
    assert_eq!(restored(another).unwrap_err().reason, "its digest is not the state's");
    restored(stream.iter().take(stream.len() - 1).cloned()).unwrap_err();
    restored(stream).unwrap();
}

/// In a history the events of a snapshot say nothing.
#[test]
fn a_history_does_not_take_what_belongs_to_a_snapshot() {
    let mut state = folded(&history());
    let kept = state.snapshot().find(|record| record.event.name() == "Kept").unwrap();
    let record = Record { seq: state.seq() + 1, ..kept };
    assert_eq!(state.apply(&record).unwrap_err().reason, "it belongs to a snapshot");
}
