//! Requests by path: what the process holds of a file ends before its request settles, and files that the engine itself has
//! open do not make its opens fail.

use super::LIMIT;
use crate::harness::child::{alone, limit};
use crate::harness::{assert_file, bytes, directory, engines, task, within};
use deepring::OpenOptions;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

#[test]
fn nothing_of_the_process_holds_a_file_whose_request_by_path_has_settled() {
    // No other test forks while a file is open for writing.
    alone(|| {
        let place = directory();
        let program = std::fs::read("/bin/true").expect("a program");
        let large = place.path().join("large");
        std::fs::write(&large, bytes(0, 64 << 20, 1)).expect("the file");
        for engine in engines() {
            let tool = place.path().join("tool");
            std::fs::write(&tool, []).expect("the program");
            std::fs::set_permissions(&tool, PermissionsExt::from_mode(0o755)).expect("permissions");
            // Beside other requests by path, which take longer.
            let is_over = AtomicBool::new(false);
            let beside = || {
                while !is_over.load(Ordering::Relaxed) {
                    engine.read_file(&large, vec![0; 64 << 20]).wait().result.expect("a large read");
                }
            };
            let body = || {
                for _ in 0..50 {
                    engine.write_file(&tool, program.clone()).wait().result.expect("a write");
                    assert!(!task::has_open(&tool), "open after a write");
                    assert!(Command::new(&tool).status().expect("the program runs").success());
                    engine.read_file(&tool, vec![0; program.len()]).wait().result.expect("a read");
                    assert!(!task::has_open(&tool), "open after a read");
                    engine.read_file(&tool, vec![0; 10]).wait().result.expect_err("another size");
                    assert!(!task::has_open(&tool), "open after an error");
                }
            };
            std::thread::scope(|scope| {
                scope.spawn(beside);
                body();
                is_over.store(true, Ordering::Relaxed);
            });
        }
    });
}

#[test]
fn a_thousand_files_by_path_need_no_more_descriptors_than_there_are() {
    alone(|| {
        const FILES: u64 = 1000;
        let place = directory();
        let path = |index: u64| place.path().join(format!("{index}"));
        let kept: Vec<_> = engines();
        // A dozen are left: fewer than the engine opens at once.
        limit(libc::RLIMIT_NOFILE, 160);
        let mut hoard = Vec::new();
        while let Ok(taken) = std::fs::File::open("/dev/null") {
            hoard.push(taken);
        }
        hoard.truncate(hoard.len() - 12);
        for engine in &kept {
            let ops: Vec<_> = (0..FILES).map(|index| engine.write_file(path(index), bytes(0, 5000, index))).collect();
            // Beside them, opens by the caller and by the engine.
            for index in 0..20 {
                let options = OpenOptions::new().read(true).write(true).create(true);
                let file = within(LIMIT, "an open", {
                    let (engine, path) = (engine.clone(), path(FILES + index));
                    move || engine.open(path, options).expect("an open while the engine's own files are closed")
                });
                drop(file);
                let opened = engine.open_async(path(FILES + index), OpenOptions::new().read(true)).wait();
                drop(opened.expect("an open while the engine's own files are closed"));
            }
            for op in ops {
                assert_eq!(op.wait().result.expect("a write").bytes, 5000);
            }
            let ops: Vec<_> = (0..FILES).map(|index| engine.read_file(path(index), vec![0; 5000])).collect();
            for op in ops {
                assert_eq!(op.wait().result.expect("a read").bytes, 5000);
            }
            (0..FILES).step_by(100).for_each(|index| assert_file(&path(index), &bytes(0, 5000, index), "written by path"));
            // Without any left, the error is the caller's.
            while let Ok(taken) = std::fs::File::open("/dev/null") {
                hoard.push(taken);
            }
            let error = within(LIMIT, "a request without a descriptor", {
                let op = engine.read_file(path(0), vec![0; 5000]);
                move || op.wait().result.expect_err("no descriptor is left")
            });
            assert_eq!(error.code(), "EMFILE");
            assert_eq!(engine.open(path(0), OpenOptions::new().read(true)).expect_err("no descriptor is left").code(), "EMFILE");
            hoard.truncate(hoard.len() - 12);
        }
    });
}
