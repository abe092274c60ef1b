//! S14 Gone: no mapping of a pod that is served is taken down.
//!
//! Judged by the cluster as it is, not as a watch shows it. A pod that ended does not come back, so that an old view of
//! an end is as good as a new one; whoever was told to stop asking may have been told otherwise since.

use std::collections::{BTreeMap, BTreeSet};

use natgw::machine::demand::ReleaseReason;
use natgw::machine::event::Event;
use natgw::machine::identity::PodUid;

use super::{Happening, Invariant, Look};

#[derive(Default)]
struct Gone {
    /// The pod of each allocation of each replica.
    pods: BTreeMap<(usize, (u64, u64)), String>,
    /// Pods that somebody made ask otherwise than when they came.
    changed: BTreeSet<PodUid>,
    seen: usize,
    annotations: BTreeMap<String, Vec<(String, String)>>,
}

pub(super) fn make() -> Box<dyn Invariant> {
    Box::new(Gone::default())
}

impl Gone {
    fn learn(&mut self, look: &Look<'_>) {
        for change in &look.world.history[self.seen.min(look.world.history.len())..] {
            if let natgw::sandbox::cluster::Change::Pod(pod) = change {
                let status = |(name, _): &&(String, String)| !name.ends_with("/pod-dnat-status");
                let asks: Vec<_> = pod.annotations.iter().filter(status).cloned().collect();
                let before = self.annotations.entry(pod.uid.clone()).or_insert_with(|| asks.clone());
                if *before != asks {
                    self.changed.insert(pod.uid.as_str().into());
                }
            }
        }
        self.seen = look.world.history.len();
    }

    /// A mapping was taken down for something that its pod did.
    fn let_go(&self, look: &Look<'_>, id: (usize, (u64, u64)), why: &str, found: &mut Vec<String>) {
        let Some(uid) = self.pods.get(&id) else { return };
        if !self.changed.contains(&uid.as_str().into()) && is_served(look, uid) {
            found.push(format!("replica {} lets {uid} go for {why}, and it is served", id.0));
        }
    }
}

impl Invariant for Gone {
    fn look(&mut self, look: &Look<'_>, found: &mut Vec<String>) {
        self.learn(look);
        for happening in look.happened {
            let (replica, records) = match happening {
                Happening::Opened { replica, records, .. } => {
                    self.pods.retain(|(owner, _), _| owner != replica);
                    (replica, records)
                }
                Happening::Handed { replica, records } => (replica, records),
                Happening::Durable { .. } | Happening::Started { .. } | Happening::Stopped { .. } => continue,
            };
            let judged = matches!(happening, Happening::Handed { .. });
            for record in records {
                match &record.event {
                    Event::Allocated(body) | Event::Recovered(body) | Event::Adopted(body) => {
                        self.pods.insert((*replica, body.allocation), body.pod.clone());
                    }
                    Event::FixedBound(body) => {
                        self.pods.insert((*replica, body.allocation), body.pod.clone());
                    }
                    Event::ReleaseDecided(body) => {
                        let reason = ReleaseReason::from_number(body.reason);
                        if judged && is_of_pod(reason) {
                            self.let_go(look, (*replica, body.allocation), &format!("{reason:?}"), found);
                        }
                    }
                    Event::Reserved(body) if judged => {
                        self.let_go(look, (*replica, body.allocation), "its absence", found);
                    }
                    _ => {}
                }
            }
        }
    }
}

/// Whether a reason says something of the pod.
fn is_of_pod(reason: Option<ReleaseReason>) -> bool {
    match reason {
        None
        | Some(
            ReleaseReason::PodGone
            | ReleaseReason::PodEnded
            | ReleaseReason::GraceOver
            | ReleaseReason::Disabled
            | ReleaseReason::NowRefused
            | ReleaseReason::RetentionOver
            | ReleaseReason::FixedEnded,
        ) => true,
        Some(
            ReleaseReason::ClaimDeleted
            | ReleaseReason::TableFull
            | ReleaseReason::RouteMoved
            | ReleaseReason::TableGone
            | ReleaseReason::PortsChanged
            | ReleaseReason::PortTaken
            | ReleaseReason::EipLost
            | ReleaseReason::Moved,
        ) => false,
    }
}

fn is_served(look: &Look<'_>, uid: &str) -> bool {
    // In a cluster that was put back, whoever had gone is there again.
    if look.facts.revived.contains(uid) {
        return false;
    }
    let model = look.world.model.borrow();
    let pod = model.pods().find(|pod| pod.uid == uid);
    pod.is_some_and(|pod| pod.holds_address && pod.active())
}
