//! Every decoder on bytes that nobody wrote: mutations of what is written, most with their checksums made right again, so
//! that what lies behind the checksum is reached. None panics, none takes memory out of proportion to what it is given.
//!
//! The corpus holds inputs that once did; they come first. Longer: `NATGW_LONG=true cargo test -p natgw-journal --lib`.

use std::fs;
use std::io::Cursor;
use std::path::Path;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::disk::{Directory, Disk as _};
use crate::files::ANCHOR;
use crate::frame::{Frame, encode_genesis, encode_group, outline};
use crate::plain::Segments;
use crate::snapshot::{self, SnapshotEntries};
use crate::{Journal, JournalId, Opened, Store as _, anchor, export, plain, read_export};

const ID: JournalId = JournalId([7; 16]);
/// What a decoder may take beside a multiple of its input: buffers of one frame, one group, one piece of a file.
const MEMORY_BESIDE: u64 = 4 << 20;
const MEMORY_A_BYTE: u64 = 64;

/// Lines of decoder and input, in hexadecimal digits.
const CORPUS: &str = include_str!("tests/corpus.txt");

#[expect(clippy::disallowed_methods, reason = "how a test is told what to do, and how long it may take")]
fn deadline() -> impl Fn() -> bool {
    let seconds = match (std::env::var("NATGW_LONG").is_ok(), std::env::var("CI").is_ok()) {
        (true, _) => 600,
        (false, true) => 5,
        (false, false) => 1,
    };
    let end = Instant::now() + Duration::from_secs(seconds);
    move || Instant::now() < end
}

/// Numbers that look random and repeat (splitmix64).
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn index(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}

/// Changes some bytes, cuts, repeats or splices.
fn mutate(bytes: &[u8], draw: &mut Draw) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..=draw.index(3) {
        let place = draw.index(bytes.len());
        match draw.index(8) {
            0 => bytes.truncate(place),
            1 => bytes.extend_from_within(place..),
            2 => drop(bytes.drain(place..(place + draw.index(64)).min(bytes.len()))),
            3 => bytes.iter_mut().skip(place).take(4).for_each(|byte| *byte = 0xff),
            4 => bytes.iter_mut().skip(place).take(8).for_each(|byte| *byte = 0),
            _ => bytes.iter_mut().skip(place).take(1).for_each(|byte| *byte = draw.next() as u8),
        }
    }
    bytes
}

/// Runs a decoder on its corpus and then on mutations of `seeds` until the time is over; each run may take memory only in
/// proportion. Gives how many inputs there were and how many were taken for good.
fn fuzz(
    name: &str,
    seeds: &[Vec<u8>],
    repair: impl Fn(&mut Vec<u8>, &mut Draw),
    decode: impl Fn(&[u8]) -> bool,
) -> (u64, u64) {
    let (mut inputs, mut good) = (0, 0);
    let mut run = |input: &[u8]| {
        let mut taken = false;
        let memory = allocation_counter::measure(|| taken = decode(input)).bytes_max;
        let allowed = MEMORY_BESIDE + MEMORY_A_BYTE * input.len() as u64;
        if memory > allowed {
            let hex: String = input.iter().take(8 << 10).map(|byte| format!("{byte:02x}")).collect();
            panic!("{name} took {memory} bytes for {} bytes: {hex}", input.len());
        }
        inputs += 1;
        good += u64::from(taken);
    };
    let corpus = CORPUS.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    for hex in corpus {
        let digits = hex.as_bytes().chunks(2).map(|pair| str::from_utf8(pair).unwrap());
        run(&digits.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect::<Vec<u8>>());
    }
    seeds.iter().for_each(|seed| run(seed));
    let (time_left, mut draw) = (deadline(), Draw(5));
    while time_left() {
        let mut input = mutate(&seeds[draw.index(seeds.len())], &mut draw);
        repair(&mut input, &mut draw);
        run(&input);
    }
    println!("{name}: {inputs} inputs, {good} taken for good");
    assert!(good >= seeds.len() as u64 && inputs > good, "{inputs} inputs, {good} good");
    (inputs, good)
}

fn group(entries: usize) -> Vec<Vec<u8>> {
    (0..entries).map(|n| vec![n as u8; 1 + n * 37 % 900]).collect()
}

/// The frames of a small journal, by number.
fn frames() -> Vec<Vec<u8>> {
    let (genesis, tip) = encode_genesis(ID);
    let encoded = encode_group(&tip, &group(30)).unwrap();
    std::iter::once(genesis).chain(encoded.frames.into_iter().map(|(_, bytes)| bytes)).collect()
}

