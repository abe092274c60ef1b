//! A disk in memory that loses at a power cut what was not synced: any subset of the 512-byte sectors written since the
//! last sync of their file; of a length that changed, the old one, the new one or one between; of the names changed
//! since the last sync of the directory, any subset, a rename as a whole.
#![allow(dead_code, reason = "each test target uses a part")]
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking, its helpers too")]

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::io;

use natgw_journal::Disk;
use rustix::io::Errno;

const SECTOR: usize = 512;

#[derive(Clone, Debug, Default)]
struct File {
    now: Vec<u8>,
    durable: Vec<u8>,
    dirty: BTreeSet<usize>,
}

/// A change of names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Renaming {
    Create(String, u64),
    Rename(String, String, u64),
    Remove(String),
}

/// Names lead to file numbers, so that a rename carries the content along.
#[derive(Clone, Debug, Default)]
struct Content {
    files: BTreeMap<u64, File>,
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    renamings: Vec<Renaming>,
    next: u64,
}

/// One thing that a power cut keeps or loses.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Unsynced {
    /// A sector of a file.
    Sector(u64, usize),
    /// A file's length; of several, the one nearest to the new one counts.
    Length(u64, usize),
    /// A change of names.
    Name(Renaming),
}

/// What a broken disk passes over in silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Passed {
    /// Syncs of files whose names begin so.
    Of(&'static str),
    /// Syncs of the directory.
    OfNames,
}

/// The disk. Operations that change something are counted; from the one that `stop_at` names on, all calls fail.
#[derive(Debug, Default)]
pub(crate) struct MemoryDisk {
    content: RefCell<Content>,
    operations: Cell<u64>,
    stop_at: Cell<Option<u64>>,
    pub(crate) passed: Cell<Option<Passed>>,
    /// Files whose names begin so are not given back, with this answer.
    pub(crate) unread: Cell<Option<(&'static str, Errno)>>,
    /// An operation that fails, and of which files, by what their names begin with.
    pub(crate) refused: Cell<Option<(&'static str, &'static str)>>,
    /// A broken way to write the anchor: all of it is cleared before.
    pub(crate) clears_anchor: Cell<bool>,
    /// Of two files synced side by side, the one named first.
    pub(crate) named_first: Cell<bool>,
}

impl MemoryDisk {
    /// How many changing operations there were.
    pub(crate) fn operations(&self) -> u64 {
        self.operations.get()
    }

    /// The power goes before operation number `operation` (counted from 0).
    pub(crate) fn stop_at(&self, operation: u64) {
        self.stop_at.set(Some(operation));
    }

    /// Everything that a power cut now would decide about.
    pub(crate) fn unsynced(&self) -> Vec<Unsynced> {
        let content = self.content.borrow();
        let mut found = Vec::new();
        for (number, file) in &content.files {
            found.extend(file.dirty.iter().map(|sector| Unsynced::Sector(*number, *sector)));
            let (old, new) = (file.durable.len(), file.now.len());
            if old != new {
                // In the middle of a sector, at the end of one, and the new one.
                let middle = old.midpoint(new);
                let lengths = BTreeSet::from([middle, middle / SECTOR * SECTOR, new]);
                let between = |length: &usize| (old.min(new)..=old.max(new)).contains(length) && *length != old;
                found.extend(lengths.into_iter().filter(between).map(|length| Unsynced::Length(*number, length)));
            }
        }
        found.extend(content.renamings.iter().cloned().map(Unsynced::Name));
        found
    }

    /// The disk after a power cut that keeps these.
    pub(crate) fn after_power_cut(&self, kept: &[Unsynced]) -> Self {
        let mut content = self.content.borrow().clone();
        // Lengths first: a sector is kept at its place only in a file that reaches there.
        let (lengths, others): (Vec<_>, Vec<_>) = kept.iter().partition(|kept| matches!(kept, Unsynced::Length(..)));
        for change in lengths.into_iter().chain(others) {
            match change {
                Unsynced::Name(renaming) => renaming.apply(&mut content.durable_names),
                Unsynced::Length(number, length) => {
                    let file = content.files.get_mut(number).unwrap();
                    let (now, durable) = (file.now.len(), file.durable.len());
                    if length.abs_diff(now) < durable.abs_diff(now) {
                        file.durable.resize(*length, 0);
                    }
                }
                Unsynced::Sector(number, sector) => {
                    let file = content.files.get_mut(number).unwrap();
                    let start = sector * SECTOR;
                    let end = (start + SECTOR).min(file.now.len()).min(file.durable.len());
                    if start < end {
                        file.durable[start..end].copy_from_slice(&file.now[start..end]);
                    }
                }
            }
        }
        content.names = content.durable_names.clone();
        content.renamings.clear();
        let named: BTreeSet<u64> = content.names.values().copied().collect();
        content.files.retain(|number, _| named.contains(number));
        for file in content.files.values_mut() {
            file.now = file.durable.clone();
            file.dirty.clear();
        }
        Self { content: RefCell::new(content), ..Self::default() }
    }

