//! L8 InOrder: who waits for room in a table is served before whoever asked later, and nobody waits at rest while there is
//! room for the first.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use natgw::machine::demand::WaitReason;
use natgw::machine::event::{Event, Record};
use natgw::machine::state::State;
use natgw::sandbox::vpc::NatGateway;

use super::{Facts, Happening, Invariant, Look};
use crate::plan::COOLDOWN_MS;
use crate::workload::{GOOD_PORTS, PORTS};
use crate::world::World;

/// Cool-downs and what follows from their ends are over.
const RESTED_MS: u64 = 2 * COOLDOWN_MS;

#[derive(Default)]
struct InOrder {
    queues: BTreeMap<usize, Fold>,
    /// When a record last freed something, of any replica.
    freed_ms: u64,
    /// Queues of worlds at rest that were looked at.
    judged: u64,
}

/// Protocol and port.
type Port = (u8, u16);

/// Who waits for room, as the records of one journal say: by table, the pods with their arrival.
#[derive(Default)]
struct Fold {
    /// The first record in which a pod asks, or asks again after it had asked for nothing or for nonsense.
    arrivals: BTreeMap<String, u64>,
    waiting: BTreeMap<String, BTreeMap<u64, String>>,
    /// The table of each allocation: the next pod of a reserved name asks the same one for its entries.
    tables: BTreeMap<(u64, u64), String>,
}

pub(super) fn make() -> Box<dyn Invariant> {
    Box::new(InOrder::default())
}

impl Invariant for InOrder {
    fn look(&mut self, look: &Look<'_>, found: &mut Vec<String>) {
        for happening in look.happened {
            match happening {
                Happening::Opened { replica, records, .. } => {
                    let mut fold = Fold::default();
                    records.iter().for_each(|record| drop(fold.take(record)));
                    self.queues.insert(*replica, fold);
                }
                Happening::Handed { replica, records } => {
                    if records.iter().any(frees) {
                        self.freed_ms = look.world.now.get();
                    }
                    let fold = self.queues.entry(*replica).or_default();
                    found.extend(records.iter().filter_map(|record| fold.take(record)));
                }
                Happening::Durable { .. } | Happening::Started { .. } | Happening::Stopped { .. } => {}
            }
        }
    }

    fn rest(&mut self, world: &World, _: &Facts, found: &mut Vec<String>) {
        let (Some(leader), Some(state)) = (world.leader(), world.state()) else { return };
        let Some(fold) = self.queues.get(&leader) else { return };
        if world.now.get() < self.freed_ms + RESTED_MS {
            return;
        }
        let vpc = world.vpc.borrow();
        for gateway in &vpc.world().gateways {
            let queue = fold.waiting.get(gateway.table.as_str());
            let Some((_, uid)) = queue.and_then(BTreeMap::first_key_value) else { continue };
            self.judged += 1;
            let entries = vpc.entries(&gateway.table).count();
            let Some((needs, fits)) = fits(world, state, gateway, uid) else { continue };
            if fits && entries + needs <= world.plan.behaviour.entry_quota as usize {
                found.push(format!("{uid} waits in {} for {needs} ports, and there is room", gateway.table));
            }
        }
    }

    fn figures(&self) -> Vec<(&'static str, u64)> {
        vec![("queues at rest", self.judged)]
    }
}

/// Whether a record may free ports or room.
fn frees(record: &Record) -> bool {
    matches!(
        record.event,
        Event::Rebased(_)
            | Event::TermStarted(_)
            | Event::ClaimReleased(_)
            | Event::FixedMoved(_)
            | Event::ItemMoved(_)
            | Event::ItemsChanged(_)
            | Event::Configured(_)
    )
}

