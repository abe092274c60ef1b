//! The EIPs of a gateway, and which of them gets the next pod.
//!
//! The one with most free ports, ties in configured order. What each has free is ranked in a tournament: the best is read
//! off, a port taken or given back changes one path from its leaf to the root.

use std::cmp::Reverse;
use std::net::Ipv4Addr;
use std::ops::Deref;

use crate::machine::demand::Want;
use crate::machine::identity::Protocol;
use crate::machine::pool::Eip;

/// The EIPs of a gateway that the pools cover, in configured order.
#[derive(Clone, Debug, Default)]
pub struct Eips {
    eips: Vec<Eip>,
    /// Where each address is, in order of address.
    positions: Vec<(Ipv4Addr, usize)>,
    tcp: Ranking,
    udp: Ranking,
    /// By the scarcer of the two.
    both: Ranking,
}

/// Why an EIP was not chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PassedOver {
    /// Not usable.
    NotUsable = 1,
    /// Usable, with fewer free ports than the chosen one.
    FewerFree = 2,
    /// Usable, but the wants do not fit.
    NoRoom = 3,
    /// Usable and as free as the chosen one, but configured later.
    ConfiguredLater = 4,
}

/// The EIP and ports chosen.
#[derive(Clone, Debug)]
pub struct Choice<'a> {
    eips: &'a [Eip],
    eip: &'a Eip,
    needs: Needs,
    ports: Vec<u16>,
    no_room: Vec<Ipv4Addr>,
}

impl Eips {
    /// Ranks EIPs that stand in configured order. Of two with one address the first counts.
    #[must_use]
    pub fn new(eips: Vec<Eip>) -> Self {
        let mut positions: Vec<_> = eips.iter().enumerate().map(|(position, eip)| (eip.address, position)).collect();
        positions.sort_unstable();
        positions.dedup_by_key(|(address, _)| *address);
        let ranked = |needs: Needs| Ranking::new(&eips.iter().map(|eip| needs.score(eip)).collect::<Vec<_>>());
        let (tcp, udp, both) = (ranked(Needs::Tcp), ranked(Needs::Udp), ranked(Needs::Both));
        Self { eips, positions, tcp, udp, both }
    }

    /// The EIP of an address.
    #[must_use]
    pub fn find(&self, address: Ipv4Addr) -> Option<&Eip> {
        self.eips.get(self.position(address)?)
    }

    /// The most ports of a protocol that a usable EIP has free.
    #[must_use]
    pub fn most_free(&self, protocol: Protocol) -> u32 {
        self.ranking(Needs::one(protocol)).best()
    }

    /// Takes a port. Returns whether it was free; an address that is not one of these has none.
    pub fn take(&mut self, address: Ipv4Addr, protocol: Protocol, port: u16) -> bool {
        self.change(address, protocol, |eip| eip.take(protocol, port)).unwrap_or(false)
    }

    /// Gives a port back. One outside the range of its EIP stays what it is.
    pub fn give(&mut self, address: Ipv4Addr, protocol: Protocol, port: u16) {
        self.change(address, protocol, |eip| {
            if eip.range.contains(port) {
                eip.give(protocol, port);
            }
        });
    }

    /// Chooses the EIP with most free ports (ties: configured order) and its lowest free ports.
    ///
    /// An EIP on which the wants do not fit for being fragmented gives way to the next.
    #[must_use]
    pub fn choose(&self, wants: &[Want]) -> Option<Choice<'_>> {
        let needs = Needs::of(wants)?;
        let chosen = |eip, ports, no_room| Choice { eips: &self.eips, eip, needs, ports, no_room };
        let first = self.eips.get(self.ranking(needs).first()?)?;
        if let Some(ports) = first.pick(wants) {
            return Some(chosen(first, ports, Vec::new()));
        }
        // One protocol cannot be fragmented: whoever has fewer has no room either.
        if needs != Needs::Both {
            return None;
        }
        let mut order: Vec<_> = self.eips.iter().enumerate().filter(|(_, eip)| eip.usable).collect();
        order.sort_by_key(|(position, eip)| (Reverse(needs.free(eip)), *position));
        let mut no_room = Vec::new();
        for (_, eip) in order {
            match eip.pick(wants) {
                Some(ports) => return Some(chosen(eip, ports, no_room)),
                None => no_room.push(eip.address),
            }
        }
        None
    }

    fn position(&self, address: Ipv4Addr) -> Option<usize> {
        let at = self.positions.binary_search_by_key(&address, |(address, _)| *address).ok()?;
        self.positions.get(at).map(|(_, position)| *position)
    }

    fn change<T>(&mut self, address: Ipv4Addr, protocol: Protocol, change: impl FnOnce(&mut Eip) -> T) -> Option<T> {
        let position = self.position(address)?;
        let eip = self.eips.get_mut(position)?;
        let changed = change(eip);
        let (one, both) = (Needs::one(protocol).score(eip), Needs::Both.score(eip));
        match protocol {
            Protocol::Tcp => self.tcp.set(position, one),
            Protocol::Udp => self.udp.set(position, one),
        }
        self.both.set(position, both);
        Some(changed)
    }

    const fn ranking(&self, needs: Needs) -> &Ranking {
        match needs {
            Needs::Tcp => &self.tcp,
            Needs::Udp => &self.udp,
            Needs::Both => &self.both,
        }
    }
}

