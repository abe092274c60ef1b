//! From what a history is folded: from nothing, or from the snapshot that stands for what was pruned.

use natgw::machine::event::codec;
use natgw::machine::state::{Restoring, State};
use natgw_journal::Snapshot;

use crate::history::Source;
use crate::report::Finding;

impl Source {
    /// The state before the first record that was not pruned: none at all, or that of the oldest snapshot from which the
    /// records go on. Records up to [`State::seq`] are in it already.
    ///
    /// # Errors
    /// Fails when records were pruned and no snapshot can be used.
    pub fn base(&self) -> Result<State, Finding> {
        let first = self.copy.first_seq();
        if first <= 1 {
            return Ok(State::default());
        }
        let mut reason = "there is none".to_owned();
        for snapshot in self.copy.snapshots().iter().filter(|snapshot| snapshot.through.seq.saturating_add(1) >= first)
        {
            match self.restore(snapshot) {
                Ok(state) => return Ok(state),
                Err(words) => reason = words,
            }
        }
        let words = format!("what was before was pruned, and no snapshot gives the state there: {reason}");
        Err(Finding::at(first, words))
    }

    /// The state of a snapshot, or why it gives none.
    ///
    /// # Errors
    /// Fails when the snapshot cannot be read, is of a newer build, or is not what it says.
    pub fn restore(&self, snapshot: &Snapshot) -> Result<State, String> {
        let through = snapshot.through.seq;
        let mut restoring = Restoring::new();
        for entry in self.copy.snapshot_entries(snapshot) {
            let entry = entry.map_err(|error| error.to_string())?;
            let record = codec::decode(entry.seq, &entry.bytes)
                .map_err(|error| format!("entry {} of the snapshot through {through}: {error}", entry.seq))?;
            restoring.take(&record).map_err(|illegal| format!("the snapshot through {through}: {illegal}"))?;
        }
        let state = restoring.finish().map_err(|illegal| format!("the snapshot through {through}: {illegal}"))?;
        if (state.seq(), state.digest()) == (through, snapshot.digest) {
            Ok(state)
        } else {
            Err(format!("the snapshot through {through} is not of the state that its file names"))
        }
    }
}
