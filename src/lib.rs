//! natgw gives annotated Kubernetes pods an address `EIP:port` on the NAT gateways of Alibaba Cloud, as DNAT entries.
//! Every decision is a record in a journal before anything follows from it, so that it can be replayed and explained.
//!
//! ```text
//!   Kubernetes watch ─┐           ┌───── controller::step (pure) ──────┐
//!                     ├─ inputs ─>│ machine: fold, decide, agenda      │─ outputs ─> Append(group)   ─> journal (own thread)
//!   cloud's answers ──┘           │ lease, barrier, lanes, relist,     │             Start(effect)   ─> executor ─> ports ─> cluster │ cloud
//!             ^                   │ pacing                             │             List, CallLease, Stop
//!             │                   └────────────────────────────────────┘
//!             └────────── EffectEnded, ListEnded, LeaseAnswered, Appended(head) ──────────┘
//! ```
//!
//! Facts go in, effects come out, one way. Nothing leaves before [`Appended`](controller::step::Input::Appended) covers
//! the event on which it rests. The driver and the simulator of `tests/sim` carry the same step between the outside and
//! the journal; only what carries it differs.
//!
//! # The rooms, in reading order
//!
//! | room | what it is | what of ours it may import |
//! | --- | --- | --- |
//! | [`machine`] | events, the fold over them, every decision, what must be true outside, what must hold | nothing |
//! | [`ports`] | the outside in domain words: traits for cloud, cluster and lease; effects and listings | `machine` |
//! | [`controller`] | the step: lease, barrier, lanes, differences of listings, pacing | `machine`, `ports` |
//! | [`executor`] | one async fn an effect, over the ports | `machine`, `ports` |
//! | `driver` | the live loop: clocks, the journal's thread, futures polled side by side | `controller`, `executor`, `ports`, `machine`, natgw-journal |
//! | [`cloud`] | Alibaba Cloud's RPC: signature, eight actions, one table from error code to class | `ports`, `machine` |
//! | [`cluster`] | the wire shapes of PodDNAT and of what is ours on a pod; lists, watches, writes and the Lease of an API server | `ports`, `machine` |
//! | `admin` | health, leader, numbers, state and export over HTTP; changes nothing | `machine` |
//! | `metrics` | the numbers and the state as rows: between the driver and its observer | `admin`, `controller`, `driver`, `machine`, `cloud`'s meter |
//! | `config` | the configuration file | `machine`, `controller` and `cloud` (types) |
//! | `run` | the controller as it is installed: configuration, API server, journal, cloud, then the loop | everything |
//! | [`sandbox`] | pure models of VPC and cluster; the VPC behind HTTP; the whole controller against both | see there |
//!
//! `sandbox::vpc` and `sandbox::cluster` import `machine` and `ports`, of `cloud` the error classes, of `cluster` the wire
//! shapes. `sandbox::http` imports the models and the signature. Only `sandbox::live`, which puts everything together as a
//! program does, imports the adapters, `config` and `driver`.
//!
//! The pure rooms — `machine`, `ports`, `controller`, `executor`, both models and the wire shapes — read no clock, draw
//! no number, open no file and no socket. Without the feature `adapters` only they are built; `tests/tidy.rs` holds each
//! room to its imports.

// Imports nothing of ours.
pub mod machine;

// Imports machine.
pub mod ports;

// Imports machine and ports.
pub mod controller;

// Imports machine and ports.
pub mod executor;

// Imports controller, executor, ports, the records of machine, and natgw-journal.
#[cfg(feature = "adapters")]
pub mod driver;

// Imports ports and machine, never another adapter.
pub mod cloud;

// Imports ports and machine, never another adapter.
pub mod cluster;

// Imports machine.
#[cfg(feature = "adapters")]
pub mod admin;

// Imports the types of machine, controller and cloud that it fills in.
#[cfg(feature = "adapters")]
pub mod config;

// Imports admin, controller, driver, the meter of cloud, and machine.
#[cfg(feature = "adapters")]
pub mod metrics;

// Its models import machine, ports, and the pure parts of cloud and cluster; its live part puts everything together.
pub mod sandbox;

// Puts everything together as it is installed.
#[cfg(feature = "adapters")]
pub mod run;
