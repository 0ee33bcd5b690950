//! Parts of buffers, and memory that other code has.

use crate::harness::{MODES, assert_file, assert_same, bytes, directory, engines, open};
use deepring::{Completed, Engine, ErrorKind, IoBuf, IoBufMut, SharedBuffer, Slice, Spare};
use std::sync::Arc;

#[test]
fn a_part_of_a_buffer_is_written_and_read_and_the_rest_is_left_alone() {
    let directory = directory();
    for engine in engines() {
        for direct in MODES {
            let path = directory.path().join("parts");
            let file = open(&engine, &path, direct);
            file.set_len(0).wait().expect("an empty file");
            let content = bytes(0, 20_000, 1);
            // Aligned and not, in engine memory and in other.
            for (range, position) in [(0..4096, 0), (4096..4097, 4096), (5000..20_000, 4097)] {
                let (slice, receipt) = file.write_at(Slice::new(content.clone(), range.clone()), position).wait().ok().expect("a write");
                assert_eq!(receipt.bytes, range.len() as u64);
                assert_eq!(slice.into_inner(), content, "the whole buffer comes back");
            }
            let expected = [&content[..4097], &content[5000..]].concat();
            assert_file(&path, &expected, "the parts");
            let mut buffer = engine.buffer(30_000).expect("memory");
            buffer.fill(0xee);
            let (slice, receipt) = file.read_at(buffer.slice(777..10_777), 3).wait().ok().expect("a read");
            assert_eq!(receipt.bytes, 10_000);
            assert_same(&slice, &expected[3..10_003], "the part that was read");
            let buffer = slice.into_inner();
            assert!(buffer[..777].iter().chain(&buffer[10_777..]).all(|&byte| byte == 0xee), "the rest");
        }
    }
}

#[test]
fn a_frozen_buffer_is_written_in_parts_at_the_same_time() {
    const PARTS: usize = 64;
    const PART: usize = 10_007;
    let directory = directory();
    for engine in engines() {
        for direct in MODES {
            let path = directory.path().join("frozen");
            let file = open(&engine, &path, direct);
            let content = bytes(0, PARTS * PART, 2);
            let mut buffer = engine.buffer(content.len() + 100).expect("memory");
            buffer[100..].copy_from_slice(&content);
            let whole = buffer.freeze();
            let tail: SharedBuffer = whole.slice(100..);
            drop(whole);
            let writes: Vec<_> =
                (0..PARTS).map(|part| file.write_at(tail.slice(part * PART..(part + 1) * PART), (part * PART) as u64)).collect();
            drop(tail);
            for write in writes {
                write.wait().ok().expect("the write of a part");
            }
            assert_file(&path, &content, "all parts");
            assert_eq!(engine.stats().buffer_bytes, 0, "the memory went back with the last part");
        }
    }
}

fn round_trip<W: IoBuf, R: IoBufMut>(engine: &Engine, written: W, into: R, check: impl FnOnce(&R)) {
    let directory = directory();
    let path = directory.path().join("types");
    let len = written.len() as u64;
    engine.write_file(&path, written).wait().ok().expect("a write");
    let (read, receipt) = engine.read_file(&path, into).wait().ok().expect("a read");
    assert_eq!(receipt.bytes, len);
    check(&read);
}

#[test]
fn shared_slices_and_boxed_arrays_are_buffers() {
    for engine in engines() {
        let content = bytes(0, 5001, 3);
        let mut array = Box::new([0u8; 5001]);
        array.copy_from_slice(&content);
        round_trip(&engine, Arc::<[u8]>::from(&content[..]), Box::new([0u8; 5001]), |read| assert_same(&read[..], &content, "an array"));
        round_trip(&engine, array, vec![0u8; 5001], |read| assert_same(read, &content, "a boxed array"));
        // The same bytes to several places at once.
        let shared = Arc::<[u8]>::from(&content[..]);
        let directory = directory();
        let paths: Vec<_> = (0..8).map(|index| directory.path().join(format!("copy-{index}"))).collect();
        let writes: Vec<_> = paths.iter().map(|path| engine.write_file(path, Arc::clone(&shared))).collect();
        for (write, path) in writes.into_iter().zip(&paths) {
            write.wait().ok().expect("a write");
            assert_file(path, &content, "a copy");
        }
        assert_eq!(Arc::strong_count(&shared), 1);
    }
}

