//! The sandbox: the whole controller — driver, step, executor, journal on disk, signed HTTP on loopback — against a
//! simulated cluster in this process and a simulated cloud beside it.
//!
//! `folder` keeps what an API server and a cloud would keep; `kept` is the cluster behind its port, which answers
//! nothing that is not in its file; `watch` shows what changes in it; `follow` reads the manifests again and again;
//! `cloud` serves the simulated VPC on a thread of its own; `tell` says what happens and `show` prints the mappings;
//! `real` is the same on a real cluster.
//!
//! The cluster's and the cloud's files survive the end of the process at any moment, but not the loss of power: nothing
//! of them is synced. The journal survives both.

mod cloud;
mod folder;
mod follow;
mod kept;
mod plan;
mod real;
mod show;
mod tell;
mod watch;

use std::io;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use natgw_journal::JournalId;

use crate::cloud::credentials::{AccessKey, CredentialError, StaticKey};
use crate::cloud::endpoints::{EndpointError, Endpoints, Environment};
use crate::cloud::rpc::BuildError;
use crate::cloud::{self as aliyun, AliyunCloud};
use crate::config::{self, Configuration, Pool};
use crate::controller::step::Identity;
use crate::driver::clock::{self, Clock};
use crate::driver::history::{self, Earlier, History};
use crate::driver::phase::Phase;
use crate::driver::{self, Driver, Observer as _, Start, entropy};
use crate::sandbox::cluster::ManifestError;
use crate::sandbox::http;
use crate::sandbox::vpc::World;

use self::folder::Folder;
use self::follow::Manifests;
use self::kept::KeptCluster;
pub use self::plan::{PlanError, PlanOptions, plan};
pub use self::show::Format;
use self::tell::Teller;
use self::watch::SimulatedWatch;

/// Total time of a listing: the simulated cloud is near, and a real one answers a page within seconds.
const READING_TIMEOUT: Duration = Duration::from_secs(10);

/// The simulated account's only key (design.md §7, `natgw cloud`).
const ACCESS_KEY: (&str, &str) = ("sandbox", "sandbox-secret");

/// What the sandbox is asked to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// Manifests to follow; none for the documented sample.
    pub manifests: Vec<PathBuf>,
    /// A configuration file; none for the whole simulated account.
    pub config: Option<PathBuf>,
    /// A real cluster, by its kubeconfig; none to simulate one here.
    pub kubeconfig: Option<PathBuf>,
    /// The folder that keeps everything; none for a new temporary one.
    pub folder: Option<PathBuf>,
    /// The address of a cloud; none to simulate one here.
    pub cloud: Option<String>,
    /// Entries that one forward table of the simulated cloud takes; none for the vendor's 100.
    pub entry_quota: Option<u32>,
    /// How many times as fast as the clock machine time, the cluster and the cloud run.
    pub speed: NonZeroU32,
    /// Stop when nothing is left to do.
    pub settle: bool,
    /// How mappings are printed.
    pub output: Format,
    /// Tell every record, not only decisions and outcomes.
    pub verbose: bool,
    /// Say each phase before it goes on, for tests.
    pub announce: bool,
}

