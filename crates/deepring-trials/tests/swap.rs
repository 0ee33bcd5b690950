//! Swap stores on a file system that fails: what cannot be written stays in memory and is reported, what is slow is waited
//! for, and the store is usable afterwards.
//!
//! Mounting needs root and `/dev/fuse`; without them these tests are reported as skipped.

#[path = "../../deepring/tests/harness/mod.rs"]
mod harness;

use deepring::Engine;
use deepring_tensors::swap::{SwapLease, SwapOptions, SwapState, SwapStore};
use deepring_tensors::{DType, Declared, Error, Job, Source};
use deepring_trials::faultfs::{Call, Effect, Fault, Mounted, unavailable};
use harness::disk::with_mounts;
use harness::{bytes, engines, skip};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;

/// Bytes of each tensor.
const LEN: usize = 1 << 20;

/// Runs a test for each engine, on a file system that fails on demand, and which is empty.
fn with_faults(body: impl Fn(&mut Mounted, &Engine) + Sync) {
    if let Some(why) = unavailable() {
        return skip(why);
    }
    with_mounts(|place| {
        for (nth, engine) in engines().into_iter().enumerate() {
            let (backing, at) = (place.join(format!("backing-{nth}")), place.join(format!("store-{nth}")));
            for directory in [&backing, &at] {
                std::fs::create_dir(directory).expect("a directory");
            }
            body(&mut Mounted::start(&at, &backing, true).expect("a mounted file system"), &engine);
        }
    });
}

fn options() -> SwapOptions {
    SwapOptions::new(8 * MIB).capacity(32 * MIB).create(true)
}

fn open(mounted: &Mounted, engine: &Engine, options: SwapOptions) -> SwapStore {
    SwapStore::open(engine, mounted.path(), options).wait().expect("a store")
}

fn tensor(name: &str, salt: u64) -> Source<Vec<u8>> {
    let declared = Declared { name: name.into(), dtype: DType::U8, shape: vec![MIB] };
    Source { declared, data: bytes(0, LEN, salt) }
}

fn put(store: &SwapStore, name: &str, salt: u64) -> Result<(), Error> {
    store.put(tensor(name, salt)).wait().map(drop)
}

#[track_caller]
fn check(store: &SwapStore, name: &str, salt: u64) {
    let lease = store.get(name).wait().unwrap_or_else(|error| panic!("{name}: {error}"));
    assert!(lease.bytes() == bytes(0, LEN, salt), "{name}");
}

/// Lets a job begin.
#[track_caller]
fn begin<T>(mut job: Job<T>) -> Job<T> {
    assert!(Pin::new(&mut job).poll(&mut Context::from_waker(Waker::noop())).is_pending(), "it does not wait for the drive");
    job
}

fn always(call: Call, errno: i32) -> Fault {
    Fault::always(call, Effect::Errno(errno))
}

#[test]
fn a_write_behind_that_fails_is_reported_once_and_the_tensor_stays() {
    with_faults(|mounted, engine| {
        for durable in [false, true] {
            let store = open(mounted, engine, options().durable(durable));
            put(&store, "x", 1).expect("accepted");
            store.flush().wait().expect("flushed");
            mounted.inject(&always(Call::Write, libc::EIO)).expect("the server");
            put(&store, "x", 2).expect("accepted");
            let error = store.flush().wait().expect_err("it cannot be written");
            assert_eq!((error.code().as_str(), error.tensor()), ("EIO", Some("x")));
            assert_eq!(store.state("x"), Some(SwapState::Dirty));
            check(&store, "x", 2);
            // By the next that brings a version.
            assert!(store.flush().wait().is_err());
            put(&store, "y", 1).expect("another name has its own errors");
            assert_eq!(store.evict("y").wait().expect_err("it cannot be written").code(), "EIO");
            mounted.clear().expect("the server");
            store.flush().wait().expect("it is tried again");
            store.evict("x").wait().expect("written");
            check(&store, "x", 2);
            check(&store, "y", 1);
            store.close().wait().expect("closed");
            let store = open(mounted, engine, options().durable(durable).create(false));
            check(&store, "x", 2);
            store.remove("x").wait().expect("removed");
            store.close().wait().expect("closed");
        }
    });
}

