//! Whether each outcome is one that is allowed.
//!
//! Each request is judged when it settles. Its error must have a cause, its count must fit the
//! file's length, and the bytes that it read must be ones that were written. An acknowledged write
//! must be in the file at that moment. A file without unsettled requests is read and compared as a
//! whole.

use super::buffer::UNREAD;
use super::checksum::judge_checksum;
use super::model::{Alternative, View, byte};
use super::request::{Delivered, Holder, Memory, Request, RequestKind, request_waker};
use super::run::{Run, is_violated};
use super::world::{self, Reported, violate};
use crate::completion::Receipt;
use crate::digest::Checksum;
use crate::error::{Error, ErrorKind, Result};
use crate::op::Completed;
use std::future::Future;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::PoisonError;
use std::task::{Context, Poll};

impl Run {
    /// Judges what has settled since the last step.
    pub(super) fn judge_all(&mut self) {
        let reported = world::with(|world| std::mem::take(&mut world.reported)).unwrap_or_default();
        for reported in reported {
            if is_violated() {
                return;
            }
            match reported {
                Reported::Transfer { id, outcome } => self.judge_transfer(id, outcome),
                Reported::Control { id, result } => self.judge_control(id, &result),
            }
        }
    }

    /// Judges a transfer that settled at its first poll.
    pub(super) fn judge_refused(&mut self, id: u64, completed: Completed<Memory>) {
        world::with(|world| world.settled(id, Some(false)));
        let Some(request) = self.requests.remove(&id) else { return };
        let Completed { buf, result } = completed;
        self.judge(id, &request, buf.as_ref(), Some(&result));
        self.check_if_idle(request.file);
    }

    fn judge_transfer(&mut self, id: u64, outcome: Option<(Result<Receipt>, bool)>) {
        let Some(mut request) = self.requests.remove(&id) else { return violate(format!("request {id} settled and was never made")) };
        if request.by_path {
            self.check_closed(id, &request);
        }
        let holder = std::mem::replace(&mut request.holder, Holder::Dropped);
        let lost_before = world::with(|world| world.lost_rings > 0).unwrap_or(false);
        match (holder, outcome) {
            (Holder::Raw(memory, _), Some((result, lost))) => {
                if lost && !lost_before {
                    violate(format!("request {id} lost its memory although no ring was lost"));
                }
                self.judge(id, &request, Some(&memory), Some(&result));
                if lost {
                    std::mem::forget(memory);
                }
            }
            (Holder::Op(mut op), None) => match Pin::new(&mut op).poll(&mut Context::from_waker(&request_waker(id))) {
                Poll::Pending => violate(format!("request {id} has settled and its operation is pending")),
                Poll::Ready(Completed { buf, result }) => {
                    if buf.is_none() && !lost_before {
                        violate(format!("request {id} did not get its buffer back: {result:?}"));
                    }
                    self.judge(id, &request, buf.as_ref(), Some(&result));
                }
            },
            (Holder::Own(delivered, _), None) => self.judge_own(id, &request, &delivered),
            (Holder::Dropped, None) => self.judge(id, &request, None, None),
            _ => violate(format!("request {id} settled through another entry point than it was made")),
        }
        self.check_if_idle(request.file);
    }

