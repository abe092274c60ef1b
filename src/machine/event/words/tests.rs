//! One example of each body, so that every kind has words, names what it speaks of, and stays on one line.

use std::collections::BTreeSet;

use super::{External, sentence, subjects};
use crate::machine::event::{Event, Record, control, decided, kept, outcome, seen, timer};
use crate::machine::identity::{AllocationId, Generation, Mark, PodKey, Protocol, UidHash};

pub(in crate::machine::event) fn item(external: u16) -> decided::Item {
    decided::Item { internal: 80, external, protocol: 6, generation: (3, 9), port_break: true }
}

fn allocated() -> decided::Allocated {
    decided::Allocated {
        pod: "uid-a".into(),
        namespace: "games".into(),
        name: "web-0".into(),
        allocation: (3, 7),
        gateway: "ngw-1".into(),
        table: "ftb-1".into(),
        eip: [203, 0, 113, 7].into(),
        ip: [172, 16, 0, 5].into(),
        eni: "eni-1".into(),
        vswitch: "vsw-1".into(),
        zone: "zone-j".into(),
        fixed: false,
        items: vec![item(512), decided::Item { protocol: 17, ..item(513) }],
        passed_over: vec![([203, 0, 113, 8].into(), 2)],
    }
}

fn controls() -> Vec<Event> {
    let eips = vec![[203, 0, 113, 7].into()];
    vec![
        Event::Configured(control::Configured {
            cluster_uid: "cluster-1".into(),
            pools: 1,
            cooldown_ms: 30_000,
            fixed_retention_ms: Some(1_500),
            resync_ms: 300_000,
            repair: true,
            adopt: false,
            port_break: 0,
            stateful_kinds: vec!["CloneSet".into()],
        }),
        Event::PoolConfigured(control::PoolConfigured {
            index: 0,
            gateway: "ngw-1".into(),
            zone: "zone-j".into(),
            first: 512,
            last: 1024,
            eips,
            excluded: vec![(600, 610)],
        }),
        Event::TermStarted(control::TermStarted {
            term: 3,
            holder: "natgw-0".into(),
            predecessor: Some(([0xab; 16], 41, [0; 32])),
        }),
        Event::Rebased(control::Rebased { reason: "AnchorLost".into(), anew: true }),
        Event::ClusterRead(control::ClusterRead { pods: 2, claims: 1 }),
        Event::TableOpened(control::TableOpened { table: "ftb-1".into(), entries: 1 }),
        Event::DigestTaken(control::DigestTaken { version: 1, digest: [0xcd; 32] }),
        Event::SnapshotBegun(control::SnapshotBegun { through: 40 }),
        Event::SnapshotEnded(control::SnapshotEnded { through: 40, digest: [0xef; 32] }),
    ]
}

fn observations() -> Vec<Event> {
    let (namespace, name) = ("games".to_owned(), "web-0".to_owned());
    let mark = Mark::new(UidHash::of("c"), &"uid-a".into(), AllocationId::from((3, 7)), Generation::from((3, 9)));
    vec![
        Event::PodSeen(seen::PodSeen {
            namespace: namespace.clone(),
            name: name.clone(),
            uid: "uid-a".into(),
            annotations: vec![("k8s.aliyun.com/pod-dnat".into(), String::new())],
            ports: vec![(80, 6)],
            ..seen::PodSeen::default()
        }),
        Event::PodGone(seen::PodGone { uid: "uid-a".into() }),
        Event::ClaimSeen(seen::ClaimSeen {
            namespace: namespace.clone(),
            name: name.clone(),
            uid: "claim-uid".into(),
            claim: Some(Box::new(seen::Claim {
                allocation: (3, 7),
                pod: "uid-a".into(),
                table: "ftb-1".into(),
                eip: Some([203, 0, 113, 7].into()),
                items: vec![item(512)],
                ..seen::Claim::default()
            })),
            ..seen::ClaimSeen::default()
        }),
        Event::ClaimGone(seen::ClaimGone { namespace, name, uid: "claim-uid".into() }),
        Event::GatewaySeen(seen::GatewaySeen {
            gateway: "ngw-1".into(),
            table: Some("ftb-1".into()),
            zone: None,
            available: true,
            eips: vec![([203, 0, 113, 7].into(), true, true)],
        }),
        Event::GatewayGone(seen::GatewayGone { gateway: "ngw-1".into() }),
        Event::RouteSeen(seen::RouteSeen { vswitch: "vsw-1".into(), gateways: vec!["ngw-1".into()] }),
        Event::AddressSeen(seen::AddressSeen {
            ip: [172, 16, 0, 5].into(),
            eni: "eni-1".into(),
            vswitch: "vsw-1".into(),
            zone: "zone-j".into(),
        }),
        Event::AddressMissing(seen::AddressMissing { ip: [172, 16, 0, 5].into() }),
        Event::EntrySeen(seen::EntrySeen {
            table: "ftb-1".into(),
            entry: "fwd-1".into(),
            name: mark.to_string(),
            external_ip: [203, 0, 113, 7].into(),
            external_ports: (512, 512),
            internal_ip: [172, 16, 0, 5].into(),
            internal_ports: (80, 80),
            protocol: 6,
            status: 1,
        }),
        Event::EntryVanished(seen::EntryVanished { table: "ftb-1".into(), entry: "fwd-1".into() }),
        Event::EntriesMissed(seen::EntriesMissed { table: "ftb-1".into(), began_ms: 1_234, generations: vec![(3, 9)] }),
        Event::TableListed(seen::TableListed { table: "ftb-1".into(), began_seq: 9, began_ms: 5, entries: 1 }),
        Event::TableGone(seen::TableGone { table: "ftb-1".into() }),
        Event::RoomSeen(seen::RoomSeen { free: 1 << 20, floor: 1 << 26, short: true }),
    ]
}

