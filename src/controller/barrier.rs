//! What must be read before anything may be decided, and what is read again later.
//!
//! A term reads all pods and all claims, surveys the gateways, and lists each table that is configured or claimed. A table
//! that cannot be read stays closed; the others proceed (design.md §6).

use std::collections::{BTreeMap, BTreeSet};

use crate::controller::lanes::Lanes;
use crate::controller::pacing::{Look, Need};
use crate::controller::relist::Suspicion;
use crate::machine::identity::TableId;
use crate::machine::intent::Intent;
use crate::machine::state::State;
use crate::ports::effect::ListRequest;

/// The pause before something that could not be read is read again.
const RETRY_MS: u64 = 1_000;

/// The longest such pause that flow control is believed.
const RETRY_LAST_MS: u64 = 60_000;

/// The default resync, while there are no settings.
const RESYNC_MS: u64 = 300_000;

/// How often in a row a table is kept quiet for a listing: if its pages move nevertheless, others move them.
const QUIET_MAX: u32 = 3;

/// What has been read and when it is due again, in machine time.
#[derive(Clone, Debug, Default)]
pub struct Barrier {
    cluster_due_ms: u64,
    survey_due_ms: u64,
    /// Machine time at which the last survey ended.
    surveyed_ms: u64,
    surveyed: bool,
    looks: BTreeMap<TableId, Look>,
    retries: BTreeMap<TableId, u64>,
    /// Listings in a row of which pages moved while something waits for a complete one.
    moved: BTreeMap<TableId, u32>,
    reading: BTreeSet<ListKey>,
    opened: bool,
    /// A survey was asked for while one was under way.
    survey_again: bool,
}

/// What is being read, one of each at a time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ListKey {
    /// Pods and claims.
    Cluster,
    /// Gateways and routes.
    Survey,
    /// A table.
    Table(TableId),
}

impl Barrier {
    /// What is to be read now. It counts as being read until [`Barrier::read`] or [`Barrier::failed`].
    pub fn due(
        &mut self,
        state: &State,
        lanes: &mut Lanes,
        now_ms: u64,
        request_survey: impl FnOnce() -> ListRequest,
    ) -> Vec<ListRequest> {
        let mut due = Vec::new();
        if self.cluster_due_ms <= now_ms && self.reading.insert(ListKey::Cluster) {
            due.push(ListRequest::Cluster);
        }
        if self.survey_due_ms(state) <= now_ms && self.reading.insert(ListKey::Survey) {
            due.push(request_survey());
        }
        if self.surveyed {
            for table in state.tables_needed() {
                let key = ListKey::Table(table.clone());
                if self.table_due_ms(state, lanes, &table) <= now_ms
                    && !self.reading.contains(&key)
                    && lanes.list(now_ms)
                {
                    self.reading.insert(key);
                    due.push(ListRequest::Table(table));
                }
            }
        }
        due
    }

    /// When the next reading is due.
    #[must_use]
    pub fn due_ms(&self, state: &State, lanes: &Lanes) -> Option<u64> {
        let free = |key: &ListKey, at: u64| (!self.reading.contains(key)).then_some(at);
        let tables = state.tables_needed().into_iter().filter(|_| self.surveyed);
        let tables = tables.filter_map(|table| {
            let due_ms = self.table_due_ms(state, lanes, &table);
            free(&ListKey::Table(table), due_ms).map(|due_ms| lanes.lists_ms(due_ms))
        });
        let first = [free(&ListKey::Cluster, self.cluster_due_ms), free(&ListKey::Survey, self.survey_due_ms(state))];
        first.into_iter().flatten().chain(tables).min()
    }

    /// A reading ended well.
    pub fn read(&mut self, state: &State, key: ListKey, now_ms: u64) {
        let resync = resync_ms(state);
        match &key {
            ListKey::Cluster => self.cluster_due_ms = now_ms.saturating_add(resync),
            ListKey::Survey => {
                (self.surveyed, self.surveyed_ms) = (true, now_ms);
                let again = std::mem::take(&mut self.survey_again);
                self.survey_due_ms = if again { 0 } else { now_ms.saturating_add(resync) };
            }
            ListKey::Table(table) => {
                self.retries.remove(table);
                self.moved.remove(table);
            }
        }
        self.reading.remove(&key);
        self.opened =
            self.surveyed && state.is_cluster_read() && state.tables_needed().iter().all(|table| state.is_open(table));
    }

