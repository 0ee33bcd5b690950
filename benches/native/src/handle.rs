//! The predecessor's handle: P worker threads, each with its own queue, and every operation cut
//! into P slices.
//!
//! ```text
//!   caller ── operation ──┬─> worker 0: FIFO, one slice at a time ──┐
//!                         ├─> worker 1                              ├─> wait(): one completion of each worker per operation
//!                         └─> worker P-1                            ┘
//! ```
//!
//! The predecessor cut an operation of n bytes at n·t/P, and refused it if P did not divide n. Here
//! the cuts fall on pages of 4 KiB. They are the same where P divides the pages, and they also work
//! where the predecessor refused. Workers exit when the handle is dropped.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};

use crate::predecessor::{Queue, Shape, Slice};

const PAGE_BYTES: usize = 4096;

struct Worker {
    slices: Option<Sender<Slice>>,
    outcomes: Receiver<Result<(), String>>,
    thread: Option<JoinHandle<()>>,
}

/// P workers and the operations queued at them.
pub(crate) struct Handle {
    workers: Vec<Worker>,
}

impl Handle {
    pub(crate) fn new(shape: Shape, parallelism: usize) -> Result<Self, String> {
        let workers = (0..parallelism).map(|_| Worker::new(shape)).collect::<Result<_, _>>()?;
        Ok(Self { workers })
    }

    /// Gives every worker its slice of an operation.
    ///
    /// # Safety
    /// The operation's memory must stay mapped and unused by others until [`Handle::wait`] has
    /// returned for it, or the handle is dropped.
    pub(crate) unsafe fn queue(&self, operation: Slice) -> Result<(), String> {
        for (index, worker) in self.workers.iter().enumerate() {
            let slice = cut(operation, index, self.workers.len());
            let slices = worker.slices.as_ref().ok_or("the handle is closed")?;
            slices.send(slice).map_err(|_| "a worker has ended".to_owned())?;
        }
        Ok(())
    }

    /// Waits for the oldest operation not yet waited for.
    pub(crate) fn wait(&self) -> Result<(), String> {
        self.workers.iter().try_for_each(|worker| worker.outcomes.recv().map_err(|_| "a worker has ended".to_owned())?)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        for worker in &mut self.workers {
            worker.slices = None;
            if let Some(thread) = worker.thread.take() {
                // A worker that panicked has reported it on standard error. The process fails
                // because the worker's outcome is missing.
                let _panicked = thread.join();
            }
        }
    }
}

impl Worker {
    fn new(shape: Shape) -> Result<Self, String> {
        let mut queue = Queue::new(shape)?;
        let (slices, inbox) = channel::<Slice>();
        let (outbox, outcomes) = channel();
        let thread = thread::spawn(move || {
            for slice in inbox {
                // SAFETY: the caller of `Handle::queue` promised that the memory stays until it has
                // waited for the outcome sent here.
                let outcome = unsafe { queue.run(slice) };
                if outbox.send(outcome).is_err() {
                    break;
                }
            }
        });
        Ok(Self { slices: Some(slices), outcomes, thread: Some(thread) })
    }
}

fn cut(operation: Slice, index: usize, parallelism: usize) -> Slice {
    let pages = operation.bytes.div_ceil(PAGE_BYTES);
    let edge = |index: usize| (pages * index / parallelism * PAGE_BYTES).min(operation.bytes);
    let (from, to) = (edge(index), edge(index + 1));
    Slice { address: operation.address + from, bytes: to - from, position: operation.position + from as u64, ..operation }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aio::Direction;

    #[test]
    fn slices_join_to_the_operation() {
        for bytes in [4096, 65536, 3 * 4096, 1 << 20, 7 * 4096 + 512] {
            for parallelism in 1..=8 {
                let operation = Slice { direction: Direction::Read, file: 0, address: 1 << 30, bytes, position: 8192 };
                let mut moved = 0;
                for index in 0..parallelism {
                    let slice = cut(operation, index, parallelism);
                    assert_eq!(slice.address, operation.address + moved);
                    assert_eq!(slice.position, operation.position + moved as u64);
                    moved += slice.bytes;
                }
                assert_eq!(moved, bytes);
            }
        }
    }

    #[test]
    fn slices_are_the_predecessors_where_the_parallelism_divides_the_pages() {
        let operation = Slice { direction: Direction::Read, file: 0, address: 0, bytes: 1 << 20, position: 0 };
        for parallelism in [1, 2, 4, 8] {
            for index in 0..parallelism {
                assert_eq!(cut(operation, index, parallelism).address, index * (1 << 20) / parallelism);
            }
        }
    }
}
