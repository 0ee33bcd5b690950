//! Where transfers enter the engine: accepted into the inbox of its driver, or settled at once.

use crate::completion::{Completion, Outcome, RawTransfer, Receipt, Reply};
use crate::config::END_MAX;
use crate::driver::request::{Submission, Target};
use crate::driver::{Core, Message};
use crate::error::{Error, ErrorKind};
use crate::pieces::Pieces;
use crate::plan::Direction;
use crate::priority::Priority;
use crate::stats::{add, sub};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// What a transfer is to the engine.
pub(crate) enum Kind {
    /// A request of the caller.
    Plain,
    /// A read of many ranges. The transfer has the length of their runs.
    Pieces(Arc<Pieces>),
    /// A part of a request that was accepted before: no limit on requests counts for it.
    Part,
}

/// Why a transfer is not accepted, and what to do about it.
type Refusal = (ErrorKind, &'static str);

/// Accepts a transfer, or settles it at once: with its error, or because it is for no bytes. Does not wake the driver.
pub(crate) fn submit(core: &Arc<Core>, target: Target, raw: RawTransfer, kind: Kind, completion: Arc<dyn Completion>) {
    let counters = &core.counters;
    let of_file = if let Target::File(file) = &target { file.priority } else { Priority::default() };
    let priority = raw.class(of_file);
    let RawTransfer { direction, address, len, position, exact, handle, checksum, tag, .. } = raw;
    let refuse = |kind: ErrorKind, target: &Target, completion: Arc<dyn Completion>, advice: &str| {
        let path = match target {
            Target::File(file) => &file.path,
            Target::Path(target) => &target.name.path,
        };
        let error = Error::new(kind, direction.call_name()).at(path).range(position, len, 0).advise(advice);
        completion.settle_tagged(tag, Outcome::failed(error));
    };
    if let Err((kind, advice)) = check(core) {
        return refuse(kind, &target, completion, advice);
    }
    if position.checked_add(len).is_none_or(|end| end > END_MAX) {
        return refuse(ErrorKind::Os(libc::EFBIG), &target, completion, "the transfer would end beyond 2^63 bytes");
    }
    if let (0, Target::File(file)) = (len, &target) {
        let receipt = Receipt::empty(core.backend_of(file), file.is_direct(), checksum.is_asked().then_some(0));
        let wrong = |kind| Error::new(kind, direction.call_name()).at(&file.path).range(position, 0, 0);
        let result = checksum.check(0).map(|()| receipt).map_err(wrong);
        return completion.settle_tagged(tag, Outcome { result, memory_lost: false });
    }
    if let Err((kind, advice)) = enter(core, &kind) {
        return refuse(kind, &target, completion, advice);
    }
    let accepted = match &target {
        Target::File(file) => {
            file.unsettled.fetch_add(1, Ordering::AcqRel);
            (direction == Direction::Write).then(|| file.inode.accept_write(position + len))
        }
        Target::Path(_) => None,
    };
    let pieces = if let Kind::Pieces(pieces) = kind { Some(pieces) } else { None };
    let accepted_at = Instant::now();
    let reply = Reply::new(completion, tag);
    let submission =
        Submission { reply, target, handle, priority, direction, exact, address, len, position, pieces, accepted, accepted_at, checksum };
    if let Err(Message::Submit(submission)) = core.inbox.push_quietly(Message::Submit(submission)) {
        submission.refuse(core.why_closed(), counters);
    }
}

/// Whether the engine accepts transfers at all.
pub(crate) fn check(core: &Core) -> Result<(), Refusal> {
    if core.is_forked() {
        return Err((ErrorKind::Forked, "build an engine of this process's"));
    }
    if core.closing.is_requested() {
        return Err((ErrorKind::Closed, "the engine was closed"));
    }
    Ok(())
}

/// Counts a request, if there is room for it.
pub(crate) fn enter(core: &Core, kind: &Kind) -> Result<(), Refusal> {
    let counters = &core.counters;
    if counters.queued.fetch_add(1, Ordering::Relaxed) < core.config.max_queued || matches!(kind, Kind::Part) {
        return Ok(());
    }
    sub(&counters.queued, 1);
    add(&counters.failed, 1);
    Err((ErrorKind::QueueFull, "wait for some requests to finish, or let more be queued"))
}
