//! The adapter to Alibaba Cloud: encodes, signs, sends, decodes; decides nothing.
//!
//! [`sign`] and [`classes`] are pure and also serve the simulated cloud. The rest needs the feature `adapters`. Nothing
//! here retries or waits: an error comes back with its class, and what to do next is the step's business.

pub mod classes;
#[cfg(feature = "adapters")]
pub mod credentials;
#[cfg(feature = "adapters")]
mod ecs;
#[cfg(feature = "adapters")]
pub mod endpoints;
#[cfg(feature = "adapters")]
pub mod environment;
#[cfg(feature = "adapters")]
pub mod meter;
#[cfg(feature = "adapters")]
pub mod rpc;
pub mod sign;
#[cfg(feature = "adapters")]
mod vpc;

#[cfg(feature = "adapters")]
pub use client::{AliyunCloud, Settings};

#[cfg(feature = "adapters")]
mod client;
