//! A cluster and a cloud that do at once whatever the machine wants, at no more cost than the machine's own.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::Ipv4Addr;

use natgw::machine::event::{Event, Record, control, outcome, seen};
use natgw::machine::identity::{EntryId, Mark, TableId};
use natgw::machine::intent::{Change, Intent};
use natgw::machine::state::State;

pub const COOLDOWN_MS: u64 = 30_000;

/// How many gateways there are, of how many EIPs with how many ports.
#[derive(Clone, Copy)]
pub struct Layout {
    pub gateways: u8,
    pub eips: u8,
    pub ports: u16,
}

/// The machine and what is left to carry out.
pub struct World {
    pub state: State,
    pub now_ms: u64,
    /// What all records so far cost the machine, decisions included.
    pub cost: Cost,
    /// Records, as long as somebody wants them.
    pub kept: Option<Vec<Record>>,
    layout: Layout,
    wanted: VecDeque<Intent>,
    looks: BTreeSet<TableId>,
    /// Entries that were deleted and not yet missed.
    deleted: BTreeMap<TableId, Vec<EntryId>>,
    entries: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    pub events: u64,
    pub touched: u64,
    pub allocations: u64,
}

impl World {
    pub fn new(layout: Layout, kept: Option<Vec<Record>>) -> Self {
        let mut world = Self {
            state: State::default(),
            now_ms: 0,
            cost: Cost::default(),
            kept,
            layout,
            wanted: VecDeque::new(),
            looks: BTreeSet::new(),
            deleted: BTreeMap::new(),
            entries: 0,
        };
        world.record(Event::TermStarted(control::TermStarted { term: 1, holder: "a".into(), predecessor: None }));
        for n in 0..layout.gateways {
            world.record(Event::PoolConfigured(control::PoolConfigured {
                index: n.into(),
                gateway: gateway(n),
                zone: "cn-hangzhou-j".into(),
                first: 1_024,
                last: 1_023 + layout.ports,
                eips: Vec::new(),
                excluded: Vec::new(),
            }));
        }
        world.record(Event::Configured(control::Configured {
            cluster_uid: "5f6c2f58-9a3c-4b5e-8b62-5a6c0a1f7d33".into(),
            pools: layout.gateways.into(),
            cooldown_ms: COOLDOWN_MS,
            fixed_retention_ms: None,
            resync_ms: 300_000,
            repair: true,
            adopt: false,
            port_break: 0,
            stateful_kinds: Vec::new(),
        }));
        world.record(Event::ClusterRead(control::ClusterRead { pods: 0, claims: 0 }));
        for n in 0..layout.gateways {
            let table = format!("ftb-bp1u2m8h4k0x7c3v9n5e{n}");
            world.record(Event::GatewaySeen(seen::GatewaySeen {
                gateway: gateway(n),
                table: Some(table.clone()),
                zone: Some("cn-hangzhou-j".into()),
                available: true,
                eips: (0..layout.eips).map(|eip| (Ipv4Addr::new(198, 18, n, eip), true, false)).collect(),
            }));
            let (vswitch, gateways) = (vswitch(n), vec![gateway(n)]);
            world.record(Event::RouteSeen(seen::RouteSeen { vswitch, gateways }));
            world.record(Event::TableOpened(control::TableOpened { table, entries: 0 }));
        }
        world.settle();
        world
    }

    /// The n-th pod comes, and it is known where its address is.
    pub fn come(&mut self, n: u32) {
        let ip = self.address(n);
        self.record(Event::PodSeen(pod(n, ip)));
        self.locate(ip);
    }

    pub fn go(&mut self, n: u32) {
        self.record(Event::PodGone(seen::PodGone { uid: uid(n) }));
    }

    /// One decision, as the machine takes it.
    pub fn decide(&mut self) -> Option<Event> {
        let before = self.state.touched();
        let mut event = None;
        self.cost.allocations += allocation_counter::measure(|| event = self.state.decide(self.now_ms)).count_total;
        self.cost.touched += self.state.touched() - before;
        event
    }

