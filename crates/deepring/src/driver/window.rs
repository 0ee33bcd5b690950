//! The share of the device that the requests of one handle have together, and their line for it. Pure.
//!
//! A request whose handle has no room stands in line, in the order of arrival. When there is room again, the first in
//! line is woken, and only that one: it stays the first until it has issued a block. Requests that arrive later queue
//! behind it.

use crate::handle::{HandleLimits, Refill};
use crate::slots::Key;
use std::collections::VecDeque;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(super) enum Room {
    Free,
    /// The request stands in line now.
    Queued,
}

#[derive(Debug)]
pub(super) struct Window {
    limits: HandleLimits,
    in_flight: u32,
    /// With [`Refill::WhenEmpty`]: the blocks that can still be issued before the window must be empty.
    left: u32,
    line: VecDeque<Key>,
}

impl Window {
    pub(super) fn new(limits: HandleLimits) -> Self {
        Self { limits, in_flight: 0, left: 0, line: VecDeque::new() }
    }

    fn depth(&self) -> u32 {
        if self.limits.queue_depth == 0 { u32::MAX } else { self.limits.queue_depth }
    }

    fn has_room(&self) -> bool {
        match self.limits.refill {
            Refill::Sliding => self.in_flight < self.depth(),
            Refill::WhenEmpty => self.in_flight == 0 || self.left > 0,
        }
    }

    /// Whether this request can issue a block now. If it does, [`Window::take`] must follow.
    pub(super) fn room_for(&mut self, key: Key) -> Room {
        let is_first = self.line.front() == Some(&key);
        if self.has_room() && (is_first || self.line.is_empty()) {
            return Room::Free;
        }
        if !is_first {
            self.line.push_back(key);
        }
        Room::Queued
    }

    /// A block of this request, which has room, is issued.
    pub(super) fn take(&mut self, key: Key) {
        debug_assert!(self.has_room());
        if self.line.front() == Some(&key) {
            self.line.pop_front();
        }
        if self.in_flight == 0 {
            self.left = self.depth();
        }
        self.in_flight += 1;
        self.left = self.left.saturating_sub(1);
    }

    /// A block is done.
    pub(super) fn give(&mut self) {
        debug_assert!(self.in_flight > 0);
        self.in_flight -= 1;
    }

    /// A request that is in line leaves it.
    pub(super) fn leave(&mut self, key: Key) {
        self.line.retain(|other| *other != key);
    }

    /// A request that was woken does not issue a block after all: the next in line is the first.
    pub(super) fn pass(&mut self, key: Key) {
        if self.line.front() == Some(&key) {
            self.line.pop_front();
        }
    }

    /// As [`Window::leave`], for all requests that match.
    pub(super) fn sweep(&mut self, gone: impl Fn(Key) -> bool) {
        self.line.retain(|key| !gone(*key));
    }

    /// The request to wake, if there is room for one.
    pub(super) fn first(&self) -> Option<Key> {
        if self.has_room() { self.line.front().copied() } else { None }
    }

    /// Whether nothing is in flight or in line. An idle window has no state worth keeping.
    pub(super) fn is_idle(&self) -> bool {
        self.in_flight == 0 && self.line.is_empty()
    }

    #[cfg(any(debug_assertions, feature = "sim"))]
    pub(super) fn in_flight(&self) -> u32 {
        self.in_flight
    }

    #[cfg(any(debug_assertions, feature = "sim"))]
    pub(super) fn line(&self) -> impl Iterator<Item = Key> {
        self.line.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slots::Slots;

    fn window(refill: Refill) -> Window {
        Window::new(HandleLimits { queue_depth: 3, refill, ..HandleLimits::default() })
    }

    /// Issues as many blocks of one request as there is room for.
    fn take_all(window: &mut Window, key: Key) -> u32 {
        let mut taken = 0;
        while window.room_for(key) == Room::Free {
            window.take(key);
            taken += 1;
        }
        taken
    }

    #[test]
    fn a_sliding_window_refills_as_blocks_complete() {
        let key = Slots::new().insert(());
        let mut window = window(Refill::Sliding);
        assert_eq!(take_all(&mut window, key), 3);
        window.give();
        assert_eq!(take_all(&mut window, key), 1);
    }

    #[test]
    fn a_window_that_refills_when_empty_waits_for_all_its_blocks() {
        let key = Slots::new().insert(());
        let mut window = window(Refill::WhenEmpty);
        assert_eq!(take_all(&mut window, key), 3);
        window.give();
        window.give();
        assert_eq!(window.room_for(key), Room::Queued);
        assert_eq!(window.first(), None);
        window.give();
        assert_eq!(window.first(), Some(key));
        assert_eq!(take_all(&mut window, key), 3);
    }

    #[test]
    fn the_first_in_line_stays_first_until_it_has_issued_a_block() {
        let mut slots = Slots::new();
        let [busy, first, second] = std::array::from_fn(|_| slots.insert(()));
        let mut window = window(Refill::Sliding);
        assert_eq!(take_all(&mut window, busy), 3);
        window.leave(busy);
        assert_eq!((window.room_for(first), window.room_for(second)), (Room::Queued, Room::Queued));
        window.give();
        assert_eq!(window.first(), Some(first));
        assert_eq!(window.room_for(busy), Room::Queued, "a later one queues behind it, though there is room");
        assert_eq!(window.room_for(first), Room::Free);
        assert_eq!(window.first(), Some(first));
        window.take(first);
        assert_eq!(window.first(), None);
        window.give();
        assert_eq!(window.first(), Some(second));
    }

    #[test]
    fn one_that_leaves_makes_way_for_the_next() {
        let mut slots = Slots::new();
        let [busy, first, second] = std::array::from_fn(|_| slots.insert(()));
        let mut window = window(Refill::Sliding);
        assert_eq!(take_all(&mut window, busy), 3);
        window.leave(busy);
        assert_eq!((window.room_for(first), window.room_for(second)), (Room::Queued, Room::Queued));
        window.leave(first);
        window.give();
        assert_eq!(window.first(), Some(second));
        window.sweep(|key| key == second);
        window.give();
        window.give();
        assert!(window.is_idle());
    }
}
