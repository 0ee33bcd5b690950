//! Memory for transfers: aligned, backed by huge pages, pooled, reference counted.
//!
//! A [`Buffer`] is the sole owner of its bytes, although many buffers may share one mapping; [`Buffer::freeze`] turns it into a
//! [`SharedBuffer`] that can be cloned and only read. A mapping goes back to its pool when the last of them is gone, be it in the program's
//! hands or in the engine's.
//!
//! Small buffers (up to 1 MiB) are pieces of 2 MiB slabs, in power-of-two classes from 4 KiB; larger ones are mappings of their own, rounded
//! up to whole huge pages. Returned memory is kept for reuse: slabs always, mappings up to [`CACHE_BYTES_MAX`]; what exceeds that is unmapped
//! on a helper thread, because giving a gigabyte back takes milliseconds.

use crate::blocking::BlockingPool;
use crate::error::{Error, ErrorKind, Result};
use crate::stats::{Counters, add, sub};
use crate::sys::memory::{self, HUGE_PAGE_BYTES};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Memory that stays where it is: what an operation may read from while its owner is moved around.
///
/// # Safety
/// `as_ptr` and `len` describe initialised memory that stays valid and in place until the value is dropped, even if the value itself is
/// moved, and that nobody else writes to as long as the engine holds the value.
pub unsafe trait IoBuf: Send + 'static {
    /// Where the bytes begin.
    fn as_ptr(&self) -> *const u8;
    /// How many there are.
    fn len(&self) -> usize;
    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Memory an operation may write to.
///
/// # Safety
/// As [`IoBuf`], and nobody else reads or writes the bytes as long as the engine holds the value.
pub unsafe trait IoBufMut: IoBuf {
    /// Where the bytes begin.
    fn as_mut_ptr(&mut self) -> *mut u8;
}

// SAFETY: a vector's heap block does not move when the vector does, and `len` bytes of it are initialised.
unsafe impl IoBuf for Vec<u8> {
    fn as_ptr(&self) -> *const u8 {
        self.as_slice().as_ptr()
    }
    fn len(&self) -> usize {
        self.as_slice().len()
    }
}

// SAFETY: the vector owns its block exclusively.
unsafe impl IoBufMut for Vec<u8> {
    fn as_mut_ptr(&mut self) -> *mut u8 {
        self.as_mut_slice().as_mut_ptr()
    }
}

// SAFETY: a boxed slice does not move when the box does.
unsafe impl IoBuf for Box<[u8]> {
    fn as_ptr(&self) -> *const u8 {
        <[u8]>::as_ptr(self)
    }
    fn len(&self) -> usize {
        <[u8]>::len(self)
    }
}

// SAFETY: the box owns its slice exclusively.
unsafe impl IoBufMut for Box<[u8]> {
    fn as_mut_ptr(&mut self) -> *mut u8 {
        <[u8]>::as_mut_ptr(self)
    }
}

// SAFETY: static memory never moves and is never written.
unsafe impl IoBuf for &'static [u8] {
    fn as_ptr(&self) -> *const u8 {
        <[u8]>::as_ptr(self)
    }
    fn len(&self) -> usize {
        <[u8]>::len(self)
    }
}

/// Returned mappings are kept for reuse up to this many bytes.
pub(crate) const CACHE_BYTES_MAX: usize = 256 << 20;

const CLASS_MIN_BYTES: usize = 4096;
const CLASS_MAX_BYTES: usize = 1 << 20;
const CLASSES: usize = (CLASS_MAX_BYTES / CLASS_MIN_BYTES).ilog2() as usize + 1;

pub(crate) struct Pool {
    shelves: Mutex<Shelves>,
    counters: Arc<Counters>,
    blocking: Arc<BlockingPool>,
}

#[derive(Default)]
struct Shelves {
    /// Free pieces per class.
    pieces: [Vec<Piece>; CLASSES],
    /// Free mappings of their own, oldest first.
    maps: Vec<Map>,
    cached_bytes: usize,
}

