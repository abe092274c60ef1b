//! A state as a stream of base events, from which [`super::Restoring`] makes the same state again.
//!
//! Everything that cannot be derived is in the stream; what is derived from it — indices, bitmaps, timers, the digest — is
//! not. The stream is made lazily, and each event fits a record, as what it says came in with records of that size.

use crate::machine::at::At;
use crate::machine::demand::{Demand, HaltReason, Note};
use crate::machine::event::kept::{
    AllocationKept, ClaimKept, DemandKept, EipKept, EntryKept, FrameKept, IntentKept, ItemKept, ItemsKept, Kept,
    NoteKept, OwnerKept, PodKept, RestsKept, StandingKept, StrayKept, TableKept, WantedKept, WorkKept,
};
use crate::machine::event::{Event, Record, control, seen};
use crate::machine::identity::{AllocationId, EntryId, GatewayId, PodKey, PodUid, TableId};
use crate::machine::intent::Intent;
use crate::machine::state::{
    Address, Allocation, Claim, Controller, Entry, Gateway, Item, Listed, Phase, Pod, PoolEntry, PortBreak, Published,
    Settings, Standing, State, StrangeClaim, Stray, Subject, Table, Timer,
};

/// Items in one record: with two ids of 64 characters each some 3 KiB.
const ITEMS_AT_ONCE: usize = 16;

/// Resting ports in one record: at most 20 bytes each.
const RESTS_AT_ONCE: usize = 128;

impl State {
    /// The state as records of a snapshot, numbered from 1.
    pub fn snapshot(&self) -> impl Iterator<Item = Record> {
        let (term, machine_ms, wall_ms) = (self.term, self.machine_ms, self.wall_ms);
        (1..).zip(self.base_events()).map(move |(seq, event)| Record { seq, term, machine_ms, wall_ms, event })
    }

    fn base_events(&self) -> impl Iterator<Item = Event> {
        let begun = Event::SnapshotBegun(control::SnapshotBegun { through: self.seq });
        let ended = control::SnapshotEnded { through: self.seq, digest: self.digest() };
        [begun, self.frame_kept()]
            .into_iter()
            .chain(self.configuration_kept())
            .chain(self.network_kept())
            .chain(self.tables.scan().map(|(id, table)| table_kept(id, table)))
            .chain(self.pods.scan().map(|(uid, pod)| self.pod_kept(uid, pod)))
            .chain(self.allocations.scan().flat_map(|(id, allocation)| self.allocation_kept(*id, allocation)))
            .chain(self.strays_kept())
            .chain(self.rests_kept())
            .chain(self.claims.scan().flat_map(|(key, claim)| self.claim_kept(key, claim)))
            .chain(self.intents_kept())
            .chain(self.work_kept())
            .chain(std::iter::once(Event::SnapshotEnded(ended)))
    }

    /// What may have to be decided, without what is gone: a history that is only folded leaves the names of all that it
    /// ever touched.
    fn work_kept(&self) -> impl Iterator<Item = Event> {
        let there = self.worklist.iter().filter(|subject| self.has_subject(subject));
        there.map(|subject| Event::Kept(Kept::Work(work_kept(subject))))
    }

    fn has_subject(&self, subject: &Subject) -> bool {
        match subject {
            Subject::Claim(key) => self.claims.peek(key).is_some(),
            Subject::Allocation(id) => self.allocations.peek(id).is_some(),
            Subject::Stray(table, entry) => {
                self.tables.peek(table).is_some_and(|table| table.entries.peek(entry).is_some())
            }
            Subject::Queue(table) => self.tables.peek(table).is_some(),
            Subject::Pod(_, uid) => self.pods.peek(uid).is_some(),
        }
    }

    /// Everything in words but what may have to be decided: the same for two states that came about in different ways, one
    /// by deciding and one by folding.
    #[must_use]
    pub fn image(&self) -> String {
        format!("{:?}", Self { worklist: std::collections::BTreeSet::new(), ..self.clone() })
    }

    fn frame_kept(&self) -> Event {
        Event::Kept(Kept::Frame(FrameKept {
            term_seen: self.term_seen,
            cluster_read: self.cluster_read,
            rebuilding: self.rebuilding,
            forgetful: self.forgetful,
            short: self.short,
            halted: self.halted.map(HaltReason::number),
            allocations_decided: self.allocations_decided,
            generations_decided: self.generations_decided,
        }))
    }

