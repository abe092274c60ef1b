//! A disk in memory that loses at a power cut what was not synced: any subset of the 512-byte sectors written since the
//! last sync of their file, the change of length apart from them, and all changes of names since the last sync of the
//! directory, or none.
#![allow(dead_code, reason = "each test target uses a part")]
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking, its helpers too")]

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::io;

use natgw_journal::Disk;

const SECTOR: usize = 512;

#[derive(Clone, Debug, Default)]
struct File {
    now: Vec<u8>,
    durable: Vec<u8>,
    dirty: BTreeSet<usize>,
}

/// Names lead to file numbers, so that a rename carries the content along.
#[derive(Clone, Debug, Default)]
struct Content {
    files: BTreeMap<u64, File>,
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    next: u64,
}

/// One thing that a power cut keeps or loses.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Unsynced {
    /// A sector of a file.
    Sector(u64, usize),
    /// A file's length.
    Length(u64),
    /// All changes of names since the last sync of the directory.
    Names,
}

/// The disk. Operations that change something are counted; from the one that `stop_at` names on, all calls fail.
#[derive(Debug, Default)]
pub(crate) struct MemoryDisk {
    content: RefCell<Content>,
    operations: Cell<u64>,
    stop_at: Cell<Option<u64>>,
    pub(crate) ignore_syncs_of: Cell<Option<&'static str>>,
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
            if file.now.len() != file.durable.len() {
                found.push(Unsynced::Length(*number));
            }
        }
        if content.names != content.durable_names {
            found.push(Unsynced::Names);
        }
        found
    }

    /// The disk after a power cut that keeps these.
    pub(crate) fn after_power_cut(&self, kept: &[Unsynced]) -> Self {
        let mut content = self.content.borrow().clone();
        // Lengths first: a sector is kept at its place only in a file that reaches there.
        let (lengths, others): (Vec<_>, Vec<_>) = kept.iter().partition(|kept| matches!(kept, Unsynced::Length(_)));
        for change in lengths.into_iter().chain(others) {
            match change {
                Unsynced::Names => content.durable_names = content.names.clone(),
                Unsynced::Length(number) => {
                    let file = content.files.get_mut(number).unwrap();
                    file.durable.resize(file.now.len(), 0);
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
        let named: BTreeSet<u64> = content.names.values().copied().collect();
        content.files.retain(|number, _| named.contains(number));
        for file in content.files.values_mut() {
            file.now = file.durable.clone();
            file.dirty.clear();
        }
        Self { content: RefCell::new(content), ..Self::default() }
    }

    fn change<T>(&self, change: impl FnOnce(&mut Content) -> io::Result<T>) -> io::Result<T> {
        let operation = self.operations.replace(self.operations.get() + 1);
        if self.stop_at.get().is_some_and(|stop| operation >= stop) {
            return Err(io::Error::other("the power is off"));
        }
        change(&mut self.content.borrow_mut())
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
}

impl Disk for MemoryDisk {
    fn read_at(&self, name: &str, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
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
                return Ok(());
            }
            content.next += 1;
            content.files.insert(content.next, File::default());
            content.names.insert(name.into(), content.next);
            Ok(())
        })
    }

    fn write_at(&self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
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
            content.file(name)?.now.truncate(usize::try_from(length).unwrap());
            Ok(())
        })
    }

    fn sync(&self, name: &str) -> io::Result<()> {
        let ignored = self.ignore_syncs_of.get().is_some_and(|prefix| name.starts_with(prefix));
        self.change(|content| {
            let file = content.file(name)?;
            if !ignored {
                file.durable = file.now.clone();
                file.dirty.clear();
            }
            Ok(())
        })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.change(|content| {
            let number = content.number(from)?;
            content.names.remove(from);
            content.names.insert(to.into(), number);
            Ok(())
        })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.change(|content| {
            content.number(name)?;
            content.names.remove(name);
            Ok(())
        })
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.content.borrow().names.keys().cloned().collect())
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.change(|content| {
            content.durable_names = content.names.clone();
            Ok(())
        })
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(u64::MAX)
    }
}
