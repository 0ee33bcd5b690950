//! A call that only improves matters is left out when it is refused, whatever it is refused with.

use crate::harness::child::{alone, forbid};
use crate::harness::{MODES, assert_file, assert_same, builders, bytes, contract, directory, engines, open};
use deepring::OpenOptions;

/// Everything works although these calls fail, each with one of the numbers that sandboxes, old
/// kernels and servers answer.
fn check(calls: &[libc::c_long], errno: i32) {
    alone(|| {
        for &call in calls {
            forbid(call, errno, false);
        }
        for engine in engines() {
            contract::assert_kept(&engine, directory().path());
        }
    });
}

/// The standard library takes some refusals of `statx` for answers, so only the engine is refused.
fn check_without_statx(errno: i32) {
    alone(|| {
        let place = directory();
        let path = place.path().join("file");
        for builder in builders() {
            drop(std::fs::remove_file(&path));
            std::thread::scope(|scope| {
                let confined = scope.spawn(|| {
                    forbid(libc::SYS_statx, errno, false);
                    let engine = builder.build().expect("an engine");
                    for direct in MODES {
                        let file = open(&engine, &path, direct);
                        file.write_at(bytes(0, 70_001, 1), 0).wait().result.expect("a write");
                        file.write_at(bytes(70_001, 12_345, 1), 70_001).wait().result.expect("an append");
                        assert_eq!(file.stat().wait().expect("stat").size, 82_346);
                        let (content, _) = file.read_exact_at(vec![0; 82_346], 0).wait().ok().expect("a read");
                        assert_same(&content, &bytes(0, 82_346, 1), "what was written");
                        file.set_len(100).wait().expect("set_len");
                        assert_eq!(file.known_size(), 100);
                    }
                    engine.write_file(&path, bytes(0, 5001, 2)).wait().result.expect("a write by path");
                    let error = engine.open("/no/such/file", OpenOptions::new().read(true)).expect_err("nothing is there");
                    assert_eq!(error.code(), "ENOENT");
                });
                confined.join().expect("the engine without statx");
            });
            assert_file(&path, &bytes(0, 5001, 2), "written without statx");
        }
    });
}

#[test]
fn statx_refused_with_eperm() {
    check_without_statx(libc::EPERM);
}

#[test]
fn statx_refused_with_enosys() {
    check_without_statx(libc::ENOSYS);
}

#[test]
fn statx_refused_with_a_number_that_means_something_else() {
    check_without_statx(libc::ENOTTY);
}

#[test]
fn fallocate_refused_with_eperm() {
    check(&[libc::SYS_fallocate], libc::EPERM);
}

#[test]
fn fallocate_refused_with_enomem() {
    check(&[libc::SYS_fallocate], libc::ENOMEM);
}

#[test]
fn fallocate_refused_with_enodev() {
    check(&[libc::SYS_fallocate], libc::ENODEV);
}

#[test]
fn handles_refused() {
    check(&[libc::SYS_name_to_handle_at], libc::EPERM);
}

#[test]
fn transfers_with_flags_refused() {
    check(&[libc::SYS_preadv2, libc::SYS_pwritev2], libc::ENOSYS);
}

#[test]
fn fdatasync_refused() {
    check(&[libc::SYS_fdatasync], libc::EPERM);
}

#[test]
fn everything_refused_that_only_improves_matters() {
    const CACHESTAT: libc::c_long = 451;
    check(
        &[
            libc::SYS_fallocate,
            libc::SYS_name_to_handle_at,
            CACHESTAT,
            libc::SYS_mincore,
            libc::SYS_fadvise64,
            libc::SYS_preadv2,
            libc::SYS_pwritev2,
            libc::SYS_fdatasync,
        ],
        libc::EPERM,
    );
}
