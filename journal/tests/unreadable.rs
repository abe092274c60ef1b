//! A disk that does not give back a file, in every place where an opening reads: a verdict, and the journal can be set
//! aside; never an error that each further start would meet again. What the machine refuses for other reasons stays an
//! error, and the journal is as it was.
//!
//! On sled the refusals are those of the system: strace injects them into the calls of a child, which is this test binary
//! again, running `opens_once`. On plain files they are those of a disk in memory.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, its helpers too")]

mod disk;
mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::rc::Rc;

use disk::MemoryDisk;
use natgw_journal::{Head, Journal, JournalId, Opened, Verdict, plain, set_aside};
use rustix::io::Errno;
use support::{at_once, image, variable};

const ID: JournalId = JournalId([3; 16]);
/// Names the child's journal directory; without it the child's test does nothing.
const CHILD_DIR: &str = "NATGW_JOURNAL_UNREADABLE_DIR";
/// The hash that the Lease would know.
const CHILD_HEAD: &str = "NATGW_JOURNAL_UNREADABLE_HEAD";
/// What reads a file's bytes.
const READ: &str = "read,pread64,copy_file_range,sendfile";
/// What writes the bytes of a copy.
const COPY: &str = "write,copy_file_range,sendfile";

/// Where the refusal is, of which calls, with which answer of the system, and what an opening makes of it.
type Case = (&'static str, &'static str, &'static str, &'static str);

const CASES: [Case; 19] = [
    // Without the log there is nothing; what sled derives from it is derived again.
    ("sled/db", READ, "EIO", "Unreadable { lost 1 to 40 }"),
    ("sled/db", "openat", "EIO", "Unreadable { lost 1 to 40 }"),
    ("sled/db", "statx", "EIO", "Unreadable { lost 1 to 40 }"),
    ("sled", "getdents64", "EIO", "Unreadable { lost 1 to 40 }"),
    ("sled/conf", READ, "EIO", "continued 40"),
    ("anchor", "pread64", "EIO", "AnchorDamaged"),
    ("anchor", "openat", "EIO", "AnchorDamaged"),
    ("", "getdents64", "EIO", "Unreadable { lost 1 to 40 }"),
    // The other snapshot stands for what it stood for.
    ("snapshot-0000000000000014", "pread64", "EIO", "continued 40"),
    // Nothing of this is about what is stored.
    ("sled.opening/db", COPY, "ENOSPC", "error"),
    ("sled.opening/db", COPY, "EDQUOT", "error"),
    ("sled.opening/db", COPY, "EIO", "error"),
    ("sled.opening/db", "openat", "EROFS", "error"),
    ("sled/db", "openat", "EMFILE", "error"),
    ("sled/db", "openat", "EACCES", "error"),
    ("sled/db", "statx", "EACCES", "error"),
    ("anchor", "openat", "EMFILE", "error"),
    ("anchor", "openat", "EACCES", "error"),
    ("snapshot-0000000000000014", "openat", "EMFILE", "error"),
];

fn open(dir: &Path, external: &[(JournalId, Head)]) -> String {
    match Journal::open(dir, JournalId([9; 16]), external) {
        Ok(opened) => outcome(&opened),
        Err(error) => format!("error {error}"),
    }
}

fn outcome<S: natgw_journal::Store, D: natgw_journal::Disk>(opened: &Opened<S, D>) -> String {
    match opened {
        Opened::Fresh(_) => "fresh".into(),
        Opened::Continued(journal) => format!("continued {}", journal.head().seq),
        Opened::Damaged { verdict: Verdict::Unreadable { lost: Some((from, to)), .. }, .. } => {
            format!("Unreadable {{ lost {from} to {to} }}")
        }
        Opened::Damaged { verdict, .. } => format!("{verdict:?}"),
    }
}

/// The child: what the controller does with the head that the Lease knows.
#[test]
fn opens_once() {
    let Some(dir) = variable(CHILD_DIR) else { return };
    let dir = Path::new(&dir);
    let hash = variable(CHILD_HEAD).unwrap();
    let hash: Vec<u8> = hash.split(' ').map(|byte| byte.parse().unwrap()).collect();
    let opened = open(dir, &[(ID, Head { seq: 40, hash: hash.try_into().unwrap() })]);
    println!("\noutcome {opened}");
    if ["Unreadable", "AnchorDamaged"].iter().any(|verdict| opened.starts_with(verdict)) {
        println!("aside {}", set_aside(dir).unwrap().display());
    }
}

/// Forty entries in four groups with a snapshot after the second and the third, sled's own snapshot, stopped cleanly or not.
fn journal(dir: &Path, clean: bool) -> Head {
    let mut head = None;
    for round in 0..2 {
        let opened = Journal::open(dir, ID, &[]).unwrap();
        let (Opened::Fresh(mut journal) | Opened::Continued(mut journal)) = opened else { panic!("it is whole") };
        for n in 0..2_u8 {
            journal.append(&vec![vec![round * 2 + n; 300]; 10]).unwrap();
            if n != round {
                let view = journal.view();
                view.begin_snapshot().unwrap().finish([1; 32]).unwrap();
            }
        }
        head = Some(journal.head());
        if clean || round == 0 {
            journal.close().unwrap();
        }
    }
    head.unwrap()
}

