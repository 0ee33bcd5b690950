//! [`Group`]: one completion for any number of transfers.
//!
//! ```text
//!   owner:    Group::new ── join(0) ── join(1) ── join(2) ── close
//!                              │          │          │         │
//!   driver:                 settle     settle     settle       │
//!                              └──────────┴──────────┴─────────┴──► the last of these calls `ended`, once
//! ```
//!
//! The group counts down from its members and one more, which stands for "open": it cannot end
//! before the owner has closed it, even if all members so far have settled. Success leaves no
//! trace but the count. Failures are kept with the index of their member and are delivered in the
//! order of the indices.
//!
//! Canceling a group cancels every member. Members at the device still settle first, so the group
//! ends as always.

use super::{Completion, MemoryLease, Outcome};
use crate::error::Error;
use crate::planted::{PlantedBug, planted};
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::fmt;
use std::mem;
use std::sync::{Arc, PoisonError};

/// A member that failed.
#[derive(Debug)]
#[non_exhaustive]
pub struct GroupFailure {
    /// The index that the member joined with.
    pub index: u64,
    /// What went wrong. After [`crate::ErrorKind::Lost`], the member's memory must never be freed
    /// or reused.
    pub error: Error,
}

type Ended = Box<dyn FnOnce(Vec<GroupFailure>) + Send>;

/// One completion for any number of transfers.
///
/// Dropping it without [`Group::close`] is allowed: the members settle, and `ended` is never
/// called.
pub struct Group {
    /// Read for every member whenever the driver looks for canceled requests.
    canceled: AtomicBool,
    count: Count,
    closed: AtomicBool,
    failures: Mutex<Vec<GroupFailure>>,
    ended: Mutex<Option<Ended>>,
}

/// Members that have not settled, and one more while the group is open. On its own cache line: it
/// changes with every member that settles, beside a flag that is only read.
#[repr(align(64))]
struct Count(AtomicUsize);

impl Group {
    /// An open group without members. `ended` receives the failures in the order of their
    /// indices. It runs on the thread of the last settlement, or in [`Group::close`], and must
    /// not block.
    pub fn new(ended: impl FnOnce(Vec<GroupFailure>) + Send + 'static) -> Arc<Self> {
        Arc::new(Self {
            canceled: AtomicBool::new(false),
            count: Count(AtomicUsize::new(1)),
            closed: AtomicBool::new(false),
            failures: Mutex::new(Vec::new()),
            ended: Mutex::new(Some(Box::new(ended))),
        })
    }

    /// One more member, which must be submitted. `index` names it if it fails; `lease` keeps its
    /// memory until it has settled, and forever if its memory is lost.
    ///
    /// # Panics
    /// If the group is closed: it can have ended.
    pub fn join(self: &Arc<Self>, index: u64, lease: Option<MemoryLease>) -> Member {
        assert!(!self.closed.load(Ordering::Relaxed), "a closed group takes no members");
        // Relaxed: the owner joins and closes on one thread, and the count is above zero until it
        // closes.
        self.count.0.fetch_add(1, Ordering::Relaxed);
        Member { group: Arc::clone(self), index, lease }
    }

    /// No more members join; the group ends when the last one has settled. Only the first call
    /// counts.
    pub fn close(&self) {
        if !self.closed.swap(true, Ordering::Relaxed) {
            self.count_down();
        }
    }

    /// Cancels all members, also those that join later. [`super::EngineBinding::sweep`] must
    /// follow.
    pub fn cancel(&self) {
        self.canceled.store(true, Ordering::Release);
    }

    fn count_down(&self) {
        let left = if planted(PlantedBug::CountsInTwoSteps) {
            let left = self.count.0.load(Ordering::Acquire) - 1;
            self.count.0.store(left, Ordering::Release);
            left
        } else {
            // Acquire and release: the last to count down sees what all others have left in
            // `failures`.
            self.count.0.fetch_sub(1, Ordering::AcqRel) - 1
        };
        if left > 0 {
            return;
        }
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut failures = mem::take(&mut *self.failures.lock().unwrap_or_else(PoisonError::into_inner));
        failures.sort_by_key(|failure| failure.index);
        if let Some(ended) = ended {
            ended(failures);
        }
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let left = self.count.0.load(Ordering::Relaxed);
        f.debug_struct("Group").field("left", &left).field("closed", &self.closed.load(Ordering::Relaxed)).finish_non_exhaustive()
    }
}

/// One transfer of a [`Group`]: the completion that it is submitted with.
#[derive(Debug)]
pub struct Member {
    group: Arc<Group>,
    index: u64,
    lease: Option<MemoryLease>,
}

impl Member {
    /// The transfer has ended. To be called once, by the [`Completion`] that this is or that
    /// holds it.
    pub fn settle(&self, outcome: Outcome) {
        if outcome.memory_lost {
            // The kernel can still write there.
            mem::forget(self.lease.clone());
        }
        if let Err(error) = outcome.result {
            let failure = GroupFailure { index: self.index, error };
            self.group.failures.lock().unwrap_or_else(PoisonError::into_inner).push(failure);
        }
        self.group.count_down();
    }

    /// Whether the group was canceled.
    pub fn canceled(&self) -> bool {
        self.group.canceled.load(Ordering::Relaxed)
    }
}

