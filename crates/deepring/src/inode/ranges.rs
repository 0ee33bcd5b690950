//! Which ranges of a file are being written, and how: the locks of blocks in flight.
//!
//! Direct writes work in whole units, so two writers of neighboring bytes touch the same unit. An edge reads, modifies
//! and writes its unit, and holds it alone. A write of whole units shares its range with other writes of its kind:
//! their overlap is unordered anyway. Buffered and direct writes never share a range.
//!
//! A request takes its locks in ascending order, so no two requests can wait for each other.
//!
//! **The line.** One that finds its range taken stands in line for it. A lock that is released is handed to the first
//! in line that it was in the way of, and to those behind that can have theirs beside it. None passes another that it
//! conflicts with, so none starves; and each is woken once, when it has its lock, so any number of writes to one unit
//! costs what they are.

use std::collections::{BTreeMap, VecDeque};

/// A locked range of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RangeLock {
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// An edge: reads the range, modifies it, and writes it back.
    exclusive: bool,
    /// Goes through the page cache.
    buffered: bool,
}

/// The page cache works in folios of up to this size. The kernel cannot drop a dirty folio beside a direct write, and
/// then reports an error to the next sync.
const FOLIO_BYTES_MAX: u64 = 2 << 20;

impl RangeLock {
    /// The lock of one block of a write.
    pub(crate) fn of(start: u64, end: u64, exclusive: bool, buffered: bool) -> Self {
        if buffered {
            let (start, end) = (start - start % FOLIO_BYTES_MAX, end.next_multiple_of(FOLIO_BYTES_MAX));
            return Self { start, end, exclusive, buffered };
        }
        Self { start, end, exclusive, buffered }
    }

    /// What matters for conflicts, as a number below 4.
    fn kind(&self) -> usize {
        usize::from(self.exclusive) | usize::from(self.buffered) << 1
    }

    /// Whether a lock of this kind cannot share a range with it.
    fn excludes(&self, kind: usize) -> bool {
        self.exclusive || kind & 1 != 0 || self.buffered != (kind & 2 != 0)
    }

    fn conflicts(&self, other: &Self) -> bool {
        self.excludes(other.kind()) && self.start < other.end && other.start < self.end
    }
}

/// Locks, found by their range.
#[derive(Debug, Default)]
struct Index {
    /// How many there are of each kind: see [`RangeLock::kind`].
    locks: BTreeMap<(u64, u64), [u32; 4]>,
    kinds: [u32; 4],
    /// None is longer.
    longest: u64,
}

impl Index {
    fn add(&mut self, lock: RangeLock) {
        self.locks.entry((lock.start, lock.end)).or_default()[lock.kind()] += 1;
        self.kinds[lock.kind()] += 1;
        self.longest = self.longest.max(lock.end - lock.start);
    }

    fn remove(&mut self, lock: RangeLock) {
        let Some(counts) = self.locks.get_mut(&(lock.start, lock.end)) else {
            debug_assert!(false, "{lock:?} is not there");
            return;
        };
        debug_assert!(counts[lock.kind()] > 0, "{lock:?} is not there");
        counts[lock.kind()] -= 1;
        self.kinds[lock.kind()] -= 1;
        if *counts == [0; 4] {
            self.locks.remove(&(lock.start, lock.end));
        }
        if self.locks.is_empty() {
            self.longest = 0;
        }
    }

    fn conflicts(&self, lock: &RangeLock) -> bool {
        // Most often there is no lock of a kind that could be in the way.
        let excludes = |counts: &[u32; 4]| (0..4).any(|kind| counts[kind] > 0 && lock.excludes(kind));
        if !excludes(&self.kinds) {
            return false;
        }
        let from = (lock.start.saturating_sub(self.longest), 0);
        self.locks.range(from..(lock.end, 0)).any(|((_, end), counts)| *end > lock.start && excludes(counts))
    }
}

/// A place in the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ticket {
    start: u64,
    /// In the order of arrival.
    number: u64,
}

#[derive(Debug)]
struct Waiting<W> {
    number: u64,
    lock: RangeLock,
    waiter: W,
}

