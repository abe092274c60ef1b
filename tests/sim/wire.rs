//! The ports as one life of one replica sees them: what may go wrong between it and the outside, and what was asked.
//!
//! A call is one suspension: sent at its first poll, answered at a later one. Who waits longer for the answer than an
//! adapter would is told `Unknown`.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::task::Poll;

use natgw::machine::event::seen::{ClaimSeen, PodSeen};
use natgw::machine::identity::{EntryId, GatewayId, PodKey, TableId};
use natgw::ports::cloud::{
    Chain, Cloud, CloudError, CreateEntry, DeleteEntry, ErrorClass, ListedEip, ListedEntry, ListedGateway,
    ListedInterface, ListedRouteTable, Page,
};
use natgw::ports::cluster::{
    ClaimFound, Cluster, ClusterError, ClusterErrorClass, Lease, LeaseRecord, Mapping, PodMark, Publication,
};
use natgw::sandbox::cluster::{Model, SimulatedCluster};
use natgw::sandbox::vpc::SimulatedCloud;

use crate::faults::{Fault, Faults};
use crate::mutants::Mutant;

/// How long an adapter waits for an answer: min(5 s, renewDeadline / 2).
pub const TIMEOUT_MS: u64 = 5_000;

/// An annotation that a conflicting writer counts in.
const RIVAL: &str = "example.com/edited";

/// What was asked, when it left.
#[derive(Clone, Debug)]
pub struct Call {
    pub at_ms: u64,
    pub replica: usize,
    /// Lives of all replicas are counted together.
    pub life: u64,
    pub what: What,
}

/// A call that changes something, or that lets something be concluded.
#[derive(Clone, Debug)]
#[expect(dead_code, reason = "evidence, which is printed")]
pub enum What {
    Create(CreateEntry),
    Delete(DeleteEntry),
    /// One page of a table was answered: the page, the ids of its entries, and the total that it names.
    Listed(TableId, u32, Vec<EntryId>, u32),
    /// Pods were listed.
    PodsListed,
    ClaimsListed,
    CreateClaim(Mapping),
    ReplaceClaim(Mapping),
    Publish(Publication),
    DeleteClaim(PodKey, String),
    StripFinalizer(PodKey),
    MarkPod(PodMark),
    Announce,
    /// A PodDNAT was written over: the version that was read, and the one that was there.
    WroteOver(PodKey, String, Option<String>),
    /// The lock was written: what was asked, whether the write stood, and when it was sent.
    WroteLease(LeaseRecord, bool, u64),
}

impl What {
    /// Whether it changes pods, PodDNATs or entries.
    pub const fn mutates(&self) -> bool {
        match self {
            Self::Create(_)
            | Self::Delete(_)
            | Self::CreateClaim(_)
            | Self::ReplaceClaim(_)
            | Self::Publish(_)
            | Self::DeleteClaim(..)
            | Self::StripFinalizer(_)
            | Self::MarkPod(_)
            | Self::Announce => true,
            Self::Listed(..) | Self::PodsListed | Self::ClaimsListed | Self::WroteOver(..) | Self::WroteLease(..) => {
                false
            }
        }
    }
}

/// What all wires share.
pub struct Outside {
    pub now: Rc<Cell<u64>>,
    pub model: Rc<RefCell<Model>>,
    pub cluster: SimulatedCluster,
    pub cloud: SimulatedCloud,
    pub faults: RefCell<Faults>,
    pub calls: RefCell<Vec<Call>>,
    /// Until when the API server answers nobody.
    pub outage_until: Cell<u64>,
    /// Until when each replica does not reach the API server.
    pub cut_until: RefCell<Vec<u64>>,
    /// Which kind of call is forbidden, and until when.
    pub forbidden: Cell<(&'static str, u64)>,
    /// The last listing of each kind, for the mutant that shows it again.
    pub stale: RefCell<Stale>,
}

/// Pods and PodDNATs as they were listed before.
type Stale = (Option<Vec<PodSeen>>, Option<Vec<ClaimSeen>>);

/// The ports of one life.
#[derive(Clone)]
pub struct Wire {
    pub outside: Rc<Outside>,
    pub replica: usize,
    pub life: u64,
    pub mutant: Mutant,
}

/// Kinds of calls that may be forbidden for a while.
pub const KINDS: [&str; 6] =
    ["list_pods", "list_claims", "create_claim", "write_status", "mark_pod", "strip_finalizer"];

impl Wire {
    pub fn note(&self, what: What) {
        let call = Call { at_ms: self.outside.now.get(), replica: self.replica, life: self.life, what };
        self.outside.calls.borrow_mut().push(call);
    }

