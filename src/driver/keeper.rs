//! Looking after the journal in its own thread: snapshots beside it, pruning between groups, and how it stands.
//!
//! A snapshot is folded anew from the one before and the records since, in a thread of its own, so that each is also a
//! replay of what was written, and nothing is written from a state that the journal does not give. Pruning goes step by
//! step, each no longer than a group takes. What fails here fails alone: the journal goes on, and whoever asked is told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use natgw_journal::{Journal, Room};

use super::fold::{Broken, fold, record};
use super::writer::JournalView;
use crate::controller::keeping::{Keep, Kept, KeptSnapshot};
use crate::machine::event::codec;

/// How much the journal's disk can take.
pub type Measure = Box<dyn Fn(&Journal) -> Result<Room, natgw_journal::Error> + Send>;

/// Why there is no snapshot.
#[derive(Debug, thiserror::Error)]
enum Unwritten {
    #[error("the journal does not give a state: {0}")]
    Broken(#[from] Broken),
    #[error("a record of the snapshot cannot be encoded: {0}")]
    Encode(#[from] codec::Error),
    #[error("the snapshot cannot be written: {0}")]
    Journal(#[from] natgw_journal::Error),
    #[error("the thread of the snapshot ended early")]
    Lost,
}

/// What is under way.
pub(super) struct Keeper {
    measure: Measure,
    task: Option<Task>,
    /// Wall time of each snapshot, and of the first record, by number.
    walls: BTreeMap<u64, i64>,
    first_wall: Option<(u64, i64)>,
}

enum Task {
    Look,
    Prune(usize),
    Snapshot { stop: Arc<AtomicBool>, thread: JoinHandle<Result<(), Unwritten>> },
    Failed(String),
}

impl Keeper {
    pub(super) fn new(measure: Measure) -> Self {
        Self { measure, task: None, walls: BTreeMap::new(), first_wall: None }
    }

    /// Begins what is asked. The one before has been answered.
    pub(super) fn begin(&mut self, journal: &Journal, keep: Keep) {
        self.task = Some(match keep {
            Keep::Look => Task::Look,
            Keep::Prune { keep } => Task::Prune(keep),
            Keep::Snapshot => {
                let (stop, view) = (Arc::new(AtomicBool::new(false)), journal.view());
                let asked = Arc::clone(&stop);
                let work = move || write(&view, &|| !asked.load(Ordering::Relaxed));
                match std::thread::Builder::new().name("snapshot".to_owned()).spawn(work) {
                    Ok(thread) => Task::Snapshot { stop, thread },
                    Err(error) => Task::Failed(format!("the thread of the snapshot cannot be started: {error}")),
                }
            }
        });
    }

    /// Something can be done now, without waiting.
    pub(super) const fn is_busy(&self) -> bool {
        matches!(self.task, Some(Task::Look | Task::Prune(_) | Task::Failed(_)))
    }

    /// Something will end by itself.
    pub(super) const fn waits(&self) -> bool {
        matches!(self.task, Some(Task::Snapshot { .. }))
    }

    /// One step; how the journal stands once nothing is under way.
    ///
    /// # Errors
    /// As an append: the journal takes nothing more then.
    pub(super) fn step(&mut self, journal: &mut Journal) -> Result<Option<Kept>, natgw_journal::Error> {
        let failed = match self.task.take() {
            None => return Ok(None),
            Some(Task::Look) => None,
            Some(Task::Failed(reason)) => Some(reason),
            Some(Task::Prune(keep)) => {
                if journal.prune_step(keep)? {
                    self.task = Some(Task::Prune(keep));
                    return Ok(None);
                }
                None
            }
            Some(Task::Snapshot { stop, thread }) if !thread.is_finished() => {
                self.task = Some(Task::Snapshot { stop, thread });
                return Ok(None);
            }
            Some(Task::Snapshot { thread, .. }) => {
                thread.join().unwrap_or(Err(Unwritten::Lost)).err().map(|error| error.to_string())
            }
        };
        if let Some(reason) = &failed {
            tracing::error!("NATGW-JOURNAL-KEEP: the journal is kept as it is, so it goes on growing: {reason}");
        }
        Ok(Some(self.kept(journal, failed)))
    }

    /// Ends what is under way, without a trace.
    pub(super) fn end(&mut self) {
        if let Some(Task::Snapshot { stop, thread }) = self.task.take() {
            stop.store(true, Ordering::Relaxed);
            drop(thread.join());
        }
    }

    fn kept(&mut self, journal: &Journal, failed: Option<String>) -> Kept {
        let view = journal.view();
        // Those that do not lead to the head stand for nothing, and have no time either.
        let snapshots = view.snapshots().to_vec();
        self.walls.retain(|through, _| snapshots.iter().any(|snapshot| snapshot.through.seq == *through));
        let mut failed = failed;
        let mut known = Vec::with_capacity(snapshots.len());
        for snapshot in snapshots {
            let through = snapshot.through.seq;
            match self.walls.get(&through).copied().map_or_else(|| wall_of(&view, &snapshot), Ok) {
                Ok(wall_ms) => {
                    self.walls.insert(through, wall_ms);
                    known.push(KeptSnapshot { through, entries: snapshot.entries, bytes: snapshot.bytes, wall_ms });
                }
                Err(broken) => failed = failed.or_else(|| Some(broken.to_string())),
            }
        }
        let room = (self.measure)(journal).inspect_err(|error| tracing::warn!("{error}")).ok();
        let (first, first_wall_ms) = self.first(&view);
        Kept { snapshots: known, first, first_wall_ms, room: room.map(|room| (room.free, room.floor)), failed }
    }

    /// The lowest record that is left, and its wall time.
    fn first(&mut self, view: &JournalView) -> (u64, Option<i64>) {
        let Ok(first) = view.first_seq() else { return (1, None) };
        if self.first_wall.is_none_or(|(seq, _)| seq != first) {
            let entry = view.entries(first).next().and_then(Result::ok);
            self.first_wall = entry.and_then(|entry| Some((first, record(entry.seq, &entry.bytes).ok()?.wall_ms)));
        }
        (first, self.first_wall.map(|(_, wall_ms)| wall_ms))
    }
}

/// The wall time of the state of a snapshot, which all its records have.
fn wall_of(view: &JournalView, snapshot: &natgw_journal::Snapshot) -> Result<i64, Broken> {
    let entry = view.snapshot_entries(snapshot).next().transpose().map_err(Broken::Unread)?;
    let entry = entry.map(|entry| record(entry.seq, &entry.bytes)).transpose()?;
    Ok(entry.map_or(0, |begun| begun.wall_ms))
}

fn write(view: &JournalView, goes_on: &dyn Fn() -> bool) -> Result<(), Unwritten> {
    let state = fold(view, goes_on)?;
    let mut writer = view.begin_snapshot()?;
    for record in state.snapshot() {
        if !goes_on() {
            return Err(Broken::BrokenOff.into());
        }
        writer.push(codec::encode(&record)?)?;
    }
    let snapshot = writer.finish(state.digest())?;
    tracing::info!("a snapshot of {} entries stands for everything through event {}", snapshot.entries, state.seq());
    Ok(())
}
