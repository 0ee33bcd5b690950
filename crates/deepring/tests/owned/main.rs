//! Promise: **owned**. Memory the kernel may touch stays alive and in place until the kernel lets go of it, and nothing touches it after it came
//! back: across dropped operations, dropped files, dropped engines, cancellation, and the loss of the ring. Every operation settles exactly once.

#[path = "../harness/mod.rs"]
mod harness;

use deepring::binding::{Completion, EngineBinding, FileBinding, Outcome, RawTransfer};
use deepring::{BackendKind, Completed, Direct, Direction, Engine, ErrorKind, File, IoBuf, IoBufMut, Op, OpenOptions};
use harness::child::{alone, alone_ending, forbid};
use harness::gate::Gate;
use harness::{
    Chance, READ_WRITE, assert_file, assert_same, backends, builders, bytes, directory, engines, eventually, is_direct, open, patient,
    task, within,
};
use std::future::Future;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(40);

/// As long as any transfer that was started may take to reach memory.
const AFTERMATH: Duration = Duration::from_millis(250);

// ---- memory that notices ----

const CANARY: u8 = 0xc5;

/// Memory that was given back: filled with canaries the moment its owner dropped it, and never freed, so that a late write shows.
#[derive(Clone, Default)]
struct Aviary(Arc<Mutex<Vec<(usize, usize)>>>);

/// A buffer that goes to the aviary when it is dropped.
struct Bird {
    address: usize,
    len: usize,
    aviary: Aviary,
}

impl Aviary {
    fn bird(&self, len: usize) -> Bird {
        let space = Box::leak(vec![0u8; len + 4096].into_boxed_slice());
        Bird { address: space.as_mut_ptr().expose_provenance().next_multiple_of(4096), len, aviary: self.clone() }
    }

    fn returned(&self) -> usize {
        self.0.lock().expect("the aviary").len()
    }

    /// How many of the returned buffers were written to after they had come back.
    fn disturbed(&self) -> usize {
        std::thread::sleep(AFTERMATH);
        let birds = self.0.lock().expect("the aviary");
        let intact = |&&(address, len): &&(usize, usize)| {
            // SAFETY: leaked memory of that length; whoever else should write to it now is what this is about, so it is read as it is.
            let memory = unsafe { std::slice::from_raw_parts(std::ptr::with_exposed_provenance::<u8>(address), len) };
            memory.iter().all(|&byte| byte == CANARY)
        };
        birds.iter().filter(|bird| !intact(bird)).count()
    }
}

impl Drop for Bird {
    fn drop(&mut self) {
        // SAFETY: leaked memory of that length that is this value's own, unless the engine let it go too early.
        unsafe { std::ptr::write_bytes(std::ptr::with_exposed_provenance_mut::<u8>(self.address), CANARY, self.len) };
        self.aviary.0.lock().expect("the aviary").push((self.address, self.len));
    }
}

// SAFETY: leaked memory stays in place, and belongs to this value alone.
unsafe impl IoBuf for Bird {
    fn as_ptr(&self) -> *const u8 {
        std::ptr::with_exposed_provenance(self.address)
    }
    fn len(&self) -> usize {
        self.len
    }
}

// SAFETY: as above.
unsafe impl IoBufMut for Bird {
    fn as_mut_ptr(&mut self) -> *mut u8 {
        std::ptr::with_exposed_provenance_mut(self.address)
    }
}

/// A file of real data, so that reads take their time at the device.
fn data_file(place: &std::path::Path, megabytes: usize) -> std::path::PathBuf {
    let path = place.join("data");
    std::fs::write(&path, bytes(0, megabytes << 20, 1)).expect("the file");
    std::fs::File::open(&path).and_then(|file| file.sync_all()).expect("the file on disk");
    path
}

/// `struct iocb` of `<linux/aio_abi.h>`.
#[repr(C)]
struct Iocb {
    data: u64,
    key: [u32; 2],
    opcode: u16,
    priority: i16,
    fd: u32,
    buf: u64,
    nbytes: u64,
    offset: i64,
    rest: [u64; 2],
}

/// The canary that must die: a planted bug of the kind the others look for. Reads are handed to the kernel behind the engine's back (Linux's
/// older asynchronous calls), and the memory is "given back" at once.
#[test]
fn the_canaries_notice_a_buffer_that_is_given_back_too_early() {
    let place = directory();
    if !is_direct(place.path()) {
        return harness::skip("the test directory has no direct I/O");
    }
    let path = data_file(place.path(), 32);
    let file = std::fs::OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(path).expect("the file");
    // Where other work delays this thread, the reads may be done before the memory is given back: then again.
    let noticed = (0..20).any(|_| give_back_too_early(&file) > 0);
    assert!(noticed, "the reads came after the buffers were given back, and nobody noticed");
}