    fn strikes(&self, fault: Fault) -> bool {
        self.outside.faults.borrow_mut().strikes(fault)
    }

    /// What becomes of a call to the API server before it arrives.
    fn lost(&self, call: &'static str) -> Option<ClusterErrorClass> {
        let (now, outside) = (self.outside.now.get(), &self.outside);
        let (kind, until) = outside.forbidden.get();
        if outside.outage_until.get() > now || outside.cut_until.borrow()[self.replica] > now {
            return Some(ClusterErrorClass::Unknown);
        }
        if kind == call && until > now {
            return Some(ClusterErrorClass::Refused);
        }
        if self.strikes(Fault::WriteLost) {
            return Some(ClusterErrorClass::Unknown);
        }
        self.strikes(Fault::ApiBusy).then_some(ClusterErrorClass::Busy)
    }

    async fn to_cluster<T>(
        &self,
        call: &'static str,
        over: Option<(&PodKey, &ClaimFound)>,
        writes: bool,
        act: impl Future<Output = Result<T, ClusterError>>,
    ) -> Result<T, ClusterError> {
        let failed = |class, message: &str| ClusterError { call, class, message: message.to_owned() };
        if let Some(class) = self.lost(call) {
            suspend().await;
            return Err(failed(class, "the API server was not reached, or refused"));
        }
        if let Some((key, _)) = over
            && self.strikes(Fault::WriteConflict)
        {
            let mut model = self.outside.model.borrow_mut();
            let version = model.version().to_string();
            model.edit_claim(key, |object| drop(object.metadata.annotations.insert(RIVAL.to_owned(), version)));
        }
        let unanswered = writes && self.strikes(Fault::WriteUnanswered);
        let sent_ms = self.outside.now.get();
        let there = over.and_then(|(key, _)| self.outside.model.borrow().read_claim(key));
        let answer = act.await;
        let late = self.outside.now.get() > sent_ms + TIMEOUT_MS;
        if let (Some((key, read)), true) = (over, answer.is_ok()) {
            let there = there.map(|found| found.resource_version);
            self.note(What::WroteOver(key.clone(), read.resource_version.clone(), there));
        }
        if unanswered && call == "write_lease" && answer.is_ok() {
            self.outside.faults.borrow_mut().happened(Fault::RenewalUnanswered, 1);
        }
        if unanswered || late { Err(failed(ClusterErrorClass::Unknown, "no answer arrived in time")) } else { answer }
    }

    async fn to_cloud<T>(
        &self,
        action: &'static str,
        act: impl Future<Output = Result<T, CloudError>>,
    ) -> Result<T, CloudError> {
        let sent_ms = self.outside.now.get();
        let answer = act.await;
        if self.outside.now.get() > sent_ms + TIMEOUT_MS {
            let (code, message) = ("timeout".to_owned(), "no answer arrived in time".to_owned());
            return Err(CloudError { action, class: ErrorClass::Unknown, code, message, request_id: "-".to_owned() });
        }
        answer
    }
}

/// One suspension without a call.
async fn suspend() {
    let mut waited = false;
    poll_fn(|_| if std::mem::replace(&mut waited, true) { Poll::Ready(()) } else { Poll::Pending }).await;
}

impl Cluster for Wire {
    async fn list_pods(&self) -> Result<Vec<PodSeen>, ClusterError> {
        let pods = self.to_cluster("list_pods", None, false, self.outside.cluster.list_pods()).await?;
        self.note(What::PodsListed);
        Ok(self.mutant.shown_pods(&mut self.outside.stale.borrow_mut().0, pods))
    }

    async fn list_claims(&self) -> Result<Vec<ClaimSeen>, ClusterError> {
        let claims = self.to_cluster("list_claims", None, false, self.outside.cluster.list_claims()).await?;
        self.note(What::ClaimsListed);
        Ok(self.mutant.shown_claims(&mut self.outside.stale.borrow_mut().1, claims))
    }

    async fn read_claim(&self, key: &PodKey) -> Result<Option<ClaimFound>, ClusterError> {
        self.to_cluster("read_claim", None, false, self.outside.cluster.read_claim(key)).await
    }

    async fn create_claim(&self, mapping: &Mapping) -> Result<ClaimFound, ClusterError> {
        self.note(What::CreateClaim(mapping.clone()));
        self.to_cluster("create_claim", None, true, self.outside.cluster.create_claim(mapping)).await
    }

    async fn replace_claim(&self, mapping: &Mapping, found: &ClaimFound) -> Result<ClaimFound, ClusterError> {
        self.note(What::ReplaceClaim(mapping.clone()));
        let over = self.mutant.found(&self.outside, &mapping.key, found);
        let act = self.outside.cluster.replace_claim(mapping, &over);
        self.to_cluster("replace_claim", Some((&mapping.key, found)), true, act).await
    }

