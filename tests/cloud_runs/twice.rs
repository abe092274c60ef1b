//! Whether a request had a second effect. Shared by the runs on the pure model and those over HTTP.

use std::collections::{BTreeMap, BTreeSet};

use natgw::sandbox::vpc::{Effect, FaultKind, LedgerLine};

/// Creations whose token the cloud still knew from the one before: one request, two effects. What it has forgotten, by age
/// or by a fault, it does again: a late request may land after its token's lifetime.
pub fn done_twice(lines: &[LedgerLine], lifetime_ms: u64) -> Vec<&str> {
    let (mut known, mut forgetting): (BTreeMap<&str, u64>, BTreeSet<&str>) = Default::default();
    let mut twice = Vec::new();
    for line in lines {
        match line {
            // It is carried out as if its token had never been seen, and not remembered.
            LedgerLine::Request(line) if line.fault == Some(FaultKind::ForgottenToken) => {
                forgetting.insert(&line.request_id);
                line.token.as_deref().map(|token| known.remove(token));
            }
            LedgerLine::Effect(line) if line.effect == Effect::Created => {
                let token = line.token.as_deref().unwrap();
                if known.get(token).is_some_and(|since_ms| line.at_ms < since_ms + lifetime_ms) {
                    twice.push(token);
                }
                known.insert(token, line.at_ms);
                if line.request_id.as_deref().is_some_and(|request| forgetting.contains(request)) {
                    known.remove(token);
                }
            }
            LedgerLine::Request(_) | LedgerLine::Effect(_) => {}
        }
    }
    twice
}
