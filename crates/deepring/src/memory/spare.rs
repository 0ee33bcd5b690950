//! [`Spare`]: the room behind the bytes of a vector.

use super::io_buf::{IoBuf, IoBufMut};
use std::fmt;

/// Room for a read behind the bytes that a vector has. Nothing has to be zeroed before, and the vector
/// grows by what came, also if the read failed after some bytes. Reading into it again continues
/// there. A write takes nothing from it.
///
/// ```
/// use deepring::{Engine, OpenOptions, Spare};
/// # let directory = tempfile::tempdir().unwrap();
/// # let path = directory.path().join("weights.bin");
/// # std::fs::write(&path, [7u8; 1000]).unwrap();
/// let engine = Engine::builder().build()?;
/// let file = engine.open(&path, OpenOptions::new().read(true))?;
/// let (spare, _) = file.read_at(Spare::new(vec![1, 2], 4096), 0).wait().ok()?;
/// let vector = spare.into_inner();
/// assert_eq!((vector.len(), &vector[..3]), (1002, &[1u8, 2, 7][..]));
/// # Ok::<(), deepring::Error>(())
/// ```
pub struct Spare {
    vec: Vec<u8>,
    room: usize,
}

impl Spare {
    /// Room for `bytes` more than the vector has; its capacity is raised if it is less.
    ///
    /// # Panics
    /// As `Vec::reserve`, if there is no memory for them.
    pub fn new(mut vec: Vec<u8>, bytes: usize) -> Self {
        vec.reserve(bytes);
        Self { vec, room: bytes }
    }

    /// Bytes that can still come.
    pub fn room(&self) -> usize {
        self.room
    }

    /// The vector, with what has come.
    pub fn into_inner(self) -> Vec<u8> {
        self.vec
    }
}

// SAFETY: no bytes.
unsafe impl IoBuf for Spare {
    fn as_ptr(&self) -> *const u8 {
        self.vec.as_ptr()
    }
    fn len(&self) -> usize {
        0
    }
}

// SAFETY: a vector's heap block does not move when the vector does. `room` bytes behind its length
// are within its capacity: reserved when it was wrapped, and the vector can only be taken out.
unsafe impl IoBufMut for Spare {
    fn as_mut_ptr(&mut self) -> *mut u8 {
        self.vec.spare_capacity_mut().as_mut_ptr().cast()
    }
    fn room(&self) -> usize {
        self.room
    }
    unsafe fn filled(&mut self, bytes: usize) {
        let bytes = bytes.min(self.room);
        // SAFETY: within the capacity, and initialized, as the caller says.
        unsafe { self.vec.set_len(self.vec.len() + bytes) };
        self.room -= bytes;
    }
}

impl fmt::Debug for Spare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Spare({} bytes behind {})", self.room, self.vec.len())
    }
}
