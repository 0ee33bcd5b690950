//! [`Buffer`] and [`SharedBuffer`]: engine memory that belongs to the program.

use super::io_buf::{IoBuf, IoBufMut};
use super::pool::{self, Pool, Region};
use super::slice::{Slice, within};
use crate::error::Result;
use crate::sys::memory;
use std::fmt;
use std::ops::{Deref, DerefMut, Range, RangeBounds};
use std::ptr::NonNull;
use std::slice;
use std::sync::Arc;

impl Pool {
    /// A buffer of `len` bytes, page-aligned; with old bytes in it unless `zeroed`.
    pub(crate) fn allocate(self: &Arc<Self>, len: usize, zeroed: bool) -> Result<Buffer> {
        Ok(Buffer { region: self.lend(len, zeroed)?, offset: 0, len })
    }

    /// A bounce block: old bytes in it, and not counted among the buffers handed out.
    pub(crate) fn bounce(self: &Arc<Self>, len: usize) -> Result<Buffer> {
        Ok(Buffer { region: self.lend_bounce(len)?, offset: 0, len })
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

    /// Joins what [`Buffer::split_off`] has split: this buffer goes on with `tail`, which must begin where it ends, in the same
    /// memory. No bytes are copied.
    ///
    /// # Errors
    /// The tail, if it is another's.
    ///
    /// ```
    /// let engine = deepring::Engine::builder().build()?;
    /// let mut weights = engine.buffer(1 << 20)?;
    /// let tail = weights.split_off(1 << 19);
    /// assert!(weights.unsplit(engine.buffer(5)?).is_err());
    /// assert!(weights.unsplit(tail).is_ok());
    /// assert_eq!(weights.len(), 1 << 20);
    /// # Ok::<(), deepring::Error>(())
    /// ```
    pub fn unsplit(&mut self, tail: Self) -> std::result::Result<(), Self> {
        if !Arc::ptr_eq(&self.region, &tail.region) || self.offset + self.len != tail.offset {
            return Err(tail);
        }
        self.len += tail.len;
        Ok(())
    }

    /// Forgets the bytes beyond `len`. Their memory is returned with that of the whole buffer.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// All of its memory, to the last whole page: also what [`Buffer::truncate`] has forgotten, and what was rounded up. Old
    /// bytes of the process are in there.
    ///
    /// # Errors
    /// The buffer, if it does not begin where its memory begins, or another buffer or a request has a part of that.
    ///
    /// ```
    /// let engine = deepring::Engine::builder().build()?;
    /// let mut weights = engine.buffer(5000)?;
    /// let tail = weights.split_off(4096);
    /// let weights = weights.try_whole().unwrap_err(); // the tail is still there
    /// drop(tail);
    /// assert_eq!(weights.try_whole().unwrap().len(), 8192);
    /// # Ok::<(), deepring::Error>(())
    /// ```
    pub fn try_whole(mut self) -> std::result::Result<Self, Self> {
        if self.offset > 0 || Arc::get_mut(&mut self.region).is_none() {
            return Err(self);
        }
        self.len = self.region.bytes;
        Ok(self)
    }

    /// The only owner of this memory, as a buffer of its first bytes. The memory is returned if another has it, too.
    pub(super) fn of_region(mut region: Arc<Region>, len: usize) -> std::result::Result<Self, Arc<Region>> {
        if len > region.bytes || Arc::get_mut(&mut region).is_none() {
            return Err(region);
        }
        Ok(Self { region, offset: 0, len })
    }

    /// The bytes in this range, for a transfer that is to move only them.
    ///
    /// # Panics
    /// If the range leaves the buffer, like slicing.
    pub fn slice(self, range: impl RangeBounds<usize>) -> Slice<Self> {
        Slice::new(self, range)
    }

    /// Gives up the right to write in exchange for the right to clone.
    pub fn freeze(self) -> SharedBuffer {
        SharedBuffer { range: 0..self.len, buffer: Arc::new(self) }
    }

    /// Copies these bytes of `source` to the bytes of this buffer from `at` on.
    ///
    /// # Panics
    /// If a range leaves its memory, like slicing.
    ///
    /// ```
    /// let engine = deepring::Engine::builder().build()?;
    /// let mut copy = engine.buffer(8)?;
    /// copy.copy_from(4, &vec![1u8, 2, 3, 4, 5], 1..4);
    /// assert_eq!(&copy[..], [0, 0, 0, 0, 2, 3, 4, 0]);
    /// # Ok::<(), deepring::Error>(())
    /// ```
    pub fn copy_from(&mut self, at: usize, source: &impl IoBuf, range: Range<usize>) {
        let Range { start, end } = within(range, source.len());
        let to = &mut self[at..at + (end - start)];
        // SAFETY: the range is inside the source, whose bytes nothing else writes while it is borrowed. The buffer is the only
        // owner of its own, so the source has other ones.
        unsafe { memory::copy(source.as_ptr().wrapping_add(start), to.as_mut_ptr(), to.len()) };
    }

    /// Makes all pages present now. Blocks for about 0.2 s per GiB of fresh memory. A read does
    /// this for itself, on threads of the engine and just ahead of the device.
    pub fn populate(&mut self) {
        let start = self.start().as_ptr() as u64;
        let range = start..start + self.len as u64;
        if !self.is_empty() && !memory::populate(&range) {
            // SAFETY: the buffer's own bytes, which nothing else has while it is borrowed.
            unsafe { memory::touch_pages(&range) };
        }
    }

    /// Makes everything from `at` on zero. Much of it is given back to the system instead, which
    /// makes it zero when it is used.
    pub(crate) fn clear_from(&mut self, at: usize) {
        let start = self.start().as_ptr() as usize;
        pool::clear(slice::from_ref(&(start + at.min(self.len)..start + self.len)));
    }

    pub(super) fn region(&self) -> &Arc<Region> {
        &self.region
    }

    fn start(&self) -> NonNull<u8> {
        // SAFETY: `offset` never exceeds the region's size.
        unsafe { self.region.start.add(self.offset) }
    }
}

impl Deref for Buffer {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: the range lies in the region, is initialized (fresh maps are zero), and belongs
        // to this buffer alone. While the engine works on it, the engine holds the buffer, so the
        // program cannot call this.
        unsafe { std::slice::from_raw_parts(self.start().as_ptr(), self.len) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as for `deref`, and `&mut self` is the only way to it.
        unsafe { std::slice::from_raw_parts_mut(self.start().as_ptr(), self.len) }
    }
}

/// For types that take any owner of bytes, such as `bytes::Bytes::from_owner`.
///
/// ```
/// let engine = deepring::Engine::builder().build()?;
/// let weights: Box<dyn AsRef<[u8]>> = Box::new(engine.buffer(5000)?);
/// assert_eq!((*weights).as_ref(), [0; 5000]);
/// # Ok::<(), deepring::Error>(())
/// ```
impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} bytes at {:p})", self.len, self.start())
    }
}

