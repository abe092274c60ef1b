//! What of a pod is ours: the annotations that ask, the annotation and the readiness condition that answer.
//!
//! What is kept of a pod goes into one record of the journal, so everything here is bounded, and what is left out is
//! said to be.

use serde::{Deserialize, Serialize};

use crate::machine::demand::{ASKING, PREFIX, PREFIX_ALTERNATIVE};
use crate::ports::cluster::PodMark;

/// The pod annotation that says how the pod's mapping stands, as JSON. It also makes OKG look again.
pub const STATUS_ANNOTATION: &str = "k8s.aliyun.com/pod-dnat-status";

/// The readiness gate, and the type of the condition that satisfies it.
pub const READINESS_GATE: &str = "k8s.aliyun.com/pod-dnat-ready";

/// The longest value of an asking annotation that is kept.
pub const ANNOTATION_BYTES_MAX: usize = 512;

/// The most that is kept of all asking annotations together: with the names, the ports and the owner of a pod they must
/// fit one record of the journal (3,584 bytes).
pub const ANNOTATIONS_BYTES_MAX: usize = 1_536;

/// The most declared ports that are kept: twice what a pod may ask for, and one to be seen as too many.
pub const PORTS_MAX: usize = 2 * crate::machine::demand::ENTRIES_MAX + 1;

/// The value of [`STATUS_ANNOTATION`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodStatus {
    /// The phase in one word.
    pub phase: String,
    /// The reason in one word.
    pub reason: String,
    /// The reason as a sentence.
    pub message: String,
    /// `EIP:512/tcp,513/udp`, where the mapping is ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_address: Option<String>,
}

impl PodStatus {
    /// What the pod is to say; `None` where it is to say nothing.
    #[must_use]
    pub fn of(mark: &PodMark) -> Option<Self> {
        Some(Self {
            phase: mark.phase?.to_owned(),
            reason: mark.reason.to_owned(),
            message: mark.message.clone(),
            external_address: mark.address.clone(),
        })
    }

    /// The annotation's value: JSON with stable field order.
    #[must_use]
    #[expect(clippy::expect_used, reason = "four strings under fixed names are always JSON")]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("strings are JSON")
    }
}

/// The asking annotations among those of a pod, sorted by key, and whether a value was too long to be kept.
pub fn asking_annotations<'a>(
    annotations: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> (Vec<(String, String)>, bool) {
    let mut asking: Vec<_> = annotations.into_iter().filter(|(key, _)| asks(key)).collect();
    asking.sort_unstable();
    let (mut kept, mut room, mut oversized) = (Vec::new(), ANNOTATIONS_BYTES_MAX, false);
    for (key, value) in asking {
        match room.checked_sub(value.len()) {
            Some(rest) if value.len() <= ANNOTATION_BYTES_MAX => {
                room = rest;
                kept.push((key.to_owned(), value.to_owned()));
            }
            Some(_) | None => oversized = true,
        }
    }
    (kept, oversized)
}

/// The declared ports, in order and without repetition, as many as are kept.
#[must_use]
pub fn declared_ports(declared: impl IntoIterator<Item = (u16, u8)>) -> Vec<(u16, u8)> {
    let mut seen = std::collections::BTreeSet::new();
    declared.into_iter().filter(|port| seen.insert(*port)).take(PORTS_MAX).collect()
}

fn asks(key: &str) -> bool {
    [PREFIX, PREFIX_ALTERNATIVE]
        .iter()
        .any(|prefix| key.strip_prefix(prefix).is_some_and(|word| ASKING.contains(&word)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::identity::PodKey;

    #[test]
    fn only_what_asks_is_kept_and_sorted() {
        let (kept, oversized) = asking_annotations([
            ("network.alibabacloud.com/pod-dnat", ""),
            ("k8s.aliyun.com/pod-dnat-status", "{}"),
            ("k8s.aliyun.com/pod-dnat-expose-port", "80"),
            ("example.com/pod-dnat", "true"),
            ("k8s.aliyun.com/pod-dnat", "true"),
        ]);
        let keys: Vec<_> = kept.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(
            keys,
            ["k8s.aliyun.com/pod-dnat", "k8s.aliyun.com/pod-dnat-expose-port", "network.alibabacloud.com/pod-dnat"]
        );
        assert!(!oversized);
    }

    #[test]
    fn what_the_journal_cannot_take_is_left_out_and_said() {
        let (longest, longer) = ("x".repeat(ANNOTATION_BYTES_MAX), "x".repeat(ANNOTATION_BYTES_MAX + 1));
        let (kept, oversized) = asking_annotations([("k8s.aliyun.com/pod-dnat-fixed", longest.as_str())]);
        assert_eq!((kept.len(), oversized), (1, false));
        let (kept, oversized) = asking_annotations([("k8s.aliyun.com/pod-dnat-fixed", longer.as_str())]);
        assert_eq!((kept.len(), oversized), (0, true));
        let keys: Vec<String> = ASKING.iter().map(|word| format!("{PREFIX}{word}")).collect();
        let (kept, oversized) = asking_annotations(keys.iter().map(|key| (key.as_str(), longest.as_str())));
        assert_eq!((kept.len(), oversized), (3, true), "1,536 bytes hold three values of 512");
    }

    #[test]
    fn declared_ports_are_bounded_and_none_is_kept_twice() {
        assert_eq!(declared_ports([(80, 6), (53, 17), (80, 6)]), [(80, 6), (53, 17)]);
        assert_eq!(declared_ports((1..1000).map(|port| (port, 6))).len(), PORTS_MAX);
    }

    #[test]
    fn the_status_is_stable_json_and_none_where_nothing_is_said() {
        let mut mark = PodMark {
            key: PodKey::new("default", "a"),
            pod: "u".into(),
            phase: Some("Ready"),
            reason: "Mapped",
            message: "players reach the pod".to_owned(),
            address: Some("203.0.113.7:512/tcp".to_owned()),
            ready: None,
            warning: false,
        };
        let json = PodStatus::of(&mark).unwrap().to_json();
        assert_eq!(
            json,
            r#"{"phase":"Ready","reason":"Mapped","message":"players reach the pod","externalAddress":"203.0.113.7:512/tcp"}"#
        );
        assert_eq!(serde_json::from_str::<PodStatus>(&json).ok(), PodStatus::of(&mark));
        mark.phase = None;
        assert_eq!(PodStatus::of(&mark), None);
    }
}
