//! Promise: what is done to the entries of an open directory is done there, to these entries alone; nothing is replaced; and a
//! lock keeps others out until it is dropped or its process ends.

mod harness;

use deepring::{Directory, ErrorKind, FileLock, LockKind};
use harness::child::{alone, become_nobody, directory_for_all, forbid};
use harness::disk::as_root;
use harness::{directory, within};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

fn open(path: &Path) -> Directory {
    Directory::open(path).expect("a directory")
}

fn names(directory: &Directory) -> Vec<OsString> {
    let mut names = directory.names().expect("names");
    names.sort();
    names
}

/// Asserts which call failed, how, and on which path.
#[track_caller]
fn refused<T: std::fmt::Debug>(result: deepring::Result<T>, errno: i32, call: &str, path: &Path) {
    let error = result.expect_err("a failure");
    assert_eq!((error.kind(), error.syscall(), error.path()), (ErrorKind::Os(errno), call, Some(path)), "{error}");
}

#[test]
fn entries_are_made_listed_renamed_linked_and_removed() {
    let place = directory();
    let path = place.path();
    let top = open(path);
    let inner = top.make_directory("inner", 0o750).expect("a directory");
    assert_eq!((inner.path(), inner.names().expect("names")), (&*path.join("inner"), vec![]));
    assert_eq!(std::fs::metadata(inner.path()).expect("it").mode() & 0o777 & !0o750, 0, "no right that was not asked for");
    std::fs::write(path.join("file"), b"bytes").expect("a file");
    top.link("file", &inner, "second").expect("a link");
    assert_eq!(std::fs::metadata(path.join("file")).expect("the file").nlink(), 2);
    top.rename("file", &inner, "first").expect("a rename");
    assert_eq!((names(&top), names(&inner)), (vec!["inner".into()], vec!["first".into(), "second".into()]));
    // A list begins at the start each time.
    assert_eq!(names(&inner), names(&inner));
    top.rename("inner", &top, "other").expect("a rename");
    top.sync().expect("a flush");
    // The descriptor leads to the directory whatever it is called.
    inner.remove_file("first").expect("the file");
    assert_eq!(std::fs::read(path.join("other/second")).expect("the file"), b"bytes");
    refused(top.remove_directory("other"), libc::ENOTEMPTY, "rmdir", &path.join("other"));
    inner.remove_file("second").expect("the file");
    top.remove_directory("other").expect("the directory");
    assert_eq!(names(&top), Vec::<OsString>::new());
}

#[test]
fn a_directory_of_many_entries_is_listed_whole() {
    let place = directory();
    let top = open(place.path());
    let mut expected: Vec<OsString> = (0..2000).map(|index| format!("entry-{index:0>60}").into()).collect();
    expected.sort();
    for name in &expected {
        std::fs::write(place.path().join(name), b"").expect("a file");
    }
    assert_eq!(names(&top), expected);
    assert_eq!(names(&top.clone()), expected);
}

