use super::*;
use crate::machine::identity::Stamp;

fn bind(n: u64) -> Intent {
    bind_of("t", n)
}

fn bind_of(table: &str, n: u64) -> Intent {
    let stamp = Stamp { term: 1, n };
    Intent::Bind { table: table.into(), allocation: AllocationId(stamp), generation: Generation(stamp) }
}

fn unbind(entry: &str) -> Intent {
    Intent::Unbind { table: "t".into(), entry: entry.into() }
}

fn first(lanes: &mut Lanes, now_ms: u64) -> Option<Intent> {
    lanes.next(now_ms).flat_map(|(_, candidates)| candidates).next()
}

fn table() -> TableId {
    TableId::from("t")
}

/// Starts all that may start now; what that is.
fn start_all(lanes: &mut Lanes, now_ms: u64) -> Vec<Intent> {
    let next: Vec<_> = lanes.next(now_ms).collect();
    next.into_iter()
        .map(|(table, candidates)| {
            lanes.start(&table, &candidates[0]);
            candidates[0].clone()
        })
        .collect()
}

/// A lane that may learn to carry eight calls.
fn eight() -> Lanes {
    let mut lanes = Lanes::default();
    lanes.lanes.insert(table(), Lane::of(Window::up_to(8)));
    lanes
}

/// A lane that has learned to carry eight calls.
fn wide() -> Lanes {
    let mut lanes = eight();
    for n in 0..60 {
        lanes.push(bind(n)).expect("for a lane");
        lanes.start(&table(), &bind(n));
        lanes.ended(&table(), 0, None);
    }
    assert_eq!(lanes.calls_at_once(&table()), 8);
    lanes
}

#[test]
fn one_call_at_a_time_at_first_and_by_turns() {
    let mut lanes = eight();
    for intent in [bind(2), bind(1), unbind("a"), unbind("b")] {
        lanes.push(intent).expect("for a lane");
    }
    assert_eq!(start_all(&mut lanes, 0), [unbind("a")]);
    assert_eq!(first(&mut lanes, 0), None, "the lane is busy");
    lanes.ended(&table(), 0, None);
    assert_eq!(start_all(&mut lanes, 0), [bind(1), unbind("b")], "two at once, by turns");
    lanes.ended(&table(), 0, None);
    lanes.ended(&table(), 0, None);
    assert_eq!(start_all(&mut lanes, 0), [bind(2)]);
    lanes.ended(&table(), 0, None);
    assert!(lanes.is_idle());
}

#[test]
fn a_busy_table_waits_longer_each_time_and_no_less_than_it_said() {
    let mut lanes = Lanes::default();
    lanes.push(bind(1)).expect("for a lane");
    for (hint, pause) in [(None, 200), (None, 400), (Some(5_000), 5_000), (None, 1_600)] {
        lanes.start(&table(), &bind(1));
        lanes.ended(&table(), 0, Some(hint));
        lanes.push(bind(1)).expect("for a lane");
        assert_eq!((lanes.due_ms(0), first(&mut lanes, pause - 1)), (Some(pause), None));
        lanes.all = Budget::default();
        lanes.creations = Budget::default();
    }
    lanes.start(&table(), &bind(1));
    lanes.ended(&table(), 0, None);
    lanes.push(bind(1)).expect("for a lane");
    lanes.start(&table(), &bind(1));
    lanes.ended(&table(), 0, Some(None));
    lanes.push(bind(1)).expect("for a lane");
    assert_eq!(lanes.due_ms(0), Some(200), "an answer ends the growth");
}

#[test]
fn what_a_table_takes_is_learned_and_remembered() {
    let mut lanes = wide();
    for n in 100..120 {
        lanes.push(bind(n)).expect("for a lane");
    }
    let expected: Vec<Intent> = (100..108).map(bind).collect();
    assert_eq!(start_all(&mut lanes, 0), expected, "eight at once, in order");
    assert_eq!(first(&mut lanes, 0), None);
    for _ in 0..8 {
        lanes.ended(&table(), 10, Some(None));
    }
    assert_eq!(lanes.calls_at_once(&table()), 4, "one round of refusals is one");
    let due_ms = lanes.due_ms(10).expect("it goes on");
    assert_eq!(start_all(&mut lanes, due_ms).len(), 4);
}

