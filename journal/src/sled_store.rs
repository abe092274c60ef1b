//! The thin wall around sled 0.34.7: every call guarded.
//!
//! What is kept away from the rest (`reliability.md` §0 and §6): sled panics on damaged files (caught here), its flush
//! is no sync (its log is synced here, through a handle of our own), its own flusher swallows sync errors (switched
//! off), values beyond a quarter segment leave the log for files that are never synced (looked for after each flush).

mod ahead;

use std::cell::Cell;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::FlockOperation;
use sled::IVec;

use self::ahead::Ahead;
use crate::files::{self, SLED_DB};
use crate::store::{Frames, NumberedFrame, ReadFrames, RefusedBy, Shared, Store, StoreFault};

/// sled's page cache. Replay reads once, in order: a larger cache would only cost memory.
const CACHE_BYTES: u64 = 32 << 20;

/// An open sled database of frames.
pub struct SledStore {
    db: Guarded,
    dir: PathBuf,
    files_synced: Cell<bool>,
}

/// Reads a database that a [`SledStore`] writes, from any thread.
#[derive(Debug)]
pub struct SledReader {
    db: Guarded,
}

/// A handle to a database, of which a panic shows only as a fault.
struct Guarded {
    db: Option<sled::Db>,
    // Declared after the database, which must be gone when the last of these is.
    shared: Arc<OfAllHandles>,
}

/// What all handles to a database have in common.
struct OfAllHandles {
    panicked: AtomicBool,
    /// sled's log, through a handle of our own.
    log: File,
}

impl Drop for OfAllHandles {
    /// sled's own threads may have the files open for a moment longer, and write to them, with sled's lock on its log: an
    /// opening that came at once would be refused, and a fingerprint would be of files that still change.
    fn drop(&mut self) {
        if !self.panicked.load(Ordering::Relaxed) {
            // Without the lock the next opening is refused and says so: nothing is lost.
            let _ = rustix::fs::flock(&self.log, FlockOperation::LockExclusive);
        }
    }
}

impl std::fmt::Debug for Guarded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guarded").field("panicked", &self.shared.panicked).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for SledStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SledStore").field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl SledStore {
    /// Opens or creates the database in `dir`; sled rewrites parts of its files while doing so, so after an unclean stop
    /// this must be a copy.
    pub(crate) fn open(dir: &Path) -> Result<Self, StoreFault> {
        let config = sled::Config::new().path(dir).cache_capacity(CACHE_BYTES).flush_every_ms(None);
        let db = settle_call("open", catch_unwind(AssertUnwindSafe(|| config.open()))).map_err(|(fault, _)| fault)?;
        let log = File::options().read(true).write(true).open(dir.join(SLED_DB));
        let log = log.map_err(|e| StoreFault::of_system("open its log", &e))?;
        let shared = Arc::new(OfAllHandles { panicked: AtomicBool::new(false), log });
        Ok(Self { db: Guarded { db: Some(db), shared }, dir: dir.into(), files_synced: Cell::new(false) })
    }

    fn remove(&self, numbers: &[u64]) -> Result<(), StoreFault> {
        let mut batch = sled::Batch::default();
        for number in numbers {
            batch.remove(&number.to_be_bytes());
        }
        self.db.guarded("remove frames", |db| db.apply_batch(batch))
    }
}

impl Shared for SledStore {
    type Reader = SledReader;

    fn reader(&self) -> SledReader {
        SledReader { db: self.db.another() }
    }

    fn bytes(&self) -> Result<u64, StoreFault> {
        files::tree_bytes(&self.dir).map_err(|e| StoreFault::new("measure its files", e))
    }
}

impl Guarded {
    fn guarded<T>(&self, what: &'static str, call: impl FnOnce(&sled::Db) -> sled::Result<T>) -> Result<T, StoreFault> {
        let Some(db) = self.db.as_ref() else {
            return Err(StoreFault::new(what, "it is closed"));
        };
        let outcome = catch_unwind(AssertUnwindSafe(|| call(db)));
        settle_call(what, outcome).map_err(|(fault, panicked)| {
            self.shared.panicked.fetch_or(panicked, Ordering::Relaxed);
            fault
        })
    }

