//! The one place where identities are drawn: of a new journal, of a process in the lock, of a new simulated cluster.
//! Everything else is derived from facts.

use uuid::Uuid;

/// A fresh identity from the operating system's randomness.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "a new journal, process or cluster has no facts to be derived from")]
pub fn fresh() -> Uuid {
    Uuid::new_v4()
}
