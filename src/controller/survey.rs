//! The survey of the VPC, in parts: the gateways, the EIPs of each configured one, the route tables, the routes of each.
//!
//! Each part is one reading of one action. One that fails is read again alone, and what the others showed is kept meanwhile;
//! where it fails repeatedly for another reason than flow control, what named it is read again too, because it may be gone.
//! The parts are handed over when all of them are there. A vSwitch whose route is not known asks for the route tables and
//! their routes only.
//!
//! Pure: time is an argument, and nothing here is journaled.

use std::collections::{BTreeMap, BTreeSet};

use crate::machine::identity::{GatewayId, VSwitchId};
use crate::ports::cloud::{ListedEip, ListedGateway, ListedRouteTable};
use crate::ports::effect::{ListRequest, Listing};

/// Parts that are read at once: a VPC with many route tables leaves the account's calls to others too.
const PARTS_AT_ONCE: usize = 4;

/// Failures in a row of one part after which what named it is read again.
const FAILURES_MAX: u32 = 3;

/// One part. The order is that in which they are read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// All gateways of the VPC.
    Gateways,
    /// The EIPs of a gateway.
    Eips(GatewayId),
    /// All route tables of the VPC.
    RouteTables,
    /// The default routes of a route table.
    Routes(String),
}

impl Part {
    /// The reading.
    #[must_use]
    pub fn request(&self) -> ListRequest {
        match self {
            Self::Gateways => ListRequest::Gateways,
            Self::Eips(gateway) => ListRequest::Eips(gateway.clone()),
            Self::RouteTables => ListRequest::RouteTables,
            Self::Routes(table) => ListRequest::Routes(table.clone()),
        }
    }
}

/// What is read and what was.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    round: Option<Round>,
    /// Routes are to be read as soon as possible.
    asked: bool,
    reading: BTreeSet<Part>,
    /// When a part that failed is read again.
    retries: BTreeMap<Part, u64>,
    failures: BTreeMap<Part, u32>,
}

/// The parts of one survey, as far as they are there.
#[derive(Clone, Debug, Default)]
struct Round {
    /// It began at that machine time with the gateways; none is a round of routes only.
    began_ms: Option<u64>,
    gateways: Option<Vec<ListedGateway>>,
    eips: Vec<(GatewayId, Option<Vec<ListedEip>>)>,
    /// The vSwitches that were known when the route tables were read.
    vswitches: Vec<VSwitchId>,
    tables: Option<Vec<ListedRouteTable>>,
    hops: BTreeMap<String, Option<Vec<GatewayId>>>,
}

/// The gateways, the EIPs of each configured one, and the machine time at which their survey began.
pub type Gateways = (Vec<ListedGateway>, Vec<(GatewayId, Vec<ListedEip>)>, u64);

/// The NAT gateways on the default route of each vSwitch.
pub type Routes = Vec<(VSwitchId, Vec<GatewayId>)>;

impl Survey {
    /// The parts that are to be read and are not being read, each with the time at which it is due; a whole survey is due
    /// at `due_ms`.
    #[must_use]
    pub fn parts(&self, due_ms: u64) -> Vec<(Part, u64)> {
        // The end of each that is being read is an input of its own.
        let room = PARTS_AT_ONCE.saturating_sub(self.reading.len());
        let mut parts = Vec::new();
        if room == 0 {
            return parts;
        }
        let mut lacks = |part: Part, due_ms: u64| {
            if !self.reading.contains(&part) {
                let again_ms = self.retries.get(&part).copied().unwrap_or(0);
                parts.push((part, due_ms.max(again_ms)));
            }
        };
        let whole = self.round.as_ref().is_some_and(|round| round.began_ms.is_some());
        let gateways = self.round.as_ref().filter(|round| round.gateways.is_some());
        match gateways {
            None => lacks(Part::Gateways, if whole { 0 } else { due_ms }),
            Some(round) => {
                let unread = round.eips.iter().filter(|(_, bound)| bound.is_none());
                unread.for_each(|(gateway, _)| lacks(Part::Eips(gateway.clone()), 0));
            }
        }
        let begun = self.round.is_some() || self.asked;
        match self.round.as_ref().filter(|round| round.tables.is_some()) {
            None => lacks(Part::RouteTables, if begun { 0 } else { due_ms }),
            Some(round) => {
                let unread = round.hops.iter().filter(|(_, hops)| hops.is_none());
                unread.for_each(|(table, _)| lacks(Part::Routes(table.clone()), 0));
            }
        }
        parts.sort_by_key(|(_, due_ms)| *due_ms);
        parts.truncate(room);
        parts
    }

