//! [`Pool`]: where engine memory comes from and returns to.
//!
//! A pool maps memory and cuts it into extents ([`super::extents`]): free memory serves every size. A
//! size is rounded up to the page, and from 64 KiB on by at most a sixteenth. What is returned is
//! kept for reuse within [`Limits`]. A small part stays present. The rest is left to the kernel at
//! once, which takes it when it needs memory. What exceeds the limits is given back to the kernel.

use super::extents::{Extents, Fate, Limits, Surplus, Taken};
use super::frame::{FRAME_BYTES, PAGE_BYTES};
use super::map::{Map, forget};
use crate::blocking::BlockingPool;
use crate::error::{Error, ErrorKind, Result};
use crate::planted::{PlantedBug, planted};
use crate::stats::{Counters, add, sub};
use crate::sys::memory;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Returned memory is kept for reuse up to this many bytes, or a sixteenth of the machine's memory.
const KEPT_BYTES_MAX: usize = 256 << 20;
const KEPT_SHARE: usize = 16;
/// Of which this part stays present whether or not the kernel needs memory.
const HOT_SHARE: usize = 4;
/// One mapping that alone exceeds that is kept too, up to this share of the machine's memory.
const SPARE_SHARE: usize = 8;

/// Small buffers share mappings of this size. They are address space; only what is used takes
/// memory.
const MAPPING_BYTES: usize = 32 << 20;

/// Buffers from here on start at a huge page: what that wastes is at most a sixteenth.
const ALIGNED_BYTES: usize = 32 << 20;

/// Sizes are rounded up to a sixteenth of the power of two below them, and at most to this.
const STEP_BYTES_MAX: usize = 64 << 10;

/// Pieces up to this size are kept by their size, which is faster. Most bounce blocks are no larger.
const PIECE_BYTES_MAX: usize = 256 << 10;
const PIECE_SIZES: usize = PIECE_BYTES_MAX / PAGE_BYTES;
/// The bytes of all pieces that are kept so.
const PIECES_BYTES: usize = 16 << 20;

/// Zeroed buffers up to this size are filled with zeros. Beyond it, fresh pages are cheaper for the
/// caller.
const FILLED_BYTES_MAX: usize = 1 << 20;

/// Giving back as much as this takes milliseconds.
const OFFLOADED_BYTES: usize = 64 << 20;

