//! Intents to effects: which may start now, and with which parameters.

use crate::controller::step::{Controller, EffectId, Now, Output};
use crate::machine::demand::{Note, Phase, WaitReason};
use crate::machine::event::{Event, outcome};
use crate::machine::identity::{AllocationId, Generation, Mark, PodUid, TableId, client_token};
use crate::machine::intent::Intent;
use crate::machine::state::{Allocation, Entry, Item};
use crate::ports::cloud::{CreateEntry, DeleteEntry};
use crate::ports::cluster::{Adopted, Leaving, MappedPort, Mapping, PodMark, Publication};
use crate::ports::effect::Effect;

/// Writes to the API server under way at once: enough to hide its latency, few enough for its flow control.
const CLUSTER_WRITES_MAX: usize = 16;

impl Controller {
    /// An intent whose event is durable may start as soon as nothing else stands in its way.
    pub(super) fn make_ready(&mut self, now: Now, rests_on: u64, intent: Intent) {
        let machine_ms = self.machine(now);
        match intent {
            // It may have gone while its event was made durable.
            Intent::Locate { ip, .. } if !self.state.is_sought(ip) => {}
            Intent::Locate { ip, .. } => self.addresses.ask(ip, machine_ms),
            Intent::Observe { .. } => {}
            // Whether the table takes it is told when all that were under way beside it have ended.
            Intent::Bind { ref table, generation, .. } if self.is_refused_full(table, generation) => {}
            Intent::Bind { .. } | Intent::Unbind { .. } => {
                self.lanes.push(intent).unwrap_or_default();
            }
            Intent::Forgo { .. }
            | Intent::WriteClaim { .. }
            | Intent::Publish { .. }
            | Intent::Withdraw { .. }
            | Intent::ReleaseClaim { .. }
            | Intent::DropClaim { .. }
            | Intent::MarkPod { .. } => {
                self.ready.insert((rests_on, intent));
            }
        }
    }

    fn is_refused_full(&self, table: &TableId, generation: Generation) -> bool {
        let refused = self.refused_full.get(table);
        refused.is_some_and(|refused| refused.iter().any(|body| Generation::from(body.generation) == generation))
    }

    /// An intent is no longer wanted. One that is under way ends by itself.
    pub(super) fn forget(&mut self, intent: &Intent) {
        self.again.forget(intent);
        match intent {
            Intent::Locate { ip, .. } if self.state.is_sought(*ip) => {}
            Intent::Locate { ip, .. } => self.addresses.forget(*ip),
            Intent::Bind { table, .. } | Intent::Unbind { table, .. } => self.lanes.forget(table, intent),
            Intent::Observe { .. }
            | Intent::Forgo { .. }
            | Intent::WriteClaim { .. }
            | Intent::Publish { .. }
            | Intent::Withdraw { .. }
            | Intent::ReleaseClaim { .. }
            | Intent::DropClaim { .. }
            | Intent::MarkPod { .. } => {}
        }
    }

    pub(super) fn start_what_is_due(&mut self, now: Now) {
        let machine_ms = self.machine(now);
        for intent in self.again.take_due(machine_ms) {
            if let Some(rests_on) = self.state.agenda().rests_on(&intent)
                && rests_on <= self.durable.seq
            {
                self.make_ready(now, rests_on, intent);
            }
        }
        let may_start = self.lease.may_start_until_ms().is_some_and(|until| now.monotonic_ms <= until);
        if !may_start || !self.state.is_cluster_read() {
            return;
        }
        self.start_writes(now);
        self.start_calls(machine_ms);
    }

    /// Writes to the cluster, in order of the events on which they rest; one at a time for each allocation and each pod.
    fn start_writes(&mut self, now: Now) {
        while self.writes_in_flight < CLUSTER_WRITES_MAX
            && let Some((rests_on, intent)) = self.ready.pop_first()
        {
            if self.state.agenda().rests_on(&intent).is_none_or(|rests_on| rests_on > self.durable.seq) {
                continue;
            }
            if self.is_blocked(&intent) {
                self.blocked.push((rests_on, intent));
                continue;
            }
            match self.effect_of(&intent) {
                Some(effect) => {
                    self.writes_in_flight += 1;
                    self.start(intent, effect);
                }
                None => self.forgo(now, &intent),
            }
        }
    }

