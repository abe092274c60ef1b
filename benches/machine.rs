//! What the machine costs, each figure beside its yardstick in the same run (design.md §9): [allocate], [decide],
//! [replay], [memory]; and beside them how long it thinks about 100,000 pods that arrive at once, and about 50,000 that
//! go while as many wait.
//!
//! `cargo bench --no-default-features --bench machine` measures; after `-- allocate`, `decide`, `replay`, `memory` or
//! `crowds` only that part; with `--test` it only shows that it could.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    clippy::disallowed_methods,
    unreachable_pub,
    missing_docs,
    reason = "a bench reads the clock, and fails by panicking where it cannot measure"
)]

#[path = "machine/slots.rs"]
mod slots;
#[path = "machine/world.rs"]
mod world;

use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use natgw::machine::event::{Event, Record, codec};
use natgw::machine::state::State;
use natgw_journal::{Journal, JournalId, Opened};
use rustix::fs::{Advice, fadvise};

use self::slots::{Dice, MapScan, Ours, RandomStart, Shape, Slot, Slots};
use self::world::{COOLDOWN_MS, Cost, Layout, World};

struct Size {
    shapes: &'static [Shape],
    /// Rounds of alternating arms, and pairs timed one by one.
    rounds: usize,
    singles: usize,
    /// Pods in the small and in the large cluster, and of them those that go and come again.
    pods: [u32; 2],
    churn: u32,
    /// Records that are replayed, at the least.
    records: usize,
    crowd: u32,
}

const SHAPES: [Shape; 3] =
    [Shape { eips: 1, ports: 64_512 }, Shape { eips: 20, ports: 512 }, Shape { eips: 100, ports: 10_000 }];
const MEASURED: Size = Size {
    shapes: &SHAPES,
    rounds: 40,
    singles: 20_000,
    pods: [1_000, 100_000],
    churn: 5_000,
    records: 1_000_000,
    crowd: 100_000,
};
const SHOWN: Size = Size {
    shapes: &[Shape { eips: 1, ports: 128 }, Shape { eips: 2, ports: 64 }, Shape { eips: 4, ports: 128 }],
    rounds: 2,
    singles: 20,
    pods: [50, 100],
    churn: 10,
    records: 2_000,
    crowd: 200,
};

/// Room for 500,000 pods of two ports.
const LAYOUT: Layout = Layout { gateways: 5, eips: 20, ports: 10_000 };

/// Pairs in a batch: the clock is read once for all of them.
const BATCH: usize = 256;

const PAIR_P99_NS: f64 = 1_000.0;
const DECIDE_P99_US: f64 = 10.0;
const GROWTH_MAX: f64 = 1.5;
const DEARER_MAX: f64 = 1.3;
const REPLAY_MIN: f64 = 0.6;
const BYTES_MAX: f64 = 1_024.0;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |word: &str| arguments.iter().any(|argument| argument == word);
    let size = if has("--test") { SHOWN } else { MEASURED };
    let parts = ["allocate", "decide", "replay", "memory", "crowds"];
    let all = !parts.into_iter().any(has);
    let mut figures = Vec::new();
    if all || has("allocate") {
        figures.extend(allocate(&size));
    }
    if all || has("decide") {
        figures.extend(decide(&size));
    }
    if all || has("replay") {
        figures.push(replay(size.records));
    }
    if all || has("memory") {
        figures.push(memory(size.pods[1]));
    }
    if all || has("crowds") {
        figures.extend([arrival(size.crowd), storm(size.crowd / 2)]);
    }
    println!();
    figures.iter().for_each(|figure| println!("{figure}"));
}

/// What a figure is to reach.
enum Reach {
    AtMost(f64),
    AtLeast(f64),
    Told,
}

fn figure(name: &str, value: f64, unit: &str, yardstick: Option<f64>, reach: &Reach) -> String {
    let yardstick = yardstick.map_or_else(|| "-".to_owned(), |value| format!("{value:.3}"));
    let (bound, met) = match reach {
        Reach::AtMost(bound) => (bound.to_string(), value <= *bound),
        Reach::AtLeast(bound) => (bound.to_string(), value >= *bound),
        Reach::Told => ("-".to_owned(), true),
    };
    format!("figure {name} {value:.3} {unit} yardstick {yardstick} reach {bound} {}", if met { "ok" } else { "short" })
}

