//! What a watch of the simulated cluster shows, and the moments at which to look.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::controller::step::Seen;
use crate::driver::{Watch, WatchError};
use crate::machine::event::seen::{ClaimGone, ClaimSeen, PodGone, PodSeen};
use crate::sandbox::cluster::{Change, Changes, TooOld};

use super::cloud::{self, Served};
use super::follow::Manifests;
use super::kept::KeptCluster;

/// The watch, and what makes the cluster change: time, and the manifests.
pub(super) struct SimulatedWatch {
    cluster: KeptCluster,
    manifests: Manifests,
    /// The simulated cloud, if it is this process's: its end is the end of everything.
    cloud: Option<Served>,
    through: u64,
    known: Known,
}

/// What exists as far as was shown, for the case that changes were missed and everything is listed again.
#[derive(Debug, Default)]
struct Known {
    pods: BTreeSet<String>,
    claims: BTreeMap<String, (String, String)>,
}

impl SimulatedWatch {
    /// A watch that begins with the next change. What is there already is known from a list.
    pub(super) fn new(cluster: KeptCluster, manifests: Manifests, cloud: Option<Served>) -> Self {
        let mut known = Known::default();
        let through = cluster.read(|model| {
            model.list_pods().iter().for_each(|pod| known.pod(pod));
            model.list_claims().iter().for_each(|claim| known.claim(claim));
            model.version()
        });
        Self { cluster, manifests, cloud, through, known }
    }
}

impl Watch for SimulatedWatch {
    fn take(&mut self) -> Result<VecDeque<Seen>, WatchError> {
        if let Some(error) = self.cloud.as_mut().and_then(Served::ended) {
            return Err(error.into());
        }
        self.cluster.catch_up()?;
        let (since, known) = (self.through, &mut self.known);
        let (through, seen) = self.cluster.read(|model| match model.changes_since(since) {
            Ok(Changes { changes, through }) => {
                (through, changes.into_iter().map(|change| known.take(change)).collect())
            }
            Err(TooOld { .. }) => (model.version(), known.catch_up(model.list_pods(), model.list_claims())),
        });
        self.through = through;
        Ok(seen)
    }

    async fn wait(&mut self) {
        if self.cluster.read(|model| model.version()) != self.through {
            return;
        }
        let due = self.cluster.until_due();
        let due = async {
            match due {
                Some(due) => tokio::time::sleep(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = due => {}
            () = self.cluster.failed() => {}
            () = cloud::ended(&mut self.cloud) => {}
            () = self.manifests.tick() => self.manifests.follow(&self.cluster),
        }
    }
}

impl Known {
    fn pod(&mut self, pod: &PodSeen) {
        self.pods.insert(pod.uid.clone());
    }

    fn claim(&mut self, claim: &ClaimSeen) {
        self.claims.insert(claim.uid.clone(), (claim.namespace.clone(), claim.name.clone()));
    }

    fn take(&mut self, change: Change) -> Seen {
        match change {
            Change::Pod(pod) => {
                self.pod(&pod);
                Seen::Pod(Box::new(pod))
            }
            Change::PodGone(gone) => {
                self.pods.remove(&gone.uid);
                Seen::PodGone(gone)
            }
            Change::Claim(claim) => {
                self.claim(&claim);
                Seen::Claim(Box::new(claim))
            }
            Change::ClaimGone(gone) => {
                self.claims.remove(&gone.uid);
                Seen::ClaimGone(gone)
            }
        }
    }

    /// After missed changes: what is there no more has gone, the rest is shown again.
    fn catch_up(&mut self, pods: Vec<PodSeen>, claims: Vec<ClaimSeen>) -> VecDeque<Seen> {
        let before = std::mem::take(self);
        pods.iter().for_each(|pod| self.pod(pod));
        claims.iter().for_each(|claim| self.claim(claim));
        let gone = before.pods.into_iter().filter(|uid| !self.pods.contains(uid));
        let mut seen: VecDeque<_> = gone.map(|uid| Seen::PodGone(PodGone { uid })).collect();
        for (uid, (namespace, name)) in before.claims {
            if !self.claims.contains_key(&uid) {
                seen.push_back(Seen::ClaimGone(ClaimGone { namespace, name, uid }));
            }
        }
        seen.extend(claims.into_iter().map(|claim| Seen::Claim(Box::new(claim))));
        seen.extend(pods.into_iter().map(|pod| Seen::Pod(Box::new(pod))));
        seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(uid: &str) -> PodSeen {
        PodSeen { uid: uid.to_owned(), ..PodSeen::default() }
    }

    #[test]
    fn after_missed_changes_what_has_gone_is_told_first() {
        let mut known = Known::default();
        for uid in ["a", "b"] {
            known.take(Change::Pod(pod(uid)));
        }
        known.take(Change::PodGone(PodGone { uid: "a".to_owned() }));
        let seen = known.catch_up(vec![pod("c")], Vec::new());
        assert_eq!(Vec::from(seen), [Seen::PodGone(PodGone { uid: "b".to_owned() }), Seen::Pod(Box::new(pod("c")))]);
        assert_eq!(Vec::from(known.catch_up(Vec::new(), Vec::new())), [Seen::PodGone(PodGone { uid: "c".to_owned() })]);
    }
}
