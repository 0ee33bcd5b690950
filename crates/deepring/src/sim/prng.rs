//! The source of every decision of a simulation: `SplitMix64` (Steele, Lea, Flood 2014), small,
//! fast, and the same everywhere.

/// A deterministic stream of numbers.
#[derive(Debug, Clone)]
pub(crate) struct Prng(u64);

const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// The output function of `SplitMix64`: a bijection whose bits depend on all bits of `value`.
pub(crate) fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

impl Prng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        mix(self.0)
    }

    /// An independent stream for another part of the simulation.
    pub(crate) fn branch(&mut self) -> Self {
        Self(self.number())
    }

    /// A number below `limit`; 0 if `limit` is 0.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        ((u128::from(self.number()) * u128::from(limit)) >> 64) as u64
    }

    /// `low` to `high`, both included.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    pub(crate) fn index(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }

    /// True with this probability.
    pub(crate) fn chance(&mut self, per_million: u32) -> bool {
        per_million > 0 && self.below(1_000_000) < u64::from(per_million)
    }

    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.index(choices.len())]
    }

    /// A duration around `mean`: mostly shorter, sometimes several times as long.
    pub(crate) fn about(&mut self, mean: u64) -> u64 {
        // The sum of a geometric number of halves has a long tail and needs no floating point,
        // which would differ between machines.
        let mut total = self.below(mean + 1);
        while self.one_in(3) {
            total += self.below(mean + 1);
        }
        total
    }
}
