//! What a leader in a real cluster would change now. Every write of the client is barred, and none is made.

use std::path::Path;
use std::sync::Arc;

use super::{Error, cloud, connect, load};
use crate::cloud::meter::Calls;
use crate::cluster::api::Fence;
use crate::driver::clock;
use crate::machine::state::State;
use crate::plan::{self, Beginning, Plan};
use crate::ports::cluster::{Cluster as _, Lease as _};

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The cluster or the cloud cannot be reached.
    #[error(transparent)]
    Run(#[from] Error),
    /// A leader would end at once.
    #[error(transparent)]
    Plan(#[from] plan::Error),
}

/// Makes the plan of a configuration in a cluster. The journals are in the replicas' volumes, so it is that of a leader
/// without history.
///
/// # Errors
/// See [`PlanError`].
pub async fn plan(config: &Path, kubeconfig: Option<&Path>) -> Result<Plan, PlanError> {
    let configuration = load(config)?;
    // A fence that nobody opens: no write leaves.
    let cluster = connect(kubeconfig, &configuration, Some(Fence::default())).await.map_err(Error::from)?;
    let uid = cluster.uid().await.map_err(Error::from)?;
    let lock = cluster.read_lease().await.map_err(Error::from)?;
    let claims = cluster.list_claims().await.map_err(Error::from)?.len();
    let cloud = cloud(&configuration, Arc::new(Calls::default()))?;
    let led = lock.term > 0 || claims > 0;
    let rebased = led.then(|| {
        let term = lock.term;
        format!("a plan reads no journal, and the Lease is at term {term} and {claims} PodDNATs exist")
    });
    let beginning = Beginning {
        state: State::default(),
        journal: None,
        rebased,
        lock,
        timing: configuration.leader_election.timing(),
        configuration: configuration.for_step(&uid),
        wall_ms: clock::wall_ms(),
    };
    Ok(plan::make(&cluster, &cloud, beginning).await?)
}