/// One mapping of whole huge pages.
struct Map {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: a mapping is plain memory; whoever owns the value owns the memory, on any thread.
unsafe impl Send for Map {}
// SAFETY: a shared `Map` only tells its address.
unsafe impl Sync for Map {}

impl Map {
    fn new(bytes: usize) -> Result<Self> {
        let start = memory::map(bytes).map_err(|errno| Error::os(errno, "mmap").range(0, bytes as u64, 0))?;
        Ok(Self { start, bytes })
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: the range is this mapping's own, and its last owner is going: no buffer and no operation refers to it any more.
        unsafe { memory::unmap(self.start, self.bytes) };
    }
}

/// A piece of a slab, or a whole mapping, with the bytes `start..start + bytes`.
struct Piece {
    map: Arc<Map>,
    start: NonNull<u8>,
    /// Never written since it was mapped, so known to be zero.
    fresh: bool,
}

// SAFETY: as for `Map`; the piece's range belongs to nobody else.
unsafe impl Send for Piece {}

/// What a buffer refers to: returns the memory to its pool when the last reference goes.
struct Region {
    memory: Option<Memory>,
    start: NonNull<u8>,
    bytes: usize,
    /// Handed out to the program, and so in the statistics.
    counted: bool,
    pool: Weak<Pool>,
}

enum Memory {
    Piece { map: Arc<Map>, class: usize },
    Map(Map),
}

// SAFETY: see `Map`.
unsafe impl Send for Region {}
// SAFETY: a shared region only tells its address; access to the bytes is governed by the buffers.
unsafe impl Sync for Region {}

impl Drop for Region {
    fn drop(&mut self) {
        let (Some(memory), Some(pool)) = (self.memory.take(), self.pool.upgrade()) else { return };
        #[cfg(feature = "sim")]
        crate::sys::fault::returned(self.start.as_ptr() as u64, self.bytes as u64);
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
    pub(crate) fn new(counters: Arc<Counters>, blocking: Arc<BlockingPool>) -> Self {
        Self { shelves: Mutex::default(), counters, blocking }
    }

    fn lock(&self) -> MutexGuard<'_, Shelves> {
        self.shelves.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `len` bytes, page-aligned; with old bytes in them unless `zeroed`.
    pub(crate) fn allocate(self: &Arc<Self>, len: usize, zeroed: bool) -> Result<Buffer> {
        let mut region = self.region(len, zeroed)?;
        region.counted = true;
        add(&self.counters.buffers, 1);
        add(&self.counters.buffer_bytes, region.bytes as u64);
        Ok(Buffer { region: Arc::new(region), offset: 0, len })
    }

    /// A bounce block: old bytes in it, and not counted among the buffers handed out.
    pub(crate) fn bounce(self: &Arc<Self>, len: usize) -> Result<Buffer> {
        let buffer = Buffer { region: Arc::new(self.region(len, false)?), offset: 0, len };
        #[cfg(feature = "sim")]
        crate::sys::fault::lent(buffer.as_ptr() as u64, len as u64);
        Ok(buffer)
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
            // SAFETY: the piece is `bytes` long and was taken off the shelf, so nobody else has it.
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

    /// The smallest kept mapping that holds `bytes` without wasting more than as much again.
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

/// A range of engine memory with one owner.
///
/// ```
/// let engine = deepring::Engine::builder().build()?;
/// let mut weights = engine.buffer(1 << 20)?;
/// weights[..4].copy_from_slice(&[1, 2, 3, 4]);
/// let tail = weights.split_off(1 << 19);
/// assert_eq!((weights.len(), tail.len(), weights.as_ptr() as usize % 4096), (1 << 19, 1 << 19, 0));
/// # Ok::<(), deepring::Error>(())
/// ```
pub struct Buffer {
    region: Arc<Region>,
    offset: usize,
    len: usize,
}

impl Buffer {
    /// Splits in two: this buffer keeps `..at`, the result has `at..`. No bytes are copied.
    ///
    /// # Panics
    /// If `at` is beyond the end, like `Vec::split_off`.
    #[must_use]
    pub fn split_off(&mut self, at: usize) -> Self {
        assert!(at <= self.len, "split_off at {at} of a buffer of {}", self.len);
        let tail = Self { region: Arc::clone(&self.region), offset: self.offset + at, len: self.len - at };
        self.len = at;
        tail
    }

    /// Forgets the bytes beyond `len`; no memory is returned before the whole buffer is dropped.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Gives up the right to write in exchange for the right to clone.
    pub fn freeze(self) -> SharedBuffer {
        SharedBuffer(Arc::new(self))
    }

    /// Makes all pages present now, so that no transfer waits for a page fault. Takes about 0.3 s per GiB of fresh memory.
    pub fn populate(&mut self) {
        memory::populate(self.region.start, self.region.bytes);
    }

    fn start(&self) -> NonNull<u8> {
        // SAFETY: `offset` never exceeds the region's size.
        unsafe { self.region.start.add(self.offset) }
    }
}

impl Deref for Buffer {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: the range lies in the region, is initialised (fresh maps are zero), and belongs to this buffer alone; while the engine
        // works on it, the buffer is inside the engine and nobody can call this.
        unsafe { std::slice::from_raw_parts(self.start().as_ptr(), self.len) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as for `deref`, and `&mut self` is the only way to it.
        unsafe { std::slice::from_raw_parts_mut(self.start().as_ptr(), self.len) }
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} bytes at {:p})", self.len, self.start())
    }
}

// SAFETY: the region keeps the bytes in place until the last buffer on it is dropped, wherever the buffer value is moved.
unsafe impl IoBuf for Buffer {
    fn as_ptr(&self) -> *const u8 {
        self.start().as_ptr()
    }
    fn len(&self) -> usize {
        self.len
    }
}

// SAFETY: a buffer is the only owner of its range.
unsafe impl IoBufMut for Buffer {
    fn as_mut_ptr(&mut self) -> *mut u8 {
        self.start().as_ptr()
    }
}

/// A frozen [`Buffer`]: cloned by reference, only read.
#[derive(Clone, Debug)]
pub struct SharedBuffer(Arc<Buffer>);

impl Deref for SharedBuffer {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

// SAFETY: as for `Buffer`; nobody can write to a frozen one.
unsafe impl IoBuf for SharedBuffer {
    fn as_ptr(&self) -> *const u8 {
        self.0.start().as_ptr()
    }
    fn len(&self) -> usize {
        self.0.len
    }
}

/// Keeps a buffer's memory from being returned, without access to its bytes.
///
/// For bindings: what another runtime sees as its own memory is held by one of these per owner, and by one per operation in flight.
#[derive(Clone)]
pub struct MemoryLease {
    region: Arc<Region>,
}

impl MemoryLease {
    /// A lease of the buffer's memory. The buffer itself can be dropped.
    pub fn of(buffer: &Buffer) -> Self {
        Self { region: Arc::clone(&buffer.region) }
    }

    /// The address of the first byte.
    pub fn address(&self) -> u64 {
        self.region.start.as_ptr() as u64
    }

    /// The size of the memory in bytes: what was asked for, rounded up.
    pub fn bytes(&self) -> u64 {
        self.region.bytes as u64
    }
}

impl fmt::Debug for MemoryLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemoryLease({} bytes at {:#x})", self.bytes(), self.address())
    }
}
