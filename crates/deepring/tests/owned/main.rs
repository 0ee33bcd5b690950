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

use deepring::Engine;
use deepring::binding::EngineBinding;
use harness::bytes;
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

/// Keeps all blocking threads of an engine busy until the sender is dropped.
fn occupy_blocking_threads(engine: &Engine) -> mpsc::Sender<()> {
    const BLOCKING_THREADS: usize = 4;
    let (open, opened) = mpsc::channel::<()>();
    let opened = Arc::new(Mutex::new(opened));
    let (arrive, arrived) = mpsc::channel();
    for _ in 0..BLOCKING_THREADS {
        let (opened, arrive) = (Arc::clone(&opened), arrive.clone());
        engine.run_blocking(move || {
            arrive.send(()).expect("a listener");
            // Ends when the sender is dropped, for one thread after the other.
            let _ = opened.lock().expect("the receiver").recv();
        });
    }
    (0..BLOCKING_THREADS).for_each(|_| arrived.recv().expect("a blocking thread"));
    open
}
