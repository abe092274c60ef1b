//! What an operator reads in the log, and how far the lease lets writes go.

use crate::cluster::api::Fence;
use crate::controller::step::Controller;
use crate::driver::clock::Clock;
use crate::driver::phase::Phase;
use crate::driver::{Course, Observer};
use crate::machine::event::{Record, words};

/// Logs every record, and moves the fence with the lease.
pub(super) struct Log {
    fence: Fence,
    clock: Clock,
}

impl Log {
    pub(super) const fn new(fence: Fence, clock: Clock) -> Self {
        Self { fence, clock }
    }
}

impl Observer for Log {
    fn phase(&mut self, phase: Phase) {
        if phase == Phase::Leading {
            tracing::info!("the lease is won: this process leads");
        } else {
            tracing::trace!("phase {phase}");
        }
    }

    fn recorded(&mut self, records: &[Record]) {
        for record in records {
            tracing::info!(event = record.seq, term = record.term, "{}", words::sentence(record));
        }
    }

    fn turned(&mut self, controller: &Controller) -> Course {
        self.fence.set(controller.acts_until_ms().map(|until| self.clock.at(Some(until))));
        Course::Continue
    }
}
