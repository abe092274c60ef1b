//! When to try again and when to look again. All of it is volatile: a restart only tries and looks earlier.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use crate::machine::intent::Intent;
use crate::ports::cloud::Reading;

/// The first pause of an effect that was not carried out; it doubles with each further time.
const AGAIN_FIRST_MS: u64 = 200;

/// The longest such pause.
const AGAIN_LAST_MS: u64 = 30_000;

/// Effects that wait for their next attempt.
#[derive(Clone, Debug, Default)]
pub struct Again {
    due: BTreeSet<(u64, Intent)>,
    attempts: BTreeMap<Intent, u32>,
}

impl Again {
    /// Puts an effect off.
    pub fn put_off(&mut self, intent: Intent, now_ms: u64, hint_ms: Option<u64>) {
        let attempts = self.attempts.entry(intent.clone()).or_default();
        let pause = AGAIN_FIRST_MS.saturating_mul(1 << (*attempts).min(10)).min(AGAIN_LAST_MS);
        *attempts = attempts.saturating_add(1);
        self.due.insert((now_ms.saturating_add(pause.max(hint_ms.unwrap_or(0))), intent));
    }

    /// The effect ended, or is no longer wanted.
    pub fn forget(&mut self, intent: &Intent) {
        self.attempts.remove(intent);
    }

    /// Effects whose pause is over.
    pub fn take_due(&mut self, now_ms: u64) -> Vec<Intent> {
        let mut taken = Vec::new();
        while let Some((due, _)) = self.due.first()
            && *due <= now_ms
        {
            taken.extend(self.due.pop_first().map(|(_, intent)| intent));
        }
        taken
    }

    /// When the next pause is over.
    #[must_use]
    pub fn due_ms(&self) -> Option<u64> {
        self.due.first().map(|(due, _)| *due)
    }
}

/// The first interval between two listings of a table for something that is not clear; then half of the time since the last
/// call to the table.
const LOOK_FIRST_MS: u64 = 200;

/// The longest interval, and the interval while late effects may show up (design.md §2.5).
const LOOK_LAST_MS: u64 = 15_000;

/// While creations follow each other, calls to a table that a page of the next listing has to wait for: what is made by them
/// is looked for at once, and listings stay a small part of all calls.
const CALLS_A_PAGE: usize = 25;

/// The longest such wait for each page.
const WAIT_A_PAGE_MS: u64 = 500;

/// What somebody waits to learn from a listing of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Nothing.
    Nothing,
    /// Whether entries are in effect, while more of them are being created.
    Progress,
    /// Anything else.
    Soon,
}

/// When to list one table again.
#[derive(Clone, Debug, Default)]
pub struct Look {
    ended_ms: Option<u64>,
    /// Machine time of the last call that ended: pauses grow with the time since then.
    written_ms: u64,
    /// The event before which the last listing began.
    began_seq: u64,
    pages: usize,
    /// Calls that ended since the last listing did.
    calls: usize,
}

impl Look {
    /// When the table is due: `need` says what somebody waits for, `asked_at` the event since which, and `watched_until_ms`
    /// until when late effects may show up.
    #[must_use]
    pub fn due_ms(&self, need: Need, asked_at: u64, watched_until_ms: u64, resync_ms: u64) -> u64 {
        let Some(ended_ms) = self.ended_ms else { return 0 };
        let resync = ended_ms.saturating_add(resync_ms);
        let watched = ended_ms.saturating_add(LOOK_LAST_MS);
        let watched = if watched <= watched_until_ms { watched } else { u64::MAX };
        let soon = match need {
            Need::Nothing => u64::MAX,
            Need::Progress if self.calls < self.pages.saturating_mul(CALLS_A_PAGE) => {
                let pages = u64::try_from(self.pages).unwrap_or(u64::MAX);
                ended_ms.saturating_add(WAIT_A_PAGE_MS.saturating_mul(pages).min(LOOK_LAST_MS))
            }
            // Who asks now does not wait for as long as those who have asked for a while.
            Need::Progress | Need::Soon if asked_at > self.began_seq => ended_ms.saturating_add(LOOK_FIRST_MS),
            Need::Progress | Need::Soon => {
                let waited_ms = ended_ms.saturating_sub(self.written_ms);
                ended_ms.saturating_add((waited_ms / 2).clamp(LOOK_FIRST_MS, LOOK_LAST_MS))
            }
        };
        resync.min(watched).min(soon)
    }

    /// A listing of so many entries ended that had begun after that event; the next one is later.
    pub fn ended(&mut self, now_ms: u64, began_seq: u64, entries: usize) {
        self.ended_ms = Some(now_ms);
        (self.began_seq, self.calls) = (began_seq, 0);
        self.pages = entries.div_ceil(Reading::Entries.page_items()).max(1);
    }

    /// Something was written: the next listing is soon worth while.
    pub fn written(&mut self, now_ms: u64) {
        self.written_ms = now_ms;
        self.calls = self.calls.saturating_add(1);
    }

