//! The simulated cluster behind its port, kept in a file as an API server keeps its objects.
//!
//! No answer leaves, and no watch shows anything, before the file holds what it says. The file is replaced as a whole, by
//! a rename. Calls that are under way together share one write.

use std::cell::{Cell, RefCell};
use std::io::ErrorKind;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;

use crate::driver::clock::{self, Clock};
use crate::driver::entropy;
use crate::machine::event::seen::{ClaimSeen, PodSeen};
use crate::machine::identity::PodKey;
use crate::ports::cluster::{ClaimFound, Cluster, ClusterError, Lease, LeaseRecord, Mapping, PodMark, Publication};
use crate::sandbox::cluster::{Action, Manifest, ManifestError, Model, Settings, SimulatedCluster, WorkloadKey};

use super::folder::{Error, Folder};

/// The cluster and its file. Clones are the same cluster.
#[derive(Clone, Debug)]
pub(super) struct KeptCluster {
    port: SimulatedCluster,
    model: Rc<RefCell<Model>>,
    now_ms: Rc<Cell<u64>>,
    file: Rc<KeptFile>,
    clock: Clock,
    /// Model time when the clock began, and how many times as fast it runs.
    began_ms: u64,
    speed: u64,
}

#[derive(Debug)]
struct KeptFile {
    path: PathBuf,
    /// The version that is in the file; `None` before the first write.
    version: Cell<Option<u64>>,
    failure: RefCell<Option<Error>>,
    failed: Notify,
}

impl KeptCluster {
    /// Loads the cluster of a folder, or makes an empty one. Nobody else can have it open, so the Lease's holder is gone.
    pub(super) fn open(folder: &Folder, clock: Clock, speed: NonZeroU32) -> Result<Self, Error> {
        let path = folder.cluster();
        let model = match std::fs::read(&path) {
            Ok(text) => {
                let mut model: Model =
                    serde_json::from_slice(&text).map_err(|source| Error::Decode { path: path.clone(), source })?;
                model.drop_lease_holder();
                model
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let settings = Settings::new(entropy::fresh().to_string());
                Model::new(Settings { epoch_wall_ms: clock::wall_ms(), ..settings })
            }
            Err(source) => return Err(Error::File { path, source }),
        };
        let began_ms = model.now_ms();
        let (model, now_ms) = (Rc::new(RefCell::new(model)), Rc::new(Cell::new(began_ms)));
        let port = SimulatedCluster::new(Rc::clone(&model), Rc::clone(&now_ms));
        let file = KeptFile { path, version: Cell::new(None), failure: RefCell::new(None), failed: Notify::new() };
        let kept = Self { port, model, now_ms, file: Rc::new(file), clock, began_ms, speed: speed.get().into() };
        kept.save()?;
        Ok(kept)
    }

    /// The cluster's UID.
    pub(super) fn uid(&self) -> String {
        self.model.borrow().cluster_uid().to_owned()
    }

    /// The Lease.
    pub(super) fn lease(&self) -> LeaseRecord {
        self.model.borrow().read_lease()
    }

    /// How many PodDNATs there are.
    pub(super) fn claims(&self) -> usize {
        self.model.borrow().poddnats().count()
    }

    /// Reads the model as it is now.
    pub(super) fn read<T>(&self, read: impl FnOnce(&Model) -> T) -> T {
        self.advance();
        read(&self.model.borrow())
    }

    /// Makes manifests the desired state.
    pub(super) fn apply(&self, manifests: &[Manifest]) -> Result<Vec<(WorkloadKey, Action)>, Vec<ManifestError>> {
        let now_ms = self.tick();
        self.model.borrow_mut().apply_manifests(manifests, now_ms)
    }

    /// Lets time pass up to now, and writes what it changed. What is read afterwards may be shown.
    pub(super) fn catch_up(&self) -> Result<(), Error> {
        self.advance();
        if let Some(failure) = self.file.failure.take() {
            return Err(failure);
        }
        self.save()
    }

