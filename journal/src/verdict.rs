//! What an opening finds: compares the tip of the data with the anchor and with heads known elsewhere. Decides nothing
//! about what to do then.

use std::fmt;

use crate::anchor::Anchor;
use crate::frame::Tip;
use crate::reader::{self, Broken, Entries};
use crate::snapshot::Snapshot;
use crate::store::{ReadFrames, RefusedBy};
use crate::{Error, Head, JournalId};

/// Whether a journal is whole, and if not, what is known of the damage.
///
/// Ranges are of sequence numbers, both ends included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The data reach as far as the anchor, or one unacknowledged group farther.
    Intact,
    /// The data end before the last group, whose syncs had begun. It may have been acknowledged.
    LastGroupUnconfirmed {
        /// First entry of the missing group.
        from: u64,
        /// Its last entry.
        to: u64,
    },
    /// Entries are missing that had been acknowledged. Later ones than `to` may be missing too.
    HistoryLost {
        /// First missing entry.
        from: u64,
        /// Last entry known to have existed.
        to: u64,
    },
    /// The data are more than one group ahead of the anchor: an older anchor came back.
    AnchorStale {
        /// How far the anchor knows the journal.
        anchor: Head,
        /// How far the data reach.
        head: Head,
    },
    /// There are data and no anchor, so whether the data are whole cannot be said.
    AnchorLost,
    /// No part of the anchor can be believed, so whether the data are whole cannot be said.
    AnchorDamaged {
        /// What is wrong with it.
        reason: String,
    },
    /// The data do not belong to the anchor, or not to a head known elsewhere.
    Foreign {
        /// Whose data were expected.
        expected: JournalId,
        /// Whose data were found; if the same, the histories differ.
        found: JournalId,
        /// Where the histories differ at the latest; 0 if they are of two journals.
        seq: u64,
    },
    /// The data cannot be opened at all, or the disk does not give them back.
    Unreadable {
        /// What the store or the system said.
        reason: String,
        /// First and last entry that cannot be read, as far as the anchor or a head known elsewhere tells; `None` if
        /// neither knows of any.
        lost: Option<(u64, u64)>,
    },
    /// The data open, but an entry cannot be read or is not what was written.
    EntryDamaged {
        /// First entry that cannot be read.
        from: u64,
        /// Last entry known to have existed; at least `from`.
        to: u64,
        /// What is wrong.
        reason: String,
    },
}

impl Verdict {
    /// Whether the whole history is there.
    #[must_use]
    pub fn is_intact(&self) -> bool {
        *self == Self::Intact
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Intact => f.write_str("the journal is intact"),
            Self::LastGroupUnconfirmed { from, to } => {
                write!(f, "entries {from} to {to}, the last group, are missing and may have been acknowledged")
            }
            Self::HistoryLost { from, to } => {
                write!(f, "entries {from} to {to} are lost, later ones perhaps too")
            }
            Self::AnchorStale { anchor, head } => write!(
                f,
                "the anchor ends at entry {}, more than one group before the data, which end at entry {}: it is an older one",
                anchor.seq, head.seq
            ),
            Self::AnchorLost => f.write_str("the anchor is missing, so entries after the last one found may be lost"),
            Self::AnchorDamaged { reason } => {
                write!(f, "the anchor is damaged ({reason}), so entries after the last one found may be lost")
            }
            Self::Foreign { expected, found, seq } if expected == found => {
                write!(f, "the data are another history of journal {expected}, different at entry {seq} or before")
            }
            Self::Foreign { expected, found, .. } => write!(f, "the data are of journal {found}, expected {expected}"),
            Self::Unreadable { reason, lost: Some((from, to)) } => {
                write!(f, "entries {from} to {to} cannot be read: {reason}")
            }
            Self::Unreadable { reason, lost: None } => {
                write!(f, "the data cannot be read: {reason}")
            }
            Self::EntryDamaged { from, to, reason } => {
                write!(f, "entries {from} to {to} are damaged: {reason}")
            }
        }
    }
}

impl Verdict {
    /// What is to be said of data that the disk, or the store, does not give back, of which `known` entries are known
    /// elsewhere.
    ///
    /// # Errors
    /// A refusal of the machine is no damage and stays the error that it is.
    pub(crate) fn of_unread(error: Error, known: u64) -> Result<Self, Error> {
        match error.refused_by() {
            RefusedBy::Machine => Err(error),
            RefusedBy::Store => {
                Ok(Self::Unreadable { reason: error.in_full(), lost: (known > 0).then_some((1, known)) })
            }
        }
    }
}

/// Outcome of [`judge`].
#[derive(Debug)]
pub(crate) enum Judged {
    /// History is continuous up to this tip.
    Sound(Tip),
    /// Nothing was ever stored: the journal's creation was interrupted.
    Unwritten,
    Damaged(Verdict),
}

/// The last entry that anybody knows of this journal.
pub(crate) fn last_known(anchor: &Anchor, external: &[(JournalId, Head)]) -> u64 {
    own_heads(anchor, external).map(|head| head.seq).fold(anchor.pending.seq, u64::max)
}

