//! The adapter to Alibaba Cloud: encodes, signs, sends, decodes; decides nothing.
