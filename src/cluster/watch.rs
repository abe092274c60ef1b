//! What changes in the cluster, in order: pods and PodDNATs, of Namespaces and Nodes only what a pod's place needs.
//!
//! * Each kind is followed by a stream of its own that never ends (`follow`).
//! * What a list does not show any more has gone; a pod or PodDNAT is told to be gone only by that or by the watch itself.
//! * News older than what was shown by a list or by the answer to a write are dropped (`view`).
//! * When the served definition of the PodDNAT keeps what the one before did not, all PodDNATs are listed again, for what
//!   they lack now counts.
//! * When a Namespace begins to go, its pods that concern us are shown again, once.
//!
//! Everything happens within [`ClusterWatch::wait`]; what is dropped there goes on where it was at the next call.

mod follow;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::{FutureExt as _, LocalBoxFuture};
use futures_util::stream::{FuturesUnordered, LocalBoxStream, StreamExt as _};
use tokio::time::sleep;

use self::follow::{Told, follow};
use super::api::Api;
use super::crd;
use super::list::{Listed, Resource, list};
use super::poddnat::{PodDnat, claim_of};
use super::view::View;
use super::wire::{ClaimObject, DefinitionObject, NamedObject, PodObject, Watched as _};
use crate::machine::event::seen::{ClaimGone, ClaimSeen, PodGone, PodSeen};

/// One change, as the controller takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A pod as it is now.
    Pod(Box<PodSeen>),
    /// A pod has gone.
    PodGone(PodGone),
    /// A PodDNAT as it is now.
    Claim(Box<ClaimSeen>),
    /// A PodDNAT has gone.
    ClaimGone(ClaimGone),
}

/// The cluster is another, or an older one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the API server gives older versions than before, as after the restore of a backup, so everything is to be read anew"
)]
pub struct SetBack;

/// Changes that are taken up at once: enough to form groups, few enough to let others have their turn.
const BATCH_MAX: usize = 512;

/// How often the pods of a Namespace that goes are asked for, a second apart. What they would tell comes with the next
/// listing, too.
const RESHOW_TRIES: u32 = 60;

/// The watches.
pub struct ClusterWatch {
    api: Api,
    view: Rc<RefCell<View>>,
    pods: LocalBoxStream<'static, Told<PodObject>>,
    claims: LocalBoxStream<'static, Told<ClaimObject>>,
    namespaces: LocalBoxStream<'static, Told<NamedObject>>,
    nodes: LocalBoxStream<'static, Told<NamedObject>>,
    definition: LocalBoxStream<'static, Told<DefinitionObject>>,
    reshown: FuturesUnordered<LocalBoxFuture<'static, Vec<PodObject>>>,
    changes: VecDeque<Change>,
}

impl ClusterWatch {
    pub(super) fn new(api: Api, view: Rc<RefCell<View>>) -> Self {
        Self {
            pods: follow(api.clone(), Resource::pods()),
            claims: follow(api.clone(), Resource::claims()),
            namespaces: follow(api.clone(), Resource::namespaces()),
            nodes: follow(api.clone(), Resource::virtual_nodes()),
            definition: follow(api.clone(), Resource::definition()),
            reshown: FuturesUnordered::new(),
            changes: VecDeque::new(),
            api,
            view,
        }
    }

    /// Everything that was shown since the last call, in order.
    ///
    /// # Errors
    /// Fails when the cluster was set back to a backup: watches go on from versions that do not exist any more.
    pub fn take(&mut self) -> Result<VecDeque<Change>, SetBack> {
        if self.view.borrow().set_back {
            return Err(SetBack);
        }
        Ok(std::mem::take(&mut self.changes))
    }

    /// Ends when there is something to take, or sooner. May be dropped at any time.
    pub async fn wait(&mut self) {
        if !self.changes.is_empty() {
            return;
        }
        self.step().await;
        for _ in 0..BATCH_MAX {
            if self.step().now_or_never().is_none() {
                break;
            }
        }
    }

    /// Takes up what comes next. None of the streams ends but the last, which is empty most of the time.
    async fn step(&mut self) {
        tokio::select! {
            Some(told) = self.namespaces.next() => self.namespaces_told(told),
            Some(told) = self.nodes.next() => self.nodes_told(told),
            Some(told) = self.definition.next() => self.definition_told(&told),
            Some(told) = self.claims.next() => self.claims_told(told),
            Some(told) = self.pods.next() => self.pods_told(told),
            Some(pods) = self.reshown.next() => pods.iter().for_each(|pod| self.pod(pod)),
            else => std::future::pending().await,
        }
    }

    fn pods_told(&mut self, told: Told<PodObject>) {
        match told {
            Told::Page { first, items } => {
                if first {
                    self.view.borrow_mut().pods.begin_list();
                }
                items.iter().for_each(|pod| self.pod(pod));
            }
            Told::Listed(version) => {
                let gone = self.view.borrow_mut().pods.end_list(&version);
                self.changes.extend(gone.into_iter().map(|(_, uid)| Change::PodGone(PodGone { uid })));
            }
            Told::Changed(pod) => {
                self.pod(&pod);
                self.view.borrow_mut().pods.advance(pod.meta().version);
            }
            Told::Gone(pod) => {
                let mut view = self.view.borrow_mut();
                view.pods.forget(pod.meta());
                view.pods.advance(pod.meta().version);
                self.changes.push_back(Change::PodGone(PodGone { uid: pod.metadata.uid }));
            }
            Told::Through(version) => self.view.borrow_mut().pods.advance(&version),
        }
    }