/// Starts reads into 32 buffers, gives the buffers back, and tells how many were seen to be written to afterwards.
fn give_back_too_early(file: &std::fs::File) -> usize {
    let mut context = 0u64;
    // SAFETY: the kernel writes one word.
    let made = unsafe { libc::syscall(libc::SYS_io_setup, 32, &raw mut context) };
    assert_eq!(made, 0, "io_setup: {}", std::io::Error::last_os_error());
    let aviary = Aviary::default();
    let birds: Vec<Bird> = (0..32).map(|_| aviary.bird(1 << 20)).collect();
    let mut blocks: Vec<Iocb> = birds
        .iter()
        .zip(0i64..)
        .map(|(bird, index)| Iocb {
            data: 0,
            key: [0; 2],
            opcode: 0, // IOCB_CMD_PREAD
            priority: 0,
            fd: file.as_raw_fd() as u32,
            buf: bird.address as u64,
            nbytes: 1 << 20,
            offset: index << 20,
            rest: [0; 2],
        })
        .collect();
    let pointers: Vec<*mut Iocb> = blocks.iter_mut().map(std::ptr::from_mut).collect();
    // SAFETY: an array of valid control blocks over leaked memory.
    let submitted = unsafe { libc::syscall(libc::SYS_io_submit, context, pointers.len(), pointers.as_ptr()) };
    drop(birds);
    assert!(submitted > 0, "io_submit: {}", std::io::Error::last_os_error());
    let disturbed = aviary.disturbed();
    // SAFETY: the context was created above; this waits for what is left.
    unsafe { libc::syscall(libc::SYS_io_destroy, context) };
    disturbed
}

// ---- dropping ----

#[test]
fn memory_of_dropped_operations_is_untouched_once_it_is_back() {
    let place = directory();
    let path = data_file(place.path(), 32);
    for engine in engines() {
        let aviary = Aviary::default();
        let file = open(&engine, &path, Direct::Prefer);
        for round in 0..5u64 {
            for index in 0..32u64 {
                let op = file.read_at(aviary.bird(1 << 20), index << 20);
                if (index + round) % 3 > 0 {
                    drop(op);
                } else {
                    op.cancel();
                    drop(op.wait());
                }
            }
        }
        eventually(LIMIT, "every buffer came back", || aviary.returned() == 5 * 32);
        assert_eq!(aviary.disturbed(), 0, "buffers written to after they came back");
        let stats = engine.stats();
        assert_eq!((stats.queued, stats.in_flight, stats.in_flight_bytes, stats.leaked), (0, 0, 0, 0));
    }
}

#[test]
fn an_engine_dropped_with_operations_in_flight_has_let_go_of_all_memory() {
    let place = directory();
    let path = data_file(place.path(), 32);
    for builder in builders() {
        for round in 0..4 {
            let aviary = Aviary::default();
            let engine = builder.clone().build().expect("an engine");
            let file = open(&engine, &path, Direct::Prefer);
            let ops: Vec<_> = (0..32u64).map(|index| file.read_at(aviary.bird(1 << 20), index << 20)).collect();
            std::thread::sleep(Duration::from_micros(400 * round));
            drop(ops);
            drop(file);
            drop(engine);
            // Not eventually: a drop that returns has waited.
            assert_eq!(aviary.returned(), 32, "buffers still out after the engine was dropped");
            assert_eq!(aviary.disturbed(), 0, "buffers written to after they came back");
        }
    }
}

#[test]
fn writes_dropped_with_their_engine_are_whole_or_not_there() {
    let place = directory();
    let path = place.path().join("file");
    let mut chance = Chance::new();
    for builder in builders() {
        for round in 0..20 {
            let old = bytes(0, 100_000, 1);
            std::fs::write(&path, &old).expect("the file");
            let engine = builder.clone().build().expect("an engine");
            let file = open(&engine, &path, Direct::Prefer);
            let mut position = 0;
            let mut pieces = Vec::new();
            for _ in 0..60 {
                let len = 1 + chance.below(8000) as usize;
                pieces.push((position, len));
                drop(file.write_at(bytes(position, len, 2), position));
                position += len as u64;
            }
            drop(file);
            drop(engine);
            let found = std::fs::read(&path).expect("the file");
            assert!(found.len() >= old.len() && found.len() as u64 <= position, "{} bytes", found.len());
            // One after the other, each piece is new up to some point and old (or a hole) from there on.
            for (position, len) in pieces {
                let (start, end) = ((position as usize).min(found.len()), (position as usize + len).min(found.len()));
                let new = bytes(position, len, 2);
                let done = found[start..end].iter().zip(&new).take_while(|(a, b)| a == b).count();
                let rest = start + done..end;
                let untouched = rest.clone().all(|at| found[at] == old.get(at).copied().unwrap_or(0));
                // A byte that is the same in both is no proof either way.
                assert!(untouched, "round {round}: {len} bytes at {position} are torn after {done}");
            }
        }
    }
}

