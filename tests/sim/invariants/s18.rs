//! S18 Compared: a PodDNAT is written only over the version that was read: what somebody wrote meanwhile is not lost.

use super::{Invariant, Look};
use crate::wire::What;

struct Compared;

pub(super) fn make() -> Box<dyn Invariant> {
    Box::new(Compared)
}

impl Invariant for Compared {
    fn look(&mut self, look: &Look<'_>, found: &mut Vec<String>) {
        for call in look.calls {
            let What::WroteOver(key, read, there) = &call.what else { continue };
            if there.as_ref() != Some(read) {
                found.push(format!("{key} was read at version {read} and written over {there:?}"));
            }
        }
    }
}
