//! What a tier promises beyond the suite of `object_store`. Through version 0.14: the other one is the same code.

#![allow(clippy::single_range_in_vec_init, reason = "lists of ranges have one range, too")]

#[path = "../../../deepring/tests/harness/mod.rs"]
mod harness;

mod bounds;
mod damage;
mod dropped;
mod hits;
mod oracle;
mod places;
mod processes;
mod quiet;
mod remote;
mod settings;
mod sharing;
mod trouble;
mod versions;
