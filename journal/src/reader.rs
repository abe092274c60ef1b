//! Reading frames as a chain: finds the tip, streams entries, looks up a head. Trusts nothing that the store returns: number,
//! checksum, hash, chain, sequence and group of each frame are checked while reading, and that no frame is missing
//! before the tip. What follows the last complete group does not exist.

use crate::frame::{Frame, GENESIS, Kind, Tip};
use crate::store::{Frames, Store};
use crate::{Entry, Error, Head, JournalId};

/// Why the stored frames are not a chain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub(crate) struct Broken {
    pub(crate) reason: String,
}

impl Broken {
    fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into() }
    }

    fn at(number: u64, reason: impl std::fmt::Display) -> Self {
        Self::new(format!("frame {number}: {reason}"))
    }
}

/// The journal id in the genesis frame; `None` if nothing is stored.
pub(crate) fn journal_id(store: &dyn Store) -> Result<Option<JournalId>, Broken> {
    let stored = store.frame(GENESIS);
    let Some(bytes) = stored.map_err(|fault| Broken::at(GENESIS, fault))? else {
        return Ok(None);
    };
    let frame = Frame::decode(GENESIS, &bytes).map_err(|damage| Broken::at(GENESIS, damage))?;
    Ok(frame.journal_id())
}

/// The end of the last complete group, whose frames are all checked; `None` if nothing is stored.
pub(crate) fn tip(store: &dyn Store) -> Result<Option<Tip>, Broken> {
    let last = store.last().map_err(|fault| Broken::new(fault.to_string()))?;
    let Some(mut number) = last else {
        return Ok(None);
    };
    let mut end: Option<Tip> = None;
    let mut after: Option<(u64, [u8; 32])> = None;
    loop {
        let bytes = stored(store, number)?;
        let frame = Frame::decode(number, &bytes).map_err(|damage| Broken::at(number, damage))?;
        if let Some((first, before)) = after
            && (frame.next_seq_or_one() != first || frame.after != before)
        {
            return Err(Broken::at(number, "it does not lead to the frame after it"));
        }
        let before = Head { seq: frame.group_first.saturating_sub(1), hash: frame.before };
        if end.is_none() && frame.kind != Kind::Inner {
            let head = Head { seq: frame.next_seq_or_one().saturating_sub(1), hash: frame.after };
            end = Some(Tip { frame: number, head, before: head });
        }
        if let Some(tip) = &mut end {
            if frame.kind == Kind::Genesis {
                return Ok(end);
            }
            if frame.first == frame.group_first {
                tip.before = before;
                return Ok(end);
            }
            after = Some((frame.first, frame.before));
        }
        number = number.checked_sub(1).ok_or_else(|| Broken::new("no group is complete"))?;
    }
}

/// Whether the chain had exactly this head after some frame.
pub(crate) fn holds(store: &dyn Store, tip: &Tip, head: &Head) -> Result<bool, Broken> {
    if head.seq > tip.head.seq {
        return Ok(false);
    }
    let number = if head.seq == 0 { GENESIS } else { frame_of(store, tip, head.seq)? };
    let bytes = stored(store, number)?;
    let frame = Frame::decode(number, &bytes).map_err(|damage| Broken::at(number, damage))?;
    Ok(frame.next_seq_or_one().saturating_sub(1) == head.seq && frame.after == head.hash)
}

/// Number of the frame with entry `seq`, which lies between 1 and the tip's.
fn frame_of(store: &dyn Store, tip: &Tip, seq: u64) -> Result<u64, Broken> {
    let (mut low, mut high) = (GENESIS.saturating_add(1), tip.frame);
    while low < high {
        let middle = low.saturating_add(high.saturating_sub(low).div_ceil(2));
        let bytes = stored(store, middle)?;
        let frame = Frame::decode(middle, &bytes).map_err(|damage| Broken::at(middle, damage))?;
        if frame.first <= seq {
            low = middle;
        } else {
            high = middle.saturating_sub(1);
        }
    }
    Ok(low)
}

fn stored(store: &dyn Store, number: u64) -> Result<Vec<u8>, Broken> {
    store.frame(number).map_err(|fault| Broken::at(number, fault))?.ok_or_else(|| Broken::at(number, "it is missing"))
}

impl Frame<'_> {
    /// Sequence number after this frame; 1 after the genesis frame.
    fn next_seq_or_one(&self) -> u64 {
        match self.kind {
            Kind::Genesis => 1,
            Kind::Inner | Kind::Last => self.next_seq().unwrap_or(u64::MAX),
        }
    }
}

/// Entries in order, each checked before it is given; the first damage ends the iteration with
/// [`Error::EntryDamaged`]. Ends without an error only at the head.
pub struct Entries<'a> {
    scan: Option<Frames<'a>>,
    tip: Option<Tip>,
    skip_below: u64,
    number: u64,
    seq: u64,
    chain: Option<[u8; 32]>,
    group: Option<u64>,
    ready: std::vec::IntoIter<Entry>,
}