fn own_heads<'a>(anchor: &'a Anchor, external: &'a [(JournalId, Head)]) -> impl Iterator<Item = &'a Head> {
    external.iter().filter(|(id, _)| *id == anchor.id).map(|(_, head)| head)
}

/// Compares the data with the anchor and with the heads that others know of this journal. `snapshots` are those that
/// were begun for this journal and are complete.
pub(crate) fn judge(
    store: &dyn ReadFrames,
    anchor: &Anchor,
    external: &[(JournalId, Head)],
    snapshots: &[Snapshot],
) -> Judged {
    let known = last_known(anchor, external);
    match judge_chain(store, anchor, external, snapshots, known) {
        Ok(judged) => judged,
        Err(broken) => Judged::Damaged(damage_of(store, snapshots, known, &broken)),
    }
}

fn judge_chain(
    store: &dyn ReadFrames,
    anchor: &Anchor,
    external: &[(JournalId, Head)],
    snapshots: &[Snapshot],
    known: u64,
) -> Result<Judged, Broken> {
    let Some(tip) = reader::tip(store)? else {
        return Ok(if known == 0 {
            Judged::Unwritten
        } else {
            Judged::Damaged(Verdict::HistoryLost { from: 1, to: known })
        });
    };
    let found = match reader::journal_id(store)? {
        Some(found) => found,
        // A store that did not keep the genesis frame: the chain must continue a snapshot of this journal.
        None if tip.first > 1 => anchor.id,
        None => return Err(Broken { reason: "the first frame is missing".into() }),
    };
    let foreign = |seq| Judged::Damaged(Verdict::Foreign { expected: anchor.id, found, seq });
    if found != anchor.id {
        return Ok(foreign(0));
    }
    if let Some(short) = compare_end(&tip, anchor, known) {
        return Ok(Judged::Damaged(short));
    }
    let (head, pending) = (tip.head, anchor.pending);
    if head != pending && tip.before != pending {
        return Ok(match reader::holds(store, &tip, &pending)? {
            Some(true) | None => Judged::Damaged(Verdict::AnchorStale { anchor: pending, head }),
            Some(false) => foreign(pending.seq),
        });
    }
    for other in own_heads(anchor, external) {
        // What was pruned can contradict nobody.
        if reader::holds(store, &tip, other)? == Some(false) {
            return Ok(foreign(other.seq));
        }
    }
    Ok(compare_beginning(store, &tip, anchor, snapshots)?.map_or(Judged::Sound(tip), Judged::Damaged))
}

/// What is to be said of data that end before `known`.
fn compare_end(tip: &Tip, anchor: &Anchor, known: u64) -> Option<Verdict> {
    let (head, settled) = (tip.head, anchor.settled);
    if head.seq >= known {
        return None;
    }
    if head.seq == settled.seq && head.hash != settled.hash {
        return Some(Verdict::Foreign { expected: anchor.id, found: anchor.id, seq: head.seq });
    }
    let from = head.seq.saturating_add(1);
    Some(if head == settled && known == anchor.pending.seq {
        Verdict::LastGroupUnconfirmed { from, to: known }
    } else {
        Verdict::HistoryLost { from, to: known }
    })
}

/// What is to be said of data that begin late: no farther than they were pruned, and a snapshot stands for the rest.
fn compare_beginning(
    store: &dyn ReadFrames,
    tip: &Tip,
    anchor: &Anchor,
    snapshots: &[Snapshot],
) -> Result<Option<Verdict>, Broken> {
    if tip.first > 1 && (tip.first > anchor.pruned_below || base_of(store, tip, snapshots).is_none()) {
        let to = reader::first_seq(store, tip)?.saturating_sub(1);
        return Ok(Some(Verdict::HistoryLost { from: 1, to }));
    }
    Ok(None)
}

/// The oldest snapshot that all entries after it follow.
pub(crate) fn base_of<'a>(store: &dyn ReadFrames, tip: &Tip, snapshots: &'a [Snapshot]) -> Option<&'a Snapshot> {
    snapshots.iter().find(|snapshot| reader::is_based_on(store, tip, snapshot.frame, &snapshot.through))
}

/// Finds the first entry that cannot be read.
fn damage_of(store: &dyn ReadFrames, snapshots: &[Snapshot], known: u64, broken: &Broken) -> Verdict {
    // Without the first frame something was pruned, or lost: the oldest snapshot that reaches up to what is left tells.
    let base = match store.first_from(1) {
        Ok(Some(first)) if first > 1 => snapshots.iter().find(|snapshot| snapshot.frame.saturating_add(1) >= first),
        Ok(_) | Err(_) => None,
    };
    for entry in Entries::of_damaged(store, base.map(|base| (base.frame, base.through)), 1) {
        if let Err(Error::EntryDamaged { seq, reason }) = entry {
            return Verdict::EntryDamaged { from: seq, to: known.max(seq), reason };
        }
    }
    Verdict::Unreadable { reason: broken.reason.clone(), lost: (known > 0).then_some((1, known)) }
}
