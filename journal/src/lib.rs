//! natgw-journal: ordered, durable, chained entries of opaque bytes, with an anchor that makes lost history visible.
//!
//! # The promises, and what proves them
//! | promise | proof |
//! | --- | --- |
//! | [`Journal::append`] returns after both the data and the anchor were synced to the disk. | `kill.rs`: `an_acknowledgement_follows_both_syncs`, under strace |
//! | A group is there as a whole or not at all, and stays in the order of the calls. | `contract.rs` on sled, on plain files and in memory; `power.rs` |
//! | What was acknowledged is there at the next opening after a kill at any moment, and no opening is refused. | `kill.rs`: `nothing_acknowledged_is_lost_to_a_kill` |
//! | The same after a power cut, whatever part of what was not synced the disk kept. A group whose append did not return may be there, or be called [`Verdict::LastGroupUnconfirmed`]. | `power.rs`: `nothing_acknowledged_is_lost_to_a_power_cut`; also when the opening after a power cut is itself cut; each sync left out loses something: `without_the_syncs_it_is`; so does an opening that is safe only uncut: `an_opening_that_clears_the_anchor_first_loses_it` |
//! | A shorter history never passes for a whole one: a damaged journal opens as [`Opened::Damaged`] with a [`Verdict`] that names what is lost, or gives [`Error::EntryDamaged`] in its place while it is read. | `damage_table.rs`: `no_damage_is_silent`, beside raw sled; the range that a verdict names is compared with what is still given, and with what raw sled gives; `damage.rs` |
//! | A disk that does not give back a file is damage, too: a verdict, and [`set_aside`], which reads nothing but names. No room, no permission, no open files left are none: they stay errors, and so does a failed write. | `unreadable.rs`, the refusals injected by strace and by a disk in memory |
//! | sled's panics do not leave the crate. No bytes in any file make a reader panic, or take memory out of proportion. | `damage_table.rs`; unit tests `no_bytes_upset_…` of every decoder |
//! | Damage leaves the directory as it was: the caller decides, [`set_aside`] renames, nothing is deleted but scratch copies, unfinished snapshots, and what pruning was told to remove. | `damage.rs`, `damage_table.rs`: the files are compared |
//! | After an error of writing or syncing nothing more is accepted ([`Error::Poisoned`]): the kernel may have dropped the pages, and a second sync would succeed over the loss. | `poison.rs`: `every_failed_step_poisons_for_good` on plain files, `what_the_system_refuses_poisons_a_journal_on_sled`, with the two syncs side by side, `a_value_outside_the_log_poisons` |
//! | A group outside the limits is refused before anything is written, and poisons nothing. | unit test `a_refused_group_neither_writes_nor_poisons` |
//! | One writer a directory, by a lock on a file. | `damage.rs`: `one_writer_at_a_time` |
//! | A [`View`] is a prefix that was durable when it was made; appending, pruning and snapshots leave it as it is. | `contract.rs` |
//! | A [`Snapshot`] is there as a whole or not at all, written beside the journal without touching it. | `contract.rs`, `kill.rs` (mode snapshot), `power.rs` |
//! | Pruning removes only what the second newest snapshot stands for, and an anchor that knows is durable first. | `contract.rs`, `kill.rs` (mode prune), `power.rs` |
//! | A step of pruning does no more than an append, and the disk comes back to a plateau. | `churn.rs`: `the_disk_comes_back_to_a_plateau`; of ten million entries of 100 bytes, in the long command, the second half added 500 MB, the most on the disk was 34 MB and rose by 2 MB in that half; without pruning it rises by all that is added |
//! | A copy that an opening needs is begun only if it fits ([`Error::NoRoom`]); [`Journal::room`] says early that it will not. | unit test `what_was_kept_of_an_earlier_opening_makes_room`; `churn.rs`: `the_room_on_the_disk_is_told` |
//! | An [export](mod@export) is a consistent prefix of a journal that goes on, and damage to it is named. | `contract.rs`; natgw-replay's `cli.rs` |
//! | Bytes on the disk do not change with the program. | unit tests `…_bytes_are_frozen` |
//!
//! A quick form of all runs with `cargo test -p natgw-journal`; `CI=true` does what every change has to pass. For a
//! night, with 5,000 kills in each of four modes, 1,000 trials of each damage, 200,000 drawn sequences in memory and
//! 5,000 on each of the other stores, ten million entries of churn, and ten minutes for each decoder:
//!
//! ```text
//! NATGW_LONG=true cargo test -p natgw-journal -p natgw-replay -- --nocapture
//! ```
//!
//! The crate knows nothing of what entries mean, reads no clock, draws no randomness (the caller brings the identity of
//! a new journal) and logs nothing.
//!
//! # Snapshots and pruning
//! A snapshot is a stream of the caller's own entries that add up to everything through some head, and a digest at its
//! end, which the caller checks when it has taken them in. It is made from a [`View`] in any thread, from the snapshot
//! before and the entries since: [`View::snapshots`], [`View::entries`], [`View::begin_snapshot`]. Once finished it was
//! synced and read again. A snapshot that cannot be written poisons nothing, and the caller may do no more than log it: no
//! entry and no anchor was touched, its draft is removed and never synced again (the next one is another file, written
//! from its beginning), and until one is whole, and its name synced, nothing is pruned on its account. What it costs is
//! room. [`Journal::prune_step`] then removes what the second newest stands for, in steps between
//! groups. A journal that was pruned begins with a snapshot: [`Entries`] from before answer with [`Error::Pruned`].
//!
//! # Seams
//! [`Store`] is what holds the frames: [`SledStore`] in production, [`plain::Segments`] as its yardstick. [`Disk`] is
//! what holds the anchor, the snapshots, and the segments: [`Directory`] in production. A simulator brings its own of
//! either, and drives [`Journal::open_on`] or [`plain::open`] from one thread; all openings are judged by the same code.
//!
//! # Limits
//! | limit | why |
//! | --- | --- |
//! | [`ENTRY_BYTES_MAX`], 3,584 bytes an entry | one entry fits one frame |
//! | [`FRAME_BYTES_MAX`], 4,096 bytes a frame | larger values leave sled's log for files that it never syncs |
//! | [`GROUP_ENTRIES_MAX`], 4,096 entries a group | bounds the memory of an append |
//! | [`SNAPSHOTS_KEPT_MIN`], two snapshots | if one cannot be read, the one before it stands |
//! | one snapshot at a time ([`Error::SnapshotUnderWay`]) | bounds what is written beside the journal |
//! | [`plain::SEGMENT_BYTES`], 4 MiB a segment | what pruning frees at once, and what an opening reads |
//! | room for one more copy of the data, and 64 MiB ([`Room`]) | an opening after an unclean stop makes that copy |
//!
//! # Files
//! | name in the directory | content |
//! | --- | --- |
//! | `sled/` | sled 0.34.7; default tree; key: frame number, `u64` big endian; value: a frame. `blobs/` in it stays empty |
//! | `anchor` | two slots of 512 bytes in 8192 bytes: how far the journal reaches, and how far it was pruned |
//! | `snapshot-` and 16 hexadecimal digits | a snapshot of the entries through that number; with `.draft` while it is written |
//! | `segment-` and 16 hexadecimal digits | only of a journal on plain files, in the place of `sled/`: see [`plain`] |
//! | `lock` | empty; locked with `flock` by the writer |
//! | `sled.opening/` | only during an opening after an unclean stop: the copy sled recovers |
//! | `sled.before-open/` | sled's files as they were before the last such opening |
//! | `anchor.draft` | only while a journal is begun |
//!
//! **Frame**, little endian: version `u16` = 1 · kind `u8` (0 genesis, 1 inner, 2 last of its group) · 0 `u8` · entries
//! in the frame `u32` · group's first sequence number `u64` · frame's first sequence number `u64` · entries in the
//! group `u32` (last frame, else 0) · payload length `u32` · chain hash before (32) · chain hash after (32) · payload ·
//! CRC-32C `u32` of the key and all bytes before. The payload is, for each entry, its length `u32` and its bytes; of
//! frame 0, the genesis frame, it is the journal id (16). The chain hash after a frame is BLAKE3 of the key, the first
//! 64 bytes of the frame (they hold the hash before) and the payload. A group without its last frame does not exist. The
//! genesis frame is never pruned.
//!
//! **Anchor slot**, little endian: `NATGWANC` · version `u16` = 1 · cleanly closed `u8` · 0 `u8` · fingerprint of
//! sled's files when cleanly closed `u32` · journal id (16) · counter `u64` · settled sequence number `u64` and hash
//! (32) · pending sequence number `u64` and hash (32) · pruned below frame `u64` · zeros · at 508 CRC-32C `u32` of all
//! bytes before. Slots lie at 0 and 4096 and are written in turn; a torn write spoils one, and the other holds what was
//! true before it.
//!
//! **Snapshot**, little endian: header (128): `NATGWSNP` · version `u16` = 1 · zeros (6) · journal id (16) · through
//! sequence number `u64` and hash (32) · its frame's number `u64` · zeros · CRC-32C `u32`; frames as above, numbered
//! from 1, in a chain that begins with BLAKE3 of the header; trailer (96): `NATGWEND` · entries `u64` · frames `u64` ·
//! chain hash after the last frame (32) · digest (32) · zeros · CRC-32C `u32`.
//!
//! **Export**: lines of JSON, see [the module](mod@export).
//!
//! # Order of an append
//! One sled batch; sled's flush (which hands over but does not sync); the anchor slot with settled = the head before
//! and pending = the head after; then `fdatasync` of sled's log and of the anchor, side by side; then the
//! acknowledgement. So whatever a crash keeps, the data are at `pending`, or exactly one group ahead of it (its anchor
//! was not kept), or at `settled` before `pending` (its data were not kept). All else is damage.
//!
//! # What an opening says
//! | found | outcome |
//! | --- | --- |
//! | nothing, be it that the whole directory is gone | [`Opened::Fresh`], also with heads known elsewhere: see below |
//! | data end at pending, or one group ahead of it | [`Opened::Continued`] |
//! | data end at settled, pending is later | [`Verdict::LastGroupUnconfirmed`]: it may have been acknowledged |
//! | data end before settled, or before a head known elsewhere; an anchor without data | [`Verdict::HistoryLost`] |
//! | data begin later than they were pruned, or no complete snapshot stands for what was | [`Verdict::HistoryLost`] |
//! | data more than one group ahead of pending | [`Verdict::AnchorStale`] |
//! | journal id or chain hash differ | [`Verdict::Foreign`] |
//! | data, or snapshots, without an anchor; both slots bad | [`Verdict::AnchorLost`], [`Verdict::AnchorDamaged`] |
//! | sled cannot open its files, also without its snapshot and settings; the disk does not give back its log, or the names in the directory | [`Verdict::Unreadable`], with what anchor and heads known elsewhere tell |
//! | the disk does not give back the anchor | [`Verdict::AnchorDamaged`] |
//! | the disk does not give back sled's derived files, or one of the snapshots | as if they were missing |
//! | a frame cannot be read, is missing or is not what was written | [`Verdict::EntryDamaged`] |
//!
//! [`Journal::open`] checks the end of the data and the ends of the snapshots; [`Journal::entries`] and
//! [`SnapshotEntries`] check the rest while they read. [`read_copy`] and [`read_export`] read all of it before they give
//! their verdict.
//!
//! Whether an empty directory is a first start only the caller can say, for it holds the heads known elsewhere: they may be
//! of journals that other replicas keep, and none of them names this directory. The caller must decide. natgw takes
//! [`Opened::Fresh`] for a first start only if the Lease never had a term and no PodDNAT exists; else the new journal begins
//! with that as the reason why history is not continuous (`none_before` in its `driver::history`).
//!
//! # What damage leads to
//! | damage | what is said |
//! | --- | --- |
//! | the log's tail cut; sectors or a page zeroed; a bit flipped | nothing if it hit what is not used, or what sled derives; else `HistoryLost`, `LastGroupUnconfirmed`, `EntryDamaged` or `Unreadable`, from the first entry that is lost to the last that anybody knows; `Unreadable` names all entries, also where sled opens, fails while the end is looked for, and [`read_copy`] still gives some |
//! | sled's snapshot emptied | recovered in full, from its log |
//! | the database missing | `HistoryLost` from the first entry |
//! | the whole directory missing | nothing: it is [`Opened::Fresh`], and the caller decides (`damage.rs`: `a_directory_that_is_gone_is_fresh_whoever_knows_of_it`) |
//! | an older image of the data, or of data and anchor where a newer head is known elsewhere | `HistoryLost` |
//! | another journal's data, or another journal's anchor | `Foreign` |
//! | the anchor missing, or both its slots damaged | `AnchorLost`, `AnchorDamaged` |
//! | an older anchor | `AnchorStale`; nothing if it is one group older |
//! | a snapshot of this crate damaged or missing | the other one stands; it is named by [`ReadCopy::unusable_snapshots`]; without any, `HistoryLost` |
//!
//! # Opening without harm
//! sled zeroes and truncates what it takes for a torn tail. After a clean stop, which leaves the fingerprint of sled's
//! files in the anchor, and with the files unchanged since, they are opened in place. In every other case sled opens a
//! copy; the copy takes the place of the original only if its verdict is good, and the original stays as
//! `sled.before-open` until the next such opening. This needs room for two more copies of the data, or for one: then
//! what was kept of the opening before goes first.
//!
//! # What cannot be detected
//! * The whole directory gone: this crate sees an empty one. Its caller can tell, by heads known elsewhere.
//! * Data and anchor rolled back together to an earlier moment, beyond what heads known elsewhere tell: at most one
//!   renewal of whoever keeps these.
//! * All files of a journal exchanged for all files of another: it is that other journal, by its identity, and whole.
//! * An anchor slot damaged *and* the last group lost: the other slot knows one write less.
//! * A head known elsewhere that lies before what was pruned: it is believed.
//! * Damage to entries that were read at no opening: [`Journal::open`] reads the ends; natgw folds the newest snapshot and
//!   all after it, and `natgw-replay verify` whatever is there.
//! * Whoever can write the files can forge them: the chain has no key.

