//! [`Pool`]: where engine memory comes from and returns to.
//!
//! Small buffers (up to 1 MiB) are pieces of 2 MiB slabs, in power-of-two classes from 4 KiB. Each
//! larger one is a separate mapping, rounded up to whole huge pages. Returned memory is kept for
//! reuse: slabs always, mappings up to [`CACHE_BYTES_MAX`]. What exceeds that is unmapped on a
//! blocking thread, because returning a gigabyte takes milliseconds.

use super::map::Map;
use crate::blocking::BlockingPool;
use crate::error::{Error, ErrorKind, Result};
use crate::stats::{Counters, add, sub};
use crate::sys::memory::HUGE_PAGE_BYTES;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Returned mappings are kept for reuse up to this many bytes.
pub(crate) const CACHE_BYTES_MAX: usize = 256 << 20;

const CLASS_MIN_BYTES: usize = 4096;
const CLASS_MAX_BYTES: usize = 1 << 20;
const CLASSES: usize = (CLASS_MAX_BYTES / CLASS_MIN_BYTES).ilog2() as usize + 1;

pub(crate) struct Pool {
    shelves: Mutex<Shelves>,
    counters: Arc<Counters>,
    blocking: Arc<BlockingPool>,
    observer: Option<Box<dyn Observer>>,
}

/// Watches who can touch the memory of a pool. A simulation does; an engine's pool has none.
pub(crate) trait Observer: Send + Sync {
    /// A bounce block was handed out: the device can touch it.
    fn lent(&self, address: u64, bytes: u64);

    /// Memory came back: nothing can touch it any more.
    fn returned(&self, address: u64, bytes: u64);
}

#[derive(Default)]
struct Shelves {
    /// Free pieces per class.
    pieces: [Vec<Piece>; CLASSES],
    /// Free separate mappings, oldest first.
    maps: Vec<Map>,
    cached_bytes: usize,
}

/// A free piece of a slab.
struct Piece {
    map: Arc<Map>,
    start: NonNull<u8>,
    /// Never written since it was mapped, so known to be zero.
    fresh: bool,
}

// SAFETY: as for `Map`; no other value owns the piece's range.
unsafe impl Send for Piece {}

/// Memory of a pool, lent to buffers. Returns to the pool with the last reference.
pub(super) struct Region {
    memory: Option<Memory>,
    pub(super) start: NonNull<u8>,
    pub(super) bytes: usize,
    /// Handed out to the program, and so counted in the statistics.
    counted: bool,
    pool: Weak<Pool>,
}

enum Memory {
    Piece { map: Arc<Map>, class: usize },
    Map(Map),
}

// SAFETY: see `Map`.
unsafe impl Send for Region {}
// SAFETY: a shared region gives only its address; the buffers govern access to the bytes.
unsafe impl Sync for Region {}

impl Drop for Region {
    fn drop(&mut self) {
        let (Some(memory), Some(pool)) = (self.memory.take(), self.pool.upgrade()) else { return };
        if let Some(observer) = &pool.observer {
            observer.returned(self.start.as_ptr() as u64, self.bytes as u64);
        }
        if self.counted {
            sub(&pool.counters.buffers, 1);
            sub(&pool.counters.buffer_bytes, self.bytes as u64);
        }
        match memory {
            Memory::Piece { map, class } => pool.lock().pieces[class].push(Piece { map, start: self.start, fresh: false }),
            Memory::Map(map) => pool.take_back(map),
        }
    }
}

impl Pool {
    pub(crate) fn new(counters: Arc<Counters>, blocking: Arc<BlockingPool>, observer: Option<Box<dyn Observer>>) -> Self {
        Self { shelves: Mutex::default(), counters, blocking, observer }
    }

    fn lock(&self) -> MutexGuard<'_, Shelves> {
        self.shelves.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Memory for at least `len` bytes, page-aligned; with old bytes in it unless `zeroed`.
    pub(super) fn lend(self: &Arc<Self>, len: usize, zeroed: bool) -> Result<Arc<Region>> {
        let mut region = self.region(len, zeroed)?;
        region.counted = true;
        add(&self.counters.buffers, 1);
        add(&self.counters.buffer_bytes, region.bytes as u64);
        Ok(Arc::new(region))
    }

