//! Checkpoints: generations that are whole or absent, one writer and several, and what is kept of them.

#[path = "../harness/mod.rs"]
mod harness;

mod child;
mod collect;
mod damaged;
mod fails;
mod model;
mod one;
mod races;
mod reading;
mod reuse;
mod several;
mod staging;