impl Deref for Eips {
    type Target = [Eip];

    fn deref(&self) -> &[Eip] {
        &self.eips
    }
}

impl<'a> Choice<'a> {
    /// The EIP.
    #[must_use]
    pub const fn eip(&self) -> &'a Eip {
        self.eip
    }

    /// External ports in the order of the wants.
    #[must_use]
    pub fn ports(&self) -> &[u16] {
        &self.ports
    }

    /// How many EIPs were passed over, at the most.
    #[must_use]
    pub const fn others(&self) -> usize {
        self.eips.len().saturating_sub(1)
    }

    /// The EIPs that were passed over and why, in configured order.
    pub fn passed_over(&self) -> impl Iterator<Item = (Ipv4Addr, PassedOver)> + '_ {
        let free = self.needs.free(self.eip);
        let why = move |other: &Eip| match (other.usable, self.no_room.contains(&other.address)) {
            (false, _) => PassedOver::NotUsable,
            (true, true) => PassedOver::NoRoom,
            (true, false) if self.needs.free(other) == free => PassedOver::ConfiguredLater,
            (true, false) => PassedOver::FewerFree,
        };
        let others = self.eips.iter().filter(|other| other.address != self.eip.address);
        others.map(move |other| (other.address, why(other)))
    }
}

/// The protocols of what is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Needs {
    Tcp,
    Udp,
    Both,
}

impl Needs {
    /// `None` where nothing is wanted.
    fn of(wants: &[Want]) -> Option<Self> {
        let wanted = |protocol| wants.iter().any(|want| want.protocol == protocol);
        match (wanted(Protocol::Tcp), wanted(Protocol::Udp)) {
            (true, true) => Some(Self::Both),
            (true, false) => Some(Self::Tcp),
            (false, true) => Some(Self::Udp),
            (false, false) => None,
        }
    }

    const fn one(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Tcp => Self::Tcp,
            Protocol::Udp => Self::Udp,
        }
    }

    /// Free ports of the scarcer of the protocols.
    fn free(self, eip: &Eip) -> u32 {
        let free = |protocol| eip.ports(protocol).free();
        match self {
            Self::Tcp => free(Protocol::Tcp),
            Self::Udp => free(Protocol::Udp),
            Self::Both => free(Protocol::Tcp).min(free(Protocol::Udp)),
        }
    }

    /// The rank: what cannot be used has nothing.
    fn score(self, eip: &Eip) -> u32 {
        if eip.usable { self.free(eip) } else { 0 }
    }
}

/// A tournament: each node has the better score of its two children, the leaves are the positions.
#[derive(Clone, Debug, Default)]
struct Ranking {
    leaves: usize,
    /// The root is 1, the children of n are 2n and 2n + 1.
    nodes: Box<[u32]>,
}

impl Ranking {
    fn new(scores: &[u32]) -> Self {
        let leaves = scores.len().next_power_of_two();
        let mut ranking = Self { leaves, nodes: vec![0; leaves.saturating_mul(2)].into() };
        for (position, score) in scores.iter().enumerate() {
            ranking.set(position, *score);
        }
        ranking
    }

    fn best(&self) -> u32 {
        self.score(1)
    }

    /// The first position with the best score, which is above 0.
    fn first(&self) -> Option<usize> {
        let best = self.best();
        if best == 0 {
            return None;
        }
        let mut node = 1_usize;
        while node < self.leaves {
            let left = node.checked_mul(2)?;
            node = if self.score(left) == best { left } else { left.checked_add(1)? };
        }
        node.checked_sub(self.leaves)
    }

