//! What a journal adds up to: its newest snapshot that can be used, and the records after it.

use natgw_journal::{Disk, Entries, ReadFrames, Snapshot, SnapshotEntries, View};

use crate::machine::event::{Record, codec};
use crate::machine::state::{IllegalEvent, Restoring, State};

/// Why entries are no history.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// They cannot be read.
    #[error("{0}")]
    Unread(natgw_journal::Error),
    /// One is no record of this build.
    #[error("entry {seq} is no record: {source}")]
    Undecodable {
        /// Its number.
        seq: u64,
        /// Why not.
        source: codec::Error,
    },
    /// One does not follow.
    #[error("{0}")]
    Illegal(IllegalEvent),
    /// The beginning was pruned, and no snapshot stands for it.
    #[error("entries before {first} were pruned, and no snapshot that stands for them can be used ({reason})")]
    Baseless {
        /// The lowest entry that is left.
        first: u64,
        /// What is wrong with the snapshots.
        reason: String,
    },
    /// Nobody wants it any more.
    #[error("it was broken off, because the process ends")]
    BrokenOff,
}

/// Folds everything that a view shows. `goes_on` is asked before each record.
///
/// # Errors
/// See [`Broken`]. A snapshot that cannot be used gives way to the one before it.
pub fn fold<R, D>(view: &View<R, D>, goes_on: &dyn Fn() -> bool) -> Result<State, Broken>
where
    R: ReadFrames,
    D: Disk + Clone,
{
    let mut reason = "there is none".to_owned();
    for snapshot in view.snapshots().iter().rev() {
        let through = snapshot.through.seq;
        match restore(snapshot, view.snapshot_entries(snapshot), goes_on) {
            Ok(state) => return tail(state, view.entries(through.saturating_add(1)), goes_on),
            Err(Broken::BrokenOff) => return Err(Broken::BrokenOff),
            Err(broken) => {
                tracing::warn!("the snapshot through event {through} cannot be used: {broken}");
                reason = broken.to_string();
            }
        }
    }
    let first = view.first_seq().map_err(Broken::Unread)?;
    if first > 1 {
        return Err(Broken::Baseless { first, reason });
    }
    tail(State::default(), view.entries(1), goes_on)
}

/// The record of an entry.
///
/// # Errors
/// Fails when the entry is not one that this build knows.
pub fn record(seq: u64, bytes: &[u8]) -> Result<Record, Broken> {
    codec::decode(seq, bytes).map_err(|source| Broken::Undecodable { seq, source })
}

fn restore<D: Disk>(
    snapshot: &Snapshot,
    entries: SnapshotEntries<D>,
    goes_on: &dyn Fn() -> bool,
) -> Result<State, Broken> {
    let mut restoring = Restoring::new();
    for entry in entries {
        let entry = entry.map_err(Broken::Unread)?;
        if !goes_on() {
            return Err(Broken::BrokenOff);
        }
        restoring.take(&record(entry.seq, &entry.bytes)?).map_err(Broken::Illegal)?;
    }
    let state = restoring.finish().map_err(Broken::Illegal)?;
    if (state.seq(), state.digest()) == (snapshot.through.seq, snapshot.digest) {
        return Ok(state);
    }
    let reason = "it is not the state that its file names".to_owned();
    Err(Broken::Unread(natgw_journal::Error::SnapshotDamaged { through: snapshot.through.seq, reason }))
}

fn tail(mut state: State, entries: Entries<'_>, goes_on: &dyn Fn() -> bool) -> Result<State, Broken> {
    for entry in entries {
        let entry = entry.map_err(Broken::Unread)?;
        if !goes_on() {
            return Err(Broken::BrokenOff);
        }
        state.apply(&record(entry.seq, &entry.bytes)?).map_err(Broken::Illegal)?;
        // Whoever begins with it takes what is in the agenda at the end; how it came about would grow with the history.
        drop(state.take_agenda_changes());
    }
    Ok(state)
}
