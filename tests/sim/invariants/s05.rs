//! S5 Barrier: no call changes a table before its term has read all pods, all claims, and that table, completely, after it
//! won.

use std::collections::{BTreeMap, BTreeSet};

use natgw::machine::event::Event;
use natgw::machine::identity::{EntryId, TableId};

use super::{Happening, Invariant, Look};
use crate::wire::What;

#[derive(Default)]
struct Barrier {
    terms: BTreeMap<u64, Read>,
    /// Which life each replica is in.
    lives: BTreeMap<usize, u64>,
}

/// What a life has read since it won.
#[derive(Default)]
struct Read {
    won: bool,
    pods: bool,
    claims: bool,
    tables: BTreeSet<TableId>,
    /// Entries on the pages of each table so far, each once, and the total that the first page names.
    pages: BTreeMap<TableId, (BTreeSet<EntryId>, u32)>,
}

pub(super) fn make() -> Box<dyn Invariant> {
    Box::new(Barrier::default())
}

impl Invariant for Barrier {
    fn look(&mut self, look: &Look<'_>, found: &mut Vec<String>) {
        for happening in look.happened {
            match happening {
                Happening::Opened { replica, life, .. } => drop(self.lives.insert(*replica, *life)),
                Happening::Handed { replica, records } => {
                    if records.iter().any(|record| matches!(record.event, Event::TermStarted(_))) {
                        let life = self.lives.get(replica).copied().unwrap_or(0);
                        self.terms.insert(life, Read { won: true, ..Read::default() });
                    }
                }
                Happening::Durable { .. } | Happening::Started { .. } | Happening::Stopped { .. } => {}
            }
        }
        for call in look.calls {
            let read = self.terms.entry(call.life).or_default();
            match &call.what {
                What::PodsListed => read.pods = read.won,
                What::ClaimsListed => read.claims = read.won,
                What::Listed(table, page, entries, total) => {
                    let pages = read.pages.entry(table.clone()).or_default();
                    if *page == 1 {
                        *pages = (BTreeSet::new(), *total);
                    }
                    pages.0.extend(entries.iter().cloned());
                    if read.won && pages.1 == *total && pages.0.len() >= *total as usize {
                        read.tables.insert(table.clone());
                    }
                }
                What::Create(request) => read.check(&request.table, found),
                What::Delete(request) => read.check(&request.table, found),
                What::CreateClaim(_)
                | What::ReplaceClaim(_)
                | What::Publish(_)
                | What::DeleteClaim(..)
                | What::StripFinalizer(_)
                | What::MarkPod(_)
                | What::Announce
                | What::WroteOver(..)
                | What::WroteLease(..) => {}
            }
        }
    }
}

impl Read {
    fn check(&self, table: &TableId, found: &mut Vec<String>) {
        if !(self.won && self.pods && self.claims && self.tables.contains(table)) {
            found.push(format!(
                "{table} was changed by a term that has read: pods {}, claims {}, tables {:?}",
                self.pods, self.claims, self.tables
            ));
        }
    }
}
