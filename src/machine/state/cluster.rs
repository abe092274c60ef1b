//! Folding what the cluster shows: pods and PodDNATs.

use std::net::Ipv4Addr;

use crate::machine::at::At;
use crate::machine::demand::{self, Asked, Demand, Note, RefusalReason, ReleaseReason, WaitReason};
use crate::machine::event::{codec, decided, outcome, seen};
use crate::machine::identity::{AllocationId, PodKey, PodUid, TableId};
use crate::machine::intent::Held;
use crate::machine::state::mapping::SHOWS_ANOTHER_ENTRY;
use crate::machine::state::{Claim, Controller, Pod, Published, Standing, State, StrangeClaim, Subject, Timer};

impl State {
    /// Whether an observation of a pod says nothing new.
    #[must_use]
    pub fn knows_pod(&self, seen: &seen::PodSeen) -> bool {
        self.pods.get(&PodUid::from(seen.uid.as_str())).is_some_and(|pod| pod.seen == fingerprint(seen))
    }

    /// Whether a pod concerns us: it asks, or has asked and is still known, or its name has an allocation or a claim.
    #[must_use]
    pub fn concerns(&self, seen: &seen::PodSeen) -> bool {
        let key = PodKey::new(seen.namespace.as_str(), seen.name.as_str());
        !seen.annotations.is_empty()
            || seen.oversized
            || seen.gate
            || self.pods.contains_key(&PodUid::from(seen.uid.as_str()))
            || self.by_name.contains_key(&key)
            || self.claims.contains_key(&key)
    }

    pub(super) fn pod_seen(&mut self, seen: &seen::PodSeen) {
        let uid = PodUid::from(seen.uid.as_str());
        let (uid, mut pod) = self.pods.remove_entry(&uid).unwrap_or_else(|| (uid, new_pod(seen)));
        if pod.ip != seen.ip {
            self.move_pod(&uid, pod.ip, seen.ip);
            if let Some(ip) = pod.ip {
                self.wake_remnants_to(ip);
            }
        }
        let asked = (pod.demand.clone(), pod.barred, pod.standing.clone());
        self.leave_queue(&uid, &mut pod);
        self.update_pod(&uid, &mut pod, seen);
        if let (demand, barred, Standing::Refused(reason)) = asked
            && (demand, barred) == (pod.demand.clone(), pod.barred)
            && !matches!(reason, RefusalReason::NoGatewayOnRoute | RefusalReason::NeverFits)
        {
            // What was refused has not changed.
            pod.standing = Standing::Refused(reason);
        }
        self.pods_by_name.or_default(pod.key.clone()).insert(uid.clone());
        self.worklist.extend(self.by_name.get(&pod.key).copied().map(Subject::Allocation));
        self.pods.insert(uid.clone(), pod);
        self.follow_fixed(&uid);
        self.reconsider_pod(&uid);
    }

    fn update_pod(&mut self, uid: &PodUid, pod: &mut Pod, seen: &seen::PodSeen) {
        pod.seen = fingerprint(seen);
        pod.seen_at = self.seq;
        pod.ip = seen.ip;
        pod.gate = seen.gate;
        pod.owner = seen.owner.as_ref().map(|owner| self.controllers.share(Controller::of(owner)));
        let declared = &seen.ports;
        pod.demand = demand::read(Asked { annotations: &seen.annotations, oversized: seen.oversized, declared });
        pod.barred = match (seen.host_network, seen.virtual_node, seen.namespace_terminating) {
            (true, _, _) => Some(RefusalReason::HostNetwork),
            (false, true, _) => Some(RefusalReason::VirtualNode),
            (false, false, true) => Some(RefusalReason::NamespaceTerminating),
            (false, false, false) => None,
        };
        if seen.terminal || (seen.terminating_grace_ms.is_some() && seen.containers_terminated) {
            pod.ended = pod.ended.or(Some(ReleaseReason::PodEnded));
        }
        // Only a cluster that was put back to a backup shows a pod that neither ended nor goes, and did before.
        if let (None, Some(due)) = (seen.terminating_grace_ms, pod.grace_ends_ms()) {
            self.timers.remove(&(due, Timer::Grace(uid.clone())));
            pod.grace_ends_ms = None;
        }
        if seen.terminating_grace_ms.is_none() && !seen.terminal {
            pod.ended = None;
        }
        if let (Some(grace), None) = (seen.terminating_grace_ms, pod.grace_ends_ms()) {
            let due = self.machine_ms.saturating_add(grace);
            pod.grace_ends_ms = Some(At::new(due));
            self.timers.insert((due, Timer::Grace(uid.clone())));
        }
        if matches!(pod.demand, Demand::On { .. }) && pod.arrival.is_none() {
            pod.arrival = Some(At::new(self.seq));
        }
        if !matches!(pod.demand, Demand::On { .. }) {
            pod.arrival = None;
        }
    }

