//! [`Slice`]: a part of a buffer, as a buffer.

use super::io_buf::{IoBuf, IoBufMut};
use std::fmt;
use std::ops::{Bound, Deref, DerefMut, Range, RangeBounds};

/// Some of the bytes of a buffer: what a transfer moves while the whole buffer stays with it. It owns
/// the buffer, and [`Slice::into_inner`] gives it back.
///
/// Several parts of one buffer are in flight at once if they are parts of a
/// [`SharedBuffer`](super::SharedBuffer), or buffers made by [`Buffer::split_off`](super::Buffer::split_off).
///
/// ```
/// use deepring::{Engine, OpenOptions, Slice};
/// # let directory = tempfile::tempdir().unwrap();
/// # let path = directory.path().join("header.bin");
/// let engine = Engine::builder().build()?;
/// let file = engine.open(&path, OpenOptions::new().read(true).write(true).create(true))?;
/// let (slice, _) = file.write_at(Slice::new(vec![1u8, 2, 3, 4, 5], 1..3), 0).wait().ok()?;
/// let vector = slice.into_inner();
/// let (slice, receipt) = file.read_at(engine.buffer(4096)?.slice(100..), 0).wait().ok()?;
/// assert_eq!((&slice[..2], receipt.bytes, vector.len()), (&[2u8, 3][..], 2, 5));
/// # Ok::<(), deepring::Error>(())
/// ```
#[derive(Clone)]
pub struct Slice<B> {
    buf: B,
    range: Range<usize>,
}

impl<B: IoBuf> Slice<B> {
    /// The bytes of `buf` in this range.
    ///
    /// # Panics
    /// If the range leaves the buffer, like slicing.
    pub fn new(buf: B, range: impl RangeBounds<usize>) -> Self {
        let range = within(range, buf.len());
        Self { buf, range }
    }
}

impl<B> Slice<B> {
    /// The whole buffer.
    pub fn into_inner(self) -> B {
        self.buf
    }

    /// Which bytes of the buffer they are.
    pub fn range(&self) -> Range<usize> {
        self.range.clone()
    }
}

/// A range inside `len` bytes.
///
/// # Panics
/// If it leaves them.
pub(super) fn within(range: impl RangeBounds<usize>, len: usize) -> Range<usize> {
    let after = |at: usize| at.saturating_add(1);
    let start = match range.start_bound() {
        Bound::Included(&at) => at,
        Bound::Excluded(&at) => after(at),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(&at) => after(at),
        Bound::Excluded(&at) => at,
        Bound::Unbounded => len,
    };
    assert!(start <= end && end <= len, "the range {start}..{end} of a buffer of {len} bytes");
    start..end
}

// SAFETY: a part of memory that stays in place and initialized while the buffer lives, which the
// slice owns.
unsafe impl<B: IoBuf> IoBuf for Slice<B> {
    fn as_ptr(&self) -> *const u8 {
        self.buf.as_ptr().wrapping_add(self.range.start)
    }
    fn len(&self) -> usize {
        self.range.len()
    }
}

// SAFETY: a part of memory that is the buffer's alone.
unsafe impl<B: IoBufMut> IoBufMut for Slice<B> {
    fn as_mut_ptr(&mut self) -> *mut u8 {
        self.buf.as_mut_ptr().wrapping_add(self.range.start)
    }
}

impl<B: Deref<Target = [u8]>> Deref for Slice<B> {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.buf[self.range.clone()]
    }
}

impl<B: DerefMut<Target = [u8]>> DerefMut for Slice<B> {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.buf[self.range.clone()]
    }
}

impl<B: fmt::Debug> fmt::Debug for Slice<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Slice({:?} of {:?})", self.range, self.buf)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_range_means_what_it_means_to_a_slice() {
        let bytes: Vec<u8> = (0..10).collect();
        assert_eq!(&*Slice::new(bytes.clone(), ..), &bytes[..]);
        assert_eq!(&*Slice::new(bytes.clone(), 3..), &bytes[3..]);
        assert_eq!(&*Slice::new(bytes.clone(), ..=3), &bytes[..=3]);
        assert_eq!(&*Slice::new(bytes.clone(), (Bound::Excluded(2), Bound::Excluded(5))), &bytes[3..5]);
        assert_eq!(&*Slice::new(bytes.clone(), 10..), &[][..]);
        let mut nested = Slice::new(Slice::new(bytes, 2..8), 1..3);
        nested[0] = 77;
        assert_eq!((IoBuf::len(&nested), nested.range()), (2, 1..3));
        assert_eq!(nested.into_inner().into_inner(), [0, 1, 2, 77, 4, 5, 6, 7, 8, 9]);
    }

    #[test]
    fn a_range_that_leaves_the_buffer_panics() {
        let bounds = [(0, 11), (11, 11), (usize::MAX, usize::MAX), (5, 4)];
        for (start, end) in bounds {
            let made = std::panic::catch_unwind(|| Slice::new(vec![0u8; 10], start..end));
            assert!(made.is_err(), "{start}..{end}");
        }
        assert!(std::panic::catch_unwind(|| Slice::new(vec![0u8; 10], ..=usize::MAX)).is_err());
    }
}