    /// How long until something happens by itself.
    pub(super) fn until_due(&self) -> Option<Duration> {
        let due_ms = self.model.borrow().next_due()?.saturating_sub(self.tick());
        Some(Duration::from_millis(due_ms.div_ceil(self.speed)))
    }

    /// Ends when the file could not be written.
    pub(super) async fn failed(&self) {
        self.file.failed.notified().await;
    }

    fn advance(&self) {
        let now_ms = self.tick();
        self.model.borrow_mut().advance(now_ms);
    }

    fn tick(&self) -> u64 {
        let now_ms = self.began_ms.saturating_add(self.clock.elapsed_ms().saturating_mul(self.speed));
        self.now_ms.set(now_ms);
        now_ms
    }

    /// Makes a call and gives its answer once it is in the file; where it cannot be written, never.
    async fn kept<T>(&self, call: impl Future<Output = T>) -> T {
        self.tick();
        let answer = call.await;
        if self.is_unsaved() {
            // Others that are answered in this round share the write.
            tokio::task::yield_now().await;
            if let Err(error) = self.save() {
                self.file.failure.replace(Some(error));
                self.file.failed.notify_one();
                std::future::pending::<()>().await;
            }
        }
        answer
    }

    fn is_unsaved(&self) -> bool {
        self.file.version.get() != Some(self.model.borrow().version())
    }

    fn save(&self) -> Result<(), Error> {
        if !self.is_unsaved() {
            return Ok(());
        }
        let path = &self.file.path;
        let model = self.model.borrow();
        let text = serde_json::to_vec(&*model).map_err(|source| Error::Decode { path: path.clone(), source })?;
        let beside = path.with_extension("json.new");
        let written = std::fs::write(&beside, text).and_then(|()| std::fs::rename(&beside, path));
        written.map_err(|source| Error::File { path: path.clone(), source })?;
        self.file.version.set(Some(model.version()));
        Ok(())
    }
}

impl Cluster for KeptCluster {
    async fn list_pods(&self) -> Result<Vec<PodSeen>, ClusterError> {
        self.kept(self.port.list_pods()).await
    }

    async fn list_claims(&self) -> Result<Vec<ClaimSeen>, ClusterError> {
        self.kept(self.port.list_claims()).await
    }

    async fn read_claim(&self, key: &PodKey) -> Result<Option<ClaimFound>, ClusterError> {
        self.kept(self.port.read_claim(key)).await
    }

    async fn create_claim(&self, mapping: &Mapping) -> Result<ClaimFound, ClusterError> {
        self.kept(self.port.create_claim(mapping)).await
    }

    async fn replace_claim(&self, mapping: &Mapping, found: &ClaimFound) -> Result<ClaimFound, ClusterError> {
        self.kept(self.port.replace_claim(mapping, found)).await
    }

    async fn write_status(&self, publication: &Publication, found: &ClaimFound) -> Result<(), ClusterError> {
        self.kept(self.port.write_status(publication, found)).await
    }

    async fn delete_claim(&self, key: &PodKey, uid: &str) -> Result<(), ClusterError> {
        self.kept(self.port.delete_claim(key, uid)).await
    }

    async fn strip_finalizer(&self, key: &PodKey, found: &ClaimFound) -> Result<(), ClusterError> {
        self.kept(self.port.strip_finalizer(key, found)).await
    }

    async fn mark_pod(&self, mark: &PodMark) -> Result<(), ClusterError> {
        self.kept(self.port.mark_pod(mark)).await
    }

    async fn announce(&self, mark: &PodMark) -> Result<(), ClusterError> {
        self.kept(self.port.announce(mark)).await
    }
}

impl Lease for KeptCluster {
    async fn read_lease(&self) -> Result<LeaseRecord, ClusterError> {
        self.kept(self.port.read_lease()).await
    }

    async fn write_lease(&self, record: &LeaseRecord) -> Result<LeaseRecord, ClusterError> {
        self.kept(self.port.write_lease(record)).await
    }
}