    /// The same for a bounce block: with old bytes in it, and not counted among the buffers handed
    /// out.
    pub(super) fn lend_bounce(self: &Arc<Self>, len: usize) -> Result<Arc<Region>> {
        let region = self.region(len, false)?;
        if let Some(observer) = &self.observer {
            observer.lent(region.start.as_ptr() as u64, len as u64);
        }
        Ok(Arc::new(region))
    }

    fn region(self: &Arc<Self>, len: usize, zeroed: bool) -> Result<Region> {
        if len <= CLASS_MAX_BYTES { self.piece(len, zeroed) } else { self.mapping(len, zeroed) }
    }

    fn piece(self: &Arc<Self>, len: usize, zeroed: bool) -> Result<Region> {
        let bytes = len.max(CLASS_MIN_BYTES).next_power_of_two();
        let class = (bytes / CLASS_MIN_BYTES).ilog2() as usize;
        let mut shelves = self.lock();
        if shelves.pieces[class].is_empty() {
            let map = Arc::new(Map::new(HUGE_PAGE_BYTES)?);
            let base = map.start;
            // SAFETY: every offset lies inside the mapping of HUGE_PAGE_BYTES.
            let at = |offset: usize| unsafe { base.add(offset) };
            // Lowest address last, because the list is used from its end.
            let offsets = (0..HUGE_PAGE_BYTES).step_by(bytes).rev();
            shelves.pieces[class].extend(offsets.map(|offset| Piece { map: Arc::clone(&map), start: at(offset), fresh: true }));
        }
        let piece = shelves.pieces[class].pop();
        drop(shelves);
        let Some(Piece { map, start, fresh }) = piece else { return Err(Error::os(libc::ENOMEM, "mmap")) };
        if zeroed && !fresh {
            // SAFETY: the piece is `bytes` long and was taken off the shelf, so no buffer has it.
            unsafe { start.write_bytes(0, bytes) };
        }
        Ok(Region { memory: Some(Memory::Piece { map, class }), start, bytes, counted: false, pool: Arc::downgrade(self) })
    }

    fn mapping(self: &Arc<Self>, len: usize, zeroed: bool) -> Result<Region> {
        let too_large = || Error::new(ErrorKind::Os(libc::ENOMEM), "mmap").range(0, len as u64, 0);
        let bytes = len.checked_next_multiple_of(HUGE_PAGE_BYTES).filter(|&bytes| isize::try_from(bytes).is_ok()).ok_or_else(too_large)?;
        let cached = if zeroed { None } else { self.take_cached(bytes) };
        let map = match cached {
            Some(map) => map,
            None => Map::new(bytes)?,
        };
        Ok(Region { start: map.start, bytes: map.bytes, memory: Some(Memory::Map(map)), counted: false, pool: Arc::downgrade(self) })
    }

    /// The smallest kept mapping that holds `bytes` and is at most twice as large.
    fn take_cached(&self, bytes: usize) -> Option<Map> {
        let mut shelves = self.lock();
        let fits = |map: &Map| (bytes..=bytes.saturating_mul(2)).contains(&map.bytes);
        let (index, _) = shelves.maps.iter().enumerate().filter(|(_, map)| fits(map)).min_by_key(|(_, map)| map.bytes)?;
        let map = shelves.maps.remove(index);
        shelves.cached_bytes -= map.bytes;
        Some(map)
    }

    fn take_back(&self, map: Map) {
        let mut shelves = self.lock();
        let mut surplus = Vec::new();
        if map.bytes > CACHE_BYTES_MAX {
            surplus.push(map);
        } else {
            shelves.cached_bytes += map.bytes;
            shelves.maps.push(map);
            while shelves.cached_bytes > CACHE_BYTES_MAX {
                let oldest = shelves.maps.remove(0);
                shelves.cached_bytes -= oldest.bytes;
                surplus.push(oldest);
            }
        }
        drop(shelves);
        if !surplus.is_empty() {
            self.blocking.run(Box::new(move || drop(surplus)));
        }
    }
}
