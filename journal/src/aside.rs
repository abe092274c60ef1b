//! Setting a damaged journal aside: its files are evidence, so they are renamed and never deleted.

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::Error;
use crate::files::{self, ANCHOR, LOCK, at};
use crate::store::RefusedBy;

/// Moves all files of the journal in `dir` (its lock excepted) to the first free of the sibling directories
/// `<dir>.set-aside-1`, `-2`, … and gives that directory. `dir` is then empty and can be begun anew. Both must lie on
/// one file system: `dir` is a directory below the volume, not the mount point itself.
///
/// # Errors
/// [`Error::InUse`] if a process has the journal open, [`Error::NoJournal`] if there is none, [`Error::Io`] if a
/// rename fails. A call that was cut short leaves a journal that still opens as damaged, and can be repeated.
///
/// Nothing but names is read. A directory that the disk does not even list is itself renamed, and a new one made.
pub fn set_aside(dir: &Path) -> Result<PathBuf, Error> {
    let none = || Error::NoJournal { dir: dir.into() };
    let name = dir.file_name().ok_or_else(none)?;
    if !dir.is_dir() {
        return Err(none());
    }
    let _lock = files::lock_exclusive(dir)?;
    let mut present = match files::names_in(dir) {
        Err(error) if error.refused_by() == RefusedBy::Store => return whole_aside(dir, name),
        names => names?,
    };
    present.retain(|name| name != LOCK);
    // The anchor goes last: until then the rest is missed.
    present.sort_by_key(|name| name == ANCHOR);
    if present.is_empty() {
        return Err(none());
    }
    let target = free_sibling(dir, name)?;
    for file in present {
        let from = dir.join(&file);
        std::fs::rename(&from, target.join(file)).map_err(at("rename", &from))?;
    }
    files::sync_file(&target)?;
    files::sync_file(dir)?;
    Ok(target)
}

/// The same with a directory whose names cannot be read.
fn whole_aside(dir: &Path, name: &OsStr) -> Result<PathBuf, Error> {
    let target = free_sibling(dir, name)?;
    std::fs::rename(dir, &target).map_err(at("rename", dir))?;
    files::sync_parent(dir)?;
    files::create_dir(dir)?;
    Ok(target)
}

/// Makes the first free one of the sibling directories, durably.
fn free_sibling(dir: &Path, name: &OsStr) -> Result<PathBuf, Error> {
    let target = (1_u32..)
        .find_map(|n| {
            let mut sibling = name.to_os_string();
            sibling.push(format!(".set-aside-{n}"));
            let sibling = dir.with_file_name(sibling);
            match std::fs::create_dir(&sibling) {
                Err(e) if e.kind() == ErrorKind::AlreadyExists => None,
                created => Some(created.map_err(at("create", &sibling)).map(|()| sibling)),
            }
        })
        .ok_or(Error::Exhausted)??;
    files::sync_parent(&target)?;
    Ok(target)
}
