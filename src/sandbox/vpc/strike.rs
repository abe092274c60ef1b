//! How a request is carried out, and what a fault or a trouble makes of that.

use super::describe::{Show, View};
use super::documented::Documented;
use super::plan::Deed;
use super::rng::MILLION;
use super::{Answer, Done, FaultKind, Incident, Outcome, Refusal, Request, Trouble, Vpc, describe, outcome_of};
use crate::machine::identity::GatewayId;

/// The most entries by which [`FaultKind::ShiftedPage`] misses the beginning of a page.
const SHIFT_MAX: u64 = 3;

const SECOND_MS: u64 = 1_000;

/// What strikes one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Struck {
    /// Nothing.
    Not,
    /// Something that was drawn.
    Fault(FaultKind),
    /// Something that lasts.
    Trouble(Trouble),
    /// A documented error that the script says.
    Planned(Documented),
}

/// How long a created entry stays Pending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pending {
    /// As long as always.
    Usual,
    /// So many milliseconds.
    For(u64),
    /// Until somebody lifts it.
    Stuck,
}

/// How a request is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Way {
    /// What a creation makes.
    pub(super) pending: Pending,
    /// What a listing shows.
    pub(super) show: Show,
}

impl Way {
    /// As always.
    pub(super) const USUAL: Self = Self { pending: Pending::Usual, show: Show { view: View::Now, odd_words: None } };
}

pub(super) type Undergone = (Outcome, Option<Result<Answer, Refusal>>);

impl Vpc {
    /// What strikes a request that has just arrived. The script goes before troubles, and these before what is drawn.
    pub(super) fn strike(&mut self, request: &Request) -> Struck {
        let gateway = named_gateway(self, request);
        let planned = self.faults.planned(self.now_ms, request.action(), gateway.as_ref());
        let planned = planned.and_then(|deed| match deed {
            Deed::Fault(kind) => strikes(kind, request).then_some(Struck::Fault(kind)),
            Deed::Trouble(trouble) => trouble.strikes(request).then_some(Struck::Trouble(trouble)),
            Deed::Refuse(code) => Documented::find(request.action(), &code).map(Struck::Planned),
        });
        if let Some(struck) = planned {
            return struck;
        }
        if let Some(trouble) = self.faults.strike(self.now_ms, gateway.as_ref(), |trouble| trouble.strikes(request)) {
            return Struck::Trouble(trouble);
        }
        self.faults.draw(&mut self.rng, |kind| strikes(kind, request)).map_or(Struck::Not, Struck::Fault)
    }

    /// Milliseconds until an action that was called too often in this second may be called again.
    pub(super) fn over_the_limit(&mut self, request: &Request) -> Option<u64> {
        let limit = self.behaviour.calls_per_second;
        let (second, into_ms) = (self.now_ms / SECOND_MS, self.now_ms % SECOND_MS);
        let (last, calls) = self.called.entry(request.action()).or_default();
        if *last != second {
            (*last, *calls) = (second, 0);
        }
        *calls = calls.saturating_add(1);
        (limit > 0 && *calls > limit).then(|| SECOND_MS.saturating_sub(into_ms))
    }

    /// Does what is to be done about a request under what strikes it.
    pub(super) fn undergo(&mut self, struck: Struck, request: &Request, request_id: &str) -> Undergone {
        match struck {
            Struck::Not => self.attend(request, request_id, self.way()),
            Struck::Trouble(trouble) => trouble.refusal().map_or((Outcome::Lost, None), refused),
            Struck::Fault(fault) => self.suffer(fault, request, request_id),
            Struck::Planned(error) => refused(error.refusal()),
        }
    }

    /// Carries a request out.
    pub(super) fn perform(&mut self, request: &Request, request_id: &str, way: Way) -> Result<Done, Refusal> {
        let performed = self.obey(request, request_id, way);
        match &performed {
            Ok(Done { outcome: Outcome::Repeated { .. }, .. }) => self.tally.one(Incident::TokenRepeated),
            Ok(_) => {}
            Err(refusal) => {
                let incident = Incident::of(request, refusal);
                incident.into_iter().for_each(|incident| self.tally.one(incident));
            }
        }
        performed
    }

