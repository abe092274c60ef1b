//! S7 OneTerm: a term belongs to one life of one replica; nothing starts that may not end before the lease does, which is
//! counted from the sending of the last renewal that stood.

use std::collections::BTreeMap;

use natgw::machine::event::Event;

use super::{Happening, Invariant, Look};
use crate::plan::TIMING;
use crate::wire::What;

#[derive(Default)]
struct OneTerm {
    /// Whose each term is, and since when.
    terms: BTreeMap<u64, ((usize, u64), u64)>,
    lives: BTreeMap<usize, u64>,
    /// When each life sent the last renewal that stood.
    renewed: BTreeMap<u64, u64>,
}

pub(super) fn make() -> Box<dyn Invariant> {
    Box::new(OneTerm::default())
}

impl Invariant for OneTerm {
    fn look(&mut self, look: &Look<'_>, found: &mut Vec<String>) {
        let now = look.world.now.get();
        for call in look.calls {
            if let What::WroteLease(_, true, sent_ms) = &call.what {
                self.renewed.insert(call.life, *sent_ms);
            }
        }
        for happening in look.happened {
            match happening {
                Happening::Opened { replica, life, .. } => drop(self.lives.insert(*replica, *life)),
                Happening::Handed { replica, records } => {
                    let life = self.lives.get(replica).copied().unwrap_or(0);
                    for record in records.iter().filter(|record| matches!(record.event, Event::TermStarted(_))) {
                        let who = (*replica, life);
                        let Some((before, at_ms)) = self.terms.insert(record.term, (who, now)) else { continue };
                        // A lock that somebody put back has forgotten which terms there were.
                        if before != who && !look.facts.forgotten_since(at_ms) {
                            found.push(format!("term {} belongs to {before:?} and {who:?}", record.term));
                        }
                    }
                }
                Happening::Started { replica, life, effect, lease_until } => {
                    let counted = self.renewed.get(life).is_some_and(|sent_ms| may_start(look, *replica, *sent_ms));
                    if lease_until.is_none_or(|until| now > until) || !counted {
                        let renewed = self.renewed.get(life);
                        found.push(format!(
                            "replica {replica} started {effect:?} at {now}, may until {lease_until:?}, renewed {renewed:?}"
                        ));
                    }
                }
                Happening::Durable { .. } | Happening::Stopped { .. } => {}
            }
        }
    }
}

/// Whether a call may start now that a renewal was sent then, by the replica's own clock.
fn may_start(look: &Look<'_>, replica: usize, sent_ms: u64) -> bool {
    let Some(process) = look.world.replicas[replica].process.as_ref() else { return true };
    let local = |at_ms| process.clock.now(at_ms).monotonic_ms;
    local(look.world.now.get()) <= local(sent_ms) + TIMING.renew_deadline_ms - TIMING.call_timeout_ms()
}