    /// A fact, folded.
    pub fn record(&mut self, event: Event) {
        let record = self.next(event);
        let before = self.state.touched();
        self.cost.allocations += allocation_counter::measure(|| self.state.apply(&record).unwrap()).count_total;
        self.cost.touched += self.state.touched() - before;
        self.cost.events += 1;
        if let Some(kept) = &mut self.kept {
            kept.push(record);
        }
    }

    /// The record that an event becomes.
    pub fn next(&self, event: Event) -> Record {
        let machine_ms = self.now_ms;
        Record { seq: self.state.seq() + 1, term: 1, machine_ms, wall_ms: machine_ms as i64, event }
    }

    /// Decides and carries out until nothing is left to do but to wait.
    pub fn settle(&mut self) {
        loop {
            while let Some(event) = self.decide() {
                self.record(event);
            }
            for change in self.state.take_agenda_changes() {
                match change {
                    Change::Came(Intent::Observe { table }) => drop(self.looks.insert(table)),
                    Change::Came(intent) => self.wanted.push_back(intent),
                    Change::Went(_) => {}
                }
            }
            if let Some(intent) = self.wanted.pop_front() {
                if self.state.agenda().rests_on(&intent).is_some() {
                    self.carry_out(&intent);
                }
            } else if let Some(table) = self.looks.pop_first() {
                self.look(&table);
            } else {
                return;
            }
        }
    }

    fn address(&self, n: u32) -> Ipv4Addr {
        let (zone, host) = (n % u32::from(self.layout.gateways), n / u32::from(self.layout.gateways));
        Ipv4Addr::from(u32::from(Ipv4Addr::new(172, 16 + zone as u8, 0, 0)) + host + 1)
    }

    fn locate(&mut self, ip: Ipv4Addr) {
        let vswitch = vswitch(ip.octets()[1] - 16);
        // One interface for 50 pods, as on a node with one that is shared.
        let eni = format!("eni-bp1a7d2f9k3m5p{:06x}", u32::from(ip) / 50);
        self.record(Event::AddressSeen(seen::AddressSeen { ip, eni, vswitch, zone: "cn-hangzhou-j".into() }));
    }

    fn carry_out(&mut self, intent: &Intent) {
        match intent {
            Intent::Locate { ip, .. } => self.locate(*ip),
            Intent::WriteClaim { allocation, revision } => {
                let uid = format!("9d0c0c1e-77aa-4f0e-9d53-{:012x}", allocation.stamp().n);
                let (allocation, revision) = ((*allocation).into(), *revision);
                self.record(Event::ClaimWritten(outcome::ClaimWritten { allocation, revision, uid }));
            }
            Intent::Bind { table, allocation, generation } => {
                self.entries += 1;
                let entry = format!("fwd-bp1h8r5t2{:012x}", self.entries);
                self.record(Event::EntryCreated(outcome::EntryCreated {
                    allocation: (*allocation).into(),
                    generation: (*generation).into(),
                    entry: entry.clone(),
                }));
                let known = self.state.allocation(*allocation).unwrap();
                let item = known.items().iter().find(|item| item.generation() == *generation).unwrap();
                let tuple = known.tuple(item);
                let cluster = self.state.settings().unwrap().cluster();
                self.record(Event::EntrySeen(seen::EntrySeen {
                    table: table.as_str().into(),
                    entry,
                    name: Mark::new(cluster, known.pod(), *allocation, *generation).to_string(),
                    external_ip: tuple.external_ip,
                    external_ports: (tuple.external_port, tuple.external_port),
                    internal_ip: tuple.internal_ip,
                    internal_ports: (tuple.internal_port, tuple.internal_port),
                    protocol: tuple.protocol.number(),
                    status: 1,
                }));
            }
            Intent::Unbind { table, entry } => {
                self.deleted.entry(table.clone()).or_default().push(entry.clone());
                let (table, entry) = (table.as_str().into(), entry.as_str().into());
                self.record(Event::EntryDeleted(outcome::EntryDeleted { table, entry }));
            }
            Intent::Publish { allocation, revision } => {
                let (allocation, revision) = ((*allocation).into(), *revision);
                self.record(Event::StatusWritten(outcome::StatusWritten { allocation, revision }));
            }
            Intent::Withdraw { allocation } => {
                self.record(Event::StatusWithdrawn(outcome::StatusWithdrawn { allocation: (*allocation).into() }));
            }
            Intent::ReleaseClaim { allocation } => {
                self.record(Event::ClaimReleased(outcome::ClaimReleased { allocation: (*allocation).into() }));
            }
            Intent::MarkPod { pod, note } => {
                let note = (note.phase.number(), note.reason, note.allocation.into(), note.content);
                self.record(Event::PodMarked(outcome::PodMarked { pod: pod.as_str().into(), note }));
            }
            Intent::Forgo { allocation, generation } => {
                let (allocation, generation) = ((*allocation).into(), (*generation).into());
                self.record(Event::EntryNeverSent(outcome::EntryNeverSent { allocation, generation }));
            }
            Intent::Observe { .. } | Intent::DropClaim { .. } => panic!("{intent:?} is not of this world"),
        }
    }