#[test]
fn engine_buffers_inside_dropped_operations_go_back_to_the_pool() {
    let place = directory();
    let path = data_file(place.path(), 16);
    for engine in engines() {
        let file = open(&engine, &path, Direct::Prefer);
        for len in [4096usize, 100_000, 1 << 20, 3 << 20] {
            for index in 0..40u64 {
                let buf = engine.pooled_buffer(len).expect("memory");
                drop(file.read_at(buf, index << 18));
            }
            let kept = engine.buffer(len).expect("memory").freeze();
            for index in 0..10 {
                drop(engine.write_file(place.path().join(format!("copy{index}")), kept.clone()));
            }
        }
        eventually(LIMIT, "every buffer is back in the pool", || {
            let stats = engine.stats();
            (stats.buffers, stats.buffer_bytes, stats.queued) == (0, 0, 0)
        });
    }
}

#[test]
fn a_buffer_outlives_its_engine() {
    for engine in engines() {
        let mut small = engine.buffer(5000).expect("memory");
        let mut large = engine.buffer(5 << 20).expect("memory");
        let shared = engine.buffer(100).expect("memory").freeze();
        drop(engine);
        small.fill(1);
        large.fill(2);
        assert!(small.iter().all(|&byte| byte == 1) && large.iter().all(|&byte| byte == 2) && shared.iter().all(|&byte| byte == 0));
    }
}

// ---- cancelling ----

#[test]
fn a_queued_operation_that_is_cancelled_leaves_at_once_and_does_nothing() {
    let place = directory();
    let path = place.path().join("file");
    for engine in engines() {
        let old = bytes(0, 20_000, 1);
        std::fs::write(&path, &old).expect("the file");
        let file = open(&engine, &path, Direct::Prefer);
        let gate = Gate::close(&file);
        let writes: Vec<_> = (0..20u64).map(|index| file.write_at(vec![9; 3000], index * 2999)).collect();
        let reads: Vec<_> = (0..20).map(|_| file.read_exact_at(vec![7; 3000], 5)).collect();
        let new = place.path().join("new");
        let by_path = engine.write_file(&new, vec![9; 100]);
        writes.iter().for_each(Op::cancel);
        reads.iter().for_each(Op::cancel);
        by_path.cancel();
        drop(gate);
        for op in writes.into_iter().chain(reads) {
            let Completed { buf, result } = op.wait();
            let error = result.expect_err("it was cancelled while it was queued");
            assert_eq!((error.kind(), error.transferred()), (ErrorKind::Canceled, 0), "{error}");
            assert_eq!((error.path(), error.requested()), (Some(path.as_path()), 3000));
            let buf = buf.expect("the buffer");
            assert!(buf.iter().all(|&byte| byte == 9) || buf.iter().all(|&byte| byte == 7), "the buffer is untouched");
        }
        assert_eq!(by_path.wait().result.expect_err("cancelled").kind(), ErrorKind::Canceled);
        assert!(!new.exists(), "nothing was created");
        assert_file(&path, &old, "after writes that were cancelled in the queue");
        let stats = engine.stats();
        assert_eq!((stats.canceled, stats.queued, stats.failed), (41, 0, 0));
    }
}

#[test]
fn an_operation_cancelled_under_way_says_how_far_it_came() {
    const LEN: usize = 48 << 20;
    let place = directory();
    let path = place.path().join("file");
    let content = bytes(0, LEN, 2);
    for builder in builders() {
        let engine = builder.queue_depth(4).block_bytes(256 << 10).build().expect("an engine");
        let mut canceled = 0;
        for pause in [0, 200, 500, 1000, 2000, 4000, 8000] {
            std::fs::write(&path, bytes(0, 5000, 1)).expect("the file");
            let file = open(&engine, &path, Direct::Prefer);
            let op = file.write_at(content.clone(), 0);
            std::thread::sleep(Duration::from_micros(pause));
            op.cancel();
            let Completed { buf, result } = op.wait();
            assert_same(&buf.expect("the buffer"), &content, "a write leaves its memory alone");
            let done = match result {
                Ok(receipt) => receipt.bytes as usize,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Canceled, "{error}");
                    canceled += 1;
                    error.transferred() as usize
                }
            };
            let mut model = content[..done].to_vec();
            if done < 5000 {
                model.extend(bytes(done as u64, 5000 - done, 1));
            }
            assert_file(&path, &model, &format!("cancelled after {pause} us, {done} bytes done"));
        }
        assert!(canceled > 0, "no cancellation came in time: this run proved nothing");
        std::fs::write(&path, &content).expect("the file");
        let file = open(&engine, &path, Direct::Prefer);
        for pause in [0, 1000, 3000] {
            let op = file.read_exact_at(vec![0; LEN], 0);
            std::thread::sleep(Duration::from_micros(pause));
            op.cancel();
            let Completed { buf, result } = op.wait();
            let done = match result {
                Ok(receipt) => receipt.bytes as usize,
                Err(error) => error.transferred() as usize,
            };
            assert_same(&buf.expect("the buffer")[..done], &content[..done], "what had been read");
        }
    }
}