fn percentile(values: &[f64], hundredths: usize) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[(values.len() * hundredths / 100).min(values.len() - 1)]
}

fn ns(took: Duration) -> f64 {
    took.as_nanos() as f64
}

/// One way to hand out ports, filled, with what is taken and what was measured.
struct Arm {
    slots: Box<dyn Slots>,
    held: Vec<Slot>,
    batch: usize,
    dice: Dice,
    /// Nanoseconds a pair: means of batches, and pairs alone.
    batches: Vec<f64>,
    singles: Vec<f64>,
}

impl Arm {
    fn new(mut slots: Box<dyn Slots>, taken: usize, batch: usize) -> Self {
        let held = slots.fill(taken);
        Self { slots, held, batch, dice: Dice(7), batches: Vec::new(), singles: Vec::new() }
    }

    /// Releases so many drawn slots, each followed by an allocation. Only that is timed.
    fn pairs(&mut self, count: usize) -> f64 {
        let start = self.dice.below(self.held.len());
        let stride = self.held.len() / count;
        let places: Vec<usize> = (0..count).map(|n| (start + n * stride.max(1)) % self.held.len()).collect();
        let victims: Vec<Slot> = places.iter().map(|place| self.held[*place]).collect();
        let mut given = Vec::with_capacity(count);
        let began = Instant::now();
        for victim in &victims {
            self.slots.release(*victim);
            given.push(self.slots.allocate());
        }
        let took = ns(began.elapsed()) / count as f64;
        for (place, slot) in places.iter().zip(given) {
            self.held[*place] = slot;
        }
        // Who is let go together is mixed up.
        for place in places {
            let other = self.dice.below(self.held.len());
            self.held.swap(place, other);
        }
        took
    }

    fn median(&self) -> f64 {
        percentile(&self.batches, 50)
    }
}

/// What was measured of one shape at one fill.
struct Filled {
    median: f64,
    bitmap: f64,
    map: f64,
}

fn filled(shape: Shape, percent: usize, size: &Size, figures: &mut Vec<String>) -> Filled {
    let taken = shape.slots() * percent / 100;
    let batch = BATCH.min(taken);
    let map_batch = if shape.slots() > 20_000 { 1 } else { batch };
    let mut arms = [
        Arm::new(Box::new(Ours::new(shape)), taken, batch),
        Arm::new(Box::new(RandomStart::new(shape)), taken, batch),
        Arm::new(Box::new(MapScan::new(shape)), taken, map_batch),
    ];
    // The order in which ports are taken settles.
    for arm in &mut arms[..2] {
        for _ in 0..size.singles {
            arm.pairs(1);
        }
    }
    for _ in 0..size.rounds {
        for arm in &mut arms {
            // The caches are the arm's own when it is timed.
            arm.pairs(arm.batch);
            let took = arm.pairs(arm.batch);
            arm.batches.push(took);
        }
    }
    for _ in 0..size.singles {
        for arm in &mut arms[..2] {
            let took = arm.pairs(1);
            arm.singles.push(took);
        }
    }
    let [ours, bitmap, map] = &arms;
    let p99 = |arm: &Arm| percentile(&arm.singles, 99);
    println!(
        "allocate {} {percent} %: a pair {:.0} ns, p99 {:.0} ns; bitmap from a random start {:.0} ns, p99 {:.0} ns; \
         first fit over a map {:.0} ns",
        shape.name(),
        ours.median(),
        p99(ours),
        bitmap.median(),
        p99(bitmap),
        map.median()
    );
    let name = format!("allocate.{}.{percent}.p99", shape.name());
    figures.push(figure(&name, p99(ours), "ns", Some(p99(bitmap)), &Reach::AtMost(PAIR_P99_NS)));
    Filled { median: ours.median(), bitmap: bitmap.median(), map: map.median() }
}

