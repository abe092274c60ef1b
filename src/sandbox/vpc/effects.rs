//! What requests do to entries, at once and later.

use super::rng::{self, MILLION};
use super::strike::{Pending, Way};
use super::table::EntryStatus;
use super::{
    Done, Due, Effect, EffectLine, Entry, GatewayStatus, Incident, LedgerLine, NewEntry, Outcome, Refusal, Request,
    Vpc, admission,
};
use crate::machine::identity::{EntryId, TableId};

/// An effect that is late by no more than this may already have been taken in: a repeat hears `LastTokenProcessing`.
const TAKEN_IN_MAX_MS: u64 = 10_000;

impl Vpc {
    pub(super) fn check_creation(&self, spec: &NewEntry) -> Result<(), Refusal> {
        admission::check_creation(&self.world, &self.forwarding, &self.behaviour, spec)?;
        let busy_until = self.world.gateway_of(&spec.table).and_then(|gateway| self.busy.get(&gateway.id));
        if busy_until.is_some_and(|until_ms| *until_ms > self.now_ms) {
            return Err(Refusal::operation_conflict());
        }
        Ok(())
    }

    pub(super) fn create(
        &mut self,
        spec: NewEntry,
        token: Option<String>,
        request_id: &str,
        pending: Pending,
    ) -> EntryId {
        let available_ms = match pending {
            Pending::Usual => self.now_ms.saturating_add(self.behaviour.pending_ms),
            Pending::For(long_ms) => self.now_ms.saturating_add(long_ms),
            Pending::Stuck => u64::MAX,
        };
        if let Some(gateway) = self.world.gateway_of(&spec.table) {
            self.busy.insert(gateway.id.clone(), self.now_ms.saturating_add(self.behaviour.create_conflict_ms));
        }
        let entry = Entry {
            id: self.next_entry_id(),
            spec,
            token,
            status: EntryStatus::Pending,
            created_ms: self.now_ms,
            available_ms,
            deleting_ms: None,
        };
        let id = entry.id.clone();
        self.write(Effect::Created, &entry, Some(request_id));
        let seq = self.forwarding.insert(entry);
        if pending != Pending::Stuck {
            self.schedule(available_ms, Due::Available { seq, request_id: request_id.to_owned() });
        }
        id
    }

    pub(super) fn delete(&mut self, table: &TableId, entry: &EntryId, request_id: &str) -> Result<(), Refusal> {
        let gateway = self.world.gateway_of(table).ok_or_else(Refusal::table_not_found)?;
        if gateway.status != GatewayStatus::Available {
            return Err(Refusal::gateway_abnormal());
        }
        let found = self.forwarding.find(entry).filter(|(_, found)| found.spec.table == *table);
        let (seq, found) = found.ok_or_else(Refusal::entry_not_found)?;
        match found.status {
            EntryStatus::Pending => return Err(Refusal::entry_unstable()),
            EntryStatus::Deleting => return Err(Refusal::entry_deleting()),
            EntryStatus::Available => {}
        }
        if self.behaviour.delete_blocked_by_pending && self.forwarding.any_pending(table) {
            return Err(Refusal::blocked_by_entry());
        }
        let entry = found.clone();
        self.write(Effect::Deleting, &entry, Some(request_id));
        self.forwarding.set_status(seq, EntryStatus::Deleting, self.now_ms);
        let gone_ms = self.now_ms.saturating_add(self.behaviour.deleting_ms);
        self.schedule(gone_ms, Due::Gone { seq, request_id: request_id.to_owned() });
        Ok(())
    }

    pub(super) fn defer(&mut self, request: &Request, request_id: &str) -> Outcome {
        let delay_ms = self.rng.delay(self.behaviour.late_effect_max_ms);
        let taken_in = delay_ms <= TAKEN_IN_MAX_MS && self.rng.happens(MILLION / 2);
        self.defer_by(request, request_id, delay_ms, taken_in)
    }

