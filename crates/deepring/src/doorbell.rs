//! How the driver is woken: a word that knows whether it sleeps, and the event it sleeps on.
//!
//! Everything that gives the driver work rings the bell: the [inbox](crate::inbox), a canceled
//! operation, a backend's threads. The driver parks only by an exchange that fails if the bell has
//! rung since it last looked, so work that was left before the bell rang is never slept over.

use crate::planted::{PlantedBug, planted};
use crate::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use crate::sys::event::Event;
use crate::sys::process::Process;

const RUNNING: u32 = 0;
const PARKED: u32 = 1;
const SIGNALED: u32 = 2;

/// Wakes one driver.
pub(crate) struct Doorbell {
    word: AtomicU32,
    sweep: AtomicBool,
    event: Event,
    /// The driver's. A forked child shares its event and has no driver to wake.
    process: Process,
}

impl Doorbell {
    pub(crate) fn new(event: Event) -> Self {
        Self { word: AtomicU32::new(RUNNING), sweep: AtomicBool::new(false), event, process: Process::current() }
    }

    /// Makes the driver look for work, now or before it next sleeps. The work must be in place
    /// already.
    pub(crate) fn wake(&self) {
        if self.word.swap(SIGNALED, Ordering::AcqRel) == PARKED && !self.process.is_parent() {
            self.event.signal();
        }
    }

    /// Makes the driver look for canceled requests.
    pub(crate) fn request_sweep(&self) {
        // Both sides swap, so that the order of the two is total, also to loom.
        self.sweep.swap(true, Ordering::AcqRel);
        self.wake();
    }

    /// Whether a sweep was requested since the last call.
    pub(crate) fn take_sweep(&self) -> bool {
        self.sweep.swap(false, Ordering::AcqRel)
    }

    /// Whether the driver may sleep. After `true` it must sleep on [`Doorbell::event`] (alone or
    /// among its completions) and call [`Doorbell::unpark`].
    pub(crate) fn park(&self) -> bool {
        if planted(PlantedBug::LosesWake) {
            self.word.store(PARKED, Ordering::Release);
            return true;
        }
        let parked = self.word.compare_exchange(RUNNING, PARKED, Ordering::AcqRel, Ordering::Acquire).is_ok();
        if !parked {
            self.unpark();
        }
        parked
    }

    pub(crate) fn unpark(&self) {
        // Swap, not store: the acquire half makes everything visible that was left before a signal
        // this overwrites.
        self.word.swap(RUNNING, Ordering::AcqRel);
    }

    /// What a parked driver sleeps on.
    pub(crate) fn event(&self) -> &Event {
        &self.event
    }

    /// Whether a driver that sleeps now would be woken.
    #[cfg(feature = "sim")]
    pub(crate) fn is_signaled(&self) -> bool {
        self.word.load(Ordering::Acquire) == SIGNALED
    }
}
