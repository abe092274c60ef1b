//! natgw.
pub mod machine;
pub mod ports;
