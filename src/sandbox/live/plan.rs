//! What the sandbox in a folder would change now. Its folder is copied first, so that nothing in it is touched: the copy's
//! cluster and, where no other cloud is named, the copy's cloud are asked.

use std::fs::{File, TryLockError};
use std::io;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use super::folder::{self, Folder};
use super::kept::KeptCluster;
use super::{Format, Options, client, cloud, load, of_the_account, start};
use crate::driver::clock::{self, Clock};
use crate::driver::history::{self, Earlier, History};
use crate::driver::{Start, entropy};
use crate::plan::{self, Beginning, Plan};
use natgw_journal::JournalId;

/// Whose plan is wanted.
#[derive(Clone, Debug)]
pub struct PlanOptions {
    /// The folder of a sandbox.
    pub folder: PathBuf,
    /// Its configuration file; none for the whole simulated account.
    pub config: Option<PathBuf>,
    /// The cloud that it works with; none for the one in its folder.
    pub cloud: Option<String>,
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// No sandbox was ever there.
    #[error("NATGW-PLAN-SANDBOX: there is no sandbox in {}; name the folder that `natgw sandbox --journal` made", .0.display())]
    NoSandbox(PathBuf),
    /// It cannot be copied.
    #[error("NATGW-PLAN-SANDBOX: {} cannot be copied, so there is no plan", path.display())]
    Copy {
        /// What.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The copy cannot be used.
    #[error(transparent)]
    Sandbox(#[from] super::Error),
    /// A leader would end at once.
    #[error(transparent)]
    Plan(#[from] plan::Error),
}

impl From<folder::Error> for PlanError {
    fn from(error: folder::Error) -> Self {
        Self::Sandbox(error.into())
    }
}

/// Makes the plan of a sandbox, which may run meanwhile: its journal is then not looked into, and the plan is that of a
/// leader without history.
///
/// # Errors
/// See [`PlanError`].
pub async fn plan(options: PlanOptions) -> Result<Plan, PlanError> {
    let PlanOptions { folder: original, config, cloud: address } = options;
    let clock = Clock::start();
    let configuration = config.as_deref().map(load).transpose()?;
    let private = tempfile::Builder::new().prefix("natgw-plan-").tempdir();
    let private = private.map_err(|source| PlanError::Copy { path: std::env::temp_dir(), source })?;
    copy(&original, private.path())?;
    let folder = Folder::open(Some(private.path()))?;
    let once = Options {
        manifests: Vec::new(),
        config: None,
        kubeconfig: None,
        folder: None,
        cloud: address.clone(),
        entry_quota: None,
        speed: NonZeroU32::MIN,
        settle: false,
        output: Format::Json,
        verbose: false,
        announce: false,
    };
    let cluster = KeptCluster::open(&folder, clock, once.speed)?;
    let lock = cluster.lease();
    let earlier = Earlier { lease: lock.clone(), claims: cluster.claims() };
    let history = history::open(&folder.journal(), JournalId(entropy::fresh().into_bytes()), &earlier);
    let served = match &address {
        Some(_) => None,
        None => Some(cloud::start(&folder, &once, configuration.as_ref())?),
    };
    let address = served.as_ref().map_or_else(|| address.unwrap_or_default(), cloud::Served::url);
    let effective = configuration.clone().unwrap_or_else(of_the_account);
    let history = history.map_err(super::Error::from)?;
    let start = start(history, &effective, &cluster.uid(), clock, once.speed);
    let cloud = client(&address, configuration.as_ref(), &start, served.is_none())?;
    let Start { identity, history: History { state, .. }, configuration, .. } = start;
    let beginning = Beginning {
        state,
        journal: Some(identity.journal),
        rebased: identity.rebased,
        lock,
        timing: identity.timing,
        configuration,
        wall_ms: clock::wall_ms(),
    };
    Ok(plan::make(&cluster, &cloud, beginning).await?)
}

/// Copies what a sandbox keeps; its journal only while nobody writes it.
fn copy(original: &Path, private: &Path) -> Result<(), PlanError> {
    for name in ["cluster.json", "cloud.json"] {
        let path = original.join(name);
        match std::fs::copy(&path, private.join(name)) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound && name == "cluster.json" => {
                return Err(PlanError::NoSandbox(original.to_owned()));
            }
            // A sandbox with another cloud keeps none.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(PlanError::Copy { path, source }),
        }
    }
    let lock = File::open(original.join("sandbox.lock"));
    // Held while the journal is copied. A folder without a lock file is nobody's.
    match lock.as_ref().ok().map(File::try_lock_shared) {
        Some(Err(TryLockError::WouldBlock)) => return Ok(()),
        Some(Err(TryLockError::Error(source))) => {
            return Err(PlanError::Copy { path: original.join("sandbox.lock"), source });
        }
        Some(Ok(())) | None => {}
    }
    copy_tree(&original.join("journal"), &private.join("journal"))
}

fn copy_tree(from: &Path, to: &Path) -> Result<(), PlanError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| PlanError::Copy { path, source }
    };
    let entries = match std::fs::read_dir(from) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(failed(from)(source)),
    };
    std::fs::create_dir_all(to).map_err(failed(to))?;
    for entry in entries {
        let entry = entry.map_err(failed(from))?;
        let (path, copied) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy_tree(&path, &copied)?;
        } else {
            std::fs::copy(&path, &copied).map_err(failed(&path))?;
        }
    }
    Ok(())
}
