//! A flow: the requests of one source (an open file, or a handle) of one class, direction and size. Flows are what takes
//! turns at a device, so that however many requests one has, those of another do not wait for all of them. Pure.
//!
//! A flow whose requests mostly wait, for each other or for room, lets no more begin: a request that waits costs memory
//! and a look by the driver, and gains nothing by it.

use crate::plan::Direction;
use crate::priority::Priority;
use crate::slots::Key;
use std::collections::{BTreeMap, VecDeque};

/// Requests of one flow that wait for a range at once.
pub(super) const WAITING_MAX: u32 = 1000;

/// Requests of one flow for which room is made at once.
pub(super) const MAKING_ROOM_MAX: u32 = 32;

/// Idle flows are dropped only if there are more than these, so that one that is used again keeps its debt and its
/// allocation.
const KEPT: usize = 16;

/// A request of at most this many bytes is small: its answer is waited for, and it costs a device little.
pub(super) const SMALL_BYTES: u64 = 64 << 10;

/// How large a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Size {
    Small,
    Large,
}

impl Size {
    pub(super) fn of(bytes: u64) -> Self {
        if bytes <= SMALL_BYTES { Self::Small } else { Self::Large }
    }
}

/// Whose requests take turns with each other's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    /// The requests of a file, by the number of its inode.
    File(u64),
    /// Those that name a handle, by its number.
    Handle(u64),
    /// Those that name a path and no handle: each of them has a file of its own.
    Paths,
}

/// What names a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FlowKey {
    pub(super) class: Priority,
    pub(super) write: bool,
    pub(super) size: Size,
    pub(super) source: Source,
}

impl FlowKey {
    pub(super) fn new(class: Priority, direction: Direction, bytes: u64, source: Source) -> Self {
        Self { class, write: direction == Direction::Write, size: Size::of(bytes), source }
    }

    /// Whether both take turns with each other: a file that is read and written takes them with none.
    pub(super) fn is_same_party(&self, other: &Self) -> bool {
        (self.class, self.size, self.source) == (other.class, other.size, other.source)
    }
}

/// What a request that has begun waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hold {
    Range,
    Room,
}

/// The requests of one flow. `F` is a request that has not begun.
#[derive(Debug)]
pub(super) struct Flow<F> {
    pub(super) key: FlowKey,
    /// In the order in which they were made.
    number: u64,
    /// Those that have begun and can go on.
    pub(super) begun: VecDeque<Key>,
    pub(super) fresh: VecDeque<F>,
    waiting: u32,
    making_room: u32,
    /// Bytes of its quantum already used by the request at the front.
    pub(super) spent: u64,
    /// What it can still issue in this round of its line. Below 0, what it has issued too much.
    pub(super) deficit: i64,
    /// The round of its line in which its deficit was filled last.
    pub(super) round: u64,
    /// Whether it stands in its line.
    pub(super) is_listed: bool,
}

impl<F> Flow<F> {
    pub(super) fn can_begin(&self) -> bool {
        !self.fresh.is_empty() && self.waiting < WAITING_MAX && self.making_room < MAKING_ROOM_MAX
    }

    pub(super) fn is_active(&self) -> bool {
        !self.begun.is_empty() || self.can_begin()
    }

    fn is_idle(&self) -> bool {
        self.begun.is_empty() && self.fresh.is_empty() && self.waiting == 0 && self.making_room == 0 && !self.is_listed
    }

    pub(super) fn hold(&mut self, what: Hold) {
        *self.count(what) += 1;
    }

    pub(super) fn release(&mut self, what: Hold) {
        *self.count(what) -= 1;
    }

    fn count(&mut self, what: Hold) -> &mut u32 {
        match what {
            Hold::Range => &mut self.waiting,
            Hold::Room => &mut self.making_room,
        }
    }
}

/// All flows of a device, by their place. A place stays the same while its flow is not idle.
#[derive(Debug)]
pub(super) struct Flows<F> {
    places: Vec<Option<Flow<F>>>,
    free: Vec<usize>,
    by_key: BTreeMap<FlowKey, usize>,
    /// The one that was looked up last: most requests are of the same flow as the one before.
    last: Option<(FlowKey, usize)>,
    made: u64,
}

impl<F> Default for Flows<F> {
    fn default() -> Self {
        Self { places: Vec::new(), free: Vec::new(), by_key: BTreeMap::new(), last: None, made: 0 }
    }
}

impl<F> Flows<F> {
    /// The place of a flow, which is made if it is new.
    pub(super) fn place(&mut self, key: FlowKey) -> usize {
        if let Some((last, place)) = self.last
            && last == key
        {
            return place;
        }
        let place = self.by_key.get(&key).copied().unwrap_or_else(|| self.make(key));
        self.last = Some((key, place));
        place
    }

    fn make(&mut self, key: FlowKey) -> usize {
        self.made += 1;
        let flow = Flow {
            key,
            number: self.made,
            begun: VecDeque::new(),
            fresh: VecDeque::new(),
            waiting: 0,
            making_room: 0,
            spent: 0,
            deficit: 0,
            round: 0,
            is_listed: false,
        };
        let place = self.free.pop().unwrap_or(self.places.len());
        if place == self.places.len() {
            self.places.push(Some(flow));
        } else {
            self.places[place] = Some(flow);
        }
        self.by_key.insert(key, place);
        place
    }

    pub(super) fn get(&self, place: usize) -> Option<&Flow<F>> {
        self.places.get(place)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, place: usize) -> Option<&mut Flow<F>> {
        self.places.get_mut(place)?.as_mut()
    }

    /// Drops a flow that has nothing to do, unless few are kept.
    pub(super) fn tidy(&mut self, place: usize) {
        if self.by_key.len() > KEPT
            && let Some(flow) = self.get(place)
            && flow.is_idle()
        {
            let key = flow.key;
            self.by_key.remove(&key);
            self.places[place] = None;
            self.free.push(place);
            self.last = None;
        }
    }

    /// The places of all flows, in the order in which they were made.
    pub(super) fn places(&self) -> Vec<usize> {
        let mut all: Vec<_> = self.all().map(|flow| (flow.number, self.by_key[&flow.key])).collect();
        all.sort_unstable();
        all.into_iter().map(|(_, place)| place).collect()
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Flow<F>> {
        self.places.iter().flatten()
    }

    /// Requests of all flows that wait for a range, and for room.
    #[cfg(any(debug_assertions, feature = "sim"))]
    pub(super) fn held(&self) -> (u32, u32) {
        self.all().fold((0, 0), |(waiting, room), flow| (waiting + flow.waiting, room + flow.making_room))
    }
}
