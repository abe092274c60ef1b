//! Where natgw lives in these tests: the control plane, a simulated cloud with its ledger, a configuration, replicas.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use natgw::machine::identity::Mark;
use natgw::sandbox::vpc::{Effect, LedgerLine};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::api::{Api, eventually, is, propagation};
use crate::children::{command, launch};
use crate::control_plane::{ControlPlane, resident_kib};
use crate::evidence;

/// Far beyond what anything that is waited for takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The same, where a deletion whose answer is unknown may be among it: absence then takes two listings 60 s apart (design.md
/// §5).
pub const CRASH_PATIENCE: Duration = Duration::from_secs(180);

/// PodDNATs of all namespaces, as natgw itself reads them.
pub const PODDNATS: &str = "/apis/alibabacloud.com/v1beta1/poddnats";

/// Where the Lease is.
pub const SYSTEM: &str = "natgw-system";

/// The Lease.
pub const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/natgw-system/leases/natgw";

/// The namespaces of tests carry it, so that all of them can be ended.
const LABEL: &str = "natgw-test";

/// How natgw is configured.
#[derive(Clone, Debug)]
pub struct Settings {
    /// DNAT entries that a table takes.
    pub entry_quota: u32,
    pub adopt: bool,
    /// leaseDuration, renewDeadline, retryPeriod.
    pub lease: [&'static str; 3],
    pub cooldown: &'static str,
    /// How long a mapping or its end may take.
    pub patience: Duration,
    /// How the cloud behaves otherwise than usual: `--set` of `natgw cloud`.
    pub cloud: &'static [&'static str],
}

impl Default for Settings {
    fn default() -> Self {
        let lease = ["3s", "2s", "400ms"];
        Self { entry_quota: 1_000, adopt: false, lease, cooldown: "1s", patience: PATIENCE, cloud: &[] }
    }
}

/// Everything that natgw deals with. At its end nothing of it is left, or the next one sweeps it away.
pub struct World<'p> {
    pub plane: &'p ControlPlane,
    pub api: Api,
    /// How long a mapping or its end may take.
    pub patience: Duration,
    folder: TempDir,
    // It ends with the world.
    cloud: Program,
    address: String,
}

/// A replica of `natgw run`.
pub struct Replica {
    program: Program,
    /// Its journal.
    pub journal: PathBuf,
}

/// What a replica says when it has won the lease, and when it begins to try.
const LEADS: &str = "the lease is won";
const STANDS_BY: &str = "is a candidate for the lease";

/// And where it can be asked.
const LISTENS: &str = "the admin server listens on ";

/// A child with what it says.
struct Program {
    name: String,
    child: Child,
    said: Arc<Mutex<Vec<String>>>,
}

impl<'p> World<'p> {
    /// A cloud of its own, the CRD, and nothing that an earlier one left.
    pub fn new(plane: &'p ControlPlane, settings: &Settings) -> Self {
        let api = plane.admin();
        let folder = tempfile::Builder::new().prefix("natgw-world-").tempdir().unwrap();
        sweep(&api);
        install_crd(plane);
        if api.find(&format!("/api/v1/namespaces/{SYSTEM}")).is_none() {
            api.create("/api/v1/namespaces", &json!({ "metadata": { "name": SYSTEM } })).unwrap();
        }
        let ledger = folder.path().join("ledger");
        let mut cloud = natgw(&["cloud", "--listen", "127.0.0.1:0", "--ledger"]);
        cloud.arg(&ledger).args(["--entry-quota", &settings.entry_quota.to_string()]);
        for switch in settings.cloud {
            cloud.args(["--set", switch]);
        }
        let (cloud, address) = Program::start_listening("cloud", cloud);
        let world = Self { plane, api, patience: settings.patience, folder, cloud, address };
        world.configure(settings);
        world
    }

    /// Writes the configuration; replicas that are started from now on have it.
    pub fn configure(&self, settings: &Settings) {
        fs::write(self.path("natgw.yaml"), configuration(settings)).unwrap();
    }

