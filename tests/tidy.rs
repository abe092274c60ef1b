//! What the compiler does not check: which room imports what, how long a file is, and what was left behind.
//!
//! Every check is a function from a file to its faults, and each is shown to catch a deliberate one.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a tree that cannot be read is a failed test")]

use std::fs;
use std::path::Path;

/// Lines of a file without its tests.
const LINES_MAX: usize = 500;

/// What production code and tests may not contain, comments included. Spelled in halves, for this file is read too.
const LEFTOVERS: &[&str] = &[
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X:"),
    concat!("to", "do!("),
    concat!("unimpl", "emented!("),
    concat!("db", "g!("),
    concat!("#[ig", "nore"),
];

/// Folders whose files are read, and whether they are production code.
const FOLDERS: [(&str, bool); 9] = [
    ("src", true),
    ("journal/src", true),
    ("replay/src", true),
    ("tests", false),
    ("journal/tests", false),
    ("replay/tests", false),
    ("benches", false),
    ("journal/benches", false),
    ("replay/benches", false),
];

/// What a room may name. Paths and crates of more than one segment allow only what is below them.
struct Room {
    /// Its modules, `/` between segments, without `src/`. The first room that fits a file counts.
    modules: &'static [&'static str],
    /// Paths below `crate::`.
    ours: &'static [&'static str],
    /// Crates beside std; `None` for a room that may do I/O.
    crates: Option<&'static [&'static str]>,
}

/// Crates without I/O that every pure room may use.
const PURE: &[&str] = &["arcstr", "blake3", "serde", "serde_json", "thiserror", "uuid"];

const ROOMS: &[Room] = &[
    // The one place where bytes on disk are made of events.
    Room {
        modules: &["machine/event"],
        ours: &["machine"],
        crates: Some(&["bincode", "blake3", "serde", "serde_json", "thiserror", "uuid"]),
    },
    Room { modules: &["machine"], ours: &["machine"], crates: Some(PURE) },
    Room { modules: &["controller"], ours: &["controller", "machine", "ports"], crates: Some(PURE) },
    Room { modules: &["executor"], ours: &["executor", "machine", "ports"], crates: Some(PURE) },
    Room { modules: &["plan/show"], ours: &["plan"], crates: None },
    Room { modules: &["plan"], ours: &["controller", "executor", "machine", "plan", "ports"], crates: Some(PURE) },
    Room { modules: &["ports"], ours: &["machine", "ports"], crates: Some(PURE) },
    Room {
        modules: &["sandbox/vpc", "sandbox/as_list"],
        ours: &["machine", "ports", "sandbox::as_list", "sandbox::vpc", "cloud::classes"],
        crates: Some(PURE),
    },
    Room {
        modules: &["sandbox/cluster"],
        ours: &[
            "machine",
            "ports",
            "sandbox::as_list",
            "sandbox::cluster",
            "sandbox::vpc",
            "cluster::pod",
            "cluster::poddnat",
            "cluster::timestamp",
        ],
        crates: Some(PURE),
    },
    // The wire shapes that the simulated cluster keeps, too. The CRD is generated from those of the PodDNAT.
    Room {
        modules: &["cluster/pod", "cluster/poddnat"],
        ours: &["cluster", "machine", "ports"],
        crates: Some(&["blake3", "schemars", "serde", "serde_json", "thiserror", "uuid"]),
    },
    Room {
        modules: &["cloud/sign", "cloud/classes"],
        ours: &["cloud::sign", "cloud::classes", "ports"],
        crates: Some(&["base64", "hmac", "percent_encoding", "sha1", "zeroize"]),
    },
    Room { modules: &["cloud"], ours: &["cloud", "machine", "ports"], crates: None },
    Room { modules: &["cluster"], ours: &["cluster", "machine", "ports"], crates: None },
    Room { modules: &["admin"], ours: &["admin", "machine", "ports"], crates: None },
    Room {
        modules: &["sandbox/http"],
        ours: &["sandbox", "machine", "ports", "cloud::sign", "cloud::classes"],
        crates: None,
    },
];

