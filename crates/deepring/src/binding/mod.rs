//! The one seam for bindings: what another runtime needs beside the public API.
//!
//! A binding lends memory that belongs to its own runtime ([`RawTransfer`]). It receives results
//! in callbacks instead of futures ([`Completion`], the `*_then` methods), or one for many
//! transfers ([`Group`]). It submits many requests before it wakes the driver once, and gives the
//! requests of one handle a share of the device ([`Handle`]). Every callback of the engine runs
//! on one of its threads.
//!
//! ```
//! use deepring::binding::{Completion, EngineBinding, FileBinding, Outcome, RawTransfer};
//! use deepring::{Checksum, Direction, Engine, OpenOptions};
//! use std::sync::{Arc, mpsc};
//!
//! struct Report(mpsc::Sender<Outcome>);
//!
//! impl Completion for Report {
//!     fn settle(self: Arc<Self>, outcome: Outcome) {
//!         self.0.send(outcome).expect("a receiver");
//!     }
//!
//!     fn canceled(&self) -> bool {
//!         false
//!     }
//! }
//!
//! # let directory = tempfile::tempdir().unwrap();
//! # let path = directory.path().join("weights.bin");
//! # std::fs::write(&path, vec![7u8; 1 << 16]).unwrap();
//! let engine = Engine::builder().build()?;
//! let file = engine.open(&path, OpenOptions::new().read(true))?;
//! let mut memory = vec![0u8; 1 << 16];
//! let (address, len) = (memory.as_mut_ptr() as u64, memory.len() as u64);
//! let (sender, outcomes) = mpsc::channel();
//! let transfer = RawTransfer::new(Direction::Read, address, len, 0).exact(true);
//! // SAFETY: the memory lives until its outcome has arrived, and nothing touches it before.
//! unsafe { file.submit(transfer, Arc::new(Report(sender))) };
//! engine.wake();
//! let receipt = outcomes.recv().expect("one outcome").result?;
//! assert_eq!((receipt.bytes, memory[0]), (1 << 16, 7));
//! # Ok::<(), deepring::Error>(())
//! ```

mod group;

use crate::blocking::Line;
use crate::driver::request::{PathTarget, Target};
use crate::engine::Engine;
use crate::error::Result;
use crate::file::File;
use crate::file_stat::FileStat;
use crate::info::PathInfo;
use crate::many::SORTED_BY_LOOP;
use crate::memory::Buffer;
use crate::op::Completed;
use crate::open::OpenOptions;
use crate::options::ManyOptions;
use crate::plan::Direction;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

pub use crate::checksum::Walk;
pub use crate::completion::{Completion, Outcome, RawTransfer};
pub use crate::handle::{Handle, HandleLimits, Refill};
pub use crate::many::Ranges;
pub use crate::memory::MemoryLease;
pub use crate::open::Name;
pub use crate::pieces::Segment as RawRange;
pub use group::{Group, GroupFailure, Member};

/// For tests: from now on, direct I/O of this process counts as not pinning its pages, as before
/// Linux 6.5.
#[doc(hidden)]
pub fn assume_unpinned() {
    crate::open::assume_unpinned();
}