    async fn write_status(&self, publication: &Publication, found: &ClaimFound) -> Result<(), ClusterError> {
        if self.mutant.swallows_withdrawal(publication) {
            suspend().await;
            return Ok(());
        }
        self.note(What::Publish(publication.clone()));
        let over = self.mutant.found(&self.outside, &publication.key, found);
        let act = self.outside.cluster.write_status(publication, &over);
        self.to_cluster("write_status", Some((&publication.key, found)), true, act).await
    }

    async fn delete_claim(&self, key: &PodKey, uid: &str) -> Result<(), ClusterError> {
        self.note(What::DeleteClaim(key.clone(), uid.to_owned()));
        self.to_cluster("delete_claim", None, true, self.outside.cluster.delete_claim(key, uid)).await
    }

    async fn strip_finalizer(&self, key: &PodKey, found: &ClaimFound) -> Result<(), ClusterError> {
        self.note(What::StripFinalizer(key.clone()));
        let act = self.outside.cluster.strip_finalizer(key, found);
        self.to_cluster("strip_finalizer", Some((key, found)), true, act).await
    }

    async fn mark_pod(&self, mark: &PodMark) -> Result<(), ClusterError> {
        self.note(What::MarkPod(mark.clone()));
        self.to_cluster("mark_pod", None, true, self.outside.cluster.mark_pod(mark)).await
    }

    async fn announce(&self, mark: &PodMark) -> Result<(), ClusterError> {
        self.note(What::Announce);
        self.to_cluster("announce", None, true, self.outside.cluster.announce(mark)).await
    }
}

impl Lease for Wire {
    async fn read_lease(&self) -> Result<LeaseRecord, ClusterError> {
        self.to_cluster("read_lease", None, false, self.outside.cluster.read_lease()).await
    }

    async fn write_lease(&self, record: &LeaseRecord) -> Result<LeaseRecord, ClusterError> {
        let record = &self.mutant.written_lease(&self.outside, record);
        let sent_ms = self.outside.now.get();
        let written = self.to_cluster("write_lease", None, true, self.outside.cluster.write_lease(record)).await;
        self.note(What::WroteLease(record.clone(), written.is_ok(), sent_ms));
        written
    }
}

impl Cloud for Wire {
    async fn create_entry(&self, request: &CreateEntry) -> Result<EntryId, CloudError> {
        let request = self.mutant.creation(self.life, request);
        self.note(What::Create(request.clone()));
        self.to_cloud("CreateForwardEntry", self.outside.cloud.create_entry(&request)).await
    }

    async fn delete_entry(&self, request: &DeleteEntry) -> Result<(), CloudError> {
        self.note(What::Delete(request.clone()));
        self.to_cloud("DeleteForwardEntry", self.outside.cloud.delete_entry(request)).await
    }

    async fn list_entries(&self, table: &TableId, page: u32) -> Result<Page<ListedEntry>, CloudError> {
        let act = self.outside.cloud.list_entries(table, page);
        let mut listed = self.to_cloud("DescribeForwardTableEntries", act).await?;
        self.mutant.shown_entries(&mut listed);
        let ids = listed.items.iter().map(|entry| entry.id.clone()).collect();
        self.note(What::Listed(table.clone(), page, ids, listed.total));
        Ok(listed)
    }

    async fn list_gateways(&self, page: u32) -> Result<Page<ListedGateway>, CloudError> {
        self.to_cloud("DescribeNatGateways", self.outside.cloud.list_gateways(page)).await
    }

    async fn list_eips(&self, gateway: &GatewayId, page: u32) -> Result<Page<ListedEip>, CloudError> {
        self.to_cloud("DescribeEipAddresses", self.outside.cloud.list_eips(gateway, page)).await
    }

    async fn list_route_tables(&self, page: u32) -> Result<Page<ListedRouteTable>, CloudError> {
        self.to_cloud("DescribeRouteTableList", self.outside.cloud.list_route_tables(page)).await
    }

    async fn list_default_routes(&self, table: &str, next: Option<&str>) -> Result<Chain<GatewayId>, CloudError> {
        self.to_cloud("DescribeRouteEntryList", self.outside.cloud.list_default_routes(table, next)).await
    }

    async fn list_interfaces(
        &self,
        ips: &[Ipv4Addr],
        next: Option<&str>,
    ) -> Result<Chain<ListedInterface>, CloudError> {
        self.to_cloud("DescribeNetworkInterfaces", self.outside.cloud.list_interfaces(ips, next)).await
    }
}
