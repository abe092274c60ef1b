//! S10 Contiguous: in each journal numbers follow each other without a gap, and terms never fall.

use std::collections::BTreeMap;

use natgw::machine::event::Record;

use super::{Happening, Invariant, Look};

#[derive(Default)]
struct Contiguous {
    /// The last number and term of each replica.
    last: BTreeMap<usize, (u64, u64)>,
}

pub(super) fn make() -> Box<dyn Invariant> {
    Box::new(Contiguous::default())
}

impl Contiguous {
    fn take(&mut self, replica: usize, records: &[Record], found: &mut Vec<String>) {
        for record in records {
            let (seq, term) = self.last.insert(replica, (record.seq, record.term)).unwrap_or_default();
            if record.seq != seq + 1 || record.term < term {
                found.push(format!(
                    "replica {replica}: {} of term {} after {seq} of term {term}",
                    record.seq, record.term
                ));
            }
        }
    }
}

impl Invariant for Contiguous {
    fn look(&mut self, look: &Look<'_>, found: &mut Vec<String>) {
        for happening in look.happened {
            match happening {
                Happening::Opened { replica, records, .. } => {
                    self.last.remove(replica);
                    self.take(*replica, records, found);
                }
                Happening::Handed { replica, records } => self.take(*replica, records, found),
                Happening::Durable { .. } | Happening::Started { .. } | Happening::Stopped { .. } => {}
            }
        }
    }
}
