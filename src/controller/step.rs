//! One step: an input and a time in, outputs out.
//!
//! Call [`Controller::handle`] with each input, then [`Controller::poll_output`] until it is empty, and
//! [`Controller::handle`] with [`Input::Woke`] no later than [`Controller::poll_timeout`].

mod ended;
mod keep;
mod messages;
mod reading;
mod start;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::controller::barrier::{Barrier, Suspicions};
use crate::controller::departed::Departed;
use crate::controller::keeping::{Keeping, Policy};
use crate::controller::lanes::{Draw, Lanes};
use crate::controller::lease::{self, Lease, Turn};
use crate::controller::pacing::{Addresses, Again};
use crate::controller::relist::Began;
use crate::machine::check::Violation;
use crate::machine::demand::WaitReason;
use crate::machine::event::{Event, Record, codec, control, outcome};
use crate::machine::identity::{AllocationId, PodKey, PodUid, TableId, VSwitchId};
use crate::machine::intent::{Change, Intent};
use crate::machine::state::{Standing, State};
use crate::ports::cluster::LeaseRecord;
use crate::ports::effect::ListRequest;

pub use messages::{Configuration, EffectId, Head, Input, ListId, Now, Output, Seen, Stop};

/// What a controller is from the beginning.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Who it is in the lock.
    pub holder: String,
    /// Its journal.
    pub journal: [u8; 16],
    /// Why history is not continuous, if it is not.
    pub rebased: Option<String>,
    /// The lease's durations.
    pub timing: lease::Timing,
    /// Machine time runs this many times as fast as the clock.
    pub speed: u32,
    /// How the journal is kept while this process leads; none leaves it as it is.
    pub keeping: Option<Policy>,
}

/// Decisions in one step: more means that deciding does not end.
const DECISIONS_PER_STEP_MAX: u32 = 1_000_000;

/// Events between two journaled digests.
const DIGEST_EVERY: u64 = 1_000;

/// Records in one group; the journal takes at most 4,096.
const GROUP_RECORDS_MAX: usize = 1_024;

/// The controller.
pub struct Controller {
    identity: Identity,
    state: State,
    configuration: Option<Box<Configuration>>,
    lease: Lease,
    barrier: Barrier,
    lanes: Lanes,
    again: Again,
    addresses: Addresses,
    keeping: Option<Keeping>,
    /// Machine time at which this process began, and the clock then.
    began: (u64, Option<u64>),
    /// Machine time of the last input.
    told_ms: u64,
    outbox: VecDeque<Output>,
    /// Records that are folded and not yet handed to the journal.
    pending: Vec<Record>,
    /// The group that the journal has, with the clock at which it got it.
    appending: Option<(u64, u64)>,
    durable: Head,
    /// Intents that wait for the event on which they rest, in order of that event.
    resting: BTreeSet<(u64, Intent)>,
    /// Writes to the cluster that may start, in order of the event on which they rest.
    ready: BTreeSet<(u64, Intent)>,
    flights: BTreeMap<EffectId, Intent>,
    busy_pods: BTreeSet<PodUid>,
    /// Writes under way to an allocation's PodDNAT or its pod, and calls to its entries.
    busy: BTreeMap<AllocationId, u32>,
    /// Allocations to whose PodDNAT a write is under way, with its name: two allocations may share it for a while.
    writing: BTreeMap<AllocationId, PodKey>,
    /// What was ready while its object was being written.
    blocked: Vec<(u64, Intent)>,
    lists: BTreeMap<ListId, (ListRequest, Began, Option<Draw>)>,
    vswitches_met: BTreeSet<VSwitchId>,
    /// Calls to each table that is being listed, under way at any time since the listing began.
    writes_since: BTreeMap<TableId, Vec<Intent>>,
    /// Creations that a full table refused while others were under way on it.
    refused_full: BTreeMap<TableId, Vec<outcome::EntryRefused>>,
    suspicions: Suspicions,
    departed: Departed,
    writes_in_flight: usize,
    ids: u64,
    digest_at: u64,
    /// The event that began our term; 0 before.
    begins_at: u64,
    stopped: bool,
}

