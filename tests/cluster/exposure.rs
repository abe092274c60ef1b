//! How long an entry leads to a pod that it was not made for: entries by the cloud's ledger, addresses by a watch of our
//! own, both by the clock of this program.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use natgw::machine::identity::{Mark, PodUid, UidHash};
use natgw::sandbox::vpc::{Effect, LedgerLine};
use serde_json::Value;
use tokio::runtime::Builder;

use crate::api::LOOK_EVERY;
use crate::control_plane::ControlPlane;
use crate::evidence;
use crate::world::{World, text};

/// A look-out that has begun.
pub struct Exposure {
    began: Instant,
    ended: Arc<AtomicBool>,
    pods: JoinHandle<Vec<Tenancy>>,
    entries: JoinHandle<Vec<Entry>>,
}

/// What was seen.
pub struct Exposed {
    entries: usize,
    pods: usize,
    longest: Duration,
    times: usize,
    /// What the longest was about.
    what: String,
}

/// A pod at an address.
struct Tenancy {
    address: String,
    pod: String,
    from: Instant,
    until: Option<Instant>,
}

/// An entry in a table.
struct Entry {
    address: String,
    mark: Mark,
    from: Instant,
    until: Option<Instant>,
}

impl Exposure {
    /// Looks out from now on.
    pub fn of(plane: &ControlPlane, world: &World<'_>) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let (http, server, token) = (plane.http(), plane.server().to_owned(), plane.token().to_owned());
        let (ledger, stop) = (world.path("ledger"), Arc::clone(&ended));
        let entries = thread::spawn(move || follow_ledger(&ledger, &stop));
        let stop = Arc::clone(&ended);
        let pods = thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(follow_pods(&http, &server, &token, &stop))
        });
        Self { began: Instant::now(), ended, pods, entries }
    }

    /// What was seen until now. Panics where an entry leads to a pod that it was not made for, while both are there.
    pub fn end(self, world: &World<'_>) -> Exposed {
        // The watch ends with the next thing that it shows.
        self.ended.store(true, Ordering::SeqCst);
        let nudge = serde_json::json!({ "metadata": { "name": "nudge" }, "spec": { "containers": [{ "name": "a", "image": "a" }] } });
        let pods = "/api/v1/namespaces/natgw-system/pods";
        world.api.create(pods, &nudge).unwrap();
        let (entries, tenancies) = (self.entries.join().unwrap(), self.pods.join().unwrap());
        world.api.delete(&format!("{pods}/nudge"), &serde_json::json!({ "gracePeriodSeconds": 0 })).unwrap();
        judged(&entries, &tenancies, [self.began, Instant::now()])
    }
}

impl Exposed {
    /// How often an entry led to a pod that it was not made for, and for how long at most.
    pub const fn longest(&self) -> (usize, Duration) {
        (self.times, self.longest)
    }
}

impl fmt::Display for Exposed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { entries, pods, longest, times, what } = self;
        let longest = longest.as_millis();
        write!(f, "exposure: longest {longest} ms, {times} times, of {entries} entries and {pods} pods; {what}")
    }
}

/// How long each entry led to a pod that it was not made for, by what there was between those two moments. Panics where one
/// does so at their end.
fn judged(entries: &[Entry], tenancies: &[Tenancy], [began, now]: [Instant; 2]) -> Exposed {
    let mut exposed = Exposed {
        entries: entries.len(),
        pods: tenancies.len(),
        longest: Duration::ZERO,
        times: 0,
        what: String::new(),
    };
    let mut by_address: BTreeMap<&str, Vec<&Tenancy>> = BTreeMap::new();
    for tenancy in tenancies {
        by_address.entry(&tenancy.address).or_default().push(tenancy);
    }
    for entry in entries {
        for tenancy in by_address.get(entry.address.as_str()).into_iter().flatten() {
            if entry.mark.is_for(&PodUid::new(tenancy.pod.as_str())) {
                continue;
            }
            let until = entry.until.unwrap_or(now).min(tenancy.until.unwrap_or(now));
            let time = until.saturating_duration_since(entry.from.max(tenancy.from));
            exposed.times += usize::from(!time.is_zero());
            if time > exposed.longest {
                exposed.longest = time;
                let ms = |at: Option<Instant>| at.map(|at| at.saturating_duration_since(began).as_millis());
                let (from, until) = (ms(Some(entry.from)), ms(entry.until));
                exposed.what = format!(
                    "{} of allocation {} from {from:?} to {until:?} ms, pod {} from {:?} to {:?} ms",
                    entry.address,
                    entry.mark.allocation,
                    tenancy.pod,
                    ms(Some(tenancy.from)),
                    ms(tenancy.until)
                );
            }
            let both = entry.until.is_none() && tenancy.until.is_none();
            assert!(!both, "at rest {} leads to pod {}, for which it was not made", entry.address, tenancy.pod);
        }
    }
    exposed
}

