//! Whose turn it is on a table that deletes nothing while one of its entries is Pending.
//!
//! Each creation makes an entry Pending, so deletions would wait for as long as creations come. Once the table has refused
//! a deletion for that, both take turns: creations go on for a while, then none starts until nothing is Pending, then the
//! deletions that wait go, then creations again. An entry that stays Pending holds creations only for a moment, each time
//! more rarely.

/// How long creations go on while deletions wait, and deletions while creations wait.
const TURN_MS: u64 = 500;

/// How long creations are held for entries to come into effect: longer than they are Pending as a rule.
const HOLD_MS: u64 = 2_000;

/// The longest turn of creations where entries stay Pending.
const TURN_LAST_MS: u64 = 60_000;

/// The first pause of deletions that are refused though nothing of ours is Pending; it doubles with each.
const PAUSE_FIRST_MS: u64 = 200;

/// The longest such pause.
const PAUSE_LAST_MS: u64 = 10_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Creations,
    /// Nothing starts until nothing is Pending.
    Draining,
    Deletions,
}

/// The turns of one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Turns {
    /// The table has said that it deletes nothing while an entry is Pending.
    minds: bool,
    /// Entries that are Pending, as last seen or made.
    pending: usize,
    phase: Phase,
    since_ms: u64,
    /// Holds in a row that ended before nothing was Pending.
    fruitless: u32,
    /// One deletion may try nevertheless: what is known of a Pending entry may be old.
    tries: bool,
    /// Refusals of deletions in a row.
    refusals: u32,
    again_ms: u64,
}

impl Turns {
    /// Those of a table that does not mind.
    pub(super) const fn new() -> Self {
        Self {
            minds: false,
            pending: 0,
            phase: Phase::Creations,
            since_ms: 0,
            fruitless: 0,
            tries: false,
            refusals: 0,
            again_ms: 0,
        }
    }

    /// Whether it matters how many entries are Pending.
    pub(super) const fn minds(&self) -> bool {
        self.minds
    }

    /// A deletion was refused because an entry is Pending.
    pub(super) fn blocked(&mut self, now_ms: u64) {
        let pause = PAUSE_FIRST_MS.saturating_mul(1 << self.refusals.min(10)).min(PAUSE_LAST_MS);
        self.refusals = self.refusals.saturating_add(1);
        self.again_ms = now_ms.saturating_add(pause);
        if !std::mem::replace(&mut self.minds, true) {
            (self.phase, self.since_ms) = (Phase::Creations, now_ms);
        }
    }

    /// A deletion was carried out.
    pub(super) const fn deleted(&mut self) {
        (self.refusals, self.again_ms, self.fruitless) = (0, 0, 0);
    }

    /// So many entries are Pending.
    pub(super) const fn pending(&mut self, entries: usize) {
        if entries == 0 && self.pending > 0 {
            // What the refusals were about is over.
            self.again_ms = 0;
        }
        self.pending = entries;
    }

    /// Time passed, or something came or went: `creating` calls are under way, and creations and deletions wait.
    pub(super) fn go_on(&mut self, now_ms: u64, creating: u32, creations: bool, deletions: bool) {
        if !self.minds {
            return;
        }
        let clear = self.pending == 0 && creating == 0;
        let over = now_ms >= self.since_ms.saturating_add(self.turn_ms());
        let next = match self.phase {
            _ if !deletions => Phase::Creations,
            Phase::Creations if clear && !creations => Phase::Deletions,
            Phase::Creations if over && clear => Phase::Deletions,
            Phase::Creations if over || !creations => Phase::Draining,
            Phase::Draining if clear => Phase::Deletions,
            Phase::Draining if over => {
                self.fruitless = self.fruitless.saturating_add(1);
                self.tries = true;
                Phase::Creations
            }
            Phase::Deletions if over && creations => Phase::Creations,
            Phase::Deletions if !clear => Phase::Creations,
            phase @ (Phase::Creations | Phase::Draining | Phase::Deletions) => phase,
        };
        // The turn of creations begins to count when a deletion waits for it to end.
        if next != self.phase || !deletions {
            (self.phase, self.since_ms) = (next, now_ms);
        }
    }

    /// Whether creations may start.
    pub(super) const fn may_create(&self) -> bool {
        !self.minds || matches!(self.phase, Phase::Creations)
    }

    /// Whether deletions may start, and how many at most.
    pub(super) const fn deletions(&self, now_ms: u64, under_way: u32) -> u32 {
        match self.phase {
            _ if !self.minds => u32::MAX,
            Phase::Deletions if now_ms >= self.again_ms => u32::MAX,
            Phase::Creations | Phase::Draining | Phase::Deletions if self.tries && under_way == 0 => 1,
            Phase::Creations | Phase::Draining | Phase::Deletions => 0,
        }
    }

    /// A deletion starts.
    pub(super) const fn start_deletion(&mut self) {
        self.tries = false;
    }

    /// When something changes by itself.
    pub(super) fn due_ms(&self, creations: bool, deletions: bool) -> Option<u64> {
        if !self.minds || !deletions {
            return None;
        }
        let over = self.since_ms.saturating_add(self.turn_ms());
        match self.phase {
            Phase::Creations | Phase::Draining => Some(over),
            Phase::Deletions if creations => Some(over.min(self.again_ms.max(self.since_ms))),
            Phase::Deletions => Some(self.again_ms),
        }
    }

    const fn turn_ms(&self) -> u64 {
        match self.phase {
            Phase::Creations => {
                let factor = if self.fruitless < 7 { 1 << self.fruitless } else { 128 };
                let turn = TURN_MS * factor;
                if turn < TURN_LAST_MS { turn } else { TURN_LAST_MS }
            }
            Phase::Draining => HOLD_MS,
            Phase::Deletions => TURN_MS,
        }
    }
}
