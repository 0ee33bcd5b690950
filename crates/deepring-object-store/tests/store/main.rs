//! What the store promises beyond the suite of `object_store`. Most of it through version 0.14: the other one is the same code.

#[path = "../../../deepring/tests/harness/mod.rs"]
mod harness;

mod dropped;
mod faults;
mod listing;
mod names;
mod places;
mod processes;
mod reading;
mod tags;
mod uploads;
mod writing;
