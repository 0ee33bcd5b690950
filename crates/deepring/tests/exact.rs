//! Promise: **exact**. A transfer moves the requested bytes, at any position, of any length, from
//! any address, and leaves the file with the right length; or it fails and reports the bytes
//! transferred. The results are checked with `std::fs`, which the engine does not use.

mod harness;

use deepring::{BackendKind, Buffer, Completed, Direct, Engine, ErrorKind, OpenOptions, WindowMode};
use harness::program::{self, Memory, check_read, read};
use harness::{MODES, READ_WRITE, Rng, Slice, assert_file, assert_same, backends, bytes, directory, engines, open};

// ---- random requests against a vector ----

fn random_programs(backend: BackendKind, direct: Direct) {
    if !backends().contains(&backend) {
        return harness::skip("DEEPRING_BACKEND names the other backend");
    }
    let place = directory();
    program::run_random(48, backend, direct, &place.path().join("file"));
}

#[test]
fn random_requests_match_a_vector_on_the_ring_direct() {
    random_programs(BackendKind::Uring, Direct::Prefer);
}

#[test]
fn random_requests_match_a_vector_on_the_ring_buffered() {
    random_programs(BackendKind::Uring, Direct::Never);
}

#[test]
fn random_requests_match_a_vector_on_threads_direct() {
    random_programs(BackendKind::Threads, Direct::Prefer);
}

#[test]
fn random_requests_match_a_vector_on_threads_buffered() {
    random_programs(BackendKind::Threads, Direct::Never);
}

// ---- the end of the file ----

#[test]
fn reads_at_the_end_of_a_file_are_exact_to_the_byte() {
    let place = directory();
    let path = place.path().join("file");
    let model = bytes(0, 5000, 1);
    std::fs::write(&path, &model).expect("the file");
    // (position, length, bytes available): what a direct read of a file of 5000 bytes returns, and
    // its unaligned neighbors.
    let rows: [(u64, usize, u64); 14] = [
        (0, 8192, 5000),
        (4096, 4096, 904),
        (4608, 512, 392),
        (8192, 4096, 0),
        (1 << 40, 4096, 0),
        (0, 5000, 5000),
        (0, 5001, 5000),
        (4999, 1, 1),
        (4999, 2, 1),
        (5000, 1, 0),
        (5001, 1, 0),
        (5119, 2, 0),
        (1, 8191, 4999),
        (511, 600, 600),
    ];
    for engine in engines() {
        for direct in MODES {
            let file = open(&engine, &path, direct);
            for (position, len, there) in rows {
                for memory in [Memory::Slice(0), Memory::Slice(1), Memory::Engine(0)] {
                    let (found, result) = read(&engine, &file, len, position, memory, false);
                    assert_eq!(result.as_ref().map(|receipt| receipt.bytes).ok(), Some(there), "{position} {len} {memory:?} {direct:?}");
                    check_read(&model, position, false, (found, result));
                    check_read(&model, position, true, read(&engine, &file, len, position, memory, true));
                }
            }
        }
    }
}

#[test]
fn an_empty_request_moves_nothing_at_any_position() {
    let place = directory();
    let path = place.path().join("file");
    for engine in engines() {
        for direct in MODES {
            std::fs::write(&path, b"four").expect("the file");
            let file = open(&engine, &path, direct);
            for position in [0, 3, 4, 5, 1 << 50] {
                assert_eq!(file.read_exact_at(Vec::new(), position).wait().result.expect("a read").bytes, 0);
                assert_eq!(file.write_at(Vec::new(), position).wait().result.expect("a write").bytes, 0);
            }
            assert_file(&path, b"four", "after empty requests");
        }
    }
}

#[test]
fn reading_an_empty_file_returns_no_bytes() {
    let place = directory();
    let path = place.path().join("file");
    std::fs::write(&path, b"").expect("the file");
    for engine in engines() {
        for direct in MODES {
            let file = open(&engine, &path, direct);
            assert_eq!(file.read_at(vec![0; 10_000], 0).wait().result.expect("a read").bytes, 0);
            let error = file.read_exact_at(vec![0; 1], 0).wait().result.expect_err("the file is empty");
            assert_eq!((error.kind(), error.transferred()), (ErrorKind::Eof, 0));
        }
    }
}

// ---- holes and far positions ----

