//! What is left of a failure: a folder in which everything is that somebody needs to understand it.
//!
//! `story.txt` (what happened, in order), `history.jsonl` (every record that any replica folded), `ledger.jsonl` (the
//! cloud's requests and effects), `plan.txt`, and a journal for each replica that `natgw-replay` opens.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use natgw::machine::event::codec;
use natgw_journal::{Journal, JournalId, Opened};

use crate::run::End;

/// Writes everything down in a new folder.
pub fn write(dir: &Path, end: &End) -> io::Result<()> {
    if dir.join("plan.txt").exists() {
        fs::remove_dir_all(dir)?;
    } else if dir.exists() {
        return Err(io::Error::other("the folder exists and is not one of ours: name another"));
    }
    fs::create_dir_all(dir)?;
    let world = &end.world;
    fs::write(dir.join("plan.txt"), format!("{:#?}\n{:#?}\n", world.plan, end.violations))?;
    fs::write(dir.join("story.txt"), world.story.join("\n"))?;
    let mut history = io::BufWriter::new(fs::File::create(dir.join("history.jsonl"))?);
    for (replica, record) in &world.records {
        serde_json::to_writer(&mut history, &serde_json::json!({ "replica": replica, "record": record }))?;
        history.write_all(b"\n")?;
    }
    history.flush()?;
    let mut ledger = io::BufWriter::new(fs::File::create(dir.join("ledger.jsonl"))?);
    for line in &world.ledger {
        serde_json::to_writer(&mut ledger, line)?;
        ledger.write_all(b"\n")?;
    }
    ledger.flush()?;
    for (at, replica) in world.replicas.iter().enumerate() {
        let records = replica.volume.records();
        let Some(id) = replica.volume.id().filter(|_| !records.is_empty()) else { continue };
        let failed = |error: natgw_journal::Error| io::Error::other(error.to_string());
        let path = dir.join(format!("replica-{at}"));
        let Opened::Fresh(mut journal) = Journal::open(&path, JournalId(id), &[]).map_err(failed)? else {
            return Err(io::Error::other("the folder is not empty"));
        };
        for group in records.chunks(natgw_journal::GROUP_ENTRIES_MAX) {
            let group: Vec<_> =
                group.iter().map(|record| codec::encode(record).expect("it was encoded before")).collect();
            journal.append(&group).map_err(failed)?;
        }
        journal.close().map_err(failed)?;
    }
    Ok(())
}
