//! What a leader would leave as it is, because it is somebody else's, and why.

use serde::Serialize;

use crate::machine::demand::WaitReason;
use crate::machine::identity::Mark;
use crate::machine::state::{Listed, State, Stray};

/// Something that stays as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Left {
    /// `entry` or `poddnat`.
    pub what: &'static str,
    /// The table, or the PodDNAT.
    pub subject: String,
    /// What exactly.
    pub detail: String,
    /// Why.
    pub why: &'static str,
}

/// Entries that are not ours, and PodDNATs of another controller.
pub(super) fn alone(state: &State) -> Vec<Left> {
    let entries = state.tables().flat_map(|(table, _)| {
        let listed = state.listed(table).map(move |(id, listed)| (table, id, listed));
        listed.filter_map(move |(table, id, listed)| {
            let Listed::Stray(stray) = listed else { return None };
            let why = why(state, stray)?;
            Some(Left { what: "entry", subject: table.to_string(), detail: format!("{id}: {}", tuple(stray)), why })
        })
    });
    let halted = state.halted().is_some();
    let why = if halted { WaitReason::OtherController } else { WaitReason::NotAdopted }.sentence();
    let claims = state.claims_of_others().map(|(key, uid)| Left {
        what: "poddnat",
        subject: key.to_string(),
        detail: format!("the PodDNAT of UID {uid}"),
        why,
    });
    entries.chain(claims).collect()
}

fn why(state: &State, stray: &Stray) -> Option<&'static str> {
    match (stray.is_marked(), stray.is_stale(), state.halted()) {
        (false, ..) => Some("it is not ours: it carries no mark of this cluster, and was not adopted by its id"),
        (true, false, Some(_)) => Some("it carries our mark, and nothing is decided about it for now"),
        (true, false, None) => Some("it carries our mark and stands for nothing, and repairPolicy is observe"),
        (true, true, _) => None,
    }
}

fn tuple(stray: &Stray) -> String {
    let name = if stray.name().is_empty() { String::new() } else { format!(" ({:?})", stray.name()) };
    let marked = Mark::parse(stray.name()).is_some();
    format!("{}{}", stray.endpoints(), if marked { String::new() } else { name })
}
