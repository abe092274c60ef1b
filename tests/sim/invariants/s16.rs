//! S16 Watched: in the first minutes of a term a table is listed often enough to find what lands late (design.md §2.5).
//!
//! Judged in a calm world, where nothing keeps a leader from it.

use std::collections::BTreeMap;

use natgw::machine::event::Event;
use natgw::machine::identity::TableId;

use super::{Happening, Invariant, Look};
use crate::wire::What;

/// Between two listings: 15 s by a clock that is a tenth too slow, and the time that a listing takes.
const APART_MS: u64 = 30_000;

/// How long, by a clock that is a tenth too fast.
const WATCHED_MS: u64 = 13 * 60_000;

#[derive(Default)]
struct Watched {
    /// Since when the leader has had to list each table, in a calm world.
    needed: BTreeMap<(usize, TableId), u64>,
    /// When each replica's last term began.
    won: BTreeMap<usize, u64>,
    /// When each table was last listed, of each replica.
    listed: BTreeMap<(usize, TableId), u64>,
    longest_ms: u64,
}

pub(super) fn make() -> Box<dyn Invariant> {
    Box::new(Watched::default())
}

impl Invariant for Watched {
    fn look(&mut self, look: &Look<'_>, found: &mut Vec<String>) {
        let now = look.world.now.get();
        for happening in look.happened {
            match happening {
                Happening::Opened { replica, .. } => {
                    self.won.remove(replica);
                    self.listed.retain(|(listed, _), _| listed != replica);
                }
                Happening::Handed { replica, records } => {
                    if records.iter().any(|record| matches!(record.event, Event::TermStarted(_))) {
                        self.won.insert(*replica, now);
                    }
                }
                Happening::Durable { .. } | Happening::Started { .. } | Happening::Stopped { .. } => {}
            }
        }
        for call in look.calls {
            if let What::Listed(table, 1, ..) = &call.what {
                self.listed.insert((call.replica, table.clone()), call.at_ms);
            }
        }
        if !look.world.calm {
            return;
        }
        let Some(leader) = look.world.leader() else { return };
        let Some(state) = look.world.state() else { return };
        if self.won.get(&leader).is_none_or(|won| now > won + WATCHED_MS) {
            return;
        }
        let needed: Vec<_> = state.tables_needed().into_iter().filter(|table| state.is_open(table)).collect();
        // A gateway may vanish and come back, and its table with it.
        self.needed.retain(|(replica, table), _| *replica == leader && needed.contains(table));
        for table in needed {
            let key = (leader, table.clone());
            let since_ms = *self.needed.entry(key.clone()).or_insert(now);
            let listed_ms = self.listed.get(&key).copied().unwrap_or(0).max(since_ms);
            self.longest_ms = self.longest_ms.max(now - listed_ms);
            if now > listed_ms + APART_MS {
                found.push(format!("{table} was not listed for {} ms, and something may land late", now - listed_ms));
            }
        }
    }

    fn figures(&self) -> Vec<(&'static str, u64)> {
        vec![("longest pause between listings for late effects ms", self.longest_ms)]
    }
}
