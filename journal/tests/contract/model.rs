//! What a journal is: a list of entries, a list of heads, snapshots, and what of the list may be gone.

use std::collections::BTreeMap;
use std::path::PathBuf;

use natgw_journal::{
    Disk, Error, Head, Journal, JournalId, Opened, SNAPSHOTS_KEPT_MIN, Shared, Snapshot, View, read_copy, read_export,
};

use super::actions::Action;
use super::support::Draw;

pub(super) const ID: JournalId = JournalId([1; 16]);

/// A store and a disk, and what a crash does to them.
pub(super) trait Backend {
    type Store: Shared;
    type Disk: Disk + Clone;

    fn new() -> Self;
    fn open(&self, external: &[(JournalId, Head)]) -> Opened<Self::Store, Self::Disk>;
    fn crash(&mut self, draw: &mut Draw);
    /// Where the files are, if there are any.
    fn dir(&self) -> Option<PathBuf>;
}

type Looking<B> = View<<<B as Backend>::Store as Shared>::Reader, <B as Backend>::Disk>;

pub(super) struct Model<B: Backend> {
    // Before the backend, which may remove the files.
    view: Option<(Looking<B>, u64)>,
    journal: Option<Journal<B::Store, B::Disk>>,
    backend: B,
    entries: Vec<Vec<u8>>,
    heads: Vec<Head>,
    /// What each snapshot holds, by the last entry that it stands for.
    snapshots: BTreeMap<u64, Vec<Vec<u8>>>,
    /// The lowest entry that has to be there.
    kept_from: u64,
}

impl<B: Backend> Model<B> {
    pub(super) fn begin() -> Self {
        let mut model = Self {
            view: None,
            journal: None,
            backend: B::new(),
            entries: Vec::new(),
            heads: Vec::new(),
            snapshots: BTreeMap::new(),
            kept_from: 1,
        };
        model.open();
        model
    }

    fn open(&mut self) {
        let external: Vec<_> = self.heads.iter().map(|head| (ID, *head)).collect();
        let journal = match (self.backend.open(&external), self.entries.is_empty()) {
            (Opened::Fresh(journal), true) | (Opened::Continued(journal), false) => journal,
            (other, _) => panic!("{} entries, opened: {other:?}", self.entries.len()),
        };
        self.journal = Some(journal);
        self.check_ends();
    }

    fn journal(&mut self) -> &mut Journal<B::Store, B::Disk> {
        self.journal.as_mut().unwrap()
    }

    pub(super) fn act(&mut self, action: &Action, draw: &mut Draw) {
        match action {
            Action::Append(group) => self.append(group),
            Action::Refused(lengths) => {
                let group: Vec<Vec<u8>> = lengths.iter().map(|length| vec![7; *length]).collect();
                self.journal().append(&group).unwrap_err();
            }
            Action::Settle => self.journal().settle().unwrap(),
            Action::Close => {
                self.view = None;
                self.journal.take().unwrap().close().unwrap();
                self.open();
            }
            Action::Crash => {
                self.view = None;
                self.journal = None;
                self.backend.crash(draw);
                self.open();
            }
            Action::Snapshot { finished } => self.snapshot(*finished),
            Action::Prune { keep, steps } => self.prune(*keep, *steps),
            Action::Read(place) => {
                let from = self.entries.len() as u64 * u64::from(*place) / 256;
                self.read(from);
            }
            Action::Look => self.view = Some((self.journal().view(), self.entries.len() as u64)),
            Action::LookAway => self.view = None,
            Action::Export => self.export(),
        }
        self.check_ends();
    }

    fn append(&mut self, group: &[(usize, u8)]) {
        let group: Vec<Vec<u8>> = group.iter().map(|(length, byte)| vec![*byte; *length]).collect();
        let head = self.journal().append(&group).unwrap();
        self.entries.extend(group);
        self.heads.push(head);
    }

    /// What is told without reading.
    fn check_ends(&mut self) {
        let journal = self.journal.as_ref().unwrap();
        assert_eq!(journal.head().seq, self.entries.len() as u64);
        assert_eq!(journal.id(), ID);
        if let Some(head) = self.heads.last() {
            assert_eq!(journal.head(), *head);
        }
        let first = journal.first_seq().unwrap();
        assert!(first <= self.kept_from, "{first} is the first, {} was to be kept", self.kept_from);
        // What is pruned has a snapshot, and one more behind it.
        let usable = journal.view().snapshots().len();
        assert!(first == 1 || usable >= SNAPSHOTS_KEPT_MIN, "{first} is the first, {usable} snapshots");
    }

    fn snapshot(&mut self, finished: bool) {
        let view = self.journal().view();
        let through = view.head();
        let mut writer = view.begin_snapshot().unwrap();
        assert!(matches!(view.begin_snapshot(), Err(Error::SnapshotUnderWay)));
        // A state that says what happened: as many entries as a seventh of the history, and one of its length.
        let state: Vec<Vec<u8>> = std::iter::once(through.seq.to_le_bytes().to_vec())
            .chain(self.entries.iter().step_by(7).cloned())
            .collect();
        for entry in &state {
            writer.push(entry.clone()).unwrap();
        }
        if finished {
            let snapshot = writer.finish(through.hash).unwrap();
            assert_eq!((snapshot.through, snapshot.entries), (through, state.len() as u64));
            self.snapshots.insert(through.seq, state);
        }
        self.read_snapshots();
    }

