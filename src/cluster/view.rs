//! What has been shown of each object, by whichever way: a watch, a list, or the answer to a write of ours.
//!
//! These ways are not in step. A list may be newer than the watch, whose older news of the same object then come after
//! it; the answer to a write comes before the watch tells of the write. Versions decide: news of an object that are older
//! than what was shown of it are dropped. Nothing is lost by that, for the watch itself tells the newer state later.
//!
//! Versions are those of the API server, compared within one kind. An object without a comparable version is never
//! dropped. Nothing here is kept of pods that do not concern us: only what asks, or has asked, is.

use std::collections::BTreeMap;

use super::crd::Examined;
use super::wire::{Meta, Places};
use crate::machine::identity::PodKey;

/// All that is known, of both kinds, and of their places.
#[derive(Debug)]
pub(super) struct View {
    pub(super) pods: Shown,
    pub(super) claims: Shown,
    pub(super) places: Places,
    /// What the served definition does with what is written.
    pub(super) definition: Examined,
    /// A consistent list was of an older version than one before it: the cluster was set back to a backup, and what is
    /// known of versions is worth nothing.
    pub(super) set_back: bool,
}

impl View {
    /// The served definition was examined. What is new is said. Whether it keeps what the one before did not.
    pub(super) fn define(&mut self, examined: Examined) -> bool {
        if self.definition == examined {
            return false;
        }
        say(&examined);
        let (before, now) = (self.definition.kept(), examined.kept());
        self.definition = examined;
        (now.conditions && !before.conditions)
            || (now.external_address && !before.external_address)
            || (now.port_protocol && !before.port_protocol)
    }
}

impl Default for View {
    fn default() -> Self {
        Self {
            pods: Shown::default(),
            claims: Shown::default(),
            places: Places::default(),
            // What is not known to be otherwise is as it should be.
            definition: Examined { status_subresource: true, ..Examined::default() },
            set_back: false,
        }
    }
}

/// The objects of one kind.
#[derive(Debug, Default)]
pub(super) struct Shown {
    objects: BTreeMap<Box<str>, Known>,
    /// The newest version up to which a consistent list has told everything.
    floor: u64,
    /// How far the watch has told everything.
    told: u64,
    /// Counts the watch's lists.
    lists: u64,
}

#[derive(Debug)]
struct Known {
    key: PodKey,
    version: u64,
    /// The watch's list in which it was seen last.
    seen_in: u64,
    /// A consistent list did not show it any more.
    missed: bool,
}

impl Shown {
    /// The watch begins a list.
    pub(super) fn begin_list(&mut self) {
        self.lists = self.lists.saturating_add(1);
    }

    /// The watch shows an object, in a list or by itself. Says whether that is news. `concerns` is whether the object is
    /// worth being remembered.
    pub(super) fn show(&mut self, meta: Meta<'_>, concerns: bool) -> bool {
        let Some(version) = meta.number() else { return true };
        let (floor, seen_in) = (self.floor, self.lists);
        match self.objects.get_mut(meta.uid) {
            Some(known) => {
                let stale = version < known.version || (known.missed && version <= floor);
                known.seen_in = seen_in;
                if !stale {
                    known.version = version;
                    known.missed = false;
                }
                !stale
            }
            // A list that is newer has shown it as it was then, or that it was no more.
            None if version <= floor => false,
            None => {
                if concerns {
                    self.remember(meta, version);
                }
                true
            }
        }
    }

    /// The newest version of which a consistent list was.
    pub(super) const fn floor(&self) -> u64 {
        self.floor
    }

    /// Whether the watch has brought a list to its end.
    pub(super) const fn has_been_listed(&self) -> bool {
        self.told > 0
    }

    /// The watch shows that an object has gone.
    pub(super) fn forget(&mut self, meta: Meta<'_>) {
        self.objects.remove(meta.uid);
    }

    /// The watch has told everything up to a version.
    pub(super) fn advance(&mut self, version: &str) {
        self.told = version.parse().map_or(self.told, |version: u64| version.max(self.told));
    }

    /// The watch's list is at its end. Gives what it does not show any more, with UIDs.
    pub(super) fn end_list(&mut self, version: &str) -> Vec<(PodKey, String)> {
        let Ok(version) = version.parse::<u64>() else { return Vec::new() };
        let lists = self.lists;
        // What a write of ours or a later list has shown since is newer than this list.
        let gone = |known: &Known| known.seen_in != lists && known.version <= version;
        let told: Vec<_> = self.objects.iter().filter(|(_, known)| gone(known)).map(|(uid, _)| uid.clone()).collect();
        let forget = |uid: Box<str>| self.objects.remove(&uid).map(|known| (known.key, uid.into_string()));
        let told = told.into_iter().filter_map(forget).collect();
        self.floor = self.floor.max(version);
        self.told = self.told.max(version);
        told
    }

    /// A consistent list beside the watch shows an object.
    pub(super) fn note_listed(&mut self, meta: Meta<'_>, list: Option<u64>, concerns: bool) {
        let Some(version) = meta.number() else { return };
        if let Some(known) = self.objects.get_mut(meta.uid) {
            known.version = known.version.max(version);
        } else if concerns && list.is_some_and(|list| list > self.told) {
            // Where the watch is ahead of the list, it knows what exists; this may have gone since.
            self.remember(meta, version);
        }
    }

