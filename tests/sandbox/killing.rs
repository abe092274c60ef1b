//! `kill -9` at any announced phase, again and again, against one cloud that lives on.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use natgw::sandbox::vpc::{LedgerLine, Outcome};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::tempdir;

use super::evidence::{
    assert_each_item_once, ledger, mapped, mutations, printed_digest, published, standing, verified_digest,
};
use super::manifests::{deployment, write};
use super::process::{Natgw, text};

/// How many times as fast as the clock everything runs but lease and time-outs.
const SPEED: &str = "60";

/// The phases at which the program is killed, one a round. The manifest of a round makes each of them happen.
const PHASES: &[&str] = &[
    "open",
    "replayed",
    "leading",
    "append",
    "appended",
    "effect-start claim",
    "effect-ended claim",
    "effect-start create",
    "effect-ended create",
    "effect-start status",
    "effect-ended status",
    "effect-start mark",
    "effect-ended mark",
    "effect-start delete",
    "effect-ended delete",
    "effect-start release",
    "effect-ended release",
    "list cluster",
    "list-ended cluster",
    "list survey",
    "list-ended survey",
    "list interfaces",
    "list-ended interfaces",
    "list table",
    "list-ended table",
    "settled",
];

/// A generator that is the same everywhere and each time (Numerical Recipes' constants).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % bound
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

/// `natgw cloud` on a free port.
struct Cloud {
    child: Child,
    url: String,
}

impl Cloud {
    fn start(ledger: &Path) -> Self {
        let arguments = ["cloud", "--listen", "127.0.0.1:0", "--speed", SPEED, "--ledger", text(ledger)];
        let mut command = Command::new(env!("CARGO_BIN_EXE_natgw"));
        let mut child = command.args(arguments).env_clear().stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let url = line.trim().strip_prefix("listening on ").unwrap().to_owned();
        Self { child, url }
    }

    /// Ctrl-C, and how it ended.
    fn interrupt(mut self) -> ExitStatus {
        kill_process(Pid::from_child(&self.child), Signal::INT).unwrap();
        self.child.wait().unwrap()
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[test]
fn a_killed_sandbox_converges_and_does_nothing_twice() {
    let room = tempdir().unwrap();
    let path = |name: &str| room.path().join(name);
    let (manifest, folder, book) = (path("game.yaml"), path("sandbox"), path("ledger.jsonl"));
    let cloud = Cloud::start(&book);
    let arguments = ["sandbox", text(&manifest), "--journal", text(&folder), "--cloud", &cloud.url, "--speed", SPEED];
    let settle = [&arguments[..], &["--settle", "-o", "json"]].concat();

    let mut dice = Dice(0x6e61_7467_7721);
    let mut phases = PHASES.to_vec();
    dice.shuffle(&mut phases);
    let mut killed = BTreeSet::new();
    // Something is mapped before the first round, so that it, too, has something to take down.
    write(&manifest, &deployment(2, "1,2"));
    assert!(Natgw::start(&settle).end().status.success());
    for (round, phase) in phases.into_iter().enumerate() {
        // Another template: every pod is replaced, so that there is something to map and something to take down.
        let pods = 2 + dice.below(3);
        write(&manifest, &deployment(pods, &format!("{},{}", 1_000 + round, 2_000 + round)));
        let announced = format!("phase {phase}");
        let mut natgw = Natgw::start(&[&arguments[..], &["--announce"]].concat());
        // Of two pods at least each effect comes twice, and every one is a group of its own or more.
        let times =
            if ["effect", "append"].iter().any(|often| phase.starts_with(often)) { 1 + dice.below(2) } else { 1 };
        for _ in 0..times {
            natgw.wait_for(&announced, |line| line == announced);
        }
        natgw.kill();
        killed.insert(phase);

        let ended = Natgw::start(&settle).end();
        assert!(ended.status.success(), "after {phase}: {:?}", ended.said);
        let list = ended.documents.last().unwrap();
        let lines = ledger(&book);
        assert_eq!(mapped(list).len(), pods, "after {phase}: {list:#}");
        assert_eq!(published(list), standing(&lines), "after {phase}");
        assert_each_item_once(&lines);
        assert_eq!(verified_digest(&folder), printed_digest(&ended.said), "after {phase}");
    }
    assert_eq!(killed.len(), PHASES.len());
    let drawn: BTreeMap<_, usize> = killed.iter().fold(BTreeMap::new(), |mut drawn, phase| {
        *drawn.entry(phase.split(' ').next().unwrap()).or_default() += 1;
        drawn
    });
    assert_eq!(drawn.len(), 10, "{drawn:?}");
    let repeated = |line: &LedgerLine| matches!(line, LedgerLine::Request(request) if matches!(request.outcome, Outcome::Repeated { .. }));
    assert!(ledger(&book).into_iter().any(|line| repeated(&line)), "no kill came between a call and its record");

    let before = ledger(&book);
    let ended = Natgw::start(&settle).end();
    assert!(ended.status.success());
    let after = ledger(&book);
    assert!(after.len() > before.len(), "it looked");
    assert_eq!(mutations(&after), mutations(&before), "and changed nothing");
    assert!(cloud.interrupt().success());
}
