//! Promise: a **checksum** is that of exactly the bytes that were moved, on every way that they can take. What it is
//! compared with is one pass over the same bytes.

#[path = "../examples/checksum.rs"]
#[allow(dead_code, reason = "its main function does not run here")]
mod example;
mod harness;

use deepring::{Direct, Engine, ErrorKind, File, ReadOptions, WindowMode, WriteOptions, crc32c, crc32c_combine};
use harness::{MODES, Rng, Slice, assert_file, assert_same, builders, bytes, directory, engines, open, within};
use std::time::Duration;

/// Small blocks are summed by the driver, large ones by blocking threads.
const BLOCKS: [u64; 3] = [64 << 10, 512 << 10, 4 << 20];

/// An engine per backend and block size. All of the window is used, so that blocks are as large as they can be.
fn engines_of_blocks() -> impl Iterator<Item = Engine> {
    let sized = |bytes: u64| builders().into_iter().map(move |builder| builder.block_bytes(bytes).window(WindowMode::Fixed));
    BLOCKS.into_iter().flat_map(sized).map(|builder| builder.build().expect("an engine"))
}

const SUM: ReadOptions = ReadOptions::new();

#[test]
fn a_read_has_the_checksum_of_its_bytes_wherever_they_lie() {
    let place = directory();
    let path = place.path().join("file");
    let model = bytes(0, 9_000_123, 3);
    std::fs::write(&path, &model).expect("the file");
    let rows: [(u64, usize); 11] = [
        (0, 4096),
        (0, 9_000_123),
        (0, 8 << 20),
        (4096, 300 << 10),
        (1, 300_000),
        (4095, 2),
        (511, 5_000_000),
        // Over and behind the end.
        (8_999_000, 5000),
        (4 << 20, 8 << 20),
        (9_000_123, 100),
        (1 << 40, 4096),
    ];
    for engine in engines_of_blocks() {
        for direct in MODES {
            let file = open(&engine, &path, direct);
            for (position, len) in rows {
                for offset in [0, 1, 512] {
                    let what = format!("{position} {len} at {offset} {direct:?} {engine:?}");
                    let done = file.read_with(Slice::new(len, offset, 0), position, SUM.checksum(true)).wait();
                    let (buf, receipt) = done.ok().expect("a read");
                    let there = &buf.content()[..receipt.bytes as usize];
                    assert_same(there, &model[(position as usize).min(model.len())..][..there.len()], &what);
                    assert_eq!(receipt.checksum, Some(crc32c(there)), "{what}");
                    assert!(buf.is_guarded());
                }
            }
        }
    }
}

#[test]
fn a_write_has_the_checksum_of_its_memory() {
    let place = directory();
    let path = place.path().join("file");
    let mut model = bytes(0, 6_000_000, 3);
    std::fs::write(&path, &model).expect("the file");
    let rows: [(u64, usize); 9] = [
        (0, 4096),
        (0, 5 << 20),
        (4096, 600 << 10),
        (1, 700_001),
        (4095, 2),
        (512, 5_000_000),
        (5_999_999, 3),
        (7_000_000, 0),
        (8 << 20, 3 << 20),
    ];
    for engine in engines_of_blocks() {
        for direct in MODES {
            let file = open(&engine, &path, direct);
            for (index, (position, len)) in rows.into_iter().enumerate() {
                for offset in [0, 1] {
                    let content = bytes(position, len, index as u64 + 10 * offset as u64);
                    let done = file.write_with(Slice::of(&content, offset), position, WriteOptions::new().checksum(true)).wait();
                    let receipt = done.result.expect("a write");
                    assert_eq!(receipt.checksum, Some(crc32c(&content)), "{position} {len} at {offset} {direct:?} {engine:?}");
                    let end = position as usize + len;
                    if len > 0 && model.len() < end {
                        model.resize(end, 0);
                    }
                    if len > 0 {
                        model[position as usize..end].copy_from_slice(&content);
                    }
                }
            }
            assert_file(&path, &model, "after the writes");
        }
    }
}