    /// A consistent list beside the watch is at its end: it showed only these of what is known.
    pub(super) fn note_list(&mut self, version: Option<u64>, shows: impl Fn(&str) -> bool) {
        let Some(version) = version else { return };
        for (uid, known) in &mut self.objects {
            known.missed |= known.version <= version && !shows(uid);
        }
        self.floor = self.floor.max(version);
    }

    /// A write of ours was answered with the object.
    pub(super) fn note_written(&mut self, meta: Meta<'_>) {
        let Some(version) = meta.number() else { return };
        if let Some(known) = self.objects.get_mut(meta.uid) {
            known.version = known.version.max(version);
        } else if version > self.told {
            self.remember(meta, version);
        }
    }

    /// The newest version that was shown of an object.
    pub(super) fn version_of(&self, uid: &str) -> Option<u64> {
        self.objects.get(uid).map(|known| known.version)
    }

    /// Whether something newer than that has been shown of an object.
    pub(super) fn knows_newer(&self, meta: Meta<'_>) -> bool {
        let known = self.objects.get(meta.uid).map(|known| known.version);
        known.zip(meta.number()).is_some_and(|(known, version)| version < known)
    }

    fn remember(&mut self, meta: Meta<'_>, version: u64) {
        let known = Known { key: meta.key(), version, seen_in: self.lists, missed: false };
        self.objects.insert(meta.uid.into(), known);
    }
}

fn say(examined: &Examined) {
    let advice = "apply the output of `natgw crd`";
    for field in &examined.pruned {
        tracing::warn!("the served CRD prunes {field}: PodDNATs are published without; {advice}");
    }
    for field in &examined.refused {
        tracing::warn!("the served CRD has {field} with another type, so PodDNATs may be refused; {advice}");
    }
    if examined.pruned.is_empty() && examined.refused.is_empty() {
        tracing::info!("the served CRD takes everything that is published");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta<'a>(uid: &'a str, version: &'a str) -> Meta<'a> {
        Meta { namespace: "default", name: uid, uid, version }
    }

    fn listed(objects: &[(&str, &str)], version: &str) -> Shown {
        let mut shown = Shown::default();
        shown.begin_list();
        for (uid, of) in objects {
            assert!(shown.show(meta(uid, of), true));
        }
        assert_eq!(shown.end_list(version), []);
        shown
    }

    fn uids(gone: Vec<(PodKey, String)>) -> Vec<String> {
        gone.into_iter().map(|(_, uid)| uid).collect()
    }

    #[test]
    fn after_a_second_list_what_it_does_not_show_has_gone() {
        let mut shown = listed(&[("a", "3"), ("b", "4")], "5");
        assert!(shown.show(meta("c", "6"), true));
        shown.begin_list();
        assert!(shown.show(meta("b", "4"), true));
        assert_eq!(uids(shown.end_list("9")), ["a", "c"]);
        shown.begin_list();
        assert_eq!(uids(shown.end_list("10")), ["b"]);
    }

    #[test]
    fn what_was_written_after_a_list_is_not_missed_by_it() {
        let mut shown = listed(&[], "5");
        shown.note_written(meta("a", "8"));
        shown.begin_list();
        assert_eq!(shown.end_list("7"), []);
        shown.begin_list();
        assert_eq!(uids(shown.end_list("8")), ["a"]);
    }

    #[test]
    fn news_that_are_older_than_an_answer_to_a_write_are_dropped() {
        let mut shown = listed(&[("a", "3")], "5");
        shown.note_written(meta("a", "9"));
        assert!(!shown.show(meta("a", "7"), true));
        assert!(shown.show(meta("a", "9"), true), "the watch may tell more of the same version");
        assert!(shown.show(meta("a", "12"), true));
        assert!(shown.knows_newer(meta("a", "11")) && !shown.knows_newer(meta("a", "12")));
    }

    #[test]
    fn news_that_are_older_than_a_list_bring_nothing_back() {
        let mut shown = listed(&[("a", "3"), ("b", "4")], "5");
        // A list beside the watch: a has gone, c has come, the watch knows neither.
        shown.note_listed(meta("b", "4"), Some(20), true);
        shown.note_listed(meta("c", "15"), Some(20), true);
        shown.note_list(Some(20), |uid| uid != "a");
        assert!(!shown.show(meta("a", "10"), true), "a was no more at 20");
        assert!(!shown.show(meta("c", "14"), true));
        assert!(!shown.show(meta("d", "12"), true), "d came and went before 20");
        assert!(shown.show(meta("b", "4"), true));
        assert!(shown.show(meta("d", "21"), true));
        // The watch tells by itself that a has gone; if it has to list instead, the list tells it.
        shown.begin_list();
        shown.show(meta("b", "4"), true);
        shown.show(meta("c", "15"), true);
        assert_eq!(uids(shown.end_list("30")), ["a", "d"]);
    }

    #[test]
    fn a_list_that_is_behind_the_watch_remembers_nothing_that_went() {
        let mut shown = listed(&[("a", "3")], "5");
        shown.forget(meta("a", "9"));
        shown.advance("9");
        shown.note_listed(meta("a", "3"), Some(7), true);
        shown.note_list(Some(7), |_| true);
        assert!(!shown.objects.contains_key("a"));
    }

    #[test]
    fn what_does_not_concern_us_is_shown_and_not_remembered() {
        let mut shown = listed(&[], "5");
        assert!(shown.show(meta("a", "6"), false));
        assert!(!shown.objects.contains_key("a"));
        assert!(shown.show(meta("a", "x"), true), "versions that are no numbers are not compared");
    }
}
