//! S4 NothingLost: what was acknowledged is there again at the next opening, byte for byte, or the opening says that
//! history is not continuous.

use std::collections::BTreeMap;

use natgw::machine::event::{Record, codec};

use super::{Happening, Invariant, Look};

#[derive(Default)]
struct NothingLost {
    /// Of each replica: its journal, and a digest of each record of which the step was told that it is durable.
    acknowledged: BTreeMap<usize, ([u8; 16], Vec<blake3::Hash>)>,
    /// Records that are durable, of which the step will be told.
    durable: BTreeMap<usize, Vec<blake3::Hash>>,
}

pub(super) fn make() -> Box<dyn Invariant> {
    Box::new(NothingLost::default())
}

fn digest(record: &Record) -> blake3::Hash {
    blake3::hash(&codec::encode(record).expect("it was encoded before"))
}

impl Invariant for NothingLost {
    fn look(&mut self, look: &Look<'_>, found: &mut Vec<String>) {
        for happening in look.happened {
            match happening {
                Happening::Opened { replica, journal, records, rebased, .. } => {
                    let there: Vec<_> = records.iter().map(digest).collect();
                    let told = self.acknowledged.get(replica);
                    let lost = told.is_some_and(|(_, told)| !there.starts_with(told));
                    let lock = look.world.model.borrow().read_lease();
                    let heads = &lock.heads;
                    let witness = heads.iter().find(|(id, ..)| id == journal).map_or(0, |(_, seq, _)| *seq);
                    // What cannot be detected: volume and anchor put back together, to where the lock last saw them.
                    let rolled_back = look.world.replicas[*replica].rolled_back && there.len() as u64 >= witness;
                    // With the volume empty and the lock forgotten, nobody can know that there was a journal.
                    let begins = there.is_empty() && lock.term == 0;
                    if lost && rebased.is_none() && !rolled_back && !begins {
                        let told = told.map_or(0, |(_, told)| told.len());
                        found.push(format!("replica {replica} acknowledged {told} records, opens {}", there.len()));
                    }
                    let other = told.is_some_and(|(before, told)| before != journal && !told.is_empty());
                    let swapped = look.world.replicas[*replica].rolled_back;
                    if other && rebased.is_none() && !swapped && !begins {
                        found.push(format!("replica {replica} opens another journal and takes it for its own"));
                    }
                    self.acknowledged.insert(*replica, (*journal, there.clone()));
                    self.durable.insert(*replica, there);
                }
                Happening::Durable { replica, records } => {
                    self.durable.entry(*replica).or_default().extend(records.iter().map(digest));
                }
                Happening::Handed { .. } | Happening::Started { .. } | Happening::Stopped { .. } => {}
            }
        }
        for (at, replica) in look.world.replicas.iter().enumerate() {
            let (Some(durable), Some((_, told))) = (self.durable.get(&at), self.acknowledged.get_mut(&at)) else {
                continue;
            };
            let upto = usize::try_from(replica.acknowledged).unwrap_or(usize::MAX).min(durable.len());
            if upto > told.len() {
                told.extend_from_slice(&durable[told.len()..upto]);
            }
        }
    }
}
