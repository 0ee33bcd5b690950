//! Commits that look and lock before the file takes its name, and set a time that no other commit has.

use super::{begin, names};
use crate::harness::{directory, engines, within};
use deepring::{Engine, ErrorKind, FileStat, LockKind, ReplaceOptions, TemporaryNames};
use std::collections::HashSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};

const STAMPED: ReplaceOptions = ReplaceOptions::new().stamp(true).temporary_names(TemporaryNames::Numbered);

/// Replaces a file if it has this time of change.
fn replace_version(engine: &Engine, path: &Path, content: &[u8], expected: Option<i128>) -> Result<FileStat, Option<i128>> {
    let replacement = begin(engine, path, STAMPED.durable(false));
    replacement.file().write_at(content.to_vec(), 0).wait().result.expect("a write");
    let name = path.file_name().expect("a name").to_owned();
    let committed = replacement.commit_when(move |directory, _| {
        let lock = directory.lock_entries(LockKind::Exclusive).expect("a lock");
        let found = directory.stat(&name).ok().map(|stat| stat.mtime_ns);
        if found == expected { Ok(lock) } else { Err(found) }
    });
    committed.wait().expect("a commit, or a refusal")
}

#[test]
fn a_commit_that_is_refused_leaves_the_old_file_and_says_why() {
    for engine in engines() {
        let place = directory();
        let path = place.path().join("file");
        let first = replace_version(&engine, &path, b"1", None).expect("there is none");
        let second = replace_version(&engine, &path, b"22", Some(first.mtime_ns)).expect("it is the first");
        assert_eq!(replace_version(&engine, &path, b"333", Some(first.mtime_ns)).expect_err("it is the second"), Some(second.mtime_ns));
        assert_eq!(std::fs::read(&path).expect("the file"), b"22");
        assert_eq!(names(place.path()), ["file"]);
        let found = engine.open(&path, deepring::OpenOptions::new().read(true)).expect("the file").stat_at_open();
        assert_eq!((found.ino, found.mtime_ns, found.size), (second.ino, second.mtime_ns, 2));
    }
}

#[test]
fn what_the_file_system_reports_is_there_before_the_name_and_the_guard_goes_right_after_it() {
    struct Guard(Arc<AtomicBool>, std::path::PathBuf);
    impl Drop for Guard {
        fn drop(&mut self) {
            self.0.store(self.1.exists(), Ordering::Release);
        }
    }
    for engine in engines() {
        let place = directory();
        let path = place.path().join("file");
        let replacement = begin(&engine, &path, STAMPED);
        replacement.file().write_at(vec![7; 5000], 0).wait().result.expect("a write");
        let had_name = Arc::new(AtomicBool::new(false));
        let guard = Guard(Arc::clone(&had_name), path.clone());
        let committed = replacement.commit_when(move |directory, new| {
            assert_eq!((new.size, directory.names().expect("names").len()), (5000, 1));
            let name = directory.names().expect("names").remove(0).into_string().expect("UTF-8");
            assert!(name.starts_with(".deepring-") && name.ends_with("#0"), "{name}");
            Ok::<_, ()>(guard)
        });
        let stat = committed.wait().expect("a commit").expect("admitted");
        assert_eq!((stat.size, had_name.load(Ordering::Acquire)), (5000, true));
    }
}

#[test]
fn one_that_waits_for_another_process_keeps_no_flush_waiting() {
    for engine in engines() {
        let place = directory();
        let (release, released) = mpsc::channel::<()>();
        let released = Arc::new(std::sync::Mutex::new(released));
        let waiting: Vec<_> = (0..12)
            .map(|number| {
                let replacement = begin(&engine, &place.path().join(number.to_string()), STAMPED);
                let released = Arc::clone(&released);
                replacement.commit_when(move |_, _| {
                    let _ = released.lock().map(|released| released.recv());
                    Ok::<_, ()>(())
                })
            })
            .collect();
        let (flushing, path) = (engine.clone(), place.path().join("other"));
        within(super::LIMIT, "a commit beside those that wait", move || super::replace(&flushing, &path, b"x", ReplaceOptions::new()));
        drop(release);
        for commit in waiting {
            commit.wait().expect("a commit").expect("admitted");
        }
        assert_eq!(names(place.path()).len(), 13);
    }
}

