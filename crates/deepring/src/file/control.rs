//! Calls on a file other than transfers, with callbacks: sync, truncate, stat, close, verify. They run on blocking threads.

use super::File;
use crate::blocking::Line;
use crate::driver::{Barrier, Control, ControlJob, Message, Use};
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::file_stat::FileStat;
use crate::open::OpenFile;
use crate::sys::{self, Errno};
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

impl File {
    /// See [`File::sync_all`] and [`File::sync_data`]. To end it while it waits for writes, set
    /// `canceled` and call [`crate::binding::EngineBinding::sweep`].
    pub(crate) fn sync_then(&self, data_only: bool, canceled: Arc<AtomicBool>, then: impl FnOnce(Result<()>) + Send + 'static) {
        if let Err(error) = self.check_open(if data_only { "fdatasync" } else { "fsync" }) {
            return then(Err(error));
        }
        let epoch = self.file.inode.close_epoch();
        let file = Arc::clone(&self.file);
        let call = if data_only { "fdatasync" } else { "fsync" };
        self.control(Barrier::Sync(epoch), canceled, move |instead| {
            then(match instead {
                Some(kind) => Err(Error::new(kind, call).at(&file.path)),
                None => flush(&file, call, |fd| sys::file::sync(fd, data_only)),
            });
        });
    }

    /// Runs `job` on a blocking thread once every write that was accepted before has ended. It gets the reason if that cannot
    /// be waited for.
    pub(crate) fn after_writes(&self, job: impl FnOnce(Option<ErrorKind>) + Send + 'static) {
        self.control(Barrier::Sync(self.file.inode.close_epoch()), Arc::default(), job);
    }

    /// See [`File::set_len`]. `canceled` as for [`File::sync_then`].
    pub(crate) fn set_len_then(&self, size: u64, canceled: Arc<AtomicBool>, then: impl FnOnce(Result<()>) + Send + 'static) {
        if let Err(error) = self.check_open("ftruncate") {
            return then(Err(error));
        }
        let file = Arc::clone(&self.file);
        self.control(Barrier::Truncate, canceled, move |instead| {
            let failed = |kind| Error::new(kind, "ftruncate").at(&file.path);
            then(if let Some(kind) = instead {
                Err(failed(kind))
            } else {
                let _end = file.inode.lock_end();
                // Reads in flight can return what another process has appended, up to the new size.
                if let Ok(measured) = file.measure() {
                    file.inode.adopt_measured_if_quiet(measured);
                }
                let cut = sys::file::truncate(file.fd(), size).map_err(|errno| failed(ErrorKind::Os(errno)));
                cut.inspect(|()| file.inode.record_truncation(size))
            });
        });
    }

    /// See [`File::stat`].
    pub(crate) fn stat_then(&self, then: impl FnOnce(Result<FileStat>) + Send + 'static) {
        if let Err(error) = self.check_open("statx") {
            return then(Err(error));
        }
        let (file, using) = (Arc::clone(&self.file), self.using());
        self.engine.run_on(Line::Mount(file.fate), move || {
            then(stat(&file));
            drop(using);
        });
    }

    /// See [`File::close`].
    pub(crate) fn close_then(self, then: impl FnOnce(Result<()>) + Send + 'static) {
        if let Err(error) = self.check_process("close") {
            return then(Err(error));
        }
        let Self { engine, file, clones } = self;
        let is_last = Arc::into_inner(clones).is_some();
        // The others go on making requests, so only what was accepted before can be waited for.
        let barrier = if is_last { Barrier::Close } else { Barrier::Sync(file.inode.close_epoch()) };
        let closing = Arc::clone(&file);
        control(&engine, &file, barrier, Arc::default(), None, move |instead| {
            then(match instead {
                // If the engine has ended, so has everything that used the descriptor.
                None | Some(ErrorKind::Closed) if is_last => closing.close(),
                // The engine shuts down: there is no write left to wait for.
                Some(ErrorKind::Canceled | ErrorKind::Closed) | None => Ok(()),
                Some(kind) => Err(Error::new(kind, "close").at(&closing.path)),
            });
        });
    }