    /// A listing of a table ended that showed so many entries and had begun after that event.
    pub fn looked(&mut self, table: &TableId, now_ms: u64, began_seq: u64, entries: usize) {
        self.looks.entry(table.clone()).or_default().ended(now_ms, began_seq, entries);
    }

    /// The pages of a table moved while it was listed: what was shown is there, and nothing else follows.
    pub fn moved(&mut self, state: &State, table: &TableId, now_ms: u64) {
        let moved = self.moved.entry(table.clone()).or_default();
        *moved = if state.needs_whole(table) { moved.saturating_add(1) } else { 0 };
        if *moved > QUIET_MAX {
            *moved = 0;
            self.retries.insert(table.clone(), now_ms.saturating_add(RETRY_MS));
        } else {
            self.retries.remove(table);
        }
        self.reading.remove(&ListKey::Table(table.clone()));
    }

    /// Whether nothing of ours may change a table until it has been listed: its pages moved, and something waits for a
    /// complete listing.
    #[must_use]
    pub fn wants_quiet(&self, state: &State, table: &TableId) -> bool {
        self.moved.get(table).is_some_and(|moved| *moved > 0) && state.needs_whole(table)
    }

    /// A reading failed: nothing is concluded, and it is tried again, where flow control said a time not before that.
    pub fn failed(&mut self, key: ListKey, now_ms: u64, after_ms: Option<u64>) {
        let due = now_ms.saturating_add(after_ms.unwrap_or(0).clamp(RETRY_MS, RETRY_LAST_MS));
        match &key {
            ListKey::Cluster => self.cluster_due_ms = due,
            ListKey::Survey => self.survey_due_ms = due,
            ListKey::Table(table) => {
                self.moved.remove(table);
                self.retries.insert(table.clone(), due);
            }
        }
        self.reading.remove(&key);
    }

    /// Gateways and routes are read as soon as possible: a vSwitch was met whose route is not known.
    pub fn survey_soon(&mut self) {
        self.survey_due_ms = 0;
        self.survey_again = self.reading.contains(&ListKey::Survey);
    }

    /// A table was written to: the next listing is soon worth while.
    pub fn written(&mut self, table: &TableId, now_ms: u64) {
        self.looks.entry(table.clone()).or_default().written(now_ms);
    }

    /// Everything that must be read in this term has been.
    #[must_use]
    pub const fn is_passed(&self) -> bool {
        self.opened
    }

    /// A survey is due earlier where it would confirm something; one that did not is not repeated for that.
    fn survey_due_ms(&self, state: &State) -> u64 {
        let confirms = state.survey_due_ms().filter(|due| self.surveyed && *due > self.surveyed_ms);
        confirms.map_or(self.survey_due_ms, |due| due.min(self.survey_due_ms))
    }

    fn table_due_ms(&self, state: &State, lanes: &Lanes, table: &TableId) -> u64 {
        if let Some(due) = self.retries.get(table) {
            return *due;
        }
        if self.wants_quiet(state, table) {
            // The end of each call is an input of its own.
            return if lanes.is_calling(table) { u64::MAX } else { 0 };
        }
        let unclear = state.agenda().rests_on(&Intent::Observe { table: table.clone() }).is_some();
        let need = match unclear {
            false => Need::Nothing,
            true if lanes.has_creations(table) && !state.needs_whole(table) => Need::Progress,
            true => Need::Soon,
        };
        let look = self.looks.get(table).filter(|_| state.is_open(table));
        look.map_or(0, |look| look.due_ms(need, state.awaited_at(table), state.watch_until_ms(table), resync_ms(state)))
    }
}

fn resync_ms(state: &State) -> u64 {
    state.settings().map_or(RESYNC_MS, |settings| settings.resync_ms())
}

/// What earlier listings of each table left in doubt.
pub type Suspicions = BTreeMap<TableId, Suspicion>;
