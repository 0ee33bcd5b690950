//! Memory that was never touched: made present by threads ahead of the device, and only where it is
//! read into. Memory that the engine brings itself: no old byte is seen. Copies of bounced writes: not
//! on the driver.

mod harness;

use deepring::binding::{Completion, EngineBinding, FileBinding, Outcome, RawTransfer};
use deepring::{BackendKind, Completed, Direct, Direction, Engine, ErrorKind, File, HugePages};
use harness::child::{alone as alone_in_child, forbid};
use harness::{assert_same, bytes, directory, engines, is_direct, open, skip, within};
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(120);
const MIB: usize = 1 << 20;
const FILE: usize = 96 * MIB;

/// The tests look at the memory and the threads of the process, so they run one after the other.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn ring() -> Option<Engine> {
    let engine = Engine::builder().build().expect("an engine");
    if engine.info().backend == BackendKind::Uring {
        return Some(engine);
    }
    skip("the engine has no ring");
    None
}

/// A file of this length in the directory, and what is in it.
fn file_of(engine: &Engine, place: &Path, len: usize) -> (File, Vec<u8>) {
    let (path, content) = (place.join("file"), bytes(0, len, 1));
    std::fs::write(&path, &content).expect("the file");
    (open(engine, &path, Direct::Prefer), content)
}

/// Page faults that the drivers of this process took.
fn faults() -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").expect("threads").flatten();
    let numbers = tasks.filter_map(|task| {
        let stat = std::fs::read_to_string(task.path().join("stat")).ok()?;
        let (name, fields) = stat.split_once('(')?.1.rsplit_once(')')?;
        name.starts_with("deepring-drive").then(|| fields.split_whitespace().nth(7)?.parse::<u64>().ok())?
    });
    numbers.sum()
}

fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/smaps_rollup").expect("smaps_rollup");
    let line = text.lines().find_map(|line| line.strip_prefix("Rss:")).expect("the line");
    line.trim().trim_end_matches("kB").trim().parse::<usize>().expect("a number") << 10
}

/// Anonymous memory of this process that is not the engine's.
struct Foreign(Range<usize>);

impl Foreign {
    fn map(len: usize, protection: i32) -> Self {
        // SAFETY: a new mapping at an address of the kernel's choice.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), len, protection, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0) };
        assert_ne!(start, libc::MAP_FAILED);
        Self(start as usize..start as usize + len)
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: the mapping lives as long as the value, and no request has it.
        unsafe { std::slice::from_raw_parts(self.0.start as *const u8, self.0.len()) }
    }

    fn read(&self, file: &File) -> Outcome {
        self.transfer(file, Direction::Read, 0)
    }

    /// Transfers all but the first `skip` bytes.
    fn transfer(&self, file: &File, direction: Direction, skip: usize) -> Outcome {
        struct Report(Mutex<mpsc::Sender<Outcome>>);
        impl Completion for Report {
            fn settle(self: Arc<Self>, outcome: Outcome) {
                self.0.lock().expect("the sender").send(outcome).expect("a test that waits");
            }
            fn canceled(&self) -> bool {
                false
            }
        }
        let (sender, outcomes) = mpsc::channel();
        let (address, len) = ((self.0.start + skip) as u64, (self.0.len() - skip) as u64);
        let transfer = RawTransfer::new(direction, address, len, 0).exact(true);
        // SAFETY: the mapping outlives the outcome, which is waited for, and nothing else uses it.
        unsafe { file.submit(transfer, Arc::new(Report(Mutex::new(sender)))) };
        file.engine().wake();
        outcomes.recv().expect("an outcome")
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's, and nothing uses it any more.
        unsafe { libc::munmap(self.0.start as *mut libc::c_void, self.0.len()) };
    }
}

#[test]
fn the_driver_takes_no_page_fault_of_memory_that_was_never_touched() {
    let _alone = alone();
    within(LIMIT, "reads into fresh memory", || {
        let Some(engine) = ring() else { return };
        let place = directory();
        let (file, content) = file_of(&engine, place.path(), FILE);
        // The driver's own stack and tables.
        file.read_exact_at(vec![0u8; MIB], 0).wait().result.expect("a read");
        // Pages of 4 KiB would be 24 000 faults, huge ones 48.
        let before = faults();
        let buffer = file.read_exact_at(engine.buffer(FILE).expect("memory"), 0).wait().ok().expect("a read").0;
        let of_engine = faults() - before;
        assert_same(&buffer, &content, "after a read into fresh engine memory");
        let foreign = Foreign::map(FILE, libc::PROT_READ | libc::PROT_WRITE);
        let before = faults();
        foreign.read(&file).result.expect("a read");
        let of_foreign = faults() - before;
        assert_same(foreign.bytes(), &content, "after a read into fresh memory");
        assert!(of_engine < 16 && of_foreign < 16, "{of_engine} and {of_foreign} faults");
    });
}

