//! One lane a forward table: which calls to its entries go next, and how many at once.
//!
//! Creations go in order of allocation, so pod by pod in order of decision; deletions and creations take turns, so that
//! neither starves. How many calls a table takes at once is learned from its answers and remembered (`window`); how many a
//! second the account takes of each action and in all, likewise (`budget`, `account`), and the readings draw from that, too. A table that deletes nothing while an entry is Pending is given creations
//! and deletions by turns (`turns`). A lane that was told to wait waits alone, and where the account has fewer calls to give
//! than the lanes ask for, the lanes take turns.
//!
//! Pure: time is an argument, and nothing here is journaled. A lane never looks at what a call is for; what is Pending it is
//! told.

mod account;
mod budget;
mod turns;
mod window;

use std::collections::{BTreeMap, BTreeSet};

use self::account::{Account, Kind};
use self::turns::Turns;
use self::window::Window;
use crate::machine::identity::{AllocationId, EntryId, Generation, TableId};
use crate::machine::intent::Intent;
use crate::ports::cloud::{FlowControl, Reading};

/// The most calls at once on one table: at 50 ms a call 160 entries a second, above every flow control that was met.
pub const CALLS_MAX: u32 = 8;

/// The first pause after a table said that it is busy; it doubles with each further time.
const PAUSE_FIRST_MS: u64 = 200;

/// The longest such pause.
const PAUSE_LAST_MS: u64 = 10_000;

/// Deletions of an idle lane that are looked at in a step for those that may start.
const CANDIDATES_MAX: usize = 8;

/// The same while calls are under way.
const CANDIDATES_BUSY_MAX: usize = 2;

/// Calls of an action that a reading is likely to make.
pub type Draw = (Reading, u32);

/// All lanes.
#[derive(Clone, Debug, Default)]
pub struct Lanes {
    lanes: BTreeMap<TableId, Lane>,
    account: Account,
    /// The lane that was served last: the others come before it again.
    served: Option<TableId>,
    now_ms: u64,
}

#[derive(Clone, Debug)]
struct Lane {
    creations: BTreeSet<(AllocationId, Generation)>,
    deletions: BTreeSet<EntryId>,
    creating: u32,
    deleting: u32,
    window: Window,
    /// The deletion that was sent last: the others come before it again.
    deleted: Option<EntryId>,
    deleted_last: bool,
    pauses: u32,
    paused_until_ms: u64,
    not_before_ms: u64,
    started_ms: u64,
    turns: Turns,
    /// The table has refused a creation because it is full, and other creations are under way: none follows them.
    full: bool,
}

/// What the end of a call says of the table and of the account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// It was carried out, or refused for a reason of its own.
    Well,
    /// The table is busy, or nothing was answered.
    Busy,
    /// An earlier call with the same token is still under way.
    Running,
    /// Flow control refused it: what it limits, and the milliseconds to wait where it said them.
    Throttled(FlowControl, Option<u64>),
    /// It was a deletion, and an entry of the table is Pending.
    Pending,
}

impl Lanes {
    /// Puts an intent into its lane. Others are not for lanes and come back.
    pub fn push(&mut self, intent: Intent) -> Result<(), Intent> {
        match intent {
            Intent::Bind { table, allocation, generation } => {
                self.lanes.entry(table).or_default().creations.insert((allocation, generation));
                Ok(())
            }
            Intent::Unbind { table, entry } => {
                self.lanes.entry(table).or_default().deletions.insert(entry);
                Ok(())
            }
            other => Err(other),
        }
    }

    /// The calls that may start now: a lane comes as often as it may start one more, each time with other candidates, of
    /// which the first that can start is to. A candidate stays in its lane until it is taken with [`Lanes::start`].
    pub fn next(&mut self, now_ms: u64) -> std::vec::IntoIter<(TableId, Vec<Intent>)> {
        self.now_ms = self.now_ms.max(now_ms);
        let creations = self.account.available(Kind::Creation, now_ms);
        let deletions = self.account.available(Kind::Deletion, now_ms);
        let calls = usize::try_from(self.account.all_available(now_ms)).unwrap_or(usize::MAX);
        for lane in self.lanes.values_mut() {
            lane.take_turns(now_ms);
        }
        let served = self.served.as_ref();
        let after = self.lanes.iter().filter(|(table, _)| served.is_none_or(|served| *table > served));
        let before = self.lanes.iter().filter(|(table, _)| served.is_some_and(|served| *table <= served));
        let mut offers: Vec<_> = after
            .chain(before)
            .map(|(table, lane)| (table, lane.offers(table, now_ms, creations > 0, deletions > 0).into_iter()))
            .collect();
        // One call of each lane before the second of any.
        let mut next = Vec::new();
        loop {
            let round = next.len();
            for (table, offers) in &mut offers {
                next.extend(offers.next().map(|candidates| ((*table).clone(), candidates)));
            }
            if next.len() == round || next.len() >= calls {
                break;
            }
        }
        next.truncate(calls);
        next.into_iter()
    }

