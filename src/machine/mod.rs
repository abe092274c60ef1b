//! The machine.
pub mod identity;