#[test]
fn failures_name_the_call_and_the_entry() {
    let place = directory();
    let path = place.path();
    let top = open(path);
    std::fs::write(path.join("file"), b"").expect("a file");
    refused(Directory::open(path.join("none")), libc::ENOENT, "open", &path.join("none"));
    refused(Directory::open(path.join("file")), libc::ENOTDIR, "open", &path.join("file"));
    refused(Directory::open(OsStr::from_bytes(b"a\0b")), libc::EINVAL, "open", Path::new(OsStr::from_bytes(b"a\0b")));
    refused(top.open_directory("file"), libc::ENOTDIR, "open", &path.join("file"));
    refused(top.make_directory("file", 0o777), libc::EEXIST, "mkdir", &path.join("file"));
    refused(top.rename("none", &top, "new"), libc::ENOENT, "rename", &path.join("none"));
    refused(top.remove_file("none"), libc::ENOENT, "unlink", &path.join("none"));
    refused(top.remove_directory("file"), libc::ENOTDIR, "rmdir", &path.join("file"));
    refused(top.remove_tree("none"), libc::ENOENT, "unlink", &path.join("none"));
    refused(top.try_lock("none", LockKind::Shared, false), libc::ENOENT, "open", &path.join("none"));
    let inner = top.make_directory("inner", 0o777).expect("a directory");
    refused(top.remove_file("inner"), libc::EISDIR, "unlink", &path.join("inner"));
    refused(top.link("inner", &top, "new"), libc::EPERM, "link", &path.join("inner"));
    refused(top.link("file", &top, "inner"), libc::EEXIST, "link", &path.join("inner"));
    refused(top.rename("inner", &inner, "itself"), libc::EINVAL, "rename", &path.join("inner"));
    let long = "x".repeat(300);
    refused(top.make_directory(&long, 0o777), libc::ENAMETOOLONG, "mkdir", &path.join(&long));
}

#[test]
fn a_name_that_is_no_single_entry_reaches_no_call() {
    let place = directory();
    let top = open(place.path());
    top.make_directory("a", 0o777).expect("a directory").make_directory("b", 0o777).expect("a directory");
    std::fs::write(place.path().join("file"), b"").expect("a file");
    for name in ["", ".", "..", "a/b", "/", "a/", "/tmp", "a\0", "\0"] {
        let errors = [
            top.open_directory(name).err(),
            top.make_directory(name, 0o777).err(),
            top.rename(name, &top, "new").err(),
            top.rename("a", &top, name).err(),
            top.link(name, &top, "new").err(),
            top.link("file", &top, name).err(),
            top.remove_file(name).err(),
            top.remove_directory(name).err(),
            top.remove_tree(name).err(),
            top.try_lock(name, LockKind::Shared, true).err(),
            top.lock(name, LockKind::Shared, true).err(),
        ];
        for (index, error) in errors.into_iter().enumerate() {
            assert_eq!(error.expect("a failure").kind(), ErrorKind::Os(libc::EINVAL), "call {index} of {name:?}");
        }
    }
    assert_eq!(names(&top), ["a", "file"]);
    // Two dots at the start are a name like any other.
    top.make_directory("..a", 0o777).expect("a directory");
}

/// A directory with everything that could be replaced.
fn fill(path: &Path) {
    for inner in ["empty", "full", "moved-empty", "moved-full"] {
        std::fs::create_dir(path.join(inner)).expect("a directory");
    }
    for file in ["file", "moved-file", "full/inside", "moved-full/inside"] {
        std::fs::write(path.join(file), file).expect("a file");
    }
    symlink("file", path.join("link")).expect("a link");
    symlink("nowhere", path.join("dangling")).expect("a link");
}

fn nothing_is_replaced() {
    let place = directory();
    let path = place.path();
    let top = open(path);
    fill(path);
    let before = names(&top);
    for old in ["moved-file", "moved-empty", "moved-full", "link"] {
        for new in ["file", "empty", "full", "dangling"] {
            refused(top.rename(old, &top, new), libc::EEXIST, "rename", &path.join(new));
        }
    }
    assert_eq!(names(&top), before);
    for file in ["file", "moved-file", "full/inside", "moved-full/inside"] {
        assert_eq!(std::fs::read_to_string(path.join(file)).expect("the file"), file);
    }
    // A free name is taken, by each of them.
    let inner = top.open_directory("empty").expect("a directory");
    for old in ["moved-file", "moved-empty", "moved-full", "link"] {
        top.rename(old, &inner, old).unwrap_or_else(|error| panic!("{old}: {error}"));
    }
    assert_eq!(names(&inner), ["link", "moved-empty", "moved-file", "moved-full"]);
    assert_eq!(names(&top), ["dangling", "empty", "file", "full"]);
    assert_eq!(std::fs::read_to_string(path.join("empty/moved-full/inside")).expect("the file"), "moved-full/inside");
    // A directory cannot go into itself, and leaves nothing there.
    refused(top.rename("empty", &inner, "itself"), libc::EINVAL, "rename", &path.join("empty"));
    assert_eq!(names(&inner), ["link", "moved-empty", "moved-file", "moved-full"]);
}

