//! L8 InOrder: who waits for room in a table is served before whoever asked later.

use std::collections::BTreeMap;

use natgw::machine::demand::WaitReason;
use natgw::machine::event::{Event, Record};

use super::{Happening, Invariant, Look};
use crate::workload::{GOOD_PORTS, PORTS};

#[derive(Default)]
struct InOrder {
    queues: BTreeMap<usize, Fold>,
}

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
                    let fold = self.queues.entry(*replica).or_default();
                    found.extend(records.iter().filter_map(|record| fold.take(record)));
                }
                Happening::Durable { .. } | Happening::Started { .. } | Happening::Stopped { .. } => {}
            }
        }
    }
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
                drop(self.tables.insert(body.allocation, body.table.clone()))
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
