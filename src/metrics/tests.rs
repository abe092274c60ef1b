use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::encode::{Family, Kind, Sample, Value, text};
use super::exposure::Exposure;
use super::scrape::size;
use super::*;
use crate::admin::{Cursor, Piece};
use crate::cloud::meter::{Call, Meter as _};
use crate::controller::keeping::{Kept, KeptSnapshot, Policy};
use crate::controller::step::{Head, Identity, Input, Now, Output};
use crate::machine::event::codec;
use crate::machine::identity::AllocationId;
use crate::machine::pool::Range;
use crate::machine::state::{Entry, State};

const HISTORY: &[u8] = include_bytes!("../../tests/fixtures/history-v1.bin");

/// The table at the head of the module: name, type and labels of each metric.
fn table() -> BTreeMap<String, (String, BTreeSet<String>)> {
    let rows = include_str!("../metrics.rs").lines().filter_map(|line| line.strip_prefix("//! | `natgw_"));
    let row = |row: &str| {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let labels = cells[2].split(',').map(str::trim).filter(|label| !label.is_empty()).map(str::to_owned).collect();
        (format!("natgw_{}", cells[0].trim_end_matches('`')), (cells[1].to_owned(), labels))
    };
    rows.map(row).collect()
}

/// The same of a text that is served. Labels of a histogram's buckets are not its own.
fn served(text: &str) -> BTreeMap<String, (String, BTreeSet<String>)> {
    let mut families = BTreeMap::new();
    let (mut name, mut kind) = (String::new(), String::new());
    for line in text.lines() {
        if let Some(family) = line.strip_prefix("# TYPE ") {
            let (family, of) = family.split_once(' ').unwrap();
            (name, kind) = (if of == "counter" { format!("{family}_total") } else { family.to_owned() }, of.to_owned());
        } else if !line.starts_with('#') {
            let labels = line.split_once('{').map_or("", |(_, rest)| rest.split_once('}').unwrap().0);
            let names = labels.split(',').filter_map(|label| Some(label.split_once('=')?.0.to_owned()));
            let names = names.filter(|label| label != "le").collect::<BTreeSet<_>>();
            let family = families.entry(name.clone()).or_insert_with(|| (kind.clone(), BTreeSet::new()));
            family.1.extend(names);
        }
    }
    families
}

fn records() -> Vec<Record> {
    let (mut rest, mut records) = (HISTORY, Vec::new());
    while let Some((length, after)) = rest.split_first_chunk() {
        let (bytes, after) = after.split_at(u32::from_le_bytes(*length) as usize);
        records.push(codec::decode(records.len() as u64 + 1, bytes).unwrap());
        rest = after;
    }
    records
}

struct Silent;

impl Observer for Silent {
    fn phase(&mut self, _: Phase) {}
    fn recorded(&mut self, _: &[Record]) {}
    fn turned(&mut self, _: &Controller) -> Course {
        Course::Continue
    }
}

const TIMING: Timing = Timing { lease_duration_ms: 15_000, renew_deadline_ms: 10_000, retry_period_ms: 2_000 };

/// How a journal stands of which something was pruned.
fn kept() -> Kept {
    let snapshot = KeptSnapshot { through: 100, entries: 40, bytes: 8_000, wall_ms: 1_000 };
    Kept {
        snapshots: vec![snapshot, KeptSnapshot { through: 200, ..snapshot }],
        first: 101,
        first_wall_ms: Some(1_000),
        room: Some((3 << 30, 1 << 30)),
        failed: Some("it did not go".to_owned()),
    }
}

/// A controller with a state, that has won the lease.
fn leader(state: State) -> Controller {
    let keeping = Some(Policy { retention_ms: u64::MAX / 2, records_min: u64::MAX });
    let identity =
        Identity { holder: "a".to_owned(), journal: [1; 16], rebased: None, timing: TIMING, speed: 1, keeping };
    let head = Head { seq: state.seq(), hash: [0; 32] };
    let now = Now { monotonic_ms: 0, wall_ms: 0 };
    let mut controller = Controller::new(identity, state, head);
    let mut lock = crate::ports::cluster::LeaseRecord::default();
    controller.handle(now, Input::Woke);
    for _ in 0..4 {
        while let Some(output) = controller.poll_output() {
            if let Output::CallLease(call) = output {
                if let crate::controller::lease::Call::Write(record) = call {
                    lock = record;
                }
                controller.handle(now, Input::LeaseAnswered(Ok(lock.clone())));
            } else if let Output::Keep(_) = output {
                controller.handle(now, Input::Kept(kept()));
            }
        }
        controller.handle(now, Input::Woke);
    }
    assert!(controller.leads());
    controller
}