    pub(super) fn take_in(&mut self, request: &Request, request_id: &str) -> Outcome {
        let delay_ms = self.rng.up_to(TAKEN_IN_MAX_MS);
        self.defer_by(request, request_id, delay_ms, true)
    }

    fn defer_by(&mut self, request: &Request, request_id: &str, delay_ms: u64, taken_in: bool) -> Outcome {
        let until_ms = self.now_ms.saturating_add(delay_ms);
        if taken_in && self.tokens.look_up(request, request_id) == Ok(None) {
            self.tokens.run(request, request_id, self.now_ms);
        }
        self.schedule(until_ms, Due::Land { request: request.clone(), request_id: request_id.to_owned() });
        Outcome::Deferred { until_ms }
    }

    pub(super) fn happen(&mut self, due: Due) {
        match due {
            Due::Available { seq, request_id } => {
                let Some(entry) = self.forwarding.get(seq).filter(|entry| entry.status == EntryStatus::Pending) else {
                    return;
                };
                let entry = Entry { status: EntryStatus::Available, ..entry.clone() };
                self.forwarding.set_status(seq, EntryStatus::Available, self.now_ms);
                self.write(Effect::Available, &entry, Some(&request_id));
            }
            Due::Gone { seq, request_id } => {
                if let Some(entry) = self.forwarding.remove(seq, self.now_ms, self.view_ms()) {
                    self.write(Effect::Gone, &entry, Some(&request_id));
                }
            }
            Due::Land { request, request_id } => self.land(&request, &request_id),
        }
    }

    pub(super) fn land(&mut self, request: &Request, request_id: &str) {
        self.forget_tokens();
        let effect = match self.perform(request, request_id, Way::USUAL) {
            Ok(Done { outcome: Outcome::Repeated { .. }, .. }) => {
                self.tally.one(Incident::LateRepeated);
                Effect::LateRepeated
            }
            Ok(_) => {
                self.tally.one(Incident::LateLanded);
                return;
            }
            Err(refusal) => {
                self.tally.one(Incident::LateRefused);
                self.tokens.failed(request, request_id);
                Effect::LateRefused { code: refusal.code }
            }
        };
        let (entry, spec) = match request {
            Request::CreateForwardEntry { entry, .. } => (None, Some(entry.clone())),
            Request::DeleteForwardEntry { entry, .. } => (Some(entry.clone()), None),
            Request::DescribeForwardTableEntries { .. }
            | Request::DescribeNatGateways { .. }
            | Request::DescribeEipAddresses { .. }
            | Request::DescribeRouteTableList { .. }
            | Request::DescribeRouteEntryList { .. }
            | Request::DescribeNetworkInterfaces { .. } => (None, None),
        };
        self.ledger.push(LedgerLine::Effect(EffectLine {
            at_ms: self.now_ms,
            effect,
            entry,
            spec,
            token: request.token().map(str::to_owned),
            request_id: Some(request_id.to_owned()),
        }));
    }

    pub(super) fn write(&mut self, effect: Effect, entry: &Entry, request_id: Option<&str>) {
        self.ledger.push(LedgerLine::Effect(EffectLine {
            at_ms: self.now_ms,
            effect,
            entry: Some(entry.id.clone()),
            spec: Some(entry.spec.clone()),
            token: entry.token.clone(),
            request_id: request_id.map(str::to_owned),
        }));
    }

    pub(super) fn schedule(&mut self, at_ms: u64, due: Due) {
        self.timers = self.timers.saturating_add(1);
        self.due.insert((at_ms, self.timers), due);
    }

    /// `fwd-` and 17 characters, never the same twice: [`rng::mix`] is a bijection and the timers' count never repeats.
    pub(super) fn next_entry_id(&mut self) -> EntryId {
        self.timers = self.timers.saturating_add(1);
        let mut bits = rng::mix(self.timers);
        let mut name = String::from("fwd-bp1s");
        for _ in 0..13 {
            let digit = u32::try_from(bits % 36).ok().and_then(|digit| char::from_digit(digit, 36));
            name.extend(digit);
            bits /= 36;
        }
        EntryId::new(name)
    }
}
