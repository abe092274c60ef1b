//! What an operator reads in the log, when a replica is ready, and how far the lease lets writes go.

use std::ops::RangeInclusive;

use crate::admin::Published;
use crate::cluster::api::Fence;
use crate::cluster::client::KubeCluster;
use crate::controller::step::Controller;
use crate::driver::clock::Clock;
use crate::driver::phase::Phase;
use crate::driver::{Course, Observer};
use crate::machine::event::{Event, Record, words};

/// Decisions, and what came of them for the world: the rest is how one comes to know it.
pub(crate) fn is_told(event: &Event) -> bool {
    match event {
        Event::PodMarked(_) => false,
        Event::TermStarted(_) | Event::Rebased(_) | Event::RoomSeen(_) => true,
        event => TOLD.contains(&event.kind()),
    }
}

/// Kinds of decisions and outcomes (`machine::event`).
const TOLD: RangeInclusive<u16> = 40..=79;

/// Logs what happens, moves the fence with the lease, and says when the watches show the cluster.
pub(super) struct Log<'a> {
    cluster: &'a KubeCluster,
    published: Published,
    fence: Fence,
    clock: Clock,
    /// Whether it was said.
    watches: bool,
}

impl<'a> Log<'a> {
    /// Objects to being ready until the watches show the cluster: before that a standby could not take over at once.
    pub(super) fn new(cluster: &'a KubeCluster, published: Published, fence: Fence, clock: Clock) -> Self {
        published.object(Some("the watches do not show the cluster yet".to_owned()));
        Self { cluster, published, fence, clock, watches: false }
    }
}

impl Observer for Log<'_> {
    fn phase(&mut self, phase: Phase) {
        if phase == Phase::Leading {
            tracing::info!("the lease is won: this process leads");
        } else {
            tracing::trace!("phase {phase}");
        }
    }

    fn recorded(&mut self, records: &[Record]) {
        for record in records {
            let (event, term) = (record.seq, record.term);
            if is_told(&record.event) {
                tracing::info!(event, term, "{}", words::sentence(record));
            } else {
                tracing::debug!(event, term, "{}", words::sentence(record));
            }
        }
    }

    fn turned(&mut self, controller: &Controller) -> Course {
        self.fence.set(controller.acts_until_ms().map(|until| self.clock.at(Some(until))));
        if !self.watches && self.cluster.is_watched() {
            self.watches = true;
            self.published.object(None);
            tracing::info!("the watches show the cluster");
        }
        Course::Continue
    }
}
