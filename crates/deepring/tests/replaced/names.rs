//! What has the name before, what gets it, and with which mode.

use super::harness::child::{alone, forbid};
use super::harness::{MODES, assert_file, bytes, directory, engines};
use super::{begin, names, replace};
use deepring::{Engine, Error, ErrorKind, ReplaceOptions};
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

const NEW: ReplaceOptions = ReplaceOptions::new();

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).expect("the file").permissions().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("the mode");
}

#[test]
fn the_new_file_has_the_mode_of_the_old_one() {
    alone(|| {
        // SAFETY: no pointers; the process is the test's own.
        unsafe { libc::umask(0o022) };
        let place = directory();
        let path = place.path().join("file");
        for engine in engines() {
            for direct in MODES {
                for old in [0o600, 0o640, 0o666, 0o755, 0o444, 0o4755, 0o2711] {
                    std::fs::write(&path, b"old").expect("the old file");
                    set_mode(&path, old);
                    let replacement = begin(&engine, &path, NEW.mode(0o777).direct(direct));
                    let temporary = names(place.path()).into_iter().find(|name| name != "file").expect("a temporary file");
                    assert_eq!(mode(&place.path().join(temporary)), 0o600, "while it is written");
                    replacement.commit().wait().expect("a commit");
                    assert_eq!(mode(&path), old & 0o777, "after {old:o}");
                    std::fs::remove_file(&path).expect("the file");
                }
                for (asked, expected) in [(0o666, 0o644), (0o600, 0o600), (0o777, 0o755), (0o444, 0o444)] {
                    replace(&engine, &path, b"new", NEW.mode(asked).direct(direct));
                    assert_eq!(mode(&path), expected, "of a file that was not there");
                    std::fs::remove_file(&path).expect("the file");
                }
                // One that comes, or changes, while the new one is written.
                let replacement = begin(&engine, &path, NEW);
                std::fs::write(&path, b"old").expect("a file that comes");
                set_mode(&path, 0o604);
                replacement.commit().wait().expect("a commit");
                assert_eq!(mode(&path), 0o604);
                // And one that goes.
                let replacement = begin(&engine, &path, NEW);
                std::fs::remove_file(&path).expect("a file that goes");
                replacement.commit().wait().expect("a commit");
                assert_eq!(mode(&path), 0o604);
                std::fs::remove_file(&path).expect("the file");
            }
        }
    });
}

#[test]
fn a_link_is_replaced_and_not_followed_and_another_name_keeps_the_old_bytes() {
    let place = directory();
    let [path, link, other] = ["file", "link", "other"].map(|name| place.path().join(name));
    for engine in engines() {
        std::fs::write(&path, b"the blob").expect("a file");
        set_mode(&path, 0o600);
        for target in [path.as_path(), Path::new("nowhere"), place.path()] {
            drop(std::fs::remove_file(&link));
            symlink(target, &link).expect("a link");
            replace(&engine, &link, &bytes(0, 5000, 2), NEW);
            assert!(link.symlink_metadata().expect("the new file").is_file());
            assert_file(&link, &bytes(0, 5000, 2), "in place of a link");
            assert_file(&path, b"the blob", "what the link led to");
        }
        std::fs::hard_link(&path, &other).expect("another name");
        replace(&engine, &path, &bytes(0, 5000, 3), NEW);
        assert_file(&path, &bytes(0, 5000, 3), "the new file");
        assert_file(&other, b"the blob", "the other name");
        std::fs::remove_file(&other).expect("the other name");
        std::fs::remove_file(&link).expect("the link");
        assert_eq!(names(place.path()), ["file"]);
    }
}

#[test]
fn what_is_no_file_is_not_replaced() {
    let place = directory();
    let at = |name: &str| place.path().join(name);
    std::fs::create_dir(at("directory")).expect("a directory");
    std::fs::write(at("file"), b"old").expect("a file");
    let pipe = std::ffi::CString::new(at("pipe").as_os_str().as_bytes()).expect("no NUL");
    // SAFETY: a terminated string.
    assert_eq!(unsafe { libc::mkfifo(pipe.as_ptr(), 0o600) }, 0);
    let before = names(place.path());
    for engine in engines() {
        let refused = |path: &Path| -> Error { engine.replace(path, NEW).wait().expect_err("it is refused") };
        let rows = [
            (at("directory"), "EISDIR"),
            (at("directory/"), "EISDIR"),
            (at("directory/."), "EISDIR"),
            (at("directory/.."), "EISDIR"),
            (at("missing/file"), "ENOENT"),
            (at("file/below"), "ENOTDIR"),
            (at(&"x".repeat(256)), "ENAMETOOLONG"),
            (at("pipe"), "ERR_DEEPRING_UNSUPPORTED"),
            ("/dev/null".into(), "ERR_DEEPRING_UNSUPPORTED"),
            ("/".into(), "EISDIR"),
            ("".into(), "ENOENT"),
        ];
        for (path, code) in rows {
            let error = refused(&path);
            assert_eq!((error.code().as_str(), error.syscall(), error.path()), (code, "open", Some(path.as_path())), "{error}");
        }
        assert_eq!(refused(&place.path().join(OsString::from_vec(b"a\0b".to_vec()))).kind(), ErrorKind::Invalid);
        assert_eq!(names(place.path()), before);
    }
}

#[test]
fn a_file_that_is_to_be_kept_is_kept() {
    keep_existing();
}

#[test]
fn a_file_that_is_to_be_kept_is_kept_without_the_call_that_does_it() {
    alone(|| {
        forbid(libc::SYS_renameat2, libc::EINVAL, true);
        keep_existing();
    });
}

