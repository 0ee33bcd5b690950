//! Requests by path that are not open yet, by the directory of their file: directories take turns, and none gets more
//! of the files that are open at once than it leaves. So requests in a directory that does not answer leave room for
//! those in others. Pure.

use std::collections::{BTreeMap, VecDeque};
use std::mem;

/// The requests of all directories. `K` names a directory, `T` is a request.
#[derive(Debug)]
pub(super) struct Directories<K, T> {
    by_name: BTreeMap<K, Directory<T>>,
    /// Those with a request that waits, the next one first.
    rotation: VecDeque<K>,
    queued: usize,
}

#[derive(Debug)]
struct Directory<T> {
    queue: VecDeque<T>,
    /// Files that are being opened, are open, or are being closed.
    open: usize,
}

impl<K: Copy + Ord, T> Directories<K, T> {
    pub(super) fn new() -> Self {
        Self { by_name: BTreeMap::new(), rotation: VecDeque::new(), queued: 0 }
    }

    fn directory(&mut self, name: K) -> &mut Directory<T> {
        self.by_name.entry(name).or_insert_with(|| Directory { queue: VecDeque::new(), open: 0 })
    }

    pub(super) fn push(&mut self, name: K, request: T) {
        self.queued += 1;
        let directory = self.directory(name);
        directory.queue.push_back(request);
        if directory.queue.len() == 1 {
            self.rotation.push_back(name);
        }
    }

    /// One that was taken out and could not be opened yet.
    pub(super) fn push_first(&mut self, name: K, request: T) {
        self.queued += 1;
        let directory = self.directory(name);
        directory.queue.push_front(request);
        if directory.queue.len() == 1 {
            self.rotation.push_front(name);
        }
    }

    /// The next requests to open, all of one directory: `batch` of them or all that wait. `free`: files that can still be
    /// opened. Where `scarce`, fewer are better than none.
    pub(super) fn next(&mut self, free: usize, batch: usize, scarce: bool) -> Option<Vec<T>> {
        for _ in 0..if free == 0 { 0 } else { self.rotation.len() } {
            let name = self.rotation.pop_front()?;
            let directory = self.directory(name);
            let wanted = batch.min(directory.queue.len());
            let count = wanted.min(free.saturating_sub(directory.open));
            let goes = count == wanted || count > 0 && (scarce || directory.open == 0);
            let requests: Vec<T> = if goes { directory.queue.drain(..count).collect() } else { Vec::new() };
            directory.open += requests.len();
            if !directory.queue.is_empty() {
                self.rotation.push_back(name);
            }
            if goes {
                self.queued -= count;
                return Some(requests);
            }
        }
        None
    }

    /// A file of this directory was closed, or not opened.
    pub(super) fn ended(&mut self, name: K) {
        let directory = self.directory(name);
        debug_assert!(directory.open > 0);
        directory.open -= 1;
        if directory.open == 0 && directory.queue.is_empty() {
            self.by_name.remove(&name);
        }
    }

    /// Moves the requests that match to `taken`.
    pub(super) fn sweep(&mut self, gone: impl Fn(&T) -> bool, taken: &mut Vec<T>) {
        for name in mem::take(&mut self.rotation) {
            let directory = self.directory(name);
            for request in mem::take(&mut directory.queue) {
                if gone(&request) { taken.push(request) } else { directory.queue.push_back(request) }
            }
            let (open, left) = (directory.open, directory.queue.len());
            if left > 0 {
                self.rotation.push_back(name);
            } else if open == 0 {
                self.by_name.remove(&name);
            }
        }
        self.queued = self.by_name.values().map(|directory| directory.queue.len()).sum();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queued == 0
    }

    /// How many wait.
    #[cfg(any(debug_assertions, test, feature = "sim"))]
    pub(super) fn len(&self) -> usize {
        self.queued
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_directory_that_does_not_answer_leaves_room_for_others() {
        let mut directories = Directories::new();
        for number in 0..200 {
            directories.push("dead", number);
        }
        let mut free = 64;
        while let Some(batch) = directories.next(free, 8, false) {
            free -= batch.len();
        }
        assert_eq!(free, 32);
        directories.push("alive", 7);
        assert_eq!(directories.next(free, 8, false), Some(vec![7]));
        directories.ended("alive");
        assert_eq!(directories.len(), 200 - 32);
    }

    #[test]
    fn directories_take_turns_and_each_keeps_its_order() {
        let mut directories = Directories::new();
        for number in 0..4 {
            directories.push('a', number);
        }
        directories.push('b', 9);
        let mut order = Vec::new();
        while let Some(batch) = directories.next(100, 2, false) {
            order.push(batch);
        }
        assert_eq!(order, [vec![0, 1], vec![9], vec![2, 3]]);
        directories.push_first('a', 3);
        directories.push('a', 4);
        assert_eq!(directories.next(100, 9, false), Some(vec![3, 4]));
    }

    proptest! {
        /// Whatever happens: no more are open than allowed, and when files end, all requests are opened.
        #[test]
        fn every_request_is_opened(steps in proptest::collection::vec((0u8..5, 0u8..4), 1..300), limit in 1usize..20) {
            let mut directories = Directories::new();
            let (mut waiting, mut open) = (0usize, Vec::new());
            let next = |directories: &mut Directories<u8, u8>, open: &mut Vec<u8>| {
                let batch = directories.next(limit.saturating_sub(open.len()), 3, false).unwrap_or_default();
                open.extend(&batch);
                batch.len()
            };
            for (step, name) in steps {
                match step {
                    0 | 1 => {
                        directories.push(name, name);
                        waiting += 1;
                    }
                    2 => waiting -= next(&mut directories, &mut open),
                    3 if !open.is_empty() => {
                        let name = open.swap_remove(usize::from(name) % open.len());
                        directories.ended(name);
                    }
                    _ => {
                        let mut taken = Vec::new();
                        directories.sweep(|of| *of == name, &mut taken);
                        waiting -= taken.len();
                    }
                }
                prop_assert!(open.len() <= limit);
                prop_assert_eq!(directories.len(), waiting);
            }
            while waiting > 0 {
                waiting -= next(&mut directories, &mut open);
                if let Some(name) = open.pop() {
                    directories.ended(name);
                } else {
                    prop_assert_eq!(waiting, 0, "nothing is open, and none goes");
                }
            }
        }
    }
}
