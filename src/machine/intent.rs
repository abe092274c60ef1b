//! What must be true outside and is not known to be so.
//!
//! An intent names its subject and nothing else; the parameters are looked up in the state when it starts. An intent
//! that is there rests on the event that put it there, and may start once that event is durable.

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;

use crate::machine::demand::Note;
use crate::machine::identity::{AllocationId, EntryId, Generation, PodKey, PodUid, TableId};
use crate::machine::seldom::Seldom;

/// One thing to bring about, or to find out.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Intent {
    /// Find the network interface of an address, and the route of its vSwitch.
    Locate {
        /// The address.
        ip: Ipv4Addr,
        /// The pod that has it; several may, for a while.
        pod: PodUid,
    },
    /// Write the claim, with its finalizer, before anything happens in the cloud.
    WriteClaim {
        /// The allocation.
        allocation: AllocationId,
        /// The content: the sequence number of the decision that made it.
        revision: u64,
    },
    /// Create the entry of one item.
    Bind {
        /// The table, which is also the lane.
        table: TableId,
        /// The allocation; allocations are numbered in order of decision, so creations go pod by pod.
        allocation: AllocationId,
        /// The creation.
        generation: Generation,
    },
    /// Confirm that a creation was never sent, or wait for its end.
    Forgo {
        /// The allocation.
        allocation: AllocationId,
        /// The creation.
        generation: Generation,
    },
    /// Delete an entry by id.
    Unbind {
        /// The table, which is also the lane.
        table: TableId,
        /// The entry.
        entry: EntryId,
    },
    /// List a table because something in it is not known well enough.
    Observe {
        /// The table.
        table: TableId,
    },
    /// Publish the mapping in the PodDNAT's status.
    Publish {
        /// The allocation.
        allocation: AllocationId,
        /// The content.
        revision: u64,
    },
    /// Take the mapping out of the PodDNAT's status.
    Withdraw {
        /// The allocation.
        allocation: AllocationId,
    },
    /// Delete the PodDNAT and take our finalizer off.
    ReleaseClaim {
        /// The allocation.
        allocation: AllocationId,
    },
    /// Delete a PodDNAT that stands for nothing.
    DropClaim {
        /// Its name.
        key: PodKey,
        /// Its UID.
        uid: Box<str>,
    },
    /// Say on the pod how things stand.
    MarkPod {
        /// The pod.
        pod: PodUid,
        /// What to say.
        note: Note,
    },
}

/// The intents of one subject: mostly none.
pub type Held = Seldom<Vec<Intent>>;

/// The intents there are, each with the sequence number of the event that put it there.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Agenda {
    intents: BTreeMap<Intent, u64>,
    changes: Vec<Change>,
}

/// Shows what is wanted, not what changed since somebody last asked.
impl fmt::Debug for Agenda {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.intents.fmt(f)
    }
}

/// A difference of the agenda, for whoever carries it out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The intent is new.
    Came(Intent),
    /// The intent is no longer wanted.
    Went(Intent),
}

impl Agenda {
    /// The event on which an intent rests; `None` if it is not there.
    #[must_use]
    pub fn rests_on(&self, intent: &Intent) -> Option<u64> {
        self.intents.get(intent).copied()
    }

    /// All intents in order.
    pub fn iter(&self) -> impl Iterator<Item = (&Intent, u64)> {
        self.intents.iter().map(|(intent, seq)| (intent, *seq))
    }

    /// How many intents there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.intents.len()
    }

    /// Whether nothing is left to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.intents.is_empty()
    }

    /// What changed since this was last asked, in order.
    pub fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// Puts an intent back as it was, with the event on which it rests.
    pub(crate) fn restore(&mut self, intent: Intent, rests_on: u64) {
        self.intents.insert(intent, rests_on);
    }

    /// Nothing is wanted any more.
    pub(crate) fn clear(&mut self) {
        let intents = std::mem::take(&mut self.intents);
        self.changes.extend(intents.into_keys().map(Change::Went));
    }

    /// Replaces the intents of one subject. What stays keeps the event on which it rests.
    pub(crate) fn replace(&mut self, held: &mut Held, wanted: Vec<Intent>, seq: u64) {
        for intent in held.iter().filter(|intent| !wanted.contains(intent)) {
            self.intents.remove(intent);
            self.changes.push(Change::Went(intent.clone()));
        }
        for intent in wanted.iter().filter(|intent| !held.contains(intent)) {
            self.intents.insert(intent.clone(), seq);
            self.changes.push(Change::Came(intent.clone()));
        }
        *held = Held::new(wanted);
    }
}