impl std::fmt::Debug for Entries<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entries").field("next_seq", &self.seq).finish_non_exhaustive()
    }
}

impl<'a> Entries<'a> {
    /// Entries from `from_seq` to the tip. Where `from_seq` cannot be found because of damage, the reading starts at
    /// the beginning, which finds the damage.
    pub(crate) fn new(store: &'a dyn Store, tip: &Tip, from_seq: u64) -> Self {
        let start = if from_seq > 1 && from_seq <= tip.head.seq { start_at(store, tip, from_seq).ok() } else { None };
        let (number, seq, chain, group) = start.unwrap_or((GENESIS, 1, None, None));
        Self {
            scan: (from_seq <= tip.head.seq).then(|| store.scan(number)),
            tip: Some(*tip),
            skip_below: from_seq,
            number,
            seq,
            chain,
            group,
            ready: Vec::new().into_iter(),
        }
    }

    /// All frames there are, whether or not they reach a tip: for finding where damage begins.
    pub(crate) fn of_damaged(store: &'a dyn Store, from_seq: u64) -> Self {
        Self {
            scan: Some(store.scan(GENESIS)),
            tip: None,
            skip_below: from_seq,
            number: GENESIS,
            seq: 1,
            chain: None,
            group: None,
            ready: Vec::new().into_iter(),
        }
    }

    /// Iteration over a journal whose data are gone.
    pub(crate) fn none() -> Self {
        Self {
            scan: None,
            tip: None,
            skip_below: 1,
            number: GENESIS,
            seq: 1,
            chain: None,
            group: None,
            ready: Vec::new().into_iter(),
        }
    }

    /// Reads one more frame; `false` at the end.
    fn advance(&mut self) -> Result<bool, String> {
        if self.tip.is_some_and(|tip| self.number > tip.frame) {
            return Ok(false);
        }
        let Some(scan) = self.scan.as_mut() else {
            return Ok(false);
        };
        let (number, bytes) = match scan.next().transpose().map_err(|e| e.to_string())? {
            Some(stored) => stored,
            None if self.tip.is_none() => return Ok(false),
            None => return Err(format!("frame {} is missing", self.number)),
        };
        if number != self.number {
            return Err(format!("frame {} is missing", self.number));
        }
        let frame = Frame::decode(number, &bytes).map_err(|e| format!("frame {number}: {e}"))?;
        self.check_place(&frame).map_err(|reason| format!("frame {number}: {reason}"))?;
        let entries: Vec<Entry> = (self.seq..)
            .zip(frame.entries())
            .filter(|(seq, _)| *seq >= self.skip_below)
            .map(|(seq, bytes)| Entry { seq, bytes: bytes.to_vec() })
            .collect();
        self.chain = Some(frame.after);
        self.seq = frame.next_seq_or_one();
        self.number = number.saturating_add(1);
        self.ready = entries.into_iter();
        Ok(true)
    }

    fn check_place(&mut self, frame: &Frame<'_>) -> Result<(), &'static str> {
        if self.chain.is_some_and(|chain| chain != frame.before) {
            return Err("its chain hash does not continue the one before");
        }
        if frame.kind == Kind::Genesis {
            return Ok(());
        }
        if frame.first != self.seq {
            return Err("its sequence number does not follow");
        }
        let group = self.group.unwrap_or(frame.first);
        if frame.group_first != group {
            return Err("it belongs to another group");
        }
        self.group = Some(group);
        if frame.kind == Kind::Last {
            let counted = frame.next_seq().and_then(|next| next.checked_sub(group));
            if counted != Some(u64::from(frame.group_count)) {
                return Err("the count of its group differs");
            }
            self.group = None;
        }
        if let Some(tip) = self.tip.filter(|tip| tip.frame == self.number)
            && (self.group.is_some() || frame.after != tip.head.hash)
        {
            return Err("it is not the head");
        }
        Ok(())
    }
}

/// Where reading starts for an entry in the middle: frame, its first entry, the chain before it, its group.
type Start = (u64, u64, Option<[u8; 32]>, Option<u64>);

fn start_at(store: &dyn Store, tip: &Tip, seq: u64) -> Result<Start, Broken> {
    let number = frame_of(store, tip, seq)?;
    let bytes = stored(store, number)?;
    let frame = Frame::decode(number, &bytes).map_err(|damage| Broken::at(number, damage))?;
    Ok((number, frame.first, Some(frame.before), Some(frame.group_first)))
}

impl Iterator for Entries<'_> {
    type Item = Result<Entry, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(entry) = self.ready.next() {
                return Some(Ok(entry));
            }
            match self.advance() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(reason) => {
                    self.scan = None;
                    return Some(Err(Error::EntryDamaged { seq: self.seq, reason }));
                }
            }
        }
    }
}