#[test]
fn what_needs_the_memory_of_a_tensor_that_cannot_be_written_fails_and_does_not_hang() {
    with_faults(|mounted, engine| {
        let store = open(mounted, engine, options());
        put(&store, "old", 1).expect("accepted");
        store.evict("old").wait().expect("written");
        mounted.inject(&always(Call::Write, libc::EIO)).expect("the server");
        let failed = (0..20).find_map(|nth| put(&store, &format!("t{nth}"), nth).err()).expect("memory ends");
        assert_eq!(failed.code(), "EIO");
        // There is room for what is read.
        check(&store, "old", 1);
        mounted.clear().expect("the server");
        put(&store, "after", 1).expect("accepted");
        let first = store.flush().wait();
        assert!(first.is_err(), "the errors were not reported yet");
        while store.flush().wait().is_err() {}
        check(&store, "t0", 0);
        check(&store, "after", 1);
        assert!(store.stats().used_max <= store.stats().memory);
    });
}

#[test]
fn a_full_drive_is_found_by_the_put_and_nothing_is_lost() {
    with_faults(|mounted, engine| {
        for durable in [false, true] {
            let store = open(mounted, engine, SwapOptions::new(8 * MIB).create(true).durable(durable));
            put(&store, "x", 1).expect("accepted");
            let capacity = store.stats().capacity;
            mounted.inject(&always(Call::Allocate, libc::ENOSPC)).expect("the server");
            let failed = (0..100).find_map(|nth| put(&store, &format!("t{nth}"), nth).err()).expect("the file ends");
            assert_eq!((failed.code().as_str(), store.stats().capacity), ("ENOSPC", capacity));
            check(&store, "x", 1);
            check(&store, "t0", 0);
            assert_eq!(store.flush().wait().expect_err("there is no room for an index").code(), "ENOSPC");
            mounted.clear().expect("the server");
            store.flush().wait().expect("flushed");
            put(&store, "more", 7).expect("accepted");
            check(&store, "more", 7);
            for name in store.names() {
                store.remove(&name).wait().expect("removed");
            }
            store.close().wait().expect("closed");
        }
        assert!(SwapStore::open(engine, mounted.path(), SwapOptions::new(MIB)).wait().expect("a store").names().is_empty());
    });
}

#[test]
fn a_read_that_fails_names_its_tensor_and_the_next_one_is_tried() {
    with_faults(|mounted, engine| {
        let store = open(mounted, engine, options());
        for name in ["x", "y"] {
            put(&store, name, 1).expect("accepted");
            store.evict(name).wait().expect("written");
        }
        mounted.inject(&Fault { times: 40, ..always(Call::Read, libc::EIO) }).expect("the server");
        // Also one that was read ahead.
        store.plan(["x", "y"], true);
        let error = loop {
            if let Err(error) = store.get("x").wait() {
                break error;
            }
            store.evict("x").wait().expect("evicted");
        };
        assert_eq!((error.code().as_str(), error.tensor()), ("EIO", Some("x")));
        // A read ahead that is under way fails, and so would what waits for it.
        while store.stats().reading > 0 {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        mounted.clear().expect("the server");
        check(&store, "x", 1);
        check(&store, "y", 1);
        assert_eq!(store.stats().reading, 0);
    });
}

#[test]
fn a_flush_that_cannot_be_made_to_last_is_an_error_and_the_one_before_holds() {
    with_faults(|mounted, engine| {
        let store = open(mounted, engine, options().durable(true));
        put(&store, "x", 1).expect("accepted");
        store.flush().wait().expect("flushed");
        put(&store, "x", 2).expect("accepted");
        mounted.inject(&always(Call::SyncDirectory, libc::EIO)).expect("the server");
        assert_eq!(store.flush().wait().expect_err("its name is not safe").code(), "ERR_DEEPRING_UNCERTAIN");
        // Either flush can be the last now: nothing of the two is written over.
        let taken = store.stats().stored;
        put(&store, "x", 3).expect("accepted");
        store.evict("x").wait().expect("written");
        assert_eq!(store.stats().stored, taken + MIB);
        mounted.clear().expect("the server");
        store.flush().wait().expect("flushed");
        assert_eq!(store.stats().stored, MIB);
        check(&store, "x", 3);
        put(&store, "x", 4).expect("accepted");
        mounted.inject(&always(Call::Sync, libc::EIO)).expect("the server");
        assert!(store.flush().wait().is_err(), "the tensors are not safe");
        mounted.clear().expect("the server");
        drop(store);
        let store = loop {
            match SwapStore::open(engine, mounted.path(), options().durable(true)).wait() {
                Err(Error::Busy { .. }) => std::thread::sleep(Duration::from_millis(1)),
                opened => break opened.expect("a store"),
            }
        };
        check(&store, "x", 3);
    });
}

#[test]
fn on_a_slow_drive_everything_waits_and_nothing_else_changes() {
    const STALL: Duration = Duration::from_millis(30);
    with_faults(|mounted, engine| {
        let store = open(mounted, engine, options());
        for call in [Call::Read, Call::Write] {
            mounted.inject(&Fault::always(call, Effect::Stall(STALL))).expect("the server");
        }
        let names: Vec<String> = (0..20).map(|nth| format!("t{nth}")).collect();
        let begin = Instant::now();
        for (name, salt) in names.iter().zip(0..) {
            put(&store, name, salt).expect("accepted");
            let stats = store.stats();
            assert!(stats.used <= stats.memory && stats.dirty <= stats.memory / 4, "{stats:?}");
        }
        assert!(begin.elapsed() > STALL, "20 MiB went through 8 without waiting");
        store.plan(names.iter().map(String::as_str), true);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| names.iter().zip(0..).for_each(|(name, salt)| check(&store, name, salt)));
            }
        });
        assert!(mounted.triggered().expect("the server") > 20, "or this run proved nothing");
        assert!(store.stats().used_max <= store.stats().memory);
        mounted.clear().expect("the server");
        store.close().wait().expect("closed");
    });
}

