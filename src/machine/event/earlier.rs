//! Bodies of versions that are no longer written, and what each becomes. Frozen like all others.

use std::net::Ipv4Addr;

use bincode::{Decode, Encode};
use serde::Serialize;

use crate::machine::event::{control, decided, seen};

/// Kind 4, version 1: what the journal knew before stayed, beside what was read.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct RebasedV1 {
    /// Why history is not continuous.
    pub reason: String,
}

impl From<RebasedV1> for control::Rebased {
    fn from(RebasedV1 { reason }: RebasedV1) -> Self {
        Self { reason, anew: false }
    }
}

/// Kind 12, version 1: before reservations, moves and other writers were told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct ClaimSeenV1 {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID of the PodDNAT.
    pub uid: String,
    /// resourceVersion.
    pub resource_version: String,
    /// A deletion was asked for.
    pub deleting: bool,
    /// Our finalizer is set.
    pub finalizer: bool,
    /// The claim annotation, where there is one that parses.
    pub claim: Option<ClaimV1>,
    /// Status lists entries.
    pub published: bool,
}

/// The claim annotation as far as the machine needs it. Frozen with kind 12, version 1.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct ClaimV1 {
    /// The allocation.
    pub allocation: (u64, u64),
    /// The pod.
    pub pod: String,
    /// The mapping is fixed.
    pub fixed: bool,
    /// The gateway.
    pub gateway: String,
    /// The forward table.
    pub table: String,
    /// The EIP.
    pub eip: Option<Ipv4Addr>,
    /// The pod's address.
    pub ip: Option<Ipv4Addr>,
    /// ENI, vSwitch and zone of the address.
    pub place: (String, String, String),
    /// The items.
    pub items: Vec<decided::Item>,
}

impl From<ClaimSeenV1> for seen::ClaimSeen {
    fn from(body: ClaimSeenV1) -> Self {
        let ClaimSeenV1 { namespace, name, uid, resource_version, deleting, finalizer, claim, published } = body;
        let claim = claim.map(|claim| Box::new(claim.into()));
        Self { namespace, name, uid, resource_version, deleting, finalizer, claim, published, ..Self::default() }
    }
}

impl From<ClaimV1> for seen::Claim {
    fn from(body: ClaimV1) -> Self {
        let ClaimV1 { allocation, pod, fixed, gateway, table, eip, ip, place, items } = body;
        Self { allocation, pod, fixed, gateway, table, eip, ip, place, items, ..Self::default() }
    }
}

/// Kind 12, version 2: before what was adopted was told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct ClaimSeenV2 {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID of the PodDNAT.
    pub uid: String,
    /// resourceVersion.
    pub resource_version: String,
    /// A deletion was asked for.
    pub deleting: bool,
    /// Our finalizer is set.
    pub finalizer: bool,
    /// The claim annotation, where there is one that parses.
    pub claim: Option<Box<ClaimV2>>,
    /// Status lists entries.
    pub published: bool,
    /// The first owner that is not a pod: API version, kind, name, UID.
    pub owner: Option<(String, String, String, String)>,
    /// Who wrote the object, by its managedFields.
    pub manager: u8,
    /// What an object without a claim annotation maps.
    pub shown: Option<Box<seen::Shown>>,
}

/// The claim annotation as far as the machine needs it. Frozen with kind 12, version 2.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct ClaimV2 {
    /// The allocation.
    pub allocation: (u64, u64),
    /// The pod.
    pub pod: String,
    /// The mapping is fixed.
    pub fixed: bool,
    /// The gateway.
    pub gateway: String,
    /// The forward table.
    pub table: String,
    /// The EIP.
    pub eip: Option<Ipv4Addr>,
    /// The pod's address.
    pub ip: Option<Ipv4Addr>,
    /// ENI, vSwitch and zone of the address.
    pub place: (String, String, String),
    /// The items.
    pub items: Vec<decided::Item>,
    /// Wall time since which no pod of the name exists; a fixed mapping only.
    pub absent_since_wall_ms: Option<i64>,
    /// Earlier allocations of the name whose entries may still exist.
    pub releasing: Vec<seen::Releasing>,
}

impl From<ClaimSeenV2> for seen::ClaimSeen {
    fn from(body: ClaimSeenV2) -> Self {
        let ClaimSeenV2 { namespace, name, uid, resource_version, deleting, finalizer, .. } = body;
        let ClaimSeenV2 { claim, published, owner, manager, shown, .. } = body;
        let claim = claim.map(|claim| Box::new((*claim).into()));
        Self {
            namespace,
            name,
            uid,
            resource_version,
            deleting,
            finalizer,
            claim,
            published,
            owner,
            manager,
            shown,
            ..Self::default()
        }
    }
}

