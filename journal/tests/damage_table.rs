//! Damage done to whole journals, each kind many times, beside what raw sled makes of the same damage. Every trial ends
//! with the whole history, or with a verdict that is right; none with less and no word.
//!
//! Each part of the trials has a process of its own, this test binary again running `runs_a_part`: what sled takes and does
//! not give back when it panics, or when damaged bytes name a length, ends with it.
//!
//! `NATGW_SEED=17 NATGW_TRIALS=100 cargo test -p natgw-journal --test damage_table` draws anew, and so many of each.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, its helpers too"
)]

#[path = "table/harm.rs"]
mod harm;
#[path = "table/sample.rs"]
mod sample;
mod support;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;

use harm::Harm;
use natgw_journal::{Error, Journal, JournalId, Opened, Verdict, read_copy};
use sample::{ID, SLED_SEGMENT_BYTES, STRANGER, Sample};
use support::{Draw, at_once, image, seed, tier, variable};

/// How a trial ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Ending {
    /// Everything is there.
    Whole,
    /// Something is missing, and it was said.
    Said,
    /// Something is missing or another, and nothing was said.
    Silent,
}

/// What raw sled makes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Raw {
    Whole,
    Silent,
    Failed,
    Panicked,
}

/// What an opening gave: a verdict, or entries until they ended or an error came.
struct Found {
    verdict: Option<Verdict>,
    id: Option<JournalId>,
    first: u64,
    entries: Vec<Vec<u8>>,
    error: Option<Error>,
    snapshots: Vec<(u64, Vec<Vec<u8>>)>,
}

/// Opens as the controller does, with the head that the Lease would know, and reads everything.
fn open(dir: &Path, sample: &Sample) -> Found {
    let none = || Found { verdict: None, id: None, first: 1, entries: vec![], error: None, snapshots: vec![] };
    let before = image(dir);
    let journal = match Journal::open(dir, JournalId([9; 16]), &[(ID, sample.head)]).unwrap() {
        Opened::Fresh(journal) | Opened::Continued(journal) => journal,
        Opened::Damaged { verdict, id } => {
            assert_eq!(image(dir), before, "a damaged journal is left as it was");
            return Found { verdict: Some(verdict), id, ..none() };
        }
    };
    let first = journal.first_seq().unwrap();
    let (mut entries, mut error) = (vec![], None);
    for read in journal.entries(first) {
        match read {
            Ok(entry) => entries.push(entry.bytes),
            Err(e) => error = Some(e),
        }
    }
    let view = journal.view();
    let whole = |snapshot| view.snapshot_entries(snapshot).map(|e| e.map(|e| e.bytes)).collect::<Result<Vec<_>, _>>();
    let snapshots = view.snapshots().iter().filter_map(|s| Some((s.through.seq, whole(s).ok()?))).collect();
    Found { id: Some(journal.id()), first, entries, error, snapshots, ..none() }
}

/// What others make of the same damage.
#[derive(Debug, Default)]
struct Left {
    /// The lowest entry that a reader's copy still gives, and what it gives from there on.
    first: u64,
    salvaged: Vec<Vec<u8>>,
    /// The first entry of the first group that raw sled does not give as it was written, where it opens the files at all.
    raw_until: Option<u64>,
}

/// Judges what was found; an `Err` is a verdict that is not right.
fn classify(sample: &Sample, harm: Harm, found: &Found, left: &Left) -> Result<Ending, String> {
    let expected = &sample.entries[sample.first as usize - 1..];
    let written = sample.entries.get(left.first as usize - 1..).unwrap_or_default();
    if harm != Harm::OthersFiles && !written.starts_with(&left.salvaged) {
        return Err("what was salvaged is not what was written".into());
    }
    if let Some(verdict) = &found.verdict {
        let is_right = is_right(sample, harm, verdict, left);
        let told = || format!("{verdict}; {} salvaged, raw sled until {:?}", left.salvaged.len(), left.raw_until);
        return if is_right { Ok(Ending::Said) } else { Err(told()) };
    }
    if found.id != Some(ID) || found.first != sample.first || !expected.starts_with(&found.entries) {
        return Ok(Ending::Silent);
    }
    let based = sample.first == 1
        || found.snapshots.iter().any(|(through, entries)| {
            let held = sample.entries[..*through as usize].iter().step_by(5);
            *through + 1 >= sample.first && entries.iter().eq(held)
        });
    match &found.error {
        None if found.entries.len() == expected.len() && based => Ok(Ending::Whole),
        Some(Error::EntryDamaged { seq, .. })
            if (*seq == found.first + found.entries.len() as u64 && left.salvaged == found.entries)
                || (sample.first > 1 && *seq <= found.first && found.entries.is_empty()) =>
        {
            Ok(Ending::Said)
        }
        None => Ok(Ending::Silent),
        Some(other) => Err(other.to_string()),
    }
}

