//! A read-through cache on local NVMe drives, in front of any `ObjectStore` of the crate
//! [`object_store`](https://docs.rs/object_store): S3, GCS, Azure, HTTP, or another one. What was read once is read from the drive
//! the next time, by [`deepring`], past the page cache. It needs no runtime of its own.
//!
//! ```
//! # #[cfg(feature = "v014")]
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # use deepring_tier::v014::object_store;
//! use deepring_tier::{Tier, Validate, v014::TieredStore};
//! use object_store::{ObjectStore, ObjectStoreExt, memory::InMemory, path::Path};
//! use std::sync::Arc;
//! # let directory = tempfile::tempdir()?;
//! # let nvme = directory.path();
//! # pollster::block_on(async {
//! let engine = deepring::Engine::builder().build()?; // one for the process
//! let tier = Tier::builder(&engine)
//!     .validate("*.parquet", Validate::Immutable) // written once, so never asked for again
//!     .open(nvme.join("tier"), 64 << 20)?; // what it takes on the drive, to the byte
//!
//! let bucket = Arc::new(InMemory::new()); // an AmazonS3, for example
//! let store = TieredStore::new(&tier, bucket, "s3://bucket"); // an ObjectStore, too
//! let part = Path::from("warehouse/part-0.parquet");
//! store.put(&part, vec![7; 1_000_000].into()).await?;
//!
//! let columns = [0..1000, 500_000..600_000];
//! let first = store.get_ranges(&part, &columns).await?; // fetched, and written to the drive behind the caller's back
//! tier.flush().await;
//! let second = store.get_ranges(&part, &columns).await?; // one request to the drive, checked, no copies
//! assert!(first == second);
//! assert_eq!((tier.stats().fetches, tier.stats().hits), (1, 4));
//! # Ok(())
//! # })
//! # }
//! # #[cfg(not(feature = "v014"))]
//! # fn main() {}
//! ```
//!
//! # Features, and two versions at once
//!
//! `v013` and `v014` are the versions 0.13 and 0.14 of `object_store`, whose traits are unrelated for the compiler. With both, one
//! [`Tier`] serves stores of either, for programs in which DataFusion and Lance meet. None is on by default. The modules of the
//! same names reexport the crate in that version.
//!
//! # What it promises
//!
//! * **No read mixes two versions.** Bytes are kept by `ETag`, and every fetch of a version that is known says `If-Match`. If the
//!   remote has another one by then (412), what is known of the object is forgotten, and the call starts over, once. In the middle
//!   of a stream it ends with an error, [`Fault::Changed`] or that of the remote.
//! * **How old what it says can be is yours to set**: [`Validate`], by path. Logs and manifests of tables bypass it by default.
//! * **What is damaged is not there.** Each cell of 64 KiB has a checksum, which is compared before a byte is returned. A cell that
//!   does not match, and a drive that fails, are misses.
//! * **A crash costs misses.** Nothing is flushed, at any time. A record of the index is written after its cells; it has a checksum,
//!   too, and what does not match is dropped.
//! * **It is bounded**: on the drive to its capacity, in memory to an index of about 0.15 GB per TB, `max_fill_bytes`, and
//!   what its calls have in flight.
//! * **Concurrent misses share one fetch**, by cells. A call that is dropped takes its fetch along only if nobody else waits for it.
//! * **A remote that misbehaves gets an error**: one that hangs, or sends too little, too much or something else
//!   ([`Fault`]). Nothing of that is cached. Without an `ETag`, or with a weak one, objects are served and not cached.
//!
//! The same strong `ETag` with other bytes cannot be detected: HTTP forbids it.
//!
//! # Durability
//!
//! A cache has nothing that is not elsewhere. Puts, deletes, copies and renames go to the remote as they are, and are as durable as it
//! makes them. What they change is forgotten before and after, in memory and on the drive. Without a flush, a power failure can
//! bring such a record back: with [`Validate::Immutable`], an object that was deleted just before can then be read until the
//! remote is asked for it. Others are not affected: the remote is asked.
//!
//! # Threads
//!
//! Bytes that were fetched go to the drive on threads of the engine, as [`deepring::Engine::run_blocking`] has them. Fetches run in
//! the tasks of those who wait for them, so a remote that needs tokio finds it there. One thread counts the time of requests to
//! the remote; it sleeps otherwise.

#![cfg_attr(not(any(feature = "v013", feature = "v014")), allow(dead_code, reason = "without a version, nothing calls it"))]
#![allow(clippy::duplicate_mod, reason = "one source for the traits of two versions, which are unrelated for the compiler")]
#![forbid(unsafe_code)]
#![deny(missing_docs, missing_debug_implementations)]

mod attributes;
mod builder;
mod cells;
mod extent;
mod failure;
mod fetch;
mod fills;
mod flights;
mod gather;
mod hits;
mod identity;
mod index;
mod inner;
mod known;
mod pieces;
mod record;
mod recovery;
mod remote;
mod rules;
mod serve;
mod slots;
mod stats;
mod store;
mod tier;
mod timed;
#[cfg(feature = "v013")]
pub mod v013;
#[cfg(feature = "v014")]
pub mod v014;

pub use builder::{OpenError, TierBuilder};
pub use failure::Fault;
pub use rules::Validate;
pub use stats::TierStats;
pub use tier::Tier;

/// The examples of the README are compiled.
#[cfg(all(doctest, feature = "v014"))]
#[doc = include_str!("../README.md")]
struct Readme;