#[test]
fn holes_read_as_zeros_and_stay_zero_around_a_write() {
    let place = directory();
    let path = place.path().join("file");
    for engine in engines() {
        for direct in MODES {
            std::fs::write(&path, b"").expect("the file");
            let file = open(&engine, &path, direct);
            file.set_len(1 << 20).wait().expect("set_len");
            let Completed { buf, result } = file.read_exact_at(vec![1; 300_001], 12_345).wait();
            result.expect("a read of a hole");
            assert!(buf.expect("the buffer").iter().all(|&byte| byte == 0));
            let mut model = vec![0; 1 << 20];
            for (position, len) in [(70_000, 5000), (500_001, 3), (524_287, 70_002)] {
                let content = bytes(position, len, 3);
                file.write_at(content.clone(), position).wait().result.expect("a write into a hole");
                model[position as usize..position as usize + len].copy_from_slice(&content);
            }
            assert_file(&path, &model, "writes into holes");
        }
    }
}

#[test]
fn positions_beyond_four_gigabytes_and_two_terabytes_are_exact() {
    let place = directory();
    for engine in engines() {
        for direct in MODES {
            for position in [(1u64 << 32) - 5, (1 << 32) + 123, (1 << 41) - 4096, (1 << 41) + 77] {
                let path = place.path().join(format!("{position}-{direct:?}-{:?}", engine.info().backend));
                let file = open(&engine, &path, direct);
                let content = bytes(position, 10_001, 4);
                file.write_at(content.clone(), position).wait().result.expect("a write far out");
                assert_eq!(std::fs::metadata(&path).expect("metadata").len(), position + 10_001);
                let (found, result) = read(&engine, &file, 10_101, position - 50, Memory::Slice(3), false);
                assert_eq!(result.expect("a read far out").bytes, 10_051);
                assert!(found[..50].iter().all(|&byte| byte == 0), "before the write there is a hole");
                assert_same(&found[50..10_051], &content, "bytes far out");
                // Independently of the engine.
                let mut checked = vec![0; 10_001];
                let plain = std::fs::File::open(&path).expect("the file");
                std::os::unix::fs::FileExt::read_exact_at(&plain, &mut checked, position).expect("the bytes");
                assert_same(&checked, &content, "bytes far out, read by std");
            }
        }
    }
}

#[test]
fn positions_beyond_any_file_are_refused_and_change_nothing() {
    let place = directory();
    let path = place.path().join("file");
    for engine in engines() {
        for direct in MODES {
            std::fs::write(&path, b"old").expect("the file");
            let file = open(&engine, &path, direct);
            for position in [u64::MAX, u64::MAX - 4095, 1 << 63, (1 << 63) - 10] {
                let Completed { buf, result } = file.write_at(vec![1; 20], position).wait();
                let error = result.expect_err("a file cannot be that long");
                assert_eq!((error.kind(), error.transferred()), (ErrorKind::Os(libc::EFBIG), 0), "{position}: {error}");
                assert_eq!(buf, Some(vec![1; 20]));
                assert_file(&path, b"old", "after a refused write");
            }
            for position in [u64::MAX, (1 << 63) - 10] {
                let error = file.read_at(vec![0; 20], position).wait().result.expect_err("a file cannot be that long");
                assert_eq!(error.kind(), ErrorKind::Os(libc::EFBIG), "{error}");
            }
            assert!(file.set_len(u64::MAX).wait().is_err());
            assert_file(&path, b"old", "after refused requests");
        }
    }
}

// ---- blocks ----

#[test]
fn a_request_is_cut_into_blocks_of_the_size_asked_for() {
    let place = directory();
    let path = place.path().join("file");
    let content = bytes(0, 4 << 20, 5);
    std::fs::write(&path, &content).expect("the file");
    for backend in backends() {
        for (asked, blocks) in [(4096, 1024), (5000, 512), (64 << 10, 64), (1 << 20, 4), (4 << 20, 1), (64 << 20, 1)] {
            // A window that is found can cut blocks smaller, here because the engines of other tests use the disk.
            let builder = Engine::builder().backend(backend).window(WindowMode::Fixed);
            let engine = builder.block_bytes(asked).in_flight_bytes(64 << 20).build().expect("an engine");
            let file = open(&engine, &path, Direct::Prefer);
            let (buf, receipt) = file.read_exact_at(engine.buffer(4 << 20).expect("memory"), 0).wait().ok().expect("a read");
            assert_eq!(u64::from(receipt.blocks), blocks, "blocks of {asked} bytes");
            assert_same(&buf, &content, "what was read");
            let (_, receipt) = file.write_at(buf, 0).wait().ok().expect("a write");
            assert_eq!(u64::from(receipt.blocks), blocks, "blocks of {asked} bytes: {receipt:?}");
        }
    }
    assert_file(&path, &content, "rewritten in blocks of all sizes");
}