#[test]
fn a_panic_of_what_admits_is_an_error_and_leaves_the_old_file() {
    for engine in engines() {
        let place = directory();
        let path = place.path().join("file");
        std::fs::write(&path, b"old").expect("a file");
        let replacement = begin(&engine, &path, STAMPED);
        let committed = replacement.commit_when(|_, _| -> Result<(), ()> { std::panic::resume_unwind(Box::new("planted")) });
        assert_eq!(committed.wait().expect_err("it panicked").kind(), ErrorKind::Panicked);
        assert_eq!((std::fs::read(&path).expect("the file"), names(place.path()).len()), (b"old".to_vec(), 1));
        let admit = |_: &deepring::Directory, _: &FileStat| -> Result<(), ()> { std::panic::resume_unwind(Box::new("planted")) };
        let replaced = engine.replace_with(&path, vec!["new"], STAMPED, admit);
        assert_eq!(replaced.wait().expect_err("it panicked").kind(), ErrorKind::Panicked);
        assert_eq!((std::fs::read(&path).expect("the file"), names(place.path()).len()), (b"old".to_vec(), 1));
        assert_eq!(engine.stats().panics, 2);
    }
}

#[test]
fn no_two_commits_set_the_same_time() {
    let place = directory();
    let engine = Engine::builder().build().expect("an engine");
    let times: Vec<i128> = std::thread::scope(|scope| {
        let commit = |thread: u32| {
            let (engine, path) = (&engine, place.path().join(thread.to_string()));
            scope.spawn(move || {
                let stat = || {
                    let replacement = begin(engine, &path, STAMPED.durable(false));
                    replacement.commit_when(|_, _| Ok::<_, ()>(())).wait().expect("a commit").expect("admitted").mtime_ns
                };
                (0..200).map(|_| stat()).collect::<Vec<_>>()
            })
        };
        let threads: Vec<_> = (0..4).map(commit).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect()
    });
    assert_eq!(times.iter().collect::<HashSet<_>>().len(), 800);
}

#[test]
fn a_small_file_is_replaced_in_one_job_with_the_same_promises() {
    for engine in engines() {
        let place = directory();
        let path = place.path().join("file");
        let replace = |path: &Path, parts: &[&str], options: ReplaceOptions, refuse: bool| {
            let parts: Vec<String> = parts.iter().map(|&part| part.to_owned()).collect();
            let admit = move |_: &deepring::Directory, new: &FileStat| if refuse { Err(new.size) } else { Ok(()) };
            engine.replace_with(path, parts, options, admit).wait()
        };
        for options in [STAMPED, STAMPED.durable(false)] {
            for parts in [&["4", "", "2"][..], &[], &["x"]] {
                let stat = replace(&path, parts, options, false).expect("replaced").expect("admitted");
                assert_eq!(std::fs::read(&path).expect("the file"), parts.concat().as_bytes());
                assert_eq!(stat.size, parts.concat().len() as u64);
            }
        }
        assert_eq!(replace(&path, &["old"], STAMPED, true).expect("refused"), Err(3));
        let code = |result: deepring::Result<Result<FileStat, u64>>| result.expect_err("an error").code();
        assert_eq!(code(replace(&path, &["y"], STAMPED.keep_existing(true), false)), "EEXIST");
        assert_eq!(code(replace(place.path(), &["y"], STAMPED, false)), "EISDIR");
        assert_eq!(code(replace(&place.path().join("missing/file"), &["y"], STAMPED, false)), "ENOENT");
        assert_eq!((std::fs::read(&path).expect("the file"), names(place.path()).len()), (b"x".to_vec(), 1));
        engine.clone().close().wait().expect("the end");
        assert_eq!(code(replace(&path, &["y"], STAMPED, false)), "ERR_DEEPRING_CLOSED");
        assert_eq!((std::fs::read(&path).expect("the file"), names(place.path()).len()), (b"x".to_vec(), 1));
    }
}
