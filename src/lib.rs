//! natgw.
pub mod cloud;
#[cfg(feature = "adapters")]
pub mod config;
pub mod machine;
pub mod ports;
pub mod sandbox;
