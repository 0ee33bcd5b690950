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

mod json;
mod manifest;
mod names;
mod part;
mod retention;
mod sealed;
mod tiling;