/// Whether the verdict is one that this harm may lead to, and names what is lost. An emptied snapshot of sled loses
/// nothing: all of it stands in the log, too.
fn is_right(sample: &Sample, harm: Harm, verdict: &Verdict, left: &Left) -> bool {
    let last = sample.head.seq;
    match (harm, verdict) {
        (Harm::DatabaseMissing, Verdict::HistoryLost { from, to }) => (*from, *to) == (1, last),
        (Harm::OlderImage, Verdict::HistoryLost { from, to }) => (*from, *to) == (sample.older_head.seq + 1, last),
        (Harm::OthersFiles, Verdict::Foreign { expected, found, seq: 0 }) => {
            [(ID, STRANGER), (STRANGER, ID)].contains(&(*expected, *found))
        }
        (Harm::AnchorMissing, Verdict::AnchorLost) => true,
        (Harm::AnchorOlder, Verdict::AnchorStale { anchor, head }) => {
            *head == sample.head && *anchor != *head && sample.anchored.contains(anchor)
        }
        // Both slots lie in the file, which may have been cut to nothing.
        (Harm::TailCut | Harm::SectorsZeroed, Verdict::AnchorDamaged { .. }) => true,
        (Harm::TailCut | Harm::SectorsZeroed | Harm::BitFlipped | Harm::PageZeroed, verdict) => {
            names_what_is_lost(sample, verdict, left)
        }
        _ => false,
    }
}

/// Whether the range that the verdict names ends with the last entry and begins with the first that is lost: what is before
/// it is still given, and raw sled gives no more than that.
fn names_what_is_lost(sample: &Sample, verdict: &Verdict, left: &Left) -> bool {
    let last = sample.head.seq;
    let ends_before = |from: u64| from == 1 || sample.ends.contains(&(from - 1));
    let begins_late = left.first > sample.first;
    let (from, to) = match verdict {
        // Lost at the beginning: nobody has what the snapshots do not lead up to.
        Verdict::HistoryLost { from: 1, to } if begins_late => return *to == left.first - 1,
        // The data end with a whole group.
        Verdict::HistoryLost { from, to } if ends_before(*from) => (*from, *to),
        Verdict::LastGroupUnconfirmed { from, to } if sample.ends.range(*from..).eq([&last]) && ends_before(*from) => {
            (*from, *to)
        }
        Verdict::EntryDamaged { from, to, .. } => (*from, *to),
        // All of it: sled opens nothing, or fails while its end is looked for, and then nothing it gives is built on.
        Verdict::Unreadable { lost: Some((1, to)), reason } => {
            let failed = reason.contains("the store could not");
            return *to == last && (failed || left.raw_until.is_none_or(|until| until == 1));
        }
        _ => return false,
    };
    from <= to
        && to == last
        // Where sled lost that entries were pruned, they are there again, and the data may end with them.
        && left.raw_until.is_none_or(|until| until <= from.max(sample.first))
        && match from.checked_sub(left.first) {
            // A reader of a pruned journal may find no way to its first entry, and then gives less than there is.
            given if sample.first > 1 => begins_late || given.is_some_and(|given| left.salvaged.len() as u64 <= given),
            given => given == Some(left.salvaged.len() as u64),
        }
}

type Frames = BTreeMap<Vec<u8>, Vec<u8>>;

/// What sled by itself makes of its files.
fn raw(dir: &Path, sample: &Sample) -> Raw {
    match raw_frames(dir) {
        Err(_) => Raw::Panicked,
        Ok(Err(_)) => Raw::Failed,
        Ok(Ok(frames)) if frames == sample.frames => Raw::Whole,
        Ok(Ok(_)) => Raw::Silent,
    }
}

