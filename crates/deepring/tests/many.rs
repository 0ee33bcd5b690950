//! Promise: **many**. Any number of ranges in one call is exact to the byte, as each of them alone would be, and fails with
//! the range that is to blame.

mod harness;

use deepring::{Batch, Completed, Direct, Engine, Error, ErrorKind, File, FileRanges, ManyOptions, OpenOptions, Piece, Spare};
use harness::disk::{Loop, as_root};
use harness::{MODES, Rng, Slice, assert_file, assert_same, builders, bytes, directory, engines, open, say};
use std::path::Path;
use std::time::Duration;

const FILE: usize = 3 << 20;

/// A file of `FILE` bytes, opened in each mode by each engine.
fn with_files(body: impl Fn(&Engine, &File, &Path)) {
    let place = directory();
    for engine in engines() {
        for direct in MODES {
            let path = place.path().join("file");
            std::fs::write(&path, bytes(0, FILE, 1)).expect("the file");
            let file = open(&engine, &path, direct);
            say(&format!("{file:?}"));
            body(&engine, &file, &path);
        }
    }
}

/// Ranges in the file, packed in a buffer in a random order, with holes between them. Returns the buffer's length, too.
fn random_ranges(rng: &mut Rng, count: u64, end: u64) -> (Vec<Piece>, usize) {
    let mut ranges: Vec<_> = (0..count)
        .map(|_| {
            let (longest, unit) = *rng.pick(&[(200, 1), (200, 128), (5000, 1), (4096, 4096), (300_000, 1), (0, 1)]);
            let len = if longest == 0 { 0 } else { 1 + rng.below(longest) };
            let position = rng.below(end) / unit * unit;
            // Some follow the one before.
            Piece::new(position, 0, if unit == 1 { len } else { unit } as usize)
        })
        .collect();
    for index in 1..ranges.len() {
        if rng.once_in(3) {
            ranges[index].position = ranges[index - 1].position + ranges[index - 1].len as u64;
        }
    }
    let mut order: Vec<_> = (0..ranges.len()).collect();
    if rng.once_in(2) {
        rng.shuffle(&mut order);
    }
    let mut next = 0;
    for index in order {
        ranges[index].offset = next;
        next += ranges[index].len + if rng.once_in(4) { rng.below(300) as usize } else { 0 };
    }
    (ranges, next + 100)
}

/// What a read of these ranges brings: the bytes of the buffer, which had 9s in it, and those of each range.
fn expected(ranges: &[Piece], len: usize) -> (Vec<u8>, Vec<u64>) {
    let mut content = vec![9; len];
    let counts = ranges.iter().map(|range| {
        let count = FILE.saturating_sub(range.position as usize).min(range.len);
        content[range.offset..range.offset + count].copy_from_slice(&bytes(range.position, count, 1));
        count as u64
    });
    let counts = counts.collect();
    (content, counts)
}

#[test]
fn random_ranges_are_read_exactly_and_nothing_between_them_is_touched() {
    let rng = std::cell::RefCell::new(Rng::new());
    with_files(|_, file, _| {
        for round in 0..25 {
            let rng = &mut *rng.borrow_mut();
            let (ranges, len) = random_ranges(rng, 1 + round * 7, FILE as u64 + 10_000);
            let (content, counts) = expected(&ranges, len);
            let gap = [0, 700, 1 << 30][round as usize % 3];
            let slice = Slice::new(len, (round % 5) as usize * 7, 9);
            let first = (0..ranges.len()).find(|&index| counts[index] < ranges[index].len as u64);
            let options = ManyOptions::new().gap(gap);
            let (read, receipt) = file.read_scatter_with(slice, &ranges, options.clone()).wait().ok().expect("a read");
            assert_same(&clean(read.buf.content(), &ranges, &counts), &content, "what was read");
            assert!(read.buf.is_guarded());
            assert_eq!((read.counts(), receipt.bytes), (counts.clone(), counts.iter().sum()));
            // And exactly.
            let Completed { buf, result } = file.read_scatter_with(Slice::new(len, 0, 9), &ranges, options.exact(true)).wait();
            assert!(buf.expect("the buffer").buf.is_guarded());
            match (first, result) {
                (None, Ok(receipt)) => assert_eq!(receipt.bytes, counts.iter().sum()),
                (Some(index), Err(error)) => {
                    let range = ranges[index];
                    assert_eq!((error.kind(), error.index(), error.position()), (ErrorKind::Eof, Some(index as u32), Some(range.position)));
                    assert_eq!((error.requested(), error.transferred()), (range.len as u64, counts[index]), "{error}");
                }
                (first, result) => panic!("{result:?}, and the first short range is {first:?}"),
            }
        }
    });
}

