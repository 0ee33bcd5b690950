//! [`OptimizerStats`]: what a swapper has moved, and where its time went.

use std::time::{Duration, Instant};

/// What a swapper has done since it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct OptimizerStats {
    /// The budget, in bytes.
    pub memory: u64,
    /// Of it, what is taken: groups that are read, leased, written or resident, and blocks of gradients.
    pub used: u64,
    /// The most that was taken at once.
    pub used_max: u64,
    /// How many groups are read ahead and written behind.
    pub depth: usize,
    /// Bytes read from the drive.
    pub read: u64,
    /// Bytes written to the drive.
    pub written: u64,
    /// How many leases there were.
    pub leases: u64,
    /// While something was read.
    pub read_time: Duration,
    /// While something was written.
    pub write_time: Duration,
    /// While something was read or written.
    pub io_time: Duration,
    /// While the program had a lease.
    pub compute_time: Duration,
    /// While the program waited for its next lease.
    pub stall_time: Duration,
}

impl OptimizerStats {
    /// Of the time of reads and writes, the share in which the program did not wait for them: from 0 to 1.
    pub fn overlap(&self) -> f64 {
        if self.io_time.is_zero() {
            return 1.0;
        }
        (1.0 - self.stall_time.as_secs_f64() / self.io_time.as_secs_f64()).max(0.0)
    }
}

/// Time that several overlapping things have taken together. They are added in about the order of their beginnings.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Span {
    pub(super) total: Duration,
    end: Option<Instant>,
}

impl Span {
    pub(super) fn add(&mut self, start: Instant, duration: Duration) {
        let end = start + duration;
        let from = self.end.map_or(start, |last| last.max(start));
        self.total += end.saturating_duration_since(from);
        self.end = self.end.max(Some(end));
    }
}

/// The times of a swapper.
#[derive(Debug, Default)]
pub(super) struct Times {
    pub(super) read: Span,
    pub(super) write: Span,
    pub(super) io: Span,
    pub(super) compute: Span,
    pub(super) stall: Duration,
}

#[cfg(test)]
mod tests {
    use super::{OptimizerStats, Span};
    use std::time::{Duration, Instant};

    #[test]
    fn time_that_is_shared_counts_once() {
        let (mut span, start, ms) = (Span::default(), Instant::now(), Duration::from_millis);
        span.add(start, ms(10));
        span.add(start + ms(5), ms(10));
        span.add(start + ms(6), ms(2));
        span.add(start + ms(100), ms(1));
        assert_eq!(span.total, ms(16));
    }

    #[test]
    fn what_was_waited_for_is_no_overlap() {
        let stats = |io, stall| OptimizerStats {
            io_time: Duration::from_millis(io),
            stall_time: Duration::from_millis(stall),
            ..OptimizerStats::default()
        };
        assert_eq!((stats(0, 5).overlap(), stats(10, 0).overlap(), stats(10, 20).overlap()), (1.0, 1.0, 0.0));
        assert!((stats(10, 1).overlap() - 0.9).abs() < 1e-9);
    }
}
