//! The seam below everything that is not sled: the files of one directory. [`Directory`] is the real one; a simulator
//! implements [`Disk`] in memory, loses at a power cut what was not synced, and fails any call it likes.
//!
//! The trait says no more than POSIX does after a crash: see each method for what is durable after it returned.

mod directory;

use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

pub use directory::Directory;

use crate::Error;

/// The files of one directory, by plain names without separators.
///
/// Methods take `&self`: a handle may be shared, and [`Disk`] is implemented for `&D`, [`Rc`] and [`Arc`] of a disk.
/// A file that is not there is an error of kind [`io::ErrorKind::NotFound`]. Reads see what was written, synced or
/// not. **Unless a method says otherwise, nothing it did is sure to survive a power cut**, and what survives may be
/// any subset of the 512-byte sectors written since the last sync; a sector is written as a whole or not at all.
///
/// After an error of [`Disk::sync`], [`Disk::sync_beside`] or [`Disk::sync_directory`] it is unknown what is durable,
/// and the journal never calls it again for the same data: it is poisoned.
pub trait Disk {
    /// Reads bytes from `offset` on into `buffer` and gives how many: fewer than asked only at the end of the file.
    ///
    /// # Errors
    /// The system's.
    fn read_at(&self, name: &str, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;

    /// The file's length in bytes.
    ///
    /// # Errors
    /// The system's.
    fn length(&self, name: &str) -> io::Result<u64>;

    /// Creates an empty file; one that exists is emptied. The name is durable after [`Disk::sync_directory`].
    ///
    /// # Errors
    /// The system's.
    fn create(&self, name: &str) -> io::Result<()>;

    /// Writes all `bytes` at `offset`, which is at most the file's length.
    ///
    /// # Errors
    /// The system's; any part of the bytes may have been written then.
    fn write_at(&self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Cuts the file to `length`, which is at most its length.
    ///
    /// # Errors
    /// The system's.
    fn set_length(&self, name: &str, length: u64) -> io::Result<()>;

    /// Makes content and length of the file durable (`fdatasync`), not its name.
    ///
    /// # Errors
    /// The system's; what is durable then is unknown.
    fn sync(&self, name: &str) -> io::Result<()>;

    /// Runs `beside` exactly once and does [`Disk::sync`], in any order or at the same time, and returns after both.
    /// As provided: first `beside`, then the sync, in the caller's thread.
    ///
    /// # Errors
    /// As [`Disk::sync`].
    fn sync_beside(&self, name: &str, beside: &mut dyn FnMut()) -> io::Result<()> {
        beside();
        self.sync(name)
    }

    /// Gives the file another name, replacing what has it: after a crash the one or the other is there, never neither.
    /// Durable after [`Disk::sync_directory`].
    ///
    /// # Errors
    /// The system's.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes the file. Durable after [`Disk::sync_directory`].
    ///
    /// # Errors
    /// The system's.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// The names of all files, in any order. Directories may be among them.
    ///
    /// # Errors
    /// The system's.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Makes names durable: what was created, renamed and removed.
    ///
    /// # Errors
    /// The system's; what is durable then is unknown.
    fn sync_directory(&self) -> io::Result<()>;

    /// Bytes that can still be written before the file system is full.
    ///
    /// # Errors
    /// The system's.
    fn free_bytes(&self) -> io::Result<u64>;

    /// What to call the file in a message.
    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from(name)
    }
}

/// Implements [`Disk`] for a pointer to a disk.
macro_rules! forward {
    ($($pointer:ty),+) => {$(
        impl<D: Disk + ?Sized> Disk for $pointer {
            fn read_at(&self, name: &str, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
                (**self).read_at(name, offset, buffer)
            }

            fn length(&self, name: &str) -> io::Result<u64> {
                (**self).length(name)
            }

            fn create(&self, name: &str) -> io::Result<()> {
                (**self).create(name)
            }

            fn write_at(&self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
                (**self).write_at(name, offset, bytes)
            }

            fn set_length(&self, name: &str, length: u64) -> io::Result<()> {
                (**self).set_length(name, length)
            }

            fn sync(&self, name: &str) -> io::Result<()> {
                (**self).sync(name)
            }

            fn sync_beside(&self, name: &str, beside: &mut dyn FnMut()) -> io::Result<()> {
                (**self).sync_beside(name, beside)
            }

            fn rename(&self, from: &str, to: &str) -> io::Result<()> {
                (**self).rename(from, to)
            }

            fn remove(&self, name: &str) -> io::Result<()> {
                (**self).remove(name)
            }

            fn list(&self) -> io::Result<Vec<String>> {
                (**self).list()
            }

            fn sync_directory(&self) -> io::Result<()> {
                (**self).sync_directory()
            }

            fn free_bytes(&self) -> io::Result<u64> {
                (**self).free_bytes()
            }

            fn path(&self, name: &str) -> PathBuf {
                (**self).path(name)
            }
        }
    )+};
}

forward!(&D, Rc<D>, Arc<D>);

/// Names the failed operation and the file.
pub(crate) fn on(disk: &impl Disk, what: &'static str, name: &str) -> impl FnOnce(io::Error) -> Error {
    let path = disk.path(name);
    move |source| Error::Io { what, path, source }
}

/// Reads the whole file, but no more than `at_most` bytes.
pub(crate) fn read_all(disk: &impl Disk, name: &str, at_most: usize) -> io::Result<Vec<u8>> {
    let length = usize::try_from(disk.length(name)?).unwrap_or(usize::MAX).min(at_most);
    let mut bytes = vec![0; length];
    let read = read_full(disk, name, 0, &mut bytes)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// Fills the buffer from `offset` on, as far as the file goes.
pub(crate) fn read_full(disk: &impl Disk, name: &str, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let mut done = 0;
    while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
        let at = offset.saturating_add(done as u64);
        match disk.read_at(name, at, rest)? {
            0 => break,
            read => done = done.saturating_add(read),
        }
    }
    Ok(done)
}
