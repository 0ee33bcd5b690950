//! What waits for other copies of the engine: see [`crate::locks`].
//!
//! A request that meets a lock of another copy or process parks, in a line with others of its file. A timer wakes the
//! line while there is one, so no thread waits and nothing is asked while there is none. Of the requests that wait for
//! the end of the file, one tries; when it has entered, the others join it.
//!
//! A request fails after [`WAIT_MAX`]. While the copy that holds the lock is at work on the file, it waits longer, up to
//! [`WAIT_MAX_AT_WORK`].

use super::Driver;
use super::message::{Answer, Message, Wake};
use super::request::{Event, Phase, Request, Wait, Waiting};
use crate::blocking;
use crate::error::{Error, ErrorKind};
use crate::inode::Inode;
use crate::locks::{Attempt, FileLocks, Obstacle};
use crate::open::NoLock;
use crate::slots::Key;
use crate::sys::lock::Range;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// How long a request waits for a lock that another process holds.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(10);

/// How long it waits for another copy of the engine that goes on writing to the file.
const WAIT_MAX_AT_WORK: Duration = Duration::from_secs(300);

/// After this many attempts in vain, the engine looks for a lock of its own process.
const EXAMINE_AFTER: u32 = 12;

/// The requests that wait for locks on one file.
struct Line {
    number: u64,
    inode: Arc<Inode>,
    keys: BTreeSet<u64>,
    tries: u32,
    /// A blocking thread is finding out what stands in the way.
    examining: bool,
}

/// All lines of a driver.
#[derive(Default)]
pub(super) struct Lines {
    lines: Vec<Line>,
    numbers: u64,
}

/// When to try again after this many attempts: soon at first, because most locks are held for one write.
pub(super) fn pause_after(tries: u32) -> Duration {
    match tries {
        0..4 => Duration::from_micros(250 << tries),
        4..400 => Duration::from_millis(4),
        _ => Duration::from_millis(20),
    }
}

fn two_copies(request: &Request) -> Error {
    Error::new(ErrorKind::TwoCopies, request.submission.direction.call_name())
}

impl Driver {
    /// The end of the file is this copy's to move from now on, unless another copy holds it.
    pub(super) fn enter_end(&mut self, key: Key) -> bool {
        let request = &mut self.requests[key];
        match request.file.enter_end() {
            Attempt::Locked | Attempt::Without => {}
            Attempt::Busy => return false,
            Attempt::TwoCopies => {
                request.fail(request.cursor, two_copies(request));
                return false;
            }
        }
        request.wait = None;
        let inode = Arc::clone(&request.file.inode);
        self.wake_line(&inode, key);
        true
    }

    /// The next block of a request that stands in no line cannot be locked.
    pub(super) fn cannot_lock(&mut self, key: Key, why: NoLock) {
        match why {
            NoLock::Busy(place) => self.wait_for_process(key, place),
            NoLock::TwoCopies => {
                let request = &mut self.requests[key];
                request.fail(request.cursor, two_copies(request));
                self.conclude_unqueued(key);
            }
        }
    }

    /// Another copy holds the end of the file that this request is about to move.
    pub(super) fn wait_for_end(&mut self, key: Key) {
        let request = &mut self.requests[key];
        if request.is_stopped() {
            return self.conclude_unqueued(key);
        }
        if request.phase() == Phase::Parked(Waiting::Process) && request.awaits_end {
            return;
        }
        self.wait_for_process(key, FileLocks::end_place());
        let request = &mut self.requests[key];
        request.awaits_end = true;
        request.file.begin_waiting();
    }

    /// Another copy or process holds the lock at `place`: the request parks until it is worth another try.
    pub(super) fn wait_for_process(&mut self, key: Key, place: Range) {
        let now = self.now;
        let request = &mut self.requests[key];
        match &mut request.wait {
            Some(wait) if wait.place == place => {}
            wait => *wait = Some(Wait { since: now, began: now, place, modified_ns: 0 }),
        }
        request.step(Event::Queued(Waiting::Process));
        let inode = Arc::clone(&request.file.inode);
        if let Some(line) = self.lines.lines.iter_mut().find(|line| Arc::ptr_eq(&line.inode, &inode)) {
            line.keys.insert(key.to_bits());
            return;
        }
        self.lines.numbers += 1;
        let number = self.lines.numbers;
        self.lines.lines.push(Line { number, inode, keys: BTreeSet::from([key.to_bits()]), tries: 0, examining: false });
        self.retry_later(number, 0);
    }

