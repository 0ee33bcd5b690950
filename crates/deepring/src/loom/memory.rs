//! The memory of a model, and the device that transfers to and from it.
//!
//! Loom watches the one cell behind each [`Lent`]: two accesses without an order between them fail
//! the model. The device also checks, when it begins and when it is done, that the memory still
//! exists and that its file is still open.

use crate::backend::DeviceOp;
use crate::memory::{IoBuf, IoBufMut};
use crate::plan::Direction;
use crate::sync::atomic::{AtomicUsize, Ordering};
use loom::cell::UnsafeCell;
use std::cell::RefCell;
use std::path::Path;
use std::sync::Arc;

/// What the device writes.
pub(crate) const WRITTEN: u8 = 0xd1;

/// The smallest block.
pub(crate) const LENT_BYTES: usize = 512;

/// A watched buffer.
pub(crate) struct Lent {
    cell: Arc<Cell>,
    bytes: Box<[u8]>,
}

struct Cell {
    address: u64,
    watched: UnsafeCell<u8>,
    /// Accessed by the device and by the owner that frees the memory, so loom tries both orders.
    turn: AtomicUsize,
}

// SAFETY: sharing loom's cell is its purpose: loom fails the model if an access has no order.
unsafe impl Sync for Cell {}

thread_local! {
    /// The buffers that exist. All threads of a model are coroutines of one real thread.
    static LENT: RefCell<Vec<Arc<Cell>>> = const { RefCell::new(Vec::new()) };
}

/// Starts an order with no buffers.
pub(super) fn forget() {
    LENT.take();
}

/// The number of buffers that exist.
pub(super) fn lent() -> usize {
    LENT.with_borrow(Vec::len)
}

impl Lent {
    pub(super) fn new() -> Self {
        let bytes = vec![0u8; LENT_BYTES].into_boxed_slice();
        let cell = Arc::new(Cell { address: bytes.as_ptr() as u64, watched: UnsafeCell::new(0), turn: AtomicUsize::new(0) });
        LENT.with_borrow_mut(|lent| lent.push(Arc::clone(&cell)));
        Self { cell, bytes }
    }

    /// The watched byte.
    pub(super) fn value(&self) -> u8 {
        // SAFETY: the pointer is valid in the closure; loom fails the model if another thread
        // writes at the same time.
        self.cell.watched.with(|value| unsafe { *value })
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.cell.turn.fetch_add(1, Ordering::Relaxed);
        self.cell.watched.with_mut(|_| ());
        let before = lent();
        LENT.with_borrow_mut(|lent| lent.retain(|cell| !Arc::ptr_eq(cell, &self.cell)));
        assert_eq!(lent() + 1, before, "freed twice");
    }
}

// SAFETY: the boxed bytes do not move when the value does.
unsafe impl IoBuf for Lent {
    fn as_ptr(&self) -> *const u8 {
        self.bytes.as_ptr()
    }
    fn len(&self) -> usize {
        self.bytes.len()
    }
}

// SAFETY: the value owns its bytes.
unsafe impl IoBufMut for Lent {
    fn as_mut_ptr(&mut self) -> *mut u8 {
        self.bytes.as_mut_ptr()
    }
}

/// The device: carries out one operation on lent memory.
pub(super) fn transfer(op: &DeviceOp) -> i32 {
    for _ in ["begins", "is done"] {
        let find = |lent: &Vec<Arc<Cell>>| lent.iter().find(|cell| cell.address == op.address).cloned();
        let cell = LENT.with_borrow(find).expect("the memory was freed while the device had it");
        match op.direction {
            // SAFETY: the pointer is valid in the closure; loom fails the model if another thread
            // reads at the same time.
            Direction::Read => cell.watched.with_mut(|value| unsafe { *value = WRITTEN }),
            Direction::Write => cell.watched.with(|_| ()),
        }
        let open = Path::new(&format!("/proc/self/fd/{}", op.fd)).exists();
        assert!(open, "the file was closed while the device had it");
        cell.turn.fetch_add(1, Ordering::Relaxed);
    }
    op.len as i32
}
