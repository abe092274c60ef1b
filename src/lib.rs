//! natgw.
pub mod machine;
pub mod ports;
pub mod cloud;
pub mod sandbox;
#[cfg(feature = "adapters")]
pub mod config;
