//! [`Extent`]: a slot of the slab, and which cells of which extent of a version are in it.

use crate::identity::{Identity, Key};
use crate::slots::Slots;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// See the module. Dropped, it gives its slot back.
#[derive(Debug)]
pub(crate) struct Extent {
    pub(crate) slot: u32,
    pub(crate) key: Key,
    slots: Arc<Slots<Self>>,
    cells: Mutex<Cells>,
    /// Its object was forgotten: no record of it is written any more.
    is_forgotten: AtomicBool,
    /// Held while its record is written, one after the other.
    record: Mutex<()>,
}

/// Which cells are in the slab: a bit each, and their checksums. There are as many of these as the drive has room for, so they
/// are packed.
#[derive(Debug)]
struct Cells {
    bits: Box<[u64]>,
    sums: Box<[u32]>,
}

impl Cells {
    fn new(sums: &[Option<u32>]) -> Self {
        let mut cells = Self { bits: vec![0; sums.len().div_ceil(64)].into(), sums: vec![0; sums.len()].into() };
        for (cell, sum) in sums.iter().enumerate() {
            cells.set(cell, *sum);
        }
        cells
    }

    fn get(&self, cell: usize) -> Option<u32> {
        (self.bits[cell / 64] & 1 << (cell % 64) != 0).then(|| self.sums[cell])
    }

    fn set(&mut self, cell: usize, sum: Option<u32>) {
        let bit = 1 << (cell % 64);
        match sum {
            Some(sum) => {
                self.bits[cell / 64] |= bit;
                self.sums[cell] = sum;
            }
            None => self.bits[cell / 64] &= !bit,
        }
    }
}

impl Extent {
    pub(crate) fn new(slot: u32, key: Key, slots: &Arc<Slots<Self>>, sums: &[Option<u32>]) -> Arc<Self> {
        let slots = Arc::clone(slots);
        let extent =
            Self { slot, key, slots, cells: Mutex::new(Cells::new(sums)), is_forgotten: AtomicBool::new(false), record: Mutex::new(()) };
        let extent = Arc::new(extent);
        extent.slots.settle(slot, &extent);
        extent
    }

    pub(crate) fn identity(&self) -> &Arc<Identity> {
        &self.key.identity
    }

    fn lock(&self) -> MutexGuard<'_, Cells> {
        self.cells.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The checksums of these cells.
    pub(crate) fn sums(&self, cells: Range<u64>) -> Vec<Option<u32>> {
        let own = self.lock();
        cells.map(|cell| own.get(cell as usize)).collect()
    }

    pub(crate) fn has(&self, mut cells: Range<u64>) -> bool {
        let own = self.lock();
        cells.all(|cell| own.get(cell as usize).is_some())
    }

    pub(crate) fn all_sums(&self) -> Vec<Option<u32>> {
        let own = self.lock();
        (0..own.sums.len()).map(|cell| own.get(cell)).collect()
    }

    /// Cells that are in the slab from now on.
    pub(crate) fn set(&self, first: u64, sums: &[u32]) {
        let mut own = self.lock();
        for (cell, &sum) in (first as usize..).zip(sums) {
            own.set(cell, Some(sum));
        }
    }

    /// A cell whose bytes do not have this checksum. Returns whether it still was that cell.
    pub(crate) fn clear(&self, cell: u64, sum: u32) -> bool {
        let mut own = self.lock();
        let is_same = own.get(cell as usize) == Some(sum);
        if is_same {
            own.set(cell as usize, None);
        }
        is_same
    }

    pub(crate) fn forget(&self) {
        self.is_forgotten.store(true, Ordering::Release);
    }

    pub(crate) fn is_forgotten(&self) -> bool {
        self.is_forgotten.load(Ordering::Acquire)
    }

    /// Keeps other writers of its record out.
    pub(crate) fn lock_record(&self) -> MutexGuard<'_, ()> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Extent {
    fn drop(&mut self) {
        self.slots.give_back(self.slot, !*self.is_forgotten.get_mut());
    }
}

#[cfg(test)]
mod tests {
    use super::Cells;

    #[test]
    fn a_cell_has_its_checksum_until_it_is_taken_away() {
        let sums: Vec<_> = (0..256u32).map(|cell| (cell % 5 != 0).then_some(cell * 3)).collect();
        let mut cells = Cells::new(&sums);
        assert!((0..256).all(|cell| cells.get(cell) == sums[cell]));
        cells.set(64, None);
        cells.set(65, Some(7));
        assert_eq!([63, 64, 65, 66].map(|cell| cells.get(cell)), [Some(189), None, Some(7), Some(198)]);
    }
}
