//! [`Transfer`]: what an upload or a download of a checkpoint has done; and its limits.

use deepring_tensors::Progress;
use std::sync::{Arc, Mutex, PoisonError};

/// What is called with bytes that are done and with those of all.
pub(crate) type OnProgress = Arc<dyn Fn(u64, u64) + Send + Sync>;

/// What an upload or a download has done. Bytes are those of data files; every one that was moved or found was compared with
/// its checksum.
///
/// ```
/// use deepring_object_store::Transfer;
/// let say = |transfer: Transfer| match transfer {
///     Transfer { complete: true, generation, .. } => format!("generation {generation} was there"),
///     Transfer { moved, found, .. } => format!("{moved} bytes moved, {found} found"),
/// };
/// assert_eq!(say(Transfer::default()), "0 bytes moved, 0 found");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Transfer {
    /// The number of the generation.
    pub generation: u64,
    /// How many data files it has.
    pub files: u32,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes that were sent or fetched.
    pub moved: u64,
    /// Bytes that were there before, of whole files: an upload or a download before this one has left them. They were read and
    /// compared.
    pub found: u64,
    /// The whole generation was there before. Nothing was moved, and nothing compared but its manifest.
    pub complete: bool,
}

/// How much is moved at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) part_bytes: u64,
    pub(crate) parts_in_flight: usize,
}

/// As most stores want parts: 5 MiB or more, all of one size.
pub(crate) const PART_BYTES_DEFAULT: u64 = 8 << 20;
pub(crate) const PARTS_DEFAULT: usize = 8;

pub(crate) const PART_BYTES_MAX: u64 = 5 << 30;
pub(crate) const PARTS_MAX: usize = 1024;

/// The most parts that stores allow for an object.
const PARTS_OF_OBJECT_MAX: u64 = 10_000;

/// What one permit stands for, so that any amount of memory can be counted with 32 bits.
const PERMIT_BYTES: u64 = 4 << 10;

impl Limits {
    /// The size of the parts of an object: larger than was asked for if there would be too many.
    pub(crate) fn part_bytes_of(&self, bytes: u64) -> u64 {
        let least = bytes.div_ceil(PARTS_OF_OBJECT_MAX);
        if least <= self.part_bytes { self.part_bytes } else { least.next_multiple_of(1 << 20) }
    }

    /// Permits for all bytes that can be in flight.
    pub(crate) fn permits(&self) -> u32 {
        let all = self.part_bytes.div_ceil(PERMIT_BYTES).saturating_mul(self.parts_in_flight as u64);
        u32::try_from(all).unwrap_or(u32::MAX).min(u32::try_from(tokio::sync::Semaphore::MAX_PERMITS).unwrap_or(u32::MAX))
    }

    /// Permits for this many bytes. What is larger than everything waits until nothing else is in flight.
    pub(crate) fn permits_for(&self, bytes: u64) -> u32 {
        u32::try_from(bytes.div_ceil(PERMIT_BYTES)).unwrap_or(u32::MAX).clamp(1, self.permits())
    }
}

/// What has been done so far, counted by calls that run side by side.
#[derive(Debug)]
pub(crate) struct Tally(Mutex<(Transfer, Progress)>);

impl Tally {
    pub(crate) fn new(generation: u64, files: usize, bytes: u64, on_progress: Option<OnProgress>) -> Self {
        let transfer = Transfer { generation, files: files as u32, bytes, ..Transfer::default() };
        Self(Mutex::new((transfer, Progress::new(on_progress, bytes))))
    }

    pub(crate) fn moved(&self, bytes: u64) {
        let (transfer, progress) = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        transfer.moved += bytes;
        progress.advance(bytes);
    }

    pub(crate) fn found(&self, bytes: u64) {
        let (transfer, progress) = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        transfer.found += bytes;
        progress.advance(bytes);
    }

    /// All is moved. What is left to be done is small.
    pub(crate) fn end(self) -> Transfer {
        let (transfer, progress) = self.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        progress.end();
        transfer
    }
}

#[cfg(test)]
mod tests {
    use super::Limits;

    #[test]
    fn what_is_in_flight_is_counted_and_no_object_has_too_many_parts() {
        let limits = Limits { part_bytes: 8 << 20, parts_in_flight: 8 };
        assert_eq!((limits.permits(), limits.permits_for(8 << 20), limits.permits_for(0)), (8 * 2048, 2048, 1));
        assert_eq!(limits.permits_for(1 << 40), limits.permits());
        let largest = Limits { part_bytes: 5 << 30, parts_in_flight: 1024 };
        assert!(largest.permits() >= largest.permits_for(5 << 30) * 1000);
        assert_eq!(limits.part_bytes_of(1), 8 << 20);
        assert_eq!(limits.part_bytes_of(80_000 << 20), 8 << 20);
        for bytes in [80_001 << 20, 1 << 40, 50_000_000_000_000] {
            assert!(bytes <= limits.part_bytes_of(bytes) * 10_000, "{bytes}");
        }
        let small = Limits { part_bytes: 7, parts_in_flight: 1 };
        assert_eq!((small.part_bytes_of(70_000), small.part_bytes_of(70_001), small.permits()), (7, 1 << 20, 1));
    }
}