/// The content with 9s behind the bytes that came of each range: beyond them the buffer is not defined.
fn clean(content: &[u8], ranges: &[Piece], counts: &[u64]) -> Vec<u8> {
    let mut content = content.to_vec();
    for (range, &count) in ranges.iter().zip(counts) {
        content[range.offset + count as usize..range.offset + range.len].fill(9);
    }
    content
}

#[test]
fn random_ranges_are_written_exactly_and_nothing_between_them_is_touched() {
    let rng = std::cell::RefCell::new(Rng::new());
    with_files(|_, file, path| {
        let mut model = bytes(0, FILE, 1);
        for round in 0..25 {
            let rng = &mut *rng.borrow_mut();
            let (mut ranges, len) = random_ranges(rng, 1 + round * 7, FILE as u64);
            // Apart, in the order in which they are.
            let mut sorted: Vec<_> = ranges.iter_mut().collect();
            sorted.sort_by_key(|range| range.position);
            let mut next = 0;
            for range in sorted {
                range.position = range.position.max(next);
                next = range.position + range.len as u64;
            }
            let content = bytes(round << 20, len, 2);
            let end = ranges.iter().filter(|range| range.len > 0).map(|range| range.position as usize + range.len).max().unwrap_or(0);
            model.resize(model.len().max(end), 0);
            for range in &ranges {
                model[range.position as usize..][..range.len].copy_from_slice(&content[range.offset..][..range.len]);
            }
            let sum: usize = ranges.iter().map(|range| range.len).sum();
            let slice = Slice::of(&content, (round % 5) as usize * 7);
            let (slice, receipt) = file.write_gather(slice, &ranges).wait().ok().expect("a write");
            assert_same(slice.content(), &content, "what was written");
            assert_eq!(receipt.bytes, sum as u64);
            if round % 8 == 0 {
                file.sync_all().wait().expect("a sync");
            }
        }
        assert_file(path, &model, "after all writes");
    });
}

#[test]
fn ranges_that_overlap_are_read_once_and_not_written() {
    with_files(|_, file, path| {
        let ranges = vec![Piece::new(100, 0, 5000), Piece::new(4000, 5000, 4000), Piece::new(100, 9000, 5000)];
        let (read, receipt) = file.read_scatter(vec![0; 14_000], &ranges).wait().ok().expect("a read");
        assert_same(&read[..5000], &bytes(100, 5000, 1), "the first");
        assert_same(&read[5000..9000], &bytes(4000, 4000, 1), "the second");
        assert_same(&read[9000..], &read[..5000], "the same again");
        assert_eq!((receipt.bytes, receipt.blocks), (14_000, 1), "{receipt:?}");
        let error = file.write_gather(vec![0; 14_000], &ranges).wait().result.expect_err("they overlap");
        assert_eq!((error.kind(), error.index(), error.code().as_str()), (ErrorKind::Overlap(0), Some(2), "ERR_DEEPRING_OVERLAP"));
        assert_file(path, &bytes(0, FILE, 1), "nothing was written");
        let error =
            file.read_scatter(vec![0; 100], &[Piece::new(0, 50, 10), Piece::new(9, 41, 10)]).wait().result.expect_err("they overlap");
        assert_eq!((error.kind(), error.index()), (ErrorKind::Overlap(0), Some(1)), "{error}");
    });
}

