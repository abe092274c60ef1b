//! natgw on a real API server against a bare client (design.md §9, [cluster] and [failover]).
//!
//! [cluster]: pods are Ready before natgw starts, and the cloud takes no time; measured is from the lease to the last
//! published mapping. The yardstick is a client that knows everything beforehand and only sends the same writes as natgw
//! does: PodDNAT, its status, the pod's annotation, the Event; with as many calls at once. The arms alternate.
//! Writes and reads a pod are counted by the API server itself.
//!
//! [failover]: two replicas; the leader is killed, a mapped pod is removed; measured is from the kill to the deletion of its
//! entry by the next leader. The yardstick is what has to pass: the lease, the longest pause between two attempts, and the
//! same reads by a bare client.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "what cannot be measured is a failure")]
#![allow(clippy::disallowed_methods, reason = "time is what is measured")]
#![allow(missing_docs, unreachable_pub, dead_code, reason = "modules that the cluster tests use in full")]

#[path = "../tests/cluster/api.rs"]
mod api;
#[path = "../tests/cluster/children.rs"]
mod children;
#[path = "../tests/cluster/control_plane.rs"]
mod control_plane;
#[path = "../tests/sandbox/evidence.rs"]
mod evidence;
#[path = "../tests/cluster/programs.rs"]
mod programs;
#[path = "../tests/cluster/workloads.rs"]
mod workloads;
#[path = "../tests/cluster/world.rs"]
mod world;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt as _};
use reqwest::{Client, Method};
use serde_json::{Value, json};

use self::api::{eventually, is};
use self::control_plane::{ControlPlane, condition};
use self::evidence::mutations;
use self::programs::{Missing, Programs};
use self::world::{CRASH_PATIENCE, Namespace, PODDNATS, Settings, World, text};

/// Pods in a measurement, and in test mode.
const PODS: (usize, usize) = (2_000, 40);

/// Kills in a measurement, and in test mode.
const KILLS: (usize, usize) = (7, 1);

/// Effects on the API server that natgw has under way at once, at most (`controller/step`).
const AT_ONCE: usize = 16;

/// leaseDuration, and 1.2 retryPeriods, of [`Settings::default`].
const LEASE: Duration = Duration::from_millis(3_000 + 480);

const DEPLOYMENTS: &str = "apps/v1/deployments";

fn main() -> ExitCode {
    if let Some(ended) = children::become_one() {
        return ended;
    }
    let test = std::env::args().any(|argument| argument == "--test");
    let (pods, rounds, kills) = if test { (PODS.1, ROUNDS.1, KILLS.1) } else { (PODS.0, ROUNDS.0, KILLS.0) };
    let programs = match Programs::get() {
        Ok(programs) => programs,
        Err(Missing::NoGo(why)) if std::env::var("CI").is_err() => {
            eprintln!("!! NOTHING IS MEASURED AGAINST A REAL KUBERNETES\n{why}");
            return ExitCode::SUCCESS;
        }
        Err(Missing::NoGo(why) | Missing::Broken(why)) => {
            eprintln!("{why}");
            return ExitCode::FAILURE;
        }
    };
    let figures = [cluster(&programs, pods, rounds), failover(&ControlPlane::start(programs), kills)];
    for figure in figures.into_iter().flatten() {
        println!("{figure}");
    }
    ExitCode::SUCCESS
}

fn settings() -> Settings {
    let cloud = &["pending-ms=0", "deleting-ms=0"];
    Settings { entry_quota: 10_000, patience: CRASH_PATIENCE, cloud, ..Settings::default() }
}

fn word(holds: bool) -> &'static str {
    if holds { "ok" } else { "short" }
}

fn ratio(part: usize, whole: usize) -> f64 {
    f64::from(u32::try_from(part).unwrap()) / f64::from(u32::try_from(whole).unwrap())
}

/// Pods that run and wait for nothing but natgw.
fn await_ready(namespace: &Namespace<'_>, pods: usize) {
    eventually("Ready pods", CRASH_PATIENCE, || {
        let ready = namespace.pods().iter().filter(|pod| condition(pod, "Ready") == Some("True")).count();
        is(ready == pods, ready)
    });
}

/// Times that each arm of [cluster] runs, in a measurement and in test mode.
const ROUNDS: (usize, usize) = (3, 1);

/// The most state writes and Events of a pod until it is mapped (design.md §9).
const WRITES_MAX: f64 = 4.0;

/// The share of the bare client's rate that is to be reached.
const SHARE_MIN: f64 = 0.7;

