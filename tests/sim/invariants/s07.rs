//! S7 OneTerm: a term belongs to one life of one replica; nothing starts that may not end before the lease does.

use std::collections::BTreeMap;

use natgw::machine::event::Event;

use super::{Happening, Invariant, Look};
use crate::faults::Fault;

#[derive(Default)]
struct OneTerm {
    terms: BTreeMap<u64, (usize, u64)>,
    lives: BTreeMap<usize, u64>,
}

pub(super) fn make() -> Box<dyn Invariant> {
    Box::new(OneTerm::default())
}

impl Invariant for OneTerm {
    fn look(&mut self, look: &Look<'_>, found: &mut Vec<String>) {
        let now = look.world.now.get();
        for happening in look.happened {
            match happening {
                Happening::Opened { replica, life, .. } => drop(self.lives.insert(*replica, *life)),
                Happening::Handed { replica, records } => {
                    let life = self.lives.get(replica).copied().unwrap_or(0);
                    for record in records.iter().filter(|record| matches!(record.event, Event::TermStarted(_))) {
                        let who = (*replica, life);
                        let before = self.terms.insert(record.term, who);
                        // A lock that somebody put back has forgotten which terms there were.
                        if before.is_some_and(|before| before != who) && !forgotten(look) {
                            found.push(format!("term {} belongs to {before:?} and {who:?}", record.term));
                        }
                    }
                }
                Happening::Started { replica, effect, lease_until, .. } => {
                    if lease_until.is_none_or(|until| now > until) {
                        found.push(format!("replica {replica} started {effect:?} at {now}, may until {lease_until:?}"));
                    }
                }
                Happening::Durable { .. } | Happening::Stopped { .. } => {}
            }
        }
    }
}

/// Whether somebody put the lock back.
pub(super) fn forgotten(look: &Look<'_>) -> bool {
    let faults = look.world.outside.faults.borrow();
    [Fault::LeaseEdited, Fault::LeaseDeleted, Fault::ApiRestored]
        .iter()
        .any(|fault| faults.counts()[*fault as usize] > 0)
}
