//! The world around an engine, as public reports describe it: directories that lose their names,
//! sandboxes that refuse calls, file systems that accept direct I/O and cache, one disk under many
//! numbers.

mod bypass;
#[path = "../harness/mod.rs"]
mod harness;
mod names;
mod older_calls;
mod places;
