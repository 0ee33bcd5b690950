//! Many ranges written in one request.
//!
//! The runs of the ranges (see [`crate::pieces`]) are written as transfers of the engine, a few at a time: so edges, the
//! end of the file, room and locks are theirs. A run whose memory does not touch is first gathered into one buffer, on a
//! blocking thread. A *lane* writes one run after the other.
//!
//! A sync that is called after the request covers all of it: it counts as one write that was accepted at the call and
//! settles at the end.

use crate::blocking::Line;
use crate::completion::{Completion, Outcome, RawTransfer, Receipt};
use crate::driver::request::Target;
use crate::driver::{Core, Use};
use crate::error::{Error, ErrorKind, Result};
use crate::handle::Handle;
use crate::inode::Accepted;
use crate::intake::{self, Kind};
use crate::memory::Buffer;
use crate::open::OpenFile;
use crate::pieces::{Pieces, Run};
use crate::plan::Direction;
use crate::priority::Priority;
use crate::stats::{add, sub};
use crate::sys::memory;
use crate::unwind::contain;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Runs that are written at once: as many as a deep queue holds.
const LANES: usize = 128;

/// Bytes that are gathered at once.
const GATHERED_MAX: u64 = 16 << 20;

/// A request to write many ranges.
pub(crate) struct Gather {
    core: Arc<Core>,
    file: Arc<OpenFile>,
    pieces: Arc<Pieces>,
    handle: Option<Arc<Handle>>,
    priority: Option<Priority>,
    /// The caller's.
    completion: Arc<dyn Completion>,
    admission: Mutex<Option<Admission>>,
    state: Mutex<State>,
}

/// What a request holds from the call on, before its ranges are sorted: its place among the engine's requests and in the
/// order of syncs, and the file, which is not closed before.
pub(crate) struct Admission {
    core: Arc<Core>,
    file: Arc<OpenFile>,
    /// It claims no place in the file. Its runs do.
    accepted: Option<Accepted>,
    _using: Use,
}

impl Admission {
    /// # Errors
    /// [`ErrorKind::Forked`], [`ErrorKind::Closed`], [`ErrorKind::QueueFull`].
    pub(crate) fn of(core: &Arc<Core>, file: &Arc<OpenFile>) -> Result<Self> {
        let refused = |(kind, advice): (ErrorKind, &str)| Error::new(kind, "write").advise(advice);
        intake::check(core).and_then(|()| intake::enter(core, &Kind::Plain)).map_err(refused)?;
        let accepted = Some(file.inode.accept_write(0));
        Ok(Self { core: Arc::clone(core), file: Arc::clone(file), accepted, _using: Use::of(file, &core.inbox) })
    }

    /// The request has ended; its outcome is not delivered yet.
    fn end(&mut self) {
        if let Some(accepted) = self.accepted.take() {
            self.file.inode.settle_write(accepted);
            sub(&self.core.counters.queued, 1);
        }
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.end();
    }
}

struct State {
    /// The next run.
    next: Option<Run>,
    /// Lanes at work.
    lanes: usize,
    /// Bytes in buffers.
    gathered: u64,
    /// Lanes that wait for room for gathered bytes.
    waiting: Vec<Arc<Lane>>,
    stopped: bool,
    failure: Option<Error>,
    memory_lost: bool,
    receipt: Receipt,
}

/// Writes one run after the other.
struct Lane {
    gather: Arc<Gather>,
    work: Mutex<Option<Work>>,
}

