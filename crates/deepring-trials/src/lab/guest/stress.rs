//! Uses two drives without a pause while the lab breaks, slows and repairs them, and reports the
//! result of each request.
//!
//! On the first drive a file is read. On the second one, which has no file system that an error
//! could bring down, blocks are written and read back. Every byte that a request reports as read is
//! checked.

use super::super::content::{Content, SECTOR_BYTES};
use super::super::protocol::{Failed, Progress, Report, Stream};
use super::DATA;
use super::port::Port;
use crate::harness::Rng;
use deepring::{Engine, Error, File, OpenOptions};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The drive without a file system.
const SECOND_DEVICE: &str = "/dev/nvme1n1";

/// How much of each drive is used.
const AREA_BYTES: u64 = 8 << 20;

/// How often a thread reports progress.
const PROGRESS_EVERY: Duration = Duration::from_millis(250);

/// The pause after a failure, so that a broken drive does not fill the serial port.
const PAUSE: Duration = Duration::from_millis(50);

const READ_WRITE: OpenOptions = OpenOptions::new().read(true).write(true);

/// Threads that stop when the value is dropped.
pub(super) struct Stress {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    second: File,
    port: Arc<Port>,
}

/// What a thread has done since its last report.
struct Tally {
    port: Arc<Port>,
    device: &'static str,
    requests: u64,
    longest: Duration,
    reported: Instant,
}

impl Tally {
    fn succeeded(&mut self, took: Duration) {
        self.requests += 1;
        self.longest = self.longest.max(took);
        if self.reported.elapsed() > PROGRESS_EVERY {
            let (requests, longest_ms) = (self.requests, self.longest.as_millis() as u64);
            self.port.send(&Report::Progress(Progress { device: self.device.into(), requests, longest_ms }));
            (self.requests, self.longest, self.reported) = (0, Duration::ZERO, Instant::now());
        }
    }

    fn failed(&self, error: &Error, path: &str) {
        if error.path() != Some(Path::new(path)) {
            self.port.send(&Report::Broken(format!("an error without its path: {error}")));
        }
        self.port.send(&Report::Failed(Failed {
            device: self.device.into(),
            code: error.code(),
            syscall: error.syscall().into(),
            position: error.position(),
            requested: error.requested(),
            transferred: error.transferred(),
        }));
        std::thread::sleep(PAUSE);
    }

    fn broken(&self, what: String) {
        self.port.send(&Report::Broken(what));
        std::thread::sleep(PAUSE);
    }
}

impl Stress {
    pub(super) fn start(port: &Arc<Port>, seed: u64) -> Result<Self, String> {
        let started = Self::try_start(port, seed);
        started.map_err(|error| error.to_string())
    }

    fn try_start(port: &Arc<Port>, seed: u64) -> deepring::Result<Self> {
        let engine = Engine::builder().build()?;
        let content = Content::new(seed, Stream::Raw);
        let path = format!("{DATA}/stress");
        let first = engine.open(&path, READ_WRITE.create(true))?;
        let mut whole = vec![0; AREA_BYTES as usize];
        content.fill(1, 0, &mut whole);
        first.write_at(whole, 0).wait().result?;
        first.sync_all().wait()?;
        let second = engine.open(SECOND_DEVICE, READ_WRITE)?;
        let another = engine.open(SECOND_DEVICE, READ_WRITE)?;
        let stop = Arc::new(AtomicBool::new(false));
        let tally = |device| Tally { port: Arc::clone(port), device, requests: 0, longest: Duration::ZERO, reported: Instant::now() };
        let (mut on_first, mut on_second) = (tally("file"), tally("raw"));
        let stops = [Arc::clone(&stop), Arc::clone(&stop)];
        let [stop_first, stop_second] = stops;
        let reader = std::thread::spawn(move || read(&first, &path, content, &mut on_first, &stop_first));
        let writer = std::thread::spawn(move || write_and_read(&another, content, &mut on_second, &stop_second));
        Ok(Self { stop, threads: vec![reader, writer], second, port: Arc::clone(port) })
    }

    /// Syncs the second drive.
    pub(super) fn sync(&self) {
        let how = self.second.sync_all().wait().map_or_else(|error| error.code(), |()| "ok".into());
        self.port.send(&Report::Synced(how));
    }
}

impl Drop for Stress {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                self.port.send(&Report::Broken("a thread panicked".into()));
            }
        }
    }
}

fn read(file: &File, path: &str, content: Content, tally: &mut Tally, stop: &AtomicBool) {
    let mut rng = Rng::seeded(1);
    while !stop.load(Ordering::Relaxed) {
        let len = 1 + rng.below(300_000);
        let position = rng.below(AREA_BYTES - len);
        let started = Instant::now();
        let done = file.read_exact_at(vec![0; len as usize], position).wait();
        match (done.result, done.buf) {
            (Ok(_), Some(found)) if is_same(&found, content, 1, position) => tally.succeeded(started.elapsed()),
            (Ok(_), _) => tally.broken(format!("wrong bytes in {len} at {position}")),
            (Err(error), _) => tally.failed(&error, path),
        }
    }
}

fn write_and_read(file: &File, content: Content, tally: &mut Tally, stop: &AtomicBool) {
    let mut rng = Rng::seeded(2);
    let mut generation = 1;
    while !stop.load(Ordering::Relaxed) {
        generation += 1;
        let len = SECTOR_BYTES + rng.below(200_000);
        let position = rng.below(AREA_BYTES - len);
        let mut part = vec![0; len as usize];
        content.fill(generation, position, &mut part);
        let started = Instant::now();
        if let Err(error) = file.write_at(part, position).wait().result {
            tally.failed(&error, SECOND_DEVICE);
            continue;
        }
        tally.succeeded(started.elapsed());
        let started = Instant::now();
        let done = file.read_exact_at(vec![0; len as usize], position).wait();
        match (done.result, done.buf) {
            (Ok(_), Some(found)) if is_same(&found, content, generation, position) => tally.succeeded(started.elapsed()),
            (Ok(_), _) => tally.broken(format!("wrong bytes right after writing {len} at {position}")),
            (Err(error), _) => tally.failed(&error, SECOND_DEVICE),
        }
    }
}

fn is_same(found: &[u8], content: Content, generation: u64, position: u64) -> bool {
    let mut expected = vec![0; found.len()];
    content.fill(generation, position, &mut expected);
    found == expected
}
