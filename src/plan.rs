//! `natgw plan`: what a leader would change now, and why. It changes nothing.
//!
//! The plan is the controller's own. The step takes over in memory, with a lock and a journal that nobody else sees; it
//! reads what every leader reads before it decides, and decides. What it would then start is not started but told, each
//! change with the decision behind it. Nothing here makes a call but readings of [`executor::list`].
//!
//! * Time is the plan's own, too: it goes on only where nothing but time is waited for, and not further than
//!   `HORIZON_MS`. Where history is not continuous free ports rest before they are given out; in a plan they do not, so
//!   that it tells what follows.
//! * What follows from an outcome is told as far as it is certain: the entries of an allocation behind its claim, the
//!   removal of entries behind the withdrawal of a status. What an outcome would decide anew is not.
//! * What cannot be read is named, and the plan is then incomplete.

mod changes;
mod left;
#[cfg(feature = "adapters")]
pub mod show;

use serde::Serialize;

use crate::controller::lease::{Call, Timing};
use crate::controller::step::{Configuration, Controller, Head, Identity, Input, Now, Output, Stop};
use crate::executor;
use crate::machine::demand::HaltReason;
use crate::machine::event::Record;
use crate::machine::state::State;
use crate::ports::cloud::Cloud;
use crate::ports::cluster::{Cluster, LeaseRecord};

pub use self::changes::{Change, Unserved};
pub use self::left::Left;

/// How far the plan's time goes on: enough for what was read to be decided on, less than a second look at anything.
const HORIZON_MS: u64 = 2_000;

/// Readings of one plan: more means that reading does not end. A table of 200 entries takes one, a pod's address a
/// hundredth.
const READINGS_MAX: u32 = 10_000;

/// Restarts above a term that was met outside. Each reads everything, so a higher one than the last is hardly met.
const RESTARTS_MAX: u32 = 3;

/// What a plan begins with.
#[derive(Clone, Debug)]
pub struct Beginning {
    /// What history adds up to; empty where there is none.
    pub state: State,
    /// The journal's identity, where there is one.
    pub journal: Option<[u8; 16]>,
    /// Why history is not continuous, if it is not.
    pub rebased: Option<String>,
    /// The lock as it is.
    pub lock: LeaseRecord,
    /// The lease's durations.
    pub timing: Timing,
    /// The settings as events.
    pub configuration: Configuration,
    /// Wall time.
    pub wall_ms: i64,
}

/// What a leader would do now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// The term that it would have.
    pub term: u64,
    /// Why it would begin without history, if it would.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub without_history: Option<String>,
    /// What it would change, in the order of the decisions.
    pub changes: Vec<Change>,
    /// Pods that ask and would stay without a mapping.
    pub unserved: Vec<Unserved>,
    /// Why nothing would be decided, if another controller stands in the way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub halted: Option<&'static str>,
    /// What is somebody else's and would stay as it is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left_alone: Vec<Left>,
    /// What could not be read. Nothing was decided that rests on it.
    pub unread: Vec<String>,
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A leader would end at once.
    #[error("NATGW-PLAN: a leader would end at once, so there is no plan")]
    Stopped(#[from] Stop),
    /// Reading does not end.
    #[error("NATGW-PLAN: {READINGS_MAX} readings did not lead to an end; report it")]
    Endless,
}

/// Makes the plan.
///
/// # Errors
/// See [`Error`]. What cannot be read is no error but in [`Plan::unread`].
pub async fn make<K: Cluster, C: Cloud>(cluster: &K, cloud: &C, mut beginning: Beginning) -> Result<Plan, Error> {
    let mut restarts = 0;
    loop {
        match rehearse(cluster, cloud, beginning.clone()).await {
            // A leader that meets a higher term than the Lease knows ends, and is restarted above it.
            Err(Error::Stopped(Stop::TermBehind { seen, .. })) if restarts < RESTARTS_MAX => {
                beginning.lock.term = seen;
                restarts += 1;
            }
            ended => return ended,
        }
    }
}

