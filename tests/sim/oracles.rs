//! What must come out whatever happens on the way.
//!
//! *Differential* (Sieve): the same wishes at the same times in a world where nothing goes wrong end alike. *Walks* (Acto):
//! what is mapped at the end does not depend on what was wished before.

use std::collections::BTreeMap;

use natgw::sandbox::cluster::{Phase, Pod};
use natgw::sandbox::vpc::NewEntry;

use crate::faults::Fault;
use crate::invariants::Fate;
use crate::plan::{LOSING, Plan, configuration};
use crate::run::{STEPS_MAX, converge, converge_soon, endless};
use crate::workload::{GOOD_PORTS, PORTS, Wish, Wishes};
use crate::world::World;

/// Faults after which the end may rightly be another: other people's entries hold ports and addresses, pods come back from
/// a backup.
const OTHER_ENDS: &[Fault] = &[
    Fault::TupleTaken,
    Fault::EntryRenamed,
    Fault::ApiRestored,
    Fault::ClaimMalformed,
    Fault::Burst,
    Fault::OtherWriter,
];

/// Faults that rightly end a mapping which is made again, beside lost history: somebody harmed the entry, the claim or the
/// road to it, or the cloud refused the entry or the table for good.
const MADE_AGAIN: &[Fault] = &[
    Fault::ZeroedTail,
    Fault::ClaimDeleted,
    Fault::FinalizerStripped,
    Fault::TokenMismatch,
    Fault::UnknownError,
    Fault::EntryRemoved,
    Fault::EntryEdited,
    Fault::EipLocked,
    Fault::RouteMoved,
    Fault::GatewayGone,
];

/// What is mapped, without what chance decides: of bare and stateful pods the ports by name, of the others how many pods
/// have how many ports. Each beside what is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mapped {
    named: BTreeMap<String, (String, Vec<String>)>,
    others: BTreeMap<(String, usize), usize>,
}

impl Mapped {
    /// What is mapped for the pods that run in a world and ask for something that can be. When a namespace ends depends on
    /// how fast its mappings go: its pods do not count.
    pub fn of(world: &World) -> Self {
        let mut mapped = Self::default();
        let model = world.model.borrow();
        let ended = world.wished.iter().any(|(_, wish)| *wish == Wish::DeleteNamespace).then_some("lobby");
        let runs = |pod: &&Pod| pod.phase == Phase::Running && pod.deleting.is_none() && !pod.containers_terminated;
        for pod in model.pods().filter(runs).filter(|pod| ended != Some(pod.key.namespace())) {
            let Some(asked) = asked(pod) else { continue };
            let found = model.poddnats().find(|object| {
                *object.metadata.name == *pod.key.name() && *object.metadata.namespace == *pod.key.namespace()
            });
            let mut ports: Vec<String> = found
                .iter()
                .flat_map(|object| &object.status.entries)
                .map(|entry| format!("{}/{}", entry.internal_port, entry.ip_protocol))
                .collect();
            ports.sort();
            if pod.key.name().starts_with("game-") {
                *mapped.others.entry((asked, ports.len())).or_default() += 1;
            } else {
                mapped.named.insert(pod.key.to_string(), (asked, ports));
            }
        }
        mapped
    }

    /// How many pods can be compared with another world's, and the first that differs. A pod that ended, or asks for
    /// something else, in one of the worlds says nothing: what ended it may have met another pod of its name there.
    fn compare(&self, other: &Self) -> Result<usize, String> {
        let mut compared = 0;
        for (name, (asked, ports)) in &self.named {
            match other.named.get(name) {
                Some((also, there)) if also == asked => {
                    compared += 1;
                    if ports != there {
                        return Err(format!("{name} asks for {asked} and has {ports:?}, there {there:?}"));
                    }
                }
                Some(_) | None => {}
            }
        }
        let of = |mapped: &Self| mapped.others.values().sum::<usize>();
        if of(self) == of(other) {
            compared += of(self);
            if self.others != other.others {
                return Err(format!("of the Deployment {:?}, there {:?}", self.others, other.others));
            }
        }
        Ok(compared)
    }
}

/// What a pod asks for, if that can be.
fn asked(pod: &Pod) -> Option<String> {
    let annotation = |name: &str| pod.annotations.get(&format!("k8s.aliyun.com/{name}")).map(String::as_str);
    let ports = annotation("pod-dnat-expose-port").filter(|ports| PORTS[..GOOD_PORTS].contains(ports));
    ports.filter(|_| annotation("pod-dnat") == Some("")).map(str::to_owned)
}

