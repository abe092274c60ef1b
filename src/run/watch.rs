//! The cluster's watches as the driver takes them.

use std::collections::VecDeque;

use crate::cluster::watch::{Change, ClusterWatch};
use crate::controller::step::Seen;
use crate::driver::{Watch, WatchError};

impl Watch for ClusterWatch {
    fn take(&mut self) -> Result<VecDeque<Seen>, WatchError> {
        Ok(Self::take(self)?.into_iter().map(Seen::from).collect())
    }

    async fn wait(&mut self) {
        Self::wait(self).await;
    }
}

impl From<Change> for Seen {
    fn from(change: Change) -> Self {
        match change {
            Change::Pod(pod) => Self::Pod(pod),
            Change::PodGone(gone) => Self::PodGone(gone),
            Change::Claim(claim) => Self::Claim(claim),
            Change::ClaimGone(gone) => Self::ClaimGone(gone),
        }
    }
}