fn decisions() -> Vec<Event> {
    let allocation = (3, 7);
    let place = || ("eni-1".to_owned(), "vsw-1".to_owned(), "zone-j".to_owned());
    let ip = [172, 16, 0, 6].into();
    let entry = || ("ftb-1".to_owned(), "fwd-1".to_owned());
    vec![
        Event::Allocated(allocated()),
        Event::Recovered(allocated()),
        Event::Adopted(allocated()),
        Event::Waited(decided::Waited { pod: "uid-a".into(), table: Some("ftb-1".into()), reason: 1, entries: 2 }),
        Event::Refused(decided::Refused {
            pod: "uid-a".into(),
            reason: 3,
            detail: "pod-dnat-expose-port \"0\"".into(),
        }),
        Event::ReleaseDecided(decided::ReleaseDecided { allocation, reason: 1 }),
        Event::RebindDecided(decided::RebindDecided { allocation, ip }),
        Event::Regenerated(decided::Regenerated {
            allocation,
            reason: 2,
            ip,
            place: place(),
            items: vec![(80, 6, (3, 11))],
        }),
        Event::ItemMoved(decided::ItemMoved { allocation, item: item(514), from: 512 }),
        Event::ItemsChanged(decided::ItemsChanged { allocation, dropped: vec![(80, 6)], added: vec![item(515)] }),
        Event::StaleDecided(decided::StaleDecided { table: entry().0, entry: entry().1 }),
        Event::GhostDecided(decided::GhostDecided {
            namespace: "games".into(),
            name: "web-0".into(),
            uid: "claim-uid".into(),
        }),
        Event::QuotaLearned(decided::QuotaLearned { table: "ftb-1".into(), entries: Some(100) }),
        Event::Reserved(decided::Reserved { allocation, absent_since_wall_ms: 1 }),
        Event::FixedBound(decided::FixedBound {
            allocation,
            pod: "uid-b".into(),
            ip,
            place: place(),
            items: vec![(80, 6, (3, 12))],
        }),
        Event::FixedMoved(decided::FixedMoved { from: allocation, to: (3, 8), reason: 2 }),
        Event::Superseded(decided::Superseded { allocation, winner: "claim-uid".into() }),
        Event::Halted(decided::Halted { reason: 1, namespace: "games".into(), name: "web-0".into() }),
        Event::Resumed(decided::Resumed { reason: 1 }),
        Event::Contested(decided::Contested { allocation, heals: 3 }),
    ]
}

fn outcomes() -> Vec<Event> {
    let (allocation, generation) = ((3, 7), (3, 9));
    let (table, entry, code) = ("ftb-1".to_owned(), "fwd-1".to_owned(), "timeout".to_owned());
    vec![
        Event::ClaimWritten(outcome::ClaimWritten { allocation, revision: 12, uid: "claim-uid".into() }),
        Event::ClaimRefused(outcome::ClaimRefused { allocation, reason: 1, detail: "exists".into() }),
        Event::ClaimReleased(outcome::ClaimReleased { allocation }),
        Event::StatusWritten(outcome::StatusWritten { allocation, revision: 12 }),
        Event::StatusWithdrawn(outcome::StatusWithdrawn { allocation }),
        Event::PodMarked(outcome::PodMarked { pod: "uid-a".into(), note: (1, 0, allocation, 0) }),
        Event::EntryCreated(outcome::EntryCreated { allocation, generation, entry: entry.clone() }),
        Event::EntryRefused(outcome::EntryRefused {
            allocation,
            generation,
            class: 2,
            code: "QuotaExceeded".into(),
            message: "no\nroom".into(),
        }),
        Event::EntryUnknown(outcome::EntryUnknown { allocation, generation, code: code.clone() }),
        Event::EntryNeverSent(outcome::EntryNeverSent { allocation, generation }),
        Event::EntryDeleted(outcome::EntryDeleted { table: table.clone(), entry: entry.clone() }),
        Event::DeleteUnknown(outcome::DeleteUnknown { table: table.clone(), entry, code }),
        Event::StatusUnknown(outcome::StatusUnknown { allocation }),
        Event::MarkUnknown(outcome::MarkUnknown { pod: "uid-a".into() }),
        Event::CooldownEnded(timer::CooldownEnded { eip: [203, 0, 113, 7].into(), protocol: 6, port: 512 }),
        Event::GraceEnded(timer::GraceEnded { pod: "uid-a".into() }),
        Event::RetryDue(timer::RetryDue { allocation }),
        Event::ProbeDue(timer::ProbeDue { table }),
        Event::RetentionEnded(timer::RetentionEnded { allocation }),
        Event::TableRested(timer::TableRested { table: "ftb-1".into() }),
        Event::ContestEnded(timer::ContestEnded { allocation }),
    ]
}

