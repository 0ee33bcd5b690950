//! Which inodes the process knows: one per file, for as long as any part of the process has it open.
//!
//! What `stat` reports of a file ([`Numbers`]) does not identify it. File systems that pass on several others give two
//! files one number, numbers are used again, and many file systems keep no birth time. So the numbers decide only who
//! shares locks, where too much sharing costs time and too little costs bytes. What is promised about the size, and the
//! failure of a sync, belong to the file that a [`Proof`] tells apart.

use super::{Inode, State, lock};
use crate::planted::{PlantedBug, planted};
use crate::sys::process::PerProcess;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};

/// What `stat` reports of a file: device, inode number, and birth time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Numbers {
    pub(crate) device: u64,
    pub(crate) number: u64,
    pub(crate) born_ns: i128,
}

/// What tells a file from another one with the same numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Proof {
    /// No other file ever has the same, not even after this one is gone.
    Lasting(Box<[u8]>),
    /// No other file has the same while this one is open.
    WhileOpen(Box<[u8]>),
    /// Nothing: every opening stands for itself.
    None,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) numbers: Numbers,
    pub(crate) proof: Proof,
}

#[derive(Default)]
struct Registry {
    files: HashMap<(Numbers, Box<[u8]>), Weak<Inode>>,
    states: HashMap<Numbers, Weak<Mutex<State>>>,
}

static REGISTRY: PerProcess<Mutex<Registry>> = PerProcess::new();

/// Inodes whose fsync failed and that no other file can be taken for: kept until the process ends, even when nothing has
/// them open.
static FAILED: PerProcess<Mutex<Vec<Arc<Inode>>>> = PerProcess::new();

/// How many dead registry entries are tolerated before they are swept.
const REGISTRY_SWEEP_LEN: usize = 1024;

impl Inode {
    /// The inode of this file. `size` is the size on disk now; it counts unless an extender is at work.
    pub(crate) fn of(identity: Identity, size: u64) -> Arc<Self> {
        let Identity { numbers, proof } = identity;
        let lasts = matches!(proof, Proof::Lasting(_));
        let key = match proof {
            Proof::Lasting(_) | Proof::WhileOpen(_) | Proof::None if planted(PlantedBug::TrustsNumbers) => Some(Box::default()),
            Proof::Lasting(bytes) | Proof::WhileOpen(bytes) => Some(bytes),
            Proof::None => None,
        };
        let mut registry = lock(REGISTRY.get());
        let key = key.map(|bytes| (numbers, bytes));
        if let Some(inode) = key.as_ref().and_then(|key| registry.files.get(key)).and_then(Weak::upgrade) {
            // In this order: a failure that is latched in between makes for one holder more, not one fewer. While the
            // registry is locked, no other thread can take up the inode.
            let remembered = usize::from(inode.lasts && inode.sync_failure().is_some());
            let is_closed = Arc::strong_count(&inode) == 1 + remembered;
            drop(registry);
            if is_closed {
                // Only the failure of its fsync is remembered; nothing has it open. Its padding is another process's.
                inode.mark_clean();
            }
            inode.adopt_measured_if_quiet(size);
            return inode;
        }
        registry.sweep();
        let state = registry.state_of(numbers);
        let inode = Arc::new(Self::new(size, state, lasts));
        if let Some(key) = key {
            registry.files.insert(key, Arc::downgrade(&inode));
        }
        inode
    }

    /// Remembers that an `fsync` of the file failed: until the process ends, or if another file can take its place,
    /// while it is open.
    pub(crate) fn latch_sync_failure(self: &Arc<Self>, errno: i32) {
        // Kept once, and before it counts as kept.
        let mut failed = lock(FAILED.get());
        let mut state = lock(&self.state);
        let part = &mut state.files[self.place];
        if part.sync_failed.is_none() {
            part.sync_failed = Some(errno);
            if self.lasts {
                failed.push(Arc::clone(self));
            }
        }
    }
}

impl Registry {
    /// The state that all files of these numbers share.
    fn state_of(&mut self, numbers: Numbers) -> Arc<Mutex<State>> {
        if let Some(state) = self.states.get(&numbers).and_then(Weak::upgrade) {
            return state;
        }
        let state = Arc::new(Mutex::new(State::new()));
        self.states.insert(numbers, Arc::downgrade(&state));
        state
    }

    fn sweep(&mut self) {
        let is_due = |len: usize| len >= REGISTRY_SWEEP_LEN && len.is_power_of_two();
        if is_due(self.files.len()) {
            self.files.retain(|_, inode| inode.strong_count() > 0);
        }
        if is_due(self.states.len()) {
            self.states.retain(|_, state| state.strong_count() > 0);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn numbers(number: u64) -> Numbers {
        Numbers { device: u64::MAX, number, born_ns: 0 }
    }

    fn inode(number: u64, proof: Proof, size: u64) -> Arc<Inode> {
        Inode::of(Identity { numbers: numbers(number), proof }, size)
    }

    fn bytes(byte: u8) -> Box<[u8]> {
        Box::new([byte])
    }

    #[test]
    fn two_files_with_the_same_numbers_share_their_locks_and_nothing_else() {
        let (large, small) = (inode(1, Proof::WhileOpen(bytes(1)), 8 << 20), inode(1, Proof::WhileOpen(bytes(2)), 10));
        assert!(Arc::ptr_eq(&large.state, &small.state));
        small.begin_extending(10, 4096);
        assert_eq!((small.size(), large.size()), (10, 8 << 20));
        assert_eq!(large.size_to_report(8 << 20), 8 << 20);
        assert_eq!(large.clamp(large.read_ticket()), u64::MAX);
        large.latch_sync_failure(libc::EIO);
        assert_eq!((large.sync_failure(), small.sync_failure()), (Some(libc::EIO), None));
        assert!(Arc::ptr_eq(&small, &inode(1, Proof::WhileOpen(bytes(2)), 10)), "two opens of one file share all");
    }

    #[test]
    fn what_nothing_tells_apart_stands_for_itself() {
        let (one, two) = (inode(2, Proof::None, 10), inode(2, Proof::None, 20));
        assert_eq!((one.size(), two.size()), (10, 20));
        assert!(Arc::ptr_eq(&one.state, &two.state));
    }

    #[test]
    fn a_failed_sync_is_remembered_after_the_last_close_only_of_a_file_that_no_other_can_be_taken_for() {
        for (number, proof, remembered) in [(3, Proof::Lasting(bytes(1)), true), (4, Proof::WhileOpen(bytes(1)), false)] {
            inode(number, proof.clone(), 0).latch_sync_failure(libc::EIO);
            assert_eq!(inode(number, proof, 0).sync_failure().is_some(), remembered);
        }
    }

    #[test]
    fn the_place_of_a_closed_twin_is_used_again() {
        let held = inode(5, Proof::WhileOpen(bytes(0)), 0);
        for round in 1..100 {
            let twin = inode(5, Proof::WhileOpen(bytes(round)), round.into());
            assert_eq!((twin.size(), twin.place), (round.into(), 1));
        }
        assert_eq!(held.size(), 0);
    }
}
