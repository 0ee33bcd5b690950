//! [`ReadBuffer`]: a read that brings its own memory. Nothing has to zero that before, because nobody can see it until
//! the file's bytes are in it.
//!
//! The buffer comes from the pool with old bytes in it. If the read falls short, what it left is zeroed before the caller
//! gets the buffer: much of it on a blocking thread. If the read fails or is canceled, the caller gets none.

use crate::blocking::Line;
use crate::completion::{Completion, Outcome};
use crate::driver::{Core, Use};
use crate::memory::{Buffer, IoBufMut};
use crate::op::{Completed, Transfer};
use crate::open::OpenFile;
use crate::stats::add;
use crate::unwind::contain;
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Zeroing this much takes longer than waking a thread.
const CLEARED_BYTES_MAX: u64 = 64 << 10;

/// What gets the outcome, once.
pub(crate) trait Receiver: Send + Sync + 'static {
    fn receive(&self, completed: Completed<Buffer>);

    fn canceled(&self) -> bool;
}

impl Receiver for Arc<Transfer<Buffer>> {
    fn receive(&self, Completed { buf, result }: Completed<Buffer>) {
        self.put_buffer(buf);
        Arc::clone(self).settle(Outcome { result, memory_lost: false });
    }

    fn canceled(&self) -> bool {
        Completion::canceled(&**self)
    }
}

/// A function, and a flag that cancels.
pub(crate) struct Then<F> {
    then: Mutex<Option<F>>,
    canceled: Arc<AtomicBool>,
}

impl<F: FnOnce(Completed<Buffer>) + Send + 'static> Then<F> {
    pub(crate) fn new(canceled: Arc<AtomicBool>, then: F) -> Self {
        Self { then: Mutex::new(Some(then)), canceled }
    }
}

impl<F: FnOnce(Completed<Buffer>) + Send + 'static> Receiver for Then<F> {
    fn receive(&self, completed: Completed<Buffer>) {
        let then = self.then.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(then) = then {
            then(completed);
        }
    }

    fn canceled(&self) -> bool {
        self.canceled.load(Ordering::Acquire)
    }
}

/// See the module.
pub(crate) struct ReadBuffer<R> {
    buffer: Mutex<Option<Buffer>>,
    receiver: R,
    file: Arc<OpenFile>,
    core: Arc<Core>,
}

impl<R: Receiver> ReadBuffer<R> {
    /// A read of `file` into `buffer`, which has old bytes in it. Returns the address, too.
    pub(crate) fn new(mut buffer: Buffer, receiver: R, file: &Arc<OpenFile>, core: &Arc<Core>) -> (u64, Arc<Self>) {
        let address = buffer.as_mut_ptr() as u64;
        let (file, core) = (Arc::clone(file), Arc::clone(core));
        (address, Arc::new(Self { buffer: Mutex::new(Some(buffer)), receiver, file, core }))
    }
}

impl<R: Receiver> Completion for ReadBuffer<R> {
    fn settle(self: Arc<Self>, Outcome { result, memory_lost }: Outcome) {
        let mut buffer = self.buffer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if memory_lost {
            mem::forget(buffer.take());
        }
        let (Ok(receipt), Some(mut buffer)) = (&result, buffer) else {
            // The buffer is dropped before, unseen.
            return self.receiver.receive(Completed { buf: None, result });
        };
        let (read, len) = (receipt.bytes as usize, buffer.len() as u64);
        if len - receipt.bytes <= CLEARED_BYTES_MAX {
            buffer.clear_from(read);
            return self.receiver.receive(Completed { buf: Some(buffer), result });
        }
        let core = Arc::clone(&self.core);
        // A close of the file ends after everything it waited for.
        let using = Use::of(&self.file, &core.inbox);
        let deliver = move || {
            buffer.clear_from(read);
            if contain(|| self.receiver.receive(Completed { buf: Some(buffer), result })).is_none() {
                add(&self.core.counters.panics, 1);
            }
            drop(using);
        };
        core.blocking.run(Line::Memory, Box::new(deliver));
    }

    fn canceled(&self) -> bool {
        self.receiver.canceled()
    }
}