#[test]
fn many_small_neighbors_are_one_operation() {
    with_files(|_, file, _| {
        // Every record of a stretch, in reverse order in memory.
        let ranges: Vec<_> = (0..1000).map(|index| Piece::new(300 + index * 128, (999 - index as usize) * 128, 128)).collect();
        let (read, receipt) = file.read_scatter(vec![0; 128_000], &ranges).wait().ok().expect("a read");
        for index in 0..1000 {
            assert_same(&read[(999 - index) * 128..][..128], &bytes(300 + index as u64 * 128, 128, 1), "a record");
        }
        assert_eq!((receipt.bytes, receipt.blocks), (128_000, 1), "{receipt:?}");
    });
}

#[test]
fn a_million_ranges_are_one_request_and_one_more_is_refused() {
    const MOST: usize = 1 << 20;
    let place = directory();
    for builder in builders() {
        let engine = builder.max_queued(1).build().expect("an engine");
        let path = place.path().join("file");
        std::fs::write(&path, bytes(0, FILE, 1)).expect("the file");
        let file = open(&engine, &path, Direct::Prefer);
        let ranges: Vec<_> = (0..MOST).map(|index| Piece::new((index as u64 * 7919) % (FILE as u64 - 3), index * 3, 3)).collect();
        let (read, receipt) = file.read_scatter(vec![0; MOST * 3], &ranges).wait().ok().expect("a read");
        assert_eq!(receipt.bytes, MOST as u64 * 3);
        let expected: Vec<u8> = ranges.iter().flat_map(|range| bytes(range.position, 3, 1)).collect();
        assert_same(&read, &expected, "a million ranges");
        let error = file.read_scatter(vec![0; 9], &vec![Piece::new(0, 0, 1); MOST + 1]).wait().result.expect_err("too many");
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        // A write of many is one request, too.
        let ranges: Vec<_> = (0..1000).map(|index| Piece::new(index as u64 * 3000, index * 3, 3)).collect();
        file.write_gather(vec![7; 3000], &ranges).wait().result.expect("a write");
        assert_eq!(engine.stats().queued, 0);
    }
}

#[test]
fn ranges_outside_the_buffer_or_the_largest_file_are_refused_with_their_index() {
    with_files(|_, file, path| {
        let refused =
            |range| -> Error { file.read_scatter(vec![0; 100], &[Piece::new(0, 0, 10), range]).wait().result.expect_err("refused") };
        for range in [Piece::new(0, 90, 11), Piece::new(0, usize::MAX, 2), Piece::new(0, 101, 0)] {
            let error = refused(range);
            assert_eq!((error.kind(), error.index(), error.path()), (ErrorKind::Invalid, Some(1), Some(path)), "{error}");
        }
        let error = refused(Piece::new(u64::MAX - 5, 0, 10));
        assert_eq!((error.code().as_str(), error.index(), error.position()), ("EFBIG", Some(1), Some(u64::MAX - 5)));
        let (_, receipt) = file.read_scatter(vec![0; 0], &[]).wait().ok().expect("nothing");
        assert_eq!((receipt.bytes, receipt.blocks), (0, 0));
        let (_, receipt) = file.write_gather(vec![0; 9], &[Piece::new(1 << 40, 5, 0)]).wait().ok().expect("nothing");
        assert_eq!(receipt.bytes, 0);
        assert_file(path, &bytes(0, FILE, 1), "nothing was written");
    });
}

#[test]
fn vectored_buffers_follow_one_another() {
    with_files(|_, file, path| {
        let lens = [5000, 0, 4096, 1 << 20, 17];
        let mut from = 1000;
        let parts: Vec<_> = lens
            .iter()
            .map(|&len| {
                from += len as u64;
                Slice::of(&bytes(from - len as u64, len, 5), 3)
            })
            .collect();
        let (_, receipt) = file.write_vectored(parts, 1000).wait().ok().expect("a write");
        let sum: usize = lens.iter().sum();
        assert_eq!(receipt.bytes, sum as u64);
        let mut model = bytes(0, FILE, 1);
        model[1000..1000 + sum].copy_from_slice(&bytes(1000, sum, 5));
        assert_file(path, &model, "after a vectored write");
        let buffers: Vec<_> = lens.iter().map(|&len| Slice::new(len, 11, 0)).collect();
        let (read, _) = file.read_vectored(buffers, 1000).wait().ok().expect("a read");
        let joined: Vec<u8> = read.iter().flat_map(|part| part.content().to_vec()).collect();
        assert_same(&joined, &model[1000..1000 + sum], "what was read");
        // The file ends in the second.
        let (read, receipt) = file.read_vectored(vec![vec![0; 60], vec![0; 100]], FILE as u64 - 100).wait().ok().expect("a read");
        assert_eq!(receipt.bytes, 100);
        assert_same(&read[1][..40], &model[FILE - 40..], "the end");
        // A vector's unused room does not become bytes by a read in several parts.
        let refused = file.read_vectored(vec![Spare::new(Vec::new(), 100)], 0).wait();
        assert_eq!(refused.result.expect_err("no length").kind(), ErrorKind::Invalid);
        assert_eq!(refused.buf.expect("the buffer")[0].room(), 100);
    });
}

