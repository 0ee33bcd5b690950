//! Jobs that run later. One thread serves the process; it exists while a job waits.

use crate::sys::thread;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

type Job = Box<dyn FnOnce() + Send>;

struct Due {
    at: Instant,
    job: Job,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.at.cmp(&other.at)
    }
}

struct Timer {
    due: BinaryHeap<Reverse<Due>>,
    runs: bool,
}

static TIMER: Mutex<Timer> = Mutex::new(Timer { due: BinaryHeap::new(), runs: false });
static CHANGED: Condvar = Condvar::new();

/// How long the thread waits for another job before it ends.
const LINGER: Duration = Duration::from_millis(200);

fn timer() -> MutexGuard<'static, Timer> {
    TIMER.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs a short job after `delay`; at once if no thread can be started.
pub(crate) fn later(delay: Duration, job: Job) {
    let mut timer = timer();
    if !timer.runs && thread::spawn("deepring-timer".into(), run).is_err() {
        drop(timer);
        return job();
    }
    timer.runs = true;
    timer.due.push(Reverse(Due { at: Instant::now() + delay, job }));
    drop(timer);
    CHANGED.notify_one();
}

fn run() {
    let mut timer = timer();
    loop {
        let now = Instant::now();
        let wait = timer.due.peek().map(|Reverse(due)| due.at.saturating_duration_since(now));
        match wait {
            Some(Duration::ZERO) => {
                let Some(Reverse(due)) = timer.due.pop() else { continue };
                drop(timer);
                (due.job)();
                timer = self::timer();
            }
            Some(wait) => timer = CHANGED.wait_timeout(timer, wait).unwrap_or_else(PoisonError::into_inner).0,
            None => {
                let (guard, linger) = CHANGED.wait_timeout(timer, LINGER).unwrap_or_else(PoisonError::into_inner);
                timer = guard;
                if linger.timed_out() && timer.due.is_empty() {
                    timer.runs = false;
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn jobs_run_in_the_order_of_their_times_and_the_thread_starts_again() {
        for _ in 0..2 {
            let (sender, receiver) = mpsc::channel();
            for (order, delay) in [(2, 30), (1, 10), (3, 50)] {
                let sender = sender.clone();
                later(Duration::from_millis(delay), Box::new(move || sender.send(order).expect("a receiver")));
            }
            let order: Vec<i32> = (0..3).map(|_| receiver.recv_timeout(Duration::from_secs(10)).expect("a job")).collect();
            assert_eq!(order, [1, 2, 3]);
            std::thread::sleep(2 * LINGER);
        }
    }
}
