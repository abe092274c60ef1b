//! The real directory: file handles kept open, one thread that syncs a file while its caller does something else.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use super::Disk;
use crate::Error;
use crate::files;

/// Handles kept open at most, files with unsynced writes not counted: a scan passes through all segments of a journal.
const HANDLES_MAX: usize = 16;

/// A directory of the file system, locked for as long as this lives.
///
/// A handle stays open from the first write to the sync: the kernel tells a failed write-back to the handles that were
/// open then, and to no later one.
///
/// Clones are handles to the same directory; the lock lasts as long as one of them.
#[derive(Clone, Debug)]
pub struct Directory(Arc<Opened>);

#[derive(Debug)]
struct Opened {
    path: PathBuf,
    handles: Mutex<BTreeMap<String, Handle>>,
    beside: Mutex<Option<SyncThread>>,
    _lock: Option<File>,
}

#[derive(Debug)]
struct Handle {
    file: Arc<File>,
    unsynced: bool,
}

impl Directory {
    /// Takes the directory for writing; creates it, durably, if it is not there.
    ///
    /// # Errors
    /// [`Error::InUse`] if another process, or another value of this one, has it; [`Error::Io`].
    pub fn open(path: &Path) -> Result<Self, Error> {
        files::create_dir(path)?;
        Ok(Self::with_lock(path, Some(files::lock_exclusive(path)?)))
    }

    /// Takes the directory for reading: a writer is kept out where the lock file can be opened.
    ///
    /// # Errors
    /// [`Error::InUse`] if a writer has it.
    pub fn open_to_read(path: &Path) -> Result<Self, Error> {
        Ok(Self::with_lock(path, files::lock_shared(path)?))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    fn with_lock(path: &Path, lock: Option<File>) -> Self {
        Self(Arc::new(Opened { path: path.into(), handles: Mutex::default(), beside: Mutex::default(), _lock: lock }))
    }

    /// The open handle of a file, opened if need be. `written` says that a write through it follows.
    fn handle(&self, name: &str, written: bool) -> io::Result<Arc<File>> {
        let mut handles = self.0.handles.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(handle) = handles.get_mut(name) {
            handle.unsynced |= written;
            return Ok(Arc::clone(&handle.file));
        }
        let path = self.0.path.join(name);
        let file = match File::options().read(true).write(true).open(&path) {
            // A copy somebody handed over for reading may be write-protected.
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied && !written => File::open(&path)?,
            opened => opened?,
        };
        let file = Arc::new(file);
        if handles.len() >= HANDLES_MAX {
            handles.retain(|_, handle| handle.unsynced);
        }
        handles.insert(name.into(), Handle { file: Arc::clone(&file), unsynced: written });
        Ok(file)
    }

    fn synced(&self, name: &str) {
        let mut handles = self.0.handles.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(handle) = handles.get_mut(name) {
            handle.unsynced = false;
        }
    }

    fn forget(&self, name: &str) {
        self.0.handles.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }
}

impl Disk for Directory {
    fn read_at(&self, name: &str, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.handle(name, false)?.read_at(buffer, offset)
    }

    fn length(&self, name: &str) -> io::Result<u64> {
        Ok(std::fs::metadata(self.0.path.join(name))?.len())
    }

    fn create(&self, name: &str) -> io::Result<()> {
        let file = File::options().read(true).write(true).create(true).truncate(true).open(self.0.path.join(name))?;
        let handle = Handle { file: Arc::new(file), unsynced: true };
        self.0.handles.lock().unwrap_or_else(PoisonError::into_inner).insert(name.into(), handle);
        Ok(())
    }

    fn write_at(&self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.handle(name, true)?.write_all_at(bytes, offset)
    }

    fn set_length(&self, name: &str, length: u64) -> io::Result<()> {
        self.handle(name, true)?.set_len(length)
    }

    fn sync(&self, name: &str) -> io::Result<()> {
        self.handle(name, false)?.sync_data()?;
        self.synced(name);
        Ok(())
    }

    /// Measured against one after the other, on a virtio disk with ext4, group of 1: median 0.33 to 0.34 ms against
    /// 0.35 to 0.40, p99 0.6 to 1.1 ms against 3.6.
    fn sync_beside(&self, name: &str, beside: &mut dyn FnMut()) -> io::Result<()> {
        let mut thread = self.0.beside.lock().unwrap_or_else(PoisonError::into_inner);
        let thread = match &mut *thread {
            Some(thread) => thread,
            none => none.insert(SyncThread::start()?),
        };
        thread.begin(self.handle(name, false)?)?;
        beside();
        thread.end()?;
        self.synced(name);
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.0.path.join(from), self.0.path.join(to))?;
        self.forget(from);
        self.forget(to);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.forget(name);
        std::fs::remove_file(self.0.path.join(name))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        // A name that is not UTF-8 is none of ours.
        std::fs::read_dir(&self.0.path)?
            .filter_map(|file| file.map(|f| f.file_name().into_string().ok()).transpose())
            .collect()
    }

    fn sync_directory(&self) -> io::Result<()> {
        File::open(&self.0.path)?.sync_all()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(&self.0.path)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path.join(name)
    }
}

/// A thread that syncs one file while the caller syncs another: the two flushes of the disk overlap.
#[derive(Debug)]
struct SyncThread {
    requests: Option<SyncSender<Arc<File>>>,
    outcomes: Receiver<io::Result<()>>,
    thread: Option<JoinHandle<()>>,
}

impl SyncThread {
    fn start() -> io::Result<Self> {
        let (requests, queue) = sync_channel::<Arc<File>>(1);
        let (done, outcomes) = sync_channel(1);
        let thread = std::thread::Builder::new().name("journal-sync".into()).spawn(move || {
            while let Ok(file) = queue.recv() {
                if done.send(file.sync_data()).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { requests: Some(requests), outcomes, thread: Some(thread) })
    }

    fn begin(&self, file: Arc<File>) -> io::Result<()> {
        self.requests
            .as_ref()
            .and_then(|requests| requests.send(file).ok())
            .ok_or_else(|| io::Error::other("the sync thread has ended"))
    }

    fn end(&self) -> io::Result<()> {
        self.outcomes.recv().unwrap_or_else(|_| Err(io::Error::other("the sync thread has ended")))
    }
}

impl Drop for SyncThread {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been reported by `end`; there is nothing to add here.
            drop(thread.join());
        }
    }
}