pub(crate) struct Pool {
    state: Mutex<State>,
    limits: Limits,
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

struct State {
    extents: Extents<Arc<Map>>,
    /// Free pieces by their number of pages, less one. The extents count them as used.
    pieces: [Vec<(usize, Arc<Map>)>; PIECE_SIZES],
    pieces_bytes: usize,
}

/// Memory of a pool, lent to buffers. Returns to the pool with the last reference.
pub(super) struct Region {
    map: Arc<Map>,
    pub(super) start: NonNull<u8>,
    pub(super) bytes: usize,
    /// Handed out to the program, and so counted in the statistics.
    counted: bool,
    pool: Weak<Pool>,
}

// SAFETY: see `Map`.
unsafe impl Send for Region {}
// SAFETY: a shared region gives only its address; the buffers govern access to the bytes.
unsafe impl Sync for Region {}

impl Drop for Region {
    fn drop(&mut self) {
        if self.map.is_parents() {
            return;
        }
        // Without its pool, the mapping goes with its last region.
        let Some(pool) = self.pool.upgrade() else { return };
        if let Some(observer) = &pool.observer {
            observer.returned(self.start.as_ptr() as u64, self.bytes as u64);
        }
        if self.counted {
            sub(&pool.counters.buffers, 1);
            sub(&pool.counters.buffer_bytes, self.bytes as u64);
        }
        pool.take_back(self);
    }
}

/// The size that a request for `len` bytes gets. `None` if it is larger than any address space.
fn rounded(len: usize) -> Option<usize> {
    let sixteenth = 1 << (len.max(1).ilog2().saturating_sub(4));
    let step = usize::clamp(sixteenth, PAGE_BYTES, STEP_BYTES_MAX);
    let bytes = len.max(1).checked_next_multiple_of(step)?;
    isize::try_from(bytes).is_ok().then_some(bytes)
}

/// What a region of this size is aligned to.
fn alignment(bytes: usize) -> usize {
    if bytes >= ALIGNED_BYTES || bytes.is_multiple_of(FRAME_BYTES) { FRAME_BYTES } else { PAGE_BYTES }
}

/// The part of a range that is whole huge pages; empty if there is none.
fn whole_frames(range: &Range<usize>) -> Range<usize> {
    let start = range.start.next_multiple_of(FRAME_BYTES).min(range.end);
    start..(range.end / FRAME_BYTES * FRAME_BYTES).max(start)
}

impl Pool {
    pub(crate) fn new(counters: Arc<Counters>, blocking: Arc<BlockingPool>, observer: Option<Box<dyn Observer>>) -> Self {
        let machine = memory::machine_bytes();
        let kept = KEPT_BYTES_MAX.min(machine / KEPT_SHARE);
        let kept = kept.saturating_sub(PIECES_BYTES);
        let limits = Limits { kept, hot: kept / HOT_SHARE, spare: machine / SPARE_SHARE };
        let state = State { extents: Extents::new(limits), pieces: std::array::from_fn(|_| Vec::new()), pieces_bytes: 0 };
        Self { state: Mutex::new(state), limits, counters, blocking, observer }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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
        let too_large = || Error::new(ErrorKind::Os(libc::ENOMEM), "mmap").range(0, len as u64, 0);
        let bytes = rounded(len).ok_or_else(too_large)?;
        let region = |start: usize, map| {
            let start = NonNull::new(start as *mut u8).ok_or_else(too_large)?;
            Ok(Region { map, start, bytes, counted: false, pool: Arc::downgrade(self) })
        };
        let mut state = self.lock();
        if let Some((start, map)) = state.take_piece(bytes) {
            self.count(&state);
            drop(state);
            let region: Region = region(start, map)?;
            if zeroed {
                // SAFETY: the region was taken just now, so no buffer has it.
                unsafe { region.start.write_bytes(0, bytes) };
            }
            return Ok(region);
        }
        let (align, mut taken) = (alignment(bytes), None);
        taken = taken.or_else(|| state.extents.take(bytes, align, zeroed));
        if taken.is_none() {
            // Not under the lock: others take what is there while the kernel maps.
            drop(state);
            let map = self.map(bytes)?;
            state = self.lock();
            state.extents.add(map.start.as_ptr() as usize, map.bytes, map);
            taken = state.extents.take(bytes, align, zeroed);
        }
        self.count(&state);
        drop(state);
        let Taken { start, owner, touched, lazy } = taken.ok_or_else(too_large)?;
        let region: Region = region(start, owner)?;
        if zeroed {
            clear(&touched);
        } else if lazy {
            memory::claim(region.start, bytes);
        }
        Ok(region)
    }

    /// New memory that holds `bytes`.
    fn map(&self, bytes: usize) -> Result<Arc<Map>> {
        let too_large = || Error::new(ErrorKind::Os(libc::ENOMEM), "mmap").range(0, bytes as u64, 0);
        let needed = bytes.checked_next_multiple_of(FRAME_BYTES).ok_or_else(too_large)?;
        let usual = if bytes <= MAPPING_BYTES / 2 { MAPPING_BYTES } else { needed };
        let smaller = |_| {
            // What is kept counts in every limit on memory.
            self.trim();
            Map::new(needed)
        };
        Ok(Arc::new(Map::new(usual).or_else(smaller)?))
    }

    fn take_back(self: &Arc<Self>, region: &Region) {
        let (start, bytes) = (region.start.as_ptr() as usize, region.bytes);
        // So large that it is the only one of its kind: see `Limits::spare`.
        let lazy = bytes > self.limits.kept;
        if lazy {
            forget(region.start, bytes);
            // SAFETY: the last reference to the region is being dropped.
            unsafe { memory::free_lazily(region.start, bytes) };
        }
        let mut state = self.lock();
        if !state.keep_piece(start, bytes, &region.map) {
            state.extents.give(start, bytes, lazy);
        }
        let surplus = state.extents.surplus(false);
        self.count(&state);
        drop(state);
        self.give_up(surplus);
    }

