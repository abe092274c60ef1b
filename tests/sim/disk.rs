//! Disks in memory. What was not synced may be lost at a power cut: of files any subset of their 512-byte sectors, and
//! their growth; of names all changes or none; of sled, as it was measured, any number of its last groups.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::rc::Rc;

use natgw_journal::{Disk, Frames, NumberedFrame, Store, StoreFault};

use crate::dice::Dice;

const SECTOR: usize = 512;

/// What goes wrong at an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trip {
    /// The power goes: nothing works from here on.
    Power,
    /// The volume is full.
    Full,
    /// The write fails.
    Write,
    /// The sync fails, and what it was for will never be on the disk.
    Sync,
}

#[derive(Clone, Debug, Default)]
struct File {
    now: Vec<u8>,
    durable: Vec<u8>,
    /// Sectors that the next sync brings to the disk.
    dirty: BTreeSet<usize>,
}

#[derive(Clone, Debug, Default)]
struct Content {
    files: BTreeMap<u64, File>,
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    created: u64,
    groups: Groups,
}

/// The values of the simulated sled.
#[derive(Clone, Debug, Default)]
struct Groups {
    frames: BTreeMap<u64, Vec<u8>>,
    /// Of each group that was not synced, in order: its frames.
    unsynced: Vec<Vec<u64>>,
    /// A sync failed: these are on no disk and never will be, whatever later syncs say.
    doomed: usize,
}

/// A volume: files, and beside them what a simulated sled keeps.
#[derive(Debug, Default)]
pub struct SimDisk {
    content: RefCell<Content>,
    /// What goes wrong, and after how many operations that change something.
    trip: Cell<Option<(u64, Trip)>>,
    off: Cell<bool>,
    /// Whether the anchor, and whether anything else, was damaged since the journal was last opened.
    struck: Cell<(bool, bool)>,
    /// Syncs are acknowledged and do nothing: a mutant.
    pub lies: Cell<bool>,
}

/// What a volume held at a moment.
#[derive(Clone, Debug, Default)]
pub struct Image(Content);

/// What a power cut did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cut {
    /// Something was lost.
    pub lost: bool,
    /// Of one file a part was lost and a part was not.
    pub torn: bool,
    /// A file kept its length and lost what was in it.
    pub zeroed: bool,
}

impl SimDisk {
    /// From now on something goes wrong after so many operations.
    pub fn trip_after(&self, operations: u64, trip: Trip) {
        self.trip.set(Some((operations, trip)));
    }

    /// Nothing goes wrong, and the power is on.
    pub fn mend(&self) {
        self.trip.set(None);
        self.off.set(false);
    }

    /// Whether the power went.
    pub fn is_off(&self) -> bool {
        self.off.get()
    }

    /// Whether a power cut now would lose nothing.
    pub fn is_synced(&self) -> bool {
        let content = self.content.borrow();
        let durable = |file: &File| file.dirty.is_empty() && file.now.len() == file.durable.len();
        // Files to which no name leads any more are nobody's.
        let mut named = content.names.values().filter_map(|number| content.files.get(number));
        content.groups.unsynced.is_empty() && content.names == content.durable_names && named.all(durable)
    }

    /// What the simulated sled keeps is written anew, and synced.
    pub fn copy_groups(&self) {
        let groups = &mut self.content.borrow_mut().groups;
        groups.unsynced.clear();
        groups.doomed = 0;
    }

    pub fn image(&self) -> Image {
        Image(self.content.borrow().clone())
    }

    /// Puts everything back to an image.
    pub fn restore(&self, image: &Image) {
        *self.content.borrow_mut() = image.0.clone();
    }

    /// Puts one file back to an image, or takes it away where there is none.
    pub fn restore_file(&self, name: &str, image: Option<&Image>) {
        let mut content = self.content.borrow_mut();
        let before = image.and_then(|Image(before)| before.files.get(before.names.get(name)?).cloned());
        match before {
            Some(file) => {
                content.created += 1;
                let number = content.created;
                content.files.insert(number, file);
                content.names.insert(name.to_owned(), number);
                content.durable_names.insert(name.to_owned(), number);
            }
            None => {
                content.names.remove(name);
                content.durable_names.remove(name);
            }
        }
    }