fn keep_existing() {
    let place = directory();
    let path = place.path().join("file");
    for engine in engines() {
        let options = NEW.keep_existing(true);
        replace(&engine, &path, &bytes(0, 5000, 1), options);
        assert_file(&path, &bytes(0, 5000, 1), "a free name");
        assert_eq!(names(place.path()), ["file"]);
        let error = engine.replace(&path, options).wait().expect_err("it exists");
        assert_eq!((error.code().as_str(), error.syscall(), error.path()), ("EEXIST", "open", Some(path.as_path())));
        // One that comes while the new one is written, and one that nobody can have seen coming.
        for come in [|path: &Path| std::fs::write(path, b"another's"), |path: &Path| symlink("nowhere", path)] {
            std::fs::remove_file(&path).expect("the file");
            let replacement = begin(&engine, &path, options);
            replacement.file().write_at(bytes(0, 5000, 2), 0).wait().result.expect("a write");
            come(&path).expect("a file that comes");
            let error = replacement.commit().wait().expect_err("it exists");
            assert_eq!((error.code().as_str(), error.syscall(), error.path()), ("EEXIST", "rename", Some(path.as_path())));
            assert_eq!(names(place.path()), ["file"]);
        }
        assert!(path.is_symlink());
        std::fs::remove_file(&path).expect("the link");
    }
}

#[test]
fn of_many_that_keep_what_exists_exactly_one_gets_the_name() {
    let place = directory();
    for (round, engine) in engines().into_iter().enumerate() {
        let path = place.path().join(format!("file{round}"));
        let replacements: Vec<_> = (0..8).map(|_| begin(&engine, &path, NEW.keep_existing(true))).collect();
        let tasks: Vec<_> = (0..)
            .zip(replacements)
            .map(|(salt, replacement)| {
                replacement.file().write_at(bytes(0, 5000, salt), 0).wait().result.expect("a write");
                (salt, replacement.commit())
            })
            .collect();
        let won: Vec<_> = tasks.into_iter().filter_map(|(salt, task)| task.wait().ok().map(|()| salt)).collect();
        assert_eq!(won.len(), 1, "{won:?}");
        assert_file(&path, &bytes(0, 5000, won[0]), "the first");
    }
}

#[test]
fn a_directory_that_is_moved_is_followed_and_another_working_directory_is_not() {
    alone(|| {
        let place = directory();
        let [here, there, elsewhere] = ["here", "there", "elsewhere"].map(|name| place.path().join(name));
        for engine in engines() {
            for directory in [&here, &elsewhere] {
                std::fs::create_dir(directory).expect("a directory");
            }
            std::env::set_current_dir(&here).expect("the working directory");
            let relative = engine.replace("relative", NEW);
            std::env::set_current_dir(&elsewhere).expect("another working directory");
            let relative = relative.wait().expect("a temporary file");
            let absolute = begin(&engine, &here.join("absolute"), NEW);
            let dropped = begin(&engine, &here.join("dropped"), NEW);
            std::fs::rename(&here, &there).expect("the directory moved");
            std::fs::create_dir(&here).expect("another one of its name");
            for replacement in [relative, absolute] {
                replacement.file().write_at(bytes(0, 5000, 1), 0).wait().result.expect("a write");
                replacement.commit().wait().expect("a commit");
            }
            dropped.abandon().wait().expect("the end");
            assert_eq!((names(&here), names(&elsewhere)), (vec![], vec![]));
            assert_eq!(names(&there), ["absolute", "relative"]);
            assert_file(&there.join("relative"), &bytes(0, 5000, 1), "where it was named");
            for directory in [&here, &there, &elsewhere] {
                std::fs::remove_dir_all(directory).expect("a directory");
            }
        }
    });
}

#[test]
fn a_temporary_file_that_was_left_over_is_left_alone() {
    // In its own process, because the numbers count from 0.
    alone(|| {
        let place = directory();
        let process = std::process::id();
        let left: Vec<_> = (0..20).map(|number| place.path().join(format!(".file.{process}-{number}.tmp"))).collect();
        for path in &left {
            std::fs::write(path, b"left over").expect("a file");
        }
        let engine = Engine::builder().build().expect("an engine");
        let path = place.path().join("file");
        let replacement = begin(&engine, &path, NEW);
        assert!(place.path().join(format!(".file.{process}-20.tmp")).exists());
        replacement.file().write_at(bytes(0, 5000, 1), 0).wait().result.expect("a write");
        replacement.commit().wait().expect("a commit");
        assert_file(&path, &bytes(0, 5000, 1), "the new file");
        for path in &left {
            assert_file(path, b"left over", "a file that was left over");
        }
        assert_eq!(names(place.path()).len(), left.len() + 1);
    });
}

#[test]
fn the_longest_names_and_names_that_are_no_text_are_replaced() {
    let place = directory();
    let engine = Engine::builder().build().expect("an engine");
    let long = [vec![b'x'; 255], "é".repeat(127).into_bytes(), vec![0xff; 255], b" ".to_vec(), b".hidden".to_vec(), b"-\n".to_vec()];
    for name in long {
        let path = place.path().join(OsString::from_vec(name));
        for salt in [1, 2] {
            replace(&engine, &path, &bytes(0, 5000, salt), NEW);
            assert_file(&path, &bytes(0, 5000, salt), "the new file");
        }
        std::fs::remove_file(&path).expect("the file");
    }
    assert_eq!(names(place.path()).len(), 0);
}
