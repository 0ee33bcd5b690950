//! Being allowed to ask for direct I/O is not being given it.

use crate::harness::disk::{MountedMemory, mount_overlay, with_mounts};
use crate::harness::{READ_WRITE, assert_file, assert_same, bytes, engines, open};
use deepring::{Direct, ErrorKind, OpenOptions};

#[test]
fn an_overlay_in_memory_takes_direct_io_and_is_reported_as_buffered() {
    with_mounts(|place| {
        let (memory, merged) = (place.join("memory"), place.join("merged"));
        std::fs::create_dir(&memory).expect("a directory");
        let _memory = MountedMemory::at(&memory);
        mount_overlay(&memory, &merged);
        let path = merged.join("file");
        for engine in engines() {
            drop(std::fs::remove_file(&path));
            let file = open(&engine, &path, Direct::Prefer);
            let (_, receipt) = file.write_at(bytes(0, 1 << 20, 1), 0).wait().ok().expect("a write");
            assert!(!receipt.direct && !file.direct(), "{receipt:?}");
            assert_file(&path, &bytes(0, 1 << 20, 1), "written through the cache");
            let again = open(&engine, &path, Direct::Prefer);
            assert!(!again.direct() && !again.direct_support().reason.is_empty());
            let required = OpenOptions::new().read(true).direct(Direct::Require);
            assert_eq!(engine.open(&path, required).expect_err("it is in memory").kind(), ErrorKind::Direct);
            let info = engine.path_info(&merged).expect("info of the directory");
            assert!(!info.direct_io.available && info.direct_io.reason.contains("page cache"), "{info:?}");
        }
    });
}

#[test]
fn a_write_that_was_to_be_direct_and_was_buffered_fails_with_what_was_written() {
    with_mounts(|place| {
        let (memory, merged) = (place.join("memory"), place.join("merged"));
        std::fs::create_dir(&memory).expect("a directory");
        let _memory = MountedMemory::at(&memory);
        mount_overlay(&memory, &merged);
        let path = merged.join("file");
        for engine in engines() {
            drop(std::fs::remove_file(&path));
            // An empty file shows nothing.
            let file = engine.open(&path, READ_WRITE.direct(Direct::Require)).expect("an empty file");
            for _ in 0..2 {
                let error = file.write_at(bytes(0, 100_000, 1), 0).wait().result.expect_err("it went through the cache");
                assert_eq!((error.kind(), error.requested()), (ErrorKind::Direct, 100_000), "{error}");
                let done = error.transferred() as usize;
                assert!(done > 0, "it was written all the same: {error}");
                assert_same(&std::fs::read(&path).expect("the file")[..done], &bytes(0, done, 1), "what was written");
            }
        }
    });
}
