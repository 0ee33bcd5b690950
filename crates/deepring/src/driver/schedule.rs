//! Which request of a device goes next. Pure: no system call, no clock, no lock.
//!
//! A device has one line per [`Class`]. A line holds the requests that have begun and can go on, and behind them those
//! that have not begun, of each file in turn. The two classes take turns, block by block, so that a small request passes a large one. Large
//! requests share their turns in quanta.
//!
//! The driver works in rounds. It asks for the next request, tries to issue its next block, and reports the result:
//!
//! | result | the request | the turn |
//! |---|---|---|
//! | `Issued`, quantum not used up | stays at the front of its line | passes to the other class |
//! | `Issued`, quantum used up | goes to the back of its line | passes to the other class |
//! | `Left` (its last block was issued, it parked, or it ended) | leaves the line | passes to the other class |
//! | `Full` (the device takes no more of it) | stays at the front of its line | is kept |
//!
//! The turn passes only when something was issued or left. Otherwise a class that found no room would lose its turn and
//! could starve. While a large request waits for room, small ones that fit go in its place, but at most
//! [`PASSES_MAX`] of them: then the device drains until the large one fits.

use super::flows::Flows;
use crate::slots::Key;
use std::collections::VecDeque;

/// A large request keeps its turn for this many bytes: long enough for sequential transfers, short enough to share the
/// device.
const QUANTUM_BYTES: u64 = 16 << 20;

/// Small requests that can pass a large one that waits for room: as many as a device usually has in flight.
const PASSES_MAX: u32 = 128;

/// How large a request is, compared with its blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// At most one block long.
    Small,
    Large,
}

impl Class {
    fn other(self) -> Self {
        if self == Self::Small { Self::Large } else { Self::Small }
    }
}

/// The request whose turn it is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next<F> {
    Begun(Class, Key),
    /// It begins now.
    Fresh(Class, F),
}

/// The result of an attempt to issue a request's next block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Issued {
    /// One block of this many bytes; the request has more.
    More(u64),
    /// It is in no line any more: all its blocks are issued, it waits for something else, or it has ended.
    Left,
    /// The device takes no more of it now.
    Full,
}

/// One pass over a device: which classes found it full.
#[derive(Debug, Default)]
pub(super) struct Round {
    full: [bool; 2],
}

/// The lines of one device. `F` is a request that has not begun.
#[derive(Debug)]
pub(super) struct Schedule<F> {
    lines: [Line<F>; 2],
    /// Whose turn it is when both have work.
    turn: Class,
    /// Small requests that passed a large one since that found no room.
    passes: u32,
}

#[derive(Debug)]
struct Line<F> {
    begun: VecDeque<Key>,
    fresh: Flows<F>,
    /// Bytes of the quantum already used by the request at the front.
    spent: u64,
}

impl<F> Line<F> {
    fn has_next(&self, can_begin: bool) -> bool {
        !self.begun.is_empty() || can_begin && self.fresh.has_next()
    }
}

impl<F> Schedule<F> {
    pub(super) fn new() -> Self {
        let lines = [(), ()].map(|()| Line { begun: VecDeque::new(), fresh: Flows::default(), spent: 0 });
        Self { lines, turn: Class::Small, passes: 0 }
    }

    fn line(&mut self, class: Class) -> &mut Line<F> {
        &mut self.lines[class as usize]
    }

    /// Adds a request that has not begun.
    pub(super) fn enqueue(&mut self, class: Class, file: u64, fresh: F) {
        self.line(class).fresh.push(file, fresh);
    }

    /// Those that have not begun, of this class.
    pub(super) fn flows(&mut self, class: Class) -> &mut Flows<F> {
        &mut self.line(class).fresh
    }

    /// Adds a request that has begun and can go on.
    pub(super) fn ready(&mut self, class: Class, key: Key) {
        self.line(class).begun.push_back(key);
    }

    /// Takes a request that has begun out of its line.
    pub(super) fn remove(&mut self, class: Class, key: Key) {
        self.line(class).begun.retain(|other| *other != key);
    }

    /// Takes all requests out of their lines that match: those that have begun are dropped from here, the others
    /// are moved to `taken`.
    pub(super) fn sweep(&mut self, begun: impl Fn(Key) -> bool, fresh: impl Fn(&F) -> bool, taken: &mut Vec<F>) {
        for line in &mut self.lines {
            line.begun.retain(|key| !begun(*key));
            line.fresh.sweep(&fresh, taken);
        }
    }

