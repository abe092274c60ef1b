//! Which ports are free.
//!
//! Per EIP and protocol one bitmap with a summary level: the lowest free port, from anywhere, is found in at most a few
//! dozen words whatever the fill, one that is free in both protocols in as many as the range has. The EIPs of a gateway are ranked by what they
//! have free, so that the best is found without asking each ([`Eips`]). Nothing outside the configured range is ever free,
//! a range that ends at 65535 ends there, and port 0 does not exist.

mod eips;

use std::net::Ipv4Addr;

use crate::machine::demand::Want;
use crate::machine::identity::Protocol;

pub use eips::{Choice, Eips, PassedOver};

/// An inclusive range of ports without the excluded ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// First port, at least 1.
    pub first: u16,
    /// Last port, not below the first.
    pub last: u16,
    /// Ranges inside that are never given, both ends inclusive.
    pub excluded: Vec<(u16, u16)>,
}

impl Range {
    /// Whether the port may be given at all.
    #[must_use]
    pub fn contains(&self, port: u16) -> bool {
        let within = |(first, last): &(u16, u16)| *first <= port && port <= *last;
        port != 0 && within(&(self.first, self.last)) && !self.excluded.iter().any(within)
    }
}

const WORD_BITS: usize = 64;

/// The free ports of one EIP and protocol.
#[derive(Clone, Debug)]
pub struct Ports {
    first: u16,
    words: Box<[u64]>,
    /// One bit a word: the word has a free port.
    summary: Box<[u64]>,
    free: u32,
}

impl Ports {
    /// All ports of the range are free.
    #[must_use]
    pub fn new(range: &Range) -> Self {
        let span = usize::from(range.last.saturating_sub(range.first)).saturating_add(1);
        let words = span.div_ceil(WORD_BITS);
        let mut ports = Self {
            first: range.first,
            words: vec![0; words].into(),
            summary: vec![0; words.div_ceil(WORD_BITS)].into(),
            free: 0,
        };
        for port in (range.first..=range.last).filter(|port| range.contains(*port)) {
            ports.give(port);
        }
        ports
    }

    /// How many ports are free.
    #[must_use]
    pub const fn free(&self) -> u32 {
        self.free
    }

    /// Whether the port is free.
    #[must_use]
    pub fn is_free(&self, port: u16) -> bool {
        self.place(port).is_some_and(|(word, bit)| self.words.get(word).is_some_and(|bits| bits & bit != 0))
    }

    /// Takes a port. Returns whether it was free.
    pub fn take(&mut self, port: u16) -> bool {
        let Some((word, bit)) = self.place(port) else { return false };
        let Some(bits) = self.words.get_mut(word) else { return false };
        let was_free = *bits & bit != 0;
        *bits &= !bit;
        if was_free {
            self.free = self.free.saturating_sub(1);
            if *bits == 0 {
                self.summarise(word, false);
            }
        }
        was_free
    }

    /// Gives a port back. The caller answers for its being in the range and not excluded.
    pub fn give(&mut self, port: u16) {
        let Some((word, bit)) = self.place(port) else { return };
        let Some(bits) = self.words.get_mut(word) else { return };
        if *bits & bit == 0 {
            *bits |= bit;
            self.free = self.free.saturating_add(1);
            self.summarise(word, true);
        }
    }

    /// The lowest free port that is not below `from`.
    #[must_use]
    pub fn lowest_from(&self, from: u16) -> Option<u16> {
        let offset = usize::from(from.saturating_sub(self.first));
        let (word, skip) = (offset / WORD_BITS, offset % WORD_BITS);
        let here = self.words.get(word).map_or(0, |bits| bits & (u64::MAX << skip));
        if here != 0 {
            return self.port(word, here);
        }
        let word = self.next_word(word.checked_add(1)?)?;
        self.port(word, *self.words.get(word)?)
    }

    /// The lowest port that is not below `from` and free in these and in others of the same range.
    fn lowest_in_both(&self, others: &Self, from: u16) -> Option<u16> {
        let offset = usize::from(from.saturating_sub(self.first));
        let (first, skip) = (offset / WORD_BITS, offset % WORD_BITS);
        let words = self.words.iter().zip(&others.words).map(|(ours, theirs)| ours & theirs).enumerate().skip(first);
        let mut open = words.map(|(word, bits)| (word, if word == first { bits & (u64::MAX << skip) } else { bits }));
        let (word, bits) = open.find(|(_, bits)| *bits != 0)?;
        self.port(word, bits)
    }