    pub(super) fn check_process(&self, call: &'static str) -> Result<()> {
        self.engine.core().check_process(call).map_err(|error| error.at(&self.file.path))
    }

    pub(crate) fn check_open(&self, call: &'static str) -> Result<()> {
        self.engine.core().check_open(call).map_err(|error| error.at(&self.file.path))
    }

    /// Keeps the descriptor open until it is dropped.
    pub(super) fn using(&self) -> Use {
        Use::of(&self.file, &self.engine.core().inbox)
    }

    pub(super) fn control(&self, barrier: Barrier, canceled: Arc<AtomicBool>, job: impl FnOnce(Option<ErrorKind>) + Send + 'static) {
        control(&self.engine, &self.file, barrier, canceled, None, job);
    }

    /// Compares `len` bytes of memory with the file, through a separate descriptor and without
    /// leaving its pages in the page cache. The first difference is an error of kind
    /// [`ErrorKind::Mismatch`] with its position.
    ///
    /// # Safety
    /// `address..address + len` stays valid, in place and unchanged until `then` was called.
    pub(crate) unsafe fn verify_then(&self, address: u64, len: u64, position: u64, then: impl FnOnce(Result<()>) + Send + 'static) {
        if let Err(error) = self.check_open("read") {
            return then(Err(error));
        }
        let file = Arc::clone(&self.file);
        let pool = Arc::clone(&self.engine.core().pool);
        let using = self.using();
        self.engine.run_on(Line::Verify(file.fate), move || {
            // SAFETY: passed on from the caller of this function.
            then(unsafe { crate::verify::compare_file(&file, &pool, address, len, position) });
            drop(using);
        });
    }
}

pub(super) fn control(
    engine: &Engine,
    file: &Arc<OpenFile>,
    barrier: Barrier,
    canceled: Arc<AtomicBool>,
    bytes: Option<Range<u64>>,
    job: impl FnOnce(Option<ErrorKind>) + Send + 'static,
) {
    let core = engine.core();
    let is_close = matches!(barrier, Barrier::Close);
    let using = if is_close { None } else { Some(Use::of(file, &core.inbox)) };
    let closing = Arc::clone(&core.closing);
    let job = ControlJob::new(move |instead| {
        let is_closed = instead == Some(ErrorKind::Panicked) && closing.is_requested();
        job(if is_closed { Some(ErrorKind::Closed) } else { instead });
        drop(using);
    });
    let control = Control { file: Arc::clone(file), barrier, job, canceled, bytes };
    if is_close && core.closing.is_requested() {
        // While the driver drains, a close waits for its requests as always.
        return core.inbox.post(Message::Control(control));
    }
    // Intake closes when the last engine goes, and the caller holds one; or when the engine was closed, or its driver has
    // unwound. Then the job, which is dropped, reports that.
    drop(core.inbox.push(Message::Control(control)));
}

/// Flushes a file by a call of this name, unless one has failed before.
pub(crate) fn flush(file: &OpenFile, call: &'static str, flush: impl FnOnce(&OwnedFd) -> std::result::Result<(), Errno>) -> Result<()> {
    if let Some(errno) = file.inode.sync_failure() {
        let advice = "data written to this file can be lost; write it again, to another file";
        return Err(Error::new(ErrorKind::SyncFailed(errno), call).at(&file.path).advise(advice));
    }
    flush(file.fd()).map_err(|errno| {
        file.inode.latch_sync_failure(errno);
        Error::os(errno, call).at(&file.path)
    })
}

pub(crate) fn stat(file: &OpenFile) -> Result<FileStat> {
    let _end = file.inode.lock_end();
    let failed = |errno| Error::os(errno, "statx").at(&file.path);
    let stat = sys::stat::stat(file.fd()).map_err(failed)?;
    let size = if file.is_block_device { file.measure().map_err(failed)? } else { file.inode.size_to_report(stat.size) };
    Ok(FileStat::of(&stat, size))
}