#[test]
fn allocating_takes_no_memory_and_reading_takes_only_what_is_read_into() {
    let _alone = alone();
    within(LIMIT, "a read into a part", || {
        for engine in engines() {
            let place = directory();
            let (file, _) = file_of(&engine, place.path(), 8 * MIB);
            file.read_exact_at(vec![0u8; MIB], 0).wait().result.expect("a read");
            let before = resident();
            let mut buffer = engine.buffer(512 * MIB).expect("memory");
            let rest = buffer.split_off(8 * MIB);
            assert!(resident() < before + 4 * MIB, "allocating takes memory");
            let buffer = file.read_exact_at(buffer, 0).wait().buf;
            let taken = resident() - before;
            assert!((8 * MIB..24 * MIB).contains(&taken), "{taken} bytes for a read of 8 MiB");
            drop((buffer, rest));
        }
    });
}

#[test]
fn a_read_into_memory_that_cannot_be_written_is_an_error() {
    let _alone = alone();
    within(LIMIT, "reads into bad memory", || {
        for engine in engines() {
            let place = directory();
            let (file, _) = file_of(&engine, place.path(), 4 * MIB);
            for protection in [libc::PROT_NONE, libc::PROT_READ] {
                let memory = Foreign::map(4 * MIB, protection);
                let error = memory.read(&file).result.expect_err("memory that cannot be written");
                assert_eq!((error.kind(), error.transferred()), (ErrorKind::Os(libc::EFAULT), 0), "{error}");
            }
            // And the engine still populates.
            let memory = Foreign::map(4 * MIB, libc::PROT_READ | libc::PROT_WRITE);
            memory.read(&file).result.expect("a read");
        }
    });
}

#[test]
fn where_the_kernel_does_not_populate_engine_memory_is_touched_and_other_memory_is_left_to_the_read() {
    alone_in_child(|| {
        let Some(engine) = ring() else { return };
        let place = directory();
        let (file, content) = file_of(&engine, place.path(), FILE);
        file.read_exact_at(vec![0u8; MIB], 0).wait().result.expect("a read");
        let buffers: Vec<_> = (0..2).map(|_| engine.buffer(FILE).expect("memory")).collect();
        // As before Linux 5.14, but for all advice.
        forbid(libc::SYS_madvise, libc::EINVAL, true);
        for buffer in buffers {
            let before = faults();
            let buffer = file.read_exact_at(buffer, 0).wait().ok().expect("a read").0;
            let taken = faults() - before;
            assert!(taken < 16, "{taken} page faults of the driver");
            assert_same(&buffer, &content, "after a read into memory that was touched");
        }
        let mut foreign = Foreign::map(FILE, libc::PROT_READ | libc::PROT_WRITE);
        foreign.read(&file).result.expect("a read");
        assert_same(foreign.bytes(), &content, "after a read into memory that is not the engine's");
        forbid(libc::SYS_mincore, libc::ENOSYS, true);
        foreign = Foreign::map(FILE, libc::PROT_READ | libc::PROT_WRITE);
        foreign.read(&file).result.expect("a read");
        assert_same(foreign.bytes(), &content, "after a read into memory of which nothing is known");
    });
}

/// Leaves old bytes in the memory that the pool lends next.
fn soil(engine: &Engine, len: usize) {
    let mut buffers: Vec<_> = (0..2).map(|_| engine.pooled_buffer(len).expect("memory")).collect();
    for buffer in &mut buffers {
        buffer.fill(0xa5);
    }
}

