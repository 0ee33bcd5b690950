//! The memory of a model, and the device that moves bytes to and from it.
//!
//! Loom watches the one cell behind each [`Lent`]: two touches without an order between them fail the model. Beyond that, the device
//! looks whether the memory still exists and whether its file is still open, when it begins and when it is done.

use crate::backend::DeviceOp;
use crate::buffer::{IoBuf, IoBufMut};
use crate::plan::Direction;
use crate::sync::atomic::{AtomicUsize, Ordering};
use loom::cell::UnsafeCell;
use std::cell::RefCell;
use std::path::Path;
use std::sync::Arc;

/// What the device writes.
pub(crate) const WRITTEN: u8 = 0xd1;

/// One block of the smallest kind.
pub(crate) const LENT_BYTES: usize = 512;

/// A buffer that is watched.
pub(crate) struct Lent {
    cell: Arc<Cell>,
    bytes: Box<[u8]>,
}

struct Cell {
    address: u64,
    watched: UnsafeCell<u8>,
    /// Touched by the device and by whoever frees the memory, so that loom tries one before the other and the other way round.
    turn: AtomicUsize,
}

// SAFETY: loom's cell is to be shared; finding out whether that goes well is what it is for.
unsafe impl Sync for Cell {}

thread_local! {
    /// What exists and what existed. All threads of a model are coroutines of one real thread.
    static LENT: RefCell<Vec<Arc<Cell>>> = const { RefCell::new(Vec::new()) };
}

/// Before each order, nothing exists.
pub(super) fn forget() {
    LENT.take();
}

/// How many buffers exist.
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

    /// What is in it.
    pub(super) fn value(&self) -> u8 {
        // SAFETY: the pointer is valid in the closure; loom fails the model if somebody else writes at the same time.
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
            // SAFETY: the pointer is valid in the closure; loom fails the model if somebody else looks at the same time.
            Direction::Read => cell.watched.with_mut(|value| unsafe { *value = WRITTEN }),
            Direction::Write => cell.watched.with(|_| ()),
        }
        let open = Path::new(&format!("/proc/self/fd/{}", op.fd)).exists();
        assert!(open, "the file was closed while the device had it");
        cell.turn.fetch_add(1, Ordering::Relaxed);
    }
    op.len as i32
}
