//! The outside, simulated: pure models of the VPC and of the cluster, and the signed HTTP façade in front of the VPC.

pub mod cluster;
#[cfg(feature = "adapters")]
pub mod http;
pub mod vpc;