fn cluster(programs: &Programs, pods: usize, rounds: usize) -> Vec<String> {
    let (mut ours, mut bare, mut calls, mut memory) = (Vec::new(), Vec::new(), Calls::default(), 0);
    for round in 0..rounds {
        // None has to carry what was left of the one before.
        let plane = ControlPlane::start(programs.clone());
        let world = World::new(&plane, &settings());
        let namespace = world.namespace("bench-cluster");
        namespace.create(DEPLOYMENTS, &workloads::deployment("game", u64::try_from(pods).unwrap(), "80"));
        await_ready(&namespace, pods);
        let before = Calls::so_far(&world, &namespace);
        let mut leader = world.replica("a");
        leader.await_leading();
        let began = Instant::now();
        // One small question at a time: whoever asks often is in the way of who is measured.
        eventually("mapped pods that say so", CRASH_PATIENCE, || {
            let metrics = world.api.text("/metrics").unwrap();
            let said = marks(&metrics) - before.marks;
            is(said >= pods, said)
        });
        ours.push(began.elapsed());
        namespace.await_mapped(&world, pods);
        eventually("Events", CRASH_PATIENCE, || {
            let events = Calls::so_far(&world, &namespace).events - before.events;
            is(events >= pods, events)
        });
        calls = Calls::so_far(&world, &namespace).since(&before);
        memory = leader.memory_kib();
        leader.kill();
        bare.push(bare_writes(&plane, &namespace, &namespace.poddnats()));
        println!(
            "round {round}: {:.2} s, {:.2} s by a bare client",
            ours[round].as_secs_f64(),
            bare[round].as_secs_f64()
        );
    }
    ours.sort();
    bare.sort();
    let (ours, bare) = (ours[ours.len() / 2], bare[bare.len() / 2]);
    println!("{pods} pods mapped in {:.2} s, {memory} KiB of memory", ours.as_secs_f64());
    println!("the same writes by a bare client, {AT_ONCE} at once: {:.2} s", bare.as_secs_f64());
    let rate = |took: Duration| f64::from(u32::try_from(pods).unwrap()) / took.as_secs_f64();
    let (share, writes) = (rate(ours) / rate(bare), ratio(calls.claims + calls.marks + calls.events, pods));
    let (memory, reads) = (ratio(usize::try_from(memory).unwrap(), pods), ratio(calls.reads, pods));
    let (reached, few) = (word(share >= SHARE_MIN), word(writes <= WRITES_MAX));
    vec![
        format!("figure cluster {:.0} pods/s yardstick {:.0} reach {SHARE_MIN} {reached}", rate(ours), rate(bare)),
        format!("figure cluster.writes {writes:.2} writes/pod yardstick - reach {WRITES_MAX} {few}"),
        format!("figure cluster.reads {reads:.2} reads/pod yardstick - reach - ok"),
        format!("figure cluster.memory {memory:.1} KiB/pod yardstick - reach - ok"),
    ]
}

/// What was asked of the API server for mappings.
#[derive(Clone, Copy, Debug, Default)]
struct Calls {
    claims: usize,
    marks: usize,
    events: usize,
    reads: usize,
}

impl Calls {
    /// As the API server counts them. Nobody else writes PodDNATs, or patches pods that are at rest.
    fn so_far(world: &World<'_>, namespace: &Namespace<'_>) -> Self {
        let metrics = world.api.text("/metrics").unwrap();
        let of = |verb: &str| counted(&metrics, &["resource=\"poddnats\"", &format!("verb=\"{verb}\"")]);
        let events = world.api.list(&namespace.path("events"));
        Self {
            claims: ["POST", "PUT", "PATCH", "DELETE"].into_iter().map(of).sum(),
            marks: marks(&metrics),
            events: events.iter().filter(|event| event["source"]["component"] == "natgw").count(),
            reads: of("GET"),
        }
    }

    const fn since(self, before: &Self) -> Self {
        Self {
            claims: self.claims - before.claims,
            marks: self.marks - before.marks,
            events: self.events - before.events,
            reads: self.reads - before.reads,
        }
    }
}

/// Patches of pods, without those of their status.
fn marks(metrics: &str) -> usize {
    counted(metrics, &["resource=\"pods\"", "subresource=\"\"", "verb=\"PATCH\""])
}

/// The sum of `apiserver_request_total` over all that has these labels.
fn counted(metrics: &str, labels: &[&str]) -> usize {
    let lines = metrics.lines().filter(|line| line.starts_with("apiserver_request_total{"));
    let of_it = lines.filter(|line| labels.iter().all(|label| line.contains(label)));
    let count = |line: &str| line.rsplit(' ').next().and_then(|count| count.parse::<f64>().ok());
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of requests")]
    of_it.map(|line| count(line).unwrap() as usize).sum()
}