/// The locks that are held, and the line for them. `W` wakes the one that waits.
#[derive(Debug)]
pub(super) struct Ranges<W> {
    held: Index,
    waiting: Index,
    /// Those that wait, by where their range begins, in the order of arrival.
    lines: BTreeMap<u64, VecDeque<Waiting<W>>>,
    /// Locks that were handed to one in line and that it has not come for yet.
    handed: BTreeMap<u64, RangeLock>,
    number: u64,
}

impl<W> Default for Ranges<W> {
    fn default() -> Self {
        Self { held: Index::default(), waiting: Index::default(), lines: BTreeMap::new(), handed: BTreeMap::new(), number: 0 }
    }
}

impl<W> Ranges<W> {
    /// Takes the lock if no other conflicts with it, held or waited for. Else `waiter` stands in line.
    pub(super) fn take(&mut self, lock: RangeLock, waiter: impl FnOnce() -> W) -> Result<(), Ticket> {
        if !self.held.conflicts(&lock) && !self.waiting.conflicts(&lock) {
            self.held.add(lock);
            return Ok(());
        }
        self.number += 1;
        self.waiting.add(lock);
        let number = self.number;
        self.lines.entry(lock.start).or_default().push_back(Waiting { number, lock, waiter: waiter() });
        Err(Ticket { start: lock.start, number })
    }

    /// The lock that was handed to this place, if it was.
    pub(super) fn collect(&mut self, ticket: Ticket) -> Option<RangeLock> {
        self.handed.remove(&ticket.number)
    }

    /// Gives a place up, with its lock if that was handed to it. Returns whom to wake.
    pub(super) fn leave(&mut self, ticket: Ticket) -> Vec<W> {
        if let Some(lock) = self.handed.remove(&ticket.number) {
            return self.release(lock);
        }
        let Some(line) = self.lines.get_mut(&ticket.start) else { return Vec::new() };
        let Ok(index) = line.binary_search_by_key(&ticket.number, |waiting| waiting.number) else { return Vec::new() };
        let Some(Waiting { lock, .. }) = line.remove(index) else { return Vec::new() };
        if line.is_empty() {
            self.lines.remove(&ticket.start);
        }
        self.waiting.remove(lock);
        self.hand_on(lock)
    }

    /// Releases a lock. Returns whom to wake: they have theirs.
    pub(super) fn release(&mut self, lock: RangeLock) -> Vec<W> {
        self.held.remove(lock);
        self.hand_on(lock)
    }

    /// Takes the first in line for exactly this lock, which is held, out of the line, as many as `join` makes something of.
    pub(super) fn join<T>(&mut self, lock: RangeLock, max: usize, join: impl Fn(&W) -> Option<T>) -> Vec<T> {
        let mut joined = Vec::new();
        while joined.len() < max
            && let Some(front) = self.lines.get(&lock.start).and_then(VecDeque::front)
            && front.lock == lock
            && !self.is_behind(front.number, &lock)
            && let Some(item) = join(&front.waiter)
        {
            joined.push(item);
            self.waiting.remove(lock);
            if let Some(line) = self.lines.get_mut(&lock.start) {
                line.pop_front();
                if line.is_empty() {
                    self.lines.remove(&lock.start);
                }
            }
        }
        joined
    }

    /// This lock is in the way no longer: hands locks to the first in line.
    fn hand_on(&mut self, gone: RangeLock) -> Vec<W> {
        let mut woken = Vec::new();
        if self.lines.is_empty() {
            return woken;
        }
        let from = gone.start.saturating_sub(self.waiting.longest);
        // Each line is looked at from its front, the one that came first before the others. Behind a front that must go
        // on waiting, none of its line is looked at until that has gone.
        let mut lines: Vec<u64> = self.lines.range(from..gone.end).map(|(start, _)| *start).collect();
        while let Some((index, start)) = self.first_of(&lines) {
            match self.hand_to_front(start) {
                Some(waiter) => woken.push(waiter),
                None => drop(lines.swap_remove(index)),
            }
        }
        woken
    }

    /// Of these lines, the one whose front came first, and its index.
    fn first_of(&self, lines: &[u64]) -> Option<(usize, u64)> {
        let front = |start: &u64| self.lines.get(start).and_then(VecDeque::front).map(|waiting| waiting.number);
        let fronts = lines.iter().enumerate().filter_map(|(index, start)| Some((front(start)?, index, *start)));
        fronts.min().map(|(_, index, start)| (index, start))
    }