    /// Changes bytes somewhere: one bit, or 4 KiB to zeros. Says whether by now the anchor and the data are damaged: of
    /// the anchor's two slots the older one may be left, and of the data what was there at that time.
    pub fn damage(&self, dice: &mut Dice, page: bool) -> bool {
        let mut content = self.content.borrow_mut();
        let Content { files, names, groups, .. } = &mut *content;
        let anchor = names.get("anchor").copied();
        let files_now = files.iter_mut().map(|(number, file)| (Some(*number) == anchor, &mut file.now));
        let mut places: Vec<_> = files_now.chain(groups.frames.values_mut().map(|frame| (false, frame))).collect();
        places.retain(|(_, bytes)| !bytes.is_empty());
        if places.is_empty() {
            return false;
        }
        let at = dice.index(places.len());
        let (of_anchor, bytes) = &mut places[at];
        let (anchor_struck, data_struck) = self.struck.get();
        self.struck.set((anchor_struck || *of_anchor, data_struck || !*of_anchor));
        let place = dice.index(bytes.len());
        if page {
            let start = place / 4_096 * 4_096;
            let end = (start + 4_096).min(bytes.len());
            bytes[start..end].fill(0);
        } else {
            bytes[place] ^= 1 << dice.draw(8);
        }
        for file in files.values_mut() {
            file.durable.clone_from(&file.now);
        }
        self.struck.get() == (true, true)
    }

    /// The journal is opened: what was damaged is judged, and written anew where it is of use.
    pub fn opened(&self) {
        self.struck.set((false, false));
    }

    /// The power goes, and comes back.
    pub fn power_cut(&self, dice: &mut Dice, keeps_length: bool) -> Cut {
        self.mend();
        let mut cut = Cut::default();
        let mut content = self.content.borrow_mut();
        if content.names != content.durable_names && dice.one_in(2) {
            content.durable_names = content.names.clone();
        }
        content.names = content.durable_names.clone();
        let named: BTreeSet<u64> = content.names.values().copied().collect();
        content.files.retain(|number, _| named.contains(number));
        for file in content.files.values_mut() {
            file.lose(dice, keeps_length, &mut cut);
        }
        let groups = &mut content.groups;
        let keeps = if groups.doomed > 0 { 0 } else { dice.index(groups.unsynced.len() + 1) };
        for group in std::mem::take(&mut groups.unsynced).into_iter().skip(keeps) {
            cut.lost = true;
            group.iter().for_each(|number| drop(groups.frames.remove(number)));
        }
        groups.doomed = 0;
        cut
    }

    fn change<T>(&self, writes: bool, change: impl FnOnce(&mut Content) -> io::Result<T>) -> io::Result<T> {
        match self.trip.get() {
            _ if self.off.get() => return Err(io::Error::other("the power is off")),
            Some((0, Trip::Power)) => {
                self.off.set(true);
                return Err(io::Error::other("the power is off"));
            }
            Some((0, Trip::Full)) if writes => return Err(io::ErrorKind::StorageFull.into()),
            Some((0, Trip::Write)) if writes => {
                self.trip.set(None);
                return Err(io::Error::other("input/output error"));
            }
            Some((left, trip)) => self.trip.set(Some((left.saturating_sub(1), trip))),
            None => {}
        }
        change(&mut self.content.borrow_mut())
    }

    /// Whether this sync fails.
    fn fails_to_sync(&self) -> bool {
        let fails = matches!(self.trip.get(), Some((0, Trip::Sync)));
        if fails {
            self.trip.set(None);
        }
        fails
    }
}

impl File {
    fn sync(&mut self) {
        self.durable.resize(self.now.len(), 0);
        for sector in std::mem::take(&mut self.dirty) {
            let start = sector * SECTOR;
            let end = (start + SECTOR).min(self.now.len());
            if start < end {
                self.durable[start..end].copy_from_slice(&self.now[start..end]);
            }
        }
    }

    fn lose(&mut self, dice: &mut Dice, keeps_length: bool, cut: &mut Cut) {
        let dirty: Vec<usize> = std::mem::take(&mut self.dirty).into_iter().collect();
        let grown = self.now.len() > self.durable.len() && (keeps_length || dice.one_in(2));
        if grown {
            self.durable.resize(self.now.len(), 0);
        }
        let mut kept = 0;
        for sector in &dirty {
            let start = sector * SECTOR;
            let end = (start + SECTOR).min(self.now.len()).min(self.durable.len());
            if start < end && dice.one_in(2) {
                self.durable[start..end].copy_from_slice(&self.now[start..end]);
                kept += 1;
            }
        }
        cut.lost |= self.durable != self.now;
        cut.torn |= kept > 0 && kept < dirty.len();
        cut.zeroed |= grown && kept < dirty.len();
        self.now.clone_from(&self.durable);
    }
}

