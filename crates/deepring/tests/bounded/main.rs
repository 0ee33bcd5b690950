//! Promise: **bounded**. The requests and bytes in flight at a device have limits, however much is
//! queued. A queued request is small and holds no descriptor. A full queue is an error that returns
//! the buffer.

mod by_path;
mod handles;
#[path = "../harness/mod.rs"]
mod harness;
mod in_flight;
mod queued;
mod settings;

use deepring::binding::Refill::{self, Sliding, WhenEmpty};
use deepring::binding::{Completion, FileBinding, Handle, Outcome, RawTransfer};
use deepring::{Direction, ErrorKind, File};
use harness::patient;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(50);

const REFILLS: [Refill; 2] = [Sliding, WhenEmpty];

/// Counts completions, and lets a test wait for them.
#[derive(Default)]
struct Tally {
    settled: Mutex<u64>,
    all: Condvar,
    canceled: AtomicU64,
    failed: AtomicU64,
}

impl Completion for Tally {
    fn settle(self: Arc<Self>, outcome: Outcome) {
        match outcome.result {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Canceled => drop(self.canceled.fetch_add(1, Ordering::Relaxed)),
            Err(_) => drop(self.failed.fetch_add(1, Ordering::Relaxed)),
        }
        *self.settled.lock().expect("the count") += 1;
        self.all.notify_all();
    }
    fn canceled(&self) -> bool {
        false
    }
}

impl Tally {
    #[track_caller]
    fn wait_for(&self, count: u64) {
        let (limit, settled) = (patient(LIMIT), self.settled.lock().expect("the count"));
        let (settled, end) = self.all.wait_timeout_while(settled, limit, |settled| *settled < count).expect("the count");
        assert!(!end.timed_out(), "{} of {count} operations settled within {limit:?}", *settled);
        assert_eq!(*settled, count, "every operation settles once");
    }
}

/// Memory that is never freed, for reads whose result nothing reads.
fn leaked(len: usize) -> u64 {
    Box::leak(vec![0u8; len + 4096].into_boxed_slice()).as_mut_ptr().addr().next_multiple_of(4096) as u64
}

fn read_of(address: u64, len: u64, position: u64, handle: Option<&Arc<Handle>>) -> RawTransfer {
    RawTransfer::new(Direction::Read, address, len, position).exact(true).handle(handle.map(Arc::clone))
}

fn submit(file: &File, transfer: RawTransfer, tally: &Arc<Tally>) {
    // SAFETY: all callers pass memory from `leaked`, which is never freed. Reads into the same
    // place race only with each other, and nothing reads the result.
    unsafe { file.submit(transfer, Arc::clone(tally) as Arc<dyn Completion>) };
}

/// As [`Tally`], and it can be canceled.
struct Cancelable {
    tally: Arc<Tally>,
    canceled: AtomicBool,
}

impl Completion for Cancelable {
    fn settle(self: Arc<Self>, outcome: Outcome) {
        Arc::clone(&self.tally).settle(outcome);
    }
    fn canceled(&self) -> bool {
        self.canceled.load(Ordering::Acquire)
    }
}
