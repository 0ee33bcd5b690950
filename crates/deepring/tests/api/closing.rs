//! `Engine::close`: the end of an engine as a task.

use crate::harness::gate::Gate;
use crate::harness::{READ_WRITE, assert_file, backends, builders, bytes, directory, engines, open, within};
use deepring::{Direct, Engine, ErrorKind, File, OpenOptions, Piece, ReplaceOptions};
use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::sync::mpsc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

fn descriptors(path: &Path) -> usize {
    let entries = std::fs::read_dir("/proc/self/fd").expect("/proc").flatten();
    entries.filter(|entry| std::fs::read_link(entry.path()).is_ok_and(|target| target == path)).count()
}

#[test]
fn closing_an_engine_does_not_wait_and_its_task_does() {
    let place = directory();
    for builder in builders() {
        let path = place.path().join("queued");
        std::fs::write(&path, bytes(0, 1 << 20, 1)).expect("the file");
        within(LIMIT, "closing", move || {
            let engine = builder.build().expect("an engine");
            let file = open(&engine, &path, Direct::Prefer);
            // While the driver stands still, a caller that waited for it would never return.
            let gate = Gate::close(&file);
            let reads: Vec<_> = (0..1000u64).map(|index| file.read_at(vec![0; 1000], index * 1000)).collect();
            let mut closing = pin!(engine.close());
            assert!(matches!(closing.as_mut().poll(&mut Context::from_waker(Waker::noop())), Poll::Pending));
            drop(gate);
            for read in reads {
                let done = read.wait();
                assert_eq!(done.buf.expect("the buffer comes back").len(), 1000);
                assert_eq!(done.result.expect_err("it was queued").kind(), ErrorKind::Canceled);
            }
            while closing.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
                std::thread::yield_now();
            }
            assert_eq!(descriptors(&path), 1, "the file is still open");
            file.close().wait().expect("a close after the end");
            assert_eq!(descriptors(&path), 0);
        });
    }
}

#[test]
fn after_the_end_every_call_is_refused_and_what_was_written_is_there() {
    let place = directory();
    for engine in engines() {
        let path = place.path().join("ended");
        let file = open(&engine, &path, Direct::Prefer);
        let clone = file.try_clone().expect("a clone");
        file.write_at(bytes(0, 10_001, 2), 0).wait().ok().expect("a write");
        engine.clone().close().wait().expect("the end");
        engine.clone().close().wait().expect("the same end");
        assert_file(&path, &bytes(0, 10_001, 2), "what was written before");
        let refused = |result: deepring::Result<()>| assert_eq!(result.expect_err("it is closed").kind(), ErrorKind::Closed);
        refused(file.write_at(vec![9; 100], 0).wait().result.map(drop));
        refused(file.read_at(vec![9; 100], 0).wait().result.map(drop));
        refused(file.read_buffer_at(0, 100).wait().result.map(drop));
        refused(file.read_scatter(vec![9; 100], &[Piece::new(0, 0, 100)]).wait().result.map(drop));
        refused(file.write_gather(vec![9; 100], &[Piece::new(0, 0, 100)]).wait().result.map(drop));
        refused(file.checksum(..).wait().map(drop));
        refused(file.checksum(7..7).wait().map(drop));
        refused(file.sync_all().wait());
        refused(file.set_len(0).wait());
        refused(file.allocate(0, 1 << 20).wait());
        refused(file.stat().wait().map(drop));
        refused(engine.open(&path, OpenOptions::new().read(true)).map(drop));
        refused(engine.open_async(&path, OpenOptions::new().read(true)).wait().map(drop));
        refused(engine.open_fd(std::fs::File::open(&path).expect("the file"), OpenOptions::new()).map(drop));
        refused(engine.read_file(&path, vec![0; 100]).wait().result.map(drop));
        refused(engine.write_file(&path, vec![0; 100]).wait().result.map(drop));
        refused(engine.run_blocking(|| ()).wait());
        refused(engine.replace(&path, ReplaceOptions::new()).wait().map(drop));
        refused(engine.sync_directory(place.path()).wait());
        assert_file(&path, &bytes(0, 10_001, 2), "and nothing since");
        let stats = engine.stats();
        assert_eq!((stats.queued, stats.in_flight), (0, 0));
        file.close().wait().expect("a clone");
        clone.close().wait().expect("the last");
        assert_eq!(descriptors(&path), 0);
    }
}

