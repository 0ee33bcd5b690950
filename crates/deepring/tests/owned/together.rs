//! Transfers that share a completion, and are canceled at once.

use super::LIMIT;
use super::panics::explode;
use crate::harness::gate::Gate;
use crate::harness::{bytes, directory, engines, open, within};
use deepring::binding::{Completion, EngineBinding, FileBinding, Outcome, RawTransfer};
use deepring::{Direct, Direction, ErrorKind, File};
use std::ops::Range;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

/// More than the driver delivers at once.
const MANY: u64 = 3000;

/// How an outcome has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Together,
    Alone(ErrorKind),
}

/// Is canceled, and reports the tag of each outcome.
struct Shared {
    take: fn() -> bool,
    ends: Mutex<Sender<(u64, Way)>>,
}

impl Shared {
    fn new(take: fn() -> bool) -> (Arc<Self>, Receiver<(u64, Way)>) {
        let (ends, outcomes) = channel();
        (Arc::new(Self { take, ends: Mutex::new(ends) }), outcomes)
    }

    fn end(&self, tag: u64, way: Way) {
        self.ends.lock().expect("the sender").send((tag, way)).expect("a test that looks");
    }
}

impl Completion for Shared {
    fn settle(self: Arc<Self>, _: Outcome) {
        unreachable!("every transfer has a tag");
    }

    fn canceled(&self) -> bool {
        true
    }

    fn settle_tagged(self: Arc<Self>, tag: u64, outcome: Outcome) {
        self.end(tag, Way::Alone(outcome.result.expect_err("it is canceled").kind()));
    }

    fn drop_together(&self, tags: &[u64]) -> bool {
        let takes = (self.take)();
        tags.iter().filter(|_| takes).for_each(|&tag| self.end(tag, Way::Together));
        takes
    }
}

fn read(file: &File, tags: Range<u64>, completion: &Arc<Shared>) {
    let address = std::ptr::from_mut(Box::leak(Box::new(0u8))) as u64;
    for tag in tags {
        let transfer = RawTransfer::new(Direction::Read, address, 1, tag).tag(tag);
        // SAFETY: the byte is leaked, so it stays, and nothing else uses it.
        unsafe { file.submit(transfer, Arc::<Shared>::clone(completion)) };
    }
}

/// Cancels many reads of two files, with two completions, of which only the first takes them as `take` says. Returns how those
/// of the first have ended, and how many panics were counted.
fn drop_many(take: fn() -> bool) -> Vec<(Vec<(u64, Way)>, u64)> {
    let place = directory();
    let [one, other] = ["one", "other"].map(|name| place.path().join(name));
    std::fs::write(&one, bytes(0, 5000, 1)).expect("the file");
    std::fs::write(&other, bytes(0, 5000, 1)).expect("the file");
    let run = |engine: deepring::Engine| {
        let [one, other] = [&one, &other].map(|path| open(&engine, path, Direct::Prefer));
        let ((shared, outcomes), (apart, outcomes_apart)) = (Shared::new(take), Shared::new(|| false));
        let gate = Gate::close(&one);
        read(&one, 0..MANY / 2, &shared);
        read(&one, 0..1, &apart);
        read(&one, MANY / 2..MANY, &shared);
        read(&other, MANY..MANY + 10, &shared);
        engine.wake();
        drop(gate);
        // Both end when the last outcome was delivered.
        one.close().wait().expect("the file is closed");
        other.close().wait().expect("the file is closed");
        drop((shared, apart));
        assert_eq!(outcomes_apart.iter().collect::<Vec<_>>(), [(0, Way::Alone(ErrorKind::Canceled))]);
        let stats = engine.stats();
        assert_eq!((stats.canceled, stats.queued), (MANY + 11, 0), "{stats:?}");
        (outcomes.iter().collect(), stats.panics)
    };
    engines().into_iter().map(run).collect()
}

/// Asserts that all transfers end in their order, and in this way.
fn assert_all_end(take: fn() -> bool, expected: Way) {
    within(LIMIT, "transfers that are dropped", move || {
        for (ends, panics) in drop_many(take) {
            assert_eq!(panics, 0);
            assert!(ends.iter().map(|&(tag, _)| tag).eq(0..MANY + 10), "{ends:?}");
            assert!(ends.iter().all(|&(_, way)| way == expected), "{ends:?}");
        }
    });
}

#[test]
fn transfers_that_share_a_completion_and_are_dropped_end_together_in_their_order() {
    assert_all_end(|| true, Way::Together);
}

#[test]
fn a_completion_that_takes_no_transfers_together_gets_each_by_itself() {
    assert_all_end(|| false, Way::Alone(ErrorKind::Canceled));
}

#[test]
fn a_completion_that_panics_over_transfers_together_harms_no_other() {
    within(LIMIT, "transfers that are dropped", || {
        for (ends, panics) in drop_many(|| explode()) {
            // Three times at least: before and after the other completion, and of the other file.
            assert!((3..10).contains(&panics), "{panics} panics");
            assert_eq!(ends, []);
        }
    });
}
