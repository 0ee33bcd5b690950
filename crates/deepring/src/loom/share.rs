//! A device between two engines: one gives back what the other waits for.

use super::{explore, noticed};
use crate::budget::Cost;
use crate::doorbell::Doorbell;
use crate::planted::PlantedBug;
use crate::share::Devices;
use crate::sync::thread;
use crate::sys::event::Event;
use std::sync::Arc;

const ALL: Cost = Cost { blocks: 1, requests: 1, bytes: 1 };

fn handed_over() {
    let devices = Devices::default();
    let bells = [(); 2].map(|()| Arc::new(Doorbell::new(Event::new().expect("a model's event"))));
    let [mut first, mut second] = [0, 1].map(|index| devices.join(1, ALL, &bells[index]));
    assert!(first.take(ALL));
    let giving = thread::spawn(move || {
        first.give(ALL);
        first
    });
    // As the driver does: it tries, and sleeps until it is woken.
    while !second.take(ALL) {
        if bells[1].park() {
            bells[1].event().wait();
            bells[1].unpark();
        }
    }
    second.give(ALL);
    drop(giving.join().expect("no panic"));
}

#[test]
fn an_engine_that_waits_for_a_device_is_woken_when_another_gives_back() {
    explore(None, handed_over);
}

#[test]
fn an_engine_that_wakes_no_other_is_noticed() {
    noticed(PlantedBug::WakesNoEngine, "deadlock", None, handed_over);
}
