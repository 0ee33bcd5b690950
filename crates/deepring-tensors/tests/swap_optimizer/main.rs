//! The optimizer swapper: every byte of every group as in memory, at any depth, through failures, kills and checkpoints.

#[path = "../harness/child.rs"]
#[allow(dead_code, reason = "every test binary uses its own part of it")]
mod child;
#[path = "../harness/disks.rs"]
#[allow(dead_code, reason = "every test binary uses its own part of it")]
mod disks;
#[path = "../harness/mod.rs"]
mod harness;

mod fails;
mod filled;
mod gradients;
mod killed;
mod model;
mod opened;
mod random;
mod snapshots;
mod steps;