/// Opens in a child to whose calls the system answers so.
fn opened_with((name, calls, errno, _): Case, clean: bool, dir: &Path, head: Head) -> String {
    let hash = head.hash.map(|byte| byte.to_string()).join(" ");
    let path = if name.is_empty() { dir.to_path_buf() } else { dir.join(name) };
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-o", "/dev/null", "-P"]).arg(&path).args(["-e", &format!("trace={calls}")]);
    // What was derived anew is given back: before it the file is read for the fingerprint, and to see what failed.
    let when = if name == "sled/conf" { format!(":when=1..{}", 1 + u8::from(clean)) } else { String::new() };
    strace.args(["-e", &format!("inject={calls}:error={errno}{when}")]).arg(std::env::current_exe().unwrap());
    strace.args(["--exact", "opens_once", "--nocapture", "--test-threads=1"]).env(CHILD_DIR, dir).env(CHILD_HEAD, hash);
    let output = strace.output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}{err}");
    out.lines().find_map(|line| line.strip_prefix("outcome ")).unwrap_or_else(|| panic!("{out}{err}")).to_owned()
}

#[test]
fn what_the_disk_does_not_give_back_is_a_verdict_and_a_full_disk_is_none() {
    if Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_err() {
        assert!(variable("CI").is_none(), "strace is missing, and in CI it must be there");
        eprintln!("SKIPPED: strace is not installed, so no refusal of the system was tried on sled");
        return;
    }
    let room = tempfile::tempdir().unwrap();
    let root = room.path().canonicalize().unwrap();
    // One after the other: a process being started has, for a moment, the locks of the one that starts it.
    let prepare = |(n, (case, clean))| {
        let dir: PathBuf = root.join(format!("{n}")).join("journal");
        let head = journal(&dir, clean);
        (case, clean, image(&dir), head, dir)
    };
    let cases = CASES.into_iter().flat_map(|case| [(case, false), (case, true)]);
    let prepared: Vec<_> = cases.enumerate().map(prepare).collect();
    let opened = at_once(prepared, |(case, clean, before, head, dir)| {
        (case, clean, before, opened_with(case, clean, &dir, head), dir)
    });
    for ((name, calls, errno, expected), clean, before, opened, dir) in opened {
        let what = format!("{errno} of {calls} at {name}, clean: {clean}: {opened}");
        // What was cleanly closed is opened in place, so that no copy is refused.
        let copies = !clean || !name.starts_with("sled.opening");
        assert!(opened.starts_with(if copies { expected } else { "continued 40" }), "{what}");
        if opened.starts_with("error") {
            assert!(image(&dir) == before, "{what}");
            assert_eq!(open(&dir, &[]), "continued 40", "{what}");
        } else if !opened.starts_with("continued") {
            assert!(image(&dir.with_file_name("journal.set-aside-1")) == before, "{what}");
            assert_eq!(open(&dir, &[]), "fresh", "{what}");
        }
    }
}

fn open_plain(disk: &Rc<MemoryDisk>) -> Opened<plain::Segments<Rc<MemoryDisk>>, Rc<MemoryDisk>> {
    plain::open(Rc::clone(disk), ID, &[(ID, Head { seq: 7, hash: [0; 32] })]).unwrap()
}

#[test]
fn on_plain_files_too() {
    let disk = Rc::new(MemoryDisk::default());
    let Opened::Fresh(mut journal) = plain::open(Rc::clone(&disk), ID, &[]).unwrap() else { panic!("nothing there") };
    journal.append(&[vec![1], vec![2]]).unwrap();
    let view = journal.view();
    view.begin_snapshot().unwrap().finish([1; 32]).unwrap();
    drop((view, journal));
    for (name, expected) in [
        ("segment-", "Unreadable { lost 1 to 7 }"),
        ("anchor", "AnchorDamaged"),
        ("snapshot-", "HistoryLost { from: 3"),
    ] {
        disk.unread.set(Some((name, Errno::IO)));
        let opened = outcome(&open_plain(&disk));
        assert!(opened.starts_with(expected), "{name}: {opened}");
        for errno in [Errno::NOSPC, Errno::MFILE, Errno::ACCESS] {
            disk.unread.set(Some((name, errno)));
            let refused = plain::open(Rc::clone(&disk), ID, &[]);
            assert!(refused.is_err(), "{name}, {errno}: {refused:?}");
        }
    }
    disk.unread.set(None);
    let Opened::Continued(journal) = plain::open(Rc::clone(&disk), ID, &[]).unwrap() else { panic!("it is whole") };
    assert_eq!(journal.head().seq, 2);
}
