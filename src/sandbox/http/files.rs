//! The ledger file and the file that keeps the model.
//!
//! The model is saved together with the lines of the ledger that go with it, first, in one rename: if the process ends
//! before those lines reach the ledger, the next start appends them. So neither file ever tells less than the other.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, ErrorKind, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Error;
use crate::sandbox::vpc::{LedgerLine, Vpc};

/// Both files, as far as they were asked for.
pub(super) struct Files {
    ledger: Option<Ledger>,
    state: Option<PathBuf>,
}

struct Ledger {
    path: PathBuf,
    file: File,
    bytes: u64,
}

/// What the state file holds.
#[derive(Serialize, Deserialize)]
struct Saved<V> {
    vpc: V,
    /// How long the ledger was before the lines below.
    ledger_bytes: u64,
    /// The lines that go with this state.
    lines: String,
}

/// One line of the ledger file.
#[derive(Serialize)]
struct Dated<'l> {
    wall: String,
    #[serde(flatten)]
    line: &'l LedgerLine,
}

/// Whether a line tells of a change, so that the model has to be saved.
pub(super) const fn is_effect(line: &LedgerLine) -> bool {
    match line {
        LedgerLine::Effect(_) => true,
        LedgerLine::Request(_) => false,
    }
}

impl Files {
    /// Opens what was asked for, and gives back the model that was saved, if any.
    pub(super) fn open(ledger: Option<PathBuf>, state: Option<PathBuf>) -> Result<(Self, Option<Vpc>), Error> {
        let saved = state.as_deref().map(load).transpose()?.flatten();
        let mut ledger = ledger.map(Ledger::open).transpose()?;
        if let (Some(ledger), Some(saved)) = (&mut ledger, &saved) {
            ledger.catch_up(saved)?;
        }
        Ok((Self { ledger, state }, saved.map(|saved| saved.vpc)))
    }

    /// Writes lines, and the model where one is given. When it returns, both are with the operating system.
    pub(super) fn write(&mut self, wall_ms: u64, lines: &[LedgerLine], vpc: Option<&Vpc>) -> Result<(), Error> {
        let lines = match &self.ledger {
            Some(ledger) => {
                encode(wall_ms, lines).map_err(|source| Error::Encode { path: ledger.path.clone(), source })?
            }
            None => String::new(),
        };
        if let (Some(path), Some(vpc)) = (&self.state, vpc) {
            let ledger_bytes = self.ledger.as_ref().map_or(0, |ledger| ledger.bytes);
            save(path, &Saved { vpc, ledger_bytes, lines: lines.clone() })?;
        }
        match &mut self.ledger {
            Some(ledger) => ledger.append(&lines),
            None => Ok(()),
        }
    }
}

impl Ledger {
    /// Opens or begins a ledger. A last line without its end was cut off by the end of a process, and goes.
    fn open(path: PathBuf) -> Result<Self, Error> {
        let opened = OpenOptions::new().read(true).append(true).create(true).open(&path);
        let whole = opened.and_then(|file| {
            let bytes = whole_lines(&file)?;
            file.set_len(bytes)?;
            Ok((file, bytes))
        });
        let (file, bytes) = whole.map_err(|source| Error::File { path: path.clone(), source })?;
        Ok(Self { path, file, bytes })
    }

    /// Appends the lines that were saved with the model, where the ledger ends before them.
    fn catch_up(&mut self, saved: &Saved<Vpc>) -> Result<(), Error> {
        let lines = saved.lines.len() as u64;
        let through = saved.ledger_bytes.saturating_add(lines);
        if self.bytes >= through || self.bytes < saved.ledger_bytes {
            return Ok(());
        }
        let cut = self.file.set_len(saved.ledger_bytes);
        cut.map_err(|source| Error::File { path: self.path.clone(), source })?;
        self.bytes = saved.ledger_bytes;
        self.append(&saved.lines)
    }

    fn append(&mut self, lines: &str) -> Result<(), Error> {
        let written = self.file.write_all(lines.as_bytes());
        written.map_err(|source| Error::File { path: self.path.clone(), source })?;
        self.bytes = self.bytes.saturating_add(lines.len() as u64);
        Ok(())
    }
}

/// How many bytes the lines take that have an end.
fn whole_lines(mut file: &File) -> io::Result<u64> {
    file.seek(SeekFrom::Start(0))?;
    let mut reader = BufReader::new(file);
    let (mut bytes, mut line) = (0_u64, Vec::new());
    loop {
        line.clear();
        let read = reader.read_until(b'\n', &mut line)?;
        if read == 0 || line.last() != Some(&b'\n') {
            return Ok(bytes);
        }
        bytes = bytes.saturating_add(read as u64);
    }
}

fn encode(wall_ms: u64, lines: &[LedgerLine]) -> Result<String, serde_json::Error> {
    let wall_ms = i64::try_from(wall_ms).unwrap_or(i64::MAX);
    let wall = jiff::Timestamp::from_millisecond(wall_ms).unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_string();
    let mut text = String::new();
    for line in lines {
        text.push_str(&serde_json::to_string(&Dated { wall: wall.clone(), line })?);
        text.push('\n');
    }
    Ok(text)
}

fn load(path: &Path) -> Result<Option<Saved<Vpc>>, Error> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(Error::File { path: path.to_owned(), source }),
    };
    let saved = serde_json::from_slice(&text);
    saved.map(Some).map_err(|source| Error::Decode { path: path.to_owned(), source })
}

fn save(path: &Path, saved: &Saved<&Vpc>) -> Result<(), Error> {
    let text = serde_json::to_vec(saved).map_err(|source| Error::Encode { path: path.to_owned(), source })?;
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    let written = std::fs::write(&beside, text).and_then(|()| std::fs::rename(&beside, path));
    written.map_err(|source| Error::File { path: path.to_owned(), source })
}