    /// Whether the account takes one more call of that kind now.
    pub fn has_budget(&mut self, now_ms: u64, intent: &Intent) -> bool {
        self.account.may(kind_of(intent), now_ms)
    }

    /// Takes a call out of its lane; it is under way until [`Lanes::ended`].
    pub fn start(&mut self, table: &TableId, intent: &Intent) {
        let Some(lane) = self.lanes.get_mut(table) else { return };
        lane.remove(intent);
        lane.started_ms = self.now_ms;
        lane.deleted_last = matches!(intent, Intent::Unbind { .. });
        self.account.take(kind_of(intent), 1);
        if let Intent::Unbind { entry, .. } = intent {
            lane.deleted = Some(entry.clone());
            lane.turns.start_deletion();
            lane.deleting = lane.deleting.saturating_add(1);
        } else {
            lane.creating = lane.creating.saturating_add(1);
        }
        self.served = Some(table.clone());
    }

    /// Takes an intent that is no longer wanted out of its lane.
    pub fn forget(&mut self, table: &TableId, intent: &Intent) {
        if let Some(lane) = self.lanes.get_mut(table) {
            lane.remove(intent);
        }
    }

    /// A call of a lane ended.
    pub fn ended(&mut self, table: &TableId, intent: &Intent, now_ms: u64, said: Said) {
        let Some(lane) = self.lanes.get_mut(table) else { return };
        let deletion = matches!(intent, Intent::Unbind { .. });
        let count = if deletion { &mut lane.deleting } else { &mut lane.creating };
        *count = count.saturating_sub(1);
        match said {
            Said::Well => {
                let waited = (lane.pauses > 0).then_some(lane.started_ms);
                lane.pauses = 0;
                lane.window.well(now_ms, waited);
                if deletion {
                    lane.turns.deleted();
                }
                self.account.well(kind_of(intent), 1, 1);
            }
            // The table takes calls as well as before; what waits is the kind.
            Said::Pending => lane.turns.blocked(now_ms),
            // Fewer calls at once is all that it asks for, as long as there were several.
            Said::Busy if lane.window.busy(lane.under_way()) => {}
            Said::Busy => lane.pause(now_ms, 0),
            Said::Running => lane.pause(now_ms, 0),
            Said::Throttled(flow, hint) => {
                lane.pause(now_ms, hint.unwrap_or(0));
                self.account.throttled(kind_of(intent), flow, now_ms, hint);
            }
        }
    }

    /// Takes a reading out of what the account takes, if it takes one more of its action now: of that, the calls that the
    /// reading is likely to make. Says whether it may start, and then whether it was the last for now. One that asks
    /// nothing of the cloud always may.
    pub fn read(&mut self, now_ms: u64, draw: Option<Draw>) -> Option<bool> {
        let Some((reading, calls)) = draw else { return Some(false) };
        let kind = Kind::Reading(reading);
        self.account.may(kind, now_ms).then(|| self.account.take(kind, calls))
    }

    /// When a reading that is due at that moment may start at the earliest.
    #[must_use]
    pub fn reads_ms(&self, due_ms: u64, draw: Option<Draw>) -> u64 {
        draw.map_or(due_ms, |(reading, _)| self.account.open_ms(Kind::Reading(reading), due_ms))
    }

    /// Whether readings come before changes: where the account takes fewer calls than are wanted, both take turns.
    #[must_use]
    pub const fn reads_first(&self) -> bool {
        self.account.reads_first()
    }

    /// A reading ended well: the calls that it made, and those that had been drawn for it.
    pub fn was_read(&mut self, reading: Reading, made: u32, drawn: u32) {
        self.account.well(Kind::Reading(reading), made, drawn);
    }

