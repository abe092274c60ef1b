//! Chance, all of it from the seed.

/// Draws (SplitMix64: Steele, Lea and Flood, 2014).
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// A stream of draws of its own: equal seed and name give equal draws, whatever else is drawn.
    pub fn new(seed: u64, name: &str) -> Self {
        let hash = blake3::hash(format!("{seed} {name}").as_bytes());
        let (first, _) = hash.as_bytes().split_at(8);
        Self(first.iter().fold(0, |bits, byte| (bits << 8) | u64::from(*byte)))
    }

    /// A number below `below`; 0 where there is none.
    pub fn draw(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (bits ^ (bits >> 31)) % below.max(1)
    }

    /// Whether something happens that happens once in `n` times.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.draw(n) == 0
    }

    /// One of the elements; they are not empty.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.index(from.len())]
    }

    /// A position in something of that length.
    pub fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.draw(length as u64)).expect("below a usize")
    }
}
