//! Loads and saves tensors at the drive's own speed: safetensors files of any size, one or several, by name, by slice, or as a
//! stream within a budget of memory. It moves bytes with the engine [`deepring`] and knows no JavaScript.
//!
//! ```
//! use deepring::Engine;
//! use deepring_tensors::{Safetensors, StreamOptions};
//! # use deepring_tensors::{DType, Declared, SaveOptions, Source, save};
//! # let directory = tempfile::tempdir().unwrap();
//! # let path = directory.path().join("model.safetensors");
//! # let declared = Declared { name: "encoder.bias".into(), dtype: DType::F32, shape: vec![2] };
//! # let tensors = vec![Source { declared, data: vec![0u8; 8] }];
//! let engine = Engine::builder().build()?;
//! # save(&engine, &path, tensors, SaveOptions::new()).wait()?;
//! let model = Safetensors::open(&engine, &path).wait()?; // or .await
//! let encoder = model.table().filter(|info| info.name.starts_with("encoder."));
//! let mut stream = model.stream(&encoder, &StreamOptions::new().memory(256 << 20))?;
//! while let Some(tensor) = stream.wait_next() {
//!     let tensor = tensor?;
//!     println!("{} {:?} {}", tensor.name(), tensor.shape(), tensor.bytes().len());
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What it relies on, and what it does not
//!
//! A header is hostile until it is checked against its file: see [`Reason`] for everything that is refused. It takes its own
//! size in memory once more, and nothing that it merely claims. Tensors need no alignment in their file: they are placed in
//! memory so that direct I/O reaches them where they are. What replaces a file does so as a whole, or not at all.
//!
//! # Threads
//!
//! Every [`Job`] and [`TensorStream`] is polled by the program. Headers are read, layouts made and elements converted on
//! threads of the engine.
//!
//! # Features
//!
//! * `safetensors`: `safetensors::View` for [`Tensor`], so that the reference crate can save it.

#![forbid(unsafe_code)]
#![deny(missing_docs, missing_debug_implementations)]

#[doc(hidden)]
pub mod binding;
mod budget;
pub mod checkpoint;
mod checksums;
mod columns;
pub mod convert;
mod dtype;
mod error;
#[cfg(any(test, feature = "fuzz"))]
#[doc(hidden)]
pub mod fuzz;
mod header;
mod index;
mod job;
mod json;
mod layout;
mod load;
mod metadata;
mod names;
mod open;
mod order;
mod parallel;
mod plan;
mod progress;
mod read;
mod rows;
mod save;
mod sealed;
mod shapes;
mod shards;
mod slice;
mod split;
mod stream;
mod sums;
pub mod swap;
mod table;
mod tensor;
mod tensors;
mod verify;
mod writer;
mod written;

pub use convert::ConvertError;
pub use dtype::DType;
pub use error::{Error, Reason, Result};
pub use job::Job;
pub use layout::{Declared, Order};
pub use load::LoadOptions;
pub use metadata::Metadata;
pub use open::{OpenOptions, Safetensors};
pub use parallel::convert_shared;
pub use progress::Progress;
pub use read::LoadReceipt;
pub use rows::Row;
pub use save::{SaveOptions, SaveReceipt, Source, save};
pub use shards::save_sharded;
pub use slice::Slice;
pub use stream::{StreamOptions, TensorStream};
pub use table::{Selection, Table, TensorInfo};
pub use tensor::{Tensor, TensorMap};
pub use tensors::Tensors;
pub use verify::{Damage, Verification};
pub use writer::Writer;

/// Its examples are tests.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/swap.md")]
struct SwapPage;
