//! What must be read before anything may be decided, and what is read again later.
//!
//! A term reads all pods and all claims, surveys the gateways, and lists each table that is configured or claimed. A table
//! that cannot be read stays closed; the others proceed (design.md §6).

use std::collections::{BTreeMap, BTreeSet};

use crate::controller::lanes::{Draw, Lanes};
use crate::controller::pacing::{Look, Need};
use crate::controller::relist::Suspicion;
use crate::controller::survey::{Gateways, Part, Routes, Survey};
use crate::machine::identity::{GatewayId, TableId, VSwitchId};
use crate::machine::intent::Intent;
use crate::machine::state::State;
use crate::ports::cloud::Reading;
use crate::ports::effect::Listing;

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
    survey: Survey,
    survey_due_ms: u64,
    /// Machine time at which the last survey ended.
    surveyed_ms: u64,
    surveyed: bool,
    looks: BTreeMap<TableId, Look>,
    retries: BTreeMap<TableId, u64>,
    /// Listings in a row of which pages moved while something waits for a complete one.
    moved: BTreeMap<TableId, u32>,
    reading: BTreeSet<ListKey>,
    /// The calls that each reading made the last time, as far as they were more than the fewest possible.
    made: BTreeMap<ListKey, Draw>,
    /// The reading after which the account took no more: those that come after it are next.
    served: Option<ListKey>,
    opened: bool,
}

/// What is being read, one of each at a time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ListKey {
    /// Pods and claims.
    Cluster,
    /// A part of what stands in the VPC.
    Survey(Part),
    /// Interfaces of addresses.
    Interfaces,
    /// A table.
    Table(TableId),
}

impl Barrier {
    /// What is to be read now and is not being read, in the order in which it may start. `interfaces_ms` is when addresses
    /// are due.
    #[must_use]
    pub fn due(&self, state: &State, lanes: &Lanes, now_ms: u64, interfaces_ms: Option<u64>) -> Vec<ListKey> {
        let due = self.times(state, lanes, interfaces_ms).filter(|(_, at_ms)| *at_ms <= now_ms).map(|(key, _)| key);
        let mut due: Vec<ListKey> = due.collect();
        due.sort_by(|one, other| {
            let before = |key: &ListKey| self.served.as_ref().is_some_and(|served| key <= served);
            before(one).cmp(&before(other)).then_with(|| one.cmp(other))
        });
        due
    }

    /// A reading begins; it counts as being read until [`Barrier::read`] or [`Barrier::failed`]. `last` says that the account
    /// takes no more for now.
    pub fn begin(&mut self, key: ListKey, last: bool) {
        if last {
            self.served = Some(key.clone());
        }
        self.reading.insert(key);
    }

    /// A part of the survey begins; it counts as being read until [`Barrier::part_read`] or [`Barrier::part_failed`]. The
    /// vSwitches are those whose routes are to be told.
    pub fn begin_part(
        &mut self,
        state: &State,
        (part, last): (Part, bool),
        now_ms: u64,
        vswitches: impl FnOnce() -> Vec<VSwitchId>,
    ) {
        self.survey.begin(&part, now_ms, self.survey_due_ms(state) <= now_ms, vswitches);
        if last {
            self.served = Some(ListKey::Survey(part));
        }
    }

    /// When the next reading is due.
    #[must_use]
    pub fn due_ms(&self, state: &State, lanes: &Lanes, interfaces_ms: Option<u64>) -> Option<u64> {
        self.times(state, lanes, interfaces_ms).map(|(key, at_ms)| lanes.reads_ms(at_ms, self.draw(&key))).min()
    }

    /// What is read and is not being read, each with the time at which it is due.
    fn times(&self, state: &State, lanes: &Lanes, interfaces_ms: Option<u64>) -> impl Iterator<Item = (ListKey, u64)> {
        let tables = state.tables_needed().into_iter().filter(|_| self.surveyed);
        let tables = tables.map(|table| {
            let due_ms = self.table_due_ms(state, lanes, &table);
            (ListKey::Table(table), due_ms)
        });
        let survey = self.survey.parts(self.survey_due_ms(state));
        let survey = survey.into_iter().map(|(part, due_ms)| (ListKey::Survey(part), due_ms));
        let first = std::iter::once((ListKey::Cluster, self.cluster_due_ms)).chain(survey);
        let times = first.chain(interfaces_ms.map(|due_ms| (ListKey::Interfaces, due_ms))).chain(tables);
        times.filter(|(key, _)| !self.reading.contains(key))
    }

    /// The calls to the cloud that a reading is likely to make: as many as the last time. Of the cluster's there are none.
    #[must_use]
    pub fn draw(&self, key: &ListKey) -> Option<Draw> {
        let reading = match key {
            ListKey::Cluster => return None,
            ListKey::Survey(Part::Gateways) => Reading::Gateways,
            ListKey::Survey(Part::Eips(_)) => Reading::Eips,
            ListKey::Survey(Part::RouteTables) => Reading::RouteTables,
            ListKey::Survey(Part::Routes(_)) => Reading::Routes,
            ListKey::Interfaces => Reading::Interfaces,
            ListKey::Table(_) => Reading::Entries,
        };
        Some(self.made.get(key).copied().unwrap_or((reading, 1)))
    }

    /// A reading ended well and made so many calls. Addresses are others each time, so of these nothing is kept.
    pub fn made(&mut self, key: &ListKey, made: Draw) {
        if *key == ListKey::Interfaces || made.1 == 1 {
            self.made.remove(key);
        } else {
            self.made.insert(key.clone(), made);
        }
    }