#[cfg(feature = "bytes")]
#[test]
fn bytes_are_buffers() {
    use bytes::{Bytes, BytesMut};
    for engine in engines() {
        let content = bytes(0, 9000, 4);
        let frozen = Bytes::from(content.clone());
        let part = frozen.slice(1000..9000);
        round_trip(&engine, part, BytesMut::zeroed(8000), |read| assert_same(read, &content[1000..], "a part of bytes"));
        let mut tail = BytesMut::from(&content[..]);
        let head = tail.split_to(4097);
        round_trip(&engine, tail, vec![0u8; 4903], |read| assert_same(read, &content[4097..], "the tail"));
        assert_same(&head, &content[..4097], "the head, which was not lent");
        round_trip(&engine, Bytes::from_static(b"static"), vec![0u8; 6], |read| assert_eq!(read, b"static"));
        round_trip(&engine, Bytes::from_owner(content.clone()), vec![0u8; 9000], |read| assert_same(read, &content, "an owner's"));
    }
}

#[test]
fn a_vector_grows_by_what_came() {
    let directory = directory();
    for engine in engines() {
        for direct in MODES {
            let path = directory.path().join("growing");
            let content = bytes(0, 300_000, 5);
            std::fs::write(&path, &content).expect("the file");
            let file = open(&engine, &path, direct);
            let mut spare = Spare::new(b"before".to_vec(), 400_000);
            let mut position = 0;
            // At odd addresses and positions, and again into what is left.
            while position < 200_001 {
                let (slice, receipt) = file.read_at(Spare::new(spare.into_inner(), 66_667), position).wait().ok().expect("a read");
                assert_eq!((receipt.bytes, slice.room()), (66_667, 0));
                position += receipt.bytes;
                spare = slice;
            }
            let rest = Spare::new(spare.into_inner(), 1 << 20);
            let (rest, receipt) = file.read_at(rest, position).wait().ok().expect("a read to the end");
            assert_eq!((receipt.bytes, rest.room()), (300_000 - position, (1 << 20) - (300_000 - position) as usize));
            let (rest, receipt) = file.read_at(rest, 300_000).wait().ok().expect("a read behind the end");
            assert_eq!(receipt.bytes, 0);
            assert_same(&rest.into_inner(), &[b"before", &content[..]].concat(), "what came");
        }
    }
}

#[test]
fn a_vector_grows_by_what_came_before_a_failure_and_by_nothing_else() {
    let directory = directory();
    for engine in engines() {
        let path = directory.path().join("short");
        let content = bytes(0, 50_000, 6);
        std::fs::write(&path, &content).expect("the file");
        let file = open(&engine, &path, deepring::Direct::Prefer);
        let Completed { buf, result } = file.read_exact_at(Spare::new(Vec::new(), 60_000), 0).wait();
        let error = result.expect_err("the file is shorter");
        assert_eq!((error.kind(), error.transferred()), (ErrorKind::Eof, 50_000));
        assert_same(&buf.expect("the buffer").into_inner(), &content, "what came before the end");
        let Completed { buf, result } = file.read_at(Spare::new(vec![9], 100), u64::MAX - 5).wait();
        result.expect_err("beyond all positions");
        assert_eq!(buf.expect("the buffer").into_inner(), [9]);
        let Completed { buf, result } = engine.read_file(&path, Spare::new(vec![9], 49_999)).wait();
        assert_eq!(result.expect_err("another size").kind(), ErrorKind::SizeMismatch);
        assert_eq!(buf.expect("the buffer").into_inner(), [9]);
        let (spare, receipt) = file.write_at(Spare::new(vec![9], 100), 0).wait().ok().expect("a write of nothing");
        assert_eq!((receipt.bytes, spare.into_inner()), (0, vec![9]), "a write takes nothing from the room");
        assert_file(&path, &content, "the file");
    }
}
