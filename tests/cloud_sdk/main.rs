//! The vendor's own Python SDK against `natgw cloud`, unchanged but for the endpoint, and its signatures beside ours.
//!
//! The SDK is installed into an environment of its own under `target`. Without Python, or where nothing can be installed,
//! the tests say loudly that they were skipped; with `CI=true` they fail instead.
#![cfg(feature = "adapters")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a broken fixture is a failed test")]

#[allow(dead_code, reason = "shared by the suites that have a simulated cloud")]
#[path = "../policy/mod.rs"]
mod policy;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use natgw::cloud::classes::ACTIONS;
use natgw::cloud::sign;
use natgw::sandbox::vpc::{Deed, Documented, Stroke};
use serde_json::{Value, json};

/// What is installed: the last versions that the vendor released.
const PACKAGES: [&str; 3] =
    ["aliyun-python-sdk-core==2.16.0", "aliyun-python-sdk-vpc==3.0.48", "aliyun-python-sdk-ecs==4.24.83"];

/// Random parameter sets that are signed by both.
const SETS: u64 = 1_000;

/// The environment's Python, or nothing where it cannot be had.
fn python() -> Option<&'static Path> {
    static PYTHON: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match PYTHON.get_or_init(install) {
        Ok(python) => Some(python),
        Err(why) if is_ci() => panic!("the vendor's SDK cannot be installed: {why}"),
        Err(why) => {
            eprintln!("!! SKIPPED, the vendor's SDK cannot be installed: {why}");
            None
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "CI says so by its environment")]
fn is_ci() -> bool {
    std::env::var("CI").is_ok_and(|ci| ci == "true")
}

fn install() -> Result<PathBuf, String> {
    let names = PACKAGES.join(" ");
    let hash = blake3::hash(names.as_bytes()).to_hex();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("python-sdk-{}", &hash[..12]));
    let (python, done) = (folder.join("bin/python"), folder.join("installed"));
    if done.exists() {
        return Ok(python);
    }
    let run = |command: &mut Command| {
        let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() { Ok(()) } else { Err(format!("{command:?}: {words}")) }
    };
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))?;
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
    run(Command::new(&python).args(pip).args(PACKAGES))?;
    std::fs::write(done, names).map_err(|error| error.to_string())?;
    Ok(python)
}

fn ask(python: &Path, words: &[&str]) -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cloud_sdk/client.py");
    let output = Command::new(python).arg("-W").arg("ignore").arg(script).args(words).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{words:?}: {out}\n{err}");
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}\n{err}"))
}

/// `natgw cloud`, for as long as it is held.
struct Served {
    child: Child,
    endpoint: String,
    folder: tempfile::TempDir,
}

impl Served {
    fn new(plan: &[Stroke], more: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (file, ledger) = (folder.path().join("plan.json"), folder.path().join("ledger"));
        std::fs::write(&file, serde_json::to_vec(plan).unwrap()).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_natgw"))
            .args(["cloud", "--listen", "127.0.0.1:0", "--speed", "1000", "--plan"])
            .arg(&file)
            .arg("--ledger")
            .arg(&ledger)
            .args(more)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let endpoint =
            line.trim().strip_prefix("listening on http://").unwrap_or_else(|| panic!("{line:?}")).to_owned();
        Self { child, endpoint, folder }
    }

    fn ledger(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.folder.path().join("ledger")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        if !std::thread::panicking() {
            policy::kept_by(&self.folder.path().join("ledger"));
        }
    }
}

#[test]
fn the_vendor_s_sdk_runs_all_eight_actions() {
    let Some(python) = python() else { return };
    let stroke = |action, deed: &str, what: &str, times: u64| {
        serde_json::from_value::<Stroke>(json!({ "action": action, deed: what, "times": times })).unwrap()
    };
    // What its own retries have to get over, where it has any, and what its user has to repeat.
    let plan = [
        stroke("DescribeNetworkInterfaces", "refuse", "Throttling", 2),
        stroke("DescribeNetworkInterfaces", "fault", "internal-error", 3),
        stroke("DescribeNetworkInterfaces", "fault", "lost-reply", 4),
        stroke("DescribeNatGateways", "fault", "throttling", 1),
        stroke("CreateForwardEntry", "fault", "lost-reply", 1),
    ];
    let served = Served::new(&plan, &[]);
    let seen = ask(python, &["drive", &served.endpoint]);
    let expected = json!({
        "throttled": [400, "Throttling.User"],
        "lost": "SDK.HttpError",
        "gateways": ["ngw-sandbox-j", "ngw-sandbox-k"],
        "table": ["ftb-sandbox-j"],
        "eips": ["203.0.113.1", "203.0.113.2", "203.0.113.3"],
        "eip_pages": 2,
        "route_tables": ["vtb-sandbox-j", "vtb-sandbox-k", "vtb-sandbox-system"],
        "route_parts": 2,
        "hops": ["ngw-sandbox-j"],
        "interfaces": 25,
        "interface_parts": 3,
        "created": 23,
        "repeated": true,
        "entry_pages": 3,
        "listed": true,
        "statuses": ["Available"],
        "left": 0,
    });
    assert_eq!(seen, expected);
    let ledger = served.ledger();
    let struck = ledger.iter().filter(|line| line["fault"].is_string()).count();
    assert_eq!(struck, 4, "the plan was met");
    let created = ledger.iter().filter(|line| line["effect"] == "created").count();
    assert_eq!(created, 23, "the lost answer made no second entry");
    let actions: std::collections::BTreeSet<_> = ledger.iter().filter_map(|line| line["action"].as_str()).collect();
    assert_eq!(actions, ACTIONS.into_iter().collect());
}

