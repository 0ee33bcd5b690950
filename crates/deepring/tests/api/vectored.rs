//! `File::write_vectored_with` and `File::read_vectored_with`: each buffer is a range of the call.

use crate::harness::{MODES, Slice, assert_file, assert_same, builders, bytes, directory, engines, open};
use deepring::{Completed, Direct, Error, ErrorKind, ManyOptions, crc32c};

const LENS: [usize; 5] = [5000, 0, 4096, 1 << 20, 17];

/// Where each of the buffers begins in a file, if the first one begins at `position`.
fn positions(position: u64) -> Vec<u64> {
    (0..LENS.len()).map(|index| position + LENS[..index].iter().sum::<usize>() as u64).collect()
}

#[test]
fn every_buffer_in_a_row_has_its_checksum_and_its_count() {
    let place = directory();
    for engine in engines() {
        for direct in MODES {
            for position in [0, 1000] {
                let path = place.path().join("file");
                drop(std::fs::remove_file(&path));
                let file = open(&engine, &path, direct);
                let at = positions(position);
                let parts: Vec<_> = at.iter().zip(LENS).map(|(&at, len)| Slice::of(&bytes(at, len, 5), 3)).collect();
                let sums: Vec<_> = parts.iter().map(|part| crc32c(part.content())).collect();
                let whole = LENS.iter().sum::<usize>();
                let options = ManyOptions::new().checksums(true);
                let (written, receipt) = file.write_vectored_with(parts, position, options.clone()).wait().ok().expect("a write");
                assert_eq!((receipt.bytes, written.checksums()), (whole as u64, Some(&sums[..])));
                assert!(written.buf.iter().zip(&at).all(|(part, &at)| part.content() == bytes(at, part.content().len(), 5)));
                let content = [vec![0; position as usize], bytes(position, whole, 5)].concat();
                assert_file(&path, &content, "after a vectored write");

                let room = || LENS.iter().map(|&len| Slice::new(len, 11, 0)).collect::<Vec<_>>();
                let (read, _) = file.read_vectored_with(room(), position, options.expect(sums.clone())).wait().ok().expect("a read");
                assert_eq!(read.counts(), LENS.map(|len| len as u64));
                let joined: Vec<u8> = read.buf.iter().flat_map(|part| part.content().to_vec()).collect();
                assert_same(&joined, &content[position as usize..], "what was read");
                // The buffer to blame is named.
                let mut wrong = sums.clone();
                wrong[3] ^= 1;
                let Completed { buf, result } = file.read_vectored_with(room(), position, ManyOptions::new().expect(wrong)).wait();
                let error = result.expect_err("a wrong checksum");
                assert_eq!((error.code().as_str(), error.index(), error.position()), ("ERR_DEEPRING_CHECKSUM", Some(3), Some(at[3])));
                assert_same(buf.expect("the buffers").buf[3].content(), &bytes(at[3], LENS[3], 5), "the bytes are there all the same");
            }
        }
    }
}

#[test]
fn a_file_that_ends_in_a_buffer_is_an_error_if_the_options_say_so() {
    let place = directory();
    for engine in engines() {
        let path = place.path().join("file");
        std::fs::write(&path, bytes(0, 150, 1)).expect("the file");
        let file = open(&engine, &path, Direct::Prefer);
        let buffers = || vec![vec![0; 100], vec![0; 100], vec![0; 100]];
        let (read, receipt) = file.read_vectored_with(buffers(), 0, ManyOptions::new()).wait().ok().expect("a read");
        assert_eq!((read.counts(), receipt.bytes), (vec![100, 50, 0], 150));
        let error = file.read_vectored_with(buffers(), 0, ManyOptions::new().exact(true)).wait().result.expect_err("too short");
        assert_eq!((error.kind(), error.index(), error.transferred()), (ErrorKind::Eof, Some(1), 50));
        let options = ManyOptions::new().exact(true).partial(true);
        let (read, _) = file.read_vectored_with(buffers(), 0, options).wait().ok().expect("a partial read");
        assert_eq!(read.failures().iter().map(Error::index).collect::<Vec<_>>(), [Some(1), Some(2)]);
    }
}

#[test]
fn a_million_buffers_are_one_write_and_one_more_is_refused() {
    const MOST: usize = 1 << 20;
    let place = directory();
    for builder in builders() {
        let engine = builder.max_queued(1).build().expect("an engine");
        let path = place.path().join("file");
        drop(std::fs::remove_file(&path));
        let file = open(&engine, &path, Direct::Prefer);
        let parts: Vec<_> = (0..MOST).map(|index| vec![index as u8, 1, 2]).collect();
        let model = parts.concat();
        let (_, receipt) = file.write_vectored_with(parts, 0, ManyOptions::new()).wait().ok().expect("a write");
        assert_eq!(receipt.bytes, 3 * MOST as u64);
        assert_file(&path, &model, "after a write of a million buffers");
        let refused = file.write_vectored_with(vec![vec![9u8]; MOST + 1], 0, ManyOptions::new()).wait();
        assert_eq!(refused.result.expect_err("too many").kind(), ErrorKind::Invalid);
        assert_eq!(refused.buf.map(|written| written.buf.len()), Some(MOST + 1));
        assert_file(&path, &model, "nothing of it was written");
    }
}
