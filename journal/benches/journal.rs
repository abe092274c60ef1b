//! What a journal costs, each figure beside its yardstick in the same run (design.md §9): [append], [read], and how
//! opening time, memory and bytes on the disk grow.
//!
//! `cargo bench -p natgw-journal --bench journal` measures; after `-- append`, `read` or `open` only that part; with
//! `--test` it only shows that it could; with `--long` journals of ten million entries are opened, too.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a bench that cannot measure fails by panicking"
)]
#![expect(clippy::disallowed_methods, reason = "a bench reads the clock")]

use std::fs::File;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use natgw_journal::plain;
use natgw_journal::{Disk, Journal, JournalId, Opened, Store};
use rustix::fs::{Advice, fadvise};

/// An event as the controller writes most: `reliability.md` §6 measured with as many.
const ENTRY_BYTES: usize = 43;
const ID: JournalId = JournalId([1; 16]);

struct Size {
    /// Appends an arm, for groups of one and of 1,024.
    appends: [usize; 2],
    read: u64,
    rounds: usize,
    opened: &'static [u64],
}

const MEASURED: Size = Size { appends: [2_000, 300], read: 1_000_000, rounds: 5, opened: &[100_000, 1_000_000] };
const LONG: Size = Size { opened: &[100_000, 1_000_000, 10_000_000], ..MEASURED };
const SHOWN: Size = Size { appends: [20, 3], read: 5_000, rounds: 1, opened: &[5_000] };

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let ["open", dir] = arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        return open_and_tell(Path::new(dir));
    }
    let has = |word: &str| arguments.iter().any(|argument| argument == word);
    let size = if has("--test") {
        SHOWN
    } else if has("--long") {
        LONG
    } else {
        MEASURED
    };
    let parts = ["append", "read", "open"];
    let all = !parts.into_iter().any(has);
    let mut figures = Vec::new();
    if all || has("append") {
        figures.extend([append(1, size.appends[0]), append(1_024, size.appends[1])]);
    }
    if all || has("read") {
        figures.push(read(&size));
    }
    if all || has("open") {
        figures.extend(size.opened.iter().flat_map(|entries| opened(*entries)));
    }
    println!();
    figures.iter().for_each(|figure| println!("{figure}"));
}

fn figure(name: &str, value: f64, unit: &str, yardstick: Option<f64>, reach: Option<(String, bool)>) -> String {
    let yardstick = yardstick.map_or_else(|| "-".to_owned(), |value| format!("{value:.3}"));
    let (bound, met) = reach.unwrap_or_else(|| ("-".to_owned(), true));
    format!("figure {name} {value:.3} {unit} yardstick {yardstick} reach {bound} {}", if met { "ok" } else { "short" })
}

fn entry(seq: u64) -> Vec<u8> {
    let mut bytes = seq.to_le_bytes().repeat(ENTRY_BYTES.div_ceil(8));
    bytes.truncate(ENTRY_BYTES);
    bytes[ENTRY_BYTES - 1] |= 1;
    bytes
}

