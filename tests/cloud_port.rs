//! The pure port of the simulator and the client of production, side by side over equal worlds: whatever the cloud does,
//! both say the same.
#![cfg(feature = "adapters")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a broken fixture is a failed test")]

#[allow(dead_code, reason = "shared by the suites that have a simulated cloud")]
#[path = "policy/mod.rs"]
mod policy;

use std::cell::{Cell, RefCell};
use std::fmt::Debug;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use natgw::cloud::credentials::{AccessKey, StaticKey};
use natgw::cloud::endpoints::Endpoints;
use natgw::cloud::{AliyunCloud, Settings};
use natgw::machine::identity::{EntryId, Protocol, TableId, Tuple};
use natgw::ports::cloud::{Cloud, CloudError, CreateEntry, DeleteEntry, ErrorClass};
use natgw::sandbox::http::{Clock, Options, serve_by};
use natgw::sandbox::vpc::{Behaviour, FaultKind, Faults, SimulatedCloud, Vpc, World};
use tokio::sync::oneshot;

/// 2026-11-22T08:00:00Z.
const NOW_MS: u64 = 1_795_334_400_000;

/// How often each kind of fault strikes.
const RATE: f64 = 0.04;

#[derive(Clone, Default)]
struct Hands(Arc<AtomicU64>);

impl Clock for Hands {
    fn wall_ms(&self) -> u64 {
        NOW_MS + self.elapsed_ms()
    }