/// Everything that the fixture's history and a few calls make of the numbers.
fn room(published: &Published) -> (Watched<Silent>, Controller, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("below")).unwrap();
    std::fs::write(folder.path().join("below/file"), [0; 1_234]).unwrap();
    let calls = Arc::new(Calls::default());
    calls.ended(Call { action: "DeleteForwardEntry", class: None, took: Duration::from_millis(30) });
    let sources = Sources { clock: Clock::start(), timing: TIMING, calls, journal: folder.path().to_owned() };
    let mut watched = Watched::around(Silent, published.clone(), sources);
    let mut state = State::default();
    for record in records() {
        state.apply(&record).unwrap();
        watched.recorded(&[record]);
    }
    for phase in [Phase::Append, Phase::Appended, Phase::EffectStart("claim"), Phase::List("table")] {
        watched.phase(phase);
    }
    watched.phase(Phase::EffectEnded("claim"));
    (watched, leader(state), folder)
}

fn scraped(watched: &mut Watched<Silent>, published: &Published, controller: &Controller) -> String {
    let (reply, mut answer) = oneshot::channel();
    published.ask(Ask::Metrics(reply)).unwrap();
    watched.turned(controller);
    answer.try_recv().unwrap()()
}

fn sample(text: &str, name: &str) -> f64 {
    let line = text.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')));
    line.unwrap_or_else(|| panic!("{name} is not in {text}")).rsplit(' ').next().unwrap().parse().unwrap()
}

#[test]
fn the_table_is_what_is_served() {
    let published = Published::new();
    let (mut watched, controller, _folder) = room(&published);
    let text = scraped(&mut watched, &published, &controller);
    assert!(text.ends_with("# EOF\n"));
    let (mut table, served) = (table(), served(&text));
    // A history in which nothing was refused for quota has no limit.
    if controller.state().tables().all(|(_, table)| table.limit().is_none()) {
        table.remove("natgw_table_limit");
    }
    // Nobody waits or is refused at its end.
    for (name, gone) in [("natgw_pods_waiting", "waiting"), ("natgw_pods_refused", "refused")] {
        if sample(&text, &format!("natgw_pods{{standing=\"{gone}\"}}")) == 0.0 {
            table.remove(name);
        }
    }
    let differing: Vec<_> =
        table.keys().chain(served.keys()).filter(|name| table.get(*name) != served.get(*name)).collect();
    assert!(differing.is_empty(), "differ: {differing:?}\n{served:#?}");
    let unexplained: Vec<_> = text.lines().filter(|line| line.starts_with("# HELP") && line.ends_with(' ')).collect();
    assert!(unexplained.is_empty(), "{unexplained:?}");
}

#[test]
fn a_metric_that_is_not_in_the_table_has_no_meaning() {
    let families = vec![Family::gauge("natgw_unheard_of").one(1.0), Family::counter("natgw_rebased").one(2.0)];
    let text = text(families, std::path::Path::new("/nowhere/at/all"));
    assert!(text.contains("# HELP natgw_unheard_of \n"), "{text}");
    assert!(text.contains("# HELP natgw_rebased times that history was found not to be continuous\n"), "{text}");
    assert!(!table().contains_key("natgw_unheard_of") && served(&text).contains_key("natgw_unheard_of"));
    assert!(!text.contains("natgw_journal_bytes"), "what cannot be measured is not said");
}

