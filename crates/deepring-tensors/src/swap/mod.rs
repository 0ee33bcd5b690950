//! Swap: more tensors than fit in memory, in one file, within a budget of memory that is never exceeded.
//!
//! ```text
//!   DIR/data     the bytes of all versions, in extents of whole pages
//!   DIR/index    which tensors there are, and where: as of the last flush
//!   DIR/lock     held while the store is open
//! ```
//!
//! The modules that decide are pure: which bytes of the file are free, what is used next, what the index says. The books of a
//! store (`state`, `grant`, `work`) are kept under one lock, and nothing waits in them. Reads and writes report to them, and
//! calls wait until they have what they need.

mod bring;
mod directory;
mod entry;
mod extents;
mod flush;
mod forecast;
mod grant;
mod index;
mod lease;
pub(crate) mod lent;
mod open;
mod optimizer;
mod options;
mod planted;
mod read;
mod shared;
mod snapshot;
mod space;
mod state;
mod stats;
mod store;
mod task;
mod version;
mod work;
mod write;

pub use lease::SwapLease;
pub use optimizer::{Depth, Group, GroupLease, OptimizerOptions, OptimizerStats, OptimizerSwapper, Parts, Step, Write};
pub use options::{SwapOptions, SwapPutOptions};
#[cfg(feature = "sim")]
pub use planted::{Done, PlantedBug, plant, watch};
pub use stats::{SwapInfo, SwapState, SwapStats};
pub use store::SwapStore;
