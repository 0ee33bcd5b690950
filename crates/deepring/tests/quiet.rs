//! Promise: **quiet**. An idle engine uses no CPU and makes no system call, its threads are few
//! under any load, and it and the program's signals do not disturb each other.

mod harness;

use deepring::Direct;
use harness::child::alone;
use harness::task::{self, Task};
use harness::{MODES, assert_file, assert_same, builders, bytes, directory, open, say};
use std::collections::BTreeSet;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// CPU time the engine can use in a second without requests.
const IDLE_CPU_NS_MAX: u64 = 1_000_000;

/// What some threads did between two samples: CPU time, and how often they ran. A thread that did
/// not run made no system call.
fn between(before: &[Task], after: &[Task]) -> (u64, u64) {
    let ids = |tasks: &[Task]| tasks.iter().map(|task| task.id).collect::<Vec<_>>();
    assert_eq!(ids(before), ids(after), "no thread starts or ends");
    let sum = |tasks: &[Task], of: fn(&Task) -> u64| tasks.iter().map(of).sum::<u64>();
    (sum(after, |task| task.cpu_ns) - sum(before, |task| task.cpu_ns), sum(after, |task| task.runs) - sum(before, |task| task.runs))
}

#[test]
fn an_idle_engine_uses_no_cpu_and_makes_no_system_call() {
    alone(|| {
        let place = directory();
        let path = place.path().join("file");
        for builder in builders() {
            let engine = builder.build().expect("an engine");
            let backend = engine.info().backend;
            // Idle from the start, then idle after requests of every kind.
            for worked in [false, true] {
                if worked {
                    for direct in MODES {
                        let file = open(&engine, &path, direct);
                        let ops: Vec<_> = (0..64u64).map(|index| file.write_at(bytes(index * 5001, 5001, 1), index * 5001)).collect();
                        for op in ops {
                            op.wait().result.expect("a write");
                        }
                        file.sync_all().wait().expect("sync");
                        drop(file.read_at(vec![0; 100_000], 0));
                        file.close().wait().expect("close");
                    }
                }
                std::thread::sleep(Duration::from_millis(200));
                let before = task::ours();
                assert!(!before.is_empty(), "the engine has threads");
                std::thread::sleep(Duration::from_millis(if worked { 1000 } else { 300 }));
                let (cpu_ns, runs) = between(&before, &task::ours());
                say(&format!("{backend:?}, worked: {worked}: {cpu_ns} ns of CPU, run {runs} times while idle"));
                assert!(cpu_ns < IDLE_CPU_NS_MAX, "{backend:?}: {cpu_ns} ns of CPU in an idle second");
                assert_eq!(runs, 0, "{backend:?}: an idle thread woke up");
            }
        }
    });
}

#[test]
fn the_idle_check_detects_a_busy_thread() {
    alone(|| {
        // The planted bug: a thread that polls every millisecond.
        let poller = std::thread::Builder::new().name("deepring-busy".into());
        poller
            .spawn(|| {
                loop {
                    std::thread::sleep(Duration::from_millis(1));
                }
            })
            .expect("a thread");
        std::thread::sleep(Duration::from_millis(50));
        let before = task::ours();
        assert_eq!(before.len(), 1);
        std::thread::sleep(Duration::from_millis(300));
        let (_, runs) = between(&before, &task::ours());
        assert!(runs > 50, "{runs} runs of a thread that wakes up every millisecond");
    });
}

#[test]
fn many_idle_engines_are_as_quiet_as_one() {
    alone(|| {
        let engines: Vec<_> = (0..8).flat_map(|_| builders()).map(|builder| builder.build().expect("an engine")).collect();
        std::thread::sleep(Duration::from_millis(200));
        let before = task::ours();
        assert!(before.len() >= engines.len());
        std::thread::sleep(Duration::from_millis(500));
        let (cpu_ns, runs) = between(&before, &task::ours());
        assert!(cpu_ns < IDLE_CPU_NS_MAX && runs == 0, "{cpu_ns} ns of CPU, run {runs} times");
    });
}

/// Threads of the machine that count as waiting for a drive.
fn threads_in_iowait() -> usize {
    let stat = std::fs::read_to_string("/proc/stat").expect("/proc");
    let line = stat.lines().find_map(|line| line.strip_prefix("procs_blocked ")).expect("a count");
    line.parse().expect("a number")
}

#[test]
fn idle_engines_do_not_count_as_waiting_for_a_drive() {
    alone(|| {
        const ENGINES: usize = 64;
        let place = directory();
        let engines: Vec<_> = (0..ENGINES / 2).flat_map(|_| builders()).map(|builder| builder.build().expect("an engine")).collect();
        for (index, engine) in engines.iter().enumerate() {
            engine.write_file(place.path().join(index.to_string()), bytes(0, 5000, 1)).wait().result.expect("a write");
        }
        std::thread::sleep(Duration::from_millis(200));
        // Other processes wait for drives, too, but hardly that many all the time.
        let least = (0..100).map(|_| {
            std::thread::sleep(Duration::from_millis(5));
            threads_in_iowait()
        });
        let least = least.min().expect("a look");
        say(&format!("{least} threads in iowait"));
        assert!(least < engines.len() / 4, "{least} threads in iowait, of {} idle engines", engines.len());
    });
}

