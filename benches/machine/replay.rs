//! [replay]: a cold journal into a state.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use natgw::machine::event::{Record, codec};
use natgw::machine::state::State;
use natgw_journal::{Journal, JournalId, Opened};
use rustix::fs::{Advice, fadvise};

use crate::LAYOUT;
use crate::report::{Reach, figure, percentile};
use crate::world::World;

const REPLAY_MIN: f64 = 0.6;

const JOURNAL: JournalId = JournalId([1; 16]);
/// Entries in a group, and records decoded before they are folded.
const GROUP: usize = 1_024;

/// Opening a cold journal, checking, decoding and folding it; beside folding the same records already decoded.
pub fn replay(records: usize) -> String {
    let root = tempfile::tempdir().unwrap();
    let (written, digest) = fill(root.path(), records);
    let (mut cold, mut folding) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        forget_pages(root.path());
        let began = Instant::now();
        let journal = opened(root.path());
        let mut state = State::default();
        journal
            .entries(1)
            .for_each_entry(|seq, bytes| state.apply(&codec::decode(seq, bytes).unwrap()).unwrap())
            .unwrap();
        cold.push(began.elapsed().as_secs_f64());
        assert_eq!((state.seq() as usize, state.digest()), (written, digest));
        drop(state);
        folding.push(fold_decoded(&journal, digest));
        journal.close().unwrap();
    }
    let rate = |times: &[f64]| written as f64 / percentile(times, 50);
    println!("replay {written} records: cold {cold:.2?} s, folding alone {folding:.2?} s");
    let yardstick = rate(&folding);
    let reach = Reach::AtLeast((yardstick * REPLAY_MIN).round());
    figure("replay", rate(&cold), "records/s", Some(yardstick), &reach)
}

/// Lives of pods until there are so many records, in a journal.
fn fill(dir: &Path, records: usize) -> (usize, [u8; 32]) {
    let mut journal = opened(dir);
    let mut world = World::new(LAYOUT, Some(Vec::new()));
    let (mut came, mut went) = (0, 0);
    let lives = u32::try_from(records / 40).unwrap();
    while (world.state.seq() as usize) < records {
        world.come(came);
        came += 1;
        if came > lives {
            world.go(went);
            went += 1;
        }
        world.now_ms += 10;
        world.settle();
        let kept = world.kept.as_mut().unwrap();
        if kept.len() >= GROUP {
            let group: Vec<_> = kept.drain(..GROUP).map(|record| codec::encode(&record).unwrap()).collect();
            journal.append(&group).unwrap();
        }
    }
    let rest = world.kept.take().unwrap();
    for group in rest.chunks(GROUP) {
        journal.append(&group.iter().map(|record| codec::encode(record).unwrap()).collect::<Vec<_>>()).unwrap();
    }
    journal.close().unwrap();
    (world.state.seq() as usize, world.state.digest())
}

fn opened(dir: &Path) -> Journal {
    match Journal::open(dir, JOURNAL, &[]).unwrap() {
        Opened::Fresh(journal) | Opened::Continued(journal) => journal,
        Opened::Damaged { verdict, .. } => panic!("{verdict}"),
    }
}

/// Seconds for folding alone: records are decoded a group at a time, untimed.
fn fold_decoded(journal: &Journal, digest: [u8; 32]) -> f64 {
    let (mut state, mut group, mut took) = (State::default(), Vec::with_capacity(GROUP), Duration::ZERO);
    let mut fold = |group: &mut Vec<Record>| {
        let began = Instant::now();
        group.drain(..).for_each(|record| state.apply(&record).unwrap());
        took += began.elapsed();
    };
    journal
        .entries(1)
        .for_each_entry(|seq, bytes| {
            group.push(codec::decode(seq, bytes).unwrap());
            if group.len() == GROUP {
                fold(&mut group);
            }
        })
        .unwrap();
    fold(&mut group);
    assert_eq!(state.digest(), digest);
    took.as_secs_f64()
}

/// Makes the kernel drop what it has of the files in memory.
fn forget_pages(dir: &Path) {
    for file in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
        if file.file_type().unwrap().is_dir() {
            forget_pages(&file.path());
        } else {
            let file = File::open(file.path()).unwrap();
            file.sync_all().unwrap();
            fadvise(&file, 0, None, Advice::DontNeed).unwrap();
        }
    }
}