    fn pod(&mut self, pod: &PodObject) {
        let mut view = self.view.borrow_mut();
        let seen = pod.observe(&view.places);
        if view.pods.show(pod.meta(), asks(&seen)) {
            self.changes.push_back(Change::Pod(Box::new(seen)));
        }
    }

    fn claims_told(&mut self, told: Told<ClaimObject>) {
        match told {
            Told::Page { first, items } => {
                if first {
                    self.view.borrow_mut().claims.begin_list();
                }
                items.into_iter().for_each(|claim| self.claim(claim));
            }
            Told::Listed(version) => {
                let gone = self.view.borrow_mut().claims.end_list(&version);
                let gone = gone.into_iter().map(|(key, uid)| claim_gone(key.namespace(), key.name(), &uid));
                self.changes.extend(gone);
            }
            Told::Changed(claim) => {
                self.view.borrow_mut().claims.advance(claim.meta().version);
                self.claim(claim);
            }
            Told::Gone(claim) => {
                let (mut view, meta) = (self.view.borrow_mut(), claim.meta());
                view.claims.forget(meta);
                view.claims.advance(meta.version);
                self.changes.push_back(claim_gone(meta.namespace, meta.name, meta.uid));
            }
            Told::Through(version) => self.view.borrow_mut().claims.advance(&version),
        }
    }

    fn claim(&mut self, claim: ClaimObject) {
        let mut view = self.view.borrow_mut();
        if view.claims.show(claim.meta(), true) {
            let kept = view.definition.kept();
            self.changes.push_back(Change::Claim(Box::new(claim_of(&PodDnat::from(claim), kept))));
        }
    }

    fn definition_told(&mut self, told: &Told<DefinitionObject>) {
        match told {
            Told::Page { items, .. } => items.iter().for_each(|definition| self.defined(definition)),
            Told::Changed(definition) => self.defined(definition),
            // Its PodDNATs go with it, one by one.
            Told::Gone(_) | Told::Listed(_) | Told::Through(_) => {}
        }
    }

    fn defined(&mut self, definition: &DefinitionObject) {
        match crd::examine(&definition.0) {
            Ok(examined) => {
                if self.view.borrow_mut().define(examined) {
                    self.claims = follow(self.api.clone(), Resource::claims());
                }
            }
            Err(error) => tracing::warn!("{error}"),
        }
    }

    fn namespaces_told(&mut self, told: Told<NamedObject>) {
        match told {
            Told::Page { first, items } => {
                if first {
                    self.view.borrow_mut().places.terminating.clear();
                }
                items.iter().for_each(|namespace| self.namespace(namespace));
            }
            Told::Changed(namespace) => self.namespace(&namespace),
            Told::Gone(namespace) => {
                self.view.borrow_mut().places.terminating.remove(&namespace.metadata.name);
            }
            Told::Listed(_) | Told::Through(_) => {}
        }
    }

    fn namespace(&mut self, namespace: &NamedObject) {
        let name = &namespace.metadata.name;
        let mut view = self.view.borrow_mut();
        if !namespace.metadata.is_deleting() {
            view.places.terminating.remove(name);
        } else if view.places.terminating.insert(name.clone()) {
            self.reshown.push(pods_of(self.api.clone(), name.clone()).boxed_local());
        }
    }

    fn nodes_told(&mut self, told: Told<NamedObject>) {
        let nodes = &mut self.view.borrow_mut().places.virtual_nodes;
        match told {
            Told::Page { first, items } => {
                if first {
                    nodes.clear();
                }
                nodes.extend(items.into_iter().map(|node| node.metadata.name));
            }
            Told::Changed(node) => drop(nodes.insert(node.metadata.name)),
            Told::Gone(node) => drop(nodes.remove(&node.metadata.name)),
            Told::Listed(_) | Told::Through(_) => {}
        }
    }
}

/// Whether a pod by itself is worth being remembered. One that has asked before is remembered already.
pub(super) fn asks(pod: &PodSeen) -> bool {
    !pod.annotations.is_empty() || pod.oversized || pod.gate
}

/// The pods of a Namespace; none where they cannot be had.
async fn pods_of(api: Api, namespace: String) -> Vec<PodObject> {
    let resource = Resource::pods_of(&namespace);
    for _ in 0..RESHOW_TRIES {
        match list::<PodObject>(&api, &resource).await {
            Ok(Listed { items, .. }) => return items,
            Err(failure) => tracing::debug!("{}", failure.of("list")),
        }
        sleep(Duration::from_secs(1)).await;
    }
    tracing::warn!(
        "the pods of the Namespace {namespace}, which is being deleted, cannot be read; the next listing tells"
    );
    Vec::new()
}

fn claim_gone(namespace: &str, name: &str, uid: &str) -> Change {
    let (namespace, name, uid) = (namespace.to_owned(), name.to_owned(), uid.to_owned());
    Change::ClaimGone(ClaimGone { namespace, name, uid })
}
