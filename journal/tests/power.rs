//! Power cuts on the plain files: before every operation of beginning, appending, settling, taking snapshots, pruning,
//! closing and opening again, keeping every subset of what was not synced. What is left is opened, and the power is cut
//! during that opening as well, before each of its operations.
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
    /// A broken way to open after a power cut.
    opening_clears_anchor: bool,
    groups: u64,
}

/// How much was tried. A crash point is an operation that the power goes before.
#[derive(Clone, Copy, Debug, Default)]
struct Tried {
    points: u64,
    /// Crash points with every subset of what was not synced.
    exhaustive: u64,
    /// The others, whose subsets are each thing alone, all but each, and some that were drawn.
    drawn: u64,
    cuts: u64,
}

impl std::ops::AddAssign for Tried {
    fn add_assign(&mut self, other: Self) {
        self.points += other.points;
        self.exhaustive += other.exhaustive;
        self.drawn += other.drawn;
        self.cuts += other.cuts;
    }
}

impl std::fmt::Display for Tried {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { points, exhaustive, drawn, cuts } = self;
        write!(f, "{points} crash points, {exhaustive} with all subsets and {drawn} with some, {cuts} power cuts")
    }
}

impl Tried {
    fn point(unsynced: &[Unsynced], cuts: u64) -> Self {
        let all = u64::from(unsynced.len() <= ENUMERATED);
        Self { points: 1, exhaustive: all, drawn: 1 - all, cuts }
    }
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

/// Cuts the power before each operation of the opening that follows a power cut, with each subset.
fn cut_opening(disk: &MemoryDisk, kept: &[Unsynced], told: &Told, setting: Setting) -> Result<Tried, String> {
    let left = || {
        let left = Rc::new(disk.after_power_cut(kept));
        left.clears_anchor.set(setting.opening_clears_anchor);
        left.named_first.set(setting.anchor_first);
        left
    };
    let whole = left();
    drop(open(&whole, &[]));
    let mut tried = Tried::default();
    for stop in 0..whole.operations() {
        let cut = left();
        cut.stop_at(stop);
        drop(open(&cut, &[]));
        let unsynced = cut.unsynced();
        let subsets = subsets(&unsynced, tier().of(8, 16, 200));
        tried += Tried::point(&unsynced, subsets.len() as u64);
        for kept in subsets {
            check(&Rc::new(cut.after_power_cut(&kept)), told)
                .map_err(|lost| format!("and before operation {stop} of the opening, kept {kept:?}: {lost}"))?;
        }
    }
    Ok(tried)
}

/// Cuts the power before this operation, with each subset, and again during the opening after some of them. Gives how much
/// was tried of both, or what was lost first.
fn cut_at(stop: u64, setting: Setting) -> Result<(Tried, Tried), String> {
    let disk = Rc::new(MemoryDisk::default());
    disk.stop_at(stop);
    let mut told = Told::default();
    let ended = history(&disk, &mut told, setting);
    let unsynced = disk.unsynced();
    let subsets = subsets(&unsynced, tier().of(24, 64, 2_000));
    let tried = Tried::point(&unsynced, subsets.len() as u64);
    let mut of_openings = Tried::default();
    // Of all subsets alike, the one that keeps nothing among them.
    let openings = usize::try_from(tier().of(8, 8, 10_000)).unwrap().clamp(1, subsets.len());
    let opened_every = subsets.len().div_ceil(openings);
    for (n, kept) in subsets.into_iter().enumerate() {
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
        if n % opened_every == 0 {
            of_openings += cut_opening(&disk, &kept, &told, setting).map_err(at)?;
        }
    }
    Ok((tried, of_openings))
}

/// Each crash point. Gives how much was tried, of the history and of the openings after a power cut, or what was lost first.
fn cut_everywhere(setting: Setting) -> Result<(Tried, Tried), String> {
    let whole = Rc::new(MemoryDisk::default());
    history(&whole, &mut Told::default(), setting).map_err(|e| format!("without a power cut: {e}"))?;
    let points = whole.operations() + 1;
    let (mut tried, mut of_openings) = (Tried::default(), Tried::default());
    for point in at_once((0..points).collect(), |stop| cut_at(stop, setting)) {
        let (history, openings) = point?;
        tried += history;
        of_openings += openings;
    }
    Ok((tried, of_openings))
}

#[test]
fn nothing_acknowledged_is_lost_to_a_power_cut() {
    for anchor_first in [false, true] {
        let setting = Setting { groups: tier().of(14, 20, 40), anchor_first, ..Setting::default() };
        let (tried, of_openings) = cut_everywhere(setting).unwrap_or_else(|lost| panic!("{lost}"));
        println!("anchor first: {anchor_first}; {tried}, nothing lost");
        println!("of the openings after these: {of_openings}, nothing lost");
        assert!(tried.points > 150 && tried.cuts > 3_000 && tried.exhaustive > tried.drawn, "{tried}");
        assert!(of_openings.points > 3_000 && of_openings.exhaustive > of_openings.drawn, "{of_openings}");
    }
}

/// An opening that is safe only if nothing cuts it is found out.
#[test]
fn an_opening_that_clears_the_anchor_first_loses_it() {
    let setting = Setting { opening_clears_anchor: true, groups: 6, ..Setting::default() };
    let lost = cut_everywhere(setting).unwrap_err();
    assert!(lost.contains("of the opening") && lost.contains("anchor is damaged"), "{lost}");
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
