//! Checkpoints: generations that are whole or absent, one writer and several, and what is kept of them.

#[path = "../harness/mod.rs"]
mod harness;

mod arrives;
#[path = "../harness/child.rs"]
mod child;
mod collect;
mod damaged;
#[path = "../harness/disks.rs"]
mod disks;
mod fails;
mod killed;
mod model;
mod one;
mod races;
mod reading;
mod reuse;
mod several;
mod staging;
