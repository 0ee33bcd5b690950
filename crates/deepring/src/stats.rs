//! Counters and the latency histogram. The driver writes them with relaxed atomics, any thread can
//! read them at any time.

use crate::priority::Priority;
use crate::windows::DeviceWindow;
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Sub-buckets per power of two: every recorded latency is off by at most 1/16.
const SUB_BUCKETS: usize = 16;
/// Powers of two covered: up to 2^36 microseconds, 19 hours.
const POWERS: usize = 36;

/// A number that has a cache line to itself. Callers count what they submit while the driver counts
/// what it does. On a shared line they would take it from each other at every operation.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct Counter(AtomicU64);

impl Deref for Counter {
    type Target = AtomicU64;
    fn deref(&self) -> &AtomicU64 {
        &self.0
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        #[derive(Default)]
        pub(crate) struct Counters { $(pub(crate) $name: Counter,)* latency: [Latency; Priority::ALL.len()] }

        /// A snapshot of an engine's counters, which count from when it was built.
        #[derive(Debug, Clone, Default, PartialEq)]
        #[non_exhaustive]
        pub struct Stats {
            $($(#[$doc])* pub $name: u64,)*
            /// Latency of requests settled with success, from acceptance to settlement.
            pub latency: LatencySummary,
            /// The same of each class, as histograms, in the order of [`Priority::ALL`].
            pub classes: Vec<LatencyHistogram>,
            /// What the engine keeps in flight at the devices that it has used, as it found out.
            pub windows: Vec<DeviceWindow>,
        }

        impl Counters {
            pub(crate) fn snapshot(&self) -> Stats {
                let classes = Priority::ALL.iter().zip(&self.latency).map(|(&class, latency)| LatencyHistogram::of(class, latency));
                Stats {
                    $($name: self.$name.load(Relaxed),)*
                    latency: summary(self.latency.iter()),
                    classes: classes.collect(),
                    windows: Vec::new(),
                }
            }
        }
    };
}

counters! {
    /// Requests accepted.
    submitted,
    /// Requests settled with success.
    completed,
    /// Requests settled with an error other than cancellation.
    failed,
    /// Requests canceled before they finished.
    canceled,
    /// Device operations that moved less than requested and were continued.
    resumed,
    /// Device operations repeated after `EINTR` or `EAGAIN`.
    retried,
    /// Bytes copied through bounce blocks.
    bounced_bytes,
    /// Writes that were punted: they would have blocked the submitter, so a thread of their file
    /// system carried them out.
    punted,
    /// Files that became buffered because their first direct operation was refused.
    downgraded,
    /// Device operations whose memory is never freed because their ring was lost.
    leaked,
    /// The memory of those operations, in bytes.
    leaked_bytes,
    /// Panics of the program's code on threads of the engine: wakers, completions, callbacks, and
    /// the `Drop` of what they hold.
    panics,
    /// Bytes read from files into requests.
    read_bytes,
    /// Bytes written from requests to files.
    written_bytes,
    /// Blocks in flight now.
    in_flight,
    /// The largest number of blocks that were in flight at once.
    in_flight_max,
    /// Bytes in flight now.
    in_flight_bytes,
    /// The largest number of bytes that were in flight at once.
    in_flight_bytes_max,
    /// Requests accepted and not yet settled, those in flight included.
    queued,
    /// Buffers handed out and not yet returned.
    buffers,
    /// Their memory in bytes.
    buffer_bytes,
    /// Bytes of returned memory that are kept for reuse. Most of them the kernel can take when it
    /// needs memory, and then they count here without being present. See `Engine::trim`.
    pooled_bytes,
}

pub(crate) fn add(counter: &AtomicU64, value: u64) {
    counter.fetch_add(value, Relaxed);
}

/// As [`add`], for a counter that only the calling thread changes: the driver's own.
pub(crate) fn add_alone(counter: &AtomicU64, value: u64) {
    counter.store(counter.load(Relaxed) + value, Relaxed);
}

/// As [`sub`], likewise.
pub(crate) fn sub_alone(counter: &AtomicU64, value: u64) {
    counter.store(counter.load(Relaxed) - value, Relaxed);
}

/// Raises a counter that only the calling thread changes to at least this value.
pub(crate) fn raise_alone(counter: &AtomicU64, value: u64) {
    if counter.load(Relaxed) < value {
        counter.store(value, Relaxed);
    }
}

pub(crate) fn sub(counter: &AtomicU64, value: u64) {
    counter.fetch_sub(value, Relaxed);
}

/// A log-linear histogram of microseconds (the layout of HdrHistogram with four significant bits).
pub(crate) struct Latency {
    buckets: Box<[AtomicU64]>,
    sum_us: AtomicU64,
    min_us: AtomicU64,
    max_us: AtomicU64,
}

impl Default for Latency {
    fn default() -> Self {
        Self {
            buckets: (0..POWERS * SUB_BUCKETS).map(|_| AtomicU64::new(0)).collect(),
            sum_us: AtomicU64::new(0),
            min_us: AtomicU64::new(u64::MAX),
            max_us: AtomicU64::new(0),
        }
    }
}

fn bucket(us: u64) -> usize {
    if us < SUB_BUCKETS as u64 {
        return us as usize;
    }
    let power = us.ilog2() as usize;
    let sub = (us >> (power - 4)) as usize & (SUB_BUCKETS - 1);
    ((power - 3) * SUB_BUCKETS + sub).min(POWERS * SUB_BUCKETS - 1)
}

/// The largest value that falls into a bucket.
fn bucket_top(index: usize) -> u64 {
    if index < SUB_BUCKETS {
        return index as u64;
    }
    let power = index / SUB_BUCKETS + 3;
    let sub = (index % SUB_BUCKETS) as u64;
    ((SUB_BUCKETS as u64 + sub + 1) << (power - 4)) - 1
}

impl Latency {
    /// Only the driver records.
    pub(crate) fn record(&self, us: u64) {
        add_alone(&self.buckets[bucket(us)], 1);
        add_alone(&self.sum_us, us);
        if us < self.min_us.load(Relaxed) {
            self.min_us.store(us, Relaxed);
        }
        raise_alone(&self.max_us, us);
    }
}

impl Counters {
    /// A request of this class has succeeded. Only the driver records.
    pub(crate) fn record_latency(&self, class: Priority, us: u64) {
        self.latency[class as usize].record(us);
    }
}

/// A summary of all values of these histograms.
fn summary<'a>(all: impl Iterator<Item = &'a Latency> + Clone) -> LatencySummary {
    let mut counts = vec![0; POWERS * SUB_BUCKETS];
    for latency in all.clone() {
        counts.iter_mut().zip(latency.buckets.iter()).for_each(|(sum, bucket)| *sum += bucket.load(Relaxed));
    }
    let count: u64 = counts.iter().sum();
    if count == 0 {
        return LatencySummary::default();
    }
    let max_us = all.clone().map(|latency| latency.max_us.load(Relaxed)).max().unwrap_or(0);
    let quantile = |share: f64| {
        let rank = ((count as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        let index = counts.iter().position(|n| {
            seen += n;
            seen >= rank
        });
        bucket_top(index.unwrap_or(counts.len() - 1)).min(max_us)
    };
    LatencySummary {
        count,
        min_us: all.clone().map(|latency| latency.min_us.load(Relaxed)).min().unwrap_or(0),
        max_us,
        mean_us: all.map(|latency| latency.sum_us.load(Relaxed)).sum::<u64>() as f64 / count as f64,
        p50_us: quantile(0.5),
        p90_us: quantile(0.9),
        p99_us: quantile(0.99),
        p999_us: quantile(0.999),
    }
}

/// The latencies of the requests of one class.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct LatencyHistogram {
    /// The class.
    pub class: Priority,
    /// Their quantiles.
    pub summary: LatencySummary,
    /// Their sum, in microseconds.
    pub sum_us: u64,
    /// The buckets that are not empty: the largest latency of each in microseconds, and how many fell into it.
    pub buckets: Vec<(u64, u64)>,
}

impl LatencyHistogram {
    fn of(class: Priority, latency: &Latency) -> Self {
        let counts = latency.buckets.iter().map(|bucket| bucket.load(Relaxed)).enumerate();
        let buckets = counts.filter(|&(_, count)| count > 0).map(|(index, count)| (bucket_top(index), count)).collect();
        Self { class, summary: summary(std::iter::once(latency)), sum_us: latency.sum_us.load(Relaxed), buckets }
    }
}

/// Quantiles of a latency histogram, in microseconds, each at most 1/16 above the true value.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct LatencySummary {
    /// How many values were recorded.
    pub count: u64,
    /// The smallest.
    pub min_us: u64,
    /// The largest.
    pub max_us: u64,
    /// The mean.
    pub mean_us: f64,
    /// The median.
    pub p50_us: u64,
    /// The 90th percentile.
    pub p90_us: u64,
    /// The 99th percentile.
    pub p99_us: u64,
    /// The 99.9th percentile.
    pub p999_us: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_bucket_holds_its_values_and_is_off_by_a_sixteenth_at_most(us in 0u64..1 << 35) {
            let top = bucket_top(bucket(us));
            prop_assert!(top >= us);
            prop_assert!(top - us <= us / 16);
        }
    }

