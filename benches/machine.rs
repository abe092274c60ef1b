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

#[path = "machine/allocate.rs"]
mod allocate;
#[path = "machine/crowds.rs"]
mod crowds;
#[path = "machine/decide.rs"]
mod decide;
#[path = "machine/replay.rs"]
mod replay;
#[path = "machine/report.rs"]
mod report;
#[path = "machine/slots.rs"]
mod slots;
#[path = "machine/world.rs"]
mod world;

use self::slots::Shape;
use self::world::Layout;

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

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |word: &str| arguments.iter().any(|argument| argument == word);
    let size = if has("--test") { SHOWN } else { MEASURED };
    let parts = ["allocate", "decide", "replay", "memory", "crowds"];
    let all = !parts.into_iter().any(has);
    let mut figures = Vec::new();
    if all || has("allocate") {
        figures.extend(allocate::allocate(&size));
    }
    if all || has("decide") {
        figures.extend(decide::decide(&size));
    }
    if all || has("replay") {
        figures.push(replay::replay(size.records));
    }
    if all || has("memory") {
        figures.push(crowds::memory(size.pods[1]));
    }
    if all || has("crowds") {
        figures.extend([crowds::arrival(size.crowd), crowds::storm(size.crowd / 2)]);
    }
    println!();
    figures.iter().for_each(|figure| println!("{figure}"));
}