/// The run that a lane is writing, and the buffer that its bytes were gathered in.
struct Work {
    run: Run,
    buffer: Option<Buffer>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Gather {
    /// Starts to write. Does not wake the driver.
    pub(crate) fn start(
        admission: Admission,
        pieces: Arc<Pieces>,
        handle: Option<Arc<Handle>>,
        priority: Option<Priority>,
        completion: Arc<dyn Completion>,
    ) {
        let (core, file) = (Arc::clone(&admission.core), Arc::clone(&admission.file));
        let receipt = Receipt::empty(core.backend_of(&file), file.is_direct(), None);
        let Some(first) = pieces.first_run() else {
            drop(admission);
            return completion.settle(Outcome { result: Ok(receipt), memory_lost: false });
        };
        let state = State {
            next: Some(first),
            lanes: 0,
            gathered: 0,
            waiting: Vec::new(),
            stopped: false,
            failure: None,
            memory_lost: false,
            receipt,
        };
        let gather = Arc::new(Self {
            core,
            file,
            pieces,
            handle,
            priority,
            completion,
            admission: Mutex::new(Some(admission)),
            state: Mutex::new(state),
        });
        // One more, so that it does not end while they start.
        lock(&gather.state).lanes = 1;
        for _ in 0..LANES {
            if lock(&gather.state).next.is_none() {
                break;
            }
            lock(&gather.state).lanes += 1;
            Arc::new(Lane { gather: Arc::clone(&gather), work: Mutex::new(None) }).go_on();
        }
        gather.lane_ended();
    }

    /// The next run, if there is room for its bytes; else the lane waits for it.
    fn take(&self, lane: &Arc<Lane>) -> Next {
        let mut state = lock(&self.state);
        let state = &mut *state;
        if state.stopped {
            return Next::Nothing;
        }
        let Some(run) = state.next else { return Next::Nothing };
        if run.address.is_none() {
            if state.gathered > 0 && state.gathered + run.len > GATHERED_MAX {
                state.waiting.push(Arc::clone(lane));
                return Next::Later;
            }
            state.gathered += run.len;
        }
        state.next = self.pieces.run_after(&run);
        Next::Run(run)
    }

    /// A lane has written a run, or not.
    fn written(&self, run: &Run, outcome: &Outcome) -> Vec<Arc<Lane>> {
        let mut state = lock(&self.state);
        state.memory_lost |= outcome.memory_lost && run.address.is_some();
        match &outcome.result {
            Ok(receipt) => state.receipt.include(receipt),
            Err(error) => {
                self.pieces.failed(run.position + error.transferred().min(run.len - 1), run.position + run.len, error);
                state.failure.get_or_insert_with(|| error.clone());
                state.stopped = true;
            }
        }
        if run.address.is_none() {
            state.receipt.bounced += run.len;
            state.gathered -= run.len;
        }
        mem::take(&mut state.waiting)
    }

    /// A lane has nothing more to do. The last one settles the request.
    fn lane_ended(&self) {
        let mut state = lock(&self.state);
        state.lanes -= 1;
        if state.lanes > 0 {
            return;
        }
        let failure = state.failure.take();
        let (memory_lost, mut receipt) = (state.memory_lost, state.receipt);
        drop(state);
        let mut admission = lock(&self.admission).take();
        if let Some(admission) = &mut admission {
            admission.end();
        }
        receipt.bytes = self.pieces.bytes();
        let result = match failure {
            None => Ok(receipt),
            // That of the range with the lowest index, unless none is to blame.
            Some(error) if matches!(error.kind(), ErrorKind::Canceled | ErrorKind::Lost | ErrorKind::Panicked) => Err(error),
            Some(error) => Err(self.pieces.first_failure(false).unwrap_or(error).at(&self.file.path)),
        };
        let completion = Arc::clone(&self.completion);
        if contain(|| completion.settle(Outcome { result, memory_lost })).is_none() {
            add(&self.core.counters.panics, 1);
        }
        drop(admission);
    }
}

/// What a lane does next.
enum Next {
    Run(Run),
    /// It is woken when there is room.
    Later,
    Nothing,
}

impl Lane {
    /// Begins the next run, or ends.
    fn go_on(self: Arc<Self>) {
        match self.gather.take(&self) {
            Next::Nothing => self.gather.lane_ended(),
            Next::Later => {}
            Next::Run(run @ Run { address: Some(address), .. }) => self.write(Work { run, buffer: None }, address),
            Next::Run(run) => {
                let core = Arc::clone(&self.gather.core);
                core.blocking.run(Line::Copy, Box::new(move || self.gather_and_write(run)));
            }
        }
    }

    fn gather_and_write(self: Arc<Self>, run: Run) {
        let Gather { core, pieces, file, .. } = &*self.gather;
        let core = Arc::clone(core);
        match core.pool.bounce(run.len as usize) {
            Ok(mut buffer) => {
                for (offset, len, from) in pieces.places(run.position, run.position + run.len) {
                    let to = &mut buffer[offset..offset + len];
                    // SAFETY: `from` is in one of the ranges whose memory was handed over for reading until the request has
                    // settled. The buffer is the engine's and does not overlap it.
                    unsafe { memory::copy(from as *const u8, to.as_mut_ptr(), len) };
                }
                let address = buffer.as_mut_ptr() as u64;
                self.write(Work { run, buffer: Some(buffer) }, address);
            }
            Err(error) => {
                *lock(&self.work) = Some(Work { run, buffer: None });
                let error = error.at(&file.path).range(run.position, run.len, 0);
                self.settle(Outcome::failed(error));
            }
        }
        core.inbox.wake();
    }

    fn write(self: Arc<Self>, work: Work, address: u64) {
        let Gather { core, file, handle, priority, .. } = &*self.gather;
        let Run { position, len, .. } = work.run;
        let (handle, priority) = (handle.clone(), *priority);
        *lock(&self.work) = Some(work);
        let raw = RawTransfer::new(Direction::Write, address, len, position).handle(handle).priority(priority);
        let (core, target) = (Arc::clone(core), Target::File(Arc::clone(file)));
        intake::submit(&core, target, raw, Kind::Part, self);
    }
}

impl Completion for Lane {
    fn settle(self: Arc<Self>, outcome: Outcome) {
        // A lane settles only what it has begun.
        let Some(Work { run, buffer }) = lock(&self.work).take() else { return };
        if outcome.memory_lost {
            mem::forget(buffer);
        } else {
            drop(buffer);
        }
        let waiting = self.gather.written(&run, &outcome);
        for lane in waiting {
            lane.go_on();
        }
        let core = Arc::clone(&self.gather.core);
        self.go_on();
        core.inbox.wake();
    }

    fn canceled(&self) -> bool {
        self.gather.completion.canceled()
    }
}