#[test]
fn a_batch_reads_into_unused_room() {
    with_files(|engine, file, _| {
        let mut batch = Batch::new(engine);
        batch.read_at(file, Spare::new(vec![1, 2], 5000), 100);
        batch.read_at(file, Spare::new(vec![3], 5000), FILE as u64 - 7);
        let model = bytes(0, FILE, 1);
        let expected = [[&[1, 2], &model[100..5100]].concat(), [&[3], &model[FILE - 7..]].concat()];
        for (index, completed) in batch.wait() {
            let (read, _) = completed.ok().expect("a read");
            assert_same(&read.into_inner(), &expected[index], "what was read");
        }
    });
}

#[test]
fn a_sync_covers_a_write_of_many_that_has_begun() {
    with_files(|_, file, path| {
        let ranges: Vec<_> = (0..3000).map(|index| Piece::new(index as u64 * 1000, index * 5, 5)).collect();
        let op = file.write_gather(vec![3; 15_000], &ranges);
        file.sync_all().wait().expect("a sync");
        // All of it is there, though the outcome can be on its way.
        let mut model = bytes(0, FILE, 1);
        (0..3000).for_each(|index| model[index * 1000..index * 1000 + 5].fill(3));
        assert_file(path, &model, "after the sync");
        op.wait().result.expect("a write");
    });
}

#[test]
fn a_call_that_is_canceled_ends_and_returns_its_buffer() {
    with_files(|engine, file, _| {
        let ranges: Vec<_> = (0..100_000).map(|index| Piece::new(index as u64 * 29, index * 5, 5)).collect();
        for write in [false, true] {
            let op = if write { file.write_gather(vec![3; 500_000], &ranges) } else { file.read_scatter(vec![3; 500_000], &ranges) };
            std::thread::sleep(Duration::from_millis(2));
            op.cancel();
            let Completed { buf, result } = op.wait();
            assert_eq!(buf.map(|buf| buf.len()), Some(500_000));
            assert!(result.is_ok_and(|receipt| receipt.bytes == 500_000) || engine.stats().canceled > 0);
        }
        // Dropped, too; and the file is closed when nothing uses it any more.
        drop(file.read_scatter(vec![3; 500_000], &ranges));
        drop(file.write_gather(vec![3; 500_000], &ranges));
        harness::eventually(Duration::from_secs(20), "the end of all requests", || engine.stats().queued == 0);
    });
}

#[test]
fn an_engine_that_is_dropped_ends_calls_that_have_begun() {
    let place = directory();
    for engine in engines() {
        let path = place.path().join("file");
        std::fs::write(&path, bytes(0, FILE, 1)).expect("the file");
        let file = open(&engine, &path, Direct::Prefer);
        let ranges: Vec<_> = (0..100_000).map(|index| Piece::new(index as u64 * 29, index * 5, 5)).collect();
        let ops = [file.write_gather(vec![3; 500_000], &ranges), file.read_scatter(vec![3; 500_000], &ranges)];
        drop((file, engine));
        for op in ops {
            let Completed { buf, result } = op.wait();
            assert_eq!(buf.map(|buf| buf.len()), Some(500_000));
            let error = |error: Error| matches!(error.kind(), ErrorKind::Canceled);
            assert!(result.map_or_else(error, |receipt| receipt.bytes == 500_000));
        }
    }
}