    /// Pools and the settings that commit them, then the pools that wait for theirs.
    fn configuration_kept(&self) -> impl Iterator<Item = Event> {
        let pools = |pools: &[PoolEntry]| (0..).zip(pools).map(|(index, pool)| pool_kept(index, pool)).collect();
        let committed: Vec<Event> = pools(&self.pools);
        let announced: Vec<Event> = pools(&self.pools_announced);
        let settings = self.settings.as_ref().map(|settings| settings_kept(settings, self.pools.len()));
        committed.into_iter().chain(settings).chain(announced)
    }

    /// Gateways, EIPs, routes and addresses.
    fn network_kept(&self) -> impl Iterator<Item = Event> {
        let gateways = self.gateways.scan().map(|(id, gateway)| gateway_kept(id, gateway));
        let known = self.gateway_by_eip.scan().map(|(eip, _)| *eip);
        let suspected = self.suspects.scan().map(|(eip, _)| *eip);
        let eips: std::collections::BTreeSet<_> = known.chain(suspected).collect();
        let eips = eips.into_iter().map(|eip| {
            let gateway = self.gateway_by_eip.peek(&eip).map(|gateway| gateway.as_str().to_owned());
            let suspect = self.suspects.peek(&eip).map(|s| (s.gateway.as_str().to_owned(), s.since_ms, s.lost));
            Event::Kept(Kept::Eip(EipKept { eip, gateway, suspect }))
        });
        let routes = self.routes.scan().map(|(vswitch, gateways)| {
            let gateways = gateways.iter().map(|gateway| gateway.as_str().to_owned()).collect();
            Event::RouteSeen(seen::RouteSeen { vswitch: vswitch.as_str().to_owned(), gateways })
        });
        let addresses = self.addresses.scan().map(|(ip, address)| match address {
            Address::Known(place) => Event::AddressSeen(seen::AddressSeen {
                ip: *ip,
                eni: place.eni.as_str().to_owned(),
                vswitch: place.vswitch.as_str().to_owned(),
                zone: place.zone.as_str().to_owned(),
            }),
            Address::Missing => Event::AddressMissing(seen::AddressMissing { ip: *ip }),
        });
        gateways.chain(eips).chain(routes).chain(addresses)
    }

    fn pod_kept(&self, uid: &PodUid, pod: &Pod) -> Event {
        let due = pod.grace_ends_ms().map(|due| (due, Timer::Grace(uid.clone())));
        Event::Kept(Kept::Pod(Box::new(PodKept {
            namespace: pod.key.namespace().to_owned(),
            name: pod.key.name().to_owned(),
            uid: uid.as_str().to_owned(),
            seen: pod.seen,
            seen_at: pod.seen_at,
            ip: pod.ip,
            demand: demand_kept(&pod.demand),
            barred: pod.barred.map(crate::machine::demand::RefusalReason::number),
            ended: pod.ended.map(crate::machine::demand::ReleaseReason::number),
            grace_ends_ms: pod.grace_ends_ms(),
            grace_armed: due.is_some_and(|due| self.timers.contains(&due)),
            gate: pod.gate,
            owner: pod.owner.as_deref().map(owner_kept),
            arrival: pod.arrival(),
            standing: standing_kept(&pod.standing),
            noted: note_kept(pod.noted),
            noted_unsure: pod.noted_unsure,
            marking: self.marking.contains(uid),
            undecided: self.undecided.contains(uid),
        })))
    }

