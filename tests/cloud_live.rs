//! The whole controller, as a program, against `natgw cloud`, as a program, over real HTTP: seeded runs of 50 pods (twenty
//! in the fuller tier) under faults of every kind, in tables of more than one page, while people remove entries and take
//! their tuples. Faults and people end after a while. Then everything has to be as it was asked for, and what is shown is
//! what stands.
#![cfg(feature = "adapters")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "what is missing is a failed test")]
#![allow(clippy::disallowed_methods, reason = "requests are signed, and a child is waited for, by the clock")]
#![allow(unreachable_pub, missing_docs, reason = "modules of one test program")]

#[allow(dead_code, reason = "shared with the tests of the sandbox")]
#[path = "sandbox/evidence.rs"]
mod evidence;
#[path = "cloud_live/hands.rs"]
mod hands;
#[allow(dead_code, reason = "shared with the tests of the sandbox")]
#[path = "sandbox/manifests.rs"]
mod manifests;
#[allow(dead_code, reason = "shared with the tests of the sandbox")]
#[path = "sandbox/process.rs"]
mod process;
#[path = "cloud_runs/twice.rs"]
mod twice;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use natgw::machine::identity::EntryId;
use natgw::sandbox::vpc::{Behaviour, Effect, EffectLine, FaultKind, LedgerLine, NewEntry, Outcome, RequestLine};
use serde_json::Value;

use self::evidence::{items, verified_digest};
use self::hands::{Following, Hands, TABLES, is_by_hand};
use self::process::{Natgw, text};
use self::twice::done_twice;

/// Runs of the fuller tier, and of a plain `cargo test`.
const SEEDS: (u64, u64) = (20, 4);
const PODS: usize = 50;

/// Runs under way at once: each is asleep most of its time.
const AT_ONCE: usize = 4;

/// How much faster than the clock machine, cluster and cloud run.
const SPEED: &str = "50";

/// Faults and people end here, in the cloud's time: three seconds.
const QUIET_FROM_MS: u64 = 150_000;

/// The longest delay of what lands late.
const LATE_MS: u64 = 60_000;

/// People do something once in so long of the cloud's time, at the most and at the least.
const MEDDLE_MS: std::ops::Range<u64> = 2_000..10_000;

/// How long a run may take to converge, by the clock: far beyond what it takes.
const PATIENCE: Duration = Duration::from_secs(90);

/// Somebody else's entries in each table where there is room for them: with 25 of ours they are more than a page of 50.
const OTHERS: u16 = 30;

/// The EIP that somebody else maps as a whole, and to what.
const FOREIGN: (&str, &str) = ("203.0.113.2", "172.16.200.9");

/// How often each kind strikes.
fn rate(kind: FaultKind) -> f64 {
    match kind {
        FaultKind::LostReply | FaultKind::Conflict | FaultKind::ReadLag => 0.08,
        FaultKind::LateEffect
        | FaultKind::LostRequest
        | FaultKind::Throttling
        | FaultKind::InternalError
        | FaultKind::StillRunning
        | FaultKind::PatchyView
        | FaultKind::ShiftedPage
        | FaultKind::LongPending => 0.04,
        FaultKind::ForgottenToken
        | FaultKind::TokenMismatch
        | FaultKind::StuckPending
        | FaultKind::UnknownStatus
        | FaultKind::UnknownGatewayStatus
        | FaultKind::UnknownError => 0.02,
    }
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Starts a cloud; where it listens.
fn cloud(seed: u64, quota: usize, path: &Path) -> (Running, String) {
    let faults = FaultKind::ALL.map(|kind| format!("--fault={kind}={}", rate(kind)));
    let mut child = Command::new(env!("CARGO_BIN_EXE_natgw"))
        .args(["cloud", "--listen", "127.0.0.1:0", "--speed", SPEED, "--quiet-from", &QUIET_FROM_MS.to_string()])
        .args(["--set=read-lag-max-ms=20000", "--set=pending-max-ms=60000"])
        .arg(format!("--set=late-effect-max-ms={LATE_MS}"))
        .args(["--set=throttle-hint-ms=300", "--set=create-conflict-ms=40"])
        .args([format!("--seed={seed}"), format!("--entry-quota={quota}")])
        .arg(format!("--any-entry={}={}", FOREIGN.0, FOREIGN.1))
        .arg(format!("--ledger={}", path.display()))
        .args(faults)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    (Running(child), line.trim().strip_prefix("listening on ").unwrap().to_owned())
}

/// What one run met, by name.
type Met = BTreeMap<&'static str, usize>;

/// What people do and what follows from the account; beside every kind of fault.
const MORE: [&str; 5] =
    ["removed by hand", "taken by hand", "entries of somebody else", "pages after the first", "quota exceeded"];

/// What was never met although it was to be.
fn missing(met: &Met) -> Vec<&'static str> {
    let named = FaultKind::ALL.iter().map(|kind| kind.as_str()).chain(MORE);
    named.filter(|name| met.get(name).is_none_or(|times| *times == 0)).collect()
}

