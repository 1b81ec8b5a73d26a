//! Random numbers from a seed, for the simulated system and for tests.
//!
//! The rule: what is random follows from a printed number and nothing else, so a failure can be
//! run again. [`Random::each_seed`] is how a test with random input runs: many short sequences, and
//! the seed of one that fails is printed whatever it fails by.

use std::ops::Range;

/// A small generator (SplitMix64, Steele, Lea and Flood, 2014): the same numbers for the same seed.
///
/// ```
/// use echoloop_core::sys::Random;
///
/// Random::each_seed(100, |seed, random| {
///     let bytes = random.bytes(10);
///     assert_eq!(bytes, Random::new(seed).bytes(10));
/// });
/// ```
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A generator that starts at `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The seeds that a test runs: those below `count`; the first `ECHOLOOP_SEEDS` if the
    /// environment has it; only `ECHOLOOP_SEED` if it has that.
    #[must_use]
    pub fn seeds(count: u64) -> Range<u64> {
        let number = |name| std::env::var(name).ok()?.parse::<u64>().ok();
        match number("ECHOLOOP_SEED") {
            Some(seed) => seed..seed + 1,
            None => 0..number("ECHOLOOP_SEEDS").unwrap_or(count),
        }
    }

    /// Calls `run` with each of [`seeds`](Self::seeds) and its generator. The seed of a call that
    /// panics is printed to standard error.
    pub fn each_seed(count: u64, mut run: impl FnMut(u64, &mut Self)) {
        struct Told(u64);
        impl Drop for Told {
            fn drop(&mut self) {
                if std::thread::panicking() {
                    eprintln!(
                        "failed with seed {0}: run it alone with ECHOLOOP_SEED={0}",
                        self.0
                    );
                }
            }
        }
        for seed in Self::seeds(count) {
            let _told = Told(seed);
            run(seed, &mut Self::new(seed));
        }
    }

    /// Any number.
    #[expect(clippy::should_implement_trait, reason = "it has no end")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`; 0 when `n` is 0.
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// `n` bytes.
    pub fn bytes(&mut self, n: usize) -> Vec<u8> {
        let words = (0..n.div_ceil(8)).flat_map(|_| self.next().to_le_bytes());
        words.take(n).collect()
    }
}
