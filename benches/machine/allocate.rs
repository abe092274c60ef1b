//! [allocate]: a port released and another one allocated, by the machine's allocator and by those of its peers.

use std::time::Instant;

use crate::Size;
use crate::report::{Reach, figure, ns, percentile};
use crate::slots::{Dice, MapScan, Ours, RandomStart, Shape, Slot, Slots};

/// Pairs in a batch: the clock is read once for all of them.
const BATCH: usize = 256;

const PAIR_P99_NS: f64 = 1_000.0;
const GROWTH_MAX: f64 = 1.5;

/// One way to hand out ports, filled, with what is taken and what was measured.
pub struct Arm {
    slots: Box<dyn Slots>,
    held: Vec<Slot>,
    batch: usize,
    dice: Dice,
    /// Nanoseconds a pair: means of batches, and pairs alone.
    batches: Vec<f64>,
    singles: Vec<f64>,
}

impl Arm {
    pub fn new(mut slots: Box<dyn Slots>, taken: usize, batch: usize) -> Self {
        let held = slots.fill(taken);
        Self { slots, held, batch, dice: Dice(7), batches: Vec::new(), singles: Vec::new() }
    }

    /// Releases so many drawn slots, each followed by an allocation. Only that is timed.
    pub fn pairs(&mut self, count: usize) -> f64 {
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

pub fn allocate(size: &Size) -> Vec<String> {
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