    /// Forgets that the table was ever listed.
    pub fn forget(&mut self) {
        self.ended_ms = None;
    }
}

/// The first pause before an address that belongs to no interface is asked for again (design.md §4: 1-60 s).
const LOCATE_FIRST_MS: u64 = 1_000;

/// The longest such pause.
const LOCATE_LAST_MS: u64 = 60_000;

/// Addresses that are to be asked for.
#[derive(Clone, Debug, Default)]
pub struct Addresses {
    due: BTreeSet<(u64, Ipv4Addr)>,
    attempts: BTreeMap<Ipv4Addr, u32>,
}

impl Addresses {
    /// Asks for an address as soon as possible.
    pub fn ask(&mut self, ip: Ipv4Addr, now_ms: u64) {
        if let std::collections::btree_map::Entry::Vacant(attempts) = self.attempts.entry(ip) {
            attempts.insert(0);
            self.due.insert((now_ms, ip));
        }
    }

    /// Asks again later, not before the time that flow control said.
    pub fn ask_again(&mut self, ip: Ipv4Addr, now_ms: u64, hint_ms: Option<u64>) {
        if let Some(attempts) = self.attempts.get_mut(&ip) {
            let pause = LOCATE_FIRST_MS.saturating_mul(1 << (*attempts).min(10)).min(LOCATE_LAST_MS);
            *attempts = attempts.saturating_add(1);
            self.due.insert((now_ms.saturating_add(pause.max(hint_ms.unwrap_or(0))), ip));
        }
    }

    /// The address need not be asked for any more.
    pub fn forget(&mut self, ip: Ipv4Addr) {
        self.attempts.remove(&ip);
    }

    /// Up to `most` addresses that are due.
    pub fn take_due(&mut self, now_ms: u64, most: usize) -> Vec<Ipv4Addr> {
        let mut taken = Vec::new();
        while taken.len() < most
            && let Some((due, _)) = self.due.first()
            && *due <= now_ms
        {
            let ip = self.due.pop_first().map(|(_, ip)| ip);
            taken.extend(ip.filter(|ip| self.attempts.contains_key(ip)));
        }
        taken
    }

    /// When the next address is due.
    #[must_use]
    pub fn due_ms(&self) -> Option<u64> {
        self.due.first().map(|(due, _)| *due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_listed_for_what_is_unclear_then_for_late_effects_then_at_each_resync() {
        let mut look = Look::default();
        assert_eq!(look.due_ms(Need::Nothing, 0, 0, 300_000), 0, "never listed");
        look.written(1_000);
        look.ended(1_000, 1, 1);
        assert_eq!(look.due_ms(Need::Soon, 0, 0, 300_000), 1_200);
        look.ended(1_800, 2, 1);
        assert_eq!(look.due_ms(Need::Soon, 0, 0, 300_000), 2_200, "half of what was waited");
        assert_eq!(look.due_ms(Need::Nothing, 0, 900_000, 300_000), 16_800);
        assert_eq!(look.due_ms(Need::Nothing, 0, 10_000, 300_000), 301_800);
        look.written(1_900);
        assert_eq!(look.due_ms(Need::Soon, 0, 0, 300_000), 2_000);
        look.ended(100_000, 2, 1);
        assert_eq!(look.due_ms(Need::Soon, 0, 0, 300_000), 115_000, "and no longer than for late effects");
    }

    #[test]
    fn who_asks_anew_does_not_wait_for_as_long_as_who_has_asked_for_a_while() {
        let mut look = Look::default();
        look.ended(100_000, 7, 1);
        assert_eq!(look.due_ms(Need::Soon, 7, 0, 300_000), 115_000);
        assert_eq!(look.due_ms(Need::Soon, 8, 0, 300_000), 100_200);
    }

    #[test]
    fn while_creations_follow_each_other_a_large_table_is_listed_more_rarely() {
        let mut look = Look::default();
        look.ended(1_000, 0, 101);
        assert_eq!(look.due_ms(Need::Progress, 1, 0, 300_000), 2_500);
        (0..75).for_each(|_| look.written(1_000));
        assert_eq!(look.due_ms(Need::Progress, 1, 0, 300_000), 1_200);
        look.ended(2_000, 0, 101);
        assert_eq!(look.due_ms(Need::Soon, 1, 0, 300_000), 2_200, "nothing follows any more");
    }

    #[test]
    fn a_pause_doubles_and_never_undercuts_what_was_said() {
        let mut again = Again::default();
        let intent = Intent::Observe { table: "t".into() };
        for pause in [200, 400, 800] {
            again.put_off(intent.clone(), 0, None);
            assert_eq!((again.due_ms(), again.take_due(pause - 1).len()), (Some(pause), 0));
            assert_eq!(again.take_due(pause), std::slice::from_ref(&intent));
        }
        again.forget(&intent);
        again.put_off(intent.clone(), 0, Some(9_000));
        assert_eq!(again.due_ms(), Some(9_000));
    }
}
