//! A store and a disk of somebody else's below the journal: what a simulator does.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod disk;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use disk::MemoryDisk;
use natgw_journal::{Frames, Head, Journal, JournalId, NumberedFrame, Opened, Store, StoreFault, Verdict};

type Group = BTreeMap<u64, Vec<u8>>;

/// sled as it was measured: a power cut loses any number of the last unsynced groups, never one before another.
#[derive(Clone, Debug, Default)]
struct Groups {
    groups: Rc<RefCell<Vec<Group>>>,
    synced: Rc<RefCell<usize>>,
}

impl Groups {
    fn all(&self) -> BTreeMap<u64, Vec<u8>> {
        self.groups.borrow().iter().flatten().map(|(number, bytes)| (*number, bytes.clone())).collect()
    }

    fn after_power_cut(&self, kept: usize) -> Self {
        let length = *self.synced.borrow() + kept;
        let groups: Vec<_> = self.groups.borrow().iter().take(length).cloned().collect();
        Self { synced: Rc::new(RefCell::new(groups.len())), groups: Rc::new(RefCell::new(groups)) }
    }
}

impl Store for Groups {
    fn put(&mut self, frames: Vec<NumberedFrame>) -> Result<(), StoreFault> {
        self.groups.borrow_mut().push(frames.into_iter().collect());
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StoreFault> {
        Ok(())
    }

    fn sync(&self) -> Result<(), StoreFault> {
        self.synced.replace(self.groups.borrow().len());
        Ok(())
    }

    fn frame(&self, number: u64) -> Result<Option<Vec<u8>>, StoreFault> {
        Ok(self.all().remove(&number))
    }

    fn first(&self) -> Result<Option<u64>, StoreFault> {
        Ok(self.all().first_key_value().map(|(number, _)| *number))
    }

    fn last(&self) -> Result<Option<u64>, StoreFault> {
        Ok(self.all().last_key_value().map(|(number, _)| *number))
    }

    fn scan(&self, from: u64) -> Frames<'_> {
        Box::new(self.all().split_off(&from).into_iter().map(Ok))
    }

    fn remove_from(&mut self, first: u64) -> Result<bool, StoreFault> {
        let mut removed = false;
        for group in self.groups.borrow_mut().iter_mut() {
            removed |= !group.split_off(&first).is_empty();
        }
        Ok(removed)
    }

    fn remove_below(&mut self, number: u64, at_most: usize) -> Result<bool, StoreFault> {
        let mut left = at_most;
        for group in self.groups.borrow_mut().iter_mut() {
            while left > 0 && group.first_key_value().is_some_and(|(first, _)| *first < number) {
                group.pop_first();
                left -= 1;
            }
        }
        Ok(left == 0)
    }

    fn close(self) -> Result<u32, StoreFault> {
        self.sync()?;
        Ok(0)
    }
}

fn open(store: &Groups, disk: &Rc<MemoryDisk>, external: &[(JournalId, Head)]) -> Opened<Groups, Rc<MemoryDisk>> {
    Journal::open_on(store.clone(), Rc::clone(disk), JournalId([2; 16]), external).unwrap()
}

#[test]
fn a_store_of_ones_own_gets_the_same_verdicts() {
    let (store, disk) = (Groups::default(), Rc::new(MemoryDisk::default()));
    let Opened::Fresh(mut journal) = open(&store, &disk, &[]) else { panic!("there was nothing") };
    let heads: Vec<Head> = (1..=3_u8).map(|n| journal.append(&[vec![n], vec![n, n]]).unwrap()).collect();
    drop(journal);
    let Opened::Continued(journal) = open(&store, &disk, &[(JournalId([2; 16]), heads[1])]) else { panic!("whole") };
    assert_eq!((journal.head(), journal.entries(3).count()), (heads[2], 4));
    drop(journal);

    // The last group was not synced, its anchor was.
    let anchored = Rc::new(disk.after_power_cut(&disk.unsynced()));
    *store.synced.borrow_mut() = 3;
    let Opened::Damaged { verdict, .. } = open(&store.after_power_cut(0), &anchored, &[]) else { panic!("it is lost") };
    assert_eq!(verdict, Verdict::HistoryLost { from: 5, to: 6 }, "the second opening had settled it");
    let Opened::Continued(_) = open(&store.after_power_cut(1), &anchored, &[]) else { panic!("it is there") };
    let Opened::Damaged { verdict, .. } = open(&Groups::default(), &anchored, &[]) else { panic!("all is lost") };
    assert_eq!(verdict, Verdict::HistoryLost { from: 1, to: 6 });
    let nothing = Rc::new(MemoryDisk::default());
    let Opened::Damaged { verdict, .. } = open(&store, &nothing, &[]) else { panic!("no anchor") };
    assert_eq!(verdict, Verdict::AnchorLost);
}