    fn suffer(&mut self, fault: FaultKind, request: &Request, request_id: &str) -> Undergone {
        match fault {
            FaultKind::LostReply => (self.attend(request, request_id, self.way()).0, None),
            FaultKind::LostRequest => (Outcome::Lost, None),
            FaultKind::LateEffect => (self.defer(request, request_id), None),
            FaultKind::StillRunning => (self.take_in(request, request_id), None),
            FaultKind::Throttling => refused(Refusal::throttled()),
            FaultKind::Conflict => {
                let newer = self.rng.happens(MILLION / 2);
                refused(if newer { Refusal::operation_conflict() } else { Refusal::task_conflict() })
            }
            FaultKind::TokenMismatch => refused(Refusal::token_mismatch()),
            FaultKind::InternalError => match self.rng.up_to(3) {
                1 => self.applied_but(Refusal::internal_error(), request, request_id),
                2 => refused(Refusal::internal_error()),
                _ => refused(Refusal::service_unavailable()),
            },
            FaultKind::UnknownError => {
                if self.rng.happens(MILLION / 2) {
                    self.applied_but(Refusal::unheard_of(), request, request_id)
                } else {
                    refused(Refusal::unheard_of())
                }
            }
            FaultKind::ForgottenToken => self.forgetting(request, request_id),
            FaultKind::LongPending
            | FaultKind::StuckPending
            | FaultKind::ReadLag
            | FaultKind::PatchyView
            | FaultKind::ShiftedPage
            | FaultKind::UnknownStatus
            | FaultKind::UnknownGatewayStatus => {
                let way = self.odd_way(fault);
                self.attend(request, request_id, way)
            }
        }
    }

    /// As always, by how this cloud behaves.
    fn way(&self) -> Way {
        let lag_ms = self.behaviour.read_lag_ms;
        let view = if lag_ms > 0 { View::Past(self.now_ms.saturating_sub(lag_ms)) } else { View::Now };
        Way { show: Show { view, ..Way::USUAL.show }, ..Way::USUAL }
    }

    /// As always but for what this fault changes.
    fn odd_way(&mut self, fault: FaultKind) -> Way {
        let usual = self.way();
        let newer_ms = self.now_ms.saturating_sub(self.behaviour.read_lag_ms);
        let shown = |view| Way { show: Show { view, ..usual.show }, ..usual };
        match fault {
            FaultKind::LongPending => {
                Way { pending: Pending::For(self.rng.delay(self.behaviour.pending_max_ms)), ..usual }
            }
            FaultKind::StuckPending => Way { pending: Pending::Stuck, ..usual },
            FaultKind::ReadLag => {
                shown(View::Past(newer_ms.saturating_sub(self.rng.up_to(self.behaviour.read_lag_max_ms))))
            }
            FaultKind::PatchyView => {
                let older_ms = newer_ms.saturating_sub(self.rng.up_to(self.behaviour.read_lag_max_ms));
                shown(View::Patchy { newer_ms, older_ms, salt: self.rng.draw() })
            }
            FaultKind::ShiftedPage => {
                let by = isize::try_from(self.rng.up_to(SHIFT_MAX)).unwrap_or(1);
                shown(View::Shifted(if self.rng.happens(MILLION / 2) { by } else { by.saturating_neg() }))
            }
            FaultKind::UnknownStatus | FaultKind::UnknownGatewayStatus => {
                Way { show: Show { odd_words: Some(self.rng.draw()), ..usual.show }, ..usual }
            }
            FaultKind::LostReply
            | FaultKind::LostRequest
            | FaultKind::LateEffect
            | FaultKind::Throttling
            | FaultKind::Conflict
            | FaultKind::InternalError
            | FaultKind::ForgottenToken
            | FaultKind::StillRunning
            | FaultKind::TokenMismatch
            | FaultKind::UnknownError => usual,
        }
    }

    fn applied_but(&mut self, heard: Refusal, request: &Request, request_id: &str) -> Undergone {
        let (outcome, _) = self.attend(request, request_id, self.way());
        (outcome, Some(Err(heard)))
    }

    /// Carries a request out as if its token had never been seen, and does not remember it.
    fn forgetting(&mut self, request: &Request, request_id: &str) -> Undergone {
        self.forget_answer(request);
        let undergone = self.attend(request, request_id, self.way());
        self.forget_answer(request);
        undergone
    }

    fn forget_answer(&mut self, request: &Request) {
        let forgotten = request.token().is_some_and(|token| self.tokens.forget_answer(token));
        self.tally.add(Incident::TokenForgotten, usize::from(forgotten));
    }

    fn attend(&mut self, request: &Request, request_id: &str, way: Way) -> Undergone {
        match self.perform(request, request_id, way) {
            Ok(Done { answer, outcome }) => (outcome, Some(Ok(answer))),
            Err(refusal) => refused(refusal),
        }
    }