#[test]
fn creations_and_deletions_share_the_calls_and_neither_starves() {
    let mut lanes = wide();
    for n in 100..140 {
        lanes.push(bind(n)).expect("for a lane");
        lanes.push(unbind(&format!("e{n}"))).expect("for a lane");
    }
    let (mut creations, mut deletions) = (0, 0);
    while creations < 20 {
        for intent in start_all(&mut lanes, 0) {
            if matches!(intent, Intent::Bind { .. }) {
                creations += 1
            } else {
                deletions += 1
            }
            lanes.ended(&table(), 0, None);
        }
    }
    assert!(u32::abs_diff(creations, deletions) <= 8, "{creations} creations, {deletions} deletions");
}

#[test]
fn deletions_wait_for_pending_entries_once_the_table_has_said_so() {
    let mut lanes = Lanes::default();
    lanes.push(unbind("a")).expect("for a lane");
    lanes.pending(&table(), 1);
    assert_eq!(first(&mut lanes, 0), Some(unbind("a")), "not every table minds");
    lanes.deletion_blocked(&table());
    assert_eq!((first(&mut lanes, 0), lanes.due_ms(0)), (None, None), "what ends it is an input of its own");
    lanes.push(bind(1)).expect("for a lane");
    assert_eq!(first(&mut lanes, 0), Some(bind(1)), "creations need not wait");
    lanes.pending(&table(), 0);
    assert_eq!(first(&mut lanes, 0), Some(unbind("a")));
    assert!(!lanes.is_idle());
}

#[test]
fn a_table_that_is_stuck_delays_no_other() {
    let mut lanes = Lanes::default();
    for n in 0..100 {
        lanes.push(bind_of("stuck", n)).expect("for a lane");
        lanes.push(bind_of("well", n)).expect("for a lane");
    }
    let (stuck, well) = (TableId::from("stuck"), TableId::from("well"));
    let mut done = 0;
    for now_ms in 0..2_000 {
        let next: Vec<_> = lanes.next(now_ms).collect();
        for (table, candidates) in next {
            lanes.start(&table, &candidates[0]);
            if table == well {
                done += 1;
                lanes.ended(&well, now_ms, None);
            } else {
                lanes.ended(&stuck, now_ms, Some(None));
                lanes.push(candidates[0].clone()).expect("for a lane");
            }
        }
    }
    assert_eq!(done, 100);
    assert_eq!(lanes.calls_at_once(&stuck), 1);
}

#[test]
fn flow_control_holds_all_lanes_of_that_kind_for_as_long_as_it_said() {
    let mut lanes = Lanes::default();
    for n in 0..3 {
        lanes.push(bind_of("a", n)).expect("for a lane");
        lanes.push(bind_of("b", n)).expect("for a lane");
    }
    lanes.push(unbind("e")).expect("for a lane");
    let (a, b) = (TableId::from("a"), TableId::from("b"));
    lanes.start(&a, &bind_of("a", 0));
    lanes.ended(&a, 0, Some(Some(700)));
    let open: Vec<_> = lanes.next(699).map(|(table, _)| table).collect();
    assert_eq!(open, [table()], "deletions are another action");
    assert_eq!(lanes.due_ms(699), Some(700));
    let open: Vec<_> = lanes.next(700).map(|(table, _)| table).collect();
    assert_eq!(open.iter().filter(|table| **table == a || **table == b).count(), 2);
}

#[test]
fn where_the_account_gives_less_than_is_asked_the_lanes_take_turns() {
    let mut lanes = Lanes::default();
    let names = ["a", "b", "c", "d"];
    for name in names {
        for n in 0..50 {
            lanes.push(bind_of(name, n)).expect("for a lane");
        }
    }
    // Down to a call a second.
    for moment in 0..12 {
        lanes.all.throttled(moment * 60_000, Some(0));
    }
    let mut served: BTreeMap<TableId, u32> = BTreeMap::new();
    let mut now_ms = 12 * 60_000;
    for _ in 0..40 {
        let next: Vec<_> = lanes.next(now_ms).collect();
        for (table, candidates) in next {
            lanes.start(&table, &candidates[0]);
            lanes.ended(&table, now_ms, None);
            *served.entry(table).or_default() += 1;
        }
        now_ms = lanes.due_ms(now_ms).unwrap_or(now_ms + 1);
    }
    let counts: Vec<u32> = served.values().copied().collect();
    let (least, most) = (counts.iter().min(), counts.iter().max());
    assert!(counts.len() == 4 && most.zip(least).is_some_and(|(most, least)| most - least <= 2), "{served:?}");
}
