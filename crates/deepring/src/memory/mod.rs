//! Memory for transfers: aligned, backed by huge pages, pooled, reference counted.
//!
//! A [`Buffer`] is the sole owner of its bytes, although many buffers may share one mapping; [`Buffer::freeze`] turns it into a
//! [`SharedBuffer`] that can be cloned and only read. A mapping goes back to its pool when the last of them is gone, be it in the program's
//! hands or in the engine's.

mod buffer;
mod io_buf;
mod lease;
pub(crate) mod pool;

pub use buffer::{Buffer, SharedBuffer};
pub use io_buf::{IoBuf, IoBufMut};
pub use lease::MemoryLease;
pub(crate) use pool::Pool;
