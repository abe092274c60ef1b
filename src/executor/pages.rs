//! Listings of many pages: complete, or an error that says in which way they are not. Nothing is ever left out silently.

use std::collections::BTreeSet;

use super::{failed, unread};
use crate::ports::cloud::{Chain, CloudError, Page, Reading};
use crate::ports::effect::{Incomplete, ListError};

/// Pages of one listing: 1,000 pages of 50 are far above any quota, so more means that paging does not end.
pub(super) const PAGES_MAX: u32 = 1_000;

/// All items of a listing whose pages are numbered and say the total. Complete is one whose pages say the same total and
/// show as many items, none twice (design.md §5).
pub(super) async fn numbered<T, Id: Ord>(
    reading: Reading,
    read: impl AsyncFn(u32) -> Result<Page<T>, CloudError>,
    id: impl Fn(&T) -> Id,
) -> Result<Vec<T>, ListError> {
    let (mut all, mut shown, mut announced) = (Vec::new(), BTreeSet::new(), None);
    for page in 1..=PAGES_MAX {
        let Page { items, total } = read(page).await.map_err(|error| unread(reading, &error))?;
        let first = *announced.get_or_insert(total);
        if total != first {
            return Err(incomplete(reading, Incomplete::Moved { first, then: total }));
        }
        let is_empty = items.is_empty();
        if !items.iter().all(|item| shown.insert(id(item))) {
            return Err(incomplete(reading, Incomplete::Repeated));
        }
        all.extend(items);
        match all.len().cmp(&count(total)) {
            std::cmp::Ordering::Equal => return Ok(all),
            std::cmp::Ordering::Greater => {
                return Err(incomplete(reading, Incomplete::Long { announced: total, came: all.len() }));
            }
            std::cmp::Ordering::Less if is_empty => {
                return Err(incomplete(reading, Incomplete::Short { announced: total, came: all.len() }));
            }
            std::cmp::Ordering::Less => {}
        }
    }
    Err(incomplete(reading, Incomplete::Endless { pages: PAGES_MAX }))
}

/// All items of a listing whose parts are continued by a token.
pub(super) async fn chained<T>(
    reading: Reading,
    read: impl AsyncFn(Option<String>) -> Result<Chain<T>, CloudError>,
) -> Result<Vec<T>, ListError> {
    let (mut all, mut tokens, mut next) = (Vec::new(), BTreeSet::new(), None);
    for _ in 0..PAGES_MAX {
        let Chain { items, next: rest } = read(next).await.map_err(|error| unread(reading, &error))?;
        all.extend(items);
        let Some(token) = rest else { return Ok(all) };
        if !tokens.insert(token.clone()) {
            return Err(incomplete(reading, Incomplete::Repeated));
        }
        next = Some(token);
    }
    Err(incomplete(reading, Incomplete::Endless { pages: PAGES_MAX }))
}

pub(super) fn incomplete(reading: Reading, why: Incomplete) -> ListError {
    ListError { incomplete: Some(why), ..failed(reading.word(), why.to_string()) }
}

pub(super) fn count(total: u32) -> usize {
    usize::try_from(total).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
