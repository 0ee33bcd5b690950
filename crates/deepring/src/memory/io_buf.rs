//! [`IoBuf`] and [`IoBufMut`]: memory that a transfer can use, and the types of std that
//! implement them.

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
/// As [`IoBuf`], and nothing but the value's owner reads or writes the bytes while the engine holds
/// the value.
pub unsafe trait IoBufMut: IoBuf {
    /// The address of the first byte.
    fn as_mut_ptr(&mut self) -> *mut u8;
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