#[test]
fn a_request_longer_than_four_gigabytes_stops_at_the_end_of_the_file() {
    const LEN: usize = (5 << 30) + 77;
    let place = directory();
    let path = place.path().join("file");
    let content = bytes(0, (3 << 20) + 5, 6);
    std::fs::write(&path, &content).expect("the file");
    for engine in engines() {
        for direct in MODES {
            let file = open(&engine, &path, direct);
            for position in [0, 4096, 4097] {
                // Only pages that are read into are ever allocated.
                let buf = engine.buffer(LEN).expect("address space");
                let (buf, receipt) = file.read_at(buf, position).wait().ok().expect("a read");
                let there = &content[position as usize..];
                assert_eq!(receipt.bytes, there.len() as u64);
                assert_same(&buf[..there.len()], there, "what was read");
                let error = file.read_exact_at(buf, position).wait().result.expect_err("the file is shorter");
                assert_eq!((error.kind(), error.transferred(), error.requested()), (ErrorKind::Eof, there.len() as u64, LEN as u64));
            }
        }
    }
}

#[test]
fn overlapping_requests_in_flight_leave_one_of_their_bytes_everywhere() {
    let place = directory();
    let path = place.path().join("file");
    let mut rng = Rng::new();
    for engine in engines() {
        for direct in MODES {
            std::fs::write(&path, b"").expect("the file");
            let file = open(&engine, &path, direct);
            let places: Vec<(u64, usize)> = (0..64).map(|_| (rng.below(100_000), 1 + rng.below(50_000) as usize)).collect();
            let ops: Vec<_> = places.iter().zip(1u8..).map(|(&(position, len), fill)| file.write_at(vec![fill; len], position)).collect();
            for op in ops {
                op.wait().result.expect("a write");
            }
            let found = std::fs::read(&path).expect("the file");
            let end = places.iter().map(|&(position, len)| position as usize + len).max();
            assert_eq!(Some(found.len()), end);
            for (at, &byte) in found.iter().enumerate() {
                let covered = |fill: u8| {
                    let (position, len) = places[usize::from(fill) - 1];
                    (position as usize..position as usize + len).contains(&at)
                };
                let never_written = || (1..=64).all(|fill| !covered(fill));
                assert!(if byte == 0 { never_written() } else { covered(byte) }, "byte {at} is {byte}");
            }
        }
    }
}

// ---- whole files by path ----

#[test]
fn write_file_leaves_the_file_exactly_as_long_as_the_buffer() {
    let place = directory();
    let path = place.path().join("file");
    for engine in engines() {
        for old in [None, Some(0), Some(1), Some(4096), Some(5000), Some(3_000_001)] {
            for new in [0, 1, 511, 4095, 4096, 4097, 5000, 1 << 20, 2_500_003] {
                match old {
                    None => drop(std::fs::remove_file(&path)),
                    Some(len) => std::fs::write(&path, bytes(0, len, 8)).expect("the old file"),
                }
                let content = bytes(0, new, 9);
                let (_, receipt) = engine.write_file(&path, Slice::of(&content, new % 7)).wait().ok().expect("write_file");
                assert_eq!(receipt.bytes, new as u64);
                assert_file(&path, &content, &format!("{new} bytes over {old:?}"));
                let (buf, receipt) = engine.read_file(&path, vec![0; new]).wait().ok().expect("read_file");
                assert_eq!(receipt.bytes, new as u64);
                assert_same(&buf, &content, "read_file");
            }
        }
    }
}

