//! The model behind the cloud port, for a simulator that polls its futures itself.
//!
//! A call is one suspension. **First poll**: the request is sent; whatever it does at once is done, what is late is
//! scheduled, and the future returns `Pending`. **Second poll**: the reply is received. A future dropped before its first
//! poll sent nothing; one dropped between the two lost a reply whose effect stands. The waker is called before `Pending`
//! is returned, so that a real runtime polls again; the simulator polls when it likes and so decides how long a call
//! takes. A reply that never arrives is [`ErrorClass::Unknown`] with code `timeout`, as after the adapter's own time-out.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::task::Poll;

use super::attributes::Filters;
use super::ports::Ports;
use super::reply::{Answer, Numbered, Part, Reply, ShownEip, ShownEntry, ShownGateway};
use super::request::{EntryFilter, NewEntry, PageSpec, PartSpec, Request};
use super::table::EntryStatus;
use super::world::{DEFAULT_ROUTE, EipStatus, GatewayStatus, Hop, Interface, Route, RouteTable};
use super::{Refusal, Vpc};
use crate::cloud::classes::class_of;
use crate::machine::identity::{EntryId, GatewayId, TableId};
use crate::ports::cloud::{
    self as port, Chain, Cloud, CloudError, CreateEntry, DeleteEntry, ErrorClass, ListedEip, ListedEntry,
    ListedGateway, ListedInterface, ListedRouteTable, Page, PortSpec,
};

/// Sizes of pages and parts: the documented maxima, as the real adapter asks for.
const PAGE_SIZE: u32 = 50;
const EIP_PAGE_SIZE: u32 = 100;
const PART_SIZE: u32 = 100;

/// The cloud port over a shared model and a shared clock.
#[derive(Clone, Debug)]
pub struct SimulatedCloud {
    vpc: Rc<RefCell<Vpc>>,
    now_ms: Rc<Cell<u64>>,
    entries_per_page: u32,
}

impl SimulatedCloud {
    /// A port to that model. The clock is read when a request is sent.
    #[must_use]
    pub const fn new(vpc: Rc<RefCell<Vpc>>, now_ms: Rc<Cell<u64>>) -> Self {
        Self { vpc, now_ms, entries_per_page: PAGE_SIZE }
    }

    /// Lists entries in pages of so many, from 1 to 50, so that a table of few entries is one of several pages.
    #[must_use]
    pub fn paging_by(self, entries_per_page: u32) -> Self {
        Self { entries_per_page, ..self }
    }

    async fn call(&self, request: Request) -> Result<Answer, CloudError> {
        let action = request.action();
        let mut sent: Option<Reply> = None;
        let Reply { request_id, answer, wait_ms } = poll_fn(|context| match sent.take() {
            None => {
                sent = Some(self.vpc.borrow_mut().handle(self.now_ms.get(), &request));
                context.waker().wake_by_ref();
                Poll::Pending
            }
            Some(reply) => Poll::Ready(reply),
        })
        .await;
        let error = |class, code: &str, message: &str, request_id: &str| CloudError {
            action,
            class,
            code: code.to_owned(),
            message: message.to_owned(),
            request_id: request_id.to_owned(),
        };
        match answer {
            Some(Ok(answer)) => Ok(answer),
            Some(Err(Refusal { status, code, message })) => {
                let class = match class_of(action, status, &code, &message) {
                    ErrorClass::Throttled { after_ms: _ } => ErrorClass::Throttled { after_ms: wait_ms },
                    other => other,
                };
                Err(error(class, &code, &message, &request_id))
            }
            None => Err(error(ErrorClass::Unknown, "timeout", "no answer arrived in time", "-")),
        }
    }

    async fn list<T>(&self, request: Request, take: impl FnOnce(Answer) -> Option<T>) -> Result<T, CloudError> {
        let action = request.action();
        let answer = self.call(request).await?;
        take(answer).ok_or_else(|| CloudError {
            action,
            class: ErrorClass::Unknown,
            code: "undecodable".to_owned(),
            message: "the answer belongs to another action".to_owned(),
            request_id: "-".to_owned(),
        })
    }

    fn vpc_id(&self) -> String {
        self.vpc.borrow().world().vpc.clone()
    }
}

impl Cloud for SimulatedCloud {
    async fn create_entry(&self, request: &CreateEntry) -> Result<EntryId, CloudError> {
        let entry = NewEntry {
            port_break: request.port_break,
            ..NewEntry::of(request.table.clone(), request.tuple, request.name.clone())
        };
        let request = Request::CreateForwardEntry { entry, token: Some(request.token.clone()), dry_run: false };
        self.list(request, |answer| if let Answer::Created(entry) = answer { Some(entry) } else { None }).await
    }

    async fn delete_entry(&self, request: &DeleteEntry) -> Result<(), CloudError> {
        let DeleteEntry { table, entry, token } = request.clone();
        let request = Request::DeleteForwardEntry { table, entry, token: Some(token) };
        self.list(request, |answer| (answer == Answer::DeletionAccepted).then_some(())).await
    }

    async fn list_entries(&self, table: &TableId, page: u32) -> Result<Page<ListedEntry>, CloudError> {
        let request = Request::DescribeForwardTableEntries {
            table: Some(table.clone()),
            gateway: None,
            filter: EntryFilter::default(),
            page: PageSpec { number: page, size: self.entries_per_page },
        };
        let take =
            |answer| if let Answer::Entries(entries) = answer { Some(paged(entries, listed_entry)) } else { None };
        self.list(request, take).await
    }

