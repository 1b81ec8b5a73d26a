//! Durations by how often they came: a log-linear histogram, on the crate `histogram`.
//!
//! The rule: recording allocates nothing, never fails and takes some 30 instructions; the 336
//! buckets (2.7 KB) are made with the loop. Each power of two is cut in eight, so a bucket is at
//! most 12.5% wide, from 1 ns to 4.9 hours; longer durations count in the last bucket. The crate's
//! types stay inside.

use std::fmt;
use std::time::Duration;

use histogram::Config;

const CONFIG: Config = match Config::new(3, 44) {
    Ok(config) => config,
    Err(_) => panic!("eight buckets in each of 44 powers of two: checked when this is compiled"),
};
/// The longest duration that has a bucket of its own, in nanoseconds.
const LONGEST: u64 = (1 << 44) - 1;

/// How often durations of each length came, with a relative error of at most 12.5%.
///
/// # Examples
///
/// ```
/// # use echoloop_core::{EventLoop, LoopOptions};
/// let el = EventLoop::new(LoopOptions::default())?;
/// let turn = &el.metrics().turn;
/// println!("{} turns, the mean {:?}", turn.count(), turn.mean());
/// println!("99 of 100 are over within {:?}, all within {:?}", turn.quantile(0.99), turn.max());
/// # Ok::<(), echoloop_core::Error>(())
/// ```
#[derive(Clone)]
pub struct Histogram {
    buckets: histogram::Histogram,
    /// In nanoseconds.
    sum: u64,
    max: u64,
}

/// One bucket of a [`Histogram`]: how many durations from `from` to `to` came, both included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Bucket {
    /// The shortest duration that counts here.
    pub from: Duration,
    /// The longest duration that counts here.
    pub to: Duration,
    /// How many came.
    pub count: u64,
}

impl Histogram {
    pub(crate) fn new() -> Self {
        Self {
            buckets: histogram::Histogram::with_config(&CONFIG),
            sum: 0,
            max: 0,
        }
    }

    /// Counts a duration, in nanoseconds.
    #[inline]
    pub(crate) fn record(&mut self, nanos: u64) {
        // Within its bounds the crate refuses nothing.
        let _ = self.buckets.increment(nanos.min(LONGEST));
        self.sum = self.sum.saturating_add(nanos);
        self.max = self.max.max(nanos);
    }

    /// How many durations were recorded.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.as_slice().iter().sum()
    }

    /// All of them together, exactly.
    #[must_use]
    pub fn sum(&self) -> Duration {
        Duration::from_nanos(self.sum)
    }

    /// The longest, exactly; 0 when there is none.
    #[must_use]
    pub fn max(&self) -> Duration {
        Duration::from_nanos(self.max)
    }

    /// The mean, exactly; 0 when there is none.
    #[must_use]
    pub fn mean(&self) -> Duration {
        Duration::from_nanos(self.sum.checked_div(self.count()).unwrap_or(0))
    }

    /// The duration that the part `q` of all, such as 0.99, do not exceed: at most 12.5% too long,
    /// and never longer than [`max`](Self::max). `q` below 0 counts as 0, above 1 as 1. 0 when
    /// there is none, and when `q` is no number.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Duration {
        match self.buckets.quantile_bucket(q.clamp(0.0, 1.0)) {
            Ok(Some(bucket)) => Duration::from_nanos(self.end_of(&bucket).min(self.max)),
            _ => Duration::ZERO,
        }
    }

    /// The buckets that are not empty, the shortest durations first.
    pub fn buckets(&self) -> impl Iterator<Item = Bucket> + '_ {
        let filled = self.buckets.iter().filter(|bucket| bucket.count() > 0);
        filled.map(|bucket| Bucket {
            from: Duration::from_nanos(bucket.start()),
            to: Duration::from_nanos(self.end_of(&bucket)),
            count: bucket.count(),
        })
    }

    /// What was recorded since `earlier`, a clone of this one: for figures of the last minute.
    /// Its [`max`](Self::max) is that of its buckets, so it can be 12.5% too long.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut since = Self {
            buckets: self.buckets.clone(),
            sum: self.sum.saturating_sub(earlier.sum),
            max: self.max,
        };
        let before = earlier.buckets.as_slice().iter();
        for (count, before) in since.buckets.as_mut_slice().iter_mut().zip(before) {
            *count = count.saturating_sub(*before);
        }
        since.max = since.quantile(1.0).as_nanos() as u64;
        since
    }

    /// The longest duration of a bucket; the last one has no end of its own.
    fn end_of(&self, bucket: &histogram::Bucket) -> u64 {
        match bucket.end() {
            LONGEST => self.max,
            end => end,
        }
    }
}

