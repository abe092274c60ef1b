//! The thin wall around sled 0.34.7: numbered frames in, numbered frames out, every call guarded.
//!
//! What is kept away from the rest (`reliability.md` §0 and §6): sled panics on damaged files (caught here), its flush
//! is no sync (the journal syncs the log itself), its own flusher swallows sync errors (switched off), values beyond a
//! quarter segment leave the log for files that are never synced (`spilled` looks for them).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use sled::IVec;

use crate::Error;
use crate::files;

/// sled's page cache. Replay reads once, in order: a larger cache would only cost memory.
const CACHE_BYTES: u64 = 32 << 20;

/// sled refused, failed or panicked.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("sled could not {what}: {reason}")]
pub(crate) struct StoreFault {
    pub(crate) what: &'static str,
    pub(crate) reason: String,
}

impl From<StoreFault> for Error {
    fn from(fault: StoreFault) -> Self {
        Self::Store { what: fault.what, reason: fault.reason }
    }
}

/// An open sled database of frames.
pub(crate) struct Store {
    db: Option<sled::Db>,
    dir: PathBuf,
    panicked: AtomicBool,
}

impl Store {
    /// Opens or creates the database; sled rewrites parts of its files while doing so.
    pub(crate) fn open(dir: &Path) -> Result<Self, StoreFault> {
        let config = sled::Config::new().path(dir).cache_capacity(CACHE_BYTES).flush_every_ms(None);
        let db = settle_call("open", catch_unwind(AssertUnwindSafe(|| config.open()))).map_err(|(fault, _)| fault)?;
        Ok(Self { db: Some(db), dir: dir.into(), panicked: AtomicBool::new(false) })
    }

    /// Stores frames as one atomic batch. Not durable.
    pub(crate) fn put(&self, frames: Vec<(u64, Vec<u8>)>) -> Result<(), StoreFault> {
        let mut batch = sled::Batch::default();
        for (number, bytes) in frames {
            batch.insert(&number.to_be_bytes(), bytes);
        }
        self.guarded("write a group", |db| db.apply_batch(batch))
    }

    /// Removes the frames from `first` on as one batch; tells how many. Not durable.
    pub(crate) fn remove_from(&self, first: u64) -> Result<usize, StoreFault> {
        let mut batch = sled::Batch::default();
        let mut removed = 0;
        for stored in self.scan(first) {
            batch.remove(&stored?.0.to_be_bytes());
            removed += 1;
        }
        if removed > 0 {
            self.guarded("remove frames", |db| db.apply_batch(batch))?;
        }
        Ok(removed)
    }

    /// Hands all that was put to the operating system.
    pub(crate) fn flush(&self) -> Result<(), StoreFault> {
        self.guarded("flush", |db| db.flush().map(|_| ()))
    }

    pub(crate) fn frame(&self, number: u64) -> Result<Option<IVec>, StoreFault> {
        self.guarded("read a frame", |db| db.get(number.to_be_bytes()))
    }

    /// The highest frame number.
    pub(crate) fn last(&self) -> Result<Option<u64>, StoreFault> {
        let last = self.guarded("find the last frame", |db| db.last())?;
        last.map(|(key, _)| number_of(&key)).transpose()
    }

    /// Frames from number `from` on, in order, with whatever gaps sled has.
    pub(crate) fn scan(&self, from: u64) -> Scan<'_> {
        Scan { store: self, iter: self.db.as_ref().map(|db| db.range(from.to_be_bytes()..)) }
    }

    /// Whether sled moved values out of its log, where no sync reaches them.
    pub(crate) fn spilled(&self) -> Result<bool, Error> {
        files::is_occupied(&self.dir.join("blobs"))
    }

    fn guarded<T>(&self, what: &'static str, call: impl FnOnce(&sled::Db) -> sled::Result<T>) -> Result<T, StoreFault> {
        let Some(db) = self.db.as_ref() else {
            return Err(StoreFault { what, reason: "it is closed".into() });
        };
        let outcome = catch_unwind(AssertUnwindSafe(|| call(db)));
        settle_call(what, outcome).map_err(|(fault, panicked)| {
            self.panicked.fetch_or(panicked, Ordering::Relaxed);
            fault
        })
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let Some(db) = self.db.take() else { return };
        if *self.panicked.get_mut() {
            // Its locks may be held for ever by the call that panicked: dropping it could wait for them.
            std::mem::forget(db);
        } else {
            // A panic in here changes nothing: durable is only what was synced before.
            drop(catch_unwind(AssertUnwindSafe(|| drop(db))));
        }
    }
}

/// Iterator of [`Store::scan`]; ends after the first fault.
pub(crate) struct Scan<'a> {
    store: &'a Store,
    iter: Option<sled::Iter>,
}

impl Iterator for Scan<'_> {
    type Item = Result<(u64, IVec), StoreFault>;

    fn next(&mut self) -> Option<Self::Item> {
        let iter = self.iter.as_mut()?;
        let read = self
            .store
            .guarded("read the next frame", |_| iter.next().transpose())
            .and_then(|stored| stored.map(|(key, value)| Ok((number_of(&key)?, value))).transpose())
            .transpose();
        if !matches!(read, Some(Ok(_))) {
            let iter = self.iter.take();
            if self.store.panicked.load(Ordering::Relaxed) {
                // As with the database: dropping it could wait for a lock that the panic left held.
                std::mem::forget(iter);
            }
        }
        read
    }
}

fn number_of(key: &IVec) -> Result<u64, StoreFault> {
    let bytes = <[u8; 8]>::try_from(key.as_ref()).map_err(|_| StoreFault {
        what: "read a key",
        reason: format!("it has {} bytes, a frame number has 8", key.len()),
    })?;
    Ok(u64::from_be_bytes(bytes))
}

/// Turns an error or a panic into a fault; the flag tells a panic.
fn settle_call<T>(what: &'static str, outcome: std::thread::Result<sled::Result<T>>) -> Result<T, (StoreFault, bool)> {
    match outcome {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err((StoreFault { what, reason: error.to_string() }, false)),
        Err(panic) => {
            let text = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("without a message");
            Err((StoreFault { what, reason: format!("panic: {text}") }, true))
        }
    }
}
