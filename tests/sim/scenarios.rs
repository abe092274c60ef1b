//! What is asked of certain situations rather than of all (L3, L4).

use natgw::controller::step::Controller;
use natgw::machine::identity::GatewayId;
use natgw::sandbox::vpc::{Spell, Trouble};

use crate::plan::{Plan, TIMING};
use crate::run::converge_soon;
use crate::workload::Wish;
use crate::world::World;

/// L3: how long a pod takes to be mapped, whatever ails another gateway.
const MAPPED_WITHIN_MS: u64 = 20_000;

/// L4: beside the lease's own time, what reading everything anew may take here.
const READING_MS: u64 = 3_000;

/// L3: a gateway that does not answer delays no other. Says how long the others took.
pub fn stuck_gateway(seed: u64, trouble: Trouble) -> Result<u64, String> {
    let mut world = World::new(Plan { seed, ..Plan::calm() });
    world.wish(Wish::Scale { replicas: 6 });
    converge_soon(&mut world);
    let now = world.now.get();
    let stuck = GatewayId::from("ngw-sandbox-j");
    world.vpc.borrow_mut().faults_mut().trouble(Spell::of_gateway(trouble, stuck, now, u64::MAX));
    world.wish(Wish::Scale { replicas: 14 });
    while world.now.get() < now + MAPPED_WITHIN_MS && world.checker.violations.is_empty() {
        world.step();
        if all_mapped(&world, "ngw-sandbox-k") {
            let took = world.now.get() - now;
            let others = all_mapped(&world, "ngw-sandbox-j");
            return if others { Err("the stuck gateway answers".to_owned()) } else { Ok(took) };
        }
    }
    Err(format!("after {} ms: {:?}, {}", world.now.get() - now, world.checker.violations.first(), world.unrest()))
}

/// Whether all pods whose route leads to a gateway are there, ready, and shown.
fn all_mapped(world: &World, gateway: &str) -> bool {
    let zone = if gateway.ends_with('j') { 16 } else { 17 };
    let model = world.model.borrow();
    let mut pods = model.pods().filter(|pod| pod.ip.is_none_or(|ip| ip.octets()[1] == zone)).peekable();
    pods.peek().is_some()
        && pods.all(|pod| {
            let shown = |object: &natgw::cluster::poddnat::PodDnat| {
                object.metadata.name == *pod.key.name() && !object.status.entries.is_empty()
            };
            pod.ip.is_some() && model.poddnats().any(shown)
        })
}

/// L4: the leader ends for good; says how long it takes until another has confirmed an effect.
pub fn failover(seed: u64) -> Result<u64, String> {
    let mut world = World::new(Plan { seed, replicas: 2, ..Plan::calm() });
    world.wish(Wish::Scale { replicas: 4 });
    converge_soon(&mut world);
    // A claim is written, and nothing of it in the cloud: what is to be done next is another's.
    world.wish(Wish::Scale { replicas: 5 });
    let claims = world.model.borrow().poddnats().count();
    while world.model.borrow().poddnats().count() == claims && world.checker.violations.is_empty() {
        world.step();
    }
    let leader = world.leader().ok_or("nobody leads")?;
    let (began, entries) = (world.now.get(), world.checker.facts.entries.len());
    world.replicas[leader].dead = true;
    world.crash(leader, false);
    let bound = TIMING.lease_duration_ms + TIMING.retry_period_ms * 12 / 10 + READING_MS;
    while world.now.get() <= began + bound && world.checker.violations.is_empty() {
        world.step();
        if world.checker.facts.entries.len() > entries && world.leader().is_some_and(|now| now != leader) {
            let took = world.now.get() - began;
            converge_soon(&mut world);
            return match world.checker.violations.first() {
                None => Ok(took),
                Some(violation) => Err(format!("{violation:?}")),
            };
        }
    }
    let leads = |process: &crate::replica::Process| Controller::leads(&process.controller);
    let leaders: Vec<bool> = world.replicas.iter().map(|replica| replica.process.as_ref().is_some_and(leads)).collect();
    Err(format!(
        "after {} ms nothing was confirmed, leaders {leaders:?}: {:?}",
        world.now.get() - began,
        world.checker.violations.first()
    ))
}
