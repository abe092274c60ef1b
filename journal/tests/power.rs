//! Power cuts on the plain files: before every operation of beginning, appending, settling, taking snapshots, pruning,
//! closing and opening again, keeping every subset of what was not synced.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking, its helpers too")]

mod disk;
mod support;

use std::rc::Rc;

use disk::{MemoryDisk, Passed, Unsynced};
use natgw_journal::plain::Segments;
use natgw_journal::{Error, Head, Journal, JournalId, Opened, Verdict};
use support::{Draw, at_once, tier};

/// Subsets are enumerated up to so many unsynced things; of more, each alone, all but each, and drawn ones.
const ENUMERATED: usize = 10;

const ID: JournalId = JournalId([9; 16]);
/// Small segments, so that a short history fills some and prunes them.
const SEGMENT_BYTES: u64 = 3 << 10;

type OnMemory = Journal<Segments<Rc<MemoryDisk>>, Rc<MemoryDisk>>;

/// What a run was told.
#[derive(Debug, Default)]
struct Told {
    acknowledged: u64,
    /// Groups in the order of appending, the last perhaps without an acknowledgement.
    groups: Vec<Vec<Vec<u8>>>,
    /// The snapshots that were finished, by the last entry each stands for.
    finished: Vec<u64>,
}

/// What a power cut is tried on: a history, and what the disk passes over from which operation on.
#[derive(Clone, Copy, Debug, Default)]
struct Setting {
    passed: Option<Passed>,
    /// Only from then on: a journal that runs already.
    once_running: bool,
    anchor_first: bool,
    groups: u64,
}

fn group(n: u64) -> Vec<Vec<u8>> {
    let entry = |i: u64| vec![(n * 16 + i) as u8 | 1; (n * 1_331 + i * 970) as usize % 1_900 + 1];
    (0..n % 3 + 1).map(entry).collect()
}

fn open(disk: &Rc<MemoryDisk>, external: &[(JournalId, Head)]) -> Result<OnMemory, Result<Verdict, Error>> {
    let segments = Segments::open_sized(Rc::clone(disk), SEGMENT_BYTES).map_err(|e| Err(e.into()))?;
    match Journal::open_on(segments, Rc::clone(disk), ID, external).map_err(Err)? {
        Opened::Fresh(journal) | Opened::Continued(journal) => Ok(journal),
        Opened::Damaged { verdict, .. } => Err(Ok(verdict)),
    }
}

/// Begins or continues, appends, settles, takes snapshots, prunes, closes; ends early when the power goes.
fn run(disk: &Rc<MemoryDisk>, told: &mut Told, groups: std::ops::Range<u64>, setting: Setting) -> Result<(), Error> {
    let mut journal = open(disk, &[]).map_err(|failed| failed.unwrap_err())?;
    if setting.once_running {
        disk.passed.set(setting.passed);
    }
    for n in groups {
        told.groups.push(group(n));
        told.acknowledged = journal.append(&group(n))?.seq;
        match n % 5 {
            1 => journal.settle()?,
            2 | 4 => {
                let view = journal.view();
                let mut writer = view.begin_snapshot()?;
                writer.push(state(view.head().seq))?;
                told.finished.push(writer.finish(view.head().hash)?.through.seq);
            }
            _ => drop(journal.prune_step(2)?),
        }
        journal.prune_step(2)?;
    }
    journal.close()
}

/// What the snapshot through this entry holds.
fn state(through: u64) -> Vec<u8> {
    vec![through as u8; 700]
}

/// All subsets that are tried of what a power cut decides about.
fn subsets(of: &[Unsynced], drawn: u64) -> Vec<Vec<Unsynced>> {
    let pick = |mask: &mut dyn FnMut(usize) -> bool| -> Vec<Unsynced> {
        of.iter().enumerate().filter(|(i, _)| mask(*i)).map(|(_, u)| u.clone()).collect()
    };
    if of.len() <= ENUMERATED {
        return (0..1_usize << of.len()).map(|mask| pick(&mut |i| mask >> i & 1 == 1)).collect();
    }
    let mut draw = Draw(of.len() as u64);
    let mut all = vec![vec![], of.to_vec()];
    all.extend((0..of.len()).map(|kept| pick(&mut |i| i == kept)));
    all.extend((0..of.len()).map(|lost| pick(&mut |i| i != lost)));
    all.extend((0..drawn).map(|_| pick(&mut |_| draw.below(2) == 0)));
    all
}

