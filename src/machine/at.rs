//! A moment, or the number of an event, of which an optional one takes no more room than one that is there.

use std::fmt;
use std::num::NonZeroU64;

/// Milliseconds of machine time or a sequence number, as the field that has it says. The highest of all numbers, which
/// neither ever reaches, counts as the one below it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct At(NonZeroU64);

impl At {
    /// At that number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(NonZeroU64::MIN.saturating_add(number))
    }

    /// The number.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0.get().saturating_sub(1)
    }
}

impl fmt::Debug for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.number().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_what_it_was() {
        for number in [0, 1, 7, u64::MAX - 1] {
            assert_eq!(At::new(number).number(), number);
        }
        assert_eq!(At::new(u64::MAX), At::new(u64::MAX - 1));
        assert!(At::new(0) < At::new(1) && size_of::<Option<At>>() == size_of::<u64>());
    }
}
