//! An ordered map that takes little more memory than what it holds.
//!
//! The nodes of a `BTreeMap` that grows at its end stay little more than half full, and a node that is not full takes what
//! a full one takes. Here the entries stand in runs, sorted vectors that get room for a few more at a time, and a
//! `BTreeMap` leads to the runs: finding, adding and taking out cost O(log n), and a move within one run.
//!
//! Invariants: no run is empty or longer than `RUN_MAX`; the keys of a run are not below the bound under which it is
//! found, and below the bound of the next.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Bound, RangeBounds};

/// Entries of a run, at most: what leads to it is then a few bytes an entry, and a move within it is of a few kilobytes.
const RUN_MAX: usize = 64;

/// A run that falls below this is joined with the next, if both together are well below the longest.
const RUN_LOW: usize = RUN_MAX / 4;

/// Entries for which a run gets room at a time.
const ROOM: usize = 4;

type Run<K, V> = Vec<(K, V)>;

/// An ordered map.
#[derive(Clone)]
pub struct Packed<K, V> {
    runs: BTreeMap<K, Run<K, V>>,
    len: usize,
}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for Packed<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.runs.values().flatten().map(|(key, value)| (key, value))).finish()
    }
}

impl<K, V> Default for Packed<K, V> {
    fn default() -> Self {
        Self { runs: BTreeMap::new(), len: 0 }
    }
}

impl<K: Ord + Clone, V> Packed<K, V> {
    /// How many entries there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no entry.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// A key as it is kept, and its value.
    pub fn get_key_value<Q: Ord + ?Sized>(&self, key: &Q) -> Option<(&K, &V)>
    where
        K: Borrow<Q>,
    {
        let (_, run) = self.runs.range((Bound::Unbounded, Bound::Included(key))).next_back()?;
        run.get(find(run, key).ok()?).map(|(key, value)| (key, value))
    }

