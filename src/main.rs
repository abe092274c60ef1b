//! natgw: parse, build, run; an error becomes an exit code.

mod args;

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Parser as _;
use natgw::sandbox::{http, live};
use tokio::signal::unix::{SignalKind, signal};
use tracing::Level;

use crate::args::{Cli, Command};

/// The exit code of everything that ended with an error. Wrong arguments end with 2, as usual.
const FAILED: u8 = 1;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let level = if cli.debug { Level::DEBUG } else { Level::INFO };
    tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr).with_target(false).init();
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // One line: the consequence, then its causes.
            eprintln!("natgw: {error:#}");
            ExitCode::from(FAILED)
        }
    }
}

fn run(command: Command) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("no runtime can be built")?;
    runtime.block_on(async {
        let asked = asked_to_end()?;
        match command {
            Command::Sandbox(args) => Box::pin(live::run(args.into(), asked)).await?,
            Command::Cloud(args) => {
                http::serve((*args).try_into()?, |address| println!("listening on http://{address}"), asked).await?;
            }
        }
        Ok(())
    })
}

/// Ends with SIGINT or SIGTERM.
fn asked_to_end() -> Result<impl Future<Output = ()> + Send + 'static> {
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be listened for")?;
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be listened for")?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}
