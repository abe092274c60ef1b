//! Three ways to hand out the ports of some EIPs: the machine's, and those of its peers, re-stated.

use std::net::Ipv4Addr;
use std::sync::Mutex;

use natgw::machine::demand::Want;
use natgw::machine::identity::Protocol;
use natgw::machine::pool::{Eip, Eips, Range};

/// The first port of every EIP.
pub const FIRST: u16 = 1_024;

/// So many EIPs with so many ports each.
#[derive(Clone, Copy)]
pub struct Shape {
    pub eips: u16,
    pub ports: u16,
}

/// The position of an EIP, and a port of it.
pub type Slot = (u16, u16);

pub trait Slots {
    fn allocate(&mut self) -> Slot;
    fn release(&mut self, slot: Slot);

    /// Takes so many.
    fn fill(&mut self, count: usize) -> Vec<Slot> {
        (0..count).map(|_| self.allocate()).collect()
    }
}

impl Shape {
    pub fn slots(self) -> usize {
        usize::from(self.eips) * usize::from(self.ports)
    }

    pub fn name(self) -> String {
        format!("{}x{}", self.eips, self.ports)
    }

    fn last(self) -> u16 {
        FIRST + (self.ports - 1)
    }
}

/// SplitMix64: the same numbers in every run.
pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }
}

/// The machine's.
pub struct Ours(Eips);

const WANT: [Want; 1] = [Want { internal: 80, protocol: Protocol::Tcp }];

/// 198.18.0.0/15 is for benchmarks (RFC 2544).
fn address(position: u16) -> Ipv4Addr {
    let [high, low] = position.to_be_bytes();
    Ipv4Addr::new(198, 18, high, low)
}

impl Ours {
    pub fn new(shape: Shape) -> Self {
        let range = Range { first: FIRST, last: shape.last(), excluded: Vec::new() };
        Self(Eips::new(
            (0..shape.eips).map(|position| Eip::new(address(position), true, false, range.clone())).collect(),
        ))
    }
}

impl Slots for Ours {
    fn allocate(&mut self) -> Slot {
        let choice = self.0.choose(&WANT).unwrap();
        let (address, port) = (choice.eip().address, choice.ports()[0]);
        assert!(self.0.take(address, Protocol::Tcp, port));
        let [_, _, high, low] = address.octets();
        (u16::from_be_bytes([high, low]), port)
    }

    fn release(&mut self, (position, port): Slot) {
        self.0.give(address(position), Protocol::Tcp, port);
    }
}

/// What most peers do: under a lock, try port after port until one is not in the map of those that are taken.
pub struct MapScan {
    shape: Shape,
    #[expect(clippy::disallowed_types, reason = "it is what the peers use, and the faster map")]
    taken: Mutex<std::collections::HashMap<Slot, u64>>,
}

impl MapScan {
    pub fn new(shape: Shape) -> Self {
        Self { shape, taken: Mutex::default() }
    }

    fn all(shape: Shape) -> impl Iterator<Item = Slot> {
        (0..shape.eips).flat_map(move |eip| (FIRST..=shape.last()).map(move |port| (eip, port)))
    }
}

impl Slots for MapScan {
    fn allocate(&mut self) -> Slot {
        let mut taken = self.taken.lock().unwrap();
        let slot = Self::all(self.shape).find(|slot| !taken.contains_key(slot)).unwrap();
        taken.insert(slot, 1);
        slot
    }

    fn release(&mut self, slot: Slot) {
        self.taken.lock().unwrap().remove(&slot);
    }

    /// First fit takes the lowest, which needs no search on an empty map.
    fn fill(&mut self, count: usize) -> Vec<Slot> {
        let lowest: Vec<Slot> = Self::all(self.shape).take(count).collect();
        self.taken.lock().unwrap().extend(lowest.iter().map(|slot| (*slot, 1)));
        lowest
    }
}

/// What Kubernetes does for NodePorts, the fastest of the peers: a bitmap an EIP under a lock, tried bit after bit from
/// a random start. The EIP is drawn, too; one that is full gives way to the next.
pub struct RandomStart {
    shape: Shape,
    inner: Mutex<(Vec<Bits>, Dice)>,
}

struct Bits {
    words: Vec<u64>,
    taken: usize,
}

impl RandomStart {
    pub fn new(shape: Shape) -> Self {
        let bits = || Bits { words: vec![0; usize::from(shape.ports).div_ceil(64)], taken: 0 };
        let eips = (0..shape.eips).map(|_| bits()).collect();
        Self { shape, inner: Mutex::new((eips, Dice(1))) }
    }
}

impl Slots for RandomStart {
    fn allocate(&mut self) -> Slot {
        let mut inner = self.inner.lock().unwrap();
        let (eips, dice) = &mut *inner;
        let ports = usize::from(self.shape.ports);
        let start = dice.below(eips.len());
        let place = (0..eips.len()).map(|n| (start + n) % eips.len()).find(|place| eips[*place].taken < ports).unwrap();
        let (bits, start) = (&mut eips[place], dice.below(ports));
        let free = |at: &usize| bits.words[at / 64] & (1 << (at % 64)) == 0;
        let at = (0..ports).map(|n| (start + n) % ports).find(free).unwrap();
        bits.words[at / 64] |= 1 << (at % 64);
        bits.taken += 1;
        (place as u16, FIRST + at as u16)
    }

    fn release(&mut self, (place, port): Slot) {
        let mut inner = self.inner.lock().unwrap();
        let (bits, at) = (&mut inner.0[usize::from(place)], usize::from(port - FIRST));
        bits.words[at / 64] &= !(1 << (at % 64));
        bits.taken -= 1;
    }
}