impl Content {
    fn file(&mut self, name: &str) -> io::Result<&mut File> {
        let number = self.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        self.files.get_mut(number).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

fn place(offset: u64) -> usize {
    usize::try_from(offset).expect("files are small")
}

impl Disk for SimDisk {
    fn read_at(&self, name: &str, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut content = self.content.borrow_mut();
        let rest = content.file(name)?.now.get(place(offset)..).unwrap_or_default();
        let read = rest.len().min(buffer.len());
        buffer[..read].copy_from_slice(&rest[..read]);
        Ok(read)
    }

    fn length(&self, name: &str) -> io::Result<u64> {
        Ok(self.content.borrow_mut().file(name)?.now.len() as u64)
    }

    fn create(&self, name: &str) -> io::Result<()> {
        self.change(true, |content| {
            if let Ok(file) = content.file(name) {
                file.now.clear();
                return Ok(());
            }
            content.created += 1;
            content.files.insert(content.created, File::default());
            content.names.insert(name.to_owned(), content.created);
            Ok(())
        })
    }

    fn write_at(&self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.change(true, |content| {
            let file = content.file(name)?;
            let (start, end) = (place(offset), place(offset) + bytes.len());
            assert!(start <= file.now.len(), "{name} would have a hole");
            file.now.resize(file.now.len().max(end), 0);
            file.now[start..end].copy_from_slice(bytes);
            file.dirty.extend(start / SECTOR..end.div_ceil(SECTOR));
            Ok(())
        })
    }

    fn set_length(&self, name: &str, length: u64) -> io::Result<()> {
        self.change(true, |content| {
            content.file(name)?.now.truncate(place(length));
            Ok(())
        })
    }

    fn sync(&self, name: &str) -> io::Result<()> {
        let (fails, lies) = (self.fails_to_sync(), self.lies.get());
        self.change(false, |content| {
            let file = content.file(name)?;
            if fails {
                // The pages count as clean from here on, and are on no disk.
                file.dirty.clear();
                return Err(io::Error::other("input/output error"));
            }
            if !lies {
                file.sync();
            }
            Ok(())
        })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.change(true, |content| {
            let number = content.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
            content.names.insert(to.to_owned(), number);
            Ok(())
        })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.change(true, |content| content.names.remove(name).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into()))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.content.borrow().names.keys().cloned().collect())
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.change(false, |content| {
            content.durable_names = content.names.clone();
            Ok(())
        })
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(u64::MAX)
    }
}

/// sled as it was measured (reliability.md §6): a power cut loses any number of the last unsynced groups, never one before
/// another, and never a part.
#[derive(Clone, Debug)]
pub struct SimSled(pub Rc<SimDisk>);

impl SimSled {
    fn change<T>(&self, writes: bool, change: impl FnOnce(&mut Groups) -> io::Result<T>) -> Result<T, StoreFault> {
        let changed = self.0.change(writes, |content| change(&mut content.groups));
        changed.map_err(|error| StoreFault::new("write", error))
    }
}

impl Store for SimSled {
    fn put(&mut self, frames: Vec<NumberedFrame>) -> Result<(), StoreFault> {
        self.change(true, |groups| {
            groups.unsynced.push(frames.iter().map(|(number, _)| *number).collect());
            groups.frames.extend(frames);
            Ok(())
        })
    }

    fn flush(&mut self) -> Result<(), StoreFault> {
        self.change(false, |_| Ok(()))
    }

    fn sync(&self) -> Result<(), StoreFault> {
        let (fails, lies) = (self.0.fails_to_sync(), self.0.lies.get());
        self.change(false, |groups| {
            if fails {
                groups.doomed = groups.unsynced.len();
                return Err(io::Error::other("input/output error"));
            }
            if groups.doomed == 0 && !lies {
                groups.unsynced.clear();
            }
            Ok(())
        })
    }

    fn frame(&self, number: u64) -> Result<Option<Vec<u8>>, StoreFault> {
        Ok(self.0.content.borrow().groups.frames.get(&number).cloned())
    }

    fn first(&self) -> Result<Option<u64>, StoreFault> {
        Ok(self.0.content.borrow().groups.frames.first_key_value().map(|(number, _)| *number))
    }

    fn last(&self) -> Result<Option<u64>, StoreFault> {
        Ok(self.0.content.borrow().groups.frames.last_key_value().map(|(number, _)| *number))
    }

    fn scan(&self, from: u64) -> Frames<'_> {
        let content = self.0.content.borrow();
        let frames = content.groups.frames.range(from..).map(|(number, bytes)| (*number, bytes.clone()));
        let frames: Vec<NumberedFrame> = frames.collect();
        Box::new(frames.into_iter().map(Ok))
    }

    fn remove_from(&mut self, first: u64) -> Result<bool, StoreFault> {
        self.change(true, |groups| Ok(!groups.frames.split_off(&first).is_empty()))
    }

    fn remove_below(&mut self, number: u64, at_most: usize) -> Result<bool, StoreFault> {
        self.change(true, |groups| {
            let below: Vec<u64> = groups.frames.range(..number).map(|(number, _)| *number).take(at_most).collect();
            below.iter().for_each(|number| drop(groups.frames.remove(number)));
            Ok(below.len() == at_most)
        })
    }

    fn close(self) -> Result<u32, StoreFault> {
        self.sync()?;
        Ok(0)
    }
}
