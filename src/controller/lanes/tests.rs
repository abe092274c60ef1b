use super::*;
use crate::machine::identity::Stamp;

fn bind(n: u64) -> Intent {
    bind_of("t", n)
}

fn bind_of(table: &str, n: u64) -> Intent {
    let stamp = Stamp { term: 1, n };
    Intent::Bind { table: table.into(), allocation: AllocationId::from(stamp), generation: Generation::from(stamp) }
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

/// A lane that has learned to carry eight calls.
fn wide() -> Lanes {
    let mut lanes = Lanes::default();
    for n in 0..60 {
        lanes.push(bind(n)).expect("for a lane");
        lanes.start(&table(), &bind(n));
        lanes.ended(&table(), &bind(0), 0, Said::Well);
    }
    assert_eq!(lanes.calls_at_once(&table()), 8);
    lanes
}

#[test]
fn one_call_at_a_time_at_first_and_by_turns() {
    let mut lanes = Lanes::default();
    for intent in [bind(2), bind(1), unbind("a"), unbind("b")] {
        lanes.push(intent).expect("for a lane");
    }
    assert_eq!(start_all(&mut lanes, 0), [unbind("a")]);
    assert_eq!(first(&mut lanes, 0), None, "the lane is busy");
    lanes.ended(&table(), &unbind("a"), 0, Said::Well);
    assert_eq!(start_all(&mut lanes, 0), [bind(1), unbind("b")], "two at once, by turns");
    assert!(lanes.is_creating(&table()) && lanes.is_calling(&table()));
    lanes.ended(&table(), &bind(1), 0, Said::Well);
    assert!(!lanes.is_creating(&table()) && lanes.is_calling(&table()), "what ended was the creation");
    lanes.ended(&table(), &unbind("b"), 0, Said::Well);
    assert_eq!(start_all(&mut lanes, 0), [bind(2)]);
    lanes.ended(&table(), &bind(2), 0, Said::Well);
    assert!(lanes.is_idle());
}

#[test]
fn a_busy_table_waits_longer_each_time_and_no_less_than_it_said() {
    let mut lanes = Lanes::default();
    lanes.push(bind(1)).expect("for a lane");
    let mut now_ms = 0;
    for (said, pause) in [
        (Said::Busy, 200),
        (Said::Running, 400),
        (Said::Throttled(FlowControl::Action, Some(5_000)), 5_000),
        (Said::Busy, 1_600),
    ] {
        lanes.start(&table(), &bind(1));
        lanes.ended(&table(), &bind(1), now_ms, said);
        lanes.push(bind(1)).expect("for a lane");
        assert_eq!((lanes.due_ms(now_ms), first(&mut lanes, now_ms + pause - 1)), (Some(now_ms + pause), None));
        now_ms += pause;
        lanes.account.forget();
    }
    // The answer lets two calls at once be tried, which a refusal ends without a pause.
    for said in [Said::Well, Said::Busy, Said::Busy] {
        assert_eq!(first(&mut lanes, now_ms), Some(bind(1)));
        lanes.start(&table(), &bind(1));
        lanes.ended(&table(), &bind(1), now_ms, said);
        lanes.push(bind(1)).expect("for a lane");
    }
    assert_eq!(lanes.due_ms(now_ms), Some(now_ms + 200), "an answer ends the growth");
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
        lanes.ended(&table(), &bind(0), 10, Said::Busy);
    }
    assert_eq!(lanes.calls_at_once(&table()), 4, "one round of refusals is one");
    assert_eq!(start_all(&mut lanes, 10).len(), 4, "fewer at once, without a pause");
    for _ in 0..3 {
        let calls = lanes.calls_at_once(&table());
        (0..calls).for_each(|_| lanes.ended(&table(), &bind(0), 20, Said::Busy));
        let started = start_all(&mut lanes, 20).len();
        assert!(started == usize::try_from(calls / 2).expect("few"), "{started} of {calls}");
    }
    assert_eq!(lanes.due_ms(20), Some(220), "a pause where even one is too many");
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
            lanes.ended(&table(), &intent, 0, Said::Well);
        }
    }
    assert!(u32::abs_diff(creations, deletions) <= 8, "{creations} creations, {deletions} deletions");
}

