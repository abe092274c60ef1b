//! The Events on pods. Equal ones are counted, old ones expire, as an API server keeps them for an hour.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Model;
use crate::ports::cluster::PodMark;
use crate::sandbox::as_list;

/// How long an Event is kept after it was last said: kube-apiserver's `--event-ttl`, 1 h.
const KEPT_MS: u64 = 3_600_000;

/// Events that are kept: several for each pod of a cluster of 10,000.
const EVENTS_MAX: usize = 65_536;

/// One Event on a pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodEvent {
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub name: String,
    /// UID of the pod.
    pub uid: String,
    /// Its type is `Warning`, not `Normal`.
    pub warning: bool,
    /// One word.
    pub reason: String,
    /// A sentence.
    pub message: String,
    /// How often it was said.
    pub count: u64,
    /// When it was said first, machine time.
    pub first_ms: u64,
    /// When it was said last, machine time.
    pub last_ms: u64,
}

/// All Events, in order of when they were said last.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Said {
    #[serde(with = "as_list")]
    events: BTreeMap<u64, PodEvent>,
    #[serde(with = "as_list")]
    places: BTreeMap<Same, u64>,
}

/// What makes two Events one: pod, type, reason, message.
type Same = (String, bool, String, String);

impl Said {
    pub(super) fn all(&self) -> impl Iterator<Item = &PodEvent> {
        self.events.values()
    }

    fn say(&mut self, version: u64, now_ms: u64, mark: &PodMark) {
        let same: Same = (mark.pod.to_string(), mark.warning, mark.reason.to_owned(), mark.message.clone());
        let before = self.places.insert(same, version).and_then(|place| self.events.remove(&place));
        let event = PodEvent {
            namespace: mark.key.namespace().to_string(),
            name: mark.key.name().to_string(),
            uid: mark.pod.to_string(),
            warning: mark.warning,
            reason: mark.reason.to_owned(),
            message: mark.message.clone(),
            count: before.as_ref().map_or(1, |event| event.count.saturating_add(1)),
            first_ms: before.map_or(now_ms, |event| event.first_ms),
            last_ms: now_ms,
        };
        self.events.insert(version, event);
        while let Some(oldest) = self.events.first_entry() {
            let expired = oldest.get().last_ms.saturating_add(KEPT_MS) <= now_ms;
            if !expired && self.places.len() <= EVENTS_MAX {
                break;
            }
            let PodEvent { uid, warning, reason, message, .. } = oldest.remove();
            self.places.remove(&(uid, warning, reason, message));
        }
    }
}

impl Model {
    /// Records an Event on a pod. The pod need not exist: the API server does not look.
    pub fn announce(&mut self, mark: &PodMark) {
        let version = self.next_version();
        self.said.say(version, self.now_ms, mark);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::identity::PodKey;

    #[test]
    fn equal_events_are_counted_and_old_ones_expire() {
        let mark = |message: &str| PodMark {
            key: PodKey::new("default", "a"),
            pod: "u".into(),
            phase: None,
            reason: "Waiting",
            message: message.to_owned(),
            address: None,
            ready: None,
            warning: true,
        };
        let mut said = Said::default();
        said.say(1, 0, &mark("x"));
        said.say(2, 10, &mark("y"));
        said.say(3, 20, &mark("x"));
        let all: Vec<_> = said.all().map(|event| (event.message.as_str(), event.count, event.first_ms)).collect();
        assert_eq!(all, [("y", 1, 10), ("x", 2, 0)]);
        said.say(4, 15 + KEPT_MS, &mark("z"));
        let all: Vec<_> = said.all().map(|event| event.message.as_str()).collect();
        assert_eq!(all, ["x", "z"]);
        said.say(5, 16 + KEPT_MS, &mark("y"));
        assert_eq!(said.all().last().map(|event| event.count), Some(1), "an expired Event begins anew");
    }
}
