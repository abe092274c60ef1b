//! The process that is killed: appends, takes snapshots, prunes, closes and opens again, and announces each phase on a
//! line of its own before it begins.

use std::path::Path;

use natgw_journal::{Directory, Journal, JournalId, Opened, SledReader, View};

/// Groups between an opening and the closing.
const GROUPS: u64 = 24;
/// A snapshot holds every sixteenth entry.
pub(super) const EVERY: usize = 16;

/// What the process does beside appending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Single,
    Group,
    Snapshot,
    Prune,
}

impl Mode {
    pub(super) const ALL: [Self; 4] = [Self::Single, Self::Group, Self::Snapshot, Self::Prune];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Single => "single",
            Self::Group => "group",
            Self::Snapshot => "snapshot",
            Self::Prune => "prune",
        }
    }

    pub(super) fn named(name: &str) -> Self {
        Self::ALL.into_iter().find(|mode| mode.name() == name).unwrap()
    }

    /// All phases that it announces.
    pub(super) fn phases(self) -> Vec<&'static str> {
        let mut phases = vec!["opening", "opened", "appending", "acked", "settling", "closing", "closed"];
        match self {
            Self::Single | Self::Group => {}
            Self::Snapshot => phases.extend(["begun", "pushed", "finishing", "finished"]),
            Self::Prune => phases.extend(["begun", "finishing", "finished", "pruning", "pruned"]),
        }
        phases
    }
}

pub(super) fn entry(seq: u64) -> Vec<u8> {
    let length = usize::try_from(seq.wrapping_mul(2_654_435_761) % 500).unwrap();
    format!("{seq} {}", "y".repeat(length)).into_bytes()
}

/// Opens and closes so many times, or until somebody ends it.
pub(super) fn run(dir: &Path, mode: Mode, rounds: u64) {
    for _ in 0..rounds {
        println!("\nphase opening");
        let mut journal = match Journal::open(dir, JournalId([4; 16]), &[]).unwrap() {
            Opened::Fresh(journal) | Opened::Continued(journal) => journal,
            Opened::Damaged { verdict, .. } => {
                println!("phase damaged {verdict}");
                return;
            }
        };
        println!("phase opened {}", journal.head().seq);
        let mut snapshot: Option<std::thread::JoinHandle<()>> = None;
        for n in 0..GROUPS {
            append(&mut journal, mode, n);
            if n % 7 == 6 {
                println!("phase settling {}", journal.head().seq);
                journal.settle().unwrap();
            }
            match mode {
                Mode::Snapshot if snapshot.as_ref().is_none_or(std::thread::JoinHandle::is_finished) => {
                    let view = journal.view();
                    snapshot = Some(std::thread::spawn(move || take_snapshot(&view)));
                }
                Mode::Prune => {
                    if n % 6 == 5 {
                        take_snapshot(&journal.view());
                    }
                    println!("phase pruning {}", journal.first_seq().unwrap());
                    journal.prune_step(2).unwrap();
                    println!("phase pruned {}", journal.first_seq().unwrap());
                }
                Mode::Single | Mode::Group | Mode::Snapshot => {}
            }
        }
        if let Some(snapshot) = snapshot {
            snapshot.join().unwrap();
        }
        println!("phase closing {}", journal.head().seq);
        journal.close().unwrap();
        println!("phase closed");
    }
}

fn append(journal: &mut Journal, mode: Mode, n: u64) {
    let first = journal.head().seq + 1;
    let entries = match mode {
        Mode::Single => 1,
        Mode::Group => 1 + n * 37 % 200,
        Mode::Snapshot | Mode::Prune => 20,
    };
    let group: Vec<Vec<u8>> = (first..first + entries).map(entry).collect();
    println!("phase appending {first}");
    println!("phase acked {}", journal.append(&group).unwrap().seq);
}

fn take_snapshot(view: &View<SledReader, Directory>) {
    println!("phase begun {}", view.head().seq);
    let mut writer = view.begin_snapshot().unwrap();
    for (n, seq) in (1..=view.head().seq).step_by(EVERY).enumerate() {
        writer.push(entry(seq)).unwrap();
        if n % 64 == 0 {
            println!("phase pushed {seq}");
        }
    }
    println!("phase finishing {}", view.head().seq);
    let snapshot = writer.finish(view.head().hash).unwrap();
    println!("phase finished {}", snapshot.through.seq);
}