#[test]
fn deletions_wait_for_pending_entries_once_the_table_has_said_so() {
    let mut lanes = Lanes::default();
    lanes.push(unbind("a")).expect("for a lane");
    lanes.pending(&table(), 1);
    assert_eq!(start_all(&mut lanes, 0), [unbind("a")], "not every table minds");
    lanes.ended(&table(), &unbind("a"), 0, Said::Pending);
    lanes.push(unbind("a")).expect("for a lane");
    lanes.pending(&table(), 1);
    assert_eq!(lanes.minding(), [table()]);
    assert_eq!(first(&mut lanes, 400), None);
    lanes.push(bind(1)).expect("for a lane");
    assert_eq!(first(&mut lanes, 400), None, "nothing more becomes Pending while the deletion waits for that to end");
    lanes.pending(&table(), 0);
    assert_eq!(first(&mut lanes, 400), Some(unbind("a")), "at once when nothing is Pending");
    assert!(!lanes.is_idle());
}

/// A table that deletes nothing while an entry is Pending, for half a second each, as in the model; calls take 50 ms.
/// Says how long the longest deletion waited, and how many of each were done in that time.
fn churn(creations: u64, deletions: u64, stuck: bool) -> (u64, u64, u64) {
    let mut lanes = wide();
    let (mut under_way, mut pending): (Vec<(u64, Intent, bool)>, Vec<u64>) = (Vec::new(), Vec::new());
    (100..100 + creations).for_each(|n| lanes.push(bind(n)).expect("for a lane"));
    (0..deletions).for_each(|n| lanes.push(unbind(&format!("e{n:04}"))).expect("for a lane"));
    let (mut longest_ms, mut created, mut deleted) = (0, 0, 0);
    for now_ms in 0..30_000 {
        pending.retain(|until_ms| *until_ms > now_ms);
        let (ended, rest): (Vec<_>, Vec<_>) = under_way.into_iter().partition(|(at_ms, ..)| *at_ms <= now_ms);
        under_way = rest;
        for (_, intent, blocked) in ended {
            let said = if blocked { Said::Pending } else { Said::Well };
            lanes.ended(&table(), &intent, now_ms, said);
            match intent {
                Intent::Bind { .. } => created += 1,
                other if blocked => lanes.push(other).expect("for a lane"),
                _ => (longest_ms, deleted) = (now_ms, deleted + 1),
            }
        }
        // Listings tell of it every 200 ms.
        if now_ms % 200 == 0 {
            lanes.pending(&table(), pending.len() + usize::from(stuck));
        }
        for intent in start_all(&mut lanes, now_ms) {
            let blocked = matches!(intent, Intent::Unbind { .. }) && (stuck || !pending.is_empty());
            if matches!(intent, Intent::Bind { .. }) {
                pending.push(now_ms + 500);
            }
            under_way.push((now_ms + 50, intent, blocked));
        }
    }
    (longest_ms, created, deleted)
}

#[test]
fn where_pending_entries_block_deletions_both_go_on_by_turns() {
    let (longest_ms, created, deleted) = churn(500, 200, false);
    assert_eq!((created, deleted), (500, 200));
    // A turn of creations, the wait for what they made, and a turn of deletions, for every 80 of them.
    assert!(longest_ms <= 6_000, "{longest_ms} ms");
}

#[test]
fn an_entry_that_stays_pending_holds_creations_only_for_moments() {
    let (_, created, deleted) = churn(1_500, 5, true);
    assert_eq!((created, deleted), (1_500, 0));
}

#[test]
fn what_a_full_table_refused_stops_creations_until_that_is_told() {
    let mut lanes = wide();
    lanes.push(bind(100)).expect("for a lane");
    lanes.push(unbind("a")).expect("for a lane");
    lanes.full(&table(), true);
    assert_eq!(start_all(&mut lanes, 0), [unbind("a")]);
    lanes.full(&table(), false);
    assert_eq!(start_all(&mut lanes, 0), [bind(100)]);
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
                lanes.ended(&well, &candidates[0], now_ms, Said::Well);
            } else {
                lanes.ended(&stuck, &candidates[0], now_ms, Said::Busy);
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
    lanes.ended(&a, &bind_of("a", 0), 0, Said::Throttled(FlowControl::Action, Some(700)));
    let open: Vec<_> = lanes.next(699).map(|(table, _)| table).collect();
    assert_eq!(open, [table()], "deletions are another action");
    assert_eq!(lanes.due_ms(699), Some(700));
    let open: Vec<_> = lanes.next(700).map(|(table, _)| table).collect();
    assert_eq!(open.iter().filter(|table| **table == a || **table == b).count(), 2);
}

const ENTRIES: Option<Draw> = Some((Reading::Entries, 1));