    /// A part begins to be read at that machine time; `whole` says that a whole survey is due. The vSwitches are those
    /// whose routes are to be told.
    pub fn begin(&mut self, part: &Part, now_ms: u64, whole: bool, vswitches: impl FnOnce() -> Vec<VSwitchId>) {
        let round = self.round.get_or_insert_default();
        if whole && round.began_ms.is_none() {
            round.began_ms = Some(now_ms);
        }
        if *part == Part::RouteTables {
            self.asked = false;
            round.vswitches = vswitches();
        }
        self.retries.remove(part);
        self.reading.insert(part.clone());
    }

    /// Routes are read as soon as possible, and again if they are being read.
    pub const fn ask_for_routes(&mut self) {
        self.asked = true;
    }

    /// A part was read: `configured` are the gateways whose EIPs count. Says whether the answer was one to that part.
    pub fn read(&mut self, part: &Part, listing: Listing, configured: &[GatewayId]) -> bool {
        let Some(round) = &mut self.round else { return false };
        match (part, listing) {
            (Part::Gateways, Listing::Gateways(gateways)) => {
                let there = configured.iter().filter(|id| gateways.iter().any(|gateway| gateway.id == **id));
                let mut known: BTreeMap<_, _> = std::mem::take(&mut round.eips).into_iter().collect();
                round.eips = there.map(|id| (id.clone(), known.remove(id).flatten())).collect();
                round.gateways = Some(gateways);
            }
            (Part::Eips(gateway), Listing::Eips(bound)) => {
                if let Some((_, known)) = round.eips.iter_mut().find(|(id, _)| id == gateway) {
                    *known = Some(bound);
                }
            }
            (Part::RouteTables, Listing::RouteTables(tables)) => {
                let known = &mut round.hops;
                round.hops = tables.iter().map(|table| (table.id.clone(), known.remove(&table.id).flatten())).collect();
                round.tables = Some(tables);
            }
            (Part::Routes(table), Listing::Routes(hops)) => {
                if let Some(known) = round.hops.get_mut(table) {
                    *known = Some(hops);
                }
            }
            _ => return false,
        }
        self.reading.remove(part);
        self.failures.remove(part);
        true
    }

    /// A part could not be read and is read again at that time. `paced` says that flow control refused it: that says
    /// nothing of what it is about.
    pub fn failed(&mut self, part: &Part, again_ms: u64, paced: bool) {
        self.reading.remove(part);
        self.retries.insert(part.clone(), again_ms);
        if paced {
            return;
        }
        let failures = self.failures.entry(part.clone()).or_default();
        *failures = failures.saturating_add(1);
        if *failures < FAILURES_MAX {
            return;
        }
        self.failures.remove(part);
        match (part, &mut self.round) {
            (Part::Eips(_), Some(round)) => round.gateways = None,
            (Part::Routes(_), Some(round)) => round.tables = None,
            (Part::Gateways | Part::RouteTables | Part::Eips(_) | Part::Routes(_), _) => {}
        }
    }

    /// What was surveyed, once all parts are there: gateways too, or routes only.
    pub fn take(&mut self) -> Option<(Option<Gateways>, Routes)> {
        let round = self.round.as_ref()?;
        let gateways = round.began_ms.is_none() || round.gateways.is_some();
        let bound = round.eips.iter().all(|(_, bound)| bound.is_some()) && round.hops.values().all(Option::is_some);
        if !gateways || !bound || round.tables.is_none() || !self.reading.is_empty() {
            return None;
        }
        let Round { began_ms, gateways, eips, vswitches, tables, hops } = self.round.take()?;
        self.retries.clear();
        self.failures.clear();
        let eips = eips.into_iter().filter_map(|(id, bound)| Some((id, bound?))).collect();
        let gateways = gateways.zip(began_ms).map(|(gateways, began_ms)| (gateways, eips, began_ms));
        Some((gateways, routes(&tables.unwrap_or_default(), &hops, &vswitches)))
    }
}

/// The NAT gateways on the default route of each vSwitch. One that no table names is served by the system table
/// (aliyun-api.md §7).
fn routes(
    tables: &[ListedRouteTable],
    hops: &BTreeMap<String, Option<Vec<GatewayId>>>,
    vswitches: &[VSwitchId],
) -> Routes {
    let named: BTreeSet<&VSwitchId> = tables.iter().flat_map(|table| &table.vswitches).collect();
    let mut routes = Vec::new();
    for table in tables {
        let hops = hops.get(&table.id).and_then(Clone::clone).unwrap_or_default();
        let unnamed = vswitches.iter().filter(|vswitch| table.system && !named.contains(vswitch));
        routes.extend(table.vswitches.iter().chain(unnamed).map(|vswitch| (vswitch.clone(), hops.clone())));
    }
    routes
}

#[cfg(test)]
mod tests;