impl Controller {
    /// A candidate with a replayed state. `durable` is the journal's head.
    #[must_use]
    pub fn new(identity: Identity, mut state: State, durable: Head) -> Self {
        // What is wanted at the end of history counts, not how it came about.
        drop(state.take_agenda_changes());
        let resting = state.agenda().iter().map(|(intent, seq)| (seq, intent.clone())).collect();
        let lease = Lease::new(identity.holder.clone(), identity.journal, identity.timing);
        Self {
            began: (state.machine_ms(), None),
            digest_at: state.seq().saturating_add(DIGEST_EVERY),
            keeping: identity.keeping.map(Keeping::new),
            identity,
            state,
            configuration: None,
            lease,
            barrier: Barrier::default(),
            lanes: Lanes::default(),
            again: Again::default(),
            addresses: Addresses::default(),
            told_ms: 0,
            outbox: VecDeque::new(),
            pending: Vec::new(),
            appending: None,
            durable,
            resting,
            ready: BTreeSet::new(),
            flights: BTreeMap::new(),
            busy_pods: BTreeSet::new(),
            busy: BTreeMap::new(),
            writing: BTreeMap::new(),
            blocked: Vec::new(),
            lists: BTreeMap::new(),
            vswitches_met: BTreeSet::new(),
            writes_since: BTreeMap::new(),
            refused_full: BTreeMap::new(),
            suspicions: Suspicions::new(),
            departed: Departed::default(),
            writes_in_flight: 0,
            ids: 0,
            begins_at: 0,
            stopped: false,
        }
    }

    /// Takes one input.
    pub fn handle(&mut self, now: Now, input: Input) {
        if self.stopped {
            return;
        }
        self.began.1.get_or_insert(now.monotonic_ms);
        self.told_ms = self.machine(now);
        match input {
            Input::Configured(configuration) => self.configured(now, configuration),
            Input::Seen(seen) => self.seen(now, seen),
            Input::ListEnded(id, listing) => self.list_ended(now, id, listing),
            Input::Appended(head) => self.appended(now, head),
            Input::EffectEnded(id, ended) => self.effect_ended(now, id, ended),
            Input::LeaseAnswered(answer) => self.lease_answered(now, answer),
            Input::Kept(kept) => self.kept(now, kept),
            Input::Woke => {}
        }
        self.go_on(now);
    }

