//! The whole controller, as a program, against `natgw cloud`, as a program, over real HTTP: twenty seeded runs of 50 pods
//! under faults of every kind, which end after a while. Then everything has to be as it was asked for.
#![cfg(feature = "adapters")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "what is missing is a failed test")]
#![allow(unreachable_pub, missing_docs, reason = "modules of one test program")]

#[allow(dead_code, reason = "shared with the tests of the sandbox")]
#[path = "sandbox/evidence.rs"]
mod evidence;
#[allow(dead_code, reason = "shared with the tests of the sandbox")]
#[path = "sandbox/manifests.rs"]
mod manifests;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;

use natgw::sandbox::vpc::{Effect, FaultKind, LedgerLine, Outcome};
use serde_json::Value;

use self::evidence::{ledger, published, standing, verified_digest};

const SEEDS: u64 = 20;
const PODS: usize = 50;

/// Runs under way at once: each is asleep most of its time.
const AT_ONCE: usize = 4;

/// How much faster than the clock machine, cluster and cloud run.
const SPEED: &str = "50";

/// Faults end here, in the cloud's time: a minute and a half, which is less than two seconds.
const QUIET_FROM_MS: &str = "90000";

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
        .args(["cloud", "--listen", "127.0.0.1:0", "--speed", SPEED, "--quiet-from", QUIET_FROM_MS])
        .args(["--set=late-effect-max-ms=60000", "--set=read-lag-max-ms=20000", "--set=pending-max-ms=60000"])
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

/// What one run met, by kind.
type Met = BTreeMap<FaultKind, usize>;

fn run(seed: u64) -> Met {
    let room = tempfile::tempdir().unwrap();
    let (path, manifest, folder) =
        (room.path().join("ledger"), room.path().join("pods.yaml"), room.path().join("kept"));
    // Every third account has no room for all.
    let quota = if seed.is_multiple_of(3) { 20 } else { 100 };
    let (running, url) = cloud(seed, quota, &path);
    manifests::write(&manifest, &manifests::deployment(PODS, "80"));
    let output = Command::new(env!("CARGO_BIN_EXE_natgw"))
        .args(["sandbox", "--settle", "-o", "json", "--speed", SPEED, "--cloud", &url, "--journal"])
        .args([&folder, &manifest])
        .env_clear()
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "seed {seed}: {said}");
    let list: Value = serde_json::from_slice(&output.stdout).unwrap();
    let lines = ledger(&path);
    drop(running);

    let published = published(&list);
    // The account's own entry takes one place of the first table.
    let room_for = (quota - 1).min(PODS / 2) + quota.min(PODS / 2);
    assert_eq!(published.len(), room_for, "seed {seed}: {said}");
    let standing = standing(&lines);
    assert!(published.is_subset(&standing), "seed {seed}: what is shown is there");
    let more: Vec<_> = standing.difference(&published).collect();
    assert!(more.iter().all(|((eip, _), (internal, _), _)| (eip.as_str(), internal.as_str()) == FOREIGN), "{more:?}");
    assert_eq!(more.len(), 1, "seed {seed}: somebody else's entry stands, and nothing of ours is left over: {more:?}");

    judge(seed, &lines);
    verified_digest(&folder);
    let mut met = Met::new();
    for line in &lines {
        if let LedgerLine::Request(request) = line
            && let Some(fault) = request.fault
        {
            *met.entry(fault).or_default() += 1;
        }
    }
    met
}

/// No request had a second effect, nothing of somebody else's was touched; [`ledger`] has looked for other actions.
fn judge(seed: u64, lines: &[LedgerLine]) {
    let mut created: BTreeMap<&str, usize> = BTreeMap::new();
    let (mut foreign, mut ours) = (BTreeSet::new(), BTreeSet::new());
    for line in lines {
        match line {
            LedgerLine::Effect(effect) => match &effect.effect {
                Effect::Created => {
                    *created.entry(effect.token.as_deref().unwrap()).or_default() += 1;
                    ours.extend(effect.entry.clone());
                }
                Effect::InsertedByHand => foreign.extend(effect.entry.clone()),
                Effect::Available
                | Effect::Deleting
                | Effect::Gone
                | Effect::LateRefused { .. }
                | Effect::LateRepeated
                | Effect::EditedByHand
                | Effect::RemovedByHand => {}
            },
            LedgerLine::Request(request) => {
                let named = request.parameters.get("ForwardEntryId");
                if request.action == "DeleteForwardEntry" && !matches!(request.outcome, Outcome::Lost) {
                    let named = named.unwrap().as_str();
                    assert!(!foreign.iter().any(|entry: &natgw::machine::identity::EntryId| entry.as_str() == named));
                    assert!(ours.iter().any(|entry| entry.as_str() == named), "seed {seed}: {named} was never ours");
                }
            }
        }
    }
    // The uniqueness of tuples stops a repeat whose token was forgotten while the first entry stands.
    let twice: Vec<_> = created.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "seed {seed}: {twice:?}");
    assert_eq!(foreign.len(), 1);
}

#[test]
fn twenty_runs_over_real_http_converge_without_a_second_effect() {
    let (next, met) = (Mutex::new(0..SEEDS), Mutex::new(Met::new()));
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
    println!("{SEEDS} runs of {PODS} pods: {met:?}");
    for kind in FaultKind::ALL {
        // A table of one page has no second one that could be shifted.
        assert!(met.contains_key(&kind) || kind == FaultKind::ShiftedPage, "{kind} was never met");
    }
}
