//! The cluster port over a real API server: reading. Writing is in `publish`, the lock in [`super::lease`].

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use serde_json::Value;

use super::api::{Api, ConnectError, Failure, Fence, Timeouts};
use super::crd::{self, NotServed};
use super::list::{Listed, Resource, list};
use super::pod::{PodStatus, STATUS_ANNOTATION};
use super::poddnat::{PodDnat, claim_of};
use super::view::{Shown, View};
use super::watch::{ClusterWatch, asks};
use super::wire::{ClaimObject, Meta, NamedObject, Places, PodObject, Watched as _};
use crate::machine::event::seen::{ClaimSeen, PodSeen};
use crate::machine::identity::PodKey;
use crate::ports::cluster::{ClusterError, ClusterErrorClass, LeaseRecord};

/// The path of what is stored under `poddnat::API_VERSION`.
pub(super) const CLAIMS: &str = "/apis/alibabacloud.com/v1beta1";

/// The definition of the PodDNAT.
const CRD: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/poddnats.alibabacloud.com";

/// The Namespace whose UID names the cluster.
const KUBE_SYSTEM: &str = "/api/v1/namespaces/kube-system";

/// PodDNATs that were read and may be written next. An effect reads one and then writes it; more than there are effects
/// under way are not needed.
const RECENT_MAX: usize = 64;

