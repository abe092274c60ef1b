//! The addresses of pods: blocks in turn, and within a block always the lowest free one, so that an address that was
//! given back is soon another pod's.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::sandbox::vpc::Cidr;

/// All blocks.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Addresses {
    blocks: Vec<Block>,
    turn: usize,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Block {
    cidr: Cidr,
    /// Everything below was given out at least once.
    next: u32,
    /// Above the last address for pods. The next one is the node's.
    end: u32,
    free: BTreeSet<Ipv4Addr>,
}

impl Addresses {
    pub(super) fn new(blocks: &[Cidr]) -> Self {
        Self { blocks: blocks.iter().map(|cidr| Block::new(*cidr)).collect(), turn: 0 }
    }

    /// The lowest free address of the block whose turn it is, or of the next block that has one.
    pub(super) fn take(&mut self) -> Option<Ipv4Addr> {
        for _ in 0..self.blocks.len() {
            if let Some(address) = self.take_turn()?.take() {
                return Some(address);
            }
        }
        None
    }

    /// The node's address of the block whose turn it is.
    pub(super) fn node(&mut self) -> Option<Ipv4Addr> {
        self.take_turn().map(|block| Ipv4Addr::from(block.end))
    }

    /// Gives an address back. One of no block is not kept.
    pub(super) fn release(&mut self, address: Ipv4Addr) {
        if let Some(block) = self.blocks.iter_mut().find(|block| block.cidr.contains(address)) {
            block.free.insert(address);
        }
    }

    fn take_turn(&mut self) -> Option<&mut Block> {
        let turn = self.turn.checked_rem(self.blocks.len())?;
        self.turn = turn.saturating_add(1);
        self.blocks.get_mut(turn)
    }
}

impl Block {
    fn new(cidr: Cidr) -> Self {
        // The first and the last three addresses of a vSwitch are the system's own, and the last host is the node's.
        const SYSTEM_AND_NODE: u32 = 4;
        let (first, size) = (u32::from(cidr.first()), cidr.size());
        let next = first.saturating_add(1);
        Self { cidr, next, end: first.saturating_add(size.saturating_sub(SYSTEM_AND_NODE)), free: BTreeSet::new() }
    }

    fn take(&mut self) -> Option<Ipv4Addr> {
        if let Some(address) = self.free.pop_first() {
            return Some(address);
        }
        let address = (self.next < self.end).then(|| Ipv4Addr::from(self.next))?;
        self.next = self.next.saturating_add(1);
        Some(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_take_turns_and_the_lowest_address_comes_back_first() {
        let block = |third| Cidr::new([10, 0, third, 0].into(), 24);
        let mut addresses = Addresses::new(&[block(0), block(1)]);
        let mut take = |n: usize| (0..n).map(|_| addresses.take().unwrap().to_string()).collect::<Vec<_>>();
        assert_eq!(take(4), ["10.0.0.1", "10.0.1.1", "10.0.0.2", "10.0.1.2"]);
        for address in [[10, 0, 0, 2], [10, 0, 0, 1], [10, 0, 1, 2], [192, 0, 2, 1]] {
            addresses.release(address.into());
        }
        let mut take = |n: usize| (0..n).map(|_| addresses.take().unwrap().to_string()).collect::<Vec<_>>();
        assert_eq!(take(5), ["10.0.0.1", "10.0.1.2", "10.0.0.2", "10.0.1.3", "10.0.0.3"]);
    }

    #[test]
    fn a_full_block_is_passed_over_and_nothing_outside_is_given() {
        let mut addresses = Addresses::new(&[Cidr::new([10, 0, 0, 0].into(), 29), Cidr::new([10, 0, 1, 0].into(), 30)]);
        let mut taken = Vec::new();
        while let Some(address) = addresses.take() {
            taken.push(address.to_string());
        }
        assert_eq!(taken, ["10.0.0.1", "10.0.0.2", "10.0.0.3"], "of 8 addresses 4 are not for pods; of 4 none is");
        assert_eq!(Addresses::new(&[]).take(), None);
        let mut addresses = Addresses::new(&[Cidr::new([10, 0, 0, 0].into(), 29)]);
        assert_eq!(addresses.node(), Some([10, 0, 0, 4].into()));
    }
}
