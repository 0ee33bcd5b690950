//! A device's budget is shared by all engines of the process: depth and bytes belong to the device.
//!
//! Each engine has its own [`Budget`], with its own limits. Together they have no more in flight
//! than the largest of these allows. What is in flight is one number, so an engine that shares with
//! none pays one atomic operation a block.
//!
//! An engine that finds the device full stands in line. While one stands there, no other takes
//! anything before it has; so none starves. What is given back wakes the first in line as soon as
//! that pays: with an eighth of the budget free.
//!
//! No wake is lost: whether an engine stands in line is a bit of the number that says what is in
//! flight. An engine first sets it and then tries once more; one that gives back finds it set, or
//! came before that last try.

use crate::budget::{Budget, Cost};
use crate::doorbell::Doorbell;
use crate::planted::{PlantedBug, planted};
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Mutex, MutexGuard};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, PoisonError, Weak};

/// The devices that engines use. One per process, and one per simulation.
#[derive(Default)]
pub(crate) struct Devices(Mutex<BTreeMap<u64, Weak<Shared>>>);

impl Devices {
    /// Those of this process.
    #[cfg(not(all(loom, test)))]
    pub(crate) fn of_process() -> Arc<Self> {
        static DEVICES: std::sync::LazyLock<Arc<Devices>> = std::sync::LazyLock::new(Arc::default);
        Arc::clone(&DEVICES)
    }

    /// A model has its own.
    #[cfg(all(loom, test))]
    pub(crate) fn of_process() -> Arc<Self> {
        Arc::default()
    }

    /// The share of an engine in the device with this number.
    pub(crate) fn join(&self, device: u64, limit: Cost, doorbell: &Arc<Doorbell>) -> Share {
        let limit = bounded(limit);
        let mut devices = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = devices.get(&device).and_then(Weak::upgrade).unwrap_or_else(|| {
            devices.retain(|_, shared| shared.strong_count() > 0);
            let shared = Arc::new(Shared::default());
            devices.insert(device, Arc::downgrade(&shared));
            shared
        });
        drop(devices);
        let member = shared.add(limit);
        let own = Budget::new(limit);
        Share { own, shared, member, taken: 0, doorbell: Arc::clone(doorbell), stands: false, refused: false }
    }
}

/// Bytes are packed in units of this many; a part of one counts whole.
const UNIT: u64 = 512;
/// How many bits of a packed [`Cost`] are units of bytes, and how many are requests, and blocks.
const BYTES_BITS: u32 = 31;
const COUNT_BITS: u32 = 16;
/// Twice as much always fits.
const BYTES_MAX: u64 = UNIT << (BYTES_BITS - 2);
const COUNT_MAX: u32 = 1 << (COUNT_BITS - 2);

/// An engine stands in line.
const WAITS: u64 = 1 << 63;

/// A limit that can be packed.
fn bounded(limit: Cost) -> Cost {
    Cost { blocks: limit.blocks.clamp(1, COUNT_MAX), requests: limit.requests.clamp(1, COUNT_MAX), bytes: limit.bytes.clamp(1, BYTES_MAX) }
}

/// A limit, packed: a part of a unit does not count.
fn pack_limit(limit: Cost) -> u64 {
    pack(Cost { bytes: (limit.bytes - limit.bytes % UNIT).max(UNIT), ..limit })
}

/// What one block takes: of one that is larger than any limit, all that can be packed.
fn pack(cost: Cost) -> u64 {
    let Cost { blocks, requests, bytes } = cost;
    let (requests, bytes) = (requests.min(COUNT_MAX), bytes.div_ceil(UNIT).min(BYTES_MAX / UNIT));
    (u64::from(blocks) << COUNT_BITS | u64::from(requests)) << BYTES_BITS | bytes
}

fn unpack(packed: u64) -> Cost {
    let count = |shift: u32| (packed & !WAITS) >> shift & ((1 << COUNT_BITS) - 1);
    let (blocks, requests) = (count(BYTES_BITS + COUNT_BITS) as u32, count(BYTES_BITS) as u32);
    Cost { blocks, requests, bytes: (packed & ((1 << BYTES_BITS) - 1)) * UNIT }
}

/// One device.
#[derive(Default)]
struct Shared {
    /// What all engines have in flight, packed, and [`WAITS`].
    used: AtomicU64,
    /// The largest limit of an engine, packed.
    limit: AtomicU64,
    line: Mutex<Line>,
}

#[derive(Default)]
struct Line {
    members: Vec<(u64, Cost)>,
    number: u64,
    /// Who waits, for how much.
    queue: VecDeque<(u64, Cost, Arc<Doorbell>)>,
}

impl Line {
    fn limit(&self) -> Cost {
        let limits = self.members.iter().map(|(_, limit)| *limit);
        limits.fold(Cost { blocks: 1, requests: 1, bytes: 1 }, |a, b| Cost {
            blocks: a.blocks.max(b.blocks),
            requests: a.requests.max(b.requests),
            bytes: a.bytes.max(b.bytes),
        })
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, limit: Cost) -> u64 {
        let mut line = self.lock();
        line.number += 1;
        let member = line.number;
        line.members.push((member, limit));
        self.limit.store(pack_limit(line.limit()), Ordering::Release);
        member
    }

