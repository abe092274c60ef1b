//! natgw.
pub mod cloud;
pub mod cluster;
#[cfg(feature = "adapters")]
pub mod config;
pub mod controller;
#[cfg(feature = "adapters")]
pub mod driver;
pub mod executor;
pub mod machine;
pub mod ports;
pub mod sandbox;
