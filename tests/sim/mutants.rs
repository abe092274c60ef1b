//! Faults of our own making, put between the controller and the cloud: each must be caught by the invariant it names.

use std::net::Ipv4Addr;

use natgw::machine::identity::{AllocationId, EntryId, GatewayId, Generation, Mark, Stamp, TableId, UidHash};
use natgw::ports::cloud::{
    Chain, Cloud, CloudError, CreateEntry, DeleteEntry, EntryStatus, ListedEip, ListedEntry, ListedGateway,
    ListedInterface, ListedRouteTable, Page,
};
use natgw::sandbox::vpc::SimulatedCloud;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    None,
    /// Records count as durable as soon as they are handed over.
    ForgottenSync,
    /// A repeated creation has another token in each life.
    NewToken,
    /// Pending entries count as available.
    PendingIsAvailable,
    /// Somebody else's entries count as ours.
    ForeignIsOurs,
    /// Entries that are being deleted count as absent.
    DeletingIsGone,
}

/// Each mutant and the invariant that must catch it.
pub const ALL: [(Mutant, &str); 5] = [
    (Mutant::ForgottenSync, "WriteAhead"),
    (Mutant::NewToken, "SameRequest"),
    (Mutant::PendingIsAvailable, "PublishedAvailable"),
    (Mutant::ForeignIsOurs, "ForeignUntouched"),
    (Mutant::DeletingIsGone, "Rested"),
];

pub struct MutantCloud {
    inner: SimulatedCloud,
    mutant: Mutant,
    life: u64,
}

impl MutantCloud {
    pub fn new(inner: SimulatedCloud, mutant: Mutant, life: u64) -> Self {
        Self { inner, mutant, life }
    }
}

impl Cloud for MutantCloud {
    async fn create_entry(&self, request: &CreateEntry) -> Result<EntryId, CloudError> {
        let mut request = request.clone();
        if self.mutant == Mutant::NewToken {
            request.token = format!("{}-{}", request.token, self.life);
        }
        self.inner.create_entry(&request).await
    }

    async fn delete_entry(&self, request: &DeleteEntry) -> Result<(), CloudError> {
        self.inner.delete_entry(request).await
    }

    async fn list_entries(&self, table: &TableId, page: u32) -> Result<Page<ListedEntry>, CloudError> {
        let mut listed = self.inner.list_entries(table, page).await?;
        match self.mutant {
            Mutant::PendingIsAvailable => {
                listed.items.iter_mut().for_each(|entry| entry.status = EntryStatus::Available);
            }
            Mutant::ForeignIsOurs => {
                let stamp = Stamp { term: 1, n: 999_999 };
                let mark = Mark::new(UidHash::of("c1"), &"x".into(), AllocationId(stamp), Generation(stamp));
                for entry in listed.items.iter_mut().filter(|entry| Mark::parse(&entry.name).is_none()) {
                    entry.name = mark.to_string();
                }
            }
            Mutant::DeletingIsGone => {
                let before = listed.items.len();
                listed.items.retain(|entry| entry.status != EntryStatus::Deleting);
                listed.total -= u32::try_from(before - listed.items.len()).unwrap_or(0);
            }
            Mutant::None | Mutant::ForgottenSync | Mutant::NewToken => {}
        }
        Ok(listed)
    }

    async fn list_gateways(&self, page: u32) -> Result<Page<ListedGateway>, CloudError> {
        self.inner.list_gateways(page).await
    }

    async fn list_eips(&self, gateway: &GatewayId, page: u32) -> Result<Page<ListedEip>, CloudError> {
        self.inner.list_eips(gateway, page).await
    }

    async fn list_route_tables(&self, page: u32) -> Result<Page<ListedRouteTable>, CloudError> {
        self.inner.list_route_tables(page).await
    }

    async fn list_default_routes(&self, table: &str, next: Option<&str>) -> Result<Chain<GatewayId>, CloudError> {
        self.inner.list_default_routes(table, next).await
    }

    async fn list_interfaces(
        &self,
        ips: &[Ipv4Addr],
        next: Option<&str>,
    ) -> Result<Chain<ListedInterface>, CloudError> {
        self.inner.list_interfaces(ips, next).await
    }
}