    fn frame(&self, number: u64) -> Result<Option<Vec<u8>>, StoreFault> {
        Ok(self.guarded("read a frame", |db| db.get(number.to_be_bytes()))?.map(|value| value.to_vec()))
    }

    fn first_from(&self, number: u64) -> Result<Option<u64>, StoreFault> {
        let first = self.guarded("find the first frame", |db| db.range(number.to_be_bytes()..).next().transpose())?;
        first.map(|(key, _)| number_of(&key)).transpose()
    }

    fn last(&self) -> Result<Option<u64>, StoreFault> {
        let last = self.guarded("find the last frame", |db| db.last())?;
        last.map(|(key, _)| number_of(&key)).transpose()
    }

    /// Another handle to the same database.
    fn another(&self) -> Self {
        Self { db: self.db.clone(), shared: Arc::clone(&self.shared) }
    }

    fn range(&self, from: u64) -> Scan<'_> {
        Scan { inline: ahead::INLINE, ..self.range_inline(from) }
    }

    /// The same, read by the caller's thread to the end.
    fn range_inline(&self, from: u64) -> Scan<'_> {
        let iter = self.db.as_ref().map(|db| db.range(from.to_be_bytes()..));
        Scan { store: self, iter, inline: u32::MAX, ahead: None }
    }
}

impl ReadFrames for SledReader {
    fn frame(&self, number: u64) -> Result<Option<Vec<u8>>, StoreFault> {
        self.db.frame(number)
    }

    fn first_from(&self, number: u64) -> Result<Option<u64>, StoreFault> {
        self.db.first_from(number)
    }

    fn last(&self) -> Result<Option<u64>, StoreFault> {
        self.db.last()
    }

    fn scan(&self, from: u64) -> Frames<'_> {
        Box::new(self.db.range(from))
    }
}

impl Store for SledStore {
    fn put(&mut self, frames: Vec<NumberedFrame>) -> Result<(), StoreFault> {
        let mut batch = sled::Batch::default();
        for (number, bytes) in frames {
            batch.insert(&number.to_be_bytes(), bytes);
        }
        self.db.guarded("write a group", |db| db.apply_batch(batch))
    }

    fn flush(&mut self) -> Result<(), StoreFault> {
        self.db.guarded("flush", |db| db.flush().map(|_| ()))?;
        match files::is_occupied(&self.dir.join("blobs")) {
            Ok(false) => Ok(()),
            Ok(true) => Err(StoreFault::new("keep a group in its log", "it made a file beside it")),
            Err(error) => Err(StoreFault::new("look for files beside its log", error)),
        }
    }

    fn sync(&self) -> Result<(), StoreFault> {
        if !self.files_synced.replace(true) {
            files::sync_tree(&self.dir).map_err(|e| StoreFault::new("sync its files", e))?;
        }
        self.db.shared.log.sync_data().map_err(|e| StoreFault::of_system("sync its log", &e))
    }

    fn frame(&self, number: u64) -> Result<Option<Vec<u8>>, StoreFault> {
        self.db.frame(number)
    }

    fn first(&self) -> Result<Option<u64>, StoreFault> {
        self.db.first_from(0)
    }

    fn first_from(&self, number: u64) -> Result<Option<u64>, StoreFault> {
        self.db.first_from(number)
    }

    fn last(&self) -> Result<Option<u64>, StoreFault> {
        self.db.last()
    }