#[test]
fn cancelling_what_is_done_changes_nothing() {
    let place = directory();
    let path = data_file(place.path(), 1);
    for engine in engines() {
        let file = open(&engine, &path, Direct::Prefer);
        let op = file.read_exact_at(vec![0; 5000], 3);
        eventually(LIMIT, "the read is done", || format!("{op:?}") == "Op(done)");
        op.cancel();
        op.cancel();
        let (buf, _) = op.wait().ok().expect("a read that was done");
        assert_same(&buf, &bytes(3, 5000, 1), "what was read");
        assert_eq!(engine.stats().canceled, 0);
    }
}

#[test]
fn a_sync_and_a_truncation_that_wait_can_be_cancelled() {
    let place = directory();
    let path = place.path().join("file");
    // The write they wait for belongs to another engine, whose driver stands still.
    for (waiting, holding) in engines().into_iter().zip(engines().into_iter().rev()) {
        std::fs::write(&path, bytes(0, 5000, 1)).expect("the file");
        let (file, other) = (open(&waiting, &path, Direct::Prefer), open(&holding, &path, Direct::Prefer));
        let gate = Gate::close(&other);
        let write = other.write_at(bytes(0, 100, 2), 0);
        let (canceled, (told, tell)) = (Arc::new(AtomicBool::new(false)), mpsc::channel());
        let its = told.clone();
        file.sync_then(false, Arc::clone(&canceled), move |result| its.send(("sync", result)).expect("a listener"));
        assert!(tell.recv_timeout(Duration::from_millis(100)).is_err(), "the sync waits for the write");
        canceled.store(true, Ordering::Release);
        waiting.sweep();
        let (_, result) = tell.recv_timeout(patient(LIMIT)).expect("the sync ends");
        assert_eq!(result.expect_err("it was cancelled").kind(), ErrorKind::Canceled);
        drop(gate);
        write.wait().result.expect("the write goes on");
        file.sync_all().wait().expect("another sync");
        file.set_len(77).wait().expect("set_len");
        assert_eq!(std::fs::metadata(&path).expect("metadata").len(), 77);
    }
}

/// Keeps an engine's helper threads busy until the sender is dropped.
fn stall_helpers(engine: &Engine) -> mpsc::Sender<()> {
    const HELPERS: usize = 4;
    let (open, opened) = mpsc::channel::<()>();
    let opened = Arc::new(Mutex::new(opened));
    let (arrive, arrived) = mpsc::channel();
    for _ in 0..HELPERS {
        let (opened, arrive) = (Arc::clone(&opened), arrive.clone());
        engine.run_blocking(move || {
            arrive.send(()).expect("a listener");
            // Ends when the sender is dropped, for one helper after the other.
            let _ = opened.lock().expect("the receiver").recv();
        });
    }
    (0..HELPERS).for_each(|_| arrived.recv().expect("a helper"));
    open
}

/// What uses a descriptor after it was closed uses whatever file got its number.
#[test]
fn a_close_waits_for_truncations_and_syncs_that_wait_themselves() {
    alone(|| {
        let place = directory();
        let path = place.path().join("file");
        for (acting, holding) in engines().into_iter().zip(engines().into_iter().rev()) {
            std::fs::write(&path, bytes(0, 5000, 1)).expect("the file");
            let (file, other) = (open(&acting, &path, Direct::Prefer), open(&holding, &path, Direct::Prefer));
            // A write that is at work on the file and does not get on, because nobody makes room for it.
            let stalled = stall_helpers(&holding);
            let write = other.write_at(bytes(5000, 5000, 1), 5000);
            // The driver has seen the write when a read that came after it is done.
            other.read_at(vec![0; 1], 0).wait().result.expect("a read");
            let truncation = file.set_len(77);
            let sync = file.sync_all();
            let close = file.close();
            std::thread::sleep(Duration::from_millis(50));
            // Whoever opens a file now may get the number, if it was closed.
            let victims: Vec<_> = (0..8).map(|index| place.path().join(format!("victim{index}"))).collect();
            let opened: Vec<_> = victims
                .iter()
                .map(|victim| {
                    std::fs::write(victim, bytes(0, 5000, 3)).expect("a victim");
                    std::fs::OpenOptions::new().read(true).write(true).open(victim).expect("a victim")
                })
                .collect();
            drop(stalled);
            write.wait().result.expect("the write");
            truncation.wait().expect("set_len");
            sync.wait().expect("sync");
            close.wait().expect("close");
            for victim in &victims {
                assert_file(victim, &bytes(0, 5000, 3), "a file that had nothing to do with it");
            }
            assert_file(&path, &bytes(0, 77, 1), "the file itself");
            drop(opened);
        }
    });
}