pub(in crate::machine::event) fn kept_things() -> Vec<Event> {
    let (namespace, name, table, entry) = ("games".to_owned(), "web-0".to_owned(), "ftb-1".to_owned(), "fwd-1");
    let (allocation, eip) = ((3, 7), [203, 0, 113, 7].into());
    let item = kept::ItemKept {
        internal: 80,
        protocol: 6,
        external: 512,
        generation: (3, 9),
        port_break: false,
        leaving: None,
        touched: true,
        awaited: false,
        awaited_whole: false,
        adopted: Some(entry.into()),
        entry: kept::EntryKept::Present(entry.into(), 9, true, false, None),
    };
    vec![
        Event::Kept(kept::Kept::Frame(kept::FrameKept {
            term_seen: 4,
            cluster_read: true,
            rebuilding: false,
            forgetful: false,
            short: false,
            halted: Some(1),
            allocations_decided: 7,
            generations_decided: 9,
        })),
        Event::Kept(kept::Kept::Eip(kept::EipKept { eip, gateway: Some("ngw-1".into()), suspect: None })),
        Event::Kept(kept::Kept::Table(kept::TableKept {
            table: table.clone(),
            gateway: Some("ngw-1".into()),
            open: true,
            committed: 1,
            limit: Some(100),
            probing: false,
            probe_ms: Some(300_000),
            rested: false,
            rests_ms: None,
            watch_until_ms: 900_000,
            limit_since: 9,
            awaited_at: 8,
        })),
        Event::Kept(kept::Kept::Pod(Box::new(kept_pod()))),
        Event::Kept(kept::Kept::Allocation(Box::new(kept_allocation()))),
        Event::Kept(kept::Kept::Items(kept::ItemsKept { allocation, items: vec![item] })),
        Event::Kept(kept::Kept::Stray(kept::StrayKept {
            table,
            entry: entry.into(),
            marked: true,
            stale: true,
            deleted: false,
            deleted_ms: 0,
            remnant: false,
        })),
        Event::Kept(kept::Kept::Rests(kept::RestsKept { rests: vec![(eip, 17, 513, 30_000)] })),
        Event::Kept(kept::Kept::Claim(kept::ClaimKept {
            namespace,
            name,
            since: 14,
            ghost: true,
            original: true,
            intruder: false,
        })),
        Event::Kept(kept::Kept::Intent(kept::IntentKept {
            rests_on: 40,
            wanted: kept::WantedKept::Withdraw(allocation),
        })),
        Event::Kept(kept::Kept::Work(kept::WorkKept::Allocation(allocation))),
    ]
}

fn kept_pod() -> kept::PodKept {
    kept::PodKept {
        namespace: "games".into(),
        name: "web-0".into(),
        uid: "uid-a".into(),
        seen: 0x1234_5678_9abc_def0,
        seen_at: 11,
        ip: Some([172, 16, 0, 5].into()),
        demand: kept::DemandKept::On(vec![(80, 6)], false),
        barred: None,
        ended: None,
        grace_ends_ms: None,
        grace_armed: false,
        gate: true,
        owner: Some(("apps/v1".into(), "StatefulSet".into(), "web".into(), "uid-w".into())),
        arrival: Some(11),
        standing: kept::StandingKept::Allocated((3, 7)),
        noted: (1, 0, (3, 7), 12),
        noted_unsure: false,
        marking: false,
        undecided: false,
    }
}

