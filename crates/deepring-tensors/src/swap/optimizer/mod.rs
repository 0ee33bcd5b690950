//! The optimizer swapper: parameters and states of an optimizer in a file, a group at a time in memory.
//!
//! ```text
//!   group       …  k-2   k-1    k     k+1   k+2  …
//!                writing    leased    reading              depth 2: five groups in memory
//! ```
//!
//! `geometry`, `coverage`, `index` and `stats` are pure.

mod coverage;
mod flush;
mod geometry;
mod gradient;
mod index;
mod initialize;
mod lease;
mod memory;
mod options;
mod shared;
mod snapshot;
mod stats;
mod step;
mod swapper;
mod wakers;

pub use lease::{GroupLease, Parts, Write};
pub use options::{Depth, Group, OptimizerOptions};
pub use stats::OptimizerStats;
pub use step::Step;
pub use swapper::OptimizerSwapper;