/// Makes length, hash and checksum of a frame right for its number, which is its last byte here.
fn repair_frame(bytes: &mut [u8], number: u64) {
    let length = bytes.len();
    if length < 100 {
        return;
    }
    let payload = (length - 100) as u32;
    bytes[28..32].copy_from_slice(&payload.to_le_bytes());
    let mut hasher = blake3::Hasher::new();
    hasher.update(&number.to_be_bytes()).update(&bytes[..64]).update(&bytes[96..length - 4]);
    bytes[64..96].copy_from_slice(hasher.finalize().as_bytes());
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&number.to_be_bytes()), &bytes[..length - 4]);
    bytes[length - 4..].copy_from_slice(&checksum.to_le_bytes());
}

#[test]
fn no_bytes_upset_the_frame_decoder() {
    // The first byte is the number that the frame is stored under.
    let seeds: Vec<Vec<u8>> = (0..).zip(frames()).map(|(number, bytes)| [vec![number], bytes].concat()).collect();
    let decode = |input: &[u8]| {
        let Some((number, bytes)) = input.split_first() else { return false };
        let number = u64::from(*number);
        let sketched = outline(number, bytes).is_some();
        match Frame::decode(number, bytes) {
            Ok(frame) => {
                assert!(sketched, "what decodes has an outline");
                let entries: Vec<&[u8]> = frame.entries().collect();
                assert_eq!(entries.len() as u64, u64::from(frame.count));
                assert!(entries.iter().map(|entry| entry.len()).sum::<usize>() < bytes.len());
                true
            }
            Err(_) => false,
        }
    };
    let repair = |input: &mut Vec<u8>, draw: &mut Draw| {
        if let Some((number, bytes)) = input.split_first_mut().filter(|_| draw.index(8) > 0) {
            repair_frame(bytes, u64::from(*number));
        }
    };
    let (inputs, good) = fuzz("frame", &seeds, repair, decode);
    assert!(inputs < 1_000 || good > inputs / 100, "{good} of {inputs} got past the checks");
}

/// Makes the checksums of 512-byte slots or other blocks right again.
fn repair_block(bytes: &mut [u8], start: usize, length: usize) {
    if let Some(block) = bytes.get_mut(start..start + length) {
        let checksum = crc32c::crc32c(&block[..length - 4]);
        block[length - 4..].copy_from_slice(&checksum.to_le_bytes());
    }
}

#[test]
fn no_bytes_upset_the_anchor_decoder() {
    let root = tempfile::tempdir().unwrap();
    let mut journal = begin(root.path());
    let mut seeds = vec![fs::read(root.path().join(ANCHOR)).unwrap()];
    for n in 1..4 {
        journal.append(&group(n)).unwrap();
        seeds.push(fs::read(root.path().join(ANCHOR)).unwrap());
    }
    let scratch = tempfile::tempdir().unwrap();
    let disk = Directory::open(scratch.path()).unwrap();
    let decode = |input: &[u8]| {
        write_all(&disk, ANCHOR, input);
        matches!(anchor::read(&disk).unwrap(), anchor::Found::Present(_))
    };
    let repair = |input: &mut Vec<u8>, draw: &mut Draw| {
        if draw.index(4) > 0 {
            repair_block(input, 0, 512);
            repair_block(input, 4096, 512);
        }
    };
    fuzz("anchor", &seeds, repair, decode);
}

fn begin(dir: &Path) -> Journal<Segments<std::sync::Arc<Directory>>, std::sync::Arc<Directory>> {
    match plain::open_dir(dir, ID, &[]).unwrap() {
        Opened::Fresh(journal) => journal,
        other => panic!("{other:?}"),
    }
}

fn write_all(disk: &Directory, name: &str, bytes: &[u8]) {
    disk.create(name).unwrap();
    disk.write_at(name, 0, bytes).unwrap();
}

#[test]
fn no_bytes_upset_the_snapshot_reader() {
    let root = tempfile::tempdir().unwrap();
    let mut journal = begin(root.path());
    journal.append(&group(3)).unwrap();
    let view = journal.view();
    let mut writer = view.begin_snapshot().unwrap();
    group(40).into_iter().for_each(|entry| writer.push(entry).unwrap());
    let through = writer.finish([3; 32]).unwrap().through.seq;
    let name = snapshot::name_of(through);
    let seeds = [fs::read(root.path().join(&name)).unwrap()];
    let scratch = tempfile::tempdir().unwrap();
    let disk = Directory::open(scratch.path()).unwrap();
    let decode = |input: &[u8]| {
        write_all(&disk, &name, input);
        let Ok(found) = snapshot::examine(&disk, through, ID).unwrap() else { return false };
        let read: Result<Vec<_>, _> = SnapshotEntries::new(&disk, found).collect();
        read.is_ok_and(|entries| entries.len() as u64 == found.entries)
    };
    let repair = |input: &mut Vec<u8>, draw: &mut Draw| {
        if draw.index(4) > 0 {
            repair_block(input, 0, 128);
            let end = input.len().saturating_sub(96);
            repair_block(input, end, 96);
        }
    };
    fuzz("snapshot", &seeds, repair, decode);
}

