//! The real program as a child that does not outlive its test.

use std::io::{BufRead as _, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Far beyond what anything here takes: only a hang reaches it.
const PATIENCE: Duration = Duration::from_secs(60);

/// `natgw` with its output, line by line.
pub struct Natgw {
    child: Child,
    lines: Receiver<String>,
    documents: Receiver<Value>,
    /// What was said on the standard error output so far.
    pub said: Vec<String>,
}

/// How a program ended.
pub struct Ended {
    pub status: ExitStatus,
    pub said: Vec<String>,
    /// The JSON documents on the standard output.
    pub documents: Vec<Value>,
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_natgw"));
    // Nothing of the tester's own account may leak in.
    command.args(arguments).env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs to the end and gives what was said on both outputs.
pub fn run(arguments: &[&str]) -> (ExitStatus, String, String) {
    run_in(&std::env::temp_dir(), arguments)
}

/// As [`run`], with its own folder for temporary files.
pub fn run_in(temporary: &Path, arguments: &[&str]) -> (ExitStatus, String, String) {
    let output = command(arguments).env("TMPDIR", temporary).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status, text(output.stdout), text(output.stderr))
}

impl Natgw {
    /// Starts it; whatever JSON it prints is read as it comes.
    pub fn start(arguments: &[&str]) -> Self {
        let mut child = command(arguments).spawn().unwrap();
        let (say, lines) = channel();
        let err = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || {
            for line in err.lines().map_while(Result::ok) {
                if say.send(line).is_err() {
                    return;
                }
            }
        });
        let (show, documents) = channel();
        let mut out = child.stdout.take().unwrap();
        std::thread::spawn(move || {
            let mut whole = Vec::new();
            let mut read = serde_json::Deserializer::from_reader(&mut out).into_iter::<Value>();
            while let Some(Ok(document)) = read.next() {
                if show.send(document).is_err() {
                    return;
                }
            }
            // Not JSON: somebody else reads the file that it was told to write.
            out.read_to_end(&mut whole).ok();
        });
        Self { child, lines, documents, said: Vec::new() }
    }

    /// Waits until a line is said that fits.
    pub fn wait_for(&mut self, what: &str, fits: impl Fn(&str) -> bool) {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    let found = fits(&line);
                    self.said.push(line);
                    if found {
                        return;
                    }
                }
                Err(RecvTimeoutError::Timeout) => self.give_up(&format!("no {what} within {PATIENCE:?}")),
                Err(RecvTimeoutError::Disconnected) => self.give_up(&format!("it ended without {what}")),
            }
        }
    }

    /// Waits until a document is printed that fits.
    pub fn wait_for_document(&mut self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let until = Instant::now() + PATIENCE;
        let mut last = Value::Null;
        loop {
            match self.documents.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(document) if fits(&document) => return document,
                Ok(document) => last = document,
                Err(_) => self.give_up(&format!("no {what}; the last document was {last:#}")),
            }
        }
    }

    /// The newest of the documents that were printed since this was last asked.
    #[allow(dead_code, reason = "for the runs over HTTP")]
    pub fn newest_document(&self) -> Option<Value> {
        self.documents.try_iter().last()
    }

    /// `kill -9`, and waits for the end.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and how it ended.
    pub fn terminate(self) -> Ended {
        self.signal(Signal::TERM)
    }

    /// A signal, and how it ended.
    pub fn signal(mut self, signal: Signal) -> Ended {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
        self.ended()
    }

    /// Waits for its end.
    pub fn end(mut self) -> Ended {
        self.ended()
    }

    fn ended(&mut self) -> Ended {
        let until = Instant::now() + PATIENCE;
        // Its outputs end with it.
        loop {
            match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) => self.said.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => self.give_up("it does not end"),
            }
        }
        let status = self.child.wait().unwrap();
        Ended { status, said: std::mem::take(&mut self.said), documents: self.documents.iter().collect() }
    }

    fn give_up(&mut self, why: &str) -> ! {
        self.said.extend(self.lines.try_iter());
        let from = self.said.len().saturating_sub(60);
        panic!("{why}; it said last:\n{}", self.said[from..].join("\n"));
    }
}

impl Drop for Natgw {
    fn drop(&mut self) {
        // Both fail where it has ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A path as an argument.
pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
