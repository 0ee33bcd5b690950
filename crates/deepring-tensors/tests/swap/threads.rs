//! Many threads use one store, and the sum of what they see is right.

use crate::harness::{Rng, directory, engine};
use crate::model::{MIB, assert_idle, content, store};
use deepring_tensors::swap::{SwapOptions, SwapStore};
use deepring_tensors::{DType, Declared, Source};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const NAMES: u64 = 12;
const THREADS: u64 = 4;

fn len(nth: u64) -> usize {
    20_000 + nth as usize * 31_337
}

/// Bytes whose first eight say of which version the others are.
fn version(nth: u64, number: u64) -> Vec<u8> {
    let mut bytes = content(&nth.to_string(), len(nth), number);
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes
}

#[track_caller]
fn number_of(nth: u64, bytes: &[u8]) -> u64 {
    let number = u64::from_le_bytes(bytes[..8].try_into().expect("eight"));
    assert!(bytes == version(nth, number), "tensor {nth} is of no one version");
    number
}

fn work(store: &SwapStore, mut rng: Rng, newest: &[AtomicU64]) {
    for _ in 0..250 {
        let nth = rng.below(NAMES);
        let name = nth.to_string();
        // What was accepted before this is seen, or something newer.
        let before = newest[nth as usize].load(Ordering::SeqCst);
        match rng.below(8) {
            0 | 1 => {
                let mut lease = store.get_mut(&name).wait().expect("a lease");
                let number = number_of(nth, lease.bytes());
                assert!(number >= before);
                lease.bytes_mut().expect("it writes").copy_from_slice(&version(nth, number + 1));
                lease.close(true).expect("accepted");
                newest[nth as usize].fetch_max(number + 1, Ordering::SeqCst);
            }
            2 => {
                let mut lease = store.get_mut(&name).wait().expect("a lease");
                lease.bytes_mut().expect("it writes").fill(0xff);
            }
            3 => {
                let bytes = store.get_into(&name, vec![0; len(nth)]).wait().expect("read");
                assert!(number_of(nth, &bytes) >= before);
            }
            4 => store.evict(&name).wait().expect("evicted"),
            5 => {
                let names: Vec<String> = (0..3).map(|more| ((nth + more) % NAMES).to_string()).collect();
                let leases = store.get_many(names.iter().map(String::as_str)).wait().expect("leases");
                for (lease, more) in leases.iter().zip(0..) {
                    number_of((nth + more) % NAMES, lease.bytes());
                }
            }
            6 if rng.once_in(3) => store.flush().wait().expect("flushed"),
            6 => store.prefetch([&*name], Duration::from_millis(5)),
            _ => {
                let lease = store.get(&name).wait().expect("a lease");
                assert!(number_of(nth, lease.bytes()) >= before);
            }
        }
        let stats = store.stats();
        assert!(stats.used <= stats.memory, "{stats:?}");
    }
}

#[test]
fn threads_that_read_write_evict_and_flush_see_whole_versions_in_their_order() {
    let (place, engine) = (directory(), engine());
    for durable in [false, true] {
        let mut rng = Rng::new();
        let options = SwapOptions::new(2 * MIB as u64).durable(durable).checksum(durable);
        let store = store(&engine, &place.path().join(durable.to_string()), options);
        for nth in 0..NAMES {
            let declared = Declared { name: nth.to_string(), dtype: DType::U8, shape: vec![len(nth) as u64] };
            store.put(Source { declared, data: version(nth, 1) }).wait().expect("accepted");
        }
        store.plan(["3", "1", "4", "1", "5", "9", "2", "6"], true);
        let newest: Vec<AtomicU64> = (0..NAMES).map(|_| AtomicU64::new(1)).collect();
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                let mut own = rng.clone();
                for _ in 0..rng.below(9) {
                    own.next();
                }
                rng.next();
                let (store, newest) = (&store, &newest);
                scope.spawn(move || work(store, own, newest));
            }
        });
        assert_idle(&store);
        for nth in 0..NAMES {
            let number = number_of(nth, store.get(&nth.to_string()).wait().expect("a lease").bytes());
            assert_eq!(number, newest[nth as usize].load(Ordering::SeqCst));
        }
        store.close().wait().expect("closed");
    }
}