mod anchor;
mod aside;
mod copy;
mod disk;
pub mod export;
mod files;
mod frame;
mod journal;
pub mod plain;
mod reader;
mod retained;
mod sled_store;
mod snapshot;
mod store;
#[cfg(test)]
mod tests;
mod verdict;
mod view;

use std::fmt;
use std::path::PathBuf;

pub use aside::set_aside;
pub use copy::{AnchorHeads, ReadCopy, read_copy, read_export};
pub use disk::{Directory, Disk};
pub use journal::{Journal, Opened, Room};
pub use reader::Entries;
pub use sled_store::{SledReader, SledStore};
pub use snapshot::{Snapshot, SnapshotEntries, SnapshotWriter};
pub use store::{Frames, NumberedFrame, ReadFrames, RefusedBy, Shared, Store, StoreFault};
pub use verdict::Verdict;
pub use view::View;

/// Largest entry in bytes: one entry and a frame's overhead fit [`FRAME_BYTES_MAX`].
pub const ENTRY_BYTES_MAX: usize = 3584;
/// Largest value given to sled, in bytes. A page of sled holds at most 16 and leaves the synced log beyond 128 KiB;
/// 4 KiB stays well below (measured: `reliability.md` §6).
pub const FRAME_BYTES_MAX: usize = 4096;
/// Most entries in one group: bounds the memory of an append to some 15 MiB, four times the group of the benchmark.
pub const GROUP_ENTRIES_MAX: usize = 4096;
/// Fewest snapshots that pruning leaves: if one cannot be read, the one before it stands for what was pruned.
pub const SNAPSHOTS_KEPT_MIN: usize = 2;

