//! Directories and files below the journal: names, copies, syncs, the fingerprint of sled's files, the lock.
//! Every change of names is followed by a sync of the directory it happened in.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use crate::Error;
use crate::store::RefusedBy;

/// sled's directory.
pub(crate) const SLED: &str = "sled";
/// A copy of sled's directory that is being opened; `SLED` is untouched while it exists.
pub(crate) const SLED_OPENING: &str = "sled.opening";
/// sled's directory as it was before the last opening after an unclean stop.
pub(crate) const SLED_BEFORE_OPEN: &str = "sled.before-open";
/// The anchor file.
pub(crate) const ANCHOR: &str = "anchor";
/// The anchor file while it is created.
pub(crate) const ANCHOR_DRAFT: &str = "anchor.draft";
/// The lock file, empty.
pub(crate) const LOCK: &str = "lock";
/// sled's log inside its directory.
pub(crate) const SLED_DB: &str = "db";

/// Names the failed operation and the path.
pub(crate) fn at(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_path_buf();
    move |source| Error::Io { what, path, source }
}

/// Where sled's files are: between the two renames that end an opening after an unclean stop, under the name they
/// were moved to.
pub(crate) fn data_dir(dir: &Path) -> PathBuf {
    let (live, before) = (dir.join(SLED), dir.join(SLED_BEFORE_OPEN));
    // Of what cannot be looked at nobody knows that it is gone.
    let gone = live.try_exists().is_ok_and(|there| !there);
    if gone && dir.join(SLED_OPENING).exists() && before.exists() { before } else { live }
}

/// Whether there is something under this name, be it something that the disk does not give back.
pub(crate) fn is_there(path: &Path) -> Result<bool, Error> {
    match path.try_exists() {
        Err(e) if RefusedBy::of(&e) == RefusedBy::Machine => Err(at("look at", path)(e)),
        found => Ok(found.unwrap_or(true)),
    }
}

/// Takes the exclusive lock of the journal directory; it lasts as long as the file is open.
pub(crate) fn lock_exclusive(dir: &Path) -> Result<File, Error> {
    let path = dir.join(LOCK);
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(at("open", &path))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::InUse { dir: dir.into() }),
        Err(e) => Err(at("lock", &path)(e.into())),
    }
}

/// Takes a shared lock where the lock file can be opened, so that no writer works while the directory is copied. A
/// directory without a lock file, or one on a file system without locks, is taken as it is.
pub(crate) fn lock_shared(dir: &Path) -> Result<Option<File>, Error> {
    let Ok(file) = File::open(dir.join(LOCK)) else {
        return Ok(None);
    };
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) {
        Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::InUse { dir: dir.into() }),
        Ok(()) | Err(_) => Ok(Some(file)),
    }
}

pub(crate) fn sync_file(path: &Path) -> Result<(), Error> {
    let file = File::open(path).map_err(at("open", path))?;
    file.sync_all().map_err(at("sync", path))
}

pub(crate) fn sync_parent(path: &Path) -> Result<(), Error> {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => sync_file(Path::new(".")),
        Some(parent) => sync_file(parent),
        None => Ok(()),
    }
}

/// Creates `dir` and what is missing above it, durably.
pub(crate) fn create_dir(dir: &Path) -> Result<(), Error> {
    if dir.is_dir() {
        return Ok(());
    }
    if let Some(parent) = dir.parent()
        && !parent.as_os_str().is_empty()
    {
        create_dir(parent)?;
    }
    match std::fs::create_dir(dir) {
        Ok(()) => sync_parent(dir),
        Err(e) if e.kind() == ErrorKind::AlreadyExists && dir.is_dir() => Ok(()),
        Err(e) => Err(at("create", dir)(e)),
    }
}

