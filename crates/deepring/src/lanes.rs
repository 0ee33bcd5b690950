//! Work in lanes: one lane for each thing that can get stuck, so that what is stuck holds up nothing else. Pure.
//!
//! Of each lane a limited number of items is at work at once, in the order of arrival. Lanes with something to do take
//! turns.

use std::collections::{BTreeMap, VecDeque};

/// Idle lanes are dropped only if there are more than these, so that one that is used again keeps its allocation.
const LANES_KEPT: usize = 16;

/// The work of all lanes.
#[derive(Debug)]
pub(crate) struct Lanes<K, T, Limit = fn(K) -> usize> {
    all: BTreeMap<K, Lane<T>>,
    /// The lanes of which an item can start, the next one first.
    rotation: VecDeque<K>,
    /// Items of a lane that can be at work at once.
    limit: Limit,
    queued: usize,
    startable: usize,
}

#[derive(Debug)]
struct Lane<T> {
    queue: VecDeque<T>,
    /// At work, and counted.
    busy: usize,
    /// At work for so long that they no longer count. Each adds a place, so that a lane full of them goes on ever faster.
    excused: usize,
}

impl<T> Lane<T> {
    fn startable(&self, limit: usize) -> usize {
        self.queue.len().min((limit + self.excused).saturating_sub(self.busy))
    }
}

impl<K: Copy + Ord, T, Limit: Fn(K) -> usize> Lanes<K, T, Limit> {
    /// No work, and lanes of each of which `limit` items can be at work at once.
    pub(crate) fn new(limit: Limit) -> Self {
        Self { all: BTreeMap::new(), rotation: VecDeque::new(), limit, queued: 0, startable: 0 }
    }

    /// Changes a lane, and keeps the books about it.
    fn change<R>(&mut self, key: K, change: impl FnOnce(&mut Lane<T>) -> R) -> R {
        let limit = (self.limit)(key);
        let lane = self.all.entry(key).or_insert_with(|| Lane { queue: VecDeque::new(), busy: 0, excused: 0 });
        let before = lane.startable(limit);
        let result = change(lane);
        let after = lane.startable(limit);
        self.startable = self.startable + after - before;
        if before == 0 && after > 0 {
            self.rotation.push_back(key);
        } else if before > 0 && after == 0 {
            self.rotation.retain(|other| *other != key);
        }
        if lane.queue.is_empty() && lane.busy == 0 && lane.excused == 0 && self.all.len() > LANES_KEPT {
            self.all.remove(&key);
        }
        result
    }

    /// Adds an item at the end of its lane.
    pub(crate) fn push(&mut self, key: K, item: T) {
        self.queued += 1;
        self.change(key, |lane| lane.queue.push_back(item));
    }

    /// The next item that can start, which is at work from now on; [`Lanes::done`] must follow.
    pub(crate) fn pop(&mut self) -> Option<(K, T)> {
        let key = *self.rotation.front()?;
        let item = self.change(key, |lane| {
            lane.busy += 1;
            lane.queue.pop_front()
        })?;
        self.queued -= 1;
        // It can have left the rotation.
        if self.rotation.front() == Some(&key) {
            self.rotation.rotate_left(1);
        }
        Some((key, item))
    }

    /// An item that is at work no longer counts, because it takes long.
    pub(crate) fn excuse(&mut self, key: K) {
        self.change(key, |lane| {
            lane.busy -= 1;
            lane.excused += 1;
        });
    }

    /// An item is done. `excused`: it did not count any more.
    pub(crate) fn done(&mut self, key: K, excused: bool) {
        self.change(key, |lane| if excused { lane.excused -= 1 } else { lane.busy -= 1 });
    }

    /// How many items can start now.
    pub(crate) fn startable(&self) -> usize {
        self.startable
    }

    /// How many items wait.
    pub(crate) fn queued(&self) -> usize {
        self.queued
    }

    /// Takes out one that waits, whether or not it can start.
    pub(crate) fn take_any(&mut self) -> Option<(K, T)> {
        let key = self.all.iter().find(|(_, lane)| !lane.queue.is_empty()).map(|(key, _)| *key)?;
        let item = self.change(key, |lane| lane.queue.pop_back());
        self.queued -= usize::from(item.is_some());
        item.map(|item| (key, item))
    }

