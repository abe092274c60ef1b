//! A pure model of the part of Alibaba Cloud that natgw talks to: one account with a VPC, NAT gateways, EIPs, route
//! tables, network interfaces, and the DNAT entries of the gateways' forward tables.
//!
//! Synchronous and deterministic: no clock, no I/O, and no chance but the seed's. Time is an argument and never goes
//! back; equal calls in equal order give equal answers. What no page says is decided against the caller, because a kind
//! fake hides faults. Quiet by default; [`Faults`] make it lose, delay and refuse.
//!
//! Deliberately absent: SNAT entries, charging, `ModifyForwardEntry` (the RAM policy does not have it), and packets.

mod admission;
mod attributes;
mod behaviour;
mod describe;
mod documented;
mod effects;
mod estate;
mod faults;
mod hand;
mod ledger;
mod plan;
mod port;
mod ports;
mod refusal;
mod reply;
mod request;
pub(crate) mod rng;
mod strike;
mod table;
mod tally;
mod tokens;
mod trouble;
mod world;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use self::attributes::{
    Filters, RESOURCE_GROUP, ROUTER, SECURITY_GROUP, gateway_name, instance_of, route_id, route_table_name,
};
pub use self::behaviour::{Behaviour, Switch, SwitchError};
pub use self::documented::Documented;
pub use self::faults::{FaultKind, FaultRate, FaultRateError, Faults};
pub use self::ledger::{Effect, EffectLine, LedgerLine, Outcome, RequestLine, Said};
pub use self::plan::{Deed, Stroke, StrokeError};
pub use self::port::SimulatedCloud;
pub use self::ports::{IpProtocol, Ports, PortsError};
pub use self::refusal::Refusal;
pub use self::reply::{Answer, Numbered, Part, Reply, ShownEip, ShownEntry, ShownGateway, ShownIp};
pub use self::request::{EntryFilter, NewEntry, PageSpec, PartSpec, Request};
pub use self::table::{Entry, EntryStatus};
pub use self::tally::Incident;
pub use self::trouble::{Spell, Trouble};
pub use self::world::{
    Cidr, DEFAULT_ROUTE, EIPS_MAX, Eip, EipStatus, GATEWAYS_MAX, GatewayStatus, Hop, Interface, NatGateway, Route,
    RouteTable, VSwitch, World,
};

use self::rng::Rng;
use self::strike::Struck;
use self::table::{Forwarding, Seq};
use self::tally::Tally;
use self::tokens::Tokens;
use crate::machine::identity::{EntryId, GatewayId, TableId};
use crate::sandbox::as_list;

/// More requests than anybody makes between two saves of a model.
const REQUESTS_UNSAVED_MAX: u64 = 1 << 32;

/// The model. Serialised, it is everything but its ledger and its views of the past.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Vpc {
    world: World,
    behaviour: Behaviour,
    faults: Faults,
    rng: Rng,
    now_ms: u64,
    requests: u64,
    forwarding: Forwarding,
    tokens: Tokens,
    #[serde(with = "as_list")]
    due: BTreeMap<(u64, u64), Due>,
    timers: u64,
    /// Until when a creation keeps a gateway busy.
    busy: BTreeMap<GatewayId, u64>,
    /// The second in which each action was called last, and how often in it.
    #[serde(skip)]
    called: BTreeMap<&'static str, (u64, u32)>,
    #[serde(default)]
    tally: Tally,
    #[serde(skip)]
    ledger: Vec<LedgerLine>,
}

/// What happens at a moment.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Due {
    Available { seq: Seq, request_id: String },
    Gone { seq: Seq, request_id: String },
    Land { request: Request, request_id: String },
}

/// A request that was done, or whose answer was found.
struct Done {
    answer: Answer,
    outcome: Outcome,
}

impl Vpc {
    /// A model at time 0 without entries.
    #[must_use]
    pub fn new(world: World, behaviour: Behaviour, faults: Faults, seed: u64) -> Self {
        Self {
            world,
            behaviour,
            faults,
            rng: Rng::new(seed),
            now_ms: 0,
            requests: 0,
            forwarding: Forwarding::default(),
            tokens: Tokens::default(),
            due: BTreeMap::new(),
            timers: 0,
            busy: BTreeMap::new(),
            called: BTreeMap::new(),
            tally: Tally::default(),
            ledger: Vec::new(),
        }
    }

    /// Takes a request in, does what is to be done at once, and says what the caller hears.
    ///
    /// Costs the logarithm of what exists plus the page, except for listings that filter or show the past.
    pub fn handle(&mut self, now_ms: u64, request: &Request) -> Reply {
        self.advance(now_ms);
        let request_id = self.next_request_id();
        let line = self.ledger.len();
        let wait_ms = self.over_the_limit(request);
        let struck = if wait_ms.is_some() { Struck::Not } else { self.strike(request) };
        let (outcome, answer) = match wait_ms {
            Some(_) => strike::refused(Refusal::api_throttled()),
            None => self.undergo(struck, request, &request_id),
        };
        let (fault, trouble) = match struck {
            Struck::Not | Struck::Planned(_) => (None, None),
            Struck::Fault(fault) => (Some(fault), None),
            Struck::Trouble(trouble) => (None, Some(trouble)),
        };
        let said = answer.as_ref().map(|answer| match answer {
            Ok(_) => Said { status: 200, code: None },
            Err(refusal) => Said { status: refusal.status, code: Some(refusal.code.clone()) },
        });
        let arrived = RequestLine {
            at_ms: self.now_ms,
            request_id: request_id.clone(),
            action: request.action().to_owned(),
            parameters: request.parameters(),
            token: request.token().map(str::to_owned),
            outcome,
            reply: said,
            fault,
            trouble,
        };
        // Nothing but this request has written to the ledger since, so the line goes before what it caused.
        self.ledger.insert(line.min(self.ledger.len()), LedgerLine::Request(arrived));
        Reply { request_id, answer, wait_ms: wait_ms.or(self.behaviour.throttle_hint_ms) }
    }

