//! A Kubernetes control plane of our own: etcd, API server, controllers, scheduler and simulated nodes on loopback, with
//! all that they write in a temporary folder. Nothing of it outlives the test program.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::api::{Api, eventually};
use crate::children::{command, launch};
use crate::programs::Programs;

/// A cold start on a busy machine takes a tenth of it.
const STARTS_WITHIN: Duration = Duration::from_secs(60);

/// The nodes, each with the addresses of its pods: of the two vSwitches that `natgw cloud` has from the beginning.
pub const NODES: [(&str, &str); 2] = [("node-j", "172.16.0.0/16"), ("node-k", "172.17.0.0/16")];

/// What the simulated kubelets do.
const STAGES: &str = include_str!("stages.yaml");

/// Requests a second that controllers may send: the tests' patience is the limit, not theirs.
const QPS: [&str; 2] = ["--kube-api-qps=2000", "--kube-api-burst=4000"];

/// The components, in the order of their start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Component {
    Etcd,
    ApiServer,
    ControllerManager,
    Scheduler,
    Kwok,
}

impl Component {
    fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::ApiServer => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
            Self::Scheduler => "kube-scheduler",
            Self::Kwok => "kwok",
        }
    }
}

/// A running control plane, or one that was given.
pub struct ControlPlane {
    programs: Programs,
    folder: TempDir,
    server: String,
    authority: String,
    token: String,
    ports: Ports,
    children: Mutex<BTreeMap<Component, Child>>,
    /// How long it took until the API server answered, and until nodes took pods.
    pub started: (Duration, Duration),
}

#[derive(Clone, Copy)]
struct Ports {
    etcd: u16,
    peer: u16,
    api: u16,
}

impl ControlPlane {
    /// Starts one and waits until pods can run on it; or takes the one that was given.
    pub fn start(programs: Programs) -> Self {
        let began = Instant::now();
        let folder = tempfile::Builder::new().prefix("natgw-control-plane-").tempdir().unwrap();
        let ports = Ports { etcd: free_port(), peer: free_port(), api: free_port() };
        let given = match &programs {
            Programs::Given(kubeconfig) => Some(kubeconfig.clone()),
            Programs::Ours(_) | Programs::Assets(_) => None,
        };
        let mut plane = Self {
            programs,
            folder,
            server: format!("https://127.0.0.1:{}", ports.api),
            authority: String::new(),
            token: uuid::Uuid::new_v4().to_string(),
            ports,
            children: Mutex::default(),
            started: Default::default(),
        };
        if let Some(kubeconfig) = given {
            plane.take(&kubeconfig);
            return plane;
        }
        plane.write_identity();
        plane.launch(Component::Etcd);
        plane.launch(Component::ApiServer);
        plane.await_ready();
        plane.started.0 = began.elapsed();
        if plane.has_controllers() {
            fs::write(plane.path("stages.yaml"), STAGES).unwrap();
            for component in [Component::ControllerManager, Component::Scheduler, Component::Kwok] {
                plane.launch(component);
            }
            plane.create_nodes();
        }
        plane.started.1 = began.elapsed();
        plane
    }

    /// Deployments become pods, pods are bound and run, what has no owner any more goes.
    pub fn has_controllers(&self) -> bool {
        !matches!(self.programs, Programs::Assets(_))
    }

    /// It is ours to break.
    pub fn is_ours(&self) -> bool {
        !matches!(self.programs, Programs::Given(_))
    }

    /// Everything is allowed.
    pub fn admin(&self) -> Api {
        Api::new(&self.server, &self.authority, &self.token)
    }

    /// Somebody with that token.
    pub fn with_token(&self, token: &str) -> Api {
        Api::new(&self.server, &self.authority, token)
    }

    /// The address of the API server.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// The token of whoever is allowed everything.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// A client for whoever stands between others and the API server.
    pub fn http(&self) -> reqwest::Client {
        rustls::crypto::ring::default_provider().install_default().ok();
        let authority = reqwest::Certificate::from_pem(self.authority.as_bytes()).unwrap();
        reqwest::Client::builder().no_proxy().tls_certs_only([authority]).build().unwrap()
    }