#[test]
fn no_bytes_upset_the_segment_reader() {
    let root = tempfile::tempdir().unwrap();
    let mut journal = begin(root.path());
    journal.append(&group(20)).unwrap();
    journal.append(&group(2)).unwrap();
    let name = "segment-0000000000000000";
    let seeds = [fs::read(root.path().join(name)).unwrap()];
    let scratch = tempfile::tempdir().unwrap();
    let disk = Directory::open(scratch.path()).unwrap();
    let decode = |input: &[u8]| {
        write_all(&disk, name, input);
        let store = Segments::open(&disk).unwrap();
        let read = store.scan(0).filter(Result::is_ok).count();
        assert!(read <= input.len() / 100, "{read} frames");
        read > 0
    };
    fuzz("segment", &seeds, |_, _| (), decode);
}

#[test]
fn no_bytes_upset_the_export_reader() {
    let root = tempfile::tempdir().unwrap();
    let mut journal = begin(&root.path().join("journal"));
    journal.append(&group(20)).unwrap();
    let mut whole = Vec::new();
    journal.view().export(&mut whole).unwrap();
    for n in 0..2 {
        let view = journal.view();
        let mut writer = view.begin_snapshot().unwrap();
        group(9 + n).into_iter().for_each(|entry| writer.push(entry).unwrap());
        writer.finish([3; 32]).unwrap();
        journal.append(&group(2)).unwrap();
    }
    let mut based = Vec::new();
    let view = journal.view();
    let tip = crate::frame::Tip { first: 2, ..crate::reader::tip(&view_store(&root)).unwrap().unwrap() };
    let base = view.snapshots().first().copied();
    let disk = Directory::open_to_read(&root.path().join("journal"));
    // Written as if the first frame had been pruned.
    if let (Ok(disk), Some(base)) = (disk, base) {
        drop(export::write(&view_store(&root), ID, &tip, Some(&base), &disk, &mut based));
    }
    let seeds = [whole, based].into_iter().filter(|seed| !seed.is_empty()).collect::<Vec<_>>();
    let decode = |input: &[u8]| {
        let scratch = tempfile::tempdir().unwrap();
        let disk = Directory::open(scratch.path()).unwrap();
        export::import(Cursor::new(input), &disk).is_ok()
    };
    // Bytes inside the base64 of a line, and the frame's own checks made right: what is compared with the line is reached.
    let repair = |input: &mut Vec<u8>, draw: &mut Draw| {
        let lines: Vec<&[u8]> = input.split_inclusive(|byte| *byte == b'\n').collect();
        let place = draw.index(lines.len());
        let Some(text) = lines.get(place).and_then(|line| str::from_utf8(line).ok()) else { return };
        let Some((before, rest)) = text.split_once("\"bytes\":\"") else { return };
        let Some((encoded, after)) = rest.split_once('"') else { return };
        let Ok(mut bytes) = STANDARD.decode(encoded) else { return };
        if let Some(byte) = bytes.get_mut(draw.index(90)) {
            *byte = draw.next() as u8;
        }
        repair_frame(&mut bytes, place as u64);
        let line = format!("{before}\"bytes\":\"{}\"{after}", STANDARD.encode(&bytes));
        let mut changed = lines.clone();
        changed[place] = line.as_bytes();
        *input = changed.concat();
    };
    fuzz("export", &seeds, repair, decode);
    // Through the whole reader: a verdict or an error, whatever the bytes.
    let (mut draw, file) = (Draw(9), root.path().join("export"));
    for _ in 0..200 {
        fs::write(&file, mutate(&seeds[0], &mut draw)).unwrap();
        if let Ok(copy) = read_export(&file) {
            let read = copy.entries(copy.first_seq()).filter(Result::is_ok).count();
            assert!(read <= 20, "{read} entries, {}", copy.verdict());
        }
    }
    // A line without end is not taken in.
    fs::write(&file, vec![b'{'; 64 << 20]).unwrap();
    let memory = allocation_counter::measure(|| drop(read_export(&file).unwrap_err())).bytes_max;
    assert!(memory < 1 << 20, "{memory} bytes");
}

fn view_store(root: &tempfile::TempDir) -> Segments<Directory> {
    let scratch = root.path().join("copy");
    fs::create_dir_all(&scratch).unwrap();
    for file in fs::read_dir(root.path().join("journal")).unwrap().map(Result::unwrap) {
        fs::copy(file.path(), scratch.join(file.file_name())).unwrap();
    }
    Segments::open(Directory::open_to_read(&scratch).unwrap()).unwrap()
}
