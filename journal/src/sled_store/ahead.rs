//! Reading ahead: where many frames are read, a thread of its own reads them from sled while the caller checks those that
//! it has. sled reads a page at a time from the disk, and checking costs as much again.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use super::Guarded;
use crate::store::{NumberedFrame, StoreFault};

/// Frames read before a thread is worth its while: whoever wants a few does not pay for one.
pub(super) const INLINE: u32 = 64;
/// Frames handed over at once, some 256 KiB at the most.
const BATCH: usize = 64;
/// Batches that wait to be taken: the memory of reading ahead is 2 MiB.
const BATCHES: usize = 8;

type Batch = Vec<Result<NumberedFrame, StoreFault>>;

/// Frames that another thread reads.
pub(super) struct Ahead {
    /// `None` only while it is dropped: the thread ends when nobody takes its batches.
    batches: Option<Receiver<Batch>>,
    ready: std::vec::IntoIter<Result<NumberedFrame, StoreFault>>,
    thread: Option<JoinHandle<()>>,
}

impl Ahead {
    /// Reads from `from` on; `None` if the system gives no thread.
    pub(super) fn start(store: Guarded, from: u64) -> Option<Self> {
        let (sender, batches) = sync_channel(BATCHES);
        let read = move || read(&store, from, &sender);
        let thread = std::thread::Builder::new().name("journal-ahead".to_owned()).spawn(read).ok()?;
        Some(Self { batches: Some(batches), ready: Vec::new().into_iter(), thread: Some(thread) })
    }
}

impl Iterator for Ahead {
    type Item = Result<NumberedFrame, StoreFault>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(frame) = self.ready.next() {
                return Some(frame);
            }
            self.ready = self.batches.as_ref()?.recv().ok()?.into_iter();
        }
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        drop(self.batches.take());
        // It holds a handle to the database, which must be gone when the reader is.
        drop(self.thread.take().map(JoinHandle::join));
    }
}

fn read(store: &Guarded, from: u64, sender: &SyncSender<Batch>) {
    let mut frames = store.range_inline(from);
    loop {
        let batch: Batch = frames.by_ref().take(BATCH).collect();
        let ended = batch.len() < BATCH;
        if (!batch.is_empty() && sender.send(batch).is_err()) || ended {
            return;
        }
    }
}
