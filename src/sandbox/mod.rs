//! The outside, simulated: pure models of the VPC and of the cluster, the signed HTTP façade in front of the VPC, and the
//! sandbox in which the whole controller runs against them.

mod as_list;
pub mod cluster;
#[cfg(feature = "adapters")]
pub mod http;
#[cfg(feature = "adapters")]
pub mod live;
pub mod vpc;
