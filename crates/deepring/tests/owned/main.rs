//! Promise: **owned**. Memory that the kernel can touch stays alive and in place until the kernel
//! is done with it, and nothing touches it after it came back. This holds across dropped
//! operations, files and engines, cancellation, and the loss of the ring. Every operation settles
//! exactly once.

mod canceled;
mod dropped;
mod futures;
mod guarded;
#[path = "../harness/mod.rs"]
mod harness;
mod lost_ring;
mod panics;
mod shutdown;
mod together;

use deepring::binding::{EngineBinding, FileBinding};
use deepring::{Direct, Engine};
use harness::{bytes, open};
use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(40);

/// A file of real data, so that reads take time at the device.
fn data_file(place: &std::path::Path, megabytes: usize) -> std::path::PathBuf {
    let path = place.join("data");
    std::fs::write(&path, bytes(0, megabytes << 20, 1)).expect("the file");
    std::fs::File::open(&path).and_then(|file| file.sync_all()).expect("the file on disk");
    path
}

/// Of the calls on one file system, as many run at once as of the opens in one directory.
const LINE_JOBS: usize = 4;

/// Keeps the blocking threads busy that an engine has for the file system of `path`, until the
/// sender is dropped.
fn occupy_blocking_threads(engine: &Engine, path: &Path) -> mpsc::Sender<()> {
    let file = open(engine, path, Direct::Prefer);
    occupy(LINE_JOBS, |wait| file.stat_then(move |_| wait()))
}

/// The same for its threads that open files in the directory of `path`. One that takes long no
/// longer counts, so more of them stand in line.
fn occupy_opening_threads(engine: &Engine, path: &Path) -> mpsc::Sender<()> {
    occupy(100 * LINE_JOBS, |wait| engine.run_blocking_on(Some(path), wait))
}

fn occupy(jobs: usize, run: impl Fn(Box<dyn FnOnce() + Send>)) -> mpsc::Sender<()> {
    let (open, opened) = mpsc::channel::<()>();
    let opened = Arc::new(Mutex::new(opened));
    let (arrive, arrived) = mpsc::channel();
    for _ in 0..jobs {
        let (opened, arrive) = (Arc::clone(&opened), arrive.clone());
        run(Box::new(move || {
            // Only the first are waited for.
            let _ = arrive.send(());
            // Ends when the sender is dropped, for one thread after the other.
            let _ = opened.lock().expect("the receiver").recv();
        }));
    }
    (0..LINE_JOBS).for_each(|_| arrived.recv().expect("a blocking thread"));
    open
}
