//! The RAM policy, as the chart's README tells operators to grant it, and what was called against it. Every suite that has a
//! simulated cloud gives its ledgers to [`kept`].

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "what is missing is a failed test")]
#![allow(unreachable_pub, reason = "a module of several test programs")]

use std::collections::BTreeSet;
use std::path::Path;

use natgw::sandbox::vpc::LedgerLine;

const README: &str = include_str!("../../charts/natgw/README.md");

/// The sentence of the README after which the actions stand, each as `product:Action`.
const SENTENCE: &str = "with these eight actions:";

/// The unsigned exchange of a service account token, which needs no right.
const EXCHANGE: &str = "AssumeRoleWithOIDC";

/// The actions of the policy. Panics where the README has no such list, or not eight.
pub fn actions() -> BTreeSet<&'static str> {
    let (_, list) = README.split_once(SENTENCE).expect("the chart's README names the actions");
    let (list, _) = list.split_once("\n\n").unwrap();
    let named = list.split('`').skip(1).step_by(2);
    let actions: BTreeSet<_> = named.map(|action| action.split_once(':').expect("product:Action").1).collect();
    assert_eq!(actions.len(), 8, "{actions:?}");
    actions
}

/// What was called although the policy does not name it.
pub fn others<'a>(called: impl IntoIterator<Item = &'a str>) -> BTreeSet<&'a str> {
    let actions = actions();
    called.into_iter().filter(|action| !actions.contains(action) && *action != EXCHANGE).collect()
}

/// The actions that a ledger's requests called.
pub fn called(lines: &[LedgerLine]) -> impl Iterator<Item = &str> {
    lines.iter().filter_map(|line| match line {
        LedgerLine::Request(request) => Some(request.action.as_str()),
        LedgerLine::Effect(_) => None,
    })
}

/// Panics where something was called that the policy does not name.
pub fn kept<'a>(called: impl IntoIterator<Item = &'a str>) {
    let others = others(called);
    assert!(others.is_empty(), "{others:?} was called, which the RAM policy does not allow");
}

/// As [`kept`], of a ledger file, as far as its lines have an end; what was called in it.
pub fn kept_by(path: &Path) -> BTreeSet<String> {
    let lines = lines(path);
    kept(called(&lines));
    called(&lines).map(str::to_owned).collect()
}

/// The lines of a ledger file. The cloud may be alive: its last line may be on the way.
pub fn lines(path: &Path) -> Vec<LedgerLine> {
    let text = std::fs::read_to_string(path).unwrap();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}