    fn elapsed_ms(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// What both must say alike. Where no answer came, only the class is the same: the client sees a connection that ends, the
/// simulator a time that is over.
fn said<T: Debug>(result: Result<T, CloudError>) -> String {
    match result {
        Ok(answer) => format!("{answer:?}"),
        Err(error) if error.request_id == "-" && error.class == ErrorClass::Unknown => "no answer".to_owned(),
        Err(error) => format!("{error:?}"),
    }
}

/// One step of a script: the same for both.
#[derive(Debug)]
enum Call {
    Create(CreateEntry),
    Delete(DeleteEntry),
    Entries(TableId, u32),
    Gateways,
    Eips,
    RouteTables,
    Routes(String),
    Interfaces(Vec<Ipv4Addr>),
}

async fn say(cloud: &impl Cloud, call: &Call) -> String {
    match call {
        Call::Create(request) => said(cloud.create_entry(request).await),
        Call::Delete(request) => said(cloud.delete_entry(request).await),
        Call::Entries(table, page) => said(cloud.list_entries(table, *page).await),
        Call::Gateways => said(cloud.list_gateways(1).await),
        Call::Eips => said(cloud.list_eips(&"ngw-sandbox-j".into(), 1).await),
        Call::RouteTables => said(cloud.list_route_tables(1).await),
        Call::Routes(table) => said(cloud.list_default_routes(table, None).await),
        Call::Interfaces(addresses) => said(cloud.list_interfaces(addresses, None).await),
    }
}

/// Creations with repeats and clashes, deletions of what may be there, and every listing.
fn script(steps: u16) -> impl Iterator<Item = Call> {
    (1..=steps).map(|step| {
        let n = step / 12;
        let tuple = Tuple {
            external_ip: [203, 0, 113, 1].into(),
            external_port: 512 + n,
            internal_ip: [172, 16, 0, 9].into(),
            internal_port: if n % 9 == 8 { 80 } else { 1_000 + n },
            protocol: if n % 2 == 0 { Protocol::Tcp } else { Protocol::Udp },
        };
        let name = "natgw".to_owned();
        let table = TableId::from("ftb-sandbox-j");
        let port_break = n % 5 == 0;
        let creation = CreateEntry { table: table.clone(), tuple, name, token: format!("token-{n}"), port_break };
        match step % 12 {
            0 | 1 | 6 => Call::Create(creation),
            2 => Call::Create(CreateEntry { port_break: !port_break, ..creation }),
            3 => Call::Entries(table, 1),
            4 => Call::Entries(table, 2),
            5 => Call::Gateways,
            7 => Call::Eips,
            8 => Call::RouteTables,
            9 => Call::Routes(format!("vtb-sandbox-{}", if n % 3 == 0 { "none" } else { "j" })),
            10 => Call::Interfaces((1..40).map(|host| [172, 16, 7, host].into()).collect()),
            _ => Call::Delete(DeleteEntry { table, entry: EntryId::from("fwd-none"), token: format!("delete-{n}") }),
        }
    })
}

fn client(url: &str) -> AliyunCloud {
    let settings = Settings {
        region: "cn-hangzhou".to_owned(),
        vpc: "vpc-sandbox".to_owned(),
        endpoints: Endpoints::at(url).unwrap(),
        mutating_timeout: Duration::from_secs(60),
        reading_timeout: Duration::from_secs(60),
    };
    let key = AccessKey::new("sandbox".to_owned(), "sandbox-secret".into(), None).unwrap();
    let clock = Arc::new(|| SystemTime::UNIX_EPOCH + Duration::from_millis(NOW_MS));
    AliyunCloud::new(settings, Arc::new(StaticKey::new(key)), clock).unwrap()
}

/// Runs the script against both and returns the model behind the pure port.
async fn side_by_side(seed: u64, steps: u16) -> Vpc {
    let behaviour = Behaviour { create_conflict_ms: 30, ..Behaviour::default() };
    let faults = FaultKind::ALL.map(|kind| (kind, RATE));
    let ours = faults.iter().fold(Faults::none(), |faults, (kind, rate)| faults.with(*kind, *rate));
    let vpc = Rc::new(RefCell::new(Vpc::new(World::default(), behaviour.clone(), ours, seed)));
    let now_ms = Rc::new(Cell::new(0));
    let pure = SimulatedCloud::new(Rc::clone(&vpc), Rc::clone(&now_ms));

    let hands = Hands::default();
    let (ready, address) = oneshot::channel();
    let (stop, stopped) = oneshot::channel::<()>();
    let folder = tempfile::tempdir().unwrap();
    let ledger = folder.path().join("ledger");
    let options =
        Options { behaviour, faults: faults.to_vec(), seed, ledger: Some(ledger.clone()), ..Options::default() };
    let serving = serve_by(hands.clone(), options, |address| ready.send(address).unwrap(), async {
        drop(stopped.await);
    });
    let comparing = async {
        let real = client(&format!("http://{}/", address.await.unwrap()));
        let mut created = Vec::new();
        for (mut call, at) in script(steps).zip(0..) {
            let at_ms: u64 = at * 97;
            now_ms.set(at_ms);
            hands.0.store(at_ms, Ordering::SeqCst);
            if let Call::Delete(request) = &mut call
                && let Some(entry) = created.pop()
            {
                request.entry = entry;
            }
            let (said_by_pure, said_by_real) = (say(&pure, &call).await, say(&real, &call).await);
            assert_eq!(said_by_pure, said_by_real, "seed {seed}, at {at_ms} ms: {call:?}");
            created.extend(vpc.borrow().entries(&"ftb-sandbox-j".into()).next().map(|entry| entry.id.clone()));
        }
        drop(stop);
    };
    let (served, ()) = tokio::join!(serving, comparing);
    served.unwrap();
    drop(pure);
    let vpc = Rc::into_inner(vpc).unwrap().into_inner();
    policy::kept(policy::called(vpc.ledger()));
    // All eight: both sides were asked everything.
    assert_eq!(policy::kept_by(&ledger).len(), policy::actions().len());
    vpc
}

#[test]
fn the_pure_port_and_the_client_say_the_same_under_every_fault() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut fired = [0; FaultKind::ALL.len()];
    for seed in 0..4 {
        let vpc = runtime.block_on(side_by_side(seed, 900));
        for (count, kind) in fired.iter_mut().zip(FaultKind::ALL) {
            *count += vpc.faults().fired(kind);
        }
    }
    println!("{:?}", FaultKind::ALL.iter().zip(fired).collect::<Vec<_>>());
    assert!(fired.iter().all(|count| *count > 0), "every kind was met");
}
