//! The program: parses, runs, and turns the outcome into an exit status.

use std::io::{self, BufWriter, ErrorKind};
use std::process::ExitCode;

use clap::Parser as _;
use natgw_replay::report::Outcome;
use natgw_replay::{Cli, run};

fn main() -> ExitCode {
    let mut out = BufWriter::new(io::stdout().lock());
    match run(&Cli::parse(), &mut out) {
        Ok(Outcome::Clean) => ExitCode::SUCCESS,
        Ok(Outcome::Findings) => ExitCode::from(1),
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("natgw-replay: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// The reader had enough, as `head` does.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}