/// What of std would make a pure room read the outside or wait for it.
const IMPURE_STD: &[&str] = &[
    "std::env",
    "std::fs",
    "std::io::stdin",
    "std::io::stdout",
    "std::io::stderr",
    "std::net::TcpListener",
    "std::net::TcpStream",
    "std::net::UdpSocket",
    "std::os",
    "std::process",
    "std::thread",
    "std::time::Instant::now",
    "std::time::SystemTime",
];

#[test]
fn the_tree_is_tidy() {
    let dependencies = dependencies(&read(&root().join("Cargo.toml")));
    assert!(dependencies.contains(&"serde_json".to_owned()), "{dependencies:?}");
    let mut faults = Vec::new();
    let mut files = 0;
    for (folder, production) in FOLDERS {
        for path in sources(&root().join(folder)) {
            let text = read(&path);
            let name = path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
            files += 1;
            faults.extend(leftovers(&name, &text));
            if production && !is_test_file(&name) {
                faults.extend(too_long(&name, &text));
            }
            if folder == "src" && !is_test_file(&name) {
                faults.extend(imports(&name, &text, &dependencies));
            }
        }
    }
    assert!(files > 10, "only {files} files were found");
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

fn too_long(name: &str, text: &str) -> Option<String> {
    let lines = without_tests(text).lines().count();
    (lines > LINES_MAX).then(|| format!("{name}: {lines} lines without its tests, at most {LINES_MAX}: divide it"))
}

fn leftovers(name: &str, text: &str) -> Vec<String> {
    let lines = (1..).zip(text.lines());
    let found = lines.flat_map(|(number, line)| {
        let words = LEFTOVERS.iter().filter(move |word| line.contains(**word));
        words.map(move |word| format!("{name}:{number}: {word} was left behind"))
    });
    found.collect()
}

fn imports(name: &str, text: &str, dependencies: &[String]) -> Vec<String> {
    let module = module_of(name);
    let joined = module.join("/");
    let below = |prefix: &str| joined == prefix || joined.starts_with(&format!("{prefix}/"));
    let Some(room) = ROOMS.iter().find(|room| room.modules.iter().any(|prefix| below(prefix))) else {
        return Vec::new();
    };
    let mut faults = Vec::new();
    for path in paths(&code(without_tests(text))) {
        let allowed = match path[0].as_str() {
            "crate" | "super" => {
                let absolute = absolute(&module, &path);
                room.ours.iter().any(|ours| starts_with(&absolute, ours))
            }
            "std" | "core" | "alloc" => room.crates.is_none() || !IMPURE_STD.iter().any(|std| starts_with(&path, std)),
            first if dependencies.iter().any(|dependency| dependency == first) => {
                room.crates.is_none_or(|crates| crates.contains(&first))
            }
            _ => true,
        };
        if !allowed {
            faults.push(format!("{name}: {} is not for this room", path.join("::")));
        }
    }
    faults
}

fn starts_with(path: &[String], prefix: &str) -> bool {
    let prefix: Vec<_> = prefix.split("::").collect();
    path.len() >= prefix.len() && path.iter().zip(&prefix).all(|(segment, expected)| segment == expected)
}

/// `src/a/b.rs` and `src/a/b/mod.rs` are the module a, b.
fn module_of(name: &str) -> Vec<String> {
    let name = name.strip_prefix("src/").unwrap_or(name).trim_end_matches(".rs");
    let name = name.strip_suffix("/mod").unwrap_or(name);
    name.split('/').map(str::to_owned).collect()
}

/// The path below the crate root, of one that begins with `crate` or `super`.
fn absolute(module: &[String], path: &[String]) -> Vec<String> {
    let ups = path.iter().take_while(|segment| *segment == "super").count();
    let base = if ups == 0 { &[] } else { &module[..module.len().saturating_sub(ups)] };
    let rest = path.iter().skip(ups.max(1));
    base.iter().chain(rest).cloned().collect()
}

/// All paths of more than one segment, groups of imports taken apart.
fn paths(code: &str) -> Vec<Vec<String>> {
    let tokens = tokens(code);
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let begins = is_name(&tokens[at]) && (at == 0 || tokens[at - 1] != "::");
        if begins && tokens.get(at + 1).is_some_and(|next| next == "::") {
            at = path(&tokens, at, &mut Vec::new(), &mut found);
        } else {
            at += 1;
        }
    }
    found
}