    /// Whether the cost fits beside `used`. See [`Cost::admits`].
    fn fits(&self, used: u64, cost: Cost) -> bool {
        unpack(used).admits(unpack(pack(cost)), unpack(self.limit.load(Ordering::Relaxed)))
    }

    /// Takes the cost if it fits; with an engine in line, only in turn.
    fn take(&self, cost: Cost, in_turn: bool) -> bool {
        let take = |used| ((in_turn || used & WAITS == 0) && self.fits(used, cost)).then(|| used + pack(cost));
        self.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, take).is_ok()
    }

    /// Returns whether an engine stands in line.
    fn give(&self, packed: u64) -> bool {
        self.used.fetch_sub(packed, Ordering::AcqRel) & WAITS != 0
    }

    /// Whom to wake: the first in line, if what is free is worth it.
    fn next(&self, line: &Line) -> Option<Arc<Doorbell>> {
        let (_, need, doorbell) = line.queue.front()?;
        let (packed, limit) = (self.used.load(Ordering::Acquire), unpack(self.limit.load(Ordering::Relaxed)));
        let used = unpack(packed);
        let Cost { blocks, requests, bytes } = limit;
        let most = Cost { blocks: blocks - blocks / 8, requests: requests - requests / 8, bytes: bytes - bytes / 8 };
        let eighth = used.fits_beside(Cost::NOTHING, most);
        (self.fits(packed, *need) && eighth && !planted(PlantedBug::WakesNoEngine)).then(|| Arc::clone(doorbell))
    }

    fn leave_line(&self, mut line: MutexGuard<'_, Line>, member: u64) {
        line.queue.retain(|(other, ..)| *other != member);
        if line.queue.is_empty() {
            self.used.fetch_and(!WAITS, Ordering::AcqRel);
        }
        let next = self.next(&line);
        drop(line);
        next.inspect(|doorbell| doorbell.wake());
    }
}

/// What an engine has of a device.
pub(crate) struct Share {
    own: Budget,
    shared: Arc<Shared>,
    member: u64,
    /// What it has in flight, packed.
    taken: u64,
    doorbell: Arc<Doorbell>,
    /// It stands in line.
    stands: bool,
    /// Something was refused since [`Share::begin`].
    refused: bool,
}

impl Share {
    /// The engine's own budget.
    pub(crate) fn own(&self) -> &Budget {
        &self.own
    }

    /// Whether other engines have something in flight there.
    pub(crate) fn has_company(&self) -> bool {
        self.shared.used.load(Ordering::Relaxed) & !WAITS != self.taken
    }

    /// Another limit of this engine's from now on: the device's queue has changed.
    pub(crate) fn set_limit(&mut self, limit: Cost) {
        let limit = bounded(limit);
        self.own.set_limit(limit);
        let mut line = self.shared.lock();
        line.members.iter_mut().filter(|(member, _)| *member == self.member).for_each(|(_, its)| *its = limit);
        self.shared.limit.store(pack_limit(line.limit()), Ordering::Release);
        if let Some(next) = self.shared.next(&line) {
            drop(line);
            next.wake();
        }
    }

    /// Takes the cost if it fits, and returns whether it did. If only other engines are in the way, this one is woken when
    /// it is worth another try.
    pub(crate) fn take(&mut self, cost: Cost) -> bool {
        if !self.own.fits(cost) {
            return false;
        }
        if !self.shared.take(cost, false) && !self.take_in_turn(cost) {
            self.refused = true;
            return false;
        }
        self.taken += pack(cost);
        self.own.take(cost)
    }

    fn take_in_turn(&mut self, cost: Cost) -> bool {
        let mut line = self.shared.lock();
        if !self.stands {
            line.queue.push_back((self.member, cost, Arc::clone(&self.doorbell)));
            self.shared.used.fetch_or(WAITS, Ordering::AcqRel);
            self.stands = true;
        }
        let place = line.queue.iter().position(|(member, ..)| *member == self.member);
        if place != Some(0) || !self.shared.take(cost, true) {
            if let Some(waiter) = place.and_then(|place| line.queue.get_mut(place)) {
                // The last that was refused is what it is woken for.
                waiter.1 = cost;
            }
            return false;
        }
        self.stands = false;
        self.shared.leave_line(line, self.member);
        true
    }

    pub(crate) fn give(&mut self, cost: Cost) {
        self.own.give(cost);
        self.taken -= pack(cost);
        if self.shared.give(pack(cost)) {
            let next = self.shared.next(&self.shared.lock());
            next.inspect(|doorbell| doorbell.wake());
        }
    }

    /// The engine looks at all its requests, until [`Share::end`].
    pub(crate) fn begin(&mut self) {
        self.refused = false;
    }

