use std::task::{Context, Poll, Waker};

use super::*;

/// Nothing here waits.
fn now<T>(future: impl Future<Output = T>) -> T {
    match std::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(ready) => ready,
        Poll::Pending => panic!("it waits for nothing"),
    }
}

/// Reads from a server that answers page by page like this, the last one again and again.
fn read(pages: &[(&[u32], u32)]) -> Result<Vec<u32>, ListError> {
    let page = async |page: u32| {
        let at = usize::try_from(page).expect("few").min(pages.len()) - 1;
        let (items, total) = pages[at];
        Ok(Page { items: items.to_vec(), total })
    };
    now(numbered(Reading::Gateways, page, |item| *item))
}

fn why(pages: &[(&[u32], u32)]) -> Incomplete {
    read(pages).expect_err("incomplete").incomplete.expect("it says in which way")
}

#[test]
fn pages_that_add_up_are_a_listing() {
    assert_eq!(read(&[(&[], 0)]), Ok(vec![]));
    assert_eq!(read(&[(&[1, 2], 5), (&[3, 4], 5), (&[5], 5)]), Ok(vec![1, 2, 3, 4, 5]));
    assert_eq!(read(&[(&[1], 3), (&[2, 3], 3)]), Ok(vec![1, 2, 3]), "who shows less at first may show the rest later");
}

#[test]
fn pages_that_do_not_add_up_are_an_error_that_says_how() {
    assert_eq!(why(&[(&[1, 2], 5), (&[3, 4], 5), (&[], 5)]), Incomplete::Short { announced: 5, came: 4 });
    assert_eq!(why(&[(&[], 1)]), Incomplete::Short { announced: 1, came: 0 });
    assert_eq!(why(&[(&[1, 2], 3), (&[3, 4], 3)]), Incomplete::Long { announced: 3, came: 4 });
    assert_eq!(why(&[(&[1], 0)]), Incomplete::Long { announced: 0, came: 1 });
    assert_eq!(why(&[(&[1, 2], 4), (&[1, 2], 4)]), Incomplete::Repeated, "a server that knows one page only");
    assert_eq!(why(&[(&[1, 2], 4), (&[2, 3], 4)]), Incomplete::Repeated, "something came in front meanwhile");
    assert_eq!(why(&[(&[1, 2], 4), (&[3], 3)]), Incomplete::Moved { first: 4, then: 3 });
    let error = read(&[(&[1], 2), (&[], 2)]).expect_err("short");
    assert_eq!(
        error.to_string(),
        "the gateways could not be read, so nothing is concluded: 2 were announced and only 1 came"
    );
    assert_eq!((error.gone, error.flow, error.after_ms), (false, None, None), "it proves nothing");
}

#[test]
fn a_listing_that_does_not_end_is_an_error_and_not_a_part_of_it() {
    let endless = async |page: u32| Ok(Page { items: vec![page], total: u32::MAX });
    let error = now(numbered(Reading::Eips, endless, |item| *item)).expect_err("endless");
    assert_eq!(error.incomplete, Some(Incomplete::Endless { pages: PAGES_MAX }));
    let just = async |page: u32| Ok(Page { items: vec![page], total: PAGES_MAX });
    assert_eq!(now(numbered(Reading::Eips, just, |item| *item)).map(|all| all.len()), Ok(1_000));
}

#[test]
fn a_chain_ends_and_does_not_come_back_to_where_it_was() {
    let three = async |next: Option<String>| {
        let at = next.map_or(0, |token| token.parse::<u32>().expect("a number"));
        Ok(Chain { items: vec![at], next: (at < 2).then(|| (at + 1).to_string()) })
    };
    assert_eq!(now(chained(Reading::Routes, three)), Ok(vec![0, 1, 2]));
    let same = async |_: Option<String>| Ok(Chain { items: vec![0], next: Some("same".to_owned()) });
    let error = now(chained(Reading::Routes, same)).expect_err("a circle");
    assert_eq!(error.incomplete, Some(Incomplete::Repeated));
    let endless = async |next: Option<String>| {
        let at = next.map_or(0, |token| token.parse::<u32>().expect("a number"));
        Ok(Chain { items: vec![at], next: Some((at + 1).to_string()) })
    };
    let error = now(chained(Reading::Interfaces, endless)).expect_err("endless");
    assert_eq!(error.incomplete, Some(Incomplete::Endless { pages: PAGES_MAX }));
}