    /// The next output, in order.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outbox.pop_front()
    }

    /// When to wake the controller at the latest, in monotonic milliseconds.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<u64> {
        if self.stopped {
            return None;
        }
        let mut due = vec![self.lease.due_ms()];
        if self.lease.leads() {
            let machine = [
                self.state.next_timer_ms(),
                self.lanes.due_ms(self.state.machine_ms().max(self.told_ms)),
                self.again.due_ms(),
            ];
            due.extend(machine.into_iter().flatten().map(|at| self.monotonic(at)));
            due.extend(
                self.barrier
                    .due_ms(&self.state, &self.lanes, self.addresses.due_ms())
                    .filter(|at| *at != u64::MAX)
                    .map(|at| self.monotonic(at)),
            );
            due.extend(self.keeping.as_ref().and_then(Keeping::due_ms));
            due.extend(self.appending.map(|(_, since)| since.saturating_add(self.identity.timing.renew_deadline_ms)));
        }
        due.into_iter().min().filter(|due| *due != u64::MAX)
    }

    /// The fold.
    #[must_use]
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// How the journal is kept; `None` where nobody looks after it.
    #[must_use]
    pub const fn keeping(&self) -> Option<&Keeping> {
        self.keeping.as_ref()
    }

    /// Until when a call that changes something may start, in monotonic milliseconds, while this process leads.
    #[must_use]
    pub fn acts_until_ms(&self) -> Option<u64> {
        self.lease.may_start_until_ms()
    }

    /// Whether records are folded that the journal was not given yet.
    #[must_use]
    pub fn has_unwritten(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Whether this process leads.
    #[must_use]
    pub const fn leads(&self) -> bool {
        self.lease.leads()
    }

    /// Nothing is in flight or due, and each pod is ready, refused, or waits for room. Timers do not count.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        let quiet = self.pending.is_empty()
            && self.appending.is_none()
            && self.flights.is_empty()
            && self.lists.is_empty()
            && self.state.agenda().is_empty();
        let done = |(_, pod): (&PodUid, &crate::machine::state::Pod)| match pod.standing() {
            Standing::Allocated(id) => {
                let known = self.state.allocation(*id);
                let published = known.is_some_and(|known| known.is_published() && !known.yields());
                published || self.state.waits_for_others(*id) || self.state.waits_for_room(*id)
            }
            Standing::Refused(_) | Standing::Waiting { queue: Some(_), .. } => true,
            Standing::Waiting { reason, .. } => {
                matches!(reason, WaitReason::OtherController | WaitReason::NotAdopted)
            }
            Standing::Open => !pod.is_served(),
        };
        self.leads() && quiet && self.barrier.is_passed() && self.state.pods().all(done)
    }

    /// The lock as it is given back: nobody holds it, and our journal's head is in it.
    #[must_use]
    pub fn give_back(&self, lock: &LeaseRecord) -> LeaseRecord {
        LeaseRecord { holder: String::new(), heads: lease::merge(&self.head_to_tell(), &lock.heads), ..lock.clone() }
    }

    /// Checks every invariant of the machine but that of its snapshots.
    #[must_use]
    pub fn check(&self) -> Vec<Violation> {
        crate::machine::check::all(&self.state)
    }

    fn configured(&mut self, now: Now, configuration: Box<Configuration>) {
        self.configuration = Some(configuration);
        if self.lease.leads() {
            self.emit_configuration(now);
        }
    }

    fn emit_configuration(&mut self, now: Now) {
        let Some(configuration) = self.configuration.clone() else { return };
        for pool in configuration.pools {
            self.emit(now, Event::PoolConfigured(pool));
        }
        self.emit(now, Event::Configured(configuration.settings));
    }

    fn seen(&mut self, now: Now, seen: Seen) {
        // Before we lead nothing is kept: the first thing a leader does is to read everything.
        if !self.lease.leads() {
            return;
        }
        match seen {
            Seen::Pod(pod) => {
                let news = self.state.concerns(&pod) && !self.state.knows_pod(&pod);
                if news && !self.departed.is_late(&pod.uid) {
                    self.emit(now, Event::PodSeen(*pod));
                }
            }
            Seen::PodGone(gone) => {
                self.departed.gone(&gone.uid);
                if self.state.pod(&gone.uid.as_str().into()).is_some() {
                    self.emit(now, Event::PodGone(gone));
                }
            }
            Seen::Claim(claim) => {
                let claim = claim.bounded();
                let departed = &self.departed;
                let late = departed.is_late(&claim.uid) || departed.is_from_before_release(&claim.uid, claim.finalizer);
                if !self.state.knows_claim(&claim) && !late {
                    self.emit(now, Event::ClaimSeen(claim));
                }
            }
            Seen::ClaimGone(gone) => {
                self.departed.gone(&gone.uid);
                if self.state.has_claim(&gone) {
                    self.emit(now, Event::ClaimGone(gone));
                }
            }
        }
    }

    fn appended(&mut self, now: Now, head: Head) {
        if self.appending.is_some_and(|(through, _)| through == head.seq) {
            self.appending = None;
            self.durable = head;
            while let Some((rests_on, _)) = self.resting.first()
                && *rests_on <= head.seq
            {
                if let Some((rests_on, intent)) = self.resting.pop_first() {
                    self.make_ready(now, rests_on, intent);
                }
            }
        }
    }

    fn lease_answered(&mut self, now: Now, answer: lease::Answer) {
        match self.lease.answered(now.monotonic_ms, answer) {
            Turn::Same => {}
            Turn::Lost => self.stop(Stop::LeaseLost),
            Turn::Won(term) => self.begin_term(now, term),
        }
    }

    /// Before the first decision of a term everything that it may rest on is read (the barrier).
    fn begin_term(&mut self, now: Now, term: u64) {
        let holder = self.identity.holder.clone();
        let predecessor = self.lease.predecessor();
        let (before, known) = (self.lease.term_before(), self.state.term());
        // A term above ours after a lead with our own journal is one of ours that ended before it began.
        let itself = self.lease.follows_itself();
        let (ours, other) = (itself == Some(true), itself == Some(false));
        let met = before.max(self.state.term_seen());
        let overtaken = (other && known > 0) || self.state.term_seen() > known || (before > known && !ours);
        if self.identity.rebased.is_none() && overtaken {
            let reason =
                format!("term {met} was reached outside, this journal knows only term {known}: others led meanwhile");
            self.identity.rebased = Some(reason);
        }
        self.emit(now, Event::TermStarted(control::TermStarted { term, holder, predecessor }));
        self.begins_at = self.state.seq();
        if let Some(reason) = self.identity.rebased.take() {
            self.emit(now, Event::Rebased(control::Rebased { reason, anew: true }));
        }
        self.emit_configuration(now);
        self.barrier = Barrier::default();
    }

    /// Everything that follows from the input: expiries, decisions, then whatever may leave.
    fn go_on(&mut self, now: Now) {
        if self.lease.is_over(now.monotonic_ms) {
            return self.stop(Stop::LeaseLost);
        }
        if let Some((seq, since)) = self.appending
            && now.monotonic_ms >= since.saturating_add(self.identity.timing.renew_deadline_ms)
        {
            return self.stop(Stop::JournalStalled { seq });
        }
        let highest = self.state.term_seen();
        if let Some(call) = self.lease.poll(now.monotonic_ms, highest, &self.head_to_tell()) {
            self.outbox.push_back(Output::CallLease(call));
        }
        if !self.lease.leads() || self.state.term() == 0 {
            return;
        }
        if highest > self.state.term() {
            // What was met is made durable first: the next term rises above it.
            self.append(now);
            if self.appending.is_none() {
                self.stop(Stop::TermBehind { seen: highest, ours: self.state.term() });
            }
            return;
        }
        self.keep(now);
        self.decide(now);
        self.call_what_is_due(now);
        self.append(now);
    }

    fn decide(&mut self, now: Now) {
        let machine_ms = self.machine(now);
        for _ in 0..DECISIONS_PER_STEP_MAX {
            let Some(event) = self.state.decide(machine_ms) else { break };
            self.emit(now, event);
            if self.stopped {
                return;
            }
        }
        if self.state.is_undecided(machine_ms) {
            let message = format!("{DECISIONS_PER_STEP_MAX} decisions did not bring the work list to an end");
            self.stop(Stop::Machine { seq: self.state.seq(), message });
        }
    }

    /// Makes an event a record, folds it, and takes over what changed in the agenda.
    fn emit(&mut self, now: Now, event: Event) {
        if self.stopped {
            return;
        }
        let term = match &event {
            Event::TermStarted(started) => started.term,
            _ => self.state.term(),
        };
        let seq = self.state.seq().saturating_add(1);
        let record = Record { seq, term, machine_ms: self.machine(now), wall_ms: now.wall_ms, event };
        if let Err(error) = codec::encode(&record) {
            return self.stop(Stop::Machine { seq, message: error.to_string() });
        }
        if let Err(error) = self.state.apply(&record) {
            return self.stop(Stop::Machine { seq, message: error.to_string() });
        }
        if let Some(violation) = crate::machine::check::touched(&self.state, &record.event).first() {
            return self.stop(Stop::Machine { seq, message: violation.to_string() });
        }
        self.pending.push(record);
        self.take_changes(now);
        if self.state.seq() >= self.digest_at {
            self.digest_at = self.state.seq().saturating_add(DIGEST_EVERY);
            let digest =
                control::DigestTaken { version: crate::machine::state::DIGEST_VERSION, digest: self.state.digest() };
            self.emit(now, Event::DigestTaken(digest));
        }
    }

    fn take_changes(&mut self, now: Now) {
        for change in self.state.take_agenda_changes() {
            match change {
                Change::Came(intent) => {
                    if let Some(rests_on) = self.state.agenda().rests_on(&intent) {
                        if rests_on <= self.durable.seq {
                            self.make_ready(now, rests_on, intent);
                        } else {
                            self.resting.insert((rests_on, intent));
                        }
                    }
                }
                Change::Went(intent) => self.forget(&intent),
            }
        }
    }

    /// Hands the next group to the journal. Groups form from whatever queued while the one before was written.
    fn append(&mut self, now: Now) {
        if self.appending.is_some() || self.pending.is_empty() || self.stopped {
            return;
        }
        let rest = self.pending.split_off(self.pending.len().min(GROUP_RECORDS_MAX));
        let group = std::mem::replace(&mut self.pending, rest);
        let through = group.last().map_or(0, |record| record.seq);
        self.appending = Some((through, now.monotonic_ms));
        self.outbox.push_back(Output::Append(group));
    }

    fn stop(&mut self, stop: Stop) {
        self.stopped = true;
        self.outbox.clear();
        self.outbox.push_back(Output::Stop(stop));
    }

    /// Our journal's head for the lock: none before the beginning of our term is durable, for until then the history that
    /// the lock names first is another's.
    fn head_to_tell(&self) -> Vec<([u8; 16], u64, [u8; 32])> {
        let head = (self.identity.journal, self.durable.seq, self.durable.hash);
        (self.begins_at > 0 && self.durable.seq >= self.begins_at).then_some(head).into_iter().collect()
    }

    fn machine(&self, now: Now) -> u64 {
        let (machine_ms, clock) = self.began;
        let elapsed = now.monotonic_ms.saturating_sub(clock.unwrap_or(now.monotonic_ms));
        let at = machine_ms.saturating_add(elapsed.saturating_mul(u64::from(self.identity.speed.max(1))));
        at.max(self.state.machine_ms())
    }

    /// The clock at a machine time, rounded up.
    fn monotonic(&self, machine_ms: u64) -> u64 {
        let (began_ms, clock) = self.began;
        let elapsed = machine_ms.saturating_sub(began_ms).div_ceil(u64::from(self.identity.speed.max(1)));
        clock.unwrap_or(0).saturating_add(elapsed)
    }

    fn next_id(&mut self) -> u64 {
        self.ids = self.ids.saturating_add(1);
        self.ids
    }
}
