//! [`Shared`]: what a store, its leases and its work have in common.
//!
//! ```text
//!   a call ── until(what it needs) ──┐                        ┌── Work::Read  ──► the drive ──┐
//!                                    ├──► State ── due work ──┤                               ├──► change(State) ──► wakes
//!   a lease that ends ── change ─────┘                        └── Work::Write ──► the drive ──┘
//! ```

use super::directory::{Held, SwapDirectory};
use super::planted::{Planted, PlantedBug};
use super::state::{State, Work};
use super::{read, task, write};
use crate::error::Result;
use crate::tensors::Tensors;
use deepring::{Engine, File};
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// Where the bytes are.
pub(super) enum Place {
    /// A file of the store's own.
    Own(Disk),
    /// The files of a model, which are only read.
    Table(Tensors),
}

/// The files of a store.
pub(super) struct Disk {
    pub(super) directory: SwapDirectory,
    pub(super) file: File,
    pub(super) has_checksums: bool,
    pub(super) planted: Planted,
    /// Until the store is closed.
    pub(super) lock: Held,
}

/// See the module.
pub(super) struct Shared {
    pub(super) engine: Engine,
    pub(super) place: Place,
    state: Mutex<State>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("stats", &self.lock().stats()).finish_non_exhaustive()
    }
}

impl Shared {
    pub(super) fn new(engine: Engine, place: Place, state: State) -> Arc<Self> {
        Arc::new(Self { engine, place, state: Mutex::new(state) })
    }

    /// The files of the store.
    ///
    /// # Errors
    /// It only reads.
    pub(super) fn disk(&self) -> Result<&Disk> {
        match &self.place {
            Place::Own(disk) => Ok(disk),
            Place::Table(_) => Err(crate::error::Error::Argument("the store only reads".into())),
        }
    }

    /// Whether this bug is planted in the store.
    pub(super) fn has(&self, bug: PlantedBug) -> bool {
        matches!(&self.place, Place::Own(disk) if disk.planted.is(bug))
    }

    /// Looks at the state, which stays as it is.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, begins with what can begin now, and wakes those who wait.
    pub(super) fn change<T>(self: &Arc<Self>, change: impl FnOnce(&mut State) -> T) -> T {
        let (value, wakers) = self.apply(change);
        wakers.into_values().for_each(Waker::wake);
        value
    }

    /// The same as the last act of work: what it wakes can close the store.
    pub(super) fn end(self: Arc<Self>, change: impl FnOnce(&mut State)) {
        let ((), wakers) = self.apply(change);
        let loses = self.has(PlantedBug::LosesWake);
        drop(self);
        if !loses {
            wakers.into_values().for_each(Waker::wake);
        }
    }

    fn apply<T>(self: &Arc<Self>, change: impl FnOnce(&mut State) -> T) -> (T, BTreeMap<u64, Waker>) {
        let mut state = self.lock();
        let value = change(&mut state);
        state.plan_work();
        let (work, wakers) = (std::mem::take(&mut state.work), std::mem::take(&mut state.wakers));
        drop(state);
        self.begin(work);
        (value, wakers)
    }

    /// Waits until `find` finds something. It is asked after each change of the state, and can change it when it does.
    pub(super) fn until<T, F: FnMut(&mut State) -> Option<T> + Unpin>(self: &Arc<Self>, find: F) -> Until<F> {
        let key = self.lock().tick();
        Until { shared: Arc::clone(self), find, key }
    }

    fn begin(self: &Arc<Self>, work: Vec<Work>) {
        for work in work {
            let shared = Arc::clone(self);
            match work {
                Work::Read(name, version, permit, priority) => {
                    task::spawn(&self.engine, read::read(shared, name, version, permit, priority));
                }
                Work::Write(run) => task::spawn(&self.engine, write::write(shared, run)),
            }
        }
    }
}

/// See [`Shared::until`].
#[must_use = "nothing happens before it is polled"]
pub(super) struct Until<F> {
    shared: Arc<Shared>,
    find: F,
    key: u64,
}

impl<T, F: FnMut(&mut State) -> Option<T> + Unpin> Future for Until<F> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let this = &mut *self;
        let mut state = this.shared.lock();
        let found = (this.find)(&mut state);
        match &found {
            None => drop(state.wakers.insert(this.key, context.waker().clone())),
            Some(_) => drop(state.wakers.remove(&this.key)),
        }
        state.plan_work();
        let work = std::mem::take(&mut state.work);
        // What was found can be what another waits for.
        let wakers = if found.is_some() { std::mem::take(&mut state.wakers) } else { BTreeMap::new() };
        drop(state);
        wakers.into_values().for_each(Waker::wake);
        this.shared.begin(work);
        found.map_or(Poll::Pending, Poll::Ready)
    }
}

impl<F> Drop for Until<F> {
    fn drop(&mut self) {
        let waker = self.shared.lock().wakers.remove(&self.key);
        drop(waker);
    }
}