/// What a binding needs of an [`Engine`].
pub trait EngineBinding {
    /// Opens a file on a blocking thread, and passes it to `then` there. Errors are those of
    /// [`Engine::open`].
    fn open_then(&self, path: impl AsRef<Path>, options: OpenOptions, then: impl FnOnce(Result<File>) + Send + 'static);

    /// Submits a transfer of a file by path, without waking the driver: [`EngineBinding::wake`]
    /// must follow. With `whole`, a file that is read must be exactly `position + len` bytes
    /// long, and a file that is written will be. `mode` counts if the file is created.
    ///
    /// # Safety
    /// See [`RawTransfer`].
    unsafe fn submit_path(&self, path: &Path, whole: bool, mode: u32, transfer: RawTransfer, completion: Arc<dyn Completion>);

    /// Makes the driver look at what was submitted.
    fn wake(&self);

    /// Makes the driver look for requests whose completion reports that they are canceled.
    fn sweep(&self);

    /// Requests in flight per device, if a limit was asked for. As cheap as a load, unlike
    /// [`Engine::info`].
    fn queue_depth(&self) -> Option<u32>;

    /// Bytes per block. As cheap as a load, unlike [`Engine::info`].
    fn block_bytes(&self) -> u64;

    /// Whether both are the same engine.
    fn is_same(&self, other: &Self) -> bool;

    /// [`Engine::run_blocking`] without a task: the job reports by itself. It runs in any case, on a closed engine and in a
    /// forked child on the caller's thread. It looks at `path`: if that never answers, only jobs on paths in the same
    /// directory wait with it. Without a path, the job must not wait for a file system at all.
    fn run_blocking_on(&self, path: Option<&Path>, job: impl FnOnce() + Send + 'static);

    /// A handle with these limits. The block size is rounded up as the engine's own is, and cut
    /// to what can be in flight.
    fn handle(&self, limits: HandleLimits) -> Handle;

    /// [`Engine::path_info`], to be asked later: a relative path keeps the meaning it has now.
    fn path_info_later(&self, path: &Path) -> Box<dyn FnOnce() -> Result<PathInfo> + Send>;

    /// As [`FileBinding::verify_then`], by name.
    ///
    /// # Safety
    /// As there.
    unsafe fn verify_name_then(&self, name: Name, address: u64, len: u64, position: u64, then: impl FnOnce(Result<()>) + Send + 'static);
}

/// What a binding needs of a [`File`].
pub trait FileBinding {
    /// Submits a transfer without waking the driver: [`EngineBinding::wake`] must follow.
    ///
    /// # Safety
    /// See [`RawTransfer`].
    unsafe fn submit(&self, transfer: RawTransfer, completion: Arc<dyn Completion>);

    /// Submits a transfer of `count` ranges, at most 2^20, without waking the driver: [`EngineBinding::wake`] must follow. If
    /// there are many, `make` is called on a thread of the engine. It returns `None` if it refuses them: then nothing is
    /// transferred. When the completion is settled, `ranges` has what became of each.
    ///
    /// # Safety
    /// The memory of each range is as that of a [`RawTransfer`], until the completion is settled. That of a read is in no
    /// other range.
    unsafe fn submit_many(
        &self,
        direction: Direction,
        count: usize,
        make: impl FnOnce() -> Option<Vec<RawRange>> + Send + 'static,
        options: ManyOptions,
        ranges: &Ranges,
        completion: Arc<dyn Completion>,
    );

    /// See [`File::read_buffer_at`]. Does not wake the driver: [`EngineBinding::wake`] must follow. To
    /// cancel it, set `canceled` and call [`EngineBinding::sweep`]. `then` is called as
    /// [`Completion::settle`] is.
    fn read_buffer_then(
        &self,
        position: u64,
        length: usize,
        handle: Option<Arc<Handle>>,
        canceled: Arc<AtomicBool>,
        then: impl FnOnce(Completed<Buffer>) + Send + 'static,
    );

    /// See [`File::sync_all`] and [`File::sync_data`]. To end it while it waits for writes, set
    /// `canceled` and call [`EngineBinding::sweep`].
    fn sync_then(&self, data_only: bool, canceled: Arc<AtomicBool>, then: impl FnOnce(Result<()>) + Send + 'static);

    /// See [`File::set_len`]. `canceled` as for [`FileBinding::sync_then`].
    fn set_len_then(&self, size: u64, canceled: Arc<AtomicBool>, then: impl FnOnce(Result<()>) + Send + 'static);

    /// Appends `len` bytes of memory, and passes their number to `then`. `canceled` as for [`FileBinding::sync_then`]; an append
    /// that has begun is not canceled. The file must be open without direct I/O.
    ///
    /// # Safety
    /// `address..address + len` stays valid, in place and unchanged until `then` was called.
    unsafe fn append_then(&self, address: u64, len: u64, canceled: Arc<AtomicBool>, then: impl FnOnce(Result<u64>) + Send + 'static);

    /// See [`File::stat`].
    fn stat_then(&self, then: impl FnOnce(Result<FileStat>) + Send + 'static);

    /// See [`File::checksums`]. `canceled` as for [`FileBinding::sync_then`].
    fn checksum_then(&self, walk: Walk, canceled: Arc<AtomicBool>, then: impl FnOnce(Result<Vec<u32>>) + Send + 'static);

    /// See [`File::close`].
    fn close_then(self, then: impl FnOnce(Result<()>) + Send + 'static);

    /// Compares `len` bytes of memory with the file, through a separate descriptor and without
    /// leaving its pages in the page cache. The first difference is an error of kind
    /// [`crate::ErrorKind::Mismatch`] with its position.
    ///
    /// # Safety
    /// `address..address + len` stays valid, in place and unchanged until `then` was called.
    unsafe fn verify_then(&self, address: u64, len: u64, position: u64, then: impl FnOnce(Result<()>) + Send + 'static);
}

impl EngineBinding for Engine {
    fn open_then(&self, path: impl AsRef<Path>, options: OpenOptions, then: impl FnOnce(Result<File>) + Send + 'static) {
        Engine::open_then(self, path, options, then);
    }

    unsafe fn submit_path(&self, path: &Path, whole: bool, mode: u32, transfer: RawTransfer, completion: Arc<dyn Completion>) {
        let target = PathTarget { name: Name::of(path), whole, mode };
        Engine::submit(self, Target::Path(Box::new(target)), transfer, completion);
    }

    fn wake(&self) {
        Engine::wake(self);
    }

    fn sweep(&self) {
        self.core().inbox.doorbell().request_sweep();
    }

    fn queue_depth(&self) -> Option<u32> {
        self.core().config.queue_depth
    }

    fn block_bytes(&self) -> u64 {
        self.core().config.block_bytes
    }

    fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(self.core(), other.core())
    }

    fn run_blocking_on(&self, path: Option<&Path>, job: impl FnOnce() + Send + 'static) {
        Engine::run_on(self, path.map_or(Line::Memory, Line::of_path), job);
    }

    fn handle(&self, mut limits: HandleLimits) -> Handle {
        limits.block_bytes = self.core().config.handle_block_bytes(limits.block_bytes);
        Handle::new(limits)
    }

    fn path_info_later(&self, path: &Path) -> Box<dyn FnOnce() -> Result<PathInfo> + Send> {
        let (engine, name) = (self.clone(), Name::of(path));
        Box::new(move || engine.info_of(&name))
    }

    unsafe fn verify_name_then(&self, name: Name, address: u64, len: u64, position: u64, then: impl FnOnce(Result<()>) + Send + 'static) {
        if let Err(error) = self.core().check_process("read") {
            return then(Err(error));
        }
        let pool = Arc::clone(&self.core().pool);
        Engine::run_on(self, Line::of_path(&name.path), move || {
            // SAFETY: passed on from the caller of this function.
            then(unsafe { crate::verify::compare_path(&name, &pool, address, len, position) });
        });
    }
}

impl FileBinding for File {
    unsafe fn submit(&self, transfer: RawTransfer, completion: Arc<dyn Completion>) {
        // SAFETY: passed on from the caller of this function.
        unsafe { File::submit(self, transfer, completion) };
    }

    unsafe fn submit_many(
        &self,
        direction: Direction,
        count: usize,
        make: impl FnOnce() -> Option<Vec<RawRange>> + Send + 'static,
        options: ManyOptions,
        ranges: &Ranges,
        completion: Arc<dyn Completion>,
    ) {
        File::submit_many(self, direction, count <= SORTED_BY_LOOP, make, options, ranges, completion);
    }

    fn read_buffer_then(
        &self,
        position: u64,
        length: usize,
        handle: Option<Arc<Handle>>,
        canceled: Arc<AtomicBool>,
        then: impl FnOnce(Completed<Buffer>) + Send + 'static,
    ) {
        File::read_buffer_then(self, position, length, handle, canceled, then);
    }

    fn sync_then(&self, data_only: bool, canceled: Arc<AtomicBool>, then: impl FnOnce(Result<()>) + Send + 'static) {
        File::sync_then(self, data_only, canceled, then);
    }

    fn set_len_then(&self, size: u64, canceled: Arc<AtomicBool>, then: impl FnOnce(Result<()>) + Send + 'static) {
        File::set_len_then(self, size, canceled, then);
    }

    unsafe fn append_then(&self, address: u64, len: u64, canceled: Arc<AtomicBool>, then: impl FnOnce(Result<u64>) + Send + 'static) {
        // SAFETY: passed on from the caller of this function.
        unsafe { File::append_then(self, address, len, canceled, then) };
    }

    fn stat_then(&self, then: impl FnOnce(Result<FileStat>) + Send + 'static) {
        File::stat_then(self, then);
    }

    fn checksum_then(&self, walk: Walk, canceled: Arc<AtomicBool>, then: impl FnOnce(Result<Vec<u32>>) + Send + 'static) {
        File::checksum_then(self, walk, canceled, then);
    }

    fn close_then(self, then: impl FnOnce(Result<()>) + Send + 'static) {
        File::close_then(self, then);
    }

    unsafe fn verify_then(&self, address: u64, len: u64, position: u64, then: impl FnOnce(Result<()>) + Send + 'static) {
        // SAFETY: passed on from the caller of this function.
        unsafe { File::verify_then(self, address, len, position, then) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::BackendKind;

    #[test]
    fn the_largest_block_that_can_be_asked_for_is_the_largest_there_is() {
        let engine = Engine::builder().in_flight_bytes(10_000_000).backend(BackendKind::Threads).build().expect("an engine");
        let block = |bytes| engine.handle(HandleLimits { block_bytes: bytes, ..HandleLimits::default() }).limits().block_bytes;
        assert_eq!([block(u64::MAX), block(10_000_000), block(1), block(0)], [9_998_336, 9_998_336, 4096, 0]);
    }
}