#[test]
fn flow_control_of_an_action_stops_that_action_and_that_of_the_account_stops_everything() {
    for throttled in Reading::ALL {
        let mut lanes = Lanes::default();
        lanes.push(bind_of("a", 0)).expect("for a lane");
        assert!(lanes.read(0, Some((throttled, 1))).is_some());
        lanes.read_throttled(0, throttled, FlowControl::Action, Some(700));
        assert_eq!(lanes.read(699, Some((throttled, 1))), None);
        assert_eq!(lanes.reads_ms(10, Some((throttled, 1))), 700);
        for other in Reading::ALL.into_iter().filter(|other| *other != throttled) {
            assert!(lanes.read(10, Some((other, 1))).is_some(), "{other:?} is another action than {throttled:?}");
        }
        assert_eq!(lanes.next(10).count(), 1, "creations are another action");
        assert!(lanes.read(700, Some((throttled, 1))).is_some());
        lanes.read_throttled(900, throttled, FlowControl::Account, Some(500));
        for any in Reading::ALL {
            assert_eq!(lanes.read(1_399, Some((any, 1))), None);
        }
        assert_eq!((lanes.next(1_399).count(), lanes.due_ms(1_000)), (0, Some(1_400)));
        assert!(lanes.read(1_400, ENTRIES).is_some());
    }
    let mut lanes = Lanes::default();
    lanes.push(bind_of("a", 0)).expect("for a lane");
    let table = TableId::from("a");
    lanes.start(&table, &bind_of("a", 0));
    lanes.ended(&table, &bind_of("a", 0), 2_000, Said::Throttled(FlowControl::Account, None));
    assert_eq!(lanes.read(2_999, ENTRIES), None);
    assert!(lanes.read(3_000, ENTRIES).is_some());
}

#[test]
fn a_reading_draws_for_each_page_and_is_settled_at_its_end() {
    let mut lanes = Lanes::default();
    assert_eq!(lanes.read(0, Some((Reading::Entries, 1_000))), Some(false));
    assert_eq!(lanes.read(0, ENTRIES), Some(true), "1,001 calls at once, and no more");
    assert_eq!(lanes.read(0, Some((Reading::Eips, 1))), None, "all actions draw from what the account takes");
    lanes.was_read(Reading::Entries, 800, 1_000);
    assert_eq!(lanes.read(0, Some((Reading::Eips, 1))), Some(false), "what was not called is there again");
    lanes.was_read(Reading::Entries, 1_001, 1);
    assert_eq!(lanes.read(200, Some((Reading::Eips, 1))), None, "and what was called besides is paid");
    assert!(lanes.read(202, Some((Reading::Eips, 1))).is_some());
}

/// An account that takes a call a second. Each second whoever comes first takes it: a table that is always due, with so many
/// pages, and creations that never end. Says the calls of both after an hour.
fn shared(pages: u32) -> (u32, u32) {
    let mut lanes = Lanes::default();
    for moment in 0..12 {
        lanes.account.throttled(Kind::Creation, FlowControl::Account, moment * 60_000, Some(0));
    }
    (0..10_000).for_each(|n| lanes.push(bind(n)).expect("for a lane"));
    let (mut read, mut created) = (0, 0);
    for now_ms in (720_000..4_320_000).step_by(100) {
        for reads in [lanes.reads_first(), !lanes.reads_first()] {
            if reads {
                read += lanes.read(now_ms, Some((Reading::Entries, pages))).map_or(0, |_| pages);
            } else {
                created += u32::try_from(start_all(&mut lanes, now_ms).len()).expect("few");
                (0..lanes.lanes[&table()].creating).for_each(|_| {
                    // It neither widens the window nor the rate.
                    lanes.lanes.get_mut(&table()).expect("there").creating -= 1;
                });
            }
        }
    }
    (read, created)
}

#[test]
fn readings_and_changes_share_the_calls_of_a_slow_account_and_neither_starves() {
    for pages in [1, 2, 7, 30] {
        let (read, created) = shared(pages);
        assert!(read + created >= 3_500, "{read} of {pages} pages and {created} of 3,600 calls");
        assert!(u32::abs_diff(read, created) <= 2 * pages, "{read} of {pages} pages, {created} creations");
    }
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
        lanes.account.throttled(Kind::Creation, FlowControl::Account, moment * 60_000, Some(0));
    }
    let mut served: BTreeMap<TableId, u32> = BTreeMap::new();
    let mut now_ms = 12 * 60_000;
    for _ in 0..40 {
        let next: Vec<_> = lanes.next(now_ms).collect();
        for (table, candidates) in next {
            lanes.start(&table, &candidates[0]);
            lanes.ended(&table, &candidates[0], now_ms, Said::Well);
            *served.entry(table).or_default() += 1;
        }
        now_ms = lanes.due_ms(now_ms).unwrap_or(now_ms + 1);
    }
    let counts: Vec<u32> = served.values().copied().collect();
    let (least, most) = (counts.iter().min(), counts.iter().max());
    assert!(counts.len() == 4 && most.zip(least).is_some_and(|(most, least)| most - least <= 2), "{served:?}");
}
