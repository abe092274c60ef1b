//! The port `Cloud` spoken over HTTP: the eight actions of the documented RAM policy and no other.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;

use super::classes;
use super::credentials::Credentials;
use super::endpoints::Endpoints;
use super::meter::{Calls, Meter};
use super::rpc::{Action, BuildError, Parameters, Rpc, WallClock, ours, undecodable};
use super::{ecs, vpc};
use crate::machine::identity::{EntryId, GatewayId, TableId};
use crate::ports::cloud::{
    ADDRESSES_MAX, Chain, Cloud, CloudError, CreateEntry, DeleteEntry, ErrorClass, ListedEip, ListedEntry,
    ListedGateway, ListedInterface, ListedRouteTable, Page, Reading,
};

/// What the client has to know besides who calls.
#[derive(Clone, Debug)]
pub struct Settings {
    /// RegionId of every call.
    pub region: String,
    /// The VPC whose gateways, route tables and interfaces are listed.
    pub vpc: String,
    /// Where the products answer.
    pub endpoints: Endpoints,
    /// Total time of a creation or deletion: at most what the lease leaves (design: max(5 s, renewDeadline / 2)).
    pub mutating_timeout: Duration,
    /// Total time of a listing.
    pub reading_timeout: Duration,
}

/// The cloud as natgw calls it.
pub struct AliyunCloud {
    settings: Settings,
    rpc: Rpc,
}

impl AliyunCloud {
    /// Builds the client. Nothing is sent yet.
    ///
    /// # Errors
    ///
    /// Where the TLS roots of the machine cannot be loaded.
    pub fn new(settings: Settings, credentials: Arc<dyn Credentials>, clock: WallClock) -> Result<Self, BuildError> {
        Self::metered(settings, credentials, clock, Arc::new(Calls::default()))
    }

    /// As [`AliyunCloud::new`], with somebody who hears of every call.
    ///
    /// # Errors
    ///
    /// As [`AliyunCloud::new`].
    pub fn metered(
        settings: Settings,
        credentials: Arc<dyn Credentials>,
        clock: WallClock,
        meter: Arc<dyn Meter>,
    ) -> Result<Self, BuildError> {
        let rpc = Rpc::new(credentials, clock, meter, settings.endpoints.plain())?;
        Ok(Self { settings, rpc })
    }

    async fn vpc<T: DeserializeOwned>(&self, name: &'static str, parameters: Parameters) -> Result<T, CloudError> {
        let timeout =
            if classes::is_mutating(name) { self.settings.mutating_timeout } else { self.settings.reading_timeout };
        let action = Action { endpoint: self.settings.endpoints.vpc(), version: vpc::VERSION, name, timeout };
        self.rpc.call(action, parameters).await
    }

    fn region(&self) -> &str {
        &self.settings.region
    }
}

impl Cloud for AliyunCloud {
    async fn create_entry(&self, request: &CreateEntry) -> Result<EntryId, CloudError> {
        let action = classes::CREATE_FORWARD_ENTRY;
        let answer: vpc::Created = self.vpc(action, vpc::create_entry(self.region(), request)).await?;
        answer.entry().map_err(|why| undecodable(action, why))
    }

    async fn delete_entry(&self, request: &DeleteEntry) -> Result<(), CloudError> {
        let parameters = vpc::delete_entry(self.region(), request);
        let vpc::Deleted {} = self.vpc(classes::DELETE_FORWARD_ENTRY, parameters).await?;
        Ok(())
    }

    async fn list_entries(&self, table: &TableId, page: u32) -> Result<Page<ListedEntry>, CloudError> {
        let action = classes::DESCRIBE_FORWARD_TABLE_ENTRIES;
        let answer: vpc::Entries = self.vpc(action, vpc::list_entries(self.region(), table, page)).await?;
        answer.page().map_err(|why| undecodable(action, &why))
    }

    async fn list_gateways(&self, page: u32) -> Result<Page<ListedGateway>, CloudError> {
        let parameters = vpc::of_vpc(self.region(), &self.settings.vpc, page, Reading::Gateways);
        self.vpc(classes::DESCRIBE_NAT_GATEWAYS, parameters).await.map(vpc::Gateways::page)
    }

    async fn list_eips(&self, gateway: &GatewayId, page: u32) -> Result<Page<ListedEip>, CloudError> {
        let parameters = vpc::list_eips(self.region(), gateway, page);
        self.vpc(classes::DESCRIBE_EIP_ADDRESSES, parameters).await.map(vpc::Eips::page)
    }

    async fn list_route_tables(&self, page: u32) -> Result<Page<ListedRouteTable>, CloudError> {
        let parameters = vpc::of_vpc(self.region(), &self.settings.vpc, page, Reading::RouteTables);
        self.vpc(classes::DESCRIBE_ROUTE_TABLE_LIST, parameters).await.map(vpc::RouteTables::page)
    }

    async fn list_default_routes(&self, route_table: &str, next: Option<&str>) -> Result<Chain<GatewayId>, CloudError> {
        let parameters = vpc::list_default_routes(self.region(), route_table, next);
        self.vpc(classes::DESCRIBE_ROUTE_ENTRY_LIST, parameters).await.map(vpc::Routes::chain)
    }

    async fn list_interfaces(
        &self,
        addresses: &[Ipv4Addr],
        next: Option<&str>,
    ) -> Result<Chain<ListedInterface>, CloudError> {
        let name = classes::DESCRIBE_NETWORK_INTERFACES;
        // Without an address the filter is gone and the answer is every interface of the VPC.
        if addresses.is_empty() || addresses.len() > ADDRESSES_MAX {
            let message = format!("{} addresses, where 1 to {ADDRESSES_MAX} can be asked for", addresses.len());
            return Err(ours(name, ErrorClass::Malformed, "addresses", message));
        }
        let Settings { endpoints, reading_timeout, vpc, .. } = &self.settings;
        let action = Action { endpoint: endpoints.ecs(), version: ecs::VERSION, name, timeout: *reading_timeout };
        let parameters = ecs::list_interfaces(self.region(), vpc, addresses, next);
        self.rpc.call(action, parameters).await.map(ecs::Interfaces::chain)
    }
}