#[test]
fn the_numbers_are_the_states() {
    let published = Published::new();
    let (mut watched, controller, _folder) = room(&published);
    let text = scraped(&mut watched, &published, &controller);
    let state = controller.state();
    for (name, value) in [
        ("natgw_leader", 1.0),
        ("natgw_settled", 0.0),
        ("natgw_journal_bytes", 1_234.0),
        ("natgw_journal_head", 495.0),
        ("natgw_journal_append_seconds_count", 1.0),
        ("natgw_effects_total{kind=\"claim\"}", 1.0),
        ("natgw_effects_in_flight{kind=\"claim\"}", 0.0),
        ("natgw_listings_in_flight{what=\"table\"}", 1.0),
        ("natgw_cloud_calls_total{action=\"DeleteForwardEntry\",class=\"ok\"}", 1.0),
        ("natgw_cloud_call_seconds_bucket{le=\"0.025\",action=\"DeleteForwardEntry\",class=\"ok\"}", 0.0),
        ("natgw_cloud_call_seconds_bucket{le=\"0.05\",action=\"DeleteForwardEntry\",class=\"ok\"}", 1.0),
        ("natgw_cloud_call_seconds_bucket{le=\"+Inf\",action=\"DeleteForwardEntry\",class=\"ok\"}", 1.0),
    ] {
        assert!((sample(&text, name) - value).abs() < 1e-9, "{name} is not {value} in {text}");
    }
    assert!((0.0..60.0).contains(&sample(&text, "natgw_lease_renew_age_seconds")));
    let all = |name: &str| -> f64 {
        let values = text.lines().filter(|line| line.starts_with(&format!("{name}{{")));
        values.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    };
    assert!((all("natgw_allocations") - state.allocations().count() as f64).abs() < 1e-9);
    assert!((all("natgw_records_total") - 495.0).abs() < 1e-9);
    let (id, gateway) = state.gateways().find(|(_, gateway)| gateway.eips().iter().any(|eip| eip.usable)).unwrap();
    let eip = gateway.eips().iter().find(|eip| eip.usable).unwrap();
    let labels = format!("{{gateway=\"{id}\",eip=\"{}\",protocol=\"tcp\"}}", eip.address);
    let (free, all) =
        (sample(&text, &format!("natgw_ports_free{labels}")), sample(&text, &format!("natgw_ports{labels}")));
    assert!((free - f64::from(eip.ports(crate::machine::identity::Protocol::Tcp).free())).abs() < 1e-9);
    assert!(free <= all && all > 0.0);
}

#[test]
fn how_the_journal_is_kept_is_told() {
    let published = Published::new();
    let (mut watched, controller, _folder) = room(&published);
    let text = scraped(&mut watched, &published, &controller);
    for (name, value) in [
        ("natgw_journal_snapshots", 2.0),
        ("natgw_journal_pruned_records", 100.0),
        ("natgw_journal_free_bytes", 3_221_225_472.0),
        ("natgw_journal_floor_bytes", 1_073_741_824.0),
        ("natgw_journal_short", 0.0),
        ("natgw_journal_keep_failures_total", 1.0),
    ] {
        assert!((sample(&text, name) - value).abs() < 0.5, "{name} in {text}");
    }
    assert!(sample(&text, "natgw_journal_snapshot_age_seconds") > 1_000_000.0);
}

#[test]
fn a_standby_does_not_tell_of_a_state_that_it_does_not_follow() {
    let published = Published::new();
    let (mut watched, controller, _folder) = room(&published);
    let leads = served(&scraped(&mut watched, &published, &controller));
    let identity =
        Identity { holder: "b".to_owned(), journal: [1; 16], rebased: None, timing: TIMING, speed: 1, keeping: None };
    let head = Head { seq: controller.state().seq(), hash: [0; 32] };
    let standby = Controller::new(identity, controller.state().clone(), head);
    let text = scraped(&mut watched, &published, &standby);
    let stands_by = served(&text);
    for name in [
        "natgw_journal_short",
        "natgw_ports",
        "natgw_table_entries",
        "natgw_pods",
        "natgw_allocations",
        "natgw_intents",
    ] {
        assert!(leads.contains_key(name) && !stands_by.contains_key(name), "{name}");
    }
    assert!(stands_by.keys().all(|name| leads.contains_key(name)));
    assert_eq!((sample(&text, "natgw_leader"), sample(&text, "natgw_journal_head")), (0.0, 495.0));
}

#[test]
fn the_size_of_a_range_is_what_it_contains() {
    for (first, last, excluded) in [
        (512, 1024, vec![]),
        (512, 1024, vec![(1, 600), (590, 610), (1000, 65_535)]),
        (512, 512, vec![(512, 512)]),
        (65_530, 65_535, vec![(65_535, 65_535), (65_531, 65_531)]),
        (1, 65_535, vec![(2, 3), (3, 9), (20, 10), (65_000, 65_535)]),
        (512, 600, vec![(601, 700), (1, 511)]),
    ] {
        let range = Range { first, last, excluded };
        let counted = (first..=last).filter(|port| range.contains(*port)).count();
        assert_eq!(size(&range) as usize, counted, "{range:?}");
    }
}

