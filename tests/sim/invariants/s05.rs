//! S5 Barrier: no call changes a table before its term has read all pods, all claims, and that table, completely, after it
//! won; and only a complete listing counts as one.

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
    /// How many entries complete listings of each table showed.
    tables: BTreeMap<TableId, BTreeSet<usize>>,
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
        self.calls(look, found);
        for happening in look.happened {
            if let Happening::Handed { replica, records } = happening {
                let life = self.lives.get(replica).copied().unwrap_or(0);
                let Some(read) = self.terms.get(&life) else { continue };
                found.extend(records.iter().filter_map(|record| read.unread(&record.event)));
            }
        }
    }
}

impl Barrier {
    fn calls(&mut self, look: &Look<'_>, found: &mut Vec<String>) {
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
                        read.tables.entry(table.clone()).or_default().insert(pages.0.len());
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
    /// A listing that counts as complete, though none was that showed as many entries.
    fn unread(&self, event: &Event) -> Option<String> {
        let (table, entries) = match event {
            Event::TableOpened(body) => (&body.table, body.entries),
            Event::TableListed(body) => (&body.table, body.entries),
            _ => return None,
        };
        let whole = self.tables.get(&TableId::from(table.as_str()));
        let seen = whole.is_some_and(|whole| whole.contains(&(entries as usize)));
        (!seen).then(|| format!("{event:?} counts as complete; complete listings showed {whole:?}"))
    }

    fn check(&self, table: &TableId, found: &mut Vec<String>) {
        if !(self.won && self.pods && self.claims && self.tables.contains_key(table)) {
            found.push(format!(
                "{table} was changed by a term that has read: pods {}, claims {}, tables {:?}",
                self.pods, self.claims, self.tables
            ));
        }
    }
}
