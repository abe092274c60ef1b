//! S19 NoReturn: in one journal nothing comes back that has gone: UIDs are used once.

use std::collections::BTreeSet;

use natgw::machine::event::{Event, Record};

use super::{Happening, Invariant, Look};
use crate::faults::Fault;

#[derive(Default)]
struct NoReturn {
    /// Pods and PodDNATs that have gone, of each replica.
    gone: BTreeSet<(usize, String)>,
}

pub(super) fn make() -> Box<dyn Invariant> {
    Box::new(NoReturn::default())
}

impl NoReturn {
    fn take(&mut self, replica: usize, record: &Record) -> Option<String> {
        let uid = match &record.event {
            Event::PodGone(body) => &body.uid,
            Event::ClaimGone(body) => &body.uid,
            Event::PodSeen(body) if self.gone.contains(&(replica, body.uid.clone())) => return Some(body.uid.clone()),
            Event::ClaimSeen(body) if self.gone.contains(&(replica, body.uid.clone())) => {
                return Some(body.uid.clone());
            }
            _ => return None,
        };
        self.gone.insert((replica, uid.clone()));
        None
    }
}

impl Invariant for NoReturn {
    fn look(&mut self, look: &Look<'_>, found: &mut Vec<String>) {
        // A backup brings back what it holds.
        if look.world.outside.faults.borrow().is_on(Fault::ApiRestored) {
            return;
        }
        for happening in look.happened {
            match happening {
                Happening::Opened { replica, records, .. } => {
                    self.gone.retain(|(owner, _)| owner != replica);
                    records.iter().for_each(|record| drop(self.take(*replica, record)));
                }
                Happening::Handed { replica, records } => {
                    for record in records {
                        if let Some(uid) = self.take(*replica, record) {
                            found.push(format!("{uid} had gone, and record {} says that it is there", record.seq));
                        }
                    }
                }
                Happening::Durable { .. } | Happening::Started { .. } | Happening::Stopped { .. } => {}
            }
        }
    }
}