#[test]
fn a_range_that_cannot_be_read_is_named_and_the_others_are_read_if_that_is_asked_for() {
    as_root(|| {
        const GOOD: u64 = 1 << 20;
        let place = directory();
        let image = place.path().join("image");
        std::fs::write(&image, bytes(0, 2 << 20, 1)).expect("an image");
        let device = Loop::attach(&image);
        std::fs::OpenOptions::new().write(true).open(&image).and_then(|file| file.set_len(GOOD)).expect("the cut");
        for engine in engines() {
            let file = engine.open(&device.path, OpenOptions::new().read(true)).expect("the device");
            let at = [GOOD + 9000, 5000, GOOD - 100, GOOD + 8000, 70_000];
            let ranges: Vec<_> = at.iter().enumerate().map(|(index, &position)| Piece::new(position, index * 200, 200)).collect();
            let error = file.read_scatter(vec![0; 1000], &ranges).wait().result.expect_err("a part is gone");
            let index = error.index().expect("a range");
            assert_eq!(error.code(), "EIO");
            assert!([0, 2, 3].contains(&index) && error.position() == Some(at[index as usize]) && error.requested() == 200, "{error}");
            let options = ManyOptions::new().partial(true).exact(true);
            let (read, receipt) = file.read_scatter_with(vec![0; 1000], &ranges, options).wait().ok().expect("a partial read");
            let failures = read.failures();
            assert_eq!(failures.iter().map(Error::index).collect::<Vec<_>>(), [Some(0), Some(2), Some(3)]);
            assert!(failures.iter().all(|error| error.code() == "EIO"), "{failures:?}");
            let counts = read.counts();
            assert_eq!((counts[1], counts[4], receipt.bytes), (200, 200, counts.iter().sum()));
            assert_same(&read.buf[200..400], &bytes(5000, 200, 1), "the second");
            assert_same(&read.buf[800..], &bytes(70_000, 200, 1), "the last");
        }
    });
}

#[test]
fn the_outcomes_of_a_batch_come_as_they_end_each_once() {
    with_files(|engine, file, _| {
        let mut batch = Batch::new(engine);
        for index in 0..500u64 {
            assert_eq!(batch.read_exact_at(file, vec![0; 1000], index * 4001), index as usize);
        }
        assert_eq!(batch.len(), 500);
        let mut seen = vec![false; 500];
        let check = |(index, completed): (usize, Completed<Vec<u8>>), seen: &mut Vec<bool>| {
            assert!(!std::mem::replace(&mut seen[index], true));
            assert_same(&completed.ok().expect("a read").0, &bytes(index as u64 * 4001, 1000, 1), "a read of a batch");
        };
        for _ in 0..100 {
            check(batch.wait_next().expect("an outcome"), &mut seen);
        }
        batch.wait().into_iter().for_each(|next| check(next, &mut seen));
        assert!(seen.iter().all(|seen| *seen));
        // Errors come as any outcome; a canceled or dropped batch ends.
        let mut batch = Batch::new(engine);
        batch.read_exact_at(file, vec![0; 10], FILE as u64);
        batch.write_at(file, bytes(0, 100, 1), 0);
        let [(0, failed), (1, written)] = &batch.wait()[..] else { panic!("two outcomes") };
        assert_eq!(failed.result.as_ref().map_err(Error::kind), Err(ErrorKind::Eof));
        assert!(written.result.is_ok());
        let mut batch = Batch::new(engine);
        for index in 0..1000 {
            batch.read_at(file, vec![0; 4096], index * 512);
        }
        batch.cancel();
        assert_eq!(batch.wait().len(), 1000);
        let mut batch = Batch::new(engine);
        batch.read_at(file, vec![0; 4096], 0);
        drop(batch);
        harness::eventually(Duration::from_secs(20), "the end of all requests", || engine.stats().queued == 0);
    });
}

