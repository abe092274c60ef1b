//! Who wrote over whom: the writes of an old and of a new term, each as the API server answered it, and what became of the
//! entries that the new term had published.
//!
//! The API server numbers all changes in one order (resourceVersion): an old write came over a new one if its number is
//! higher. Events are left out: they are told to people and nothing goes by them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use axum::http::Method;
use natgw::sandbox::vpc::{Effect, EffectLine, LedgerLine};

use crate::api::LOOK_EVERY;
use crate::evidence;
use crate::proxy::Asked;
use crate::world::text;

/// The writes of a term that were carried out.
pub fn writes(asked: &[Asked]) -> impl Iterator<Item = &Asked> {
    asked.iter().filter(|asked| {
        let told_to_people = asked.path.ends_with("/events") || asked.path.contains("/events/");
        asked.mutates() && (200..300).contains(&asked.status) && !told_to_people
    })
}

/// The object that a request is about: its path, without a subresource.
fn object(asked: &Asked) -> String {
    if asked.method == Method::POST {
        return format!("{}/{}", asked.path, text(&asked.body["metadata"]["name"]));
    }
    asked.path.trim_end_matches("/status").to_owned()
}

/// The writes of the old term that changed an object after the new term had written it.
pub fn old_over_new(old: &[Asked], new: &[Asked]) -> Vec<String> {
    let mut by_object: BTreeMap<String, Vec<&Asked>> = BTreeMap::new();
    for write in writes(new) {
        by_object.entry(object(write)).or_default().push(write);
    }
    let over = |late: &Asked| {
        let of_it = by_object.get(&object(late)).into_iter().flatten();
        of_it.into_iter().any(|before| {
            let same = late.uid.is_empty() || before.uid.is_empty() || late.uid == before.uid;
            let later = match (before.version, late.version) {
                // The object went with it: only the time tells.
                (_, 0) | (0, _) => before.answered <= late.sent,
                (before, late) => before < late,
            };
            same && later
        })
    };
    let word = |late: &Asked| format!("{} {} at {}: {}", late.method, late.path, late.version, late.body);
    writes(old).filter(|late| over(late)).map(word).collect()
}

/// PodDNATs that the old term created after the new one had begun, by path and UID: they have to be superseded.
pub fn created_late(old: &[Asked], began: Instant) -> Vec<(String, String)> {
    let late = writes(old).filter(|write| write.method == Method::POST && write.path.ends_with("/poddnats"));
    late.filter(|write| write.sent >= began).map(|write| (object(write), write.uid.clone())).collect()
}

/// The deletions of entries that a PodDNAT showed at the time by the will of the new term.
pub fn taken_away(new: &[Asked], effects: &[(Instant, EffectLine)]) -> Vec<String> {
    let mut shown: BTreeMap<String, Vec<(Instant, Vec<String>)>> = BTreeMap::new();
    for write in writes(new).filter(|write| write.path.ends_with("/status") && write.path.contains("/poddnats/")) {
        let entries = write.body["status"]["entries"].as_array().into_iter().flatten();
        let entries: Vec<_> = entries.map(|entry| text(&entry["forwardEntryId"])).collect();
        // What is shown counts from the answer, what is not shown any more from the request.
        let from = if entries.is_empty() { write.sent } else { write.answered };
        shown.entry(object(write)).or_default().push((from, entries));
    }
    let mut taken = Vec::new();
    for (at, line) in effects.iter().filter(|(_, line)| line.effect == Effect::Deleting) {
        let Some(entry) = line.entry.as_ref().map(ToString::to_string) else { continue };
        for (path, contents) in &shown {
            let then = contents.iter().rfind(|(from, _)| from <= at);
            if then.is_some_and(|(_, entries)| entries.contains(&entry)) {
                taken.push(format!("{entry} was deleted while {path} showed it"));
            }
        }
    }
    taken
}

/// Follows a ledger and notes, by the clock of this program, when each effect was seen.
pub struct Effects {
    ended: Arc<AtomicBool>,
    followed: JoinHandle<Vec<(Instant, EffectLine)>>,
}

impl Effects {
    pub fn of(ledger: &Path) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let (path, stop) = (ledger.to_owned(), Arc::clone(&ended));
        Self { ended, followed: thread::spawn(move || follow(&path, &stop)) }
    }

    /// What was seen until now.
    pub fn end(self) -> Vec<(Instant, EffectLine)> {
        self.ended.store(true, Ordering::SeqCst);
        self.followed.join().unwrap()
    }
}

fn follow(path: &Path, ended: &AtomicBool) -> Vec<(Instant, EffectLine)> {
    let (mut effects, mut read) = (Vec::new(), 0);
    loop {
        let last = ended.load(Ordering::SeqCst);
        // A case that failed has taken it away.
        let lines = if path.exists() { evidence::ledger(path) } else { return effects };
        let now = Instant::now();
        for line in lines.iter().skip(read) {
            if let LedgerLine::Effect(effect) = line {
                effects.push((now, effect.clone()));
            }
        }
        read = lines.len();
        if last {
            return effects;
        }
        thread::park_timeout(LOOK_EVERY);
    }
}
