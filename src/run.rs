//! `natgw run`: the controller as it is installed. It puts the rooms together and decides nothing.
//!
//! In this order: configuration, API server, definition of the PodDNAT, what earlier leaders left, journal, cloud, and
//! then the loop. A replica that does not lead watches along, so that it can take over at once. SIGTERM ends the loop:
//! what is under way is dropped, the journal closed, and the lease given back last.

mod observe;
mod plan;
mod watch;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use natgw_journal::JournalId;

use crate::admin::{self, Published, Server};
use crate::cloud::credentials::{ADDON_TOKEN, CredentialError, choose};
use crate::cloud::endpoints::{EndpointError, Endpoints, Environment};
use crate::cloud::meter::Calls;
use crate::cloud::rpc::BuildError;
use crate::cloud::{self as aliyun, AliyunCloud};
use crate::cluster::api::{ConnectError, Fence, Timeouts};
use crate::cluster::client::{self, ExamineError, KubeCluster};
use crate::config::{self, Configuration};
use crate::controller::step::Identity;
use crate::driver::clock::{self, Clock};
use crate::driver::history::{self, Earlier, History};
use crate::driver::{self, Driver, Start, entropy};
use crate::metrics::{self, Sources, Watched, Woken};
use crate::ports::cluster::{Cluster as _, ClusterError, Lease as _};

use self::observe::Log;
pub(crate) use self::observe::is_told;
pub use self::plan::{PlanError, plan};

/// Total time of a listing's page: of the API server a page of 500 pods takes less than a second, of the cloud a page
/// of 50 entries, too.
const READING_TIMEOUT: Duration = Duration::from_secs(30);

/// What the controller is started with.
#[derive(Clone, Debug)]
pub struct Options {
    /// The configuration file.
    pub config: PathBuf,
    /// A kubeconfig; none for the ServiceAccount of the pod.
    pub kubeconfig: Option<PathBuf>,
    /// The journal's directory; none for the one that the configuration names.
    pub journal: Option<PathBuf>,
    /// Where the admin server listens; none for nowhere.
    pub admin: Option<SocketAddr>,
}

