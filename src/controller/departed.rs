//! What has gone, while a listing and a watch show the cluster at different moments.
//!
//! A listing that was long under way still shows what the watch has shown to go meanwhile; a watch that is behind shows,
//! after a listing, what had gone before it, and our own PodDNATs as they were before we let them go. UIDs are used once:
//! what went stays gone, unless a listing begun later shows it again, because the cluster was put back to a backup.

use std::collections::{BTreeMap, BTreeSet};

/// How long a watch may be behind a listing, in machine time. One of client-go ends after half an hour at most.
const BEHIND_MAX_MS: u64 = 30 * 60 * 1_000;

/// UIDs of pods and PodDNATs that have gone.
#[derive(Debug, Default)]
pub struct Departed {
    /// A listing is under way.
    listing: bool,
    /// What the watch has shown to go since it began.
    meanwhile: BTreeSet<String>,
    /// What listings missed and the watch has not shown to go yet, with when.
    missed: BTreeMap<String, u64>,
    /// PodDNATs that we let go and the watch has not shown to go yet, with when.
    released: BTreeMap<String, u64>,
}

impl Departed {
    /// A listing of the cluster begins.
    pub fn listing_begins(&mut self) {
        self.listing = true;
        self.meanwhile.clear();
    }

    /// It ended, with or without an answer. Returns what went meanwhile.
    pub fn listing_ends(&mut self) -> BTreeSet<String> {
        self.listing = false;
        std::mem::take(&mut self.meanwhile)
    }

    /// The watch shows that something has gone.
    pub fn gone(&mut self, uid: &str) {
        self.missed.remove(uid);
        self.released.remove(uid);
        if self.listing {
            self.meanwhile.insert(uid.to_owned());
        }
    }

    /// Our finalizer is off a PodDNAT whose deletion was asked for, or it had gone before.
    pub fn released(&mut self, now_ms: u64, uid: &str) {
        self.released.insert(uid.to_owned(), now_ms);
        if self.listing {
            self.meanwhile.insert(uid.to_owned());
        }
    }

    /// A listing shows these and misses those; what went meanwhile is in neither.
    pub fn listed<'a>(
        &mut self,
        now_ms: u64,
        shown: impl IntoIterator<Item = &'a str>,
        missed: impl IntoIterator<Item = &'a str>,
    ) {
        let recent = |_: &String, went_ms: &mut u64| now_ms < went_ms.saturating_add(BEHIND_MAX_MS);
        self.missed.retain(recent);
        self.released.retain(recent);
        if !self.missed.is_empty() || !self.released.is_empty() {
            for uid in shown {
                self.missed.remove(uid);
                self.released.remove(uid);
            }
        }
        self.missed.extend(missed.into_iter().map(|uid| (uid.to_owned(), now_ms)));
    }

    /// Whether what the watch shows now is from before a listing that missed it.
    #[must_use]
    pub fn is_late(&self, uid: &str) -> bool {
        self.missed.contains_key(uid)
    }

    /// Whether a PodDNAT that the watch shows now is from before we let it go. Others' finalizers may hold it for longer:
    /// then it is shown without ours.
    #[must_use]
    pub fn is_from_before_release(&self, uid: &str, finalizer: bool) -> bool {
        finalizer && self.released.contains_key(uid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_listing_missed_stays_gone_until_another_shows_it() {
        let mut departed = Departed::default();
        departed.listed(0, ["a"], ["b"]);
        assert!(departed.is_late("b") && !departed.is_late("a"));
        departed.listed(1, ["a", "b"], []);
        assert!(!departed.is_late("b"));
    }

    #[test]
    fn what_the_watch_shows_to_go_need_not_be_remembered() {
        let mut departed = Departed::default();
        departed.listed(0, [], ["b"]);
        departed.gone("b");
        assert!(!departed.is_late("b"));
    }

    #[test]
    fn nothing_is_remembered_for_longer_than_a_watch_lasts() {
        let mut departed = Departed::default();
        departed.listed(0, [], ["b"]);
        departed.listed(BEHIND_MAX_MS - 1, [], []);
        assert!(departed.is_late("b"));
        departed.listed(BEHIND_MAX_MS, [], []);
        assert!(!departed.is_late("b"));
    }

    #[test]
    fn what_we_let_go_does_not_come_back_with_our_finalizer() {
        let mut departed = Departed::default();
        departed.released(0, "a");
        assert!(departed.is_from_before_release("a", true));
        assert!(!departed.is_from_before_release("a", false), "somebody else's finalizer holds it");
        assert!(!departed.is_from_before_release("b", true));
        departed.gone("a");
        assert!(!departed.is_from_before_release("a", true));
    }

    #[test]
    fn a_listing_begun_later_brings_back_what_we_let_go_and_one_begun_before_does_not() {
        let mut departed = Departed::default();
        departed.listing_begins();
        departed.released(0, "a");
        let meanwhile = departed.listing_ends();
        assert!(meanwhile.contains("a"));
        departed.listed(1, ["a"].into_iter().filter(|uid| !meanwhile.contains(*uid)), []);
        assert!(departed.is_from_before_release("a", true));
        departed.listed(2, ["a"], []);
        assert!(!departed.is_from_before_release("a", true));
    }

    #[test]
    fn what_went_during_a_listing_is_told_at_its_end() {
        let mut departed = Departed::default();
        departed.gone("before");
        departed.listing_begins();
        departed.gone("during");
        assert_eq!(departed.listing_ends().into_iter().collect::<Vec<_>>(), ["during"]);
        departed.gone("after");
        assert!(departed.listing_ends().is_empty());
    }
}
