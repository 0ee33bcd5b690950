//! The suite that `object_store` has for its own stores, in both versions, with either durability and on either backend. It
//! deletes everything in a store, so each run has a directory of its own.

#![allow(clippy::duplicate_mod, reason = "the same cases with either version")]

#[path = "../../../deepring/tests/harness/mod.rs"]
mod harness;
mod v013;
mod v014;
