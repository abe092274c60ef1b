//! Listings of more than one page, of everything that has pages, on the simulated cloud; and pages that lack something.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use natgw::executor;
use natgw::machine::event::Event;
use natgw::machine::identity::{EntryId, GatewayId, TableId};
use natgw::ports::cloud::{
    Chain, Cloud, CloudError, CreateEntry, DeleteEntry, ListedEip, ListedEntry, ListedGateway, ListedInterface,
    ListedRouteTable, Page,
};
use natgw::ports::effect::{Incomplete, ListError, ListRequest, Listing};
use natgw::sandbox::cluster::{Model, Settings, SimulatedCluster};
use natgw::sandbox::vpc::{
    Behaviour, Eip, Faults, Hop, LedgerLine, NatGateway, RequestLine, Route, RouteTable, SimulatedCloud, Vpc, World,
};

use crate::stage::Stage;

/// More than two pages of 50.
const MANY: u16 = 110;

/// One zone whose gateway, route table and route stand on the last page each, and with more EIPs than a page of 100 holds.
fn large() -> World {
    let mut world = World::new(1, 1);
    let (gateway, table) = (world.gateways.remove(0), world.route_tables.remove(1));
    let [bound] = gateway.eips.as_slice() else { panic!("one EIP") };
    for n in 0..MANY {
        let (id, table) = (GatewayId::new(format!("ngw-other-{n:03}")), TableId::new(format!("ftb-other-{n:03}")));
        world.gateways.push(NatGateway { id, table, eips: Vec::new(), ..gateway.clone() });
        let vswitches = vec![format!("vsw-other-{n:03}").as_str().into()];
        world.route_tables.push(RouteTable {
            id: format!("vtb-other-{n:03}"),
            system: false,
            vswitches,
            routes: Vec::new(),
        });
    }
    let eips = (0..MANY).map(|n| {
        let [high, low] = n.to_be_bytes();
        Eip { address: [198, 18, high, low].into(), allocation: format!("eip-{n:03}"), ..bound.clone() }
    });
    world.gateways.push(NatGateway { eips: eips.chain([bound.clone()]).collect(), ..gateway.clone() });
    let route = table.routes.iter().find(|route| route.hop == Hop::NatGateway(gateway.id.clone())).unwrap();
    let elsewhere =
        (0..MANY).map(|n| Route { hop: Hop::NatGateway(format!("ngw-other-{n:03}").as_str().into()), ..route.clone() });
    world.route_tables.push(RouteTable { routes: elsewhere.chain([route.clone()]).collect(), ..table });
    world
}

/// The calls of each action.
fn calls(ledger: &[LedgerLine]) -> BTreeMap<String, u32> {
    let mut calls = BTreeMap::new();
    for line in ledger {
        if let LedgerLine::Request(RequestLine { action, .. }) = line {
            *calls.entry(action.to_string()).or_default() += 1;
        }
    }
    calls
}

#[test]
fn what_stands_on_the_last_page_is_read_like_what_stands_on_the_first() {
    let mut stage = Stage::within(large());
    // More entries than two pages of 50, in one table.
    stage.vpc.borrow_mut().behaviour_mut().entry_quota = 1_000;
    stage.scale(u32::from(MANY));
    stage.run_until(|stage| stage.mapped() == usize::from(MANY));
    stage.settle();
    let events: Vec<&Event> = stage.records.iter().map(|record| &record.event).collect();
    let gateways: Vec<_> = events
        .iter()
        .filter_map(|event| if let Event::GatewaySeen(seen) = event { Some(seen) } else { None })
        .collect();
    assert_eq!(gateways.len(), 1, "of the configured one");
    assert_eq!((gateways[0].gateway.as_str(), gateways[0].eips.len()), ("ngw-sandbox-j", usize::from(MANY) + 1));
    let routes: Vec<_> =
        events.iter().filter_map(|event| if let Event::RouteSeen(seen) = event { Some(seen) } else { None }).collect();
    let ours = routes.iter().find(|seen| seen.vswitch == "vsw-sandbox-j").unwrap();
    assert_eq!((ours.gateways.len(), ours.gateways.last().unwrap().as_str()), (usize::from(MANY) + 1, "ngw-sandbox-j"));
    assert_eq!(routes.len(), usize::from(MANY) + 1, "of each vSwitch");
    let calls = calls(&stage.take_ledger());
    let surveys = calls["DescribeNatGateways"] / 3;
    assert!(surveys >= 1, "{calls:?}");
    assert_eq!(calls["DescribeNatGateways"], 3 * surveys, "{calls:?}");
    assert_eq!(calls["DescribeEipAddresses"], 2 * surveys, "{calls:?}");
    let round = calls["DescribeRouteTableList"] / 3;
    // Each table once, and the one of 111 routes twice.
    assert_eq!(calls["DescribeRouteEntryList"], round * (u32::from(MANY) + 3), "{calls:?}");
}

