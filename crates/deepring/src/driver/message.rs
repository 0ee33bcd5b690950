//! What reaches the driver through its inbox.

use super::control::Control;
use super::offload::Offload;
use super::request::Submission;
use crate::backend::Done;
use crate::error::Error;
use crate::inode::Extension;
use crate::locks::Obstacle;
use crate::open::OpenFile;
use crate::open::shortage::Passing;
use crate::profile::Seeds;
use crate::slots::Key;
use crate::sys::lock::Range;
use std::sync::Arc;

pub(crate) enum Message {
    Submit(Submission),
    Control(Control),
    Wake(Wake),
    /// A blocking thread has done a job of the driver's.
    Answer(Answer),
    Shutdown,
    /// What is left of a message that is being received.
    Received,
}

/// Something that was held is free again. The request or control can be gone by now, or wait for something else.
pub(crate) enum Wake {
    Request(Key),
    Control(Key),
    /// It is time to try again what other copies of the engine held.
    Line(u64),
    /// The same for the limit on files of path requests.
    Paths,
    /// Nothing uses the file's descriptor any more: a close can go on.
    File(Arc<OpenFile>),
}

/// What a blocking thread reports. Each job of the driver's is answered once.
pub(crate) enum Answer {
    /// The files of path requests were opened, or not.
    Opened(Vec<Opened>),
    /// There is room for a write, or not; with the claim on the end of the file, if it moves that.
    RoomMade(Key, Result<Option<Extension>, Error>),
    /// An operation that the ring could not carry out is done.
    Transferred(Done),
    /// The work on the memory of these blocks is done.
    Offloaded(Vec<Offload>),
    /// The end of the file was put in order after a write, or not. By path, it was closed.
    Trimmed(Key, Result<(), Error>),
    /// The file of a path request was closed, with this result.
    Closed(Key, Result<(), Error>),
    /// What stands in the way of a line of requests.
    Examined(u64, Range, Obstacle),
    /// The profile of a device, by its index, was looked for: where its search begins.
    Profiled(usize, Option<Seeds>),
    /// A control has run.
    ControlRan,
    /// The job has panicked, and with it a part of the books is lost.
    Panicked,
}

/// A path request and its file.
pub(crate) struct Opened {
    pub(super) submission: Submission,
    pub(super) result: Result<(Arc<OpenFile>, Passing), Error>,
}