    /// If nothing was refused, it wants nothing now, and gives up its place in line.
    pub(crate) fn end(&mut self) {
        if self.stands && !self.refused {
            self.stands = false;
            self.shared.leave_line(self.shared.lock(), self.member);
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        // A driver that has unwound can have something in flight for ever. Block by block it was packed, and each part of
        // a unit counts whole.
        self.shared.give(self.taken);
        let mut line = self.shared.lock();
        line.members.retain(|(other, _)| *other != self.member);
        self.shared.limit.store(pack_limit(line.limit()), Ordering::Release);
        self.shared.leave_line(line, self.member);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::sys::event::Event;
    use proptest::prelude::*;

    const LIMIT: Cost = Cost { blocks: 6, requests: 8, bytes: 1000 << 9 };

    fn engines(count: usize) -> (Vec<Share>, Vec<Arc<Doorbell>>) {
        let devices = Devices::default();
        let bells: Vec<_> = (0..count).map(|_| Arc::new(Doorbell::new(Event::new().expect("an eventfd")))).collect();
        (bells.iter().map(|bell| devices.join(1, LIMIT, bell)).collect(), bells)
    }

    /// Whether the engine was woken; it is parked again.
    fn woken(bell: &Doorbell) -> bool {
        let woken = !bell.park();
        bell.unpark();
        woken
    }

    #[test]
    fn two_engines_have_together_what_one_has() {
        let (mut shares, bells) = engines(2);
        let cost = Cost { blocks: 1, requests: 1, bytes: 10 };
        let taken = (0..20).filter(|index| shares[index % 2].take(cost)).count();
        assert_eq!(taken, 6);
        assert!(!bells.iter().any(|bell| woken(bell)));
        shares[1].give(cost);
        assert!(woken(&bells[0]), "the first that was refused is woken");
        assert!(!shares[1].take(cost), "and none takes it away");
        assert!(shares[0].take(cost));
        shares[0].give(cost);
        assert!(woken(&bells[1]));
    }

    #[test]
    fn an_engine_that_wants_nothing_any_more_leaves_the_line_to_the_next() {
        let (mut shares, bells) = engines(3);
        let all = LIMIT;
        assert!(shares[0].take(all));
        assert!(!shares[1].take(all) && !shares[2].take(Cost { blocks: 1, requests: 1, bytes: 1 }));
        shares[1].begin();
        shares[0].give(all);
        assert!(woken(&bells[1]) && !woken(&bells[2]));
        shares[1].end();
        assert!(woken(&bells[2]));
        assert!(shares[2].take(Cost { blocks: 1, requests: 1, bytes: 1 }));
    }

    #[test]
    fn an_engine_that_ends_gives_everything_back() {
        let (mut shares, bells) = engines(2);
        assert!(shares[0].take(LIMIT) && !shares[1].take(LIMIT));
        drop(shares.remove(0));
        assert!(woken(&bells[1]) && shares[0].take(LIMIT));
    }

    proptest! {
        /// Engines take and give back as they are woken: never more than the limit, and every want is served.
        #[test]
        fn none_starves_and_the_limit_holds(wants in proptest::collection::vec((0usize..3, 1u32..5, 1u64..1500), 1..80), order in any::<u64>()) {
            let (mut shares, bells) = engines(3);
            let mut queues: Vec<VecDeque<Cost>> = vec![VecDeque::new(); 3];
            for (engine, requests, bytes) in wants {
                queues[engine].push_back(Cost { blocks: 1, requests, bytes: bytes << 9 });
            }
            let mut held: Vec<(usize, Cost)> = Vec::new();
            let mut awake = [true; 3];
            let mut random = order | 1;
            for _ in 0..10_000 {
                random = random.rotate_left(7).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                (0..3).for_each(|engine| awake[engine] |= woken(&bells[engine]));
                let engine = (random >> 60) as usize % 3;
                if awake[engine] {
                    // One turn: all that fits.
                    shares[engine].begin();
                    while let Some(&cost) = queues[engine].front() && shares[engine].take(cost) {
                        held.push((engine, cost));
                        queues[engine].pop_front();
                    }
                    shares[engine].end();
                    awake[engine] = false;
                } else if !held.is_empty() {
                    let (engine, cost) = held.swap_remove((random >> 32) as usize % held.len());
                    shares[engine].give(cost);
                    // A completion wakes its own engine anyway.
                    awake[engine] = true;
                } else if !awake.contains(&true) {
                    break;
                }
                let sum = held.iter().fold((0, 0), |sum, (_, cost)| (sum.0 + cost.requests, sum.1 + cost.bytes));
                prop_assert!(held.len() <= 1 || sum.0 <= LIMIT.requests && sum.1 <= LIMIT.bytes, "{sum:?}");
            }
            prop_assert!(queues.iter().all(VecDeque::is_empty), "{queues:?} wait, {held:?} is held");
        }
    }
}
