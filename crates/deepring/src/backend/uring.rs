//! The `io_uring` backend: one ring, owned by the driver's thread.
//!
//! * **Set-up is a ladder.** It starts with all useful flags and takes one step down on each
//!   `EINVAL`, to a plain ring of kernel 5.6. On `ENOMEM` it halves the entries, because the rings
//!   of ordinary users count against `RLIMIT_MEMLOCK`. One real operation proves that the ring
//!   works, not the kernel's version: containers allow `io_uring_setup` and refuse
//!   `io_uring_enter`, or the reverse.
//! * **No completion can be lost.** The completion queue is at least as large as everything that
//!   can be in flight.
//! * **Waking** is an operation like any other: a read of the doorbell's `eventfd` is always in
//!   flight, and its completion ends a wait.
//! * **Idleness.** The wake read is in flight even if nothing else is, and the kernel counts a thread
//!   that sleeps in a ring with something in flight as one that waits for a drive: the CPU as 100 %
//!   iowait, and the process as under I/O pressure. With nothing else in flight the driver sleeps
//!   with a flag against that, or, before 6.15, by `poll`.
//! * **Failure.** An error of `enter` is not the result of any operation: those that were pushed
//!   belong to the kernel. `EINTR`, `EAGAIN` and `EBUSY` are waited out; any other error means that
//!   the ring is lost. Then the completions that are still in its queue are read, and the ring
//!   stays open forever, because the kernel can still write through it.
//!
//! `DEFER_TASKRUN` (6.1) runs completion work only inside our `enter`. Older kernels get a lower
//! step of the ladder without it.

use super::threads::Threads;
use super::{Backend, BackendKind, DeviceOp, Done};
use crate::doorbell::Doorbell;
use crate::plan::Direction;
use crate::slots::Key;
use crate::sys::{Errno, file, thread};
use io_uring::{IoUring, opcode, squeue, types};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

/// The completion of the wake read. Keys never have the top bit set.
const WAKE: u64 = 1 << 63;

/// `IORING_ENTER_GETEVENTS`
const ENTER_GETEVENTS: u32 = 1;

/// `IORING_ENTER_NO_IOWAIT`: since 6.15.
const ENTER_NO_IOWAIT: u32 = 1 << 7;

/// How often a call is repeated, and after which pause, while the kernel is short of memory. Then
/// the ring counts as lost.
const BUSY_ROUNDS: u32 = 2000;
const BUSY_PAUSE: Duration = Duration::from_millis(1);

/// The smallest ring that is worth its cost.
const ENTRIES_MIN: u32 = 16;

pub(crate) struct Uring {
    ring: Option<IoUring>,
    /// Operations that the ring holds beside the wake read.
    capacity: usize,
    staged: usize,
    /// Operations that were staged and have not completed, the wake read not counted.
    in_flight: usize,
    /// Whether the kernel knows [`ENTER_NO_IOWAIT`].
    no_iowait: bool,
    flags: Vec<&'static str>,
    doorbell: Arc<Doorbell>,
    /// Of the threads that take over.
    io_threads: usize,
    /// The memory of the wake read: on the heap, so that it stays in place.
    counter: Box<u64>,
    lost: bool,
}

/// Why a ring is not available, in words that a person can act on.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    pub(crate) errno: Errno,
    pub(crate) reason: String,
}

/// One rung of the ladder: the names to report, and what sets the flags.
type Rung = (&'static [&'static str], fn(&mut io_uring::Builder));

const LADDER: &[Rung] = &[
    (&["CLAMP", "SUBMIT_ALL", "SINGLE_ISSUER", "DEFER_TASKRUN", "NO_SQARRAY"], |b| {
        b.setup_submit_all().setup_single_issuer().setup_defer_taskrun().setup_no_sqarray();
    }),
    (&["CLAMP", "SUBMIT_ALL", "SINGLE_ISSUER", "DEFER_TASKRUN"], |b| {
        b.setup_submit_all().setup_single_issuer().setup_defer_taskrun();
    }),
    (&["CLAMP", "SUBMIT_ALL", "COOP_TASKRUN"], |b| {
        b.setup_submit_all().setup_coop_taskrun();
    }),
    (&["CLAMP"], |_| {}),
];