#[test]
fn the_vendor_s_sdk_reads_every_documented_error_as_documented() {
    let Some(python) = python() else { return };
    let asked: Vec<(&str, Documented)> = ACTIONS
        .into_iter()
        .flat_map(|action| Documented::all().map(move |error| (action, error)))
        .filter(|(action, error)| Documented::find(action, error.code) == Some(*error))
        .collect();
    let mut before: BTreeMap<&str, u64> = BTreeMap::new();
    let plan: Vec<Stroke> = asked
        .iter()
        .map(|(action, error)| {
            let skip = before.entry(action).or_default();
            *skip += 1;
            Stroke::next(Some(action), Deed::Refuse(error.code.to_owned())).after(*skip - 1)
        })
        .collect();
    let served = Served::new(&plan, &[]);
    let actions: Vec<&str> = asked.iter().map(|(action, _)| *action).collect();
    let seen = ask(python, &["errors", &served.endpoint, &serde_json::to_string(&actions).unwrap()]);
    let seen = seen.as_array().unwrap();
    assert_eq!(seen.len(), asked.len());
    for (seen, (action, error)) in seen.iter().zip(&asked) {
        // Where the SDK finds that the server signed the same, it says that the secret is wrong.
        if error.code == "SignatureDoesNotMatch" {
            continue;
        }
        assert_eq!(*seen, json!([error.status, error.code, error.refusal().message, true]), "{action}");
    }
    println!("{} documented errors, each parsed by the vendor's SDK", asked.len());
}

#[test]
fn the_vendor_s_sdk_meets_the_rules_in_the_documented_words() {
    let Some(python) = python() else { return };
    let served = Served::new(&[], &["--entry-quota", "1", "--eip", "203.0.113.2=snat"]);
    let seen = ask(python, &["natural", &served.endpoint]);
    for (name, status, code) in [
        ("duplicated", 400, "ForwardEntry.Duplicated"),
        ("external", 400, "DuplicatedParam.ExternalPort"),
        ("internal", 400, "DuplicatedParam.InternalPort"),
        ("mismatch", 400, "IdempotentParameterMismatch"),
        ("any alone", 400, "OperationFailed.AnyPortConfig"),
        ("range", 400, "InvalidInternalPort.Malformed"),
        ("outside", 400, "Forbidden.DestnationIpOutOfVpcCIDR"),
        ("elsewhere", 400, "InvalidIp.NotInNatgw"),
        ("unknown", 404, "InvalidExternalIp.NotFound"),
        ("table", 404, "InvalidForwardTableId.NotFound"),
        ("protocol", 400, "InvalidProtocal.ValueNotSupported"),
        ("name", 400, "InvalidParameter.Name.Malformed"),
        ("shared", 400, "Forbidden.ExternalIp.UsedInSnatTable"),
        ("quota", 400, "QuotaExceeded.ForwardEntry"),
        ("dry run", 400, "QuotaExceeded.ForwardEntry"),
        ("secret", 400, "InvalidAccessKeySecret"),
    ] {
        assert_eq!((&seen[name][0], &seen[name][1]), (&json!(status), &json!(code)), "{name}: {}", seen[name]);
    }
}

/// A number from a counter: SplitMix64's finalizer, so that a failure can be met again.
fn draw(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A text of letters that each step of encoding treats in its own way.
fn text(state: &mut u64, longest: u64) -> String {
    const LETTERS: &str = "aZ09-_.~ +*/%&=?:;,'\"<>()[]{}|\\^`@!$#\t\u{7f}éñ中文转发\u{1f600}";
    let letters: Vec<char> = LETTERS.chars().collect();
    let length = draw(state) % (longest + 1);
    (0..length).map(|_| letters[usize::try_from(draw(state) % letters.len() as u64).unwrap()]).collect()
}

#[test]
fn a_thousand_random_parameter_sets_are_signed_alike() {
    let Some(python) = python() else { return };
    let mut state = 20_261_122;
    let sets: Vec<(&str, BTreeMap<String, String>, String)> = (0..SETS)
        .map(|n| {
            let parameters = (0..draw(&mut state) % 12)
                .map(|_| (format!("N{}", text(&mut state, 6)), text(&mut state, 40)))
                .collect();
            (if n % 2 == 0 { "GET" } else { "POST" }, parameters, format!("s{}", text(&mut state, 30)))
        })
        .collect();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    for (method, parameters, secret) in &sets {
        writeln!(file, "{}", json!({ "method": method, "parameters": parameters, "secret": secret })).unwrap();
    }
    let theirs = ask(python, &["signatures", file.path().to_str().unwrap()]);
    for (theirs, (method, parameters, secret)) in theirs.as_array().unwrap().iter().zip(&sets) {
        let ours = sign::string_to_sign(method, parameters);
        let signature = sign::signature(secret, &ours);
        assert_eq!(*theirs, json!([*ours, signature]), "{parameters:?}");
    }
    assert_eq!(theirs.as_array().unwrap().len(), sets.len());
    println!("{} random parameter sets signed alike", sets.len());
}
