//! Checkpoints: generations that are whole or absent, one writer and several, and what is kept of them.

#[path = "../harness/mod.rs"]
mod harness;

mod child;
mod collect;
mod fails;
mod model;
mod one;
mod reuse;
mod several;
mod staging;
