//! The adapter to Alibaba Cloud: encodes, signs, sends, decodes; decides nothing.
//!
//! ```text
//!   ports::cloud::Cloud ──> client ──> vpc, ecs: parameters ──> rpc: sign, send, read ──> HTTP ──> the cloud
//!        ^                    |                                  |  ^        |
//!        |                 endpoints, environment             sign  |      meter: counts and times
//!        |                                                          |
//!        └── pages, ids, CloudError <── classes: code -> class      credentials: who calls
//! ```
//!
//! [`sign`] and [`classes`] are pure and also serve the simulated cloud. The rest needs the feature `adapters`. Nothing
//! here retries or waits: an error comes back with its class, and what to do next is the step's business. A call has one
//! time-out, and one span with action, table, generation, RequestId, class and duration.
//!
//! # Actions
//!
//! The eight of the documented RAM policy and no other ([`classes::ACTIONS`]); `AssumeRoleWithOIDC` and the metadata service
//! are asked for keys only.
//!
//! | action | method of the port | paged by | asked for by |
//! | --- | --- | --- | --- |
//! | `CreateForwardEntry` | `create_entry` | | a lane of [`controller::lanes`](crate::controller::lanes) |
//! | `DeleteForwardEntry` | `delete_entry` | | the same |
//! | `DescribeForwardTableEntries` | `list_entries` | number, 50 | [`controller::barrier`](crate::controller::barrier) |
//! | `DescribeNatGateways` | `list_gateways` | number, 50 | [`controller::survey`](crate::controller::survey) |
//! | `DescribeEipAddresses` | `list_eips` | number, 100 | the same, for each configured gateway |
//! | `DescribeRouteTableList` | `list_route_tables` | number, 50 | the same |
//! | `DescribeRouteEntryList` | `list_default_routes` | token, 100 | the same, for each route table |
//! | `DescribeNetworkInterfaces` | `list_interfaces` | token, 500 | [`controller::pacing`](crate::controller::pacing), 100 addresses a call |
//!
//! # Readings and their budgets
//!
//! One method is one page. [`executor`](crate::executor) reads to the end and takes nothing less for a listing: pages that
//! end too early, show too much, repeat each other, announce different totals or do not end are an
//! [`Incomplete`](crate::ports::effect::Incomplete), and nothing follows from them; of a forward table what they show counts
//! and what they do not show proves nothing. How many calls a second the account takes, the vendor does not publish
//! (aliyun-api.md §4): a bucket for each action and one for all calls begin above what anybody needs and are learned from
//! refusals, whose `x-ratelimit` hints [`rpc`] hands on. A reading draws for each of its pages. What limits one action stops
//! that action, what limits the account stops everything, and where calls are scarce readings, creations and deletions take
//! turns.
//!
//! # Errors
//!
//! [`classes`] is the one table from action, status and code to what may be concluded. It names each of the 117 documented
//! errors of the eight actions and what was met elsewhere. A code that no row names is `Unknown` and logged once, with its
//! body and RequestId. Of a call that changes something a time-out, a status from 500 on and an answer that cannot be read
//! are `Unknown` too: it may have been carried out. Only a connection that never came about is certain to have had no effect.
//! What the cloud says is cut to [`rpc::MESSAGE_CHARS_MAX`] characters.
//!
//! # Credentials
//!
//! [`credentials`] takes the first source that there is: addon token file, configuration, environment, RRSA, ECS RAM role.
//! Temporary keys are renewed ahead of their end, one flight at a time, and the old one serves while that fails. A key that
//! the cloud refuses is fetched anew. The wall clock goes into the signature and into nothing else.
//!
//! # What is never logged
//!
//! Secrets, security tokens and service account tokens, in any spelling: no type here shows them, no message shows a URL or
//! a form, and what the cloud echoes is scrubbed before it is cut. AccessKeyIds are no secrets. Whatever is made of a secret
//! on its way is wiped, as far as it is ours: not the URL, nor the buffers of HTTP and TLS, nor what the system keeps of the
//! environment.

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
