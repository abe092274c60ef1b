//! A small legal history, built event by event through the real fold, and written through the real journal.
#![allow(dead_code, reason = "each test target uses a part")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a broken fixture is a failed test")]

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use natgw::machine::event::{Event, Record, codec, control, decided, outcome, seen, timer};
use natgw::machine::identity::{AllocationId, Generation, Mark, UidHash};
use natgw::machine::state::{DIGEST_VERSION, State};
use natgw_journal::{Head, Journal, JournalId, Opened};

const CLUSTER: &str = "cluster-1";
const TABLE: &str = "ftb-1";
const EIP: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);
const TCP: u8 = 6;
/// 2026-01-01T00:00:00Z.
const WALL_BASE_MS: i64 = 1_767_225_600_000;

/// A history in the making.
pub(crate) struct Story {
    pub(crate) state: State,
    pub(crate) records: Vec<Record>,
    machine_ms: u64,
}

impl Story {
    pub(crate) fn new() -> Self {
        Self { state: State::default(), records: Vec::new(), machine_ms: 0 }
    }

    /// Tells one event more, `after_ms` later, and folds it.
    pub(crate) fn then(&mut self, after_ms: u64, event: Event) -> &mut Self {
        let record = self.next(after_ms, event);
        self.state.apply(&record).unwrap();
        self.records.push(record);
        self
    }

    /// Tells one event more that nobody could have decided.
    pub(crate) fn forge(&mut self, event: Event) -> &mut Self {
        let record = self.next(1, event);
        self.records.push(record);
        self
    }

    fn next(&mut self, after_ms: u64, event: Event) -> Record {
        self.machine_ms += after_ms;
        let term = match &event {
            Event::TermStarted(started) => started.term,
            _ => self.state.term(),
        };
        let wall_ms = WALL_BASE_MS + i64::try_from(self.machine_ms).unwrap();
        Record { seq: self.records.len() as u64 + 1, term, machine_ms: self.machine_ms, wall_ms, event }
    }

