//! Memory for transfers: aligned, backed by huge pages, pooled, reference counted.
//!
//! A [`Buffer`] is the sole owner of its bytes, although many buffers can share one mapping.
//! [`Buffer::freeze`] turns it into a [`SharedBuffer`], which can be cloned and only read. A
//! mapping goes back to its pool when the program and the engine have dropped the last of them.

mod buffer;
mod extents;
mod frame;
mod fresh;
mod io_buf;
mod lease;
mod map;
pub(crate) mod pool;
mod presence;
mod slice;
mod spare;
mod steady;

pub use buffer::{Buffer, SharedBuffer};
pub(crate) use fresh::{Finder, Fresh};
pub use io_buf::{IoBuf, IoBufMut};
pub use lease::MemoryLease;
#[cfg(feature = "sim")]
pub(crate) use map::forget;
pub(crate) use map::is_engine_memory;
pub(crate) use pool::Pool;
pub use slice::Slice;
pub use spare::Spare;
pub use steady::Steady;