    /// Notes a request that was refused before it reached the model, so that the ledger has a line for every request.
    pub fn note_refused(
        &mut self,
        now_ms: u64,
        action: &str,
        parameters: BTreeMap<String, String>,
        refusal: &Refusal,
    ) -> String {
        self.advance(now_ms);
        let request_id = self.next_request_id();
        self.ledger.push(LedgerLine::Request(RequestLine {
            at_ms: self.now_ms,
            request_id: request_id.clone(),
            action: action.to_owned(),
            token: parameters.get("ClientToken").cloned(),
            parameters,
            outcome: Outcome::Refused { code: refusal.code.clone(), message: refusal.message.clone() },
            reply: Some(Said { status: refusal.status, code: Some(refusal.code.clone()) }),
            fault: None,
            trouble: None,
        }));
        request_id
    }

    /// Lets time pass: entries become `Available`, deleted ones go, late requests land. Time never goes back.
    pub fn advance(&mut self, now_ms: u64) {
        while let Some(first) = self.due.first_entry() {
            let at_ms = first.key().0;
            if at_ms > now_ms {
                break;
            }
            let due = first.remove();
            self.now_ms = self.now_ms.max(at_ms);
            self.happen(due);
        }
        self.now_ms = self.now_ms.max(now_ms);
        self.forget_tokens();
    }

    /// When [`Vpc::advance`] next changes something.
    #[must_use]
    pub fn next_due(&self) -> Option<u64> {
        self.due.first_key_value().map(|((at_ms, _), _)| *at_ms)
    }

    /// Goes on after it was saved and loaded. RequestIds given out after the last save are not given out again.
    pub const fn resume(&mut self) {
        self.requests = self.requests.saturating_add(REQUESTS_UNSAVED_MAX);
    }

    /// Model time.
    #[must_use]
    pub const fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// What stands in the account.
    #[must_use]
    pub const fn world(&self) -> &World {
        &self.world
    }

    /// How it behaves when nothing goes wrong.
    #[must_use]
    pub const fn behaviour(&self) -> &Behaviour {
        &self.behaviour
    }

    /// Changes how it behaves from now on.
    pub const fn behaviour_mut(&mut self) -> &mut Behaviour {
        &mut self.behaviour
    }

    /// What goes wrong, and how often it did.
    #[must_use]
    pub const fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Changes what goes wrong from now on.
    pub const fn faults_mut(&mut self) -> &mut Faults {
        &mut self.faults
    }

    /// How often something happened since the beginning.
    #[must_use]
    pub fn happened(&self, incident: Incident) -> u64 {
        self.tally.count(incident)
    }

    /// Everything that went wrong or was refused, by name, with how often it did; what never did included.
    pub fn census(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let faults = FaultKind::ALL.into_iter().map(|kind| (kind.as_str(), self.faults.fired(kind)));
        let troubles = Trouble::ALL.into_iter().map(|trouble| (trouble.as_str(), self.faults.troubled(trouble)));
        let incidents = Incident::ALL.into_iter().map(|incident| (incident.as_str(), self.happened(incident)));
        faults.chain(troubles).chain(incidents)
    }

    /// The entries of a table in the order of their creation, those being deleted included.
    pub fn entries(&self, table: &TableId) -> impl Iterator<Item = &Entry> {
        self.forwarding.entries(table)
    }

    /// One entry.
    #[must_use]
    pub fn entry(&self, id: &EntryId) -> Option<&Entry> {
        self.forwarding.find(id).map(|(_, entry)| entry)
    }

    /// The lines since the beginning, or since they were last taken.
    #[must_use]
    pub fn ledger(&self) -> &[LedgerLine] {
        &self.ledger
    }

    /// Takes the lines. Whoever keeps a model for long must do so now and then.
    pub fn take_ledger(&mut self) -> Vec<LedgerLine> {
        std::mem::take(&mut self.ledger)
    }

    /// Notes a call of another service of the vendor's that was answered well, for the same reason.
    pub fn note_done(&mut self, now_ms: u64, action: &str, parameters: BTreeMap<String, String>) -> String {
        self.advance(now_ms);
        let request_id = self.next_request_id();
        self.ledger.push(LedgerLine::Request(RequestLine {
            at_ms: self.now_ms,
            request_id: request_id.clone(),
            action: action.to_owned(),
            token: None,
            parameters,
            outcome: Outcome::Done { entry: None },
            reply: Some(Said { status: 200, code: None }),
            fault: None,
            trouble: None,
        }));
        request_id
    }

    fn forget_tokens(&mut self) {
        let forgotten = self.tokens.forget(self.now_ms, self.behaviour.token_lifetime_ms);
        self.tally.add(Incident::TokenForgotten, forgotten);
    }

    /// How far back a listing may look.
    fn view_ms(&self) -> u64 {
        self.behaviour.read_lag_ms.saturating_add(self.behaviour.read_lag_max_ms)
    }

    fn next_request_id(&mut self) -> String {
        self.requests = self.requests.saturating_add(1);
        let mut buffer = Uuid::encode_buffer();
        let id = Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("sandbox request {}", self.requests).as_bytes());
        id.hyphenated().encode_upper(&mut buffer).to_owned()
    }
}

fn outcome_of(refusal: &Refusal) -> Outcome {
    Outcome::Refused { code: refusal.code.clone(), message: refusal.message.clone() }
}

#[cfg(test)]
mod tests;