/// Reads one path or one member of a group, and says where it ends.
fn path(tokens: &[String], mut at: usize, prefix: &mut Vec<String>, found: &mut Vec<Vec<String>>) -> usize {
    let depth = prefix.len();
    let mut grouped = false;
    while let Some(token) = tokens.get(at) {
        if token == "{" && tokens[at - 1] == "::" {
            at += 1;
            while tokens.get(at).is_some_and(|token| token != "}") {
                at = if tokens[at] == "," { at + 1 } else { path(tokens, at, prefix, found) };
            }
            (at, grouped) = (at + 1, true);
            break;
        }
        if !is_name(token) && token != "*" {
            // Nothing of a path: step over it, or a group would never end.
            at += usize::from(prefix.len() == depth);
            break;
        }
        prefix.push(token.clone());
        at += 1;
        if tokens.get(at).is_none_or(|next| next != "::") {
            break;
        }
        at += 1;
    }
    if tokens.get(at).is_some_and(|token| token == "as") {
        at += 2;
    }
    if !grouped && prefix.len() > depth {
        found.push(prefix.clone());
    }
    prefix.truncate(depth);
    at
}

fn is_name(token: &str) -> bool {
    token.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

fn tokens(code: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = code;
    while let Some(first) = rest.chars().next() {
        let word = |c: char| c.is_alphanumeric() || c == '_';
        let length = if word(first) {
            rest.find(|c| !word(c)).unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        let (token, tail) = rest.split_at(length);
        if !token.trim().is_empty() {
            tokens.push(token.to_owned());
        }
        rest = tail;
    }
    tokens
}

/// The text without comments and without what stands in string literals.
fn code(text: &str) -> String {
    let mut code = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if rest.starts_with("r#\"") {
            rest.find("\"#").map_or(rest.len(), |end| end + 2)
        } else if rest.starts_with("'\"'") {
            3
        } else if first == '"' {
            string_length(rest)
        } else {
            code.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        };
        code.push(' ');
        rest = &rest[skipped..];
    }
    code
}

/// Length of the string literal at the beginning, both quotes included.
fn string_length(text: &str) -> usize {
    let mut escaped = false;
    for (at, character) in text.char_indices().skip(1) {
        match character {
            '"' if !escaped => return at + 1,
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    text.len()
}

/// All before the module of tests at the end of a file.
fn without_tests(text: &str) -> &str {
    let marker = "\n#[cfg(test)]\nmod ";
    text.find(marker).map_or(text, |at| &text[..=at])
}

fn is_test_file(name: &str) -> bool {
    name.ends_with("/tests.rs") || name.contains("/tests/")
}

/// The names by which code calls the crates that a manifest names.
fn dependencies(manifest: &str) -> Vec<String> {
    let section = manifest.split("\n[dependencies]\n").nth(1).unwrap();
    let section = section.split("\n[").next().unwrap();
    let names = section.lines().filter_map(|line| line.split(['.', ' ', '=']).next()).filter(|name| !name.is_empty());
    names.map(|name| name.replace('-', "_")).collect()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| format!("{}: {error}", path.display()))
}

/// The Rust sources below a folder; none where the folder is not there.
fn sources(folder: &Path) -> Vec<std::path::PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let below = |path: std::path::PathBuf| match path.is_dir() {
        true => sources(&path),
        false if path.extension().is_some_and(|extension| extension == "rs") => vec![path],
        false => Vec::new(),
    };
    paths.into_iter().flat_map(below).collect()
}

#[test]
fn a_file_that_is_too_long_is_caught_and_its_tests_do_not_count() {
    let line = "fn f() {}\n";
    assert_eq!(too_long("a.rs", &line.repeat(LINES_MAX)), None);
    assert_eq!(
        too_long("a.rs", &line.repeat(LINES_MAX + 1)).as_deref(),
        Some("a.rs: 501 lines without its tests, at most 500: divide it")
    );
    let tested = format!("{}\n#[cfg(test)]\nmod tests {{\n{}}}\n", line.repeat(LINES_MAX - 1), line.repeat(900));
    assert_eq!(too_long("a.rs", &tested), None);
}

#[test]
fn every_leftover_is_caught() {
    for word in LEFTOVERS {
        let text = format!("fn f() {{}}\n    // {word} later\n");
        assert_eq!(leftovers("a.rs", &text), [format!("a.rs:2: {word} was left behind")]);
    }
    assert_eq!(leftovers("a.rs", "fn method_of_todos() {}\n"), [""; 0]);
}

#[test]
fn an_import_that_is_not_for_the_room_is_caught_however_it_is_written() {
    let crates = ["bincode", "reqwest", "serde", "tokio"].map(str::to_owned);
    for (name, text, fault) in [
        ("src/machine/state.rs", "use reqwest::Client;", "reqwest::Client"),
        ("src/machine/state.rs", "fn f() { let _ = tokio::spawn(g()); }", "tokio::spawn"),
        ("src/machine/state.rs", "use bincode::Encode;", "bincode::Encode"),
        ("src/machine/mod.rs", "use super::ports::Cloud;", "super::ports::Cloud"),
        ("src/machine/state/tables.rs", "use super::super::super::cloud::sign;", "super::super::super::cloud::sign"),
        ("src/machine/state.rs", "use crate::{machine::pool, cloud::{rpc as r, sign}};", "crate::cloud::rpc"),
        ("src/controller/step.rs", "use std::{fs, mem};", "std::fs"),
        ("src/controller/step.rs", "let now = std::time::Instant::now();", "std::time::Instant::now"),
        ("src/executor.rs", "use crate::controller::step;", "crate::controller::step"),
        ("src/ports/cloud.rs", "use std::net::{Ipv4Addr, TcpStream};", "std::net::TcpStream"),
        ("src/sandbox/vpc/mod.rs", "use crate::sandbox::http;", "crate::sandbox::http"),
        ("src/sandbox/vpc/mod.rs", "use super::http::serve;", "super::http::serve"),
        ("src/cloud/client.rs", "use crate::cluster::crd;", "crate::cluster::crd"),
        ("src/cloud/sign.rs", "use super::rpc::Rpc;", "super::rpc::Rpc"),
        ("src/sandbox/http/mod.rs", "use crate::cloud::rpc::Rpc;", "crate::cloud::rpc::Rpc"),
    ] {
        let faults = imports(name, text, &crates);
        assert!(faults.contains(&format!("{name}: {fault} is not for this room")), "{name} {text} {faults:?}");
    }
}

#[test]
fn an_import_that_is_for_the_room_passes() {
    let crates = ["bincode", "reqwest", "serde", "tokio"].map(str::to_owned);
    for (name, text) in [
        ("src/machine/state.rs", "use super::pool::{Ports, Range}; use serde::{Deserialize, Serialize};"),
        ("src/machine/state.rs", "// tokio::spawn\n/* reqwest::Client */ const A: &str = \"tokio::\\\"spawn\";"),
        ("src/machine/state.rs", "fn f() {}\n\n#[cfg(test)]\nmod tests {\n    use std::fs;\n}\n"),
        ("src/machine/event/codec.rs", "use bincode::Encode; use crate::machine::identity::{self, PodKey};"),
        ("src/cloud/rpc.rs", "use reqwest::Client; use super::sign; use std::time::SystemTime;"),
        ("src/sandbox/http/mod.rs", "use tokio::net; use crate::cloud::sign; use crate::sandbox::vpc::Vpc;"),
        ("src/driver.rs", "use crate::{cloud::rpc, cluster};"),
    ] {
        assert_eq!(imports(name, text, &crates), [""; 0], "{name} {text}");
    }
}

#[test]
fn paths_are_read_through_groups_generics_and_calls() {
    let joined = |text| paths(&code(text)).into_iter().map(|path| path.join("::")).collect::<Vec<_>>();
    assert_eq!(joined("use a::{b::{c, d as e}, self, f::*};"), ["a::b::c", "a::b::d", "a::self", "a::f::*"]);
    assert_eq!(joined("let x: Vec<a::B> = c::d::<e::F>(\"g::h\");"), ["a::B", "c::d", "e::F"]);
}