    fn obey(&mut self, request: &Request, request_id: &str, way: Way) -> Result<Done, Refusal> {
        match request {
            Request::CreateForwardEntry { entry, token, dry_run } => {
                let spec = entry;
                self.world.gateway_of(&spec.table).ok_or_else(Refusal::table_not_found)?;
                if let Some(entry) = self.tokens.look_up(request, request_id)? {
                    let outcome = Outcome::Repeated { entry: Some(entry.clone()) };
                    return Ok(Done { answer: Answer::Created(entry), outcome });
                }
                self.check_creation(spec)?;
                if *dry_run {
                    return Err(Refusal::dry_run());
                }
                let entry = self.create(spec.clone(), token.clone(), request_id, way.pending);
                let again = self.tokens.done(request, entry.clone(), self.now_ms);
                self.tally.add(Incident::SecondExecution, usize::from(again));
                let outcome = Outcome::Done { entry: Some(entry.clone()) };
                Ok(Done { answer: Answer::Created(entry), outcome })
            }
            Request::DeleteForwardEntry { table, entry, token: _ } => {
                self.world.gateway_of(table).ok_or_else(Refusal::table_not_found)?;
                let answer = Answer::DeletionAccepted;
                if let Some(entry) = self.tokens.look_up(request, request_id)? {
                    return Ok(Done { answer, outcome: Outcome::Repeated { entry: Some(entry) } });
                }
                self.delete(table, entry, request_id)?;
                let again = self.tokens.done(request, entry.clone(), self.now_ms);
                self.tally.add(Incident::SecondExecution, usize::from(again));
                Ok(Done { answer, outcome: Outcome::Done { entry: Some(entry.clone()) } })
            }
            Request::DescribeForwardTableEntries { .. }
            | Request::DescribeNatGateways { .. }
            | Request::DescribeEipAddresses { .. }
            | Request::DescribeRouteTableList { .. }
            | Request::DescribeRouteEntryList { .. }
            | Request::DescribeNetworkInterfaces { .. } => {
                let answer = describe::answer(&self.world, &self.forwarding, request, way.show, &mut self.tally)?;
                let answer = answer.ok_or_else(Refusal::internal_error)?;
                Ok(Done { answer, outcome: Outcome::Done { entry: None } })
            }
        }
    }
}

pub(super) fn refused(refusal: Refusal) -> Undergone {
    (outcome_of(&refusal), Some(Err(refusal)))
}

/// The gateway whose business a request is.
fn named_gateway(vpc: &Vpc, request: &Request) -> Option<GatewayId> {
    let of_table = |table| vpc.world.gateway_of(table).map(|gateway| gateway.id.clone());
    match request {
        Request::CreateForwardEntry { entry, .. } => of_table(&entry.table),
        Request::DeleteForwardEntry { table, .. } => of_table(table),
        Request::DescribeForwardTableEntries { table, gateway, .. } => {
            gateway.clone().or_else(|| of_table(table.as_ref()?))
        }
        Request::DescribeNatGateways { gateway, .. } | Request::DescribeEipAddresses { gateway, .. } => gateway.clone(),
        Request::DescribeRouteTableList { .. }
        | Request::DescribeRouteEntryList { .. }
        | Request::DescribeNetworkInterfaces { .. } => None,
    }
}

/// Which requests a fault can strike.
fn strikes(kind: FaultKind, request: &Request) -> bool {
    match kind {
        FaultKind::LostReply
        | FaultKind::LostRequest
        | FaultKind::Throttling
        | FaultKind::InternalError
        | FaultKind::UnknownError => true,
        FaultKind::LateEffect | FaultKind::Conflict => request.mutates(),
        FaultKind::ForgottenToken | FaultKind::StillRunning | FaultKind::TokenMismatch => request.token().is_some(),
        FaultKind::LongPending | FaultKind::StuckPending => matches!(request, Request::CreateForwardEntry { .. }),
        FaultKind::ReadLag | FaultKind::PatchyView | FaultKind::UnknownStatus => {
            matches!(request, Request::DescribeForwardTableEntries { .. })
        }
        FaultKind::ShiftedPage => {
            matches!(request, Request::DescribeForwardTableEntries { page, .. } if page.number > 1)
        }
        FaultKind::UnknownGatewayStatus => {
            matches!(request, Request::DescribeNatGateways { .. } | Request::DescribeEipAddresses { .. })
        }
    }
}

#[cfg(test)]
mod tests;
