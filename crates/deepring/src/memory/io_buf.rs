//! [`IoBuf`] and [`IoBufMut`]: memory that a transfer can use, and the types of std and of the crate
//! `bytes` that implement them.

use std::sync::Arc;

/// Memory that stays in place while its owner is moved: what a write can take its bytes from.
///
/// # Safety
/// `as_ptr` and `len` describe initialized memory. It stays valid and in place until the value is
/// dropped, even if the value itself is moved. Nothing but the value's owner writes to it while the
/// engine holds the value.
pub unsafe trait IoBuf: Send + 'static {
    /// The address of the first byte.
    fn as_ptr(&self) -> *const u8;
    /// The number of bytes.
    fn len(&self) -> usize;
    /// Whether there are no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Memory that a read can put its bytes into.
///
/// # Safety
/// `as_mut_ptr` and `room` describe memory that stays valid and in place until the value is dropped,
/// even if the value itself is moved. It need not be initialized. Nothing but the value's owner reads
/// or writes it while the engine holds the value. Unless `len` is 0, it begins where `as_ptr` does and
/// is no shorter.
pub unsafe trait IoBufMut: IoBuf {
    /// The address of the first byte.
    fn as_mut_ptr(&mut self) -> *mut u8;

    /// The number of bytes that a read can put there: `len`, if nothing else is said.
    fn room(&self) -> usize {
        self.len()
    }

    /// Called once a read has ended, with the number of bytes that came. Does nothing, if nothing else
    /// is said.
    ///
    /// # Safety
    /// The first `bytes` bytes from [`IoBufMut::as_mut_ptr`] are initialized, and not more than
    /// [`IoBufMut::room`].
    unsafe fn filled(&mut self, bytes: usize) {
        let _ = bytes;
    }
}

// SAFETY: a vector's heap block does not move when the vector does, and `len` bytes of it are
// initialized.
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

// SAFETY: a boxed array does not move when the box does.
unsafe impl<const N: usize> IoBuf for Box<[u8; N]> {
    fn as_ptr(&self) -> *const u8 {
        self.as_slice().as_ptr()
    }
    fn len(&self) -> usize {
        N
    }
}

// SAFETY: the box owns its array exclusively.
unsafe impl<const N: usize> IoBufMut for Box<[u8; N]> {
    fn as_mut_ptr(&mut self) -> *mut u8 {
        self.as_mut_slice().as_mut_ptr()
    }
}

// SAFETY: shared bytes do not move, and are not written while the engine holds one of the references.
unsafe impl IoBuf for Arc<[u8]> {
    fn as_ptr(&self) -> *const u8 {
        <[u8]>::as_ptr(self)
    }
    fn len(&self) -> usize {
        <[u8]>::len(self)
    }
}

// SAFETY: shared bytes behind a pointer, which do not move and are never written.
#[cfg(feature = "bytes")]
unsafe impl IoBuf for bytes::Bytes {
    fn as_ptr(&self) -> *const u8 {
        <[u8]>::as_ptr(self)
    }
    fn len(&self) -> usize {
        <[u8]>::len(self)
    }
}

// SAFETY: bytes behind a pointer, which do not move when the value does; `len` of them are initialized.
#[cfg(feature = "bytes")]
unsafe impl IoBuf for bytes::BytesMut {
    fn as_ptr(&self) -> *const u8 {
        <[u8]>::as_ptr(self)
    }
    fn len(&self) -> usize {
        <[u8]>::len(self)
    }
}

// SAFETY: the value's part of the memory is its alone.
#[cfg(feature = "bytes")]
unsafe impl IoBufMut for bytes::BytesMut {
    fn as_mut_ptr(&mut self) -> *mut u8 {
        <[u8]>::as_mut_ptr(self)
    }
}