/// Runs a seed with its faults, and its wishes again without any. Gives how many pods were compared.
pub fn differential(seed: u64) -> Result<usize, String> {
    let faulty = faulty(seed, Setting::SameEnd);
    let wished = faulty.wished.clone();
    let mut quiet = World::new(Plan { without: Fault::ALL.to_vec(), steps: 0, replicas: 1, ..faulty.plan.clone() });
    follow(&mut quiet, &wished);
    let differs = |evidence: String| Err(format!("seed {seed}: {evidence}"));
    for world in [&faulty, &quiet] {
        if let Some(violation) = world.checker.violations.first() {
            return differs(format!("{violation:?}"));
        }
    }
    if let Some(again) = made_again(&quiet) {
        return differs(format!("where nothing goes wrong {again}"));
    }
    Mapped::of(&faulty).compare(&Mapped::of(&quiet)).or_else(|evidence| {
        differs(format!("{evidence}; pods {:?}, {:?}; wished {wished:?}", pods(&faulty), pods(&quiet)))
    })
}

/// Runs a seed without the faults that explain a second creation of one port of one pod: crashes, lost, late and repeated
/// answers, stale views and outages alone never make one. Gives how many creations there were.
pub fn made_once(seed: u64) -> Result<usize, String> {
    let faulty = faulty(seed, Setting::MadeOnce);
    if let Some(violation) = faulty.checker.violations.first() {
        return Err(format!("seed {seed}: {violation:?}"));
    }
    match made_again(&faulty) {
        Some(again) => Err(format!("seed {seed}: without a fault that explains it {again}")),
        None => Ok(faulty.checker.facts.entries.len()),
    }
}

/// The worlds that the oracles put a seed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// Room for all, and no fault after which the end may be another.
    SameEnd,
    /// And no fault that explains a second creation.
    MadeOnce,
}

impl Setting {
    /// All of them with the names by which `NATGW_SETTING` asks for them.
    pub const ALL: [(&str, Self); 2] = [("same-end", Self::SameEnd), ("made-once", Self::MadeOnce)];

    /// Puts a seed's plan into it.
    pub fn of(self, mut plan: Plan) -> Plan {
        plan.behaviour.entry_quota = 1_000;
        plan.original = None;
        plan.configuration = configuration(620);
        plan.without.extend_from_slice(OTHER_ENDS);
        match self {
            Self::SameEnd => {}
            Self::MadeOnce => plan.without.extend(LOSING.iter().chain(MADE_AGAIN)),
        }
        plan
    }
}

/// A seed's world in a setting, after its faults.
fn faulty(seed: u64, setting: Setting) -> World {
    let mut world = World::new(setting.of(Plan::of(seed)));
    while world.steps < world.plan.steps && world.checker.violations.is_empty() {
        world.step();
    }
    world.become_calm();
    converge(&mut world);
    world
}

/// The bare and stateful pods, and how each stands.
fn pods(world: &World) -> Vec<String> {
    let model = world.model.borrow();
    let named = model.pods().filter(|pod| !pod.key.name().starts_with("game-"));
    let standing = |pod: &Pod| {
        world.state().and_then(|state| state.pod(&pod.uid.as_str().into())).map(|pod| format!("{:?}", pod.standing()))
    };
    named.map(|pod| format!("{} {:?} {:?} {:?}", pod.key, pod.phase, pod.annotations, standing(pod))).collect()
}

/// A port of a pod at one address that was mapped twice although nobody asked for anything else in between.
fn made_again(world: &World) -> Option<String> {
    let mut made: BTreeMap<String, &Fate> = BTreeMap::new();
    let mut fates: Vec<_> = world.checker.facts.entries.values().filter(|fate| !fate.foreign).collect();
    fates.sort_by_key(|fate| fate.created_ms);
    for fate in fates {
        let NewEntry { internal_ip, internal_port, protocol, .. } = &fate.spec;
        let pod = fate.spec.name.split('-').nth(2)?;
        let Some(before) = made.insert(format!("{pod} {internal_ip}:{internal_port:?}/{protocol:?}"), fate) else {
            continue;
        };
        let between = before.created_ms..=fate.created_ms;
        // A pod that moves twice may come back to its address.
        let asked = |wish: &Wish| matches!(wish, Wish::Annotate { .. } | Wish::Pod { .. } | Wish::Move { .. });
        if !world.wished.iter().any(|(at_ms, wish)| asked(wish) && between.contains(at_ms)) {
            return Some(format!("one port was mapped twice: {before:?}, and then {fate:?}"));
        }
    }
    None
}

/// Makes the same wishes at the same times, and lets everything come to rest.
fn follow(world: &mut World, wished: &[(u64, Wish)]) {
    for (at_ms, wish) in wished {
        world.not_beyond = *at_ms;
        let until = world.steps + STEPS_MAX;
        while world.now.get() < *at_ms && world.checker.violations.is_empty() {
            if world.steps > until {
                return endless(world);
            }
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
    let (one, two) = (Mapped::of(&long), Mapped::of(&short));
    let violation = [&long, &short].into_iter().find_map(|world| world.checker.violations.first().cloned());
    match violation {
        Some(violation) => Err(format!("seed {seed}: {violation:?}")),
        None if one != two => Err(format!("seed {seed}: after a walk {one:?}, directly {two:?}")),
        None => Ok(()),
    }
}
