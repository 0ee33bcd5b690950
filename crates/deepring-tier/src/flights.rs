//! [`Flights`]: cells that are being fetched, or on their way to the drive. Who wants one of them joins.
//!
//! A fetch is a shared future that nobody runs but those who wait for it: if one is dropped, the others go on, and with the
//! last of them the fetch is canceled. So no runtime is needed. The map has only a weak reference: it keeps no fetch alive.
//!
//! ```text
//!   missing ── a call wants it ──► Fetching ── the bytes came ──► Filling ── on the drive ──► a hit
//!      ▲                              │                              │
//!      └──── failed, or dropped ──────┴──── no slot, or no room ─────┘
//! ```
//!
//! Single flight is not left to foyer's `get_or_fetch`, which knows whole entries, and spawns tasks on a runtime.

use crate::failure::Failure;
use crate::fetch::Fetched;
use crate::identity::{Identity, Place};
use crate::remote::Asked;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A fetch that any number of callers wait for.
pub(crate) type Fetching = Shared<BoxFuture<'static, Result<Fetched, Failure>>>;
type WeakFetching = WeakShared<BoxFuture<'static, Result<Fetched, Failure>>>;

/// The first fetch of an object that nothing is known of: the place, when it was last forgotten, and what is asked for.
pub(crate) type Opening = (Arc<Place>, u64, Asked);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Flights(Mutex<Flying>);

/// What is in the air.
#[derive(Debug, Default)]
pub(crate) struct Flying {
    next: u64,
    /// By the first cell of each. No two of a version overlap.
    cells: HashMap<Arc<Identity>, BTreeMap<u64, Flight>>,
    openings: HashMap<Opening, (u64, WeakFetching)>,
}

#[derive(Debug)]
struct Flight {
    number: u64,
    end: u64,
    state: State,
}

#[derive(Debug)]
enum State {
    Fetching(WeakFetching),
    Filling(Fetched),
}

/// What a call joins.
#[derive(Debug)]
pub(crate) enum Joined {
    Fetching(Fetching),
    /// The bytes are in memory.
    Filling(Fetched),
}

/// What another call does about a cell, and how far.
#[derive(Debug)]
pub(crate) enum Found {
    Joined(Joined, u64),
    /// Nothing, up to this cell.
    Nothing(u64),
}

/// The place of a flight in the map. Dropped, it leaves.
#[derive(Debug)]
pub(crate) struct Boarded {
    flights: Arc<Flights>,
    number: u64,
    at: At,
}

#[derive(Debug)]
enum At {
    Cells(Arc<Identity>, u64),
    Opening(Opening),
}

impl Flights {
    /// No flight is let go of while this is held: its end leaves the map.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Flying> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Flying {
    /// What is in the air for a cell, and up to which cell, at most `end`.
    pub(crate) fn find(&mut self, identity: &Arc<Identity>, cell: u64, end: u64) -> Found {
        let Some(flights) = self.cells.get_mut(identity) else { return Found::Nothing(end) };
        if let Some((&start, flight)) = flights.range(..=cell).next_back().filter(|(_, flight)| flight.end > cell) {
            let joined = match &flight.state {
                State::Fetching(weak) => weak.upgrade().map(Joined::Fetching),
                State::Filling(fetched) => Some(Joined::Filling(fetched.clone())),
            };
            if let Some(joined) = joined {
                return Found::Joined(joined, flight.end.min(end));
            }
            // All who waited for it are gone.
            flights.remove(&start);
        }
        let next = flights.range(cell..).next().map_or(end, |(&start, _)| start.min(end));
        Found::Nothing(next)
    }

    /// Whether nothing is in the air for any of these cells. Unlike [`Flying::find`], it takes part in no flight: the last who
    /// lets go of one must not do so while this is locked.
    pub(crate) fn is_free(&self, identity: &Arc<Identity>, cells: &Range<u64>) -> bool {
        let last = self.cells.get(identity).and_then(|flights| flights.range(..cells.end).next_back());
        last.is_none_or(|(_, flight)| flight.end <= cells.start)
    }

    /// A place for a flight of these cells, which nothing else is in the air for. [`Flying::depart`] must follow.
    pub(crate) fn board(&mut self, flights: &Arc<Flights>, identity: &Arc<Identity>, cells: &Range<u64>) -> Boarded {
        let number = self.number();
        Boarded { flights: Arc::clone(flights), number, at: At::Cells(Arc::clone(identity), cells.start) }
    }

    pub(crate) fn depart(&mut self, (number, identity): (u64, &Arc<Identity>), cells: &Range<u64>, fetching: &Fetching) {
        let Some(weak) = fetching.downgrade() else { return };
        let flight = Flight { number, end: cells.end, state: State::Fetching(weak) };
        self.cells.entry(Arc::clone(identity)).or_default().insert(cells.start, flight);
    }

    /// A place for bytes that are in memory already, unless something is in the air for one of their cells.
    pub(crate) fn board_filling(&mut self, flights: &Arc<Flights>, fetched: &Fetched, cells: &Range<u64>) -> Option<Boarded> {
        let identity = &fetched.known.identity;
        if cells.is_empty() || !self.is_free(identity, cells) {
            return None;
        }
        let boarded = self.board(flights, identity, cells);
        let flight = Flight { number: boarded.number, end: cells.end, state: State::Filling(fetched.clone()) };
        self.cells.entry(Arc::clone(identity)).or_default().insert(cells.start, flight);
        Some(boarded)
    }

    /// The first fetch of an object, if another call makes it.
    pub(crate) fn find_opening(&mut self, opening: &Opening) -> Option<Fetching> {
        let fetching = self.openings.get(opening)?.1.upgrade();
        if fetching.is_none() {
            self.openings.remove(opening);
        }
        fetching
    }

    pub(crate) fn board_opening(&mut self, flights: &Arc<Flights>, opening: &Opening) -> Boarded {
        let number = self.number();
        Boarded { flights: Arc::clone(flights), number, at: At::Opening(opening.clone()) }
    }

    pub(crate) fn depart_opening(&mut self, number: u64, opening: Opening, fetching: &Fetching) {
        if let Some(weak) = fetching.downgrade() {
            self.openings.insert(opening, (number, weak));
        }
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

impl Boarded {
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// The bytes have come, and are on their way to the drive.
    pub(crate) fn fill(&self, fetched: &Fetched) {
        let At::Cells(identity, start) = &self.at else { return };
        let mut flying = self.flights.lock();
        let flight = flying.cells.get_mut(identity).and_then(|flights| flights.get_mut(start));
        if let Some(flight) = flight.filter(|flight| flight.number == self.number) {
            flight.state = State::Filling(fetched.clone());
        }
    }
}

impl Drop for Boarded {
    fn drop(&mut self) {
        let mut flying = self.flights.lock();
        let mut left = None;
        match &self.at {
            At::Cells(identity, start) => {
                if let Some(flights) = flying.cells.get_mut(identity) {
                    if flights.get(start).is_some_and(|flight| flight.number == self.number) {
                        left = flights.remove(start);
                    }
                    if flights.is_empty() {
                        flying.cells.remove(identity);
                    }
                }
            }
            At::Opening(opening) => {
                if flying.openings.get(opening).is_some_and(|&(number, _)| number == self.number) {
                    flying.openings.remove(opening);
                }
            }
        }
        drop(flying);
        // Its bytes can be the last reference to their memory.
        drop(left);
    }
}
