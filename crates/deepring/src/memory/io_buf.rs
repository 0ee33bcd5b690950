//! [`IoBuf`] and [`IoBufMut`]: memory that an operation can use, and the memory of std that can be used so.

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