    /// The value of a key.
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.get_key_value(key).map(|(_, value)| value)
    }

    /// The value of a key, to change.
    pub fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let (_, run) = self.runs.range_mut((Bound::Unbounded, Bound::Included(key))).next_back()?;
        let at = find(run, key).ok()?;
        run.get_mut(at).map(|(_, value)| value)
    }

    /// Sets a value and returns the one before.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let Some((_, run)) = self.runs.range_mut(..=&key).next_back() else {
            self.lower_bound(&key);
            return self.insert(key, value);
        };
        match find(run, &key) {
            Ok(at) => run.get_mut(at).map(|(_, known)| std::mem::replace(known, value)),
            Err(_) if run.len() >= RUN_MAX => {
                self.split(&key);
                self.insert(key, value)
            }
            Err(at) => {
                if run.len() == run.capacity() {
                    run.reserve_exact(ROOM);
                }
                run.insert(at, (key, value));
                self.len = self.len.saturating_add(1);
                None
            }
        }
    }

    /// The value of a key, made first where there is none.
    pub fn or_insert_with(&mut self, key: K, make: impl FnOnce() -> V) -> &mut V {
        if self.get(&key).is_none() {
            self.insert(key.clone(), make());
        }
        #[expect(clippy::expect_used, reason = "it has just been put there")]
        self.get_mut(&key).expect("the key has a value")
    }

    /// Takes a value out, with its key as it is kept.
    pub fn remove_entry<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<(K, V)>
    where
        K: Borrow<Q>,
    {
        let (bound, run) = self.runs.range_mut((Bound::Unbounded, Bound::Included(key))).next_back()?;
        let entry = run.remove(find(run, key).ok()?);
        self.len = self.len.saturating_sub(1);
        if run.len() < RUN_LOW {
            let bound = bound.clone();
            self.join(&bound);
        } else if run.capacity().saturating_sub(run.len()) > 2 * ROOM {
            run.shrink_to(run.len().saturating_add(ROOM));
        }
        Some(entry)
    }

    /// The first entry in order of key.
    pub fn first_key_value(&self) -> Option<(&K, &V)> {
        let (_, run) = self.runs.first_key_value()?;
        run.first().map(|(key, value)| (key, value))
    }

    /// All entries in order of key.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&K, &V)> + Clone {
        self.runs.values().flatten().map(|(key, value)| (key, value))
    }

    /// All values in order of key, to change.
    pub fn values_mut(&mut self) -> impl DoubleEndedIterator<Item = &mut V> {
        self.runs.values_mut().flatten().map(|(_, value)| value)
    }

    /// The entries of a range in order of key.
    pub fn range<R: RangeBounds<K>>(&self, range: R) -> impl DoubleEndedIterator<Item = (&K, &V)> {
        let from = match range.start_bound() {
            Bound::Included(key) | Bound::Excluded(key) => self.runs.range(..=key).next_back(),
            Bound::Unbounded => None,
        };
        let from = from.map_or(Bound::Unbounded, |(bound, _)| Bound::Included(bound));
        let runs = self.runs.range((from, range.end_bound()));
        runs.flat_map(move |(_, run)| within(run, &range)).map(|(key, value)| (key, value))
    }

    /// Makes a key one that the first run has room for in its bounds.
    fn lower_bound(&mut self, key: &K) {
        let first = self.runs.pop_first().map(|(_, run)| run).unwrap_or_default();
        self.runs.insert(key.clone(), first);
    }

    /// Makes room for a key that belongs into a full run.
    fn split(&mut self, key: &K) {
        let is_above = |run: &Run<K, V>| run.last().is_some_and(|(last, _)| last < key);
        if self.runs.last_key_value().is_some_and(|(_, run)| is_above(run)) {
            // What grows at its end leaves full runs behind.
            self.runs.insert(key.clone(), Run::with_capacity(ROOM));
            return;
        }
        let Some((_, run)) = self.runs.range_mut(..=key).next_back() else { return };
        let upper = run.split_off(RUN_MAX / 2);
        run.shrink_to_fit();
        if let Some(bound) = upper.first().map(|(bound, _)| bound.clone()) {
            self.runs.insert(bound, upper);
        }
    }

    /// Joins a run that has become short with one beside it, or lets it go if nothing is left of it.
    fn join(&mut self, bound: &K) {
        let Some(run) = self.runs.get_mut(bound) else { return };
        if run.is_empty() {
            self.runs.remove(bound);
            return;
        }
        run.shrink_to(run.len().saturating_add(ROOM));
        let room = (RUN_MAX * 3 / 4).saturating_sub(run.len());
        let fits = |(_, other): &(&K, &Run<K, V>)| other.len() <= room;
        let below = self.runs.range(..bound).next_back().filter(fits).map(|(below, _)| below.clone());
        if let Some(below) = below {
            return self.append(&below, bound);
        }
        let above = self.runs.range((Bound::Excluded(bound), Bound::Unbounded)).next().filter(fits);
        if let Some(above) = above.map(|(above, _)| above.clone()) {
            self.append(bound, &above);
        }
    }

    /// Puts the entries of a run at the end of the one below it.
    fn append(&mut self, below: &K, above: &K) {
        let Some(upper) = self.runs.remove(above) else { return };
        if let Some(run) = self.runs.get_mut(below) {
            run.reserve_exact(upper.len());
            run.extend(upper);
        }
    }
}

/// Where a key is in a run, or where it belongs.
fn find<K: Borrow<Q>, V, Q: Ord + ?Sized>(run: &[(K, V)], key: &Q) -> Result<usize, usize> {
    run.binary_search_by(|(known, _)| known.borrow().cmp(key))
}

/// The entries of a run that are in a range.
fn within<'a, K: Ord, V>(run: &'a [(K, V)], range: &impl RangeBounds<K>) -> std::slice::Iter<'a, (K, V)> {
    let from = run.partition_point(|(key, _)| match range.start_bound() {
        Bound::Included(start) => key < start,
        Bound::Excluded(start) => key <= start,
        Bound::Unbounded => false,
    });
    let to = run.partition_point(|(key, _)| match range.end_bound() {
        Bound::Included(end) => key <= end,
        Bound::Excluded(end) => key < end,
        Bound::Unbounded => true,
    });
    run.get(from..to).unwrap_or_default().iter()
}

/// An ordered set that takes little more memory than its members.
#[derive(Clone, Debug)]
pub struct PackedSet<T>(Packed<T, ()>);