/// What leads to another pod is found, for as long as it does; what does so at the end is a fault; its own pod, another
/// address and another time are none.
pub fn sees_what_it_is_there_for() {
    let [began, now] = [Instant::now(), Instant::now() + Duration::from_secs(100)];
    let at = |second| began + Duration::from_secs(second);
    let entry = |until: Option<u64>| Entry {
        address: "172.16.0.1".to_owned(),
        mark: Mark::new(UidHash::of("cluster"), &PodUid::new("first"), (1, 1).into(), (1, 2).into()),
        from: at(10),
        until: until.map(at),
    };
    let pod = |name: &str, address: &str, from, until: Option<u64>| Tenancy {
        address: address.to_owned(),
        pod: name.to_owned(),
        from: at(from),
        until: until.map(at),
    };
    let judge = |entry, pods: &[Tenancy]| judged(&[entry], pods, [began, now]).longest();
    let none = (0, Duration::ZERO);
    let first = pod("first", "172.16.0.1", 5, Some(20));
    assert_eq!(judge(entry(Some(30)), &[first, pod("second", "172.16.0.1", 23, None)]), (1, Duration::from_secs(7)));
    assert_eq!(judge(entry(Some(30)), &[pod("second", "172.16.0.1", 30, None)]), none);
    assert_eq!(judge(entry(None), &[pod("first", "172.16.0.1", 5, None)]), none);
    assert_eq!(judge(entry(None), &[pod("second", "172.16.0.2", 5, None)]), none);
    let at_rest = || judge(entry(None), &[pod("second", "172.16.0.1", 23, None)]);
    std::panic::catch_unwind(at_rest).expect_err("an entry leads to another pod at rest, and nobody says so");
}

fn follow_ledger(path: &std::path::Path, ended: &AtomicBool) -> Vec<Entry> {
    let mut entries: BTreeMap<String, Entry> = BTreeMap::new();
    let mut read = 0;
    loop {
        let last = ended.load(Ordering::SeqCst);
        // A case that failed has taken it away.
        let lines = if path.exists() { evidence::ledger(path) } else { return Vec::new() };
        let now = Instant::now();
        for line in lines.iter().skip(read) {
            let LedgerLine::Effect(effect) = line else { continue };
            let Some(id) = effect.entry.as_ref().map(ToString::to_string) else { continue };
            match effect.effect {
                Effect::Created => {
                    let spec = effect.spec.as_ref().unwrap();
                    let mark = Mark::parse(&spec.name).unwrap();
                    let entry = Entry { address: spec.internal_ip.to_string(), mark, from: now, until: None };
                    entries.insert(id, entry);
                }
                Effect::Gone => {
                    entries.get_mut(&id).unwrap().until = Some(now);
                }
                Effect::Available
                | Effect::Deleting
                | Effect::LateRefused { .. }
                | Effect::LateRepeated
                | Effect::InsertedByHand
                | Effect::EditedByHand
                | Effect::RemovedByHand => {}
            }
        }
        read = lines.len();
        if last {
            return entries.into_values().collect();
        }
        thread::park_timeout(LOOK_EVERY);
    }
}

async fn follow_pods(http: &reqwest::Client, server: &str, token: &str, ended: &AtomicBool) -> Vec<Tenancy> {
    let mut tenancies: BTreeMap<(String, String), Tenancy> = BTreeMap::new();
    let url = format!("{server}/api/v1/pods?watch=true");
    let mut response = http.get(url).bearer_auth(token).send().await.unwrap().error_for_status().unwrap();
    let mut buffer = Vec::new();
    while !ended.load(Ordering::SeqCst) {
        let Some(bytes) = response.chunk().await.unwrap() else { panic!("the watch of pods has ended") };
        let now = Instant::now();
        buffer.extend_from_slice(&bytes);
        while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = buffer.drain(..=end).collect();
            let event: Value = serde_json::from_slice(&line).unwrap();
            note(&mut tenancies, &event, now);
        }
    }
    tenancies.into_values().collect()
}

/// A pod has an address from when its status says so until it has ended or is gone.
fn note(tenancies: &mut BTreeMap<(String, String), Tenancy>, event: &Value, now: Instant) {
    let pod = &event["object"];
    let (uid, address) = (text(&pod["metadata"]["uid"]), text(&pod["status"]["podIP"]));
    let terminal = matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    let has =
        |tenancy: &Tenancy| tenancy.pod == uid && event["type"] != "DELETED" && !terminal && tenancy.address == address;
    for tenancy in tenancies.values_mut().filter(|tenancy| tenancy.pod == uid && tenancy.until.is_none()) {
        if !has(tenancy) {
            tenancy.until = Some(now);
        }
    }
    if !address.is_empty() && event["type"] != "DELETED" && !terminal {
        let key = (uid.clone(), address.clone());
        tenancies.entry(key).or_insert(Tenancy { address, pod: uid, from: now, until: None });
    }
}
