//! The command line.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand};
use natgw::sandbox::vpc::{Behaviour, FaultRate};
use natgw::sandbox::{http, live};
use secrecy::SecretString;

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
    Cloud(CloudArgs),
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

#[derive(Args, Debug)]
pub(crate) struct CloudArgs {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, value_name = "ADDR")]
    listen: SocketAddr,
    /// The one AccessKeyId that is known.
    #[arg(long, value_name = "K", default_value = "sandbox", requires = "secret")]
    access_key: String,
    /// Its secret.
    #[arg(long, value_name = "S", default_value = "sandbox-secret", hide_default_value = true)]
    secret: SecretString,
    /// DNAT entries that one forward table takes: the vendor's default quota.
    #[arg(long, value_name = "N", default_value_t = Behaviour::default().entry_quota)]
    entry_quota: u32,
    /// What goes wrong, and how often from 0 to 1, such as lost-reply=0.05. May be given several times.
    #[arg(long = "fault", value_name = "KIND=RATE", action = ArgAction::Append)]
    faults: Vec<FaultRate>,
    /// The seed of all chance.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Run the cloud's delays this many times as fast; signatures not.
    #[arg(long, value_name = "N", default_value = "1")]
    speed: NonZeroU32,
    /// A file to which one JSON line a request and one an effect is appended.
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
}

impl From<SandboxArgs> for live::Options {
    fn from(args: SandboxArgs) -> Self {
        let SandboxArgs { manifests, config, journal, cloud, entry_quota, speed, settle, output, verbose, announce } =
            args;
        Self { manifests, config, folder: journal, cloud, entry_quota, speed, settle, output, verbose, announce }
    }
}

impl From<CloudArgs> for http::Options {
    fn from(args: CloudArgs) -> Self {
        let CloudArgs { listen, access_key, secret, entry_quota, faults, seed, speed, ledger } = args;
        Self {
            listen,
            access_key,
            secret,
            behaviour: Behaviour { entry_quota, ..Behaviour::default() },
            faults: faults.into_iter().map(|FaultRate { kind, rate }| (kind, rate)).collect(),
            seed,
            speed: speed.get(),
            ledger,
            ..Self::default()
        }
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

    #[test]
    fn a_fault_without_a_rate_is_refused_with_the_kinds_there_are() {
        let refused = Cli::try_parse_from(["natgw", "cloud", "--listen", "127.0.0.1:0", "--fault", "lost-reply"]);
        let message = refused.unwrap_err().to_string();
        assert!(message.contains("KIND=RATE") && message.contains("throttling"), "{message}");
    }
}
