//! What another program sees of a file while it grows. With [`Direct::Never`] nothing is padded or preallocated, so it is
//! a prefix of what was written.

use super::LIMIT;
use crate::harness::{Rng, assert_file, assert_same, builders, bytes, directory, engines, open, within};
use deepring::Direct;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Follows the end of a file while `write` extends it by `bytes(.., salt)`; it is passed how often the follower has seen
/// the file grow. Returns how often that was in the end.
fn follow(path: &Path, salt: u64, write: impl FnOnce(&AtomicU64)) -> u64 {
    let (over, looks) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let follower = std::thread::spawn({
        let (over, looks, file) = (Arc::clone(&over), Arc::clone(&looks), std::fs::File::open(path).expect("the file"));
        move || {
            let mut seen = 0;
            let mut found = vec![0; 1 << 20];
            loop {
                let last = over.load(Ordering::Acquire);
                let got = file.read_at(&mut found, seen).expect("a read");
                if got > 0 {
                    assert_same(&found[..got], &bytes(seen, got, salt), "what a follower read");
                    seen += got as u64;
                    looks.fetch_add(1, Ordering::Release);
                } else if last {
                    return;
                }
            }
        }
    });
    write(&looks);
    over.store(true, Ordering::Release);
    follower.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    looks.load(Ordering::Acquire)
}

#[test]
fn a_follower_of_a_file_written_without_direct_io_sees_a_prefix_of_it() {
    within(LIMIT, "appending and following", || {
        let place = directory();
        let path = place.path().join("file");
        for engine in engines() {
            let mut rng = Rng::new();
            std::fs::write(&path, b"").expect("the file");
            let file = open(&engine, &path, Direct::Never);
            let mut end = 0;
            let looks = follow(&path, 1, |looks| {
                // On a busy machine the follower needs more time to look.
                for _ in (0..30_000).take_while(|&round| round < 300 || looks.load(Ordering::Acquire) <= 10) {
                    let longest = *rng.pick(&[2000, 2000, 2000, 200_000]);
                    let len = 1 + rng.below(longest);
                    file.write_at(bytes(end, len as usize, 1), end).wait().result.expect("an append");
                    end += len;
                }
            });
            assert!(looks > 10, "the follower looked {looks} times, so this run proved nothing");
            assert_file(&path, &bytes(0, end as usize, 1), "the appended file");
        }
    });
}

#[test]
fn a_large_write_without_direct_io_shows_no_byte_before_those_in_front_of_it() {
    const LEN: usize = 24 << 20;
    within(LIMIT, "a large write", || {
        let place = directory();
        for (index, builder) in builders().into_iter().enumerate() {
            let engine = builder.block_bytes(64 << 10).build().expect("an engine");
            let path = place.path().join(format!("{index}"));
            std::fs::write(&path, b"").expect("the file");
            let file = open(&engine, &path, Direct::Never);
            let looks = follow(&path, 2, |looks| {
                for round in (0..20).take_while(|&round| round == 0 || looks.load(Ordering::Acquire) <= 10) {
                    let end = round * LEN as u64;
                    file.write_at(bytes(end, LEN, 2), end).wait().result.expect("a large write");
                }
            });
            assert!(looks > 10, "the follower looked {looks} times, so this run proved nothing");
        }
    });
}