    /// Host and port of the cloud.
    pub fn cloud(&self) -> &str {
        &self.address
    }

    /// A file beside the world's own.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts a replica with that name, whose journal is kept from one start to the next.
    pub fn replica(&self, name: &str) -> Replica {
        self.replica_of(name, &self.plane.kubeconfig())
    }

    /// A replica that comes with that kubeconfig.
    pub fn replica_of(&self, name: &str, kubeconfig: &Path) -> Replica {
        self.replica_with(name, kubeconfig, &self.address, &[])
    }

    /// A replica that comes with that kubeconfig, finds the cloud there, and has these arguments, too.
    pub fn replica_with(&self, name: &str, kubeconfig: &Path, cloud: &str, arguments: &[&str]) -> Replica {
        let journal = self.path(&format!("journal-{name}"));
        let mut run = natgw(&["run", "--config"]);
        run.arg(self.path("natgw.yaml")).arg("--kubeconfig").arg(kubeconfig).arg("--journal").arg(&journal);
        run.args(arguments).env("VPC_ENDPOINT", cloud).env("ECS_ENDPOINT", cloud);
        run.env("ALICLOUD_CLIENT_SCHEME", "HTTP").env("POD_NAME", name);
        let program = Program::start(name, run);
        Replica { program, journal }
    }

    /// A replica that leads.
    pub fn leader(&self) -> Replica {
        let mut replica = self.replica("a");
        replica.await_leading();
        replica
    }

    /// A replica that leads and has no history.
    pub fn leader_with_empty_journal(&self) -> Replica {
        let mut replica = self.replica("without-history");
        replica.await_leading();
        replica
    }

    /// A namespace of the test's own.
    pub fn namespace(&self, name: &str) -> Namespace<'_> {
        let labels = json!({ LABEL: "true" });
        self.api.create("/api/v1/namespaces", &json!({ "metadata": { "name": name, "labels": labels } })).unwrap();
        Namespace { api: &self.api, name: name.to_owned() }
    }

    /// The cloud's ledger so far.
    pub fn ledger(&self) -> Vec<LedgerLine> {
        evidence::ledger(&self.path("ledger"))
    }

    /// Entries in the cloud's tables, by what they map.
    pub fn entries(&self) -> BTreeSet<evidence::Tuple> {
        evidence::standing(&self.ledger())
    }

    /// Waits until nothing of natgw's is left: no PodDNAT, no entry. Says how long it took.
    pub fn await_nothing_left(&self) -> Duration {
        let began = Instant::now();
        eventually("world without PodDNATs and entries", self.patience, || {
            let left = self.api.list(PODDNATS);
            let entries = self.entries();
            let names: Vec<_> = left.iter().map(|object| object["metadata"].to_string()).collect();
            is(left.is_empty() && entries.is_empty(), (names, entries))
        });
        began.elapsed()
    }

    /// Ends everything that tests made, waits until natgw has cleaned up, and checks that nothing was done twice.
    pub fn end(self, replicas: Vec<Replica>) {
        empty_namespaces(&self.api);
        self.await_nothing_left();
        // To read the ledger asks the RAM policy, too.
        assert_nothing_twice(&self.ledger());
        for replica in replicas {
            let (status, said) = replica.terminate();
            assert!(status.success(), "a replica ended with {status}:\n{}", said.join("\n"));
        }
    }
}

impl Drop for World<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            let (kept, id) = (kept(), self.cloud.child.id());
            fs::copy(self.path("ledger"), kept.join(format!("ledger-{id}"))).ok();
            for entry in fs::read_dir(self.folder.path()).into_iter().flatten().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                if name.starts_with("journal-") {
                    copy(&entry.path(), &kept.join(format!("{name}-{id}"))).ok();
                }
            }
            let objects = self.api.get(PODDNATS).map_or_else(|refused| refused.to_string(), |list| format!("{list:#}"));
            fs::write(kept.join(format!("poddnats-{id}.json")), objects).ok();
            eprintln!("what is left is in {}, with {id} in its name", kept.display());
        }
    }
}

