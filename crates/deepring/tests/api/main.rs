//! What programs in Rust expect of a file and a buffer beside transfers: descriptors in and out,
//! clones, parts of buffers, memory of other crates, buffers in a row, room and holes, deadlines, jobs,
//! an end that can be awaited.

mod buffers;
mod closing;
mod deadlines;
mod descriptors;
#[path = "../harness/mod.rs"]
mod harness;
mod jobs;
mod room;
mod threads;
#[cfg(feature = "tracing")]
mod traced;
mod vectored;