/// The first entry of the first group that sled by itself, with its derived files or without, does not give as it was
/// written; `None` if it opens neither.
fn raw_until(files: &BTreeMap<PathBuf, Vec<u8>>, dir: &Path, sample: &Sample) -> Option<u64> {
    let derived = |name: &Path| {
        let name = name.file_name().unwrap().to_string_lossy();
        name == "conf" || name.starts_with("snap.")
    };
    let of_log = files.iter().filter(|(name, _)| !derived(name)).map(|(name, bytes)| (name.clone(), bytes.clone()));
    let until = |files: &BTreeMap<PathBuf, Vec<u8>>| {
        support::restore(dir, files);
        let frames = raw_frames(&dir.join("sled")).ok()?.ok()?;
        let missed = sample.frames.iter().find(|(key, value)| frames.get(*key) != Some(*value));
        // The group's first entry is in each frame; that of the genesis frame is 0.
        let first = |frame: &[u8]| u64::from_le_bytes(frame[8..16].try_into().unwrap()).max(1);
        Some(missed.map_or(sample.head.seq + 1, |(_, frame)| first(frame)))
    };
    until(files).max(until(&of_log.collect()))
}

fn raw_frames(dir: &Path) -> std::thread::Result<sled::Result<Frames>> {
    catch_unwind(AssertUnwindSafe(|| {
        let db = sled::Config::new().path(dir).flush_every_ms(None).open()?;
        let frames = db.iter().map(|stored| stored.map(|(key, value)| (key.to_vec(), value.to_vec())));
        frames.collect::<sled::Result<Frames>>()
    }))
}

/// Names the part that a child runs: the harm's number, the first trial, and how many.
const PART: &str = "NATGW_DAMAGE_PART";
/// Trials of one process: what each may leave in memory is far below a megabyte.
const TRIALS_A_PROCESS: u64 = 100;
/// What a process may take, whatever its trials left: six of them run at once.
const MEMORY_BYTES_MAX: u64 = 1 << 30;

/// What became of all trials of one kind.
#[derive(Debug, Default, PartialEq, Eq)]
struct Row {
    endings: BTreeMap<Ending, u64>,
    /// Whole, where raw sled was not.
    recovered: u64,
    raw: BTreeMap<Raw, u64>,
    verdicts: BTreeMap<String, u64>,
    /// The most that one process took.
    memory: u64,
}

impl Row {
    /// Lines that [`Row::hear`] takes.
    fn tell(&self) {
        println!("part recovered {}", self.recovered);
        println!("part memory {}", self.memory);
        self.endings.iter().for_each(|(ending, times)| println!("part {ending:?} {times}"));
        self.raw.iter().for_each(|(raw, times)| println!("part raw-{raw:?} {times}"));
        self.verdicts.iter().for_each(|(name, times)| println!("part verdict {name} {times}"));
    }

    fn hear(&mut self, line: &str) {
        let Some((what, times)) = line.strip_prefix("part ").and_then(|line| line.rsplit_once(' ')) else { return };
        let times: u64 = times.parse().unwrap();
        let mut raw = |raw| *self.raw.entry(raw).or_default() += times;
        match what {
            "recovered" => self.recovered += times,
            "memory" => self.memory = self.memory.max(times),
            "Whole" => *self.endings.entry(Ending::Whole).or_default() += times,
            "Said" => *self.endings.entry(Ending::Said).or_default() += times,
            "Silent" => *self.endings.entry(Ending::Silent).or_default() += times,
            "raw-Whole" => raw(Raw::Whole),
            "raw-Silent" => raw(Raw::Silent),
            "raw-Failed" => raw(Raw::Failed),
            "raw-Panicked" => raw(Raw::Panicked),
            verdict => *self.verdicts.entry(verdict.strip_prefix("verdict ").unwrap().into()).or_default() += times,
        }
    }
}

/// The most that this process has had in memory, as the system counts it.
fn memory_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() << 10
}

/// The child.
#[test]
fn runs_a_part() {
    let Some(part) = variable(PART) else { return };
    let numbers: Vec<u64> = part.split(' ').map(|number| number.parse().unwrap()).collect();
    let (harm, from, trials) = (Harm::ALL[numbers[0] as usize], numbers[1], numbers[2]);
    let (samples, other, root) = (sample::samples(), sample::stranger(), tempfile::tempdir().unwrap());
    let mut row = Row::default();
    for n in from..from + trials {
        let mut draw = Draw(seed().unwrap_or(1) * 1_000_003 + n);
        trial(harm, &mut draw, &samples, &other, root.path(), &mut row);
    }
    row.memory = memory_bytes();
    // The harness has not ended its line.
    println!();
    row.tell();
}

/// Runs a part in a process of its own, and adds what it tells.
fn run_part((harm, from, trials): (usize, u64, u64)) -> (Harm, Vec<String>) {
    let program = std::env::current_exe().unwrap();
    let child = Command::new(program)
        .args(["--exact", "runs_a_part", "--nocapture", "--test-threads=1"])
        .env(PART, format!("{harm} {from} {trials}"))
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8_lossy(&child.stdout), String::from_utf8_lossy(&child.stderr));
    assert!(child.status.success(), "{}, trials from {from}: {out}{err}", Harm::ALL[harm].name());
    (Harm::ALL[harm], out.lines().map(str::to_owned).collect())
}

