//! One operation between its caller and the driver that settles it.

use super::memory::{Lent, lent};
use super::{explore, noticed};
use crate::completion::{Completion, Outcome};
use crate::doorbell::Doorbell;
use crate::error::{Error, ErrorKind};
use crate::op::{Op, Task, Transfer};
use crate::planted::PlantedBug;
use crate::sync::thread::{self, JoinHandle};
use crate::sys::event::Event;
use std::sync::Arc;

/// An operation, and a driver that settles it at any time.
fn operation(memory_lost: bool) -> (Op<Lent>, Arc<Doorbell>, JoinHandle<()>) {
    let doorbell = Arc::new(Doorbell::new(Event::new().expect("a model's event")));
    let transfer = Transfer::detached(Lent::new());
    let op = Op::new(Arc::clone(&transfer), Arc::clone(&doorbell));
    let kind = if memory_lost { ErrorKind::Lost } else { ErrorKind::Canceled };
    let driver = thread::spawn(move || {
        let outcome = Outcome { result: Err(Error::new(kind, "read")), memory_lost };
        transfer.settle(outcome);
    });
    (op, doorbell, driver)
}

fn waited_for() {
    let (op, _doorbell, driver) = operation(false);
    let done = op.wait();
    assert!(done.buf.is_some_and(|buf| buf.value() == 0));
    driver.join().expect("a driver");
    assert_eq!(lent(), 0);
}

#[test]
fn an_outcome_reaches_the_thread_that_waits_for_it() {
    explore(None, waited_for);
}

#[test]
fn a_waiter_that_checks_and_then_waits_is_noticed() {
    noticed(PlantedBug::LooksThenWaits, "deadlock", None, waited_for);
}

fn polled() {
    let (op, _doorbell, driver) = operation(false);
    assert!(loom::future::block_on(op).buf.is_some());
    driver.join().expect("a driver");
    assert_eq!(lent(), 0);
}

#[test]
fn an_outcome_wakes_the_task_that_polled_for_it() {
    explore(None, polled);
}

#[test]
fn a_future_that_checks_and_then_leaves_its_waker_is_noticed() {
    noticed(PlantedBug::LooksThenWaits, "deadlock", None, polled);
}

#[test]
fn a_task_ends_for_the_thread_that_waits() {
    explore(None, || {
        let (task, end) = Task::new();
        let job = thread::spawn(move || end(Ok(7)));
        assert_eq!(task.wait().expect("ended well"), 7);
        job.join().expect("a job");
    });
}

#[test]
fn memory_of_a_dropped_operation_is_freed_once_in_either_order() {
    explore(None, || {
        let (op, _doorbell, driver) = operation(false);
        drop(op);
        driver.join().expect("a driver");
        assert_eq!(lent(), 0);
    });
}

#[test]
fn lost_memory_is_never_freed_in_either_order() {
    explore(None, || {
        let (op, _doorbell, driver) = operation(true);
        drop(op);
        driver.join().expect("a driver");
        assert_eq!(lent(), 1);
    });
}

#[test]
fn a_drop_before_the_end_is_seen_by_the_driver_and_asks_it_to_sweep() {
    explore(None, || {
        let doorbell = Arc::new(Doorbell::new(Event::new().expect("a model's event")));
        let transfer = Transfer::detached(Lent::new());
        let op = Op::new(Arc::clone(&transfer), Arc::clone(&doorbell));
        let owner = thread::spawn(move || drop(op));
        // As in the driver: a sweep that was requested finds the operation canceled.
        if doorbell.take_sweep() {
            assert!(transfer.canceled());
        }
        owner.join().expect("an owner");
        assert!(transfer.canceled());
        drop(transfer);
        assert_eq!(lent(), 0);
    });
}