/// The wall clock of what is written for people.
pub type WallClock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// Why PodDNATs cannot be read and written.
#[derive(Debug, thiserror::Error)]
pub enum ExamineError {
    /// There is no definition of the version that is spoken.
    #[error(transparent)]
    NotServed(#[from] NotServed),
    /// It cannot be read.
    #[error("the served CRD cannot be read: {0}")]
    Unread(#[from] ClusterError),
}

/// What a cluster is reached with.
pub struct Settings {
    /// The Lease's Namespace; `None` for the one that the kubeconfig or the ServiceAccount names.
    pub lease_namespace: Option<String>,
    /// The Lease's name.
    pub lease_name: String,
    /// How long calls may take.
    pub timeouts: Timeouts,
    /// Until when writes may be sent; `None` for always.
    pub fence: Option<Fence>,
    /// The wall clock.
    pub clock: WallClock,
}

/// The cluster and lease ports over an API server.
pub struct KubeCluster {
    pub(super) api: Api,
    pub(super) view: Rc<RefCell<View>>,
    pub(super) clock: WallClock,
    /// The path of the Lease's collection, and its name.
    pub(super) lease: (String, String),
    /// The Lease as it was read or written last: what of it is not in the record.
    pub(super) lock: RefCell<Option<super::lease::LeaseObject>>,
    /// PodDNATs as they were read or written last, in order of name.
    recent: RefCell<BTreeMap<PodKey, PodDnat>>,
}

impl KubeCluster {
    /// A client by kubeconfig, else by the pod's ServiceAccount. Nothing is sent yet.
    ///
    /// # Errors
    /// Fails when neither can be used.
    pub async fn connect(kubeconfig: Option<&Path>, settings: Settings) -> Result<Self, ConnectError> {
        let Settings { lease_namespace, lease_name, timeouts, fence, clock } = settings;
        let (api, namespace) = Api::connect(kubeconfig, timeouts, fence).await?;
        let namespace = lease_namespace.unwrap_or(namespace);
        Ok(Self {
            api,
            view: Rc::default(),
            clock,
            lease: (format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"), lease_name),
            lock: RefCell::default(),
            recent: RefCell::default(),
        })
    }

    /// The watches. What they and the calls here show is kept in step.
    #[must_use]
    pub fn watch(&self) -> ClusterWatch {
        ClusterWatch::new(self.api.clone(), Rc::clone(&self.view))
    }

    /// Whether the watches have shown all pods and PodDNATs once.
    #[must_use]
    pub fn is_watched(&self) -> bool {
        let view = self.view.borrow();
        view.pods.has_been_listed() && view.claims.has_been_listed()
    }

    /// UID of the Namespace kube-system, which is the cluster's identity.
    ///
    /// # Errors
    /// Fails when it cannot be read.
    pub async fn uid(&self) -> Result<String, ClusterError> {
        let namespace: NamedObject = self.api.get(KUBE_SYSTEM).await.map_err(|failure| failure.of("read_namespace"))?;
        Ok(namespace.metadata.uid)
    }

    /// Reads the served definition of the PodDNAT. From then on PodDNATs are written as it takes them: without what it would
    /// prune of what is ours, and with the status as a part of the object where it is no subresource. What is new is said.
    /// Every listing of PodDNATs looks again, for others may apply a definition of theirs.
    ///
    /// # Errors
    /// Fails when there is none of the version that is spoken, or it cannot be read.
    pub async fn examine(&self) -> Result<(), ExamineError> {
        let served: Option<Value> = match found(self.api.get(CRD).await) {
            Ok(served) => served,
            Err(failure) if failure.class == ClusterErrorClass::Refused => {
                tracing::debug!("{}: PodDNATs are written as if nothing were pruned", failure.of("read_crd"));
                return Ok(());
            }
            Err(failure) => return Err(failure.of("read_crd").into()),
        };
        self.view.borrow_mut().define(crd::examine(&served.ok_or(NotServed)?)?);
        Ok(())
    }

    /// All PodDNATs as objects, for whoever shows them.
    ///
    /// # Errors
    /// Fails when they cannot be read.
    pub async fn poddnats(&self) -> Result<Vec<PodDnat>, ClusterError> {
        let claims = list::<ClaimObject>(&self.api, &Resource::claims()).await.map_err(|failure| failure.of("list"))?;
        Ok(claims.items.into_iter().map(PodDnat::from).collect())
    }

    /// The pods that carry a word of ours, with address and word, for whoever shows them.
    ///
    /// # Errors
    /// Fails when they cannot be read.
    pub async fn pods_said(&self) -> Result<Vec<(PodKey, Option<Ipv4Addr>, PodStatus)>, ClusterError> {
        let pods = list::<PodObject>(&self.api, &Resource::pods()).await.map_err(|failure| failure.of("list"))?;
        let said = |pod: &PodObject| {
            let status = pod.metadata.annotations.as_ref()?.get(STATUS_ANNOTATION)?;
            Some((pod.meta().key(), pod.ip(), serde_json::from_str(status).ok()?))
        };
        Ok(pods.items.iter().filter_map(said).collect())
    }

    pub(super) async fn list_all_pods(&self) -> Result<Vec<PodSeen>, Failure> {
        let places = self.places().await?;
        let floor = self.view.borrow().pods.floor();
        let Listed { items, version } = list::<PodObject>(&self.api, &Resource::pods()).await?;
        let pods: Vec<_> = items.iter().map(|pod| (pod.meta(), pod.observe(&places))).collect();
        self.look_back(floor, version);
        note(&mut self.view.borrow_mut().pods, version, pods.iter().map(|(meta, seen)| (*meta, asks(seen))));
        Ok(pods.into_iter().map(|(_, seen)| seen).collect())
    }

    pub(super) async fn list_all_claims(&self) -> Result<Vec<ClaimSeen>, Failure> {
        if let Err(error) = self.examine().await {
            tracing::warn!("{error}");
        }
        let floor = self.view.borrow().claims.floor();
        let Listed { items, version } = list::<ClaimObject>(&self.api, &Resource::claims()).await?;
        self.look_back(floor, version);
        let mut claims = Vec::with_capacity(items.len());
        for claim in items {
            // Written since, by us or seen by the watch: what the list says of it must not be taken for news.
            let outdated = self.view.borrow().claims.knows_newer(claim.meta());
            claims.push(if outdated { self.get_claim(&claim.meta().key()).await? } else { Some(claim) });
        }
        let claims: Vec<_> = claims.into_iter().flatten().collect();
        note(&mut self.view.borrow_mut().claims, version, claims.iter().map(|claim| (claim.meta(), true)));
        let kept = self.view.borrow().definition.kept();
        Ok(claims.into_iter().map(|claim| claim_of(&PodDnat::from(claim), kept)).collect())
    }

    /// Reads a PodDNAT, for it may be written next.
    pub(super) async fn read_object(&self, key: &PodKey) -> Result<Option<PodDnat>, Failure> {
        let object = self.get_claim(key).await?.map(PodDnat::from);
        if let Some(object) = &object {
            self.keep(key, object.clone());
        }
        Ok(object)
    }

    /// The PodDNAT that was found, to be written over.
    pub(super) async fn standing(&self, key: &PodKey, uid: &str, version: &str) -> Result<PodDnat, Failure> {
        let kept = self.recent.borrow_mut().remove(key);
        let same = |object: &PodDnat| object.metadata.uid == uid && object.metadata.resource_version == version;
        if let Some(object) = kept.filter(same) {
            return Ok(object);
        }
        match self.get_claim(key).await?.map(PodDnat::from) {
            Some(object) if same(&object) => Ok(object),
            Some(object) => {
                let at = &object.metadata.resource_version;
                let message = format!("the object has been modified: it is at version {at}, not {version}");
                Err(Failure::new(ClusterErrorClass::Conflict, message))
            }
            None => Err(Failure::new(ClusterErrorClass::Gone, format!("there is no PodDNAT {key}"))),
        }
    }

    /// A write was answered with that object.
    pub(super) fn written(&self, key: &PodKey, object: PodDnat) {
        let metadata = &object.metadata;
        let meta = Meta {
            namespace: key.namespace(),
            name: key.name(),
            uid: &metadata.uid,
            version: &metadata.resource_version,
        };
        self.view.borrow_mut().claims.note_written(meta);
        self.keep(key, object);
    }

    async fn get_claim(&self, key: &PodKey) -> Result<Option<ClaimObject>, Failure> {
        found(self.api.get(&claim_path(key)).await)
    }

    fn keep(&self, key: &PodKey, object: PodDnat) {
        let mut recent = self.recent.borrow_mut();
        if recent.len() >= RECENT_MAX {
            recent.clear();
        }
        recent.insert(key.clone(), object);
    }

    /// Versions of consistent lists, one begun after the other has ended, never fall.
    fn look_back(&self, floor: u64, version: Option<u64>) {
        self.view.borrow_mut().set_back |= version.is_some_and(|version| version < floor);
    }

    /// Which Namespaces are being deleted and which Nodes are virtual.
    async fn places(&self) -> Result<Places, Failure> {
        let namespaces = list::<NamedObject>(&self.api, &Resource::namespaces()).await?;
        let nodes = list::<NamedObject>(&self.api, &Resource::virtual_nodes()).await?;
        let deleting = namespaces.items.into_iter().filter(|namespace| namespace.metadata.is_deleting());
        Ok(Places {
            terminating: deleting.map(|namespace| namespace.metadata.name).collect(),
            virtual_nodes: nodes.items.into_iter().map(|node| node.metadata.name).collect(),
        })
    }
}

/// The path of a PodDNAT.
pub(super) fn claim_path(key: &PodKey) -> String {
    format!("{}/{}", claims_path(key), key.name())
}

/// The path of the PodDNATs of a Namespace.
pub(super) fn claims_path(key: &PodKey) -> String {
    format!("{CLAIMS}/namespaces/{}/poddnats", key.namespace())
}

/// The path of a pod.
pub(super) fn pod_path(key: &PodKey) -> String {
    format!("/api/v1/namespaces/{}/pods/{}", key.namespace(), key.name())
}

/// An object that does not exist is an answer.
pub(super) fn found<T>(answer: Result<T, Failure>) -> Result<Option<T>, Failure> {
    match answer {
        Ok(object) => Ok(Some(object)),
        Err(failure) if failure.class == ClusterErrorClass::Gone => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// A lock that nobody has written yet.
pub(super) fn no_lock() -> LeaseRecord {
    LeaseRecord::default()
}

fn note<'a>(shown: &mut Shown, version: Option<u64>, objects: impl Iterator<Item = (Meta<'a>, bool)>) {
    let mut uids = std::collections::BTreeSet::new();
    for (meta, concerns) in objects {
        shown.note_listed(meta, version, concerns);
        uids.insert(meta.uid);
    }
    shown.note_list(version, |uid| uids.contains(uid));
}