async fn rehearse<K: Cluster, C: Cloud>(cluster: &K, cloud: &C, mut beginning: Beginning) -> Result<Plan, Error> {
    let without_history = beginning.rebased.clone();
    if without_history.is_some() {
        beginning.configuration.settings.cooldown_ms = 0;
    }
    let mut rehearsal = Rehearsal::begin(beginning);
    rehearsal.play(cluster, cloud).await?;
    let Rehearsal { controller, records, unread, .. } = rehearsal;
    let state = controller.state();
    let changes = changes::of(state, &records);
    Ok(Plan {
        term: state.term(),
        without_history,
        changes,
        unserved: changes::unserved(state),
        halted: state.halted().map(HaltReason::sentence),
        left_alone: left::alone(state),
        unread,
    })
}

/// A controller whose effects are not carried out.
struct Rehearsal {
    controller: Controller,
    now: Now,
    lock: LeaseRecord,
    records: Vec<Record>,
    unread: Vec<String>,
    readings: u32,
}

impl Rehearsal {
    fn begin(beginning: Beginning) -> Self {
        let Beginning { state, journal, rebased, lock, timing, configuration, wall_ms } = beginning;
        let identity = Identity {
            holder: "natgw-plan".to_owned(),
            journal: journal.unwrap_or_default(),
            rebased,
            timing,
            speed: 1,
            keeping: None,
        };
        let head = Head { seq: state.seq(), hash: [0; 32] };
        let mut controller = Controller::new(identity, state, head);
        let now = Now { monotonic_ms: 0, wall_ms };
        controller.handle(now, Input::Configured(Box::new(configuration)));
        // Whoever holds the lock keeps it: only in this copy nobody does.
        let lock = LeaseRecord { holder: String::new(), ..lock };
        Self { controller, now, lock, records: Vec::new(), unread: Vec::new(), readings: 0 }
    }

    /// Goes on until nothing happens before the horizon.
    async fn play<K: Cluster, C: Cloud>(&mut self, cluster: &K, cloud: &C) -> Result<(), Error> {
        loop {
            while let Some(output) = self.controller.poll_output() {
                if let Some(input) = self.answer(cluster, cloud, output).await? {
                    self.controller.handle(self.now, input);
                }
            }
            let due = self.controller.poll_timeout().filter(|due| *due <= HORIZON_MS);
            let Some(due) = due else { return Ok(()) };
            // A time that does not go on would be waited for without end.
            self.now.monotonic_ms = due.max(self.now.monotonic_ms.saturating_add(1));
            self.controller.handle(self.now, Input::Woke);
        }
    }

    async fn answer<K: Cluster, C: Cloud>(
        &mut self,
        cluster: &K,
        cloud: &C,
        output: Output,
    ) -> Result<Option<Input>, Error> {
        match output {
            Output::Append(records) => {
                let seq = records.last().map_or(0, |record| record.seq);
                self.records.extend(records);
                Ok(Some(Input::Appended(Head { seq, hash: [0; 32] })))
            }
            // Here a plan ends and a change would begin. The journal is not touched.
            Output::Start(..) | Output::Keep(_) => Ok(None),
            Output::List(id, request) => {
                self.readings = self.readings.saturating_add(1);
                if self.readings > READINGS_MAX {
                    return Err(Error::Endless);
                }
                let listing = executor::list(cluster, cloud, &request).await;
                if let Err(error) = &listing {
                    let error = error.to_string();
                    if !self.unread.contains(&error) {
                        self.unread.push(error);
                    }
                }
                Ok(Some(Input::ListEnded(id, listing)))
            }
            Output::CallLease(Call::Read) => Ok(Some(Input::LeaseAnswered(Ok(self.lock.clone())))),
            Output::CallLease(Call::Write(record)) => {
                self.lock = record;
                Ok(Some(Input::LeaseAnswered(Ok(self.lock.clone()))))
            }
            Output::Stop(stop) => Err(stop.into()),
        }
    }
}

impl Plan {
    /// Nothing would be changed, and everything could be read.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.unread.is_empty()
    }
}