// SAFETY: the region keeps the bytes in place until the last buffer on it is dropped, wherever the
// buffer value is moved.
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

/// A frozen [`Buffer`], or a part of one: cloned by reference, only read.
///
/// ```
/// use deepring::{Engine, OpenOptions};
/// # let directory = tempfile::tempdir().unwrap();
/// # let path = directory.path().join("shards.bin");
/// let engine = Engine::builder().build()?;
/// let file = engine.open(&path, OpenOptions::new().write(true).create(true))?;
/// let weights = engine.buffer(1 << 20)?.freeze();
/// // One buffer, written in parts that are in flight at the same time.
/// let parts: Vec<_> = [0, 1 << 18, 1 << 19].map(|at| (at, weights.slice(at..at + (1 << 18)))).into();
/// let writes: Vec<_> = parts.into_iter().map(|(at, part)| file.write_at(part, at as u64)).collect();
/// for write in writes {
///     write.wait().ok()?;
/// }
/// assert_eq!(weights.len(), 1 << 20);
/// # Ok::<(), deepring::Error>(())
/// ```
#[derive(Clone)]
pub struct SharedBuffer {
    buffer: Arc<Buffer>,
    range: Range<usize>,
}

impl SharedBuffer {
    /// The bytes in this range. Shares the memory, which returns to the pool with the last part.
    ///
    /// # Panics
    /// If the range leaves these bytes, like slicing.
    #[must_use]
    pub fn slice(&self, range: impl RangeBounds<usize>) -> Self {
        let Range { start, end } = within(range, self.range.len());
        Self { buffer: Arc::clone(&self.buffer), range: self.range.start + start..self.range.start + end }
    }

    /// The right to write these bytes again: undoes [`Buffer::freeze`]. Bytes beside them are forgotten.
    ///
    /// # Errors
    /// The shared buffer, if another part or clone of it is left.
    ///
    /// ```
    /// let engine = deepring::Engine::builder().build()?;
    /// let weights = engine.buffer(1 << 20)?.freeze();
    /// let part = weights.slice(4096..8192);
    /// let part = part.try_thaw().unwrap_err(); // the whole is still there
    /// drop(weights);
    /// let mut part = part.try_thaw().unwrap();
    /// part[0] = 7;
    /// assert_eq!(part.len(), 4096);
    /// # Ok::<(), deepring::Error>(())
    /// ```
    pub fn try_thaw(self) -> std::result::Result<Buffer, Self> {
        let Self { buffer, range } = self;
        match Arc::try_unwrap(buffer) {
            Ok(Buffer { region, offset, .. }) => Ok(Buffer { region, offset: offset + range.start, len: range.len() }),
            Err(buffer) => Err(Self { buffer, range }),
        }
    }

    pub(super) fn region(&self) -> &Arc<Region> {
        self.buffer.region()
    }
}

impl Deref for SharedBuffer {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.buffer[self.range.clone()]
    }
}

/// As that of [`Buffer`].
impl AsRef<[u8]> for SharedBuffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for SharedBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SharedBuffer({} bytes at {:p})", self.range.len(), self.as_ptr())
    }
}

// SAFETY: as for `Buffer`; a frozen one cannot be written, and the range lies inside.
unsafe impl IoBuf for SharedBuffer {
    fn as_ptr(&self) -> *const u8 {
        self.buffer.start().as_ptr().wrapping_add(self.range.start)
    }
    fn len(&self) -> usize {
        self.range.len()
    }
}