/// Copies a folder with everything below it.
pub fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// Where cases that fail leave what they know.
fn kept() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cluster");
    fs::create_dir_all(&folder).ok();
    folder
}

/// No decided creation had two effects, and a repeated token came with equal parameters.
pub fn assert_nothing_twice(ledger: &[LedgerLine]) {
    let (mut created, mut asked) = (BTreeSet::new(), BTreeMap::new());
    for line in ledger {
        match line {
            LedgerLine::Effect(effect) if effect.effect == Effect::Created => {
                let spec = effect.spec.as_ref().unwrap();
                // Not what the original controller left.
                let Some(mark) = Mark::parse(&spec.name) else { continue };
                let item = (mark.generation, spec.internal_port.to_string(), spec.protocol.as_str().to_owned());
                assert!(created.insert(item.clone()), "{item:?} was created twice");
            }
            LedgerLine::Effect(_) => {}
            LedgerLine::Request(request) => {
                let Some(token) = &request.token else { continue };
                let parameters = (&request.action, &request.parameters);
                let before = asked.entry(token).or_insert(parameters);
                assert_eq!(*before, parameters, "token {token} came with other parameters");
            }
        }
    }
}

/// A namespace, and what is looked at in it.
pub struct Namespace<'w> {
    pub api: &'w Api,
    pub name: String,
}

/// The parts of a PodDNAT or a pod that tests compare, by name of the pod.
pub type Mapped = BTreeMap<String, Vec<(String, String)>>;

impl Namespace<'_> {
    /// The path of a kind (`pods`, `apps/v1/deployments`, `alibabacloud.com/v1/poddnats`).
    pub fn path(&self, kind: &str) -> String {
        let name = &self.name;
        match kind.rsplit_once('/') {
            None => format!("/api/v1/namespaces/{name}/{kind}"),
            Some((group, kind)) => format!("/apis/{group}/namespaces/{name}/{kind}"),
        }
    }

    pub fn create(&self, kind: &str, object: &Value) -> Value {
        self.api.create(&self.path(kind), object).unwrap_or_else(|refused| panic!("{object:#}: {refused}"))
    }

    pub fn delete(&self, kind: &str, name: &str, options: &Value) {
        let path = format!("{}/{name}", self.path(kind));
        self.api.delete(&path, options).unwrap_or_else(|refused| panic!("{path}: {refused}"));
    }

    pub fn pods(&self) -> Vec<Value> {
        self.api.list(&self.path("pods"))
    }

    pub fn poddnats(&self) -> Vec<Value> {
        self.api.list(&self.path("alibabacloud.com/v1beta1/poddnats"))
    }

    pub fn scale(&self, kind: &str, name: &str, replicas: u64) {
        let path = format!("{}/{name}", self.path(kind));
        self.api.patch(&path, &json!({ "spec": { "replicas": replicas } })).unwrap();
    }

    /// The ids of the entries that PodDNATs here publish, by name.
    pub fn entry_ids(&self) -> BTreeMap<String, Vec<String>> {
        let ids = |object: &Value| {
            let entries = object["status"]["entries"].as_array().into_iter().flatten();
            entries.map(|entry| text(&entry["forwardEntryId"])).collect()
        };
        self.poddnats().iter().map(|object| (text(&object["metadata"]["name"]), ids(object))).collect()
    }

    /// Waits until exactly `pods` pods run here, each is mapped as it asks, and every published entry is in the cloud.
    pub fn await_mapped(&self, world: &World<'_>, pods: usize) -> Mapped {
        eventually(&format!("{pods} mapped pods in {}", self.name), world.patience, || self.mapped(world, pods))
    }

    /// What [`Namespace::await_mapped`] waits for, or what is not so.
    pub fn mapped(&self, world: &World<'_>, pods: usize) -> Result<Mapped, String> {
        let running = self.pods();
        if running.len() != pods || running.iter().any(|pod| !pod["metadata"]["deletionTimestamp"].is_null()) {
            return Err(format!("{} pods", running.len()));
        }
        let objects = self.poddnats();
        if objects.len() != pods {
            return Err(format!("{} PodDNATs", objects.len()));
        }
        let entries = world.entries();
        let by_name: BTreeMap<_, _> =
            objects.iter().map(|object| (text(&object["metadata"]["name"]), object)).collect();
        let mut mapped = Mapped::new();
        for pod in &running {
            let name = text(&pod["metadata"]["name"]);
            let object = by_name.get(&name).ok_or_else(|| format!("{name} has no PodDNAT"))?;
            let published = published(pod, object)?;
            let all = published.iter().all(|tuple| entries.contains(tuple));
            is(all, ("not in the cloud", &published, &entries))?;
            mapped.insert(name, published.into_iter().map(|(external, _, _)| external).collect());
        }
        Ok(mapped)
    }
}

