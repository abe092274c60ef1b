//! EIPs that cannot be used, and allocations that cannot stay where they are.
//!
//! One look is no loss: an EIP is lost when two looks, a minute apart, showed it unusable and none between showed it
//! usable. Looks that say the same leave no record, except the one that confirms.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use crate::machine::identity::{AllocationId, GatewayId, Protocol, VSwitchId};
use crate::machine::packed::PackedSet;
use crate::machine::state::{Allocation, Phase, Place, State, Subject, Suspect};

/// How far apart the two looks must be that prove the loss of an EIP (design.md §4).
pub(crate) const EIP_LOSS_INTERVAL_MS: u64 = 60 * 1_000;

/// Why an allocation cannot stay where it is, as numbers of [`crate::machine::event::decided::FixedMoved`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Homeless {
    /// The pod's default route leads to another configured gateway.
    Route = 1,
    /// Its EIP is lost.
    EipLost = 2,
    /// It is an unbound reservation, and its EIP or a port of it is not in the pools any more.
    LeftPool = 3,
}

impl State {
    /// Judges the EIPs of a gateway by what it shows now. `before` are those that it showed until now.
    pub(super) fn judge_eips(&mut self, id: &GatewayId, before: &[(Ipv4Addr, bool, bool)]) {
        let Some(gateway) = self.gateways.get(id) else { return };
        let suspected = self.suspects.iter().filter(|(_, suspect)| suspect.gateway == *id).map(|(eip, _)| *eip);
        let bound = before.iter().chain(&gateway.bound).map(|(eip, _, _)| *eip);
        let concerned: BTreeSet<Ipv4Addr> = suspected.chain(bound).collect();
        for eip in concerned {
            self.judge_eip(id, eip);
        }
    }

    /// Judges one EIP of a gateway that was seen.
    pub(super) fn judge_eip(&mut self, id: &GatewayId, eip: Ipv4Addr) {
        let Some(gateway) = self.gateways.get(id) else { return };
        let usable = gateway.available && gateway.bound.iter().any(|(address, usable, _)| *address == eip && *usable);
        let now = self.machine_ms;
        if usable {
            if self.suspects.remove(&eip).is_some() {
                self.consider_moving_from(eip);
            }
            return;
        }
        match self.suspects.get_mut(&eip) {
            Some(suspect) if suspect.gateway == *id => {
                if !suspect.lost && now >= suspect.since_ms.saturating_add(EIP_LOSS_INTERVAL_MS) {
                    suspect.lost = true;
                    self.consider_moving_from(eip);
                }
            }
            Some(_) | None => {
                self.suspects.insert(eip, Suspect { gateway: id.clone(), since_ms: now, lost: false });
            }
        }
    }

    /// When a look at the configured gateways would confirm the loss of an EIP that somebody has.
    #[must_use]
    pub fn survey_due_ms(&self) -> Option<u64> {
        let open = self.suspects.iter().filter(|(_, suspect)| !suspect.lost);
        let held = open.filter(|(eip, suspect)| self.is_configured(&suspect.gateway) && self.has_owner(**eip));
        held.map(|(_, suspect)| suspect.since_ms.saturating_add(EIP_LOSS_INTERVAL_MS)).min()
    }

    /// Whether a look at a gateway now confirms the loss of an EIP, if it shows what is known.
    #[must_use]
    pub fn would_confirm(&self, gateway: &GatewayId, now_ms: u64) -> bool {
        self.suspects.scan().any(|(_, suspect)| {
            suspect.gateway == *gateway
                && !suspect.lost
                && now_ms >= suspect.since_ms.saturating_add(EIP_LOSS_INTERVAL_MS)
        })
    }

    fn is_configured(&self, gateway: &GatewayId) -> bool {
        self.pools.iter().any(|entry| entry.gateway == *gateway)
    }

    fn has_owner(&self, eip: Ipv4Addr) -> bool {
        self.owners_on(eip).next().is_some()
    }

    fn owners_on(&self, eip: Ipv4Addr) -> impl Iterator<Item = AllocationId> {
        let all = (eip, Protocol::Tcp, u16::MIN)..=(eip, Protocol::Udp, u16::MAX);
        self.owners.range(all).map(|(_, owner)| *owner)
    }

    fn consider_moving_from(&mut self, eip: Ipv4Addr) {
        let owners: BTreeSet<AllocationId> = self.owners_on(eip).collect();
        for id in owners {
            self.consider_moving(id);
        }
    }

    /// The route of a vSwitch changed.
    pub(super) fn consider_moving_in(&mut self, vswitch: &VSwitchId) {
        let within: Vec<_> = self.by_vswitch.get(vswitch).into_iter().flat_map(PackedSet::iter).copied().collect();
        for id in within {
            self.consider_moving(id);
        }
    }

    /// Notes whether an allocation can stay where it is.
    pub(super) fn consider_moving(&mut self, id: AllocationId) {
        let Some(allocation) = self.allocations.get(&id) else { return };
        if self.homeless_at(allocation, &allocation.place).is_some() {
            self.homeless.insert(id);
            self.worklist.insert(Subject::Allocation(id));
        } else {
            self.homeless.remove(&id);
        }
    }

    /// Those that cannot stay where they are are looked at again: there may be room elsewhere now.
    pub(super) fn wake_homeless(&mut self) {
        self.worklist.extend(self.homeless.iter().copied().map(Subject::Allocation));
    }

    /// Why an allocation cannot stay where it is, with its pod at that place.
    pub(crate) fn homeless_at(&self, allocation: &Allocation, place: &Place) -> Option<Homeless> {
        if matches!(allocation.phase, Phase::Releasing { .. }) {
            return None;
        }
        let leads = self.routes.get(&place.vswitch).map(Vec::as_slice).unwrap_or_default();
        let elsewhere = !leads.contains(&allocation.gateway) && leads.iter().any(|hop| self.is_configured(hop));
        if elsewhere {
            return Some(Homeless::Route);
        }
        if self.suspects.get(&allocation.eip).is_some_and(|suspect| suspect.lost) {
            return Some(Homeless::EipLost);
        }
        let unbound = matches!(allocation.phase, Phase::Reserved { .. }) && allocation.is_over();
        (unbound && !self.in_pool(allocation)).then_some(Homeless::LeftPool)
    }

    /// Whether the pools still offer what an allocation has.
    fn in_pool(&self, allocation: &Allocation) -> bool {
        let offers = |entry: &&super::PoolEntry| {
            entry.gateway == allocation.gateway && (entry.eips.is_empty() || entry.eips.contains(&allocation.eip))
        };
        let entry = self.pools.iter().find(offers);
        entry.is_some_and(|entry| allocation.items.iter().all(|item| entry.range.contains(item.external)))
    }

    /// Gateways that are no longer listed and whose EIPs a second look would show lost.
    #[must_use]
    pub fn gateways_suspected(&self, now_ms: u64) -> Vec<GatewayId> {
        let suspected = self.suspects.iter().map(|(_, suspect)| suspect.gateway.clone());
        let suspected: BTreeSet<GatewayId> = suspected.filter(|gateway| self.would_confirm(gateway, now_ms)).collect();
        suspected.into_iter().collect()
    }
}
