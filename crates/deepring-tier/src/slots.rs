//! [`Slots`]: which parts of the slab are free, and whose extents and records the others have.
//!
//! A slot is taken by an extent (`E`) and comes back when the last user of that lets go: so none is given to another object while
//! it is read. Its record on the drive stays until the next tenant replaces it, or until its object is forgotten.

use crate::identity::Place;
use crate::stats::{Counters, add};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// See the module.
#[derive(Debug)]
pub(crate) struct Slots<E> {
    books: Mutex<Books<E>>,
    counters: Arc<Counters>,
}

#[derive(Debug)]
struct Books<E> {
    /// Those that were given back longest ago come first: their records are of use after a start until then.
    free: VecDeque<u32>,
    slots: Vec<Tenant<E>>,
    /// All slots that have something of an object.
    by_place: HashMap<Arc<Place>, Vec<u32>>,
}

#[derive(Debug)]
struct Tenant<E> {
    /// The object that the record on the drive is of, or will be.
    place: Option<Arc<Place>>,
    extent: Weak<E>,
}

/// A slot that was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) slot: u32,
    /// The record of another extent is still there.
    pub(crate) has_record: bool,
}

impl<E> Slots<E> {
    /// This many slots, all of them free.
    pub(crate) fn new(count: u32, counters: Arc<Counters>) -> Self {
        let slots = (0..count).map(|_| Tenant { place: None, extent: Weak::new() }).collect();
        Self { books: Mutex::new(Books { free: (0..count).collect(), slots, by_place: HashMap::new() }), counters }
    }

    fn books(&self) -> MutexGuard<'_, Books<E>> {
        // No code panics while it holds the lock.
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a slot for an extent of an object; none if none is free.
    pub(crate) fn take(&self, place: &Arc<Place>) -> Option<Taken> {
        let mut books = self.books();
        let slot = books.free.pop_front()?;
        Some(Taken { slot, has_record: books.assign(slot, Some(place)) })
    }

    /// Takes these slots, of which a start has found the records, and leaves the others free.
    pub(crate) fn take_found(&self, found: &HashMap<u32, Arc<Place>>) {
        let mut books = self.books();
        for (&slot, place) in found {
            books.assign(slot, Some(place));
        }
        books.free.retain(|slot| !found.contains_key(slot));
    }

    /// The extent that has a slot.
    pub(crate) fn settle(&self, slot: u32, extent: &Arc<E>) {
        self.books().slots[slot as usize].extent = Arc::downgrade(extent);
    }

    /// An extent has ended.
    pub(crate) fn give_back(&self, slot: u32, is_evicted: bool) {
        self.books().free.push_back(slot);
        if is_evicted {
            add(&self.counters.evicted, 1);
        }
    }

    /// The slots that have something of an object, and the extents that are in them.
    pub(crate) fn of(&self, place: &Arc<Place>) -> Vec<(u32, Option<Arc<E>>)> {
        let books = self.books();
        let slots = books.by_place.get(place).map(Vec::as_slice).unwrap_or_default();
        slots.iter().map(|&slot| (slot, books.slots[slot as usize].extent.upgrade())).collect()
    }

    /// The record of a slot is to be removed. Returns whether it is still that object's.
    pub(crate) fn disown(&self, slot: u32, place: &Arc<Place>) -> bool {
        let mut books = self.books();
        let is_owner = books.slots[slot as usize].place.as_ref() == Some(place);
        if is_owner {
            books.assign(slot, None);
        }
        is_owner
    }

    /// All slots, and those that are free.
    pub(crate) fn count(&self) -> (u64, u64) {
        let books = self.books();
        (books.slots.len() as u64, books.free.len() as u64)
    }
}

impl<E> Books<E> {
    /// Notes whose record a slot has from now on. Returns whether it had one.
    fn assign(&mut self, slot: u32, place: Option<&Arc<Place>>) -> bool {
        let tenant = &mut self.slots[slot as usize];
        let before = std::mem::replace(&mut tenant.place, place.map(Arc::clone));
        if let Some(before) = &before {
            let is_empty = self.by_place.get_mut(before).is_some_and(|slots| {
                slots.retain(|&other| other != slot);
                slots.is_empty()
            });
            if is_empty {
                self.by_place.remove(before);
            }
        }
        if let Some(place) = place {
            self.by_place.entry(Arc::clone(place)).or_default().push(slot);
        }
        before.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_has_one_owner_and_comes_back() {
        let slots: Slots<()> = Slots::new(2, Arc::default());
        let [one, two] = ["one", "two"].map(|path| Arc::new(Place { store: "s".into(), path: path.into() }));
        let taken = |place| slots.take(place).expect("a slot");
        assert_eq!((taken(&one), taken(&one)), (Taken { slot: 0, has_record: false }, Taken { slot: 1, has_record: false }));
        assert_eq!(slots.take(&two), None);
        slots.give_back(0, true);
        assert_eq!((slots.count(), slots.of(&one).len()), ((2, 1), 2));
        assert_eq!(taken(&two), Taken { slot: 0, has_record: true });
        assert_eq!((slots.of(&one).len(), slots.of(&two).len()), (1, 1));
        assert!(!slots.disown(0, &one) && slots.disown(0, &two) && slots.disown(1, &one));
        assert!(slots.of(&one).is_empty() && slots.books().by_place.is_empty());
    }
}