    /// Each snapshot that is told of holds what was written into it, and the entries go on after it.
    fn read_snapshots(&mut self) {
        let view = self.journal().view();
        for snapshot in view.snapshots() {
            self.check_snapshot(snapshot, view.snapshot_entries(snapshot).map(|entry| entry.unwrap().bytes));
            let after = view.entries(snapshot.through.seq + 1).map(|entry| entry.unwrap().bytes);
            assert!(after.eq(self.entries.iter().skip(snapshot.through.seq as usize).cloned()));
        }
        let latest = view.snapshots().last().map(|snapshot| snapshot.through.seq);
        assert_eq!(latest, self.snapshots.last_key_value().map(|(seq, _)| *seq));
    }

    fn check_snapshot(&self, snapshot: &Snapshot, read: impl Iterator<Item = Vec<u8>>) {
        assert_eq!(snapshot.digest, snapshot.through.hash);
        assert!(read.eq(self.snapshots[&snapshot.through.seq].iter().cloned()), "{snapshot:?}");
    }

    fn prune(&mut self, keep: usize, steps: usize) {
        let mut more = true;
        for _ in 0..steps {
            if !more {
                break;
            }
            more = self.journal().prune_step(keep).unwrap();
        }
        let kept: Vec<u64> = self.snapshots.keys().rev().take(keep.max(SNAPSHOTS_KEPT_MIN)).copied().collect();
        if let Some(oldest) = kept.get(keep.max(SNAPSHOTS_KEPT_MIN) - 1) {
            self.kept_from = self.kept_from.max(oldest + 1);
        }
        let first = self.journal().first_seq().unwrap();
        if let Some((view, seen)) = &self.view {
            // What is being looked at stays as it was.
            let from = view.first_seq().unwrap();
            let read = view.entries(from).map(|entry| entry.unwrap().bytes);
            let expected = &self.entries[from as usize - 1..*seen as usize];
            assert!(read.eq(expected.iter().cloned()));
        }
        if first > 1 {
            let refused = self.journal().entries(first - 1).next();
            assert!(matches!(refused, Some(Err(Error::Pruned { first: from })) if from == first), "{refused:?}");
        }
        self.read(first);
    }

    fn read(&mut self, from: u64) {
        let from = from.max(self.journal().first_seq().unwrap());
        let read: Vec<_> = self.journal().entries(from).map(Result::unwrap).collect();
        let expected = (1..).zip(&self.entries).filter(|(seq, _)| *seq >= from);
        assert!(read.iter().map(|entry| (entry.seq, &entry.bytes)).eq(expected), "from {from}");
    }

    fn export(&mut self) {
        let file = tempfile::NamedTempFile::new().unwrap();
        let view = self.journal().view();
        view.export(&mut std::io::BufWriter::new(&file)).unwrap();
        let copy = read_export(file.path()).unwrap();
        assert!(copy.verdict().is_intact(), "{}", copy.verdict());
        assert_eq!((copy.head(), copy.id()), (Some(view.head()), Some(ID)));
        let from = copy.first_seq();
        let read = copy.entries(from).map(|entry| entry.unwrap().bytes);
        assert!(read.eq(self.entries.iter().skip(from as usize - 1).cloned()));
        assert_eq!(copy.snapshots().is_empty(), from == 1);
        for snapshot in copy.snapshots() {
            self.check_snapshot(snapshot, copy.snapshot_entries(snapshot).map(|entry| entry.unwrap().bytes));
        }
        for head in &self.heads {
            match copy.holds(head) {
                Ok(holds) => assert!(holds, "{head:?}"),
                Err(error) => assert!(matches!(error, Error::Pruned { .. }) && head.seq < from, "{error}"),
            }
        }
    }

    /// The whole history once more, and through a copy of the files. Tells whether anything was pruned.
    pub(super) fn end(mut self) -> bool {
        self.read(1);
        self.read_snapshots();
        let pruned = self.journal().first_seq().unwrap() > 1;
        self.view = None;
        self.journal = None;
        let Some(dir) = self.backend.dir() else { return pruned };
        let copy = read_copy(&dir).unwrap();
        assert!(copy.verdict().is_intact(), "{}", copy.verdict());
        assert_eq!(copy.unusable_snapshots(), []);
        let from = copy.first_seq();
        let read = copy.entries(from).map(|entry| entry.unwrap().bytes);
        assert!(read.eq(self.entries.iter().skip(from as usize - 1).cloned()));
        for head in self.heads.iter().filter(|head| head.seq >= from) {
            assert!(copy.holds(head).unwrap());
            let forged = Head { seq: head.seq, hash: [0; 32] };
            assert!(!copy.holds(&forged).unwrap());
        }
        pruned
    }
}
