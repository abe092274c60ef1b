//! The seams: what the executor and the driver ask of the outside, in domain words.
//!
//! Every trait has a live adapter and a pure model, and both pass one contract suite.

pub mod cloud;
pub mod cluster;
pub mod effect;
