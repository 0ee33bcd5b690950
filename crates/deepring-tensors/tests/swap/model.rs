//! Stores and tensors for these tests.

use crate::harness::bytes;
use deepring::Engine;
use deepring_tensors::swap::{SwapOptions, SwapStore};
use deepring_tensors::{DType, Declared, Source};
use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

pub(crate) const MIB: usize = 1 << 20;

/// A tensor of bytes that depend on its version.
pub(crate) fn tensor(name: &str, len: usize, version: u64) -> Source<Vec<u8>> {
    let declared = Declared { name: name.into(), dtype: DType::U8, shape: vec![len as u64] };
    Source { declared, data: content(name, len, version) }
}

pub(crate) fn content(name: &str, len: usize, version: u64) -> Vec<u8> {
    bytes(len, name.bytes().fold(version << 8, |salt, byte| salt.wrapping_mul(31) + u64::from(byte)))
}

pub(crate) fn store(engine: &Engine, path: &Path, options: SwapOptions) -> SwapStore {
    SwapStore::open(engine, path, options.create(true)).wait().expect("a store")
}

pub(crate) fn put(store: &SwapStore, name: &str, len: usize, version: u64) {
    store.put(tensor(name, len, version)).wait().expect("accepted");
}

/// Whether a tensor has this version.
#[track_caller]
pub(crate) fn assert_version(store: &SwapStore, name: &str, len: usize, version: u64) {
    let lease = store.get(name).wait().unwrap_or_else(|error| panic!("{name}: {error}"));
    assert!(lease.bytes() == content(name, len, version), "{name} is not version {version}");
}

/// Polls a job a few times: whether it is done by then.
pub(crate) fn done_soon<T>(job: impl Future<Output = T>) -> Option<T> {
    let mut job = pin!(job);
    let end = Instant::now() + Duration::from_millis(100);
    while Instant::now() < end {
        if let Poll::Ready(value) = job.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return Some(value);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    None
}

/// Waits until something holds.
#[track_caller]
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < end, "{what} never came");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Nothing is taken but what is idle, and never was more than the budget.
#[track_caller]
pub(crate) fn assert_idle(store: &SwapStore) {
    eventually("idleness", || {
        let stats = store.stats();
        stats.used == stats.resident + stats.dirty
    });
    let stats = store.stats();
    assert!(stats.used_max <= stats.memory && (stats.reading, stats.leased) == (0, 0), "{stats:?}");
}