#[test]
fn an_append_storm_starts_few_threads() {
    alone(|| {
        // For a ring, the kernel's own workers: 4, and one more.
        const KERNEL_MAX: usize = 5;
        // The driver, 4 blocking threads, 8 transfer threads without a ring, and those that make
        // bounce memory present.
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let ours_max = 1 + 4 + 8 + (processors / 2).clamp(1, 4);
        let place = directory();
        for builder in builders() {
            let engine = builder.build().expect("an engine");
            for direct in MODES {
                let files: Vec<_> = (0..8).map(|index| open(&engine, &place.path().join(format!("{index}-{direct:?}")), direct)).collect();
                let ops: Vec<_> = (0..1600u64)
                    .map(|index| (index % 8, index / 8 * 1777))
                    .map(|(file, position)| files[file as usize].write_at(bytes(position, 1777, 1), position))
                    .collect();
                let (mut ours, mut kernel) = (0, 0);
                loop {
                    let queued = engine.stats().queued;
                    let tasks = task::all();
                    // By their names, each of which one thread has: a worker of the kernel has the driver's until its own is set.
                    let names: BTreeSet<_> = tasks.iter().map(|task| &task.name).filter(|name| name.starts_with("deepring")).collect();
                    let workers = tasks.iter().filter(|task| task.name.starts_with("iou-wrk")).count();
                    (ours, kernel) = (ours.max(names.len()), kernel.max(workers));
                    if queued == 0 {
                        break;
                    }
                    std::thread::sleep(Duration::from_millis(1));
                }
                for op in ops {
                    op.wait().result.expect("an append");
                }
                say(&format!("{:?} {direct:?}: at most {ours} threads of the engine, {kernel} of the kernel", engine.info().backend));
                assert!(ours > 0 && ours <= ours_max, "{ours} threads of the engine");
                assert!(kernel <= KERNEL_MAX, "{kernel} threads of the kernel");
                assert_file(&place.path().join(format!("3-{direct:?}")), &bytes(0, 200 * 1777, 1), "after the storm");
            }
        }
    });
}

#[test]
fn submitting_never_waits_for_the_device() {
    let place = directory();
    let path = place.path().join("file");
    std::fs::write(&path, bytes(0, 32 << 20, 1)).expect("the file");
    for builder in builders() {
        let engine = builder.build().expect("an engine");
        let file = open(&engine, &path, Direct::Prefer);
        let mut waits = Vec::new();
        let mut ops = Vec::new();
        for index in 0..400u64 {
            let buf = vec![0; 1 << 20];
            let started = Instant::now();
            ops.push(file.read_at(buf, (index % 32) << 20));
            waits.push(started.elapsed());
        }
        let already_done = ops.iter().filter(|op| format!("{op:?}") == "Op(done)").count();
        waits.sort_unstable();
        // The median, because on a busy machine any thread can lose its CPU in between.
        assert!(waits[200] < Duration::from_millis(1), "submitting took {:?}, and {already_done} were already done", waits[200]);
        for op in ops {
            op.wait().result.expect("a read");
        }
    }
}

// ---- signals ----

static ALARMS: AtomicU32 = AtomicU32::new(0);
static ALARMS_ON_OURS: AtomicU32 = AtomicU32::new(0);

/// Counts alarms, and those that arrive on a thread of the engine. Calls only what a signal handler
/// is allowed to call.
extern "C" fn on_alarm(_: libc::c_int) {
    let mut name = [0u8; 16];
    // SAFETY: the kernel writes at most 16 bytes.
    unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
    ALARMS.fetch_add(1, Ordering::Relaxed);
    if name.starts_with(b"deepring") {
        ALARMS_ON_OURS.fetch_add(1, Ordering::Relaxed);
    }
}

fn start_alarms() {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: zeroed memory of the right size; all fields are integers.
    let action = unsafe { action.assume_init_mut() };
    action.sa_sigaction = on_alarm as *const () as usize;
    // Without SA_RESTART, so that every interruptible system call of the program is interrupted.
    // SAFETY: points to a complete action whose handler calls only async-signal-safe functions.
    assert_eq!(unsafe { libc::sigaction(libc::SIGALRM, action, std::ptr::null_mut()) }, 0);
    let often = libc::timeval { tv_sec: 0, tv_usec: 500 };
    let timer = libc::itimerval { it_interval: often, it_value: often };
    // SAFETY: points to a local timer.
    assert_eq!(unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut()) }, 0);
}

#[test]
fn a_storm_of_signals_disturbs_no_operation_and_reaches_no_engine_thread() {
    alone(|| {
        let place = directory();
        let path = place.path().join("file");
        start_alarms();
        for builder in builders() {
            let engine = builder.build().expect("an engine");
            for round in 0..12u64 {
                for direct in MODES {
                    let file = open(&engine, &path, direct);
                    file.set_len(0).wait().expect("set_len");
                    let ops: Vec<_> = (0..40u64).map(|index| file.write_at(bytes(index * 30_001, 30_001, round), index * 30_001)).collect();
                    for op in ops {
                        op.wait().result.expect("a write");
                    }
                    file.sync_data().wait().expect("sync");
                    let (buf, _) = file.read_exact_at(vec![0; 40 * 30_001], 0).wait().ok().expect("a read");
                    assert_same(&buf, &bytes(0, 40 * 30_001, round), "among signals");
                    file.close().wait().expect("close");
                }
            }
        }
        let alarms = ALARMS.load(Ordering::Relaxed);
        say(&format!("{alarms} signals"));
        assert!(alarms > 50, "{alarms} signals, so this run proved nothing");
        assert_eq!(ALARMS_ON_OURS.load(Ordering::Relaxed), 0, "a signal handler of the program ran on a thread of the engine");
    });
}