#[test]
fn nothing_is_summed_that_is_not_asked_for() {
    let place = directory();
    let path = place.path().join("file");
    for engine in engines() {
        let file = open(&engine, &path, Direct::Prefer);
        assert_eq!(file.write_at(vec![1; 5000], 0).wait().result.expect("a write").checksum, None);
        assert_eq!(file.read_at(vec![0; 5000], 0).wait().result.expect("a read").checksum, None);
        let off = ReadOptions::new().expect(1).checksum(false);
        assert_eq!(file.read_with(vec![0; 5000], 0, off).wait().result.expect("a read").checksum, None);
        assert_eq!(file.read_at(Vec::new(), 0).wait().result.expect("a read").checksum, None);
    }
}

#[test]
fn a_checksum_of_nothing_is_zero() {
    let place = directory();
    let path = place.path().join("file");
    for engine in engines() {
        let file = open(&engine, &path, Direct::Prefer);
        assert_eq!(file.read_with(Vec::new(), 7, SUM.checksum(true)).wait().result.expect("a read").checksum, Some(0));
        assert_eq!(file.read_with(vec![0; 10], 7, SUM.expect(0)).wait().result.expect("a read").checksum, Some(0));
        assert_eq!(file.write_with(Vec::new(), 7, WriteOptions::new().checksum(true)).wait().result.expect("a write").checksum, Some(0));
        let error = file.read_with(Vec::new(), 7, SUM.expect(9)).wait().result.expect_err("another checksum");
        assert_eq!((error.kind(), error.position()), (ErrorKind::Checksum { expected: 9, actual: 0 }, Some(7)));
    }
}

#[test]
fn one_flipped_bit_is_found_and_the_buffer_has_the_bytes() {
    let place = directory();
    let path = place.path().join("file");
    let model = bytes(0, 3 << 20, 5);
    for at in [0usize, 1, 4096, 1 << 20, (3 << 20) - 1] {
        let mut flipped = model.clone();
        flipped[at] ^= 0x10;
        std::fs::write(&path, &flipped).expect("the file");
        for engine in engines() {
            for direct in MODES {
                let file = open(&engine, &path, direct);
                let done = file.read_with(vec![0; 3 << 20], 0, SUM.exact(true).expect(crc32c(&model))).wait();
                let error = done.result.expect_err("a flipped bit");
                assert_eq!(error.kind(), ErrorKind::Checksum { expected: crc32c(&model), actual: crc32c(&flipped) });
                assert_eq!((error.code().as_str(), error.syscall()), ("ERR_DEEPRING_CHECKSUM", "read"));
                assert_eq!((error.position(), error.requested(), error.transferred()), (Some(0), 3 << 20, 3 << 20));
                assert_eq!(error.path(), Some(&*path));
                assert_same(&done.buf.expect("the buffer"), &flipped, "what was read");
                assert_eq!(engine.stats().queued, 0);
            }
        }
    }
}

#[test]
fn the_end_of_the_file_comes_before_a_wrong_checksum() {
    let place = directory();
    let path = place.path().join("file");
    std::fs::write(&path, bytes(0, 5000, 5)).expect("the file");
    for engine in engines() {
        let file = open(&engine, &path, Direct::Prefer);
        let error = file.read_with(vec![0; 6000], 0, SUM.exact(true).expect(1)).wait().result.expect_err("the end");
        assert_eq!((error.kind(), error.transferred()), (ErrorKind::Eof, 5000));
        let receipt = file.read_with(vec![0; 6000], 0, SUM.expect(crc32c(&bytes(0, 5000, 5)))).wait().result.expect("a read");
        assert_eq!(receipt.bytes, 5000);
    }
}