    /// A part of the survey was read: `configured` are the gateways whose EIPs count. Says whether the answer was one to
    /// that part.
    pub fn part_read(&mut self, part: &Part, listing: Listing, configured: &[GatewayId]) -> bool {
        self.survey.read(part, listing, configured)
    }

    /// A part of the survey failed and is read again, where flow control (`paced`) said a time not before that.
    pub fn part_failed(&mut self, part: &Part, now_ms: u64, after_ms: Option<u64>, paced: bool) {
        self.survey.failed(part, again_ms(now_ms, after_ms), paced);
    }

    /// What was surveyed, once all parts are there.
    pub fn take_survey(&mut self) -> Option<(Option<Gateways>, Routes)> {
        self.survey.take()
    }

    /// A whole survey was taken over.
    pub fn surveyed(&mut self, state: &State, now_ms: u64) {
        (self.surveyed, self.surveyed_ms) = (true, now_ms);
        self.survey_due_ms = now_ms.saturating_add(resync_ms(state));
        self.open(state);
    }

    /// A reading ended well.
    pub fn read(&mut self, state: &State, key: ListKey, now_ms: u64) {
        let resync = resync_ms(state);
        match &key {
            ListKey::Cluster => self.cluster_due_ms = now_ms.saturating_add(resync),
            ListKey::Survey(_) => {}
            ListKey::Interfaces => {}
            ListKey::Table(table) => {
                self.retries.remove(table);
                self.moved.remove(table);
            }
        }
        self.reading.remove(&key);
        self.open(state);
    }

    fn open(&mut self, state: &State) {
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
        let due = again_ms(now_ms, after_ms);
        match &key {
            ListKey::Cluster => self.cluster_due_ms = due,
            ListKey::Survey(_) | ListKey::Interfaces => {}
            ListKey::Table(table) => {
                self.moved.remove(table);
                self.retries.insert(table.clone(), due);
            }
        }
        self.reading.remove(&key);
    }

    /// Route tables are read as soon as possible: a vSwitch was met whose route is not known.
    pub const fn ask_for_routes(&mut self) {
        self.survey.ask_for_routes();
    }

    /// Everything is surveyed as soon as possible.
    pub const fn survey_soon(&mut self) {
        self.survey_due_ms = 0;
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

/// When something that failed is tried again.
fn again_ms(now_ms: u64, after_ms: Option<u64>) -> u64 {
    now_ms.saturating_add(after_ms.unwrap_or(0).clamp(RETRY_MS, RETRY_LAST_MS))
}

fn resync_ms(state: &State) -> u64 {
    state.settings().map_or(RESYNC_MS, |settings| settings.resync_ms())
}

/// What earlier listings of each table left in doubt.
pub type Suspicions = BTreeMap<TableId, Suspicion>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::cloud::FlowControl;

    /// A step: what is due begins as far as the account takes it, and fails at once.
    fn step(barrier: &mut Barrier, lanes: &mut Lanes, now_ms: u64) -> Vec<ListKey> {
        let state = State::default();
        let mut began = Vec::new();
        for key in barrier.due(&state, lanes, now_ms, Some(0)) {
            let Some(last) = lanes.read(now_ms, barrier.draw(&key)) else { continue };
            match key.clone() {
                ListKey::Survey(part) => barrier.begin_part(&state, (part, last), now_ms, Vec::new),
                key => barrier.begin(key, last),
            }
            began.push(key);
        }
        for key in &began {
            match key {
                ListKey::Survey(part) => barrier.part_failed(part, now_ms, None, false),
                key => barrier.failed(key.clone(), now_ms, None),
            }
        }
        began
    }

    #[test]
    fn where_the_account_takes_little_no_reading_starves_another() {
        let (mut barrier, mut lanes) = (Barrier::default(), Lanes::default());
        for moment in 0..12 {
            lanes.read_throttled(moment * 60_000, Reading::Entries, FlowControl::Account, Some(0));
        }
        barrier.made(&ListKey::Survey(Part::Gateways), (Reading::Gateways, 3));
        let mut served: BTreeMap<ListKey, u32> = BTreeMap::new();
        for now_ms in (720_000..1_720_000).step_by(50) {
            for key in step(&mut barrier, &mut lanes, now_ms) {
                *served.entry(key).or_default() += 1;
            }
        }
        // A call a second: three for the gateways, one for the route tables, one for interfaces, which are always due.
        let parts = [Part::Gateways, Part::RouteTables].map(ListKey::Survey);
        let counts = [&parts[0], &parts[1], &ListKey::Interfaces].map(|key| served[key]);
        assert!(counts.iter().all(|count| (195..=205).contains(count)), "{served:?}");
        assert!(served[&ListKey::Cluster] >= 900, "it asks nothing of the cloud: {served:?}");
    }

    #[test]
    fn the_calls_of_a_reading_are_taken_from_the_last_one_of_the_same() {
        let mut barrier = Barrier::default();
        let table = ListKey::Table(TableId::from("t"));
        assert_eq!(barrier.draw(&table), Some((Reading::Entries, 1)));
        barrier.made(&table, (Reading::Entries, 7));
        assert_eq!(barrier.draw(&table), Some((Reading::Entries, 7)));
        assert_eq!(barrier.draw(&ListKey::Table(TableId::from("u"))), Some((Reading::Entries, 1)));
        barrier.made(&ListKey::Interfaces, (Reading::Interfaces, 3));
        assert_eq!(barrier.draw(&ListKey::Interfaces), Some((Reading::Interfaces, 1)), "others each time");
        assert_eq!(barrier.draw(&ListKey::Cluster), None);
    }
}