/// Why the controller could not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration cannot be used.
    #[error("NATGW-CONFIG: nothing was started, because the configuration cannot be used")]
    Config(#[source] config::Error),
    /// Nobody says where the journal is.
    #[error(
        "NATGW-JOURNAL-PATH: nothing was started, because nobody says where the journal is; give --journal or set \
         journal.path"
    )]
    JournalPath,
    /// The admin server does not listen.
    #[error(transparent)]
    Admin(#[from] admin::Error),
    /// There is no client of the API server.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The API server does not say what has to be known before anything is started.
    #[error(
        "NATGW-CLUSTER: nothing was started, because the cluster cannot be read; check the API server and the roles"
    )]
    Cluster(#[from] ClusterError),
    /// The served definition of the PodDNAT cannot be used.
    #[error(transparent)]
    Definition(#[from] ExamineError),
    /// The journal cannot be opened.
    #[error(transparent)]
    History(#[from] history::Error),
    /// There are no credentials.
    #[error("NATGW-CREDENTIALS: the credentials cannot be used")]
    Credentials(#[from] CredentialError),
    /// An address of the cloud cannot be used.
    #[error("NATGW-CLOUD-ADDRESS: the address of the cloud cannot be used")]
    Endpoint(#[from] EndpointError),
    /// There is no HTTP client.
    #[error("NATGW-CLOUD-CLIENT: there is no HTTP client")]
    Client(#[from] BuildError),
    /// The controller ended.
    #[error(transparent)]
    Driver(#[from] driver::Error),
}

/// Runs the controller until `asked` ends.
///
/// # Errors
/// See [`Error`]. After [`Error::Driver`] the process has to end at once.
pub async fn run(options: Options, asked: impl Future<Output = ()>) -> Result<(), Error> {
    let clock = Clock::start();
    let configuration = load(&options.config)?;
    let journal = options.journal.clone().or_else(|| configuration.journal.path.clone()).ok_or(Error::JournalPath)?;
    let published = Published::new();
    let admin = options.admin.map(|address| Server::bind(address, published.clone())).transpose()?;
    if let Some(admin) = &admin {
        tracing::info!("the admin server listens on {}", admin.address());
    }
    let fence = Fence::default();
    let cluster = connect(options.kubeconfig.as_deref(), &configuration, Some(fence.clone())).await?;
    let uid = cluster.uid().await?;
    cluster.examine().await?;
    let history = open(&journal, &cluster).await?;
    let calls = Arc::new(Calls::default());
    let cloud = cloud(&configuration, Arc::clone(&calls))?;
    let start = start(history, &configuration, &uid, clock);
    let sources = Sources { clock, timing: start.identity.timing, calls, journal };
    let log = Log::new(&cluster, published.clone(), fence, clock);
    let observer = Watched::around(log, published.clone(), sources);
    let watch = Woken::new(cluster.watch(), published.clone());
    tracing::info!("{} is a candidate for the lease", start.identity.holder);
    let driver = Driver::new(&cluster, &cloud, watch, observer, start)?;
    metrics::serve_journal(&published, driver.views());
    Ok(Box::pin(driver.run(asked)).await?)
}

fn load(path: &Path) -> Result<Configuration, Error> {
    let (configuration, warnings) = config::load(path).map_err(Error::Config)?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    Ok(configuration)
}

/// A client of the API server with the lease's times.
///
/// # Errors
/// Fails when there is neither a kubeconfig nor a ServiceAccount that can be used.
pub(crate) async fn connect(
    kubeconfig: Option<&Path>,
    configuration: &Configuration,
    fence: Option<Fence>,
) -> Result<KubeCluster, ConnectError> {
    let election = &configuration.leader_election;
    let mutating = Duration::from_millis(election.timing().call_timeout_ms());
    let settings = client::Settings {
        lease_namespace: election.namespace.clone(),
        lease_name: election.name.clone(),
        timeouts: Timeouts { mutating, reading: READING_TIMEOUT },
        fence,
        clock: Arc::new(clock::wall),
    };
    KubeCluster::connect(kubeconfig, settings).await
}

/// Opens the journal with what earlier leaders left in the cluster.
async fn open(dir: &Path, cluster: &KubeCluster) -> Result<History, Error> {
    let earlier = Earlier { lease: cluster.read_lease().await?, claims: cluster.list_claims().await?.len() };
    let history = history::open(dir, JournalId(entropy::fresh().into_bytes()), &earlier)?;
    if let Some(reason) = &history.rebased {
        tracing::warn!("history is not continuous: {reason}");
    }
    tracing::info!("the journal in {} is at event {}", dir.display(), history.head.seq);
    Ok(history)
}

fn start(history: History, configuration: &Configuration, uid: &str, clock: Clock) -> Start {
    let identity = Identity {
        holder: holder(),
        journal: history.journal.id().0,
        rebased: history.rebased.clone(),
        timing: configuration.leader_election.timing(),
        speed: 1,
        keeping: Some(configuration.journal.policy()),
    };
    Start { identity, history, configuration: configuration.for_step(uid), clock }
}

/// Who this process is in the lock: as client-go has it, the pod's name (`POD_NAME`, else the machine's, which is the same
/// in a pod) and something that no other process has.
#[expect(clippy::disallowed_methods, reason = "a name for people, which nothing depends on")]
fn holder() -> String {
    let named = std::env::var("POD_NAME").ok().filter(|name| !name.is_empty());
    let name = named.unwrap_or_else(|| rustix::system::uname().nodename().to_string_lossy().into_owned());
    format!("{name}_{}", entropy::fresh())
}

fn cloud(configuration: &Configuration, calls: Arc<Calls>) -> Result<AliyunCloud, Error> {
    let environment = Environment::read();
    let clock: Arc<dyn Fn() -> std::time::SystemTime + Send + Sync> = Arc::new(clock::wall);
    let key = configuration.credential.clone();
    let (chosen, credentials) = choose(Path::new(ADDON_TOKEN), key, &environment, Arc::clone(&clock))?;
    tracing::info!("calls to the cloud are signed with the key of {chosen:?}");
    let timing = configuration.leader_election.timing();
    let settings = aliyun::Settings {
        region: configuration.region.clone(),
        vpc: configuration.vpc.clone(),
        endpoints: Endpoints::of_region(&configuration.region, &environment)?,
        mutating_timeout: Duration::from_millis(timing.call_timeout_ms()),
        reading_timeout: READING_TIMEOUT,
    };
    Ok(AliyunCloud::metered(settings, credentials, clock, calls)?)
}