#[test]
fn a_read_that_brings_its_memory_shows_the_bytes_of_the_file_and_zeros() {
    let _alone = alone();
    within(LIMIT, "reads that bring their memory", || {
        for engine in engines() {
            let place = directory();
            let (file, content) = file_of(&engine, place.path(), 3 * MIB + 777);
            for (position, len) in [
                (0, 3 * MIB + 777),
                (0, 8 * MIB),
                (5, 100),
                (3 * MIB + 700, 4096),
                (3 * MIB, 40 * MIB),
                (1 << 40, 70_000),
                (0, 0),
                (9 * MIB, 1),
            ] {
                soil(&engine, len);
                let (buffer, receipt) = file.read_buffer_at(position as u64, len).wait().ok().expect("a read");
                let expected = content.get(position..).map_or(&[][..], |rest| &rest[..rest.len().min(len)]);
                assert_eq!((receipt.bytes, buffer.len()), (expected.len() as u64, len));
                assert_same(&buffer[..expected.len()], expected, "what was read");
                assert!(buffer[expected.len()..].iter().all(|&byte| byte == 0), "old bytes behind a short read");
            }
            let (sender, results) = mpsc::channel();
            let then = move |completed: Completed<_>| sender.send(completed).expect("a test that waits");
            file.read_buffer_then(4096, MIB, None, Arc::default(), then);
            engine.wake();
            let (buffer, _) = results.recv().expect("a result").ok().expect("a read");
            assert_same(&buffer, &content[4096..4096 + MIB], "what a callback gets");
            // A close ends after the buffers have arrived.
            let reads: Vec<_> = (0..8).map(|_| file.read_buffer_at(0, 32 * MIB)).collect();
            file.close().wait().expect("a close");
            for read in &reads {
                assert_eq!(format!("{read:?}"), "Op(done)");
            }
        }
    });
}

#[test]
fn a_read_that_brings_its_memory_and_does_not_succeed_shows_none() {
    let _alone = alone();
    within(LIMIT, "reads that fail", || {
        for engine in engines() {
            let place = directory();
            let (file, _) = file_of(&engine, place.path(), 32 * MIB);
            let mut canceled = 0;
            for _ in 0..20 {
                soil(&engine, 32 * MIB);
                let reads: Vec<_> = (0..4).map(|_| file.read_buffer_at(0, 32 * MIB)).collect();
                for read in &reads {
                    read.cancel();
                }
                for Completed { buf, result } in reads.into_iter().map(deepring::Op::wait) {
                    assert_eq!(buf.is_some(), result.is_ok());
                    canceled += usize::from(result.is_err_and(|error| error.kind() == ErrorKind::Canceled));
                }
            }
            assert!(canceled > 0);
            let Completed { buf, result } = file.read_buffer_at(u64::MAX, MIB).wait();
            assert_eq!((buf.is_none(), result.expect_err("too far").kind()), (true, ErrorKind::Os(libc::EFBIG)));
            let Completed { buf, result } = file.read_buffer_at(0, usize::MAX / 2).wait();
            assert_eq!((buf.is_none(), result.expect_err("too much").kind()), (true, ErrorKind::Os(libc::ENOMEM)));
            drop(file.read_buffer_at(0, 32 * MIB));
            file.close().wait().expect("a close");
            let stats = engine.stats();
            assert_eq!((stats.buffers, stats.queued), (0, 0), "every buffer came back");
        }
    });
}

#[test]
fn a_write_from_unaligned_memory_is_not_copied_by_the_driver() {
    let _alone = alone();
    within(LIMIT, "unaligned writes", || {
        let Some(engine) = ring() else { return };
        let place = directory();
        if !is_direct(place.path()) {
            return skip("no direct I/O here");
        }
        let (file, _) = file_of(&engine, place.path(), FILE);
        file.write_at(vec![1u8; 2 * MIB], 1).wait().result.expect("a write");
        // Whoever copies from it faults it in.
        let memory = Foreign::map(FILE, libc::PROT_READ | libc::PROT_WRITE);
        let before = faults();
        let receipt = memory.transfer(&file, Direction::Write, 1).result.expect("a write");
        let taken = faults() - before;
        assert_eq!(receipt.bounced, FILE as u64 - 1);
        assert!(taken < 64, "{taken} page faults of the driver");
        let written = std::fs::read(place.path().join("file")).expect("the file");
        assert!(written.len() == FILE && written[..FILE - 1].iter().all(|&byte| byte == 0), "what was written");
    });
}

#[test]
fn info_tells_what_the_system_says_of_huge_pages() {
    let engine = Engine::builder().build().expect("an engine");
    let text = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled").unwrap_or_default();
    let expected = [("[always]", HugePages::Always), ("[madvise]", HugePages::Madvise), ("[never]", HugePages::Never)];
    let expected = expected.into_iter().find(|(word, _)| text.contains(word)).map_or(HugePages::Unknown, |(_, state)| state);
    // SAFETY: no pointers.
    let disabled = unsafe { libc::prctl(libc::PR_GET_THP_DISABLE, 0, 0, 0, 0) } == 1;
    assert_eq!(engine.info().huge_pages, if disabled { HugePages::Never } else { expected });
}
