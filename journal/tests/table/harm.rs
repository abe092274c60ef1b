//! What disks and operators do to files.

use std::fs;
use std::path::{Path, PathBuf};

use super::sample::Sample;
use super::support::{Draw, restore};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Harm {
    TailCut,
    SectorsZeroed,
    BitFlipped,
    PageZeroed,
    SledSnapshotEmptied,
    DatabaseMissing,
    OlderImage,
    OthersFiles,
    AnchorMissing,
    AnchorOlder,
}

impl Harm {
    pub(super) const ALL: [Self; 10] = [
        Self::TailCut,
        Self::SectorsZeroed,
        Self::BitFlipped,
        Self::PageZeroed,
        Self::SledSnapshotEmptied,
        Self::DatabaseMissing,
        Self::OlderImage,
        Self::OthersFiles,
        Self::AnchorMissing,
        Self::AnchorOlder,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::TailCut => "tail cut",
            Self::SectorsZeroed => "sectors zeroed",
            Self::BitFlipped => "one bit flipped",
            Self::PageZeroed => "4 KiB page zeroed",
            Self::SledSnapshotEmptied => "sled snapshot emptied",
            Self::DatabaseMissing => "database missing",
            Self::OlderImage => "older image restored",
            Self::OthersFiles => "another journal's files",
            Self::AnchorMissing => "anchor missing",
            Self::AnchorOlder => "anchor older",
        }
    }

    /// Writes the sample to `dir`, does the harm, and says what exactly was done.
    pub(super) fn do_to(self, dir: &Path, sample: &Sample, other: &Sample, draw: &mut Draw) -> String {
        restore(dir, &sample.files);
        match self {
            Self::TailCut => cut_tail(dir, sample, draw),
            Self::SectorsZeroed => {
                let count = 1 + draw.index(16);
                zero(dir, sample, draw, 512, count)
            }
            Self::PageZeroed => zero(dir, sample, draw, 4096, 1),
            Self::BitFlipped => flip(dir, sample, draw),
            Self::SledSnapshotEmptied => {
                let live = |name: &&PathBuf| name.starts_with("sled") && is_sled_snapshot(name);
                let emptied: Vec<_> = sample.files.keys().filter(live).collect();
                assert!(!emptied.is_empty(), "sled made no snapshot");
                emptied.iter().for_each(|name| fs::write(dir.join(name), []).unwrap());
                format!("{emptied:?} emptied")
            }
            Self::DatabaseMissing => {
                if draw.below(2) == 0 {
                    fs::remove_dir_all(dir.join("sled")).unwrap();
                    return "all of sled's files are gone".into();
                }
                fs::remove_file(dir.join("sled/db")).unwrap();
                "sled's log is gone".into()
            }
            Self::OlderImage => {
                restore(dir, &sample.older);
                if draw.below(2) == 0 {
                    return "data and anchor are older".into();
                }
                fs::write(dir.join("anchor"), &sample.files[Path::new("anchor")]).unwrap();
                "the data are older".into()
            }
            Self::OthersFiles => {
                restore(dir, &other.files);
                if draw.below(2) == 0 {
                    fs::write(dir.join("anchor"), &sample.files[Path::new("anchor")]).unwrap();
                    return "another's data".into();
                }
                restore(dir, &sample.files);
                fs::write(dir.join("anchor"), &other.files[Path::new("anchor")]).unwrap();
                "another's anchor".into()
            }
            Self::AnchorMissing => {
                fs::remove_file(dir.join("anchor")).unwrap();
                "the anchor is gone".into()
            }
            Self::AnchorOlder => {
                let (groups, anchor) = &sample.anchors[draw.index(sample.anchors.len())];
                fs::write(dir.join("anchor"), anchor).unwrap();
                format!("the anchor is {groups} groups older")
            }
        }
    }
}

fn is_sled_snapshot(name: &Path) -> bool {
    name.file_name().is_some_and(|name| name.to_string_lossy().starts_with("snap."))
}

/// Mostly the log, which holds nearly everything; sometimes any other file.
fn victim<'a>(sample: &'a Sample, draw: &mut Draw) -> (&'a PathBuf, &'a Vec<u8>) {
    let log = Path::new("sled/db");
    let counts = |name: &Path| name != log && !name.starts_with("sled.before-open");
    let others: Vec<_> = sample.files.iter().filter(|(name, bytes)| counts(name) && !bytes.is_empty()).collect();
    if draw.below(5) == 0 { others[draw.index(others.len())] } else { sample.files.get_key_value(log).unwrap() }
}

/// How many bytes there are before the zeros at the end: sled's log is longer than what it holds.
fn used(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}

fn cut_tail(dir: &Path, sample: &Sample, draw: &mut Draw) -> String {
    let (name, bytes) = victim(sample, draw);
    let reach = [4 << 10, 64 << 10][draw.index(2)];
    let cut = 1 + draw.index(reach.min(bytes.len()));
    // From the end of the file, or from the end of what is in it.
    let end = if draw.below(2) == 0 { bytes.len() } else { used(bytes) };
    let length = end.saturating_sub(cut);
    fs::write(dir.join(name), &bytes[..length]).unwrap();
    format!("{} cut from {end} to {length} bytes", name.display())
}

fn zero(dir: &Path, sample: &Sample, draw: &mut Draw, size: usize, count: usize) -> String {
    let (name, bytes) = victim(sample, draw);
    let mut bytes = bytes.clone();
    let place = draw.index(used(&bytes).div_ceil(size)) * size;
    let end = (place + size * count).min(bytes.len());
    bytes[place..end].fill(0);
    fs::write(dir.join(name), bytes).unwrap();
    format!("{} zeroed from {place} to {end}", name.display())
}

fn flip(dir: &Path, sample: &Sample, draw: &mut Draw) -> String {
    let (name, bytes) = victim(sample, draw);
    let mut bytes = bytes.clone();
    let (place, bit) = (draw.index(used(&bytes)), draw.below(8));
    bytes[place] ^= 1 << bit;
    fs::write(dir.join(name), bytes).unwrap();
    format!("bit {bit} of byte {place} of {} flipped", name.display())
}
