//! Ordered collections that count what is asked of them.
//!
//! "Cost follows the change, not the cluster" is a claim about look-ups and iterated entries. These maps count both, so
//! that a test can hold the count of an event at 10,000 pods against the count at 100.

use std::borrow::Borrow;
use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::ops::RangeBounds;

use crate::machine::packed::Packed;

/// An ordered map that counts each look-up and each entry that an iteration yields.
///
/// With `Box<V>` as `S` the map holds pointers: what is moved when an entry comes or goes stays small.
#[derive(Clone)]
pub struct Map<K, V, S = V> {
    inner: Packed<K, S>,
    touched: Cell<u64>,
    values: PhantomData<V>,
}

/// How a value is held in the map.
pub trait Held<V> {
    /// Holds it.
    fn hold(value: V) -> Self;
    /// The value.
    fn value(&self) -> &V;
    /// The value, to change.
    fn value_mut(&mut self) -> &mut V;
    /// Lets it go.
    fn release(self) -> V;
}

impl<V> Held<V> for V {
    fn hold(value: V) -> Self {
        value
    }

    fn value(&self) -> &V {
        self
    }

    fn value_mut(&mut self) -> &mut V {
        self
    }

    fn release(self) -> V {
        self
    }
}

impl<V> Held<V> for Box<V> {
    fn hold(value: V) -> Self {
        Self::new(value)
    }

    fn value(&self) -> &V {
        self
    }

    fn value_mut(&mut self) -> &mut V {
        self
    }

    fn release(self) -> V {
        *self
    }
}

/// Shows the entries, not what they were asked: two maps are shown alike if they hold the same.
impl<K: fmt::Debug, V, S: fmt::Debug> fmt::Debug for Map<K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl<K, V, S> Default for Map<K, V, S> {
    fn default() -> Self {
        Self { inner: Packed::default(), touched: Cell::new(0), values: PhantomData }
    }
}

impl<K: Ord + Clone, V, S: Held<V>> Map<K, V, S> {
    /// Look-ups and entries iterated so far.
    #[must_use]
    pub fn touched(&self) -> u64 {
        self.touched.get()
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.inner.len()
    }

    /// Whether there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.inner.is_empty()
    }

    /// The value of a key.
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.count();
        self.inner.get(key).map(S::value)
    }

    /// The value of a key, to change.
    pub fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        self.count();
        self.inner.get_mut(key).map(S::value_mut)
    }

    /// Whether the key has a value.
    pub fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.get(key).is_some()
    }

    /// Sets a value and returns the one before.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        self.count();
        self.inner.insert(key, S::hold(value)).map(S::release)
    }

    /// Takes a value out.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        self.count();
        self.inner.remove_entry(key).map(|(_, held)| held.release())
    }

    /// Takes a value out, with its key as it is kept.
    pub fn remove_entry<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<(K, V)>
    where
        K: Borrow<Q>,
    {
        self.count();
        self.inner.remove_entry(key).map(|(key, held)| (key, held.release()))
    }

    /// A key as it is kept: to name the same without another copy.
    pub fn key<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&K>
    where
        K: Borrow<Q>,
    {
        self.count();
        self.inner.get_key_value(key).map(|(key, _)| key)
    }

    /// The value of a key, made first where there is none.
    pub fn or_default(&mut self, key: K) -> &mut V
    where
        V: Default,
    {
        self.count();
        self.inner.or_insert_with(key, || S::hold(V::default())).value_mut()
    }

    /// The first entry in order of key.
    pub fn first(&self) -> Option<(&K, &V)> {
        self.count();
        self.inner.first_key_value().map(|(key, held)| (key, held.value()))
    }

    /// All entries in order of key; each one yielded is counted.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&K, &V)> {
        self.scan().inspect(|_| self.count())
    }

    /// All entries in order of key, uncounted: for comparison with a listing, whose size is the cost of the comparison.
    pub fn scan(&self) -> impl DoubleEndedIterator<Item = (&K, &V)> {
        self.inner.iter().map(|(key, held)| (key, held.value()))
    }

    /// The value of a key, uncounted: for the same.
    pub fn peek<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.inner.get(key).map(S::value)
    }

    /// All values in order of key, to change; each one is counted beforehand.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.touched.set(self.touched.get().saturating_add(self.inner.len() as u64));
        self.inner.values_mut().map(S::value_mut)
    }

    /// The entries of a range in order of key; each one yielded is counted.
    pub fn range<R: RangeBounds<K>>(&self, range: R) -> impl DoubleEndedIterator<Item = (&K, &V)> {
        self.inner.range(range).inspect(|_| self.count()).map(|(key, held)| (key, held.value()))
    }

    fn count(&self) {
        self.touched.set(self.touched.get().saturating_add(1));
    }
}