    /// Gives everything that is kept back to the system.
    pub(crate) fn trim(&self) {
        let mut state = self.lock();
        (0..PIECE_SIZES).for_each(|size| state.forget_pieces(size));
        let surplus = state.extents.surplus(true);
        drop(state);
        self.settle(&surplus);
    }

    /// Lets the kernel know what becomes of this memory: here, or if that takes long, on a blocking
    /// thread that is idle. None is started for it: a process without memory could not start one.
    fn give_up(self: &Arc<Self>, surplus: Vec<Surplus>) {
        let gone = surplus.iter().filter(|surplus| surplus.fate == Fate::Gone).map(|surplus| surplus.range.len()).sum::<usize>();
        if gone < OFFLOADED_BYTES {
            return self.settle(&surplus);
        }
        let pool = Arc::clone(self);
        if let Err(job) = self.blocking.try_run_idle(Box::new(move || pool.settle(&surplus))) {
            job();
        }
    }

    fn settle(&self, surplus: &[Surplus]) {
        if surplus.is_empty() {
            return;
        }
        for Surplus { range, fate } in surplus {
            let Some(start) = NonNull::new(range.start as *mut u8) else { continue };
            forget(start, range.len());
            match fate {
                // SAFETY: the range was taken out of the free extents, so no region has it.
                Fate::Lazy => unsafe { memory::free_lazily(start, range.len()) },
                // SAFETY: as above.
                Fate::Gone => unsafe { memory::discard(start, range.len()) },
            }
        }
        let mut state = self.lock();
        let over: Vec<Arc<Map>> = surplus.iter().filter_map(|surplus| state.extents.settle(surplus)).collect();
        self.count(&state);
        drop(state);
        // Unmapped without the lock.
        drop(over);
    }

    fn count(&self, state: &State) {
        self.counters.pooled_bytes.store((state.extents.kept() + state.pieces_bytes) as u64, Ordering::Relaxed);
    }
}

impl State {
    fn take_piece(&mut self, bytes: usize) -> Option<(usize, Arc<Map>)> {
        let pieces = self.pieces.get_mut(bytes / PAGE_BYTES - 1)?;
        if planted(PlantedBug::LendsTwice) {
            return pieces.last().cloned();
        }
        let piece = pieces.pop()?;
        self.pieces_bytes -= bytes;
        Some(piece)
    }

    /// Returns whether it was kept.
    fn keep_piece(&mut self, start: usize, bytes: usize, map: &Arc<Map>) -> bool {
        let size = bytes / PAGE_BYTES - 1;
        if size >= PIECE_SIZES {
            return false;
        }
        if self.pieces_bytes + bytes > PIECES_BYTES {
            // The size that has the most makes room, unless it is this one.
            let most = (0..PIECE_SIZES).max_by_key(|&size| self.pieces[size].len() * (size + 1));
            match most {
                Some(most) if most != size => self.forget_pieces(most),
                _ => return false,
            }
        }
        self.pieces[size].push((start, Arc::clone(map)));
        self.pieces_bytes += bytes;
        true
    }

    /// Makes the pieces of a size serve all sizes again.
    fn forget_pieces(&mut self, size: usize) {
        let bytes = (size + 1) * PAGE_BYTES;
        for (start, _) in self.pieces[size].drain(..) {
            self.extents.give(start, bytes, false);
            self.pieces_bytes -= bytes;
        }
    }
}

/// Makes memory zero that a region was just given, or that only one buffer has.
pub(super) fn clear(touched: &[Range<usize>]) {
    let is_large = touched.iter().map(Range::len).sum::<usize>() > FILLED_BYTES_MAX;
    for range in touched {
        let whole = if is_large { whole_frames(range) } else { range.start..range.start };
        let fill = |part: Range<usize>| {
            if let Some(start) = NonNull::new(part.start as *mut u8) {
                // SAFETY: the region was taken just now, so no buffer has it.
                unsafe { start.write_bytes(0, part.len()) };
            }
        };
        fill(range.start..whole.start);
        if let Some(start) = NonNull::new(whole.start as *mut u8).filter(|_| !whole.is_empty()) {
            forget(start, whole.len());
            // SAFETY: as above.
            unsafe { memory::discard(start, whole.len()) };
        }
        fill(whole.end..range.end);
    }
}