impl Uring {
    /// Sets up a ring of about `entries` and proves that it works. Must be called on the thread
    /// that will use it.
    pub(crate) fn new(doorbell: Arc<Doorbell>, entries: u32, io_threads: usize) -> Result<Self, Refusal> {
        let (ring, flags) = set_up(entries).map_err(|errno| refusal(errno, "io_uring_setup"))?;
        let capacity = ring.params().sq_entries() as usize - 1;
        let mut uring = Self {
            ring: Some(ring),
            capacity,
            staged: 0,
            in_flight: 0,
            no_iowait: true,
            flags,
            doorbell,
            io_threads,
            counter: Box::new(0),
            lost: false,
        };
        uring.arm_wake();
        // The proof: a real read, on the real ring, through the call that seccomp profiles often
        // refuse.
        uring.doorbell.event().signal();
        let mut done = Vec::new();
        uring.wait(true, &mut done).map_err(|errno| refusal(errno, "io_uring_enter"))?;
        // Most work that is punted is file-system work, which is serialized anyway.
        if let Some(ring) = &uring.ring {
            // Older kernels lack the call and keep their default.
            let _ = ring.submitter().register_iowq_max_workers(&mut [WORKERS_MAX, 1]);
        }
        Ok(uring)
    }

    pub(crate) fn flags(&self) -> &[&'static str] {
        &self.flags
    }

    fn arm_wake(&mut self) {
        let address = &raw mut *self.counter;
        let read = opcode::Read::new(types::Fd(self.doorbell.event().raw()), address.cast(), 8).build().user_data(WAKE);
        self.stage(&read);
    }

    fn stage(&mut self, entry: &squeue::Entry) {
        let Some(ring) = &mut self.ring else { return };
        // SAFETY: the memory and the descriptor of the entry stay valid until its completion was
        // read. The driver keeps those of device operations; `self` keeps the counter and, through
        // the doorbell, the event.
        let pushed = unsafe { ring.submission().push(entry) };
        debug_assert!(pushed.is_ok(), "the driver stages no more than the capacity");
        self.staged += 1;
    }

    /// Whether the kernel has device operations that have not completed.
    fn has_submitted(&self) -> bool {
        self.in_flight > self.staged
    }

    /// One `io_uring_enter`. `Ok(false)` means that nothing was submitted or waited for, and that
    /// the call is to be repeated.
    fn enter(&mut self, want: u32) -> Result<bool, Errno> {
        let Some(ring) = &mut self.ring else { return Err(libc::EBADF) };
        let to_submit = ring.submission().len() as u32;
        let is_idle = want > 0 && self.in_flight == 0;
        if is_idle && !self.no_iowait && to_submit == 0 {
            // Only the wake read can complete. With `DEFER_TASKRUN` a ring is not readable before its completions have been
            // asked for, but the event is; without, its reader can have been faster, but the ring is readable.
            thread::wait_readable([self.doorbell.event().raw(), ring.as_raw_fd()]);
        }
        let quiet = if is_idle && self.no_iowait { ENTER_NO_IOWAIT } else { 0 };
        let want = if is_idle && !self.no_iowait { 0 } else { want };
        // SAFETY: no argument is passed; the entries staged are valid as explained in `stage`.
        let entered = unsafe { ring.submitter().enter::<libc::sigset_t>(to_submit, want, ENTER_GETEVENTS | quiet, None) };
        match entered {
            Ok(_) => {
                self.staged = ring.submission().len();
                Ok(true)
            }
            Err(error) => match error.raw_os_error().unwrap_or(libc::EIO) {
                libc::EINVAL if quiet != 0 => {
                    self.no_iowait = false;
                    Ok(true)
                }
                libc::EINTR | libc::EAGAIN | libc::EBUSY => Ok(false),
                errno => Err(errno),
            },
        }
    }

    /// Moves completions out of the ring. Returns whether there were any, the wake included.
    fn reap(&mut self, done: &mut Vec<Done>) -> bool {
        let Some(ring) = &mut self.ring else { return false };
        let mut any = false;
        let mut woken = false;
        for entry in ring.completion() {
            any = true;
            if entry.user_data() == WAKE {
                woken = true;
            } else {
                self.in_flight -= 1;
                done.push(Done { key: Key::from_bits(entry.user_data()), result: entry.result() });
            }
        }
        if woken && !self.lost {
            self.arm_wake();
        }
        any
    }
}

/// Worker threads of one ring for punted operations: enough to keep writes moving, too few for a
/// thread storm.
const WORKERS_MAX: u32 = 4;

fn set_up(wanted: u32) -> Result<(IoUring, Vec<&'static str>), Errno> {
    let mut step = 0;
    let mut entries = wanted.next_power_of_two().max(ENTRIES_MIN);
    loop {
        let (names, set) = LADDER[step];
        let mut builder = IoUring::builder();
        builder.dontfork().setup_clamp().setup_cqsize(entries * 2);
        set(&mut builder);
        match builder.build(entries).map_err(|error| error.raw_os_error().unwrap_or(libc::EIO)) {
            Ok(ring) => return Ok((ring, names.to_vec())),
            Err(libc::EINVAL) if step + 1 < LADDER.len() => step += 1,
            Err(libc::ENOMEM) if entries > ENTRIES_MIN => entries /= 2,
            Err(errno) => return Err(errno),
        }
    }
}

