//! A set that nearly always has one member.
//!
//! A name has one pod, an address one allocation, and for a moment two. A tree for each would take more memory than what
//! it leads to: one member stands in place, more are put in a tree.

use std::collections::{BTreeSet, btree_set};

/// An ordered set, made for one member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Few<T>(Members<T>);

#[expect(clippy::box_collection, reason = "it is seldom there, and its place is in every set")]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Members<T> {
    #[default]
    None,
    One(T),
    /// Two or more.
    More(Box<BTreeSet<T>>),
}

impl<T> Default for Few<T> {
    fn default() -> Self {
        Self(Members::None)
    }
}

impl<T: Ord> Few<T> {
    /// Adds a member. Returns whether it is new.
    pub fn insert(&mut self, member: T) -> bool {
        match std::mem::take(&mut self.0) {
            Members::None => self.0 = Members::One(member),
            Members::One(known) if known == member => {
                self.0 = Members::One(known);
                return false;
            }
            Members::One(known) => self.0 = Members::More(Box::new([known, member].into())),
            Members::More(mut members) => {
                let is_new = members.insert(member);
                self.0 = Members::More(members);
                return is_new;
            }
        }
        true
    }

    /// Takes a member out. Returns whether it was there.
    pub fn remove(&mut self, member: &T) -> bool {
        let (left, was_there) = match std::mem::take(&mut self.0) {
            Members::None => (Members::None, false),
            Members::One(known) if known == *member => (Members::None, true),
            Members::One(known) => (Members::One(known), false),
            Members::More(mut members) => {
                let was_there = members.remove(member);
                let one = if members.len() == 1 { members.pop_first() } else { None };
                (one.map_or(Members::More(members), Members::One), was_there)
            }
        };
        self.0 = left;
        was_there
    }

    /// Whether there is no member.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        matches!(self.0, Members::None)
    }

    /// The members in order.
    pub fn iter(&self) -> <&Self as IntoIterator>::IntoIter {
        self.into_iter()
    }
}

impl<'a, T> IntoIterator for &'a Few<T> {
    type Item = &'a T;
    type IntoIter =
        std::iter::Chain<std::option::IntoIter<&'a T>, std::iter::Flatten<std::option::IntoIter<&'a BTreeSet<T>>>>;

    fn into_iter(self) -> Self::IntoIter {
        let (one, more) = match &self.0 {
            Members::None => (None, None),
            Members::One(member) => (Some(member), None),
            Members::More(members) => (None, Some(members.as_ref())),
        };
        one.into_iter().chain(more.into_iter().flatten())
    }
}

impl<T> IntoIterator for Few<T> {
    type Item = T;
    type IntoIter = std::iter::Chain<std::option::IntoIter<T>, btree_set::IntoIter<T>>;

    fn into_iter(self) -> Self::IntoIter {
        let (one, more) = match self.0 {
            Members::None => (None, BTreeSet::new()),
            Members::One(member) => (Some(member), BTreeSet::new()),
            Members::More(members) => (None, *members),
        };
        one.into_iter().chain(more)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_set() {
        let (mut few, mut set, mut seed) = (Few::default(), BTreeSet::new(), 5_u64);
        for _ in 0..4_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let member = (seed >> 60) % 4;
            if seed & (1 << 40) == 0 {
                assert_eq!(few.insert(member), set.insert(member));
            } else {
                assert_eq!(few.remove(&member), set.remove(&member));
            }
            assert_eq!(few.is_empty(), set.is_empty());
            assert!(few.iter().eq(set.iter()) && few.clone().into_iter().eq(set.iter().copied()));
            let in_place = matches!(few.0, Members::None | Members::One(_));
            assert_eq!(in_place, set.len() <= 1, "{few:?}");
        }
    }
}
