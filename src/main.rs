//! natgw: parse, build, run; an error becomes an exit code.

mod args;

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Parser as _;
use natgw::cluster::crd;
use natgw::plan::show;
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
            Command::Run(args) => Box::pin(natgw::run::run(args.into(), asked)).await?,
            Command::Sandbox(args) => Box::pin(live::run(args.into(), asked)).await?,
            Command::Cloud(args) => {
                http::serve((*args).try_into()?, |address| println!("listening on http://{address}"), asked).await?;
            }
            Command::Plan(args) => {
                let (plan, format) = Box::pin(args.make()).await?;
                print(&show::render(&plan, format))?;
                anyhow::ensure!(plan.unread.is_empty(), "NATGW-PLAN-INCOMPLETE: not everything could be read");
            }
            Command::Crd => print(&crd::yaml()?)?,
        }
        Ok(())
    })
}

/// Writes to the standard output; an output that was closed early is no reason to panic.
fn print(text: &str) -> Result<()> {
    std::io::stdout().lock().write_all(text.as_bytes()).context("the output cannot be written")
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
