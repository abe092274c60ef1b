//! What is left behind by a run — journal, PodDNATs, the cloud's ledger — and what must hold of it.

#[allow(dead_code, reason = "shared by the suites that have a simulated cloud")]
#[path = "../policy/mod.rs"]
mod policy;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use natgw::machine::event::Record;
use natgw::machine::identity::{AllocationId, Mark};
use natgw::sandbox::vpc::{Effect, LedgerLine};
use natgw_replay::history::History;
use natgw_replay::verify::examine;
use serde_json::Value;

/// The external side of an entry: EIP, port, protocol. And the internal side, alike.
pub type Tuple = ((String, String), (String, String), String);

/// The PodDNATs of a printed List.
pub fn items(list: &Value) -> &Vec<Value> {
    list["items"].as_array().unwrap()
}

/// The names of the PodDNATs whose status shows entries.
pub fn mapped(list: &Value) -> BTreeSet<String> {
    let mapped = items(list).iter().filter(|item| item["status"]["entries"].is_array());
    mapped.map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

/// Every entry that a status shows. Panics where an external tuple comes twice.
pub fn published(list: &Value) -> BTreeSet<Tuple> {
    let (mut all, mut externals) = (BTreeSet::new(), BTreeSet::new());
    for entry in items(list).iter().filter_map(|item| item["status"]["entries"].as_array()).flatten() {
        let text = |key: &str| entry[key].as_str().unwrap().to_owned();
        let external = (text("externalIP"), text("externalPort"));
        assert!(externals.insert((external.clone(), text("ipProtocol"))), "{external:?} is published twice");
        all.insert((external, (text("internalIP"), text("internalPort")), text("ipProtocol")));
    }
    all
}

/// Verifies the journal of a sandbox folder, and gives its digest. Panics on any finding.
pub fn verified_digest(folder: &Path) -> String {
    let history = History::open(&[folder.to_owned()]).unwrap();
    let [journal] = history.journals.as_slice() else { panic!("{} journals", history.journals.len()) };
    let report = examine(journal);
    assert!(report.findings.is_empty(), "{:#?}", report.findings);
    assert!(report.events > 0 && report.events == report.folded, "{report:?}");
    report.digest.unwrap()
}

/// The records of a sandbox folder's journal.
pub fn records(folder: &Path) -> Vec<Record> {
    let history = History::open(&[folder.to_owned()]).unwrap();
    history.journals[0].records().map(|record| record.unwrap_or_else(|finding| panic!("{finding}"))).collect()
}

/// The digest that a sandbox printed when it had settled.
pub fn printed_digest(said: &[String]) -> &str {
    let line = said.iter().rev().find_map(|line| line.strip_prefix("digest v1 ")).expect("a digest is printed");
    line.split(' ').next().unwrap()
}

/// The lines of a ledger. Panics where anything was called but the eight actions of the RAM policy: every test that reads
/// what it did to the cloud asks for that, too.
pub fn ledger(path: &Path) -> Vec<LedgerLine> {
    let lines = policy::lines(path);
    policy::kept(policy::called(&lines));
    lines
}

/// Requests that change something.
pub fn mutations(ledger: &[LedgerLine]) -> usize {
    let mutates = |line: &&LedgerLine| match line {
        LedgerLine::Request(request) => matches!(request.action.as_str(), "CreateForwardEntry" | "DeleteForwardEntry"),
        LedgerLine::Effect(_) => false,
    };
    ledger.iter().filter(mutates).count()
}

/// The entries that the ledger leaves in the cloud's tables.
pub fn standing(ledger: &[LedgerLine]) -> BTreeSet<Tuple> {
    let mut standing = BTreeMap::new();
    for line in ledger {
        let LedgerLine::Effect(effect) = line else { continue };
        let id = effect.entry.clone();
        match effect.effect {
            Effect::Created | Effect::InsertedByHand | Effect::EditedByHand => {
                let spec = effect.spec.clone().unwrap();
                let external = (spec.external_ip.to_string(), spec.external_port.to_string());
                let internal = (spec.internal_ip.to_string(), spec.internal_port.to_string());
                standing.insert(id, (external, internal, spec.protocol.as_str().to_owned()));
            }
            Effect::Gone | Effect::RemovedByHand => {
                standing.remove(&id);
            }
            Effect::Available | Effect::Deleting | Effect::LateRefused { .. } | Effect::LateRepeated => {}
        }
    }
    standing.into_values().collect()
}

/// No allocation item was created twice, and a repeated token came with equal parameters.
pub fn assert_each_item_once(ledger: &[LedgerLine]) {
    let mut created: BTreeMap<(AllocationId, String, String), usize> = BTreeMap::new();
    let mut parameters = BTreeMap::new();
    for line in ledger {
        match line {
            LedgerLine::Effect(effect) if effect.effect == Effect::Created => {
                let spec = effect.spec.as_ref().unwrap();
                let mark = Mark::parse(&spec.name).expect("every entry carries a mark");
                let item = (mark.allocation, spec.internal_port.to_string(), spec.protocol.as_str().to_owned());
                *created.entry(item).or_default() += 1;
            }
            LedgerLine::Effect(_) => {}
            LedgerLine::Request(request) => {
                let Some(token) = &request.token else { continue };
                let asked = (&request.action, &request.parameters);
                let before = parameters.entry(token).or_insert(asked);
                assert_eq!(*before, asked, "token {token} came with other parameters");
            }
        }
    }
    assert!(!created.is_empty());
    let twice: Vec<_> = created.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "created more than once: {twice:?}");
}
