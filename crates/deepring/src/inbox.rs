//! Where producers leave work for the driver, and how they wake it.
//!
//! ```text
//!   producer:  push ─► word.swap(SIGNALLED) ─┬─ was PARKED ─► event.signal()
//!                                            └─ else: the driver is awake and looks before it sleeps
//!   driver:    take ─► work ─► RUNNING→PARKED? ─┬─ yes: sleep, then word = RUNNING
//!                                               └─ no (SIGNALLED): word = RUNNING, take again
//! ```
//!
//! The list is swapped out whole, so a producer holds the lock for one push. No wake is lost: a producer pushes *before* it swaps the word,
//! and the driver parks only by an exchange that fails when the word was swapped since it last took the list.

use crate::planted::{PlantedBug, planted};
use crate::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use crate::sync::{Mutex, MutexGuard};
use crate::sys::event::Event;
use std::sync::PoisonError;

const RUNNING: u32 = 0;
const PARKED: u32 = 1;
const SIGNALLED: u32 = 2;

pub(crate) struct Inbox<T> {
    messages: Mutex<Messages<T>>,
    word: AtomicU32,
    sweep: AtomicBool,
    event: Event,
}

struct Messages<T> {
    list: Vec<T>,
    /// Producers are refused.
    closed: bool,
    /// Nobody will ever look again.
    ended: bool,
}

impl<T> Inbox<T> {
    pub(crate) fn new(event: Event) -> Self {
        let messages = Mutex::new(Messages { list: Vec::new(), closed: false, ended: false });
        Self { messages, word: AtomicU32::new(RUNNING), sweep: AtomicBool::new(false), event }
    }

    fn lock(&self) -> MutexGuard<'_, Messages<T>> {
        // Nothing panics while the lock is held, so a poisoned lock still guards a whole list.
        self.messages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves a message and wakes the driver. Gives the message back if the inbox is closed.
    pub(crate) fn push(&self, message: T) -> Result<(), T> {
        if planted(PlantedBug::WakesFirst) {
            self.wake();
            return self.push_quietly(message);
        }
        self.push_quietly(message)?;
        self.wake();
        Ok(())
    }

    /// Leaves a message without waking the driver; [`Inbox::wake`] must follow.
    pub(crate) fn push_quietly(&self, message: T) -> Result<(), T> {
        let mut messages = self.lock();
        if messages.closed {
            return Err(message);
        }
        messages.list.push(message);
        Ok(())
    }

    /// As [`Inbox::push`], for the engine's own threads: their answers are wanted even when intake is closed.
    pub(crate) fn post(&self, message: T) {
        let mut messages = self.lock();
        if messages.ended && !planted(PlantedBug::KeepsAfterEnd) {
            drop(messages);
            return drop(message);
        }
        messages.list.push(message);
        drop(messages);
        self.wake();
    }

    /// The driver and its helpers are gone: what they left is dropped, and so is what still comes.
    pub(crate) fn end(&self) {
        let mut messages = self.lock();
        messages.ended = true;
        let left = std::mem::take(&mut messages.list);
        drop(messages);
        drop(left);
    }

    /// Makes the driver look at its inbox, now or before it next sleeps.
    pub(crate) fn wake(&self) {
        if self.word.swap(SIGNALLED, Ordering::AcqRel) == PARKED {
            self.event.signal();
        }
    }

    /// Asks the driver to look for requests that were cancelled.
    pub(crate) fn request_sweep(&self) {
        // Both sides swap, so that the order of the two is total, also to loom.
        self.sweep.swap(true, Ordering::AcqRel);
        self.wake();
    }

    pub(crate) fn take_sweep(&self) -> bool {
        self.sweep.swap(false, Ordering::AcqRel)
    }

    /// Swaps the whole list out; `list` must be empty and lends its allocation.
    pub(crate) fn take(&self, list: &mut Vec<T>) {
        debug_assert!(list.is_empty());
        std::mem::swap(&mut self.lock().list, list);
    }

    /// From now on [`Inbox::push`] refuses.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
    }

    /// Whether the driver may sleep. After `true` it must sleep on [`Inbox::event`] (alone or among its completions) and call
    /// [`Inbox::unpark`].
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
        // Swap, not store: the acquire half makes everything visible that was pushed before a signal this overwrites.
        self.word.swap(RUNNING, Ordering::AcqRel);
    }

    pub(crate) fn event(&self) -> &Event {
        &self.event
    }

    /// Whether a driver that sleeps now would be woken.
    #[cfg(feature = "sim")]
    pub(crate) fn is_signalled(&self) -> bool {
        self.word.load(Ordering::Acquire) == SIGNALLED
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn no_wake_is_lost_between_many_producers_and_a_sleeping_driver() {
        const PRODUCERS: usize = 4;
        const EACH: usize = 20_000;
        let inbox = Arc::new(Inbox::new(Event::new().expect("an eventfd")));
        let producers: Vec<_> = (0..PRODUCERS)
            .map(|_| {
                let inbox = Arc::clone(&inbox);
                std::thread::spawn(move || (0..EACH).for_each(|n| inbox.push(n).expect("open")))
            })
            .collect();
        let mut seen = 0;
        let mut list = Vec::new();
        while seen < PRODUCERS * EACH {
            inbox.take(&mut list);
            seen += list.drain(..).count();
            if seen < PRODUCERS * EACH && inbox.park() {
                inbox.event().wait();
                inbox.unpark();
            }
        }
        for producer in producers {
            producer.join().expect("a producer");
        }
        assert_eq!(seen, PRODUCERS * EACH);
    }

    #[test]
    fn a_closed_inbox_gives_the_message_back() {
        let inbox = Inbox::new(Event::new().expect("an eventfd"));
        inbox.close();
        assert_eq!(inbox.push(7), Err(7));
    }
}
