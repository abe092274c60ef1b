//! The adapter to Alibaba Cloud: encodes, signs, sends, decodes; decides nothing.

pub mod classes;
pub mod sign;
