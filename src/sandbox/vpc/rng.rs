//! The model's only source of chance: SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators",
//! 2014). Small, seeded, and part of the saved state, so that a model that was stopped goes on as if it had not been.

use serde::{Deserialize, Serialize};

/// One million: rates are kept in parts of it, because integers are equal on every machine.
pub(crate) const MILLION: u32 = 1_000_000;

/// The increment of SplitMix64, 2^64 divided by the golden ratio, odd.
const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// A seeded generator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// 64 bits.
    pub(crate) const fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GAMMA);
        mix(self.0)
    }

    /// A number from 1 to `most`; 1 where `most` is 0.
    pub(crate) fn up_to(&mut self, most: u64) -> u64 {
        // The bias of the remainder is below 2^-40 for every limit of this model.
        (self.draw() % most.max(1)).saturating_add(1)
    }

    /// Whether something happens that happens `rate` times in a million.
    pub(crate) fn happens(&mut self, rate: u32) -> bool {
        rate > 0 && self.up_to(u64::from(MILLION)) <= u64::from(rate)
    }

    /// A delay from 1 to about `most`, short ones as likely as long ones on a logarithmic scale.
    pub(crate) fn delay(&mut self, most: u64) -> u64 {
        let halvings = self.draw() % DELAY_SCALES;
        self.up_to(most >> halvings)
    }
}

/// How many times a longest delay is halved at most: 15 min come down to less than a second.
const DELAY_SCALES: u64 = 12;

/// The output function of SplitMix64: a bijection on 64 bits, so that distinct inputs give distinct names.
pub(crate) const fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_sequence_of_seed_1234567() {
        let mut rng = Rng::new(1_234_567);
        let drawn: Vec<u64> = (0..3).map(|_| rng.draw()).collect();
        assert_eq!(drawn, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn rates_are_kept() {
        let mut rng = Rng::new(1);
        assert!((0..1000).all(|_| !rng.happens(0)));
        assert!((0..1000).all(|_| rng.happens(MILLION)));
        let happened = (0..100_000).filter(|_| rng.happens(MILLION / 10)).count();
        assert!((9_500..10_500).contains(&happened), "{happened} of 100,000 at one in ten");
    }
}
