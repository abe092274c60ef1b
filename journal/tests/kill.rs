//! A process that appends, takes snapshots and prunes is killed at drawn moments, or watched by strace: what it said it
//! had is there, and it says so only after both syncs. The process is this test binary again, running
//! `runs_until_killed`.
//!
//! `NATGW_SEED=17 NATGW_TRIALS=250 cargo test -p natgw-journal --test kill` draws anew, for a night's work in parts;
//! `NATGW_MODE=group` runs one of the modes alone.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, its helpers too")]

#[path = "kill/child.rs"]
mod child;
mod support;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::RwLock;

use child::{EVERY, Mode, entry};
use natgw_journal::{Error, Journal, JournalId, Opened, Verdict, read_copy};
use support::{Draw, at_once, seed, tier, variable};

/// Names the child's journal directory; without it the child's test does nothing.
const CHILD_DIR: &str = "NATGW_JOURNAL_CHILD_DIR";
/// What the child does.
const CHILD_MODE: &str = "NATGW_JOURNAL_CHILD_MODE";
/// How many times the child opens and closes before it ends by itself.
const CHILD_ROUNDS: &str = "NATGW_JOURNAL_CHILD_ROUNDS";
const ID: JournalId = JournalId([4; 16]);
/// After so many kills a new journal is begun, for each one is read as a whole.
const KILLS_A_JOURNAL: u64 = 20;

/// The child.
#[test]
fn runs_until_killed() {
    let Some(dir) = variable(CHILD_DIR) else { return };
    let rounds = variable(CHILD_ROUNDS).unwrap().parse().unwrap();
    child::run(Path::new(&dir), Mode::named(&variable(CHILD_MODE).unwrap()), rounds);
}

/// A process being started has, for a moment, the locks of the one that starts it: none is read meanwhile.
static STARTING: RwLock<()> = RwLock::new(());