    /// A call of a reading was refused for flow control. What limits its action limits no other.
    pub fn read_throttled(&mut self, now_ms: u64, reading: Reading, flow: FlowControl, hint_ms: Option<u64>) {
        self.account.throttled(Kind::Reading(reading), flow, now_ms, hint_ms);
    }

    /// The tables whose Pending entries matter: they are to be told with [`Lanes::pending`].
    #[must_use]
    pub fn minding(&self) -> Vec<TableId> {
        self.lanes.iter().filter(|(_, lane)| lane.turns.minds()).map(|(table, _)| table.clone()).collect()
    }

    /// How many entries of a table are Pending, as last seen or made.
    pub fn pending(&mut self, table: &TableId, entries: usize) {
        if let Some(lane) = self.lanes.get_mut(table) {
            lane.turns.pending(entries);
        }
    }

    /// Whether a table is full, as one creation of several that are under way says: no other starts meanwhile.
    pub fn full(&mut self, table: &TableId, full: bool) {
        if let Some(lane) = self.lanes.get_mut(table) {
            lane.full = full;
        }
    }

    /// Whether creations are under way on a table.
    #[must_use]
    pub fn is_creating(&self, table: &TableId) -> bool {
        self.lanes.get(table).is_some_and(|lane| lane.creating > 0)
    }

    /// Whether more creations follow on a table, so that what is made now is looked for together with what is made next.
    #[must_use]
    pub fn has_creations(&self, table: &TableId) -> bool {
        self.lanes.get(table).is_some_and(|lane| !lane.creations.is_empty() && lane.turns.may_create())
    }

    /// Whether any call is under way on a table.
    #[must_use]
    pub fn is_calling(&self, table: &TableId) -> bool {
        self.lanes.get(table).is_some_and(|lane| lane.under_way() > 0)
    }

    /// How many calls a table is given at once, as learned so far.
    #[must_use]
    pub fn calls_at_once(&self, table: &TableId) -> u32 {
        self.lanes.get(table).map_or(1, |lane| lane.window.calls())
    }

    /// When the next lane that was told to wait, and has something to do, may go on. One that may go on already waits for
    /// something whose end is an input of its own: a write to the same PodDNAT, a renewal of the lease.
    #[must_use]
    pub fn due_ms(&self, now_ms: u64) -> Option<u64> {
        let at = |lane: &Lane| {
            let turn = lane.turns.due_ms(!lane.creations.is_empty(), !lane.deletions.is_empty());
            let opens = (lane.has_room() && lane.has_work(now_ms)).then(|| {
                let mut open_ms = lane.open_ms().max(self.account.all_open_ms(now_ms));
                if !lane.may_delete(now_ms) || lane.deletions.is_empty() {
                    open_ms = open_ms.max(self.account.open_ms(Kind::Creation, now_ms));
                } else if !lane.may_create() || lane.creations.is_empty() {
                    open_ms = open_ms.max(self.account.open_ms(Kind::Deletion, now_ms));
                }
                open_ms
            });
            [turn, opens].into_iter().flatten().filter(|at_ms| *at_ms > now_ms).min()
        };
        self.lanes.values().filter_map(at).min()
    }

    /// Whether no lane has anything to do.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.lanes.values().all(|lane| lane.under_way() == 0 && lane.creations.is_empty() && lane.deletions.is_empty())
    }
}

impl Default for Lane {
    fn default() -> Self {
        Self::of(Window::up_to(CALLS_MAX))
    }
}

impl Lane {
    const fn of(window: Window) -> Self {
        Self {
            creations: BTreeSet::new(),
            deletions: BTreeSet::new(),
            creating: 0,
            deleting: 0,
            window,
            deleted: None,
            deleted_last: false,
            pauses: 0,
            paused_until_ms: 0,
            not_before_ms: 0,
            started_ms: 0,
            turns: Turns::new(),
            full: false,
        }
    }

    const fn under_way(&self) -> u32 {
        self.creating.saturating_add(self.deleting)
    }

    const fn has_room(&self) -> bool {
        self.under_way() < self.window.calls()
    }

    fn take_turns(&mut self, now_ms: u64) {
        self.turns.go_on(now_ms, self.creating, !self.creations.is_empty(), !self.deletions.is_empty());
    }

