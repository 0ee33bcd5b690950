//! [`Space`]: whether there is room for a write where its file has no space yet.
//!
//! A length is no space. A file can have holes, and its extents can be shared with a clone or a snapshot. Where the
//! engine reserves nothing, it compares what a write lacks with the room on the file system, so that a write that does
//! not fit fails before its first byte. What other writers take in between is not foreseen.

use crate::sys::space::{self as sys, Extent, Room};
use crate::sys::stat::Stat;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A write of no more than this is not looked at: a file system takes or refuses one block as a whole.
const SINGLE_BYTES: u64 = 4096;

/// No disk fills up faster than this, in bytes per nanosecond.
const FILL_RATE: u64 = 16;

/// Below this, the room is measured for every write.
const AMPLE_BYTES: u64 = 1 << 30;

/// Larger writes are measured each: it costs them nothing.
const LARGE_BYTES: u64 = 64 << 20;

/// How long a measurement counts at most.
const AMPLE_FOR: Duration = Duration::from_secs(1);

/// Calls made for one write, each of which reports some extents. What lies beyond them is taken to have space.
const CALLS_MAX: usize = 64;

/// What a write lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shortage {
    /// Bytes that have no space yet; the count stops when they no longer fit.
    pub(crate) missing: u64,
    pub(crate) available: u64,
}

/// What is known of the room for one open file.
#[derive(Debug)]
pub(crate) struct Space {
    /// Whether extents can be shared, so that a file without holes can need more space.
    shares: bool,
    opened: Instant,
    /// Until when there is ample room, in nanoseconds since the file was opened.
    ample_until: AtomicU64,
}

impl Space {
    /// Of a file that was just opened. Blocks.
    pub(super) fn of(fd: &OwnedFd, is_written: bool) -> Self {
        let shares = is_written && sys::room(fd).is_some_and(|room| room.shares);
        Self { shares, opened: Instant::now(), ample_until: AtomicU64::new(0) }
    }

    /// Whether a write of so many bytes inside the file must be compared with the room, if the file has holes or not.
    pub(crate) fn must_be_checked(&self, bytes: u64, has_holes: bool, now: Instant) -> bool {
        let can_lack = bytes > SINGLE_BYTES && (has_holes || self.shares);
        can_lack && (bytes > LARGE_BYTES || self.nanoseconds(now) >= self.ample_until.load(Ordering::Relaxed))
    }

    fn nanoseconds(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.opened).as_nanos() as u64
    }

    /// Compares what `start..end` of the file lacks with the room. Blocks.
    ///
    /// # Errors
    /// There is not enough room.
    pub(crate) fn check(&self, fd: &OwnedFd, on_disk: &Stat, start: u64, end: u64) -> Result<(), Shortage> {
        // A file system that keeps no books finds out by itself.
        let Some(room) = sys::room(fd) else { return Ok(()) };
        if room.available >= AMPLE_BYTES {
            let lasts = Duration::from_nanos((room.available - LARGE_BYTES) / FILL_RATE).min(AMPLE_FOR);
            self.ample_until.store(self.nanoseconds(Instant::now() + lasts), Ordering::Relaxed);
        }
        let (start, end) = (start - start % room.block, end.next_multiple_of(room.block));
        if end - start <= room.available {
            return Ok(());
        }
        let missing = missing(fd, on_disk, start, end, room);
        if missing <= room.available { Ok(()) } else { Err(Shortage { missing, available: room.available }) }
    }
}

/// Bytes of `start..end` that have no space of their own.
fn missing(fd: &OwnedFd, on_disk: &Stat, start: u64, end: u64, room: Room) -> u64 {
    let mut count = Count { at: start, end, missing: 0 };
    for _ in 0..CALLS_MAX {
        match sys::extents(fd, count.at, end) {
            Err(_) => return missing_by_seeking(fd, on_disk, start, end, room),
            Ok(extents) if extents.is_empty() => return count.rest(),
            Ok(extents) => extents.into_iter().for_each(|extent| count.extent(extent)),
        }
        if count.at >= end || count.missing > room.available {
            break;
        }
    }
    count.missing
}

/// The same, where the file system does not list extents. What was allocated and never written is reported as a hole,
/// so the holes cannot be larger than what the whole file lacks.
fn missing_by_seeking(fd: &OwnedFd, on_disk: &Stat, start: u64, end: u64, room: Room) -> u64 {
    let file_end = on_disk.size.next_multiple_of(room.block);
    let beyond = end.saturating_sub(file_end.max(start));
    let mut count = Count { at: start, end: end.min(file_end).max(start), missing: 0 };
    for _ in 0..CALLS_MAX {
        if count.at >= count.end || count.missing > room.available {
            break;
        }
        match sys::next_data(fd, count.at) {
            // Nothing is known of holes.
            Err(_) => return beyond,
            Ok(None) => {
                count.rest();
                break;
            }
            Ok(Some(extent)) => count.extent(extent),
        }
    }
    beyond + count.missing.min(file_end.saturating_sub(on_disk.blocks * 512))
}

/// Counts what lies between extents that arrive in order.
struct Count {
    at: u64,
    end: u64,
    missing: u64,
}

impl Count {
    fn extent(&mut self, extent: Extent) {
        let (start, end) = (extent.start.clamp(self.at, self.end), extent.end.clamp(self.at, self.end));
        self.missing += start - self.at;
        if extent.shared {
            self.missing += end - start;
        }
        self.at = end.max(start);
    }

    /// No extent follows.
    fn rest(&mut self) -> u64 {
        self.missing += self.end - self.at;
        self.at = self.end;
        self.missing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(extents: &[(u64, u64, bool)]) -> u64 {
        let mut count = Count { at: 100, end: 200, missing: 0 };
        for &(start, end, shared) in extents {
            count.extent(Extent { start, end, shared });
        }
        count.rest()
    }

    #[test]
    fn holes_and_shared_extents_lack_space_and_nothing_else_does() {
        assert_eq!(count(&[]), 100);
        assert_eq!(count(&[(0, 300, false)]), 0);
        assert_eq!(count(&[(0, 300, true)]), 100);
        assert_eq!(count(&[(0, 120, false), (150, 160, false)]), 70);
        assert_eq!(count(&[(0, 120, true), (150, 160, false), (160, 500, true)]), 20 + 30 + 40);
        assert_eq!(count(&[(0, 50, false), (250, 260, false)]), 100);
    }

    #[test]
    fn only_a_write_that_can_lack_room_is_checked() {
        let space = |shares| Space { shares, opened: Instant::now(), ample_until: AtomicU64::new(0) };
        let now = Instant::now();
        assert!(!space(false).must_be_checked(1 << 30, false, now), "no holes, and nothing is shared");
        assert!(!space(true).must_be_checked(4096, true, now), "one block");
        assert!(space(false).must_be_checked(4097, true, now));
        assert!(space(true).must_be_checked(4097, false, now));
        let ample = space(true);
        ample.ample_until.store(u64::MAX, Ordering::Relaxed);
        assert!(!ample.must_be_checked(1 << 20, true, now) && ample.must_be_checked(1 << 30, true, now));
    }
}
