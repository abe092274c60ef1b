//! A sandbox on a real cluster: only the cloud is simulated.
//!
//! It decides nothing where somebody else may decide: it refuses to start beside PodDNATs or a Lease of natgw's that are
//! not of this sandbox, which is known by the journal in its folder. Manifests are not its business there.

use std::path::Path;
use std::rc::Rc;

use natgw_journal::JournalId;
use tokio::sync::Notify;

use crate::cluster::api::Fence;
use crate::cluster::client::KubeCluster;
use crate::controller::step::Controller;
use crate::driver::clock::Clock;
use crate::driver::history::{self, Earlier, History};
use crate::driver::phase::Phase;
use crate::driver::{Driver, Observer as _, Watch, WatchError, entropy};
use crate::machine::identity::AllocationId;
use crate::ports::cluster::{Cluster as _, Lease as _};
use crate::run;

use super::cloud::{self, Served};
use super::folder::Folder;
use super::show::{self, Mapped};
use super::tell::{self, Stage, Teller};
use super::{Error, Format, Options, client, load, of_the_account, start};

/// Runs the sandbox until `asked` ends, or until it has settled where that was asked for.
pub(super) async fn run(options: Options, kubeconfig: &Path, asked: impl Future<Output = ()>) -> Result<(), Error> {
    let clock = Clock::start();
    let configuration = options.config.as_deref().map(load).transpose()?;
    let effective = configuration.clone().unwrap_or_else(of_the_account);
    let fence = Fence::default();
    let cluster = run::connect(Some(kubeconfig), &effective, Some(fence.clone())).await.map_err(run::Error::from)?;
    cluster.examine().await.map_err(run::Error::from)?;
    let uid = cluster.uid().await.map_err(run::Error::from)?;
    let folder = Folder::open(options.folder.as_deref())?;
    if options.folder.is_none() {
        tell::line(format_args!("everything is kept in {}", folder.path().display())).map_err(Error::Output)?;
    }
    let stage = RealStage { fence, clock, asked: Rc::default() };
    let printer = Printer { cluster: &cluster, format: options.output, asked: Rc::clone(&stage.asked) };
    let mut teller = Teller::new(&options, stage);

    teller.phase(Phase::Open);
    let history = open(&folder, &cluster).await?;
    teller.phase(Phase::Replayed);
    let served = match &options.cloud {
        Some(_) => None,
        None => Some(cloud::start(&folder, &options, configuration.as_ref())?),
    };
    let address = served.as_ref().map_or_else(|| options.cloud.clone().unwrap_or_default(), Served::url);
    let start = start(history, &effective, &uid, clock, options.speed);
    let cloud = client(&address, configuration.as_ref(), &start, served.is_none())?;
    let watch = WithCloud { watch: cluster.watch(), cloud: served };
    let failure = teller.failure();
    let driver = Driver::new(&cluster, &cloud, watch, teller, start)?;
    let ran = tokio::select! {
        ran = Box::pin(driver.run(asked)) => ran,
        printed = printer.print_when_asked(), if !options.settle => return printed,
    };
    match failure.take() {
        Some(error) => return Err(Error::Output(error)),
        None => ran?,
    }
    if options.settle { printer.print(&mut String::new()).await } else { Ok(()) }
}

/// Opens the journal, unless the cluster is somebody else's.
async fn open(folder: &Folder, cluster: &KubeCluster) -> Result<History, Error> {
    let lease = cluster.read_lease().await.map_err(run::Error::from)?;
    let claims = cluster.list_claims().await.map_err(run::Error::from)?;
    let locks = cluster.locks().await.map_err(run::Error::from)?;
    let earlier = Earlier { lease, claims: claims.len() };
    let history = history::open(&folder.journal(), JournalId(entropy::fresh().into_bytes()), &earlier)?;
    let journal = history.journal.id().0;
    let foreign = locks.iter().find(|(_, lock)| lock.heads.iter().all(|(id, ..)| *id != journal));
    if let Some((key, _)) = foreign {
        return Err(Error::Foreign(format!("the Lease {key}")));
    }
    for seen in claims {
        let mine = seen.claim.as_ref().is_some_and(|claim| {
            // Numbers alone are anybody's: it is for the same pod, or the very object that was written.
            let allocation = history.state.allocation(AllocationId::from(claim.allocation));
            allocation
                .is_some_and(|ours| ours.pod().as_str() == claim.pod || ours.claim_uid() == Some(seen.uid.as_str()))
        });
        if !mine {
            return Err(Error::Foreign(format!("the PodDNAT {}/{}", seen.namespace, seen.name)));
        }
    }
    if let Some(reason) = &history.rebased {
        tracing::warn!("history is not continuous: {reason}");
    }
    Ok(history)
}

/// What a real cluster does by itself cannot be known, and it is read by whoever prints.
struct RealStage {
    fence: Fence,
    clock: Clock,
    asked: Rc<Notify>,
}

impl Stage for RealStage {
    fn rests(&self) -> bool {
        true
    }

    fn mapped(&self) -> Option<Mapped> {
        self.asked.notify_one();
        None
    }

    fn turned(&self, controller: &Controller) {
        self.fence.set(controller.acts_until_ms().map(|until| self.clock.at(Some(until))));
    }
}

/// Prints the mappings as the API server has them.
struct Printer<'a> {
    cluster: &'a KubeCluster,
    format: Format,
    asked: Rc<Notify>,
}

impl Printer<'_> {
    /// Prints whenever it is asked to and something has changed. Ends only with a failure.
    async fn print_when_asked(&self) -> Result<(), Error> {
        let mut shown = String::new();
        loop {
            self.asked.notified().await;
            self.print(&mut shown).await?;
        }
    }

    async fn print(&self, shown: &mut String) -> Result<(), Error> {
        let mapped = async {
            let (pods, claims) = (self.cluster.pods_said().await?, self.cluster.poddnats().await?);
            Ok::<_, crate::ports::cluster::ClusterError>(Mapped { pods, claims, version: String::new() })
        };
        let mapped = match mapped.await {
            Ok(mapped) => mapped,
            Err(error) => {
                tracing::warn!("the mappings cannot be printed: {error}");
                return Ok(());
            }
        };
        let text = show::render(&mapped, self.format).map_err(|error| Error::Output(std::io::Error::other(error)))?;
        if text != *shown {
            tell::print(&text).map_err(Error::Output)?;
            *shown = text;
        }
        Ok(())
    }
}

/// The watches, and the simulated cloud: its end is the end of everything.
struct WithCloud<W> {
    watch: W,
    cloud: Option<Served>,
}

impl<W: Watch> Watch for WithCloud<W> {
    fn take(&mut self) -> Result<std::collections::VecDeque<crate::controller::step::Seen>, WatchError> {
        match self.cloud.as_mut().and_then(Served::ended) {
            Some(error) => Err(error.into()),
            None => self.watch.take(),
        }
    }

    async fn wait(&mut self) {
        tokio::select! {
            () = self.watch.wait() => {}
            () = cloud::ended(&mut self.cloud) => {}
        }
    }
}
