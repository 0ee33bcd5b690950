//! Requests that have not begun, by file: files take turns, so that however many requests one has, a request of another
//! waits for one of them. Pure.
//!
//! A file whose requests mostly wait, for each other or for room, lets no more begin: a request that waits costs memory
//! and a look by the driver, and gains nothing by it.

use std::collections::{BTreeMap, VecDeque};

/// Requests of one file that wait for a range at once.
const WAITING_MAX: u32 = 1000;

/// Requests of one file for which room is made at once.
const MAKING_ROOM_MAX: u32 = 32;

/// Idle flows are dropped only if there are more than these, so that a file that is used again keeps its allocation.
const KEPT: usize = 16;

/// The requests of all files. `F` is a request.
#[derive(Debug)]
pub(super) struct Flows<F> {
    by_file: BTreeMap<u64, Flow<F>>,
    /// The files of which a request can begin, the next one first.
    rotation: VecDeque<u64>,
    /// Flows that were made so far.
    made: u64,
}

#[derive(Debug)]
struct Flow<F> {
    /// In the order in which they were made.
    number: u64,
    queue: VecDeque<F>,
    waiting: u32,
    making_room: u32,
}

impl<F> Flow<F> {
    fn can_begin(&self) -> bool {
        !self.queue.is_empty() && self.waiting < WAITING_MAX && self.making_room < MAKING_ROOM_MAX
    }
}

/// What a request that has begun waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hold {
    Range,
    Room,
}

impl<F> Default for Flows<F> {
    fn default() -> Self {
        Self { by_file: BTreeMap::new(), rotation: VecDeque::new(), made: 0 }
    }
}

impl<F> Flows<F> {
    /// Changes the flow of a file, and keeps the books about it.
    fn change<R>(&mut self, file: u64, change: impl FnOnce(&mut Flow<F>) -> R) -> R {
        let flow = self.by_file.entry(file).or_insert_with(|| {
            self.made += 1;
            Flow { number: self.made, queue: VecDeque::new(), waiting: 0, making_room: 0 }
        });
        let before = flow.can_begin();
        let result = change(flow);
        let after = flow.can_begin();
        if after && !before {
            self.rotation.push_back(file);
        } else if before && !after {
            self.rotation.retain(|other| *other != file);
        }
        if flow.queue.is_empty() && flow.waiting == 0 && flow.making_room == 0 && self.by_file.len() > KEPT {
            self.by_file.remove(&file);
        }
        result
    }

    pub(super) fn push(&mut self, file: u64, request: F) {
        self.change(file, |flow| flow.queue.push_back(request));
    }

    /// The next request.
    pub(super) fn pop(&mut self) -> Option<F> {
        let file = *self.rotation.front()?;
        let request = self.change(file, |flow| flow.queue.pop_front());
        // It can have left the rotation.
        if self.rotation.front() == Some(&file) {
            self.rotation.rotate_left(1);
        }
        request
    }

    /// Whether a request can begin.
    pub(super) fn has_next(&self) -> bool {
        !self.rotation.is_empty()
    }

    /// A request that has begun waits for something.
    pub(super) fn hold(&mut self, file: u64, what: Hold) {
        self.change(file, |flow| match what {
            Hold::Range => flow.waiting += 1,
            Hold::Room => flow.making_room += 1,
        });
    }

    /// It does not any more.
    pub(super) fn release(&mut self, file: u64, what: Hold) {
        self.change(file, |flow| match what {
            Hold::Range => flow.waiting -= 1,
            Hold::Room => flow.making_room -= 1,
        });
    }

    /// Moves the requests that match to `taken`.
    pub(super) fn sweep(&mut self, gone: impl Fn(&F) -> bool, taken: &mut Vec<F>) {
        let matches = self.by_file.iter().filter(|(_, flow)| flow.queue.iter().any(&gone));
        let mut files: Vec<_> = matches.map(|(file, flow)| (flow.number, *file)).collect();
        files.sort_unstable();
        for (_, file) in files {
            self.change(file, |flow| {
                for request in std::mem::take(&mut flow.queue) {
                    if gone(&request) { taken.push(request) } else { flow.queue.push_back(request) }
                }
            });
        }
    }

    /// Requests that wait for a range, and for room.
    #[cfg(any(debug_assertions, feature = "sim"))]
    pub(super) fn held(&self) -> (u32, u32) {
        self.by_file.values().fold((0, 0), |(waiting, room), flow| (waiting + flow.waiting, room + flow.making_room))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_request_of_another_file_waits_for_one_of_very_many() {
        let mut flows = Flows::default();
        for number in 0..100_000 {
            flows.push(1, number);
        }
        flows.push(2, 7);
        assert_eq!([flows.pop(), flows.pop(), flows.pop()], [Some(0), Some(7), Some(1)]);
    }

    #[test]
    fn a_file_whose_requests_wait_lets_no_more_begin() {
        for (what, max) in [(Hold::Range, WAITING_MAX), (Hold::Room, MAKING_ROOM_MAX)] {
            let mut flows = Flows::default();
            for number in 0..5000 {
                flows.push(1, number);
            }
            let begun = std::iter::from_fn(|| flows.pop().inspect(|_| flows.hold(1, what))).count();
            assert_eq!(begun, max as usize);
            flows.push(2, 7);
            assert_eq!((flows.pop(), flows.pop()), (Some(7), None));
            flows.release(1, what);
            assert_eq!(flows.pop(), Some(max), "in their order");
        }
    }

    proptest! {
        /// Each file keeps its order, every request comes out or is swept, and a file is passed by each other once.
        #[test]
        fn every_request_begins_in_its_order_and_soon(steps in proptest::collection::vec((0u8..8, 0u64..5), 1..400)) {
            let mut flows = Flows::default();
            let (mut next, mut taken) = (0u32, Vec::new());
            let mut left = BTreeMap::<u64, VecDeque<u32>>::new();
            let mut since = BTreeMap::<u64, usize>::new();
            for (step, file) in steps {
                match step {
                    0..4 => {
                        flows.push(file, next);
                        left.entry(file).or_default().push_back(next);
                        next += 1;
                    }
                    4 => {
                        flows.sweep(|number| u64::from(*number) % 5 == file, &mut taken);
                        for queue in left.values_mut() {
                            queue.retain(|number| u64::from(*number) % 5 != file);
                        }
                        // One that has none left loses its turn.
                        since.retain(|file, _| !left[file].is_empty());
                    }
                    _ => match flows.pop() {
                        None => prop_assert!(left.values().all(VecDeque::is_empty)),
                        Some(number) => {
                            let (file, queue) = left.iter_mut().find(|(_, queue)| queue.front() == Some(&number)).expect("the first of its file");
                            queue.pop_front();
                            since.insert(*file, 0);
                            let file = *file;
                            for (other, queue) in &left {
                                let passed = since.entry(*other).or_default();
                                *passed = if *other == file || queue.is_empty() { 0 } else { *passed + 1 };
                                prop_assert!(*passed <= 4, "passed by {} of 4 others", passed);
                            }
                        }
                    },
                }
            }
        }
    }
}