/// Who is exposed, by looking at everything.
fn exposed(state: &State) -> BTreeSet<AllocationId> {
    let at = |allocation: &crate::machine::state::Allocation| {
        let pods = state.pods_on(allocation.ip());
        pods.filter(|uid| *uid != allocation.pod()).count() > 0
    };
    let sends = |entry: &Entry| match entry {
        Entry::Planned | Entry::Gone | Entry::Refused { .. } => false,
        Entry::Unknown { .. } | Entry::Present { .. } | Entry::Deleting { .. } => true,
    };
    let all = state.allocations();
    let exposed = all.filter(|(_, one)| at(one) && one.items().iter().any(|item| sends(item.entry())));
    exposed.map(|(id, _)| *id).collect()
}

#[test]
fn what_is_exposed_is_found_without_looking_at_everything() {
    let (mut state, mut exposure, mut most, mut ever) = (State::default(), Exposure::default(), 0, 0);
    for record in records() {
        state.apply(&record).unwrap();
        exposure.recorded(&record);
        exposure.turned(&state);
        let all = exposed(&state);
        assert_eq!(exposure.exposed(), all.len(), "at event {}: {all:?}", record.seq);
        most = most.max(all.len());
        ever = ever.max(exposure.longest_ms());
    }
    assert!(most > 0, "this history exposes nobody, so it proves nothing");
    assert!((1..40 * 60_000).contains(&ever), "{ever} ms");
    assert_eq!(exposure.longest_ms(), ever);
}

/// The whole state as one value, read piece by piece.
fn document(
    published: &Published,
    watched: &mut Watched<Silent>,
    controller: &Controller,
) -> BTreeMap<&'static str, Vec<String>> {
    let (mut sections, mut cursor): (BTreeMap<_, Vec<String>>, Option<Cursor>) = (BTreeMap::new(), None);
    loop {
        let (reply, mut answer) = oneshot::channel();
        published.ask(Ask::State(cursor, reply)).unwrap();
        watched.turned(controller);
        let Piece { sections: some, next } = answer.try_recv().unwrap();
        for section in some {
            sections.entry(section.name).or_default().extend(section.rows);
        }
        match next {
            Some(next) => cursor = Some(next),
            None => return sections,
        }
    }
}

#[test]
fn the_state_has_every_pod_and_every_allocation_once() {
    let published = Published::new();
    let (mut watched, controller, _folder) = room(&published);
    let document = document(&published, &mut watched, &controller);
    let state = controller.state();
    let field = |name: &str, field: &str| -> Vec<String> {
        let rows = document[name].iter().map(|row| serde_json::from_str::<serde_json::Value>(row).unwrap());
        rows.map(|row| row[field].as_str().unwrap_or_default().to_owned()).collect()
    };
    assert_eq!(field("pods", "uid"), state.pods().map(|(uid, _)| uid.to_string()).collect::<Vec<_>>());
    let ids: Vec<_> = state.allocations().map(|(id, _)| id.to_string()).collect();
    assert_eq!(field("allocations", "allocation"), ids);
    assert!(!ids.is_empty());
    let digest: String = state.digest().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(field("controller", "digest"), [digest]);
    assert_eq!(document["gateways"].len(), state.gateways().count());
    assert_eq!(document["tables"].len(), state.tables().count());
}

#[test]
fn a_histogram_counts_what_took_longer_than_all_bounds() {
    let value = Value::Histogram { sum: 3.0, count: 2, buckets: vec![(1.0, 1), (f64::INFINITY, 1)] };
    let family = Family { kind: Kind::Histogram, samples: vec![Sample::of([], value)], ..Family::gauge("a") };
    let text = text(vec![family], std::path::Path::new("/nowhere/at/all"));
    assert_eq!((sample(&text, "a_bucket{le=\"1.0\"}"), sample(&text, "a_bucket{le=\"+Inf\"}")), (1.0, 2.0));
}

/// Watches that never show anything: the loop turns only for the lease, and for questions.
struct Idle;

impl Watch for Idle {
    fn take(&mut self) -> Result<VecDeque<Seen>, WatchError> {
        Ok(VecDeque::new())
    }

    async fn wait(&mut self) {
        std::future::pending::<()>().await;
    }
}

/// What a path answers, over a socket.
async fn get(address: std::net::SocketAddr, path: &'static str) -> String {
    let exchange = move || {
        use std::io::{Read as _, Write as _};
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    };
    tokio::task::spawn_blocking(exchange).await.unwrap()
}