/// Entry, external and internal address and port, protocol.
type Mapped = BTreeSet<[String; 6]>;

/// What the PodDNATs of a printed list show.
fn shown(list: &Value) -> Mapped {
    let entries = items(list).iter().filter_map(|item| item["status"]["entries"].as_array()).flatten();
    let names = ["forwardEntryId", "externalIP", "externalPort", "internalIP", "internalPort", "ipProtocol"];
    entries.map(|entry| names.map(|name| entry[name].as_str().unwrap().to_owned())).collect()
}

/// What stands in the tables by requests of the controller's.
fn ours(standing: &BTreeMap<EntryId, (NewEntry, bool)>) -> Mapped {
    let ours = standing.iter().filter(|(_, (_, by_hand))| !by_hand);
    let mapped = ours.map(|(entry, (spec, _))| {
        let [external, internal] = [spec.external_port, spec.internal_port].map(|port| port.to_string());
        let [eip, ip] = [spec.external_ip, spec.internal_ip].map(|address| address.to_string());
        [entry.to_string(), eip, external, ip, internal, spec.protocol.as_str().to_owned()]
    });
    mapped.collect()
}

/// How many pods the tables have room for beside what is somebody else's.
fn room(standing: &BTreeMap<EntryId, (NewEntry, bool)>, quota: usize) -> usize {
    let foreign =
        |table: &str| standing.values().filter(|(spec, by_hand)| *by_hand && spec.table.to_string() == table).count();
    TABLES.iter().map(|(table, ..)| quota.saturating_sub(foreign(table)).min(PODS / 2)).sum()
}

fn run(seed: u64) -> Met {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (book, manifest, kept, config) = (path("ledger"), path("pods.yaml"), path("kept"), path("natgw.yaml"));
    // Every third account has no room for all.
    let quota = if seed.is_multiple_of(3) { 20 } else { 100 };
    let (running, url) = cloud(seed, quota, &book);
    manifests::write(&manifest, &manifests::deployment(PODS, "80"));
    manifests::write(&config, &configuration());
    let mut hands = Hands::new(&url, seed);
    if quota > usize::from(OTHERS) {
        hands.others(OTHERS);
    }
    let arguments = ["sandbox", "-o", "json", "--speed", SPEED, "--cloud", &url, "--config", text(&config)];
    let sandbox = Natgw::start(&[&arguments[..], &["--journal", text(&kept), text(&manifest)]].concat());

    let mut following = Following::of(&book);
    let (mut list, mut next_ms) = (Value::Null, 0);
    let until = Instant::now() + PATIENCE;
    loop {
        hands.wait();
        following.read();
        if let Some(newest) = sandbox.newest_document() {
            list = newest;
        }
        let now_ms = following.now_ms();
        if now_ms < QUIET_FROM_MS {
            if now_ms >= next_ms {
                hands.meddle(&following);
                next_ms = now_ms + MEDDLE_MS.start + hands.draw(MEDDLE_MS.end - MEDDLE_MS.start);
            }
            continue;
        }
        let standing = following.standing();
        let (room, ours) = (room(&standing, quota), ours(&standing));
        let shown = if list.is_null() { Mapped::new() } else { shown(&list) };
        if now_ms > QUIET_FROM_MS + LATE_MS && shown == ours && shown.len() == room {
            break;
        }
        let differ: Vec<_> = shown.symmetric_difference(&ours).collect();
        assert!(Instant::now() < until, "seed {seed}: {} shown, room for {room}, differ {differ:?}", shown.len());
    }
    let ended = sandbox.terminate();
    assert!(ended.status.success(), "seed {seed}: {:?}", ended.said.last());
    drop(running);
    verified_digest(&kept);
    let met = judge(seed, &evidence::ledger(&book));
    println!("seed {seed}: {met:?}");
    met
}

/// Every EIP of both gateways; everything is read again once a minute, of which one here has fifty.
fn configuration() -> String {
    let pools = manifests::small_pool(1_024);
    let every_eip = pools.lines().filter(|line| !line.contains("eips:")).map(|line| format!("{line}\n"));
    every_eip.chain(["  resyncInterval: 60s\n".to_owned()]).collect()
}