fn start(program: &mut Command, dir: &Path, mode: Mode, rounds: u64) -> Child {
    let _alone = STARTING.write().unwrap();
    program
        .args(["--exact", "runs_until_killed", "--nocapture", "--test-threads=1"])
        .env(CHILD_DIR, dir)
        .env(CHILD_MODE, mode.name())
        .env(CHILD_ROUNDS, rounds.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn this_program() -> std::path::PathBuf {
    std::env::current_exe().unwrap()
}

/// What the child is known to have.
#[derive(Debug, Default, PartialEq, Eq)]
struct Announced {
    /// The highest number it acknowledged.
    acked: u64,
    /// The latest snapshot that it finished.
    finished: u64,
    /// What is wrong with what it said.
    refused: Option<String>,
}

impl Announced {
    fn hear(&mut self, line: &str) {
        let mut words = line.split(' ').skip(1);
        match (words.next(), words.next().and_then(|number| number.parse().ok())) {
            (Some("acked"), Some(seq)) => self.acked = self.acked.max(seq),
            (Some("finished"), Some(seq)) => self.finished = self.finished.max(seq),
            (Some("opened"), Some(seq)) if seq < self.acked => {
                self.refused = Some(format!("{} was acknowledged, {seq} opened", self.acked));
            }
            (Some("damaged"), _) => self.refused = Some(line.into()),
            _ => {}
        }
    }
}

/// A journal opens after the last kill as well, with everything that was acknowledged, and goes on.
fn check_opening(dir: &Path, acked: u64) -> Result<(), String> {
    let none_starts = STARTING.read().unwrap();
    let opened = Journal::open(dir, ID, &[]).map_err(|e| e.to_string())?;
    let outcome = match opened {
        Opened::Fresh(journal) | Opened::Continued(journal) if journal.head().seq < acked => {
            Err(format!("{acked} was acknowledged, {} opened", journal.head().seq))
        }
        Opened::Fresh(mut journal) | Opened::Continued(mut journal) => {
            journal.append(&[vec![1]]).map(drop).map_err(|e| e.to_string())
        }
        Opened::Damaged { verdict, .. } => Err(verdict.to_string()),
    };
    drop(none_starts);
    outcome
}

/// The phases that kills follow, each drawn, but none again before all the others: so that none is left out.
struct Phases {
    all: Vec<&'static str>,
    left: Vec<&'static str>,
}

impl Phases {
    fn of(mode: Mode) -> Self {
        Self { all: mode.phases(), left: vec![] }
    }

    fn draw(&mut self, draw: &mut Draw) -> &'static str {
        if self.left.is_empty() {
            self.left = self.all.clone();
        }
        self.left.swap_remove(draw.index(self.left.len()))
    }
}

/// Everything acknowledged is in the directory, each entry as it was appended, or in a snapshot that holds what it should.
fn check_content(dir: &Path, announced: &Announced) -> Result<(), String> {
    if let Some(refused) = &announced.refused {
        return Err(refused.clone());
    }
    let none_starts = STARTING.read().unwrap();
    let copy = match read_copy(dir) {
        // Killed before the creation was complete: there is nothing to read yet.
        Err(Error::NoJournal { .. }) if announced.acked == 0 => return Ok(()),
        copy => copy.map_err(|e| e.to_string())?,
    };
    drop(none_starts);
    if !copy.verdict().is_intact() {
        return Err(copy.verdict().to_string());
    }
    let mut seq = copy.first_seq();
    for read in copy.entries(seq) {
        if read.map_err(|e| e.to_string())?.bytes != entry(seq) {
            return Err(format!("entry {seq} is another one"));
        }
        seq += 1;
    }
    if seq <= announced.acked {
        return Err(format!("{} was acknowledged, {} read", announced.acked, seq - 1));
    }
    if !copy.unusable_snapshots().is_empty() {
        return Err(format!("{:?}", copy.unusable_snapshots()));
    }
    for snapshot in copy.snapshots() {
        let through = snapshot.through.seq;
        let read = copy.snapshot_entries(snapshot).map(|read| read.map(|e| e.bytes).unwrap_or_default());
        if !read.eq((1..=through).step_by(EVERY).map(entry)) || snapshot.digest != snapshot.through.hash {
            return Err(format!("the snapshot through {through} is another one"));
        }
    }
    let latest = copy.snapshots().last().map_or(0, |snapshot| snapshot.through.seq);
    if latest < announced.finished {
        return Err(format!("the snapshot through {} was finished, {latest} is the latest", announced.finished));
    }
    Ok(())
}

/// Lets the child run until the phase was announced so often, and kills it then; `false` if it ended by itself before.
fn kill_at(dir: &Path, mode: Mode, phase: &str, mut times: u64, announced: &mut Announced) -> bool {
    let mut process = start(&mut Command::new(this_program()), dir, mode, 40);
    let lines = BufReader::new(process.stdout.take().unwrap()).lines();
    for line in lines.map_while(Result::ok).filter(|line| line.starts_with("phase ")) {
        // What was said before the kill reached it counts as well.
        announced.hear(&line);
        if line.split(' ').nth(1) == Some(phase) && times > 0 {
            times -= 1;
            if times == 0 {
                process.kill().unwrap();
            }
        }
    }
    let _ = process.wait().unwrap();
    times == 0
}

fn kill_often(mode: Mode, kills: u64) {
    let root = tempfile::tempdir().unwrap();
    let (mut draw, mut phases) = (Draw(seed().unwrap_or(20_261_122) ^ mode as u64), Phases::of(mode));
    let (mut killed, mut acked, mut without) = (BTreeMap::<&str, u64>::new(), 0, 0);
    let mut announced = Announced::default();
    for kill in 0..kills {
        let dir = root.path().join(format!("journal-{}", kill / KILLS_A_JOURNAL));
        if kill % KILLS_A_JOURNAL == 0 {
            if let Some(before) = kill.checked_sub(KILLS_A_JOURNAL) {
                std::fs::remove_dir_all(root.path().join(format!("journal-{}", before / KILLS_A_JOURNAL))).unwrap();
            }
            acked += announced.acked;
            announced = Announced::default();
        }
        let phase = phases.draw(&mut draw);
        let often = !matches!(phase, "opening" | "opened" | "closing" | "closed");
        let times = 1 + draw.below(if often { 40 } else { 3 });
        let at = format!("kill {kill} of mode {} at announcement {times} of {phase}", mode.name());
        let done = kill_at(&dir, mode, phase, times, &mut announced);
        assert!(done || announced.refused.is_some(), "{at}: the process ended before, {announced:?}");
        check_content(&dir, &announced).unwrap_or_else(|lost| panic!("{at}: {lost}"));
        without += u64::from(announced.acked == 0);
        // Each but the last is judged by the opening of the process after it, too.
        if kill % KILLS_A_JOURNAL == KILLS_A_JOURNAL - 1 || kill + 1 == kills {
            check_opening(&dir, announced.acked).unwrap_or_else(|lost| panic!("{at}, opened afterwards: {lost}"));
        }
        *killed.entry(phase).or_default() += 1;
        if kill % 250 == 249 {
            println!("mode {}: {} of {kills} kills", mode.name(), kill + 1);
        }
    }
    acked += announced.acked;
    println!(
        "mode {}: {kills} kills, {acked} entries acknowledged, none lost, no opening refused, {without} kills before the \
         first was; {killed:?}",
        mode.name()
    );
    assert!(kills < phases.all.len() as u64 || killed.len() == phases.all.len(), "{killed:?}");
    // Only the first kills of a journal can come so early.
    assert!(without <= 4 * kills.div_ceil(KILLS_A_JOURNAL), "{without} of {kills} kills had nothing to lose");
    assert!(acked > kills, "{acked} entries");
}

#[test]
fn nothing_acknowledged_is_lost_to_a_kill() {
    let modes = variable("NATGW_MODE").map_or_else(|| Mode::ALL.to_vec(), |name| vec![Mode::named(&name)]);
    at_once(modes, |mode| kill_often(mode, tier().of(12, 100, 5_000)));
}

#[test]
fn the_checkers_see_what_they_are_for() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("journal");
    let mut process = start(&mut Command::new(this_program()), &dir, Mode::Prune, 2);
    let mut announced = Announced::default();
    let lines = BufReader::new(process.stdout.take().unwrap()).lines();
    lines.map_while(Result::ok).filter(|line| line.starts_with("phase ")).for_each(|line| announced.hear(&line));
    assert!(process.wait().unwrap().success());
    check_content(&dir, &announced).unwrap();
    assert!(read_copy(&dir).unwrap().first_seq() > 1, "nothing was pruned");
    // More acknowledged, or a later snapshot finished, than is there; fewer opened than acknowledged.
    let acked = announced.acked;
    check_content(&dir, &Announced { acked: acked + 1, ..Announced::default() }).unwrap_err();
    check_content(&dir, &Announced { acked: 1, finished: announced.acked + 1, refused: None }).unwrap_err();
    announced.hear("phase opened 1");
    assert!(announced.refused.is_some());
    check_opening(&dir, acked + 1).unwrap_err();
    // A snapshot whose bytes rot is seen, and so is one that is gone although entries were pruned.
    let snapshots: Vec<_> =
        support::image(&dir).into_keys().filter(|name| name.to_string_lossy().starts_with("snapshot-")).collect();
    assert!(snapshots.len() >= 2, "{snapshots:?}");
    // So it is without anything acknowledged: there is a journal to read.
    let announced = Announced::default();
    let mut bytes = std::fs::read(dir.join(&snapshots[0])).unwrap();
    bytes[200] ^= 1;
    std::fs::write(dir.join(&snapshots[0]), bytes).unwrap();
    check_content(&dir, &announced).unwrap_err();
    snapshots.iter().for_each(|name| std::fs::remove_file(dir.join(name)).unwrap());
    let lost = check_content(&dir, &announced).unwrap_err();
    assert!(lost.contains("entries 1 to"), "{lost}");
    check_opening(&dir, acked).unwrap_err();
    std::fs::remove_dir_all(dir.join("sled")).unwrap();
    let lost = read_copy(&dir).unwrap();
    assert!(matches!(lost.verdict(), Verdict::HistoryLost { from: 1, .. }), "{}", lost.verdict());
}

