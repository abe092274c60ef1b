//! natgw.
