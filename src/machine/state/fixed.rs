//! Folding fixed mappings: reservations, the next pod of a name, and moves to another EIP.
//!
//! A move has two allocations of one name. The one that goes (`predecessors` of the other) keeps its EIP, its ports and
//! its entries until these are known to be gone; name, claim and status are at once its successor's. That it ends is no
//! record of its own: it follows from its last entry's absence.

use crate::machine::demand::{Demand, ReleaseReason, Want};
use crate::machine::event::{decided, seen};
use crate::machine::identity::{AllocationId, Generation, PodKey, PodUid, protocol_of};
use crate::machine::intent::Held;
use crate::machine::state::{
    Allocation, Claim, Controller, Phase, Place, Pod, Published, Standing, State, Subject, Timer,
};

/// The kind whose pods always may have fixed mappings, in any API group.
const STATEFUL_SET: &str = "StatefulSet";

impl State {
    /// Whether a pod may have a fixed mapping: those of StatefulSets and of the configured kinds, and bare ones.
    pub(crate) fn may_be_fixed(&self, pod: &Pod) -> bool {
        let configured = self.settings.iter().flat_map(|settings| &settings.stateful_kinds);
        let listed =
            |kind: &str| kind == STATEFUL_SET || configured.map(AsRef::as_ref).any(|other: &str| other == kind);
        pod.owner.as_ref().is_none_or(|owner| listed(&owner.kind))
    }

    /// Whether a pod's mapping is to be fixed; `None` where its annotations do not say.
    pub(crate) fn wants_fixed(&self, pod: &Pod) -> Option<bool> {
        match pod.demand {
            Demand::On { fixed, .. } => Some(fixed && self.may_be_fixed(pod)),
            Demand::Off | Demand::Kept | Demand::Refused(_) => None,
        }
    }

    /// A live mapping is fixed or not as its pod says now, and a fixed one belongs to its pod's controller.
    pub(super) fn follow_fixed(&mut self, uid: &PodUid) {
        let Some(pod) = self.pods.get(uid) else { return };
        let (Standing::Allocated(id), Some(fixed)) = (pod.standing.clone(), self.wants_fixed(pod)) else { return };
        let owner = pod.owner.clone().filter(|_| fixed);
        let seq = self.seq;
        let Some(allocation) = self.allocations.get_mut(&id) else { return };
        if (allocation.fixed, &allocation.owner) != (fixed, &owner) {
            (allocation.fixed, allocation.owner) = (fixed, owner);
            allocation.claim_revision = seq;
            self.refresh_allocation(id);
        }
    }

    /// What pods may have changed with the settings.
    pub(super) fn follow_all_fixed(&mut self) {
        let asks = |pod: &Pod| matches!(pod.demand, Demand::On { fixed: true, .. });
        let asking: Vec<PodUid> = self.pods.iter().filter(|(_, pod)| asks(pod)).map(|(uid, _)| uid.clone()).collect();
        for uid in asking {
            self.follow_fixed(&uid);
            self.reconsider_pod(&uid);
        }
        for id in self.reserved.clone() {
            self.arm_retention(id);
            self.worklist.insert(Subject::Allocation(id));
        }
    }

