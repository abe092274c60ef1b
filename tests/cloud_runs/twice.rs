//! Whether a request had a second effect. Shared by the runs on the pure model and those over HTTP.

use std::collections::{BTreeMap, BTreeSet};

use natgw::sandbox::vpc::{Effect, FaultKind, LedgerLine};

/// Creations whose token the cloud still knew from the one before: one request, two effects. What it has forgotten, by age
/// or by a fault, it does again: a late request may land after its token's lifetime.
pub fn done_twice(lines: &[LedgerLine], lifetime_ms: u64) -> Vec<&str> {
    let (mut done, mut forgotten): (BTreeMap<&str, u64>, BTreeSet<&str>) = Default::default();
    let mut twice = Vec::new();
    for line in lines {
        match line {
            LedgerLine::Request(line) => {
                let token = line.token.as_deref().filter(|token| done.contains_key(token));
                forgotten.extend(token.filter(|_| line.fault == Some(FaultKind::ForgottenToken)));
            }
            LedgerLine::Effect(line) if line.effect == Effect::Created => {
                let token = line.token.as_deref().unwrap();
                let known = done.insert(token, line.at_ms).is_some_and(|at_ms| line.at_ms < at_ms + lifetime_ms);
                if !forgotten.remove(token) && known {
                    twice.push(token);
                }
            }
            LedgerLine::Effect(_) => {}
        }
    }
    twice
}
