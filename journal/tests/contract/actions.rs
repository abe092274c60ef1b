//! What can be done to a journal, drawn.

use natgw_journal::ENTRY_BYTES_MAX;

use super::support::Draw;

#[derive(Clone, Debug)]
pub(super) enum Action {
    /// Entries by length and byte.
    Append(Vec<(usize, u8)>),
    /// A group that must be refused.
    Refused(Vec<usize>),
    Settle,
    Close,
    Crash,
    /// A snapshot of everything so far; or one that is begun and let go.
    Snapshot {
        finished: bool,
    },
    /// So many steps, keeping so many snapshots.
    Prune {
        keep: usize,
        steps: usize,
    },
    /// From a place among all entries, in 256ths.
    Read(u8),
    /// A view that stays, in the place of the one before.
    Look,
    LookAway,
    Export,
}

pub(super) fn actions(draw: &mut Draw) -> Vec<Action> {
    let count = 4 + draw.index(32);
    (0..count).map(|_| action(draw)).collect()
}

fn action(draw: &mut Draw) -> Action {
    match draw.below(32) {
        0..12 => Action::Append((0..=draw.index(30)).map(|_| (length(draw), draw.next() as u8)).collect()),
        12 => Action::Refused(match draw.below(4) {
            0 => vec![],
            1 => vec![1, 0, 1],
            2 => vec![ENTRY_BYTES_MAX + 1],
            _ => vec![1; 4097],
        }),
        13..15 => Action::Settle,
        15..17 => Action::Close,
        17..19 => Action::Crash,
        19..24 => Action::Snapshot { finished: draw.below(4) > 0 },
        24..28 => Action::Prune { keep: draw.index(3), steps: 1 + draw.index(40) },
        28 => Action::Read(draw.next() as u8),
        29 => Action::Look,
        30 => Action::LookAway,
        _ => Action::Export,
    }
}

fn length(draw: &mut Draw) -> usize {
    match draw.below(8) {
        0 => 1 + draw.index(ENTRY_BYTES_MAX),
        1 => ENTRY_BYTES_MAX,
        _ => 1 + draw.index(80),
    }
}