/// The entries that a PodDNAT publishes for a pod, where they are as the pod asks.
fn published(pod: &Value, object: &Value) -> Result<Vec<evidence::Tuple>, String> {
    let name = &pod["metadata"]["name"];
    let claim: Value = serde_json::from_str(object["metadata"]["annotations"][CLAIM].as_str().unwrap_or("{}")).unwrap();
    is(claim["podUID"] == pod["metadata"]["uid"], (name, "the claim is of another pod", &claim))?;
    let asked = pod["metadata"]["annotations"]["k8s.aliyun.com/pod-dnat-expose-port"].as_str().unwrap_or_default();
    let entries = object["status"]["entries"].as_array().ok_or_else(|| format!("{name} has no entries yet"))?;
    let address = text(&pod["status"]["podIP"]);
    let published: Vec<_> = entries.iter().map(tuple).collect();
    let internal: Vec<_> = published.iter().map(|(_, (ip, port), _)| (ip.clone(), port.clone())).collect();
    let expected: Vec<_> =
        asked.split(',').map(|port| (address.clone(), port.split('/').next().unwrap().to_owned())).collect();
    is(internal == expected, (name, &internal, &expected))?;
    is(object["status"]["conditions"][0]["status"] == "True", &object["status"])?;
    Ok(published)
}

/// The annotation that makes a PodDNAT a claim.
const CLAIM: &str = "k8s.aliyun.com/pod-dnat-claim";

fn tuple(entry: &Value) -> evidence::Tuple {
    let field = |name: &str| text(&entry[name]);
    ((field("externalIP"), field("externalPort")), (field("internalIP"), field("internalPort")), field("ipProtocol"))
}

/// The word that follows these in a line.
fn text_after(line: &str, words: &str) -> String {
    let rest = line.split_once(words).map_or("", |(_, rest)| rest);
    rest.split(|c: char| c.is_whitespace() || c == '"').next().unwrap_or_default().to_owned()
}

pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

impl Replica {
    /// Waits until it leads.
    pub fn await_leading(&mut self) {
        self.program.await_line("leader", LEADS);
    }

    /// Waits until it could lead.
    pub fn await_standing_by(&mut self) {
        self.program.await_line("candidate", STANDS_BY);
    }

    /// Waits until its admin server listens, and gives host and port of it.
    pub fn await_admin(&mut self) -> String {
        self.program.await_line("admin server", LISTENS);
        let line = self.said().into_iter().find(|line| line.contains(LISTENS)).unwrap();
        text_after(&line, LISTENS)
    }

    /// It has won the lease.
    pub fn leads(&self) -> bool {
        self.program.has_said(LEADS)
    }

    /// It runs.
    pub fn is_alive(&mut self) -> bool {
        self.program.child.try_wait().unwrap().is_none()
    }