/// The driver with a journal on disk, a simulated cluster and a simulated cloud, as `natgw run` puts them together.
#[tokio::test]
async fn a_running_controller_answers_over_http_and_hands_out_its_journal() {
    use std::cell::{Cell, RefCell};
    use std::rc::Rc;

    use crate::config::{Configuration, Pool};
    use crate::driver::history::{self, Earlier};
    use crate::driver::{Driver, Start};
    use crate::ports::cluster::LeaseRecord;
    use crate::sandbox::cluster::{Model, Settings, SimulatedCluster};
    use crate::sandbox::vpc::{Behaviour, Faults, SimulatedCloud, Vpc, World};

    let room = tempfile::tempdir().unwrap();
    let now_ms = Rc::new(Cell::new(0));
    let model = Rc::new(RefCell::new(Model::new(Settings::new("cluster".to_owned()))));
    let cluster = SimulatedCluster::new(model, Rc::clone(&now_ms));
    let vpc = Vpc::new(World::default(), Behaviour::default(), Faults::none(), 1);
    let cloud = SimulatedCloud::new(Rc::new(RefCell::new(vpc)), now_ms);
    let earlier = Earlier { lease: LeaseRecord::default(), claims: 0 };
    let history = history::open(room.path(), natgw_journal::JournalId([7; 16]), &earlier).unwrap();
    let World { region, vpc, gateways, .. } = World::default();
    let pools = gateways.into_iter().map(|gateway| Pool::documented(gateway.id, gateway.zone)).collect();
    let configuration = Configuration::of_defaults(region, vpc, pools).for_step("cluster");
    let identity =
        Identity { holder: "a".to_owned(), journal: [7; 16], rebased: None, timing: TIMING, speed: 1, keeping: None };
    let clock = Clock::start();
    let calls = Arc::new(Calls::default());
    let sources = Sources { clock, timing: TIMING, calls, journal: room.path().to_owned() };
    let published = Published::new();
    let server = crate::admin::Server::bind(([127, 0, 0, 1], 0).into(), published.clone()).unwrap();
    let observer = Watched::around(Silent, published.clone(), sources);
    let watch = Woken::new(Idle, published.clone());
    let start = Start { identity, history, configuration, clock };
    let driver = Driver::new(&cluster, &cloud, watch, observer, start).unwrap();
    serve_journal(&published, driver.views());
    let address = server.address();
    let (end, asked) = oneshot::channel::<()>();
    let asking = async move {
        while !get(address, "/leader").await.contains("200 OK") {}
        let mut metrics = get(address, "/metrics").await;
        while sample(&metrics, "natgw_settled") < 1.0 {
            metrics = get(address, "/metrics").await;
        }
        let (state, journal) = (get(address, "/state").await, get(address, "/journal").await);
        end.send(()).unwrap();
        (metrics, state, journal)
    };
    let (ran, (metrics, state, journal)) =
        tokio::join!(driver.run(async move { asked.await.unwrap_or_default() }), asking);
    ran.unwrap();
    assert!((sample(&metrics, "natgw_term") - 1.0).abs() < 1e-9, "{metrics}");
    assert!(
        sample(&metrics, "natgw_journal_bytes") > 0.0 && sample(&metrics, "natgw_journal_append_seconds_count") > 0.0
    );
    assert!(sample(&metrics, "natgw_ports{gateway=\"ngw-sandbox-j\",eip=\"203.0.113.1\",protocol=\"udp\"}") > 500.0);
    let body = |answer: &str| answer.split_once("\r\n\r\n").unwrap().1.to_owned();
    let state: serde_json::Value = serde_json::from_str(&body(&state)).unwrap();
    assert_eq!((&state["controller"][0]["term"], state["gateways"].as_array().unwrap().len()), (&1.into(), 2));
    let export = room.path().join("export.jsonl");
    std::fs::write(&export, body(&journal)).unwrap();
    let read = natgw_journal::read_export(&export).unwrap();
    assert!(read.entries(1).count() > 3, "{read:?}");
    assert!(read.entries(1).all(|entry| entry.is_ok_and(|entry| codec::decode(entry.seq, &entry.bytes).is_ok())));
    assert!(!get(address, "/healthz").await.is_empty(), "it is served until it is dropped");
}