#[test]
fn an_engine_that_is_closed_under_its_producers_settles_each_request_once() {
    let place = directory();
    for backend in backends() {
        for round in 0..20 {
            let path = place.path().join("raced");
            std::fs::write(&path, bytes(0, 1 << 20, 3)).expect("the file");
            within(LIMIT, "closing under producers", move || {
                let engine = Engine::builder().backend(backend).build().expect("an engine");
                let file = engine.open(&path, READ_WRITE).expect("the file");
                let clones: Vec<File> = (0..3).map(|_| file.try_clone().expect("a clone")).collect();
                let (sender, started) = mpsc::channel();
                let producers: Vec<_> = clones
                    .into_iter()
                    .map(|file| {
                        let sender = sender.clone();
                        std::thread::spawn(move || {
                            for index in 0.. {
                                let reads: Vec<_> = (0..20u64).map(|at| file.read_at(vec![0; 4096], at * 4096)).collect();
                                let (sync, len) = (file.sync_data(), file.set_len(1 << 20));
                                let write = file.write_at(bytes(5 << 18, 100, 3), 5 << 18);
                                let mut kinds: Vec<_> = reads.into_iter().filter_map(|read| read.wait().result.err()).collect();
                                kinds.extend([sync.wait().err(), len.wait().err(), write.wait().result.err()].into_iter().flatten());
                                if index == 1 {
                                    let _ = sender.send(());
                                }
                                if let Some(error) = kinds.first() {
                                    let known = [ErrorKind::Closed, ErrorKind::Canceled];
                                    assert!(kinds.iter().all(|error| known.contains(&error.kind())), "{error}");
                                    break;
                                }
                            }
                            file.close().wait().expect("a close");
                        })
                    })
                    .collect();
                started.recv().expect("a producer");
                std::thread::sleep(Duration::from_micros(100 * round));
                let closing = engine.close();
                file.close().wait().expect("a close");
                closing.wait().expect("the end");
                for producer in producers {
                    producer.join().expect("a producer");
                }
                assert_eq!(descriptors(&path), 0);
            });
        }
    }
}

#[test]
fn an_engine_can_be_closed_by_its_own_thread() {
    let place = directory();
    for engine in engines() {
        let path = place.path().join("own");
        std::fs::write(&path, bytes(0, 5000, 4)).expect("the file");
        within(LIMIT, "closing from a waker", move || {
            struct Closer(std::sync::Mutex<Option<(Engine, mpsc::Sender<deepring::Task<()>>)>>);
            impl std::task::Wake for Closer {
                fn wake(self: std::sync::Arc<Self>) {
                    if let Some((engine, tasks)) = self.0.lock().expect("the engine").take() {
                        tasks.send(engine.close()).expect("a test that waits");
                    }
                }
            }
            let file = open(&engine, &path, Direct::Prefer);
            let gate = Gate::close(&file);
            let (sender, tasks) = mpsc::channel();
            let waker = Waker::from(std::sync::Arc::new(Closer(std::sync::Mutex::new(Some((engine, sender))))));
            let mut read = pin!(file.read_at(vec![0; 5000], 0));
            assert!(read.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            drop(gate);
            tasks.recv().expect("a task").wait().expect("the end");
            assert!(matches!(read.as_mut().poll(&mut Context::from_waker(&waker)), Poll::Ready(done) if done.result.is_ok()));
        });
    }
}
