//! S12 Canary: what stands in a pod and is nobody's business is in no record, no mark, no claim and no note.

use natgw::machine::event::codec;

use super::{Happening, Invariant, Look};
use crate::workload::CANARY;

struct Canary;

pub(super) fn make() -> Box<dyn Invariant> {
    Box::new(Canary)
}

fn sings(bytes: &[u8]) -> bool {
    bytes.windows(CANARY.len()).any(|window| window == CANARY.as_bytes())
}

impl Invariant for Canary {
    fn look(&mut self, look: &Look<'_>, found: &mut Vec<String>) {
        for happening in look.happened {
            if let Happening::Handed { replica, records } = happening {
                for record in records {
                    if codec::encode(record).is_ok_and(|bytes| sings(&bytes)) {
                        found
                            .push(format!("record {} of replica {replica} says what is nobody's business", record.seq));
                    }
                }
            }
        }
        for call in look.calls.iter().filter(|call| call.what.mutates()) {
            if sings(format!("{:?}", call.what).as_bytes()) {
                found.push(format!("a call says what is nobody's business: {:?}", call.what));
            }
        }
    }
}
