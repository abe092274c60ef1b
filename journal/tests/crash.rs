//! A process that appends is killed at drawn moments, or watched by strace: what it said it had is there, and it says
//! so only after both syncs. The process is this test binary again, running `appends_until_killed`.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use natgw_journal::{Journal, JournalId, Opened, Verdict, read_copy};

/// Names the child's journal directory; without it the child's test does nothing.
const CHILD_DIR: &str = "NATGW_JOURNAL_CHILD_DIR";
/// How many groups the child appends before it ends by itself.
const CHILD_GROUPS: &str = "NATGW_JOURNAL_CHILD_GROUPS";
const KILLS: u64 = 24;

fn entry(seq: u64) -> Vec<u8> {
    let length = usize::try_from(seq.wrapping_mul(2_654_435_761) % 700).unwrap();
    format!("{seq} {}", "y".repeat(length)).into_bytes()
}

#[expect(clippy::disallowed_methods, reason = "the parent's only way to tell its child what to do")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The child: announces each phase on a line of its own.
#[test]
fn appends_until_killed() {
    let Some(dir) = variable(CHILD_DIR) else { return };
    let groups: u64 = variable(CHILD_GROUPS).unwrap().parse().unwrap();
    println!("\nphase opening");
    let mut journal = match Journal::open(Path::new(&dir), JournalId([4; 16]), &[]).unwrap() {
        Opened::Fresh(journal) | Opened::Continued(journal) => journal,
        Opened::Damaged { verdict, .. } => {
            println!("phase damaged {verdict}");
            return;
        }
    };
    println!("phase opened {}", journal.head().seq);
    for n in 0..groups {
        let first = journal.head().seq + 1;
        let group: Vec<Vec<u8>> = (first..=first + n % 40).map(entry).collect();
        println!("phase appending {first}");
        println!("phase acked {}", journal.append(&group).unwrap().seq);
        if n % 7 == 6 {
            println!("phase settling {}", journal.head().seq);
            journal.settle().unwrap();
        }
    }
    println!("phase closing {}", journal.head().seq);
    journal.close().unwrap();
}

fn child(program: &mut Command, dir: &Path, groups: u64) -> Child {
    program
        .args(["--exact", "appends_until_killed", "--nocapture", "--test-threads=1"])
        .env(CHILD_DIR, dir)
        .env(CHILD_GROUPS, groups.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn this_program() -> std::path::PathBuf {
    std::env::current_exe().unwrap()
}

/// What the child is known to have: the highest number it acknowledged, and what it found at its opening.
#[derive(Debug, Default, PartialEq, Eq)]
struct Announced {
    acked: u64,
    opened: Option<u64>,
    damaged: Option<String>,
}

impl Announced {
    fn hear(&mut self, line: &str) {
        let mut words = line.split(' ').skip(1);
        match (words.next(), words.next().and_then(|number| number.parse().ok())) {
            (Some("acked"), Some(seq)) => self.acked = seq,
            (Some("opened"), Some(seq)) => (self.opened, self.acked) = (Some(seq), seq),
            (Some("damaged"), _) => self.damaged = Some(line.into()),
            _ => {}
        }
    }

    /// What was acknowledged before must be there.
    fn check(&self, acked_before: u64) -> Result<(), String> {
        match (&self.damaged, self.opened) {
            (Some(damage), _) => Err(damage.clone()),
            (None, Some(opened)) if opened < acked_before => {
                Err(format!("{acked_before} was acknowledged, {opened} opened"))
            }
            (None, _) => Ok(()),
        }
    }
}

/// Everything acknowledged is in the directory, each entry as it was appended.
fn check_content(dir: &Path, acked: u64) -> Result<(), String> {
    let copy = read_copy(dir).map_err(|e| e.to_string())?;
    // Killed between the data and the anchor of the first group, or during the creation, there is nothing to read yet.
    if !copy.verdict().is_intact() {
        return Err(copy.verdict().to_string());
    }
    let mut read = 0;
    for entry_read in copy.entries(1) {
        let entry_read = entry_read.map_err(|e| e.to_string())?;
        read += 1;
        if entry_read.bytes != entry(read) {
            return Err(format!("entry {read} is another one"));
        }
    }
    if read < acked {
        return Err(format!("{acked} was acknowledged, {read} read"));
    }
    Ok(())
}

#[test]
fn nothing_acknowledged_is_lost_to_a_kill() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("journal");
    let (mut acked, mut draw) = (0, 20_261_122_u64);
    let mut phases = std::collections::BTreeSet::new();
    for kill in 0..KILLS {
        draw = draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        // Every fourth kill falls into an opening, the first while the journal is created.
        let announcement = if kill % 4 == 0 { 1 } else { 2 + (draw >> 33) % 60 };
        let mut process = child(&mut Command::new(this_program()), &dir, 1_000_000);
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut announced = Announced::default();
        let (mut heard, mut killed_at) = (0, String::new());
        for line in lines.map_while(Result::ok).filter(|line| line.starts_with("phase ")) {
            announced.hear(&line);
            heard += 1;
            if heard == announcement {
                process.kill().unwrap();
                killed_at = line.split(' ').nth(1).unwrap_or_default().into();
            }
        }
        process.wait().unwrap();
        let at = format!("kill {kill} at announcement {announcement} ({killed_at})");
        assert!(!killed_at.is_empty(), "{at}: the process ended before, having said {announced:?}");
        announced.check(acked).unwrap_or_else(|lost| panic!("{at}: {lost}"));
        acked = acked.max(announced.acked);
        phases.insert(killed_at);
        if acked > 0 {
            check_content(&dir, acked).unwrap_or_else(|lost| panic!("{at}: {lost}"));
        }
    }
    assert!(acked > 100 && phases.len() >= 3, "{acked} entries, killed in {phases:?}");
    // The checkers see what they are for.
    assert!(Announced { opened: Some(acked - 1), ..Announced::default() }.check(acked).is_err());
    check_content(&dir, acked + 1_000_000).unwrap_err();
    std::fs::remove_dir_all(dir.join("sled")).unwrap();
    let lost = read_copy(&dir).unwrap();
    assert!(matches!(lost.verdict(), Verdict::HistoryLost { from: 1, .. }), "{}", lost.verdict());
}

/// Between the announcement of an append and its acknowledgement, both files were synced, successfully. Gives how
/// many acknowledgements were seen.
fn check_trace(trace: &str) -> Result<usize, String> {
    let (mut log, mut anchor, mut acknowledged) = (false, false, 0);
    // Processes whose sync has begun and not ended, with what they sync.
    let mut begun = std::collections::BTreeMap::new();
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
    let output = child(&mut strace, &root.path().join("journal"), 25).wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let trace = std::fs::read_to_string(trace).unwrap();
    assert_eq!(check_trace(&trace), Ok(25), "{trace}");
    // A trace without the one or the other sync is refused.
    for missing in ["/sled/db>", "/anchor>"] {
        let without: Vec<&str> = trace.lines().filter(|line| !line.contains(missing)).collect();
        check_trace(&without.join("\n")).unwrap_err();
    }
    let failed = trace.replace("= 0", "= -1 EIO");
    check_trace(&failed).unwrap_err();
}
