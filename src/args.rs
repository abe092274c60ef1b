//! The command line.

mod cloud;

use std::num::NonZeroU32;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use natgw::sandbox::live;

use self::cloud::CloudArgs;

/// Pod DNAT for Alibaba Cloud NAT gateways: every decision durable, replayable and explainable.
#[derive(Debug, Parser)]
#[command(name = "natgw", version)]
pub(crate) struct Cli {
    /// Log more of what the adapters do.
    #[arg(long, global = true)]
    pub(crate) debug: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the whole controller against a simulated cluster and a simulated cloud.
    ///
    /// The journal is real and so is the signed HTTP, on loopback. Without MANIFEST the documented sample is applied.
    /// Manifests are followed: edit them, and see what the controller does. What happens is told on the standard error
    /// output; whenever nothing is left to do the mappings are printed. Ctrl-C ends it.
    Sandbox(SandboxArgs),
    /// Serve only the simulated cloud API, for SDKs and tests: VPC and ECS at one address.
    ///
    /// One VPC 172.16.0.0/12 in cn-hangzhou with zones j and k; each has a vSwitch, a route table and a NAT gateway with
    /// three EIPs. Prints the address that it listens on. Ctrl-C ends it.
    #[command(after_long_help = cloud::explained())]
    Cloud(Box<CloudArgs>),
}

#[derive(Args, Debug)]
pub(crate) struct SandboxArgs {
    /// Manifests of Deployments, StatefulSets and Pods to apply and to follow for changes.
    #[arg(value_name = "MANIFEST")]
    manifests: Vec<PathBuf>,
    /// The controller's configuration; without it all gateways of the simulated cloud, ports 512 to 1024.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The folder that keeps journal, cluster and cloud from one start to the next; without it a new temporary one, which
    /// stays.
    #[arg(long, value_name = "DIR")]
    journal: Option<PathBuf>,
    /// The address of a cloud that runs already, such as `natgw cloud`; without it one is simulated here.
    #[arg(long, value_name = "URL")]
    cloud: Option<String>,
    /// DNAT entries that one forward table of the simulated cloud takes [default: 100].
    #[arg(long, value_name = "N", conflicts_with = "cloud")]
    entry_quota: Option<u32>,
    /// Run machine time, cluster and cloud this many times as fast; lease, time-outs and signatures not.
    #[arg(long, value_name = "N", default_value = "1")]
    speed: NonZeroU32,
    /// End when no effect is under way or due and each pod is ready, refused or waiting for room.
    #[arg(long)]
    settle: bool,
    /// How the mappings are printed.
    #[arg(short, long, value_enum, default_value_t)]
    output: live::Format,
    /// Tell every record of the journal, not only decisions and outcomes.
    #[arg(short, long)]
    verbose: bool,
    /// For tests: say each phase on the standard error output (`phase NAME`) before it goes on: open, replayed, leading,
    /// append, appended, effect-start KIND, effect-ended KIND, list WHAT, list-ended WHAT, settled.
    #[arg(long)]
    announce: bool,
}

impl From<SandboxArgs> for live::Options {
    fn from(args: SandboxArgs) -> Self {
        let SandboxArgs { manifests, config, journal, cloud, entry_quota, speed, settle, output, verbose, announce } =
            args;
        Self { manifests, config, folder: journal, cloud, entry_quota, speed, settle, output, verbose, announce }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_holds_together() {
        Cli::command().debug_assert();
    }
}
