//! A thing to which a reference exists is not looked up again by its name.

use crate::harness::child::{alone, limit};
use crate::harness::disk::{as_root, mount, with_mounts};
use crate::harness::{READ_WRITE, assert_file, bytes, directory, engines, open};
use deepring::binding::FileBinding;
use deepring::{Direct, ErrorKind, OpenOptions};
use std::path::Path;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

/// A working directory of this process, which has a process to itself.
fn go_to(path: &Path) {
    std::fs::create_dir_all(path).expect("a directory");
    std::env::set_current_dir(path).expect("chdir");
}

#[test]
fn a_relative_name_means_the_working_directory_whatever_it_is_called() {
    alone(|| {
        let place = directory();
        for (index, engine) in engines().into_iter().enumerate() {
            let (current, previous) = (place.path().join(format!("current-{index}")), place.path().join(format!("previous-{index}")));
            go_to(&current);
            engine.write_file("before", vec![1; 10]).wait().result.expect("a write");
            std::fs::rename(&current, &previous).expect("a rotation");
            std::fs::create_dir(&current).expect("the next directory");
            engine.write_file("by path", vec![2; 10]).wait().result.expect("a write");
            engine.open("by handle", READ_WRITE).expect("a file");
            assert_eq!(engine.path_info(".").expect("info").file_system, engine.path_info(&previous).expect("info").file_system);
            for name in ["before", "by path", "by handle"] {
                assert!(previous.join(name).exists(), "{name} is in the working directory");
            }
            assert_eq!(std::fs::read_dir(&current).expect("the other directory").count(), 0);
        }
    });
}

#[test]
fn a_relative_name_in_a_removed_directory_is_enoent() {
    alone(|| {
        let place = directory();
        go_to(&place.path().join("gone"));
        std::fs::remove_dir(place.path().join("gone")).expect("rmdir");
        for engine in engines() {
            assert_eq!(engine.open("file", READ_WRITE).expect_err("no directory").code(), "ENOENT");
            assert_eq!(engine.write_file("file", vec![1; 10]).wait().result.expect_err("no directory").code(), "ENOENT");
        }
    });
}

#[test]
fn a_relative_name_works_deeper_than_the_longest_path() {
    alone(|| {
        let place = directory();
        std::env::set_current_dir(place.path()).expect("chdir");
        for _ in 0..20 {
            let name = "d".repeat(250);
            std::fs::create_dir(&name).expect("a directory");
            std::env::set_current_dir(&name).expect("chdir");
        }
        for engine in engines() {
            engine.write_file("file", bytes(0, 5000, 1)).wait().result.expect("a write");
            assert_file(Path::new("file"), &bytes(0, 5000, 1), "written there");
        }
        // What was made has no name short enough to be removed by.
        while std::env::current_dir().is_err() || std::env::current_dir().is_ok_and(|at| at != place.path()) {
            std::env::set_current_dir("..").expect("chdir");
            std::process::Command::new("rm").args(["-rf", &"d".repeat(250)]).status().expect("rm");
        }
    });
}

#[test]
fn a_queued_relative_name_keeps_its_meaning_when_the_process_goes_elsewhere() {
    alone(|| {
        let place = directory();
        let [here, there] = ["here", "there"].map(|name| place.path().join(name));
        std::fs::create_dir(&there).expect("a directory");
        for engine in engines() {
            go_to(&here);
            // Far more than there are descriptors: the names share one.
            limit(libc::RLIMIT_NOFILE, 256);
            let queued: Vec<_> = (0..1000).map(|name| engine.write_file(name.to_string(), vec![7; 100])).collect();
            std::env::set_current_dir(&there).expect("chdir");
            for op in queued {
                op.wait().result.expect("a write");
            }
            assert_eq!(std::fs::read_dir(&here).expect("the directory").count(), 1000);
            assert_eq!(std::fs::read_dir(&there).expect("the other directory").count(), 0);
        }
    });
}