fn refusal(errno: Errno, call: &'static str) -> Refusal {
    let why = match errno {
        libc::EPERM if thread::io_uring_disabled().is_some_and(|value| value > 0) => {
            "the sysctl kernel.io_uring_disabled forbids it; an administrator can set that to 0".to_owned()
        }
        libc::EPERM | libc::EACCES => {
            "a seccomp profile or security module forbids it, as container runtimes do by default; allow the io_uring calls in its profile"
                .to_owned()
        }
        libc::ENOSYS => "io_uring is not available; it needs Linux 5.6 or later".to_owned(),
        libc::ENOMEM => {
            let limit = thread::memlock_bytes().map_or_else(|| "unlimited".into(), |bytes| format!("{} KiB", bytes / 1024));
            format!(
                "not enough memory for the ring; the locked-memory limit, which it counts against, is {limit} (raise it with ulimit -l)"
            )
        }
        libc::EMFILE | libc::ENFILE => "no file descriptor is left for the ring (see ulimit -n)".to_owned(),
        other => format!("error {other}"),
    };
    Refusal { errno, reason: format!("{call} is refused: {why}") }
}

impl Backend for Uring {
    fn kind(&self) -> BackendKind {
        BackendKind::Uring
    }

    fn capacity(&self) -> usize {
        self.capacity
    }

    fn push(&mut self, op: DeviceOp) {
        let flags = if op.nowait { file::NOWAIT } else { 0 };
        let fd = types::Fd(op.fd);
        let entry = match op.direction {
            Direction::Read => opcode::Read::new(fd, op.address as *mut u8, op.len).offset(op.position).rw_flags(flags).build(),
            Direction::Write => opcode::Write::new(fd, op.address as *const u8, op.len).offset(op.position).rw_flags(flags).build(),
        };
        self.in_flight += 1;
        self.stage(&entry.user_data(op.key.to_bits()));
    }

    fn submit(&mut self) -> Result<(), Errno> {
        let mut rounds = 0;
        while self.staged > 0 && !self.enter(0)? {
            rounds += 1;
            if rounds > BUSY_ROUNDS {
                return Err(libc::EBUSY);
            }
            if self.has_submitted() {
                // Their completions must be read first.
                return Ok(());
            }
            std::thread::sleep(BUSY_PAUSE);
        }
        Ok(())
    }

    fn wait(&mut self, block: bool, done: &mut Vec<Done>) -> Result<(), Errno> {
        let mut rounds = 0;
        loop {
            match self.enter(u32::from(block)) {
                Ok(entered) => {
                    let any = self.reap(done);
                    // What is left unsubmitted goes with the next wait; any completion is a reason
                    // to return.
                    if any || (entered && !block) {
                        return Ok(());
                    }
                    if !entered {
                        rounds += 1;
                        // While the kernel has operations of ours, it still answers: it is only short of memory.
                        if rounds > BUSY_ROUNDS && !self.has_submitted() {
                            return Err(libc::EBUSY);
                        }
                        std::thread::sleep(BUSY_PAUSE);
                    }
                }
                Err(errno) => {
                    self.lost = true;
                    self.reap(done);
                    return Err(errno);
                }
            }
        }
    }

    fn abandon(mut self: Box<Self>) {
        self.lost = true;
    }

    fn successor(&self) -> Result<Box<dyn Backend>, Errno> {
        Ok(Box::new(Threads::new(Arc::clone(&self.doorbell), self.io_threads)?))
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        // The wake read is the only operation in flight on a working ring. It must complete, so
        // that the kernel holds none of our memory when the ring closes: closing does not stop the
        // kernel from writing.
        if !self.lost {
            self.lost = true;
            self.doorbell.event().signal();
            let mut done = Vec::new();
            if self.wait(true, &mut done).is_ok() {
                return;
            }
        }
        // A lost ring stays open, its counter stays in place, and its doorbell keeps the event: all
        // leaked on purpose.
        std::mem::forget(self.ring.take());
        std::mem::forget(std::mem::take(&mut self.counter));
        std::mem::forget(Arc::clone(&self.doorbell));
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::sys::event::Event;

    #[test]
    fn an_idle_ring_is_woken_with_the_flag_against_iowait_and_without() {
        let doorbell = Arc::new(Doorbell::new(Event::new().expect("an eventfd")));
        // Where rings are refused there is nothing to wake.
        let Ok(mut uring) = Uring::new(Arc::clone(&doorbell), ENTRIES_MIN, 1) else { return };
        for flag in [uring.no_iowait, false] {
            uring.no_iowait = flag;
            for _ in 0..20 {
                let bell = Arc::clone(&doorbell);
                let ringing = std::thread::spawn(move || {
                    std::thread::sleep(Duration::from_millis(2));
                    bell.event().signal();
                });
                let mut done = Vec::new();
                uring.wait(true, &mut done).expect("a ring that works");
                assert!(done.is_empty());
                ringing.join().expect("no panic");
            }
        }
    }
}