    fn allocation_kept(&self, id: AllocationId, allocation: &Allocation) -> impl Iterator<Item = Event> {
        let a = allocation;
        let kept = AllocationKept {
            allocation: id.into(),
            pod: a.pod.as_str().to_owned(),
            namespace: a.key.namespace().to_owned(),
            name: a.key.name().to_owned(),
            gateway: a.gateway.as_str().to_owned(),
            table: a.table.as_str().to_owned(),
            eip: a.eip,
            ip: a.ip,
            place: (
                a.place.eni.as_str().to_owned(),
                a.place.vswitch.as_str().to_owned(),
                a.place.zone.as_str().to_owned(),
            ),
            fixed: a.fixed,
            phase: phase_kept(a.phase),
            claim: match a.claim {
                Claim::Absent => (0, 0),
                Claim::Written(content) => (1, content),
                Claim::Refused => (2, 0),
            },
            claimed: a.claimed.map(At::number),
            claim_uid: a.claim_uid.as_ref().map(|(uid, since)| (uid.as_ref().to_owned(), *since)),
            claim_deleting: a.claim_deleting,
            revision: a.revision,
            claim_revision: a.claim_revision,
            published: match a.published {
                Published::Nothing => (0, 0),
                Published::Content(content) => (1, content),
                Published::Unknown => (2, 0),
            },
            lacks: a.lacks,
            established: a.established,
            probe: a.probe,
            retries: a.unusual.retries,
            retry_ms: a.unusual.retry_ms,
            owner: a.owner.as_deref().map(owner_kept),
            absent_since_wall_ms: a.unusual.absent_since_wall_ms,
            retention_ms: a.unusual.retention_ms,
            expired: a.expired,
            moved: a.moved,
            relocated: a.relocated,
            successor: a.unusual.successor.map(Into::into),
            predecessors: a.unusual.predecessors.iter().copied().map(Into::into).collect(),
            kept: a.kept,
            edited: a.edited,
            heals: a.unusual.heals.clone(),
            contest_ms: a.unusual.contest_ms,
            named: self.by_name.peek(&a.key) == Some(&id),
            among: (
                self.unsettled.contains(&id),
                self.lacking.contains(&id),
                self.reserved.contains(&id),
                self.homeless.contains(&id),
            ),
        };
        let table = self.tables.peek(&a.table);
        let items = a.items.chunks(ITEMS_AT_ONCE).map(move |items| {
            let items = items.iter().map(|item| item_kept((id, a), item, table)).collect();
            Event::Kept(Kept::Items(ItemsKept { allocation: id.into(), items }))
        });
        std::iter::once(Event::Kept(Kept::Allocation(Box::new(kept)))).chain(items)
    }

    fn strays(&self) -> impl Iterator<Item = (&TableId, &EntryId, &Stray)> {
        self.tables.scan().flat_map(|(table, found)| {
            found.entries.scan().filter_map(move |(entry, listed)| match listed {
                Listed::Stray(stray) => Some((table, entry, stray.as_ref())),
                Listed::Ours(..) => None,
            })
        })
    }

    fn strays_kept(&self) -> impl Iterator<Item = Event> {
        self.strays().flat_map(|(table, entry, stray)| {
            let kept = StrayKept {
                table: table.as_str().to_owned(),
                entry: entry.as_str().to_owned(),
                marked: stray.marked,
                stale: stray.stale,
                deleted: stray.deleted,
                deleted_ms: stray.deleted_ms,
                remnant: self.remnants.contains(&(table.clone(), entry.clone())),
            };
            [Event::EntrySeen(stray.observation(table, entry)), Event::Kept(Kept::Stray(kept))]
        })
    }

    /// The claim as it was observed, as far as it still says something, and what it is to us.
    fn claim_kept(&self, key: &PodKey, strange: &StrangeClaim) -> [Event; 2] {
        let (namespace, name) = (key.namespace().to_owned(), key.name().to_owned());
        let manager = if strange.written_by_us { seen::MANAGER_NATGW } else { seen::MANAGER_NOT_TOLD };
        let observed = seen::ClaimSeen {
            namespace: namespace.clone(),
            name: name.clone(),
            uid: strange.uid.as_ref().to_owned(),
            deleting: strange.deleting,
            claim: strange.claim.clone(),
            published: strange.published,
            owner: strange.owner.as_deref().map(owner_kept),
            manager,
            shown: strange.shown.clone(),
            ..seen::ClaimSeen::default()
        };
        let kept = ClaimKept {
            namespace,
            name,
            since: strange.since,
            ghost: strange.ghost,
            original: self.originals.contains(key),
            intruder: self.intruders.contains(key),
        };
        [Event::ClaimSeen(observed), Event::Kept(Kept::Claim(kept))]
    }

    fn rests_kept(&self) -> impl Iterator<Item = Event> {
        let mut rests = self.holds.scan().filter_map(|((eip, protocol, port), hold)| {
            hold.resting_ms.map(|due| (*eip, protocol.number(), *port, due))
        });
        std::iter::from_fn(move || {
            let rests: Vec<_> = rests.by_ref().take(RESTS_AT_ONCE).collect();
            (!rests.is_empty()).then_some(Event::Kept(Kept::Rests(RestsKept { rests })))
        })
    }

