//! Padding, preallocation and trimming are invisible to other handles and truncate nothing.

use super::{LIMIT, handle_sets};
use crate::harness::{MODES, Rng, assert_file, assert_same, bytes, directory, engines, open, within};
use deepring::Completed;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier};

/// A writes an unaligned tail, so it pads and trims, while B extends the file. The failure this
/// guards against: both succeed, the length is A's, and B's bytes are gone.
#[test]
fn padding_and_trimming_in_one_handle_does_not_truncate_another_s_write() {
    let place = directory();
    for (index, handles) in handle_sets().into_iter().enumerate() {
        let path = place.path().join(format!("{index}"));
        within(LIMIT, "the rounds", move || {
            for round in 0..100u64 {
                std::fs::write(&path, b"").expect("the file");
                let mut pair = handles.open(&path);
                let (b, a) = (pair.pop().expect("a handle"), pair.pop().expect("a handle"));
                let (a, b) = if round % 2 == 0 { (a, b) } else { (b, a) };
                let b_start = [5000, 8192, 5001, 9000][round as usize / 2 % 4];
                let start = Arc::new(Barrier::new(2));
                let its_start = Arc::clone(&start);
                let other = std::thread::spawn(move || {
                    its_start.wait();
                    b.write_at(bytes(b_start, 12_288 - b_start as usize, 3), b_start).wait().result.expect("B's write");
                });
                start.wait();
                a.write_at(bytes(0, 5000, 3), 0).wait().result.expect("A's write");
                other.join().expect("B");
                let mut model = bytes(0, 12_288, 3);
                model[5000..b_start as usize].fill(0);
                assert_file(&path, &model, &format!("{}, round {round}: A wrote 5000 bytes, B from {b_start} to 12288", handles.name));
            }
        });
    }
}

#[test]
fn reads_during_padding_never_see_beyond_the_promised_size() {
    const END: u64 = 300_000;
    let place = directory();
    for (index, handles) in handle_sets().into_iter().enumerate() {
        let path = place.path().join(format!("{index}"));
        within(LIMIT, "appending and reading", move || {
            let mut rng = Rng::new();
            std::fs::write(&path, b"").expect("the file");
            let mut pair = handles.open(&path);
            let (reader, writer) = (pair.pop().expect("a handle"), pair.pop().expect("a handle"));
            // How far writes were acknowledged, and how far they were submitted.
            let acknowledged = Arc::new(AtomicU64::new(0));
            let submitted = Arc::new(AtomicU64::new(0));
            let over = Arc::new(AtomicBool::new(false));
            let reading = std::thread::spawn({
                let (acknowledged, submitted, over) = (Arc::clone(&acknowledged), Arc::clone(&submitted), Arc::clone(&over));
                move || {
                    let mut reads = 0u64;
                    while !over.load(Ordering::Acquire) {
                        let floor = acknowledged.load(Ordering::Acquire);
                        let from = floor.saturating_sub(1000 + 700 * (reads % 20));
                        let Completed { buf, result } = reader.read_at(vec![0; 30_000], from).wait();
                        let got = result.expect("a read").bytes;
                        let ceiling = submitted.load(Ordering::Acquire);
                        assert!(from + got >= floor.min(from + 30_000), "{got} bytes from {from}, but {floor} were acknowledged");
                        assert!(from + got <= ceiling, "{got} bytes from {from}, but only {ceiling} were ever written");
                        let (found, there) = (buf.expect("the buffer"), bytes(from, got as usize, 4));
                        assert_same(&found[..got as usize], &there, &format!("read {reads}: {got} bytes at {from}, {floor} acknowledged"));
                        let size = reader.stat().wait().expect("stat").size;
                        assert!(size >= floor && size <= submitted.load(Ordering::Acquire), "stat says {size} after {floor}");
                        reads += 1;
                    }
                    reads
                }
            });
            let mut end = 0;
            while end < END && !reading.is_finished() {
                let longest = *rng.pick(&[900, 900, 9000]);
                let len = 1 + rng.below(longest);
                submitted.store(end + len, Ordering::Release);
                writer.write_at(bytes(end, len as usize, 4), end).wait().result.expect("an append");
                end += len;
                acknowledged.store(end, Ordering::Release);
            }
            over.store(true, Ordering::Release);
            let reads = reading.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            assert!(reads > 10, "only {reads} reads ran during the writes, so this run proved nothing");
        });
    }
}

#[test]
fn what_another_process_appended_can_be_read_while_the_file_is_extended() {
    const THERE: u64 = 10_000;
    let place = directory();
    let path = place.path().join("file");
    for engine in engines() {
        for direct in MODES {
            for round in 0..200 {
                std::fs::write(&path, b"").expect("the file");
                let file = open(&engine, &path, direct);
                // The engine does not know of these bytes: they were not there when the file was
                // opened.
                std::fs::write(&path, bytes(0, THERE as usize, 1)).expect("what another process appends");
                let read = file.read_at(vec![0; 300], THERE - 200);
                let position = THERE + round * 100;
                let write = (round % 3 != 0).then(|| file.write_at(bytes(position, 500, 1), position));
                let growth = (round % 3 != 1).then(|| file.set_len(position + 500));
                let (found, receipt) = read.wait().ok().expect("a read");
                assert!(receipt.bytes >= 200, "round {round}: {} bytes were read of 200 that were there", receipt.bytes);
                assert_same(&found[..200], &bytes(THERE - 200, 200, 1), "what another process appended");
                if let Some(write) = write {
                    write.wait().result.expect("a write");
                }
                if let Some(growth) = growth {
                    growth.wait().expect("set_len");
                }
            }
        }
    }
}