    async fn list_gateways(&self, page: u32) -> Result<Page<ListedGateway>, CloudError> {
        let request = Request::DescribeNatGateways {
            vpc: Some(self.vpc_id()),
            gateway: None,
            zone: None,
            page: PageSpec { number: page, size: PAGE_SIZE },
            more: Filters::default(),
        };
        let take = |answer| {
            if let Answer::Gateways(gateways) = answer { Some(paged(gateways, listed_gateway)) } else { None }
        };
        self.list(request, take).await
    }

    async fn list_eips(&self, gateway: &GatewayId, page: u32) -> Result<Page<ListedEip>, CloudError> {
        let request = Request::DescribeEipAddresses {
            gateway: Some(gateway.clone()),
            addresses: Vec::new(),
            allocations: Vec::new(),
            page: PageSpec { number: page, size: EIP_PAGE_SIZE },
            more: Filters::default(),
        };
        let take = |answer| if let Answer::Eips(eips) = answer { Some(paged(eips, listed_eip)) } else { None };
        self.list(request, take).await
    }

    async fn list_route_tables(&self, page: u32) -> Result<Page<ListedRouteTable>, CloudError> {
        let request = Request::DescribeRouteTableList {
            vpc: Some(self.vpc_id()),
            route_table: None,
            page: PageSpec { number: page, size: PAGE_SIZE },
            more: Filters::default(),
        };
        let take = |answer| {
            if let Answer::RouteTables(tables) = answer { Some(paged(tables, listed_route_table)) } else { None }
        };
        self.list(request, take).await
    }

    async fn list_default_routes(&self, route_table: &str, next: Option<&str>) -> Result<Chain<GatewayId>, CloudError> {
        let request = Request::DescribeRouteEntryList {
            route_table: route_table.to_owned(),
            destination: Some(DEFAULT_ROUTE.to_owned()),
            hop_type: Some("NatGateway".to_owned()),
            part: PartSpec { max: Some(PART_SIZE), next: next.map(str::to_owned) },
            more: Filters::default(),
        };
        let take =
            |answer| if let Answer::Routes(routes) = answer { Some(chained(routes, next_gateway)) } else { None };
        self.list(request, take).await
    }

    async fn list_interfaces(
        &self,
        addresses: &[Ipv4Addr],
        next: Option<&str>,
    ) -> Result<Chain<ListedInterface>, CloudError> {
        let request = Request::DescribeNetworkInterfaces {
            vpc: Some(self.vpc_id()),
            vswitch: None,
            addresses: addresses.to_vec(),
            interfaces: Vec::new(),
            part: PartSpec { max: Some(PART_SIZE), next: next.map(str::to_owned) },
            more: Filters::default(),
        };
        let take = |answer| {
            let Answer::Interfaces(interfaces) = answer else { return None };
            Some(chained(interfaces, |interface| Some(listed_interface(interface))))
        };
        self.list(request, take).await
    }
}

fn paged<T, U>(page: Numbered<T>, listed: impl Fn(T) -> U) -> Page<U> {
    Page { items: page.items.into_iter().map(listed).collect(), total: page.total }
}

fn chained<T, U>(part: Part<T>, listed: impl Fn(T) -> Option<U>) -> Chain<U> {
    Chain { items: part.items.into_iter().filter_map(listed).collect(), next: part.next }
}

fn listed_entry(shown: ShownEntry) -> ListedEntry {
    let status = match (shown.odd_status, shown.entry.status) {
        (Some(_), _) => port::EntryStatus::Other,
        (None, EntryStatus::Pending) => port::EntryStatus::Pending,
        (None, EntryStatus::Available) => port::EntryStatus::Available,
        (None, EntryStatus::Deleting) => port::EntryStatus::Deleting,
    };
    let (entry, spec) = (shown.entry.id, shown.entry.spec);
    ListedEntry {
        id: entry,
        name: spec.name,
        external_ip: spec.external_ip,
        external_port: port_spec(spec.external_port),
        internal_ip: spec.internal_ip,
        internal_port: port_spec(spec.internal_port),
        protocol: spec.protocol.one(),
        status,
    }
}

const fn port_spec(ports: Ports) -> PortSpec {
    match ports {
        Ports::One(port) => PortSpec::One(port),
        Ports::Range(first, last) => PortSpec::Range(first, last),
        Ports::Any => PortSpec::Any,
    }
}

fn listed_gateway(shown: ShownGateway) -> ListedGateway {
    let available = shown.status() == GatewayStatus::Available.as_str();
    ListedGateway {
        id: shown.id,
        table: Some(shown.table),
        zone: Some(shown.zone),
        available,
        snat: shown.ips.iter().filter(|ip| ip.snat).map(|ip| ip.address).collect(),
    }
}

fn listed_eip(shown: ShownEip) -> ListedEip {
    ListedEip { address: shown.address, usable: shown.status() == EipStatus::InUse.as_str() && !shown.locked }
}

fn listed_route_table(table: RouteTable) -> ListedRouteTable {
    ListedRouteTable { id: table.id, system: table.system, vswitches: table.vswitches }
}

fn next_gateway(route: Route) -> Option<GatewayId> {
    match route.hop {
        Hop::NatGateway(gateway) if route.available && route.destination == DEFAULT_ROUTE => Some(gateway),
        Hop::NatGateway(_) | Hop::Local | Hop::Instance(_) => None,
    }
}

fn listed_interface(interface: Interface) -> ListedInterface {
    ListedInterface {
        eni: interface.id,
        vswitch: interface.vswitch,
        zone: interface.zone,
        addresses: interface.addresses,
    }
}
