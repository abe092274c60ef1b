//! What happened is handed to the checker, and put in words where somebody wants to read it.

use natgw::sandbox::vpc::LedgerLine;

use crate::invariants::Happening;
use crate::wire::Call;
use crate::world::World;

impl World {
    /// Lets the checker look at what happened.
    pub fn judge(&mut self, happened: Vec<Happening>) {
        let lines = self.vpc.borrow_mut().take_ledger();
        let calls = std::mem::take(&mut *self.outside.calls.borrow_mut());
        let before = self.history.len();
        self.remember_changes();
        if self.plan.told {
            self.tell(&happened, &lines, &calls, before);
        }
        let mut checker = std::mem::take(&mut self.checker);
        checker.look(self, &happened, &lines, &calls);
        self.checker = checker;
        self.ledger.extend(lines);
        self.calls.extend(calls);
    }

    /// Notes what happened, in words.
    pub(super) fn tell(&mut self, happened: &[Happening], lines: &[LedgerLine], calls: &[Call], before: usize) {
        let at = format!("{:>6} {:>8}", self.steps, self.now.get());
        for change in &self.history[before..] {
            self.story.push(format!("{at} cluster: {change:?}"));
        }
        for happening in happened {
            match happening {
                Happening::Opened { replica, life, records, rebased, .. } => {
                    let count = records.len();
                    self.story.push(format!(
                        "{at} replica {replica}: life {life} opens {count} records, rebased {rebased:?}"
                    ));
                }
                Happening::Handed { replica, records } => {
                    self.records.extend(records.iter().map(|record| (*replica, record.clone())));
                    let told = records
                        .iter()
                        .map(|record| format!("{at} replica {replica}: record {} {:?}", record.seq, record.event));
                    self.story.extend(told);
                }
                Happening::Durable { replica, records } => {
                    let last = records.last().map_or(0, |record| record.seq);
                    self.story.push(format!("{at} replica {replica}: durable through {last}"));
                }
                Happening::Started { replica, effect, .. } => {
                    self.story.push(format!("{at} replica {replica}: starts {effect:?}"));
                }
                Happening::Stopped { replica, stop, .. } => self.story.push(format!("{at} replica {replica}: {stop}")),
            }
        }
        let told =
            calls.iter().map(|call| format!("{at} replica {} life {}: calls {:?}", call.replica, call.life, call.what));
        self.story.extend(told);
        self.story.extend(lines.iter().map(|line| format!("{at} cloud: {line:?}")));
    }

    /// Takes over what was written to pods and PodDNATs.
    pub(super) fn remember_changes(&mut self) {
        let model = self.model.borrow();
        if let Ok(changes) = model.changes_since(self.seen_version) {
            self.history.extend(changes.changes);
            self.seen_version = changes.through;
        }
    }
}