impl From<ClaimV2> for seen::Claim {
    fn from(body: ClaimV2) -> Self {
        let ClaimV2 { allocation, pod, fixed, gateway, table, eip, ip, place, items, .. } = body;
        let ClaimV2 { absent_since_wall_ms, releasing, .. } = body;
        Self {
            allocation,
            pod,
            fixed,
            gateway,
            table,
            eip,
            ip,
            place,
            items,
            absent_since_wall_ms,
            releasing,
            ..Self::default()
        }
    }
}

/// Kind 12, version 3: before it was told what an object lacks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct ClaimSeenV3 {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID of the PodDNAT.
    pub uid: String,
    /// resourceVersion.
    pub resource_version: String,
    /// A deletion was asked for.
    pub deleting: bool,
    /// Our finalizer is set.
    pub finalizer: bool,
    /// The claim annotation, where there is one that parses.
    pub claim: Option<Box<seen::Claim>>,
    /// Status lists entries.
    pub published: bool,
    /// The first owner that is not a pod: API version, kind, name, UID.
    pub owner: Option<(String, String, String, String)>,
    /// Who wrote the object, by its managedFields.
    pub manager: u8,
    /// What an object without a claim annotation maps.
    pub shown: Option<Box<seen::Shown>>,
}

impl From<ClaimSeenV3> for seen::ClaimSeen {
    fn from(body: ClaimSeenV3) -> Self {
        let ClaimSeenV3 { namespace, name, uid, resource_version, deleting, finalizer, .. } = body;
        let ClaimSeenV3 { claim, published, owner, manager, shown, .. } = body;
        Self {
            namespace,
            name,
            uid,
            resource_version,
            deleting,
            finalizer,
            claim,
            published,
            owner,
            manager,
            shown,
            ..Self::default()
        }
    }
}

/// Kind 12, version 4: before the entries that a status names were told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct ClaimSeenV4 {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID of the PodDNAT.
    pub uid: String,
    /// resourceVersion.
    pub resource_version: String,
    /// A deletion was asked for.
    pub deleting: bool,
    /// Our finalizer is set.
    pub finalizer: bool,
    /// The claim annotation, where there is one that parses.
    pub claim: Option<Box<seen::Claim>>,
    /// Status lists entries.
    pub published: bool,
    /// The first owner that is not a pod: API version, kind, name, UID.
    pub owner: Option<(String, String, String, String)>,
    /// Who wrote the object, by its managedFields.
    pub manager: u8,
    /// What an object without a claim annotation maps.
    pub shown: Option<Box<seen::Shown>>,
    /// What of ours an object with a claim annotation does not show, or shows otherwise.
    pub lacks: u8,
}