/// A state in which so many pods have an allocation each.
fn crowd(pods: u32) -> State {
    use crate::machine::event::{Event, control, seen};

    let mut state = State::default();
    let mut apply = |event: Event| {
        let term = if state.seq() == 0 { 1 } else { state.term() };
        state.apply(&Record { seq: state.seq() + 1, term, machine_ms: 0, wall_ms: 0, event }).unwrap();
        while let Some(event) = state.decide(0) {
            let record = Record { seq: state.seq() + 1, term: state.term(), machine_ms: 0, wall_ms: 0, event };
            state.apply(&record).unwrap();
            drop(state.take_agenda_changes());
        }
    };
    let eips: Vec<_> = (1..=4).map(|last| [203, 0, 113, last].into()).collect();
    apply(Event::TermStarted(control::TermStarted { term: 1, holder: "a".to_owned(), predecessor: None }));
    apply(Event::PoolConfigured(control::PoolConfigured {
        index: 0,
        gateway: "ngw-1".to_owned(),
        zone: "z".to_owned(),
        first: 1,
        last: 65_535,
        eips: eips.clone(),
        excluded: Vec::new(),
    }));
    apply(Event::Configured(control::Configured {
        cluster_uid: "c".to_owned(),
        pools: 1,
        cooldown_ms: 30_000,
        fixed_retention_ms: None,
        resync_ms: 300_000,
        repair: true,
        adopt: false,
        port_break: 0,
        stateful_kinds: Vec::new(),
    }));
    apply(Event::GatewaySeen(seen::GatewaySeen {
        gateway: "ngw-1".to_owned(),
        table: Some("ftb-1".to_owned()),
        zone: Some("z".to_owned()),
        available: true,
        eips: eips.into_iter().map(|eip| (eip, true, false)).collect(),
    }));
    apply(Event::RouteSeen(seen::RouteSeen { vswitch: "vsw-1".to_owned(), gateways: vec!["ngw-1".to_owned()] }));
    apply(Event::ClusterRead(control::ClusterRead { pods: 0, claims: 0 }));
    apply(Event::TableOpened(control::TableOpened { table: "ftb-1".to_owned(), entries: 0 }));
    for number in 0..pods {
        let ip = std::net::Ipv4Addr::from(0x0a00_0000 + number);
        let enabled = ("k8s.aliyun.com/pod-dnat".to_owned(), String::new());
        let ports = ("k8s.aliyun.com/pod-dnat-expose-port".to_owned(), "80".to_owned());
        apply(Event::PodSeen(seen::PodSeen {
            namespace: "default".to_owned(),
            name: format!("pod-{number}"),
            uid: format!("uid-{number:06}"),
            ip: Some(ip),
            annotations: vec![enabled, ports],
            ..seen::PodSeen::default()
        }));
        apply(Event::AddressSeen(seen::AddressSeen {
            ip,
            eni: "eni-1".to_owned(),
            vswitch: "vsw-1".to_owned(),
            zone: "z".to_owned(),
        }));
    }
    state
}

#[test]
fn a_scrape_passes_once_and_the_state_comes_in_small_pieces() {
    const PODS: u32 = 5_000;
    let published = Published::new();
    let (mut watched, _, _folder) = room(&published);
    let controller = leader(crowd(PODS));
    let state = controller.state();
    assert_eq!(state.allocations().count(), PODS as usize);
    let before = state.touched();
    let began = Duration::from_millis(watched.sources.clock.elapsed_ms());
    let text = scraped(&mut watched, &published, &controller);
    let took = Duration::from_millis(watched.sources.clock.elapsed_ms()).saturating_sub(began);
    let touched = state.touched() - before;
    assert!((sample(&text, "natgw_pods{standing=\"allocated\"}") - f64::from(PODS)).abs() < 1e-9);
    // Pods twice, for their standing and for whether all is settled, and allocations once.
    assert!(touched <= 4 * u64::from(PODS), "{touched} look-ups and entries");
    println!("{PODS} pods: {touched} look-ups and entries, {took:?} with the text");
    let document = document(&published, &mut watched, &controller);
    assert_eq!((document["pods"].len(), document["allocations"].len()), (PODS as usize, PODS as usize));
    let before = state.touched();
    let (reply, mut answer) = oneshot::channel();
    published.ask(Ask::State(Some(Cursor::Pods(None)), reply)).unwrap();
    watched.turned(&controller);
    let piece = answer.try_recv().unwrap();
    assert_eq!(piece.sections[0].rows.len(), 500);
    assert!(state.touched() - before <= 600, "a piece costs what is in it");
    assert!(piece.next.is_some());
}
