//! What cannot be opened, and the links and devices that can.

use super::{LIMIT, check};
use crate::harness::disk::{Loop, as_root};
use crate::harness::{MODES, READ_WRITE, assert_file, assert_same, bytes, directory, engines, skip, within};
use deepring::{Direct, Engine, ErrorKind, OpenOptions};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

#[test]
fn directories_pipes_and_devices_are_refused_at_once() {
    let place = directory();
    let pipe = place.path().join("pipe");
    let name = std::ffi::CString::new(pipe.as_os_str().as_bytes()).expect("no NUL");
    // SAFETY: a terminated string.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
    let place_path = place.path().to_path_buf();
    within(LIMIT, "refusing what is not a file", move || {
        for engine in engines() {
            for options in [OpenOptions::new().read(true), OpenOptions::new().write(true), READ_WRITE] {
                let error = engine.open(&place_path, options).expect_err("a directory");
                assert_eq!((error.code(), error.path()), ("EISDIR".into(), Some(place_path.as_path())), "{options:?}");
                for path in [pipe.as_path(), Path::new("/dev/null"), Path::new("/dev/zero")] {
                    let error = engine.open(path, options).expect_err("not a file");
                    assert_eq!((error.kind(), error.path()), (ErrorKind::Unsupported, Some(path)), "{options:?}");
                    assert_eq!(error.code(), "ERR_DEEPRING_UNSUPPORTED");
                }
            }
            check(&engine.read_file(&place_path, vec![0; 9]).wait().result.expect_err("a directory"), "EISDIR", &place_path, 0, 9);
            check(&engine.write_file(&place_path, vec![0; 9]).wait().result.expect_err("a directory"), "EISDIR", &place_path, 0, 9);
            for path in [pipe.as_path(), Path::new("/dev/null")] {
                for op in [engine.read_file(path, vec![0; 9]), engine.write_file(path, vec![0; 9])] {
                    assert_eq!(op.wait().result.expect_err("not a file").kind(), ErrorKind::Unsupported);
                }
            }
        }
    });
}

#[test]
fn invalid_and_missing_paths_are_refused_and_nothing_is_created() {
    let place = directory();
    let names = |bytes: &[u8]| place.path().join(OsStr::from_bytes(bytes));
    for engine in engines() {
        let missing = names(b"missing");
        let error = engine.open(&missing, OpenOptions::new().read(true).write(true)).expect_err("missing");
        assert_eq!((error.code(), error.syscall(), error.path()), ("ENOENT".into(), "open", Some(missing.as_path())));
        assert_eq!(engine.open(names(b"no/such/directory"), READ_WRITE).expect_err("missing").code(), "ENOENT");
        assert_eq!(engine.open("", READ_WRITE).expect_err("no path").code(), "ENOENT");
        let long = names(&[b'x'; 300]);
        assert_eq!(engine.open(&long, READ_WRITE).expect_err("too long").code(), "ENAMETOOLONG");
        let nul = names(b"a\0b");
        assert_eq!(engine.open(&nul, READ_WRITE).expect_err("a NUL byte").kind(), ErrorKind::Invalid);
        assert_eq!(engine.read_file(&nul, vec![0; 3]).wait().result.expect_err("a NUL byte").kind(), ErrorKind::Invalid);
        assert_eq!(engine.write_file(&nul, vec![0; 3]).wait().result.expect_err("a NUL byte").kind(), ErrorKind::Invalid);
        let under_file = names(b"file");
        std::fs::write(&under_file, b"").expect("the file");
        assert_eq!(engine.open(under_file.join("below"), READ_WRITE).expect_err("a file is not a directory").code(), "ENOTDIR");
        std::fs::remove_file(&under_file).expect("the file");
        assert_eq!(std::fs::read_dir(place.path()).expect("the directory").count(), 0, "nothing was created");
    }
}

#[test]
fn creating_an_existing_file_is_eexist_and_leaves_it() {
    let place = directory();
    let path = place.path().join("file");
    for engine in engines() {
        std::fs::write(&path, b"old").expect("the file");
        let error = engine.open(&path, OpenOptions::new().write(true).create_new(true)).expect_err("it exists");
        assert_eq!((error.code(), error.syscall()), ("EEXIST".into(), "open"));
        assert_file(&path, b"old", "what existed");
        std::fs::remove_file(&path).expect("the file");
        let file = engine.open(&path, OpenOptions::new().write(true).create_new(true).mode(0o640)).expect("a new file");
        assert_eq!(file.stat().wait().expect("stat").mode & 0o777, 0o640 & !umask());
    }
}

fn umask() -> u32 {
    let text = std::fs::read_to_string("/proc/self/status").expect("/proc");
    let line = text.lines().find_map(|line| line.strip_prefix("Umask:")).expect("the umask");
    u32::from_str_radix(line.trim(), 8).expect("octal")
}

#[test]
fn options_that_contradict_each_other_are_refused() {
    let place = directory();
    let path = place.path().join("file");
    let engine = Engine::builder().build().expect("an engine");
    let read = OpenOptions::new().read(true);
    for options in [OpenOptions::new(), OpenOptions::new().create(true), read.create(true), read.create_new(true), read.truncate(true)] {
        assert_eq!(engine.open(&path, options).expect_err("contradictory").kind(), ErrorKind::Invalid, "{options:?}");
        assert!(!path.exists());
    }
}