    /// What is wanted, in the order in which each subject has it.
    fn intents_kept(&self) -> impl Iterator<Item = Event> {
        let pods = self.pods.scan().flat_map(|(_, pod)| pod.held.iter()).map(|intent| (None, intent));
        let allocations =
            self.allocations.scan().flat_map(|(id, a)| a.held.iter().map(move |intent| (Some(*id), intent)));
        let tables = self.tables.scan().flat_map(|(_, table)| table.held.iter()).map(|intent| (None, intent));
        let strays = self.strays().flat_map(|(_, _, stray)| stray.held.iter()).map(|intent| (None, intent));
        let claims = self.claims.scan().flat_map(|(_, claim)| claim.held.iter()).map(|intent| (None, intent));
        pods.chain(allocations).chain(tables).chain(strays).chain(claims).map(|(of, intent)| {
            let rests_on = self.agenda.rests_on(intent).unwrap_or(self.seq);
            Event::Kept(Kept::Intent(IntentKept { rests_on, wanted: wanted_kept(intent, of) }))
        })
    }
}

fn pool_kept(index: u16, pool: &PoolEntry) -> Event {
    Event::PoolConfigured(control::PoolConfigured {
        index,
        gateway: pool.gateway.as_str().to_owned(),
        zone: pool.zone.as_str().to_owned(),
        first: pool.range.first,
        last: pool.range.last,
        eips: pool.eips.clone(),
        excluded: pool.range.excluded.clone(),
    })
}

fn settings_kept(settings: &Settings, pools: usize) -> Event {
    Event::Configured(control::Configured {
        cluster_uid: settings.cluster_uid.as_ref().to_owned(),
        pools: u16::try_from(pools).unwrap_or(u16::MAX),
        cooldown_ms: settings.cooldown_ms,
        fixed_retention_ms: settings.fixed_retention_ms,
        resync_ms: settings.resync_ms,
        repair: settings.repair,
        adopt: settings.adopt,
        port_break: match settings.port_break {
            PortBreak::Auto => 0,
            PortBreak::Always => 1,
            PortBreak::Never => 2,
        },
        stateful_kinds: settings.stateful_kinds.iter().map(|kind| kind.as_ref().to_owned()).collect(),
    })
}

fn gateway_kept(id: &GatewayId, gateway: &Gateway) -> Event {
    Event::GatewaySeen(seen::GatewaySeen {
        gateway: id.as_str().to_owned(),
        table: gateway.table.as_ref().map(|table| table.as_str().to_owned()),
        zone: gateway.zone.as_ref().map(|zone| zone.as_str().to_owned()),
        available: gateway.available,
        eips: gateway.bound.clone(),
    })
}

fn table_kept(id: &TableId, table: &Table) -> Event {
    Event::Kept(Kept::Table(TableKept {
        table: id.as_str().to_owned(),
        gateway: table.gateway.as_ref().map(|gateway| gateway.as_str().to_owned()),
        open: table.open,
        committed: table.committed,
        limit: table.limit,
        probing: table.probing,
        probe_ms: table.probe_ms,
        rested: table.rested,
        rests_ms: table.rests_ms,
        watch_until_ms: table.watch_until_ms,
        limit_since: table.limit_since,
        awaited_at: table.awaited_at,
    }))
}

fn demand_kept(demand: &Demand) -> DemandKept {
    match demand {
        Demand::Off => DemandKept::Off,
        Demand::Kept => DemandKept::Kept,
        Demand::On { wants, fixed } => {
            DemandKept::On(wants.iter().map(|want| (want.internal, want.protocol.number())).collect(), *fixed)
        }
        Demand::Refused(refusal) => DemandKept::Refused(refusal.reason.number(), refusal.detail.as_ref().to_owned()),
    }
}

fn standing_kept(standing: &Standing) -> StandingKept {
    match standing {
        Standing::Open => StandingKept::Open,
        Standing::Waiting { reason, queue } => {
            StandingKept::Waiting(reason.number(), queue.as_ref().map(|table| table.as_str().to_owned()))
        }
        Standing::Refused(reason) => StandingKept::Refused(reason.number()),
        Standing::Allocated(id) => StandingKept::Allocated((*id).into()),
    }
}

