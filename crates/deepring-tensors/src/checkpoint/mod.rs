//! Checkpoints: many tensors that become visible together, or not at all.
//!
//! ```text
//!   DIR/000000000042/                       a generation: committed, never changed; numbers only grow
//!      data-00000-main-00000.safetensors    the tensors of writer 0 in group main
//!      part-00000.json                      the tables of writer 0: its files, their sums, the tensors that are split
//!      manifest.json                        names the parts and sums them
//!      model.safetensors.index.json         only if no tensor is split
//!   DIR/.tmp-000000000043-<id>/lock-00000   a generation in progress: alive while one of its locks is held
//!   DIR/.trash-000000000007-<id>/           a generation that was retired
//!   DIR/.lock  DIR/.pins/000000000042       begin and collect exclude each other; a generation that stays
//! ```
//!
//! The modules that decide are pure: what a name is, what a text says, whether pieces cover a tensor, which generations go.

mod agree;
mod arrival;
mod block;
mod capture;
mod checked;
mod collect;
mod commit;
mod copy;
mod data;
mod file_check;
mod files;
mod finish;
mod generation;
mod join;
mod latest;
mod leaving;
mod listing;
mod manifest;
mod names;
mod options;
mod part;
mod planted;
mod put;
mod put_all;
mod retention;
mod reuse;
pub(crate) mod scan;
mod staging;
mod store;
mod temporary;
mod tiling;
mod token;
mod writer;

pub use arrival::{Arrival, ArrivingFile};
pub use collect::Collected;
pub use file_check::{CheckRun, FileCheck};
pub use generation::{Check, Checkpoint};
pub use latest::{Latest, Skipped};
pub use listing::{ListedFile, Listing};
pub use options::{BeginOptions, CheckpointOptions, JoinOptions, PutOptions, Reference, StoreOptions};
#[cfg(feature = "sim")]
pub use planted::{PlantedBug, plant};
pub use reuse::Reused;
pub use store::{Captured, Checkpoints};
pub use token::Token;
pub(crate) use writer::Prepared;
pub use writer::{CheckpointWriter, Generation};

/// What this thread has had of a processor. Other work on the machine does not count, so a test can bound it.
#[cfg(test)]
fn processor_time() -> std::time::Duration {
    const TICKS_PER_SECOND: u64 = 100;
    let stat = std::fs::read_to_string("/proc/thread-self/stat").expect("Linux");
    let (_, fields) = stat.rsplit_once(')').expect("the name of the thread is in parentheses");
    // utime and stime, the fields 14 and 15: the name is field 2.
    let ticks: u64 = fields.split_whitespace().skip(11).take(2).map(|field| field.parse::<u64>().expect("a number")).sum();
    std::time::Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND)
}