/// Identity of a journal, drawn by the caller when it is begun.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct JournalId(pub [u8; 16]);

impl fmt::Display for JournalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for JournalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JournalId({self})")
    }
}

/// A position in a journal and its whole history up to there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Number of the last entry, counted from 1; 0 if there is none.
    pub seq: u64,
    /// Chain hash after the group that ends there.
    pub hash: [u8; 32],
}

impl fmt::Debug for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Head({}, ", self.seq)?;
        self.hash.iter().take(4).try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str("…)")
    }
}

/// One entry of a journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its number, counted from 1 without gaps.
    pub seq: u64,
    /// What was appended.
    pub bytes: Vec<u8>,
}

/// Why a call failed. Damage found while opening is no error but a [`Verdict`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process, or another [`Journal`] of this one, has the directory open.
    #[error("journal {dir} is in use by another process, so nothing was opened", dir = dir.display())]
    InUse {
        /// The journal's directory.
        dir: PathBuf,
    },
    /// There is no journal in the directory.
    #[error("no journal in {dir}", dir = dir.display())]
    NoJournal {
        /// The directory.
        dir: PathBuf,
    },
    /// The operating system refused.
    #[error("could not {what} {path}", path = path.display())]
    Io {
        /// The operation.
        what: &'static str,
        /// What it was tried on.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The store below failed; sled may have panicked.
    #[error(transparent)]
    Store(#[from] StoreFault),
    /// The group has no entries; nothing was written.
    #[error("group has no entries, so nothing was written")]
    GroupEmpty,
    /// The group has more than [`GROUP_ENTRIES_MAX`] entries; nothing was written.
    #[error("group has {entries} entries, more than {max}, so nothing was written", max = GROUP_ENTRIES_MAX)]
    GroupTooLong {
        /// How many it has.
        entries: usize,
    },
    /// An entry has no bytes; nothing was written.
    #[error("entry {index} of the group is empty, so nothing was written")]
    EntryEmpty {
        /// Its index in the group.
        index: usize,
    },
    /// An entry has more than [`ENTRY_BYTES_MAX`] bytes; nothing was written.
    #[error("entry {index} of the group has {bytes} bytes, more than {max}, so nothing was written", max = ENTRY_BYTES_MAX)]
    EntryTooLarge {
        /// Its index in the group.
        index: usize,
        /// How many it has.
        bytes: usize,
    },
    /// An earlier write or sync failed: what is on the disk is unknown until the journal is opened again.
    #[error("journal accepts nothing more after an earlier failure: {reason}")]
    Poisoned {
        /// The first failure.
        reason: String,
    },
    /// An entry cannot be read or is not what was written; all before it were given.
    #[error("entry {seq} and those after it cannot be read: {reason}")]
    EntryDamaged {
        /// First entry that cannot be read.
        seq: u64,
        /// What is wrong.
        reason: String,
    },
    /// The entries before `first` were pruned; a snapshot stands for them.
    #[error("entries before {first} were pruned, and only a snapshot stands for them")]
    Pruned {
        /// The lowest entry there is.
        first: u64,
    },
    /// A snapshot cannot be read or is not what was written; an earlier one may be used.
    #[error("the snapshot of the entries through {through} cannot be used: {reason}")]
    SnapshotDamaged {
        /// The last entry that it stands for.
        through: u64,
        /// What is wrong.
        reason: String,
    },
    /// A snapshot is being written already; nothing was begun.
    #[error("a snapshot is being written already, so no other was begun")]
    SnapshotUnderWay,
    /// The copy that an opening after an unclean stop needs does not fit on the disk; nothing was written.
    #[error("the copy that this opening needs takes {needed} bytes and {free} are free, so nothing was opened")]
    NoRoom {
        /// Bytes the copy takes.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// This is no export, or none that this program reads.
    #[error("this is no export of a journal: {reason}")]
    NoExport {
        /// Why not.
        reason: String,
    },
    /// Numbers have run out; nothing was written.
    #[error("journal has no numbers left, so nothing was written")]
    Exhausted,
}

impl Error {
    /// Whose refusal this is: of the disk that does not give back what is stored, or of the machine, which says nothing
    /// of what is stored.
    pub(crate) fn refused_by(&self) -> RefusedBy {
        match self {
            Self::Io { source, .. } => RefusedBy::of(source),
            Self::Store(fault) => fault.by,
            _ => RefusedBy::Machine,
        }
    }

    /// The words, and those of the system below.
    pub(crate) fn in_full(&self) -> String {
        match self {
            Self::Io { source, .. } => format!("{self}: {source}"),
            _ => self.to_string(),
        }
    }
}