    fn set(&mut self, position: usize, score: u32) {
        let mut node = self.leaves.saturating_add(position);
        let mut now = score;
        while let Some(known) = self.nodes.get_mut(node) {
            if *known == now && node < self.leaves {
                return;
            }
            *known = now;
            if node <= 1 {
                return;
            }
            now = self.score(node).max(self.score(node ^ 1));
            node /= 2;
        }
    }

    fn score(&self, node: usize) -> u32 {
        self.nodes.get(node).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::pool::Range;
    use Protocol::{Tcp, Udp};

    fn eip(last_octet: u8, first: u16, last: u16) -> Eip {
        let range = Range { first, last, excluded: Vec::new() };
        Eip::new(Ipv4Addr::new(203, 0, 113, last_octet), true, false, range)
    }

    fn want(internal: u16, protocol: Protocol) -> Want {
        Want { internal, protocol }
    }

    #[test]
    fn most_free_first_then_configured_order_then_the_next_that_fits() {
        let (mut first, second) = (eip(1, 512, 515), eip(2, 512, 515));
        let both = Eips::new(vec![first.clone(), second.clone()]);
        assert_eq!(both.choose(&[want(80, Tcp)]).map(|c| c.eip().address), Some(first.address));
        assert!(first.take(Tcp, 512));
        let eips = Eips::new(vec![first.clone(), second.clone()]);
        let choice = eips.choose(&[want(80, Tcp)]).expect("room");
        assert_eq!((choice.eip().address, choice.ports()), (second.address, &[512][..]));
        assert_eq!(choice.passed_over().collect::<Vec<_>>(), [(first.address, PassedOver::FewerFree)]);
        // The fuller EIP has no number that is free in both protocols; the other has.
        let mut split = eip(3, 512, 515);
        for port in [512, 513] {
            assert!(split.take(Tcp, port) && split.take(Udp, port + 2));
        }
        let mut small = eip(4, 512, 513);
        assert!(small.take(Tcp, 512));
        let eips = Eips::new(vec![split.clone(), small]);
        let choice = eips.choose(&[want(53, Tcp), want(53, Udp)]).expect("room");
        assert_eq!(choice.ports(), [513, 513]);
        assert_eq!(choice.passed_over().collect::<Vec<_>>(), [(split.address, PassedOver::NoRoom)]);
    }

    /// The ranking is kept up port by port; the reference asks every EIP.
    #[test]
    fn the_ranking_equals_asking_each() {
        let mut seed = 7_u64;
        let mut below = |bound: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % bound
        };
        for count in [1, 2, 3, 15, 16, 17, 40] {
            let mut all: Vec<Eip> = (1..=count).map(|octet| eip(octet, 512, 520 + u16::from(octet % 3))).collect();
            all[usize::from(count) / 2].usable = count % 2 == 0;
            let mut eips = Eips::new(all);
            for _ in 0..1_000 {
                let address = Ipv4Addr::new(203, 0, 113, u8::try_from(below(u64::from(count))).expect("few") + 1);
                let (protocol, port) =
                    (Protocol::ALL[usize::from(below(2) == 0)], 510 + u16::try_from(below(16)).expect("few"));
                if below(2) == 0 {
                    let was_free = eips.find(address).is_some_and(|eip| eip.ports(protocol).is_free(port));
                    assert_eq!(eips.take(address, protocol, port), was_free);
                } else {
                    eips.give(address, protocol, port);
                }
                for needs in [Needs::Tcp, Needs::Udp, Needs::Both] {
                    let usable = eips.iter().enumerate().filter(|(_, eip)| eip.usable && needs.free(eip) > 0);
                    let best = usable.min_by_key(|(position, eip)| (Reverse(needs.free(eip)), *position));
                    assert_eq!(eips.ranking(needs).first(), best.map(|(position, _)| position));
                    assert_eq!(eips.ranking(needs).best(), best.map_or(0, |(_, eip)| needs.free(eip)));
                }
                for eip in eips.iter() {
                    let both = |port: &u16| Protocol::ALL.iter().all(|p| eip.ports(*p).is_free(*port));
                    let twins = eip.pick(&[want(53, Tcp), want(53, Udp)]);
                    assert_eq!(twins.map(|ports| ports[0]), (500..600).find(both));
                }
            }
        }
    }
}
