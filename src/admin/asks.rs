//! What the server asks the controller's thread, and what that thread tells of its own accord.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::machine::identity::{AllocationId, PodUid};

/// Questions that wait at once: more scrapers than this are turned away rather than let the controller work for them.
const ASKS_MAX: usize = 16;

/// The loop turns at least once a minute (its longest sleep). One that did not for twice as long is stuck.
const TURN_AGE_MAX: Duration = Duration::from_secs(120);

/// Makes the text of the numbers. It runs in the server's thread: what is costly about a scrape is its text.
pub type Encode = Box<dyn FnOnce() -> String + Send>;

/// Writes an export. It runs in a thread of its own.
pub type Export = Box<dyn FnOnce(&mut dyn io::Write) -> Result<(), Box<dyn std::error::Error + Send + Sync>> + Send>;

/// An answer that will come, or not if whoever could give it has gone.
pub type Pending<T> = oneshot::Receiver<T>;

type Exports = Box<dyn Fn() -> Pending<Export> + Send + Sync>;

/// A question to the controller's thread.
pub enum Ask {
    /// The numbers.
    Metrics(oneshot::Sender<Encode>),
    /// The next piece of the state: the first one without a cursor.
    State(Option<Cursor>, oneshot::Sender<Piece>),
}

/// Where the next piece of the state begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cursor {
    /// Pods after this one; `None` is the first.
    Pods(Option<PodUid>),
    /// Allocations after this one; `None` is the first.
    Allocations(Option<AllocationId>),
}

/// A part of the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Whole sections, or parts of the same one in a row.
    pub sections: Vec<Section>,
    /// Where to go on; `None` at the end.
    pub next: Option<Cursor>,
}

/// Rows of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// Its name in the document.
    pub name: &'static str,
    /// Each a JSON value.
    pub rows: Vec<String>,
}

/// There are `ASKS_MAX` questions already.
#[derive(Debug, thiserror::Error)]
#[error("NATGW-ADMIN-BUSY: {ASKS_MAX} questions wait already, so this one is not asked; ask less often")]
pub struct TooMany;

/// What the controller's thread and the server share. Clones are the same.
#[derive(Clone, Default)]
pub struct Published(Arc<Shared>);

#[derive(Default)]
struct Shared {
    standing: Mutex<Standing>,
    asks: Mutex<Vec<Ask>>,
    asked: Notify,
    exports: OnceLock<Exports>,
}

#[derive(Clone, Debug, Default)]
struct Standing {
    leads: bool,
    term: u64,
    turned: Option<Instant>,
    objection: Option<String>,
}

impl fmt::Debug for Published {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Published").field("standing", &*self.standing()).finish_non_exhaustive()
    }
}

impl Published {
    /// Nothing is known yet: healthy, not ready, no leader.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The controller's loop has turned: to be told each time, for it is the sign of life.
    pub fn turned(&self, leads: bool, term: u64) {
        let mut standing = self.standing();
        (standing.leads, standing.term, standing.turned) = (leads, term, Some(Instant::now()));
    }

    /// Not ready for that reason, or no objection any more.
    pub fn object(&self, reason: Option<String>) {
        self.standing().objection = reason;
    }

    /// From where exports of the journal come. Only the first source counts.
    pub fn serve_journal(&self, exports: impl Fn() -> Pending<Export> + Send + Sync + 'static) {
        // A journal has one writer in a process, which does not change.
        self.0.exports.set(Box::new(exports)).ok();
    }

    /// The questions that wait, for the controller's thread to answer. None costs a lock that nobody holds for long.
    #[must_use]
    pub fn asks(&self) -> Vec<Ask> {
        std::mem::take(&mut *lock(&self.0.asks))
    }

    /// Ends once there is a question, or sooner. Dropped and called again at any time.
    pub async fn asked(&self) {
        if lock(&self.0.asks).is_empty() {
            self.0.asked.notified().await;
        }
    }

    /// Asks, for the server and for tests of whoever answers.
    pub(crate) fn ask(&self, ask: Ask) -> Result<(), TooMany> {
        let mut asks = lock(&self.0.asks);
        if asks.len() >= ASKS_MAX {
            return Err(TooMany);
        }
        asks.push(ask);
        drop(asks);
        self.0.asked.notify_one();
        Ok(())
    }

    pub(super) fn export(&self) -> Option<Pending<Export>> {
        self.0.exports.get().map(|exports| exports())
    }

    /// Why it is not healthy.
    pub(super) fn illness(&self) -> Option<String> {
        let age = self.standing().turned?.elapsed();
        (age > TURN_AGE_MAX).then(|| format!("the loop did not turn for {} s", age.as_secs()))
    }

    /// Why it is not ready.
    pub(super) fn unreadiness(&self) -> Option<String> {
        let standing = self.standing().clone();
        let starting = standing.turned.is_none().then(|| "it is starting: the journal is being read".to_owned());
        standing.objection.or(starting).or_else(|| self.illness())
    }

    /// Whether it leads, and in which term.
    pub(super) fn leads(&self) -> (bool, u64) {
        let standing = self.standing();
        (standing.leads, standing.term)
    }

    fn standing(&self) -> MutexGuard<'_, Standing> {
        lock(&self.0.standing)
    }
}

/// Nothing in here can be left half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