    fn pause(&mut self, now_ms: u64, least_ms: u64) {
        self.not_before_ms = self.not_before_ms.max(now_ms.saturating_add(least_ms));
        // Nothing starts while a lane waits: what ends meanwhile is of the round that made it wait.
        if now_ms >= self.paused_until_ms {
            let pause = PAUSE_FIRST_MS.saturating_mul(1 << self.pauses.min(10)).min(PAUSE_LAST_MS);
            self.pauses = self.pauses.saturating_add(1);
            self.paused_until_ms = now_ms.saturating_add(pause);
            self.not_before_ms = self.not_before_ms.max(self.paused_until_ms);
        }
    }

    const fn may_create(&self) -> bool {
        !self.full && self.turns.may_create()
    }

    const fn may_delete(&self, now_ms: u64) -> bool {
        self.turns.deletions(now_ms, self.deleting) > 0
    }

    fn has_work(&self, now_ms: u64) -> bool {
        (self.may_create() && !self.creations.is_empty()) || (self.may_delete(now_ms) && !self.deletions.is_empty())
    }

    fn open_ms(&self) -> u64 {
        self.not_before_ms.max(self.window.open_ms())
    }

    /// For each call that may start, the candidates of the kind whose turn it is, then of the other where there is none of
    /// it. Several deletions, because one may have to wait for a write to its PodDNAT while the next need not; for the same
    /// reason the last call has candidates of both kinds.
    fn offers(&self, table: &TableId, now_ms: u64, may_create: bool, may_delete: bool) -> Vec<Vec<Intent>> {
        if self.open_ms() > now_ms {
            return Vec::new();
        }
        let creation = |(allocation, generation): &(AllocationId, Generation)| Intent::Bind {
            table: table.clone(),
            allocation: *allocation,
            generation: *generation,
        };
        let deletion = |entry: &EntryId| Intent::Unbind { table: table.clone(), entry: entry.clone() };
        let room = self.window.calls().saturating_sub(self.under_way());
        // What is looked at is paid for at every step, so a lane that is at work looks at little: each end is a step.
        let deletions_most = if self.under_way() == 0 { CANDIDATES_MAX } else { CANDIDATES_BUSY_MAX };
        let last = self.deleted.as_ref();
        let rest = self.deletions.iter().filter(|entry| last.is_none_or(|last| *entry > last));
        let again = self.deletions.iter().filter(|entry| last.is_some_and(|last| *entry <= last));
        let may_create = may_create && self.may_create();
        let mut creations = self.creations.iter().filter(|_| may_create).map(creation);
        let most = self.turns.deletions(now_ms, self.deleting);
        let deletions_most = if most == 1 { 1 } else { deletions_most };
        let may_delete = may_delete && most > 0;
        let mut deletions = rest.chain(again).filter(|_| may_delete).map(deletion).take(deletions_most);
        let mut deletes = !self.deleted_last;
        let each = deletions_most.checked_div(usize::try_from(room).unwrap_or(1)).unwrap_or(0).max(1);
        let mut offers = Vec::new();
        for left in (0..room).rev() {
            let mut offer: Vec<Intent> = Vec::new();
            for kind in [deletes, !deletes] {
                if !offer.is_empty() && left > 0 {
                    break;
                }
                if kind {
                    offer.extend(deletions.by_ref().take(each));
                } else {
                    offer.extend(creations.next());
                }
            }
            deletes = !deletes;
            if offer.is_empty() {
                break;
            }
            offers.push(offer);
        }
        offers
    }

    fn remove(&mut self, intent: &Intent) {
        match intent {
            Intent::Bind { allocation, generation, .. } => {
                self.creations.remove(&(*allocation, *generation));
            }
            Intent::Unbind { entry, .. } => {
                self.deletions.remove(entry);
            }
            Intent::Locate { .. }
            | Intent::WriteClaim { .. }
            | Intent::Forgo { .. }
            | Intent::Observe { .. }
            | Intent::Publish { .. }
            | Intent::Withdraw { .. }
            | Intent::ReleaseClaim { .. }
            | Intent::DropClaim { .. }
            | Intent::MarkPod { .. } => {}
        }
    }
}

const fn kind_of(intent: &Intent) -> Kind {
    if matches!(intent, Intent::Unbind { .. }) { Kind::Deletion } else { Kind::Creation }
}

#[cfg(test)]
mod tests;