#[test]
fn a_rename_replaces_nothing() {
    nothing_is_replaced();
}

#[test]
fn where_the_file_system_has_no_such_rename_none_replaces_anything_either() {
    alone(|| {
        forbid(libc::SYS_renameat2, libc::EINVAL, false);
        nothing_is_replaced();
    });
}

#[test]
fn where_a_sandbox_has_no_such_rename_none_replaces_anything_either() {
    alone(|| {
        forbid(libc::SYS_renameat2, libc::ENOSYS, false);
        nothing_is_replaced();
    });
}

/// Threads that rename at the same moment: exactly one of them gets the name.
fn race(make: impl Fn(&Directory, &str)) {
    const THREADS: usize = 8;
    let place = directory();
    let top = open(place.path());
    for round in 0..30 {
        let start = Barrier::new(THREADS);
        let wins: Vec<bool> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS)
                .map(|index| {
                    let (top, start, old, new) = (&top, &start, format!("old-{round}-{index}"), format!("new-{round}"));
                    make(top, &old);
                    scope.spawn(move || {
                        start.wait();
                        match top.rename(old, top, new) {
                            Ok(()) => true,
                            Err(error) => {
                                assert_eq!(error.kind(), ErrorKind::Os(libc::EEXIST), "{error}");
                                false
                            }
                        }
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        assert_eq!(wins.iter().filter(|&&won| won).count(), 1, "round {round}");
        assert_eq!(names(&top).len(), (round + 1) * THREADS, "each has one name");
    }
}

#[test]
fn of_many_renames_to_one_name_one_succeeds() {
    race(|top, name| drop(top.make_directory(name, 0o777).expect("a directory")));
    race(|top, name| std::fs::write(top.path().join(name), b"").expect("a file"));
}

#[test]
fn of_many_renames_without_the_kernels_help_one_succeeds() {
    alone(|| {
        forbid(libc::SYS_renameat2, libc::EINVAL, false);
        race(|top, name| drop(top.make_directory(name, 0o777).expect("a directory")));
        race(|top, name| std::fs::write(top.path().join(name), b"").expect("a file"));
    });
}

#[test]
fn links_are_not_followed() {
    let place = directory();
    let path = place.path();
    std::fs::create_dir_all(path.join("outside/deep")).expect("directories");
    std::fs::write(path.join("outside/file"), b"kept").expect("a file");
    std::fs::create_dir(path.join("top")).expect("a directory");
    for (link, target) in [("to-directory", "../outside"), ("to-file", "../outside/file")] {
        symlink(target, path.join("top").join(link)).expect("a link");
    }
    let (all, top) = (open(path), open(&path.join("top")));
    refused(top.open_directory("to-directory"), libc::ENOTDIR, "open", &path.join("top/to-directory"));
    refused(top.try_lock("to-file", LockKind::Exclusive, true), libc::ELOOP, "open", &path.join("top/to-file"));
    top.link("to-file", &top, "another").expect("a second name of the link itself");
    assert!(std::fs::symlink_metadata(path.join("top/another")).expect("it").is_symlink());
    top.remove_file("another").expect("the link");
    top.remove_tree("to-directory").expect("the link");
    symlink("../outside", path.join("top/to-directory")).expect("a link");
    all.remove_tree("top").expect("a tree");
    assert_eq!((names(&all), std::fs::read(path.join("outside/file")).expect("the file")), (vec!["outside".into()], b"kept".to_vec()));
    assert!(path.join("outside/deep").is_dir());
    // In the path of the directory itself they are.
    symlink("outside", path.join("way")).expect("a link");
    assert_eq!(names(&open(&path.join("way"))), ["deep", "file"]);
}

#[test]
fn a_tree_is_removed_up_to_a_depth() {
    let place = directory();
    let top = open(place.path());
    let deep = |name: &str, levels: usize| {
        let mut level = top.make_directory(name, 0o777).expect("a directory");
        for _ in 1..levels {
            std::fs::write(level.path().join("file"), b"").expect("a file");
            level = level.make_directory("level", 0o777).expect("a directory");
        }
    };
    deep("deep", 64);
    top.remove_tree("deep").expect("64 levels");
    deep("deeper", 66);
    let error = top.remove_tree("deeper").expect_err("66 levels");
    assert_eq!(error.kind(), ErrorKind::Os(libc::ELOOP), "{error}");
    top.rename("deeper", &top, "again").expect("it is still there");
    std::fs::write(place.path().join("file"), b"").expect("a file");
    top.remove_tree("file").expect("a file alone");
    assert_eq!(names(&top), ["again"]);
}

#[test]
fn a_tree_goes_though_its_files_get_other_names_meanwhile() {
    let place = directory();
    let top = open(place.path());
    for round in 0..200 {
        let inner = top.make_directory("inner", 0o700).expect("a directory");
        for name in 0..4 {
            std::fs::write(inner.path().join(format!("{name}.tmp")), b"").expect("a file");
        }
        let start = Barrier::new(2);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                start.wait();
                for name in 0..4 {
                    // It may have gone before.
                    let _ = inner.rename(format!("{name}.tmp"), &inner, name.to_string());
                }
            });
            start.wait();
            top.remove_tree("inner").unwrap_or_else(|error| panic!("round {round}: {error}"));
        });
        assert_eq!(names(&top), Vec::<OsString>::new());
    }
}