fn trial(harm: Harm, draw: &mut Draw, samples: &[Sample], other: &Sample, root: &Path, row: &mut Row) {
    let sample = &samples[draw.index(samples.len())];
    let (dir, for_raw) = (root.join("journal"), root.join("raw"));
    let what = harm.do_to(&dir, sample, other, draw);
    if for_raw.exists() {
        std::fs::remove_dir_all(&for_raw).unwrap();
    }
    support::restore(&for_raw, &image(&dir));
    let raw = raw(&for_raw.join("sled"), sample);
    // Reading takes nothing for whole that the opening does not, and never more than there was.
    let copy = read_copy(&dir).unwrap();
    let salvaged: Vec<_> = copy.entries(copy.first_seq()).map_while(Result::ok).map(|entry| entry.bytes).collect();
    let mut left = Left { first: copy.first_seq(), salvaged, raw_until: None };
    let files = image(&dir);
    let found = open(&dir, sample);
    if found.verdict.is_some() {
        left.raw_until = raw_until(&files, &for_raw, sample);
    }
    let at = format!("{}: {what}; {}", harm.name(), sample.what);
    let ending = classify(sample, harm, &found, &left).unwrap_or_else(|wrong| panic!("{at}: {wrong}"));
    assert_ne!(ending, Ending::Silent, "{at}");
    if ending == Ending::Whole {
        assert!(copy.verdict().is_intact(), "{at}: {}", copy.verdict());
        assert_eq!(left.salvaged, found.entries, "{at}");
    }
    *row.endings.entry(ending).or_default() += 1;
    *row.raw.entry(raw).or_default() += 1;
    row.recovered += u64::from(ending == Ending::Whole && raw != Raw::Whole);
    if let Some(verdict) = found.verdict {
        let name = format!("{verdict:?}");
        *row.verdicts.entry(name.split([' ', '(']).next().unwrap().into()).or_default() += 1;
    } else if found.error.is_some() {
        *row.verdicts.entry("EntryDamaged (in reading)".into()).or_default() += 1;
    }
}

#[test]
fn no_damage_is_silent() {
    let trials = tier().of(8, 50, 1_000);
    let begins = (0..trials).step_by(TRIALS_A_PROCESS as usize);
    let of_harm = |harm| begins.clone().map(move |from| (harm, from, TRIALS_A_PROCESS.min(trials - from)));
    let mut rows = BTreeMap::<Harm, Row>::new();
    for (harm, told) in at_once((0..Harm::ALL.len()).flat_map(of_harm).collect(), run_part) {
        told.iter().for_each(|line| rows.entry(harm).or_default().hear(line));
    }
    for (harm, row) in &rows {
        assert_eq!(row.endings.values().sum::<u64>(), trials, "{}", harm.name());
        assert!(row.memory < MEMORY_BYTES_MAX, "{} took {} bytes", harm.name(), row.memory);
    }
    let mut table = format!(
        "\n{trials} trials each          |          with the wrapper           |        raw sled\n{:24} | intact recovered verdict silent | whole silent Err panic | verdicts\n",
        "damage"
    );
    let mut raw_silent = 0;
    for (harm, row) in &rows {
        let ended = |ending| row.endings.get(&ending).copied().unwrap_or(0);
        let of_raw = |raw| row.raw.get(&raw).copied().unwrap_or(0);
        raw_silent += of_raw(Raw::Silent);
        writeln!(
            table,
            "{:24} | {:6} {:9} {:7} {:6} | {:5} {:6} {:3} {:5} | {:?}",
            harm.name(),
            ended(Ending::Whole) - row.recovered,
            row.recovered,
            ended(Ending::Said),
            ended(Ending::Silent),
            of_raw(Raw::Whole),
            of_raw(Raw::Silent),
            of_raw(Raw::Failed),
            of_raw(Raw::Panicked),
            row.verdicts
        )
        .unwrap();
    }
    let memory = rows.values().map(|row| row.memory).max().unwrap_or(0) >> 20;
    println!("{table}\nat most {memory} MiB a process of {TRIALS_A_PROCESS} trials");
    let emptied = &rows[&Harm::SledSnapshotEmptied];
    assert_eq!(emptied.recovered, trials - emptied.raw.get(&Raw::Whole).copied().unwrap_or(0), "from sled's log");
    // Damage that sled does not hide would prove nothing.
    assert!(raw_silent > trials, "raw sled hid only {raw_silent} losses");
}