#[test]
fn requiring_direct_io_in_memory_fails_and_leaves_nothing_behind() {
    let Ok(place) = tempfile::tempdir_in("/dev/shm") else {
        return skip("there is no /dev/shm");
    };
    let path = place.path().join("file");
    for engine in engines() {
        let error = engine.open(&path, READ_WRITE.direct(Direct::Require)).expect_err("tmpfs has no direct I/O");
        assert_eq!((error.kind(), error.code()), (ErrorKind::Direct, "ERR_DEEPRING_DIRECT".into()));
        assert!(error.to_string().contains("memory"), "the reason is given: {error}");
        assert!(!path.exists(), "the created file is removed");
        std::fs::write(&path, b"old").expect("the file");
        engine.open(&path, READ_WRITE.truncate(true).direct(Direct::Require)).expect_err("tmpfs has no direct I/O");
        assert_file(&path, b"old", "a file that is refused is not truncated");
        let file = engine.open(&path, READ_WRITE.direct(Direct::Prefer)).expect("buffered will do");
        assert!(!file.direct());
        let (_, receipt) = file.write_at(bytes(0, 10_000, 1), 3).wait().ok().expect("a write");
        assert!(!receipt.direct);
        let mut model = b"old".to_vec();
        model.extend(bytes(0, 10_000, 1));
        assert_file(&path, &model, "in memory");
        drop(file);
        std::fs::remove_file(&path).expect("the file");
    }
}

#[test]
fn a_symbolic_link_is_followed() {
    let place = directory();
    let (path, link) = (place.path().join("file"), place.path().join("link"));
    std::os::unix::fs::symlink(&path, &link).expect("a link");
    for engine in engines() {
        drop(std::fs::remove_file(&path));
        assert_eq!(engine.open(&link, OpenOptions::new().read(true)).expect_err("its target is missing").code(), "ENOENT");
        // As open(2) with O_CREAT and std::fs do: the target is created.
        let file = engine.open(&link, READ_WRITE).expect("the link's target");
        file.write_at(bytes(0, 5000, 1), 0).wait().result.expect("a write");
        assert_file(&path, &bytes(0, 5000, 1), "through the link");
        std::fs::remove_file(&path).expect("the file");
        engine.write_file(&link, bytes(0, 700, 2)).wait().result.expect("write_file through a link");
        assert_file(&path, &bytes(0, 700, 2), "through the link");
        assert!(link.symlink_metadata().expect("the link").is_symlink(), "the link is still one");
        let (buf, _) = engine.read_file(&link, vec![0; 700]).wait().ok().expect("read_file through a link");
        assert_same(&buf, &bytes(0, 700, 2), "through the link");
        let round = place.path().join("round");
        drop(std::os::unix::fs::symlink(&round, &round));
        assert_eq!(engine.open(&round, READ_WRITE).expect_err("a loop").code(), "ELOOP");
    }
}

#[test]
fn a_block_device_is_read_and_written_to_its_last_byte() {
    as_root(|| {
        const SIZE: u64 = 4 << 20;
        let place = directory();
        let image = place.path().join("image");
        std::fs::write(&image, bytes(0, SIZE as usize, 1)).expect("an image");
        let device = Loop::attach(&image);
        let mut model = bytes(0, SIZE as usize, 1);
        for (salt, engine) in engines().into_iter().enumerate() {
            for direct in MODES {
                let options = OpenOptions::new().read(true).write(true).direct(direct);
                let file = engine.open(&device.path, options).expect("the device");
                assert_eq!(file.direct(), direct == Direct::Prefer, "{:?}", file.direct_support());
                assert_eq!(file.stat().wait().expect("stat").size, SIZE);
                for (position, len) in
                    [(0, 4096), (5, 100), (511, 2), (4095, 70_001), (1_000_003, 300_007), (SIZE - 1, 1), (SIZE - 5000, 5000)]
                {
                    let content = bytes(position, len, 2 + salt as u64);
                    file.write_at(content.clone(), position).wait().result.expect("a write");
                    model[position as usize..position as usize + len].copy_from_slice(&content);
                    let from = position.saturating_sub(700);
                    let len = (len + 1400).min((SIZE - from) as usize);
                    let (buf, _) = file.read_exact_at(vec![0; len], from).wait().ok().expect("a read");
                    assert_same(&buf, &model[from as usize..from as usize + len], "the device");
                }
                let error = file.read_exact_at(vec![0; 100], SIZE - 30).wait().result.expect_err("past the end");
                assert_eq!((error.kind(), error.transferred()), (ErrorKind::Eof, 30));
                let error = file.write_at(vec![9; 5000], SIZE - 3000).wait().result.expect_err("past the end");
                check(&error, "ENOSPC", &device.path, SIZE - 3000, 5000);
                assert!(error.transferred() <= 3000, "{error}");
                let done = error.transferred() as usize;
                let start = SIZE as usize - 3000;
                let (buf, _) = file.read_exact_at(vec![0; 3000], start as u64).wait().ok().expect("a read");
                assert_same(&buf[..done], &vec![9; done], "what was written before the end");
                model[start..].copy_from_slice(&buf);
                file.write_at(model[start..].to_vec(), start as u64).wait().result.expect("a write");
                file.sync_all().wait().expect("sync");
                assert!(file.set_len(10).wait().is_err(), "a device cannot be truncated");
                file.close().wait().expect("close");
                assert_same(&std::fs::read(&device.path).expect("the device"), &model, "the device outside the engine");
            }
        }
    });
}