/// Why the sandbox could not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration cannot be used.
    #[error("NATGW-CONFIG: nothing was started, because the configuration cannot be used")]
    Config(#[source] config::Error),
    /// Manifests cannot be taken.
    #[error("NATGW-MANIFEST: {}; nothing was started", join(.0))]
    Manifests(Vec<ManifestError>),
    /// A manifest cannot be read.
    #[error("NATGW-MANIFEST: nothing was started, because a manifest cannot be read")]
    Follow(#[from] follow::Error),
    /// The folder cannot be used.
    #[error(transparent)]
    Folder(#[from] folder::Error),
    /// The journal cannot be opened.
    #[error(transparent)]
    History(#[from] history::Error),
    /// The credentials cannot be used.
    #[error("NATGW-CREDENTIALS: the credentials cannot be used")]
    Credentials(#[from] CredentialError),
    /// The address of the cloud cannot be used.
    #[error("NATGW-CLOUD-ADDRESS: the address of the cloud cannot be used")]
    Endpoint(#[from] EndpointError),
    /// There is no HTTP client.
    #[error("NATGW-CLOUD-CLIENT: there is no HTTP client")]
    Client(#[from] BuildError),
    /// The simulated cloud did not start, or ended.
    #[error("NATGW-CLOUD-SIMULATED: the simulated cloud did not start, or ended")]
    Cloud(#[source] Box<http::Error>),
    /// A thread could not be started.
    #[error("NATGW-CLOUD-SIMULATED: the simulated cloud could not be given a thread")]
    Thread(#[source] io::Error),
    /// The real cluster cannot be used.
    #[error(transparent)]
    Cluster(Box<crate::run::Error>),
    /// The real cluster is somebody else's.
    #[error(
        "NATGW-SANDBOX-FOREIGN: {0} is not this sandbox's, so another natgw or the original controller may be at work, and \
         nothing was started; name the folder that made it, or another cluster"
    )]
    Foreign(String),
    /// The controller ended.
    #[error(transparent)]
    Driver(#[from] driver::Error),
    /// What happens cannot be told.
    #[error("NATGW-OUTPUT: the output cannot be written, so the sandbox ended")]
    Output(#[source] io::Error),
}

impl From<crate::run::Error> for Error {
    fn from(error: crate::run::Error) -> Self {
        Self::Cluster(Box::new(error))
    }
}

/// Runs the sandbox until `asked` ends, or until it has settled where that was asked for.
///
/// # Errors
/// See [`Error`]. After [`Error::Driver`] the process has to end at once.
pub async fn run(options: Options, asked: impl Future<Output = ()>) -> Result<(), Error> {
    match options.kubeconfig.clone() {
        Some(kubeconfig) => Box::pin(real::run(options, &kubeconfig, asked)).await,
        None => Box::pin(simulated(options, asked)).await,
    }
}

async fn simulated(options: Options, asked: impl Future<Output = ()>) -> Result<(), Error> {
    let clock = Clock::start();
    let configuration = options.config.as_deref().map(load).transpose()?;
    let folder = Folder::open(options.folder.as_deref())?;
    if options.folder.is_none() {
        tell::line(format_args!("everything is kept in {}", folder.path().display())).map_err(Error::Output)?;
    }
    let cluster = KeptCluster::open(&folder, clock, options.speed)?;
    let mut manifests = Manifests::new(options.manifests.clone());
    let documents = manifests.read()?;
    cluster.apply(&documents).map_err(Error::Manifests)?;
    let mut teller = Teller::new(&options, cluster.clone());

    teller.phase(Phase::Open);
    let earlier = Earlier { lease: cluster.lease(), claims: cluster.claims() };
    let history = history::open(&folder.journal(), JournalId(entropy::fresh().into_bytes()), &earlier)?;
    if let Some(reason) = &history.rebased {
        tracing::warn!("history is not continuous: {reason}");
    }
    teller.phase(Phase::Replayed);

    let served = match &options.cloud {
        Some(_) => None,
        None => Some(cloud::start(&folder, &options, configuration.as_ref())?),
    };
    let address = served.as_ref().map_or_else(|| options.cloud.clone().unwrap_or_default(), cloud::Served::url);
    let effective = configuration.clone().unwrap_or_else(of_the_account);
    let start = start(history, &effective, &cluster.uid(), clock, options.speed);
    let cloud = client(&address, configuration.as_ref(), &start, served.is_none())?;
    let watch = SimulatedWatch::new(cluster.clone(), manifests, served);
    let failure = teller.failure();
    let ran = Driver::new(&cluster, &cloud, watch, teller, start)?.run(asked).await;
    match failure.take() {
        Some(error) => Err(Error::Output(error)),
        None => Ok(ran?),
    }
}

fn load(path: &std::path::Path) -> Result<Configuration, Error> {
    let (configuration, warnings) = config::load(path).map_err(Error::Config)?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    Ok(configuration)
}

/// Every EIP of every gateway of the simulated account, with the documented ports.
fn of_the_account() -> Configuration {
    let World { region, vpc, gateways, .. } = World::default();
    let pools = gateways.into_iter().map(|gateway| Pool::documented(gateway.id, gateway.zone));
    Configuration::of_defaults(region, vpc, pools.collect())
}

fn start(history: History, configuration: &Configuration, uid: &str, clock: Clock, speed: NonZeroU32) -> Start {
    let identity = Identity {
        holder: format!("natgw-sandbox_{}", entropy::fresh()),
        journal: history.journal.id().0,
        rebased: history.rebased.clone(),
        timing: configuration.leader_election.timing(),
        speed: speed.get(),
        keeping: Some(configuration.journal.policy()),
    };
    Start { identity, history, configuration: configuration.for_step(uid), clock }
}

/// The client of the cloud. The key is the configuration's, else of a cloud outside the environment's, else the
/// simulated account's.
fn client(
    address: &str,
    configuration: Option<&Configuration>,
    start: &Start,
    outside: bool,
) -> Result<AliyunCloud, Error> {
    let world = World::default();
    let (region, vpc) = configuration
        .map_or((world.region, world.vpc), |configuration| (configuration.region.clone(), configuration.vpc.clone()));
    let configured = configuration.and_then(|configuration| configuration.credential.clone());
    let key = match configured {
        Some(key) => key,
        None => match Environment::read().access_key()? {
            Some(key) if outside => key,
            Some(_) | None => AccessKey::new(ACCESS_KEY.0.to_owned(), ACCESS_KEY.1.to_owned().into(), None)?,
        },
    };
    let settings = aliyun::Settings {
        region,
        vpc,
        endpoints: Endpoints::at(address)?,
        mutating_timeout: Duration::from_millis(start.identity.timing.call_timeout_ms()),
        reading_timeout: READING_TIMEOUT,
    };
    Ok(AliyunCloud::new(settings, Arc::new(StaticKey::new(key)), Arc::new(clock::wall))?)
}

fn join(errors: &[ManifestError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n  ")
}