#[test]
fn what_waits_for_another_engine_s_write_is_cancelled_when_its_own_engine_goes() {
    let place = directory();
    let path = place.path().join("file");
    for (leaving, holding) in engines().into_iter().zip(engines().into_iter().rev()) {
        std::fs::write(&path, bytes(0, 5000, 1)).expect("the file");
        let (file, other) = (open(&leaving, &path, Direct::Prefer), open(&holding, &path, Direct::Prefer));
        let stalled = stall_helpers(&holding);
        let write = other.write_at(bytes(5000, 5000, 1), 5000);
        // The driver has seen the write when a read that came after it is done.
        other.read_at(vec![0; 1], 0).wait().result.expect("a read");
        let (truncation, sync) = (file.set_len(77), file.sync_all());
        let waiting = file.write_at(bytes(100, 10, 9), 100);
        let close = file.close();
        within(LIMIT, "dropping an engine whose work waits for another engine", move || {
            drop(leaving);
            for task in [truncation, sync] {
                assert_eq!(task.wait().expect_err("its engine is gone").kind(), ErrorKind::Canceled);
            }
            assert_eq!(waiting.wait().result.expect_err("it waited for the truncation").kind(), ErrorKind::Canceled);
            close.wait().expect("a close always runs");
        });
        drop(stalled);
        write.wait().result.expect("the other engine's write");
        // The truncation that was announced is called off: others may write.
        other.write_at(bytes(10_000, 100, 1), 10_000).wait().result.expect("a write");
        assert_file(&path, &bytes(0, 10_100, 1), "after one engine left");
    }
}

// ---- shutting down ----

/// Counts how often it is settled.
#[derive(Default)]
struct Once {
    settled: AtomicU32,
    kind: Mutex<Option<ErrorKind>>,
}

impl Completion for Once {
    fn settle(self: Arc<Self>, outcome: Outcome) {
        *self.kind.lock().expect("the kind") = outcome.result.err().map(|error| error.kind());
        self.settled.fetch_add(1, Ordering::AcqRel);
    }
    fn canceled(&self) -> bool {
        false
    }
}

#[test]
fn an_engine_dropped_with_thousands_queued_settles_each_exactly_once() {
    let place = directory();
    let path = data_file(place.path(), 16);
    for builder in builders() {
        let engine = builder.build().expect("an engine");
        let file = open(&engine, &path, Direct::Prefer);
        let memory = Box::leak(vec![0u8; 5 << 20].into_boxed_slice()).as_mut_ptr() as u64;
        let gate = Gate::close(&file);
        let completions: Vec<Arc<Once>> = (0..20_000u64)
            .map(|index| {
                let completion = Arc::new(Once::default());
                let len = if index % 100 == 0 { 4 << 20 } else { 4096 };
                let transfer = RawTransfer {
                    direction: Direction::Read,
                    address: memory,
                    len,
                    position: index % 1000 * 4096,
                    exact: true,
                    handle: None,
                };
                let its = Arc::clone(&completion) as Arc<dyn Completion>;
                if index % 10 == 9 {
                    // SAFETY: the memory is leaked; reads into it race only with each other and nobody looks.
                    unsafe { engine.submit_path(&path, false, 0o600, transfer, its) };
                } else {
                    // SAFETY: as above.
                    unsafe { file.submit(transfer, its) };
                }
                completion
            })
            .collect();
        engine.wake();
        drop(gate);
        std::thread::sleep(Duration::from_millis(2));
        let started = Instant::now();
        drop((file, engine));
        let took = started.elapsed();
        let mut canceled = 0;
        for completion in &completions {
            assert_eq!(completion.settled.load(Ordering::Acquire), 1, "settled once, before the drop returned");
            match *completion.kind.lock().expect("the kind") {
                None => {}
                Some(ErrorKind::Canceled) => canceled += 1,
                Some(other) => panic!("an operation ended as {other:?}"),
            }
        }
        assert!(canceled > 0, "nothing was left to cancel: this run proved nothing");
        assert!(took < Duration::from_secs(10), "the drop took {took:?}");
    }
}