#[test]
fn versions_keep_their_order_in_the_middle_of_a_read_a_write_and_a_lease() {
    const STALL: Duration = Duration::from_millis(60);
    with_faults(|mounted, engine| {
        for durable in [false, true] {
            let store = open(mounted, engine, options().durable(durable).checksum(true));
            let on_the_drive = |salt| {
                put(&store, "x", salt).expect("accepted");
                store.evict("x").wait().expect("written");
            };
            on_the_drive(1);
            for call in [Call::Read, Call::Write] {
                mounted.inject(&Fault::always(call, Effect::Stall(STALL))).expect("the server");
            }
            let salt_of = |lease: &SwapLease| (0..20).find(|salt| lease.bytes() == bytes(0, LEN, *salt));

            // A version, a removal, a change and another read while the drive reads: each waits for it.
            let reading = begin(store.get("x"));
            put(&store, "x", 2).expect("accepted");
            assert_eq!(salt_of(&reading.wait().expect("a lease")), Some(1));
            check(&store, "x", 2);
            store.evict("x").wait().expect("written");
            let (reading, putting) = (begin(store.get_into("x", vec![0; LEN])), begin(store.put(tensor("x", 3))));
            assert!(reading.wait().expect("read") == bytes(0, LEN, 2));
            putting.wait().expect("accepted");
            store.evict("x").wait().expect("written");
            let (reading, changing) = (begin(store.get("x")), begin(store.get_mut("x")));
            assert_eq!(salt_of(&reading.wait().expect("a lease")), Some(3));
            drop(changing.wait().expect("a lease"));
            store.evict("x").wait().expect("evicted");
            let (reading, removing) = (begin(store.get("x")), begin(store.remove("x")));
            assert_eq!(salt_of(&reading.wait().expect("a lease")), Some(3));
            removing.wait().expect("removed");
            assert!(matches!(store.get("x").wait(), Err(Error::NotFound { .. })));

            // While the drive writes: a version is there at once, and the others wait.
            put(&store, "x", 4).expect("accepted");
            let writing = begin(store.evict("x"));
            check(&store, "x", 4);
            put(&store, "x", 5).expect("accepted");
            check(&store, "x", 5);
            writing.wait().expect("written");
            check(&store, "x", 5);
            put(&store, "x", 6).expect("accepted");
            let (writing, changing) = (begin(store.flush()), begin(store.get_mut("x")));
            assert_eq!(salt_of(&changing.wait().expect("a lease")), Some(6));
            writing.wait().expect("flushed");
            put(&store, "x", 7).expect("accepted");
            let (writing, removing) = (begin(store.flush()), begin(store.remove("x")));
            removing.wait().expect("removed");
            writing.wait().expect("flushed");
            assert_eq!((store.names().len(), store.stats().stored), (0, 0));

            // While a lease has an older version.
            on_the_drive(8);
            let lease = store.get("x").wait().expect("a lease");
            let removing = begin(store.remove("x"));
            put(&store, "x", 9).expect("accepted");
            assert_eq!(salt_of(&lease), Some(8));
            // What waits sees the version that came meanwhile, which no lease has.
            removing.wait().expect("removed");
            assert_eq!(salt_of(&lease), Some(8));
            drop(lease);
            assert_eq!(store.state("x"), None);
            mounted.clear().expect("the server");
            store.close().wait().expect("closed");
        }
    });
}
