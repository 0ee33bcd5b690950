//! [`Catalog`]: what is known of objects, and when that became void.
//!
//! A put, a delete or a lost precondition forgets an object. A call that began before can still have the old version in its
//! hands: it holds a [`Ticket`] of that time, and neither teaches the catalog nor fills the slab with it.

use crate::identity::{Identity, Place};
use crate::record;
use crate::remote::Meta;
use crate::rules::Validate;
use chrono::DateTime;
use foyer_memory::{Cache, CacheBuilder, S3FifoConfig};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Objects that share a lock and a number; most tiers forget seldom.
const STRIPES: usize = 1024;

/// An object that cannot be cached goes straight to the remote for this long.
const UNCACHEABLE_FOR: Duration = Duration::from_mins(1);

/// What is known of an object.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) identity: Arc<Identity>,
    pub(crate) meta: Meta,
    /// When the remote said so; none if the index did, after a start.
    checked: Option<Instant>,
    /// The index has one version of it.
    is_sure: bool,
    pub(crate) is_cacheable: bool,
}

impl Known {
    /// What the remote says now.
    pub(crate) fn of(place: &Arc<Place>, meta: Meta) -> Self {
        let e_tag = meta.e_tag.as_deref().unwrap_or_default();
        // A weak `ETag` stands for bytes that mean the same, not for the same bytes.
        let is_strong = !e_tag.is_empty() && !e_tag.starts_with("W/");
        let is_cacheable =
            is_strong && meta.attributes.is_some() && record::has_room(&place.store, &place.path, e_tag, meta.version.as_deref());
        let identity = Arc::new(Identity::new(Arc::clone(place), e_tag, meta.size));
        Self { identity, meta, checked: Some(Instant::now()), is_sure: true, is_cacheable }
    }

    /// The same version again, as the remote says now.
    pub(crate) fn again(&self, meta: Meta) -> Self {
        Self { identity: Arc::clone(&self.identity), meta, checked: Some(Instant::now()), is_sure: true, is_cacheable: self.is_cacheable }
    }

    /// What the index says after a start.
    pub(crate) fn found(identity: Arc<Identity>, meta: Meta, is_sure: bool) -> Self {
        Self { identity, meta, checked: None, is_sure, is_cacheable: true }
    }

    /// An object whose remote answers with other versions than it was asked for.
    pub(crate) fn unsteady(place: &Arc<Place>) -> Self {
        Self::of(place, Meta { e_tag: None, size: 0, modified: DateTime::UNIX_EPOCH, version: None, attributes: None })
    }

    /// Whether it holds for another call.
    pub(crate) fn is_fresh(&self, validate: Validate) -> bool {
        match validate {
            Validate::Immutable => self.checked.is_some() || self.is_sure,
            Validate::Always => false,
            Validate::After(time) => self.checked.is_some_and(|checked| checked.elapsed() < time),
        }
    }

    fn is_over(&self) -> bool {
        !self.is_cacheable && self.checked.is_none_or(|checked| checked.elapsed() >= UNCACHEABLE_FOR)
    }
}

/// The time at which a call began, as far as its object is concerned.
#[derive(Debug, Clone)]
pub(crate) struct Ticket {
    pub(crate) place: Arc<Place>,
    pub(crate) epoch: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Catalog {
    known: Cache<Arc<Place>, Arc<Known>>,
    /// How often objects of a stripe were forgotten.
    epochs: Box<[Mutex<u64>]>,
}

impl Catalog {
    /// Of at most this many objects.
    pub(crate) fn new(objects_max: usize) -> Self {
        let known =
            CacheBuilder::new(objects_max).with_name("deepring-tier objects").with_shards(8).with_eviction_config(S3FifoConfig::default());
        Self { known: known.build(), epochs: (0..STRIPES).map(|_| Mutex::default()).collect() }
    }

    fn epoch(&self, place: &Place) -> &Mutex<u64> {
        &self.epochs[(place.spread() % STRIPES as u64) as usize]
    }