/// Between the announcement of an append and its acknowledgement, both files were synced, successfully. Gives how
/// many acknowledgements were seen.
fn check_trace(trace: &str) -> Result<usize, String> {
    let (mut log, mut anchor, mut acknowledged) = (false, false, 0);
    // Processes whose sync has begun and not ended, with what they sync.
    let mut begun = BTreeMap::new();
    for line in trace.lines() {
        let (process, call) = line.trim_start().split_once(' ').unwrap_or((line, ""));
        let call = call.trim_start();
        if call.contains("phase appending") {
            (log, anchor) = (false, false);
        } else if call.contains("phase acked") {
            if !(log && anchor) {
                return Err(format!("acknowledged with log synced: {log}, anchor synced: {anchor}: {line}"));
            }
            acknowledged += 1;
        } else if call.starts_with("fdatasync(") {
            begun.insert(process, (call.contains("/sled/db>"), call.contains("/anchor>")));
        }
        let ended = call.starts_with("fdatasync(") || call.contains("fdatasync resumed");
        if ended && call.ends_with("= 0") {
            let (of_log, of_anchor) = begun.remove(process).unwrap_or_default();
            (log, anchor) = (log || of_log, anchor || of_anchor);
        }
    }
    Ok(acknowledged)
}

#[test]
fn an_acknowledgement_follows_both_syncs() {
    if Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_err() {
        assert!(variable("CI").is_none(), "strace is missing, and in CI it must be there");
        eprintln!("SKIPPED: strace is not installed, so the order of syncs was not looked at");
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let trace = root.path().join("trace");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-y", "-qq", "-s", "200", "-e", "trace=fdatasync,write", "-o"]).arg(&trace).arg(this_program());
    let output = start(&mut strace, &root.path().join("journal"), Mode::Group, 2).wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let trace = std::fs::read_to_string(trace).unwrap();
    assert_eq!(check_trace(&trace), Ok(48), "{trace}");
    // A trace without the one or the other sync is refused.
    for missing in ["/sled/db>", "/anchor>"] {
        let without: Vec<&str> = trace.lines().filter(|line| !line.contains(missing)).collect();
        check_trace(&without.join("\n")).unwrap_err();
    }
    let failed = trace.replace("= 0", "= -1 EIO");
    check_trace(&failed).unwrap_err();
}