#[test]
fn an_operation_that_outlives_its_engine_has_an_answer() {
    let place = directory();
    let path = data_file(place.path(), 16);
    for builder in builders() {
        let engine = builder.queue_depth(1).build().expect("an engine");
        let file = open(&engine, &path, Direct::Prefer);
        let ops: Vec<_> = (0..200u64).map(|index| file.read_at(vec![0; 70_000], index * 70_000)).collect();
        let sync = file.sync_all();
        drop(file);
        drop(engine);
        within(LIMIT, "operations of an engine that is gone", move || {
            for (index, op) in ops.into_iter().enumerate() {
                let Completed { buf, result } = op.wait();
                let buf = buf.expect("the buffer");
                match result {
                    Ok(_) => assert_same(&buf, &bytes(index as u64 * 70_000, 70_000, 1), "what was read"),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Canceled, "{error}"),
                }
            }
            if let Err(error) = sync.wait() {
                assert_eq!(error.kind(), ErrorKind::Canceled, "{error}");
            }
        });
    }
}

/// Drops what it holds when it is settled: on a thread of the engine.
struct LastHolder {
    held: Mutex<Option<(File, Engine)>>,
    told: Mutex<mpsc::Sender<String>>,
}

impl Completion for LastHolder {
    fn settle(self: Arc<Self>, _: Outcome) {
        drop(self.held.lock().expect("what it holds").take());
        let name = std::thread::current().name().unwrap_or_default().to_owned();
        self.told.lock().expect("the sender").send(name).expect("a listener");
    }
    fn canceled(&self) -> bool {
        false
    }
}

#[test]
fn an_engine_may_be_dropped_by_its_own_completion() {
    alone(|| {
        let place = directory();
        let path = data_file(place.path(), 4);
        for builder in builders() {
            let engine = builder.build().expect("an engine");
            // By the completion of a transfer, on the driver's thread, with more work behind it.
            let (told, tell) = mpsc::channel();
            let file = open(&engine, &path, Direct::Prefer);
            let memory = Box::leak(vec![0u8; 4096].into_boxed_slice()).as_mut_ptr() as u64;
            let transfer = RawTransfer { direction: Direction::Read, address: memory, len: 4096, position: 0, exact: true, handle: None };
            let behind: Vec<_> = (0..100).map(|_| file.read_at(vec![0; 100_000], 7)).collect();
            let second = open(&engine, &path, Direct::Prefer);
            let holder = LastHolder { held: Mutex::new(None), told: Mutex::new(told) };
            let holder = Arc::new(holder);
            *holder.held.lock().expect("what it holds") = Some((second, engine.clone()));
            // SAFETY: the memory is leaked and nobody else uses it.
            unsafe { file.submit(transfer, holder) };
            file.engine().wake();
            drop((file, engine));
            tell.recv_timeout(patient(LIMIT)).expect("the completion, and a drop that does not wait for itself");
            for op in behind {
                if let Err(error) = op.wait().result {
                    assert_eq!(error.kind(), ErrorKind::Canceled, "{error}");
                }
            }
            eventually(LIMIT, "the engine's threads have ended", || task::ours().is_empty());
        }
        for builder in builders() {
            let engine = builder.build().expect("an engine");
            // By the callback of an open, on a helper's thread.
            let (told, tell) = mpsc::channel();
            let kept = engine.clone();
            engine.open_then(&path, OpenOptions::new().read(true), move |file| {
                drop(file);
                drop(kept);
                told.send(()).expect("a listener");
            });
            drop(engine);
            tell.recv_timeout(patient(LIMIT)).expect("the callback, and a drop that does not wait for itself");
            eventually(LIMIT, "the engine's threads have ended", || task::ours().is_empty());
        }
    });
}

#[test]
fn engines_leave_neither_threads_nor_descriptors_behind() {
    alone(|| {
        let place = directory();
        let path = data_file(place.path(), 4);
        let threads = task::all().len();
        // What comes with the first engine and stays, and not what is about to go: a thread that was joined is listed a little longer.
        drop(engines());
        eventually(LIMIT, "the first engines' threads are gone", || task::all().len() == threads);
        let descriptors = task::descriptors();
        let mut kept = Vec::new();
        for round in 0..10u64 {
            for engine in engines() {
                let file = open(&engine, &path, Direct::Prefer);
                // An operation that somebody holds on to keeps neither the file open nor the engine alive.
                kept.push(file.read_at(vec![0; 10], round));
                drop(file.stat());
                let other = engine.open_async(&path, READ_WRITE);
                drop(file.read_at(vec![0; 1 << 20], round));
                drop(file.write_at(bytes(10, 100, 1), 10));
                drop(engine.read_file(&path, vec![0; 4 << 20]));
                drop(file.sync_all());
                if round % 2 == 0 {
                    drop(file.close());
                }
                drop(other);
            }
        }
        eventually(LIMIT, "all threads are gone", || task::all().len() == threads);
        eventually(Duration::from_secs(5), "all files are closed", || !task::has_open(&path));
        drop(kept);
        eventually(Duration::from_secs(5), "all descriptors are gone", || task::descriptors() == descriptors);
    });
}