    /// The request that goes next in this round; `None` ends the round. It is out of its line until [`Schedule::report`].
    pub(super) fn next(&mut self, round: &Round, can_begin: bool) -> Option<Next<F>> {
        let [small, large] = [Class::Small, Class::Large].map(|class| self.line(class).has_next(can_begin));
        let first = match (small, large) {
            (false, false) => return None,
            (true, true) => self.turn,
            (false, true) => Class::Large,
            (true, false) => Class::Small,
        };
        // Only small requests go in the place of others: where they do not fit, large ones do not either.
        let class = [first, Class::Small].into_iter().find(|&class| {
            let passes = class != first && self.passes >= PASSES_MAX;
            !passes && !round.full[class as usize] && self.line(class).has_next(can_begin)
        })?;
        let line = self.line(class);
        match line.begun.pop_front() {
            Some(key) => Some(Next::Begun(class, key)),
            None => line.fresh.pop().map(|fresh| Next::Fresh(class, fresh)),
        }
    }

    /// The result for the request that [`Schedule::next`] named, by the key that it has by now.
    pub(super) fn report(&mut self, round: &mut Round, class: Class, key: Key, issued: Issued) {
        let line = self.line(class);
        match issued {
            Issued::More(bytes) => {
                line.spent += bytes;
                if line.spent >= QUANTUM_BYTES {
                    line.spent = 0;
                    line.begun.push_back(key);
                } else {
                    line.begun.push_front(key);
                }
            }
            Issued::Left => line.spent = 0,
            Issued::Full => {
                line.begun.push_front(key);
                round.full[class as usize] = true;
                return;
            }
        }
        let in_place_of_large = class == Class::Small && self.turn == Class::Large && round.full[Class::Large as usize];
        if in_place_of_large {
            self.passes += 1;
        } else {
            self.turn = class.other();
            self.passes = 0;
        }
    }

    /// Requests of all files that wait for a range, and for room.
    #[cfg(any(debug_assertions, feature = "sim"))]
    pub(super) fn held(&self) -> [(u32, u32); 2] {
        [self.lines[0].fresh.held(), self.lines[1].fresh.held()]
    }