fn is_free(directory: &Directory, name: &str, kind: LockKind) -> bool {
    directory.try_lock(name, kind, false).expect("an answer").is_some()
}

#[test]
fn locks_exclude_each_other_until_they_are_dropped() {
    let place = directory();
    let top = open(place.path());
    let exclusive = top.try_lock("lock", LockKind::Exclusive, true).expect("an answer").expect("a lock");
    assert!(!is_free(&top, "lock", LockKind::Exclusive) && !is_free(&top, "lock", LockKind::Shared));
    drop(exclusive);
    let shared = [0; 3].map(|_| top.lock("lock", LockKind::Shared, false).expect("a lock"));
    assert!(!is_free(&top, "lock", LockKind::Exclusive) && is_free(&top, "lock", LockKind::Shared));
    drop(shared);
    assert!(is_free(&top, "lock", LockKind::Exclusive));
    std::fs::write(place.path().join("lock"), b"content").expect("the file");
    drop(top.lock("lock", LockKind::Exclusive, true).expect("a lock"));
    assert_eq!(std::fs::read(place.path().join("lock")).expect("the file"), b"content", "the file is kept as it is");
}

#[test]
fn a_file_that_may_only_be_read_can_be_locked() {
    alone(|| {
        as_root(|| {
            let place = directory_for_all(0o755);
            std::fs::write(place.path().join("lock"), b"").expect("the file");
            become_nobody();
            let top = open(place.path());
            let lock = top.lock("lock", LockKind::Exclusive, true).expect("a lock");
            assert!(!is_free(&top, "lock", LockKind::Shared));
            drop(lock);
            assert!(is_free(&top, "lock", LockKind::Shared));
            refused(top.try_lock("new", LockKind::Exclusive, true), libc::EACCES, "open", &place.path().join("new"));
            refused(top.make_directory("new", 0o777), libc::EACCES, "mkdir", &place.path().join("new"));
        });
    });
}

