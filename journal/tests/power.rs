//! Power cuts on the plain files: at every operation, keeping every subset of what was not synced.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, its helpers too")]

mod disk;

use std::rc::Rc;

use disk::{MemoryDisk, Unsynced};
use natgw_journal::{Error, Head, JournalId, Opened, Verdict, plain};

/// Subsets are enumerated up to so many unsynced things; of more, each alone, all but each, and a few drawn ones.
const ENUMERATED: usize = 10;
const DRAWN: usize = 64;

const ID: JournalId = JournalId([9; 16]);

/// What a run was told.
#[derive(Debug, Default)]
struct Told {
    acknowledged: u64,
    /// Groups in the order of appending, the last perhaps without an acknowledgement.
    groups: Vec<Vec<Vec<u8>>>,
}

fn group(n: u64) -> Vec<Vec<u8>> {
    let entry = |i: u64| vec![(n * 16 + i) as u8 | 1; (n * 1_331 + i * 970) as usize % 2_900 + 1];
    (0..n % 3 + 1).map(entry).collect()
}

/// Begins or continues, appends, settles, closes; ends early when the power goes.
fn run(disk: &Rc<MemoryDisk>, told: &mut Told, groups: std::ops::Range<u64>) -> Result<(), Error> {
    let mut journal = match plain::open(Rc::clone(disk), ID, &[])? {
        Opened::Fresh(journal) | Opened::Continued(journal) => journal,
        Opened::Damaged { verdict, .. } => panic!("{verdict}"),
    };
    for n in groups {
        told.groups.push(group(n));
        told.acknowledged = journal.append(&group(n))?.seq;
        if n % 3 == 2 {
            journal.settle()?;
        }
    }
    journal.close()
}

/// All subsets that are tried of what a power cut decides about.
fn subsets(of: &[Unsynced]) -> Vec<Vec<Unsynced>> {
    let pick = |mask: &dyn Fn(usize) -> bool| -> Vec<Unsynced> {
        of.iter().enumerate().filter(|(i, _)| mask(*i)).map(|(_, u)| u.clone()).collect()
    };
    if of.len() <= ENUMERATED {
        return (0..1_usize << of.len()).map(|mask| pick(&|i| mask >> i & 1 == 1)).collect();
    }
    let mut draw = of.len() as u64;
    let drawn = (0..DRAWN).map(|_| {
        draw = draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        pick(&|i| draw.rotate_left(i as u32 * 7) >> 63 == 1)
    });
    let one = (0..of.len()).map(|kept| pick(&|i| i == kept));
    let all_but = (0..of.len()).map(|lost| pick(&|i| i != lost));
    one.chain(all_but).chain(drawn).collect()
}

/// What was acknowledged is there, or the loss has its name, which only a lost acknowledgement may have.
fn check(disk: &Rc<MemoryDisk>, told: &Told) -> Result<Option<Head>, String> {
    let written: Vec<&Vec<u8>> = told.groups.iter().flatten().collect();
    let journal = match plain::open(Rc::clone(disk), ID, &[]).map_err(|e| e.to_string())? {
        Opened::Fresh(journal) | Opened::Continued(journal) => journal,
        Opened::Damaged { verdict: Verdict::LastGroupUnconfirmed { from, to }, .. } => {
            // Its anchor was kept and its data were not: so it was not acknowledged.
            return if from > told.acknowledged { Ok(None) } else { Err(format!("{from} to {to} were acknowledged")) };
        }
        Opened::Damaged { verdict, .. } => return Err(verdict.to_string()),
    };
    let read: Vec<Vec<u8>> =
        journal.entries(1).map(|e| e.map(|e| e.bytes)).collect::<Result<_, _>>().map_err(|e| e.to_string())?;
    if (read.len() as u64) < told.acknowledged {
        return Err(format!("{} acknowledged, {} there", told.acknowledged, read.len()));
    }
    if read.iter().zip(&written).any(|(read, written)| read != *written) || read.len() > written.len() {
        return Err("another history".into());
    }
    Ok(Some(journal.head()))
}

/// Tries each crash point of beginning, appending, closing and opening again, with each subset. Gives how many power
/// cuts there were, or what was lost first.
fn cut_everywhere(ignore_syncs_of: Option<&'static str>) -> Result<u64, String> {
    let runs = |disk: &Rc<MemoryDisk>, told: &mut Told| -> Result<(), Error> {
        run(disk, told, 0..4)?;
        run(disk, told, 4..7)
    };
    let whole = Rc::new(MemoryDisk::default());
    runs(&whole, &mut Told::default()).unwrap();
    let mut cuts = 0;
    for stop in 0..=whole.operations() {
        let disk = Rc::new(MemoryDisk::default());
        disk.ignore_syncs_of.set(ignore_syncs_of);
        disk.stop_at(stop);
        let mut told = Told::default();
        assert_eq!(runs(&disk, &mut told).is_ok(), stop == whole.operations());
        for kept in subsets(&disk.unsynced()) {
            let after = Rc::new(disk.after_power_cut(&kept));
            let at = |lost: String| format!("cut before operation {stop}, kept {kept:?}: {lost}");
            let head = check(&after, &told).map_err(at)?;
            // Opened twice it is the same journal, and it goes on.
            if let Some(head) = head {
                let mut going_on = match plain::open(after, ID, &[(ID, head)]).map_err(|e| at(e.to_string()))? {
                    Opened::Fresh(journal) | Opened::Continued(journal) => journal,
                    Opened::Damaged { verdict, .. } => return Err(at(verdict.to_string())),
                };
                going_on.append(&group(9)).map_err(|e| at(e.to_string()))?;
            }
            cuts += 1;
        }
    }
    Ok(cuts)
}

#[test]
fn nothing_acknowledged_is_lost_to_a_power_cut() {
    let cuts = cut_everywhere(None).unwrap_or_else(|lost| panic!("{lost}"));
    println!("{cuts} power cuts, nothing lost");
    assert!(cuts > 1_000, "{cuts}");
}

#[test]
fn without_the_syncs_it_is() {
    for ignored in ["segment-", "anchor"] {
        let lost = cut_everywhere(Some(ignored)).unwrap_err();
        println!("without the syncs of {ignored}: {lost}");
    }
}