    /// `kill -9`, and waits for the end.
    pub fn kill(self) {
        drop(self.program);
    }

    /// SIGTERM, and how it ended.
    pub fn terminate(self) -> (ExitStatus, Vec<String>) {
        self.program.signal(Signal::TERM)
    }

    /// A signal that does not end it.
    pub fn send(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.program.child), signal).unwrap();
    }

    /// Its resident memory.
    pub fn memory_kib(&self) -> u64 {
        resident_kib(self.program.child.id())
    }

    /// What it said so far.
    pub fn said(&self) -> Vec<String> {
        self.program.said.lock().unwrap().clone()
    }
}

impl Program {
    fn start(name: &str, mut command: std::process::Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let child = launch(command).unwrap();
        Self::listen_to(name, child)
    }

    /// Starts what says on its standard output where it listens, and gives that host and port.
    fn start_listening(name: &str, mut command: std::process::Command) -> (Self, String) {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = launch(command).unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let program = Self::listen_to(name, child);
        let address = line.trim().strip_prefix("listening on http://").map(str::to_owned);
        (program, address.unwrap_or_else(|| panic!("{name} said {line:?}")))
    }

    fn listen_to(name: &str, mut child: Child) -> Self {
        let said = Arc::new(Mutex::new(Vec::new()));
        let (err, into) = (child.stderr.take().unwrap(), Arc::clone(&said));
        thread::spawn(move || follow(err, &into));
        Self { name: name.to_owned(), child, said }
    }

    fn assert_alive(&mut self) {
        if let Some(status) = self.child.try_wait().unwrap() {
            panic!("{} ended with {status}:\n{}", self.name, self.last());
        }
    }

    fn await_line(&mut self, what: &str, words: &str) {
        eventually(what, PATIENCE, || {
            self.assert_alive();
            is(self.has_said(words), self.last())
        });
    }

    fn has_said(&self, words: &str) -> bool {
        self.said.lock().unwrap().iter().any(|line| line.contains(words))
    }

    fn last(&self) -> String {
        let said = self.said.lock().unwrap();
        said[said.len().saturating_sub(40)..].join("\n")
    }

    fn signal(mut self, signal: Signal) -> (ExitStatus, Vec<String>) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
        let status = eventually("end of a program", PATIENCE, || {
            self.child.try_wait().unwrap().ok_or_else(|| format!("{} still runs:\n{}", self.name, self.last()))
        });
        (status, self.said.lock().unwrap().clone())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("---- {} said last:\n{}", self.name, self.last());
            let log = kept().join(format!("{}-{}.log", self.name, self.child.id()));
            fs::write(log, self.said.lock().unwrap().join("\n")).ok();
        }
        // Both fail where it has ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn follow(from: impl Read, into: &Mutex<Vec<String>>) {
    for line in BufReader::new(from).lines().map_while(Result::ok) {
        into.lock().unwrap().push(line);
    }
}

/// The program under test, with nothing of the tester's own account.
pub fn natgw(arguments: &[&str]) -> std::process::Command {
    let mut natgw = command(Path::new(env!("CARGO_BIN_EXE_natgw")));
    natgw.env_clear().args(arguments);
    natgw
}

fn configuration(settings: &Settings) -> String {
    let [lease, renew, retry] = settings.lease;
    let gateway = |zone: &str| {
        json!({
            "natgwId": format!("ngw-sandbox-{zone}"), "zoneId": format!("cn-hangzhou-{zone}"),
            "portRangeStart": 512, "portRangeEnd": 4_096,
        })
    };
    let configuration = json!({
        "clusterID": "c11ba338192", "regionID": "cn-hangzhou", "vpcID": "vpc-sandbox",
        "enableControllers": ["natgw"],
        "networkController": {
            "natGwPool": [gateway("j"), gateway("k")],
            "portCooldown": settings.cooldown, "resyncInterval": "10s", "adopt": settings.adopt,
        },
        "credential": { "accessKey": "sandbox", "accessSecret": "sandbox-secret" },
        "leaderElection": {
            "namespace": SYSTEM, "leaseDuration": lease, "renewDeadline": renew, "retryPeriod": retry,
        },
    });
    configuration.to_string()
}