    fn next_word(&self, from: usize) -> Option<usize> {
        let (block, skip) = (from / WORD_BITS, from % WORD_BITS);
        let first = self.summary.get(block).map(|bits| bits & (u64::MAX << skip));
        let rest = self.summary.iter().copied().enumerate().skip(block.checked_add(1)?);
        std::iter::once((block, first?))
            .chain(rest)
            .find(|(_, bits)| *bits != 0)
            .and_then(|(block, bits)| block.checked_mul(WORD_BITS)?.checked_add(bits.trailing_zeros() as usize))
    }

    fn port(&self, word: usize, bits: u64) -> Option<u16> {
        let offset = word.checked_mul(WORD_BITS)?.checked_add(bits.trailing_zeros() as usize)?;
        self.first.checked_add(u16::try_from(offset).ok()?)
    }

    fn place(&self, port: u16) -> Option<(usize, u64)> {
        let offset = usize::from(port.checked_sub(self.first)?);
        Some((offset / WORD_BITS, 1 << (offset % WORD_BITS)))
    }

    fn summarise(&mut self, word: usize, any: bool) {
        if let Some(bits) = self.summary.get_mut(word / WORD_BITS) {
            let bit = 1 << (word % WORD_BITS);
            *bits = if any { *bits | bit } else { *bits & !bit };
        }
    }
}

/// One EIP of a gateway as far as a pool entry covers it.
#[derive(Clone, Debug)]
pub struct Eip {
    /// The address.
    pub address: Ipv4Addr,
    /// It is in use, unlocked, and no `Any` entry occupies it.
    pub usable: bool,
    /// SNAT uses it too.
    pub snat: bool,
    /// The ports that it offers.
    pub range: Range,
    tcp: Ports,
    udp: Ports,
    /// Ports that it has with nothing on it.
    size: u32,
}

impl Eip {
    /// An EIP all of whose ports are free.
    #[must_use]
    pub fn new(address: Ipv4Addr, usable: bool, snat: bool, range: Range) -> Self {
        let ports = Ports::new(&range);
        let size = ports.free();
        Self { address, usable, snat, range, tcp: ports.clone(), udp: ports, size }
    }

    /// The same EIP in another state.
    #[must_use]
    pub fn with(self, usable: bool, snat: bool) -> Self {
        Self { usable, snat, ..self }
    }

    /// The free ports of a protocol.
    #[must_use]
    pub const fn ports(&self, protocol: Protocol) -> &Ports {
        match protocol {
            Protocol::Tcp => &self.tcp,
            Protocol::Udp => &self.udp,
        }
    }

    /// Takes a port of a protocol. Returns whether it was free.
    pub fn take(&mut self, protocol: Protocol, port: u16) -> bool {
        self.ports_mut(protocol).take(port)
    }

    /// Gives a port of a protocol back. The caller answers for its being in the range and not excluded.
    pub fn give(&mut self, protocol: Protocol, port: u16) {
        self.ports_mut(protocol).give(port);
    }

    const fn ports_mut(&mut self, protocol: Protocol) -> &mut Ports {
        match protocol {
            Protocol::Tcp => &mut self.tcp,
            Protocol::Udp => &mut self.udp,
        }
    }

    /// External ports for the wants, in their order: lowest free first, one number for both protocols of one internal port.
    #[must_use]
    pub fn pick(&self, wants: &[Want]) -> Option<Vec<u16>> {
        if let [want] = wants {
            return self.ports(want.protocol).lowest_from(self.range.first).map(|port| vec![port]);
        }
        let mut picked: Vec<(Want, u16)> = Vec::with_capacity(wants.len());
        // Numbers that must be free in both protocols are the scarcer ones, so they choose first.
        let both =
            |want: &Want| wants.iter().any(|other| other.internal == want.internal && other.protocol != want.protocol);
        for shared in [true, false] {
            for want in wants.iter().filter(|want| both(want) == shared) {
                let twin = picked.iter().find(|(other, _)| shared && other.internal == want.internal);
                let port = match twin {
                    Some((_, port)) => *port,
                    None => self.lowest(want.protocol, shared, &picked)?,
                };
                picked.push((*want, port));
            }
        }
        wants.iter().map(|want| picked.iter().find(|(other, _)| other == want).map(|(_, port)| *port)).collect()
    }

