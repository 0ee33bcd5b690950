//! Everything at once, for a second or two: reads, writes, appends, truncations, syncs, whole files
//! by path and verification. Operations are waited for, canceled, dropped or polled once, on files
//! that are opened and closed during the storm, by several threads, on two engines. Nothing hangs,
//! nothing is left behind, every byte found was written there, and every awaited operation did what
//! it reported.

mod harness;

use deepring::{Direct, Engine, Error, ErrorKind, File, Task};
use harness::{Rng, assert_same, byte, bytes, directory, engines, eventually, open, within};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

const FOR: Duration = Duration::from_millis(1800);
const LIMIT: Duration = Duration::from_secs(50);

/// The largest end of the files that all threads write to.
const SHARED_BYTES: u64 = 400_000;

/// All threads write the same byte to a position, so any byte found can be checked: it is that one,
/// or a hole.
const SALT: u64 = 11;

fn judge(found: &[u8], from: u64) {
    let wrong = found.iter().zip(from..).position(|(&found, at)| found != 0 && found != byte(at, SALT));
    assert_eq!(wrong, None, "a byte that was never written there");
}

fn is_expected(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Canceled | ErrorKind::Eof | ErrorKind::SizeMismatch)
}

fn settle<T: Send + 'static>(task: Task<T>, rng: &mut Rng) {
    if rng.once_in(4) {
        return drop(task);
    }
    if let Err(error) = task.wait() {
        assert!(is_expected(&error), "{error}");
    }
}

struct Worker {
    engines: Vec<Engine>,
    place: PathBuf,
    name: usize,
    rng: Rng,
    files: Vec<File>,
    /// A file that no other worker uses, and what it holds.
    own: (File, Vec<u8>),
}

impl Worker {
    fn new(engines: &[Engine], place: &Path, name: usize) -> Self {
        let own = open(&engines[name % engines.len()], &place.join(format!("own{name}")), Direct::Prefer);
        Self { engines: engines.to_vec(), place: place.to_path_buf(), name, rng: Rng::new(), files: Vec::new(), own: (own, Vec::new()) }
    }

    fn file(&mut self) -> &File {
        if self.files.len() < 3 || self.rng.once_in(20) {
            let path = self.place.join(format!("shared{}", self.rng.below(2)));
            let direct = *self.rng.pick(&[Direct::Prefer, Direct::Prefer, Direct::Never]);
            let file = open(self.rng.pick(&self.engines), &path, direct);
            self.files.push(file);
        }
        if self.files.len() > 5 {
            let leaving = self.files.swap_remove(self.rng.below(5) as usize);
            if self.rng.once_in(2) {
                settle(leaving.close(), &mut self.rng);
            }
        }
        let index = self.rng.below(self.files.len() as u64) as usize;
        &self.files[index]
    }

    fn place(&mut self) -> (u64, usize) {
        let longest = *self.rng.pick(&[100, 5000, 5000, 70_000]);
        let len = 1 + self.rng.below(longest);
        (self.rng.below(SHARED_BYTES - len), len as usize)
    }

    fn step(&mut self) {
        let (position, len) = self.place();
        let mut rng = self.rng.clone();
        // Or the clone above would repeat itself.
        self.rng.next();
        match rng.below(10) {
            0..=2 => {
                let places: Vec<_> = (0..6).map(|_| self.place()).collect();
                let ops: Vec<_> =
                    places.iter().map(|&(position, len)| self.file().write_at(bytes(position, len, SALT), position)).collect();
                for mut op in ops {
                    match rng.below(6) {
                        0 => op.cancel(),
                        1 => continue,
                        // A ready result is taken by this poll, so there is nothing left to wait
                        // for.
                        2 if Pin::new(&mut op).poll(&mut Context::from_waker(Waker::noop())).is_ready() => continue,
                        _ => {}
                    }
                    match op.wait().result {
                        Ok(receipt) => assert!(receipt.bytes > 0),
                        Err(error) => assert!(is_expected(&error), "{error}"),
                    }
                }
            }
            3..=5 => {
                let exact = rng.once_in(2);
                let file = self.file();
                let op = if exact { file.read_exact_at(vec![0; len], position) } else { file.read_at(vec![0; len], position) };
                if rng.once_in(5) {
                    op.cancel();
                }
                if rng.once_in(5) {
                    return drop(op);
                }
                let done = op.wait();
                let there = match done.result {
                    Ok(receipt) => receipt.bytes,
                    Err(error) => {
                        assert!(is_expected(&error), "{error}");
                        error.transferred()
                    }
                };
                judge(&done.buf.expect("the buffer")[..there as usize], position);
            }
            6 => settle(self.file().set_len(position), &mut rng),
            7 => {
                let task = self.file().sync_data();
                settle(task, &mut rng);
            }
            8 => {
                let path = self.place.join(format!("whole{}", self.name));
                let engine = rng.pick(&self.engines).clone();
                let op = engine.write_file(&path, bytes(0, len, SALT));
                if rng.once_in(3) {
                    return drop(op);
                }
                // A dropped one can still be in flight, so only the bytes read are checked.
                op.wait().result.expect("write_file");
                let done = engine.read_file(&path, vec![0; len]).wait();
                match done.result {
                    Ok(_) => judge(&done.buf.expect("the buffer"), 0),
                    Err(error) => assert!(is_expected(&error), "{error}"),
                }
            }
            _ => self.step_alone(position, len),
        }
    }