/// Applies `natgw crd`, and waits until both versions are served.
pub fn install_crd(plane: &ControlPlane) {
    let mut crd = natgw(&["crd"]);
    crd.stdout(Stdio::piped());
    let output = launch(crd).unwrap().wait_with_output().unwrap();
    assert!(output.status.success(), "natgw crd ended with {}", output.status);
    plane
        .kubectl(
            &["apply", "--server-side", "--force-conflicts", "-f", "-"],
            &String::from_utf8(output.stdout).unwrap(),
        )
        .unwrap();
    let api = plane.admin();
    eventually("PodDNATs in both versions", PATIENCE, || {
        let served = |version| api.get(&format!("/apis/alibabacloud.com/{version}/poddnats"));
        served("v1beta1").and_then(|_| served("v1")).map(drop).map_err(|refused| refused.to_string())
    });
}

/// Removes workloads and pods of the tests' namespaces, and then, whenever that ends, the namespaces.
fn empty_namespaces(api: &Api) {
    let namespaces = api.list(&format!("/api/v1/namespaces?labelSelector={LABEL}"));
    let paths: Vec<_> = namespaces
        .iter()
        .flat_map(|namespace| {
            let name = text(&namespace["metadata"]["name"]);
            let workloads = ["deployments", "statefulsets", "replicasets"];
            let workloads = workloads.map(|kind| format!("/apis/apps/v1/namespaces/{name}/{kind}"));
            workloads.into_iter().chain([format!("/api/v1/namespaces/{name}/pods")])
        })
        .collect();
    let force = json!({ "propagationPolicy": "Background", "gracePeriodSeconds": 0 });
    eventually("end of workloads and pods", CRASH_PATIENCE, || {
        // What is being created while its owner goes comes once more. Thousands take longer than an answer may.
        for path in &paths {
            api.delete(path, &force).map_err(|refused| format!("{path}: {refused}"))?;
        }
        let left: usize = paths.iter().map(|path| api.list(path).len()).sum();
        is(left == 0, left)
    });
    for namespace in namespaces {
        // It may be on its way already.
        api.delete(&format!("/api/v1/namespaces/{}", text(&namespace["metadata"]["name"])), &propagation("Background"))
            .ok();
    }
}

/// Ends the namespaces of tests, and waits until they are gone.
pub fn end_namespaces(api: &Api) {
    let path = format!("/api/v1/namespaces?labelSelector={LABEL}");
    for namespace in api.list(&path) {
        let name = text(&namespace["metadata"]["name"]);
        // It may be on its way already.
        api.delete(&format!("/api/v1/namespaces/{name}"), &propagation("Background")).ok();
    }
    eventually("end of the tests' namespaces", PATIENCE, || {
        let left = api.list(&path);
        is(left.is_empty(), left.iter().map(|namespace| namespace["status"].to_string()).collect::<Vec<_>>())
    });
}

/// Removes by force what a test that failed left behind.
fn sweep(api: &Api) {
    empty_namespaces(api);
    let left = api.find(PODDNATS).and_then(|list| list["items"].as_array().cloned()).unwrap_or_default();
    for object in left {
        let (namespace, name) = (text(&object["metadata"]["namespace"]), text(&object["metadata"]["name"]));
        let path = format!("/apis/alibabacloud.com/v1beta1/namespaces/{namespace}/poddnats/{name}");
        // Whoever goes meanwhile is gone.
        api.patch(&path, &json!({ "metadata": { "finalizers": [] } })).ok();
        api.delete(&path, &propagation("Background")).ok();
    }
    if api.find(LEASE).is_some() {
        api.delete(LEASE, &json!({})).unwrap();
    }
}
