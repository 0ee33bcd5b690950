//! The settings of an engine, and their bounds.

pub(crate) const BLOCK_BYTES_MIN: u64 = 4096;
pub(crate) const BLOCK_BYTES_MAX: u64 = 1 << 30;
/// The last position at which a transfer can end: what a signed 64-bit offset can express, less a
/// block of padding.
pub(crate) const END_MAX: u64 = i64::MAX as u64 - BLOCK_BYTES_MAX;

/// The smallest window: what a fast drive with a short way to it needs, 7 GB/s for 0.15 ms.
pub(crate) const WINDOW_BYTES_MIN: u64 = 1 << 20;

/// Copies this long are worth waking a thread for: about 15 us of copying against 5 us of waking.
pub(crate) const OFFLOAD_BYTES: usize = 64 << 10;

/// Whether an engine finds out how much to have in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum WindowMode {
    /// It keeps as little in flight as the device's rate allows. `queue_depth` and `in_flight_bytes`
    /// are upper bounds.
    #[default]
    Auto,
    /// It keeps as much in flight as `queue_depth` and `in_flight_bytes` allow.
    Fixed,
}

/// The settings of an engine, with defaults filled in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Config {
    /// Blocks in flight per device; `None` stands for half of what the device's queue holds.
    pub(crate) queue_depth: Option<u32>,
    pub(crate) block_bytes: u64,
    pub(crate) in_flight_bytes: u64,
    pub(crate) window: WindowMode,
    /// The smallest window that is searched for.
    pub(crate) window_bytes_min: u64,
    pub(crate) max_queued: u64,
    /// Of the backend of threads, for each file system.
    pub(crate) threads: usize,
    /// Copies of bounced bytes that are at least this long are made by blocking threads.
    pub(crate) offload_bytes: usize,
}

impl Config {
    /// Requests in flight at a device whose queue holds this many. Above its queue's size, submitting
    /// blocks the submitter; half of it leaves room for other processes.
    pub(crate) fn device_requests(queue_holds: u32) -> u32 {
        (queue_holds / 2).max(1)
    }

    /// Blocks in flight at such a device.
    pub(crate) fn device_blocks(&self, queue_holds: u32) -> u32 {
        self.queue_depth.unwrap_or(u32::MAX).min(Self::device_requests(queue_holds))
    }

    /// The block size of a handle that asks for `asked` bytes; 0 stands for the engine's. A block
    /// larger than the limit of bytes in flight would exceed it, and run alone.
    pub(crate) fn handle_block_bytes(&self, asked: u64) -> u64 {
        let max = BLOCK_BYTES_MAX.min(self.in_flight_bytes - self.in_flight_bytes % BLOCK_BYTES_MIN);
        // The limit first: a number near 2^64 would become 0 if it were rounded up.
        asked.min(max).next_multiple_of(BLOCK_BYTES_MIN)
    }
}
