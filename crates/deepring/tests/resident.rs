//! Promise: **resident**. A file that is read with `Direct::Auto` comes from the page cache where that has it, and from the
//! device elsewhere; whichever it is, the bytes are those of the file.

mod harness;

use deepring::{Completed, Direct, Engine, File, ManyOptions, OpenOptions, Piece};
use harness::child::{alone, become_nobody, directory_for_all};
use harness::disk::{as_root, forget_pages};
use harness::{Slice, assert_same, bytes, directory, engines, is_direct, skip};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;

const BYTES: usize = 8 << 20;

/// A file that is not in the page cache, opened by each engine.
fn with_files(body: impl Fn(&Engine, &File, &std::fs::File)) {
    let place = directory();
    if !is_direct(place.path()) {
        return skip("there is no direct I/O here");
    }
    for engine in engines() {
        let path = place.path().join("file");
        std::fs::write(&path, bytes(0, BYTES, 1)).expect("the file");
        let other = std::fs::OpenOptions::new().read(true).write(true).open(&path).expect("the file");
        other.sync_all().expect("a sync");
        forget_pages(&other);
        let file = open_auto(&engine, &path);
        assert!(file.direct(), "{:?}", file.direct_support());
        body(&engine, &file, &other);
    }
}

fn open_auto(engine: &Engine, path: &Path) -> File {
    engine.open(path, OpenOptions::new().read(true).write(true).direct(Direct::Auto)).expect("the file")
}

/// Reads and checks a range. Returns whether every block of it came from the device.
fn is_read_direct(file: &File, position: u64, len: usize, offset: usize, salt: u64) -> bool {
    let Completed { buf, result } = file.read_exact_at(Slice::new(len, offset, 0), position).wait();
    let buf = buf.expect("the buffer");
    assert_same(buf.content(), &bytes(position, len, salt), "what was read");
    assert!(buf.is_guarded());
    result.expect("a read").direct
}

/// Brings a range into the page cache, as another program that reads it does.
fn warm(other: &std::fs::File, position: u64, len: usize) {
    other.read_exact_at(&mut vec![0; len], position).expect("a read by another program");
}

#[test]
fn what_is_in_the_page_cache_comes_from_there_and_the_rest_from_the_device() {
    with_files(|engine, file, other| {
        let lens = [1, 4096, 5000, 64 << 10, 1 << 20, BYTES];
        for (offset, len) in [0, 7].into_iter().flat_map(|offset| lens.map(|len| (offset, len))) {
            assert!(is_read_direct(file, 0, len, offset, 1), "{len} cold bytes at {offset}");
        }
        let before = engine.stats().read_bytes;
        // Reading direct has brought nothing into it.
        assert!(is_read_direct(file, 0, BYTES, 0, 1));
        assert_eq!(engine.stats().read_bytes - before, BYTES as u64);
        warm(other, 0, BYTES);
        for (offset, len) in [0, 7].into_iter().flat_map(|offset| lens.map(|len| (offset, len))) {
            assert!(!is_read_direct(file, 0, len, offset, 1), "{len} warm bytes at {offset}");
        }
        // The end of the file is in a page that is not full.
        file.set_len(BYTES as u64 - 100).wait().expect("a truncation");
        let (_, receipt) = file.read_at(vec![0; 5000], BYTES as u64 - 600).wait().ok().expect("a read of the end");
        assert_eq!(receipt.bytes, 500);
    });
}

#[test]
fn a_file_that_is_half_there_is_read_from_both() {
    with_files(|_, file, other| {
        warm(other, 2 << 20, 2 << 20);
        assert!(is_read_direct(file, 0, 1 << 20, 0, 1));
        assert!(!is_read_direct(file, 3 << 20, 1 << 20, 0, 1));
        assert!(!is_read_direct(file, 1 << 20, 6 << 20, 5, 1), "a part of it came from the page cache");
        let ranges: Vec<_> = (0..2000).map(|index| Piece::new(index as u64 * 4001, index * 100, 100)).collect();
        let (read, receipt) = file.read_scatter_with(vec![0; 200_000], &ranges, ManyOptions::new()).wait().ok().expect("ranges");
        for range in &ranges {
            assert_same(&read.buf[range.offset..range.offset + 100], &bytes(range.position, 100, 1), "a range");
        }
        assert!(!receipt.direct);
    });
}

#[test]
fn writes_of_this_process_and_of_others_are_read_wherever_they_are() {
    with_files(|_, file, other| {
        warm(other, 0, BYTES);
        for round in 2..20 {
            // Past the page cache, which must not show the old bytes.
            let at = (round * 70_001) % (BYTES as u64 - 200_000);
            file.write_at(bytes(at, 100_000, round), at).wait().result.expect("a write");
            is_read_direct(file, at, 100_000, 0, round);
            // And through it.
            other.write_all_at(&bytes(at, 50_000, round + 100), at).expect("another program's write");
            is_read_direct(file, at, 50_000, 3, round + 100);
            is_read_direct(file, at + 50_000, 50_000, 0, round);
        }
        // Reads beside a write find each byte old or new.
        let before = bytes(0, BYTES, 7);
        other.write_all_at(&before, 0).expect("another program's write");
        let after = bytes(0, BYTES, 8);
        let write = file.write_at(after.clone(), 0);
        let reads: Vec<_> = (0..64u64).map(|index| file.read_exact_at(vec![0; 4096], index * 4096)).collect();
        for (index, read) in reads.into_iter().enumerate() {
            let (buf, _) = read.wait().ok().expect("a read");
            let at = index * 4096;
            assert!(buf.iter().enumerate().all(|(byte, found)| [before[at + byte], after[at + byte]].contains(found)));
        }
        write.wait().result.expect("a write");
        is_read_direct(file, 0, BYTES, 0, 8);
    });
}

#[test]
fn a_file_whose_pages_are_not_shown_to_this_user_is_read_direct_and_says_why() {
    alone(|| {
        as_root(|| {
            let place = directory_for_all(0o755);
            if !is_direct(place.path()) {
                return skip("there is no direct I/O here");
            }
            let (foreign, own) = (place.path().join("foreign"), place.path().join("own"));
            for path in [&foreign, &own] {
                std::fs::write(path, bytes(0, BYTES, 1)).expect("the file");
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o444)).expect("the file");
            }
            std::os::unix::fs::chown(&own, Some(65_534), None).expect("the file");
            become_nobody();
            for engine in engines() {
                let open = |path: &Path| engine.open(path, OpenOptions::new().read(true).direct(Direct::Auto)).expect("the file");
                let file = open(&foreign);
                warm(&std::fs::File::open(&foreign).expect("the file"), 0, BYTES);
                assert!(is_read_direct(&file, 0, BYTES, 0, 1));
                assert!(file.direct_support().reason.contains("owner"), "{:?}", file.direct_support());
                let file = open(&own);
                warm(&std::fs::File::open(&own).expect("the file"), 0, BYTES);
                assert!(!is_read_direct(&file, 0, BYTES, 0, 1));
            }
        });
    });
}

#[test]
fn both_descriptors_are_closed() {
    with_files(|engine, _, _| {
        let place = directory();
        let path = place.path().join("another");
        std::fs::write(&path, bytes(0, 5000, 1)).expect("the file");
        let open = || {
            let links = std::fs::read_dir("/proc/self/fd").expect("the descriptors").flatten();
            links.filter(|link| std::fs::read_link(link.path()).is_ok_and(|target| target == path)).count()
        };
        let file = open_auto(engine, &path);
        assert_eq!(open(), 2);
        file.close().wait().expect("a close");
        assert_eq!(open(), 0);
    });
}
