//! Reading frames as a chain: finds the tip, streams entries, looks up a head. Trusts nothing that the store returns: number,
//! checksum, hash, chain, sequence and group of each frame are checked while reading, and that no frame is missing
//! before the tip. What follows the last complete group does not exist. Frames may have been pruned from the beginning,
//! the genesis frame excepted: then reading starts at the first that is left, and the verdict asks for a snapshot of
//! what was before it.

use crate::frame::{Frame, GENESIS, Kind, Tip};
use crate::store::{Frames, ReadFrames};
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
pub(crate) fn journal_id(store: &dyn ReadFrames) -> Result<Option<JournalId>, Broken> {
    let stored = store.frame(GENESIS);
    let Some(bytes) = stored.map_err(|fault| Broken::at(GENESIS, fault))? else {
        return Ok(None);
    };
    let frame = Frame::decode(GENESIS, &bytes).map_err(|damage| Broken::at(GENESIS, damage))?;
    Ok(frame.journal_id())
}

/// The end of the last complete group, whose frames are all checked; `None` if nothing is stored.
pub(crate) fn tip(store: &dyn ReadFrames) -> Result<Option<Tip>, Broken> {
    let last = store.last().map_err(|fault| Broken::new(fault.to_string()))?;
    let Some(mut number) = last else {
        return Ok(None);
    };
    let first = store.first_from(GENESIS.saturating_add(1)).map_err(|fault| Broken::new(fault.to_string()))?;
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
            end = Some(Tip { frame: number, head, before: head, first: first.unwrap_or(FIRST).min(number.max(FIRST)) });
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

/// Whether the chain had exactly this head after some frame; `None` if that frame was pruned.
pub(crate) fn holds(store: &dyn ReadFrames, tip: &Tip, head: &Head) -> Result<Option<bool>, Broken> {
    if head.seq > tip.head.seq {
        return Ok(Some(false));
    }
    if tip.first > FIRST {
        let bytes = stored(store, tip.first)?;
        let frame = Frame::decode(tip.first, &bytes).map_err(|damage| Broken::at(tip.first, damage))?;
        if head.seq < frame.first {
            return Ok((head.seq.saturating_add(1) == frame.first).then(|| frame.before == head.hash));
        }
    }
    let number = if head.seq == 0 { GENESIS } else { frame_of(store, tip, head.seq)? };
    holds_after(store, number, head).map(Some)
}

/// Whether the chain had this head after the frame of this number.
fn holds_after(store: &dyn ReadFrames, number: u64, head: &Head) -> Result<bool, Broken> {
    let bytes = stored(store, number)?;
    let frame = Frame::decode(number, &bytes).map_err(|damage| Broken::at(number, damage))?;
    Ok(frame.next_seq_or_one().saturating_sub(1) == head.seq && frame.after == head.hash)
}

/// Whether a snapshot that ends with this frame and this head stands for all that was pruned.
pub(crate) fn is_based_on(store: &dyn ReadFrames, tip: &Tip, frame: u64, head: &Head) -> bool {
    let after = frame.saturating_add(1);
    frame <= tip.frame && tip.first <= after && {
        if tip.first == after {
            holds(store, tip, head) == Ok(Some(true))
        } else {
            holds_after(store, frame, head) == Ok(true)
        }
    }
}

/// The lowest entry that is left; one after the last if there is none.
pub(crate) fn first_seq(store: &dyn ReadFrames, tip: &Tip) -> Result<u64, Broken> {
    if tip.first <= FIRST {
        return Ok(1);
    }
    let bytes = stored(store, tip.first)?;
    Frame::decode(tip.first, &bytes).map(|frame| frame.first).map_err(|damage| Broken::at(tip.first, damage))
}

/// Number of the frame with entry `seq`, which lies between the first that is left and the tip's.
fn frame_of(store: &dyn ReadFrames, tip: &Tip, seq: u64) -> Result<u64, Broken> {
    let (mut low, mut high) = (tip.first, tip.frame);
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

fn stored(store: &dyn ReadFrames, number: u64) -> Result<Vec<u8>, Broken> {
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
/// [`Error::EntryDamaged`], an entry that was pruned with [`Error::Pruned`]. Ends without an error only at the head.
pub struct Entries<'a> {
    scan: Option<Frames<'a>>,
    tip: Option<Tip>,
    skip_below: u64,
    number: u64,
    seq: u64,
    chain: Option<[u8; 32]>,
    group: Option<u64>,
    /// The first entry there is, if an earlier one was asked for.
    pruned: Option<u64>,
    ready: std::vec::IntoIter<Entry>,
}

impl std::fmt::Debug for Entries<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entries").field("next_seq", &self.seq).finish_non_exhaustive()
    }
}