/// No request had a second effect, nothing of somebody else's was touched; [`evidence::ledger`] has looked for other actions.
fn judge(seed: u64, lines: &[LedgerLine]) -> Met {
    let mut met = Met::new();
    let (mut foreign, mut ours, mut had) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let mut removed: BTreeSet<EntryId> = BTreeSet::new();
    for line in lines {
        match line {
            LedgerLine::Effect(effect) => {
                let external = effect.spec.as_ref().map(|spec| (spec.external_ip, spec.external_port.to_string()));
                let by_hand = is_by_hand(effect.token.as_deref());
                match &effect.effect {
                    Effect::Created if !by_hand => {
                        ours.extend(effect.entry.clone());
                        had.extend(external);
                    }
                    Effect::Created | Effect::InsertedByHand => {
                        foreign.extend(effect.entry.clone());
                        *met.entry("entries of somebody else").or_default() += 1;
                        *met.entry("taken by hand").or_default() += usize::from(had.contains(&external.unwrap()));
                    }
                    Effect::Deleting | Effect::Gone | Effect::EditedByHand | Effect::RemovedByHand => {
                        let entry = effect.entry.as_ref().unwrap();
                        assert!(!foreign.contains(entry), "seed {seed}: {entry} is somebody else's");
                    }
                    Effect::Available | Effect::LateRefused { .. } | Effect::LateRepeated => {}
                }
            }
            LedgerLine::Request(request) if is_by_hand(request.token.as_deref()) => {
                if let ("DeleteForwardEntry", Outcome::Done { entry }) = (request.action.as_str(), &request.outcome) {
                    removed.extend(entry.clone());
                }
            }
            LedgerLine::Request(request) => {
                let of = |name: &str| request.parameters.get(name).map(String::as_str);
                if request.action == "DeleteForwardEntry" && !matches!(request.outcome, Outcome::Lost) {
                    let named = of("ForwardEntryId").unwrap();
                    let named = EntryId::from(named);
                    assert!(!foreign.contains(&named), "seed {seed}: {named} is somebody else's");
                    assert!(ours.contains(&named), "seed {seed}: {named} was never ours");
                }
                let later =
                    request.action == "DescribeForwardTableEntries" && of("PageNumber").is_some_and(|n| n != "1");
                *met.entry("pages after the first").or_default() += usize::from(later);
                let full =
                    matches!(&request.outcome, Outcome::Refused { code, .. } if code.starts_with("QuotaExceeded"));
                *met.entry("quota exceeded").or_default() += usize::from(full);
                if let Some(fault) = request.fault {
                    *met.entry(fault.as_str()).or_default() += 1;
                }
            }
        }
    }
    assert_eq!(done_twice(lines, Behaviour::default().token_lifetime_ms), [""; 0], "seed {seed}: second effects");
    met.insert("removed by hand", removed.len());
    met
}

fn seeds() -> u64 {
    let (full, quick) = SEEDS;
    if std::env::var("NATGW_TIER").is_ok_and(|tier| tier == "ci") { full } else { quick }
}

#[test]
fn runs_over_real_http_converge_without_a_second_effect() {
    let seeds = seeds();
    let (next, met) = (Mutex::new(0..seeds), Mutex::new(Met::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let Some(seed) = next.lock().unwrap().next() else { return };
                    for (kind, times) in run(seed) {
                        *met.lock().unwrap().entry(kind).or_default() += times;
                    }
                }
            });
        }
    });
    let met = met.into_inner().unwrap();
    println!("{seeds} runs of {PODS} pods: {met:?}");
    if seeds == SEEDS.0 {
        assert_eq!(missing(&met), [""; 0], "never met");
    }
}

#[test]
fn a_set_of_runs_that_did_not_meet_something_is_told_from_one_that_did() {
    let named = || FaultKind::ALL.iter().map(|kind| kind.as_str()).chain(MORE);
    let met: Met = named().map(|name| (name, 1)).collect();
    assert_eq!(missing(&met), [""; 0]);
    for name in named() {
        let never = |times: Option<usize>| {
            let mut met = met.clone();
            met.remove(name);
            met.extend(times.map(|times| (name, times)));
            missing(&met)
        };
        assert_eq!((never(None), never(Some(0))), (vec![name], vec![name]));
    }
}

/// What the judge is for: it sees an entry of somebody else's go, and one that was never the controller's be deleted.
#[test]
fn a_touched_entry_of_somebody_else_is_seen() {
    let effect = |effect| {
        let entry = Some(EntryId::from("fwd-1"));
        let tuple = natgw::machine::identity::Tuple {
            external_ip: [203, 0, 113, 1].into(),
            external_port: 512,
            internal_ip: [172, 16, 0, 1].into(),
            internal_port: 80,
            protocol: natgw::machine::identity::Protocol::Tcp,
        };
        let spec = Some(NewEntry::of("ftb-sandbox-j".into(), tuple, "somebody"));
        LedgerLine::Effect(EffectLine { at_ms: 0, effect, entry, spec, token: None, request_id: None })
    };
    let deletion = LedgerLine::Request(RequestLine {
        at_ms: 0,
        request_id: "R".to_owned(),
        action: "DeleteForwardEntry".to_owned(),
        parameters: [("ForwardEntryId".to_owned(), "fwd-1".to_owned())].into(),
        token: None,
        outcome: Outcome::Done { entry: None },
        reply: None,
        fault: None,
        trouble: None,
    });
    let judged = |lines: Vec<LedgerLine>| std::panic::catch_unwind(|| judge(0, &lines)).is_ok();
    assert!(judged(vec![effect(Effect::InsertedByHand)]));
    assert!(!judged(vec![effect(Effect::InsertedByHand), effect(Effect::Deleting)]));
    assert!(!judged(vec![effect(Effect::InsertedByHand), deletion.clone()]));
    assert!(!judged(vec![deletion]), "never ours");
}
