//! For bindings: transfers on memory that belongs to another runtime.

use crate::handle::Handle;
use crate::plan::Direction;
use std::sync::Arc;

/// A transfer on memory that the engine does not own.
///
/// # Safety
/// Whoever submits one vouches that `address..address + len` stays valid and in place until the completion is settled, and for ever if
/// it is settled with `memory_lost`; and that nobody writes to it meanwhile, nor, if the direction is [`Direction::Read`], reads it.
#[derive(Debug, Clone)]
pub struct RawTransfer {
    /// Which way.
    pub direction: Direction,
    /// Where the memory begins.
    pub address: u64,
    /// How long it is, in bytes.
    pub len: u64,
    /// Where in the file the transfer begins.
    pub position: u64,
    /// Whether a read that meets the end of the file is an error.
    pub exact: bool,
    /// A limit below the device's.
    pub handle: Option<Arc<Handle>>,
}
