//! The command line.

mod cloud;

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::{Args, Parser, Subcommand};
use natgw::plan::{Plan, show};
use natgw::run;
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
    /// Run the controller against a cluster and its cloud.
    ///
    /// Replicas elect a leader by a Lease; the others watch along and take over. SIGTERM ends it gracefully, and the lease
    /// is given back last.
    Run(RunArgs),
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
    /// Tell what a leader would change now, and why. Nothing is changed.
    ///
    /// Reads the cluster and the cloud as a new leader does, decides as it would, and carries out nothing. The plan of a
    /// real cluster is that of a leader without its journal; of a sandbox that is not running, with it. Ends with 1 where
    /// something could not be read.
    Plan(PlanArgs),
    /// Print the CustomResourceDefinition of the PodDNAT as YAML.
    Crd,
}

#[derive(Args, Debug)]
pub(crate) struct RunArgs {
    /// The configuration.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// How to reach the cluster; without it as the ServiceAccount of the pod that this runs in.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// The journal's directory; without it the one that the configuration names.
    #[arg(long, value_name = "DIR")]
    journal: Option<PathBuf>,
    /// Where metrics, health and the state are served.
    #[arg(long, value_name = "ADDR")]
    admin: Option<SocketAddr>,
}

impl From<RunArgs> for run::Options {
    fn from(args: RunArgs) -> Self {
        let RunArgs { config, kubeconfig, journal, admin } = args;
        Self { config, kubeconfig, journal, admin }
    }
}

#[derive(Args, Debug)]
pub(crate) struct PlanArgs {
    /// The configuration; of a sandbox that has none, every gateway of the simulated account.
    #[arg(long, value_name = "FILE", required_unless_present = "sandbox")]
    config: Option<PathBuf>,
    /// How to reach the cluster; without it as the ServiceAccount of the pod that this runs in.
    #[arg(long, value_name = "FILE", conflicts_with = "sandbox")]
    kubeconfig: Option<PathBuf>,
    /// The folder of a sandbox (its --journal), instead of a real cluster.
    #[arg(long, value_name = "DIR")]
    sandbox: Option<PathBuf>,
    /// The address of the cloud that the sandbox works with; without it the simulated one in its folder.
    #[arg(long, value_name = "URL", requires = "sandbox")]
    cloud: Option<String>,
    /// How the plan is printed.
    #[arg(short, long, value_enum, default_value_t)]
    output: show::Format,
}

impl PlanArgs {
    /// The plan, and how it is to be printed.
    pub(crate) async fn make(self) -> Result<(Plan, show::Format)> {
        let plan = match (self.sandbox, self.config) {
            (Some(folder), config) => {
                Box::pin(live::plan(live::PlanOptions { folder, config, cloud: self.cloud })).await?
            }
            (None, Some(config)) => run::plan(&config, self.kubeconfig.as_deref()).await?,
            (None, None) => bail!("NATGW-CONFIG: there is no plan without a configuration; give --config"),
        };
        Ok((plan, self.output))
    }
}

#[derive(Args, Debug)]
pub(crate) struct SandboxArgs {
    /// Manifests of Deployments, StatefulSets and Pods to apply and to follow for changes.
    #[arg(value_name = "MANIFEST")]
    manifests: Vec<PathBuf>,
    /// The controller's configuration; without it all gateways of the simulated cloud, ports 512 to 1024.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A real cluster instead of a simulated one: only the cloud is simulated. It has to be nobody else's, and manifests are
    /// applied to it as usual, with kubectl.
    #[arg(long, value_name = "FILE", conflicts_with = "manifests")]
    kubeconfig: Option<PathBuf>,
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
        let SandboxArgs { manifests, config, kubeconfig, journal, cloud, entry_quota, speed, .. } = args;
        let SandboxArgs { settle, output, verbose, announce, .. } = args;
        let folder = journal;
        Self { manifests, config, kubeconfig, folder, cloud, entry_quota, speed, settle, output, verbose, announce }
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
