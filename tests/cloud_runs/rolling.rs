//! A rolling update as the cloud sees it: 50 pods of one table are replaced one after the other, each as soon as the one
//! before is mapped, and the addresses of those that went are given to those that come. For how long does an entry send to a
//! pod that it was not made for?

use std::collections::BTreeMap;

use natgw::machine::identity::{EntryId, Mark, PodKey, PodUid};
use natgw::sandbox::vpc::{Behaviour, EntryStatus, Faults};

use crate::stage::{CALL_MS, Stage};

const PODS: u32 = 50;

const PENDING_MS: u64 = 500;

const DELETING_MS: u64 = 500;

/// What an entry of a pod that went waits for at the most (design.md §5, §9): the listing that must show it once more, of
/// which one may just have begun before, 200 ms apart; a turn of creations; what they made to come into effect, and the
/// listing that shows that; its own deletion, until the cloud has carried it out. The rest is for writes nearby.
const EXPOSED_MS: u64 =
    (CALL_MS + 200 + CALL_MS) + 500 + (CALL_MS + PENDING_MS + 200 + CALL_MS) + (CALL_MS + DELETING_MS) + 100;

/// What was seen.
#[derive(Debug, Default)]
struct Seen {
    since: BTreeMap<EntryId, u64>,
    longest_ms: u64,
    times: usize,
}

impl Seen {
    /// Looks which entries send to a pod of another UID just now.
    fn look(&mut self, stage: &Stage) {
        let now_ms = stage.now_ms();
        let (vpc, model) = (stage.vpc.borrow(), stage.model.borrow());
        let owners: BTreeMap<_, &str> =
            model.pods().filter(|pod| pod.holds_address).filter_map(|pod| Some((pod.ip?, pod.uid.as_str()))).collect();
        let entries = vpc.world().gateways.iter().flat_map(|gateway| vpc.entries(&gateway.table));
        let exposed = entries.filter(|entry| {
            let owner = owners.get(&entry.spec.internal_ip).map(|owner| PodUid::from(*owner));
            let mark = Mark::parse(&entry.spec.name);
            entry.status != EntryStatus::Pending && mark.zip(owner).is_some_and(|(mark, owner)| !mark.is_for(&owner))
        });
        let exposed: Vec<EntryId> = exposed.map(|entry| entry.id.clone()).collect();
        self.since.retain(|entry, _| exposed.contains(entry));
        for entry in exposed {
            let before = self.since.len();
            let since = *self.since.entry(entry).or_insert(now_ms);
            self.times += self.since.len() - before;
            self.longest_ms = self.longest_ms.max(now_ms - since);
        }
    }
}

fn stage(delete_blocked_by_pending: bool) -> Stage {
    let behaviour = Behaviour {
        pending_ms: PENDING_MS,
        deleting_ms: DELETING_MS,
        delete_blocked_by_pending,
        entry_quota: 1_000,
        ..Behaviour::default()
    };
    let mut stage = Stage::new(1, behaviour, Faults::none(), 1);
    stage.scale(PODS);
    stage.run_until(|stage| stage.mapped() == PODS as usize);
    stage.settle();
    stage
}

/// How many pods that are to stay are mapped.
fn mapped(stage: &Stage) -> usize {
    let model = stage.model.borrow();
    let published: Vec<(String, String)> = model
        .list_claims()
        .into_iter()
        .filter(|claim| claim.published)
        .map(|claim| (claim.namespace, claim.name))
        .collect();
    let name = |pod: &PodKey| (pod.namespace().to_string(), pod.name().to_string());
    model.pods().filter(|pod| pod.active() && published.contains(&name(&pod.key))).count()
}

fn run_until(stage: &mut Stage, seen: &mut Seen, within_ms: u64, is_so: impl Fn(&Stage) -> bool) -> u64 {
    let began_ms = stage.now_ms();
    let mut looked_ms = None;
    while looked_ms == Some(stage.now_ms()) || !is_so(stage) {
        if looked_ms != Some(stage.now_ms()) {
            seen.look(stage);
        }
        looked_ms = Some(stage.now_ms());
        assert!(stage.now_ms() <= began_ms + within_ms, "not within {within_ms} ms: {} mapped", mapped(stage));
        stage.step();
    }
    stage.now_ms() - began_ms
}

fn replace_one_by_one(delete_blocked_by_pending: bool) -> Seen {
    let mut stage = stage(delete_blocked_by_pending);
    let mut seen = Seen::default();
    let before: Vec<PodKey> = stage.model.borrow().pods().map(|pod| pod.key.clone()).collect();
    let (began_ms, mut slowest_ms) = (stage.now_ms(), 0);
    for pod in &before {
        assert!(stage.model.borrow_mut().delete_pod(pod, None));
        let took_ms = run_until(&mut stage, &mut seen, 30_000, |stage| mapped(stage) == PODS as usize);
        slowest_ms = slowest_ms.max(took_ms);
    }
    let all_ms = stage.now_ms() - began_ms;
    let rest_ms = run_until(&mut stage, &mut seen, 30_000, |stage| {
        let vpc = stage.vpc.borrow();
        let entries = vpc.world().gateways.iter().map(|gateway| vpc.entries(&gateway.table).count()).sum::<usize>();
        entries == PODS as usize
    });
    println!(
        "deletions {}: {PODS} pods replaced in {all_ms} ms, the slowest in {slowest_ms} ms, the last entry gone after \
         {rest_ms} ms more; exposure {} times, {} ms at most, bound {EXPOSED_MS} ms",
        if delete_blocked_by_pending { "blocked by Pending" } else { "at any time" },
        seen.times,
        seen.longest_ms
    );
    seen
}

#[test]
fn a_rolling_update_exposes_no_pod_for_longer_than_a_turn() {
    for blocked in [true, false] {
        let seen = replace_one_by_one(blocked);
        assert!(seen.times > 0, "no address was given again: nothing was measured");
        assert!(seen.longest_ms <= EXPOSED_MS, "{seen:?}");
    }
}