impl Completion for Member {
    fn settle(self: Arc<Self>, outcome: Outcome) {
        Self::settle(&self, outcome);
    }

    fn canceled(&self) -> bool {
        Self::canceled(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::binding::RawTransfer;
    use crate::{Direction, Engine, ErrorKind, OpenOptions};
    use std::sync::mpsc;

    fn failed(kind: ErrorKind) -> Outcome {
        Outcome { result: Err(Error::new(kind, "read")), memory_lost: kind == ErrorKind::Lost }
    }

    /// A group, and where its end arrives: the indices of the failures.
    fn group() -> (Arc<Group>, mpsc::Receiver<Vec<u64>>) {
        let (sender, ends) = mpsc::channel();
        let report = move |failures: Vec<GroupFailure>| {
            let indices = failures.iter().map(|failure| failure.index).collect();
            sender.send(indices).expect("the test still listens");
        };
        (Group::new(report), ends)
    }

    #[test]
    fn a_group_ends_once_when_it_is_closed_and_all_members_have_settled() {
        for close_first in [false, true] {
            let (group, ends) = group();
            let members = [group.join(0, None), group.join(1, None)];
            if close_first {
                group.close();
            }
            members[0].settle(failed(ErrorKind::Eof));
            assert!(ends.try_recv().is_err(), "a member has not settled");
            members[1].settle(failed(ErrorKind::Eof));
            if !close_first {
                assert!(ends.try_recv().is_err(), "the group is open");
                group.close();
            }
            group.close();
            assert_eq!(ends.try_recv(), Ok(vec![0, 1]));
            drop((group, members));
            assert_eq!(ends.try_recv(), Err(mpsc::TryRecvError::Disconnected), "once");
        }
    }

    #[test]
    fn a_group_without_members_ends_when_it_is_closed() {
        let (group, ends) = group();
        group.close();
        assert_eq!(ends.try_recv(), Ok(vec![]));
    }

    #[test]
    fn failures_arrive_in_the_order_of_their_indices() {
        let (group, ends) = group();
        let members: Vec<_> = [3, 7, 9, 40].map(|index| group.join(index, None)).into();
        group.close();
        for member in members.iter().rev() {
            member.settle(failed(ErrorKind::Eof));
        }
        assert_eq!(ends.try_recv(), Ok(vec![3, 7, 9, 40]));
    }

    #[test]
    fn canceling_a_group_cancels_every_member_also_later_ones() {
        let (group, ends) = group();
        let early = group.join(0, None);
        assert!(!early.canceled());
        group.cancel();
        let late = group.join(1, None);
        assert!(early.canceled() && late.canceled());
        group.close();
        assert!(ends.try_recv().is_err(), "canceled members settle before the group ends");
        early.settle(failed(ErrorKind::Canceled));
        late.settle(failed(ErrorKind::Canceled));
        assert_eq!(ends.try_recv(), Ok(vec![0, 1]));
    }

    #[test]
    fn a_member_whose_memory_is_lost_keeps_it_forever() {
        for (kind, kept) in [(ErrorKind::Lost, 1), (ErrorKind::Eof, 0)] {
            let engine = Engine::builder().build().expect("an engine");
            let buffer = engine.buffer(4096).expect("memory");
            let (group, ends) = group();
            let member = group.join(0, Some(MemoryLease::of(&buffer)));
            drop(buffer);
            assert_eq!(engine.stats().buffers, 1, "the member holds it");
            member.settle(failed(kind));
            group.close();
            assert_eq!(ends.try_recv(), Ok(vec![0]));
            drop((member, group));
            assert_eq!(engine.stats().buffers, kept, "{kind:?}");
        }
    }

    #[test]
    fn a_group_that_is_dropped_open_never_ends() {
        let (group, ends) = group();
        let member = group.join(0, None);
        drop(group);
        member.settle(failed(ErrorKind::Eof));
        drop(member);
        assert_eq!(ends.try_recv(), Err(mpsc::TryRecvError::Disconnected));
    }

    #[test]
    #[should_panic(expected = "a closed group takes no members")]
    fn a_closed_group_takes_no_members() {
        let (group, _ends) = group();
        group.close();
        drop(group.join(0, None));
    }

    #[test]
    fn one_group_receives_the_outcomes_of_transfers() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("file");
        std::fs::write(&path, vec![7; 10_000]).expect("a file");
        let engine = Engine::builder().build().expect("an engine");
        let file = engine.open(&path, OpenOptions::new().read(true)).expect("an open file");
        let mut memory = vec![0u8; 40_000];
        let (group, ends) = group();
        for (index, bytes) in memory.chunks_exact_mut(4000).enumerate() {
            let (address, len, position) = (bytes.as_mut_ptr() as u64, bytes.len() as u64, index as u64 * 4000);
            let transfer = RawTransfer::new(Direction::Read, address, len, position).exact(true);
            // SAFETY: the memory outlives the group, whose end is awaited below, and is not
            // touched before.
            unsafe { file.submit(transfer, Arc::new(group.join(index as u64, None))) };
        }
        engine.wake();
        group.close();
        assert_eq!(ends.recv().expect("the end"), (2..10).collect::<Vec<_>>(), "the file has two and a half chunks");
        assert!(memory[..8000].iter().all(|&byte| byte == 7));
    }
}
