//! S21 ShortDisk: while a journal's disk is short nothing new is allocated.

use std::collections::BTreeSet;

use natgw::machine::event::Event;

use super::{Happening, Invariant, Look};

#[derive(Default)]
struct ShortDisk {
    /// Replicas whose records say that their disk is short.
    short: BTreeSet<usize>,
    /// Releases decided meanwhile.
    released: u64,
}

pub(super) fn make() -> Box<dyn Invariant> {
    Box::new(ShortDisk::default())
}

impl ShortDisk {
    fn fold(&mut self, replica: usize, event: &Event) -> Option<String> {
        match event {
            Event::RoomSeen(room) if room.short => drop(self.short.insert(replica)),
            Event::RoomSeen(_) | Event::Rebased(_) => drop(self.short.remove(&replica)),
            Event::ReleaseDecided(_) => self.released += u64::from(self.short.contains(&replica)),
            Event::Allocated(body) if self.short.contains(&replica) => {
                return Some(format!("replica {replica} allocated {body:?} while its disk was short"));
            }
            Event::ItemsChanged(body) if !body.added.is_empty() && self.short.contains(&replica) => {
                return Some(format!("replica {replica} gave ports, {body:?}, while its disk was short"));
            }
            _ => {}
        }
        None
    }
}

impl Invariant for ShortDisk {
    fn look(&mut self, look: &Look<'_>, found: &mut Vec<String>) {
        for happening in look.happened {
            match happening {
                Happening::Opened { replica, records, .. } => {
                    self.short.remove(replica);
                    for record in records {
                        drop(self.fold(*replica, &record.event));
                    }
                }
                Happening::Handed { replica, records } => {
                    found.extend(records.iter().filter_map(|record| self.fold(*replica, &record.event)));
                }
                Happening::Durable { .. } | Happening::Started { .. } | Happening::Stopped { .. } => {}
            }
        }
    }

    fn figures(&self) -> Vec<(&'static str, u64)> {
        vec![("releases on a short disk", self.released)]
    }
}
