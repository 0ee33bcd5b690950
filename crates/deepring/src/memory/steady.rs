//! [`Steady`]: memory that several threads read at once.

use super::io_buf::IoBuf;
use std::fmt;

/// Memory of any owner that several threads read at once, such as to [copy](super::Buffer::copy_from) different parts of it.
/// Nobody has the owner meanwhile; [`Steady::into_inner`] gives it back.
///
/// ```
/// use deepring::Steady;
/// let engine = deepring::Engine::builder().build()?;
/// let source = Steady::new(vec![1u8, 2, 3, 4]);
/// let mut copies = [engine.buffer(2)?, engine.buffer(2)?];
/// std::thread::scope(|scope| {
///     for (nth, copy) in copies.iter_mut().enumerate() {
///         let source = &source;
///         scope.spawn(move || copy.copy_from(0, source, 2 * nth..2 * nth + 2));
///     }
/// });
/// assert_eq!((&copies[0][..], &copies[1][..]), (&[1u8, 2][..], &[3u8, 4][..]));
/// assert_eq!(source.into_inner(), [1, 2, 3, 4]);
/// # Ok::<(), deepring::Error>(())
/// ```
pub struct Steady<B> {
    start: *const u8,
    len: usize,
    owner: B,
}

// SAFETY: the address is that of memory that goes with its owner to any thread.
unsafe impl<B: IoBuf> Send for Steady<B> {}
// SAFETY: a shared reference gives the address and the length alone. The owner, which may be for one thread only, cannot be
// reached by it.
unsafe impl<B: IoBuf> Sync for Steady<B> {}

impl<B: IoBuf> Steady<B> {
    /// The memory of this owner.
    pub fn new(owner: B) -> Self {
        Self { start: owner.as_ptr(), len: owner.len(), owner }
    }

    /// The owner.
    pub fn into_inner(self) -> B {
        self.owner
    }
}

// SAFETY: the owner keeps the memory in place until it is dropped, wherever this value is moved, and nothing writes to it
// while the owner is here.
unsafe impl<B: IoBuf> IoBuf for Steady<B> {
    fn as_ptr(&self) -> *const u8 {
        self.start
    }
    fn len(&self) -> usize {
        self.len
    }
}

impl<B> fmt::Debug for Steady<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Steady({} bytes at {:p})", self.len, self.start)
    }
}