/// Removes what natgw wrote, and writes the same again; how long that took.
fn bare_writes(plane: &ControlPlane, namespace: &Namespace<'_>, objects: &[Value]) -> Duration {
    let http = plane.http();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let base = format!("{}{}", plane.server(), namespace.path("alibabacloud.com/v1beta1/poddnats"));
    let pods = format!("{}{}", plane.server(), namespace.path("pods"));
    let events = format!("{}{}", plane.server(), namespace.path("events"));
    let send = |method: Method, url: String, kind: &'static str, body: Value| {
        call(&http, plane.token(), method, url, kind, body)
    };
    runtime.block_on(async {
        let clear = objects.iter().map(|object| {
            let url = format!("{base}/{}", text(&object["metadata"]["name"]));
            let none = json!({ "metadata": { "finalizers": [] } });
            async {
                send(Method::PATCH, url.clone(), "application/merge-patch+json", none).await;
                send(Method::DELETE, url, "application/json", json!({})).await;
            }
        });
        stream::iter(clear).buffer_unordered(AT_ONCE).collect::<()>().await;
        let began = Instant::now();
        let write = objects.iter().map(|object| {
            let name = text(&object["metadata"]["name"]);
            let metadata = json!({
                "name": name, "annotations": object["metadata"]["annotations"],
                "finalizers": object["metadata"]["finalizers"],
                "ownerReferences": object["metadata"]["ownerReferences"],
            });
            let created = json!({
                "apiVersion": object["apiVersion"], "kind": "PodDNAT", "metadata": metadata, "spec": object["spec"],
            });
            let says = json!({ "metadata": { "annotations": { "k8s.aliyun.com/pod-dnat-status": "{}" } } });
            let event = json!({
                "apiVersion": "v1", "kind": "Event", "metadata": { "name": format!("{name}.bare") },
                "involvedObject": { "apiVersion": "v1", "kind": "Pod", "namespace": &namespace.name, "name": &name },
                "type": "Normal", "reason": "Mapped", "message": "players reach the pod",
                "source": { "component": "bare" },
            });
            let (base, pods, events, send) = (&base, &pods, &events, &send);
            async move {
                let mut made = send(Method::POST, base.clone(), "application/json", created).await;
                made["status"] = object["status"].clone();
                send(Method::PUT, format!("{base}/{name}/status"), "application/json", made).await;
                send(Method::PATCH, format!("{pods}/{name}"), "application/merge-patch+json", says).await;
                send(Method::POST, events.clone(), "application/json", event).await;
            }
        });
        stream::iter(write).buffer_unordered(AT_ONCE).collect::<()>().await;
        began.elapsed()
    })
}

async fn call(http: &Client, token: &str, method: Method, url: String, kind: &str, body: Value) -> Value {
    let request = http.request(method, url).bearer_auth(token).header("Content-Type", kind).body(body.to_string());
    let response = request.send().await.unwrap().error_for_status().unwrap();
    serde_json::from_slice(&response.bytes().await.unwrap()).unwrap()
}

fn failover(plane: &ControlPlane, kills: usize) -> Vec<String> {
    let world = World::new(plane, &settings());
    let namespace = world.namespace("bench-failover");
    let mut leader = world.leader();
    let mut standby = world.replica("b");
    standby.await_standing_by();
    let (mut took, mut reads) = (Vec::new(), Vec::new());
    for round in 0..kills {
        namespace.create("pods", &workloads::pod(&format!("game-{round}"), "80"));
        namespace.await_mapped(&world, 1);
        let before = mutations(&world.ledger());
        leader.kill();
        let began = Instant::now();
        namespace.delete("pods", &format!("game-{round}"), &json!({ "gracePeriodSeconds": 0 }));
        eventually("deletion of the entry", CRASH_PATIENCE, || is(mutations(&world.ledger()) > before, before));
        took.push(began.elapsed());
        let began = Instant::now();
        for path in ["/api/v1/pods", PODDNATS, "/api/v1/namespaces", "/api/v1/nodes"] {
            world.api.get(path).unwrap();
        }
        reads.push(began.elapsed());
        world.await_nothing_left();
        leader = standby;
        standby = world.replica(if round % 2 == 0 { "a" } else { "b" });
        standby.await_standing_by();
    }
    took.sort();
    reads.sort();
    let (median, most) = (took[took.len() / 2], took[took.len() - 1]);
    let yardstick = LEASE + reads[reads.len() / 2];
    println!("{kills} kills: median {:.2} s, most {:.2} s", median.as_secs_f64(), most.as_secs_f64());
    world.end(vec![leader, standby]);
    vec![format!(
        "figure failover {} ms yardstick {} reach 1.0 {}",
        median.as_millis(),
        yardstick.as_millis(),
        word(median <= yardstick)
    )]
}