    pub(super) fn reserved(&mut self, body: &decided::Reserved) -> Result<(), &'static str> {
        let (id, seq) = (AllocationId::from(body.allocation), self.seq);
        let allocation = self.allocations.get_mut(&id).ok_or("the allocation is not known")?;
        if !allocation.fixed {
            return Err("the allocation is not fixed");
        }
        if !matches!(allocation.phase, Phase::Live | Phase::Rebinding { .. }) {
            return Err("the allocation is not live");
        }
        let unsent = !allocation.may_have_sent();
        allocation.phase = Phase::Reserved { since: seq };
        allocation.unusual.change(|unusual| unusual.absent_since_wall_ms = Some(body.absent_since_wall_ms));
        allocation.claim_revision = seq;
        let pod = allocation.pod.clone();
        self.reserved.insert(id);
        self.arm_retention(id);
        self.stand_open(&pod, id);
        self.settle_unsent(id, unsent);
        self.consider_moving(id);
        Ok(())
    }

    pub(super) fn fixed_bound(&mut self, body: &decided::FixedBound) -> Result<(), &'static str> {
        let (id, uid, seq) = (AllocationId::from(body.allocation), PodUid::from(body.pod.as_str()), self.seq);
        let pod = self.pods.get(&uid).ok_or("the pod is not known")?;
        if matches!(pod.standing, Standing::Allocated(_)) {
            return Err("the pod has an allocation");
        }
        let (key, owner) = (pod.key.clone(), pod.owner.clone());
        let allocation = self.allocations.get_mut(&id).ok_or("the allocation is not known")?;
        if !matches!(allocation.phase, Phase::Reserved { .. }) || !allocation.is_over() || allocation.key != key {
            return Err("the allocation is not reserved for that pod");
        }
        let (ip_before, vswitch_before) = (allocation.ip, allocation.place.vswitch.clone());
        let (eni, vswitch, zone) = &body.place;
        allocation.pod = uid.clone();
        allocation.ip = body.ip;
        let place = Place { eni: eni.as_str().into(), vswitch: vswitch.as_str().into(), zone: zone.as_str().into() };
        allocation.place = self.places.share(place);
        allocation.phase = Phase::Live;
        allocation.owner = owner;
        allocation.unusual.change(|unusual| unusual.absent_since_wall_ms = None);
        allocation.kept = false;
        (allocation.revision, allocation.claim_revision) = (seq, seq);
        let table = allocation.table.clone();
        allocation.probe = self.tables.get(&table).is_some_and(|table| table.probing);
        self.end_reservation(id);
        self.change_place(id, ip_before, &vswitch_before);
        self.count_generations(body.items.iter().map(|(_, _, generation)| *generation));
        for (internal, protocol, generation) in &body.items {
            let want = Want { internal: *internal, protocol: protocol_of(*protocol).ok_or("a protocol is unknown")? };
            self.renew(id, want, (*generation).into())?;
        }
        self.stand_allocated(&uid, id);
        // Of another controller's reservation nobody knew whether it is one of a fixed mapping.
        self.follow_fixed(&uid);
        if let Some(table) = self.tables.get_mut(&table) {
            table.probing = false;
        }
        self.worklist.insert(Subject::Queue(table));
        self.consider_moving(id);
        self.refresh_allocation(id);
        self.worklist.insert(Subject::Allocation(id));
        Ok(())
    }

    pub(super) fn fixed_moved(&mut self, body: &decided::FixedMoved) -> Result<(), &'static str> {
        let (id, seq) = (AllocationId::from(body.from), self.seq);
        let allocation = self.allocations.get_mut(&id).ok_or("the allocation is not known")?;
        if !allocation.fixed || allocation.is_succeeded() || matches!(allocation.phase, Phase::Releasing { .. }) {
            return Err("the allocation is not one that can move");
        }
        let unsent = !allocation.may_have_sent();
        allocation.phase = Phase::Releasing { since: seq, reason: ReleaseReason::Moved };
        allocation.moved = true;
        let pod = allocation.pod.clone();
        self.end_reservation(id);
        self.homeless.remove(&id);
        self.stand_open(&pod, id);
        self.settle_unsent(id, unsent);
        Ok(())
    }

    /// Whether a pod is known and its removal has not begun.
    pub(super) fn is_there(&self, uid: &PodUid) -> bool {
        self.pods.get(uid).is_some_and(|pod| pod.ended.is_none())
    }

    /// The name of an allocation that moves goes to a new one, with the claim and what it shows.
    pub(super) fn succeed(&mut self, from: AllocationId, to: AllocationId) {
        let Some(earlier) = self.allocations.get_mut(&from) else { return };
        let shown = earlier.published != Published::Nothing;
        earlier.unusual.change(|unusual| unusual.successor = Some(to));
        earlier.claim = Claim::Absent;
        earlier.published = Published::Nothing;
        let claim_uid = earlier.claim_uid.take();
        let deleting = std::mem::take(&mut earlier.claim_deleting);
        let (absent_since, owner) = (earlier.unusual.absent_since_wall_ms, earlier.owner.clone());
        let mut predecessors = earlier.unusual.change(|unusual| std::mem::take(&mut unusual.predecessors));
        for predecessor in &predecessors {
            if let Some(predecessor) = self.allocations.get_mut(predecessor) {
                predecessor.unusual.change(|unusual| unusual.successor = Some(to));
            }
        }
        predecessors.push(from);
        let absent_since = absent_since.filter(|_| !self.allocations.get(&to).is_some_and(|a| self.is_there(&a.pod)));
        if let Some(allocation) = self.allocations.get_mut(&to) {
            allocation.claim_uid = claim_uid;
            allocation.claim_deleting = deleting;
            allocation.published = if shown { Published::Unknown } else { Published::Nothing };
            allocation.unusual.change(|unusual| {
                unusual.absent_since_wall_ms = absent_since;
                unusual.predecessors = predecessors;
            });
            allocation.owner = allocation.owner.take().or(owner);
            allocation.relocated = true;
        }
        self.refresh_allocation(from);
    }

    /// What a claim says of earlier allocations of its name: their entries may still exist.
    pub(super) fn recover_releasing(&mut self, to: AllocationId, releasing: &[seen::Releasing]) {
        for group in releasing {
            let id = AllocationId::from(group.allocation);
            let free = |(eip, protocol, port)| !self.owners.contains_key(&(eip, protocol, port));
            let new = |generation: &(u64, u64)| !self.by_generation.contains_key(&Generation::from(*generation));
            let items = group.items.iter().map(|item| self.new_item(item, super::allocations::Origin::Claimed));
            let Some(items) = items.collect::<Option<Vec<_>>>() else { continue };
            let possible = !self.allocations.contains_key(&id)
                && items.iter().all(|item| free((group.eip, item.want.protocol, item.external)))
                && group.items.iter().all(|item| new(&item.generation));
            let Some(successor) = self.allocations.get(&to).filter(|_| possible) else { continue };
            let mut unusual = successor.unusual.clone();
            unusual.change(|unusual| {
                unusual.successor = Some(to);
                (unusual.predecessors, unusual.adopted) = (Vec::new(), Vec::new());
                (unusual.heals, unusual.contest_ms) = (Vec::new(), None);
            });
            let allocation = Allocation {
                pod: group.pod.as_str().into(),
                gateway: group.gateway.as_str().into(),
                table: group.table.as_str().into(),
                eip: group.eip,
                ip: group.ip,
                items,
                phase: Phase::Releasing { since: self.seq, reason: ReleaseReason::Moved },
                claim: Claim::Absent,
                claim_uid: None,
                published: Published::Nothing,
                lacks: 0,
                moved: true,
                unusual,
                kept: false,
                edited: false,
                held: Held::default(),
                hashed: [0; 4],
                ..successor.clone()
            };
            if self.insert_allocation(id, allocation).is_ok() {
                if let Some(successor) = self.allocations.get_mut(&to) {
                    successor.unusual.change(|unusual| unusual.predecessors.push(id));
                }
                self.adopt_strays(id);
                self.refresh_allocation(id);
            }
        }
    }

    /// Whether an allocation that only goes has gone.
    pub(super) fn is_concluded(&self, id: AllocationId) -> bool {
        self.allocations.get(&id).is_some_and(|allocation| allocation.is_succeeded() && allocation.is_over())
    }

    /// An allocation ended: the one that has its name says so in its claim.
    pub(super) fn tell_successor(&mut self, id: AllocationId, successor: AllocationId) {
        let seq = self.seq;
        if let Some(allocation) = self.allocations.get_mut(&successor) {
            allocation.unusual.change(|unusual| unusual.predecessors.retain(|predecessor| *predecessor != id));
            allocation.claim_revision = seq;
        }
        self.refresh_allocation(successor);
        self.worklist.insert(Subject::Allocation(successor));
    }

    /// Earlier allocations of an allocation's name whose entries may still exist.
    pub fn predecessors(&self, id: AllocationId) -> impl Iterator<Item = (AllocationId, &Allocation)> {
        let predecessors = self.allocations.get(&id).map(|allocation| allocation.unusual.predecessors.as_slice());
        predecessors.unwrap_or_default().iter().filter_map(|id| Some((*id, self.allocations.get(id)?)))
    }

    /// The reservation of a name, if that is how its allocation stands.
    pub(crate) fn reservation(&self, key: &PodKey) -> Option<(AllocationId, &Allocation)> {
        let id = self.by_name.get(key)?;
        let allocation = self.allocations.get(id)?;
        matches!(allocation.phase, Phase::Reserved { .. }).then_some((*id, allocation))
    }

    /// Sets the moment at which a reservation's time is looked at. Only a bare pod's has one.
    pub(super) fn arm_retention(&mut self, id: AllocationId) {
        let retention = self.settings.as_ref().and_then(|settings| settings.fixed_retention_ms);
        let (machine_ms, wall_ms) = (self.machine_ms, self.wall_ms);
        let Some(allocation) = self.allocations.get_mut(&id) else { return };
        if let Some(due) = allocation.unusual.change(|unusual| unusual.retention_ms.take()) {
            self.timers.remove(&(due, Timer::Retention(id)));
        }
        let ends = allocation.owner.is_none() && !allocation.kept;
        let since = allocation.unusual.absent_since_wall_ms.filter(|_| ends);
        let (Some(retention), Some(since), Phase::Reserved { .. }) = (retention, since, allocation.phase) else {
            return;
        };
        let over = since.saturating_add_unsigned(retention);
        let left = u64::try_from(over.saturating_sub(wall_ms)).unwrap_or(0);
        let due = machine_ms.saturating_add(left);
        allocation.unusual.change(|unusual| unusual.retention_ms = Some(due));
        self.timers.insert((due, Timer::Retention(id)));
    }

    pub(super) fn retention_ended(&mut self, id: AllocationId) {
        let retention = self.settings.as_ref().and_then(|settings| settings.fixed_retention_ms);
        let wall_ms = self.wall_ms;
        let Some(allocation) = self.allocations.get_mut(&id) else { return };
        if let Some(due) = allocation.unusual.change(|unusual| unusual.retention_ms.take()) {
            self.timers.remove(&(due, Timer::Retention(id)));
        }
        let over = |(since, retention): (i64, u64)| since.saturating_add_unsigned(retention) <= wall_ms;
        if allocation.unusual.absent_since_wall_ms.zip(retention).is_some_and(over) {
            allocation.expired = true;
            self.worklist.insert(Subject::Allocation(id));
        } else {
            // Machine time and wall time went apart: the wall's counts.
            self.arm_retention(id);
        }
    }

    /// It is no reservation any more.
    pub(super) fn end_reservation(&mut self, id: AllocationId) {
        self.reserved.remove(&id);
        if let Some(due) = self
            .allocations
            .get_mut(&id)
            .and_then(|allocation| allocation.unusual.change(|unusual| unusual.retention_ms.take()))
        {
            self.timers.remove(&(due, Timer::Retention(id)));
        }
    }

    /// The pod has that allocation no more.
    fn stand_open(&mut self, uid: &PodUid, id: AllocationId) {
        if let Some(pod) = self.pods.get_mut(uid)
            && pod.standing == Standing::Allocated(id)
        {
            pod.standing = Standing::Open;
            self.reconsider_pod(uid);
        }
    }

    /// The pod has that allocation, and waits no more.
    pub(super) fn stand_allocated(&mut self, uid: &PodUid, id: AllocationId) {
        let Some(pod) = self.pods.get_mut(uid) else { return };
        if let (Standing::Waiting { queue: Some(table), .. }, Some(arrival)) = (&pod.standing, pod.arrival())
            && let Some(table) = self.tables.get_mut(table)
        {
            table.queue.remove(&arrival);
        }
        pod.standing = Standing::Allocated(id);
        let ip = pod.ip;
        self.undecided.remove(uid);
        self.refresh_pod(uid);
        if let Some(ip) = ip {
            self.wake_remnants_to(ip);
        }
    }
}

impl Controller {
    /// From its four parts: API version, kind, name, UID.
    pub(crate) fn of(parts: &(String, String, String, String)) -> Self {
        let (api_version, kind, name, uid) = parts.clone();
        Self { api_version, kind, name, uid }
    }
}