/// What was acknowledged is there, or the loss has its name, which only a lost acknowledgement may have.
fn check(disk: &Rc<MemoryDisk>, told: &Told) -> Result<Option<Head>, String> {
    let written: Vec<&Vec<u8>> = told.groups.iter().flatten().collect();
    let journal = match open(disk, &[]) {
        Ok(journal) => journal,
        Err(Ok(Verdict::LastGroupUnconfirmed { from, to })) => {
            // Its anchor was kept and its data were not: so it was not acknowledged.
            return if from > told.acknowledged { Ok(None) } else { Err(format!("{from} to {to} were acknowledged")) };
        }
        Err(Ok(verdict)) => return Err(verdict.to_string()),
        Err(Err(error)) => return Err(error.to_string()),
    };
    let first = journal.first_seq().map_err(|e| e.to_string())?;
    let read = journal.entries(first).map(|e| e.map(|e| e.bytes)).collect::<Result<Vec<_>, _>>();
    let read = read.map_err(|e| e.to_string())?;
    let last = first - 1 + read.len() as u64;
    if last < told.acknowledged {
        return Err(format!("{} acknowledged, {last} there", told.acknowledged));
    }
    if last > written.len() as u64 || read.iter().zip(&written[first as usize - 1..]).any(|(read, old)| read != *old) {
        return Err("another history".into());
    }
    let view = journal.view();
    for snapshot in view.snapshots() {
        let held = view.snapshot_entries(snapshot).map(|e| e.map(|e| e.bytes)).collect::<Result<Vec<_>, _>>();
        if held.map_err(|e| e.to_string())? != [state(snapshot.through.seq)] {
            return Err("another snapshot".into());
        }
    }
    let kept = view.snapshots().last().map_or(0, |snapshot| snapshot.through.seq);
    match told.finished.last() {
        Some(finished) if kept < *finished => Err(format!("the snapshot through {finished} is gone")),
        _ if first > 1 && view.snapshots().len() < 2 => Err("pruned beyond two snapshots".into()),
        _ => Ok(Some(journal.head())),
    }
}

/// The whole history on a disk, as far as the power lets it.
fn history(disk: &Rc<MemoryDisk>, told: &mut Told, setting: Setting) -> Result<(), Error> {
    if !setting.once_running {
        disk.passed.set(setting.passed);
    }
    disk.named_first.set(setting.anchor_first);
    let half = setting.groups / 2;
    run(disk, told, 0..half, setting)?;
    run(disk, told, half..setting.groups, setting)
}

/// Cuts the power before this operation, with each subset. Gives how many power cuts there were, or what was lost first.
fn cut_at(stop: u64, setting: Setting) -> Result<u64, String> {
    let disk = Rc::new(MemoryDisk::default());
    disk.stop_at(stop);
    let mut told = Told::default();
    let ended = history(&disk, &mut told, setting);
    let mut cuts = 0;
    for kept in subsets(&disk.unsynced(), tier().of(24, 64, 2_000)) {
        let after = Rc::new(disk.after_power_cut(&kept));
        let at = |lost: String| format!("cut before operation {stop} ({ended:?}), kept {kept:?}: {lost}");
        let head = check(&after, &told).map_err(at)?;
        // Opened twice it is the same journal, and it goes on.
        if let Some(head) = head {
            let mut going_on = match open(&after, &[(ID, head)]) {
                Ok(journal) => journal,
                Err(Ok(verdict)) => return Err(at(verdict.to_string())),
                Err(Err(error)) => return Err(at(error.to_string())),
            };
            going_on.append(&group(9)).map_err(|e| at(e.to_string()))?;
            while going_on.prune_step(2).map_err(|e| at(e.to_string()))? {}
        }
        cuts += 1;
    }
    Ok(cuts)
}

/// Each crash point. Gives how many points and power cuts there were, or what was lost first.
fn cut_everywhere(setting: Setting) -> Result<(u64, u64), String> {
    let whole = Rc::new(MemoryDisk::default());
    history(&whole, &mut Told::default(), setting).map_err(|e| format!("without a power cut: {e}"))?;
    let points = whole.operations() + 1;
    let cuts = at_once((0..points).collect(), |stop| cut_at(stop, setting));
    Ok((points, cuts.into_iter().sum::<Result<u64, _>>()?))
}

#[test]
fn nothing_acknowledged_is_lost_to_a_power_cut() {
    for anchor_first in [false, true] {
        let setting = Setting { groups: tier().of(14, 20, 40), anchor_first, ..Setting::default() };
        let (points, cuts) = cut_everywhere(setting).unwrap_or_else(|lost| panic!("{lost}"));
        println!("anchor first: {anchor_first}; {points} crash points, {cuts} power cuts, nothing lost");
        assert!(points > 150 && cuts > 3_000, "{points} points, {cuts} cuts");
    }
}

/// Each sync there is, left out, loses something: from the beginning, and of a journal that runs.
#[test]
fn without_the_syncs_it_is() {
    for passed in [Passed::Of("segment-"), Passed::Of("anchor"), Passed::Of("snapshot-"), Passed::OfNames] {
        for once_running in [false, true] {
            let setting = Setting { passed: Some(passed), once_running, groups: 20, ..Setting::default() };
            let lost = cut_everywhere(setting).unwrap_err();
            println!("without the syncs {passed:?}, only once it runs: {once_running}: {lost}");
        }
    }
}

/// The anchor of a running journal that does not reach the disk: what opens is called stale, never whole.
#[test]
fn an_anchor_that_is_not_synced_is_called_stale() {
    let disk = Rc::new(MemoryDisk::default());
    let mut journal = open(&disk, &[]).unwrap_or_else(|_| panic!("nothing there"));
    journal.append(&group(1)).unwrap();
    disk.passed.set(Some(Passed::Of("anchor")));
    for n in 2..6 {
        journal.append(&group(n)).unwrap();
    }
    let head = journal.head();
    drop(journal);
    let after = Rc::new(disk.after_power_cut(&[]));
    match open(&after, &[]) {
        Err(Ok(Verdict::AnchorStale { anchor, head: found })) => {
            assert_eq!((found, anchor.seq), (head, group(1).len() as u64));
        }
        other => panic!("{:?}", other.map(|journal| journal.head())),
    }
}