    pub(super) fn pod_gone(&mut self, uid: &PodUid) {
        let Some(mut pod) = self.pods.remove(uid) else { return };
        self.leave_queue(uid, &mut pod);
        self.move_pod(uid, pod.ip, None);
        if let Some(ip) = pod.ip {
            self.wake_remnants_to(ip);
        }
        self.undecided.remove(uid);
        self.marking.remove(uid);
        if let Some(due) = pod.grace_ends_ms() {
            self.timers.remove(&(due, Timer::Grace(uid.clone())));
        }
        let namesakes = self.pods_by_name.or_default(pod.key.clone());
        namesakes.remove(uid);
        if namesakes.is_empty() {
            self.pods_by_name.remove(&pod.key);
        }
        self.agenda.replace(&mut pod.held, Vec::new(), self.seq);
        if let Some(id) = self.by_name.get(&pod.key).copied() {
            self.worklist.insert(Subject::Allocation(id));
            self.refresh_allocation(id);
        }
        self.wake_name(&pod.key);
    }

    /// Takes a pod out of the queue in which it stands, if any; what it waits for is decided anew. It keeps its place
    /// in the order of arrival.
    fn leave_queue(&mut self, uid: &PodUid, pod: &mut Pod) {
        if let Standing::Waiting { queue: Some(table), .. } = &pod.standing {
            if let (Some(table), Some(arrival)) = (self.tables.get_mut(table), pod.arrival()) {
                table.queue.remove(&arrival);
            }
            self.worklist.insert(Subject::Queue(table.clone()));
        }
        self.undecided.remove(uid);
        if !matches!(pod.standing, Standing::Allocated(_)) {
            pod.standing = Standing::Open;
        }
    }

    fn move_pod(&mut self, uid: &PodUid, from: Option<Ipv4Addr>, to: Option<Ipv4Addr>) {
        if let Some(ip) = from {
            let others = self.pods_by_ip.or_default(ip);
            others.remove(uid);
            if others.is_empty() {
                self.pods_by_ip.remove(&ip);
                // Who gets the address next may be elsewhere: where it is will be asked again.
                self.addresses.remove(&ip);
            }
        }
        if let Some(ip) = to {
            self.pods_by_ip.or_default(ip).insert(uid.clone());
        }
    }

