//! The controller without its I/O: inputs with a time go in, outputs come out. Pure.
//!
//! ```text
//!   Inputs ──> step: fold, decide, agenda ──> Append(group)           to the journal's thread
//!              lease, barrier, lanes,     ──> Start(effect), List(..)  to the executor, over the ports
//!              relist, pacing             ──> CallLease, Stop
//! ```
//!
//! The one rule from which the rest follows: **nothing leaves before `Appended` covers the event on which it rests.**

pub mod step;

pub mod barrier;

pub mod keeping;

pub mod lease;

pub mod lanes;

pub mod pacing;

pub mod relist;

pub mod survey;

pub mod departed;
