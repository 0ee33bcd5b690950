//! Which thread runs the program's code, as the documentation says; and what a dropped write leaves.

use crate::harness::gate::Gate;
use crate::harness::{backends, bytes, directory, engines, open, within};
use deepring::{Direct, Engine};
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

/// Sends the name of the thread that it is called on.
struct Named(Mutex<mpsc::Sender<String>>);

impl Wake for Named {
    fn wake(self: Arc<Self>) {
        let name = std::thread::current().name().unwrap_or("without a name").to_owned();
        // The test takes the first.
        let _ = self.0.lock().expect("the sender").send(name);
    }
}

/// Where the future's waker is called, which must be pending when it is polled.
fn woken_on(future: impl Future, release: impl FnOnce()) -> String {
    let (sender, names) = mpsc::channel();
    let waker = Waker::from(Arc::new(Named(Mutex::new(sender))));
    let mut future = pin!(future);
    assert!(future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    release();
    let name = names.recv().expect("a call of the waker");
    assert!(future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready());
    name
}

#[test]
fn wakers_of_transfers_run_on_the_driver_and_those_of_tasks_on_blocking_threads() {
    let directory = directory();
    for engine in engines() {
        let path = directory.path().join("woken");
        within(LIMIT, "wakers", move || {
            let file = open(&engine, &path, Direct::Prefer);
            file.write_at(bytes(0, 5000, 1), 0).wait().ok().expect("a write");
            let gate = Gate::close(&file);
            assert_eq!(woken_on(file.read_at(vec![0; 5000], 0), || drop(gate)), "deepring-driver");
            let gate = Gate::close(&file);
            let name = woken_on(file.set_len(10_000), || drop(gate));
            assert!(name.starts_with("deepring-help-"), "{name}");
            let gate = Gate::close(&file);
            assert_eq!(woken_on(engine.close(), || drop(gate)), "deepring-driver");
        });
    }
}

#[test]
fn a_dropped_write_leaves_old_bytes_and_new_ones() {
    const LEN: usize = 16 << 20;
    let directory = directory();
    for backend in backends() {
        // Many blocks, so that the drop comes in the middle.
        let engine = Engine::builder().backend(backend).queue_depth(2).block_bytes(4096).build().expect("an engine");
        let path = directory.path().join("mixture");
        let (old, new) = (bytes(0, LEN, 2), bytes(0, LEN, 3));
        std::fs::write(&path, &old).expect("the file");
        let file = open(&engine, &path, Direct::Prefer);
        let write = file.write_at(new.clone(), 0);
        std::thread::sleep(Duration::from_millis(10));
        drop(write);
        file.close().wait().expect("a close, which waits for what is at the device");
        let found = std::fs::read(&path).expect("the file");
        assert_eq!(found.len(), LEN);
        let fresh = found.iter().zip(&new).filter(|(found, new)| found == new).count();
        let stale = found.iter().zip(&old).filter(|(found, old)| found == old).count();
        assert!(found.iter().zip(old.iter().zip(&new)).all(|(byte, (old, new))| byte == old || byte == new));
        assert!(fresh < LEN && stale > 0, "the drop has canceled nothing: {fresh} new bytes, {stale} old ones");
    }
}