#[test]
fn read_file_refuses_a_file_of_another_size_and_a_missing_one() {
    let place = directory();
    let path = place.path().join("file");
    std::fs::write(&path, bytes(0, 5000, 1)).expect("the file");
    for engine in engines() {
        for len in [0usize, 1, 4096, 4999, 5001, 8192, 100_000] {
            let Completed { buf, result } = engine.read_file(&path, vec![7; len]).wait();
            let error = result.expect_err("the sizes differ");
            assert_eq!((error.kind(), error.code()), (ErrorKind::SizeMismatch, "ERR_DEEPRING_SIZE_MISMATCH".into()));
            assert_eq!((error.requested(), error.transferred(), error.path()), (len as u64, 0, Some(path.as_path())));
            assert_eq!(buf, Some(vec![7; len]), "the buffer comes back untouched");
        }
        let missing = place.path().join("missing");
        let error = engine.read_file(&missing, vec![0; 10]).wait().result.expect_err("there is no file");
        assert_eq!((error.code(), error.syscall(), error.path()), ("ENOENT".into(), "open", Some(missing.as_path())));
        assert!(!missing.exists(), "reading must not create");
        let nowhere = place.path().join("no/such/directory");
        let error = engine.write_file(&nowhere, vec![0; 10]).wait().result.expect_err("there is no directory");
        assert_eq!((error.code(), error.syscall()), ("ENOENT".into(), "open"));
    }
}

// ---- other processes at the same file ----

#[test]
fn a_file_extended_by_another_process_is_not_truncated() {
    let place = directory();
    let path = place.path().join("file");
    for engine in engines() {
        for direct in MODES {
            std::fs::write(&path, bytes(0, 5000, 1)).expect("the file");
            let file = open(&engine, &path, direct);
            let mut model = bytes(0, 20_000, 1);
            std::fs::write(&path, &model).expect("the longer file");
            for (position, len) in [(4000, 1500), (7001, 99), (19_990, 5)] {
                let content = bytes(position, len, 2);
                file.write_at(content.clone(), position).wait().result.expect("a write");
                model[position as usize..position as usize + len].copy_from_slice(&content);
                assert_file(&path, &model, "a file that grew outside the engine");
            }
        }
    }
}

#[test]
fn a_file_truncated_by_another_process_loses_no_byte_of_a_later_write() {
    let place = directory();
    let path = place.path().join("file");
    for engine in engines() {
        for direct in MODES {
            for round in 0..60 {
                std::fs::write(&path, bytes(0, 400_000, 1)).expect("the file");
                let file = open(&engine, &path, direct);
                let cut = [0, 100, 4096, 9000][round % 4];
                std::fs::OpenOptions::new().write(true).open(&path).and_then(|plain| plain.set_len(cut)).expect("the truncation");
                let (position, len) = [(5000, 15_001), (300, 200), (4096, 40_000), (8000, 300_000), (100_001, 3)][round % 5];
                let content = bytes(position, len, 2);
                let what = format!(
                    "round {round} on {}: truncated to {cut}, then {len} bytes at {position}, {direct:?}",
                    engine.info().backend.as_str()
                );
                harness::within(std::time::Duration::from_secs(20), &what, {
                    let content = content.clone();
                    move || file.write_at(content, position).wait().result.expect("a write")
                });
                let mut model = bytes(0, cut as usize, 1);
                model.resize(model.len().max(position as usize + len), 0);
                model[position as usize..position as usize + len].copy_from_slice(&content);
                assert_file(&path, &model, &what);
            }
        }
    }
}

// ---- opening ----

#[test]
fn only_opening_with_truncate_empties_the_file() {
    let place = directory();
    let path = place.path().join("file");
    for engine in engines() {
        std::fs::write(&path, b"old").expect("the file");
        let error = engine.open(&path, OpenOptions::new().read(true).truncate(true)).expect_err("truncating needs write access");
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert_file(&path, b"old", "after a refused open");
        drop(engine.open(&path, READ_WRITE).expect("the file"));
        assert_file(&path, b"old", "after an ordinary open");
        drop(engine.open(&path, READ_WRITE.truncate(true)).expect("the file"));
        assert_file(&path, b"", "after truncating");
    }
}

#[test]
fn a_new_buffer_is_zero_even_in_reused_memory() {
    for engine in engines() {
        for len in [1, 4096, 5000, 1 << 20, (1 << 20) + 1, 5 << 20] {
            let dirty: Vec<Buffer> = (0..3)
                .map(|_| {
                    let mut buf = engine.pooled_buffer(len).expect("memory");
                    buf.fill(0xff);
                    buf
                })
                .collect();
            drop(dirty);
            for _ in 0..4 {
                let buf = engine.buffer(len).expect("memory");
                assert!(buf.iter().all(|&byte| byte == 0), "a buffer of {len} bytes");
                assert_eq!(buf.as_ptr() as usize % 4096, 0);
            }
        }
    }
}
