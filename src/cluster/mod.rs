//! The adapter to Kubernetes. It encodes, sends and decodes, and decides nothing.
//!
//! [`poddnat`] and [`pod`] are the wire shapes: pure, without any client, so that the simulated cluster keeps exactly
//! what an API server would. `crd` is the definition that is generated from them; [`access`] lists
//! all that is asked of an API server.
//!
//! `api` is one exchange, `list` a whole list, `watch` what changes, `client` and `publish` the cluster port, `lease` the
//! lock; `classes` says what may be concluded from an answer, and `view` keeps lists, watches and writes in step.

pub mod access;
#[cfg(feature = "adapters")]
pub mod api;
#[cfg(feature = "adapters")]
mod classes;
#[cfg(feature = "adapters")]
pub mod client;
#[cfg(feature = "adapters")]
pub mod crd;
#[cfg(feature = "adapters")]
pub mod lease;
#[cfg(feature = "adapters")]
mod list;
pub mod pod;
pub mod poddnat;
#[cfg(feature = "adapters")]
mod publish;
#[cfg(feature = "adapters")]
mod view;
#[cfg(feature = "adapters")]
pub mod watch;
#[cfg(feature = "adapters")]
mod wire;

/// A moment as the API server writes it in `creationTimestamp`: RFC 3339, UTC, whole seconds.
///
/// A moment outside the years that can be written becomes 1970-01-01, for these times are for display only.
#[must_use]
pub fn timestamp(wall_ms: i64) -> String {
    let moment = jiff::Timestamp::from_second(wall_ms.div_euclid(1000)).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    moment.to_string()
}

/// The milliseconds since 1970-01-01 UTC of a moment as the API server writes it; `None` if it is none.
#[must_use]
pub fn wall_ms_of(timestamp: &str) -> Option<i64> {
    timestamp.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_millisecond)
}

#[cfg(test)]
mod tests {
    use super::{timestamp, wall_ms_of};

    #[test]
    fn a_written_time_is_read() {
        assert_eq!(wall_ms_of(&timestamp(1_695_180_404_999)), Some(1_695_180_404_000));
        assert_eq!(wall_ms_of("yesterday"), None);
    }

    #[test]
    fn times_are_cut_to_seconds() {
        assert_eq!(timestamp(1_695_180_404_999), "2023-09-20T03:26:44Z");
        assert_eq!(timestamp(-1), "1969-12-31T23:59:59Z");
        assert_eq!(timestamp(i64::MAX), "1970-01-01T00:00:00Z");
    }
}