    /// Calls to forward tables, lane by lane.
    fn start_calls(&mut self, machine_ms: u64) {
        for table in self.lanes.minding() {
            self.lanes.pending(&table, self.state.pending(&table));
        }
        let may = |(table, _): &(TableId, Vec<Intent>)| {
            self.state.is_open(table) && !self.barrier.wants_quiet(&self.state, table)
        };
        let lanes: Vec<_> = self.lanes.next(machine_ms).filter(may).collect();
        for (table, candidates) in lanes {
            for intent in candidates {
                if self.state.agenda().rests_on(&intent).is_none_or(|rests_on| rests_on > self.durable.seq) {
                    self.lanes.forget(&table, &intent);
                    continue;
                }
                if self.is_blocked(&intent) || !self.lanes.has_budget(machine_ms, &intent) {
                    continue;
                }
                let Some(effect) = self.effect_of(&intent) else { continue };
                self.lanes.start(&table, &intent);
                self.note_write(&table, &intent);
                self.start(intent, effect);
                break;
            }
        }
    }

    fn start(&mut self, intent: Intent, effect: Effect) {
        let id = EffectId(self.next_id());
        self.occupy(&intent);
        self.flights.insert(id, intent);
        self.outbox.push_back(Output::Start(id, effect));
    }

    /// A creation that was planned and not sent is confirmed as such once no call for it is under way.
    fn forgo(&mut self, now: Now, intent: &Intent) {
        if let Intent::Forgo { allocation, generation } = intent {
            let (allocation, generation) = ((*allocation).into(), (*generation).into());
            self.emit(now, Event::EntryNeverSent(outcome::EntryNeverSent { allocation, generation }));
        }
    }

    /// Whether something under way must end first.
    fn is_blocked(&self, intent: &Intent) -> bool {
        let pod_of = |id: &AllocationId| self.state.allocation(*id).map(Allocation::pod);
        let pod_busy = |id: &AllocationId| pod_of(id).is_some_and(|pod| self.busy_pods.contains(pod));
        match intent {
            Intent::WriteClaim { allocation, .. } | Intent::Withdraw { allocation } => self.is_written(allocation),
            Intent::Publish { allocation, .. } => self.is_written(allocation) || !self.is_table_read(allocation),
            Intent::ReleaseClaim { allocation } => {
                self.busy.contains_key(allocation) || self.is_written(allocation) || pod_busy(allocation)
            }
            Intent::Forgo { generation, .. } => self
                .flights
                .values()
                .any(|other| matches!(other, Intent::Bind { generation: g, .. } if g == generation)),
            Intent::Unbind { table, entry } => {
                let owner = self.state.owner_of(table, entry);
                owner.is_some_and(|owner| self.is_written(&owner) || pod_busy(&owner))
            }
            Intent::MarkPod { pod, .. } => self.busy_pods.contains(pod),
            Intent::Bind { .. } | Intent::DropClaim { .. } | Intent::Locate { .. } | Intent::Observe { .. } => false,
        }
    }

    /// Whether the allocation's table has been read in this term: what an earlier one saw there may be gone, and is not shown.
    fn is_table_read(&self, id: &AllocationId) -> bool {
        self.state.allocation(*id).is_some_and(|allocation| self.state.is_open(allocation.table()))
    }

    /// Whether a write to an allocation's PodDNAT is under way, its own or that of another allocation of the name.
    fn is_written(&self, id: &AllocationId) -> bool {
        let key = self.state.allocation(*id).map(Allocation::key);
        self.writing.contains_key(id) || key.is_some_and(|key| self.writing.values().any(|other| other == key))
    }

    fn occupy(&mut self, intent: &Intent) {
        if let Some(allocation) = allocation_of(intent) {
            *self.busy.entry(allocation).or_default() += 1;
            if let (false, Some(known)) = (matches!(intent, Intent::Bind { .. }), self.state.allocation(allocation)) {
                self.writing.insert(allocation, known.key().clone());
            }
        }
        if let Intent::MarkPod { pod, .. } = intent {
            self.busy_pods.insert(pod.clone());
        }
    }

