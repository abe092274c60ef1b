//! The numbers, and the state as rows: what an operator sees of a controller that runs.
//!
//! [`Watched`] stands between the driver and its observer. It counts what happens as it happens, and answers the questions
//! of the admin server when the loop comes by. Everything else is read from the controller's state for a scrape: its cost
//! follows the number of gateways, EIPs, pods and allocations, and nobody pays for what nobody asks. The text is made in
//! the server's thread. Nothing here can change what the controller does. What is read from the state — from `natgw_ports`
//! to `natgw_exposure_bound_seconds` — only the leader serves, for a standby knows what was when it led last.
//!
//! | metric | type | labels | meaning |
//! | --- | --- | --- | --- |
//! | `natgw_build_info` | gauge | version | always 1 |
//! | `natgw_leader` | gauge | | 1 while this process leads |
//! | `natgw_term` | gauge | | the current term |
//! | `natgw_lease_renew_age_seconds` | gauge | | since the last acknowledged renewal was sent, while this process leads |
//! | `natgw_settled` | gauge | | 1 while this process leads and has nothing left to do |
//! | `natgw_ports` | gauge | gateway, eip, protocol | ports that the pool gives |
//! | `natgw_ports_free` | gauge | gateway, eip, protocol | of them, ports that a pod could get now |
//! | `natgw_eip_usable` | gauge | gateway, eip | 1 where the EIP is in use, unlocked, and without an entry for all ports |
//! | `natgw_gateway_available` | gauge | gateway | 1 where the NAT gateway is available |
//! | `natgw_table_entries` | gauge | table | entries that are there or may come, of others included |
//! | `natgw_table_limit` | gauge | table | entries that the table takes; missing until it has refused one |
//! | `natgw_table_queue` | gauge | table | pods that wait for room |
//! | `natgw_table_open` | gauge | table | 1 once it was read in this term |
//! | `natgw_pods` | gauge | standing | pods that ask: allocated, waiting, refused, open |
//! | `natgw_pods_waiting` | gauge | reason | pods that wait |
//! | `natgw_pods_refused` | gauge | reason | pods that cannot be served as they ask |
//! | `natgw_other_controller_pods` | gauge | | pods not served because of another controller's PodDNATs |
//! | `natgw_decisions_halted` | gauge | reason | 1 while nothing is decided because of another controller |
//! | `natgw_allocations` | gauge | state | allocations: Ready, or the word that their PodDNAT says |
//! | `natgw_contested_allocations` | gauge | | allocations left alone for a while because somebody undoes what is written of them |
//! | `natgw_intents` | gauge | | what is to be brought about outside and is not known to be so |
//! | `natgw_exposed_allocations` | gauge | | allocations whose entries may send to an address that another pod has now |
//! | `natgw_exposure_bound_seconds` | gauge | | the longest such time since the start, ended ones and those of now: from the decision to let go, or the first sight of the other pod, to confirmed absence |
//! | `natgw_effects_total` | counter | kind | changes outside that were started |
//! | `natgw_effects_in_flight` | gauge | kind | of them, not ended |
//! | `natgw_listings_total` | counter | what | readings that were started |
//! | `natgw_listings_in_flight` | gauge | what | of them, not ended |
//! | `natgw_cloud_calls_total` | counter | action, class | calls to the cloud by how they ended |
//! | `natgw_cloud_call_seconds` | histogram | action, class | how long they took |
//! | `natgw_records_total` | counter | event | records that became durable |
//! | `natgw_rebased_total` | counter | | times that history was found not to be continuous |
//! | `natgw_journal_head` | gauge | | number of the last durable record |
//! | `natgw_journal_bytes` | gauge | | what the journal's directory takes on the disk |
//! | `natgw_journal_snapshot_age_seconds` | gauge | | wall time since the newest snapshot; missing until there is one |
//! | `natgw_journal_snapshots` | gauge | | snapshots from which the records go on |
//! | `natgw_journal_pruned_records` | gauge | | records that were removed since the journal began: a snapshot stands for them |
//! | `natgw_journal_free_bytes` | gauge | | what the journal's disk can still take |
//! | `natgw_journal_floor_bytes` | gauge | | what should be free: below it records are pruned and nothing new is allocated |
//! | `natgw_journal_short` | gauge | | 1 while less than that is free, and nothing new is allocated |
//! | `natgw_journal_keep_failures_total` | counter | | snapshots and looks that failed: the journal is kept as it is then |
//! | `natgw_journal_append_seconds` | histogram | | from handing over a group to its being durable |