    fn retry_later(&self, number: u64, tries: u32) {
        let inbox = Arc::clone(&self.core.inbox);
        let job = Box::new(move || inbox.post(Message::Wake(Wake::Line(number))));
        self.core.blocking.later(pause_after(tries), job);
    }

    fn is_waiting(&self, bits: u64) -> bool {
        self.requests.get(Key::from_bits(bits)).is_some_and(|request| request.phase() == Phase::Parked(Waiting::Process))
    }

    /// It is time to try again. A line whose requests have all gone on ends.
    pub(super) fn retry_line(&mut self, number: u64) {
        let Some(index) = self.lines.lines.iter().position(|line| line.number == number) else { return };
        let mut keys = std::mem::take(&mut self.lines.lines[index].keys);
        keys.retain(|&bits| self.is_waiting(bits));
        if keys.is_empty() {
            self.lines.lines.swap_remove(index);
            return;
        }
        let line = &mut self.lines.lines[index];
        line.tries += 1;
        line.keys.clone_from(&keys);
        let (tries, may_examine) = (line.tries, !line.examining);
        self.retry_later(number, tries);
        let waits_too_long = |wait: &Wait| self.now.saturating_duration_since(wait.since) >= WAIT_MAX;
        let examine = keys.iter().find_map(|&bits| {
            let request = self.requests.get(Key::from_bits(bits))?;
            let wait = request.wait.filter(|wait| tries == EXAMINE_AFTER || waits_too_long(wait))?;
            Some((Arc::clone(&request.file), wait.place))
        });
        if let Some((file, place)) = examine.filter(|_| may_examine) {
            self.lines.lines[index].examining = true;
            self.ask(blocking::Line::Mount(file.fate), move || Answer::Examined(number, place, file.locks.examine(file.fd(), place)));
        }
        let mut one_tries = false;
        for key in keys.into_iter().map(Key::from_bits) {
            if !self.requests[key].awaits_end || !std::mem::replace(&mut one_tries, true) {
                self.wake_request(key);
            }
        }
    }

    /// This copy holds the end of the file now: whatever waited for it joins.
    fn wake_line(&mut self, inode: &Arc<Inode>, entered: Key) {
        let Some(line) = self.lines.lines.iter_mut().find(|line| Arc::ptr_eq(&line.inode, inode)) else { return };
        line.tries = 0;
        for key in line.keys.clone().into_iter().map(Key::from_bits).filter(|key| *key != entered) {
            if self.requests.get(key).is_some_and(|request| request.awaits_end) {
                self.wake_request(key);
            }
        }
    }

    /// What stands in the way of a line is known.
    pub(super) fn examined(&mut self, number: u64, place: Range, obstacle: Obstacle) {
        let Some(line) = self.lines.lines.iter_mut().find(|line| line.number == number) else { return };
        line.examining = false;
        for key in line.keys.clone().into_iter().map(Key::from_bits) {
            let Some(request) = self.requests.get_mut(key) else { continue };
            let Some(wait) = request.wait.as_mut().filter(|wait| wait.place == place) else { continue };
            let is_late = self.now.saturating_duration_since(wait.since) >= WAIT_MAX;
            let is_at_work = obstacle.is_engine && wait.modified_ns != obstacle.modified_ns;
            wait.modified_ns = obstacle.modified_ns;
            if !is_late || obstacle.is_own {
                continue;
            }
            if is_at_work && self.now.saturating_duration_since(wait.began) < WAIT_MAX_AT_WORK {
                wait.since = self.now;
                continue;
            }
            let error = Error::new(ErrorKind::Locked(obstacle.process), request.submission.direction.call_name());
            request.fail(request.cursor, error.advise(format!("waited {} s", WAIT_MAX.as_secs())));
            self.conclude(key);
        }
    }
}
