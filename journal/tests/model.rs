//! The journal against a list in memory: random groups, settles, clean and unclean stops, re-openings.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, its helpers too")]

use std::path::Path;

use natgw_journal::{ENTRY_BYTES_MAX, Head, Journal, JournalId, Opened, read_copy};
use proptest::collection::vec;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Append(Vec<(usize, u8)>),
    Settle,
    Close,
    Drop,
}

fn step() -> impl Strategy<Value = Step> {
    let entry = (prop_oneof![4 => 1_usize..80, 1 => 1..=ENTRY_BYTES_MAX], any::<u8>());
    prop_oneof![
        8 => vec(entry, 1..40).prop_map(Step::Append),
        1 => Just(Step::Settle),
        1 => Just(Step::Close),
        1 => Just(Step::Drop),
    ]
}

fn open(dir: &Path, external: &[(JournalId, Head)], fresh: bool) -> Journal {
    match (Journal::open(dir, JournalId([1; 16]), external).unwrap(), fresh) {
        (Opened::Fresh(journal), true) | (Opened::Continued(journal), false) => journal,
        other => panic!("{other:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_journal_is_a_list(steps in vec(step(), 1..30)) {
        let dir = tempfile::tempdir().unwrap();
        let (mut model, mut heads) = (Vec::<Vec<u8>>::new(), Vec::new());
        let mut journal = open(dir.path(), &[], true);
        let id = journal.id();
        for step in steps {
            match step {
                Step::Append(entries) => {
                    let group: Vec<Vec<u8>> = entries.iter().map(|(length, byte)| vec![*byte; *length]).collect();
                    let head = journal.append(&group).unwrap();
                    model.extend(group);
                    prop_assert_eq!(head, journal.head());
                    heads.push((id, head));
                }
                Step::Settle => journal.settle().unwrap(),
                Step::Close => {
                    journal.close().unwrap();
                    journal = open(dir.path(), &heads, model.is_empty());
                }
                Step::Drop => {
                    drop(journal);
                    journal = open(dir.path(), &heads, model.is_empty());
                }
            }
            prop_assert_eq!(journal.head().seq, model.len() as u64);
            prop_assert_eq!(journal.head(), heads.last().map_or_else(|| journal.head(), |(_, head)| *head));
        }
        let middle = model.len() as u64 / 2;
        for from in [0, 1, middle, model.len() as u64, model.len() as u64 + 1] {
            let read: Vec<_> = journal.entries(from).map(Result::unwrap).collect();
            let expected = (1..).zip(&model).filter(|(seq, _)| *seq >= from);
            prop_assert!(read.iter().map(|entry| (entry.seq, &entry.bytes)).eq(expected), "from {}", from);
        }
        drop(journal);
        let copy = read_copy(dir.path()).unwrap();
        prop_assert!(copy.verdict().is_intact(), "{}", copy.verdict());
        prop_assert!(copy.entries(1).map(|entry| entry.unwrap().bytes).eq(model));
        for (_, head) in heads {
            prop_assert!(copy.holds(&head).unwrap());
            let forged = Head { seq: head.seq, hash: [0; 32] };
            prop_assert!(!copy.holds(&forged).unwrap());
        }
    }
}
