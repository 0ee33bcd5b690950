//! Moves tensors and other large binary data between memory and NVMe at the drive's own speed, with
//! every byte accounted for.
//!
//! One thread drives one `io_uring` per [`Engine`]. Transfers bypass the page cache (`O_DIRECT`)
//! where the file allows it. They use aligned, huge-page backed [`Buffer`]s or any memory that
//! stays in place. Where there is no `io_uring`, a few threads do the same work.
//!
//! # Five promises
//!
//! * **exact**: a request moves exactly the bytes asked for, at any position, of any length, from
//!   any address. Or it fails with an [`Error`] that says how many bytes it moved. Every
//!   completion's result is read; short transfers are continued.
//! * **bounded**: the number of requests and of bytes in flight at a device is limited, however
//!   much is queued.
//! * **owned**: memory that the kernel can touch stays alive and in place until the kernel is done
//!   with it, even if futures, files or engines are dropped.
//! * **quiet**: an idle engine uses no CPU and makes no system call; a call blocks its caller only
//!   where its documentation says so.
//! * **honest**: the receipt of every request and [`Engine::info`] report what really ran, and why.
//!
//! # Example
//!
//! ```
//! use deepring::{Completed, Direct, Engine, OpenOptions};
//! # let directory = tempfile::tempdir().unwrap();
//! # let path = directory.path().join("weights.bin");
//! # std::fs::write(&path, vec![1u8; 1 << 20]).unwrap();
//! let engine = Engine::builder().build()?;
//! let file = engine.open(&path, OpenOptions::new().read(true).direct(Direct::Prefer))?;
//! let Completed { buf, result } = file.read_exact_at(engine.buffer(1 << 20)?, 0).wait(); // or .await
//! let receipt = result?; // on failure the buffer is still yours
//! assert_eq!((receipt.bytes, buf.map(|buf| buf[0])), (1 << 20, Some(1)));
//! # Ok::<(), deepring::Error>(())
//! ```
//!
//! # Threads
//!
//! An engine has one driver thread, and blocking threads that start when there is work for them. What
//! runs where, for code of yours:
//!
//! | code | thread |
//! |---|---|
//! | a waker of an [`Op`] | the driver's; of [`File::read_buffer_at`] also a blocking thread |
//! | a job of [`Engine::run_blocking`] | a blocking thread |
//! | a waker of a [`Task`] | a blocking thread; of [`Engine::close`] the driver's |
//! | [`binding::Completion`] and its `Drop` | the driver's, or the caller's if the request is settled at once |
//! | the `Drop` of a buffer whose [`Op`] was dropped | the driver's if that is cheap, else a blocking thread |
//! | [`IoBufMut::filled`] | as the waker |
//! | a subscriber of `tracing` | where the event happens: the caller's, the driver's or a blocking thread |
//!
//! Nothing of this may block on the driver, which serves all requests. A panic is caught and counted
//! ([`Stats::panics`]). These calls block their caller: [`Engine::open`], [`Engine::open_fd`],
//! [`Engine::trim`], [`Engine::info`], [`Engine::path_info`], [`Op::wait`], [`Task::wait`],
//! [`Buffer::populate`], the drop of the last engine, and the drop of the last [`File`] of a descriptor
//! with nothing in flight, which closes it. [`Engine::open_async`], [`Engine::close`] and
//! [`File::close`] are their forms that do not.
//!
//! # Features
//!
//! * `bytes`: `Bytes` and `BytesMut` of the crate `bytes` are buffers.
//! * `tracing`: events of the target `deepring`, few and never per request. `DEBUG`: a file was opened
//!   (`path`, `direct`, `reason`). `WARN`: a file has become buffered (`path`), a close took more than a
//!   second (`path`, `elapsed_ms`). `ERROR`: a ring was lost (`errno`, `leaked_blocks`).
//!
//! # Platforms
//!
//! 64-bit Linux: 5.6 or later for the ring, 4.14 or later for the threads. Set-up flags of later
//! kernels are used where the kernel grants them.

#![deny(missing_docs, missing_debug_implementations)]
#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
compile_error!("deepring needs 64-bit Linux");

mod backend;
mod batch;
pub mod binding;
mod blocking;
mod budget;
mod builder;
mod checksum;
mod closing;
mod completion;
mod config;
mod deadlines;
mod digest;
mod directory;
mod doorbell;
mod driver;
mod engine;
mod error;
mod extend;
mod file;
mod file_stat;
#[cfg(any(test, feature = "fuzz"))]
#[doc(hidden)]
pub mod fuzz;
mod gather;
mod handle;
mod inbox;
mod info;
mod inode;
mod intake;
mod lanes;
mod locks;
#[cfg(all(loom, test))]
mod loom;
mod many;
mod memory;
mod op;
mod open;
mod options;
mod pieces;
mod plan;
mod planted;
mod priority;
mod profile;
mod read_buffer;
mod replacement;
mod scatter;
mod share;
#[cfg(feature = "sim")]
pub mod sim;
mod slots;
mod stats;
mod sync;
mod sys;
mod timer;
mod trace;
mod unwind;
mod verify;
mod windows;

pub use backend::BackendKind;
pub use batch::Batch;
pub use builder::{EngineBuilder, QUEUE_DEPTH_DEFAULT};
pub use completion::Receipt;
pub use config::WindowMode;
pub use digest::{Checksum, crc32c, crc32c_append, crc32c_combine};
pub use directory::{Directory, FileLock, LockKind};
pub use engine::Engine;
pub use error::{Error, ErrorKind, Result};
pub use file::File;
pub use file_stat::FileStat;
pub use info::{HugePages, Info, PathInfo};
pub use locks::ProcessLocks;
pub use many::{Piece, Scattered};
pub use memory::{Buffer, IoBuf, IoBufMut, SharedBuffer, Slice, Spare, Steady};
pub use op::{Completed, Op, Task};
pub use open::{Direct, DirectSupport, OpenOptions};
pub use options::{ManyOptions, ReadOptions, WriteOptions};
pub use plan::Direction;
pub use priority::Priority;
pub use profile::ProfileInfo;
pub use replacement::{ReplaceOptions, Replacement, TemporaryNames};
pub use scatter::{FileRanges, ScatteredFiles};
pub use stats::{LatencyHistogram, LatencySummary, Stats};
pub use windows::{DeviceWindow, WindowSize};
