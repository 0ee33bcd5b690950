//! A request as the client remembers it, from submission until it is judged.

use super::buffer::GuardedBuffer;
use super::model::{ConcurrentChange, View};
use super::prng::mix;
use super::split::Split;
use super::world;
use crate::completion::{Completion, Outcome};
use crate::digest::Checksum;
use crate::memory::{Buffer, IoBuf, IoBufMut};
use crate::op::{Completed, Op};
use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Wake, Waker};

/// The memory of a request: the client's own, or a buffer of the engine's pool.
#[derive(Debug)]
pub(crate) enum Memory {
    Guarded(GuardedBuffer),
    Pooled(Buffer),
}

impl Memory {
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Guarded(buffer) => buffer.bytes(),
            Self::Pooled(buffer) => buffer,
        }
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Guarded(buffer) => buffer.bytes_mut(),
            Self::Pooled(buffer) => buffer,
        }
    }

    pub(crate) fn address(&self) -> u64 {
        self.bytes().as_ptr() as u64
    }
}

// SAFETY: both kinds keep their bytes in place when they are moved.
unsafe impl IoBuf for Memory {
    fn as_ptr(&self) -> *const u8 {
        self.bytes().as_ptr()
    }
    fn len(&self) -> usize {
        self.bytes().len()
    }
}

// SAFETY: both kinds own their bytes.
unsafe impl IoBufMut for Memory {
    fn as_mut_ptr(&mut self) -> *mut u8 {
        self.bytes_mut().as_mut_ptr()
    }
}

/// The completion of a request that was submitted as a binding does.
///
/// Real programs cancel on another thread, at any moment of a turn. Here the moment is drawn: a
/// request that was canceled answers so only from the Nth question on.
pub(crate) struct RequestCompletion {
    pub(crate) id: u64,
    cancellation: AtomicU64,
}

/// Nothing has canceled the request.
const WANTED: u64 = 0;
/// The request is canceled. Larger numbers count the questions until then.
const CANCELED: u64 = 1;
/// The most questions that a canceled request can still answer with no.
const QUESTIONS_MAX: u64 = 4;

impl RequestCompletion {
    pub(crate) fn new(id: u64) -> Self {
        Self { id, cancellation: AtomicU64::new(WANTED) }
    }

    fn cancel(&self) {
        // Not drawn from the run's own numbers, so that old seeds replay their runs. Once canceled, a
        // request stays so.
        let answer = CANCELED + mix(self.id) % (QUESTIONS_MAX + 1);
        let _ = self.cancellation.compare_exchange(WANTED, answer, Ordering::AcqRel, Ordering::Acquire);
    }
}

impl Completion for RequestCompletion {
    fn settle(self: Arc<Self>, outcome: Outcome) {
        world::with(|world| world.transfer_settled(self.id, outcome));
        world::panic_sometimes();
    }

    fn canceled(&self) -> bool {
        world::panic_sometimes();
        let cancellation = self.cancellation.load(Ordering::Acquire);
        if cancellation > CANCELED {
            self.cancellation.store(cancellation - 1, Ordering::Release);
        }
        cancellation == CANCELED
    }
}

/// The waker of an [`Op`].
struct RequestWaker(u64);

impl Wake for RequestWaker {
    fn wake(self: Arc<Self>) {
        world::with(|world| world.op_settled(self.0));
        world::panic_sometimes();
    }
}

/// A waker that reports to the world that the request `id` has settled.
pub(crate) fn request_waker(id: u64) -> Waker {
    Waker::from(Arc::new(RequestWaker(id)))
}

/// Where a read that brings its own memory leaves its outcome.
pub(crate) type Delivered = Arc<Mutex<Option<Completed<Buffer>>>>;

/// Who holds a request's memory, and how its outcome is reported.
pub(crate) enum Holder {
    /// Submitted as a binding does: the client holds the memory.
    Raw(Memory, Arc<RequestCompletion>),
    /// Submitted as a Rust program does: the operation holds the memory.
    Op(Op<Memory>),
    /// A read that brings its own memory, submitted as a binding does. The flag cancels it.
    Own(Delivered, Arc<AtomicBool>),
    /// An [`Op`] that was dropped: its memory is freed when it settles, and its outcome is not
    /// seen.
    Dropped,
    /// Not a transfer. The flag cancels it.
    Control(Arc<AtomicBool>),
}

/// What a request does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RequestKind {
    Read {
        exact: bool,
    },
    Write,
    /// By path, the whole file.
    ReadWhole,
    WriteWhole,
    Truncate(u64),
    Sync,
    Close,
}

impl RequestKind {
    /// Whether it changes the file.
    pub(crate) fn changes(self) -> bool {
        matches!(self, Self::Write | Self::WriteWhole | Self::Truncate(_))
    }

    pub(crate) fn reads(self) -> bool {
        matches!(self, Self::Read { .. } | Self::ReadWhole)
    }
}

pub(crate) struct Request {
    pub(crate) kind: RequestKind,
    pub(crate) file: usize,
    pub(crate) engine: usize,
    pub(crate) opening: Option<usize>,
    pub(crate) by_path: bool,
    /// Whether the file existed when the request was made.
    pub(crate) existed: bool,
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) salt: u64,
    pub(crate) holder: Holder,
    pub(crate) canceled: bool,
    /// The ranges that it is made of, if there are many.
    pub(crate) split: Option<Split>,
    /// Of a read: what the file held when the request was made.
    pub(crate) view: Option<View>,
    /// What it asks for about its checksum.
    pub(crate) checksum: Checksum,
    /// The bounds of the file's length at that moment.
    pub(crate) sizes: (u64, u64),
    /// What can have changed the file while the request was unsettled.
    pub(crate) concurrent: Vec<ConcurrentChange>,
}

impl Request {
    pub(crate) fn change(&self) -> ConcurrentChange {
        match self.kind {
            RequestKind::Truncate(size) => ConcurrentChange { start: size, end: size, salt: self.salt, truncates: Some(size) },
            RequestKind::WriteWhole => ConcurrentChange { start: self.start, end: self.end, salt: self.salt, truncates: Some(self.end) },
            _ => ConcurrentChange { start: self.start, end: self.end, salt: self.salt, truncates: None },
        }
    }

    /// The bytes of its range, from those in memory.
    pub(crate) fn content<'a>(&self, memory: &'a Memory) -> Cow<'a, [u8]> {
        self.split.as_ref().map_or(Cow::Borrowed(memory.bytes()), |split| Cow::Owned(split.in_order(memory.bytes())))
    }

    pub(crate) fn overlaps(&self, start: u64, end: u64) -> bool {
        self.start < end && start < self.end
    }

    /// Sets the request's cancel flag. The caller then asks the engine to sweep.
    pub(crate) fn cancel(&mut self) {
        self.canceled = true;
        match &self.holder {
            Holder::Raw(_, completion) => completion.cancel(),
            Holder::Op(op) => op.cancel(),
            Holder::Dropped => {}
            Holder::Control(flag) | Holder::Own(_, flag) => flag.store(true, Ordering::Release),
        }
    }
}
