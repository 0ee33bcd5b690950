//! The swap store: more tensors than fit in memory, within a budget.

#[path = "../harness/mod.rs"]
mod harness;

mod budget;
#[allow(dead_code, reason = "every test binary uses its own part of it")]
#[path = "../harness/child.rs"]
mod child;
mod damaged;
#[allow(dead_code, reason = "every test binary uses its own part of it")]
#[path = "../harness/disks.rs"]
mod disks;
mod forked;
mod killed;
mod large;
mod model;
mod plans;
mod puts;
mod reading;
mod reopened;
mod sizes;
mod slices;
mod snapshots;
mod threads;
mod versions;
