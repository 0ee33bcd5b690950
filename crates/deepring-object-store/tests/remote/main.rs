//! Checkpoints that travel to and from object stores, in both versions.

#![allow(clippy::duplicate_mod, reason = "the same cases with either version")]

#[path = "../../../deepring/tests/harness/mod.rs"]
mod harness;

mod generations;
mod killed;
mod v013;
mod v014;
