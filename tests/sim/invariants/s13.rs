//! S13 Published: what a PodDNAT shows is in the table, in effect, with these five; and it is taken back before our own
//! deletion of it begins.

use std::collections::{BTreeMap, BTreeSet};

use natgw::machine::event::Event;
use natgw::machine::identity::{EntryId, PodKey};
use natgw::sandbox::vpc::{Effect, EntryStatus, LedgerLine};

use super::{Happening, Invariant, Look};
use crate::wire::What;

#[derive(Default)]
struct Published {
    seen: (u64, usize),
    shown: BTreeSet<EntryId>,
    /// Which life each replica is in, and which began the latest term.
    lives: BTreeMap<usize, u64>,
    latest: (u64, u64),
    /// Entries that a leader deleted who did not know yet that another had won: who publishes then cannot know either.
    overtaken: BTreeSet<EntryId>,
    /// Entries that such a leader published: who had won could not know of it when it began to delete them.
    published: BTreeSet<EntryId>,
}

pub(super) fn make() -> Box<dyn Invariant> {
    Box::new(Published::default())
}

impl Published {
    fn learn(&mut self, look: &Look<'_>) {
        for happening in look.happened {
            match happening {
                Happening::Opened { replica, life, .. } => drop(self.lives.insert(*replica, *life)),
                Happening::Handed { replica, records } => {
                    let started = records.iter().filter(|record| matches!(record.event, Event::TermStarted(_)));
                    let life = self.lives.get(replica).copied().unwrap_or(0);
                    self.latest = started.map(|record| (record.term, life)).fold(self.latest, Ord::max);
                }
                Happening::Durable { .. } | Happening::Started { .. } | Happening::Stopped { .. } => {}
            }
        }
        for call in look.calls {
            let overtaken = call.life != self.latest.1;
            match &call.what {
                What::Delete(request) if overtaken => drop(self.overtaken.insert(request.entry.clone())),
                What::Publish(publication) => {
                    for entry in publication.mapping.iter().flat_map(|(_, entries)| entries) {
                        match overtaken {
                            true => self.published.insert(entry.clone()),
                            false => self.published.remove(entry),
                        };
                    }
                }
                _ => {}
            }
        }
    }

    /// Whether the one deletes what the other shows, and one of them had been overtaken and did not know it yet.
    fn is_of_two_who_lead(&self, entry: Option<&EntryId>) -> bool {
        entry.is_some_and(|entry| self.overtaken.contains(entry) || self.published.contains(entry))
    }
}

impl Invariant for Published {
    fn look(&mut self, look: &Look<'_>, found: &mut Vec<String>) {
        self.learn(look);
        for line in look.lines {
            let LedgerLine::Effect(line) = line else { continue };
            let by_hand = line.entry.as_ref().and_then(|entry| look.facts.entries.get(entry));
            if line.effect == Effect::Deleting
                && line.entry.as_ref().is_some_and(|entry| self.shown.contains(entry))
                && by_hand.is_none_or(|fate| !fate.by_hand)
                && !(look.facts.two_led_since(line.at_ms) && self.is_of_two_who_lead(line.entry.as_ref()))
            {
                found.push(format!("{:?} was deleted while it was shown: {line:?}", line.entry));
            }
        }
        let seen = (look.world.model.borrow().version(), look.facts.entries.len());
        if self.seen == seen && look.lines.is_empty() {
            return;
        }
        self.seen = seen;
        self.shown.clear();
        let vpc = look.world.vpc.borrow();
        for object in look.world.model.borrow().poddnats() {
            let key = PodKey::new(object.metadata.namespace.as_str(), object.metadata.name.as_str());
            // What somebody wrote into it is not ours until it is written again.
            let left = look.facts.statuses_left.get(&key) == Some(&object.status.entries);
            if left || look.facts.edited.contains_key(&key) {
                continue;
            }
            for shown in &object.status.entries {
                let id = EntryId::from(shown.forward_entry_id.as_str());
                self.shown.insert(id.clone());
                // One of two who lead for a moment may publish what the other, who cannot know it, just deletes.
                let of_two = self.published.contains(&id) && look.facts.two_led_since(look.world.now.get());
                let by_hand = look.facts.entries.get(&id).is_some_and(|fate| fate.by_hand);
                if by_hand || of_two || self.overtaken.contains(&id) {
                    continue;
                }
                let entry = vpc.entry(&id);
                let right = entry.is_some_and(|entry| {
                    entry.status == EntryStatus::Available
                        && super::s06::tuple(&entry.spec).is_some_and(|five| {
                            five.external_ip.to_string() == shown.external_ip
                                && five.external_port.to_string() == shown.external_port
                                && five.internal_ip.to_string() == shown.internal_ip
                                && five.internal_port.to_string() == shown.internal_port
                                && five.protocol.as_str() == shown.ip_protocol
                        })
                });
                if !right {
                    found.push(format!("{key} shows {shown:?}, there is {entry:?}"));
                }
            }
        }
    }
}