fn phase_kept(phase: Phase) -> (u8, u64, u8) {
    match phase {
        Phase::Live => (1, 0, 0),
        Phase::Rebinding { since } => (2, since, 0),
        Phase::Releasing { since, reason } => (3, since, reason.number()),
        Phase::Reserved { since } => (4, since, 0),
    }
}

fn item_kept((id, allocation): (AllocationId, &Allocation), item: &Item, table: Option<&Table>) -> ItemKept {
    let of_it = (id, item.generation);
    let adopted = allocation.unusual.adopted.iter().find(|(generation, _)| *generation == item.generation);
    ItemKept {
        internal: item.want.internal,
        protocol: item.want.protocol.number(),
        external: item.external,
        generation: item.generation.into(),
        port_break: item.port_break,
        leaving: item.leaving.map(At::number),
        touched: item.touched,
        awaited: table.is_some_and(|table| table.awaited.contains(&of_it)),
        awaited_whole: table.is_some_and(|table| table.awaited_whole.contains(&of_it)),
        adopted: adopted.map(|(_, entry)| entry.as_str().to_owned()),
        entry: match &item.entry {
            Entry::Planned => EntryKept::Planned,
            Entry::Unknown { since, looked, missed_ms } => {
                EntryKept::Unknown(*since, *looked, missed_ms.map(At::number))
            }
            Entry::Refused { since, class, looked } => EntryKept::Refused(*since, *class as u8, *looked),
            Entry::Present { id, since, available, verified, missed_ms } => {
                EntryKept::Present(id.as_str().to_owned(), *since, *available, *verified, missed_ms.map(At::number))
            }
            Entry::Deleting { id, since, since_ms, acknowledged, missed_ms } => {
                EntryKept::Deleting(id.as_str().to_owned(), *since, *since_ms, *acknowledged, missed_ms.map(At::number))
            }
            Entry::Gone => EntryKept::Gone,
        },
    }
}

fn owner_kept(owner: &Controller) -> OwnerKept {
    (owner.api_version.clone(), owner.kind.clone(), owner.name.clone(), owner.uid.clone())
}

fn note_kept(note: Note) -> NoteKept {
    (note.phase.number(), note.reason, note.allocation.into(), note.content)
}

fn wanted_kept(intent: &Intent, of: Option<AllocationId>) -> WantedKept {
    match intent {
        Intent::Locate { ip, pod } => WantedKept::Locate(*ip, pod.as_str().to_owned()),
        Intent::WriteClaim { allocation, revision } => WantedKept::WriteClaim((*allocation).into(), *revision),
        Intent::Bind { table, allocation, generation } => {
            WantedKept::Bind(table.as_str().to_owned(), (*allocation).into(), (*generation).into())
        }
        Intent::Forgo { allocation, generation } => WantedKept::Forgo((*allocation).into(), (*generation).into()),
        Intent::Unbind { table, entry } => {
            WantedKept::Unbind(table.as_str().to_owned(), entry.as_str().to_owned(), of.map(Into::into))
        }
        Intent::Observe { table } => WantedKept::Observe(table.as_str().to_owned()),
        Intent::Publish { allocation, revision } => WantedKept::Publish((*allocation).into(), *revision),
        Intent::Withdraw { allocation } => WantedKept::Withdraw((*allocation).into()),
        Intent::ReleaseClaim { allocation } => WantedKept::ReleaseClaim((*allocation).into()),
        Intent::DropClaim { key, uid } => {
            WantedKept::DropClaim(key.namespace().to_owned(), key.name().to_owned(), uid.as_ref().to_owned())
        }
        Intent::MarkPod { pod, note } => WantedKept::MarkPod(pod.as_str().to_owned(), note_kept(*note)),
    }
}

fn work_kept(subject: &Subject) -> WorkKept {
    match subject {
        Subject::Claim(key) => WorkKept::Claim(key.namespace().to_owned(), key.name().to_owned()),
        Subject::Allocation(id) => WorkKept::Allocation((*id).into()),
        Subject::Stray(table, entry) => WorkKept::Stray(table.as_str().to_owned(), entry.as_str().to_owned()),
        Subject::Queue(table) => WorkKept::Queue(table.as_str().to_owned()),
        Subject::Pod(arrival, uid) => WorkKept::Pod(*arrival, uid.as_str().to_owned()),
    }
}