    pub(crate) fn ticket(&self, place: &Arc<Place>) -> Ticket {
        let epoch = *self.epoch(place).lock().unwrap_or_else(PoisonError::into_inner);
        Ticket { place: Arc::clone(place), epoch }
    }

    pub(crate) fn get(&self, place: &Arc<Place>) -> Option<Arc<Known>> {
        let known = Arc::clone(self.known.get(place)?.value());
        (!known.is_over()).then_some(known)
    }

    /// Runs something unless the object was forgotten since. It is not forgotten meanwhile.
    pub(crate) fn while_valid<T>(&self, ticket: &Ticket, then: impl FnOnce() -> T) -> Option<T> {
        let epoch = self.epoch(&ticket.place).lock().unwrap_or_else(PoisonError::into_inner);
        (*epoch == ticket.epoch).then(then)
    }

    pub(crate) fn learn(&self, ticket: &Ticket, known: &Arc<Known>) {
        self.while_valid(ticket, || drop(self.known.insert(Arc::clone(&ticket.place), Arc::clone(known))));
    }

    /// Learns that a version is still there, unless another one is known by now.
    pub(crate) fn confirm(&self, ticket: &Ticket, known: &Arc<Known>) {
        if self.get(&ticket.place).is_none_or(|now| now.identity == known.identity) {
            self.learn(ticket, known);
        }
    }

    /// Forgets an object, and runs something before anything new is known of it.
    pub(crate) fn forget<T>(&self, place: &Arc<Place>, then: impl FnOnce() -> T) -> T {
        let mut epoch = self.epoch(place).lock().unwrap_or_else(PoisonError::into_inner);
        *epoch += 1;
        drop(self.known.remove(place));
        then()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(e_tag: Option<&str>) -> Meta {
        Meta {
            e_tag: e_tag.map(Into::into),
            size: 10,
            modified: chrono::DateTime::UNIX_EPOCH,
            version: None,
            attributes: Some(Arc::default()),
        }
    }

    #[test]
    fn who_began_before_an_object_was_forgotten_teaches_nothing() {
        let catalog = Catalog::new(100);
        let place = Arc::new(Place { store: "s".into(), path: "p".into() });
        let early = catalog.ticket(&place);
        catalog.forget(&place, || ());
        catalog.learn(&early, &Arc::new(Known::of(&place, meta(Some("old")))));
        assert!(catalog.get(&place).is_none() && catalog.while_valid(&early, || ()).is_none());
        let late = catalog.ticket(&place);
        catalog.learn(&late, &Arc::new(Known::of(&place, meta(Some("new")))));
        assert_eq!(catalog.get(&place).and_then(|known| known.meta.e_tag.clone()), Some("new".into()));
    }

    #[test]
    fn only_strong_tags_that_fit_the_index_are_cacheable() {
        let place = Arc::new(Place { store: "s".into(), path: "p".into() });
        let long = Arc::new(Place { store: "s".into(), path: "p".repeat(4000).into() });
        assert!(Known::of(&place, meta(Some("\"1\""))).is_cacheable);
        for known in [
            Known::of(&place, meta(None)),
            Known::of(&place, meta(Some("W/\"1\""))),
            Known::of(&place, meta(Some(""))),
            Known::of(&long, meta(Some("1"))),
        ] {
            assert!(!known.is_cacheable);
        }
    }

    #[test]
    fn what_the_index_found_holds_for_immutable_objects_alone() {
        let place = Arc::new(Place { store: "s".into(), path: "p".into() });
        let asked = Known::of(&place, meta(Some("1")));
        let found = |is_sure| Known::found(Arc::clone(&asked.identity), meta(Some("1")), is_sure);
        let hour = Validate::After(Duration::from_hours(1));
        assert!(asked.is_fresh(Validate::Immutable) && asked.is_fresh(hour) && !asked.is_fresh(Validate::Always));
        assert!(found(true).is_fresh(Validate::Immutable) && !found(true).is_fresh(hour));
        assert!(!found(false).is_fresh(Validate::Immutable));
        assert!(!asked.is_fresh(Validate::After(Duration::ZERO)));
    }
}