#[test]
fn a_lock_stays_when_its_directory_is_renamed() {
    let place = directory();
    let top = open(place.path());
    let draft = top.make_directory("draft", 0o777).expect("a directory");
    let lock = draft.lock("lock", LockKind::Exclusive, true).expect("a lock");
    top.rename("draft", &top, "final").expect("a rename");
    let renamed = top.open_directory("final").expect("the directory");
    assert!(!is_free(&renamed, "lock", LockKind::Shared));
    drop(lock);
    assert!(is_free(&renamed, "lock", LockKind::Exclusive));
}

#[test]
fn a_lock_that_waits_gets_the_file_that_has_the_name_then() {
    within(LIMIT, "waiting for a lock", || {
        let place = directory();
        let top = open(place.path());
        let first = top.lock("lock", LockKind::Exclusive, true).expect("a lock");
        let has_it = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                let lock = top.lock("lock", LockKind::Exclusive, true).expect("a lock");
                has_it.store(true, Ordering::SeqCst);
                lock
            });
            std::thread::sleep(Duration::from_millis(50));
            assert!(!has_it.load(Ordering::SeqCst), "the lock is held");
            // The one that waits must not be left with a file that no other process can find.
            top.remove_file("lock").expect("the file");
            drop(first);
            let second = waiting.join().expect("no panic");
            assert!(!is_free(&top, "lock", LockKind::Shared), "it locks the new file");
            drop(second);
            assert!(is_free(&top, "lock", LockKind::Exclusive));
        });
    });
}

/// Forks a child that drops its copy of the lock or keeps it, until it is killed.
fn fork_holding(lock: FileLock, drops: bool) -> (libc::pid_t, FileLock) {
    // SAFETY: the child closes a descriptor and waits; it makes no use of what other threads held.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "fork: {}", std::io::Error::last_os_error());
    if child == 0 {
        if drops {
            drop(lock);
        }
        loop {
            // SAFETY: no arguments.
            unsafe { libc::pause() };
        }
    }
    (child, lock)
}

fn kill(child: libc::pid_t) {
    // SAFETY: a child of this process.
    assert_eq!(unsafe { libc::kill(child, libc::SIGKILL) }, 0);
    // SAFETY: the same; no pointer.
    assert_eq!(unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) }, child);
}

#[test]
fn a_forked_child_neither_releases_a_lock_nor_keeps_it() {
    alone(|| {
        let place = directory();
        let top = open(place.path());
        for drops in [true, false] {
            let (child, lock) = fork_holding(top.lock("lock", LockKind::Exclusive, true).expect("a lock"), drops);
            std::thread::sleep(Duration::from_millis(50));
            assert!(!is_free(&top, "lock", LockKind::Shared), "the child has released it");
            drop(lock);
            assert!(is_free(&top, "lock", LockKind::Exclusive), "the child keeps it");
            kill(child);
        }
    });
}

#[test]
fn the_calls_work_in_a_forked_child_and_a_lock_ends_with_its_process() {
    alone(|| {
        let place = directory();
        let top = open(place.path());
        let engine = deepring::Engine::builder().build().expect("an engine");
        // SAFETY: no other thread of this process holds a lock of the memory allocator: the engine is idle.
        let child = unsafe { libc::fork() };
        assert!(child >= 0, "fork: {}", std::io::Error::last_os_error());
        if child == 0 {
            let made = top.make_directory("made", 0o777).and_then(|made| made.lock("lock", LockKind::Exclusive, true));
            let _lock = made.and_then(|lock| top.rename("made", &top, "ready").map(|()| lock));
            loop {
                // SAFETY: no arguments.
                unsafe { libc::pause() };
            }
        }
        harness::eventually(LIMIT, "the child's rename", || names(&top) == ["ready"]);
        let ready = top.open_directory("ready").expect("the directory");
        assert!(!is_free(&ready, "lock", LockKind::Shared), "the child holds it");
        kill(child);
        assert!(is_free(&ready, "lock", LockKind::Exclusive));
        drop(engine);
    });
}