    /// On a file that no other worker uses, everything is exact.
    fn step_alone(&mut self, position: u64, len: usize) {
        let (file, model) = &mut self.own;
        let end = position as usize + len;
        let content = bytes(position, len, self.rng.next());
        file.write_at(content.clone(), position).wait().result.expect("a write");
        model.resize(model.len().max(end), 0);
        model[position as usize..end].copy_from_slice(&content);
        if self.rng.once_in(3) {
            let size = self.rng.below(SHARED_BYTES);
            file.set_len(size).wait().expect("set_len");
            model.resize(size as usize, 0);
        }
        let done = file.read_at(vec![0; SHARED_BYTES as usize], 0).wait();
        let there = done.result.expect("a read").bytes as usize;
        assert_same(&done.buf.expect("the buffer")[..there], model, "the worker's own file");
    }
}

#[test]
fn nothing_hangs_and_nothing_is_left_after_a_mixed_storm() {
    let place = directory();
    let root = place.path().to_path_buf();
    within(LIMIT, "the storm", move || {
        let engines = engines();
        let until = Instant::now() + FOR;
        let workers: Vec<_> = (0..4)
            .map(|name| {
                let mut worker = Worker::new(&engines, &root, name);
                std::thread::spawn(move || {
                    let mut steps = 0;
                    while Instant::now() < until {
                        worker.step();
                        steps += 1;
                    }
                    steps
                })
            })
            .collect();
        let steps: u32 = workers.into_iter().map(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).sum();
        assert!(steps > 20, "{steps} steps, so this run proved nothing");
        for engine in &engines {
            eventually(LIMIT, "everything settled", || {
                let stats = engine.stats();
                (stats.queued, stats.in_flight, stats.in_flight_bytes, stats.buffers, stats.leaked) == (0, 0, 0, 0, 0)
            });
            let stats = engine.stats();
            assert_eq!(stats.submitted, stats.completed + stats.failed + stats.canceled, "every request settled once: {stats:?}");
        }
        for name in ["shared0", "shared1"] {
            judge(&std::fs::read(root.join(name)).expect("the file"), 0);
        }
        drop(engines);
    });
}

#[test]
fn engines_created_and_dropped_under_load_do_not_disturb_each_other() {
    let place = directory();
    let root = place.path().to_path_buf();
    within(LIMIT, "engines that come and go", move || {
        let path = root.join("file");
        std::fs::write(&path, bytes(0, SHARED_BYTES as usize, SALT)).expect("the file");
        let until = Instant::now() + FOR / 2;
        let visitors: Vec<_> = (0..2)
            .map(|_| {
                let path = path.clone();
                std::thread::spawn(move || {
                    let mut rng = Rng::new();
                    while Instant::now() < until {
                        for engine in engines() {
                            let file = open(&engine, &path, Direct::Prefer);
                            for _ in 0..20 {
                                let len = 1 + rng.below(20_000);
                                let position = rng.below(SHARED_BYTES - len);
                                drop(file.write_at(bytes(position, len as usize, SALT), position));
                                drop(file.read_at(vec![0; len as usize], position));
                            }
                            drop(file.sync_data());
                        }
                    }
                })
            })
            .collect();
        let resident = Engine::builder().build().expect("an engine");
        let file = open(&resident, &path, Direct::Prefer);
        let mut rng = Rng::new();
        while Instant::now() < until {
            let len = 1 + rng.below(20_000);
            let position = rng.below(SHARED_BYTES - len);
            file.write_at(bytes(position, len as usize, SALT), position).wait().result.expect("a write");
            let (buf, _) = file.read_exact_at(vec![0; len as usize], position).wait().ok().expect("a read");
            assert_same(&buf, &bytes(position, len as usize, SALT), "while engines come and go");
        }
        for visitor in visitors {
            visitor.join().expect("a visitor");
        }
        assert_same(&std::fs::read(&path).expect("the file"), &bytes(0, SHARED_BYTES as usize, SALT), "in the end");
    });
}