    #[test]
    fn quantiles_of_a_known_distribution() {
        let latency = Latency::default();
        (1..=1000).for_each(|us| latency.record(us));
        let summary = summary(std::iter::once(&latency));
        assert_eq!((summary.count, summary.min_us, summary.max_us), (1000, 1, 1000));
        assert!((500..=532).contains(&summary.p50_us), "{summary:?}");
        assert!((990..=1000).contains(&summary.p99_us), "{summary:?}");
    }

    #[test]
    fn each_class_has_its_own_histogram_and_all_have_one_summary() {
        let counters = Counters::default();
        (1..=10).for_each(|us| counters.record_latency(Priority::Latency, us));
        counters.record_latency(Priority::Background, 1000);
        counters.record_latency(Priority::Background, 1001);
        let stats = counters.snapshot();
        assert_eq!((stats.latency.count, stats.latency.min_us, stats.latency.max_us, stats.latency.p50_us), (12, 1, 1001, 6));
        let [latency, throughput, background] = &stats.classes[..] else { panic!("three classes") };
        assert_eq!((latency.class, latency.summary.max_us, latency.sum_us, latency.buckets.len()), (Priority::Latency, 10, 55, 10));
        assert_eq!((throughput.class, &throughput.summary), (Priority::Throughput, &LatencySummary::default()));
        assert!(throughput.buckets.is_empty());
        assert_eq!((background.sum_us, &background.buckets[..]), (2001, &[(1023, 2)][..]));
    }
}
