//! The machine: what the records add up to, and what to do about it. Pure.
//!
//! ```text
//!   records ──> state (fold) ──> decide ──> more records
//!                  │
//!                  └──> agenda of intents ──> whoever carries them out
//! ```
//!
//! It reads no clock, draws no number, and knows nothing of files, sockets or Kubernetes. Same records, same state, to
//! the last bit: that is what replay stands on.

pub mod identity;

pub mod event;

pub mod demand;
pub mod pool;

pub mod state;

pub mod intent;

pub mod decide;

pub mod check;

pub mod at;
pub mod few;
pub mod packed;
pub mod probe;
pub mod seldom;
pub mod shared;