fn kept_allocation() -> kept::AllocationKept {
    kept::AllocationKept {
        allocation: (3, 7),
        pod: "uid-a".into(),
        namespace: "games".into(),
        name: "web-0".into(),
        gateway: "ngw-1".into(),
        table: "ftb-1".into(),
        eip: [203, 0, 113, 7].into(),
        ip: [172, 16, 0, 5].into(),
        place: ("eni-1".into(), "vsw-1".into(), "zone-j".into()),
        fixed: true,
        phase: (3, 40, 1),
        claim: (1, 12),
        claimed: Some(12),
        claim_uid: Some(("claim-uid".into(), 13)),
        claim_deleting: false,
        revision: 12,
        claim_revision: 12,
        published: (1, 12),
        established: true,
        probe: false,
        retries: 0,
        retry_ms: None,
        owner: None,
        absent_since_wall_ms: Some(1),
        retention_ms: None,
        expired: false,
        moved: false,
        relocated: false,
        successor: None,
        predecessors: vec![(2, 6)],
        kept: false,
        edited: true,
        heals: vec![5_000],
        contest_ms: Some(600_000),
        named: true,
        among: (true, false, false, false),
    }
}

pub(in crate::machine::event) fn one_of_each() -> Vec<Event> {
    [controls(), observations(), decisions(), outcomes(), kept_things().into_iter().take(1).collect()].concat()
}

fn words(event: Event) -> String {
    sentence(&Record { seq: 1, term: 3, machine_ms: 0, wall_ms: 0, event })
}

#[test]
fn every_kind_has_words_of_its_own() {
    let events = one_of_each();
    let kinds: Vec<_> = events.iter().map(Event::kind).collect();
    assert_eq!(kinds, Event::KINDS.iter().map(|(kind, ..)| *kind).collect::<Vec<_>>());
    let sentences: BTreeSet<_> = events.into_iter().map(words).collect();
    assert_eq!(sentences.len(), Event::KINDS.len());
    for line in &sentences {
        assert!(!line.contains(char::is_control) && !line.ends_with('.') && !line.contains("  "), "{line:?}");
    }
}

#[test]
fn everything_that_is_kept_has_words_of_its_own() {
    let sentences: BTreeSet<_> = kept_things().into_iter().map(words).collect();
    assert_eq!(sentences.len(), kept_things().len());
    assert!(sentences.iter().all(|line| line.starts_with("in the snapshot ") && !line.contains("  ")), "{sentences:?}");
}

#[test]
fn whatever_a_record_speaks_of_stands_in_its_sentence() {
    for event in one_of_each().into_iter().chain(kept_things()) {
        let (all, line) = (subjects(&event), words(event.clone()));
        let named = (all.pods.iter().map(ToString::to_string))
            .chain(all.names.iter().map(ToString::to_string))
            .chain(all.allocations.iter().map(|id| format!("allocation {id}")))
            .chain(all.generations.iter().map(ToString::to_string))
            .chain(all.entries.iter().map(|(_, entry)| entry.to_string()))
            .chain(all.tables.iter().map(ToString::to_string))
            .chain(all.addresses.iter().map(ToString::to_string))
            .chain(all.externals.iter().map(|external| external.ports.0.to_string()));
        for name in named {
            assert!(line.contains(&name), "{name:?} is missing in {line:?}");
        }
    }
}

#[test]
fn an_allocation_is_told_whole() {
    assert_eq!(
        words(Event::Allocated(allocated())),
        "pod games/web-0 (UID uid-a) at 172.16.0.5 gets allocation 3.7 on NAT gateway ngw-1, table ftb-1: \
         203.0.113.7:512/tcp -> 172.16.0.5:80 (generation 3.9, PortBreak), 203.0.113.7:513/udp -> 172.16.0.5:80 \
         (generation 3.9, PortBreak); passed over: 203.0.113.8 (fewer free ports)"
    );
    let all = subjects(&Event::Allocated(allocated()));
    assert_eq!(all.names, BTreeSet::from([PodKey::new("games", "web-0")]));
    assert_eq!(all.externals.len(), 2);
}

#[test]
fn text_from_outside_cannot_break_the_line() {
    let event = Event::PodGone(seen::PodGone { uid: "uid\n1970-01-01 forged".into() });
    assert_eq!(words(event), "the pod with UID uid\\n1970-01-01 forged is gone");
}

#[test]
fn an_entry_for_any_port_overlaps_every_port_of_its_eip() {
    let one = |last: u8, ports, protocol| External { eip: [203, 0, 113, last].into(), ports, protocol };
    let any = one(7, (0, 0), None);
    let port = one(7, (512, 512), Some(Protocol::Tcp));
    assert!(any.overlaps(&port) && port.overlaps(&any) && port.overlaps(&port));
    assert!(port.overlaps(&one(7, (500, 600), None)));
    assert!(!port.overlaps(&one(7, (512, 512), Some(Protocol::Udp))));
    assert!(!port.overlaps(&one(7, (513, 600), Some(Protocol::Tcp))));
    assert!(!port.overlaps(&one(8, (512, 512), Some(Protocol::Tcp))));
}