#[test]
fn a_program_that_is_started_inherits_no_descriptor() {
    let place = directory();
    let path = data_file(place.path(), 1);
    let engines = engines();
    let _files: Vec<_> = engines.iter().map(|engine| open(engine, &path, Direct::Prefer)).collect();
    let listed = std::process::Command::new("ls").args(["-l", "/proc/self/fd"]).output().expect("ls");
    let listed = String::from_utf8_lossy(&listed.stdout);
    for ours in ["io_uring", "eventfd", "data"] {
        assert!(!listed.contains(ours), "a descriptor was inherited: {listed}");
    }
}

#[test]
fn a_process_may_end_with_operations_in_flight() {
    alone_ending(|| {
        let place = std::mem::ManuallyDrop::new(directory());
        // Removed while it is open, because nobody will be left to do it.
        let path = data_file(place.path(), 32);
        for engine in engines() {
            let file = open(&engine, &path, Direct::Prefer);
            for index in 0..64u64 {
                std::mem::forget(file.read_at(vec![0; 1 << 20], (index % 32) << 20));
                std::mem::forget(file.write_at(bytes(0, 5000, 1), index * 4999));
            }
            std::mem::forget((file, engine));
        }
        std::fs::remove_dir_all(place.path()).expect("the directory");
    });
}

/// There are no bytes to be missed, so only the engine can know that it never began.
#[test]
fn a_whole_file_write_of_nothing_that_was_cancelled_has_neither_happened_nor_succeeded() {
    let place = directory();
    let path = data_file(place.path(), 1);
    for engine in engines() {
        let other = open(&engine, &path, Direct::Prefer);
        let stalled = stall_helpers(&engine);
        let write = engine.write_file(&path, Vec::new());
        // The driver has seen the write when a read that came after it is done; the file cannot be opened meanwhile.
        other.read_at(vec![0; 1], 0).wait().result.expect("a read");
        write.cancel();
        drop(stalled);
        assert_eq!(write.wait().result.expect_err("it was cancelled").kind(), ErrorKind::Canceled);
        assert_eq!(std::fs::metadata(&path).expect("the file").len(), 1 << 20, "the file was cut");
    }
}

#[test]
fn an_operation_that_is_held_on_to_keeps_no_file_open_after_its_engine() {
    let place = directory();
    let path = data_file(place.path(), 1);
    for builder in builders() {
        let engine = builder.build().expect("an engine");
        let file = open(&engine, &path, Direct::Prefer);
        let op = file.read_at(vec![0; 10], 0);
        let stalled = stall_helpers(&engine);
        // It will run when the driver has ended already.
        let stat = file.stat();
        let ending = std::thread::spawn(move || drop((file, engine)));
        std::thread::sleep(Duration::from_millis(50));
        drop(stalled);
        ending.join().expect("the engine has ended");
        stat.wait().expect("stat");
        assert!(!task::has_open(&path), "the file is still open, and nobody is left to close it");
        drop(op);
    }
}

// ---- futures ----

/// Wakes a thread, and counts.
struct Bell {
    thread: Thread,
    rung: AtomicUsize,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.rung.fetch_add(1, Ordering::AcqRel);
        self.thread.unpark();
    }
}

fn bell() -> Arc<Bell> {
    Arc::new(Bell { thread: std::thread::current(), rung: AtomicUsize::new(0) })
}

fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(bell());
    let mut context = Context::from_waker(&waker);
    let deadline = Instant::now() + patient(LIMIT);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        assert!(Instant::now() < deadline, "a future was not woken");
        std::thread::park_timeout(patient(LIMIT));
    }
}