    fn check(&self, operation: &str, name: &str) -> io::Result<()> {
        match self.refused.get() {
            Some((refused, prefix)) if refused == operation && name.starts_with(prefix) => Err(Errno::IO.into()),
            _ => Ok(()),
        }
    }

    fn change<T>(&self, change: impl FnOnce(&mut Content) -> io::Result<T>) -> io::Result<T> {
        let operation = self.operations.replace(self.operations.get() + 1);
        if self.stop_at.get().is_some_and(|stop| operation >= stop) {
            return Err(io::Error::other("the power is off"));
        }
        change(&mut self.content.borrow_mut())
    }
}

impl Renaming {
    fn apply(&self, names: &mut BTreeMap<String, u64>) {
        match self {
            Self::Create(name, number) => drop(names.insert(name.clone(), *number)),
            Self::Rename(from, to, number) => {
                names.remove(from);
                names.insert(to.clone(), *number);
            }
            Self::Remove(name) => drop(names.remove(name)),
        }
    }
}

impl Content {
    fn number(&self, name: &str) -> io::Result<u64> {
        self.names.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn file(&mut self, name: &str) -> io::Result<&mut File> {
        let number = self.number(name)?;
        Ok(self.files.get_mut(&number).unwrap())
    }

    fn rename(&mut self, renaming: Renaming) {
        renaming.apply(&mut self.names);
        self.renamings.push(renaming);
    }
}

impl Disk for MemoryDisk {
    fn read_at(&self, name: &str, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some((_, errno)) = self.unread.get().filter(|(prefix, _)| name.starts_with(prefix)) {
            return Err(errno.into());
        }
        let mut content = self.content.borrow_mut();
        let rest = content.file(name)?.now.get(usize::try_from(offset).unwrap()..).unwrap_or_default();
        let read = rest.len().min(buffer.len());
        buffer[..read].copy_from_slice(&rest[..read]);
        Ok(read)
    }

    fn length(&self, name: &str) -> io::Result<u64> {
        Ok(self.content.borrow_mut().file(name)?.now.len() as u64)
    }

    fn create(&self, name: &str) -> io::Result<()> {
        self.change(|content| {
            if let Ok(file) = content.file(name) {
                file.now.clear();
                file.dirty.clear();
                return Ok(());
            }
            content.next += 1;
            content.files.insert(content.next, File::default());
            content.rename(Renaming::Create(name.into(), content.next));
            Ok(())
        })
    }

    fn write_at(&self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.check("write", name)?;
        if self.clears_anchor.get() && name == "anchor" {
            self.change(|content| {
                let file = content.file(name)?;
                file.now.fill(0);
                file.dirty.extend(0..file.now.len().div_ceil(SECTOR));
                Ok(())
            })?;
        }
        self.change(|content| {
            let file = content.file(name)?;
            let start = usize::try_from(offset).unwrap();
            assert!(start <= file.now.len(), "{name} would have a hole");
            file.now.resize(file.now.len().max(start + bytes.len()), 0);
            file.now[start..start + bytes.len()].copy_from_slice(bytes);
            file.dirty.extend(start / SECTOR..(start + bytes.len()).div_ceil(SECTOR));
            Ok(())
        })
    }

    fn set_length(&self, name: &str, length: u64) -> io::Result<()> {
        self.change(|content| {
            let file = content.file(name)?;
            file.now.truncate(usize::try_from(length).unwrap());
            file.dirty.split_off(&file.now.len().div_ceil(SECTOR));
            Ok(())
        })
    }

    fn sync(&self, name: &str) -> io::Result<()> {
        self.check("sync", name)?;
        let passed = matches!(self.passed.get(), Some(Passed::Of(prefix)) if name.starts_with(prefix));
        self.change(|content| {
            let file = content.file(name)?;
            if !passed {
                file.durable = file.now.clone();
                file.dirty.clear();
            }
            Ok(())
        })
    }

    fn sync_beside(&self, name: &str, beside: &mut dyn FnMut()) -> io::Result<()> {
        if self.named_first.get() {
            let synced = self.sync(name);
            beside();
            return synced;
        }
        beside();
        self.sync(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.change(|content| {
            let number = content.number(from)?;
            content.rename(Renaming::Rename(from.into(), to.into(), number));
            Ok(())
        })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.check("remove", name)?;
        self.change(|content| {
            content.number(name)?;
            content.rename(Renaming::Remove(name.into()));
            Ok(())
        })
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.content.borrow().names.keys().cloned().collect())
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.check("sync names", "")?;
        self.change(|content| {
            if self.passed.get() != Some(Passed::OfNames) {
                content.durable_names = content.names.clone();
                content.renamings.clear();
            }
            Ok(())
        })
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(u64::MAX)
    }
}