#[test]
fn writes_that_share_units_have_each_its_own_checksum() {
    let place = directory();
    let path = place.path().join("file");
    for engine in engines() {
        std::fs::write(&path, vec![0; 1 << 20]).expect("the file");
        let file = open(&engine, &path, Direct::Prefer);
        let pieces: Vec<_> = (0..1000u64).map(|index| bytes(index * 1000, 1000, 7)).collect();
        let submit =
            |(index, piece): (usize, &Vec<u8>)| file.write_with(piece.clone(), index as u64 * 1000, WriteOptions::new().checksum(true));
        let writes: Vec<_> = pieces.iter().enumerate().map(submit).collect();
        let mut whole = 0;
        for (write, piece) in writes.into_iter().zip(&pieces) {
            let checksum = write.wait().result.expect("a write").checksum.expect("a checksum");
            assert_eq!(checksum, crc32c(piece));
            whole = crc32c_combine(whole, checksum, 1000);
        }
        assert_eq!(file.checksum(..1_000_000).wait().expect("a checksum"), whole);
    }
}

// ---- of a file ----

/// A range of a file, and the checksums of its chunks.
#[track_caller]
fn check_file(file: &File, model: &[u8], range: std::ops::Range<usize>, chunk: usize) {
    let wanted = &model[range.clone()];
    let (start, end) = (range.start as u64, range.end as u64);
    assert_eq!(file.checksum(start..end).wait().expect("a checksum"), crc32c(wanted), "{range:?}");
    let chunks: Vec<_> = wanted.chunks(chunk).map(crc32c).collect();
    assert_eq!(file.checksums(start..end, chunk as u64).wait().expect("checksums"), chunks, "{range:?} by {chunk}");
}

#[test]
fn a_file_has_the_checksums_of_its_bytes_for_any_range_and_chunk() {
    let place = directory();
    let path = place.path().join("file");
    let model = bytes(0, 21_000_321, 9);
    std::fs::write(&path, &model).expect("the file");
    let mut rng = Rng::new();
    for engine in engines() {
        for direct in MODES {
            let file = open(&engine, &path, direct);
            assert_eq!(file.checksum(..).wait().expect("a checksum"), crc32c(&model));
            assert_eq!(file.checksum(5_000_001..).wait().expect("a checksum"), crc32c(&model[5_000_001..]));
            assert_eq!(file.checksum(model.len() as u64..).wait().expect("a checksum"), 0);
            assert_eq!(file.checksum(1 << 40..).wait().expect("a checksum"), 0);
            assert_eq!(file.checksums(7..7, 100).wait().expect("checksums"), Vec::<u32>::new());
            for chunk in [1 << 20, 4 << 20, 5_000_000, 100_000_000, 4096] {
                check_file(&file, &model, 0..model.len(), chunk);
            }
            for _ in 0..20 {
                let (a, b) = (rng.below(model.len() as u64) as usize, rng.below(model.len() as u64) as usize);
                check_file(&file, &model, a.min(b)..a.max(b), 1 + rng.below(1 << 22) as usize + 1000);
            }
        }
    }
}

#[test]
fn a_range_that_the_file_does_not_have_is_an_error() {
    let place = directory();
    let path = place.path().join("file");
    std::fs::write(&path, bytes(0, 10_000_000, 9)).expect("the file");
    for engine in engines() {
        let file = open(&engine, &path, Direct::Prefer);
        let error = file.checksum(1_000_000..10_000_001).wait().expect_err("the file ends before");
        assert_eq!((error.kind(), error.position()), (ErrorKind::Eof, Some(1_000_000)));
        assert_eq!((error.requested(), error.transferred()), (9_000_001, 9_000_000));
        assert_eq!(error.path(), Some(&*path));
        assert_eq!(file.checksums(.., 0).wait().map_err(|error| error.kind()), Err(ErrorKind::Invalid));
        assert_eq!(file.checksums(..1 << 40, 1).wait().map_err(|error| error.kind()), Err(ErrorKind::Invalid));
        assert_eq!(file.checksum(u64::MAX - 1..u64::MAX).wait().map_err(|error| error.kind()), Err(ErrorKind::Os(libc::EFBIG)));
        assert_eq!((engine.stats().buffers, engine.stats().queued), (0, 0));
    }
}

