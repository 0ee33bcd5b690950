//! The inbox and its wake word.

use super::{explore, noticed};
use crate::inbox::Inbox;
use crate::planted::PlantedBug;
use crate::sync::thread;
use crate::sys::event::Event;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Three threads have 10^5 orders, which take half a minute. Up to three preemptions take a second.
const PREEMPTIONS: Option<usize> = Some(3);

fn inbox<T>() -> Arc<Inbox<T>> {
    Arc::new(Inbox::new(Event::new().expect("a model's event")))
}

/// Takes messages and sleeps in turn, as the driver does, until `done` accepts the list.
fn drive<T>(inbox: &Inbox<T>, mut done: impl FnMut(&mut Vec<T>) -> bool) {
    let mut list = Vec::new();
    loop {
        let mut taken = Vec::new();
        inbox.take(&mut taken);
        list.append(&mut taken);
        if done(&mut list) {
            return;
        }
        if inbox.park() {
            inbox.doorbell().event().wait();
        }
        inbox.unpark();
    }
}

fn two_producers() {
    let inbox = inbox();
    let producers = [1, 2].map(|message| {
        let inbox = Arc::clone(&inbox);
        thread::spawn(move || inbox.push(message).expect("open"))
    });
    drive(&inbox, |list| list.len() == 2);
    for producer in producers {
        producer.join().expect("a producer");
    }
}

#[test]
fn no_wake_is_lost_between_two_producers_and_a_driver_that_falls_asleep() {
    explore(PREEMPTIONS, two_producers);
}

#[test]
fn a_driver_that_parks_without_checking_is_noticed() {
    noticed(PlantedBug::LosesWake, "deadlock", None, two_producers);
}

#[test]
fn a_producer_that_wakes_before_it_leaves_its_message_is_noticed() {
    noticed(PlantedBug::WakesFirst, "deadlock", None, two_producers);
}

fn one_producer_of_two_messages() {
    let inbox = inbox();
    let producer = {
        let inbox = Arc::clone(&inbox);
        thread::spawn(move || {
            inbox.push_quietly(1).expect("open");
            inbox.push_quietly(2).expect("open");
            inbox.wake();
            inbox.push(3).expect("open");
        })
    };
    drive(&inbox, |list| *list == [1, 2, 3]);
    producer.join().expect("a producer");
}

#[test]
fn messages_of_one_producer_arrive_in_their_order() {
    explore(None, one_producer_of_two_messages);
}

fn sweep_and_message() {
    let inbox = inbox();
    let others = [true, false].map(|sweeps| {
        let inbox = Arc::clone(&inbox);
        thread::spawn(move || if sweeps { inbox.doorbell().request_sweep() } else { inbox.post(()) })
    });
    let mut swept = false;
    drive(&inbox, |list| {
        swept |= inbox.take_sweep();
        swept && list.len() == 1
    });
    for other in others {
        other.join().expect("a thread");
    }
}

#[test]
fn a_request_to_sweep_is_seen_before_the_driver_sleeps() {
    explore(PREEMPTIONS, sweep_and_message);
}

/// Counts the messages that were dropped.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn end_among_producers() {
    let inbox = inbox();
    let gone = Arc::new(AtomicUsize::new(0));
    let producer = {
        let (inbox, gone) = (Arc::clone(&inbox), Arc::clone(&gone));
        thread::spawn(move || drop(inbox.push(Counted(gone))))
    };
    let job = {
        let (inbox, gone) = (Arc::clone(&inbox), Arc::clone(&gone));
        thread::spawn(move || inbox.post(Counted(gone)))
    };
    inbox.close();
    let mut list = Vec::new();
    inbox.take(&mut list);
    drop(list);
    producer.join().expect("a producer");
    // The producer was refused, or its message is in the list. Only the job's can still arrive.
    inbox.end();
    job.join().expect("a job");
    assert_eq!(gone.load(Ordering::Relaxed), 2, "a message was kept after the end");
}

#[test]
fn every_message_is_taken_returned_or_dropped_at_the_end_of_an_inbox() {
    explore(None, end_among_producers);
}

#[test]
fn an_inbox_that_keeps_messages_after_its_end_is_noticed() {
    noticed(PlantedBug::KeepsAfterEnd, "a message was kept", None, end_among_producers);
}