impl From<ClaimSeenV4> for seen::ClaimSeen {
    fn from(body: ClaimSeenV4) -> Self {
        let ClaimSeenV4 { namespace, name, uid, resource_version, deleting, finalizer, .. } = body;
        let ClaimSeenV4 { claim, published, owner, manager, shown, lacks, .. } = body;
        Self {
            namespace,
            name,
            uid,
            resource_version,
            deleting,
            finalizer,
            claim,
            published,
            owner,
            manager,
            shown,
            lacks,
            ids: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::machine::event::codec;
    use crate::machine::event::{Event, decided, seen, timer};

    /// Kind and version, term 1, machine time 2, wall time 3.
    fn header(kind: u16, version: u8) -> Vec<u8> {
        let [low, high] = kind.to_le_bytes();
        [&[low, high, version][..], &[1, 0, 0, 0, 0, 0, 0, 0], &[2, 0, 0, 0, 0, 0, 0, 0], &[3, 0, 0, 0, 0, 0, 0, 0]]
            .concat()
    }

    fn decoded(kind: u16, version: u8, body: &[u8]) -> Event {
        let record = codec::decode(9, &[header(kind, version).as_slice(), body].concat()).unwrap();
        assert_eq!((record.term, record.machine_ms, record.wall_ms), (1, 2, 3));
        if version == record.event.version() {
            assert_eq!(codec::encode(&record).unwrap(), [header(kind, version).as_slice(), body].concat());
        }
        record.event
    }

    /// `n/m` with UID `u` at version 7, our finalizer, and what follows.
    const CLAIM: &[u8] = b"\x01n\x01m\x01u\x017\x00\x01";

    /// Allocation 1.2 of pod `p`: 203.0.113.1:512 to port 80 of 172.16.0.1.
    const ANNOTATION: &[u8] = b"\x01\x01\x02\x01p\x00\x01g\x01t\x01\xcb\x00\x71\x01\x01\xac\x10\x00\x01\x01e\x01v\x01z\
        \x01\x50\xfb\x00\x02\x06\x01\x03\x00\x00\x00";

    #[test]
    fn a_claim_of_version_2_names_no_adopted_entry() {
        let rest = b"\x00\x00\x01\x00";
        let Event::ClaimSeen(before) = decoded(12, 2, &[CLAIM, ANNOTATION, rest].concat()) else { panic!("kind 12") };
        let claim = before.claim.as_deref().unwrap();
        assert_eq!((claim.allocation, claim.items.len(), claim.entries.len(), claim.kept), ((1, 2), 1, 0, false));
        let Event::ClaimSeen(now) = decoded(12, 3, &[CLAIM, ANNOTATION, b"\x00\x00", rest].concat()) else {
            panic!("kind 12")
        };
        assert_eq!(now, before);
        let Event::ClaimSeen(now) = decoded(12, 4, &[CLAIM, ANNOTATION, b"\x00\x00", rest, b"\x03"].concat()) else {
            panic!("kind 12")
        };
        assert_eq!(now, seen::ClaimSeen { lacks: seen::LACKS_STATUS + seen::LACKS_SPEC, ..before.clone() });
        let Event::ClaimSeen(edited) = decoded(12, 4, &[CLAIM, ANNOTATION, b"\x00\x00", rest, b"\x0c"].concat()) else {
            panic!("kind 12")
        };
        assert_eq!(edited.lacks, seen::EDITED_SPEC + seen::EDITED_STATUS);
        let Event::ClaimSeen(adopted) = decoded(12, 3, &[CLAIM, ANNOTATION, b"\x01\x01f\x01", rest].concat()) else {
            panic!("kind 12")
        };
        let claim = adopted.claim.unwrap();
        assert_eq!((claim.entries, claim.kept), (vec!["f".to_owned()], true));
    }

    #[test]
    fn a_claim_of_version_4_does_not_say_which_entries_its_status_names() {
        let rest = b"\x00\x00\x01\x00\x00";
        let before = decoded(12, 4, &[CLAIM, ANNOTATION, b"\x00\x00", rest].concat());
        assert_eq!(decoded(12, 5, &[CLAIM, ANNOTATION, b"\x00\x00", rest, b"\x00"].concat()), before);
        let Event::ClaimSeen(now) = decoded(12, 5, &[CLAIM, ANNOTATION, b"\x00\x00", rest, b"\x07"].concat()) else {
            panic!("kind 12")
        };
        assert_eq!(Event::ClaimSeen(seen::ClaimSeen { ids: 0, ..now.clone() }), before);
        assert_eq!(now.ids, 7);
    }

    #[test]
    fn the_number_of_ids_is_the_one_that_journals_have() {
        // The BLAKE3 hash of "fwd-1\nfwd-2\n" by another program begins so.
        assert_eq!(seen::ids_shown(["fwd-1", "fwd-2"]), 0x8c6e_760c_9b4e_ccbf);
        assert_ne!(seen::ids_shown(["fwd-2", "fwd-1"]), seen::ids_shown(["fwd-1", "fwd-2"]));
        assert_eq!(seen::ids_shown([]), 0);
    }

    #[test]
    fn what_another_controller_shows_is_the_same_since_version_2() {
        let shown = b"\x00\x01\x00\x02\x01\x01\x01p\x01g\xcb\x00\x71\x01\xac\x10\x00\x01\x01e\x01v\x01z\
            \x01\x50\xfb\x00\x02\x06\x01\x01f";
        let [before, between] = [2, 3].map(|version| decoded(12, version, &[CLAIM, shown].concat()));
        let lately = decoded(12, 4, &[CLAIM, shown, b"\x00"].concat());
        let now = decoded(12, 5, &[CLAIM, shown, b"\x00\x00"].concat());
        assert_eq!(before, between);
        assert_eq!(before, lately);
        assert_eq!(before, now);
        let Event::ClaimSeen(seen) = now else { panic!("kind 12") };
        assert_eq!((seen.manager, seen.published), (seen::MANAGER_ANOTHER, true));
        assert_eq!(seen.shown.unwrap().items, [(80, 512, 6, Some("f".to_owned()))]);
    }

    #[test]
    fn golden_bytes_of_what_stops_decisions() {
        let halted = decided::Halted { reason: 1, namespace: "n".into(), name: "m".into() };
        assert_eq!(decoded(57, 1, b"\x01\x01n\x01m"), Event::Halted(halted));
        assert_eq!(decoded(58, 1, b"\x02"), Event::Resumed(decided::Resumed { reason: 2 }));
        let contested = decided::Contested { allocation: (1, 7), heals: 3 };
        assert_eq!(decoded(59, 1, b"\x01\x07\x03"), Event::Contested(contested));
        assert_eq!(decoded(86, 1, b"\x01\x07"), Event::ContestEnded(timer::ContestEnded { allocation: (1, 7) }));
    }
}
