//! The one place where the controller's clocks are read.

use std::time::{Duration, Instant, SystemTime};

use crate::controller::step::Now;

/// How long the loop sleeps where nothing is due: a clock that was suspended with the machine is noticed within that.
const SLEEP_MAX: Duration = Duration::from_secs(60);

/// The machine's clocks: monotonic since this value was made, and the date.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    began: Instant,
}

impl Clock {
    /// A clock that starts now.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "time enters the controller here")]
    pub fn start() -> Self {
        Self { began: Instant::now() }
    }

    /// The time for the step.
    #[must_use]
    pub fn now(&self) -> Now {
        Now { monotonic_ms: self.elapsed_ms(), wall_ms: wall_ms() }
    }

    /// Milliseconds since this clock was made. Never goes back.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "time enters the controller here")]
    pub fn elapsed_ms(&self) -> u64 {
        u64::try_from(Instant::now().saturating_duration_since(self.began).as_millis()).unwrap_or(u64::MAX)
    }

    /// The moment of a monotonic time, for the runtime's timer; at the latest a minute from now.
    #[must_use]
    pub fn at(&self, monotonic_ms: Option<u64>) -> tokio::time::Instant {
        let latest = Duration::from_millis(self.elapsed_ms()).saturating_add(SLEEP_MAX);
        let due = monotonic_ms.map_or(latest, Duration::from_millis).min(latest);
        tokio::time::Instant::from_std(self.began.checked_add(due).unwrap_or(self.began))
    }
}

/// The date.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "time enters the controller here")]
pub fn wall() -> SystemTime {
    SystemTime::now()
}

/// Milliseconds since 1970-01-01 UTC; negative before.
#[must_use]
pub fn wall_ms() -> i64 {
    let signed = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
    wall().duration_since(SystemTime::UNIX_EPOCH).map_or_else(|before| -signed(before.duration()), signed)
}