fn allocate(size: &Size) -> Vec<String> {
    let mut figures = Vec::new();
    let mut fullest = Vec::new();
    for shape in size.shapes {
        let [half, _, full] = [50, 90, 99].map(|percent| filled(*shape, percent, size, &mut figures));
        let name = format!("allocate.{}.fuller", shape.name());
        figures.push(figure(&name, full.median / half.median, "times", None, &Reach::AtMost(GROWTH_MAX)));
        let name = format!("allocate.{}.last", shape.name());
        figures.push(figure(&name, last_to_first(*shape, size.rounds), "times", None, &Reach::AtMost(GROWTH_MAX)));
        fullest.push(full);
    }
    // 20 × 512 against 100 × 10,000.
    let (small, large) = (&fullest[1], &fullest[2]);
    let larger = large.median / small.median;
    figures.push(figure("allocate.larger", larger, "times", None, &Reach::AtMost(GROWTH_MAX)));
    for (name, peer, bound) in [("bitmap", large.bitmap, 10.0), ("map", large.map, 1_000.0)] {
        let faster = peer / large.median;
        figures.push(figure(&format!("allocate.{name}"), faster, "times", Some(peer), &Reach::AtLeast(bound)));
    }
    figures
}

/// How much longer the last free port takes than the first, released and allocated.
fn last_to_first(shape: Shape, rounds: usize) -> f64 {
    let mut empty = Arm::new(Box::new(Ours::new(shape)), 1, 1);
    let mut full = Arm::new(Box::new(Ours::new(shape)), shape.slots(), 1);
    // The same slot again and again: a batch without batch's spread.
    let pairs = |arm: &mut Arm| {
        let place = arm.dice.below(arm.held.len());
        let began = Instant::now();
        for _ in 0..BATCH {
            arm.slots.release(arm.held[place]);
            arm.held[place] = arm.slots.allocate();
        }
        ns(began.elapsed()) / BATCH as f64
    };
    let (mut first, mut last) = (Vec::new(), Vec::new());
    for _ in 0..rounds.max(10) {
        first.push(pairs(&mut empty));
        last.push(pairs(&mut full));
    }
    percentile(&last, 50) / percentile(&first, 50)
}

/// A cluster of so many pods, all of them mapped.
fn mapped(pods: u32, kept: Option<Vec<Record>>) -> World {
    let mut world = World::new(LAYOUT, kept);
    for n in 0..pods {
        world.come(n);
        world.settle();
    }
    world
}

/// What the churn costs in a cluster of so many pods: an event in look-ups and heap allocations, and the decisions of
/// each pair in microseconds.
struct Churned {
    cost: Cost,
    pairs: Vec<f64>,
    event_ns: f64,
}

fn churn(pods: u32, churn: u32) -> Churned {
    let mut world = mapped(pods, None);
    let mut dice = Dice(3);
    world.cost = Cost::default();
    let (mut pairs, mut there) = (Vec::new(), (0..pods).collect::<Vec<_>>());
    let began = Instant::now();
    for n in pods..pods + churn {
        let place = dice.below(there.len());
        world.go(there[place]);
        let release = decided(&mut world, |event| matches!(event, Event::ReleaseDecided(_)));
        world.settle();
        world.now_ms += COOLDOWN_MS;
        world.settle();
        there[place] = n;
        world.come(n);
        let allocation = decided(&mut world, |event| matches!(event, Event::Allocated(_)));
        world.settle();
        pairs.push(release + allocation);
    }
    let event_ns = ns(began.elapsed()) / world.cost.events as f64;
    Churned { cost: world.cost, pairs, event_ns }
}

/// Decides and applies, which is timed, and is the decision that is expected; in microseconds.
fn decided(world: &mut World, expected: impl Fn(&Event) -> bool) -> f64 {
    let began = Instant::now();
    let event = world.state.decide(world.now_ms).unwrap();
    let deciding = began.elapsed();
    assert!(expected(&event), "{event:?}");
    let record = world.next(event);
    let began = Instant::now();
    world.state.apply(&record).unwrap();
    ns(deciding + began.elapsed()) / 1_000.0
}