    pub(crate) fn digest(&self) -> String {
        self.state.digest().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    pub(crate) fn take_digest(&mut self) -> &mut Self {
        let digest = self.state.digest();
        self.then(1, Event::DigestTaken(control::DigestTaken { version: DIGEST_VERSION, digest }))
    }

    pub(crate) fn start_term(&mut self, term: u64, predecessor: Option<(JournalId, Head)>) -> &mut Self {
        let predecessor = predecessor.map(|(id, head)| (id.0, head.seq, head.hash));
        self.then(10, Event::TermStarted(control::TermStarted { term, holder: "natgw-0".into(), predecessor }))
    }

    pub(crate) fn configure(&mut self) -> &mut Self {
        self.then(
            0,
            Event::PoolConfigured(control::PoolConfigured {
                index: 0,
                gateway: "ngw-1".into(),
                zone: "zone-j".into(),
                first: 512,
                last: 1024,
                eips: Vec::new(),
                excluded: Vec::new(),
            }),
        )
        .then(
            0,
            Event::Configured(control::Configured {
                cluster_uid: CLUSTER.into(),
                pools: 1,
                cooldown_ms: 30_000,
                fixed_retention_ms: None,
                resync_ms: 300_000,
                repair: true,
                adopt: false,
                port_break: 0,
                stateful_kinds: Vec::new(),
            }),
        )
    }

    pub(crate) fn read_everything(&mut self) -> &mut Self {
        let eips = vec![(EIP, true, false)];
        let (gateway, zone) = ("ngw-1".to_owned(), Some("zone-j".to_owned()));
        let seen = seen::GatewaySeen { gateway, table: Some(TABLE.into()), zone, available: true, eips };
        self.then(20, Event::GatewaySeen(seen))
            .then(5, Event::ClusterRead(control::ClusterRead { pods: 0, claims: 0 }))
            .then(5, Event::TableOpened(control::TableOpened { table: TABLE.into(), entries: 0 }))
    }

    /// A pod appears and its address is found.
    pub(crate) fn pod(&mut self, name: &str, uid: &str, host: u8) -> &mut Self {
        let ip = address(host);
        let annotations = vec![
            ("k8s.aliyun.com/pod-dnat".to_owned(), String::new()),
            ("k8s.aliyun.com/pod-dnat-expose-port".to_owned(), "80".to_owned()),
        ];
        let pod = seen::PodSeen {
            namespace: "games".into(),
            name: name.into(),
            uid: uid.into(),
            ip: Some(ip),
            annotations,
            ..seen::PodSeen::default()
        };
        let place = seen::AddressSeen { ip, eni: "eni-1".into(), vswitch: "vsw-1".into(), zone: "zone-j".into() };
        self.then(100, Event::PodSeen(pod)).then(30, Event::AddressSeen(place))
    }

    pub(crate) fn route(&mut self) -> &mut Self {
        self.then(1, Event::RouteSeen(seen::RouteSeen { vswitch: "vsw-1".into(), gateways: vec!["ngw-1".into()] }))
    }

    pub(crate) fn allocate(&mut self, name: &str, uid: &str, host: u8, n: u64, port: u16) -> &mut Self {
        let stamp = (self.state.term(), n);
        let item = decided::Item { internal: 80, external: port, protocol: TCP, generation: stamp, port_break: false };
        self.then(
            1,
            Event::Allocated(decided::Allocated {
                pod: uid.into(),
                namespace: "games".into(),
                name: name.into(),
                allocation: stamp,
                gateway: "ngw-1".into(),
                table: TABLE.into(),
                eip: EIP,
                ip: address(host),
                eni: "eni-1".into(),
                vswitch: "vsw-1".into(),
                zone: "zone-j".into(),
                fixed: false,
                items: vec![item],
                passed_over: Vec::new(),
            }),
        )
    }

    /// Claim, entry, status, note.
    pub(crate) fn bind(&mut self, name: &str, uid: &str, host: u8, n: u64, port: u16) -> &mut Self {
        let term = self.state.term();
        let (allocation, entry) = ((term, n), format!("fwd-{n}"));
        let decided = self.records.iter().rev().find_map(|record| match &record.event {
            Event::Allocated(body) if body.allocation == allocation => Some(record.seq),
            _ => None,
        });
        let revision = decided.unwrap();
        let mark = Mark::new(UidHash::of(CLUSTER), &uid.into(), allocation.into(), Generation::from(allocation));
        let uid_of_claim = format!("claim-of-{name}");
        self.then(40, Event::ClaimWritten(outcome::ClaimWritten { allocation, revision, uid: uid_of_claim }));
        let created = outcome::EntryCreated { allocation, generation: allocation, entry: entry.clone() };
        self.then(60, Event::EntryCreated(created));
        self.then(500, Event::EntrySeen(entry_seen(&entry, &mark.to_string(), port, host)));
        self.then(20, Event::StatusWritten(outcome::StatusWritten { allocation, revision }));
        self.then(20, Event::PodMarked(outcome::PodMarked { pod: uid.into(), note: (1, 0, allocation, 0) }))
    }

    /// The pod goes, and so does its mapping.
    pub(crate) fn release(&mut self, uid: &str, n: u64) -> &mut Self {
        let (allocation, entry) = ((self.state.term(), n), format!("fwd-{n}"));
        self.then(5_000, Event::PodGone(seen::PodGone { uid: uid.into() }));
        self.then(1, Event::ReleaseDecided(decided::ReleaseDecided { allocation, reason: 1 }));
        self.then(30, Event::StatusWithdrawn(outcome::StatusWithdrawn { allocation }));
        self.listed();
        self.then(40, Event::EntryDeleted(outcome::EntryDeleted { table: TABLE.into(), entry }));
        let (began_ms, generations) = (self.machine_ms + 10, vec![allocation]);
        self.then(400, Event::EntriesMissed(seen::EntriesMissed { table: TABLE.into(), began_ms, generations }));
        self.then(40, Event::ClaimReleased(outcome::ClaimReleased { allocation }))
    }

    pub(crate) fn listed(&mut self) -> &mut Self {
        let (began_seq, began_ms) = (self.state.seq(), self.machine_ms + 5);
        self.then(50, Event::TableListed(seen::TableListed { table: TABLE.into(), began_seq, began_ms, entries: 2 }))
    }

    /// Somebody else's entry on a tuple.
    pub(crate) fn stranger(&mut self, entry: &str, port: u16, host: u8) -> &mut Self {
        self.then(10, Event::EntrySeen(entry_seen(entry, "made by hand", port, host)))
    }

    pub(crate) fn rested(&mut self, port: u16) -> &mut Self {
        self.then(30_000, Event::CooldownEnded(timer::CooldownEnded { eip: EIP, protocol: TCP, port }))
    }

    /// One pod is mapped, goes, and comes again under its name; another one stays all the time.
    pub(crate) fn whole() -> Self {
        let mut story = Self::new();
        story.configure().start_term(1, None).read_everything();
        story.pod("web-0", "uid-a", 5).route().allocate("web-0", "uid-a", 5, 1, 512);
        story.pod("other", "uid-z", 9).allocate("other", "uid-z", 9, 2, 513);
        story.bind("web-0", "uid-a", 5, 1, 512).bind("other", "uid-z", 9, 2, 513);
        story.take_digest().release("uid-a", 1).pod("web-0", "uid-b", 6).rested(512);
        story.allocate("web-0", "uid-b", 6, 3, 512).bind("web-0", "uid-b", 6, 3, 512).take_digest();
        story
    }

    /// Writes the history as a journal in groups of that many entries.
    ///
    /// It is written elsewhere and copied: a test that starts a program meanwhile hands the writer's lock to the child
    /// until that has begun, and the directory would be in use for a moment after the writer is gone.
    pub(crate) fn write(&self, dir: &Path, id: u8, group: usize) -> (JournalId, Head) {
        let scratch = tempfile::tempdir().unwrap();
        let journal = self.write_open(scratch.path(), id, group);
        let named = (journal.id(), journal.head());
        journal.close().unwrap();
        copy_tree(scratch.path(), dir);
        named
    }

    /// The same, not closed.
    pub(crate) fn write_open(&self, dir: &Path, id: u8, group: usize) -> Journal {
        let mut journal = begin(dir, id);
        let bytes: Vec<_> = self.records.iter().map(|record| codec::encode(record).unwrap()).collect();
        for group in bytes.chunks(group) {
            journal.append(group).unwrap();
        }
        journal
    }
}

pub(crate) fn begin(dir: &Path, id: u8) -> Journal {
    match Journal::open(dir, JournalId([id; 16]), &[]).unwrap() {
        Opened::Fresh(journal) => journal,
        other => panic!("a new directory opens as {other:?}"),
    }
}

pub(crate) fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// An allocation that no history here knows.
pub(crate) fn unknown_release() -> Event {
    let allocation = AllocationId::from((1, 99)).into();
    Event::ReleaseDecided(decided::ReleaseDecided { allocation, reason: 1 })
}

fn address(host: u8) -> Ipv4Addr {
    Ipv4Addr::new(172, 16, 0, host)
}

fn entry_seen(entry: &str, name: &str, port: u16, host: u8) -> seen::EntrySeen {
    seen::EntrySeen {
        table: TABLE.into(),
        entry: entry.into(),
        name: name.into(),
        external_ip: EIP,
        external_ports: (port, port),
        internal_ip: address(host),
        internal_ports: (80, 80),
        protocol: TCP,
        status: 1,
    }
}
