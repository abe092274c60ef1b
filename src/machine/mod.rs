//! The machine.
pub mod demand;
pub mod event;
pub mod identity;
pub mod intent;
pub mod pool;
pub mod probe;
pub mod state;
