//! S11 Bounded: groups, records and calls under way stay within their limits.

use natgw::machine::event::codec;

use super::{Happening, Invariant, Look};
use crate::faults::Fault;
use crate::replica::Kind;

/// Records in one group.
const GROUP_MAX: usize = 1_024;

/// Writes to the API server under way at once.
const WRITES_MAX: usize = 16;

/// Calls to the cloud under way at once: those of two tables.
const CALLS_MAX: usize = 2 * natgw::controller::lanes::CALLS_MAX as usize;

struct Bounded;

pub(super) fn make() -> Box<dyn Invariant> {
    Box::new(Bounded)
}

impl Invariant for Bounded {
    fn look(&mut self, look: &Look<'_>, found: &mut Vec<String>) {
        for happening in look.happened {
            match happening {
                Happening::Handed { replica, records } => {
                    if records.is_empty() || records.len() > GROUP_MAX {
                        found.push(format!("replica {replica} handed over {} records", records.len()));
                    }
                    for record in records {
                        let bytes = codec::encode(record).map_or(usize::MAX, |bytes| bytes.len());
                        if bytes > codec::RECORD_BYTES_MAX {
                            found.push(format!("record {} has {bytes} bytes", record.seq));
                        }
                    }
                }
                Happening::Started { replica, .. } => {
                    let Some(process) = look.world.replicas[*replica].process.as_ref() else { continue };
                    let count = |kind: Kind| process.flights.iter().filter(|flight| flight.kind == kind).count();
                    let (writes, calls) = (count(Kind::Cluster), count(Kind::Cloud));
                    if writes == WRITES_MAX {
                        look.world.outside.faults.borrow_mut().happened(Fault::WritesFull, 1);
                    }
                    if writes > WRITES_MAX || calls > CALLS_MAX {
                        found.push(format!("replica {replica} has {writes} writes and {calls} calls under way"));
                    }
                }
                Happening::Opened { .. } | Happening::Durable { .. } | Happening::Stopped { .. } => {}
            }
        }
    }
}