    /// Hands the front of a line its lock, if nothing is in the way of it.
    fn hand_to_front(&mut self, start: u64) -> Option<W> {
        let &Waiting { number, lock, .. } = self.lines.get(&start)?.front()?;
        if self.held.conflicts(&lock) || self.is_behind(number, &lock) {
            return None;
        }
        let line = self.lines.get_mut(&start)?;
        let front = line.pop_front()?;
        if line.is_empty() {
            self.lines.remove(&start);
        }
        self.waiting.remove(lock);
        self.held.add(lock);
        self.handed.insert(number, lock);
        Some(front.waiter)
    }

    /// Whether one that came before waits for a lock that conflicts with this one.
    fn is_behind(&self, number: u64, lock: &RangeLock) -> bool {
        let from = lock.start.saturating_sub(self.waiting.longest);
        let before = |line: &VecDeque<Waiting<W>>| {
            line.iter().take_while(|waiting| waiting.number < number).any(|waiting| waiting.lock.conflicts(lock))
        };
        self.lines.range(from..lock.end).any(|(_, line)| before(line))
    }

    /// What is held or waited for, if anything is.
    #[cfg(any(feature = "sim", test))]
    pub(super) fn left(&self) -> Option<String> {
        let (held, waiting) = (&self.held.locks, &self.waiting.locks);
        (!held.is_empty() || !waiting.is_empty()).then(|| format!("held {held:?}, waited for {waiting:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn take(ranges: &mut Ranges<u32>, lock: RangeLock) -> bool {
        match ranges.take(lock, || 0) {
            Ok(()) => true,
            Err(ticket) => {
                assert!(ranges.leave(ticket).is_empty());
                false
            }
        }
    }

    #[test]
    fn an_edge_holds_its_unit_alone() {
        let mut ranges = Ranges::default();
        let edge = RangeLock::of(4096, 8192, true, false);
        assert!(take(&mut ranges, edge));
        assert!(!take(&mut ranges, RangeLock::of(0, 8192, false, false)));
        assert!(!take(&mut ranges, edge));
        assert!(take(&mut ranges, RangeLock::of(8192, 12288, true, false)));
        assert!(ranges.release(edge).is_empty());
        assert!(take(&mut ranges, RangeLock::of(0, 8192, false, false)));
    }

    #[test]
    fn writes_of_whole_units_share_their_range() {
        let mut ranges = Ranges::default();
        assert!(take(&mut ranges, RangeLock::of(0, 8192, false, false)));
        assert!(take(&mut ranges, RangeLock::of(4096, 12288, false, false)));
    }

    #[test]
    fn buffered_and_direct_writes_keep_a_folio_apart() {
        let mut ranges = Ranges::default();
        assert!(take(&mut ranges, RangeLock::of(FOLIO_BYTES_MAX + 1, FOLIO_BYTES_MAX + 2, false, true)));
        assert!(!take(&mut ranges, RangeLock::of(2 * FOLIO_BYTES_MAX - 4096, 2 * FOLIO_BYTES_MAX, false, false)));
        assert!(take(&mut ranges, RangeLock::of(2 * FOLIO_BYTES_MAX, 3 * FOLIO_BYTES_MAX, false, false)));
    }

    #[test]
    fn a_released_lock_wakes_only_the_first_in_line_and_it_has_the_lock() {
        let mut ranges = Ranges::default();
        let edge = RangeLock::of(0, 4096, true, false);
        assert_eq!(ranges.take(edge, || 0), Ok(()));
        let tickets: Vec<_> = (1..4).map(|waiter| ranges.take(edge, || waiter).expect_err("it is taken")).collect();
        assert_eq!(ranges.collect(tickets[0]), None);
        assert_eq!(ranges.release(edge), [1]);
        assert_eq!(ranges.collect(tickets[0]), Some(edge));
        assert_eq!(ranges.leave(tickets[1]), [0u32; 0], "one that leaves wakes none while the lock is held");
        assert_eq!(ranges.release(edge), [3]);
        assert_eq!(ranges.leave(tickets[2]), [0u32; 0]);
        assert_eq!(ranges.left(), None);
    }

    #[test]
    fn none_passes_an_earlier_one_that_it_conflicts_with() {
        let mut ranges = Ranges::default();
        let [whole, edge] = [RangeLock::of(0, 4096, false, false), RangeLock::of(0, 4096, true, false)];
        assert_eq!(ranges.take(whole, || 0), Ok(()));
        let first = ranges.take(edge, || 1).expect_err("it is shared");
        let second = ranges.take(whole, || 2).expect_err("though it could share, an edge waits");
        let third = ranges.take(whole, || 3).expect_err("as the second");
        assert_eq!(ranges.release(whole), [1]);
        assert_eq!(ranges.collect(first), Some(edge));
        assert_eq!(ranges.release(edge), [2, 3], "both share it");
        assert_eq!((ranges.collect(second), ranges.collect(third)), (Some(whole), Some(whole)));
    }

    #[test]
    fn those_that_wait_for_the_same_lock_are_joined_up_to_the_first_that_does_not() {
        let mut ranges = Ranges::default();
        let [edge, wider] = [RangeLock::of(0, 4096, true, false), RangeLock::of(0, 8192, false, false)];
        assert_eq!(ranges.take(edge, || 0), Ok(()));
        let tickets = [(edge, 1), (edge, 2), (wider, 3), (edge, 4)].map(|(lock, waiter)| ranges.take(lock, || waiter).expect_err("taken"));
        assert_eq!(ranges.join(edge, 9, |waiter| Some(*waiter)), [1, 2]);
        assert_eq!(ranges.leave(tickets[0]), [0u32; 0], "its place is gone");
        assert_eq!(ranges.release(edge), [3]);
        assert_eq!(ranges.release(wider), [4]);
        assert_eq!(ranges.release(edge), [0u32; 0]);
        assert_eq!(ranges.left(), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        /// Whatever is taken, released and given up: no two locks conflict, none passes an earlier one that it conflicts
        /// with, whoever can have its lock has been woken, and in the end everyone has had it.
        #[test]
        fn the_line_is_just_and_forgets_none(
            steps in proptest::collection::vec((0u8..6, 0u64..12, 1u64..5, any::<bool>(), any::<bool>()), 1..120),
        ) {
            let mut ranges = Ranges::default();
            let (mut held, mut line) = (Vec::<RangeLock>::new(), Vec::<(u32, RangeLock, Ticket)>::new());
            let mut next = 0;
            let wake = |ranges: &mut Ranges<u32>, woken: Vec<u32>, held: &mut Vec<_>, line: &mut Vec<(u32, RangeLock, Ticket)>| {
                for waiter in woken {
                    let index = line.iter().position(|(other, ..)| *other == waiter).expect("one in line");
                    let (_, lock, ticket) = line.remove(index);
                    assert!(!line[..index].iter().any(|(_, earlier, _)| earlier.conflicts(&lock)), "passed an earlier one");
                    assert_eq!(ranges.collect(ticket), Some(lock));
                    held.push(lock);
                }
            };
            for (step, start, len, exclusive, buffered) in steps {
                match step {
                    0..3 => {
                        // Not by `of`, which would make all buffered ones the same range.
                        let lock = RangeLock { start, end: start + len, exclusive, buffered };
                        next += 1;
                        match ranges.take(lock, || next) {
                            Ok(()) => held.push(lock),
                            Err(ticket) => line.push((next, lock, ticket)),
                        }
                    }
                    3 if !line.is_empty() => {
                        let (_, _, ticket) = line.remove(start as usize % line.len());
                        let woken = ranges.leave(ticket);
                        wake(&mut ranges, woken, &mut held, &mut line);
                    }
                    _ if held.is_empty() => {}
                    _ => {
                        let lock = held.swap_remove(start as usize % held.len());
                        let woken = ranges.release(lock);
                        wake(&mut ranges, woken, &mut held, &mut line);
                    }
                }
                for (index, lock) in held.iter().enumerate() {
                    prop_assert!(!held[index + 1..].iter().any(|other| other.conflicts(lock)), "two locks that conflict are held");
                }
                let first = line.first().map(|(_, lock, _)| lock);
                prop_assert!(first.is_none_or(|first| held.iter().any(|lock| lock.conflicts(first))), "the first waits for nothing");
            }
            while let Some(lock) = held.pop() {
                let woken = ranges.release(lock);
                wake(&mut ranges, woken, &mut held, &mut line);
            }
            prop_assert!(line.is_empty(), "{} were never woken", line.len());
            prop_assert_eq!(ranges.left(), None);
        }
    }
}