fn decide(size: &Size) -> Vec<String> {
    let [small, large] = size.pods.map(|pods| churn(pods, size.churn));
    let shape = Shape { eips: 100, ports: 10_000 };
    let mut bare = Arm::new(Box::new(Ours::new(shape)), size.pods[1] as usize * 2, 1);
    let bare: Vec<f64> = (0..size.churn).map(|_| bare.pairs(1) / 1_000.0).collect();
    let an_event = |churned: &Churned, count: u64| count as f64 / churned.cost.events as f64;
    for (pods, churned) in size.pods.into_iter().zip([&small, &large]) {
        println!(
            "decide: {pods} pods: the decisions of a pair {:.2} us, p99 {:.2} us; an event {:.0} ns, {:.1} look-ups, {:.1} heap \
             allocations ({} events)",
            percentile(&churned.pairs, 50),
            percentile(&churned.pairs, 99),
            churned.event_ns,
            an_event(churned, churned.cost.touched),
            an_event(churned, churned.cost.allocations),
            churned.cost.events
        );
    }
    println!("decide: the bare allocator {:.2} us, p99 {:.2} us", percentile(&bare, 50), percentile(&bare, 99));
    let dearer = |count: fn(&Cost) -> u64| an_event(&large, count(&large.cost)) / an_event(&small, count(&small.cost));
    let p99 = percentile(&large.pairs, 99);
    vec![
        figure("decide.p99", p99, "us", Some(percentile(&bare, 99)), &Reach::AtMost(DECIDE_P99_US)),
        figure("decide.median", percentile(&large.pairs, 50), "us", Some(percentile(&bare, 50)), &Reach::Told),
        figure("decide.lookups", dearer(|cost| cost.touched), "times", None, &Reach::AtMost(DEARER_MAX)),
        figure("decide.allocations", dearer(|cost| cost.allocations), "times", None, &Reach::AtMost(DEARER_MAX)),
    ]
}

const JOURNAL: JournalId = JournalId([1; 16]);
/// Entries in a group, and records decoded before they are folded.
const GROUP: usize = 1_024;

/// Opening a cold journal, checking, decoding and folding it; beside folding the same records already decoded.
fn replay(records: usize) -> String {
    let root = tempfile::tempdir().unwrap();
    let (written, digest) = fill(root.path(), records);
    let (mut cold, mut folding) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        forget_pages(root.path());
        let began = Instant::now();
        let journal = opened(root.path());
        let mut state = State::default();
        journal
            .entries(1)
            .for_each_entry(|seq, bytes| state.apply(&codec::decode(seq, bytes).unwrap()).unwrap())
            .unwrap();
        cold.push(began.elapsed().as_secs_f64());
        assert_eq!((state.seq() as usize, state.digest()), (written, digest));
        drop(state);
        folding.push(fold_decoded(&journal, digest));
        journal.close().unwrap();
    }
    let rate = |times: &[f64]| written as f64 / percentile(times, 50);
    println!("replay {written} records: cold {cold:.2?} s, folding alone {folding:.2?} s");
    let yardstick = rate(&folding);
    let reach = Reach::AtLeast((yardstick * REPLAY_MIN).round());
    figure("replay", rate(&cold), "records/s", Some(yardstick), &reach)
}

/// Lives of pods until there are so many records, in a journal.
fn fill(dir: &Path, records: usize) -> (usize, [u8; 32]) {
    let mut journal = opened(dir);
    let mut world = World::new(LAYOUT, Some(Vec::new()));
    let (mut came, mut went) = (0, 0);
    let lives = u32::try_from(records / 40).unwrap();
    while (world.state.seq() as usize) < records {
        world.come(came);
        came += 1;
        if came > lives {
            world.go(went);
            went += 1;
        }
        world.now_ms += 10;
        world.settle();
        let kept = world.kept.as_mut().unwrap();
        if kept.len() >= GROUP {
            let group: Vec<_> = kept.drain(..GROUP).map(|record| codec::encode(&record).unwrap()).collect();
            journal.append(&group).unwrap();
        }
    }
    let rest = world.kept.take().unwrap();
    for group in rest.chunks(GROUP) {
        journal.append(&group.iter().map(|record| codec::encode(record).unwrap()).collect::<Vec<_>>()).unwrap();
    }
    journal.close().unwrap();
    (world.state.seq() as usize, world.state.digest())
}

