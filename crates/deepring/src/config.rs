//! What an engine is built with, and the bounds of what can be asked for.

pub(crate) const BLOCK_BYTES_MIN: u64 = 4096;
pub(crate) const BLOCK_BYTES_MAX: u64 = 1 << 30;
/// The last position a transfer may end at: what a signed 64-bit offset can express, less a block of padding.
pub(crate) const END_MAX: u64 = i64::MAX as u64 - BLOCK_BYTES_MAX;

/// Copies this long are worth waking a thread for: about 15 us of copying against 5 us of waking.
pub(crate) const OFFLOAD_BYTES: usize = 64 << 10;

/// What an engine is built with, after defaults.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Config {
    /// Requests in flight per device; `None`: half of what the device's queue holds.
    pub(crate) queue_depth: Option<u32>,
    pub(crate) block_bytes: u64,
    pub(crate) in_flight_bytes: u64,
    pub(crate) max_queued: u64,
    /// Copies out of bounce blocks that are at least this long are made by blocking threads.
    pub(crate) offload_bytes: usize,
}

impl Config {
    /// The block size of a handle that asks for so many bytes; 0 leaves it to the engine. A block larger than what may be in flight
    /// would run alone, and over the limit.
    pub(crate) fn handle_block_bytes(&self, asked: u64) -> u64 {
        let max = BLOCK_BYTES_MAX.min(self.in_flight_bytes - self.in_flight_bytes % BLOCK_BYTES_MIN);
        // First the limit: rounded up first, a number near 2^64 would become 0.
        asked.min(max).next_multiple_of(BLOCK_BYTES_MIN)
    }
}
