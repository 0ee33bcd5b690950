//! Two files with one device and inode number and without birth times, as unions of several file
//! systems give them: what is known of one is not believed of the other.
//!
//! Mounting needs root and `/dev/fuse`; without them these tests are reported as skipped.

#[path = "../../deepring/tests/harness/mod.rs"]
mod harness;

use deepring::{Direct, ErrorKind};
use deepring_trials::faultfs::{Call, Effect, Fault, Mounted, unavailable};
use harness::disk::with_mounts;
use harness::{assert_file, assert_same, bytes, engines, open, skip};

/// Runs a test on a mounted fault file system, once with and once without the kernel's cache.
fn with_faults(body: impl Fn(&mut Mounted) + Sync) {
    if let Some(why) = unavailable() {
        return skip(why);
    }
    with_mounts(|place| {
        let backing = place.join("backing");
        std::fs::create_dir(&backing).expect("a directory");
        for direct in [true, false] {
            let at = place.join(format!("direct-{direct}"));
            std::fs::create_dir(&at).expect("a mount point");
            body(&mut Mounted::start(&at, &backing, direct).expect("a mounted file system"));
        }
    });
}

#[test]
fn files_with_one_number_keep_their_own_length_and_bytes() {
    use std::os::unix::fs::MetadataExt;
    with_faults(|mounted| {
        let paths = ["twin-large", "twin-small"].map(|name| mounted.path().join(name));
        for engine in engines() {
            let mut models = [bytes(0, 1 << 20, 1), bytes(0, 5000, 2)];
            for (path, model) in paths.iter().zip(&models) {
                drop(std::fs::remove_file(path));
                std::fs::write(path, model).expect("the file");
            }
            let [a, b] = [0, 1].map(|twin| std::fs::metadata(&paths[twin]).expect("stat"));
            assert_eq!((a.dev(), a.ino()), (b.dev(), b.ino()), "twins, or this run proves nothing");
            let files = [0, 1].map(|twin| open(&engine, &paths[twin], Direct::Prefer));
            for round in 0..60 {
                let whole = files[0].read_exact_at(vec![0; 1 << 20], 0);
                let ops: Vec<_> = (0..2)
                    .map(|twin: usize| {
                        let end = models[twin].len() as u64;
                        let record = bytes(end, 1000 + round * 37 + twin * 11, 3 + twin as u64);
                        models[twin].extend(&record);
                        files[twin].write_at(record, end)
                    })
                    .collect();
                let (read, _) = whole.wait().ok().expect("a file is read whole while its twin grows");
                assert_same(&read, &bytes(0, 1 << 20, 1), "read while its twin grows");
                for op in ops {
                    op.wait().result.expect("an append");
                }
            }
            for (path, model) in paths.iter().zip(&models) {
                assert_file(path, model, "after appends to both");
            }
        }
    });
}

#[test]
fn a_failed_append_cuts_nothing_to_the_length_of_a_twin() {
    const LARGE: usize = 8 << 20;
    with_faults(|mounted| {
        let paths = ["twin-large", "twin-small"].map(|name| mounted.path().join(name));
        for engine in engines() {
            for (path, len) in paths.iter().zip([LARGE, 5000]) {
                drop(std::fs::remove_file(path));
                std::fs::write(path, bytes(0, len, 1)).expect("the file");
            }
            mounted
                .inject(&Fault { call: Call::Write, range: 9 << 20..u64::MAX, times: u64::MAX, effect: Effect::Errno(libc::ENOSPC) })
                .expect("the server");
            for round in 0..20 {
                let files = [0, 1].map(|twin| open(&engine, &paths[twin], Direct::Prefer));
                let small = files[1].write_at(vec![7; 999], 5000 + round * 999);
                let large = files[0].write_at(vec![8; 4 << 20], 9 << 20);
                small.wait().result.expect("an append with room");
                assert_eq!(large.wait().result.err().map(|error| error.code()), files[0].direct().then(|| "ENOSPC".to_owned()));
                assert!(std::fs::metadata(&paths[0]).expect("stat").len() >= LARGE as u64, "old bytes were cut off");
            }
            mounted.clear().expect("the server");
            let kept = std::fs::read(&paths[0]).expect("the file");
            assert_same(&kept[..LARGE], &bytes(0, LARGE, 1), "old bytes");
        }
    });
}

#[test]
fn a_new_file_with_the_number_of_one_whose_sync_failed_can_be_synced() {
    with_faults(|mounted| {
        for engine in engines() {
            let [failed, next] = ["twin-failed", "twin-next"].map(|name| mounted.path().join(name));
            let file = open(&engine, &failed, Direct::Prefer);
            file.write_at(bytes(0, 5000, 1), 0).wait().result.expect("a write");
            mounted.inject(&Fault { call: Call::Sync, range: 0..1, times: 1, effect: Effect::Errno(libc::EIO) }).expect("the server");
            file.sync_all().wait().expect_err("the server could not");
            let beside = open(&engine, &next, Direct::Prefer);
            beside.sync_all().wait().expect("the failure is the other file's");
            assert_eq!(file.sync_all().wait().expect_err("it stays").kind(), ErrorKind::SyncFailed(libc::EIO));
            drop((file, beside));
            for path in [&failed, &next] {
                std::fs::remove_file(path).expect("the file");
            }
        }
    });
}