/// One line: how many, the mean, three quantiles, the longest.
impl fmt::Display for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.count();
        if count == 0 {
            return f.write_str("none");
        }
        write!(
            f,
            "{} times, mean {:.1?}, median {:.1?}, 99% {:.1?}, 99.9% {:.1?}, longest {:.1?}",
            count,
            self.mean(),
            self.quantile(0.5),
            self.quantile(0.99),
            self.quantile(0.999),
            self.max()
        )
    }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Histogram({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::Random;

    fn of(values: &[u64]) -> Histogram {
        let mut histogram = Histogram::new();
        for value in values {
            histogram.record(*value);
        }
        histogram
    }

    #[test]
    fn an_empty_one_answers_zero() {
        let none = of(&[]);
        let zero = Duration::ZERO;
        assert_eq!((none.count(), none.sum()), (0, zero));
        assert_eq!(
            (none.max(), none.mean(), none.quantile(0.5)),
            (zero, zero, zero)
        );
        assert_eq!(none.buckets().count(), 0);
        assert_eq!(none.to_string(), "none");
    }

    #[test]
    fn quantiles_of_random_durations_are_at_most_an_eighth_too_long() {
        for seed in 0..200 {
            let mut random = Random::new(seed);
            let mut values: Vec<u64> = (0..1 + random.below(500))
                .map(|_| {
                    let shift = random.below(64);
                    random.below(u64::MAX) >> shift
                })
                .collect();
            let histogram = of(&values);
            values.sort_unstable();
            assert_eq!(histogram.max().as_nanos() as u64, *values.last().unwrap());
            for q in [0.0, 0.1, 0.5, 0.9, 0.99, 1.0] {
                let rank = (q * values.len() as f64).ceil().max(1.0) as usize;
                let (exact, told) = (values[rank - 1], histogram.quantile(q).as_nanos() as u64);
                assert!(told >= exact.min(LONGEST), "seed {seed}: {told} < {exact}");
                assert!(
                    exact > LONGEST / 2 || told <= exact + exact / 8,
                    "seed {seed}: {told} for {exact}"
                );
            }
            let in_buckets: u64 = histogram.buckets().map(|b| b.count).sum();
            assert_eq!(in_buckets, values.len() as u64, "seed {seed}");
            for bucket in histogram.buckets() {
                let range = bucket.from.as_nanos() as u64..=bucket.to.as_nanos() as u64;
                let inside = values.iter().filter(|v| range.contains(v)).count();
                assert_eq!(inside as u64, bucket.count, "seed {seed}: {bucket:?}");
            }
        }
    }

    #[test]
    fn what_came_since_a_clone_is_told_apart() {
        let mut histogram = of(&[1_000_000, 5]);
        let earlier = histogram.clone();
        histogram.record(7);
        histogram.record(9);
        let since = histogram.since(&earlier);
        let nanos = |n| Duration::from_nanos(n);
        assert_eq!((since.count(), since.sum()), (2, nanos(16)));
        assert_eq!((since.max(), since.quantile(0.5)), (nanos(9), nanos(7)));
    }

    #[test]
    fn odd_quantiles_are_answered() {
        let histogram = of(&[1, 2, 3]);
        assert_eq!(histogram.quantile(-1.0), Duration::from_nanos(1));
        assert_eq!(histogram.quantile(7.0), Duration::from_nanos(3));
        assert_eq!(histogram.quantile(f64::NAN), Duration::ZERO);
    }

    #[test]
    fn what_it_takes_is_said() {
        assert_eq!(
            (CONFIG.total_buckets(), CONFIG.max_value_power()),
            (336, 44)
        );
    }
}