    fn lowest(&self, protocol: Protocol, both: bool, picked: &[(Want, u16)]) -> Option<u16> {
        let free =
            |from| if both { self.tcp.lowest_in_both(&self.udp, from) } else { self.ports(protocol).lowest_from(from) };
        let is_picked = |port| {
            let taken = |(want, other): &(Want, u16)| *other == port && (both || want.protocol == protocol);
            picked.iter().any(taken)
        };
        let mut from = self.range.first;
        loop {
            let port = free(from)?;
            if !is_picked(port) {
                return Some(port);
            }
            from = port.checked_add(1)?;
        }
    }
}

/// Whether the wants would fit an EIP with nothing on it. The larger protocol decides: both may use one number.
#[must_use]
pub fn could_fit(eips: &[Eip], wants: &[Want]) -> bool {
    let count = |protocol| wants.iter().filter(|want| want.protocol == protocol).count();
    let needed = Protocol::ALL.into_iter().map(count).max().unwrap_or(0);
    eips.iter().any(|eip| eip.size as usize >= needed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use Protocol::{Tcp, Udp};

    fn range(first: u16, last: u16) -> Range {
        Range { first, last, excluded: Vec::new() }
    }

    fn eip(last_octet: u8, first: u16, last: u16) -> Eip {
        Eip::new(Ipv4Addr::new(203, 0, 113, last_octet), true, false, range(first, last))
    }

    fn want(internal: u16, protocol: Protocol) -> Want {
        Want { internal, protocol }
    }

    #[test]
    fn a_range_that_ends_at_65535_ends_there() {
        let mut ports = Ports::new(&range(65_530, 65_535));
        let given: Vec<u16> =
            std::iter::from_fn(|| ports.lowest_from(1).inspect(|port| assert!(ports.take(*port)))).collect();
        assert_eq!(given, [65_530, 65_531, 65_532, 65_533, 65_534, 65_535]);
        assert_eq!((ports.lowest_from(1), ports.free()), (None, 0));
    }

    #[test]
    fn the_bitmap_equals_a_plain_list() {
        let spread = Range { first: 500, last: 65_535, excluded: vec![(512, 640), (60_000, 65_000)] };
        let mut ports = Ports::new(&spread);
        let mut list: Vec<u16> = (500..=65_535).filter(|port| spread.contains(*port)).collect();
        let mut seed = 1_u64;
        for _ in 0..20_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let port = (seed >> 48) as u16;
            let at = list.binary_search(&port);
            if seed & (1 << 20) == 0 {
                assert_eq!(ports.take(port), at.is_ok());
                at.map(|at| list.remove(at)).ok();
            } else if spread.contains(port) {
                ports.give(port);
                at.err().inspect(|at| list.insert(*at, port));
            }
            let next = list.partition_point(|free| *free < port);
            assert_eq!(ports.lowest_from(port), list.get(next).copied());
            assert_eq!(ports.free() as usize, list.len());
        }
    }

    #[test]
    fn both_protocols_of_a_port_share_a_number() {
        let mut one = eip(1, 512, 520);
        assert!(one.take(Udp, 512));
        let wants = [want(80, Tcp), want(53, Tcp), want(53, Udp), want(54, Udp)];
        assert_eq!(one.pick(&wants), Some(vec![512, 513, 513, 514]));
    }

    #[test]
    fn what_could_never_fit_is_known() {
        let eips = [eip(1, 512, 513)];
        let wants: Vec<Want> = [1, 2, 3].map(|port| want(port, Tcp)).into();
        assert!(could_fit(&eips, &wants[..2]) && !could_fit(&eips, &wants));
        assert!(could_fit(&eips, &[want(1, Tcp), want(2, Tcp), want(3, Udp), want(4, Udp)]));
    }
}