impl<T> Default for PackedSet<T> {
    fn default() -> Self {
        Self(Packed::default())
    }
}

impl<T: Ord + Clone> PackedSet<T> {
    /// Adds a member. Returns whether it is new.
    pub fn insert(&mut self, member: T) -> bool {
        self.0.insert(member, ()).is_none()
    }

    /// Takes a member out. Returns whether it was there.
    pub fn remove(&mut self, member: &T) -> bool {
        self.0.remove_entry(member).is_some()
    }

    /// Whether it is a member.
    pub fn contains(&self, member: &T) -> bool {
        self.0.get(member).is_some()
    }

    /// How many members there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no member.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The members in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &T> {
        self.0.iter().map(|(member, ())| member)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers that look random, the same in every run.
    fn numbers(mut seed: u64) -> impl FnMut() -> u64 {
        move || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            seed >> 33
        }
    }

    fn well_formed(packed: &Packed<u64, u64>) {
        let mut bounds = packed.runs.keys().skip(1).chain([&u64::MAX]);
        for (bound, run) in &packed.runs {
            let below = bounds.next().unwrap();
            assert!((1..=RUN_MAX).contains(&run.len()) && run.capacity() <= run.len() + 2 * ROOM, "{}", run.len());
            assert!(run.is_sorted() && run.first().unwrap().0 >= *bound && run.last().unwrap().0 < *below);
        }
        assert_eq!(packed.len(), packed.iter().count());
    }

    #[test]
    fn it_is_an_ordered_map() {
        for keys in [8, 300, 5_000] {
            let (mut packed, mut tree, mut number) = (Packed::default(), BTreeMap::new(), numbers(keys));
            for round in 0..40_000_u64 {
                // It grows for a while, then it shrinks.
                let (key, value, grows) = (number() % keys, number(), (round / 10_000) % 2 == 0);
                if (number() % 4 == 0) == grows {
                    assert_eq!(packed.remove_entry(&key), tree.remove_entry(&key));
                } else if number() % 2 == 0 {
                    assert_eq!(packed.insert(key, value), tree.insert(key, value));
                } else {
                    assert_eq!(packed.or_insert_with(key, || value), tree.entry(key).or_insert(value));
                }
                assert_eq!(packed.get_key_value(&value), tree.get_key_value(&value));
                assert_eq!(packed.get_mut(&key), tree.get_mut(&key));
                assert_eq!(packed.first_key_value(), tree.first_key_value());
                if round % 97 == 0 {
                    well_formed(&packed);
                    assert!(packed.iter().eq(tree.iter()) && packed.iter().rev().eq(tree.iter().rev()));
                    assert!(packed.values_mut().eq(tree.values_mut()));
                    let (from, to) = (key.min(value % keys), key.max(value % keys));
                    assert!(packed.range(from..to).eq(tree.range(from..to)));
                    assert!(packed.range(..=to).rev().eq(tree.range(..=to).rev()));
                    let after = (Bound::Excluded(from), Bound::Unbounded);
                    assert!(packed.range(after).eq(tree.range(after)));
                }
            }
            assert_eq!(format!("{packed:?}"), format!("{tree:?}"));
        }
    }

    #[test]
    fn it_takes_little_more_memory_than_what_it_holds() {
        let upwards: Vec<u64> = (0..100_000).collect();
        let downwards = upwards.iter().rev().copied().collect();
        let mut number = numbers(1);
        let drawn: Vec<u64> = (0..100_000).map(|_| number()).collect();
        for keys in [upwards, downwards, drawn] {
            let mut packed = Packed::default();
            let filled = allocation_counter::measure(|| {
                for key in &keys {
                    packed.insert(*key, *key);
                }
            });
            well_formed(&packed);
            let held = packed.len() * size_of::<(u64, u64)>();
            assert!(filled.bytes_current < held as i64 * 5 / 4, "{} for {held}", filled.bytes_current);
            // Nor does it keep what it does not need any more.
            for key in keys.iter().filter(|key| **key % 16 != 0) {
                packed.remove_entry(key);
            }
            well_formed(&packed);
            assert!(packed.runs.len() <= 2 + packed.len() / (RUN_LOW / 2), "{} runs", packed.runs.len());
        }
    }
}