mod encode;
mod exposure;
mod rows;
mod scrape;
mod tally;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::oneshot;

use crate::admin::{Ask, Export, Published};
use crate::cloud::meter::Calls;
use crate::controller::lease::Timing;
use crate::controller::step::{Controller, Seen};
use crate::driver::clock::Clock;
use crate::driver::phase::Phase;
use crate::driver::writer::Views;
use crate::driver::{Course, Observer, Watch, WatchError};
use crate::machine::event::Record;

use self::scrape::Scrape;
use self::tally::Tally;

/// Lets `/journal` answer with exports of what these views show.
pub fn serve_journal(published: &Published, views: Views) {
    published.serve_journal(move || {
        let (reply, pending) = oneshot::channel();
        let views = views.clone();
        tokio::spawn(async move {
            if let Some(view) = views.take().await {
                let export: Export = Box::new(move |mut out| Ok(view.export(&mut out)?));
                reply.send(export).ok();
            }
        });
        pending
    });
}

/// Where the numbers come from, beside the controller.
#[derive(Clone, Debug)]
pub struct Sources {
    /// The driver's clock.
    pub clock: Clock,
    /// The lease's durations, as the controller has them.
    pub timing: Timing,
    /// The meter of the cloud's client.
    pub calls: Arc<Calls>,
    /// The journal's directory.
    pub journal: PathBuf,
}

/// An observer that counts, answers, and hands everything on to another one.
pub struct Watched<O> {
    inner: O,
    published: Published,
    sources: Sources,
    tally: Tally,
}

impl<O: Observer> Watched<O> {
    /// Counts and answers around another observer, which alone decides whether to go on.
    pub fn around(inner: O, published: Published, sources: Sources) -> Self {
        Self { inner, published, sources, tally: Tally::default() }
    }

    fn answer(&self, ask: Ask, controller: &Controller) {
        // Whoever asked may have gone.
        match ask {
            Ask::Metrics(reply) => {
                let scrape = Scrape::of(controller, &self.tally, &self.sources);
                let journal = self.sources.journal.clone();
                reply.send(Box::new(move || encode::text(scrape.families(), &journal))).ok();
            }
            Ask::State(cursor, reply) => drop(reply.send(rows::piece(controller, cursor))),
        }
    }
}

impl<O: Observer> Observer for Watched<O> {
    fn phase(&mut self, phase: Phase) {
        self.tally.phase(phase);
        self.inner.phase(phase);
    }

    fn recorded(&mut self, records: &[Record]) {
        self.tally.recorded(records);
        self.inner.recorded(records);
    }

    fn turned(&mut self, controller: &Controller) -> Course {
        self.tally.turned(controller.state());
        self.published.turned(controller.leads(), controller.state().term());
        for ask in self.published.asks() {
            self.answer(ask, controller);
        }
        self.inner.turned(controller)
    }
}

/// Watches that also end their waiting when somebody asks something, so that the loop comes by.
pub struct Woken<W> {
    inner: W,
    published: Published,
}

impl<W: Watch> Woken<W> {
    /// The same watches, woken by questions.
    pub const fn new(inner: W, published: Published) -> Self {
        Self { inner, published }
    }
}

impl<W: Watch> Watch for Woken<W> {
    fn take(&mut self) -> Result<VecDeque<Seen>, WatchError> {
        self.inner.take()
    }

    async fn wait(&mut self) {
        tokio::select! {
            () = self.inner.wait() => {}
            () = self.published.asked() => {}
        }
    }
}
#[cfg(test)]
mod tests;
