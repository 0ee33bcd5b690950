//! What a sync and a close wait for.

use super::{LIMIT, handle_sets};
use crate::harness::{assert_file, bytes, directory, engines, open, patient, within};
use deepring::binding::{Completion, EngineBinding, FileBinding, Outcome, RawTransfer};
use deepring::{Direct, Direction};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Counts completions and remembers failures.
#[derive(Default)]
struct Tally {
    settled: AtomicU64,
    failed: Mutex<Vec<String>>,
}

impl Completion for Tally {
    fn settle(self: Arc<Self>, outcome: Outcome) {
        if let Err(error) = outcome.result {
            self.failed.lock().expect("the list").push(error.to_string());
        }
        self.settled.fetch_add(1, Ordering::AcqRel);
    }
    fn canceled(&self) -> bool {
        false
    }
}

#[test]
fn sync_waits_for_every_write_accepted_before_it() {
    const WRITES: u64 = 96;
    const LEN: u64 = 256 << 10;
    let place = directory();
    for (index, handles) in handle_sets().into_iter().enumerate() {
        let path: PathBuf = place.path().join(format!("{index}"));
        let files = handles.open(&path);
        files[0].set_len(WRITES * LEN).wait().expect("set_len");
        let memory: &'static [u8] = Box::leak(bytes(0, LEN as usize, 7).into_boxed_slice());
        for round in 0..4u64 {
            let tally = Arc::new(Tally::default());
            for write in 0..WRITES {
                let file = &files[((write + round) % 2) as usize];
                let transfer = RawTransfer::new(Direction::Write, memory.as_ptr() as u64, LEN - round, write * LEN).exact(true);
                // SAFETY: the memory is never freed and never written.
                unsafe { file.submit(transfer, Arc::clone(&tally) as Arc<dyn Completion>) };
            }
            let (sender, receiver) = std::sync::mpsc::channel();
            let its_tally = Arc::clone(&tally);
            // The drivers are woken only after the sync is accepted, so none of the writes can have
            // ended before it.
            files[(round % 2) as usize].sync_then(round < 2, Arc::default(), move |result| {
                let settled = its_tally.settled.load(Ordering::Acquire);
                sender.send((settled, result.is_ok())).expect("a listener");
            });
            for file in &files {
                file.engine().wake();
            }
            let (settled, ok) = receiver.recv_timeout(patient(LIMIT)).expect("the sync ends");
            assert!(ok);
            assert_eq!(settled, WRITES, "{}: the sync ran before {} writes had ended", handles.name, WRITES - settled);
            assert!(tally.failed.lock().expect("the list").is_empty());
        }
    }
}

#[test]
fn sync_does_not_wait_for_writes_that_come_later() {
    let place = directory();
    let path = place.path().join("file");
    for engine in engines() {
        let file = Arc::new(open(&engine, &path, Direct::Prefer));
        file.set_len(8 << 20).wait().expect("set_len");
        let over = Arc::new(AtomicBool::new(false));
        // Always at least eight writes in flight.
        let writer = std::thread::spawn({
            let (file, over) = (Arc::clone(&file), Arc::clone(&over));
            move || {
                let mut ops = std::collections::VecDeque::new();
                let mut writes = 0u64;
                while !over.load(Ordering::Acquire) {
                    let position = writes % 128 * 65_536;
                    ops.push_back(file.write_at(bytes(position, 65_536, writes), position));
                    writes += 1;
                    if ops.len() >= 8 {
                        ops.pop_front().expect("an operation").wait().result.expect("a write");
                    }
                }
                for op in ops {
                    op.wait().result.expect("a write");
                }
            }
        });
        let syncing = Arc::clone(&file);
        within(Duration::from_secs(30), "five syncs under constant writing", move || {
            (0..5).for_each(|_| syncing.sync_data().wait().expect("sync"));
        });
        over.store(true, Ordering::Release);
        writer.join().expect("the writer");
    }
}

#[test]
fn closing_waits_for_the_handle_s_own_requests_only() {
    let place = directory();
    let path = place.path().join("file");
    for engine in engines() {
        std::fs::write(&path, b"").expect("the file");
        let (leaving, staying) = (open(&engine, &path, Direct::Prefer), open(&engine, &path, Direct::Prefer));
        let ops: Vec<_> = (0..50u64)
            .map(|write| {
                let file = if write % 2 == 0 { &leaving } else { &staying };
                file.write_at(bytes(write * 7777, 7777, 1), write * 7777)
            })
            .collect();
        leaving.close().wait().expect("close");
        for op in ops {
            op.wait().result.expect("a write");
        }
        assert_file(&path, &bytes(0, 50 * 7777, 1), "written by two handles, one of which was closed");
        staying.write_at(bytes(0, 1, 1), 0).wait().result.expect("the other handle is open");
    }
}