/// What a cloud that leaves something out leaves out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lacks {
    Gateway,
    Eip,
    RouteTable,
    Nothing,
}

/// The simulated cloud without the last item of each last page.
struct Short<'c>(&'c SimulatedCloud, Lacks);

impl Short<'_> {
    fn page<T>(&self, lacks: Lacks, page: Result<Page<T>, CloudError>) -> Result<Page<T>, CloudError> {
        let mut page = page?;
        // The last page is the one that is not full.
        if self.1 == lacks && page.items.len() < 50 {
            page.items.pop();
        }
        Ok(page)
    }
}

impl Cloud for Short<'_> {
    async fn create_entry(&self, request: &CreateEntry) -> Result<EntryId, CloudError> {
        self.0.create_entry(request).await
    }

    async fn delete_entry(&self, request: &DeleteEntry) -> Result<(), CloudError> {
        self.0.delete_entry(request).await
    }

    async fn list_entries(&self, table: &TableId, page: u32) -> Result<Page<ListedEntry>, CloudError> {
        self.0.list_entries(table, page).await
    }

    async fn list_gateways(&self, page: u32) -> Result<Page<ListedGateway>, CloudError> {
        self.page(Lacks::Gateway, self.0.list_gateways(page).await)
    }

    async fn list_eips(&self, gateway: &GatewayId, page: u32) -> Result<Page<ListedEip>, CloudError> {
        self.page(Lacks::Eip, self.0.list_eips(gateway, page).await)
    }

    async fn list_route_tables(&self, page: u32) -> Result<Page<ListedRouteTable>, CloudError> {
        self.page(Lacks::RouteTable, self.0.list_route_tables(page).await)
    }

    async fn list_default_routes(&self, route_table: &str, next: Option<&str>) -> Result<Chain<GatewayId>, CloudError> {
        self.0.list_default_routes(route_table, next).await
    }

    async fn list_interfaces(
        &self,
        addresses: &[Ipv4Addr],
        next: Option<&str>,
    ) -> Result<Chain<ListedInterface>, CloudError> {
        self.0.list_interfaces(addresses, next).await
    }
}

/// Reads from the large account through a cloud that leaves something out.
fn read(lacks: Lacks, request: &ListRequest) -> Result<Listing, ListError> {
    let now = Rc::new(Cell::new(0));
    let vpc = Rc::new(RefCell::new(Vpc::new(large(), Behaviour::default(), Faults::none(), 1)));
    let cloud = SimulatedCloud::new(vpc, Rc::clone(&now));
    let cluster = SimulatedCluster::new(Rc::new(RefCell::new(Model::new(Settings::new("pages")))), now);
    let short = Short(&cloud, lacks);
    let mut call = pin!(executor::list(&cluster, &short, request));
    loop {
        if let Poll::Ready(listing) = call.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return listing;
        }
    }
}

#[test]
fn a_page_that_lacks_something_is_an_error_and_no_shorter_listing() {
    let many = u32::from(MANY);
    let requests = [
        (Lacks::Gateway, ListRequest::Gateways, many + 1),
        (Lacks::Eip, ListRequest::Eips("ngw-sandbox-j".into()), many + 1),
        // The system table is the first of them.
        (Lacks::RouteTable, ListRequest::RouteTables, many + 2),
    ];
    for (lacks, request, announced) in requests {
        let items = match read(Lacks::Nothing, &request).unwrap() {
            Listing::Gateways(items) => items.into_iter().map(|item| item.id.to_string()).collect::<BTreeSet<_>>(),
            Listing::Eips(items) => items.into_iter().map(|item| item.address.to_string()).collect(),
            Listing::RouteTables(items) => items.into_iter().map(|item| item.id).collect(),
            other => panic!("{other:?}"),
        };
        assert_eq!(items.len(), usize::try_from(announced).unwrap(), "{request:?}");
        let error = read(lacks, &request).unwrap_err();
        let came = items.len() - 1;
        assert_eq!(error.incomplete, Some(Incomplete::Short { announced, came }), "{request:?}: {error}");
        assert!(!error.gone && error.to_string().contains("nothing is concluded"), "{error}");
    }
}