#[test]
fn every_range_has_its_checksum_and_a_wrong_one_is_named() {
    with_files(|_, file, path| {
        let mut rng = Rng::seeded(7);
        let (ranges, len) = random_ranges(&mut rng, 300, FILE as u64 + 10_000);
        let (_, counts) = expected(&ranges, len);
        let sum = |range: &Piece, count: u64| deepring::crc32c(&bytes(range.position, count as usize, 1));
        let sums: Vec<_> = ranges.iter().zip(&counts).map(|(range, &count)| sum(range, count)).collect();
        let (read, _) = file.read_scatter_with(vec![0; len], &ranges, ManyOptions::new().checksums(true)).wait().ok().expect("a read");
        assert_eq!(read.checksums(), Some(&sums[..]));
        let options = ManyOptions::new().expect(sums.clone());
        let (read, _) = file.read_scatter_with(vec![0; len], &ranges, options).wait().ok().expect("a read of what is expected");
        assert_eq!(read.counts(), counts);
        // A wrong one, of a range that is whole and not empty.
        let index = (0..ranges.len()).find(|&index| counts[index] > 0 && counts[index] == ranges[index].len as u64).expect("a range");
        let mut wrong = sums.clone();
        wrong[index] ^= 0x80;
        let Completed { buf, result } = file.read_scatter_with(vec![0; len], &ranges, ManyOptions::new().expect(wrong.clone())).wait();
        let error = result.expect_err("a wrong checksum");
        let (expected, actual) = (wrong[index], sums[index]);
        assert_eq!((error.kind(), error.index(), error.path()), (ErrorKind::Checksum { expected, actual }, Some(index as u32), Some(path)));
        assert_eq!(
            (error.position(), error.requested(), error.transferred()),
            (Some(ranges[index].position), counts[index], counts[index])
        );
        let range = ranges[index];
        let found = &buf.expect("the buffer").buf[range.offset..range.offset + range.len];
        assert_same(found, &bytes(range.position, range.len, 1), "the bytes are there all the same");
        let options = ManyOptions::new().expect(wrong).partial(true);
        let (read, _) = file.read_scatter_with(vec![0; len], &ranges, options).wait().ok().expect("a partial read");
        assert_eq!(read.failures().iter().map(Error::index).collect::<Vec<_>>(), [Some(index as u32)]);
        // Of a write, those of what is handed over.
        let pieces = [Piece::new(5, 100, 1000), Piece::new(70_000, 0, 50), Piece::new(0, 0, 0)];
        let content = bytes(9, 1100, 4);
        let (written, _) =
            file.write_gather_with(content.clone(), &pieces, ManyOptions::new().checksums(true)).wait().ok().expect("a write");
        let handed = [deepring::crc32c(&content[100..]), deepring::crc32c(&content[..50]), 0];
        assert_eq!(written.checksums(), Some(&handed[..]));
        let options = ManyOptions::new().expect(vec![0; 3]);
        let error = file.read_scatter_with(vec![0; len], &ranges, options).wait().result.expect_err("too few checksums");
        assert_eq!(error.kind(), ErrorKind::Invalid);
    });
}

/// Files with bytes of their own, opened by one engine.
fn several(engine: &Engine, place: &Path, direct: Direct) -> Vec<File> {
    let file = |salt: u64| {
        let path = place.join(salt.to_string());
        std::fs::write(&path, bytes(0, FILE, salt)).expect("a file");
        open(engine, &path, direct)
    };
    (1..4).map(file).collect()
}

