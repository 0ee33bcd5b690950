//! An `ObjectStore` on local NVMe drives, for engines that read and write through the crate
//! [`object_store`](https://docs.rs/object_store): DataFusion, Ballista, delta-rs, Lance, SlateDB and others. It reads and
//! writes with the engine [`deepring`], past the page cache where that is faster, and needs no runtime: neither tokio nor any
//! other.
//!
//! ```
//! # #[cfg(feature = "v014")]
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # use deepring_object_store::v014::object_store;
//! use deepring::Engine;
//! use deepring_object_store::DeepringStore;
//! use object_store::path::Path;
//! use object_store::{ObjectStore, ObjectStoreExt, PutMode, UpdateVersion};
//! # let directory = tempfile::tempdir()?;
//! # pollster::block_on(async {
//! let engine = Engine::builder().build()?; // one for the process
//! let store = DeepringStore::builder(&engine).prefix(directory.path()).build()?;
//! let table = Path::from("warehouse/part-0.parquet");
//!
//! let put = store.put(&table, vec![7u8; 100_000].into()).await?; // on the drive when this returns
//! let ranges = store.get_ranges(&table, &[0..4, 50_000..60_000]).await?; // one request, no copies
//! assert_eq!((ranges[0].len(), ranges[1].len()), (4, 10_000));
//!
//! // Only if no other put has replaced it since.
//! let version = UpdateVersion { e_tag: put.e_tag, version: None };
//! store.put_opts(&table, "new".into(), PutMode::Update(version.clone()).into()).await?;
//! let late = store.put_opts(&table, "newer".into(), PutMode::Update(version).into()).await;
//! assert!(matches!(late, Err(object_store::Error::Precondition { .. })));
//! # Ok(())
//! # })
//! # }
//! # #[cfg(not(feature = "v014"))]
//! # fn main() {}
//! ```
//!
//! # Features, and two versions at once
//!
//! `v013` and `v014` are the versions 0.13 and 0.14 of `object_store`, whose traits are unrelated for the compiler. With both,
//! one [`DeepringStore`] is an `ObjectStore` of either, for programs in which DataFusion and Lance meet. None is on by default.
//! The modules of the same names reexport the crate in that version.
//!
//! With `checkpoint`, both modules have `RemoteCheckpoints` as well: checkpoints of the crate
//! [`deepring-tensors`](https://docs.rs/deepring-tensors) travel to and from any object store, S3 for example.
//!
//! # What it promises
//!
//! * **A put is atomic.** No reader sees a part of an object. A crash leaves the old object or the new one, and at most a file that
//!   is not listed, which [`DeepringStore::sweep`] removes.
//! * **What succeeded stays**, with [`Durability::Synced`], the default: after a power failure, a put, a copy, a rename and a
//!   delete are there, with the directories that were made for them.
//! * **`PutMode::Create` and `PutMode::Update` are atomic** among all processes of the host that use this crate. `Update` cannot
//!   keep out other programs that write to the directory, and works neither over NFS nor where times are kept in whole
//!   milliseconds: it is refused there.
//! * **An `ETag` is a version.** It changes with every put, also of the same length and within a tick of the kernel's clock, and is
//!   the same in put, head, get and list. A copy is a second name of the same file, and has its `ETag`.
//! * **Reads copy nothing.** Ranges are widened to the units of direct I/O, neighbors are merged, and all are read in one
//!   request into memory of the engine, of which the results are parts. A result keeps the buffer that it is in: up to 1 MiB, or the
//!   read that it was merged into.
//! * **A dropped future leaves nothing**: neither memory nor a file. A read that was dropped is canceled. A put is published or
//!   not, as a whole.
//!
//! # Names
//!
//! The path of an object is the path of its file below the prefix, as with `object_store::local::LocalFileSystem`, and both see
//! the same objects. Names with `#` and digits at the end are kept for files in progress. Links are followed, also out of the
//! prefix: a user who can make links in its directory decides what the store shows. A put takes the name from a link, and
//! leaves alone what it leads to. Attributes and versions are not supported, and tags are ignored.
//!
//! # Threads
//!
//! Calls of the file system run on threads of the engine, never on the caller's. Opening and reading are futures of the engine
//! ([`deepring::Op`]), which any executor can poll.

#![cfg_attr(not(any(feature = "v013", feature = "v014")), allow(dead_code, reason = "without a version, nothing calls it"))]
#![allow(clippy::duplicate_mod, reason = "one source for the traits of two versions, which are unrelated for the compiler")]
#![forbid(unsafe_code)]
#![deny(missing_docs, missing_debug_implementations)]

mod builder;
mod copy;
mod directories;
mod failure;
mod get;
mod held;
mod list;
mod names;
mod publish;
mod put;
mod ranges;
mod remove;
mod settings;
mod stats;
mod store;
mod sweep;
#[cfg(feature = "checkpoint")]
mod transfer;
mod upload;
#[cfg(feature = "v013")]
pub mod v013;
#[cfg(feature = "v014")]
pub mod v014;
mod version;

pub use builder::{BuildError, DeepringStoreBuilder};
pub use settings::{Durability, Locking};
pub use stats::StoreStats;
pub use store::DeepringStore;
pub use sweep::Swept;
#[cfg(feature = "checkpoint")]
pub use transfer::Transfer;

/// Its examples are tests.
#[cfg(all(doctest, feature = "checkpoint", feature = "v014"))]
#[doc = include_str!("../../../docs/checkpoint.md")]
struct CheckpointPage;