    /// What was occupied is free again, and what waited for it may start.
    pub(super) fn release(&mut self, intent: &Intent) {
        if let Some(allocation) = allocation_of(intent) {
            if let Some(count) = self.busy.get_mut(&allocation) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    self.busy.remove(&allocation);
                }
            }
            if !matches!(intent, Intent::Bind { .. }) {
                self.writing.remove(&allocation);
            }
        }
        if let Intent::MarkPod { pod, .. } = intent {
            self.busy_pods.remove(pod);
        }
        if !matches!(intent, Intent::Bind { .. } | Intent::Unbind { .. }) {
            self.writes_in_flight = self.writes_in_flight.saturating_sub(1);
        }
        self.unblock();
    }

    /// What was held back is looked at again.
    pub(super) fn unblock(&mut self) {
        self.ready.extend(std::mem::take(&mut self.blocked));
    }

    /// The effect of an intent with all its parameters; `None` where nothing need be sent.
    fn effect_of(&self, intent: &Intent) -> Option<Effect> {
        match intent {
            Intent::WriteClaim { allocation, .. } => {
                let uid = self.state.allocation(*allocation)?.claim_uid().map(Into::into);
                self.mapping(*allocation).map(|mapping| Effect::WriteClaim(Box::new(mapping), uid))
            }
            Intent::Publish { allocation, .. } => self.publication(*allocation, true),
            Intent::Withdraw { allocation } => self.publication(*allocation, false),
            Intent::ReleaseClaim { allocation } => {
                let known = self.state.allocation(*allocation)?;
                let (key, uid) = (known.key().clone(), known.claim_uid().map(Into::into));
                Some(Effect::ReleaseClaim { key, allocation: *allocation, uid })
            }
            Intent::DropClaim { key, uid } => Some(Effect::DropClaim { key: key.clone(), uid: uid.clone() }),
            Intent::MarkPod { pod, note } => self.pod_mark(pod, *note).map(|mark| Effect::MarkPod(Box::new(mark))),
            Intent::Bind { table, allocation, generation } => self.creation(table, *allocation, *generation),
            Intent::Unbind { table, entry } => {
                let cluster = self.state.settings()?.cluster_uid();
                let token = deletion_token(cluster, table, entry.as_str());
                Some(Effect::Delete(Box::new(DeleteEntry { table: table.clone(), entry: entry.clone(), token })))
            }
            Intent::Forgo { .. } | Intent::Locate { .. } | Intent::Observe { .. } => None,
        }
    }

    fn creation(&self, table: &TableId, id: AllocationId, generation: Generation) -> Option<Effect> {
        let allocation = self.state.allocation(id)?;
        let item = allocation.items().iter().find(|item| item.generation() == generation)?;
        let settings = self.state.settings()?;
        let want = item.want();
        let token =
            client_token(settings.cluster_uid(), allocation.pod(), id, (want.internal, want.protocol), generation);
        Some(Effect::Create(Box::new(CreateEntry {
            table: table.clone(),
            tuple: allocation.tuple(item),
            name: Mark::new(settings.cluster(), allocation.pod(), id, generation).to_string(),
            token,
            port_break: item.port_break(),
        })))
    }

    fn mapping(&self, id: AllocationId) -> Option<Mapping> {
        let allocation = self.state.allocation(id)?;
        let place = allocation.place();
        Some(Mapping {
            key: allocation.key().clone(),
            pod: allocation.pod().clone(),
            allocation: id,
            fixed: allocation.is_fixed(),
            gateway: allocation.gateway().clone(),
            table: allocation.table().clone(),
            eip: allocation.eip(),
            ip: allocation.ip(),
            eni: place.eni().clone(),
            vswitch: place.vswitch().clone(),
            zone: place.zone().clone(),
            items: allocation.items_staying().map(mapped_port).collect(),
            owner: allocation.owner().cloned(),
            absent_since_wall_ms: allocation.absent_since_wall_ms(),
            releasing: self.state.predecessors(id).map(|(id, earlier)| leaving(id, earlier)).collect(),
            adopted: Adopted {
                entries: allocation.adopted_entries().into_iter().map(|entry| entry.cloned()).collect(),
                kept: allocation.is_kept(),
            },
        })
    }

    fn publication(&self, id: AllocationId, publish: bool) -> Option<Effect> {
        let allocation = self.state.allocation(id)?;
        let mapping = if publish {
            let entries = allocation.items_staying().map(|item| match item.entry() {
                Entry::Present { id, .. } => Some(id.clone()),
                Entry::Planned
                | Entry::Unknown { .. }
                | Entry::Refused { .. }
                | Entry::Deleting { .. }
                | Entry::Gone => None,
            });
            Some((self.mapping(id)?, entries.collect::<Option<Vec<_>>>()?))
        } else {
            None
        };
        let reason = if mapping.is_some() { ("Ready", "all entries are in effect") } else { allocation.words() };
        let (key, uid) = (allocation.key().clone(), allocation.claim_uid().map(Into::into));
        Some(Effect::WriteStatus(Box::new(Publication { key, allocation: id, uid, mapping, reason })))
    }

    fn pod_mark(&self, uid: &PodUid, note: Note) -> Option<PodMark> {
        let pod = self.state.pod(uid)?;
        let ready = matches!(note.phase, Phase::Ready | Phase::Kept);
        let allocation = self.state.allocation(note.allocation).filter(|_| ready);
        let (reason, sentence) = note.words();
        let detail = pod.refusal_detail().filter(|detail| note.phase == Phase::Refused && !detail.is_empty());
        let message = detail.map_or_else(|| sentence.to_owned(), |detail| format!("{detail}: {sentence}"));
        Some(PodMark {
            key: pod.key().clone(),
            pod: uid.clone(),
            phase: (note.phase != Phase::Silent && note.phase != Phase::NotRequested).then(|| note.phase.word()),
            reason,
            message,
            address: allocation.map(Allocation::external_address),
            ready: pod.has_gate().then_some(ready || note.phase == Phase::NotRequested),
            warning: matches!(note.phase, Phase::Refused | Phase::Kept)
                || (note.phase == Phase::Ready && note.reason != 0)
                || (note.phase == Phase::Waiting && is_others(note.reason)),
        })
    }
}

