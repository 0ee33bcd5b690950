//! Limits of the process.

use super::{check, check_usable};
use crate::harness::child::{alone, become_nobody, directory_for_all, limit, limit_for_now};
use crate::harness::disk::as_root;
use crate::harness::{MODES, READ_WRITE, Slice, assert_file, assert_same, bytes, directory, engines, is_direct, open, skip, task};
use deepring::{Completed, Direct, Engine};

#[test]
fn a_write_beyond_the_file_size_limit_is_efbig_and_does_not_kill_the_process() {
    alone(|| {
        const FSIZE: u64 = 1 << 20;
        let place = directory();
        let path = place.path().join("file");
        let old = bytes(0, 4 << 20, 1);
        std::fs::write(&path, &old).expect("the file");
        let short = place.path().join("short");
        std::fs::write(&short, bytes(0, 3000, 1)).expect("the file");
        limit(libc::RLIMIT_FSIZE, FSIZE);
        for engine in engines() {
            for direct in MODES {
                let file = open(&engine, &short, direct);
                for (position, len) in [(0, 2 << 20), (3000, 2 << 20), (FSIZE, 1), (FSIZE - 1, 2), (FSIZE * 3, 4096)] {
                    let error = file.write_at(vec![1; len], position).wait().result.expect_err("beyond the limit");
                    check(&error, "EFBIG", &short, position, len as u64);
                    assert_eq!(error.transferred(), 0);
                    assert_file(&short, &bytes(0, 3000, 1), "after a write beyond the limit");
                }
                assert_eq!(file.set_len(FSIZE + 1).wait().expect_err("beyond the limit").code(), "EFBIG");
                // Inside a file that is already longer, the limit stops a write halfway.
                let file = open(&engine, &path, direct);
                let error = file.write_at(bytes(FSIZE / 2, FSIZE as usize, 1), FSIZE / 2).wait().result.expect_err("beyond the limit");
                check(&error, "EFBIG", &path, FSIZE / 2, FSIZE);
                assert!(error.transferred() <= FSIZE / 2, "{error}");
                assert_file(&path, &old, "the same bytes, as far as they came");
                let error = file.write_at(vec![9; 8192], 2 << 20).wait().result.expect_err("beyond the limit");
                assert_eq!((error.code(), error.transferred()), ("EFBIG".into(), 0));
                assert_file(&path, &old, "nothing was written beyond the limit");
                let error = engine.write_file(&short, vec![1; 2 << 20]).wait().result.expect_err("beyond the limit");
                check(&error, "EFBIG", &short, 0, 2 << 20);
                assert_file(&short, &bytes(0, 3000, 1), "after write_file beyond the limit");
            }
            check_usable(&engine, place.path());
        }
    });
}

#[test]
fn without_descriptors_opening_is_emfile_and_open_files_still_work() {
    alone(|| {
        let place = directory();
        let path = place.path().join("file");
        std::fs::write(&path, bytes(0, 5000, 1)).expect("the file");
        let engines = engines();
        limit(libc::RLIMIT_NOFILE, 64);
        for engine in engines {
            let file = open(&engine, &path, Direct::Prefer);
            let mut hoard = Vec::new();
            while let Ok(taken) = std::fs::File::open("/dev/null") {
                hoard.push(taken);
            }
            let error = engine.open(&path, READ_WRITE).expect_err("no descriptor is left");
            assert_eq!((error.code(), error.syscall(), error.path()), ("EMFILE".into(), "open", Some(path.as_path())));
            let Completed { buf, result } = engine.read_file(&path, vec![3; 5000]).wait();
            check(&result.expect_err("no descriptor is left"), "EMFILE", &path, 0, 5000);
            assert_eq!(buf, Some(vec![3; 5000]));
            let (buf, _) = file.read_exact_at(vec![0; 5000], 0).wait().ok().expect("an open file");
            assert_same(&buf, &bytes(0, 5000, 1), "read without descriptors");
            drop(hoard);
            check_usable(&engine, place.path());
        }
    });
}

#[test]
fn without_memory_for_a_copy_a_request_fails_and_the_next_one_works() {
    alone(|| {
        let place = directory();
        let path = place.path().join("file");
        if !is_direct(place.path()) {
            return skip("the test directory has no direct I/O");
        }
        std::fs::write(&path, bytes(0, 300_000, 1)).expect("the file");
        for engine in engines() {
            let file = open(&engine, &path, Direct::Prefer);
            file.read_at(vec![0; 1], 0).wait().result.expect("a first read");
            let buf = Slice::new(300_000, 1, 0);
            // Room for small allocations, but not for another mapping, and the engine's is used up.
            limit_for_now(libc::RLIMIT_AS, task::address_space() + (2 << 20));
            let mut hoard = Vec::with_capacity(20_000);
            for len in [1 << 20, 4096] {
                while let Ok(buffer) = engine.pooled_buffer(len) {
                    hoard.push(buffer);
                }
            }
            let Completed { buf, result } = file.read_exact_at(buf, 0).wait();
            let refused = engine.buffer(64 << 20).expect_err("no memory").code();
            limit_for_now(libc::RLIMIT_AS, libc::RLIM_INFINITY);
            drop(hoard);
            let error = result.expect_err("no memory for the copy");
            check(&error, "ENOMEM", &path, 0, 300_000);
            assert_eq!(refused, "ENOMEM");
            let (buf, _) = file.read_exact_at(buf.expect("the buffer"), 0).wait().ok().expect("memory again");
            assert_same(buf.content(), &bytes(0, 300_000, 1), "what was read");
            check_usable(&engine, place.path());
        }
    });
}

#[test]
fn when_threads_cannot_start_building_an_engine_fails_and_a_running_engine_works() {
    as_root(|| {
        alone(|| {
            let place = directory_for_all(0o777);
            let path = place.path().join("file");
            // The driver runs; the blocking threads would start only with work for them.
            let engines = engines();
            become_nobody();
            limit(libc::RLIMIT_NPROC, 1);
            let error = Engine::builder().build().expect_err("no thread can be started");
            assert_eq!((error.code(), error.syscall()), ("EAGAIN".into(), "pthread_create"));
            for engine in engines {
                let file = open(&engine, &path, Direct::Prefer);
                file.write_at(bytes(0, 70_001, 1), 0).wait().result.expect("a write");
                file.sync_all().wait().expect("sync");
                file.set_len(50_000).wait().expect("set_len");
                assert_eq!(file.stat().wait().expect("stat").size, 50_000);
                file.close().wait().expect("close");
                assert_file(&path, &bytes(0, 50_000, 1), "without blocking threads");
                check_usable(&engine, place.path());
            }
        });
    });
}
