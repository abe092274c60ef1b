//! Faults of our own making, put between the controller and its ports or its disk: each must be caught by the invariant
//! that it names. Those that cannot be put there are patches of the code: `patches.rs`.

mod patches;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use natgw::machine::event::seen::{ClaimSeen, MANAGER_ANOTHER, PodSeen};
use natgw::machine::identity::{AllocationId, Generation, Mark, PodKey, Stamp, UidHash};
use natgw::ports::cloud::{CreateEntry, EntryStatus, ListedEntry, Page};
use natgw::ports::cluster::{ClaimFound, LeaseRecord, Publication};

use crate::plan::Plan;
use crate::run::run;
use crate::wire::Outside;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    None,
    /// Records count as durable as soon as they are handed over.
    ForgottenSync,
    /// A sync is acknowledged and does nothing.
    SyncWithoutEffect,
    /// The end of a journal is missing, and it opens as if it were whole.
    ShorterHistory,
    /// A repeated creation has another token in each life.
    NewToken,
    /// Pending entries count as available.
    PendingIsAvailable,
    /// Somebody else's entries count as ours.
    ForeignIsOurs,
    /// Entries that are being deleted count as absent.
    DeletingIsGone,
    /// Every other listing of the cluster is the one before.
    StaleList,
    /// The lock is written without compare-and-swap.
    NoCompareAndSwap,
    /// PodDNATs are written over whatever is there.
    Overwrite,
    /// Withdrawals of the status are acknowledged and not carried out.
    NeverWithdrawn,
    /// PodDNATs of another controller are left out of the lists.
    OriginalUnseen,
    /// One seed in a hundred says of itself that something is wrong.
    Canary,
}

/// Each mutant and the invariants that may catch it: the one it is made for comes first.
pub const ALL: &[(Mutant, &[&str])] = &[
    (Mutant::ForgottenSync, &["S3"]),
    (Mutant::SyncWithoutEffect, &["S3", "S4"]),
    (Mutant::ShorterHistory, &["S4", "S8"]),
    (Mutant::NewToken, &["S6"]),
    (Mutant::PendingIsAvailable, &["S13"]),
    (Mutant::ForeignIsOurs, &["S9"]),
    (Mutant::DeletingIsGone, &["S17", "S15", "S6"]),
    (Mutant::StaleList, &["S14", "S19"]),
    (Mutant::NoCompareAndSwap, &["S7"]),
    (Mutant::Overwrite, &["S18"]),
    (Mutant::NeverWithdrawn, &["S13"]),
    (Mutant::OriginalUnseen, &["S20", "L1"]),
];

/// Seeds within which a mutant must be caught.
const SEEDS_MAX: u64 = 200;

/// Runs seeds in order, on all cores, until one breaks an invariant of those names. Returns what each failing seed broke,
/// sorted by seed.
pub fn hunt(mutant: Mutant, names: &[&str]) -> Vec<(u64, &'static str)> {
    let next = AtomicU64::new(0);
    let found = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= SEEDS_MAX {
                        break;
                    }
                    let Some(broken) = first_broken(mutant, names, seed) else { continue };
                    found.lock().unwrap_or_else(PoisonError::into_inner).push((seed, broken));
                    if names.contains(&broken) {
                        next.store(SEEDS_MAX, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    found.sort_unstable();
    found
}

/// What a seed breaks: one of the names if it breaks several at once. A world that panics has found something, too.
fn first_broken(mutant: Mutant, names: &[&str], seed: u64) -> Option<&'static str> {
    let end = catch_unwind(AssertUnwindSafe(|| run(Plan { mutant, ..Plan::of(seed) }).violations));
    let Ok(violations) = end else { return Some("panic") };
    let named = violations.iter().find(|violation| names.contains(&violation.invariant));
    named.or_else(|| violations.first()).map(|violation| violation.invariant)
}

impl Mutant {
    pub fn creation(self, life: u64, request: &CreateEntry) -> CreateEntry {
        let mut request = request.clone();
        if self == Self::NewToken {
            request.token = format!("{}-{life}", request.token);
        }
        request
    }

    pub fn shown_entries(self, listed: &mut Page<ListedEntry>) {
        match self {
            Self::PendingIsAvailable => {
                listed.items.iter_mut().for_each(|entry| entry.status = EntryStatus::Available);
            }
            Self::ForeignIsOurs => {
                let stamp = Stamp { term: 1, n: 999_999 };
                let mark =
                    Mark::new(UidHash::of("c1"), &"x".into(), AllocationId::from(stamp), Generation::from(stamp));
                for entry in listed.items.iter_mut().filter(|entry| Mark::parse(&entry.name).is_none()) {
                    entry.name = mark.to_string();
                }
            }
            Self::DeletingIsGone => {
                let before = listed.items.len();
                listed.items.retain(|entry| entry.status != EntryStatus::Deleting);
                listed.total -= u32::try_from(before - listed.items.len()).expect("fewer than before");
            }
            _ => {}
        }
    }

    pub fn shown_pods(self, before: &mut Option<Vec<PodSeen>>, pods: Vec<PodSeen>) -> Vec<PodSeen> {
        if self == Self::StaleList { before.take().unwrap_or_else(|| keep(before, pods)) } else { pods }
    }

    pub fn shown_claims(self, before: &mut Option<Vec<ClaimSeen>>, mut claims: Vec<ClaimSeen>) -> Vec<ClaimSeen> {
        if self == Self::OriginalUnseen {
            claims.retain(|claim| claim.manager != MANAGER_ANOTHER);
        }
        if self == Self::StaleList { before.take().unwrap_or_else(|| keep(before, claims)) } else { claims }
    }

    /// What a write is made over.
    pub fn found(self, outside: &Outside, key: &PodKey, found: &ClaimFound) -> ClaimFound {
        let now = outside.model.borrow().read_claim(key);
        match now {
            Some(now) if self == Self::Overwrite => now,
            Some(_) | None => found.clone(),
        }
    }

    pub fn swallows_withdrawal(self, publication: &Publication) -> bool {
        self == Self::NeverWithdrawn && publication.mapping.is_none()
    }

    pub fn written_lease(self, outside: &Outside, record: &LeaseRecord) -> LeaseRecord {
        let mut record = record.clone();
        if self == Self::NoCompareAndSwap {
            record.resource_version = outside.model.borrow().read_lease().resource_version;
        }
        record
    }
}

fn keep<T: Clone>(before: &mut Option<Vec<T>>, now: Vec<T>) -> Vec<T> {
    *before = Some(now.clone());
    now
}