/// Whether a pod waits because of what others did: people should know.
fn is_others(reason: u8) -> bool {
    let reason = WaitReason::from_number(reason);
    matches!(reason, Some(WaitReason::OtherController | WaitReason::NotAdopted | WaitReason::ClaimSuperseded))
}

fn mapped_port(item: &Item) -> MappedPort {
    MappedPort {
        internal: item.want().internal,
        external: item.external(),
        protocol: item.want().protocol,
        generation: item.generation(),
        port_break: item.port_break(),
    }
}

/// What an allocation that goes has left, as its successor's claim says it.
fn leaving(allocation: AllocationId, earlier: &Allocation) -> Leaving {
    Leaving {
        allocation,
        pod: earlier.pod().clone(),
        gateway: earlier.gateway().clone(),
        table: earlier.table().clone(),
        eip: earlier.eip(),
        ip: earlier.ip(),
        items: earlier.items().iter().filter(|item| item.may_exist()).map(mapped_port).collect(),
    }
}

fn allocation_of(intent: &Intent) -> Option<AllocationId> {
    match intent {
        Intent::WriteClaim { allocation, .. }
        | Intent::Publish { allocation, .. }
        | Intent::Withdraw { allocation }
        | Intent::ReleaseClaim { allocation }
        | Intent::Bind { allocation, .. } => Some(*allocation),
        Intent::Unbind { .. }
        | Intent::Forgo { .. }
        | Intent::DropClaim { .. }
        | Intent::MarkPod { .. }
        | Intent::Locate { .. }
        | Intent::Observe { .. } => None,
    }
}

/// The token of a deletion: of one entry there is only one, whoever asks for it.
fn deletion_token(cluster: &str, table: &TableId, entry: &str) -> String {
    let nobody = PodUid::from(table.as_str());
    let stamp = crate::machine::identity::Stamp::default();
    let name = PodUid::from(format!("{nobody}/{entry}").as_str());
    client_token(
        cluster,
        &name,
        AllocationId::from(stamp),
        (0, crate::machine::identity::Protocol::Tcp),
        Generation::from(stamp),
    )
}
