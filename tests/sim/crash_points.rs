//! Every point at which a process can end, enumerated rather than sampled: each step of each of these workloads, one run a
//! point. Nothing else goes wrong, so that whatever is not right afterwards is that crash's doing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::faults::Fault;
use crate::invariants::Violation;
use crate::plan::{Plan, configuration};
use crate::run::{STEPS_MAX, converge_soon, nothing_left};
use crate::workload::Wish;
use crate::world::World;

/// What is wished, and when; and what is odd about the world.
pub struct Workload {
    pub name: &'static str,
    wishes: &'static [(u64, Wish)],
    scarce: bool,
    replicas: usize,
}

const fn pod(at: usize, ports: usize) -> Wish {
    Wish::Pod { at, ports, gate: true, fixed: false }
}

/// The workloads: each has a way of changing a mapping that the others do not have.
pub const WORKLOADS: &[Workload] = &[
    Workload { name: "a pod comes", wishes: &[(0, pod(0, 0))], scarce: false, replicas: 1 },
    Workload {
        name: "a pod of four entries comes",
        wishes: &[(0, pod(0, 3)), (0, pod(1, 2))],
        scarce: false,
        replicas: 1,
    },
    Workload {
        name: "a pod comes and goes",
        wishes: &[(0, pod(0, 1)), (8_000, Wish::NoPod { at: 0 })],
        scarce: false,
        replicas: 1,
    },
    Workload {
        name: "a pod goes gracefully and comes again",
        wishes: &[(0, pod(0, 0)), (8_000, Wish::Delete { at: 0, grace_ms: None })],
        scarce: false,
        replicas: 1,
    },
    Workload {
        name: "a pod is forced away and comes again at once",
        wishes: &[(0, pod(0, 0)), (8_000, Wish::Delete { at: 0, grace_ms: Some(0) }), (8_050, pod(0, 0))],
        scarce: false,
        replicas: 1,
    },
    Workload {
        name: "a pod's address changes",
        wishes: &[(0, pod(0, 1)), (8_000, Wish::Move { at: 0 })],
        scarce: false,
        replicas: 1,
    },
    Workload {
        name: "a pod asks for other ports",
        wishes: &[(0, pod(0, 0)), (8_000, pod(0, 1)), (16_000, pod(0, 0))],
        scarce: false,
        replicas: 1,
    },
    Workload {
        name: "a pod is told not to ask, and to ask again",
        wishes: &[
            (0, pod(0, 0)),
            (8_000, Wish::Annotate { at: 0, how: 0 }),
            (20_000, Wish::Annotate { at: 0, how: 2 }),
        ],
        scarce: false,
        replicas: 1,
    },
    Workload {
        name: "a workload grows and shrinks",
        wishes: &[
            (0, Wish::Scale { replicas: 4 }),
            (8_000, Wish::Scale { replicas: 1 }),
            (16_000, Wish::Scale { replicas: 3 }),
        ],
        scarce: false,
        replicas: 1,
    },
    Workload {
        name: "a namespace is deleted",
        wishes: &[(0, pod(3, 0)), (0, pod(7, 1)), (8_000, Wish::DeleteNamespace)],
        scarce: false,
        replicas: 1,
    },
    Workload {
        name: "more pods than ports, and room comes",
        wishes: &[(0, Wish::Scale { replicas: 12 }), (12_000, Wish::Scale { replicas: 2 })],
        scarce: true,
        replicas: 1,
    },
    Workload {
        name: "a stateful workload is made anew",
        wishes: &[
            (0, Wish::ScaleSet { replicas: 3 }),
            (8_000, Wish::ScaleSet { replicas: 0 }),
            (12_000, Wish::ScaleSet { replicas: 2 }),
        ],
        scarce: false,
        replicas: 1,
    },
    Workload {
        name: "another replica takes over",
        wishes: &[(0, pod(0, 1)), (4_000, pod(1, 0))],
        scarce: false,
        replicas: 2,
    },
];

/// What is added to the crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beside {
    Nothing,
    /// Replies of the cloud are lost, too.
    LostReplies,
    /// Listings show the past, too.
    StaleReads,
}

/// What came of it.
#[derive(Default)]
pub struct Tally {
    pub points: u64,
    pub steps: u64,
    pub failed: Vec<(&'static str, u64, Violation)>,
}

/// Crashes at every `every`-th point of every workload.
pub fn enumerate(every: u64, beside: Beside) -> Tally {
    let modes = WORKLOADS.iter().flat_map(|workload| [(workload, false), (workload, true)]);
    let every = every.max(1) as usize;
    let jobs: Vec<(&Workload, bool, u64)> = modes
        .flat_map(|(workload, sled)| {
            (0..points(workload, sled)).step_by(every).map(move |point| (workload, sled, point))
        })
        .collect();
    let (next, tally) = (AtomicU64::new(0), Mutex::new(Tally::default()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((workload, sled, point)) = jobs.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
                    let (steps, violation) = crash_at(workload, *sled, *point, beside);
                    let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
                    tally.points += 1;
                    tally.steps += steps;
                    tally.failed.extend(violation.map(|violation| (workload.name, *point, violation)));
                }
            });
        }
    });
    tally.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// How many points a workload has: its steps until all is done.
fn points(workload: &Workload, sled: bool) -> u64 {
    let mut world = begin(workload, sled, Beside::Nothing);
    play(&mut world, workload, u64::MAX);
    world.steps
}

/// Runs a workload, ends the process that leads (or the first one) at a point, and lets everything come to rest. A crash
/// at an even point keeps what was written, at an odd one the power fails; what it had decided and not sent arrives at once or
/// when all is done.
pub fn crash_at(workload: &Workload, sled: bool, point: u64, beside: Beside) -> (u64, Option<Violation>) {
    let mut world = begin(workload, sled, beside);
    play(&mut world, workload, point);
    let victim = world.leader().unwrap_or(0);
    world.crash(victim, point % 2 == 1);
    if point % 4 < 2 {
        world.land_all();
    }
    play(&mut world, workload, u64::MAX);
    world.become_calm();
    world.land_all();
    converge_soon(&mut world);
    let model = world.model.clone();
    world.wishes.want_nothing(&mut model.borrow_mut());
    converge_soon(&mut world);
    nothing_left(&mut world);
    (world.steps, world.checker.violations.first().cloned())
}

fn begin(workload: &Workload, sled: bool, beside: Beside) -> World {
    let calm = Plan::calm();
    let besides = match beside {
        Beside::Nothing => None,
        Beside::LostReplies => Some(Fault::ReplyLost),
        Beside::StaleReads => Some(Fault::ReadLag),
    };
    let mut plan = Plan { replicas: workload.replicas, only: besides, sled: Some(sled), ..calm };
    if workload.scarce {
        plan.configuration = configuration(513);
    }
    World::new(plan)
}

/// Steps until the wishes are made and fulfilled, or until a step.
fn play(world: &mut World, workload: &Workload, until: u64) {
    let mut wishes = workload.wishes.iter().skip(world.wished.len()).peekable();
    while world.steps < until && world.checker.violations.is_empty() {
        while let Some((_, wish)) = wishes.next_if(|(at_ms, _)| *at_ms <= world.now.get()) {
            world.wish(wish.clone());
        }
        if wishes.peek().is_none() && world.is_quiet() {
            return;
        }
        if world.steps > STEPS_MAX {
            return crate::run::endless(world);
        }
        world.step();
    }
}