#[test]
fn a_file_is_summed_although_the_queue_of_requests_has_few_places() {
    let place = directory();
    let path = place.path().join("file");
    let model = bytes(0, 40 << 20, 2);
    std::fs::write(&path, &model).expect("the file");
    for builder in builders() {
        let engine = builder.max_queued(2).build().expect("an engine");
        let file = open(&engine, &path, Direct::Prefer);
        let [first, second] = [file.checksum(..), file.checksum(..)];
        // The second finds no place at all, or goes on with what the first leaves.
        let second = within(Duration::from_secs(60), "the second", || second.wait());
        assert!(second.as_ref().is_ok_and(|&crc| crc == crc32c(&model)) || second.is_err_and(|error| error.kind() == ErrorKind::QueueFull));
        let first = within(Duration::from_secs(60), "the first", || first.wait());
        assert!(first.as_ref().is_ok_and(|&crc| crc == crc32c(&model)) || first.is_err_and(|error| error.kind() == ErrorKind::QueueFull));
        assert_eq!(file.checksum(..).wait().expect("a checksum"), crc32c(&model));
    }
}

#[test]
fn a_walk_takes_bounded_memory_and_gives_it_back() {
    let place = directory();
    let path = place.path().join("file");
    std::fs::File::create(&path).and_then(|file| file.set_len(600 << 20)).expect("a file of holes");
    for engine in engines() {
        let file = open(&engine, &path, Direct::Prefer);
        let zeros = (0..600).fold(0, |crc, _| crc32c_combine(crc, crc32c(&vec![0; 1 << 20]), 1 << 20));
        let walk = file.checksum(..);
        let mut most = 0;
        let crc = std::thread::scope(|scope| {
            let waiting = scope.spawn(|| walk.wait());
            while !waiting.is_finished() {
                most = most.max(engine.stats().buffer_bytes);
                std::thread::sleep(Duration::from_micros(200));
            }
            waiting.join().expect("a thread")
        });
        assert_eq!(crc.expect("a checksum"), zeros);
        assert!(most > 0 && most <= 64 << 20, "{most} bytes");
        assert_eq!(engine.stats().buffer_bytes, 0);
    }
}

#[test]
fn a_close_waits_for_a_walk_and_the_end_of_the_engine_ends_it() {
    let place = directory();
    let path = place.path().join("file");
    std::fs::File::create(&path).and_then(|file| file.set_len(8 << 30)).expect("a file of holes");
    for builder in builders() {
        let engine = builder.build().expect("an engine");
        let file = open(&engine, &path, Direct::Prefer);
        let walk = file.checksum(..256 << 20);
        file.close().wait().expect("a close");
        walk.wait().expect("a checksum, long before now");
        let file = open(&engine, &path, Direct::Prefer);
        let walk = file.checksum(..);
        std::thread::sleep(Duration::from_millis(20));
        within(Duration::from_secs(10), "the end of the engine", || drop((file, engine)));
        assert_eq!(within(Duration::from_secs(10), "the walk", || walk.wait()).map_err(|error| error.kind()), Err(ErrorKind::Canceled));
    }
}

#[test]
fn the_example_sums_files_in_their_order_and_goes_on_after_an_error() {
    let place = directory();
    let paths = ["first", "missing", "last"].map(|name| place.path().join(name));
    std::fs::write(&paths[0], b"123456789").expect("a file");
    std::fs::write(&paths[2], bytes(0, 5_000_000, 1)).expect("a file");
    let sums: Vec<_> = example::checksums(&paths).into_iter().map(|sum| sum.map_err(|error| error.kind())).collect();
    assert_eq!(sums, [Ok(0xe306_9283), Err(ErrorKind::Os(libc::ENOENT)), Ok(crc32c(&bytes(0, 5_000_000, 1)))]);
}
