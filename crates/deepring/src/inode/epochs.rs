//! The order of accepted writes, as far as `fsync` needs it.
//!
//! A sync covers the writes accepted before it. It closes the current epoch and runs when every write of that epoch
//! and of earlier ones has settled; writes accepted later belong to the next epoch and do not delay it.

use std::collections::VecDeque;

pub(super) struct Epochs {
    /// Unsettled writes per epoch; the front is epoch `first`, the back is the current one.
    unsettled: VecDeque<u64>,
    first: u64,
}

impl Epochs {
    pub(super) fn new() -> Self {
        Self { unsettled: VecDeque::from([0]), first: 0 }
    }

    fn current(&self) -> u64 {
        self.first + self.unsettled.len() as u64 - 1
    }

    /// Counts a write in the current epoch, which is returned.
    pub(super) fn accept(&mut self) -> u64 {
        let current = self.current();
        self.unsettled[(current - self.first) as usize] += 1;
        current
    }

    /// A write of this epoch has settled. Returns whether an epoch has with it.
    pub(super) fn settle(&mut self, epoch: u64) -> bool {
        let count = &mut self.unsettled[(epoch - self.first) as usize];
        debug_assert!(*count > 0, "epoch {epoch} has no unsettled write");
        *count -= 1;
        let first = self.first;
        self.drop_settled();
        self.first > first
    }

    /// Closes the current epoch, which is returned.
    pub(super) fn close(&mut self) -> u64 {
        let closed = self.current();
        self.unsettled.push_back(0);
        self.drop_settled();
        closed
    }

    /// Whether every write of this epoch and of earlier ones has settled.
    pub(super) fn is_settled(&self, epoch: u64) -> bool {
        self.first > epoch
    }

    /// Whether a write is unsettled.
    pub(super) fn is_busy(&self) -> bool {
        self.unsettled.iter().any(|count| *count > 0)
    }

    /// Unsettled writes.
    #[cfg(any(feature = "sim", test))]
    pub(super) fn len(&self) -> u64 {
        self.unsettled.iter().sum()
    }

    fn drop_settled(&mut self) {
        while self.unsettled.len() > 1 && self.unsettled[0] == 0 {
            self.unsettled.pop_front();
            self.first += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_sync_waits_for_writes_before_it_and_for_no_others() {
        let mut epochs = Epochs::new();
        let before = epochs.accept();
        let sync = epochs.close();
        let after = epochs.accept();
        assert!(!epochs.is_settled(sync));
        epochs.settle(before);
        assert!(epochs.is_settled(sync));
        epochs.settle(after);
        assert_eq!(epochs.len(), 0);
    }

    #[test]
    fn a_sync_without_writes_before_it_waits_for_nothing() {
        let mut epochs = Epochs::new();
        let sync = epochs.close();
        assert!(epochs.is_settled(sync));
    }

    proptest! {
        #[test]
        fn an_epoch_is_settled_exactly_when_all_its_writes_and_all_earlier_ones_are(
            steps in proptest::collection::vec((0u8..3, any::<prop::sample::Index>()), 1..200),
        ) {
            let mut epochs = Epochs::new();
            let (mut unsettled, mut syncs) = (Vec::new(), Vec::new());
            for (step, index) in steps {
                match step {
                    0 => unsettled.push(epochs.accept()),
                    1 if !unsettled.is_empty() => drop(epochs.settle(unsettled.swap_remove(index.index(unsettled.len())))),
                    _ => syncs.push(epochs.close()),
                }
                for &sync in &syncs {
                    prop_assert_eq!(epochs.is_settled(sync), unsettled.iter().all(|&epoch| epoch > sync));
                }
            }
        }
    }
}