impl<'a> Entries<'a> {
    /// Entries from `from_seq` to the tip. Where `from_seq` cannot be found because of damage, the reading starts at
    /// the beginning, which finds the damage. Where it was pruned, that is all there is to tell.
    pub(crate) fn new(store: &'a dyn ReadFrames, tip: &Tip, from_seq: u64) -> Self {
        if from_seq > tip.head.seq {
            return Self::none();
        }
        let start = if from_seq > 1 || tip.first > FIRST { start_at(store, tip, from_seq) } else { Ok(BEGINNING) };
        let start = match start {
            Ok(start) if from_seq.max(1) < start.seq => {
                return Self { pruned: Some(start.seq), ..Self::none() };
            }
            Ok(start) => start,
            Err(_) => start_at(store, tip, 0).unwrap_or(Start { number: tip.first, ..BEGINNING }),
        };
        Self::from_start(Some(store.scan(start.number)), start, Some(*tip), from_seq)
    }

    /// All frames there are, whether or not they reach a tip: for finding where damage begins. `base` is what stands for
    /// pruned entries, as frame and head.
    pub(crate) fn of_damaged(store: &'a dyn ReadFrames, base: Option<(u64, Head)>, from_seq: u64) -> Self {
        let start = base.map_or(BEGINNING, |(frame, head)| Start {
            number: frame.saturating_add(1),
            seq: head.seq.saturating_add(1),
            chain: Some(head.hash),
            group: None,
        });
        Self::from_start(Some(store.scan(start.number)), start, None, from_seq)
    }

    /// Iteration over a journal whose data are gone.
    pub(crate) fn none() -> Self {
        Self::from_start(None, BEGINNING, None, 1)
    }

    fn from_start(scan: Option<Frames<'a>>, start: Start, tip: Option<Tip>, skip_below: u64) -> Self {
        let Start { number, seq, chain, group } = start;
        Self { scan, tip, skip_below, number, seq, chain, group, pruned: None, ready: Vec::new().into_iter() }
    }

    /// Gives each entry to `visit` as the iteration would, with its number, but without a copy of its bytes.
    ///
    /// # Errors
    /// As the iteration: what was given before is a prefix.
    pub fn for_each_entry(mut self, mut visit: impl FnMut(u64, &[u8])) -> Result<(), Error> {
        for entry in self.ready.by_ref() {
            visit(entry.seq, &entry.bytes);
        }
        if let Some(first) = self.pruned {
            return Err(Error::Pruned { first });
        }
        loop {
            match self.advance(&mut visit) {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(reason) => return Err(Error::EntryDamaged { seq: self.seq, reason }),
            }
        }
    }

    /// Reads one more frame and gives its entries; `false` at the end.
    fn advance(&mut self, give: &mut impl FnMut(u64, &[u8])) -> Result<bool, String> {
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
        (self.seq..)
            .zip(frame.entries())
            .filter(|(seq, _)| *seq >= self.skip_below)
            .for_each(|(seq, bytes)| give(seq, bytes));
        self.chain = Some(frame.after);
        self.seq = frame.next_seq_or_one();
        self.number = number.saturating_add(1);
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

/// Where reading starts: a frame, its first entry, the chain before it, its group.
#[derive(Clone, Copy, Debug)]
struct Start {
    number: u64,
    seq: u64,
    chain: Option<[u8; 32]>,
    group: Option<u64>,
}

/// The first frame after the genesis frame.
const FIRST: u64 = GENESIS + 1;
const BEGINNING: Start = Start { number: GENESIS, seq: 1, chain: None, group: None };

/// Start for an entry in the middle; of a pruned one, the first there is.
fn start_at(store: &dyn ReadFrames, tip: &Tip, seq: u64) -> Result<Start, Broken> {
    let number = frame_of(store, tip, seq)?;
    let bytes = stored(store, number)?;
    let frame = Frame::decode(number, &bytes).map_err(|damage| Broken::at(number, damage))?;
    Ok(Start { number, seq: frame.first, chain: Some(frame.before), group: Some(frame.group_first) })
}

impl Iterator for Entries<'_> {
    type Item = Result<Entry, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(entry) = self.ready.next() {
                return Some(Ok(entry));
            }
            if let Some(first) = self.pruned.take() {
                return Some(Err(Error::Pruned { first }));
            }
            let mut entries = Vec::new();
            match self.advance(&mut |seq, bytes| entries.push(Entry { seq, bytes: bytes.to_vec() })) {
                Ok(true) => self.ready = entries.into_iter(),
                Ok(false) => return None,
                Err(reason) => {
                    self.scan = None;
                    return Some(Err(Error::EntryDamaged { seq: self.seq, reason }));
                }
            }
        }
    }
}