/// Some of what is damaged is longer than a few segments of sled's log, and most is not.
#[test]
fn some_samples_have_several_segments() {
    let used = |sample: &Sample| {
        let log = &sample.files[Path::new("sled/db")];
        let segments = log.chunks(SLED_SEGMENT_BYTES);
        segments.filter(|segment| segment.iter().any(|byte| *byte != 0)).count()
    };
    let segments: Vec<usize> = sample::samples().iter().map(used).collect();
    println!("segments in use: {segments:?}");
    assert!(segments.iter().filter(|used| **used >= 4).count() >= 2, "{segments:?}");
}

/// The judge catches what it is for: less than there was, others' entries, a verdict that does not fit.
#[test]
fn the_judge_sees_what_it_is_for() {
    let samples = sample::samples();
    let sample = &samples[2];
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("journal");
    let found = || {
        support::restore(&dir, &sample.files);
        open(&dir, sample)
    };
    let whole = Left { first: sample.first, salvaged: found().entries, raw_until: None };
    let judge = |found: &Found| classify(sample, Harm::BitFlipped, found, &whole);
    assert_eq!(judge(&found()), Ok(Ending::Whole));
    let shorter = |mut found: Found| {
        found.entries.pop();
        found
    };
    let other = |mut found: Found| {
        found.entries[3][0] ^= 1;
        found
    };
    let swapped = |found: Found| Found { id: Some(JournalId([2; 16])), ..found };
    let baseless = |found: Found| Found { snapshots: vec![], ..found };
    let later = |found: Found| Found { first: found.first + 1, ..found };
    for silent in [shorter(found()), other(found()), swapped(found()), baseless(found()), later(found())] {
        assert_eq!(judge(&silent), Ok(Ending::Silent));
    }
    let misplaced = Error::EntryDamaged { seq: 1, reason: String::new() };
    judge(&Found { error: Some(misplaced), ..shorter(found()) }).unwrap_err();
    for wrong in [Verdict::AnchorLost, Verdict::HistoryLost { from: 5, to: 9 }] {
        judge(&Found { verdict: Some(wrong), ..found() }).unwrap_err();
    }
    // A range that begins too early or too late, or amid a group; salvaged entries that nobody wrote; a loss where there
    // is none.
    let sample = &samples[0];
    let last = sample.head.seq;
    let end = *sample.ends.iter().rev().nth(2).unwrap();
    let salvaged = |until: u64| sample.entries[sample.first as usize - 1..until as usize].to_vec();
    let judge = |harm, verdict, left: &Left| classify(sample, harm, &Found { verdict: Some(verdict), ..found() }, left);
    let lost = |from| Verdict::HistoryLost { from, to: last };
    let left = Left { first: sample.first, salvaged: salvaged(end), raw_until: Some(end + 1) };
    assert_eq!(judge(Harm::TailCut, lost(end + 1), &left), Ok(Ending::Said));
    judge(Harm::TailCut, lost(end), &left).unwrap_err();
    judge(Harm::TailCut, lost(end + 2), &left).unwrap_err();
    judge(
        Harm::TailCut,
        lost(end + 1),
        &Left { raw_until: Some(end + 2), first: sample.first, salvaged: salvaged(end) },
    )
    .unwrap_err();
    judge(Harm::TailCut, lost(end + 1), &Left { first: sample.first, salvaged: salvaged(end - 1), raw_until: None })
        .unwrap_err();
    judge(Harm::TailCut, Verdict::LastGroupUnconfirmed { from: end + 1, to: last }, &left).unwrap_err();
    let nothing = Verdict::Unreadable { reason: String::new(), lost: Some((1, last)) };
    judge(Harm::TailCut, nothing, &left).unwrap_err();
    judge(Harm::SledSnapshotEmptied, lost(end + 1), &left).unwrap_err();
    judge(Harm::OlderImage, lost(end + 1), &left).unwrap_err();
    let mut forged = Left { first: sample.first, salvaged: salvaged(end), raw_until: None };
    forged.salvaged[3][0] ^= 1;
    judge(Harm::TailCut, lost(end + 1), &forged).unwrap_err();
    // And so does the comparison with raw sled, on a whole journal and on a shorter one.
    support::restore(&dir, &sample.files);
    assert_eq!(raw(&dir.join("sled"), sample), Raw::Whole);
    support::restore(&dir, &sample.older);
    assert_eq!(raw(&dir.join("sled"), sample), Raw::Silent);
}