    pub(super) fn waited(&mut self, body: &decided::Waited) -> Result<(), &'static str> {
        let uid = PodUid::from(body.pod.as_str());
        let reason = WaitReason::from_number(body.reason).ok_or("its reason is unknown")?;
        let (uid, mut pod) = self.pods.remove_entry(&uid).ok_or("the pod is not known")?;
        let queue = body.table.as_deref().map(TableId::from);
        if matches!(pod.standing, Standing::Allocated(_)) {
            return Err("the pod has an allocation");
        }
        self.leave_queue(&uid, &mut pod);
        if let Some(table) = &queue {
            let arrival = pod.arrival().ok_or("the pod has not asked")?;
            self.tables.get_mut(table).ok_or("the table is not known")?.queue.insert(arrival, uid.clone());
        } else {
            self.undecided.insert(uid.clone());
        }
        pod.standing = Standing::Waiting { reason, queue };
        self.pods.insert(uid.clone(), pod);
        self.refresh_pod(&uid);
        Ok(())
    }

    pub(super) fn refused(&mut self, body: &decided::Refused) -> Result<(), &'static str> {
        let uid = PodUid::from(body.pod.as_str());
        let reason = RefusalReason::from_number(body.reason).ok_or("its reason is unknown")?;
        let (uid, mut pod) = self.pods.remove_entry(&uid).ok_or("the pod is not known")?;
        if matches!(pod.standing, Standing::Allocated(_)) {
            return Err("the pod has an allocation");
        }
        self.leave_queue(&uid, &mut pod);
        pod.standing = Standing::Refused(reason);
        if matches!(reason, RefusalReason::NoGatewayOnRoute | RefusalReason::NeverFits) {
            self.undecided.insert(uid.clone());
        }
        self.pods.insert(uid.clone(), pod);
        self.refresh_pod(&uid);
        Ok(())
    }

    pub(super) fn pod_marked(&mut self, body: &outcome::PodMarked) -> Result<(), &'static str> {
        let uid = PodUid::from(body.pod.as_str());
        let (phase, reason, allocation, content) = body.note;
        let phase = demand::Phase::from_number(phase).ok_or("its phase is unknown")?;
        if let Some(pod) = self.pods.get_mut(&uid) {
            pod.noted = Note { phase, reason, allocation: allocation.into(), content };
            pod.noted_unsure = false;
            self.refresh_pod(&uid);
            self.refresh_allocation_of(&uid);
        }
        Ok(())
    }

    pub(super) fn mark_unknown(&mut self, uid: &PodUid) {
        if let Some(pod) = self.pods.get_mut(uid) {
            pod.noted_unsure = true;
            self.refresh_pod(uid);
            self.refresh_allocation_of(uid);
        }
    }

    /// The allocation that a pod has, or had and that keeps its name.
    fn refresh_allocation_of(&mut self, uid: &PodUid) {
        // Also one that ends: what its pod says counts until nobody is told of it any more.
        let Some(pod) = self.pods.get(uid) else { return };
        let has = if let Standing::Allocated(id) = pod.standing { Some(id) } else { None };
        if let Some(id) = has.or_else(|| self.by_name.get(&pod.key).copied()) {
            self.refresh_allocation(id);
        }
    }

    pub(super) fn claim_seen(&mut self, seen: &seen::ClaimSeen) {
        let key = PodKey::new(seen.namespace.as_str(), seen.name.as_str());
        if let Some(claim) = &seen.claim {
            self.meet_stamp(claim.allocation.into(), self.allocations_decided);
        }
        let ours = self.by_name.get(&key).copied();
        let named = seen.claim.as_ref().map(|claim| AllocationId::from(claim.allocation));
        let known = |id: &AllocationId| self.allocations.get(id).and_then(|allocation| allocation.claim_uid.clone());
        let edited = ours.as_ref().and_then(known).is_some_and(|(uid, _)| *uid == *seen.uid);
        let otherwise = ours.is_some_and(|id| self.allocations.get(&id).is_some_and(|ours| ours.is_edited(id, seen)));
        match (ours, named) {
            (Some(id), Some(named)) if id == named && !(edited && otherwise) => self.own_claim_seen(id, seen),
            (Some(id), _) if edited => {
                // Somebody edited the annotation of ours: it is written back.
                if let Some(allocation) = self.allocations.get_mut(&id) {
                    allocation.claim = Claim::Absent;
                    allocation.edited = true;
                }
                self.own_claim_seen(id, seen);
            }
            (_, _) => {
                let ghost = self.claims.get(&key).is_some_and(|claim| claim.ghost && *claim.uid == *seen.uid);
                let same = self.claims.get(&key).is_some_and(|claim| *claim.uid == *seen.uid);
                let known = same && self.originals.contains(&key);
                let held = self.take_claim(&key).map(|claim| claim.held).unwrap_or_default();
                let (uid, claim, since) = (seen.uid.as_str().into(), seen.claim.clone(), self.seq);
                let owner = seen.owner.as_ref().map(|owner| self.controllers.share(Controller::of(owner)));
                let (published, written_by_us) = (seen.published, seen.manager == seen::MANAGER_NATGW);
                let (shown, deleting) = (seen.shown.clone(), seen.deleting);
                let strange =
                    StrangeClaim { uid, since, claim, shown, deleting, owner, published, written_by_us, ghost, held };
                self.put_claim(&key, strange);
                self.note_others_claim(&key, seen, known);
                self.refresh_claim(&key);
                self.worklist.insert(Subject::Claim(key.clone()));
                self.wake_name(&key);
            }
        }
    }

    fn own_claim_seen(&mut self, id: AllocationId, seen: &seen::ClaimSeen) {
        // One object has a name: another that was known under it has gone.
        self.forget_claim(&PodKey::new(seen.namespace.as_str(), seen.name.as_str()));
        self.restore_claim(id, seen);
        if let Some(allocation) = self.allocations.get_mut(&id) {
            // A claim that is being deleted ends the allocation; decide reads this.
            allocation.claim_deleting = seen.deleting;
            allocation.claim_uid = Some((seen.uid.as_str().into(), self.seq));
            let another = match allocation.names_its_entries(seen) {
                Some(true) => 0,
                Some(false) => SHOWS_ANOTHER_ENTRY,
                None => allocation.lacks & SHOWS_ANOTHER_ENTRY,
            };
            allocation.lacks = seen.lacks | another;
            if allocation.is_shown_otherwise(seen.published) {
                // A write whose answer was lost, or is still to come; or somebody else's.
                allocation.published = Published::Unknown;
            }
        }
        self.refresh_allocation(id);
        self.worklist.insert(Subject::Allocation(id));
    }

    pub(super) fn claim_gone(&mut self, body: &seen::ClaimGone) {
        let key = PodKey::new(body.namespace.as_str(), body.name.as_str());
        self.forget_claim(&key);
        if let Some(id) = self.by_name.get(&key).copied() {
            if let Some(allocation) = self.allocations.get_mut(&id) {
                // It may be the claim of an earlier allocation of this name.
                if allocation.claim_uid.as_ref().is_some_and(|(uid, _)| **uid != *body.uid) {
                    return self.wake_name(&key);
                }
                allocation.claim = Claim::Absent;
                allocation.edited = false;
                allocation.claim_uid = None;
                allocation.claim_deleting = false;
                allocation.published = Published::Nothing;
                allocation.lacks = 0;
            }
            self.refresh_allocation(id);
            self.worklist.insert(Subject::Allocation(id));
        }
        self.wake_name(&key);
    }

    /// A claim that belongs to no allocation is there no more.
    fn forget_claim(&mut self, key: &PodKey) {
        if let Some(mut claim) = self.take_claim(key) {
            self.agenda.replace(&mut claim.held, Vec::new(), self.seq);
            self.end_rebuild();
        }
    }

    pub(super) fn ghost_decided(&mut self, body: &decided::GhostDecided) -> Result<(), &'static str> {
        let key = PodKey::new(body.namespace.as_str(), body.name.as_str());
        let claim = self.claims.get_mut(&key).ok_or("no claim of that name is known")?;
        claim.ghost = true;
        let named = claim.claim.as_ref().map(|claim| AllocationId::from(claim.allocation));
        self.refresh_claim(&key);
        if let Some(id) = named {
            self.wake_remnants_of(id);
        }
        self.end_rebuild();
        Ok(())
    }

    /// Pods of this name may now be decided upon.
    pub(super) fn wake_name(&mut self, key: &PodKey) {
        for uid in self.pods_by_name.get(key).cloned().unwrap_or_default() {
            self.wake_pod(&uid);
        }
    }

    pub(super) fn wake_ip(&mut self, ip: Ipv4Addr) {
        for uid in self.pods_by_ip.get(&ip).cloned().unwrap_or_default() {
            if let Some(Standing::Allocated(id)) = self.pods.get(&uid).map(|pod| pod.standing.clone()) {
                self.worklist.insert(Subject::Allocation(id));
            }
            self.wake_pod(&uid);
        }
    }

    /// Pods that wait for a fact about a gateway, a route or an address; and the queues, for whoever is first in one may
    /// have had no way to a table, or to this one.
    pub(super) fn wake_undecided(&mut self) {
        for uid in self.undecided.clone() {
            self.wake_pod(&uid);
        }
        self.worklist.extend(self.tables.iter().map(|(id, _)| Subject::Queue(id.clone())));
        self.wake_homeless();
    }

    pub(super) fn wake_pod(&mut self, uid: &PodUid) {
        let pod = self.pods.get(uid);
        let (arrival, ip) = (pod.and_then(Pod::arrival).unwrap_or(u64::MAX), pod.and_then(|pod| pod.ip));
        self.worklist.insert(Subject::Pod(arrival, uid.clone()));
        if let Some(ip) = ip {
            self.wake_remnants_to(ip);
        }
    }

    pub(super) fn reconsider_pod(&mut self, uid: &PodUid) {
        self.refresh_pod(uid);
        self.wake_pod(uid);
        if let Some(Standing::Allocated(id)) = self.pods.get(uid).map(|pod| pod.standing.clone()) {
            self.refresh_allocation(id);
            self.worklist.insert(Subject::Allocation(id));
        }
    }
}

fn new_pod(seen: &seen::PodSeen) -> Pod {
    Pod {
        key: PodKey::new(seen.namespace.as_str(), seen.name.as_str()),
        seen: 0,
        seen_at: 0,
        ip: None,
        demand: Demand::Off,
        barred: None,
        ended: None,
        grace_ends_ms: None,
        gate: false,
        owner: None,
        arrival: None,
        standing: Standing::Open,
        noted: Note { allocation: AllocationId::ZERO, ..Note::SILENT },
        noted_unsure: false,
        held: Held::default(),
    }
}

/// 64 bits of the hash of an observation's bytes.
fn fingerprint(seen: &seen::PodSeen) -> u64 {
    let mut bytes = Vec::with_capacity(256);
    // An observation too large for the journal is bounded by its adapter; here any failure only costs a repetition.
    if codec::encode_body(seen, &mut bytes).is_err() {
        return 0;
    }
    let mut first = [0; 8];
    blake3::Hasher::new().update(&bytes).finalize_xof().fill(&mut first);
    u64::from_be_bytes(first)
}
