//! What a thing seldom has, kept apart from it.
//!
//! Nearly every allocation never moved, was never refused and never edited by anybody. What tells of such things takes a
//! pointer where it does not differ from the usual.

use std::fmt;
use std::ops::Deref;

/// What is usual.
pub trait Usual: Clone + PartialEq + 'static {
    /// The usual value.
    const USUAL: &'static Self;
}

/// A value that is nearly always the usual one.
#[derive(Clone)]
pub struct Seldom<T>(Option<Box<T>>);

impl<T: Usual> Seldom<T> {
    /// Keeps a value.
    #[must_use]
    pub fn new(value: T) -> Self {
        Self((value != *T::USUAL).then(|| Box::new(value)))
    }

    /// Changes the value.
    pub fn change<R>(&mut self, change: impl FnOnce(&mut T) -> R) -> R {
        let mut value = self.0.take().unwrap_or_else(|| Box::new(T::USUAL.clone()));
        let changed = change(&mut value);
        self.0 = (*value != *T::USUAL).then_some(value);
        changed
    }
}

impl<T> Default for Seldom<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Usual> Deref for Seldom<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_deref().unwrap_or(T::USUAL)
    }
}

impl<T: Usual + fmt::Debug> fmt::Debug for Seldom<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: Usual> PartialEq for Seldom<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: Usual + Eq> Eq for Seldom<T> {}

impl<T: Clone + PartialEq + 'static> Usual for Vec<T> {
    const USUAL: &'static Self = &Self::new();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_usual_takes_no_room() {
        let mut list = Seldom::<Vec<u64>>::default();
        assert!(list.is_empty() && size_of_val(&list) == size_of::<usize>());
        list.change(|list| list.push(7));
        assert_eq!((list.as_slice(), format!("{list:?}")), ([7].as_slice(), "[7]".to_owned()));
        assert_eq!(list.change(Vec::pop), Some(7));
        assert!(list.0.is_none() && list == Seldom::new(Vec::new()));
    }
}
