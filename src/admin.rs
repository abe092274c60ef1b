//! The admin address: whether it works, who leads, the numbers, the state, and the journal as an export.
//!
//! | path | for whom | answer |
//! | --- | --- | --- |
//! | `/healthz` | anybody | 200 while the controller's loop turns, or before its first turn; else 503 |
//! | `/readyz` | anybody | 200 once the loop turns and nobody objects: a standby that watches is ready; else 503 |
//! | `/leader` | anybody | `{"leads":…,"term":…}`, 200 where this process leads, else 503 |
//! | `/metrics` | anybody | OpenMetrics text; the table at the head of `metrics` says what each means |
//! | `/state` | this host | one JSON object: the controller, its gateways, tables, pods and allocations |
//! | `/journal` | this host | the journal as an export, which `natgw-replay` reads |
//!
//! Nothing here can change anything: only GET is answered, what comes in are questions ([`Ask`]), and whoever answers
//! them hands out copies. The server has a thread of its own. It never waits for the controller inside a lock, and the
//! controller never waits for it: questions lie in a bounded list until the loop comes by ([`Published::asks`]).
//!
//! "This host" is a peer at 127.0.0.1 or ::1, such as `kubectl port-forward`, that also names this host in `Host`: a page
//! in somebody's browser cannot read the state by resolving its own name to 127.0.0.1.

mod asks;
mod server;

pub use self::asks::{Ask, Cursor, Encode, Export, Pending, Piece, Published, Section, TooMany};
pub use self::server::{Error, Server};

#[cfg(test)]
mod tests;
