//! Where the programs of the control plane come from: built here with Go, or brought by the tester.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};
use std::{env, thread};

/// What one program of ours is made of, in `tests/controlplane`.
const SOURCES: [&str; 3] = ["go.mod", "go.sum", "main.go"];

/// The release of Kubernetes in `go.mod`, as the server is to call itself: clients look at it.
const KUBERNETES: (&str, &str, &str) = ("v1.36.3", "1", "36");

/// How often a build says how far it is.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// What the tests run against.
#[derive(Clone, Debug)]
pub enum Programs {
    /// One program with a subcommand a component: everything.
    Ours(PathBuf),
    /// A folder with etcd, kube-apiserver and kubectl, as other projects' tests use it: no controllers, no nodes.
    Assets(PathBuf),
    /// A cluster that runs already. Nothing of it is stopped or broken.
    Given(PathBuf),
}

/// Why there are none.
pub enum Missing {
    /// The tester has no Go: how to get it.
    NoGo(String),
    /// They cannot be built or used.
    Broken(String),
}

impl Programs {
    /// What the tester brought, or our own program, built where it is not there yet.
    pub fn get() -> Result<Self, Missing> {
        if let Some(kubeconfig) = asked("NATGW_TEST_KUBECONFIG") {
            return match kubeconfig.is_file() {
                true => Ok(Self::Given(kubeconfig)),
                false => Err(Missing::Broken(format!("NATGW_TEST_KUBECONFIG: {} is no file", kubeconfig.display()))),
            };
        }
        if let Some(folder) = asked("KUBEBUILDER_ASSETS") {
            let absent = ["etcd", "kube-apiserver", "kubectl"].into_iter().find(|name| !folder.join(name).is_file());
            return match absent {
                None => Ok(Self::Assets(folder)),
                Some(name) => Err(Missing::Broken(format!("KUBEBUILDER_ASSETS: {} has no {name}", folder.display()))),
            };
        }
        ours().map(Self::Ours)
    }
}

fn asked(name: &str) -> Option<PathBuf> {
    env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// Our own program below `target/`, of the sources as they are. One process builds it, the others wait.
fn ours() -> Result<PathBuf, Missing> {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/controlplane");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("controlplane");
    let (program, stamp) = (folder.join("controlplane"), folder.join("sources"));
    let broken = |error| Missing::Broken(format!("{}: {error}", folder.display()));
    fs::create_dir_all(&folder).map_err(broken)?;
    let lock = File::create(folder.join("lock")).map_err(broken)?;
    if lock.try_lock().is_err() {
        eprintln!("control plane: another process builds it, waiting");
        lock.lock().map_err(broken)?;
    }
    let sum = sum(&sources);
    if program.is_file() && fs::read_to_string(&stamp).is_ok_and(|built| built == sum) {
        return Ok(program);
    }
    let go = go().ok_or_else(|| Missing::NoGo(how_to_get_go()))?;
    build(&go, &sources, &program)?;
    fs::write(&stamp, sum).map_err(broken)?;
    Ok(program)
}

/// One number for everything that a build depends on.
fn sum(sources: &Path) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(flags().as_bytes());
    for name in SOURCES {
        hasher.update(&fs::read(sources.join(name)).unwrap());
    }
    hasher.finalize().to_hex().to_string()
}

/// Without them the server calls itself `v0.0.0-master`, and clients refuse it.
fn flags() -> String {
    let (version, major, minor) = KUBERNETES;
    let variable = "k8s.io/component-base/version";
    format!("-s -w -X {variable}.gitVersion={version} -X {variable}.gitMajor={major} -X {variable}.gitMinor={minor}")
}

fn go() -> Option<PathBuf> {
    let in_path = env::var_os("PATH").into_iter().flat_map(|path| env::split_paths(&path).collect::<Vec<_>>());
    // Where the archive of go.dev is unpacked to by its own instructions, which do not touch everybody's PATH.
    let usual = Some(PathBuf::from("/usr/local/go/bin"));
    in_path.chain(usual).map(|folder| folder.join("go")).find(|go| go.is_file())
}

fn how_to_get_go() -> String {
    "Go is not installed, and the control plane is built with it (once, 6 to 12 minutes on two cores, 1 GB of modules).
Install Go 1.21 or newer (https://go.dev/doc/install; it fetches the release that go.mod names), or set
KUBEBUILDER_ASSETS to a folder with etcd, kube-apiserver and kubectl, or NATGW_TEST_KUBECONFIG to a cluster for tests."
        .to_owned()
}

/// Builds, saying how far it is on the standard error output.
fn build(go: &Path, sources: &Path, program: &Path) -> Result<(), Missing> {
    let broken = |error: std::io::Error| Missing::Broken(format!("{}: {error}", go.display()));
    let began = Instant::now();
    eprintln!("control plane: {} fetches its modules", go.display());
    let list = Command::new(go).args(["list", "-deps", "."]).current_dir(sources).output().map_err(broken)?;
    if !list.status.success() {
        return Err(Missing::Broken(String::from_utf8_lossy(&list.stderr).into_owned()));
    }
    let packages = list.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).count();
    let mut child = Command::new(go)
        .args(["build", "-v", "-trimpath", "-buildvcs=false", "-ldflags", &flags(), "-o"])
        .args([program.as_os_str(), ".".as_ref()])
        .current_dir(sources)
        .stderr(Stdio::piped())
        .spawn()
        .map_err(broken)?;
    let (say, said) = channel();
    let output = BufReader::new(child.stderr.take().unwrap());
    thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| say.send(line)));
    let mut lines = Vec::new();
    let mut next = Instant::now() + SAY_EVERY;
    loop {
        match said.recv_timeout(next.saturating_duration_since(Instant::now())) {
            Ok(line) => lines.push(line),
            Err(RecvTimeoutError::Timeout) => {
                let (at, seconds) = (lines.len(), began.elapsed().as_secs());
                eprintln!("control plane: {at} of at most {packages} packages compiled, {seconds} s");
                next = Instant::now() + SAY_EVERY;
            }
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    let status = child.wait().map_err(broken)?;
    if !status.success() {
        let from = lines.len().saturating_sub(40);
        return Err(Missing::Broken(format!("go build ended with {status}:\n{}", lines[from..].join("\n"))));
    }
    eprintln!("control plane: built in {} s", began.elapsed().as_secs());
    Ok(())
}