    /// A kubeconfig with everything allowed, for the API server itself.
    pub fn kubeconfig(&self) -> PathBuf {
        self.kubeconfig_of("admin", &self.server, &self.token)
    }

    /// A kubeconfig of somebody with that token, for the API server or for whoever stands before it.
    pub fn kubeconfig_of(&self, name: &str, server: &str, token: &str) -> PathBuf {
        let mut cluster = json!({ "server": server });
        if server.starts_with("https:") {
            cluster["certificate-authority"] = self.path("ca.pem").to_str().unwrap().into();
        }
        let text = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{ "name": "test", "cluster": cluster }],
            "users": [{ "name": name, "user": { "token": token } }],
            "contexts": [{ "name": "test", "context": { "cluster": "test", "user": name } }],
            "current-context": "test",
        });
        let path = self.path(&format!("{name}.kubeconfig"));
        // Somebody may be reading what was there before: it is whole at every moment.
        let mut whole = tempfile::NamedTempFile::new_in(self.folder.path()).unwrap();
        whole.write_all(text.to_string().as_bytes()).unwrap();
        whole.persist(&path).unwrap();
        path
    }

    /// Makes a ServiceAccount and gives a token of it.
    pub fn service_account(&self, namespace: &str, name: &str) -> String {
        let api = self.admin();
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts");
        if api.find(&format!("{path}/{name}")).is_none() {
            let account = json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": name } });
            api.create(&path, &account).unwrap();
        }
        let request = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {} });
        let answer = api.create(&format!("{path}/{name}/token"), &request).unwrap();
        answer["status"]["token"].as_str().unwrap().to_owned()
    }

    /// kubectl with these arguments and that on its standard input; its output, or both outputs where it failed.
    pub fn kubectl(&self, arguments: &[&str], input: &str) -> Result<String, String> {
        let mut kubectl = match &self.programs {
            Programs::Ours(program) => {
                let mut command = command(program);
                command.arg("kubectl");
                command
            }
            Programs::Assets(folder) => command(&folder.join("kubectl")),
            Programs::Given(_) => Command::new("kubectl"),
        };
        kubectl.arg(format!("--kubeconfig={}", self.kubeconfig().display())).args(arguments);
        // kubectl keeps what it learned of the server in the home.
        kubectl.env("HOME", self.folder.path()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = launch(kubectl).unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        if output.status.success() { Ok(out) } else { Err(format!("{out}{err}")) }
    }

    /// `kill -9` of the API server.
    pub fn kill_api_server(&self) {
        assert!(self.is_ours());
        let mut child = self.children.lock().unwrap().remove(&Component::ApiServer).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Starts the API server again, on its port, and waits until it answers.
    pub fn start_api_server(&self) {
        self.launch(Component::ApiServer);
        self.await_ready();
    }

    /// The processes.
    pub fn processes(&self) -> Vec<u32> {
        self.children.lock().unwrap().values().map(Child::id).collect()
    }

    /// Resident memory of each component, in KiB.
    pub fn memory(&self) -> Vec<(&'static str, u64)> {
        let children = self.children.lock().unwrap();
        children.iter().map(|(component, child)| (component.name(), resident_kib(child.id()))).collect()
    }

    /// What is in the log of a component, its last lines.
    pub fn log(&self, component: Component) -> String {
        let text = fs::read_to_string(self.path(&format!("{}.log", component.name()))).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Reads server, authority and token of a kubeconfig: the ways in which clusters for tests are given.
    fn take(&mut self, kubeconfig: &Path) {
        let text = fs::read_to_string(kubeconfig).unwrap();
        let config: Value = serde_saphyr::from_str(&text).unwrap();
        let (cluster, user) = (&config["clusters"][0]["cluster"], &config["users"][0]["user"]);
        let read = |value: &Value| fs::read_to_string(value.as_str().unwrap()).unwrap();
        let needs =
            "NATGW_TEST_KUBECONFIG: its first user needs a token, its first cluster a certificate-authority file";
        assert!(user["token"].is_string() && cluster["certificate-authority"].is_string(), "{needs}");
        self.server = cluster["server"].as_str().unwrap().to_owned();
        self.authority = read(&cluster["certificate-authority"]);
        self.token = user["token"].as_str().unwrap().to_owned();
        fs::write(self.path("ca.pem"), &self.authority).unwrap();
    }

    /// Certificates, the key of ServiceAccount tokens, and who is allowed everything.
    fn write_identity(&mut self) {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "control plane for tests");
        let key = KeyPair::generate().unwrap();
        self.authority = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        let key = KeyPair::generate().unwrap();
        let names = ["127.0.0.1", "localhost"].map(str::to_owned);
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
        let accounts = KeyPair::generate().unwrap();
        for (name, text) in [
            ("ca.pem", self.authority.clone()),
            ("server.pem", certificate.pem()),
            ("server.key", key.serialize_pem()),
            ("accounts.key", accounts.serialize_pem()),
            ("accounts.pem", accounts.public_key_pem()),
            ("tokens.csv", format!("{},admin,admin,system:masters\n", self.token)),
        ] {
            fs::write(self.path(name), text).unwrap();
        }
    }

    fn launch(&self, component: Component) {
        let name = component.name();
        let mut command = match &self.programs {
            Programs::Ours(program) => {
                let mut command = command(program);
                command.arg(name);
                command
            }
            Programs::Assets(folder) => command(&folder.join(name)),
            Programs::Given(_) => panic!("nothing is started beside a cluster that was given"),
        };
        let log = File::options().create(true).append(true).open(self.path(&format!("{name}.log"))).unwrap();
        command.args(self.arguments(component)).current_dir(self.folder.path()).stdin(Stdio::null());
        command.stdout(log.try_clone().unwrap()).stderr(log);
        let child = launch(command).unwrap();
        assert!(self.children.lock().unwrap().insert(component, child).is_none(), "{name} runs already");
    }

    fn arguments(&self, component: Component) -> Vec<String> {
        let Ports { etcd, peer, api } = self.ports;
        let file = |name: &str| self.path(name).display().to_string();
        let kubeconfig = || format!("--kubeconfig={}", self.kubeconfig().display());
        let text = |fixed: &[&str]| fixed.iter().map(|argument| (*argument).to_owned()).collect::<Vec<_>>();
        match component {
            Component::Etcd => vec![
                format!("--data-dir={}", file("etcd")),
                format!("--listen-client-urls=http://127.0.0.1:{etcd}"),
                format!("--advertise-client-urls=http://127.0.0.1:{etcd}"),
                format!("--listen-peer-urls=http://127.0.0.1:{peer}"),
                // It only has to survive the tests, not the machine.
                "--unsafe-no-fsync".to_owned(),
                "--log-level=warn".to_owned(),
            ],
            Component::ApiServer => vec![
                format!("--etcd-servers=http://127.0.0.1:{etcd}"),
                "--bind-address=127.0.0.1".to_owned(),
                format!("--secure-port={api}"),
                format!("--tls-cert-file={}", file("server.pem")),
                format!("--tls-private-key-file={}", file("server.key")),
                "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
                format!("--service-account-key-file={}", file("accounts.pem")),
                format!("--service-account-signing-key-file={}", file("accounts.key")),
                format!("--token-auth-file={}", file("tokens.csv")),
                "--authorization-mode=RBAC".to_owned(),
                "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
                // Pods need not wait for the ServiceAccount `default` of their namespace.
                "--disable-admission-plugins=ServiceAccount".to_owned(),
                // As strict about owners as hardened clusters are.
                "--enable-admission-plugins=OwnerReferencesPermissionEnforcement".to_owned(),
            ],
            Component::ControllerManager => {
                let mut arguments = text(&["--leader-elect=false", "--secure-port=0"]);
                arguments.extend(text(&QPS));
                arguments.extend(text(&["--controllers=*,-nodeipam,-cloud-node-lifecycle,-service-lb-controller"]));
                arguments.push(kubeconfig());
                arguments.push(format!("--service-account-private-key-file={}", file("accounts.key")));
                arguments
            }
            Component::Scheduler => {
                let mut arguments = text(&["--leader-elect=false", "--secure-port=0"]);
                arguments.extend(text(&QPS));
                arguments.push(kubeconfig());
                arguments
            }
            Component::Kwok => vec![
                format!("--config={}", file("stages.yaml")),
                kubeconfig(),
                "--manage-all-nodes=true".to_owned(),
                "--node-lease-duration-seconds=40".to_owned(),
            ],
        }
    }

    fn await_ready(&self) {
        let api = self.admin();
        eventually("API server", STARTS_WITHIN, || {
            self.assert_alive();
            api.text("/readyz").map(|_| ()).map_err(|refused| refused.to_string())
        });
    }

    fn create_nodes(&self) {
        let api = self.admin();
        for (name, range) in NODES {
            create_node(&api, name, range);
        }
        eventually("Ready nodes", STARTS_WITHIN, || {
            self.assert_alive();
            let nodes = api.list("/api/v1/nodes");
            let ready = nodes.iter().filter(|node| condition(node, "Ready") == Some("True")).count();
            // The controller-manager has looked at each, and let pods in.
            let open = nodes.iter().filter(|node| node["spec"]["taints"].is_null()).count();
            if ready == NODES.len() && open == NODES.len() {
                Ok(())
            } else {
                Err(format!("{ready} ready, {open} open"))
            }
        });
    }

    /// Panics with its log where a component has ended.
    fn assert_alive(&self) {
        let mut children = self.children.lock().unwrap();
        let ended = children.iter_mut().find_map(|(component, child)| Some((*component, child.try_wait().unwrap()?)));
        drop(children);
        if let Some((component, status)) = ended {
            panic!("{} ended with {status}:\n{}", component.name(), self.log(component));
        }
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        // All at once, the last first: nobody complains about whom it misses. They fail where one has ended already.
        let mut children = self.children.lock().unwrap_or_else(PoisonError::into_inner);
        children.values_mut().rev().for_each(|child| drop(child.kill()));
        children.values_mut().for_each(|child| drop(child.wait()));
    }
}

/// A node with room for everybody, whose pods have addresses of that range.
pub fn create_node(api: &Api, name: &str, range: &str) {
    let node = json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {
            "name": name,
            "annotations": { "kwok.x-k8s.io/node": "fake" },
            "labels": { "kubernetes.io/hostname": name },
        },
        "spec": { "podCIDR": range, "podCIDRs": [range], "providerID": format!("cn-hangzhou.i-{name}") },
    });
    api.create("/api/v1/nodes", &node).unwrap();
}

/// The status of a condition.
pub fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a str> {
    let conditions = object["status"]["conditions"].as_array()?;
    conditions.iter().find(|condition| condition["type"] == kind)?["status"].as_str()
}

/// Ports below those that Linux gives to whoever connects, so that none is taken while its server is away for a while.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// A port that nobody listens on, and that no other of this program is told; somebody else may take it before we do, which
/// shows at once.
fn free_port() -> u16 {
    static TOLD: AtomicU16 = AtomicU16::new(0);
    let first = std::process::id().wrapping_mul(37);
    let count = u32::from(PORTS.end - PORTS.start);
    let next = || {
        let told = u32::from(TOLD.fetch_add(1, Ordering::Relaxed));
        PORTS.start + u16::try_from(first.wrapping_add(told) % count).unwrap()
    };
    let mut candidates = std::iter::repeat_with(next).take(usize::from(PORTS.end - PORTS.start));
    candidates.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).expect("one of thousands of ports is free")
}

/// Resident memory of a process.
pub fn resident_kib(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse().ok()).unwrap_or_default()
}