    fn scan(&self, from: u64) -> Frames<'_> {
        Box::new(self.db.range(from))
    }

    fn remove_from(&mut self, first: u64) -> Result<bool, StoreFault> {
        let numbers = self.db.range(first).map(|stored| Ok(stored?.0)).collect::<Result<Vec<_>, _>>()?;
        if !numbers.is_empty() {
            self.remove(&numbers)?;
        }
        Ok(!numbers.is_empty())
    }

    fn remove_below(&mut self, number: u64, at_most: usize) -> Result<bool, StoreFault> {
        let below = |stored: &Result<NumberedFrame, StoreFault>| stored.as_ref().map_or(true, |(n, _)| *n < number);
        let some = self.db.range(1).take_while(below).take(at_most);
        let numbers = some.map(|stored| Ok(stored?.0)).collect::<Result<Vec<_>, _>>()?;
        if numbers.is_empty() {
            return Ok(false);
        }
        self.remove(&numbers)?;
        Ok(numbers.len() == at_most)
    }

    fn close(self) -> Result<u32, StoreFault> {
        let dir = self.dir.clone();
        drop(self);
        files::sync_tree(&dir).map_err(|e| StoreFault::new("sync its files", e))?;
        files::fingerprint(&dir).map_err(|e| StoreFault::new("read its files", e))
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let Some(db) = self.db.take() else { return };
        if self.shared.panicked.load(Ordering::Relaxed) {
            // Its locks may be held for ever by the call that panicked: dropping it could wait for them.
            std::mem::forget(db);
        } else {
            // A panic in here changes nothing: durable is only what was synced before.
            drop(catch_unwind(AssertUnwindSafe(|| drop(db))));
        }
    }
}

/// Iterator of [`Guarded::range`]; ends after the first fault.
struct Scan<'a> {
    store: &'a Guarded,
    iter: Option<sled::Iter>,
    /// Frames that the caller's thread still reads itself.
    inline: u32,
    ahead: Option<Ahead>,
}

impl Scan<'_> {
    /// Lets another thread read what follows this frame, if it can be had.
    fn go_ahead(&mut self, last: u64) {
        self.ahead = Ahead::start(self.store.another(), last.saturating_add(1));
        if self.ahead.is_some() {
            self.iter = None;
        }
    }
}

impl Iterator for Scan<'_> {
    type Item = Result<NumberedFrame, StoreFault>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(ahead) = &mut self.ahead {
            let read = ahead.next();
            if !matches!(read, Some(Ok(_))) {
                self.ahead = None;
            }
            return read;
        }
        let iter = self.iter.as_mut()?;
        let read = self
            .store
            .guarded("read the next frame", |_| iter.next().transpose())
            .and_then(|stored| stored.map(|(key, value)| Ok((number_of(&key)?, value.to_vec()))).transpose())
            .transpose();
        if let Some(Ok((number, _))) = &read {
            self.inline = self.inline.saturating_sub(1);
            if self.inline == 0 {
                self.go_ahead(*number);
            }
        } else {
            let iter = self.iter.take();
            if self.store.shared.panicked.load(Ordering::Relaxed) {
                // As with the database: dropping it could wait for a lock that the panic left held.
                std::mem::forget(iter);
            }
        }
        read
    }
}

fn number_of(key: &IVec) -> Result<u64, StoreFault> {
    let bytes = <[u8; 8]>::try_from(key.as_ref())
        .map_err(|_| StoreFault::new("read a key", format_args!("it has {} bytes, a frame number has 8", key.len())))?;
    Ok(u64::from_be_bytes(bytes))
}

/// Turns an error or a panic into a fault; the flag tells a panic.
fn settle_call<T>(what: &'static str, outcome: std::thread::Result<sled::Result<T>>) -> Result<T, (StoreFault, bool)> {
    match outcome {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => {
            let by = if let sled::Error::Io(io) = &error { RefusedBy::of(io) } else { RefusedBy::Store };
            Err((StoreFault { by, ..StoreFault::new(what, error) }, false))
        }
        Err(panic) => {
            let text = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("without a message");
            Err((StoreFault::new(what, format!("panic: {text}")), true))
        }
    }
}
