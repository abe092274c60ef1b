//! natgw-replay: answers questions from the journals of natgw, offline.
//!
//! Everything is read from a private copy of a journal ([`natgw_journal::read_copy`]) or from an export of one
//! ([`natgw_journal::read_export`]): what is given is never written, and a journal that a controller has open is refused. What is answered follows from the records alone;
//! no cluster and no cloud is asked, and nothing is decided anew.
//!
//! * [`log`] tells every record in words.
//! * [`verify`] folds the whole history again and checks everything that can be checked.
//! * [`explain`] tells what happened to one pod.
//! * [`fixture`] folds a file of records, for tests that compare digests.
//!
//! A journal that is not whole is read as far as it goes, and the first missing entry is named: a shorter history never
//! passes for a whole one. Where the beginning was pruned, that is
//! said, and folding begins with the snapshot that stands for it ([`base`]). Several journals (of replicas) are ordered by term and each is read alone; [`history`] tells
//! how they hang together. No answer crosses a gap.

pub mod base;
pub mod explain;
pub mod fixture;
pub mod history;
pub mod log;
pub mod report;
pub mod verify;

use std::io::Write;
use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::explain::PodName;
use crate::history::History;
use crate::report::{Format, Outcome};

/// Read natgw journals offline.
///
/// JOURNAL is a journal's directory, a sandbox folder that holds one in `journal`, or an export. It is never written.
/// Exit status: 0 all is well, 1 something was found, 2 could not run.
#[derive(Clone, Debug, Parser)]
#[command(name = "natgw-replay", version, about)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Tell every record in words, in order.
    Log(Input),
    /// Fold the whole history again and check it: chain, decoding, legality, invariants, digests, agenda.
    Verify(Input),
    /// Tell every record that touched one pod, in order.
    Explain {
        /// The pod, as NAMESPACE/NAME.
        #[arg(value_name = "NAMESPACE/POD")]
        pod: PodName,
        /// What to read and how to print it.
        #[command(flatten)]
        input: Input,
    },
}

/// What to read and how to print it.
#[derive(Clone, Debug, clap::Args)]
pub struct Input {
    /// Text for people, or JSON for scripts (one object a line).
    #[arg(short, long, value_enum, default_value_t = Format::Text)]
    pub output: Format,
    /// Directories of journals, and exports.
    #[arg(required = true, value_name = "JOURNAL")]
    pub journals: Vec<PathBuf>,
}

/// Carries out a command and writes the answer.
///
/// # Errors
/// Fails when a directory holds no journal, when a file is no export, when a journal is in use or cannot be copied, when
/// one is given twice, or when the answer cannot be written. Damage is no failure but [`Outcome::Findings`].
pub fn run(cli: &Cli, out: &mut impl Write) -> Result<Outcome> {
    let outcome = match &cli.command {
        Command::Log(input) => log::log(&History::open(&input.journals)?, input.output, out),
        Command::Verify(input) => verify::verify(&History::open(&input.journals)?, input.output, out),
        Command::Explain { pod, input } => {
            explain::explain(&History::open(&input.journals)?, &pod.0, input.output, out)
        }
    }?;
    out.flush()?;
    Ok(outcome)
}