/// How many entries a pod needs, and whether one address of its gateway has the ports for it: by what the allocations hold
/// and the table has.
fn fits(world: &World, state: &State, gateway: &NatGateway, uid: &str) -> Option<(usize, bool)> {
    let model = world.model.borrow();
    let pod = model.pods().find(|pod| pod.uid == uid)?;
    let ports = pod.annotations.get("k8s.aliyun.com/pod-dnat-expose-port")?.as_str();
    let both = ports == "53/udp,53/tcp";
    let needs = ports.split(',').count();
    let pool = world.plan.configuration.pools.iter().find(|pool| pool.gateway.as_str() == gateway.id.as_str())?;
    let held = held(world, state);
    let free = |address: Ipv4Addr, protocol: u8, port: u16| !held.contains(&(address, (protocol, port)));
    let fits = gateway.eips.iter().any(|eip| {
        let numbers =
            (pool.first..=pool.last).filter(|port| !pool.excluded.iter().any(|(a, b)| (a..=b).contains(&port)));
        let room = numbers.filter(|port| free(eip.address, 6, *port) && (!both || free(eip.address, 17, *port)));
        room.count() >= if both { 1 } else { needs }
    });
    Some((needs, fits))
}

/// Every external port that some allocation or some entry holds.
fn held(world: &World, state: &State) -> BTreeSet<(Ipv4Addr, Port)> {
    let vpc = world.vpc.borrow();
    let entries = vpc.world().gateways.iter().flat_map(|gateway| vpc.entries(&gateway.table));
    let entries = entries.filter_map(|entry| super::tuple(&entry.spec));
    let entries = entries.map(|five| (five.external_ip, (five.protocol.number(), five.external_port)));
    let given = state.allocations().flat_map(|(_, allocation)| {
        let port = |item: &natgw::machine::state::Item| (item.want().protocol.number(), item.external());
        allocation.items().iter().map(move |item| (allocation.eip(), port(item)))
    });
    entries.chain(given).collect()
}

impl Fold {
    fn leave(&mut self, pod: &str) {
        self.waiting.values_mut().for_each(|queue| queue.retain(|_, other| other != pod));
    }

    /// A pod got what it waited for: nobody who came earlier may wait for the same table.
    fn served(&mut self, pod: &str, allocation: (u64, u64), seq: u64) -> Option<String> {
        self.leave(pod);
        let mine = self.arrivals.get(pod).copied().unwrap_or(u64::MAX);
        let queue = self.tables.get(&allocation).and_then(|table| self.waiting.get(table));
        let first = queue.and_then(|queue| queue.first_key_value()).filter(|(arrival, _)| **arrival < mine);
        first
            .map(|(arrival, before)| format!("{pod} of {mine} is served, and {before} of {arrival} waits, event {seq}"))
    }

    fn take(&mut self, record: &Record) -> Option<String> {
        match &record.event {
            Event::Rebased(body) if body.anew => *self = Self::default(),
            Event::PodSeen(body) => {
                // A pod that is seen anew may ask for something else, and is decided about again.
                self.leave(&body.uid);
                let says = |key: &str| {
                    body.annotations.iter().find(|(name, _)| name.ends_with(key)).map(|(_, value)| value.as_str())
                };
                let good = says("/pod-dnat-expose-port").is_some_and(|ports| PORTS[..GOOD_PORTS].contains(&ports));
                let asks = good && says("/pod-dnat") == Some("");
                if asks {
                    self.arrivals.entry(body.uid.clone()).or_insert(record.seq);
                } else {
                    self.arrivals.remove(&body.uid);
                }
            }
            Event::PodGone(body) => {
                self.leave(&body.uid);
                self.arrivals.remove(&body.uid);
            }
            Event::Refused(body) => self.leave(&body.pod),
            Event::Waited(body) => {
                self.leave(&body.pod);
                let room = [WaitReason::NoFreePorts.number(), WaitReason::TableFull.number()].contains(&body.reason);
                if let (Some(table), Some(arrival), true) = (&body.table, self.arrivals.get(&body.pod), room) {
                    self.waiting.entry(table.clone()).or_default().insert(*arrival, body.pod.clone());
                }
            }
            Event::Recovered(body) | Event::Adopted(body) => {
                // A pod whose claim was found has what it waited for.
                self.leave(&body.pod);
                self.tables.insert(body.allocation, body.table.clone());
            }
            Event::Allocated(body) => {
                self.tables.insert(body.allocation, body.table.clone());
                return self.served(&body.pod, body.allocation, record.seq);
            }
            Event::FixedBound(body) => return self.served(&body.pod, body.allocation, record.seq),
            _ => {}
        }
        None
    }
}