    /// The requests in line that have begun.
    #[cfg(any(debug_assertions, feature = "sim"))]
    pub(super) fn begun(&self) -> impl Iterator<Item = Key> {
        self.lines.iter().flat_map(|line| line.begun.iter().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::{Budget, Cost};
    use crate::slots::Slots;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn keys<const N: usize>() -> [Key; N] {
        let mut slots = Slots::new();
        std::array::from_fn(|_| slots.insert(()))
    }

    fn next(schedule: &mut Schedule<u32>) -> Option<Next<u32>> {
        schedule.next(&Round::default(), true)
    }

    // ---- the rows of the table ----

    #[test]
    fn a_request_with_quantum_left_stays_in_front_and_the_turn_passes() {
        let [first, second, small] = keys();
        let mut schedule = Schedule::<u32>::new();
        schedule.ready(Class::Large, first);
        schedule.ready(Class::Large, second);
        schedule.ready(Class::Small, small);
        schedule.turn = Class::Large;
        let mut round = Round::default();
        assert_eq!(next(&mut schedule), Some(Next::Begun(Class::Large, first)));
        schedule.report(&mut round, Class::Large, first, Issued::More(QUANTUM_BYTES - 1));
        assert_eq!(next(&mut schedule), Some(Next::Begun(Class::Small, small)));
        schedule.report(&mut round, Class::Small, small, Issued::Left);
        assert_eq!(next(&mut schedule), Some(Next::Begun(Class::Large, first)));
    }

    #[test]
    fn a_request_that_has_used_up_its_quantum_goes_to_the_back() {
        let [first, second] = keys();
        let mut schedule = Schedule::<u32>::new();
        schedule.ready(Class::Large, first);
        schedule.ready(Class::Large, second);
        assert_eq!(next(&mut schedule), Some(Next::Begun(Class::Large, first)));
        schedule.report(&mut Round::default(), Class::Large, first, Issued::More(QUANTUM_BYTES));
        assert_eq!(next(&mut schedule), Some(Next::Begun(Class::Large, second)));
        schedule.report(&mut Round::default(), Class::Large, second, Issued::More(1));
        assert_eq!(next(&mut schedule), Some(Next::Begun(Class::Large, second)));
    }

    #[test]
    fn a_request_that_left_is_gone_and_the_next_has_a_whole_quantum() {
        let [first, second, third] = keys();
        let mut schedule = Schedule::<u32>::new();
        for key in [first, second, third] {
            schedule.ready(Class::Large, key);
        }
        let mut round = Round::default();
        assert_eq!(next(&mut schedule), Some(Next::Begun(Class::Large, first)));
        schedule.report(&mut round, Class::Large, first, Issued::More(QUANTUM_BYTES - 1));
        assert_eq!(next(&mut schedule), Some(Next::Begun(Class::Large, first)));
        schedule.report(&mut round, Class::Large, first, Issued::Left);
        assert_eq!(next(&mut schedule), Some(Next::Begun(Class::Large, second)));
        schedule.report(&mut round, Class::Large, second, Issued::More(1));
        assert_eq!(next(&mut schedule), Some(Next::Begun(Class::Large, second)));
    }

    #[test]
    fn a_class_that_found_the_device_full_keeps_its_turn() {
        let [large, small] = keys();
        let mut schedule = Schedule::<u32>::new();
        schedule.ready(Class::Large, large);
        schedule.ready(Class::Small, small);
        schedule.turn = Class::Large;
        let mut round = Round::default();
        assert_eq!(schedule.next(&round, true), Some(Next::Begun(Class::Large, large)));
        schedule.report(&mut round, Class::Large, large, Issued::Full);
        assert_eq!(schedule.next(&round, true), Some(Next::Begun(Class::Small, small)), "it can fit where a large one does not");
        schedule.report(&mut round, Class::Small, small, Issued::More(1));
        assert_eq!(next(&mut schedule), Some(Next::Begun(Class::Large, large)));
    }

    #[test]
    fn no_large_request_goes_where_a_small_one_found_the_device_full() {
        let [large, small] = keys();
        let mut schedule = Schedule::<u32>::new();
        schedule.ready(Class::Large, large);
        schedule.ready(Class::Small, small);
        let mut round = Round::default();
        assert_eq!(schedule.next(&round, true), Some(Next::Begun(Class::Small, small)));
        schedule.report(&mut round, Class::Small, small, Issued::Full);
        assert_eq!(schedule.next(&round, true), None);
    }

    #[test]
    fn a_large_request_that_waits_for_room_is_passed_only_so_often() {
        let [large, small] = keys();
        let mut schedule = Schedule::<u32>::new();
        schedule.ready(Class::Large, large);
        schedule.ready(Class::Small, small);
        schedule.turn = Class::Large;
        let mut passes = 0;
        loop {
            let mut round = Round::default();
            assert_eq!(schedule.next(&round, true), Some(Next::Begun(Class::Large, large)));
            schedule.report(&mut round, Class::Large, large, Issued::Full);
            let Some(Next::Begun(Class::Small, key)) = schedule.next(&round, true) else { break };
            schedule.report(&mut round, Class::Small, key, Issued::More(1));
            passes += 1;
        }
        assert_eq!(passes, PASSES_MAX);
    }

    #[test]
    fn begun_requests_go_on_where_no_further_one_can_begin() {
        let [begun] = keys();
        let mut schedule = Schedule::new();
        schedule.enqueue(Class::Large, 1, 7);
        schedule.ready(Class::Large, begun);
        assert_eq!(schedule.next(&Round::default(), false), Some(Next::Begun(Class::Large, begun)));
        schedule.report(&mut Round::default(), Class::Large, begun, Issued::Left);
        assert_eq!(schedule.next(&Round::default(), false), None);
        assert_eq!(next(&mut schedule), Some(Next::Fresh(Class::Large, 7)));
    }

    // ---- properties, against a simulated device ----

    const BLOCK: u64 = 4 << 20;
    const BUDGET: u64 = 16 << 20;

    struct Job {
        class: Class,
        /// Bytes not issued yet.
        left: u64,
    }

    /// A schedule with a budget, and blocks that complete one by one, the oldest or the newest first.
    struct Device {
        schedule: Schedule<u32>,
        slots: Slots<Job>,
        budget: Budget,
        in_flight: Vec<Cost>,
        newest_first: bool,
        /// Blocks issued, in order.
        issued: Vec<(Key, Class, u64)>,
    }

    impl Device {
        fn new(newest_first: bool) -> Self {
            let budget = Budget::new(64, BUDGET);
            Self { schedule: Schedule::new(), slots: Slots::new(), budget, in_flight: Vec::new(), newest_first, issued: Vec::new() }
        }

        fn add(&mut self, class: Class, bytes: u64) -> Key {
            let key = self.slots.insert(Job { class, left: bytes });
            self.schedule.ready(class, key);
            key
        }

        fn round(&mut self) {
            let mut round = Round::default();
            while let Some(Next::Begun(class, key)) = self.schedule.next(&round, true) {
                let Some(job) = self.slots.get_mut(key) else { panic!("a request in line exists") };
                let bytes = job.left.min(BLOCK);
                let cost = Cost { requests: bytes.div_ceil(1 << 20) as u32, bytes };
                let issued = if self.budget.take(cost) {
                    self.in_flight.push(cost);
                    self.issued.push((key, class, bytes));
                    job.left -= bytes;
                    if job.left == 0 { Issued::Left } else { Issued::More(bytes) }
                } else {
                    Issued::Full
                };
                if issued == Issued::Left {
                    self.slots.remove(key);
                }
                self.schedule.report(&mut round, class, key, issued);
            }
        }

        /// One block completes; everything that can go is issued.
        fn step(&mut self) {
            if !self.in_flight.is_empty() {
                let index = if self.newest_first { self.in_flight.len() - 1 } else { 0 };
                let cost = self.in_flight.remove(index);
                self.budget.give(cost);
            }
            self.round();
        }

        fn jobs_of(&self, class: Class) -> usize {
            self.slots.keys().into_iter().filter(|key| self.slots.get(*key).is_some_and(|job| job.class == class)).count()
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// One class arrives in an endless stream that keeps the device busy. In whichever order its blocks complete,
        /// the requests of the other class are all served.
        #[test]
        fn no_class_starves(
            sizes in proptest::collection::vec(1u64..4, 1..12),
            newest_first in any::<bool>(),
            starving in prop_oneof![Just(Class::Small), Just(Class::Large)],
        ) {
            let (bytes, stream_bytes) = if starving == Class::Large { (BLOCK, 4096) } else { (4096, BLOCK) };
            let mut device = Device::new(newest_first);
            for _ in 0..200 {
                device.add(starving.other(), stream_bytes);
            }
            for size in sizes {
                device.add(starving, size * bytes);
            }
            let steps = (0..20_000).find(|_| {
                device.add(starving.other(), stream_bytes);
                device.step();
                device.jobs_of(starving) == 0
            });
            prop_assert!(steps.is_some(), "{} requests were never served", device.jobs_of(starving));
        }

        /// With work in both lines and room for it, the classes take turns block by block.
        #[test]
        fn the_classes_take_turns(large in 1usize..5, small in 10usize..60) {
            let mut device = Device::new(false);
            for _ in 0..large { device.add(Class::Large, 1 << 30); }
            for _ in 0..small { device.add(Class::Small, 4096); }
            for _ in 0..small { device.step(); }
            let blocks = |class| device.issued.iter().filter(|(_, of, _)| *of == class).count();
            let turns = device.issued.windows(2).filter(|pair| pair[0].1 != pair[1].1).count();
            prop_assert!(blocks(Class::Small) <= small);
            prop_assert!(turns > 0);
            // A small request passes a large one at once: none waits for more than what is in flight.
            let first_small = device.issued.iter().position(|(_, class, _)| *class == Class::Small);
            prop_assert!(first_small.is_some_and(|position| position <= 1));
        }

        /// Large requests share their turns: while another waits, none has more than a quantum and a block in a row.
        #[test]
        fn a_large_request_has_a_quantum_at_a_time(requests in 2usize..6, steps in 10usize..200) {
            let mut device = Device::new(false);
            for _ in 0..requests { device.add(Class::Large, 1 << 40); }
            for _ in 0..steps { device.step(); }
            let mut runs: BTreeMap<u64, u64> = BTreeMap::new();
            let mut previous = None;
            for (key, _, bytes) in device.issued {
                let run = if previous == Some(key) { runs.remove(&key.to_bits()).unwrap_or(0) + bytes } else { bytes };
                prop_assert!(run <= QUANTUM_BYTES + BLOCK);
                runs.insert(key.to_bits(), run);
                previous = Some(key);
            }
        }
    }
}