#[test]
fn operations_and_tasks_are_futures() {
    let place = directory();
    let path = place.path().join("file");
    for engine in engines() {
        let path = &path;
        block_on(async {
            let file = engine.open_async(path, READ_WRITE.truncate(true)).await.expect("an open file");
            let writes: Vec<_> = (0..50u64).map(|index| file.write_at(bytes(index * 999, 999, 1), index * 999)).collect();
            for op in writes {
                op.await.result.expect("a write");
            }
            file.sync_all().await.expect("sync");
            let Completed { buf, result } = file.read_exact_at(engine.buffer(49_950).expect("memory"), 0).await;
            assert_eq!(result.expect("a read").bytes, 49_950);
            assert_same(&buf.expect("the buffer"), &bytes(0, 49_950, 1), "what was read");
            file.set_len(10).await.expect("set_len");
            assert_eq!(file.stat().await.expect("stat").size, 10);
            file.close().await.expect("close");
            let missing = engine.open_async(path.with_extension("missing"), OpenOptions::new().read(true)).await;
            assert_eq!(missing.expect_err("missing").code(), "ENOENT");
        });
    }
}

#[test]
fn the_last_waker_is_the_one_that_is_woken() {
    let place = directory();
    let path = data_file(place.path(), 1);
    for engine in engines() {
        let file = open(&engine, &path, Direct::Prefer);
        let gate = Gate::close(&file);
        let mut op = pin!(file.read_exact_at(vec![0; 4096], 0));
        let (first, last) = (bell(), bell());
        for bell in [&first, &last] {
            let waker = Waker::from(Arc::clone(bell));
            assert!(op.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        }
        drop(gate);
        eventually(LIMIT, "the last waker is woken", || last.rung.load(Ordering::Acquire) == 1);
        assert_eq!(first.rung.load(Ordering::Acquire), 0);
        let Poll::Ready(Completed { result, .. }) = op.as_mut().poll(&mut Context::from_waker(Waker::noop())) else {
            panic!("woken, but not ready");
        };
        result.expect("a read");
    }
}

#[test]
fn a_future_dropped_after_a_poll_frees_its_buffer() {
    let place = directory();
    let path = data_file(place.path(), 1);
    for engine in engines() {
        let aviary = Aviary::default();
        let file = open(&engine, &path, Direct::Prefer);
        for _ in 0..50 {
            let mut op = Box::pin(file.read_at(aviary.bird(100_000), 3));
            let _ = op.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        }
        eventually(LIMIT, "every buffer came back", || aviary.returned() == 50);
        assert_eq!(aviary.disturbed(), 0);
    }
}

// ---- a ring that is lost ----

#[test]
fn a_ring_lost_under_way_keeps_its_memory_and_the_engine_goes_on_with_threads() {
    if !backends().contains(&BackendKind::Uring) {
        return harness::skip("DEEPRING_BACKEND names the other backend");
    }
    alone(|| {
        let place = directory();
        let path = data_file(place.path(), 64);
        let engine = Engine::builder().backend(BackendKind::Uring).build().expect("an engine");
        let file = open(&engine, &path, Direct::Prefer);
        let aviary = Aviary::default();
        let mut ops = Vec::new();
        for index in 0..64u64 {
            ops.push((index, file.read_exact_at(aviary.bird(1 << 20), index << 20)));
            if index == 40 {
                // From now on the driver cannot enter its ring, with reads in it.
                forbid(libc::SYS_io_uring_enter, libc::EPERM, true);
            }
        }
        let mut lost = 0;
        for (index, op) in ops {
            let Completed { buf, result } = op.wait();
            match result {
                Ok(_) => {
                    let bird = buf.expect("the buffer");
                    // SAFETY: the operation has ended, so the memory is the bird's again.
                    let content = unsafe { std::slice::from_raw_parts(bird.as_ptr(), bird.len()) };
                    assert_same(content, &bytes(index << 20, 1 << 20, 1), "what was read");
                }
                Err(error) => {
                    assert_eq!((error.kind(), error.code()), (ErrorKind::Lost, "ERR_DEEPRING_LOST".into()), "{error}");
                    assert!(buf.is_none(), "memory the kernel may still write to is not given back");
                    lost += 1;
                }
            }
        }
        assert!(lost > 0, "nothing was in flight: this run proved nothing");
        assert_eq!(aviary.returned(), 64 - lost);
        assert_eq!(aviary.disturbed(), 0);
        let stats = engine.stats();
        assert!(stats.leaked > 0 && stats.leaked_bytes >= lost as u64, "{stats:?}");
        assert_eq!((stats.queued, stats.in_flight, stats.in_flight_bytes), (0, 0, 0));
        let info = engine.info();
        assert_eq!(info.backend, BackendKind::Threads);
        assert!(info.reason.contains("lost"), "{}", info.reason);
        let copy = place.path().join("copy");
        engine.write_file(&copy, bytes(0, 50_001, 3)).wait().result.expect("a write on threads");
        assert_file(&copy, &bytes(0, 50_001, 3), "written after the ring was lost");
        file.sync_all().wait().expect("sync");
        file.close().wait().expect("close");
        within(LIMIT, "dropping an engine whose ring was lost", move || drop(engine));
    });
}
