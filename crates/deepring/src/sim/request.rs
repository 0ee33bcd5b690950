//! A request as the campaign remembers it, from submission until it was judged.

use super::buffer::GuardedBuffer;
use super::model::{ConcurrentChange, View};
use super::world;
use crate::buffer::{Buffer, IoBuf, IoBufMut};
use crate::completion::{Completion, Outcome};
use crate::op::Op;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};

/// The memory of a request: the client's, or the engine's.
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

/// Receives the end of a request that was submitted as bindings do.
pub(crate) struct RequestCompletion {
    pub(crate) id: u64,
    pub(crate) canceled: AtomicBool,
}

impl Completion for RequestCompletion {
    fn settle(self: Arc<Self>, outcome: Outcome) {
        world::with(|world| world.transfer_settled(self.id, outcome));
    }

    fn canceled(&self) -> bool {
        self.canceled.load(Ordering::Acquire)
    }
}

/// Receives the end of an [`Op`].
struct RequestWaker(u64);

impl Wake for RequestWaker {
    fn wake(self: Arc<Self>) {
        world::with(|world| world.op_settled(self.0));
    }
}

/// A waker that tells the world when the request `id` has ended.
pub(crate) fn request_waker(id: u64) -> Waker {
    Waker::from(Arc::new(RequestWaker(id)))
}

/// Where a request's memory is, and how its end is heard of.
pub(crate) enum Holder {
    /// Submitted as bindings do: the memory is the client's.
    Raw(Memory, Arc<RequestCompletion>),
    /// Submitted as Rust programs do: the engine has the memory.
    Op(Op<Memory>),
    /// An [`Op`] that was dropped: its memory is freed when it settles, and nobody hears how that
    /// went.
    Dropped,
    /// Not a transfer. The flag cancels it.
    Control(Arc<AtomicBool>),
}

/// What was asked for.
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
    /// Whether the file was there when the request was made.
    pub(crate) existed: bool,
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) salt: u64,
    pub(crate) holder: Holder,
    pub(crate) canceled: bool,
    /// Reads: what there was to read when the request was made.
    pub(crate) view: Option<View>,
    /// The bounds of the file's length then.
    pub(crate) sizes: (u64, u64),
    /// What may have changed the file meanwhile.
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

    pub(crate) fn overlaps(&self, start: u64, end: u64) -> bool {
        self.start < end && start < self.end
    }

    /// Asks for an early end. The engine is reported by whoever calls this.
    pub(crate) fn cancel(&mut self) {
        self.canceled = true;
        match &self.holder {
            Holder::Raw(_, completion) => completion.canceled.store(true, Ordering::Release),
            Holder::Op(op) => op.cancel(),
            Holder::Dropped => {}
            Holder::Control(flag) => flag.store(true, Ordering::Release),
        }
    }
}
