//! Memory for transfers.

mod buffer;

pub(crate) use buffer::Pool;
pub use buffer::{Buffer, IoBuf, IoBufMut, MemoryLease, SharedBuffer};
