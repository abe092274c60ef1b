//! The volume of a replica, with the production journal on it: over plain segments, or over sled as it was measured.

use std::rc::Rc;

use natgw::controller::step::Head;
use natgw::machine::event::{Record, codec};
use natgw_journal::plain::{self, Segments};
use natgw_journal::{Error, Journal, JournalId};

use crate::dice::Dice;
use crate::disk::{Cut, Image, SimDisk, SimSled};

/// What an opening finds.
pub enum Opened {
    Fresh([u8; 16], Head),
    Continued([u8; 16], Vec<Record>, Head),
    Damaged(String),
}

/// Why a group is not durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The power went.
    Power,
    /// The disk refused: the process must end.
    Disk,
}

enum Open {
    Plain(Journal<Segments<Rc<SimDisk>>, Rc<SimDisk>>),
    Sled(Journal<SimSled, Rc<SimDisk>>),
}

/// A volume.
pub struct Volume {
    sled: bool,
    pub disk: Rc<SimDisk>,
    open: Option<Open>,
    id: Option<[u8; 16]>,
    records: Vec<Record>,
}

impl Volume {
    pub fn new(sled: bool) -> Self {
        Self { sled, disk: Rc::default(), open: None, id: None, records: Vec::new() }
    }

    /// The journal's identity and records, as they were last read or written.
    pub const fn id(&self) -> Option<[u8; 16]> {
        self.id
    }

    pub const fn is_sled(&self) -> bool {
        self.sled
    }

    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// Opens the journal, or begins one.
    pub fn open(&mut self, fresh: [u8; 16], heads: &[([u8; 16], u64, [u8; 32])]) -> Result<Opened, Broken> {
        self.open = None;
        self.disk.mend();
        self.disk.opened();
        if self.sled {
            // After an unclean stop the journal opens a copy that it has written and synced anew.
            self.disk.copy_groups();
        }
        let heads: Vec<_> = heads
            .iter()
            .map(|(id, seq, hash)| (JournalId(*id), natgw_journal::Head { seq: *seq, hash: *hash }))
            .collect();
        let disk = Rc::clone(&self.disk);
        let opened = if self.sled {
            let store = SimSled(Rc::clone(&disk));
            known(Journal::open_on(store, disk, JournalId(fresh), &heads), Open::Sled)
        } else {
            known(plain::open(disk, JournalId(fresh), &heads), Open::Plain)
        };
        let (open, begun) = match opened {
            Ok(Ok(opened)) => opened,
            Ok(Err(verdict)) => return Ok(Opened::Damaged(verdict)),
            Err(_) => return Err(Broken::Disk),
        };
        let id = open.id();
        let read = open.read();
        self.id = Some(id);
        match read {
            Ok(records) => {
                let head = open.head();
                self.records.clone_from(&records);
                self.open = Some(open);
                Ok(if begun { Opened::Fresh(id, head) } else { Opened::Continued(id, records, head) })
            }
            Err(reason) => Ok(Opened::Damaged(reason)),
        }
    }

    /// Makes a group durable.
    pub fn append(&mut self, group: &[Record]) -> Result<Head, Broken> {
        let bytes: Vec<_> = group.iter().map(|record| codec::encode(record).expect("it was encoded before")).collect();
        let broken = |disk: &SimDisk| if disk.is_off() { Broken::Power } else { Broken::Disk };
        let head = match &mut self.open {
            Some(Open::Plain(journal)) => journal.append(&bytes),
            Some(Open::Sled(journal)) => journal.append(&bytes),
            None => return Err(Broken::Disk),
        };
        let head = head.map_err(|_| broken(&self.disk))?;
        self.records.extend_from_slice(group);
        Ok(Head { seq: head.seq, hash: head.hash })
    }

    /// Nothing is queued: the anchor is told that the last group is durable.
    pub fn settle(&mut self) -> Result<(), Broken> {
        let settled = match &mut self.open {
            Some(Open::Plain(journal)) => journal.settle(),
            Some(Open::Sled(journal)) => journal.settle(),
            None => return Ok(()),
        };
        settled.map_err(|_| if self.disk.is_off() { Broken::Power } else { Broken::Disk })
    }

    /// Closes in order.
    pub fn close(&mut self) {
        match self.open.take() {
            Some(Open::Plain(journal)) => journal.close().unwrap_or_default(),
            Some(Open::Sled(journal)) => journal.close().unwrap_or_default(),
            None => {}
        }
    }

    /// The process ended: what it wrote stays.
    pub fn abandon(&mut self) {
        self.open = None;
        self.disk.mend();
    }

    /// The power went.
    pub fn power_cut(&mut self, dice: &mut Dice, keeps_length: bool) -> Cut {
        self.open = None;
        self.disk.power_cut(dice, keeps_length)
    }

    pub fn image(&self) -> Image {
        self.disk.image()
    }
}

impl Open {
    fn id(&self) -> [u8; 16] {
        match self {
            Self::Plain(journal) => journal.id().0,
            Self::Sled(journal) => journal.id().0,
        }
    }

    fn head(&self) -> Head {
        let head = match self {
            Self::Plain(journal) => journal.head(),
            Self::Sled(journal) => journal.head(),
        };
        Head { seq: head.seq, hash: head.hash }
    }

    /// All records, or why they are no history.
    fn read(&self) -> Result<Vec<Record>, String> {
        let entries = match self {
            Self::Plain(journal) => journal.entries(1),
            Self::Sled(journal) => journal.entries(1),
        };
        let mut records = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| error.to_string())?;
            records.push(codec::decode(entry.seq, &entry.bytes).map_err(|error| error.to_string())?);
        }
        Ok(records)
    }
}

type Known<T> = Result<Result<(T, bool), String>, Error>;

/// An opening with whether the journal was begun by it; damage by its verdict.
fn known<S, D, T>(opened: Result<natgw_journal::Opened<S, D>, Error>, open: impl FnOnce(Journal<S, D>) -> T) -> Known<T>
where
    S: natgw_journal::Store,
    D: natgw_journal::Disk,
{
    Ok(match opened? {
        natgw_journal::Opened::Fresh(journal) => Ok((open(journal), true)),
        natgw_journal::Opened::Continued(journal) => Ok((open(journal), false)),
        natgw_journal::Opened::Damaged { verdict, .. } => Err(verdict.to_string()),
    })
}