#[test]
fn ranges_of_several_files_are_read_into_one_buffer() {
    let (place, mut rng) = (directory(), Rng::new());
    for engine in engines() {
        for direct in MODES {
            let files = several(&engine, place.path(), direct);
            let (ranges, len) = random_ranges(&mut rng, 90, (FILE - 400_000) as u64);
            // Each range in one of the files.
            let mut parts: Vec<Vec<Piece>> = vec![Vec::new(); files.len()];
            let mut content = vec![9; len];
            for range in ranges {
                let file = rng.below(3) as usize;
                content[range.offset..range.offset + range.len].copy_from_slice(&bytes(range.position, range.len, file as u64 + 1));
                parts[file].push(range);
            }
            let list: Vec<_> = files.iter().zip(&parts).map(|(file, ranges)| FileRanges { file, ranges }).collect();
            let options = ManyOptions::new().exact(true).checksums(true);
            let (read, receipt) = engine.read_scatter(vec![9; len], &list, options.clone()).wait().ok().expect("a read");
            assert_same(&read.buf, &content, "one buffer");
            assert_eq!(receipt.bytes, parts.iter().flatten().map(|range| range.len as u64).sum::<u64>());
            let mut sums = Vec::new();
            for (file, ranges) in parts.iter().enumerate() {
                let own: Vec<u32> = ranges.iter().map(|range| deepring::crc32c(&content[range.offset..range.offset + range.len])).collect();
                assert_eq!(read.checksums(file), Some(&own[..]));
                assert_eq!(read.counts(file), ranges.iter().map(|range| range.len as u64).collect::<Vec<_>>());
                sums.extend(own);
            }
            // Into several buffers, of which no range crosses an end.
            let cut = parts.iter().flatten().map(|range| range.offset).max().expect("ranges");
            let bufs = vec![vec![9; cut], vec![9; len - cut]];
            let (read, _) = engine.read_scatter_vectored(bufs, &list, options.clone().expect(sums.clone())).wait().ok().expect("a read");
            assert_same(&read.buf.concat(), &content, "two buffers");
            // The checksum of the last range that has bytes.
            let all: Vec<_> =
                parts.iter().enumerate().flat_map(|(file, ranges)| ranges.iter().map(move |range| (file, range.len))).collect();
            let wrong = all.iter().rposition(|&(_, len)| len > 0).expect("bytes");
            sums[wrong] ^= 1;
            let Completed { buf, result } = engine.read_scatter(vec![9; len], &list, options.clone().expect(sums)).wait();
            let error = result.expect_err("another checksum");
            assert_eq!(
                (error.index(), error.path(), buf.is_some()),
                (Some(wrong as u32), Some(files[all[wrong].0].path()), true),
                "{error}"
            );
        }
    }
}

#[test]
fn what_several_files_cannot_bring_is_refused_with_the_range_and_the_file() {
    let place = directory();
    let [one, two] = [Engine::builder().build().expect("an engine"), Engine::builder().build().expect("an engine")];
    let files = several(&one, place.path(), Direct::Prefer);
    let read = |engine: &Engine, first: &[Piece], second: &[Piece], options: ManyOptions| {
        let list = [FileRanges { file: &files[0], ranges: first }, FileRanges { file: &files[1], ranges: second }];
        let Completed { buf, result } = engine.read_scatter(vec![9; 1000], &list, options).wait();
        assert_eq!(buf.expect("the buffer").buf.len(), 1000);
        result.map_err(|error| (error.kind(), error.index(), error.path().map(Path::to_owned)))
    };
    let (fits, plain) = ([Piece::new(0, 0, 10), Piece::new(50, 10, 10)], ManyOptions::new().exact(true));
    let path = |file: usize| Some(files[file].path().to_owned());
    let error = read(&one, &fits, &[Piece::new(0, 20, 10), Piece::new(0, 19, 1)], plain.clone()).expect_err("memory in common");
    assert_eq!((error.0, error.1), (ErrorKind::Overlap(1), Some(3)));
    let error = read(&one, &fits, &[Piece::new(0, 20, 10), Piece::new(0, 999, 2)], plain.clone()).expect_err("outside");
    assert_eq!(error, (ErrorKind::Invalid, Some(3), path(1)));
    let error = read(&one, &fits, &[Piece::new(FILE as u64 - 5, 20, 10)], plain.clone()).expect_err("the file ends");
    assert_eq!(error, (ErrorKind::Eof, Some(2), path(1)));
    let error = read(&two, &fits, &[], plain.clone()).expect_err("another engine");
    assert_eq!(error, (ErrorKind::Invalid, None, path(0)));
    let error = read(&one, &fits, &[], plain.clone().expect(vec![0; 3])).expect_err("a checksum too many");
    assert_eq!(error, (ErrorKind::Invalid, None, None));
    let error = read(&one, &fits, &[], plain.clone().deadline(std::time::Instant::now())).expect_err("too late");
    assert_eq!((error.0, error.1), (ErrorKind::TimedOut, None));
    assert_eq!(read(&one, &fits, &[], plain).expect("nothing of the second file").bytes, 20);
    let (read, receipt) = one.read_scatter(vec![9; 3], &[], ManyOptions::new()).wait().ok().expect("of no file");
    assert_eq!((read.buf, receipt.bytes), (vec![9; 3], 0));
}