    /// A read that brought its own memory shows bytes of the file and zeros, or nothing.
    fn judge_own(&mut self, id: u64, request: &Request, delivered: &Delivered) {
        let delivered = delivered.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Completed { buf, result }) = delivered else { return violate(format!("request {id} has settled without an outcome")) };
        if buf.is_some() != result.is_ok() {
            violate(format!("request {id} brought a buffer {}, and {result:?}", buf.is_some()));
        }
        let got = result.as_ref().map_or(0, |receipt| receipt.bytes as usize);
        if buf.as_ref().is_some_and(|buf| buf[got.min(buf.len())..].iter().any(|&byte| byte != 0)) {
            violate(format!("request {id} shows old bytes behind the {got} that it read"));
        }
        self.judge(id, request, buf.map(Memory::Pooled).as_ref(), Some(&result));
    }

    /// A request by path settles after its file was closed.
    fn check_closed(&self, id: u64, request: &Request) {
        let number = self.files[request.file].number;
        let is_open = |number| world::with(|world| world.is_open(number)) == Some(true);
        let opened = self.openings.iter().filter(|opening| opening.file == request.file && is_open(opening.number)).count();
        let others = self.unsettled_on(request.file).filter(|other| other.by_path).count();
        // Its descriptor can carry the lock of the end, which requests share: then it stays until they have ended.
        let others = others + usize::from(self.unsettled_on(request.file).next().is_some());
        world::with(|world| {
            let open = world.descriptors_of(number);
            if world.unwound == 0 && open > opened + others {
                world.violate(format!("request {id} by path has settled with {open} descriptors of its file open, {opened} are others'"));
            }
        });
    }

    /// `result` is `None` if the client has dropped the operation and does not see it.
    fn judge(&mut self, id: u64, request: &Request, memory: Option<&Memory>, result: Option<&Result<Receipt>>) {
        self.probe_file(request.file);
        if let Some(Err(error)) = result
            && let Err(why) = self.find_cause(request, error)
        {
            violate(format!("request {id} ({:?} {}..{}) failed without a cause: {error}: {why}", request.kind, request.start, request.end));
        }
        let len = request.end - request.start;
        let transferred = match result {
            Some(Ok(receipt)) => receipt.bytes,
            Some(Err(error)) if let Some(split) = &request.split => {
                // Which of the other ranges were moved is not known.
                split.judge_error(id, error);
                0
            }
            Some(Err(error)) => error.transferred(),
            None => 0,
        };
        if transferred > len {
            violate(format!("request {id} moved {transferred} bytes of {len}"));
        }
        judge_checksum(id, request, memory, result);
        if request.kind.reads() {
            self.judge_read(id, request, memory, result);
        } else {
            self.judge_write(id, request, transferred.min(len), result);
            let unchanged = |memory: &Memory| {
                View { start: request.start, bytes: vec![], alternatives: vec![written_by(request)] }.mismatch(&request.content(memory))
            };
            if let Some(wrong) = memory.and_then(unchanged) {
                violate(format!("the memory that request {id} writes from was changed: {wrong}"));
            }
        }
    }

    fn judge_read(&mut self, id: u64, request: &Request, memory: Option<&Memory>, result: Option<&Result<Receipt>>) {
        let (Some(memory), Some(result), Some(view)) = (memory, result, &request.view) else { return };
        let len = request.end - request.start;
        // The bounds of the file's length while the read was in flight.
        let size_min = request.concurrent.iter().filter_map(|change| change.truncates).fold(request.sizes.0, u64::min);
        let size_max = request.concurrent.iter().map(super::model::ConcurrentChange::reach).fold(request.sizes.1, u64::max);
        // A file whose trim failed is longer than promised, and the next open takes that length for
        // granted.
        let number = self.files[request.file].number;
        let untrimmed = world::with(|world| world.facts(number).untrimmed).unwrap_or(false);
        let size_max = if untrimmed { u64::MAX } else { size_max };
        let (least, most) = (size_min.saturating_sub(request.start).min(len), size_max.saturating_sub(request.start).min(len));
        let got = match result {
            Ok(receipt) => receipt.bytes,
            Err(_) if request.split.is_some() => 0,
            Err(error) => error.transferred(),
        };
        let ended = match result {
            Ok(_) => true,
            Err(error) => matches!(error.kind(), ErrorKind::Eof | ErrorKind::Checksum { .. }) && request.split.is_none(),
        };
        if let (Some(split), Ok(_)) = (&request.split, result) {
            split.judge_counts(id, got);
        }
        if ended && !(least..=most).contains(&got) {
            violate(format!("request {id} read {got} bytes at {}, not {least} to {most}: {result:?}", request.start));
        }
        let must_be_whole = matches!(request.kind, RequestKind::Read { exact: true } | RequestKind::ReadWhole);
        if result.is_ok() && must_be_whole && got != len {
            violate(format!("request {id} promised {len} bytes and read {got}"));
        }
        if result.as_ref().is_err_and(|error| error.kind() == ErrorKind::Eof) && got == len {
            violate(format!("request {id} read everything and reports the end of the file"));
        }
        if result.as_ref().is_err_and(|error| error.kind() == ErrorKind::SizeMismatch) && size_min == size_max && size_min == len {
            violate(format!("request {id} reports a size mismatch for a file of {len} bytes as asked"));
        }
        let mut view = view.clone();
        for change in &request.concurrent {
            view.alternatives.push(Alternative { start: change.start, end: change.end, writer: Some(change.salt) });
            // An extender leaves zeros between the end of the file and its start, or up to the new
            // length. If another process has truncated the file and the engine has not noticed, the
            // zeros can also lie in the range that is being written. Many ranges are written in no order.
            let scattered = world::with(|world| world.is_scattered(change.salt)).unwrap_or(false);
            let end = if scattered || self.files[request.file].size_outdated { change.end } else { change.start };
            view.alternatives.push(Alternative { start: request.sizes.0, end, writer: None });
            if let Some(size) = change.truncates {
                // A truncated range reads as zeros when the file is extended again.
                view.alternatives.push(Alternative { start: size, end: u64::MAX, writer: None });
            }
        }
        let got = if untrimmed { got.min(request.sizes.0.saturating_sub(request.start)) } else { got };
        if result.is_err() && world::with(|world| world.summed.is_flipped(id)) == Some(true) {
            return;
        }
        let found = &request.content(memory)[..got.min(len) as usize];
        if let Some(wrong) = view.mismatch(found) {
            let unread = found.contains(&UNREAD);
            let arrived = if unread { "some never arrived" } else { "all arrived" };
            violate(format!("request {id} read {got} bytes at {} ({arrived}): {wrong}", request.start));
        }
    }

    fn judge_write(&mut self, id: u64, request: &Request, transferred: u64, result: Option<&Result<Receipt>>) {
        let (start, end, salt) = (request.start, request.end, request.salt);
        let len = end - start;
        let file = &mut self.files[request.file];
        let Some(result) = result else {
            // It can have written any part of its range.
            file.model.allow(start, end, Some(salt));
            file.model.size_max = file.model.size_max.max(end);
            if request.kind == RequestKind::WriteWhole {
                file.model.allow(end, u64::MAX, None);
                file.model.size_min = file.model.size_min.min(len);
            }
            return;
        };
        if result.is_ok() && transferred != len {
            violate(format!("request {id} wrote {transferred} of {len} bytes and reports success"));
        }
        if request.kind == RequestKind::WriteWhole && result.as_ref().is_err_and(|error| error.kind() == ErrorKind::Panicked) {
            // How far it came is not known: it can have ended the file where it ends.
            file.model.allow(len, u64::MAX, None);
            file.model.size_min = file.model.size_min.min(len);
        }
        // A truncation that raced with the write came before or after it.
        let truncated_to = request.concurrent.iter().filter_map(|change| change.truncates).min().unwrap_or(u64::MAX);
        // If only the close failed, the file has its length.
        let ended = transferred == len && result.as_ref().map_or_else(|error| error.syscall() == "close", |_| true);
        if request.kind == RequestKind::WriteWhole && ended {
            file.model.truncate(len, &[]);
        } else if request.kind == RequestKind::WriteWhole && transferred == len {
            // Everything was written, and the trim failed.
            file.model.size_min = file.model.size_min.min(len);
        }
        let reached = start + transferred;
        file.model.write(start, reached.min(truncated_to), salt);
        if reached > truncated_to {
            file.model.allow(start.max(truncated_to), reached, Some(salt));
            file.model.allow(start.max(truncated_to), reached, None);
            file.model.size_max = file.model.size_max.max(reached);
            file.model.size_min = file.model.size_min.min(truncated_to);
        }
        file.model.allow(reached, end, Some(salt));
        if (file.size_outdated || self.profile.copies || request.split.is_some()) && result.is_err() {
            // The engine did not know that the file had become shorter, and had no reason to trim
            // it. Or a copy yielded the end to another, and left room for what it had accepted. Or it was in another range
            // that the write failed.
            file.model.size_max = file.model.size_max.max(end);
        }
        if result.is_ok() && len > 0 && truncated_to == u64::MAX {
            self.check_acknowledged(id, request);
        }
    }

    /// Checks that a write that was just acknowledged is in the file now.
    fn check_acknowledged(&mut self, id: u64, request: &Request) {
        let Some(probe) = &self.files[request.file].probe else {
            return violate(format!("request {id} wrote to a file that does not exist"));
        };
        let mut found = vec![0; (request.end - request.start) as usize];
        if probe.read_exact_at(&mut found, request.start).is_err() {
            return violate(format!("request {id} was acknowledged and the file ends before {}", request.end));
        }
        if let Some(wrong) = (View { start: request.start, bytes: vec![], alternatives: vec![written_by(request)] }).mismatch(&found) {
            violate(format!("request {id} ({}..{}) was acknowledged and is not in the file: {wrong}", request.start, request.end));
        }
    }

    fn judge_control(&mut self, id: u64, result: &Result<()>) {
        let Some(request) = self.requests.remove(&id) else { return violate(format!("control {id} settled and was never made")) };
        if let Err(error) = result
            && let Err(why) = self.find_cause(&request, error)
        {
            violate(format!("{:?} {id} failed without a cause: {error}: {why}", request.kind));
        }
        let file = &mut self.files[request.file];
        match (request.kind, result) {
            (RequestKind::Truncate(size), Ok(())) => {
                file.model.truncate(size, &request.concurrent);
                file.size_outdated = false;
                world::with(|world| world.facts(file.number).untrimmed = false);
            }
            (RequestKind::Sync, Ok(())) if file.sync_failed => violate(format!("sync {id} succeeded after one had failed")),
            (RequestKind::Sync, Err(error)) if error.errno().is_some() => file.sync_failed = true,
            _ => {}
        }
        self.check_if_idle(request.file);
    }

    /// Looks for the cause of an error.
    ///
    /// # Errors
    /// There is none; says which cause is missing.
    fn find_cause(&mut self, request: &Request, error: &Error) -> std::result::Result<(), &'static str> {
        let file = &self.files[request.file];
        let stopping = self.engines[request.engine].api.is_none();
        let number = (file.number > 0).then_some(file.number);
        let yes = |reason: bool, why: &'static str| if reason { Ok(()) } else { Err(why) };
        match error.kind() {
            ErrorKind::Os(libc::ENOENT) => yes(request.by_path && !request.existed, "the file existed"),
            ErrorKind::Os(libc::EINVAL) => {
                let required = request.opening.is_some_and(|index| self.openings[index].required);
                yes(required, "the file allows buffered I/O")
            }
            ErrorKind::Os(errno) => {
                let injected = world::with(|world| world.was_injected(number, errno)).unwrap_or(false);
                yes(injected, "this error was not injected")
            }
            ErrorKind::Canceled => yes(request.canceled || stopping, "it was not canceled"),
            ErrorKind::QueueFull => yes(self.profile.max_queued < 1 << 20, "the queue is not limited"),
            ErrorKind::Lost => yes(world::with(|world| world.lost_rings > 0).unwrap_or(false), "no ring was lost"),
            ErrorKind::Panicked => yes(world::with(|world| world.unwound > 0).unwrap_or(false), "no driver has unwound"),
            ErrorKind::SyncFailed(_) => yes(request.kind == RequestKind::Sync && file.sync_failed, "no sync has failed"),
            // The count is judged with the bytes.
            ErrorKind::Eof => {
                yes(matches!(request.kind, RequestKind::Read { exact: true } | RequestKind::ReadWhole), "a short read is allowed")
            }
            // It is judged with the bytes.
            ErrorKind::Checksum { expected, .. } => yes(request.checksum == Checksum::Expect(expected), "this checksum was not expected"),
            ErrorKind::SizeMismatch => yes(request.kind == RequestKind::ReadWhole, "any size is allowed"),
            _ => Err("no request can end with this error"),
        }
    }

    // ---- whole files ----

    fn check_if_idle(&mut self, file: usize) {
        if !self.requests.values().any(|request| request.file == file) && self.rng.one_in(3) {
            self.check_file(file);
        }
    }

    pub(super) fn check_all_files(&mut self) {
        for file in 0..self.files.len() {
            self.check_file(file);
        }
    }

    /// Compares a file without unsettled requests with its model.
    pub(super) fn check_file(&mut self, index: usize) {
        self.probe_file(index);
        let file = &mut self.files[index];
        let Ok(mut found) = std::fs::read(&file.path) else {
            if file.exists {
                violate(format!("{} is gone", file.path.display()));
            }
            return;
        };
        let name = file.path.display();
        let untrimmed = world::with(|world| world.facts(file.number).untrimmed).unwrap_or(false);
        let on_disk = found.len() as u64;
        // Copies promise each what they know.
        let promised = file.inode.as_ref().filter(|_| !self.profile.copies).map_or(on_disk, |inode| inode.size());
        if untrimmed {
            // Another process repairs the length.
            let size = on_disk.min(promised).min(file.model.size_max);
            if std::fs::OpenOptions::new().write(true).open(&file.path).and_then(|file| file.set_len(size)).is_err() {
                violate(format!("{name} cannot be repaired"));
            }
            found.truncate(size as usize);
            (file.size_outdated, file.was_untrimmed) = (true, true);
            world::with(|world| world.facts(file.number).untrimmed = false);
        } else if promised != on_disk && !file.size_outdated {
            return violate(format!("{name} has {on_disk} bytes, {promised} are promised"));
        }
        let size = found.len() as u64;
        let (size_min, size_max) = (file.model.size_min, file.model.size_max);
        if !(size_min..=size_max).contains(&size) {
            return violate(format!("{name} has {size} bytes, not {size_min} to {size_max}"));
        }
        if let Some(wrong) = file.model.view(0, size).mismatch(&found) {
            return violate(format!("{name}: {wrong}"));
        }
        file.model.resolve(found);
        if promised == size {
            file.size_outdated = false;
        }
    }
}

/// The content of a write in its range.
fn written_by(request: &Request) -> Alternative {
    debug_assert_eq!(byte(request.start, request.salt) & 1, 1);
    Alternative { start: request.start, end: request.end, writer: Some(request.salt) }
}
