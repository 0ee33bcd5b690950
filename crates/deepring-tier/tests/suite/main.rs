//! The suite that `object_store` has for its own stores, in both versions, over a tier before a store in memory, with the least
//! and the most that the tier may take for granted, and on either backend.

#![allow(clippy::duplicate_mod, reason = "the same cases with either version")]

#[path = "../../../deepring/tests/harness/mod.rs"]
mod harness;
mod v013;
mod v014;