    /// Drops all that waits.
    pub(crate) fn clear(&mut self) {
        while self.take_any().is_some() {}
    }

    /// How many more items of a lane could be at work at once.
    pub(crate) fn room(&self, key: K) -> usize {
        let limit = (self.limit)(key);
        self.all.get(&key).map_or(limit, |lane| (limit + lane.excused).saturating_sub(lane.busy + lane.queue.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_lane_that_is_stuck_holds_up_no_other() {
        let mut lanes = Lanes::new(|_| 2);
        for item in 0..100 {
            lanes.push("stuck", item);
        }
        assert_eq!([lanes.pop(), lanes.pop(), lanes.pop()], [Some(("stuck", 0)), Some(("stuck", 1)), None]);
        lanes.push("healthy", 7);
        assert_eq!(lanes.pop(), Some(("healthy", 7)));
        assert_eq!((lanes.startable(), lanes.queued()), (0, 98));
    }

    #[test]
    fn lanes_take_turns() {
        let mut lanes = Lanes::new(|_| 9);
        for item in 0..3 {
            lanes.push('a', item);
        }
        lanes.push('b', 9);
        let order: Vec<_> = std::iter::from_fn(|| lanes.pop()).map(|(key, _)| key).collect();
        assert_eq!(order, ['a', 'b', 'a', 'a']);
    }

    #[test]
    fn one_that_takes_long_gives_its_place_away_and_adds_another() {
        let mut lanes = Lanes::new(|()| 1);
        for item in 0..4 {
            lanes.push((), item);
        }
        assert_eq!((lanes.pop(), lanes.pop()), (Some(((), 0)), None));
        lanes.excuse(());
        assert_eq!((lanes.pop(), lanes.pop(), lanes.pop()), (Some(((), 1)), Some(((), 2)), None));
        lanes.done((), true);
        lanes.done((), false);
        assert_eq!(lanes.pop(), None, "one is at work, and there is one place again");
        lanes.done((), false);
        assert_eq!(lanes.pop(), Some(((), 3)));
    }

    proptest! {
        /// Whatever happens: no lane has more at work than its limit, a lane keeps its order, and nothing that can start
        /// is forgotten.
        #[test]
        fn no_item_is_lost_or_passed_by_one_of_its_lane(steps in proptest::collection::vec((0u8..4, 0u8..3), 1..300)) {
            const LIMIT: usize = 2;
            let mut lanes = Lanes::new(|_| LIMIT);
            let (mut next, mut at_work, mut last) = (0u32, Vec::<(u8, bool)>::new(), BTreeMap::new());
            let mut waiting = BTreeMap::<u8, usize>::new();
            for (step, key) in steps {
                match step {
                    0 | 1 => {
                        lanes.push(key, next);
                        next += 1;
                        *waiting.entry(key).or_default() += 1;
                    }
                    2 => if let Some((key, item)) = lanes.pop() {
                        prop_assert!(last.insert(key, item).is_none_or(|before| before < item));
                        at_work.push((key, false));
                        *waiting.entry(key).or_default() -= 1;
                    },
                    _ if at_work.is_empty() => {}
                    _ => {
                        let index = usize::from(key) % at_work.len();
                        let (lane, excused) = at_work[index];
                        if excused || key == 0 {
                            at_work.swap_remove(index);
                            lanes.done(lane, excused);
                        } else {
                            at_work[index].1 = true;
                            lanes.excuse(lane);
                        }
                    }
                }
                let startable: usize = waiting.iter().map(|(key, queued)| {
                    let count = |excused| at_work.iter().filter(|other| **other == (*key, excused)).count();
                    (*queued).min((LIMIT + count(true)).saturating_sub(count(false)))
                }).sum();
                prop_assert_eq!(lanes.startable(), startable);
                prop_assert_eq!(lanes.queued(), waiting.values().sum::<usize>());
            }
            while lanes.startable() > 0 {
                prop_assert!(lanes.pop().is_some());
            }
        }
    }
}
