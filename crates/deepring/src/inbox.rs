//! Where producers leave work for the driver, and how they wake it.
//!
//! ```text
//!   producer:  push ─► word.swap(SIGNALED) ─┬─ was PARKED ─► event.signal()
//!                                           └─ else: the driver is awake and looks before it sleeps
//!   driver:    take ─► work ─► RUNNING→PARKED? ─┬─ yes: sleep, then word = RUNNING
//!                                               └─ no (SIGNALED): word = RUNNING, take again
//! ```
//!
//! The list is swapped out whole, so a producer holds the lock for one push. No wake is lost: a
//! producer pushes *before* it swaps the word of the [`Doorbell`], and the driver parks only by an
//! exchange that fails when the word was swapped since it last took the list.

use crate::doorbell::Doorbell;
use crate::planted::{PlantedBug, planted};
use crate::sync::{Mutex, MutexGuard};
use crate::sys::event::Event;
use std::sync::{Arc, PoisonError};

pub(crate) struct Inbox<T> {
    messages: Mutex<Messages<T>>,
    doorbell: Arc<Doorbell>,
}

struct Messages<T> {
    list: Vec<T>,
    /// Producers are refused.
    closed: bool,
    /// The driver has exited.
    ended: bool,
}

impl<T> Inbox<T> {
    pub(crate) fn new(event: Event) -> Self {
        let messages = Mutex::new(Messages { list: Vec::new(), closed: false, ended: false });
        Self { messages, doorbell: Arc::new(Doorbell::new(event)) }
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

    /// As [`Inbox::push`], for the engine's own threads: their answers count even when intake is
    /// closed.
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

    /// The driver and its blocking threads are gone: drops what they left, and from now on what is
    /// still posted.
    pub(crate) fn end(&self) {
        let mut messages = self.lock();
        messages.ended = true;
        let left = std::mem::take(&mut messages.list);
        drop(messages);
        drop(left);
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

    /// The bell alone, for what wakes the driver without a message.
    pub(crate) fn doorbell(&self) -> &Arc<Doorbell> {
        &self.doorbell
    }

    /// See [`Doorbell::wake`].
    pub(crate) fn wake(&self) {
        self.doorbell.wake();
    }

    /// See [`Doorbell::take_sweep`].
    pub(crate) fn take_sweep(&self) -> bool {
        self.doorbell.take_sweep()
    }

    /// See [`Doorbell::park`].
    pub(crate) fn park(&self) -> bool {
        self.doorbell.park()
    }

    /// See [`Doorbell::unpark`].
    pub(crate) fn unpark(&self) {
        self.doorbell.unpark();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
                inbox.doorbell().event().wait();
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
