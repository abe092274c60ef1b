//! Values that many name and that are equal for most of them: each is kept once.
//!
//! Fifty pods share a network interface, a thousand a StatefulSet. What nobody names any more is let go when the number
//! of values has doubled, so that the cost of looking for it is a constant a value.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

/// Fewer values than these are not looked through.
const SWEPT_FROM: usize = 64;

/// The values that somebody names.
#[derive(Clone)]
pub struct Shared<T> {
    values: BTreeSet<Arc<T>>,
    /// So many values are looked through for those that nobody names.
    swept_at: usize,
}

impl<T> fmt::Debug for Shared<T> {
    /// Nothing is known by it: what is shared is seen where it is named.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shared")
    }
}

impl<T> Default for Shared<T> {
    fn default() -> Self {
        Self { values: BTreeSet::new(), swept_at: SWEPT_FROM }
    }
}

impl<T: Ord> Shared<T> {
    /// The value as everybody names it.
    pub fn share(&mut self, value: T) -> Arc<T> {
        if let Some(known) = self.values.get(&value) {
            return Arc::clone(known);
        }
        if self.values.len() >= self.swept_at {
            self.values.retain(|known| Arc::strong_count(known) > 1);
            self.swept_at = self.values.len().saturating_mul(2).max(SWEPT_FROM);
        }
        let shared = Arc::new(value);
        self.values.insert(Arc::clone(&shared));
        shared
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_are_one_and_what_nobody_names_goes() {
        let mut shared = Shared::default();
        let kept: Vec<Arc<usize>> = (0..10).map(|n| shared.share(n)).collect();
        assert!(Arc::ptr_eq(&kept[3], &shared.share(3)));
        for n in 0..10_000 {
            drop(shared.share(n));
            assert!(shared.values.len() <= SWEPT_FROM, "{}", shared.values.len());
        }
        assert!((0..10).all(|n| Arc::ptr_eq(&kept[n], &shared.share(n))));
    }
}