fn journal<S: Store, D: Disk>(opened: Opened<S, D>) -> Journal<S, D> {
    match opened {
        Opened::Fresh(journal) | Opened::Continued(journal) => journal,
        Opened::Damaged { verdict, .. } => panic!("{verdict}"),
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn percentile(times: &[Duration], hundredths: usize) -> Duration {
    let mut times = times.to_vec();
    times.sort_unstable();
    times[(times.len() * hundredths / 100).min(times.len() - 1)]
}

/// Durable appends on sled and on plain segments, which have the same chain and the same anchor; one after the other, in
/// turn, so that both meet the same disk.
fn append(group: u64, appends: usize) -> String {
    let [on_sled, on_plain] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let mut sled = journal(Journal::open(on_sled.path(), ID, &[]).unwrap());
    let mut plain = journal(plain::open_dir(on_plain.path(), ID, &[]).unwrap());
    let (mut of_sled, mut of_plain) = (Vec::new(), Vec::new());
    for n in 0..appends as u64 {
        let entries: Vec<Vec<u8>> = (n * group..(n + 1) * group).map(entry).collect();
        of_sled.push(timed(|| assert!(sled.append(&entries).is_ok())));
        of_plain.push(timed(|| assert!(plain.append(&entries).is_ok())));
    }
    for (name, times) in [("sled", &of_sled), ("plain", &of_plain)] {
        println!(
            "append of {group} on {name}: p50 {:?} p99 {:?}, {} bytes an entry on the disk",
            percentile(times, 50),
            percentile(times, 99),
            bytes_of(if name == "sled" { on_sled.path() } else { on_plain.path() }) / (appends as u64 * group)
        );
    }
    let rate = |times: Vec<Duration>| group as f64 / median(times).as_secs_f64();
    let (sled, plain) = (rate(of_sled), rate(of_plain));
    let reach = ("0.4x".to_owned(), sled >= plain * 0.4);
    figure(&format!("append.{group}"), sled, "entries/s", Some(plain), Some(reach))
}

fn timed(work: impl FnOnce()) -> Duration {
    let began = Instant::now();
    work();
    began.elapsed()
}

/// Opening a cleanly closed journal that the page cache does not hold, and checking every entry; beside checking the
/// same frames in memory.
fn read(size: &Size) -> String {
    let root = tempfile::tempdir().unwrap();
    fill(root.path(), size.read);
    let frames = frames_of(root.path());
    let (mut opening, mut cold, mut in_memory) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..size.rounds {
        forget_pages(root.path());
        let began = Instant::now();
        let opened = journal(Journal::open(root.path(), ID, &[]).unwrap());
        opening.push(began.elapsed());
        let mut read = 0;
        opened.entries(1).for_each_entry(|seq, bytes| read += u64::from(black_box((seq, bytes)).0 > 0)).unwrap();
        cold.push(began.elapsed());
        assert_eq!(read, size.read);
        opened.close().unwrap();
        in_memory.push(timed(|| assert_eq!(verify(&frames), size.read)));
    }
    let rate = |times: &Vec<Duration>| size.read as f64 / median(times.clone()).as_secs_f64();
    println!(
        "open, scan and verify {} entries: {:?} of {:?} cold from sled; {:?} in memory",
        size.read,
        median(opening.clone()),
        median(cold.clone()),
        median(in_memory.clone())
    );
    let reach = ("0.6x".to_owned(), rate(&cold) >= rate(&in_memory) * 0.6);
    figure("read", rate(&cold), "entries/s", Some(rate(&in_memory)), Some(reach))
}

/// Appends so many entries in groups of 1,024 and closes.
fn fill(dir: &Path, entries: u64) {
    let mut journal = journal(Journal::open(dir, ID, &[]).unwrap());
    let mut next = 0;
    while next < entries {
        let end = (next + 1_024).min(entries);
        journal.append(&(next..end).map(entry).collect::<Vec<_>>()).unwrap();
        next = end;
    }
    journal.close().unwrap();
}

/// All frames of the journal as they are stored, from a copy of sled's log.
fn frames_of(dir: &Path) -> Vec<(u64, Vec<u8>)> {
    let scratch = tempfile::tempdir().unwrap();
    let copy = scratch.path().join("sled");
    std::fs::create_dir(&copy).unwrap();
    std::fs::copy(dir.join("sled/db"), copy.join("db")).unwrap();
    std::fs::copy(dir.join("sled/conf"), copy.join("conf")).unwrap();
    let db = sled::Config::new().path(&copy).flush_every_ms(None).open().unwrap();
    let number = |key: sled::IVec| u64::from_be_bytes(key.as_ref().try_into().unwrap());
    db.iter().map(|stored| stored.map(|(key, value)| (number(key), value.to_vec())).unwrap()).collect()
}

/// The least that checking takes: checksum, hash and chain of each frame, and every entry looked at.
fn verify(frames: &[(u64, Vec<u8>)]) -> u64 {
    let (mut entries, mut chain) = (0, None);
    for (number, bytes) in frames {
        let (body, checksum) = bytes.split_last_chunk::<4>().unwrap();
        let crc = crc32c::crc32c_append(crc32c::crc32c(&number.to_be_bytes()), body);
        assert_eq!(crc, u32::from_le_bytes(*checksum));
        let (header, payload) = body.split_at(96);
        let mut hasher = blake3::Hasher::new();
        hasher.update(&number.to_be_bytes()).update(&header[..64]).update(payload);
        assert_eq!(hasher.finalize().as_bytes(), &header[64..96]);
        assert!(chain.is_none_or(|chain: Vec<u8>| chain == header[32..64]));
        chain = Some(header[64..96].to_vec());
        let mut rest = if *number == 0 { &[] } else { payload };
        while let Some((length, after)) = rest.split_first_chunk::<4>() {
            let (entry, after) = after.split_at(u32::from_le_bytes(*length) as usize);
            black_box(entry);
            entries += 1;
            rest = after;
        }
    }
    entries
}

/// Opening time after a clean and after an unclean stop, memory, and bytes on the disk, each in a process of its own.
fn opened(entries: u64) -> Vec<String> {
    let root = tempfile::tempdir().unwrap();
    fill(root.path(), entries);
    let bytes = bytes_of(root.path());
    let clean = open_elsewhere(root.path());
    // The process before did not close.
    let unclean = open_elsewhere(root.path());
    println!(
        "{entries} entries: {} bytes an entry on the disk; opened after a clean stop in {:.3} s and after an unclean one \
         in {:.3} s; read in {:.3} s, {:.1} MiB of memory at the most",
        bytes / entries,
        clean[0],
        unclean[0],
        clean[1],
        clean[2]
    );
    vec![
        figure(&format!("open.{entries}.clean"), clean[0], "s", None, None),
        figure(&format!("open.{entries}.unclean"), unclean[0], "s", None, None),
        figure(&format!("open.{entries}.memory"), clean[2], "MiB", None, None),
        figure(&format!("disk.{entries}"), bytes as f64 / entries as f64, "bytes/entry", None, None),
    ]
}

fn open_elsewhere(dir: &Path) -> [f64; 3] {
    forget_pages(dir);
    let output = Command::new(std::env::current_exe().unwrap()).arg("open").arg(dir).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let told: Vec<f64> = text.split_whitespace().map(|word| word.parse().unwrap()).collect();
    told.try_into().unwrap()
}

/// The process that opens: tells seconds for the opening, seconds for reading all, and the most memory it took.
fn open_and_tell(dir: &Path) {
    let began = Instant::now();
    let opened = journal(Journal::open(dir, ID, &[]).unwrap());
    let opening = began.elapsed();
    let reading = timed(|| opened.entries(1).for_each_entry(|_, bytes| assert!(!black_box(bytes).is_empty())).unwrap());
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kib: f64 = peak.trim().trim_end_matches(" kB").trim().parse().unwrap();
    println!("{} {} {}", opening.as_secs_f64(), reading.as_secs_f64(), kib / 1024.0);
    // No clean stop: the next process meets an unclean one.
    std::process::exit(0);
}

fn files_of(dir: &Path) -> Vec<PathBuf> {
    let (mut files, mut open) = (Vec::new(), vec![dir.to_path_buf()]);
    while let Some(next) = open.pop() {
        for file in std::fs::read_dir(next).unwrap().map(Result::unwrap) {
            if file.file_type().unwrap().is_dir() { open.push(file.path()) } else { files.push(file.path()) }
        }
    }
    files
}

fn bytes_of(dir: &Path) -> u64 {
    files_of(dir).iter().map(|file| file.metadata().unwrap().len()).sum()
}

/// Makes the kernel drop what it has of the files in memory.
fn forget_pages(dir: &Path) {
    for path in files_of(dir) {
        let file = File::open(path).unwrap();
        file.sync_all().unwrap();
        fadvise(&file, 0, None, Advice::DontNeed).unwrap();
    }
}
