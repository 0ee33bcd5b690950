//! [`Store`]: one remote behind a tier, without a version of `object_store`.

use crate::identity::Place;
use crate::inner::Inner;
use crate::remote::Remote;
use crate::rules::Validate;
use crate::stats::add;
use std::sync::Arc;

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    pub(crate) inner: Arc<Inner>,
    pub(crate) remote: Arc<dyn Remote>,
    name: Arc<str>,
}

/// What became of a call.
#[derive(Debug)]
pub(crate) enum Outcome<T> {
    Served(T),
    /// The object cannot be cached: the call goes to the remote as if there were no tier.
    Around,
}

impl Store {
    pub(crate) fn new(inner: Arc<Inner>, remote: Arc<dyn Remote>, name: &str) -> Self {
        Self { inner, remote, name: name.into() }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn place(&self, path: &str) -> Arc<Place> {
        Arc::new(Place { store: Arc::clone(&self.name), path: path.into() })
    }

    /// How long what is known of an object holds; none if it bypasses the tier.
    pub(crate) fn rule(&self, path: &str) -> Option<Validate> {
        let rule = self.inner.rules.of(path);
        if rule.is_none() {
            self.count_bypass();
        }
        rule
    }

    pub(crate) fn count_bypass(&self) {
        add(&self.inner.counters.bypassed, 1);
    }

    /// An object is about to be changed through this store. What is known of it is forgotten now, and again when the change has
    /// ended or was given up: a read in between can have seen the old version.
    pub(crate) async fn changing(&self, path: &str) -> Changing {
        let place = self.place(path);
        self.inner.forget(&place).await;
        Changing { inner: Arc::clone(&self.inner), place: Some(place) }
    }
}

/// A change in progress.
#[derive(Debug)]
#[must_use = "the object is forgotten again when this ends"]
pub(crate) struct Changing {
    inner: Arc<Inner>,
    place: Option<Arc<Place>>,
}

impl Changing {
    pub(crate) async fn end(mut self) {
        if let Some(place) = self.place.take() {
            self.inner.forget(&place).await;
        }
    }
}

impl Drop for Changing {
    fn drop(&mut self) {
        if let Some(place) = self.place.take() {
            drop(self.inner.forget_now(&place));
        }
    }
}