    /// A complete listing, begun and ended now.
    fn look(&mut self, table: &TableId) {
        let (began_seq, began_ms, name) = (self.state.seq(), self.now_ms, table.as_str().to_owned());
        let missing = self.deleted.remove(table).unwrap_or_default();
        if !missing.is_empty() {
            let absent = self.state.absence_matters(table, &missing, began_seq, began_ms);
            let missing: BTreeSet<EntryId> = missing.into_iter().collect();
            let absent = absent.into_iter().filter(|(_, id)| id.as_ref().is_some_and(|id| missing.contains(id)));
            let generations: Vec<(u64, u64)> = absent.map(|(generation, _)| generation.into()).collect();
            // As many as fit a record.
            for generations in generations.chunks(256) {
                let generations = generations.to_vec();
                let (table, began_ms) = (name.clone(), began_ms);
                self.record(Event::EntriesMissed(seen::EntriesMissed { table, began_ms, generations }));
            }
        }
        self.record(Event::TableListed(seen::TableListed { table: name, began_seq, began_ms, entries: 0 }));
        if self.state.is_awaited(table, self.now_ms) {
            self.looks.insert(table.clone());
        }
    }
}

/// A cluster of so many pods, all of them mapped.
pub fn mapped(pods: u32, kept: Option<Vec<Record>>) -> World {
    let mut world = World::new(crate::LAYOUT, kept);
    for n in 0..pods {
        world.come(n);
        world.settle();
    }
    world
}

fn gateway(n: u8) -> String {
    format!("ngw-bp1uewa15k4iy5770ea{n}")
}

fn vswitch(n: u8) -> String {
    format!("vsw-bp1s5fnvk4gn2tws030{n}")
}

fn uid(n: u32) -> String {
    format!("6ab1f3d2-0d5e-4c7b-8e19-{n:012x}")
}

/// One of a StatefulSet of 1,000, as a game runs them.
fn pod(n: u32, ip: Ipv4Addr) -> seen::PodSeen {
    let (set, ordinal) = (n / 1_000, n % 1_000);
    let annotation = |name: &str, value: &str| (format!("k8s.aliyun.com/{name}"), value.to_owned());
    seen::PodSeen {
        namespace: "game".into(),
        name: format!("battle-{set}-{ordinal}"),
        uid: uid(n),
        ip: Some(ip),
        annotations: vec![annotation("pod-dnat", ""), annotation("pod-dnat-expose-port", "7777,8888")],
        owner: Some((
            "apps/v1".into(),
            "StatefulSet".into(),
            format!("battle-{set}"),
            format!("c1d86a0b-2f47-4f3a-a1c5-{set:012x}"),
        )),
        ..seen::PodSeen::default()
    }
}