#[test]
fn without_proc_a_handle_is_verified_and_a_directory_examined() {
    with_mounts(|place| {
        mount(Path::new("none"), Path::new("/proc"), "tmpfs", 0, "");
        assert!(!Path::new("/proc/self").exists());
        for engine in engines() {
            let file = open(&engine, &place.join("file"), Direct::Prefer);
            let content = bytes(0, 10_000, 1);
            file.write_at(content.clone(), 0).wait().result.expect("a write");
            for (wanted, position) in [(true, 0), (false, 1)] {
                let (sender, receiver) = channel();
                // SAFETY: the memory stays until the answer is here.
                unsafe { file.verify_then(content.as_ptr() as u64, 5000, position, move |result| drop(sender.send(result))) };
                let result = receiver.recv().expect("an answer");
                assert_eq!(result.as_ref().err().map(deepring::Error::kind), (!wanted).then_some(ErrorKind::Mismatch), "{result:?}");
            }
            assert_eq!(engine.path_info(place).expect("info").file_system, "ext4");
        }
    });
}

#[test]
fn a_directory_that_cannot_be_written_to_is_examined_and_stays_as_it_is() {
    with_mounts(|place| {
        let models = place.join("models");
        std::fs::create_dir_all(models.join("empty")).expect("a directory");
        std::fs::write(models.join("model"), bytes(0, 100_000, 1)).expect("a file");
        mount(&models, &models, "none", libc::MS_BIND, "");
        mount(Path::new("none"), &models, "none", libc::MS_REMOUNT | libc::MS_BIND | libc::MS_RDONLY, "");
        for engine in engines() {
            let file = engine.path_info(models.join("model")).expect("info of the file");
            assert_eq!(engine.path_info(&models).expect("info of the directory").direct_io, file.direct_io);
            let empty = engine.path_info(models.join("empty")).expect("info of an empty directory");
            assert!(!empty.direct_io.available && empty.direct_io.reason.contains("try"), "{empty:?}");
            assert_eq!((empty.file_system, empty.device), (file.file_system, file.device));
            assert_eq!(std::fs::read_dir(&models).expect("the directory").count(), 2);
        }
    });
}

#[test]
fn opening_waits_until_a_lease_is_given_back() {
    alone(|| {
        let place = directory();
        let path = place.path().join("leased");
        std::fs::write(&path, [1; 4096]).expect("the file");
        // SAFETY: no handler runs; the signal tells the holder of a lease that it is wanted.
        unsafe { libc::signal(libc::SIGIO, libc::SIG_IGN) };
        for engine in engines() {
            for options in [OpenOptions::new().read(true), OpenOptions::new().read(true).write(true)] {
                use std::os::fd::AsRawFd;
                let holder = std::fs::OpenOptions::new().read(true).write(true).open(&path).expect("the file");
                // SAFETY: no pointers.
                let lease = |kind: libc::c_int| unsafe { libc::fcntl(holder.as_raw_fd(), libc::F_SETLEASE, kind) };
                assert_eq!(lease(libc::F_WRLCK), 0, "{}", std::io::Error::last_os_error());
                let started = Instant::now();
                std::thread::scope(|scope| {
                    let opening = scope.spawn(|| engine.open(&path, options).map(drop));
                    std::thread::sleep(Duration::from_millis(200));
                    assert!(!opening.is_finished(), "the lease is held");
                    assert_eq!(lease(libc::F_UNLCK), 0);
                    opening.join().expect("the thread").expect("an open file");
                });
                assert!(started.elapsed() >= Duration::from_millis(200));
            }
        }
    });
}

#[test]
fn a_new_name_is_flushed_where_the_file_is_through_links_and_if_it_exists() {
    as_root(|| {
        let place = directory();
        let [snapshot, blobs] = ["snapshot", "blobs"].map(|name| place.path().join(name));
        for directory in [&snapshot, &blobs] {
            std::fs::create_dir(directory).expect("a directory");
        }
        std::os::unix::fs::symlink("../blobs/hash", snapshot.join("model")).expect("a link");
        let options = READ_WRITE.sync_directory(true);
        for engine in engines() {
            drop(std::fs::remove_file(blobs.join("hash")));
            for _ in 0..2 {
                engine.open(snapshot.join("model"), options).expect("created, then opened");
                assert!(blobs.join("hash").is_file());
            }
            std::os::unix::fs::symlink("round", snapshot.join("round")).ok();
            assert_eq!(engine.open(snapshot.join("round"), options).expect_err("a loop").code(), "ELOOP");
            assert_eq!(engine.open(snapshot.join("new/"), options).expect_err("a directory's name").code(), "EISDIR");
        }
    });
}