/// Removes a directory tree if it is there.
pub(crate) fn remove_tree(dir: &Path) -> Result<(), Error> {
    match std::fs::remove_dir_all(dir) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(at("remove", dir)(e)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Copies the files of the tree `from` that `wanted` takes by name to the new tree `to`. Not synced. Inside: a file
/// that the disk does not give back.
pub(crate) fn copy_tree(from: &Path, to: &Path, wanted: fn(&str) -> bool) -> Result<Result<(), Error>, Error> {
    std::fs::create_dir_all(to).map_err(at("create", to))?;
    let files = match tree(from) {
        Err(error) if error.refused_by() == RefusedBy::Store => return Ok(Err(error)),
        files => files?,
    };
    for file in files {
        let (source, target) = (from.join(&file), to.join(&file));
        if source.is_dir() {
            std::fs::create_dir_all(&target).map_err(at("create", &target))?;
        } else if wanted(&file.to_string_lossy())
            && let Err(unread) = copy_file(&source, &target)?
        {
            return Ok(Err(unread));
        }
    }
    Ok(Ok(()))
}

/// Copies a file. Inside: that the disk does not give it back. Outside: that the copy cannot be written, or another
/// refusal of the machine, which says nothing of the file.
pub(crate) fn copy_file(source: &Path, target: &Path) -> Result<Result<(), Error>, Error> {
    match std::fs::copy(source, target) {
        Ok(_) => Ok(Ok(())),
        Err(error) if RefusedBy::of(&error) == RefusedBy::Machine => Err(at("copy", source)(error)),
        // The system does not say which of the two files it is about.
        Err(error) => match checksum_file(source, 0) {
            Err(unread) if unread.refused_by() == RefusedBy::Store => Ok(Err(unread)),
            Err(refused) => Err(refused),
            Ok(_) => Err(at("copy", source)(error)),
        },
    }
}

/// Syncs all files and directories of a tree, the root included.
pub(crate) fn sync_tree(dir: &Path) -> Result<(), Error> {
    for file in tree(dir)? {
        sync_file(&dir.join(file))?;
    }
    sync_file(dir)
}

/// Bytes of all files of a tree.
pub(crate) fn tree_bytes(dir: &Path) -> Result<u64, Error> {
    let mut bytes = 0_u64;
    for file in tree(dir)? {
        let path = dir.join(file);
        match std::fs::metadata(&path) {
            Ok(data) if data.is_dir() => {}
            Ok(data) => bytes = bytes.saturating_add(data.len()),
            // sled replaces its derived files while it works.
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(at("look at", &path)(e)),
        }
    }
    Ok(bytes)
}

/// CRC-32C over names, lengths and bytes of all files of a tree, in the order of their names.
pub(crate) fn fingerprint(dir: &Path) -> Result<u32, Error> {
    let mut checksum = 0;
    for file in tree(dir)? {
        let path = dir.join(&file);
        checksum = crc32c::crc32c_append(checksum, file.as_encoded_bytes());
        if !path.is_dir() {
            checksum = checksum_file(&path, checksum)?;
        }
    }
    Ok(checksum)
}

/// Appends bytes and length of a file to a checksum: reads all of it.
fn checksum_file(path: &Path, mut checksum: u32) -> Result<u32, Error> {
    let mut buffer = vec![0; 1 << 16];
    let mut opened = File::open(path).map_err(at("open", path))?;
    let mut length = 0_u64;
    loop {
        let read = opened.read(&mut buffer).map_err(at("read", path))?;
        let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else {
            return Ok(crc32c::crc32c_append(checksum, &length.to_le_bytes()));
        };
        checksum = crc32c::crc32c_append(checksum, bytes);
        length = length.saturating_add(bytes.len() as u64);
    }
}

/// The names of all files and directories in one, sorted.
pub(crate) fn names_in(dir: &Path) -> Result<Vec<OsString>, Error> {
    let entries = std::fs::read_dir(dir).map_err(at("list", dir))?;
    let mut names =
        entries.map(|entry| entry.map(|e| e.file_name())).collect::<Result<Vec<_>, _>>().map_err(at("list", dir))?;
    names.sort();
    Ok(names)
}

/// Whether the directory exists and has something in it.
pub(crate) fn is_occupied(dir: &Path) -> Result<bool, Error> {
    match std::fs::read_dir(dir) {
        Ok(mut files) => Ok(files.next().is_some()),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
        Err(e) => Err(at("list", dir)(e)),
    }
}

/// Relative paths of all files and directories of a tree, sorted, a directory before what it holds.
fn tree(dir: &Path) -> Result<Vec<OsString>, Error> {
    let mut found = Vec::new();
    let mut open = vec![PathBuf::new()];
    while let Some(relative) = open.pop() {
        let path = dir.join(&relative);
        for file in std::fs::read_dir(&path).map_err(at("list", &path))? {
            let file = file.map_err(at("list", &path))?;
            let name = relative.join(file.file_name());
            if file.file_type().map_err(at("list", &path))?.is_dir() {
                open.push(name.clone());
            }
            found.push(name.into_os_string());
        }
    }
    found.sort();
    Ok(found)
}