fn opened(dir: &Path) -> Journal {
    match Journal::open(dir, JOURNAL, &[]).unwrap() {
        Opened::Fresh(journal) | Opened::Continued(journal) => journal,
        Opened::Damaged { verdict, .. } => panic!("{verdict}"),
    }
}

/// Seconds for folding alone: records are decoded a group at a time, untimed.
fn fold_decoded(journal: &Journal, digest: [u8; 32]) -> f64 {
    let (mut state, mut group, mut took) = (State::default(), Vec::with_capacity(GROUP), Duration::ZERO);
    let mut fold = |group: &mut Vec<Record>| {
        let began = Instant::now();
        group.drain(..).for_each(|record| state.apply(&record).unwrap());
        took += began.elapsed();
    };
    journal
        .entries(1)
        .for_each_entry(|seq, bytes| {
            group.push(codec::decode(seq, bytes).unwrap());
            if group.len() == GROUP {
                fold(&mut group);
            }
        })
        .unwrap();
    fold(&mut group);
    assert_eq!(state.digest(), digest);
    took.as_secs_f64()
}

/// Makes the kernel drop what it has of the files in memory.
fn forget_pages(dir: &Path) {
    for file in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
        if file.file_type().unwrap().is_dir() {
            forget_pages(&file.path());
        } else {
            let file = File::open(file.path()).unwrap();
            file.sync_all().unwrap();
            fadvise(&file, 0, None, Advice::DontNeed).unwrap();
        }
    }
}

/// What the heap gets back when the state goes.
fn memory(pods: u32) -> String {
    let freed = |state: State| -allocation_counter::measure(|| drop(state)).bytes_current;
    let bare = freed(World::new(LAYOUT, None).state);
    let all = freed(mapped(pods, None).state);
    println!("memory: {pods} pods of 2 ports: {all} bytes, of which {bare} are there without any pod");
    figure("memory", all as f64 / f64::from(pods), "bytes/pod", None, &Reach::AtMost(BYTES_MAX))
}

/// So many pods at once: until each has its ports.
fn arrival(pods: u32) -> String {
    let mut world = World::new(LAYOUT, None);
    let began = Instant::now();
    for n in 0..pods {
        world.come(n);
    }
    let seen = began.elapsed();
    while let Some(event) = world.decide() {
        world.record(event);
    }
    let took = began.elapsed();
    assert_eq!(world.state.allocations().count(), pods as usize);
    world.settle();
    println!(
        "{pods} pods arrive: seen in {seen:.2?}, all decided after {took:.2?}, all mapped after {:.2?}",
        began.elapsed()
    );
    figure("crowds.arrival", took.as_secs_f64() * 1e6 / f64::from(pods), "us/pod", None, &Reach::Told)
}

/// So many pods wait for the ports of as many that are mapped, which then all go at once.
fn storm(waiters: u32) -> String {
    let ports = u16::try_from(waiters.div_ceil(10).max(4) * 2).unwrap();
    let full = Layout { gateways: 2, eips: 5, ports };
    let mut world = World::new(full, None);
    let fits = u32::from(full.gateways) * u32::from(full.eips) * u32::from(full.ports) / 2;
    for n in 0..fits + waiters {
        world.come(n);
    }
    world.settle();
    assert_eq!(world.state.allocations().count(), fits as usize);
    (world.cost, world.now_ms) = (Cost::default(), world.now_ms + COOLDOWN_MS);
    let began = Instant::now();
    for n in 0..fits {
        world.go(n);
    }
    world.settle();
    world.now_ms += COOLDOWN_MS;
    while let Some(event) = world.decide() {
        world.record(event);
    }
    let took = began.elapsed();
    assert_eq!(world.state.allocations().count(), waiters.min(fits) as usize);
    println!(
        "{fits} pods go while {waiters} wait: all that waited have ports after {took:.2?}; {} events, {:.1} look-ups each",
        world.cost.events,
        world.cost.touched as f64 / world.cost.events as f64
    );
    figure("crowds.storm", took.as_secs_f64() * 1e6 / f64::from(waiters), "us/waiter", None, &Reach::Told)
}
