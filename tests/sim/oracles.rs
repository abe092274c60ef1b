//! What must come out whatever happens on the way.
//!
//! *Differential* (Sieve): the same wishes at the same times in a world where nothing goes wrong end alike. *Walks* (Acto):
//! what is mapped at the end does not depend on what was wished before.

use std::collections::BTreeMap;

use natgw::machine::identity::PodKey;
use natgw::sandbox::cluster::Pod;

use crate::faults::Fault;
use crate::plan::{Plan, configuration};
use crate::run::{converge, converge_soon};
use crate::workload::{GOOD_PORTS, PORTS, Wish, Wishes};
use crate::world::World;

/// Faults after which the end may rightly be another: other people's entries hold ports and addresses, pods come back from
/// a backup.
const OTHER_ENDS: &[Fault] =
    &[Fault::TupleTaken, Fault::EntryRenamed, Fault::ApiRestored, Fault::ClaimMalformed, Fault::Burst];

/// What is mapped, without what chance decides: of bare and stateful pods the ports by name, of the others how many pods
/// have how many ports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mapped {
    named: BTreeMap<String, Vec<String>>,
    others: BTreeMap<usize, usize>,
}

/// What is mapped in a world: of the pods that ask, and ask for something that can be. What others keep is what they had
/// when they asked otherwise, and when a namespace ends depends on how fast its mappings go.
pub fn mapped(world: &World) -> Mapped {
    let mut mapped = Mapped::default();
    let model = world.model.borrow();
    let ended: Vec<&str> =
        if world.wished.iter().any(|(_, wish)| *wish == Wish::DeleteNamespace) { vec!["lobby"] } else { Vec::new() };
    for object in model.poddnats() {
        let metadata = &object.metadata;
        let asks = model.pod(&PodKey::new(metadata.namespace.as_str(), metadata.name.as_str())).is_some_and(asks);
        if !asks || ended.contains(&metadata.namespace.as_str()) {
            continue;
        }
        let mut ports: Vec<String> = object
            .status
            .entries
            .iter()
            .map(|entry| format!("{}/{}", entry.internal_port, entry.ip_protocol))
            .collect();
        ports.sort();
        let name = &object.metadata.name;
        if name.starts_with("game-") {
            *mapped.others.entry(ports.len()).or_default() += 1;
        } else {
            mapped.named.insert(format!("{}/{name}", object.metadata.namespace), ports);
        }
    }
    mapped
}

/// Whether a pod asks for something that can be.
fn asks(pod: &Pod) -> bool {
    let annotation = |name: &str| pod.annotations.get(&format!("k8s.aliyun.com/{name}")).map(String::as_str);
    annotation("pod-dnat") == Some("")
        && annotation("pod-dnat-expose-port").is_some_and(|ports| PORTS[..GOOD_PORTS].contains(&ports))
}

/// Runs a seed with its faults, and its wishes again without any.
pub fn differential(seed: u64) -> Result<(), String> {
    let mut plan = Plan::of(seed);
    plan.behaviour.entry_quota = 1_000;
    plan.configuration = configuration(620);
    plan.without.extend_from_slice(OTHER_ENDS);
    let mut faulty = World::new(plan.clone());
    while faulty.steps < faulty.plan.steps && faulty.checker.violations.is_empty() {
        faulty.step();
    }
    faulty.become_calm();
    converge(&mut faulty);
    let wished = faulty.wished.clone();
    let mut quiet = World::new(Plan { without: Fault::ALL.to_vec(), steps: 0, replicas: 1, ..plan });
    follow(&mut quiet, &wished);
    let differs = |evidence: String| Err(format!("seed {seed}: {evidence}"));
    for world in [&faulty, &quiet] {
        if let Some(violation) = world.checker.violations.first() {
            return differs(format!("{violation:?}"));
        }
    }
    let (one, two) = (mapped(&faulty), mapped(&quiet));
    if one != two {
        return differs(format!(
            "with faults {one:?}, without {two:?}; pods {:?}, {:?}; wished {wished:?}",
            pods(&faulty),
            pods(&quiet)
        ));
    }
    unexplained(&faulty, &quiet).map_or(Ok(()), differs)
}

/// The bare and stateful pods, and how each stands.
fn pods(world: &World) -> Vec<String> {
    let model = world.model.borrow();
    let named = model.pods().filter(|pod| !pod.key.name.starts_with("game-"));
    let standing = |pod: &Pod| {
        world.state().and_then(|state| state.pod(&pod.uid.as_str().into())).map(|pod| format!("{:?}", pod.standing()))
    };
    named.map(|pod| format!("{} {:?} {:?} {:?}", pod.key, pod.phase, pod.annotations, standing(pod))).collect()
}

/// Each creation more than in the quiet world has a fault that explains it: somebody harmed an entry, a pod or its claim; a
/// leader began without knowing; a request was late, refused or done twice.
fn unexplained(faulty: &World, quiet: &World) -> Option<String> {
    let created = |world: &World| world.checker.facts.entries.values().filter(|fate| !fate.foreign).count() as u64;
    let (one, two) = (created(faulty), created(quiet));
    let faults = faulty.outside.faults.borrow();
    let fired: u64 = faults.counts().iter().sum();
    (one > two && fired == 0).then(|| format!("{one} entries were created, {two} without faults, and no fault struck"))
}

/// Makes the same wishes at the same times, and lets everything come to rest.
fn follow(world: &mut World, wished: &[(u64, Wish)]) {
    for (at_ms, wish) in wished {
        world.not_beyond = *at_ms;
        while world.now.get() < *at_ms && world.checker.violations.is_empty() {
            world.step();
        }
        world.wish(wish.clone());
    }
    world.not_beyond = u64::MAX;
    converge_soon(world);
}

/// Walks through many wishes, and goes to their end directly: what is mapped is the same.
pub fn walk(seed: u64) -> Result<(), String> {
    let mut dice = crate::dice::Dice::new(seed, "walk");
    let calm = || Plan { seed, configuration: configuration(620), ..Plan::calm() };
    let (mut long, mut short) = (World::new(calm()), World::new(calm()));
    let wishes = Wishes::new(long.plan.pods);
    for _ in 0..20 {
        let wish = wishes.draw(&mut dice, 6);
        // What ends pods or stops them from asking is no part of what stands in the end.
        if matches!(wish, Wish::Annotate { .. } | Wish::Finish { .. } | Wish::DeleteNamespace) {
            continue;
        }
        long.wish(wish);
        for _ in 0..dice.draw(400) {
            long.step();
        }
    }
    let model = long.model.clone();
    long.wishes.ask(&mut model.borrow_mut());
    converge_soon(&mut long);
    // Who was deleted and is wanted comes again when it is asked for again.
    long.wishes.ask(&mut model.borrow_mut());
    short.wishes = long.wishes.clone();
    let model = short.model.clone();
    short.wishes.ask(&mut model.borrow_mut());
    converge_soon(&mut long);
    converge_soon(&mut short);
    let (one, two) = (mapped(&long), mapped(&short));
    let violation = [&long, &short].into_iter().find_map(|world| world.checker.violations.first().cloned());
    match violation {
        Some(violation) => Err(format!("seed {seed}: {violation:?}")),
        None if one != two => Err(format!("seed {seed}: after a walk {one:?}, directly {two:?}")),
        None => Ok(()),
    }
}
