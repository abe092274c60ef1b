//! The program, run on journals of known histories.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a broken fixture is a failed test")]

mod story;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use natgw::machine::event::kept::Kept;
use natgw::machine::event::{Event, Record, codec, control};
use natgw::machine::state::{DIGEST_VERSION, State};
use natgw_journal::{Head, Journal, JournalId};
use serde_json::Value;
use story::Story;

const EXPLAINED: &str = include_str!("cli/explain.txt");

fn replay(arguments: &[&str], journals: &[&Path]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_natgw-replay")).args(arguments).args(journals).output().unwrap()
}

fn status(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn lines(output: &Output) -> Vec<Value> {
    text(output).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The findings of a verification, and its exit status.
fn verify(journals: &[&Path]) -> (i32, Vec<Value>) {
    let output = replay(&["verify", "-o", "json"], journals);
    let of_journals = |line: &Value| line["findings"].as_array().cloned().unwrap_or_default();
    let general = |line: &Value| line.get("finding").map(|_| line.clone());
    let lines = lines(&output);
    let findings = lines.iter().flat_map(|line| of_journals(line).into_iter().chain(general(line)));
    (status(&output), findings.collect())
}

#[test]
fn a_sound_history_is_clean_and_its_digest_is_the_state_s() {
    let (dir, story) = (tempfile::tempdir().unwrap(), Story::whole());
    story.write(dir.path(), 1, 4);
    let output = replay(&["verify"], &[dir.path()]);
    assert_eq!((status(&output), text(&output).contains("clean")), (0, true), "{}", text(&output));
    assert!(text(&output).contains(&story.digest()), "{}", text(&output));

    let report = &lines(&replay(&["verify", "--output", "json"], &[dir.path()]))[0];
    assert_eq!(report["digest"], story.digest());
    assert_eq!((&report["events"], &report["folded"]), (&story.records.len().into(), &story.records.len().into()));
    assert_eq!((report["digests_compared"].as_u64(), report["terms"].as_u64()), (Some(2), Some(1)));
    assert_eq!(report["findings"].as_array().unwrap().len(), 0);
}

#[test]
fn a_sandbox_folder_is_read_through_its_journal() {
    let (folder, story) = (tempfile::tempdir().unwrap(), Story::whole());
    story.write(&folder.path().join("journal"), 1, 4);
    assert_eq!(verify(&[folder.path()]).0, 0);
    let output = replay(&["log"], &[folder.path()]);
    assert_eq!(text(&output).lines().count(), story.records.len());
}

#[test]
fn the_log_has_a_line_for_each_record() {
    let (dir, story) = (tempfile::tempdir().unwrap(), Story::whole());
    story.write(dir.path(), 1, 7);
    let first = text(&replay(&["log"], &[dir.path()]));
    assert_eq!(first.lines().count(), story.records.len());
    assert!(
        first.lines().nth(2).unwrap().contains("2026-01-01T00:00:00.010Z  term 1 +0.010s  term 1 started"),
        "{first}"
    );
    let parsed = lines(&replay(&["log", "-o", "json"], &[dir.path()]));
    for (line, record) in parsed.iter().zip(&story.records) {
        assert_eq!((&line["seq"], &line["term"]), (&record.seq.into(), &record.term.into()));
        assert_eq!(line["event"], record.event.name());
        assert!(line["words"].is_string() && line["wall"].as_str().unwrap().ends_with('Z'));
    }
    assert_eq!(parsed.len(), story.records.len());
}

#[test]
fn a_pod_s_story_is_told_in_order() {
    let dir = tempfile::tempdir().unwrap();
    Story::whole().write(dir.path(), 1, 4);
    let output = replay(&["explain", "games/web-0"], &[dir.path()]);
    assert_eq!(status(&output), 0);
    assert_eq!(text(&output), EXPLAINED, "the story as it is now:\n{}", text(&output));

    let told = lines(&replay(&["explain", "games/web-0", "-o", "json"], &[dir.path()]));
    assert!(told.iter().any(|line| line["pods"] == serde_json::json!(["uid-b"])));
    assert!(!told.iter().any(|line| line["words"].as_str().unwrap().contains("uid-z")));
    let nobody = replay(&["explain", "games/web-9"], &[dir.path()]);
    assert_eq!((status(&nobody), text(&nobody).contains("no record")), (0, true));
}

#[test]
fn somebody_else_s_entry_is_told_only_where_it_is_in_the_way() {
    let (dir, mut story) = (tempfile::tempdir().unwrap(), Story::whole());
    story.stranger("fwd-by-hand", 900, 6).stranger("fwd-elsewhere", 901, 77);
    story.write(dir.path(), 1, 4);
    let told = text(&replay(&["explain", "games/web-0"], &[dir.path()]));
    assert!(told.contains("fwd-by-hand") && !told.contains("fwd-elsewhere"), "{told}");
}

#[test]
fn an_event_that_nobody_could_have_decided_is_found_at_its_number() {
    let (dir, mut story) = (tempfile::tempdir().unwrap(), Story::whole());
    story.forge(story::unknown_release()).forge(story::unknown_release());
    story.write(dir.path(), 1, 4);
    let (code, findings) = verify(&[dir.path()]);
    assert_eq!((code, findings.len()), (1, 1), "{findings:?}");
    assert_eq!(findings[0]["seq"].as_u64(), Some(story.records.len() as u64 - 1));
    assert!(findings[0]["finding"].as_str().unwrap().contains("ReleaseDecided"), "{findings:?}");
    let output = replay(&["verify"], &[dir.path()]);
    assert!(text(&output).contains("NOT CLEAN") && text(&output).contains("no digest"), "{}", text(&output));
}

#[test]
fn a_journaled_digest_that_is_not_the_state_s_is_found() {
    let (dir, mut story) = (tempfile::tempdir().unwrap(), Story::whole());
    story.forge(Event::DigestTaken(control::DigestTaken { version: DIGEST_VERSION, digest: [7; 32] }));
    story.write(dir.path(), 1, 4);
    let (code, findings) = verify(&[dir.path()]);
    assert_eq!((code, findings.len()), (1, 1), "{findings:?}");
    let words = findings[0]["finding"].as_str().unwrap();
    assert!(words.contains(&"07".repeat(32)) && words.contains(&story.digest()), "{words}");
}

#[test]
fn bytes_that_are_no_record_are_found_and_the_rest_is_still_told() {
    let [scratch, dir] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let story = Story::whole();
    let mut journal = story.write_open(scratch.path(), 1, 4);
    let head = journal.append(&[vec![0xff; 40]]).unwrap();
    let last = codec::encode(&story.records[0]).unwrap();
    journal.append(&[last]).unwrap();
    journal.close().unwrap();
    story::copy_tree(scratch.path(), dir.path());
    let (code, findings) = verify(&[dir.path()]);
    assert_eq!((code, findings.len(), findings[0]["seq"].as_u64()), (1, 1, Some(head.seq)), "{findings:?}");
    let output = replay(&["log"], &[dir.path()]);
    assert_eq!((status(&output), text(&output).lines().count()), (1, story.records.len() + 2));
}

#[test]
fn a_journal_that_is_not_whole_is_a_finding_for_every_command() {
    let dir = tempfile::tempdir().unwrap();
    let head = Story::whole().write(dir.path(), 1, 4).1;
    fs::remove_file(dir.path().join("anchor")).unwrap();
    let (code, findings) = verify(&[dir.path()]);
    assert_eq!((code, findings[0]["lost"]["from"].as_u64()), (1, Some(head.seq + 1)), "{findings:?}");
    for arguments in [&["log"][..], &["explain", "games/web-0"]] {
        let output = replay(arguments, &[dir.path()]);
        assert_eq!(status(&output), 1, "{arguments:?}");
        assert!(text(&output).contains("FINDING"), "{arguments:?}");
    }
}

#[test]
fn what_cannot_run_says_so() {
    let (dir, story) = (tempfile::tempdir().unwrap(), Story::whole());
    let empty = tempfile::tempdir().unwrap();
    let journal = story.write_open(dir.path(), 1, 4);
    let in_use = replay(&["verify"], &[dir.path()]);
    assert_eq!(status(&in_use), 2);
    assert!(String::from_utf8(in_use.stderr).unwrap().contains("in use"));
    journal.close().unwrap();
    let copy = empty.path().join("copy");
    story::copy_tree(dir.path(), &copy);
    for (arguments, journals) in [
        (&["verify"][..], vec![empty.path()]),
        (&["verify"], vec![]),
        (&["explain", "web-0"], vec![dir.path()]),
        (&["log"], vec![dir.path(), &copy]),
        (&["forget"], vec![dir.path()]),
    ] {
        let output = replay(arguments, &journals);
        assert_eq!((status(&output), output.stdout.len()), (2, 0), "{arguments:?}");
        assert!(!output.stderr.is_empty());
    }
}

#[test]
fn a_reader_that_has_had_enough_is_no_failure() {
    let dir = tempfile::tempdir().unwrap();
    Story::whole().write(dir.path(), 1, 4);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut program = Command::new(env!("CARGO_BIN_EXE_natgw-replay"));
    let output = program.arg("log").arg(dir.path()).stdout(writer).output().unwrap();
    assert_eq!((status(&output), String::from_utf8(output.stderr).unwrap()), (0, String::new()));
}

/// The story on plain segments, and as an export of a journal that goes on.
fn elsewhere(story: &Story, plain: &Path, export: &Path) {
    let scratch = tempfile::tempdir().unwrap();
    let journal = story.write_open(scratch.path(), 1, 4);
    journal.view().export(&mut fs::File::create(export).unwrap()).unwrap();
    let id = JournalId([9; 16]);
    let mut journal = match natgw_journal::plain::open_dir(plain, id, &[]).unwrap() {
        natgw_journal::Opened::Fresh(journal) => journal,
        other => panic!("{other:?}"),
    };
    let entries = story.records.iter().map(|record| codec::encode(record).unwrap());
    journal.append(&entries.collect::<Vec<_>>()).unwrap();
}

#[test]
fn exports_and_plain_segments_are_read_like_any_journal() {
    let (root, story) = (tempfile::tempdir().unwrap(), Story::whole());
    let [dir, plain, export] = ["sled", "plain", "export.jsonl"].map(|name| root.path().join(name));
    let head = story.write(&dir, 1, 4).1;
    elsewhere(&story, &plain, &export);
    let log = text(&replay(&["log"], &[&dir]));
    for other in [&plain, &export] {
        assert_eq!(verify(&[other]), (0, vec![]));
        assert_eq!(text(&replay(&["log"], &[other])), log);
        assert_eq!(text(&replay(&["explain", "games/web-0"], &[other])), EXPLAINED);
    }
    // Several at once: the export of the first, the directory of its successor.
    let next = root.path().join("next");
    successor(&next, 2, 2, Some((JournalId([1; 16]), head)));
    assert_eq!(verify(&[&next, &export]), (0, vec![]));
    // The same journal twice, once exported, is refused.
    assert_eq!(status(&replay(&["log"], &[&dir, &export])), 2);

    // An export that lost its end, or a line, or a bit, is read as far as it goes, and the loss is named.
    let lines: Vec<String> = fs::read_to_string(&export).unwrap().lines().map(|line| format!("{line}\n")).collect();
    let flipped = lines[4].replace('A', "B");
    assert_ne!(flipped, lines[4]);
    let with = |index: usize, line: &str| {
        let mut lines = lines.clone();
        lines[index] = line.to_owned();
        lines.concat()
    };
    let damaged = [lines[..lines.len() - 2].concat(), with(3, ""), with(4, &flipped), with(lines.len() - 1, "")];
    for damaged in damaged {
        fs::write(&export, damaged).unwrap();
        let (code, findings) = verify(&[&export]);
        assert_eq!((code, findings.is_empty()), (1, false), "{findings:?}");
    }
    fs::write(&export, "no export\n").unwrap();
    assert_eq!(status(&replay(&["log"], &[&export])), 2);
}

#[test]
fn a_pruned_beginning_without_a_state_is_said_and_nothing_is_folded() {
    let (root, story) = (tempfile::tempdir().unwrap(), Story::whole());
    let [dir, export] = ["sled", "export.jsonl"].map(|name| root.path().join(name));
    let mut journal = story.write_open(&dir, 1, 1);
    for _ in 0..2 {
        let view = journal.view();
        let mut writer = view.begin_snapshot().unwrap();
        writer.push(b"the state".to_vec()).unwrap();
        writer.finish([0; 32]).unwrap();
        let again = codec::encode(&story.records[0]).unwrap();
        journal.append(&[again]).unwrap();
    }
    while journal.prune_step(2).unwrap() {}
    let last = story.records.len();
    assert_eq!(journal.first_seq().unwrap(), last as u64 + 1);
    journal.view().export(&mut fs::File::create(&export).unwrap()).unwrap();
    journal.close().unwrap();
    for journal in [&dir, &export] {
        let output = replay(&["log"], &[journal]);
        assert_eq!((status(&output), text(&output).lines().count()), (0, 3), "{}", text(&output));
        assert!(text(&output).contains(&format!("note: entries 1 to {last} were pruned")), "{}", text(&output));
        let (code, findings) = verify(&[journal]);
        assert_eq!((code, findings.len()), (1, 1), "{findings:?}");
        assert!(findings[0]["finding"].as_str().unwrap().contains("no snapshot gives the state"), "{findings:?}");
    }
    // A snapshot that rots is a finding, too, while another one stands for what was pruned.
    let name = format!("snapshot-{:016x}", last + 1);
    let mut bytes = fs::read(dir.join(&name)).unwrap();
    bytes[140] ^= 1;
    fs::write(dir.join(&name), bytes).unwrap();
    let output = replay(&["log"], &[&dir]);
    assert_eq!((status(&output), text(&output).contains("cannot be used")), (1, true), "{}", text(&output));
}

/// Takes a snapshot of what the records so far add up to; `forge` changes the state first.
fn snapshot(journal: &Journal, records: &[Record], forge: impl FnOnce(&mut Vec<Record>)) {
    let mut state = State::default();
    records.iter().for_each(|record| state.apply(record).unwrap());
    let mut stream: Vec<_> = state.snapshot().collect();
    forge(&mut stream);
    let view = journal.view();
    let mut writer = view.begin_snapshot().unwrap();
    stream.iter().for_each(|record| writer.push(codec::encode(record).unwrap()).unwrap());
    writer.finish(state.digest()).unwrap();
}

#[test]
fn a_pruned_journal_is_folded_from_its_snapshot_and_every_snapshot_is_compared() {
    let (root, story) = (tempfile::tempdir().unwrap(), Story::whole());
    let whole = root.path().join("whole");
    let digest_of = |path: &Path| {
        let output = replay(&["verify", "-o", "json"], &[path]);
        (status(&output), lines(&output).remove(0))
    };
    story.write(&whole, 1, 4);
    let (_, unpruned) = digest_of(&whole);
    for forged in [false, true] {
        let dir = root.path().join(format!("pruned-{forged}"));
        let export = root.path().join(format!("export-{forged}"));
        let (early, late) = (story.records.len() / 3, story.records.len() * 2 / 3);
        let bytes: Vec<_> = story.records.iter().map(|record| codec::encode(record).unwrap()).collect();
        let mut journal = story::begin(&dir, 1);
        journal.append(&bytes[..early]).unwrap();
        snapshot(&journal, &story.records[..early], |_| ());
        journal.append(&bytes[early..late]).unwrap();
        snapshot(&journal, &story.records[..late], |stream| {
            // What the digest does not say: nobody would notice but by comparing everything.
            let frame = stream.iter_mut().find_map(|record| match &mut record.event {
                Event::Kept(Kept::Frame(body)) => Some(body),
                _ => None,
            });
            frame.unwrap().term_seen += u64::from(forged);
        });
        journal.append(&bytes[late..]).unwrap();
        while journal.prune_step(2).unwrap() {}
        assert_eq!(journal.first_seq().unwrap(), early as u64 + 1);
        journal.view().export(&mut fs::File::create(&export).unwrap()).unwrap();
        journal.close().unwrap();
        for path in [&dir, &export] {
            let (code, report) = digest_of(path);
            assert_eq!((&report["folded_from"], &report["digest"]), (&early.into(), &unpruned["digest"]), "{report}");
            // An export carries the oldest snapshot alone.
            let compared = u64::from(path == &dir);
            assert_eq!((code, &report["snapshots_compared"]), (i32::from(forged && compared == 1), &compared.into()));
            let explained = replay(&["explain", "games/web-0"], &[path]);
            assert!(
                text(&explained).contains(&format!("note: entries 1 to {early} were pruned")),
                "{}",
                text(&explained)
            );
        }
    }
}

/// A journal of its own for a later term that goes on from that head.
fn successor(dir: &Path, id: u8, term: u64, predecessor: Option<(JournalId, Head)>) -> (JournalId, Head) {
    let mut story = Story::new();
    story.configure().start_term(term, predecessor).read_everything().pod("web-0", "uid-c", 7);
    story.write(dir, id, 4)
}

#[test]
fn journals_of_replicas_are_linked_and_gaps_are_named() {
    let root = tempfile::tempdir().unwrap();
    let [a, b, c, d] = ["a", "b", "c", "d"].map(|name| root.path().join(name));
    let first = Story::whole().write(&a, 1, 4);
    let second = successor(&b, 2, 2, Some(first));
    successor(&c, 3, 3, Some(second));
    successor(&d, 4, 2, Some((first.0, Head { hash: [9; 32], ..first.1 })));

    assert_eq!(verify(&[&b, &a]), (0, vec![]));
    let output = replay(&["verify"], &[&c, &a, &b]);
    assert_eq!(status(&output), 0, "{}", text(&output));
    assert_eq!(text(&output).matches("link: ").count(), 3);
    // One journal alone is not joined to anything: what was before is only noted.
    assert_eq!(verify(&[&c]), (0, vec![]));
    assert!(text(&replay(&["verify"], &[&c])).contains("note: term 3"));

    let (code, findings) = verify(&[&a, &c]);
    assert_eq!((code, findings.len()), (1, 1), "{findings:?}");
    assert!(findings[0]["finding"].as_str().unwrap().contains("was not given"));
    let (code, findings) = verify(&[&a, &d]);
    assert_eq!((code, findings.len()), (1, 1), "{findings:?}");
    assert!(findings[0]["finding"].as_str().unwrap().contains("does not hold"));
    let told = replay(&["explain", "games/web-0"], &[&a, &c]);
    assert_eq!((status(&told), text(&told).matches("== journal").count()), (1, 2));
    assert!(text(&told).contains("gap: term 3"), "{}", text(&told));
}
